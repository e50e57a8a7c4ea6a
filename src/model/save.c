#include "model/save.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/gguf.h"
#include "format/json.h"
#include "format/safetensors.h"
#include "format/tokenizer.h"
#include "tensor/packed.h"

static const int64_t usual_shard = 5000000000;

ot_dtype ot_save_dtype(const ot_param *p, const ot_save_options *o) {
    if (ot_dtype_is_packed(p->stored.dtype)) return p->stored.dtype;
    return o->own_dtype && ot_dtype_is_float(p->stored.dtype) && p->stored.data != NULL ? p->stored.dtype : o->dtype;
}

/* ==== config.json and the small files. ==== */

static void set_layers(const ot_model *m, json_t *whole, const ot_save_options *o) {
    json_t *section = m->desc.arch->section != NULL ? json_object_get(whole, m->desc.arch->section) : NULL;
    json_t *config = json_is_object(section) ? section : whole;
    static const char *const aliases[] = {"n_layer", "num_hidden_layers", "num_layers"};
    bool found = false;
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++) {
        if (json_object_get(config, aliases[i]) == NULL) continue;
        json_object_set_new(config, aliases[i], json_integer(o->n_blocks));
        found = true;
    }
    if (!found) json_object_set_new(config, m->desc.arch->layers_key, json_integer(o->n_blocks));
    const json_t *types = json_object_get(config, "layer_types");
    if (json_is_array(types)) {
        json_t *kept = json_array();
        for (int64_t i = 0; i < o->n_blocks; i++) json_array_append(kept, json_array_get(types, (size_t)o->blocks[i]));
        json_object_set_new(config, "layer_types", kept);
    }
    if (json_is_integer(json_object_get(config, "max_window_layers"))) {
        json_int_t full = json_integer_value(json_object_get(config, "max_window_layers")), kept = 0;
        for (int64_t i = 0; i < o->n_blocks; i++) kept += o->blocks[i] < full;
        if (full <= m->desc.layers) json_object_set_new(config, "max_window_layers", json_integer(kept));
    }
}

ot_status ot_model_save_config(const ot_model *m, const ot_save_options *o, json_t **out, ot_error *err) {
    json_t *config = json_deep_copy(m->config);
    if (config == NULL) return ot_fail_memory(err, 0, "config.json");
    if (o->blocks != NULL) set_layers(m, config, o);
    if (!o->own_dtype || m->source == OT_SOURCE_GGUF || (m->source == OT_SOURCE_CONFIG && m->origin == NULL)) {
        const char *name = o->dtype == OT_F32 ? "float32" : o->dtype == OT_F16 ? "float16" : "bfloat16";
        json_object_set_new(config, json_object_get(config, "dtype") != NULL ? "dtype" : "torch_dtype", json_string(name));
    }
    *out = config;
    return OT_OK;
}

static ot_status write_config(const ot_model *m, const char *dir, const ot_save_options *o, ot_error *err) {
    char path[4096];
    json_t *config = NULL;
    if (!ot_path_join(path, sizeof path, dir, "config.json")) return ot_fail(err, OT_ERR_IO, "the path %s is too long", dir);
    OT_TRY(ot_model_save_config(m, o, &config, err));
    ot_status status = ot_json_write(path, config, err);
    json_decref(config);
    return status;
}

/* The text of a token under its key; nothing for a token that is not there. */
static void set_token(json_t *config, const char *key, const ot_tokenizer *t, int32_t id) {
    char text[512];
    size_t size = id >= 0 ? ot_tokenizer_piece(t, id, text, sizeof text) : 0;
    if (size > 0 && size <= sizeof text) json_object_set_new(config, key, json_stringn(text, size));
}

