/* Examples from files: shapes told by content, what of them is learnt, what is left out, and packed files. */
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
#include "support/scratch.h"
#include "support/tiny.h"
#include "train/dataset.h"

/* GPT-2's own: the committed ones know too few words. */
#define TOKENIZER TEST_SHARED_DIR "/tokenizers/gpt2"

typedef struct fixture {
    scratch s;
    ot_data_options o;
    ot_dataset d;
    ot_data_report report;
    ot_error err;
} fixture;

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    scratch_open(&f->s, TEST_BINARY_DIR);
    f->o = (ot_data_options){.tokenizer_path = TOKENIZER, .block = 64, .vocab = 100000};
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    ot_dataset_free(&f->d);
    scratch_close(&f->s);
    free(f);
    return 0;
}

static ot_status read_file(fixture *f, const char *path) {
    ot_dataset_free(&f->d);
    f->report = (ot_data_report){0};
    return ot_dataset_read(&path, 1, &f->o, &f->d, &f->report, &f->err);
}

static ot_status read_text(fixture *f, const char *name, const char *text) {
    const char *path = scratch_path(&f->s, name);
    tiny_text(path, text);
    return read_file(f, path);
}

static void must(fixture *f, ot_status status) {
    if (status != OT_OK) fail_msg("%s", f->err.message);
}

static void refused(fixture *f, ot_status status, ot_status code, const char *part) {
    if (status != code || strstr(f->err.message, part) == NULL) fail_msg("wanted %s, got %s: %s", part, ot_status_name(status), f->err.message);
    assert_null(f->d.ids);
}

/* The text of row r's tokens, with those to be predicted in brackets; valid until the next call. */
static const char *shown(const fixture *f, int64_t r) {
    static char text[4096];
    ot_tokenizer *t = NULL;
    ot_error err = {0};
    assert_int_equal(ot_tokenizer_open(TOKENIZER, &t, &err), OT_OK);
    size_t used = 0;
    int64_t from = ot_dataset_start(&f->d, r), to = ot_dataset_start(&f->d, r + 1);
    bool open = false;
    for (int64_t i = from; i < to; i++) {
        bool learnt = i > from && f->d.targets[i - 1] >= 0;
        if (learnt) assert_int_equal(f->d.targets[i - 1], f->d.ids[i]);
        if (learnt != open) text[used++] = learnt ? '[' : ']';
        open = learnt;
        used += ot_tokenizer_piece(t, f->d.ids[i], text + used, sizeof text - used - 3);
    }
    if (open) text[used++] = ']';
    text[used] = '\0';
    ot_tokenizer_close(t);
    return text;
}

/* ==== Shapes. ==== */

static void texts_are_learnt_whole_and_cut_into_pieces(void **state) {
    fixture *f = *state;
    must(f, read_text(f, "a.jsonl", "{\"text\": \"The owner\"}\n\n{\"text\": \"of a model\", \"id\": 3}\n"));
    assert_string_equal(f->report.shape, "text");
    assert_int_equal(f->d.rows, 2);
    assert_string_equal(shown(f, 0), "The[ owner<|endoftext|>]");
    assert_string_equal(shown(f, 1), "of[ a model<|endoftext|>]");
    f->o.no_end = true;
    must(f, read_text(f, "a.jsonl", "{\"text\": \"The owner\"}\n"));
    assert_string_equal(shown(f, 0), "The[ owner]");
    f->o.block = 3;
    must(f, read_text(f, "a.jsonl", "{\"text\": \"one two three four five six seven\"}\n"));
    assert_int_equal(f->d.rows, 2); /* the seventh alone predicts nothing */
    assert_int_equal(f->d.length, 3);
    assert_int_equal(f->report.split, 1);
    assert_string_equal(shown(f, 1), " four[ five six]");
}

