#include "cli/report_print.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "cli/output.h"
#include "cli/report_sheet.h"
#include "cli/text.h"

const char *const ot_part_names[OT_PART_COUNT] = {"model", "split", "emulator", "offer", "tuning"};

const char *ot_part_text(const ot_report_row *row, ot_part part) {
    const ot_setting *s = &row->setting;
    const char *const texts[OT_PART_COUNT] = {s->model, s->split, s->emulator != NULL && *s->emulator == '\0' ? "whole" : s->emulator, row->offer, s->peft};
    return texts[part] != NULL && *texts[part] != '\0' ? texts[part] : "-";
}

static bool belongs(bool data_owner, int part) {
    return part == OT_PART_TUNING || (part == OT_PART_OFFER) == data_owner;
}

ot_report_view ot_report_view_of(const ot_report *report, const ot_report_table *table, bool data_owner) {
    ot_report_view v = {.report = report, .table = table, .data_owner = data_owner};
    for (int part = 0; part < OT_PART_COUNT; part++) {
        for (int64_t i = 1; i < table->n && belongs(data_owner, part); i++) {
            if (strcmp(ot_part_text(&table->rows[i], (ot_part)part), ot_part_text(&table->rows[0], (ot_part)part)) != 0) v.varies[part] = true;
        }
    }
    return v;
}

bool ot_report_full_by_method(const ot_report_view *v) {
    bool any = false;
    for (int64_t i = 0; i < v->table->n && !v->data_owner; i++) any = any || !ot_report_full_is_full(&v->table->rows[i].setting);
    return any;
}

bool ot_report_shows(const ot_report_view *v, int role) { return !v->data_owner || role == OT_ROLE_EMULATOR || role == OT_ROLE_TUNED; }

/* An offer's id is as good as unique in its first eight digits. */
static int part_width(ot_part part) { return part == OT_PART_OFFER ? 8 : 400; }

void ot_report_label(const ot_report_view *v, const ot_report_row *row, char *text, size_t size) {
    size_t used = 0;
    *text = '\0';
    for (int part = 0; part < OT_PART_COUNT; part++) {
        if (!v->varies[part] || used + 1 >= size) continue;
        snprintf(text + used, size - used, "%s%.*s", used > 0 ? ", " : "", part_width((ot_part)part), ot_part_text(row, (ot_part)part));
        used = strlen(text);
    }
}

void ot_report_common(const ot_report_view *v, char *text, size_t size) {
    const ot_report_row *row = &v->table->rows[0];
    size_t used = 0;
    *text = '\0';
    for (int part = 0; part < OT_PART_COUNT; part++) {
        if (v->varies[part] || !belongs(v->data_owner, part) || strcmp(ot_part_text(row, (ot_part)part), "-") == 0 || used + 1 >= size) continue;
        snprintf(text + used, size - used, "%s%s: %.*s", used > 0 ? "; " : "", ot_part_names[part], part_width((ot_part)part), ot_part_text(row, (ot_part)part));
        used = strlen(text);
        char blocks[64];
        if (part == OT_PART_OFFER && row->layers > 0) snprintf(text + used, size - used, " (%s)", ot_text_of(row->layers, "block", blocks, sizeof blocks));
        used = strlen(text);
    }
}

bool ot_report_first(const ot_report_view *v, int64_t row, bool each_rate) {
    const ot_report_row *r = &v->table->rows[row];
    for (int64_t i = 0; i < row; i++) {
        const ot_report_row *a = &v->table->rows[i];
        bool rate = !each_rate || a->setting.lr == r->setting.lr || (isnan(a->setting.lr) && isnan(r->setting.lr));
        if (rate && ot_report_same_kind(a, r)) return false;
    }
    return true;
}

bool ot_report_tells(const ot_report_view *v, const ot_step_facts *step) {
    bool own = strcmp(step->verb, "tune") == 0 || (strcmp(step->verb, "probe") == 0 && step->setting.emulator != NULL) || (strcmp(step->verb, "eval") == 0 && (step->role == OT_ROLE_EMULATOR || step->role == OT_ROLE_TUNED));
    return !v->data_owner || own;
}

const char *const ot_condition_names[OT_CONDITIONS] = {"gains", "needs model", "near full"};

ot_verdict ot_condition(const ot_report_row *row, int k) { return k == 0 ? row->gains : k == 1 ? row->needs_model : row->close; }

const char *ot_condition_word(const ot_report_row *row, int k) {
    ot_verdict v = ot_condition(row, k);
    if (v != OT_UNKNOWN) return v == OT_HOLDS ? "yes" : "NO";
    return k == 2 && row->full_waits ? "not yet" : "-";
}

