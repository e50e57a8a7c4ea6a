#include "cli/report_charts.h"

#include <math.h>
#include <string.h>

#include "base/count.h"

enum { MAX_SERIES = 8, MAX_RUNS = 32, MAX_CHARTS = 16, NAME_TEXT = 200 };

/* In a legend or title. */
static void name_of(const ot_report_view *v, const ot_report_row *row, const char *otherwise, char text[NAME_TEXT]) {
    char label[1200];
    ot_report_label(v, row, label, sizeof label);
    snprintf(text, NAME_TEXT, "%.*s", 100, *label != '\0' ? label : otherwise);
}

/* Half the height of a bar: over seeds where there are several, else over documents. */
static double bar(const ot_number *n) { return isnan(n->spread) ? n->error : n->spread; }

/* ==== The five conditions. ==== */

typedef struct score_series {
    double x[OT_ROLE_COUNT], y[OT_ROLE_COUNT], spread[OT_ROLE_COUNT];
    char name[NAME_TEXT], text[OT_ROLE_COUNT][24];
    const char *labels[OT_ROLE_COUNT];
} score_series;

static int64_t chosen_rows(const ot_report_view *v, const char *measure, const ot_report_row *rows[MAX_SERIES]) {
    int64_t n = 0;
    for (int64_t i = 0; i < v->table->n; i++) {
        const ot_report_row *r = &v->table->rows[i];
        if (!r->chosen || strcmp(r->measure, measure) != 0) continue;
        if (n < MAX_SERIES) rows[n] = r;
        n++;
    }
    return n;
}

ot_status ot_report_chart_scores(const ot_report_view *v, const char *measure, ot_html *page, ot_error *err) {
    const ot_report_row *rows[MAX_SERIES];
    const char *names[OT_ROLE_COUNT];
    score_series room[MAX_SERIES];
    ot_plot_series series[MAX_SERIES];
    int64_t all = chosen_rows(v, measure, rows), n = all < MAX_SERIES ? all : MAX_SERIES;
    int places = 0;
    double least = INFINITY, most = 0.0;
    for (int k = 0; k < OT_ROLE_COUNT; k++) {
        if (ot_report_shows(v, k)) names[places++] = ot_role_names[k];
    }
    for (int64_t s = 0; s < n; s++) {
        score_series *here = &room[s];
        int place = 0;
        name_of(v, rows[s], "", here->name);
        for (int k = 0; k < OT_ROLE_COUNT; k++) {
            const ot_number *number = &rows[s]->of[k];
            if (!ot_report_shows(v, k)) continue;
            here->x[place] = place + ((double)s - (double)(n - 1) / 2.0) * 0.08;
            here->y[place] = number->n > 0 ? number->mean : NAN;
            here->spread[place] = bar(number);
            snprintf(here->text[place], sizeof here->text[place], "%.4g", number->mean);
            here->labels[place] = here->text[place];
            if (number->n > 0) least = fmin(least, number->mean), most = fmax(most, number->mean);
            place++;
        }
        series[s] = (ot_plot_series){.name = n > 1 ? here->name : NULL, .x = here->x, .y = here->y, .count = places, .mark = OT_PLOT_POINTS, .color = (int32_t)s,
                                     .labels = n == 1 ? here->labels : NULL, .spread = here->spread};
    }
    char description[300], caption[200];
    snprintf(description, sizeof description, "%.100s of %s; the table above has the same numbers", measure, v->data_owner ? "the emulator before and after tuning" : "the five conditions");
    snprintf(caption, sizeof caption, "%s is better.%s", n > 0 && rows[0]->higher ? "Higher" : "Lower", all > n ? " The first eight combinations." : "");
    ot_plot plot = {.title = measure, .description = description, .y_label = measure, .series = series, .n_series = n, .names = names, .n_names = places, .width = 560, .height = 320,
                    .log_y = least > 0.0 && most / least > 4.0};
    return ot_html_plot(page, &plot, caption, err);
}

/* ==== Learning rates. ==== */

typedef struct rate_series {
    double x[64], y[64], spread[64], plug[64];
    const char *labels[64];
    int64_t n;
    char name[NAME_TEXT];
} rate_series;

