/* Matrix product A^T . B of AVX-512 machines, included once for floats and once for pairs of bf16 (see unit_impl.h). No include guard on purpose.
 *
 * A, which lies as [k, m], is packed into panels [units of k][ROWS] before; B, which lies as [k, n], into panels [units][COLUMNS], some at a time, by the
 * thread that multiplies by them at once. A tile of ROWS x COLUMNS sums stays in registers over the whole depth, or 2,048 units of it, so that every element
 * of C is touched once, with scale, bias and rounding on the way. */

enum { NAME(ROWS) = OT_GEMM_ROWS, NAME(COLUMNS) = OT_GEMM_COLUMNS, NAME(VECTORS) = OT_GEMM_COLUMNS / LANES };

/* ==== Packing ==== */

/* LANES units from as many elements of one row of k (and the next). `n` of them exist. */
VEC_INLINE vf NAME(units_of)(const NAME(element) * row, const NAME(element) * next, int n) {
#if UNIT_BF16
    __mmask16 m = (__mmask16)((1U << n) - 1U);
    __m512i low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, row)), high = _mm512_setzero_si512();
    if (next) high = _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, next)), 16);
    return (vf)_mm512_or_si512(low, high);
#else
    (void)next;
    return n == LANES ? vf_load(row) : vf_load_n(row, n);
#endif
}

/* Columns of x [k][lines] become those of panels [units][width]. `panels` neighbours at once, so that a row is read in longer pieces. */
static void NAME(pack_columns)(const NAME(element) * x, int64_t stride, int64_t lines, int64_t k, int64_t width, int64_t panels, int64_t units, uint32_t *packed) {
    enum { BLOCK = 16 };
    for (int64_t u0 = 0; u0 < units; u0 += BLOCK) {
        for (int64_t p = 0; p < panels; p++) {
            for (int64_t u = u0; u < units && u < u0 + BLOCK; u++) {
                const NAME(element) *row = x + u * NAME(UNITS) * stride + p * width;
                const NAME(element) *next = u * NAME(UNITS) + NAME(UNITS) - 1 < k ? row + (NAME(UNITS) - 1) * stride : NULL;
                uint32_t *to = packed + (p * units + u) * width;
                for (int64_t l = 0; l < width; l += LANES) {
                    int64_t left = lines - p * width - l, room = width - l;
                    int n = left < LANES ? (left < 0 ? 0 : (int)left) : LANES, m = room < LANES ? (int)room : LANES;
                    if (n > m) n = m;
                    vf v = NAME(units_of)(row + l, next ? next + l : NULL, n);
                    if (m == LANES) vf_store((float *)(void *)(to + l), v);
                    else vf_store_n((float *)(void *)(to + l), v, m);
                }
            }
        }
    }
}

static void NAME(pack_a)(const ot_gemm_job *j, int64_t first, int64_t panels) {
    const ot_gemm *g = j->g;
    int64_t line = first * NAME(ROWS);
    NAME(pack_columns)((const NAME(element) *)g->a + line, g->lda, g->m - line, g->k, NAME(ROWS), panels, j->units, j->a + line * j->units);
}

/* ==== Tiles ==== */

/* Sums += `units` units of a panel of A by those of one of B. */
VEC_INLINE void NAME(add_units)(vf sum[NAME(ROWS)][NAME(VECTORS)], const char *a, const char *b, int64_t units) {
    enum { DISTANCE = 16 };
    for (int64_t u = 0; u < units; u++, a += NAME(ROWS) * 4, b += NAME(COLUMNS) * 4) {
        vf row[NAME(VECTORS)];
#pragma GCC unroll 2
        for (int v = 0; v < NAME(VECTORS); v++) row[v] = vf_load((const float *)(const void *)b + v * LANES);
#pragma GCC unroll 12
        for (int r = 0; r < NAME(ROWS); r++)
#pragma GCC unroll 2
            for (int v = 0; v < NAME(VECTORS); v++) sum[r][v] = NAME(step)(sum[r][v], a + r * 4, row[v]);
        __builtin_prefetch(b + DISTANCE * NAME(COLUMNS) * 4);
        __builtin_prefetch(b + DISTANCE * NAME(COLUMNS) * 4 + 64);
    }
}

