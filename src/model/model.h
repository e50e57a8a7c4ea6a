/* A model: description, configuration and parameters over mapped files. Weights stay where the file has them; vectors (gains, biases)
 * are copied to F32. Nothing here computes. */
#ifndef OT_MODEL_MODEL_H
#define OT_MODEL_MODEL_H

#include <jansson.h>

#include "base/error.h"
#include "base/mem.h"
#include "engine/plan.h"
#include "model/desc.h"
#include "model/forms.h"
#include "tensor/dtype.h"

typedef struct ot_param {
    const char *name; /* as transformers writes it, prefix included */
    ot_role role;
    int32_t block; /* -1: outside the blocks */
    bool bias;
    uint8_t factor;   /* of a linear in two factors: OT_FACTOR_IN or _OUT; 0: the whole */
    bool decay;       /* two or more dimensions as stored: weight decay applies */
    ot_tensor stored; /* the bytes of the file; data is NULL for a model made from a config alone */
    ot_tensor scales; /* of a packed matrix; stored holds the codes then, with the packed dtype and the matrix's own shape */
    ot_slot slot;     /* what the engine computes with */
} ot_param;

/* out = (in . A^T) . B^T: OT_FACTOR_IN is A [rank, in], OT_FACTOR_OUT is B [out, rank] (the other way round where linears are stored [in, out]).
 * A's name ends in ".svd_in.weight" and B's in ".svd_out.weight" in place of ".weight". */
enum { OT_FACTOR_IN = 1, OT_FACTOR_OUT = 2 };

typedef enum ot_source { OT_SOURCE_HF, OT_SOURCE_GGUF, OT_SOURCE_CONFIG } ot_source;

typedef struct ot_model {
    ot_desc desc;
    ot_forms forms;
    int64_t *block_starts; /* [layers + 1] first parameter of each block */
    json_t *config; /* as read, or as it follows from a GGUF */
    ot_source source;
    char *path; /* the directory or file it came from */
    ot_param *params;
    int64_t n_params;
    ot_dtype compute;     /* F32 or F64: dtype of vectors */
    ot_arena arena;       /* names */
    void *vectors;        /* F32 copies of vectors */
    void *permuted;       /* matrices put back in order (GGUF) */
    void *copies;         /* matrices whose bytes were not aligned in the file */
    void **files;         /* ot_safetensors * of the shards, or one ot_gguf * */
    int64_t n_files;
    int64_t unused_tensors; /* in the files, but no parameter */
    bool headless;          /* a vision tower without classifier: its head is zeros */
    const struct ot_model *origin; /* of a model made from another one: whose tensors it borrows, where the small files lie; else NULL */
} ot_model;

/* path: a Hugging Face directory (config.json and safetensors) or a GGUF file. compute: F32 (also for bf16 arithmetic) or F64. */
ot_status ot_model_open(const char *path, ot_dtype compute, ot_model **out, ot_error *err);
/* Parameters with shapes but without data, from a configuration (a file or a model directory). path becomes the directory: there lie the
 * tokenizer files. */
ot_status ot_model_from_config(const char *path, ot_model **out, ot_error *err);
/* The same from a parsed configuration, whose reference is taken over (also on failure). */
ot_status ot_model_from_json(json_t *config, const char *where, ot_model **out, ot_error *err);
/* Fresh weights for a model made from a configuration: matrices in F32 or BF16 (the same values, rounded), vectors in F32. */
ot_status ot_model_initialise(ot_model *m, uint64_t seed, ot_dtype matrices, ot_error *err);
void ot_model_close(ot_model *m);

/* Blocks that run, those of a shared stack counted each time; and which block runs as number `item`. */
int64_t ot_model_depth(const ot_model *m);
int64_t ot_model_block_at(const ot_model *m, int64_t item);
/* NULL when the model has no such parameter (a linear in two factors has no whole). */
ot_param *ot_model_param(const ot_model *m, ot_role role, int64_t block, bool bias);
ot_param *ot_model_factor(const ot_model *m, ot_role role, int64_t block, int factor);
ot_param *ot_model_find(const ot_model *m, const char *name);
/* The slot of a weight or bias, NULL when absent. */
const ot_slot *ot_model_slot(const ot_model *m, ot_role role, int64_t block, bool bias);
/* Is it part of a classifier's head, which is tuned together with the adapter layers? */
bool ot_model_tunes_head(const ot_model *m, const ot_param *p);
enum { OT_PARAM_NAME = 256 };
/* The name transformers gives to a parameter, e.g. "model.layers.3.mlp.up_proj.weight". */
ot_status ot_param_name(const ot_arch *arch, ot_role role, int64_t block, bool bias, char name[OT_PARAM_NAME], ot_error *err);
/* The same for a parameter of any kind, when its block gets the number `block`. */
ot_status ot_param_name_at(const ot_model *m, const ot_param *p, int64_t block, char name[OT_PARAM_NAME], ot_error *err);
int64_t ot_param_elements(const ot_param *p);
int64_t ot_param_stored_bytes(const ot_param *p); /* scales included */
int64_t ot_model_parameters(const ot_model *m);
/* Bytes of all stored parameters. */
int64_t ot_model_stored_bytes(const ot_model *m);
/* The dtype that most matrix elements are stored in. */
ot_dtype ot_model_dtype(const ot_model *m);

/* Values of a parameter as F32, in the layout of the file. out holds ot_param_elements. */
void ot_param_read(const ot_param *p, float *out);

/* For the files of this folder. */
ot_status ot_model_layout(ot_model *m, ot_error *err);               /* allocate params and name them from desc */
ot_status ot_model_bind(ot_model *m, ot_error *err);                 /* slots from stored tensors */
ot_status ot_model_load_hf(ot_model *m, const char *dir, ot_error *err);
ot_status ot_model_load_gguf(ot_model *m, const char *path, ot_error *err);

#endif
