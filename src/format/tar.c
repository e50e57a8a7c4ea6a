#include "format/tar.h"

#include <limits.h>
#include <string.h>

enum { BLOCK = 512, MAX_HEADER = 1 << 20 };

/* Fields of a header block. */
enum { NAME = 0, NAME_SIZE = 100, SIZE = 124, SIZE_SIZE = 12, CHECKSUM = 148, CHECKSUM_SIZE = 8, TYPE = 156, MAGIC = 257, PREFIX = 345, PREFIX_SIZE = 155 };

typedef struct reader {
    const uint8_t *data;
    int64_t size, at; /* at: of the header block at hand */
    const char *where;
    ot_tar *out;
    const char *next_name; /* from a pax or GNU header, for the next file; NULL: none */
    int64_t next_size;     /* the same; -1: none */
} reader;

bool ot_path_is_inside(const char *path) {
    if (path[0] == '/' || path[0] == '\0') return false;
    for (const char *p = path; p != NULL; p = strchr(p, '/')) {
        if (*p == '/') p++;
        if (p[0] == '.' && p[1] == '.' && (p[2] == '/' || p[2] == '\0')) return false;
    }
    return true;
}

static ot_status fail(const reader *r, const char *what, ot_error *err) {
    return ot_fail_at(err, OT_ERR_FORMAT, r->at, "%s: byte %lld of the tar archive: %s", r->where, (long long)r->at, what);
}

/* Octal digits with blanks around them, or GNU's big-endian number behind a first bit; -1: neither, or too large. */
static int64_t number(const uint8_t *field, int n) {
    int64_t v = 0;
    int i = 0, digits = 0;
    if ((field[0] & 0x80) != 0) {
        if (field[0] != 0x80) return -1;
        for (i = 1; i < n; i++) {
            if (v > (INT64_MAX >> 8)) return -1;
            v = v << 8 | field[i];
        }
        return v;
    }
    while (i < n && field[i] == ' ') i++;
    for (; i < n && field[i] >= '0' && field[i] <= '7'; i++, digits++) v = v * 8 + (field[i] - '0');
    for (; i < n; i++) {
        if (field[i] != ' ' && field[i] != '\0') return -1;
    }
    return digits > 0 ? v : -1;
}

static bool sum_is_right(const uint8_t *block) {
    int64_t sum = 0;
    for (int i = 0; i < BLOCK; i++) sum += i >= CHECKSUM && i < CHECKSUM + CHECKSUM_SIZE ? ' ' : block[i];
    return number(block + CHECKSUM, CHECKSUM_SIZE) == sum;
}

static bool is_blank(const uint8_t *block) {
    for (int i = 0; i < BLOCK; i++) {
        if (block[i] != 0) return false;
    }
    return true;
}

/* One "LENGTH KEY=VALUE\n" of a pax header: where it ends, or 0 when it is malformed. */
static int64_t pax_record(const uint8_t *p, int64_t size, const uint8_t **key, int64_t *key_size, const uint8_t **value, int64_t *value_size) {
    int64_t length = 0, i = 0;
    for (; i < size && p[i] >= '0' && p[i] <= '9' && length < MAX_HEADER; i++) length = length * 10 + (p[i] - '0');
    if (i == 0 || i >= size || p[i] != ' ' || length <= i + 2 || length > size || p[length - 1] != '\n') return 0;
    *key = p + i + 1;
    const uint8_t *equals = memchr(*key, '=', (size_t)(length - i - 2));
    if (equals == NULL) return 0;
    *key_size = equals - *key;
    *value = equals + 1;
    *value_size = p + length - 1 - *value;
    return length;
}

static ot_status take_name(reader *r, const uint8_t *name, int64_t n, ot_error *err) {
    if (n < 1 || n > OT_TAR_MAX_NAME) return fail(r, "a name is empty or longer than 4096 bytes", err);
    r->next_name = ot_arena_strndup(&r->out->names, (const char *)name, (size_t)n, err);
    return r->next_name != NULL ? OT_OK : OT_ERR_MEMORY;
}

static ot_status take_pax(reader *r, const uint8_t *p, int64_t size, ot_error *err) {
    while (size > 0) {
        const uint8_t *key = NULL, *value = NULL;
        int64_t key_size = 0, value_size = 0, used = pax_record(p, size, &key, &key_size, &value, &value_size);
        if (used == 0) return fail(r, "a pax header is malformed", err);
        if (key_size == 4 && memcmp(key, "path", 4) == 0) {
            if (memchr(value, '\0', (size_t)value_size) != NULL) return fail(r, "a name holds a NUL byte", err);
            OT_TRY(take_name(r, value, value_size, err));
        } else if (key_size == 4 && memcmp(key, "size", 4) == 0) {
            int64_t v = value_size > 0 && value_size < 19 ? 0 : -1;
            for (int64_t i = 0; v >= 0 && i < value_size; i++) v = value[i] >= '0' && value[i] <= '9' ? v * 10 + (value[i] - '0') : -1;
            if (v < 0) return fail(r, "a pax header's size is no number", err);
            r->next_size = v;
        } else if (key_size > 11 && memcmp(key, "GNU.sparse.", 11) == 0) {
            return fail(r, "a sparse file, which is not read", err);
        }
        p += used;
        size -= used;
    }
    return OT_OK;
}

