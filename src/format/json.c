/* JSON: jansson does the parsing; this file owns the limits, the wording of errors and the writer. The writer is our own
 * because a number of a config must come back as it was written: jansson prints 1e-05 as 1.0000000000000001e-05. */
#include "format/json.h"

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

/* Far below what an int byte position of jansson can count, far above any header, config or tokenizer. */
static const int64_t MAX_TEXT = (int64_t)1 << 30;

static ot_status parse(const char *text, int64_t size, const char *where, bool large, json_t **out, ot_error *err) {
    if (size < 0 || size > MAX_TEXT) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: %lld bytes are too many for one JSON document", where, (long long)size);
    }
    json_error_t problem;
    const size_t flags = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL;
    json_t *value = json_loadb(text, (size_t)size, flags, &problem);
    if (value == NULL && large && json_error_code(&problem) == json_error_numeric_overflow) {
        value = json_loadb(text, (size_t)size, flags | JSON_DECODE_INT_AS_REAL, &problem);
    }
    if (value == NULL) {
        if (json_error_code(&problem) == json_error_out_of_memory) return ot_fail_memory(err, (uint64_t)size, where);
        /* The text quotes the input: keep control characters away from the reader's terminal. */
        for (char *c = problem.text; *c != '\0'; c++) {
            if ((unsigned char)*c < 0x20 || *c == 0x7F) *c = '?';
        }
        return ot_fail_at(err, OT_ERR_FORMAT, problem.position, "%s: not valid JSON at byte %d (line %d, column %d): %s", where,
                          problem.position, problem.line, problem.column, problem.text);
    }
    *out = value;
    return OT_OK;
}

ot_status ot_json_parse(const char *text, int64_t size, const char *where, json_t **out, ot_error *err) {
    return parse(text, size, where, false, out, err);
}

static ot_status read_file(const char *path, int64_t limit, bool large, json_t **out, ot_error *err) {
    char *text = NULL;
    int64_t size = 0;
    OT_TRY(ot_read_file(path, limit, &text, &size, err));
    ot_status status = parse(text, size, path, large, out, err);
    ot_free(text);
    return status;
}

ot_status ot_json_read(const char *path, int64_t limit, json_t **out, ot_error *err) { return read_file(path, limit, false, out, err); }
ot_status ot_json_read_large(const char *path, int64_t limit, json_t **out, ot_error *err) { return read_file(path, limit, true, out, err); }

/* ==== Writing ==== */

typedef struct sink {
    ot_writer *file;
    ot_error *err;
    ot_status status; /* the first failure; nothing is written after it */
} sink;

static void put(sink *s, const char *text, size_t size) {
    if (s->status == OT_OK) s->status = ot_writer_put(s->file, text, (int64_t)size, s->err);
}

static void put_text(sink *s, const char *text) { put(s, text, strlen(text)); }

static void put_string(sink *s, const char *text, size_t size) {
    put_text(s, "\"");
    size_t plain = 0;
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        char escape[8];
        if (c == '\n') {
            snprintf(escape, sizeof escape, "\\n");
        } else if (c == '"' || c == '\\') {
            snprintf(escape, sizeof escape, "\\%c", c);
        } else {
            snprintf(escape, sizeof escape, "\\u%04x", c);
        }
        put(s, text + plain, i - plain);
        put_text(s, escape);
        plain = i + 1;
    }
    put(s, text + plain, size - plain);
    put_text(s, "\"");
}

/* The shortest decimal that reads back as the same double, always with a point or an exponent so that it stays a real. */
static void put_real(sink *s, double value) {
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    put_text(s, text);
    if (strpbrk(text, ".e") == NULL) put_text(s, ".0");
}

static void put_line(sink *s, int depth) {
    put_text(s, "\n");
    for (int i = 0; i < depth; i++) put_text(s, "  ");
}

static void put_value(sink *s, const json_t *value, int depth);

static void put_object(sink *s, const json_t *object, int depth) {
    /* jansson's iterators want a non-const object though they do not change it. */
    json_t *o = (json_t *)(uintptr_t)object;
    put_text(s, "{");
    bool first = true;
    for (void *it = json_object_iter(o); it != NULL; it = json_object_iter_next(o, it)) {
        if (!first) put_text(s, ",");
        first = false;
        put_line(s, depth + 1);
        put_string(s, json_object_iter_key(it), json_object_iter_key_len(it));
        put_text(s, ": ");
        put_value(s, json_object_iter_value(it), depth + 1);
    }
    if (!first) put_line(s, depth);
    put_text(s, "}");
}

