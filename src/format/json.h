/* Bounded JSON reading over jansson: unique keys, limited depth and size, errors with file and byte position; and typed getters
 * that name the key they failed on. */
#ifndef OT_FORMAT_JSON_H
#define OT_FORMAT_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* Parse one JSON document. `where` is used in messages. Duplicate keys, trailing text, NaN and depth above jansson's limit are
 * refused; U+0000 in strings is allowed. The caller owns *out (json_decref). */
ot_status ot_json_parse(const char *text, int64_t size, const char *where, json_t **out, ot_error *err);
ot_status ot_json_read(const char *path, int64_t limit, json_t **out, ot_error *err);
/* The same for files of Python with whole numbers beyond 64 bits, such as tokenizer_config.json of a tokenizer without a greatest length
 * (model_max_length 1000000000000000019884624838656): all whole numbers of such a file are read as reals. */
ot_status ot_json_read_large(const char *path, int64_t limit, json_t **out, ot_error *err);
/* Write with an indentation of 2 and a final newline, atomically; key order as inserted. */
ot_status ot_json_write(const char *path, const json_t *value, ot_error *err);

/* Getters: `found` (may be NULL) tells whether the key exists and is not null; an existing value of another type is an error. */
ot_status ot_json_i64(const json_t *object, const char *key, const char *where, int64_t *out, bool *found, ot_error *err);
ot_status ot_json_f64(const json_t *object, const char *key, const char *where, double *out, bool *found, ot_error *err);
ot_status ot_json_bool(const json_t *object, const char *key, const char *where, bool *out, bool *found, ot_error *err);
ot_status ot_json_str(const json_t *object, const char *key, const char *where, const char **out, bool *found, ot_error *err);

#endif
