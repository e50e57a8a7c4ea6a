#include "train/trainables.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/parallel.h"
#include "train/sweep.h"

enum { PAD = 16, CHUNK = 1 << 16 };

ot_status ot_trainables_add(ot_trainables *t, const char *name, ot_slot *slot, int32_t n_dims, bool decay, double lr_scale, ot_error *err) {
    OT_TRY(ot_grow((void **)&t->items, &t->capacity, t->n_items + 1, sizeof *t->items, "the list of trained tensors", err));
    int64_t count = slot->rows * slot->cols;
    t->items[t->n_items++] = (ot_trainable){.name = name,
                                            .slot = slot,
                                            .n_dims = n_dims > 1 ? 2 : 1, /* as the engine multiplies: a patch convolution is a matrix */
                                            .shape = {n_dims == 1 ? slot->cols : slot->rows, n_dims == 1 ? 0 : slot->cols},
                                            .decay = decay,
                                            .lr_scale = lr_scale,
                                            .offset = t->stretch,
                                            .count = count,
                                            .first_block = t->blocks};
    t->count += count;
    t->stretch += ot_round_up(count, PAD);
    t->blocks += (count + OT_STATE_BLOCK - 1) / OT_STATE_BLOCK;
    slot->trainable = true;
    return OT_OK;
}

ot_status ot_trainables_add_param(ot_trainables *t, ot_param *p, ot_error *err) {
    return ot_trainables_add(t, p->name, &p->slot, p->stored.n_dims, p->decay, 1.0, err);
}

static int64_t half_elements(const ot_trainables *t, ot_dtype compute) { return compute == OT_BF16 ? t->stretch : 0; }

static int64_t element_bytes(ot_state_kind kind) { return kind == OT_STATE_CODES ? 1 : 4; }

/* Elements of a state. */
static int64_t state_count(const ot_trainables *t, ot_state_kind kind) {
    return kind == OT_STATE_NONE ? 0 : kind == OT_STATE_SCALES ? t->blocks : t->stretch;
}

static const ot_optimizer *optimizer_of(const ot_trainables *t) { return t->optimizer.optimizer != NULL ? t->optimizer.optimizer : ot_optimizers[0]; }

int64_t ot_trainables_bytes(const ot_trainables *t, bool keep_best) {
    int64_t bytes = t->stretch * 4 * (keep_best ? 3 : 2);
    for (int k = 0; k < OT_OPTIMIZER_STATES; k++) {
        ot_state_kind kind = optimizer_of(t)->states[k].kind;
        bytes += state_count(t, kind) * element_bytes(kind);
    }
    return bytes;
}

ot_dtype ot_trainables_state(const ot_trainables *t, int state, const ot_trainable *item, void **data, int64_t *count) {
    ot_state_kind kind = t->optimizer.optimizer->states[state].kind;
    bool scales = kind == OT_STATE_SCALES;
    *count = scales ? (item->count + OT_STATE_BLOCK - 1) / OT_STATE_BLOCK : item->count;
    *data = (char *)t->states[state] + (scales ? item->first_block : item->offset) * element_bytes(kind);
    return kind == OT_STATE_CODES ? OT_U8 : OT_F32;
}

static ot_status allocate(ot_trainables *t, bool keep_best, ot_error *err) {
    OT_TRY(ot_calloc(t->stretch, 4, "trained values", (void **)&t->master, err));
    OT_TRY(ot_calloc(t->stretch, 4, "their gradients", (void **)&t->grad, err));
    for (int k = 0; k < OT_OPTIMIZER_STATES; k++) {
        ot_state_kind kind = t->optimizer.optimizer->states[k].kind;
        OT_TRY(ot_calloc(state_count(t, kind), element_bytes(kind), "the optimizer's state", &t->states[k], err));
    }
    if (keep_best) OT_TRY(ot_calloc(t->stretch, 4, "the best trained values", (void **)&t->best, err));
    OT_TRY(ot_calloc(half_elements(t, t->compute), 2, "bf16 copies of trained values", (void **)&t->halves, err));
    for (int64_t i = 0; i < t->n_items; i++) t->items[i].first = *t->items[i].slot;
    return OT_OK;
}

static void clear(ot_trainables *t) {
    memset(t->master, 0, (size_t)t->stretch * sizeof *t->master);
    ot_trainables_clear_gradients(t);
    for (int k = 0; k < OT_OPTIMIZER_STATES; k++) {
        ot_state_kind kind = t->optimizer.optimizer->states[k].kind;
        if (kind != OT_STATE_NONE) memset(t->states[k], 0, (size_t)(state_count(t, kind) * element_bytes(kind)));
    }
    if (t->best != NULL) memset(t->best, 0, (size_t)t->stretch * sizeof *t->best);
}

ot_status ot_trainables_bind(ot_trainables *t, ot_dtype compute, bool keep_best, ot_error *err) {
    t->compute = compute;
    if (t->optimizer.optimizer == NULL) OT_TRY(ot_optimizer_parse(ot_optimizers[0]->spec.name, &t->optimizer, err));
    if (t->master == NULL) {
        OT_TRY(allocate(t, keep_best, err));
    } else {
        clear(t);
    }
    for (int64_t i = 0; i < t->n_items; i++) {
        ot_trainable *item = &t->items[i];
        if (item->first.data != NULL) ot_slot_read(&item->first, t->master + item->offset);
        bool half = t->halves != NULL && item->n_dims > 1;
        item->slot->dtype = half ? OT_BF16 : OT_F32;
        item->slot->data = half ? (const void *)(t->halves + item->offset) : t->master + item->offset;
        item->slot->grad = t->grad + item->offset;
    }
    ot_trainables_refresh(t);
    return OT_OK;
}

