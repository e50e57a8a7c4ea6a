#include "train/trainables.h"

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
                                            .n_dims = n_dims,
                                            .shape = {n_dims == 1 ? slot->cols : slot->rows, n_dims == 1 ? 0 : slot->cols},
                                            .decay = decay,
                                            .lr_scale = lr_scale,
                                            .offset = t->stretch,
                                            .count = count};
    t->count += count;
    t->stretch += ot_round_up(count, PAD);
    slot->trainable = true;
    return OT_OK;
}

ot_status ot_trainables_add_param(ot_trainables *t, ot_param *p, ot_error *err) {
    return ot_trainables_add(t, p->name, &p->slot, p->stored.n_dims, p->decay, 1.0, err);
}

static int64_t half_elements(const ot_trainables *t, ot_dtype compute) { return compute == OT_BF16 ? t->stretch : 0; }

int64_t ot_trainables_bytes(const ot_trainables *t, bool keep_best) { return t->stretch * 4 * (keep_best ? 5 : 4); }

ot_status ot_trainables_bind(ot_trainables *t, ot_dtype compute, bool keep_best, ot_error *err) {
    t->compute = compute;
    float **arenas[] = {&t->master, &t->grad, &t->m, &t->v};
    for (size_t i = 0; i < sizeof arenas / sizeof *arenas; i++) {
        OT_TRY(ot_calloc(t->stretch, 4, "trained values and their moments", (void **)arenas[i], err));
    }
    if (keep_best) OT_TRY(ot_calloc(t->stretch, 4, "the best trained values", (void **)&t->best, err));
    OT_TRY(ot_calloc(half_elements(t, compute), 2, "bf16 copies of trained values", (void **)&t->halves, err));
    for (int64_t i = 0; i < t->n_items; i++) {
        ot_trainable *item = &t->items[i];
        if (item->slot->data != NULL) ot_decode_f32(item->slot->dtype, item->slot->data, t->master + item->offset, item->count);
        bool half = t->halves != NULL && item->n_dims > 1;
        item->slot->dtype = half ? OT_BF16 : OT_F32;
        item->slot->data = half ? (const void *)(t->halves + item->offset) : t->master + item->offset;
        item->slot->grad = t->grad + item->offset;
    }
    ot_trainables_refresh(t);
    return OT_OK;
}

void ot_trainables_free(ot_trainables *t) {
    free(t->items);
    ot_free(t->master);
    ot_free(t->grad);
    ot_free(t->m);
    ot_free(t->v);
    ot_free(t->best);
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
    job->sums[part] = begin < end ? ot_sweeps_best()->squares(job->t->grad + begin, end - begin) : 0.0;
}

double ot_trainables_gradient_norm(const ot_trainables *t) {
    norm_job job = {.t = t};
    int64_t used = (t->stretch + norm_part_size(t) - 1) / norm_part_size(t);
    ot_parallel_for(used, norm_part, &job);
    double sum = 0;
    for (int64_t i = 0; i < used; i++) sum += job.sums[i];
    return sqrt(sum);
}

/* ==== AdamW. ==== */

typedef struct adamw_job {
    ot_trainables *t;
    const ot_trainable *item;
    ot_adamw_constants constants;
} adamw_job;

static void adamw_chunk(void *context, int64_t chunk) {
    const adamw_job *job = context;
    ot_trainables *t = job->t;
    int64_t begin = job->item->offset + chunk * CHUNK, end = begin + CHUNK, last = job->item->offset + job->item->count;
    if (end > last) end = last;
    ot_sweeps_best()->adamw(t->master + begin, t->grad + begin, t->m + begin, t->v + begin, t->halves == NULL ? NULL : t->halves + begin,
                            end - begin, &job->constants);
}

void ot_trainables_adamw(ot_trainables *t, const ot_adamw *o) {
    double c1 = 1.0 - pow(o->beta1, (double)o->step), c2 = 1.0 - pow(o->beta2, (double)o->step);
    for (int64_t i = 0; i < t->n_items; i++) {
        const ot_trainable *item = &t->items[i];
        double lr = o->lr * item->lr_scale;
        adamw_job job = {.t = t,
                         .item = item,
                         .constants = {.scale = (float)o->grad_scale,
                                       .beta1 = (float)o->beta1,
                                       .beta2 = (float)o->beta2,
                                       .rest1 = (float)(1.0 - o->beta1),
                                       .rest2 = (float)(1.0 - o->beta2),
                                       .keep = item->decay ? (float)(1.0 - lr * o->decay) : 1.0F,
                                       .rate = (float)(lr / c1),
                                       .root = (float)sqrt(c2),
                                       .eps = (float)o->eps}};
        ot_parallel_for((item->count + CHUNK - 1) / CHUNK, adamw_chunk, &job);
    }
}
