/* The documents of a task: a JSONL file, one object a line, and getters that name file, line and field of what is wrong. */
#ifndef OT_TASK_ROWS_H
#define OT_TASK_ROWS_H

#include <jansson.h>

#include "task/str.h"

typedef struct ot_row {
    json_t *value; /* an object */
    int64_t line;  /* from 1 */
    const char *path;
} ot_row;

typedef struct ot_rows {
    ot_row *items;
    int64_t count, capacity;
    char *path;
} ot_rows;

/* Blank lines are passed over; a line that is no JSON object, a file without rows and lines above 16 MiB are refused. */
ot_status ot_rows_read(const char *path, ot_rows *out, ot_error *err);
/* The same from memory; `path` is for messages. */
ot_status ot_rows_parse(const char *text, int64_t size, const char *path, ot_rows *out, ot_error *err);
/* One more row, whose value is taken over (also on failure). */
ot_status ot_rows_add(ot_rows *rows, json_t *value, int64_t line, ot_error *err);
ot_status ot_rows_begin(const char *path, ot_rows *out, ot_error *err);
void ot_rows_free(ot_rows *rows);

/* "FILE:LINE: ..." */
ot_status ot_row_fail(const ot_row *row, ot_error *err, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* A field of the row, or of the object `in` of field `of` in it; absent and null are errors. */
ot_status ot_row_text(const ot_row *row, const char *field, ot_str *out, ot_error *err);
/* A list of texts, one at least; `of` (may be NULL): the object that holds it. The array is the arena's. */
ot_status ot_row_texts(const ot_row *row, const char *of, const char *field, ot_arena *arena, ot_str **out, int64_t *n, ot_error *err);
/* An integer, or a text of digits, below n. */
ot_status ot_row_index(const ot_row *row, const char *field, int64_t n, int64_t *out, ot_error *err);

/* The text of a JSON string. */
ot_str ot_json_text(const json_t *value);

#endif
