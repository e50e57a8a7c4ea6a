/* Element types, plain and block-quantised, in one table of traits; and tensor views over bytes that somebody else owns. */
#ifndef OT_TENSOR_DTYPE_H
#define OT_TENSOR_DTYPE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/error.h"

/* X(name, safetensors name or NULL, GGUF type number or -1, elements a block, bytes a block) */
#define OT_DTYPE_MAP(X)                                                                                                \
    X(F32, "F32", 0, 1, 4)                                                                                             \
    X(F64, "F64", 28, 1, 8)                                                                                            \
    X(BF16, "BF16", 30, 1, 2)                                                                                          \
    X(F16, "F16", 1, 1, 2)                                                                                             \
    X(I64, "I64", 27, 1, 8)                                                                                            \
    X(I32, "I32", 26, 1, 4)                                                                                            \
    X(I16, "I16", 25, 1, 2)                                                                                            \
    X(I8, "I8", 24, 1, 1)                                                                                              \
    X(U8, "U8", -1, 1, 1)                                                                                              \
    X(BOOL, "BOOL", -1, 1, 1)                                                                                          \
    X(Q4_0, NULL, 2, 32, 18)                                                                                           \
    X(Q4_1, NULL, 3, 32, 20)                                                                                           \
    X(Q5_0, NULL, 6, 32, 22)                                                                                           \
    X(Q5_1, NULL, 7, 32, 24)                                                                                           \
    X(Q8_0, NULL, 8, 32, 34)                                                                                           \
    X(Q2_K, NULL, 10, 256, 84)                                                                                         \
    X(Q3_K, NULL, 11, 256, 110)                                                                                        \
    X(Q4_K, NULL, 12, 256, 144)                                                                                        \
    X(Q5_K, NULL, 13, 256, 176)                                                                                        \
    X(Q6_K, NULL, 14, 256, 210)                                                                                        \
    X(INT8G, NULL, -1, 1, 1)                                                                                           \
    X(INT4G, NULL, -1, 2, 1)

typedef enum ot_dtype {
#define OT_DTYPE_ENUM(name, st, gguf, elements, bytes) OT_##name,
    OT_DTYPE_MAP(OT_DTYPE_ENUM)
#undef OT_DTYPE_ENUM
        OT_DTYPE_COUNT
} ot_dtype;

typedef struct ot_dtype_traits {
    const char *name;             /* "F32", "Q4_0" */
    const char *safetensors_name; /* NULL: not storable in safetensors */
    int32_t gguf_type;            /* -1: not in GGUF */
    int32_t block_elements, block_bytes;
} ot_dtype_traits;

const ot_dtype_traits *ot_dtype_info(ot_dtype dtype);
bool ot_dtype_from_safetensors(const char *name, ot_dtype *out);
bool ot_dtype_from_gguf(int64_t type, ot_dtype *out);
/* "f32", "bf16", "f16" and the names transformers uses ("float32", "bfloat16", "float16"); case does not matter. */
bool ot_dtype_from_user(const char *name, ot_dtype *out);
bool ot_dtype_is_float(ot_dtype dtype);     /* F32, F64, BF16, F16 */
bool ot_dtype_is_quantised(ot_dtype dtype); /* blocks of several elements with their scales inside */
bool ot_dtype_is_packed(ot_dtype dtype);    /* INT8G, INT4G: codes whose scales lie apart, see tensor/packed.h */
/* Bytes of n elements; false when n is no multiple of the block or the product overflows. */
bool ot_dtype_bytes(ot_dtype dtype, int64_t n, int64_t *bytes);

/* bf16 <-> f32: to bf16 rounds to nearest even, NaN stays NaN. */
typedef uint16_t ot_bf16;
static inline float ot_bf16_to_f32(ot_bf16 h) {
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}
static inline ot_bf16 ot_f32_to_bf16(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    if ((u & 0x7FFFFFFFU) > 0x7F800000U) return (ot_bf16)((u >> 16) | 0x40U);
    return (ot_bf16)((u + 0x7FFFU + ((u >> 16) & 1U)) >> 16);
}
float ot_f16_to_f32(uint16_t h);
uint16_t ot_f32_to_f16(float f); /* nearest even; too large becomes infinity */

/* Decode n elements (a multiple of the block) of any float or quantised dtype, but not of a packed one, to f32. src need not be aligned. */
void ot_decode_f32(ot_dtype dtype, const void *src, float *dst, int64_t n);
/* Encode n f32 values; only F32, F64, BF16, F16, Q8_0, Q4_0, Q4_1 have encoders (false otherwise). */
bool ot_encode_f32(ot_dtype dtype, const float *src, void *dst, int64_t n);

enum { OT_MAX_DIMS = 6 };

/* A named tensor in PyTorch order (row-major, slowest first) over bytes owned by a file map or a buffer. */
typedef struct ot_tensor {
    const char *name;
    ot_dtype dtype;
    int32_t n_dims;
    int64_t shape[OT_MAX_DIMS];
    int64_t bytes;
    const void *data; /* may be unaligned when it lies in a file */
} ot_tensor;

/* Product of the dimensions (1 for a scalar). The shape was checked when the tensor was read. */
int64_t ot_tensor_elements(const ot_tensor *t);
/* "[2, 3]" into text. */
const char *ot_shape_text(const int64_t *shape, int32_t n_dims, char *text, size_t size);

#endif
