/* Products with one narrow side (LoRA's): z [rows, r] and x [rows, n] with w [r, n], r small. Libraries pack such operands at a higher price than the
 * product has; here x and y are read and written once, four rows at a time, with w in the cache. r is a multiple of 4, and w and dw have rows of
 * `ld` >= n floats, a multiple of 16, w and dw zero beyond n. A mask of bits (NULL: none) is laid over the wide side, see kernels.h. */
#ifndef OT_ENGINE_CPU_THIN_IMPL_H
#define OT_ENGINE_CPU_THIN_IMPL_H

#include "engine/cpu/vec.h"

/* `rows` rows (up to 4) and 4 narrow columns of one product. `wide` is x, or y [rows, n]; a caller gives its dtype, and mask NULL, as constants. */
typedef struct thin_tile {
    const float *w;
    const uint32_t *mask;
    float *dw, factor; /* of what the mask keeps, 1 without */
    ot_span wide;
    int64_t r, n, ld;
    bool add;
} thin_tile;

typedef vf thin_sums[4][4];

/* v where the mask of row a keeps columns i to i + LANES, else zero. */
VEC_INLINE vf thin_kept(const thin_tile *t, int a, int64_t i, vf v) {
    return t->mask == NULL ? v : vf_keep(v, t->mask[a * OT_THIN_WORDS(t->n) + i / 32] >> i % 32);
}

/* m of a row's columns from i on. */
VEC_INLINE void thin_in_step(const thin_tile *t, thin_sums sum, int64_t i, const int m, const int rows) {
    vf v[4];
    for (int k = 0; k < 4; k++) v[k] = vf_load(t->w + k * t->ld + i);
    for (int a = 0; a < rows; a++) {
        vf from = thin_kept(t, a, i, span_load(t->wide, a * t->n + i, m));
        for (int k = 0; k < 4; k++) sum[a][k] = vf_fma(from, v[k], sum[a][k]);
    }
}

/* z[row][k] = x[row] . w[k] */
VEC_INLINE void thin_in_tile(const thin_tile *t, float *z, const int rows) {
    thin_sums sum;
    for (int a = 0; a < rows; a++)
        for (int k = 0; k < 4; k++) sum[a][k] = vf_zero();
    int64_t i = 0;
    for (; i + LANES <= t->n; i += LANES) thin_in_step(t, sum, i, LANES, rows);
    if (i < t->n) thin_in_step(t, sum, i, (int)(t->n - i), rows);
    for (int a = 0; a < rows; a++)
        for (int k = 0; k < 4; k++) z[a * t->r + k] = vf_sum(sum[a][k]) * t->factor;
}

VEC_INLINE void thin_factors(const thin_tile *t, thin_sums factor, const float *z, const int rows) {
    for (int a = 0; a < rows; a++)
        for (int k = 0; k < 4; k++) factor[a][k] = vf_set(z[a * t->r + k] * t->factor);
}

VEC_INLINE void thin_out_step(const thin_tile *t, thin_sums factor, int64_t i, const int m, const int rows) {
    vf v[4];
    for (int k = 0; k < 4; k++) v[k] = vf_load(t->w + k * t->ld + i);
    for (int a = 0; a < rows; a++) {
        vf before = t->add ? span_load(t->wide, a * t->n + i, m) : vf_zero(), sum = t->mask != NULL ? vf_zero() : before;
        for (int k = 0; k < 4; k++) sum = vf_fma(factor[a][k], v[k], sum);
        if (t->mask != NULL) sum = before + thin_kept(t, a, i, sum);
        span_store(t->wide, a * t->n + i, m, sum);
    }
}

/* y[row] = or += the sum over k of z[row][k] * w[k] */
VEC_INLINE void thin_out_tile(const thin_tile *t, const float *z, const int rows) {
    thin_sums factor;
    thin_factors(t, factor, z, rows);
    int64_t i = 0;
    for (; i + LANES <= t->n; i += LANES) thin_out_step(t, factor, i, LANES, rows);
    if (i < t->n) thin_out_step(t, factor, i, (int)(t->n - i), rows);
}

