/* tokenizer.json, and folders that hold only vocab.json and merges.txt. */
#include "format/json.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "format/tokenizer_internal.h"
#include "format/unicode.h"

/* ==== Merges ==== */

ot_status ot_tok_add_merge(ot_tokenizer *t, const char *left, int64_t left_size, const char *right, int64_t right_size,
                           int64_t rank, const char *where, ot_error *err) {
    int32_t a = ot_tok_vocab_find(&t->vocab, left, left_size), b = ot_tok_vocab_find(&t->vocab, right, right_size);
    if (a < 0 || b < 0) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: merge %lld uses \"%.60s\", which is not in the vocabulary", where,
                       (long long)rank, a < 0 ? left : right);
    }
    /* The right half of a word carries the prefix that marks continuations; the result does not. */
    int64_t cut = t->word_prefix_size;
    if (cut > right_size) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: merge %lld: its right half is shorter than the continuing_subword_prefix", where,
                       (long long)rank);
    }
    ot_tok_buf whole = {0};
    ot_status status = ot_tok_buf_put(&whole, left, left_size, err);
    if (status == OT_OK) status = ot_tok_buf_put(&whole, right + cut, right_size - cut, err);
    int32_t id = status == OT_OK ? ot_tok_vocab_find(&t->vocab, whole.size > 0 ? whole.data : "", whole.size) : -1;
    ot_tok_buf_free(&whole);
    OT_TRY(status);
    if (id < 0) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: merge %lld makes \"%.60s%.60s\", which is not in the vocabulary", where,
                       (long long)rank, left, right + cut);
    }
    return ot_tok_merges_add(&t->merges, a, b, id, err);
}

ot_status ot_tok_add_merge_line(ot_tokenizer *t, const char *line, int64_t size, int64_t rank, const char *where, ot_error *err) {
    const char *space = size > 0 ? memchr(line, ' ', (size_t)size) : NULL;
    int64_t left = space == NULL ? -1 : space - line;
    if (left < 0 || memchr(space + 1, ' ', (size_t)(size - left - 1)) != NULL) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: merge %lld is not two tokens with one blank between", where, (long long)rank);
    }
    char left_text[512], right_text[512]; /* with their NULs, for messages and lookups of ordinary length */
    if (left >= (int64_t)sizeof left_text || size - left - 1 >= (int64_t)sizeof right_text) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: merge %lld is longer than 511 bytes", where, (long long)rank);
    }
    memcpy(left_text, line, (size_t)left);
    left_text[left] = '\0';
    memcpy(right_text, space + 1, (size_t)(size - left - 1));
    right_text[size - left - 1] = '\0';
    return ot_tok_add_merge(t, left_text, left, right_text, size - left - 1, rank, where, err);
}

static ot_status read_merges(ot_tokenizer *t, const json_t *merges, const char *where, ot_error *err) {
    if (!json_is_array(merges)) return ot_fail(err, OT_ERR_FORMAT, "%s: model: \"merges\" must be an array", where);
    for (size_t i = 0; i < json_array_size(merges); i++) {
        const json_t *item = json_array_get(merges, i);
        if (json_is_string(item)) {
            if (strncmp(json_string_value(item), "#version", 8) == 0) continue;
            OT_TRY(ot_tok_add_merge_line(t, json_string_value(item), (int64_t)json_string_length(item), (int64_t)i, where, err));
            continue;
        }
        const json_t *left = json_array_get(item, 0), *right = json_array_get(item, 1);
        if (!json_is_array(item) || json_array_size(item) != 2 || !json_is_string(left) || !json_is_string(right)) {
            return ot_fail(err, OT_ERR_FORMAT, "%s: merge %zu is neither \"a b\" nor [\"a\", \"b\"]", where, i);
        }
        OT_TRY(ot_tok_add_merge(t, json_string_value(left), (int64_t)json_string_length(left), json_string_value(right),
                                (int64_t)json_string_length(right), (int64_t)i, where, err));
    }
    return ot_tok_merges_finish(&t->merges, err);
}

