/* Owns decoding to f32 and encoding from f32: the dispatch over dtypes, the plain conversions, and the reference quantisers
 * Q8_0, Q4_0 and Q4_1. */
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "tensor/blocks.h"
#include "tensor/half.h"

#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#endif

/* One value of a plain type at any alignment. */
#define DECODE_PLAIN(type)                                                                                             \
    for (int64_t i = 0; i < n; i++) {                                                                                  \
        type v;                                                                                                        \
        memcpy(&v, bytes + i * (int64_t)sizeof v, sizeof v);                                                           \
        dst[i] = (float)v;                                                                                             \
    }

void ot_decode_f32(ot_dtype dtype, const void *src, float *dst, int64_t n) {
    const uint8_t *bytes = src;
    if (n <= 0) return;
    switch (dtype) {
    case OT_F32:
        memcpy(dst, src, (size_t)n * sizeof *dst);
        break;
    case OT_F64:
        DECODE_PLAIN(double)
        break;
    case OT_I64:
        DECODE_PLAIN(int64_t)
        break;
    case OT_I32:
        DECODE_PLAIN(int32_t)
        break;
    case OT_I16:
        DECODE_PLAIN(int16_t)
        break;
    case OT_I8:
        DECODE_PLAIN(int8_t)
        break;
    case OT_U8:
    case OT_BOOL:
        DECODE_PLAIN(uint8_t)
        break;
    default:
        ot_row_kernels_get()->decode[dtype](bytes, dst, n);
        break;
    }
}

/* (int)v for lo <= v <= hi; anything else, NaN included, goes to the nearer bound (NaN to lo). */
static int clamp_to_int(float v, int lo, int hi) {
    if (!(v > (float)lo)) return lo;
    return v < (float)hi ? (int)v : hi;
}

/* roundf for |v| < 2^31, ties away from zero; v - whole is exact. (roundf itself is a call on the baseline.) */
OT_INLINE int round_to_int(float v) {
    int whole = (int)v;
    float rest = v - (float)whole;
    return whole + (rest >= 0.5F) - (rest <= -0.5F);
}

static ot_half_bytes half_bytes(float f) {
    uint16_t h = half_from_f32(f);
    return (ot_half_bytes){{(uint8_t)(h & 0xFFU), (uint8_t)(h >> 8)}};
}

/* Symmetric: the largest magnitude becomes +-127; ties round away from zero. */
static void encode_q8_0(const float *src, uint8_t *dst, int64_t n) {
    ot_block_q8_0 *b = (ot_block_q8_0 *)dst;
    for (int64_t i = 0; i < n; i += QK, b++, src += QK) {
        float largest = 0.0F;
        for (int j = 0; j < QK; j++) {
            float a = fabsf(src[j]);
            largest = a > largest ? a : largest;
        }
        float d = largest / 127.0F, inverse = d != 0.0F ? 1.0F / d : 0.0F;
        b->d = half_bytes(d);
        for (int j = 0; j < QK; j++) {
            float v = src[j] * inverse;
            v = v > -127.0F ? v : -127.0F; /* NaN too */
            b->q[j] = (int8_t)round_to_int(v < 127.0F ? v : 127.0F);
        }
    }
}

/* The element of largest magnitude, the first of equals, becomes code 0, that is -8 steps. */
static void encode_q4_0(const float *src, uint8_t *dst, int64_t n) {
    ot_block_q4_0 *b = (ot_block_q4_0 *)dst;
    for (int64_t i = 0; i < n; i += QK, b++, src += QK) {
        float largest = 0.0F, extreme = 0.0F;
        for (int j = 0; j < QK; j++) {
            if (fabsf(src[j]) > largest) {
                largest = fabsf(src[j]);
                extreme = src[j];
            }
        }
        float d = extreme / -8.0F, inverse = d != 0.0F ? 1.0F / d : 0.0F;
        b->d = half_bytes(d);
        for (int j = 0; j < QK / 2; j++) {
            int low = clamp_to_int(src[j] * inverse + 8.5F, 0, 15), high = clamp_to_int(src[j + QK / 2] * inverse + 8.5F, 0, 15);
            b->q[j] = (uint8_t)(low | high << 4);
        }
    }
}

/* Affine from the block's minimum to its maximum in 15 steps. */
static void encode_q4_1(const float *src, uint8_t *dst, int64_t n) {
    ot_block_q4_1 *b = (ot_block_q4_1 *)dst;
    for (int64_t i = 0; i < n; i += QK, b++, src += QK) {
        float min = src[0], max = src[0];
        for (int j = 1; j < QK; j++) {
            min = src[j] < min ? src[j] : min;
            max = src[j] > max ? src[j] : max;
        }
        float d = (max - min) / 15.0F, inverse = d != 0.0F ? 1.0F / d : 0.0F;
        b->d = half_bytes(d);
        b->m = half_bytes(min);
        for (int j = 0; j < QK / 2; j++) {
            int low = clamp_to_int((src[j] - min) * inverse + 0.5F, 0, 15);
            int high = clamp_to_int((src[j + QK / 2] - min) * inverse + 0.5F, 0, 15);
            b->q[j] = (uint8_t)(low | high << 4);
        }
    }
}

bool ot_encode_f32(ot_dtype dtype, const float *src, void *dst, int64_t n) {
    uint8_t *bytes = dst;
    if (n < 0 || n % ot_dtype_info(dtype)->block_elements != 0) return false;
    switch (dtype) {
    case OT_F32:
        if (n > 0) memcpy(dst, src, (size_t)n * sizeof *src);
        return true;
    case OT_F64:
        for (int64_t i = 0; i < n; i++) {
            double v = (double)src[i];
            memcpy(bytes + i * (int64_t)sizeof v, &v, sizeof v);
        }
        return true;
    case OT_BF16:
        ot_row_kernels_get()->encode_bf16(src, bytes, n);
        return true;
    case OT_F16:
        ot_row_kernels_get()->encode_f16(src, bytes, n);
        return true;
    case OT_Q8_0:
        encode_q8_0(src, bytes, n);
        return true;
    case OT_Q4_0:
        encode_q4_0(src, bytes, n);
        return true;
    case OT_Q4_1:
        encode_q4_1(src, bytes, n);
        return true;
    default:
        return false;
    }
}
