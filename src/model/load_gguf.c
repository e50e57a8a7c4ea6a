/* Weights and configuration of a GGUF file. The block-quantised bytes are used as they are; only what llama.cpp's converter rearranges is put
 * back (gguf_map.h). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/gguf_map.h"

static bool meta_i64(const ot_gguf *g, const char *arch, const char *key, int64_t *out) {
    char name[128];
    snprintf(name, sizeof name, "%s.%s", arch, key);
    return ot_gguf_i64(g, name, out);
}

static bool meta_f64(const ot_gguf *g, const char *arch, const char *key, double *out) {
    char name[128];
    snprintf(name, sizeof name, "%s.%s", arch, key);
    return ot_gguf_f64(g, name, out);
}

/* The Llama family's head sizes and rotary positions. */
static ot_status rope_keys(json_t *c, const ot_gguf *g, const char *name, ot_error *err) {
    const char *path = ot_gguf_path(g);
    int64_t heads = json_integer_value(json_object_get(c, "num_attention_heads")), value = 0;
    int64_t hidden = json_integer_value(json_object_get(c, "hidden_size"));
    json_object_set_new(c, "num_key_value_heads", json_integer(meta_i64(g, name, "attention.head_count_kv", &value) ? value : heads));
    bool has_dim = meta_i64(g, name, "attention.key_length", &value);
    int64_t head_dim = has_dim ? value : heads > 0 ? hidden / heads : 0;
    if (has_dim || (heads > 0 && hidden % heads != 0)) json_object_set_new(c, "head_dim", json_integer(head_dim));
    if (meta_i64(g, name, "rope.dimension_count", &value) && value != head_dim) {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: rotary positions over %lld of %lld columns are not supported in a GGUF", path,
                       (long long)value, (long long)head_dim);
    }
    double number = 0;
    char text[128];
    json_object_set_new(c, "rope_theta", json_real(meta_f64(g, name, "rope.freq_base", &number) ? number : 10000.0));
    snprintf(text, sizeof text, "%s.rope.scaling.type", name);
    const char *scaling = ot_gguf_str(g, text, NULL);
    if (scaling != NULL && strcmp(scaling, "linear") == 0 && meta_f64(g, name, "rope.scaling.factor", &number)) {
        json_object_set_new(c, "rope_scaling", json_pack("{s:s,s:f}", "rope_type", "linear", "factor", number));
    } else if (scaling != NULL && strcmp(scaling, "none") != 0) {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: rope scaling of type \"%s\" is not supported in a GGUF", path, scaling);
    }
    json_object_set_new(c, "hidden_act", json_string("silu"));
    json_object_set_new(c, "attention_bias", json_boolean(ot_gguf_find(g, "blk.0.attn_output.bias") != NULL ||
                                                          (strcmp(name, "qwen2") != 0 && ot_gguf_find(g, "blk.0.attn_q.bias") != NULL)));
    if (ot_gguf_find(g, "blk.0.ffn_up.bias") != NULL) json_object_set_new(c, "mlp_bias", json_true());
    return OT_OK;
}

/* The config.json that transformers would write for this file. */
static ot_status make_config(ot_model *m, const ot_gguf *g, const ot_arch *arch, const ot_gguf_family *family, ot_error *err) {
    const char *path = ot_gguf_path(g), *name = family->name;
    json_t *c = m->config = json_object();
    json_object_set_new(c, "architectures", json_pack("[s]", arch->class_name));
    json_object_set_new(c, "model_type", json_string(arch->model_types[0]));
    int64_t value = 0;
    for (const ot_gguf_size *s = family->sizes; s->gguf != NULL; s++) {
        if (!meta_i64(g, name, s->gguf, &value)) {
            return ot_fail(err, OT_ERR_FORMAT, "%s: the key %s.%s is missing or no whole number", path, name, s->gguf);
        }
        json_object_set_new(c, s->hf, json_integer(value));
    }
    double number = 0;
    json_object_set_new(c, family->eps_hf, json_real(meta_f64(g, name, family->eps, &number) ? (double)(float)number : family->default_eps));
    if (family->rope) OT_TRY(rope_keys(c, g, name, err));
    const ot_tensor *embed = ot_gguf_find(g, "token_embd.weight");
    if (embed == NULL || embed->n_dims != 2) return ot_fail(err, OT_ERR_FORMAT, "%s: the tensor token_embd.weight is missing or no matrix", path);
    json_object_set_new(c, "vocab_size", json_integer(embed->shape[0]));
    json_object_set_new(c, "tie_word_embeddings", json_boolean(ot_gguf_find(g, "output.weight") == NULL));
    json_object_set_new(c, "bos_token_id", ot_gguf_i64(g, "tokenizer.ggml.bos_token_id", &value) ? json_integer(value) : json_null());
    json_object_set_new(c, "eos_token_id", ot_gguf_i64(g, "tokenizer.ggml.eos_token_id", &value) ? json_integer(value) : json_null());
    json_object_set_new(c, "torch_dtype", json_string("bfloat16"));
    return OT_OK;
}

/* ==== Frequency factors of Llama 3. ==== */

