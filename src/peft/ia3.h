/* What reading IA3 files needs to know of the method. */
#ifndef OT_PEFT_IA3_H
#define OT_PEFT_IA3_H

#include "peft/peft.h"

/* A p without any place, to be filled with ot_ia3_add. before: the factors act on what the linear reads (PEFT's feedforward modules), not on what it
 * gives. */
ot_status ot_ia3_begin(ot_peft *p, ot_model *model, const bool *tuned, ot_error *err);
ot_status ot_ia3_add(ot_peft *p, int32_t block, ot_role role, bool before, ot_error *err);
/* Of a tensor of this method. */
bool ot_ia3_before(const ot_peft_tensor *t);

#endif