static void put_array(sink *s, const json_t *array, int depth) {
    size_t count = json_array_size(array);
    put_text(s, "[");
    for (size_t i = 0; i < count; i++) {
        if (i > 0) put_text(s, ",");
        put_line(s, depth + 1);
        put_value(s, json_array_get(array, i), depth + 1);
    }
    if (count > 0) put_line(s, depth);
    put_text(s, "]");
}

static void put_value(sink *s, const json_t *value, int depth) {
    if (s->status != OT_OK) return;
    if (depth > JSON_PARSER_MAX_DEPTH) {
        s->status = ot_fail(s->err, OT_ERR_FORMAT, "a JSON value nests deeper than %d levels", JSON_PARSER_MAX_DEPTH);
        return;
    }
    char number[32];
    switch (json_typeof(value)) {
    case JSON_OBJECT: put_object(s, value, depth); break;
    case JSON_ARRAY: put_array(s, value, depth); break;
    case JSON_STRING: put_string(s, json_string_value(value), json_string_length(value)); break;
    case JSON_INTEGER:
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
        put_text(s, number);
        break;
    case JSON_REAL: put_real(s, json_real_value(value)); break;
    case JSON_TRUE: put_text(s, "true"); break;
    case JSON_FALSE: put_text(s, "false"); break;
    case JSON_NULL: put_text(s, "null"); break;
    }
}

ot_status ot_json_write(const char *path, const json_t *value, ot_error *err) {
    /* Numbers must have a decimal point whatever locale the calling program has set. */
    locale_t plain = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0);
    if (plain == (locale_t)0) return ot_fail_memory(err, 0, "the C locale");
    sink s = {.err = err};
    s.status = ot_writer_open(path, &s.file, err);
    if (s.status != OT_OK) {
        freelocale(plain);
        return s.status;
    }
    locale_t before = uselocale(plain);
    put_value(&s, value, 0);
    put_text(&s, "\n");
    uselocale(before);
    freelocale(plain);
    if (s.status == OT_OK) s.status = ot_writer_commit(s.file, err);
    if (s.status != OT_OK) ot_writer_abort(s.file);
    return s.status;
}

/* ==== Typed getters ==== */

static const char *type_text(const json_t *value) {
    switch (json_typeof(value)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a real number";
    case JSON_TRUE:
    case JSON_FALSE: return "a truth value";
    case JSON_NULL: return "null";
    }
    return "nothing known";
}

/* *value is NULL when the key is absent or null. */
static ot_status lookup(const json_t *object, const char *key, const char *where, const json_t **value, bool *found,
                        ot_error *err) {
    if (!json_is_object(object)) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: expected a JSON object that may hold \"%s\", found %s", where, key,
                       object == NULL ? "nothing" : type_text(object));
    }
    const json_t *v = json_object_get(object, key);
    if (json_is_null(v)) v = NULL;
    if (found != NULL) *found = v != NULL;
    *value = v;
    return OT_OK;
}

static ot_status wrong_type(const char *where, const char *key, const char *wanted, const json_t *value, ot_error *err) {
    return ot_fail(err, OT_ERR_FORMAT, "%s: \"%s\" must be %s, not %s", where, key, wanted, type_text(value));
}

ot_status ot_json_i64(const json_t *object, const char *key, const char *where, int64_t *out, bool *found, ot_error *err) {
    const json_t *value = NULL;
    OT_TRY(lookup(object, key, where, &value, found, err));
    if (value == NULL) return OT_OK;
    if (!json_is_integer(value)) return wrong_type(where, key, "an integer", value, err);
    *out = json_integer_value(value);
    return OT_OK;
}

ot_status ot_json_f64(const json_t *object, const char *key, const char *where, double *out, bool *found, ot_error *err) {
    const json_t *value = NULL;
    OT_TRY(lookup(object, key, where, &value, found, err));
    if (value == NULL) return OT_OK;
    if (!json_is_number(value)) return wrong_type(where, key, "a number", value, err);
    *out = json_number_value(value);
    return OT_OK;
}

ot_status ot_json_bool(const json_t *object, const char *key, const char *where, bool *out, bool *found, ot_error *err) {
    const json_t *value = NULL;
    OT_TRY(lookup(object, key, where, &value, found, err));
    if (value == NULL) return OT_OK;
    if (!json_is_boolean(value)) return wrong_type(where, key, "true or false", value, err);
    *out = json_is_true(value);
    return OT_OK;
}

ot_status ot_json_str(const json_t *object, const char *key, const char *where, const char **out, bool *found, ot_error *err) {
    const json_t *value = NULL;
    OT_TRY(lookup(object, key, where, &value, found, err));
    if (value == NULL) return OT_OK;
    if (!json_is_string(value)) return wrong_type(where, key, "a string", value, err);
    *out = json_string_value(value);
    return OT_OK;
}
