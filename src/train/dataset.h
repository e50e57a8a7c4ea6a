/* Training and evaluation data as rows of token ids with a target for each position. A row is what is shuffled, counted by --batch and left
 * behind at a checkpoint: one example, or a pack of several that do not see each other. Rows differ in length; there is no padding. */
#ifndef OT_TRAIN_DATASET_H
#define OT_TRAIN_DATASET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/error.h"
#include "data/data.h"
#include "model/network.h"

/* Where the pictures of a data set come from: a reader of files fills this in front of its own fields. */
typedef struct ot_pixels ot_pixels;
struct ot_pixels {
    int64_t channels, height, width;
    const char *const *classes; /* names of the classes in the order of the reader's numbers, which are the targets; NULL: the model's own numbers */
    int64_t n_classes;
    const char *(*name)(const ot_pixels *pixels, int64_t row); /* of a picture, for people; NULL: there are none */
    ot_status (*digest)(const ot_pixels *pixels, int64_t row, char text[OT_DIGEST_TEXT], ot_error *err); /* SHA-256 of a picture's file; NULL: there are none */
    /* What tells these pictures from others, cheaply: names and sizes of files, or values. add takes the pieces. */
    void (*identify)(const ot_pixels *pixels, void (*add)(void *context, const void *data, int64_t size), void *context);
    /* Row `row` as the model wants it, [channels, height, width]. epoch: of training, whose pictures may be changed at random; -1: as it is. */
    ot_status (*get)(ot_pixels *pixels, int64_t row, int64_t epoch, float *out, ot_error *err);
    /* Announce a row that get will be asked for, after those announced before; false: there is no room now. NULL: nothing is read ahead. */
    bool (*expect)(ot_pixels *pixels, int64_t row, int64_t epoch);
    void (*close)(ot_pixels *pixels);
    bool varies;              /* pictures of training are changed at random */
    int64_t bad;              /* pictures left out, because they cannot be read */
    const char *const *shown; /* [n_shown] why, of the first ones */
    int64_t n_shown;
    int64_t held; /* bytes */
};

/* Rows of text that do not fit into memory, see train/stream.h. */
typedef struct ot_stream ot_stream;

typedef struct ot_dataset {
    int64_t rows;
    int64_t examples; /* as many as rows unless packed */
    int64_t length;   /* columns of the longest row */
    int64_t *starts;  /* [examples + 1]: example e is columns starts[e] .. starts[e + 1]; NULL: all have `length` columns */
    int64_t *packs;   /* [rows + 1]: row r is examples packs[r] .. packs[r + 1]; NULL: one each */
    int32_t *ids;     /* [columns] */
    int32_t *targets; /* [columns]: what this position must predict, -1: nothing */
    int32_t *firsts;  /* [examples]: what must be predicted before the first position, -1: nothing; only where something stands there */
    int64_t *mask;    /* [columns] or NULL: all ones */
    int32_t *counted; /* [rows] targets of each row */
    bool counts_firsts; /* the firsts are among them */
    ot_pixels *pixels; /* of images: a row is one picture of `length` patches and class tokens, with one target, and there are no ids; else NULL */
    float *picture;    /* room for one */
    ot_stream *stream; /* where the rows come from in training: this holds one that stands for them, as long as any; else NULL */
    int64_t tokens;   /* positions that are not masked */
    int64_t text_tokens; /* tokens of the text before it was cut; 0 for other data */
} ot_dataset;

/* One or several files after another, each recognised by its content:
 *   .safetensors: input_ids [N, T] int64 and optionally labels (not shifted, -100 ignored) and attention_mask; a row is an example;
 *   JSON lines, packed by gzip or zstd or not: see data/data.h;
 *   anything else is text, packed or not: tokenised whole without special tokens and cut into blocks of `block` ids, the remainder dropped.
 * reports: [n_paths], zero-initialised, or NULL; filled as far as the reading came. */
ot_status ot_dataset_read(const char *const *paths, int64_t n_paths, const ot_data_options *options, ot_dataset *out, ot_data_report *reports,
                          ot_error *err);
