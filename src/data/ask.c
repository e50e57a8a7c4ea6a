#include "data/ask.h"

#include "data/reader.h"
#include "task/rows.h"

static const int64_t FILE_LIMIT = (int64_t)1 << 30;

static ot_status ask(ot_data_reader *r, const ot_chat_message *messages, int64_t count, ot_ask_take take, void *context, ot_error *err) {
    ot_chat_text text = {0};
    int32_t *ids = NULL;
    int64_t n = 0;
    if (strcmp(messages[count - 1].role, "assistant") == 0) return ot_fail(err, OT_ERR_FORMAT, "the last message is the assistant's: there is nothing to answer");
    ot_status status = ot_chat_render(r->chat, messages, count, r->bos_text, r->eos_text, true, &text, err);
    if (status == OT_OK) status = ot_tokenizer_encode(r->tokenizer, text.text, (size_t)text.size, false, &ids, &n, err);
    if (status == OT_OK) status = take(context, ids, n, err);
    ot_free(ids);
    ot_chat_text_free(&text);
    return status;
}

static ot_status open_template(ot_data_reader *r, ot_error *err) {
    return r->chat != NULL ? OT_OK : ot_chat_open(r->options->tokenizer_path, NULL, &r->chat, err);
}

ot_status ot_ask_text(ot_data_reader *r, const char *text, int64_t size, ot_ask_take take, void *context, ot_error *err) {
    OT_TRY(open_template(r, err));
    return ask(r, &(ot_chat_message){.role = "user", .content = {text, size}}, 1, take, context, err);
}

static ot_status ask_row(ot_data_reader *r, const ot_row *row, ot_ask_take take, void *context, ot_error *err) {
    ot_arena arena = {0};
    ot_chat_message *messages = NULL;
    int64_t count = 0;
    ot_error problem = {0};
    ot_status status = ot_data_messages(r, row->value, &arena, &messages, &count, &problem);
    if (status == OT_OK) status = ask(r, messages, count, take, context, &problem);
    ot_arena_free(&arena);
    return status == OT_OK ? OT_OK : ot_fail(err, status, "%s:%lld: %s", row->path, (long long)row->line, problem.message);
}

ot_status ot_ask_file(ot_data_reader *r, const char *path, ot_ask_take take, void *context, ot_error *err) {
    ot_input in = {0};
    ot_rows rows = {0};
    OT_TRY(open_template(r, err));
    OT_TRY(ot_input_open(path, FILE_LIMIT, &in, err));
    ot_status status = ot_rows_parse(in.data, in.size, path, &rows, err);
    for (int64_t i = 0; status == OT_OK && i < rows.count; i++) status = ask_row(r, &rows.items[i], take, context, err);
    ot_rows_free(&rows);
    ot_input_close(&in);
    return status;
}

int32_t ot_ask_end(const ot_data_reader *r, const char **text) {
    const char *stop = r->chat != NULL ? r->chat->assistant.stop : NULL;
    while (stop != NULL && *stop == ' ') stop++;
    bool is_eos = stop != NULL && strcmp(stop, "{eos}") == 0;
    int32_t id = is_eos ? r->eos : stop != NULL ? ot_tokenizer_find(r->tokenizer, stop) : -1;
    *text = id >= 0 || is_eos ? NULL : stop;
    return id;
}
