/* CPU backend: operations that move rows by an index: EMBED, POSITION, GATHER, KEEP. Indices are checked before anything is written. */
#include "engine/cpu/cpu.h"

enum { ROWS = 16, COLUMNS = 256, PIECE = 1024 };

typedef struct index_job {
    const ot_cpu_kernels *table;
    const ot_call *call;
} index_job;

/* Row of w0 that row r reads; below 0: of w1, see virtual_row. */
static int64_t table_index(const ot_call *call, int64_t r) {
    if (call->kind == OT_OP_EMBED) return call->batch->ids[r];
    return (int64_t)call->batch->positions[r] + call->attr->position.offset;
}

/* The virtual token that an id below 0 stands for, where there are any. */
static bool virtual_row(const ot_call *call, int64_t index, int64_t *row) {
    *row = -1 - index;
    return call->kind == OT_OP_EMBED && index < 0 && *row < call->w[1].rows;
}

static ot_status check_index(const ot_call *call, const char *what, int64_t r, int64_t index, int64_t count) {
    if (index >= 0 && index < count) return OT_OK;
    return ot_fail(call->err, OT_ERR_USAGE, "%s: %s %lld of row %lld is outside [0, %lld): check the batch against the model",
                   ot_op_info(call->kind)->name, what, (long long)index, (long long)r, (long long)count);
}

static ot_status check_table(const ot_call *call) {
    const char *what = call->kind == OT_OP_EMBED ? "id" : "position";
    for (int64_t r = 0, row; r < call->out.rows; r++) {
        int64_t index = table_index(call, r);
        if (!virtual_row(call, index, &row)) OT_TRY(check_index(call, what, r, index, call->w[0].rows));
    }
    return OT_OK;
}

static ot_status check_rows(const ot_call *call, const char *what, const int32_t *rows, int64_t n, int64_t count) {
    for (int64_t r = 0; r < n; r++) OT_TRY(check_index(call, what, r, rows[r], count));
    return OT_OK;
}

static ot_status run_rows(const ot_call *call, int64_t rows, ot_parallel_fn *fn) {
    index_job job = {ot_cpu_pick(), call};
    ot_parallel_for(ot_chunks(rows, ROWS), fn, &job);
    return OT_OK;
}

/* ==== EMBED and POSITION: w0 [V, D], w1 [P, D], y [R, D] ==== */

static void lookup_rows(void *context, int64_t chunk) {
    const index_job *j = context;
    const ot_call *c = j->call;
    int64_t D = c->out.cols;
    float room[PIECE];
    for (int64_t r = chunk * ROWS; r < c->out.rows && r < (chunk + 1) * ROWS; r++) {
        int64_t index = table_index(c, r), row;
        bool made_up = virtual_row(c, index, &row);
        for (int64_t at = 0; at < D; at += PIECE) {
            int64_t n = D - at < PIECE ? D - at : PIECE;
            ot_span w = made_up ? ot_cpu_weight_part(&c->w[1], row, at, n, room) : ot_cpu_weight_part(&c->w[0], index, at, n, room);
            ot_span y = ot_span_at(ot_span_x(&c->out), r * D + at);
            if (c->kind == OT_OP_EMBED) j->table->scale(made_up ? 1.0f : c->attr->embed.scale, w, y, n);
            else j->table->add(ot_span_at(ot_span_x(&c->in[0]), r * D + at), w, y, n);
        }
    }
}

/* dw [V, D], of virtual tokens [P, D]: a chunk owns columns, so rows with the same index are added in order. */
static void scatter_columns(void *context, int64_t chunk) {
    const index_job *j = context;
    const ot_call *c = j->call;
    int64_t D = c->out.cols, at = chunk * COLUMNS, n = D - at < COLUMNS ? D - at : COLUMNS;
    bool embed = c->kind == OT_OP_EMBED;
    for (int64_t r = 0; r < c->out.rows; r++) {
        int64_t index = table_index(c, r), row;
        bool made_up = virtual_row(c, index, &row);
        if (!made_up) row = index;
        float *dw = c->w[made_up].dw;
        if (dw == NULL || (embed && !made_up && index == c->attr->embed.padding_id)) continue;
        j->table->axpy(embed && !made_up ? c->attr->embed.scale : 1.0f, ot_span_at(ot_span_dx(&c->out), r * D + at),
                       (ot_span){dw + row * D + at, OT_F32}, n);
    }
}

