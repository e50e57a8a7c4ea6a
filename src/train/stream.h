/* Training rows of text that need not fit into memory. Files are read in pieces; rows collect in a window of so many, are taken from it in an order that
 * depends on seed, epoch and window alone, and the next window follows. Where a run stands is a place of a few numbers, from which it goes on exactly.
 *
 * Text becomes the rows that it would become whole (see data/pieces.h), JSON lines the examples; a text that fits into one window is trained on in the
 * very order in which it would be if it were read whole. */
#ifndef OT_TRAIN_STREAM_H
#define OT_TRAIN_STREAM_H

#include "data/data.h"
#include "train/dataset.h"

typedef struct ot_stream_options {
    const char *const *paths;
    int64_t n_paths;
    ot_data_options data;
    int64_t window; /* rows at least, as far as there are any: a window ends with a piece */
    int64_t piece;  /* bytes, 0: OT_PIECE */
    bool shuffle;
    uint64_t seed;
    void (*release)(void *context); /* called when the stream closes, also when it does not open: what paths and data point to goes; NULL: nothing */
    void *context;
} ot_stream_options;

/* Between two steps. Zeroed: the beginning. */
typedef struct ot_stream_place {
    int64_t epoch;
    int64_t window;                     /* number in the epoch */
    int64_t file, offset, skip, line;   /* where it begins: a piece, tokens of it that belong to the window before, lines before it */
    int64_t read;                       /* bytes of the file, after unpacking, that were read then */
    int64_t first_row;                  /* rows of the epoch before it */
    int64_t taken;                      /* rows taken from it */
} ot_stream_place;

/* Should files be streamed that nobody asked for? Those which are too large to be held whole without need. */
bool ot_stream_is_due(const char *const *paths, int64_t n_paths);
/* Rows of a window where nobody asks for another number: about four million tokens. */
int64_t ot_stream_usual_window(int64_t block);

/* A data set whose rows are those of a stream, which ot_dataset_free closes. paths and what options.data points to must outlive it. */
ot_status ot_dataset_open_stream(const ot_stream_options *options, ot_dataset *out, ot_error *err);
void ot_stream_close(ot_stream *s);

/* Take `count` rows: they are what ot_stream_rows holds until the next call. */
ot_status ot_stream_next(ot_stream *s, int64_t count, ot_error *err);
const ot_dataset *ot_stream_rows(const ot_stream *s);
/* As ot_dataset_count_firsts, of the rows that are taken from now on. */
void ot_stream_count_firsts(ot_stream *s);
/* Of a row of those, its number in the epoch, for people. */
int64_t ot_stream_row_number(const ot_stream *s, int64_t row);

void ot_stream_tell(const ot_stream *s, ot_stream_place *place);
ot_status ot_stream_seek(ot_stream *s, const ot_stream_place *place, ot_error *err);

/* Epochs passed so far; parts of one by the bytes. */
double ot_stream_epochs(const ot_stream *s);
/* Rows of an epoch: everything is read and tokenised once. */
ot_status ot_stream_count(ot_stream *s, int64_t *rows, ot_error *err);
/* What tells these files from others, cheaply: sizes, and bytes here and there. */
ot_status ot_stream_identify(const ot_stream *s, void (*add)(void *context, const void *data, int64_t size), void *context, ot_error *err);

int64_t ot_stream_bytes(const ot_stream *s); /* of memory, planned */
int64_t ot_stream_file_bytes(const ot_stream *s);
int64_t ot_stream_window(const ot_stream *s);
int64_t ot_stream_bad(const ot_stream *s); /* rows of JSON lines left out so far */

#endif
