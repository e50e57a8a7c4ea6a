/* What the tokenizer's parts share. A tokenizer is a chain of lists read from one JSON configuration, whatever the source:
 * added tokens -> normalizers -> added tokens that want normalized text -> pre-tokenizers -> model -> template, and decoders
 * for the way back. Sources other than tokenizer.json write that configuration themselves, so there is one engine. */
#ifndef OT_FORMAT_TOKENIZER_INTERNAL_H
#define OT_FORMAT_TOKENIZER_INTERNAL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/mem.h"
#include "format/tokenizer.h"

enum {
    OT_TOK_MAX_ID = (1 << 24) - 1, /* tables are indexed by id: a hole of 2^31 ids must not cost 2^31 entries */
    OT_TOK_MAX_STEPS = 64,         /* normalizers, pre-tokenizers or decoders in one chain */
    OT_TOK_MAX_DEPTH = 8           /* of nested Sequences */
};
static const int64_t OT_TOK_MAX_FILE = (int64_t)256 << 20;
static const char OT_TOK_BLANK[] = "\xE2\x96\x81"; /* U+2581, sentencepiece's blank */
enum { OT_TOK_BLANK_SIZE = 3 };

/* ==== Growing arrays (zero-initialise; release with ot_tok_*_free) ==== */

typedef struct ot_tok_buf {
    char *data;
    int64_t size, capacity;
} ot_tok_buf;
typedef struct ot_tok_ids {
    int32_t *data;
    int64_t count, capacity;
} ot_tok_ids;
ot_status ot_tok_buf_put(ot_tok_buf *b, const char *text, int64_t size, ot_error *err);
ot_status ot_tok_ids_put(ot_tok_ids *ids, int32_t id, ot_error *err);
void ot_tok_buf_free(ot_tok_buf *b);

/* ==== Vocabulary and merges ==== */

typedef struct ot_tok_vocab {
    ot_tok_buf text;
    int64_t *offset; /* by id */
    int32_t *length; /* by id; -1 where no token has this id */
    int64_t count;   /* highest id + 1 */
    int64_t offset_capacity, length_capacity;
    int64_t tokens;  /* different texts */
    int32_t longest; /* bytes */
    int32_t *slots;  /* hash of texts: id + 1, 0 = empty */
    int64_t slot_count;
} ot_tok_vocab;
ot_status ot_tok_vocab_add(ot_tok_vocab *v, int64_t id, const char *text, int64_t size, const char *where, ot_error *err);
/* After the last add: build the hash. Of two ids with one text the later wins. */
ot_status ot_tok_vocab_finish(ot_tok_vocab *v, ot_error *err);
int32_t ot_tok_vocab_find(const ot_tok_vocab *v, const char *text, int64_t size); /* -1: none */
/* Text of an id; NULL: none. */
const char *ot_tok_vocab_text(const ot_tok_vocab *v, int64_t id, int64_t *size);
void ot_tok_vocab_free(ot_tok_vocab *v);

typedef struct ot_tok_merge {
    uint64_t pair;    /* left << 32 | right */
    int32_t rank, id; /* rank -1: an empty slot */
} ot_tok_merge;
typedef struct ot_tok_merges {
    ot_tok_merge *list; /* by rank, as read */
    int64_t count, capacity;
    ot_tok_merge *slots;
    int64_t slot_count;
} ot_tok_merges;
ot_status ot_tok_merges_add(ot_tok_merges *m, int32_t left, int32_t right, int32_t id, ot_error *err);
/* After the last add: build the hash. Of two merges of one pair the later wins. */
ot_status ot_tok_merges_finish(ot_tok_merges *m, ot_error *err);
const ot_tok_merge *ot_tok_merges_find(const ot_tok_merges *m, int32_t left, int32_t right);
void ot_tok_merges_free(ot_tok_merges *m);

uint64_t ot_tok_hash(const char *text, int64_t size);

/* ==== Regular expressions of Oniguruma's dialect ==== */

typedef struct ot_tok_regex ot_tok_regex;
ot_status ot_tok_regex_new(const char *pattern, int64_t size, const char *where, ot_tok_regex **out, ot_error *err);
void ot_tok_regex_free(ot_tok_regex *re);
/* One match after another: start with {0, -1}. *found false: no more. */
typedef struct ot_tok_cursor {
    int64_t from, last_end;
} ot_tok_cursor;
typedef struct ot_tok_scan ot_tok_scan; /* per-call match memory; create once for each encode */
ot_status ot_tok_scan_new(ot_tok_scan **out, ot_error *err);
void ot_tok_scan_free(ot_tok_scan *scan);
ot_status ot_tok_regex_next(const ot_tok_regex *re, ot_tok_scan *scan, const char *text, int64_t size, ot_tok_cursor *cursor,
                            bool *found, int64_t *start, int64_t *end, ot_error *err);

