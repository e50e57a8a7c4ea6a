/* safetensors files. Everything a header says is checked before a tensor is handed out: the reader trusts no length, offset
 * or shape. Views point into the map; nothing is copied but names. */
#include "format/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "format/json.h"

enum { LENGTH_BYTES = 8, HEADER_ALIGN = 8, SHOWN_NAME = 120 };
/* The official library's own limit. */
static const int64_t MAX_HEADER = 100000000;
static const char METADATA[] = "__metadata__";

typedef struct by_name {
    const char *name;
    int64_t index;
} by_name;

struct ot_safetensors {
    ot_map map;
    ot_arena arena; /* path and names */
    const char *path;
    json_t *metadata;
    ot_tensor *tensors; /* in the order of their data */
    by_name *names;     /* sorted: a hostile file cannot make a search slow, as it could with a hash */
    int64_t count;
};

/* Names come from the file: cut long ones and keep control characters away from the reader's terminal. */
static const char *shown(const char *name, char text[SHOWN_NAME]) {
    size_t i = 0;
    for (; name[i] != '\0' && i + 4 < SHOWN_NAME; i++) {
        unsigned char c = (unsigned char)name[i];
        text[i] = (char)(c < 0x20 || c == 0x7F ? '?' : c);
    }
    snprintf(text + i, SHOWN_NAME - i, "%s", name[i] != '\0' ? "..." : "");
    return text;
}

/* Elements and bytes of a shape; false when a dimension is negative or a product overflows. A zero dimension wins over an
 * overflow beside it only if no partial product overflows: so does the official reader. */
static bool sizes(ot_dtype dtype, const int64_t *shape, int32_t n_dims, int64_t *bytes) {
    int64_t elements = 1;
    for (int32_t i = 0; i < n_dims; i++) {
        if (shape[i] < 0 || !ot_mul_i64(elements, shape[i], &elements)) return false;
    }
    return ot_dtype_bytes(dtype, elements, bytes);
}

/* ==== Reading ==== */

typedef struct entry {
    ot_tensor tensor;
    int64_t begin, end;
    int64_t order; /* in the header: keeps the sort stable for tensors without data */
} entry;

/* One parse under way, so that every check can name the file and the tensor. */
typedef struct reader {
    const char *path;
    ot_arena *arena;
    const uint8_t *data;
    int64_t data_size;
    ot_error *err;
} reader;

