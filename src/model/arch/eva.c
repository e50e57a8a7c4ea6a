/* EVA-CLIP as BLIP-2's vision model has it, with a classifier on the mean of the normed patches: fused projection with biases for q and v, none
 * for k. With "layer_scale_init_value" each branch is multiplied by gains before it is added: gamma_1 and gamma_2, as EVA's own code calls them. */
#include "model/arch/archs.h"
#include "model/config.h"

static ot_status configure(const json_t *json, const char *where, ot_desc *d, ot_error *err) {
    ot_config c = {.json = json, .where = where, .err = err};
    d->layers = ot_config_size(&c, "num_hidden_layers", 39);
    d->hidden_size = d->embed_size = ot_config_size(&c, "hidden_size", 1408);
    d->heads = d->kv_heads = ot_config_size(&c, "num_attention_heads", 16);
    if (c.status == OT_OK && d->hidden_size % d->heads != 0) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: hidden_size %lld is no multiple of num_attention_heads %lld", where,
                       (long long)d->hidden_size, (long long)d->heads);
    }
    d->head_dim = d->hidden_size / d->heads;
    d->ffn_size = ot_config_size(&c, "intermediate_size", 6144);
    d->vocab_size = ot_config_labels(&c);
    d->layer_scale = ot_config_number(&c, "layer_scale_init_value", 0);
    ot_config_image(&c, d, 224, 14);
    d->norm_eps = ot_config_number(&c, "layer_norm_eps", 1e-6);
    d->qkv = OT_QKV_CONCAT;
    d->act = ot_config_act(&c, "hidden_act", "gelu");
    d->bias_qkv = d->no_key_bias = ot_config_flag(&c, "qkv_bias", true);
    d->patch_bias = d->leading_ones = d->mean_pool = true;
    d->initializer_range = ot_config_number(&c, "initializer_range", 0.02);
    return c.status;
}

const ot_arch ot_arch_eva = {
    .name = "eva",
    .model_types = (const char *const[]){"blip_2_vision_model", NULL},
    .class_name = "EvaForImageClassification",
    .prefix = "vision_model.",
    .layers_key = "num_hidden_layers",
    .bare = 1U << OT_ROLE_CLASS | 1U << OT_ROLE_POSITIONS | 1U << OT_ROLE_SCALE1 | 1U << OT_ROLE_SCALE2,
    .stems =
        {
            [OT_ROLE_PATCH] = "embeddings.patch_embedding",
            [OT_ROLE_CLASS] = "embeddings.class_embedding",
            [OT_ROLE_POSITIONS] = "embeddings.position_embedding",
            [OT_ROLE_NORM1] = "encoder.layers.%d.layer_norm1",
            [OT_ROLE_QKV] = "encoder.layers.%d.self_attn.qkv",
            [OT_ROLE_O] = "encoder.layers.%d.self_attn.projection",
            [OT_ROLE_SCALE1] = "encoder.layers.%d.gamma_1",
            [OT_ROLE_NORM2] = "encoder.layers.%d.layer_norm2",
            [OT_ROLE_UP] = "encoder.layers.%d.mlp.fc1",
            [OT_ROLE_DOWN] = "encoder.layers.%d.mlp.fc2",
            [OT_ROLE_SCALE2] = "encoder.layers.%d.gamma_2",
            [OT_ROLE_FINAL_NORM] = "post_layernorm",
            [OT_ROLE_HEAD] = "classifier",
        },
    .configure = configure,
};
