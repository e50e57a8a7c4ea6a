#include "train/stream.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "data/pieces.h"

static const int64_t HELD_WHOLE = (int64_t)64 << 20, HELD_PACKED = (int64_t)16 << 20;
enum { WINDOW_TOKENS = 4 << 20, SAMPLES = 64, SAMPLE = 4096 };

struct ot_stream {
    ot_stream_options options;
    ot_data_reader *reader;
    ot_pieces *pieces; /* of the file that is being read, NULL: none yet */
    bool rows_of_json; /* it is JSON lines */
    int64_t file_bytes;
    bool packed; /* any of them */
    /* The reading, which is at the end of the window. */
    ot_stream_place next;   /* where the next window begins */
    int64_t next_bytes;     /* bytes of the epoch before it */
    int32_t *carried;       /* [n_carried] tokens of text that make no whole row yet */
    int64_t n_carried, carried_room;
    int64_t to_skip;        /* tokens of the next piece, after going to a place within it */
    int32_t *targets;       /* [targets_room] */
    int64_t targets_room;
    int64_t rows_of_file;   /* so far; since its beginning when from_its_start */
    bool from_its_start;
    /* The window. */
    ot_stream_place at;
    int64_t at_bytes;
    ot_dataset_builder window, taken; /* taken: the rows of the present step */
    bool counts_firsts;
    int64_t *order, *numbers;
    int64_t order_room, numbers_room;
    int64_t bad;
};

/* ==== What is streamed. ==== */

bool ot_stream_is_due(const char *const *paths, int64_t n_paths) {
    int64_t whole = 0, packed = 0;
    for (int64_t i = 0; i < n_paths; i++) {
        struct stat st;
        if (ot_path_ends(paths[i], ".safetensors") || stat(paths[i], &st) != 0 || !S_ISREG(st.st_mode)) return false;
        *(ot_path_ends(paths[i], ".gz") || ot_path_ends(paths[i], ".zst") ? &packed : &whole) += st.st_size;
    }
    return whole > HELD_WHOLE || packed > HELD_PACKED;
}

int64_t ot_stream_usual_window(int64_t block) { return block < WINDOW_TOKENS / 16 ? WINDOW_TOKENS / block : 16; }

/* ==== Rows of a piece. ==== */

/* An example of the ids that are learnt; learn NULL: all of them. */
static ot_status append(ot_stream *s, const int32_t *ids, const uint8_t *learn, int64_t count, ot_error *err) {
    OT_TRY(ot_grow((void **)&s->targets, &s->targets_room, count, sizeof *s->targets, "targets", err));
    for (int64_t t = 0; t < count; t++) s->targets[t] = t + 1 < count && (learn == NULL || learn[t + 1]) ? ids[t + 1] : -1;
    s->rows_of_file++;
    return ot_dataset_append(&s->window, ids, learn == NULL || learn[0] ? ids[0] : -1, s->targets, NULL, count, err);
}

static ot_status check_ids(const ot_stream *s, const int32_t *ids, int64_t count, ot_error *err) {
    for (int64_t i = 0; i < count; i++) {
        if (ids[i] < s->options.data.vocab) continue;
        return ot_fail(err, OT_ERR_FORMAT, "%s: the tokenizer gave id %d, but the model's vocabulary has %lld: they do not belong together",
                       s->options.paths[s->next.file], ids[i], (long long)s->options.data.vocab);
    }
    return OT_OK;
}

