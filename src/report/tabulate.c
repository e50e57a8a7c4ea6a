/* Scores become rows: means over seeds, the rate chosen by the tuned emulator, the three conditions. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "report/report.h"

static bool same(const char *a, const char *b) { return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0); }
/* A part that plays no role in one of the two fits everything. */
static bool fits(const char *a, const char *b) { return a == NULL || b == NULL || strcmp(a, b) == 0; }
static bool same_rate(double a, double b) { return (isnan(a) && isnan(b)) || a == b; }
bool ot_report_same_kind(const ot_report_row *a, const ot_report_row *b) {
    return same(a->setting.model, b->setting.model) && same(a->setting.split, b->setting.split) && same(a->setting.emulator, b->setting.emulator) &&
           same(a->setting.peft, b->setting.peft) && same(a->setting.task, b->setting.task);
}
static bool same_group(const ot_report_row *a, const ot_report_row *b) { return ot_report_same_kind(a, b) && same(a->measure, b->measure); }
static bool part_of(const ot_setting *s, const ot_setting *row) {
    return fits(s->model, row->model) && fits(s->split, row->split) && fits(s->emulator, row->emulator) && fits(s->peft, row->peft) &&
           fits(s->task, row->task);
}
static bool better(double a, double b, bool higher) { return higher ? a > b : a < b; }

double ot_number_error(const ot_number *n) {
    double seeds = isnan(n->spread) || n->n < 1 ? NAN : n->spread / sqrt((double)n->n);
    return fmax(seeds, n->error); /* of one NAN and a number, the number */
}

const char *ot_number_text(const ot_number *n, char *room, size_t size) {
    if (n->n == 0) {
        snprintf(room, size, "-");
    } else if (isnan(n->spread)) {
        snprintf(room, size, "%.4g", n->mean);
    } else {
        snprintf(room, size, "%.4g ± %.2g", n->mean, n->spread);
    }
    return room;
}

double ot_report_shipped(const ot_report_row *row) { return fmax(row->exact, row->same); /* of one NAN and a number, the number */ }

static const ot_number no_number = {.mean = NAN, .spread = NAN, .error = NAN};

/* Mean and spread of one role at one rate (NAN: whatever the rate). */
static ot_number number(const ot_report *r, ot_role role, const ot_report_row *row, double lr) {
    ot_number out = no_number;
    double sum = 0.0, squares = 0.0, errors = 0.0;
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t i = 0; i < r->n_scores; i++) {
            const ot_score *s = &r->scores[i];
            if (s->role != role || strcmp(s->measure, row->measure) != 0 || !part_of(&s->setting, &row->setting)) continue;
            if (!isnan(s->setting.lr) && !same_rate(s->setting.lr, lr)) continue;
            if (pass == 0) {
                sum += s->value;
                errors += s->error;
                out.n++;
            } else {
                squares += (s->value - out.mean) * (s->value - out.mean);
            }
        }
        if (out.n == 0) return out;
        out.mean = sum / (double)out.n;
        out.error = errors / (double)out.n;
    }
    if (out.n > 1) out.spread = sqrt(squares / (double)(out.n - 1));
    return out;
}

/* The strongest baseline: full fine-tuning at its own best rate. */
static void full_numbers(const ot_report *r, ot_report_row *row) {
    ot_number best = no_number;
    for (int64_t i = 0; i < r->n_scores; i++) {
        const ot_score *s = &r->scores[i];
        if (s->role != OT_ROLE_FULL || strcmp(s->measure, row->measure) != 0 || !part_of(&s->setting, &row->setting)) continue;
        ot_number here = number(r, OT_ROLE_FULL, row, s->setting.lr);
        if (best.n > 0 && !better(here.mean, best.mean, row->higher)) continue;
        best = here;
        row->full_lr = s->setting.lr;
    }
    row->of[OT_ROLE_FULL] = best;
    for (int64_t i = 0; i < r->n_steps; i++) row->full_waits = row->full_waits || (r->steps[i].full_waits && part_of(&r->steps[i].setting, &row->setting));
}

