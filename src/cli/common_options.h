/* Option groups that several verbs share, with the names and defaults that scripts rely on. A verb that differs uses overrides.
 */
#ifndef OT_CLI_COMMON_OPTIONS_H
#define OT_CLI_COMMON_OPTIONS_H

#include "cli/options.h"

/* --train --valid --steps --epochs --batch --grad-accum --block --no-shuffle --seed --valid-every --patience --guard --guard-limit --save-every
 * --keep --select --log --memory-limit --resume --force */
extern const ot_option_group ot_options_training;
/* --optimizer --lr --lr-grid --warmup --schedule --weight-decay --clip --dropout */
extern const ot_option_group ot_options_optimizer;
/* --peft --init-adapter --head-lr-scale */
extern const ot_option_group ot_options_peft;
/* --dtype f32|bf16 (arithmetic) --threads --backend */
extern const ot_option_group ot_options_compute;
/* --recompute */
extern const ot_option_group ot_options_memory;
/* --dtype f32|bf16|f16 of written weights; no default: the model's own */
extern const ot_option_group ot_options_storage;
/* --adapter */
extern const ot_option_group ot_options_adapter;
/* --json */
extern const ot_option_group ot_options_json;

/* --dropout: 0 by default; `config` asks for the model's own. */
typedef struct ot_dropout {
    bool from_config;
    double rate; /* when not from_config */
} ot_dropout;
ot_status ot_common_dropout(const ot_args *args, ot_dropout *out, ot_error *err);

/* Warm-up steps of a run of `steps`: the user's number, or `usual` and a tenth of the steps when those are fewer than 10 * usual.
 * More warm-up than steps is a usage error. */
ot_status ot_common_warmup(const ot_args *args, int64_t steps, int64_t usual, int64_t *out, ot_error *err);

/* What main does before a verb runs, as far as the verb declares the options: --threads. */
void ot_common_apply(const ot_args *args);

#endif
