/* What the three files of the plan share: builder, compiler, runner. */
#ifndef OT_ENGINE_PLAN_INTERNAL_H
#define OT_ENGINE_PLAN_INTERNAL_H

#include "base/mem.h"
#include "engine/plan.h"

enum { OT_NO_BUFFER = -1 };

typedef struct plan_value {
    ot_dtype dtype;
    ot_space space;
    int64_t cols;
    bool pinned;
    bool has_grad;
    int32_t store[2]; /* buffer of the value for forward entries [0] and for recompute/backward entries [1] */
    int32_t grad;     /* buffer of the gradient */
} plan_value;

typedef struct plan_op {
    ot_op_spec spec;
    int32_t block;
    int32_t save[2]; /* as plan_value.store */
    bool backward;   /* has a backward entry */
    bool add_dx[OT_OP_INPUTS];
    bool want_dx[OT_OP_INPUTS];
} plan_op;

typedef struct plan_entry {
    int32_t op;
    ot_phase phase;
} plan_entry;

/* A stretch of the activation arena, live during trace entries [first, last]. */
typedef struct plan_buffer {
    int64_t bytes, offset;
    int32_t first, last;
    bool kept;
} plan_buffer;

struct ot_builder {
    ot_plan_options options;
    plan_value *values;
    int64_t n_values, cap_values;
    plan_op *ops;
    int64_t n_ops, cap_ops;
    int32_t block;
    ot_error error;
    bool failed;
};

struct ot_plan {
    ot_plan_options options;
    plan_value *values;
    int64_t n_values;
    plan_op *ops;
    int64_t n_ops;
    plan_entry *trace;
    int64_t n_trace;
    plan_buffer *buffers;
    int64_t n_buffers, cap_buffers;
    int64_t arena_bytes, kept_bytes;
    size_t scratch_bytes;
    uint8_t *arena, *kept, *scratch;
};

int64_t ot_plan_space_rows(const ot_plan_options *options, ot_space space);
/* How many entries from t on are one call of a kernel: low-rank products that read the same value, so that it is read once. */
int64_t ot_plan_together(const ot_plan *plan, int64_t t);
/* Fill calls[0 .. ot_plan_together) for the entries from t on, each pointing to the next. */
void ot_plan_make_calls(const ot_plan *plan, int64_t t, ot_batch *batch, ot_call calls[OT_OP_TOGETHER]);
/* Fill a call for one trace entry. Pointers are NULL while the plan is not allocated, but gradients that are wanted are marked by
 * a non-NULL dx/dw so that a backend can size its scratch. */
void ot_plan_make_call(const ot_plan *plan, const plan_entry *entry, ot_batch *batch, ot_call *call);

#endif
