/* Added tokens: cut out of the text before (or, for those that say so, after) normalization, the longest at each place,
 * with their rules about blanks to either side and about whole words. */
#include <stdlib.h>
#include <string.h>

#include "format/tokenizer_internal.h"
#include "format/unicode.h"

static int compare_needles(const void *a, const void *b) {
    const ot_tok_needle *x = a, *y = b;
    int64_t n = x->size < y->size ? x->size : y->size;
    int order = n > 0 ? memcmp(x->text, y->text, (size_t)n) : 0;
    if (order != 0) return order;
    if (x->size != y->size) return x->size < y->size ? -1 : 1;
    return x->added < y->added ? -1 : x->added > y->added;
}

void ot_tok_matcher_finish(ot_tok_matcher *m) {
    if (m->count > 0) qsort(m->needles, (size_t)m->count, sizeof *m->needles, compare_needles);
    memset(m->first, 0, sizeof m->first);
    for (int64_t i = 0; i < m->count; i++) m->first[(unsigned char)m->needles[i].text[0]] = true;
}

/* First needle in [low, high), all equal in their first `depth` bytes and longer than that, whose next byte is >= byte. */
static int64_t lower_bound(const ot_tok_matcher *m, int64_t low, int64_t high, int64_t depth, int byte) {
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if ((unsigned char)m->needles[middle].text[depth] < byte) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

const ot_tok_needle *ot_tok_matcher_at(const ot_tok_matcher *m, const char *text, int64_t size) {
    if (m->count == 0 || size == 0 || !m->first[(unsigned char)text[0]]) return NULL;
    const ot_tok_needle *best = NULL;
    int64_t low = 0, high = m->count;
    for (int64_t depth = 0; depth < size && low < high; depth++) {
        int byte = (unsigned char)text[depth];
        low = lower_bound(m, low, high, depth, byte);
        high = lower_bound(m, low, high, depth, byte + 1);
        /* Those that end here sort first; of equal texts the first added wins. */
        if (low < high && m->needles[low].size == depth + 1) {
            best = &m->needles[low];
            while (low < high && m->needles[low].size == depth + 1) low++;
        }
    }
    return best;
}

static ot_status is_word(const ot_tokenizer *t, ot_tok_scan *scan, const char *text, int64_t size, bool *yes, ot_error *err) {
    ot_tok_cursor cursor = {0, -1};
    int64_t start = 0, end = 0;
    return ot_tok_regex_next(t->word, scan, text, size, &cursor, yes, &start, &end, err);
}

/* Is [start, end) bounded by something other than word characters? */
static ot_status is_alone(const ot_tokenizer *t, ot_tok_work *w, const char *text, int64_t size, int64_t start, int64_t end,
                          bool *alone) {
    bool word = false;
    if (start > 0) {
        int64_t from = start - 1;
        while (from > 0 && ((unsigned char)text[from] & 0xC0) == 0x80) from--;
        OT_TRY(is_word(t, w->scan, text + from, start - from, &word, w->err));
    }
    if (!word && end < size) OT_TRY(is_word(t, w->scan, text + end, ot_utf8_length(text[end]), &word, w->err));
    *alone = !word;
    return OT_OK;
}

static int64_t blanks_before(const char *text, int64_t start, int64_t limit) {
    while (start > limit) {
        int64_t from = start - 1;
        while (from > limit && ((unsigned char)text[from] & 0xC0) == 0x80) from--;
        uint32_t code = 0;
        if (ot_utf8_next(text + from, start - from, &code) < 0 || !ot_unicode_space(code)) break;
        start = from;
    }
    return start;
}

static int64_t blanks_after(const char *text, int64_t end, int64_t size) {
    while (end < size) {
        uint32_t code = 0;
        int n = ot_utf8_next(text + end, size - end, &code);
        if (n < 0 || !ot_unicode_space(code)) break;
        end += n;
    }
    return end;
}

static ot_status split_one(const ot_tokenizer *t, const ot_tok_matcher *m, ot_tok_work *w, const ot_tok_span *p) {
    const char *text = w->text.data + p->start;
    int64_t size = p->end - p->start, done = 0;
    for (int64_t at = 0; at < size;) {
        const ot_tok_needle *needle = ot_tok_matcher_at(m, text + at, size - at);
        if (needle == NULL) {
            at++; /* a needle is whole characters, so it cannot begin inside one */
            continue;
        }
        const ot_tok_added *a = &t->added[needle->added];
        int64_t start = at, end = at + needle->size;
        at = end;
        if (a->single_word) {
            bool alone = false;
            OT_TRY(is_alone(t, w, text, size, start, end, &alone));
            if (!alone) continue;
        }
        if (a->lstrip) start = blanks_before(text, start, done < start ? done : start);
        if (a->rstrip) end = blanks_after(text, end, size);
        if (done < start)
            OT_TRY(ot_tok_spans_put(&w->next_spans, p->start + done, p->start + start, -1, p->first && done == 0, w->err));
        OT_TRY(ot_tok_spans_put(&w->next_spans, p->start + start, p->start + end, a->id, p->first && start == 0, w->err));
        done = end;
    }
    if (done < size) OT_TRY(ot_tok_spans_put(&w->next_spans, p->start + done, p->end, -1, p->first && done == 0, w->err));
    return OT_OK;
}

ot_status ot_tok_split_added(const ot_tokenizer *t, const ot_tok_matcher *m, ot_tok_work *w) {
    if (m->count == 0) return OT_OK;
    for (int64_t i = 0; i < w->spans.count; i++) {
        const ot_tok_span p = w->spans.data[i];
        if (p.id >= 0) {
            OT_TRY(ot_tok_spans_put(&w->next_spans, p.start, p.end, p.id, p.first, w->err));
        } else {
            OT_TRY(split_one(t, m, w, &p));
        }
    }
    ot_tok_work_spans(w);
    return OT_OK;
}
