/* Blocks of other forms than the description's: what an emulator may do to its middle beyond changing values. The key "offsite" of config.json
 * holds it (docs/emulators.md); the model type is "offsite" then, so that no other program takes such a model for an ordinary one. */
#ifndef OT_MODEL_FORMS_H
#define OT_MODEL_FORMS_H

#include <jansson.h>

#include "base/mem.h"
#include "model/desc.h"

typedef struct ot_block_form {
    int64_t heads, kv_heads, ffn_size; /* fewer than the description's; 0: as described */
    int64_t rank[OT_ROLE_COUNT];       /* a linear as two factors of this inner width; 0: one matrix */
    int32_t bits, group;               /* its matrices are packed (tensor/packed.h); bits 0: they are not */
} ot_block_form;

/* The blocks [first, first + count) have one form; every entry of stack (NULL: each block once, in order) names the block that runs there. */
typedef struct ot_forms {
    int64_t first, count;
    ot_block_form form;
    int32_t *head_numbers; /* [count * form.heads]: which of the description's heads stayed, for ALiBi's slopes; NULL: not told */
    int32_t *stack;
    int64_t depth;
} ot_forms;

bool ot_forms_any(const ot_forms *f); /* is anything here that a plain model does not have? */
/* Reads config["offsite"]; a missing key leaves out zero. Arrays live in the arena. */
ot_status ot_forms_read(const json_t *config, const char *where, const ot_desc *d, ot_forms *out, ot_arena *arena, ot_error *err);
/* Sets the key and the model type of a configuration, when there is anything to say. */
ot_status ot_forms_write(const ot_forms *f, const ot_arch *arch, json_t *config, ot_error *err);
/* "self_attn.q_proj": a linear of a block, as the key "ranks" calls it. */
const char *ot_forms_role_name(const ot_arch *arch, ot_role role);
/* The description with the widths of this block. */
ot_desc ot_forms_desc(const ot_desc *d, const ot_forms *f, int64_t block);
/* The form of a block, NULL: as described. */
const ot_block_form *ot_forms_of(const ot_forms *f, int64_t block);
ot_dtype ot_forms_packed_dtype(const ot_block_form *form);

#endif