/* ==== Tables for people, in a terminal or as Markdown. ==== */

static void add_parts(ot_sheet *s, const ot_report_view *v) {
    for (int part = 0; part < OT_PART_COUNT; part++) {
        if (v->varies[part]) ot_sheet_column(s, ot_part_names[part], OT_LEFT);
    }
    ot_sheet_column(s, "rate", OT_RIGHT);
}

static void part_cells(ot_sheet *s, const ot_report_view *v, const ot_report_row *r) {
    char room[420];
    for (int part = 0; part < OT_PART_COUNT; part++) {
        if (!v->varies[part]) continue;
        snprintf(room, sizeof room, "%.*s", part_width((ot_part)part), ot_part_text(r, (ot_part)part));
        ot_sheet_cell(s, room);
    }
    ot_sheet_real(s, r->setting.lr);
}

static ot_status scores(const ot_report_view *v, FILE *f, bool markdown, ot_error *err) {
    ot_sheet s = {.f = f, .markdown = markdown};
    ot_sheet_column(&s, "", OT_LEFT);
    add_parts(&s, v);
    ot_sheet_column(&s, "measure", OT_LEFT);
    for (int k = 0; k < OT_ROLE_COUNT; k++) {
        if (ot_report_shows(v, k)) ot_sheet_column(&s, ot_role_names[k], OT_RIGHT);
    }
    for (int k = 0; k < OT_CONDITIONS && !v->data_owner; k++) ot_sheet_column(&s, ot_condition_names[k], OT_LEFT);
    ot_sheet_head(&s);
    for (int64_t i = 0; i < v->table->n; i++) {
        const ot_report_row *r = &v->table->rows[i];
        ot_sheet_cell(&s, r->chosen ? "*" : "");
        part_cells(&s, v, r);
        ot_sheet_cell(&s, r->measure);
        for (int k = 0; k < OT_ROLE_COUNT; k++) {
            if (ot_report_shows(v, k)) ot_sheet_number(&s, &r->of[k]);
        }
        for (int k = 0; k < OT_CONDITIONS && !v->data_owner; k++) ot_sheet_cell(&s, ot_condition_word(r, k));
    }
    return ot_sheet_end(&s, err);
}

static ot_status costs(const ot_report_view *v, FILE *f, bool markdown, ot_error *err) {
    ot_sheet s = {.f = f, .markdown = markdown};
    add_parts(&s, v);
    bool pictures = ot_report_counts_pictures(v->table);
    const char *const titles[] = {"trained", "seconds", pictures ? "pictures/s" : "tokens/s", "memory", "offer", "return", "middle shipped", "CPL", "fidelity"};
    for (int k = 0; k < (v->data_owner ? 6 : 9); k++) ot_sheet_column(&s, titles[k], OT_RIGHT);
    ot_sheet_head(&s);
    for (int64_t i = 0; i < v->table->n; i++) {
        const ot_report_row *r = &v->table->rows[i];
        if (!ot_report_first(v, i, true)) continue;
        part_cells(&s, v, r);
        ot_sheet_count(&s, r->tuning.trainable);
        ot_sheet_real(&s, r->tuning.seconds);
        ot_sheet_real(&s, ot_cost_speed(&r->tuning, pictures));
        ot_sheet_bytes(&s, r->tuning.peak_bytes);
        ot_sheet_bytes(&s, r->offer_bytes);
        ot_sheet_bytes(&s, r->return_bytes);
        if (!v->data_owner) {
            ot_sheet_share(&s, ot_report_shipped(r), "", 0);
            ot_sheet_real(&s, r->cpl);
            ot_sheet_real(&s, r->fidelity);
        }
    }
    return ot_sheet_end(&s, err);
}

static const char *foot(const ot_report_view *v) {
    return v->data_owner ? "* the rate with the best tuned emulator; ± is the spread over seeds"
                         : "* the rate with the best tuned emulator, never chosen by plug-in; ± is the spread over seeds; full: at its own best rate\n"
                           "gains: plug-in is better than zero-shot; needs model: better than the tuned emulator; near full: it has half or more of the gain that full has\n"
                           "middle shipped: of the middle's values, those that the offer has bit by bit, or the same to rounding, whichever are more";
}

