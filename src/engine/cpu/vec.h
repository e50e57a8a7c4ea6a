/* One float vector type for five instruction sets. A translation unit defines OT_ISA before including this file:
 *   OT_ISA_GENERIC  plain C in groups of four (any CPU)      OT_ISA_AVX2      AVX2, FMA, F16C
 *   OT_ISA_AVX512   AVX-512 F, BW, DQ, VL                    OT_ISA_AVX512BF  the same and AVX512_BF16
 *   OT_ISA_AMX      the same and AMX's tiles of bf16
 * Everything after this header in that unit is compiled for the set, up to OT_ISA_END. */
#ifndef OT_ENGINE_CPU_VEC_H
#define OT_ENGINE_CPU_VEC_H

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/parallel.h"
#include "engine/cpu/gemm.h"
#include "engine/cpu/kernels.h"
#include "engine/dropout.h"
#include "engine/op.h"
#include "tensor/dtype.h"

#define OT_ISA_GENERIC 0
#define OT_ISA_AVX2 1
#define OT_ISA_AVX512 2
#define OT_ISA_AVX512BF 3
#define OT_ISA_AMX 4

#if OT_ISA != OT_ISA_GENERIC
#include <immintrin.h>
#endif

#if OT_ISA == OT_ISA_AVX2
#define OT_ISA_TARGET "avx2,fma,f16c"
#elif OT_ISA == OT_ISA_AVX512
#define OT_ISA_TARGET "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl"
#elif OT_ISA == OT_ISA_AVX512BF
#define OT_ISA_TARGET "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16"
#elif OT_ISA == OT_ISA_AMX
#define OT_ISA_TARGET "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,amx-tile,amx-bf16"
#endif
#define OT_ISA_DO(text) _Pragma(#text)
#define OT_ISA_PRAGMA(...) OT_ISA_DO(__VA_ARGS__)
#if OT_ISA == OT_ISA_GENERIC
#define OT_ISA_END
#elif defined(__clang__)
OT_ISA_PRAGMA(clang attribute push(__attribute__((target(OT_ISA_TARGET))), apply_to = function))
#define OT_ISA_END _Pragma("clang attribute pop")
#else
#pragma GCC push_options
OT_ISA_PRAGMA(GCC target(OT_ISA_TARGET))
#define OT_ISA_END _Pragma("GCC pop_options")
#endif

#define VEC_INLINE static inline __attribute__((always_inline, unused))

/* ==== Types. Vectors of floats and of 32-bit integers with the operators of C. ==== */
#if OT_ISA >= OT_ISA_AVX512
enum { LANES = 16 };
typedef __m512 vf;
#elif OT_ISA == OT_ISA_AVX2
enum { LANES = 8 };
typedef __m256 vf;
#else
enum { LANES = 4 };
typedef float vf __attribute__((vector_size(16)));
#endif
typedef int32_t vi __attribute__((vector_size(LANES * 4)));
typedef uint32_t vu __attribute__((vector_size(LANES * 4)));
typedef uint16_t vh __attribute__((vector_size(LANES * 2)));

VEC_INLINE vf vf_set(float x) {
#if OT_ISA >= OT_ISA_AVX512
    return _mm512_set1_ps(x);
#elif OT_ISA == OT_ISA_AVX2
    return _mm256_set1_ps(x);
#else
    return (vf){x, x, x, x};
#endif
}

VEC_INLINE vf vf_zero(void) { return vf_set(0.0f); }

VEC_INLINE vf vf_load(const float *p) {
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}

VEC_INLINE void vf_store(float *p, vf v) { memcpy(p, &v, sizeof v); }

/* The first n (< LANES) elements; the others are zero. */
VEC_INLINE vf vf_load_n(const float *p, int n) {
#if OT_ISA >= OT_ISA_AVX512
    return _mm512_maskz_loadu_ps((__mmask16)((1U << n) - 1U), p);
#else
    vf v = vf_zero();
    memcpy(&v, p, (size_t)n * sizeof(float));
    return v;
#endif
}

