/* CLIP's vision tower with a classifier: a norm before block 0, a patch convolution without bias, quick-GELU by default. The head reads the mean
 * of the patches as the last block leaves them; the tower's final norm is in the file, but nothing reads it. */
#include "model/arch/archs.h"
#include "model/config.h"

static ot_status configure(const json_t *json, const char *where, ot_desc *d, ot_error *err) {
    const json_t *vision = json_object_get(json, "vision_config");
    ot_config c = {.json = json_is_object(vision) ? vision : json, .where = where, .err = err};
    ot_config top = {.json = json, .where = where, .err = err};
    d->layers = ot_config_size(&c, "num_hidden_layers", 12);
    d->hidden_size = d->embed_size = ot_config_size(&c, "hidden_size", 768);
    d->heads = d->kv_heads = ot_config_size(&c, "num_attention_heads", 12);
    if (c.status == OT_OK && d->hidden_size % d->heads != 0) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: hidden_size %lld is no multiple of num_attention_heads %lld", where,
                       (long long)d->hidden_size, (long long)d->heads);
    }
    d->head_dim = d->hidden_size / d->heads;
    d->ffn_size = ot_config_size(&c, "intermediate_size", 3072);
    d->vocab_size = ot_config_labels(&top);
    ot_config_image(&c, d, 224, 32);
    d->norm_eps = ot_config_number(&c, "layer_norm_eps", 1e-5);
    d->qkv = OT_QKV_SEPARATE;
    d->act = ot_config_act(&c, "hidden_act", "quick_gelu");
    d->embed_norm = d->mean_pool = d->head_skips_norm = true;
    d->initializer_range = ot_config_number(&c, "initializer_range", 0.02);
    return c.status != OT_OK ? c.status : top.status;
}

const ot_arch ot_arch_clip = {
    .name = "clip",
    .model_types = (const char *const[]){"clip", "clip_vision_model", NULL},
    .class_name = "CLIPForImageClassification",
    .prefix = "vision_model.",
    .layers_key = "num_hidden_layers",
    .section = "vision_config",
    .bare = 1U << OT_ROLE_CLASS,
    .ignored = (const char *const[]){"embeddings.position_ids", NULL},
    .stems =
        {
            [OT_ROLE_PATCH] = "embeddings.patch_embedding",
            [OT_ROLE_CLASS] = "embeddings.class_embedding",
            [OT_ROLE_POSITIONS] = "embeddings.position_embedding",
            [OT_ROLE_EMBED_NORM] = "pre_layrnorm",
            [OT_ROLE_NORM1] = "encoder.layers.%d.layer_norm1",
            [OT_ROLE_Q] = "encoder.layers.%d.self_attn.q_proj",
            [OT_ROLE_K] = "encoder.layers.%d.self_attn.k_proj",
            [OT_ROLE_V] = "encoder.layers.%d.self_attn.v_proj",
            [OT_ROLE_O] = "encoder.layers.%d.self_attn.out_proj",
            [OT_ROLE_NORM2] = "encoder.layers.%d.layer_norm2",
            [OT_ROLE_UP] = "encoder.layers.%d.mlp.fc1",
            [OT_ROLE_DOWN] = "encoder.layers.%d.mlp.fc2",
            [OT_ROLE_FINAL_NORM] = "post_layernorm",
            [OT_ROLE_HEAD] = "classifier",
        },
    .configure = configure,
};
