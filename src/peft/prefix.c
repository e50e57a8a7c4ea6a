/* Prefix-tuning: trained keys and values in front of the real ones, seen by every query, without rotation. Real tokens begin after them, also in
 * blocks that carry none. Li and Liang 2021; as PEFT computes it without a projection. */
#include <stdio.h>

#include "peft/methods.h"

enum { KEY, VALUE, PARTS };

typedef struct prefix_pair {
    ot_peft_tensor *parts[PARTS];
} prefix_pair;

static int64_t tokens_of(const ot_spec_step *step) { return (int64_t)ot_spec_get(step, &ot_peft_prefix.spec, "tokens")->number; }

static ot_status check(const ot_desc *desc, const ot_spec_step *step, ot_error *err) {
    int64_t tokens = tokens_of(step);
    /* Patches keep their places in a picture whatever stands in front. */
    if (desc->vision || desc->position != OT_POSITION_LEARNED || tokens + 2 <= desc->max_positions) return OT_OK;
    return ot_fail(err, OT_ERR_USAGE, "--peft: prefix: tokens=%lld leaves no room in the model's %lld positions", (long long)tokens,
                   (long long)desc->max_positions);
}

static int64_t count(const ot_desc *desc, const ot_spec_step *step, int64_t blocks) {
    return blocks * PARTS * tokens_of(step) * desc->kv_heads * desc->head_dim;
}

static int32_t hook(void *context, int32_t item, const ot_slot **keys, const ot_slot **values) {
    const ot_peft_part *s = context;
    const prefix_pair *pair = (const prefix_pair *)s->state + item;
    if (pair->parts[KEY] == NULL) return 0;
    *keys = &pair->parts[KEY]->slot;
    *values = &pair->parts[VALUE]->slot;
    return (int32_t)pair->parts[KEY]->slot.rows;
}

static ot_status attach(ot_peft_part *s, ot_error *err) {
    ot_peft *p = s->whole;
    const ot_desc *desc = &p->model->desc;
    int64_t tokens = tokens_of(s->step);
    prefix_pair *pairs = ot_arena_alloc(&p->arena, desc->layers * (int64_t)sizeof *pairs, err);
    if (pairs == NULL) return OT_ERR_MEMORY;
    s->state = pairs;
    s->hooks = (ot_hooks){.context = s, .prefix = hook, .position_shift = (int32_t)tokens};
    for (int32_t block = 0; block < desc->layers; block++) {
        for (int32_t part = 0; part < PARTS && p->tuned[block]; part++) {
            ot_peft_tensor **t = &pairs[block].parts[part];
            OT_TRY(ot_peft_add(s, block, OT_ROLE_K, part, 2, tokens, desc->kv_heads * desc->head_dim, t, err));
            /* The engine wants [tokens, columns]; files tell the heads apart. */
            (*t)->n_dims = 3;
            (*t)->shape[1] = desc->kv_heads;
            (*t)->shape[2] = desc->head_dim;
        }
    }
    return OT_OK;
}

static ot_status initialise(const ot_peft_part *s, const ot_peft_tensor *t, ot_rng *rng, float *values, ot_error *err) {
    (void)err;
    for (int64_t i = 0; i < t->slot.rows * t->slot.cols; i++) values[i] = (float)(s->whole->model->desc.initializer_range * ot_rng_normal(rng));
    return OT_OK;
}

/* "3.key" */
static ot_status name(const ot_peft_part *s, const ot_peft_tensor *t, int64_t block, char out[OT_PARAM_NAME], ot_error *err) {
    (void)s;
    (void)err;
    snprintf(out, OT_PARAM_NAME, "%lld.%s", (long long)block, t->part == KEY ? "key" : "value");
    return OT_OK;
}

const ot_peft_method ot_peft_prefix = {
    .spec = {.name = "prefix",
             .help = "keys and values in front of every sequence, in the attention of the tuned blocks",
             .keys = (const ot_spec_key[]){{"tokens", OT_SPEC_INTEGER, "20", 1, 65536, "virtual tokens"}, {0}}},
    .place = OT_PEFT_FRONT,
    .check = check,
    .count = count,
    .attach = attach,
    .initialise = initialise,
    .name = name,
};
