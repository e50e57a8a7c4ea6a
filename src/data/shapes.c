/* The known shapes of JSON lines. The order matters: the first whose keys a row has is taken. */
#include <string.h>

#include "data/reader.h"

static ot_status text_of(const ot_data_reader *r, const ot_row *row, const char *key, ot_str *out, ot_error *err) {
    const json_t *value = ot_data_get(r, row->value, key);
    if (!json_is_string(value)) return ot_fail(err, OT_ERR_FORMAT, "\"%s\" must be a text", key);
    *out = ot_json_text(value);
    return OT_OK;
}

/* ==== {"text"}: all of it is learnt. ==== */

static ot_status read_text(ot_data_reader *r, const ot_row *row, ot_data_tokens *out, ot_error *err) {
    ot_str text = {0};
    OT_TRY(text_of(r, row, "text", &text, err));
    out->cut = OT_CUT_PIECES;
    return ot_data_add_text(r, text.text, text.size, NULL, 0, false, out, err);
}

/* ==== {"prompt", "completion"}: the text of both, of which the completion is learnt. ==== */

static ot_status read_pair(ot_data_reader *r, const ot_row *row, ot_data_tokens *out, ot_error *err) {
    ot_str prompt = {0}, completion = {0}, whole = {0};
    OT_TRY(text_of(r, row, "prompt", &prompt, err));
    OT_TRY(text_of(r, row, "completion", &completion, err));
    ot_arena arena = {0};
    ot_status status = ot_str_join(&arena, (ot_str[]){prompt, completion}, 2, &whole, err);
    ot_chat_span span = {prompt.size, prompt.size + completion.size};
    if (status == OT_OK) status = ot_data_add_text(r, whole.text, whole.size, &span, 1, false, out, err);
    ot_arena_free(&arena);
    return status;
}

/* ==== {"messages"}: rendered by a chat template, the assistant's turns are learnt. ==== */

enum { MAX_MESSAGES = 4096 };

/* Templates write a role's name as it is: a misspelt one would be a turn that nobody takes, and is not learnt. */
static bool is_role(const char *role) {
    static const char *const roles[] = {"system", "user", "assistant", "tool", "developer", "function", "ipython", "observation", "environment"};
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (strcmp(role, roles[i]) == 0) return true;
    return false;
}

static ot_status read_message(const ot_data_reader *r, const json_t *item, int64_t i, ot_chat_message *out, ot_error *err) {
    const json_t *role = ot_data_get(r, item, "role"), *content = ot_data_get(r, item, "content");
    if (!json_is_string(role)) return ot_fail(err, OT_ERR_FORMAT, "message %lld must be an object with a \"role\"", (long long)i + 1);
    if (!is_role(json_string_value(role)))
        return ot_fail(err, OT_ERR_FORMAT, "message %lld: the role \"%.60s\" is not known: system, user and assistant are, and tool or developer", (long long)i + 1, json_string_value(role));
    if (json_object_get(item, "tool_calls") != NULL && !json_is_null(json_object_get(item, "tool_calls"))) {
        return ot_fail(err, OT_ERR_FORMAT, "message %lld calls tools, which is not supported", (long long)i + 1);
    }
    if (!json_is_string(content)) return ot_fail(err, OT_ERR_FORMAT, "message %lld: \"content\" must be a text", (long long)i + 1);
    *out = (ot_chat_message){.role = json_string_value(role), .content = ot_json_text(content)};
    return OT_OK;
}

ot_status ot_data_messages(const ot_data_reader *r, const json_t *row, ot_arena *arena, ot_chat_message **out, int64_t *count, ot_error *err) {
    const json_t *list = ot_data_get(r, row, "messages");
    if (!json_is_array(list) || json_array_size(list) == 0) return ot_fail(err, OT_ERR_FORMAT, "\"messages\" must be a list with one message or more");
    int64_t n = (int64_t)json_array_size(list);
    if (n > MAX_MESSAGES) return ot_fail(err, OT_ERR_FORMAT, "%lld messages are more than the %d that are allowed", (long long)n, MAX_MESSAGES);
    *out = ot_arena_alloc(arena, n * (int64_t)sizeof **out, err);
    if (*out == NULL) return OT_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++) OT_TRY(read_message(r, json_array_get(list, (size_t)i), i, *out + i, err));
    *count = n;
    return OT_OK;
}