/* "prefix/name" of a header block. */
static const char *name_of(reader *r, const uint8_t *block, ot_error *err) {
    char text[PREFIX_SIZE + 1 + NAME_SIZE + 1];
    size_t n = 0, part = strnlen((const char *)block + NAME, NAME_SIZE);
    if (memcmp(block + MAGIC, "ustar", 6) == 0 && block[PREFIX] != 0) { /* GNU's own "ustar  " has other fields there */
        n = strnlen((const char *)block + PREFIX, PREFIX_SIZE);
        memcpy(text, block + PREFIX, n);
        text[n++] = '/';
    }
    memcpy(text + n, block + NAME, part);
    return ot_arena_strndup(&r->out->names, text, n + part, err);
}

static ot_status add_file(reader *r, const char *name, int64_t size, ot_error *err) {
    ot_tar *t = r->out;
    while (name[0] == '.' && name[1] == '/') {
        for (name += 2; *name == '/';) name++;
    }
    if (!ot_path_is_inside(name)) {
        return ot_fail_at(err, OT_ERR_FORMAT, r->at, "%s: byte %lld of the tar archive: the name %s leads outside of it", r->where, (long long)r->at, name);
    }
    if (t->n_files >= OT_TAR_MAX_FILES) return fail(r, "it holds too many files", err);
    OT_TRY(ot_grow((void **)&t->files, &t->room, t->n_files + 1, sizeof *t->files, "the files of an archive", err));
    t->files[t->n_files++] = (ot_tar_file){.name = name, .at = r->at + BLOCK, .size = size};
    return OT_OK;
}

/* The entry whose header is at hand; *size: of what follows it. */
static ot_status take_entry(reader *r, const uint8_t *block, int64_t *size, ot_error *err) {
    uint8_t type = block[TYPE];
    const uint8_t *contents = block + BLOCK;
    bool header = type == 'x' || type == 'g' || type == 'L' || type == 'K', file = type == '0' || type == '\0' || type == '7';
    *size = number(block + SIZE, SIZE_SIZE);
    if (!header && r->next_size >= 0) *size = r->next_size;
    if (type == 'S') return fail(r, "a sparse file, which is not read", err);
    if (!header && !file) *size = type >= '1' && type <= '6' ? 0 : *size; /* links, devices, folders hold nothing, whatever they say */
    if (*size < 0) return fail(r, "a size is no number", err);
    if (*size > r->size - r->at - BLOCK) return fail(r, "an entry reaches beyond the end: the archive is cut off", err);
    if (header && *size > MAX_HEADER) return fail(r, "a header is longer than a megabyte", err);
    if (type == 'x') return take_pax(r, contents, *size, err);
    if (type == 'L') return take_name(r, contents, (int64_t)strnlen((const char *)contents, (size_t)*size), err);
    if (header) return OT_OK; /* of all files, or the name of a link's target */
    ot_status status = OT_OK;
    if (file) {
        const char *name = r->next_name != NULL ? r->next_name : name_of(r, block, err);
        size_t n = name != NULL ? strlen(name) : 0;
        if (name == NULL) status = OT_ERR_MEMORY;
        else if (n == 0 || name[n - 1] != '/') status = add_file(r, name, *size, err); /* old folders are files whose names end so */
    } else if (type != '5') {
        r->out->n_skipped++;
    }
    r->next_name = NULL;
    r->next_size = -1;
    return status;
}

static ot_status read_all(reader *r, ot_error *err) {
    if (r->size >= 2 && r->data[0] == 0x1F && r->data[1] == 0x8B) return fail(r, "it is packed by gzip: unpack it first", err);
    while (r->at < r->size) {
        const uint8_t *block = r->data + r->at;
        int64_t size = 0;
        if (r->size - r->at < BLOCK) return fail(r, "a header block is cut off", err);
        if (is_blank(block)) break;
        if (!sum_is_right(block)) return fail(r, r->at == 0 ? "no tar header begins here: is it a tar archive?" : "a header's checksum is wrong", err);
        OT_TRY(take_entry(r, block, &size, err));
        r->at += BLOCK + ot_round_up(size, BLOCK);
    }
    /* At the final blocks; or cut between two entries, or written by a program that leaves the final blocks out: nothing tells which. */
    return r->out->n_files > 0 ? OT_OK : fail(r, "there are no files in it", err);
}

ot_status ot_tar_read(const uint8_t *data, int64_t size, const char *where, ot_tar *out, ot_error *err) {
    reader r = {.data = data, .size = size, .where = where, .out = out, .next_size = -1};
    ot_status status = read_all(&r, err);
    if (status != OT_OK) ot_tar_free(out);
    return status;
}

void ot_tar_free(ot_tar *t) {
    ot_free(t->files);
    ot_arena_free(&t->names);
    *t = (ot_tar){0};
}
