/* Log-likelihoods of continuations: many requests packed into batches without padding. The requests of a group (the choices of a question) share the
 * rows of what their inputs have in common, and only positions that are scored reach the head. */
#ifndef OT_EVAL_SCORE_H
#define OT_EVAL_SCORE_H

#include "model/network.h"

typedef struct ot_score_request {
    const int32_t *ids; /* [n_context + n_continuation] */
    int64_t n_context, n_continuation;
    int64_t group; /* requests of one group stand side by side */
    /* Results. */
    double loglikelihood; /* natural logarithm, summed over the continuation */
    bool greedy;          /* greedy decoding after the context writes the continuation */
} ot_score_request;

typedef struct ot_score_options {
    const ot_backend *backend;
    ot_dtype compute;
    const ot_hooks *hooks;
    int64_t max_length; /* tokens fed at most; longer inputs lose their beginning */
    int64_t rows;       /* tokens of a batch, 0: 1024; a longer input makes its batch longer */
    bool no_sharing;    /* every request by itself: the same numbers up to rounding, slower */
    void (*observe)(void *context, int64_t done, int64_t total); /* requests; NULL: nobody */
    void *context;
} ot_score_options;

typedef struct ot_score_cost {
    int64_t tokens;     /* that requests feed, as if none shared */
    int64_t rows;       /* that were computed */
    int64_t targets;    /* scored positions */
    int64_t bytes;      /* of activations and batches */
    double seconds;
} ot_score_cost;

/* The longest input that the harness would feed to this model: its positions, 2048 where it has no such limit. */
int64_t ot_score_max_length(const ot_model *m, const ot_hooks *hooks);

/* cost may be NULL; its counters are added to. */
ot_status ot_score(const ot_model *m, ot_score_request *requests, int64_t n, const ot_score_options *options, ot_score_cost *cost, ot_error *err);

#endif
