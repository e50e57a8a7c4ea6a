/* Stochastic gradient descent with momentum: 4 bytes of state for each trained value. The buffer is PyTorch's (no dampening). */
#include <stddef.h>

#include "train/optimizer.h"
#include "train/sweep.h"

enum { MOMENTUM };

typedef struct constants {
    float scale, momentum, keep, lr;
} constants;

OT_SWEEP_INLINE void body(float *restrict w, float *restrict g, float *restrict v, ot_bf16 *restrict half, int64_t n, const constants *from) {
    const constants c = *from;
    for (int64_t i = 0; i < n; i++) {
        float vi = c.momentum * v[i] + g[i] * c.scale;
        v[i] = vi;
        g[i] = 0.0F;
        w[i] = w[i] * c.keep - c.lr * vi;
    }
    if (half == NULL) return;
    for (int64_t i = 0; i < n; i++) half[i] = ot_f32_to_bf16(w[i]);
}

#define VARIANT(name, attribute)                                                                                       \
    attribute static void sweep_##name(float *w, float *g, float *v, ot_bf16 *half, int64_t n, const constants *c) { body(w, g, v, half, n, c); }
OT_SWEEP_VARIANTS(VARIANT)

static void update(const ot_optimizer_step *s, const ot_optimizer_span *span) {
#define ENTRY(name, attribute) sweep_##name,
    static void (*const variants[])(float *, float *, float *, ot_bf16 *, int64_t, const constants *) = {OT_SWEEP_VARIANTS(ENTRY)};
#undef ENTRY
    constants c = {.scale = (float)s->grad_scale,
                   .momentum = (float)s->keys[MOMENTUM],
                   .keep = (float)(1.0 - s->lr * s->decay),
                   .lr = (float)s->lr};
    variants[ot_sweep_variant()](span->w, span->g, span->states[0], span->half, span->n, &c);
}

static const ot_spec_key keys[] = {
    [MOMENTUM] = {"momentum", OT_SPEC_NUMBER, "0.9", 0, 0.9999999, "share of the last update that goes on"},
    {0},
};
const ot_optimizer ot_optimizer_sgd = {
    .spec = {.name = "sgd", .help = "stochastic gradient descent with momentum", .keys = keys},
    .states = {{"momentum", OT_STATE_VALUES}},
    .update = update,
};
