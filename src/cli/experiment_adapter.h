/* What a command of an experiment leaves behind, as far as its tuning method tells. */
#ifndef OT_CLI_EXPERIMENT_ADAPTER_H
#define OT_CLI_EXPERIMENT_ADAPTER_H

#include <stdbool.h>

#include "base/error.h"

/* Will `plug` (finetune: `finetune`) with this method leave an adapter, not a model? merge: plug is to merge it. */
ot_status ot_experiment_adapter(const char *peft, bool finetune, bool merge, bool *adapter, ot_error *err);

#endif
