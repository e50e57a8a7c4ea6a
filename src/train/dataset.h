/* Training and evaluation data as rows of token ids with a target for each position. */
#ifndef OT_TRAIN_DATASET_H
#define OT_TRAIN_DATASET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "model/model.h"

typedef struct ot_dataset {
    int64_t rows, length; /* every row has `length` columns */
    int32_t *ids;         /* [rows, length] */
    int32_t *targets;     /* [rows, length]: what position t must predict, -1: nothing */
    int64_t *mask;        /* [rows, length] or NULL: all ones */
    int32_t *counted;     /* [rows] targets of each row */
    int64_t tokens;       /* positions that are not masked */
    int64_t text_tokens;  /* tokens of the text before it was cut; 0 for id files */
} ot_dataset;

/* path: .safetensors with input_ids [N, T] int64 and optionally labels (not shifted, -100 ignored) and attention_mask; anything else is text,
 * tokenised whole without special tokens with the tokenizer found at tokenizer_path and cut into blocks of `block` ids, the remainder dropped.
 * vocab: ids must be below it. limit: rows at most, 0: all. */
ot_status ot_dataset_open(const char *path, const char *tokenizer_path, int64_t block, int64_t vocab, int64_t limit, ot_dataset *out,
                          ot_error *err);
void ot_dataset_free(ot_dataset *d);
int64_t ot_dataset_targets(const ot_dataset *d); /* of all rows */

/* Row order of one epoch: 0, 1, 2, ... or a permutation that depends only on seed and epoch. */
void ot_dataset_order(const ot_dataset *d, bool shuffle, uint64_t seed, int64_t epoch, int64_t *order);

#endif
