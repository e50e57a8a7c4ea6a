/* Owns the row kernels: the same C loops compiled for the baseline and, on x86-64, for AVX2, chosen at run time so that one
 * binary runs everywhere. */
#include <stddef.h>
#include <string.h>

#include "tensor/blocks.h"
#include "tensor/half.h"

/* Older clang cannot ask for F16C at run time; it compiles the baseline alone. */
#if defined(__x86_64__) && (!defined(__clang__) || __clang_major__ >= 18)
#define OT_ROWS_AVX2 1
#include <immintrin.h>
#endif

#ifdef __clang__
/* aarch64 and -march=native have fused multiply-add; clang would contract d * q + m and change the last bit. gcc does not in
 * ISO mode. */
#pragma STDC FP_CONTRACT OFF
#endif

/* gcc unrolls short loops of constant length before it vectorises them, and then vectorises the remains badly. */
#if defined(__GNUC__) && !defined(__clang__)
#define KEEP_LOOP _Pragma("GCC unroll 1")
#else
#define KEEP_LOOP
#endif

OT_INLINE uint16_t load_u16(const uint8_t *p) {
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

OT_INLINE void store_u16(uint8_t *p, uint16_t v) {
    memcpy(p, &v, sizeof v);
}

OT_INLINE uint32_t load_u32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

OT_INLINE float load_half(const ot_half_bytes *h) { return half_to_f32(load_u16(h->byte)); }

/* Q4_K and Q5_K pack eight 6-bit scales and eight 6-bit minima into 12 bytes: groups 0..3 lie whole in bytes 0..3 and 4..7,
 * whose two top bits are the top bits of groups 4..7; the nibbles of bytes 8..11 are the rest of those.
 * packed (12) -> scales (8), mins (8) */
OT_INLINE void split_scales(const uint8_t *packed, float d, float dmin, float *scales, float *mins) {
    for (int g = 0; g < 4; g++) {
        const uint8_t *p = packed + g;
        scales[g] = d * (float)(p[0] & 63);
        mins[g] = dmin * (float)(p[4] & 63);
        scales[g + 4] = d * (float)((p[8] & 15) | (p[0] >> 6) << 4);
        mins[g + 4] = dmin * (float)(p[8] >> 4 | (p[4] >> 6) << 4);
    }
}

/* q: 32 bytes of four 2-bit codes -> codes (4, 32) */
OT_INLINE void split_pairs(const uint8_t *restrict q, uint8_t *restrict codes) {
    KEEP_LOOP
    for (int l = 0; l < 32; l++) {
        codes[l] = q[l] & 3;
        codes[l + 32] = (q[l] >> 2) & 3;
        codes[l + 64] = (q[l] >> 4) & 3;
        codes[l + 96] = q[l] >> 6;
    }
}

/* q: 32 bytes of two 4-bit codes -> codes (2, 32) */
OT_INLINE void split_nibbles(const uint8_t *restrict q, uint8_t *restrict codes) {
    KEEP_LOOP
    for (int l = 0; l < 32; l++) {
        codes[l] = q[l] & 15;
        codes[l + 32] = q[l] >> 4;
    }
}

/* codes (8, 32): row r gains `value` where bit r of high (32) is set */
OT_INLINE void add_high_bits(const uint8_t *restrict high, uint8_t value, uint8_t *restrict codes) {
    for (int row = 0; row < 8; row++, codes += 32) {
        uint8_t mask = (uint8_t)(1U << row);
        KEEP_LOOP
        for (int l = 0; l < 32; l++) codes[l] = (uint8_t)(codes[l] | ((high[l] & mask) ? value : 0));
    }
}

#define KERNEL(name) name##_baseline
#define KERNEL_TARGET
#define KERNEL_F16C 0
#include "tensor/row_kernels.h"
#undef KERNEL
#undef KERNEL_TARGET
#undef KERNEL_F16C

#ifdef OT_ROWS_AVX2
#define KERNEL(name) name##_avx2
#define KERNEL_TARGET __attribute__((target("avx2,f16c")))
#define KERNEL_F16C 1
#include "tensor/row_kernels.h"
#undef KERNEL
#undef KERNEL_TARGET
#undef KERNEL_F16C
#endif

static bool runs_avx2(void) {
#ifdef OT_ROWS_AVX2
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c");
#else
    return false;
#endif
}

const ot_row_kernels *ot_row_kernels_at(int index) {
    if (index == 0) return &kernels_baseline;
#ifdef OT_ROWS_AVX2
    if (index == 1 && runs_avx2()) return &kernels_avx2;
#endif
    return NULL;
}

const ot_row_kernels *ot_row_kernels_get(void) { return ot_row_kernels_at(runs_avx2() ? 1 : 0); }
