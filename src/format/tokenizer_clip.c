/* OpenAI's own CLIP vocabulary file, bpe_simple_vocab_16e6.txt.gz: merges only, gzipped. Its vocabulary is a rule: the byte
 * characters, the same with </w>, the results of the first 48,894 merges, two special tokens. */
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "base/file.h"
#include "format/tokenizer_internal.h"
#include "format/unicode.h"

enum { MAX_MERGES = 49152 - 256 - 2, GZIP_WINDOW = MAX_WBITS + 16 };
static const int64_t MAX_INFLATED = (int64_t)64 << 20;

/* ==== Gzip ==== */

static ot_status inflate_all(z_stream *z, ot_tok_buf *out, int *code, ot_error *err) {
    char chunk[16384];
    *code = Z_OK;
    while (*code == Z_OK && out->size <= MAX_INFLATED) {
        z->next_out = (Bytef *)chunk;
        z->avail_out = sizeof chunk;
        *code = inflate(z, Z_NO_FLUSH);
        OT_TRY(ot_tok_buf_put(out, chunk, (int64_t)(sizeof chunk - z->avail_out), err));
    }
    return OT_OK;
}

ot_status ot_tok_gunzip(const uint8_t *data, int64_t size, const char *where, ot_tok_buf *out, ot_error *err) {
    if (size > INT32_MAX) return ot_fail(err, OT_ERR_FORMAT, "%s: %lld bytes are too many for a gzipped vocabulary", where, (long long)size);
    z_stream z = {.next_in = (Bytef *)data, .avail_in = (uInt)size}; /* zlib reads it only; its type lacks the const */
    if (inflateInit2(&z, GZIP_WINDOW) != Z_OK) return ot_fail_memory(err, sizeof z, "zlib");
    int code = Z_OK;
    ot_status status = inflate_all(&z, out, &code, err);
    inflateEnd(&z);
    OT_TRY(status);
    return code == Z_STREAM_END ? OT_OK : ot_fail(err, OT_ERR_FORMAT, "%s: not a whole gzip file; fetch it again", where);
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
