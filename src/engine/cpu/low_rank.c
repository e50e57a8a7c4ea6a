/* CPU backend: LOW_RANK, out [R, N] += scale * dropout(x [R, M]) . A^T . B^T; A [r, M], B [N, r].
 *
 * With a small r it costs memory traffic more than arithmetic. A strip of rows at a time goes through both products, of all the calls that read the same x,
 * so that what they share comes from memory once. Masks are drawn on the way. z = scale * dropout(x) . A^T, the masks and B turned are kept for backward
 * where the plan has room, or else computed again there. Gradients of the matrices are summed over fixed strips of rows, so that they do not depend on the
 * number of threads. With a larger r, or few rows, it is two LINEARs. */
#include <string.h>

#include "base/mem.h"
#include "engine/cpu/cpu.h"

enum { MOST = OT_LOW_RANK_KEPT, STRIP = 64, CALLS = OT_OP_TOGETHER };

/* ==== Narrow products ==== */

/* One call. What forward may leave for backward lies in the call's save, or else in scratch, and backward computes it again. */
typedef struct part {
    const ot_call *call;
    ot_thin a, b;   /* A [r, M]; B turned, [r, N] */
    float *a_copy;  /* NULL: A is read where it lies */
    float *turned;  /* B turned */
    float *z;       /* [rows, r] */
    uint32_t *bits; /* [rows][words of x's row], NULL: no dropout */
    bool kept;      /* backward: z, the mask and B turned are there from forward */
    float *da, *db; /* [strips][r, ld], NULL: not wanted */
    ot_dropout_mask mask;
} part;

typedef struct job {
    const ot_cpu_kernels *table;
    part parts[CALLS];
    int n;
    int64_t rows, strips;
    bool backward;
} job;

static bool plain(const ot_weight *w) { return w->dtype == OT_F32 || w->dtype == OT_BF16; }

static bool narrow(const ot_call *c) {
    return plain(&c->w[0]) && plain(&c->w[1]) && c->w[0].rows <= MOST && c->in[0].rows > OT_GEMV_ROWS;
}

static int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

static float *take(ot_cpu_work *work, int64_t floats) { return ot_cpu_take(work, floats * (int64_t)sizeof(float)); }

static void lay_out_part(const job *j, part *p, const ot_call *c, bool measuring, ot_cpu_work *work) {
    int64_t r = up(c->w[0].rows, 4), m = c->in[0].cols, n = c->out.cols;
    bool own = !measuring && c->w[0].dtype == OT_F32 && c->w[0].rows == r && m == up(m, 16);
    *p = (part){.call = c, .a = {.r = r, .n = m, .ld = up(m, 16)}, .b = {.r = r, .n = n, .ld = up(n, 16)}};
    p->kept = !measuring && c->save && c->attr->low_rank.r == c->w[0].rows;
    ot_cpu_work save = {.base = c->save}, *keep = p->kept ? &save : work;
    p->kept = p->kept && j->backward;
    p->z = take(keep, j->rows * r);
    p->b.w = p->turned = take(keep, r * p->b.ld);
    if (c->attr->low_rank.p > 0) p->bits = ot_cpu_take(keep, j->rows * OT_THIN_WORDS(m) * (int64_t)sizeof *p->bits);
    if (!own) p->a_copy = take(work, r * p->a.ld);
    p->a.w = own ? c->w[0].w : p->a_copy;
    if (j->table->thin_prepare && c->in[0].dtype == OT_BF16) p->a.tiles = ot_cpu_take(work, OT_THIN_TILES(m));
    if (j->table->thin_prepare && c->out.dtype == OT_BF16) p->b.tiles = ot_cpu_take(work, OT_THIN_TILES(n));
    if (!j->backward) return;
    if (c->w[0].dw) p->da = take(work, j->strips * r * p->a.ld);
    if (c->w[1].dw) p->db = take(work, j->strips * r * p->b.ld);
}

/* `measuring`: the most that such a call can take. */
static void lay_out(job *j, const ot_call *call, bool backward, bool measuring, ot_cpu_work *work) {
    int64_t rows = call->in[0].rows;
    *j = (job){.table = ot_cpu_pick(), .rows = rows, .strips = ot_chunks(rows, STRIP), .backward = backward};
    for (const ot_call *c = call; c != NULL && j->n < CALLS; c = c->next) lay_out_part(j, &j->parts[j->n++], c, measuring, work);
}

