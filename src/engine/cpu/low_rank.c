/* CPU backend: LOW_RANK, out [R, N] += scale * dropout(x [R, M]) . A^T . B^T; A [r, M], B [N, r].
 *
 * With a small r it costs memory traffic, not arithmetic. Best is beside a LINEAR whose product can take another of little depth along: then z = scale *
 * dropout(x) . A^T is computed here and joins y = [x | z] . [W | B]^T, and backward dz = scale * dy . B joins dx = [dy | dz] . [W ; A], so that outputs and
 * gradients of inputs are touched only once. Else a few rows at a time (a strip, where tiles want many) go through both products, of all the calls that read
 * the same x, so that x, outputs and their gradients come from memory once. Masks are drawn on the way, and what lies between A and B is computed again in
 * backward. Gradients of the matrices are summed over fixed strips of rows, so that they do not depend on the number of threads. With a larger r, or few
 * rows, it is two LINEARs. */
#include <string.h>

#include "base/mem.h"
#include "engine/cpu/linear.h"

enum { MOST = 16, STRIP = 64, FEW = 4, CALLS = OT_OP_TOGETHER };

/* ==== Narrow products ==== */

/* One call. */
typedef struct part {
    const ot_call *call;
    ot_thin a, b;             /* A [r, M]; B turned, [r, N] */
    float *a_copy, *b_copy;   /* what they point to */
    float *da, *db;           /* [strips][r, ld], NULL: not wanted */
    ot_dropout_mask mask;
    uint32_t *bits;           /* [strips][piece][words of x's row], NULL: no dropout; beside a LINEAR, backward [rows] of them */
    float *beside;            /* z, backward dz, [rows, r] for a LINEAR's product, NULL: nothing beside */
} part;

typedef struct job {
    const ot_cpu_kernels *table;
    part parts[CALLS];
    int n;
    int64_t rows, strips, piece; /* rows at a time: a strip where there are tiles, else so few that all is in the first cache */
} job;

static bool plain(const ot_weight *w) { return w->dtype == OT_F32 || w->dtype == OT_BF16; }

static bool narrow(const ot_call *c) {
    return plain(&c->w[0]) && plain(&c->w[1]) && c->w[0].rows <= MOST && c->in[0].rows > OT_GEMV_ROWS;
}

static int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

static float *take(ot_cpu_work *work, int64_t floats) { return ot_cpu_take(work, floats * (int64_t)sizeof(float)); }

static void lay_out(job *j, const ot_call *call, bool backward, bool beside, ot_cpu_work *work) {
    *j = (job){.table = ot_cpu_pick(), .rows = call->in[0].rows, .strips = ot_chunks(call->in[0].rows, STRIP)};
    j->piece = FEW;
    for (const ot_call *c = call; c != NULL && j->n < CALLS; c = c->next) {
        part *p = &j->parts[j->n++];
        int64_t r = up(c->w[0].rows, 4), m = c->in[0].cols, n = c->out.cols;
        p->call = c;
        p->a = (ot_thin){.r = r, .n = m, .ld = up(m, 16)};
        p->b = (ot_thin){.r = r, .n = n, .ld = up(n, 16)};
        p->a.w = p->a_copy = take(work, r * p->a.ld);
        p->b.w = p->b_copy = take(work, r * p->b.ld);
        bool in = j->table->thin_prepare && c->in[0].dtype == OT_BF16, out = j->table->thin_prepare && c->out.dtype == OT_BF16;
        if (in) p->a.tiles = ot_cpu_take(work, OT_THIN_TILES(m));
        if (out) p->b.tiles = ot_cpu_take(work, OT_THIN_TILES(n));
        if (in || out) j->piece = STRIP;
    }
    for (int i = 0; i < j->n; i++) {
        part *p = &j->parts[i];
        const ot_call *c = p->call;
        int64_t r = p->a.r, words = OT_THIN_WORDS(p->a.n);
        if (backward && c->w[0].dw) p->da = take(work, j->strips * r * p->a.ld);
        if (backward && c->w[1].dw) p->db = take(work, j->strips * r * p->b.ld);
        if (c->attr->low_rank.p > 0) p->bits = ot_cpu_take(work, (beside && backward ? j->rows : j->strips * j->piece) * words * (int64_t)sizeof *p->bits);
        if (beside) p->beside = take(work, j->rows * r);
    }
}

/* Rows of A as they are. */
static void read_a(const job *j, const part *p) {
    const ot_weight *a = &p->call->w[0];
    memset(p->a_copy, 0, (size_t)(p->a.r * p->a.ld) * sizeof(float));
    for (int64_t k = 0; k < a->rows; k++) ot_cpu_decode_part(j->table, a, k, 0, a->cols, (ot_span){p->a_copy + k * p->a.ld, OT_F32});
    if (p->a.tiles) j->table->thin_prepare(&p->a);
}

