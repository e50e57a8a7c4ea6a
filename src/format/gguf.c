/* Owns reading GGUF: one pass over the metadata with a bounded cursor that validates everything, then getters over what it
 * found. Values stay in the mapped file; only names and string values are copied, and arrays of strings get a table of
 * positions, so that a vocabulary of 100,000 entries opens in milliseconds. Everything allocated is bounded by a small multiple
 * of the file's own size. Names are kept sorted for lookups: no crafted set of names can make them slow. */
#include "format/gguf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

enum value_type {
    TYPE_U8,
    TYPE_I8,
    TYPE_U16,
    TYPE_I16,
    TYPE_U32,
    TYPE_I32,
    TYPE_F32,
    TYPE_BOOL,
    TYPE_STRING,
    TYPE_ARRAY,
    TYPE_U64,
    TYPE_I64,
    TYPE_F64,
    TYPE_COUNT
};
/* 0: the size is written in the file */
static const uint8_t type_bytes[TYPE_COUNT] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

enum {
    DEFAULT_ALIGNMENT = 32,
    GGUF_MAX_DIMS = 4,
    MAX_NAME_BYTES = 65535, /* the format's own limit for keys */
    MAX_ARRAY_DEPTH = 4,
    /* Fewest bytes that a key-value pair and a tensor entry take: counts above (bytes left / these) are lies. */
    MIN_VALUE_BYTES = 8 + 1 + 4 + 1,
    MIN_TENSOR_BYTES = 8 + 1 + 4 + 4 + 8,
    SHOWN_NAME = 80
};

typedef struct gguf_value {
    const char *key;
    uint32_t type, item_type; /* item_type: of arrays */
    int64_t at;               /* position of the value, of an array's first item */
    int64_t begin, end;       /* of the value with what precedes an array's items */
    int64_t count;            /* of arrays */
    int64_t *starts;          /* of arrays of strings: position of each item's length */
    const char *text;         /* of strings */
    int64_t text_length;
} gguf_value;

typedef struct name_entry {
    const char *name;
    int64_t index;
} name_entry;

struct ot_gguf {
    char *path;
    ot_map map;
    ot_arena names;
    int64_t value_count, tensor_count;
    gguf_value *values;
    ot_tensor *tensors;
    name_entry *value_names, *tensor_names; /* sorted bytewise */
};

/* ==== Cursor: every read is checked; the first error is kept and makes all later reads return nothing. ==== */

typedef struct cursor {
    ot_gguf *file;
    int64_t pos;
    ot_status status;
    ot_error *err;
} cursor;

static void fail_at(cursor *c, ot_status code, int64_t position, const char *format, ...) __attribute__((format(printf, 4, 5)));
static void fail_at(cursor *c, ot_status code, int64_t position, const char *format, ...) {
    if (c->status != OT_OK) return;
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const char *advice = code == OT_ERR_FORMAT ? "; the file is damaged or incomplete: fetch or convert it again" : "";
    c->status = ot_fail_at(c->err, code, position, "%s: byte %lld: %s%s", c->file->path, (long long)position, text, advice);
}

static int64_t bytes_left(const cursor *c) { return c->file->map.size - c->pos; }

/* n bytes at the cursor, which moves on; NULL after an error. */
static const uint8_t *take(cursor *c, int64_t n, const char *what) {
    if (c->status != OT_OK) return NULL;
    if (n > bytes_left(c)) {
        fail_at(c, OT_ERR_FORMAT, c->pos, "%s takes %lld bytes and only %lld are left", what, (long long)n,
                (long long)bytes_left(c));
        return NULL;
    }
    const uint8_t *p = c->file->map.data + c->pos;
    c->pos += n;
    return p;
}

static uint32_t take_u32(cursor *c, const char *what) {
    uint32_t v = 0;
    const uint8_t *p = take(c, sizeof v, what);
    if (p != NULL) memcpy(&v, p, sizeof v);
    return v;
}

/* An unsigned 64-bit number that must fit a signed one; 0 after an error. */
static int64_t take_size(cursor *c, const char *what) {
    uint64_t v = 0;
    int64_t at = c->pos;
    const uint8_t *p = take(c, sizeof v, what);
    if (p != NULL) memcpy(&v, p, sizeof v);
    if (v > INT64_MAX) {
        fail_at(c, OT_ERR_FORMAT, at, "%s is %llu, which no file can hold", what, (unsigned long long)v);
        return 0;
    }
    return (int64_t)v;
}

