/* Tokenizers against vectors of Hugging Face tokenizers and sentencepiece: ids, ids with special tokens, decoded text, streamed
 * pieces, and a written tokenizer.json that gives the same again. The small ones are in tests/data/tokenizer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/parallel.h"
#include "format/tokenizer.h"
#include "support/scratch.h"

static ot_tokenizer *open_or_fail(const char *path) {
    ot_tokenizer *t = NULL;
    ot_error err = {0};
    if (ot_tokenizer_open(path, &t, &err) != OT_OK) fail_msg("%s", err.message);
    return t;
}

static json_t *encode(const ot_tokenizer *t, const char *text, size_t size, bool special) {
    int32_t *ids = NULL;
    int64_t count = 0;
    ot_error err = {0};
    if (ot_tokenizer_encode(t, text, size, special, &ids, &count, &err) != OT_OK) fail_msg("%s", err.message);
    json_t *list = json_array();
    for (int64_t i = 0; i < count; i++) {
        assert_in_range(ids[i], 0, ot_tokenizer_vocab_size(t) - 1);
        json_array_append_new(list, json_integer(ids[i]));
    }
    ot_free(ids);
    return list;
}

static void decode(const ot_tokenizer *t, const json_t *list, bool skip, char **text, size_t *size) {
    size_t count = json_array_size(list);
    int32_t *ids = malloc((count + 1) * sizeof *ids);
    ot_error err = {0};
    assert_non_null(ids);
    for (size_t i = 0; i < count; i++) ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    if (ot_tokenizer_decode(t, ids, (int64_t)count, skip, text, size, &err) != OT_OK) fail_msg("%s", err.message);
    assert_int_equal((*text)[*size], '\0');
    free(ids);
}

static void expect_ids(const char *what, const json_t *line, const json_t *want, json_t *got) {
    if (json_equal(want, got) != 1) {
        char *text = json_dumps(json_object_get(line, "text"), JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
        char *a = json_dumps(want, JSON_COMPACT), *b = json_dumps(got, JSON_COMPACT);
        fail_msg("%s: text %.300s: ids %.300s, expected %.300s", what, text, b, a);
    }
    json_decref(got);
}

typedef enum options { PLAIN = 0, NO_MARKUP = 1, NO_SPECIAL = 2, NO_DECODE = 4 } options;

static void check_line(const ot_tokenizer *t, const char *what, const json_t *line, int flags) {
    const json_t *text = json_object_get(line, "text"), *ids = json_object_get(line, "ids"),
                 *special = json_object_get(line, "ids_special");
    const json_t *decoded = json_object_get(line, "decoded");
    const char *raw = json_string_value(text);
    size_t size = json_string_length(text);
    if ((flags & NO_MARKUP) != 0 && (memchr(raw, '<', size) != NULL || memmem(raw, size, "tuned", 5) != NULL)) return;
    expect_ids(what, line, ids, encode(t, raw, size, false));
    if ((flags & NO_SPECIAL) == 0) expect_ids(what, line, special != NULL ? special : ids, encode(t, raw, size, true));
    if ((flags & NO_DECODE) != 0) return;
    if (decoded == NULL) decoded = text;
    char *back = NULL;
    size_t back_size = 0;
    decode(t, ids, false, &back, &back_size);
    if (back_size != json_string_length(decoded) || memcmp(back, json_string_value(decoded), back_size) != 0) {
        char *wanted = json_dumps(decoded, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
        fail_msg("%s: decoded \"%s\", expected %s", what, back, wanted);
    }
    ot_free(back);
}

/* Number of lines checked. */
static int check_vectors(const ot_tokenizer *t, const char *path, int flags) {
    FILE *file = fopen(path, "r");
    char *text = NULL;
    size_t room = 0;
    int lines = 0;
    if (file == NULL) fail_msg("cannot open %s", path);
    for (ssize_t n; (n = getline(&text, &room, file)) > 0; lines++) {
        json_error_t problem;
        json_t *line = json_loadb(text, (size_t)n, JSON_ALLOW_NUL, &problem);
        char what[1200];
        snprintf(what, sizeof what, "%s line %d", path, lines + 1);
        if (line == NULL) fail_msg("%s: %s", what, problem.text);
        check_line(t, what, line, flags);
        json_decref(line);
    }
    free(text);
    fclose(file);
    return lines;
}

