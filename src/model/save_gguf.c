#include "model/save_gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/gguf_write.h"
#include "format/json.h"
#include "format/tokenizer.h"
#include "model/gguf_map.h"

enum { SMALL_FILE_LIMIT = 64 << 20 };

/* ==== What has a place. ==== */

ot_status ot_model_gguf_check(const ot_model *m, ot_error *err) {
    const ot_desc *d = &m->desc;
    const ot_gguf_family *family = ot_gguf_family_of(d->arch);
    const char *what = NULL;
    if (family == NULL) {
        return ot_fail(err, OT_ERR_UNSUPPORTED,
                       "%s: GGUF and llama.cpp have no architecture for %s: llama, mistral, qwen2, qwen3, gpt2 and bloom can be exported; use --format hf",
                       m->path, d->arch->name);
    }
    ot_act_kind act = family->rope ? OT_ACT_SILU : OT_ACT_GELU_TANH;
    if (d->act != act) what = family->rope ? "an activation other than silu" : "an activation other than gelu_new";
    if (d->scale_by_layer) what = "scale_attn_by_inverse_layer_idx";
    if (family->rope && d->rotary_dim != d->head_dim) what = "rotary positions over a part of each head";
    if (strcmp(d->arch->name, "qwen3") == 0 && d->bias_qkv) what = "attention biases";
    if (what == NULL) return OT_OK;
    return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: the model has %s, which a GGUF of the architecture %s cannot express: use --format hf", m->path, what,
                   family->name);
}

/* ==== Keys. ==== */

static int64_t size_of(const ot_desc *d, const char *key) {
    if (strcmp(key, "block_count") == 0) return d->layers;
    if (strcmp(key, "embedding_length") == 0) return d->hidden_size;
    if (strcmp(key, "attention.head_count") == 0) return d->heads;
    if (strcmp(key, "feed_forward_length") == 0) return d->ffn_size;
    /* Within its window a model attends to everything, and that is all that a GGUF can say of it. */
    return d->window > 0 && d->window < d->max_positions ? d->window : d->max_positions;
}

/* llama.cpp's number for what most matrices are stored in. */
static uint32_t file_type(ot_dtype dtype) {
    return dtype == OT_F32 ? 0 : dtype == OT_F16 ? 1 : dtype == OT_Q4_0 ? 2 : dtype == OT_Q8_0 ? 7 : 32;
}

static const char *key(const ot_gguf_family *f, const char *name, char text[128]) {
    snprintf(text, 128, "%s.%s", f->name, name);
    return text;
}

static void put_rope(ot_gguf_writer *w, const ot_gguf_family *f, const ot_desc *d) {
    char t[128];
    ot_gguf_put_u32(w, key(f, "attention.key_length", t), (uint32_t)d->head_dim);
    ot_gguf_put_u32(w, key(f, "attention.value_length", t), (uint32_t)d->head_dim);
    ot_gguf_put_u32(w, key(f, "rope.dimension_count", t), (uint32_t)d->rotary_dim);
    ot_gguf_put_f32(w, key(f, "rope.freq_base", t), d->rope_theta);
    if (d->rope_scaling == OT_ROPE_LINEAR) {
        ot_gguf_put_str(w, key(f, "rope.scaling.type", t), "linear");
        ot_gguf_put_f32(w, key(f, "rope.scaling.factor", t), d->rope_factor);
    }
    if (d->rope_scaling == OT_ROPE_LLAMA3) {
        ot_gguf_put_f64(w, ot_gguf_key_factor, d->rope_factor);
        ot_gguf_put_f64(w, ot_gguf_key_low, d->rope_low_freq);
        ot_gguf_put_f64(w, ot_gguf_key_high, d->rope_high_freq);
        ot_gguf_put_f64(w, ot_gguf_key_original, d->rope_original_positions);
    }
}

