#include "cli/common_training.h"

#include <inttypes.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/file.h"
#include "base/parallel.h"
#include "cli/common_data.h"
#include "cli/common_images.h"
#include "cli/common_model.h"
#include "cli/common_options.h"
#include "cli/config.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/text.h"
#include "cli/training_memory.h"
#include "cli/training_record.h"
#include "peft/lora.h"
#include "protocol/peft_files.h"
#include "protocol/split.h"
#include "train/stream.h"

static const char stopping[] =
    "stopping as soon as the step at work is done and what is trained is saved; Ctrl-C again stops at once and loses what came after the last checkpoint";

ot_status ot_training_open(ot_training *t, const ot_args *args, const char *label, const char *finished_file, ot_error *err) {
    *t = (ot_training){.args = args, .label = label, .output = ot_args_str(args, "output")};
    char finished[4200];
    if (!ot_path_join(finished, sizeof finished, t->output, finished_file) ||
        !ot_path_join(t->checkpoint, sizeof t->checkpoint, t->output, "checkpoint.safetensors") ||
        !ot_path_join(t->grid_path, sizeof t->grid_path, t->output, "grid.safetensors") ||
        !ot_path_join(t->teacher_cache, sizeof t->teacher_cache, t->output, "teacher.cache")) {
        return ot_fail(err, OT_ERR_USAGE, "the output path %s is too long", t->output);
    }
    t->was_there = ot_path_is_dir(t->output);
    if (t->was_there) OT_TRY(ot_dir_lock_take(t->output, "run", &t->lock, err));
    bool unfinished = ot_checkpoints_exist(t->checkpoint) || ot_path_exists(t->grid_path), done = ot_path_exists(finished) && !unfinished;
    t->replace = ot_args_flag(args, "force");
    if (t->replace) {
        OT_TRY(ot_output_replaceable(t->output, err));
    } else if (ot_args_flag(args, "resume")) {
        t->finished_before = done;
    } else if (done || unfinished) {
        return ot_fail(err, OT_ERR_REFUSED, "%s holds %s: %s, choose another name, or start afresh with --force", t->output,
                       done ? "a finished result" : "an unfinished run", done ? "keep it" : "go on with --resume");
    }
    return ot_path_exists(finished) || unfinished ? OT_OK : ot_output_replaceable(t->output, err);
}

/* A run that was killed while it wrote a file leaves it under its temporary name: name.tmp-0123456789abcdef. */
static bool is_leftover(const char *name) {
    static const char mark[] = ".tmp-";
    const char *at = strstr(name, mark);
    return at != NULL && strlen(at + sizeof mark - 1) == 16 && strspn(at + sizeof mark - 1, "0123456789abcdef") == 16;
}

/* From here on the folder is this run's: locked since it was looked at, or made now, by whichever of two runs is first. */
static ot_status take_output(ot_training *t, ot_error *err) {
    t->was_there = t->was_there && ot_path_is_dir(t->output);
    if (t->was_there) return OT_OK;
    ot_dir_lock_release(&t->lock);
    OT_TRY(ot_make_dirs(t->output, err));
    return ot_dir_lock_take(t->output, "run", &t->lock, err);
}

/* Of the output: everything, where that is to be replaced, else leftovers. */
static ot_status clear_output(const ot_training *t, ot_error *err) {
    ot_arena arena = {0};
    char **names = NULL;
    int64_t count = 0;
    ot_status status = ot_list_dir(t->output, &arena, &names, &count, err);
    if (status == OT_OK && count > 0 && !t->was_there) {
        status = ot_fail(err, OT_ERR_REFUSED, "another run has worked in %s meanwhile: choose another -o", t->output);
    }
    for (int64_t i = 0; status == OT_OK && i < count; i++) {
        char path[4300];
        if ((t->replace || is_leftover(names[i])) && ot_path_join(path, sizeof path, t->output, names[i])) status = ot_remove_tree(path, err);
    }
    ot_arena_free(&arena);
    return status;
}

static ot_status prepare_output(ot_training *t, ot_error *err) {
    OT_TRY(take_output(t, err));
    OT_TRY(clear_output(t, err));
    t->began = true;
    return OT_OK;
}

