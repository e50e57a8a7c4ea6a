/* Reading adapter directories: our own form, and PEFT's LoRA, IA3, prefix-tuning and prompt tuning. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <math.h>
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/json.h"
#include "model/head.h"
#include "peft/ia3.h"
#include "peft/lora.h"
#include "protocol/peft_files.h"

enum { CONFIG_LIMIT = 4 << 20, MAX_TOKENS = 65536 };

typedef struct reader {
    const char *path; /* of the config */
    const json_t *config;
    const ot_safetensors *st;
    ot_model *m;
    ot_peft *p;
    bool *tuned; /* [layers] */
    ot_error *err;
} reader;

static ot_status bad_key(const reader *r, const char *key, const char *what) {
    return ot_fail(r->err, OT_ERR_FORMAT, "%s: \"%s\" must be %s", r->path, key, what);
}

bool ot_peft_files_is(const char *dir) {
    char path[4200];
    return ot_path_is_dir(dir) && ot_path_join(path, sizeof path, dir, "adapter_config.json") && ot_path_exists(path);
}

/* ==== PEFT's way of naming modules. ==== */

/* Python's re on the whole text, for patterns as PEFT's users write them. */
static ot_status matches(const reader *r, const char *pattern, const char *text, bool *yes) {
    int code = 0;
    PCRE2_SIZE at = 0;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_ANCHORED | PCRE2_ENDANCHORED, &code, &at, NULL);
    if (re == NULL) return ot_fail(r->err, OT_ERR_FORMAT, "%s: \"%s\" is no regular expression", r->path, pattern);
    pcre2_match_data *data = pcre2_match_data_create_from_pattern(re, NULL);
    code = data == NULL ? PCRE2_ERROR_NOMEMORY : pcre2_match(re, (PCRE2_SPTR)text, strlen(text), 0, 0, data, NULL);
    pcre2_match_data_free(data);
    pcre2_code_free(re);
    if (code < 0 && code != PCRE2_ERROR_NOMATCH) return ot_fail(r->err, OT_ERR_FORMAT, "%s: \"%s\" cannot be matched", r->path, pattern);
    *yes = code >= 0;
    return OT_OK;
}

/* rank_pattern and alpha_pattern: the first key that is the module's path or a regular expression for its end. */
static ot_status from_pattern(const reader *r, const char *key, const char *module, double *value) {
    const char *name;
    json_t *entry;
    json_t *patterns = json_object_get(r->config, key);
    json_object_foreach(patterns, name, entry) {
        char pattern[512];
        bool yes = false;
        if (snprintf(pattern, sizeof pattern, "(.*\\.)?(%s)", name) >= (int)sizeof pattern || !json_is_number(entry)) {
            return bad_key(r, key, "an object of module names with numbers");
        }
        OT_TRY(matches(r, pattern, module, &yes));
        if (!yes) continue;
        *value = json_number_value(entry);
        return OT_OK;
    }
    return OT_OK;
}

static ot_status in_list(const reader *r, const char *key, ot_role role, const char *module, bool *yes) {
    const json_t *list = json_object_get(r->config, key);
    *yes = false;
    if (list == NULL || json_is_null(list)) return OT_OK;
    if (json_is_string(list)) {
        const char *text = json_string_value(list);
        *yes = strcmp(text, "all-linear") == 0;
        return *yes ? OT_OK : matches(r, text, module, yes);
    }
    if (!json_is_array(list)) return bad_key(r, key, "a list of module names");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (name == NULL) return bad_key(r, key, "a list of module names");
        *yes = *yes || strcmp(name, module) == 0 || ot_lora_targets(&r->m->desc, role, name);
    }
    return OT_OK;
}

/* ==== LoRA. ==== */

