/* Writing tokenizer.json: the kept configuration with vocabulary and merges put back. A sentencepiece vocabulary has no
 * merges, so they are made from its scores: every way to put a piece together from two others, best piece first. Its control
 * and user-defined tokens become added tokens, so a text that holds one is cut there, which sentencepiece does not do; all
 * other texts get the same ids. */
#include <stdlib.h>
#include <string.h>

#include "format/json.h"
#include "format/tokenizer_internal.h"
#include "format/unicode.h"

static ot_status out_of_memory(ot_error *err) { return ot_fail_memory(err, 0, "tokenizer.json"); }

static ot_status put_merge(json_t *list, const char *left, int64_t left_size, const char *right, int64_t right_size,
                           ot_error *err) {
    json_t *pair = json_pack("[s%, s%]", left, (size_t)left_size, right, (size_t)right_size);
    return pair == NULL || json_array_append_new(list, pair) != 0 ? out_of_memory(err) : OT_OK;
}

static ot_status put_merges(const ot_tokenizer *t, json_t *list, ot_error *err) {
    for (int64_t i = 0; i < t->merges.count; i++) {
        int64_t left_size = 0, right_size = 0;
        const char *left = ot_tok_vocab_text(&t->vocab, (int64_t)(t->merges.list[i].pair >> 32), &left_size);
        const char *right = ot_tok_vocab_text(&t->vocab, (int64_t)(t->merges.list[i].pair & UINT32_MAX), &right_size);
        OT_TRY(put_merge(list, left, left_size, right, right_size, err));
    }
    return OT_OK;
}

typedef struct ranked {
    int32_t rank, id;
} ranked;

static int compare_ranked(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static bool is_part(const ot_tokenizer *t, const char *text, int64_t size) {
    int32_t id = ot_tok_vocab_find(&t->vocab, text, size);
    return id >= 0 && t->types[id] == OT_TOK_NORMAL;
}

static ot_status put_scored_merges(const ot_tokenizer *t, json_t *list, ot_error *err) {
    ranked *order = NULL;
    int64_t count = 0;
    OT_TRY(ot_malloc(t->vocab.count, (int64_t)sizeof *order, "merges", (void **)&order, err));
    for (int64_t i = 0; i < t->vocab.count; i++) {
        int64_t size = 0;
        const char *text = ot_tok_vocab_text(&t->vocab, i, &size);
        if (t->types[i] == OT_TOK_NORMAL && ot_tok_vocab_find(&t->vocab, text, size) == i) {
            order[count++] = (ranked){t->score_rank[i], (int32_t)i};
        }
    }
    if (count > 0) qsort(order, (size_t)count, sizeof *order, compare_ranked);
    ot_status status = OT_OK;
    for (int64_t i = 0; i < count && status == OT_OK; i++) {
        int64_t size = 0;
        const char *text = ot_tok_vocab_text(&t->vocab, order[i].id, &size);
        for (int64_t cut = ot_utf8_length(text[0]); cut < size && status == OT_OK; cut += ot_utf8_length(text[cut])) {
            if (!is_part(t, text, cut) || !is_part(t, text + cut, size - cut)) continue;
            status = put_merge(list, text, cut, text + cut, size - cut, err);
        }
    }
    ot_free(order);
    return status;
}

static ot_status put_model(const ot_tokenizer *t, json_t *model, ot_error *err) {
    bool unigram = t->model == OT_TOK_MODEL_UNIGRAM;
    json_t *vocab = unigram ? json_array() : json_object();
    if (json_object_set_new(model, "vocab", vocab) != 0) return out_of_memory(err);
    for (int64_t i = 0; i < t->vocab.count; i++) {
        int64_t size = 0;
        const char *text = ot_tok_vocab_text(&t->vocab, i, &size);
        if (text == NULL) continue;
        int bad = unigram ? json_array_append_new(vocab, json_pack("[s%, f]", text, (size_t)size, t->scores[i]))
                          : json_object_setn_new(vocab, text, (size_t)size, json_integer(i));
        if (bad != 0) return out_of_memory(err);
    }
    if (unigram) return OT_OK;
    json_t *merges = json_array();
    if (json_object_set_new(model, "merges", merges) != 0) return out_of_memory(err);
    return t->model == OT_TOK_MODEL_SPM ? put_scored_merges(t, merges, err) : put_merges(t, merges, err);
}

ot_status ot_tokenizer_write_json(const ot_tokenizer *t, const char *path, ot_error *err) {
    json_t *document = json_deep_copy(t->config);
    if (document == NULL) return out_of_memory(err);
    ot_status status = put_model(t, json_object_get(document, "model"), err);
    if (status == OT_OK) status = ot_json_write(path, document, err);
    json_decref(document);
    return status;
}