/* Rows of A as they are. */
static void read_a(const job *j, const part *p) {
    const ot_weight *a = &p->call->w[0];
    if (p->a_copy) {
        memset(p->a_copy, 0, (size_t)(p->a.r * p->a.ld) * sizeof(float));
        for (int64_t k = 0; k < a->rows; k++) ot_cpu_decode_part(j->table, a, k, 0, a->cols, (ot_span){p->a_copy + k * p->a.ld, OT_F32});
    }
    if (p->a.tiles && !p->kept) j->table->thin_prepare(&p->a);
}

/* Rows of B as columns. */
static void read_b(const job *j, const part *p) {
    const ot_weight *b = &p->call->w[1];
    if (!p->kept) memset(p->turned, 0, (size_t)(p->b.r * p->b.ld) * sizeof(float));
    for (int64_t row = 0; !p->kept && row < b->rows; row += STRIP) {
        float piece[STRIP * MOST];
        int64_t rows = b->rows - row < STRIP ? b->rows - row : STRIP;
        ot_span from = ot_span_at((ot_span){(void *)(uintptr_t)b->w, b->dtype}, row * b->cols);
        j->table->copy(from, (ot_span){piece, OT_F32}, rows * b->cols, false);
        j->table->turn(piece, b->cols, rows, b->cols, p->turned + row, p->b.ld);
    }
    if (p->b.tiles && j->backward) j->table->thin_prepare(&p->b);
}

static void read_weight(void *context, int64_t chunk) {
    const job *j = context;
    if (chunk % 2 == 0) read_a(j, &j->parts[chunk / 2]);
    else read_b(j, &j->parts[chunk / 2]);
}

static void begin(job *j) {
    bool any = false;
    for (int i = 0; i < j->n; i++) {
        part *p = &j->parts[i];
        const ot_op_attr *attr = p->call->attr;
        if (p->bits) p->mask = ot_cpu_dropout_mask(p->call->batch, attr->low_rank.p, attr->low_rank.site);
        p->a.factor = p->mask.factor;
        any = any || !p->kept || p->a_copy || p->b.tiles;
    }
    if (any) ot_parallel_for(2L * j->n, read_weight, j);
}

static uint32_t *bits_of(const part *p, int64_t first) { return p->bits ? p->bits + first * OT_THIN_WORDS(p->a.n) : NULL; }

static ot_ahead ahead_of(ot_span x, int64_t n) { return (ot_ahead){x.x, n * ot_compute_bytes(x.dtype)}; }

/* z of some rows, and their mask. */
static void go_down(const job *j, const part *p, int64_t first, int64_t rows, ot_ahead ahead) {
    uint32_t *bits = bits_of(p, first);
    float *z = p->z + first * p->a.r;
    int64_t words = OT_THIN_WORDS(p->a.n);
    for (int64_t row = 0; bits && row < rows; row++) j->table->dropout_bits(bits + row * words, words, &p->mask, (first + row) * p->a.n);
    j->table->thin_in(&p->a, ot_span_at(ot_span_x(&p->call->in[0]), first * p->a.n), bits, z, rows, ahead);
    for (int64_t i = 0; i < rows * p->a.r; i++) z[i] *= p->call->attr->low_rank.scale;
}

static int64_t rows_of(const job *j, int64_t strip) { return j->rows - strip * STRIP < STRIP ? j->rows - strip * STRIP : STRIP; }

static void forward_strip(void *context, int64_t strip) {
    const job *j = context;
    int64_t first = strip * STRIP, rows = rows_of(j, strip);
    for (int i = 0; i < j->n; i++) {
        const part *p = &j->parts[i];
        ot_span y = ot_span_at(ot_span_x(&p->call->out), first * p->b.n);
        go_down(j, p, first, rows, ahead_of(y, rows * p->b.n));
        j->table->thin_out(&p->b, p->z + first * p->a.r, y, NULL, rows, true);
    }
}

static void backward_part(const job *j, const part *p, int64_t strip) {
    const ot_view *in = &p->call->in[0];
    int64_t first = strip * STRIP, rows = rows_of(j, strip);
    ot_span x = ot_span_at(ot_span_x(in), first * p->a.n), dy = ot_span_at(ot_span_dx(&p->call->out), first * p->b.n);
    const uint32_t *mask = bits_of(p, first);
    float dz[STRIP * MOST];
    j->table->thin_in(&p->b, dy, NULL, dz, rows, p->da ? ahead_of(x, rows * p->a.n) : (ot_ahead){0});
    for (int64_t i = 0; i < rows * p->a.r; i++) dz[i] *= p->call->attr->low_rank.scale;
    if (!p->kept && (p->db || p->bits)) go_down(j, p, first, rows, (ot_ahead){0});
    if (p->db) j->table->thin_grad(&p->b, p->z + first * p->a.r, dy, NULL, rows, p->db + strip * p->b.r * p->b.ld);
    if (p->da) j->table->thin_grad(&p->a, dz, x, mask, rows, p->da + strip * p->a.r * p->a.ld);
    if (in->dx) j->table->thin_out(&p->a, dz, ot_span_at(ot_span_dx(in), first * p->a.n), mask, rows, in->add_dx);
}