/* ==== Steps of the chain ==== */

/* What to look for: a regular expression, or else this text. */
typedef struct ot_tok_pattern {
    ot_tok_regex *regex;
    char *text;
    int64_t size;
} ot_tok_pattern;
ot_status ot_tok_pattern_next(const ot_tok_pattern *p, ot_tok_scan *scan, const char *text, int64_t size, ot_tok_cursor *cursor,
                              bool *found, int64_t *start, int64_t *end, ot_error *err);

typedef enum ot_tok_step_kind {
    /* normalizers */
    OT_TOK_NFC,
    OT_TOK_NFD,
    OT_TOK_NFKC,
    OT_TOK_NFKD,
    OT_TOK_LOWER,
    OT_TOK_STRIP,
    OT_TOK_STRIP_MARKS,
    OT_TOK_PREPEND,
    OT_TOK_REPLACE,
    OT_TOK_TO_BYTES,
    /* pre-tokenizers */
    OT_TOK_BYTE_LEVEL,
    OT_TOK_METASPACE,
    OT_TOK_DIGITS,
    OT_TOK_SPLIT,
    OT_TOK_SPLIT_SPACE,
    OT_TOK_SPLIT_PUNCT,
    /* decoders; REPLACE, METASPACE, STRIP and BYTE_LEVEL serve here too */
    OT_TOK_BYTE_FALLBACK,
    OT_TOK_FUSE,
    OT_TOK_WORD_END,
    OT_TOK_CLIP,
    OT_TOK_SENTENCEPIECE
} ot_tok_step_kind;

typedef enum ot_tok_behavior {
    OT_TOK_REMOVED,
    OT_TOK_ISOLATED,
    OT_TOK_WITH_PREVIOUS,
    OT_TOK_WITH_NEXT,
    OT_TOK_CONTIGUOUS
} ot_tok_behavior;
typedef enum ot_tok_scheme { OT_TOK_ALWAYS, OT_TOK_FIRST, OT_TOK_NEVER } ot_tok_scheme;

typedef struct ot_tok_step {
    ot_tok_step_kind kind;
    ot_tok_pattern pattern; /* REPLACE, SPLIT */
    char *content;          /* REPLACE, PREPEND; METASPACE's replacement; WORD_END's suffix; STRIP's character as a decoder */
    int64_t content_size;
    ot_tok_behavior behavior;
    ot_tok_scheme scheme;
    bool invert;         /* SPLIT */
    bool prefix_space;   /* BYTE_LEVEL */
    bool split;          /* BYTE_LEVEL's own pattern, METASPACE */
    bool left, right;    /* STRIP as a normalizer */
    int64_t start, stop; /* STRIP as a decoder */
} ot_tok_step;
typedef struct ot_tok_chain {
    ot_tok_step *steps;
    int64_t count, capacity;
} ot_tok_chain;

/* ==== Added tokens ==== */

typedef struct ot_tok_added {
    const char *text, *decoded; /* owned by the tokenizer's arena; decoded: the normalized text, where that is looked for */
    int64_t size, decoded_size;
    int32_t id;
    bool single_word, lstrip, rstrip, normalized, special;
} ot_tok_added;
/* Sorted texts of one group of added tokens, for longest matches. */
typedef struct ot_tok_needle {
    const char *text;
    int64_t size;
    int64_t added; /* index into ot_tokenizer.added */
} ot_tok_needle;
typedef struct ot_tok_matcher {
    ot_tok_needle *needles;
    int64_t count, capacity;
    bool first[256];
} ot_tok_matcher;

/* ==== The tokenizer ==== */

typedef enum ot_tok_model { OT_TOK_MODEL_BPE, OT_TOK_MODEL_SPM, OT_TOK_MODEL_UNIGRAM } ot_tok_model;
/* sentencepiece's and GGUF's types of token; a normal one where there are none. */
enum { OT_TOK_NORMAL = 1, OT_TOK_UNKNOWN = 2, OT_TOK_CONTROL = 3, OT_TOK_USER = 4, OT_TOK_UNUSED = 5, OT_TOK_BYTE = 6 };

