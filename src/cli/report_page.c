#include "cli/report_page.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/report_charts.h"
#include "cli/report_paper.h"
#include "cli/text.h"

enum { LABEL = 1200 };

static const char *label_of(const ot_report_view *v, const ot_report_row *row, const char *otherwise, char text[LABEL]) {
    ot_report_label(v, row, text, LABEL);
    return *text != '\0' ? text : otherwise;
}

/* ==== Cells. ==== */

static void real_cell(ot_html *p, double x, const char *unit) {
    if (isnan(x)) {
        ot_html_cell(p, OT_TONE_MUTED, "-");
    } else if (strcmp(unit, "%") == 0) {
        ot_html_cell(p, OT_TONE_PLAIN, "%.0f %%", 100.0 * x);
    } else {
        ot_html_cell(p, OT_TONE_PLAIN, "%.3g%s", x, unit);
    }
}
static void count_cell(ot_html *p, int64_t n) {
    char room[32];
    ot_html_cell(p, n < 0 ? OT_TONE_MUTED : OT_TONE_PLAIN, "%s", n < 0 ? "-" : ot_text_count(n, room, sizeof room));
}
static void bytes_cell(ot_html *p, int64_t n) {
    char room[32];
    ot_html_cell(p, n < 0 ? OT_TONE_MUTED : OT_TONE_PLAIN, "%s", n < 0 ? "-" : ot_text_bytes(n, room, sizeof room));
}
static void speed_cell(ot_html *p, double x) {
    char room[32];
    if (x >= 1000.0 && x < 1e15) {
        ot_html_cell(p, OT_TONE_PLAIN, "%s", ot_text_count((int64_t)(x + 0.5), room, sizeof room));
    } else {
        real_cell(p, x, "");
    }
}
static void seconds_cell(ot_html *p, double s) {
    char room[32];
    ot_html_cell(p, isnan(s) ? OT_TONE_MUTED : OT_TONE_PLAIN, "%s", isnan(s) ? "-" : ot_text_seconds(s, room, sizeof room));
}
static void number_cell(ot_html *p, const ot_number *n, bool strong) {
    char room[64];
    ot_html_cell(p, n->n == 0 ? OT_TONE_MUTED : strong ? OT_TONE_STRONG : OT_TONE_PLAIN, "%s", ot_number_text(n, room, sizeof room));
}
static ot_tone tone_of(ot_verdict v) { return v == OT_HOLDS ? OT_TONE_GOOD : v == OT_FAILS ? OT_TONE_BAD : OT_TONE_MUTED; }
/* How many times ours is theirs. */
static void ratio_cell(ot_html *p, double ours, double theirs) { real_cell(p, theirs > 0.0 ? ours / theirs : NAN, " times"); }

/* Where there is one combination, naming it in every row would only take room. */
static bool several(const ot_report_view *v) {
    for (int part = 0; part < OT_PART_COUNT; part++) {
        if (v->varies[part]) return true;
    }
    return false;
}
static const char who[] = "combination", who_offer[] = "offer";
static int columns_of(const ot_report_view *v, const ot_html_column *all, int n, ot_html_column *out) {
    int used = 0;
    for (int i = 0; i < n; i++) {
        if (all[i].title != who) {
            out[used++] = all[i];
        } else if (several(v)) {
            out[used++] = (ot_html_column){v->data_owner ? who_offer : who, false};
        }
    }
    return used;
}
static void who_cell(const ot_report_view *v, ot_html *p, const ot_report_row *r) {
    char text[LABEL];
    if (several(v)) ot_html_cell(p, OT_TONE_PLAIN, "%s", label_of(v, r, "", text));
}

/* ==== Did it work? ==== */

/* As the table's columns say it. */
static void marks(ot_html *p, const ot_report_row *r) {
    for (int k = 0; k < OT_CONDITIONS; k++) {
        char room[64];
        const char *word = ot_condition_word(r, k);
        if (strcmp(word, "-") == 0) continue;
        snprintf(room, sizeof room, "%s: %s", ot_condition_names[k], word);
        ot_html_mark(p, tone_of(ot_condition(r, k)), room);
    }
}

