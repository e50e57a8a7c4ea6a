/* Reference backend: LINEAR, LOW_RANK and HEAD_LOSS, operations that multiply by a matrix. Weight rows are decoded one by one. */
#include <math.h>

#include "engine/dropout.h"
#include "engine/ref/ref.h"

/* ==== The three products with a stored matrix W [rows, cols]. `decoded` and `row` hold one row of it. ==== */

typedef struct matrix {
    const ot_weight *w;
    float *decoded; /* [cols] */
    double *row;    /* [cols] */
} matrix;

static matrix matrix_of(const ot_weight *w, ot_ref_work *work) {
    return (matrix){w, ot_ref_take_floats(work, w->cols), ot_ref_take(work, w->cols)};
}

/* y [R, rows] = x [R, cols] . W^T */
static void times_transposed(const matrix *m, const double *x, double *y, int64_t R) {
    int64_t rows = m->w->rows, cols = m->w->cols;
    for (int64_t i = 0; i < rows; i++) {
        ot_ref_weight_row(m->w, i, m->decoded, m->row);
        for (int64_t r = 0; r < R; r++) y[r * rows + i] = ot_ref_dot(x + r * cols, m->row, cols);
    }
}

/* y [R, cols] = x [R, rows] . W; y comes zeroed. */
static void times(const matrix *m, const double *x, double *y, int64_t R) {
    int64_t rows = m->w->rows, cols = m->w->cols;
    for (int64_t i = 0; i < rows; i++) {
        ot_ref_weight_row(m->w, i, m->decoded, m->row);
        for (int64_t r = 0; r < R; r++) ot_ref_axpy(x[r * rows + i], m->row, y + r * cols, cols);
    }
}

/* dW [rows, cols] += scale * a [R, rows]^T . b [R, cols] */
static void add_outer(const ot_call *call, const matrix *m, double scale, const double *a, const double *b, int64_t R) {
    int64_t rows = m->w->rows, cols = m->w->cols;
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t c = 0; c < cols; c++) m->row[c] = 0;
        for (int64_t r = 0; r < R; r++) ot_ref_axpy(scale * a[r * rows + i], b + r * cols, m->row, cols);
        ot_ref_add_dw(call, m->w, i, m->row);
    }
}

/* ==== LINEAR: x [R, M], y [R, N]; W [N, M], or [M, N] when transposed; bias [N] ==== */

int64_t ot_ref_linear_doubles(const ot_call *call) {
    return call->in[0].rows * (call->in[0].cols + call->out.cols);
}

ot_status ot_ref_linear_forward(const ot_call *call) {
    const ot_view *in = &call->in[0], *out = &call->out;
    int64_t R = in->rows, M = in->cols, N = out->cols;
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    double *x = ot_ref_take(&work, R * M), *y = ot_ref_take_zeros(&work, R * N), *bias = ot_ref_take_zeros(&work, N);
    matrix m = matrix_of(&call->w[0], &work);

    ot_ref_load(in->x, in->dtype, 0, R * M, x);
    if (call->attr->linear.transposed) times(&m, x, y, R);
    else times_transposed(&m, x, y, R);
    if (call->w[1].w) ot_ref_load(call->w[1].w, call->w[1].dtype, 0, N, bias);
    for (int64_t r = 0; r < R; r++)
        for (int64_t n = 0; n < N; n++) y[r * N + n] = (double)call->attr->linear.scale * y[r * N + n] + bias[n];
    ot_ref_store(out->x, out->dtype, 0, R * N, y, call->attr->linear.add_out);
    return OT_OK;
}

