#include "model/gguf_map.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const ot_gguf_size llama_sizes[] = {
    {"block_count", "num_hidden_layers"},         {"embedding_length", "hidden_size"},
    {"feed_forward_length", "intermediate_size"}, {"attention.head_count", "num_attention_heads"},
    {"context_length", "max_position_embeddings"}, {0},
};
static const ot_gguf_size gpt2_sizes[] = {
    {"block_count", "n_layer"},          {"embedding_length", "n_embd"},    {"feed_forward_length", "n_inner"},
    {"attention.head_count", "n_head"}, {"context_length", "n_positions"}, {0},
};
static const ot_gguf_size bloom_sizes[] = {
    {"block_count", "n_layer"}, {"embedding_length", "hidden_size"}, {"attention.head_count", "n_head"}, {"context_length", "seq_length"}, {0},
};
static const char rms[] = "attention.layer_norm_rms_epsilon", layer[] = "attention.layer_norm_epsilon";
static const ot_gguf_family families[] = {
    {"llama", llama_sizes, rms, "rms_norm_eps", 1e-6, true},          {"qwen2", llama_sizes, rms, "rms_norm_eps", 1e-6, true},
    {"qwen3", llama_sizes, rms, "rms_norm_eps", 1e-6, true},          {"gpt2", gpt2_sizes, layer, "layer_norm_epsilon", 1e-5, false},
    {"bloom", bloom_sizes, layer, "layer_norm_epsilon", 1e-5, false}, {0},
};

const char ot_gguf_key_low[] = "offsite.rope.low_freq_factor", ot_gguf_key_high[] = "offsite.rope.high_freq_factor";
const char ot_gguf_key_factor[] = "offsite.rope.factor", ot_gguf_key_original[] = "offsite.rope.original_max_position_embeddings";

const ot_gguf_family *ot_gguf_family_of(const ot_arch *arch) {
    for (const ot_gguf_family *f = families; f->name != NULL && arch->gguf_name != NULL; f++) {
        if (strcmp(f->name, arch->gguf_name) == 0) return f;
    }
    return NULL;
}

static bool rotated(const ot_desc *desc, ot_role role) { return desc->arch->gguf_permuted && (role == OT_ROLE_Q || role == OT_ROLE_K); }

static bool interleaved(const ot_desc *desc, ot_role role) { return desc->qkv == OT_QKV_INTERLEAVED && role == OT_ROLE_QKV; }

ot_gguf_layout ot_gguf_layout_of(const ot_desc *desc, ot_role role, bool bias) {
    if (rotated(desc, role) || interleaved(desc, role)) return OT_GGUF_ROWS;
    return desc->conv1d && !bias && ot_role_in_block(role) && !ot_desc_shape(desc, role).vector ? OT_GGUF_TRANSPOSED : OT_GGUF_AS_IS;
}

int64_t ot_gguf_row(const ot_desc *desc, ot_role role, int64_t r) {
    if (rotated(desc, role)) return ot_gguf_row_permutation(r, desc->head_dim);
    if (!interleaved(desc, role)) return r;
    int64_t d = desc->head_dim, head = r / (3 * d), part = r / d % 3;
    return (part * desc->heads + head) * d + r % d;
}

ot_status ot_gguf_param_name(const ot_desc *desc, ot_role role, int64_t block, bool bias, char name[OT_GGUF_NAME], ot_error *err) {
    const char *template = desc->arch->gguf_stems[role];
    if (template == NULL) {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "a GGUF of the architecture %s has no name for a part that this model has", desc->arch->name);
    }
    const char *mark = strstr(template, "%d"), *kind = bias ? "bias" : "weight";
    if (mark == NULL) {
        snprintf(name, OT_GGUF_NAME, "%s.%s", template, kind);
    } else {
        snprintf(name, OT_GGUF_NAME, "%.*s%lld%s.%s", (int)(mark - template), template, (long long)block, mark + 2, kind);
    }
    return OT_OK;
}

void ot_gguf_rope_factors(const ot_desc *d, float *factors) {
    double low = d->rope_original_positions / d->rope_low_freq, high = d->rope_original_positions / d->rope_high_freq;
    for (int64_t i = 0; i < d->rotary_dim / 2; i++) {
        double wavelength = 2.0 * M_PI * pow(d->rope_theta, (double)(2 * i) / (double)d->rotary_dim);
        factors[i] = 1.0F;
        if (wavelength > low) {
            factors[i] = (float)d->rope_factor;
        } else if (wavelength >= high) {
            double smooth = (d->rope_original_positions / wavelength - d->rope_low_freq) / (d->rope_high_freq - d->rope_low_freq);
            factors[i] = (float)(1.0 / ((1.0 - smooth) / d->rope_factor + smooth));
        }
    }
}
