#ifndef OT_MODEL_NETWORK_INTERNAL_H
#define OT_MODEL_NETWORK_INTERNAL_H

#include "model/network.h"

/* Where the plan's losses of a teacher are written. */
enum { OT_OF_OUTPUT, OT_OF_LOGITS, OT_OWN_DISTANCES };

struct ot_network {
    const ot_model *model;
    ot_network_options options;
    ot_plan *plan;
    int32_t *hidden; /* [items + 1] value ids */
    int64_t n_items;
    int32_t last_block, logits;
    double *distances; /* [OT_OWN_DISTANCES + items]: from the teacher, the divergence, then the hidden ones */
    int64_t n_hidden;  /* of them */
    int32_t *taught;   /* [items + 2] value ids of a teacher's outputs, where it is alone */
    float **given;     /* [items + 2] its outputs, where they are given */
    int64_t head_cols;
    float *alibi; /* [1 + blocks of another form][heads] */
    float *inv_freq;
    int64_t half;
    /* batch storage, sized by the plan's maxima */
    void *storage;
    int64_t storage_bytes;
    float *pixels;          /* vision: [max_segments, channels, height, width] */
    int64_t image_rows;     /* rows of one image */
    float *positions_table; /* of another image size than the model's own */
    ot_slot positions_slot; /* what POSITION reads of it */
    int32_t *ids, *positions, *slots, *kept_rows, *key_slots, *target_rows, *targets;
    float *cos, *sin;
    ot_segment *segments;
    int32_t *row_of; /* columns of all sequences -> rows */
    int64_t *sequence_start;
    int64_t rows, n_targets, n_segments, columns;
    int64_t virtual_rows; /* of the rows */
    int32_t expected;     /* of the next sequence, see ot_network_expect */
};

/* image.c */
ot_status ot_network_image_size(ot_network *n, ot_error *err); /* rows of an image; interpolates positions */
void ot_network_image_gradients(ot_network *n);                /* what the engine left undone after a backward pass */

/* stack.c: the emission. */
ot_status ot_network_emit(ot_network *n, ot_error *err);

#endif