static ot_status read_blocks(const reader *r) {
    const json_t *blocks = json_object_get(r->config, "layers_to_transform");
    int64_t layers = r->m->desc.layers;
    bool all = blocks == NULL || json_is_null(blocks);
    for (int64_t b = 0; b < layers; b++) r->tuned[b] = all;
    size_t n = all ? 0 : json_is_array(blocks) ? json_array_size(blocks) : 1;
    for (size_t i = 0; i < n; i++) {
        const json_t *block = json_is_array(blocks) ? json_array_get(blocks, i) : blocks;
        if (!json_is_integer(block)) return bad_key(r, "layers_to_transform", "a list of block numbers");
        if (json_integer_value(block) < 0 || json_integer_value(block) >= layers) {
            return ot_fail(r->err, OT_ERR_REFUSED, "%s: the adapter is for a block %lld, but %s has %lld layers", r->path,
                           (long long)json_integer_value(block), r->m->path, (long long)layers);
        }
        r->tuned[json_integer_value(block)] = true;
    }
    return OT_OK;
}

/* What changes the arithmetic and is not done here. */
static ot_status refuse_variants(const reader *r) {
    static const char *const flags[] = {"lora_bias", "use_qalora", "use_bdlora"};
    static const char *const lists[] = {"modules_to_save", "layer_replication", "trainable_token_indices", "target_parameters",
                                        "alora_invocation_tokens", "megatron_config"};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        if (json_is_true(json_object_get(r->config, flags[i])) || json_is_object(json_object_get(r->config, flags[i]))) {
            return ot_fail(r->err, OT_ERR_UNSUPPORTED, "%s: \"%s\" is not supported: plain LoRA and DoRA are", r->path, flags[i]);
        }
    }
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        const json_t *v = json_object_get(r->config, lists[i]);
        if (r->m->desc.vision && strcmp(lists[i], "modules_to_save") == 0) continue; /* the head, which the file then holds */
        if (v == NULL || json_is_null(v) || (json_is_array(v) && json_array_size(v) == 0)) continue;
        return ot_fail(r->err, OT_ERR_UNSUPPORTED, "%s: \"%s\" is not supported: plain LoRA and DoRA are", r->path, lists[i]);
    }
    const char *bias = json_string_value(json_object_get(r->config, "bias"));
    if (bias != NULL && strcmp(bias, "none") != 0) {
        return ot_fail(r->err, OT_ERR_UNSUPPORTED, "%s: \"bias\": \"%s\" is not supported, only \"none\"", r->path, bias);
    }
    return OT_OK;
}

static ot_status add_place(const reader *r, int32_t block, ot_role role, double rank, double alpha, bool rslora) {
    char name[OT_PARAM_NAME];
    OT_TRY(ot_param_name(r->m->desc.arch, role, block, false, name, r->err));
    name[strlen(name) - strlen(".weight")] = '\0';
    bool target = false, excluded = false;
    OT_TRY(in_list(r, "target_modules", role, name, &target));
    OT_TRY(in_list(r, "exclude_modules", role, name, &excluded));
    if (!target || excluded) return OT_OK;
    OT_TRY(from_pattern(r, "rank_pattern", name, &rank));
    OT_TRY(from_pattern(r, "alpha_pattern", name, &alpha));
    ot_role_shape s = ot_desc_shape(&r->m->desc, role);
    if (!(rank >= 1 && rank <= (double)(s.in > s.out ? s.in : s.out)) || rank != floor(rank) || !isfinite(alpha)) {
        return ot_fail(r->err, OT_ERR_REFUSED, "%s: rank %g with alpha %g makes no sense for %s of %lld by %lld", r->path, rank, alpha, name,
                       (long long)s.out, (long long)s.in);
    }
    return ot_lora_add(r->p, block, role, (int64_t)rank, ot_lora_scale(alpha, (int64_t)rank, rslora), r->err);
}

