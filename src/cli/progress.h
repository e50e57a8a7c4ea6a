/* Progress on standard error: a redrawn line with a bar on a terminal, plain lines at a sensible rate in a log, nothing with
 * --quiet or --no-progress. Never on standard output. */
#ifndef OT_CLI_PROGRESS_H
#define OT_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "cli/options.h"

/* What a long loop knows after a step. Zero-initialise; loss fields NaN and the others 0 mean unknown and are left out. */
typedef struct ot_progress_sample {
    int64_t step; /* finished steps, from 1 */
    double loss, valid_loss;
    double learning_rate;
    double tokens_per_second;
    int64_t peak_bytes;
} ot_progress_sample;
#define OT_PROGRESS_SAMPLE ((ot_progress_sample){.loss = NAN, .valid_loss = NAN})

/* Fields are set by ot_progress_begin; tests set file, terminal, width and clock themselves. */
typedef struct ot_progress {
    FILE *file; /* NULL: silent */
    bool terminal;
    int width;
    double (*clock)(void); /* monotonic seconds */
    const char *label;     /* "tune" */
    const char *unit;      /* "step", "block", "tensor" */
    const char *rate;      /* what a sample's tokens_per_second counts: NULL: "tok/s" */
    int64_t total;         /* 0: unknown */
    int64_t first;         /* steps done before this process began (a resumed run): they do not count for the speed */
    double started, shown_at;
    int64_t shown_step;
    double valid_loss; /* the newest one, kept on display */
    ot_progress_sample last;
    bool drawn; /* an unfinished line stands on the terminal */
} ot_progress;

/* label and unit must outlive p. */
void ot_progress_begin(ot_progress *p, const ot_args *args, const char *label, const char *unit, int64_t total, int64_t first);
void ot_progress_step(ot_progress *p, const ot_progress_sample *sample);
/* A line of its own, above the bar: "validation loss 3.21 at step 100, the best so far". Not shown when silent. */
void ot_progress_note(ot_progress *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same, but shown with --no-progress too; silent with --quiet. */
void ot_progress_warn(ot_progress *p, const ot_args *args, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Draws the last state and ends the line; also right after a failure. */
/* A line of the result on standard output, above a bar that is drawn. */
void ot_progress_result(ot_progress *p, const char *text);
void ot_progress_end(ot_progress *p);

/* A line for people on standard error outside any progress; silent with --quiet. */
void ot_note(const ot_args *args, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
