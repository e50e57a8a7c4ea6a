/* AdamW with 8-bit moments: 2.03 bytes of state for each trained value instead of 8.
 *
 * Each block of 256 values has two scales. The mean m of the gradients is kept as sign, 4 bits of exponent and 3 of fraction; of the mean
 * square v its root is kept, without a sign, as 4 bits of exponent and 4 of fraction: the root needs half the range. A code is a small
 * floating-point number relative to the largest of its block, from 1 down to 2^-16 of it; code 0 is zero. A root that is not zero never
 * becomes zero (its value would divide the update), only the smallest code.
 *
 * Roots are rounded at random to one of the two codes beside them: beta2 = 0.999 moves v by a thousandth a step, far less than the distance of
 * two codes, so the nearest one would hold it still for ever. The random bits are a hash of the step and the value's place: a resumed run draws
 * the same. Means move by a tenth a step and go to the nearest code.
 * The update itself uses the moments before they are rounded. */
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "base/rng.h"
#include "train/optimizer.h"
#include "train/sweep.h"

enum { BETA1, BETA2, EPS };
enum { MEAN_FRACTION = 3, ROOT_FRACTION = 4, MEAN_TOP = 127, ROOT_TOP = 255 };

typedef struct constants {
    float scale, beta1, beta2, rest1, rest2, keep, rate, root, eps;
    uint32_t salt; /* of this step */
} constants;

/* The value of a code of `fraction` bits below its exponent: the top one is just under 2. */
OT_SWEEP_INLINE float decode(uint32_t code, int fraction) {
    uint32_t bits = (code + (112U << fraction)) << (23 - fraction);
    float value;
    memcpy(&value, &bits, sizeof value);
    return code == 0 ? 0.0F : value;
}

/* x in [0, top value]. carry: of the bits below a code, what must not be reached for the lower one: half for the nearest code, random bits for
 * either as often as it is near. Below the smallest: code 0 or 1, the nearer. */
OT_SWEEP_INLINE int32_t encode(float x, int fraction, int32_t top, uint32_t carry) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    int32_t code = (int32_t)((bits + carry) >> (23 - fraction)) - (112 << fraction);
    /* 2^-15 lies one code below the smallest. */
    int32_t low = x >= 0.5F / 32768.0F;
    code = code < 1 ? low : code;
    return code > top ? top : code;
}

OT_SWEEP_INLINE uint32_t mix(uint32_t h) {
    h ^= h >> 16;
    h *= 0x85EBCA6BU;
    h ^= h >> 13;
    h *= 0xC2B2AE35U;
    return h ^ (h >> 16);
}

/* One block: n <= OT_STATE_BLOCK values. mean and root [n] are scratch. */
OT_SWEEP_INLINE void block(float *restrict w, float *restrict g, uint8_t *restrict m, uint8_t *restrict r, float *m_scale, float *r_scale, int64_t n,
                           uint32_t first, const constants *from) {
    const constants c = *from;
    float mean[OT_STATE_BLOCK], root[OT_STATE_BLOCK], most_m = 0, most_r = 0;
    const float unit_m = *m_scale, unit_r = *r_scale;
    for (int64_t i = 0; i < n; i++) {
        float x = g[i] * c.scale, old = decode(r[i], ROOT_FRACTION) * unit_r, size = decode(m[i] & 127U, MEAN_FRACTION) * unit_m;
        float mi = c.beta1 * ((m[i] & 128U) != 0 ? -size : size) + c.rest1 * x;
        float ri = sqrtf(c.beta2 * (old * old) + c.rest2 * x * x);
        mean[i] = mi;
        root[i] = ri;
        g[i] = 0.0F;
        w[i] = w[i] * c.keep - c.rate * mi / (ri / c.root + c.eps);
    }
    for (int64_t i = 0; i < n; i++) {
        float size = fabsf(mean[i]);
        most_m = size > most_m ? size : most_m;
        most_r = root[i] > most_r ? root[i] : most_r;
    }
    const float top_m = 1.875F, top_r = 1.9375F; /* what the top codes stand for */
    const float into_m = most_m > 0 ? top_m / most_m : 0.0F, into_r = most_r > 0 ? top_r / most_r : 0.0F;
    for (int64_t i = 0; i < n; i++) {
        uint32_t random = mix((first + (uint32_t)i) * 0x9E3779B1U + c.salt);
        int32_t mi = encode(fabsf(mean[i]) * into_m, MEAN_FRACTION, MEAN_TOP, 1U << (22 - MEAN_FRACTION));
        int32_t ri = encode(root[i] * into_r, ROOT_FRACTION, ROOT_TOP, random >> (9 + ROOT_FRACTION));
        m[i] = (uint8_t)(mi | (mean[i] < 0 ? 128 : 0));
        r[i] = (uint8_t)(ri < 1 && root[i] > 0 ? 1 : ri);
    }
    *m_scale = most_m / top_m;
    *r_scale = most_r / top_r;
}