/* ==== Committed fixtures ==== */

typedef struct fixture {
    const char *name, *file; /* file: NULL for the folder */
    int32_t bos, eos;
    int64_t size;
    int written; /* options for the written tokenizer.json: Hugging Face cuts a text at control and user-defined tokens,
                  * sentencepiece knows no control tokens in a text and treats user-defined ones ("tuned") as any other piece */
} fixture;
static const fixture FIXTURES[] = {
    {"gpt2", NULL, -1, 330, 332, PLAIN},
    {"qwen2", NULL, -1, 330, 334, PLAIN},
    {"llama3", "tokenizer.json", 330, -1, 331, PLAIN},
    {"llama2", NULL, 1, 2, 420, PLAIN},
    {"llama2-legacy", NULL, 1, 2, 420, PLAIN},
    {"unigram", NULL, -1, -1, 172, PLAIN},
    {"pair-gpt2", NULL, 330, 330, 331, PLAIN},
    {"pair-opt", NULL, 2, 2, 334, PLAIN},
    {"pair-clip", "vocab.json", 769, 770, 771, PLAIN},
    {"gguf-bpe", "vocab.gguf", 1, 0, 332, PLAIN},
    {"gguf-spm", "vocab.gguf", 1, 2, 420, NO_MARKUP | NO_DECODE},
    {"spm", NULL, 1, 2, 420, NO_MARKUP | NO_DECODE},
    {"odd", NULL, -1, -1, 330, PLAIN},
};
enum { FIXTURE_COUNT = sizeof FIXTURES / sizeof FIXTURES[0] };

static void fixture_path(const fixture *f, const char *file, char out[1024]) {
    snprintf(out, 1024, "%s/tokenizer/%s%s%s", TEST_DATA_DIR, f->name, file != NULL ? "/" : "", file != NULL ? file : "");
}

static void test_fixtures(void **state) {
    (void)state;
    for (int i = 0; i < FIXTURE_COUNT; i++) {
        const fixture *f = &FIXTURES[i];
        char path[1024];
        fixture_path(f, f->file, path);
        ot_tokenizer *t = open_or_fail(path);
        assert_int_equal(ot_tokenizer_bos(t), f->bos);
        assert_int_equal(ot_tokenizer_eos(t), f->eos);
        assert_int_equal(ot_tokenizer_vocab_size(t), f->size);
        fixture_path(f, "vectors.jsonl", path);
        assert_int_equal(check_vectors(t, path, PLAIN), 70);
        ot_tokenizer_close(t);
    }
}

static void test_written_json(void **state) {
    (void)state;
    scratch s;
    scratch_open(&s, TEST_BINARY_DIR);
    for (int i = 0; i < FIXTURE_COUNT; i++) {
        const fixture *f = &FIXTURES[i];
        char path[1024];
        ot_error err = {0};
        fixture_path(f, f->file, path);
        ot_tokenizer *t = open_or_fail(path);
        if (ot_tokenizer_write_json(t, scratch_path(&s, "tokenizer.json"), &err) != OT_OK) fail_msg("%s", err.message);
        ot_tokenizer *again = open_or_fail(s.dir);
        assert_int_equal(ot_tokenizer_vocab_size(again), ot_tokenizer_vocab_size(t));
        fixture_path(f, "vectors.jsonl", path);
        check_vectors(again, path, f->written);
        ot_tokenizer_close(again);
        ot_tokenizer_close(t);
    }
    scratch_close(&s);
}

