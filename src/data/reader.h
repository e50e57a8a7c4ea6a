/* Inside of a reader: for the shapes. */
#ifndef OT_DATA_READER_H
#define OT_DATA_READER_H

#include "data/chat.h"
#include "data/data.h"
#include "task/encode.h"

enum { OT_SPECIALS = 8 };

struct ot_data_reader {
    const ot_data_options *options;
    ot_tokenizer *tokenizer;
    int32_t prefix[OT_SPECIALS], suffix[OT_SPECIALS]; /* what the tokenizer puts around a text by default */
    int64_t n_prefix, n_suffix;
    int32_t eos;    /* -1: none */
    char *bos_text, *eos_text;
    ot_encoder encoder; /* of task rows */
    const ot_chat_template *chat; /* found when the first messages come */
    const ot_task *task;
};

/* A text with the tokenizer's special tokens around it, and the end-of-text token behind where the options ask for it. Tokens that touch a span
 * are learnt, and the end with them; spans NULL: all are. plain: the text holds its special tokens itself. */
ot_status ot_data_add_text(ot_data_reader *r, const char *text, int64_t size, const ot_chat_span *spans, int64_t n_spans, bool plain,
                           ot_data_tokens *out, ot_error *err);
/* ids as they are, the first n_context of them not learnt. */
ot_status ot_data_add_ids(ot_data_tokens *out, const int32_t *ids, int64_t count, int64_t n_context, ot_error *err);

/* The messages of a row; texts live as long as the row. */
ot_status ot_data_messages(const ot_data_reader *r, const json_t *row, ot_arena *arena, ot_chat_message **out, int64_t *count, ot_error *err);

#endif
