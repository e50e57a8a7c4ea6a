/* Normalizers: each is one pass over all pieces of the text into a new buffer. Unicode normal forms come from utf8proc. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "format/tokenizer_internal.h"
#include "format/tokenizer_unicode.h"
#include "format/unicode.h"

static bool is_ascii(const char *text, int64_t size) {
    for (int64_t i = 0; i < size; i++) {
        if ((unsigned char)text[i] >= 0x80) return false;
    }
    return true;
}

static bool is_inert(uint32_t code) {
    size_t low = 0, high = sizeof OT_TOK_INERT_RANGES / sizeof OT_TOK_INERT_RANGES[0];
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (code > OT_TOK_INERT_RANGES[middle][1]) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < sizeof OT_TOK_INERT_RANGES / sizeof OT_TOK_INERT_RANGES[0] && code >= OT_TOK_INERT_RANGES[low][0];
}

static ot_status map_form(ot_tok_step_kind kind, const char *text, int64_t size, ot_tok_buf *out, ot_error *err) {
    if (size == 0) return OT_OK;
    utf8proc_option_t options = kind == OT_TOK_NFC || kind == OT_TOK_NFKC ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
    if (kind == OT_TOK_NFKC || kind == OT_TOK_NFKD) options |= UTF8PROC_COMPAT;
    utf8proc_uint8_t *mapped = NULL;
    utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)size, &mapped, options | UTF8PROC_STABLE);
    if (n < 0)
        return ot_fail(err, OT_ERR_LIBRARY, "a text of %lld bytes cannot be normalized: %s", (long long)size, utf8proc_errmsg(n));
    ot_status status = ot_tok_buf_put(out, (const char *)mapped, (int64_t)n, err);
    free(mapped);
    return status;
}

/* Inert characters are passed through, and part what stands before them from what follows. */
static ot_status normal_form(ot_tok_step_kind kind, const char *text, int64_t size, ot_tok_buf *out, ot_error *err) {
    if (is_ascii(text, size)) return ot_tok_buf_put(out, text, size, err);
    int64_t done = 0;
    for (int64_t at = 0; at < size;) {
        uint32_t code = 0;
        int n = ot_utf8_next(text + at, size - at, &code);
        if (code >= OT_TOK_INERT_RANGES[0][0] && is_inert(code)) {
            OT_TRY(map_form(kind, text + done, at - done, out, err));
            OT_TRY(ot_tok_buf_put(out, text + at, n, err));
            done = at + n;
        }
        at += n;
    }
    return map_form(kind, text + done, size - done, out, err);
}

static ot_status lower(const char *text, int64_t size, ot_tok_buf *out, ot_error *err) {
    for (int64_t at = 0; at < size;) {
        uint32_t code = 0;
        at += ot_utf8_next(text + at, size - at, &code);
        char small[4];
        if (code == 0x130) { /* the one character whose small form is two */
            OT_TRY(ot_tok_buf_put(out, "i\xCC\x87", 3, err));
            continue;
        }
        uint32_t mapped =
            code < 0x80 ? (code >= 'A' && code <= 'Z' ? code + 32 : code) : (uint32_t)utf8proc_tolower((utf8proc_int32_t)code);
        OT_TRY(ot_tok_buf_put(out, small, ot_utf8_put(mapped, small), err));
    }
    return OT_OK;
}

static ot_status strip_marks(const char *text, int64_t size, ot_tok_buf *out, ot_error *err) {
    for (int64_t at = 0; at < size;) {
        uint32_t code = 0;
        int n = ot_utf8_next(text + at, size - at, &code);
        if (!ot_unicode_mark(code)) OT_TRY(ot_tok_buf_put(out, text + at, n, err));
        at += n;
    }
    return OT_OK;
}

static ot_status strip(const ot_tok_step *step, const char *text, int64_t size, ot_tok_buf *out, bool *lost_start,
                       ot_error *err) {
    int64_t start = 0, end = 0;
    bool seen = false;
    for (int64_t at = 0; at < size;) {
        uint32_t code = 0;
        at += ot_utf8_next(text + at, size - at, &code);
        if (!ot_unicode_space(code)) {
            seen = true;
            end = at;
        } else if (!seen) {
            start = at;
        }
    }
    if (!step->left) start = 0;
    if (!step->right) end = size;
    *lost_start = start > 0;
    return start < end ? ot_tok_buf_put(out, text + start, end - start, err) : OT_OK;
}

static ot_status replace(const ot_tok_step *step, ot_tok_scan *scan, const char *text, int64_t size, ot_tok_buf *out,
                         bool *lost_start, ot_error *err) {
    ot_tok_cursor cursor = {0, -1};
    int64_t done = 0, start = 0, end = 0;
    bool found = false;
    for (;;) {
        OT_TRY(ot_tok_pattern_next(&step->pattern, scan, text, size, &cursor, &found, &start, &end, err));
        if (!found) break;
        if (start == 0 && end > 0 && step->content_size == 0) *lost_start = true;
        OT_TRY(ot_tok_buf_put(out, text + done, start - done, err));
        OT_TRY(ot_tok_buf_put(out, step->content, step->content_size, err));
        done = end;
    }
    return ot_tok_buf_put(out, text + done, size - done, err);
}

static ot_status apply(const ot_tok_step *step, ot_tok_work *w, const char *text, int64_t size, bool *first) {
    bool lost_start = false;
    ot_tok_buf *out = &w->next_text;
    switch (step->kind) {
    case OT_TOK_NFC:
    case OT_TOK_NFD:
    case OT_TOK_NFKC:
    case OT_TOK_NFKD: return normal_form(step->kind, text, size, out, w->err);
    case OT_TOK_LOWER: return lower(text, size, out, w->err);
    case OT_TOK_STRIP_MARKS: return strip_marks(text, size, out, w->err);
    case OT_TOK_TO_BYTES: return ot_tok_to_byte_level(out, text, size, w->err);
    case OT_TOK_PREPEND:
        if (size > 0) OT_TRY(ot_tok_buf_put(out, step->content, step->content_size, w->err));
        return ot_tok_buf_put(out, text, size, w->err);
    case OT_TOK_STRIP: OT_TRY(strip(step, text, size, out, &lost_start, w->err)); break;
    default: OT_TRY(replace(step, w->scan, text, size, out, &lost_start, w->err)); break;
    }
    if (lost_start) *first = false;
    return OT_OK;
}

ot_status ot_tok_normalize(const ot_tokenizer *t, ot_tok_work *w) {
    for (int64_t s = 0; s < t->normalizers.count; s++) {
        for (int64_t i = 0; i < w->spans.count; i++) {
            ot_tok_span p = w->spans.data[i];
            int64_t start = w->next_text.size;
            if (p.id < 0) OT_TRY(apply(&t->normalizers.steps[s], w, w->text.data + p.start, p.end - p.start, &p.first));
            OT_TRY(ot_tok_spans_put(&w->next_spans, start, w->next_text.size, p.id, p.first, w->err));
        }
        ot_tok_work_text(w);
    }
    return OT_OK;
}
