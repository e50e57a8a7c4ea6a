/* Who multiplies: with AVX-512 the loops of gemm_impl.h where the caller has memory for packed operands, else oneDNN (bf16, and f32 at up
 * to twice the speed of an OpenBLAS that does not know the CPU); elsewhere OpenBLAS. */
#include "engine/cpu/gemm.h"

#include <cblas.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/parallel.h"
#include "engine/cpu/kernels.h"

bool ot_gemm_bf16(void) { return ot_cpu_pick()->bf16_dot && ot_dnnl_has_bf16(); }

static bool use_dnnl(const ot_gemm *g) {
    if (g->type == OT_BF16) return true;
#if defined(__x86_64__)
    const ot_cpu_kernels *table = ot_cpu_pick();
    return table != &ot_cpu_kernels_generic && table != &ot_cpu_kernels_avx2 && ot_dnnl_has_avx512();
#else
    return false;
#endif
}

static int64_t ceiling(int64_t n, int64_t each) { return (n + each - 1) / each; }

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* ==== Libraries: bias and scale are done here where they cannot ==== */

enum { ROWS_PER_CHUNK = 16 };

/* C = bias (or 0), or C += bias: what is left to the product is then to add to C. */
static void start_rows(void *context, int64_t chunk) {
    const ot_gemm *g = context;
    const ot_cpu_kernels *table = ot_cpu_pick();
    for (int64_t i = chunk * ROWS_PER_CHUNK; i < g->m && i < (chunk + 1) * ROWS_PER_CHUNK; i++) {
        ot_span row = ot_span_at((ot_span){g->c, g->c_type}, i * g->ldc);
        if (g->bias) table->copy((ot_span){(void *)(uintptr_t)g->bias, OT_F32}, row, g->n, g->accumulate);
        else if (!g->accumulate) memset(row.x, 0, (size_t)g->n * (g->c_type == OT_F32 ? sizeof(float) : sizeof(ot_bf16)));
    }
}

static ot_status openblas(const ot_gemm *g, ot_error *err) {
    if (g->m > INT_MAX || g->n > INT_MAX || g->k > INT_MAX || g->lda > INT_MAX || g->ldb > INT_MAX || g->ldc > INT_MAX)
        return ot_fail(err, OT_ERR_UNSUPPORTED, "matrix product %lld x %lld x %lld is too large for the BLAS library",
                       (long long)g->m, (long long)g->n, (long long)g->k);
    cblas_sgemm(CblasRowMajor, g->ta ? CblasTrans : CblasNoTrans, g->tb ? CblasTrans : CblasNoTrans, (int)g->m, (int)g->n, (int)g->k,
                g->alpha, g->a, (int)g->lda, g->b, (int)g->ldb, g->accumulate ? 1.0f : 0.0f, g->c, (int)g->ldc);
    return OT_OK;
}

/* ==== Pieces of C, each multiplied by one thread ==== */

/* oneDNN has another way to multiply floats, of 1.06 to 2.1 times the speed where B lies as [k, n] (docs/performance.md). Its own threads would cut the depth
 * where there are many of them, so that sums depended on their number: C is cut here. */
enum { PIECE_ROWS = 16, PIECE_COLUMNS = 96 };

static bool in_pieces(const ot_gemm *g) {
    return g->type == OT_F32 && !g->ta && !g->tb && g->m >= PIECE_ROWS && g->n >= 2 * PIECE_COLUMNS;
}

typedef struct pieces_run {
    const ot_gemm *g;
    int64_t rows, columns; /* how many pieces */
    int *status;           /* of each */
} pieces_run;

/* Where piece i of n begins. */
static int64_t piece_at(int64_t size, int64_t i, int64_t n, int64_t unit) { return i == n ? size : size * i / n / unit * unit; }

static void multiply_piece(void *context, int64_t i) {
    const pieces_run *p = context;
    int64_t row = i / p->columns, column = i % p->columns;
    ot_gemm g = *p->g;
    int64_t m = piece_at(g.m, row, p->rows, 1), n = piece_at(g.n, column, p->columns, 16);
    g.a = (const float *)g.a + m * g.lda;
    g.b = (const float *)g.b + n;
    g.c = (float *)g.c + m * g.ldc + n;
    g.m = piece_at(g.m, row + 1, p->rows, 1) - m;
    g.n = piece_at(g.n, column + 1, p->columns, 16) - n;
    p->status[i] = ot_dnnl_sgemm(&g);
}

