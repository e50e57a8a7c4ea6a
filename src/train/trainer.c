#include "train/trainer.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/count.h"
#include "base/parallel.h"
#include "base/rng.h"
#include "train/trainer_internal.h"

double ot_schedule_rate(ot_schedule schedule, double lr, int64_t warmup, int64_t steps, int64_t t) {
    if (t < warmup) return lr * ((double)t / (double)warmup);
    double done = steps > warmup ? (double)(t - warmup) / (double)(steps - warmup) : 0.0;
    switch (schedule) {
    case OT_SCHEDULE_COSINE: return lr * 0.5 * (1.0 + cos(M_PI * done));
    case OT_SCHEDULE_LINEAR: return lr * (1.0 - done);
    case OT_SCHEDULE_CONSTANT: break;
    }
    return lr;
}

/* ==== Setting up. ==== */

/* Does the language-model loss count, besides or instead of a teacher? */
static bool has_lm(const ot_trainer *tr) { return tr->options.teacher == NULL || tr->options.lm_weight > 0; }

ot_status ot_trainer_make_network(ot_trainer *tr, const ot_dataset *data, bool train, const ot_teacher *teacher, ot_network **out, ot_error *err) {
    int64_t rows = 0;
    bool alone = teacher != NULL && teacher->use == OT_TEACHER_ALONE;
    if (!ot_mul_i64(tr->options.batch, data->length, &rows) || rows > INT32_MAX / 4) {
        return ot_fail(err, OT_ERR_USAGE, "a micro-batch of %lld rows of %lld tokens is too large: use a smaller --batch or --block",
                       (long long)tr->options.batch, (long long)data->length);
    }
    ot_network_options options = {
        .plan = {.backend = tr->options.backend,
                 .compute = tr->options.compute,
                 .max_rows = rows,
                 .max_targets = ot_dataset_most_targets(data) * tr->options.batch,
                 .train = train,
                 .recompute = train && tr->options.recompute},
        .hooks = tr->options.hooks,
        .outputs = has_lm(tr) && !alone ? OT_OUT_LOSS : 0,
        .max_segments = ot_dataset_most_examples(data) * tr->options.batch,
        .dropout = train ? tr->options.dropout : 0.0,
        .label_smoothing = train ? tr->options.label_smoothing : 0.0,
        .image_height = data->pixels != NULL ? data->pixels->height : 0,
        .image_width = data->pixels != NULL ? data->pixels->width : 0,
        .teacher = teacher,
    };
    return ot_network_new(tr->model, &options, out, err);
}

/* Validation scores the language model, or the distance alone where there is none. */
static ot_status make_valid_network(ot_trainer *tr, ot_error *err) {
    if (has_lm(tr)) return ot_trainer_make_network(tr, tr->valid, false, NULL, &tr->valid_net, err);
    tr->valid_teacher = *tr->options.teacher;
    tr->valid_teacher.hidden_weight = tr->valid_teacher.kl_weight = 0;
    return ot_trainer_make_network(tr, tr->valid, false, &tr->valid_teacher, &tr->valid_net, err);
}

ot_status ot_trainer_new(ot_model *m, ot_trainables *t, const ot_dataset *train, const ot_dataset *valid, const ot_train_options *options,
                         ot_trainer **out, ot_error *err) {
    if (options->warmup > options->steps) {
        return ot_fail(err, OT_ERR_USAGE, "--warmup %lld is longer than the run of %lld step%s", (long long)options->warmup,
                       (long long)options->steps, OT_PLURAL(options->steps));
    }
    ot_trainer *tr = calloc(1, sizeof *tr);
    if (tr == NULL) return ot_fail_memory(err, sizeof *tr, "a trainer");
    tr->model = m;
    tr->t = t;
    tr->train = train;
    tr->valid = valid;
    tr->options = *options;
    t->optimizer = options->optimizer;
    tr->order_epoch = tr->best_step = tr->on_disk = -1;
    tr->best_valid = tr->last_valid = tr->last_loss = NAN;
    ot_status status = ot_malloc(train->rows, 8, "the row order", (void **)&tr->order, err);
    if (status == OT_OK) {
        status = options->teacher != NULL ? ot_trainer_plan_teacher(tr, err) : ot_trainer_make_network(tr, train, true, NULL, &tr->net, err);
    }
    if (status == OT_OK && valid != NULL) status = make_valid_network(tr, err);
    if (status != OT_OK) {
        ot_trainer_free(tr);
        return status;
    }
    *out = tr;
    return OT_OK;
}

