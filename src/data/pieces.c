#include "data/pieces.h"

#include <string.h>

#include "base/mem.h"
#include "format/unicode.h"

enum {
    CONTEXT = 256, /* bytes on either side that show whether tokens reach over a cut */
    TRIES = 24,
    LONGEST_LINE = 65 << 20, /* beyond what a reader of rows accepts: it says so itself */
    GUESSED_FROM = 4 << 20,
};

struct ot_pieces {
    ot_input_stream *input;
    const ot_tokenizer *tokenizer;
    int64_t size;
    char *held; /* [filled] from the beginning of the next piece on */
    int64_t filled, room, offset, given; /* given: bytes of the piece that went out last */
    bool ended; /* the file, behind what is held */
    int64_t bytes;
};

/* ==== Where to cut. ==== */

static bool is_middle(char c) { return ((unsigned char)c & 0xC0) == 0x80; }

static ot_status same_tokens(const ot_pieces *p, int64_t cut, bool *same, ot_error *err) {
    int64_t from = cut > CONTEXT ? cut - CONTEXT : 0, end = p->filled - cut > CONTEXT ? cut + CONTEXT : p->filled;
    while (from < cut && is_middle(p->held[from])) from++;
    while (end < p->filled && end > cut && is_middle(p->held[end])) end--;
    int32_t *ids[3] = {NULL, NULL, NULL};
    int64_t n[3] = {0}, starts[3] = {from, from, cut}, ends[3] = {end, cut, end};
    ot_status status = OT_OK;
    for (int i = 0; i < 3 && status == OT_OK; i++) {
        status = ot_tokenizer_encode(p->tokenizer, p->held + starts[i], (size_t)(ends[i] - starts[i]), false, &ids[i], &n[i], err);
    }
    *same = status == OT_OK && n[0] == n[1] + n[2] && memcmp(ids[0], ids[1], (size_t)n[1] * sizeof **ids) == 0 &&
            memcmp(ids[0] + n[1], ids[2], (size_t)n[2] * sizeof **ids) == 0;
    for (int i = 0; i < 3; i++) ot_free(ids[i]);
    return status;
}

/* Of `size` bytes that more follow. */
static ot_status find_cut(const ot_pieces *p, int64_t size, int64_t *cut, ot_error *err) {
    int64_t last = 0;
    int tries = 0;
    *cut = 0;
    for (int64_t at = size - 1; at > size / 2 && tries < TRIES; at--) {
        if (p->held[at - 1] != '\n') continue;
        bool same = false;
        if (last == 0) last = at;
        OT_TRY(same_tokens(p, at, &same, err));
        tries++;
        if (!same) continue;
        *cut = at;
        return OT_OK;
    }
    *cut = last > 0 ? last : size;
    while (last == 0 && *cut > 1 && is_middle(p->held[*cut])) --*cut;
    return OT_OK;
}

/* ==== Reading. ==== */

static ot_status fill(ot_pieces *p, int64_t wanted, ot_error *err) {
    if (p->ended || p->filled >= wanted) return OT_OK;
    int64_t got = 0;
    OT_TRY(ot_grow((void **)&p->held, &p->room, wanted, 1, "a piece of text", err));
    OT_TRY(ot_input_stream_read(p->input, p->held + p->filled, wanted - p->filled, &got, err));
    p->ended = got < wanted - p->filled;
    p->filled += got;
    return OT_OK;
}

/* What follows the piece is looked at too: the context of its end. */
static ot_status next_of_text(ot_pieces *p, ot_error *err) {
    OT_TRY(fill(p, p->size + CONTEXT, err));
    if (p->filled <= p->size) {
        p->given = p->filled; /* the rest */
        return OT_OK;
    }
    return find_cut(p, p->size, &p->given, err);
}

static ot_status next_of_lines(ot_pieces *p, ot_error *err) {
    for (int64_t wanted = p->size, seen = 0;; wanted *= 2) {
        OT_TRY(fill(p, wanted, err));
        const char *feed = p->filled > seen ? memrchr(p->held + seen, '\n', (size_t)(p->filled - seen)) : NULL;
        seen = p->filled;
        bool all = p->ended || (feed == NULL && wanted > LONGEST_LINE);
        p->given = all ? p->filled : feed != NULL ? feed + 1 - p->held : 0;
        if (all || p->given > 0) return OT_OK;
    }
}

ot_status ot_pieces_next(ot_pieces *p, ot_piece *out, ot_error *err) {
    p->offset += p->given;
    p->filled -= p->given;
    if (p->filled > 0) memmove(p->held, p->held + p->given, (size_t)p->filled);
    p->given = 0;
    OT_TRY(p->tokenizer != NULL ? next_of_text(p, err) : next_of_lines(p, err));
    *out = (ot_piece){.data = p->held, .size = p->given, .offset = p->offset};
    return OT_OK;
}

ot_status ot_pieces_seek(ot_pieces *p, int64_t offset, ot_error *err) {
    p->filled = p->given = 0;
    p->offset = offset;
    p->ended = false;
    return ot_input_stream_seek(p->input, offset, err);
}

/* ==== Opening. ==== */

/* As well as the first bytes pack, the others will. */
static ot_status guess_bytes(ot_pieces *p, ot_error *err) {
    p->bytes = ot_input_stream_file_bytes(p->input);
    if (ot_input_stream_packing(p->input) == NULL) return OT_OK;
    int64_t unpacked = 0, got = 1;
    OT_TRY(fill(p, p->size, err));
    for (unpacked = p->filled; got > 0 && unpacked < GUESSED_FROM; unpacked += got) OT_TRY(ot_input_stream_read(p->input, p->held, p->filled, &got, err));
    int64_t packed = ot_input_stream_taken(p->input);
    if (packed > 0) p->bytes = (int64_t)((double)p->bytes * (double)unpacked / (double)packed);
    return ot_pieces_seek(p, 0, err);
}

ot_status ot_pieces_open(const char *path, int64_t size, const ot_tokenizer *tokenizer, ot_pieces **out, ot_error *err) {
    ot_pieces *p = NULL;
    OT_TRY(ot_calloc(1, (int64_t)sizeof *p, "a text", (void **)&p, err));
    p->size = size;
    p->tokenizer = tokenizer;
    ot_status status = ot_input_stream_open(path, &p->input, err);
    if (status == OT_OK) status = guess_bytes(p, err);
    if (status != OT_OK) {
        ot_pieces_close(p);
        return status;
    }
    *out = p;
    return OT_OK;
}

void ot_pieces_close(ot_pieces *p) {
    if (p == NULL) return;
    ot_input_stream_close(p->input);
    ot_free(p->held);
    ot_free(p);
}

const ot_input_stream *ot_pieces_input(const ot_pieces *p) { return p->input; }
int64_t ot_pieces_bytes(const ot_pieces *p) { return p->bytes; }
