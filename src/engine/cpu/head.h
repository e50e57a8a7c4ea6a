/* HEAD_LOSS, what its two ways share: with a frozen head (head_frozen.c) and in general (head_loss.c). */
#ifndef OT_ENGINE_CPU_HEAD_H
#define OT_ENGINE_CPU_HEAD_H

#include "engine/cpu/cpu.h"

/* The type that is multiplied. */
ot_dtype ot_head_type(const ot_call *call);
/* Is the loss asked for by 16 sums, and in F32? bf16 logits have no digits that the order of a sum could change. */
bool ot_head_sums16(const ot_call *call);
/* Losses [L] into the batch: each, and their sum in order. */
void ot_head_report(const ot_call *call, const double *losses);

int64_t ot_cpu_head_frozen_scratch(const ot_call *call);
ot_status ot_cpu_head_frozen(const ot_call *call, bool gradients);

#endif
