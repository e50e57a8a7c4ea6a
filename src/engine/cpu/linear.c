/* CPU backend: LINEAR. x [R, M], y [R, N]; W [N, M], or [M, N] when transposed; bias [N].
 *
 * The product is done in bf16 when either value is BF16 and the machine multiplies bf16, else in f32. What lies in another type than the
 * product's is brought into it in scratch first; weights of the product's type are read where they lie. Few rows take a path of
 * their own that reads each weight once and decodes it on the way. */
#include "engine/cpu/cpu.h"
#include "engine/cpu/gemm.h"
#include "engine/cpu/thin.h"

static ot_dtype product_type(const ot_call *call) {
    bool half = call->in[0].dtype == OT_BF16 || call->out.dtype == OT_BF16;
    return half && ot_gemm_bf16() ? OT_BF16 : OT_F32;
}

typedef struct linear_work {
    ot_dtype type;
    int64_t R, M, N;
    void *w;       /* decoded weight, or NULL: read in place */
    void *x, *dy;  /* in the product's type, or NULL: read in place */
    float *y, *dx; /* f32 results of values that are BF16 where the product is f32, or NULL */
    void *packed;  /* operands of the weight gradient, or NULL: a library is as fast at the other products */
} linear_work;

static void *take_if(ot_cpu_work *work, bool wanted, int64_t n, int64_t size) { return wanted ? ot_cpu_take(work, n * size) : NULL; }

static linear_work linear_layout(const ot_call *call, bool backward, ot_cpu_work *work) {
    const ot_view *in = &call->in[0], *out = &call->out;
    linear_work l = {.type = product_type(call), .R = in->rows, .M = in->cols, .N = out->cols};
    int64_t size = ot_compute_bytes(l.type);
    bool forward = !backward, needs_x = forward || call->w[0].dw, needs_w = forward || in->dx;
    l.w = take_if(work, needs_w && call->w[0].dtype != l.type, l.N * l.M, size);
    l.x = take_if(work, needs_x && in->dtype != l.type, l.R * l.M, size);
    l.dy = take_if(work, backward && out->dtype != l.type, l.R * l.N, size);
    l.y = take_if(work, forward && l.type == OT_F32 && out->dtype != OT_F32, l.R * l.N, size);
    l.dx = take_if(work, backward && in->dx && l.type == OT_F32 && in->dtype != OT_F32, l.R * l.M, size);
    int64_t rows = call->attr->linear.transposed ? l.M : l.N, cols = call->attr->linear.transposed ? l.N : l.M;
    int64_t packed = backward && call->w[0].dw ? ot_gemm_work(rows, cols, l.R, l.type) : 0;
    l.packed = take_if(work, packed > 0, packed, 1);
    return l;
}

static int64_t few_rows_scratch(const ot_call *call) {
    return ot_chunks(call->in[0].cols, 16) * 16 * OT_GEMV_ROWS * (int64_t)sizeof(float) + 64;
}

int64_t ot_cpu_linear_scratch(const ot_call *call) {
    int64_t most = few_rows_scratch(call);
    /* Besides the others': a batch of fewer rows than planned may take another path. */
    if (ot_cpu_thin(call) && ot_cpu_thin_scratch(call) > most) most = ot_cpu_thin_scratch(call);
    for (int backward = 0; backward < 2; backward++) {
        ot_cpu_work work = {0};
        linear_layout(call, backward, &work);
        if (work.bytes > most) most = work.bytes;
    }
    return most;
}

/* ==== Few rows ==== */

enum { GEMV_OUTPUTS = 32, GEMV_COLUMNS = 512, GEMV_PIECE = 1024 };

typedef struct gemv_job {
    const ot_cpu_kernels *table;
    const ot_call *call;
    int64_t R, M, N;
    const float *x; /* [R, M] */
} gemv_job;

/* y[r, n] for the n outputs from `first` on, from their sums [n][OT_GEMV_ROWS] or [OT_GEMV_ROWS][stride] */
static void gemv_store(const gemv_job *j, int64_t first, int64_t n, const float *sums, int64_t output_stride, int64_t row_stride) {
    const ot_call *c = j->call;
    float row[GEMV_COLUMNS];
    const float *bias = c->w[1].w;
    for (int64_t r = 0; r < j->R; r++) {
        for (int64_t i = 0; i < n; i++)
            row[i] = c->attr->linear.scale * sums[i * output_stride + r * row_stride] + (bias ? bias[first + i] : 0.0f);
        j->table->copy((ot_span){row, OT_F32}, ot_span_at(ot_span_x(&c->out), r * j->N + first), n, c->attr->linear.add_out);
    }
}

