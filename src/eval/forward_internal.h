/* What the two files of `forward` share: over tokens (forward.c) and over images (forward_image.c). */
#ifndef OT_EVAL_FORWARD_INTERNAL_H
#define OT_EVAL_FORWARD_INTERNAL_H

#include "base/mem.h"
#include "eval/forward.h"
#include "format/safetensors.h"

enum { IGNORED_LABEL = -100 };

typedef struct forward_job {
    ot_model *m;
    const ot_forward_options *options;
    int64_t batch, length;
    const ot_tensor *ids, *mask, *labels;
    ot_network *net;
    ot_network *loss_net; /* vision: the loss of the labelled images */
    int64_t counted;
    float *grads;
    /* output */
    ot_arena arena;
    ot_tensor *tensors;
    int64_t n_tensors;
} forward_job;

/* forward.c */
ot_status ot_forward_attach(forward_job *job, ot_error *err); /* gradients for every parameter */
ot_status ot_forward_add_tensor(forward_job *job, const char *name, const int64_t *shape, int32_t n_dims, const float *data, ot_error *err);
ot_status ot_forward_add_rows(forward_job *job, const char *name, const void *rows, int64_t cols, ot_error *err);
ot_status ot_forward_collect(forward_job *job, double loss, ot_error *err);

/* forward_image.c */
ot_status ot_forward_images(forward_job *job, const ot_safetensors *st, const char *output, ot_forward_summary *summary, ot_error *err);

#endif