/* ==== Keys with U+0000 ==== */

/* jansson refuses NULs in keys, and a character vocabulary may have the token "\u0000". Such escapes are replaced, in keys
 * only, by a private character that the document does not use; read_vocab turns it back. */

static bool mentions(const char *text, int64_t size, uint32_t code) {
    char raw[4], lower[8], upper[8];
    int n = ot_utf8_put(code, raw);
    (void)snprintf(lower, sizeof lower, "%04x", code);
    (void)snprintf(upper, sizeof upper, "%04X", code);
    return memmem(text, (size_t)size, raw, (size_t)n) != NULL || memmem(text, (size_t)size, lower, 4) != NULL ||
           memmem(text, (size_t)size, upper, 4) != NULL;
}

/* The end (on the closing quote, or size) of the string whose contents begin at `at`. */
static int64_t string_end(const char *text, int64_t size, int64_t at) {
    while (at < size && text[at] != '"') at += text[at] == '\\' ? 2 : 1;
    return at < size ? at : size;
}

static ot_status hide_nul_keys(char *text, int64_t size, const char *where, uint32_t *code, ot_error *err) {
    *code = 0;
    if (size == 0 || memmem(text, (size_t)size, "\\u0000", 6) == NULL) return OT_OK;
    uint32_t free_code = 0xE000;
    while (free_code < 0xF900 && mentions(text, size, free_code)) free_code++;
    if (free_code == 0xF900)
        return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: a key holds U+0000, and no private character is free", where);
    char escape[8];
    (void)snprintf(escape, sizeof escape, "\\u%04x", free_code);
    for (int64_t at = 0; at < size; at++) {
        if (text[at] != '"') continue;
        int64_t start = at + 1, next;
        at = string_end(text, size, start);
        for (next = at + 1; next < size && memchr(" \t\r\n", text[next], 4) != NULL;) next++;
        if (next >= size || text[next] != ':') continue;
        for (int64_t i = start; i + 6 <= at; i += text[i] == '\\' ? 2 : 1) {
            if (memcmp(text + i, "\\u0000", 6) == 0) memcpy(text + i, escape, 6);
        }
        *code = free_code;
    }
    return OT_OK;
}

static ot_status parse(char *text, int64_t size, const char *where, json_t **out, uint32_t *nul, ot_error *err) {
    OT_TRY(hide_nul_keys(text, size, where, nul, err));
    return ot_json_parse(text, size, where, out, err);
}

/* A key as it was meant, in buf if it had to change. */
static ot_status restore_key(const char **text, int64_t *size, uint32_t nul, ot_tok_buf *buf, ot_error *err) {
    char hidden[4];
    int n = ot_utf8_put(nul, hidden);
    if (nul == 0 || *size < n || memmem(*text, (size_t)*size, hidden, (size_t)n) == NULL) return OT_OK;
    buf->size = 0;
    for (int64_t i = 0; i < *size;) {
        bool is_nul = *size - i >= n && memcmp(*text + i, hidden, (size_t)n) == 0;
        OT_TRY(ot_tok_buf_put(buf, is_nul ? "" : *text + i, 1, err));
        i += is_nul ? n : 1;
    }
    *text = buf->data;
    *size = buf->size;
    return OT_OK;
}

/* ==== Models ==== */

