/* The JSON of a chain: normalizers, pre-tokenizers and decoders become flat lists of steps. A component that is not
 * implemented is an error that names it: running without it would give other ids. */
#include <stdio.h>
#include <string.h>

#include "format/json.h"
#include "format/tokenizer_internal.h"
#include "format/unicode.h"

static const char GPT2_PATTERN[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
/* The Whitespace pre-tokenizer's words are those of another library: joiners belong to them, numbers other than digits do not. */
#define WORD_ITEMS "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200C}\\x{200D}"
static const char WHITESPACE_PATTERN[] = "[" WORD_ITEMS "]+|[^" WORD_ITEMS "\\s]+";

static ot_status add_step(ot_tok_chain *chain, ot_tok_step_kind kind, const char *where, ot_tok_step **out, ot_error *err) {
    if (chain->count == OT_TOK_MAX_STEPS) {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: more than %d steps in one Sequence", where, OT_TOK_MAX_STEPS);
    }
    OT_TRY(
        ot_grow((void **)&chain->steps, &chain->capacity, chain->count + 1, (int64_t)sizeof *chain->steps, "a tokenizer", err));
    *out = &chain->steps[chain->count++];
    **out = (ot_tok_step){.kind = kind};
    return OT_OK;
}

/* A string of the JSON as a copy with its length (it may hold NULs). */
static ot_status copy_string(ot_tokenizer *t, const json_t *object, const char *key, const char *where, char **text,
                             int64_t *size, ot_error *err) {
    const json_t *value = json_object_get(object, key);
    if (!json_is_string(value)) return ot_fail(err, OT_ERR_FORMAT, "%s: \"%s\" must be a string", where, key);
    *size = (int64_t)json_string_length(value);
    *text = ot_arena_strndup(&t->arena, json_string_value(value), (size_t)*size, err);
    return *text == NULL ? OT_ERR_MEMORY : OT_OK;
}

static ot_status set_text(ot_tokenizer *t, const char *from, char **text, int64_t *size, ot_error *err) {
    *size = (int64_t)strlen(from);
    *text = ot_arena_strdup(&t->arena, from, err);
    return *text == NULL ? OT_ERR_MEMORY : OT_OK;
}

static ot_status read_pattern(ot_tokenizer *t, const json_t *object, const char *where, ot_tok_pattern *out, ot_error *err) {
    const json_t *pattern = json_object_get(object, "pattern");
    if (json_object_get(pattern, "String") != NULL) return copy_string(t, pattern, "String", where, &out->text, &out->size, err);
    char *text = NULL;
    int64_t size = 0;
    if (json_object_get(pattern, "Regex") == NULL) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: \"pattern\" must be {\"String\": ...} or {\"Regex\": ...}", where);
    }
    OT_TRY(copy_string(t, pattern, "Regex", where, &text, &size, err));
    return ot_tok_regex_new(text, size, where, &out->regex, err);
}

static ot_status read_flag(const json_t *object, const char *key, bool otherwise, const char *where, bool *out, ot_error *err) {
    bool found = false;
    *out = otherwise;
    OT_TRY(ot_json_bool(object, key, where, out, &found, err));
    if (!found) *out = otherwise;
    return OT_OK;
}

static ot_status read_behavior(const json_t *object, const char *where, ot_tok_behavior *out, ot_error *err) {
    static const char *const NAMES[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    const char *name = NULL;
    bool found = false;
    OT_TRY(ot_json_str(object, "behavior", where, &name, &found, err));
    if (!found) name = "Isolated";
    for (int i = 0; i < 5; i++) {
        if (strcmp(name, NAMES[i]) == 0) {
            *out = (ot_tok_behavior)i;
            return OT_OK;
        }
    }
    return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: the behavior \"%s\" is not known", where, name);
}

