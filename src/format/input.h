/* The bytes of a data file, whatever it is packed in: gzip and Zstandard are recognised by content and unpacked, anything else is mapped. */
#ifndef OT_FORMAT_INPUT_H
#define OT_FORMAT_INPUT_H

#include "base/file.h"

typedef struct ot_input {
    const char *data; /* NULL when size is 0 */
    int64_t size;
    const char *packing; /* "gzip", "zstd"; NULL: none */
    ot_map map;
    char *unpacked;
} ot_input;

/* limit: bytes after unpacking at most; more are refused, so that a small file cannot fill the memory. */
ot_status ot_input_open(const char *path, int64_t limit, ot_input *out, ot_error *err);
/* The same from memory, which must outlive the source; `where` is for messages. */
ot_status ot_input_from(const void *data, int64_t size, const char *where, int64_t limit, ot_input *out, ot_error *err);
void ot_input_close(ot_input *s);

/* FORMAT when the file's name is that of a packed one and its bytes, though there are some, are fewer than such a file is known by: it was cut off there and
 * would pass for a text. data[size]: the whole file, or its first 4 bytes. */
ot_status ot_input_check_cut(const char *path, const void *data, int64_t size, ot_error *err);

/* The path without a final .gz or .zst, in out. */
void ot_input_name(const char *path, char *out, size_t size);

#endif