/* The documents are the same on both sides, so that their errors mostly cancel: this asks for more than needed, never for less. */
static ot_verdict sure(const ot_number *a, const ot_number *b) {
    double ea = ot_number_error(a), eb = ot_number_error(b);
    if (isnan(ea) && isnan(eb)) return OT_UNKNOWN;
    double error = hypot(isnan(ea) ? 0.0 : ea, isnan(eb) ? 0.0 : eb);
    return fabs(a->mean - b->mean) > 2.0 * error ? OT_HOLDS : OT_FAILS;
}

static void conditions(ot_report_row *row) {
    const ot_number *zero = &row->of[OT_ROLE_ZERO_SHOT], *tuned = &row->of[OT_ROLE_TUNED], *plug = &row->of[OT_ROLE_PLUG_IN], *full = &row->of[OT_ROLE_FULL];
    if (plug->n == 0) return;
    if (zero->n > 0) {
        row->gains = better(plug->mean, zero->mean, row->higher) ? OT_HOLDS : OT_FAILS;
        row->sure_gain = sure(plug, zero);
    }
    if (tuned->n > 0) {
        row->needs_model = better(plug->mean, tuned->mean, row->higher) ? OT_HOLDS : OT_FAILS;
        row->sure_need = sure(plug, tuned);
    }
    if (zero->n == 0 || full->n == 0 || row->full_waits) return;
    double gain = full->mean - zero->mean;
    if (!better(full->mean, zero->mean, row->higher)) {
        row->close = better(full->mean, plug->mean, row->higher) ? OT_FAILS : OT_HOLDS;
        return;
    }
    row->recovered = (plug->mean - zero->mean) / gain;
    row->close = row->recovered >= 0.5 ? OT_HOLDS : OT_FAILS;
}

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/* Over the training runs of one verb at one rate. */
static ot_cost cost_of(const ot_report *r, const char *verb, const ot_setting *setting, double lr) {
    ot_cost c = {.seconds = NAN, .tokens_per_second = NAN, .pictures_per_second = NAN, .peak_bytes = -1, .trainable = -1};
    double speed = 0.0, pictures = 0.0, seconds = 0.0;
    int64_t n_speed = 0, n_seconds = 0;
    for (int64_t i = 0; i < r->n_steps; i++) {
        const ot_step_facts *f = &r->steps[i];
        if (f->failed || strcmp(f->verb, verb) != 0 || !part_of(&f->setting, setting)) continue;
        if (!isnan(f->setting.lr) && !same_rate(f->setting.lr, lr)) continue;
        c.peak_bytes = larger(c.peak_bytes, f->peak_bytes);
        c.trainable = larger(c.trainable, f->trainable);
        if (isfinite(f->seconds)) seconds += f->seconds, n_seconds++;
        if (isfinite(f->tokens_per_second)) speed += f->tokens_per_second, pictures += f->pictures_per_second, n_speed++;
    }
    if (n_seconds > 0) c.seconds = seconds / (double)n_seconds;
    if (n_speed > 0) {
        c.tokens_per_second = speed / (double)n_speed;
        c.pictures_per_second = pictures / (double)n_speed;
    }
    return c;
}

double ot_cost_speed(const ot_cost *cost, bool pictures) { return pictures ? cost->pictures_per_second : cost->tokens_per_second; }

bool ot_report_counts_pictures(const ot_report_table *t) {
    bool any = false;
    for (int64_t i = 0; i < t->n; i++) {
        const ot_cost *const costs[] = {&t->rows[i].tuning, &t->rows[i].full};
        for (int k = 0; k < 2; k++) {
            if (isfinite(costs[k]->tokens_per_second) && !isfinite(costs[k]->pictures_per_second)) return false;
            any = any || isfinite(costs[k]->pictures_per_second);
        }
    }
    return any;
}

