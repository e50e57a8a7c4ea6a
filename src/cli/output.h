/* Results on standard output: one JSON object for machines, aligned tables for people. */
#ifndef OT_CLI_OUTPUT_H
#define OT_CLI_OUTPUT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"

/* Streams one JSON value on one line. Numbers are %.9g, NaN and infinities null; strings are escaped, and invalid UTF-8 in them
 * becomes U+FFFD. `key` is the name inside an object and NULL inside an array and at the top. Nothing is allocated; write
 * errors latch in the stream and are reported by _close. Nesting deeper than 30, a key in an array, a missing key in an object
 * or an unclosed container is a bug of the caller and aborts. */
typedef struct ot_json_out {
    FILE *file;
    int depth;
    uint32_t objects, filled; /* bit of each depth: is an object; has an entry */
} ot_json_out;

ot_json_out ot_json_out_open(FILE *file);
void ot_json_out_object(ot_json_out *out, const char *key);
void ot_json_out_array(ot_json_out *out, const char *key);
void ot_json_out_end(ot_json_out *out); /* of the innermost object or array */
void ot_json_out_i64(ot_json_out *out, const char *key, int64_t value);
void ot_json_out_f64(ot_json_out *out, const char *key, double value);
void ot_json_out_bool(ot_json_out *out, const char *key, bool value);
void ot_json_out_null(ot_json_out *out, const char *key);
/* NULL text gives null. */
void ot_json_out_str(ot_json_out *out, const char *key, const char *text);
/* The same for text that may hold NULs. */
void ot_json_out_text(ot_json_out *out, const char *key, const char *text, size_t size);
/* Ends what is still open, adds a newline, flushes, and reports write errors. */
ot_status ot_json_out_close(ot_json_out *out, ot_error *err);

/* Fails when anything written to standard output was lost (a full disk, say). main calls it after every verb. */
ot_status ot_output_flush(ot_error *err);

/* A table of text cells, printed with columns aligned. Rows are built cell by cell from the left; memory trouble latches and is
 * reported by _print. Zero-initialise through _begin. */
typedef enum ot_align { OT_LEFT, OT_RIGHT } ot_align;
typedef struct ot_column {
    const char *title; /* all NULL: no heading line */
    ot_align align;
} ot_column;
enum { OT_MAX_COLUMNS = 16 };
typedef struct ot_table {
    const ot_column *columns;
    int n_columns;
    char **cells; /* row by row */
    int64_t n_cells, capacity;
    ot_status status;
    int64_t least[OT_MAX_COLUMNS]; /* width of a column whose cells are narrower: lines of several tables then stand below each other */
} ot_table;
/* columns must outlive the table. */
ot_table ot_table_begin(const ot_column *columns, int n_columns);
void ot_table_cell(ot_table *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Prints and frees. */
ot_status ot_table_print(ot_table *t, FILE *file, ot_error *err);
void ot_table_free(ot_table *t);

#endif
