#include "train/trainer.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

static ot_status make_network(ot_trainer *tr, const ot_dataset *data, bool train, ot_network **out, ot_error *err) {
    int64_t rows = 0;
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
        .outputs = has_lm(tr) ? OT_OUT_LOSS : 0,
        .max_segments = ot_dataset_most_examples(data) * tr->options.batch,
        .dropout = train ? tr->options.dropout : 0.0,
        .image_height = data->pixels != NULL ? data->pixels->height : 0,
        .image_width = data->pixels != NULL ? data->pixels->width : 0,
        .teacher = train || !has_lm(tr) ? tr->options.teacher : NULL,
    };
    return ot_network_new(tr->model, &options, out, err);
}

ot_status ot_trainer_new(ot_model *m, ot_trainables *t, const ot_dataset *train, const ot_dataset *valid, const ot_train_options *options,
                         ot_trainer **out, ot_error *err) {
    if (options->warmup > options->steps) {
        return ot_fail(err, OT_ERR_USAGE, "--warmup %lld is longer than the run of %lld steps", (long long)options->warmup,
                       (long long)options->steps);
    }
    ot_trainer *tr = calloc(1, sizeof *tr);
    if (tr == NULL) return ot_fail_memory(err, sizeof *tr, "a trainer");
    tr->model = m;
    tr->t = t;
    tr->train = train;
    tr->valid = valid;
    tr->options = *options;
    t->optimizer = options->optimizer;
    tr->order_epoch = tr->best_step = -1;
    tr->best_valid = tr->last_valid = tr->last_loss = NAN;
    ot_status status = ot_malloc(train->rows, 8, "the row order", (void **)&tr->order, err);
    if (status == OT_OK) status = make_network(tr, train, true, &tr->net, err);
    if (status == OT_OK && valid != NULL) status = make_network(tr, valid, false, &tr->valid_net, err);
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

void ot_trainer_memory(const ot_trainer *tr, ot_train_memory *out) {
    *out = (ot_train_memory){
        .weights = weight_bytes(tr->model) + (tr->options.teacher != NULL ? weight_bytes(tr->options.teacher->model) : 0),
        .trained = ot_trainables_bytes(tr->t, keeps_best(tr)) + (tr->options.compute == OT_BF16 ? tr->t->stretch * 2 : 0),
        .activations = ot_network_bytes(tr->net) + (tr->valid_net != NULL ? ot_network_bytes(tr->valid_net) : 0),
        .data = ot_dataset_bytes(tr->train) + (tr->valid != NULL ? ot_dataset_bytes(tr->valid) : 0) + tr->train->rows * 8,
    };
}

void ot_trainer_free(ot_trainer *tr) {
    if (tr == NULL) return;
    ot_network_free(tr->net);
    ot_network_free(tr->valid_net);
    ot_free(tr->order);
    if (tr->log != NULL) fclose(tr->log);
    free(tr);
}

/* ==== One step. ==== */

/* The data row that comes as number `position` since the start of the run. */
static int64_t row_at(ot_trainer *tr, int64_t position) {
    int64_t epoch = position / tr->train->rows;
    if (epoch != tr->order_epoch) {
        ot_dataset_order(tr->train, tr->options.shuffle, tr->options.seed, epoch, tr->order);
        tr->order_epoch = epoch;
    }
    return tr->order[position % tr->train->rows];
}

static ot_status run_micro_batches(ot_trainer *tr, ot_train_event *event, int64_t *tokens, ot_error *err) {
    const ot_train_options *o = &tr->options;
    double lm_weight = o->teacher != NULL ? o->lm_weight : 1.0, kd_weight = o->teacher != NULL ? o->teacher->weight : 0.0;
    int64_t first = tr->step * o->batch * o->grad_accum, targets = 0;
    for (int64_t i = 0; i < o->batch * o->grad_accum; i++) targets += tr->train->counted[row_at(tr, first + i)];
    double sum = 0, distance = 0;
    for (int64_t a = 0; a < o->grad_accum; a++) {
        ot_network_clear(tr->net);
        for (int64_t i = 0; i < o->batch; i++) OT_TRY(ot_dataset_add_row(tr->net, tr->train, row_at(tr, first + a * o->batch + i), err));
        *tokens += ot_network_rows(tr->net);
        if (ot_network_targets(tr->net) == 0) continue;
        double part = 0, share = (double)ot_network_targets(tr->net) / (double)targets;
        ot_run_options run = {.loss_scale = lm_weight / (double)targets,
                              .distance_scale = share,
                              .dropout_seed = ot_rng_hash(o->seed ^ 0x64726F70ULL, (uint64_t)(tr->step * o->grad_accum + a))};
        OT_TRY(ot_network_run(tr->net, &run, &part, err));
        sum += part;
        if (o->teacher != NULL) distance += share * ot_network_distance(tr->net);
    }
    double lm = targets > 0 ? sum / (double)targets : 0.0;
    event->loss = lm_weight * lm + kd_weight * distance;
    event->loss_lm = o->teacher != NULL && has_lm(tr) ? lm : NAN;
    event->loss_kd = o->teacher != NULL ? distance : NAN;
    return OT_OK;
}

static ot_status step_once(ot_trainer *tr, ot_train_event *event, ot_error *err) {
    const ot_train_options *o = &tr->options;
    double start = ot_seconds();
    int64_t tokens = 0;
    OT_TRY(run_micro_batches(tr, event, &tokens, err));
    double norm = ot_trainables_gradient_norm(tr->t);
    if (!isfinite(event->loss) || !isfinite(norm)) {
        return ot_fail(err, OT_ERR_NUMERIC,
                       "step %" PRId64 ": the loss is %g and the gradient norm %g: nothing was updated; use a smaller --lr, a longer --warmup, or "
                       "--dtype f32",
                       tr->step, event->loss, norm);
    }
    event->learning_rate = ot_schedule_rate(o->schedule, o->lr, o->warmup, o->steps, tr->step);
    event->grad_norm = norm;
    double scale = o->clip > 0 ? fmin(1.0, o->clip / (norm + 1e-6)) : 1.0;
    ot_trainables_update(tr->t, &(ot_update){.lr = event->learning_rate, .decay = o->weight_decay, .step = tr->step + 1, .grad_scale = scale});
    tr->tokens += tokens;
    tr->last_loss = event->loss;
    event->step = tr->step++;
    event->steps = o->steps;
    event->epoch = (double)(tr->step * o->batch * o->grad_accum) / (double)tr->train->rows;
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
    event->best = isnan(tr->best_valid) || tr->last_valid < tr->best_valid;
    if (event->best) {
        tr->best_valid = tr->last_valid;
        tr->best_step = tr->step;
        if (tr->options.select_best) ot_trainables_keep_best(tr->t);
    }
    return OT_OK;
}

/* ==== The log. ==== */

static ot_status log_event(ot_trainer *tr, const ot_train_event *e, ot_error *err) {
    if (tr->log == NULL) return OT_OK;
    fprintf(tr->log,
            "{\"step\": %" PRId64 ", \"epoch\": %.9g, \"loss\": %.9g, \"learning_rate\": %.9g, \"grad_norm\": %.9g, \"tokens\": %" PRId64
            ", \"tokens_per_second\": %.9g, \"peak_memory_bytes\": %" PRId64,
            e->step, e->epoch, e->loss, e->learning_rate, e->grad_norm, e->tokens, e->tokens_per_second, e->peak_memory_bytes);
    if (!isnan(e->loss_lm)) fprintf(tr->log, ", \"loss_lm\": %.9g", e->loss_lm);
    if (!isnan(e->loss_kd)) fprintf(tr->log, ", \"loss_kd\": %.9g", e->loss_kd);
    fputs("}\n", tr->log);
    if (e->validated) {
        fprintf(tr->log, "{\"step\": %" PRId64 ", \"epoch\": %.9g, \"valid_loss\": %.9g, \"best\": %s}\n", e->step, e->epoch, e->valid_loss,
                e->best ? "true" : "false");
    }
    if (fflush(tr->log) != 0) return ot_fail_errno(err, errno, "cannot write the log %s (the disk may be full)", tr->options.log_path);
    return OT_OK;
}

static ot_status open_log(ot_trainer *tr, bool resumed, ot_error *err) {
    if (tr->options.log_path == NULL) return OT_OK;
    tr->log = fopen(tr->options.log_path, resumed ? "r+e" : "we");
    if (tr->log == NULL && resumed && errno == ENOENT) tr->log = fopen(tr->options.log_path, "we");
    if (tr->log == NULL) return ot_fail_errno(err, errno, "cannot write the log %s", tr->options.log_path);
    if (!resumed) return OT_OK;
    /* Keep the lines of steps that the checkpoint has, drop what came after. */
    static const char begin[] = "{\"step\": ";
    char line[1024];
    long keep = 0;
    while (fgets(line, sizeof line, tr->log) != NULL) {
        if (strncmp(line, begin, sizeof begin - 1) != 0 || strchr(line, '\n') == NULL) break;
        long long step = strtoll(line + sizeof begin - 1, NULL, 10);
        if (step < 0 || step >= tr->step) break;
        keep = ftell(tr->log);
    }
    if (fseek(tr->log, keep, SEEK_SET) != 0 || ftruncate(fileno(tr->log), keep) != 0) {
        return ot_fail_errno(err, errno, "cannot cut the log %s back to step %" PRId64, tr->options.log_path, tr->step);
    }
    return OT_OK;
}

/* ==== The loop. ==== */

static bool due(int64_t every, int64_t step) { return every > 0 && step % every == 0; }

static ot_status loop(ot_trainer *tr, ot_error *err) {
    const ot_train_options *o = &tr->options;
    while (tr->step < o->steps) {
        ot_train_event event = {.valid_loss = NAN};
        OT_TRY(step_once(tr, &event, err));
        if (tr->valid != NULL && (due(o->valid_every, tr->step) || tr->step == o->steps)) OT_TRY(validate(tr, &event, err));
        OT_TRY(log_event(tr, &event, err));
        if (o->observe != NULL) o->observe(o->context, &event);
        bool stop = o->stop != NULL && *o->stop != 0 && tr->step < o->steps;
        if (o->checkpoint_path != NULL && (stop || due(o->save_every, tr->step))) OT_TRY(ot_trainer_save(tr, err));
        if (stop) {
            return ot_fail(err, OT_ERR_INTERRUPTED, "stopped after step %" PRId64 " of %" PRId64 "%s", tr->step, o->steps,
                           o->checkpoint_path != NULL ? ": the same command with --resume goes on from here" : "");
        }
    }
    return OT_OK;
}

ot_status ot_trainer_run(ot_trainer *tr, ot_train_result *result, ot_error *err) {
    OT_TRY(ot_trainables_bind(tr->t, tr->options.compute, keeps_best(tr), err));
    OT_TRY(ot_network_allocate(tr->net, err));
    if (tr->valid_net != NULL) OT_TRY(ot_network_allocate(tr->valid_net, err));
    if (tr->options.resume && tr->options.checkpoint_path != NULL) OT_TRY(ot_trainer_load(tr, err));
    *result = (ot_train_result){.first_step = tr->step};
    OT_TRY(open_log(tr, tr->step > 0, err));
    OT_TRY(loop(tr, err));
    if (tr->options.checkpoint_path != NULL) OT_TRY(ot_trainer_save(tr, err));
    if (tr->options.select_best && tr->best_step >= 0) ot_trainables_restore_best(tr->t);
    result->steps_done = tr->step;
    result->last_loss = tr->last_loss;
    result->valid_loss = tr->last_valid;
    result->best_valid_loss = tr->best_valid;
    result->best_step = tr->best_step;
    return OT_OK;
}