static ot_status read_dtype(const reader *r, const char *name, const json_t *value, ot_dtype *out) {
    /* Types that the format knows and this program has no arithmetic for. */
    static const char *const foreign[] = {"F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "F6_E2M3", "F6_E3M2", "U16", "U32", "U64", "C64", NULL};
    char text[SHOWN_NAME], dtype[SHOWN_NAME];
    if (!json_is_string(value)) {
        return ot_fail(r->err, OT_ERR_FORMAT, "%s: tensor %s has no \"dtype\" string in the header", r->path, shown(name, text));
    }
    const char *s = json_string_value(value);
    if (strlen(s) == json_string_length(value) && ot_dtype_from_safetensors(s, out)) return OT_OK;
    for (int i = 0; foreign[i] != NULL; i++) {
        if (strcmp(s, foreign[i]) != 0) continue;
        return ot_fail(r->err, OT_ERR_UNSUPPORTED, "%s: tensor %s has dtype %s, which is not supported; convert it to F32, BF16 or F16",
                       r->path, shown(name, text), foreign[i]);
    }
    return ot_fail(r->err, OT_ERR_FORMAT, "%s: tensor %s has the unknown dtype \"%s\"", r->path, shown(name, text), shown(s, dtype));
}

static ot_status read_shape(const reader *r, const char *name, const json_t *value, ot_tensor *t) {
    char text[SHOWN_NAME];
    if (!json_is_array(value)) {
        return ot_fail(r->err, OT_ERR_FORMAT, "%s: tensor %s has no \"shape\" array in the header", r->path, shown(name, text));
    }
    size_t n = json_array_size(value);
    if (n > OT_MAX_DIMS) {
        return ot_fail(r->err, OT_ERR_UNSUPPORTED, "%s: tensor %s has %zu dimensions; at most %d are supported", r->path,
                       shown(name, text), n, OT_MAX_DIMS);
    }
    t->n_dims = (int32_t)n;
    for (size_t i = 0; i < n; i++) {
        const json_t *dim = json_array_get(value, i);
        if (!json_is_integer(dim) || json_integer_value(dim) < 0) {
            return ot_fail(r->err, OT_ERR_FORMAT, "%s: tensor %s: dimension %zu of its shape is not a whole number of at least 0",
                           r->path, shown(name, text), i);
        }
        t->shape[i] = json_integer_value(dim);
    }
    if (!sizes(t->dtype, t->shape, t->n_dims, &t->bytes)) {
        return ot_fail(r->err, OT_ERR_FORMAT, "%s: tensor %s: the product of its shape overflows 64 bits", r->path, shown(name, text));
    }
    return OT_OK;
}

static ot_status read_offsets(const reader *r, const char *name, const json_t *value, entry *e) {
    char text[SHOWN_NAME];
    const json_t *begin = json_array_get(value, 0), *end = json_array_get(value, 1);
    if (json_array_size(value) != 2 || !json_is_integer(begin) || !json_is_integer(end)) {
        return ot_fail(r->err, OT_ERR_FORMAT, "%s: tensor %s has no \"data_offsets\" of two whole numbers in the header", r->path,
                       shown(name, text));
    }
    e->begin = json_integer_value(begin);
    e->end = json_integer_value(end);
    if (e->begin < 0 || e->end < e->begin) {
        return ot_fail(r->err, OT_ERR_FORMAT, "%s: tensor %s: its data_offsets [%lld, %lld] are negative or reversed", r->path,
                       shown(name, text), (long long)e->begin, (long long)e->end);
    }
    if (e->end > r->data_size) {
        return ot_fail(r->err, OT_ERR_FORMAT,
                       "%s: tensor %s ends at byte %lld of the data, which has only %lld bytes; the file is cut short or damaged",
                       r->path, shown(name, text), (long long)e->end, (long long)r->data_size);
    }
    if (e->end - e->begin != e->tensor.bytes) {
        char shape[160];
        return ot_fail(r->err, OT_ERR_FORMAT, "%s: tensor %s: %s %s needs %lld bytes, its data_offsets hold %lld", r->path,
                       shown(name, text), ot_dtype_info(e->tensor.dtype)->name,
                       ot_shape_text(e->tensor.shape, e->tensor.n_dims, shape, sizeof shape), (long long)e->tensor.bytes,
                       (long long)(e->end - e->begin));
    }
    return OT_OK;
}

static ot_status read_entry(const reader *r, const char *name, const json_t *value, entry *e) {
    char text[SHOWN_NAME];
    if (!json_is_object(value)) {
        return ot_fail(r->err, OT_ERR_FORMAT, "%s: the header's entry for tensor %s is not an object", r->path, shown(name, text));
    }
    e->tensor.name = ot_arena_strdup(r->arena, name, r->err);
    if (e->tensor.name == NULL) return OT_ERR_MEMORY;
    OT_TRY(read_dtype(r, name, json_object_get(value, "dtype"), &e->tensor.dtype));
    OT_TRY(read_shape(r, name, json_object_get(value, "shape"), &e->tensor));
    OT_TRY(read_offsets(r, name, json_object_get(value, "data_offsets"), e));
    if (e->tensor.bytes > 0) e->tensor.data = r->data + e->begin;
    return OT_OK;
}

static int by_offset(const void *a, const void *b) {
    const entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end) return x->end < y->end ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

static int by_name_order(const void *a, const void *b) {
    const by_name *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* The data area must be covered once: a byte that no tensor owns could smuggle something along, one with two owners is damage. */
static ot_status check_cover(const reader *r, const entry *entries, int64_t count) {
    char text[SHOWN_NAME], before[SHOWN_NAME];
    int64_t at = 0;
    for (int64_t i = 0; i < count; i++) {
        const entry *e = &entries[i];
        const char *name = shown(e->tensor.name, text);
        if (e->begin < at) {
            return ot_fail(r->err, OT_ERR_FORMAT, "%s: the data of tensor %s, from byte %lld, overlaps tensor %s, which ends at %lld",
                           r->path, name, (long long)e->begin, shown(entries[i - 1].tensor.name, before), (long long)at);
        }
        if (e->begin > at) {
            return ot_fail(r->err, OT_ERR_FORMAT, "%s: bytes %lld to %lld of the data, before tensor %s, belong to no tensor", r->path,
                           (long long)at, (long long)e->begin, name);
        }
        at = e->end;
    }
    if (at != r->data_size) {
        return ot_fail(r->err, OT_ERR_FORMAT, "%s: the file has %lld bytes after its last tensor, which ends at byte %lld of the data",
                       r->path, (long long)(r->data_size - at), (long long)at);
    }
    return OT_OK;
}

static ot_status read_metadata(const reader *r, json_t *value, ot_safetensors *st) {
    if (json_is_null(value)) return OT_OK;
    if (!json_is_object(value)) return ot_fail(r->err, OT_ERR_FORMAT, "%s: __metadata__ is not an object", r->path);
    const char *key = NULL;
    json_t *item = NULL;
    json_object_foreach(value, key, item) {
        char text[SHOWN_NAME];
        if (!json_is_string(item)) {
            return ot_fail(r->err, OT_ERR_FORMAT, "%s: __metadata__ key %s is not a string", r->path, shown(key, text));
        }
    }
    st->metadata = json_incref(value);
    return OT_OK;
}

/* Fills st from the parsed header. */
static ot_status read_tensors(const reader *r, json_t *header, entry *entries, ot_safetensors *st) {
    const char *name = NULL;
    json_t *value = NULL;
    int64_t n = 0;
    json_object_foreach(header, name, value) {
        if (strcmp(name, METADATA) == 0) {
            OT_TRY(read_metadata(r, value, st));
        } else {
            entries[n].order = n;
            OT_TRY(read_entry(r, name, value, &entries[n]));
            n++;
        }
    }
    if (n > 1) qsort(entries, (size_t)n, sizeof *entries, by_offset);
    OT_TRY(check_cover(r, entries, n));
    OT_TRY(ot_calloc(n, sizeof *st->tensors, "a list of tensors", (void **)&st->tensors, r->err));
    OT_TRY(ot_calloc(n, sizeof *st->names, "a list of tensor names", (void **)&st->names, r->err));
    for (int64_t i = 0; i < n; i++) {
        st->tensors[i] = entries[i].tensor;
        st->names[i] = (by_name){.name = entries[i].tensor.name, .index = i};
    }
    if (n > 1) qsort(st->names, (size_t)n, sizeof *st->names, by_name_order);
    st->count = n;
    return OT_OK;
}

static ot_status parse_header(const ot_map *map, const char *path, int64_t *header_size, json_t **header, ot_error *err) {
    if (map->size < LENGTH_BYTES) {
        return ot_fail_at(err, OT_ERR_FORMAT, map->size, "%s has %lld bytes; a safetensors file begins with 8 bytes of header length",
                          path, (long long)map->size);
    }
    uint64_t length = 0;
    for (int i = 0; i < LENGTH_BYTES; i++) length |= (uint64_t)map->data[i] << (8 * i);
    if (length > (uint64_t)MAX_HEADER) {
        return ot_fail_at(err, OT_ERR_FORMAT, 0, "%s: its header would be %llu bytes long, more than the 100 MB allowed; is it a safetensors file?",
                          path, (unsigned long long)length);
    }
    if ((int64_t)length > map->size - LENGTH_BYTES) {
        return ot_fail_at(err, OT_ERR_FORMAT, 0, "%s: its header would end at byte %lld, but the file has only %lld bytes; it is cut short",
                          path, (long long)length + LENGTH_BYTES, (long long)map->size);
    }
    const char *text = (const char *)map->data + LENGTH_BYTES;
    if (length == 0 || text[0] != '{') {
        return ot_fail_at(err, OT_ERR_FORMAT, LENGTH_BYTES, "%s: byte 8 must be the { of the header; is it a safetensors file?", path);
    }
    ot_status status = ot_json_parse(text, (int64_t)length, "header", header, err);
    if (status != OT_OK) {
        if (err != NULL && err->position >= 0) err->position += LENGTH_BYTES;
        ot_error_prefix(err, "%s", path);
        return status;
    }
    *header_size = (int64_t)length;
    return OT_OK;
}

static ot_status load(ot_safetensors *st, ot_error *err) {
    int64_t header_size = 0;
    json_t *header = NULL;
    OT_TRY(parse_header(&st->map, st->path, &header_size, &header, err));
    reader r = {.path = st->path, .arena = &st->arena, .err = err};
    r.data = st->map.data + LENGTH_BYTES + header_size;
    r.data_size = st->map.size - LENGTH_BYTES - header_size;
    entry *entries = NULL;
    ot_status status = ot_calloc((int64_t)json_object_size(header), sizeof *entries, "a safetensors header", (void **)&entries, err);
    if (status == OT_OK) status = read_tensors(&r, header, entries, st);
    ot_free(entries);
    json_decref(header);
    return status;
}

ot_status ot_safetensors_open(const char *path, ot_safetensors **out, ot_error *err) {
    ot_safetensors *st = NULL;
    OT_TRY(ot_calloc(1, sizeof *st, "a safetensors file", (void **)&st, err));
    st->path = ot_arena_strdup(&st->arena, path, err);
    ot_status status = st->path == NULL ? OT_ERR_MEMORY : ot_map_open(path, &st->map, err);
    if (status == OT_OK) status = load(st, err);
    if (status != OT_OK) {
        ot_safetensors_close(st);
        return status;
    }
    *out = st;
    return OT_OK;
}

void ot_safetensors_close(ot_safetensors *st) {
    if (st == NULL) return;
    ot_map_close(&st->map);
    json_decref(st->metadata);
    ot_free(st->tensors);
    ot_free(st->names);
    ot_arena_free(&st->arena);
    ot_free(st);
}

int64_t ot_safetensors_count(const ot_safetensors *st) { return st->count; }

const ot_tensor *ot_safetensors_at(const ot_safetensors *st, int64_t index) {
    return index >= 0 && index < st->count ? &st->tensors[index] : NULL;
}

const ot_tensor *ot_safetensors_find(const ot_safetensors *st, const char *name) {
    if (st->count == 0) return NULL;
    by_name key = {.name = name};
    const by_name *found = bsearch(&key, st->names, (size_t)st->count, sizeof key, by_name_order);
    return found == NULL ? NULL : &st->tensors[found->index];
}

const char *ot_safetensors_metadata(const ot_safetensors *st, const char *key) {
    return json_string_value(json_object_get(st->metadata, key));
}

const char *ot_safetensors_path(const ot_safetensors *st) { return st->path; }

/* ==== Writing ==== */

struct ot_safetensors_writer {
    ot_writer *file;
    ot_arena arena;
    const char *path;
    const char **names;
    int64_t *ends; /* of each tensor in the data area */
    int64_t count, total, written;
};

static ot_status header_metadata(const char *path, const char *const *metadata, json_t *header, ot_error *err) {
    json_t *items = json_object();
    if (json_object_set_new(header, METADATA, items) != 0) return ot_fail_memory(err, 0, "a safetensors header");
    for (int i = 0; metadata != NULL && metadata[i] != NULL; i += 2) {
        char text[SHOWN_NAME];
        if (metadata[i + 1] == NULL || json_object_get(items, metadata[i]) != NULL) {
            return ot_fail(err, OT_ERR_USAGE, "%s: metadata key %s is given twice or without a value", path, shown(metadata[i], text));
        }
        if (json_object_set_new(items, metadata[i], json_string(metadata[i + 1])) != 0) {
            return ot_fail(err, OT_ERR_USAGE, "%s: metadata key %s or its value is not valid UTF-8", path, shown(metadata[i], text));
        }
    }
    if (json_object_get(items, "format") == NULL && json_object_set_new(items, "format", json_string("pt")) != 0) {
        return ot_fail_memory(err, 0, "a safetensors header");
    }
    return OT_OK;
}

/* The header's entry for t, whose data begin at *offset; *offset moves to their end. */
static ot_status header_entry(const char *path, const ot_tensor *t, int64_t *offset, json_t *header, ot_error *err) {
    char text[SHOWN_NAME];
    const char *name = shown(t->name, text);
    const char *dtype = ot_dtype_info(t->dtype)->safetensors_name;
    int64_t bytes = 0, end = 0;
    if (strcmp(t->name, METADATA) == 0 || json_object_get(header, t->name) != NULL) {
        return ot_fail(err, OT_ERR_USAGE, "%s: two tensors would have the name %s", path, name);
    }
    if (dtype == NULL) {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: tensor %s is %s, which safetensors cannot hold; convert it first", path, name,
                       ot_dtype_info(t->dtype)->name);
    }
    if (t->n_dims < 0 || t->n_dims > OT_MAX_DIMS || !sizes(t->dtype, t->shape, t->n_dims, &bytes) || bytes != t->bytes ||
        !ot_add_i64(*offset, bytes, &end)) {
        return ot_fail(err, OT_ERR_USAGE, "%s: tensor %s: its %lld bytes do not match its shape and dtype", path, name,
                       (long long)t->bytes);
    }
    json_t *shape = json_array();
    for (int32_t i = 0; i < t->n_dims; i++) {
        /* A failed append leaves the array short, which the check below finds. */
        json_array_append_new(shape, json_integer(t->shape[i]));
    }
    if (json_array_size(shape) != (size_t)t->n_dims) {
        json_decref(shape);
        return ot_fail_memory(err, 0, "a safetensors header");
    }
    json_t *entry_value = json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype, "shape", shape, "data_offsets", (json_int_t)*offset,
                                    (json_int_t)end);
    if (entry_value == NULL) return ot_fail_memory(err, 0, "a safetensors header");
    if (json_object_set_new(header, t->name, entry_value) != 0) {
        return ot_fail(err, OT_ERR_USAGE, "%s: the tensor name %s is not valid UTF-8", path, name);
    }
    *offset = end;
    return OT_OK;
}

