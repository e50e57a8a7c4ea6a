#include "format/input.h"

#include <stdio.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/mem.h"

enum { PIECE = 1 << 20 };

typedef struct sink {
    char *data;
    int64_t size, room, limit;
    const char *where;
} sink;

static ot_status make_room(sink *s, ot_error *err) {
    if (s->size > s->limit) {
        return ot_fail(err, OT_ERR_REFUSED, "%s unpacks to more than the %lld bytes that are allowed: cut it into several files", s->where,
                       (long long)s->limit);
    }
    return ot_grow((void **)&s->data, &s->room, s->size + PIECE, 1, "an unpacked file", err);
}

/* ==== gzip: one member or several. ==== */

static ot_status gunzip(z_stream *z, const uint8_t *data, int64_t size, sink *s, ot_error *err) {
    int64_t at = 0;
    bool ended = false;
    while (at < size) {
        if (ended && inflateReset(z) != Z_OK) return ot_fail(err, OT_ERR_LIBRARY, "%s: the gzip reader cannot go on", s->where);
        OT_TRY(make_room(s, err));
        int64_t given = size - at < PIECE ? size - at : PIECE;
        z->next_in = (z_const Bytef *)(uintptr_t)(data + at);
        z->avail_in = (uInt)given;
        z->next_out = (Bytef *)(s->data + s->size);
        z->avail_out = PIECE;
        int result = inflate(z, Z_NO_FLUSH);
        s->size += PIECE - (int64_t)z->avail_out;
        at += given - (int64_t)z->avail_in;
        ended = result == Z_STREAM_END;
        if (result == Z_MEM_ERROR) return ot_fail_memory(err, PIECE, "unpacking");
        if (!ended && result != Z_OK && result != Z_BUF_ERROR) {
            return ot_fail_at(err, OT_ERR_FORMAT, at, "%s: damaged gzip data near byte %lld: %s", s->where, (long long)at,
                              z->msg != NULL ? z->msg : "not a valid stream");
        }
    }
    return ended ? OT_OK : ot_fail_at(err, OT_ERR_FORMAT, size, "%s: the gzip data end early, at byte %lld: the file was cut off", s->where, (long long)size);
}

static ot_status unpack_gzip(const uint8_t *data, int64_t size, sink *s, ot_error *err) {
    enum { GZIP_ONLY = 16 };
    z_stream z = {0};
    if (inflateInit2(&z, MAX_WBITS + GZIP_ONLY) != Z_OK) return ot_fail_memory(err, PIECE, "unpacking");
    ot_status status = gunzip(&z, data, size, s, err);
    inflateEnd(&z);
    return status;
}

/* ==== Zstandard: one frame or several. ==== */

static ot_status unpack_zstd(const uint8_t *data, int64_t size, sink *s, ot_error *err) {
    ZSTD_DCtx *context = ZSTD_createDCtx();
    if (context == NULL) return ot_fail_memory(err, PIECE, "unpacking");
    ZSTD_inBuffer in = {.src = data, .size = (size_t)size};
    ot_status status = OT_OK;
    size_t left = 1;
    bool full = true;
    while (status == OT_OK && (in.pos < in.size || (full && left != 0))) {
        status = make_room(s, err);
        if (status != OT_OK) break;
        ZSTD_outBuffer out = {.dst = s->data + s->size, .size = PIECE};
        left = ZSTD_decompressStream(context, &out, &in);
        s->size += (int64_t)out.pos;
        full = out.pos == out.size;
        if (ZSTD_isError(left)) {
            status = ot_fail_at(err, OT_ERR_FORMAT, (int64_t)in.pos, "%s: damaged zstd data near byte %lld: %s", s->where, (long long)in.pos,
                                ZSTD_getErrorName(left));
        }
    }
    if (status == OT_OK && left != 0) {
        status = ot_fail_at(err, OT_ERR_FORMAT, size, "%s: the zstd data end early, at byte %lld: the file was cut off", s->where, (long long)size);
    }
    ZSTD_freeDCtx(context);
    return status;
}

/* ==== Recognising. ==== */

typedef struct packing {
    const char *name, *ending;
    uint8_t magic[4];
    int magic_size;
    ot_status (*unpack)(const uint8_t *data, int64_t size, sink *s, ot_error *err);
} packing;

static const packing packings[] = {
    {"gzip", ".gz", {0x1F, 0x8B, 0x08}, 3, unpack_gzip},
    {"zstd", ".zst", {0x28, 0xB5, 0x2F, 0xFD}, 4, unpack_zstd},
};

ot_status ot_input_from(const void *data, int64_t size, const char *where, int64_t limit, ot_input *out, ot_error *err) {
    *out = (ot_input){.data = data, .size = size};
    for (size_t i = 0; i < sizeof packings / sizeof *packings; i++) {
        const packing *p = &packings[i];
        if (size < p->magic_size || memcmp(data, p->magic, (size_t)p->magic_size) != 0) continue;
        sink s = {.limit = limit, .where = where};
        ot_status status = p->unpack(data, size, &s, err);
        if (status != OT_OK) {
            ot_free(s.data);
            *out = (ot_input){0};
            return status;
        }
        *out = (ot_input){.data = s.size > 0 ? s.data : NULL, .size = s.size, .packing = p->name, .unpacked = s.data};
        return OT_OK;
    }
    return OT_OK;
}

ot_status ot_input_check_cut(const char *path, const void *data, int64_t size, ot_error *err) {
    for (size_t i = 0; i < sizeof packings / sizeof *packings; i++) {
        const packing *p = &packings[i];
        if (size <= 0 || size >= p->magic_size || !ot_path_ends(path, p->ending) || memcmp(data, p->magic, (size_t)size) != 0) continue;
        return ot_fail_at(err, OT_ERR_FORMAT, size, "%s: the %s data end early, at byte %lld: the file was cut off", path, p->name, (long long)size);
    }
    return OT_OK;
}

ot_status ot_input_open(const char *path, int64_t limit, ot_input *out, ot_error *err) {
    ot_map map = {0};
    OT_TRY(ot_map_open(path, &map, err));
    ot_status status = ot_input_check_cut(path, map.data, map.size, err);
    if (status == OT_OK) status = ot_input_from(map.data, map.size, path, limit, out, err);
    if (status != OT_OK || out->packing != NULL) {
        ot_map_close(&map);
    } else {
        out->map = map;
    }
    return status;
}

void ot_input_close(ot_input *s) {
    ot_map_close(&s->map);
    ot_free(s->unpacked);
    *s = (ot_input){0};
}

void ot_input_name(const char *path, char *out, size_t size) {
    size_t length = strlen(path);
    for (size_t i = 0; i < sizeof packings / sizeof *packings; i++) {
        if (!ot_path_ends(path, packings[i].ending)) continue;
        length -= strlen(packings[i].ending);
        break;
    }
    snprintf(out, size, "%.*s", (int)(length < size ? length : size - 1), path);
}
