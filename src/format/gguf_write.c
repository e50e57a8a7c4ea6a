#include "format/gguf_write.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

enum { VERSION = 3, ALIGNMENT = 32 };
/* The value types that are written. */
enum { TYPE_U32 = 4, TYPE_I32 = 5, TYPE_F32 = 6, TYPE_BOOL = 7, TYPE_STRING = 8, TYPE_ARRAY = 9, TYPE_F64 = 12 };

typedef struct bytes {
    char *data;
    int64_t size, capacity;
} bytes;

struct ot_gguf_writer {
    char *path;
    bytes pairs, table;
    int64_t n_pairs, n_tensors;
    int64_t *sizes; /* bytes of each tensor */
    int64_t sizes_capacity;
    int64_t offset; /* of the next tensor's data */
    int64_t put;    /* tensors written */
    ot_writer *file;
    ot_status status; /* first failure of a pair */
    ot_error failure;
};

static ot_status append(bytes *b, const void *data, int64_t size, ot_error *err) {
    OT_TRY(ot_grow((void **)&b->data, &b->capacity, b->size + size, 1, "a GGUF header", err));
    if (size > 0) memcpy(b->data + b->size, data, (size_t)size);
    b->size += size;
    return OT_OK;
}

static ot_status append_text(bytes *b, const char *text, int64_t size, ot_error *err) {
    uint64_t length = (uint64_t)size;
    OT_TRY(append(b, &length, sizeof length, err));
    return append(b, text, size, err);
}

static void add(ot_gguf_writer *w, const void *data, int64_t size) {
    if (w->status == OT_OK) w->status = append(&w->pairs, data, size, &w->failure);
}

static void add_text(ot_gguf_writer *w, const char *text, int64_t size) {
    if (w->status == OT_OK) w->status = append_text(&w->pairs, text, size, &w->failure);
}

static void add_key(ot_gguf_writer *w, const char *key, uint32_t type) {
    add_text(w, key, (int64_t)strlen(key));
    add(w, &type, sizeof type);
    w->n_pairs++;
}

static void add_array(ot_gguf_writer *w, const char *key, uint32_t item_type, int64_t count) {
    uint64_t n = (uint64_t)count;
    add_key(w, key, TYPE_ARRAY);
    add(w, &item_type, sizeof item_type);
    add(w, &n, sizeof n);
}

ot_status ot_gguf_writer_new(const char *path, ot_gguf_writer **out, ot_error *err) {
    ot_gguf_writer *w = calloc(1, sizeof *w);
    if (w == NULL) return ot_fail_memory(err, sizeof *w, "a GGUF writer");
    w->path = strdup(path);
    if (w->path == NULL) {
        free(w);
        return ot_fail_memory(err, strlen(path), "a path");
    }
    *out = w;
    return OT_OK;
}

static void release(ot_gguf_writer *w) {
    ot_free(w->pairs.data);
    ot_free(w->table.data);
    ot_free(w->sizes);
    free(w->path);
    free(w);
}

void ot_gguf_writer_abort(ot_gguf_writer *w) {
    if (w == NULL) return;
    ot_writer_abort(w->file);
    release(w);
}

/* ==== Pairs. ==== */

void ot_gguf_put_u32(ot_gguf_writer *w, const char *key, uint32_t value) {
    add_key(w, key, TYPE_U32);
    add(w, &value, sizeof value);
}

void ot_gguf_put_f32(ot_gguf_writer *w, const char *key, double value) {
    float v = (float)value;
    add_key(w, key, TYPE_F32);
    add(w, &v, sizeof v);
}

void ot_gguf_put_f64(ot_gguf_writer *w, const char *key, double value) {
    add_key(w, key, TYPE_F64);
    add(w, &value, sizeof value);
}

void ot_gguf_put_bool(ot_gguf_writer *w, const char *key, bool value) {
    uint8_t v = value;
    add_key(w, key, TYPE_BOOL);
    add(w, &v, sizeof v);
}

void ot_gguf_put_text(ot_gguf_writer *w, const char *key, const char *text, int64_t size) {
    add_key(w, key, TYPE_STRING);
    add_text(w, text, size);
}

void ot_gguf_put_str(ot_gguf_writer *w, const char *key, const char *text) { ot_gguf_put_text(w, key, text, (int64_t)strlen(text)); }

void ot_gguf_put_strings(ot_gguf_writer *w, const char *key, int64_t count) { add_array(w, key, TYPE_STRING, count); }

