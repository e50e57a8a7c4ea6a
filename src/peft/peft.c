#include "peft/peft.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ==== What was chosen. ==== */

/* Why methods of these places do not go together, NULL: they do. */
static const char *conflict(const ot_peft_method *a, const ot_peft_method *b) {
    unsigned both = (unsigned)a->place | (unsigned)b->place;
    if (a == b) return "a method can stand there once";
    if ((both & OT_PEFT_HEAD) != 0) return "head trains nothing but what every method trains besides";
    if ((both & OT_PEFT_WEIGHTS) != 0) return "full trains every parameter of the blocks already, and its result is a model, which has no place for more";
    if (a->place != b->place) return NULL;
    switch (a->place) {
    case OT_PEFT_UPDATE: return "both are a low-rank change of the same matrices";
    case OT_PEFT_FRONT: return "both put virtual tokens in front of the sequence";
    default: return "both train the same";
    }
}

static ot_status check_stack(const ot_peft_choice *c, ot_error *err) {
    for (int32_t i = 0; i < c->n; i++) {
        for (int32_t k = 0; k < i; k++) {
            const char *why = conflict(c->methods[k], c->methods[i]);
            if (why == NULL) continue;
            return ot_fail(err, OT_ERR_USAGE, "--peft: %s|%s: %s", c->methods[k]->spec.name, c->methods[i]->spec.name, why);
        }
    }
    return OT_OK;
}

/* By where the methods reach in, so that the order of the text means nothing. */
static void sort_steps(ot_spec *spec) {
    for (int32_t i = 1; i < spec->n_steps; i++) {
        for (int32_t k = i; k > 0 && ot_peft_methods[spec->steps[k - 1].method]->place > ot_peft_methods[spec->steps[k].method]->place; k--) {
            ot_spec_step later = spec->steps[k];
            spec->steps[k] = spec->steps[k - 1];
            spec->steps[k - 1] = later;
        }
    }
}

ot_status ot_peft_parse(const char *text, ot_peft_choice *out, ot_error *err) {
    const ot_spec_method *methods[64] = {0};
    *out = (ot_peft_choice){0};
    for (int i = 0; ot_peft_methods[i] != NULL && i < 63; i++) methods[i] = &ot_peft_methods[i]->spec;
    OT_TRY(ot_spec_parse(*text == '\0' ? "full" : text, "--peft", methods, &out->spec, err));
    if (out->spec.n_steps > OT_PEFT_PARTS) return ot_fail(err, OT_ERR_USAGE, "--peft: at most %d methods can be stacked", OT_PEFT_PARTS);
    out->n = out->spec.n_steps;
    sort_steps(&out->spec);
    for (int32_t i = 0; i < out->n; i++) out->methods[i] = ot_peft_methods[out->spec.steps[i].method];
    return check_stack(out, err);
}

bool ot_peft_trains(const ot_peft_choice *c, const ot_param *param) {
    bool trains = false;
    for (int32_t i = 0; i < c->n; i++) trains = trains || (c->methods[i]->trains != NULL && c->methods[i]->trains(&c->spec.steps[i], param));
    return trains;
}

bool ot_peft_replaces(const ot_peft_choice *c) {
    bool replaces = false;
    for (int32_t i = 0; i < c->n; i++) replaces = replaces || c->methods[i]->trains != NULL;
    return replaces;
}

bool ot_peft_adds(const ot_peft_choice *c) {
    bool adds = false;
    for (int32_t i = 0; i < c->n; i++) adds = adds || c->methods[i]->attach != NULL;
    return adds;
}

bool ot_peft_merges(const ot_peft_choice *c) {
    bool merges = true;
    for (int32_t i = 0; i < c->n; i++) merges = merges && (c->methods[i]->attach == NULL || c->methods[i]->merges);
    return merges;
}

bool ot_peft_has(const ot_peft_choice *c, const char *method) {
    bool has = false;
    for (int32_t i = 0; i < c->n; i++) has = has || strcmp(c->methods[i]->spec.name, method) == 0;
    return has;
}

