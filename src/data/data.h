/* Training examples from files: what a file holds is recognised by its content (plain text, JSON lines of one of the known shapes, either of
 * them packed by gzip or zstd), and each example comes out as token ids with a mark on those that are to be learnt.
 *
 * A shape of JSON lines is one entry of the table in shapes.c. */
#ifndef OT_DATA_DATA_H
#define OT_DATA_DATA_H

#include <jansson.h>

#include "base/mem.h"
#include "format/input.h"
#include "format/tokenizer.h"
#include "task/task.h"

typedef struct ot_data_options {
    const char *tokenizer_path; /* a model folder, a GGUF, ...: also where the chat template is looked for */
    int64_t block;              /* tokens of an example at most: longer text is cut into several, other shapes lose their end */
    int64_t vocab;              /* ids must be below it */
    int64_t limit;              /* examples at most, 0: all */
    const char *const *map;     /* [n_map] "text=body": the key "body" stands for "text" */
    int64_t n_map;
    const char *chat_template;  /* NULL: the model's own */
    const char *task;           /* rows are of this task; NULL: recognised by their keys */
    bool train_all;             /* prompts and the other side's turns are learnt too */
    bool no_end;                /* do not put the end-of-text token behind texts and completions */
    bool strict;                /* the first bad row is an error */
} ot_data_options;

/* What became of a file. */
enum { OT_DATA_SHOWN = 3 };
typedef struct ot_data_bad_row {
    int64_t line;
    char why[256];
} ot_data_bad_row;
typedef struct ot_data_report {
    const char *path;    /* the caller's */
    const char *packing; /* "gzip", "zstd" or NULL */
    const char *shape;   /* "text", "messages", ..., "ids" */
    const char *detail;  /* chat template or task, NULL: none */
    const char *no_stop; /* the template's end of the assistant's turn, when the tokenizer has no such token: it becomes ordinary text */
    int64_t not_utf8;    /* of text: the first byte that is not UTF-8, from 1; 0: all of it is */
    int64_t lines_before; /* those of the file in front of these bytes: the caller's, for messages */
    int64_t rows;        /* lines, or values of a list, that hold something; 0 for text */
    int64_t bad;
    ot_data_bad_row shown[OT_DATA_SHOWN]; /* the first bad ones */
    int64_t examples, tokens, learnt;
    int64_t truncated; /* examples that lost their end, or their start (task rows) */
    int64_t split;     /* rows of text cut into several examples */
    int64_t empty;     /* rows with nothing to learn within the block: left out */
    bool failed;       /* the reading ended with this file */
} ot_data_report;

/* Gets each example: ids[count], learn[count] (1: this token is to be predicted). */
typedef ot_status (*ot_data_take)(void *context, const int32_t *ids, const uint8_t *learn, int64_t count, ot_error *err);

typedef struct ot_data_reader ot_data_reader;
/* options must outlive the reader. The tokenizer is opened once for all files. */
ot_status ot_data_reader_open(const ot_data_options *options, ot_data_reader **out, ot_error *err);
void ot_data_reader_close(ot_data_reader *r);
const ot_tokenizer *ot_data_tokenizer(const ot_data_reader *r);
/* A folder is none: what there is of pictures needs another model. */
ot_status ot_data_check_path(const char *path, ot_error *err);
/* Text has no zero bytes, while pictures, archives, models and UTF-16 have: REFUSED with the place. */
ot_status ot_data_check_zero(const char *data, int64_t size, const char *path, ot_error *err);
/* Of what is no JSON lines: a table by its name would be learnt as prose, commas and all. name: without .gz and .zst. */
ot_status ot_data_check_prose(const char *name, const char *path, ot_error *err);
/* Are these bytes JSON lines, or one list of rows? name: of the file, without .gz and .zst. */
bool ot_data_is_rows(const ot_input *source, const char *name);
bool ot_data_is_list(const ot_input *source);
/* Every example of them. report: zero-initialised. */
ot_status ot_data_read_rows(ot_data_reader *r, const ot_input *source, const char *path, ot_data_report *report, ot_data_take take, void *context,
                            ot_error *err);

/* ==== Shapes, for the files of this folder. ==== */

/* What goes when an example is longer than a block. */
typedef enum ot_data_cut {
    OT_CUT_END,
    OT_CUT_START,  /* as evaluation does: the answer stays */
    OT_CUT_PIECES, /* nothing: it becomes several examples */
} ot_data_cut;

/* One example being made. */
typedef struct ot_data_tokens {
    int32_t *ids;
    uint8_t *learn;
    int64_t count, ids_room, learn_room;
    ot_data_cut cut;
} ot_data_tokens;

enum { OT_SHAPE_KEYS = 4 };
typedef struct ot_shape {
    const char *name, *help;
    const char *keys[OT_SHAPE_KEYS]; /* a row that has all of them is of this shape */
    const char *task;                /* NULL: none */
    ot_status (*read)(ot_data_reader *r, const ot_row *row, ot_data_tokens *out, ot_error *err);
} ot_shape;
extern const ot_shape *const ot_shapes[];
extern const ot_shape ot_shape_own; /* rows of a user's task, whatever their keys */

/* The value of a key, under the name that --map gave it. */
const json_t *ot_data_get(const ot_data_reader *r, const json_t *object, const char *key);

#endif
