/* `offsite eval --images`: see verb_eval.c. */
#ifndef OT_CLI_EVAL_IMAGES_H
#define OT_CLI_EVAL_IMAGES_H

#include "cli/common_model.h"

ot_status ot_eval_images(const ot_args *args, const ot_common_model *c, ot_error *err);

#endif
