#include "train/sweep.h"

int ot_sweep_variant(void) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq")) {
        return 2;
    }
    if (__builtin_cpu_supports("avx2")) return 1;
#endif
    return 0;
}

/* 16 lanes whatever the vectors, so that the order of additions is one and the same. */
OT_SWEEP_INLINE double squares_body(const float *restrict g, int64_t n) {
    double lanes[16] = {0};
    for (int64_t i = 0; i < n; i += 16) {
        for (int k = 0; k < 16; k++) lanes[k] += (double)g[i + k] * (double)g[i + k];
    }
    for (int width = 8; width > 0; width /= 2) {
        for (int k = 0; k < width; k++) lanes[k] += lanes[k + width];
    }
    return lanes[0];
}

#define SQUARES(name, attribute)                                                                                       \
    attribute static double squares_##name(const float *g, int64_t n) { return squares_body(g, n); }
OT_SWEEP_VARIANTS(SQUARES)

double ot_sweep_squares(const float *g, int64_t n) {
#define ENTRY(name, attribute) squares_##name,
    static double (*const variants[])(const float *, int64_t) = {OT_SWEEP_VARIANTS(ENTRY)};
#undef ENTRY
    return variants[ot_sweep_variant()](g, n);
}
