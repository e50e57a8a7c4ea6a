#include "model/config.h"

#include <math.h>
#include <string.h>

/* The value of the first key of a '|' list that exists and is not null; *name gets the key for messages. */
static const json_t *lookup(const ot_config *c, const char *keys, char name[64]) {
    for (const char *at = keys; *at != '\0';) {
        size_t n = strcspn(at, "|");
        size_t copy = n < 63 ? n : 63;
        memcpy(name, at, copy);
        name[copy] = '\0';
        const json_t *value = json_object_get(c->json, name);
        if (value != NULL && !json_is_null(value)) return value;
        at += n + (at[n] == '|');
    }
    size_t n = strcspn(keys, "|");
    memcpy(name, keys, n < 63 ? n : 63);
    name[n < 63 ? n : 63] = '\0';
    return NULL;
}

static void wrong(ot_config *c, const char *name, const char *what) {
    c->status = ot_fail(c->err, OT_ERR_FORMAT, "%s: \"%s\" must be %s", c->where, name, what);
}

int64_t ot_config_size(ot_config *c, const char *keys, int64_t fallback) {
    char name[64];
    if (c->status != OT_OK) return 1;
    const json_t *value = lookup(c, keys, name);
    if (value == NULL) {
        if (fallback < 0) c->status = ot_fail(c->err, OT_ERR_FORMAT, "%s: the key \"%s\" is missing", c->where, name);
        return fallback < 0 ? 1 : fallback;
    }
    json_int_t n = json_integer_value(value);
    if (!json_is_integer(value) || n < 1 || n > INT32_MAX) {
        wrong(c, name, "a positive whole number below 2^31");
        return 1;
    }
    return n;
}

double ot_config_number(ot_config *c, const char *keys, double fallback) {
    char name[64];
    if (c->status != OT_OK) return fallback;
    const json_t *value = lookup(c, keys, name);
    if (value == NULL) return fallback;
    if (!json_is_number(value) || !isfinite(json_number_value(value))) {
        wrong(c, name, "a number");
        return fallback;
    }
    return json_number_value(value);
}

bool ot_config_flag(ot_config *c, const char *keys, bool fallback) {
    char name[64];
    if (c->status != OT_OK) return fallback;
    const json_t *value = lookup(c, keys, name);
    if (value == NULL) return fallback;
    if (!json_is_boolean(value)) {
        wrong(c, name, "true or false");
        return fallback;
    }
    return json_is_true(value);
}

const char *ot_config_text(ot_config *c, const char *keys, const char *fallback) {
    char name[64];
    if (c->status != OT_OK) return fallback;
    const json_t *value = lookup(c, keys, name);
    if (value == NULL) return fallback;
    if (!json_is_string(value)) {
        wrong(c, name, "a string");
        return fallback;
    }
    return json_string_value(value);
}

int64_t ot_config_token(ot_config *c, const char *keys, int64_t fallback) {
    char name[64];
    if (c->status != OT_OK) return fallback;
    const json_t *value = json_object_get(c->json, keys);
    if (json_is_null(value)) return -1;
    value = lookup(c, keys, name);
    if (value == NULL) return fallback;
    if (json_is_array(value)) value = json_array_get(value, 0);
    if (!json_is_integer(value) || json_integer_value(value) > INT32_MAX) {
        wrong(c, name, "a token id");
        return fallback;
    }
    return json_integer_value(value) < 0 ? -1 : json_integer_value(value);
}

ot_act_kind ot_config_act(ot_config *c, const char *keys, const char *fallback) {
    static const struct {
        const char *name;
        ot_act_kind kind;
    } acts[] = {
        {"relu", OT_ACT_RELU},           {"gelu", OT_ACT_GELU},
        {"gelu_new", OT_ACT_GELU_TANH},  {"gelu_pytorch_tanh", OT_ACT_GELU_TANH},
        {"gelu_fast", OT_ACT_GELU_TANH}, {"quick_gelu", OT_ACT_QUICK_GELU},
        {"silu", OT_ACT_SILU},           {"swish", OT_ACT_SILU},
    };
    const char *name = ot_config_text(c, keys, fallback);
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++) {
        if (strcmp(acts[i].name, name) == 0) return acts[i].kind;
    }
    if (c->status == OT_OK) {
        c->status = ot_fail(c->err, OT_ERR_UNSUPPORTED,
                            "%s: the activation \"%s\" is not supported; known are relu, gelu, gelu_new, gelu_pytorch_tanh, quick_gelu, silu",
                            c->where, name);
    }
    return OT_ACT_RELU;
}