void ot_training_weights(const ot_args *args, const ot_model *m, double *lm, double *kd) {
    *lm = m->desc.vision && !ot_args_has(args, "lm-weight") ? 0 : ot_args_f64(args, "lm-weight");
    *kd = m->desc.vision && !ot_args_has(args, "kd-weight") ? 1 : ot_args_f64(args, "kd-weight");
}

/* Is the teacher's output all that is learnt? Then pictures need no labels. */
static bool only_distance(const ot_training *t) {
    double lm = 1, kd = 0;
    if (ot_args_declares(t->args, "lm-weight")) ot_training_weights(t->args, t->model, &lm, &kd);
    return lm == 0;
}

static ot_status open_pictures(ot_training *t, const char *name, ot_dataset *out, ot_error *err) {
    char what[64];
    OT_TRY(ot_common_images_open(t->args, name, t->model, only_distance(t), out, err));
    if (strcmp(name, "train") == 0 && ot_args_declares(t->args, "head")) OT_TRY(ot_common_images_head(t->args, t->model, out, err));
    snprintf(what, sizeof what, "--%s", name);
    return ot_common_images_number(what, t->model, out, err);
}

/* Text, or pictures for a vision model; name: of the option. */
static ot_status open_one(ot_training *t, const char *name, ot_dataset *out, ot_error *err) {
    const ot_desc *desc = &t->model->desc;
    if (!desc->vision && ot_args_declares(t->args, "classes") && ot_args_count(t->args, "classes") > 0) {
        return ot_args_fail(t->args, err, "--classes is for classifiers of pictures, and this model reads text");
    }
    return desc->vision ? open_pictures(t, name, out, err) : ot_common_data_open(t->args, name, t->model->path, desc->vocab_size, out, err);
}

static ot_status open_data(ot_training *t, ot_error *err) {
    if (t->train.rows == 0) OT_TRY(open_one(t, "train", &t->train, err));
    t->has_valid = ot_args_count(t->args, "valid") > 0;
    return t->has_valid ? open_one(t, "valid", &t->valid, err) : OT_OK;
}

static void add_piece(void *context, const void *data, int64_t size) { ot_digest_add(context, data, size); }

/* Everything that must be the same when a run is resumed: options, data, and the model as far as a look at each tensor tells. */
static ot_status make_fingerprint(ot_training *t, ot_error *err) {
    char *text = NULL;
    size_t size = 0;
    OT_TRY(ot_config_write(t->args, OT_CONFIG_FIXED, &text, &size, err));
    ot_digest d;
    ot_digest_begin(&d);
    ot_digest_add(&d, text, (int64_t)size);
    free(text);
    const ot_dataset *sets[] = {&t->train, &t->valid};
    for (int i = 0; i < 2; i++) {
        ot_digest_add(&d, &sets[i]->rows, sizeof sets[i]->rows);
        if (sets[i]->stream != NULL) {
            OT_TRY(ot_stream_identify(sets[i]->stream, add_piece, &d, err));
            continue;
        }
        if (sets[i]->pixels != NULL) {
            ot_digest_add(&d, sets[i]->targets, sets[i]->rows * 4);
            sets[i]->pixels->identify(sets[i]->pixels, add_piece, &d);
            continue;
        }
        int64_t columns = ot_dataset_columns(sets[i]);
        ot_digest_add(&d, sets[i]->ids, columns * 4);
        ot_digest_add(&d, sets[i]->targets, columns * 4);
        for (int64_t r = 0; r < sets[i]->rows; r++) {
            int64_t ends[] = {ot_dataset_first(sets[i], r + 1), ot_dataset_start(sets[i], ot_dataset_first(sets[i], r + 1))};
            ot_digest_add(&d, ends, sizeof ends);
        }
    }
    for (int64_t i = 0; i < t->model->n_params; i++) {
        const ot_tensor *p = &t->model->params[i].stored;
        int64_t head = p->bytes < 4096 ? p->bytes : 4096;
        ot_digest_add_text(&d, p->name);
        if (p->data != NULL) ot_digest_add(&d, p->data, head);
    }
    t->fingerprint = malloc(OT_DIGEST_TEXT);
    if (t->fingerprint == NULL) return ot_fail_memory(err, OT_DIGEST_TEXT, "a fingerprint");
    ot_digest_end(&d, t->fingerprint);
    return OT_OK;
}

