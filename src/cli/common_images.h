/* Pictures for a classifier as the command line names them: which file, which classes, and the head that goes with them. */
#ifndef OT_CLI_COMMON_IMAGES_H
#define OT_CLI_COMMON_IMAGES_H

#include "cli/options.h"
#include "train/dataset.h"

/* The pictures that the option (--train, --valid, --images) names. Where their classes have names they keep the reader's numbers: see below. */
ot_status ot_common_images_open(const ot_args *args, const char *option, const ot_model *m, bool unlabelled, ot_dataset *out, ot_error *err);
/* Training data decide about the head: the model's goes on, or the model gets a new one (--head). */
ot_status ot_common_images_head(const ot_args *args, ot_model *m, const ot_dataset *train, ot_error *err);
/* From the numbers of the data's classes to those of the model's. */
ot_status ot_common_images_number(const char *what, const ot_model *m, ot_dataset *d, ot_error *err);

#endif