/* From the commands of this row: the offer's, the return's, what training took. */
static void facts(const ot_report *r, ot_report_row *row, bool data_owner) {
    row->tuning = cost_of(r, "tune", &row->setting, row->setting.lr);
    if (!data_owner) row->full = cost_of(r, "finetune", &row->setting, row->full_lr);
    for (int64_t i = 0; i < r->n_steps; i++) {
        const ot_step_facts *f = &r->steps[i];
        if (f->failed || !part_of(&f->setting, &row->setting)) continue;
        if (strcmp(f->verb, "split") == 0) {
            row->offer_bytes = f->output_bytes;
            row->offer = f->offer;
            row->layers = f->layers;
            row->middle = data_owner ? -1 : f->middle;
            row->kept = data_owner ? -1 : f->kept;
            row->exact = data_owner ? NAN : f->exact;
            row->same = data_owner ? NAN : f->same;
            row->cpl = data_owner ? NAN : f->cpl;
            row->fidelity = data_owner ? NAN : f->fidelity;
            row->signs = data_owner ? NAN : f->signs;
        }
        bool measured_data = strcmp(row->measure, "perplexity") == 0 || strcmp(row->measure, "accuracy") == 0;
        if (measured_data && f->role == OT_ROLE_TUNED && f->data != NULL) row->data = f->data;
        if (strcmp(f->verb, "tune") == 0 && (isnan(f->setting.lr) || same_rate(f->setting.lr, row->setting.lr))) {
            row->return_bytes = larger(row->return_bytes, f->output_bytes);
        }
    }
}

static ot_status add_row(ot_report_table *t, const ot_score *s, ot_error *err) {
    static const ot_cost no_cost = {.seconds = NAN, .tokens_per_second = NAN, .pictures_per_second = NAN, .peak_bytes = -1, .trainable = -1};
    ot_report_row row = {.setting = s->setting, .measure = s->measure, .higher = s->higher, .full_lr = NAN, .recovered = NAN, .exact = NAN, .same = NAN, .cpl = NAN,
                         .fidelity = NAN, .signs = NAN, .tuning = no_cost, .full = no_cost, .offer_bytes = -1, .return_bytes = -1, .layers = -1, .middle = -1, .kept = -1, .documents = s->documents};
    row.setting.seed = -1;
    for (int k = 0; k < OT_ROLE_COUNT; k++) row.of[k] = no_number;
    for (int64_t i = 0; i < t->n; i++) {
        if (same_group(&t->rows[i], &row) && same_rate(t->rows[i].setting.lr, row.setting.lr)) return OT_OK;
    }
    OT_TRY(ot_grow((void **)&t->rows, &t->capacity, t->n + 1, (int64_t)sizeof *t->rows, "the report's rows", err));
    t->rows[t->n++] = row;
    return OT_OK;
}

/* By the emulator, which the data owner can measure; never by the plug-in. */
static void choose(ot_report_table *t) {
    for (int64_t i = 0; i < t->n; i++) {
        ot_report_row *row = &t->rows[i];
        row->chosen = row->of[OT_ROLE_TUNED].n > 0;
        for (int64_t k = 0; k < t->n && row->chosen; k++) {
            const ot_report_row *other = &t->rows[k];
            if (k == i || !same_group(row, other) || other->of[OT_ROLE_TUNED].n == 0) continue;
            double a = row->of[OT_ROLE_TUNED].mean, b = other->of[OT_ROLE_TUNED].mean;
            if (better(b, a, row->higher) || (a == b && k < i)) row->chosen = false;
        }
    }
}

ot_status ot_report_tabulate(const ot_report *r, bool data_owner, ot_report_table *out, ot_error *err) {
    *out = (ot_report_table){0};
    for (int64_t i = 0; i < r->n_scores; i++) {
        if (r->scores[i].role == OT_ROLE_TUNED) OT_TRY(add_row(out, &r->scores[i], err));
    }
    if (out->n == 0) return ot_fail(err, OT_ERR_REFUSED, "there is no score of a tuned emulator yet: nothing to report on");
    for (int64_t i = 0; i < out->n; i++) {
        ot_report_row *row = &out->rows[i];
        for (int k = 0; k < OT_ROLE_FULL; k++) {
            if (!data_owner || k == OT_ROLE_EMULATOR || k == OT_ROLE_TUNED) row->of[k] = number(r, (ot_role)k, row, row->setting.lr);
        }
        if (!data_owner) full_numbers(r, row);
        conditions(row);
        facts(r, row, data_owner);
    }
    choose(out);
    return OT_OK;
}

void ot_report_table_free(ot_report_table *t) {
    ot_free(t->rows);
    *t = (ot_report_table){0};
}
