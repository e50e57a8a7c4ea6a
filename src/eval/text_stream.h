/* Text that arrives in pieces of tokens, passed on as soon as it is certain: never a part of a UTF-8 character, and nothing of a text that
 * ends the output. Bytes that are no UTF-8 become U+FFFD. */
#ifndef OT_EVAL_TEXT_STREAM_H
#define OT_EVAL_TEXT_STREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

typedef struct ot_text_stream {
    const char *const *stops; /* texts that end the output and are not part of it; must outlive the stream */
    int64_t n_stops;
    void (*put)(void *context, const char *text, int64_t size);
    void *context;
    bool stopped; /* one of the stops came: nothing is passed on any more */
    char *held;   /* not yet certain */
    int64_t size, capacity;
} ot_text_stream;

/* Zero-initialise with the first four fields set. */
ot_status ot_text_stream_add(ot_text_stream *s, const char *bytes, int64_t size, ot_error *err);
/* Passes on what was held back. */
void ot_text_stream_end(ot_text_stream *s);
void ot_text_stream_free(ot_text_stream *s);

#endif
