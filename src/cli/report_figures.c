#include "cli/report_figures.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cli/experiment_run.h"
#include "cli/report_sheet.h"
#include "cli/text.h"
#include "report/figures.h"

enum { PATH_ROOM = 4200, CELL = 96 };

typedef struct view {
    const ot_report *report;
    const ot_figure *figure;
} view;

static const char *verdict(ot_verdict v) { return v == OT_HOLDS ? "holds" : v == OT_FAILS ? "does not hold" : "undecided"; }

/* ==== Tables for people. ==== */

/* Behind the first, which says what the figure is about. */
static const char *const titles[] = {"rate", "untuned", "tuned emulator", "plug-in", "gap", "CPL", "fidelity", "middle shipped", "offer"};

static void put_row(ot_sheet *s, const ot_figure_panel *p, const ot_figure_row *r, bool position) {
    const ot_report_row *row = r->row;
    char what[CELL];
    const char *recipe = row->setting.emulator != NULL && *row->setting.emulator != '\0' ? row->setting.emulator : "whole middle";
    if (position) {
        snprintf(what, sizeof what, "%s (%s)", r->method, row->setting.split);
    } else {
        snprintf(what, sizeof what, "%s", recipe);
    }
    ot_sheet_cell(s, what);
    ot_sheet_real(s, row->setting.lr);
    ot_sheet_number(s, &row->of[OT_ROLE_EMULATOR]);
    ot_sheet_number(s, &row->of[OT_ROLE_TUNED]);
    ot_sheet_number(s, &row->of[OT_ROLE_PLUG_IN]);
    if (p->higher) {
        ot_sheet_real(s, r->gap);
    } else {
        ot_sheet_share(s, r->gap, "+", 1);
    }
    ot_sheet_real(s, row->cpl);
    ot_sheet_real(s, row->fidelity);
    ot_sheet_share(s, ot_report_shipped(row), "", 0);
    ot_sheet_bytes(s, row->offer_bytes);
}

static ot_status put_table(const ot_figure_panel *p, bool position, FILE *f, bool markdown, ot_error *err) {
    ot_sheet s = {.f = f, .markdown = markdown};
    ot_sheet_column(&s, position ? "adapter layers" : "emulator", OT_LEFT);
    for (size_t c = 0; c < sizeof titles / sizeof *titles; c++) ot_sheet_column(&s, titles[c], OT_RIGHT);
    ot_sheet_head(&s);
    for (int64_t k = 0; k < p->n_rows; k++) put_row(&s, p, &p->rows[k], position);
    return ot_sheet_end(&s, err);
}

/* Names from outside are kept from becoming markup, or commands of the terminal. */
static void put(FILE *f, const char *text, bool markdown) { (markdown ? ot_put_markdown : ot_put_safe)(f, text); }

static void put_rank(FILE *f, const ot_figure_rank *r) {
    fprintf(f, "rank correlation with plug-in over %" PRId64 " recipes: %s ", r->n, r->of);
    if (isnan(r->rho)) {
        fputs("-", f);
    } else {
        fprintf(f, "%+.3f", r->rho);
    }
}

/* What stands below a panel's table. */
static void put_findings(FILE *f, const ot_figure_panel *p, bool markdown) {
    char zero[CELL], full[CELL];
    const char *bullet = markdown ? "- " : "";
    fputs(bullet, f);
    put(f, p->measure, markdown);
    fprintf(f, " (%s is better): zero-shot %s, full fine-tuning %s; gap: ", p->higher ? "higher" : "lower", ot_number_text(&p->zero, zero, sizeof zero),
            ot_number_text(&p->full, full, sizeof full));
    fputs(p->higher ? "plug-in less the tuned emulator\n" : "how much higher the tuned emulator is than plug-in\n", f);
    for (int64_t i = 0; i < p->n_claims; i++) {
        fprintf(f, "%s%s: ", bullet, verdict(p->claims[i].verdict));
        put(f, p->claims[i].text, markdown);
        fputs(": ", f);
        put(f, p->claims[i].seen, markdown);
        fputc('\n', f);
    }
    for (int64_t i = 0; i < p->n_ranks; i++) {
        fputs(bullet, f);
        put_rank(f, &p->ranks[i]);
        fputc('\n', f);
    }
}