static ot_status put_header(ot_writer *file, const char *path, const json_t *header, ot_error *err) {
    char *text = json_dumps(header, JSON_COMPACT);
    if (text == NULL) return ot_fail_memory(err, 0, "a safetensors header");
    int64_t length = (int64_t)strlen(text), padded = ot_round_up(length, HEADER_ALIGN);
    ot_status status = OT_OK;
    if (padded > MAX_HEADER) {
        status = ot_fail(err, OT_ERR_UNSUPPORTED, "%s: its header would be %lld bytes long, more than the 100 MB allowed", path,
                         (long long)padded);
    }
    uint8_t size[LENGTH_BYTES];
    for (int i = 0; i < LENGTH_BYTES; i++) size[i] = (uint8_t)((uint64_t)padded >> (8 * i));
    if (status == OT_OK) status = ot_writer_put(file, size, sizeof size, err);
    if (status == OT_OK) status = ot_writer_put(file, text, length, err);
    if (status == OT_OK) status = ot_writer_put(file, "        ", padded - length, err);
    free(text);
    return status;
}

static ot_status writer_start(ot_safetensors_writer *w, const ot_tensor *tensors, const char *const *metadata, json_t *header,
                              ot_error *err) {
    OT_TRY(header_metadata(w->path, metadata, header, err));
    OT_TRY(ot_calloc(w->count, sizeof *w->names, "a list of tensor names", (void **)&w->names, err));
    OT_TRY(ot_calloc(w->count, sizeof *w->ends, "a list of tensors", (void **)&w->ends, err));
    for (int64_t i = 0; i < w->count; i++) {
        OT_TRY(header_entry(w->path, &tensors[i], &w->total, header, err));
        w->ends[i] = w->total;
        w->names[i] = ot_arena_strdup(&w->arena, tensors[i].name, err);
        if (w->names[i] == NULL) return OT_ERR_MEMORY;
    }
    /* The file comes last: a refused declaration creates nothing. */
    OT_TRY(ot_writer_open(w->path, &w->file, err));
    return put_header(w->file, w->path, header, err);
}

