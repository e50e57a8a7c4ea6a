/* Pre-tokenizers: passes that cut the pieces of a text further, and the two that also rewrite them (ByteLevel turns bytes
 * into GPT-2's printable characters, Metaspace turns blanks into U+2581). */
#include <string.h>

#include "format/tokenizer_internal.h"
#include "format/unicode.h"

/* ==== GPT-2's printable characters for bytes ==== */

/* Printable Latin-1 bytes stand for themselves, the other 68 for U+0100 and on, in order. */
static bool stands_for_itself(int byte) {
    return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

static uint32_t byte_to_code(int byte) {
    if (stands_for_itself(byte)) return (uint32_t)byte;
    if (byte <= 0x20) return 0x100U + (uint32_t)byte;
    if (byte <= 0xA0) return 0x121U + (uint32_t)(byte - 0x7F);
    return 0x143U; /* 0xAD */
}

int ot_tok_from_byte_level(uint32_t code) {
    if (code < 0x100) return stands_for_itself((int)code) ? (int)code : -1;
    if (code <= 0x120) return (int)(code - 0x100);
    if (code <= 0x142) return (int)(code - 0x121) + 0x7F;
    return code == 0x143 ? 0xAD : -1;
}

ot_status ot_tok_to_byte_level(ot_tok_buf *out, const char *text, int64_t size, ot_error *err) {
    if (size > out->capacity - out->size) {
        if (size > INT64_MAX / 4) return ot_fail(err, OT_ERR_MEMORY, "a text of the tokenizer is too long");
    }
    if (size * 2 > out->capacity - out->size) {
        OT_TRY(ot_grow((void **)&out->data, &out->capacity, out->size + size * 2, 1, "a tokenizer's text", err));
    }
    char *p = out->data + out->size;
    for (int64_t i = 0; i < size; i++) {
        int byte = (unsigned char)text[i];
        if (byte >= '!' && byte <= '~') {
            *p++ = (char)byte;
        } else {
            p += ot_utf8_put(byte_to_code(byte), p);
        }
    }
    out->size = size > 0 ? p - out->data : out->size;
    return OT_OK;
}

/* ==== Cutting ==== */

/* Regular expressions and texts: matches and what lies between them, in order. */
static ot_status find_pattern(const ot_tok_pattern *pattern, ot_tok_work *w, const char *text, int64_t size) {
    ot_tok_cursor cursor = {0, -1};
    int64_t done = 0, start = 0, end = 0;
    bool found = false;
    for (;;) {
        OT_TRY(ot_tok_pattern_next(pattern, w->scan, text, size, &cursor, &found, &start, &end, w->err));
        if (!found) break;
        if (done < start) OT_TRY(ot_tok_spans_put(&w->matches, done, start, 0, false, w->err));
        OT_TRY(ot_tok_spans_put(&w->matches, start, end, 1, false, w->err));
        done = end;
    }
    return done < size ? ot_tok_spans_put(&w->matches, done, size, 0, false, w->err) : OT_OK;
}

/* Classes of characters: every character of the class is a match of its own. */
static ot_status find_class(bool (*belongs)(uint32_t), ot_tok_work *w, const char *text, int64_t size) {
    int64_t done = 0;
    for (int64_t at = 0; at < size;) {
        uint32_t code = 0;
        int n = ot_utf8_next(text + at, size - at, &code);
        if (belongs(code)) {
            if (done < at) OT_TRY(ot_tok_spans_put(&w->matches, done, at, 0, false, w->err));
            OT_TRY(ot_tok_spans_put(&w->matches, at, at + n, 1, false, w->err));
            done = at + n;
        }
        at += n;
    }
    return done < size ? ot_tok_spans_put(&w->matches, done, size, 0, false, w->err) : OT_OK;
}

/* Join w->matches as the behavior says, in place. */
static void join_matches(ot_tok_spans *m, ot_tok_behavior behavior) {
    bool previous = false;
    int64_t n = 0;
    if (behavior == OT_TOK_WITH_NEXT) { /* from the end: a match takes what follows it */
        n = m->count;
        for (int64_t i = m->count - 1; i >= 0; i--) {
            ot_tok_span s = m->data[i];
            bool match = s.id == 1;
            if (match && !previous && n < m->count) {
                m->data[n].start = s.start;
            } else {
                m->data[--n] = s;
            }
            previous = match;
        }
        memmove(m->data, m->data + n, (size_t)(m->count - n) * sizeof *m->data);
        m->count -= n;
        return;
    }
    for (int64_t i = 0; i < m->count; i++) {
        ot_tok_span s = m->data[i];
        bool match = s.id == 1;
        bool join = behavior == OT_TOK_CONTIGUOUS ? match == previous : match && !previous;
        if (join && n > 0) {
            m->data[n - 1].end = s.end;
        } else {
            m->data[n++] = s;
        }
        previous = match;
    }
    m->count = n;
}

/* w->matches lie relative to span p: cut it. */
static ot_status cut(ot_tok_work *w, const ot_tok_span *p, ot_tok_behavior behavior, bool invert) {
    ot_tok_spans *m = &w->matches;
    for (int64_t i = 0; invert && i < m->count; i++) m->data[i].id = !m->data[i].id;
    if (behavior == OT_TOK_WITH_PREVIOUS || behavior == OT_TOK_WITH_NEXT || behavior == OT_TOK_CONTIGUOUS)
        join_matches(m, behavior);
    for (int64_t i = 0; i < m->count; i++) {
        const ot_tok_span *s = &m->data[i];
        if (s->start == s->end || (behavior == OT_TOK_REMOVED && s->id == 1)) continue;
        OT_TRY(ot_tok_spans_put(&w->next_spans, p->start + s->start, p->start + s->end, -1, p->first && s->start == 0, w->err));
    }
    m->count = 0;
    return OT_OK;
}

static ot_status split_all(const ot_tokenizer *t, const ot_tok_step *step, ot_tok_work *w) {
    const ot_tok_pattern gpt2 = {.regex = t->gpt2};
    const ot_tok_pattern blank = {.text = step->content, .size = step->content_size};
    for (int64_t i = 0; i < w->spans.count; i++) {
        const ot_tok_span p = w->spans.data[i];
        if (p.id >= 0) {
            OT_TRY(ot_tok_spans_put(&w->next_spans, p.start, p.end, p.id, p.first, w->err));
            continue;
        }
        if (p.start == p.end) continue;
        const char *text = w->text.data + p.start;
        int64_t size = p.end - p.start;
        w->matches.count = 0;
        switch (step->kind) {
        case OT_TOK_BYTE_LEVEL: OT_TRY(find_pattern(&gpt2, w, text, size)); break;
        case OT_TOK_METASPACE: OT_TRY(find_pattern(&blank, w, text, size)); break;
        case OT_TOK_DIGITS: OT_TRY(find_class(ot_unicode_number, w, text, size)); break;
        case OT_TOK_SPLIT_SPACE: OT_TRY(find_class(ot_unicode_space, w, text, size)); break;
        case OT_TOK_SPLIT_PUNCT: OT_TRY(find_class(ot_unicode_punct, w, text, size)); break;
        default: OT_TRY(find_pattern(&step->pattern, w, text, size)); break;
        }
        OT_TRY(cut(w, &p, step->behavior, step->invert));
    }
    ot_tok_work_spans(w);
    return OT_OK;
}

/* ==== Rewriting ==== */

typedef ot_status rewrite_fn(const ot_tok_step *step, ot_tok_work *w, const char *text, int64_t size, bool first);

static ot_status rewrite_all(const ot_tok_step *step, ot_tok_work *w, rewrite_fn *fn) {
    for (int64_t i = 0; i < w->spans.count; i++) {
        const ot_tok_span p = w->spans.data[i];
        int64_t start = w->next_text.size;
        if (p.id < 0 && p.start < p.end) OT_TRY(fn(step, w, w->text.data + p.start, p.end - p.start, p.first));
        OT_TRY(ot_tok_spans_put(&w->next_spans, start, w->next_text.size, p.id, p.first, w->err));
    }
    ot_tok_work_text(w);
    return OT_OK;
}

static ot_status put_prefix_space(const ot_tok_step *step, ot_tok_work *w, const char *text, int64_t size, bool first) {
    (void)step;
    (void)first;
    if (text[0] != ' ') OT_TRY(ot_tok_buf_put(&w->next_text, " ", 1, w->err));
    return ot_tok_buf_put(&w->next_text, text, size, w->err);
}

static ot_status put_bytes(const ot_tok_step *step, ot_tok_work *w, const char *text, int64_t size, bool first) {
    (void)step;
    (void)first;
    return ot_tok_to_byte_level(&w->next_text, text, size, w->err);
}

static ot_status put_metaspace(const ot_tok_step *step, ot_tok_work *w, const char *text, int64_t size, bool first) {
    bool begins = text[0] == ' ' || (size >= step->content_size && memcmp(text, step->content, (size_t)step->content_size) == 0);
    if (!begins && (step->scheme == OT_TOK_ALWAYS || (step->scheme == OT_TOK_FIRST && first))) {
        OT_TRY(ot_tok_buf_put(&w->next_text, step->content, step->content_size, w->err));
    }
    int64_t done = 0;
    while (done < size) {
        const char *blank = memchr(text + done, ' ', (size_t)(size - done));
        int64_t at = blank == NULL ? size : blank - text;
        OT_TRY(ot_tok_buf_put(&w->next_text, text + done, at - done, w->err));
        if (blank != NULL) OT_TRY(ot_tok_buf_put(&w->next_text, step->content, step->content_size, w->err));
        done = at + 1;
    }
    return OT_OK;
}

ot_status ot_tok_pre_tokenize(const ot_tokenizer *t, ot_tok_work *w) {
    for (int64_t s = 0; s < t->pre_tokenizers.count; s++) {
        const ot_tok_step *step = &t->pre_tokenizers.steps[s];
        if (step->kind == OT_TOK_BYTE_LEVEL) {
            if (step->prefix_space) OT_TRY(rewrite_all(step, w, put_prefix_space));
            if (step->split) OT_TRY(split_all(t, step, w));
            OT_TRY(rewrite_all(step, w, put_bytes));
        } else if (step->kind == OT_TOK_METASPACE) {
            OT_TRY(rewrite_all(step, w, put_metaspace));
            if (step->split) OT_TRY(split_all(t, step, w));
        } else {
            OT_TRY(split_all(t, step, w));
        }
    }
    return OT_OK;
}
