/* The paper's Figures 3 and 4 from the rows of a report: where the adapter layers sit, and how the emulator was made. What the paper expects is
 * checked against the numbers. Paper sections 5.4.1 and 5.4.2. */
#ifndef OT_REPORT_FIGURES_H
#define OT_REPORT_FIGURES_H

#include "plot/plot.h"
#include "report/report.h"

typedef struct ot_figure_row {
    const ot_report_row *row;
    const char *method; /* fig4: the recipe without its values, "layerdrop:keep"; fig3: "bottom", "top", "both" */
    int64_t group;      /* the same for rows of one method */
    double parameter;   /* fig4: the first value of the recipe; fig3: how many layers are tuned */
    double gap;         /* how much better plug-in is than the tuned emulator: of perplexity the ratio - 1, else the difference; NAN: not known */
    double gap_spread;  /* NAN for one seed */
} ot_figure_row;

/* Something that the paper expects, with what was seen. UNKNOWN: within the spread over seeds, or not measured. */
typedef struct ot_figure_claim {
    const char *text, *seen;
    ot_verdict verdict;
} ot_figure_claim;

/* Spearman's rank correlation of a number that needs no tuning with how good plug-in is, over the rows. */
typedef struct ot_figure_rank {
    const char *of;
    double rho; /* NAN: fewer than OT_FIGURE_MIN_RANKED rows have both, or one of the two is the same for all */
    int64_t n;
} ot_figure_rank;

typedef struct ot_figure_plot {
    const char *name; /* for a file, without ending */
    ot_plot plot;
} ot_figure_plot;

/* Rows that differ only in what the figure is about, with one measure. */
typedef struct ot_figure_panel {
    const char *title;
    const char *measure;
    bool higher;
    ot_number zero, full;
    ot_figure_row *rows;
    ot_figure_claim *claims;
    ot_figure_rank *ranks;
    ot_figure_plot *plots;
    int64_t n_rows, n_claims, n_ranks, n_plots;
} ot_figure_panel;

typedef struct ot_figure {
    const char *name;
    ot_figure_panel *panels;
    int64_t n_panels;
    ot_arena arena;
} ot_figure;

typedef struct ot_figure_kind {
    const char *name, *help;
    bool (*same_panel)(const ot_report_row *a, const ot_report_row *b);
    ot_status (*describe)(ot_figure *f, ot_figure_row *row, ot_error *err);
    int (*order)(const ot_figure_row *a, const ot_figure_row *b); /* 0: as they came; their groups are numbered in that order */
    ot_status (*finish)(ot_figure *f, ot_figure_panel *panel, ot_error *err); /* claims, ranks, plots */
} ot_figure_kind;

/* What counts as a clear gap between the tuned emulator and plug-in: of perplexity (ratio - 1), of another measure (difference). */
#define OT_FIGURE_GAP_RATIO 0.05
#define OT_FIGURE_GAP_DIFFERENCE 0.02
enum { OT_FIGURE_MIN_RANKED = 4 };

extern const ot_figure_kind *const ot_figure_kinds[]; /* NULL-terminated: fig3, fig4 */
const ot_figure_kind *ot_figure_find(const char *name);

/* Of the chosen rows of the table, which must outlive it; REFUSED when no panel has two rows to compare. */
ot_status ot_figure_make(const ot_figure_kind *kind, const ot_report_table *table, ot_figure *out, ot_error *err);
void ot_figure_free(ot_figure *f);

/* Spearman's rho of a and b [n], ties sharing their mean rank; NAN when one of them does not vary. */
ot_status ot_rank_correlation(const double *a, const double *b, int64_t n, double *rho, ot_error *err);

#endif