static ot_status write_tokenizer_config(const ot_tokenizer *t, const char *path, ot_error *err) {
    json_t *config = json_object();
    if (config == NULL) return ot_fail_memory(err, 0, "tokenizer_config.json");
    json_object_set_new(config, "tokenizer_class", json_string("PreTrainedTokenizerFast"));
    set_token(config, "bos_token", t, ot_tokenizer_bos(t));
    set_token(config, "eos_token", t, ot_tokenizer_eos(t));
    ot_status status = ot_json_write(path, config, err);
    json_decref(config);
    return status;
}

/* What a GGUF file says of text, as the files of a folder. */
static ot_status write_gguf_text(const ot_gguf *g, const char *dir, ot_error *err) {
    ot_tokenizer *t = NULL;
    ot_error none;
    char path[4096];
    int64_t size = 0;
    const char *chat = ot_gguf_str(g, "tokenizer.chat_template", &size);
    if (ot_tokenizer_from_gguf(g, &t, &none) != OT_OK) return OT_OK; /* a GGUF of weights alone */
    ot_path_join(path, sizeof path, dir, "tokenizer.json");
    ot_status status = ot_tokenizer_write_json(t, path, err);
    ot_path_join(path, sizeof path, dir, "tokenizer_config.json");
    if (status == OT_OK) status = write_tokenizer_config(t, path, err);
    ot_path_join(path, sizeof path, dir, "chat_template.jinja");
    if (status == OT_OK && size > 0) status = ot_write_file(path, chat, size, err);
    ot_tokenizer_close(t);
    return status;
}

const char *const ot_model_small_files[] = {"generation_config.json", "tokenizer.json",           "tokenizer_config.json", "special_tokens_map.json",
                                            "added_tokens.json",      "vocab.json",               "merges.txt",            "tokenizer.model",
                                            "chat_template.jinja",    "preprocessor_config.json", "processor_config.json", NULL};

static ot_status copy_small_files(const ot_model *m, const char *dir, ot_error *err) {
    char from[4096], to[4096];
    if (m->origin != NULL) m = m->origin;
    if (m->source == OT_SOURCE_GGUF) return write_gguf_text(m->files[0], dir, err);
    for (const char *const *name = ot_model_small_files; *name != NULL; name++) {
        if (!ot_path_join(from, sizeof from, m->path, *name) || !ot_path_join(to, sizeof to, dir, *name)) continue;
        if (ot_path_exists(from)) OT_TRY(ot_copy_file(from, to, err));
    }
    return OT_OK;
}

/* ==== Tensors. ==== */

typedef struct save_item {
    const ot_param *p;
    ot_tensor t; /* as written; data is filled one at a time */
    bool scales; /* of a packed parameter */
} save_item;

/* A packed parameter is two tensors: NAME_packed (I8, or U8 with two codes a byte) and NAME_scale. */
static ot_status add_packed(const ot_param *p, const char *name, ot_arena *arena, save_item *items, ot_error *err) {
    for (int part = 0; part < 2; part++) {
        char full[OT_PARAM_NAME + 8];
        snprintf(full, sizeof full, "%s_%s", name, part == 0 ? "packed" : "scale");
        items[part] = (save_item){.p = p, .t = part == 0 ? p->stored : p->scales, .scales = part == 1};
        items[part].t.name = ot_arena_strdup(arena, full, err);
        if (items[part].t.name == NULL) return OT_ERR_MEMORY;
    }
    items[0].t.dtype = p->stored.dtype == OT_INT4G ? OT_U8 : OT_I8;
    items[0].t.shape[1] = ot_packed_row_bytes(p->stored.dtype, p->slot.cols);
    return OT_OK;
}