/* Columns [j, j + columns) of row i of C; `first`: these sums are not of a later stretch of the depth. */
VEC_INLINE void NAME(store_row)(const ot_gemm *g, bool first, int64_t i, int64_t j, int columns, const vf *sum) {
    ot_span c = ot_span_at((ot_span){g->c, g->c_type}, i * g->ldc + j);
#pragma GCC unroll 2
    for (int v = 0; v < NAME(VECTORS); v++) {
        int n = columns - v * LANES < LANES ? columns - v * LANES : LANES;
        if (n <= 0) return;
        vf y = sum[v] * vf_set(g->alpha);
        if (g->bias && first) y += n == LANES ? vf_load(g->bias + j + v * LANES) : vf_load_n(g->bias + j + v * LANES, n);
        span_put(c, v * LANES, n, y, g->accumulate || !first);
    }
}

/* Panel p of A by the panel b of B, whose columns in C begin at j; units [from, end). */
VEC_INLINE void NAME(tile)(const ot_gemm_job *job, int64_t p, int64_t j, const uint32_t *b, int64_t from, int64_t end) {
    const ot_gemm *g = job->g;
    int64_t i = p * NAME(ROWS);
    int rows = (int)(g->m - i < NAME(ROWS) ? g->m - i : NAME(ROWS)), columns = (int)(g->n - j < NAME(COLUMNS) ? g->n - j : NAME(COLUMNS));
    vf sum[NAME(ROWS)][NAME(VECTORS)];
    for (int r = 0; r < rows; r++) {
        const char *c = ot_span_at((ot_span){g->c, g->c_type}, (i + r) * g->ldc + j).x;
        __builtin_prefetch(c, 1);
        __builtin_prefetch(c + 64, 1);
    }
#pragma GCC unroll 12
    for (int r = 0; r < NAME(ROWS); r++)
#pragma GCC unroll 2
        for (int v = 0; v < NAME(VECTORS); v++) sum[r][v] = vf_zero();
    NAME(add_units)(sum, (const char *)(job->a + i * job->units + from * NAME(ROWS)), (const char *)(b + from * NAME(COLUMNS)), end - from);
#pragma GCC unroll 12
    for (int r = 0; r < NAME(ROWS); r++)
        if (r < rows) NAME(store_row)(g, from == 0, i + r, j, columns, sum[r]);
}

/* Tiles of the panels [a0, a1) x [b0, b1), in stretches of depth and blocks of rows that leave room in the second cache; where C does not hold sums of
 * floats, in one stretch. */
static void NAME(multiply)(const ot_gemm_job *job, int64_t a0, int64_t a1, int64_t b0, int64_t b1, uint32_t *room) {
    enum { DEPTH = 2048, BLOCK_BYTES = 384 << 10 };
    const ot_gemm *g = job->g;
    int64_t stretches = g->c_type == OT_F32 && job->units > 0 ? (job->units + DEPTH - 1) / DEPTH : 1, line = b0 * NAME(COLUMNS);
    int64_t block = BLOCK_BYTES / (NAME(ROWS) * 4 * (job->units / stretches + 1)) + 1;
    NAME(pack_columns)((const NAME(element) *)g->b + line, g->ldb, g->n - line, g->k, NAME(COLUMNS), b1 - b0, job->units, room);
    for (int64_t d = 0; d < stretches; d++) {
        int64_t from = d * job->units / stretches, end = (d + 1) * job->units / stretches;
        for (int64_t p0 = a0; p0 < a1; p0 += block)
            for (int64_t q = b0; q < b1; q++)
                for (int64_t p = p0; p < a1 && p < p0 + block; p++)
                    NAME(tile)(job, p, q * NAME(COLUMNS), room + (q - b0) * job->units * NAME(COLUMNS), from, end);
    }
}
