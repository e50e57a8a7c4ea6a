/* Small models, data files and folders for tests of training and of the exchange. Every function fails the test when it cannot. */
#ifndef OT_TESTS_TINY_H
#define OT_TESTS_TINY_H

#include <stdbool.h>
#include <stdint.h>

#include "format/safetensors.h"
#include "model/model.h"

/* The committed model of 6 blocks, "gpt2" or "qwen2": its folder. */
#define TINY_COMMITTED(family) TEST_DATA_DIR "/../golden/data/train/" family "/model"
ot_model *tiny_open(const char *path);
/* Saves a model of this config.json with random weights, nowhere default, stored as `dtype` (F64 too) into the new folder dir. */
void tiny_make(const char *config, const char *dir, ot_dtype dtype, uint64_t seed);

/* A data file: input_ids [rows, length] at random below vocab; with_labels: about a third of the labels are -100. */
void tiny_data(const char *path, int64_t rows, int64_t length, int64_t vocab, bool with_labels, uint64_t seed);
ot_tensor tiny_i64(const char *name, const int64_t *values, int64_t rows, int64_t cols);
ot_tensor tiny_f32(const char *name, const float *values, int64_t n);
void tiny_write(const char *path, const ot_tensor *tensors, int64_t count);
void tiny_text(const char *path, const char *text);
/* The whole file, with a NUL behind it; the caller frees. */
char *tiny_read(const char *path, int64_t *size);
void tiny_copy_dir(const char *from, const char *to);

/* Do two files, or all files of two folders (names and bytes), agree? */
bool tiny_same_file(const char *a, const char *b);
bool tiny_same_dir(const char *a, const char *b);
/* The name of the file of a folder (not searched below) that holds these bytes, NULL: none. The text is valid until the next call. */
const char *tiny_file_with(const char *dir, const void *bytes, int64_t size);
/* Is one of these byte strings, all `size` long, anywhere in a file of the folder? For many needles at once; returns the first one's index,
 * -1: none. */
int64_t tiny_find_any(const char *dir, const void *const *needles, int64_t count, int64_t size);
int64_t tiny_entries(const char *dir);

/* "base/a", in a buffer of its own for each of the last 16 calls. */
const char *tiny_path(const char *base, const char *name);

#endif