/* One file with every option at its default. limit: rows at most, 0: all. */
ot_status ot_dataset_open(const char *path, const char *tokenizer_path, int64_t block, int64_t vocab, int64_t limit, ot_dataset *out,
                          ot_error *err);
typedef struct ot_image_options {
    int64_t limit;              /* pictures at most, 0: all */
    const char *const *classes; /* what the labels of a tensor count, where the user names them; else NULL */
    int64_t n_classes;
    bool unlabelled;            /* labels are not looked at: every picture counts (for distillation, with the target 0) */
    /* Of picture files: */
    const char *model_path; /* whose preprocessor_config.json counts */
    const struct ot_augment *augment; /* random changes in training; NULL: none */
    uint64_t seed;                    /* of them */
    bool strict;                      /* the first picture that cannot be read is an error */
} ot_image_options;
/* For a vision model: .safetensors with pixel_values [N, C, H, W] and labels [N], normalised already; or picture files, see data/pictures.h. Those are
 * decoded once here, so that it is known which can be read. */
ot_status ot_dataset_open_images(const char *path, const ot_desc *desc, const ot_image_options *options, ot_dataset *out, ot_error *err);
/* Where the reader has names for the classes: from its numbers to those of these names, n of them. what: the data, for messages. REFUSED when a class
 * of the data is not among them. */
ot_status ot_dataset_number_classes(ot_dataset *d, const char *what, const char *const *names, int64_t n, ot_error *err);
void ot_dataset_free(ot_dataset *d);

/* The first column of an example; of example `examples`: all columns. */
static inline int64_t ot_dataset_start(const ot_dataset *d, int64_t example) {
    return d->starts != NULL ? d->starts[example] : example * d->length;
}
/* The first example of a row; of row `rows`: all examples. */
static inline int64_t ot_dataset_first(const ot_dataset *d, int64_t row) { return d->packs != NULL ? d->packs[row] : row; }
int64_t ot_dataset_columns(const ot_dataset *d);
int64_t ot_dataset_targets(const ot_dataset *d);       /* of all rows */
int64_t ot_dataset_most_targets(const ot_dataset *d);  /* of one row */
int64_t ot_dataset_most_examples(const ot_dataset *d); /* of one row */
int64_t ot_dataset_bytes(const ot_dataset *d);

/* The network has virtual tokens in front of every sequence: the firsts are targets too, as in PEFT, whose labels are shifted after they were put
 * behind those of the virtual tokens. Nothing happens to data of images, and the second time. */
void ot_dataset_count_firsts(ot_dataset *d);

/* Append a row to the network's batch, each of its examples as a sequence of its own. */
ot_status ot_dataset_add_row(ot_network *net, const ot_dataset *d, int64_t row, ot_error *err);
/* The same in an epoch of training: pictures may be changed at random. */
ot_status ot_dataset_add_training_row(ot_network *net, const ot_dataset *d, int64_t row, int64_t epoch, ot_error *err);

/* Row order of one epoch: 0, 1, 2, ... or a permutation that depends only on seed and epoch. */
void ot_dataset_order(const ot_dataset *d, bool shuffle, uint64_t seed, int64_t epoch, int64_t *order);

/* Lay examples together into rows of up to `capacity` columns; an example that is longer keeps a row to itself. Which come together depends on
 * the seed alone; without shuffle neighbours stay neighbours, in their order. The rows change, the examples do not. */
ot_status ot_dataset_pack(ot_dataset *d, int64_t capacity, bool shuffle, uint64_t seed, ot_error *err);

/* ==== Building: append examples, then finish. Readers use this; a failed build is freed with ot_dataset_free(&b->d). ==== */

typedef struct ot_dataset_builder {
    ot_dataset d;
    int64_t columns, starts_room, ids_room, targets_room, firsts_room, mask_room, counted_room;
} ot_dataset_builder;

/* One example as a row of its own. first, targets: as above. mask: NULL for all ones. */
ot_status ot_dataset_append(ot_dataset_builder *b, const int32_t *ids, int32_t first, const int32_t *targets, const int64_t *mask, int64_t count,
                            ot_error *err);

#endif
