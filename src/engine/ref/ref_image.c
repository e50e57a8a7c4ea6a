/* Reference backend: operations of image models: PATCHES, CLASS, POOL. */
#include "engine/ref/ref.h"

/* pixels [images, C, H, W], y [R, C * P * P]: the images' rows one after another, patches row by row from the top. */
ot_status ot_ref_patches_forward(const ot_call *call) {
    const ot_view *out = &call->out;
    int64_t C = call->attr->patches.channels, H = call->attr->patches.height, W = call->attr->patches.width, P = call->attr->patches.patch;
    int64_t across = W / P, first = call->attr->patches.class_rows, every = first + (H / P) * across;
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    double *row = ot_ref_take(&work, out->cols);
    for (int64_t r = 0; r < out->rows; r++) {
        int64_t patch = r % every - first;
        const float *image = call->batch->pixels + r / every * C * H * W;
        for (int64_t c = 0; c < C * P * P; c++) {
            int64_t y = patch / across * P + c / P % P, x = patch % across * P + c % P;
            row[c] = patch < 0 ? 0.0 : (double)image[(c / (P * P) * H + y) * W + x];
        }
        ot_ref_store(out->x, out->dtype, r * out->cols, out->cols, row, false);
    }
    return OT_OK;
}

/* x, y [R, D], w0 [1, D] */
ot_status ot_ref_class_forward(const ot_call *call) {
    const ot_view *in = &call->in[0], *out = &call->out;
    int64_t D = out->cols;
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    double *row = ot_ref_take(&work, D), *token = ot_ref_take(&work, D);
    float *decoded = ot_ref_take_floats(&work, D);
    ot_ref_weight_row(&call->w[0], 0, decoded, token);
    for (int64_t r = 0; r < out->rows; r++) {
        ot_ref_load(in->x, in->dtype, r * D, D, row);
        ot_ref_store(out->x, out->dtype, r * D, D, r % call->attr->class_token.every == 0 ? token : row, false);
    }
    return OT_OK;
}

ot_status ot_ref_class_backward(const ot_call *call) {
    const ot_view *in = &call->in[0], *out = &call->out;
    int64_t D = out->cols;
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    double *row = ot_ref_take(&work, D), *sum = ot_ref_take_zeros(&work, D), *zeros = ot_ref_take_zeros(&work, D);
    for (int64_t r = 0; r < out->rows; r++) {
        bool is_class = r % call->attr->class_token.every == 0;
        ot_ref_load(out->dx, out->dtype, r * D, D, row);
        if (is_class) ot_ref_axpy(1, row, sum, D);
        ot_ref_store_dx(in, r * D, D, is_class ? zeros : row);
    }
    ot_ref_add_dw(call, &call->w[0], 0, sum);
    return OT_OK;
}

static ot_status check_pool(const ot_call *call) {
    for (int64_t i = 0; i < call->out.rows; i++) {
        int64_t first = (int64_t)call->batch->target_rows[i] + call->attr->pool.skip;
        if (first < 0 || first + call->attr->pool.count > call->in[0].rows)
            return ot_fail(call->err, OT_ERR_USAGE, "pool: rows %lld to %lld of target %lld are outside [0, %lld): check the batch",
                           (long long)first, (long long)first + call->attr->pool.count - 1, (long long)i, (long long)call->in[0].rows);
    }
    return OT_OK;
}

/* x [R, D], target_rows [L], y [L, D] */
ot_status ot_ref_pool_forward(const ot_call *call) {
    const ot_view *in = &call->in[0], *out = &call->out;
    int64_t D = out->cols, count = call->attr->pool.count;
    OT_TRY(check_pool(call));
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    double *row = ot_ref_take(&work, D), *mean = ot_ref_take(&work, D);
    for (int64_t i = 0; i < out->rows; i++) {
        int64_t first = (int64_t)call->batch->target_rows[i] + call->attr->pool.skip;
        for (int64_t c = 0; c < D; c++) mean[c] = 0;
        for (int64_t r = first; r < first + count; r++) {
            ot_ref_load(in->x, in->dtype, r * D, D, row);
            ot_ref_axpy(1.0 / (double)count, row, mean, D);
        }
        ot_ref_store(out->x, out->dtype, i * D, D, mean, false);
    }
    return OT_OK;
}

/* Rows of no mean get zeros: their dx is overwritten like any other. */
ot_status ot_ref_pool_backward(const ot_call *call) {
    const ot_view *in = &call->in[0], *out = &call->out;
    int64_t D = out->cols, count = call->attr->pool.count;
    if (!in->dx) return OT_OK;
    OT_TRY(check_pool(call));
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    double *zeros = ot_ref_take_zeros(&work, D), *row = ot_ref_take(&work, D);
    for (int64_t r = 0; r < in->rows; r++) ot_ref_store_dx(in, r * D, D, zeros);
    for (int64_t i = 0; i < out->rows; i++) {
        int64_t first = (int64_t)call->batch->target_rows[i] + call->attr->pool.skip;
        ot_ref_load(out->dx, out->dtype, i * D, D, row);
        for (int64_t c = 0; c < D; c++) row[c] /= (double)count;
        for (int64_t r = first; r < first + count; r++) ot_ref_store(in->dx, in->dtype, r * D, D, row, true);
    }
    return OT_OK;
}
