/* Product of bf16 by AMX. A is read where it lies, 16 rows of 32 elements to a tile; B is brought into panels of 32 columns, pairs of its rows in units of
 * 32 bits, as the instruction wants them. What is left of the depth after whole steps of 32, and the side, follow as steps of their own, from a copy filled
 * up with zeros; so does all of an A of less than 32 rows.
 *
 * A side is F32; each number is the sum of two of bf16, high and low, and of their products all but low times low is taken, in
 * neighbouring places of the depth: (high, low, high) of A meet (high, high, low) of B. */
#ifndef OT_ENGINE_CPU_AMX_GEMM_IMPL_H
#define OT_ENGINE_CPU_AMX_GEMM_IMPL_H

#include "engine/cpu/gemm_row_impl.h"

enum { TILES_STEP = OT_TILES_STEP, TILES_UNITS = TILES_STEP / 2, TILES_ROWS = OT_TILES_ROWS, TILES_WIDE = OT_GEMM_COLUMNS };

/* ==== What follows whole steps of A ==== */

/* 16 numbers as bf16, nearest, and what is left of them; zero-extended. */
VEC_INLINE __m512i tiles_high(__m512 x) { return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(x)); }
VEC_INLINE __m512i tiles_low(__m512 x) { return tiles_high(_mm512_sub_ps(x, _mm512_castsi512_ps(_mm512_slli_epi32(tiles_high(x), 16)))); }

static void tiles_pack_left(const ot_tiles_job *j, int64_t first, int64_t rows) {
    const ot_gemm *g = j->g;
    int64_t done = j->whole * TILES_STEP, rest = g->k - done, r = g->side.r, width = (j->rest + j->side) * TILES_STEP;
    __mmask16 some = (__mmask16)((1U << r) - 1U);
    for (int64_t i = first; i < first + rows; i++) {
        ot_bf16 *to = j->left + i * width;
        memset(to, 0, (size_t)width * sizeof *to);
        if (i >= g->m) continue;
        memcpy(to, (const ot_bf16 *)g->a + i * g->lda + done, (size_t)rest * sizeof *to);
        to += j->rest * TILES_STEP;
        __m512 z = _mm512_maskz_loadu_ps(some, g->side.a + i * g->side.lda);
        __m256i high = _mm512_cvtepi32_epi16(tiles_high(z)), low = _mm512_cvtepi32_epi16(tiles_low(z));
        _mm256_mask_storeu_epi16(to, some, high);
        _mm256_mask_storeu_epi16(to + r, some, low);
        _mm256_mask_storeu_epi16(to + 2 * r, some, high);
    }
}

/* ==== A panel of B: [steps][16 units][32 columns] ==== */

