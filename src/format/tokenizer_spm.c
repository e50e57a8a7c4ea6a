/* sentencepiece's .model file, read as a protocol buffer by hand, and what its BPE models share with GGUF's "llama"
 * vocabularies. A control token such as <s> inside a text is plain text here, as it is for sentencepiece. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/json.h"
#include "format/tokenizer_internal.h"
#include "format/unicode.h"

enum { MAX_PIECE = 4096 }; /* bytes; sentencepiece itself makes pieces of at most 16 characters unless told otherwise */

/* ==== Protocol buffers ==== */

typedef struct message {
    const uint8_t *data;
    int64_t size, at;
    int64_t base; /* of data in the file, for messages */
    const char *where;
    ot_error *err;
} message;
typedef struct field {
    uint64_t number, value; /* value: of varints and fixed widths */
    int wire;
    message inner; /* wire 2 */
} field;

static ot_status broken(const message *m, const char *what) {
    return ot_fail_at(m->err, OT_ERR_FORMAT, m->base + m->at, "%s: not a sentencepiece model: %s at byte %lld", m->where, what,
                      (long long)(m->base + m->at));
}

static ot_status read_varint(message *m, uint64_t *out) {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        if (m->at >= m->size) return broken(m, "the file ends inside a number");
        uint8_t c = m->data[m->at++];
        value |= (uint64_t)(c & 0x7F) << shift;
        if (c < 0x80) {
            *out = value;
            return OT_OK;
        }
    }
    return broken(m, "a number of more than 64 bits");
}

static ot_status read_fixed(message *m, int bytes, uint64_t *out) {
    if (m->size - m->at < bytes) return broken(m, "the file ends inside a number");
    *out = 0;
    for (int i = 0; i < bytes; i++) *out |= (uint64_t)m->data[m->at + i] << (8 * i);
    m->at += bytes;
    return OT_OK;
}

static ot_status read_field(message *m, field *f) {
    uint64_t key = 0, size = 0;
    *f = (field){0};
    OT_TRY(read_varint(m, &key));
    f->number = key >> 3;
    f->wire = (int)(key & 7);
    switch (f->wire) {
    case 0: return read_varint(m, &f->value);
    case 1: return read_fixed(m, 8, &f->value);
    case 5: return read_fixed(m, 4, &f->value);
    case 2:
        OT_TRY(read_varint(m, &size));
        if (size > (uint64_t)(m->size - m->at)) return broken(m, "a field longer than the file");
        f->inner = (message){m->data + m->at, (int64_t)size, 0, m->base + m->at, m->where, m->err};
        m->at += (int64_t)size;
        return OT_OK;
    default: return broken(m, "a field of an unknown kind");
    }
}

/* ==== The model ==== */

typedef struct model_spec {
    int64_t type; /* 1 unigram, 2 BPE */
    ot_tok_spm_options options;
    bool escape;
    int64_t scores_capacity, types_capacity;
} model_spec;

static ot_status read_piece(ot_tokenizer *t, message m, model_spec *spec) {
    const char *text = "";
    int64_t size = 0, type = OT_TOK_NORMAL, id = t->vocab.count;
    float score = 0;
    while (m.at < m.size) {
        field f;
        OT_TRY(read_field(&m, &f));
        if (f.number == 1 && f.wire == 2) {
            text = (const char *)f.inner.data;
            size = f.inner.size;
        } else if (f.number == 2 && f.wire == 5) {
            uint32_t bits = (uint32_t)f.value;
            memcpy(&score, &bits, sizeof score);
        } else if (f.number == 3 && f.wire == 0) {
            if (f.value < OT_TOK_NORMAL || f.value > OT_TOK_BYTE) return broken(&m, "a piece of an unknown type");
            type = (int64_t)f.value;
        }
    }
    if (size == 0 || !ot_utf8_valid(text, size) || isnan(score))
        return broken(&m, "a piece that is empty, not UTF-8 or without a score");
    OT_TRY(ot_tok_vocab_add(&t->vocab, id, text, size, m.where, m.err));
    OT_TRY(ot_grow((void **)&t->scores, &spec->scores_capacity, id + 1, (int64_t)sizeof *t->scores, "scores", m.err));
    OT_TRY(ot_grow((void **)&t->types, &spec->types_capacity, id + 1, 1, "token types", m.err));
    t->scores[id] = (double)score;
    t->types[id] = (uint8_t)type;
    return OT_OK;
}

static ot_status read_trainer(message m, model_spec *spec) {
    while (m.at < m.size) {
        field f;
        OT_TRY(read_field(&m, &f));
        if (f.wire != 0) continue;
        /* Negative ids (none) come as 64-bit two's complement. */
        int32_t id = f.value > INT32_MAX ? -1 : (int32_t)f.value;
        switch (f.number) {
        case 3: spec->type = id; break;
        case 35: spec->options.byte_fallback = f.value != 0; break;
        case 40: spec->options.unk = id; break;
        case 41: spec->options.bos = id; break;
        case 42: spec->options.eos = id; break;
        default: break;
        }
    }
    return OT_OK;
}

