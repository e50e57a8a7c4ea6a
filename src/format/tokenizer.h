/* Tokenizers: text to token ids and back, equal to Hugging Face's on every vector. One opaque type whatever the source:
 * tokenizer.json (byte-level BPE, or character BPE with byte fallback and Metaspace or normalizers; added tokens; ignore_merges),
 * vocab.json + merges.txt (GPT-2, OPT), a GGUF's embedded vocabulary (gpt2-style with its pre-tokenizer, or llama/SPM),
 * the llama2.c / sentencepiece .model (BPE) file of stories260K. */
#ifndef OT_FORMAT_TOKENIZER_H
#define OT_FORMAT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct ot_tokenizer ot_tokenizer;
struct ot_gguf;
struct ot_gguf_writer;

/* path: a directory (tokenizer.json first, else vocab.json + merges.txt, else tokenizer.model), a tokenizer.json, a .model or a GGUF. */
ot_status ot_tokenizer_open(const char *path, ot_tokenizer **out, ot_error *err);
ot_status ot_tokenizer_from_gguf(const struct ot_gguf *g, ot_tokenizer **out, ot_error *err);
void ot_tokenizer_close(ot_tokenizer *t);

int64_t ot_tokenizer_vocab_size(const ot_tokenizer *t);
/* -1 when there is none. */
int32_t ot_tokenizer_bos(const ot_tokenizer *t);
int32_t ot_tokenizer_eos(const ot_tokenizer *t);

/* Ids of text[0..size) (UTF-8; invalid bytes are treated as U+FFFD as Hugging Face's Python side would after decoding with
 * errors="replace"). add_special: what the tokenizer's template adds. *ids is allocated with ot_malloc; free with ot_free. */
ot_status ot_tokenizer_encode(const ot_tokenizer *t, const char *text, size_t size, bool add_special, int32_t **ids, int64_t *count,
                              ot_error *err);
/* Text of ids, special tokens kept unless skip_special; invalid UTF-8 becomes U+FFFD. NUL-terminated, free with ot_free. */
ot_status ot_tokenizer_decode(const ot_tokenizer *t, const int32_t *ids, int64_t count, bool skip_special, char **text, size_t *size,
                              ot_error *err);
/* Incremental decoding for streamed output: bytes that token `id` adds after the ids before it (may be an incomplete UTF-8
 * sequence). Appends at most `room` bytes to out and returns how many there were in all. */
size_t ot_tokenizer_piece(const ot_tokenizer *t, int32_t id, char *out, size_t room);
/* Write an equivalent tokenizer.json (used when a GGUF is split or exported). */
ot_status ot_tokenizer_write_json(const ot_tokenizer *t, const char *path, ot_error *err);

/* What a vocabulary inside a GGUF needs besides: ids of special tokens (-1: none), the name of the pre-tokenizer (NULL: found by what the
 * tokenizer does) and how many rows the model's embedding has; the ids without a token get names of their own. */
typedef struct ot_tokenizer_gguf {
    int64_t vocab_size;
    int32_t bos, eos, unk, pad;
    const char *pre;
} ot_tokenizer_gguf;
/* tokenizer.ggml.*: byte-level BPE as "gpt2", sentencepiece and character BPE with byte fallback as "llama". UNSUPPORTED, with what is in the way,
 * for others. */
ot_status ot_tokenizer_put_gguf(const ot_tokenizer *t, const ot_tokenizer_gguf *options, struct ot_gguf_writer *w, ot_error *err);
/* The id of a token by its text, added tokens first; -1: there is none. */
int32_t ot_tokenizer_find(const ot_tokenizer *t, const char *text);

#endif