/* The answer first: a sentence for each combination and measure, at the chosen rate. */
static void verdicts(const ot_report_view *v, FILE *f, bool markdown) {
    void (*put)(FILE *, const char *) = markdown ? ot_put_markdown : ot_put_safe;
    for (int64_t i = 0; i < v->table->n; i++) {
        const ot_report_row *r = &v->table->rows[i];
        char label[1200], sentence[600];
        if (!r->chosen) continue;
        ot_report_label(v, r, label, sizeof label);
        ot_report_sentence(r, v->data_owner, sentence, sizeof sentence);
        fputs(markdown ? "- **" : "", f);
        put(f, r->measure);
        if (*label != '\0') fputs(", ", f);
        put(f, label);
        fputs(markdown ? "**: " : ": ", f);
        fputs(sentence, f);
        fputc('\n', f);
    }
    fputc('\n', f);
}

static void failures(const ot_report_view *v, FILE *f, bool markdown) {
    void (*put)(FILE *, const char *) = markdown ? ot_put_markdown : ot_put_safe;
    const ot_report *r = v->report;
    for (int64_t i = 0; i < r->n_steps; i++) {
        const ot_step_facts *s = &r->steps[i];
        if (!s->failed || !ot_report_tells(v, s)) continue;
        fputs(markdown ? "- failed: " : "failed: ", f);
        put(f, s->name);
        fputs(": ", f);
        put(f, s->error != NULL ? s->error : "no message");
        fputc('\n', f);
    }
    char room[64];
    if (r->waiting > 0) fprintf(f, "not done: %s still waiting or running\n", ot_text_are(r->waiting, "command", room, sizeof room));
}

static void common(const ot_report_view *v, FILE *f, bool markdown) {
    char text[2400];
    ot_report_common(v, text, sizeof text);
    if (*text == '\0') return;
    (markdown ? ot_put_markdown : ot_put_safe)(f, text);
    fputs("\n\n", f);
}

ot_status ot_report_print(const ot_report_view *v, FILE *f, ot_error *err) {
    if (v->report->title != NULL) {
        ot_put_safe(f, v->report->title);
        fputs("\n\n", f);
    }
    verdicts(v, f, false);
    common(v, f, false);
    OT_TRY(scores(v, f, false, err));
    fprintf(f, "%s\n%s%s\n", foot(v), ot_report_full_by_method(v) ? OT_REPORT_SAME_METHOD "\n" : "", v->report->probed ? OT_REPORT_PROBED "\n" : "");
    OT_TRY(costs(v, f, false, err));
    failures(v, f, false);
    return OT_OK;
}

ot_status ot_report_print_markdown(const ot_report_view *v, FILE *f) {
    ot_error ignored;
    if (v->report->title != NULL) {
        fputs("# ", f);
        ot_put_markdown(f, v->report->title);
        fputs("\n\n", f);
    }
    verdicts(v, f, true);
    common(v, f, true);
    scores(v, f, true, &ignored);
    fprintf(f, "\\%s\n%s%s\n", foot(v), ot_report_full_by_method(v) ? OT_REPORT_SAME_METHOD "\n" : "", v->report->probed ? OT_REPORT_PROBED "\n" : "");
    costs(v, f, true, &ignored);
    failures(v, f, true);
    return OT_OK;
}

/* ==== For machines. ==== */

static void csv_cost(FILE *f, const ot_cost *c) {
    ot_csv_real(f, c->seconds);
    ot_csv_real(f, c->tokens_per_second);
    ot_csv_whole(f, c->peak_bytes);
}

