#include "format/csv.h"

#include <string.h>

void ot_csv_open(const char *text, int64_t size, const char *where, ot_csv *out) {
    *out = (ot_csv){.text = text, .size = size, .next_line = 1, .where = where};
    if (size >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) out->at = 3;
}

void ot_csv_close(ot_csv *c) {
    ot_free(c->buffer);
    *c = (ot_csv){0};
}

static ot_status fail(const ot_csv *c, const char *what, ot_error *err) {
    return ot_fail_at(err, OT_ERR_FORMAT, c->at, "%s:%lld: %s", c->where, (long long)c->line, what);
}

/* Where the row that begins here ends: at a line break outside of quotes, or at the end. */
static int64_t row_end(const ot_csv *c) {
    bool quoted = false;
    for (int64_t i = c->at; i < c->size; i++) {
        if (c->text[i] == '"') quoted = !quoted;
        if (c->text[i] == '\n' && !quoted) return i;
    }
    return c->size;
}

/* A field from `at` on, put at `to`; *at: behind it. */
static ot_status take_field(ot_csv *c, int64_t *at, int64_t end, char **to, ot_error *err) {
    char *begin = *to;
    bool quoted = *at < end && c->text[*at] == '"';
    int64_t i = *at + quoted;
    bool closed = !quoted;
    for (; i < end && (quoted ? !closed : c->text[i] != ','); i++) {
        char ch = c->text[i];
        if (ch == '\0') return fail(c, "a NUL byte: is it a CSV file?", err);
        if (quoted && ch == '"') {
            if (i + 1 >= end || c->text[i + 1] != '"') {
                closed = true;
                continue;
            }
            i++;
        } else if (!quoted && ch == '"') {
            return fail(c, "a quote inside of a field that does not begin with one", err);
        }
        *(*to)++ = ch;
    }
    if (!closed) return fail(c, "a quote is not closed", err);
    if (i < end && c->text[i] != ',') return fail(c, "text behind a field's closing quote", err);
    if (*to - begin > OT_CSV_MAX_FIELD) return fail(c, "a field is longer than 65536 bytes", err);
    *(*to)++ = '\0';
    *at = i;
    return OT_OK;
}

ot_status ot_csv_next(ot_csv *c, bool *found, ot_error *err) {
    *found = false;
    while (c->at < c->size && (c->text[c->at] == '\n' || (c->text[c->at] == '\r' && c->at + 1 < c->size && c->text[c->at + 1] == '\n'))) {
        c->next_line += c->text[c->at++] == '\n';
    }
    if (c->at >= c->size) return OT_OK;
    c->line = c->next_line;
    int64_t end = row_end(c), next = end < c->size ? end + 1 : end, at = c->at;
    for (int64_t i = c->at; i < next; i++) c->next_line += c->text[i] == '\n';
    if (end > at && c->text[end - 1] == '\r') end--;
    OT_TRY(ot_grow((void **)&c->buffer, &c->room, end - at + 2 + OT_CSV_MAX_FIELDS, 1, "a row of a CSV file", err));
    char *to = c->buffer;
    c->n_fields = 0;
    for (;;) {
        if (c->n_fields == OT_CSV_MAX_FIELDS) return fail(c, "more than 256 fields", err);
        c->fields[c->n_fields++] = to;
        OT_TRY(take_field(c, &at, end, &to, err));
        if (at >= end) break;
        at++;
    }
    c->at = next;
    *found = true;
    return OT_OK;
}
