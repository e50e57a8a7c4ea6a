/* RUNS.yaml: a grid of models, splits, emulators, tuning methods, learning rates and seeds, as the list of commands that computes it. */
#ifndef OT_REPORT_RUNS_H
#define OT_REPORT_RUNS_H

#include <stdint.h>
#include <stdio.h>

#include "base/mem.h"
#include "report/report.h"

enum { OT_RUNS_MAX_STEPS = 10000, OT_RUNS_MAX_WORDS = 250, OT_RUNS_MAX_INPUTS = 150 };

/* What a step reads of the world: a file, or the files of a folder; `prefix`: only those directly in it whose names begin so. */
typedef struct ot_runs_input {
    const char *path, *prefix;
} ot_runs_input;

typedef struct ot_runs_step {
    const char *name; /* unique, letters, digits, '.', '-', '_': its files are steps/NAME.json and .log */
    const char *verb;
    int role; /* of an eval, else -1 */
    bool probe; /* trains a head for the data's classes, so that what nobody tuned can be measured */
    ot_setting setting;
    const char *const *words; /* after the program, without the subject of an eval; at most OT_RUNS_MAX_WORDS */
    int64_t n_words;
    const ot_runs_input *inputs; /* besides what other steps make */
    int64_t n_inputs;
    const char *subject; /* eval: what is measured: a model, or an adapter of setting.model */
    const char *output;  /* the folder it makes, NULL: none */
    int64_t needs[2];    /* steps that must be done before, -1: none */
} ot_runs_step;

typedef struct ot_runs {
    ot_arena arena;
    const char *title, *config; /* config: the file's text */
    ot_runs_step *steps;
    int64_t n_steps, capacity;
} ot_runs;

/* `name` is for messages, `dir` the folder that all outputs go to. Free with ot_runs_free, also after an error. */
ot_status ot_runs_parse(const char *source, int64_t size, const char *name, const char *dir, ot_runs *runs, ot_error *err);
void ot_runs_free(ot_runs *runs);

/* A word as a shell takes it, quoted where it must be; control characters never reach a terminal as they are. */
void ot_runs_put_word(FILE *f, const char *word);

#endif
