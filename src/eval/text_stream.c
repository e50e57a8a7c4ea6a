#include "eval/text_stream.h"

#include <string.h>

#include "base/mem.h"
#include "format/unicode.h"

/* Where the first stop begins in what is held, -1: nowhere. */
static int64_t find_stop(const ot_text_stream *s) {
    int64_t first = -1;
    for (int64_t i = 0; i < s->n_stops; i++) {
        size_t length = strlen(s->stops[i]);
        const char *hit = length > 0 && s->size > 0 ? memmem(s->held, (size_t)s->size, s->stops[i], length) : NULL;
        if (hit != NULL && (first < 0 || hit - s->held < first)) first = hit - s->held;
    }
    return first;
}

/* Bytes at the end that may be the beginning of a stop. */
static int64_t stop_begins(const ot_text_stream *s) {
    int64_t longest = 0;
    for (int64_t i = 0; i < s->n_stops; i++) {
        int64_t length = (int64_t)strlen(s->stops[i]);
        for (int64_t n = length - 1 < s->size ? length - 1 : s->size; n > longest; n--) {
            if (memcmp(s->held + s->size - n, s->stops[i], (size_t)n) == 0) longest = n;
        }
    }
    return longest;
}

/* Bytes at the end that may be the beginning of a character. */
static int64_t character_begins(const char *text, int64_t size) {
    for (int64_t n = 1; n <= 3 && n <= size; n++) {
        uint8_t c = (uint8_t)text[size - n];
        if ((c & 0xC0) == 0x80) continue;
        uint32_t code;
        bool leads = c >= 0xC2 && c <= 0xF4 && n < ot_utf8_length((char)c);
        /* Broken after all its bytes: more of them may mend it. */
        return leads && ot_utf8_next(text + size - n, n, &code) == -(int)n ? n : 0;
    }
    return 0;
}

static void pass_on(ot_text_stream *s, int64_t size) {
    static const char replacement[] = "\xEF\xBF\xBD";
    int64_t from = 0, at = 0;
    while (at < size) {
        uint32_t code;
        int n = ot_utf8_next(s->held + at, size - at, &code);
        if (n > 0) {
            at += n;
            continue;
        }
        if (at > from) s->put(s->context, s->held + from, at - from);
        s->put(s->context, replacement, (int64_t)sizeof replacement - 1);
        at += -n;
        from = at;
    }
    if (at > from) s->put(s->context, s->held + from, at - from);
    s->size -= size;
    if (s->size > 0) memmove(s->held, s->held + size, (size_t)s->size);
}

ot_status ot_text_stream_add(ot_text_stream *s, const char *bytes, int64_t size, ot_error *err) {
    if (s->stopped || size == 0) return OT_OK;
    OT_TRY(ot_grow((void **)&s->held, &s->capacity, s->size + size, 1, "generated text", err));
    memcpy(s->held + s->size, bytes, (size_t)size);
    s->size += size;
    int64_t stop = find_stop(s);
    if (stop >= 0) {
        pass_on(s, stop);
        s->stopped = true;
        s->size = 0;
        return OT_OK;
    }
    int64_t certain = s->size - stop_begins(s);
    certain -= character_begins(s->held, certain);
    pass_on(s, certain);
    return OT_OK;
}

void ot_text_stream_end(ot_text_stream *s) {
    if (!s->stopped) pass_on(s, s->size);
}

void ot_text_stream_free(ot_text_stream *s) {
    ot_free(s->held);
    s->held = NULL;
    s->size = s->capacity = 0;
}
