/* Reference backend: operations on single elements or pairs of them: ACT, GATE, ADD, SCALE, DROPOUT, ROPE. */
#include <math.h>

#include "engine/dropout.h"
#include "engine/ref/ref.h"

/* ==== Activations: f(x) and f'(x) ==== */

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

static double activate(ot_act_kind kind, double x, double *derivative) {
    switch (kind) {
    case OT_ACT_RELU: {
        *derivative = x > 0 ? 1 : 0;
        return x > 0 ? x : 0;
    }
    case OT_ACT_GELU: {
        double cdf = 0.5 * erfc(-x * M_SQRT1_2), density = exp(-0.5 * x * x) * (M_2_SQRTPI * M_SQRT1_2 * 0.5);
        *derivative = cdf + x * density;
        return x * cdf;
    }
    case OT_ACT_GELU_TANH: {
        const double root = M_SQRT2 * M_2_SQRTPI * 0.5, cubic = 0.044715; /* sqrt(2 / pi) */
        double t = tanh(root * (x + cubic * x * x * x));
        *derivative = 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * root * (1 + 3 * cubic * x * x);
        return 0.5 * x * (1 + t);
    }
    case OT_ACT_QUICK_GELU: {
        const double steep = 1.702;
        double s = sigmoid(steep * x);
        *derivative = s + steep * x * s * (1 - s);
        return x * s;
    }
    case OT_ACT_SILU: {
        double s = sigmoid(x);
        *derivative = s + x * s * (1 - s);
        return x * s;
    }
    case OT_ACT_COUNT: break;
    }
    *derivative = NAN; /* no such activation */
    return NAN;
}

/* x, y [R, D]: y = f(x) */
ot_status ot_ref_act_forward(const ot_call *call) {
    const ot_view *in = &call->in[0], *out = &call->out;
    int64_t D = in->cols;
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    double *x = ot_ref_take(&work, D), unused;
    for (int64_t r = 0; r < in->rows; r++) {
        ot_ref_load(in->x, in->dtype, r * D, D, x);
        for (int64_t c = 0; c < D; c++) x[c] = activate(call->attr->act.kind, x[c], &unused);
        ot_ref_store(out->x, out->dtype, r * D, D, x, false);
    }
    return OT_OK;
}

/* dx = dy * f'(x) */
ot_status ot_ref_act_backward(const ot_call *call) {
    const ot_view *in = &call->in[0], *out = &call->out;
    int64_t D = in->cols;
    if (!in->dx) return OT_OK;
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    double *x = ot_ref_take(&work, D), *dy = ot_ref_take(&work, D), slope;
    for (int64_t r = 0; r < in->rows; r++) {
        ot_ref_load(in->x, in->dtype, r * D, D, x);
        ot_ref_load(out->dx, out->dtype, r * D, D, dy);
        for (int64_t c = 0; c < D; c++) {
            activate(call->attr->act.kind, x[c], &slope);
            dy[c] *= slope;
        }
        ot_ref_store_dx(in, r * D, D, dy);
    }
    return OT_OK;
}

/* gate, up, y [R, D]: y = f(gate) * up */
ot_status ot_ref_gate_forward(const ot_call *call) {
    const ot_view *gate = &call->in[0], *up = &call->in[1], *out = &call->out;
    int64_t D = gate->cols;
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    double *g = ot_ref_take(&work, D), *u = ot_ref_take(&work, D), unused;
    for (int64_t r = 0; r < gate->rows; r++) {
        ot_ref_load(gate->x, gate->dtype, r * D, D, g);
        ot_ref_load(up->x, up->dtype, r * D, D, u);
        for (int64_t c = 0; c < D; c++) u[c] *= activate(call->attr->act.kind, g[c], &unused);
        ot_ref_store(out->x, out->dtype, r * D, D, u, false);
    }
    return OT_OK;
}

/* dgate = dy * up * f'(gate), dup = dy * f(gate) */
ot_status ot_ref_gate_backward(const ot_call *call) {
    const ot_view *gate = &call->in[0], *up = &call->in[1], *out = &call->out;
    int64_t D = gate->cols;
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    double *g = ot_ref_take(&work, D), *u = ot_ref_take(&work, D), *dy = ot_ref_take(&work, D);
    for (int64_t r = 0; r < gate->rows; r++) {
        ot_ref_load(gate->x, gate->dtype, r * D, D, g);
        ot_ref_load(up->x, up->dtype, r * D, D, u);
        ot_ref_load(out->dx, out->dtype, r * D, D, dy);
        for (int64_t c = 0; c < D; c++) {
            double slope, f = activate(call->attr->act.kind, g[c], &slope);
            g[c] = dy[c] * u[c] * slope;
            u[c] = dy[c] * f;
        }
        ot_ref_store_dx(gate, r * D, D, g);
        ot_ref_store_dx(up, r * D, D, u);
    }
    return OT_OK;
}

/* ==== ADD: a, b, y [R, D] ==== */

ot_status ot_ref_add_forward(const ot_call *call) {
    const ot_view *a = &call->in[0], *b = &call->in[1], *out = &call->out;
    int64_t D = out->cols;
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    double *x = ot_ref_take(&work, D), *y = ot_ref_take(&work, D);
    for (int64_t r = 0; r < out->rows; r++) {
        ot_ref_load(a->x, a->dtype, r * D, D, x);
        ot_ref_load(b->x, b->dtype, r * D, D, y);
        ot_ref_axpy(1, x, y, D);
        ot_ref_store(out->x, out->dtype, r * D, D, y, false);
    }
    return OT_OK;
}