static void backward_strip(void *context, int64_t strip) {
    const job *j = context;
    for (int i = 0; i < j->n; i++) backward_part(j, &j->parts[i], strip);
}

/* ==== Sums over the strips, of some columns at a time ==== */

enum { COLUMNS = 256 };

/* sum [0 .. n) += row k of all strips' partials [strips][r, ld] from column col on. */
static void sum_strips(const job *j, const float *partials, const ot_thin *t, int64_t k, int64_t col, int64_t n, float *sum) {
    ot_span first = {(void *)(uintptr_t)(partials + k * t->ld + col), OT_F32};
    j->table->column_sum(first, t->r * t->ld, j->strips, n, sum);
}

static void add_da(const job *j, const part *p, int64_t col, int64_t n) {
    const ot_weight *a = &p->call->w[0];
    for (int64_t k = 0; k < a->rows; k++) sum_strips(j, p->da, &p->a, k, col, n, (float *)a->dw + k * a->cols + col);
}

static void add_db(const job *j, const part *p, int64_t first, int64_t n) {
    const ot_weight *b = &p->call->w[1];
    float sum[MOST][COLUMNS] = {0}, piece[COLUMNS * MOST];
    for (int64_t k = 0; k < b->cols; k++) sum_strips(j, p->db, &p->b, k, first, n, sum[k]);
    j->table->turn(sum[0], COLUMNS, b->cols, n, piece, b->cols);
    j->table->copy((ot_span){piece, OT_F32}, (ot_span){(float *)b->dw + first * b->cols, OT_F32}, n * b->cols, true);
}

static int64_t columns_of(int64_t all, int64_t col) { return all - col < COLUMNS ? all - col : COLUMNS; }

/* The same columns of all calls, one after another: two calls may have the same matrices. */
static void add_gradients(void *context, int64_t chunk) {
    const job *j = context;
    int64_t col = chunk / 2 * COLUMNS;
    for (int i = 0; i < j->n; i++) {
        const part *p = &j->parts[i];
        if (chunk % 2 == 0 && p->da && col < p->a.n) add_da(j, p, col, columns_of(p->a.n, col));
        if (chunk % 2 == 1 && p->db && col < p->b.n) add_db(j, p, col, columns_of(p->b.n, col));
    }
}

static void run_backward(job *j) {
    int64_t most = 0;
    for (int i = 0; i < j->n; i++) {
        const part *p = &j->parts[i];
        int64_t n = p->a.n > p->b.n ? p->a.n : p->b.n;
        if (p->da || p->db) most = n > most ? n : most;
    }
    ot_parallel_for(j->strips, backward_strip, j);
    ot_parallel_for(2 * ot_chunks(most, COLUMNS), add_gradients, j);
}

/* ==== Two LINEARs ==== */

/* Their calls, with the dropped input and the value between in scratch. */
typedef struct pair {
    ot_op_attr dropout, first, second;
    ot_call drop, a, b;
} pair;

/* While only measuring, any other address than NULL stands for what is wanted. */
static void *take_marked(ot_cpu_work *work, int64_t bytes) {
    void *p = ot_cpu_take(work, bytes);
    return p != NULL ? p : (void *)(uintptr_t)OT_ALIGN;
}