static void completions_are_learnt(void **state) {
    fixture *f = *state;
    static const char rows[] = "{\"prompt\": \"Q: one?\\nA:\", \"completion\": \" two three\"}\n{\"completion\": \"b\", \"prompt\": \"A\"}\n";
    must(f, read_text(f, "a.jsonl", rows));
    assert_string_equal(f->report.shape, "prompt/completion");
    assert_string_equal(shown(f, 0), "Q: one?\nA:[ two three<|endoftext|>]");
    /* "Ab" is one token: it holds a part of the completion. */
    assert_string_equal(shown(f, 1), "Ab[<|endoftext|>]");
    f->o.train_all = true;
    must(f, read_text(f, "a.jsonl", rows));
    assert_string_equal(shown(f, 0), "Q[: one?\nA: two three<|endoftext|>]");
    f->o.train_all = false;
    f->o.map = (const char *const[]){"prompt=ask", "completion=say"};
    f->o.n_map = 2;
    must(f, read_text(f, "b.dat", "{\"ask\": \"Q: one?\\nA:\", \"say\": \" two\"}\n"));
    assert_string_equal(shown(f, 0), "Q: one?\nA:[ two<|endoftext|>]");
    f->o.map = (const char *const[]){"prompts=ask"};
    f->o.n_map = 1;
    refused(f, read_file(f, f->s.path), OT_ERR_USAGE, "--map: \"prompts=ask\"");
}

static void the_assistants_turns_are_learnt(void **state) {
    fixture *f = *state;
    static const char rows[] = "{\"messages\": [{\"role\": \"system\", \"content\": \"Be brief.\"}, {\"role\": \"user\", \"content\": \"One?\"}, {\"role\": "
                               "\"assistant\", \"content\": \"Two.\"}, {\"role\": \"user\", \"content\": \"More?\"}, {\"role\": \"assistant\", \"content\": "
                               "\"\\nThree.\"}]}\n";
    f->o.chat_template = "zephyr";
    must(f, read_text(f, "a.jsonl", rows));
    assert_string_equal(f->report.shape, "messages");
    assert_string_equal(f->report.detail, "zephyr");
    assert_string_equal(shown(f, 0), "<|system|>\nBe brief.<|endoftext|>\n<|user|>\nOne?<|endoftext|>\n<|assistant|>\n[Two.<|endoftext|>]\n<|user|>\nMore?"
                                     "<|endoftext|>\n<|assistant|>\n[\nThree.<|endoftext|>]\n");
    f->o.chat_template = NULL;
    refused(f, read_file(f, f->s.path), OT_ERR_REFUSED, "has no chat template");
    f->o.chat_template = "alpaca";
    refused(f, read_file(f, f->s.path), OT_ERR_USAGE, "no template \"alpaca\"");
    /* Also where nothing asks for a template. */
    refused(f, read_text(f, "a.txt", "plain text\n"), OT_ERR_USAGE, "no template \"alpaca\"");
}

static void task_rows_are_rendered_as_evaluation_scores_them(void **state) {
    fixture *f = *state;
    static const char arc[] = "{\"id\": \"x\", \"question\": \"What is wet?\", \"choices\": {\"text\": [\"fire\", \"water\"], \"label\": [\"A\", \"B\"]}, "
                              "\"answerKey\": \"B\"}\n";
    must(f, read_text(f, "arc_challenge.train.jsonl", arc));
    assert_string_equal(f->report.shape, "task rows");
    assert_string_equal(shown(f, 0), "Question: What is wet?\nAnswer:[ water]");
    f->o.task = "arc_challenge";
    must(f, read_file(f, f->s.path));
    assert_string_equal(f->report.detail, "arc_challenge");
    assert_string_equal(shown(f, 0), "Question: What is wet?\nAnswer:[ water]");
    f->o.task = "piqa";
    refused(f, read_file(f, f->s.path), OT_ERR_FORMAT, "are not those of the task piqa");
    f->o.task = "wikitext";
    refused(f, read_file(f, f->s.path), OT_ERR_USAGE, "has no answers to learn");
    f->o.task = NULL;
    must(f, read_text(f, "p.jsonl", "{\"goal\": \"Dry it\", \"sol1\": \"in the sun\", \"sol2\": \"in water\", \"label\": 0}\n"));
    assert_string_equal(shown(f, 0), "Question: Dry it\nAnswer:[ in the sun]");
    must(f, read_text(f, "w.jsonl", "{\"question\": \"who?\", \"answers\": [\"b\", \"a\"]}\n"));
    assert_string_equal(shown(f, 0), "Question: who?\nAnswer:[ a]");
    /* What is too long loses its start: the answer stays. */
    f->o.block = 4;
    must(f, read_text(f, "a.jsonl", arc));
    assert_string_equal(shown(f, 0), "\nAnswer:[ water]");
    assert_int_equal(f->report.truncated, 1);
}

