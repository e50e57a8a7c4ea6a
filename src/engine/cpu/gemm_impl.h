/* Matrix product of AVX-512 machines, included once for floats and once for pairs of bf16 (see unit_impl.h). No include guard on purpose.
 *
 * Both operands are packed: A into panels [units of k][ROWS], B into panels [units of k][COLUMNS]. A tile of ROWS x COLUMNS sums stays in
 * registers over the whole depth, so every element of C is touched once, with scale, bias and rounding on the way. A side lies behind the product's own depth. */

#include "engine/cpu/gemm_row_impl.h"

enum { NAME(ROWS) = OT_GEMM_ROWS, NAME(COLUMNS) = OT_GEMM_COLUMNS, NAME(VECTORS) = OT_GEMM_COLUMNS / LANES };

/* ==== Packing: `width` lines of an operand, [first, first + width) of `lines`, become the columns of a panel ==== */

/* A line is a row of x [lines][k]. */
static void NAME(pack_rows)(const NAME(element) * x, int64_t stride, int64_t lines, int64_t k, int64_t width, uint32_t *panel) {
    int64_t units = (k + NAME(UNITS) - 1) / NAME(UNITS), whole = k / NAME(UNITS) / 4 * 4, done = 0;
#if UNIT_BF16
    bool turnable = stride % 2 == 0;
#else
    bool turnable = true;
#endif
    if (turnable && whole > 0) {
        for (; done + 4 <= lines; done += 4)
            for (int64_t u = 0; u < whole; u += 4) {
                const char *from = (const char *)(x + done * stride) + u * 4;
                turn_units(from, stride / NAME(UNITS), panel + u * width + done, width, 4, 4);
            }
    }
    for (int64_t l = 0; l < width; l++)
        for (int64_t u = l < done ? whole : 0; u < units; u++) {
            NAME(element) unit[NAME(UNITS)] = {0};
            for (int e = 0; e < NAME(UNITS) && l < lines; e++)
                if (u * NAME(UNITS) + e < k) unit[e] = x[l * stride + u * NAME(UNITS) + e];
            memcpy(&panel[u * width + l], unit, sizeof unit);
        }
}

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

