/* One evaluation while it runs: between evaluate.c, evaluate_answers.c and samples.c. */
#ifndef OT_EVAL_EVALUATE_INTERNAL_H
#define OT_EVAL_EVALUATE_INTERNAL_H

#include "eval/evaluate.h"
#include "task/encode.h"

/* What greedy decoding wrote for a document of a GENERATE task. */
typedef struct ot_eval_answer {
    ot_str written;  /* before the first stop */
    ot_str filtered; /* what is compared */
    bool right;
} ot_eval_answer;

typedef struct ot_eval_run {
    const ot_model *model;
    const ot_tokenizer *tokenizer;
    const ot_task *task;
    const ot_evaluate_options *options;
    ot_score_options score;
    ot_task_set *set;
    ot_encoder encoder;
    ot_arena arena; /* of rendered documents and ids */
    ot_task_doc *docs;
    int64_t n;
    int64_t *first; /* [n + 1] a document's first request */
    ot_score_request *requests;
    int64_t n_requests, capacity;
    ot_eval_answer *answers; /* [n] of GENERATE */
    ot_evaluation *out;
} ot_eval_run;

/* Metrics that are means over documents. */
typedef struct ot_eval_mean {
    unsigned metric;
    const char *name;
} ot_eval_mean;
enum { OT_EVAL_MEANS = 4, OT_EVAL_PERPLEXITIES = 3 };
extern const ot_eval_mean ot_eval_means[OT_EVAL_MEANS];
/* Those of whole texts; the first divides by words, the others by bytes. */
extern const ot_eval_mean ot_eval_perplexities[OT_EVAL_PERPLEXITIES];

/* A document's part of a mean. */
double ot_eval_hit(const ot_eval_run *r, int64_t d, unsigned metric);
double ot_eval_page_loglikelihood(const ot_eval_run *r, int64_t d);
double ot_eval_block_loss(const ot_eval_run *r, int64_t b);

/* GENERATE: contexts of all documents are decoded; answers are filled. */
ot_status ot_eval_answer_docs(ot_eval_run *r, ot_error *err);
/* out->samples, with the harness's keys. */
ot_status ot_eval_write_samples(ot_eval_run *r, ot_error *err);

#endif
