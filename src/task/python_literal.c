#include "task/python_literal.h"

#include <errno.h>
#include <stdlib.h>

#include "format/unicode.h"

enum { MAX_DEPTH = 32, NUMBER_TEXT = 64 };

typedef struct reader {
    ot_str s;
    int64_t at;
    int depth;
    ot_error *err;
} reader;

static ot_status wrong(const reader *r, const char *what) {
    return ot_fail_at(r->err, OT_ERR_FORMAT, r->at, "not a Python literal at byte %lld: %s", (long long)r->at, what);
}

static char peek(const reader *r) { return r->at < r->s.size ? r->s.text[r->at] : '\0'; }

static void skip_space(reader *r) {
    while (r->at < r->s.size && strchr(" \t\r\n\f", r->s.text[r->at]) != NULL && r->s.text[r->at] != '\0') r->at++;
}

static bool take(reader *r, char c) {
    skip_space(r);
    if (peek(r) != c || r->at >= r->s.size) return false;
    r->at++;
    return true;
}

static ot_status read_value(reader *r, json_t **out);

/* ==== Texts. ==== */

typedef struct buffer {
    char *text;
    int64_t size, capacity;
} buffer;

static ot_status put(buffer *b, const char *text, int64_t n, ot_error *err) {
    OT_TRY(ot_grow((void **)&b->text, &b->capacity, b->size + n, 1, "a text", err));
    memcpy(b->text + b->size, text, (size_t)n);
    b->size += n;
    return OT_OK;
}

static int hex(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; }

static ot_status put_code(reader *r, buffer *b, uint32_t code) {
    char bytes[4];
    if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return wrong(r, "an escape that is no character");
    return put(b, bytes, ot_utf8_put(code, bytes), r->err);
}

/* After the backslash. */
static ot_status read_escape(reader *r, buffer *b) {
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    if (r->at >= r->s.size) return wrong(r, "the text does not end");
    char c = r->s.text[r->at++];
    const char *simple = c != '\0' ? strchr(from, c) : NULL;
    if (simple != NULL) return put(b, &to[simple - from], 1, r->err);
    if (c == '\n') return OT_OK;
    int digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    uint32_t code = 0;
    if (digits > 0) {
        for (int i = 0; i < digits; i++, r->at++) {
            int digit = r->at < r->s.size ? hex(r->s.text[r->at]) : -1;
            if (digit < 0) return wrong(r, "an escape with too few hexadecimal digits");
            code = code * 16 + (uint32_t)digit;
        }
        return put_code(r, b, code);
    }
    if (c >= '0' && c <= '7') {
        code = (uint32_t)(c - '0');
        for (int i = 1; i < 3 && peek(r) >= '0' && peek(r) <= '7'; i++) code = code * 8 + (uint32_t)(r->s.text[r->at++] - '0');
        return put_code(r, b, code);
    }
    if (c == 'N') return wrong(r, "characters by name (\\N) are not read: write the character itself");
    OT_TRY(put(b, "\\", 1, r->err));
    r->at--;
    return OT_OK;
}

static ot_status read_quoted(reader *r, buffer *b, bool raw) {
    char quote = r->s.text[r->at];
    bool triple = r->s.size - r->at >= 3 && r->s.text[r->at + 1] == quote && r->s.text[r->at + 2] == quote;
    int64_t width = triple ? 3 : 1;
    r->at += width;
    while (r->at < r->s.size) {
        const char *p = r->s.text + r->at;
        if (*p == quote && (!triple || (r->s.size - r->at >= 3 && p[1] == quote && p[2] == quote))) {
            r->at += width;
            return OT_OK;
        }
        if (*p == '\n' && !triple) return wrong(r, "a line end inside a text");
        if (*p == '\\' && !raw) {
            r->at++;
            OT_TRY(read_escape(r, b));
            continue;
        }
        int64_t n = *p == '\\' && r->s.size - r->at > 1 ? 2 : 1; /* raw: the backslash keeps the quote behind it */
        OT_TRY(put(b, p, n, r->err));
        r->at += n;
    }
    return wrong(r, "the text does not end");
}

/* Bytes before the quote of a text that begins here: 0 or 1 (r, u); -1: none begins. */
static int text_prefix(const reader *r) {
    char c = peek(r), next = r->at + 1 < r->s.size ? r->s.text[r->at + 1] : '\0';
    if (c == '\'' || c == '"') return 0;
    return c != '\0' && strchr("rRuU", c) != NULL && (next == '\'' || next == '"') ? 1 : -1;
}

