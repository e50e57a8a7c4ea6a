/* A plan: a list of operations over values, turned into a trace of (operation, phase) with every value at a fixed offset, so that
 * memory is known exactly before anything is allocated and a run allocates nothing.
 *
 * Life: ot_builder_new -> values and operations are emitted in forward order -> ot_plan_compile (frees the builder) ->
 * ot_plan_memory -> ot_plan_allocate -> ot_plan_run as often as wanted -> ot_plan_free.
 *
 * The planner alone decides what is computed: which values carry a gradient (those between a trainable weight and the loss), whether a
 * gradient is written or added to, which forward values stay until backward, and which gradients share a buffer. */
#ifndef OT_ENGINE_PLAN_H
#define OT_ENGINE_PLAN_H

#include "base/error.h"
#include "engine/op.h"

/* A weight as the engine sees it. The owner (model or trainer) may change data, dtype and grad between runs, not during one.
 * `trainable` is read when the plan is compiled; a trainable slot needs grad (rows * cols of F32, F64 in an F64 plan) at run time. */
typedef struct ot_slot {
    const void *data;
    ot_dtype dtype;
    bool trainable;
    int64_t rows, cols; /* a vector has rows = 1 */
    void *grad;
    const void *scales; /* of a packed dtype (tensor/packed.h), NULL otherwise */
    int32_t group;
} ot_slot;

/* All rows * cols values as F32, whatever their dtype. */
void ot_slot_read(const ot_slot *s, float *out);

typedef enum ot_space {
    OT_SPACE_ROWS,    /* one row for each token of the batch */
    OT_SPACE_TARGETS, /* one row for each label */
    OT_SPACE_KEPT,    /* cache rows that survive from run to run */
} ot_space;

typedef struct ot_plan_options {
    const ot_backend *backend;
    ot_dtype compute; /* F32, BF16 or F64 */
    int64_t max_rows, max_targets, max_kept;
    bool train;     /* with backward */
    bool recompute; /* forget what lies inside a block after its forward and compute it again for its backward */
} ot_plan_options;

typedef struct ot_builder ot_builder;
typedef struct ot_plan ot_plan;
enum { OT_NO_VALUE = -1 };

typedef struct ot_op_spec {
    ot_op_kind kind;
    ot_op_attr attr;
    int32_t in[OT_OP_INPUTS]; /* value ids, OT_NO_VALUE where there is none */
    int32_t out;
    const ot_slot *w[OT_OP_WEIGHTS];
} ot_op_spec;

ot_builder *ot_builder_new(const ot_plan_options *options, ot_error *err);
void ot_builder_free(ot_builder *b);
const ot_plan_options *ot_builder_options(const ot_builder *b);
/* A new value id. Failures (memory) latch in the builder and are reported by ot_plan_compile. */
int32_t ot_build_value(ot_builder *b, ot_space space, ot_dtype dtype, int64_t cols);
/* A value in the same space as another. */
int32_t ot_build_like(ot_builder *b, int32_t value, ot_dtype dtype, int64_t cols);
int64_t ot_build_cols(const ot_builder *b, int32_t value);
ot_dtype ot_build_dtype(const ot_builder *b, int32_t value);
void ot_build_op(ot_builder *b, const ot_op_spec *spec);
/* The operations that follow belong to block `block` (for recompute and profiles); -1: to none. */
void ot_build_block(ot_builder *b, int32_t block);
/* Keep a value readable after the run. */
void ot_build_pin(ot_builder *b, int32_t value);

/* Consumes the builder, also on failure. */
ot_status ot_plan_compile(ot_builder *b, ot_plan **out, ot_error *err);
void ot_plan_free(ot_plan *plan);

typedef struct ot_plan_memory_info {
    int64_t activations; /* forward values, their gradients and what operations save */
    int64_t scratch;
    int64_t kept; /* key/value cache */
} ot_plan_memory_info;
void ot_plan_memory(const ot_plan *plan, ot_plan_memory_info *out);
ot_status ot_plan_allocate(ot_plan *plan, ot_error *err);

typedef enum ot_phase { OT_PHASE_FORWARD, OT_PHASE_RECOMPUTE, OT_PHASE_BACKWARD } ot_phase;

/* Time per trace entry, filled by ot_plan_run when given: seconds[i] += duration of entry i. */
typedef struct ot_profile {
    double *seconds; /* [ot_plan_trace_length] */
} ot_profile;
int64_t ot_plan_trace_length(const ot_plan *plan);

typedef struct ot_trace_info {
    ot_op_kind kind;
    ot_phase phase;
    int32_t block;
    int64_t rank; /* of a product: the smaller side of its matrix; else 0 */
    double flops, bytes; /* at the given counts, segments of equal length: arithmetic, and memory traffic if every operand moved once */
} ot_trace_info;
void ot_plan_trace_info(const ot_plan *plan, int64_t entry, int64_t rows, int64_t segments, int64_t targets, ot_trace_info *out);

/* Runs the whole trace on one batch. rows and n_targets must not exceed the plan's maxima. Weight gradients are added to the slots'
 * grad; the caller clears them. batch->loss_sum is set when the plan has a loss. */
ot_status ot_plan_run(ot_plan *plan, ot_batch *batch, ot_profile *profile, ot_error *err);

/* A pinned (or kept) value after a run: [rows of the run, cols]. */
const void *ot_plan_value(const ot_plan *plan, int32_t value);

#endif
