/* Text of any size: unpacked bytes in any stretches, pieces with the tokens of the whole, windows of rows, and places to go on from. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zlib.h>
#include <zstd.h>

#include "base/mem.h"
#include "base/rng.h"
#include "data/pieces.h"
#include "support/scratch.h"
#include "train/stream.h"

#define TOKENIZER TEST_DATA_DIR "/tokenizer/gpt2"
enum { VOCAB = 600, BLOCK = 16, TEXT = 40000 };

static int setup(void **state) {
    static scratch s;
    scratch_open(&s, TEST_BINARY_DIR);
    *state = &s;
    return 0;
}

static int teardown(void **state) {
    scratch_close(*state);
    return 0;
}

/* Words, numbers, blank lines, spaces at ends, characters of several bytes. */
static char *make_text(int64_t size, uint64_t seed) {
    static const char *const words[] = {"the", " owner", " keeps", "\n", "\n\n", " 1234", "  ", "\xC3\xA9t\xC3\xA9", " rain,", ".\n", "'s", " \n", "\xE6\xB0\xB4", "\t", "<s>", "\n  x"};
    char *text = malloc((size_t)size + 16);
    assert_non_null(text);
    ot_rng rng;
    ot_rng_seed(&rng, seed);
    int64_t n = 0;
    while (n < size - 16) {
        const char *w = words[ot_rng_below(&rng, sizeof words / sizeof *words)];
        memcpy(text + n, w, strlen(w));
        n += (int64_t)strlen(w);
    }
    while (n < size) text[n++] = 'e';
    return text;
}

static void write_bytes(const char *path, const void *data, size_t size) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

/* In two members or frames. */
static void write_packed(const char *path, const char *packing, const char *text, int64_t size) {
    char *packed = malloc((size_t)size * 2 + 4096);
    assert_non_null(packed);
    size_t n = 0;
    for (int part = 0; part < 2; part++) {
        int64_t from = part * (size / 3), length = part == 0 ? size / 3 : size - size / 3;
        if (strcmp(packing, "zstd") == 0) {
            n += ZSTD_compress(packed + n, (size_t)size * 2 + 4096 - n, text + from, (size_t)length, 3);
            continue;
        }
        z_stream z = {0};
        assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
        z.next_in = (Bytef *)(uintptr_t)(text + from);
        z.avail_in = (uInt)length;
        z.next_out = (Bytef *)packed + n;
        z.avail_out = (uInt)((size_t)size * 2 + 4096 - n);
        assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
        n += z.total_out;
        deflateEnd(&z);
    }
    write_bytes(path, packed, n);
    free(packed);
}

/* ==== Bytes. ==== */

static void bytes_are_those_of_the_file(void **state) {
    enum { SIZE = 400000 };
    char *text = make_text(SIZE, 1), *got = malloc(SIZE + 1);
    static const char *const packings[] = {"", "gzip", "zstd"};
    for (int p = 0; p < 3; p++) {
        const char *path = scratch_path(*state, "text");
        ot_input_stream *s = NULL;
        ot_error err = {0};
        int64_t n = 0, at = 0;
        if (p == 0) write_bytes(path, text, SIZE);
        else write_packed(path, packings[p], text, SIZE);
        if (ot_input_stream_open(path, &s, &err) != OT_OK) fail_msg("%s", err.message);
        assert_string_equal(ot_input_stream_packing(s) != NULL ? ot_input_stream_packing(s) : "", packings[p]);
        for (int64_t step = 1; at < SIZE; at += n, step = step * 3 % 70001) {
            if (ot_input_stream_read(s, got + at, step < SIZE - at ? step : SIZE - at, &n, &err) != OT_OK) fail_msg("%s: %s", packings[p], err.message);
            assert_true(n > 0);
        }
        assert_memory_equal(got, text, SIZE);
        assert_int_equal(ot_input_stream_read(s, got, 10, &n, &err), OT_OK);
        assert_int_equal(n, 0);
        static const int64_t places[] = {399990, 5, 133333, 133334, 0, 400000};
        for (int i = 0; i < 6; i++) {
            assert_int_equal(ot_input_stream_seek(s, places[i], &err), OT_OK);
            assert_int_equal(ot_input_stream_read(s, got, 20, &n, &err), OT_OK);
            assert_int_equal(n, SIZE - places[i] < 20 ? SIZE - places[i] : 20);
            assert_memory_equal(got, text + places[i], (size_t)n);
        }
        assert_int_equal(ot_input_stream_seek(s, SIZE + 1, &err), OT_ERR_REFUSED);
        ot_input_stream_close(s);
    }
    free(text);
    free(got);
}

