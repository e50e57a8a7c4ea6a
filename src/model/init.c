/* Fresh weights for pretraining: normal with the configuration's initializer_range, the projections that write to the residual stream scaled by
 * 1/sqrt(2 layers) as in GPT-2, gains one, biases zero. Each tensor has its own stream, so the result depends on the seed and names alone. */
#include <math.h>
#include <string.h>

#include "base/parallel.h"
#include "base/rng.h"
#include "model/model.h"

static uint64_t hash_name(const char *name, uint64_t seed) {
    for (; *name != '\0'; name++) seed = ot_rng_hash(seed, (unsigned char)*name);
    return seed;
}

static void fill(const ot_model *m, const ot_param *p, uint64_t seed, float *out) {
    int64_t n = ot_param_elements(p);
    bool scale = p->role == OT_ROLE_SCALE1 || p->role == OT_ROLE_SCALE2;
    if (!p->decay && p->role != OT_ROLE_CLASS) {
        for (int64_t i = 0; i < n; i++) out[i] = p->bias ? 0.0F : scale ? (float)m->desc.layer_scale : 1.0F;
        return;
    }
    bool residual = p->role == OT_ROLE_O || p->role == OT_ROLE_DOWN;
    double deviation = m->desc.initializer_range * (residual ? 1.0 / sqrt(2.0 * (double)m->desc.layers) : 1.0);
    ot_rng rng;
    ot_rng_seed(&rng, hash_name(p->name, seed));
    for (int64_t i = 0; i < n; i++) out[i] = (float)(deviation * ot_rng_normal(&rng));
    if (p->role == OT_ROLE_EMBED && m->desc.padding_id >= 0 && m->desc.padding_id < p->slot.rows) {
        memset(out + m->desc.padding_id * p->slot.cols, 0, (size_t)p->slot.cols * sizeof *out);
    }
}

typedef struct filling {
    const ot_model *m;
    uint64_t seed;
} filling;

static void fill_one(void *context, int64_t i) {
    const filling *f = context;
    const ot_param *p = &f->m->params[i];
    fill(f->m, p, f->seed, (float *)(uintptr_t)p->slot.data);
}

ot_status ot_model_initialise(ot_model *m, uint64_t seed, ot_error *err) {
    int64_t total = 0, at = 0;
    for (int64_t i = 0; i < m->n_params; i++) total += ot_round_up(ot_param_elements(&m->params[i]), 16);
    OT_TRY(ot_malloc(total, 4, "fresh weights", &m->copies, err));
    for (int64_t i = 0; i < m->n_params; i++) {
        ot_param *p = &m->params[i];
        p->slot.data = (float *)m->copies + at;
        p->slot.dtype = OT_F32;
        at += ot_round_up(ot_param_elements(p), 16);
    }
    filling f = {m, seed};
    ot_parallel_for(m->n_params, fill_one, &f);
    return OT_OK;
}
