#include "model/sizes.h"

#include <string.h>

#include "format/json.h"

const ot_model_size ot_model_sizes[] = {
    {"gpt2-small", "{\"model_type\": \"gpt2\", \"n_layer\": 12, \"n_embd\": 768, \"n_head\": 12}"},
    {"gpt2-medium", "{\"model_type\": \"gpt2\", \"n_layer\": 24, \"n_embd\": 1024, \"n_head\": 16}"},
    {"gpt2-xl", "{\"model_type\": \"gpt2\", \"n_layer\": 48, \"n_embd\": 1600, \"n_head\": 25}"},
    {"opt-125m", "{\"model_type\": \"opt\"}"},
    {"opt-1.3b", "{\"model_type\": \"opt\", \"num_hidden_layers\": 24, \"hidden_size\": 2048, \"ffn_dim\": 8192, \"num_attention_heads\": 32, "
                 "\"word_embed_proj_dim\": 2048}"},
    {"opt-6.7b", "{\"model_type\": \"opt\", \"num_hidden_layers\": 32, \"hidden_size\": 4096, \"ffn_dim\": 16384, \"num_attention_heads\": 32, "
                 "\"word_embed_proj_dim\": 4096}"},
    {"smollm2-135m", "{\"model_type\": \"llama\", \"hidden_size\": 576, \"intermediate_size\": 1536, \"num_hidden_layers\": 30, "
                     "\"num_attention_heads\": 9, \"num_key_value_heads\": 3, \"vocab_size\": 49152, \"tie_word_embeddings\": true, "
                     "\"max_position_embeddings\": 8192, \"rope_theta\": 100000.0}"},
    {"vit-tiny", "{\"model_type\": \"vit\", \"hidden_size\": 192, \"num_attention_heads\": 3, \"intermediate_size\": 768, \"num_labels\": 1000}"},
    {"vit-base", "{\"model_type\": \"vit\", \"num_labels\": 1000}"},
    {"vit-large", "{\"model_type\": \"vit\", \"hidden_size\": 1024, \"num_attention_heads\": 16, \"intermediate_size\": 4096, \"num_hidden_layers\": 24, "
                  "\"num_labels\": 1000}"},
    {NULL, NULL},
};

static ot_status read_size(const char *name, json_t **config, ot_error *err) {
    const ot_model_size *size = ot_model_sizes;
    while (size->name != NULL && strcmp(size->name, name) != 0) size++;
    if (size->name == NULL) return ot_fail(err, OT_ERR_USAGE, "there is no built-in size \"%s\"", name);
    return ot_json_parse(size->config, (int64_t)strlen(size->config), name, config, err);
}

ot_status ot_model_size_layers(const char *name, int64_t *layers, ot_error *err) {
    json_t *config = NULL;
    ot_desc desc;
    OT_TRY(read_size(name, &config, err));
    ot_status status = ot_desc_from_config(config, name, &desc, err);
    if (status == OT_OK) *layers = desc.layers;
    json_decref(config);
    return status;
}

ot_status ot_model_of_size(const char *name, int64_t layers, ot_dtype dtype, ot_model **out, ot_error *err) {
    json_t *config = NULL;
    OT_TRY(read_size(name, &config, err));
    const char *key = json_object_get(config, "n_layer") != NULL ? "n_layer" : "num_hidden_layers";
    if (layers > 0) json_object_set_new(config, key, json_integer(layers));
    ot_model *m = NULL;
    ot_status status = ot_model_from_json(config, name, &m, err);
    if (status == OT_OK) status = ot_model_initialise(m, 0, dtype, err);
    if (status != OT_OK) {
        ot_model_close(m);
        return status;
    }
    *out = m;
    return OT_OK;
}
