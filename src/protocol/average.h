/* Several returns of one offer as one: the weighted mean of replaced parameters, the weighted sum of LoRA's products. */
#ifndef OT_PROTOCOL_AVERAGE_H
#define OT_PROTOCOL_AVERAGE_H

#include "protocol/return.h"

typedef struct ot_average {
    ot_return *returns;
    double *weights; /* sum 1 */
    int64_t n;
    const float **values; /* [n][params] of returns that replace tensors */
    ot_arena arena;
} ot_average;

/* weights: one for each return, NULL: all the same. REFUSED when the returns are not alike. */
ot_status ot_average_open(const char *const *dirs, const double *weights, int64_t n, ot_average *out, ot_error *err);
void ot_average_close(ot_average *a);

/* Of returns that replace parameters: find their tensors; does parameter i change; and its mean. map as in ot_return_map. */
ot_status ot_average_map(ot_average *a, const ot_model *m, const int64_t *block_map, int64_t n_blocks, ot_error *err);
bool ot_average_changes(const ot_average *a, int64_t i);
void ot_average_read(const ot_average *a, const ot_model *m, int64_t i, float *out);

/* Of LoRA: p gets a B and an A in each place that are those of the returns one behind the other, so that B A is the weighted sum of their
 * products. A classifier's head becomes the mean. One return of any method that hooks in is attached as it is. */
ot_status ot_average_attach(const ot_average *a, ot_model *m, const int64_t *block_map, int64_t n_blocks, ot_peft *p, ot_error *err);

#endif
