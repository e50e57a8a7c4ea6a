/* The effective config of a training run: RESULT.run.yaml, beside the result and not in it, because it names files of whoever ran it. */
#ifndef OT_CLI_TRAINING_RECORD_H
#define OT_CLI_TRAINING_RECORD_H

#include "cli/common_training.h"

/* Refused when a file of that name is not ours to replace. Nothing is written yet. */
ot_status ot_training_record_check(const ot_training *t, ot_error *err);
/* Of a run that goes on: refused when it was begun with other settings, data or model, with the settings that differ, as far as the record has them. */
ot_status ot_training_record_same(const ot_training *t, ot_error *err);
ot_status ot_training_record_write(const ot_training *t, ot_error *err);
/* Of a run of which nothing stays. */
void ot_training_record_remove(const ot_training *t);

#endif
