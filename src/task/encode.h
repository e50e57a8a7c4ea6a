/* (context, continuation) as token ids, by the harness's rules: white space at the context's end goes to the continuation, the continuation's ids are
 * those of the whole behind as many as the context alone has, special tokens are what the tokenizer adds by default. Scoring feeds
 * context and continuation; training on answers takes the same ids, with labels on the continuation only. */
#ifndef OT_TASK_ENCODE_H
#define OT_TASK_ENCODE_H

#include "format/tokenizer.h"
#include "task/task.h"

typedef struct ot_encoder {
    const ot_tokenizer *tokenizer;
    int32_t prefix;    /* stands for an empty context: bos, else eos; -1: the tokenizer has neither */
    char *prefix_text; /* a text that begins with it gets no special tokens */
    int64_t prefix_size;
} ot_encoder;

ot_status ot_encoder_open(const ot_tokenizer *tokenizer, ot_encoder *out, ot_error *err);
void ot_encoder_close(ot_encoder *e);

typedef struct ot_encoded {
    int32_t *ids; /* [n_context + n_continuation], the arena's */
    int64_t n_context, n_continuation;
} ot_encoded;

ot_status ot_encode_pair(const ot_encoder *e, ot_str context, ot_str continuation, ot_arena *arena, ot_encoded *out, ot_error *err);
/* Every choice of a document; the context is tokenised once. out: [doc->n_choices], the arena's. */
ot_status ot_encode_choices(const ot_encoder *e, const ot_task_doc *doc, ot_arena *arena, ot_encoded **out, ot_error *err);
/* A text by itself, with the tokenizer's special tokens. *ids: ot_free. */
ot_status ot_encode_text(const ot_encoder *e, ot_str text, int32_t **ids, int64_t *count, ot_error *err);

#endif
