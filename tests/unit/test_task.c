/* Tasks: Python's text methods, literals and generator; contexts, choices and examples of every task against the recorded ones of
 * lm-evaluation-harness, where those are at hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/digest.h"
#include "base/file.h"
#include "format/json.h"
#include "task/encode.h"
#include "task/python_literal.h"
#include "task/python_random.h"
#include "task/task.h"

static ot_error err;

static void ok(ot_status status) {
    if (status != OT_OK) fail_msg("%s", err.message);
}

static void same(ot_str got, const char *wanted) {
    if (ot_str_equal(got, ot_str_of(wanted))) return;
    fail_msg("got      \"%.*s\"\nexpected \"%s\"", (int)got.size, got.text, wanted);
}

/* ==== Python's parts. ==== */

static void strips_python_space(void **state) {
    (void)state;
    same(ot_py_strip(ot_str_of(" \t\xC2\xA0\xE3\x80\x80 a b\x1C\xE2\x80\x89\n")), "a b");
    same(ot_py_rstrip(ot_str_of("x\xE2\x80\x8B")), "x\xE2\x80\x8B"); /* zero width space is none */
    same(ot_py_lstrip(ot_str_of("\n\n")), "");
    same(ot_py_rstrip(ot_str_of("")), "");
    assert_int_equal(ot_py_length(ot_str_of("a\xC3\xA9\xE2\x98\x95\xF0\x9F\x98\x80")), 4);
    assert_int_equal(ot_py_words(ot_str_of(" a  b\n")), 4);
    assert_int_equal(ot_py_words(ot_str_of("")), 1);
}

static void capitalizes(void **state) {
    (void)state;
    static const char *const pairs[][2] = {
        {"the woman", "The woman"},
        {"\xC3\xA9lise and Mr. McTAVISH", "\xC3\x89lise and mr. mctavish"},
        {"\xC3\x9F", "Ss"},
        {"\xC7\x86" "A", "\xC7\x85" "a"},                                      /* one character with a title case of its own */
        {"\xEF\xAC\x81nal", "Final"},
        {"\xCE\x9F\xCE\x94\xCE\x9F\xCE\xA3 \xCE\xA3\xCE\x91", "\xCE\x9F\xCE\xB4\xCE\xBF\xCF\x82 \xCF\x83\xCE\xB1"}, /* final sigma */
        {"X\xC4\xB0", "Xi\xCC\x87"},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        ot_arena arena = {0};
        ot_str out;
        ok(ot_py_capitalize(&arena, ot_str_of(pairs[i][0]), &out, &err));
        same(out, pairs[i][1]);
        ot_arena_free(&arena);
    }
}

static void replaces(void **state) {
    (void)state;
    ot_arena arena = {0};
    ot_str out;
    ok(ot_py_replace(&arena, ot_str_of("a   b    c"), "  ", " ", &out, &err));
    same(out, "a  b  c");
    ok(ot_py_replace(&arena, ot_str_of("aaa"), "aa", "xyz", &out, &err));
    same(out, "xyza");
    ok(ot_py_replace(&arena, ot_str_of(""), "a", "b", &out, &err));
    same(out, "");
    ot_arena_free(&arena);
}

static void reads_literals(void **state) {
    (void)state;
    json_t *value = NULL, *wanted = NULL;
    static const char text[] = " [{'a': 'it\\'s', \"b\": [1, -2.5, True, None, ()],}, 'x' \"y\" r'\\n', '\\x41\\u00e9\\101\\q\\\n', '''two\nlines'''] ";
    ok(ot_python_literal(ot_str_of(text), &value, &err));
    static const char json[] = "[{\"a\":\"it's\",\"b\":[1,-2.5,true,null,[]]},\"xy\\\\n\",\"A\\u00e9A\\\\q\",\"two\\nlines\"]";
    ok(ot_json_parse(json, sizeof json - 1, "wanted", &wanted, &err));
    assert_true(json_equal(value, wanted));
    json_decref(value);
    json_decref(wanted);
    static const char *const bad[] = {"",     "[",      "[1 2]",  "{'a' 1}",  "{1: 2}", "'abc", "'a\nb'", "f'x'", "[1] 2", "open('x')",
                                      "'\\x4'", "'\\ud800'", "99999999999999999999", "'\\N{DASH}'", "--1", "\xFF"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        value = NULL;
        assert_int_equal(ot_python_literal(ot_str_of(bad[i]), &value, &err), OT_ERR_FORMAT);
        assert_null(value);
    }
    char deep[200];
    memset(deep, '[', sizeof deep);
    assert_int_equal(ot_python_literal((ot_str){deep, sizeof deep}, &value, &err), OT_ERR_FORMAT);
}