static ot_status read_metaspace(ot_tokenizer *t, const json_t *object, const char *where, ot_tok_step *s, ot_error *err) {
    OT_TRY(copy_string(t, object, "replacement", where, &s->content, &s->content_size, err));
    if (s->content_size < 1 || ot_utf8_length(s->content[0]) != s->content_size) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: the replacement of Metaspace must be one character", where);
    }
    const char *scheme = NULL;
    bool found = false, prefix = true;
    OT_TRY(ot_json_str(object, "prepend_scheme", where, &scheme, &found, err));
    if (!found) { /* older files have a flag instead */
        OT_TRY(read_flag(object, "add_prefix_space", true, where, &prefix, err));
        scheme = prefix ? "always" : "never";
    }
    if (strcmp(scheme, "always") == 0) {
        s->scheme = OT_TOK_ALWAYS;
    } else if (strcmp(scheme, "first") == 0) {
        s->scheme = OT_TOK_FIRST;
    } else if (strcmp(scheme, "never") == 0) {
        s->scheme = OT_TOK_NEVER;
    } else {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: the prepend_scheme \"%s\" is not known", where, scheme);
    }
    s->behavior = OT_TOK_WITH_NEXT;
    return read_flag(object, "split", true, where, &s->split, err);
}

/* The type of a component; a Sequence is walked by `each`. *type NULL: nothing more to do. */
typedef ot_status read_fn(ot_tokenizer *t, const json_t *value, const char *where, int depth, ot_error *err);

static ot_status open_component(ot_tokenizer *t, const json_t *value, const char *list, const char *where, int depth,
                                read_fn *each, const char **type, ot_error *err) {
    *type = NULL;
    if (value == NULL || json_is_null(value)) return OT_OK;
    if (!json_is_object(value)) return ot_fail(err, OT_ERR_FORMAT, "%s: must be an object or null", where);
    bool found = false;
    OT_TRY(ot_json_str(value, "type", where, type, &found, err));
    if (!found) return ot_fail(err, OT_ERR_FORMAT, "%s: an object without \"type\"", where);
    if (strcmp(*type, "Sequence") != 0) return OT_OK;
    *type = NULL;
    const json_t *items = json_object_get(value, list);
    if (!json_is_array(items)) return ot_fail(err, OT_ERR_FORMAT, "%s: a Sequence without the array \"%s\"", where, list);
    if (depth >= OT_TOK_MAX_DEPTH)
        return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: Sequences nest deeper than %d", where, OT_TOK_MAX_DEPTH);
    for (size_t i = 0; i < json_array_size(items); i++) OT_TRY(each(t, json_array_get(items, i), where, depth + 1, err));
    return OT_OK;
}

static ot_status unknown_type(const char *where, const char *type, ot_error *err) {
    return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: the type \"%.80s\" is not supported", where, type);
}

ot_status ot_tok_read_normalizer(ot_tokenizer *t, const json_t *value, const char *where, int depth, ot_error *err) {
    static const struct {
        const char *name;
        ot_tok_step_kind kind;
    } PLAIN[] = {{"NFC", OT_TOK_NFC},           {"NFD", OT_TOK_NFD},         {"NFKC", OT_TOK_NFKC},
                 {"NFKD", OT_TOK_NFKD},         {"Lowercase", OT_TOK_LOWER}, {"StripAccents", OT_TOK_STRIP_MARKS},
                 {"ByteLevel", OT_TOK_TO_BYTES}};
    const char *type = NULL;
    OT_TRY(open_component(t, value, "normalizers", where, depth, ot_tok_read_normalizer, &type, err));
    if (type == NULL) return OT_OK;
    ot_tok_step *s = NULL;
    for (size_t i = 0; i < sizeof PLAIN / sizeof PLAIN[0]; i++) {
        if (strcmp(type, PLAIN[i].name) == 0) return add_step(&t->normalizers, PLAIN[i].kind, where, &s, err);
    }
    if (strcmp(type, "Strip") == 0) {
        OT_TRY(add_step(&t->normalizers, OT_TOK_STRIP, where, &s, err));
        OT_TRY(read_flag(value, "strip_left", true, where, &s->left, err));
        return read_flag(value, "strip_right", true, where, &s->right, err);
    }
    if (strcmp(type, "Prepend") == 0) {
        OT_TRY(add_step(&t->normalizers, OT_TOK_PREPEND, where, &s, err));
        return copy_string(t, value, "prepend", where, &s->content, &s->content_size, err);
    }
    if (strcmp(type, "Replace") == 0) {
        OT_TRY(add_step(&t->normalizers, OT_TOK_REPLACE, where, &s, err));
        OT_TRY(copy_string(t, value, "content", where, &s->content, &s->content_size, err));
        return read_pattern(t, value, where, &s->pattern, err);
    }
    return unknown_type(where, type, err);
}