/* Pieces of byte-level tokens, put after one another, are the text. */
static void test_pieces(void **state) {
    (void)state;
    static const char TEXT[] =
        "Streaming caf\xC3\xA9, \xE6\x97\xA5\xE6\x9C\xAC and \xF0\x9F\x98\x80\n\n  in 123 pieces<|endoftext|>";
    static const struct {
        int fixture;
        const char *expected;
    } CASES[] = {
        {0, TEXT},
        {3, " Streaming caf\xC3\xA9, \xE6\x97\xA5\xE6\x9C\xAC and \xF0\x9F\x98\x80\n\n  in 123 pieces<|endoftext|>"},
        {11, " Streaming caf\xC3\xA9, \xE6\x97\xA5\xE6\x9C\xAC and \xF0\x9F\x98\x80\n\n in 123 pieces<|endoftext|>"},
        {8, "streaming caf\xC3\xA9 , \xE6\x97\xA5\xE6\x9C\xAC and \xF0\x9F\x98\x80 in 1 2 3 pieces <|endoftext|>"},
    };
    for (size_t c = 0; c < sizeof CASES / sizeof CASES[0]; c++) {
        char path[1024], whole[512] = "";
        size_t at = 0;
        fixture_path(&FIXTURES[CASES[c].fixture], FIXTURES[CASES[c].fixture].file, path);
        ot_tokenizer *t = open_or_fail(path);
        json_t *ids = encode(t, TEXT, strlen(TEXT), false);
        for (size_t i = 0; i < json_array_size(ids); i++) {
            int32_t id = (int32_t)json_integer_value(json_array_get(ids, i));
            char piece[64], cut[2] = {'?', '?'};
            size_t n = ot_tokenizer_piece(t, id, piece, sizeof piece);
            assert_in_range(n, 1, sizeof piece);
            assert_int_equal(ot_tokenizer_piece(t, id, cut, 1), n); /* all of it is counted, one byte is written */
            assert_int_equal(cut[0], piece[0]);
            assert_int_equal(cut[1], '?');
            memcpy(whole + at, piece, n);
            at += n;
        }
        whole[at] = '\0';
        assert_string_equal(whole, CASES[c].expected);
        assert_int_equal(ot_tokenizer_piece(t, -1, NULL, 0), 0);
        assert_int_equal(ot_tokenizer_piece(t, INT32_MAX, NULL, 0), 0);
        json_decref(ids);
        ot_tokenizer_close(t);
    }
}

/* ==== Edges ==== */

static void test_broken_utf8(void **state) {
    (void)state;
    /* One U+FFFD for each longest prefix of a character, as Python's errors="replace". */
    static const struct {
        const char *bytes, *meant;
    } CASES[] = {
        {"a\xFF"
         "b",
         "a\xEF\xBF\xBD"
         "b"},
        {"\xE6\x97", "\xEF\xBF\xBD"},
        {"\xE6\x97x", "\xEF\xBF\xBDx"},
        {"\xC0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xF0\x9F\x98", "\xEF\xBF\xBD"},
        {"\xF4\x90\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\x80\xE2\x82\xAC", "\xEF\xBF\xBD\xE2\x82\xAC"},
    };
    ot_tokenizer *t = open_or_fail(TEST_DATA_DIR "/tokenizer/gpt2");
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        json_t *a = encode(t, CASES[i].bytes, strlen(CASES[i].bytes), false),
               *b = encode(t, CASES[i].meant, strlen(CASES[i].meant), false);
        assert_int_equal(json_equal(a, b), 1);
        json_decref(b);
        /* Half a character decodes to U+FFFD, too. */
        char *text = NULL;
        size_t size = 0;
        decode(t, a, false, &text, &size);
        assert_string_equal(text, CASES[i].meant);
        ot_free(text);
        json_decref(a);
    }
    ot_tokenizer_close(t);
}

