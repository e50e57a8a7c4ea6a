/* Figure 4: how the emulator is made, against what the tuned emulator and plug-in score, and what tells it before any tuning. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/figures_internal.h"

static bool same(const char *a, const char *b) { return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0); }

static bool same_panel(const ot_report_row *a, const ot_report_row *b) {
    return same(a->setting.model, b->setting.model) && same(a->setting.split, b->setting.split) && same(a->setting.peft, b->setting.peft) &&
           same(a->measure, b->measure);
}

static const char *recipe_of(const ot_figure_row *r) { return r->row->setting.emulator != NULL ? r->row->setting.emulator : ""; }

/* The recipe without its numbers, and the first of them. */
static ot_status describe(ot_figure *f, ot_figure_row *row, ot_error *err) {
    const char *recipe = recipe_of(row);
    row->parameter = NAN;
    char *out = ot_arena_strdup(&f->arena, *recipe != '\0' ? recipe : "whole middle", err);
    if (out == NULL) return OT_ERR_MEMORY;
    row->method = out;
    while (*recipe != '\0') {
        size_t n = *recipe == '=' ? strcspn(recipe + 1, ",|") : 0;
        char *end = NULL;
        double value = n > 0 ? strtod(recipe + 1, &end) : NAN;
        if (n > 0 && end == recipe + 1 + n) {
            if (isnan(row->parameter)) row->parameter = value;
            recipe += 1 + n;
            *out = '\0';
            continue;
        }
        *out++ = *recipe++;
        *out = '\0';
    }
    return OT_OK;
}

static bool is_of(const ot_figure_row *r, const char *family) {
    size_t n = strlen(family);
    return strncmp(recipe_of(r), family, n) == 0 && strchr(recipe_of(r), '|') == NULL && (recipe_of(r)[n] == ':' || recipe_of(r)[n] == '\0');
}

/* Methods in the order in which they came, recipes of each by their parameter. */
static int order(const ot_figure_row *a, const ot_figure_row *b) {
    if (a->group != b->group) return a->group < b->group ? -1 : 1;
    return a->parameter < b->parameter ? -1 : a->parameter > b->parameter;
}

/* ==== What the paper says. ==== */

static double margin(const ot_figure_panel *p) { return p->higher ? OT_FIGURE_GAP_DIFFERENCE : OT_FIGURE_GAP_RATIO; }
static bool clear_gap(const ot_figure_panel *p, const ot_figure_row *r) { return r->gap > margin(p) && !(r->gap <= r->gap_spread); }

/* What a recipe's gap is, in words. */
static void put_gap(FILE *out, const ot_figure_panel *p, const ot_figure_row *r) {
    const char *colon = strchr(recipe_of(r), ':');
    fprintf(out, "%s ", colon != NULL ? colon + 1 : recipe_of(r));
    if (isnan(r->gap)) {
        fputs("not measured", out);
        return;
    }
    fprintf(out, p->higher ? "%+.3f" : "%+.1f %%", p->higher ? r->gap : 100.0 * r->gap);
    if (!isnan(r->gap_spread)) fprintf(out, p->higher ? " ± %.3f" : " ± %.1f", p->higher ? r->gap_spread : 100.0 * r->gap_spread);
}

/* All recipes of one family have a clear gap, or none has one. */
static ot_status claim_gap(ot_figure *f, ot_figure_panel *p, const char *family, const char *name, bool wanted, ot_error *err) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL) return ot_fail_memory(err, 0, "a figure's text");
    ot_verdict verdict = OT_UNKNOWN;
    int64_t n = 0, as_wanted = 0;
    for (int64_t i = 0; i < p->n_rows; i++) {
        const ot_figure_row *r = &p->rows[i];
        if (!is_of(r, family)) continue;
        if (n++ > 0) fputs(", ", out);
        put_gap(out, p, r);
        if (isnan(r->gap)) continue;
        bool fits = clear_gap(p, r) == wanted;
        as_wanted += fits;
        if (verdict != OT_FAILS) verdict = fits ? OT_HOLDS : OT_FAILS;
    }
    ot_status status = OT_OK;
    if (n > 1) fprintf(out, " (%lld of %lld as expected)", (long long)as_wanted, (long long)n);
    if (fclose(out) != 0) status = ot_fail_memory(err, 0, "a figure's text");
    if (status == OT_OK && n > 0) {
        const char *seen = ot_arena_strdup(&f->arena, text, err);
        status = ot_figure_claim_add(f, p, ot_figure_text(f, err, "%s %s between the tuned emulator and plug-in", name, wanted ? "keeps a clear gap" : "leaves no clear gap"),
                                     seen, verdict, err);
    }
    free(text);
    return status;
}

