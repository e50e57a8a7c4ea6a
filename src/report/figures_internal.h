/* For the files of the figures. */
#ifndef OT_REPORT_FIGURES_INTERNAL_H
#define OT_REPORT_FIGURES_INTERNAL_H

#include "report/figures.h"

extern const ot_figure_kind ot_figure_position, ot_figure_method;

/* Text in the figure's arena; NULL and err set when memory is out. */
const char *ot_figure_text(ot_figure *f, ot_error *err, const char *format, ...) __attribute__((format(printf, 3, 4)));

ot_status ot_figure_claim_add(ot_figure *f, ot_figure_panel *p, const char *text, const char *seen, ot_verdict verdict, ot_error *err);
/* Is a better than b? UNKNOWN when the spread over seeds is as large as the difference. */
ot_verdict ot_figure_better(const ot_figure_panel *p, const ot_number *a, const ot_number *b);

/* Room for `series` series; the panel's next plot. NULL: memory is out. */
ot_plot *ot_figure_plot_add(ot_figure *f, ot_figure_panel *p, const char *name, int64_t series, ot_error *err);
/* The plot's next series with room for count points; x, y, spread and labels are to be filled, spread with NAN before. */
typedef struct ot_figure_points {
    double *x, *y, *spread;
    const char **labels;
} ot_figure_points;
ot_status ot_figure_series_add(ot_figure *f, ot_plot *plot, const char *name, int64_t count, ot_figure_points *out, ot_error *err);

#endif