/* A line is a column of x [k][lines]. `panels` neighbours, each `depth` units, at once, so that a row is read in longer pieces. */
static void NAME(pack_columns)(const NAME(element) * x, int64_t stride, int64_t lines, int64_t k, int64_t width, int64_t panels, int64_t depth,
                               uint32_t *packed) {
    enum { BLOCK = 16 };
    int64_t units = (k + NAME(UNITS) - 1) / NAME(UNITS);
    for (int64_t u0 = 0; u0 < units; u0 += BLOCK) {
        for (int64_t p = 0; p < panels; p++) {
            for (int64_t u = u0; u < units && u < u0 + BLOCK; u++) {
                const NAME(element) *row = x + u * NAME(UNITS) * stride + p * width;
                const NAME(element) *next = u * NAME(UNITS) + NAME(UNITS) - 1 < k ? row + (NAME(UNITS) - 1) * stride : NULL;
                uint32_t *to = packed + (p * depth + u) * width;
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

/* What an operand is: k elements of each line, then the side's r floats; element e of line l lies at side[l * line + e * next]. */
typedef struct NAME(operand) {
    const void *x;
    int64_t stride;
    bool columns; /* x lies as [k][lines], else as [lines][k] */
    int64_t lines, k, width, units;
    const float *side;
    int64_t r, line, next;
    bool left; /* the first of the two factors */
} NAME(operand);

/* The depth of a side follows that of the product. Of pairs, each float is the sum of two bf16, and all of the product but that of the two lesser parts
 * is there: high high, low high, high low. */
static void NAME(pack_side)(const NAME(operand) * o, int64_t first, uint32_t *panel) {
    int64_t elements = UNIT_BF16 ? 3 * o->r : o->r, whole = (o->k + NAME(UNITS) - 1) / NAME(UNITS);
    NAME(element) *to = (NAME(element) *)(void *)(panel + whole * o->width);
    for (int64_t u = 0; u < o->units - whole; u++)
        for (int64_t l = 0; l < o->width; l++)
            for (int64_t i = 0; i < NAME(UNITS); i++) {
                int64_t e = u * NAME(UNITS) + i, at = (first + l) * o->line + e % o->r * o->next;
                float x = e < elements && first + l < o->lines ? o->side[at] : 0.0f;
#if UNIT_BF16
                ot_bf16 high = ot_f32_to_bf16(x);
                bool low = o->left ? e / o->r == 1 : e / o->r == 2;
                to[(u * o->width + l) * NAME(UNITS) + i] = low ? ot_f32_to_bf16(x - ot_bf16_to_f32(high)) : high;
#else
                to[u * o->width + l] = x;
#endif
            }
}

/* Panels [first, first + panels) of an operand. */
static void NAME(pack_panels)(const NAME(operand) * o, int64_t first, int64_t panels, uint32_t *packed) {
    const NAME(element) *from = o->x;
    int64_t line = first * o->width, size = o->width * o->units;
    packed += first * size;
    if (o->columns) NAME(pack_columns)(from + line, o->stride, o->lines - line, o->k, o->width, panels, o->units, packed);
    for (int64_t p = 0; p < panels; p++, line += o->width, packed += size) {
        int64_t left = o->lines - line < o->width ? o->lines - line : o->width;
        if (!o->columns) NAME(pack_rows)(from + line * o->stride, o->stride, left, o->k, o->width, packed);
        if (o->r > 0) NAME(pack_side)(o, line, packed);
    }
}

static void NAME(pack_a)(const ot_gemm_job *j, int64_t first, int64_t panels) {
    const ot_gemm *g = j->g;
    NAME(operand) o = {g->a, g->lda, g->ta, g->m, g->k, NAME(ROWS), j->units, g->side.a, g->side.r, g->side.lda, 1, true};
    NAME(pack_panels)(&o, first, panels, j->a);
}

static void NAME(pack_b)(const ot_gemm_job *j, int64_t first, int64_t panels) {
    const ot_gemm *g = j->g;
    NAME(operand) o = {g->b, g->ldb, !g->tb, g->n, g->k, NAME(COLUMNS), j->units, g->side.b, g->side.r, 1, g->side.ldb, false};
    NAME(pack_panels)(&o, first, panels, j->b);
}

/* ==== Tiles ==== */

VEC_INLINE void NAME(tile)(const ot_gemm *g, const char *a, const char *b, int64_t units, int64_t i, int64_t j, int rows, int columns) {
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
    for (int64_t u = 0; u < units; u++) {
        vf row[NAME(VECTORS)];
#pragma GCC unroll 2
        for (int v = 0; v < NAME(VECTORS); v++) row[v] = vf_load((const float *)(const void *)b + v * LANES);
#pragma GCC unroll 12
        for (int r = 0; r < NAME(ROWS); r++)
#pragma GCC unroll 2
            for (int v = 0; v < NAME(VECTORS); v++) sum[r][v] = NAME(step)(sum[r][v], a + r * 4, row[v]);
        a += NAME(ROWS) * 4;
        b += NAME(COLUMNS) * 4;
    }
#pragma GCC unroll 12
    for (int r = 0; r < NAME(ROWS); r++)
        if (r < rows) gemm_store_row(g, i + r, j, columns, sum[r]);
}

/* Tiles of the panels [a0, a1) x [b0, b1). */
static void NAME(multiply)(const ot_gemm_job *job, int64_t a0, int64_t a1, int64_t b0, int64_t b1) {
    const ot_gemm *g = job->g;
    int64_t units = job->units;
    for (int64_t q = b0; q < b1; q++) {
        int64_t j = q * NAME(COLUMNS);
        const char *b = (const char *)(job->b + j * units);
        int columns = (int)(g->n - j < NAME(COLUMNS) ? g->n - j : NAME(COLUMNS));
        for (int64_t p = a0; p < a1; p++) {
            int64_t i = p * NAME(ROWS);
            int rows = (int)(g->m - i < NAME(ROWS) ? g->m - i : NAME(ROWS));
            NAME(tile)(g, (const char *)(job->a + i * units), b, units, i, j, rows, columns);
        }
    }
}