/* A length and as many bytes. */
static const char *take_string(cursor *c, const char *what, int64_t *length) {
    int64_t at = c->pos, n = take_size(c, what);
    if (c->status == OT_OK && n > bytes_left(c)) {
        fail_at(c, OT_ERR_FORMAT, at, "%s is said to be %lld bytes long and only %lld are left", what, (long long)n,
                (long long)bytes_left(c));
    }
    *length = c->status == OT_OK ? n : 0;
    return (const char *)take(c, *length, what);
}

/* A name for a message: cut, and without bytes that a terminal would obey. */
static const char *shown(const char *name, char text[SHOWN_NAME]) {
    size_t n = strnlen(name, SHOWN_NAME - 1);
    for (size_t i = 0; i < n; i++) text[i] = (unsigned char)name[i] < 0x20 || name[i] == 0x7F ? '?' : name[i];
    text[n] = '\0';
    return text;
}

static char *copy_text(cursor *c, const char *text, int64_t length) {
    ot_error local;
    char *copy = ot_arena_strndup(&c->file->names, text, (size_t)length, c->err != NULL ? c->err : &local);
    if (copy == NULL) c->status = OT_ERR_MEMORY;
    return copy;
}

/* A key or tensor name: not empty, bounded, without NUL; copied. */
static const char *take_name(cursor *c, const char *what) {
    int64_t at = c->pos, length = 0;
    const char *text = take_string(c, what, &length);
    if (c->status != OT_OK) return NULL;
    if (length == 0) fail_at(c, OT_ERR_FORMAT, at, "%s is empty", what);
    if (length > MAX_NAME_BYTES) {
        fail_at(c, OT_ERR_FORMAT, at, "%s is %lld bytes long, more than the %d allowed", what, (long long)length, MAX_NAME_BYTES);
    }
    if (c->status != OT_OK) return NULL;
    if (memchr(text, '\0', (size_t)length) != NULL) fail_at(c, OT_ERR_FORMAT, at, "%s contains a NUL byte", what);
    return c->status == OT_OK ? copy_text(c, text, length) : NULL;
}

/* ==== Values. ==== */

static void check_bools(cursor *c, const uint8_t *p, int64_t n, const char *what) {
    for (int64_t i = 0; p != NULL && i < n; i++) {
        if (p[i] > 1) {
            fail_at(c, OT_ERR_FORMAT, c->pos - n + i, "%s holds a truth value of %d, neither 0 nor 1", what, p[i]);
            return;
        }
    }
}

/* The items of an array up to its end. v is NULL for arrays inside arrays, which are checked but not kept. */
static void take_array(cursor *c, const char *what, int depth, gguf_value *v) {
    int64_t type_at = c->pos;
    uint32_t item_type = take_u32(c, what);
    int64_t count_at = c->pos, count = take_size(c, what);
    if (c->status != OT_OK) return;
    if (item_type >= TYPE_COUNT) {
        fail_at(c, OT_ERR_FORMAT, type_at, "%s has items of the unknown type %u", what, item_type);
        return;
    }
    /* The smallest item: a string is a length, an array a type and a count. */
    int64_t item_bytes = type_bytes[item_type] ? type_bytes[item_type] : item_type == TYPE_STRING ? 8 : 12;
    if (count > bytes_left(c) / item_bytes) {
        fail_at(c, OT_ERR_FORMAT, count_at, "%s has %lld items, more than the rest of the file can hold", what, (long long)count);
        return;
    }
    if (v != NULL) {
        v->item_type = item_type;
        v->count = count;
        v->at = c->pos;
    }
    if (item_type == TYPE_STRING) {
        void *starts = NULL;
        if (v != NULL) {
            c->status = ot_malloc(count, sizeof *v->starts, what, &starts, c->err);
            v->starts = starts;
        }
        for (int64_t i = 0; i < count && c->status == OT_OK; i++) {
            int64_t length = 0;
            if (v != NULL) v->starts[i] = c->pos;
            take_string(c, what, &length);
        }
    } else if (item_type == TYPE_ARRAY) {
        if (depth >= MAX_ARRAY_DEPTH) {
            fail_at(c, OT_ERR_FORMAT, type_at, "%s nests arrays deeper than %d levels", what, MAX_ARRAY_DEPTH);
            return;
        }
        for (int64_t i = 0; i < count && c->status == OT_OK; i++) take_array(c, what, depth + 1, NULL);
    } else {
        const uint8_t *p = take(c, count * item_bytes, what);
        if (item_type == TYPE_BOOL) check_bools(c, p, count, what);
    }
}

