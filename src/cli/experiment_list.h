/* `offsite experiment --dry-run`: the commands as they would run, and what they read that is not there. */
#ifndef OT_CLI_EXPERIMENT_LIST_H
#define OT_CLI_EXPERIMENT_LIST_H

#include "report/runs.h"

/* Prints every command on standard output. */
ot_status ot_experiment_list(const ot_runs *runs, ot_error *err);
/* Tells each missing file or folder once on standard error; fails if there is one. name: of the grid, for the message. */
ot_status ot_experiment_check_inputs(const ot_runs *runs, const char *name, ot_error *err);

#endif
