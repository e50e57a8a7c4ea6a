/* From ids back to text: the texts of the tokens go through the decoders, each a pass over all pieces. Also the stateless
 * piece-by-piece decoding that streamed output needs. */
#include <string.h>

#include "format/tokenizer_internal.h"
#include "format/unicode.h"

static const char REPLACEMENT[] = "\xEF\xBF\xBD";
enum { REPLACEMENT_SIZE = 3 };
static const char UNKNOWN[] = " \xE2\x81\x87 ";

const char *ot_tok_id_text(const ot_tokenizer *t, int64_t id, int64_t *size) {
    if (id >= 0 && id < t->id_count && t->added_by_id[id] > 0) {
        const ot_tok_added *a = &t->added[t->added_by_id[id] - 1];
        *size = a->decoded_size;
        return a->decoded;
    }
    return ot_tok_vocab_text(&t->vocab, id, size);
}

int ot_tok_byte_token(const char *text, int64_t size) {
    if (size != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') return -1;
    int value = 0;
    for (int i = 3; i < 5; i++) {
        char c = text[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                           : -1;
        if (digit < 0) return -1;
        value = value * 16 + digit;
    }
    return value;
}

ot_status ot_tok_put_lossy(ot_tok_buf *out, const char *text, int64_t size, ot_error *err) {
    int64_t done = 0;
    if (size == 0) return OT_OK;
    for (int64_t at = 0; at < size;) {
        uint32_t code;
        int n = ot_utf8_next(text + at, size - at, &code);
        if (n > 0) {
            at += n;
            continue;
        }
        OT_TRY(ot_tok_buf_put(out, text + done, at - done, err));
        OT_TRY(ot_tok_buf_put(out, REPLACEMENT, REPLACEMENT_SIZE, err));
        at -= n;
        done = at;
    }
    return ot_tok_buf_put(out, text + done, size - done, err);
}

/* Bytes of one token under ByteLevel: all its characters stand for bytes, or it is taken as it is. */
static ot_status put_byte_level(ot_tok_buf *out, const char *text, int64_t size, ot_error *err) {
    int64_t from = out->size;
    for (int64_t at = 0; at < size;) {
        uint32_t code = 0;
        int n = ot_utf8_next(text + at, size - at, &code);
        int byte = n > 0 ? ot_tok_from_byte_level(code) : -1;
        if (byte < 0) {
            out->size = from;
            return ot_tok_buf_put(out, text, size, err);
        }
        char c = (char)byte;
        OT_TRY(ot_tok_buf_put(out, &c, 1, err));
        at += n;
    }
    return OT_OK;
}

/* ==== Decoders: from w->text and w->spans to w->next_* ==== */

static ot_status finish_piece(ot_tok_work *w, int64_t start) {
    return ot_tok_spans_put(&w->next_spans, start, w->next_text.size, -1, false, w->err);
}

static ot_status decode_byte_level(ot_tok_work *w) {
    ot_tok_buf bytes = {0};
    ot_status status = OT_OK;
    for (int64_t i = 0; i < w->spans.count && status == OT_OK; i++) {
        const ot_tok_span *p = &w->spans.data[i];
        status = put_byte_level(&bytes, w->text.data + p->start, p->end - p->start, w->err);
    }
    if (status == OT_OK) status = ot_tok_put_lossy(&w->next_text, bytes.data, bytes.size, w->err);
    ot_tok_buf_free(&bytes);
    OT_TRY(status);
    return finish_piece(w, 0);
}

static ot_status decode_byte_fallback(ot_tok_work *w) {
    ot_tok_buf run = {0};
    ot_status status = OT_OK;
    for (int64_t i = 0; i <= w->spans.count && status == OT_OK; i++) {
        const ot_tok_span *p = i < w->spans.count ? &w->spans.data[i] : NULL;
        const char *text = p != NULL ? w->text.data + p->start : NULL;
        int byte = p != NULL ? ot_tok_byte_token(text, p->end - p->start) : -1;
        if (byte >= 0) {
            char c = (char)byte;
            status = ot_tok_buf_put(&run, &c, 1, w->err);
            continue;
        }
        if (run.size > 0) { /* all of the run is text, or every byte of it is broken */
            int64_t start = w->next_text.size;
            if (ot_utf8_valid(run.data, run.size)) {
                status = ot_tok_buf_put(&w->next_text, run.data, run.size, w->err);
                if (status == OT_OK) status = finish_piece(w, start);
            } else {
                for (int64_t k = 0; k < run.size && status == OT_OK; k++) {
                    start = w->next_text.size;
                    status = ot_tok_buf_put(&w->next_text, REPLACEMENT, REPLACEMENT_SIZE, w->err);
                    if (status == OT_OK) status = finish_piece(w, start);
                }
            }
            run.size = 0;
        }
        if (p != NULL && status == OT_OK) {
            int64_t start = w->next_text.size;
            status = ot_tok_buf_put(&w->next_text, text, p->end - p->start, w->err);
            if (status == OT_OK) status = finish_piece(w, start);
        }
    }
    ot_tok_buf_free(&run);
    return status;
}

static ot_status replace_text(ot_tok_buf *out, const ot_tok_step *step, const char *content, int64_t content_size,
                              ot_tok_scan *scan, const char *text, int64_t size, ot_error *err) {
    ot_tok_cursor cursor = {0, -1};
    int64_t done = 0, start = 0, end = 0;
    for (;;) {
        bool found = false;
        OT_TRY(ot_tok_pattern_next(&step->pattern, scan, text, size, &cursor, &found, &start, &end, err));
        if (!found) break;
        OT_TRY(ot_tok_buf_put(out, text + done, start - done, err));
        OT_TRY(ot_tok_buf_put(out, content, content_size, err));
        done = end;
    }
    return ot_tok_buf_put(out, text + done, size - done, err);
}

static ot_status decode_strip(const ot_tok_step *step, ot_tok_buf *out, const char *text, int64_t size, ot_error *err) {
    int64_t start = 0, end = size, n = step->content_size;
    for (int64_t i = 0; i < step->start && end - start >= n && memcmp(text + start, step->content, (size_t)n) == 0; i++)
        start += n;
    for (int64_t i = 0; i < step->stop && end - start >= n && memcmp(text + end - n, step->content, (size_t)n) == 0; i++)
        end -= n;
    return ot_tok_buf_put(out, text + start, end - start, err);
}

/* CLIP's ends of words become blanks, and blanks at the ends of the whole text go. */
static ot_status decode_clip(const ot_tok_step *step, ot_tok_work *w) {
    ot_tok_buf whole = {0};
    ot_status status = replace_text(&whole, step, " ", 1, w->scan, w->text.data, w->text.size, w->err);
    int64_t start = 0, end = 0;
    bool seen = false;
    for (int64_t at = 0; at < whole.size && status == OT_OK;) {
        uint32_t code = 0;
        int n = ot_utf8_next(whole.data + at, whole.size - at, &code);
        at += n > 0 ? n : 1;
        if (!ot_unicode_space(code) && !(code >= 0x1C && code <= 0x1F)) {
            seen = true;
            end = at;
        } else if (!seen) {
            start = at;
        }
    }
    if (status == OT_OK && end > start) status = ot_tok_buf_put(&w->next_text, whole.data + start, end - start, w->err);
    ot_tok_buf_free(&whole);
    OT_TRY(status);
    return finish_piece(w, 0);
}

static ot_status decode_pieces(const ot_tok_step *step, ot_tok_work *w) {
    const ot_tok_step blank = {.pattern = {.text = step->content, .size = step->content_size}};
    for (int64_t i = 0; i < w->spans.count; i++) {
        const ot_tok_span *p = &w->spans.data[i];
        const char *text = w->text.data + p->start;
        int64_t size = p->end - p->start, start = w->next_text.size;
        ot_tok_buf *out = &w->next_text;
        bool last = i + 1 == w->spans.count;
        switch (step->kind) {
        case OT_TOK_STRIP: OT_TRY(decode_strip(step, out, text, size, w->err)); break;
        case OT_TOK_METASPACE: {
            bool drop = i == 0 && step->scheme != OT_TOK_NEVER;
            OT_TRY(replace_text(out, &blank, " ", drop ? 0 : 1, w->scan, text, size, w->err));
            break;
        }
        case OT_TOK_WORD_END: OT_TRY(replace_text(out, &blank, " ", last ? 0 : 1, w->scan, text, size, w->err)); break;
        default: OT_TRY(replace_text(out, step, step->content, step->content_size, w->scan, text, size, w->err)); break;
        }
        OT_TRY(finish_piece(w, start));
    }
    return OT_OK;
}

/* sentencepiece's own rules: the dummy blank at the beginning goes (all leading ones where it removes extra blanks), bytes
 * are joined and each broken one is U+FFFD; the unknown token (step->content) is a double question mark. step->prefix_space: a
 * blank was put in front; step->split: extra ones removed. */
static ot_status decode_sentencepiece(const ot_tok_step *step, ot_tok_work *w) {
    bool at_start = true;
    ot_tok_buf *out = &w->next_text;
    for (int64_t i = 0; i < w->spans.count;) {
        const ot_tok_span *p = &w->spans.data[i];
        const char *text = w->text.data + p->start;
        int64_t size = p->end - p->start;
        if (ot_tok_byte_token(text, size) >= 0) {
            char run[4];
            int n = 0;
            uint32_t code = 0;
            for (; n < 4 && i + n < w->spans.count; n++) {
                const ot_tok_span *q = &w->spans.data[i + n];
                int byte = ot_tok_byte_token(w->text.data + q->start, q->end - q->start);
                if (byte < 0) break;
                run[n] = (char)byte;
            }
            int used = ot_utf8_next(run, n, &code);
            OT_TRY(used > 0 ? ot_tok_buf_put(out, run, used, w->err)
                            : ot_tok_buf_put(out, REPLACEMENT, REPLACEMENT_SIZE, w->err));
            i += used > 0 ? used : 1;
            at_start = false;
            continue;
        }
        i++;
        if (size == step->content_size && memcmp(text, step->content, (size_t)size) == 0) {
            OT_TRY(ot_tok_buf_put(out, UNKNOWN, (int64_t)sizeof UNKNOWN - 1, w->err));
            at_start = false;
            continue;
        }
        bool eats = at_start && (step->prefix_space || step->split) && size >= OT_TOK_BLANK_SIZE &&
                    memcmp(text, OT_TOK_BLANK, OT_TOK_BLANK_SIZE) == 0;
        if (eats) {
            text += OT_TOK_BLANK_SIZE;
            size -= OT_TOK_BLANK_SIZE;
        }
        OT_TRY(replace_text(out, step, " ", 1, w->scan, text, size, w->err));
        if ((eats && !step->split) || out->size > 0) at_start = false;
    }
    return finish_piece(w, 0);
}

static ot_status decode_step(const ot_tok_step *step, ot_tok_work *w) {
    switch (step->kind) {
    case OT_TOK_BYTE_LEVEL: return decode_byte_level(w);
    case OT_TOK_BYTE_FALLBACK: return decode_byte_fallback(w);
    case OT_TOK_CLIP: return decode_clip(step, w);
    case OT_TOK_SENTENCEPIECE: return decode_sentencepiece(step, w);
    case OT_TOK_FUSE: OT_TRY(ot_tok_buf_put(&w->next_text, w->text.data, w->text.size, w->err)); return finish_piece(w, 0);
    default: return decode_pieces(step, w);
    }
}

/* Hugging Face looks the decoded text up among the special tokens, so one that normalization changed is not left out. */
static bool is_special(const ot_tokenizer *t, int64_t id) {
    if (id < 0 || id >= t->id_count || t->added_by_id[id] == 0) return false;
    const ot_tok_added *a = &t->added[t->added_by_id[id] - 1];
    return a->special && a->size == a->decoded_size && memcmp(a->text, a->decoded, (size_t)a->size) == 0;
}

static ot_status decode_work(const ot_tokenizer *t, ot_tok_work *w, const int32_t *ids, int64_t count, bool skip_special) {
    for (int64_t i = 0; i < count; i++) {
        int64_t size = 0;
        const char *text = ot_tok_id_text(t, ids[i], &size);
        if (text == NULL || (skip_special && is_special(t, ids[i]))) continue;
        /* Without a decoder tokens are words. */
        if (t->decoders.count == 0 && w->spans.count > 0) OT_TRY(ot_tok_buf_put(&w->text, " ", 1, w->err));
        int64_t start = w->text.size;
        OT_TRY(ot_tok_buf_put(&w->text, text, size, w->err));
        OT_TRY(ot_tok_spans_put(&w->spans, start, w->text.size, -1, false, w->err));
    }
    for (int64_t s = 0; s < t->decoders.count && w->spans.count > 0; s++) {
        OT_TRY(decode_step(&t->decoders.steps[s], w));
        ot_tok_work_text(w);
    }
    return OT_OK;
}

ot_status ot_tok_decode(const ot_tokenizer *t, const int32_t *ids, int64_t count, bool skip_special, ot_tok_buf *out,
                        ot_error *err) {
    ot_tok_work w;
    ot_status status = ot_tok_work_init(&w, err);
    if (status == OT_OK) status = decode_work(t, &w, ids, count, skip_special);
    if (status == OT_OK) status = ot_tok_buf_put(out, w.text.data, w.text.size, err);
    ot_tok_work_free(&w);
    return status;
}

/* ==== One piece at a time ==== */

typedef struct sink {
    char *out;
    size_t room, total;
} sink;

static void sink_put(sink *s, const char *text, int64_t size) {
    for (int64_t i = 0; i < size; i++, s->total++) {
        if (s->total < s->room) s->out[s->total] = text[i];
    }
}

static void sink_replaced(sink *s, const char *text, int64_t size, const char *from, int64_t from_size) {
    int64_t done = 0;
    while (done < size && from_size > 0) {
        const char *hit = memmem(text + done, (size_t)(size - done), from, (size_t)from_size);
        if (hit == NULL) break;
        sink_put(s, text + done, hit - (text + done));
        sink_put(s, " ", 1);
        done = hit - text + from_size;
    }
    sink_put(s, text + done, size - done);
}

size_t ot_tokenizer_piece(const ot_tokenizer *t, int32_t id, char *out, size_t room) {
    int64_t size = 0;
    const char *text = ot_tok_id_text(t, id, &size);
    if (text == NULL) return 0;
    sink s = {out, room, 0};
    bool byte_level = false, byte_tokens = false;
    const char *blank = NULL;
    int64_t blank_size = 0;
    for (int64_t i = 0; i < t->decoders.count; i++) {
        const ot_tok_step *d = &t->decoders.steps[i];
        if (d->kind == OT_TOK_BYTE_LEVEL) byte_level = true;
        if (d->kind == OT_TOK_BYTE_FALLBACK || d->kind == OT_TOK_SENTENCEPIECE) byte_tokens = true;
        bool replaces = (d->kind == OT_TOK_REPLACE && d->content_size == 1 && d->content[0] == ' ') || d->kind == OT_TOK_CLIP ||
                        d->kind == OT_TOK_SENTENCEPIECE;
        if (replaces && d->pattern.regex == NULL) {
            blank = d->pattern.text;
            blank_size = d->pattern.size;
        } else if (d->kind == OT_TOK_METASPACE || d->kind == OT_TOK_WORD_END) {
            blank = d->content;
            blank_size = d->content_size;
        }
    }
    int byte = byte_tokens ? ot_tok_byte_token(text, size) : -1;
    if (byte >= 0) {
        char c = (char)byte;
        sink_put(&s, &c, 1);
        return s.total;
    }
    bool all_bytes = byte_level;
    for (int64_t at = 0; all_bytes && at < size;) {
        uint32_t code = 0;
        int n = ot_utf8_next(text + at, size - at, &code);
        all_bytes = n > 0 && ot_tok_from_byte_level(code) >= 0;
        at += n > 0 ? n : 1;
    }
    bool ends_word =
        all_bytes && blank_size > 0 && size >= blank_size && memcmp(text + size - blank_size, blank, (size_t)blank_size) == 0;
    if (!all_bytes) {
        sink_replaced(&s, text, size, blank, blank_size);
        return s.total;
    }
    for (int64_t at = 0; at < size - (ends_word ? blank_size : 0);) {
        uint32_t code = 0;
        at += ot_utf8_next(text + at, size - at, &code);
        char c = (char)ot_tok_from_byte_level(code);
        sink_put(&s, &c, 1);
    }
    if (ends_word) sink_put(&s, " ", 1);
    return s.total;
}
