/* Writing GGUF v3: key-value pairs, then the table of tensors, then their bytes one tensor at a time, so that files larger than memory can be
 * written. Shapes are given in PyTorch order, as the reader gives them. The file appears under its name only when it is complete. */
#ifndef OT_FORMAT_GGUF_WRITE_H
#define OT_FORMAT_GGUF_WRITE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "format/gguf.h"
#include "tensor/dtype.h"

typedef struct ot_gguf_writer ot_gguf_writer;

ot_status ot_gguf_writer_new(const char *path, ot_gguf_writer **out, ot_error *err);
void ot_gguf_writer_abort(ot_gguf_writer *w); /* NULL is fine; also after a failed commit */

/* Key-value pairs, each key once. A failure (memory) is remembered and told by ot_gguf_writer_begin. */
void ot_gguf_put_u32(ot_gguf_writer *w, const char *key, uint32_t value);
void ot_gguf_put_f32(ot_gguf_writer *w, const char *key, double value);
void ot_gguf_put_f64(ot_gguf_writer *w, const char *key, double value);
void ot_gguf_put_bool(ot_gguf_writer *w, const char *key, bool value);
void ot_gguf_put_str(ot_gguf_writer *w, const char *key, const char *text);
void ot_gguf_put_text(ot_gguf_writer *w, const char *key, const char *text, int64_t size);
/* An array of strings: its count, then as many items. */
void ot_gguf_put_strings(ot_gguf_writer *w, const char *key, int64_t count);
void ot_gguf_put_item(ot_gguf_writer *w, const char *text, int64_t size);
void ot_gguf_put_i32s(ot_gguf_writer *w, const char *key, const int32_t *values, int64_t count);
void ot_gguf_put_f32s(ot_gguf_writer *w, const char *key, const float *values, int64_t count);
/* Every pair of another file whose key begins with prefix, byte for byte. */
void ot_gguf_copy_pairs(ot_gguf_writer *w, const ot_gguf *from, const char *prefix);

/* Name, dtype, shape and bytes of a tensor (data is ignored); the order is that of the puts. */
ot_status ot_gguf_declare(ot_gguf_writer *w, const ot_tensor *t, ot_error *err);
/* After the last pair and declaration; then the bytes of each tensor in order. */
ot_status ot_gguf_writer_begin(ot_gguf_writer *w, ot_error *err);
ot_status ot_gguf_writer_put(ot_gguf_writer *w, const void *data, int64_t size, ot_error *err);
ot_status ot_gguf_writer_commit(ot_gguf_writer *w, ot_error *err); /* frees w when it succeeds */

#endif
