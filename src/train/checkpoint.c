/* Checkpoints: one safetensors file, written atomically, with masters, the optimizer's state, the best weights, and the loop's state in its metadata.
 * Everything else of a step (data order, dropout masks, schedule) is a function of the step number and the seed; of streamed text
 * the place is kept. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

/* ==== The loop's state, as texts in the metadata. ==== */

/* Doubles as hexadecimal floats: exact. A checkpoint without one of the later fields has it zero. */
typedef struct field {
    const char *key;
    int64_t *whole;
    double *real; /* when there is no whole */
} field;

enum { N_FIELDS = 29, FIELD_TEXT = 40 };

static void fields_of(ot_trainer *tr, int64_t *run, field out[N_FIELDS]) {
    ot_guard *g = &tr->guard;
    ot_stream_place *d = &tr->place;
    const field all[N_FIELDS] = {{"step", &tr->step, NULL},
                                 {"tokens", &tr->tokens, NULL},
                                 {"best_step", &tr->best_step, NULL},
                                 {"best_valid_loss", NULL, &tr->best_valid},
                                 {"valid_loss", NULL, &tr->last_valid},
                                 {"loss", NULL, &tr->last_loss},
                                 {"run", run, NULL},
                                 {"stale", &tr->stale, NULL},
                                 {"guard.skipped", &g->skipped, NULL},
                                 {"guard.in_a_row", &g->in_a_row, NULL},
                                 {"guard.spikes", &g->spikes, NULL},
                                 {"guard.loss.n", NULL, &g->loss.n},
                                 {"guard.loss.mean", NULL, &g->loss.mean},
                                 {"guard.loss.variance", NULL, &g->loss.variance},
                                 {"guard.norm.n", NULL, &g->norm.n},
                                 {"guard.norm.mean", NULL, &g->norm.mean},
                                 {"guard.norm.variance", NULL, &g->norm.variance},
                                 {"guard.start", NULL, &g->start},
                                 {"guard.diverged", &g->diverged, NULL},
                                 {"data.epoch", &d->epoch, NULL},
                                 {"data.window", &d->window, NULL},
                                 {"data.file", &d->file, NULL},
                                 {"data.offset", &d->offset, NULL},
                                 {"data.skip", &d->skip, NULL},
                                 {"data.line", &d->line, NULL},
                                 {"data.read", &d->read, NULL},
                                 {"data.first_row", &d->first_row, NULL},
                                 {"data.taken", &d->taken, NULL},
                                 {"", NULL, NULL}};
    memcpy(out, all, sizeof all);
}

/* ==== Older checkpoints: checkpoint.safetensors.000000120 beside checkpoint.safetensors. ==== */

enum { PATH_TEXT = 4300, DIGITS = 9, MOST_OLD = 1000 };

/* Steps of the older ones, the newest last. */
static ot_status older(const char *path, int64_t *steps, int64_t *count, ot_error *err) {
    char folder[PATH_TEXT];
    const char *base = ot_path_base(path);
    size_t base_size = strlen(base);
    *count = 0;
    if (snprintf(folder, sizeof folder, "%.*s", (int)(base - path), path) >= (int)sizeof folder) return OT_OK;
    if (*folder == '\0') snprintf(folder, sizeof folder, ".");
    if (!ot_path_is_dir(folder)) return OT_OK;
    ot_arena arena = {0};
    char **names = NULL;
    int64_t n = 0;
    ot_status status = ot_list_dir(folder, &arena, &names, &n, err);
    for (int64_t i = 0; status == OT_OK && i < n && *count < MOST_OLD; i++) {
        const char *digits = names[i] + base_size + 1;
        if (strncmp(names[i], base, base_size) != 0 || names[i][base_size] != '.' || strlen(digits) != DIGITS) continue;
        if (digits[strspn(digits, "0123456789")] == '\0') steps[(*count)++] = strtoll(digits, NULL, 10);
    }
    ot_arena_free(&arena);
    return status;
}

static void old_name(const char *path, int64_t step, char out[PATH_TEXT]) { snprintf(out, PATH_TEXT, "%s.%0*" PRId64, path, DIGITS, step); }

/* The newest one that there is, under whichever name; false: none. */
static bool newest(const char *path, char out[PATH_TEXT]) {
    int64_t steps[MOST_OLD], n = 0;
    ot_error ignored;
    snprintf(out, PATH_TEXT, "%s", path);
    if (ot_path_exists(path)) return true;
    if (older(path, steps, &n, &ignored) != OT_OK || n == 0) return false;
    old_name(path, steps[n - 1], out);
    return true;
}

bool ot_checkpoints_exist(const char *checkpoint_path) {
    char path[PATH_TEXT];
    return newest(checkpoint_path, path);
}

/* Remove older ones until `left` are left. */
static ot_status thin_out(const char *path, int64_t left, ot_error *err) {
    int64_t steps[MOST_OLD], n = 0;
    OT_TRY(older(path, steps, &n, err));
    for (int64_t i = 0; i < n - left; i++) {
        char old[PATH_TEXT];
        old_name(path, steps[i], old);
        OT_TRY(ot_remove_tree(old, err));
    }
    return OT_OK;
}