/* Seen with --no-progress too: a step that was not taken is no progress, but news. */
static void tell_guard(ot_training *t, const ot_train_event *e) {
    char rows[256];
    ot_train_rows_text(e, rows, sizeof rows);
    const char *done = e->skipped ? ": skipped" : "";
    if (e->guard.kind == OT_GUARD_NOT_FINITE) {
        ot_progress_warn(&t->progress, t->args, "step %" PRId64 ": the loss is %g and the gradient norm %g (data %s)%s", e->step, e->loss, e->grad_norm, rows, done);
    } else if (e->guard.kind == OT_GUARD_DIVERGED) {
        ot_progress_warn(&t->progress, t->args, "step %" PRId64 ": the run has diverged: losses like %.4g where it began with %.4g; use a smaller --lr or a longer --warmup",
                         e->step, e->loss, e->guard.usual);
    } else {
        bool loss = e->guard.kind == OT_GUARD_LOSS;
        ot_progress_warn(&t->progress, t->args, "step %" PRId64 ": the %s is %.4g where %.4g was usual (data %s)%s", e->step, loss ? "loss" : "gradient norm",
                         loss ? e->loss : e->grad_norm, e->guard.usual, rows, done);
    }
}

static void observe(void *context, const ot_train_event *e) {
    ot_training *t = context;
    if (e->guard.kind != OT_GUARD_FINE) tell_guard(t, e);
    if (t->progress.shown_step < 0) t->progress.first = e->step; /* of a resumed run */
    ot_progress_sample s = OT_PROGRESS_SAMPLE;
    s.step = e->step + 1;
    s.loss = e->loss;
    s.learning_rate = e->learning_rate;
    s.tokens_per_second = t->train.pixels != NULL ? e->tokens_per_second / (double)t->train.length : e->tokens_per_second;
    s.peak_bytes = e->peak_memory_bytes;
    if (e->validated) s.valid_loss = e->valid_loss;
    ot_progress_step(&t->progress, &s);
    if (e->validated) {
        ot_progress_note(&t->progress, "validation loss %.4f after step %" PRId64 "%s", e->valid_loss, e->step + 1, e->best ? ", the best so far" : "");
    }
}

static void begin_progress(ot_training *t, const char *label) {
    ot_progress_begin(&t->progress, t->args, label, "step", t->options.steps, 0);
    if (t->train.pixels != NULL) t->progress.rate = "pictures/s";
}

/* ==== The grid of learning rates. ==== */

static void number_or_null(ot_json_out *out, const char *key, double value) {
    if (isnan(value)) {
        ot_json_out_null(out, key);
    } else {
        ot_json_out_f64(out, key, value);
    }
}

static void grid_run_begins(void *context, const ot_grid_run *run, int64_t index) {
    ot_training *t = context;
    snprintf(t->run_label, sizeof t->run_label, "%s %" PRId64 "/%" PRId64 " lr %.3g", t->label, index + 1, t->grid.n, run->lr);
    begin_progress(t, t->run_label);
}

static void grid_run_ends(void *context, const ot_grid_run *run, int64_t index, const ot_error *err) {
    ot_training *t = context;
    (void)index;
    ot_progress_end(&t->progress);
    if (run->failed) ot_note(t->args, "lr %.3g is out: %s", run->lr, err->message);
    if (run->done && !run->failed) ot_note(t->args, "lr %.3g: validation loss %.4f", run->lr, run->score);
}

static ot_status print_grid(const ot_training *t, ot_error *err) {
    static const ot_column columns[] = {{"lr", OT_RIGHT}, {"valid loss", OT_RIGHT}, {"after step", OT_RIGHT}, {"last loss", OT_RIGHT}, {"", OT_LEFT}};
    ot_table table = ot_table_begin(columns, 5);
    for (int64_t i = 0; i < t->grid.n; i++) {
        const ot_grid_run *r = &t->grid.runs[i];
        ot_table_cell(&table, "%.3g", r->lr);
        ot_table_cell(&table, r->failed ? "-" : "%.4f", r->score);
        ot_table_cell(&table, r->failed ? "-" : "%" PRId64, t->options.select_best ? r->result.best_step : r->result.steps_done);
        ot_table_cell(&table, r->failed ? "-" : "%.4f", r->result.last_loss);
        ot_table_cell(&table, "%s", i == t->grid.winner ? "kept" : r->failed ? "stopped: not finite, or a spike" : r->result.early ? "ended early" : "");
    }
    return ot_table_print(&table, stdout, err);
}