static void lay_pair(pair *p, const ot_call *c, ot_cpu_work *work) {
    const ot_view *in = &c->in[0];
    bool drops = c->attr->low_rank.p > 0, wanted = in->dx || c->w[0].dw || c->w[1].dw;
    int64_t size = ot_compute_bytes(in->dtype);
    *p = (pair){.dropout = {.dropout = {.p = c->attr->low_rank.p, .site = c->attr->low_rank.site}},
                .first = {.linear = {.scale = 1.0F}},
                .second = {.linear = {.scale = c->attr->low_rank.scale, .add_out = true}}};
    ot_view x = *in, z = {.dtype = in->dtype, .rows = in->rows, .cols = c->w[0].rows};
    z.x = take_marked(work, z.rows * z.cols * size);
    if (wanted) z.dx = take_marked(work, z.rows * z.cols * size);
    if (drops) {
        x.add_dx = false;
        x.x = take_marked(work, x.rows * x.cols * size);
        if (in->dx) x.dx = take_marked(work, x.rows * x.cols * size);
    }
    p->drop = (ot_call){.kind = OT_OP_DROPOUT, .attr = &p->dropout, .in = {*in}, .out = x, .batch = c->batch, .err = c->err};
    p->a = (ot_call){.kind = OT_OP_LINEAR, .attr = &p->first, .in = {x}, .out = z, .w = {c->w[0]}, .batch = c->batch, .err = c->err};
    p->b = (ot_call){.kind = OT_OP_LINEAR, .attr = &p->second, .in = {z}, .out = c->out, .w = {c->w[1]}, .batch = c->batch, .err = c->err};
    if (work->base == NULL) return;
    p->a.scratch = p->b.scratch = work->base + work->bytes;
    p->a.scratch_bytes = p->b.scratch_bytes = c->scratch_bytes - (size_t)work->bytes;
}

static int64_t pair_scratch(const ot_call *call, int64_t rows) {
    ot_call c = *call;
    ot_cpu_work work = {0};
    pair p;
    c.in[0].rows = c.out.rows = rows;
    lay_pair(&p, &c, &work);
    int64_t a = ot_cpu_linear_scratch(&p.a), b = ot_cpu_linear_scratch(&p.b);
    return work.bytes + (a > b ? a : b);
}

static ot_status pair_forward(const ot_call *call) {
    pair p;
    ot_cpu_work work = {.base = call->scratch};
    lay_pair(&p, call, &work);
    OT_TRY(ot_cpu_check_work(call, &work));
    if (call->attr->low_rank.p > 0) OT_TRY(ot_cpu_dropout_forward(&p.drop));
    OT_TRY(ot_cpu_linear_forward(&p.a));
    return ot_cpu_linear_forward(&p.b);
}

static ot_status pair_backward(const ot_call *call) {
    pair p;
    ot_cpu_work work = {.base = call->scratch};
    lay_pair(&p, call, &work);
    OT_TRY(ot_cpu_check_work(call, &work));
    bool drops = call->attr->low_rank.p > 0;
    if (call->w[0].dw || call->w[1].dw) {
        if (drops) OT_TRY(ot_cpu_dropout_forward(&p.drop));
        OT_TRY(ot_cpu_linear_forward(&p.a));
    }
    OT_TRY(ot_cpu_linear_backward(&p.b));
    OT_TRY(ot_cpu_linear_backward(&p.a));
    return drops ? ot_cpu_dropout_backward(&p.drop) : OT_OK;
}

/* ==== Which ==== */

static bool all_narrow(const ot_call *call) {
    int n = 0;
    for (const ot_call *c = call; c != NULL; c = c->next, n++)
        if (!narrow(c)) return false;
    return n <= CALLS;
}

/* Besides narrow products: a batch of fewer rows than planned is done as pairs. */
int64_t ot_cpu_low_rank_scratch(const ot_call *call) {
    int64_t most = 0, rows = call->in[0].rows;
    if (all_narrow(call)) rows = OT_GEMV_ROWS;
    for (const ot_call *c = call; c != NULL; c = c->next) {
        int64_t bytes = pair_scratch(c, rows);
        most = bytes > most ? bytes : most;
    }
    for (int backward = 0; all_narrow(call) && backward < 2; backward++) {
        ot_cpu_work work = {0};
        job j;
        lay_out(&j, call, backward, true, &work);
        most = work.bytes > most ? work.bytes : most;
    }
    return most;
}

ot_status ot_cpu_low_rank_forward(const ot_call *call) {
    if (!all_narrow(call)) {
        for (; call != NULL; call = call->next) OT_TRY(pair_forward(call));
        return OT_OK;
    }
    ot_cpu_work work = {.base = call->scratch};
    job j;
    lay_out(&j, call, false, false, &work);
    OT_TRY(ot_cpu_check_work(call, &work));
    begin(&j);
    ot_parallel_for(j.strips, forward_strip, &j);
    return OT_OK;
}

ot_status ot_cpu_low_rank_backward(const ot_call *call) {
    if (!all_narrow(call)) {
        for (; call != NULL; call = call->next) OT_TRY(pair_backward(call));
        return OT_OK;
    }
    ot_cpu_work work = {.base = call->scratch};
    job j;
    lay_out(&j, call, true, false, &work);
    OT_TRY(ot_cpu_check_work(call, &work));
    begin(&j);
    run_backward(&j);
    return OT_OK;
}