/* Whole rows go into the window; what is left is carried, and the next window begins with it. */
static ot_status take_text(ot_stream *s, const ot_piece *piece, ot_error *err) {
    int32_t *ids = NULL;
    int64_t count = 0, block = s->options.data.block, skip = s->to_skip;
    OT_TRY(ot_tokenizer_encode(ot_data_tokenizer(s->reader), piece->data, (size_t)piece->size, false, &ids, &count, err));
    ot_status status = check_ids(s, ids, count, err);
    int64_t fresh = count - skip, carried = s->n_carried;
    s->to_skip = 0;
    if (status == OT_OK && fresh < 0) status = ot_fail(err, OT_ERR_REFUSED, "%s is not the text that it was", s->options.paths[s->next.file]);
    if (status == OT_OK) status = ot_grow((void **)&s->carried, &s->carried_room, carried + fresh, sizeof *s->carried, "token ids", err);
    if (status == OT_OK) memcpy(s->carried + carried, ids + skip, (size_t)fresh * sizeof *ids);
    ot_free(ids);
    if (status != OT_OK) return status;
    int64_t all = carried + fresh, rows = all / block, used = rows * block;
    for (int64_t r = 0; r < rows; r++) OT_TRY(append(s, s->carried + r * block, NULL, block, err));
    s->n_carried = all - used;
    memmove(s->carried, s->carried + used, (size_t)s->n_carried * sizeof *s->carried);
    if (used < carried) return OT_OK; /* still the row that began before this piece */
    bool within = s->n_carried > 0;
    s->next.offset = within ? piece->offset : piece->offset + piece->size;
    s->next.skip = within ? skip + used - carried : 0;
    return OT_OK;
}

static ot_status take_example(void *context, const int32_t *ids, const uint8_t *learn, int64_t count, ot_error *err) {
    return append(context, ids, learn, count, err);
}

static bool has_something(const ot_piece *piece) {
    for (int64_t i = 0; i < piece->size; i++) {
        if (strchr(" \t\r\n", piece->data[i]) == NULL || piece->data[i] == '\0') return true;
    }
    return false;
}

static ot_status take_lines(ot_stream *s, const ot_piece *piece, ot_error *err) {
    ot_input source = {.data = piece->data, .size = piece->size};
    ot_data_report report = {.lines_before = s->next.line};
    if (has_something(piece)) OT_TRY(ot_data_read_rows(s->reader, &source, s->options.paths[s->next.file], &report, take_example, s, err));
    s->bad += report.bad;
    for (const char *at = piece->data, *end = at + piece->size; (at = memchr(at, '\n', (size_t)(end - at))) != NULL; at++) s->next.line++;
    s->next.offset = piece->offset + piece->size;
    return OT_OK;
}

/* ==== Files. ==== */

static void close_file(ot_stream *s) {
    ot_pieces_close(s->pieces);
    s->pieces = NULL;
    s->n_carried = 0;
}

/* The file of the next window, at its place in it. */
static ot_status open_file(ot_stream *s, ot_error *err) {
    const char *path = s->options.paths[s->next.file];
    ot_piece first = {0};
    char name[4200];
    OT_TRY(ot_pieces_open(path, s->options.piece, ot_data_tokenizer(s->reader), &s->pieces, err));
    OT_TRY(ot_pieces_next(s->pieces, &first, err));
    if (first.size == 0) return ot_fail(err, OT_ERR_FORMAT, "%s is empty", path);
    ot_input_name(path, name, sizeof name);
    const ot_input begin = {.data = first.data, .size = first.size};
    s->rows_of_json = ot_data_is_rows(&begin, name);
    if (s->rows_of_json && ot_data_is_list(&begin)) {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "%s is one list, which can only be read whole, not streamed: bring it into lines, one row each", path);
    }
    if (s->rows_of_json) {
        close_file(s);
        OT_TRY(ot_pieces_open(path, s->options.piece, NULL, &s->pieces, err));
    }
    s->from_its_start = s->next.offset == 0 && s->next.skip == 0;
    s->rows_of_file = 0;
    s->to_skip = s->next.skip;
    return ot_pieces_seek(s->pieces, s->next.offset, err);
}

static ot_status end_file(ot_stream *s, ot_error *err) {
    const char *path = s->options.paths[s->next.file];
    if (s->from_its_start && s->rows_of_file == 0) {
        return ot_fail(err, OT_ERR_REFUSED, "%s has not one row of %lld tokens: use a smaller --block or more text", path, (long long)s->options.data.block);
    }
    s->next_bytes += ot_input_stream_file_bytes(ot_pieces_input(s->pieces));
    close_file(s);
    s->next.file++;
    s->next.offset = s->next.skip = s->next.line = s->next.read = 0;
    return OT_OK;
}

/* ==== Windows. ==== */

static void clear(ot_dataset_builder *b) {
    b->columns = 0;
    b->d.rows = b->d.examples = b->d.tokens = 0;
    b->d.counts_firsts = false;
}

