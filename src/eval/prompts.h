/* What generation starts from: token ids of a file, or texts and their ids. */
#ifndef OT_EVAL_PROMPTS_H
#define OT_EVAL_PROMPTS_H

#include "eval/generate.h"
#include "format/tokenizer.h"

typedef struct ot_prompts {
    ot_prompt *items;
    int64_t count, capacity;
    ot_arena arena; /* the ids */
} ot_prompts;

/* A safetensors file with input_ids [B, T] and optionally attention_mask [B, T], both int64: tokens with mask 0 are left out, so that padding on
 * either side does not matter. Ids must be below vocab. */
ot_status ot_prompts_read_ids(ot_prompts *p, const char *path, int64_t vocab, ot_error *err);
ot_status ot_prompts_add_ids(ot_prompts *p, const int32_t *ids, int64_t count, ot_error *err);
/* One text, with the special tokens that the tokenizer adds by default; an empty one begins with the tokenizer's first token, if it has one. */
ot_status ot_prompts_add_text(ot_prompts *p, const ot_tokenizer *t, const char *text, int64_t size, ot_error *err);
/* Every line of a file that is not empty is a prompt. */
ot_status ot_prompts_read_lines(ot_prompts *p, const ot_tokenizer *t, const char *path, ot_error *err);
void ot_prompts_free(ot_prompts *p);

#endif
