/* OpenAI's own CLIP vocabulary file, bpe_simple_vocab_16e6.txt.gz: merges only, gzipped. Its vocabulary is a rule: the byte
 * characters, the same with </w>, the results of the first 48,894 merges, two special tokens. Holds a small inflate (RFC 1951),
 * as this is the one compressed file among the tokenizers. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "format/tokenizer_internal.h"
#include "format/unicode.h"

enum { MAX_MERGES = 49152 - 256 - 2, MAX_BITS = 15, LITERALS = 288, DISTANCES = 30 };
static const int64_t MAX_INFLATED = (int64_t)64 << 20;

/* ==== Inflate ==== */

typedef struct bits {
    const uint8_t *data;
    int64_t size, at;
    uint32_t hold;
    int count;
    bool ended; /* a bit beyond the end was asked for */
} bits;
typedef struct code {
    int16_t counts[MAX_BITS + 1], symbols[LITERALS]; /* canonical: symbols by length, then by value */
} code;

static uint32_t take(bits *b, int n) {
    while (b->count < n) {
        if (b->at >= b->size) {
            b->ended = true;
            return 0;
        }
        b->hold |= (uint32_t)b->data[b->at++] << b->count;
        b->count += 8;
    }
    uint32_t value = b->hold & ((1U << n) - 1);
    b->hold >>= n;
    b->count -= n;
    return value;
}

/* False when the lengths ask for more codes than there are. */
static bool make_code(code *c, const uint8_t *lengths, int n) {
    int16_t next[MAX_BITS + 1] = {0};
    memset(c->counts, 0, sizeof c->counts);
    for (int i = 0; i < n; i++) c->counts[lengths[i]]++;
    c->counts[0] = 0;
    int left = 1;
    for (int bit = 1; bit <= MAX_BITS; bit++) {
        left = left * 2 - c->counts[bit];
        if (left < 0) return false;
        next[bit] = (int16_t)(next[bit - 1] + c->counts[bit - 1]);
    }
    for (int i = 0; i < n; i++) {
        if (lengths[i] != 0) c->symbols[next[lengths[i]]++] = (int16_t)i;
    }
    return true;
}

static int read_symbol(bits *b, const code *c) {
    int value = 0, first = 0, index = 0;
    while (b->count < MAX_BITS && b->at < b->size) {
        b->hold |= (uint32_t)b->data[b->at++] << b->count;
        b->count += 8;
    }
    uint32_t hold = b->hold;
    for (int bit = 1; bit <= MAX_BITS && bit <= b->count; bit++, hold >>= 1) {
        value |= (int)(hold & 1);
        int count = c->counts[bit];
        if (value - first < count) {
            b->hold >>= bit;
            b->count -= bit;
            return c->symbols[index + value - first];
        }
        index += count;
        first = (first + count) * 2;
        value *= 2;
    }
    b->ended = true;
    return -1;
}