/* W [N, M]: dot products of a few outputs' weight rows with all rows of x */
static void gemv_rows(void *context, int64_t chunk) {
    const gemv_job *j = context;
    int64_t first = chunk * GEMV_OUTPUTS, n = j->N - first < GEMV_OUTPUTS ? j->N - first : GEMV_OUTPUTS;
    float sums[GEMV_OUTPUTS * OT_GEMV_ROWS] = {0}, room[GEMV_PIECE];
    bool whole = j->call->w[0].dtype == OT_F32 || j->call->w[0].dtype == OT_BF16;
    int64_t piece = whole ? j->M : GEMV_PIECE;
    for (int64_t i = 0; i < n; i++) {
        for (int64_t at = 0; at < j->M; at += piece) {
            int64_t m = j->M - at < piece ? j->M - at : piece;
            ot_span w = ot_cpu_weight_part(&j->call->w[0], first + i, at, m, room);
            j->table->dots(w, j->x + at, j->M, (int)j->R, m, sums + i * OT_GEMV_ROWS);
        }
    }
    gemv_store(j, first, n, sums, OT_GEMV_ROWS, 1);
}

/* W [M, N]: a range of columns, rows of W in order */
static void gemv_columns(void *context, int64_t chunk) {
    const gemv_job *j = context;
    int64_t first = chunk * GEMV_COLUMNS, n = j->N - first < GEMV_COLUMNS ? j->N - first : GEMV_COLUMNS;
    float sums[OT_GEMV_ROWS][GEMV_COLUMNS], room[GEMV_COLUMNS];
    memset(sums, 0, sizeof sums);
    bool whole = j->call->w[0].dtype == OT_F32 || j->call->w[0].dtype == OT_BF16;
    int64_t m = 0;
    for (; whole && m + OT_COMBINE <= j->M; m += OT_COMBINE) {
        ot_span w = ot_cpu_weight_part(&j->call->w[0], m, first, n, room);
        for (int64_t r = 0; r < j->R; r++) j->table->combine(j->x + r * j->M + m, w, j->N, sums[r], n);
    }
    for (; m < j->M; m++) {
        ot_span w = ot_cpu_weight_part(&j->call->w[0], m, first, n, room);
        for (int64_t r = 0; r < j->R; r++) j->table->axpy(j->x[r * j->M + m], w, (ot_span){sums[r], OT_F32}, n);
    }
    gemv_store(j, first, n, sums[0], 1, GEMV_COLUMNS);
}

static ot_status few_rows(const ot_call *call) {
    const ot_view *in = &call->in[0];
    gemv_job job = {ot_cpu_pick(), call, in->rows, in->cols, call->out.cols, in->x};
    if (in->dtype != OT_F32) {
        ot_cpu_work work = {.base = call->scratch};
        float *x = ot_cpu_take(&work, job.R * job.M * (int64_t)sizeof *x);
        OT_TRY(ot_cpu_check_work(call, &work));
        job.table->copy(ot_span_x(in), (ot_span){x, OT_F32}, job.R * job.M, false);
        job.x = x;
    }
    if (call->attr->linear.transposed) ot_parallel_for(ot_chunks(job.N, GEMV_COLUMNS), gemv_columns, &job);
    else ot_parallel_for(ot_chunks(job.N, GEMV_OUTPUTS), gemv_rows, &job);
    return OT_OK;
}

/* ==== Products ==== */

/* x as [n] elements of the product's type: in place, or copied into `room`. */
static const void *in_type(const ot_cpu_kernels *table, ot_span x, void *room, ot_dtype type, int64_t n) {
    if (!room) return x.x;
    ot_cpu_copy(table, x, (ot_span){room, type}, n, false);
    return room;
}

