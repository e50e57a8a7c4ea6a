/* Charts as data: lines and points over two axes, written as an SVG picture or as text for a terminal.
 *
 * The picture is one self-contained <svg>: it may stand in a file or inside an HTML page, follows the reader's light or dark setting, and
 * tells its series apart by dashes when printed without colour. Its bytes depend on the chart alone. */
#ifndef OT_PLOT_PLOT_H
#define OT_PLOT_PLOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"

typedef enum ot_plot_mark { OT_PLOT_LINE, OT_PLOT_POINTS, OT_PLOT_LINE_AND_POINTS } ot_plot_mark;

enum { OT_PLOT_COLORS = 8 };

/* x and y are [count]; a point that is not finite (or not above 0 on a logarithmic axis) is left out and interrupts the line. */
typedef struct ot_plot_series {
    const char *name; /* in the legend; NULL: not listed */
    const double *x, *y;
    int64_t count;
    ot_plot_mark mark;
    int32_t color; /* counted from 0, begins again after OT_PLOT_COLORS */
    bool faint;    /* behind the others: raw values under their smoothed curve */
    const char *const *labels; /* [count] texts beside the points, NULL: none */
    const double *spread;      /* [count] how far a bar reaches to both sides of a point's y; NAN: none; NULL: none at all */
} ot_plot_series;

/* A dashed line across the chart: a value to compare with. */
typedef struct ot_plot_rule {
    const char *name; /* written at the line */
    double value;
    bool vertical; /* at an x instead of a y */
} ot_plot_rule;

typedef struct ot_plot {
    const char *title, *x_label, *y_label; /* NULL: none */
    const char *description;               /* what the picture shows, for a reader who does not see it; NULL: the title alone */
    const ot_plot_series *series;
    int64_t n_series;
    const ot_plot_rule *rules;
    int64_t n_rules;
    const char *const *names; /* [n_names] places at x = 0, 1, ... instead of a scale of numbers; NULL: numbers */
    int64_t n_names;
    bool log_x, log_y;
    int32_t width, height; /* of the picture in its own units; 0: 720 and 400 */
} ot_plot;

/* *text is NUL-terminated; free it with free(). A chart without a single point is an error (REFUSED). */
ot_status ot_plot_svg(const ot_plot *p, char **text, size_t *size, ot_error *err);

typedef struct ot_plot_terminal {
    int columns, rows; /* of the whole chart; at least 24 and 8 are used */
    bool color;        /* may escape sequences be used? */
} ot_plot_terminal;
/* In braille dots, points as letters; lines end with '\n'. */
ot_status ot_plot_text(const ot_plot *p, const ot_plot_terminal *terminal, char **text, size_t *size, ot_error *err);

/* Text between tags, or between double quotes, of XML and HTML: it cannot become markup. What is no text (broken UTF-8, control characters)
 * becomes U+FFFD. */
void ot_plot_escape(FILE *f, const char *text);

/* out[i]: the mean of y[0..i] with weights that halve every `half_life` values; gaps (not finite) stay gaps. half_life <= 0: a copy. */
void ot_plot_smooth(const double *y, int64_t count, double half_life, double *out);

#endif