static void draws_as_python(void **state) {
    (void)state;
    static const int64_t wanted[][2] = {{1805, 478}, {30, 371}, {143, 343}, {403, 1452}, {969, 71}};
    ot_python_random r;
    ot_python_random_seed(&r, 1234);
    assert_int_equal(ot_python_random_u32(&r), 4150886329U);
    assert_int_equal(ot_python_random_u32(&r), 3342196574U);
    ot_python_random_seed(&r, 1234);
    int64_t out[10];
    for (int i = 0; i < 5; i++) {
        ok(ot_python_random_sample(&r, 2251, 2, out, &err));
        assert_memory_equal(out, wanted[i], sizeof wanted[i]);
    }
    /* From a list: 21 rows or fewer, or 85 where more than 5 are drawn. random.Random(1234).sample(range(21), 5), then (85, 6), (86, 6). */
    static const int64_t listed[][6] = {{14, 3, 0, 2, 1}, {10, 12, 45, 30, 2, 3}, {2, 44, 82, 79, 61, 78}};
    ot_python_random_seed(&r, 1234);
    ok(ot_python_random_sample(&r, 21, 5, out, &err));
    assert_memory_equal(out, listed[0], 5 * sizeof *out);
    ok(ot_python_random_sample(&r, 85, 6, out, &err));
    assert_memory_equal(out, listed[1], 6 * sizeof *out);
    ok(ot_python_random_sample(&r, 86, 6, out, &err));
    assert_memory_equal(out, listed[2], 6 * sizeof *out);
    assert_int_equal(ot_python_random_sample(&r, 2, 3, out, &err), OT_ERR_REFUSED);
}

/* ==== Bad rows. ==== */

static ot_status render(const char *task_name, const char *text) {
    const ot_task *task = NULL;
    ot_rows rows = {0};
    ot_arena arena = {0};
    ot_task_doc doc = {0};
    ok(ot_task_find(task_name, &task, &err));
    ot_status status = ot_rows_parse(text, (int64_t)strlen(text), "rows.jsonl", &rows, &err);
    if (status == OT_OK) status = task->render(task, &rows.items[0], &arena, &doc, &err);
    ot_rows_free(&rows);
    ot_arena_free(&arena);
    return status;
}

