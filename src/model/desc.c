/* Descriptions: parsing by architecture, sanity checks, and the shapes that follow from them. */
#include "model/desc.h"

#include <stdio.h>
#include <string.h>

#include "format/json.h"
#include "model/config.h"

bool ot_role_in_block(ot_role role) {
    static const bool in_block[OT_ROLE_COUNT] = {
#define OT_ROLE_PLACE(name, where) [OT_ROLE_##name] = where,
        OT_ROLE_MAP(OT_ROLE_PLACE)
#undef OT_ROLE_PLACE
    };
    return in_block[role];
}

const ot_arch *ot_arch_by_model_type(const char *model_type) {
    for (const ot_arch *const *a = ot_archs; *a != NULL; a++) {
        for (const char *const *t = (*a)->model_types; *t != NULL; t++) {
            if (strcmp(*t, model_type) == 0) return *a;
        }
    }
    return NULL;
}

const ot_arch *ot_arch_by_gguf(const char *name) {
    for (const ot_arch *const *a = ot_archs; *a != NULL; a++) {
        if ((*a)->gguf_name != NULL && strcmp((*a)->gguf_name, name) == 0) return *a;
    }
    return NULL;
}

static ot_role_shape matrix(int64_t out, int64_t in, bool bias, bool conv1d) {
    int64_t rows = conv1d ? in : out, cols = conv1d ? out : in;
    return (ot_role_shape){.exists = true, .bias = bias, .rows = rows, .cols = cols, .out = out, .in = in, .n_dims = 2, .shape = {rows, cols}};
}

static ot_role_shape vector(int64_t n, bool bias) {
    return (ot_role_shape){.exists = true, .vector = true, .bias = bias, .rows = 1, .cols = n, .out = n, .in = n, .n_dims = 1, .shape = {n}};
}

/* [D, C, P, P] as it multiplies the pixels of a patch. */
static ot_role_shape patch_shape(const ot_desc *d) {
    ot_role_shape s = matrix(d->hidden_size, d->channels * d->patch_size * d->patch_size, d->patch_bias, false);
    s.n_dims = 4;
    s.shape[1] = d->channels;
    s.shape[2] = s.shape[3] = d->patch_size;
    return s;
}

static ot_role_shape class_shape(const ot_desc *d) {
    ot_role_shape s = vector(d->hidden_size, false);
    if (!d->leading_ones) return s;
    s.vector = false;
    s.n_dims = 3;
    s.shape[0] = s.shape[1] = 1;
    s.shape[2] = d->hidden_size;
    return s;
}

static ot_role_shape position_shape(const ot_desc *d) {
    ot_role_shape s = matrix(d->max_positions + d->position_offset, d->hidden_size, false, false);
    if (!d->leading_ones) return s;
    s.n_dims = 3;
    s.shape[0] = 1;
    s.shape[1] = s.rows;
    s.shape[2] = s.cols;
    return s;
}

int64_t ot_desc_image_rows(const ot_desc *d, int64_t height, int64_t width) {
    return (height / d->patch_size) * (width / d->patch_size) + d->class_token;
}

ot_role_shape ot_desc_shape(const ot_desc *d, ot_role role) {
    const ot_role_shape none = {0};
    int64_t q = d->heads * d->head_dim, kv = d->kv_heads * d->head_dim;
    bool separate = d->qkv == OT_QKV_SEPARATE;
    switch (role) {
    case OT_ROLE_EMBED: return d->vision ? none : matrix(d->vocab_size, d->embed_size, false, false);
    case OT_ROLE_PATCH: return d->vision ? patch_shape(d) : none;
    case OT_ROLE_CLASS: return d->class_token ? class_shape(d) : none;
    case OT_ROLE_POSITIONS: return d->position == OT_POSITION_LEARNED ? position_shape(d) : none;
    case OT_ROLE_EMBED_NORM: return d->embed_norm ? vector(d->hidden_size, d->norm_bias) : none;
    case OT_ROLE_PROJECT_IN:
        return d->embed_size != d->hidden_size ? matrix(d->hidden_size, d->embed_size, false, false) : none;
    case OT_ROLE_NORM1:
    case OT_ROLE_NORM2: return vector(d->hidden_size, d->norm_bias);
    case OT_ROLE_SCALE1:
    case OT_ROLE_SCALE2: return d->layer_scale != 0 ? vector(d->hidden_size, false) : none;
    case OT_ROLE_QKV: return separate ? none : matrix(q + 2 * kv, d->hidden_size, d->bias_qkv, d->conv1d);
    case OT_ROLE_Q: return separate ? matrix(q, d->hidden_size, d->bias_qkv, d->conv1d) : none;
    case OT_ROLE_K:
    case OT_ROLE_V: return separate ? matrix(kv, d->hidden_size, d->bias_qkv, d->conv1d) : none;
    case OT_ROLE_Q_NORM:
    case OT_ROLE_K_NORM: return d->qk_norm ? vector(d->head_dim, false) : none;
    case OT_ROLE_O: return matrix(d->hidden_size, q, d->bias_o, d->conv1d);
    case OT_ROLE_GATE: return d->gated ? matrix(d->ffn_size, d->hidden_size, d->bias_mlp, d->conv1d) : none;
    case OT_ROLE_UP: return matrix(d->ffn_size, d->hidden_size, d->bias_mlp, d->conv1d);
    case OT_ROLE_DOWN: return matrix(d->hidden_size, d->ffn_size, d->bias_mlp, d->conv1d);
    case OT_ROLE_FINAL_NORM: return d->final_norm ? vector(d->hidden_size, d->norm_bias) : none;
    case OT_ROLE_PROJECT_OUT:
        return d->embed_size != d->hidden_size ? matrix(d->embed_size, d->hidden_size, false, false) : none;
    case OT_ROLE_HEAD: return d->tied ? none : matrix(d->vocab_size, d->embed_size, d->head_bias, false);
    case OT_ROLE_COUNT: break;
    }
    return none;
}