static void json_grid(const ot_training *t, ot_json_out *out) {
    ot_json_out_array(out, "grid");
    for (int64_t i = 0; i < t->grid.n; i++) {
        const ot_grid_run *r = &t->grid.runs[i];
        ot_json_out_object(out, NULL);
        ot_json_out_f64(out, "lr", r->lr);
        number_or_null(out, "valid_loss", r->score);
        ot_json_out_i64(out, "best_step", r->result.best_step);
        ot_json_out_i64(out, "steps", r->result.steps_done);
        ot_json_out_bool(out, "failed", r->failed);
        ot_json_out_bool(out, "kept", i == t->grid.winner);
        ot_json_out_end(out);
    }
    ot_json_out_end(out);
}

static ot_status prepare_grid(ot_training *t, ot_error *err) {
    int64_t n = ot_args_count(t->args, "lr-grid");
    if (n == 0) return OT_OK;
    if (!t->has_valid) return ot_args_fail(t->args, err, "--lr-grid needs --valid FILE: the loss on it chooses the winner");
    if (n > OT_GRID_MOST) return ot_args_fail(t->args, err, "--lr-grid: %" PRId64 " rates are more than %d", n, OT_GRID_MOST);
    t->grid = (ot_grid){.n = n, .winner = -1, .path = t->grid_path, .begins = grid_run_begins, .ends = grid_run_ends, .context = t};
    for (int64_t i = 0; i < n; i++) t->grid.runs[i].lr = ot_args_f64_at(t->args, "lr-grid", i);
    return OT_OK;
}

/* Of streamed text they are counted only where the number is needed: that is a pass through all of it. */
static ot_status count_rows(const ot_training *t, int64_t *rows, ot_error *err) {
    bool needed = !ot_args_has(t->args, "steps") || (t->has_valid && !ot_args_has(t->args, "valid-every"));
    *rows = INT32_MAX;
    if (!needed) return OT_OK;
    ot_note(t->args, "--train: reading it once to count its rows (--steps%s would spare that)", t->has_valid ? " and --valid-every" : "");
    OT_TRY(ot_stream_count(t->train.stream, rows, err));
    ot_note(t->args, "--train: an epoch is %s", OT_COUNT_OF(*rows, "row"));
    return OT_OK;
}

