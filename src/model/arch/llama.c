/* The Llama family: RMS norm, rotary positions, gated MLP, grouped-query attention. Mistral adds a sliding window, Qwen2 biases on q, k, v,
 * Qwen3 a norm on every head of q and k. */
#include <string.h>

#include "model/arch/archs.h"
#include "model/config.h"

typedef struct defaults {
    int64_t vocab, hidden, ffn, layers, heads, kv_heads, head_dim, positions;
    double theta, eps;
} defaults;

static void common(ot_config *c, ot_desc *d, const defaults *x) {
    d->layers = ot_config_size(c, "num_hidden_layers", x->layers);
    d->hidden_size = d->embed_size = ot_config_size(c, "hidden_size", x->hidden);
    d->heads = ot_config_size(c, "num_attention_heads", x->heads);
    d->kv_heads = ot_config_size(c, "num_key_value_heads", x->kv_heads > 0 ? x->kv_heads : d->heads);
    d->head_dim = ot_config_size(c, "head_dim", x->head_dim > 0 ? x->head_dim : d->hidden_size / d->heads);
    d->ffn_size = ot_config_size(c, "intermediate_size", x->ffn);
    d->vocab_size = ot_config_size(c, "vocab_size", x->vocab);
    d->max_positions = ot_config_size(c, "max_position_embeddings", x->positions);
    d->norm = OT_NORM_RMS;
    d->norm_eps = ot_config_number(c, "rms_norm_eps", x->eps);
    d->final_norm = d->gated = true;
    d->qkv = OT_QKV_SEPARATE;
    d->act = ot_config_act(c, "hidden_act", "silu");
    d->tied = ot_config_flag(c, "tie_word_embeddings", false);
    d->initializer_range = ot_config_number(c, "initializer_range", 0.02);
    ot_config_rope(c, d, x->theta);
}

static ot_status llama(const json_t *json, const char *where, ot_desc *d, ot_error *err) {
    ot_config c = {.json = json, .where = where, .err = err};
    common(&c, d, &(defaults){32000, 4096, 11008, 32, 32, 0, 0, 2048, 10000.0, 1e-6});
    d->bias_qkv = d->bias_o = ot_config_flag(&c, "attention_bias", false);
    d->bias_mlp = ot_config_flag(&c, "mlp_bias", false);
    d->bos_id = ot_config_token(&c, "bos_token_id", 1);
    d->eos_id = ot_config_token(&c, "eos_token_id", 2);
    return c.status;
}

static ot_status mistral(const json_t *json, const char *where, ot_desc *d, ot_error *err) {
    ot_config c = {.json = json, .where = where, .err = err};
    common(&c, d, &(defaults){32000, 4096, 14336, 32, 32, 8, 0, 4096 * 32, 10000.0, 1e-6});
    bool null_window = json_is_null(json_object_get(json, "sliding_window"));
    d->window = null_window ? 0 : ot_config_size(&c, "sliding_window", 4096);
    d->bos_id = ot_config_token(&c, "bos_token_id", 1);
    d->eos_id = ot_config_token(&c, "eos_token_id", 2);
    return c.status;
}

/* use_sliding_window with max_window_layers: the layers from that one on have the window. layer_types, where written, must say the same. */
static void qwen_window(ot_config *c, ot_desc *d) {
    if (!ot_config_flag(c, "use_sliding_window", false)) return;
    if (json_is_null(json_object_get(c->json, "sliding_window"))) return;
    d->window = ot_config_size(c, "sliding_window", 4096);
    const json_t *from = json_object_get(c->json, "max_window_layers");
    d->window_from_layer = json_is_integer(from) ? json_integer_value(from) : 28;
    const json_t *types = json_object_get(c->json, "layer_types");
    for (size_t i = 0; c->status == OT_OK && json_is_array(types) && i < json_array_size(types); i++) {
        const char *type = json_string_value(json_array_get(types, i));
        bool sliding = type != NULL && strcmp(type, "sliding_attention") == 0;
        if (sliding != ((int64_t)i >= d->window_from_layer)) {
            c->status = ot_fail(c->err, OT_ERR_UNSUPPORTED, "%s: \"layer_types\" mixes windowed and full layers in an order that is not supported", c->where);
        }
    }
}

static ot_status qwen2(const json_t *json, const char *where, ot_desc *d, ot_error *err) {
    ot_config c = {.json = json, .where = where, .err = err};
    common(&c, d, &(defaults){151936, 4096, 22016, 32, 32, 32, 0, 32768, 10000.0, 1e-6});
    d->bias_qkv = true;
    qwen_window(&c, d);
    d->bos_id = ot_config_token(&c, "bos_token_id", -1);
    d->eos_id = ot_config_token(&c, "eos_token_id", -1);
    return c.status;
}

