/* safetensors: reading by mmap with full validation, writing atomically.
 * The format: 8 bytes little-endian header length, JSON header, tensor bytes. A file is refused when its header is longer
 * than 100 MB, is not one JSON object with unique keys, when a dtype is unknown, a shape times its dtype does not equal its
 * offsets, offsets overlap, leave gaps or lie outside the file. Every message names the file and the tensor or byte. */
#ifndef OT_FORMAT_SAFETENSORS_H
#define OT_FORMAT_SAFETENSORS_H

#include "base/error.h"
#include "tensor/dtype.h"

typedef struct ot_safetensors ot_safetensors;

ot_status ot_safetensors_open(const char *path, ot_safetensors **out, ot_error *err);
void ot_safetensors_close(ot_safetensors *st); /* NULL is fine; tensor views die with it */
int64_t ot_safetensors_count(const ot_safetensors *st);
/* In the order of their data in the file. */
const ot_tensor *ot_safetensors_at(const ot_safetensors *st, int64_t index);
/* NULL when absent. */
const ot_tensor *ot_safetensors_find(const ot_safetensors *st, const char *name);
/* Value of a __metadata__ key, NULL when absent. */
const char *ot_safetensors_metadata(const ot_safetensors *st, const char *key);
const char *ot_safetensors_path(const ot_safetensors *st);

/* Write tensors in the given order (data 8-byte aligned like the official writer: header padded with blanks).
 * metadata: NULL-terminated list of key, value, key, value, ... or NULL ("format": "pt" is always added when absent).
 * Each tensor's bytes must match its shape and dtype. Nothing half-written remains on failure. */
ot_status ot_safetensors_write(const char *path, const ot_tensor *tensors, int64_t count, const char *const *metadata, ot_error *err);

/* Streaming form for files larger than memory: declare all tensors first (data ignored), then put the bytes of each in order. */
typedef struct ot_safetensors_writer ot_safetensors_writer;
ot_status ot_safetensors_writer_open(const char *path, const ot_tensor *tensors, int64_t count, const char *const *metadata,
                                     ot_safetensors_writer **out, ot_error *err);
ot_status ot_safetensors_writer_put(ot_safetensors_writer *w, const void *data, int64_t bytes, ot_error *err);
ot_status ot_safetensors_writer_commit(ot_safetensors_writer *w, ot_error *err); /* refuses when bytes are missing; frees w on success */
void ot_safetensors_writer_abort(ot_safetensors_writer *w);

#endif
