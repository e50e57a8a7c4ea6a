/* The list of emulator methods: a new one is one file in this folder and one line here. */
#include <stddef.h>

#include "emulator/methods.h"

const ot_emulator_method *const ot_emulator_methods[] = {
    &ot_emulator_layerdrop, &ot_emulator_crash,    &ot_emulator_prune, &ot_emulator_svd,
    &ot_emulator_fakequant, &ot_emulator_quantize, &ot_emulator_distill, NULL,
};