/* ==== What cannot be used. ==== */

static void bad_rows_are_counted_and_left_out(void **state) {
    fixture *f = *state;
    static const char rows[] = "{\"text\": \"fine text\"}\n{\"text\": 3}\n\n[1]\n{\"text\": \"a\", \"text\": \"b\"}\n{\"txt\": \"x\"}\n{\"text\": \"cut";
    must(f, read_text(f, "a.jsonl", rows));
    assert_int_equal(f->d.rows, 1);
    assert_int_equal(f->report.rows, 6);
    assert_int_equal(f->report.bad, 5);
    assert_int_equal(f->report.shown[0].line, 2);
    assert_string_equal(f->report.shown[0].why, "\"text\" must be a text");
    assert_int_equal(f->report.shown[1].line, 4);
    assert_int_equal(f->report.shown[2].line, 5);
    f->o.strict = true;
    refused(f, read_file(f, f->s.path), OT_ERR_FORMAT, "a.jsonl:2: \"text\" must be a text");
    f->o.strict = false;
    refused(f, read_text(f, "b.jsonl", "{\"txt\": \"x\"}\n{}\n"), OT_ERR_FORMAT, "none of its 2 rows can be used; line 1: the keys \"txt\" fit no known shape");
    refused(f, read_text(f, "c.jsonl", "\n \n"), OT_ERR_FORMAT, "is empty");
    f->o.vocab = 100;
    refused(f, read_text(f, "d.jsonl", "{\"text\": \"some words\"}\n"), OT_ERR_REFUSED, "do not belong together");
}

static void completions_beyond_the_block_are_left_out(void **state) {
    fixture *f = *state;
    f->o.block = 4;
    must(f, read_text(f, "a.jsonl", "{\"prompt\": \"one two three four five\", \"completion\": \" six\"}\n{\"prompt\": \"one two\", \"completion\": \" three "
                                    "four five\"}\n"));
    assert_int_equal(f->d.rows, 1);
    assert_int_equal(f->report.empty, 1);
    assert_int_equal(f->report.truncated, 2);
    assert_string_equal(shown(f, 0), "one two[ three four]");
}

/* A first line that is no object, and text that merely begins with a brace, are text. */
static void text_stays_text(void **state) {
    fixture *f = *state;
    f->o.block = 4;
    must(f, read_text(f, "a.txt", "{ this is no JSON but text that begins with a brace }\n"));
    assert_string_equal(f->report.shape, "plain text");
    assert_true(f->d.text_tokens > 8);
    must(f, read_text(f, "b.txt", "12\n{\"text\": \"x\"} and more of it\n"));
    assert_string_equal(f->report.shape, "plain text");
}

/* ==== Packed files, several files. ==== */

static void write_gzip(const char *path, const char *first, const char *second) {
    for (int i = 0; i < 2; i++) {
        gzFile z = gzopen(path, i == 0 ? "wb" : "ab");
        assert_non_null(z);
        assert_true(gzputs(z, i == 0 ? first : second) > 0);
        assert_int_equal(gzclose(z), Z_OK);
    }
}