void ot_gguf_put_item(ot_gguf_writer *w, const char *text, int64_t size) { add_text(w, text, size); }

void ot_gguf_put_i32s(ot_gguf_writer *w, const char *key, const int32_t *values, int64_t count) {
    add_array(w, key, TYPE_I32, count);
    add(w, values, count * (int64_t)sizeof *values);
}

void ot_gguf_put_f32s(ot_gguf_writer *w, const char *key, const float *values, int64_t count) {
    add_array(w, key, TYPE_F32, count);
    add(w, values, count * (int64_t)sizeof *values);
}

void ot_gguf_copy_pairs(ot_gguf_writer *w, const ot_gguf *from, const char *prefix) {
    const char *key;
    const void *value;
    uint32_t type;
    int64_t size;
    for (int64_t i = 0; ot_gguf_pair(from, i, &key, &type, &value, &size); i++) {
        if (strncmp(key, prefix, strlen(prefix)) != 0) continue;
        add_key(w, key, type);
        add(w, value, size);
    }
}

/* ==== Tensors. ==== */

ot_status ot_gguf_declare(ot_gguf_writer *w, const ot_tensor *t, ot_error *err) {
    const ot_dtype_traits *traits = ot_dtype_info(t->dtype);
    if (traits->gguf_type < 0) return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: tensor %s is %s, which no GGUF holds", w->path, t->name, traits->name);
    OT_TRY(append_text(&w->table, t->name, (int64_t)strlen(t->name), err));
    uint32_t n_dims = (uint32_t)t->n_dims, type = (uint32_t)traits->gguf_type;
    OT_TRY(append(&w->table, &n_dims, sizeof n_dims, err));
    for (int32_t d = t->n_dims; d-- > 0;) {
        uint64_t extent = (uint64_t)t->shape[d]; /* fastest first in the file */
        OT_TRY(append(&w->table, &extent, sizeof extent, err));
    }
    uint64_t offset = (uint64_t)w->offset;
    OT_TRY(append(&w->table, &type, sizeof type, err));
    OT_TRY(append(&w->table, &offset, sizeof offset, err));
    OT_TRY(ot_grow((void **)&w->sizes, &w->sizes_capacity, w->n_tensors + 1, sizeof *w->sizes, "a tensor table", err));
    w->sizes[w->n_tensors++] = t->bytes;
    w->offset += ot_round_up(t->bytes, ALIGNMENT);
    return OT_OK;
}

static ot_status pad(ot_gguf_writer *w, int64_t size, ot_error *err) {
    static const char zeros[ALIGNMENT];
    return ot_writer_put(w->file, zeros, ot_round_up(size, ALIGNMENT) - size, err);
}

ot_status ot_gguf_writer_begin(ot_gguf_writer *w, ot_error *err) {
    if (w->status != OT_OK) {
        if (err != NULL) *err = w->failure;
        return w->status;
    }
    struct {
        char magic[4];
        uint32_t version;
        uint64_t tensors, pairs;
    } head = {{'G', 'G', 'U', 'F'}, VERSION, (uint64_t)w->n_tensors, (uint64_t)w->n_pairs};
    OT_TRY(ot_writer_open(w->path, &w->file, err));
    OT_TRY(ot_writer_put(w->file, &head, sizeof head, err));
    OT_TRY(ot_writer_put(w->file, w->pairs.data, w->pairs.size, err));
    OT_TRY(ot_writer_put(w->file, w->table.data, w->table.size, err));
    return pad(w, (int64_t)sizeof head + w->pairs.size + w->table.size, err);
}

ot_status ot_gguf_writer_put(ot_gguf_writer *w, const void *data, int64_t size, ot_error *err) {
    if (w->put >= w->n_tensors || w->sizes[w->put] != size) {
        return ot_fail(err, OT_ERR_USAGE, "%s: tensor %lld was declared with another size than its %lld bytes", w->path, (long long)w->put,
                       (long long)size);
    }
    w->put++;
    OT_TRY(ot_writer_put(w->file, data, size, err));
    return pad(w, size, err);
}

ot_status ot_gguf_writer_commit(ot_gguf_writer *w, ot_error *err) {
    if (w->put != w->n_tensors) {
        return ot_fail(err, OT_ERR_USAGE, "%s: %lld of %lld declared tensors were written", w->path, (long long)w->put, (long long)w->n_tensors);
    }
    OT_TRY(ot_writer_commit(w->file, err));
    w->file = NULL;
    release(w);
    return OT_OK;
}
