/* CPU backend, internal: the kernels of its table, scratch memory, and rows in the type that is multiplied. */
#ifndef OT_ENGINE_CPU_CPU_H
#define OT_ENGINE_CPU_CPU_H

#include "base/parallel.h"
#include "engine/cpu/kernels.h"
#include "engine/op.h"

/* ==== Scratch: a layout is computed twice, for the size and, with the call's memory, for the pointers ==== */

typedef struct ot_cpu_work {
    char *base; /* NULL: only measuring */
    int64_t bytes;
} ot_cpu_work;

static inline void *ot_cpu_take(ot_cpu_work *work, int64_t bytes) {
    void *p = work->base ? work->base + work->bytes : NULL;
    work->bytes += (bytes + 63) / 64 * 64;
    return p;
}

/* After the layout was taken from the call's scratch and before the memory is used. */
ot_status ot_cpu_check_work(const ot_call *call, const ot_cpu_work *work);

/* ==== Views and weights as spans ==== */

static inline ot_span ot_span_x(const ot_view *view) { return (ot_span){view->x, view->dtype}; }
static inline ot_span ot_span_dx(const ot_view *view) { return (ot_span){view->dx, view->dtype}; }
static inline int64_t ot_chunks(int64_t n, int64_t each) { return (n + each - 1) / each; }

/* to[0 .. n) = elements [col, col + n) of row `row` of a weight of any dtype (col and n whole blocks). Calls nothing parallel. */
void ot_cpu_decode_part(const ot_cpu_kernels *table, const ot_weight *w, int64_t row, int64_t col, int64_t n, ot_span to);
/* The same in place where it lies as F32 or BF16, else decoded into `room` (n floats). */
ot_span ot_cpu_weight_part(const ot_weight *w, int64_t row, int64_t col, int64_t n, float *room);
/* Rows [first, first + rows) of w decoded to `to` [rows, cols], in parallel. */
void ot_cpu_decode(const ot_cpu_kernels *table, const ot_weight *w, int64_t first, int64_t rows, ot_span to);
/* y [n] = x, or += x, in parallel. */
void ot_cpu_copy(const ot_cpu_kernels *table, ot_span x, ot_span y, int64_t n, bool add);
/* sum [cols] += the sum of the rows of x [rows, cols], in parallel. */
void ot_cpu_column_sum(const ot_cpu_kernels *table, ot_span x, int64_t rows, int64_t cols, float *sum);

/* The mask of a site with 0 < p < 1. */
ot_dropout_mask ot_cpu_dropout_mask(const ot_batch *batch, float p, uint32_t site);

static inline int64_t ot_compute_bytes(ot_dtype dtype) { return dtype == OT_BF16 ? 2 : 4; }

/* ==== Kernels ==== */

int64_t ot_cpu_linear_scratch(const ot_call *call);
int64_t ot_cpu_low_rank_scratch(const ot_call *call);
int64_t ot_cpu_magnitude_scratch(const ot_call *call);
int64_t ot_cpu_head_loss_scratch(const ot_call *call);
int64_t ot_cpu_attention_scratch(const ot_call *call);
int64_t ot_cpu_norm_scratch(const ot_call *call);
int64_t ot_cpu_distance_scratch(const ot_call *call);
int64_t ot_cpu_divergence_scratch(const ot_call *call);

ot_kernel ot_cpu_embed_forward, ot_cpu_embed_backward;
ot_kernel ot_cpu_position_forward, ot_cpu_position_backward;
ot_kernel ot_cpu_norm_forward, ot_cpu_norm_backward;
ot_kernel ot_cpu_linear_forward, ot_cpu_linear_backward;
ot_kernel ot_cpu_low_rank_forward, ot_cpu_low_rank_backward;
ot_kernel ot_cpu_magnitude_forward, ot_cpu_magnitude_backward;
ot_kernel ot_cpu_rope_forward, ot_cpu_rope_backward;
ot_kernel ot_cpu_attention_forward, ot_cpu_attention_backward;
ot_kernel ot_cpu_act_forward, ot_cpu_act_backward;
ot_kernel ot_cpu_gate_forward, ot_cpu_gate_backward;
ot_kernel ot_cpu_add_forward, ot_cpu_add_backward;
ot_kernel ot_cpu_scale_forward, ot_cpu_scale_backward;
ot_kernel ot_cpu_dropout_forward, ot_cpu_dropout_backward;
ot_kernel ot_cpu_gather_forward, ot_cpu_gather_backward;
ot_kernel ot_cpu_keep_forward;
ot_kernel ot_cpu_patches_forward;
ot_kernel ot_cpu_class_forward, ot_cpu_class_backward;
ot_kernel ot_cpu_pool_forward, ot_cpu_pool_backward;
ot_kernel ot_cpu_head_loss_forward, ot_cpu_head_loss_backward;
ot_kernel ot_cpu_distance_forward, ot_cpu_distance_backward;
ot_kernel ot_cpu_divergence_forward, ot_cpu_divergence_backward;
ot_kernel ot_cpu_given_forward;

#endif