void ot_config_rope(ot_config *c, ot_desc *d, double theta) {
    if (c->status != OT_OK) return;
    d->position = OT_POSITION_ROPE;
    const json_t *parameters = json_object_get(c->json, "rope_parameters");
    const json_t *scaling = json_is_object(parameters) ? parameters : json_object_get(c->json, "rope_scaling");
    d->rope_theta = ot_config_number(c, "rope_theta", theta);
    ot_config s = {.json = scaling, .where = c->where, .err = c->err};
    const char *type = "default";
    if (json_is_object(scaling)) {
        d->rope_theta = ot_config_number(&s, "rope_theta", d->rope_theta);
        type = ot_config_text(&s, "rope_type|type", "default");
    } else if (scaling != NULL && !json_is_null(scaling)) {
        wrong(c, "rope_scaling", "an object or null");
        return;
    }
    double partial = ot_config_number(c, "partial_rotary_factor", 1.0);
    if (json_is_object(scaling)) partial = ot_config_number(&s, "partial_rotary_factor", partial);
    d->rotary_dim = (int64_t)((double)d->head_dim * partial);
    if (s.status == OT_OK && strcmp(type, "linear") == 0) {
        d->rope_scaling = OT_ROPE_LINEAR;
        d->rope_factor = ot_config_number(&s, "factor", 1.0);
    } else if (s.status == OT_OK && strcmp(type, "llama3") == 0) {
        d->rope_scaling = OT_ROPE_LLAMA3;
        d->rope_factor = ot_config_number(&s, "factor", 8.0);
        d->rope_low_freq = ot_config_number(&s, "low_freq_factor", 1.0);
        d->rope_high_freq = ot_config_number(&s, "high_freq_factor", 4.0);
        d->rope_original_positions = ot_config_number(&s, "original_max_position_embeddings", (double)d->max_positions);
    } else if (s.status == OT_OK && strcmp(type, "default") != 0) {
        s.status = ot_fail(c->err, OT_ERR_UNSUPPORTED, "%s: rope scaling of type \"%s\" is not supported; known are default, linear, llama3",
                           c->where, type);
    }
    if (s.status == OT_OK && (!(d->rope_theta > 0) || d->rotary_dim < 2 || d->rotary_dim % 2 != 0 || d->rotary_dim > d->head_dim ||
                              (d->rope_scaling != OT_ROPE_DEFAULT && !(d->rope_factor > 0)) ||
                              (d->rope_scaling == OT_ROPE_LLAMA3 &&
                               !(d->rope_high_freq > d->rope_low_freq && d->rope_low_freq > 0 && d->rope_original_positions > 0)))) {
        s.status = ot_fail(c->err, OT_ERR_FORMAT, "%s: the rotary position settings make no sense (theta %g over %lld of %lld columns)",
                           c->where, d->rope_theta, (long long)d->rotary_dim, (long long)d->head_dim);
    }
    c->status = s.status;
}

void ot_config_refuse(ot_config *c, const char *key, const char *why) {
    if (c->status == OT_OK && json_is_true(json_object_get(c->json, key))) {
        c->status = ot_fail(c->err, OT_ERR_UNSUPPORTED, "%s: \"%s\" is set: %s", c->where, key, why);
    }
}

/* Variants that some towers have and the block has not. */
static void refuse_variants(ot_config *c, const ot_desc *d) {
    static const char *const scales[] = {"layer_scale_init_value", "layerscale_value", "init_values"};
    for (size_t i = 0; i < sizeof scales / sizeof *scales && c->status == OT_OK; i++) {
        const json_t *v = json_object_get(c->json, scales[i]);
        if (d->layer_scale != 0 || v == NULL || json_is_null(v) || (json_is_number(v) && json_number_value(v) == 0)) continue;
        c->status = ot_fail(c->err, OT_ERR_UNSUPPORTED, "%s: \"%s\" is set: layer-scale is supported in eva alone, as layer_scale_init_value", c->where, scales[i]);
    }
    ot_config_refuse(c, "use_layer_scale", "layer-scale is not supported");
    ot_config_refuse(c, "use_swiglu_ffn", "gated MLPs are not supported in vision towers");
}

void ot_config_image(ot_config *c, ot_desc *d, int64_t image, int64_t patch) {
    refuse_variants(c, d);
    d->vision = d->bidirectional = d->class_token = d->head_bias = true;
    const json_t *size = json_object_get(c->json, "image_size");
    d->image_height = d->image_width = image;
    if (json_is_array(size) && json_array_size(size) == 2 && json_is_integer(json_array_get(size, 0)) && json_is_integer(json_array_get(size, 1))) {
        d->image_height = json_integer_value(json_array_get(size, 0));
        d->image_width = json_integer_value(json_array_get(size, 1));
    } else {
        d->image_height = d->image_width = ot_config_size(c, "image_size", image);
    }
    d->patch_size = ot_config_size(c, "patch_size", patch);
    d->channels = ot_config_size(c, "num_channels", 3);
    if (c->status == OT_OK && (d->image_height < d->patch_size || d->image_width < d->patch_size || d->image_height > 1 << 14 || d->image_width > 1 << 14)) {
        c->status = ot_fail(c->err, OT_ERR_FORMAT, "%s: \"image_size\" must be at least \"patch_size\" and at most 16384", c->where);
        return;
    }
    d->position = OT_POSITION_LEARNED;
    d->max_positions = ot_desc_image_rows(d, d->image_height, d->image_width);
    d->norm = OT_NORM_LAYER;
    d->norm_bias = d->bias_qkv = d->bias_o = d->bias_mlp = d->final_norm = true;
    d->bos_id = d->eos_id = -1;
}

int64_t ot_config_labels(ot_config *c) {
    const json_t *labels = json_object_get(c->json, "id2label");
    const char *problem = ot_config_text(c, "problem_type", "single_label_classification");
    if (c->status == OT_OK && strcmp(problem, "single_label_classification") != 0) {
        c->status = ot_fail(c->err, OT_ERR_UNSUPPORTED, "%s: \"problem_type\" is \"%s\": only single_label_classification is supported", c->where, problem);
    }
    int64_t n = json_is_object(labels) && json_object_size(labels) > 0 ? (int64_t)json_object_size(labels) : ot_config_size(c, "num_labels", 2);
    if (c->status == OT_OK && n < 2) {
        c->status = ot_fail(c->err, OT_ERR_UNSUPPORTED, "%s: one class alone means regression, which is not supported: two classes or more are needed", c->where);
    }
    return n;
}
