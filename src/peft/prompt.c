/* Soft prompt: trained embeddings of virtual tokens, rows in front of every sequence. They pass through everything that words pass through, from the
 * first block on, with positions of their own. Lester et al. 2021; as PEFT's prompt tuning computes it. */
#include <stdio.h>

#include "peft/methods.h"

static int64_t tokens_of(const ot_spec_step *step) { return (int64_t)ot_spec_get(step, &ot_peft_prompt.spec, "tokens")->number; }

static ot_status check(const ot_desc *desc, const ot_spec_step *step, ot_error *err) {
    int64_t tokens = tokens_of(step);
    if (desc->vision) return ot_fail(err, OT_ERR_USAGE, "--peft: prompt: a model of pictures has no words that virtual tokens could stand in front of");
    if (desc->position != OT_POSITION_LEARNED || tokens + 2 <= desc->max_positions) return OT_OK;
    return ot_fail(err, OT_ERR_USAGE, "--peft: prompt: tokens=%lld leaves no room in the model's %lld positions", (long long)tokens,
                   (long long)desc->max_positions);
}

/* The same whatever is tuned: a prompt belongs to no block. */
static int64_t count(const ot_desc *desc, const ot_spec_step *step, int64_t blocks) {
    (void)blocks;
    return tokens_of(step) * desc->embed_size;
}

static ot_status attach(ot_peft_part *s, ot_error *err) {
    ot_peft_tensor *t = NULL;
    OT_TRY(ot_peft_add(s, -1, OT_ROLE_EMBED, 0, 2, tokens_of(s->step), s->whole->model->desc.embed_size, &t, err));
    s->hooks = (ot_hooks){.context = s, .virtual_tokens = &t->slot};
    return OT_OK;
}

/* Words drawn at random: the model knows what to do with those. A model without values (inspect's) leaves zeros. */
static ot_status initialise(const ot_peft_part *s, const ot_peft_tensor *t, ot_rng *rng, float *values, ot_error *err) {
    (void)err;
    const ot_slot *words = ot_model_slot(s->whole->model, OT_ROLE_EMBED, -1, false);
    for (int64_t k = 0; k < t->slot.rows && words->data != NULL; k++) {
        int64_t row = (int64_t)ot_rng_below(rng, (uint64_t)words->rows), bytes = 0;
        if (!ot_dtype_bytes(words->dtype, words->cols, &bytes)) break;
        ot_decode_f32(words->dtype, (const char *)words->data + row * bytes, values + k * t->slot.cols, words->cols);
    }
    return OT_OK;
}

/* PEFT's name for it, which says no block. */
static ot_status name(const ot_peft_part *s, const ot_peft_tensor *t, int64_t block, char out[OT_PARAM_NAME], ot_error *err) {
    (void)s;
    (void)t;
    (void)block;
    (void)err;
    snprintf(out, OT_PARAM_NAME, "prompt_embeddings");
    return OT_OK;
}

const ot_peft_method ot_peft_prompt = {
    .spec = {.name = "prompt",
             .help = "a soft prompt: embeddings of virtual tokens in front of every sequence",
             .keys = (const ot_spec_key[]){{"tokens", OT_SPEC_INTEGER, "5", 1, 65536, "virtual tokens"}, {0}}},
    .place = OT_PEFT_FRONT,
    .check = check,
    .count = count,
    .attach = attach,
    .initialise = initialise,
    .name = name,
};
