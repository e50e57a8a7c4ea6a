/* Figure 3: at an equal number of trainable layers, are adapter layers at both ends better than at one end? */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/figures_internal.h"

static bool same(const char *a, const char *b) { return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0); }

static bool same_panel(const ot_report_row *a, const ot_report_row *b) {
    return same(a->setting.model, b->setting.model) && same(a->setting.emulator, b->setting.emulator) && same(a->setting.peft, b->setting.peft) &&
           same(a->measure, b->measure);
}

static const char bottom_only[] = "bottom", top_only[] = "top", both_ends[] = "both";

static ot_status describe(ot_figure *f, ot_figure_row *row, ot_error *err) {
    const char *split = row->row->setting.split != NULL ? row->row->setting.split : "";
    long bottom = strtol(split, NULL, 10), top = 0;
    const char *dash = strchr(split, '-');
    (void)f;
    if (dash == NULL) return ot_fail(err, OT_ERR_REFUSED, "fig3 compares positions of the adapter layers, and %s does not say where they were: give the folder of an experiment",
                                     row->row->setting.model != NULL ? row->row->setting.model : "a result");
    top = strtol(dash + 1, NULL, 10);
    row->method = top == 0 ? bottom_only : bottom == 0 ? top_only : both_ends;
    row->parameter = (double)(bottom + top);
    return OT_OK;
}

static int rank_of(const ot_figure_row *r) { return r->method == bottom_only ? 0 : r->method == both_ends ? 1 : 2; }

static int order(const ot_figure_row *a, const ot_figure_row *b) {
    if (a->parameter != b->parameter) return a->parameter < b->parameter ? -1 : 1;
    return rank_of(a) - rank_of(b);
}

static ot_status add_claims(ot_figure *f, ot_figure_panel *p, ot_error *err) {
    for (int64_t i = 0; i < p->n_rows; i++) {
        for (int64_t k = 0; p->rows[i].method == both_ends && k < p->n_rows; k++) {
            const ot_figure_row *both = &p->rows[i], *one = &p->rows[k];
            if (one->method == both_ends || one->parameter != both->parameter) continue;
            const ot_number *a = &both->row->of[OT_ROLE_PLUG_IN], *b = &one->row->of[OT_ROLE_PLUG_IN];
            char left[64], right[64];
            OT_TRY(ot_figure_claim_add(f, p,
                                       ot_figure_text(f, err, "with %.0f trainable layers, both ends (%s) plug in better than the %s alone (%s)", both->parameter,
                                                      both->row->setting.split, one->method, one->row->setting.split),
                                       ot_figure_text(f, err, "%s %s against %s", p->measure, ot_number_text(a, left, sizeof left),
                                                      ot_number_text(b, right, sizeof right)),
                                       ot_figure_better(p, a, b), err));
        }
    }
    return OT_OK;
}

static ot_status add_rules(ot_figure *f, const ot_figure_panel *p, ot_plot *plot, ot_error *err) {
    ot_plot_rule *rules = ot_arena_alloc(&f->arena, 2 * (int64_t)sizeof *rules, err);
    if (rules == NULL) return OT_ERR_MEMORY;
    if (p->zero.n > 0) rules[plot->n_rules++] = (ot_plot_rule){.name = "zero-shot", .value = p->zero.mean};
    if (p->full.n > 0) rules[plot->n_rules++] = (ot_plot_rule){.name = "full fine-tuning", .value = p->full.mean};
    plot->rules = rules;
    return OT_OK;
}

static ot_status finish(ot_figure *f, ot_figure_panel *p, ot_error *err) {
    static const int roles[] = {OT_ROLE_PLUG_IN, OT_ROLE_TUNED};
    const ot_setting *s = &p->rows[0].row->setting;
    p->title = ot_figure_text(f, err, "Position of the adapter layers: %s, emulator %s", s->model != NULL ? s->model : "model",
                              s->emulator != NULL && *s->emulator != '\0' ? s->emulator : "whole middle");
    if (p->title == NULL) return OT_ERR_MEMORY;
    OT_TRY(add_claims(f, p, err));
    ot_plot *plot = ot_figure_plot_add(f, p, f->n_panels == 1 ? "fig3" : ot_figure_text(f, err, "fig3-%d", (int)f->n_panels), 2, err);
    const char **names = ot_arena_alloc(&f->arena, p->n_rows * (int64_t)sizeof *names, err);
    if (plot == NULL || names == NULL) return ot_fail_memory(err, 0, "a plot");
    for (int64_t i = 0; i < p->n_rows; i++) {
        names[i] = ot_figure_text(f, err, "%s (%s)", p->rows[i].method, p->rows[i].row->setting.split);
        if (names[i] == NULL) return OT_ERR_MEMORY;
    }
    plot->names = names;
    plot->n_names = p->n_rows;
    plot->x_label = "adapter layers at the bottom - at the top";
    plot->y_label = p->measure;
    plot->log_y = !p->higher;
    for (size_t k = 0; k < sizeof roles / sizeof *roles; k++) {
        ot_figure_points to;
        OT_TRY(ot_figure_series_add(f, plot, ot_role_names[roles[k]], p->n_rows, &to, err));
        for (int64_t i = 0; i < p->n_rows; i++) {
            const ot_number *n = &p->rows[i].row->of[roles[k]];
            to.x[i] = (double)i;
            to.y[i] = n->n > 0 ? n->mean : NAN;
            to.spread[i] = n->spread;
        }
        ((ot_plot_series *)plot->series)[k].mark = OT_PLOT_POINTS;
        ((ot_plot_series *)plot->series)[k].labels = NULL;
    }
    return add_rules(f, p, plot, err);
}

const ot_figure_kind ot_figure_position = {
    .name = "fig3", .help = "splits of one model with one emulator", .same_panel = same_panel, .describe = describe, .order = order, .finish = finish};
