/* Python's random.Random(seed) and its sample(): MT19937. Few-shot examples are drawn with it, so that prompts equal the harness's. */
#ifndef OT_TASK_PYTHON_RANDOM_H
#define OT_TASK_PYTHON_RANDOM_H

#include "base/mem.h"

typedef struct ot_python_random {
    uint32_t state[624];
    int next;
} ot_python_random;

void ot_python_random_seed(ot_python_random *r, uint32_t seed);
uint32_t ot_python_random_u32(ot_python_random *r);
/* sample(range(n), k) into out[k]; 0 <= k <= n. */
ot_status ot_python_random_sample(ot_python_random *r, int64_t n, int64_t k, int64_t *out, ot_error *err);

#endif