static ot_status read_normalizer(message m, model_spec *spec) {
    while (m.at < m.size) {
        field f;
        OT_TRY(read_field(&m, &f));
        if (f.number == 2 && f.wire == 2 && f.inner.size > 0) {
            return ot_fail(m.err, OT_ERR_UNSUPPORTED,
                           "%s: a sentencepiece model with a character map is not supported; use its tokenizer.json", m.where);
        }
        if (f.wire != 0) continue;
        if (f.number == 3) spec->options.dummy_prefix = f.value != 0;
        if (f.number == 4) spec->options.remove_extra = f.value != 0;
        if (f.number == 5) spec->escape = f.value != 0;
    }
    return OT_OK;
}

ot_status ot_tok_load_spm_bytes(ot_tokenizer *t, const uint8_t *data, int64_t size, const char *where, ot_error *err) {
    message m = {data, size, 0, 0, where, err};
    model_spec spec = {.type = 1, .escape = true};
    spec.options = (ot_tok_spm_options){.dummy_prefix = true, .remove_extra = true, .unk = 0, .bos = 1, .eos = 2};
    t->model = OT_TOK_MODEL_SPM;
    while (m.at < m.size) {
        field f;
        OT_TRY(read_field(&m, &f));
        if (f.wire != 2) continue;
        if (f.number == 1) OT_TRY(read_piece(t, f.inner, &spec));
        if (f.number == 2) OT_TRY(read_trainer(f.inner, &spec));
        if (f.number == 3) OT_TRY(read_normalizer(f.inner, &spec));
    }
    if (t->vocab.count == 0) return broken(&m, "no pieces before the end");
    if (spec.type != 2) {
        return ot_fail(err, OT_ERR_UNSUPPORTED,
                       "%s: only sentencepiece's BPE models are supported; use the model's tokenizer.json", where);
    }
    if (!spec.escape)
        return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: a sentencepiece model that does not escape blanks is not supported", where);
    OT_TRY(ot_tok_vocab_finish(&t->vocab, err));
    return ot_tok_spm_finish(t, &spec.options, where, err);
}

ot_status ot_tok_load_spm(ot_tokenizer *t, const char *path, ot_error *err) {
    char *data = NULL;
    int64_t size = 0;
    OT_TRY(ot_read_file(path, OT_TOK_MAX_FILE, &data, &size, err));
    ot_status status = ot_tok_load_spm_bytes(t, (const uint8_t *)data, size, path, err);
    ot_free(data);
    return status;
}

/* ==== Shared with GGUF ==== */

typedef struct scored {
    double score;
    int32_t id;
} scored;