static ot_status read_entries(ot_tokenizer *t, json_t *vocab, uint32_t nul, ot_tok_buf *buf, const char *where, ot_error *err) {
    if (!json_is_object(vocab)) return ot_fail(err, OT_ERR_FORMAT, "%s: the vocabulary must be an object of token: id", where);
    for (void *it = json_object_iter(vocab); it != NULL; it = json_object_iter_next(vocab, it)) {
        const json_t *id = json_object_iter_value(it);
        const char *text = json_object_iter_key(it);
        int64_t size = (int64_t)json_object_iter_key_len(it);
        if (!json_is_integer(id)) return ot_fail(err, OT_ERR_FORMAT, "%s: the id of token \"%.60s\" is no integer", where, text);
        /* Tables are indexed by id, so a few tokens must not claim a few gigabytes. */
        if (json_integer_value(id) > 65536 + 16 * (json_int_t)json_object_size(vocab) &&
            json_integer_value(id) <= OT_TOK_MAX_ID) {
            return ot_fail(err, OT_ERR_FORMAT, "%s: the id %lld of token \"%.60s\" is far beyond the %zu tokens", where,
                           (long long)json_integer_value(id), text, json_object_size(vocab));
        }
        OT_TRY(restore_key(&text, &size, nul, buf, err));
        OT_TRY(ot_tok_vocab_add(&t->vocab, json_integer_value(id), text, size, where, err));
    }
    return ot_tok_vocab_finish(&t->vocab, err);
}

static ot_status read_vocab(ot_tokenizer *t, json_t *vocab, uint32_t nul, const char *where, ot_error *err) {
    ot_tok_buf buf = {0};
    ot_status status = read_entries(t, vocab, nul, &buf, where, err);
    ot_tok_buf_free(&buf);
    return status;
}

static ot_status read_word_mark(ot_tokenizer *t, const json_t *model, const char *key, const char *where, char **text,
                                int64_t *size, ot_error *err) {
    const char *value = NULL;
    bool found = false;
    OT_TRY(ot_json_str(model, key, where, &value, &found, err));
    if (!found || value[0] == '\0') return OT_OK;
    *size = (int64_t)strlen(value);
    *text = ot_arena_strdup(&t->arena, value, err);
    return *text == NULL ? OT_ERR_MEMORY : OT_OK;
}

static ot_status read_bpe(ot_tokenizer *t, json_t *model, uint32_t nul, const char *where, ot_error *err) {
    double dropout = 0;
    const char *unk = NULL;
    bool found = false;
    OT_TRY(ot_json_f64(model, "dropout", where, &dropout, &found, err));
    if (found && dropout != 0) {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: model: dropout makes ids random; set it to null", where);
    }
    OT_TRY(ot_json_bool(model, "fuse_unk", where, &t->fuse_unk, NULL, err));
    OT_TRY(ot_json_bool(model, "byte_fallback", where, &t->byte_fallback, NULL, err));
    OT_TRY(ot_json_bool(model, "ignore_merges", where, &t->ignore_merges, NULL, err));
    OT_TRY(read_word_mark(t, model, "continuing_subword_prefix", where, &t->word_prefix, &t->word_prefix_size, err));
    OT_TRY(read_word_mark(t, model, "end_of_word_suffix", where, &t->word_suffix, &t->word_suffix_size, err));
    OT_TRY(read_vocab(t, json_object_get(model, "vocab"), nul, where, err));
    OT_TRY(ot_json_str(model, "unk_token", where, &unk, &found, err));
    if (found) {
        t->unk = ot_tok_vocab_find(&t->vocab, unk, (int64_t)strlen(unk));
        t->unk_missing = t->unk < 0;
    }
    return read_merges(t, json_object_get(model, "merges"), where, err);
}

