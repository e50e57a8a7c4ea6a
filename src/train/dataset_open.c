/* Files of ids and of text as rows. */
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "format/safetensors.h"
#include "format/tokenizer.h"
#include "train/dataset.h"

enum { IGNORED_LABEL = -100 };

/* ==== Ids. ==== */

typedef struct id_file {
    const char *path;
    const ot_tensor *ids, *labels, *mask;
    int64_t vocab;
} id_file;

static int64_t at(const ot_tensor *t, int64_t i) {
    int64_t v;
    memcpy(&v, (const char *)t->data + i * 8, 8);
    return v;
}

static ot_status check_tensor(const ot_tensor *t, const ot_tensor *ids, const char *path, ot_error *err) {
    if (t == NULL) return OT_OK;
    if (t->dtype != OT_I64 || t->n_dims != 2 || t->shape[0] != ids->shape[0] || t->shape[1] != ids->shape[1]) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: tensor %s must be int64 with the shape of input_ids", path, t->name);
    }
    return OT_OK;
}

static ot_status read_row(const id_file *f, int64_t r, int32_t *row_ids, int32_t *row_targets, int64_t *row_mask, ot_error *err) {
    int64_t length = f->ids->shape[1];
    for (int64_t t = 0; t < length; t++) {
        int64_t i = r * length + t, id = at(f->ids, i);
        bool real = f->mask == NULL || at(f->mask, i) != 0;
        row_mask[t] = real;
        if (real && (id < 0 || id >= f->vocab)) {
            return ot_fail(err, OT_ERR_FORMAT, "%s: input_ids[%lld, %lld] is %lld, outside the vocabulary of %lld", f->path, (long long)r,
                           (long long)t, (long long)id, (long long)f->vocab);
        }
        row_ids[t] = real ? (int32_t)id : 0;
        int64_t label = t + 1 == length ? IGNORED_LABEL : f->labels != NULL ? at(f->labels, i + 1) : at(f->ids, i + 1);
        if (f->labels == NULL && f->mask != NULL && t + 1 < length && at(f->mask, i + 1) == 0) label = IGNORED_LABEL;
        /* Without labels the next round checks it, as the id that it is. */
        if (f->labels != NULL && label != IGNORED_LABEL && (label < 0 || label >= f->vocab)) {
            return ot_fail(err, OT_ERR_FORMAT, "%s: labels[%lld, %lld] is %lld: neither a token id nor -100", f->path, (long long)r,
                           (long long)t + 1, (long long)label);
        }
        row_targets[t] = label == IGNORED_LABEL || !real ? -1 : (int32_t)label;
    }
    return OT_OK;
}

static ot_status read_rows(const id_file *f, int64_t limit, ot_dataset_builder *b, ot_error *err) {
    int64_t rows = limit > 0 && limit < f->ids->shape[0] ? limit : f->ids->shape[0], length = f->ids->shape[1];
    int32_t *ids = NULL, *targets = NULL;
    int64_t *mask = NULL;
    ot_status status = ot_malloc(length, 4, "token ids", (void **)&ids, err);
    if (status == OT_OK) status = ot_malloc(length, 4, "targets", (void **)&targets, err);
    if (status == OT_OK) status = ot_malloc(length, 8, "the attention mask", (void **)&mask, err);
    for (int64_t r = 0; status == OT_OK && r < rows; r++) {
        status = read_row(f, r, ids, targets, mask, err);
        if (status == OT_OK) status = ot_dataset_append(b, ids, targets, f->mask != NULL ? mask : NULL, length, err);
    }
    ot_free(ids);
    ot_free(targets);
    ot_free(mask);
    return status;
}

