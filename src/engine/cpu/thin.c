/* CPU backend: LINEAR with one narrow side and no bias, as in Houlsby's adapters. Rows are done in fixed parts, one after another of each: what is
 * read twice is in the cache, every activation comes from memory once, and sums do not depend on the number of threads. */
#include "engine/cpu/thin.h"

enum { MOST = 16, WIDE = 32, PART = 32 };

typedef struct thin_job {
    const ot_cpu_kernels *table;
    const ot_call *call;
    ot_thin t;
    bool down;       /* to the narrow side (A), else from it (B) */
    float *partials; /* [parts][r, ld]: gradients of the weight */
    int64_t rows;
} thin_job;

static int64_t narrow_of(const ot_call *c) { return c->in[0].cols < c->out.cols ? c->in[0].cols : c->out.cols; }
static int64_t wide_of(const ot_call *c) { return c->in[0].cols < c->out.cols ? c->out.cols : c->in[0].cols; }

bool ot_cpu_thin(const ot_call *c) {
    bool plain = !c->attr->linear.transposed && c->w[1].w == NULL && (c->w[0].dtype == OT_F32 || c->w[0].dtype == OT_BF16);
    bool after_down = !c->attr->linear.add_out || c->in[0].cols < c->out.cols;
    return plain && after_down && narrow_of(c) <= MOST && wide_of(c) >= WIDE && c->in[0].rows > OT_GEMV_ROWS;
}

static int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

/* w is decoded by the caller; the pointers are meant for it. */
static thin_job layout(const ot_call *c, bool backward, ot_cpu_work *work) {
    thin_job j = {.table = ot_cpu_pick(), .call = c, .down = c->out.cols < c->in[0].cols, .rows = c->in[0].rows};
    j.t = (ot_thin){.r = up(narrow_of(c), 4), .n = wide_of(c), .ld = up(wide_of(c), 16)};
    j.t.w = ot_cpu_take(work, j.t.r * j.t.ld * (int64_t)sizeof(float));
    if (backward && c->w[0].dw != NULL) j.partials = ot_cpu_take(work, ot_chunks(j.rows, PART) * j.t.r * j.t.ld * (int64_t)sizeof(float));
    return j;
}

int64_t ot_cpu_thin_scratch(const ot_call *call) {
    ot_cpu_work work = {0};
    layout(call, true, &work);
    return work.bytes;
}

/* A [r, M] row by row, or B [N, r] turned. */
static void read_weight(const thin_job *j, float *to) {
    const ot_weight *w = &j->call->w[0];
    /* ot_cpu_check_work has seen that there is scratch. NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker) */
    memset(to, 0, (size_t)(j->t.r * j->t.ld) * sizeof *to);
    for (int64_t row = 0; row < w->rows; row++) {
        float values[MOST];
        if (j->down) {
            ot_cpu_decode_part(j->table, w, row, 0, w->cols, (ot_span){to + row * j->t.ld, OT_F32});
        } else {
            ot_cpu_decode_part(j->table, w, row, 0, w->cols, (ot_span){values, OT_F32});
            for (int64_t k = 0; k < w->cols; k++) to[k * j->t.ld + row] = values[k];
        }
    }
}

/* Rows of the narrow value [rows, narrow] as scale * them [rows][r], and back. */
static void read_narrow(const thin_job *j, ot_span from, int64_t first, int64_t rows, float *z) {
    int64_t narrow = narrow_of(j->call);
    memset(z, 0, (size_t)(rows * j->t.r) * sizeof *z);
    for (int64_t a = 0; a < rows; a++)
        j->table->scale(j->call->attr->linear.scale, ot_span_at(from, (first + a) * narrow), (ot_span){z + a * j->t.r, OT_F32}, narrow);
}

static void write_narrow(const thin_job *j, float *z, ot_span to, int64_t first, int64_t rows, bool add) {
    int64_t narrow = narrow_of(j->call);
    for (int64_t a = 0; a < rows; a++) {
        ot_span row = {z + a * j->t.r, OT_F32};
        j->table->scale(j->call->attr->linear.scale, row, row, narrow);
        j->table->copy(row, ot_span_at(to, (first + a) * narrow), narrow, add);
    }
}

static void forward_part(void *context, int64_t part) {
    const thin_job *j = context;
    const ot_call *c = j->call;
    int64_t first = part * PART, rows = j->rows - first < PART ? j->rows - first : PART;
    float z[PART * MOST];
    if (j->down) {
        j->table->thin_in(&j->t, ot_span_at(ot_span_x(&c->in[0]), first * j->t.n), NULL, z, rows, (ot_ahead){0});
        write_narrow(j, z, ot_span_x(&c->out), first, rows, false);
    } else {
        read_narrow(j, ot_span_x(&c->in[0]), first, rows, z);
        j->table->thin_out(&j->t, z, ot_span_at(ot_span_x(&c->out), first * j->t.n), NULL, rows, c->attr->linear.add_out);
    }
}

static void backward_part(void *context, int64_t part) {
    const thin_job *j = context;
    const ot_call *c = j->call;
    const ot_view *in = &c->in[0], *out = &c->out;
    int64_t first = part * PART, rows = j->rows - first < PART ? j->rows - first : PART;
    float z[PART * MOST], *dw = j->partials == NULL ? NULL : j->partials + part * j->t.r * j->t.ld;
    if (j->down) {
        read_narrow(j, ot_span_dx(out), first, rows, z);
        if (dw != NULL) j->table->thin_grad(&j->t, z, ot_span_at(ot_span_x(in), first * j->t.n), NULL, rows, dw);
        if (in->dx != NULL) j->table->thin_out(&j->t, z, ot_span_at(ot_span_dx(in), first * j->t.n), NULL, rows, in->add_dx);
        return;
    }
    ot_span dy = ot_span_at(ot_span_dx(out), first * j->t.n);
    if (dw != NULL) {
        read_narrow(j, ot_span_x(in), first, rows, z);
        j->table->thin_grad(&j->t, z, dy, NULL, rows, dw);
    }
    if (in->dx == NULL) return;
    j->table->thin_in(&j->t, dy, NULL, z, rows, (ot_ahead){0});
    write_narrow(j, z, ot_span_dx(in), first, rows, in->add_dx);
}

/* dw += the sum of the parts, in their order. */
static void add_partials(const thin_job *j) {
    const ot_weight *w = &j->call->w[0];
    int64_t size = j->t.r * j->t.ld;
    float *dw = w->dw;
    for (int64_t part = 1; part < ot_chunks(j->rows, PART); part++)
        j->table->copy((ot_span){j->partials + part * size, OT_F32}, (ot_span){j->partials, OT_F32}, size, true);
    for (int64_t row = 0; row < w->rows; row++) {
        if (j->down) j->table->copy((ot_span){j->partials + row * j->t.ld, OT_F32}, (ot_span){dw + row * w->cols, OT_F32}, w->cols, true);
        else
            for (int64_t k = 0; k < w->cols; k++) dw[row * w->cols + k] += j->partials[k * j->t.ld + row];
    }
}

ot_status ot_cpu_thin_run(const ot_call *call, bool backward) {
    ot_cpu_work work = {.base = call->scratch};
    thin_job j = layout(call, backward, &work);
    OT_TRY(ot_cpu_check_work(call, &work));
    if (backward && call->w[0].dw == NULL && call->in[0].dx == NULL) return OT_OK;
    read_weight(&j, (float *)(uintptr_t)j.t.w);
    ot_parallel_for(ot_chunks(j.rows, PART), backward ? backward_part : forward_part, &j);
    if (backward && j.partials != NULL) add_partials(&j);
    return OT_OK;
}