static bool is_drop(const ot_figure_row *r) { return is_of(r, "layerdrop"); }
static bool is_other(const ot_figure_row *r) { return is_of(r, "prune") || is_of(r, "fakequant") || is_of(r, "quantize"); }

/* The best plug-in of layer-drop, or of pruning and quantization. */
static const ot_figure_row *best_of(const ot_figure_panel *p, bool (*belongs)(const ot_figure_row *)) {
    const ot_figure_row *best = NULL;
    for (int64_t i = 0; i < p->n_rows; i++) {
        const ot_number *n = &p->rows[i].row->of[OT_ROLE_PLUG_IN];
        if (!belongs(&p->rows[i]) || n->n == 0) continue;
        if (best == NULL || (p->higher ? n->mean > best->row->of[OT_ROLE_PLUG_IN].mean : n->mean < best->row->of[OT_ROLE_PLUG_IN].mean)) best = &p->rows[i];
    }
    return best;
}

static ot_status claim_best(ot_figure *f, ot_figure_panel *p, ot_error *err) {
    const ot_figure_row *drop = best_of(p, is_drop), *other = best_of(p, is_other);
    char left[64], right[64];
    if (drop == NULL || other == NULL) return OT_OK;
    const ot_number *a = &drop->row->of[OT_ROLE_PLUG_IN], *b = &other->row->of[OT_ROLE_PLUG_IN];
    return ot_figure_claim_add(f, p, "the best plug-in is layer-drop's",
                               ot_figure_text(f, err, "%s: %s %s, %s: %s", recipe_of(drop), p->measure, ot_number_text(a, left, sizeof left), recipe_of(other),
                                              ot_number_text(b, right, sizeof right)),
                               ot_figure_better(p, a, b), err);
}

/* A gap is cheap where plug-in is bad: does any other method do better in both than a layer-drop recipe does? */
static ot_status claim_both(ot_figure *f, ot_figure_panel *p, ot_error *err) {
    const ot_figure_row *worst_drop = NULL, *winner = NULL;
    bool compared = false;
    for (int64_t i = 0; i < p->n_rows; i++) {
        for (int64_t k = 0; k < p->n_rows; k++) {
            const ot_figure_row *other = &p->rows[i], *drop = &p->rows[k];
            if (!is_other(other) || !is_drop(drop) || isnan(other->gap) || isnan(drop->gap)) continue;
            compared = true;
            if (!(other->gap > drop->gap) || ot_figure_better(p, &other->row->of[OT_ROLE_PLUG_IN], &drop->row->of[OT_ROLE_PLUG_IN]) != OT_HOLDS) continue;
            if (winner != NULL && winner->gap >= other->gap) continue;
            winner = other;
            worst_drop = drop;
        }
    }
    if (!compared) return OT_OK;
    char left[64], right[64];
    const char *seen = winner == NULL ? "none does"
                                      : ot_figure_text(f, err, "%s (plug-in %s) does better than %s (plug-in %s)", recipe_of(winner),
                                                       ot_number_text(&winner->row->of[OT_ROLE_PLUG_IN], left, sizeof left), recipe_of(worst_drop),
                                                       ot_number_text(&worst_drop->row->of[OT_ROLE_PLUG_IN], right, sizeof right));
    return ot_figure_claim_add(f, p, "no pruning or quantization has both a better plug-in and a larger gap than a layer-drop", seen,
                               winner == NULL ? OT_HOLDS : OT_FAILS, err);
}

/* ==== What tells it before any tuning. ==== */

static double cpl_of(const ot_report_row *r) { return r->cpl; }
static double fidelity_of(const ot_report_row *r) { return r->fidelity; }
static double signs_of(const ot_report_row *r) { return r->signs; }
static double goodness(const ot_report_row *r, int role) { return r->of[role].n == 0 ? NAN : r->higher ? r->of[role].mean : -r->of[role].mean; }
static double tuned_of(const ot_report_row *r) { return goodness(r, OT_ROLE_TUNED); }