static void write_bytes(const char *path, const void *data, size_t size) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void packed_files_are_unpacked(void **state) {
    fixture *f = *state;
    static const char a[] = "{\"text\": \"The owner\"}\n", b[] = "{\"text\": \"of a model\"}\n";
    const char *path = scratch_path(&f->s, "rows.gz");
    write_gzip(path, a, b);
    must(f, read_file(f, path));
    assert_string_equal(f->report.packing, "gzip");
    assert_int_equal(f->d.rows, 2);
    int64_t size = 0;
    char *bytes = tiny_read(path, &size);
    write_bytes(path, bytes, (size_t)size - 9);
    free(bytes);
    refused(f, read_file(f, path), OT_ERR_FORMAT, "the gzip data end early");
    char packed[256];
    size_t n = ZSTD_compress(packed, sizeof packed, b, sizeof b - 1, 3);
    assert_false(ZSTD_isError(n));
    path = scratch_path(&f->s, "rows.jsonl.zst");
    write_bytes(path, packed, n);
    must(f, read_file(f, path));
    assert_string_equal(f->report.packing, "zstd");
    assert_string_equal(shown(f, 0), "of[ a model<|endoftext|>]");
    write_bytes(path, packed, n - 1);
    refused(f, read_file(f, path), OT_ERR_FORMAT, "the zstd data end early");
    /* Too short to be known by its content, it is known by its name; under another name it is a text. */
    for (size_t few = 1; few < 4; few++) {
        char wanted[64];
        snprintf(wanted, sizeof wanted, "the zstd data end early, at byte %zu: the file was cut off", few);
        write_bytes(path, packed, few);
        refused(f, read_file(f, path), OT_ERR_FORMAT, wanted);
    }
    path = scratch_path(&f->s, "rows.jsonl.gz");
    for (size_t few = 1; few < 4; few++) {
        write_bytes(path, "\x1F\x8B\x08", few);
        refused(f, read_file(f, path), OT_ERR_FORMAT, "the gzip data end early");
    }
    ot_input text = {0};
    path = scratch_path(&f->s, "paren.zst");
    write_bytes(path, "(a", 2);
    assert_int_equal(ot_input_open(path, 1 << 20, &text, &f->err), OT_OK);
    assert_int_equal(text.size, 2);
    ot_input_close(&text);
    packed[n / 2] ^= 0x55;
    packed[n / 2 + 1] ^= 0x55;
    path = scratch_path(&f->s, "rows.jsonl.zst");
    write_bytes(path, packed, n);
    assert_int_not_equal(read_file(f, path), OT_OK);
    /* A limit holds against files that grow out of all proportion. */
    ot_input in = {0};
    static char zeros[4 << 20];
    static char small[4096];
    n = ZSTD_compress(small, sizeof small, zeros, sizeof zeros, 3);
    assert_false(ZSTD_isError(n));
    assert_int_equal(ot_input_from(small, (int64_t)n, "bomb", 1 << 20, &in, &f->err), OT_ERR_REFUSED);
    assert_int_equal(ot_input_from(small, (int64_t)n, "bomb", 4 << 20, &in, &f->err), OT_OK);
    assert_int_equal(in.size, 4 << 20);
    ot_input_close(&in);
}

static void files_of_all_shapes_come_one_after_another(void **state) {
    fixture *f = *state;
    char a[600], b[600], c[600];
    static const int64_t ids[] = {5, 6, 7, 8, 9, 10}, mask[] = {1, 1, 0, 1, 1, 1};
    const ot_tensor tensors[] = {tiny_i64("input_ids", ids, 2, 3), tiny_i64("attention_mask", mask, 2, 3)};
    snprintf(a, sizeof a, "%s", scratch_path(&f->s, "a.jsonl"));
    snprintf(b, sizeof b, "%s", scratch_path(&f->s, "b.safetensors"));
    snprintf(c, sizeof c, "%s", scratch_path(&f->s, "c.txt"));
    tiny_text(a, "{\"text\": \"The owner of\"}\n");
    tiny_write(b, tensors, 2);
    tiny_text(c, "one two three four five");
    f->o.block = 4;
    const char *paths[] = {a, b, c};
    ot_data_report reports[3] = {0};
    must(f, ot_dataset_read(paths, 3, &f->o, &f->d, reports, &f->err));
    assert_int_equal(f->d.rows, 4);
    assert_string_equal(reports[1].shape, "token ids");
    assert_string_equal(reports[2].shape, "plain text");
    static const int64_t starts[] = {0, 4, 7, 10, 14};
    assert_memory_equal(f->d.starts, starts, sizeof starts);
    for (int64_t i = 0; i < 14; i++) assert_int_equal(f->d.mask[i], i != 6);
    assert_int_equal(f->d.tokens, 13);
    assert_int_equal(reports[0].learnt + reports[1].learnt + reports[2].learnt, ot_dataset_targets(&f->d));
    ot_dataset_free(&f->d);
    f->o.limit = 2;
    must(f, ot_dataset_read(paths, 3, &f->o, &f->d, NULL, &f->err));
    assert_int_equal(f->d.rows, 2);
}