static ot_status read_lora(const reader *r) {
    double rank = 8, alpha = 8;
    bool rslora = false, dora = false;
    OT_TRY(refuse_variants(r));
    OT_TRY(ot_json_f64(r->config, "r", r->path, &rank, NULL, r->err));
    OT_TRY(ot_json_f64(r->config, "lora_alpha", r->path, &alpha, NULL, r->err));
    OT_TRY(ot_json_bool(r->config, "use_rslora", r->path, &rslora, NULL, r->err));
    OT_TRY(ot_json_bool(r->config, "use_dora", r->path, &dora, NULL, r->err));
    OT_TRY(read_blocks(r));
    OT_TRY(ot_lora_begin(r->p, dora, r->m, r->tuned, r->err));
    for (int32_t block = 0; block < r->m->desc.layers; block++) {
        for (int role = 0; role < OT_ROLE_COUNT; role++) {
            ot_role_shape s = ot_desc_shape(&r->m->desc, (ot_role)role);
            if (!r->tuned[block] || !s.exists || s.vector || !ot_role_in_block((ot_role)role)) continue;
            OT_TRY(add_place(r, block, (ot_role)role, rank, alpha, rslora));
        }
    }
    if (r->p->n_tensors == 0) {
        return ot_fail(r->err, OT_ERR_REFUSED, "%s: \"target_modules\" names no linear in the blocks of %s", r->path, r->m->path);
    }
    return ot_peft_load(r->p, r->st, ot_peft_form_prefix(OT_PEFT_FORM_LORA), NULL, NULL, r->err);
}

/* ==== IA3. ==== */

/* feedforward_modules: a list of ends of paths, or a regular expression. */
static ot_status is_feedforward(const reader *r, const char *module, bool *yes) {
    const json_t *list = json_object_get(r->config, "feedforward_modules");
    size_t n = strlen(module);
    *yes = false;
    if (json_is_string(list)) return matches(r, json_string_value(list), module, yes);
    if (!json_is_array(list)) return bad_key(r, "feedforward_modules", "a list of module names");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (name == NULL) return bad_key(r, "feedforward_modules", "a list of module names");
        size_t end = strlen(name);
        *yes = *yes || (end <= n && strcmp(module + n - end, name) == 0);
    }
    return OT_OK;
}

static ot_status read_ia3(const reader *r) {
    const json_t *extra = json_object_get(r->config, "modules_to_save");
    if (!r->m->desc.vision && json_is_array(extra) && json_array_size(extra) > 0) {
        return ot_fail(r->err, OT_ERR_UNSUPPORTED, "%s: \"modules_to_save\" is not supported", r->path);
    }
    for (int64_t b = 0; b < r->m->desc.layers; b++) r->tuned[b] = true;
    OT_TRY(ot_ia3_begin(r->p, r->m, r->tuned, r->err));
    for (int32_t block = 0; block < r->m->desc.layers; block++) {
        for (int role = 0; role < OT_ROLE_COUNT; role++) {
            ot_role_shape s = ot_desc_shape(&r->m->desc, (ot_role)role);
            char name[OT_PARAM_NAME];
            bool target = false, excluded = false, feedforward = false;
            if (!s.exists || s.vector || !ot_role_in_block((ot_role)role)) continue;
            OT_TRY(ot_param_name(r->m->desc.arch, (ot_role)role, block, false, name, r->err));
            name[strlen(name) - strlen(".weight")] = '\0';
            OT_TRY(in_list(r, "target_modules", (ot_role)role, name, &target));
            OT_TRY(in_list(r, "exclude_modules", (ot_role)role, name, &excluded));
            if (!target || excluded) continue;
            OT_TRY(is_feedforward(r, name, &feedforward));
            OT_TRY(ot_ia3_add(r->p, block, (ot_role)role, feedforward, r->err));
        }
    }
    if (r->p->n_tensors == 0) {
        return ot_fail(r->err, OT_ERR_REFUSED, "%s: \"target_modules\" names no linear in the blocks of %s", r->path, r->m->path);
    }
    return ot_peft_load(r->p, r->st, ot_peft_form_prefix(OT_PEFT_FORM_IA3), NULL, NULL, r->err);
}

/* ==== Virtual tokens. ==== */

