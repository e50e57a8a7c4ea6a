/* What reading and merging files of LoRA, and of DoRA over the same places, needs to know; and what the two methods share. */
#ifndef OT_PEFT_LORA_H
#define OT_PEFT_LORA_H

#include "peft/peft.h"

typedef struct ot_lora_place {
    ot_peft_tensor *a, *b; /* [r, in], [out, r]; NULL: this linear has none */
    ot_peft_tensor *m;     /* DoRA's magnitudes [out], NULL: LoRA */
    double scale;          /* y += scale * B A x */
} ot_lora_place;

/* Does `target`, as in PEFT's target_modules, name this linear: the end of its path, from a dot on ("c_proj", "mlp.c_proj")? */
bool ot_lora_targets(const ot_desc *desc, ot_role role, const char *target);
/* The linears in use as a list for PEFT's target_modules: the last part of each path, or the path within the block where the last part would
 * name unused linears too. Returns how many. */
int ot_lora_target_names(const ot_peft *p, const char *names[OT_ROLE_COUNT]);
/* PEFT's alpha / r, or alpha / sqrt(r) (rank-stabilised). */
double ot_lora_scale(double alpha, int64_t r, bool rslora);
/* A p without any place, to be filled with ot_lora_add, each place with its own rank and scale. */
ot_status ot_lora_begin(ot_peft *p, bool dora, ot_model *model, const bool *tuned, ot_error *err);
ot_status ot_lora_add(ot_peft *p, int32_t block, ot_role role, int64_t r, double scale, ot_error *err);
/* The place of a linear, NULL when it has none or the method is another. */
const ot_lora_place *ot_lora_at(const ot_peft *p, int32_t block, ot_role role);
/* weight += scale * B A, and of DoRA the rows scaled, in the layout of the model's file. */
void ot_lora_merge(const ot_peft *p, const ot_param *param, float *weight);

typedef struct ot_lora_settings {
    int64_t r;
    double alpha, dropout;
    bool rslora;
} ot_lora_settings;
ot_lora_settings ot_lora_read_settings(const ot_spec_step *step);

/* ==== For the two methods. ==== */

extern const ot_spec_key ot_lora_keys[];
ot_status ot_lora_check(const ot_desc *desc, const ot_spec_step *step, ot_error *err);
int64_t ot_lora_count(const ot_desc *desc, const ot_spec_step *step, int64_t blocks, int64_t per_output);
ot_status ot_lora_attach(ot_peft_part *s, ot_error *err);
ot_lora_place *ot_lora_place_of(const ot_peft_part *s, int32_t block, ot_role role);
double ot_lora_dropout(const ot_peft_part *s);
ot_status ot_lora_initialise(const ot_peft_part *s, const ot_peft_tensor *t, ot_rng *rng, float *values, ot_error *err);
ot_status ot_lora_name(const ot_peft_part *s, const ot_peft_tensor *t, int64_t block, char out[OT_PARAM_NAME], ot_error *err);
/* Of DoRA: the magnitudes of a place, and what stands beside its linear. */
ot_status ot_dora_add(ot_peft_part *s, int32_t block, ot_role role, ot_lora_place *place, ot_error *err);
int32_t ot_dora_hook(void *context, ot_builder *b, int32_t item, ot_role role, int32_t x, int32_t y);

#endif