/* to [16][stride] = rows turned: unit u of row i becomes column i of row u. */
VEC_INLINE void tiles_turn(__m512i a[16], uint32_t *to, int64_t stride) {
    __m512i b[16];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        b[2 * i] = _mm512_unpacklo_epi32(a[2 * i], a[2 * i + 1]);
        b[2 * i + 1] = _mm512_unpackhi_epi32(a[2 * i], a[2 * i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        a[4 * i] = _mm512_unpacklo_epi64(b[4 * i], b[4 * i + 2]);
        a[4 * i + 1] = _mm512_unpackhi_epi64(b[4 * i], b[4 * i + 2]);
        a[4 * i + 2] = _mm512_unpacklo_epi64(b[4 * i + 1], b[4 * i + 3]);
        a[4 * i + 3] = _mm512_unpackhi_epi64(b[4 * i + 1], b[4 * i + 3]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        b[i] = _mm512_shuffle_i32x4(a[i], a[4 + i], 0x88);
        b[4 + i] = _mm512_shuffle_i32x4(a[i], a[4 + i], 0xdd);
        b[8 + i] = _mm512_shuffle_i32x4(a[8 + i], a[12 + i], 0x88);
        b[12 + i] = _mm512_shuffle_i32x4(a[8 + i], a[12 + i], 0xdd);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        a[i] = _mm512_shuffle_i32x4(b[i], b[8 + i], 0x88);
        a[8 + i] = _mm512_shuffle_i32x4(b[i], b[8 + i], 0xdd);
        a[4 + i] = _mm512_shuffle_i32x4(b[4 + i], b[12 + i], 0x88);
        a[12 + i] = _mm512_shuffle_i32x4(b[4 + i], b[12 + i], 0xdd);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) _mm512_storeu_si512(to + i * stride, a[i]);
}

VEC_INLINE __mmask32 tiles_mask(int64_t n) { return n >= 32 ? ~(__mmask32)0 : n <= 0 ? 0 : ((__mmask32)1 << n) - 1U; }

/* Step `step` where B lies as [n][k]. */
VEC_INLINE void tiles_pack_rows(const ot_gemm *g, int64_t column, int64_t step, uint32_t *to) {
    const ot_bf16 *from = (const ot_bf16 *)g->b + column * g->ldb + step * TILES_STEP;
    __mmask32 some = tiles_mask(g->k - step * TILES_STEP);
    for (int half = 0; half < TILES_WIDE; half += 16) {
        __m512i row[16];
        for (int i = 0; i < 16; i++)
            row[i] = column + half + i < g->n ? _mm512_maskz_loadu_epi16(some, from + (half + i) * g->ldb) : _mm512_setzero_si512();
        tiles_turn(row, to + half, TILES_WIDE);
    }
}

/* to [32]: units of two rows' elements of a column. */
VEC_INLINE void tiles_pair(__m512i a, __m512i b, uint32_t *to) {
    __m512i low = _mm512_unpacklo_epi16(a, b), high = _mm512_unpackhi_epi16(a, b); /* of each 128 bits */
    const __m512i first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), second = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    _mm512_storeu_si512(to, _mm512_permutex2var_epi64(low, first, high));
    _mm512_storeu_si512(to + 16, _mm512_permutex2var_epi64(low, second, high));
}

/* Where it lies as [k][n]. */
VEC_INLINE void tiles_pack_columns(const ot_gemm *g, int64_t column, int64_t step, uint32_t *to) {
    const ot_bf16 *from = (const ot_bf16 *)g->b + column;
    __mmask32 some = tiles_mask(g->n - column);
    for (int64_t u = 0; u < TILES_UNITS; u++, to += TILES_WIDE) {
        int64_t k = step * TILES_STEP + 2 * u;
        __m512i a = k < g->k ? _mm512_maskz_loadu_epi16(some, from + k * g->ldb) : _mm512_setzero_si512();
        __m512i b = k + 1 < g->k ? _mm512_maskz_loadu_epi16(some, from + (k + 1) * g->ldb) : _mm512_setzero_si512();
        tiles_pair(a, b, to);
    }
}

/* Place s of the depth of a side holds row s % r, high, high and then low. */
VEC_INLINE __m512i tiles_side(const ot_gemm *g, int64_t column, int64_t s) {
    if (s >= 3 * g->side.r) return _mm512_setzero_si512();
    __m512 x = _mm512_maskz_loadu_ps((__mmask16)tiles_mask(g->n - column), g->side.b + s % g->side.r * g->side.ldb + column);
    return s < 2 * g->side.r ? tiles_high(x) : tiles_low(x);
}

static void tiles_pack_side(const ot_gemm *g, int64_t column, int64_t step, uint32_t *to) {
    for (int64_t s = step * TILES_STEP; s < (step + 1) * TILES_STEP; s += 2, to += TILES_WIDE)
        for (int half = 0; half < TILES_WIDE; half += 16)
            _mm512_storeu_si512(to + half, _mm512_or_si512(tiles_side(g, column + half, s), _mm512_slli_epi32(tiles_side(g, column + half, s + 1), 16)));
}

VEC_INLINE int64_t tiles_depth(const ot_tiles_job *j) { return j->whole + j->rest + j->side; }

/* Steps [first, end) of the panel of the columns from `column` on. */
static void tiles_pack_panel(const ot_tiles_job *j, int64_t column, int64_t first, int64_t end, uint32_t *panel) {
    const ot_gemm *g = j->g;
    for (int64_t step = first; step < end; step++) {
        uint32_t *to = panel + step * TILES_UNITS * TILES_WIDE;
        int64_t side = step - j->whole - j->rest;
        if (side < 0 && g->tb) tiles_pack_rows(g, column, step, to);
        else if (side < 0) tiles_pack_columns(g, column, step, to);
        else tiles_pack_side(g, column, side, to);
    }
}

/* ==== Tiles ==== */

static void tiles_begin(void) {
    struct {
        uint8_t palette, start, zero[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } shapes = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        shapes.bytes[i] = 64;
        shapes.rows[i] = 16;
    }
    _tile_loadconfig(&shapes);
}

/* Sums of 32 by 32 whose rows from `row` to `end` are still to be brought to C; they begin with row `from`. A side with a mask has sums of its own. */
typedef struct tiles_sums {
    float (*sums)[TILES_WIDE], (*side)[TILES_WIDE];
    int64_t from, row, end, column;
} tiles_sums;

/* The next few rows of sums. */
VEC_INLINE void tiles_put(const ot_gemm *g, tiles_sums *t, int64_t rows) {
    int columns = (int)(g->n - t->column < TILES_WIDE ? g->n - t->column : TILES_WIDE);
    bool plain = columns == TILES_WIDE && g->c_type == OT_BF16 && g->alpha == 1.0f && !g->bias && !g->accumulate;
    for (; rows > 0 && t->row < t->end; rows--, t->row++) {
        vf sum[GEMM_VECTORS] = {vf_load(t->sums[t->row - t->from]), vf_load(t->sums[t->row - t->from] + LANES)};
        if (g->side.mask) {
            uint32_t bits = g->side.mask[t->row * ((g->n + 31) / 32) + t->column / 32];
            const float *side = t->side[t->row - t->from];
            sum[0] = vf_fma(vf_keep(vf_load(side), bits), vf_set(g->side.factor), sum[0]);
            sum[1] = vf_fma(vf_keep(vf_load(side + LANES), bits >> LANES), vf_set(g->side.factor), sum[1]);
        }
        if (plain) _mm512_storeu_si512((ot_bf16 *)g->c + t->row * g->ldc + t->column, (__m512i)_mm512_cvtne2ps_pbh(sum[1], sum[0]));
        else gemm_store_row(g, true, t->row, t->column, columns, sum);
    }
}

/* Sums of 32 by 32 += `steps` steps; tiles are named by number in the instruction. Strides in bytes. On the way, what vectors do while the tiles are busy:
 * rows of the sums before these go to C. */
VEC_INLINE void tiles_steps(const ot_gemm *g, const char *a, int64_t stride, const char *b, int64_t steps, tiles_sums *before) {
    int64_t each = steps > 0 ? (TILES_ROWS + steps - 1) / steps : 0;
    for (int64_t s = 0; s < steps; s++, a += 64, b += TILES_UNITS * TILES_WIDE * 4) {
        _tile_loadd(4, a, stride);
        _tile_loadd(6, b, 128);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b + 64, 128);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, a + 16 * stride, stride);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
        tiles_put(g, before, each);
    }
}

