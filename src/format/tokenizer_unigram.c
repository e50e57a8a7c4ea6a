/* Unigram: the segmentation of a word with the highest sum of scores, by dynamic programming over byte positions. */
#include <string.h>

#include "format/tokenizer_internal.h"
#include "format/unicode.h"

typedef struct node {
    double score;
    int64_t start; /* of the best piece that ends here; -1: none */
    int32_t id;
} node;
struct ot_tok_lattice {
    node *nodes;
    int64_t capacity;
    int64_t *cuts; /* borders of the best path, from the end */
    int64_t cut_capacity;
};

void ot_tok_lattice_free(ot_tok_lattice *lattice) {
    if (lattice == NULL) return;
    ot_free(lattice->nodes);
    ot_free(lattice->cuts);
    ot_free(lattice);
}

static void offer(node *nodes, int64_t start, int64_t end, int32_t id, double score) {
    node *target = &nodes[end];
    if (target->start >= 0 && score <= target->score) return;
    *target = (node){score, start, id};
}

/* A piece of the path: a token, bytes, or the unknown token. */
static ot_status put_piece(const ot_tokenizer *t, const char *text, int64_t size, ot_tok_ids *ids, ot_error *err) {
    int32_t id = ot_tok_vocab_find(&t->vocab, text, size);
    if (id >= 0) return ot_tok_ids_put(ids, id, err);
    bool bytes = t->byte_fallback;
    for (int64_t i = 0; bytes && i < size; i++) bytes = t->byte_ids[(unsigned char)text[i]] >= 0;
    for (int64_t i = 0; bytes && i < size; i++) OT_TRY(ot_tok_ids_put(ids, t->byte_ids[(unsigned char)text[i]], err));
    if (bytes) return OT_OK;
    if (t->unk < 0)
        return ot_fail(err, OT_ERR_FORMAT, "%s: the text needs an unknown token, and the vocabulary has none", t->path);
    return ot_tok_ids_put(ids, t->unk, err);
}

static void fill(const ot_tokenizer *t, node *nodes, const char *word, int64_t size) {
    for (int64_t i = 0; i <= size; i++) nodes[i] = (node){0, -1, -1};
    for (int64_t at = 0; at < size;) {
        int64_t first = ot_utf8_length(word[at]);
        double here = nodes[at].score;
        bool single = false;
        for (int64_t n = first; n <= size - at && n <= t->vocab.longest;) {
            int32_t id = ot_tok_vocab_find(&t->vocab, word + at, n);
            if (id >= 0) {
                offer(nodes, at, at + n, id, t->scores[id] + here);
                if (n == first) single = true;
            }
            n += at + n < size ? ot_utf8_length(word[at + n]) : 1;
        }
        if (!single) offer(nodes, at, at + first, t->unk, t->unk_score + here);
        at += first;
    }
}

ot_status ot_tok_unigram_word(const ot_tokenizer *t, ot_tok_lattice **lattice, const char *word, int64_t size, ot_tok_ids *ids,
                              ot_error *err) {
    if (*lattice == NULL) OT_TRY(ot_calloc(1, (int64_t)sizeof **lattice, "a lattice", (void **)lattice, err));
    ot_tok_lattice *l = *lattice;
    OT_TRY(ot_grow((void **)&l->nodes, &l->capacity, size + 1, (int64_t)sizeof *l->nodes, "a lattice", err));
    fill(t, l->nodes, word, size);
    int64_t cuts = 0;
    for (int64_t at = size; at > 0; at = l->nodes[at].start) {
        OT_TRY(ot_grow((void **)&l->cuts, &l->cut_capacity, cuts + 1, (int64_t)sizeof *l->cuts, "a lattice", err));
        l->cuts[cuts++] = at;
    }
    int64_t start = 0;
    while (cuts > 0) {
        int64_t end = l->cuts[--cuts];
        /* A run of unknown characters is one piece. */
        while (t->fuse_unk && l->nodes[end].id == t->unk && cuts > 0 && l->nodes[l->cuts[cuts - 1]].id == t->unk)
            end = l->cuts[--cuts];
        OT_TRY(put_piece(t, word + start, end - start, ids, err));
        start = end;
    }
    return OT_OK;
}