static ot_status read_unigram(ot_tokenizer *t, json_t *model, const char *where, ot_error *err) {
    t->model = OT_TOK_MODEL_UNIGRAM;
    t->fuse_unk = true;
    OT_TRY(ot_json_bool(model, "byte_fallback", where, &t->byte_fallback, NULL, err));
    const json_t *vocab = json_object_get(model, "vocab");
    int64_t count = (int64_t)json_array_size(vocab), unk = -1;
    if (!json_is_array(vocab) || count == 0) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: model: a Unigram vocabulary must be an array of [token, score]", where);
    }
    OT_TRY(ot_calloc(count, (int64_t)sizeof *t->scores, "scores", (void **)&t->scores, err));
    double lowest = 0;
    for (int64_t i = 0; i < count; i++) {
        const json_t *pair = json_array_get(vocab, (size_t)i), *text = json_array_get(pair, 0), *score = json_array_get(pair, 1);
        if (!json_is_string(text) || !json_is_number(score)) {
            return ot_fail(err, OT_ERR_FORMAT, "%s: entry %lld of the vocabulary is not [token, score]", where, (long long)i);
        }
        OT_TRY(ot_tok_vocab_add(&t->vocab, i, json_string_value(text), (int64_t)json_string_length(text), where, err));
        t->scores[i] = json_number_value(score);
        if (i == 0 || t->scores[i] < lowest) lowest = t->scores[i];
    }
    t->unk_score = lowest - 10;
    bool found = false;
    OT_TRY(ot_json_i64(model, "unk_id", where, &unk, &found, err));
    if (found && (unk < 0 || unk >= count)) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: model: unk_id %lld is not in the vocabulary", where, (long long)unk);
    }
    if (found) t->unk = (int32_t)unk;
    return ot_tok_vocab_finish(&t->vocab, err);
}

static ot_status read_document(ot_tokenizer *t, json_t *document, uint32_t nul, const char *where, ot_error *err) {
    json_t *model = json_object_get(document, "model");
    if (!json_is_object(model)) return ot_fail(err, OT_ERR_FORMAT, "%s: no object \"model\"; this is no tokenizer.json", where);
    const char *type = NULL;
    bool found = false;
    OT_TRY(ot_json_str(model, "type", where, &type, &found, err));
    if (!found) type = json_object_get(model, "merges") != NULL ? "BPE" : "unnamed";
    if (strcmp(type, "BPE") == 0) {
        OT_TRY(read_bpe(t, model, nul, where, err));
    } else if (strcmp(type, "Unigram") == 0) {
        OT_TRY(read_unigram(t, model, where, err));
    } else {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: model: the type \"%.80s\" is not supported; BPE and Unigram are", where,
                       type);
    }
    /* The big tables live on as ours only. */
    (void)json_object_del(model, "vocab");
    (void)json_object_del(model, "merges");
    return ot_tok_configure(t, json_incref(document), where, err);
}

/* ==== Beginning and end of a text ==== */

/* "bos_token": "<s>" or {"content": "<s>", ...} */
static int32_t named_token(const ot_tokenizer *t, const json_t *config, const char *key) {
    const json_t *value = json_object_get(config, key);
    if (json_is_object(value)) value = json_object_get(value, "content");
    return json_is_string(value) ? ot_tok_find(t, json_string_value(value)) : -1;
}

static int32_t first_known(const ot_tokenizer *t, const char *const *names) {
    for (; *names != NULL; names++) {
        int32_t id = ot_tok_find(t, *names);
        if (id >= 0 && t->added_by_id[id] > 0 && t->added[t->added_by_id[id] - 1].special) return id;
    }
    return -1;
}

