/* CPU backend: DIVERGENCE and GIVEN, of distillation. By chunks of rows, as HEAD_LOSS in general: both sides' logits of a chunk lie in scratch, and the
 * student's turn into their gradient in place. X [L, D], Y [L, E], W [V, D], U [V, E]. */
#include "engine/cpu/gemm.h"
#include "engine/cpu/head.h"

enum { CHUNK = 64, TILE_ELEMENTS = 4 << 20 };

/* One side of the comparison. */
typedef struct side {
    const ot_view *in;
    const ot_weight *head;
    int64_t cols, tile; /* vocabulary rows multiplied at once */
    float *logits;      /* [CHUNK, V] */
    void *x;            /* [CHUNK, cols] in the product's type, or NULL: read in place */
    void *w;            /* [tile, cols], or NULL: read in place */
} side;

typedef struct divergence_run {
    const ot_cpu_kernels *table;
    const ot_call *call;
    ot_dtype type;
    int64_t L, V;
    side student, teacher;
    float *dx;       /* [CHUNK, D] */
    double *amounts; /* [L] */
    int64_t first;   /* row of the chunk */
    bool gradients;
} divergence_run;

static side side_layout(const divergence_run *r, int i, ot_cpu_work *work) {
    side s = {.in = &r->call->in[i], .head = &r->call->w[i], .cols = r->call->in[i].cols, .tile = r->V};
    int64_t rows = r->L < CHUNK ? r->L : CHUNK, size = ot_compute_bytes(r->type);
    bool decode = s.head->dtype != r->type;
    if (decode && TILE_ELEMENTS / (s.cols + 1) + 1 < r->V) s.tile = TILE_ELEMENTS / (s.cols + 1) + 1;
    s.logits = ot_cpu_take(work, rows * r->V * (int64_t)sizeof(float));
    if (s.in->dtype != r->type) s.x = ot_cpu_take(work, rows * s.cols * size);
    if (decode) s.w = ot_cpu_take(work, s.tile * s.cols * size);
    return s;
}

static divergence_run layout(const ot_call *call, ot_cpu_work *work) {
    divergence_run r = {.table = ot_cpu_pick(), .call = call, .type = ot_head_type(call), .L = call->in[0].rows, .V = call->w[0].rows};
    r.student = side_layout(&r, 0, work);
    r.teacher = side_layout(&r, 1, work);
    r.dx = ot_cpu_take(work, (r.L < CHUNK ? r.L : CHUNK) * r.student.cols * (int64_t)sizeof(float));
    r.amounts = ot_cpu_take(work, r.L * (int64_t)sizeof(double));
    return r;
}

int64_t ot_cpu_divergence_scratch(const ot_call *call) {
    ot_cpu_work work = {0};
    layout(call, &work);
    return work.bytes;
}

/* Rows [v, v + n) of the head in the product's type. */
static const void *head_rows(const divergence_run *r, const side *s, int64_t v, int64_t n) {
    if (!s->w) return (const char *)s->head->w + v * s->cols * ot_compute_bytes(r->type);
    ot_cpu_decode(r->table, s->head, v, n, (ot_span){s->w, r->type});
    return s->w;
}

/* The rows of the chunk in the product's type. */
static const void *chunk_rows(const divergence_run *r, const side *s, int64_t rows) {
    ot_span x = ot_span_at(ot_span_x(s->in), r->first * s->cols);
    if (!s->x) return x.x;
    ot_cpu_copy(r->table, x, (ot_span){s->x, r->type}, rows * s->cols, false);
    return s->x;
}

static ot_status multiply(const divergence_run *r, const side *s, int64_t rows) {
    const void *x = chunk_rows(r, s, rows);
    for (int64_t v = 0; v < r->V; v += s->tile) {
        int64_t n = r->V - v < s->tile ? r->V - v : s->tile;
        ot_gemm g = {.tb = true, .m = rows, .n = n, .k = s->cols, .alpha = 1.0f, .type = r->type, .c_type = OT_F32,
                     .a = x, .b = head_rows(r, s, v, n), .c = s->logits + v, .lda = s->cols, .ldb = s->cols, .ldc = r->V};
        OT_TRY(ot_gemm_run(&g, r->call->err));
    }
    return OT_OK;
}