static void damaged_files_are_refused(void **state) {
    enum { SIZE = 50000 };
    char *text = make_text(SIZE, 2), got[4096];
    static const char *const packings[] = {"gzip", "zstd"};
    for (int p = 0; p < 2; p++) {
        for (int how = 0; how < 2; how++) {
            const char *path = scratch_path(*state, "broken");
            write_packed(path, packings[p], text, SIZE);
            FILE *f = fopen(path, "rb+");
            assert_non_null(f);
            char bytes[200000];
            size_t size = fread(bytes, 1, sizeof bytes, f);
            fclose(f);
            if (how == 0) size -= 7;
            else memset(bytes + size / 2, 0x55, 40);
            write_bytes(path, bytes, size);
            ot_input_stream *s = NULL;
            ot_error err = {0};
            assert_int_equal(ot_input_stream_open(path, &s, &err), OT_OK);
            ot_status status = OT_OK;
            for (int64_t n = 1; status == OT_OK && n > 0;) status = ot_input_stream_read(s, got, sizeof got, &n, &err);
            assert_int_equal(status, OT_ERR_FORMAT);
            if (strstr(err.message, how == 0 ? "cut off" : "damaged") == NULL) fail_msg("%s: %s", packings[p], err.message);
            ot_input_stream_close(s);
        }
    }
    /* Cut so short that only the name tells what it was. */
    static const char *const names[] = {"cut.gz", "cut.zst"};
    for (int p = 0; p < 2; p++) {
        const char *path = scratch_path(*state, names[p]);
        write_bytes(path, p == 0 ? "\x1F\x8B" : "\x28\xB5", 2);
        ot_input_stream *s = NULL;
        ot_error err = {0};
        assert_int_equal(ot_input_stream_open(path, &s, &err), OT_ERR_FORMAT);
        assert_non_null(strstr(err.message, "data end early, at byte 2: the file was cut off"));
    }
    free(text);
}

/* ==== Pieces. ==== */

static void check_pieces(const char *path, const char *text, const char *name, int64_t size, bool exact) {
    char where[512];
    ot_tokenizer *t = NULL;
    ot_pieces *p = NULL;
    ot_error err = {0};
    int32_t *whole = NULL, *part = NULL;
    int64_t n_whole = 0, n_part = 0, at = 0, ids_at = 0, differ = 0;
    snprintf(where, sizeof where, TEST_DATA_DIR "/tokenizer/%s", name);
    if (ot_tokenizer_open(where, &t, &err) != OT_OK || ot_pieces_open(path, size, t, &p, &err) != OT_OK) fail_msg("%s: %s", name, err.message);
    assert_int_equal(ot_pieces_bytes(p), TEXT);
    assert_int_equal(ot_tokenizer_encode(t, text, TEXT, false, &whole, &n_whole, &err), OT_OK);
    ot_piece piece = {0};
    int count = 0;
    for (;; count++) {
        if (ot_pieces_next(p, &piece, &err) != OT_OK) fail_msg("%s: %s", name, err.message);
        if (piece.size == 0) break;
        assert_true(piece.size <= size && piece.offset == at);
        assert_memory_equal(piece.data, text + at, (size_t)piece.size);
        assert_int_equal(ot_tokenizer_encode(t, piece.data, (size_t)piece.size, false, &part, &n_part, &err), OT_OK);
        for (int64_t i = 0; i < n_part && ids_at + i < n_whole; i++) differ += part[i] != whole[ids_at + i];
        ids_at += n_part;
        at += piece.size;
        ot_free(part);
    }
    assert_int_equal(at, TEXT);
    assert_true(count > 3);
    if (exact && (differ != 0 || ids_at != n_whole)) fail_msg("%s: %lld tokens in pieces, %lld in one, %lld differ", name, (long long)ids_at, (long long)n_whole, (long long)differ);
    ot_free(whole);
    ot_pieces_close(p);
    ot_tokenizer_close(t);
}

