/* Reference backend: rows of any dtype as doubles, and the scratch memory of a call. The only file that looks at dtypes. */
#include "engine/ref/ref.h"

#include <string.h>

#include "tensor/packed.h"

/* ==== Rows ==== */

void ot_ref_load(const void *array, ot_dtype dtype, int64_t first, int64_t n, double *row) {
    if (dtype == OT_F64) {
        memcpy(row, (const double *)array + first, (size_t)n * sizeof *row);
    } else if (dtype == OT_BF16) {
        const ot_bf16 *x = (const ot_bf16 *)array + first;
        for (int64_t i = 0; i < n; i++) row[i] = ot_bf16_to_f32(x[i]);
    } else {
        const float *x = (const float *)array + first;
        for (int64_t i = 0; i < n; i++) row[i] = x[i];
    }
}

void ot_ref_store(void *array, ot_dtype dtype, int64_t first, int64_t n, const double *row, bool add) {
    if (dtype == OT_F64) {
        double *x = (double *)array + first;
        for (int64_t i = 0; i < n; i++) x[i] = row[i] + (add ? x[i] : 0.0);
    } else if (dtype == OT_BF16) {
        ot_bf16 *x = (ot_bf16 *)array + first;
        for (int64_t i = 0; i < n; i++) x[i] = ot_f32_to_bf16((float)(row[i] + (add ? (double)ot_bf16_to_f32(x[i]) : 0.0)));
    } else {
        float *x = (float *)array + first;
        for (int64_t i = 0; i < n; i++) x[i] = (float)(row[i] + (add ? (double)x[i] : 0.0));
    }
}

void ot_ref_store_dx(const ot_view *in, int64_t first, int64_t n, const double *row) {
    if (in->dx) ot_ref_store(in->dx, in->dtype, first, n, row, in->add_dx);
}

void ot_ref_weight_row(const ot_weight *w, int64_t i, float *decoded, double *row) {
    int64_t bytes = 0;
    if (ot_dtype_is_packed(w->dtype)) {
        const char *codes = (const char *)w->w + i * ot_packed_row_bytes(w->dtype, w->cols);
        ot_packed_decode(w->dtype, codes, (const char *)w->scales + i * ot_packed_row_groups(w->cols, w->group) * 2, w->group, 0, w->cols, decoded);
        for (int64_t c = 0; c < w->cols; c++) row[c] = decoded[c];
        return;
    }
    ot_dtype_bytes(w->dtype, w->cols, &bytes); /* the plan has checked that rows are whole blocks */
    const unsigned char *stored = (const unsigned char *)w->w + i * bytes;
    if (w->dtype == OT_F64) { /* decoding to float would lose what the double build is for */
        memcpy(row, stored, (size_t)bytes);
        return;
    }
    ot_decode_f32(w->dtype, stored, decoded, w->cols);
    for (int64_t c = 0; c < w->cols; c++) row[c] = decoded[c];
}

void ot_ref_add_dw(const ot_call *call, const ot_weight *w, int64_t i, const double *row) {
    if (w->dw) ot_ref_store(w->dw, ot_ref_real(call), i * w->cols, w->cols, row, true);
}

ot_dtype ot_ref_real(const ot_call *call) {
    bool f64 = call->kind == OT_OP_EMBED ? call->out.dtype == OT_F64 : call->in[0].dtype == OT_F64;
    return f64 ? OT_F64 : OT_F32;
}

/* Four partial sums: more accurate than one, and not bound by the latency of one addition. */
double ot_ref_dot(const double *a, const double *b, int64_t n) {
    double s[4] = {0};
    int64_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (int j = 0; j < 4; j++) s[j] += a[i + j] * b[i + j];
    for (; i < n; i++) s[0] += a[i] * b[i];
    return (s[0] + s[1]) + (s[2] + s[3]);
}

void ot_ref_axpy(double s, const double *a, double *b, int64_t n) {
    for (int64_t i = 0; i < n; i++) b[i] += s * a[i];
}

/* ==== Scratch ==== */

static int64_t widest(const ot_call *call) {
    int64_t cols = call->out.cols;
    for (int i = 0; i < OT_OP_INPUTS; i++)
        if (call->in[i].cols > cols) cols = call->in[i].cols;
    for (int i = 0; i < OT_OP_WEIGHTS; i++)
        if (call->w[i].cols > cols) cols = call->w[i].cols;
    return cols;
}

size_t ot_ref_scratch(const ot_call *call) {
    enum { ROWS = 8 }; /* rows that a row-by-row kernel holds at once, at most */
    int64_t doubles = ROWS * (widest(call) + 1);
    if (call->kind == OT_OP_LINEAR) doubles += ot_ref_linear_doubles(call);
    if (call->kind == OT_OP_LOW_RANK) doubles += ot_ref_low_rank_doubles(call);
    if (call->kind == OT_OP_MAGNITUDE) doubles += ot_ref_magnitude_doubles(call);
    if (call->kind == OT_OP_ATTENTION) doubles += ot_ref_attention_doubles(call);
    if (call->kind == OT_OP_HEAD_LOSS) doubles += ot_ref_head_loss_doubles(call);
    if (call->kind == OT_OP_DIVERGENCE) doubles += ot_ref_divergence_doubles(call);
    return (size_t)doubles * sizeof(double);
}

ot_status ot_ref_begin(const ot_call *call, ot_ref_work *work) {
    size_t need = ot_ref_scratch(call);
    if (call->scratch_bytes < need)
        return ot_fail(call->err, OT_ERR_USAGE,
                       "%s: the call has %zu bytes of scratch, %zu are needed: size it by the backend's scratch()",
                       ot_op_info(call->kind)->name, call->scratch_bytes, need);
    work->next = call->scratch;
    return OT_OK;
}

double *ot_ref_take(ot_ref_work *work, int64_t n) {
    double *p = work->next;
    work->next += n;
    return p;
}

double *ot_ref_take_zeros(ot_ref_work *work, int64_t n) {
    double *p = ot_ref_take(work, n);
    memset(p, 0, (size_t)n * sizeof *p);
    return p;
}

float *ot_ref_take_floats(ot_ref_work *work, int64_t n) { return (float *)ot_ref_take(work, (n + 1) / 2); }
