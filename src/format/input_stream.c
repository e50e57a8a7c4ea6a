#include "format/input_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "base/mem.h"
#include "format/input.h"

enum { RAW = 1 << 16, MAGIC = 4 };

/* How one packing goes on: from `raw` on, into to[size]; *got bytes came. *ended: a member or frame is complete here. */
typedef struct unpacker {
    const char *name;
    uint8_t magic[MAGIC];
    size_t magic_size;
    ot_status (*begin)(ot_input_stream *s, ot_error *err);
    ot_status (*go_on)(ot_input_stream *s, char *to, int64_t size, int64_t *got, ot_error *err);
    void (*end)(ot_input_stream *s);
} unpacker;

struct ot_input_stream {
    ot_arena arena;
    const char *path;
    int fd;
    int64_t file_bytes;
    int64_t at;                 /* bytes given out since the beginning, after unpacking */
    int64_t raw_at;             /* bytes of the file that were read */
    const unpacker *unpacker;   /* NULL: not packed */
    uint8_t *raw;               /* [RAW] packed bytes, of which those before raw_used are done with */
    int64_t raw_size, raw_used;
    bool ended;                 /* between members or frames: the file may end here */
    z_stream gzip;
    ZSTD_DCtx *zstd;
};

static ot_status read_some(ot_input_stream *s, void *to, int64_t size, int64_t *got, ot_error *err) {
    ssize_t n;
    do n = pread(s->fd, to, (size_t)size, s->raw_at);
    while (n < 0 && errno == EINTR);
    if (n < 0) return ot_fail_errno(err, errno, "cannot read %s", s->path);
    s->raw_at += n;
    *got = n;
    return OT_OK;
}

/* ==== Packings. ==== */

static ot_status begin_gzip(ot_input_stream *s, ot_error *err) {
    enum { GZIP_ONLY = 16 };
    s->gzip = (z_stream){0};
    return inflateInit2(&s->gzip, MAX_WBITS + GZIP_ONLY) == Z_OK ? OT_OK : ot_fail_memory(err, RAW, "unpacking");
}

static void end_gzip(ot_input_stream *s) { inflateEnd(&s->gzip); }

static int64_t packed_place(const ot_input_stream *s) { return s->raw_at - s->raw_size + s->raw_used; }

static ot_status go_on_gzip(ot_input_stream *s, char *to, int64_t size, int64_t *got, ot_error *err) {
    z_stream *z = &s->gzip;
    if (s->ended && inflateReset(z) != Z_OK) return ot_fail(err, OT_ERR_LIBRARY, "%s: the gzip reader cannot go on", s->path);
    z->next_in = s->raw + s->raw_used;
    z->avail_in = (uInt)(s->raw_size - s->raw_used);
    z->next_out = (Bytef *)to;
    z->avail_out = (uInt)size;
    int result = inflate(z, Z_NO_FLUSH);
    s->raw_used = s->raw_size - (int64_t)z->avail_in;
    *got = size - (int64_t)z->avail_out;
    s->ended = result == Z_STREAM_END;
    if (result == Z_MEM_ERROR) return ot_fail_memory(err, RAW, "unpacking");
    if (s->ended || result == Z_OK || result == Z_BUF_ERROR) return OT_OK;
    int64_t place = packed_place(s);
    return ot_fail_at(err, OT_ERR_FORMAT, place, "%s: damaged gzip data near byte %lld: %s", s->path, (long long)place, z->msg != NULL ? z->msg : "not a valid stream");
}

static ot_status begin_zstd(ot_input_stream *s, ot_error *err) {
    s->zstd = ZSTD_createDCtx();
    return s->zstd != NULL ? OT_OK : ot_fail_memory(err, RAW, "unpacking");
}

static void end_zstd(ot_input_stream *s) {
    ZSTD_freeDCtx(s->zstd);
    s->zstd = NULL;
}

static ot_status go_on_zstd(ot_input_stream *s, char *to, int64_t size, int64_t *got, ot_error *err) {
    ZSTD_inBuffer in = {.src = s->raw, .size = (size_t)s->raw_size, .pos = (size_t)s->raw_used};
    ZSTD_outBuffer out = {.dst = to, .size = (size_t)size};
    size_t left = ZSTD_decompressStream(s->zstd, &out, &in);
    s->raw_used = (int64_t)in.pos;
    *got = (int64_t)out.pos;
    s->ended = left == 0;
    if (!ZSTD_isError(left)) return OT_OK;
    int64_t place = packed_place(s);
    return ot_fail_at(err, OT_ERR_FORMAT, place, "%s: damaged zstd data near byte %lld: %s", s->path, (long long)place, ZSTD_getErrorName(left));
}

static const unpacker unpackers[] = {
    {"gzip", {0x1F, 0x8B, 0x08}, 3, begin_gzip, go_on_gzip, end_gzip},
    {"zstd", {0x28, 0xB5, 0x2F, 0xFD}, 4, begin_zstd, go_on_zstd, end_zstd},
};

