#include "cli/report_paper.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "cli/report_sheet.h"
#include "cli/text.h"
#include "report/paper.h"

enum { MAX_MEASURES = OT_MAX_COLUMNS - 1, TEXT = 1200 };

/* The paper's rows, in its order, and what they are called there. */
static const struct {
    ot_role role;
    const char *name;
} settings[] = {{OT_ROLE_ZERO_SHOT, "Full ZS"}, {OT_ROLE_EMULATOR, "Emulator ZS"}, {OT_ROLE_FULL, "FT"}, {OT_ROLE_TUNED, "OT Emulator"}, {OT_ROLE_PLUG_IN, "OT Plug-in"}};
enum { SETTINGS = sizeof settings / sizeof *settings };

/* Its columns. */
static const char *const names[][2] = {{"openbookqa acc", "OpenBookQA"}, {"piqa acc", "PIQA"}, {"arc_easy acc", "ARC-E"}, {"arc_challenge acc", "ARC-C"},
                                       {"hellaswag acc", "HellaSwag"}, {"sciq acc", "SciQ"}, {"webqs exact_match", "WebQs"}, {"race acc", "RACE"}};

static const char *paper_name(const char *measure) {
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(names[i][0], measure) == 0) return names[i][1];
    }
    return measure;
}

static bool same(const char *a, const char *b) { return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0); }
/* One block of the paper's tables: whatever the task whose rows were learnt. */
static bool same_block(const ot_report_row *a, const ot_report_row *b) {
    return same(a->setting.model, b->setting.model) && same(a->setting.split, b->setting.split) && same(a->setting.emulator, b->setting.emulator) &&
           same(a->setting.peft, b->setting.peft);
}
/* Whatever the tuning method too. */
static bool same_offer(const ot_report_row *a, const ot_report_row *b) {
    return same(a->setting.model, b->setting.model) && same(a->setting.split, b->setting.split) && same(a->setting.emulator, b->setting.emulator);
}
static bool is_first(const ot_report_view *v, int64_t i, bool (*alike)(const ot_report_row *, const ot_report_row *)) {
    for (int64_t k = 0; k < i; k++) {
        if (alike(&v->table->rows[k], &v->table->rows[i])) return false;
    }
    return true;
}

/* Percent with one digit and perplexities with two, as the paper prints them. */
static void put_value(ot_sheet *s, double x, bool higher) {
    char text[32];
    if (isnan(x)) {
        snprintf(text, sizeof text, "-");
    } else {
        snprintf(text, sizeof text, higher ? "%.1f%%" : "%.2f", higher ? 100.0 * x : x);
    }
    ot_sheet_cell(s, text);
}

/* ==== Tables 1, 2, 3. ==== */

/* acc_norm is in no table of the paper. */
static int64_t block_rows(const ot_report_view *v, const ot_report_row *of, const ot_report_row *rows[MAX_MEASURES]) {
    int64_t n = 0;
    for (int64_t i = 0; i < v->table->n && n < MAX_MEASURES; i++) {
        const ot_report_row *r = &v->table->rows[i];
        if (r->chosen && same_block(r, of) && strstr(r->measure, " acc_norm") == NULL) rows[n++] = r;
    }
    return n;
}

