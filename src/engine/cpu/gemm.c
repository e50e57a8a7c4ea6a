/* Who multiplies: with AVX-512 the loops of gemm_impl.h, A^T . B where the caller has memory for packed operands, else oneDNN (bf16, and f32 at up
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

/* oneDNN has another way to multiply floats, which is faster where B lies as [k, n] (docs/performance.md). Its own threads would cut the depth where there
 * are many of them, so that sums depended on their number: C is cut here. It takes memory of its own, about 20 MB for each thread. */
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

static void lay_out_own(own_run *r, int64_t m, int64_t n, int64_t k, ot_dtype type) {
    *r = (own_run){.a_panels = ceiling(m, OT_GEMM_ROWS), .b_panels = ceiling(n, OT_GEMM_COLUMNS)};
    r->job.units = type == OT_BF16 ? ceiling(k, 2) : k;
    r->a_bytes = ceiling(r->a_panels * OT_GEMM_ROWS * r->job.units * 4, 64) * 64;
    r->b_bytes = ceiling(r->job.units * OT_GEMM_COLUMNS * 4, 64) * 64;
    int64_t most = r->b_panels > FEW ? r->b_panels : FEW;
    r->rooms = least(most, r->b_bytes > 0 && ROOM_BYTES / r->b_bytes > FEW ? ROOM_BYTES / r->b_bytes : FEW);
}

/* A batch of fewer rows has a smaller depth, but may have room for more panels of it: room is not counted in whole panels. */
static int64_t own_work(int64_t m, int64_t n, int64_t k, ot_dtype type) {
    own_run r;
    lay_out_own(&r, m, n, k, type);
    int64_t all = (r.b_panels > FEW ? r.b_panels : FEW) * r.b_bytes, bound = FEW * r.b_bytes > ROOM_BYTES ? FEW * r.b_bytes : ROOM_BYTES;
    return r.a_bytes + least(all, bound);
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
    lay_out_own(&r, g->m, g->n, g->k, g->type);
    cut_own(&r);
    r.own = own;
    r.job.g = g;
    r.job.a = g->work;
    r.room = (char *)g->work + r.a_bytes;
    ot_parallel_for(ceiling(r.a_panels, PACKED_TOGETHER), pack_chunk, &r);
    ot_parallel_for(r.chunks * r.parts, multiply_chunk, &r);
}

/* ==== The product ==== */

int64_t ot_gemm_work(int64_t m, int64_t n, int64_t k, ot_dtype type) { return own_kernels(type) ? own_work(m, n, k, type) : 0; }

ot_status ot_gemm_run(const ot_gemm *g, ot_error *err) {
    if (g->m == 0 || g->n == 0) return OT_OK;
    const ot_gemm_kernels *own = g->work && g->ta && !g->tb ? own_kernels(g->type) : NULL;
    if (own) {
        own_gemm(own, g);
        return OT_OK;
    }
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
