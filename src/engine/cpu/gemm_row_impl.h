/* A row of a product's tile, from its sums to C with scale, bias and rounding. */
#ifndef OT_ENGINE_CPU_GEMM_ROW_IMPL_H
#define OT_ENGINE_CPU_GEMM_ROW_IMPL_H

#include "engine/cpu/vec.h"

enum { GEMM_VECTORS = OT_GEMM_COLUMNS / LANES };

/* Columns [j, j + columns) of row i, columns <= OT_GEMM_COLUMNS; `first`: these sums are not of a later stretch of the depth. */
VEC_INLINE void gemm_store_row(const ot_gemm *g, bool first, int64_t i, int64_t j, int columns, const vf *sum) {
    ot_span c = ot_span_at((ot_span){g->c, g->c_type}, i * g->ldc + j);
#pragma GCC unroll 2
    for (int v = 0; v < GEMM_VECTORS; v++) {
        int n = columns - v * LANES < LANES ? columns - v * LANES : LANES;
        if (n <= 0) return;
        vf y = sum[v] * vf_set(g->alpha);
        if (g->bias && first) y += n == LANES ? vf_load(g->bias + j + v * LANES) : vf_load_n(g->bias + j + v * LANES, n);
        span_put(c, v * LANES, n, y, g->accumulate || !first);
    }
}

#endif
