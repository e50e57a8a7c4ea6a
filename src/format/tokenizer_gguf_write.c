/* A tokenizer as tokenizer.ggml.* pairs. What llama.cpp knows by name only - how a text is cut before merging - is found by comparing the
 * configuration with the table of names; a chain that is none of them is refused, because a guess would give other ids. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/gguf_write.h"
#include "format/tokenizer_internal.h"

int32_t ot_tokenizer_find(const ot_tokenizer *t, const char *text) { return ot_tok_find(t, text); }

static bool is_type(const json_t *value, const char *type) {
    const char *have = json_string_value(json_object_get(value, "type"));
    return have != NULL && strcmp(have, type) == 0;
}

/* Item i of a component: of a Sequence's list, or the component itself; NULL: no more. */
static const json_t *item_of(const json_t *component, const char *list, size_t i) {
    if (component == NULL || json_is_null(component)) return NULL;
    if (is_type(component, "Sequence")) return json_array_get(json_object_get(component, list), i);
    return i == 0 ? component : NULL;
}

/* ==== Byte-level BPE. ==== */

/* Fills what the configuration does; false when it does something that no name stands for. */
static bool describe(const json_t *config, ot_tok_family *out, bool *prefix_space) {
    *out = (ot_tok_family){0};
    bool bytes = false;
    for (size_t i = 0;; i++) {
        const json_t *n = item_of(json_object_get(config, "normalizer"), "normalizers", i);
        if (n == NULL) break;
        if (!is_type(n, "NFC")) return false;
        out->nfc = true;
    }
    for (size_t i = 0;; i++) {
        const json_t *p = item_of(json_object_get(config, "pre_tokenizer"), "pretokenizers", i);
        if (p == NULL) break;
        const char *regex = json_string_value(json_object_get(json_object_get(p, "pattern"), "Regex"));
        if (bytes) return false;
        if (is_type(p, "Digits") && json_is_true(json_object_get(p, "individual_digits")) && i == 0) {
            out->digits = true;
        } else if (is_type(p, "Split") && regex != NULL && out->pattern == NULL && !json_is_true(json_object_get(p, "invert"))) {
            out->pattern = regex;
        } else if (is_type(p, "ByteLevel")) {
            bytes = true;
            *prefix_space = !json_is_false(json_object_get(p, "add_prefix_space"));
            if (json_is_false(json_object_get(p, "use_regex")) != (out->pattern != NULL)) return false;
        } else {
            return false;
        }
    }
    out->ignore_merges = json_is_true(json_object_get(json_object_get(config, "model"), "ignore_merges"));
    return bytes;
}

static const ot_tok_family *match(const ot_tok_family *wanted) {
    for (const ot_tok_family *f = ot_tok_families; f->name != NULL; f++) {
        bool same = (f->pattern == NULL) == (wanted->pattern == NULL) && (f->pattern == NULL || strcmp(f->pattern, wanted->pattern) == 0);
        if (same && f->digits == wanted->digits && f->nfc == wanted->nfc && f->ignore_merges == wanted->ignore_merges) return f;
    }
    return NULL;
}

static void put_merges(const ot_tokenizer *t, ot_gguf_writer *w, ot_tok_buf *line, ot_error *err, ot_status *status) {
    ot_gguf_put_strings(w, "tokenizer.ggml.merges", t->merges.count);
    for (int64_t i = 0; i < t->merges.count && *status == OT_OK; i++) {
        int64_t left_size = 0, right_size = 0;
        const char *left = ot_tok_vocab_text(&t->vocab, (int64_t)(t->merges.list[i].pair >> 32), &left_size);
        const char *right = ot_tok_vocab_text(&t->vocab, (int64_t)(t->merges.list[i].pair & UINT32_MAX), &right_size);
        line->size = 0;
        *status = ot_tok_buf_put(line, left, left_size, err);
        if (*status == OT_OK) *status = ot_tok_buf_put(line, " ", 1, err);
        if (*status == OT_OK) *status = ot_tok_buf_put(line, right, right_size, err);
        if (*status == OT_OK) ot_gguf_put_item(w, line->data, line->size);
    }
}

