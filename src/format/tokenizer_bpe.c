/* The merge engine: a word becomes a list of symbols, and the best neighbouring pair is merged until none is left. Short
 * words look for it by scanning, long ones by a heap, so the cost is n log n at worst. Two sources of pairs: merges (BPE) or
 * the scores of whole pieces (sentencepiece). Words seen before in the same text come from a cache. */
#include <string.h>

#include "format/tokenizer_internal.h"
#include "format/unicode.h"

enum {
    SCAN_LIMIT = 24, /* symbols up to which scanning beats the heap */
    CACHE_WORD = 128 /* bytes of the longest word worth caching */
};

typedef struct symbol {
    int64_t start, size; /* in the word */
    int32_t id;          /* -1: text that is no piece (SPM) */
    int32_t prev, next;  /* -1: none */
    int32_t rank;        /* of the merge with next; INT32_MAX: none */
    int32_t merged;      /* its result */
    bool frozen;
} symbol;
typedef struct candidate {
    int32_t rank, at, merged;
} candidate;
typedef struct cache_entry {
    int64_t text, ids; /* offsets into the cache's text and ids */
    int32_t size, count;
    uint64_t hash;
} cache_entry;

typedef struct engine {
    const ot_tokenizer *t;
    symbol *symbols;
    int64_t count, capacity;
    candidate *heap;
    int64_t heap_count, heap_capacity;
    int64_t *unused_left; /* by id: bytes of the left half an UNUSED piece was made of, 0 = not made */
    cache_entry *entries;
    int64_t entry_count, slot_count;
    ot_tok_buf cache_text;
    ot_tok_ids cache_ids;
    ot_tok_lattice *lattice;
    ot_tok_ids *out;
    ot_error *err;
} engine;

/* ==== Pairs ==== */

static bool mergeable(const ot_tokenizer *t, int32_t id) {
    return t->types[id] == OT_TOK_NORMAL || t->types[id] == OT_TOK_USER || t->types[id] == OT_TOK_UNUSED;
}

/* Rank and result of merging symbol i with its successor. */
static void rank_pair(engine *e, const char *word, int32_t i) {
    symbol *left = &e->symbols[i];
    left->rank = INT32_MAX;
    if (left->next < 0) return;
    const symbol *right = &e->symbols[left->next];
    if (e->t->model == OT_TOK_MODEL_BPE) {
        const ot_tok_merge *m = ot_tok_merges_find(&e->t->merges, left->id, right->id);
        if (m == NULL) return;
        left->rank = m->rank;
        left->merged = m->id;
        return;
    }
    if (left->frozen || right->frozen) return;
    int32_t id = ot_tok_vocab_find(&e->t->vocab, word + left->start, left->size + right->size);
    if (id < 0 || !mergeable(e->t, id)) return;
    left->rank = e->t->score_rank[id];
    left->merged = id;
    if (e->unused_left != NULL && e->t->types[id] == OT_TOK_UNUSED) e->unused_left[id] = left->size;
}

static void merge_at(engine *e, int32_t i) {
    symbol *left = &e->symbols[i];
    symbol *right = &e->symbols[left->next];
    left->id = left->merged;
    left->size += right->size;
    left->next = right->next;
    if (right->next >= 0) e->symbols[right->next].prev = i;
    right->size = -1; /* gone */
}

static void merge_by_scan(engine *e, const char *word) {
    for (int32_t i = 0; i < e->count; i++) rank_pair(e, word, i);
    for (;;) {
        int32_t best = -1, rank = INT32_MAX;
        for (int32_t i = 0; i >= 0; i = e->symbols[i].next) {
            if (e->symbols[i].rank < rank) {
                rank = e->symbols[i].rank;
                best = i;
            }
        }
        if (best < 0) return;
        merge_at(e, best);
        rank_pair(e, word, best);
        if (e->symbols[best].prev >= 0) rank_pair(e, word, e->symbols[best].prev);
    }
}

/* ==== The heap: lowest rank first, then leftmost ==== */

static bool before(const candidate *a, const candidate *b) { return a->rank != b->rank ? a->rank < b->rank : a->at < b->at; }

