/* Shapes of well-known models, for benchmarks and plans without any file. */
#ifndef OT_MODEL_SIZES_H
#define OT_MODEL_SIZES_H

#include "model/model.h"

typedef struct ot_model_size {
    const char *name;
    const char *config; /* config.json */
} ot_model_size;

extern const ot_model_size ot_model_sizes[]; /* name NULL ends */

/* A model of that size with random weights stored as `dtype` (F32 or BF16). layers: 0 for its own number. */
ot_status ot_model_of_size(const char *name, int64_t layers, ot_dtype dtype, ot_model **out, ot_error *err);

/* Its own number of layers. */
ot_status ot_model_size_layers(const char *name, int64_t *layers, ot_error *err);

#endif
