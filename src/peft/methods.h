#ifndef OT_PEFT_METHODS_H
#define OT_PEFT_METHODS_H

#include "peft/peft.h"

extern const ot_peft_method ot_peft_full, ot_peft_bitfit;

#endif
