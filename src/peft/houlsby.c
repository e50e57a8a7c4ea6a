/* Houlsby adapters: a bottleneck of two small linears after the attention's output projection and after the second MLP linear, before the
 * residual addition: y + dropout(up(relu(down(y)))). Houlsby et al. 2019. */
#include <stdio.h>

#include "peft/methods.h"

enum { PLACES = 2, DOWN_WEIGHT = 0, DOWN_BIAS, UP_WEIGHT, UP_BIAS, PARTS };

static const ot_role roles[PLACES] = {OT_ROLE_O, OT_ROLE_DOWN};
static const char *const places[PLACES] = {"attn", "mlp"};
static const char *const parts[PARTS] = {"down.weight", "down.bias", "up.weight", "up.bias"};

typedef struct bottleneck {
    ot_peft_tensor *parts[PARTS];
} bottleneck;

static int place_of(ot_role role) { return role == OT_ROLE_O ? 0 : role == OT_ROLE_DOWN ? 1 : -1; }

static int64_t width_of(const ot_spec_step *step) { return (int64_t)ot_spec_get(step, &ot_peft_houlsby.spec, "width")->number; }

static int64_t count(const ot_desc *desc, const ot_spec_step *step, int64_t blocks) {
    int64_t width = width_of(step);
    return blocks * PLACES * (2 * desc->hidden_size * width + width + desc->hidden_size);
}

static int32_t hook(void *context, ot_builder *b, int32_t item, ot_role role, int32_t x, int32_t y) {
    const ot_peft_part *s = context;
    const bottleneck *all = s->state;
    int place = place_of(role);
    (void)x;
    if (place < 0 || all[item * PLACES + place].parts[DOWN_WEIGHT] == NULL) return y;
    ot_peft_tensor *const *t = all[item * PLACES + place].parts;
    int32_t down = ot_peft_linear(b, y, t[DOWN_WEIGHT], t[DOWN_BIAS]);
    int32_t bent = ot_build_like(b, down, ot_build_dtype(b, down), ot_build_cols(b, down));
    ot_build_op(b, &(ot_op_spec){
                       .kind = OT_OP_ACT, .attr = {.act = {.kind = OT_ACT_RELU}}, .in = {down, OT_NO_VALUE, OT_NO_VALUE}, .out = bent});
    int32_t up = ot_peft_linear(b, bent, t[UP_WEIGHT], t[UP_BIAS]);
    up = ot_peft_dropout(b, ot_spec_get(s->step, &ot_peft_houlsby.spec, "dropout")->number, item, role, up);
    int32_t sum = ot_build_like(b, y, ot_build_dtype(b, y), ot_build_cols(b, y));
    ot_build_op(b, &(ot_op_spec){.kind = OT_OP_ADD, .in = {y, up, OT_NO_VALUE}, .out = sum});
    return sum;
}

static ot_status attach(ot_peft_part *s, ot_error *err) {
    ot_peft *p = s->whole;
    const ot_desc *desc = &p->model->desc;
    int64_t width = width_of(s->step), size = desc->hidden_size;
    bottleneck *all = ot_arena_alloc(&p->arena, desc->layers * PLACES * (int64_t)sizeof *all, err);
    if (all == NULL) return OT_ERR_MEMORY;
    s->state = all;
    s->hooks = (ot_hooks){.context = s, .linear = hook};
    for (int32_t block = 0; block < desc->layers; block++) {
        for (int32_t k = 0; k < PLACES && p->tuned[block]; k++) {
            ot_peft_tensor **t = all[block * PLACES + k].parts;
            OT_TRY(ot_peft_add(s, block, roles[k], DOWN_WEIGHT, 2, width, size, &t[DOWN_WEIGHT], err));
            OT_TRY(ot_peft_add(s, block, roles[k], DOWN_BIAS, 1, 1, width, &t[DOWN_BIAS], err));
            OT_TRY(ot_peft_add(s, block, roles[k], UP_WEIGHT, 2, size, width, &t[UP_WEIGHT], err));
            OT_TRY(ot_peft_add(s, block, roles[k], UP_BIAS, 1, 1, size, &t[UP_BIAS], err));
        }
    }
    return OT_OK;
}

/* Up and both biases stay zero, so that the model starts as it is. */
static ot_status initialise(const ot_peft_part *s, const ot_peft_tensor *t, ot_rng *rng, float *values, ot_error *err) {
    (void)err;
    (void)s;
    if (t->part == DOWN_WEIGHT) ot_peft_uniform(t, rng, values);
    return OT_OK;
}

/* "3.attn.down.weight" */
static ot_status name(const ot_peft_part *s, const ot_peft_tensor *t, int64_t block, char out[OT_PARAM_NAME], ot_error *err) {
    (void)s;
    (void)err;
    snprintf(out, OT_PARAM_NAME, "%lld.%s.%s", (long long)block, t->role == OT_ROLE_O ? places[0] : places[1], parts[t->part]);
    return OT_OK;
}

const ot_peft_method ot_peft_houlsby = {
    .spec = {.name = "houlsby",
             .help = "bottlenecks after the attention and the MLP of the tuned blocks",
             .keys = (const ot_spec_key[]){{"width", OT_SPEC_INTEGER, "64", 1, 65536, "of the bottleneck"},
                                           {"dropout", OT_SPEC_NUMBER, "0.1", 0, 0.99, "on what the bottleneck adds, in training"},
                                           {0}}},
    .place = OT_PEFT_BOTTLENECKS,
    .count = count,
    .attach = attach,
    .initialise = initialise,
    .name = name,
};