static ot_status put_gpt2(const ot_tokenizer *t, const ot_tokenizer_gguf *o, ot_gguf_writer *w, ot_error *err) {
    ot_tok_family does;
    bool prefix_space = false, known = describe(t->config, &does, &prefix_space);
    const ot_tok_family *f = known ? match(&does) : NULL;
    if (f == NULL && o->pre == NULL) {
        return ot_fail(err, OT_ERR_UNSUPPORTED,
                       "%s: how this tokenizer cuts a text has no name that a GGUF could carry: if llama.cpp knows one, give it with --pre-tokenizer", t->path);
    }
    ot_gguf_put_str(w, "tokenizer.ggml.model", "gpt2");
    ot_gguf_put_str(w, "tokenizer.ggml.pre", o->pre != NULL ? o->pre : f->name);
    if (prefix_space) ot_gguf_put_bool(w, "tokenizer.ggml.add_space_prefix", true);
    ot_tok_buf line = {0};
    ot_status status = OT_OK;
    put_merges(t, w, &line, err, &status);
    ot_tok_buf_free(&line);
    return status;
}

/* ==== Sentencepiece, and the BPE that Hugging Face makes of it. ==== */

/* llama.cpp merges by the score of the piece that results. Merges say the same when all that make one piece follow each other: then the rank
 * of the first is as good as a score. */
static ot_status scores_of_merges(const ot_tokenizer *t, float *scores, ot_error *err) {
    int32_t last = -1;
    for (int64_t i = 0; i < t->merges.count; i++) {
        int32_t id = t->merges.list[i].id;
        if (id != last && scores[id] != 0.0F) {
            return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: its merges are in an order that scores of pieces cannot express, and a GGUF of this kind has only those",
                           t->path);
        }
        if (id != last) scores[id] = -(float)(i + 1);
        last = id;
    }
    return OT_OK;
}

static bool puts_blank_in_front(const json_t *config) {
    for (size_t i = 0;; i++) {
        const json_t *n = item_of(json_object_get(config, "normalizer"), "normalizers", i);
        if (n == NULL) break;
        if (is_type(n, "Prepend")) return true;
    }
    for (size_t i = 0;; i++) {
        const json_t *p = item_of(json_object_get(config, "pre_tokenizer"), "pretokenizers", i);
        if (p == NULL) return false;
        const char *scheme = json_string_value(json_object_get(p, "prepend_scheme"));
        bool never = scheme != NULL ? strcmp(scheme, "never") == 0 : json_is_false(json_object_get(p, "add_prefix_space"));
        if (is_type(p, "Metaspace")) return !never;
    }
}

static bool joins_blanks(const json_t *config) {
    for (size_t i = 0;; i++) {
        const json_t *n = item_of(json_object_get(config, "normalizer"), "normalizers", i);
        if (n == NULL) return false;
        const char *regex = json_string_value(json_object_get(json_object_get(n, "pattern"), "Regex"));
        if (is_type(n, "Replace") && regex != NULL && strcmp(regex, " {2,}") == 0) return true;
    }
}

static ot_status put_llama(const ot_tokenizer *t, const ot_tokenizer_gguf *o, ot_gguf_writer *w, ot_error *err) {
    float *scores = NULL;
    OT_TRY(ot_calloc(o->vocab_size, (int64_t)sizeof *scores, "scores", (void **)&scores, err));
    ot_status status = OT_OK;
    if (t->model == OT_TOK_MODEL_SPM) {
        for (int64_t i = 0; i < t->vocab.count && i < o->vocab_size; i++) scores[i] = (float)t->scores[i];
    } else {
        status = scores_of_merges(t, scores, err);
    }
    ot_gguf_put_str(w, "tokenizer.ggml.model", "llama");
    ot_gguf_put_str(w, "tokenizer.ggml.pre", "default");
    ot_gguf_put_f32s(w, "tokenizer.ggml.scores", scores, o->vocab_size);
    ot_gguf_put_bool(w, "tokenizer.ggml.add_space_prefix", puts_blank_in_front(t->config));
    if (joins_blanks(t->config)) ot_gguf_put_bool(w, "tokenizer.ggml.remove_extra_whitespaces", true);
    ot_free(scores);
    return status;
}

