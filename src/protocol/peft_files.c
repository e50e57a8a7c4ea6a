/* Writing adapter directories; reading is in peft_read.c. */
#include "protocol/peft_files.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/json.h"
#include "model/head.h"
#include "peft/ia3.h"
#include "peft/lora.h"

/* Of methods that PEFT has; stacks are ours. */
static const struct {
    const char *method;
    ot_peft_form form;
    bool in_return; /* a return too: whether a prefix covers a whole stack is the owner's business */
} forms[] = {
    {"lora", OT_PEFT_FORM_LORA, true},
    {"dora", OT_PEFT_FORM_LORA, true},
    {"ia3", OT_PEFT_FORM_IA3, true},
    {"prompt", OT_PEFT_FORM_PROMPT, true},
    {"prefix", OT_PEFT_FORM_PREFIX, false},
};

ot_peft_form ot_peft_form_in_return(const ot_peft_choice *c) {
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (forms[i].in_return && ot_peft_is(c, forms[i].method)) return forms[i].form;
    }
    return OT_PEFT_FORM_OWN;
}

ot_peft_form ot_peft_form_of(const ot_peft *p) {
    /* PEFT has no prefixes for classifiers of images. */
    bool prefix = ot_peft_is(&p->choice, "prefix") && !p->model->desc.vision;
    for (int64_t b = 0; b < p->model->desc.layers; b++) prefix = prefix && p->tuned[b];
    return prefix ? OT_PEFT_FORM_PREFIX : ot_peft_form_in_return(&p->choice);
}

const char *ot_peft_form_file(ot_peft_form form) { return form == OT_PEFT_FORM_OWN ? "adapter.safetensors" : "adapter_model.safetensors"; }

const char *ot_peft_form_prefix(ot_peft_form form) {
    return form == OT_PEFT_FORM_LORA || form == OT_PEFT_FORM_IA3 ? "base_model.model." : "";
 }

/* ==== adapter_config.json. ==== */

static json_t *tuned_blocks(const ot_peft *p) {
    json_t *blocks = json_array();
    for (int64_t b = 0; b < p->model->desc.layers; b++) {
        if (p->tuned[b]) json_array_append_new(blocks, json_integer(b));
    }
    return blocks;
}

/* The list that holds the blocks: "h" of "h.%d.attn", "layers" of "decoder.layers.%d.fc1". */
static json_t *layers_pattern(const ot_desc *desc) {
    const char *stem = desc->arch->stems[OT_ROLE_O], *end = strstr(stem, ".%d"), *begin = end;
    while (begin > stem && begin[-1] != '.') begin--;
    return json_stringn(begin, (size_t)(end - begin));
}

static void set(json_t *j, const char *key, json_t *value) { json_object_set_new(j, key, value); }

static void lora_config(json_t *j, const ot_peft *p) {
    ot_lora_settings s = ot_lora_read_settings(&p->choice.spec.steps[0]);
    const char *names[OT_ROLE_COUNT];
    int n = ot_lora_target_names(p, names);
    json_t *targets = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(targets, json_string(names[i]));
    set(j, "peft_type", json_string("LORA"));
    set(j, "task_type", p->model->desc.vision ? json_null() : json_string("CAUSAL_LM"));
    set(j, "base_model_name_or_path", json_null());
    set(j, "inference_mode", json_true());
    set(j, "r", json_integer(s.r));
    /* PEFT calls it an integer. */
    bool whole = s.alpha == (double)(int64_t)s.alpha;
    set(j, "lora_alpha", whole ? json_integer((json_int_t)s.alpha) : json_real(s.alpha));
    set(j, "lora_dropout", json_real(s.dropout));
    set(j, "use_rslora", json_boolean(s.rslora));
    if (ot_peft_is(&p->choice, "dora")) set(j, "use_dora", json_true());
    set(j, "bias", json_string("none"));
    set(j, "fan_in_fan_out", json_boolean(p->model->desc.conv1d));
    set(j, "target_modules", targets);
    set(j, "layers_to_transform", tuned_blocks(p));
    set(j, "layers_pattern", layers_pattern(&p->model->desc));
    set(j, "rank_pattern", json_object());
    set(j, "alpha_pattern", json_object());
    set(j, "init_lora_weights", json_true());
    set(j, "modules_to_save", p->model->desc.vision ? json_pack("[s]", p->model->desc.arch->stems[OT_ROLE_HEAD]) : json_null());
}