static void verdict(const ot_report_view *v, const ot_report_row *r, ot_html *p) {
    static const ot_tone tones[] = {OT_TONE_PLAIN, OT_TONE_GOOD, OT_TONE_BAD, OT_TONE_BAD};
    char sentence[700], label[LABEL], heading[LABEL + 300], room[80], count[32];
    ot_outcome outcome = ot_report_sentence(r, v->data_owner, sentence, sizeof sentence);
    label_of(v, r, "", label);
    snprintf(heading, sizeof heading, "%.200s%s%s", r->measure, *label != '\0' ? ": " : "", label);
    ot_html_verdict(p, tones[outcome], heading, "%s", sentence);
    if (!v->data_owner) marks(p, r);
    if (r->of[OT_ROLE_TUNED].n > 0) {
        ot_text_of(r->of[OT_ROLE_TUNED].n, "seed", count, sizeof count);
        snprintf(room, sizeof room, "%s%s", count, r->of[OT_ROLE_TUNED].n == 1 ? ": no spread known" : "");
        ot_html_mark(p, OT_TONE_PLAIN, room);
    }
    if (r->documents > 0) {
        bool blocks = strcmp(r->measure, "perplexity") == 0, pictures = strcmp(r->measure, "accuracy") == 0;
        ot_html_mark(p, OT_TONE_PLAIN, ot_text_of(r->documents, blocks ? "block" : pictures ? "picture" : "document", room, sizeof room));
    }
    if (!isnan(r->setting.lr)) {
        snprintf(room, sizeof room, "learning rate %.3g", r->setting.lr);
        ot_html_mark(p, OT_TONE_PLAIN, room);
    }
    ot_html_verdict_end(p);
}

static void same_method(const ot_report_view *v, ot_html *p) {
    if (ot_report_full_by_method(v)) ot_html_note(p, "%s.", OT_REPORT_SAME_METHOD);
}

static void verdicts(const ot_report_view *v, ot_html *p) {
    const ot_report *r = v->report;
    char common[2400];
    ot_html_section(p, v->data_owner ? "Was something learnt?" : "Did it work?");
    ot_report_common(v, common, sizeof common);
    if (*common != '\0') ot_html_note(p, "%s", common);
    if (r->waiting > 0) {
        char room[64];
        ot_html_verdict(p, OT_TONE_PLAIN, "Not finished", "%s waiting%s%s: what follows may change.", ot_text_are(r->waiting, "command", room, sizeof room), r->running != NULL ? " or running, now " : "",
                        r->running != NULL ? r->running : "");
        ot_html_verdict_end(p);
    }
    for (int64_t i = 0; i < v->table->n; i++) {
        if (v->table->rows[i].chosen) verdict(v, &v->table->rows[i], p);
    }
    if (r->probed) ot_html_note(p, "%s.", OT_REPORT_PROBED);
    if (v->data_owner) return;
    same_method(v, p);
    ot_html_note(p, "Gains: plug-in is better than zero-shot. Needs model: plug-in is better than the tuned emulator, so that the return alone does not replace the model. "
                    "Near full: plug-in has half or more of the gain over zero-shot that full has.");
}

/* ==== Scores. ==== */

/* The n-th measure of the table, NULL: there are no more. */
static const char *measure_at(const ot_report_view *v, int64_t n) {
    for (int64_t i = 0; i < v->table->n; i++) {
        bool first = true;
        for (int64_t k = 0; k < i && first; k++) first = strcmp(v->table->rows[k].measure, v->table->rows[i].measure) != 0;
        if (first && n-- == 0) return v->table->rows[i].measure;
    }
    return NULL;
}

