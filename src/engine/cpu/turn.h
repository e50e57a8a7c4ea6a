/* Matrices of 32-bit units turned over, by 4 by 4 blocks. Included after vec.h. */
#ifndef OT_ENGINE_CPU_TURN_H
#define OT_ENGINE_CPU_TURN_H

#include "engine/cpu/vec.h"

typedef int32_t quad __attribute__((vector_size(16)));

/* out [cols][out_stride] = in [rows][in_stride], rows and cols multiples of 4. */
VEC_INLINE void turn_units(const void *in, int64_t in_stride, void *out, int64_t out_stride, int64_t rows, int64_t cols) {
    const char *from = in;
    char *to = out;
    for (int64_t r = 0; r < rows; r += 4) {
        for (int64_t c = 0; c < cols; c += 4) {
            quad a[4], b[4], t[4];
            for (int i = 0; i < 4; i++) memcpy(&a[i], from + ((r + i) * in_stride + c) * 4, sizeof a[i]);
            b[0] = __builtin_shufflevector(a[0], a[1], 0, 4, 1, 5);
            b[1] = __builtin_shufflevector(a[0], a[1], 2, 6, 3, 7);
            b[2] = __builtin_shufflevector(a[2], a[3], 0, 4, 1, 5);
            b[3] = __builtin_shufflevector(a[2], a[3], 2, 6, 3, 7);
            t[0] = __builtin_shufflevector(b[0], b[2], 0, 1, 4, 5);
            t[1] = __builtin_shufflevector(b[0], b[2], 2, 3, 6, 7);
            t[2] = __builtin_shufflevector(b[1], b[3], 0, 1, 4, 5);
            t[3] = __builtin_shufflevector(b[1], b[3], 2, 3, 6, 7);
            for (int i = 0; i < 4; i++) memcpy(to + ((c + i) * out_stride + r) * 4, &t[i], sizeof t[i]);
        }
    }
}

/* y [cols][ld] = x [rows][stride] */
static void turn_floats(const float *x, int64_t stride, int64_t rows, int64_t cols, float *y, int64_t ld) {
    int64_t whole = rows / 4 * 4, wide = cols / 4 * 4;
    turn_units(x, stride, y, ld, whole, wide);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = r < whole ? wide : 0; c < cols; c++) y[c * ld + r] = x[r * stride + c];
}

#endif
