/* What verbs that open a model share. */
#ifndef OT_CLI_COMMON_MODEL_H
#define OT_CLI_COMMON_MODEL_H

#include "cli/options.h"
#include "engine/op.h"
#include "protocol/adapter.h"

/* The operand MODEL with --adapter over it. Zero-initialise. */
typedef struct ot_common_model {
    ot_model *model;
    ot_adapter adapter;
    const ot_hooks *hooks; /* for networks; NULL: none */
} ot_common_model;
ot_status ot_common_open(const ot_args *args, ot_common_model *out, ot_error *err);
void ot_common_close(ot_common_model *c);

/* --backend and --dtype of a verb with ot_options_compute. A backend that cannot run here or lacks the dtype is an error. */
ot_status ot_common_backend(const ot_args *args, const ot_backend **backend, ot_dtype *compute, ot_error *err);

#endif
