/* The list of tuning methods: a new one is one file in this folder and one line here. */
#include <stddef.h>

#include "peft/methods.h"

const ot_peft_method *const ot_peft_methods[] = {&ot_peft_full, &ot_peft_bitfit, &ot_peft_lora,   &ot_peft_dora, &ot_peft_houlsby,
                                                 &ot_peft_ia3,  &ot_peft_prefix, &ot_peft_prompt, &ot_peft_head, NULL};
