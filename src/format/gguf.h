/* GGUF v2 and v3, read by mmap with full validation: counts, lengths, types, alignment, overlaps and bounds are checked before
 * anything is used, and every message names the file and the key, tensor or byte. Names and shapes are given in PyTorch
 * order (slowest dimension first; GGUF lists the fastest first). Row order of attn_q / attn_k is left as stored: see
 * ot_gguf_row_permutation. */
#ifndef OT_FORMAT_GGUF_H
#define OT_FORMAT_GGUF_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "tensor/dtype.h"

typedef struct ot_gguf ot_gguf;

ot_status ot_gguf_open(const char *path, ot_gguf **out, ot_error *err);
void ot_gguf_close(ot_gguf *g);
const char *ot_gguf_path(const ot_gguf *g);
/* Does the file begin with the GGUF magic? Never fails: an unreadable file is none. */
bool ot_gguf_is(const char *path);

int64_t ot_gguf_tensor_count(const ot_gguf *g);
const ot_tensor *ot_gguf_tensor_at(const ot_gguf *g, int64_t index);
const ot_tensor *ot_gguf_find(const ot_gguf *g, const char *name);

/* Key-value getters: false when the key is absent or of another type (integers of every width count as i64, floats as f64).
 * Strings are NUL-terminated copies owned by g; their length is given because they may hold NULs. */
bool ot_gguf_i64(const ot_gguf *g, const char *key, int64_t *out);
bool ot_gguf_f64(const ot_gguf *g, const char *key, double *out);
bool ot_gguf_bool(const ot_gguf *g, const char *key, bool *out);
const char *ot_gguf_str(const ot_gguf *g, const char *key, int64_t *length);
/* The type of the adapter that the file holds instead of a model ("lora"); NULL: it holds none. */
const char *ot_gguf_adapter(const ot_gguf *g);
/* Arrays: element count, or -1 when absent or not an array of that kind. */
int64_t ot_gguf_array_count(const ot_gguf *g, const char *key);
const char *ot_gguf_array_str(const ot_gguf *g, const char *key, int64_t index, int64_t *length); /* not NUL-terminated */
bool ot_gguf_array_i64(const ot_gguf *g, const char *key, int64_t index, int64_t *out);
bool ot_gguf_array_f64(const ot_gguf *g, const char *key, int64_t index, double *out);
/* Pair number `index` as it lies in the file: its value's type and bytes (an array's with item type and count). false: there is none. */
bool ot_gguf_pair(const ot_gguf *g, int64_t index, const char **key, uint32_t *type, const void **value, int64_t *size);

/* llama.cpp's converter interleaves the two rotary halves of each head of attn_q and attn_k of the Llama family: file row of
 * model row r, for a matrix whose heads have head_dim rows each: within a head, model row h*(d/2)+i (h = 0 or 1) is file
 * row 2*i + h. */
static inline int64_t ot_gguf_row_permutation(int64_t r, int64_t head_dim) {
    int64_t head = r / head_dim, in_head = r % head_dim, half = head_dim / 2;
    return head * head_dim + 2 * (in_head % half) + in_head / half;
}

#endif
