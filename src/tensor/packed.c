#include "tensor/packed.h"

#include <math.h>

#include "base/mem.h"
#include "tensor/blocks.h"

int64_t ot_packed_row_bytes(ot_dtype dtype, int64_t cols) { return dtype == OT_INT4G ? (cols + 1) / 2 : cols; }

int64_t ot_packed_row_groups(int64_t cols, int64_t group) { return (cols + group - 1) / group; }

static float scale_at(const void *scales, int64_t i) {
    ot_bf16 half;
    memcpy(&half, (const char *)scales + i * (int64_t)sizeof half, sizeof half);
    return ot_bf16_to_f32(half);
}

void ot_packed_decode(ot_dtype dtype, const void *codes, const void *scales, int64_t group, int64_t first, int64_t n, float *dst) {
    const ot_row_kernels *table = ot_row_kernels_get();
    const uint8_t *bytes = codes;
    for (int64_t at = first; at < first + n;) {
        int64_t end = (at / group + 1) * group;
        if (end > first + n) end = first + n;
        float scale = scale_at(scales, at / group), *to = dst + (at - first);
        if (dtype == OT_INT8G) {
            table->scaled_int8(bytes + at, scale, to, end - at);
        } else if (at % 2 == 0) {
            table->scaled_int4(bytes + at / 2, scale, to, end - at);
        } else { /* a run or a part that begins in the middle of a byte */
            to[0] = (float)((bytes[at / 2] >> 4) - 8) * scale;
            table->scaled_int4(bytes + at / 2 + 1, scale, to + 1, end - at - 1);
        }
        at = end;
    }
}

void ot_packed_decode_all(ot_dtype dtype, const void *codes, const void *scales, int64_t group, int64_t rows, int64_t cols, float *dst) {
    int64_t row_bytes = ot_packed_row_bytes(dtype, cols), groups = ot_packed_row_groups(cols, group);
    for (int64_t r = 0; r < rows; r++) {
        ot_packed_decode(dtype, (const char *)codes + r * row_bytes, (const char *)scales + r * groups * 2, group, 0, cols, dst + r * cols);
    }
}

/* ==== Encoding. ==== */

typedef struct code_range {
    int low, high;
} code_range;

static int code_of(float value, float scale, code_range range) {
    if (scale == 0.0F) return 0;
    float code = nearbyintf(value / scale);
    if (!(code > (float)range.low)) return range.low; /* NaN too */
    return code < (float)range.high ? (int)code : range.high;
}

static double squared_error(const float *w, int64_t n, float scale, code_range range) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        float code = scale == 0.0F ? 0.0F : nearbyintf(w[i] / scale);
        code = code < (float)range.low ? (float)range.low : code > (float)range.high ? (float)range.high : code;
        float rest = w[i] - code * scale;
        sum += (double)(rest * rest);
    }
    return sum;
}

/* The value of largest magnitude (the first of equals) goes to the end of the range that is one longer; cutting it off a little makes the other
 * values finer. */
static float best_scale(const float *w, int64_t n, ot_dtype dtype, code_range range) {
    float extreme = 0.0F, best = 0.0F;
    double least = INFINITY;
    for (int64_t i = 0; i < n; i++) {
        if (fabsf(w[i]) > fabsf(extreme)) extreme = w[i];
    }
    int tries = dtype == OT_INT4G ? 12 : 1;
    for (int t = 0; t < tries; t++) {
        float scale = ot_bf16_to_f32(ot_f32_to_bf16(extreme / (float)range.low * (1.0F - 0.04F * (float)(t - 2 * (tries > 1)))));
        double error = squared_error(w, n, scale, range);
        if (error < least) {
            least = error;
            best = scale;
        }
    }
    return best;
}

void ot_packed_encode(ot_dtype dtype, const float *src, int64_t group, int64_t rows, int64_t cols, void *codes, void *scales) {
    code_range range = dtype == OT_INT4G ? (code_range){-8, 7} : (code_range){-127, 127};
    int64_t row_bytes = ot_packed_row_bytes(dtype, cols), groups = ot_packed_row_groups(cols, group);
    for (int64_t r = 0; r < rows; r++) {
        const float *w = src + r * cols;
        uint8_t *to = (uint8_t *)codes + r * row_bytes;
        memset(to, 0, (size_t)row_bytes);
        for (int64_t g = 0; g < groups; g++) {
            int64_t first = g * group, n = cols - first < group ? cols - first : group;
            float scale = best_scale(w + first, n, dtype, range);
            ot_bf16 half = ot_f32_to_bf16(scale);
            memcpy((char *)scales + (r * groups + g) * 2, &half, sizeof half);
            for (int64_t i = first; i < first + n; i++) {
                int code = code_of(w[i], scale, range);
                if (dtype == OT_INT8G) {
                    to[i] = (uint8_t)(int8_t)code;
                } else {
                    to[i / 2] = (uint8_t)(to[i / 2] | (unsigned)(code + 8) << (i % 2 == 0 ? 0 : 4));
                }
            }
        }
    }
}