ot_status ot_ref_add_backward(const ot_call *call) {
    const ot_view *out = &call->out;
    int64_t D = out->cols;
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    double *dy = ot_ref_take(&work, D);
    for (int64_t r = 0; r < out->rows; r++) {
        ot_ref_load(out->dx, out->dtype, r * D, D, dy);
        ot_ref_store_dx(&call->in[0], r * D, D, dy);
        ot_ref_store_dx(&call->in[1], r * D, D, dy);
    }
    return OT_OK;
}

/* ==== SCALE: x, y [R, D], gains [D] ==== */

ot_status ot_ref_scale_forward(const ot_call *call) {
    const ot_view *in = &call->in[0], *out = &call->out;
    int64_t D = in->cols;
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    double *gain = ot_ref_take(&work, D), *x = ot_ref_take(&work, D);
    ot_ref_load(call->w[0].w, call->w[0].dtype, 0, D, gain);
    for (int64_t r = 0; r < in->rows; r++) {
        ot_ref_load(in->x, in->dtype, r * D, D, x);
        for (int64_t c = 0; c < D; c++) x[c] *= gain[c];
        ot_ref_store(out->x, out->dtype, r * D, D, x, false);
    }
    return OT_OK;
}

/* dx = dy * gain; dgain = the sum over rows of dy * x */
ot_status ot_ref_scale_backward(const ot_call *call) {
    const ot_view *in = &call->in[0], *out = &call->out;
    int64_t D = in->cols;
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    double *gain = ot_ref_take(&work, D), *x = ot_ref_take(&work, D), *dy = ot_ref_take(&work, D), *dgain = ot_ref_take_zeros(&work, D);
    ot_ref_load(call->w[0].w, call->w[0].dtype, 0, D, gain);
    for (int64_t r = 0; r < in->rows; r++) {
        ot_ref_load(out->dx, out->dtype, r * D, D, dy);
        if (call->w[0].dw) {
            ot_ref_load(in->x, in->dtype, r * D, D, x);
            for (int64_t c = 0; c < D; c++) dgain[c] += dy[c] * x[c];
        }
        for (int64_t c = 0; c < D; c++) dy[c] *= gain[c];
        ot_ref_store_dx(in, r * D, D, dy);
    }
    ot_ref_add_dw(call, &call->w[0], 0, dgain);
    return OT_OK;
}

/* ==== DROPOUT: x, y [R, D]; backward draws the mask again ==== */

static void apply_mask(const ot_call *call, int64_t first, int64_t n, double *row) {
    float p = call->attr->dropout.p;
    uint64_t seed = ot_dropout_site_seed(call->batch->dropout_seed, call->attr->dropout.site);
    if (p <= 0) return;
    for (int64_t c = 0; c < n; c++) row[c] = ot_dropout_keeps(seed, first + c, p) ? row[c] / (1 - (double)p) : 0;
}

ot_status ot_ref_dropout_forward(const ot_call *call) {
    const ot_view *in = &call->in[0], *out = &call->out;
    int64_t D = in->cols;
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    double *x = ot_ref_take(&work, D);
    for (int64_t r = 0; r < in->rows; r++) {
        ot_ref_load(in->x, in->dtype, r * D, D, x);
        apply_mask(call, r * D, D, x);
        ot_ref_store(out->x, out->dtype, r * D, D, x, false);
    }
    return OT_OK;
}

ot_status ot_ref_dropout_backward(const ot_call *call) {
    const ot_view *in = &call->in[0], *out = &call->out;
    int64_t D = in->cols;
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    double *dy = ot_ref_take(&work, D);
    for (int64_t r = 0; r < in->rows; r++) {
        ot_ref_load(out->dx, out->dtype, r * D, D, dy);
        apply_mask(call, r * D, D, dy);
        ot_ref_store_dx(in, r * D, D, dy);
    }
    return OT_OK;
}

/* ==== ROPE: x [R, ...] in place, cos and sin [R, half] ====
 * Element i of a head turns with element i + half; the gradient turns back. Other columns stay as they are. */

static ot_status rotate(const ot_call *call, void *array, double direction) {
    const ot_view *in = &call->in[0];
    const ot_rope_table *table = &call->batch->rope[call->attr->rope.table];
    int64_t half = call->attr->rope.rotary_dim / 2;
    ot_head_layout layout = call->attr->rope.layout;
    if (table->half != half)
        return ot_fail(call->err, OT_ERR_USAGE,
                       "rope: the table rotates %d pairs, the operation %lld: build the table for rotary_dim", table->half,
                       (long long)half);
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    double *x = ot_ref_take(&work, 2 * half);
    for (int64_t r = 0; r < in->rows; r++) {
        for (int64_t h = 0; h < call->attr->rope.heads; h++) {
            int64_t first = r * in->cols + layout.offset + h * layout.stride;
            ot_ref_load(array, in->dtype, first, 2 * half, x);
            for (int64_t i = 0; i < half; i++) {
                double cosine = table->cos[r * half + i], sine = direction * (double)table->sin[r * half + i];
                double a = x[i], b = x[i + half];
                x[i] = a * cosine - b * sine;
                x[i + half] = b * cosine + a * sine;
            }
            ot_ref_store(array, in->dtype, first, 2 * half, x, false);
        }
    }
    return OT_OK;
}

ot_status ot_ref_rope_forward(const ot_call *call) { return rotate(call, call->out.x, 1); }
ot_status ot_ref_rope_backward(const ot_call *call) { return call->in[0].dx ? rotate(call, call->out.dx, -1) : OT_OK; }