static void compare_row(void *context, int64_t i) {
    const divergence_run *r = context;
    double T = (double)r->call->attr->divergence.temperature;
    double slope = (double)r->call->attr->divergence.weight * r->call->batch->distance_scale * T / (double)r->L;
    float *student = r->student.logits + i * r->V;
    ot_span gradient = {r->gradients ? student : NULL, r->type};
    r->amounts[r->first + i] = r->table->divergence(student, r->teacher.logits + i * r->V, r->V, (float)(1 / T), (float)slope, gradient);
}

static ot_status chunk_gradients(const divergence_run *r, int64_t rows) {
    const side *s = &r->student;
    int64_t stride = r->type == OT_BF16 ? 2 * r->V : r->V; /* of the gradients, which lie in rows of floats */
    ot_span dlogits = {s->logits, r->type};
    if (s->head->dw) {
        const void *x = s->x ? s->x : ot_span_at(ot_span_x(s->in), r->first * s->cols).x;
        ot_gemm g = {.ta = true, .accumulate = true, .m = r->V, .n = s->cols, .k = rows, .alpha = 1.0f, .type = r->type, .c_type = OT_F32,
                     .a = dlogits.x, .b = x, .c = s->head->dw, .lda = stride, .ldb = s->cols, .ldc = s->cols};
        OT_TRY(ot_gemm_run(&g, r->call->err));
    }
    if (!s->in->dx) return OT_OK;
    for (int64_t v = 0; v < r->V; v += s->tile) {
        int64_t n = r->V - v < s->tile ? r->V - v : s->tile;
        ot_gemm g = {.accumulate = v > 0, .m = rows, .n = s->cols, .k = n, .alpha = 1.0f, .type = r->type, .c_type = OT_F32,
                     .a = ot_span_at(dlogits, v).x, .b = head_rows(r, s, v, n), .c = r->dx, .lda = stride, .ldb = s->cols, .ldc = s->cols};
        OT_TRY(ot_gemm_run(&g, r->call->err));
    }
    ot_cpu_copy(r->table, (ot_span){r->dx, OT_F32}, ot_span_at(ot_span_dx(s->in), r->first * s->cols), rows * s->cols, s->in->add_dx);
    return OT_OK;
}

static ot_status divergence(const ot_call *call, bool gradients) {
    ot_cpu_work work = {.base = call->scratch};
    divergence_run r = layout(call, &work);
    OT_TRY(ot_cpu_check_work(call, &work));
    r.gradients = gradients && (call->in[0].dx || call->w[0].dw);
    for (r.first = 0; r.first < r.L; r.first += CHUNK) {
        int64_t rows = r.L - r.first < CHUNK ? r.L - r.first : CHUNK;
        OT_TRY(multiply(&r, &r.student, rows));
        OT_TRY(multiply(&r, &r.teacher, rows));
        ot_parallel_for(rows, compare_row, &r);
        if (r.gradients) OT_TRY(chunk_gradients(&r, rows));
    }
    double T = (double)call->attr->divergence.temperature, sum = 0;
    for (int64_t l = 0; l < r.L; l++) sum += r.amounts[l];
    call->batch->distances[call->attr->divergence.index] = r.L > 0 ? T * T * sum / (double)r.L : 0.0;
    return OT_OK;
}

ot_status ot_cpu_divergence_forward(const ot_call *call) { return divergence(call, false); }
ot_status ot_cpu_divergence_backward(const ot_call *call) { return divergence(call, true); }

/* given [R, D] */
ot_status ot_cpu_given_forward(const ot_call *call) {
    const ot_view *out = &call->out;
    const float *rows = call->batch->given[call->attr->given.index];
    ot_cpu_copy(ot_cpu_pick(), (ot_span){(void *)(uintptr_t)rows, OT_F32}, ot_span_x(out), out->rows * out->cols, false);
    return OT_OK;
}
