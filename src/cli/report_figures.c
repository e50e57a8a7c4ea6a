#include "cli/report_figures.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cli/experiment_run.h"
#include "cli/output.h"
#include "cli/text.h"
#include "report/figures.h"

enum { FILE_LIMIT = 1 << 20, PATH_ROOM = 4200, CELL = 96 };

typedef struct view {
    const ot_report *report;
    const ot_figure *figure;
} view;

static const char *verdict(ot_verdict v) { return v == OT_HOLDS ? "holds" : v == OT_FAILS ? "does not hold" : "undecided"; }

/* ==== Tables for people. ==== */

static const char *const titles[] = {"what", "rate", "emulator", "tuned emulator", "plug-in", "gap", "CPL", "fidelity", "middle exact", "offer"};
enum { COLUMNS = sizeof titles / sizeof *titles };
typedef char row_text[COLUMNS][CELL];

static void put_number(const ot_number *n, char *room) {
    snprintf(room, CELL, "-");
    if (n->n > 0) snprintf(room, CELL, "%.4g", n->mean);
    if (n->n > 0 && !isnan(n->spread)) snprintf(room, CELL, "%.4g ± %.2g", n->mean, n->spread);
}

static void put_real(double x, int digits, char *room) {
    snprintf(room, CELL, "-");
    if (!isnan(x)) snprintf(room, CELL, "%.*g", digits, x);
}

static void put_share(double x, const char *sign, int digits, char *room) {
    snprintf(room, CELL, "-");
    if (!isnan(x)) snprintf(room, CELL, "%s%.*f %%", x >= 0 ? sign : "", digits, 100.0 * x);
}

static void fill(const ot_figure_panel *p, const ot_figure_row *r, bool position, row_text out) {
    const ot_report_row *row = r->row;
    const char *recipe = row->setting.emulator != NULL && *row->setting.emulator != '\0' ? row->setting.emulator : "whole middle";
    if (position) {
        snprintf(out[0], CELL, "%s (%s)", r->method, row->setting.split);
    } else {
        snprintf(out[0], CELL, "%s", recipe);
    }
    put_real(row->setting.lr, 3, out[1]);
    put_number(&row->of[OT_ROLE_EMULATOR], out[2]);
    put_number(&row->of[OT_ROLE_TUNED], out[3]);
    put_number(&row->of[OT_ROLE_PLUG_IN], out[4]);
    if (p->higher) {
        put_real(r->gap, 3, out[5]);
    } else {
        put_share(r->gap, "+", 1, out[5]);
    }
    put_real(row->cpl, 3, out[6]);
    put_real(row->fidelity, 3, out[7]);
    put_share(row->exact, "", 0, out[8]);
    snprintf(out[9], CELL, "-");
    if (row->offer_bytes >= 0) ot_text_bytes(row->offer_bytes, out[9], CELL);
}

static void put_rank(FILE *f, const ot_figure_rank *r) {
    fprintf(f, "rank correlation with plug-in over %" PRId64 " recipes: %s ", r->n, r->of);
    if (isnan(r->rho)) {
        fputs("-", f);
    } else {
        fprintf(f, "%+.3f", r->rho);
    }
}

/* What stands below a panel's table, each line begun with `bullet`. */
static void put_findings(FILE *f, const ot_figure_panel *p, const char *bullet) {
    char zero[CELL], full[CELL];
    put_number(&p->zero, zero);
    put_number(&p->full, full);
    fprintf(f, "%s%s (%s is better): zero-shot %s, full fine-tuning %s; gap: ", bullet, p->measure, p->higher ? "higher" : "lower", zero, full);
    fputs(p->higher ? "plug-in less the tuned emulator\n" : "how much higher the tuned emulator is than plug-in\n", f);
    for (int64_t i = 0; i < p->n_claims; i++) {
        fprintf(f, "%s%s: ", bullet, verdict(p->claims[i].verdict));
        ot_put_safe(f, p->claims[i].text);
        fputs(": ", f);
        ot_put_safe(f, p->claims[i].seen);
        fputc('\n', f);
    }
    for (int64_t i = 0; i < p->n_ranks; i++) {
        fputs(bullet, f);
        put_rank(f, &p->ranks[i]);
        fputc('\n', f);
    }
}

