/* Pruning: the smallest magnitudes of every matrix become zero (the paper's Figure 4), or whole attention heads and MLP channels leave, which ships
 * and computes less (as FedPFT does with channels; the saliency is the norm of the weights that would go). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/methods.h"

/* ==== Magnitudes: threshold = the k-th smallest magnitude, k = int(numel * ratio); what is below it becomes zero. ==== */

/* Magnitudes of finite floats order like the integers of their bits, so the k-th smallest is found by counting, without memory. */
static float kth_magnitude(const float *w, int64_t n, int64_t k) {
    uint32_t found = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        int64_t counts[256] = {0};
        uint32_t mask = shift == 24 ? 0 : UINT32_MAX << (shift + 8);
        for (int64_t i = 0; i < n; i++) {
            uint32_t bits;
            memcpy(&bits, &w[i], 4);
            bits &= 0x7FFFFFFFU;
            if ((bits & mask) == found) counts[bits >> shift & 255U]++;
        }
        uint32_t digit = 0;
        while (k > counts[digit]) k -= counts[digit++];
        found |= digit << shift;
    }
    float value;
    memcpy(&value, &found, 4);
    return value;
}

static ot_status magnitudes(const ot_emulator_change *c, ot_emulator_matrix *m, ot_error *err) {
    int64_t n = m->rows * m->cols, k = (int64_t)((double)n * c->number);
    (void)err;
    if (k < 1) return OT_OK;
    float threshold = kth_magnitude(m->values, n, k);
    for (int64_t i = 0; i < n; i++) {
        if (!(fabsf(m->values[i]) >= threshold)) m->values[i] = 0.0F;
    }
    return OT_OK;
}

/* ==== Structures. ==== */

/* sums[j / each] += the squares of the matrix, j counting along its outputs (or its inputs) from `first` on, for n of them. */
static void add_squares(const ot_emulator_block *b, const ot_emulator_matrix *m, bool outputs, int64_t first, int64_t n, int64_t each, double *sums) {
    bool rows = outputs != b->desc.conv1d;
    if (m->values == NULL) return;
    for (int64_t r = 0; r < m->rows; r++) {
        for (int64_t c = 0; c < m->cols; c++) {
            int64_t j = (rows ? r : c) - first;
            double w = (double)m->values[r * m->cols + c];
            if (j >= 0 && j < n) sums[j / each] += w * w;
        }
    }
}

typedef struct ranked {
    double sum;
    int64_t index;
} ranked;

static int by_sum(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->sum != y->sum) return x->sum > y->sum ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

static int by_index(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* The `keep` largest of n sums, in order of their index. */
static ot_status pick_largest(ot_emulator_block *b, const double *sums, int64_t n, int64_t keep, int64_t **picked, ot_error *err) {
    ranked *all = ot_arena_alloc(&b->arena, n * (int64_t)sizeof *all, err);
    *picked = ot_arena_alloc(&b->arena, keep * (int64_t)sizeof **picked, err);
    if (all == NULL || *picked == NULL) return OT_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++) all[i] = (ranked){sums[i], i};
    qsort(all, (size_t)n, sizeof *all, by_sum);
    for (int64_t i = 0; i < keep; i++) (*picked)[i] = all[i].index;
    qsort(*picked, (size_t)keep, sizeof **picked, by_index);
    return OT_OK;
}

/* Each picked thing becomes `each` neighbours, and the whole list is repeated `times`, `step` further each time. */
static int64_t *spread(ot_emulator_block *b, const int64_t *picked, int64_t count, int64_t each, int64_t times, int64_t step, ot_error *err) {
    int64_t *list = ot_arena_alloc(&b->arena, count * each * times * (int64_t)sizeof *list, err), n = 0;
    for (int64_t t = 0; list != NULL && t < times; t++) {
        for (int64_t i = 0; i < count; i++) {
            for (int64_t j = 0; j < each; j++) list[n++] = t * step + picked[i] * each + j;
        }
    }
    return list;
}

static void keep_outputs(ot_emulator_block *b, ot_role role, const int64_t *list, int64_t n) {
    ot_emulator_keep(&b->linears[role][0], !b->desc.conv1d, list, n);
    ot_emulator_keep(&b->biases[role], false, list, n);
}

static void keep_inputs(ot_emulator_block *b, ot_role role, const int64_t *list, int64_t n) {
    ot_emulator_keep(&b->linears[role][0], b->desc.conv1d, list, n);
}

