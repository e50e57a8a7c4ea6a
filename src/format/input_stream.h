/* The bytes of a data file of any size, one stretch after another, unpacked as ot_input does; what is held does not grow with the file. */
#ifndef OT_FORMAT_INPUT_STREAM_H
#define OT_FORMAT_INPUT_STREAM_H

#include <stdint.h>

#include "base/error.h"

typedef struct ot_input_stream ot_input_stream;

ot_status ot_input_stream_open(const char *path, ot_input_stream **out, ot_error *err);
void ot_input_stream_close(ot_input_stream *s);
/* The next `size` bytes; fewer only at the end. */
ot_status ot_input_stream_read(ot_input_stream *s, char *to, int64_t size, int64_t *got, ot_error *err);
/* Go on at byte `at` after unpacking. What is packed is unpacked again from the beginning, where it lies before the present place. */
ot_status ot_input_stream_seek(ot_input_stream *s, int64_t at, ot_error *err);

const char *ot_input_stream_packing(const ot_input_stream *s); /* "gzip", "zstd"; NULL: none */
int64_t ot_input_stream_file_bytes(const ot_input_stream *s);  /* as it lies */
int64_t ot_input_stream_taken(const ot_input_stream *s);       /* bytes of the file that were used so far */

#endif
