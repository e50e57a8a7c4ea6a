/* Reference backend: MAGNITUDE. The norms are of rows of V = W + scale * B A, [N, M]; W lies so, or turned. */
#include <math.h>

#include "engine/ref/ref.h"

/* W, A and B whole, one decoded row, and N sums; or a few rows of values. */
int64_t ot_ref_magnitude_doubles(const ot_call *call) {
    const ot_weight *w = &call->w[2], *a = &call->w[3], *b = &call->w[4];
    return w->rows * w->cols + a->rows * a->cols + b->rows * b->cols + call->out.cols;
}

static double *whole(const ot_weight *w, ot_ref_work *work, float *decoded) {
    double *values = ot_ref_take(work, w->rows * w->cols);
    for (int64_t i = 0; i < w->rows; i++) ot_ref_weight_row(w, i, decoded, values + i * w->cols);
    return values;
}

/* 1 / norm [N] */
static void inverse_norms(const ot_call *call, ot_ref_work *work, double *inverse) {
    int64_t N = call->out.cols, M = call->w[3].cols, r = call->w[3].rows;
    bool turned = call->attr->magnitude.transposed;
    float *decoded = ot_ref_take_floats(work, M > N ? M : N);
    double *w = whole(&call->w[2], work, decoded), *a = whole(&call->w[3], work, decoded), *b = whole(&call->w[4], work, decoded);
    for (int64_t n = 0; n < N; n++) {
        double square = 0;
        for (int64_t m = 0; m < M; m++) {
            double v = turned ? w[m * N + n] : w[n * M + m];
            for (int64_t k = 0; k < r; k++) v += (double)call->attr->magnitude.scale * b[n * r + k] * a[k * M + m];
            square += v * v;
        }
        inverse[n] = square == 0 ? 0 : 1 / sqrt(square);
    }
}

ot_status ot_ref_magnitude_forward(const ot_call *call) {
    const ot_view *out = &call->out, *base = &call->in[0], *scaled = call->in[1].x ? &call->in[1] : base;
    int64_t N = out->cols;
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    double *inverse = ot_ref_take(&work, N), *g = ot_ref_take(&work, N), *x = ot_ref_take(&work, N), *y = ot_ref_take(&work, N);
    double *bias = ot_ref_take_zeros(&work, N);
    if (call->w[1].w) ot_ref_load(call->w[1].w, call->w[1].dtype, 0, N, bias);
    inverse_norms(call, &work, inverse);
    ot_ref_store(call->save, ot_ref_real(call), 0, N, inverse, false);
    ot_ref_load(call->w[0].w, call->w[0].dtype, 0, N, g);
    for (int64_t n = 0; n < N; n++) g[n] *= inverse[n];
    for (int64_t r = 0; r < out->rows; r++) {
        ot_ref_load(base->x, base->dtype, r * N, N, y);
        ot_ref_load(scaled->x, scaled->dtype, r * N, N, x);
        for (int64_t n = 0; n < N; n++) y[n] += (g[n] - 1) * (x[n] - bias[n]);
        ot_ref_store(out->x, out->dtype, r * N, N, y, false);
    }
    return OT_OK;
}

ot_status ot_ref_magnitude_backward(const ot_call *call) {
    const ot_view *out = &call->out, *in = &call->in[0], *apart = call->in[1].x ? &call->in[1] : NULL, *scaled = apart ? apart : in;
    int64_t N = out->cols;
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    double *g = ot_ref_take(&work, N), *x = ot_ref_take(&work, N), *dy = ot_ref_take(&work, N), *bias = ot_ref_take_zeros(&work, N);
    double *inverse = ot_ref_take(&work, N), *dm = ot_ref_take_zeros(&work, N), *db = ot_ref_take_zeros(&work, N);
    if (call->w[1].w) ot_ref_load(call->w[1].w, call->w[1].dtype, 0, N, bias);
    ot_ref_load(call->save, ot_ref_real(call), 0, N, inverse);
    ot_ref_load(call->w[0].w, call->w[0].dtype, 0, N, g);
    for (int64_t n = 0; n < N; n++) g[n] *= inverse[n];
    for (int64_t r = 0; r < out->rows; r++) {
        ot_ref_load(out->dx, out->dtype, r * N, N, dy);
        if (call->w[0].dw) {
            ot_ref_load(scaled->x, scaled->dtype, r * N, N, x);
            for (int64_t n = 0; n < N; n++) dm[n] += dy[n] * (x[n] - bias[n]);
        }
        for (int64_t n = 0; n < N; n++) db[n] -= dy[n] * (g[n] - 1);
        if (apart) ot_ref_store_dx(in, r * N, N, dy);
        for (int64_t n = 0; n < N; n++) dy[n] *= apart ? g[n] - 1 : g[n];
        ot_ref_store_dx(scaled, r * N, N, dy);
    }
    for (int64_t n = 0; n < N; n++) dm[n] *= inverse[n];
    ot_ref_add_dw(call, &call->w[0], 0, dm);
    if (!apart) ot_ref_add_dw(call, &call->w[1], 0, db);
    return OT_OK;
}