ot_status ot_training_prepare(ot_training *t, ot_model *model, int64_t usual_warmup, ot_error *err) {
    const ot_args *args = t->args;
    t->model = model;
    ot_common_block_say(args, &model->desc);
    OT_TRY(open_data(t, err));
    ot_train_options *o = &t->options;
    *o = (ot_train_options){.batch = ot_args_i64(args, "batch"),
                            .grad_accum = ot_args_i64(args, "grad-accum"),
                            .lr = ot_args_f64(args, "lr"),
                            .weight_decay = ot_args_f64(args, "weight-decay"),
                            .clip = ot_args_f64(args, "clip"),
                            .schedule = (ot_schedule)ot_args_choice(args, "schedule"),
                            .seed = (uint64_t)ot_args_i64(args, "seed"),
                            .shuffle = ot_args_flag(args, "shuffle"),
                            .recompute = ot_args_flag(args, "recompute"),
                            .guard = (ot_guard_mode)ot_args_choice(args, "guard"),
                            .guard_limit = ot_args_i64(args, "guard-limit"),
                            .patience = ot_args_i64(args, "patience"),
                            .keep = ot_args_i64(args, "keep"),
                            .resume = ot_args_flag(args, "resume"),
                            .log_path = ot_args_str(args, "log"),
                            .checkpoint_path = t->checkpoint,
                            .stop = ot_interrupt_flag(),
                            .observe = observe,
                            .context = t};
    OT_TRY(ot_optimizer_parse(ot_args_str(args, "optimizer"), &o->optimizer, err));
    OT_TRY(ot_common_backend(args, &o->backend, &o->compute, err));
    int64_t rows_a_step = 0, all_rows = 0, rows = t->train.rows;
    if (t->train.stream != NULL) OT_TRY(count_rows(t, &rows, err));
    if (!ot_mul_i64(o->batch, o->grad_accum, &rows_a_step) || !ot_mul_i64(rows, ot_args_i64(args, "epochs"), &all_rows)) {
        return ot_fail(err, OT_ERR_USAGE, "--batch, --grad-accum or --epochs is impossibly large");
    }
    int64_t an_epoch = (rows + rows_a_step - 1) / rows_a_step;
    o->steps = ot_args_has(args, "steps") ? ot_args_i64(args, "steps") : (all_rows + rows_a_step - 1) / rows_a_step;
    OT_TRY(ot_common_warmup(args, o->steps, usual_warmup, &o->warmup, err));
    o->valid_every = ot_args_has(args, "valid-every") ? ot_args_i64(args, "valid-every") : an_epoch;
    o->save_every = ot_args_has(args, "save-every") ? ot_args_i64(args, "save-every") : OT_SAVE_SELDOM;
    if (ot_args_has(args, "select") && ot_args_choice(args, "select") == 0 && !t->has_valid) {
        return ot_args_fail(args, err, "--select best needs --valid FILE");
    }
    OT_TRY(prepare_grid(t, err));
    if (o->patience > 0 && !t->has_valid) return ot_args_fail(args, err, "--patience needs --valid FILE");
    o->select_best = t->has_valid && (!ot_args_has(args, "select") || ot_args_choice(args, "select") == 0);
    ot_dropout dropout;
    OT_TRY(ot_common_dropout(args, &dropout, err));
    o->dropout = dropout.from_config ? model->desc.dropout : dropout.rate;
    o->label_smoothing = ot_args_f64(args, "label-smoothing");
    OT_TRY(make_fingerprint(t, err));
    o->fingerprint = t->fingerprint;
    return OT_OK;
}

/* One tensor of an adapter folder. LoRA's must have been trained with the same scale, or it would say something else here. */
static ot_status take_tensor(const char *path, const ot_peft *from, ot_peft *peft, ot_peft_tensor *t, ot_error *err) {
    const ot_peft_tensor *found = NULL;
    for (int64_t i = 0; i < from->n_tensors; i++) found = strcmp(from->tensors[i]->name, t->name) == 0 ? from->tensors[i] : found;
    if (found == NULL) return ot_fail(err, OT_ERR_REFUSED, "--init-adapter: %s lacks tensor %s, which --peft %s trains", path, t->name, peft->text);
    if (found->slot.rows != t->slot.rows || found->slot.cols != t->slot.cols) {
        return ot_fail(err, OT_ERR_REFUSED, "--init-adapter: tensor %s of %s is %" PRId64 " by %" PRId64 ", but --peft %s has %" PRId64 " by %" PRId64, t->name, path,
                       found->slot.rows, found->slot.cols, peft->text, t->slot.rows, t->slot.cols);
    }
    const ot_lora_place *theirs = ot_lora_at(from, t->block, t->role), *ours = ot_lora_at(peft, t->block, t->role);
    if (theirs != NULL && ours != NULL && fabs(theirs->scale - ours->scale) > 1e-6 * fabs(theirs->scale)) {
        return ot_fail(err, OT_ERR_REFUSED, "--init-adapter: %s scales %s by %g, but --peft %s by %g: give its alpha and rslora", path, t->name, theirs->scale, peft->text,
                       ours->scale);
    }
    memcpy(t->values, found->values, (size_t)(t->slot.rows * t->slot.cols) * sizeof *t->values);
    return OT_OK;
}

/* The parameters of the model that an adapter folder replaces, and a head that goes with it: they must be those that are trained. */
static ot_status take_replaced(const char *path, ot_model *m, ot_peft *peft, const float *const *values, ot_error *err) {
    for (int64_t i = 0; i < m->n_params; i++) {
        ot_param *param = &m->params[i];
        bool given = values[i] != NULL, head = ot_model_tunes_head(m, param);
        bool trained = param->block >= 0 && peft->tuned[param->block] && ot_peft_trains(&peft->choice, param);
        if (!head && given != trained) {
            return ot_fail(err, OT_ERR_REFUSED, "--init-adapter: %s %s tensor %s, which --peft %s %s", path, given ? "has" : "lacks", param->name, peft->text,
                           given ? "does not train" : "trains");
        }
        if (!given) continue;
        int64_t n = ot_param_elements(param);
        float *copy = ot_arena_alloc(&peft->arena, n * (int64_t)sizeof *copy, err);
        if (copy == NULL) return OT_ERR_MEMORY;
        memcpy(copy, values[i], (size_t)n * sizeof *copy);
        param->slot.data = copy;
        param->slot.dtype = OT_F32;
    }
    return OT_OK;
}