static void pieces_have_the_tokens_of_the_whole(void **state) {
    /* Those which put a space in front of every text have one token more at a cut. */
    static const struct {
        const char *name;
        bool exact;
    } tokenizers[] = {{"gpt2", true}, {"llama3", true}, {"qwen2", true}, {"pair-gpt2", true}, {"pair-opt", true}, {"gguf-bpe/vocab.gguf", true},
                      {"llama2", false}, {"gguf-spm/vocab.gguf", false}, {"unigram", false}};
    char *text = make_text(TEXT, 3);
    const char *path = scratch_path(*state, "text");
    write_bytes(path, text, TEXT);
    for (size_t i = 0; i < sizeof tokenizers / sizeof *tokenizers; i++) {
        check_pieces(path, text, tokenizers[i].name, 900, tokenizers[i].exact);
        check_pieces(path, text, tokenizers[i].name, 7001, tokenizers[i].exact);
    }
    free(text);
}

/* One line of everything: cut between characters. */
static void a_text_without_lines_is_cut_between_characters(void **state) {
    char *text = malloc(TEXT + 1);
    assert_non_null(text);
    for (int64_t i = 0; i < TEXT; i += 2) memcpy(text + i, "\xC3\xA9", 2);
    const char *path = scratch_path(*state, "text");
    write_bytes(path, text, TEXT);
    check_pieces(path, text, "gpt2", 901, false);
    ot_pieces *p = NULL;
    ot_piece piece;
    assert_int_equal(ot_pieces_open(path, 100, NULL, &p, NULL), OT_OK); /* as one long line */
    assert_int_equal(ot_pieces_next(p, &piece, NULL), OT_OK);
    assert_int_equal(piece.size, TEXT);
    ot_pieces_close(p);
    free(text);
}

/* ==== Rows. ==== */

static ot_dataset open_stream(const char *const *paths, int64_t n, int64_t window, bool shuffle) {
    ot_dataset d = {0};
    ot_error err = {0};
    ot_stream_options o = {.paths = paths, .n_paths = n, .data = {.tokenizer_path = TOKENIZER, .block = BLOCK, .vocab = VOCAB}, .window = window,
                           .piece = 1500, .shuffle = shuffle, .seed = 7};
    if (ot_dataset_open_stream(&o, &d, &err) != OT_OK) fail_msg("%s", err.message);
    return d;
}

static ot_dataset open_whole(const char *const *paths, int64_t n) {
    ot_dataset d = {0};
    ot_error err = {0};
    ot_data_options o = {.tokenizer_path = TOKENIZER, .block = BLOCK, .vocab = VOCAB};
    if (ot_dataset_read(paths, n, &o, &d, NULL, &err) != OT_OK) fail_msg("%s", err.message);
    return d;
}

static void next_rows(ot_stream *s, int64_t count) {
    ot_error err = {0};
    if (ot_stream_next(s, count, &err) != OT_OK) fail_msg("%s", err.message);
    assert_int_equal(ot_stream_rows(s)->rows, count);
}

static void same_row(const ot_dataset *a, int64_t i, const ot_dataset *b, int64_t k) {
    int64_t from = ot_dataset_start(a, i), n = ot_dataset_start(a, i + 1) - from, other = ot_dataset_start(b, k);
    assert_int_equal(n, ot_dataset_start(b, k + 1) - other);
    assert_memory_equal(a->ids + from, b->ids + other, (size_t)n * 4);
    assert_memory_equal(a->targets + from, b->targets + other, (size_t)n * 4);
    assert_int_equal(a->counted[i], b->counted[k]);
}

