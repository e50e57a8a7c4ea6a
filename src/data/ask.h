/* Chats that end with what makes the model answer, as token ids. */
#ifndef OT_DATA_ASK_H
#define OT_DATA_ASK_H

#include "data/chat.h"
#include "data/data.h"

/* Gets the ids of each chat, valid during the call. */
typedef ot_status (*ot_ask_take)(void *context, const int32_t *ids, int64_t count, ot_error *err);

/* One turn of the user. */
ot_status ot_ask_text(ot_data_reader *r, const char *text, int64_t size, ot_ask_take take, void *context, ot_error *err);
/* Every row {"messages": [...]} of JSON lines, packed or not; the last message must be another's than the assistant's. */
ot_status ot_ask_file(ot_data_reader *r, const char *path, ot_ask_take take, void *context, ot_error *err);
/* What ends the assistant's turn, after one of the above: a token, or (-1) the text that it is in this tokenizer, NULL where there is neither. */
int32_t ot_ask_end(const ot_data_reader *r, const char **text);

#endif