/* ==== The stream. ==== */

/* From the first byte. */
static ot_status begin(ot_input_stream *s, ot_error *err) {
    if (s->unpacker != NULL) s->unpacker->end(s);
    s->unpacker = NULL;
    s->at = s->raw_at = s->raw_size = s->raw_used = 0;
    s->ended = false;
    uint8_t magic[MAGIC];
    int64_t n = 0;
    OT_TRY(read_some(s, magic, sizeof magic, &n, err));
    s->raw_at = 0;
    OT_TRY(ot_input_check_cut(s->path, magic, n, err));
    for (size_t i = 0; i < sizeof unpackers / sizeof *unpackers; i++) {
        const unpacker *u = &unpackers[i];
        if ((size_t)n < u->magic_size || memcmp(magic, u->magic, u->magic_size) != 0) continue;
        if (s->raw == NULL) OT_TRY(ot_malloc(RAW, 1, "packed bytes", (void **)&s->raw, err));
        OT_TRY(u->begin(s, err));
        s->unpacker = u;
        break;
    }
    return OT_OK;
}

ot_status ot_input_stream_open(const char *path, ot_input_stream **out, ot_error *err) {
    ot_input_stream *s = NULL;
    struct stat st;
    OT_TRY(ot_calloc(1, (int64_t)sizeof *s, "a file", (void **)&s, err));
    s->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ot_status status = s->fd < 0 ? ot_fail_errno(err, errno, "cannot open %s", path) : OT_OK;
    if (status == OT_OK && fstat(s->fd, &st) != 0) status = ot_fail_errno(err, errno, "cannot read the size of %s", path);
    if (status == OT_OK && !S_ISREG(st.st_mode)) status = ot_fail(err, OT_ERR_IO, "%s is not a regular file", path);
    if (status == OT_OK) {
        s->file_bytes = st.st_size;
        s->path = ot_arena_strdup(&s->arena, path, err);
        status = s->path != NULL ? begin(s, err) : OT_ERR_MEMORY;
    }
    if (status != OT_OK) {
        ot_input_stream_close(s);
        return status;
    }
    *out = s;
    return OT_OK;
}

void ot_input_stream_close(ot_input_stream *s) {
    if (s == NULL) return;
    if (s->unpacker != NULL) s->unpacker->end(s);
    if (s->fd >= 0) close(s->fd);
    ot_free(s->raw);
    ot_arena_free(&s->arena);
    ot_free(s);
}

static ot_status unpack(ot_input_stream *s, char *to, int64_t size, int64_t *got, ot_error *err) {
    *got = 0;
    while (*got < size) {
        int64_t n = 0;
        bool fresh = false;
        if (s->raw_used == s->raw_size) {
            OT_TRY(read_some(s, s->raw, RAW, &n, err));
            s->raw_size = n;
            s->raw_used = 0;
            fresh = n == 0;
        }
        if (fresh && s->ended) break;
        OT_TRY(s->unpacker->go_on(s, to + *got, size - *got, &n, err));
        *got += n;
        if (fresh && n == 0 && !s->ended) {
            return ot_fail_at(err, OT_ERR_FORMAT, s->raw_at, "%s: the %s data end early, at byte %lld: the file was cut off", s->path, s->unpacker->name,
                              (long long)s->raw_at);
        }
    }
    s->at += *got;
    return OT_OK;
}

ot_status ot_input_stream_read(ot_input_stream *s, char *to, int64_t size, int64_t *got, ot_error *err) {
    if (s->unpacker != NULL) return unpack(s, to, size, got, err);
    *got = 0;
    for (int64_t n = 1; n > 0 && *got < size; *got += n) OT_TRY(read_some(s, to + *got, size - *got, &n, err));
    s->at += *got;
    return OT_OK;
}

ot_status ot_input_stream_seek(ot_input_stream *s, int64_t at, ot_error *err) {
    if (s->unpacker == NULL) {
        s->at = s->raw_at = at;
        return at <= s->file_bytes ? OT_OK : ot_fail(err, OT_ERR_REFUSED, "%s has fewer than %lld bytes: it is not the file that it was", s->path, (long long)at);
    }
    if (at < s->at) OT_TRY(begin(s, err));
    char skipped[4096];
    while (s->at < at) {
        int64_t wanted = at - s->at < (int64_t)sizeof skipped ? at - s->at : (int64_t)sizeof skipped, got = 0;
        OT_TRY(unpack(s, skipped, wanted, &got, err));
        if (got < wanted) return ot_fail(err, OT_ERR_REFUSED, "%s unpacks to fewer than %lld bytes: it is not the file that it was", s->path, (long long)at);
    }
    return OT_OK;
}

const char *ot_input_stream_packing(const ot_input_stream *s) { return s->unpacker != NULL ? s->unpacker->name : NULL; }
int64_t ot_input_stream_file_bytes(const ot_input_stream *s) { return s->file_bytes; }
int64_t ot_input_stream_taken(const ot_input_stream *s) { return packed_place(s); }