static ot_status scores(const ot_report_view *v, ot_html *p, ot_error *err) {
    ot_html_column columns[OT_ROLE_COUNT + 6] = {{"measure", false}, {who, false}}, shown[OT_ROLE_COUNT + 6];
    int n = 2;
    for (int k = 0; k < OT_ROLE_COUNT; k++) {
        if (ot_report_shows(v, k)) columns[n++] = (ot_html_column){ot_role_names[k], true};
    }
    for (int k = 0; k < OT_CONDITIONS && !v->data_owner; k++) columns[n++] = (ot_html_column){ot_condition_names[k], false};
    ot_html_section(p, v->data_owner ? "The emulator's two numbers" : "The five numbers");
    ot_html_table(p, "At the chosen learning rate; ± is the standard deviation over seeds", shown, columns_of(v, columns, n, shown));
    for (int64_t i = 0; i < v->table->n; i++) {
        const ot_report_row *r = &v->table->rows[i];
        if (!r->chosen) continue;
        ot_html_row(p, false);
        ot_html_cell(p, OT_TONE_PLAIN, "%s", r->measure);
        who_cell(v, p, r);
        for (int k = 0; k < OT_ROLE_COUNT; k++) {
            if (ot_report_shows(v, k)) number_cell(p, &r->of[k], k == OT_ROLE_PLUG_IN);
        }
        for (int k = 0; k < OT_CONDITIONS && !v->data_owner; k++) ot_html_cell(p, tone_of(ot_condition(r, k)), "%s", ot_condition_word(r, k));
    }
    ot_html_table_end(p);
    if (!v->data_owner) {
        ot_html_note(p, "Zero-shot: the whole model before. Emulator, tuned emulator: what the data owner holds, before and after tuning. Plug-in: the whole model with the return. "
                        "Full: the whole model tuned on the data, at its own best learning rate, which nobody in an exchange could do.");
        same_method(v, p);
    }
    const char *measure;
    ot_html_charts(p);
    for (int64_t i = 0; (measure = measure_at(v, i)) != NULL; i++) OT_TRY(ot_report_chart_scores(v, measure, p, err));
    ot_html_charts_end(p);
    ot_html_note(p, "Bars: standard deviation over seeds, or with one seed the standard error over documents where it is known.");
    return OT_OK;
}

static ot_status rates(const ot_report_view *v, ot_html *p, ot_error *err) {
    static const ot_html_column columns[] = {{"measure", false}, {who, false}, {"rate", true}, {"tuned emulator", true}, {"plug-in", true}, {"", false}};
    ot_html_section(p, "Which learning rate, and why");
    ot_html_paragraph(p, "Chosen by the tuned emulator's score, which the data owner can measure%s.",
                      v->data_owner ? "" : "; never by plug-in, which is known only when the return has been sent");
    const char *measure;
    ot_html_charts(p);
    for (int64_t i = 0; (measure = measure_at(v, i)) != NULL; i++) OT_TRY(ot_report_chart_rates(v, measure, p, err));
    ot_html_charts_end(p);
    ot_html_column shown[6], told[6];
    int n = 0;
    for (int k = 0; k < 6; k++) {
        if (k != 4 || !v->data_owner) told[n++] = columns[k];
    }
    ot_html_table(p, "Every learning rate", shown, columns_of(v, told, n, shown));
    for (int64_t i = 0; i < v->table->n; i++) {
        const ot_report_row *r = &v->table->rows[i];
        ot_html_row(p, r->chosen);
        ot_html_cell(p, OT_TONE_PLAIN, "%s", r->measure);
        who_cell(v, p, r);
        real_cell(p, r->setting.lr, "");
        number_cell(p, &r->of[OT_ROLE_TUNED], false);
        if (!v->data_owner) number_cell(p, &r->of[OT_ROLE_PLUG_IN], false);
        ot_html_cell(p, r->chosen ? OT_TONE_GOOD : OT_TONE_PLAIN, "%s", r->chosen ? "chosen" : "");
    }
    ot_html_table_end(p);
    return OT_OK;
}

static bool has_curve(const ot_report_view *v, const char *verb) {
    for (int64_t i = 0; i < v->report->n_steps; i++) {
        if (strcmp(v->report->steps[i].verb, verb) == 0 && v->report->steps[i].curve.n > 0) return true;
    }
    return false;
}

static ot_status losses(const ot_report_view *v, ot_html *p, ot_error *err) {
    bool full = !v->data_owner && has_curve(v, "finetune");
    if (!has_curve(v, "tune") && !full) return OT_OK;
    ot_html_section(p, "How the loss fell");
    ot_html_note(p, "Smoothed; one curve for each seed, one colour for each learning rate.");
    ot_html_charts(p);
    OT_TRY(ot_report_chart_losses(v, "tune", p, err));
    if (full) OT_TRY(ot_report_chart_losses(v, "finetune", p, err));
    ot_html_charts_end(p);
    return OT_OK;
}