static int compare_scored(const void *a, const void *b) {
    const scored *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static ot_status rank_scores(ot_tokenizer *t, ot_error *err) {
    scored *list = NULL;
    OT_TRY(ot_malloc(t->vocab.count, (int64_t)sizeof *list, "scores", (void **)&list, err));
    for (int64_t i = 0; i < t->vocab.count; i++) list[i] = (scored){t->scores[i], (int32_t)i};
    qsort(list, (size_t)t->vocab.count, sizeof *list, compare_scored);
    ot_status status = ot_malloc(t->vocab.count, (int64_t)sizeof *t->score_rank, "scores", (void **)&t->score_rank, err);
    int32_t rank = 0;
    for (int64_t i = 0; i < t->vocab.count && status == OT_OK; i++) {
        if (i > 0 && list[i].score != list[i - 1].score) rank++;
        t->score_rank[list[i].id] = rank;
    }
    ot_free(list);
    return status;
}

static const char CONFIG[] =
    "{'version': '1.0', 'truncation': null, 'padding': null, 'added_tokens': [], 'normalizer': {'type': 'Sequence', "
    "'normalizers': []},"
    " 'pre_tokenizer': null, 'post_processor': null, 'decoder': {'type': 'Sequence', 'decoders': ["
    "{'type': 'Replace', 'pattern': {'String': '\\u2581'}, 'content': ' '}, {'type': 'ByteFallback'}, {'type': 'Fuse'}]},"
    " 'model': {'type': 'BPE', 'dropout': null, 'unk_token': null, 'continuing_subword_prefix': null, 'end_of_word_suffix': null,"
    " 'fuse_unk': true, 'byte_fallback': false, 'ignore_merges': false}}";

static json_t *replacement(const char *kind, const char *pattern, const char *content) {
    return json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", kind, pattern, "content", content);
}

/* sentencepiece's handling of blanks, spelled out as steps. */
static ot_status set_blanks(json_t *config, const ot_tok_spm_options *o, ot_error *err) {
    json_t *list = json_object_get(json_object_get(config, "normalizer"), "normalizers");
    json_t *decoders = json_object_get(json_object_get(config, "decoder"), "decoders");
    bool bad = false;
    if (o->remove_extra) {
        bad |= json_array_append_new(list, replacement("Regex", "\\A +", "")) != 0;
        bad |= json_array_append_new(list, replacement("Regex", " {2,}", " ")) != 0;
    }
    if (o->dummy_prefix)
        bad |= json_array_append_new(list, json_pack("{s:s, s:s}", "type", "Prepend", "prepend", OT_TOK_BLANK)) != 0;
    bad |= json_array_append_new(list, replacement("String", " ", OT_TOK_BLANK)) != 0;
    if (o->remove_extra) bad |= json_array_append_new(list, replacement("Regex", "\xE2\x96\x81+\\z", "")) != 0;
    if (o->dummy_prefix) {
        bad |= json_array_append_new(
                   decoders, json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip", "content", " ", "start", 1, "stop", 0)) != 0;
    }
    return bad ? ot_fail_memory(err, 0, "a tokenizer configuration") : OT_OK;
}

/* Decoding by sentencepiece's own rules instead of the nearest chain of decoders, which is for other programs. */
static ot_status decode_natively(ot_tokenizer *t, const ot_tok_spm_options *o, ot_error *err) {
    int64_t size = 0;
    const char *unk = t->unk >= 0 ? ot_tok_vocab_text(&t->vocab, t->unk, &size) : NULL;
    ot_tok_step native = {.kind = OT_TOK_SENTENCEPIECE, .prefix_space = o->dummy_prefix, .split = o->remove_extra};
    native.content_size = unk != NULL ? size : 0;
    native.content = ot_arena_strndup(&t->arena, unk != NULL ? unk : "", (size_t)native.content_size, err);
    native.pattern = (ot_tok_pattern){.text = ot_arena_strdup(&t->arena, OT_TOK_BLANK, err), .size = OT_TOK_BLANK_SIZE};
    if (native.content == NULL || native.pattern.text == NULL) return OT_ERR_MEMORY;
    for (int64_t i = 0; i < t->decoders.count; i++) ot_tok_regex_free(t->decoders.steps[i].pattern.regex);
    t->decoders.count = 1; /* the chain above has at least three */
    t->decoders.steps[0] = native;
    return OT_OK;
}

static ot_status check_id(const ot_tokenizer *t, int32_t *id, const char *what, const char *where, ot_error *err) {
    if (*id < t->vocab.count) return OT_OK;
    return ot_fail(err, OT_ERR_FORMAT, "%s: the %s token's id %d is outside the %lld tokens", where, what, *id,
                   (long long)t->vocab.count);
}

ot_status ot_tok_spm_finish(ot_tokenizer *t, const ot_tok_spm_options *options, const char *where, ot_error *err) {
    ot_tok_spm_options o = *options;
    OT_TRY(check_id(t, &o.unk, "unknown", where, err));
    OT_TRY(check_id(t, &o.bos, "first", where, err));
    OT_TRY(check_id(t, &o.eos, "last", where, err));
    t->unk = o.unk;
    t->bos = o.bos;
    t->eos = o.eos;
    t->byte_fallback = o.byte_fallback;
    t->fuse_unk = true;
    OT_TRY(ot_tok_config_from(CONFIG, &t->config, err));
    for (int64_t i = 0; i < t->vocab.count; i++) {
        int64_t size = 0;
        const char *text = ot_tok_vocab_text(&t->vocab, i, &size);
        bool special = t->types[i] == OT_TOK_CONTROL || t->types[i] == OT_TOK_UNKNOWN || i == o.unk || i == o.bos || i == o.eos;
        if (size > MAX_PIECE) {
            return ot_fail(err, OT_ERR_FORMAT, "%s: piece %lld is longer than %d bytes", where, (long long)i, MAX_PIECE);
        }
        if (t->types[i] == OT_TOK_USER && size > 0) {
            OT_TRY(ot_grow((void **)&t->frozen.needles, &t->frozen.capacity, t->frozen.count + 1,
                           (int64_t)sizeof *t->frozen.needles, "user-defined pieces", err));
            t->frozen.needles[t->frozen.count++] = (ot_tok_needle){text, size, i};
        }
        if (t->types[i] == OT_TOK_UNUSED) t->any_unused = true;
        if (special || t->types[i] == OT_TOK_USER) OT_TRY(ot_tok_config_add(t->config, text, size, i, special, err));
    }
    ot_tok_matcher_finish(&t->frozen);
    OT_TRY(rank_scores(t, err));
    OT_TRY(set_blanks(t->config, &o, err));
    json_t *model = json_object_get(t->config, "model");
    int64_t size = 0;
    const char *unk = t->unk >= 0 ? ot_tok_vocab_text(&t->vocab, t->unk, &size) : NULL;
    if (json_object_set_new(model, "byte_fallback", json_boolean(o.byte_fallback)) != 0 ||
        (unk != NULL && json_object_set_new(model, "unk_token", json_stringn(unk, (size_t)size)) != 0)) {
        return ot_fail_memory(err, 0, "a tokenizer configuration");
    }
    OT_TRY(ot_tok_config_template(t, t->config, o.add_bos ? t->bos : -1, o.add_eos ? t->eos : -1, err));
    OT_TRY(ot_tok_configure(t, t->config, where, err));
    return decode_natively(t, &o, err);
}