bool ot_peft_is(const ot_peft_choice *c, const char *method) { return c->n == 1 && ot_peft_has(c, method); }

static ot_status parse_for(const char *text, const ot_desc *desc, ot_peft_choice *c, ot_error *err) {
    OT_TRY(ot_peft_parse(text, c, err));
    for (int32_t i = 0; i < c->n; i++) {
        if (c->methods[i]->check != NULL) OT_TRY(c->methods[i]->check(desc, &c->spec.steps[i], err));
    }
    return OT_OK;
}

ot_status ot_peft_count(const char *text, const ot_desc *desc, int64_t blocks, int64_t *count, ot_error *err) {
    ot_peft_choice c;
    OT_TRY(parse_for(text, desc, &c, err));
    *count = 0;
    for (int32_t i = 0; i < c.n; i++) *count += c.methods[i]->count(desc, &c.spec.steps[i], blocks);
    return OT_OK;
}

/* ==== Hooking in. ==== */

ot_status ot_peft_add(ot_peft_part *s, int32_t block, ot_role role, int32_t part, int32_t n_dims, int64_t rows, int64_t cols, ot_peft_tensor **out,
                      ot_error *err) {
    ot_peft *p = s->whole;
    /* An array of pointers is meant. NOLINTNEXTLINE(bugprone-sizeof-expression) */
    OT_TRY(ot_grow((void **)&p->tensors, &p->capacity, p->n_tensors + 1, sizeof *p->tensors, "the list of new tensors", err));
    ot_peft_tensor *t = ot_arena_alloc(&p->arena, (int64_t)sizeof *t, err);
    if (t == NULL) return OT_ERR_MEMORY;
    t->values = ot_arena_alloc(&p->arena, rows * cols * 4, err);
    if (t->values == NULL) return OT_ERR_MEMORY;
    t->slot = (ot_slot){.data = t->values, .dtype = OT_F32, .rows = rows, .cols = cols};
    t->n_dims = n_dims;
    t->shape[0] = n_dims == 1 ? cols : rows;
    t->shape[1] = n_dims == 1 ? 0 : cols;
    t->owner = s;
    t->block = block;
    t->role = role;
    t->part = part;
    char name[OT_PARAM_NAME];
    OT_TRY(s->method->name(s, t, block, name, err));
    t->name = ot_arena_strdup(&p->arena, name, err);
    if (t->name == NULL) return OT_ERR_MEMORY;
    p->tensors[p->n_tensors++] = t;
    *out = t;
    return OT_OK;
}

static ot_status choose(ot_peft *p, const bool *tuned, ot_error *err) {
    int64_t layers = p->model->desc.layers;
    bool *copy = ot_arena_alloc(&p->arena, layers, err);
    if (copy == NULL) return OT_ERR_MEMORY;
    memcpy(copy, tuned, (size_t)layers);
    p->tuned = copy;
    return OT_OK;
}

static void set_parts(ot_peft *p) {
    for (int32_t i = 0; i < p->choice.n; i++) {
        p->parts[i] = (ot_peft_part){.method = p->choice.methods[i], .step = &p->choice.spec.steps[i], .whole = p};
    }
}

static int32_t all_inputs(void *context, ot_builder *b, int32_t block, ot_role role, int32_t x) {
    const ot_peft *p = context;
    for (int32_t i = 0; i < p->choice.n; i++) {
        const ot_hooks *h = &p->parts[i].hooks;
        if (h->input != NULL) x = h->input(h->context, b, block, role, x);
    }
    return x;
}

/* Each part changes what the one before it made of the linear's output. */
static int32_t all_linears(void *context, ot_builder *b, int32_t block, ot_role role, int32_t x, int32_t y) {
    const ot_peft *p = context;
    for (int32_t i = 0; i < p->choice.n; i++) {
        const ot_hooks *h = &p->parts[i].hooks;
        if (h->linear != NULL) y = h->linear(h->context, b, block, role, x, y);
    }
    return y;
}