static int64_t count(const ot_desc *d, bool in_block) {
    int64_t n = 0;
    for (int r = 0; r < OT_ROLE_COUNT; r++) {
        ot_role_shape s = ot_desc_shape(d, (ot_role)r);
        if (s.exists && ot_role_in_block((ot_role)r) == in_block) n += s.rows * s.cols + (s.bias ? s.out : 0);
    }
    return n;
}

int64_t ot_desc_block_parameters(const ot_desc *d) { return count(d, true); }
int64_t ot_desc_other_parameters(const ot_desc *d) { return count(d, false); }

/* Bounds that keep every product of sizes far from overflow. */
static ot_status check(const ot_desc *d, const char *where, ot_error *err) {
    const struct {
        const char *what;
        int64_t value, limit;
    } sizes[] = {
        {"number of layers", d->layers, 100000},        {"hidden size", d->hidden_size, 1 << 20}, {"number of heads", d->heads, 1 << 16},
        {"number of key/value heads", d->kv_heads, 1 << 16}, {"head size", d->head_dim, 1 << 16},      {"MLP width", d->ffn_size, 1 << 24},
        {"vocabulary", d->vocab_size, 1 << 26},         {"number of positions", d->max_positions, 1 << 28},
        {"embedding width", d->embed_size, 1 << 20},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (sizes[i].value < 1 || sizes[i].value > sizes[i].limit) {
            return ot_fail(err, OT_ERR_FORMAT, "%s: the %s is %lld, outside 1 to %lld", where, sizes[i].what, (long long)sizes[i].value,
                           (long long)sizes[i].limit);
        }
    }
    if (d->heads % d->kv_heads != 0) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: %lld attention heads cannot share %lld key/value heads evenly", where, (long long)d->heads,
                       (long long)d->kv_heads);
    }
    if (d->vision && (d->channels < 1 || d->channels > 64 || d->patch_size < 1 || d->image_height > 1 << 14 || d->image_width > 1 << 14 ||
                      d->patch_size > d->image_height || d->patch_size > d->image_width)) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: images of %lld x %lld with %lld channels in patches of %lld make no sense", where,
                       (long long)d->image_height, (long long)d->image_width, (long long)d->channels, (long long)d->patch_size);
    }
    if (d->heads * d->head_dim > 1 << 24) return ot_fail(err, OT_ERR_FORMAT, "%s: heads times head size is too large", where);
    if (!(d->norm_eps >= 0 && d->norm_eps < 1)) return ot_fail(err, OT_ERR_FORMAT, "%s: the norm epsilon %g makes no sense", where, d->norm_eps);
    return OT_OK;
}

ot_status ot_desc_from_config(const json_t *config, const char *where, ot_desc *desc, ot_error *err) {
    const char *model_type = NULL;
    bool found = false;
    if (!json_is_object(config)) return ot_fail(err, OT_ERR_FORMAT, "%s: a model configuration must be a JSON object", where);
    OT_TRY(ot_json_str(config, "model_type", where, &model_type, &found, err));
    if (!found) return ot_fail(err, OT_ERR_FORMAT, "%s: the key \"model_type\" is missing: this is no model configuration", where);
    if (strcmp(model_type, "offsite") == 0) { /* blocks of other forms: see forms.h */
        OT_TRY(ot_json_str(json_object_get(config, "offsite"), "model_type", where, &model_type, &found, err));
        if (!found) return ot_fail(err, OT_ERR_FORMAT, "%s: \"offsite\" lacks the key \"model_type\"", where);
    }
    const ot_arch *arch = ot_arch_by_model_type(model_type);
    if (arch == NULL) {
        char known[256] = "";
        for (const ot_arch *const *a = ot_archs; *a != NULL; a++) {
            size_t used = strlen(known);
            snprintf(known + used, sizeof known - used, "%s%s", used > 0 ? ", " : "", (*a)->name);
        }
        return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: the architecture \"%s\" is not supported; known are %s", where, model_type, known);
    }
    *desc = (ot_desc){.arch = arch, .padding_id = -1, .bos_id = -1, .eos_id = -1, .window_from_layer = 0};
    OT_TRY(arch->configure(config, where, desc, err));
    return check(desc, where, err);
}
