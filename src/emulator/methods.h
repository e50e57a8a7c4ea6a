#ifndef OT_EMULATOR_METHODS_H
#define OT_EMULATOR_METHODS_H

#include "emulator/emulator.h"

extern const ot_emulator_method ot_emulator_layerdrop, ot_emulator_prune, ot_emulator_fakequant;

/* Append a change of values to the pipeline. */
ot_status ot_emulator_add_change(ot_emulator *e, void (*apply)(const ot_emulator_change *, float *, int64_t, int64_t), double number,
                                 ot_error *err);

#endif
