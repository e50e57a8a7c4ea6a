/* See output.h. */
#include "cli/output.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/mem.h"
#include "cli/text.h"

enum { MAX_DEPTH = 30 };

static void bug(const char *what) {
    fprintf(stderr, "offsite: internal error: JSON output: %s\n", what);
    abort();
}

static void put_string(FILE *f, const char *text, size_t size) {
    fputc('"', f);
    for (size_t i = 0; i < size;) {
        utf8proc_int32_t c = 0;
        utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)text + i, (utf8proc_ssize_t)(size - i), &c);
        if (n <= 0) {
            fputs("\xEF\xBF\xBD", f);
            i++;
            continue;
        }
        switch (c) {
        case '"': fputs("\\\"", f); break;
        case '\\': fputs("\\\\", f); break;
        case '\n': fputs("\\n", f); break;
        case '\r': fputs("\\r", f); break;
        case '\t': fputs("\\t", f); break;
        default:
            if (c < 0x20 || c == 0x7F) {
                fprintf(f, "\\u%04x", (unsigned)c);
            } else {
                fwrite(text + i, 1, (size_t)n, f);
            }
        }
        i += (size_t)n;
    }
    fputc('"', f);
}

/* The comma and the key before any value. */
static void entry(ot_json_out *out, const char *key) {
    uint32_t bit = 1U << out->depth;
    bool in_object = (out->objects & bit) != 0;
    if (in_object && key == NULL) bug("a value in an object has no key");
    if (!in_object && key != NULL) bug("a key outside an object");
    if ((out->filled & bit) != 0) {
        if (out->depth == 0) bug("a second value at the top");
        fputs(", ", out->file);
    }
    out->filled |= bit;
    if (key != NULL) {
        put_string(out->file, key, strlen(key));
        fputs(": ", out->file);
    }
}

static void open_container(ot_json_out *out, const char *key, bool object) {
    entry(out, key);
    if (out->depth >= MAX_DEPTH) bug("nested too deep");
    out->depth++;
    uint32_t bit = 1U << out->depth;
    out->objects = object ? out->objects | bit : out->objects & ~bit;
    out->filled &= ~bit;
    fputc(object ? '{' : '[', out->file);
}

ot_json_out ot_json_out_open(FILE *file) { return (ot_json_out){.file = file}; }
void ot_json_out_object(ot_json_out *out, const char *key) { open_container(out, key, true); }
void ot_json_out_array(ot_json_out *out, const char *key) { open_container(out, key, false); }

void ot_json_out_end(ot_json_out *out) {
    if (out->depth == 0) bug("nothing to end");
    fputc((out->objects & (1U << out->depth)) != 0 ? '}' : ']', out->file);
    out->depth--;
}

void ot_json_out_i64(ot_json_out *out, const char *key, int64_t value) {
    entry(out, key);
    fprintf(out->file, "%" PRId64, value);
}

void ot_json_out_f64(ot_json_out *out, const char *key, double value) {
    entry(out, key);
    if (isfinite(value)) {
        fprintf(out->file, "%.9g", value);
    } else {
        fputs("null", out->file);
    }
}

void ot_json_out_bool(ot_json_out *out, const char *key, bool value) {
    entry(out, key);
    fputs(value ? "true" : "false", out->file);
}

void ot_json_out_null(ot_json_out *out, const char *key) {
    entry(out, key);
    fputs("null", out->file);
}

void ot_json_out_text(ot_json_out *out, const char *key, const char *text, size_t size) {
    entry(out, key);
    put_string(out->file, text, size);
}

void ot_json_out_str(ot_json_out *out, const char *key, const char *text) {
    if (text == NULL) {
        ot_json_out_null(out, key);
    } else {
        ot_json_out_text(out, key, text, strlen(text));
    }
}

ot_status ot_json_out_close(ot_json_out *out, ot_error *err) {
    while (out->depth > 0) ot_json_out_end(out);
    fputc('\n', out->file);
    errno = 0;
    if (fflush(out->file) != 0 || ferror(out->file))
        return ot_fail_errno(err, errno != 0 ? errno : EIO, "writing the JSON result failed");
    return OT_OK;
}

ot_status ot_output_flush(ot_error *err) {
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout)) return OT_OK;
    return ot_fail_errno(err, errno != 0 ? errno : EIO, "writing to standard output failed");
}

/* ==== Tables ==== */

ot_table ot_table_begin(const ot_column *columns, int n_columns) {
    return (ot_table){.columns = columns, .n_columns = n_columns};
}

void ot_table_cell(ot_table *t, const char *format, ...) {
    if (t->status != OT_OK) return;
    if (ot_grow((void **)&t->cells, &t->capacity, t->n_cells + 1, (int64_t)sizeof *t->cells, "a table", NULL) != OT_OK) {
        t->status = OT_ERR_MEMORY;
        return;
    }
    va_list list;
    va_start(list, format);
    char *text = NULL;
    if (vasprintf(&text, format, list) < 0) {
        t->status = OT_ERR_MEMORY;
    } else {
        t->cells[t->n_cells++] = text;
    }
    va_end(list);
}

static const char *cell_text(const ot_table *t, int64_t row, int column) {
    if (row < 0) return t->columns[column].title != NULL ? t->columns[column].title : "";
    int64_t at = row * t->n_columns + column;
    return at < t->n_cells ? t->cells[at] : "";
}

ot_status ot_table_print(ot_table *t, FILE *file, ot_error *err) {
    if (t->status != OT_OK) {
        ot_table_free(t);
        return ot_fail_memory(err, 4096, "a table");
    }
    int64_t widths[OT_MAX_COLUMNS] = {0};
    int n = t->n_columns < OT_MAX_COLUMNS ? t->n_columns : OT_MAX_COLUMNS;
    int64_t rows = n > 0 ? (t->n_cells + t->n_columns - 1) / t->n_columns : 0;
    bool heading = false;
    for (int c = 0; c < n; c++) {
        heading = heading || t->columns[c].title != NULL;
        widths[c] = t->least[c];
        for (int64_t r = -1; r < rows; r++) {
            int64_t w = ot_text_width(cell_text(t, r, c));
            if (w > widths[c]) widths[c] = w;
        }
    }
    for (int64_t r = heading ? -1 : 0; r < rows; r++) {
        int64_t gap = 0; /* blanks owed before the next cell: none are left at the end of a line */
        for (int c = 0; c < n; c++) {
            const char *text = cell_text(t, r, c);
            int64_t slack = widths[c] - ot_text_width(text);
            if (t->columns[c].align == OT_RIGHT) gap += slack;
            if (*text != '\0') {
                fprintf(file, "%*s", (int)gap, "");
                ot_put_safe(file, text);
                gap = 0;
            } else if (t->columns[c].align == OT_RIGHT) {
                slack = 0;
            }
            gap += (t->columns[c].align == OT_LEFT ? slack : 0) + 2;
        }
        fputc('\n', file);
    }
    ot_table_free(t);
    return OT_OK;
}

void ot_table_free(ot_table *t) {
    for (int64_t i = 0; i < t->n_cells; i++) free(t->cells[i]);
    ot_free(t->cells);
    *t = (ot_table){.columns = t->columns, .n_columns = t->n_columns};
}