/* ==== Packing. ==== */

static void packing_keeps_every_example_whole(void **state) {
    fixture *f = *state;
    char text[8192] = "";
    for (int i = 0; i < 60; i++) {
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "{\"text\": \"%d%.*s\"}\n", i + 100, (i * 7) % 40, " one two three four five six seven eight nine ten");
    }
    for (int shuffle = 0; shuffle < 2; shuffle++) {
        must(f, read_text(f, "a.jsonl", text));
        ot_dataset plain = f->d;
        f->d = (ot_dataset){0};
        must(f, read_file(f, f->s.path));
        must(f, ot_dataset_pack(&f->d, 24, shuffle != 0, 5, &f->err));
        assert_int_equal(f->d.examples, plain.examples);
        assert_true(f->d.rows < plain.rows);
        assert_int_equal(ot_dataset_targets(&f->d), ot_dataset_targets(&plain));
        assert_in_range(f->d.length, 20, 24);
        assert_true(ot_dataset_most_examples(&f->d) > 2);
        bool seen[60] = {false};
        for (int64_t e = 0; e < 60; e++) {
            int64_t at = ot_dataset_start(&f->d, e), n = ot_dataset_start(&f->d, e + 1) - at, same = -1;
            for (int64_t p = 0; p < 60; p++) {
                int64_t from = ot_dataset_start(&plain, p);
                if (ot_dataset_start(&plain, p + 1) - from == n && memcmp(plain.ids + from, f->d.ids + at, (size_t)n * 4) == 0 && !seen[p]) same = p;
            }
            assert_in_range(same, 0, 59);
            if (shuffle == 0) assert_int_equal(same, e);
            seen[same] = true;
            assert_memory_equal(plain.targets + ot_dataset_start(&plain, same), f->d.targets + at, (size_t)n * 4);
        }
        for (int64_t r = 0; r < f->d.rows; r++) {
            int32_t counted = 0;
            for (int64_t i = ot_dataset_start(&f->d, f->d.packs[r]); i < ot_dataset_start(&f->d, f->d.packs[r + 1]); i++) counted += f->d.targets[i] >= 0;
            assert_int_equal(counted, f->d.counted[r]);
        }
        ot_dataset_free(&plain);
    }
}

int main(void) {
    if (!ot_path_exists(TOKENIZER)) {
        printf("skipped: needs GPT-2's tokenizer at %s\n", TOKENIZER);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(texts_are_learnt_whole_and_cut_into_pieces, setup, teardown),
        cmocka_unit_test_setup_teardown(completions_are_learnt, setup, teardown),
        cmocka_unit_test_setup_teardown(the_assistants_turns_are_learnt, setup, teardown),
        cmocka_unit_test_setup_teardown(task_rows_are_rendered_as_evaluation_scores_them, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_rows_are_counted_and_left_out, setup, teardown),
        cmocka_unit_test_setup_teardown(completions_beyond_the_block_are_left_out, setup, teardown),
        cmocka_unit_test_setup_teardown(text_stays_text, setup, teardown),
        cmocka_unit_test_setup_teardown(packed_files_are_unpacked, setup, teardown),
        cmocka_unit_test_setup_teardown(files_of_all_shapes_come_one_after_another, setup, teardown),
        cmocka_unit_test_setup_teardown(packing_keeps_every_example_whole, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
