#include "train/grid.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "format/safetensors.h"

enum { RUN_TEXT = 320, KEY_TEXT = 32 };
static const char kind[] = "offsite grid";

/* ==== The file. ==== */

static void write_run(const ot_grid_run *r, char text[RUN_TEXT]) {
    const ot_train_result *x = &r->result;
    snprintf(text, RUN_TEXT, "%a %a %a %a %a %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %d %d", r->lr, r->score, x->last_loss, x->valid_loss,
             x->best_valid_loss, x->steps_done, x->best_step, x->skipped, x->spikes, x->early ? 1 : 0, r->failed ? 1 : 0);
}

static bool read_run(const char *text, ot_grid_run *r) {
    double reals[5];
    long long whole[6];
    char *end = NULL;
    for (int i = 0; i < 5; i++, text = end) {
        reals[i] = strtod(text, &end);
        if (end == text) return false;
    }
    for (int i = 0; i < 6; i++, text = end) {
        whole[i] = strtoll(text, &end, 10);
        if (end == text) return false;
    }
    r->done = reals[0] == r->lr;
    r->failed = whole[5] != 0;
    r->score = reals[1];
    r->result = (ot_train_result){.last_loss = reals[2],
                                  .valid_loss = reals[3],
                                  .best_valid_loss = reals[4],
                                  .steps_done = whole[0],
                                  .best_step = whole[1],
                                  .skipped = whole[2],
                                  .spikes = whole[3],
                                  .early = whole[4] != 0};
    return r->done;
}

static bool has_winner(const ot_grid *grid) { return grid->winner >= 0; }

static void choose(ot_grid *grid) {
    grid->winner = -1;
    for (int64_t i = 0; i < grid->n; i++) {
        const ot_grid_run *r = &grid->runs[i];
        if (!r->done || r->failed || !isfinite(r->score)) continue;
        if (!has_winner(grid) || r->score < grid->runs[grid->winner].score) grid->winner = i;
    }
}

/* The winner's weights: where they are now, in the masters or (they won before this run) in the file as it is. */
static ot_status winner_tensors(const ot_trainables *t, const ot_safetensors *before, ot_tensor *out, ot_error *err) {
    for (int64_t i = 0; i < t->n_items; i++) {
        const ot_trainable *item = &t->items[i];
        out[i] = (ot_tensor){.name = item->name, .dtype = OT_F32, .n_dims = item->n_dims, .shape = {item->shape[0], item->shape[1]}};
        out[i].bytes = item->count * 4;
        out[i].data = t->master + item->offset;
        if (before == NULL) continue;
        const ot_tensor *old = ot_safetensors_find(before, item->name);
        if (old == NULL || old->dtype != OT_F32 || old->bytes != out[i].bytes) {
            return ot_fail(err, OT_ERR_FORMAT, "%s: the grid's winner has no fitting tensor %s: begin again with --force", ot_safetensors_path(before), item->name);
        }
        out[i].data = old->data;
    }
    return OT_OK;
}

/* After a run; won: its weights, in the masters, are the best so far. */
static ot_status save(const ot_grid *grid, const ot_trainables *t, bool won, const char *fingerprint, ot_error *err) {
    char texts[OT_GRID_MOST][RUN_TEXT], keys[OT_GRID_MOST][KEY_TEXT];
    const char *metadata[6 + 2 * OT_GRID_MOST + 1] = {"kind", kind, "version", "1", "fingerprint", fingerprint};
    int n = 6;
    for (int64_t i = 0; i < grid->n; i++) {
        if (!grid->runs[i].done) continue;
        write_run(&grid->runs[i], texts[i]);
        snprintf(keys[i], KEY_TEXT, "run.%" PRId64, i + 1);
        metadata[n++] = keys[i];
        metadata[n++] = texts[i];
    }
    ot_tensor *tensors = calloc((size_t)t->n_items, sizeof *tensors);
    ot_safetensors *before = NULL;
    if (tensors == NULL) return ot_fail_memory(err, (uint64_t)t->n_items * sizeof *tensors, "a list of tensors");
    ot_status status = OT_OK;
    if (has_winner(grid) && !won) status = ot_safetensors_open(grid->path, &before, err);
    if (status == OT_OK && has_winner(grid)) status = winner_tensors(t, before, tensors, err);
    if (status == OT_OK) status = ot_safetensors_write(grid->path, tensors, has_winner(grid) ? t->n_items : 0, metadata, err);
    ot_safetensors_close(before);
    free(tensors);
    return status;
}

static const char *text_of(const ot_safetensors *st, const char *key) {
    const char *text = ot_safetensors_metadata(st, key);
    return text == NULL ? "" : text;
}

