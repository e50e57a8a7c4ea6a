/* CPU backend: operations on single elements, pairs, or groups of columns: ACT, GATE, ADD, SCALE, DROPOUT, ROPE, NORM. Each is one parallel
 * loop over chunks of fixed size around the loops of the instruction set. */
#include <math.h>

#include "engine/cpu/cpu.h"
#include "engine/dropout.h"

enum { ELEMENTS = 16384 }; /* of a chunk */

typedef struct element_job {
    const ot_cpu_kernels *table;
    const ot_call *call;
    int64_t n;
} element_job;

/* Elements [at, at + n) of the chunk. */
static int64_t chunk_of(const element_job *j, int64_t chunk, int64_t *at) {
    *at = chunk * ELEMENTS;
    return j->n - *at < ELEMENTS ? j->n - *at : ELEMENTS;
}

static ot_status run_elements(const ot_call *call, ot_parallel_fn *fn) {
    const ot_view *shape = &call->out;
    element_job job = {ot_cpu_pick(), call, shape->rows * shape->cols};
    ot_parallel_for(ot_chunks(job.n, ELEMENTS), fn, &job);
    return OT_OK;
}

/* NULL stays NULL. */
static ot_span dx_at(const ot_view *view, int64_t i) {
    return view->dx ? ot_span_at(ot_span_dx(view), i) : (ot_span){NULL, view->dtype};
}

/* ==== ACT: x, y [R, D] ==== */

static void act_chunk(void *context, int64_t chunk) {
    const element_job *j = context;
    const ot_call *c = j->call;
    int64_t at, n = chunk_of(j, chunk, &at);
    j->table->act(c->attr->act.kind, ot_span_at(ot_span_x(&c->in[0]), at), ot_span_at(ot_span_x(&c->out), at), n);
}

static void act_back_chunk(void *context, int64_t chunk) {
    const element_job *j = context;
    const ot_call *c = j->call;
    int64_t at, n = chunk_of(j, chunk, &at);
    j->table->act_back(c->attr->act.kind, ot_span_at(ot_span_x(&c->in[0]), at), dx_at(&c->out, at), dx_at(&c->in[0], at),
                       c->in[0].add_dx, n);
}

ot_status ot_cpu_act_forward(const ot_call *call) { return run_elements(call, act_chunk); }
ot_status ot_cpu_act_backward(const ot_call *call) { return call->in[0].dx ? run_elements(call, act_back_chunk) : OT_OK; }

/* ==== GATE: g, u, y [R, D] ==== */

static void gate_chunk(void *context, int64_t chunk) {
    const element_job *j = context;
    const ot_call *c = j->call;
    int64_t at, n = chunk_of(j, chunk, &at);
    j->table->gate(c->attr->act.kind, ot_span_at(ot_span_x(&c->in[0]), at), ot_span_at(ot_span_x(&c->in[1]), at),
                   ot_span_at(ot_span_x(&c->out), at), n);
}

static void gate_back_chunk(void *context, int64_t chunk) {
    const element_job *j = context;
    const ot_call *c = j->call;
    int64_t at, n = chunk_of(j, chunk, &at);
    j->table->gate_back(c->attr->act.kind, ot_span_at(ot_span_x(&c->in[0]), at), ot_span_at(ot_span_x(&c->in[1]), at), dx_at(&c->out, at),
                        dx_at(&c->in[0], at), c->in[0].add_dx, dx_at(&c->in[1], at), c->in[1].add_dx, n);
}

ot_status ot_cpu_gate_forward(const ot_call *call) { return run_elements(call, gate_chunk); }

ot_status ot_cpu_gate_backward(const ot_call *call) {
    return call->in[0].dx || call->in[1].dx ? run_elements(call, gate_back_chunk) : OT_OK;
}

/* ==== ADD: a, b, y [R, D] ==== */

