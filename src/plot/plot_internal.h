/* What the picture and the terminal share: the range of each axis, its ticks, and where a value lies on it. */
#ifndef OT_PLOT_PLOT_INTERNAL_H
#define OT_PLOT_PLOT_INTERNAL_H

#include <stdio.h>

#include "plot/plot.h"

enum { OT_PLOT_TICKS = 24, OT_PLOT_TICK_TEXT = 32 };

typedef struct ot_plot_tick {
    double at; /* 0 to 1 along the axis */
    char text[OT_PLOT_TICK_TEXT];
} ot_plot_tick;

typedef struct ot_plot_axis {
    bool log;
    double low, high; /* logarithms on a logarithmic axis */
    ot_plot_tick ticks[OT_PLOT_TICKS];
    int n_ticks;
} ot_plot_axis;

/* wanted: about how many ticks there is room for. */
ot_status ot_plot_axes(const ot_plot *p, int wanted_x, int wanted_y, ot_plot_axis *x, ot_plot_axis *y, ot_error *err);
/* 0 to 1 along the axis; NaN for a value that cannot be shown. */
double ot_plot_place(const ot_plot_axis *axis, double value);

/* The code point at *p, which moves behind it; U+FFFD for what is no text (broken UTF-8, control characters). */
int32_t ot_plot_next(const char **p);
int64_t ot_plot_width(const char *text); /* in columns */
void ot_plot_put(FILE *f, int32_t code_point);

#endif
