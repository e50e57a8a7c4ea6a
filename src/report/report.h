/* Results of many runs as one table: the five numbers of offsite-tuning, its three conditions, cost and what was given away. */
#ifndef OT_REPORT_REPORT_H
#define OT_REPORT_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"

typedef enum ot_role { OT_ROLE_ZERO_SHOT, OT_ROLE_EMULATOR, OT_ROLE_TUNED, OT_ROLE_PLUG_IN, OT_ROLE_FULL, OT_ROLE_COUNT } ot_role;
/* "zero_shot", "emulator", "tuned", "plug_in", "full": keys of files and of JSON. */
extern const char *const ot_role_keys[OT_ROLE_COUNT];
/* "zero-shot", "emulator", "tuned emulator", "plug-in", "full": for people. */
extern const char *const ot_role_names[OT_ROLE_COUNT];

/* What a number belongs to. Texts are NULL, lr NAN and seed -1 where they play no part, as the emulator for a zero-shot score. */
typedef struct ot_setting {
    const char *model, *split, *emulator, *peft;
    double lr;
    int64_t seed;
} ot_setting;

typedef struct ot_score {
    ot_role role;
    ot_setting setting;
    const char *measure; /* "arc_easy acc", "perplexity" */
    double value;
    bool higher; /* is better */
} ot_score;

/* What one command took, and what it told of an offer; NAN or -1: not told. */
typedef struct ot_step_facts {
    const char *name, *verb;
    ot_setting setting;
    bool failed;
    const char *error;
    double seconds, tokens_per_second, exact, cpl, fidelity;
    int64_t peak_bytes, output_bytes;
} ot_step_facts;

typedef struct ot_report {
    ot_arena arena;
    const char *title;
    ot_score *scores;
    int64_t n_scores, scores_capacity;
    ot_step_facts *steps;
    int64_t n_steps, steps_capacity;
} ot_report;

/* Adds a folder of `offsite experiment`, or a folder whose files are named for their role: zero_shot.json, emulator.json, tuned.json,
 * plug_in.json, full.json (what eval --json said; also the names of examples/demo/run.sh), split.json, tune.json, finetune.json. */
ot_status ot_report_read(ot_report *r, const char *path, ot_error *err);
void ot_report_free(ot_report *r);

typedef struct ot_number {
    double mean, spread; /* spread: standard deviation over seeds, NAN for one */
    int64_t n;           /* seeds; 0: no such number */
} ot_number;

typedef enum ot_verdict { OT_UNKNOWN, OT_HOLDS, OT_FAILS } ot_verdict;

/* One learning rate of one combination. */
typedef struct ot_report_row {
    ot_setting setting; /* seed -1 */
    const char *measure;
    bool higher, chosen; /* chosen: the rate with the best tuned emulator */
    ot_number of[OT_ROLE_COUNT];
    double full_lr;
    ot_verdict gains, needs_model, close; /* zero-shot < plug-in; tuned emulator < plug-in; plug-in near full */
    double recovered;                     /* share of full fine-tuning's gain that plug-in has */
    double exact, cpl, fidelity, tokens_per_second, seconds;
    int64_t offer_bytes, return_bytes, peak_bytes;
} ot_report_row;

typedef struct ot_report_table {
    ot_report_row *rows;
    int64_t n, capacity;
} ot_report_table;

/* data_owner: only what that party can know, emulator scores and its own costs. Rows in the order of the first tuned score. */
ot_status ot_report_tabulate(const ot_report *r, bool data_owner, ot_report_table *out, ot_error *err);
void ot_report_table_free(ot_report_table *t);

#endif
