/* Products with one narrow side (see thin_impl.h) of bf16 by AMX. The narrow operand is F32; it goes as the sum of two of bf16, high and low, which the
 * tiles' 16 columns or rows have room for: up to r = 8 side by side, beyond in a tile each. What is wide must be BF16, n a multiple of 32. */
#ifndef OT_ENGINE_CPU_AMX_THIN_IMPL_H
#define OT_ENGINE_CPU_AMX_THIN_IMPL_H

#include "engine/cpu/thin_impl.h"

/* A step of the depth, in elements and in units of 32 bits. */
enum { TILES_STEP = 32, TILES_UNITS = TILES_STEP / 2, TILES_WIDE = 32, THIN_HALF = 8, THIN_TILE = 16 };

/* ==== What tiles want ==== */

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

/* 16 numbers as bf16, nearest; zero-extended. */
VEC_INLINE __m512i tiles_high(__m512 x) { return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(x)); }

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

/* to [32]: units of two rows' elements of a column. */
VEC_INLINE void tiles_pair(__m512i a, __m512i b, uint32_t *to) {
    __m512i low = _mm512_unpacklo_epi16(a, b), high = _mm512_unpackhi_epi16(a, b); /* of each 128 bits */
    const __m512i first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), second = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    _mm512_storeu_si512(to, _mm512_permutex2var_epi64(low, first, high));
    _mm512_storeu_si512(to + 16, _mm512_permutex2var_epi64(low, second, high));
}

/* ==== Operands ==== */

VEC_INLINE bool thin_by_tiles(const ot_thin *t, ot_span x, int64_t rows) {
    return t->tiles != NULL && x.dtype == OT_BF16 && t->n % TILES_STEP == 0 && rows >= THIN_TILE;
}

/* 32 floats as bf16, nearest; what is left of them. */
VEC_INLINE __m512i thin_high(__m512 a, __m512 b) { return (__m512i)_mm512_cvtne2ps_pbh(b, a); }
VEC_INLINE __m512 thin_rest(__m512 x) { return _mm512_sub_ps(x, _mm512_castsi512_ps(_mm512_slli_epi32(tiles_high(x), 16))); }

/* t->tiles [n / 32][16 units][16 columns], of two tiles where r > 8 */
static void thin_prepare(const ot_thin *t) {
    bool two = t->r > THIN_HALF;
    uint32_t *to = t->tiles;
    for (int64_t k = 0; k + TILES_STEP <= t->n; k += TILES_STEP) {
        __m512i high[THIN_TILE], low[THIN_TILE];
        for (int i = 0; i < THIN_TILE; i++) {
            bool is = i < t->r;
            __m512 a = is ? _mm512_loadu_ps(t->w + i * t->ld + k) : _mm512_setzero_ps(), b = is ? _mm512_loadu_ps(t->w + i * t->ld + k + 16) : a;
            high[i] = thin_high(a, b);
            low[i] = thin_high(thin_rest(a), thin_rest(b));
        }
        for (int i = 0; !two && i < THIN_HALF; i++) high[THIN_HALF + i] = low[i];
        tiles_turn(high, to, THIN_TILE);
        to += TILES_UNITS * THIN_TILE;
        if (!two) continue;
        tiles_turn(low, to, THIN_TILE);
        to += TILES_UNITS * THIN_TILE;
    }
}

/* ==== z = x . w^T ==== */

/* 32 elements, zero where the mask's bit is. */
VEC_INLINE __m512i thin_masked(const ot_bf16 *x, const uint32_t *mask) {
    return mask == NULL ? _mm512_loadu_si512(x) : _mm512_maskz_loadu_epi16((__mmask32)*mask, x);
}

enum { THIN_ROWS = 4 * THIN_TILE };