static ot_status block(const ot_report_view *v, const ot_report_row *of, FILE *f, bool markdown, ot_error *err) {
    const ot_report_row *rows[MAX_MEASURES];
    const ot_paper_score *theirs[MAX_MEASURES];
    ot_sheet s = {.f = f, .markdown = markdown};
    int64_t n = block_rows(v, of, rows);
    bool any = false;
    if (n == 0) return OT_OK;
    char what[TEXT];
    ot_report_describe(of, false, what, sizeof what);
    (markdown ? ot_put_markdown : ot_put_safe)(f, what);
    fputs("\n\n", f);
    ot_sheet_column(&s, "Setting", OT_LEFT);
    for (int64_t i = 0; i < n; i++) {
        ot_sheet_column(&s, paper_name(rows[i]->measure), OT_RIGHT);
        theirs[i] = ot_paper_find(rows[i]);
        any = any || theirs[i] != NULL;
    }
    ot_sheet_head(&s);
    for (int k = 0; k < SETTINGS; k++) {
        char name[64];
        ot_sheet_cell(&s, settings[k].name);
        for (int64_t i = 0; i < n; i++) put_value(&s, rows[i]->of[settings[k].role].mean, rows[i]->higher);
        if (!any) continue;
        snprintf(name, sizeof name, "  the paper's %s", settings[k].name);
        ot_sheet_cell(&s, name);
        for (int64_t i = 0; i < n; i++) put_value(&s, theirs[i] != NULL ? theirs[i]->of[settings[k].role] : NAN, rows[i]->higher);
    }
    OT_TRY(ot_sheet_end(&s, err));
    for (int64_t i = 0; i < n; i++) {
        if (theirs[i] == NULL) continue;
        char differs[200];
        ot_paper_differs(rows[i], theirs[i], differs, sizeof differs);
        fprintf(f, "%s%s: %s of the paper, %s%s%s", markdown ? "- " : "", paper_name(rows[i]->measure), theirs[i]->table, theirs[i]->model, *differs != '\0' ? "; " : "", differs);
        if (rows[i]->data != NULL && strcmp(rows[i]->measure, "perplexity") == 0) {
            fputs("; the paper's is that of WikiText-2, ours of ", f);
            (markdown ? ot_put_markdown : ot_put_safe)(f, rows[i]->data);
        }
        fputc('\n', f);
    }
    if (any) fputc('\n', f);
    return OT_OK;
}

/* ==== Table 5. ==== */

static const ot_paper_method *method_of(const ot_report_row *r, bool full) {
    const char *model = ot_paper_model(r);
    for (const ot_paper_method *m = ot_paper_methods; model != NULL && m->model != NULL; m++) {
        if (strcmp(m->model, model) != 0 || full != (m->peft == NULL)) continue;
        if (full || strncmp(r->setting.peft, m->peft, strlen(m->peft)) == 0) return m;
    }
    return NULL;
}

static void method_row(ot_sheet *s, const char *name, int64_t trained, double tuned, double plug, bool higher) {
    char room[32];
    ot_sheet_cell(s, name);
    ot_sheet_cell(s, trained >= 0 ? ot_text_count(trained, room, sizeof room) : "-");
    put_value(s, tuned, higher);
    put_value(s, plug, higher);
}

static ot_status methods(const ot_report_view *v, const ot_report_row *of, FILE *f, bool markdown, ot_error *err) {
    ot_sheet s = {.f = f, .markdown = markdown};
    bool several = false;
    for (int64_t i = 0; i < v->table->n; i++) several = several || (same_offer(&v->table->rows[i], of) && !same(v->table->rows[i].setting.peft, of->setting.peft));
    if (!several) return OT_OK;
    ot_sheet_column(&s, paper_name(of->measure), OT_LEFT);
    ot_sheet_column(&s, "trained parameters", OT_RIGHT);
    ot_sheet_column(&s, "emulator", OT_RIGHT);
    ot_sheet_column(&s, "plug-in", OT_RIGHT);
    ot_sheet_head(&s);
    char baseline[300];
    snprintf(baseline, sizeof baseline, "FT%s%.200s", ot_report_full_is_full(&of->setting) ? "" : " + ", ot_report_full_is_full(&of->setting) ? "" : of->setting.peft);
    if (of->of[OT_ROLE_FULL].n > 0) method_row(&s, baseline, of->full.trainable, NAN, of->of[OT_ROLE_FULL].mean, of->higher);
    const ot_paper_method *full = strcmp(of->measure, "perplexity") == 0 ? method_of(of, true) : NULL;
    if (full != NULL) method_row(&s, "  the paper's FT, WikiText-2", full->trained, full->tuned, full->plug_in, false);
    for (int64_t i = 0; i < v->table->n; i++) {
        const ot_report_row *r = &v->table->rows[i];
        char name[300];
        if (!r->chosen || !same_offer(r, of) || strcmp(r->measure, of->measure) != 0) continue;
        bool whole = r->setting.peft == NULL || strcmp(r->setting.peft, "full") == 0;
        snprintf(name, sizeof name, "OT%s%.200s", whole ? "" : " + ", whole ? "" : r->setting.peft);
        method_row(&s, name, r->tuning.trainable, r->of[OT_ROLE_TUNED].mean, r->of[OT_ROLE_PLUG_IN].mean, r->higher);
        const ot_paper_method *theirs = strcmp(r->measure, "perplexity") == 0 ? method_of(r, false) : NULL;
        if (theirs == NULL) continue;
        snprintf(name, sizeof name, "  the paper's %s, WikiText-2", theirs->name);
        method_row(&s, name, theirs->trained, theirs->tuned, theirs->plug_in, false);
    }
    return ot_sheet_end(&s, err);
}