static void take_value(cursor *c, int64_t index, gguf_value *v) {
    char what[SHOWN_NAME + 64], name[SHOWN_NAME];
    snprintf(what, sizeof what, "the key of pair %lld", (long long)index);
    v->key = take_name(c, what);
    if (c->status != OT_OK) return;
    snprintf(what, sizeof what, "the value of key \"%s\"", shown(v->key, name));
    int64_t type_at = c->pos;
    v->type = take_u32(c, what);
    v->at = v->begin = c->pos;
    if (c->status != OT_OK) return;
    if (v->type >= TYPE_COUNT) {
        fail_at(c, OT_ERR_FORMAT, type_at, "%s is of the unknown type %u", what, v->type);
    } else if (v->type == TYPE_STRING) {
        const char *text = take_string(c, what, &v->text_length);
        if (c->status == OT_OK) v->text = copy_text(c, text, v->text_length);
    } else if (v->type == TYPE_ARRAY) {
        take_array(c, what, 1, v);
    } else {
        const uint8_t *p = take(c, type_bytes[v->type], what);
        if (v->type == TYPE_BOOL) check_bools(c, p, 1, what);
    }
    v->end = c->pos;
}

/* ==== Lookup by name. ==== */

static int compare_names(const void *a, const void *b) {
    return strcmp(((const name_entry *)a)->name, ((const name_entry *)b)->name);
}

/* Sort the names and refuse one that occurs twice. */
static void sort_names(cursor *c, name_entry *entries, int64_t count, int64_t position, const char *kind) {
    if (c->status != OT_OK || count == 0) return;
    qsort(entries, (size_t)count, sizeof *entries, compare_names);
    for (int64_t i = 1; i < count; i++) {
        if (strcmp(entries[i - 1].name, entries[i].name) == 0) {
            char name[SHOWN_NAME];
            fail_at(c, OT_ERR_FORMAT, position, "%s \"%s\" occurs twice", kind, shown(entries[i].name, name));
            return;
        }
    }
}

static int64_t find_name(const name_entry *entries, int64_t count, const char *name) {
    if (count == 0) return -1;
    name_entry wanted = {name, -1};
    const name_entry *found = bsearch(&wanted, entries, (size_t)count, sizeof *entries, compare_names);
    return found != NULL ? found->index : -1;
}

static const gguf_value *find_value(const ot_gguf *g, const char *key) {
    int64_t i = find_name(g->value_names, g->value_count, key);
    return i >= 0 ? &g->values[i] : NULL;
}

/* ==== Tensors. ==== */

/* One entry of the tensor table; *offset is relative to the data section. */
static void take_tensor(cursor *c, int64_t index, ot_tensor *t, int64_t *offset) {
    char what[SHOWN_NAME + 64], name[SHOWN_NAME];
    snprintf(what, sizeof what, "the name of tensor %lld", (long long)index);
    t->name = take_name(c, what);
    if (c->status != OT_OK) return;
    shown(t->name, name);
    snprintf(what, sizeof what, "the entry of tensor \"%s\"", name);
    int64_t at = c->pos;
    uint32_t n_dims = take_u32(c, what);
    if (n_dims > GGUF_MAX_DIMS) {
        fail_at(c, OT_ERR_FORMAT, at, "tensor \"%s\" has %u dimensions, more than %d", name, n_dims, GGUF_MAX_DIMS);
        return;
    }
    t->n_dims = (int32_t)n_dims;
    int64_t elements = 1;
    for (uint32_t i = 0; i < n_dims; i++) {
        at = c->pos;
        int64_t extent = take_size(c, what);
        if (c->status != OT_OK) return;
        if (extent == 0) fail_at(c, OT_ERR_FORMAT, at, "dimension %u of tensor \"%s\" is 0", i, name);
        if (!ot_mul_i64(elements, extent, &elements)) {
            fail_at(c, OT_ERR_FORMAT, at, "the dimensions of tensor \"%s\" overflow", name);
        }
        t->shape[n_dims - 1 - i] = extent; /* fastest first in the file */
    }
    at = c->pos;
    uint32_t type = take_u32(c, what);
    if (c->status != OT_OK) return;
    if (!ot_dtype_from_gguf(type, &t->dtype)) {
        fail_at(c, OT_ERR_UNSUPPORTED, at,
                "tensor \"%s\" is of type %u; only F32, F64, F16, BF16, plain integers, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and "
                "Q2_K to Q6_K are supported: convert the file to one of these",
                name, type);
        return;
    }
    const ot_dtype_traits *traits = ot_dtype_info(t->dtype);
    int64_t row = n_dims ? t->shape[n_dims - 1] : 1;
    if (row % traits->block_elements != 0) {
        fail_at(c, OT_ERR_FORMAT, at, "rows of tensor \"%s\" have %lld elements, no multiple of the %d of a %s block", name,
                (long long)row, traits->block_elements, traits->name);
    } else if (!ot_dtype_bytes(t->dtype, elements, &t->bytes)) {
        fail_at(c, OT_ERR_FORMAT, at, "the size of tensor \"%s\" overflows", name);
    }
    *offset = take_size(c, what);
}