VEC_INLINE void vf_store_n(float *p, vf v, int n) {
#if OT_ISA >= OT_ISA_AVX512
    _mm512_mask_storeu_ps(p, (__mmask16)((1U << n) - 1U), v);
#else
    memcpy(p, &v, (size_t)n * sizeof(float));
#endif
}

/* a * b + c, and c - a * b. */
VEC_INLINE vf vf_fma(vf a, vf b, vf c) {
#if OT_ISA >= OT_ISA_AVX512
    return _mm512_fmadd_ps(a, b, c);
#elif OT_ISA == OT_ISA_AVX2
    return _mm256_fmadd_ps(a, b, c);
#else
    return a * b + c;
#endif
}

VEC_INLINE vf vf_fnma(vf a, vf b, vf c) {
#if OT_ISA >= OT_ISA_AVX512
    return _mm512_fnmadd_ps(a, b, c);
#elif OT_ISA == OT_ISA_AVX2
    return _mm256_fnmadd_ps(a, b, c);
#else
    return c - a * b;
#endif
}

/* a < b ? x : y in every lane. */
VEC_INLINE vf vf_less(vf a, vf b, vf x, vf y) {
#if OT_ISA >= OT_ISA_AVX512
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
#elif OT_ISA == OT_ISA_AVX2
    return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
#else
    vi m = (vi)(a < b);
    return (vf)((m & (vi)x) | (~m & (vi)y));
#endif
}

/* x in lanes whose bit is set, else 0. */
VEC_INLINE vf vf_keep(vf x, uint32_t bits) {
#if OT_ISA >= OT_ISA_AVX512
    return _mm512_maskz_mov_ps((__mmask16)bits, x);
#else
    vi lane = {0};
    for (int i = 0; i < LANES; i++) lane[i] = 1 << i;
    vi m = (((vi){0} + (int32_t)bits) & lane) == lane;
    return (vf)(m & (vi)x);
#endif
}

VEC_INLINE vf vf_max(vf a, vf b) {
#if OT_ISA >= OT_ISA_AVX512
    return _mm512_max_ps(a, b);
#elif OT_ISA == OT_ISA_AVX2
    return _mm256_max_ps(a, b);
#else
    return vf_less(b, a, a, b);
#endif
}

VEC_INLINE vf vf_min(vf a, vf b) {
#if OT_ISA >= OT_ISA_AVX512
    return _mm512_min_ps(a, b);
#elif OT_ISA == OT_ISA_AVX2
    return _mm256_min_ps(a, b);
#else
    return vf_less(a, b, a, b);
#endif
}

VEC_INLINE vf vf_abs(vf x) { return (vf)((vi)x & 0x7FFFFFFF); }
/* The magnitude of x with the sign of s. */
VEC_INLINE vf vf_sign(vf x, vf s) { return (vf)(((vi)x & 0x7FFFFFFF) | ((vi)s & (int32_t)0x80000000)); }
VEC_INLINE vf vf_from_int(vi x) { return __builtin_convertvector(x, vf); }
VEC_INLINE vi vi_iota(void) {
    vi v;
    for (int i = 0; i < LANES; i++) v[i] = i;
    return v;
}

/* Sum and maximum of the lanes, in a fixed order: halves are folded. */
VEC_INLINE float vf_sum(vf v) {
#if OT_ISA >= OT_ISA_AVX512
    __m256 h = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
#elif OT_ISA == OT_ISA_AVX2
    __m256 h = v;
#endif
#if OT_ISA != OT_ISA_GENERIC
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
#else
    return (v[0] + v[2]) + (v[1] + v[3]);
#endif
}

/* out[i] = the sum of the lanes of v[i] */
VEC_INLINE void vf_sum4(const vf v[4], float out[4]) {
#if OT_ISA >= OT_ISA_AVX512
    __m512 a = _mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
    __m512 b = _mm512_add_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
    __m512 c = _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xEE));
    __m256 h = _mm256_add_ps(_mm512_castps512_ps256(c), _mm512_extractf32x8_ps(c, 1));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1)));