static ot_status start_from_folder(const char *path, ot_model *m, ot_peft *peft, ot_error *err) {
    ot_peft from = {0};
    const float **values = NULL;
    /* An array of pointers is meant. NOLINTNEXTLINE(bugprone-sizeof-expression) */
    OT_TRY(ot_calloc(m->n_params + 1, sizeof *values, "a parameter table", (void **)&values, err));
    ot_status status = ot_peft_files_open(path, m, &from, values, err);
    if (status == OT_OK) status = take_replaced(path, m, peft, values, err);
    ot_free(values);
    if (status == OT_OK && from.n_tensors != peft->n_tensors) {
        status = ot_fail(err, OT_ERR_REFUSED, "--init-adapter: %s has %" PRId64 " tensors, but --peft %s over this model trains %" PRId64, path, from.n_tensors, peft->text,
                         peft->n_tensors);
    }
    for (int64_t i = 0; status == OT_OK && i < peft->n_tensors; i++) status = take_tensor(path, &from, peft, peft->tensors[i], err);
    ot_peft_end(&from);
    return status;
}

static ot_status start_from(const char *path, ot_model *m, ot_peft *peft, ot_error *err) {
    if (ot_peft_files_is(path)) return start_from_folder(path, m, peft, err);
    if (peft->n_tensors == 0) {
        return ot_fail(err, OT_ERR_USAGE, "--init-adapter: a file gives first values to tensors that a method adds, but --peft %s adds none: give an adapter folder",
                       peft->text);
    }
    ot_safetensors *st = NULL;
    OT_TRY(ot_safetensors_open(path, &st, err));
    ot_status status = ot_peft_load(peft, st, "", NULL, NULL, err);
    ot_safetensors_close(st);
    return status;
}

ot_status ot_training_declare(ot_training *t, const bool *tuned, ot_peft *peft, ot_error *err) {
    int64_t layers = t->model->desc.layers;
    while (t->bottom < layers && tuned[t->bottom]) t->bottom++;
    while (t->top < layers - t->bottom && tuned[layers - 1 - t->top]) t->top++;
    OT_TRY(ot_peft_begin(peft, ot_args_str(t->args, "peft"), t->model, tuned, t->options.seed, &t->trained, err));
    t->hooks = ot_peft_hooks(peft);
    if (ot_hooks_virtual(t->hooks) > 0) {
        ot_dataset_count_firsts(&t->train);
        if (t->has_valid) ot_dataset_count_firsts(&t->valid);
    }
    OT_TRY(ot_peft_declare_head(t->model, ot_args_declares(t->args, "head-lr-scale") ? ot_args_f64(t->args, "head-lr-scale") : 10.0, &t->trained, err));
    const char *first = ot_args_str(t->args, "init-adapter");
    return first == NULL ? OT_OK : start_from(first, t->model, peft, err);
}

static void say_plan(const ot_training *t) {
    char a[32], b[32], c[32], d[32], e[32], f[32];
    const ot_train_memory *m = &t->memory;
    const ot_pixels *pictures = t->train.pixels;
    if (pictures != NULL) {
        ot_note(t->args, "%s: %s of %" PRId64 " x %" PRId64 " pixels, %s, %s", t->label, OT_COUNT_OF(t->train.rows, "picture"),
                pictures->width, pictures->height, OT_COUNT_OF(t->options.steps, "step"), OT_COUNT_OF(t->trained.count, "trained value"));
    } else if (t->train.stream != NULL) {
        ot_note(t->args, "%s: streamed rows of up to %s tokens, %s held at a time, %s, %s", t->label, OT_COUNT(t->train.length),
                OT_COUNT(ot_stream_window(t->train.stream)), OT_COUNT_OF(t->options.steps, "step"), OT_COUNT_OF(t->trained.count, "trained value"));
    } else {
        ot_note(t->args, "%s: %s of up to %s tokens, %s, %s", t->label, OT_COUNT_OF(t->train.rows, "row"), OT_COUNT(t->train.length),
                OT_COUNT_OF(t->options.steps, "step"), OT_COUNT_OF(t->trained.count, "trained value"));
    }
    ot_note(t->args, "memory: weights %s, trained values with moments %s, activations %s, data %s, the program %s: %s in all", ot_text_bytes(m->weights, a, sizeof a),
            ot_text_bytes(m->trained, b, sizeof b), ot_text_bytes(m->activations, c, sizeof c), ot_text_bytes(m->data, d, sizeof d),
            ot_text_bytes(m->program, e, sizeof e), ot_text_bytes(ot_training_planned(t), f, sizeof f));
}

