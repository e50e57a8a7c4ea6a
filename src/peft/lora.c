/* LoRA: y += scale * B A dropout(x) beside chosen linears. Hu et al. 2021; names, shapes and scale as in PEFT. */
#include "peft/lora.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "peft/methods.h"

enum { PART_A, PART_B };

/* Of the two methods that use these places. */
static const char *method_of(const ot_spec_step *step) { return ot_peft_methods[step->method]->spec.name; }

typedef struct lora_state {
    ot_lora_place *places; /* [layers][OT_ROLE_COUNT] */
    double dropout;
} lora_state;

static bool is_linear(const ot_desc *desc, ot_role role) {
    ot_role_shape s = ot_desc_shape(desc, role);
    return s.exists && !s.vector && ot_role_in_block(role);
}

/* ==== Targets. ==== */

bool ot_lora_targets(const ot_desc *desc, ot_role role, const char *target) {
    const char *stem = desc->arch->stems[role];
    if (!is_linear(desc, role) || stem == NULL) return false;
    size_t n = strlen(stem), m = strlen(target);
    return m > 0 && m < n && strcmp(stem + n - m, target) == 0 && stem[n - m - 1] == '.';
}

static const char *last_part(const ot_desc *desc, ot_role role) {
    const char *stem = desc->arch->stems[role], *dot = stem == NULL ? NULL : strrchr(stem, '.');
    return dot == NULL ? stem : dot + 1;
}

static bool is_all(const char *targets) { return strcmp(targets, "all") == 0 || strcmp(targets, "all-linear") == 0; }

/* Copies the item that begins at `at` of a comma list; returns the next one, NULL at the end. */
static const char *next_target(const char *at, char item[64]) {
    size_t n = strcspn(at, ",");
    snprintf(item, 64, "%.*s", n < 63 ? (int)n : 63, at);
    return at[n] == ',' ? at + n + 1 : NULL;
}

static bool chosen(const ot_desc *desc, ot_role role, const char *targets) {
    if (is_all(targets)) return is_linear(desc, role);
    char item[64];
    for (const char *at = targets; at != NULL;) {
        at = next_target(at, item);
        if (ot_lora_targets(desc, role, item)) return true;
    }
    return false;
}

static ot_status check_targets(const ot_desc *desc, const char *method, const char *targets, ot_error *err) {
    if (is_all(targets)) return OT_OK;
    char item[64];
    for (const char *at = targets; at != NULL;) {
        at = next_target(at, item);
        bool known = false;
        for (int r = 0; r < OT_ROLE_COUNT; r++) known = known || ot_lora_targets(desc, (ot_role)r, item);
        if (known) continue;
        char linears[256] = "";
        for (int r = 0; r < OT_ROLE_COUNT; r++) {
            if (!is_linear(desc, (ot_role)r)) continue;
            size_t used = strlen(linears);
            const char *name = last_part(desc, (ot_role)r);
            if (strstr(linears, name) == NULL) snprintf(linears + used, sizeof linears - used, "%s%s", used > 0 ? ", " : "", name);
        }
        return ot_fail(err, OT_ERR_USAGE, "--peft: %s: %s has no linear \"%s\" in its blocks: targets is all, or some of %s", method, desc->arch->name,
                       item, linears);
    }
    return OT_OK;
}

static bool in_use(const ot_peft *p, ot_role role) {
    for (int32_t b = 0; b < p->model->desc.layers; b++) {
        if (ot_lora_at(p, b, role) != NULL) return true;
    }
    return false;
}

int ot_lora_target_names(const ot_peft *p, const char *names[OT_ROLE_COUNT]) {
    const ot_desc *desc = &p->model->desc;
    int n = 0;
    for (int r = 0; r < OT_ROLE_COUNT; r++) {
        if (!in_use(p, (ot_role)r)) continue;
        const char *name = last_part(desc, (ot_role)r);
        bool ambiguous = false, listed = false;
        for (int other = 0; other < OT_ROLE_COUNT; other++) {
            ambiguous = ambiguous || (ot_lora_targets(desc, (ot_role)other, name) && !in_use(p, (ot_role)other));
        }
        if (ambiguous) name = strstr(desc->arch->stems[r], "%d.") + 3;
        for (int i = 0; i < n; i++) listed = listed || strcmp(names[i], name) == 0;
        if (!listed) names[n++] = name;
    }
    return n;
}

/* ==== Settings. ==== */

ot_lora_settings ot_lora_read_settings(const ot_spec_step *step) {
    const ot_spec_method *m = &ot_peft_lora.spec;
    return (ot_lora_settings){.r = (int64_t)ot_spec_get(step, m, "r")->number,
                              .alpha = ot_spec_get(step, m, "alpha")->number,
                              .dropout = ot_spec_get(step, m, "dropout")->number,
                              .rslora = strcmp(ot_spec_get(step, m, "rslora")->word, "yes") == 0};
}

double ot_lora_scale(double alpha, int64_t r, bool rslora) { return alpha / (rslora ? sqrt((double)r) : (double)r); }