static bool keeps_best(const ot_trainer *tr) { return tr->options.select_best && tr->valid != NULL; }

/* Those of a file, and fresh ones, which ot_model_initialise lays down in F32. */
static int64_t weight_bytes(const ot_model *m) {
    int64_t bytes = ot_model_stored_bytes(m);
    for (int64_t i = 0; i < m->n_params; i++) bytes += m->params[i].stored.data == NULL ? ot_param_elements(&m->params[i]) * 4 : 0;
    return bytes;
}

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

void ot_trainer_memory(const ot_trainer *tr, ot_train_memory *out) {
    *out = (ot_train_memory){
        .program = OT_PROGRAM_BYTES,
        .weights = weight_bytes(tr->model) + (tr->options.teacher != NULL ? weight_bytes(tr->options.teacher->model) : 0),
        .trained = ot_trainables_bytes(tr->t, keeps_best(tr)) + (tr->options.compute == OT_BF16 ? tr->t->stretch * 2 : 0),
        .activations = larger(ot_network_bytes(tr->net) + (tr->valid_net != NULL ? ot_network_bytes(tr->valid_net) : 0), tr->alone_bytes),
        .data = ot_dataset_bytes(tr->train) + (tr->valid != NULL ? ot_dataset_bytes(tr->valid) : 0) + tr->train->rows * 8,
    };
}

int64_t ot_train_memory_sum(const ot_train_memory *m) { return m->program + m->weights + m->trained + m->activations + m->data; }

void ot_trainer_free(ot_trainer *tr) {
    if (tr == NULL) return;
    ot_network_free(tr->net);
    ot_network_free(tr->valid_net);
    ot_teacher_cache_close(tr->cache);
    ot_free(tr->order);
    if (tr->log != NULL) fclose(tr->log);
    free(tr);
}

/* ==== One step. ==== */

int64_t ot_trainer_row(ot_trainer *tr, int64_t position) {
    if (tr->train->stream != NULL) return position % (tr->options.batch * tr->options.grad_accum);
    int64_t epoch = position / tr->train->rows;
    if (epoch != tr->order_epoch) {
        ot_dataset_order(tr->train, tr->options.shuffle, tr->options.seed, epoch, tr->order);
        tr->order_epoch = epoch;
    }
    return tr->order[position % tr->train->rows];
}

int64_t ot_trainer_row_number(ot_trainer *tr, int64_t position) {
    int64_t row = ot_trainer_row(tr, position);
    return tr->train->stream != NULL ? ot_stream_row_number(tr->train->stream, row) : row;
}

/* What ot_trainer_row counts. */
static const ot_dataset *rows_of(const ot_trainer *tr) { return tr->train->stream != NULL ? ot_stream_rows(tr->train->stream) : tr->train; }

/* Pictures are read ahead as far as there is room, but not beyond an epoch, which ends with a new order. */
static void look_ahead(ot_trainer *tr, int64_t position) {
    const ot_dataset *d = tr->train;
    int64_t epoch = position / d->rows, end = (epoch + 1) * d->rows, last = tr->options.steps * tr->options.batch * tr->options.grad_accum;
    if (d->pixels == NULL || d->pixels->expect == NULL) return;
    if (end > last) end = last;
    if (tr->announced < position) tr->announced = position;
    while (tr->announced < end && d->pixels->expect(d->pixels, ot_trainer_row(tr, tr->announced), epoch)) tr->announced++;
}