/* Query heads go together with the key/value head that they share. */
static ot_status drop_heads(const ot_emulator_change *c, ot_emulator_block *b, ot_error *err) {
    ot_desc *d = &b->desc;
    int64_t groups = d->kv_heads, keep = c->count, dim = d->head_dim, share = d->heads / d->kv_heads, q = d->heads * dim;
    double *sums = ot_arena_alloc(&b->arena, groups * (int64_t)sizeof *sums, err);
    if (sums == NULL) return OT_ERR_MEMORY;
    if (d->qkv == OT_QKV_SEPARATE) {
        add_squares(b, &b->linears[OT_ROLE_Q][0], true, 0, q, share * dim, sums);
        add_squares(b, &b->linears[OT_ROLE_K][0], true, 0, groups * dim, dim, sums);
        add_squares(b, &b->linears[OT_ROLE_V][0], true, 0, groups * dim, dim, sums);
    } else if (d->qkv == OT_QKV_INTERLEAVED) {
        add_squares(b, &b->linears[OT_ROLE_QKV][0], true, 0, 3 * q, 3 * dim, sums);
    } else {
        for (int part = 0; part < 3; part++) add_squares(b, &b->linears[OT_ROLE_QKV][0], true, part * q, q, dim, sums);
    }
    add_squares(b, &b->linears[OT_ROLE_O][0], false, 0, q, share * dim, sums);
    int64_t *picked = NULL;
    OT_TRY(pick_largest(b, sums, groups, keep, &picked, err));
    const int64_t *queries = spread(b, picked, keep, share * dim, 1, 0, err), *keys = spread(b, picked, keep, dim, 1, 0, err);
    const int64_t *woven = spread(b, picked, keep, 3 * dim, 1, 0, err), *joined = spread(b, picked, keep, dim, 3, q, err);
    int64_t *heads = spread(b, picked, keep, share, 1, 0, err);
    if (queries == NULL || keys == NULL || woven == NULL || joined == NULL || heads == NULL) return OT_ERR_MEMORY;
    keep_outputs(b, OT_ROLE_Q, queries, keep * share * dim);
    keep_outputs(b, OT_ROLE_K, keys, keep * dim);
    keep_outputs(b, OT_ROLE_V, keys, keep * dim);
    keep_outputs(b, OT_ROLE_QKV, d->qkv == OT_QKV_INTERLEAVED ? woven : joined, 3 * keep * dim);
    keep_inputs(b, OT_ROLE_O, queries, keep * share * dim);
    for (int64_t h = 0; b->heads != NULL && h < keep * share; h++) heads[h] = b->heads[heads[h]];
    b->heads = heads;
    d->heads = keep * share;
    d->kv_heads = keep;
    return OT_OK;
}

static ot_status drop_channels(const ot_emulator_change *c, ot_emulator_block *b, ot_error *err) {
    int64_t n = b->desc.ffn_size, keep = c->count, *picked = NULL;
    double *sums = ot_arena_alloc(&b->arena, n * (int64_t)sizeof *sums, err);
    if (sums == NULL) return OT_ERR_MEMORY;
    add_squares(b, &b->linears[OT_ROLE_GATE][0], true, 0, n, 1, sums);
    add_squares(b, &b->linears[OT_ROLE_UP][0], true, 0, n, 1, sums);
    add_squares(b, &b->linears[OT_ROLE_DOWN][0], false, 0, n, 1, sums);
    OT_TRY(pick_largest(b, sums, n, keep, &picked, err));
    keep_outputs(b, OT_ROLE_GATE, picked, keep);
    keep_outputs(b, OT_ROLE_UP, picked, keep);
    keep_inputs(b, OT_ROLE_DOWN, picked, keep);
    b->desc.ffn_size = keep;
    return OT_OK;
}

/* ==== The step. ==== */

static int64_t left_of(int64_t n, double ratio) {
    int64_t keep = n - (int64_t)((double)n * ratio);
    return keep < 1 ? 1 : keep;
}

static ot_status plan_structures(ot_emulator *e, double heads, double channels, ot_error *err) {
    if (e->model == NULL) return ot_fail(err, OT_ERR_USAGE, "--emulator: prune: heads and channels need a model");
    for (int r = 0; r < OT_ROLE_COUNT; r++) {
        if (e->form.rank[r] > 0) return ot_fail(err, OT_ERR_USAGE, "--emulator: prune: heads and channels must come before svd");
    }
    const ot_desc *d = &e->model->desc;
    if (heads > 0) {
        ot_emulator_change *c = NULL;
        OT_TRY(ot_emulator_add_change(e, "prune", &c, err));
        int64_t share = d->heads / d->kv_heads;
        c->block = drop_heads;
        c->count = left_of(e->form.kv_heads > 0 ? e->form.kv_heads : d->kv_heads, heads);
        e->form.kv_heads = c->count;
        e->form.heads = c->count * share;
    }
    if (channels > 0) {
        ot_emulator_change *c = NULL;
        OT_TRY(ot_emulator_add_change(e, "prune", &c, err));
        c->block = drop_channels;
        c->count = left_of(e->form.ffn_size > 0 ? e->form.ffn_size : d->ffn_size, channels);
        e->form.ffn_size = c->count;
    }
    return OT_OK;
}

static ot_status apply(ot_emulator *e, const ot_spec_step *step, ot_error *err) {
    const ot_spec_method *spec = &ot_emulator_prune.spec;
    const ot_spec_value *ratio = ot_spec_get(step, spec, "ratio"), *heads = ot_spec_get(step, spec, "heads");
    const ot_spec_value *channels = ot_spec_get(step, spec, "channels");
    OT_TRY(plan_structures(e, heads->number, channels->number, err));
    if (!ratio->given && (heads->given || channels->given)) return OT_OK;
    ot_emulator_change *c = NULL;
    OT_TRY(ot_emulator_add_change(e, "prune", &c, err));
    c->matrix = magnitudes;
    c->number = ratio->number;
    return OT_OK;
}

const ot_emulator_method ot_emulator_prune = {
    .spec = {.name = "prune",
             .help = "zero the smallest magnitudes of every matrix, or take out whole heads and MLP channels",
             .keys =
                 (const ot_spec_key[]){
                     {"ratio", OT_SPEC_NUMBER, "0.5", 0, 1, "share of the values that become zero; no fewer bytes"},
                     {"heads", OT_SPEC_NUMBER, "0", 0, 1, "share of the attention heads that leave, instead of ratio or besides it"},
                     {"channels", OT_SPEC_NUMBER, "0", 0, 1, "share of the MLP's channels that leave, likewise"},
                     {0},
                 }},
    .apply = apply,
};