typedef struct llama3_settings {
    double factor, low, high, original;
} llama3_settings;

/* Do these settings give the factors of the file? */
static bool gives(const ot_desc *desc, const llama3_settings *s, const float *wanted, float *work) {
    ot_desc d = *desc;
    d.rope_factor = s->factor;
    d.rope_low_freq = s->low;
    d.rope_high_freq = s->high;
    d.rope_original_positions = s->original;
    ot_gguf_rope_factors(&d, work);
    for (int64_t i = 0; i < d.rotary_dim / 2; i++) {
        if (!(fabsf(work[i] - wanted[i]) <= 1e-4F * fabsf(wanted[i]))) return false;
    }
    return true;
}

/* The file says what every frequency is divided by; config.json wants the settings behind it: those that this program wrote beside them, or
 * those of the published Llama 3 models with the largest factor. */
static ot_status take_rope_factors(ot_model *m, const ot_gguf *g, ot_error *err) {
    const ot_tensor *t = ot_gguf_find(g, "rope_freqs.weight");
    if (t == NULL || m->desc.position != OT_POSITION_ROPE) return OT_OK;
    int64_t n = m->desc.rotary_dim / 2;
    if (t->dtype != OT_F32 || t->n_dims != 1 || t->shape[0] != n) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: rope_freqs.weight must be F32 with %lld values", m->path, (long long)n);
    }
    float *wanted = ot_arena_alloc(&m->arena, 2 * n * 4, err);
    if (wanted == NULL) return OT_ERR_MEMORY;
    memcpy(wanted, t->data, (size_t)n * 4);
    llama3_settings s = {1.0, 1.0, 4.0, 8192.0};
    for (int64_t i = 0; i < n; i++) s.factor = wanted[i] > s.factor ? wanted[i] : s.factor;
    if (!gives(&m->desc, &s, wanted, wanted + n)) {
        bool own = ot_gguf_f64(g, ot_gguf_key_factor, &s.factor) && ot_gguf_f64(g, ot_gguf_key_low, &s.low) &&
                   ot_gguf_f64(g, ot_gguf_key_high, &s.high) && ot_gguf_f64(g, ot_gguf_key_original, &s.original);
        if (!own || !gives(&m->desc, &s, wanted, wanted + n)) {
            return ot_fail(err, OT_ERR_UNSUPPORTED,
                           "%s: these rotary frequency factors (rope_freqs.weight) are not those of Llama 3: use the model's Hugging Face directory", m->path);
        }
    }
    json_object_set_new(m->config, "rope_scaling",
                        json_pack("{s:s,s:f,s:f,s:f,s:f}", "rope_type", "llama3", "factor", s.factor, "low_freq_factor", s.low, "high_freq_factor", s.high,
                                  "original_max_position_embeddings", s.original));
    return ot_desc_from_config(m->config, m->path, &m->desc, err);
}

/* ==== Tensors. ==== */

static ot_status take(ot_model *m, const ot_gguf *g, ot_param *p, ot_error *err) {
    char name[OT_GGUF_NAME];
    if (ot_gguf_param_name(&m->desc, p->role, p->block, p->bias, name, err) != OT_OK) return ot_error_prefix(err, "%s", m->path);
    const ot_tensor *t = ot_gguf_find(g, name);
    if (t == NULL) return ot_fail(err, OT_ERR_FORMAT, "%s: the tensor %s is missing", m->path, name);
    bool turned = ot_gguf_layout_of(&m->desc, p->role, p->bias) == OT_GGUF_TRANSPOSED;
    int64_t wanted[OT_MAX_DIMS];
    memcpy(wanted, p->stored.shape, sizeof wanted);
    if (turned) {
        wanted[0] = p->stored.shape[1];
        wanted[1] = p->stored.shape[0];
    }
    bool same = t->n_dims == p->stored.n_dims;
    for (int d = 0; same && d < t->n_dims; d++) same = t->shape[d] == wanted[d];
    if (!same) {
        char have[96], want[96];
        return ot_fail(err, OT_ERR_FORMAT, "%s: tensor %s has shape %s, but the file's metadata asks for %s", m->path, name,
                       ot_shape_text(t->shape, t->n_dims, have, sizeof have), ot_shape_text(wanted, p->stored.n_dims, want, sizeof want));
    }
    if (!ot_dtype_is_float(t->dtype) && !ot_dtype_is_quantised(t->dtype)) {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: tensor %s has the type %s, which cannot be read", m->path, name, ot_dtype_info(t->dtype)->name);
    }
    if (p->stored.n_dims == 1 && ot_dtype_is_quantised(t->dtype)) {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: tensor %s is a quantised vector, which cannot be read", m->path, name);
    }
    int64_t shape[OT_MAX_DIMS];
    memcpy(shape, p->stored.shape, sizeof shape);
    const char *own = p->name;
    p->stored = *t;
    p->stored.name = own;
    memcpy(p->stored.shape, shape, sizeof shape);
    return OT_OK;
}

