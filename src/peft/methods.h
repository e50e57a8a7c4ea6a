/* The methods, and what the ones that hook into linears share. */
#ifndef OT_PEFT_METHODS_H
#define OT_PEFT_METHODS_H

#include "peft/peft.h"

extern const ot_peft_method ot_peft_full, ot_peft_bitfit, ot_peft_lora, ot_peft_dora, ot_peft_houlsby, ot_peft_ia3, ot_peft_prefix, ot_peft_prompt,
    ot_peft_head;

/* Dropout sites of this folder's methods lie above those of the model's own branches. */
enum { OT_PEFT_DROPOUT_SITES = 1 << 24 };
/* x with dropout at the place (item, role), in training plans with p > 0; else x itself. */
int32_t ot_peft_dropout(ot_builder *b, double p, int32_t item, ot_role role, int32_t x);
/* A new value x . w^T + bias (bias may be NULL). */
int32_t ot_peft_linear(ot_builder *b, int32_t x, const ot_peft_tensor *w, const ot_peft_tensor *bias);
/* into += scale * x' . down^T . up^T, x' being x with dropout as above. */
void ot_peft_low_rank(ot_builder *b, double p, int32_t item, ot_role role, int32_t x, const ot_peft_tensor *down, const ot_peft_tensor *up, double scale,
                      int32_t into);
/* Uniform in [-1/sqrt(inputs), 1/sqrt(inputs)]: the Kaiming initialisation with a = sqrt(5) of PyTorch's linears. */
void ot_peft_uniform(const ot_peft_tensor *t, ot_rng *rng, float *values);

#endif
