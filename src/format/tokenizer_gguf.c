/* The vocabulary inside a GGUF: "gpt2" (byte-level BPE whose pre-tokenizer is named by tokenizer.ggml.pre) and "llama"
 * (sentencepiece). Names of pre-tokenizers that are not in the table are refused: a guess would give other ids. */
#include "format/gguf.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "format/tokenizer_internal.h"
#include "format/unicode.h"

/* A pattern per family; NULL: GPT-2's own, through ByteLevel. */
#define TAIL "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define HEAD "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
static const char LLAMA3_PATTERN[] = HEAD "|\\p{N}{1,3}" TAIL;
static const char QWEN2_PATTERN[] = HEAD "|\\p{N}" TAIL;
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define FRONT "[^\\r\\n\\p{L}\\p{N}]?"
#define SUFFIX "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
#define SLASH_TAIL "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
static const char TEKKEN_PATTERN[] = FRONT UPPER "*" LOWER "+|" FRONT UPPER "+" LOWER "*|\\p{N}" SLASH_TAIL;
static const char GPT4O_PATTERN[] =
    FRONT UPPER "*" LOWER "+" SUFFIX "|" FRONT UPPER "+" LOWER "*" SUFFIX "|\\p{N}{1,3}" SLASH_TAIL;

/* BLOOM's words: all but blanks and the punctuation of several scripts. */
static const char BLOOM_PATTERN[] = " ?[^(\\s|[.,!?\xE2\x80\xA6\xE3\x80\x82\xEF\xBC\x8C\xE3\x80\x81\xE0\xA5\xA4\xDB\x94\xD8\x8C])]+";

/* The usual name of each behaviour comes first: that is the one that is written. */
const ot_tok_family ot_tok_families[] = {
    {"gpt-2", NULL, false, false, false, false},
    {"default", NULL, false, false, false, false},
    {"phi-2", NULL, false, false, false, false},
    {"mpt", NULL, false, false, false, false},
    {"olmo", NULL, false, false, false, false},
    {"jina-es", NULL, false, false, false, false},
    {"jina-de", NULL, false, false, false, false},
    {"smollm", NULL, true, false, false, false},
    {"starcoder", NULL, true, false, false, false},
    {"refact", NULL, true, false, false, false},
    {"command-r", NULL, true, true, false, false},
    {"codeshell", NULL, true, false, false, false},
    {"llama-bpe", LLAMA3_PATTERN, false, false, true, true},
    {"llama3", LLAMA3_PATTERN, false, false, true, true},
    {"llama-v3", LLAMA3_PATTERN, false, false, true, true},
    {"smaug-bpe", LLAMA3_PATTERN, false, false, false, false},
    {"dbrx", LLAMA3_PATTERN, false, false, false, false},
    {"qwen2", QWEN2_PATTERN, false, true, false, false},
    {"deepseek-r1-qwen", QWEN2_PATTERN, false, true, false, false},
    {"stablelm2", QWEN2_PATTERN, false, true, false, false},
    {"tekken", TEKKEN_PATTERN, false, false, true, true},
    {"gpt-4o", GPT4O_PATTERN, false, false, false, false},
    {"bloom", BLOOM_PATTERN, false, false, false, false},
    {0},
};

static const ot_tok_family *find_family(const char *name) {
    for (const ot_tok_family *f = ot_tok_families; f->name != NULL; f++) {
        if (strcmp(f->name, name) == 0) return f;
    }
    return NULL;
}

static ot_status read_tokens(ot_tokenizer *t, const ot_gguf *g, const char *where, ot_error *err) {
    int64_t count = ot_gguf_array_count(g, "tokenizer.ggml.tokens");
    if (count <= 0) return ot_fail(err, OT_ERR_FORMAT, "%s: no tokens under tokenizer.ggml.tokens", where);
    for (int64_t i = 0; i < count; i++) {
        int64_t size = 0;
        const char *text = ot_gguf_array_str(g, "tokenizer.ggml.tokens", i, &size);
        if (text == NULL) return ot_fail(err, OT_ERR_FORMAT, "%s: tokenizer.ggml.tokens holds no strings", where);
        if (!ot_utf8_valid(text, size)) return ot_fail(err, OT_ERR_FORMAT, "%s: token %lld is not UTF-8", where, (long long)i);
        OT_TRY(ot_tok_vocab_add(&t->vocab, i, text, size, where, err));
    }
    return ot_tok_vocab_finish(&t->vocab, err);
}