static void put_keys(ot_gguf_writer *w, const ot_model *m, ot_dtype dtype) {
    const ot_desc *d = &m->desc;
    const ot_gguf_family *f = ot_gguf_family_of(d->arch);
    char t[128], name[256];
    snprintf(name, sizeof name, "%s", ot_path_base(m->path));
    ot_gguf_put_str(w, "general.architecture", f->name);
    ot_gguf_put_str(w, "general.type", "model");
    ot_gguf_put_str(w, "general.name", name[0] != '\0' ? name : d->arch->name);
    ot_gguf_put_u32(w, "general.file_type", file_type(dtype));
    ot_gguf_put_u32(w, "general.quantization_version", 2);
    for (const ot_gguf_size *s = f->sizes; s->gguf != NULL; s++) ot_gguf_put_u32(w, key(f, s->gguf, t), (uint32_t)size_of(d, s->gguf));
    /* Two keys that llama.cpp wants of every architecture. */
    if (strcmp(f->name, "bloom") == 0) ot_gguf_put_u32(w, key(f, "feed_forward_length", t), (uint32_t)d->ffn_size);
    ot_gguf_put_u32(w, key(f, "attention.head_count_kv", t), (uint32_t)d->kv_heads);
    ot_gguf_put_f32(w, key(f, f->eps, t), d->norm_eps);
    ot_gguf_put_u32(w, key(f, "vocab_size", t), (uint32_t)d->vocab_size);
    if (f->rope) put_rope(w, f, d);
}

/* ==== The tokenizer. ==== */

static ot_status read_small(const char *dir, const char *name, json_t **out, ot_error *err) {
    char path[4200];
    *out = NULL;
    if (!ot_path_join(path, sizeof path, dir, name) || !ot_path_exists(path)) return OT_OK;
    return ot_json_read_large(path, SMALL_FILE_LIMIT, out, err);
}

/* "eos_token": a text or an object with a text. */
static int32_t special(const json_t *config, const char *name, const ot_tokenizer *t, int64_t otherwise) {
    const json_t *value = json_object_get(config, name);
    if (json_is_object(value)) value = json_object_get(value, "content");
    int32_t id = json_is_string(value) ? ot_tokenizer_find(t, json_string_value(value)) : -1;
    return id >= 0 ? id : (int32_t)otherwise;
}

static ot_status put_template(ot_gguf_writer *w, const char *dir, const json_t *config, ot_error *err) {
    char path[4200], *text = NULL;
    int64_t size = 0;
    const json_t *inside = json_object_get(config, "chat_template");
    if (json_is_string(inside)) {
        ot_gguf_put_text(w, "tokenizer.chat_template", json_string_value(inside), (int64_t)json_string_length(inside));
        return OT_OK;
    }
    if (!ot_path_join(path, sizeof path, dir, "chat_template.jinja") || !ot_path_exists(path)) return OT_OK;
    OT_TRY(ot_read_file(path, SMALL_FILE_LIMIT, &text, &size, err));
    ot_gguf_put_text(w, "tokenizer.chat_template", text, size);
    ot_free(text);
    return OT_OK;
}

static bool has_tokenizer(const char *dir) {
    static const char *const names[] = {"tokenizer.json", "vocab.json", "tokenizer.model"};
    char path[4200];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (ot_path_join(path, sizeof path, dir, names[i]) && ot_path_exists(path)) return true;
    }
    return false;
}

/* tokenizer.model has the scores that a GGUF wants, where tokenizer.json has merges. */
static ot_status open_tokenizer(const char *dir, ot_tokenizer **out, ot_error *err) {
    char path[4200], json[4200];
    ot_error ignored;
    bool spm = ot_path_join(path, sizeof path, dir, "tokenizer.model") && ot_path_exists(path);
    if (spm && ot_path_join(json, sizeof json, dir, "added_tokens.json") && !ot_path_exists(json) && ot_tokenizer_open(path, out, &ignored) == OT_OK) {
        return OT_OK;
    }
    return ot_tokenizer_open(dir, out, err);
}