/* Bytes of the epoch before the next window, packed ones as they lie, by how far the file is unpacked. */
static int64_t bytes_done(const ot_stream *s) {
    if (s->pieces == NULL) return s->next_bytes;
    double size = (double)ot_input_stream_file_bytes(ot_pieces_input(s->pieces)), all = (double)ot_pieces_bytes(s->pieces);
    double part = all > 0 ? (double)s->next.read / all : 0;
    return s->next_bytes + (int64_t)(size * (part < 1 ? part : 1));
}

/* Read until the window has its rows or the epoch ends. */
static ot_status read_window(ot_stream *s, ot_error *err) {
    clear(&s->window);
    s->at = s->next;
    s->at.taken = 0;
    s->at_bytes = bytes_done(s);
    while (s->window.d.rows < s->options.window && s->next.file < s->options.n_paths) {
        ot_piece piece;
        if (s->pieces == NULL) OT_TRY(open_file(s, err));
        OT_TRY(ot_pieces_next(s->pieces, &piece, err));
        if (piece.size == 0) {
            OT_TRY(end_file(s, err));
            continue;
        }
        OT_TRY(s->rows_of_json ? take_lines(s, &piece, err) : take_text(s, &piece, err));
        s->next.read = piece.offset + piece.size;
    }
    s->next.window++;
    s->next.first_row += s->window.d.rows;
    return OT_OK;
}

static void begin_epoch(ot_stream *s, int64_t epoch) {
    close_file(s);
    s->next = (ot_stream_place){.epoch = epoch};
    s->next_bytes = 0;
}

/* The first window's order is the one that a data set held whole has. */
static ot_status order_window(ot_stream *s, ot_error *err) {
    uint64_t seed = s->at.window == 0 ? s->options.seed : ot_rng_hash(s->options.seed ^ 0x77696E646F77ULL, (uint64_t)s->at.window);
    OT_TRY(ot_grow((void **)&s->order, &s->order_room, s->window.d.rows, sizeof *s->order, "the row order", err));
    ot_dataset_order(&s->window.d, s->options.shuffle, seed, s->at.epoch, s->order);
    return OT_OK;
}

static ot_status next_window(ot_stream *s, ot_error *err) {
    for (int tries = 0; tries < 2; tries++) {
        if (s->next.file >= s->options.n_paths) begin_epoch(s, s->next.epoch + 1);
        OT_TRY(read_window(s, err));
        if (s->window.d.rows > 0) return order_window(s, err);
    }
    return ot_fail(err, OT_ERR_REFUSED, "%s: no row has anything to learn within a block of %lld tokens: use a larger --block", s->options.paths[0],
                   (long long)s->options.data.block);
}

/* ==== Rows of a step. ==== */

static ot_status take_row(ot_stream *s, ot_error *err) {
    if (s->at.taken >= s->window.d.rows) OT_TRY(next_window(s, err));
    const ot_dataset *w = &s->window.d;
    int64_t row = s->order[s->at.taken], start = w->starts[row];
    OT_TRY(ot_grow((void **)&s->numbers, &s->numbers_room, s->taken.d.rows + 1, sizeof *s->numbers, "row numbers", err));
    s->numbers[s->taken.d.rows] = s->at.first_row + row;
    OT_TRY(ot_dataset_append(&s->taken, w->ids + start, w->firsts[row], w->targets + start, NULL, w->starts[row + 1] - start, err));
    s->at.taken++;
    return OT_OK;
}

ot_status ot_stream_next(ot_stream *s, int64_t count, ot_error *err) {
    clear(&s->taken);
    for (int64_t i = 0; i < count; i++) OT_TRY(take_row(s, err));
    if (s->counts_firsts) ot_dataset_count_firsts(&s->taken.d);
    return OT_OK;
}

void ot_stream_count_firsts(ot_stream *s) { s->counts_firsts = true; }

const ot_dataset *ot_stream_rows(const ot_stream *s) { return &s->taken.d; }
int64_t ot_stream_row_number(const ot_stream *s, int64_t row) { return s->numbers[row]; }

void ot_stream_tell(const ot_stream *s, ot_stream_place *place) { *place = s->at; }

