/* Products with one narrow side (LoRA's): z [rows, r] and x [rows, n] with w [r, n], r small. Libraries pack such operands at a higher price than the
 * product has; here x and y are read and written once, four rows at a time, with w in the cache. r is a multiple of 4, and w and dw have rows of
 * `ld` >= n floats, a multiple of 16, zero beyond n. */
#ifndef OT_ENGINE_CPU_THIN_IMPL_H
#define OT_ENGINE_CPU_THIN_IMPL_H

#include "engine/cpu/vec.h"

/* Of `count` rows (up to 4) and 4 narrow columns: z[row][k] = x[row] . w[k] */
VEC_INLINE void thin_in_rows(const float *w, int64_t ld, ot_span x, int64_t stride, float *z, int64_t r, int64_t n, const int count) {
    vf sum[4][4];
    for (int a = 0; a < count; a++)
        for (int k = 0; k < 4; k++) sum[a][k] = vf_zero();
    for (int64_t i = 0; i < n; i += LANES) {
        int m = lanes_left(n, i);
        vf v[4];
        for (int k = 0; k < 4; k++) v[k] = vf_load(w + k * ld + i);
        for (int a = 0; a < count; a++) {
            vf from = span_load(x, a * stride + i, m);
            for (int k = 0; k < 4; k++) sum[a][k] = vf_fma(from, v[k], sum[a][k]);
        }
    }
    for (int a = 0; a < count; a++)
        for (int k = 0; k < 4; k++) z[a * r + k] = vf_sum(sum[a][k]);
}

/* y[row] = or += the sum over k of z[row][k] * w[k] */
VEC_INLINE void thin_out_rows(const float *z, int64_t r, const float *w, int64_t ld, ot_span y, int64_t stride, int64_t n, bool add, const int count) {
    vf factor[4][4];
    for (int a = 0; a < count; a++)
        for (int k = 0; k < 4; k++) factor[a][k] = vf_set(z[a * r + k]);
    for (int64_t i = 0; i < n; i += LANES) {
        int m = lanes_left(n, i);
        vf v[4];
        for (int k = 0; k < 4; k++) v[k] = vf_load(w + k * ld + i);
        for (int a = 0; a < count; a++) {
            vf sum = add ? span_load(y, a * stride + i, m) : vf_zero();
            for (int k = 0; k < 4; k++) sum = vf_fma(factor[a][k], v[k], sum);
            span_store(y, a * stride + i, m, sum);
        }
    }
}

/* dw[k] += the sum over rows of z[row][k] * x[row] */
VEC_INLINE void thin_grad_rows(const float *z, int64_t r, ot_span x, int64_t stride, float *dw, int64_t ld, int64_t n, const int count) {
    vf factor[4][4];
    for (int a = 0; a < count; a++)
        for (int k = 0; k < 4; k++) factor[a][k] = vf_set(z[a * r + k]);
    for (int64_t i = 0; i < n; i += LANES) {
        int m = lanes_left(n, i);
        vf sum[4];
        for (int k = 0; k < 4; k++) sum[k] = vf_load(dw + k * ld + i);
        for (int a = 0; a < count; a++) {
            vf from = span_load(x, a * stride + i, m);
            for (int k = 0; k < 4; k++) sum[k] = vf_fma(factor[a][k], from, sum[k]);
        }
        for (int k = 0; k < 4; k++) vf_store(dw + k * ld + i, sum[k]);
    }
}

static void thin_in(const ot_thin *t, ot_span x, float *z, int64_t rows) {
    for (int64_t a = 0; a < rows; a += 4) {
        for (int64_t k = 0; k < t->r; k += 4) {
            const float *w = t->w + k * t->ld;
            ot_span from = ot_span_at(x, a * t->n);
            float *to = z + a * t->r + k;
            if (rows - a >= 4) thin_in_rows(w, t->ld, from, t->n, to, t->r, t->n, 4);
            else
                for (int64_t b = 0; b < rows - a; b++) thin_in_rows(w, t->ld, ot_span_at(from, b * t->n), t->n, to + b * t->r, t->r, t->n, 1);
        }
    }
}

static void thin_out(const ot_thin *t, const float *z, ot_span y, int64_t rows, bool add) {
    for (int64_t a = 0; a < rows; a += 4) {
        for (int64_t k = 0; k < t->r; k += 4) {
            const float *w = t->w + k * t->ld, *from = z + a * t->r + k;
            ot_span to = ot_span_at(y, a * t->n);
            if (rows - a >= 4) thin_out_rows(from, t->r, w, t->ld, to, t->n, t->n, add || k > 0, 4);
            else
                for (int64_t b = 0; b < rows - a; b++)
                    thin_out_rows(from + b * t->r, t->r, w, t->ld, ot_span_at(to, b * t->n), t->n, t->n, add || k > 0, 1);
        }
    }
}

static void thin_grad(const ot_thin *t, const float *z, ot_span x, int64_t rows, float *dw) {
    for (int64_t a = 0; a < rows; a += 4) {
        for (int64_t k = 0; k < t->r; k += 4) {
            const float *from = z + a * t->r + k;
            ot_span wide = ot_span_at(x, a * t->n);
            if (rows - a >= 4) thin_grad_rows(from, t->r, wide, t->n, dw + k * t->ld, t->ld, t->n, 4);
            else
                for (int64_t b = 0; b < rows - a; b++)
                    thin_grad_rows(from + b * t->r, t->r, ot_span_at(wide, b * t->n), t->n, dw + k * t->ld, t->ld, t->n, 1);
        }
    }
}

#endif
