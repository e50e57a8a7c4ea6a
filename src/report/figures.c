#include "report/figures.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/figures_internal.h"

const ot_figure_kind *const ot_figure_kinds[] = {&ot_figure_position, &ot_figure_method, NULL};

const ot_figure_kind *ot_figure_find(const char *name) {
    for (int i = 0; ot_figure_kinds[i] != NULL; i++) {
        if (strcmp(ot_figure_kinds[i]->name, name) == 0) return ot_figure_kinds[i];
    }
    return NULL;
}

/* ==== What the kinds share. ==== */

const char *ot_figure_text(ot_figure *f, ot_error *err, const char *format, ...) {
    va_list given, again;
    va_start(given, format);
    va_copy(again, given);
    int n = vsnprintf(NULL, 0, format, given);
    char *text = ot_arena_alloc(&f->arena, (n < 0 ? 0 : n) + 1, err);
    if (text != NULL && n > 0) vsnprintf(text, (size_t)n + 1, format, again);
    va_end(again);
    va_end(given);
    return text;
}

ot_status ot_figure_claim_add(ot_figure *f, ot_figure_panel *p, const char *text, const char *seen, ot_verdict verdict, ot_error *err) {
    enum { MOST = 64 };
    if (text == NULL || seen == NULL) return OT_ERR_MEMORY;
    if (p->claims == NULL) p->claims = ot_arena_alloc(&f->arena, MOST * (int64_t)sizeof *p->claims, err);
    if (p->claims == NULL) return OT_ERR_MEMORY;
    if (p->n_claims == MOST) return ot_fail(err, OT_ERR_REFUSED, "the figure has more than %d things to compare: make the grid smaller", (int)MOST);
    p->claims[p->n_claims++] = (ot_figure_claim){text, seen, verdict};
    return OT_OK;
}

ot_verdict ot_figure_better(const ot_figure_panel *p, const ot_number *a, const ot_number *b) {
    if (a->n == 0 || b->n == 0) return OT_UNKNOWN;
    double by = p->higher ? a->mean - b->mean : b->mean - a->mean;
    double spread = isnan(a->spread) || isnan(b->spread) ? 0.0 : sqrt(a->spread * a->spread + b->spread * b->spread);
    if (fabs(by) <= spread) return OT_UNKNOWN;
    return by > 0 ? OT_HOLDS : OT_FAILS;
}

ot_plot *ot_figure_plot_add(ot_figure *f, ot_figure_panel *p, const char *name, int64_t series, ot_error *err) {
    int64_t most = p->n_rows + 2; /* one for each method, and two of all */
    if (p->plots == NULL) p->plots = ot_arena_alloc(&f->arena, most * (int64_t)sizeof *p->plots, err);
    ot_plot_series *room = ot_arena_alloc(&f->arena, series * (int64_t)sizeof *room, err);
    if (p->plots == NULL || room == NULL || name == NULL || p->n_plots == most) return NULL;
    ot_figure_plot *plot = &p->plots[p->n_plots++];
    *plot = (ot_figure_plot){.name = name, .plot = {.title = p->title, .series = room}};
    return &plot->plot;
}

ot_status ot_figure_series_add(ot_figure *f, ot_plot *plot, const char *name, int64_t count, ot_figure_points *out, ot_error *err) {
    double *room = ot_arena_alloc(&f->arena, 3 * count * (int64_t)sizeof *room, err);
    const char **labels = ot_arena_alloc(&f->arena, count * (int64_t)sizeof *labels, err);
    if (room == NULL || labels == NULL) return OT_ERR_MEMORY;
    *out = (ot_figure_points){.x = room, .y = room + count, .spread = room + 2 * count, .labels = labels};
    for (int64_t i = 0; i < count; i++) out->spread[i] = NAN;
    int64_t at = plot->n_series++;
    ((ot_plot_series *)plot->series)[at] = (ot_plot_series){.name = name, .x = out->x, .y = out->y, .spread = out->spread, .labels = labels, .count = count,
                                                            .mark = OT_PLOT_LINE_AND_POINTS, .color = (int32_t)at};
    return OT_OK;
}

/* ==== Rank correlation. ==== */

typedef struct ranked {
    double value;
    int64_t index;
} ranked;

static int by_value(const void *a, const void *b) {
    double x = ((const ranked *)a)->value, y = ((const ranked *)b)->value;
    return x < y ? -1 : x > y;
}

static void ranks_of(const double *values, int64_t n, ranked *room, double *ranks) {
    for (int64_t i = 0; i < n; i++) room[i] = (ranked){values[i], i};
    qsort(room, (size_t)n, sizeof *room, by_value);
    for (int64_t i = 0; i < n;) {
        int64_t end = i + 1;
        while (end < n && room[end].value == room[i].value) end++;
        for (int64_t k = i; k < end; k++) ranks[room[k].index] = 0.5 * (double)(i + end - 1);
        i = end;
    }
}

