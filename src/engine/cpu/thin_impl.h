/* Products with one narrow side (LoRA's): z [rows, r] and x [rows, n] with w [r, n], r small. Libraries pack such operands at a higher price than the
 * product has; here x and y are read and written once, four rows at a time, with w in the cache. r is a multiple of 4, and w and dw have rows of
 * `ld` >= n floats, a multiple of 16, w and dw zero beyond n. A mask of bits (NULL: none) is laid over the wide side, see kernels.h. */
#ifndef OT_ENGINE_CPU_THIN_IMPL_H
#define OT_ENGINE_CPU_THIN_IMPL_H

#include "base/mem.h"
#include "engine/cpu/vec.h"

/* `rows` rows (up to 4) and 4 narrow columns of one product. `wide` is x, or y [rows, n]; a caller gives its dtype, and mask NULL, as constants. */
typedef struct thin_tile {
    const float *w;
    const uint32_t *mask;
    float *dw, factor; /* of what the mask keeps, 1 without */
    ot_span wide;
    int64_t r, n, ld;
    bool add;
    const char *ahead; /* thin_in: `lines` lines of 64 bytes from here on are fetched a step */
    int64_t lines;
} thin_tile;

typedef vf thin_sums[4][4];

/* v where the mask of row a keeps columns i to i + LANES, else zero. */
VEC_INLINE vf thin_kept(const thin_tile *t, int64_t a, int64_t i, vf v) {
    return t->mask == NULL ? v : vf_keep(v, t->mask[a * OT_THIN_WORDS(t->n) + i / 32] >> i % 32);
}

/* m of a row's columns from i on. */
VEC_INLINE void thin_in_step(const thin_tile *t, thin_sums sum, int64_t i, const int m, const int rows) {
    vf v[4];
    for (int k = 0; k < 4; k++) v[k] = vf_load(t->w + k * t->ld + i);
    for (int64_t l = 0; l < t->lines; l++) __builtin_prefetch(t->ahead + (i / LANES * t->lines + l) * OT_ALIGN, 0, 2);
    for (int a = 0; a < rows; a++) {
        __builtin_prefetch(ot_span_at(t->wide, (a + rows) * t->n + i).x, 0, 2);
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
    for (int a = 0; a < rows; a++) {
        float each[4];
        vf_sum4(sum[a], each);
        for (int k = 0; k < 4; k++) z[a * t->r + k] = each[k] * t->factor;
    }
}

/* Vectors of w, or sums of dw, that stay in registers over all rows. */
enum { THIN_TOGETHER = LANES == 16 ? 4 : 2 };

/* y[row] = or += the sum over k of z[row][k] * w[k], of `together` vectors from column i on, the last of m columns. */
VEC_INLINE void thin_out_step(const thin_tile *t, const float *z, int64_t rows, int64_t i, const int together, const int m) {
    vf w[4][THIN_TOGETHER];
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++)
#pragma GCC unroll 4
        for (int v = 0; v < together; v++) w[k][v] = vf_load(t->w + k * t->ld + i + v * LANES) * vf_set(t->factor);
    for (int64_t a = 0; a < rows; a++) {
#pragma GCC unroll 4
        for (int v = 0; v < together; v++) {
            int64_t at = a * t->n + i + v * LANES;
            __builtin_prefetch(ot_span_at(t->wide, at + together * LANES).x, 1);
            vf before = t->add ? span_load(t->wide, at, m) : vf_zero(), sum = t->mask != NULL ? vf_zero() : before;
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++) sum = vf_fma(vf_set(z[a * t->r + k]), w[k][v], sum);
            if (t->mask != NULL) sum = before + thin_kept(t, a, i + v * LANES, sum);
            span_store(t->wide, at, m, sum);
        }
    }
}

VEC_INLINE void thin_out_tile(const thin_tile *t, const float *z, int64_t rows) {
    int64_t i = 0;
    for (; i + THIN_TOGETHER * LANES <= t->n; i += THIN_TOGETHER * LANES) thin_out_step(t, z, rows, i, THIN_TOGETHER, LANES);
    for (; i + LANES <= t->n; i += LANES) thin_out_step(t, z, rows, i, 1, LANES);
    if (i < t->n) thin_out_step(t, z, rows, i, 1, (int)(t->n - i));
}

