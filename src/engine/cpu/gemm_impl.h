/* Matrix product of AVX-512 machines, included once for floats and once for pairs of bf16 (see unit_impl.h). No include guard on purpose.
 *
 * A is read where its rows lie. B is packed into panels [units of k][COLUMNS], some at a time, by the thread that multiplies by them at once. A tile of
 * ROWS x COLUMNS sums stays in registers over the whole depth, or 2,048 units of it, so that every element of C is touched once, with scale, bias and
 * rounding on the way. A side comes before the product's own depth, so that its mask can be laid over the sums. */

#include "engine/cpu/gemm_row_impl.h"

enum { NAME(ROWS) = OT_GEMM_ROWS, NAME(COLUMNS) = OT_GEMM_COLUMNS, NAME(VECTORS) = OT_GEMM_COLUMNS / LANES };

/* ==== Packing: `width` lines of an operand, [first, first + width) of `lines`, become the columns of a panel ==== */

/* A line is a row of x [lines][k]. Few units of all lines at a time, so that what is written stays in the cache until its lines are whole. */
static void NAME(pack_rows)(const NAME(element) * x, int64_t stride, int64_t lines, int64_t k, int64_t width, uint32_t *panel) {
    int64_t units = (k + NAME(UNITS) - 1) / NAME(UNITS), whole = k / NAME(UNITS) / 4 * 4, done = lines / 4 * 4;
#if UNIT_BF16
    if (stride % 2 != 0) whole = 0;
#endif
    for (int64_t u = 0, n = 0; u < whole; u += n) {
        n = whole - u >= 16 ? 16 : 4;
        for (int64_t l = 0; l < done; l += 4) {
            const char *from = (const char *)(x + l * stride) + u * 4;
            uint32_t *to = panel + u * width + l;
            if (n == 16) turn_four(from, stride / NAME(UNITS), to, width);
            else turn_units(from, stride / NAME(UNITS), to, width, 4, 4);
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

/* A line is a column of x [k][lines]. `panels` neighbours, each of `depth` units, at once, so that a row is read in longer pieces. */
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

/* Element e of a side, which has r numbers: floats as they are. Of pairs, each float is the sum of two bf16, high and low, and all products but low times
 * low are taken: high high, low high, high low. */
VEC_INLINE NAME(element) NAME(side)(const float *x, int64_t next, int64_t e, int64_t r, bool left) {
#if UNIT_BF16
    if (e >= 3 * r) return 0;
    float whole = x[e % r * next];
    ot_bf16 high = ot_f32_to_bf16(whole);
    return e / r == (left ? 1 : 2) ? ot_f32_to_bf16(whole - ot_bf16_to_f32(high)) : high;
#else
    (void)left;
    return e < r ? x[e * next] : 0;
#endif
}

VEC_INLINE int64_t NAME(units)(const ot_gemm_job *j) { return j->side + j->whole + j->rest; }

static void NAME(pack_a)(const ot_gemm_job *j, int64_t first, int64_t panels) {
    const ot_gemm *g = j->g;
    const NAME(element) *from = g->a;
    int64_t line = first * NAME(ROWS), width = j->side + j->rest, done = j->whole * NAME(UNITS);
    if (g->ta) {
        NAME(pack_columns)(from + line, g->lda, g->m - line, g->k, NAME(ROWS), panels, j->whole, j->a + line * j->whole);
        return;
    }
    for (int64_t i = line; i < line + panels * NAME(ROWS) && (i < g->m || i < NAME(ROWS)); i++) {
        NAME(element) *to = (NAME(element) *)(void *)(j->a + i * width);
        memset(to, 0, (size_t)width * sizeof *j->a);
        if (i >= g->m) continue;
        for (int64_t e = 0; e < j->side * NAME(UNITS); e++) to[e] = NAME(side)(g->side.a + i * g->side.lda, 1, e, g->side.r, true);
        memcpy(to + j->side * NAME(UNITS), from + i * g->lda + done, (size_t)(g->k - done) * sizeof *to);
    }
}

/* Panels [first, first + panels) of B. */
static void NAME(pack_b)(const ot_gemm_job *j, int64_t first, int64_t panels, uint32_t *packed) {
    const ot_gemm *g = j->g;
    const NAME(element) *from = g->b;
    int64_t line = first * NAME(COLUMNS), units = NAME(units)(j);
    uint32_t *whole = packed + j->side * NAME(COLUMNS);
    if (!g->tb) NAME(pack_columns)(from + line, g->ldb, g->n - line, g->k, NAME(COLUMNS), panels, units, whole);
    for (int64_t p = 0; p < panels; p++, line += NAME(COLUMNS), packed += units * NAME(COLUMNS), whole += units * NAME(COLUMNS)) {
        int64_t lines = g->n - line < NAME(COLUMNS) ? g->n - line : NAME(COLUMNS);
        if (g->tb) NAME(pack_rows)(from + line * g->ldb, g->ldb, lines, g->k, NAME(COLUMNS), whole);
        NAME(element) *to = (NAME(element) *)(void *)packed;
        for (int64_t e = 0; e < j->side * NAME(UNITS); e++)
            for (int64_t l = 0; l < NAME(COLUMNS); l++)
                to[(e / NAME(UNITS) * NAME(COLUMNS) + l) * NAME(UNITS) + e % NAME(UNITS)] =
                    l < lines ? NAME(side)(g->side.b + line + l, g->side.ldb, e, g->side.r, false) : 0;
    }
}

/* ==== Tiles ==== */

/* Units of ROWS lines of A, `row` bytes apart; the next ones lie `unit` bytes on. b: as many of a panel. */
typedef struct NAME(lines) {
    const char *x, *b;
    int64_t row, unit, units;
} NAME(lines);

/* Sums += the units of some lines by those of a panel. */
VEC_INLINE void NAME(add_units)(vf sum[NAME(ROWS)][NAME(VECTORS)], NAME(lines) l) {
    enum { DISTANCE = 16 };
    const char *a[NAME(ROWS) / 3];
#pragma GCC unroll 4
    for (int r = 0; r < NAME(ROWS) / 3; r++) a[r] = l.x + 3 * r * l.row;
    for (int64_t u = 0; u < l.units; u++) {
        vf row[NAME(VECTORS)];
#pragma GCC unroll 2
        for (int v = 0; v < NAME(VECTORS); v++) row[v] = vf_load((const float *)(const void *)l.b + v * LANES);
#pragma GCC unroll 12
        for (int r = 0; r < NAME(ROWS); r++)
#pragma GCC unroll 2
            for (int v = 0; v < NAME(VECTORS); v++) sum[r][v] = NAME(step)(sum[r][v], a[r / 3] + r % 3 * l.row, row[v]);
        __builtin_prefetch(l.b + DISTANCE * NAME(COLUMNS) * 4);
        __builtin_prefetch(l.b + DISTANCE * NAME(COLUMNS) * 4 + 64);
#pragma GCC unroll 4
        for (int r = 0; r < NAME(ROWS) / 3; r++) a[r] += l.unit;
        l.b += NAME(COLUMNS) * 4;
    }
}

/* A tile: rows [i, i + rows), of which those from `skip` on are stored, by `columns` columns from j on. */
typedef struct NAME(place) {
    int64_t i, j;
    int skip, rows, columns;
} NAME(place);

/* What lies under the mask's zeros is zero, the rest of the sums multiplied. */
VEC_INLINE void NAME(mask_side)(const ot_gemm *g, const NAME(place) * t, vf sum[NAME(ROWS)][NAME(VECTORS)]) {
    int64_t words = (g->n + 31) / 32;
#pragma GCC unroll 12
    for (int r = 0; r < NAME(ROWS); r++) {
        uint32_t bits = r < t->rows ? g->side.mask[(t->i + r) * words + t->j / 32] : 0;
#pragma GCC unroll 2
        for (int v = 0; v < NAME(VECTORS); v++) sum[r][v] = vf_keep(sum[r][v], bits >> v * LANES) * vf_set(g->side.factor);
    }
}

/* `first`: with the side, and not added to sums that are there. */
VEC_INLINE void NAME(tile)(const ot_gemm_job *j, const NAME(place) * t, bool first, const char *b, int64_t from, int64_t end) {
    const ot_gemm *g = j->g;
    int64_t width = (j->side + j->rest) * 4, whole = end < j->whole ? end : j->whole, rest = from > j->whole ? from : j->whole, row = g->lda * (int64_t)sizeof(NAME(element));
    const char *a = (const char *)g->a + t->i * row, *left = (const char *)j->a + t->i * width, *depth = b + j->side * NAME(COLUMNS) * 4;
    NAME(lines) side = {left, b, width, 4, j->side};
    NAME(lines) own = {a + from * 4, depth + from * NAME(COLUMNS) * 4, row, 4, whole - from};
    NAME(lines) other = {left + (j->side + rest - j->whole) * 4, depth + rest * NAME(COLUMNS) * 4, width, 4, end - rest};
    if (g->ta) own = (NAME(lines)){(const char *)(j->a + t->i * j->whole + from * NAME(ROWS)), own.b, 4, NAME(ROWS) * 4, whole - from};
    else if (j->a == NULL) side = (NAME(lines)){(const char *)(g->side.a + t->i * g->side.lda), b, g->side.lda * 4, 4, j->side};
    vf sum[NAME(ROWS)][NAME(VECTORS)];
    for (int r = t->skip; r < t->rows; r++) {
        const char *c = ot_span_at((ot_span){g->c, g->c_type}, (t->i + r) * g->ldc + t->j).x;
        __builtin_prefetch(c, 1);
        __builtin_prefetch(c + 64, 1);
    }
#pragma GCC unroll 12
    for (int r = 0; r < NAME(ROWS); r++)
#pragma GCC unroll 2
        for (int v = 0; v < NAME(VECTORS); v++) sum[r][v] = vf_zero();
    if (first && j->side > 0) {
        NAME(add_units)(sum, side);
        if (g->side.mask) NAME(mask_side)(g, t, sum);
    }
    NAME(add_units)(sum, own);
    if (other.units > 0) NAME(add_units)(sum, other);
#pragma GCC unroll 12
    for (int r = 0; r < NAME(ROWS); r++)
        if (r >= t->skip && r < t->rows) gemm_store_row(g, first, t->i + r, t->j, t->columns, sum[r]);
}

/* Tiles of the panels [a0, a1) x [b0, b1), in stretches of depth and blocks of rows that leave room in the second cache; where C does not hold sums of
 * floats, in one stretch. The last rows may overlap others, which are not stored again. */
static void NAME(multiply)(const ot_gemm_job *job, int64_t a0, int64_t a1, int64_t b0, int64_t b1, uint32_t *room) {
    enum { DEPTH = 2048, BLOCK_BYTES = 384 << 10 };
    const ot_gemm *g = job->g;
    int64_t depth = job->whole + job->rest, stretches = g->c_type == OT_F32 && depth > 0 ? (depth + DEPTH - 1) / DEPTH : 1;
    int64_t block = BLOCK_BYTES / (NAME(ROWS) * 4 * (depth / stretches + 1)) + 1;
    NAME(pack_b)(job, b0, b1 - b0, room);
    for (int64_t d = 0; d < stretches; d++) {
        int64_t from = d * depth / stretches, end = (d + 1) * depth / stretches;
        for (int64_t p0 = a0; p0 < a1; p0 += block) {
            for (int64_t q = b0; q < b1; q++) {
                const char *b = (const char *)(room + (q - b0) * NAME(units)(job) * NAME(COLUMNS));
                NAME(place) t = {.j = q * NAME(COLUMNS)};
                t.columns = (int)(g->n - t.j < NAME(COLUMNS) ? g->n - t.j : NAME(COLUMNS));
                for (int64_t p = p0; p < a1 && p < p0 + block; p++) {
                    t.i = p * NAME(ROWS);
                    t.skip = !g->ta && t.i + NAME(ROWS) > g->m && g->m >= NAME(ROWS) ? (int)(t.i + NAME(ROWS) - g->m) : 0;
                    t.i -= t.skip;
                    t.rows = (int)(g->m - t.i < NAME(ROWS) ? g->m - t.i : NAME(ROWS));
                    NAME(tile)(job, &t, d == 0, b, from, end);
                }
            }
        }
    }
}