static ot_status split_by_text(ot_tokenizer *t, const char *pattern, bool invert, const char *where, ot_error *err) {
    ot_tok_step *s = NULL;
    OT_TRY(add_step(&t->pre_tokenizers, OT_TOK_SPLIT, where, &s, err));
    s->behavior = OT_TOK_REMOVED;
    s->invert = invert;
    return ot_tok_regex_new(pattern, (int64_t)strlen(pattern), where, &s->pattern.regex, err);
}

ot_status ot_tok_read_pre_tokenizer(ot_tokenizer *t, const json_t *value, const char *where, int depth, ot_error *err) {
    const char *type = NULL;
    OT_TRY(open_component(t, value, "pretokenizers", where, depth, ot_tok_read_pre_tokenizer, &type, err));
    if (type == NULL) return OT_OK;
    ot_tok_step *s = NULL;
    bool flag = false;
    if (strcmp(type, "ByteLevel") == 0) {
        OT_TRY(add_step(&t->pre_tokenizers, OT_TOK_BYTE_LEVEL, where, &s, err));
        s->behavior = OT_TOK_ISOLATED;
        OT_TRY(read_flag(value, "add_prefix_space", true, where, &s->prefix_space, err));
        OT_TRY(read_flag(value, "use_regex", true, where, &s->split, err));
        if (!s->split || t->gpt2 != NULL) return OT_OK;
        return ot_tok_regex_new(GPT2_PATTERN, (int64_t)sizeof GPT2_PATTERN - 1, where, &t->gpt2, err);
    }
    if (strcmp(type, "Metaspace") == 0) {
        OT_TRY(add_step(&t->pre_tokenizers, OT_TOK_METASPACE, where, &s, err));
        return read_metaspace(t, value, where, s, err);
    }
    if (strcmp(type, "Digits") == 0) {
        OT_TRY(add_step(&t->pre_tokenizers, OT_TOK_DIGITS, where, &s, err));
        OT_TRY(read_flag(value, "individual_digits", false, where, &flag, err));
        s->behavior = flag ? OT_TOK_ISOLATED : OT_TOK_CONTIGUOUS;
        return OT_OK;
    }
    if (strcmp(type, "Split") == 0) {
        OT_TRY(add_step(&t->pre_tokenizers, OT_TOK_SPLIT, where, &s, err));
        OT_TRY(read_behavior(value, where, &s->behavior, err));
        OT_TRY(read_flag(value, "invert", false, where, &s->invert, err));
        return read_pattern(t, value, where, &s->pattern, err);
    }
    if (strcmp(type, "Punctuation") == 0) {
        OT_TRY(add_step(&t->pre_tokenizers, OT_TOK_SPLIT_PUNCT, where, &s, err));
        return read_behavior(value, where, &s->behavior, err);
    }
    if (strcmp(type, "CharDelimiterSplit") == 0) {
        OT_TRY(add_step(&t->pre_tokenizers, OT_TOK_SPLIT, where, &s, err));
        s->behavior = OT_TOK_REMOVED;
        return copy_string(t, value, "delimiter", where, &s->pattern.text, &s->pattern.size, err);
    }
    if (strcmp(type, "WhitespaceSplit") == 0 || strcmp(type, "BertPreTokenizer") == 0) {
        OT_TRY(add_step(&t->pre_tokenizers, OT_TOK_SPLIT_SPACE, where, &s, err));
        s->behavior = OT_TOK_REMOVED;
        if (type[0] == 'W') return OT_OK;
        OT_TRY(add_step(&t->pre_tokenizers, OT_TOK_SPLIT_PUNCT, where, &s, err));
        s->behavior = OT_TOK_ISOLATED;
        return OT_OK;
    }
    if (strcmp(type, "Whitespace") == 0) return split_by_text(t, WHITESPACE_PATTERN, true, where, err);
    return unknown_type(where, type, err);
}