static ot_status add_row(ot_trainer *tr, int64_t position, ot_error *err) {
    int64_t row = ot_trainer_row(tr, position), at = ot_network_rows(tr->net);
    look_ahead(tr, position);
    OT_TRY(ot_dataset_add_training_row(tr->net, rows_of(tr), row, position / tr->train->rows, err));
    return tr->cache != NULL ? ot_trainer_give(tr, row, at, err) : OT_OK;
}

/* The teacher's terms, summed over the micro-batches by their shares. */
typedef struct taught {
    double distance, hidden, divergence;
} taught;

static void report_loss(const ot_trainer *tr, double lm, const taught *sums, ot_train_event *event) {
    const ot_teacher *t = tr->options.teacher;
    event->loss = lm;
    event->loss_lm = event->loss_kd = event->loss_hidden = event->loss_kl = NAN;
    if (t == NULL) return;
    event->loss = tr->options.lm_weight * lm + t->weight * sums->distance + t->hidden_weight * sums->hidden + t->kl_weight * sums->divergence;
    event->loss_kd = sums->distance;
    if (has_lm(tr)) event->loss_lm = lm;
    if (t->hidden_weight > 0) event->loss_hidden = sums->hidden;
    if (t->kl_weight > 0) event->loss_kl = sums->divergence;
}

static ot_status run_micro_batches(ot_trainer *tr, ot_train_event *event, int64_t *tokens, ot_error *err) {
    const ot_train_options *o = &tr->options;
    double lm_weight = o->teacher != NULL ? o->lm_weight : 1.0;
    int64_t first = tr->step * o->batch * o->grad_accum, targets = 0;
    if (tr->train->stream != NULL) OT_TRY(ot_stream_next(tr->train->stream, o->batch * o->grad_accum, err));
    for (int64_t i = 0; i < o->batch * o->grad_accum; i++) targets += rows_of(tr)->counted[ot_trainer_row(tr, first + i)];
    double sum = 0;
    taught sums = {0};
    for (int64_t a = 0; a < o->grad_accum; a++) {
        ot_network_clear(tr->net);
        for (int64_t i = 0; i < o->batch; i++) OT_TRY(add_row(tr, first + a * o->batch + i, err));
        *tokens += ot_network_rows(tr->net);
        if (ot_network_targets(tr->net) == 0) continue;
        double part = 0, share = (double)ot_network_targets(tr->net) / (double)targets;
        ot_run_options run = {.loss_scale = lm_weight / (double)targets,
                              .distance_scale = share,
                              .dropout_seed = ot_rng_hash(o->seed ^ 0x64726F70ULL, (uint64_t)(tr->step * o->grad_accum + a))};
        OT_TRY(ot_network_run(tr->net, &run, &part, err));
        sum += part;
        sums.distance += share * ot_network_distance(tr->net);
        sums.hidden += share * ot_network_hidden_distance(tr->net);
        sums.divergence += share * ot_network_divergence(tr->net);
    }
    report_loss(tr, targets > 0 ? sum / (double)targets : 0.0, &sums, event);
    return OT_OK;
}

static void name_rows(ot_trainer *tr, ot_train_event *event) {
    int64_t most = (int64_t)(sizeof event->rows / sizeof *event->rows);
    event->n_rows = tr->options.batch * tr->options.grad_accum;
    for (int64_t i = 0; i < event->n_rows && i < most; i++) event->rows[i] = ot_trainer_row_number(tr, tr->step * event->n_rows + i);
}