/* Texts that follow each other are one. */
static ot_status read_text(reader *r, json_t **out) {
    buffer b = {0};
    ot_status status = OT_OK;
    for (int prefix = text_prefix(r); status == OT_OK && prefix >= 0; prefix = text_prefix(r)) {
        bool raw = prefix == 1 && (peek(r) == 'r' || peek(r) == 'R');
        r->at += prefix;
        status = read_quoted(r, &b, raw);
        skip_space(r);
    }
    if (status == OT_OK) {
        *out = json_stringn(b.size > 0 ? b.text : "", (size_t)b.size);
        if (*out == NULL) status = wrong(r, "a text that is not UTF-8");
    }
    free(b.text);
    return status;
}

/* ==== Numbers and words. ==== */

static ot_status read_number(reader *r, json_t **out) {
    char text[NUMBER_TEXT];
    int64_t n = 0;
    for (const char *p = r->s.text + r->at; r->at + n < r->s.size && n < NUMBER_TEXT - 1; n++) {
        if (p[n] == '\0' || strchr("+-.0123456789eE", p[n]) == NULL) break;
    }
    memcpy(text, r->s.text + r->at, (size_t)n);
    text[n] = '\0';
    char *end = NULL;
    errno = 0;
    if (strpbrk(text, ".eE") == NULL) {
        long long value = strtoll(text, &end, 10);
        if (errno == 0 && end == text + n && n > 0) *out = json_integer(value);
    } else {
        double value = strtod(text, &end);
        if (end == text + n) *out = json_real(value);
    }
    if (*out == NULL) return wrong(r, "expected a text, a number, a list or a dictionary");
    r->at += n;
    return OT_OK;
}

static bool read_word(reader *r, const char *word, json_t *value, json_t **out) {
    ot_str rest = {r->s.text + r->at, r->s.size - r->at};
    if (!ot_str_begins(rest, ot_str_of(word))) return false;
    r->at += (int64_t)strlen(word);
    *out = value;
    return true;
}

/* ==== Lists and dictionaries. ==== */

static ot_status read_list(reader *r, char close, json_t *list) {
    while (!take(r, close)) {
        json_t *item = NULL;
        OT_TRY(read_value(r, &item));
        if (json_array_append_new(list, item) != 0) return ot_fail_memory(r->err, 64, "a list");
        if (take(r, ',')) continue;
        if (!take(r, close)) return wrong(r, "expected a comma or the end of the list");
        break;
    }
    return OT_OK;
}

static ot_status read_entry(reader *r, json_t *object) {
    json_t *key = NULL, *value = NULL;
    skip_space(r);
    if (text_prefix(r) < 0) return wrong(r, "a dictionary's keys must be texts");
    OT_TRY(read_text(r, &key));
    ot_status status = take(r, ':') ? read_value(r, &value) : wrong(r, "expected a colon after the key");
    if (status == OT_OK && json_object_setn_new(object, json_string_value(key), json_string_length(key), value) != 0) {
        status = ot_fail_memory(r->err, 64, "a dictionary");
    }
    json_decref(key);
    return status;
}

static ot_status read_dict(reader *r, json_t *object) {
    while (!take(r, '}')) {
        OT_TRY(read_entry(r, object));
        if (take(r, ',')) continue;
        if (!take(r, '}')) return wrong(r, "expected a comma or the end of the dictionary");
        break;
    }
    return OT_OK;
}

static ot_status read_container(reader *r, char open, json_t **out) {
    if (r->depth >= MAX_DEPTH) return wrong(r, "nested too deep");
    json_t *value = open == '{' ? json_object() : json_array();
    if (value == NULL) return ot_fail_memory(r->err, 64, "a list");
    r->depth++;
    ot_status status = open == '{' ? read_dict(r, value) : read_list(r, open == '[' ? ']' : ')', value);
    r->depth--;
    if (status == OT_OK) *out = value;
    else json_decref(value);
    return status;
}

static ot_status read_value(reader *r, json_t **out) {
    *out = NULL;
    skip_space(r);
    if (text_prefix(r) >= 0) return read_text(r, out);
    char c = peek(r);
    if (c == '[' || c == '(' || c == '{') {
        r->at++;
        return read_container(r, c, out);
    }
    if (read_word(r, "True", json_true(), out) || read_word(r, "False", json_false(), out) || read_word(r, "None", json_null(), out)) return OT_OK;
    return read_number(r, out);
}

ot_status ot_python_literal(ot_str text, json_t **out, ot_error *err) {
    reader r = {.s = text, .err = err};
    json_t *value = NULL;
    OT_TRY(read_value(&r, &value));
    skip_space(&r);
    if (r.at < text.size) {
        json_decref(value);
        return wrong(&r, "text after the end");
    }
    *out = value;
    return OT_OK;
}