static const void *weight_in_type(const ot_cpu_kernels *table, const ot_weight *w, void *room, ot_dtype type) {
    if (!room) return w->w;
    ot_cpu_decode(table, w, 0, w->rows, (ot_span){room, type});
    return room;
}

ot_status ot_cpu_linear_forward(const ot_call *call) {
    const ot_view *in = &call->in[0], *out = &call->out;
    if (in->rows <= OT_GEMV_ROWS) return few_rows(call);
    if (ot_cpu_thin(call)) return ot_cpu_thin_run(call, false);
    const ot_cpu_kernels *table = ot_cpu_pick();
    ot_cpu_work work = {.base = call->scratch};
    linear_work l = linear_layout(call, false, &work);
    OT_TRY(ot_cpu_check_work(call, &work));
    bool transposed = call->attr->linear.transposed, add = call->attr->linear.add_out;
    ot_gemm g = {.tb = !transposed, .accumulate = add && !l.y, .m = l.R, .n = l.N, .k = l.M, .alpha = call->attr->linear.scale, .type = l.type};
    g.a = in_type(table, ot_span_x(in), l.x, l.type, l.R * l.M);
    g.b = weight_in_type(table, &call->w[0], l.w, l.type);
    g.c = l.y ? l.y : out->x;
    g.c_type = l.y ? OT_F32 : out->dtype;
    g.lda = l.M;
    g.ldb = transposed ? l.N : l.M;
    g.ldc = l.N;
    g.bias = call->w[1].w;
    OT_TRY(ot_gemm_run(&g, call->err));
    if (l.y) ot_cpu_copy(table, (ot_span){l.y, OT_F32}, ot_span_x(out), l.R * l.N, add);
    return OT_OK;
}

/* dW [N, M] += scale * dy^T . x, or [M, N] += scale * x^T . dy */
static ot_status weight_gradient(const ot_call *call, const linear_work *l, const void *x, const void *dy) {
    bool transposed = call->attr->linear.transposed;
    int64_t rows = transposed ? l->M : l->N, cols = transposed ? l->N : l->M;
    ot_gemm g = {.ta = true, .accumulate = true, .m = rows, .n = cols, .k = l->R, .alpha = call->attr->linear.scale, .type = l->type, .work = l->packed};
    g.a = transposed ? x : dy;
    g.b = transposed ? dy : x;
    g.c = call->w[0].dw;
    g.c_type = OT_F32;
    g.lda = rows;
    g.ldb = g.ldc = cols;
    return ot_gemm_run(&g, call->err);
}

ot_status ot_cpu_linear_backward(const ot_call *call) {
    if (ot_cpu_thin(call)) return ot_cpu_thin_run(call, true);
    const ot_view *in = &call->in[0], *out = &call->out;
    const ot_cpu_kernels *table = ot_cpu_pick();
    ot_cpu_work work = {.base = call->scratch};
    linear_work l = linear_layout(call, true, &work);
    OT_TRY(ot_cpu_check_work(call, &work));
    if (call->w[1].dw) ot_cpu_column_sum(table, ot_span_dx(out), l.R, l.N, call->w[1].dw);
    if (!call->w[0].dw && !in->dx) return OT_OK;
    const void *dy = in_type(table, ot_span_dx(out), l.dy, l.type, l.R * l.N);
    if (call->w[0].dw) OT_TRY(weight_gradient(call, &l, in_type(table, ot_span_x(in), l.x, l.type, l.R * l.M), dy));
    if (!in->dx) return OT_OK;
    bool transposed = call->attr->linear.transposed;
    ot_gemm g = {.tb = transposed, .accumulate = in->add_dx && !l.dx, .m = l.R, .n = l.M, .k = l.N, .alpha = call->attr->linear.scale, .type = l.type};
    g.a = dy;
    g.b = weight_in_type(table, &call->w[0], l.w, l.type);
    g.c = l.dx ? l.dx : in->dx;
    g.c_type = l.dx ? OT_F32 : in->dtype;
    g.lda = l.N;
    g.ldb = transposed ? l.N : l.M;
    g.ldc = l.M;
    OT_TRY(ot_gemm_run(&g, call->err));
    if (l.dx) ot_cpu_copy(table, (ot_span){l.dx, OT_F32}, ot_span_dx(in), l.R * l.M, in->add_dx);
    return OT_OK;
}