/* ==== Table 6. ==== */

typedef struct speed_line {
    const char *name;
    double speed, bytes, base_speed, base_bytes;
} speed_line;

static void speed_row(ot_sheet *s, const speed_line *l) {
    char room[32];
    ot_sheet_cell(s, l->name);
    snprintf(room, sizeof room, "%.4g", l->speed);
    ot_sheet_cell(s, isnan(l->speed) ? "-" : room);
    snprintf(room, sizeof room, "%.0f", l->bytes / 1048576.0);
    ot_sheet_cell(s, l->bytes < 0.0 ? "-" : room);
    snprintf(room, sizeof room, "%.2f", l->speed / l->base_speed);
    ot_sheet_cell(s, isfinite(l->speed / l->base_speed) ? room : "-");
    snprintf(room, sizeof room, "%.2f", l->base_bytes / l->bytes);
    ot_sheet_cell(s, l->bytes > 0.0 && l->base_bytes > 0.0 ? room : "-");
}

static ot_status speeds(const ot_report_view *v, const ot_report_row *of, FILE *f, bool markdown, ot_error *err) {
    ot_sheet s = {.f = f, .markdown = markdown};
    const char *model = ot_paper_model(of);
    double base_speed = NAN, base_bytes = -1.0;
    bool pictures = ot_report_counts_pictures(v->table);
    const char *const titles[] = {pictures ? "pictures/s" : "tokens/s", "MiB", "times as fast", "times less memory"};
    /* All is set against full fine-tuning of the whole model with all its parameters. */
    for (int64_t i = 0; i < v->table->n; i++) {
        const ot_report_row *r = &v->table->rows[i];
        if (!r->chosen || !same_offer(r, of) || r->setting.peft == NULL || strcmp(r->setting.peft, "full") != 0) continue;
        base_speed = ot_cost_speed(&r->full, pictures);
        base_bytes = (double)r->full.peak_bytes;
    }
    ot_sheet_column(&s, "Method", OT_LEFT);
    for (int k = 0; k < 4; k++) ot_sheet_column(&s, titles[k], OT_RIGHT);
    ot_sheet_head(&s);
    for (int offsite = 0; offsite < 2; offsite++) {
        for (int64_t i = 0; i < v->table->n; i++) {
            const ot_report_row *r = &v->table->rows[i];
            const ot_cost *c = offsite ? &r->tuning : &r->full;
            char name[300];
            if (!r->chosen || !same_offer(r, of) || strcmp(r->measure, of->measure) != 0 || (isnan(c->tokens_per_second) && c->peak_bytes < 0)) continue;
            bool whole = r->setting.peft == NULL || strcmp(r->setting.peft, "full") == 0;
            snprintf(name, sizeof name, "%s%s%.200s", offsite ? "OT" : "FT", whole ? "" : " + ", whole ? "" : r->setting.peft);
            speed_row(&s, &(speed_line){name, ot_cost_speed(c, pictures), (double)c->peak_bytes, base_speed, base_bytes});
        }
    }
    double paper_tokens = NAN, paper_megabytes = NAN;
    for (const ot_paper_speed *p = ot_paper_speeds; model != NULL && p->model != NULL; p++) {
        char name[80];
        if (strcmp(p->model, model) != 0) continue;
        if (isnan(paper_tokens)) paper_tokens = p->tokens_per_second, paper_megabytes = p->megabytes;
        snprintf(name, sizeof name, "  the paper's %s, A6000 GPU, MB", p->name);
        speed_row(&s, &(speed_line){name, p->tokens_per_second, p->megabytes * 1048576.0, paper_tokens, paper_megabytes * 1048576.0});
    }
    return ot_sheet_end(&s, err);
}