typedef struct extent {
    int64_t start, end, index;
} extent;

static int compare_extents(const void *a, const void *b) {
    const extent *x = a, *y = b;
    return x->start < y->start ? -1 : x->start > y->start;
}

/* Place the tensors in the data section that begins at data_start: offsets aligned, inside the file, not overlapping. */
static void place_tensors(cursor *c, ot_gguf *g, extent *extents, int64_t alignment, int64_t data_start) {
    char name[SHOWN_NAME], other[SHOWN_NAME];
    int64_t room = g->map.size - data_start;
    for (int64_t i = 0; i < g->tensor_count && c->status == OT_OK; i++) {
        ot_tensor *t = &g->tensors[i];
        int64_t offset = extents[i].start;
        shown(t->name, name);
        if (offset % alignment != 0) {
            fail_at(c, OT_ERR_FORMAT, c->pos, "the data of tensor \"%s\" begin at offset %lld, no multiple of the alignment %lld",
                    name, (long long)offset, (long long)alignment);
        } else if (room < 0 || offset > room || t->bytes > room - offset) {
            fail_at(c, OT_ERR_FORMAT, g->map.size, "tensor \"%s\" needs %lld bytes at offset %lld of the data, which have %lld",
                    name, (long long)t->bytes, (long long)offset, (long long)(room > 0 ? room : 0));
        } else {
            extents[i].end = offset + t->bytes;
            t->data = g->map.data + data_start + offset;
        }
    }
    if (c->status != OT_OK || g->tensor_count == 0) return;
    qsort(extents, (size_t)g->tensor_count, sizeof *extents, compare_extents);
    for (int64_t i = 1; i < g->tensor_count; i++) {
        if (extents[i].start < extents[i - 1].end) {
            fail_at(c, OT_ERR_FORMAT, data_start + extents[i].start, "the data of tensors \"%s\" and \"%s\" overlap",
                    shown(g->tensors[extents[i - 1].index].name, name), shown(g->tensors[extents[i].index].name, other));
            return;
        }
    }
}

/* ==== The file. ==== */

static void take_header(cursor *c, int64_t *tensor_count, int64_t *value_count) {
    const uint8_t *magic = take(c, 4, "the magic number");
    if (magic != NULL && memcmp(magic, "GGUF", 4) != 0) {
        c->status = ot_fail_at(c->err, OT_ERR_FORMAT, 0, "%s: byte 0: this is no GGUF file: it does not begin with \"GGUF\"",
                               c->file->path);
    }
    uint32_t version = take_u32(c, "the version");
    if (version != 2 && version != 3) {
        bool swapped = version != 0 && (version & 0xFFFFU) == 0;
        fail_at(c, OT_ERR_UNSUPPORTED, 4, "GGUF version %u%s is not supported: convert the file to little-endian version 3",
                version, swapped ? " (a big-endian file)" : "");
    }
    *tensor_count = take_size(c, "the tensor count");
    *value_count = take_size(c, "the key-value count");
    if (c->status != OT_OK) return;
    if (*tensor_count > bytes_left(c) / MIN_TENSOR_BYTES) {
        fail_at(c, OT_ERR_FORMAT, 8, "the tensor count %lld is more than the file can hold", (long long)*tensor_count);
    }
    if (*value_count > bytes_left(c) / MIN_VALUE_BYTES) {
        fail_at(c, OT_ERR_FORMAT, 16, "the key-value count %lld is more than the file can hold", (long long)*value_count);
    }
}

static void allocate(cursor *c, int64_t count, int64_t size, const char *what, void **out) {
    if (c->status == OT_OK) c->status = ot_calloc(count, size, what, out, c->err);
}