struct ot_tokenizer {
    ot_tok_model model;
    ot_tok_vocab vocab;
    ot_tok_merges merges;
    double *scores;        /* SPM, UNIGRAM: by id */
    int32_t *score_rank;   /* SPM: by id, 0 = the best; equal scores share a rank */
    uint8_t *types;        /* SPM: by id */
    bool any_unused;       /* SPM: some types are UNUSED */
    ot_tok_matcher frozen; /* SPM: user-defined pieces, never merged; needle.added is the id */
    int32_t unk;           /* -1: none */
    bool unk_missing;      /* the file names an unknown token that is not in the vocabulary */
    bool fuse_unk, byte_fallback, ignore_merges;
    bool cut_blank;                  /* no piece has a blank after another character: words may be cut before a blank */
    double unk_score;                /* UNIGRAM */
    char *word_prefix, *word_suffix; /* continuing_subword_prefix, end_of_word_suffix; NULL: none */
    int64_t word_prefix_size, word_suffix_size;
    int32_t byte_ids[256];   /* of "<0xNN>", -1: none */
    int32_t char_ids[0x400]; /* of a lone character, without prefix or suffix; -1: none */

    ot_tok_chain normalizers, pre_tokenizers, decoders;
    ot_tok_regex *gpt2; /* the ByteLevel pre-tokenizer's own pattern, where used */
    ot_tok_regex *word; /* one word character, where some added token is a single word */
    ot_tok_added *added;
    int64_t added_count, added_capacity;
    int32_t *added_by_id; /* [id_count], index + 1 of the added token with this id, 0 = none */
    int64_t id_count;     /* of vocabulary and added tokens */
    ot_tok_matcher raw, normalized;
    ot_tok_ids before, after; /* what the template adds */
    int32_t bos, eos;

    json_t *config; /* tokenizer.json without model.vocab and model.merges; kept to be written again */
    ot_arena arena;
    char *path;
};

/* ==== Work on one text ==== */

typedef struct ot_tok_span {
    int64_t start, end; /* in work.text */
    int32_t id;         /* of an added token, or -1 */
    bool first;         /* begins where the original text begins */
} ot_tok_span;
typedef struct ot_tok_spans {
    ot_tok_span *data;
    int64_t count, capacity;
} ot_tok_spans;
typedef struct ot_tok_work {
    ot_tok_buf text, next_text;
    ot_tok_spans spans, next_spans, matches; /* matches: id 1 = a match, 0 = what lies between */
    ot_tok_scan *scan;
    ot_error *err;
} ot_tok_work;
ot_status ot_tok_spans_put(ot_tok_spans *s, int64_t start, int64_t end, int32_t id, bool first, ot_error *err);
/* Make the next_* arrays the current ones. */
void ot_tok_work_text(ot_tok_work *w);
void ot_tok_work_spans(ot_tok_work *w);
/* Memory for matching, and buffers that are never NULL. Release with ot_tok_work_free, also after a failure. */
ot_status ot_tok_work_init(ot_tok_work *w, ot_error *err);
void ot_tok_work_free(ot_tok_work *w);

ot_status ot_tok_normalize(const ot_tokenizer *t, ot_tok_work *w);
ot_status ot_tok_pre_tokenize(const ot_tokenizer *t, ot_tok_work *w);
/* Sort the needles and note their first bytes. */
void ot_tok_matcher_finish(ot_tok_matcher *m);
/* The longest needle at text[0..size), NULL: none. */
const ot_tok_needle *ot_tok_matcher_at(const ot_tok_matcher *m, const char *text, int64_t size);
ot_status ot_tok_split_added(const ot_tokenizer *t, const ot_tok_matcher *m, ot_tok_work *w);
/* Bytes of text as GPT-2's printable characters, appended; and back: -1 = no such character. */
ot_status ot_tok_to_byte_level(ot_tok_buf *out, const char *text, int64_t size, ot_error *err);
int ot_tok_from_byte_level(uint32_t code);

/* The model over all spans. */
ot_status ot_tok_model_run(const ot_tokenizer *t, ot_tok_work *w, ot_tok_ids *ids);
typedef struct ot_tok_lattice ot_tok_lattice;
ot_status ot_tok_unigram_word(const ot_tokenizer *t, ot_tok_lattice **lattice, const char *word, int64_t size, ot_tok_ids *ids,
                              ot_error *err);
void ot_tok_lattice_free(ot_tok_lattice *lattice);

ot_status ot_tok_decode(const ot_tokenizer *t, const int32_t *ids, int64_t count, bool skip_special, ot_tok_buf *out,
                        ot_error *err);
