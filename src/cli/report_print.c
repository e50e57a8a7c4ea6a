#include "cli/report_print.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "cli/output.h"
#include "cli/text.h"

static bool shown(const ot_report_view *v, int role) { return !v->data_owner || role == OT_ROLE_EMULATOR || role == OT_ROLE_TUNED; }
static const char *text_of(const char *text) { return text != NULL && *text != '\0' ? text : "-"; }
static const char *verdict(ot_verdict v) { return v == OT_HOLDS ? "yes" : v == OT_FAILS ? "NO" : "-"; }

static const char *number(const ot_number *n, char *room, size_t size) {
    if (n->n == 0) {
        snprintf(room, size, "-");
    } else if (isnan(n->spread)) {
        snprintf(room, size, "%.4g", n->mean);
    } else {
        snprintf(room, size, "%.4g ± %.2g", n->mean, n->spread);
    }
    return room;
}
static const char *real(double x, const char *format, char *room, size_t size) {
    if (isnan(x)) {
        snprintf(room, size, "-");
    } else if (strcmp(format, "%") == 0) {
        snprintf(room, size, "%.0f %%", 100.0 * x);
    } else {
        snprintf(room, size, "%.3g", x);
    }
    return room;
}
static const char *bytes(int64_t n, char *room, size_t size) {
    if (n >= 0) return ot_text_bytes(n, room, size);
    snprintf(room, size, "-");
    return room;
}

/* One cell of the three tables that people see. */
typedef struct cells {
    ot_table *table; /* NULL: Markdown into f */
    FILE *f;
} cells;
static void cell(const cells *c, const char *text) {
    if (c->table != NULL) {
        ot_table_cell(c->table, "%s", text);
        return;
    }
    fputs(" ", c->f);
    for (; *text != '\0'; text++) {
        if (*text == '|') fputc('\\', c->f);
        fputc((unsigned char)*text < 0x20 ? ' ' : *text, c->f);
    }
    fputs(" |", c->f);
}
static void begin(const cells *c) {
    if (c->table == NULL) fputc('|', c->f);
}
static void end(const cells *c) {
    if (c->table == NULL) fputc('\n', c->f);
}

static void who(const cells *c, const ot_report_row *r) {
    char room[64];
    cell(c, text_of(r->setting.model));
    cell(c, text_of(r->setting.split));
    cell(c, r->setting.emulator != NULL && *r->setting.emulator == '\0' ? "whole" : text_of(r->setting.emulator));
    cell(c, text_of(r->setting.peft));
    cell(c, real(r->setting.lr, "", room, sizeof room));
}

static void score_rows(const ot_report_view *v, const cells *c) {
    char room[96];
    for (int64_t i = 0; i < v->table->n; i++) {
        const ot_report_row *r = &v->table->rows[i];
        begin(c);
        cell(c, r->chosen ? "*" : "");
        who(c, r);
        cell(c, r->measure);
        for (int k = 0; k < OT_ROLE_COUNT; k++) {
            if (shown(v, k)) cell(c, number(&r->of[k], room, sizeof room));
        }
        if (!v->data_owner) {
            cell(c, verdict(r->gains));
            cell(c, verdict(r->needs_model));
            cell(c, verdict(r->close));
        }
        end(c);
    }
}

static void cost_rows(const ot_report_view *v, const cells *c) {
    char room[64];
    for (int64_t i = 0; i < v->table->n; i++) {
        const ot_report_row *r = &v->table->rows[i];
        bool first = true;
        for (int64_t k = 0; k < i && first; k++) {
            const ot_setting *a = &v->table->rows[k].setting, *b = &r->setting;
            first = !(strcmp(text_of(a->model), text_of(b->model)) == 0 && strcmp(text_of(a->split), text_of(b->split)) == 0 &&
                      strcmp(text_of(a->emulator), text_of(b->emulator)) == 0 && strcmp(text_of(a->peft), text_of(b->peft)) == 0 &&
                      (a->lr == b->lr || isnan(a->lr)));
        }
        if (!first) continue;
        begin(c);
        who(c, r);
        cell(c, real(r->seconds, "", room, sizeof room));
        cell(c, real(r->tokens_per_second, "", room, sizeof room));
        cell(c, bytes(r->peak_bytes, room, sizeof room));
        cell(c, bytes(r->offer_bytes, room, sizeof room));
        cell(c, bytes(r->return_bytes, room, sizeof room));
        if (!v->data_owner) {
            cell(c, real(r->exact, "%", room, sizeof room));
            cell(c, real(r->cpl, "", room, sizeof room));
            cell(c, real(r->fidelity, "", room, sizeof room));
        }
        end(c);
    }
}

static const ot_column score_columns[] = {{"", OT_LEFT}, {"model", OT_LEFT}, {"split", OT_LEFT}, {"emulator", OT_LEFT}, {"tuning", OT_LEFT}, {"rate", OT_RIGHT},
                                          {"measure", OT_LEFT}, {"zero-shot", OT_RIGHT}, {"emulator", OT_RIGHT}, {"tuned emulator", OT_RIGHT},
                                          {"plug-in", OT_RIGHT}, {"full", OT_RIGHT}, {"gains", OT_LEFT}, {"needs model", OT_LEFT}, {"near full", OT_LEFT}};
