/* Operations and first values that the methods hooked into linears share. */
#include <math.h>

#include "peft/methods.h"

static uint32_t site_of(int32_t item, ot_role role) { return OT_PEFT_DROPOUT_SITES + (uint32_t)item * OT_ROLE_COUNT + (uint32_t)role; }

int32_t ot_peft_dropout(ot_builder *b, double p, int32_t item, ot_role role, int32_t x) {
    if (p <= 0 || !ot_builder_options(b)->train) return x;
    int32_t y = ot_build_like(b, x, ot_build_dtype(b, x), ot_build_cols(b, x));
    ot_build_op(b, &(ot_op_spec){.kind = OT_OP_DROPOUT,
                                 .attr = {.dropout = {.p = (float)p, .site = site_of(item, role)}},
                                 .in = {x, OT_NO_VALUE, OT_NO_VALUE},
                                 .out = y});
    return y;
}

int32_t ot_peft_linear(ot_builder *b, int32_t x, const ot_peft_tensor *w, const ot_peft_tensor *bias) {
    int32_t y = ot_build_like(b, x, ot_build_dtype(b, x), w->slot.rows);
    ot_build_op(b, &(ot_op_spec){.kind = OT_OP_LINEAR,
                                 .attr = {.linear = {.scale = 1.0F}},
                                 .in = {x, OT_NO_VALUE, OT_NO_VALUE},
                                 .out = y,
                                 .w = {&w->slot, bias == NULL ? NULL : &bias->slot}});
    return y;
}

void ot_peft_low_rank(ot_builder *b, double p, int32_t item, ot_role role, int32_t x, const ot_peft_tensor *down, const ot_peft_tensor *up, double scale,
                      int32_t into) {
    const ot_plan_options *options = ot_builder_options(b);
    ot_op_attr attr = {.low_rank = {.scale = (float)scale, .p = options->train ? (float)p : 0, .site = site_of(item, role)}};
    if (options->train && !options->recompute) {
        attr.low_rank.r = (int32_t)down->slot.rows;
        attr.low_rank.M = (int32_t)down->slot.cols;
        attr.low_rank.N = (int32_t)up->slot.rows;
    }
    ot_build_op(b, &(ot_op_spec){.kind = OT_OP_LOW_RANK,
                                 .attr = attr,
                                 .in = {x, OT_NO_VALUE, OT_NO_VALUE},
                                 .out = into,
                                 .w = {&down->slot, &up->slot}});
}

void ot_peft_uniform(const ot_peft_tensor *t, ot_rng *rng, float *values) {
    double bound = 1.0 / sqrt((double)t->slot.cols);
    for (int64_t i = 0; i < t->slot.rows * t->slot.cols; i++) values[i] = (float)((2.0 * ot_rng_uniform(rng) - 1.0) * bound);
}