ot_status ot_tok_read_decoder(ot_tokenizer *t, const json_t *value, const char *where, int depth, ot_error *err) {
    const char *type = NULL;
    OT_TRY(open_component(t, value, "decoders", where, depth, ot_tok_read_decoder, &type, err));
    if (type == NULL) return OT_OK;
    ot_tok_step *s = NULL;
    if (strcmp(type, "ByteLevel") == 0) return add_step(&t->decoders, OT_TOK_BYTE_LEVEL, where, &s, err);
    if (strcmp(type, "ByteFallback") == 0) return add_step(&t->decoders, OT_TOK_BYTE_FALLBACK, where, &s, err);
    if (strcmp(type, "Fuse") == 0) return add_step(&t->decoders, OT_TOK_FUSE, where, &s, err);
    if (strcmp(type, "Metaspace") == 0) {
        OT_TRY(add_step(&t->decoders, OT_TOK_METASPACE, where, &s, err));
        return read_metaspace(t, value, where, s, err);
    }
    if (strcmp(type, "Replace") == 0) {
        OT_TRY(add_step(&t->decoders, OT_TOK_REPLACE, where, &s, err));
        OT_TRY(copy_string(t, value, "content", where, &s->content, &s->content_size, err));
        return read_pattern(t, value, where, &s->pattern, err);
    }
    if (strcmp(type, "Strip") == 0) {
        OT_TRY(add_step(&t->decoders, OT_TOK_STRIP, where, &s, err));
        OT_TRY(copy_string(t, value, "content", where, &s->content, &s->content_size, err));
        if (s->content_size == 0) return ot_fail(err, OT_ERR_FORMAT, "%s: the content of Strip must be one character", where);
        OT_TRY(ot_json_i64(value, "start", where, &s->start, NULL, err));
        return ot_json_i64(value, "stop", where, &s->stop, NULL, err);
    }
    if (strcmp(type, "BPEDecoder") == 0) {
        OT_TRY(add_step(&t->decoders, OT_TOK_WORD_END, where, &s, err));
        if (json_object_get(value, "suffix") == NULL) return set_text(t, "</w>", &s->content, &s->content_size, err);
        return copy_string(t, value, "suffix", where, &s->content, &s->content_size, err);
    }
    return unknown_type(where, type, err);
}

/* ==== Template ==== */

static ot_status put_template_token(const json_t *specials, const char *name, const char *where, ot_tok_ids *ids, ot_error *err) {
    const json_t *list = json_object_get(json_object_get(specials, name), "ids");
    if (!json_is_array(list)) return ot_fail(err, OT_ERR_FORMAT, "%s: the template's token \"%.80s\" has no ids", where, name);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *id = json_array_get(list, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > INT32_MAX) {
            return ot_fail(err, OT_ERR_FORMAT, "%s: an id of the template's token \"%.80s\" is no token id", where, name);
        }
        OT_TRY(ot_tok_ids_put(ids, (int32_t)json_integer_value(id), err));
    }
    return OT_OK;
}

static ot_status read_template(const json_t *value, const char *where, ot_tok_ids *before, ot_tok_ids *after, ot_error *err) {
    const json_t *single = json_object_get(value, "single");
    if (!json_is_array(single)) return ot_fail(err, OT_ERR_FORMAT, "%s: \"single\" must be an array", where);
    bool seen = false;
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *item = json_array_get(single, i), *special = json_object_get(item, "SpecialToken");
        if (special == NULL) {
            if (json_object_get(item, "Sequence") == NULL || seen) {
                return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: \"single\" must hold the text once, and special tokens", where);
            }
            seen = true;
            continue;
        }
        const char *name = NULL;
        bool found = false;
        OT_TRY(ot_json_str(special, "id", where, &name, &found, err));
        if (!found) return ot_fail(err, OT_ERR_FORMAT, "%s: a SpecialToken without \"id\"", where);
        OT_TRY(put_template_token(json_object_get(value, "special_tokens"), name, where, seen ? after : before, err));
    }
    return seen ? OT_OK : ot_fail(err, OT_ERR_UNSUPPORTED, "%s: \"single\" does not hold the text", where);
}