static ot_status heap_push(engine *e, int32_t i) {
    const symbol *s = &e->symbols[i];
    if (s->rank == INT32_MAX) return OT_OK;
    if (e->heap_count == e->heap_capacity) {
        OT_TRY(ot_grow((void **)&e->heap, &e->heap_capacity, e->heap_count + 1, (int64_t)sizeof *e->heap, "merging", e->err));
    }
    candidate c = {s->rank, i, s->merged};
    int64_t at = e->heap_count++;
    while (at > 0 && before(&c, &e->heap[(at - 1) / 2])) {
        e->heap[at] = e->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    e->heap[at] = c;
    return OT_OK;
}

static candidate heap_pop(engine *e) {
    candidate top = e->heap[0], last = e->heap[--e->heap_count];
    int64_t at = 0;
    for (;;) {
        int64_t child = 2 * at + 1;
        if (child >= e->heap_count) break;
        if (child + 1 < e->heap_count && before(&e->heap[child + 1], &e->heap[child])) child++;
        if (!before(&e->heap[child], &last)) break;
        e->heap[at] = e->heap[child];
        at = child;
    }
    if (e->heap_count > 0) e->heap[at] = last;
    return top;
}

static ot_status merge_by_heap(engine *e, const char *word) {
    e->heap_count = 0;
    for (int32_t i = 0; i < e->count; i++) {
        rank_pair(e, word, i);
        OT_TRY(heap_push(e, i));
    }
    while (e->heap_count > 0) {
        candidate c = heap_pop(e);
        const symbol *s = &e->symbols[c.at];
        /* Older offers of a pair that has changed since are stale. */
        if (s->size < 0 || s->rank != c.rank || s->merged != c.merged) continue;
        merge_at(e, c.at);
        rank_pair(e, word, c.at);
        OT_TRY(heap_push(e, c.at));
        int32_t prev = e->symbols[c.at].prev;
        if (prev >= 0) {
            rank_pair(e, word, prev);
            OT_TRY(heap_push(e, prev));
        }
    }
    return OT_OK;
}

static ot_status merge_all(engine *e, const char *word) {
    if (e->count == 0) return OT_OK;
    for (int64_t i = 0; i < e->count; i++) {
        e->symbols[i].prev = (int32_t)i - 1;
        e->symbols[i].next = i + 1 < e->count ? (int32_t)i + 1 : -1;
    }
    if (e->count > SCAN_LIMIT) return merge_by_heap(e, word);
    merge_by_scan(e, word);
    return OT_OK;
}

static ot_status add_symbol(engine *e, int32_t id, int64_t start, int64_t size, bool frozen) {
    if (e->count == INT32_MAX) return ot_fail(e->err, OT_ERR_MEMORY, "a word of the text has more than 2^31 symbols");
    if (e->count == e->capacity) {
        OT_TRY(ot_grow((void **)&e->symbols, &e->capacity, e->count + 1, (int64_t)sizeof *e->symbols, "merging", e->err));
    }
    e->symbols[e->count++] = (symbol){.start = start, .size = size, .id = id, .frozen = frozen};
    return OT_OK;
}

/* ==== BPE ==== */

static int32_t first_id(const ot_tokenizer *t, const char *text, int64_t size, bool is_first, bool is_last, ot_tok_buf *scratch,
                        ot_error *err, ot_status *status) {
    bool prefix = !is_first && t->word_prefix != NULL, suffix = is_last && t->word_suffix != NULL;
    if (!prefix && !suffix) {
        uint32_t code = 0;
        ot_utf8_next(text, size, &code);
        return code < 0x400 ? t->char_ids[code] : ot_tok_vocab_find(&t->vocab, text, size);
    }
    scratch->size = 0;
    if (prefix) *status = ot_tok_buf_put(scratch, t->word_prefix, t->word_prefix_size, err);
    if (*status == OT_OK) *status = ot_tok_buf_put(scratch, text, size, err);
    if (*status == OT_OK && suffix) *status = ot_tok_buf_put(scratch, t->word_suffix, t->word_suffix_size, err);
    return *status == OT_OK ? ot_tok_vocab_find(&t->vocab, scratch->data, scratch->size) : -1;
}

/* Byte tokens for a character that is no piece; *done false when one of them is missing too. Prefix and suffix count. */
static ot_status add_bytes(engine *e, const char *text, int64_t at, int64_t size, bool *done) {
    *done = e->t->byte_fallback;
    for (int64_t i = 0; *done && i < size; i++) *done = e->t->byte_ids[(unsigned char)text[i]] >= 0;
    for (int64_t i = 0; *done && i < size; i++) {
        OT_TRY(add_symbol(e, e->t->byte_ids[(unsigned char)text[i]], at, 1, false));
    }
    return OT_OK;
}

static ot_status bpe_symbols(engine *e, const char *word, int64_t size, ot_tok_buf *scratch) {
    const ot_tokenizer *t = e->t;
    bool unknown = false; /* an unknown token waits, so that the next one can join it */
    for (int64_t at = 0; at < size;) {
        int64_t n = ot_utf8_length(word[at]);
        ot_status status = OT_OK;
        bool is_last = at + n == size;
        int32_t id = first_id(t, word + at, n, at == 0, is_last, scratch, e->err, &status);
        OT_TRY(status);
        if (id >= 0) {
            if (unknown) OT_TRY(add_symbol(e, t->unk, at, 0, false));
            unknown = false;
            OT_TRY(add_symbol(e, id, at, n, false));
        } else {
            bool composed = (at > 0 && t->word_prefix != NULL) || (is_last && t->word_suffix != NULL);
            bool done = false;
            OT_TRY(add_bytes(e, composed ? scratch->data : word + at, at, composed ? scratch->size : n, &done));
            if (!done && t->unk_missing) {
                return ot_fail(e->err, OT_ERR_FORMAT, "%s: its unk_token is not in the vocabulary, and the text needs it",
                               t->path);
            }
            if (!done && t->unk >= 0) {
                if (unknown && !t->fuse_unk) OT_TRY(add_symbol(e, t->unk, at, 0, false));
                unknown = true;
            }
        }
        at += n;
    }
    return unknown ? add_symbol(e, t->unk, size, 0, false) : OT_OK;
}

static ot_status bpe_word(engine *e, const char *word, int64_t size) {
    const ot_tokenizer *t = e->t;
    if (t->ignore_merges) {
        int32_t id = ot_tok_vocab_find(&t->vocab, word, size);
        if (id >= 0) return ot_tok_ids_put(e->out, id, e->err);
    }
    ot_tok_buf scratch = {0};
    e->count = 0;
    ot_status status = bpe_symbols(e, word, size, &scratch);
    ot_tok_buf_free(&scratch);
    OT_TRY(status);
    OT_TRY(merge_all(e, word));
    for (int64_t i = e->count > 0 ? 0 : -1; i >= 0; i = e->symbols[i].next)
        OT_TRY(ot_tok_ids_put(e->out, e->symbols[i].id, e->err));
    return OT_OK;
}

/* ==== sentencepiece ==== */

static ot_status put_piece(engine *e, const char *text, int64_t size, int depth, bool *unknown) {
    const ot_tokenizer *t = e->t;
    int32_t id = ot_tok_vocab_find(&t->vocab, text, size);
    if (id >= 0 && t->types[id] == OT_TOK_UNUSED && depth < 64 && e->unused_left[id] > 0) {
        int64_t left = e->unused_left[id];
        OT_TRY(put_piece(e, text, left, depth + 1, unknown));
        return put_piece(e, text + left, size - left, depth + 1, unknown);
    }
    if (id >= 0 && id != t->unk) {
        *unknown = false;
        return ot_tok_ids_put(e->out, id, e->err);
    }
    bool bytes = t->byte_fallback;
    for (int64_t i = 0; bytes && i < size; i++) bytes = t->byte_ids[(unsigned char)text[i]] >= 0;
    if (bytes) {
        for (int64_t i = 0; i < size; i++) OT_TRY(ot_tok_ids_put(e->out, t->byte_ids[(unsigned char)text[i]], e->err));
        *unknown = false;
        return OT_OK;
    }
    if (t->unk < 0)
        return ot_fail(e->err, OT_ERR_FORMAT, "%s: no unknown token and no bytes for a character of the text", t->path);
    if (*unknown) return OT_OK; /* a run of unknown characters is one token */
    *unknown = true;
    return ot_tok_ids_put(e->out, t->unk, e->err);
}

static ot_status spm_word(engine *e, const char *word, int64_t size) {
    e->count = 0;
    for (int64_t at = 0; at < size;) {
        const ot_tok_needle *frozen = ot_tok_matcher_at(&e->t->frozen, word + at, size - at);
        int64_t n = frozen != NULL ? frozen->size : ot_utf8_length(word[at]);
        OT_TRY(add_symbol(e, -1, at, n, frozen != NULL));
        at += n;
    }
    OT_TRY(merge_all(e, word));
    bool unknown = false;
    for (int64_t i = e->count > 0 ? 0 : -1; i >= 0; i = e->symbols[i].next) {
        OT_TRY(put_piece(e, word + e->symbols[i].start, e->symbols[i].size, 0, &unknown));
    }
    return OT_OK;
}

/* ==== Words ==== */

static ot_status grow_cache(engine *e) {
    int64_t wanted = e->slot_count == 0 ? 1024 : e->slot_count * 4;
    cache_entry *fresh = NULL;
    OT_TRY(ot_calloc(wanted, (int64_t)sizeof *fresh, "a word cache", (void **)&fresh, e->err));
    for (int64_t i = 0; i < e->slot_count; i++) {
        if (e->entries[i].size == 0) continue;
        uint64_t at = e->entries[i].hash & ((uint64_t)wanted - 1);
        while (fresh[at].size != 0) at = (at + 1) & ((uint64_t)wanted - 1);
        fresh[at] = e->entries[i];
    }
    ot_free(e->entries);
    e->entries = fresh;
    e->slot_count = wanted;
    return OT_OK;
}

static ot_status run_word(engine *e, const char *word, int64_t size) {
    switch (e->t->model) {
    case OT_TOK_MODEL_BPE: return bpe_word(e, word, size);
    case OT_TOK_MODEL_SPM: return spm_word(e, word, size);
    default: return ot_tok_unigram_word(e->t, &e->lattice, word, size, e->out, e->err);
    }
}

static ot_status cached_word(engine *e, const char *word, int64_t size) {
    if (size > CACHE_WORD) return run_word(e, word, size);
    if (e->entry_count * 2 >= e->slot_count) OT_TRY(grow_cache(e));
    uint64_t hash = ot_tok_hash(word, size), mask = (uint64_t)e->slot_count - 1, at = hash & mask;
    for (; e->entries[at].size != 0; at = (at + 1) & mask) {
        const cache_entry *c = &e->entries[at];
        if (c->hash != hash || c->size != size) continue;
        if (e->cache_text.data == NULL || memcmp(e->cache_text.data + c->text, word, (size_t)size) != 0) continue;
        for (int32_t i = 0; i < c->count; i++) OT_TRY(ot_tok_ids_put(e->out, e->cache_ids.data[c->ids + i], e->err));
        return OT_OK;
    }
    int64_t from = e->out->count;
    OT_TRY(run_word(e, word, size));
    cache_entry fresh = {e->cache_text.size, e->cache_ids.count, (int32_t)size, (int32_t)(e->out->count - from), hash};
    OT_TRY(ot_tok_buf_put(&e->cache_text, word, size, e->err));
    for (int64_t i = from; i < e->out->count; i++) OT_TRY(ot_tok_ids_put(&e->cache_ids, e->out->data[i], e->err));
    e->entries[at] = fresh;
    e->entry_count++;
    return OT_OK;
}

/* Where the vocabulary lets it, cut before every blank that follows another character: no merge crosses there. */
static ot_status cut_words(engine *e, const char *text, int64_t size) {
    int64_t done = 0;
    while (e->t->cut_blank && done < size) {
        int64_t at = done;
        const char *hit = NULL;
        for (;;) { /* the next blank whose predecessor is none */
            hit = at < size ? memmem(text + at, (size_t)(size - at), OT_TOK_BLANK, OT_TOK_BLANK_SIZE) : NULL;
            if (hit == NULL) break;
            at = hit - text;
            bool after_blank =
                at - done >= OT_TOK_BLANK_SIZE && memcmp(text + at - OT_TOK_BLANK_SIZE, OT_TOK_BLANK, OT_TOK_BLANK_SIZE) == 0;
            if (at > done && !after_blank) break;
            at += OT_TOK_BLANK_SIZE;
        }
        if (hit == NULL) break;
        OT_TRY(cached_word(e, text + done, at - done));
        done = at;
    }
    return done < size ? cached_word(e, text + done, size - done) : OT_OK;
}

static ot_status run_spans(engine *e, const ot_tok_work *w) {
    if (e->t->any_unused) {
        OT_TRY(ot_calloc(e->t->vocab.count, (int64_t)sizeof *e->unused_left, "unused pieces", (void **)&e->unused_left, e->err));
    }
    for (int64_t i = 0; i < w->spans.count; i++) {
        const ot_tok_span *p = &w->spans.data[i];
        if (p->id >= 0) {
            OT_TRY(ot_tok_ids_put(e->out, p->id, e->err));
        } else if (p->start < p->end) {
            OT_TRY(cut_words(e, w->text.data + p->start, p->end - p->start));
        }
    }
    return OT_OK;
}

ot_status ot_tok_model_run(const ot_tokenizer *t, ot_tok_work *w, ot_tok_ids *ids) {
    engine e = {.t = t, .out = ids, .err = w->err};
    ot_status status = run_spans(&e, w);
    ot_free(e.symbols);
    ot_free(e.heap);
    ot_free(e.unused_left);
    ot_free(e.entries);
    ot_tok_buf_free(&e.cache_text);
    ot_free(e.cache_ids.data);
    ot_tok_lattice_free(e.lattice);
    return status;
}