static void put_failures(FILE *f, const ot_report *r, bool markdown) {
    for (int64_t i = 0; i < r->n_steps; i++) {
        if (!r->steps[i].failed) continue;
        fputs(markdown ? "- failed: " : "failed: ", f);
        put(f, r->steps[i].name, markdown);
        fputs(": ", f);
        put(f, r->steps[i].error != NULL ? r->steps[i].error : "no message", markdown);
        fputc('\n', f);
    }
}

static bool about_position(const view *v) { return strcmp(v->figure->name, "fig3") == 0; }

static ot_status print(const view *v, ot_error *err) {
    for (int64_t i = 0; i < v->figure->n_panels; i++) {
        const ot_figure_panel *p = &v->figure->panels[i];
        ot_put_safe(stdout, p->title);
        fputs("\n\n", stdout);
        OT_TRY(put_table(p, about_position(v), stdout, false, err));
        put_findings(stdout, p, false);
        fputc('\n', stdout);
    }
    put_failures(stdout, v->report, false);
    return OT_OK;
}

/* pictures: the plots lie beside the document. */
static void put_markdown(const view *v, FILE *f, bool pictures) {
    ot_error ignored;
    if (v->report->title != NULL) {
        fputs("# ", f);
        ot_put_markdown(f, v->report->title);
        fputs("\n\n", f);
    }
    for (int64_t i = 0; i < v->figure->n_panels; i++) {
        const ot_figure_panel *p = &v->figure->panels[i];
        fputs("## ", f);
        ot_put_markdown(f, p->title);
        fputs("\n\n", f);
        put_table(p, about_position(v), f, true, &ignored);
        put_findings(f, p, true);
        fputc('\n', f);
        for (int64_t k = 0; pictures && k < p->n_plots; k++) fprintf(f, "![%s](%s.svg)\n", p->plots[k].name, p->plots[k].name);
    }
    put_failures(f, v->report, true);
}

/* ==== For machines. ==== */

static void put_csv(const view *v, FILE *f) {
    fputs("figure,model,split,emulator,peft,method,parameter,lr,measure,", f);
    for (int k = 0; k < OT_ROLE_COUNT; k++) ot_csv_roles(f, ot_role_keys[k]);
    fputs("gap,gap_spread,cpl,fidelity,middle_exact,offer_bytes,middle_same,middle_shipped\n", f);
    for (int64_t i = 0; i < v->figure->n_panels; i++) {
        for (int64_t k = 0; k < v->figure->panels[i].n_rows; k++) {
            const ot_figure_row *r = &v->figure->panels[i].rows[k];
            const ot_setting *s = &r->row->setting;
            const char *const names[] = {v->figure->name, s->model, s->split, s->emulator, s->peft, r->method};
            for (size_t c = 0; c < sizeof names / sizeof *names; c++) ot_csv_text(f, names[c]);
            ot_csv_real(f, r->parameter);
            ot_csv_real(f, s->lr);
            ot_csv_text(f, r->row->measure);
            for (int c = 0; c < OT_ROLE_COUNT; c++) ot_csv_number(f, &r->row->of[c]);
            const double told[] = {r->gap, r->gap_spread, r->row->cpl, r->row->fidelity, r->row->exact};
            for (size_t c = 0; c < sizeof told / sizeof *told; c++) ot_csv_real(f, told[c]);
            if (r->row->offer_bytes >= 0) fprintf(f, "%" PRId64, r->row->offer_bytes);
            fputc(',', f);
            ot_csv_real(f, r->row->same);
            if (isfinite(ot_report_shipped(r->row))) fprintf(f, "%.9g", ot_report_shipped(r->row));
            fputc('\n', f);
        }
    }
}

