#include "train/dataset.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "format/safetensors.h"
#include "format/tokenizer.h"

enum { IGNORED_LABEL = -100 };

static ot_status allocate(ot_dataset *d, bool with_mask, ot_error *err) {
    int64_t n = 0;
    if (!ot_mul_i64(d->rows, d->length, &n)) return ot_fail(err, OT_ERR_FORMAT, "the data set is impossibly large");
    OT_TRY(ot_malloc(n, 4, "token ids", (void **)&d->ids, err));
    OT_TRY(ot_malloc(n, 4, "targets", (void **)&d->targets, err));
    OT_TRY(ot_malloc(d->rows, 4, "target counts", (void **)&d->counted, err));
    return with_mask ? ot_malloc(n, 8, "the attention mask", (void **)&d->mask, err) : OT_OK;
}

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

static ot_status fill_from_tensors(ot_dataset *d, const char *path, const ot_tensor *ids, const ot_tensor *labels, const ot_tensor *mask,
                                   int64_t vocab, ot_error *err) {
    for (int64_t r = 0; r < d->rows; r++) {
        d->counted[r] = 0;
        for (int64_t t = 0; t < d->length; t++) {
            int64_t i = r * d->length + t, id = at(ids, i);
            bool real = mask == NULL || at(mask, i) != 0;
            if (d->mask != NULL) d->mask[i] = real;
            d->tokens += real;
            if (real && (id < 0 || id >= vocab)) {
                return ot_fail(err, OT_ERR_FORMAT, "%s: input_ids[%lld, %lld] is %lld, outside the vocabulary of %lld", path, (long long)r,
                               (long long)t, (long long)id, (long long)vocab);
            }
            d->ids[i] = real ? (int32_t)id : 0;
            int64_t label = t + 1 == d->length ? IGNORED_LABEL : labels != NULL ? at(labels, i + 1) : at(ids, i + 1);
            if (labels == NULL && mask != NULL && t + 1 < d->length && at(mask, i + 1) == 0) label = IGNORED_LABEL;
            /* Without labels the next round checks it, as the id that it is. */
            if (labels != NULL && label != IGNORED_LABEL && (label < 0 || label >= vocab)) {
                return ot_fail(err, OT_ERR_FORMAT, "%s: labels[%lld, %lld] is %lld: neither a token id nor -100", path, (long long)r,
                               (long long)t + 1, (long long)label);
            }
            d->targets[i] = label == IGNORED_LABEL || !real ? -1 : (int32_t)label;
            d->counted[r] += d->targets[i] >= 0;
        }
    }
    return OT_OK;
}

static ot_status open_tensors(const char *path, int64_t vocab, int64_t limit, ot_dataset *d, ot_error *err) {
    ot_safetensors *st = NULL;
    OT_TRY(ot_safetensors_open(path, &st, err));
    const ot_tensor *ids = ot_safetensors_find(st, "input_ids"), *labels = ot_safetensors_find(st, "labels");
    const ot_tensor *mask = ot_safetensors_find(st, "attention_mask");
    ot_status status = OT_OK;
    if (ids == NULL || ids->dtype != OT_I64 || ids->n_dims != 2 || ids->shape[0] < 1 || ids->shape[1] < 2) {
        status = ot_fail(err, OT_ERR_FORMAT, "%s: needs a tensor input_ids, int64 of shape [rows, tokens] with two tokens or more a row", path);
    }
    if (status == OT_OK) status = check_tensor(labels, ids, path, err);
    if (status == OT_OK) status = check_tensor(mask, ids, path, err);
    if (status == OT_OK) {
        d->rows = limit > 0 && limit < ids->shape[0] ? limit : ids->shape[0];
        d->length = ids->shape[1];
        status = allocate(d, mask != NULL, err);
    }
    if (status == OT_OK) status = fill_from_tensors(d, path, ids, labels, mask, vocab, err);
    ot_safetensors_close(st);
    return status;
}

static ot_status cut(ot_dataset *d, const char *path, const int32_t *all, int64_t count, int64_t block, int64_t vocab, int64_t limit,
                     ot_error *err) {
    d->text_tokens = count;
    d->length = block;
    d->rows = count / block;
    if (d->rows == 0) {
        return ot_fail(err, OT_ERR_REFUSED, "%s has %lld tokens, fewer than one block of %lld: use a smaller --block or more text", path,
                       (long long)count, (long long)block);
    }
    if (limit > 0 && limit < d->rows) d->rows = limit;
    OT_TRY(allocate(d, false, err));
    for (int64_t i = 0; i < d->rows * block; i++) {
        if (all[i] >= vocab) {
            return ot_fail(err, OT_ERR_FORMAT, "%s: the tokenizer gave id %d, but the model's vocabulary has %lld: they do not belong together",
                           path, all[i], (long long)vocab);
        }
        d->ids[i] = all[i];
        d->targets[i] = (i + 1) % block == 0 ? -1 : all[i + 1];
    }
    for (int64_t r = 0; r < d->rows; r++) d->counted[r] = (int32_t)block - 1;
    d->tokens = d->rows * block;
    return OT_OK;
}

static ot_status open_text(const char *path, const char *tokenizer_path, int64_t block, int64_t vocab, int64_t limit, ot_dataset *d,
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
    if (status == OT_OK) status = cut(d, path, all, count, block, vocab, limit, err);
    ot_free(all);
    ot_tokenizer_close(tokenizer);
    ot_map_close(&map);
    return status;
}

ot_status ot_dataset_open(const char *path, const char *tokenizer_path, int64_t block, int64_t vocab, int64_t limit, ot_dataset *out,
                          ot_error *err) {
    ot_dataset d = {0};
    ot_status status = ot_path_ends(path, ".safetensors") ? open_tensors(path, vocab, limit, &d, err)
                                                          : open_text(path, tokenizer_path, block, vocab, limit, &d, err);
    if (status == OT_OK && ot_dataset_targets(&d) == 0) {
        status = ot_fail(err, OT_ERR_REFUSED, "%s: every label is ignored (-100): there is nothing to learn or score", path);
    }
    if (status != OT_OK) {
        ot_dataset_free(&d);
        return status;
    }
    *out = d;
    return OT_OK;
}

void ot_dataset_free(ot_dataset *d) {
    ot_free(d->ids);
    ot_free(d->targets);
    ot_free(d->mask);
    ot_free(d->counted);
    *d = (ot_dataset){0};
}

int64_t ot_dataset_targets(const ot_dataset *d) {
    int64_t n = 0;
    for (int64_t r = 0; r < d->rows; r++) n += d->counted[r];
    return n;
}

void ot_dataset_order(const ot_dataset *d, bool shuffle, uint64_t seed, int64_t epoch, int64_t *order) {
    if (!shuffle) {
        for (int64_t i = 0; i < d->rows; i++) order[i] = i;
        return;
    }
    ot_rng rng;
    ot_rng_seed(&rng, ot_rng_hash(seed, (uint64_t)epoch));
    ot_rng_permutation(&rng, order, d->rows);
}
