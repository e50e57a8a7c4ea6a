/* How well a classifier names the classes of pictures: top-1, top-5, for each class, and what is taken for what. */
#ifndef OT_EVAL_CLASSIFY_H
#define OT_EVAL_CLASSIFY_H

#include <jansson.h>

#include "model/head.h"
#include "model/network.h"
#include "train/dataset.h"

enum { OT_CLASSIFY_TOP = 5 };

typedef struct ot_classified {
    int32_t label; /* -1: unknown, it counts for nothing */
    int32_t top[OT_CLASSIFY_TOP]; /* likeliest first, of equals the one with the smaller number; -1 behind the last class */
    float probability[OT_CLASSIFY_TOP];
    double loss; /* of the label */
} ot_classified;

typedef struct ot_class_score {
    int64_t images, right, right5;
    int64_t predicted; /* pictures that were taken for this class, rightly or not */
} ot_class_score;

typedef struct ot_classification {
    int64_t images, labelled;
    double acc, acc_stderr, acc_top5, loss; /* over labelled pictures; the standard error as for tasks: of the mean, from the sample */
    ot_classified *pictures; /* [images] */
    ot_class_score *classes; /* [n_classes] */
    int64_t n_classes;
} ot_classification;

typedef struct ot_classify_options {
    const ot_backend *backend;
    ot_dtype compute;
    const ot_hooks *hooks;
    int64_t batch; /* pictures computed at once; 0: a sensible number */
    void (*observe)(void *context, int64_t done, int64_t total, double acc_so_far); /* NULL: nobody */
    void *context;
} ot_classify_options;

/* data: targets in the model's numbers. */
ot_status ot_classify(const ot_model *m, const ot_dataset *data, const ot_classify_options *options, ot_classification *out, ot_error *err);
void ot_classification_free(ot_classification *c);

/* The classes that occur, as labels or as predictions, in their order: out [n_classes] gets their numbers, the result is how many. */
int64_t ot_classification_occurring(const ot_classification *c, int32_t *out);
/* counts[true * n + predicted] over those; position: [n_classes] of a class among them. */
void ot_classification_confusion(const ot_classification *c, const int32_t *position, int64_t n, int64_t *counts);

/* DIR/results_DATE.json and, with a line for each picture, DIR/samples_images_DATE.jsonl. */
ot_status ot_classification_write(const ot_classification *c, const ot_dataset *data, const ot_classes *names, const char *model, const char *dir,
                                  ot_error *err);

#endif