ot_status ot_safetensors_writer_open(const char *path, const ot_tensor *tensors, int64_t count, const char *const *metadata,
                                     ot_safetensors_writer **out, ot_error *err) {
    ot_safetensors_writer *w = NULL;
    OT_TRY(ot_calloc(1, sizeof *w, "a safetensors writer", (void **)&w, err));
    w->count = count;
    w->path = ot_arena_strdup(&w->arena, path, err);
    json_t *header = json_object();
    ot_status status = OT_OK;
    if (w->path == NULL) {
        status = OT_ERR_MEMORY;
    } else if (header == NULL) {
        status = ot_fail_memory(err, 0, "a safetensors header");
    } else {
        status = writer_start(w, tensors, metadata, header, err);
    }
    json_decref(header);
    if (status != OT_OK) {
        ot_safetensors_writer_abort(w);
        return status;
    }
    *out = w;
    return OT_OK;
}

ot_status ot_safetensors_writer_put(ot_safetensors_writer *w, const void *data, int64_t bytes, ot_error *err) {
    if (bytes < 0 || bytes > w->total - w->written) {
        return ot_fail(err, OT_ERR_USAGE, "%s: %lld more bytes do not fit: its tensors have %lld, of which %lld are written", w->path,
                       (long long)bytes, (long long)w->total, (long long)w->written);
    }
    OT_TRY(ot_writer_put(w->file, data, bytes, err));
    w->written += bytes;
    return OT_OK;
}

