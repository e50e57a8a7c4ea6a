/* The builder: collects values and operations in forward order. It checks nothing about shapes; kernels are told the shapes. */
#include <stdlib.h>

#include "engine/plan_internal.h"
#include "tensor/packed.h"

void ot_slot_read(const ot_slot *s, float *out) {
    if (ot_dtype_is_packed(s->dtype)) {
        ot_packed_decode_all(s->dtype, s->data, s->scales, s->group, s->rows, s->cols, out);
    } else {
        ot_decode_f32(s->dtype, s->data, out, s->rows * s->cols);
    }
}

ot_builder *ot_builder_new(const ot_plan_options *options, ot_error *err) {
    ot_builder *b = calloc(1, sizeof *b);
    if (b == NULL) {
        ot_fail_memory(err, sizeof *b, "a plan");
        return NULL;
    }
    b->options = *options;
    b->block = -1;
    return b;
}

void ot_builder_free(ot_builder *b) {
    if (b == NULL) return;
    free(b->values);
    free(b->ops);
    free(b);
}

const ot_plan_options *ot_builder_options(const ot_builder *b) { return &b->options; }

int32_t ot_build_value(ot_builder *b, ot_space space, ot_dtype dtype, int64_t cols) {
    if (ot_grow((void **)&b->values, &b->cap_values, b->n_values + 1, sizeof *b->values, "a plan", &b->error) != OT_OK) {
        b->failed = true;
        return 0;
    }
    b->values[b->n_values] = (plan_value){.dtype = dtype,
                                          .space = space,
                                          .cols = cols,
                                          .store = {OT_NO_BUFFER, OT_NO_BUFFER},
                                          .grad = OT_NO_BUFFER};
    return (int32_t)b->n_values++;
}

int32_t ot_build_like(ot_builder *b, int32_t value, ot_dtype dtype, int64_t cols) {
    return ot_build_value(b, b->failed ? OT_SPACE_ROWS : b->values[value].space, dtype, cols);
}

int64_t ot_build_cols(const ot_builder *b, int32_t value) { return b->failed ? 0 : b->values[value].cols; }
ot_dtype ot_build_dtype(const ot_builder *b, int32_t value) { return b->failed ? OT_F32 : b->values[value].dtype; }

void ot_build_op(ot_builder *b, const ot_op_spec *spec) {
    if (b->failed) return;
    if (ot_grow((void **)&b->ops, &b->cap_ops, b->n_ops + 1, sizeof *b->ops, "a plan", &b->error) != OT_OK) {
        b->failed = true;
        return;
    }
    b->ops[b->n_ops++] = (plan_op){.spec = *spec, .block = b->block, .save = {OT_NO_BUFFER, OT_NO_BUFFER}};
}

void ot_build_block(ot_builder *b, int32_t block) { b->block = block; }

void ot_build_pin(ot_builder *b, int32_t value) {
    if (!b->failed) b->values[value].pinned = true;
}
