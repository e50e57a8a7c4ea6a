/* Private to src/tensor: the byte layout of the quantised blocks and the tables of row kernels. Blocks are structs of bytes, so
 * they have no padding and no alignment; every size is checked against the public dtype table. */
#ifndef OT_TENSOR_BLOCKS_H
#define OT_TENSOR_BLOCKS_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#include "tensor/dtype.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the file formats are little-endian and are read in place: this program runs on little-endian machines only"
#endif

enum { QK = 32, QK_K = 256 };

/* Halves are stored as two bytes, low byte first. */
typedef struct ot_half_bytes {
    uint8_t byte[2];
} ot_half_bytes;

/* x = d * (q - 8); the low nibbles hold elements 0..15, the high ones 16..31 */
typedef struct ot_block_q4_0 {
    ot_half_bytes d;
    uint8_t q[QK / 2];
} ot_block_q4_0;
/* x = d * q + m */
typedef struct ot_block_q4_1 {
    ot_half_bytes d, m;
    uint8_t q[QK / 2];
} ot_block_q4_1;
/* x = d * (q - 16); bit i of high is bit 4 of element i */
typedef struct ot_block_q5_0 {
    ot_half_bytes d;
    uint8_t high[QK / 8];
    uint8_t q[QK / 2];
} ot_block_q5_0;
/* x = d * q + m */
typedef struct ot_block_q5_1 {
    ot_half_bytes d, m;
    uint8_t high[QK / 8];
    uint8_t q[QK / 2];
} ot_block_q5_1;
/* x = d * q */
typedef struct ot_block_q8_0 {
    ot_half_bytes d;
    int8_t q[QK];
} ot_block_q8_0;
/* 16 groups of 16; a scale byte holds a 4-bit scale (low) and a 4-bit minimum (high): x = d * scale * q - dmin * min */
typedef struct ot_block_q2_k {
    uint8_t scales[QK_K / 16];
    uint8_t q[QK_K / 4];
    ot_half_bytes d, dmin;
} ot_block_q2_k;
/* 16 groups of 16 with 6-bit signed scales: x = d * scale * (q - 4), bit 2 of q in `high` */
typedef struct ot_block_q3_k {
    uint8_t high[QK_K / 8];
    uint8_t q[QK_K / 4];
    uint8_t scales[12];
    ot_half_bytes d;
} ot_block_q3_k;
/* 8 groups of 32 with 6-bit scales and minima: x = d * scale * q - dmin * min */
typedef struct ot_block_q4_k {
    ot_half_bytes d, dmin;
    uint8_t scales[12];
    uint8_t q[QK_K / 2];
} ot_block_q4_k;
typedef struct ot_block_q5_k {
    ot_half_bytes d, dmin;
    uint8_t scales[12];
    uint8_t high[QK_K / 8];
    uint8_t q[QK_K / 2];
} ot_block_q5_k;
/* 16 groups of 16 with 8-bit signed scales: x = d * scale * (q - 32) */
typedef struct ot_block_q6_k {
    uint8_t low[QK_K / 2];
    uint8_t high[QK_K / 4];
    int8_t scales[QK_K / 16];
    ot_half_bytes d;
} ot_block_q6_k;

/* The bytes column of the public table, as constants: OT_BLOCK_BYTES_Q4_0 and so on. */
enum {
#define OT_BLOCK_CONSTANTS(name, st, gguf, elements, bytes) OT_BLOCK_BYTES_##name = bytes, OT_BLOCK_ELEMENTS_##name = elements,
    OT_DTYPE_MAP(OT_BLOCK_CONSTANTS)
#undef OT_BLOCK_CONSTANTS
};
#define OT_BLOCK_CHECK(type, NAME, count)                                                                              \
    static_assert((int)sizeof(type) == (int)OT_BLOCK_BYTES_##NAME && _Alignof(type) == 1 &&                            \
                      (int)(count) == (int)OT_BLOCK_ELEMENTS_##NAME,                                                   \
                  #type " does not match the dtype table")
OT_BLOCK_CHECK(ot_block_q4_0, Q4_0, QK);
OT_BLOCK_CHECK(ot_block_q4_1, Q4_1, QK);
OT_BLOCK_CHECK(ot_block_q5_0, Q5_0, QK);
OT_BLOCK_CHECK(ot_block_q5_1, Q5_1, QK);
OT_BLOCK_CHECK(ot_block_q8_0, Q8_0, QK);
OT_BLOCK_CHECK(ot_block_q2_k, Q2_K, QK_K);
OT_BLOCK_CHECK(ot_block_q3_k, Q3_K, QK_K);
OT_BLOCK_CHECK(ot_block_q4_k, Q4_K, QK_K);
OT_BLOCK_CHECK(ot_block_q5_k, Q5_K, QK_K);
OT_BLOCK_CHECK(ot_block_q6_k, Q6_K, QK_K);

/* n is a multiple of the block in all of them. */
typedef void ot_decode_fn(const uint8_t *src, float *dst, int64_t n);
typedef void ot_encode_fn(const float *src, uint8_t *dst, int64_t n);

/* Row kernels by dtype; NULL where there is none. */
typedef struct ot_row_kernels {
    ot_decode_fn *decode[OT_DTYPE_COUNT];
    /* Codes of one scale, see packed.h. INT4G: n values from an even element on. */
    void (*scaled_int8)(const uint8_t *codes, float scale, float *dst, int64_t n);
    void (*scaled_int4)(const uint8_t *codes, float scale, float *dst, int64_t n);
    ot_encode_fn *encode_bf16, *encode_f16;
} ot_row_kernels;

/* The fastest set that this processor runs. */
const ot_row_kernels *ot_row_kernels_get(void);
/* Set `index` of those that this processor runs, slowest first; NULL past the last. */
const ot_row_kernels *ot_row_kernels_at(int index);

#endif
