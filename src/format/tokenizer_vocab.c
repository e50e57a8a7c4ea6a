/* The tokenizer's tables: token texts in one buffer behind one hash, merges as pair -> (rank, id), and the growing arrays that
 * its other parts share. Tables grow with the number of tokens, never with a number that a file claims. */
#include <string.h>

#include "format/tokenizer_internal.h"

ot_status ot_tok_buf_put(ot_tok_buf *b, const char *text, int64_t size, ot_error *err) {
    if (size <= 0) return OT_OK;
    if (size > b->capacity - b->size) {
        int64_t need = 0;
        if (!ot_add_i64(b->size, size, &need)) return ot_fail(err, OT_ERR_MEMORY, "a text of the tokenizer is too long");
        OT_TRY(ot_grow((void **)&b->data, &b->capacity, need, 1, "a tokenizer's text", err));
    }
    memcpy(b->data + b->size, text, (size_t)size);
    b->size += size;
    return OT_OK;
}

ot_status ot_tok_ids_put(ot_tok_ids *ids, int32_t id, ot_error *err) {
    if (ids->count == ids->capacity) {
        OT_TRY(ot_grow((void **)&ids->data, &ids->capacity, ids->count + 1, (int64_t)sizeof *ids->data, "token ids", err));
    }
    ids->data[ids->count++] = id;
    return OT_OK;
}

void ot_tok_buf_free(ot_tok_buf *b) {
    ot_free(b->data);
    *b = (ot_tok_buf){0};
}

ot_status ot_tok_spans_put(ot_tok_spans *s, int64_t start, int64_t end, int32_t id, bool first, ot_error *err) {
    if (s->count == s->capacity) {
        OT_TRY(ot_grow((void **)&s->data, &s->capacity, s->count + 1, (int64_t)sizeof *s->data, "pieces of a text", err));
    }
    s->data[s->count++] = (ot_tok_span){start, end, id, first};
    return OT_OK;
}

void ot_tok_work_text(ot_tok_work *w) {
    ot_tok_buf old = w->text;
    w->text = w->next_text;
    w->next_text = old;
    w->next_text.size = 0;
    ot_tok_work_spans(w);
}

void ot_tok_work_spans(ot_tok_work *w) {
    ot_tok_spans old = w->spans;
    w->spans = w->next_spans;
    w->next_spans = old;
    w->next_spans.count = 0;
}

ot_status ot_tok_work_init(ot_tok_work *w, ot_error *err) {
    *w = (ot_tok_work){.err = err};
    OT_TRY(ot_grow((void **)&w->text.data, &w->text.capacity, 16, 1, "a tokenizer's text", err));
    OT_TRY(ot_grow((void **)&w->next_text.data, &w->next_text.capacity, 16, 1, "a tokenizer's text", err));
    return ot_tok_scan_new(&w->scan, err);
}

void ot_tok_work_free(ot_tok_work *w) {
    ot_tok_buf_free(&w->text);
    ot_tok_buf_free(&w->next_text);
    ot_free(w->spans.data);
    ot_free(w->next_spans.data);
    ot_free(w->matches.data);
    ot_tok_scan_free(w->scan);
    *w = (ot_tok_work){0};
}

uint64_t ot_tok_hash(const char *text, int64_t size) {
    uint64_t h = 0x9E3779B97F4A7C15ULL ^ (uint64_t)size;
    while (size > 0) {
        uint64_t chunk = 0;
        memcpy(&chunk, text, size < 8 ? (size_t)size : 8);
        h = (h ^ chunk) * 0xD6E8FEB86659FD93ULL;
        h ^= h >> 32;
        text += 8;
        size -= 8;
    }
    h *= 0xD6E8FEB86659FD93ULL;
    return h ^ h >> 32;
}

/* A power of two that leaves at least half of the slots empty. */
static int64_t slots_for(int64_t count) {
    int64_t n = 16;
    while (n < count * 2) n *= 2;
    return n;
}

ot_status ot_tok_vocab_add(ot_tok_vocab *v, int64_t id, const char *text, int64_t size, const char *where, ot_error *err) {
    if (id < 0 || id > OT_TOK_MAX_ID) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: the token id %lld is outside 0 to %d", where, (long long)id, OT_TOK_MAX_ID);
    }
    if (size > INT32_MAX) return ot_fail(err, OT_ERR_FORMAT, "%s: token %lld is longer than 2 GiB", where, (long long)id);
    if (id >= v->count) {
        OT_TRY(ot_grow((void **)&v->offset, &v->offset_capacity, id + 1, (int64_t)sizeof *v->offset, "a vocabulary", err));
        OT_TRY(ot_grow((void **)&v->length, &v->length_capacity, id + 1, (int64_t)sizeof *v->length, "a vocabulary", err));
        for (int64_t i = v->count; i <= id; i++) v->length[i] = -1;
        v->count = id + 1;
    }
    if (v->length[id] >= 0) return ot_fail(err, OT_ERR_FORMAT, "%s: two tokens have the id %lld", where, (long long)id);
    v->offset[id] = v->text.size;
    v->length[id] = (int32_t)size;
    if (size > v->longest) v->longest = (int32_t)size;
    return ot_tok_buf_put(&v->text, text, size, err);
}