/* paths: of n files, as they are streamed and as they are read whole. */
static void check_rows(const char *const *paths, int64_t n) {
    ot_dataset whole = open_whole(paths, n);
    int64_t *order = malloc((size_t)whole.rows * sizeof *order), *seen = calloc((size_t)whole.rows, sizeof *seen);
    assert_true(order != NULL && seen != NULL && whole.rows > 100);
    ot_error err = {0};
    /* In their order, whatever the window; after the last comes the first. */
    static const int64_t windows[] = {1, 37, 1000000};
    for (int w = 0; w < 3; w++) {
        ot_dataset d = open_stream(paths, n, windows[w], false);
        int64_t rows = 0;
        assert_int_equal(ot_stream_count(d.stream, &rows, &err), OT_OK);
        assert_int_equal(rows, whole.rows);
        for (int64_t at = 0; at < 2 * whole.rows; at += 3) {
            next_rows(d.stream, 3);
            for (int64_t i = 0; i < 3; i++) {
                same_row(ot_stream_rows(d.stream), i, &whole, (at + i) % whole.rows);
                assert_int_equal(ot_stream_row_number(d.stream, i), (at + i) % whole.rows);
            }
        }
        ot_dataset_free(&d);
    }
    /* One window: the order of a data set held whole, in every epoch. */
    ot_dataset d = open_stream(paths, n, whole.rows, true);
    for (int64_t epoch = 0; epoch < 3; epoch++) {
        ot_dataset_order(&whole, true, 7, epoch, order);
        for (int64_t i = 0; i < whole.rows; i++) {
            next_rows(d.stream, 1);
            same_row(ot_stream_rows(d.stream), 0, &whole, order[i]);
        }
        double epochs = ot_stream_epochs(d.stream);
        assert_true(epochs > (double)epoch + 0.999 && epochs < (double)epoch + 1.001);
    }
    ot_dataset_free(&d);
    /* Several: every row once an epoch, not in order, and from any place it goes on as it went. */
    d = open_stream(paths, n, 50, true);
    ot_dataset again = open_stream(paths, n, 50, true);
    int64_t moved = 0;
    double last = 0;
    for (int64_t i = 0; i < 2 * whole.rows; i++) {
        ot_stream_place place;
        ot_stream_tell(d.stream, &place);
        next_rows(d.stream, 1);
        int64_t number = ot_stream_row_number(d.stream, 0);
        same_row(ot_stream_rows(d.stream), 0, &whole, number);
        assert_int_equal(seen[number]++, i / whole.rows);
        moved += number != i % whole.rows;
        assert_true(ot_stream_epochs(d.stream) >= last);
        last = ot_stream_epochs(d.stream);
        if (i % 29 != 0) continue;
        if (ot_stream_seek(again.stream, &place, &err) != OT_OK) fail_msg("%s", err.message);
        for (int64_t k = 0; k < 3; k++) {
            next_rows(again.stream, 1);
            if (k == 0) {
                assert_int_equal(ot_stream_row_number(again.stream, 0), number);
                assert_true(ot_stream_epochs(again.stream) == last);
                same_row(ot_stream_rows(again.stream), 0, ot_stream_rows(d.stream), 0);
            }
        }
    }
    assert_true(moved > whole.rows);
    assert_true(last > 1.999 && last < 2.001);
    ot_dataset_free(&d);
    ot_dataset_free(&again);
    ot_dataset_free(&whole);
    free(order);
    free(seen);
}

static void text_becomes_the_same_rows(void **state) {
    char *text = make_text(TEXT, 4);
    char a[1024], b[1024], c[1024];
    snprintf(a, sizeof a, "%s", scratch_path(*state, "a.txt"));
    snprintf(b, sizeof b, "%s", scratch_path(*state, "b.txt.gz"));
    snprintf(c, sizeof c, "%s", scratch_path(*state, "c.txt.zst"));
    write_bytes(a, text, TEXT / 2);
    write_packed(b, "gzip", text + TEXT / 4, TEXT / 2);
    write_packed(c, "zstd", text, TEXT / 3);
    check_rows((const char *const[]){a}, 1);
    check_rows((const char *const[]){c, a, b}, 3);
    free(text);
}