static void json_row(ot_json_out *out, const ot_figure_row *r) {
    ot_json_out_object(out, NULL);
    ot_json_out_str(out, "split", r->row->setting.split);
    ot_json_out_str(out, "emulator", r->row->setting.emulator);
    ot_json_out_str(out, "method", r->method);
    ot_json_out_f64(out, "parameter", r->parameter);
    ot_json_out_f64(out, "lr", r->row->setting.lr);
    for (int c = OT_ROLE_EMULATOR; c <= OT_ROLE_PLUG_IN; c++) ot_json_out_number(out, ot_role_keys[c], &r->row->of[c]);
    ot_json_out_f64(out, "gap", r->gap);
    ot_json_out_f64(out, "gap_spread", r->gap_spread);
    ot_json_out_f64(out, "cpl", r->row->cpl);
    ot_json_out_f64(out, "fidelity", r->row->fidelity);
    ot_json_out_f64(out, "middle_exact", r->row->exact);
    ot_json_out_f64(out, "middle_same", r->row->same);
    ot_json_out_f64(out, "middle_shipped", ot_report_shipped(r->row));
    ot_json_out_end(out);
}

static void json_panel(ot_json_out *out, const ot_figure_panel *p) {
    ot_json_out_object(out, NULL);
    ot_json_out_str(out, "title", p->title);
    ot_json_out_str(out, "measure", p->measure);
    ot_json_out_bool(out, "higher_is_better", p->higher);
    ot_json_out_number(out, ot_role_keys[OT_ROLE_ZERO_SHOT], &p->zero);
    ot_json_out_number(out, ot_role_keys[OT_ROLE_FULL], &p->full);
    ot_json_out_array(out, "rows");
    for (int64_t i = 0; i < p->n_rows; i++) json_row(out, &p->rows[i]);
    ot_json_out_end(out);
    ot_json_out_array(out, "expected");
    for (int64_t i = 0; i < p->n_claims; i++) {
        ot_json_out_object(out, NULL);
        ot_json_out_str(out, "what", p->claims[i].text);
        ot_json_out_str(out, "seen", p->claims[i].seen);
        ot_json_out_str(out, "verdict", verdict(p->claims[i].verdict));
        ot_json_out_end(out);
    }
    ot_json_out_end(out);
    ot_json_out_array(out, "rank_correlation_with_plug_in");
    for (int64_t i = 0; i < p->n_ranks; i++) {
        ot_json_out_object(out, NULL);
        ot_json_out_str(out, "of", p->ranks[i].of);
        ot_json_out_f64(out, "rho", p->ranks[i].rho);
        ot_json_out_i64(out, "recipes", p->ranks[i].n);
        ot_json_out_end(out);
    }
    ot_json_out_end(out);
    ot_json_out_end(out);
}

static ot_status put_json(const view *v, ot_error *err) {
    ot_json_out out = ot_json_out_open(stdout);
    ot_json_out_object(&out, NULL);
    ot_json_out_str(&out, "figure", v->figure->name);
    ot_json_out_array(&out, "panels");
    for (int64_t i = 0; i < v->figure->n_panels; i++) json_panel(&out, &v->figure->panels[i]);
    return ot_json_out_close(&out, err);
}

/* ==== Files. ==== */

static ot_status write_text(const view *v, const char *dir, const char *ending, ot_error *err) {
    char path[PATH_ROOM], *text = NULL;
    size_t size = 0;
    if (snprintf(path, sizeof path, "%s/%s.%s", dir, v->figure->name, ending) >= PATH_ROOM) return ot_fail(err, OT_ERR_USAGE, "%s: the path is too long", dir);
    FILE *f = open_memstream(&text, &size);
    if (f == NULL) return ot_fail_memory(err, 0, "a figure");
    if (strcmp(ending, "csv") == 0) {
        put_csv(v, f);
    } else {
        put_markdown(v, f, true);
    }
    ot_status status = fclose(f) != 0 ? ot_fail_memory(err, 0, "a figure") : ot_write_file(path, text, (int64_t)size, err);
    free(text);
    return status;
}