static bool read_codes(bits *b, code *literals, code *distances) {
    static const uint8_t ORDER[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    uint8_t lengths[LITERALS + 32] = {0};
    int n_literals = (int)take(b, 5) + 257, n_distances = (int)take(b, 5) + 1, n_lengths = (int)take(b, 4) + 4;
    if (n_literals > 286 || n_distances > DISTANCES) return false;
    for (int i = 0; i < n_lengths; i++) lengths[ORDER[i]] = (uint8_t)take(b, 3);
    code of_lengths;
    if (b->ended || !make_code(&of_lengths, lengths, 19)) return false;
    memset(lengths, 0, sizeof lengths);
    for (int i = 0; i < n_literals + n_distances;) {
        int symbol = read_symbol(b, &of_lengths);
        if (symbol < 0 || (symbol == 16 && i == 0)) return false;
        uint8_t value = symbol < 16 ? (uint8_t)symbol : symbol == 16 ? lengths[i - 1] : 0;
        int repeat = symbol < 16    ? 1
                     : symbol == 16 ? 3 + (int)take(b, 2)
                     : symbol == 17 ? 3 + (int)take(b, 3)
                                    : 11 + (int)take(b, 7);
        if (i + repeat > n_literals + n_distances) return false;
        while (repeat-- > 0) lengths[i++] = value;
    }
    return make_code(literals, lengths, n_literals) && make_code(distances, lengths + n_literals, n_distances);
}

/* Literals and copies up to the end of one block; *ok false: broken. */
static ot_status inflate_codes(bits *b, const code *literals, const code *distances, ot_tok_buf *out, bool *ok, ot_error *err) {
    static const uint16_t LENGTH[29] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                        31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
    static const uint8_t LENGTH_BITS[29] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                            2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
    static const uint16_t DISTANCE[DISTANCES] = {1,    2,    3,    4,    5,    7,    9,    13,    17,    25,
                                                 33,   49,   65,   97,   129,  193,  257,  385,   513,   769,
                                                 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
    *ok = false;
    for (;;) {
        int symbol = read_symbol(b, literals);
        if (symbol == 256) break;
        if (symbol < 0 || symbol > 285 || out->size > MAX_INFLATED) return OT_OK;
        if (symbol < 256) {
            char c = (char)symbol;
            OT_TRY(ot_tok_buf_put(out, &c, 1, err));
            continue;
        }
        int64_t length = LENGTH[symbol - 257] + (int64_t)take(b, LENGTH_BITS[symbol - 257]);
        int which = read_symbol(b, distances);
        if (which < 0 || which >= DISTANCES) return OT_OK;
        int64_t distance = DISTANCE[which] + (int64_t)take(b, which < 2 ? 0 : which / 2 - 1);
        if (b->ended || distance > out->size) return OT_OK;
        for (; length > 0; length--) { /* a copy may read what it writes */
            char again = out->data[out->size - distance];
            OT_TRY(ot_tok_buf_put(out, &again, 1, err));
        }
    }
    *ok = true;
    return OT_OK;
}

static ot_status inflate_stored(bits *b, ot_tok_buf *out, bool *ok, ot_error *err) {
    b->at -= b->count / 8; /* whole bytes that were taken ahead */
    b->hold = 0;
    b->count = 0;
    uint32_t size = take(b, 16), check = take(b, 16);
    *ok = !b->ended && size == (check ^ 0xFFFFU) && b->size - b->at >= size;
    if (!*ok) return OT_OK;
    OT_TRY(ot_tok_buf_put(out, (const char *)b->data + b->at, size, err));
    b->at += size;
    return OT_OK;
}

static ot_status inflate_all(bits *b, ot_tok_buf *out, bool *ok, ot_error *err) {
    bool last = false;
    for (*ok = true; *ok && !last;) {
        last = take(b, 1) == 1;
        uint32_t type = take(b, 2);
        code literals, distances;
        if (b->ended || type == 3) {
            *ok = false;
        } else if (type == 0) {
            OT_TRY(inflate_stored(b, out, ok, err));
        } else {
            if (type == 1) {
                uint8_t lengths[LITERALS];
                for (int i = 0; i < LITERALS; i++) lengths[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
                *ok = make_code(&literals, lengths, LITERALS);
                memset(lengths, 5, DISTANCES);
                *ok = *ok && make_code(&distances, lengths, DISTANCES);
            } else {
                *ok = read_codes(b, &literals, &distances);
            }
            if (*ok) OT_TRY(inflate_codes(b, &literals, &distances, out, ok, err));
        }
        if (out->size > MAX_INFLATED) *ok = false;
    }
    return OT_OK;
}

static uint32_t crc32_of(const char *text, int64_t size) {
    uint32_t crc = UINT32_MAX;
    uint32_t table[256];
    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (int k = 0; k < 8; k++) table[i] = table[i] >> 1 ^ (0xEDB88320U & (0U - (table[i] & 1U)));
    }
    for (int64_t i = 0; i < size; i++) crc = crc >> 8 ^ table[(crc ^ (unsigned char)text[i]) & 0xFF];
    return ~crc;
}

/* Past a zero-terminated field of the header; -1 when there is no end. */
static int64_t skip_text(const uint8_t *data, int64_t size, int64_t at) {
    const uint8_t *end = at < size ? memchr(data + at, 0, (size_t)(size - at)) : NULL;
    return end == NULL ? -1 : end + 1 - data;
}

ot_status ot_tok_gunzip(const uint8_t *data, int64_t size, const char *where, ot_tok_buf *out, ot_error *err) {
    bool ok = size >= 18 && data[0] == 0x1F && data[1] == 0x8B && data[2] == 8 && (data[3] & 0xE0) == 0;
    int64_t at = 10;
    if (ok && (data[3] & 4) != 0) at += 2 + (data[10] | data[11] << 8);
    if (ok && (data[3] & 8) != 0) at = skip_text(data, size, at);
    if (ok && at >= 0 && (data[3] & 16) != 0) at = skip_text(data, size, at);
    if (ok && at >= 0 && (data[3] & 2) != 0) at += 2;
    bits b = {.data = data, .size = size, .at = at};
    ok = ok && at >= 0 && at < size;
    if (ok) OT_TRY(inflate_all(&b, out, &ok, err));
    b.at -= b.count / 8;
    ok = ok && b.size - b.at >= 8;
    if (ok) {
        const uint8_t *tail = data + b.at;
        uint32_t crc = tail[0] | (uint32_t)tail[1] << 8 | (uint32_t)tail[2] << 16 | (uint32_t)tail[3] << 24;
        ok = crc == crc32_of(out->data, out->size);
    }
    return ok ? OT_OK : ot_fail(err, OT_ERR_FORMAT, "%s: not a whole gzip file; fetch it again", where);
}

/* ==== The vocabulary ==== */

static ot_status add_token(ot_tokenizer *t, const char *a, int64_t a_size, const char *b, int64_t b_size, ot_error *err) {
    ot_tok_buf text = {0};
    ot_status status = ot_tok_buf_put(&text, a, a_size, err);
    if (status == OT_OK) status = ot_tok_buf_put(&text, b, b_size, err);
    if (status == OT_OK)
        status = ot_tok_vocab_add(&t->vocab, t->vocab.count, text.data != NULL ? text.data : "", text.size, t->path, err);
    ot_tok_buf_free(&text);
    return status;
}

/* The byte characters: those that stand for themselves first. */
static ot_status add_alphabet(ot_tokenizer *t, const char *suffix, ot_error *err) {
    for (int pass = 0; pass < 2; pass++) {
        for (int byte = 0; byte < 256; byte++) {
            ot_tok_buf text = {0};
            char c = (char)byte;
            uint32_t character = 0;
            ot_status status = ot_tok_to_byte_level(&text, &c, 1, err);
            if (status == OT_OK) {
                ot_utf8_next(text.data, text.size, &character);
                bool itself = character == (uint32_t)byte;
                if (itself == (pass == 0)) status = add_token(t, text.data, text.size, suffix, (int64_t)strlen(suffix), err);
            }
            ot_tok_buf_free(&text);
            OT_TRY(status);
        }
    }
    return OT_OK;
}

typedef ot_status line_fn(ot_tokenizer *t, const char *line, int64_t size, int64_t rank, ot_error *err);

static ot_status add_result(ot_tokenizer *t, const char *line, int64_t size, int64_t rank, ot_error *err) {
    const char *blank = memchr(line, ' ', (size_t)size);
    if (blank == NULL)
        return ot_fail(err, OT_ERR_FORMAT, "%s: merge %lld is not two tokens with one blank between", t->path, (long long)rank);
    return add_token(t, line, blank - line, blank + 1, size - (blank - line) - 1, err);
}

static ot_status add_merge(ot_tokenizer *t, const char *line, int64_t size, int64_t rank, ot_error *err) {
    return ot_tok_add_merge_line(t, line, size, rank, t->path, err);
}

/* The first line is a comment. */
static ot_status each_line(ot_tokenizer *t, const ot_tok_buf *text, line_fn *fn, ot_error *err) {
    int64_t rank = -1;
    for (int64_t at = 0; at < text->size && rank < MAX_MERGES; rank++) {
        const char *end = memchr(text->data + at, '\n', (size_t)(text->size - at));
        int64_t size = end == NULL ? text->size - at : end - (text->data + at);
        if (rank >= 0 && size > 0) OT_TRY(fn(t, text->data + at, size, rank, err));
        at += size + 1;
    }
    return OT_OK;
}

ot_status ot_tok_load_clip(ot_tokenizer *t, const char *path, ot_error *err) {
    char *data = NULL;
    int64_t size = 0;
    ot_tok_buf text = {0};
    OT_TRY(ot_read_file(path, OT_TOK_MAX_FILE, &data, &size, err));
    ot_status status = ot_tok_gunzip((const uint8_t *)data, size, path, &text, err);
    ot_free(data);
    if (status == OT_OK && !ot_utf8_valid(text.data, text.size)) status = ot_fail(err, OT_ERR_FORMAT, "%s: not UTF-8", path);
    if (status == OT_OK) status = add_alphabet(t, "", err);
    if (status == OT_OK) status = add_alphabet(t, "</w>", err);
    if (status == OT_OK) status = each_line(t, &text, add_result, err);
    if (status == OT_OK) status = add_token(t, "<|startoftext|>", 15, "", 0, err);
    if (status == OT_OK) status = add_token(t, "<|endoftext|>", 13, "", 0, err);
    if (status == OT_OK) status = ot_tok_vocab_finish(&t->vocab, err);
    if (status == OT_OK) status = each_line(t, &text, add_merge, err);
    if (status == OT_OK) status = ot_tok_merges_finish(&t->merges, err);
    ot_tok_buf_free(&text);
    OT_TRY(status);
    return ot_tok_finish_pair(t, path, err);
}