static void test_decoding_choices(void **state) {
    (void)state;
    ot_tokenizer *t = open_or_fail(TEST_DATA_DIR "/tokenizer/gpt2");
    json_t *ids = encode(t, "a<|endoftext|>b <mask>", 22, false);
    char *text = NULL;
    size_t size = 0;
    decode(t, ids, false, &text, &size);
    assert_string_equal(text, "a<|endoftext|>b<mask>"); /* <mask> eats the blank to its left */
    ot_free(text);
    decode(t, ids, true, &text, &size);
    assert_string_equal(text, "ab");
    ot_free(text);
    /* Ids that are none are left out. */
    json_array_append_new(ids, json_integer(99999));
    json_array_append_new(ids, json_integer(-5));
    decode(t, ids, true, &text, &size);
    assert_string_equal(text, "ab");
    ot_free(text);
    json_decref(ids);
    ids = json_array();
    decode(t, ids, false, &text, &size);
    assert_int_equal(size, 0);
    ot_free(text);
    json_decref(ids);
    ot_tokenizer_close(t);
}

/* One word of 400,000 letters: quadratic merging would take minutes. */
static void test_long_word(void **state) {
    (void)state;
    enum { SIZE = 400000 };
    char *word = malloc(SIZE);
    assert_non_null(word);
    for (int i = 0; i < SIZE; i++) word[i] = "thesandr"[(i * 7 + i / 11) % 8];
    for (int i = 0; i < FIXTURE_COUNT; i++) {
        char path[1024];
        fixture_path(&FIXTURES[i], FIXTURES[i].file, path);
        ot_tokenizer *t = open_or_fail(path);
        double start = ot_seconds();
        json_t *ids = encode(t, word, SIZE, false);
        assert_in_range(json_array_size(ids), SIZE / 16, SIZE + 1);
        assert_true(ot_seconds() - start < 30);
        json_decref(ids);
        ot_tokenizer_close(t);
    }
    free(word);
}

static void test_texts_beyond_limits(void **state) {
    (void)state;
    ot_tokenizer *t = open_or_fail(TEST_DATA_DIR "/tokenizer/gpt2");
    int32_t *ids = NULL;
    int64_t count = 0;
    ot_error err = {0};
    /* Refused before a byte is read. */
    assert_int_equal(ot_tokenizer_encode(t, "", (size_t)1 << 40, false, &ids, &count, &err), OT_ERR_USAGE);
    assert_non_null(strstr(err.message, "cut it"));
    ot_tokenizer_close(t);
}

/* ==== What must be refused ==== */

static void test_bad_files(void **state) {
    (void)state;
    ot_arena arena = {0};
    char **names = NULL;
    int64_t count = 0, refused = 0;
    ot_error err = {0};
    assert_int_equal(ot_list_dir(TEST_DATA_DIR "/bad/tokenizer", &arena, &names, &count, &err), OT_OK);
    for (int64_t i = 0; i < count; i++) {
        char path[1024];
        ot_tokenizer *t = NULL;
        snprintf(path, sizeof path, "%s/bad/tokenizer/%s", TEST_DATA_DIR, names[i]);
        err = (ot_error){0};
        if (strncmp(names[i], "good", 4) == 0) {
            ot_tokenizer_close(open_or_fail(path));
            continue;
        }
        ot_status status = ot_tokenizer_open(path, &t, &err);
        if (status == OT_OK) fail_msg("%s was not refused", names[i]);
        if (strstr(err.message, names[i]) == NULL) fail_msg("%s: the message does not name the file: %s", names[i], err.message);
        assert_true(status == OT_ERR_FORMAT || status == OT_ERR_UNSUPPORTED);
        assert_null(t);
        refused++;
    }
    assert_in_range(refused, 70, 1000);
    ot_arena_free(&arena);
}

typedef struct says {
    const char *name, *text;
} says;

