/* ViT (and DeiT without distillation token, which uses the same class): class token, learned positions, pre-norm, head on the normed token. */
#include "model/arch/archs.h"
#include "model/config.h"

static ot_status configure(const json_t *json, const char *where, ot_desc *d, ot_error *err) {
    ot_config c = {.json = json, .where = where, .err = err};
    d->layers = ot_config_size(&c, "num_hidden_layers", 12);
    d->hidden_size = d->embed_size = ot_config_size(&c, "hidden_size", 768);
    d->heads = d->kv_heads = ot_config_size(&c, "num_attention_heads", 12);
    if (c.status == OT_OK && d->hidden_size % d->heads != 0) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: hidden_size %lld is no multiple of num_attention_heads %lld", where,
                       (long long)d->hidden_size, (long long)d->heads);
    }
    d->head_dim = d->hidden_size / d->heads;
    d->ffn_size = ot_config_size(&c, "intermediate_size", 3072);
    d->vocab_size = ot_config_labels(&c);
    ot_config_image(&c, d, 224, 16);
    d->norm_eps = ot_config_number(&c, "layer_norm_eps", 1e-12);
    d->qkv = OT_QKV_SEPARATE;
    d->act = ot_config_act(&c, "hidden_act", "gelu");
    d->bias_qkv = ot_config_flag(&c, "qkv_bias", true);
    d->patch_bias = d->leading_ones = true;
    d->dropout = ot_config_number(&c, "hidden_dropout_prob", 0.0);
    d->initializer_range = ot_config_number(&c, "initializer_range", 0.02);
    return c.status;
}

const ot_arch ot_arch_vit = {
    .name = "vit",
    .model_types = (const char *const[]){"vit", NULL},
    .class_name = "ViTForImageClassification",
    .prefix = "vit.",
    .layers_key = "num_hidden_layers",
    .bare = 1U << OT_ROLE_CLASS | 1U << OT_ROLE_POSITIONS,
    .ignored = (const char *const[]){"pooler.dense.weight", "pooler.dense.bias", NULL},
    .stems =
        {
            [OT_ROLE_PATCH] = "embeddings.patch_embeddings.projection",
            [OT_ROLE_CLASS] = "embeddings.cls_token",
            [OT_ROLE_POSITIONS] = "embeddings.position_embeddings",
            [OT_ROLE_NORM1] = "encoder.layer.%d.layernorm_before",
            [OT_ROLE_Q] = "encoder.layer.%d.attention.attention.query",
            [OT_ROLE_K] = "encoder.layer.%d.attention.attention.key",
            [OT_ROLE_V] = "encoder.layer.%d.attention.attention.value",
            [OT_ROLE_O] = "encoder.layer.%d.attention.output.dense",
            [OT_ROLE_NORM2] = "encoder.layer.%d.layernorm_after",
            [OT_ROLE_UP] = "encoder.layer.%d.intermediate.dense",
            [OT_ROLE_DOWN] = "encoder.layer.%d.output.dense",
            [OT_ROLE_FINAL_NORM] = "layernorm",
            [OT_ROLE_HEAD] = "classifier",
        },
    .configure = configure,
};
