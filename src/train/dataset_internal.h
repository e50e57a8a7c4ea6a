/* Between the files of data sets. */
#ifndef OT_TRAIN_DATASET_INTERNAL_H
#define OT_TRAIN_DATASET_INTERNAL_H

#include "train/dataset.h"

/* Picture files, for ot_dataset_open_images. */
ot_status ot_dataset_open_picture_files(const char *path, const ot_desc *desc, const ot_image_options *options, ot_dataset *out, ot_error *err);

#endif
