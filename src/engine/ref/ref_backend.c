/* Reference backend: its two tables. The kernels are the same; what differs is the dtype of values (see ref.h). */
#include "engine/ref/ref.h"

static bool always(void) { return true; }
static bool supports_float(ot_dtype compute) { return compute == OT_F32 || compute == OT_BF16; }
static bool supports_double(ot_dtype compute) { return compute == OT_F64; }

/* X(kind, name of the kernels) for every operation with a backward; KEEP, PATCHES and GIVEN have none. */
#define KERNEL_MAP(X)                                                                                                  \
    X(OT_OP_EMBED, embed)                                                                                              \
    X(OT_OP_POSITION, position)                                                                                        \
    X(OT_OP_NORM, norm)                                                                                                \
    X(OT_OP_LINEAR, linear)                                                                                            \
    X(OT_OP_ROPE, rope)                                                                                                \
    X(OT_OP_ATTENTION, attention)                                                                                      \
    X(OT_OP_ACT, act)                                                                                                  \
    X(OT_OP_GATE, gate)                                                                                                \
    X(OT_OP_ADD, add)                                                                                                  \
    X(OT_OP_SCALE, scale)                                                                                              \
    X(OT_OP_DROPOUT, dropout)                                                                                          \
    X(OT_OP_GATHER, gather)                                                                                            \
    X(OT_OP_CLASS, class)                                                                                              \
    X(OT_OP_POOL, pool)                                                                                                \
    X(OT_OP_HEAD_LOSS, head_loss)                                                                                      \
    X(OT_OP_DISTANCE, distance)                                                                                        \
    X(OT_OP_DIVERGENCE, divergence)                                                                                    \
    X(OT_OP_LOW_RANK, low_rank)                                                                                        \
    X(OT_OP_MAGNITUDE, magnitude)
#define FORWARD(kind, name) [kind] = ot_ref_##name##_forward,
#define BACKWARD(kind, name) [kind] = ot_ref_##name##_backward,

const ot_backend ot_backend_ref = {
    .name = "ref",
    .help = "plain C on one core: slow, the yardstick of the other backends",
    .available = always,
    .supports = supports_float,
    .scratch = ot_ref_scratch,
    .forward = {KERNEL_MAP(FORWARD)[OT_OP_KEEP] = ot_ref_keep_forward, [OT_OP_PATCHES] = ot_ref_patches_forward, [OT_OP_GIVEN] = ot_ref_given_forward},
    .backward = {KERNEL_MAP(BACKWARD)},
};

const ot_backend ot_backend_ref64 = {
    .name = "ref64",
    .help = "the reference with values, vectors and gradients in double",
    .available = always,
    .supports = supports_double,
    .scratch = ot_ref_scratch,
    .forward = {KERNEL_MAP(FORWARD)[OT_OP_KEEP] = ot_ref_keep_forward, [OT_OP_PATCHES] = ot_ref_patches_forward, [OT_OP_GIVEN] = ot_ref_given_forward},
    .backward = {KERNEL_MAP(BACKWARD)},
};