void ot_trainables_unbind(ot_trainables *t) {
    for (int64_t i = 0; t->master != NULL && i < t->n_items; i++) *t->items[i].slot = t->items[i].first;
}

void ot_trainables_finish(ot_trainables *t) {
    for (int64_t i = 0; i < t->n_items; i++) t->items[i].slot->grad = NULL;
    ot_free(t->grad);
    ot_free(t->best);
    t->grad = t->best = NULL;
    for (int k = 0; k < OT_OPTIMIZER_STATES; k++) {
        ot_free(t->states[k]);
        t->states[k] = NULL;
    }
}

void ot_trainables_free(ot_trainables *t) {
    ot_free(t->grad);
    ot_free(t->best);
    for (int k = 0; k < OT_OPTIMIZER_STATES; k++) ot_free(t->states[k]);
    free(t->items);
    ot_free(t->master);
    ot_free(t->halves);
    *t = (ot_trainables){0};
}

/* ==== Sweeps over the arenas, in chunks whose borders do not depend on the threads. ==== */

static int64_t chunks(const ot_trainables *t) { return (t->stretch + CHUNK - 1) / CHUNK; }

static int64_t chunk_end(const ot_trainables *t, int64_t chunk) {
    int64_t end = (chunk + 1) * CHUNK;
    return end < t->stretch ? end : t->stretch;
}

static void refresh_chunk(void *context, int64_t chunk) {
    ot_trainables *t = context;
    for (int64_t i = chunk * CHUNK; i < chunk_end(t, chunk); i++) t->halves[i] = ot_f32_to_bf16(t->master[i]);
}

void ot_trainables_refresh(ot_trainables *t) {
    if (t->halves != NULL) ot_parallel_for(chunks(t), refresh_chunk, t);
}

void ot_trainables_keep_best(ot_trainables *t) { memcpy(t->best, t->master, (size_t)t->stretch * sizeof *t->best); }

void ot_trainables_restore_best(ot_trainables *t) {
    memcpy(t->master, t->best, (size_t)t->stretch * sizeof *t->best);
    ot_trainables_refresh(t);
}

enum { NORM_PARTS = 256 };

typedef struct norm_job {
    const ot_trainables *t;
    double sums[NORM_PARTS];
} norm_job;

/* At least a chunk each, so that a small model is not worth waking threads for. */
static int64_t norm_part_size(const ot_trainables *t) {
    int64_t each = ot_round_up((t->stretch + NORM_PARTS - 1) / NORM_PARTS, PAD);
    return each < CHUNK ? CHUNK : each;
}

static void norm_part(void *context, int64_t part) {
    norm_job *job = context;
    int64_t each = norm_part_size(job->t);
    int64_t begin = part * each, end = begin + each < job->t->stretch ? begin + each : job->t->stretch;
    job->sums[part] = begin < end ? ot_sweep_squares(job->t->grad + begin, end - begin) : 0.0;
}

double ot_trainables_gradient_norm(const ot_trainables *t) {
    norm_job job = {.t = t};
    int64_t used = (t->stretch + norm_part_size(t) - 1) / norm_part_size(t);
    ot_parallel_for(used, norm_part, &job);
    double sum = 0;
    for (int64_t i = 0; i < used; i++) sum += job.sums[i];
    return sqrt(sum);
}

/* ==== The optimizer. ==== */

typedef struct update_job {
    ot_trainables *t;
    const ot_trainable *item;
    ot_optimizer_step step;
} update_job;

static void update_chunk(void *context, int64_t chunk) {
    const update_job *job = context;
    const ot_trainables *t = job->t;
    const ot_trainable *item = job->item;
    int64_t from = chunk * CHUNK, begin = item->offset + from;
    ot_optimizer_span span = {.w = t->master + begin,
                              .g = t->grad + begin,
                              .half = t->halves == NULL ? NULL : t->halves + begin,
                              .n = item->count - from < CHUNK ? item->count - from : CHUNK,
                              .first = begin};
    for (int k = 0; k < OT_OPTIMIZER_STATES; k++) {
        ot_state_kind kind = t->optimizer.optimizer->states[k].kind;
        int64_t at = kind == OT_STATE_SCALES ? item->first_block + from / OT_STATE_BLOCK : begin;
        if (kind != OT_STATE_NONE) span.states[k] = (char *)t->states[k] + at * element_bytes(kind);
    }
    t->optimizer.optimizer->update(&job->step, &span);
}

void ot_trainables_update(ot_trainables *t, const ot_update *u) {
    static_assert(CHUNK % OT_STATE_BLOCK == 0, "a block must not lie in two chunks");
    for (int64_t i = 0; i < t->n_items; i++) {
        const ot_trainable *item = &t->items[i];
        update_job job = {.t = t,
                          .item = item,
                          .step = {.lr = u->lr * item->lr_scale,
                                   .decay = item->decay ? u->decay : 0.0,
                                   .grad_scale = u->grad_scale,
                                   .step = u->step,
                                   .keys = t->optimizer.keys}};
        ot_parallel_for((item->count + CHUNK - 1) / CHUNK, update_chunk, &job);
    }
}

void ot_trainables_clear_gradients(ot_trainables *t) { memset(t->grad, 0, (size_t)t->stretch * sizeof *t->grad); }