ot_status ot_checkpoints_remove(const char *checkpoint_path, ot_error *err) {
    /* The older ones first: what is left after a kill in between is still the newest. */
    OT_TRY(thin_out(checkpoint_path, 0, err));
    return ot_path_exists(checkpoint_path) ? ot_remove_tree(checkpoint_path, err) : OT_OK;
}

/* The present checkpoint gets a second name, so that there is one at any moment. File systems without links copy. */
static ot_status put_aside(const ot_trainer *tr, ot_error *err) {
    const char *path = tr->options.checkpoint_path;
    char old[PATH_TEXT];
    if (tr->options.keep <= 1 || tr->on_disk < 0 || !ot_path_exists(path)) return OT_OK;
    old_name(path, tr->on_disk, old);
    if (link(path, old) == 0 || errno == EEXIST) return OT_OK;
    return ot_copy_file(path, old, err);
}

/* ==== Writing. ==== */

ot_status ot_trainer_save(ot_trainer *tr, ot_error *err) {
    OT_TRY(put_aside(tr, err));
    ot_arena arena = {0};
    ot_tensor *tensors = ot_arena_alloc(&arena, tr->t->n_items * N_PARTS * (int64_t)sizeof *tensors, err);
    if (tensors == NULL) return OT_ERR_MEMORY;
    int64_t count = 0, run = tr->options.run;
    ot_status status = declare(tr->t, &arena, tensors, &count, err);
    field fields[N_FIELDS];
    char texts[N_FIELDS][FIELD_TEXT];
    const char *metadata[6 + 2 * N_FIELDS + 1] = {"kind", "offsite checkpoint", "version", "1", "fingerprint", tr->options.fingerprint};
    fields_of(tr, &run, fields);
    for (int i = 0; fields[i].key[0] != '\0'; i++) {
        if (fields[i].whole != NULL) snprintf(texts[i], FIELD_TEXT, "%" PRId64, *fields[i].whole);
        if (fields[i].real != NULL) snprintf(texts[i], FIELD_TEXT, "%a", *fields[i].real);
        metadata[6 + 2 * i] = fields[i].key;
        metadata[7 + 2 * i] = texts[i];
    }
    if (status == OT_OK) status = ot_safetensors_write(tr->options.checkpoint_path, tensors, count, metadata, err);
    ot_arena_free(&arena);
    return status == OT_OK && tr->options.keep > 0 ? thin_out(tr->options.checkpoint_path, tr->options.keep - 1, err) : status;
}

/* ==== Reading. ==== */

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

void ot_checkpoints_fingerprint(const char *checkpoint_path, char *out, size_t size) {
    char path[PATH_TEXT];
    ot_safetensors *st = NULL;
    ot_error ignored;
    *out = '\0';
    if (!newest(checkpoint_path, path) || ot_safetensors_open(path, &st, &ignored) != OT_OK) return;
    snprintf(out, size, "%s", text_of(st, "fingerprint"));
    ot_safetensors_close(st);
}

static ot_status check_kind(const ot_safetensors *st, const ot_trainer *tr, const char *path, ot_error *err) {
    if (strcmp(text_of(st, "kind"), "offsite checkpoint") != 0) return ot_fail(err, OT_ERR_FORMAT, "%s is no checkpoint of this program", path);
    if (strcmp(text_of(st, "version"), "1") != 0) {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: checkpoints of version %s are not supported: this program reads version 1", path,
                       text_of(st, "version"));
    }
    if (strcmp(text_of(st, "fingerprint"), tr->options.fingerprint) == 0) return OT_OK;
    return ot_fail(err, OT_ERR_REFUSED,
                   "%s was made by a run with other settings, data or model: give the same command as before, or start afresh with --force", path);
}

static ot_status read_state(const ot_safetensors *st, ot_trainer *tr, const char *path, ot_error *err) {
    field fields[N_FIELDS];
    int64_t run = 0;
    fields_of(tr, &run, fields);
    for (int i = 0; fields[i].key[0] != '\0'; i++) {
        const char *text = text_of(st, fields[i].key);
        if (fields[i].whole != NULL) *fields[i].whole = strtoll(text, NULL, 10);
        if (fields[i].real != NULL) *fields[i].real = strtod(text, NULL);
    }
    if (tr->step < 0 || tr->step > tr->options.steps) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: step %" PRId64 " is outside this run of %" PRId64, path, tr->step, tr->options.steps);
    }
    return OT_OK;
}

ot_status ot_trainer_load(ot_trainer *tr, ot_error *err) {
    char path[PATH_TEXT];
    ot_safetensors *st = NULL;
    if (!newest(tr->options.checkpoint_path, path)) return OT_OK;
    OT_TRY(ot_safetensors_open(path, &st, err));
    ot_status status = check_kind(st, tr, path, err);
    if (status == OT_OK && strtoll(text_of(st, "run"), NULL, 10) != tr->options.run) {
        /* Of a run of the grid that is done: its result is kept elsewhere. */
        ot_safetensors_close(st);
        return ot_checkpoints_remove(tr->options.checkpoint_path, err);
    }
    for (int p = 0; status == OT_OK && p < N_PARTS; p++) status = read_part(st, tr->t, p, err);
    if (status == OT_OK) status = read_state(st, tr, path, err);
    if (status == OT_OK) ot_trainables_refresh(tr->t);
    ot_safetensors_close(st);
    tr->on_disk = status == OT_OK && ot_path_exists(tr->options.checkpoint_path) ? tr->step : -1;
    return status;
}
