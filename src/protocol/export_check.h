/* Is what was written what was meant? Logits over a few token sequences or pictures, and token ids of a few texts. For the files of export. */
#ifndef OT_PROTOCOL_EXPORT_CHECK_H
#define OT_PROTOCOL_EXPORT_CHECK_H

#include "model/network.h"

typedef struct ot_logits {
    float *values; /* [sequences * length, vocab] */
    int64_t sequences, length, vocab; /* pictures: one row of logits each */
} ot_logits;

/* Logits of made-up token sequences or pictures that depend on the model's sizes alone. */
ot_status ot_logits_take(const ot_model *m, const ot_hooks *hooks, ot_logits *out, ot_error *err);
void ot_logits_free(ot_logits *l);

typedef struct ot_logits_distance {
    double largest;  /* of one logit */
    double relative; /* root mean square of the differences, divided by that of the logits about their row's mean */
} ot_logits_distance;
/* NUMERIC when one of them is not finite. */
ot_status ot_logits_compare(const ot_logits *a, const ot_logits *b, ot_logits_distance *out, ot_error *err);
/* How far rounding the weights to a dtype may move them. */
double ot_logits_allowed(ot_dtype dtype);

/* REFUSED unless both give the same ids for texts of several scripts, digits and blanks. *count: for how many they do; 0 where a has no tokenizer.
 * *leading_blank: also where a text begins with a blank, to which some tokenizers add none, while llama.cpp always does. */
ot_status ot_tokenizers_compare(const char *a, const char *b, int64_t *count, bool *leading_blank, ot_error *err);

#endif