static void say_teacher(const ot_training *t, const ot_teacher_plan *p) {
    char bytes[32], room[32] = "", kept[4300];
    if (p->room >= 0) {
        char free_bytes[32];
        snprintf(room, sizeof room, " of %s free", ot_text_bytes(p->room, free_bytes, sizeof free_bytes));
    }
    snprintf(kept, sizeof kept, "%s%s", p->cached ? "kept in " : "not kept, ", p->cached ? t->teacher_cache : p->why_not);
    if (t->train.stream != NULL) {
        ot_note(t->args, "teacher: its blocks are %.0f %% of the arithmetic; hidden states %s", 100 * p->share, kept);
        return;
    }
    ot_note(t->args, "teacher: its blocks are %.0f %% of the arithmetic in %s of %s; hidden states take %s%s on disk, and the blocks %.0f %% then: %s",
            100 * p->share, OT_COUNT_OF(p->visits, "visit"), OT_COUNT_OF(p->rows, "row"), ot_text_bytes(p->bytes, bytes, sizeof bytes), room, 100 * p->cached_share, kept);
}

ot_status ot_training_run(ot_training *t, ot_error *err) {
    ot_trainer *trainer = NULL;
#ifdef __GLIBC__
    malloc_trim(0); /* reading the data has left holes: they would count against the plan */
#endif
    t->options.hooks = t->hooks;
    OT_TRY(ot_trainer_new(t->model, &t->trained, &t->train, t->has_valid ? &t->valid : NULL, &t->options, &trainer, err));
    ot_trainer_memory(trainer, &t->memory);
    say_plan(t);
    if (t->options.teacher != NULL) say_teacher(t, ot_trainer_teacher_plan(trainer));
    ot_status status = ot_training_check_memory(t, err);
    if (status == OT_OK && !t->silent) status = ot_training_record_check(t, err);
    if (status == OT_OK && t->options.resume) status = ot_training_record_same(t, err);
    if (status == OT_OK) status = prepare_output(t, err);
    if (status == OT_OK && !t->silent) status = ot_training_record_write(t, err);
    if (status != OT_OK) {
        ot_trainer_free(trainer);
        return status;
    }
    ot_interrupt_install(ot_args_flag(t->args, "quiet") ? NULL : stopping, false);
    double start = ot_seconds();
    if (t->grid.n > 0) {
        ot_trainer_free(trainer);
        trainer = NULL;
        status = ot_grid_train(&t->grid, t->model, &t->trained, &t->train, &t->valid, &t->options, &t->result, err);
        if (status == OT_OK) t->options.lr = t->grid.runs[t->grid.winner].lr;
    } else {
        begin_progress(t, t->label);
        status = ot_trainer_run(trainer, &t->result, err);
        ot_progress_end(&t->progress);
    }
    t->seconds = ot_seconds() - start;
    if (t->train.stream != NULL && ot_stream_bad(t->train.stream) > 0) {
        ot_note(t->args, "warning: --train: %s bad and left out (--strict stops at the first)",
                OT_COUNT_AS(ot_stream_bad(t->train.stream), "row was", "rows were"));
    }
    ot_trainer_free(trainer);
    ot_trainables_finish(&t->trained);
    return status;
}