VEC_INLINE void tiles_clear(void) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

VEC_INLINE void tiles_store(float sums[TILES_ROWS][TILES_WIDE]) {
    _tile_stored(0, sums[0], 128);
    _tile_stored(1, sums[0] + 16, 128);
    _tile_stored(2, sums[16], 128);
    _tile_stored(3, sums[16] + 16, 128);
    __asm__ volatile("" ::: "memory"); /* the instructions do not tell the compiler what they write and read */
}

/* Rows [row0, row1) by columns of panels [panel0, panel1). While a panel is multiplied, the next one is packed, and the sums before the present ones go to
 * C. The last 32 rows may overlap others, which are not stored again. */
static void tiles_multiply(const ot_tiles_job *j, int64_t panel0, int64_t panel1, int64_t row0, int64_t row1, uint32_t *room) {
    const ot_gemm *g = j->g;
    float sums[2][TILES_ROWS][TILES_WIDE] __attribute__((aligned(64))), sides[2][TILES_ROWS][TILES_WIDE] __attribute__((aligned(64)));
    int64_t width = (j->rest + j->side) * 64, depth = tiles_depth(j), step_bytes = TILES_UNITS * TILES_WIDE * 4, blocks = (row1 - row0 + TILES_ROWS - 1) / TILES_ROWS;
    tiles_sums before = {0};
    tiles_begin();
    tiles_pack_panel(j, panel0 * TILES_WIDE, 0, depth, room);
    for (int64_t p = panel0, n = 0; p < panel1; p++) {
        uint32_t *next = room + (p + 1 - panel0) % 2 * depth * TILES_UNITS * TILES_WIDE;
        const char *b = (const char *)(room + (p - panel0) % 2 * depth * TILES_UNITS * TILES_WIDE), *b_rest = b + j->whole * step_bytes;
        for (int64_t block = 0; block < blocks; block++, n++) {
            int64_t i = row0 + block * TILES_ROWS, from = i + TILES_ROWS <= g->m || i == 0 ? i : g->m - TILES_ROWS;
            const char *left = (const char *)j->left + from * width;
            if (p + 1 < panel1) tiles_pack_panel(j, (p + 1) * TILES_WIDE, block * depth / blocks, (block + 1) * depth / blocks, next);
            __asm__ volatile("" ::: "memory");
            tiles_clear();
            tiles_steps(g, left + j->rest * 64, width, b_rest + j->rest * step_bytes, j->side, &before);
            if (g->side.mask) {
                tiles_store(sides[n % 2]);
                tiles_clear();
            }
            tiles_steps(g, (const char *)((const ot_bf16 *)g->a + from * g->lda), g->lda * 2, b, j->whole, &before);
            tiles_steps(g, left, width, b_rest, j->rest, &before);
            tiles_put(g, &before, TILES_ROWS);
            tiles_store(sums[n % 2]);
            before = (tiles_sums){sums[n % 2], sides[n % 2], from, i, i + TILES_ROWS < row1 ? i + TILES_ROWS : row1, p * TILES_WIDE};
        }
    }
    tiles_put(g, &before, TILES_ROWS);
    _tile_release();
}

#endif