/* ["</s>", 2] */
static ot_status read_border(const json_t *value, const char *key, const char *where, ot_tok_ids *ids, ot_error *err) {
    const json_t *id = json_array_get(json_object_get(value, key), 1);
    if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > INT32_MAX) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: \"%s\" must be [text, id]", where, key);
    }
    return ot_tok_ids_put(ids, (int32_t)json_integer_value(id), err);
}

/* Later processors wrap what earlier ones made: their tokens go to the outside. */
static ot_status wrap(ot_tok_ids *inner, const ot_tok_ids *outer, bool in_front, ot_error *err) {
    int64_t old = inner->count;
    for (int64_t i = 0; i < outer->count; i++) OT_TRY(ot_tok_ids_put(inner, outer->data[i], err));
    if (!in_front || old == 0 || outer->count == 0) return OT_OK;
    memmove(inner->data + outer->count, inner->data, (size_t)old * sizeof *inner->data);
    memcpy(inner->data, outer->data, (size_t)outer->count * sizeof *inner->data);
    return OT_OK;
}

static ot_status read_processor(ot_tokenizer *t, const json_t *value, const char *where, int depth, ot_error *err) {
    const char *type = NULL;
    OT_TRY(open_component(t, value, "processors", where, depth, read_processor, &type, err));
    if (type == NULL || strcmp(type, "ByteLevel") == 0) return OT_OK;
    ot_tok_ids before = {0}, after = {0};
    ot_status status = OT_OK;
    if (strcmp(type, "TemplateProcessing") == 0) {
        status = read_template(value, where, &before, &after, err);
    } else if (strcmp(type, "RobertaProcessing") == 0 || strcmp(type, "BertProcessing") == 0) {
        status = read_border(value, "cls", where, &before, err);
        if (status == OT_OK) status = read_border(value, "sep", where, &after, err);
    } else {
        status = unknown_type(where, type, err);
    }
    if (status == OT_OK) status = wrap(&t->before, &before, true, err);
    if (status == OT_OK) status = wrap(&t->after, &after, false, err);
    ot_free(before.data);
    ot_free(after.data);
    return status;
}

/* ==== Added tokens ==== */

static ot_status add_token(ot_tokenizer *t, const json_t *item, const char *where, int32_t *highest, ot_error *err) {
    ot_tok_added a = {0};
    char *text = NULL;
    if (!json_is_object(item)) return ot_fail(err, OT_ERR_FORMAT, "%s: an added token must be an object", where);
    OT_TRY(copy_string(t, item, "content", where, &text, &a.size, err));
    a.text = text;
    OT_TRY(read_flag(item, "single_word", false, where, &a.single_word, err));
    OT_TRY(read_flag(item, "lstrip", false, where, &a.lstrip, err));
    OT_TRY(read_flag(item, "rstrip", false, where, &a.rstrip, err));
    OT_TRY(read_flag(item, "special", false, where, &a.special, err));
    OT_TRY(read_flag(item, "normalized", !a.special, where, &a.normalized, err));
    if (a.size == 0) return OT_OK;
    /* Hugging Face gives a token the id its text has in the vocabulary, else the next free one; the file's id is not used. */
    a.id = ot_tok_vocab_find(&t->vocab, a.text, a.size);
    if (a.id < 0) {
        int64_t next =
            *highest >= 0 && (*highest >= t->vocab.tokens || t->vocab.tokens == 0) ? (int64_t)*highest + 1 : t->vocab.tokens;
        if (next > OT_TOK_MAX_ID) return ot_fail(err, OT_ERR_FORMAT, "%s: more than %d tokens", where, OT_TOK_MAX_ID);
        a.id = (int32_t)next;
    }
    a.decoded = a.text;
    a.decoded_size = a.size;
    if (a.id > *highest) *highest = a.id;
    OT_TRY(ot_grow((void **)&t->added, &t->added_capacity, t->added_count + 1, (int64_t)sizeof *t->added, "added tokens", err));
    t->added[t->added_count++] = a;
    return OT_OK;
}