/* prompt_embeddings [num_virtual_tokens, per_token]. what: the numbers of a token, for messages. */
static ot_status find_tokens(const reader *r, int64_t per_token, const char *what, const ot_tensor **out, ot_error *err) {
    const ot_tensor *all = ot_safetensors_find(r->st, "prompt_embeddings");
    const char *path = ot_safetensors_path(r->st);
    int64_t tokens = 0;
    OT_TRY(ot_json_i64(r->config, "num_virtual_tokens", r->path, &tokens, NULL, err));
    if (all == NULL) return ot_fail(err, OT_ERR_REFUSED, "%s lacks tensor prompt_embeddings", path);
    if (tokens < 1 || tokens > MAX_TOKENS) return bad_key(r, "num_virtual_tokens", "a whole number from 1 to 65536");
    if (all->n_dims != 2 || all->shape[0] != tokens || all->shape[1] != per_token) {
        char have[96];
        return ot_fail(err, OT_ERR_REFUSED, "%s: prompt_embeddings has shape %s, but %s needs [%lld, %lld]: %s", path,
                       ot_shape_text(all->shape, all->n_dims, have, sizeof have), r->m->path, (long long)tokens, (long long)per_token, what);
    }
    if (all->dtype != OT_F32 && all->dtype != OT_BF16 && all->dtype != OT_F16) {
        return ot_fail(err, OT_ERR_REFUSED, "%s: prompt_embeddings is %s: an adapter holds F32, BF16 or F16", path, ot_dtype_info(all->dtype)->name);
    }
    *out = all;
    return OT_OK;
}

static ot_status read_prefix(const reader *r) {
    int64_t cols = r->m->desc.kv_heads * r->m->desc.head_dim;
    const ot_tensor *all = NULL;
    char what[96];
    snprintf(what, sizeof what, "a key and a value for each of its %lld blocks", (long long)r->m->desc.layers);
    OT_TRY(find_tokens(r, r->m->desc.layers * 2 * cols, what, &all, r->err));
    int64_t tokens = all->shape[0];
    char text[48];
    snprintf(text, sizeof text, "prefix:tokens=%lld", (long long)tokens);
    for (int64_t b = 0; b < r->m->desc.layers; b++) r->tuned[b] = true;
    OT_TRY(ot_peft_attach(r->p, text, r->m, r->tuned, r->err));
    int64_t size = ot_dtype_info(all->dtype)->block_bytes;
    for (int64_t i = 0; i < r->p->n_tensors; i++) {
        for (int64_t k = 0; k < tokens; k++) {
            const char *from = (const char *)all->data + (k * r->p->n_tensors + i) * cols * size;
            ot_decode_f32(all->dtype, from, r->p->tensors[i]->values + k * cols, cols);
        }
        for (int64_t k = 0; k < tokens * cols; k++) {
            if (isfinite(r->p->tensors[i]->values[k])) continue;
            return ot_fail(r->err, OT_ERR_REFUSED, "%s: prompt_embeddings holds numbers that are not finite", ot_safetensors_path(r->st));
        }
    }
    return OT_OK;
}

static ot_status read_prompt(const reader *r) {
    const ot_tensor *all = NULL;
    int64_t modules = 1;
    OT_TRY(ot_json_i64(r->config, "num_transformer_submodules", r->path, &modules, NULL, r->err));
    if (modules != 1) {
        return ot_fail(r->err, OT_ERR_UNSUPPORTED, "%s: \"num_transformer_submodules\" is %lld: prompts for encoders with decoders are not read", r->path,
                       (long long)modules);
    }
    OT_TRY(find_tokens(r, r->m->desc.embed_size, "an embedding for each virtual token", &all, r->err));
    char text[48];
    snprintf(text, sizeof text, "prompt:tokens=%lld", (long long)all->shape[0]);
    OT_TRY(ot_peft_attach(r->p, text, r->m, r->tuned, r->err));
    return ot_peft_load(r->p, r->st, ot_peft_form_prefix(OT_PEFT_FORM_PROMPT), NULL, NULL, r->err);
}

/* ==== Our own form. ==== */