static void add_chunk(void *context, int64_t chunk) {
    const element_job *j = context;
    const ot_call *c = j->call;
    int64_t at, n = chunk_of(j, chunk, &at);
    j->table->add(ot_span_at(ot_span_x(&c->in[0]), at), ot_span_at(ot_span_x(&c->in[1]), at), ot_span_at(ot_span_x(&c->out), at), n);
}

ot_status ot_cpu_add_forward(const ot_call *call) { return run_elements(call, add_chunk); }

ot_status ot_cpu_add_backward(const ot_call *call) {
    const ot_cpu_kernels *table = ot_cpu_pick();
    for (int k = 0; k < 2; k++) {
        const ot_view *in = &call->in[k];
        if (in->dx) ot_cpu_copy(table, ot_span_dx(&call->out), ot_span_dx(in), in->rows * in->cols, in->add_dx);
    }
    return OT_OK;
}

/* ==== SCALE: x, y [R, D], gains [D]. A chunk owns columns, so that the sums over rows have one order. ==== */

enum { SCALE_COLUMNS = 128 };

typedef struct scale_job {
    const ot_cpu_kernels *table;
    const ot_call *call;
} scale_job;

/* y = x * gain, or dx (+)= dy * gain, in the chunk's columns. */
static void scale_columns(const scale_job *j, ot_span from, ot_span to, bool add, int64_t at, int64_t n) {
    const float *gain = (const float *)j->call->w[0].w + at;
    int64_t D = j->call->out.cols;
    float row[SCALE_COLUMNS];
    for (int64_t r = 0; r < j->call->out.rows; r++) {
        j->table->copy(ot_span_at(from, r * D + at), (ot_span){row, OT_F32}, n, false);
        for (int64_t c = 0; c < n; c++) row[c] *= gain[c];
        j->table->copy((ot_span){row, OT_F32}, ot_span_at(to, r * D + at), n, add);
    }
}

static void scale_gains(const scale_job *j, int64_t at, int64_t n) {
    const ot_call *call = j->call;
    int64_t D = call->out.cols;
    float x[SCALE_COLUMNS], dy[SCALE_COLUMNS], *gain = (float *)call->w[0].dw + at;
    double sum[SCALE_COLUMNS] = {0};
    for (int64_t r = 0; r < call->out.rows; r++) {
        j->table->copy(ot_span_at(ot_span_x(&call->in[0]), r * D + at), (ot_span){x, OT_F32}, n, false);
        j->table->copy(ot_span_at(ot_span_dx(&call->out), r * D + at), (ot_span){dy, OT_F32}, n, false);
        for (int64_t c = 0; c < n; c++) sum[c] += (double)x[c] * (double)dy[c];
    }
    for (int64_t c = 0; c < n; c++) gain[c] += (float)sum[c];
}

static void scale_chunk(void *context, int64_t chunk) {
    const scale_job *j = context;
    int64_t at = chunk * SCALE_COLUMNS, left = j->call->out.cols - at, n = left < SCALE_COLUMNS ? left : SCALE_COLUMNS;
    scale_columns(j, ot_span_x(&j->call->in[0]), ot_span_x(&j->call->out), false, at, n);
}

static void scale_back_chunk(void *context, int64_t chunk) {
    const scale_job *j = context;
    const ot_view *in = &j->call->in[0];
    int64_t at = chunk * SCALE_COLUMNS, left = j->call->out.cols - at, n = left < SCALE_COLUMNS ? left : SCALE_COLUMNS;
    if (j->call->w[0].dw) scale_gains(j, at, n);
    if (in->dx) scale_columns(j, ot_span_dx(&j->call->out), ot_span_dx(in), in->add_dx, at, n);
}

ot_status ot_cpu_scale_forward(const ot_call *call) {
    scale_job job = {ot_cpu_pick(), call};
    ot_parallel_for(ot_chunks(call->out.cols, SCALE_COLUMNS), scale_chunk, &job);
    return OT_OK;
}

ot_status ot_cpu_scale_backward(const ot_call *call) {
    scale_job job = {ot_cpu_pick(), call};
    ot_parallel_for(ot_chunks(call->out.cols, SCALE_COLUMNS), scale_back_chunk, &job);
    return OT_OK;
}