static void put_failures(FILE *f, const ot_report *r) {
    for (int64_t i = 0; i < r->n_steps; i++) {
        if (!r->steps[i].failed) continue;
        fputs("failed: ", f);
        ot_put_safe(f, r->steps[i].name);
        fputs(": ", f);
        ot_put_safe(f, r->steps[i].error != NULL ? r->steps[i].error : "no message");
        fputc('\n', f);
    }
}

static bool about_position(const view *v) { return strcmp(v->figure->name, "fig3") == 0; }

static ot_status print(const view *v, ot_error *err) {
    ot_column columns[COLUMNS];
    for (int i = 0; i < COLUMNS; i++) columns[i] = (ot_column){titles[i], i == 0 ? OT_LEFT : OT_RIGHT};
    columns[0].title = about_position(v) ? "adapter layers" : "emulator";
    columns[2].title = "untuned";
    for (int64_t i = 0; i < v->figure->n_panels; i++) {
        const ot_figure_panel *p = &v->figure->panels[i];
        ot_put_safe(stdout, p->title);
        fputs("\n\n", stdout);
        ot_table table = ot_table_begin(columns, COLUMNS);
        for (int64_t k = 0; k < p->n_rows; k++) {
            row_text cells;
            fill(p, &p->rows[k], about_position(v), cells);
            for (int c = 0; c < COLUMNS; c++) ot_table_cell(&table, "%s", cells[c]);
        }
        OT_TRY(ot_table_print(&table, stdout, err));
        put_findings(stdout, p, "");
        fputc('\n', stdout);
    }
    put_failures(stdout, v->report);
    return OT_OK;
}

static void markdown_cell(FILE *f, const char *text) {
    fputc(' ', f);
    for (; *text != '\0'; text++) {
        if (*text == '|') fputc('\\', f);
        fputc((unsigned char)*text < 0x20 ? ' ' : *text, f);
    }
    fputs(" |", f);
}

/* pictures: the plots lie beside the document. */
static void put_markdown(const view *v, FILE *f, bool pictures) {
    if (v->report->title != NULL) {
        fputs("# ", f);
        ot_put_safe(f, v->report->title);
        fputs("\n\n", f);
    }
    for (int64_t i = 0; i < v->figure->n_panels; i++) {
        const ot_figure_panel *p = &v->figure->panels[i];
        fputs("## ", f);
        ot_put_safe(f, p->title);
        fputs("\n\n|", f);
        for (int c = 0; c < COLUMNS; c++) markdown_cell(f, c == 0 ? about_position(v) ? "adapter layers" : "emulator" : c == 2 ? "untuned" : titles[c]);
        fputs("\n|---|", f);
        for (int c = 1; c < COLUMNS; c++) fputs("---:|", f);
        fputc('\n', f);
        for (int64_t k = 0; k < p->n_rows; k++) {
            row_text cells;
            fill(p, &p->rows[k], about_position(v), cells);
            fputc('|', f);
            for (int c = 0; c < COLUMNS; c++) markdown_cell(f, cells[c]);
            fputc('\n', f);
        }
        fputc('\n', f);
        put_findings(f, p, "- ");
        fputc('\n', f);
        for (int64_t k = 0; pictures && k < p->n_plots; k++) fprintf(f, "![%s](%s.svg)\n", p->plots[k].name, p->plots[k].name);
    }
    put_failures(f, v->report);
}

/* ==== For machines. ==== */

static void csv_text(FILE *f, const char *text) {
    fputc('"', f);
    for (; text != NULL && *text != '\0'; text++) {
        if (*text == '"') fputc('"', f);
        fputc(*text, f);
    }
    fputs("\",", f);
}

static void csv_real(FILE *f, double x) {
    if (isfinite(x)) fprintf(f, "%.9g", x);
    fputc(',', f);
}