/* The type of every token; without the array a token's look decides. */
static ot_status read_types(ot_tokenizer *t, const ot_gguf *g, const char *where, ot_error *err) {
    int64_t count = ot_gguf_array_count(g, "tokenizer.ggml.token_type");
    if (count >= 0 && count != t->vocab.count) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: %lld token types for %lld tokens", where, (long long)count,
                       (long long)t->vocab.count);
    }
    OT_TRY(ot_calloc(t->vocab.count, 1, "token types", (void **)&t->types, err));
    for (int64_t i = 0; i < t->vocab.count; i++) {
        int64_t type = OT_TOK_NORMAL, size = 0;
        if (count >= 0) {
            if (!ot_gguf_array_i64(g, "tokenizer.ggml.token_type", i, &type) || type < 0 || type > OT_TOK_BYTE) {
                return ot_fail(err, OT_ERR_FORMAT, "%s: the type of token %lld is not one of 0 to 6", where, (long long)i);
            }
            if (type == 0) type = OT_TOK_NORMAL;
        } else {
            const char *text = ot_tok_vocab_text(&t->vocab, i, &size);
            if (t->model == OT_TOK_MODEL_SPM && text != NULL && ot_tok_byte_token(text, size) >= 0) type = OT_TOK_BYTE;
        }
        t->types[i] = (uint8_t)type;
    }
    return OT_OK;
}

static ot_status read_id(const ot_tokenizer *t, const ot_gguf *g, const char *key, const char *where, int32_t *out,
                         ot_error *err) {
    int64_t id = 0;
    if (!ot_gguf_i64(g, key, &id) || id == -1 || id == UINT32_MAX) return OT_OK;
    if (id < 0 || id >= t->vocab.count) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: %s is %lld, outside the %lld tokens", where, key, (long long)id,
                       (long long)t->vocab.count);
    }
    *out = (int32_t)id;
    return OT_OK;
}

static bool read_flag(const ot_gguf *g, const char *key, bool otherwise) {
    bool value = otherwise;
    return ot_gguf_bool(g, key, &value) ? value : otherwise;
}

/* ==== gpt2 ==== */

static const char CONFIG[] =
    "{'version': '1.0', 'truncation': null, 'padding': null, 'added_tokens': [], 'normalizer': null, 'pre_tokenizer': null,"
    " 'post_processor': null, 'decoder': {'type': 'ByteLevel', 'add_prefix_space': true, 'trim_offsets': true, 'use_regex': "
    "true},"
    " 'model': {'type': 'BPE', 'dropout': null, 'unk_token': null, 'continuing_subword_prefix': null, 'end_of_word_suffix': null,"
    " 'fuse_unk': false, 'byte_fallback': false, 'ignore_merges': false}}";

static ot_status set_new(json_t *object, const char *key, json_t *value, ot_error *err) {
    if (value == NULL || json_object_set_new(object, key, value) != 0) return ot_fail_memory(err, 0, "a tokenizer configuration");
    return OT_OK;
}

static ot_status set_pre_tokenizer(const ot_gguf *g, json_t *config, const ot_tok_family *f, ot_error *err) {
    int prefix = read_flag(g, "tokenizer.ggml.add_space_prefix", false) ? 1 : 0;
    json_t *bytes = json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", prefix, "trim_offsets", 1,
                              "use_regex", f->pattern == NULL ? 1 : 0);
    json_t *first = NULL;
    if (f->digits) first = json_pack("{s:s, s:b}", "type", "Digits", "individual_digits", 1);
    if (f->pattern != NULL) {
        first = json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex", f->pattern, "behavior", "Isolated",
                          "invert", 0);
    }
    json_t *whole = first == NULL ? bytes : json_pack("{s:s, s:[o, o]}", "type", "Sequence", "pretokenizers", first, bytes);
    OT_TRY(set_new(config, "pre_tokenizer", whole, err));
    if (f->nfc) OT_TRY(set_new(config, "normalizer", json_pack("{s:s}", "type", "NFC"), err));
    return set_new(json_object_get(config, "model"), "ignore_merges", json_boolean(f->ignore_merges), err);
}

static ot_status read_merges(ot_tokenizer *t, const ot_gguf *g, const char *where, ot_error *err) {
    int64_t count = ot_gguf_array_count(g, "tokenizer.ggml.merges");
    if (count < 0) return ot_fail(err, OT_ERR_FORMAT, "%s: no merges under tokenizer.ggml.merges", where);
    for (int64_t i = 0; i < count; i++) {
        int64_t size = 0;
        const char *line = ot_gguf_array_str(g, "tokenizer.ggml.merges", i, &size);
        if (line == NULL) return ot_fail(err, OT_ERR_FORMAT, "%s: tokenizer.ggml.merges holds no strings", where);
        OT_TRY(ot_tok_add_merge_line(t, line, size, i, where, err));
    }
    return ot_tok_merges_finish(&t->merges, err);
}

/* Control, unknown and user-defined tokens are found in a text as whole tokens; the first two are special. */
static ot_status add_tokens(const ot_tokenizer *t, json_t *config, ot_error *err) {
    for (int64_t i = 0; i < t->vocab.count; i++) {
        bool special = t->types[i] == OT_TOK_CONTROL || t->types[i] == OT_TOK_UNKNOWN;
        int64_t size = 0;
        const char *text = ot_tok_vocab_text(&t->vocab, i, &size);
        if (!special && t->types[i] != OT_TOK_USER) continue;
        OT_TRY(ot_tok_config_add(config, text, size, i, special, err));
    }
    return OT_OK;
}