static ot_status put_tokenizer(ot_gguf_writer *w, const ot_model *m, const ot_gguf_save_options *o, ot_gguf_save_summary *s, ot_error *err) {
    s->tokenizer = true;
    if (m->source == OT_SOURCE_GGUF && ot_gguf_str(m->files[0], "tokenizer.ggml.model", NULL) != NULL) {
        ot_gguf_copy_pairs(w, m->files[0], "tokenizer.");
        return OT_OK;
    }
    if (m->source == OT_SOURCE_GGUF || !has_tokenizer(m->path)) {
        ot_gguf_put_str(w, "tokenizer.ggml.model", "none");
        s->tokenizer = false;
        return OT_OK;
    }
    ot_tokenizer *t = NULL;
    json_t *config = NULL;
    OT_TRY(open_tokenizer(m->path, &t, err));
    ot_status status = read_small(m->path, "tokenizer_config.json", &config, err);
    if (status == OT_OK && config == NULL) status = read_small(m->path, "special_tokens_map.json", &config, err);
    ot_tokenizer_gguf options = {.vocab_size = m->desc.vocab_size, .pre = o->pre};
    options.bos = special(config, "bos_token", t, m->desc.bos_id);
    options.eos = special(config, "eos_token", t, m->desc.eos_id);
    options.unk = special(config, "unk_token", t, -1);
    options.pad = special(config, "pad_token", t, m->desc.padding_id);
    if (status == OT_OK) status = ot_tokenizer_put_gguf(t, &options, w, err);
    if (status == OT_OK) status = put_template(w, m->path, config, err);
    json_decref(config);
    ot_tokenizer_close(t);
    return status;
}

/* ==== Tensors. ==== */

/* Vectors and learned positions stay F32, as llama.cpp's converter has them; in a 4-bit file the embedding and the head have 8 bits, because every
 * token's logit reads them. */
static ot_dtype type_of(const ot_param *p, int64_t row, ot_dtype dtype, bool *wider) {
    *wider = false;
    if (p->stored.n_dims < 2 || p->role == OT_ROLE_POSITIONS) return OT_F32;
    if (ot_dtype_is_quantised(dtype) && row % ot_dtype_info(dtype)->block_elements != 0) {
        *wider = true;
        return OT_F16;
    }
    return dtype == OT_Q4_0 && !ot_role_in_block(p->role) ? OT_Q8_0 : dtype;
}

typedef struct save_job {
    const ot_model *m;
    const ot_gguf_save_options *o;
    ot_gguf_writer *w;
    ot_tensor *tensors; /* [params] as written */
    float *wide, *ordered;
    void *encoded;
} save_job;

static ot_status declare(save_job *job, ot_arena *arena, ot_gguf_save_summary *s, int64_t *largest, ot_error *err) {
    const ot_desc *d = &job->m->desc;
    for (int64_t i = 0; i < job->m->n_params; i++) {
        const ot_param *p = &job->m->params[i];
        ot_tensor *t = &job->tensors[i];
        char name[OT_GGUF_NAME];
        bool turned = ot_gguf_layout_of(d, p->role, p->bias) == OT_GGUF_TRANSPOSED, wider = false;
        OT_TRY(ot_gguf_param_name(d, p->role, p->block, p->bias, name, err));
        *t = (ot_tensor){.name = ot_arena_strdup(arena, name, err), .n_dims = p->stored.n_dims};
        if (t->name == NULL) return OT_ERR_MEMORY;
        memcpy(t->shape, p->stored.shape, sizeof t->shape);
        if (turned) {
            t->shape[0] = p->stored.shape[1];
            t->shape[1] = p->stored.shape[0];
        }
        int64_t n = ot_param_elements(p);
        t->dtype = type_of(p, t->shape[t->n_dims - 1], job->o->dtype, &wider);
        if (!ot_dtype_bytes(t->dtype, n, &t->bytes)) return ot_fail(err, OT_ERR_FORMAT, "tensor %s is too large", name);
        OT_TRY(ot_gguf_declare(job->w, t, err));
        s->kept_wider += wider;
        s->tensors++;
        s->bytes += t->bytes;
        if (n > *largest) *largest = n;
    }
    return OT_OK;
}

/* Model order to file order; out [elements]. */
static void order(const ot_desc *d, const ot_param *p, const float *from, float *to) {
    int64_t rows = p->stored.shape[0], cols = p->stored.n_dims > 1 ? p->stored.shape[1] : 1;
    if (ot_gguf_layout_of(d, p->role, p->bias) == OT_GGUF_ROWS) {
        for (int64_t r = 0; r < rows; r++) memcpy(to + ot_gguf_row(d, p->role, r) * cols, from + r * cols, (size_t)cols * 4);
        return;
    }
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = 0; c < cols; c++) to[c * rows + r] = from[r * cols + c];
    }
}

