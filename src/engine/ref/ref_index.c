/* Reference backend: operations that move rows by an index: EMBED, POSITION, GATHER, KEEP. */
#include "engine/ref/ref.h"

static ot_status check_index(const ot_call *call, const char *what, int64_t r, int64_t index, int64_t count) {
    if (index >= 0 && index < count) return OT_OK;
    return ot_fail(call->err, OT_ERR_USAGE, "%s: %s %lld of row %lld is outside [0, %lld): check the batch against the model",
                   ot_op_info(call->kind)->name, what, (long long)index, (long long)r, (long long)count);
}

/* Index of row r in w0, below 0: -1 - its row in w1. Its id, or its position plus the offset. */
static int64_t table_index(const ot_call *call, int64_t r) {
    if (call->kind == OT_OP_EMBED) return call->batch->ids[r];
    return (int64_t)call->batch->positions[r] + call->attr->position.offset;
}

/* Does this id stand for a virtual token? */
static bool is_virtual(const ot_call *call, int64_t id) { return id < 0 && -1 - id < call->w[1].rows; }

/* dw[index of r] += scale * dy[r]; of virtual tokens without the scale. All rows of one index are summed before they are added, to round once. */
static void scatter(const ot_call *call, double scale, int64_t skipped_index, double *dy, double *sum) {
    const ot_view *out = &call->out;
    for (int64_t r = 0; r < out->rows; r++) {
        int64_t index = table_index(call, r), first = 0;
        bool made_up = is_virtual(call, index);
        while (table_index(call, first) != index) first++;
        if (first < r || (index == skipped_index && !made_up) || call->w[made_up].dw == NULL) continue;
        for (int64_t c = 0; c < out->cols; c++) sum[c] = 0;
        for (int64_t s = r; s < out->rows; s++) {
            if (table_index(call, s) != index) continue;
            ot_ref_load(out->dx, out->dtype, s * out->cols, out->cols, dy);
            ot_ref_axpy(made_up ? 1 : scale, dy, sum, out->cols);
        }
        ot_ref_add_dw(call, &call->w[made_up], made_up ? -1 - index : index, sum);
    }
}

static ot_status check_ids(const ot_call *call) {
    for (int64_t r = 0; r < call->out.rows; r++) {
        int64_t id = table_index(call, r);
        if (!is_virtual(call, id)) OT_TRY(check_index(call, "id", r, id, call->w[0].rows));
    }
    return OT_OK;
}

/* ids [R], w0 [V, D], w1 [P, D], y [R, D]: y[r] = scale * w0[ids[r]], or w1[-1 - ids[r]] */
ot_status ot_ref_embed_forward(const ot_call *call) {
    const ot_view *out = &call->out;
    int64_t D = out->cols;
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    double *row = ot_ref_take(&work, D);
    float *decoded = ot_ref_take_floats(&work, D);
    OT_TRY(check_ids(call));
    for (int64_t r = 0; r < out->rows; r++) {
        int64_t id = table_index(call, r);
        bool made_up = is_virtual(call, id);
        ot_ref_weight_row(&call->w[made_up], made_up ? -1 - id : id, decoded, row);
        for (int64_t c = 0; c < D; c++) row[c] *= made_up ? 1.0 : (double)call->attr->embed.scale;
        ot_ref_store(out->x, out->dtype, r * D, D, row, false);
    }
    return OT_OK;
}

ot_status ot_ref_embed_backward(const ot_call *call) {
    if (!call->w[0].dw && !call->w[1].dw) return OT_OK;
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    double *dy = ot_ref_take(&work, call->out.cols), *sum = ot_ref_take(&work, call->out.cols);
    OT_TRY(check_ids(call));
    scatter(call, call->attr->embed.scale, call->attr->embed.padding_id, dy, sum);
    return OT_OK;
}

/* x, y [R, D], positions [R], w0 [P, D]: y[r] = x[r] + w0[positions[r] + offset] */
ot_status ot_ref_position_forward(const ot_call *call) {
    const ot_view *in = &call->in[0], *out = &call->out;
    int64_t D = out->cols;
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    double *row = ot_ref_take(&work, D), *x = ot_ref_take(&work, D);
    float *decoded = ot_ref_take_floats(&work, D);
    for (int64_t r = 0; r < out->rows; r++) {
        OT_TRY(check_index(call, "position", r, table_index(call, r), call->w[0].rows));
        ot_ref_weight_row(&call->w[0], table_index(call, r), decoded, row);
        ot_ref_load(in->x, in->dtype, r * D, D, x);
        ot_ref_axpy(1, x, row, D);
        ot_ref_store(out->x, out->dtype, r * D, D, row, false);
    }
    return OT_OK;
}

ot_status ot_ref_position_backward(const ot_call *call) {
    const ot_view *out = &call->out;
    int64_t D = out->cols;
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    double *dy = ot_ref_take(&work, D), *sum = ot_ref_take(&work, D);
    for (int64_t r = 0; r < out->rows; r++) OT_TRY(check_index(call, "position", r, table_index(call, r), call->w[0].rows));
    if (call->w[0].dw) scatter(call, 1, -1, dy, sum);
    for (int64_t r = 0; r < out->rows; r++) {
        ot_ref_load(out->dx, out->dtype, r * D, D, dy);
        ot_ref_store_dx(&call->in[0], r * D, D, dy);
    }
    return OT_OK;
}

/* x [R, D], target_rows [L], y [L, D]: y[i] = x[target_rows[i]] */
ot_status ot_ref_gather_forward(const ot_call *call) {
    const ot_view *in = &call->in[0], *out = &call->out;
    int64_t D = out->cols;
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    double *row = ot_ref_take(&work, D);
    for (int64_t i = 0; i < out->rows; i++) {
        OT_TRY(check_index(call, "target row", i, call->batch->target_rows[i], in->rows));
        ot_ref_load(in->x, in->dtype, call->batch->target_rows[i] * D, D, row);
        ot_ref_store(out->x, out->dtype, i * D, D, row, false);
    }
    return OT_OK;
}

/* Rows without a target get zeros: their dx is overwritten like any other. */
ot_status ot_ref_gather_backward(const ot_call *call) {
    const ot_view *in = &call->in[0], *out = &call->out;
    int64_t D = out->cols;
    if (!in->dx) return OT_OK;
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    double *zeros = ot_ref_take_zeros(&work, D), *row = ot_ref_take(&work, D);
    for (int64_t i = 0; i < out->rows; i++) OT_TRY(check_index(call, "target row", i, call->batch->target_rows[i], in->rows));
    for (int64_t r = 0; r < in->rows; r++) ot_ref_store_dx(in, r * D, D, zeros);
    for (int64_t i = 0; i < out->rows; i++) {
        ot_ref_load(out->dx, out->dtype, i * D, D, row);
        ot_ref_store(in->dx, in->dtype, call->batch->target_rows[i] * D, D, row, true);
    }
    return OT_OK;
}

/* x [R, D], kept_rows [R], cache [C, D]: cache[kept_rows[r]] = x[r] */
ot_status ot_ref_keep_forward(const ot_call *call) {
    const ot_view *in = &call->in[0], *out = &call->out;
    int64_t D = in->cols;
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    double *row = ot_ref_take(&work, D);
    for (int64_t r = 0; r < in->rows; r++) {
        OT_TRY(check_index(call, "cache row", r, call->batch->kept_rows[r], out->rows));
        ot_ref_load(in->x, in->dtype, r * D, D, row);
        ot_ref_store(out->x, out->dtype, call->batch->kept_rows[r] * D, D, row, false);
    }
    return OT_OK;
}