VEC_INLINE void thin_grad_step(const thin_tile *t, thin_sums factor, int64_t i, const int m, const int rows) {
    vf sum[4];
    for (int k = 0; k < 4; k++) sum[k] = vf_load(t->dw + k * t->ld + i);
    for (int a = 0; a < rows; a++) {
        vf from = thin_kept(t, a, i, span_load(t->wide, a * t->n + i, m));
        for (int k = 0; k < 4; k++) sum[k] = vf_fma(factor[a][k], from, sum[k]);
    }
    for (int k = 0; k < 4; k++) vf_store(t->dw + k * t->ld + i, sum[k]);
}

/* dw[k] += the sum over rows of z[row][k] * x[row] */
VEC_INLINE void thin_grad_tile(const thin_tile *t, const float *z, const int rows) {
    thin_sums factor;
    thin_factors(t, factor, z, rows);
    int64_t i = 0;
    for (; i + LANES <= t->n; i += LANES) thin_grad_step(t, factor, i, LANES, rows);
    if (i < t->n) thin_grad_step(t, factor, i, (int)(t->n - i), rows);
}

/* The loop of each kernel over rows and narrow columns: `tile` is called with constants where there are four rows, so that nothing is asked inside. */
#define THIN_LOOP(tile, shape, span, factors, narrow, gradient, adds)                                                          \
    for (int64_t a = 0, step = 0; a < rows; a += step) {                                                                       \
        step = rows - a >= 4 ? 4 : 1;                                                                                          \
        for (int64_t k = 0; k < (shape)->r; k += 4) {                                                                          \
            const thin_tile own = {.w = (shape)->w + k * (shape)->ld,                                                          \
                                   .mask = (factors) == NULL ? NULL : (factors) + a * OT_THIN_WORDS((shape)->n),               \
                                   .factor = (factors) == NULL ? 1.0F : (shape)->factor,                                       \
                                   .dw = (gradient) == NULL ? NULL : (gradient) + k * (shape)->ld,                             \
                                   .wide = ot_span_at(span, a * (shape)->n),                                                   \
                                   .r = (shape)->r,                                                                            \
                                   .n = (shape)->n,                                                                            \
                                   .ld = (shape)->ld,                                                                          \
                                   .add = (adds) || k > 0};                                                                    \
            thin_tile plain = own, half = own, masked = own;                                                                   \
            plain.mask = half.mask = NULL;                                                                                     \
            plain.wide.dtype = masked.wide.dtype = OT_F32;                                                                     \
            half.wide.dtype = OT_BF16;                                                                                         \
            bool floats = own.wide.dtype == OT_F32;                                                                            \
            if (step == 1) tile(&own, (narrow) + a * (shape)->r + k, 1);                                                       \
            else if (own.mask == NULL && floats) tile(&plain, (narrow) + a * (shape)->r + k, 4);                               \
            else if (own.mask == NULL) tile(&half, (narrow) + a * (shape)->r + k, 4);                                          \
            else if (floats) tile(&masked, (narrow) + a * (shape)->r + k, 4);                                                  \
            else tile(&own, (narrow) + a * (shape)->r + k, 4);                                                                 \
        }                                                                                                                      \
    }

static void thin_in(const ot_thin *t, ot_span x, const uint32_t *mask, float *z, int64_t rows) {
    float *none = NULL;
    THIN_LOOP(thin_in_tile, t, x, mask, z, none, false)
}

static void thin_out(const ot_thin *t, const float *z, ot_span y, const uint32_t *mask, int64_t rows, bool add) {
    float *none = NULL;
    THIN_LOOP(thin_out_tile, t, y, mask, z, none, add)
}

static void thin_grad(const ot_thin *t, const float *z, ot_span x, const uint32_t *mask, int64_t rows, float *dw) {
    THIN_LOOP(thin_grad_tile, t, x, mask, z, dw, false)
}

#undef THIN_LOOP

#endif