/* PEFT's IA3 has no list of blocks, so the modules are named by their whole paths. */
static json_t *ia3_modules(const ot_peft *p, bool before_only) {
    json_t *modules = json_array();
    for (int64_t i = 0; i < p->n_tensors; i++) {
        const char *name = p->tensors[i]->name;
        if (before_only && !ot_ia3_before(p->tensors[i])) continue;
        json_array_append_new(modules, json_stringn(name, strlen(name) - strlen(".ia3_l")));
    }
    return modules;
}

static void ia3_config(json_t *j, const ot_peft *p) {
    set(j, "peft_type", json_string("IA3"));
    set(j, "task_type", p->model->desc.vision ? json_null() : json_string("CAUSAL_LM"));
    set(j, "base_model_name_or_path", json_null());
    set(j, "inference_mode", json_true());
    set(j, "target_modules", ia3_modules(p, false));
    set(j, "feedforward_modules", ia3_modules(p, true));
    set(j, "fan_in_fan_out", json_boolean(p->model->desc.conv1d));
    set(j, "init_ia3_weights", json_true());
    set(j, "modules_to_save", p->model->desc.vision ? json_pack("[s]", p->model->desc.arch->stems[OT_ROLE_HEAD]) : json_null());
}

static void prefix_config(json_t *j, const ot_peft *p) {
    const ot_desc *desc = &p->model->desc;
    json_int_t token_dim = desc->kv_heads * desc->head_dim;
    set(j, "peft_type", json_string("PREFIX_TUNING"));
    set(j, "task_type", json_string("CAUSAL_LM"));
    set(j, "base_model_name_or_path", json_null());
    set(j, "inference_mode", json_true());
    set(j, "num_virtual_tokens", json_integer(p->tensors[0]->slot.rows));
    set(j, "num_layers", json_integer(desc->layers));
    set(j, "token_dim", json_integer(token_dim));
    set(j, "num_attention_heads", json_integer(desc->kv_heads));
    set(j, "num_transformer_submodules", json_integer(1));
    set(j, "encoder_hidden_size", json_integer(token_dim));
    set(j, "prefix_projection", json_false());
}

static void prompt_config(json_t *j, const ot_peft *p) {
    const ot_desc *desc = &p->model->desc;
    set(j, "peft_type", json_string("PROMPT_TUNING"));
    set(j, "task_type", json_string("CAUSAL_LM"));
    set(j, "base_model_name_or_path", json_null());
    set(j, "inference_mode", json_true());
    set(j, "num_virtual_tokens", json_integer(p->tensors[0]->slot.rows));
    set(j, "token_dim", json_integer(desc->embed_size));
    set(j, "num_transformer_submodules", json_integer(1));
    set(j, "num_attention_heads", json_integer(desc->heads));
    set(j, "num_layers", json_integer(desc->layers));
    set(j, "prompt_tuning_init", json_string("RANDOM"));
    set(j, "prompt_tuning_init_text", json_null());
    set(j, "tokenizer_name_or_path", json_null());
}

/* PEFT has no such method: the type is a name that it refuses by itself. */
static void own_config(json_t *j, const ot_peft *p) {
    set(j, "peft_type", json_string("OFFSITE"));
    set(j, "method", json_string(p->text));
    set(j, "architecture", json_string(p->model->desc.arch->name));
    set(j, "layers", json_integer(p->model->desc.layers));
    set(j, "blocks", tuned_blocks(p));
}

