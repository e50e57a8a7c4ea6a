/* Files of ids, of text and of examples as rows. */
#include <string.h>

#include "base/count.h"
#include "base/file.h"
#include "base/mem.h"
#include "format/safetensors.h"
#include "format/unicode.h"
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

/* The label of the first column; of padding it is nobody's to predict. Only soft prompts ask for it: a wrong one is the first id that is none, which
 * the network refuses when it is asked. */
static int32_t first_of(const id_file *f, int64_t r, int32_t id, bool real) {
    int64_t label = f->labels != NULL ? at(f->labels, r * f->ids->shape[1]) : id;
    if (!real || label == IGNORED_LABEL) return -1;
    return (int32_t)(label >= 0 && label < f->vocab ? label : f->vocab);
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
        if (status == OT_OK) status = ot_dataset_append(b, ids, first_of(f, r, ids[0], mask[0] != 0), targets, f->mask != NULL ? mask : NULL, length, err);
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

typedef struct opening {
    const ot_data_options *o;
    ot_data_reader *reader; /* opened when the first file needs a tokenizer */
    ot_dataset_builder b;
} opening;

static int64_t rows_left(const opening *g) { return g->o->limit > 0 ? g->o->limit - g->b.d.rows : INT64_MAX; }

static ot_status cut(opening *g, const char *path, const int32_t *all, int64_t count, ot_error *err) {
    int64_t block = g->o->block, rows = count / block;
    g->b.d.text_tokens += count;
    if (rows == 0) {
        return ot_fail(err, OT_ERR_REFUSED, "%s has %lld token%s, fewer than one block of %lld: use a smaller --block or more text", path,
                       (long long)count, OT_PLURAL(count), (long long)block);
    }
    if (rows > rows_left(g)) rows = rows_left(g);
    int32_t *targets = NULL;
    OT_TRY(ot_malloc(block, 4, "targets", (void **)&targets, err));
    ot_status status = OT_OK;
    for (int64_t i = 0; status == OT_OK && i < rows * block; i++) {
        if (all[i] >= g->o->vocab) {
            status = ot_fail(err, OT_ERR_FORMAT,
                             "%s: the tokenizer gave id %d, but the model's vocabulary has %lld: they do not belong together", path, all[i],
                             (long long)g->o->vocab);
        }
    }
    targets[block - 1] = -1;
    for (int64_t r = 0; status == OT_OK && r < rows; r++) {
        memcpy(targets, all + r * block + 1, (size_t)(block - 1) * 4);
        status = ot_dataset_append(&g->b, all + r * block, all[r * block], targets, NULL, block, err);
    }
    ot_free(targets);
    return status;
}

/* Bytes outside UTF-8 are learnt as they are, and told. */
static ot_status check_text(const opening *g, const ot_input *source, const char *path, ot_data_report *report, ot_error *err) {
    OT_TRY(ot_data_check_zero(source->data, source->size, path, err));
    uint32_t code = 0;
    for (int64_t at = 0, n = 0; at < source->size && report->not_utf8 == 0; at += n) {
        n = ot_utf8_next(source->data + at, source->size - at, &code);
        if (n <= 0) report->not_utf8 = at + 1;
    }
    if (report->not_utf8 == 0 || !g->o->strict) return OT_OK;
    return ot_fail_at(err, OT_ERR_FORMAT, report->not_utf8 - 1, "%s: byte %lld is not UTF-8", path, (long long)report->not_utf8 - 1);
}

static ot_status read_text(opening *g, const ot_input *source, const char *path, ot_data_report *report, ot_error *err) {
    int32_t *all = NULL;
    int64_t count = 0;
    if (source->size == 0) return ot_fail(err, OT_ERR_FORMAT, "%s is empty", path);
    OT_TRY(check_text(g, source, path, report, err));
    OT_TRY(ot_tokenizer_encode(ot_data_tokenizer(g->reader), source->data, (size_t)source->size, false, &all, &count, err));
    ot_status status = cut(g, path, all, count, err);
    ot_free(all);
    return status;
}

/* ==== Examples. ==== */

static ot_status take(void *context, const int32_t *ids, const uint8_t *learn, int64_t count, ot_error *err) {
    opening *g = context;
    int32_t *targets = NULL;
    if (rows_left(g) <= 0) return OT_OK;
    OT_TRY(ot_malloc(count, 4, "targets", (void **)&targets, err));
    for (int64_t t = 0; t < count; t++) targets[t] = t + 1 < count && learn[t + 1] ? ids[t + 1] : -1;
    ot_status status = ot_dataset_append(&g->b, ids, learn[0] ? ids[0] : -1, targets, NULL, count, err);
    ot_free(targets);
    return status;
}

/* ==== Files. ==== */

static const int64_t UNPACKED_LIMIT = (int64_t)64 << 30;

static ot_status read_source(opening *g, const ot_input *source, const char *path, ot_data_report *report, ot_error *err) {
    char name[4200];
    ot_input_name(path, name, sizeof name);
    if (g->reader == NULL) OT_TRY(ot_data_reader_open(g->o, &g->reader, err));
    if (ot_data_is_rows(source, name)) return ot_data_read_rows(g->reader, source, path, report, take, g, err);
    if (ot_path_ends(name, ".json")) {
        return ot_fail(err, OT_ERR_FORMAT, "%s holds neither JSON lines nor one list of objects: bring it into such a form, or name it .txt to have it learnt as text", path);
    }
    OT_TRY(ot_data_check_prose(name, path, err));
    report->shape = "plain text";
    report->packing = source->packing;
    return read_text(g, source, path, report, err);
}

static ot_status read_file(opening *g, const char *path, ot_data_report *report, ot_error *err) {
    const ot_dataset before = g->b.d;
    int64_t targets = ot_dataset_targets(&before);
    report->path = path;
    OT_TRY(ot_data_check_path(path, err));
    if (ot_path_ends(path, ".safetensors")) {
        report->shape = "token ids";
        OT_TRY(open_tensors(path, g->o->vocab, g->o->limit > 0 ? rows_left(g) : 0, &g->b, err));
    } else {
        ot_input source = {0};
        OT_TRY(ot_input_open(path, UNPACKED_LIMIT, &source, err));
        ot_status status = read_source(g, &source, path, report, err);
        ot_input_close(&source);
        if (status != OT_OK) return status;
    }
    report->examples = g->b.d.rows - before.rows;
    report->tokens = g->b.d.tokens - before.tokens;
    report->learnt = ot_dataset_targets(&g->b.d) - targets;
    return OT_OK;
}

ot_status ot_dataset_read(const char *const *paths, int64_t n_paths, const ot_data_options *options, ot_dataset *out, ot_data_report *reports,
                          ot_error *err) {
    opening g = {.o = options};
    ot_status status = OT_OK;
    for (int64_t i = 0; status == OT_OK && i < n_paths && rows_left(&g) > 0; i++) {
        ot_data_report unread = {0}, *report = reports != NULL ? &reports[i] : &unread;
        status = read_file(&g, paths[i], report, err);
        report->failed = status != OT_OK;
    }
    ot_data_reader_close(g.reader);
    if (status == OT_OK && g.b.d.rows == 0) {
        status = ot_fail(err, OT_ERR_REFUSED, "%s: no row has anything to learn within a block of %lld tokens: use a larger --block", paths[0],
                         (long long)options->block);
    }
    if (status == OT_OK && ot_dataset_targets(&g.b.d) == 0) {
        status = ot_fail(err, OT_ERR_REFUSED, "%s: every label is ignored (-100): there is nothing to learn or score", paths[0]);
    }
    if (status != OT_OK) {
        ot_dataset_free(&g.b.d);
        return status;
    }
    *out = g.b.d;
    return OT_OK;
}

ot_status ot_dataset_open(const char *path, const char *tokenizer_path, int64_t block, int64_t vocab, int64_t limit, ot_dataset *out,
                          ot_error *err) {
    ot_data_options options = {.tokenizer_path = tokenizer_path, .block = block, .vocab = vocab, .limit = limit};
    return ot_dataset_read(&path, 1, &options, out, NULL, err);
}
