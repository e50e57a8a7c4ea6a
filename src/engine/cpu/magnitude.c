/* CPU backend: MAGNITUDE. The norms of the rows of V = W + scale * B A, W [N, M] or turned, are found in each forward: W is decoded row by row, a matrix
 * is never held. Backward reads them from what forward saved. */
#include <math.h>
#include <string.h>

#include "engine/cpu/cpu.h"

enum { ROWS = 16, COLUMNS = 256, STRIP = 64 }; /* rows of W that one chunk decodes; columns of a turned one (whole blocks), or of values; rows of values */

typedef struct job {
    const ot_cpu_kernels *table;
    const ot_call *call;
    int64_t M, N, r;
    float *a, *b; /* [r, M], [r, N] */
    float *rows;  /* [chunks][M or COLUMNS] */
    float *g;     /* [N] */
    float *sums;  /* backward: [strips][2][N], of dm and the bias's gradient */
} job;

static int64_t norm_chunks(const job *j) { return j->call->attr->magnitude.transposed ? ot_chunks(j->N, COLUMNS) : ot_chunks(j->N, ROWS); }

static job lay_out(const ot_call *call, bool backward, ot_cpu_work *work) {
    job j = {.table = ot_cpu_pick(), .call = call, .M = call->w[3].cols, .N = call->out.cols, .r = call->w[3].rows};
    int64_t size = (int64_t)sizeof(float);
    j.a = ot_cpu_take(work, j.r * j.M * size);
    j.b = ot_cpu_take(work, j.r * j.N * size);
    j.g = ot_cpu_take(work, j.N * size);
    if (backward) j.sums = ot_cpu_take(work, ot_chunks(call->out.rows, STRIP) * 2 * j.N * size);
    else j.rows = ot_cpu_take(work, norm_chunks(&j) * (call->attr->magnitude.transposed ? COLUMNS : j.M) * size);
    return j;
}

int64_t ot_cpu_magnitude_scratch(const ot_call *call) {
    ot_cpu_work forward = {0}, backward = {0};
    lay_out(call, false, &forward);
    lay_out(call, true, &backward);
    return forward.bytes > backward.bytes ? forward.bytes : backward.bytes;
}

/* ==== Norms ==== */

/* A as it is, scale * B as columns. That there is scratch, ot_cpu_check_work has seen. NOLINTBEGIN(clang-analyzer-core.NullDereference) */
static void read_factors(const job *j) {
    const ot_weight *b = &j->call->w[4];
    for (int64_t k = 0; k < j->r; k++) ot_cpu_decode_part(j->table, &j->call->w[3], k, 0, j->M, (ot_span){j->a + k * j->M, OT_F32});
    const float *floats = b->w;
    for (int64_t k = 0; b->dtype == OT_F32 && k < j->r; k++)
        for (int64_t n = 0; n < j->N; n++) j->b[k * j->N + n] = j->call->attr->magnitude.scale * floats[n * j->r + k];
    for (int64_t n = 0; b->dtype != OT_F32 && n < j->N; n++) {
        float values[COLUMNS];
        for (int64_t k = 0, m = 0; k < j->r; k += m) {
            m = j->r - k < COLUMNS ? j->r - k : COLUMNS;
            ot_cpu_decode_part(j->table, b, n, k, m, (ot_span){values, OT_F32});
            for (int64_t i = 0; i < m; i++) j->b[(k + i) * j->N + n] = j->call->attr->magnitude.scale * values[i];
        }
    }
}
/* NOLINTEND(clang-analyzer-core.NullDereference) */

static float inverse(float square) { return square == 0.0f ? 0.0f : 1.0f / sqrtf(square); }

static void norms_of_rows(void *context, int64_t chunk) {
    const job *j = context;
    float *row = j->rows + chunk * j->M, *save = j->call->save;
    for (int64_t n = chunk * ROWS; n < j->N && n < (chunk + 1) * ROWS; n++) {
        ot_span v = {row, OT_F32};
        float square = 0;
        ot_cpu_decode_part(j->table, &j->call->w[2], n, 0, j->M, v);
        for (int64_t k = 0; k < j->r; k++) j->table->axpy(j->b[k * j->N + n], (ot_span){j->a + k * j->M, OT_F32}, v, j->M);
        j->table->dots(v, row, j->M, 1, j->M, &square);
        save[n] = inverse(square);
    }
}

static void norms_of_columns(void *context, int64_t chunk) {
    const job *j = context;
    int64_t first = chunk * COLUMNS, n = j->N - first < COLUMNS ? j->N - first : COLUMNS;
    float *row = j->rows + chunk * COLUMNS, *save = j->call->save, square[COLUMNS] = {0};
    for (int64_t m = 0; m < j->M; m++) {
        ot_span v = {row, OT_F32};
        ot_cpu_decode_part(j->table, &j->call->w[2], m, first, n, v);
        for (int64_t k = 0; k < j->r; k++) j->table->axpy(j->a[k * j->M + m], (ot_span){j->b + k * j->N + first, OT_F32}, v, n);
        for (int64_t i = 0; i < n; i++) square[i] += row[i] * row[i];
    }
    for (int64_t i = 0; i < n; i++) save[first + i] = inverse(square[i]);
}

