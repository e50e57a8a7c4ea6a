/* Reference backend: NORM, layer norm and RMS norm over groups of columns (a whole row, or every head of it). */
#include <math.h>

#include "engine/ref/ref.h"

/* gain [width] with its offset (1 where absent), bias [width] (0 where absent) */
static void load_vectors(const ot_call *call, double *gain, double *bias) {
    const ot_weight *g = &call->w[0], *b = &call->w[1];
    int64_t width = call->attr->norm.width;
    for (int64_t c = 0; c < width; c++) {
        gain[c] = 1;
        bias[c] = 0;
    }
    if (g->w) {
        ot_ref_load(g->w, g->dtype, 0, width, gain);
        for (int64_t c = 0; c < width; c++) gain[c] += (double)call->attr->norm.gain_offset;
    }
    if (b->w) ot_ref_load(b->w, b->dtype, 0, width, bias);
}

/* y = (x - mean) * inv * gain + bias for every group; saves (mean, inv); the mean is 0 in an RMS norm */
ot_status ot_ref_norm_forward(const ot_call *call) {
    const ot_view *in = &call->in[0], *out = &call->out;
    int64_t width = call->attr->norm.width, groups = in->rows * (in->cols / width);
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    double *gain = ot_ref_take(&work, width), *bias = ot_ref_take(&work, width), *x = ot_ref_take(&work, width);
    load_vectors(call, gain, bias);
    for (int64_t g = 0; g < groups; g++) {
        ot_ref_load(in->x, in->dtype, g * width, width, x);
        double mean = 0, square = 0;
        if (call->attr->norm.kind == OT_NORM_LAYER) {
            for (int64_t c = 0; c < width; c++) mean += x[c];
            mean /= (double)width;
        }
        for (int64_t c = 0; c < width; c++) square += (x[c] - mean) * (x[c] - mean);
        double inv = 1 / sqrt(square / (double)width + call->attr->norm.eps);
        for (int64_t c = 0; c < width; c++) x[c] = (x[c] - mean) * inv * gain[c] + bias[c];
        ot_ref_store(out->x, out->dtype, g * width, width, x, false);
        if (call->save) ot_ref_store(call->save, ot_ref_real(call), 2 * g, 2, (double[2]){mean, inv}, false);
    }
    return OT_OK;
}

/* With n = (x - mean) * inv and u = dy * gain: dx = inv * (u - mean(u) - n * mean(u n)); RMS has no mean(u) */
ot_status ot_ref_norm_backward(const ot_call *call) {
    const ot_view *in = &call->in[0], *out = &call->out;
    int64_t width = call->attr->norm.width, groups = in->rows * (in->cols / width);
    bool layer = call->attr->norm.kind == OT_NORM_LAYER;
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    double *gain = ot_ref_take(&work, width), *bias = ot_ref_take(&work, width);
    double *n = ot_ref_take(&work, width), *dy = ot_ref_take(&work, width), *dx = ot_ref_take(&work, width);
    double *dgain = ot_ref_take_zeros(&work, width), *dbias = ot_ref_take_zeros(&work, width);
    load_vectors(call, gain, bias);
    for (int64_t g = 0; g < groups; g++) {
        double saved[2];
        ot_ref_load(call->save, ot_ref_real(call), 2 * g, 2, saved);
        double mean = layer ? saved[0] : 0, inv = saved[1];
        ot_ref_load(in->x, in->dtype, g * width, width, n);
        ot_ref_load(out->dx, out->dtype, g * width, width, dy);
        double mean_u = 0, mean_un = 0;
        for (int64_t c = 0; c < width; c++) {
            n[c] = (n[c] - mean) * inv;
            mean_u += dy[c] * gain[c] / (double)width;
            mean_un += dy[c] * gain[c] * n[c] / (double)width;
            dgain[c] += dy[c] * n[c];
            dbias[c] += dy[c];
        }
        if (!layer) mean_u = 0;
        for (int64_t c = 0; c < width; c++) dx[c] = inv * (dy[c] * gain[c] - mean_u - n[c] * mean_un);
        ot_ref_store_dx(in, g * width, width, dx);
    }
    ot_ref_add_dw(call, &call->w[0], 0, dgain);
    ot_ref_add_dw(call, &call->w[1], 0, dbias);
    return OT_OK;
}