static ot_status qwen3(const json_t *json, const char *where, ot_desc *d, ot_error *err) {
    ot_config c = {.json = json, .where = where, .err = err};
    common(&c, d, &(defaults){151936, 4096, 22016, 32, 32, 32, 128, 32768, 10000.0, 1e-6});
    d->bias_qkv = d->bias_o = ot_config_flag(&c, "attention_bias", false);
    d->qk_norm = true;
    qwen_window(&c, d);
    d->bos_id = ot_config_token(&c, "bos_token_id", -1);
    d->eos_id = ot_config_token(&c, "eos_token_id", -1);
    return c.status;
}

#define LLAMA_STEMS                                                                                                    \
    {                                                                                                                  \
        [OT_ROLE_EMBED] = "embed_tokens", [OT_ROLE_NORM1] = "layers.%d.input_layernorm",                               \
        [OT_ROLE_Q] = "layers.%d.self_attn.q_proj", [OT_ROLE_K] = "layers.%d.self_attn.k_proj",                        \
        [OT_ROLE_V] = "layers.%d.self_attn.v_proj", [OT_ROLE_Q_NORM] = "layers.%d.self_attn.q_norm",                   \
        [OT_ROLE_K_NORM] = "layers.%d.self_attn.k_norm", [OT_ROLE_O] = "layers.%d.self_attn.o_proj",                   \
        [OT_ROLE_NORM2] = "layers.%d.post_attention_layernorm", [OT_ROLE_GATE] = "layers.%d.mlp.gate_proj",            \
        [OT_ROLE_UP] = "layers.%d.mlp.up_proj", [OT_ROLE_DOWN] = "layers.%d.mlp.down_proj",                            \
        [OT_ROLE_FINAL_NORM] = "norm", [OT_ROLE_HEAD] = "lm_head",                                                     \
    }

#define LLAMA_GGUF_STEMS                                                                                               \
    {                                                                                                                  \
        [OT_ROLE_EMBED] = "token_embd", [OT_ROLE_NORM1] = "blk.%d.attn_norm", [OT_ROLE_Q] = "blk.%d.attn_q",           \
        [OT_ROLE_K] = "blk.%d.attn_k", [OT_ROLE_V] = "blk.%d.attn_v", [OT_ROLE_Q_NORM] = "blk.%d.attn_q_norm",         \
        [OT_ROLE_K_NORM] = "blk.%d.attn_k_norm", [OT_ROLE_O] = "blk.%d.attn_output", [OT_ROLE_NORM2] = "blk.%d.ffn_norm", \
        [OT_ROLE_GATE] = "blk.%d.ffn_gate", [OT_ROLE_UP] = "blk.%d.ffn_up", [OT_ROLE_DOWN] = "blk.%d.ffn_down",        \
        [OT_ROLE_FINAL_NORM] = "output_norm", [OT_ROLE_HEAD] = "output",                                               \
    }

static const char *const rotary_buffers[] = {".rotary_emb.inv_freq", NULL};

const ot_arch ot_arch_llama = {
    .name = "llama",
    .model_types = (const char *const[]){"llama", NULL},
    .class_name = "LlamaForCausalLM",
    .prefix = "model.",
    .layers_key = "num_hidden_layers",
    .ignored = rotary_buffers,
    .stems = LLAMA_STEMS,
    .gguf_name = "llama",
    .gguf_stems = LLAMA_GGUF_STEMS,
    .gguf_permuted = true,
    .configure = llama,
};

const ot_arch ot_arch_mistral = {
    .name = "mistral",
    .model_types = (const char *const[]){"mistral", NULL},
    .class_name = "MistralForCausalLM",
    .prefix = "model.",
    .layers_key = "num_hidden_layers",
    .ignored = rotary_buffers,
    .stems = LLAMA_STEMS,
    /* Written as the Llama that it is within its window; such a file is read as a Llama. */
    .gguf_name = "llama",
    .gguf_stems = LLAMA_GGUF_STEMS,
    .gguf_permuted = true,
    .configure = mistral,
};

const ot_arch ot_arch_qwen2 = {
    .name = "qwen2",
    .model_types = (const char *const[]){"qwen2", NULL},
    .class_name = "Qwen2ForCausalLM",
    .prefix = "model.",
    .layers_key = "num_hidden_layers",
    .ignored = rotary_buffers,
    .stems = LLAMA_STEMS,
    .gguf_name = "qwen2",
    .gguf_stems = LLAMA_GGUF_STEMS,
    .configure = qwen2,
};

const ot_arch ot_arch_qwen3 = {
    .name = "qwen3",
    .model_types = (const char *const[]){"qwen3", NULL},
    .class_name = "Qwen3ForCausalLM",
    .prefix = "model.",
    .layers_key = "num_hidden_layers",
    .ignored = rotary_buffers,
    .stems = LLAMA_STEMS,
    .gguf_name = "qwen3",
    .gguf_stems = LLAMA_GGUF_STEMS,
    .configure = qwen3,
};