static ot_status list_items(const ot_model *m, const ot_save_options *o, ot_arena *arena, save_item **out, int64_t *count, ot_error *err) {
    int64_t blocks = o->blocks != NULL ? o->n_blocks : m->desc.layers;
    save_item *items = ot_arena_alloc(arena, (m->n_params + (blocks + 1) * 4 * OT_ROLE_COUNT) * (int64_t)sizeof *items, err);
    if (items == NULL) return OT_ERR_MEMORY;
    int64_t n = 0;
    for (int64_t pass = -1; pass < blocks; pass++) {
        int64_t source = pass < 0 || o->blocks == NULL ? pass : o->blocks[pass];
        for (int64_t i = 0; i < m->n_params; i++) {
            const ot_param *p = &m->params[i];
            if (p->block != source) continue;
            char name[OT_PARAM_NAME];
            OT_TRY(ot_param_name_at(m, p, pass, name, err));
            if (ot_dtype_is_packed(p->stored.dtype)) {
                OT_TRY(add_packed(p, name, arena, items + n, err));
                n += 2;
                continue;
            }
            save_item *item = &items[n++];
            *item = (save_item){.p = p, .t = {.name = ot_arena_strdup(arena, name, err), .dtype = ot_save_dtype(p, o), .n_dims = p->stored.n_dims}};
            if (item->t.name == NULL) return OT_ERR_MEMORY;
            memcpy(item->t.shape, p->stored.shape, sizeof item->t.shape);
            if (!ot_dtype_bytes(item->t.dtype, ot_param_elements(p), &item->t.bytes)) return ot_fail(err, OT_ERR_FORMAT, "tensor %s is too large", name);
        }
    }
    *out = items;
    *count = n;
    return OT_OK;
}

/* The bytes of one tensor as they go into the file; `wide` and `buffer` hold the largest tensor. */
static ot_status render(save_item *item, const ot_save_options *o, float *wide, void *buffer, ot_error *err) {
    const ot_param *p = item->p;
    const float *values = o->values != NULL ? o->values(o->context, p) : NULL;
    if (ot_dtype_is_packed(p->stored.dtype)) {
        if (p->stored.data == NULL) return ot_fail(err, OT_ERR_FORMAT, "tensor %s has no values", p->name);
        item->t.data = item->scales ? p->scales.data : p->stored.data;
        if (values == NULL) return OT_OK;
        /* `wide` has room for the part that is not wanted: the values are the caller's. */
        void *codes = item->scales ? (void *)wide : buffer, *scales = item->scales ? buffer : (void *)wide;
        ot_packed_encode(p->stored.dtype, values, p->slot.group, p->slot.rows, p->slot.cols, codes, scales);
        item->t.data = buffer;
        return OT_OK;
    }
    if (values == NULL && p->stored.dtype == item->t.dtype && p->stored.data != NULL) {
        item->t.data = p->stored.data;
        return OT_OK;
    }
    if (values == NULL) {
        if (p->stored.data == NULL) return ot_fail(err, OT_ERR_FORMAT, "tensor %s has no values", p->name);
        ot_decode_f32(p->stored.dtype, p->stored.data, wide, ot_param_elements(p));
        values = wide;
    }
    item->t.data = item->t.dtype == OT_F32 ? (const void *)values : buffer;
    if (item->t.dtype != OT_F32 && !ot_encode_f32(item->t.dtype, values, buffer, ot_param_elements(p))) {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "tensor %s cannot be written as %s", p->name, ot_dtype_info(item->t.dtype)->name);
    }
    return OT_OK;
}

typedef struct save_job {
    const ot_save_options *o;
    ot_save_observer *observer;
    void *context;
    float *wide;
    void *buffer;
} save_job;