static ot_status lookup_forward(const ot_call *call) {
    OT_TRY(check_table(call));
    return run_rows(call, call->out.rows, lookup_rows);
}

static ot_status lookup_backward(const ot_call *call) {
    const ot_view *in = &call->in[0];
    if (call->w[0].dw || call->w[1].dw) {
        OT_TRY(check_table(call));
        index_job job = {ot_cpu_pick(), call};
        ot_parallel_for(ot_chunks(call->out.cols, COLUMNS), scatter_columns, &job);
    }
    if (call->kind == OT_OP_POSITION && in->dx)
        ot_cpu_copy(ot_cpu_pick(), ot_span_dx(&call->out), ot_span_dx(in), in->rows * in->cols, in->add_dx);
    return OT_OK;
}

ot_status ot_cpu_embed_forward(const ot_call *call) { return lookup_forward(call); }
ot_status ot_cpu_embed_backward(const ot_call *call) { return lookup_backward(call); }
ot_status ot_cpu_position_forward(const ot_call *call) { return lookup_forward(call); }
ot_status ot_cpu_position_backward(const ot_call *call) { return lookup_backward(call); }

/* ==== GATHER: x [R, D], target_rows [L], y [L, D] ==== */

static void gather_rows(void *context, int64_t chunk) {
    const index_job *j = context;
    const ot_call *c = j->call;
    int64_t D = c->out.cols;
    for (int64_t i = chunk * ROWS; i < c->out.rows && i < (chunk + 1) * ROWS; i++)
        j->table->copy(ot_span_at(ot_span_x(&c->in[0]), c->batch->target_rows[i] * D), ot_span_at(ot_span_x(&c->out), i * D), D, false);
}

static void clear_rows(void *context, int64_t chunk) {
    const index_job *j = context;
    const ot_view *in = &j->call->in[0];
    for (int64_t r = chunk * ROWS; r < in->rows && r < (chunk + 1) * ROWS; r++)
        memset(ot_span_at(ot_span_dx(in), r * in->cols).x, 0, (size_t)(in->cols * ot_compute_bytes(in->dtype)));
}

/* A chunk owns columns, as in scatter_columns. */
static void return_columns(void *context, int64_t chunk) {
    const index_job *j = context;
    const ot_call *c = j->call;
    int64_t D = c->out.cols, at = chunk * COLUMNS, n = D - at < COLUMNS ? D - at : COLUMNS;
    for (int64_t i = 0; i < c->out.rows; i++)
        j->table->copy(ot_span_at(ot_span_dx(&c->out), i * D + at), ot_span_at(ot_span_dx(&c->in[0]), c->batch->target_rows[i] * D + at), n,
                       true);
}

ot_status ot_cpu_gather_forward(const ot_call *call) {
    OT_TRY(check_rows(call, "target row", call->batch->target_rows, call->out.rows, call->in[0].rows));
    return run_rows(call, call->out.rows, gather_rows);
}

ot_status ot_cpu_gather_backward(const ot_call *call) {
    const ot_view *in = &call->in[0];
    if (!in->dx) return OT_OK;
    OT_TRY(check_rows(call, "target row", call->batch->target_rows, call->out.rows, in->rows));
    if (!in->add_dx) OT_TRY(run_rows(call, in->rows, clear_rows));
    index_job job = {ot_cpu_pick(), call};
    ot_parallel_for(ot_chunks(call->out.cols, COLUMNS), return_columns, &job);
    return OT_OK;
}

/* ==== KEEP: x [R, D], kept_rows [R], cache [C, D] ==== */

ot_status ot_cpu_keep_forward(const ot_call *call) {
    const ot_view *in = &call->in[0], *out = &call->out;
    int64_t D = in->cols;
    OT_TRY(check_rows(call, "cache row", call->batch->kept_rows, in->rows, out->rows));
    const ot_cpu_kernels *table = ot_cpu_pick();
    for (int64_t r = 0; r < in->rows; r++)
        table->copy(ot_span_at(ot_span_x(in), r * D), ot_span_at(ot_span_x(out), call->batch->kept_rows[r] * D), D, false);
    return OT_OK;
}
