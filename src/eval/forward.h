/* One forward (and backward) over given token ids, with everything written to a file: for checks against other implementations. */
#ifndef OT_EVAL_FORWARD_H
#define OT_EVAL_FORWARD_H

#include "model/network.h"

typedef struct ot_forward_options {
    const ot_backend *backend;
    ot_dtype compute;
    bool hidden, grad;
    const ot_hooks *hooks; /* NULL: none */
} ot_forward_options;

typedef struct ot_forward_summary {
    bool has_loss;
    double loss;
    int64_t targets, tokens;
} ot_forward_summary;

/* input: safetensors with input_ids [B, T], optional attention_mask and labels [B, T] (all int64; labels not shifted, -100 ignored).
 * output: logits [B, T, V], loss [1] when there are labels, hidden_states.i and last_block [B, T, D], grad.NAME. Rows of masked positions
 * are zero. REFUSED when every label is ignored. */
ot_status ot_forward_file(ot_model *m, const char *input, const char *output, const ot_forward_options *options, ot_forward_summary *summary,
                          ot_error *err);

#endif
