/* Sweeps over all trained values, compiled for several kinds of processors. The arithmetic is the same for each (no fused multiply-add), so
 * results do not depend on the machine. */
#ifndef OT_TRAIN_SWEEP_H
#define OT_TRAIN_SWEEP_H

#include <stdint.h>

/* X(name, attribute), the widest vectors last. A file with a sweep defines NAME_plain, ... with it, and calls the one at _variant. */
#if defined(__x86_64__)
#define OT_SWEEP_VARIANTS(X)                                                                                           \
    X(plain, )                                                                                                         \
    X(avx2, __attribute__((target("avx2"))))                                                                           \
    X(avx512, __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,prefer-vector-width=512"))))
#else
#define OT_SWEEP_VARIANTS(X) X(plain, )
#endif
#define OT_SWEEP_INLINE static inline __attribute__((always_inline))

/* Of this processor: an index into the list above. */
int ot_sweep_variant(void);

/* Sum of squares in double, in a fixed order; n is a multiple of 16. */
double ot_sweep_squares(const float *g, int64_t n);

#endif