static ot_status own_blocks(const reader *r) {
    const char *arch = json_string_value(json_object_get(r->config, "architecture"));
    json_int_t layers = json_integer_value(json_object_get(r->config, "layers"));
    const json_t *blocks = json_object_get(r->config, "blocks");
    if (arch == NULL || strcmp(arch, r->m->desc.arch->name) != 0 || layers != r->m->desc.layers) {
        return ot_fail(r->err, OT_ERR_REFUSED, "%s: the adapter is for a %s model of %lld layers, but %s is %s with %lld", r->path,
                       arch == NULL ? "nameless" : arch, (long long)layers, r->m->path, r->m->desc.arch->name, (long long)r->m->desc.layers);
    }
    if (!json_is_array(blocks)) return bad_key(r, "blocks", "a list of block numbers");
    for (size_t i = 0; i < json_array_size(blocks); i++) {
        const json_t *block = json_array_get(blocks, i);
        json_int_t b = json_integer_value(block);
        if (!json_is_integer(block) || b < 0 || b >= layers) return bad_key(r, "blocks", "a list of block numbers of the model");
        r->tuned[b] = true;
    }
    return OT_OK;
}

/* Parameters of the model itself. */
static ot_status own_values(const reader *r, const float **values) {
    int64_t used = 0;
    for (int64_t i = 0; i < r->m->n_params; i++) {
        const ot_param *param = &r->m->params[i];
        bool head = ot_model_tunes_head(r->m, param) && !ot_peft_adds(&r->p->choice);
        if (!head && (param->block < 0 || !r->tuned[param->block] || !ot_peft_trains(&r->p->choice, param))) continue;
        const ot_tensor *t = ot_safetensors_find(r->st, param->name);
        if (t == NULL) return ot_fail(r->err, OT_ERR_REFUSED, "%s lacks tensor %s", ot_safetensors_path(r->st), param->name);
        bool same = t->dtype == OT_F32 && t->n_dims == param->stored.n_dims;
        for (int32_t d = 0; same && d < t->n_dims; d++) same = t->shape[d] == param->stored.shape[d];
        if (!same) {
            return ot_fail(r->err, OT_ERR_REFUSED, "%s: tensor %s does not have the dtype F32 and the shape that the model has", ot_safetensors_path(r->st),
                           t->name);
        }
        int64_t n = ot_param_elements(param);
        float *copy = ot_arena_alloc(&r->p->arena, n * 4, r->err);
        if (copy == NULL) return OT_ERR_MEMORY;
        memcpy(copy, t->data, (size_t)n * 4);
        for (int64_t k = 0; k < n; k++) {
            if (!isfinite(copy[k])) {
                return ot_fail(r->err, OT_ERR_REFUSED, "%s: tensor %s holds %g at element %lld", ot_safetensors_path(r->st), t->name, (double)copy[k],
                               (long long)k);
            }
        }
        values[i] = copy;
        used++;
    }
    if (used == ot_safetensors_count(r->st) || ot_peft_adds(&r->p->choice)) return OT_OK;
    return ot_fail(r->err, OT_ERR_REFUSED, "%s holds %lld tensors, but %s over this model has %lld", ot_safetensors_path(r->st),
                   (long long)ot_safetensors_count(r->st), r->p->text, (long long)used);
}

static ot_status read_own(const reader *r, const float **values) {
    const char *method = json_string_value(json_object_get(r->config, "method"));
    if (method == NULL) return bad_key(r, "method", "the text of --peft");
    OT_TRY(own_blocks(r));
    OT_TRY(ot_peft_attach(r->p, method, r->m, r->tuned, r->err));
    if (ot_peft_replaces(&r->p->choice)) OT_TRY(own_values(r, values));
    if (!ot_peft_adds(&r->p->choice)) return OT_OK;
    bool *also = ot_arena_alloc(&r->p->arena, r->m->n_params + 1, r->err);
    if (also == NULL) return OT_ERR_MEMORY;
    for (int64_t i = 0; i < r->m->n_params; i++) also[i] = values[i] != NULL;
    return ot_peft_load(r->p, r->st, "", NULL, also, r->err);
}

/* ==== Any of them. ==== */

