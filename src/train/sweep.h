/* The two sweeps over all trained values that every step makes, for the widest vectors of this processor. The arithmetic is the same for
 * each (no fused multiply-add), so results do not depend on the machine. */
#ifndef OT_TRAIN_SWEEP_H
#define OT_TRAIN_SWEEP_H

#include <stdint.h>

#include "tensor/dtype.h"

typedef struct ot_adamw_constants {
    float scale;          /* of the gradient: clipping */
    float beta1, beta2;
    float rest1, rest2;   /* 1 - beta */
    float keep;           /* 1 - lr * decay */
    float rate;           /* lr / (1 - beta1^t) */
    float root;           /* sqrt(1 - beta2^t) */
    float eps;
} ot_adamw_constants;

typedef struct ot_sweeps {
    /* w, m, v [n] are updated, g [n] is read and cleared, half [n] (NULL: none) gets w as bf16. */
    void (*adamw)(float *w, float *g, float *m, float *v, ot_bf16 *half, int64_t n, const ot_adamw_constants *c);
    /* Sum of squares in double, in a fixed order; n is a multiple of 16. */
    double (*squares)(const float *g, int64_t n);
} ot_sweeps;

const ot_sweeps *ot_sweeps_best(void);

#endif