/* ==== Both. ==== */

static int32_t type_of(const ot_tokenizer *t, int64_t id, bool llama) {
    int64_t size = 0;
    const char *text = ot_tok_id_text(t, id, &size);
    if (text == NULL) return OT_TOK_UNUSED;
    if (t->types != NULL && id < t->vocab.count) return t->types[id];
    if (llama && id == t->unk) return OT_TOK_UNKNOWN;
    int32_t added = id < t->id_count ? t->added_by_id[id] : 0;
    if (added > 0) return t->added[added - 1].special ? OT_TOK_CONTROL : OT_TOK_USER;
    return llama && ot_tok_byte_token(text, size) >= 0 ? OT_TOK_BYTE : OT_TOK_NORMAL;
}

static ot_status put_tokens(const ot_tokenizer *t, int64_t count, bool llama, ot_gguf_writer *w, ot_error *err) {
    int32_t *types = NULL;
    OT_TRY(ot_calloc(count, (int64_t)sizeof *types, "token types", (void **)&types, err));
    ot_gguf_put_strings(w, "tokenizer.ggml.tokens", count);
    for (int64_t i = 0; i < count; i++) {
        int64_t size = 0;
        const char *text = ot_tok_id_text(t, i, &size);
        char name[32];
        if (text == NULL) {
            size = snprintf(name, sizeof name, "[PAD%lld]", (long long)i);
            text = name;
        }
        ot_gguf_put_item(w, text, size);
        types[i] = type_of(t, i, llama);
    }
    ot_gguf_put_i32s(w, "tokenizer.ggml.token_type", types, count);
    ot_free(types);
    return OT_OK;
}

static void put_id(ot_gguf_writer *w, const char *key, int32_t id) {
    if (id >= 0) ot_gguf_put_u32(w, key, (uint32_t)id);
}

static bool is_byte_level(const ot_tokenizer *t) {
    for (int64_t i = 0; i < t->pre_tokenizers.count; i++) {
        if (t->pre_tokenizers.steps[i].kind == OT_TOK_BYTE_LEVEL) return true;
    }
    return false;
}

ot_status ot_tokenizer_put_gguf(const ot_tokenizer *t, const ot_tokenizer_gguf *options, ot_gguf_writer *w, ot_error *err) {
    bool bytes = t->model == OT_TOK_MODEL_BPE && is_byte_level(t), fallback = t->model == OT_TOK_MODEL_SPM || t->byte_fallback;
    if (t->model == OT_TOK_MODEL_UNIGRAM || t->word_suffix != NULL || t->word_prefix != NULL || (!bytes && !fallback)) {
        return ot_fail(err, OT_ERR_UNSUPPORTED,
                       "%s: only byte-level BPE and sentencepiece's BPE can be written into a GGUF, and this tokenizer is neither", t->path);
    }
    if (t->id_count > options->vocab_size) {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: the tokenizer has %lld tokens, but the model's embedding has %lld rows", t->path,
                       (long long)t->id_count, (long long)options->vocab_size);
    }
    if (t->before.count > 1 || t->after.count > 1) {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: the tokenizer adds several special tokens on one side of a text, which a GGUF cannot express", t->path);
    }
    OT_TRY(bytes ? put_gpt2(t, options, w, err) : put_llama(t, options, w, err));
    OT_TRY(put_tokens(t, options->vocab_size, !bytes, w, err));
    put_id(w, "tokenizer.ggml.bos_token_id", t->before.count > 0 ? t->before.data[0] : options->bos);
    put_id(w, "tokenizer.ggml.eos_token_id", t->after.count > 0 ? t->after.data[0] : options->eos);
    put_id(w, "tokenizer.ggml.unknown_token_id", options->unk >= 0 ? options->unk : bytes ? -1 : t->unk);
    put_id(w, "tokenizer.ggml.padding_token_id", options->pad);
    ot_gguf_put_bool(w, "tokenizer.ggml.add_bos_token", t->before.count > 0);
    ot_gguf_put_bool(w, "tokenizer.ggml.add_eos_token", t->after.count > 0);
    return OT_OK;
}
