/* Perplexity over non-overlapping blocks: the paper's measure. */
#ifndef OT_EVAL_PERPLEXITY_H
#define OT_EVAL_PERPLEXITY_H

#include "model/network.h"
#include "train/dataset.h"

typedef struct ot_perplexity {
    double loss, perplexity; /* mean over blocks of the block's mean loss; its exponential */
    int64_t blocks, tokens;
    double *per_block; /* [blocks], ot_free */
} ot_perplexity;

typedef struct ot_perplexity_options {
    const ot_backend *backend;
    ot_dtype compute;
    const ot_hooks *hooks;
    void (*observe)(void *context, int64_t done, int64_t total, double loss_so_far); /* NULL: nobody */
    void *context;
} ot_perplexity_options;

ot_status ot_perplexity_run(const ot_model *m, const ot_dataset *data, const ot_perplexity_options *options, ot_perplexity *out, ot_error *err);

#endif