OT_SWEEP_INLINE void body(const ot_optimizer_span *s, const constants *c) {
    uint8_t *m = s->states[0], *r = s->states[2];
    float *m_scale = s->states[1], *r_scale = s->states[3];
    for (int64_t at = 0, b = 0; at < s->n; at += OT_STATE_BLOCK, b++) {
        int64_t n = s->n - at < OT_STATE_BLOCK ? s->n - at : OT_STATE_BLOCK;
        block(s->w + at, s->g + at, m + at, r + at, m_scale + b, r_scale + b, n, (uint32_t)(s->first + at), c);
    }
    for (int64_t i = 0; s->half != NULL && i < s->n; i++) s->half[i] = ot_f32_to_bf16(s->w[i]);
}

#define VARIANT(name, attribute)                                                                                       \
    attribute static void sweep_##name(const ot_optimizer_span *s, const constants *c) { body(s, c); }
OT_SWEEP_VARIANTS(VARIANT)

static void update(const ot_optimizer_step *s, const ot_optimizer_span *span) {
#define ENTRY(name, attribute) sweep_##name,
    static void (*const variants[])(const ot_optimizer_span *, const constants *) = {OT_SWEEP_VARIANTS(ENTRY)};
#undef ENTRY
    double beta1 = s->keys[BETA1], beta2 = s->keys[BETA2];
    constants c = {.scale = (float)s->grad_scale,
                   .beta1 = (float)beta1,
                   .beta2 = (float)beta2,
                   .rest1 = (float)(1.0 - beta1),
                   .rest2 = (float)(1.0 - beta2),
                   .keep = (float)(1.0 - s->lr * s->decay),
                   .rate = (float)(s->lr / (1.0 - pow(beta1, (double)s->step))),
                   .root = (float)sqrt(1.0 - pow(beta2, (double)s->step)),
                   .eps = (float)s->keys[EPS],
                   .salt = (uint32_t)ot_rng_hash(0x38626974ULL, (uint64_t)s->step)};
    variants[ot_sweep_variant()](span, &c);
}

static const ot_spec_key keys[] = {
    [BETA1] = {"beta1", OT_SPEC_NUMBER, "0.9", 0, 0.9999999, "decay of the mean of the gradients"},
    [BETA2] = {"beta2", OT_SPEC_NUMBER, "0.999", 0, 0.9999999, "decay of the mean of their squares"},
    [EPS] = {"eps", OT_SPEC_NUMBER, "1e-8", 1e-30, 1, "added to the root of the mean square"},
    {0},
};
const ot_optimizer ot_optimizer_adamw8bit = {
    .spec = {.name = "adamw8bit", .help = "AdamW with moments of 8 bits, scaled in blocks of 256", .keys = keys},
    .states = {{"exp_avg", OT_STATE_CODES}, {"exp_avg_scale", OT_STATE_SCALES}, {"exp_avg_sq_root", OT_STATE_CODES}, {"exp_avg_sq_root_scale", OT_STATE_SCALES}},
    .update = update,
};
