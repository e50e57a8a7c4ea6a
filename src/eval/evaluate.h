/* A model's scores on a task, counted as lm-evaluation-harness counts them, with every document's answers. */
#ifndef OT_EVAL_EVALUATE_H
#define OT_EVAL_EVALUATE_H

#include "eval/score.h"
#include "format/tokenizer.h"
#include "task/task.h"

typedef struct ot_metric {
    const char *name;
    double value, error; /* standard error of the mean */
    bool has_error;      /* perplexities, and means of one document, have none */
    bool higher_is_better;
} ot_metric;

enum { OT_MOST_METRICS = 4, OT_BLOCK_TOKENS = 512 };

typedef struct ot_evaluation {
    const ot_task *task;
    int64_t documents, original; /* scored; in the file */
    int64_t shots;
    ot_metric metrics[OT_MOST_METRICS];
    int n_metrics;
    json_t *samples; /* array: one object a document, with the harness's keys */
    ot_score_cost cost;
} ot_evaluation;

typedef struct ot_evaluate_options {
    ot_task_set_options data; /* folders, shots, limit */
    ot_score_options score;   /* max_length 0: ot_score_max_length */
    int64_t block;            /* BLOCKS: tokens of a block, 0: 512 */
} ot_evaluate_options;

ot_status ot_evaluate(const ot_model *m, const ot_tokenizer *tokenizer, const ot_task *task, const ot_evaluate_options *options, ot_evaluation *out,
                      ot_error *err);
void ot_evaluation_free(ot_evaluation *e);

/* What stands behind the comma of a metric's key: "acc,none". */
static inline const char *ot_eval_filter(const ot_task *task) { return task->generation != NULL ? task->generation->filter : "none"; }

#endif