/* Bytes that a rearranged copy of a tensor takes. Blocks of a quantised matrix do not survive being turned: it becomes F32. */
static int64_t copy_bytes(const ot_param *p, ot_gguf_layout layout) {
    if (layout == OT_GGUF_AS_IS) return 0;
    bool decoded = layout == OT_GGUF_TRANSPOSED && ot_dtype_is_quantised(p->stored.dtype);
    return decoded ? ot_param_elements(p) * 4 : p->stored.bytes;
}

static void order_rows(const ot_desc *desc, ot_param *p, char *to) {
    int64_t rows = p->stored.shape[0], row_bytes = p->stored.bytes / rows;
    const char *from = p->stored.data;
    for (int64_t r = 0; r < rows; r++) memcpy(to + r * row_bytes, from + ot_gguf_row(desc, p->role, r) * row_bytes, (size_t)row_bytes);
}

/* [out, in] of the file to [in, out]. row: one row of the file in F32. */
static void turn(ot_param *p, char *to, float *row) {
    int64_t in = p->stored.shape[0], out = p->stored.shape[1], row_bytes = p->stored.bytes / out;
    bool decoded = ot_dtype_is_quantised(p->stored.dtype);
    int64_t size = decoded ? 4 : ot_dtype_info(p->stored.dtype)->block_bytes;
    for (int64_t o = 0; o < out; o++) {
        const char *from = (const char *)p->stored.data + o * row_bytes;
        if (decoded) ot_decode_f32(p->stored.dtype, from, row, in);
        if (decoded) from = (const char *)row;
        if (size == 2) {
            for (int64_t i = 0; i < in; i++) memcpy(to + (i * out + o) * 2, from + i * 2, 2);
        } else if (size == 4) {
            for (int64_t i = 0; i < in; i++) memcpy(to + (i * out + o) * 4, from + i * 4, 4);
        } else {
            for (int64_t i = 0; i < in; i++) memcpy(to + (i * out + o) * size, from + i * size, (size_t)size);
        }
    }
    if (decoded) p->stored.dtype = OT_F32;
}

static ot_status rearrange(ot_model *m, ot_error *err) {
    int64_t bytes = 0, longest = 0, at = 0;
    for (int64_t i = 0; i < m->n_params; i++) {
        const ot_param *p = &m->params[i];
        ot_gguf_layout layout = ot_gguf_layout_of(&m->desc, p->role, p->bias);
        bytes += ot_round_up(copy_bytes(p, layout), OT_ALIGN);
        if (layout == OT_GGUF_TRANSPOSED && p->stored.shape[0] > longest) longest = p->stored.shape[0];
    }
    float *row = ot_arena_alloc(&m->arena, (longest + 1) * 4, err);
    if (row == NULL) return OT_ERR_MEMORY;
    OT_TRY(ot_malloc(bytes, 1, "matrices in the order of the architecture", &m->permuted, err));
    for (int64_t i = 0; i < m->n_params; i++) {
        ot_param *p = &m->params[i];
        ot_gguf_layout layout = ot_gguf_layout_of(&m->desc, p->role, p->bias);
        int64_t size = copy_bytes(p, layout);
        if (layout == OT_GGUF_AS_IS) continue;
        char *to = (char *)m->permuted + at;
        if (layout == OT_GGUF_ROWS) {
            order_rows(&m->desc, p, to);
        } else {
            turn(p, to, row);
        }
        p->stored.data = to;
        p->stored.bytes = size;
        at += ot_round_up(size, OT_ALIGN);
    }
    return OT_OK;
}

ot_status ot_model_load_gguf(ot_model *m, const char *path, ot_error *err) {
    ot_gguf *g = NULL;
    m->files = calloc(1, sizeof *m->files);
    if (m->files == NULL) return ot_fail_memory(err, sizeof *m->files, "a file table");
    OT_TRY(ot_gguf_open(path, &g, err));
    m->files[m->n_files++] = g;
    const char *name = ot_gguf_str(g, "general.architecture", NULL);
    if (name == NULL) return ot_fail(err, OT_ERR_FORMAT, "%s: the key general.architecture is missing", path);
    if (ot_gguf_adapter(g) != NULL) {
        return ot_fail(err, OT_ERR_FORMAT, "%s is an adapter in GGUF (%.40s, for the architecture %.60s) and no model: give the model that it goes over", path,
                       ot_gguf_adapter(g), name);
    }
    const ot_arch *arch = ot_arch_by_gguf(name);
    const ot_gguf_family *family = arch == NULL ? NULL : ot_gguf_family_of(arch);
    if (family == NULL) {
        return ot_fail(err, OT_ERR_UNSUPPORTED,
                       "%s: GGUF files of the architecture \"%s\" are not supported; llama, qwen2, qwen3, gpt2 and bloom are", path, name);
    }
    OT_TRY(make_config(m, g, arch, family, err));
    OT_TRY(ot_desc_from_config(m->config, path, &m->desc, err));
    OT_TRY(take_rope_factors(m, g, err));
    OT_TRY(ot_model_layout(m, err));
    for (int64_t i = 0; i < m->n_params; i++) OT_TRY(take(m, g, &m->params[i], err));
    m->unused_tensors = ot_gguf_tensor_count(g) - m->n_params;
    return rearrange(m, err);
}
