/* What can be known of a model, a split and a tuning run before anything is computed: counts, bytes, and memory from the very plan that would
 * run. Weights are neither read nor allocated, so a configuration alone is enough. */
#ifndef OT_EVAL_INSPECT_H
#define OT_EVAL_INSPECT_H

#include "emulator/emulator.h"
#include "model/network.h"

/* A model folder with weights, an offer or a GGUF file is opened; a folder without weights, or any JSON file, is read as a configuration. */
ot_status ot_inspect_open(const char *path, ot_model **out, ot_error *err);

/* The dtype that a parameter has or, for a configuration, would be stored in. */
ot_dtype ot_inspect_dtype(const ot_model *m, const ot_param *p);

enum { OT_INSPECT_PARTS = 8 };
typedef struct ot_inspect_part {
    const char *name; /* "attention" */
    int64_t tensors, parameters, bytes;
} ot_inspect_part;
/* The model's parameters by what they do; returns how many parts there are. */
int64_t ot_inspect_parts(const ot_model *m, ot_inspect_part parts[OT_INSPECT_PARTS]);

typedef struct ot_inspect_split {
    ot_emulator emulator;
    int64_t layers;         /* of the offer */
    int64_t offer_bytes;    /* weights of the offer */
    int64_t middle_bytes, kept_bytes; /* of the whole middle, and of its blocks that are shipped */
    bool rounded; /* some of them are shipped in a narrower or other type than the model has them in */
} ot_inspect_split;
/* bottom, top and emulator as for `split`. */
ot_status ot_inspect_split_plan(const ot_model *m, int64_t bottom, int64_t top, const char *emulator, ot_inspect_split *out, ot_error *err);
void ot_inspect_split_free(ot_inspect_split *s);

typedef struct ot_inspect_tuning {
    const char *peft;
    const ot_backend *backend;
    ot_dtype compute;
    int64_t batch, block;
    bool recompute;
} ot_inspect_tuning;

typedef struct ot_inspect_memory {
    int64_t trainable;
    int64_t weights, trained, activations; /* bytes: of the model; of masters, gradients and moments; of everything that a step computes */
    int64_t total; /* with the program itself */
} ot_inspect_memory;
/* Tuning bottom + top blocks of the offer that this split makes of the model; e NULL: of the model as it is. */
ot_status ot_inspect_tuning_memory(const ot_model *m, const ot_emulator *e, int64_t bottom, int64_t top, const ot_inspect_tuning *t,
                                   ot_inspect_memory *out, ot_error *err);

#endif