/* ==== Cost and leakage. ==== */

static void cost_row(const ot_report_view *v, ot_html *p, const ot_report_row *r, const char *what, const ot_cost *c, double lr) {
    ot_html_row(p, r->chosen && c == &r->tuning);
    ot_html_cell(p, OT_TONE_PLAIN, "%s", what);
    who_cell(v, p, r);
    real_cell(p, lr, "");
    count_cell(p, c->trainable);
    seconds_cell(p, c->seconds);
    speed_cell(p, ot_cost_speed(c, ot_report_counts_pictures(v->table)));
    bytes_cell(p, c->peak_bytes);
}

static void costs(const ot_report_view *v, ot_html *p) {
    const char *speed = ot_report_counts_pictures(v->table) ? "pictures/s" : "tokens/s";
    const ot_html_column columns[] = {{"training", false}, {who, false}, {"rate", true}, {"trained parameters", true}, {"time", true},
                                      {speed, true}, {"peak memory", true}, {"speed against full", true}, {"memory against full", true}};
    static const ot_html_column passed[] = {{"what", false}, {who, false}, {"from", false}, {"to", false}, {"bytes", true}};
    ot_html_column shown[9];
    double spent = 0.0;
    char room[32], name[160];
    ot_html_section(p, "What it cost");
    ot_html_table(p, "One training run, the mean over seeds; memory is the largest of them", shown, columns_of(v, columns, v->data_owner ? 7 : 9, shown));
    for (int64_t i = 0; i < v->table->n; i++) {
        const ot_report_row *r = &v->table->rows[i];
        if (!ot_report_first(v, i, true)) continue;
        cost_row(v, p, r, "offsite", &r->tuning, r->setting.lr);
        if (!v->data_owner) ratio_cell(p, r->tuning.tokens_per_second, r->full.tokens_per_second);
        if (!v->data_owner) ratio_cell(p, (double)r->tuning.peak_bytes, (double)r->full.peak_bytes);
        bool full = !v->data_owner && (!isnan(r->full.seconds) || r->full.peak_bytes >= 0);
        if (full && ot_report_first(v, i, false)) cost_row(v, p, r, ot_report_full_name(&r->setting, name, sizeof name), &r->full, r->full_lr);
    }
    ot_html_table_end(p);
    if (!v->data_owner) ot_html_note(p, "Offsite: the adapter layers against the emulator. The other rows: the whole model. The shaded row has the chosen rate.");
    ot_html_table(p, "What passed between the two parties", shown, columns_of(v, passed, 5, shown));
    for (int64_t i = 0; i < v->table->n; i++) {
        const ot_report_row *r = &v->table->rows[i];
        const char *const ways[2][3] = {{"offer", "owner", "data owner"}, {"return", "data owner", "owner"}};
        for (int way = 0; way < 2 && ot_report_first(v, i, false); way++) {
            ot_html_row(p, false);
            ot_html_cell(p, OT_TONE_PLAIN, "%s", ways[way][0]);
            who_cell(v, p, r);
            ot_html_cell(p, OT_TONE_PLAIN, "%s", ways[way][1]);
            ot_html_cell(p, OT_TONE_PLAIN, "%s", ways[way][2]);
            bytes_cell(p, way == 0 ? r->offer_bytes : r->return_bytes);
        }
    }
    ot_html_table_end(p);
    for (int64_t i = 0; i < v->report->n_steps; i++) {
        const ot_step_facts *s = &v->report->steps[i];
        if (ot_report_tells(v, s) && isfinite(s->seconds)) spent += s->seconds;
    }
    if (spent > 0.0) ot_html_note(p, "All commands together took %s.", ot_text_seconds(spent, room, sizeof room));
    if (v->data_owner) ot_html_note(p, "A return holds the tuned tensors and a manifest: no text, no losses, no names of the data owner's files.");
}

