/* Checkpoints: one safetensors file, written atomically, with masters, the optimizer's state, the best weights, and the loop's state in its metadata.
 * Everything else of a step (data order, dropout masks, schedule) is a function of the step number and the seed. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "format/json.h"
#include "format/safetensors.h"
#include "train/trainer_internal.h"

/* What is kept of every tensor, in this order: its master, the optimizer's states, its best values. */
enum { N_PARTS = OT_OPTIMIZER_STATES + 2, MASTER = 0, BEST = N_PARTS - 1 };

/* Where part `part` of a tensor lies, under which name; false when there is none. */
static bool part_of(const ot_trainables *t, int part, const ot_trainable *item, char name[512], ot_tensor *out, void **data) {
    int64_t count = item->count;
    const char *prefix = part == MASTER ? "master" : "best";
    *out = (ot_tensor){.dtype = OT_F32, .n_dims = item->n_dims, .shape = {item->shape[0], item->shape[1]}};
    if (part == MASTER || part == BEST) {
        float *arena = part == MASTER ? t->master : t->best;
        if (arena == NULL) return false;
        *data = arena + item->offset;
    } else {
        const ot_optimizer_state *state = &t->optimizer.optimizer->states[part - 1];
        if (state->kind == OT_STATE_NONE) return false;
        prefix = state->name;
        out->dtype = ot_trainables_state(t, part - 1, item, data, &count);
        if (count != item->count) {
            out->n_dims = 1;
            out->shape[0] = count;
        }
    }
    out->bytes = count * (out->dtype == OT_U8 ? 1 : 4);
    out->data = *data;
    snprintf(name, 512, "%s.%s", prefix, item->name);
    return true;
}

static ot_status declare(const ot_trainables *t, ot_arena *names, ot_tensor *tensors, int64_t *count, ot_error *err) {
    for (int p = 0; p < N_PARTS; p++) {
        for (int64_t i = 0; i < t->n_items; i++) {
            char name[512];
            void *data = NULL;
            ot_tensor *out = &tensors[*count];
            if (!part_of(t, p, &t->items[i], name, out, &data)) break;
            out->name = ot_arena_strdup(names, name, err);
            if (out->name == NULL) return OT_ERR_MEMORY;
            ++*count;
        }
    }
    return OT_OK;
}

/* Doubles as hexadecimal floats: exact. */
ot_status ot_trainer_save(ot_trainer *tr, ot_error *err) {
    ot_arena arena = {0};
    ot_tensor *tensors = ot_arena_alloc(&arena, tr->t->n_items * N_PARTS * (int64_t)sizeof *tensors, err);
    if (tensors == NULL) return OT_ERR_MEMORY;
    int64_t count = 0;
    ot_status status = declare(tr->t, &arena, tensors, &count, err);
    char step[24], tokens[24], best_step[24], best[40], last[40], loss[40];
    snprintf(step, sizeof step, "%" PRId64, tr->step);
    snprintf(tokens, sizeof tokens, "%" PRId64, tr->tokens);
    snprintf(best_step, sizeof best_step, "%" PRId64, tr->best_step);
    snprintf(best, sizeof best, "%a", tr->best_valid);
    snprintf(last, sizeof last, "%a", tr->last_valid);
    snprintf(loss, sizeof loss, "%a", tr->last_loss);
    const char *metadata[] = {"kind", "offsite checkpoint", "version", "1", "fingerprint", tr->options.fingerprint, "step", step, "tokens", tokens,
                              "best_step", best_step, "best_valid_loss", best, "valid_loss", last, "loss", loss, NULL};
    if (status == OT_OK) status = ot_safetensors_write(tr->options.checkpoint_path, tensors, count, metadata, err);
    ot_arena_free(&arena);
    return status;
}

static ot_status read_part(const ot_safetensors *st, const ot_trainables *t, int part, ot_error *err) {
    for (int64_t i = 0; i < t->n_items; i++) {
        char name[512];
        ot_tensor wanted;
        void *data = NULL;
        if (!part_of(t, part, &t->items[i], name, &wanted, &data)) break;
        const ot_tensor *tensor = ot_safetensors_find(st, name);
        if (tensor == NULL || tensor->dtype != wanted.dtype || tensor->bytes != wanted.bytes) {
            return ot_fail(err, OT_ERR_FORMAT, "%s: the checkpoint has no fitting tensor %s: begin again with --force", ot_safetensors_path(st), name);
        }
        memcpy(data, tensor->data, (size_t)tensor->bytes);
    }
    return OT_OK;
}

static const char *text_of(const ot_safetensors *st, const char *key) {
    const char *text = ot_safetensors_metadata(st, key);
    return text == NULL ? "" : text;
}

ot_status ot_trainer_load(ot_trainer *tr, ot_error *err) {
    const char *path = tr->options.checkpoint_path;
    if (!ot_path_exists(path)) return OT_OK;
    ot_safetensors *st = NULL;
    OT_TRY(ot_safetensors_open(path, &st, err));
    ot_status status = OT_OK;
    if (strcmp(text_of(st, "kind"), "offsite checkpoint") != 0) {
        status = ot_fail(err, OT_ERR_FORMAT, "%s is no checkpoint of this program", path);
    } else if (strcmp(text_of(st, "version"), "1") != 0) {
        status = ot_fail(err, OT_ERR_UNSUPPORTED, "%s: checkpoints of version %s are not supported: this program reads version 1", path,
                         text_of(st, "version"));
    } else if (strcmp(text_of(st, "fingerprint"), tr->options.fingerprint) != 0) {
        status = ot_fail(err, OT_ERR_REFUSED,
                         "%s was made by a run with other settings, data or model: give the same command as before, or start afresh with --force", path);
    }
    for (int p = 0; status == OT_OK && p < N_PARTS; p++) status = read_part(st, tr->t, p, err);
    if (status == OT_OK) {
        tr->step = strtoll(text_of(st, "step"), NULL, 10);
        tr->tokens = strtoll(text_of(st, "tokens"), NULL, 10);
        tr->best_step = strtoll(text_of(st, "best_step"), NULL, 10);
        tr->best_valid = strtod(text_of(st, "best_valid_loss"), NULL);
        tr->last_valid = strtod(text_of(st, "valid_loss"), NULL);
        tr->last_loss = strtod(text_of(st, "loss"), NULL);
        if (tr->step < 0 || tr->step > tr->options.steps) {
            status = ot_fail(err, OT_ERR_FORMAT, "%s: step %" PRId64 " is outside this run of %" PRId64, path, tr->step, tr->options.steps);
        }
        ot_trainables_refresh(tr->t);
    }
    ot_safetensors_close(st);
    return status;
}