static ot_status step_once(ot_trainer *tr, ot_train_event *event, ot_error *err) {
    const ot_train_options *o = &tr->options;
    double start = ot_seconds();
    int64_t tokens = 0;
    OT_TRY(run_micro_batches(tr, event, &tokens, err));
    double norm = ot_trainables_gradient_norm(tr->t);
    event->step = tr->step;
    event->learning_rate = ot_schedule_rate(o->schedule, o->lr, o->warmup, o->steps, tr->step);
    event->grad_norm = norm;
    event->guard = ot_guard_judge(&tr->guard, event->loss, norm, o->guard, o->guard_limit);
    if (event->guard.kind != OT_GUARD_FINE) name_rows(tr, event);
    if (event->guard.action == OT_GUARD_STOPPED) return OT_OK;
    tr->broken = event->guard.kind == OT_GUARD_NOT_FINITE;
    event->skipped = event->guard.action == OT_GUARD_SKIPPED;
    if (event->skipped) {
        ot_trainables_clear_gradients(tr->t);
    } else {
        double scale = o->clip > 0 ? fmin(1.0, o->clip / (norm + 1e-6)) : 1.0;
        int64_t updates = tr->step + 1 - tr->guard.skipped;
        ot_trainables_update(tr->t, &(ot_update){.lr = event->learning_rate, .decay = o->weight_decay, .step = updates, .grad_scale = scale});
        tr->last_loss = event->loss;
    }
    tr->tokens += tokens;
    tr->step++;
    event->steps = o->steps;
    event->epoch = (double)(tr->step * o->batch * o->grad_accum) / (double)tr->train->rows;
    if (tr->train->stream != NULL) {
        ot_stream_tell(tr->train->stream, &tr->place);
        event->epoch = ot_stream_epochs(tr->train->stream);
    }
    event->tokens = tr->tokens;
    event->tokens_per_second = (double)tokens / (ot_seconds() - start);
    event->peak_memory_bytes = ot_memory_peak();
    return OT_OK;
}

/* ==== Validation. ==== */

ot_status ot_dataset_loss(ot_network *net, const ot_dataset *data, int64_t batch, bool by_distance, double *loss, ot_error *err) {
    double sum = 0;
    for (int64_t r = 0; r < data->rows; r += batch) {
        ot_network_clear(net);
        for (int64_t i = r; i < r + batch && i < data->rows; i++) OT_TRY(ot_dataset_add_row(net, data, i, err));
        if (ot_network_targets(net) == 0) continue;
        double part = 0;
        OT_TRY(ot_network_run(net, &(ot_run_options){0}, &part, err));
        sum += by_distance ? ot_network_distance(net) * (double)ot_network_targets(net) : part;
    }
    *loss = sum / (double)ot_dataset_targets(data);
    return OT_OK;
}

static ot_status validate(ot_trainer *tr, ot_train_event *event, ot_error *err) {
    OT_TRY(ot_dataset_loss(tr->valid_net, tr->valid, tr->options.batch, !has_lm(tr), &tr->last_valid, err));
    event->validated = true;
    event->valid_loss = tr->last_valid;
    event->best = isfinite(tr->last_valid) && (isnan(tr->best_valid) || tr->last_valid < tr->best_valid);
    tr->stale = event->best ? 0 : tr->stale + 1;
    if (event->best) {
        tr->best_valid = tr->last_valid;
        tr->best_step = tr->step;
        if (tr->options.select_best) ot_trainables_keep_best(tr->t);
    }
    return OT_OK;
}

/* ==== The loop. ==== */

static bool due(int64_t every, int64_t step) { return every > 0 && step % every == 0; }

/* Has the time since the last checkpoint been fifty times what one costs? */
static bool worth_saving(const ot_trainer *tr, double at_least) {
    double since = ot_seconds() - tr->saved_at;
    return since >= at_least && since >= 50 * tr->save_seconds;
}

static bool save_due(const ot_trainer *tr) {
    static const double minute = 60;
    return tr->options.save_every == OT_SAVE_SELDOM ? worth_saving(tr, minute) : due(tr->options.save_every, tr->step);
}

