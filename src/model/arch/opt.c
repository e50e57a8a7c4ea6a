/* OPT: learned positions whose table has two more rows, relu; the 350m size has norms after the addition and a projected embedding. */
#include "model/arch/archs.h"
#include "model/config.h"

static ot_status configure(const json_t *json, const char *where, ot_desc *d, ot_error *err) {
    ot_config c = {.json = json, .where = where, .err = err};
    d->layers = ot_config_size(&c, "num_hidden_layers", 12);
    d->hidden_size = ot_config_size(&c, "hidden_size", 768);
    d->embed_size = ot_config_size(&c, "word_embed_proj_dim", d->hidden_size);
    d->heads = d->kv_heads = ot_config_size(&c, "num_attention_heads", 12);
    if (c.status == OT_OK && d->hidden_size % d->heads != 0) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: hidden_size %lld is no multiple of num_attention_heads %lld", where,
                       (long long)d->hidden_size, (long long)d->heads);
    }
    d->head_dim = d->hidden_size / d->heads;
    d->ffn_size = ot_config_size(&c, "ffn_dim", 3072);
    d->vocab_size = ot_config_size(&c, "vocab_size", 50272);
    d->max_positions = ot_config_size(&c, "max_position_embeddings", 2048);
    d->norm = OT_NORM_LAYER;
    d->norm_eps = 1e-5;
    d->post_norm = !ot_config_flag(&c, "do_layer_norm_before", true);
    d->final_norm = !d->post_norm && !ot_config_flag(&c, "_remove_final_layer_norm", false);
    d->position = OT_POSITION_LEARNED;
    d->position_offset = 2;
    d->position_from_mask = true;
    d->qkv = OT_QKV_SEPARATE;
    d->act = ot_config_act(&c, "activation_function", "relu");
    d->norm_bias = true;
    d->bias_qkv = d->bias_o = d->bias_mlp = ot_config_flag(&c, "enable_bias", true);
    d->tied = ot_config_flag(&c, "tie_word_embeddings", true);
    d->padding_id = ot_config_token(&c, "pad_token_id", 1);
    d->dropout = ot_config_number(&c, "dropout", 0.1);
    d->initializer_range = ot_config_number(&c, "init_std", 0.02);
    d->bos_id = ot_config_token(&c, "bos_token_id", 2);
    d->eos_id = ot_config_token(&c, "eos_token_id", 2);
    if (c.status == OT_OK && !ot_config_flag(&c, "layer_norm_elementwise_affine", true)) {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: \"layer_norm_elementwise_affine\": false is not supported", where);
    }
    return c.status;
}

const ot_arch ot_arch_opt = {
    .name = "opt",
    .model_types = (const char *const[]){"opt", NULL},
    .class_name = "OPTForCausalLM",
    .prefix = "model.",
    .layers_key = "num_hidden_layers",
    .stems =
        {
            [OT_ROLE_EMBED] = "decoder.embed_tokens",
            [OT_ROLE_POSITIONS] = "decoder.embed_positions",
            [OT_ROLE_PROJECT_IN] = "decoder.project_in",
            [OT_ROLE_NORM1] = "decoder.layers.%d.self_attn_layer_norm",
            [OT_ROLE_Q] = "decoder.layers.%d.self_attn.q_proj",
            [OT_ROLE_K] = "decoder.layers.%d.self_attn.k_proj",
            [OT_ROLE_V] = "decoder.layers.%d.self_attn.v_proj",
            [OT_ROLE_O] = "decoder.layers.%d.self_attn.out_proj",
            [OT_ROLE_NORM2] = "decoder.layers.%d.final_layer_norm",
            [OT_ROLE_UP] = "decoder.layers.%d.fc1",
            [OT_ROLE_DOWN] = "decoder.layers.%d.fc2",
            [OT_ROLE_FINAL_NORM] = "decoder.final_layer_norm",
            [OT_ROLE_PROJECT_OUT] = "decoder.project_out",
            [OT_ROLE_HEAD] = "lm_head",
        },
    .configure = configure,
};