static ot_status write_config(const char *dir, const ot_peft *p, ot_peft_form form, ot_error *err) {
    char path[4200];
    if (!ot_path_join(path, sizeof path, dir, "adapter_config.json")) return ot_fail(err, OT_ERR_IO, "the path %s is too long", dir);
    json_t *j = json_object();
    if (j == NULL) return ot_fail_memory(err, 0, "adapter_config.json");
    static void (*const configs[])(json_t *, const ot_peft *) = {
        [OT_PEFT_FORM_OWN] = own_config,
        [OT_PEFT_FORM_LORA] = lora_config,
        [OT_PEFT_FORM_IA3] = ia3_config,
        [OT_PEFT_FORM_PREFIX] = prefix_config,
        [OT_PEFT_FORM_PROMPT] = prompt_config,
    };
    configs[form](j, p);
    ot_status status = ot_json_write(path, j, err);
    json_decref(j);
    return status;
}

/* What the outputs of an adapter's head are called. */
static ot_status write_classes(const char *dir, const ot_model *m, ot_error *err) {
    char path[4200];
    if (!ot_path_join(path, sizeof path, dir, OT_PEFT_CLASSES)) return ot_fail(err, OT_ERR_IO, "the path %s is too long", dir);
    ot_classes classes;
    OT_TRY(ot_model_classes(m, &classes, err));
    json_t *list = json_array();
    for (int64_t i = 0; i < classes.n; i++) json_array_append_new(list, json_string(classes.names[i]));
    ot_status status = ot_json_write(path, list, err);
    json_decref(list);
    ot_classes_free(&classes);
    return status;
}

/* ==== Tensors. ==== */

static ot_status list_new(const ot_peft *p, ot_peft_form form, ot_arena *arena, ot_tensor *out, ot_error *err) {
    for (int64_t i = 0; i < p->n_tensors; i++) {
        const ot_peft_tensor *t = p->tensors[i];
        char name[OT_PARAM_NAME * 2];
        snprintf(name, sizeof name, "%s%s", ot_peft_form_prefix(form), t->name);
        out[i] = (ot_tensor){.name = ot_arena_strdup(arena, name, err),
                             .dtype = OT_F32,
                             .n_dims = t->n_dims,
                             .shape = {t->shape[0], t->shape[1], t->shape[2]},
                             .bytes = t->slot.rows * t->slot.cols * 4,
                             .data = t->slot.data};
        if (out[i].name == NULL) return OT_ERR_MEMORY;
    }
    return OT_OK;
}

/* A classifier's head goes with the tensors; its slots are settled, or loaded, in F32. */
static ot_status list_head(const ot_peft *p, ot_peft_form form, ot_arena *arena, ot_tensor *out, int64_t *n, ot_error *err) {
    for (int64_t i = 0; i < p->model->n_params; i++) {
        const ot_param *param = &p->model->params[i];
        if (!ot_model_tunes_head(p->model, param) || param->slot.dtype != OT_F32) continue;
        char name[OT_PARAM_NAME * 2];
        snprintf(name, sizeof name, "%s%s", ot_peft_form_prefix(form), param->name);
        out[*n] = (ot_tensor){.name = ot_arena_strdup(arena, name, err),
                              .dtype = OT_F32,
                              .n_dims = param->stored.n_dims,
                              .shape = {param->stored.shape[0], param->stored.shape[1]},
                              .bytes = ot_param_elements(param) * 4,
                              .data = param->slot.data};
        if (out[*n].name == NULL) return OT_ERR_MEMORY;
        ++*n;
    }
    return OT_OK;
}

static bool is_new(const ot_peft *p, const ot_slot *slot) {
    bool is = false;
    for (int64_t k = 0; k < p->n_tensors; k++) is = is || slot == &p->tensors[k]->slot;
    return is;
}

/* The parameters that are trained, besides new tensors and a head that goes with those. */
static void list_trained(const ot_peft *p, const ot_trainables *t, ot_tensor *out, int64_t *n) {
    for (int64_t i = 0; i < t->n_items; i++) {
        const ot_trainable *item = &t->items[i];
        bool head = false;
        for (int64_t k = 0; p->n_tensors > 0 && k < p->model->n_params; k++) {
            head = head || (item->slot == &p->model->params[k].slot && ot_model_tunes_head(p->model, &p->model->params[k]));
        }
        if (head || is_new(p, item->slot)) continue;
        out[(*n)++] = (ot_tensor){.name = item->name,
                                  .dtype = OT_F32,
                                  .n_dims = item->n_dims,
                                  .shape = {item->shape[0], item->shape[1]},
                                  .bytes = item->count * 4,
                                  .data = t->master + item->offset};
    }
}