/* Weights that do not give finite numbers are not kept: what was saved before them is worth more. */
static ot_status save(ot_trainer *tr, ot_error *err) {
    if (tr->options.checkpoint_path == NULL || tr->broken || tr->on_disk == tr->step) return OT_OK;
    double start = ot_seconds();
    OT_TRY(ot_trainer_save(tr, err));
    tr->saved_at = ot_seconds();
    tr->save_seconds = tr->saved_at - start;
    tr->all_save_seconds += tr->save_seconds;
    tr->saves++;
    tr->on_disk = tr->step;
    return OT_OK;
}

static bool out_of_patience(const ot_trainer *tr) { return tr->options.patience > 0 && tr->stale >= tr->options.patience; }

const char *ot_train_rows_text(const ot_train_event *e, char *text, size_t size) {
    int64_t most = (int64_t)(sizeof e->rows / sizeof *e->rows);
    size_t used = (size_t)snprintf(text, size, "%s", e->n_rows > 1 ? "rows" : "row");
    for (int64_t i = 0; i < e->n_rows && i < most && used < size; i++) {
        int n = snprintf(text + used, size - used, "%s%" PRId64, i > 0 ? ", " : " ", e->rows[i]);
        used += n > 0 ? (size_t)n : 0;
    }
    if (e->n_rows > most && used < size) snprintf(text + used, size - used, ", ...");
    return text;
}

static ot_status stopped_by_guard(ot_trainer *tr, const ot_train_event *e, ot_error *err) {
    const ot_guard_verdict *v = &e->guard;
    char rows[256], kept[128] = "";
    ot_train_rows_text(e, rows, sizeof rows);
    if (v->kind != OT_GUARD_NOT_FINITE) OT_TRY(save(tr, err));
    if (tr->on_disk >= 0) snprintf(kept, sizeof kept, "; the checkpoint of step %" PRId64 " is kept", tr->on_disk);
    if (v->kind == OT_GUARD_NOT_FINITE) {
        char series[64] = "";
        if (v->in_a_row > 1) snprintf(series, sizeof series, ", the last of %" PRId64 " such steps in a row", v->in_a_row);
        return ot_fail(err, OT_ERR_NUMERIC,
                       "step %" PRId64 ": the loss is %g and the gradient norm %g (data %s)%s: nothing was updated%s; use a smaller --lr, a longer --warmup, "
                       "or --dtype f32",
                       e->step, e->loss, e->grad_norm, rows, series, kept);
    }
    if (v->kind == OT_GUARD_DIVERGED) {
        return ot_fail(err, OT_ERR_NUMERIC,
                       "step %" PRId64 ": the run has diverged: losses like %.4g where it began with %.4g%s; begin again with a smaller --lr or a longer --warmup",
                       e->step, e->loss, v->usual, kept);
    }
    bool loss = v->kind == OT_GUARD_LOSS;
    return ot_fail(err, OT_ERR_NUMERIC,
                   "step %" PRId64 ": the %s is %.4g where %.4g was usual (data %s): nothing was updated%s; look at these rows, use a smaller --lr, or "
                   "go on with --resume --guard %s",
                   e->step, loss ? "loss" : "gradient norm", loss ? e->loss : e->grad_norm, v->usual, rows, kept,
                   tr->options.guard == OT_GUARD_STOP ? "skip" : "warn");
}

static ot_status interrupted(const ot_trainer *tr, ot_error *err) {
    const char *how = "";
    if (tr->options.checkpoint_path != NULL) how = ": the same command with --resume goes on from here";
    if (tr->broken) how = ", in steps that were not finite: the last checkpoint before them stays";
    return ot_fail(err, OT_ERR_INTERRUPTED, "stopped after step %" PRId64 " of %" PRId64 "%s", tr->step, tr->options.steps, how);
}