/* New columns go to the end: scripts count them. */
ot_status ot_report_print_csv(const ot_report_view *v, FILE *f) {
    fputs(v->data_owner ? "offer,peft,lr,measure,chosen," : "model,split,emulator,peft,lr,measure,chosen,", f);
    for (int k = 0; k < OT_ROLE_COUNT; k++) {
        if (ot_report_shows(v, k)) ot_csv_roles(f, ot_role_keys[k]);
    }
    if (!v->data_owner) fputs("recovered,middle_exact,cpl,fidelity,", f);
    fputs("seconds,tokens_per_second,peak_memory_bytes,offer_bytes,return_bytes,trained", f);
    if (!v->data_owner) fputs(",full_lr,full_seconds,full_tokens_per_second,full_peak_memory_bytes,full_trained", f);
    for (int k = 0; k < OT_ROLE_COUNT; k++) {
        if (ot_report_shows(v, k)) fprintf(f, ",%s_stderr", ot_role_keys[k]);
    }
    fputs(v->data_owner ? ",documents\n" : ",documents,middle_same,middle_shipped\n", f);
    for (int64_t i = 0; i < v->table->n; i++) {
        const ot_report_row *r = &v->table->rows[i];
        const char *const names[] = {r->setting.model, r->setting.split, r->setting.emulator};
        for (size_t k = 0; k < 3 && !v->data_owner; k++) ot_csv_text(f, names[k]);
        if (v->data_owner) ot_csv_text(f, r->offer);
        ot_csv_text(f, r->setting.peft);
        ot_csv_real(f, r->setting.lr);
        ot_csv_text(f, r->measure);
        fprintf(f, "%d,", r->chosen);
        for (int k = 0; k < OT_ROLE_COUNT; k++) {
            if (ot_report_shows(v, k)) ot_csv_number(f, &r->of[k]);
        }
        const double told[] = {r->recovered, r->exact, r->cpl, r->fidelity};
        for (size_t k = 0; k < 4 && !v->data_owner; k++) ot_csv_real(f, told[k]);
        csv_cost(f, &r->tuning);
        ot_csv_whole(f, r->offer_bytes);
        ot_csv_whole(f, r->return_bytes);
        ot_csv_whole(f, r->tuning.trainable);
        if (!v->data_owner) {
            ot_csv_real(f, r->full_lr);
            csv_cost(f, &r->full);
            ot_csv_whole(f, r->full.trainable);
        }
        for (int k = 0; k < OT_ROLE_COUNT; k++) {
            if (ot_report_shows(v, k)) ot_csv_real(f, r->of[k].error);
        }
        if (r->documents >= 0) fprintf(f, "%" PRId64, r->documents);
        if (!v->data_owner) {
            fputc(',', f);
            ot_csv_real(f, r->same);
            if (isfinite(ot_report_shipped(r))) fprintf(f, "%.9g", ot_report_shipped(r));
        }
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

static void json_cost(ot_json_out *out, const ot_cost *c) {
    ot_json_out_f64(out, "seconds", c->seconds);
    ot_json_out_f64(out, "tokens_per_second", c->tokens_per_second);
    json_whole(out, "peak_memory_bytes", c->peak_bytes);
    json_whole(out, "trained", c->trainable);
}

static void json_row(const ot_report_view *v, const ot_report_row *r, ot_json_out *out) {
    char sentence[600];
    ot_json_out_object(out, NULL);
    ot_json_out_str(out, "offer", r->offer);
    if (!v->data_owner) {
        ot_json_out_str(out, "model", r->setting.model);
        ot_json_out_str(out, "split", r->setting.split);
        ot_json_out_str(out, "emulator", r->setting.emulator);
    }
    ot_json_out_str(out, "peft", r->setting.peft);
    ot_json_out_f64(out, "lr", r->setting.lr);
    ot_json_out_str(out, "measure", r->measure);
    ot_json_out_bool(out, "higher_is_better", r->higher);
    ot_json_out_bool(out, "chosen", r->chosen);
    json_whole(out, "documents", r->documents);
    for (int k = 0; k < OT_ROLE_COUNT; k++) {
        if (ot_report_shows(v, k)) ot_json_out_number(out, ot_role_keys[k], &r->of[k]);
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
        ot_json_out_f64(out, "middle_same", r->same);
        ot_json_out_f64(out, "middle_shipped", ot_report_shipped(r));
        ot_json_out_f64(out, "cpl", r->cpl);
        ot_json_out_f64(out, "fidelity", r->fidelity);
        ot_json_out_f64(out, "gap", r->of[OT_ROLE_PLUG_IN].mean - r->of[OT_ROLE_TUNED].mean);
        ot_json_out_end(out);
    }
    ot_json_out_object(out, "cost");
    json_cost(out, &r->tuning);
    json_whole(out, "offer_bytes", r->offer_bytes);
    json_whole(out, "return_bytes", r->return_bytes);
    ot_json_out_end(out);
    if (!v->data_owner) {
        ot_json_out_object(out, "full_cost");
        ot_json_out_f64(out, "lr", r->full_lr);
        json_cost(out, &r->full);
        ot_json_out_end(out);
    }
    ot_report_sentence(r, v->data_owner, sentence, sizeof sentence);
    ot_json_out_str(out, "verdict", sentence);
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
        if (!s->failed || !ot_report_tells(v, s)) continue;
        ot_json_out_object(&out, NULL);
        ot_json_out_str(&out, "name", s->name);
        ot_json_out_str(&out, "error", s->error);
        ot_json_out_end(&out);
    }
    ot_json_out_end(&out);
    ot_json_out_i64(&out, "waiting", v->report->waiting);
    return ot_json_out_close(&out, err);
}