enum { MOST_PIECES = 64 };

/* One for each thread, as narrow as pays. */
static ot_status pieces(const ot_gemm *g, ot_error *err) {
    int status[MOST_PIECES];
    int64_t threads = least(ot_threads(), MOST_PIECES);
    pieces_run run = {.g = g, .columns = 1, .status = status};
    for (int64_t n = 2; n <= threads && g->n / n >= PIECE_COLUMNS; n++)
        if (threads % n == 0) run.columns = n;
    run.rows = least(threads / run.columns, g->m);
    ot_parallel_for(run.rows * run.columns, multiply_piece, &run);
    for (int64_t i = 0; i < run.rows * run.columns; i++)
        if (status[i] != 0) return ot_dnnl_failed(g, status[i], err);
    return OT_OK;
}

/* ==== Own loops ==== */

static const ot_gemm_kernels *own_kernels(ot_dtype type) {
    const ot_cpu_kernels *table = ot_cpu_pick();
    const ot_gemm_kernels *own = type == OT_BF16 ? &table->gemm_bf16 : &table->gemm_f32;
    return own->multiply ? own : NULL;
}

bool ot_gemm_own(ot_dtype type) { return own_kernels(type) != NULL; }

/* Panels of B are packed and multiplied by up to TOGETHER at a time. A chunk of work does one or several such batches in the same room; there is room for
 * ROOM_BYTES or FEW panels in all, whichever is more, but for no more than B's or FEW. */
enum { TOGETHER = 4, FEW = 16, ROOM_BYTES = 4 << 20, PIECES = 4 };

typedef struct own_run {
    const ot_gemm_kernels *own;
    ot_gemm_job job;
    int64_t a_panels, b_panels;
    int64_t a_bytes, b_bytes, rooms; /* of job.a; of a panel of B; how many of those there is room for */
    int64_t together, batches, chunks; /* panels of a batch, how many there are, of how many chunks */
    int64_t parts;                     /* of rows: each makes another chunk */
    char *room;
} own_run;

static void lay_out_own(own_run *r, bool ta, int64_t m, int64_t n, int64_t k, int64_t side, ot_dtype type) {
    bool half = type == OT_BF16;
    *r = (own_run){.a_panels = ceiling(m, OT_GEMM_ROWS), .b_panels = ceiling(n, OT_GEMM_COLUMNS)};
    ot_gemm_job *j = &r->job;
    j->side = half ? (3 * side + 1) / 2 : side;
    j->whole = half ? (k + 1) / 2 : k;
    if (!ta && m < OT_GEMM_ROWS) j->whole = 0;
    else if (!ta && half) j->whole = k / 2;
    j->rest = (half ? (k + 1) / 2 : k) - j->whole;
    int64_t units = j->side + j->whole + j->rest;
    if (ta) r->a_bytes = r->a_panels * OT_GEMM_ROWS * units * 4;
    else if (half || j->whole == 0) r->a_bytes = (m < OT_GEMM_ROWS ? OT_GEMM_ROWS : m) * (j->side + j->rest) * 4;
    r->a_bytes = ceiling(r->a_bytes, 64) * 64;
    r->b_bytes = ceiling(units * OT_GEMM_COLUMNS * 4, 64) * 64;
    int64_t most = r->b_panels > FEW ? r->b_panels : FEW;
    r->rooms = least(most, ROOM_BYTES / r->b_bytes > FEW ? ROOM_BYTES / r->b_bytes : FEW);
}

/* No batch of fewer rows needs more: neither as A, nor as the depth, which is why room is not counted in whole panels. */
static int64_t own_work(bool ta, int64_t m, int64_t n, int64_t k, int64_t side, ot_dtype type) {
    own_run most, few;
    lay_out_own(&most, ta, m, n, k, side, type);
    lay_out_own(&few, ta, 1, n, k, side, type);
    int64_t all = (most.b_panels > FEW ? most.b_panels : FEW) * most.b_bytes, bound = FEW * most.b_bytes > ROOM_BYTES ? FEW * most.b_bytes : ROOM_BYTES;
    return (most.a_bytes > few.a_bytes ? most.a_bytes : few.a_bytes) + least(all, bound);
}

enum { PACKED_TOGETHER = 4 }; /* panels of A */

