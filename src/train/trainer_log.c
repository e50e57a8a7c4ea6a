/* The log: one JSON object a line, for each step, each validation and each event of the guards; cut back to the checkpoint when a run is resumed.
 * "step" comes first in every line, in a grid "run" (from 0) second: cutting back looks at nothing else. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "train/trainer_internal.h"

static void begin_line(const ot_trainer *tr, int64_t step) {
    fprintf(tr->log, "{\"step\": %" PRId64, step);
    if (tr->options.run > 0) fprintf(tr->log, ", \"run\": %" PRId64, tr->options.run - 1);
}

static void number(FILE *f, const char *key, double value) {
    if (isfinite(value)) {
        fprintf(f, ", \"%s\": %.9g", key, value);
    } else {
        fprintf(f, ", \"%s\": null", key);
    }
}

static void guard_line(ot_trainer *tr, const ot_train_event *e) {
    const ot_guard_verdict *v = &e->guard;
    begin_line(tr, e->step);
    fprintf(tr->log, ", \"event\": \"%s\", \"action\": \"%s\"", ot_guard_kind_name(v->kind), ot_guard_action_name(v->action));
    number(tr->log, "loss", e->loss);
    number(tr->log, "grad_norm", e->grad_norm);
    if (v->kind != OT_GUARD_NOT_FINITE) {
        number(tr->log, "usual", v->usual);
        number(tr->log, "z", v->z);
    }
    fprintf(tr->log, ", \"in_a_row\": %" PRId64 ", \"rows\": [", v->in_a_row);
    int64_t rows = tr->options.batch * tr->options.grad_accum;
    for (int64_t i = 0; i < rows; i++) {
        fprintf(tr->log, "%s%" PRId64, i > 0 ? ", " : "", ot_trainer_row_number(tr, e->step * rows + i));
    }
    fputs("]}\n", tr->log);
}

ot_status ot_trainer_log(ot_trainer *tr, const ot_train_event *e, ot_error *err) {
    FILE *f = tr->log;
    if (f == NULL) return OT_OK;
    if (e->guard.kind != OT_GUARD_FINE) guard_line(tr, e);
    if (e->guard.kind == OT_GUARD_FINE || e->guard.action != OT_GUARD_STOPPED) {
        begin_line(tr, e->step);
        number(f, "epoch", e->epoch);
        number(f, "loss", e->loss);
        number(f, "learning_rate", e->learning_rate);
        number(f, "grad_norm", e->grad_norm);
        fprintf(f, ", \"tokens\": %" PRId64, e->tokens);
        if (e->skipped) fputs(", \"skipped\": true", f);
        number(f, "tokens_per_second", e->tokens_per_second);
        if (tr->train->pixels != NULL) number(f, "pictures_per_second", e->tokens_per_second / (double)tr->train->length);
        fprintf(f, ", \"peak_memory_bytes\": %" PRId64, e->peak_memory_bytes);
        if (!isnan(e->loss_lm)) number(f, "loss_lm", e->loss_lm);
        if (!isnan(e->loss_kd)) number(f, "loss_kd", e->loss_kd);
        if (!isnan(e->loss_hidden)) number(f, "loss_hidden", e->loss_hidden);
        if (!isnan(e->loss_kl)) number(f, "loss_kl", e->loss_kl);
        fputs("}\n", f);
    }
    if (e->validated) {
        begin_line(tr, e->step);
        number(f, "epoch", e->epoch);
        number(f, "valid_loss", e->valid_loss);
        fprintf(f, ", \"best\": %s}\n", e->best ? "true" : "false");
    }
    if (fflush(f) != 0) return ot_fail_errno(err, errno, "cannot write the log %s (the disk may be full)", tr->options.log_path);
    return OT_OK;
}

/* Was the line written before the state that the run now has? */
static bool is_kept(const ot_trainer *tr, const char *line) {
    static const char first[] = "{\"step\": ", second[] = ", \"run\": ";
    if (strncmp(line, first, sizeof first - 1) != 0 || strchr(line, '\n') == NULL) return false;
    char *end = NULL;
    long long step = strtoll(line + sizeof first - 1, &end, 10), run = 0;
    if (strncmp(end, second, sizeof second - 1) == 0) run = strtoll(end + sizeof second - 1, NULL, 10) + 1;
    if (run != tr->options.run) return run > 0 && run < tr->options.run;
    return step >= 0 && step < tr->step;
}

ot_status ot_trainer_open_log(ot_trainer *tr, ot_error *err) {
    const char *path = tr->options.log_path;
    bool goes_on = tr->step > 0 || tr->options.run > 1;
    if (path == NULL) return OT_OK;
    tr->log = fopen(path, goes_on ? "r+e" : "we");
    if (tr->log == NULL && goes_on && errno == ENOENT) tr->log = fopen(path, "we");
    if (tr->log == NULL) return ot_fail_errno(err, errno, "cannot write the log %s", path);
    if (!goes_on) return OT_OK;
    char *line = NULL;
    size_t capacity = 0;
    long keep = 0;
    while (getline(&line, &capacity, tr->log) > 0 && is_kept(tr, line)) keep = ftell(tr->log);
    free(line);
    if (fseek(tr->log, keep, SEEK_SET) != 0 || ftruncate(fileno(tr->log), keep) != 0) {
        return ot_fail_errno(err, errno, "cannot cut the log %s back to step %" PRId64, path, tr->step);
    }
    return OT_OK;
}