ot_status ot_report_paper_print(const ot_report_view *v, FILE *f, bool markdown, ot_error *err) {
    bool any = false;
    for (int64_t i = 0; i < v->table->n; i++) any = any || ot_paper_model(&v->table->rows[i]) != NULL;
    if (!any) fputs("None of these models is one of the paper's (GPT2-XL, OPT-1.3B, OPT-6.7B, BLOOM-7.1B, CLIP-ViT-G, EVA-ViT-G): its numbers would not compare.\n\n", f);
    for (int64_t i = 0; i < v->table->n; i++) {
        if (is_first(v, i, same_block)) OT_TRY(block(v, &v->table->rows[i], f, markdown, err));
    }
    for (int64_t i = 0; i < v->table->n; i++) {
        const ot_report_row *r = &v->table->rows[i];
        if (!is_first(v, i, same_offer)) continue;
        OT_TRY(methods(v, r, f, markdown, err));
        OT_TRY(speeds(v, r, f, markdown, err));
    }
    return OT_OK;
}

/* ==== The page. ==== */

void ot_report_paper_page(const ot_report_view *v, ot_html *p) {
    static const ot_html_column columns[] = {{"measure", false}, {"whose", false}, {"zero-shot", true}, {"emulator", true}, {"tuned emulator", true},
                                             {"plug-in", true}, {"full", true}, {"what differs", false}};
    bool open = false;
    for (int64_t i = 0; i < v->table->n; i++) {
        const ot_report_row *r = &v->table->rows[i];
        const ot_paper_score *theirs = r->chosen ? ot_paper_find(r) : NULL;
        if (theirs == NULL) continue;
        if (!open) {
            ot_html_section(p, "Beside the paper");
            ot_html_note(p, "Offsite-Tuning, arXiv 2302.04870. Its numbers are shown where a model here is one of the paper's, by name and number of blocks; data, evaluation and "
                            "training are not thereby the same.");
            ot_html_table(p, "Ours and the paper's", columns, 8);
            open = true;
        }
        for (int whose = 0; whose < 2; whose++) {
            char text[TEXT];
            ot_html_row(p, whose == 0);
            ot_html_cell(p, OT_TONE_PLAIN, "%s", r->measure);
            ot_report_describe(r, false, text, sizeof text);
            if (whose == 0) ot_html_cell(p, OT_TONE_PLAIN, "%s", text);
            if (whose == 1) ot_html_cell(p, OT_TONE_PLAIN, "%s, %s, %s", theirs->table, theirs->model, theirs->split);
            for (int k = 0; k < OT_ROLE_COUNT; k++) {
                double x = whose == 0 ? r->of[k].mean : theirs->of[k];
                ot_html_cell(p, isnan(x) ? OT_TONE_MUTED : OT_TONE_PLAIN, isnan(x) ? "-" : "%.4g", x);
            }
            ot_paper_differs(r, theirs, text, sizeof text);
            ot_html_cell(p, OT_TONE_PLAIN, "%s", whose == 1 ? text : r->data != NULL ? r->data : "");
        }
    }
    if (open) ot_html_table_end(p);
}