static void pack_chunk(void *context, int64_t chunk) {
    const own_run *r = context;
    r->own->pack_a(&r->job, chunk * PACKED_TOGETHER, least(PACKED_TOGETHER, r->a_panels - chunk * PACKED_TOGETHER));
}

static void multiply_chunk(void *context, int64_t i) {
    const own_run *r = context;
    int64_t part = i % r->parts, chunk = i / r->parts, end = (chunk + 1) * r->batches / r->chunks;
    uint32_t *room = (uint32_t *)(void *)(r->room + i * r->together * r->b_bytes);
    for (int64_t batch = chunk * r->batches / r->chunks; batch < end; batch++)
        r->own->multiply(&r->job, part * r->a_panels / r->parts, (part + 1) * r->a_panels / r->parts, batch * r->together,
                         least(r->b_panels, (batch + 1) * r->together), room);
}

/* So that the thread with most work has as little as can be; of equals, the largest batches. */
static void cut_own(own_run *r) {
    int64_t threads = ot_threads(), least_work = INT64_MAX;
    r->parts = 1;
    for (int64_t together = TOGETHER; together >= 1; together--) {
        int64_t batches = ceiling(r->b_panels, together), most = least(batches, r->rooms / together);
        for (int64_t i = PIECES; i >= 0; i--) {
            int64_t chunks = i == 0 ? most : i * threads, work = chunks > most ? INT64_MAX : ceiling(chunks, threads) * ceiling(batches, chunks) * together;
            if (work >= least_work) continue;
            least_work = work;
            r->together = together;
            r->batches = batches;
            r->chunks = chunks;
        }
    }
    if (r->chunks >= threads) return;
    r->parts = least(least(r->a_panels, r->rooms / (r->chunks * r->together)), ceiling(2 * threads, r->chunks));
}

static void own_gemm(const ot_gemm_kernels *own, const ot_gemm *g) {
    own_run r;
    lay_out_own(&r, g->ta, g->m, g->n, g->k, g->side.r, g->type);
    cut_own(&r);
    r.own = own;
    r.job.g = g;
    r.job.a = r.a_bytes > 0 ? g->work : NULL;
    r.room = (char *)g->work + r.a_bytes;
    if (r.job.a) ot_parallel_for(ceiling(r.a_panels, PACKED_TOGETHER), pack_chunk, &r);
    ot_parallel_for(r.chunks * r.parts, multiply_chunk, &r);
}

/* ==== Own tiles ==== */

/* As with own loops; each piece has room for two panels, one that is multiplied and one that is packed meanwhile. */
enum { TILES_PART = 512 /* rows of one, if there is room for as many */, TILES_PIECES = 2 /* for each thread: the first panel of each is packed by itself */ };

static const ot_tiles_kernels *own_tiles(ot_dtype type) {
    const ot_cpu_kernels *table = ot_cpu_pick();
    return type == OT_BF16 && table->gemm_tiles.multiply ? &table->gemm_tiles : NULL;
}

bool ot_gemm_tiles(ot_dtype type) { return own_tiles(type) != NULL; }

typedef struct tiles_run {
    const ot_tiles_kernels *own;
    ot_tiles_job job;
    int64_t panels, groups, parts, part; /* C is cut into groups of panels, by parts of so many rows */
    int64_t rows, left_bytes;            /* of left */
    int64_t room_bytes, rooms;           /* of two panels; how many of those there are */
    char *room;
} tiles_run;

static void lay_out_tiles(tiles_run *t, int64_t m, int64_t n, int64_t k, int64_t r) {
    *t = (tiles_run){.panels = ceiling(n, OT_GEMM_COLUMNS), .rows = m < OT_TILES_ROWS ? OT_TILES_ROWS : m};
    t->job.whole = m < OT_TILES_ROWS ? 0 : k / OT_TILES_STEP;
    t->job.rest = ceiling(k, OT_TILES_STEP) - t->job.whole;
    t->job.side = ceiling(3 * r, OT_TILES_STEP);
    t->left_bytes = t->rows * (t->job.rest + t->job.side) * OT_TILES_STEP * (int64_t)sizeof(ot_bf16);
    t->room_bytes = (t->job.whole + t->job.rest + t->job.side) * OT_TILES_STEP * OT_GEMM_COLUMNS * (int64_t)sizeof(uint32_t);
    int64_t most = ROOM_BYTES / t->room_bytes;
    t->rooms = least(t->panels * ceiling(m, TILES_PART), most > FEW / 2 ? most : FEW / 2);
}

