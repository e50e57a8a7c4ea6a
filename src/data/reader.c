#include "data/reader.h"

#include <stdio.h>
#include <string.h>

#include "base/count.h"
#include "base/file.h"
#include "format/json.h"

static const int64_t LINE_LIMIT = (int64_t)64 << 20;
/* The keys that shapes ask for, and thus --map may rename. */
static const char *const mappable[] = {"text", "prompt", "completion", "messages", "role", "content"};
enum { N_MAPPABLE = sizeof mappable / sizeof *mappable };

/* ==== Opening. ==== */

/* What the tokenizer puts around a text, found by encoding one with and without it. */
static ot_status find_specials(ot_data_reader *r, ot_error *err) {
    int32_t *bare = NULL, *full = NULL;
    int64_t n_bare = 0, n_full = 0, at = 0;
    OT_TRY(ot_tokenizer_encode(r->tokenizer, "a", 1, false, &bare, &n_bare, err));
    ot_status status = ot_tokenizer_encode(r->tokenizer, "a", 1, true, &full, &n_full, err);
    while (status == OT_OK && at + n_bare < n_full && memcmp(full + at, bare, (size_t)n_bare * 4) != 0) at++;
    int64_t behind = n_full - at - n_bare;
    if (status == OT_OK && (at > OT_SPECIALS || behind > OT_SPECIALS || behind < 0)) {
        status = ot_fail(err, OT_ERR_UNSUPPORTED, "%s: the tokenizer puts more than %d special tokens around a text", r->options->tokenizer_path, OT_SPECIALS);
    }
    if (status == OT_OK) {
        memcpy(r->prefix, full, (size_t)at * 4);
        memcpy(r->suffix, full + at + n_bare, (size_t)behind * 4);
        r->n_prefix = at;
        r->n_suffix = behind;
    }
    ot_free(bare);
    ot_free(full);
    return status;
}

/* "" for a token that is not there. */
static ot_status token_text(const ot_tokenizer *t, int32_t id, char **text, ot_error *err) {
    size_t size = 0;
    return ot_tokenizer_decode(t, &id, id >= 0, false, text, &size, err);
}

static ot_status check_map(const ot_data_options *o, ot_error *err) {
    for (int64_t m = 0; m < o->n_map; m++) {
        const char *equals = strchr(o->map[m], '=');
        bool known = false;
        for (int i = 0; i < N_MAPPABLE && equals != NULL; i++) {
            known = known || (strlen(mappable[i]) == (size_t)(equals - o->map[m]) && strncmp(mappable[i], o->map[m], (size_t)(equals - o->map[m])) == 0);
        }
        if (known && equals[1] != '\0') continue;
        return ot_fail(err, OT_ERR_USAGE, "--map: \"%.100s\" must be KEY=NAME with KEY one of text, prompt, completion, messages, role, content", o->map[m]);
    }
    return OT_OK;
}

ot_status ot_data_reader_open(const ot_data_options *options, ot_data_reader **out, ot_error *err) {
    ot_data_reader *r = NULL;
    OT_TRY(check_map(options, err));
    OT_TRY(ot_calloc(1, (int64_t)sizeof *r, "a data reader", (void **)&r, err));
    r->options = options;
    r->encoder.prefix = -1;
    ot_status status = options->task != NULL ? ot_task_open(options->task, &r->task, err) : OT_OK;
    if (status == OT_OK && options->task != NULL && (r->task->kind == OT_TASK_ROLLING || r->task->kind == OT_TASK_BLOCKS)) {
        status = ot_fail(err, OT_ERR_USAGE, "--task: %s has no answers to learn: give its text itself", options->task);
    }
    if (status == OT_OK && options->chat_template != NULL) status = ot_chat_find(options->chat_template, &r->chat, err);
    if (status == OT_OK) status = ot_tokenizer_open(options->tokenizer_path, &r->tokenizer, err);
    if (status == OT_OK) status = find_specials(r, err);
    if (status == OT_OK) status = ot_encoder_open(r->tokenizer, &r->encoder, err);
    if (status == OT_OK) {
        r->eos = ot_tokenizer_eos(r->tokenizer);
        status = token_text(r->tokenizer, ot_tokenizer_bos(r->tokenizer), &r->bos_text, err);
    }
    if (status == OT_OK) status = token_text(r->tokenizer, r->eos, &r->eos_text, err);
    if (status != OT_OK) {
        ot_data_reader_close(r);
        return status;
    }
    *out = r;
    return OT_OK;
}