static void set_factors(const job *j) {
    const float *magnitude = j->call->w[0].w, *save = j->call->save;
    /* As in read_factors. NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
    for (int64_t n = 0; n < j->N; n++) j->g[n] = magnitude[n] * save[n];
}

/* ==== Values, a few rows and COLUMNS at a time ==== */

/* n values as floats: where they lie, or copied into `room`. */
static float *floats_of(const job *j, ot_span x, float *room, int64_t n) {
    if (x.dtype == OT_F32) return x.x;
    j->table->copy(x, (ot_span){room, OT_F32}, n, false);
    return room;
}

static void forward_strip(void *context, int64_t strip) {
    const job *j = context;
    const ot_call *c = j->call;
    const ot_view *in = &c->in[0], *scaled = c->in[1].x ? &c->in[1] : in;
    const float none[COLUMNS] = {0}, *bias = c->w[1].w;
    for (int64_t r = strip * STRIP; r < c->out.rows && r < (strip + 1) * STRIP; r++) {
        for (int64_t first = 0; first < j->N; first += COLUMNS) {
            int64_t n = j->N - first < COLUMNS ? j->N - first : COLUMNS, at = r * j->N + first;
            float x_room[COLUMNS], y_room[COLUMNS], out[COLUMNS];
            const float *x = floats_of(j, ot_span_at(ot_span_x(scaled), at), x_room, n), *y = floats_of(j, ot_span_at(ot_span_x(in), at), y_room, n);
            const float *g = j->g + first, *shift = bias ? bias + first : none;
            for (int64_t i = 0; i < n; i++) out[i] = y[i] + (g[i] - 1.0f) * (x[i] - shift[i]);
            j->table->copy((ot_span){out, OT_F32}, ot_span_at(ot_span_x(&c->out), at), n, false);
        }
    }
}

static void backward_strip(void *context, int64_t strip) {
    const job *j = context;
    const ot_call *c = j->call;
    const ot_view *in = &c->in[0], *apart = c->in[1].x ? &c->in[1] : NULL, *scaled = apart ? apart : in;
    const float none[COLUMNS] = {0}, *bias = c->w[1].w;
    float *dm = j->sums + strip * 2 * j->N, *db = dm + j->N;
    memset(dm, 0, (size_t)(2 * j->N) * sizeof *dm);
    for (int64_t r = strip * STRIP; r < c->out.rows && r < (strip + 1) * STRIP; r++) {
        for (int64_t first = 0; first < j->N; first += COLUMNS) {
            int64_t n = j->N - first < COLUMNS ? j->N - first : COLUMNS, at = r * j->N + first;
            float x_room[COLUMNS], dy_room[COLUMNS], d[COLUMNS];
            const float *dy = floats_of(j, ot_span_at(ot_span_dx(&c->out), at), dy_room, n);
            const float *g = j->g + first, *shift = bias ? bias + first : none;
            if (c->w[0].dw) {
                const float *x = floats_of(j, ot_span_at(ot_span_x(scaled), at), x_room, n);
                for (int64_t i = 0; i < n; i++) dm[first + i] += dy[i] * (x[i] - shift[i]);
            }
            if (c->w[1].dw)
                for (int64_t i = 0; i < n; i++) db[first + i] -= dy[i] * (g[i] - 1.0f);
            float back = apart ? 1.0f : 0.0f;
            for (int64_t i = 0; i < n; i++) d[i] = dy[i] * (g[i] - back);
            if (apart && in->dx) j->table->copy((ot_span){(void *)(uintptr_t)dy, OT_F32}, ot_span_at(ot_span_dx(in), at), n, in->add_dx);
            if (scaled->dx) j->table->copy((ot_span){d, OT_F32}, ot_span_at(ot_span_dx(scaled), at), n, scaled->add_dx);
        }
    }
}

/* The sums of all strips, in their order. */
static void add_gradients(const job *j) {
    const ot_call *c = j->call;
    const float *save = c->save;
    float *dm = c->w[0].dw, *db = c->in[1].x ? NULL : c->w[1].dw;
    for (int64_t s = 1; s < ot_chunks(c->out.rows, STRIP); s++)
        j->table->copy((ot_span){j->sums + s * 2 * j->N, OT_F32}, (ot_span){j->sums, OT_F32}, 2 * j->N, true);
    for (int64_t n = 0; dm && c->out.rows > 0 && n < j->N; n++) dm[n] += j->sums[n] * save[n];
    for (int64_t n = 0; db && c->out.rows > 0 && n < j->N; n++) db[n] += j->sums[j->N + n];
}

ot_status ot_cpu_magnitude_forward(const ot_call *call) {
    ot_cpu_work work = {.base = call->scratch};
    job j = lay_out(call, false, &work);
    OT_TRY(ot_cpu_check_work(call, &work));
    read_factors(&j);
    ot_parallel_for(norm_chunks(&j), call->attr->magnitude.transposed ? norms_of_columns : norms_of_rows, &j);
    set_factors(&j);
    ot_parallel_for(ot_chunks(call->out.rows, STRIP), forward_strip, &j);
    return OT_OK;
}

ot_status ot_cpu_magnitude_backward(const ot_call *call) {
    ot_cpu_work work = {.base = call->scratch};
    job j = lay_out(call, true, &work);
    OT_TRY(ot_cpu_check_work(call, &work));
    set_factors(&j);
    ot_parallel_for(ot_chunks(call->out.rows, STRIP), backward_strip, &j);
    add_gradients(&j);
    return OT_OK;
}