static ot_status add_ranks(ot_figure *f, ot_figure_panel *p, ot_error *err) {
    static const struct {
        const char *name;
        double (*of)(const ot_report_row *);
    } known[] = {{"gradient fidelity", fidelity_of}, {"agreement of gradient signs", signs_of}, {"CPL", cpl_of}, {"tuned emulator", tuned_of}};
    int64_t most = sizeof known / sizeof *known;
    double *a = ot_arena_alloc(&f->arena, 2 * p->n_rows * (int64_t)sizeof *a, err), *b = a + p->n_rows;
    p->ranks = ot_arena_alloc(&f->arena, most * (int64_t)sizeof *p->ranks, err);
    if (a == NULL || p->ranks == NULL) return OT_ERR_MEMORY;
    for (int64_t k = 0; k < most; k++) {
        ot_figure_rank *rank = &p->ranks[p->n_ranks++];
        *rank = (ot_figure_rank){.of = known[k].name, .rho = NAN};
        for (int64_t i = 0; i < p->n_rows; i++) {
            double x = known[k].of(p->rows[i].row), y = goodness(p->rows[i].row, OT_ROLE_PLUG_IN);
            if (isnan(x) || isnan(y)) continue;
            a[rank->n] = x;
            b[rank->n++] = y;
        }
        if (rank->n >= OT_FIGURE_MIN_RANKED) OT_TRY(ot_rank_correlation(a, b, rank->n, &rank->rho, err));
    }
    return OT_OK;
}

/* ==== Plots. ==== */

static int64_t method_end(const ot_figure_panel *p, int64_t first) {
    int64_t end = first + 1;
    while (end < p->n_rows && p->rows[end].group == p->rows[first].group) end++;
    return end;
}

static int64_t count_methods(const ot_figure_panel *p) {
    int64_t n = 0;
    for (int64_t i = 0; i < p->n_rows; i = method_end(p, i)) n++;
    return n;
}

static const char *plot_name(ot_figure *f, const char *what, ot_error *err) {
    return f->n_panels == 1 ? ot_figure_text(f, err, "fig4%s", what) : ot_figure_text(f, err, "fig4-%d%s", (int)f->n_panels, what);
}

static double tuned_mean(const ot_report_row *r) { return r->of[OT_ROLE_TUNED].n > 0 ? r->of[OT_ROLE_TUNED].mean : NAN; }

/* Plug-in over some number of the recipe, a series for each method. */
static ot_status plug_in_over(ot_figure *f, ot_figure_panel *p, const char *what, const char *x_label, double (*x)(const ot_report_row *), ot_plot **out,
                              ot_error *err) {
    ot_plot *plot = *out = ot_figure_plot_add(f, p, plot_name(f, what, err), count_methods(p) + 1, err);
    if (plot == NULL) return ot_fail_memory(err, 0, "a plot");
    plot->x_label = x_label;
    plot->y_label = ot_figure_text(f, err, "plug-in: %s", p->measure);
    plot->log_y = !p->higher;
    plot->height = 460;
    for (int64_t first = 0, end; first < p->n_rows; first = end) {
        ot_figure_points to;
        end = method_end(p, first);
        OT_TRY(ot_figure_series_add(f, plot, p->rows[first].method, end - first, &to, err));
        for (int64_t i = first; i < end; i++) {
            const ot_number *n = &p->rows[i].row->of[OT_ROLE_PLUG_IN];
            to.x[i - first] = x(p->rows[i].row);
            to.y[i - first] = n->n > 0 ? n->mean : NAN;
            to.spread[i - first] = n->spread;
            to.labels[i - first] = isnan(p->rows[i].parameter) ? "" : ot_figure_text(f, err, "%g", p->rows[i].parameter);
            if (to.labels[i - first] == NULL) return OT_ERR_MEMORY;
        }
    }
    return OT_OK;
}

/* Where plug-in is no better than the tuned emulator. */
static ot_status add_diagonal(ot_figure *f, const ot_figure_panel *p, ot_plot *plot, ot_error *err) {
    enum { POINTS = 33 };
    double low = INFINITY, high = -INFINITY;
    for (int64_t i = 0; i < p->n_rows; i++) {
        for (int role = OT_ROLE_TUNED; role <= OT_ROLE_PLUG_IN; role++) {
            if (p->rows[i].row->of[role].n > 0) low = fmin(low, p->rows[i].row->of[role].mean);
        }
        if (p->rows[i].row->of[OT_ROLE_PLUG_IN].n > 0) high = fmax(high, p->rows[i].row->of[OT_ROLE_PLUG_IN].mean);
    }
    if (!(high > low)) return OT_OK;
    ot_figure_points to;
    OT_TRY(ot_figure_series_add(f, plot, "plug-in = tuned emulator", POINTS, &to, err));
    for (int i = 0; i < POINTS; i++) {
        double at = (double)i / (POINTS - 1);
        to.x[i] = to.y[i] = plot->log_y ? low * pow(high / low, at) : low + at * (high - low);
    }
    ot_plot_series *line = &((ot_plot_series *)plot->series)[plot->n_series - 1];
    line->mark = OT_PLOT_LINE;
    line->faint = true;
    line->labels = NULL;
    line->spread = NULL;
    return OT_OK;
}