static ot_status write_plot(const ot_figure_plot *plot, const char *dir, ot_error *err) {
    char path[PATH_ROOM], *text = NULL;
    size_t size = 0;
    if (snprintf(path, sizeof path, "%s/%s.svg", dir, plot->name) >= PATH_ROOM) return ot_fail(err, OT_ERR_USAGE, "%s: the path is too long", dir);
    ot_status status = ot_plot_svg(&plot->plot, &text, &size, err);
    if (status == OT_OK) status = ot_write_file(path, text, (int64_t)size, err);
    free(text);
    return status;
}

static ot_status write_files(const view *v, const char *dir, ot_error *err) {
    OT_TRY(ot_make_dirs(dir, err));
    OT_TRY(write_text(v, dir, "md", err));
    OT_TRY(write_text(v, dir, "csv", err));
    for (int64_t i = 0; i < v->figure->n_panels; i++) {
        for (int64_t k = 0; k < v->figure->panels[i].n_plots; k++) OT_TRY(write_plot(&v->figure->panels[i].plots[k], dir, err));
    }
    return OT_OK;
}

/* ==== The command. ==== */

static ot_status run_grid(const ot_args *args, const char *config, const char *dir, ot_experiment_summary *summary, ot_error *err) {
    ot_runs runs = {0};
    ot_status status = ot_experiment_open(config, dir, &runs, err);
    if (status == OT_OK) status = ot_experiment_run(&runs, dir, ot_args_flag(args, "quiet"), summary, err);
    ot_runs_free(&runs);
    return status;
}

static ot_status show(const ot_args *args, const view *v, ot_error *err) {
    if (ot_args_flag(args, "json")) return put_json(v, err);
    if (ot_args_flag(args, "csv")) {
        put_csv(v, stdout);
    } else if (ot_args_flag(args, "markdown")) {
        put_markdown(v, stdout, false);
    } else {
        return print(v, err);
    }
    return OT_OK;
}

bool ot_report_is_figure(const ot_args *args) {
    const char *first = ot_args_operand(args, "DIR");
    return first != NULL && ot_figure_find(first) != NULL;
}

ot_status ot_report_figure(const ot_args *args, ot_error *err) {
    const ot_figure_kind *kind = ot_figure_find(ot_args_operand(args, "DIR"));
    const char *config = ot_args_str(args, "config"), *dir = ot_args_str(args, "output");
    int64_t n = ot_args_operand_count(args, "DIR");
    ot_report report = {0};
    ot_report_table table = {0};
    ot_figure figure = {0};
    ot_experiment_summary summary = {0};
    if (ot_args_flag(args, "data-owner")) return ot_args_fail(args, err, "%s compares plug-in scores, which the data owner cannot know: leave --data-owner out", kind->name);
    if (ot_args_flag(args, "json") + ot_args_flag(args, "csv") + ot_args_flag(args, "markdown") > 1) {
        return ot_args_fail(args, err, "--json, --csv and --markdown are three forms of the same: ask for one at a time");
    }
    if (config == NULL && n < 2) return ot_args_fail(args, err, "%s needs --config RUNS.yaml to run, or a folder of an experiment that ran", kind->name);
    if (config != NULL && n > 1) return ot_args_fail(args, err, "%s with --config runs its own grid: leave %s out", kind->name, ot_args_operand_at(args, "DIR", 1));
    if (config != NULL && dir == NULL) dir = kind->name;
    ot_status status = config != NULL ? run_grid(args, config, dir, &summary, err) : OT_OK;
    if (status == OT_OK && config != NULL) status = ot_report_read(&report, dir, err);
    for (int64_t i = 1; status == OT_OK && i < n; i++) status = ot_report_read(&report, ot_args_operand_at(args, "DIR", i), err);
    if (status == OT_OK) status = ot_report_tabulate(&report, false, &table, err);
    if (status == OT_OK) status = ot_figure_make(kind, &table, &figure, err);
    const view v = {.report = &report, .figure = &figure};
    if (status == OT_OK && dir != NULL) status = write_files(&v, dir, err);
    if (status == OT_OK) status = show(args, &v, err);
    if (status == OT_OK) status = ot_experiment_judge(&summary, dir, err);
    ot_figure_free(&figure);
    ot_report_table_free(&table);
    ot_report_free(&report);
    return status;
}