static void put_csv(const view *v, FILE *f) {
    fputs("figure,model,split,emulator,peft,method,parameter,lr,measure,", f);
    for (int k = 0; k < OT_ROLE_COUNT; k++) fprintf(f, "%s,%s_spread,%s_seeds,", ot_role_keys[k], ot_role_keys[k], ot_role_keys[k]);
    fputs("gap,gap_spread,cpl,fidelity,middle_exact,offer_bytes\n", f);
    for (int64_t i = 0; i < v->figure->n_panels; i++) {
        for (int64_t k = 0; k < v->figure->panels[i].n_rows; k++) {
            const ot_figure_row *r = &v->figure->panels[i].rows[k];
            const ot_setting *s = &r->row->setting;
            const char *const names[] = {v->figure->name, s->model, s->split, s->emulator, s->peft, r->method};
            for (size_t c = 0; c < sizeof names / sizeof *names; c++) csv_text(f, names[c]);
            csv_real(f, r->parameter);
            csv_real(f, s->lr);
            csv_text(f, r->row->measure);
            for (int c = 0; c < OT_ROLE_COUNT; c++) {
                csv_real(f, r->row->of[c].mean);
                csv_real(f, r->row->of[c].spread);
                fprintf(f, "%" PRId64 ",", r->row->of[c].n);
            }
            const double told[] = {r->gap, r->gap_spread, r->row->cpl, r->row->fidelity, r->row->exact};
            for (size_t c = 0; c < sizeof told / sizeof *told; c++) csv_real(f, told[c]);
            if (r->row->offer_bytes >= 0) fprintf(f, "%" PRId64, r->row->offer_bytes);
            fputc('\n', f);
        }
    }
}

static void json_number(ot_json_out *out, const char *key, const ot_number *n) {
    ot_json_out_object(out, key);
    ot_json_out_f64(out, "mean", n->mean);
    ot_json_out_f64(out, "spread", n->spread);
    ot_json_out_i64(out, "seeds", n->n);
    ot_json_out_end(out);
}

static void json_row(ot_json_out *out, const ot_figure_row *r) {
    ot_json_out_object(out, NULL);
    ot_json_out_str(out, "split", r->row->setting.split);
    ot_json_out_str(out, "emulator", r->row->setting.emulator);
    ot_json_out_str(out, "method", r->method);
    ot_json_out_f64(out, "parameter", r->parameter);
    ot_json_out_f64(out, "lr", r->row->setting.lr);
    for (int c = OT_ROLE_EMULATOR; c <= OT_ROLE_PLUG_IN; c++) json_number(out, ot_role_keys[c], &r->row->of[c]);
    ot_json_out_f64(out, "gap", r->gap);
    ot_json_out_f64(out, "gap_spread", r->gap_spread);
    ot_json_out_f64(out, "cpl", r->row->cpl);
    ot_json_out_f64(out, "fidelity", r->row->fidelity);
    ot_json_out_f64(out, "middle_exact", r->row->exact);
    ot_json_out_end(out);
}

static void json_panel(ot_json_out *out, const ot_figure_panel *p) {
    ot_json_out_object(out, NULL);
    ot_json_out_str(out, "title", p->title);
    ot_json_out_str(out, "measure", p->measure);
    ot_json_out_bool(out, "higher_is_better", p->higher);
    json_number(out, ot_role_keys[OT_ROLE_ZERO_SHOT], &p->zero);
    json_number(out, ot_role_keys[OT_ROLE_FULL], &p->full);
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
    char *text = NULL;
    int64_t size = 0;
    ot_runs runs = {0};
    OT_TRY(ot_read_file(config, FILE_LIMIT, &text, &size, err));
    ot_status status = ot_runs_parse(text, size, config, dir, &runs, err);
    if (status == OT_OK) status = ot_experiment_run(&runs, dir, ot_args_flag(args, "quiet"), summary, err);
    ot_runs_free(&runs);
    ot_free(text);
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