/* Which runs are done. */
static ot_status load(ot_grid *grid, const char *fingerprint, ot_error *err) {
    ot_safetensors *st = NULL;
    if (!ot_path_exists(grid->path)) return OT_OK;
    OT_TRY(ot_safetensors_open(grid->path, &st, err));
    ot_status status = OT_OK;
    if (strcmp(text_of(st, "kind"), kind) != 0 || strcmp(text_of(st, "version"), "1") != 0) {
        status = ot_fail(err, OT_ERR_FORMAT, "%s is no grid of this program: begin again with --force", grid->path);
    } else if (strcmp(text_of(st, "fingerprint"), fingerprint) != 0) {
        status = ot_fail(err, OT_ERR_REFUSED,
                         "%s was made by a run with other settings, data or model: give the same command as before, or start afresh with --force", grid->path);
    }
    for (int64_t i = 0; status == OT_OK && i < grid->n; i++) {
        char key[KEY_TEXT];
        snprintf(key, sizeof key, "run.%" PRId64, i + 1);
        const char *text = ot_safetensors_metadata(st, key);
        if (text != NULL && !read_run(text, &grid->runs[i])) status = ot_fail(err, OT_ERR_FORMAT, "%s: %s is malformed: begin again with --force", grid->path, key);
    }
    ot_safetensors_close(st);
    if (status == OT_OK) choose(grid);
    return status;
}

static ot_status take_winner(const ot_grid *grid, ot_trainables *t, ot_tensor *tensors, ot_error *err) {
    ot_safetensors *st = NULL;
    OT_TRY(ot_safetensors_open(grid->path, &st, err));
    ot_status status = winner_tensors(t, st, tensors, err);
    for (int64_t i = 0; status == OT_OK && i < t->n_items; i++) memcpy(t->master + t->items[i].offset, tensors[i].data, (size_t)tensors[i].bytes);
    ot_safetensors_close(st);
    if (status == OT_OK) ot_trainables_refresh(t);
    return status;
}

/* ==== The runs. ==== */

/* A run that the guards stop has lost, nothing more. */
static ot_status run_one(ot_grid *grid, int64_t index, ot_model *m, ot_trainables *t, const ot_dataset *train, const ot_dataset *valid,
                         const ot_train_options *options, ot_error *err) {
    ot_grid_run *r = &grid->runs[index];
    ot_train_options o = *options;
    ot_trainer *trainer = NULL;
    ot_error why = {0};
    o.lr = r->lr;
    o.run = index + 1;
    if (grid->begins != NULL) grid->begins(grid->context, r, index);
    ot_trainables_unbind(t);
    ot_status status = ot_trainer_new(m, t, train, valid, &o, &trainer, &why);
    if (status == OT_OK) status = ot_trainer_run(trainer, &r->result, &why);
    ot_trainer_free(trainer);
    r->failed = status == OT_ERR_NUMERIC;
    r->done = status == OT_OK || r->failed;
    r->score = r->failed ? NAN : o.select_best ? r->result.best_valid_loss : r->result.valid_loss;
    if (grid->ends != NULL) grid->ends(grid->context, r, index, &why);
    if (!r->done) {
        if (err != NULL) *err = why;
        return status;
    }
    choose(grid);
    OT_TRY(save(grid, t, grid->winner == index, o.fingerprint, err));
    return o.checkpoint_path != NULL ? ot_checkpoints_remove(o.checkpoint_path, err) : OT_OK;
}

ot_status ot_grid_train(ot_grid *grid, ot_model *m, ot_trainables *t, const ot_dataset *train, const ot_dataset *valid, const ot_train_options *options,
                        ot_train_result *result, ot_error *err) {
    grid->winner = -1;
    if (options->resume) OT_TRY(load(grid, options->fingerprint, err));
    for (int64_t i = 0; i < grid->n; i++) {
        if (!grid->runs[i].done) OT_TRY(run_one(grid, i, m, t, train, valid, options, err));
    }
    if (!has_winner(grid)) {
        return ot_fail(err, OT_ERR_NUMERIC, "none of the %" PRId64 " runs of --lr-grid came to a finite validation loss: use smaller rates, a longer --warmup, "
                       "or --dtype f32", grid->n);
    }
    t->optimizer = options->optimizer;
    OT_TRY(ot_trainables_bind(t, options->compute, options->select_best, err)); /* when all runs were done before this process began */
    ot_tensor *tensors = calloc((size_t)t->n_items, sizeof *tensors);
    if (tensors == NULL) return ot_fail_memory(err, (uint64_t)t->n_items * sizeof *tensors, "a list of tensors");
    ot_status status = take_winner(grid, t, tensors, err);
    free(tensors);
    *result = grid->runs[grid->winner].result;
    return status;
}
