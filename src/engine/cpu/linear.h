/* LINEAR with a side in its products, as a LOW_RANK beside it wants; see linear.c and low_rank.c. */
#ifndef OT_ENGINE_CPU_LINEAR_H
#define OT_ENGINE_CPU_LINEAR_H

#include "engine/cpu/cpu.h"
#include "engine/cpu/gemm.h"

/* Can this LINEAR's products take a side of depth r along? The answer is the same forward and backward. */
bool ot_cpu_linear_takes_side(const ot_call *call, int64_t r);
int64_t ot_cpu_linear_side_scratch(const ot_call *call, bool backward, int64_t r);
/* y = x . W^T + bias + the side; dx = or += dy . W + the side, and the other gradients. A side of depth 0 is none. */
ot_status ot_cpu_linear_side_forward(const ot_call *call, const ot_gemm_side *side);
ot_status ot_cpu_linear_side_backward(const ot_call *call, const ot_gemm_side *side);

/* A LINEAR's call with a LOW_RANK beside it, in low_rank.c. */
bool ot_cpu_beside(const ot_call *linear, const ot_call *low_rank);
int64_t ot_cpu_beside_scratch(const ot_call *call);
ot_status ot_cpu_beside_run(const ot_call *call, bool backward);

#endif
