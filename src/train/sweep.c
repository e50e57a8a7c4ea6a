#include "train/sweep.h"

#include <math.h>
#include <stddef.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

ALWAYS_INLINE void adamw_body(float *restrict w, float *restrict g, float *restrict m, float *restrict v, ot_bf16 *restrict half, int64_t n,
                              const ot_adamw_constants *constants) {
    const ot_adamw_constants c = *constants;
    for (int64_t i = 0; i < n; i++) {
        float x = g[i] * c.scale;
        float mi = c.beta1 * m[i] + c.rest1 * x, vi = c.beta2 * v[i] + c.rest2 * x * x;
        m[i] = mi;
        v[i] = vi;
        g[i] = 0.0F;
        w[i] = w[i] * c.keep - c.rate * mi / (sqrtf(vi) / c.root + c.eps);
    }
    if (half == NULL) return;
    for (int64_t i = 0; i < n; i++) half[i] = ot_f32_to_bf16(w[i]);
}

/* 16 lanes whatever the vectors, so that the order of additions is one and the same. */
ALWAYS_INLINE double squares_body(const float *restrict g, int64_t n) {
    double lanes[16] = {0};
    for (int64_t i = 0; i < n; i += 16) {
        for (int k = 0; k < 16; k++) lanes[k] += (double)g[i + k] * (double)g[i + k];
    }
    for (int width = 8; width > 0; width /= 2) {
        for (int k = 0; k < width; k++) lanes[k] += lanes[k + width];
    }
    return lanes[0];
}

#define SWEEPS(name, attribute)                                                                                        \
    attribute static void adamw_##name(float *w, float *g, float *m, float *v, ot_bf16 *half, int64_t n,               \
                                       const ot_adamw_constants *c) {                                                  \
        adamw_body(w, g, m, v, half, n, c);                                                                            \
    }                                                                                                                  \
    attribute static double squares_##name(const float *g, int64_t n) { return squares_body(g, n); }                   \
    static const ot_sweeps sweeps_##name = {.adamw = adamw_##name, .squares = squares_##name};

SWEEPS(plain, )

#if defined(__x86_64__)
SWEEPS(avx2, __attribute__((target("avx2"))))
SWEEPS(avx512, __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,prefer-vector-width=512"))))
#endif

const ot_sweeps *ot_sweeps_best(void) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq")) {
        return &sweeps_avx512;
    }
    if (__builtin_cpu_supports("avx2")) return &sweeps_avx2;
#endif
    return &sweeps_plain;
}