static int64_t take_alignment(cursor *c, const ot_gguf *g) {
    int64_t alignment = DEFAULT_ALIGNMENT;
    const gguf_value *v = find_value(g, "general.alignment");
    if (v == NULL) return alignment;
    if (!ot_gguf_i64(g, v->key, &alignment)) {
        fail_at(c, OT_ERR_FORMAT, v->at, "the value of key \"general.alignment\" is no integer");
        return DEFAULT_ALIGNMENT;
    }
    if (alignment > 0 && alignment <= INT32_MAX && (alignment & (alignment - 1)) == 0) return alignment;
    fail_at(c, OT_ERR_FORMAT, v->at, "the value of key \"general.alignment\" is %lld, no power of two below 2^31", (long long)alignment);
    return DEFAULT_ALIGNMENT;
}

static ot_status read_file(ot_gguf *g, extent **extents, ot_error *err) {
    cursor c = {.file = g, .err = err};
    int64_t tensor_count = 0, value_count = 0;
    take_header(&c, &tensor_count, &value_count);

    allocate(&c, value_count, sizeof *g->values, "GGUF keys", (void **)&g->values);
    allocate(&c, value_count, sizeof *g->value_names, "GGUF keys", (void **)&g->value_names);
    for (int64_t i = 0; i < value_count && c.status == OT_OK; i++) {
        take_value(&c, i, &g->values[i]);
        g->value_count = i + 1;
        g->value_names[i] = (name_entry){g->values[i].key, i};
    }
    sort_names(&c, g->value_names, value_count, c.pos, "key");
    if (c.status != OT_OK) return c.status;
    int64_t alignment = take_alignment(&c, g);

    allocate(&c, tensor_count, sizeof *g->tensors, "GGUF tensors", (void **)&g->tensors);
    allocate(&c, tensor_count, sizeof *g->tensor_names, "GGUF tensors", (void **)&g->tensor_names);
    allocate(&c, tensor_count, sizeof **extents, "GGUF tensors", (void **)extents);
    for (int64_t i = 0; i < tensor_count && c.status == OT_OK; i++) {
        (*extents)[i].index = i;
        take_tensor(&c, i, &g->tensors[i], &(*extents)[i].start);
        g->tensor_names[i] = (name_entry){g->tensors[i].name, i};
    }
    sort_names(&c, g->tensor_names, tensor_count, c.pos, "tensor");
    if (c.status != OT_OK) return c.status;
    g->tensor_count = tensor_count;
    place_tensors(&c, g, *extents, alignment, ot_round_up(c.pos, alignment));
    return c.status;
}

ot_status ot_gguf_open(const char *path, ot_gguf **out, ot_error *err) {
    void *memory = NULL;
    OT_TRY(ot_calloc(1, sizeof(ot_gguf), "a GGUF reader", &memory, err));
    ot_gguf *g = memory;
    g->path = ot_arena_strdup(&g->names, path, err);
    extent *extents = NULL;
    ot_status status = g->path != NULL ? ot_map_open(path, &g->map, err) : OT_ERR_MEMORY;
    if (status == OT_OK) status = read_file(g, &extents, err);
    ot_free(extents);
    if (status != OT_OK) {
        ot_gguf_close(g);
        return status;
    }
    *out = g;
    return OT_OK;
}

void ot_gguf_close(ot_gguf *g) {
    if (g == NULL) return;
    for (int64_t i = 0; i < g->value_count; i++) ot_free(g->values[i].starts);
    ot_free(g->values);
    ot_free(g->value_names);
    ot_free(g->tensors);
    ot_free(g->tensor_names);
    ot_map_close(&g->map);
    ot_arena_free(&g->names);
    ot_free(g);
}

const char *ot_gguf_path(const ot_gguf *g) { return g->path; }

bool ot_gguf_is(const char *path) {
    ot_map map = {0};
    if (ot_map_open(path, &map, NULL) != OT_OK) return false;
    bool is = map.size >= 4 && memcmp(map.data, "GGUF", 4) == 0;
    ot_map_close(&map);
    return is;
}

int64_t ot_gguf_tensor_count(const ot_gguf *g) { return g->tensor_count; }

const ot_tensor *ot_gguf_tensor_at(const ot_gguf *g, int64_t index) {
    return index >= 0 && index < g->tensor_count ? &g->tensors[index] : NULL;
}

