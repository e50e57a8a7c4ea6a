/* The queue of `offsite experiment`: each step is this program itself in a process of its own, so that one that fails takes nothing with it. */
#ifndef OT_CLI_EXPERIMENT_RUN_H
#define OT_CLI_EXPERIMENT_RUN_H

#include "report/runs.h"

typedef struct ot_experiment_summary {
    int64_t done, failed, skipped, before; /* before: done by an earlier run of the queue */
} ot_experiment_summary;

/* The grid of a file, for outputs in `dir`. It is a config file of many commands, so what is wrong in it is USAGE. Free with ot_runs_free, also after an error. */
ot_status ot_experiment_open(const char *path, const char *dir, ot_runs *runs, ot_error *err);
/* Runs what is not done yet, in order; DIR/state.json always says how far it is. INTERRUPTED after Ctrl-C, which the step in progress got too. */
ot_status ot_experiment_run(const ot_runs *runs, const char *dir, bool quiet, ot_experiment_summary *out, ot_error *err);
/* Fails when steps failed, with how many and what to do. */
ot_status ot_experiment_judge(const ot_experiment_summary *s, const char *dir, ot_error *err);

#endif