static ot_status write_one(save_job *job, int64_t i, ot_error *err) {
    const ot_param *p = &job->m->params[i];
    const ot_tensor *t = &job->tensors[i];
    const ot_desc *d = &job->m->desc;
    const float *values = job->o->values != NULL ? job->o->values(job->o->context, p) : NULL;
    bool as_is = ot_gguf_layout_of(d, p->role, p->bias) == OT_GGUF_AS_IS;
    int64_t n = ot_param_elements(p);
    if (values == NULL && p->stored.data == NULL) return ot_fail(err, OT_ERR_FORMAT, "tensor %s has no values", p->name);
    if (values == NULL && as_is && p->stored.dtype == t->dtype) return ot_gguf_writer_put(job->w, p->stored.data, t->bytes, err);
    if (values == NULL) {
        ot_decode_f32(p->stored.dtype, p->stored.data, job->wide, n);
        values = job->wide;
    }
    if (!as_is) {
        order(d, p, values, job->ordered);
        values = job->ordered;
    }
    if (t->dtype == OT_F32) return ot_gguf_writer_put(job->w, values, t->bytes, err);
    if (!ot_encode_f32(t->dtype, values, job->encoded, n)) {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "tensor %s cannot be written as %s", p->name, ot_dtype_info(t->dtype)->name);
    }
    return ot_gguf_writer_put(job->w, job->encoded, t->bytes, err);
}

static ot_status write_file(save_job *job, ot_arena *arena, ot_gguf_save_summary *s, ot_error *err) {
    const ot_desc *d = &job->m->desc;
    int64_t largest = 0;
    put_keys(job->w, job->m, job->o->dtype);
    OT_TRY(put_tokenizer(job->w, job->m, job->o, s, err));
    OT_TRY(declare(job, arena, s, &largest, err));
    float *factors = NULL;
    ot_tensor rope = {.name = "rope_freqs.weight", .dtype = OT_F32, .n_dims = 1, .shape = {d->rotary_dim / 2}, .bytes = d->rotary_dim / 2 * 4};
    if (d->rope_scaling == OT_ROPE_LLAMA3) {
        factors = ot_arena_alloc(arena, rope.bytes, err);
        if (factors == NULL) return OT_ERR_MEMORY;
        ot_gguf_rope_factors(d, factors);
        OT_TRY(ot_gguf_declare(job->w, &rope, err));
    }
    OT_TRY(ot_malloc(largest, 4, "a tensor in F32", (void **)&job->wide, err));
    OT_TRY(ot_malloc(largest, 4, "a tensor in the file's order", (void **)&job->ordered, err));
    OT_TRY(ot_malloc(largest, 4, "a converted tensor", &job->encoded, err));
    OT_TRY(ot_gguf_writer_begin(job->w, err));
    for (int64_t i = 0; i < job->m->n_params; i++) OT_TRY(write_one(job, i, err));
    return factors == NULL ? OT_OK : ot_gguf_writer_put(job->w, factors, rope.bytes, err);
}

ot_status ot_model_save_gguf(const ot_model *m, const char *path, const ot_gguf_save_options *options, ot_gguf_save_summary *summary, ot_error *err) {
    *summary = (ot_gguf_save_summary){0};
    OT_TRY(ot_model_gguf_check(m, err));
    save_job job = {.m = m, .o = options};
    ot_arena arena = {0};
    OT_TRY(ot_gguf_writer_new(path, &job.w, err));
    job.tensors = ot_arena_alloc(&arena, (m->n_params + 1) * (int64_t)sizeof *job.tensors, err);
    ot_status status = job.tensors == NULL ? OT_ERR_MEMORY : write_file(&job, &arena, summary, err);
    if (status == OT_OK) status = ot_gguf_writer_commit(job.w, err);
    if (status != OT_OK) ot_gguf_writer_abort(job.w);
    ot_free(job.wide);
    ot_free(job.ordered);
    ot_free(job.encoded);
    ot_arena_free(&arena);
    return status;
}
