/* Results of many runs as one table: the five numbers of offsite-tuning, its three conditions, cost and what was given away. */
#ifndef OT_REPORT_REPORT_H
#define OT_REPORT_REPORT_H

#include <stdbool.h>
#include <stddef.h>
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
    const char *task; /* whose rows were learnt; NULL: one set of data for all that is measured */
    double lr;
    int64_t seed;
} ot_setting;

typedef struct ot_score {
    ot_role role;
    ot_setting setting;
    const char *measure; /* "arc_easy acc", "perplexity" */
    double value;
    double error;      /* standard error over documents, NAN: not told */
    int64_t documents; /* or blocks, or pictures; -1: not told */
    bool higher;  /* is better */
} ot_score;

/* Losses by step; a step without validation has NAN in `valid`. */
typedef struct ot_curve {
    double *step, *loss, *valid;
    int64_t n, capacity;
} ot_curve;

/* What one command took, and what it told of an offer; NAN or -1: not told. */
typedef struct ot_step_facts {
    const char *name, *verb; /* verb: of the command; "probe" for a `finetune` that trains a head alone, to measure what nobody tuned */
    ot_setting setting;
    bool failed;
    bool full_waits;             /* a part of full fine-tuning that is waiting or running */
    const char *error;
    const char *command;         /* as a shell takes it; NULL: not told */
    const char *offer;           /* the id that the manifest of an offer holds */
    int role;                    /* of an eval, else -1 */
    double seconds, tokens_per_second, pictures_per_second; /* pictures_per_second: NAN of text */
    double exact, same, cpl, fidelity, signs; /* exact, same: shares of the middle shipped bit by bit, and the same to rounding */
    int64_t peak_bytes, output_bytes, trainable;
    int64_t layers, middle, kept; /* blocks of an offer, of the model's middle, of it kept */
    const char *data;             /* of an eval: the text or pictures */
    ot_curve curve;
} ot_step_facts;

/* Where results came from: what made them, on what, from which settings. Texts are NULL where the folder does not tell. */
typedef struct ot_report_source {
    const char *dir, *title, *program, *machine, *config;
} ot_report_source;

typedef struct ot_report {
    ot_arena arena;
    const char *title;
    int64_t waiting, skipped; /* commands of a queue that is not done; that need one that failed */
    const char *running;      /* the name of the one at work, NULL: none */
    bool probed;              /* zero-shot and emulator of pictures have a head for the data's classes, trained by itself */
    ot_report_source *sources;
    int64_t n_sources, sources_capacity;
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
    double error;        /* standard error over documents, NAN: not told */
    int64_t n;           /* seeds; 0: no such number */
} ot_number;
/* What the mean is uncertain by: over documents or over seeds, whichever is larger; NAN: not known. */
double ot_number_error(const ot_number *n);
/* "24.1 ± 0.3", "24.1" of one seed, "-" of none, into room, which it returns. */
const char *ot_number_text(const ot_number *n, char *room, size_t size);

typedef enum ot_verdict { OT_UNKNOWN, OT_HOLDS, OT_FAILS } ot_verdict;

/* What training took: the mean over seeds, the largest of memory and bytes. NAN or -1: not told. */
typedef struct ot_cost {
    double seconds, tokens_per_second, pictures_per_second;
    int64_t peak_bytes, trainable;
} ot_cost;

/* One learning rate of one combination. */
typedef struct ot_report_row {
    ot_setting setting; /* seed -1 */
    const char *measure, *offer, *data; /* offer: its id; data: the text or pictures that were measured, NULL: a task's */
    bool higher, chosen; /* chosen: the rate with the best tuned emulator */
    ot_number of[OT_ROLE_COUNT];
    double full_lr;
    ot_verdict gains, needs_model, close; /* zero-shot < plug-in; tuned emulator < plug-in; plug-in near full */
    ot_verdict sure_gain, sure_need;      /* the difference is more than two standard errors */
    double recovered;                     /* share of full fine-tuning's gain that plug-in has */
    bool full_waits;                      /* not all of full fine-tuning is done: close and recovered are not known yet */
    double exact, same, cpl, fidelity, signs;
    ot_cost tuning, full; /* full: at full_lr */
    int64_t offer_bytes, return_bytes, layers, middle, kept, documents;
} ot_report_row;

/* The share of the middle that the data owner has for good: bit by bit or the same to rounding, whichever is larger; NAN: not told. A quantised GGUF
 * written as bf16 has no byte of the owner's file and every value of it. */
double ot_report_shipped(const ot_report_row *row);

/* Is the baseline of a row all parameters of the whole model? Else it is the whole model tuned by the row's own method. */
bool ot_report_full_is_full(const ot_setting *setting);
/* "full fine-tuning", or "whole-model tuning by lora:r=8", into room, which it returns. */
const char *ot_report_full_name(const ot_setting *setting, char *room, size_t size);

typedef struct ot_report_table {
    ot_report_row *rows;
    int64_t n, capacity;
} ot_report_table;

/* Are the training runs on pictures, all whose speed is known? Then speeds are told in pictures, as nobody counts those by tokens. */
bool ot_report_counts_pictures(const ot_report_table *t);
/* Of one run: "pictures/s" or "tokens/s". */
double ot_cost_speed(const ot_cost *cost, bool pictures);

/* data_owner: only what that party can know, emulator scores and its own costs. Rows in the order of the first tuned score. */
ot_status ot_report_tabulate(const ot_report *r, bool data_owner, ot_report_table *out, ot_error *err);
void ot_report_table_free(ot_report_table *t);
/* Do a and b differ in the learning rate or the measure at most? */
bool ot_report_same_kind(const ot_report_row *a, const ot_report_row *b);
/* What the data owner holds of a combination: "offer 8a551c04 (24 blocks, 2-20-2)"; what the owner calls it: "gpt2, 2-2, layerdrop:keep=8".
 * Parts that are the same in the whole table may be left out by the caller: this tells all. */
void ot_report_describe(const ot_report_row *row, bool data_owner, char *text, size_t size);

/* Did it work? One sentence, and whether all, some or none of the conditions that can be known hold; unknown too when they hold within two
 * standard errors only. */
typedef enum ot_outcome { OT_OUTCOME_UNKNOWN, OT_OUTCOME_WORKED, OT_OUTCOME_PARTLY, OT_OUTCOME_FAILED } ot_outcome;
ot_outcome ot_report_sentence(const ot_report_row *row, bool data_owner, char *text, size_t size);

#endif