static ot_status open_tensors(const char *path, int64_t vocab, int64_t limit, ot_dataset_builder *b, ot_error *err) {
    ot_safetensors *st = NULL;
    OT_TRY(ot_safetensors_open(path, &st, err));
    id_file f = {.path = path,
                 .ids = ot_safetensors_find(st, "input_ids"),
                 .labels = ot_safetensors_find(st, "labels"),
                 .mask = ot_safetensors_find(st, "attention_mask"),
                 .vocab = vocab};
    ot_status status = OT_OK;
    if (f.ids == NULL || f.ids->dtype != OT_I64 || f.ids->n_dims != 2 || f.ids->shape[0] < 1 || f.ids->shape[1] < 2) {
        status = ot_fail(err, OT_ERR_FORMAT, "%s: needs a tensor input_ids, int64 of shape [rows, tokens] with two tokens or more a row", path);
    }
    if (status == OT_OK) status = check_tensor(f.labels, f.ids, path, err);
    if (status == OT_OK) status = check_tensor(f.mask, f.ids, path, err);
    if (status == OT_OK) status = read_rows(&f, limit, b, err);
    ot_safetensors_close(st);
    return status;
}

/* ==== Text. ==== */

static ot_status cut(ot_dataset_builder *b, const char *path, const int32_t *all, int64_t count, int64_t block, int64_t vocab, int64_t limit,
                     ot_error *err) {
    int64_t rows = count / block;
    b->d.text_tokens += count;
    if (rows == 0) {
        return ot_fail(err, OT_ERR_REFUSED, "%s has %lld tokens, fewer than one block of %lld: use a smaller --block or more text", path,
                       (long long)count, (long long)block);
    }
    if (limit > 0 && limit < rows) rows = limit;
    int32_t *targets = NULL;
    OT_TRY(ot_malloc(block, 4, "targets", (void **)&targets, err));
    ot_status status = OT_OK;
    for (int64_t i = 0; status == OT_OK && i < rows * block; i++) {
        if (all[i] >= vocab) {
            status = ot_fail(err, OT_ERR_FORMAT,
                             "%s: the tokenizer gave id %d, but the model's vocabulary has %lld: they do not belong together", path, all[i],
                             (long long)vocab);
        }
    }
    targets[block - 1] = -1;
    for (int64_t r = 0; status == OT_OK && r < rows; r++) {
        memcpy(targets, all + r * block + 1, (size_t)(block - 1) * 4);
        status = ot_dataset_append(b, all + r * block, targets, NULL, block, err);
    }
    ot_free(targets);
    return status;
}

static ot_status open_text(const char *path, const char *tokenizer_path, int64_t block, int64_t vocab, int64_t limit, ot_dataset_builder *b,
                           ot_error *err) {
    ot_map map = {0};
    ot_tokenizer *tokenizer = NULL;
    int32_t *all = NULL;
    int64_t count = 0;
    OT_TRY(ot_map_open(path, &map, err));
    ot_status status = OT_OK;
    if (map.size == 0) status = ot_fail(err, OT_ERR_REFUSED, "%s is empty", path);
    if (status == OT_OK) status = ot_tokenizer_open(tokenizer_path, &tokenizer, err);
    if (status == OT_OK) status = ot_tokenizer_encode(tokenizer, (const char *)map.data, (size_t)map.size, false, &all, &count, err);
    if (status == OT_OK) status = cut(b, path, all, count, block, vocab, limit, err);
    ot_free(all);
    ot_tokenizer_close(tokenizer);
    ot_map_close(&map);
    return status;
}

ot_status ot_dataset_open(const char *path, const char *tokenizer_path, int64_t block, int64_t vocab, int64_t limit, ot_dataset *out,
                          ot_error *err) {
    ot_dataset_builder b = {0};
    ot_status status = ot_path_ends(path, ".safetensors") ? open_tensors(path, vocab, limit, &b, err)
                                                          : open_text(path, tokenizer_path, block, vocab, limit, &b, err);
    if (status == OT_OK && ot_dataset_targets(&b.d) == 0) {
        status = ot_fail(err, OT_ERR_REFUSED, "%s: every label is ignored (-100): there is nothing to learn or score", path);
    }
    if (status != OT_OK) {
        ot_dataset_free(&b.d);
        return status;
    }
    *out = b.d;
    return OT_OK;
}
