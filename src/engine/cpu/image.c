/* CPU backend: operations of image models: PATCHES, CLASS, POOL. Little beside the products of the blocks; parallel over rows or columns. */
#include <string.h>

#include "engine/cpu/cpu.h"

enum { ROWS = 16, COLUMNS = 256, LONGEST = 1024 };

typedef struct image_job {
    const ot_cpu_kernels *table;
    const ot_call *call;
} image_job;

static ot_status run(const ot_call *call, int64_t n, int64_t each, ot_parallel_fn *fn) {
    image_job job = {ot_cpu_pick(), call};
    ot_parallel_for(ot_chunks(n, each), fn, &job);
    return OT_OK;
}

/* ==== PATCHES: pixels [images, C, H, W], y [R, C * P * P] ==== */

static void copy_patches(void *context, int64_t chunk) {
    const image_job *j = context;
    const ot_call *call = j->call;
    const ot_view *out = &call->out;
    int64_t C = call->attr->patches.channels, H = call->attr->patches.height, W = call->attr->patches.width, P = call->attr->patches.patch;
    int64_t across = W / P, first = call->attr->patches.class_rows, every = first + (H / P) * across;
    for (int64_t r = chunk * ROWS; r < out->rows && r < (chunk + 1) * ROWS; r++) {
        int64_t patch = r % every - first;
        ot_span y = ot_span_at(ot_span_x(out), r * out->cols);
        if (patch < 0) {
            memset(y.x, 0, (size_t)(out->cols * ot_compute_bytes(out->dtype)));
            continue;
        }
        const float *image = call->batch->pixels + r / every * C * H * W;
        for (int64_t c = 0; c < C; c++) {
            for (int64_t line = 0; line < P; line++) {
                const float *from = image + (c * H + patch / across * P + line) * W + patch % across * P;
                j->table->copy((ot_span){(void *)(uintptr_t)from, OT_F32}, ot_span_at(y, (c * P + line) * P), P, false);
            }
        }
    }
}

ot_status ot_cpu_patches_forward(const ot_call *call) { return run(call, call->out.rows, ROWS, copy_patches); }

/* ==== CLASS: x, y [R, D], w0 [1, D] ==== */

static void class_rows(void *context, int64_t chunk) {
    const image_job *j = context;
    const ot_call *c = j->call;
    int64_t D = c->out.cols;
    float room[LONGEST];
    for (int64_t r = chunk * ROWS; r < c->out.rows && r < (chunk + 1) * ROWS; r++) {
        if (r % c->attr->class_token.every != 0) {
            j->table->copy(ot_span_at(ot_span_x(&c->in[0]), r * D), ot_span_at(ot_span_x(&c->out), r * D), D, false);
            continue;
        }
        for (int64_t at = 0; at < D; at += LONGEST) {
            int64_t n = D - at < LONGEST ? D - at : LONGEST;
            j->table->copy(ot_cpu_weight_part(&c->w[0], 0, at, n, room), ot_span_at(ot_span_x(&c->out), r * D + at), n, false);
        }
    }
}

/* A chunk owns columns, so the rows of the class token are added in order. */
static void class_columns(void *context, int64_t chunk) {
    const image_job *j = context;
    const ot_call *c = j->call;
    int64_t D = c->out.cols, at = chunk * COLUMNS, n = D - at < COLUMNS ? D - at : COLUMNS;
    for (int64_t r = 0; r < c->out.rows; r += c->attr->class_token.every)
        j->table->copy(ot_span_at(ot_span_dx(&c->out), r * D + at), (ot_span){(float *)c->w[0].dw + at, OT_F32}, n, true);
}

static void class_rows_back(void *context, int64_t chunk) {
    const image_job *j = context;
    const ot_call *c = j->call;
    const ot_view *in = &c->in[0];
    int64_t D = c->out.cols;
    for (int64_t r = chunk * ROWS; r < in->rows && r < (chunk + 1) * ROWS; r++) {
        ot_span dx = ot_span_at(ot_span_dx(in), r * D);
        if (r % c->attr->class_token.every != 0) j->table->copy(ot_span_at(ot_span_dx(&c->out), r * D), dx, D, in->add_dx);
        else if (!in->add_dx) memset(dx.x, 0, (size_t)(D * ot_compute_bytes(in->dtype)));
    }
}

ot_status ot_cpu_class_forward(const ot_call *call) { return run(call, call->out.rows, ROWS, class_rows); }

ot_status ot_cpu_class_backward(const ot_call *call) {
    if (call->w[0].dw) OT_TRY(run(call, call->out.cols, COLUMNS, class_columns));
    return call->in[0].dx ? run(call, call->in[0].rows, ROWS, class_rows_back) : OT_OK;
}

/* ==== POOL: x [R, D], target_rows [L], y [L, D] ==== */

static ot_status check_pool(const ot_call *call) {
    for (int64_t i = 0; i < call->out.rows; i++) {
        int64_t first = (int64_t)call->batch->target_rows[i] + call->attr->pool.skip;
        if (first < 0 || first + call->attr->pool.count > call->in[0].rows)
            return ot_fail(call->err, OT_ERR_USAGE, "pool: rows %lld to %lld of target %lld are outside [0, %lld): check the batch",
                           (long long)first, (long long)first + call->attr->pool.count - 1, (long long)i, (long long)call->in[0].rows);
    }
    return OT_OK;
}

static int64_t pool_first(const ot_call *c, int64_t i) { return (int64_t)c->batch->target_rows[i] + c->attr->pool.skip; }

static void pool_columns(void *context, int64_t chunk) {
    const image_job *j = context;
    const ot_call *c = j->call;
    int64_t D = c->out.cols, at = chunk * COLUMNS, n = D - at < COLUMNS ? D - at : COLUMNS;
    float sum[COLUMNS];
    for (int64_t i = 0; i < c->out.rows; i++) {
        memset(sum, 0, sizeof sum);
        j->table->column_sum(ot_span_at(ot_span_x(&c->in[0]), pool_first(c, i) * D + at), D, c->attr->pool.count, n, sum);
        j->table->scale(1.0F / (float)c->attr->pool.count, (ot_span){sum, OT_F32}, ot_span_at(ot_span_x(&c->out), i * D + at), n);
    }
}

static void pool_columns_back(void *context, int64_t chunk) {
    const image_job *j = context;
    const ot_call *c = j->call;
    const ot_view *in = &c->in[0];
    int64_t D = c->out.cols, at = chunk * COLUMNS, n = D - at < COLUMNS ? D - at : COLUMNS;
    for (int64_t r = 0; !in->add_dx && r < in->rows; r++)
        memset(ot_span_at(ot_span_dx(in), r * D + at).x, 0, (size_t)(n * ot_compute_bytes(in->dtype)));
    for (int64_t i = 0; i < c->out.rows; i++) {
        for (int64_t r = pool_first(c, i); r < pool_first(c, i) + c->attr->pool.count; r++)
            j->table->axpy(1.0F / (float)c->attr->pool.count, ot_span_at(ot_span_dx(&c->out), i * D + at), ot_span_at(ot_span_dx(in), r * D + at), n);
    }
}

ot_status ot_cpu_pool_forward(const ot_call *call) {
    OT_TRY(check_pool(call));
    return run(call, call->out.cols, COLUMNS, pool_columns);
}

ot_status ot_cpu_pool_backward(const ot_call *call) {
    if (!call->in[0].dx) return OT_OK;
    OT_TRY(check_pool(call));
    return run(call, call->out.cols, COLUMNS, pool_columns_back);
}