/* dw[k] = the sum over `rows` rows of z[row][k] * x[row], of `together` vectors from column i on, the last of m columns. */
VEC_INLINE void thin_grad_step(const thin_tile *t, const float *z, int64_t rows, int64_t i, const int together, const int m) {
    vf sum[4][THIN_TOGETHER];
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++)
#pragma GCC unroll 4
        for (int v = 0; v < together; v++) sum[k][v] = vf_zero();
    for (int64_t a = 0; a < rows; a++) {
        vf from[THIN_TOGETHER];
#pragma GCC unroll 4
        for (int v = 0; v < together; v++) {
            from[v] = thin_kept(t, a, i + v * LANES, span_load(t->wide, a * t->n + i + v * LANES, m));
            __builtin_prefetch(ot_span_at(t->wide, a * t->n + i + (together + v) * LANES).x);
        }
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++)
#pragma GCC unroll 4
            for (int v = 0; v < together; v++) sum[k][v] = vf_fma(vf_set(z[a * t->r + k]), from[v], sum[k][v]);
    }
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++)
#pragma GCC unroll 4
        for (int v = 0; v < together; v++) vf_store(t->dw + k * t->ld + i + v * LANES, sum[k][v] * vf_set(t->factor));
}

VEC_INLINE void thin_grad_tile(const thin_tile *t, const float *z, int64_t rows) {
    int64_t i = 0;
    for (; i + THIN_TOGETHER * LANES <= t->n; i += THIN_TOGETHER * LANES) thin_grad_step(t, z, rows, i, THIN_TOGETHER, LANES);
    for (; i + LANES <= t->n; i += LANES) thin_grad_step(t, z, rows, i, 1, LANES);
    if (i < t->n) thin_grad_step(t, z, rows, i, 1, (int)(t->n - i));
}

/* The tile of some rows from `a` on and narrow columns from k on. */
VEC_INLINE thin_tile thin_tile_of(const ot_thin *t, ot_span wide, const uint32_t *mask, float *dw, int64_t a, int64_t k, bool add) {
    return (thin_tile){.w = t->w + k * t->ld,
                       .mask = mask == NULL ? NULL : mask + a * OT_THIN_WORDS(t->n),
                       .factor = mask == NULL ? 1.0F : t->factor,
                       .dw = dw == NULL ? NULL : dw + k * t->ld,
                       .wide = ot_span_at(wide, a * t->n),
                       .r = t->r,
                       .n = t->n,
                       .ld = t->ld,
                       .add = add || k > 0};
}

/* tile(own, narrow, rows), called with constants where that is of use, so that nothing is asked inside. */
#define THIN_CALL(tile, own, narrow, rows)                             \
    do {                                                               \
        thin_tile plain = own, half = own, masked = own;               \
        plain.mask = half.mask = NULL;                                 \
        plain.wide.dtype = masked.wide.dtype = OT_F32;                 \
        half.wide.dtype = OT_BF16;                                     \
        bool floats = own.wide.dtype == OT_F32;                        \
        if (own.mask == NULL && floats) tile(&plain, narrow, rows);    \
        else if (own.mask == NULL) tile(&half, narrow, rows);          \
        else if (floats) tile(&masked, narrow, rows);                  \
        else tile(&own, narrow, rows);                                 \
    } while (0)

static void thin_in(const ot_thin *t, ot_span x, const uint32_t *mask, float *z, int64_t rows, ot_ahead ahead) {
    int64_t steps = (t->n + LANES - 1) / LANES, a_line_each = (rows + 3) / 4 * steps * OT_ALIGN, lines = (ahead.bytes + a_line_each - 1) / a_line_each;
    for (int64_t a = 0, step = 0; a < rows; a += step) {
        step = rows - a >= 4 ? 4 : 1;
        for (int64_t k = 0; k < t->r; k += 4) {
            thin_tile own = thin_tile_of(t, x, mask, NULL, a, k, false);
            if (step == 4 && k == 0 && lines > 0) {
                own.ahead = (const char *)ahead.at + a / 4 * steps * lines * OT_ALIGN;
                own.lines = lines;
            }
            if (step == 4) THIN_CALL(thin_in_tile, own, z + a * t->r + k, 4);
            else thin_in_tile(&own, z + a * t->r + k, 1);
        }
    }
}

static void thin_out(const ot_thin *t, const float *z, ot_span y, const uint32_t *mask, int64_t rows, bool add) {
    for (int64_t k = 0; k < t->r; k += 4) {
        thin_tile own = thin_tile_of(t, y, mask, NULL, 0, k, add);
        THIN_CALL(thin_out_tile, own, z + k, rows);
    }
}

static void thin_grad(const ot_thin *t, const float *z, ot_span x, const uint32_t *mask, int64_t rows, float *dw) {
    for (int64_t k = 0; k < t->r; k += 4) {
        thin_tile own = thin_tile_of(t, x, mask, dw, 0, k, false);
        THIN_CALL(thin_grad_tile, own, z + k, rows);
    }
}

#undef THIN_CALL

#endif