static const ot_column client_columns[] = {{"", OT_LEFT}, {"model", OT_LEFT}, {"split", OT_LEFT}, {"emulator", OT_LEFT}, {"tuning", OT_LEFT}, {"rate", OT_RIGHT},
                                           {"measure", OT_LEFT}, {"emulator", OT_RIGHT}, {"tuned emulator", OT_RIGHT}};
static const ot_column cost_columns[] = {{"model", OT_LEFT}, {"split", OT_LEFT}, {"emulator", OT_LEFT}, {"tuning", OT_LEFT}, {"rate", OT_RIGHT}, {"seconds", OT_RIGHT},
                                         {"tokens/s", OT_RIGHT}, {"memory", OT_RIGHT}, {"offer", OT_RIGHT}, {"return", OT_RIGHT}, {"middle exact", OT_RIGHT},
                                         {"CPL", OT_RIGHT}, {"fidelity", OT_RIGHT}};
enum { SCORE_COLUMNS = 15, CLIENT_COLUMNS = 9, COST_COLUMNS = 13, CLIENT_COST_COLUMNS = 10 };

static const char *foot(const ot_report_view *v) {
    return v->data_owner ? "* the rate with the best tuned emulator; ± is the spread over seeds"
                         : "* the rate with the best tuned emulator, never chosen by plug-in; ± is the spread over seeds; full: at its own best rate\n"
                           "gains: plug-in is better than zero-shot; needs model: better than the tuned emulator; near full: it has half or more of full fine-tuning's gain";
}

/* Failures of commands that only the other party runs are not told to the data owner. */
static void failures(const ot_report_view *v, FILE *f) {
    for (int64_t i = 0; i < v->report->n_steps; i++) {
        const ot_step_facts *s = &v->report->steps[i];
        if (!s->failed || (v->data_owner && strcmp(s->verb, "tune") != 0)) continue;
        fputs("failed: ", f);
        ot_put_safe(f, s->name);
        fputs(": ", f);
        ot_put_safe(f, s->error != NULL ? s->error : "no message");
        fputc('\n', f);
    }
}

ot_status ot_report_print(const ot_report_view *v, FILE *f, ot_error *err) {
    if (v->report->title != NULL) {
        ot_put_safe(f, v->report->title);
        fputs("\n\n", f);
    }
    ot_table scores = v->data_owner ? ot_table_begin(client_columns, CLIENT_COLUMNS) : ot_table_begin(score_columns, SCORE_COLUMNS);
    score_rows(v, &(cells){.table = &scores});
    OT_TRY(ot_table_print(&scores, f, err));
    fprintf(f, "%s\n\n", foot(v));
    ot_table costs = ot_table_begin(cost_columns, v->data_owner ? CLIENT_COST_COLUMNS : COST_COLUMNS);
    cost_rows(v, &(cells){.table = &costs});
    OT_TRY(ot_table_print(&costs, f, err));
    failures(v, f);
    return OT_OK;
}

static void markdown_head(FILE *f, const ot_column *columns, int n) {
    fputc('|', f);
    for (int i = 0; i < n; i++) fprintf(f, " %s |", columns[i].title);
    fputs("\n|", f);
    for (int i = 0; i < n; i++) fputs(columns[i].align == OT_RIGHT ? "---:|" : "---|", f);
    fputc('\n', f);
}