static ot_status write_shard(const save_job *job, const char *path, save_item *items, int64_t n, ot_error *err) {
    ot_tensor *tensors = calloc((size_t)n + 1, sizeof *tensors);
    if (tensors == NULL) return ot_fail_memory(err, (uint64_t)n * sizeof *tensors, "a tensor table");
    for (int64_t i = 0; i < n; i++) tensors[i] = items[i].t;
    ot_safetensors_writer *w = NULL;
    ot_status status = ot_safetensors_writer_open(path, tensors, n, NULL, &w, err);
    free(tensors);
    for (int64_t i = 0; status == OT_OK && i < n; i++) {
        status = render(&items[i], job->o, job->wide, job->buffer, err);
        if (status == OT_OK && job->observer != NULL) status = job->observer(job->context, &items[i].t, err);
        if (status == OT_OK) status = ot_safetensors_writer_put(w, items[i].t.data, items[i].t.bytes, err);
    }
    if (status == OT_OK) {
        status = ot_safetensors_writer_commit(w, err);
        if (status == OT_OK) return OT_OK;
    }
    ot_safetensors_writer_abort(w);
    return status;
}

static ot_status write_shards(const save_job *job, const char *dir, save_item *items, int64_t n, ot_error *err) {
    int64_t limit = job->o->shard_bytes > 0 ? job->o->shard_bytes : usual_shard, total = 0, shards = 1, in_shard = 0;
    for (int64_t i = 0; i < n; i++) {
        if (in_shard > 0 && in_shard + items[i].t.bytes > limit) {
            shards++;
            in_shard = 0;
        }
        in_shard += items[i].t.bytes;
        total += items[i].t.bytes;
    }
    char path[4096], file[64];
    if (shards == 1) {
        if (!ot_path_join(path, sizeof path, dir, "model.safetensors")) return ot_fail(err, OT_ERR_IO, "the path %s is too long", dir);
        return write_shard(job, path, items, n, err);
    }
    json_t *index = json_object(), *map = json_object();
    json_object_set_new(index, "metadata", json_pack("{s:I}", "total_size", (json_int_t)total));
    json_object_set(index, "weight_map", map);
    ot_status status = OT_OK;
    for (int64_t first = 0, shard = 1; status == OT_OK && first < n; shard++) {
        int64_t last = first;
        in_shard = 0;
        snprintf(file, sizeof file, "model-%05lld-of-%05lld.safetensors", (long long)shard, (long long)shards);
        while (last < n && (in_shard == 0 || in_shard + items[last].t.bytes <= limit)) {
            in_shard += items[last].t.bytes;
            json_object_set_new(map, items[last++].t.name, json_string(file));
        }
        if (!ot_path_join(path, sizeof path, dir, file)) status = ot_fail(err, OT_ERR_IO, "the path %s is too long", dir);
        if (status == OT_OK) status = write_shard(job, path, items + first, last - first, err);
        first = last;
    }
    ot_path_join(path, sizeof path, dir, "model.safetensors.index.json");
    if (status == OT_OK) status = ot_json_write(path, index, err);
    json_decref(map);
    json_decref(index);
    return status;
}

ot_status ot_model_save_observed(const ot_model *m, const char *dir, const ot_save_options *options, ot_save_observer *observer, void *context,
                                 ot_error *err) {
    ot_arena arena = {0};
    save_item *items = NULL;
    int64_t n = 0, largest = 0;
    save_job job = {.o = options, .observer = observer, .context = context};
    ot_status status = list_items(m, options, &arena, &items, &n, err);
    for (int64_t i = 0; i < n; i++) largest = ot_param_elements(items[i].p) > largest ? ot_param_elements(items[i].p) : largest;
    if (status == OT_OK) status = ot_malloc(largest, 4, "a tensor in F32", (void **)&job.wide, err);
    if (status == OT_OK) status = ot_malloc(largest, 4, "a converted tensor", &job.buffer, err);
    if (status == OT_OK) status = write_shards(&job, dir, items, n, err);
    if (status == OT_OK) status = copy_small_files(m, dir, err);
    if (status == OT_OK) status = write_config(m, dir, options, err);
    ot_free(job.wide);
    ot_free(job.buffer);
    ot_arena_free(&arena);
    return status;
}

ot_status ot_model_save(const ot_model *m, const char *dir, const ot_save_options *options, ot_error *err) {
    return ot_model_save_observed(m, dir, options, NULL, NULL, err);
}