static int64_t tiles_work(int64_t m, int64_t n, int64_t k, int64_t r) {
    tiles_run most, few; /* a batch may have fewer rows than planned */
    lay_out_tiles(&most, m, n, k, r);
    lay_out_tiles(&few, 1, n, k, r);
    return (most.left_bytes > few.left_bytes ? most.left_bytes : few.left_bytes) + most.rooms * most.room_bytes;
}

static void pack_left(void *context, int64_t chunk) {
    const tiles_run *t = context;
    int64_t first = chunk * ROWS_PER_CHUNK;
    t->own->pack_left(&t->job, first, least(ROWS_PER_CHUNK, t->rows - first));
}

static void multiply_tiles(void *context, int64_t chunk) {
    const tiles_run *t = context;
    int64_t group = chunk % t->groups, first = chunk / t->groups * t->part;
    t->own->multiply(&t->job, group * t->panels / t->groups, (group + 1) * t->panels / t->groups, first, least(first + t->part, t->job.g->m),
                     (uint32_t *)(void *)(t->room + chunk * t->room_bytes));
}

static void tiles_gemm(const ot_tiles_kernels *own, const ot_gemm *g) {
    tiles_run t;
    lay_out_tiles(&t, g->m, g->n, g->k, g->side.r);
    t.own = own;
    t.job.g = g;
    t.job.left = g->work;
    t.room = (char *)g->work + t.left_bytes;
    t.groups = least(least(t.panels, t.rooms), (int64_t)TILES_PIECES * ot_threads());
    t.parts = least(ceiling(g->m, TILES_PART), t.rooms / t.groups);
    t.part = ceiling(ceiling(g->m, t.parts), OT_TILES_ROWS) * OT_TILES_ROWS;
    t.parts = ceiling(g->m, t.part);
    if (t.left_bytes > 0) ot_parallel_for(ceiling(t.rows, ROWS_PER_CHUNK), pack_left, &t);
    ot_parallel_for(t.groups * t.parts, multiply_tiles, &t);
}

/* ==== The product ==== */

int64_t ot_gemm_work(bool ta, int64_t m, int64_t n, int64_t k, int64_t r, ot_dtype type) {
    if (!ta && own_tiles(type)) return tiles_work(m, n, k, r);
    return own_kernels(type) ? own_work(ta, m, n, k, r, type) : 0;
}

ot_status ot_gemm_run(const ot_gemm *g, ot_error *err) {
    if (g->m == 0 || g->n == 0) return OT_OK;
    const ot_gemm_kernels *own = g->work ? own_kernels(g->type) : NULL;
    const ot_tiles_kernels *tiles = g->work && !g->ta ? own_tiles(g->type) : NULL;
    if (g->side.r > 0 && ((!own && !tiles) || g->ta || g->alpha != 1.0f || g->side.r > OT_GEMM_SIDE))
        return ot_fail(err, OT_ERR_USAGE, "a matrix product with a side of depth %lld needs memory for packed operands, rows of A, a scale of 1 and no more than %d",
                       (long long)g->side.r, OT_GEMM_SIDE);
    if (tiles) tiles_gemm(tiles, g);
    else if (own) own_gemm(own, g);
    if (tiles || own) return OT_OK;
    bool dnnl = use_dnnl(g);
    bool cut = dnnl && in_pieces(g);
    ot_gemm rest = *g;
    /* oneDNN would scale the bias too */
    if (g->k == 0 || (g->bias && (!dnnl || cut || g->alpha != 1.0f))) {
        ot_parallel_for((g->m + ROWS_PER_CHUNK - 1) / ROWS_PER_CHUNK, start_rows, &rest);
        rest.bias = NULL;
        rest.accumulate = true;
    }
    if (g->k == 0) return OT_OK;
    if (cut) return pieces(&rest, err);
    return dnnl ? ot_dnnl_gemm(&rest, err) : openblas(&rest, err);
}

void ot_gemm_libraries(char *text, size_t size) {
    char onednn[32];
    ot_gemm_onednn_version(onednn, sizeof onednn);
    snprintf(text, size, "%s, oneDNN %s", openblas_get_config(), onednn);
}
