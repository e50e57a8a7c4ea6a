/* Generation: several sequences at once over a key/value cache. Prompts are read in batches of many tokens, then every sequence goes on by
 * one token a run. Whatever the batches and their order, a sequence gets the tokens it would get alone and without a cache. */
#ifndef OT_EVAL_GENERATE_H
#define OT_EVAL_GENERATE_H

#include "model/network.h"

typedef struct ot_prompt {
    const int32_t *ids; /* at least one */
    int64_t count;
} ot_prompt;

typedef struct ot_sampling {
    double temperature; /* 0: always the likeliest token */
    int64_t top_k;      /* only the k likeliest, 0: all */
    double top_p;       /* only the fewest likeliest that have this probability together; 1: all */
    uint64_t seed;
} ot_sampling;

typedef struct ot_generate_options {
    const ot_backend *backend;
    ot_dtype compute;
    const ot_hooks *hooks;
    int64_t max_new; /* tokens for every sequence */
    ot_sampling sampling;
    const int32_t *end_ids; /* a sequence ends after one of these */
    int64_t n_end_ids;
    int64_t lanes;        /* sequences at once, 0: 16 */
    int64_t prompt_rows;  /* prompt tokens read in one run, 0: 512 */
    /* After every new token; false ends the sequence. NULL: nobody listens. */
    bool (*token)(void *context, int64_t sequence, int32_t id);
    void *context;
} ot_generate_options;

typedef struct ot_generated {
    int32_t *ids;    /* [sequences, max_new], ot_free */
    int64_t *counts; /* [sequences] how many there are, the ending one included; ot_free */
    int64_t prompt_tokens, new_tokens;
    double prompt_seconds, new_seconds;
    int64_t bytes; /* of the network with its cache */
} ot_generated;

/* REFUSED when a prompt and max_new tokens are more than the model has positions for. */
ot_status ot_generate(const ot_model *m, const ot_prompt *prompts, int64_t n_prompts, const ot_generate_options *options, ot_generated *out,
                      ot_error *err);
void ot_generated_free(ot_generated *g);

/* Tokens that fit after a prompt of `count`; -1: no bound (positions that are not learned). */
int64_t ot_generate_room(const ot_desc *d, const ot_hooks *hooks, int64_t count);

/* The ids that end a text: of generation_config.json beside the model, else of its configuration. At most `room` are written; returns how
 * many there are, at most `room`. */
ot_status ot_generate_end_ids(const ot_model *m, int32_t *ids, int64_t room, int64_t *count, ot_error *err);

/* One draw from logits [n], with scratch[n]. `draw` counts the tokens of the sequence: the same seed, sequence, draw and logits give
 * the same token. NUMERIC when no logit is a number. */
typedef struct ot_candidate {
    float logit;
    int32_t id;
    double weight;
} ot_candidate;
ot_status ot_sample(const float *logits, int64_t n, const ot_sampling *s, int64_t sequence, int64_t draw, ot_candidate *scratch, int32_t *id,
                    ot_error *err);

#endif
