/* Text that a model writes itself, as rows of training data: for an owner who distils and has no text at hand. */
#ifndef OT_EVAL_SELF_TEXT_H
#define OT_EVAL_SELF_TEXT_H

#include "model/network.h"
#include "train/dataset.h"

typedef struct ot_self_text_options {
    const ot_backend *backend;
    ot_dtype compute;
    int64_t tokens, block; /* tokens / block rows of `block` tokens; the remainder is dropped */
    double temperature;    /* 1: the model's own probabilities */
    uint64_t seed;
    void (*observe)(void *context, int64_t done, int64_t total); /* tokens; NULL: nobody */
    void *context;
} ot_self_text_options;

/* Every row begins with the model's first token (bos_token_id of its configuration, else an end of text, else one drawn by the seed) and goes on by
 * sampling, past ends of text too, as a corpus of documents does. Every token is also a target. A row depends on seed and row number alone, not on
 * how many rows there are. USAGE when there is not one row; REFUSED when a row has more tokens than the model has positions. */
ot_status ot_self_text(const ot_model *m, const ot_self_text_options *options, ot_dataset *out, ot_error *err);

#endif
