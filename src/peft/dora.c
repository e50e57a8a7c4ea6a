/* DoRA: y = m * (W x + scale * B A x) / norm + bias, the norm of each output's row of W + scale * B A, which counts as a constant in backward. Liu et al.
 * 2024; names, shapes, first values, and what dropout does as in PEFT. Its places are LoRA's (lora.c), each with magnitudes m. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "peft/lora.h"
#include "peft/methods.h"

enum { PART_M = 2 }; /* after LoRA's A and B */

static int64_t count(const ot_desc *desc, const ot_spec_step *step, int64_t blocks) { return ot_lora_count(desc, step, blocks, 1); }

ot_status ot_dora_add(ot_peft_part *s, int32_t block, ot_role role, ot_lora_place *place, ot_error *err) {
    const ot_model *m = s->whole->model;
    if (ot_model_slot(m, role, block, false) == NULL) {
        return ot_fail(err, OT_ERR_REFUSED, "--peft: dora needs the norms of a whole matrix, and block %d of %s holds its linears as two factors: use lora", block, m->path);
    }
    return ot_peft_add(s, block, role, PART_M, 1, 1, ot_desc_shape(&m->desc, role).out, &place->m, err);
}

static void emit(ot_builder *b, ot_op_kind kind, ot_op_attr attr, const int32_t in[2], int32_t out, const ot_slot *const w[OT_OP_WEIGHTS]) {
    ot_build_op(b, &(ot_op_spec){.kind = kind, .attr = attr, .in = {in[0], in[1], OT_NO_VALUE}, .out = out, .w = {w[0], w[1], w[2], w[3], w[4]}});
}

/* As in PEFT, dropout is on what the scaled product reads, W x too, and not on the model's own: y = W x + bias + l + (g - 1) (W x' + l), l of x'. That is
 * a second product with W in training; without dropout the model's own serves. */
int32_t ot_dora_hook(void *context, ot_builder *b, int32_t item, ot_role role, int32_t x, int32_t y) {
    const ot_peft_part *s = context;
    const ot_model *m = s->whole->model;
    const ot_lora_place *place = ot_lora_place_of(s, item, role);
    if (place->a == NULL) return y;
    bool conv1d = m->desc.conv1d;
    const ot_slot *weight = ot_model_slot(m, role, item, false), *bias = ot_model_slot(m, role, item, true);
    int32_t dropped = ot_peft_dropout(b, ot_lora_dropout(s), item, role, x), apart = OT_NO_VALUE;
    if (dropped != x) {
        apart = ot_build_like(b, y, ot_build_dtype(b, y), ot_build_cols(b, y));
        emit(b, OT_OP_LINEAR, (ot_op_attr){.linear = {.transposed = conv1d, .scale = 1.0F}}, (const int32_t[]){dropped, OT_NO_VALUE}, apart,
             (const ot_slot *const[OT_OP_WEIGHTS]){weight});
        ot_peft_low_rank(b, 0, item, role, dropped, place->a, place->b, place->scale, apart);
        bias = NULL;
    }
    ot_peft_low_rank(b, 0, item, role, dropped, place->a, place->b, place->scale, y);
    int32_t out = ot_build_like(b, y, ot_build_dtype(b, y), ot_build_cols(b, y));
    emit(b, OT_OP_MAGNITUDE, (ot_op_attr){.magnitude = {.transposed = conv1d, .scale = (float)place->scale}}, (const int32_t[]){y, apart}, out,
         (const ot_slot *const[OT_OP_WEIGHTS]){&place->m->slot, bias, weight, &place->a->slot, &place->b->slot});
    return out;
}

static ot_status attach(ot_peft_part *s, ot_error *err) {
    OT_TRY(ot_lora_attach(s, err));
    s->hooks.linear = ot_dora_hook;
    return OT_OK;
}

/* m: the norms of W's rows, so that the model starts as it is. */
static ot_status initialise(const ot_peft_part *s, const ot_peft_tensor *t, ot_rng *rng, float *values, ot_error *err) {
    if (t->part != PART_M) return ot_lora_initialise(s, t, rng, values, err);
    const ot_model *m = s->whole->model;
    const ot_slot *w = ot_model_slot(m, t->role, t->block, false);
    int64_t in = ot_desc_shape(&m->desc, t->role).in, out = t->slot.cols;
    float *weight = NULL;
    if (w->data == NULL) return OT_OK; /* a configuration alone, for plans and counts */
    OT_TRY(ot_malloc(w->rows * w->cols, (int64_t)sizeof *weight, "a decoded matrix", (void **)&weight, err));
    ot_slot_read(w, weight);
    for (int64_t o = 0; o < out; o++) {
        double square = 0;
        for (int64_t i = 0; i < in; i++) {
            double v = (double)weight[m->desc.conv1d ? i * out + o : o * in + i];
            square += v * v;
        }
        values[o] = (float)sqrt(square);
    }
    ot_free(weight);
    return OT_OK;
}

/* "transformer.h.0.attn.c_attn.lora_magnitude_vector" */
static ot_status name(const ot_peft_part *s, const ot_peft_tensor *t, int64_t block, char out[OT_PARAM_NAME], ot_error *err) {
    if (t->part != PART_M) return ot_lora_name(s, t, block, out, err);
    char weight[OT_PARAM_NAME];
    OT_TRY(ot_param_name(s->whole->model->desc.arch, t->role, block, false, weight, err));
    int n = snprintf(out, OT_PARAM_NAME, "%.*s.lora_magnitude_vector", (int)(strlen(weight) - strlen(".weight")), weight);
    return n < OT_PARAM_NAME ? OT_OK : ot_fail(err, OT_ERR_FORMAT, "the name of parameter %s is too long", weight);
}

const ot_peft_method ot_peft_dora = {
    .spec = {.name = "dora", .help = "LoRA whose result is scaled to a trained norm for each output, in the tuned blocks", .keys = ot_lora_keys},
    .place = OT_PEFT_UPDATE,
    .check = ot_lora_check,
    .count = count,
    .attach = attach,
    .initialise = initialise,
    .name = name,
    .merges = true,
};