static void leakage(const ot_report_view *v, ot_html *p) {
    static const ot_html_column columns[] = {{"offer", false}, {who, false}, {"middle shipped", true}, {"CPL", true}, {"fidelity", true}};
    static const ot_html_column gaps[] = {{"measure", false}, {who, false}, {"tuned emulator", true}, {"plug-in", true}, {"gap", true}};
    ot_html_column shown[6];
    ot_html_section(p, "What was given away");
    ot_html_table(p, "The emulator beside the middle that it stands for", shown, columns_of(v, columns, 5, shown));
    for (int64_t i = 0; i < v->table->n; i++) {
        const ot_report_row *r = &v->table->rows[i];
        if (!ot_report_first(v, i, false)) continue;
        ot_html_row(p, false);
        ot_html_cell(p, OT_TONE_PLAIN, "%.8s", r->offer != NULL ? r->offer : "-");
        who_cell(v, p, r);
        real_cell(p, ot_report_shipped(r), "%");
        real_cell(p, r->cpl, "");
        real_cell(p, r->fidelity, "");
    }
    ot_html_table_end(p);
    ot_html_table(p, "What the data owner lacks without the model", shown, columns_of(v, gaps, 5, shown));
    for (int64_t i = 0; i < v->table->n; i++) {
        const ot_report_row *r = &v->table->rows[i];
        const ot_number *tuned = &r->of[OT_ROLE_TUNED], *plug = &r->of[OT_ROLE_PLUG_IN];
        if (!r->chosen) continue;
        double gap = (r->higher ? 1.0 : -1.0) * (plug->mean - tuned->mean);
        ot_html_row(p, false);
        ot_html_cell(p, OT_TONE_PLAIN, "%s", r->measure);
        who_cell(v, p, r);
        number_cell(p, tuned, false);
        number_cell(p, plug, false);
        if (isnan(gap)) {
            ot_html_cell(p, OT_TONE_MUTED, "-");
        } else {
            ot_html_cell(p, gap > 0.0 ? OT_TONE_GOOD : OT_TONE_BAD, "%.3g", gap);
        }
    }
    ot_html_table_end(p);
    ot_html_note(p, "Middle shipped: the share of the middle that lies in the offer as it is in the model, bit by bit or the same to rounding, whichever is larger; it cannot be called back. CPL, capability left: the "
                    "model's perplexity of a public text by the emulator's; 1 is as good as the model, above 1 the emulator does better on that text. Fidelity: the cosine between the gradients that the adapter layers get from the "
                    "emulator and from the model; 1 is the same. A gap above 0 means that the tuned "
                    "emulator is worse than plug-in: the larger, the less the return is worth without the model.");
}

/* ==== What failed, and how it was made. ==== */

static void failures(const ot_report_view *v, ot_html *p) {
    static const ot_html_column columns[] = {{"command", false}, {"what it said", false}};
    const ot_report *r = v->report;
    int64_t n = 0;
    for (int64_t i = 0; i < r->n_steps; i++) n += r->steps[i].failed && ot_report_tells(v, &r->steps[i]);
    if (n == 0 && (r->skipped == 0 || v->data_owner)) return;
    ot_html_section(p, "What failed");
    if (n > 0) ot_html_table(p, "Commands that ended with an error", columns, 2);
    for (int64_t i = 0; i < r->n_steps; i++) {
        const ot_step_facts *s = &r->steps[i];
        if (!s->failed || !ot_report_tells(v, s)) continue;
        ot_html_row(p, false);
        ot_html_cell(p, OT_TONE_PLAIN, "%s", s->name);
        ot_html_cell(p, OT_TONE_PLAIN, "%s", s->error != NULL ? s->error : "no message");
    }
    if (n > 0) ot_html_table_end(p);
    char room[64];
    if (r->skipped > 0 && !v->data_owner) {
        ot_html_paragraph(p, "%s that need%s one of these %s left out.", ot_text_of(r->skipped, "command", room, sizeof room), r->skipped == 1 ? "s" : "",
                          r->skipped == 1 ? "was" : "were");
    }
}