ot_status ot_ref_linear_backward(const ot_call *call) {
    const ot_view *in = &call->in[0], *out = &call->out;
    int64_t R = in->rows, M = in->cols, N = out->cols;
    double scale = call->attr->linear.scale;
    bool transposed = call->attr->linear.transposed;
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    double *x = ot_ref_take(&work, R * M), *dy = ot_ref_take(&work, R * N), *dbias = ot_ref_take_zeros(&work, N);
    matrix m = matrix_of(&call->w[0], &work);

    ot_ref_load(out->dx, out->dtype, 0, R * N, dy);
    if (call->w[1].dw) {
        for (int64_t r = 0; r < R; r++) ot_ref_axpy(1, dy + r * N, dbias, N);
        ot_ref_add_dw(call, &call->w[1], 0, dbias);
    }
    if (call->w[0].dw) {
        ot_ref_load(in->x, in->dtype, 0, R * M, x);
        if (transposed) add_outer(call, &m, scale, x, dy, R);
        else add_outer(call, &m, scale, dy, x, R);
    }
    if (in->dx) {
        double *dx = x; /* x has served */
        for (int64_t i = 0; i < R * M; i++) dx[i] = 0;
        if (transposed) times_transposed(&m, dy, dx, R);
        else times(&m, dy, dx, R);
        for (int64_t i = 0; i < R * M; i++) dx[i] *= scale;
        ot_ref_store_dx(in, 0, R * M, dx);
    }
    return OT_OK;
}

/* ==== LOW_RANK: x [R, M], A [r, M], B [N, r], out [R, N] += scale * dropout(x) . A^T . B^T; the value between is computed again in backward ==== */

int64_t ot_ref_low_rank_doubles(const ot_call *call) {
    return call->in[0].rows * (2 * call->in[0].cols + 2 * call->w[0].rows + call->out.cols);
}

static void drop(const ot_call *call, int64_t n, double *x) {
    float p = call->attr->low_rank.p;
    uint64_t seed = ot_dropout_site_seed(call->batch->dropout_seed, call->attr->low_rank.site);
    for (int64_t i = 0; p > 0 && i < n; i++) x[i] = ot_dropout_keeps(seed, i, p) ? x[i] / (1 - (double)p) : 0;
}

static ot_status low_rank_forward(const ot_call *call) {
    const ot_view *in = &call->in[0], *out = &call->out;
    int64_t R = in->rows, M = in->cols, N = out->cols;
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    matrix a = matrix_of(&call->w[0], &work), b = matrix_of(&call->w[1], &work);
    double *x = ot_ref_take(&work, R * M), *z = ot_ref_take(&work, R * a.w->rows), *y = ot_ref_take(&work, R * N);

    ot_ref_load(in->x, in->dtype, 0, R * M, x);
    drop(call, R * M, x);
    times_transposed(&a, x, z, R);
    times_transposed(&b, z, y, R);
    for (int64_t i = 0; i < R * N; i++) y[i] *= call->attr->low_rank.scale;
    ot_ref_store(out->x, out->dtype, 0, R * N, y, true);
    return OT_OK;
}

static ot_status low_rank_backward(const ot_call *call) {
    const ot_view *in = &call->in[0], *out = &call->out;
    int64_t R = in->rows, M = in->cols, N = out->cols, r = call->w[0].rows;
    double scale = call->attr->low_rank.scale;
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    matrix a = matrix_of(&call->w[0], &work), b = matrix_of(&call->w[1], &work);
    double *x = ot_ref_take(&work, R * M), *z = ot_ref_take(&work, R * r), *dy = ot_ref_take(&work, R * N);
    double *dz = ot_ref_take_zeros(&work, R * r), *dx = ot_ref_take_zeros(&work, R * M);

    ot_ref_load(out->dx, out->dtype, 0, R * N, dy);
    times(&b, dy, dz, R);
    if (call->w[0].dw || call->w[1].dw) {
        ot_ref_load(in->x, in->dtype, 0, R * M, x);
        drop(call, R * M, x);
        times_transposed(&a, x, z, R);
        if (call->w[0].dw) add_outer(call, &a, scale, dz, x, R);
        if (call->w[1].dw) add_outer(call, &b, scale, dy, z, R);
    }
    if (in->dx) {
        times(&a, dz, dx, R);
        for (int64_t i = 0; i < R * M; i++) dx[i] *= scale;
        drop(call, R * M, dx);
        ot_ref_store_dx(in, 0, R * M, dx);
    }
    return OT_OK;
}

ot_status ot_ref_low_rank_forward(const ot_call *call) {
    for (; call != NULL; call = call->next) OT_TRY(low_rank_forward(call));
    return OT_OK;
}

ot_status ot_ref_low_rank_backward(const ot_call *call) {
    for (; call != NULL; call = call->next) OT_TRY(low_rank_backward(call));
    return OT_OK;
}

