/* IA3: trained factors, one for each column, of keys, values and what the MLP's second linear reads. Liu et al. 2022; names, shapes and places as in
 * PEFT: a fused projection is scaled as a whole. */
#include "peft/ia3.h"

#include <stdio.h>
#include <string.h>

#include "peft/methods.h"

enum { AFTER, BEFORE };

typedef struct ia3_state {
    ot_peft_tensor **factors; /* [layers][OT_ROLE_COUNT], NULL: none */
} ia3_state;

static const ot_role roles[] = {OT_ROLE_QKV, OT_ROLE_K, OT_ROLE_V, OT_ROLE_DOWN};
enum { ROLES = sizeof roles / sizeof *roles };

static int64_t width(const ot_desc *desc, ot_role role, bool before) {
    ot_role_shape s = ot_desc_shape(desc, role);
    return !s.exists ? 0 : before ? s.in : s.out;
}

static int64_t count(const ot_desc *desc, const ot_spec_step *step, int64_t blocks) {
    int64_t n = 0;
    (void)step;
    for (int k = 0; k < ROLES; k++) n += width(desc, roles[k], roles[k] == OT_ROLE_DOWN);
    return blocks * n;
}

bool ot_ia3_before(const ot_peft_tensor *t) { return t->part == BEFORE; }

static ot_peft_tensor **place_of(const ot_peft_part *s, int32_t block, ot_role role) {
    const ia3_state *state = s->state;
    return &state->factors[(int64_t)block * OT_ROLE_COUNT + role];
}

static int32_t scaled(const ot_peft_part *s, ot_builder *b, int32_t block, ot_role role, int32_t x, int part) {
    const ot_peft_tensor *t = *place_of(s, block, role);
    if (t == NULL || t->part != part) return x;
    int32_t y = ot_build_like(b, x, ot_build_dtype(b, x), ot_build_cols(b, x));
    ot_build_op(b, &(ot_op_spec){.kind = OT_OP_SCALE, .in = {x, OT_NO_VALUE, OT_NO_VALUE}, .out = y, .w = {&t->slot, NULL}});
    return y;
}

static int32_t before(void *context, ot_builder *b, int32_t block, ot_role role, int32_t x) { return scaled(context, b, block, role, x, BEFORE); }

static int32_t after(void *context, ot_builder *b, int32_t block, ot_role role, int32_t x, int32_t y) {
    (void)x;
    return scaled(context, b, block, role, y, AFTER);
}

static ot_status make_state(ot_peft_part *s, ot_error *err) {
    ot_arena *arena = &s->whole->arena;
    ia3_state *state = ot_arena_alloc(arena, (int64_t)sizeof *state, err);
    if (state == NULL) return OT_ERR_MEMORY;
    /* An array of pointers is meant. NOLINTNEXTLINE(bugprone-sizeof-expression) */
    state->factors = ot_arena_alloc(arena, s->whole->model->desc.layers * OT_ROLE_COUNT * (int64_t)sizeof *state->factors, err);
    if (state->factors == NULL) return OT_ERR_MEMORY;
    s->state = state;
    s->hooks = (ot_hooks){.context = s, .input = before, .linear = after};
    return OT_OK;
}

/* In files a column that multiplies outputs, or a row that multiplies inputs. */
static ot_status add(ot_peft_part *s, int32_t block, ot_role role, bool before_it, ot_error *err) {
    int64_t n = width(&s->whole->model->desc, role, before_it);
    ot_peft_tensor **t = place_of(s, block, role);
    OT_TRY(ot_peft_add(s, block, role, before_it ? BEFORE : AFTER, 2, 1, n, t, err));
    (*t)->vector = true;
    (*t)->shape[0] = before_it ? 1 : n;
    (*t)->shape[1] = before_it ? n : 1;
    return OT_OK;
}

static ot_status attach(ot_peft_part *s, ot_error *err) {
    const ot_peft *p = s->whole;
    OT_TRY(make_state(s, err));
    for (int32_t block = 0; block < p->model->desc.layers; block++) {
        for (int k = 0; k < ROLES && p->tuned[block]; k++) {
            if (ot_desc_shape(&p->model->desc, roles[k]).exists) OT_TRY(add(s, block, roles[k], roles[k] == OT_ROLE_DOWN, err));
        }
    }
    return OT_OK;
}

ot_status ot_ia3_begin(ot_peft *p, ot_model *model, const bool *tuned, ot_error *err) {
    ot_status status = ot_peft_open_one(p, &ot_peft_ia3, model, tuned, err);
    if (status == OT_OK) status = make_state(&p->parts[0], err);
    if (status == OT_OK) {
        ot_peft_join_hooks(p);
    } else {
        ot_peft_end(p);
    }
    return status;
}

ot_status ot_ia3_add(ot_peft *p, int32_t block, ot_role role, bool before_it, ot_error *err) { return add(&p->parts[0], block, role, before_it, err); }

/* Ones, so that the model starts as it is. */
static ot_status initialise(const ot_peft_part *s, const ot_peft_tensor *t, ot_rng *rng, float *values, ot_error *err) {
    (void)err;
    (void)s;
    (void)rng;
    for (int64_t i = 0; i < t->slot.cols; i++) values[i] = 1;
    return OT_OK;
}

/* "transformer.h.0.attn.c_attn.ia3_l" */
static ot_status name(const ot_peft_part *s, const ot_peft_tensor *t, int64_t block, char out[OT_PARAM_NAME], ot_error *err) {
    char weight[OT_PARAM_NAME];
    OT_TRY(ot_param_name(s->whole->model->desc.arch, t->role, block, false, weight, err));
    int n = snprintf(out, OT_PARAM_NAME, "%.*s.ia3_l", (int)(strlen(weight) - strlen(".weight")), weight);
    return n < OT_PARAM_NAME ? OT_OK : ot_fail(err, OT_ERR_FORMAT, "the name of parameter %s is too long", weight);
}

const ot_peft_method ot_peft_ia3 = {
    .spec = {.name = "ia3", .help = "factors of keys, values and the MLP's inner activations in the tuned blocks"},
    .place = OT_PEFT_SCALES,
    .count = count,
    .attach = attach,
    .initialise = initialise,
    .name = name,
};