/* classes.json: a head for other classes than the model's. PEFT's own directories have none, and are for the model's classes. */
static ot_status read_classes(const char *dir, ot_model *m, ot_error *err) {
    char path[4200];
    json_t *list = NULL;
    if (!m->desc.vision || !ot_path_join(path, sizeof path, dir, OT_PEFT_CLASSES) || !ot_path_exists(path)) return OT_OK;
    OT_TRY(ot_json_read(path, CONFIG_LIMIT, &list, err));
    const char **names = NULL;
    ot_classes own = {0};
    size_t n = json_array_size(list);
    /* An array of pointers is meant. NOLINTNEXTLINE(bugprone-sizeof-expression) */
    ot_status status = ot_calloc((int64_t)n + 1, sizeof *names, "class names", (void **)&names, err);
    for (size_t i = 0; status == OT_OK && i < n; i++) {
        names[i] = json_string_value(json_array_get(list, i));
        if (names[i] == NULL) status = ot_fail(err, OT_ERR_FORMAT, "%s: must be a list of names", path);
    }
    if (status == OT_OK) status = ot_model_classes(m, &own, err);
    if (status == OT_OK && !ot_classes_equal(&own, names, (int64_t)n)) {
        status = ot_model_new_head(m, names, (int64_t)n, err);
        if (status != OT_OK) ot_error_prefix(err, "%s", path);
    }
    if (status == OT_OK) m->headless = false;
    ot_classes_free(&own);
    ot_free(names);
    json_decref(list);
    return status;
}

typedef ot_status peft_reader(const reader *r);
static const struct {
    const char *type;
    peft_reader *read;
} readers[] = {{"LORA", read_lora}, {"IA3", read_ia3}, {"PREFIX_TUNING", read_prefix}, {"PROMPT_TUNING", read_prompt}};

static ot_status read_config(const reader *r, const char *dir, const float **values) {
    const char *type = json_string_value(json_object_get(r->config, "peft_type"));
    char path[4200];
    if (type == NULL) return bad_key(r, "peft_type", "a text");
    bool own = strcmp(type, "OFFSITE") == 0;
    peft_reader *read = NULL;
    for (size_t i = 0; i < sizeof readers / sizeof *readers; i++) read = strcmp(type, readers[i].type) == 0 ? readers[i].read : read;
    if (read == NULL && !own) {
        return ot_fail(r->err, OT_ERR_UNSUPPORTED, "%s: adapters of the type %s are not read; LORA, IA3, PREFIX_TUNING and PROMPT_TUNING are", r->path, type);
    }
    const char *file = ot_peft_form_file(own ? OT_PEFT_FORM_OWN : OT_PEFT_FORM_LORA);
    if (!ot_path_join(path, sizeof path, dir, file)) return ot_fail(r->err, OT_ERR_IO, "the path %s is too long", dir);
    if (!ot_path_exists(path)) return ot_fail(r->err, OT_ERR_IO, "%s holds no %s: adapters are read from safetensors only", dir, file);
    ot_safetensors *st = NULL;
    OT_TRY(ot_safetensors_open(path, &st, r->err));
    reader with_file = *r;
    with_file.st = st;
    ot_status status = own ? read_own(&with_file, values) : read(&with_file);
    ot_safetensors_close(st);
    return status;
}

ot_status ot_peft_files_open(const char *dir, ot_model *m, ot_peft *p, const float **values, ot_error *err) {
    char path[4200];
    json_t *config = NULL;
    *p = (ot_peft){0};
    if (!ot_path_join(path, sizeof path, dir, "adapter_config.json")) return ot_fail(err, OT_ERR_IO, "the path %s is too long", dir);
    OT_TRY(ot_json_read(path, CONFIG_LIMIT, &config, err));
    reader r = {.path = path, .config = config, .m = m, .p = p, .err = err};
    ot_status status = read_classes(dir, m, err);
    if (status == OT_OK) status = ot_calloc(m->desc.layers, sizeof *r.tuned, "a block table", (void **)&r.tuned, err);
    if (status == OT_OK) status = read_config(&r, dir, values);
    ot_free(r.tuned);
    json_decref(config);
    if (status != OT_OK) ot_peft_end(p);
    return status;
}