/* Append text with U+FFFD for what is not UTF-8. */
ot_status ot_tok_put_lossy(ot_tok_buf *out, const char *text, int64_t size, ot_error *err);
/* "<0xNN>" as its byte; -1: something else. */
int ot_tok_byte_token(const char *text, int64_t size);
/* Text of any id, added or not; NULL: there is no such id. */
const char *ot_tok_id_text(const ot_tokenizer *t, int64_t id, int64_t *size);
int32_t ot_tok_find(const ot_tokenizer *t, const char *text); /* added tokens first; -1 */

/* ==== Building ==== */

/* Takes over config (also on failure); vocabulary, merges and scores must already be in t. Byte and first-character tables,
 * added tokens, steps and template come out. */
ot_status ot_tok_configure(ot_tokenizer *t, json_t *config, const char *where, ot_error *err);
/* The list of normalizers, pre-tokenizers or decoders in one JSON value. */
ot_status ot_tok_read_normalizer(ot_tokenizer *t, const json_t *value, const char *where, int depth, ot_error *err);
ot_status ot_tok_read_pre_tokenizer(ot_tokenizer *t, const json_t *value, const char *where, int depth, ot_error *err);
ot_status ot_tok_read_decoder(ot_tokenizer *t, const json_t *value, const char *where, int depth, ot_error *err);
/* A configuration skeleton from text written in this program: '...' quotes stand for "...". */
ot_status ot_tok_config_from(const char *text, json_t **out, ot_error *err);
/* One entry of added_tokens. */
ot_status ot_tok_config_add(json_t *config, const char *content, int64_t size, int64_t id, bool special, ot_error *err);
/* A TemplateProcessing with these ids around the text; -1 = none. */
ot_status ot_tok_config_template(ot_tokenizer *t, json_t *config, int32_t before, int32_t after, ot_error *err);
/* merges "left right" or two texts: ids are looked up, a missing one is an error that names rank and text. */
ot_status ot_tok_add_merge(ot_tokenizer *t, const char *left, int64_t left_size, const char *right, int64_t right_size,
                           int64_t rank, const char *where, ot_error *err);
ot_status ot_tok_add_merge_line(ot_tokenizer *t, const char *line, int64_t size, int64_t rank, const char *where, ot_error *err);

/* A tokenizer without anything in it. path is for messages. */
ot_status ot_tok_new(const char *path, ot_tokenizer **out, ot_error *err);
ot_status ot_tok_load_json(ot_tokenizer *t, const char *path, ot_error *err);
ot_status ot_tok_load_json_text(ot_tokenizer *t, const char *text, int64_t size, const char *where, ot_error *err);
ot_status ot_tok_load_pair(ot_tokenizer *t, const char *vocab_path, const char *merges_path, ot_error *err);
/* What the special tokens of a vocabulary with merges make of it: CLIP's, OPT's or GPT-2's chain. */
ot_status ot_tok_finish_pair(ot_tokenizer *t, const char *where, ot_error *err);
ot_status ot_tok_load_clip(ot_tokenizer *t, const char *path, ot_error *err);
/* Appends; the whole of one gzip member, its checksum checked. */
ot_status ot_tok_gunzip(const uint8_t *data, int64_t size, const char *where, ot_tok_buf *out, ot_error *err);
ot_status ot_tok_load_gguf(ot_tokenizer *t, const struct ot_gguf *g, ot_error *err);
/* What tokenizer.ggml.pre stands for: the text is cut by a pattern (NULL: GPT-2's own, through ByteLevel), after every digit was set apart. */
typedef struct ot_tok_family {
    const char *name; /* NULL ends the table */
    const char *pattern;
    bool digits, nfc, ignore_merges, add_bos;
} ot_tok_family;
extern const ot_tok_family ot_tok_families[];
ot_status ot_tok_load_spm(ot_tokenizer *t, const char *path, ot_error *err);
ot_status ot_tok_load_spm_bytes(ot_tokenizer *t, const uint8_t *data, int64_t size, const char *where, ot_error *err);
/* Ranks by score, frozen pieces and the configuration of a sentencepiece BPE model; vocab, scores and types are in t. */
typedef struct ot_tok_spm_options {
    bool dummy_prefix, remove_extra, byte_fallback;
    int32_t unk, bos, eos;
    bool add_bos, add_eos;
} ot_tok_spm_options;
ot_status ot_tok_spm_finish(ot_tokenizer *t, const ot_tok_spm_options *options, const char *where, ot_error *err);

#endif
