/* Fresh weights for pretraining: normal with the configuration's initializer_range, the projections that write to the residual stream scaled by
 * 1/sqrt(2 layers) as in GPT-2, gains one, biases zero. Each tensor has its own stream, so the result depends on the seed and names alone. */
#include <math.h>
#include <string.h>

#include "base/parallel.h"
#include "base/rng.h"
#include "model/model.h"
#include "tensor/dtype.h"

static uint64_t hash_name(const char *name, uint64_t seed) {
    for (; *name != '\0'; name++) seed = ot_rng_hash(seed, (unsigned char)*name);
    return seed;
}

enum { PART = 4096 }; /* values made at a time, so that a matrix in bf16 never lies in F32 as a whole */

/* Values [first, first + n) of a parameter. */
static void make(const ot_model *m, const ot_param *p, ot_rng *rng, int64_t first, int64_t n, float *out) {
    bool scale = p->role == OT_ROLE_SCALE1 || p->role == OT_ROLE_SCALE2;
    if (!p->decay && p->role != OT_ROLE_CLASS) {
        for (int64_t i = 0; i < n; i++) out[i] = p->bias ? 0.0F : scale ? (float)m->desc.layer_scale : 1.0F;
        return;
    }
    bool residual = p->role == OT_ROLE_O || p->role == OT_ROLE_DOWN;
    double deviation = m->desc.initializer_range * (residual ? 1.0 / sqrt(2.0 * (double)m->desc.layers) : 1.0);
    for (int64_t i = 0; i < n; i++) out[i] = (float)(deviation * ot_rng_normal(rng));
    if (p->role != OT_ROLE_EMBED || m->desc.padding_id < 0 || m->desc.padding_id >= p->slot.rows) return;
    for (int64_t i = 0; i < n; i++) {
        if ((first + i) / p->slot.cols == m->desc.padding_id) out[i] = 0.0F;
    }
}

typedef struct filling {
    const ot_model *m;
    uint64_t seed;
} filling;

static void fill_one(void *context, int64_t index) {
    const filling *f = context;
    const ot_param *p = &f->m->params[index];
    char *to = (char *)(uintptr_t)p->slot.data;
    int64_t each = p->slot.dtype == OT_BF16 ? 2 : 4, total = ot_param_elements(p);
    ot_rng rng;
    ot_rng_seed(&rng, hash_name(p->name, f->seed));
    for (int64_t first = 0; first < total; first += PART) {
        float values[PART];
        int64_t n = total - first < PART ? total - first : PART;
        make(f->m, p, &rng, first, n, values);
        if (each == 4) memcpy(to + first * each, values, (size_t)n * sizeof *values);
        for (int64_t i = 0; each == 2 && i < n; i++) {
            ot_bf16 half = ot_f32_to_bf16(values[i]);
            memcpy(to + (first + i) * each, &half, sizeof half);
        }
    }
}

ot_status ot_model_initialise(ot_model *m, uint64_t seed, ot_dtype matrices, ot_error *err) {
    int64_t total = 0, at = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t i = 0; i < m->n_params; i++) {
            ot_param *p = &m->params[i];
            bool half = matrices == OT_BF16 && p->stored.n_dims >= 2;
            int64_t bytes = ot_round_up(ot_param_elements(p) * (half ? 2 : 4), 64);
            if (pass == 0) {
                total += bytes;
                continue;
            }
            p->slot.data = (char *)m->copies + at;
            p->slot.dtype = half ? OT_BF16 : OT_F32;
            at += bytes;
        }
        if (pass == 0) OT_TRY(ot_malloc(total, 1, "fresh weights", &m->copies, err));
    }
    filling f = {m, seed};
    ot_parallel_for(m->n_params, fill_one, &f);
    return OT_OK;
}