/* Does an added token with this text come before index `end`? Sorted order is not built yet, so by a small hash. */
typedef struct text_set {
    int64_t *slots; /* index + 1 */
    int64_t count;
} text_set;

static bool seen_before(const ot_tokenizer *t, text_set *set, const json_t *item, int64_t index) {
    const json_t *content = json_object_get(item, "content");
    if (!json_is_string(content)) return false;
    const char *text = json_string_value(content);
    int64_t size = (int64_t)json_string_length(content);
    uint64_t mask = (uint64_t)set->count - 1, at = ot_tok_hash(text, size) & mask;
    for (; set->slots[at] != 0; at = (at + 1) & mask) {
        const ot_tok_added *a = &t->added[set->slots[at] - 1];
        if (a->size == size && memcmp(a->text, text, (size_t)size) == 0) return true;
    }
    if (size > 0) set->slots[at] = index + 1;
    return false;
}

static ot_status read_added(ot_tokenizer *t, const json_t *list, const char *where, ot_error *err) {
    if (list == NULL || json_is_null(list)) return OT_OK;
    if (!json_is_array(list)) return ot_fail(err, OT_ERR_FORMAT, "%s: \"added_tokens\" must be an array", where);
    int32_t highest = -1;
    text_set set = {.count = 16};
    while (set.count < (int64_t)json_array_size(list) * 2) set.count *= 2;
    OT_TRY(ot_calloc(set.count, (int64_t)sizeof *set.slots, "added tokens", (void **)&set.slots, err));
    ot_status status = OT_OK;
    for (size_t i = 0; i < json_array_size(list) && status == OT_OK; i++) {
        const json_t *item = json_array_get(list, i);
        if (!seen_before(t, &set, item, t->added_count)) status = add_token(t, item, where, &highest, err);
    }
    ot_free(set.slots);
    return status;
}

static ot_status add_needle(ot_tok_matcher *m, const char *text, int64_t size, int64_t index, ot_error *err) {
    if (size == 0) return OT_OK;
    OT_TRY(ot_grow((void **)&m->needles, &m->capacity, m->count + 1, (int64_t)sizeof *m->needles, "added tokens", err));
    m->needles[m->count++] = (ot_tok_needle){text, size, index};
    return OT_OK;
}

/* A token that wants normalized text is looked for in its own normalized form. */
static ot_status add_normalized(ot_tokenizer *t, int64_t index, ot_error *err) {
    ot_tok_work w;
    ot_status status = ot_tok_work_init(&w, err);
    if (status == OT_OK) status = ot_tok_buf_put(&w.text, t->added[index].text, t->added[index].size, err);
    if (status == OT_OK) status = ot_tok_spans_put(&w.spans, 0, w.text.size, -1, true, err);
    if (status == OT_OK) status = ot_tok_normalize(t, &w);
    char *text = NULL;
    int64_t size = w.text.size;
    if (status == OT_OK) {
        text = ot_arena_strndup(&t->arena, w.text.data, (size_t)size, err);
        status = text == NULL ? OT_ERR_MEMORY : add_needle(&t->normalized, text, size, index, err);
        t->added[index].decoded = text;
        t->added[index].decoded_size = size;
    }
    ot_tok_work_free(&w);
    return status;
}

static ot_status index_added(ot_tokenizer *t, const char *where, ot_error *err) {
    t->id_count = t->vocab.count;
    bool words = false;
    for (int64_t i = 0; i < t->added_count; i++) {
        if (t->added[i].id >= t->id_count) t->id_count = (int64_t)t->added[i].id + 1;
        words = words || t->added[i].single_word;
    }
    OT_TRY(ot_calloc(t->id_count, (int64_t)sizeof *t->added_by_id, "added tokens", (void **)&t->added_by_id, err));
    for (int64_t i = 0; i < t->added_count; i++) t->added_by_id[t->added[i].id] = (int32_t)i + 1;
    if (words) {
        static const char WORD[] = "[" WORD_ITEMS "]";
        OT_TRY(ot_tok_regex_new(WORD, (int64_t)sizeof WORD - 1, where, &t->word, err));
    }
    /* sentencepiece finds control tokens in no text, and has user-defined pieces of its own. */
    for (int64_t i = 0; i < t->added_count && t->model != OT_TOK_MODEL_SPM; i++) {
        const ot_tok_added *a = &t->added[i];
        OT_TRY(a->normalized ? add_normalized(t, i, err) : add_needle(&t->raw, a->text, a->size, i, err));
    }
    ot_tok_matcher_finish(&t->raw);
    ot_tok_matcher_finish(&t->normalized);
    return OT_OK;
}