ot_status ot_rank_correlation(const double *a, const double *b, int64_t n, double *rho, ot_error *err) {
    double *ranks = NULL;
    ranked *room = NULL;
    *rho = NAN;
    ot_status status = ot_calloc(2 * n, sizeof *ranks, "ranks", (void **)&ranks, err);
    if (status == OT_OK) status = ot_calloc(n, sizeof *room, "ranks", (void **)&room, err);
    if (status == OT_OK && n > 0) {
        double ab = 0, aa = 0, bb = 0, middle = 0.5 * (double)(n - 1);
        ranks_of(a, n, room, ranks);
        ranks_of(b, n, room, ranks + n);
        for (int64_t i = 0; i < n; i++) {
            double x = ranks[i] - middle, y = ranks[n + i] - middle;
            ab += x * y;
            aa += x * x;
            bb += y * y;
        }
        if (aa > 0 && bb > 0) *rho = ab / sqrt(aa * bb);
    }
    ot_free(ranks);
    ot_free(room);
    return status;
}

/* ==== Rows and panels. ==== */

static void set_gap(ot_figure_row *out) {
    const ot_number *tuned = &out->row->of[OT_ROLE_TUNED], *plug = &out->row->of[OT_ROLE_PLUG_IN];
    out->gap = out->gap_spread = NAN;
    if (tuned->n == 0 || plug->n == 0) return;
    if (out->row->higher) {
        out->gap = plug->mean - tuned->mean;
        out->gap_spread = hypot(plug->spread, tuned->spread);
    } else {
        out->gap = tuned->mean / plug->mean - 1.0;
        out->gap_spread = tuned->mean / plug->mean * hypot(plug->spread / plug->mean, tuned->spread / tuned->mean);
    }
}

/* The rows that belong with table row `first`; how many. out NULL: only count. */
static int64_t gather(const ot_figure_kind *kind, const ot_report_table *t, int64_t first, ot_figure_row *out) {
    int64_t n = 0;
    for (int64_t i = first; i < t->n; i++) {
        if (!t->rows[i].chosen || !kind->same_panel(&t->rows[i], &t->rows[first])) continue;
        if (out != NULL) out[n].row = &t->rows[i];
        n++;
    }
    return n;
}

static bool begins_panel(const ot_figure_kind *kind, const ot_report_table *t, int64_t i) {
    if (!t->rows[i].chosen) return false;
    for (int64_t k = 0; k < i; k++) {
        if (t->rows[k].chosen && kind->same_panel(&t->rows[k], &t->rows[i])) return false;
    }
    return true;
}

/* Insertion: stable, and there are few. */
static void sort_rows(const ot_figure_kind *kind, ot_figure_panel *p) {
    for (int64_t i = 1; i < p->n_rows; i++) {
        ot_figure_row row = p->rows[i];
        int64_t at = i;
        for (; at > 0 && kind->order(&row, &p->rows[at - 1]) < 0; at--) p->rows[at] = p->rows[at - 1];
        p->rows[at] = row;
    }
}

static ot_status make_panel(ot_figure *f, const ot_figure_kind *kind, const ot_report_table *t, int64_t first, ot_error *err) {
    ot_figure_panel *p = &f->panels[f->n_panels];
    *p = (ot_figure_panel){.measure = t->rows[first].measure, .higher = t->rows[first].higher, .n_rows = gather(kind, t, first, NULL)};
    if (p->n_rows < 2) return OT_OK;
    p->rows = ot_arena_alloc(&f->arena, p->n_rows * (int64_t)sizeof *p->rows, err);
    if (p->rows == NULL) return OT_ERR_MEMORY;
    gather(kind, t, first, p->rows);
    p->zero = p->rows[0].row->of[OT_ROLE_ZERO_SHOT];
    p->full = p->rows[0].row->of[OT_ROLE_FULL];
    for (int64_t i = 0; i < p->n_rows; i++) {
        set_gap(&p->rows[i]);
        OT_TRY(kind->describe(f, &p->rows[i], err));
        p->rows[i].group = i;
        for (int64_t k = i - 1; k >= 0; k--) {
            if (strcmp(p->rows[k].method, p->rows[i].method) == 0) p->rows[i].group = p->rows[k].group;
        }
    }
    sort_rows(kind, p);
    f->n_panels++;
    return kind->finish(f, p, err);
}

ot_status ot_figure_make(const ot_figure_kind *kind, const ot_report_table *table, ot_figure *out, ot_error *err) {
    *out = (ot_figure){.name = kind->name};
    out->panels = ot_arena_alloc(&out->arena, (table->n + 1) * (int64_t)sizeof *out->panels, err);
    ot_status status = out->panels == NULL ? OT_ERR_MEMORY : OT_OK;
    for (int64_t i = 0; status == OT_OK && i < table->n; i++) {
        if (begins_panel(kind, table, i)) status = make_panel(out, kind, table, i, err);
    }
    if (status == OT_OK && out->n_panels == 0) {
        status = ot_fail(err, OT_ERR_REFUSED, "%s compares %s: the results have no two of them yet", kind->name, kind->help);
    }
    if (status != OT_OK) ot_figure_free(out);
    return status;
}

void ot_figure_free(ot_figure *f) {
    ot_arena_free(&f->arena);
    *f = (ot_figure){0};
}