/* ==== HEAD_LOSS: x [L, D], W [V, D], bias [V], targets [L] ====
 * Two walks over the vocabulary: the first finds every row's log-sum-exp and target score, the second, for gradients only,
 * computes the scores again. So no [L, V] exists, and dx and each row of dW are summed in double before they are stored. */

int64_t ot_ref_head_loss_doubles(const ot_call *call) {
    int64_t L = call->in[0].rows, D = call->in[0].cols, V = call->w[0].rows;
    return 2 * L * D + 4 * L + 2 * V;
}

static ot_status head_loss(const ot_call *call, bool gradients) {
    const ot_view *in = &call->in[0];
    const ot_batch *batch = call->batch;
    const ot_weight *head = &call->w[0], *bias = &call->w[1];
    int64_t L = in->rows, D = in->cols, V = head->rows;
    if (batch->n_targets != L)
        return ot_fail(call->err, OT_ERR_USAGE, "head_loss: %lld hidden states for %lld targets: gather the target rows first",
                       (long long)L, (long long)batch->n_targets);
    for (int64_t l = 0; l < L; l++)
        if (batch->targets[l] < 0 || batch->targets[l] >= V)
            return ot_fail(call->err, OT_ERR_USAGE,
                           "head_loss: target %d at index %lld is not in the vocabulary of %lld: check the labels",
                           batch->targets[l], (long long)l, (long long)V);
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    matrix m = matrix_of(head, &work);
    double *x = ot_ref_take(&work, L * D), *dx = ot_ref_take_zeros(&work, L * D);
    double *max = ot_ref_take(&work, L), *sum = ot_ref_take_zeros(&work, L), *target = ot_ref_take_zeros(&work, L);
    double *mean = ot_ref_take_zeros(&work, L), smoothing = (double)call->attr->head.smoothing, even = smoothing / (double)V;
    double *b = ot_ref_take_zeros(&work, V), *db = ot_ref_take_zeros(&work, V);
    ot_ref_load(in->x, in->dtype, 0, L * D, x);
    if (bias->w) ot_ref_load(bias->w, bias->dtype, 0, V, b);

    for (int64_t l = 0; l < L; l++) max[l] = -INFINITY;
    for (int64_t v = 0; v < V; v++) {
        ot_ref_weight_row(head, v, m.decoded, m.row);
        for (int64_t l = 0; l < L; l++) {
            double score = ot_ref_dot(x + l * D, m.row, D) + b[v];
            if (score > max[l]) { /* sum is relative to the largest score so far */
                sum[l] *= exp(max[l] - score);
                max[l] = score;
            }
            sum[l] += exp(score - max[l]);
            if (batch->targets[l] == v) target[l] = score;
            mean[l] += score / (double)V;
        }
    }
    double loss_sum = 0;
    for (int64_t l = 0; l < L; l++) {
        double loss = max[l] + log(sum[l]) - (1.0 - smoothing) * target[l] - smoothing * mean[l];
        if (batch->target_loss) batch->target_loss[l] = (float)loss;
        if (batch->target_margin) batch->target_margin[l] = (float)(max[l] - target[l]);
        loss_sum += loss;
    }
    call->batch->loss_sum = loss_sum;
    if (!gradients) return OT_OK;

    double *dw = ot_ref_take(&work, D);
    for (int64_t v = 0; v < V; v++) {
        ot_ref_weight_row(head, v, m.decoded, m.row);
        for (int64_t c = 0; c < D; c++) dw[c] = 0;
        for (int64_t l = 0; l < L; l++) {
            double score = ot_ref_dot(x + l * D, m.row, D) + b[v];
            double p = exp(score - max[l]) / sum[l];
            double g = batch->loss_scale * (p - even - (batch->targets[l] == v ? 1.0 - smoothing : 0.0));
            ot_ref_axpy(g, m.row, dx + l * D, D);
            ot_ref_axpy(g, x + l * D, dw, D);
            db[v] += g;
        }
        ot_ref_add_dw(call, head, v, dw);
    }
    ot_ref_add_dw(call, bias, 0, db);
    ot_ref_store_dx(in, 0, L * D, dx);
    return OT_OK;
}

ot_status ot_ref_head_loss_forward(const ot_call *call) { return head_loss(call, false); }
ot_status ot_ref_head_loss_backward(const ot_call *call) { return head_loss(call, true); }
