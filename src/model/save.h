/* Writing a model as a Hugging Face directory that transformers loads unchanged. */
#ifndef OT_MODEL_SAVE_H
#define OT_MODEL_SAVE_H

#include "model/model.h"

/* New values for a parameter (F32, layout of the file), or NULL: the stored ones. The pointer is read until the next call. */
typedef const float *ot_param_values(void *context, const ot_param *p);

typedef struct ot_save_options {
    const int64_t *blocks; /* which blocks become 0, 1, ...; NULL: all */
    int64_t n_blocks;
    bool own_dtype; /* each tensor keeps its dtype (what a GGUF holds becomes `dtype`) */
    ot_dtype dtype; /* F32, BF16 or F16 */
    ot_param_values *values;
    void *context;
    int64_t shard_bytes; /* 0: 5 GB, as transformers */
} ot_save_options;

/* The dtype that a parameter is written in; packed ones stay packed (new values are packed again). */
ot_dtype ot_save_dtype(const ot_param *p, const ot_save_options *o);
/* The config.json that goes with these options. */
ot_status ot_model_save_config(const ot_model *m, const ot_save_options *o, json_t **out, ot_error *err);
/* config.json, generation_config.json, tokenizer files and model.safetensors (or shards with an index) into the existing directory dir. */
ot_status ot_model_save(const ot_model *m, const char *dir, const ot_save_options *options, ot_error *err);

/* Called with each tensor just before it is written, in file order: for inventories and digests. */
typedef ot_status ot_save_observer(void *context, const ot_tensor *t, ot_error *err);
ot_status ot_model_save_observed(const ot_model *m, const char *dir, const ot_save_options *options, ot_save_observer *observer, void *context,
                                 ot_error *err);

/* Names of the files that go with the weights besides config.json, where the model has them: the tokenizer's and the like. NULL-terminated. */
extern const char *const ot_model_small_files[];

#endif