/* The rates of a combination, lowest first; the file may have them in any order. */
static void collect(const ot_report_view *v, const ot_report_row *of, const char *measure, rate_series *s) {
    s->n = 0;
    for (int64_t i = 0; i < v->table->n; i++) {
        const ot_report_row *r = &v->table->rows[i];
        if (strcmp(r->measure, measure) != 0 || !ot_report_same_kind(r, of) || isnan(r->setting.lr) || s->n == 64) continue;
        int64_t at = s->n++;
        for (; at > 0 && s->x[at - 1] > r->setting.lr; at--) {
            s->x[at] = s->x[at - 1], s->y[at] = s->y[at - 1], s->spread[at] = s->spread[at - 1], s->plug[at] = s->plug[at - 1];
            s->labels[at] = s->labels[at - 1];
        }
        const ot_number *tuned = &r->of[OT_ROLE_TUNED], *plug = &r->of[OT_ROLE_PLUG_IN];
        s->x[at] = r->setting.lr;
        s->y[at] = tuned->n > 0 ? tuned->mean : NAN;
        s->spread[at] = bar(tuned);
        s->plug[at] = plug->n > 0 ? plug->mean : NAN;
        s->labels[at] = r->chosen ? "chosen" : NULL;
    }
}

ot_status ot_report_chart_rates(const ot_report_view *v, const char *measure, ot_html *page, ot_error *err) {
    static rate_series none;
    rate_series room[MAX_SERIES];
    ot_plot_series series[MAX_SERIES + 1];
    int64_t n = 0, most = 0;
    for (int64_t i = 0; i < v->table->n && n < MAX_SERIES; i++) {
        const ot_report_row *r = &v->table->rows[i];
        if (!r->chosen || strcmp(r->measure, measure) != 0) continue;
        rate_series *s = &room[n];
        *s = none;
        collect(v, r, measure, s);
        name_of(v, r, "tuned emulator", s->name);
        series[n] = (ot_plot_series){.name = s->name, .x = s->x, .y = s->y, .count = s->n, .mark = OT_PLOT_LINE_AND_POINTS, .color = (int32_t)n, .labels = s->labels, .spread = s->spread};
        most = s->n > most ? s->n : most;
        n++;
    }
    if (most < 2) return OT_OK;
    if (n == 1 && !v->data_owner) {
        series[n++] = (ot_plot_series){.name = "plug-in (not used to choose)", .x = room[0].x, .y = room[0].plug, .count = room[0].n, .mark = OT_PLOT_LINE_AND_POINTS, .color = 1};
    }
    char title[200];
    snprintf(title, sizeof title, "%.100s by learning rate", measure);
    ot_plot plot = {.title = title, .description = "The tuned emulator's score at each learning rate; the chosen one is marked", .x_label = "learning rate", .y_label = measure,
                    .series = series, .n_series = n, .log_x = true, .width = 560, .height = 300};
    return ot_html_plot(page, &plot, NULL, err);
}

/* ==== Losses. ==== */

static bool same(const char *a, const char *b) { return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0); }
static bool same_kind(const ot_setting *a, const ot_setting *b) {
    return same(a->model, b->model) && same(a->split, b->split) && same(a->emulator, b->emulator) && same(a->peft, b->peft) && same(a->task, b->task);
}

/* What a chart of losses is about. */
static void title_of(const ot_report_view *v, const ot_step_facts *f, char text[NAME_TEXT]) {
    const ot_report_row row = {.setting = f->setting, .offer = NULL};
    const ot_report_row *found = &row;
    for (int64_t i = 0; i < v->table->n; i++) {
        if (same_kind(&v->table->rows[i].setting, &f->setting)) found = &v->table->rows[i];
    }
    char label[NAME_TEXT], name[160];
    bool full = strcmp(f->verb, "finetune") == 0;
    /* Full fine-tuning has no split and no emulator: of the parts that vary only model and tuning tell it apart. */
    ot_report_view shown = *v;
    if (full) shown.varies[OT_PART_SPLIT] = shown.varies[OT_PART_EMULATOR] = false;
    if (full && !ot_report_full_is_full(&f->setting)) shown.varies[OT_PART_TUNING] = false; /* its name says it */
    name_of(&shown, found, "", label);
    snprintf(text, NAME_TEXT, "%s%s%.80s%s%.80s", full ? ot_report_full_name(&f->setting, name, sizeof name) : "tuning", *label != '\0' ? ", " : "", label, f->setting.task != NULL ? ", " : "",
             f->setting.task != NULL ? f->setting.task : "");
}