static void test_messages(void **state) {
    (void)state;
    static const says CASES[] = {
        {"merge-unknown-result.json", "merge 0 makes \"bc\", which is not in the vocabulary"},
        {"id-twice.json", "two tokens have the id 1"},
        {"regex-intersection.json", "pre_tokenizer: a pattern has an intersection of classes (&&) at its byte 4"},
        {"normalizer-unknown.json", "normalizer: the type \"Precompiled\" is not supported"},
        {"template-unknown-token.json", "post_processor: the template's token \"<s>\" has no ids"},
        {"long-field.model", "a field longer than the file at byte 121"},
        {"unigram.model", "only sentencepiece's BPE models are supported"},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        char path[1024];
        ot_tokenizer *t = NULL;
        ot_error err = {0};
        snprintf(path, sizeof path, "%s/bad/tokenizer/%s", TEST_DATA_DIR, CASES[i].name);
        assert_int_not_equal(ot_tokenizer_open(path, &t, &err), OT_OK);
        if (strstr(err.message, CASES[i].text) == NULL) fail_msg("%s says: %s", CASES[i].name, err.message);
    }
    ot_tokenizer *t = NULL;
    ot_error err = {0};
    assert_int_equal(ot_tokenizer_open(TEST_DATA_DIR, &t, &err), OT_ERR_IO);
    assert_non_null(strstr(err.message, "put tokenizer.json, vocab.json with merges.txt, or tokenizer.model into it"));
    assert_int_not_equal(ot_tokenizer_open(TEST_DATA_DIR "/no-such-file.json", &t, &err), OT_OK);
}

/* ==== Shared golden vectors ==== */

static void test_golden(void **state) {
    (void)state;
    static const struct {
        const char *path, *vectors;
        int options;
    } CASES[] = {
        {"tokenizers/gpt2", "golden/tokenizers/gpt2.jsonl", PLAIN},
        {"tokenizers/opt", "golden/tokenizers/opt.jsonl", PLAIN},
        {"tokenizers/clip", "golden/tokenizers/clip.jsonl", PLAIN},
        {"models/stories260K/tok512.model", "golden/tokenizers/tok512.jsonl", PLAIN},
        {"golden/gguf/f32.gguf", "golden/tokenizers/tok512.jsonl", NO_SPECIAL},
        {"golden/tokenizers/smollm2", "golden/tokenizers/smollm2/vectors.jsonl", PLAIN},
        {"golden/tokenizers/qwen2", "golden/tokenizers/qwen2/vectors.jsonl", PLAIN},
        {"golden/tokenizers/llama3", "golden/tokenizers/llama3/vectors.jsonl", PLAIN},
        {"golden/tokenizers/llama2", "golden/tokenizers/llama2/vectors.jsonl", PLAIN},
        {"golden/tokenizers/llama2-legacy", "golden/tokenizers/llama2-legacy/vectors.jsonl", PLAIN},
        {"golden/tokenizers/unigram", "golden/tokenizers/unigram/vectors.jsonl", PLAIN},
    };
    if (!ot_path_is_dir(TEST_SHARED_DIR "/golden/tokenizers")) {
        print_message("skipped: no golden tokenizers under %s\n", TEST_SHARED_DIR);
        skip();
    }
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", TEST_SHARED_DIR, CASES[i].path);
        ot_tokenizer *t = open_or_fail(path);
        snprintf(path, sizeof path, "%s/%s", TEST_SHARED_DIR, CASES[i].vectors);
        assert_int_equal(check_vectors(t, path, CASES[i].options), 300);
        ot_tokenizer_close(t);
    }
}