/* ==== The model's tables ==== */

static void fill_tables(ot_tokenizer *t) {
    for (int i = 0; i < 256; i++) {
        static const char HEX[] = "0123456789ABCDEF";
        const char token[6] = {'<', '0', 'x', HEX[i >> 4], HEX[i & 15], '>'};
        t->byte_ids[i] = ot_tok_vocab_find(&t->vocab, token, 6);
    }
    for (uint32_t c = 0; c < 0x400; c++) {
        char text[4];
        t->char_ids[c] = ot_tok_vocab_find(&t->vocab, text, ot_utf8_put(c, text));
    }
}

static bool has_inner_blank(const char *text, int64_t size) {
    bool other = false;
    for (int64_t i = 0; i < size;) {
        bool blank = size - i >= OT_TOK_BLANK_SIZE && memcmp(text + i, OT_TOK_BLANK, OT_TOK_BLANK_SIZE) == 0;
        if (blank && other) return true;
        other = other || !blank;
        i += blank ? OT_TOK_BLANK_SIZE : 1;
    }
    return false;
}

static bool may_cut(const ot_tokenizer *t) {
    if (t->model == OT_TOK_MODEL_UNIGRAM || t->ignore_merges || t->word_prefix != NULL || t->word_suffix != NULL) return false;
    if (ot_tok_vocab_find(&t->vocab, OT_TOK_BLANK, OT_TOK_BLANK_SIZE) < 0) return false;
    int64_t size = 0;
    for (int64_t i = 0; i < t->merges.count; i++) {
        const char *text = ot_tok_vocab_text(&t->vocab, t->merges.list[i].id, &size);
        if (text == NULL || has_inner_blank(text, size)) return false;
    }
    for (int64_t id = 0; t->model == OT_TOK_MODEL_SPM && id < t->vocab.count; id++) {
        const char *text = ot_tok_vocab_text(&t->vocab, id, &size);
        if (text != NULL && has_inner_blank(text, size)) return false;
    }
    return true;
}

/* ==== All of it ==== */

/* CLIP's own decoder is ByteLevel, which would leave "</w>" in the text; transformers cleans up behind it, and so do we. */
static ot_status add_clip(ot_tokenizer *t, const char *where, ot_error *err) {
    bool clip = t->word_suffix != NULL && t->decoders.count == 1 && t->decoders.steps[0].kind == OT_TOK_BYTE_LEVEL;
    if (!clip) return OT_OK;
    ot_tok_step *s = NULL;
    OT_TRY(add_step(&t->decoders, OT_TOK_CLIP, where, &s, err));
    s->pattern.text = t->word_suffix;
    s->pattern.size = t->word_suffix_size;
    return OT_OK;
}

ot_status ot_tok_configure(ot_tokenizer *t, json_t *config, const char *where, ot_error *err) {
    t->config = config;
    char part[512];
    fill_tables(t);
    t->cut_blank = may_cut(t);
    (void)snprintf(part, sizeof part, "%.440s: normalizer", where);
    OT_TRY(ot_tok_read_normalizer(t, json_object_get(config, "normalizer"), part, 0, err));
    (void)snprintf(part, sizeof part, "%.440s: pre_tokenizer", where);
    OT_TRY(ot_tok_read_pre_tokenizer(t, json_object_get(config, "pre_tokenizer"), part, 0, err));
    (void)snprintf(part, sizeof part, "%.440s: decoder", where);
    OT_TRY(ot_tok_read_decoder(t, json_object_get(config, "decoder"), part, 0, err));
    OT_TRY(add_clip(t, part, err));
    (void)snprintf(part, sizeof part, "%.440s: post_processor", where);
    OT_TRY(read_processor(t, json_object_get(config, "post_processor"), part, 0, err));
    (void)snprintf(part, sizeof part, "%.440s: added_tokens", where);
    OT_TRY(read_added(t, json_object_get(config, "added_tokens"), part, err));
    OT_TRY(index_added(t, part, err));
    const ot_tok_ids *ends[2] = {&t->before, &t->after};
    for (int side = 0; side < 2; side++) {
        for (int64_t i = 0; i < ends[side]->count; i++) {
            int64_t size = 0;
            if (ot_tok_id_text(t, ends[side]->data[i], &size) != NULL) continue;
            return ot_fail(err, OT_ERR_FORMAT, "%s: post_processor: the token id %d is not in the vocabulary", where,
                           ends[side]->data[i]);
        }
    }
    return OT_OK;
}