ot_status ot_stream_seek(ot_stream *s, const ot_stream_place *place, ot_error *err) {
    const ot_stream_place p = *place;
    bool possible = p.epoch >= 0 && p.window >= 0 && p.file >= 0 && p.file < s->options.n_paths && p.offset >= 0 && p.skip >= 0 && p.line >= 0 &&
                    p.read >= 0 && p.first_row >= 0 && p.taken >= 0;
    if (!possible) return ot_fail(err, OT_ERR_FORMAT, "the checkpoint's place in the data is impossible: begin again with --force");
    bool here = s->window.d.rows > 0 && p.epoch == s->at.epoch && p.window == s->at.window && p.file == s->at.file && p.offset == s->at.offset &&
                p.skip == s->at.skip;
    if (here && p.taken <= s->window.d.rows) {
        s->at.taken = p.taken;
        return OT_OK;
    }
    begin_epoch(s, p.epoch);
    for (int64_t i = 0; i < p.file; i++) {
        struct stat st;
        s->next_bytes += stat(s->options.paths[i], &st) == 0 ? st.st_size : 0;
    }
    s->next = p;
    if (p.offset > 0 || p.skip > 0) OT_TRY(open_file(s, err));
    OT_TRY(read_window(s, err));
    if (p.taken > s->window.d.rows) return ot_fail(err, OT_ERR_REFUSED, "%s is not the text that it was", s->options.paths[p.file]);
    s->at.taken = p.taken;
    return order_window(s, err);
}

/* ==== About all of it. ==== */

double ot_stream_epochs(const ot_stream *s) {
    double rows = (double)s->window.d.rows, part = rows > 0 ? (double)s->at.taken / rows : 0;
    double begun = (double)s->at_bytes, ended = s->next.file >= s->options.n_paths ? (double)s->file_bytes : (double)bytes_done(s);
    return (double)s->at.epoch + (begun + part * (ended - begun)) / (double)s->file_bytes;
}

ot_status ot_stream_count(ot_stream *s, int64_t *rows, ot_error *err) {
    begin_epoch(s, 0);
    while (s->next.file < s->options.n_paths) OT_TRY(read_window(s, err));
    *rows = s->next.first_row;
    s->bad = 0;
    return ot_stream_seek(s, &(ot_stream_place){0}, err);
}

static ot_status identify(const char *path, void (*add)(void *context, const void *data, int64_t size), void *context, ot_error *err) {
    FILE *f = fopen(path, "rbe");
    struct stat st;
    if (f == NULL || fstat(fileno(f), &st) != 0) {
        if (f != NULL) fclose(f);
        return ot_fail_errno(err, errno, "cannot open %s", path);
    }
    int64_t size = st.st_size;
    add(context, &size, sizeof size);
    for (int64_t k = 0; k < SAMPLES; k++) {
        char sample[SAMPLE];
        int64_t at = size > SAMPLE ? (int64_t)((double)(size - SAMPLE) * (double)k / (SAMPLES - 1)) : 0;
        size_t n = fseeko(f, at, SEEK_SET) == 0 ? fread(sample, 1, sizeof sample, f) : 0;
        add(context, sample, (int64_t)n);
    }
    fclose(f);
    return OT_OK;
}

ot_status ot_stream_identify(const ot_stream *s, void (*add)(void *context, const void *data, int64_t size), void *context, ot_error *err) {
    for (int64_t i = 0; i < s->options.n_paths; i++) OT_TRY(identify(s->options.paths[i], add, context, err));
    return OT_OK;
}

/* A window and its last piece, whose arrays grow by doubling; the tokenizer's work on a piece; the unpacker's. */
int64_t ot_stream_bytes(const ot_stream *s) {
    enum { TOKENIZER_A_BYTE = 48, UNPACKER = 16 << 20, BYTES_A_ROW = 40 };
    int64_t piece = s->packed || s->file_bytes > s->options.piece ? s->options.piece : s->file_bytes, room = 16;
    int64_t tokens = s->options.window * s->options.data.block + piece / 2;
    while (room < tokens) room *= 2;
    return room * 8 + s->options.window * BYTES_A_ROW + piece * TOKENIZER_A_BYTE + (s->packed ? UNPACKER : 0);
}

