/* AdamW exactly as PyTorch has it, moments in F32: 8 bytes of state for each trained value. */
#include <math.h>
#include <stddef.h>

#include "train/optimizer.h"
#include "train/sweep.h"

enum { BETA1, BETA2, EPS };

typedef struct constants {
    float scale;        /* of the gradient */
    float beta1, beta2;
    float rest1, rest2; /* 1 - beta */
    float keep;         /* 1 - lr * decay */
    float rate;         /* lr / (1 - beta1^t) */
    float root;         /* sqrt(1 - beta2^t) */
    float eps;
} constants;

OT_SWEEP_INLINE void body(float *restrict w, float *restrict g, float *restrict m, float *restrict v, ot_bf16 *restrict half, int64_t n,
                          const constants *from) {
    const constants c = *from;
    for (int64_t i = 0; i < n; i++) {
        float x = g[i] * c.scale;
        float mi = c.beta1 * m[i] + c.rest1 * x, vi = c.beta2 * v[i] + c.rest2 * x * x;
        m[i] = mi;
        v[i] = vi;
        g[i] = 0.0F;
        w[i] = w[i] * c.keep - c.rate * mi / (sqrtf(vi) / c.root + c.eps);
    }
    if (half == NULL) return;
    for (int64_t i = 0; i < n; i++) half[i] = ot_f32_to_bf16(w[i]);
}

#define VARIANT(name, attribute)                                                                                       \
    attribute static void sweep_##name(float *w, float *g, float *m, float *v, ot_bf16 *half, int64_t n, const constants *c) { \
        body(w, g, m, v, half, n, c);                                                                                  \
    }
OT_SWEEP_VARIANTS(VARIANT)

static void update(const ot_optimizer_step *s, const ot_optimizer_span *span) {
#define ENTRY(name, attribute) sweep_##name,
    static void (*const variants[])(float *, float *, float *, float *, ot_bf16 *, int64_t, const constants *) = {OT_SWEEP_VARIANTS(ENTRY)};
#undef ENTRY
    double beta1 = s->keys[BETA1], beta2 = s->keys[BETA2];
    double c1 = 1.0 - pow(beta1, (double)s->step), c2 = 1.0 - pow(beta2, (double)s->step);
    constants c = {.scale = (float)s->grad_scale,
                   .beta1 = (float)beta1,
                   .beta2 = (float)beta2,
                   .rest1 = (float)(1.0 - beta1),
                   .rest2 = (float)(1.0 - beta2),
                   .keep = (float)(1.0 - s->lr * s->decay),
                   .rate = (float)(s->lr / c1),
                   .root = (float)sqrt(c2),
                   .eps = (float)s->keys[EPS]};
    variants[ot_sweep_variant()](span->w, span->g, span->states[0], span->states[1], span->half, span->n, &c);
}

static const ot_spec_key keys[] = {
    [BETA1] = {"beta1", OT_SPEC_NUMBER, "0.9", 0, 0.9999999, "decay of the mean of the gradients"},
    [BETA2] = {"beta2", OT_SPEC_NUMBER, "0.999", 0, 0.9999999, "decay of the mean of their squares"},
    [EPS] = {"eps", OT_SPEC_NUMBER, "1e-8", 1e-30, 1, "added to the root of the mean square"},
    {0},
};
const ot_optimizer ot_optimizer_adamw = {
    .spec = {.name = "adamw", .help = "AdamW with F32 moments, as in PyTorch", .keys = keys},
    .states = {{"exp_avg", OT_STATE_VALUES}, {"exp_avg_sq", OT_STATE_VALUES}},
    .update = update,
};