/* One method at most stands in front of the sequence. */
static int32_t the_prefix(void *context, int32_t block, const ot_slot **keys, const ot_slot **values) {
    const ot_peft *p = context;
    for (int32_t i = 0; i < p->choice.n; i++) {
        const ot_hooks *h = &p->parts[i].hooks;
        if (h->prefix != NULL) return h->prefix(h->context, block, keys, values);
    }
    return 0;
}

void ot_peft_join_hooks(ot_peft *p) {
    p->hooks = (ot_hooks){.context = p};
    for (int32_t i = 0; i < p->choice.n; i++) {
        const ot_hooks *h = &p->parts[i].hooks;
        if (h->input != NULL) p->hooks.input = all_inputs;
        if (h->linear != NULL) p->hooks.linear = all_linears;
        if (h->prefix != NULL) p->hooks.prefix = the_prefix;
        p->hooks.position_shift += h->position_shift;
        if (h->virtual_tokens != NULL) p->hooks.virtual_tokens = h->virtual_tokens;
    }
}

ot_status ot_peft_attach(ot_peft *p, const char *text, ot_model *model, const bool *tuned, ot_error *err) {
    *p = (ot_peft){.model = model};
    OT_TRY(parse_for(text, &model->desc, &p->choice, err));
    if (strlen(text) >= sizeof p->text) return ot_fail(err, OT_ERR_USAGE, "--peft: the text is longer than %zu bytes", sizeof p->text - 1);
    memcpy(p->text, text, strlen(text) + 1);
    set_parts(p);
    ot_status status = choose(p, tuned, err);
    for (int32_t i = 0; status == OT_OK && i < p->choice.n; i++) {
        if (p->parts[i].method->attach != NULL) status = p->parts[i].method->attach(&p->parts[i], err);
    }
    if (status != OT_OK) {
        ot_peft_end(p);
        return status;
    }
    ot_peft_join_hooks(p);
    return OT_OK;
}

ot_status ot_peft_open_one(ot_peft *p, const ot_peft_method *method, ot_model *model, const bool *tuned, ot_error *err) {
    *p = (ot_peft){.model = model};
    OT_TRY(ot_peft_parse(method->spec.name, &p->choice, err));
    snprintf(p->text, sizeof p->text, "%s", method->spec.name);
    set_parts(p);
    return choose(p, tuned, err);
}

const ot_peft_part *ot_peft_find(const ot_peft *p, const ot_peft_method *method) {
    for (int32_t i = 0; i < p->choice.n; i++) {
        if (p->parts[i].method == method) return &p->parts[i];
    }
    return NULL;
}

/* Each tensor has its own stream, so that its values depend on the seed and its name alone. */
static uint64_t stream_of(const char *name, uint64_t seed) {
    for (; *name != '\0'; name++) seed = ot_rng_hash(seed, (unsigned char)*name);
    return seed;
}

static ot_status declare(ot_peft *p, uint64_t seed, ot_trainables *t, ot_error *err) {
    for (int64_t i = 0; i < p->n_tensors; i++) {
        ot_peft_tensor *tensor = p->tensors[i];
        ot_rng rng;
        ot_rng_seed(&rng, stream_of(tensor->name, seed));
        if (tensor->owner->method->initialise != NULL) {
            OT_TRY(tensor->owner->method->initialise(tensor->owner, tensor, &rng, tensor->values, err));
        }
        bool matrix = tensor->n_dims > 1; /* PyTorch's weight decay asks the file's shape */
        OT_TRY(ot_trainables_add(t, tensor->name, &tensor->slot, matrix && !tensor->vector ? 2 : 1, matrix, 1.0, err));
    }
    for (int64_t i = 0; ot_peft_replaces(&p->choice) && i < p->model->n_params; i++) {
        ot_param *param = &p->model->params[i];
        if (param->block < 0 || !p->tuned[param->block] || !ot_peft_trains(&p->choice, param)) continue;
        OT_TRY(ot_trainables_add_param(t, param, err));
    }
    if (p->model->desc.vision) return OT_OK; /* the head at least follows */
    return t->n_items > 0 ? OT_OK : ot_fail(err, OT_ERR_USAGE, "--peft: nothing would be trained");
}