/* ==== DROPOUT: x, y [R, D]; backward draws the mask again ==== */

typedef struct dropout_job {
    element_job elements;
    ot_span from, to;
    bool add;
    ot_dropout_mask mask;
} dropout_job;

static void dropout_chunk(void *context, int64_t chunk) {
    const dropout_job *j = context;
    int64_t at, n = chunk_of(&j->elements, chunk, &at);
    j->elements.table->dropout(ot_span_at(j->from, at), ot_span_at(j->to, at), n, j->add, &j->mask, at);
}

ot_dropout_mask ot_cpu_dropout_mask(const ot_batch *batch, float p, uint32_t site) {
    /* ot_dropout_keeps compares bits * 2^-16 with p; both sides times 2^16 are exact */
    return (ot_dropout_mask){.seed = ot_dropout_site_seed(batch->dropout_seed, site),
                             .threshold = (uint32_t)ceil((double)p * 0x1p16),
                             .factor = (float)(1.0 / (1.0 - (double)p))};
}

static ot_status dropout(const ot_call *call, ot_span from, ot_span to, bool add) {
    float p = call->attr->dropout.p;
    dropout_job job = {.elements = {ot_cpu_pick(), call, call->out.rows * call->out.cols}, .from = from, .to = to, .add = add};
    if (p <= 0) {
        ot_cpu_copy(job.elements.table, from, to, job.elements.n, add);
        return OT_OK;
    }
    job.mask = ot_cpu_dropout_mask(call->batch, p, call->attr->dropout.site);
    ot_parallel_for(ot_chunks(job.elements.n, ELEMENTS), dropout_chunk, &job);
    return OT_OK;
}

ot_status ot_cpu_dropout_forward(const ot_call *call) { return dropout(call, ot_span_x(&call->in[0]), ot_span_x(&call->out), false); }

ot_status ot_cpu_dropout_backward(const ot_call *call) {
    if (!call->in[0].dx) return OT_OK;
    return dropout(call, ot_span_dx(&call->out), ot_span_dx(&call->in[0]), call->in[0].add_dx);
}

/* ==== ROPE: x [R, ...] in place, cos and sin [R, half] ==== */

enum { ROPE_ROWS = 16 };

typedef struct rope_job {
    const ot_cpu_kernels *table;
    const ot_call *call;
    ot_span x;
    float direction;
} rope_job;

static void rope_chunk(void *context, int64_t chunk) {
    const rope_job *j = context;
    const ot_view *in = &j->call->in[0];
    const ot_op_attr *a = j->call->attr;
    const ot_rope_table *t = &j->call->batch->rope[a->rope.table];
    for (int64_t r = chunk * ROPE_ROWS; r < in->rows && r < (chunk + 1) * ROPE_ROWS; r++)
        for (int64_t h = 0; h < a->rope.heads; h++)
            j->table->rope(ot_span_at(j->x, r * in->cols + a->rope.layout.offset + h * a->rope.layout.stride), t->cos + r * t->half,
                           t->sin + r * t->half, t->half, j->direction);
}

static ot_status rope(const ot_call *call, void *array, float direction) {
    const ot_op_attr *a = call->attr;
    if (call->batch->rope[a->rope.table].half != a->rope.rotary_dim / 2)
        return ot_fail(call->err, OT_ERR_USAGE, "rope: the table turns %d pairs, the operation %d: build the table for rotary_dim",
                       call->batch->rope[a->rope.table].half, a->rope.rotary_dim / 2);
    rope_job job = {ot_cpu_pick(), call, {array, call->in[0].dtype}, direction};
    ot_parallel_for(ot_chunks(call->in[0].rows, ROPE_ROWS), rope_chunk, &job);
    return OT_OK;
}

ot_status ot_cpu_rope_forward(const ot_call *call) { return rope(call, call->out.x, 1.0f); }
ot_status ot_cpu_rope_backward(const ot_call *call) { return call->in[0].dx ? rope(call, call->out.dx, -1.0f) : OT_OK; }