ot_status ot_tok_config_from(const char *text, json_t **out, ot_error *err) {
    ot_tok_buf copy = {0};
    OT_TRY(ot_tok_buf_put(&copy, text, (int64_t)strlen(text), err));
    for (int64_t i = 0; i < copy.size; i++) {
        if (copy.data[i] == '\'') copy.data[i] = '"';
    }
    ot_status status = ot_json_parse(copy.data, copy.size, "a built-in tokenizer configuration", out, err);
    ot_tok_buf_free(&copy);
    return status;
}

ot_status ot_tok_config_add(json_t *config, const char *content, int64_t size, int64_t id, bool special, ot_error *err) {
    json_t *list = json_object_get(config, "added_tokens");
    json_t *entry = json_pack("{s:I, s:s%, s:b, s:b, s:b, s:b, s:b}", "id", (json_int_t)id, "content", content, (size_t)size,
                              "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized", 0, "special", special ? 1 : 0);
    if (entry == NULL || json_array_append_new(list, entry) != 0) return ot_fail_memory(err, (uint64_t)size, "added tokens");
    return OT_OK;
}

static json_t *template_token(const char *text, int64_t size) {
    return json_pack("{s:{s:s%, s:i}}", "SpecialToken", "id", text, (size_t)size, "type_id", 0);
}

ot_status ot_tok_config_template(ot_tokenizer *t, json_t *config, int32_t before, int32_t after, ot_error *err) {
    if (before < 0 && after < 0) return OT_OK;
    const int32_t ids[2] = {before, after};
    json_t *single = json_array(), *pair = json_array(), *specials = json_object();
    json_t *wrapped = json_pack("{s:s, s:o, s:o, s:o}", "type", "TemplateProcessing", "single", single, "pair", pair,
                                "special_tokens", specials);
    if (wrapped == NULL || json_object_set_new(config, "post_processor", wrapped) != 0)
        return ot_fail_memory(err, 0, "a template");
    bool bad = false;
    for (int i = 0; i < 2; i++) {
        int64_t size = 0;
        const char *text = ids[i] >= 0 ? ot_tok_vocab_text(&t->vocab, ids[i], &size) : NULL;
        if (ids[i] >= 0 && text == NULL) {
            return ot_fail(err, OT_ERR_FORMAT, "%s: its special token %d is not in the vocabulary", t->path, ids[i]);
        }
        if (text != NULL) {
            bad |= json_array_append_new(single, template_token(text, size)) != 0;
            bad |= json_array_append_new(pair, template_token(text, size)) != 0;
            json_t *entry =
                json_pack("{s:s%, s:[i], s:[s%]}", "id", text, (size_t)size, "ids", ids[i], "tokens", text, (size_t)size);
            bad |= json_object_setn_new(specials, text, (size_t)size, entry) != 0;
        }
        if (i == 0) {
            bad |= json_array_append_new(single, json_pack("{s:{s:s, s:i}}", "Sequence", "id", "A", "type_id", 0)) != 0;
            bad |= json_array_append_new(pair, json_pack("{s:{s:s, s:i}}", "Sequence", "id", "A", "type_id", 0)) != 0;
            bad |= json_array_append_new(pair, json_pack("{s:{s:s, s:i}}", "Sequence", "id", "B", "type_id", 1)) != 0;
        }
    }
    return bad ? ot_fail_memory(err, 0, "a template") : OT_OK;
}