/* Rows of B as columns. */
static void read_b(const job *j, const part *p) {
    const ot_weight *b = &p->call->w[1];
    memset(p->b_copy, 0, (size_t)(p->b.r * p->b.ld) * sizeof(float));
    for (int64_t row = 0; row < b->rows; row += STRIP) {
        float piece[STRIP * MOST];
        int64_t rows = b->rows - row < STRIP ? b->rows - row : STRIP;
        ot_span from = ot_span_at((ot_span){(void *)(uintptr_t)b->w, b->dtype}, row * b->cols);
        j->table->copy(from, (ot_span){piece, OT_F32}, rows * b->cols, false);
        j->table->turn(piece, b->cols, rows, b->cols, p->b_copy + row, p->b.ld);
    }
    if (p->b.tiles) j->table->thin_prepare(&p->b);
}

static void read_weight(void *context, int64_t chunk) {
    const job *j = context;
    if (chunk % 2 == 0) read_a(j, &j->parts[chunk / 2]);
    else read_b(j, &j->parts[chunk / 2]);
}

static void begin(job *j) {
    for (int i = 0; i < j->n; i++) {
        part *p = &j->parts[i];
        const ot_op_attr *attr = p->call->attr;
        if (p->bits) p->mask = ot_cpu_dropout_mask(p->call->batch, attr->low_rank.p, attr->low_rank.site);
        p->a.factor = p->mask.factor;
    }
    ot_parallel_for(2L * j->n, read_weight, j);
}

/* The mask of some rows, NULL: none. */
static const uint32_t *draw(const job *j, const part *p, int64_t strip, int64_t first, int64_t rows, bool backward) {
    if (!p->bits) return NULL;
    int64_t words = OT_THIN_WORDS(p->a.n);
    uint32_t *bits = p->bits + (p->beside && backward ? first : strip * j->piece) * words;
    for (int64_t row = 0; row < rows; row++) j->table->dropout_bits(bits + row * words, words, &p->mask, (first + row) * p->a.n);
    return bits;
}

static void scale(const part *p, float *z, int64_t rows) {
    for (int64_t i = 0; i < rows * p->a.r; i++) z[i] *= p->call->attr->low_rank.scale;
}

static void forward_strip(void *context, int64_t strip) {
    const job *j = context;
    int64_t end = j->rows < (strip + 1) * STRIP ? j->rows : (strip + 1) * STRIP;
    for (int64_t first = strip * STRIP; first < end; first += j->piece) {
        int64_t rows = end - first < j->piece ? end - first : j->piece;
        for (int i = 0; i < j->n; i++) {
            const part *p = &j->parts[i];
            float room[STRIP * MOST], *z = p->beside ? p->beside + first * p->a.r : room;
            j->table->thin_in(&p->a, ot_span_at(ot_span_x(&p->call->in[0]), first * p->a.n), draw(j, p, strip, first, rows, false), z, rows);
            scale(p, z, rows);
            if (!p->beside) j->table->thin_out(&p->b, z, ot_span_at(ot_span_x(&p->call->out), first * p->b.n), NULL, rows, true);
        }
    }
}

static void backward_rows(const job *j, const part *p, int64_t strip, int64_t first, int64_t rows) {
    const ot_view *in = &p->call->in[0];
    ot_span x = ot_span_at(ot_span_x(in), first * p->a.n), dy = ot_span_at(ot_span_dx(&p->call->out), first * p->b.n);
    const uint32_t *mask = draw(j, p, strip, first, rows, true);
    float z[STRIP * MOST], room[STRIP * MOST], *dz = p->beside ? p->beside + first * p->a.r : room;
    if (p->db) {
        j->table->thin_in(&p->a, x, mask, z, rows);
        scale(p, z, rows);
        j->table->thin_grad(&p->b, z, dy, NULL, rows, p->db + strip * p->b.r * p->b.ld);
    }
    j->table->thin_in(&p->b, dy, NULL, dz, rows);
    scale(p, dz, rows);
    if (p->da) j->table->thin_grad(&p->a, dz, x, mask, rows, p->da + strip * p->a.r * p->a.ld);
    if (in->dx && !p->beside) j->table->thin_out(&p->a, dz, ot_span_at(ot_span_dx(in), first * p->a.n), mask, rows, in->add_dx);
}

static void backward_strip(void *context, int64_t strip) {
    const job *j = context;
    int64_t end = j->rows < (strip + 1) * STRIP ? j->rows : (strip + 1) * STRIP;
    for (int i = 0; i < j->n; i++) {
        const part *p = &j->parts[i];
        if (p->da) memset(p->da + strip * p->a.r * p->a.ld, 0, (size_t)(p->a.r * p->a.ld) * sizeof(float));
        if (p->db) memset(p->db + strip * p->b.r * p->b.ld, 0, (size_t)(p->b.r * p->b.ld) * sizeof(float));
    }
    for (int64_t first = strip * STRIP; first < end; first += j->piece) {
        int64_t rows = end - first < j->piece ? end - first : j->piece;
        for (int i = 0; i < j->n; i++) backward_rows(j, &j->parts[i], strip, first, rows);
    }
}