ot_status ot_peft_declare_head(ot_model *model, double lr_scale, ot_trainables *t, ot_error *err) {
    for (int64_t i = 0; i < model->n_params; i++) {
        ot_param *p = &model->params[i];
        if (!ot_model_tunes_head(model, p)) continue;
        OT_TRY(ot_trainables_add(t, p->name, &p->slot, p->stored.n_dims, p->decay, lr_scale, err));
    }
    return OT_OK;
}

ot_status ot_peft_begin(ot_peft *p, const char *text, ot_model *model, const bool *tuned, uint64_t seed, ot_trainables *t, ot_error *err) {
    OT_TRY(ot_peft_attach(p, text, model, tuned, err));
    ot_status status = declare(p, seed, t, err);
    if (status != OT_OK) ot_peft_end(p);
    return status;
}

/* ==== Values from files. ==== */

static ot_status check_shape(const ot_peft_tensor *t, const ot_tensor *from, const char *path, ot_error *err) {
    bool same = from->n_dims == t->n_dims;
    for (int32_t d = 0; same && d < t->n_dims; d++) same = from->shape[d] == t->shape[d];
    if (same) return OT_OK;
    char have[96], want[96];
    return ot_fail(err, OT_ERR_REFUSED, "%s: tensor %s has shape %s, but %s is needed here", path, from->name,
                   ot_shape_text(from->shape, from->n_dims, have, sizeof have), ot_shape_text(t->shape, t->n_dims, want, sizeof want));
}

static ot_status load_one(ot_peft_tensor *t, const ot_tensor *from, const char *path, ot_error *err) {
    OT_TRY(check_shape(t, from, path, err));
    if (from->dtype != OT_F32 && from->dtype != OT_BF16 && from->dtype != OT_F16) {
        return ot_fail(err, OT_ERR_REFUSED, "%s: tensor %s is %s: an adapter holds F32, BF16 or F16", path, from->name, ot_dtype_info(from->dtype)->name);
    }
    int64_t n = t->slot.rows * t->slot.cols;
    ot_decode_f32(from->dtype, from->data, t->values, n);
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(t->values[i])) {
            return ot_fail(err, OT_ERR_REFUSED, "%s: tensor %s holds %g at element %lld", path, from->name, (double)t->values[i], (long long)i);
        }
    }
    return OT_OK;
}

/* Name the first tensor of the file that is none of the method's. */
static ot_status refuse_extra(const ot_peft *p, const ot_safetensors *st, const bool *used, ot_error *err) {
    for (int64_t i = 0; i < ot_safetensors_count(st); i++) {
        if (used[i]) continue;
        return ot_fail(err, OT_ERR_REFUSED, "%s: tensor %s does not belong to %s over this model", ot_safetensors_path(st),
                       ot_safetensors_at(st, i)->name, p->text);
    }
    return OT_OK;
}

/* Parameters of the model that the caller reads. */
static void skip_params(const ot_peft *p, const ot_safetensors *st, const int64_t *file_blocks, const bool *also, bool *used) {
    for (int64_t i = 0; also != NULL && i < p->model->n_params; i++) {
        const ot_param *param = &p->model->params[i];
        char name[OT_PARAM_NAME];
        if (!also[i] || param->block < 0) continue;
        int64_t block = file_blocks == NULL ? param->block : file_blocks[param->block];
        if (ot_param_name(p->model->desc.arch, param->role, block, param->bias, name, NULL) != OT_OK) continue;
        const ot_tensor *t = ot_safetensors_find(st, name);
        for (int64_t k = 0; t != NULL && k < ot_safetensors_count(st); k++) used[k] = used[k] || ot_safetensors_at(st, k) == t;
    }
}

