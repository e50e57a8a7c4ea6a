#include "task/rows.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "format/json.h"

static const int64_t FILE_LIMIT = (int64_t)2 << 30, LINE_LIMIT = (int64_t)16 << 20;

ot_status ot_rows_begin(const char *path, ot_rows *out, ot_error *err) {
    *out = (ot_rows){.path = strdup(path)};
    return out->path == NULL ? ot_fail_memory(err, strlen(path), "a path") : OT_OK;
}

ot_status ot_rows_add(ot_rows *rows, json_t *value, int64_t line, ot_error *err) {
    ot_status status = ot_grow((void **)&rows->items, &rows->capacity, rows->count + 1, sizeof *rows->items, "the rows of a task", err);
    if (status == OT_OK) rows->items[rows->count++] = (ot_row){.value = value, .line = line, .path = rows->path};
    else json_decref(value);
    return status;
}

static ot_status parse_line(ot_rows *rows, const char *text, int64_t size, int64_t line, ot_error *err) {
    char where[4200];
    snprintf(where, sizeof where, "%.4096s:%lld", rows->path, (long long)line);
    if (size > LINE_LIMIT) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: a row of %lld bytes; the longest allowed has %lld", where, (long long)size, (long long)LINE_LIMIT);
    }
    json_t *value = NULL;
    OT_TRY(ot_json_parse(text, size, where, &value, err));
    if (!json_is_object(value)) {
        json_decref(value);
        return ot_fail(err, OT_ERR_FORMAT, "%s: each line must be a JSON object with the fields of one document", where);
    }
    return ot_rows_add(rows, value, line, err);
}

static bool blank(const char *text, int64_t size) {
    for (int64_t i = 0; i < size; i++) {
        if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r') return false;
    }
    return true;
}

ot_status ot_rows_parse(const char *text, int64_t size, const char *path, ot_rows *out, ot_error *err) {
    ot_rows rows;
    OT_TRY(ot_rows_begin(path, &rows, err));
    ot_status status = OT_OK;
    int64_t line = 0;
    for (int64_t from = 0; status == OT_OK && from < size;) {
        const char *end = memchr(text + from, '\n', (size_t)(size - from));
        int64_t length = (end != NULL ? end - text : size) - from;
        line++;
        if (!blank(text + from, length)) status = parse_line(&rows, text + from, length, line, err);
        from += length + 1;
    }
    if (status == OT_OK && rows.count == 0) status = ot_fail(err, OT_ERR_FORMAT, "%s is empty: it needs one JSON object a line", path);
    if (status != OT_OK) {
        ot_rows_free(&rows);
        return status;
    }
    *out = rows;
    return OT_OK;
}

ot_status ot_rows_read(const char *path, ot_rows *out, ot_error *err) {
    char *text = NULL;
    int64_t size = 0;
    OT_TRY(ot_read_file(path, FILE_LIMIT, &text, &size, err));
    ot_status status = ot_rows_parse(text, size, path, out, err);
    ot_free(text);
    return status;
}

void ot_rows_free(ot_rows *rows) {
    for (int64_t i = 0; i < rows->count; i++) json_decref(rows->items[i].value);
    free(rows->items);
    free(rows->path);
    *rows = (ot_rows){0};
}

ot_status ot_row_fail(const ot_row *row, ot_error *err, const char *format, ...) {
    char text[OT_ERROR_TEXT];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    return ot_fail(err, OT_ERR_FORMAT, "%s:%lld: %s", row->path, (long long)row->line, text);
}

ot_str ot_json_text(const json_t *value) { return (ot_str){json_string_value(value), (int64_t)json_string_length(value)}; }

static const char *kind_of(const json_t *value) {
    if (value == NULL || json_is_null(value)) return "missing";
    return json_is_string(value)    ? "a text"
           : json_is_array(value)   ? "a list"
           : json_is_object(value)  ? "an object"
           : json_is_boolean(value) ? "true or false"
                                    : "a number";
}

ot_status ot_row_text(const ot_row *row, const char *field, ot_str *out, ot_error *err) {
    const json_t *value = json_object_get(row->value, field);
    if (!json_is_string(value)) return ot_row_fail(row, err, "the field \"%s\" must be a text; it is %s", field, kind_of(value));
    *out = ot_json_text(value);
    return OT_OK;
}

ot_status ot_row_texts(const ot_row *row, const char *of, const char *field, ot_arena *arena, ot_str **out, int64_t *n, ot_error *err) {
    const json_t *holder = of != NULL ? json_object_get(row->value, of) : row->value;
    const char *outer = of != NULL ? of : "", *dot = of != NULL ? "." : "";
    if (!json_is_object(holder)) {
        return ot_row_fail(row, err, "the field \"%s\" must be an object with \"%s\"; it is %s", outer, field, kind_of(holder));
    }
    const json_t *list = json_object_get(holder, field);
    if (!json_is_array(list)) {
        return ot_row_fail(row, err, "the field \"%s%s%s\" must be a list of texts; it is %s", outer, dot, field, kind_of(list));
    }
    int64_t count = (int64_t)json_array_size(list);
    if (count == 0) return ot_row_fail(row, err, "the list \"%s%s%s\" is empty", outer, dot, field);
    *out = ot_arena_alloc(arena, count * (int64_t)sizeof **out, err);
    if (*out == NULL) return OT_ERR_MEMORY;
    for (int64_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(list, (size_t)i);
        if (!json_is_string(item)) {
            return ot_row_fail(row, err, "entry %lld of \"%s%s%s\" must be a text; it is %s", (long long)i, outer, dot, field, kind_of(item));
        }
        (*out)[i] = ot_json_text(item);
    }
    *n = count;
    return OT_OK;
}

ot_status ot_row_index(const ot_row *row, const char *field, int64_t n, int64_t *out, ot_error *err) {
    const json_t *value = json_object_get(row->value, field);
    int64_t index = -1;
    if (json_is_integer(value)) index = json_integer_value(value);
    if (json_is_string(value)) {
        const char *text = json_string_value(value);
        size_t length = json_string_length(value);
        if (length > 0 && length < 6 && strspn(text, "0123456789") == length) index = strtol(text, NULL, 10);
    }
    if (index < 0 || index >= n) {
        return ot_row_fail(row, err, "the field \"%s\" must be a number from 0 to %lld: which of the %lld choices is right%s", field,
                           (long long)n - 1, (long long)n, value == NULL ? "; it is missing" : "");
    }
    *out = index;
    return OT_OK;
}