/* From tokenizer_config.json beside the file; without it, from the template and well-known names. */
static void find_borders(ot_tokenizer *t, const char *path) {
    static const char *const ENDS[] = {"</s>", "<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "<|eot_id|>", "<eos>", NULL};
    static const char *const BEGINS[] = {"<s>", "<|begin_of_text|>", "<|startoftext|>", "<bos>", NULL};
    char config_path[4096];
    const char *base = ot_path_base(path);
    int n = snprintf(config_path, sizeof config_path, "%.*stokenizer_config.json", (int)(base - path), path);
    json_t *config = NULL;
    if (n > 0 && (size_t)n < sizeof config_path && ot_path_exists(config_path) &&
        ot_json_read_large(config_path, OT_TOK_MAX_FILE, &config, NULL) == OT_OK) {
        t->bos = named_token(t, config, "bos_token");
        t->eos = named_token(t, config, "eos_token");
        json_decref(config);
    }
    if (t->bos < 0) t->bos = t->before.count > 0 ? t->before.data[0] : first_known(t, BEGINS);
    if (t->eos < 0) t->eos = t->after.count > 0 ? t->after.data[t->after.count - 1] : first_known(t, ENDS);
}

/* Parses in place: text is the caller's scratch. */
static ot_status load_text(ot_tokenizer *t, char *text, int64_t size, const char *where, ot_error *err) {
    json_t *document = NULL;
    uint32_t nul = 0;
    OT_TRY(parse(text, size, where, &document, &nul, err));
    ot_status status = read_document(t, document, nul, where, err);
    json_decref(document);
    return status;
}

ot_status ot_tok_load_json_text(ot_tokenizer *t, const char *text, int64_t size, const char *where, ot_error *err) {
    ot_tok_buf copy = {0};
    OT_TRY(ot_tok_buf_put(&copy, text, size, err));
    ot_status status = load_text(t, copy.data != NULL ? copy.data : (char[]){0}, copy.size, where, err);
    ot_tok_buf_free(&copy);
    return status;
}

ot_status ot_tok_load_json(ot_tokenizer *t, const char *path, ot_error *err) {
    char *text = NULL;
    int64_t size = 0;
    OT_TRY(ot_read_file(path, OT_TOK_MAX_FILE, &text, &size, err));
    ot_status status = load_text(t, text, size, path, err);
    ot_free(text);
    if (status == OT_OK) find_borders(t, path);
    return status;
}

/* ==== vocab.json and merges.txt ==== */

static const char BYTE_LEVEL_CONFIG[] =
    "{'version': '1.0', 'truncation': null, 'padding': null, 'added_tokens': [], 'normalizer': null,"
    " 'pre_tokenizer': {'type': 'ByteLevel', 'add_prefix_space': false, 'trim_offsets': true, 'use_regex': true},"
    " 'post_processor': null, 'decoder': {'type': 'ByteLevel', 'add_prefix_space': true, 'trim_offsets': true, 'use_regex': "
    "true},"
    " 'model': {'type': 'BPE', 'dropout': null, 'unk_token': null, 'continuing_subword_prefix': '', 'end_of_word_suffix': '',"
    " 'fuse_unk': false, 'byte_fallback': false, 'ignore_merges': false}}";

/* Single quotes are JSON's here, so the pattern writes its own as \u0027. */
static const char CLIP_CONFIG[] =
    "{'version': '1.0', 'truncation': null, 'padding': null, 'added_tokens': [], 'normalizer': {'type': 'Sequence', "
    "'normalizers': ["
    "{'type': 'NFC'}, {'type': 'Replace', 'pattern': {'Regex': '\\\\s+'}, 'content': ' '}, {'type': 'Lowercase'}]},"
    " 'pre_tokenizer': {'type': 'Sequence', 'pretokenizers': [{'type': 'Split', 'pattern': {'Regex': '<\\\\|startoftext\\\\|>|"
    "<\\\\|endoftext\\\\|>|\\u0027s|\\u0027t|\\u0027re|\\u0027ve|\\u0027m|\\u0027ll|\\u0027d|[\\\\p{L}]+|[\\\\p{N}]|[^\\\\s\\\\p{"
    "L}\\\\p{N}]+'},"
    " 'behavior': 'Removed', 'invert': true},"
    " {'type': 'ByteLevel', 'add_prefix_space': false, 'trim_offsets': true, 'use_regex': true}]},"
    " 'post_processor': null, 'decoder': {'type': 'ByteLevel', 'add_prefix_space': true, 'trim_offsets': true, 'use_regex': "
    "true},"
    " 'model': {'type': 'BPE', 'dropout': null, 'unk_token': '<|endoftext|>', 'continuing_subword_prefix': '',"
    " 'end_of_word_suffix': '</w>', 'fuse_unk': false, 'byte_fallback': false, 'ignore_merges': false}}";

static ot_status read_merges_file(ot_tokenizer *t, const char *path, ot_error *err) {
    char *text = NULL;
    int64_t size = 0, rank = 0;
    OT_TRY(ot_read_file(path, OT_TOK_MAX_FILE, &text, &size, err));
    ot_status status = OT_OK;
    if (!ot_utf8_valid(text, size)) status = ot_fail(err, OT_ERR_FORMAT, "%s: not UTF-8", path);
    for (int64_t at = 0; at < size && status == OT_OK;) {
        const char *line = text + at;
        const char *end = memchr(line, '\n', (size_t)(size - at));
        int64_t length = end == NULL ? size - at : end - line;
        at += length + 1;
        if (length > 0 && line[length - 1] == '\r') length--;
        if (length == 0 || (length >= 8 && memcmp(line, "#version", 8) == 0)) continue;
        status = ot_tok_add_merge_line(t, line, length, rank++, path, err);
    }
    ot_free(text);
    OT_TRY(status);
    return ot_tok_merges_finish(&t->merges, err);
}

static ot_status add_named(const ot_tokenizer *t, json_t *config, const char *name, ot_error *err) {
    int32_t id = ot_tok_vocab_find(&t->vocab, name, (int64_t)strlen(name));
    return id < 0 ? OT_OK : ot_tok_config_add(config, name, (int64_t)strlen(name), id, true, err);
}

/* Which family a bare vocabulary is of shows in its special tokens. */
ot_status ot_tok_finish_pair(ot_tokenizer *t, const char *where, ot_error *err) {
    int32_t start = ot_tok_vocab_find(&t->vocab, "<|startoftext|>", 15), end = ot_tok_vocab_find(&t->vocab, "<|endoftext|>", 13);
    int32_t before = -1, after = -1;
    bool opt = ot_tok_vocab_find(&t->vocab, "</s>", 4) == 2;
    OT_TRY(ot_tok_config_from(start >= 0 ? CLIP_CONFIG : BYTE_LEVEL_CONFIG, &t->config, err));
    if (start >= 0) {
        t->word_suffix = ot_arena_strdup(&t->arena, "</w>", err);
        if (t->word_suffix == NULL) return OT_ERR_MEMORY;
        t->word_suffix_size = 4;
        t->unk = end;
        OT_TRY(add_named(t, t->config, "<|startoftext|>", err));
        OT_TRY(add_named(t, t->config, "<|endoftext|>", err));
        t->bos = before = start;
        t->eos = after = end;
    } else if (opt) {
        OT_TRY(add_named(t, t->config, "<pad>", err));
        OT_TRY(add_named(t, t->config, "</s>", err));
        t->bos = t->eos = before = 2;
    } else {
        OT_TRY(add_named(t, t->config, "<|endoftext|>", err));
        t->bos = t->eos = end;
    }
    OT_TRY(ot_tok_config_template(t, t->config, before, after, err));
    return ot_tok_configure(t, t->config, where, err);
}

ot_status ot_tok_load_pair(ot_tokenizer *t, const char *vocab_path, const char *merges_path, ot_error *err) {
    char *text = NULL;
    int64_t size = 0;
    json_t *vocab = NULL;
    uint32_t nul = 0;
    OT_TRY(ot_read_file(vocab_path, OT_TOK_MAX_FILE, &text, &size, err));
    ot_status status = parse(text, size, vocab_path, &vocab, &nul, err);
    ot_free(text);
    OT_TRY(status);
    status = read_vocab(t, vocab, nul, vocab_path, err);
    json_decref(vocab);
    OT_TRY(status);
    OT_TRY(read_merges_file(t, merges_path, err));
    return ot_tok_finish_pair(t, vocab_path, err);
}