/* ==== NORM: x, y [R, D] in groups of `width`. Gradients of gain and bias are summed by chunks of rows, then over chunks. ==== */

enum { NORM_ROWS = 32 };

typedef struct norm_job {
    const ot_cpu_kernels *table;
    ot_norm_job norm;
    int64_t rows, groups_per_row;
    float *partials; /* [chunks][2][width] or NULL */
    float *total;    /* [2][width] */
} norm_job;

static int64_t norm_groups(const norm_job *j, int64_t chunk) {
    int64_t rows = j->rows - chunk * NORM_ROWS;
    return (rows < NORM_ROWS ? rows : NORM_ROWS) * j->groups_per_row;
}

static void norm_chunk(void *context, int64_t chunk) {
    const norm_job *j = context;
    j->table->norm(&j->norm, chunk * NORM_ROWS * j->groups_per_row, norm_groups(j, chunk));
}

static void norm_back_chunk(void *context, int64_t chunk) {
    const norm_job *j = context;
    float *partial = j->partials ? j->partials + chunk * 2 * j->norm.width : NULL;
    j->table->norm_back(&j->norm, chunk * NORM_ROWS * j->groups_per_row, norm_groups(j, chunk), partial);
}

static norm_job norm_of(const ot_call *call) {
    const ot_view *in = &call->in[0];
    return (norm_job){.table = ot_cpu_pick(),
                      .norm = {.x = ot_span_x(in),
                               .y = ot_span_x(&call->out),
                               .dy = ot_span_dx(&call->out),
                               .dx = ot_span_dx(in),
                               .add_dx = in->add_dx,
                               .layer = call->attr->norm.kind == OT_NORM_LAYER,
                               .width = call->attr->norm.width,
                               .gain = call->w[0].w,
                               .bias = call->w[1].w,
                               .gain_offset = call->attr->norm.gain_offset,
                               .eps = (float)call->attr->norm.eps,
                               .save = call->save},
                      .rows = in->rows,
                      .groups_per_row = in->cols / call->attr->norm.width};
}

static void norm_layout(const ot_call *call, ot_cpu_work *work, norm_job *j) {
    if (!call->w[0].dw && !call->w[1].dw) return;
    int64_t width = call->attr->norm.width;
    j->partials = ot_cpu_take(work, ot_chunks(call->in[0].rows, NORM_ROWS) * 2 * width * (int64_t)sizeof(float));
    j->total = ot_cpu_take(work, 2 * width * (int64_t)sizeof(float));
}

int64_t ot_cpu_norm_scratch(const ot_call *call) {
    ot_cpu_work work = {0};
    norm_job unused;
    norm_layout(call, &work, &unused);
    return work.bytes;
}

ot_status ot_cpu_norm_forward(const ot_call *call) {
    norm_job job = norm_of(call);
    ot_parallel_for(ot_chunks(job.rows, NORM_ROWS), norm_chunk, &job);
    return OT_OK;
}

ot_status ot_cpu_norm_backward(const ot_call *call) {
    norm_job job = norm_of(call);
    ot_cpu_work work = {.base = call->scratch};
    norm_layout(call, &work, &job);
    OT_TRY(ot_cpu_check_work(call, &work));
    int64_t chunks = ot_chunks(job.rows, NORM_ROWS), width = job.norm.width;
    ot_parallel_for(chunks, norm_back_chunk, &job);
    if (!job.partials) return OT_OK;
    for (int64_t i = 0; i < 2 * width; i++) job.total[i] = 0.0f;
    ot_cpu_column_sum(job.table, (ot_span){job.partials, OT_F32}, chunks, 2 * width, job.total);
    for (int k = 0; k < 2; k++)
        if (call->w[k].dw) job.table->copy((ot_span){job.total + k * width, OT_F32}, (ot_span){call->w[k].dw, OT_F32}, width, true);
    return OT_OK;
}
