/* Results as lm-evaluation-harness writes them: one JSON object for all tasks, one JSONL file of samples for each. */
#ifndef OT_EVAL_RESULTS_H
#define OT_EVAL_RESULTS_H

#include "eval/evaluate.h"

typedef struct ot_results_info {
    const char *model, *adapter; /* paths; adapter may be NULL */
    const char *dtype;
    int64_t limit;  /* 0: none */
    double seconds; /* of all together */
    const ot_model *loaded;        /* NULL: not told */
    const ot_tokenizer *tokenizer; /* NULL: not told */
    int64_t max_length;            /* tokens fed at most, 0: not told */
} ot_results_info;

/* {"results": {TASK: {"acc,none": ..}}, "configs", "versions", "n-shot", "higher_is_better", "n-samples", "config", ..}; json_decref. */
ot_status ot_results_json(const ot_evaluation *tasks, int64_t n, const ot_results_info *info, json_t **out, ot_error *err);
/* Makes DIR and tries to write there: better than to find out when all is computed. */
ot_status ot_results_try(const char *dir, ot_error *err);
/* DIR/samples_TASK_DATE.jsonl of a task, then DIR/results_DATE.json, which may be there from the tasks before it. */
ot_status ot_results_write(const char *dir, const char *date, const json_t *results, const ot_evaluation *newest, ot_error *err);

/* For other files of that kind: "2026-11-24T00-23-57.220328", and one line for each value of an array. */
void ot_results_date(char *text, size_t size);
ot_status ot_results_write_lines(const char *path, const json_t *values, ot_error *err);

#endif