typedef struct losses {
    ot_plot_series series[2 * MAX_RUNS];
    char names[2 * MAX_RUNS][64];
    double *x[MAX_RUNS], rates[MAX_RUNS];
    int64_t n, runs, n_rates, left_out;
} losses;

/* The colour of a rate, and whether it is its first run. */
static int32_t color_of(losses *l, double lr, bool *first) {
    *first = false;
    for (int64_t i = 0; i < l->n_rates; i++) {
        if (l->rates[i] == lr || (isnan(lr) && isnan(l->rates[i]))) return (int32_t)i;
    }
    *first = true;
    l->rates[l->n_rates] = lr;
    return (int32_t)l->n_rates++;
}

static ot_status add_run(losses *l, const ot_step_facts *f, ot_error *err) {
    const ot_curve *c = &f->curve;
    bool first, any = false;
    if (c->n == 0) return OT_OK;
    if (l->runs == MAX_RUNS) {
        l->left_out++;
        return OT_OK;
    }
    int32_t color = color_of(l, f->setting.lr, &first);
    double *x = NULL;
    OT_TRY(ot_malloc(3 * c->n, (int64_t)sizeof *x, "a smoothed curve", (void **)&x, err));
    double *y = x + c->n, *smooth = y + c->n;
    int64_t n = 0;
    l->x[l->runs++] = x;
    /* Lines of validation have no loss of a step; they must not interrupt the curve. */
    for (int64_t i = 0; i < c->n; i++) {
        any = any || isfinite(c->valid[i]);
        if (isnan(c->loss[i]) && isfinite(c->valid[i])) continue;
        x[n] = c->step[i];
        y[n++] = c->loss[i];
    }
    ot_plot_smooth(y, n, (double)n / 50.0, smooth);
    char *name = l->names[l->n];
    snprintf(name, sizeof l->names[0], "rate %.3g", f->setting.lr);
    if (isnan(f->setting.lr)) snprintf(name, sizeof l->names[0], "training");
    l->series[l->n++] = (ot_plot_series){.name = first ? name : NULL, .x = x, .y = smooth, .count = n, .color = color};
    if (!any) return OT_OK;
    name = l->names[l->n];
    snprintf(name, sizeof l->names[0], "validation");
    l->series[l->n++] = (ot_plot_series){.name = first ? name : NULL, .x = c->step, .y = c->valid, .count = c->n, .mark = OT_PLOT_POINTS, .color = color};
    return OT_OK;
}

static ot_status chart_of(const ot_report_view *v, const ot_step_facts *kind, ot_html *page, ot_error *err) {
    losses l = {0};
    char title[NAME_TEXT];
    ot_status status = OT_OK;
    for (int64_t i = 0; status == OT_OK && i < v->report->n_steps; i++) {
        const ot_step_facts *f = &v->report->steps[i];
        if (strcmp(f->verb, kind->verb) == 0 && same_kind(&f->setting, &kind->setting)) status = add_run(&l, f, err);
    }
    title_of(v, kind, title);
    ot_plot plot = {.title = title, .description = "The loss of each training run by step", .x_label = "step", .y_label = "loss", .series = l.series, .n_series = l.n, .width = 560, .height = 280};
    if (status == OT_OK) status = ot_html_plot(page, &plot, l.left_out > 0 ? "The first 32 runs." : NULL, err);
    for (int64_t i = 0; i < l.runs; i++) ot_free(l.x[i]);
    return status;
}

ot_status ot_report_chart_losses(const ot_report_view *v, const char *verb, ot_html *page, ot_error *err) {
    int64_t charts = 0, left_out = 0;
    for (int64_t i = 0; i < v->report->n_steps; i++) {
        const ot_step_facts *f = &v->report->steps[i];
        bool first = strcmp(f->verb, verb) == 0 && f->curve.n > 0;
        for (int64_t k = 0; k < i && first; k++) {
            const ot_step_facts *before = &v->report->steps[k];
            first = !(strcmp(before->verb, verb) == 0 && before->curve.n > 0 && same_kind(&before->setting, &f->setting));
        }
        if (!first) continue;
        if (charts++ < MAX_CHARTS) {
            OT_TRY(chart_of(v, f, page, err));
        } else {
            left_out++;
        }
    }
    if (left_out > 0) ot_html_note(page, "The curves of %s further combinations are left out here: offsite plot draws any log.", OT_COUNT(left_out));
    return OT_OK;
}
