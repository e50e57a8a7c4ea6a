/* Writing a model as one GGUF file, with its tokenizer, that llama.cpp loads. */
#ifndef OT_MODEL_SAVE_GGUF_H
#define OT_MODEL_SAVE_GGUF_H

#include "model/save.h"

typedef struct ot_gguf_save_options {
    ot_dtype dtype; /* of the matrices: F32, BF16, F16, Q8_0 or Q4_0 */
    ot_param_values *values; /* as in ot_save_options */
    void *context;
    const char *pre; /* name of the pre-tokenizer; NULL: found by what the tokenizer does */
} ot_gguf_save_options;

typedef struct ot_gguf_save_summary {
    int64_t tensors, bytes;
    int64_t kept_wider; /* matrices whose rows are no multiple of a block: F16 instead of the quantised type */
    bool tokenizer;     /* false: the model comes without one */
} ot_gguf_save_summary;

/* Can a GGUF hold this model? UNSUPPORTED with the first thing that it has no place for. */
ot_status ot_model_gguf_check(const ot_model *m, ot_error *err);
ot_status ot_model_save_gguf(const ot_model *m, const char *path, const ot_gguf_save_options *options, ot_gguf_save_summary *summary, ot_error *err);

#endif
