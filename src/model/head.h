/* A classifier's head and the names of its classes. */
#ifndef OT_MODEL_HEAD_H
#define OT_MODEL_HEAD_H

#include "model/model.h"

enum { OT_MAX_CLASSES = 1 << 20, OT_MAX_CLASS_NAME = 1024 };

/* Names by number, the arena's. */
typedef struct ot_classes {
    const char **names;
    int64_t n;
    ot_arena arena;
} ot_classes;

/* The classes of a vision model by id2label of its configuration; LABEL_0, LABEL_1, ... where that names none, as in transformers. */
ot_status ot_model_classes(const ot_model *m, ot_classes *out, ot_error *err);
void ot_classes_free(ot_classes *c);
/* The same names in the same order; the same names in any order. */
bool ot_classes_equal(const ot_classes *c, const char *const *names, int64_t n);
bool ot_classes_same_set(const ot_classes *c, const char *const *names, int64_t n);

/* Give a vision model a head of zeros for these classes: weights, bias, and id2label and label2id of the configuration. Zeros and not noise, so
 * that nothing but the data decides: every class begins equally likely. Refused: fewer than two names, empty ones, doubles. */
ot_status ot_model_new_head(ot_model *m, const char *const *names, int64_t n, ot_error *err);

/* For the files of this folder: zeros for a head that the files do not hold. */
ot_status ot_model_empty_head(ot_model *m, ot_error *err);

#endif