static ot_status loop(ot_trainer *tr, ot_error *err) {
    const ot_train_options *o = &tr->options;
    while (tr->step < o->steps && !out_of_patience(tr)) {
        ot_train_event event = {.valid_loss = NAN};
        OT_TRY(step_once(tr, &event, err));
        if (event.guard.action == OT_GUARD_STOPPED) {
            OT_TRY(ot_trainer_log(tr, &event, err));
            return stopped_by_guard(tr, &event, err);
        }
        if (tr->valid != NULL && (due(o->valid_every, tr->step) || tr->step == o->steps)) OT_TRY(validate(tr, &event, err));
        OT_TRY(ot_trainer_log(tr, &event, err));
        if (o->observe != NULL) o->observe(o->context, &event);
        bool stop = o->stop != NULL && *o->stop != 0 && tr->step < o->steps;
        if (stop || save_due(tr)) OT_TRY(save(tr, err));
        if (stop) return interrupted(tr, err);
    }
    return OT_OK;
}

/* When the run ended in steps that were not finite: are the weights to blame, or those rows? The rows that would come next tell. */
static ot_status check_end(ot_trainer *tr, ot_error *err) {
    const ot_train_options *o = &tr->options;
    if (tr->valid != NULL && o->select_best && tr->step > 0 && tr->best_step < 0) {
        return ot_fail(err, OT_ERR_NUMERIC, "the validation loss was never finite: use a smaller --lr, a longer --warmup, or --dtype f32");
    }
    if (!tr->broken || (o->select_best && tr->best_step >= 0)) return OT_OK;
    ot_train_event next = {0};
    int64_t tokens = 0;
    OT_TRY(run_micro_batches(tr, &next, &tokens, err));
    if (isfinite(next.loss) && isfinite(ot_trainables_gradient_norm(tr->t))) return OT_OK;
    return ot_fail(err, OT_ERR_NUMERIC,
                   "the run ended with %" PRId64 " step%s whose loss or gradients were not finite, and the weights give no finite loss any more: use a "
                   "smaller --lr, a longer --warmup, or --dtype f32",
                   tr->guard.in_a_row, OT_PLURAL(tr->guard.in_a_row));
}

/* Before the first one has been measured: what a slow disk would take. */
static double expected_save(const ot_trainer *tr) { return (double)ot_trainables_bytes(tr->t, keeps_best(tr)) / 5e8; }

ot_status ot_trainer_run(ot_trainer *tr, ot_train_result *result, ot_error *err) {
    const ot_train_options *o = &tr->options;
    OT_TRY(ot_trainables_bind(tr->t, o->compute, keeps_best(tr), err));
    if (tr->teacher_plan.cached) OT_TRY(ot_trainer_fill_cache(tr, err));
    OT_TRY(ot_network_allocate(tr->net, err));
    if (tr->valid_net != NULL) OT_TRY(ot_network_allocate(tr->valid_net, err));
    if (o->resume && o->checkpoint_path != NULL) OT_TRY(ot_trainer_load(tr, err));
    if (tr->train->stream != NULL) OT_TRY(ot_stream_seek(tr->train->stream, &tr->place, err));
    *result = (ot_train_result){.first_step = tr->step};
    OT_TRY(ot_trainer_open_log(tr, err));
    tr->saved_at = ot_seconds();
    tr->save_seconds = expected_save(tr);
    OT_TRY(loop(tr, err));
    OT_TRY(check_end(tr, err));
    /* Writing the result may fail: the end is worth a checkpoint, unless that took much of the time since the last one. */
    if (o->save_every != OT_SAVE_SELDOM || worth_saving(tr, 0)) OT_TRY(save(tr, err));
    if (o->select_best && tr->best_step >= 0) ot_trainables_restore_best(tr->t);
    result->steps_done = tr->step;
    result->last_loss = tr->last_loss;
    result->valid_loss = tr->last_valid;
    result->best_valid_loss = tr->best_valid;
    result->best_step = tr->best_step;
    result->skipped = tr->guard.skipped;
    result->spikes = tr->guard.spikes;
    result->early = tr->step < o->steps;
    result->saves = tr->saves;
    result->save_seconds = tr->all_save_seconds;
    return OT_OK;
}
