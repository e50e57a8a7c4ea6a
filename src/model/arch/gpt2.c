/* GPT-2: learned positions, pre-norm, fused [q; k; v] projection, linears stored [in, out]. */
#include "model/arch/archs.h"
#include "model/config.h"

static ot_status configure(const json_t *json, const char *where, ot_desc *d, ot_error *err) {
    ot_config c = {.json = json, .where = where, .err = err};
    ot_config_refuse(&c, "add_cross_attention", "cross-attention is not supported");
    d->layers = ot_config_size(&c, "n_layer|num_hidden_layers", 12);
    d->hidden_size = d->embed_size = ot_config_size(&c, "n_embd|hidden_size", 768);
    d->heads = d->kv_heads = ot_config_size(&c, "n_head|num_attention_heads", 12);
    if (c.status == OT_OK && d->hidden_size % d->heads != 0) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: n_embd %lld is no multiple of n_head %lld", where, (long long)d->hidden_size, (long long)d->heads);
    }
    d->head_dim = d->hidden_size / d->heads;
    d->ffn_size = ot_config_size(&c, "n_inner", 4 * d->hidden_size);
    d->vocab_size = ot_config_size(&c, "vocab_size", 50257);
    d->max_positions = ot_config_size(&c, "n_positions|max_position_embeddings|n_ctx", 1024);
    d->norm = OT_NORM_LAYER;
    d->norm_eps = ot_config_number(&c, "layer_norm_epsilon", 1e-5);
    d->position = OT_POSITION_LEARNED;
    d->qkv = OT_QKV_CONCAT;
    d->act = ot_config_act(&c, "activation_function", "gelu_new");
    d->conv1d = d->norm_bias = d->bias_qkv = d->bias_o = d->bias_mlp = d->final_norm = true;
    d->scale_by_layer = ot_config_flag(&c, "scale_attn_by_inverse_layer_idx", false);
    d->tied = ot_config_flag(&c, "tie_word_embeddings", true);
    d->dropout = ot_config_number(&c, "resid_pdrop", 0.1);
    d->initializer_range = ot_config_number(&c, "initializer_range", 0.02);
    d->bos_id = ot_config_token(&c, "bos_token_id", 50256);
    d->eos_id = ot_config_token(&c, "eos_token_id", 50256);
    if (c.status == OT_OK && !ot_config_flag(&c, "scale_attn_weights", true)) {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: \"scale_attn_weights\": false is not supported", where);
    }
    return c.status;
}

const ot_arch ot_arch_gpt2 = {
    .name = "gpt2",
    .model_types = (const char *const[]){"gpt2", NULL},
    .class_name = "GPT2LMHeadModel",
    .prefix = "transformer.",
    .layers_key = "n_layer",
    .ignored = (const char *const[]){".attn.bias", ".attn.masked_bias", NULL},
    .stems =
        {
            [OT_ROLE_EMBED] = "wte",
            [OT_ROLE_POSITIONS] = "wpe",
            [OT_ROLE_NORM1] = "h.%d.ln_1",
            [OT_ROLE_QKV] = "h.%d.attn.c_attn",
            [OT_ROLE_O] = "h.%d.attn.c_proj",
            [OT_ROLE_NORM2] = "h.%d.ln_2",
            [OT_ROLE_UP] = "h.%d.mlp.c_fc",
            [OT_ROLE_DOWN] = "h.%d.mlp.c_proj",
            [OT_ROLE_FINAL_NORM] = "ln_f",
            [OT_ROLE_HEAD] = "lm_head",
        },
    .gguf_name = "gpt2",
    .gguf_stems =
        {
            [OT_ROLE_EMBED] = "token_embd",
            [OT_ROLE_POSITIONS] = "position_embd",
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
