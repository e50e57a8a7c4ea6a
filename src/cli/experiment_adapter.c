/* A file of its own: the tuning methods and the report each have roles, of parameters and of scores. */
#include "cli/experiment_adapter.h"

#include "peft/peft.h"

ot_status ot_experiment_adapter(const char *peft, bool finetune, bool merge, bool *adapter, ot_error *err) {
    ot_peft_choice choice;
    OT_TRY(ot_peft_parse(peft, &choice, err));
    *adapter = finetune ? !ot_peft_is(&choice, "full") : ot_peft_adds(&choice) && !merge;
    return OT_OK;
}