/* llama.cpp's vectors: texts between separator lines, one line of ids for each. */
static void test_gpt2_vectors(void **state) {
    (void)state;
    static const char SEPARATOR[] = "\n__ggml_vocab_test__\n";
    const char *folder = TEST_SHARED_DIR "/tokenizers/gpt2";
    if (!ot_path_exists(TEST_SHARED_DIR "/tokenizers/gpt2/vectors.inp")) {
        print_message("skipped: no %s\n", folder);
        skip();
    }
    ot_tokenizer *t = open_or_fail(folder);
    char *texts = NULL, *answers = NULL;
    int64_t size = 0;
    int checked = 0;
    ot_error err = {0};
    assert_int_equal(ot_read_file(TEST_SHARED_DIR "/tokenizers/gpt2/vectors.inp", 1 << 20, &texts, &size, &err), OT_OK);
    assert_int_equal(ot_read_file(TEST_SHARED_DIR "/tokenizers/gpt2/vectors.out", 1 << 20, &answers, &size, &err), OT_OK);
    char *line = answers;
    for (char *text = texts, *end; (end = strstr(text, SEPARATOR)) != NULL; text = end + sizeof SEPARATOR - 1, checked++) {
        json_t *ids = encode(t, text, (size_t)(end - text), false);
        char *stop = strchr(line, '\n');
        assert_non_null(stop);
        for (size_t i = 0; i < json_array_size(ids); i++) {
            assert_int_equal(strtol(line, &line, 10), json_integer_value(json_array_get(ids, i)));
        }
        assert_int_equal(strspn(line, " "), stop - line);
        line = stop + 1;
        json_decref(ids);
    }
    assert_in_range(checked, 40, 100);
    ot_free(texts);
    ot_free(answers);
    ot_tokenizer_close(t);
}

/* A whole text is encoded and decoded without loss, quickly. */
static void test_wikitext(void **state) {
    (void)state;
    if (!ot_path_exists(TEST_SHARED_DIR "/data/text/wikitext-2-raw.test.txt")) {
        print_message("skipped: no WikiText under %s\n", TEST_SHARED_DIR);
        skip();
    }
    ot_tokenizer *t = open_or_fail(TEST_SHARED_DIR "/tokenizers/gpt2");
    char *text = NULL, *back = NULL;
    int64_t size = 0, count = 0;
    size_t back_size = 0;
    int32_t *ids = NULL;
    ot_error err = {0};
    assert_int_equal(ot_read_file(TEST_SHARED_DIR "/data/text/wikitext-2-raw.test.txt", 1 << 26, &text, &size, &err), OT_OK);
    double start = ot_seconds();
    assert_int_equal(ot_tokenizer_encode(t, text, (size_t)size, false, &ids, &count, &err), OT_OK);
    print_message("%lld bytes, %lld tokens, %.3f s\n", (long long)size, (long long)count, ot_seconds() - start);
    assert_int_equal(count, 286221);
    assert_int_equal(ot_tokenizer_decode(t, ids, count, false, &back, &back_size, &err), OT_OK);
    assert_int_equal(back_size, size);
    assert_memory_equal(back, text, (size_t)size);
    ot_free(back);
    ot_free(text);
    ot_free(ids);
    ot_tokenizer_close(t);
}

static void test_smollm2(void **state) {
    (void)state;
    const char *path = getenv("OFFSITE_SMOLLM2"), *vectors = TEST_SHARED_DIR "/golden/tokenizers/smollm2-gguf.jsonl";
    if (path == NULL || !ot_path_exists(vectors)) {
        print_message("skipped: OFFSITE_SMOLLM2 does not name SmolLM2's GGUF, or %s is absent\n", vectors);
        skip();
    }
    ot_tokenizer *t = open_or_fail(path);
    assert_int_equal(ot_tokenizer_vocab_size(t), 49152);
    assert_int_equal(check_vectors(t, vectors, PLAIN), 300);
    scratch s;
    ot_error err = {0};
    scratch_open(&s, TEST_BINARY_DIR);
    if (ot_tokenizer_write_json(t, scratch_path(&s, "tokenizer.json"), &err) != OT_OK) fail_msg("%s", err.message);
    ot_tokenizer *again = open_or_fail(s.path);
    check_vectors(again, vectors, PLAIN);
    ot_tokenizer_close(again);
    ot_tokenizer_close(t);
    scratch_close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixtures),
        cmocka_unit_test(test_written_json),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_broken_utf8),
        cmocka_unit_test(test_decoding_choices),
        cmocka_unit_test(test_long_word),
        cmocka_unit_test(test_texts_beyond_limits),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_gpt2_vectors),
        cmocka_unit_test(test_wikitext),
        cmocka_unit_test(test_smollm2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
