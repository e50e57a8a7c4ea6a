/* Reference backend, internal: rows of any dtype as doubles, scratch, and the kernels of the table.
 *
 * The reference is the oracle of every other backend, so it is written to be checked by eye: all arithmetic is in double whatever
 * the dtype of values, weights and gradients; a dtype matters only where a row is loaded or stored. The same kernels therefore
 * serve F32 and BF16 values (ot_backend_ref) and F64 ones (ot_backend_ref64). Single-threaded. */
#ifndef OT_ENGINE_REF_REF_H
#define OT_ENGINE_REF_REF_H

#include "engine/op.h"

/* ==== Rows ==== */

/* row[0 .. n) = elements [first, first + n) of an F32, BF16 or F64 array. */
void ot_ref_load(const void *array, ot_dtype dtype, int64_t first, int64_t n, double *row);
/* The reverse; adds to what is there when `add`. */
void ot_ref_store(void *array, ot_dtype dtype, int64_t first, int64_t n, const double *row, bool add);
/* The same for the gradient of an input: nothing happens when none is wanted. */
void ot_ref_store_dx(const ot_view *in, int64_t first, int64_t n, const double *row);

/* Row i of a weight [rows, cols] of any dtype; `decoded` holds cols floats. */
void ot_ref_weight_row(const ot_weight *w, int64_t i, float *decoded, double *row);
/* dw[i, :] += row. */
void ot_ref_add_dw(const ot_call *call, const ot_weight *w, int64_t i, const double *row);

/* F64 in the double build, else F32: the dtype of weight gradients, vectors and saved statistics. */
ot_dtype ot_ref_real(const ot_call *call);

double ot_ref_dot(const double *a, const double *b, int64_t n);
/* b[0 .. n) += s * a. */
void ot_ref_axpy(double s, const double *a, double *b, int64_t n);

/* ==== Scratch ==== */

typedef struct ot_ref_work {
    double *next;
} ot_ref_work;

/* Fails unless the call's scratch is as large as ot_ref_scratch says: after that ot_ref_take cannot run out. */
ot_status ot_ref_begin(const ot_call *call, ot_ref_work *work);
/* n doubles, not initialised. */
double *ot_ref_take(ot_ref_work *work, int64_t n);
double *ot_ref_take_zeros(ot_ref_work *work, int64_t n);
/* n floats. */
float *ot_ref_take_floats(ot_ref_work *work, int64_t n);
/* Bytes; each kernel file states its own need in doubles. */
size_t ot_ref_scratch(const ot_call *call);

int64_t ot_ref_attention_doubles(const ot_call *call);
int64_t ot_ref_linear_doubles(const ot_call *call);
int64_t ot_ref_low_rank_doubles(const ot_call *call);
int64_t ot_ref_magnitude_doubles(const ot_call *call);
int64_t ot_ref_head_loss_doubles(const ot_call *call);
int64_t ot_ref_divergence_doubles(const ot_call *call);

/* ==== Kernels ==== */

ot_kernel ot_ref_embed_forward, ot_ref_embed_backward;
ot_kernel ot_ref_position_forward, ot_ref_position_backward;
ot_kernel ot_ref_norm_forward, ot_ref_norm_backward;
ot_kernel ot_ref_linear_forward, ot_ref_linear_backward;
ot_kernel ot_ref_low_rank_forward, ot_ref_low_rank_backward;
ot_kernel ot_ref_magnitude_forward, ot_ref_magnitude_backward;
ot_kernel ot_ref_rope_forward, ot_ref_rope_backward;
ot_kernel ot_ref_attention_forward, ot_ref_attention_backward;
ot_kernel ot_ref_act_forward, ot_ref_act_backward;
ot_kernel ot_ref_gate_forward, ot_ref_gate_backward;
ot_kernel ot_ref_add_forward, ot_ref_add_backward;
ot_kernel ot_ref_scale_forward, ot_ref_scale_backward;
ot_kernel ot_ref_dropout_forward, ot_ref_dropout_backward;
ot_kernel ot_ref_gather_forward, ot_ref_gather_backward;
ot_kernel ot_ref_keep_forward;
ot_kernel ot_ref_patches_forward;
ot_kernel ot_ref_class_forward, ot_ref_class_backward;
ot_kernel ot_ref_pool_forward, ot_ref_pool_backward;
ot_kernel ot_ref_head_loss_forward, ot_ref_head_loss_backward;
ot_kernel ot_ref_distance_forward, ot_ref_distance_backward;
ot_kernel ot_ref_divergence_forward, ot_ref_divergence_backward;
ot_kernel ot_ref_given_forward;

#endif