static ot_status print_summary(const ot_training *t, ot_error *err) {
    const ot_train_result *r = &t->result;
    if (ot_args_flag(t->args, "json")) {
        ot_json_out out = ot_json_out_open(stdout);
        ot_json_out_object(&out, NULL);
        ot_json_out_str(&out, "output", t->output);
        ot_json_out_i64(&out, "steps", r->steps_done);
        ot_json_out_i64(&out, "resumed_at", r->first_step);
        ot_json_out_i64(&out, "trained_values", t->trained.count);
        number_or_null(&out, "loss", r->last_loss);
        number_or_null(&out, "valid_loss", r->valid_loss);
        number_or_null(&out, "best_valid_loss", r->best_valid_loss);
        ot_json_out_i64(&out, "best_step", r->best_step);
        ot_json_out_i64(&out, "skipped_steps", r->skipped);
        ot_json_out_i64(&out, "spikes", r->spikes);
        ot_json_out_bool(&out, "stopped_early", r->early);
        ot_json_out_i64(&out, "checkpoints", r->saves);
        ot_json_out_f64(&out, "checkpoint_seconds", r->save_seconds);
        ot_json_out_f64(&out, "learning_rate", t->options.lr);
        if (t->grid.n > 0) json_grid(t, &out);
        ot_json_out_f64(&out, "seconds", t->seconds);
        ot_json_out_i64(&out, "planned_bytes", ot_training_planned(t));
        ot_json_out_i64(&out, "peak_memory_bytes", ot_memory_peak());
        return ot_json_out_close(&out, err);
    }
    if (t->grid.n > 0) OT_TRY(print_grid(t, err));
    printf("%s: %s", t->label, OT_COUNT_OF(r->steps_done, "step"));
    if (r->first_step > 0 && r->first_step < r->steps_done) printf(", %s of them", OT_COUNT(r->steps_done - r->first_step));
    printf(" in %.1f s, last loss %.4f", t->seconds, r->last_loss);
    if (!isnan(r->best_valid_loss)) printf(", best validation loss %.4f after step %" PRId64, r->best_valid_loss, r->best_step);
    printf("\n");
    if (r->early) printf("ended early: %s in a row without a better one\n", OT_COUNT_OF(t->options.patience, "validation"));
    if (r->skipped > 0) printf("%s skipped by --guard\n", OT_COUNT_AS(r->skipped, "step was", "steps were"));
    printf("wrote %s\n", t->output);
    return OT_OK;
}

ot_status ot_training_close(ot_training *t, ot_error *err) {
    t->began = false; /* what is there is a result, which stays whatever becomes of the summary */
    OT_TRY(ot_checkpoints_remove(t->checkpoint, err));
    if (ot_path_exists(t->grid_path)) OT_TRY(ot_remove_tree(t->grid_path, err));
    if (ot_path_exists(t->teacher_cache)) OT_TRY(ot_remove_tree(t->teacher_cache, err));
    return t->silent ? OT_OK : print_summary(t, err);
}

/* What a run without a checkpoint has written. A folder that was there before it stays, and so does the log, which says how far it came. */
static void leave_nothing(const ot_training *t) {
    ot_error ignored;
    if (t->was_there) {
        (void)clear_output(t, &ignored);
        (void)ot_remove_tree(t->teacher_cache, &ignored);
    } else {
        (void)ot_remove_tree(t->output, &ignored);
    }
    if (!t->silent) ot_training_record_remove(t);
}

ot_status ot_training_end(ot_training *t, ot_status status, ot_error *err) {
    bool goes_on = t->began && (ot_checkpoints_exist(t->checkpoint) || ot_path_exists(t->grid_path));
    if (status != OT_OK && t->began && !goes_on) leave_nothing(t);
    if (status == OT_ERR_IO && goes_on && !t->silent && err != NULL) {
        ot_error before = *err;
        ot_fail(err, status, "%s; the same command with --resume goes on from the last checkpoint", before.message);
        err->sys_errno = before.sys_errno;
    }
    ot_dir_lock_release(&t->lock);
    ot_trainables_free(&t->trained);
    ot_dataset_free(&t->train);
    ot_dataset_free(&t->valid);
    free(t->fingerprint);
    return status;
}

const float *ot_training_values(void *training, const ot_param *p) {
    const ot_training *t = training;
    for (int64_t i = 0; i < t->trained.n_items; i++) {
        if (t->trained.items[i].slot == &p->slot) return t->trained.master + t->trained.items[i].offset;
    }
    return NULL;
}