void ot_data_reader_close(ot_data_reader *r) {
    if (r == NULL) return;
    ot_encoder_close(&r->encoder);
    ot_task_close(r->task);
    ot_tokenizer_close(r->tokenizer);
    ot_free(r->bos_text);
    ot_free(r->eos_text);
    ot_free(r);
}

const ot_tokenizer *ot_data_tokenizer(const ot_data_reader *r) { return r->tokenizer; }

const json_t *ot_data_get(const ot_data_reader *r, const json_t *object, const char *key) {
    size_t length = strlen(key);
    for (int64_t m = 0; m < r->options->n_map; m++) {
        const char *entry = r->options->map[m];
        if (strncmp(entry, key, length) == 0 && entry[length] == '=') return json_object_get(object, entry + length + 1);
    }
    return json_object_get(object, key);
}

/* ==== Lines. ==== */

typedef struct lines {
    const char *text;
    int64_t size, at, number;
    bool list; /* one JSON list of rows, which may go over several lines each */
} lines;

static bool blank(const char *text, int64_t size) {
    for (int64_t i = 0; i < size; i++) {
        if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r') return false;
    }
    return true;
}

static bool white(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

/* Passes over white space, counting the lines. */
static void pass_white(lines *l) {
    for (; l->at < l->size && white(l->text[l->at]); l->at++) l->number += l->text[l->at] == '\n';
}

/* Behind the mark that some editors put in front of UTF-8; a list, "[" with a row behind it, is gone into. */
static lines lines_of(const ot_input *source) {
    bool marked = source->size >= 3 && memcmp(source->data, "\xEF\xBB\xBF", 3) == 0;
    const lines plain = {.text = source->data, .size = source->size, .at = marked ? 3 : 0};
    lines list = plain;
    list.number = 1;
    pass_white(&list);
    if (list.at == list.size || list.text[list.at] != '[') return plain;
    list.at++;
    pass_white(&list);
    list.list = list.at < list.size && list.text[list.at] == '{';
    return list.list ? list : plain;
}

/* The next value of a list, as it stands there: to the comma or bracket outside all others. What follows the list is read as lines. */
static bool next_in_list(lines *l, const char **row, int64_t *size, int64_t *number) {
    int64_t depth = 0, from = 0;
    bool quoted = false;
    pass_white(l);
    if (l->at == l->size) return false;
    *number = l->number;
    from = l->at;
    for (; l->at < l->size; l->at++) {
        char c = l->text[l->at];
        l->number += c == '\n';
        if (quoted) {
            if (c == '\\' && l->at + 1 < l->size) l->at++;
            quoted = c != '"';
        } else if (c == '"') {
            quoted = true;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if (depth > 0 && (c == '}' || c == ']')) {
            depth--;
        } else if (depth == 0 && (c == ',' || c == ']')) {
            break;
        }
    }
    *row = l->text + from;
    *size = l->at - from;
    if (l->at < l->size && l->text[l->at++] == ']') {
        pass_white(l);
        l->list = false;
    }
    return *size > 0 || l->at < l->size;
}

/* The next line that holds something, or the next value of a list; *number: of the line that it begins on. */
static bool next_line(lines *l, const char **line, int64_t *size, int64_t *number) {
    if (l->list) return next_in_list(l, line, size, number);
    while (l->at < l->size) {
        const char *from = l->text + l->at, *end = memchr(from, '\n', (size_t)(l->size - l->at));
        *line = from;
        *size = (end != NULL ? end - l->text : l->size) - l->at;
        l->at += *size + 1;
        *number = ++l->number;
        if (!blank(*line, *size)) return true;
    }
    return false;
}

bool ot_data_is_rows(const ot_input *source, const char *name) {
    lines l = lines_of(source);
    const char *line = NULL;
    int64_t size = 0, number = 0;
    if (ot_path_ends(name, ".jsonl") || ot_path_ends(name, ".ndjson")) return true;
    if (!next_line(&l, &line, &size, &number) || size > LINE_LIMIT) return false;
    while (size > 0 && (*line == ' ' || *line == '\t')) line++, size--;
    json_t *value = NULL;
    bool rows = size > 0 && *line == '{' && ot_json_parse(line, size, name, &value, NULL) == OT_OK && json_is_object(value);
    json_decref(value);
    return rows;
}

bool ot_data_is_list(const ot_input *source) { return lines_of(source).list; }

/* ==== Rows. ==== */

typedef struct reading {
    ot_data_reader *r;
    const char *path;
    const ot_shape *shape; /* NULL: not known yet */
    ot_data_report *report;
    ot_data_tokens tokens;
    ot_data_take take;
    void *context;
} reading;

static bool fits(const ot_data_reader *r, const ot_shape *shape, const json_t *row) {
    for (int i = 0; i < OT_SHAPE_KEYS && shape->keys[i] != NULL; i++) {
        if (ot_data_get(r, row, shape->keys[i]) == NULL) return false;
    }
    return true;
}

static void list_keys(const json_t *row, char *text, size_t size) {
    const char *key = NULL;
    json_t *value = NULL;
    text[0] = '\0';
    json_object_foreach((json_t *)(uintptr_t)row, key, value) {
        size_t used = strlen(text);
        snprintf(text + used, size - used, "%s\"%.40s\"", used > 0 ? ", " : "", key);
    }
    for (char *c = text; *c != '\0'; c++) *c = (unsigned char)*c < 0x20 || *c == 0x7F ? '?' : *c;
}

static bool same_rows(const char *a, const char *b) {
    return strcmp(a, b) == 0 || (strncmp(a, "arc_", 4) == 0 && strncmp(b, "arc_", 4) == 0);
}

/* The first row that fits a shape decides for the file. */
static ot_status choose_shape(reading *g, const json_t *row, ot_error *err) {
    ot_data_reader *r = g->r;
    const char *wanted = r->options->task;
    if (r->task != NULL && r->task->own != NULL) g->shape = &ot_shape_own;
    for (const ot_shape *const *s = ot_shapes; *s != NULL && g->shape == NULL; s++) {
        if (wanted != NULL && ((*s)->task == NULL || !same_rows((*s)->task, wanted))) continue;
        if (fits(r, *s, row)) g->shape = *s;
    }
    if (g->shape == NULL) {
        char keys[300];
        list_keys(row, keys, sizeof keys);
        return wanted != NULL ? ot_fail(err, OT_ERR_FORMAT, "the keys %s are not those of the task %s", keys, wanted)
                              : ot_fail(err, OT_ERR_FORMAT,
                                        "the keys %s fit no known shape: text; prompt and completion; messages; rows of a task (other names: --map "
                                        "text=NAME)",
                                        keys);
    }
    if (g->shape == &ot_shape_own) g->report->detail = wanted;
    if (g->shape->task != NULL) {
        if (wanted == NULL) OT_TRY(ot_task_find(g->shape->task, &r->task, err));
        g->report->detail = r->task->name;
    }
    if (strcmp(g->shape->name, "messages") == 0) {
        /* Whatever is wrong with it is no matter of this row. */
        if (r->chat == NULL && ot_chat_open(r->options->tokenizer_path, NULL, &r->chat, err) != OT_OK) return OT_ERR_REFUSED;
        g->report->detail = r->chat->name;
        const char *stop = r->chat->assistant.stop;
        if (stop != NULL && *stop == '<' && ot_tokenizer_find(r->tokenizer, stop) < 0) g->report->no_stop = stop;
    }
    g->report->shape = g->shape->name;
    return OT_OK;
}

static ot_status emit(reading *g, const int32_t *ids, const uint8_t *learn, int64_t count, ot_error *err) {
    ot_data_report *report = g->report;
    int64_t learnt = 0, limit = g->r->options->limit;
    for (int64_t i = 1; i < count; i++) learnt += learn[i];
    if (learnt == 0) {
        report->empty++;
        return OT_OK;
    }
    if (limit > 0 && report->examples >= limit) return OT_OK;
    report->examples++;
    report->tokens += count;
    report->learnt += learnt;
    return g->take(g->context, ids, learn, count, err);
}

static ot_status emit_all(reading *g, ot_error *err) {
    const ot_data_options *o = g->r->options;
    ot_data_tokens *t = &g->tokens;
    for (int64_t i = 0; i < t->count; i++) {
        if (t->ids[i] >= o->vocab) {
            ot_fail(err, OT_ERR_REFUSED, "%s: the tokenizer gave id %d, but the model's vocabulary has %lld: they do not belong together", g->path, t->ids[i],
                    (long long)o->vocab);
            return OT_ERR_REFUSED;
        }
        if (o->train_all) t->learn[i] = 1;
    }
    if (t->count <= o->block) return emit(g, t->ids, t->learn, t->count, err);
    if (t->cut != OT_CUT_PIECES) {
        int64_t from = t->cut == OT_CUT_START ? t->count - o->block : 0;
        g->report->truncated++;
        return emit(g, t->ids + from, t->learn + from, o->block, err);
    }
    g->report->split++;
    for (int64_t from = 0; from + 1 < t->count; from += o->block) {
        int64_t rest = t->count - from;
        OT_TRY(emit(g, t->ids + from, t->learn + from, rest < o->block ? rest : o->block, err));
    }
    return OT_OK;
}

/* What is wrong with a row alone; anything else ends the reading. */
static bool is_of_row(ot_status status) { return status == OT_ERR_FORMAT || status == OT_ERR_UNSUPPORTED; }

static ot_status read_row(reading *g, const char *line, int64_t size, int64_t number, ot_error *err) {
    if (size > LINE_LIMIT) return ot_fail(err, OT_ERR_FORMAT, "a row of %lld bytes; the longest allowed has %lld", (long long)size, (long long)LINE_LIMIT);
    json_t *value = NULL;
    OT_TRY(ot_json_parse(line, size, "the row", &value, err));
    ot_row row = {.value = value, .line = number, .path = g->path};
    g->tokens.count = 0;
    g->tokens.cut = OT_CUT_END;
    ot_status status = json_is_object(value) ? OT_OK : ot_fail(err, OT_ERR_FORMAT, "not a JSON object");
    if (status == OT_OK && g->shape == NULL) status = choose_shape(g, value, err);
    if (status == OT_OK) status = g->shape->read(g->r, &row, &g->tokens, err);
    json_decref(value);
    return status;
}

/* "the row: not valid JSON at byte 3 (line 1, column 3): ..." stands behind the line's number in its file: the place in the row is said once. */
static void cut_place(char *why) {
    static const char row[] = "the row: ", place[] = " (line ";
    if (strncmp(why, row, sizeof row - 1) != 0) return;
    memmove(why, why + sizeof row - 1, strlen(why + sizeof row - 1) + 1);
    char *from = strstr(why, place), *to = from != NULL ? strchr(from, ')') : NULL;
    if (to != NULL) memmove(from, to + 1, strlen(to + 1) + 1);
}

static void note_bad(reading *g, int64_t number, const ot_error *problem) {
    ot_data_report *report = g->report;
    if (report->bad < OT_DATA_SHOWN) {
        char place[64];
        const char *why = problem->message, *at = NULL;
        snprintf(place, sizeof place, ":%lld: ", (long long)number);
        size_t path = strlen(g->path);
        if (strncmp(why, g->path, path) == 0) at = strncmp(why + path, place, strlen(place)) == 0 ? why + path + strlen(place) : NULL;
        report->shown[report->bad].line = number;
        snprintf(report->shown[report->bad].why, sizeof report->shown[0].why, "%.255s", at != NULL ? at : why);
        cut_place(report->shown[report->bad].why);
    }
    report->bad++;
}

static ot_status read_lines(reading *g, const ot_input *source, ot_error *err) {
    const ot_data_options *o = g->r->options;
    lines l = lines_of(source);
    l.number += g->report->lines_before;
    const char *line = NULL;
    int64_t size = 0, number = 0;
    while (next_line(&l, &line, &size, &number) && (o->limit == 0 || g->report->examples < o->limit)) {
        ot_error problem = {0};
        g->report->rows++;
        ot_status status = read_row(g, line, size, number, &problem);
        if (is_of_row(status)) {
            note_bad(g, number, &problem);
            if (o->strict) return ot_fail(err, OT_ERR_FORMAT, "%s:%lld: %s", g->path, (long long)number, g->report->shown[0].why);
            continue;
        }
        if (status != OT_OK) {
            if (err != NULL) *err = problem;
            return status;
        }
        OT_TRY(emit_all(g, err));
    }
    return OT_OK;
}

ot_status ot_data_check_path(const char *path, ot_error *err) {
    if (!ot_path_is_dir(path)) return OT_OK;
    return ot_fail(err, OT_ERR_IO, "%s is a folder, but text is read from files: give text, JSON lines or .safetensors with input_ids ('%s/*.txt' for all in it that are named so); "
                   "a folder of pictures is for a vision model", path, path);
}

ot_status ot_data_check_zero(const char *data, int64_t size, const char *path, ot_error *err) {
    const char *zero = size > 0 ? memchr(data, 0, (size_t)size) : NULL;
    if (zero == NULL) return OT_OK;
    return ot_fail_at(err, OT_ERR_REFUSED, zero - data, "%s is no text: byte %lld is zero; give text in UTF-8, JSON lines or .safetensors", path,
                      (long long)(zero - data));
}

ot_status ot_data_check_prose(const char *name, const char *path, ot_error *err) {
    static const char *const tables[] = {".csv", ".tsv", ".CSV", ".TSV"};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        if (!ot_path_ends(name, tables[i])) continue;
        return ot_fail(err, OT_ERR_FORMAT, "%s is a table, and its commas would be learnt as prose: give JSON lines, a row {\"text\": ...} or {\"prompt\": ..., \"completion\": ...} "
                       "on each line (another ending, as .txt, has it learnt as it is)", path);
    }
    return OT_OK;
}

ot_status ot_data_read_rows(ot_data_reader *r, const ot_input *source, const char *path, ot_data_report *report, ot_data_take take, void *context,
                            ot_error *err) {
    reading g = {.r = r, .path = path, .report = report, .take = take, .context = context};
    report->path = path;
    report->packing = source->packing;
    ot_status status = read_lines(&g, source, err);
    ot_free(g.tokens.ids);
    ot_free(g.tokens.learn);
    if (status != OT_OK) return status;
    if (report->rows == 0) return ot_fail(err, OT_ERR_FORMAT, "%s is empty", path);
    if (report->bad == report->rows) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: none of its %lld row%s can be used; line %lld: %s", path, (long long)report->rows, OT_PLURAL(report->rows),
                       (long long)report->shown[0].line, report->shown[0].why);
    }
    return OT_OK;
}