ot_status ot_report_print_markdown(const ot_report_view *v, FILE *f) {
    cells c = {.f = f};
    if (v->report->title != NULL) {
        fputs("# ", f);
        ot_put_safe(f, v->report->title);
        fputs("\n\n", f);
    }
    markdown_head(f, v->data_owner ? client_columns : score_columns, v->data_owner ? CLIENT_COLUMNS : SCORE_COLUMNS);
    score_rows(v, &c);
    fprintf(f, "\n\\%s\n\n", foot(v));
    markdown_head(f, cost_columns, v->data_owner ? CLIENT_COST_COLUMNS : COST_COLUMNS);
    cost_rows(v, &c);
    fputc('\n', f);
    failures(v, f);
    return OT_OK;
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

ot_status ot_report_print_csv(const ot_report_view *v, FILE *f) {
    fputs("model,split,emulator,peft,lr,measure,chosen,", f);
    for (int k = 0; k < OT_ROLE_COUNT; k++) {
        if (shown(v, k)) fprintf(f, "%s,%s_spread,%s_seeds,", ot_role_keys[k], ot_role_keys[k], ot_role_keys[k]);
    }
    if (!v->data_owner) fputs("recovered,middle_exact,cpl,fidelity,", f);
    fputs("seconds,tokens_per_second,peak_memory_bytes,offer_bytes,return_bytes\n", f);
    for (int64_t i = 0; i < v->table->n; i++) {
        const ot_report_row *r = &v->table->rows[i];
        const char *const names[] = {r->setting.model, r->setting.split, r->setting.emulator, r->setting.peft};
        for (size_t k = 0; k < 4; k++) csv_text(f, names[k]);
        csv_real(f, r->setting.lr);
        csv_text(f, r->measure);
        fprintf(f, "%d,", r->chosen);
        for (int k = 0; k < OT_ROLE_COUNT; k++) {
            if (!shown(v, k)) continue;
            csv_real(f, r->of[k].mean);
            csv_real(f, r->of[k].spread);
            fprintf(f, "%" PRId64 ",", r->of[k].n);
        }
        if (!v->data_owner) {
            const double told[] = {r->recovered, r->exact, r->cpl, r->fidelity};
            for (size_t k = 0; k < 4; k++) csv_real(f, told[k]);
        }
        csv_real(f, r->seconds);
        csv_real(f, r->tokens_per_second);
        if (r->peak_bytes >= 0) fprintf(f, "%" PRId64, r->peak_bytes);
        fputc(',', f);
        if (r->offer_bytes >= 0) fprintf(f, "%" PRId64, r->offer_bytes);
        fputc(',', f);
        if (r->return_bytes >= 0) fprintf(f, "%" PRId64, r->return_bytes);
        fputc('\n', f);
    }
    return OT_OK;
}

static void json_verdict(ot_json_out *out, const char *key, ot_verdict v) {
    if (v == OT_UNKNOWN) {
        ot_json_out_null(out, key);
    } else {
        ot_json_out_bool(out, key, v == OT_HOLDS);
    }
}
static void json_whole(ot_json_out *out, const char *key, int64_t n) {
    if (n < 0) {
        ot_json_out_null(out, key);
    } else {
        ot_json_out_i64(out, key, n);
    }
}

static void json_row(const ot_report_view *v, const ot_report_row *r, ot_json_out *out) {
    ot_json_out_object(out, NULL);
    ot_json_out_str(out, "model", r->setting.model);
    ot_json_out_str(out, "split", r->setting.split);
    ot_json_out_str(out, "emulator", r->setting.emulator);
    ot_json_out_str(out, "peft", r->setting.peft);
    ot_json_out_f64(out, "lr", r->setting.lr);
    ot_json_out_str(out, "measure", r->measure);
    ot_json_out_bool(out, "higher_is_better", r->higher);
    ot_json_out_bool(out, "chosen", r->chosen);
    for (int k = 0; k < OT_ROLE_COUNT; k++) {
        if (!shown(v, k)) continue;
        ot_json_out_object(out, ot_role_keys[k]);
        ot_json_out_f64(out, "mean", r->of[k].mean);
        ot_json_out_f64(out, "spread", r->of[k].spread);
        ot_json_out_i64(out, "seeds", r->of[k].n);
        ot_json_out_end(out);
    }
    if (!v->data_owner) {
        ot_json_out_object(out, "conditions");
        json_verdict(out, "gains", r->gains);
        json_verdict(out, "needs_model", r->needs_model);
        json_verdict(out, "near_full", r->close);
        ot_json_out_end(out);
        ot_json_out_f64(out, "recovered", r->recovered);
        ot_json_out_object(out, "leakage");
        ot_json_out_f64(out, "middle_exact", r->exact);
        ot_json_out_f64(out, "cpl", r->cpl);
        ot_json_out_f64(out, "fidelity", r->fidelity);
        ot_json_out_f64(out, "gap", r->of[OT_ROLE_PLUG_IN].mean - r->of[OT_ROLE_TUNED].mean);
        ot_json_out_end(out);
    }
    ot_json_out_object(out, "cost");
    ot_json_out_f64(out, "seconds", r->seconds);
    ot_json_out_f64(out, "tokens_per_second", r->tokens_per_second);
    json_whole(out, "peak_memory_bytes", r->peak_bytes);
    json_whole(out, "offer_bytes", r->offer_bytes);
    json_whole(out, "return_bytes", r->return_bytes);
    ot_json_out_end(out);
    ot_json_out_end(out);
}

ot_status ot_report_print_json(const ot_report_view *v, FILE *f, ot_error *err) {
    ot_json_out out = ot_json_out_open(f);
    ot_json_out_object(&out, NULL);
    ot_json_out_str(&out, "title", v->report->title);
    ot_json_out_array(&out, "rows");
    for (int64_t i = 0; i < v->table->n; i++) json_row(v, &v->table->rows[i], &out);
    ot_json_out_end(&out);
    ot_json_out_array(&out, "failed");
    for (int64_t i = 0; i < v->report->n_steps; i++) {
        const ot_step_facts *s = &v->report->steps[i];
        if (!s->failed || (v->data_owner && strcmp(s->verb, "tune") != 0)) continue;
        ot_json_out_object(&out, NULL);
        ot_json_out_str(&out, "name", s->name);
        ot_json_out_str(&out, "error", s->error);
        ot_json_out_end(&out);
    }
    return ot_json_out_close(&out, err);
}