static void names_what_is_wrong(void **state) {
    (void)state;
    static const char *const table[][3] = {
        {"piqa", "", "rows.jsonl is empty: it needs one JSON object a line"},
        {"piqa", "\n[1]\n", "rows.jsonl:2: each line must be a JSON object with the fields of one document"},
        {"piqa", "{\"goal\": 3}", "rows.jsonl:1: the field \"goal\" must be a text; it is a number"},
        {"piqa", "\n\n{\"goal\": \"g\", \"sol1\": \"a\"}", "rows.jsonl:3: the field \"sol2\" must be a text; it is missing"},
        {"piqa", "{\"goal\": \"g\", \"sol1\": \"a\", \"sol2\": \"b\", \"label\": 2}",
         "rows.jsonl:1: the field \"label\" must be a number from 0 to 1: which of the 2 choices is right"},
        {"arc_easy", "{\"question\": \"q\", \"answerKey\": \"A\", \"choices\": [\"x\"]}",
         "rows.jsonl:1: the field \"choices\" must be an object with \"text\"; it is a list"},
        {"arc_easy", "{\"question\": \"q\", \"answerKey\": \"E\", \"choices\": {\"text\": [\"x\"], \"label\": [\"A\"]}}",
         "rows.jsonl:1: \"answerKey\" is none of \"choices.label\""},
        {"arc_challenge", "\n{\"question\": \"q\", \"answerKey\": \"A\", \"choices\": {\"text\": [\"x\"], \"label\": [\"A\", \"B\"]}}",
         "rows.jsonl:2: \"choices.text\" has 1 text for the 2 of \"choices.label\""},
        {"webqs", "{\"question\": \"q\", \"answers\": []}", "rows.jsonl:1: the list \"answers\" is empty"},
        {"hellaswag", "{\"activity_label\": \"a\", \"ctx_a\": \"b\", \"ctx_b\": \"c\", \"endings\": [\"d\", null], \"label\": \"0\"}",
         "rows.jsonl:1: entry 1 of \"endings\" must be a text; it is missing"},
        {"race", "{\"article\": \"a\", \"problems\": \"[{\"}", "rows.jsonl:1: \"problems\": not a Python literal at byte 2: a dictionary's keys must be texts"},
        {"race", "{\"article\": \"a\", \"problems\": \"[{'question': 'q', 'answer': 'E', 'options': ['1','2','3','4']}]\"}",
         "rows.jsonl:1: the answer of problem 0 must be one of A, B, C, D"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        assert_int_equal(render(table[i][0], table[i][1]), OT_ERR_FORMAT);
        assert_string_equal(err.message, table[i][2]);
    }
    const ot_task *task = NULL;
    assert_int_equal(ot_task_find("arc", &task, &err), OT_ERR_USAGE);
}

/* ==== Against the records. ==== */

#define GOLDEN TEST_SHARED_DIR "/golden/eval/"

typedef struct record_file {
    const char *file, *task, *rows; /* rows: a file, or NULL: the folder of data */
    int64_t shots;
} record_file;

static const record_file record_files[] = {
    {"arc_easy.jsonl", "arc_easy", NULL, 0},
    {"arc_easy_2shot.jsonl", "arc_easy", NULL, 2},
    {"arc_challenge.jsonl", "arc_challenge", NULL, 0},
    {"openbookqa.jsonl", "openbookqa", NULL, 0},
    {"hellaswag.jsonl", "hellaswag", NULL, 0},
    {"piqa.jsonl", "piqa", NULL, 0},
    {"webqs.jsonl", "webqs", NULL, 0},
    {"arc_easy_made.jsonl", "arc_easy", GOLDEN "made/arc_easy.jsonl", 0},
    {"openbookqa_made.jsonl", "openbookqa", GOLDEN "made/openbookqa.jsonl", 0},
    {"hellaswag_made.jsonl", "hellaswag", GOLDEN "made/hellaswag.jsonl", 0},
    {"webqs_made.jsonl", "webqs", GOLDEN "made/webqs.jsonl", 0},
    {"sciq_made.jsonl", "sciq", GOLDEN "made/sciq.jsonl", 0},
    {"race_made.jsonl", "race", GOLDEN "made/race.jsonl", 0},
};

static void open_set(const char *name, const char *rows, int64_t shots, ot_task_set **set) {
    static const char *const folders[] = {TEST_SHARED_DIR "/data/qa", TEST_SHARED_DIR "/data/text"};
    const ot_task *task = NULL;
    ot_task_set_options options = {.folders = folders, .n_folders = 2, .file = rows, .shots = shots};
    ok(ot_task_find(name, &task, &err));
    ok(ot_task_set_open(task, &options, set, &err));
}

static void same_ids(const json_t *wanted, const int32_t *ids, int64_t n) {
    assert_int_equal(json_array_size(wanted), n);
    for (int64_t i = 0; i < n; i++) assert_int_equal(json_integer_value(json_array_get(wanted, (size_t)i)), ids[i]);
}

static void check_document(const ot_encoder *e, ot_task_set *set, const json_t *record) {
    ot_arena arena = {0};
    ot_task_doc doc;
    ot_encoded *pairs = NULL;
    const json_t *choices = json_object_get(record, "choices"), *gold = json_object_get(record, "gold");
    ok(ot_task_set_doc(set, json_integer_value(json_object_get(record, "doc")), &arena, &doc, &err));
    assert_int_equal(doc.n_choices, json_array_size(choices));
    assert_int_equal(doc.gold, json_is_array(gold) ? OT_GOLD_ALL : json_integer_value(gold));
    if (e != NULL) ok(ot_encode_choices(e, &doc, &arena, &pairs, &err));
    for (int64_t i = 0; i < doc.n_choices; i++) {
        const json_t *choice = json_array_get(choices, (size_t)i);
        ot_str continuation;
        ok(ot_task_continuation(&doc, i, &arena, &continuation, &err));
        same(doc.context, json_string_value(json_object_get(choice, "context")));
        same(continuation, json_string_value(json_object_get(choice, "continuation")));
        if (e == NULL) continue;
        same_ids(json_object_get(choice, "context_ids"), pairs[i].ids, pairs[i].n_context);
        same_ids(json_object_get(choice, "continuation_ids"), pairs[i].ids + pairs[i].n_context, pairs[i].n_continuation);
    }
    ot_arena_free(&arena);
}

static bool absent(void) {
    if (ot_path_exists(GOLDEN "arc_easy.jsonl")) return false;
    print_message("skipped: %s is not there\n", GOLDEN);
    return true;
}

static void agrees_with_records(void **state) {
    (void)state;
    if (absent()) skip();
    ot_tokenizer *tokenizer = NULL;
    ot_encoder encoder = {0};
    const char *smol = getenv("OFFSITE_TEST_SMOL");
    bool ids = smol != NULL;
    if (ids) {
        ok(ot_tokenizer_open(smol, &tokenizer, &err));
        ok(ot_encoder_open(tokenizer, &encoder, &err));
    } else {
        print_message("ids are not compared: OFFSITE_TEST_SMOL does not name SmolLM2-135M-Instruct's GGUF\n");
    }
    for (size_t f = 0; f < sizeof record_files / sizeof *record_files; f++) {
        char path[4096];
        ot_rows records;
        ot_task_set *set = NULL;
        snprintf(path, sizeof path, GOLDEN "%s", record_files[f].file);
        ok(ot_rows_read(path, &records, &err));
        open_set(record_files[f].task, record_files[f].rows, record_files[f].shots, &set);
        for (int64_t i = 0; i < records.count; i++) check_document(ids ? &encoder : NULL, set, records.items[i].value);
        ot_task_set_close(set);
        ot_rows_free(&records);
    }
    ot_encoder_close(&encoder);
    ot_tokenizer_close(tokenizer);
}

static void draws_recorded_examples(void **state) {
    (void)state;
    if (absent()) skip();
    ot_rows records;
    ok(ot_rows_read(GOLDEN "fewshot.jsonl", &records, &err));
    for (int64_t i = 0; i < records.count; i++) {
        const json_t *record = records.items[i].value;
        ot_task_set *set = NULL;
        ot_arena arena = {0};
        ot_task_doc doc;
        open_set(json_string_value(json_object_get(record, "task")), NULL, 3, &set);
        ok(ot_task_set_doc(set, json_integer_value(json_object_get(record, "doc")), &arena, &doc, &err));
        same(doc.context, json_string_value(json_object_get(record, "context")));
        ot_arena_free(&arena);
        ot_task_set_close(set);
    }
    ot_rows_free(&records);
}

static void cuts_wikitext_as_recorded(void **state) {
    (void)state;
    if (absent()) skip();
    ot_rows records;
    ot_task_set *set = NULL;
    ok(ot_rows_read(GOLDEN "pages.jsonl", &records, &err));
    open_set("wikitext", NULL, 0, &set);
    assert_int_equal(ot_task_set_count(set), records.count);
    for (int64_t i = 0; i < records.count; i++) {
        ot_arena arena = {0};
        ot_task_doc doc;
        const json_t *record = records.items[i].value;
        ok(ot_task_set_doc(set, i, &arena, &doc, &err));
        char digest[OT_DIGEST_TEXT];
        ot_digest_of(doc.page.text, doc.page.size, digest);
        assert_string_equal(digest, json_string_value(json_object_get(record, "sha256")));
        assert_int_equal(doc.words, json_integer_value(json_object_get(record, "words")));
        assert_int_equal(doc.bytes, json_integer_value(json_object_get(record, "bytes")));
        ot_arena_free(&arena);
    }
    ot_task_set_close(set);
    ot_rows_free(&records);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strips_python_space),   cmocka_unit_test(capitalizes),         cmocka_unit_test(replaces),
        cmocka_unit_test(reads_literals),        cmocka_unit_test(draws_as_python),     cmocka_unit_test(names_what_is_wrong),
        cmocka_unit_test(agrees_with_records),   cmocka_unit_test(draws_recorded_examples), cmocka_unit_test(cuts_wikitext_as_recorded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