/* The commands of one combination at its chosen rate and first seed, or of all. */
static bool of_chain(const ot_report_row *row, const ot_step_facts *s, int64_t *seed) {
    const ot_setting *a = &s->setting, *b = &row->setting;
    const char *const pairs[][2] = {{a->model, b->model}, {a->split, b->split}, {a->emulator, b->emulator}, {a->peft, b->peft}, {a->task, b->task}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        if (pairs[i][0] != NULL && pairs[i][1] != NULL && strcmp(pairs[i][0], pairs[i][1]) != 0) return false;
    }
    bool full = strcmp(s->verb, "finetune") == 0 || s->role == OT_ROLE_FULL;
    double lr = full ? row->full_lr : b->lr;
    if (!isnan(a->lr) && a->lr != lr) return false;
    if (a->seed >= 0 && *seed < 0) *seed = a->seed;
    return a->seed < 0 || a->seed == *seed;
}

static ot_status commands(const ot_report_view *v, ot_html *p, const ot_report_row *row, ot_error *err) {
    char *text = NULL;
    size_t size = 0;
    int64_t seed = -1;
    FILE *f = open_memstream(&text, &size);
    if (f == NULL) return ot_fail_memory(err, 4096, "a page");
    for (int64_t i = 0; i < v->report->n_steps; i++) {
        const ot_step_facts *s = &v->report->steps[i];
        if (s->command == NULL || !ot_report_tells(v, s) || (row != NULL && !of_chain(row, s, &seed))) continue;
        fprintf(f, "%s\n", s->command);
    }
    bool bad = ferror(f) != 0;
    bad = fclose(f) != 0 || bad;
    if (!bad && size > 0) ot_html_code(p, text);
    free(text);
    return bad ? ot_fail_memory(err, 4096, "a page") : OT_OK;
}

static ot_status made(const ot_report_view *v, ot_html *p, ot_error *err) {
    static const ot_html_column columns[] = {{"results", false}, {"program", false}, {"machine", false}};
    const ot_report *r = v->report;
    const ot_report_row *chosen = NULL;
    bool told = false;
    for (int64_t i = 0; i < r->n_steps; i++) told = told || r->steps[i].command != NULL;
    for (int64_t i = 0; i < v->table->n && chosen == NULL; i++) chosen = v->table->rows[i].chosen ? &v->table->rows[i] : NULL;
    ot_html_section(p, "How it was made");
    ot_html_table(p, "Where the results are from", columns, 3);
    for (int64_t i = 0; i < r->n_sources; i++) {
        const ot_report_source *s = &r->sources[i];
        ot_html_row(p, false);
        ot_html_cell(p, OT_TONE_PLAIN, "%s", s->dir);
        ot_html_cell(p, s->program != NULL ? OT_TONE_PLAIN : OT_TONE_MUTED, "%s", s->program != NULL ? s->program : "not told");
        ot_html_cell(p, s->machine != NULL ? OT_TONE_PLAIN : OT_TONE_MUTED, "%s", s->machine != NULL ? s->machine : "not told");
    }
    ot_html_table_end(p);
    for (int64_t i = 0; i < r->n_sources && !v->data_owner; i++) {
        if (r->sources[i].config == NULL) continue;
        ot_html_heading(p, "Settings");
        ot_html_code(p, r->sources[i].config);
    }
    if (!told) return OT_OK;
    if (chosen != NULL) {
        ot_html_heading(p, "Commands of the first combination, at its chosen rate and first seed");
        OT_TRY(commands(v, p, chosen, err));
    }
    ot_html_details(p, "All commands");
    OT_TRY(commands(v, p, NULL, err));
    ot_html_details_end(p);
    return OT_OK;
}

static ot_status fill(const ot_report_view *v, ot_html *p, ot_error *err) {
    verdicts(v, p);
    OT_TRY(scores(v, p, err));
    OT_TRY(rates(v, p, err));
    OT_TRY(losses(v, p, err));
    costs(v, p);
    if (!v->data_owner) leakage(v, p);
    if (!v->data_owner) ot_report_paper_page(v, p);
    failures(v, p);
    return made(v, p, err);
}

ot_status ot_report_page(const ot_report_view *v, const char *path, ot_error *err) {
    ot_html page;
    OT_TRY(ot_html_open(&page, v->report->title != NULL ? v->report->title : "Offsite-tuning report",
                        v->data_owner ? "Offsite-tuning: what the data owner can know" : "Offsite-tuning: whether it worked, what it cost and what it gave away", err));
    ot_status status = fill(v, &page, err);
    if (status == OT_OK) return ot_html_save(&page, path, err);
    ot_html_free(&page);
    return status;
}