/* One method with several recipes: tuned emulator and plug-in over its parameter. */
static ot_status over_parameter(ot_figure *f, ot_figure_panel *p, int64_t first, int64_t end, ot_error *err) {
    static const int roles[] = {OT_ROLE_TUNED, OT_ROLE_PLUG_IN};
    char what[40] = "-";
    size_t n = strcspn(p->rows[first].method, ":");
    for (int64_t i = 0; i < first; i = method_end(p, i)) {
        if (strncmp(p->rows[i].method, p->rows[first].method, n + 1) == 0 || n > 30) return OT_OK; /* its name is taken */
    }
    snprintf(what, sizeof what, "-%.*s", (int)(n > 30 ? 30 : n), p->rows[first].method);
    if (strchr(what, '|') != NULL) return OT_OK;
    ot_plot *plot = ot_figure_plot_add(f, p, plot_name(f, what, err), 2, err);
    ot_plot_rule *rule = ot_arena_alloc(&f->arena, sizeof *rule, err);
    if (plot == NULL || rule == NULL) return ot_fail_memory(err, 0, "a plot");
    plot->x_label = p->rows[first].method;
    plot->y_label = p->measure;
    plot->log_y = !p->higher;
    *rule = (ot_plot_rule){.name = "zero-shot", .value = p->zero.mean};
    plot->rules = rule;
    plot->n_rules = p->zero.n > 0;
    for (size_t k = 0; k < sizeof roles / sizeof *roles; k++) {
        ot_figure_points to;
        OT_TRY(ot_figure_series_add(f, plot, ot_role_names[roles[k]], end - first, &to, err));
        for (int64_t i = first; i < end; i++) {
            const ot_number *number = &p->rows[i].row->of[roles[k]];
            to.x[i - first] = p->rows[i].parameter;
            to.y[i - first] = number->n > 0 ? number->mean : NAN;
            to.spread[i - first] = number->spread;
        }
        ((ot_plot_series *)plot->series)[k].labels = NULL;
    }
    return OT_OK;
}

static ot_status finish(ot_figure *f, ot_figure_panel *p, ot_error *err) {
    const ot_setting *s = &p->rows[0].row->setting;
    ot_plot *plot = NULL;
    p->title = ot_figure_text(f, err, "Ways to make the emulator: %s, split %s", s->model != NULL ? s->model : "model", s->split != NULL ? s->split : "-");
    if (p->title == NULL) return OT_ERR_MEMORY;
    OT_TRY(claim_gap(f, p, "layerdrop", "layer-drop", true, err));
    OT_TRY(claim_gap(f, p, "prune", "pruning", false, err));
    OT_TRY(claim_gap(f, p, "fakequant", "fake quantization", false, err));
    OT_TRY(claim_gap(f, p, "quantize", "packed quantization", false, err));
    OT_TRY(claim_best(f, p, err));
    OT_TRY(claim_both(f, p, err));
    OT_TRY(add_ranks(f, p, err));
    OT_TRY(plug_in_over(f, p, "", ot_figure_text(f, err, "tuned emulator: %s", p->measure), tuned_mean, &plot, err));
    plot->log_x = !p->higher;
    OT_TRY(add_diagonal(f, p, plot, err));
    if (p->ranks[0].n > 1) OT_TRY(plug_in_over(f, p, "-fidelity", "gradient fidelity, before any tuning", fidelity_of, &plot, err));
    for (int64_t first = 0, end; first < p->n_rows; first = end) {
        end = method_end(p, first);
        if (end - first > 1 && !isnan(p->rows[first].parameter)) OT_TRY(over_parameter(f, p, first, end, err));
    }
    return OT_OK;
}

const ot_figure_kind ot_figure_method = {
    .name = "fig4", .help = "emulators of one model with one split", .same_panel = same_panel, .describe = describe, .order = order, .finish = finish};
