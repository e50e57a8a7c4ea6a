/* Will it fit? The plan of a training run against what the machine has, before anything is allocated, and what would help. */
#ifndef OT_CLI_TRAINING_MEMORY_H
#define OT_CLI_TRAINING_MEMORY_H

#include "cli/common_training.h"

/* t->memory holds the plan. Refused (exit code 3) when it is above --memory-limit or, without that option, above what is free. */
ot_status ot_training_check_memory(ot_training *t, ot_error *err);
int64_t ot_training_planned(const ot_training *t);

#endif
