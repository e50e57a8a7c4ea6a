/* Rules that watch every step before its update: numbers that are not finite, a loss far above what was usual, a gradient norm far above it.
 *
 * What is usual is a running mean and variance (of the loss; of the logarithm of the norm) that forget over some fifty steps. A value is a spike
 * when it lies more than OT_GUARD_Z deviations above the mean and also well above it in plain terms, never in the first OT_GUARD_WARM_UP steps.
 * Spikes enter the statistics cut down, so that a lasting change becomes usual. A run that is ruined before anything is usual, by a rate that is
 * far too high, has no spike: it is found when the usual loss lies OT_GUARD_RISE nats, and half, above that of the first two steps, and told once. All of it is a function of the steps before: a resumed run
 * judges alike. Judging never changes a number of a step; only what is done about a spike does. */
#ifndef OT_TRAIN_GUARD_H
#define OT_TRAIN_GUARD_H

#include <stdbool.h>
#include <stdint.h>

enum { OT_GUARD_WARM_UP = 20, OT_GUARD_Z = 6, OT_GUARD_RISE = 3 };

typedef enum ot_guard_mode {
    OT_GUARD_WARN, /* steps that are not finite are skipped, spikes are only told */
    OT_GUARD_SKIP, /* both are skipped; that a run has diverged is only told */
    OT_GUARD_STOP, /* the first of either ends the run */
    OT_GUARD_OFF   /* spikes are not looked for; a step that is not finite ends the run */
} ot_guard_mode;

typedef struct ot_guard_stat {
    double n, mean, variance;
} ot_guard_stat;

/* Zero-initialise. */
typedef struct ot_guard {
    ot_guard_stat loss, norm;
    int64_t skipped, in_a_row; /* steps without an update: in all, and without one between up to now */
    int64_t spikes;            /* told, skipped or not */
    double start;              /* mean loss of the first two steps; 0: none yet */
    int64_t diverged;          /* 1: the loss lies far above it, which was told */
} ot_guard;

typedef enum ot_guard_kind { OT_GUARD_FINE, OT_GUARD_NOT_FINITE, OT_GUARD_LOSS, OT_GUARD_NORM, OT_GUARD_DIVERGED } ot_guard_kind;
typedef enum ot_guard_action { OT_GUARD_PASSED, OT_GUARD_SKIPPED, OT_GUARD_STOPPED } ot_guard_action;

typedef struct ot_guard_verdict {
    ot_guard_kind kind;
    ot_guard_action action;
    double usual, z;  /* of spikes: the usual value, and how many deviations above it; diverged: the loss at the start, 0 */
    int64_t in_a_row; /* skipped, this one included */
} ot_guard_verdict;

/* limit: skipped steps in a row that stop the run; up to 1: the first does. A step that is stopped leaves *g alone: resumed under another mode, it
 * is judged anew. */
ot_guard_verdict ot_guard_judge(ot_guard *g, double loss, double norm, ot_guard_mode mode, int64_t limit);

/* "non-finite", "loss-spike", "gradient-spike", "diverged"; "passed", "skipped", "stopped". */
const char *ot_guard_kind_name(ot_guard_kind kind);
const char *ot_guard_action_name(ot_guard_action action);

#endif