#elif OT_ISA == OT_ISA_AVX2
    __m256 h = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1)));
#else
    for (int i = 0; i < 4; i++) out[i] = vf_sum(v[i]);
#endif
}

VEC_INLINE float vf_top(vf v) {
    float m = v[0];
    for (int i = 1; i < LANES; i++) m = v[i] > m ? v[i] : m;
    return m;
}

/* ==== bf16. ==== */
VEC_INLINE vf vf_from_half(vh h) { return (vf)(__builtin_convertvector(h, vu) << 16); }

VEC_INLINE vf vf_load_bf16(const ot_bf16 *p) {
#if OT_ISA >= OT_ISA_AVX512
    return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p)), 16);
#elif OT_ISA == OT_ISA_AVX2
    return (vf)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)), 16);
#else
    vh h;
    memcpy(&h, p, sizeof h);
    return vf_from_half(h);
#endif
}

/* Round to nearest even; NaN stays NaN. (AVX512_BF16 flushes subnormal numbers to zero.) */
VEC_INLINE vh vf_to_half(vf v) {
#if OT_ISA >= OT_ISA_AVX512BF
    return (vh)_mm512_cvtneps_pbh(v);
#else
    vu u = (vu)v, r = (u + 0x7FFFU + ((u >> 16) & 1U)) >> 16, nan = (u >> 16) | 0x40U;
    vu is_nan = (vu)((u & 0x7FFFFFFFU) > 0x7F800000U);
    r = (is_nan & nan) | (~is_nan & r);
#if OT_ISA == OT_ISA_AVX512
    return (vh)_mm512_cvtepi32_epi16((__m512i)r);
#elif OT_ISA == OT_ISA_AVX2
    __m256i p = _mm256_permute4x64_epi64(_mm256_packus_epi32((__m256i)r, (__m256i)r), 0x08);
    return (vh)_mm256_castsi256_si128(p);
#else
    return __builtin_convertvector(r, vh);
#endif
#endif
}

VEC_INLINE void vf_store_bf16(ot_bf16 *p, vf v) {
    vh h = vf_to_half(v);
    memcpy(p, &h, sizeof h);
}

VEC_INLINE vf vf_load_bf16_n(const ot_bf16 *p, int n) {
    ot_bf16 t[LANES] = {0};
    memcpy(t, p, (size_t)n * sizeof *p);
    return vf_load_bf16(t);
}

VEC_INLINE void vf_store_bf16_n(ot_bf16 *p, vf v, int n) {
    vh h = vf_to_half(v);
    memcpy(p, &h, (size_t)n * sizeof *p);
}

/* ==== Values of either type: element i and the n - 1 after it (n <= LANES). ==== */
VEC_INLINE vf span_load(ot_span s, int64_t i, int n) {
    if (s.dtype == OT_F32) {
        const float *p = (const float *)s.x + i;
        return n == LANES ? vf_load(p) : vf_load_n(p, n);
    }
    const ot_bf16 *p = (const ot_bf16 *)s.x + i;
    return n == LANES ? vf_load_bf16(p) : vf_load_bf16_n(p, n);
}

VEC_INLINE void span_store(ot_span s, int64_t i, int n, vf v) {
    if (s.dtype == OT_F32) {
        float *p = (float *)s.x + i;
        if (n == LANES) vf_store(p, v);
        else vf_store_n(p, v, n);
    } else {
        ot_bf16 *p = (ot_bf16 *)s.x + i;
        if (n == LANES) vf_store_bf16(p, v);
        else vf_store_bf16_n(p, v, n);
    }
}

/* Overwrite or add, as the accumulation contract asks. */
VEC_INLINE void span_put(ot_span s, int64_t i, int n, vf v, bool add) {
    if (add) v += span_load(s, i, n);
    span_store(s, i, n, v);
}

VEC_INLINE int lanes_left(int64_t n, int64_t i) { return n - i < LANES ? (int)(n - i) : LANES; }

#endif
