/* The table of operation traits and the sizes of what forwards save: the facts that plan, backends and tests share. */
#include "engine/op.h"

#include <assert.h>

#define ALL_ATTENTION (OT_NEEDS_IN0 | OT_NEEDS_IN1 | OT_NEEDS_IN2 | OT_NEEDS_OUT)

static const ot_op_traits traits[] = {
    [OT_OP_EMBED] = {.name = "embed"},
    [OT_OP_POSITION] = {.name = "position", .inputs = 1},
    [OT_OP_NORM] = {.name = "norm", .inputs = 1, .needs_for_dx = OT_NEEDS_IN0, .needs_for_dw = OT_NEEDS_IN0},
    [OT_OP_LINEAR] = {.name = "linear", .inputs = 1, .needs_for_dw = OT_NEEDS_IN0},
    [OT_OP_ROPE] = {.name = "rope", .inputs = 1, .in_place = true},
    [OT_OP_ATTENTION] = {.name = "attention", .inputs = 3, .needs_for_dx = ALL_ATTENTION, .needs_for_dw = ALL_ATTENTION},
    [OT_OP_ACT] = {.name = "act", .inputs = 1, .needs_for_dx = OT_NEEDS_IN0},
    [OT_OP_GATE] = {.name = "gate", .inputs = 2, .needs_for_dx = OT_NEEDS_IN0 | OT_NEEDS_IN1},
    [OT_OP_ADD] = {.name = "add", .inputs = 2},
    [OT_OP_SCALE] = {.name = "scale", .inputs = 1, .needs_for_dw = OT_NEEDS_IN0},
    [OT_OP_DROPOUT] = {.name = "dropout", .inputs = 1},
    [OT_OP_GATHER] = {.name = "gather", .inputs = 1},
    [OT_OP_KEEP] = {.name = "keep", .inputs = 1},
    [OT_OP_PATCHES] = {.name = "patches"},
    [OT_OP_CLASS] = {.name = "class", .inputs = 1},
    [OT_OP_POOL] = {.name = "pool", .inputs = 1},
    [OT_OP_HEAD_LOSS] = {.name = "head_loss", .inputs = 1, .needs_for_dx = OT_NEEDS_IN0, .needs_for_dw = OT_NEEDS_IN0, .loss = true},
    [OT_OP_DISTANCE] = {.name = "distance", .inputs = 2, .needs_for_dx = OT_NEEDS_IN0 | OT_NEEDS_IN1, .loss = true},
    [OT_OP_DIVERGENCE] = {.name = "divergence", .inputs = 2, .needs_for_dx = OT_NEEDS_IN0 | OT_NEEDS_IN1, .needs_for_dw = OT_NEEDS_IN0 | OT_NEEDS_IN1, .loss = true},
    [OT_OP_GIVEN] = {.name = "given"},
    [OT_OP_LOW_RANK] = {.name = "low_rank", .inputs = 1, .needs_for_dw = OT_NEEDS_IN0},
    [OT_OP_MAGNITUDE] = {.name = "magnitude", .inputs = 2, .needs_for_dw = OT_NEEDS_IN0 | OT_NEEDS_IN1},
};
static_assert(sizeof traits / sizeof traits[0] == OT_OP_COUNT, "every operation has its traits");

const ot_op_traits *ot_op_info(ot_op_kind kind) { return &traits[kind]; }

static int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

static int64_t low_rank_bytes(const ot_op_attr *attr, int64_t rows) {
    int64_t r = up(attr->low_rank.r, 4), bits = attr->low_rank.p > 0 ? rows * up(attr->low_rank.M, 32) / 8 : 0;
    if (r == 0 || attr->low_rank.r > OT_LOW_RANK_KEPT) return 0;
    return up(rows * r * (int64_t)sizeof(float), 64) + up(r * up(attr->low_rank.N, 16) * (int64_t)sizeof(float), 64) + up(bits, 64);
}

int64_t ot_op_save_bytes(ot_op_kind kind, const ot_op_attr *attr, int64_t rows, int64_t cols, ot_dtype compute) {
    int64_t real = compute == OT_F64 ? (int64_t)sizeof(double) : (int64_t)sizeof(float);
    switch (kind) {
    case OT_OP_NORM: return rows * (cols / attr->norm.width) * 2 * real;
    case OT_OP_ATTENTION: return rows * attr->attention.heads * real;
    case OT_OP_MAGNITUDE: return cols * real;
    case OT_OP_LOW_RANK: return low_rank_bytes(attr, rows);
    default: return 0;
    }
}
