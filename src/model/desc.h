/* The description of a transformer: everything that tells one architecture from another, as data. One block definition (stack.c)
 * reads it; an architecture file (arch/) fills it from a config and names the tensors. */
#ifndef OT_MODEL_DESC_H
#define OT_MODEL_DESC_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/op.h"

/* The places a weight can have in a model. X(name, inside a block) */
#define OT_ROLE_MAP(X)                                                                                                 \
    X(EMBED, false)                                                                                                    \
    X(PATCH, false)                                                                                                    \
    X(CLASS, false)                                                                                                    \
    X(POSITIONS, false)                                                                                                \
    X(EMBED_NORM, false)                                                                                               \
    X(PROJECT_IN, false)                                                                                               \
    X(NORM1, true)                                                                                                     \
    X(QKV, true)                                                                                                       \
    X(Q, true)                                                                                                         \
    X(K, true)                                                                                                         \
    X(V, true)                                                                                                         \
    X(Q_NORM, true)                                                                                                    \
    X(K_NORM, true)                                                                                                    \
    X(O, true)                                                                                                         \
    X(SCALE1, true)                                                                                                    \
    X(NORM2, true)                                                                                                     \
    X(GATE, true)                                                                                                      \
    X(UP, true)                                                                                                        \
    X(DOWN, true)                                                                                                      \
    X(SCALE2, true)                                                                                                    \
    X(FINAL_NORM, false)                                                                                               \
    X(PROJECT_OUT, false)                                                                                              \
    X(HEAD, false)

typedef enum ot_role {
#define OT_ROLE_ENUM(name, in_block) OT_ROLE_##name,
    OT_ROLE_MAP(OT_ROLE_ENUM)
#undef OT_ROLE_ENUM
        OT_ROLE_COUNT
} ot_role;

bool ot_role_in_block(ot_role role);

typedef enum ot_position_kind { OT_POSITION_NONE, OT_POSITION_LEARNED, OT_POSITION_ROPE, OT_POSITION_ALIBI } ot_position_kind;
typedef enum ot_qkv_kind {
    OT_QKV_SEPARATE,
    OT_QKV_CONCAT,      /* [q; k; v], heads inside each (GPT-2) */
    OT_QKV_INTERLEAVED, /* [heads, 3, d] (BLOOM) */
} ot_qkv_kind;
typedef enum ot_rope_scaling { OT_ROPE_DEFAULT, OT_ROPE_LINEAR, OT_ROPE_LLAMA3 } ot_rope_scaling;

struct ot_arch;

typedef struct ot_desc {
    const struct ot_arch *arch;
    int64_t layers, hidden_size, heads, kv_heads, head_dim, ffn_size, vocab_size;
    int64_t max_positions; /* longest sequence; rows of the position table are this plus position_offset */
    int64_t embed_size;    /* width of the token embedding: hidden_size unless projected (OPT-350m) */

    bool vision; /* reads images and classifies them: vocab_size is the number of classes, a row is a class token or a patch */
    int64_t channels, image_height, image_width, patch_size;
    bool class_token, patch_bias;
    bool mean_pool;       /* the head reads the mean of the patches, else the class token */
    bool head_skips_norm; /* the final norm is in the file, but the head reads what the blocks put out (CLIP) */
    bool leading_ones;    /* class token and positions are stored as [1, ...] */
    bool head_bias;
    bool bidirectional;
    double layer_scale;   /* first value of the gains of each branch before it is added (EVA), 0: there are none */
    bool no_key_bias;     /* the middle third of the fused bias is a constant (EVA) */

    ot_norm_kind norm;
    double norm_eps;
    bool post_norm; /* norm after the residual addition (OPT-350m) */
    bool embed_norm, final_norm, qk_norm;

    ot_position_kind position;
    int64_t position_offset;
    bool position_from_mask; /* positions count the unmasked tokens (OPT, BLOOM), else the columns */
    double rope_theta;
    int64_t rotary_dim;
    ot_rope_scaling rope_scaling;
    double rope_factor, rope_low_freq, rope_high_freq, rope_original_positions;

    int64_t window;            /* sliding window, 0: none */
    int64_t window_from_layer; /* the first layer that has it */

    ot_qkv_kind qkv;
    ot_act_kind act;
    bool gated;
    bool conv1d; /* linears are stored [in, out] */
    bool norm_bias, bias_qkv, bias_o, bias_mlp;
    bool scale_by_layer; /* scores divided by layer + 1 (GPT-2 option) */
    bool tied;           /* head = token embedding */
    int64_t padding_id;  /* embedding row that gets no gradient, -1: none */
    double dropout;      /* residual dropout in the config; used only on request */
    double initializer_range;
    int64_t bos_id, eos_id; /* -1: none */
} ot_desc;

typedef struct ot_arch {
    const char *name;                      /* "gpt2" */
    const char *const *model_types;        /* config.json's model_type, NULL-terminated */
    const char *class_name;                /* transformers' class for `architectures` */
    const char *prefix;                    /* of the base model's tensors: "transformer." */
    const char *layers_key;                /* config key with the number of layers, as written */
    const char *section;                   /* object in config.json that holds it, where there is one (CLIP's "vision_config") */
    uint32_t bare;                         /* bit (1 << role): its tensor is named without ".weight" */
    const char *const *ignored;            /* suffixes of tensors that are no parameters, NULL-terminated or NULL */
    const char *stems[OT_ROLE_COUNT];      /* tensor name without prefix and ".weight": "h.%d.attn.c_attn"; NULL: no such role */
    const char *gguf_name;                 /* general.architecture, NULL: not read from GGUF */
    const char *gguf_stems[OT_ROLE_COUNT]; /* "blk.%d.attn_q" */
    bool gguf_permuted;                    /* its converter interleaves the rotary halves of attn_q and attn_k */
    ot_status (*configure)(const json_t *config, const char *where, ot_desc *desc, ot_error *err);
} ot_arch;

/* The list: one line for a new architecture (arch_list.c). */
extern const ot_arch *const ot_archs[];
const ot_arch *ot_arch_by_model_type(const char *model_type);
const ot_arch *ot_arch_by_gguf(const char *name);

/* Does the description have this role; its matrix as stored in the file (a vector has rows = 1) and whether a bias goes with it. */
typedef struct ot_role_shape {
    bool exists, vector, bias;
    int64_t rows, cols;   /* as stored */
    int64_t out, in;      /* as used: out = in . W^T */
    int32_t n_dims;       /* of the tensor in the file */
    int64_t shape[4];
} ot_role_shape;
ot_role_shape ot_desc_shape(const ot_desc *desc, ot_role role);

/* Rows of one image of this size: patches, and the class token. */
int64_t ot_desc_image_rows(const ot_desc *desc, int64_t height, int64_t width);

/* Parse and check a config.json (any that transformers 4 or 5 writes). */
ot_status ot_desc_from_config(const json_t *config, const char *where, ot_desc *desc, ot_error *err);
/* Parameters of one block, of everything outside the blocks, and of the whole model. */
int64_t ot_desc_block_parameters(const ot_desc *desc);
int64_t ot_desc_other_parameters(const ot_desc *desc);

#endif