/* partials[0] = the sum of all strips, in their order. */
static void sum_strips(const job *j, float *partials, int64_t size) {
    for (int64_t s = 1; s < j->strips; s++) j->table->copy((ot_span){partials + s * size, OT_F32}, (ot_span){partials, OT_F32}, size, true);
}

static void add_da(const job *j, const part *p) {
    const ot_weight *a = &p->call->w[0];
    sum_strips(j, p->da, p->a.r * p->a.ld);
    for (int64_t k = 0; k < a->rows; k++)
        j->table->copy((ot_span){p->da + k * p->a.ld, OT_F32}, (ot_span){(float *)a->dw + k * a->cols, OT_F32}, a->cols, true);
}

static void add_db(const job *j, const part *p) {
    const ot_weight *b = &p->call->w[1];
    sum_strips(j, p->db, p->b.r * p->b.ld);
    for (int64_t row = 0; row < b->rows; row += STRIP) {
        float piece[STRIP * MOST];
        int64_t rows = b->rows - row < STRIP ? b->rows - row : STRIP;
        j->table->turn(p->db + row, p->b.ld, b->cols, rows, piece, b->cols);
        j->table->copy((ot_span){piece, OT_F32}, (ot_span){(float *)b->dw + row * b->cols, OT_F32}, rows * b->cols, true);
    }
}

/* All calls' dA, or dB, one after another: two calls may have the same matrices. */
static void add_gradients(void *context, int64_t chunk) {
    const job *j = context;
    for (int i = 0; i < j->n; i++) {
        if (chunk == 0 && j->parts[i].da) add_da(j, &j->parts[i]);
        if (chunk == 1 && j->parts[i].db) add_db(j, &j->parts[i]);
    }
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
        lay_out(&j, call, backward, false, &work);
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
    ot_parallel_for(j.strips, backward_strip, &j);
    ot_parallel_for(2, add_gradients, &j);
    return OT_OK;
}

/* ==== Beside a LINEAR ==== */

bool ot_cpu_beside(const ot_call *linear, const ot_call *low_rank) {
    return narrow(low_rank) && ot_cpu_linear_takes_side(linear, low_rank->w[0].rows);
}

static ot_call without_beside(const ot_call *call) {
    ot_call alone = *call;
    alone.beside = NULL;
    return alone;
}

/* Besides what one call of both takes, what they take one after the other: a batch may have fewer rows than planned. */
int64_t ot_cpu_beside_scratch(const ot_call *call) {
    ot_call alone = without_beside(call);
    int64_t linear = ot_cpu_linear_scratch(&alone), low_rank = ot_cpu_low_rank_scratch(call->beside), most = linear > low_rank ? linear : low_rank;
    for (int backward = 0; ot_cpu_beside(call, call->beside) && backward < 2; backward++) {
        ot_cpu_work work = {0};
        job j;
        lay_out(&j, call->beside, backward, true, &work);
        int64_t bytes = work.bytes + ot_cpu_linear_side_scratch(call, backward, call->beside->w[0].rows);
        most = bytes > most ? bytes : most;
    }
    return most;
}

static ot_status one_by_one(const ot_call *call, bool backward) {
    ot_call alone = without_beside(call);
    if (backward) {
        OT_TRY(ot_cpu_low_rank_backward(call->beside));
        return ot_cpu_linear_backward(&alone);
    }
    OT_TRY(ot_cpu_linear_forward(&alone));
    return ot_cpu_low_rank_forward(call->beside);
}

ot_status ot_cpu_beside_run(const ot_call *call, bool backward) {
    const ot_call *low_rank = call->beside;
    if (!ot_cpu_beside(call, low_rank)) return one_by_one(call, backward);
    ot_cpu_work work = {.base = call->scratch};
    job j;
    lay_out(&j, low_rank, backward, true, &work);
    OT_TRY(ot_cpu_check_work(call, &work));
    const part *p = &j.parts[0];
    ot_gemm_side side = {.r = low_rank->w[0].rows, .a = p->beside, .lda = p->a.r, .b = p->b_copy, .ldb = p->b.ld};
    ot_call alone = without_beside(call);
    alone.scratch = work.base + work.bytes;
    alone.scratch_bytes -= (size_t)work.bytes;
    begin(&j);
    ot_parallel_for(j.strips, backward ? backward_strip : forward_strip, &j);
    if (!backward) return ot_cpu_linear_side_forward(&alone, &side);
    ot_parallel_for(2, add_gradients, &j);
    side.b = p->a_copy;
    side.ldb = p->a.ld;
    side.mask = p->bits;
    side.factor = p->mask.factor;
    alone.in[0].add_dx = low_rank->in[0].add_dx;
    return ot_cpu_linear_side_backward(&alone, &side);
}
