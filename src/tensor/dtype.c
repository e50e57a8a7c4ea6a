/* Owns the table of element types, their names in the file formats, the exact 16-bit conversions of one value, and the
 * helpers of tensor views. Whole-row codecs live in codec.c and rows.c. */
#include "tensor/dtype.h"

#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <strings.h>

#include "base/mem.h"
#include "tensor/half.h"

static_assert(sizeof(float) == 4 && sizeof(double) == 8, "the formats store IEEE single and double precision");

static const ot_dtype_traits dtype_table[] = {
#define DTYPE_ROW(name, st, gguf, elements, bytes) {#name, st, gguf, elements, bytes},
    OT_DTYPE_MAP(DTYPE_ROW)
#undef DTYPE_ROW
};
static_assert(sizeof dtype_table / sizeof dtype_table[0] == OT_DTYPE_COUNT, "one row for each dtype");

const ot_dtype_traits *ot_dtype_info(ot_dtype dtype) { return &dtype_table[dtype]; }

bool ot_dtype_from_safetensors(const char *name, ot_dtype *out) {
    for (int i = 0; i < OT_DTYPE_COUNT; i++) {
        if (dtype_table[i].safetensors_name && strcmp(dtype_table[i].safetensors_name, name) == 0) {
            *out = (ot_dtype)i;
            return true;
        }
    }
    return false;
}

bool ot_dtype_from_gguf(int64_t type, ot_dtype *out) {
    for (int i = 0; i < OT_DTYPE_COUNT; i++) {
        if (type >= 0 && dtype_table[i].gguf_type == type) {
            *out = (ot_dtype)i;
            return true;
        }
    }
    return false;
}

bool ot_dtype_from_user(const char *name, ot_dtype *out) {
    static const struct {
        const char *name;
        ot_dtype dtype;
    } names[] = {{"f32", OT_F32},   {"float32", OT_F32}, {"bf16", OT_BF16}, {"bfloat16", OT_BF16},
                 {"f16", OT_F16}, {"float16", OT_F16}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcasecmp(name, names[i].name) == 0) {
            *out = names[i].dtype;
            return true;
        }
    }
    return false;
}

bool ot_dtype_is_float(ot_dtype dtype) { return dtype == OT_F32 || dtype == OT_F64 || dtype == OT_BF16 || dtype == OT_F16; }

bool ot_dtype_is_packed(ot_dtype dtype) { return dtype == OT_INT8G || dtype == OT_INT4G; }

bool ot_dtype_is_quantised(ot_dtype dtype) { return dtype_table[dtype].block_elements > 1 && !ot_dtype_is_packed(dtype); }

bool ot_dtype_bytes(ot_dtype dtype, int64_t n, int64_t *bytes) {
    const ot_dtype_traits *t = &dtype_table[dtype];
    if (n < 0 || n % t->block_elements != 0) return false;
    return ot_mul_i64(n / t->block_elements, t->block_bytes, bytes);
}

float ot_f16_to_f32(uint16_t h) { return half_to_f32(h); }

uint16_t ot_f32_to_f16(float f) { return half_from_f32(f); }

int64_t ot_tensor_elements(const ot_tensor *t) {
    int64_t n = 1;
    for (int32_t i = 0; i < t->n_dims; i++) n *= t->shape[i];
    return n;
}

const char *ot_shape_text(const int64_t *shape, int32_t n_dims, char *text, size_t size) {
    size_t used = 0;
    if (size == 0) return "";
    text[0] = '\0';
    for (int32_t i = 0; i <= n_dims && used < size; i++) {
        int k = i < n_dims ? snprintf(text + used, size - used, "%s%lld", i ? ", " : "[", (long long)shape[i])
                           : snprintf(text + used, size - used, "%s]", n_dims ? "" : "[");
        if (k < 0) break;
        used += (size_t)k;
    }
    return text;
}
