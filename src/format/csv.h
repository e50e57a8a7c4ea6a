/* Comma-separated values as RFC 4180 writes them: fields in quotes may hold commas, doubled quotes and line breaks; lines end with \n or \r\n. */
#ifndef OT_FORMAT_CSV_H
#define OT_FORMAT_CSV_H

#include "base/mem.h"

enum { OT_CSV_MAX_FIELDS = 256, OT_CSV_MAX_FIELD = 1 << 16 };

typedef struct ot_csv {
    const char *text;
    int64_t size, at;
    int64_t line; /* where the row last read begins, from 1 */
    int64_t next_line;
    const char *where;
    char *fields[OT_CSV_MAX_FIELDS]; /* of the row last read; they lie in buffer */
    int n_fields;
    char *buffer;
    int64_t room;
} ot_csv;

/* text must outlive the reader; a byte-order mark is skipped. */
void ot_csv_open(const char *text, int64_t size, const char *where, ot_csv *out);
void ot_csv_close(ot_csv *c);
/* The next row that is not blank, or *found false at the end. */
ot_status ot_csv_next(ot_csv *c, bool *found, ot_error *err);

#endif