static ot_status read_messages(ot_data_reader *r, const ot_row *row, ot_data_tokens *out, ot_error *err) {
    ot_arena arena = {0};
    ot_chat_message *messages = NULL;
    ot_chat_text text = {0};
    int64_t count = 0;
    ot_status status = ot_data_messages(r, row->value, &arena, &messages, &count, err);
    if (status == OT_OK) status = ot_chat_render(r->chat, messages, count, r->bos_text, r->eos_text, false, &text, err);
    if (status == OT_OK && text.n_spans == 0 && !r->options->train_all) status = ot_fail(err, OT_ERR_FORMAT, "no message is the assistant's: there is nothing to learn");
    if (status == OT_OK) status = ot_data_add_text(r, text.text, text.size, text.spans, text.n_spans, true, out, err);
    ot_chat_text_free(&text);
    ot_arena_free(&arena);
    return status;
}

/* ==== Rows of the evaluation tasks: the right answer is learnt, with the ids that evaluation scores. ==== */

static ot_status read_task(ot_data_reader *r, const ot_row *row, ot_data_tokens *out, ot_error *err) {
    ot_arena arena = {0};
    ot_task_doc doc;
    ot_str answer;
    ot_encoded encoded = {0};
    out->cut = OT_CUT_START;
    ot_status status = ot_task_render(r->task, row, &arena, &doc, err);
    if (status == OT_OK) status = ot_task_lesson(r->task, &doc, &arena, &answer, err);
    if (status == OT_OK) status = ot_encode_pair(&r->encoder, doc.context, answer, &arena, &encoded, err);
    if (status == OT_OK) status = ot_data_add_ids(out, encoded.ids, encoded.n_context + encoded.n_continuation, encoded.n_context, err);
    ot_arena_free(&arena);
    return status;
}

/* ==== The table. ==== */

static const ot_shape messages = {.name = "messages", .help = "{\"messages\": [{\"role\", \"content\"}, ...]}", .keys = {"messages"}, .read = read_messages};
static const ot_shape pair = {.name = "prompt/completion", .help = "{\"prompt\", \"completion\"}", .keys = {"prompt", "completion"}, .read = read_pair};
static const ot_shape text = {.name = "text", .help = "{\"text\"}", .keys = {"text"}, .read = read_text};
static const ot_shape openbookqa = {.name = "task rows", .help = "OpenBookQA", .keys = {"question_stem", "choices", "answerKey"}, .task = "openbookqa", .read = read_task};
/* The rows of ARC-Challenge are alike, and so is what becomes of them. */
static const ot_shape arc = {.name = "task rows", .help = "ARC", .keys = {"question", "choices", "answerKey"}, .task = "arc_easy", .read = read_task};
static const ot_shape piqa = {.name = "task rows", .help = "PIQA", .keys = {"goal", "sol1", "sol2"}, .task = "piqa", .read = read_task};
static const ot_shape hellaswag = {.name = "task rows", .help = "HellaSwag", .keys = {"ctx_a", "endings", "activity_label"}, .task = "hellaswag", .read = read_task};
static const ot_shape sciq = {.name = "task rows", .help = "SciQ", .keys = {"support", "question", "correct_answer", "distractor1"}, .task = "sciq", .read = read_task};
static const ot_shape race = {.name = "task rows", .help = "RACE", .keys = {"article", "problems"}, .task = "race", .read = read_task};
static const ot_shape webqs = {.name = "task rows", .help = "WebQuestions", .keys = {"question", "answers"}, .task = "webqs", .read = read_task};
const ot_shape ot_shape_own = {.name = "task rows", .help = "a task of the user's own", .read = read_task};

const ot_shape *const ot_shapes[] = {&messages, &pair, &text, &openbookqa, &arc, &piqa, &hellaswag, &sciq, &race, &webqs, NULL};
