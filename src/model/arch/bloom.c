/* BLOOM: ALiBi, a norm after the embedding, fused projection interleaved per head. */
#include "model/arch/archs.h"
#include "model/config.h"

static ot_status configure(const json_t *json, const char *where, ot_desc *d, ot_error *err) {
    ot_config c = {.json = json, .where = where, .err = err};
    ot_config_refuse(&c, "apply_residual_connection_post_layernorm", "that form of BLOOM is not supported");
    d->layers = ot_config_size(&c, "n_layer|num_hidden_layers", 2);
    d->hidden_size = d->embed_size = ot_config_size(&c, "hidden_size|n_embed", 64);
    d->heads = d->kv_heads = ot_config_size(&c, "n_head|num_attention_heads", 8);
    if (c.status == OT_OK && d->hidden_size % d->heads != 0) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: hidden_size %lld is no multiple of n_head %lld", where, (long long)d->hidden_size,
                       (long long)d->heads);
    }
    d->head_dim = d->hidden_size / d->heads;
    d->ffn_size = 4 * d->hidden_size;
    d->vocab_size = ot_config_size(&c, "vocab_size", 250880);
    d->max_positions = ot_config_size(&c, "seq_length", 2048);
    d->norm = OT_NORM_LAYER;
    d->norm_eps = ot_config_number(&c, "layer_norm_epsilon", 1e-5);
    d->embed_norm = d->final_norm = true;
    d->position = OT_POSITION_ALIBI;
    d->position_from_mask = true;
    d->qkv = OT_QKV_INTERLEAVED;
    d->act = OT_ACT_GELU_TANH;
    d->norm_bias = d->bias_qkv = d->bias_o = d->bias_mlp = true;
    d->tied = ot_config_flag(&c, "tie_word_embeddings", true);
    d->dropout = ot_config_number(&c, "hidden_dropout", 0.0);
    d->initializer_range = ot_config_number(&c, "initializer_range", 0.02);
    d->bos_id = ot_config_token(&c, "bos_token_id", 1);
    d->eos_id = ot_config_token(&c, "eos_token_id", 2);
    return c.status;
}

const ot_arch ot_arch_bloom = {
    .name = "bloom",
    .model_types = (const char *const[]){"bloom", NULL},
    .class_name = "BloomForCausalLM",
    .prefix = "transformer.",
    .layers_key = "n_layer",
    .stems =
        {
            [OT_ROLE_EMBED] = "word_embeddings",
            [OT_ROLE_EMBED_NORM] = "word_embeddings_layernorm",
            [OT_ROLE_NORM1] = "h.%d.input_layernorm",
            [OT_ROLE_QKV] = "h.%d.self_attention.query_key_value",
            [OT_ROLE_O] = "h.%d.self_attention.dense",
            [OT_ROLE_NORM2] = "h.%d.post_attention_layernorm",
            [OT_ROLE_UP] = "h.%d.mlp.dense_h_to_4h",
            [OT_ROLE_DOWN] = "h.%d.mlp.dense_4h_to_h",
            [OT_ROLE_FINAL_NORM] = "ln_f",
            [OT_ROLE_HEAD] = "lm_head",
        },
    .gguf_name = "bloom",
    .gguf_stems =
        {
            [OT_ROLE_EMBED] = "token_embd",
            [OT_ROLE_EMBED_NORM] = "token_embd_norm",
            [OT_ROLE_NORM1] = "blk.%d.attn_norm",
            [OT_ROLE_QKV] = "blk.%d.attn_qkv",
            [OT_ROLE_O] = "blk.%d.attn_output",
            [OT_ROLE_NORM2] = "blk.%d.ffn_norm",
            [OT_ROLE_UP] = "blk.%d.ffn_up",
            [OT_ROLE_DOWN] = "blk.%d.ffn_down",
            [OT_ROLE_FINAL_NORM] = "output_norm",
            [OT_ROLE_HEAD] = "output",
        },
    .configure = configure,
};