ot_status ot_lora_check(const ot_desc *desc, const ot_spec_step *step, ot_error *err) {
    const char *targets = ot_spec_get(step, &ot_peft_lora.spec, "targets")->word, *rslora = ot_spec_get(step, &ot_peft_lora.spec, "rslora")->word;
    int64_t r = ot_lora_read_settings(step).r;
    if (strcmp(rslora, "yes") != 0 && strcmp(rslora, "no") != 0) return ot_fail(err, OT_ERR_USAGE, "--peft: %s: rslora is yes or no, not \"%s\"", method_of(step), rslora);
    OT_TRY(check_targets(desc, method_of(step), targets, err));
    int smallest = -1;
    int64_t most = INT64_MAX;
    for (int role = 0; role < OT_ROLE_COUNT; role++) {
        ot_role_shape s = ot_desc_shape(desc, (ot_role)role);
        int64_t least = s.in < s.out ? s.in : s.out;
        if (!chosen(desc, (ot_role)role, targets) || least >= most) continue;
        smallest = role;
        most = least;
    }
    if (r > most) {
        ot_role_shape s = ot_desc_shape(desc, (ot_role)smallest);
        return ot_fail(err, OT_ERR_USAGE, "--peft: %s: r=%lld is above the rank of %s, which is %lld by %lld: use at most %lld", method_of(step),
                       (long long)r, last_part(desc, (ot_role)smallest), (long long)s.out, (long long)s.in, (long long)most);
    }
    return OT_OK;
}

/* per_output: trained values of each output of a target besides B's. */
int64_t ot_lora_count(const ot_desc *desc, const ot_spec_step *step, int64_t blocks, int64_t per_output) {
    int64_t n = 0, r = ot_lora_read_settings(step).r;
    for (int role = 0; role < OT_ROLE_COUNT; role++) {
        ot_role_shape s = ot_desc_shape(desc, (ot_role)role);
        if (chosen(desc, (ot_role)role, ot_spec_get(step, &ot_peft_lora.spec, "targets")->word)) n += r * (s.in + s.out) + per_output * s.out;
    }
    return blocks * n;
}

static int64_t count(const ot_desc *desc, const ot_spec_step *step, int64_t blocks) { return ot_lora_count(desc, step, blocks, 0); }

/* ==== Hooking in. ==== */

ot_lora_place *ot_lora_place_of(const ot_peft_part *s, int32_t block, ot_role role) {
    const lora_state *state = s->state;
    return &state->places[(int64_t)block * OT_ROLE_COUNT + role];
}

const ot_lora_place *ot_lora_at(const ot_peft *p, int32_t block, ot_role role) {
    const ot_peft_part *s = ot_peft_find(p, &ot_peft_lora);
    if (s == NULL) s = ot_peft_find(p, &ot_peft_dora);
    if (s == NULL || block < 0) return NULL;
    const ot_lora_place *place = ot_lora_place_of(s, block, role);
    return place->a == NULL ? NULL : place;
}

static int32_t hook(void *context, ot_builder *b, int32_t item, ot_role role, int32_t x, int32_t y) {
    const ot_peft_part *s = context;
    const lora_state *state = s->state;
    const ot_lora_place *place = ot_lora_place_of(s, item, role);
    if (place->a == NULL) return y;
    ot_peft_low_rank(b, state->dropout, item, role, x, place->a, place->b, place->scale, y);
    return y;
}

static ot_status make_state(ot_peft_part *s, double dropout, ot_error *err) {
    ot_peft *p = s->whole;
    lora_state *state = ot_arena_alloc(&p->arena, (int64_t)sizeof *state, err);
    if (state == NULL) return OT_ERR_MEMORY;
    state->dropout = dropout;
    state->places = ot_arena_alloc(&p->arena, p->model->desc.layers * OT_ROLE_COUNT * (int64_t)sizeof *state->places, err);
    if (state->places == NULL) return OT_ERR_MEMORY;
    s->state = state;
    s->hooks = (ot_hooks){.context = s, .linear = hook};
    return OT_OK;
}

double ot_lora_dropout(const ot_peft_part *s) {
    const lora_state *state = s->state;
    return state->dropout;
}

ot_status ot_lora_begin(ot_peft *p, bool dora, ot_model *model, const bool *tuned, ot_error *err) {
    ot_status status = ot_peft_open_one(p, dora ? &ot_peft_dora : &ot_peft_lora, model, tuned, err);
    if (status == OT_OK) status = make_state(&p->parts[0], 0, err);
    if (status == OT_OK && dora) p->parts[0].hooks.linear = ot_dora_hook;
    if (status == OT_OK) {
        ot_peft_join_hooks(p);
    } else {
        ot_peft_end(p);
    }
    return status;
}

static ot_status add_place(ot_peft_part *s, int32_t block, ot_role role, int64_t r, double scale, ot_error *err) {
    ot_role_shape shape = ot_desc_shape(&s->whole->model->desc, role);
    ot_lora_place *place = ot_lora_place_of(s, block, role);
    OT_TRY(ot_peft_add(s, block, role, PART_A, 2, r, shape.in, &place->a, err));
    OT_TRY(ot_peft_add(s, block, role, PART_B, 2, shape.out, r, &place->b, err));
    place->scale = scale;
    return s->method == &ot_peft_dora ? ot_dora_add(s, block, role, place, err) : OT_OK;
}