/* The same of a stack that lies over its model in F32. */
static void list_replaced(const ot_peft *p, ot_tensor *out, int64_t *n) {
    for (int64_t i = 0; i < p->model->n_params; i++) {
        const ot_param *param = &p->model->params[i];
        if (param->block < 0 || !p->tuned[param->block] || !ot_peft_trains(&p->choice, param)) continue;
        out[(*n)++] = (ot_tensor){.name = param->name,
                                  .dtype = OT_F32,
                                  .n_dims = param->stored.n_dims,
                                  .shape = {param->stored.shape[0], param->stored.shape[1]},
                                  .bytes = ot_param_elements(param) * 4,
                                  .data = param->slot.data};
    }
}

/* prompt_embeddings [tokens, layers * 2 * columns]: of each token the key and the value of every block. */
static ot_status list_prefix(const ot_peft *p, ot_arena *arena, ot_tensor *out, ot_error *err) {
    int64_t tokens = p->tensors[0]->slot.rows, cols = p->tensors[0]->slot.cols;
    float *data = ot_arena_alloc(arena, tokens * p->n_tensors * cols * 4, err);
    if (data == NULL) return OT_ERR_MEMORY;
    for (int64_t i = 0; i < p->n_tensors; i++) {
        const float *from = p->tensors[i]->slot.data;
        for (int64_t k = 0; k < tokens; k++) memcpy(data + (k * p->n_tensors + i) * cols, from + k * cols, (size_t)cols * 4);
    }
    *out = (ot_tensor){.name = "prompt_embeddings",
                       .dtype = OT_F32,
                       .n_dims = 2,
                       .shape = {tokens, p->n_tensors * cols},
                       .bytes = tokens * p->n_tensors * cols * 4,
                       .data = data};
    return OT_OK;
}

ot_status ot_peft_files_write(const char *dir, const ot_peft *p, const ot_trainables *t, ot_peft_form form, ot_manifest *inventory, ot_error *err) {
    char path[4200];
    if (!ot_path_join(path, sizeof path, dir, ot_peft_form_file(form))) return ot_fail(err, OT_ERR_IO, "the path %s is too long", dir);
    ot_arena arena = {0};
    int64_t n = form == OT_PEFT_FORM_PREFIX ? 1 : p->n_tensors, most = n + (t != NULL ? t->n_items : p->model->n_params) + 3;
    ot_tensor *tensors = ot_arena_alloc(&arena, most * (int64_t)sizeof *tensors, err);
    ot_status status = tensors == NULL ? OT_ERR_MEMORY : OT_OK;
    if (status == OT_OK && form == OT_PEFT_FORM_PREFIX) {
        status = list_prefix(p, &arena, tensors, err);
    } else if (status == OT_OK) {
        status = list_new(p, form, &arena, tensors, err);
        if (status == OT_OK && p->n_tensors > 0) status = list_head(p, form, &arena, tensors, &n, err);
        if (status == OT_OK && t != NULL) list_trained(p, t, tensors, &n);
        if (status == OT_OK && t == NULL) list_replaced(p, tensors, &n);
    }
    for (int64_t i = 0; status == OT_OK && inventory != NULL && i < n; i++) status = ot_manifest_add(inventory, &tensors[i], err);
    if (status == OT_OK) status = ot_safetensors_write(path, tensors, n, NULL, err);
    /* A return in our own form is described by its manifest alone. */
    if (status == OT_OK && (inventory == NULL || form != OT_PEFT_FORM_OWN)) status = write_config(dir, p, form, err);
    if (status == OT_OK && inventory == NULL && p->model->desc.vision) status = write_classes(dir, p->model, err);
    ot_arena_free(&arena);
    return status;
}