static void json_lines_become_the_same_examples(void **state) {
    char path[1024], packed[1024];
    snprintf(path, sizeof path, "%s", scratch_path(*state, "rows.jsonl"));
    snprintf(packed, sizeof packed, "%s", scratch_path(*state, "more.jsonl.gz"));
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    for (int i = 0; i < 300; i++) {
        if (i % 17 == 3) fputs("\n", f);
        fprintf(f, "{\"text\": \"the owner keeps %d and %d\"}\n", i, i * i);
        if (i % 40 == 5) fprintf(f, "{\"text\": 5}\n"); /* bad */
    }
    fclose(f);
    char bytes[40000];
    f = fopen(path, "rb");
    assert_non_null(f);
    size_t size = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    write_packed(packed, "gzip", bytes, (int64_t)size);
    check_rows((const char *const[]){path}, 1);
    check_rows((const char *const[]){packed, path}, 2);
    ot_dataset d = open_stream((const char *const[]){path}, 1, 20, true);
    for (int i = 0; i < 2000; i++) next_rows(d.stream, 1);
    assert_true(ot_stream_bad(d.stream) >= 8);
    ot_dataset_free(&d);
}

/* ==== What is refused. ==== */

static void refused(const char *path, ot_status code, const char *part) {
    ot_dataset d = {0};
    ot_error err = {0};
    ot_stream_options o = {.paths = &path, .n_paths = 1, .data = {.tokenizer_path = TOKENIZER, .block = BLOCK, .vocab = VOCAB}, .window = 10, .piece = 1500};
    ot_status status = ot_dataset_open_stream(&o, &d, &err);
    if (status != code || strstr(err.message, part) == NULL) fail_msg("wanted %s with \"%s\", got %s: %s", ot_status_name(code), part, ot_status_name(status), err.message);
}

static void what_cannot_be_streamed_is_refused(void **state) {
    const char *path = scratch_path(*state, "x.txt");
    ot_error err = {0};
    refused("nothing-here.txt", OT_ERR_IO, "nothing-here.txt");
    refused(TEST_DATA_DIR, OT_ERR_IO, "is a folder, but text is read from files");
    refused("a.safetensors", OT_ERR_USAGE, "read whole");
    write_bytes(path, "", 0);
    refused(path, OT_ERR_FORMAT, "is empty");
    write_bytes(path, "the owner", 9);
    refused(path, OT_ERR_REFUSED, "not one row of 16 tokens");
    char *text = make_text(TEXT, 5);
    write_bytes(path, text, TEXT);
    ot_dataset d = open_stream((const char *const[]){path}, 1, 10, true);
    ot_stream_place place;
    for (int i = 0; i < 400; i++) next_rows(d.stream, 1);
    ot_stream_tell(d.stream, &place);
    assert_true(place.offset > 1500);
    ot_dataset_free(&d);
    write_bytes(path, text, 1500); /* it has become another */
    d = open_stream((const char *const[]){path}, 1, 10, true);
    assert_int_equal(ot_stream_seek(d.stream, &place, &err), OT_ERR_REFUSED);
    assert_non_null(strstr(err.message, "not the file that it was"));
    place = (ot_stream_place){.file = 1};
    assert_int_equal(ot_stream_seek(d.stream, &place, &err), OT_ERR_FORMAT);
    place = (ot_stream_place){.taken = -1};
    assert_int_equal(ot_stream_seek(d.stream, &place, &err), OT_ERR_FORMAT);
    ot_dataset_free(&d);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bytes_are_those_of_the_file, setup, teardown),
        cmocka_unit_test_setup_teardown(damaged_files_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(pieces_have_the_tokens_of_the_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(a_text_without_lines_is_cut_between_characters, setup, teardown),
        cmocka_unit_test_setup_teardown(text_becomes_the_same_rows, setup, teardown),
        cmocka_unit_test_setup_teardown(json_lines_become_the_same_examples, setup, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_streamed_is_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