static void writer_free(ot_safetensors_writer *w) {
    ot_free(w->names);
    ot_free(w->ends);
    ot_arena_free(&w->arena);
    ot_free(w);
}

ot_status ot_safetensors_writer_commit(ot_safetensors_writer *w, ot_error *err) {
    if (w->written != w->total) {
        int64_t i = 0;
        while (w->ends[i] <= w->written) i++;
        char text[SHOWN_NAME];
        return ot_fail(err, OT_ERR_USAGE, "%s: tensor %s is incomplete: %lld of %lld bytes of data are written", w->path,
                       shown(w->names[i], text), (long long)w->written, (long long)w->total);
    }
    OT_TRY(ot_writer_commit(w->file, err));
    writer_free(w);
    return OT_OK;
}

void ot_safetensors_writer_abort(ot_safetensors_writer *w) {
    if (w == NULL) return;
    ot_writer_abort(w->file);
    writer_free(w);
}

ot_status ot_safetensors_write(const char *path, const ot_tensor *tensors, int64_t count, const char *const *metadata, ot_error *err) {
    ot_safetensors_writer *w = NULL;
    OT_TRY(ot_safetensors_writer_open(path, tensors, count, metadata, &w, err));
    ot_status status = OT_OK;
    for (int64_t i = 0; i < count && status == OT_OK; i++) {
        status = ot_safetensors_writer_put(w, tensors[i].data, tensors[i].bytes, err);
    }
    if (status == OT_OK) status = ot_safetensors_writer_commit(w, err);
    if (status != OT_OK) ot_safetensors_writer_abort(w);
    return status;
}