int64_t ot_stream_file_bytes(const ot_stream *s) { return s->file_bytes; }
int64_t ot_stream_window(const ot_stream *s) { return s->options.window; }
int64_t ot_stream_bad(const ot_stream *s) { return s->bad; }

/* ==== Opening. ==== */

/* What is told of a file before anything of it is learnt, however long it is. */
static ot_status check_head(ot_input_stream *input, const char *path, ot_error *err) {
    static const int64_t HEAD = 1 << 20;
    char *head = NULL, name[4200];
    int64_t got = 0;
    OT_TRY(ot_malloc(HEAD, 1, "the beginning of a file", (void **)&head, err));
    ot_status status = ot_input_stream_read(input, head, HEAD, &got, err);
    if (status == OT_OK) status = ot_data_check_zero(head, got, path, err);
    ot_input_name(path, name, sizeof name);
    const ot_input begin = {.data = head, .size = got};
    if (status == OT_OK && !ot_data_is_rows(&begin, name)) status = ot_data_check_prose(name, path, err);
    ot_free(head);
    return status;
}

static ot_status measure(ot_stream *s, ot_error *err) {
    for (int64_t i = 0; i < s->options.n_paths; i++) {
        ot_input_stream *input = NULL;
        if (ot_path_ends(s->options.paths[i], ".safetensors")) {
            return ot_fail(err, OT_ERR_USAGE, "--window is for text and JSON lines: %s is read whole", s->options.paths[i]);
        }
        OT_TRY(ot_data_check_path(s->options.paths[i], err));
        OT_TRY(ot_input_stream_open(s->options.paths[i], &input, err));
        s->file_bytes += ot_input_stream_file_bytes(input);
        s->packed = s->packed || ot_input_stream_packing(input) != NULL;
        ot_status status = check_head(input, s->options.paths[i], err);
        ot_input_stream_close(input);
        OT_TRY(status);
    }
    return OT_OK;
}

/* The window's rows come and go, so of the data set itself there is one row, as long as any, from which a run is planned. */
static ot_status stand_in(ot_stream *s, ot_dataset *out, ot_error *err) {
    int64_t block = s->options.data.block;
    *out = (ot_dataset){.rows = 1, .examples = 1, .length = block};
    OT_TRY(ot_malloc(1, sizeof *out->counted, "target counts", (void **)&out->counted, err));
    ot_status status = ot_calloc(1, sizeof *out->firsts, "targets", (void **)&out->firsts, err);
    if (status != OT_OK) {
        ot_dataset_free(out);
        return status;
    }
    out->counted[0] = (int32_t)(block - 1);
    out->stream = s;
    return OT_OK;
}

ot_status ot_dataset_open_stream(const ot_stream_options *options, ot_dataset *out, ot_error *err) {
    ot_stream *s = NULL;
    int64_t tokens = 0;
    ot_status status = ot_calloc(1, (int64_t)sizeof *s, "a stream of rows", (void **)&s, err);
    if (status != OT_OK) {
        if (options->release != NULL) options->release(options->context);
        return status;
    }
    s->options = *options;
    if (!ot_mul_i64(options->window, options->data.block, &tokens) || tokens > INT64_MAX / 64) {
        status = ot_fail(err, OT_ERR_USAGE, "--window: %lld rows of %lld tokens are impossibly many", (long long)options->window, (long long)options->data.block);
    }
    if (s->options.piece == 0) s->options.piece = OT_PIECE;
    if (status == OT_OK) status = measure(s, err);
    if (status == OT_OK) status = ot_data_reader_open(&s->options.data, &s->reader, err);
    if (status == OT_OK) status = ot_stream_seek(s, &(ot_stream_place){0}, err);
    if (status == OT_OK) status = stand_in(s, out, err);
    if (status != OT_OK) ot_stream_close(s);
    return status;
}

void ot_stream_close(ot_stream *s) {
    if (s == NULL) return;
    close_file(s);
    ot_data_reader_close(s->reader);
    ot_dataset_free(&s->window.d);
    ot_dataset_free(&s->taken.d);
    ot_free(s->carried);
    ot_free(s->targets);
    ot_free(s->order);
    ot_free(s->numbers);
    if (s->options.release != NULL) s->options.release(s->options.context);
    ot_free(s);
}
