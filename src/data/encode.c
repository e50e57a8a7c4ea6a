/* Texts as ids with marks: which token belongs to which bytes. */
#include "data/reader.h"

static ot_status make_room(ot_data_tokens *out, int64_t more, ot_error *err) {
    OT_TRY(ot_grow((void **)&out->ids, &out->ids_room, out->count + more, 4, "token ids", err));
    return ot_grow((void **)&out->learn, &out->learn_room, out->count + more, 1, "marks", err);
}

static void add(ot_data_tokens *out, const int32_t *ids, int64_t count, bool learn) {
    memcpy(out->ids + out->count, ids, (size_t)count * 4);
    memset(out->learn + out->count, learn, (size_t)count);
    out->count += count;
}

ot_status ot_data_add_ids(ot_data_tokens *out, const int32_t *ids, int64_t count, int64_t n_context, ot_error *err) {
    OT_TRY(make_room(out, count, err));
    add(out, ids, n_context, false);
    add(out, ids + n_context, count - n_context, true);
    return OT_OK;
}

/* spans: in order, the ones that end before `from` left out. */
static void mark(uint8_t *learn, int64_t token, int64_t from, int64_t to, const ot_chat_span *spans, int64_t n_spans) {
    for (int64_t s = 0; s < n_spans && spans[s].from < to; s++) learn[token] |= from < spans[s].to;
}

/* By the bytes of each token, one after another. False when they are not those of the text: a normalizer changed it, or a token stands for
 * something unknown. A blank that the tokenizer puts in front of a word is allowed. */
static ot_status mark_by_bytes(const ot_tokenizer *t, const char *text, int64_t size, const int32_t *ids, int64_t count, const ot_chat_span *spans,
                               int64_t n_spans, uint8_t *learn, bool *ok, ot_error *err) {
    char piece[512], *longer = NULL;
    int64_t at = 0;
    *ok = true;
    for (int64_t i = 0; i < count && *ok; i++) {
        const char *bytes = piece;
        int64_t length = (int64_t)ot_tokenizer_piece(t, ids[i], piece, sizeof piece);
        if (length > (int64_t)sizeof piece) {
            OT_TRY(ot_malloc(length, 1, "a token's text", (void **)&longer, err));
            ot_tokenizer_piece(t, ids[i], longer, (size_t)length);
            bytes = longer;
        }
        bool same = length <= size - at && memcmp(bytes, text + at, (size_t)length) == 0;
        if (!same && length > 0 && bytes[0] == ' ') {
            length--;
            same = length <= size - at && memcmp(bytes + 1, text + at, (size_t)length) == 0;
        }
        while (n_spans > 0 && spans->to <= at) spans++, n_spans--;
        if (same) mark(learn, i, at, at + length, spans, n_spans);
        at += length;
        *ok = same;
        ot_free(longer);
        longer = NULL;
    }
    *ok = *ok && at == size;
    return OT_OK;
}

/* How many of ids are those of the first `cut` bytes alone; *whole: there are no others among those. */
static ot_status common(const ot_tokenizer *t, const char *text, int64_t cut, const int32_t *ids, int64_t count, int64_t *out, bool *whole, ot_error *err) {
    int32_t *head = NULL;
    int64_t n = 0, same = 0;
    OT_TRY(ot_tokenizer_encode(t, text, (size_t)cut, false, &head, &n, err));
    while (same < n && same < count && head[same] == ids[same]) same++;
    ot_free(head);
    *out = same;
    *whole = same == n;
    return OT_OK;
}

/* By encoding the text up to each span's ends: slower, right for any tokenizer. */
static ot_status mark_by_prefixes(const ot_tokenizer *t, const char *text, const int32_t *ids, int64_t count, const ot_chat_span *spans,
                                  int64_t n_spans, uint8_t *learn, ot_error *err) {
    memset(learn, 0, (size_t)count);
    for (int64_t s = 0; s < n_spans; s++) {
        int64_t from = 0, to = 0;
        bool whole = false;
        OT_TRY(common(t, text, spans[s].from, ids, count, &from, &whole, err));
        OT_TRY(common(t, text, spans[s].to, ids, count, &to, &whole, err));
        if (!whole && to < count) to++; /* the token that reaches over the end */
        for (int64_t i = from; i < to; i++) learn[i] = 1;
    }
    return OT_OK;
}

static ot_status add_marked(const ot_data_reader *r, const char *text, int64_t size, const int32_t *ids, int64_t count, const ot_chat_span *spans,
                            int64_t n_spans, ot_data_tokens *out, ot_error *err) {
    uint8_t *learn = out->learn + out->count;
    add(out, ids, count, spans == NULL);
    if (spans == NULL) return OT_OK;
    bool ok = false;
    OT_TRY(mark_by_bytes(r->tokenizer, text, size, ids, count, spans, n_spans, learn, &ok, err));
    return ok ? OT_OK : mark_by_prefixes(r->tokenizer, text, ids, count, spans, n_spans, learn, err);
}

ot_status ot_data_add_text(ot_data_reader *r, const char *text, int64_t size, const ot_chat_span *spans, int64_t n_spans, bool plain,
                           ot_data_tokens *out, ot_error *err) {
    int32_t *ids = NULL;
    int64_t count = 0;
    OT_TRY(ot_tokenizer_encode(r->tokenizer, text, (size_t)size, false, &ids, &count, err));
    ot_status status = make_room(out, count + 2 * OT_SPECIALS + 1, err);
    if (status == OT_OK) {
        if (!plain) add(out, r->prefix, r->n_prefix, spans == NULL);
        status = add_marked(r, text, size, ids, count, spans, n_spans, out, err);
    }
    if (status == OT_OK && !plain) {
        bool ended = r->n_suffix > 0 && r->suffix[r->n_suffix - 1] == r->eos;
        add(out, r->suffix, r->n_suffix, true);
        if (!ended && r->eos >= 0 && !r->options->no_end) add(out, &r->eos, 1, true);
    }
    ot_free(ids);
    return status;
}