/* Tiles 0 to 3 = sums of `tiles` times 16 rows of x with the one tile of w, or, with two, of half as many with both. */
VEC_INLINE void thin_sums_of(const ot_thin *t, const ot_bf16 *x, const uint32_t *mask, const int tiles, const bool two) {
    ot_bf16 kept[THIN_ROWS][TILES_STEP] __attribute__((aligned(64)));
    const char *w = (const char *)t->tiles, *from = (const char *)x;
    int64_t stride = t->n * 2, steps = t->n / TILES_STEP;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t s = 0; s < steps; s++, from += 64, w += two ? 2048 : 1024) {
        const char *at = from;
        if (mask != NULL) {
            for (int row = 0; row < THIN_TILE * (two ? tiles / 2 : tiles); row++)
                _mm512_store_si512(kept[row], thin_masked(x + row * t->n + s * TILES_STEP, mask + row * OT_THIN_WORDS(t->n) + s));
            at = (const char *)kept;
            stride = 64;
        }
        __asm__ volatile("" ::: "memory"); /* the instructions do not tell the compiler what they read */
        _tile_loadd(6, w, 64);
        _tile_loadd(4, at, stride);
        _tile_dpbf16ps(0, 4, 6);
        if (two) {
            _tile_loadd(7, w + 1024, 64);
            _tile_dpbf16ps(1, 4, 7);
        }
        if (tiles == 1 || (two && tiles == 2)) continue;
        _tile_loadd(5, at + 16 * stride, stride);
        if (two) {
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
            continue;
        }
        _tile_dpbf16ps(1, 5, 6);
        _tile_loadd(4, at + 32 * stride, stride);
        _tile_dpbf16ps(2, 4, 6);
        _tile_loadd(5, at + 48 * stride, stride);
        _tile_dpbf16ps(3, 5, 6);
    }
}

/* `rows` rows of z from the tiles' sums: [rows][high and low half], with two [rows / 16][2][16 rows][16]. */
static void thin_put(const ot_thin *t, float *z, int64_t rows, bool two) {
    float sums[4][THIN_TILE][THIN_TILE] __attribute__((aligned(64)));
    _tile_stored(0, sums[0], 64);
    _tile_stored(1, sums[1], 64);
    _tile_stored(2, sums[2], 64);
    _tile_stored(3, sums[3], 64);
    __mmask16 some = (__mmask16)((1U << t->r) - 1U);
    for (int64_t row = 0; row < rows; row++) {
        const float *high = sums[two ? row / THIN_TILE * 2 : row / THIN_TILE][row % THIN_TILE], *low = two ? high + THIN_TILE * THIN_TILE : high + THIN_HALF;
        __m512 sum = _mm512_maskz_loadu_ps(some, high) + _mm512_maskz_loadu_ps(some, low);
        _mm512_mask_storeu_ps(z + row * t->r, some, sum);
    }
}

/* As many rows as fill tiles; gives their number. */
static int64_t thin_in_tiles(const ot_thin *t, const ot_bf16 *x, const uint32_t *mask, float *z, int64_t rows) {
    bool two = t->r > THIN_HALF;
    int64_t most = two ? THIN_ROWS / 2 : THIN_ROWS, done = 0;
    tiles_begin();
    for (int64_t n; done + THIN_TILE <= rows; done += n) {
        const ot_bf16 *from = x + done * t->n;
        const uint32_t *kept = mask == NULL ? NULL : mask + done * OT_THIN_WORDS(t->n);
        n = rows - done >= most ? most : THIN_TILE;
        if (two && n == most) thin_sums_of(t, from, kept, 4, true);
        else if (two) thin_sums_of(t, from, kept, 2, true);
        else if (n == most) thin_sums_of(t, from, kept, 4, false);
        else thin_sums_of(t, from, kept, 1, false);
        thin_put(t, z + done * t->r, n, two);
    }
    _tile_release();
    if (mask != NULL)
        for (int64_t i = 0; i < done * t->r; i++) z[i] *= t->factor;
    return done;
}

static void amx_thin_in(const ot_thin *t, ot_span x, const uint32_t *mask, float *z, int64_t rows, ot_ahead ahead) {
    int64_t done = thin_by_tiles(t, x, rows) ? thin_in_tiles(t, x.x, mask, z, rows) : 0;
    if (done < rows) thin_in(t, ot_span_at(x, done * t->n), mask == NULL ? NULL : mask + done * OT_THIN_WORDS(t->n), z + done * t->r, rows - done, ahead);
}

/* ==== dw = z^T . x ==== */

enum { THIN_PART = 128 }; /* rows at once */

/* The columns of 32 rows of z (zero beyond `rows`), times factor, as rows of two tiles: r high and r low ones, or a tile of each. */
static void thin_turn(const ot_thin *t, const float *z, float factor, int64_t rows, ot_bf16 to[2][THIN_TILE][TILES_STEP]) {
    bool two = t->r > THIN_HALF;
    __m512i places = _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), _mm512_set1_epi32((int)t->r));
    __mmask16 first = rows >= 16 ? 0xffff : (__mmask16)((1U << rows) - 1U), last = rows >= 32 ? 0xffff : rows <= 16 ? 0 : (__mmask16)((1U << (rows - 16)) - 1U);
    memset(to, 0, 2 * THIN_TILE * TILES_STEP * sizeof(ot_bf16));
    for (int64_t k = 0; k < t->r; k++) {
        __m512 a = _mm512_mask_i32gather_ps(_mm512_setzero_ps(), first, places, z + k, 4) * vf_set(factor);
        __m512 b = _mm512_mask_i32gather_ps(_mm512_setzero_ps(), last, places, z + 16 * t->r + k, 4) * vf_set(factor);
        _mm512_store_si512(to[0][k], thin_high(a, b));
        _mm512_store_si512(two ? to[1][k] : to[0][THIN_HALF + k], thin_high(thin_rest(a), thin_rest(b)));
    }
}