/* A classifier's head that comes with the tensors: its values replace the model's. */
static ot_status load_head(ot_peft *p, const ot_safetensors *st, const char *prefix, bool *used, ot_error *err) {
    for (int64_t i = 0; i < p->model->n_params; i++) {
        ot_param *param = &p->model->params[i];
        if (!ot_model_tunes_head(p->model, param)) continue;
        char name[OT_PARAM_NAME * 2];
        snprintf(name, sizeof name, "%s%s", prefix, param->name);
        const ot_tensor *from = ot_safetensors_find(st, name);
        if (from == NULL) continue;
        int64_t n = ot_param_elements(param);
        ot_peft_tensor as = {.slot = param->slot, .n_dims = param->stored.n_dims, .shape = {param->stored.shape[0], param->stored.shape[1]}};
        as.values = ot_arena_alloc(&p->arena, n * 4, err);
        if (as.values == NULL) return OT_ERR_MEMORY;
        OT_TRY(load_one(&as, from, ot_safetensors_path(st), err));
        param->slot.data = as.values;
        param->slot.dtype = OT_F32;
        for (int64_t k = 0; k < ot_safetensors_count(st); k++) used[k] = used[k] || ot_safetensors_at(st, k) == from;
    }
    return OT_OK;
}

ot_status ot_peft_load(ot_peft *p, const ot_safetensors *st, const char *prefix, const int64_t *file_blocks, const bool *also, ot_error *err) {
    const char *path = ot_safetensors_path(st);
    const ot_tensor *first = ot_safetensors_count(st) > 0 ? ot_safetensors_at(st, 0) : NULL;
    bool *used = calloc((size_t)ot_safetensors_count(st) + 1, sizeof *used);
    if (used == NULL) return ot_fail_memory(err, (uint64_t)ot_safetensors_count(st), "a tensor table");
    ot_status status = OT_OK;
    for (int64_t i = 0; status == OT_OK && i < p->n_tensors; i++) {
        ot_peft_tensor *t = p->tensors[i];
        char plain[OT_PARAM_NAME], name[OT_PARAM_NAME * 2];
        status = t->owner->method->name(t->owner, t, file_blocks == NULL || t->block < 0 ? t->block : file_blocks[t->block], plain, err);
        if (status != OT_OK) break;
        snprintf(name, sizeof name, "%s%s", prefix, plain);
        const ot_tensor *from = ot_safetensors_find(st, name);
        if (from == NULL) {
            status = ot_fail(err, OT_ERR_REFUSED, "%s lacks tensor %s%s%s", path, name, first == NULL ? "" : "; it has ",
                             first == NULL ? "" : first->name);
        } else {
            status = load_one(t, from, path, err);
            for (int64_t k = 0; k < ot_safetensors_count(st); k++) used[k] = used[k] || ot_safetensors_at(st, k) == from;
        }
    }
    if (status == OT_OK) status = load_head(p, st, prefix, used, err);
    if (status == OT_OK) skip_params(p, st, file_blocks, also, used);
    if (status == OT_OK) status = refuse_extra(p, st, used, err);
    free(used);
    return status;
}

void ot_peft_settle(ot_peft *p, const ot_trainables *t) {
    for (int64_t k = 0; k < t->n_items; k++) {
        for (int64_t i = 0; i < p->model->n_params; i++) {
            ot_param *param = &p->model->params[i];
            if (t->items[k].slot != &param->slot || !ot_model_tunes_head(p->model, param)) continue;
            param->slot.data = t->master + t->items[k].offset;
            param->slot.dtype = OT_F32;
        }
    }
    for (int64_t i = 0; i < p->n_tensors; i++) {
        for (int64_t k = 0; k < t->n_items; k++) {
            if (t->items[k].slot != &p->tensors[i]->slot) continue;
            p->tensors[i]->slot.data = t->master + t->items[k].offset;
            p->tensors[i]->slot.dtype = OT_F32;
        }
    }
}

const ot_hooks *ot_peft_hooks(const ot_peft *p) {
    const ot_hooks *h = &p->hooks;
    return h->input != NULL || h->linear != NULL || h->prefix != NULL || h->virtual_tokens != NULL ? h : NULL;
}

void ot_peft_end(ot_peft *p) {
    free(p->tensors);
    ot_arena_free(&p->arena);
    *p = (ot_peft){0};
}