ot_status ot_lora_add(ot_peft *p, int32_t block, ot_role role, int64_t r, double scale, ot_error *err) {
    return add_place(&p->parts[0], block, role, r, scale, err);
}

ot_status ot_lora_attach(ot_peft_part *s, ot_error *err) {
    const ot_peft *p = s->whole;
    const ot_desc *desc = &p->model->desc;
    const char *targets = ot_spec_get(s->step, &ot_peft_lora.spec, "targets")->word;
    ot_lora_settings set = ot_lora_read_settings(s->step);
    OT_TRY(make_state(s, set.dropout, err));
    for (int32_t block = 0; block < desc->layers; block++) {
        for (int role = 0; role < OT_ROLE_COUNT; role++) {
            if (!p->tuned[block] || !chosen(desc, (ot_role)role, targets)) continue;
            OT_TRY(add_place(s, block, (ot_role)role, set.r, ot_lora_scale(set.alpha, set.r, set.rslora), err));
        }
    }
    return OT_OK;
}

ot_status ot_lora_initialise(const ot_peft_part *s, const ot_peft_tensor *t, ot_rng *rng, float *values, ot_error *err) {
    (void)s;
    (void)err;
    if (t->part == PART_A) ot_peft_uniform(t, rng, values);
    return OT_OK;
}

/* "transformer.h.0.attn.c_attn.lora_A.weight" */
ot_status ot_lora_name(const ot_peft_part *s, const ot_peft_tensor *t, int64_t block, char out[OT_PARAM_NAME], ot_error *err) {
    char weight[OT_PARAM_NAME];
    OT_TRY(ot_param_name(s->whole->model->desc.arch, t->role, block, false, weight, err));
    size_t stem = strlen(weight) - strlen(".weight");
    int n = snprintf(out, OT_PARAM_NAME, "%.*s.lora_%c.weight", (int)stem, weight, t->part == PART_A ? 'A' : 'B');
    return n < OT_PARAM_NAME ? OT_OK : ot_fail(err, OT_ERR_FORMAT, "the name of parameter %s is too long", weight);
}

/* Each output's row by m / its norm. */
static void merge_magnitude(const ot_lora_place *place, int64_t in, int64_t out, bool conv1d, float *weight) {
    const float *m = place->m->slot.data;
    for (int64_t o = 0; o < out; o++) {
        double square = 0;
        for (int64_t i = 0; i < in; i++) {
            double w = (double)weight[conv1d ? i * out + o : o * in + i];
            square += w * w;
        }
        double g = square == 0 ? 0 : (double)m[o] / sqrt(square);
        for (int64_t i = 0; i < in; i++) {
            float *w = &weight[conv1d ? i * out + o : o * in + i];
            *w = (float)(g * (double)*w);
        }
    }
}

void ot_lora_merge(const ot_peft *p, const ot_param *param, float *weight) {
    const ot_lora_place *place = ot_lora_at(p, param->block, param->role);
    if (place == NULL || param->bias) return;
    const float *a = place->a->slot.data, *b = place->b->slot.data;
    int64_t r = place->a->slot.rows, in = place->a->slot.cols, out = place->b->slot.rows;
    bool conv1d = p->model->desc.conv1d;
    for (int64_t o = 0; o < out; o++) {
        for (int64_t i = 0; i < in; i++) {
            double sum = 0;
            for (int64_t k = 0; k < r; k++) sum += (double)b[o * r + k] * (double)a[k * in + i];
            float *w = &weight[conv1d ? i * out + o : o * in + i];
            *w = (float)((double)*w + place->scale * sum);
        }
    }
    if (place->m != NULL) merge_magnitude(place, in, out, conv1d, weight);
}

const ot_spec_key ot_lora_keys[] = {{"r", OT_SPEC_INTEGER, "4", 1, 65536, "rank"},
                                    {"alpha", OT_SPEC_NUMBER, "32", 0, 1e6, "the product is scaled by alpha / r"},
                                    {"dropout", OT_SPEC_NUMBER, "0.1", 0, 0.99, "on the input of the low-rank product, in training"},
                                    {"targets", OT_SPEC_WORD, "all", 0, 0, "all linears, or names such as q_proj,v_proj"},
                                    {"rslora", OT_SPEC_WORD, "no", 0, 0, "scale by alpha / sqrt(r): yes or no"},
                                    {0}};

const ot_peft_method ot_peft_lora = {
    .spec = {.name = "lora",
             .help = "low-rank matrices beside the linears of the tuned blocks",
             .keys = ot_lora_keys},
    .place = OT_PEFT_UPDATE,
    .check = ot_lora_check,
    .count = count,
    .attach = ot_lora_attach,
    .initialise = ot_lora_initialise,
    .name = ot_lora_name,
    .merges = true,
};
