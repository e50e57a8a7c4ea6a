/* Weights and configuration of a GGUF file. The block-quantised bytes are used as they are; only the rows of attn_q and attn_k, which
 * llama.cpp's converter interleaves, are put back in order. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/gguf.h"
#include "model/model.h"

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

/* The config.json that transformers would write for this file. */
static ot_status make_config(ot_model *m, const ot_gguf *g, const ot_arch *arch, ot_error *err) {
    static const struct {
        const char *gguf, *hf;
    } sizes[] = {
        {"block_count", "num_hidden_layers"},        {"embedding_length", "hidden_size"},
        {"feed_forward_length", "intermediate_size"}, {"attention.head_count", "num_attention_heads"},
        {"context_length", "max_position_embeddings"},
    };
    const char *path = ot_gguf_path(g), *name = arch->gguf_name;
    json_t *c = m->config = json_object();
    json_object_set_new(c, "architectures", json_pack("[s]", arch->class_name));
    json_object_set_new(c, "model_type", json_string(arch->model_types[0]));
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int64_t value = 0;
        if (!meta_i64(g, name, sizes[i].gguf, &value)) {
            return ot_fail(err, OT_ERR_FORMAT, "%s: the key %s.%s is missing or no whole number", path, name, sizes[i].gguf);
        }
        json_object_set_new(c, sizes[i].hf, json_integer(value));
    }
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
    json_object_set_new(c, "rms_norm_eps", json_real(meta_f64(g, name, "attention.layer_norm_rms_epsilon", &number) ? (double)(float)number : 1e-6));
    json_object_set_new(c, "rope_theta", json_real(meta_f64(g, name, "rope.freq_base", &number) ? number : 10000.0));
    snprintf(text, sizeof text, "%s.rope.scaling.type", name);
    const char *scaling = ot_gguf_str(g, text, NULL);
    if (scaling != NULL && strcmp(scaling, "linear") == 0 && meta_f64(g, name, "rope.scaling.factor", &number)) {
        json_object_set_new(c, "rope_scaling", json_pack("{s:s,s:f}", "rope_type", "linear", "factor", number));
    } else if (scaling != NULL && strcmp(scaling, "none") != 0) {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: rope scaling of type \"%s\" is not supported in a GGUF", path, scaling);
    }
    if (ot_gguf_find(g, "rope_freqs.weight") != NULL) {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: rotary frequency factors (rope_freqs.weight) are not supported: use the model's Hugging Face directory", path);
    }
    json_object_set_new(c, "hidden_act", json_string("silu"));
    const ot_tensor *embed = ot_gguf_find(g, "token_embd.weight");
    if (embed == NULL || embed->n_dims != 2) return ot_fail(err, OT_ERR_FORMAT, "%s: the tensor token_embd.weight is missing or no matrix", path);
    json_object_set_new(c, "vocab_size", json_integer(embed->shape[0]));
    json_object_set_new(c, "tie_word_embeddings", json_boolean(ot_gguf_find(g, "output.weight") == NULL));
    json_object_set_new(c, "attention_bias", json_boolean(ot_gguf_find(g, "blk.0.attn_q.bias") != NULL));
    json_object_set_new(c, "bos_token_id", ot_gguf_i64(g, "tokenizer.ggml.bos_token_id", &value) ? json_integer(value) : json_null());
    json_object_set_new(c, "eos_token_id", ot_gguf_i64(g, "tokenizer.ggml.eos_token_id", &value) ? json_integer(value) : json_null());
    json_object_set_new(c, "torch_dtype", json_string("bfloat16"));
    return OT_OK;
}

static ot_status gguf_name(const ot_model *m, const ot_param *p, char *out, size_t size, ot_error *err) {
    const char *template = m->desc.arch->gguf_stems[p->role];
    if (template == NULL) {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: the part %s has no name in a GGUF of this architecture", m->path, p->name);
    }
    const char *mark = strstr(template, "%d"), *kind = p->bias ? "bias" : "weight";
    if (mark == NULL) {
        snprintf(out, size, "%s.%s", template, kind);
    } else {
        snprintf(out, size, "%.*s%d%s.%s", (int)(mark - template), template, (int)p->block, mark + 2, kind);
    }
    return OT_OK;
}

static ot_status take(ot_model *m, const ot_gguf *g, ot_param *p, ot_error *err) {
    char name[256];
    OT_TRY(gguf_name(m, p, name, sizeof name, err));
    const ot_tensor *t = ot_gguf_find(g, name);
    if (t == NULL) return ot_fail(err, OT_ERR_FORMAT, "%s: the tensor %s is missing", m->path, name);
    bool same = t->n_dims == p->stored.n_dims;
    for (int d = 0; same && d < t->n_dims; d++) same = t->shape[d] == p->stored.shape[d];
    if (!same) {
        char have[96], want[96];
        return ot_fail(err, OT_ERR_FORMAT, "%s: tensor %s has shape %s, but the file's metadata asks for %s", m->path, name,
                       ot_shape_text(t->shape, t->n_dims, have, sizeof have), ot_shape_text(p->stored.shape, p->stored.n_dims, want, sizeof want));
    }
    if (!ot_dtype_is_float(t->dtype) && !ot_dtype_is_quantised(t->dtype)) {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: tensor %s has the type %s, which cannot be read", m->path, name, ot_dtype_info(t->dtype)->name);
    }
    if (p->stored.n_dims == 1 && ot_dtype_is_quantised(t->dtype)) {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: tensor %s is a quantised vector, which cannot be read", m->path, name);
    }
    const char *own = p->name;
    p->stored = *t;
    p->stored.name = own;
    return OT_OK;
}

static bool is_permuted(const ot_model *m, const ot_param *p) {
    return m->desc.arch->gguf_permuted && (p->role == OT_ROLE_Q || p->role == OT_ROLE_K);
}

static ot_status put_rows_back(ot_model *m, ot_error *err) {
    int64_t bytes = 0;
    for (int64_t i = 0; i < m->n_params; i++) {
        if (is_permuted(m, &m->params[i])) bytes += ot_round_up(m->params[i].stored.bytes, OT_ALIGN);
    }
    OT_TRY(ot_malloc(bytes, 1, "the rows of attn_q and attn_k in order", &m->permuted, err));
    int64_t at = 0;
    for (int64_t i = 0; i < m->n_params; i++) {
        ot_param *p = &m->params[i];
        if (!is_permuted(m, p)) continue;
        int64_t rows = p->stored.shape[0], row_bytes = p->stored.bytes / rows;
        char *to = (char *)m->permuted + at;
        const char *from = p->stored.data;
        for (int64_t r = 0; r < rows; r++) {
            memcpy(to + r * row_bytes, from + ot_gguf_row_permutation(r, m->desc.head_dim) * row_bytes, (size_t)row_bytes);
        }
        p->stored.data = to;
        at += ot_round_up(p->stored.bytes, OT_ALIGN);
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
    const ot_arch *arch = ot_arch_by_gguf(name);
    if (arch == NULL) {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: GGUF files of the architecture \"%s\" are not supported; llama, qwen2 and qwen3 are", path, name);
    }
    OT_TRY(make_config(m, g, arch, err));
    OT_TRY(ot_desc_from_config(m->config, path, &m->desc, err));
    OT_TRY(ot_model_layout(m, err));
    for (int64_t i = 0; i < m->n_params; i++) OT_TRY(take(m, g, &m->params[i], err));
    m->unused_tensors = ot_gguf_tensor_count(g) - m->n_params;
    return put_rows_back(m, err);
}