static ot_status load_gpt2(ot_tokenizer *t, const ot_gguf *g, const char *where, ot_error *err) {
    const char *pre = ot_gguf_str(g, "tokenizer.ggml.pre", NULL);
    const ot_tok_family *f = find_family(pre == NULL ? "default" : pre);
    if (f == NULL) {
        return ot_fail(err, OT_ERR_UNSUPPORTED,
                       "%s: the pre-tokenizer \"%.60s\" (tokenizer.ggml.pre) is not known; use the model's tokenizer.json", where,
                       pre);
    }
    OT_TRY(read_types(t, g, where, err));
    OT_TRY(read_merges(t, g, where, err));
    OT_TRY(ot_tok_config_from(CONFIG, &t->config, err));
    t->ignore_merges = f->ignore_merges;
    OT_TRY(set_pre_tokenizer(g, t->config, f, err));
    OT_TRY(add_tokens(t, t->config, err));
    int32_t before = read_flag(g, "tokenizer.ggml.add_bos_token", f->add_bos) ? t->bos : -1;
    int32_t after = read_flag(g, "tokenizer.ggml.add_eos_token", false) ? t->eos : -1;
    OT_TRY(ot_tok_config_template(t, t->config, before, after, err));
    return ot_tok_configure(t, t->config, where, err);
}

/* ==== llama ==== */

static ot_status load_llama(ot_tokenizer *t, const ot_gguf *g, const char *where, ot_error *err) {
    t->model = OT_TOK_MODEL_SPM;
    if (ot_gguf_array_count(g, "tokenizer.ggml.scores") != t->vocab.count) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: tokenizer.ggml.scores must hold one score for each of the %lld tokens", where,
                       (long long)t->vocab.count);
    }
    if (ot_gguf_array_count(g, "tokenizer.ggml.precompiled_charsmap") > 0) {
        return ot_fail(err, OT_ERR_UNSUPPORTED,
                       "%s: tokenizer.ggml.precompiled_charsmap is not supported; use the model's tokenizer.json", where);
    }
    OT_TRY(ot_calloc(t->vocab.count, (int64_t)sizeof *t->scores, "scores", (void **)&t->scores, err));
    for (int64_t i = 0; i < t->vocab.count; i++) {
        if (!ot_gguf_array_f64(g, "tokenizer.ggml.scores", i, &t->scores[i]) || isnan(t->scores[i])) {
            return ot_fail(err, OT_ERR_FORMAT, "%s: the score of token %lld is no number", where, (long long)i);
        }
    }
    OT_TRY(read_types(t, g, where, err));
    ot_tok_spm_options options = {.unk = -1, .bos = t->bos, .eos = t->eos};
    OT_TRY(read_id(t, g, "tokenizer.ggml.unknown_token_id", where, &options.unk, err));
    options.dummy_prefix = read_flag(g, "tokenizer.ggml.add_space_prefix", true);
    options.remove_extra = read_flag(g, "tokenizer.ggml.remove_extra_whitespaces", false);
    options.add_bos = read_flag(g, "tokenizer.ggml.add_bos_token", true);
    options.add_eos = read_flag(g, "tokenizer.ggml.add_eos_token", false);
    for (int64_t i = 0; i < t->vocab.count; i++) options.byte_fallback |= t->types[i] == OT_TOK_BYTE;
    return ot_tok_spm_finish(t, &options, where, err);
}

ot_status ot_tok_load_gguf(ot_tokenizer *t, const ot_gguf *g, ot_error *err) {
    const char *where = ot_gguf_path(g);
    const char *model = ot_gguf_str(g, "tokenizer.ggml.model", NULL);
    if (model == NULL && ot_gguf_adapter(g) != NULL)
        return ot_fail(err, OT_ERR_FORMAT, "%s is an adapter in GGUF and holds no tokenizer: give the model that it goes over", where);
    if (model == NULL)
        return ot_fail(err, OT_ERR_FORMAT, "%s: no tokenizer in this GGUF (tokenizer.ggml.model is absent)", where);
    bool gpt2 = strcmp(model, "gpt2") == 0;
    if (!gpt2 && strcmp(model, "llama") != 0) {
        return ot_fail(err, OT_ERR_UNSUPPORTED,
                       "%s: the tokenizer \"%.60s\" (tokenizer.ggml.model) is not supported; gpt2 and llama are", where, model);
    }
    OT_TRY(read_tokens(t, g, where, err));
    OT_TRY(read_id(t, g, "tokenizer.ggml.bos_token_id", where, &t->bos, err));
    OT_TRY(read_id(t, g, "tokenizer.ggml.eos_token_id", where, &t->eos, err));
    return gpt2 ? load_gpt2(t, g, where, err) : load_llama(t, g, where, err);
}