/* 32 columns of `rows` (up to THIN_PART) rows; added to those before, if there are. */
VEC_INLINE void thin_grad_columns(const ot_thin *t, ot_bf16 (*turned)[2][THIN_TILE][TILES_STEP], const ot_bf16 *x, const uint32_t *mask, int64_t rows, float *dw,
                                  bool add, const bool two) {
    uint32_t pairs[TILES_UNITS][TILES_WIDE] __attribute__((aligned(64)));
    float sums[THIN_TILE][TILES_WIDE] __attribute__((aligned(64)));
    _tile_zero(0);
    _tile_zero(1);
    for (int64_t row = 0; row < rows; row += TILES_STEP) {
        for (int64_t u = 0; u < TILES_UNITS; u++) {
            int64_t a = row + 2 * u, b = a + 1;
            __m512i even = a < rows ? thin_masked(x + a * t->n, mask == NULL ? NULL : mask + a * OT_THIN_WORDS(t->n)) : _mm512_setzero_si512();
            __m512i odd = b < rows ? thin_masked(x + b * t->n, mask == NULL ? NULL : mask + b * OT_THIN_WORDS(t->n)) : _mm512_setzero_si512();
            tiles_pair(even, odd, pairs[u]);
            __builtin_prefetch(x + a * t->n + 2 * TILES_STEP); /* beyond what is there it does nothing */
            __builtin_prefetch(x + b * t->n + 2 * TILES_STEP);
        }
        __asm__ volatile("" ::: "memory");
        _tile_loadd(4, turned[row / TILES_STEP][0], 64);
        _tile_loadd(6, pairs[0], 128);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, pairs[0] + 16, 128);
        _tile_dpbf16ps(1, 4, 7);
        if (!two) continue;
        _tile_loadd(5, turned[row / TILES_STEP][1], 64);
        _tile_dpbf16ps(0, 5, 6);
        _tile_dpbf16ps(1, 5, 7);
    }
    _tile_stored(0, sums[0], 128);
    _tile_stored(1, sums[0] + 16, 128);
    __asm__ volatile("" ::: "memory");
    for (int64_t k = 0; k < t->r; k++)
        for (int i = 0; i < TILES_WIDE; i += LANES) {
            vf sum = vf_load(sums[k] + i);
            if (add) sum += vf_load(dw + k * t->ld + i);
            if (!two) sum += vf_load(sums[THIN_HALF + k] + i);
            vf_store(dw + k * t->ld + i, sum);
        }
}

static void amx_thin_grad(const ot_thin *t, const float *z, ot_span x, const uint32_t *mask, int64_t rows, float *dw) {
    if (!thin_by_tiles(t, x, rows)) {
        thin_grad(t, z, x, mask, rows, dw);
        return;
    }
    ot_bf16 turned[THIN_PART / TILES_STEP][2][THIN_TILE][TILES_STEP] __attribute__((aligned(64)));
    tiles_begin();
    for (int64_t first = 0; first < rows; first += THIN_PART) {
        int64_t n = rows - first < THIN_PART ? rows - first : THIN_PART;
        for (int64_t row = 0; row < n; row += TILES_STEP)
            thin_turn(t, z + (first + row) * t->r, mask == NULL ? 1.0F : t->factor, n - row, turned[row / TILES_STEP]);
        for (int64_t c = 0; c < t->n; c += TILES_STEP) {
            const ot_bf16 *from = (const ot_bf16 *)x.x + first * t->n + c;
            const uint32_t *kept = mask == NULL ? NULL : mask + first * OT_THIN_WORDS(t->n) + c / TILES_STEP;
            if (t->r > THIN_HALF) thin_grad_columns(t, turned, from, kept, n, dw + c, first > 0, true);
            else thin_grad_columns(t, turned, from, kept, n, dw + c, first > 0, false);
        }
    }
    _tile_release();
}

#endif