static bool vocab_is(const ot_tok_vocab *v, int32_t id, const char *text, int64_t size) {
    return v->length[id] == size && (size == 0 || memcmp(v->text.data + v->offset[id], text, (size_t)size) == 0);
}

ot_status ot_tok_vocab_finish(ot_tok_vocab *v, ot_error *err) {
    int64_t used = 0;
    for (int64_t i = 0; i < v->count; i++) used += v->length[i] >= 0;
    v->slot_count = slots_for(used);
    OT_TRY(ot_calloc(v->slot_count, (int64_t)sizeof *v->slots, "a vocabulary", (void **)&v->slots, err));
    uint64_t mask = (uint64_t)v->slot_count - 1;
    for (int64_t id = 0; id < v->count; id++) {
        if (v->length[id] < 0) continue;
        const char *text = v->text.data + v->offset[id];
        uint64_t at = ot_tok_hash(text, v->length[id]) & mask;
        while (v->slots[at] != 0 && !vocab_is(v, v->slots[at] - 1, text, v->length[id])) at = (at + 1) & mask;
        v->tokens += v->slots[at] == 0;
        v->slots[at] = (int32_t)id + 1;
    }
    return OT_OK;
}

int32_t ot_tok_vocab_find(const ot_tok_vocab *v, const char *text, int64_t size) {
    if (size > v->longest || v->slot_count == 0) return -1;
    uint64_t mask = (uint64_t)v->slot_count - 1;
    for (uint64_t at = ot_tok_hash(text, size) & mask; v->slots[at] != 0; at = (at + 1) & mask) {
        if (vocab_is(v, v->slots[at] - 1, text, size)) return v->slots[at] - 1;
    }
    return -1;
}

const char *ot_tok_vocab_text(const ot_tok_vocab *v, int64_t id, int64_t *size) {
    if (id < 0 || id >= v->count || v->length[id] < 0) return NULL;
    *size = v->length[id];
    return *size == 0 ? "" : v->text.data + v->offset[id];
}

void ot_tok_vocab_free(ot_tok_vocab *v) {
    ot_tok_buf_free(&v->text);
    ot_free(v->offset);
    ot_free(v->length);
    ot_free(v->slots);
    *v = (ot_tok_vocab){0};
}

ot_status ot_tok_merges_add(ot_tok_merges *m, int32_t left, int32_t right, int32_t id, ot_error *err) {
    if (m->count == INT32_MAX) return ot_fail(err, OT_ERR_FORMAT, "more than 2^31 merges");
    OT_TRY(ot_grow((void **)&m->list, &m->capacity, m->count + 1, (int64_t)sizeof *m->list, "merges", err));
    m->list[m->count] = (ot_tok_merge){(uint64_t)(uint32_t)left << 32 | (uint32_t)right, (int32_t)m->count, id};
    m->count++;
    return OT_OK;
}

static uint64_t hash_pair(uint64_t pair) {
    uint64_t h = pair * 0x9E3779B97F4A7C15ULL;
    return (h ^ h >> 29) * 0xBF58476D1CE4E5B9ULL >> 20;
}

ot_status ot_tok_merges_finish(ot_tok_merges *m, ot_error *err) {
    m->slot_count = slots_for(m->count);
    OT_TRY(ot_malloc(m->slot_count, (int64_t)sizeof *m->slots, "merges", (void **)&m->slots, err));
    for (int64_t i = 0; i < m->slot_count; i++) m->slots[i] = (ot_tok_merge){0, -1, -1};
    uint64_t mask = (uint64_t)m->slot_count - 1;
    for (int64_t i = 0; i < m->count; i++) {
        uint64_t at = hash_pair(m->list[i].pair) & mask;
        while (m->slots[at].rank >= 0 && m->slots[at].pair != m->list[i].pair) at = (at + 1) & mask;
        m->slots[at] = m->list[i];
    }
    return OT_OK;
}

const ot_tok_merge *ot_tok_merges_find(const ot_tok_merges *m, int32_t left, int32_t right) {
    if (m->slot_count == 0) return NULL;
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right, mask = (uint64_t)m->slot_count - 1;
    for (uint64_t at = hash_pair(pair) & mask; m->slots[at].rank >= 0; at = (at + 1) & mask) {
        if (m->slots[at].pair == pair) return &m->slots[at];
    }
    return NULL;
}

void ot_tok_merges_free(ot_tok_merges *m) {
    ot_free(m->list);
    ot_free(m->slots);
    *m = (ot_tok_merges){0};
}