const ot_tensor *ot_gguf_find(const ot_gguf *g, const char *name) {
    return ot_gguf_tensor_at(g, find_name(g->tensor_names, g->tensor_count, name));
}

/* ==== Getters. ==== */

#define READ_AS(c_type)                                                                                                \
    do {                                                                                                               \
        c_type v;                                                                                                      \
        memcpy(&v, p, sizeof v);                                                                                       \
        *out = (int64_t)v;                                                                                             \
        return true;                                                                                                   \
    } while (0)

static bool read_i64(const uint8_t *p, uint32_t type, int64_t *out) {
    uint64_t u;
    switch (type) {
    case TYPE_U8: READ_AS(uint8_t);
    case TYPE_I8: READ_AS(int8_t);
    case TYPE_U16: READ_AS(uint16_t);
    case TYPE_I16: READ_AS(int16_t);
    case TYPE_U32: READ_AS(uint32_t);
    case TYPE_I32: READ_AS(int32_t);
    case TYPE_I64: READ_AS(int64_t);
    case TYPE_U64:
        memcpy(&u, p, sizeof u);
        if (u > INT64_MAX) return false;
        *out = (int64_t)u;
        return true;
    default: return false;
    }
}

static bool read_f64(const uint8_t *p, uint32_t type, double *out) {
    float f;
    if (type == TYPE_F32) {
        memcpy(&f, p, sizeof f);
        *out = (double)f;
        return true;
    }
    if (type == TYPE_F64) memcpy(out, p, sizeof *out);
    return type == TYPE_F64;
}

bool ot_gguf_i64(const ot_gguf *g, const char *key, int64_t *out) {
    const gguf_value *v = find_value(g, key);
    return v != NULL && read_i64(g->map.data + v->at, v->type, out);
}

bool ot_gguf_f64(const ot_gguf *g, const char *key, double *out) {
    const gguf_value *v = find_value(g, key);
    return v != NULL && read_f64(g->map.data + v->at, v->type, out);
}

bool ot_gguf_bool(const ot_gguf *g, const char *key, bool *out) {
    const gguf_value *v = find_value(g, key);
    if (v == NULL || v->type != TYPE_BOOL) return false;
    *out = g->map.data[v->at] != 0;
    return true;
}

const char *ot_gguf_str(const ot_gguf *g, const char *key, int64_t *length) {
    const gguf_value *v = find_value(g, key);
    if (v == NULL || v->type != TYPE_STRING) return NULL;
    if (length != NULL) *length = v->text_length;
    return v->text;
}

const char *ot_gguf_adapter(const ot_gguf *g) { return ot_gguf_str(g, "adapter.type", NULL); }

int64_t ot_gguf_array_count(const ot_gguf *g, const char *key) {
    const gguf_value *v = find_value(g, key);
    return v != NULL && v->type == TYPE_ARRAY ? v->count : -1;
}

static const gguf_value *find_item(const ot_gguf *g, const char *key, int64_t index) {
    const gguf_value *v = find_value(g, key);
    return v != NULL && v->type == TYPE_ARRAY && index >= 0 && index < v->count ? v : NULL;
}

const char *ot_gguf_array_str(const ot_gguf *g, const char *key, int64_t index, int64_t *length) {
    const gguf_value *v = find_item(g, key, index);
    if (v == NULL || v->item_type != TYPE_STRING) return NULL;
    const uint8_t *p = g->map.data + v->starts[index];
    if (length != NULL) memcpy(length, p, sizeof *length);
    return (const char *)p + sizeof *length;
}

bool ot_gguf_array_i64(const ot_gguf *g, const char *key, int64_t index, int64_t *out) {
    const gguf_value *v = find_item(g, key, index);
    return v != NULL && read_i64(g->map.data + v->at + index * type_bytes[v->item_type], v->item_type, out);
}

bool ot_gguf_array_f64(const ot_gguf *g, const char *key, int64_t index, double *out) {
    const gguf_value *v = find_item(g, key, index);
    return v != NULL && read_f64(g->map.data + v->at + index * type_bytes[v->item_type], v->item_type, out);
}

bool ot_gguf_pair(const ot_gguf *g, int64_t index, const char **key, uint32_t *type, const void **value, int64_t *size) {
    if (index < 0 || index >= g->value_count) return false;
    const gguf_value *v = &g->values[index];
    *key = v->key;
    *type = v->type;
    *value = g->map.data + v->begin;
    *size = v->end - v->begin;
    return true;
}
