/* Tasks of the user's own: what the hand-made task files and rows are refused with, or give; where rows come from; Python's
 * floats. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "task/own.h"

#define FOLDER TEST_DATA_DIR "/bad/task"

static ot_error err;

/* How the message of a file begins; files that are not here are good. */
static const struct {
    const char *name, *words;
} refusals[] = {
    {"choice-empty", "task.yaml:5: 'doc_to_choice' must have 1 to 4096 texts"},
    {"choice-nested", "task.yaml:5: 'doc_to_choice' must be one text"},
    {"empty", "task.yaml:1: the key 'task' is missing: the task's name"},
    {"fewshot-key", "task.yaml:7: 'fewshot_config' has the keys sampler and split here, not 'samples'"},
    {"files-key", "task.yaml:7: 'dataset_kwargs' has the key data_files here, not 'streaming'"},
    {"files-text", "task.yaml:7: 'data_files' must name a file for each split: test: rows.jsonl"},
    {"filter-misplaced", "task.yaml:7: 'filter_list' means nothing without output_type: generate_until"},
    {"filter-regex", "task.yaml:6: each step of a 'filter' must be a 'function' without other keys"},
    {"filter-two", "task.yaml:6: 'filter_list' must be a list of one filter"},
    {"filter-unknown", "task.yaml:6: there is no filter 'uppercase' here (known: remove_whitespace, lowercase, take_first)"},
    {"generation-key",
     "task.yaml:6: 'generation_kwargs' has the keys until, max_gen_toks, do_sample and temperature here, not 'top_p'"},
    {"generation-long", "task.yaml:6: 'max_gen_toks' must be a whole number from 1 to 65536"},
    {"generation-misplaced", "task.yaml:7: 'generation_kwargs' means nothing without output_type: generate_until"},
    {"generation-sampled", "task.yaml:6: 'do_sample' must be false: answers are decoded greedily"},
    {"generation-warm", "task.yaml:6: 'temperature' must be 0: answers are decoded greedily"},
    {"key-python", "task.yaml:7: the harness's key 'process_docs' is not supported: a task is one file without Python"},
    {"key-unknown", "task.yaml:7: a task file has no key 'doc_to_txt' (docs/evaluation.md lists them)"},
    {"kind-unknown",
     "task.yaml:3: 'output_type' must be multiple_choice, generate_until, loglikelihood or loglikelihood_rolling"},
    {"list", "task.yaml:1: a task file holds lines 'key: value'"},
    {"metric-aggregation",
     "task.yaml:7: 'aggregation' must be mean (perplexity, weighted_perplexity and bits_per_byte for perplexities)"},
    {"metric-key", "task.yaml:7: a metric has no key 'hf_evaluate' here"},
    {"metric-nameless", "task.yaml:7: each entry of 'metric_list' needs a 'metric'"},
    {"metric-no-list", "task.yaml:7: 'metric_list' must be a list of metrics"},
    {"metric-other-kind",
     "task.yaml:7: there is no metric 'word_perplexity' for this output_type (known: acc, acc_norm, acc_bytes, exact"},
    {"metric-unknown",
     "task.yaml:7: there is no metric 'f1' for this output_type (known: acc, acc_norm, acc_bytes, exact_match)"},
    {"name-path", "task.yaml:1: 'task' must be a name of letters, digits, '_', '-' and '.', because files are named after it"},
    {"no-choice", "task.yaml:1: the key 'doc_to_choice' is missing: the answers to choose from"},
    {"no-split", "task.yaml:1: 'test_split' or 'validation_split' must say what is scored"},
    {"no-target", "task.yaml:1: the key 'doc_to_target' is missing: the right answer"},
    {"no-task", "task.yaml:1: the key 'task' is missing: the task's name"},
    {"no-text", "task.yaml:1: the key 'doc_to_text' is missing: what the model is asked"},
    {"number-without-choices", "task.yaml:1: 'doc_to_target' is a number, but there is no 'doc_to_choice' for it to count in"},
    {"pages-choice", "task.yaml:1: 'doc_to_choice' means nothing with loglikelihood_rolling"},
    {"repeats", "task.yaml:7: 'repeats' must be 1"},
    {"row-adds-list", "rows.jsonl:1: the template adds a list and a number"},
    {"row-choices-empty", "rows.jsonl:1: doc_to_choice must give a list of texts, with one at least"},
    {"row-choices-numbers", "rows.jsonl:1: doc_to_choice must give a list of texts; entry 0 is none"},
    {"row-choices-text", "rows.jsonl:1: doc_to_choice must give a list of texts, with one at least"},
    {"row-entry-large", "rows.jsonl:1: the template takes entry 5 of a list of 2"},
    {"row-entry-of-text", "rows.jsonl:1: the template takes an entry of a text by a number"},
    {"row-first-of-nothing", "rows.jsonl:1: the template asks for the first entry of an empty list"},
    {"row-gold-large", "rows.jsonl:1: doc_to_target gives 2, but there are 2 choices, counted from 0"},
    {"row-gold-other", "rows.jsonl:1: doc_to_target gives \"z\", which is none of the choices"},
    {"row-golds-large", "rows.jsonl:1: doc_to_target gives 2, but there are 2 choices, counted from 0"},
    {"row-golds-no-list", "rows.jsonl:1: doc_to_target gives \"[one?]\", which is no list of numbers"},
    {"row-golds-none", "rows.jsonl:1: doc_to_target gives an empty list: no choice would be right"},
    {"row-golds-text", "rows.jsonl:1: doc_to_target gives a list whose entry 0 is no whole number"},
    {"row-golds-write", "rows.jsonl:1: doc_to_target must give one of the choices with generate_until"},
    {"row-index-missing", "rows.jsonl:1: \"z\" is not in the list that the template looks through"},
    {"row-member-missing", "rows.jsonl:1: an object has no \"x\""},
    {"row-member-of-text", "rows.jsonl:1: a text has no \"x\""},
    {"row-no-field", "rows.jsonl:1: the field \"q\" is missing"},
    {"row-no-named-field", "rows.jsonl:1: the field \"question\" that doc_to_text names is missing"},
    {"row-not-json", "rows.jsonl:1: not valid JSON at byte 1 (line 1, column 1): string or '}' expected near end of file"},
    {"row-not-object", "rows.jsonl:1: each line must be a JSON object with the fields of one document"},
    {"row-replaces-number", "rows.jsonl:1: the template's replace needs two texts, the first not empty"},
    {"row-slice-at-text", "rows.jsonl:1: the template cuts a list at a text"},
    {"row-slice-of-text", "rows.jsonl:1: the template cuts a text; it can cut lists"},
    {"row-split-at-nothing", "rows.jsonl:1: the template's split needs a text that is not empty"},
    {"row-strips-number", "rows.jsonl:1: the template asks for strip of a number; it needs a text"},
    {"row-sum-large", "rows.jsonl:1: a number of the template is too large"},
    {"sampler-unknown", "task.yaml:7: 'sampler' must be default or first_n"},
    {"shots-many", "task.yaml:7: 'num_fewshot' must be a whole number from 0 to 1024"},
    {"shots-text", "task.yaml:7: 'num_fewshot' must be a whole number from 0 to 1024"},
    {"table-arc_easy", "rows.jsonl:2: the field \"choices\" must be an object with \"text\"; it is a list"},
    {"table-hellaswag", "rows.jsonl:2: the list \"endings\" is empty"},
    {"table-none",
     "there is no task \"arc\" (known: openbookqa, piqa, arc_easy, arc_challenge, hellaswag, sciq, webqs, race, wikite"},
    {"table-piqa", "rows.jsonl:2: the field \"label\" must be a number from 0 to 1: which of the 2 choices is right"},
    {"table-race", "rows.jsonl:2: problem 0 must have the texts \"question\" and \"answer\" and four \"options\""},
    {"table-sciq", "rows.jsonl:2: the field \"question\" must be a text; it is missing"},
    {"table-webqs", "rows.jsonl:2: the list \"answers\" is empty"},
    {"table-wikitext", "rows.jsonl:3: the field \"page\" must be a text; it is a number"},
    {"tag-function", "task.yaml:7: tags such as !function are not supported: write the value itself"},
    {"target-choice", "task.yaml:1: 'doc_to_choice' means nothing with loglikelihood"},
    {"template-and",
     "task.yaml:4: doc_to_text: the else of a condition is missing, at byte 14 of \"{{ 'a' if yes and n else 'b' }}\""},
    {"template-arguments",
     "task.yaml:4: doc_to_text: a call with too few or too many arguments, at byte 17 of \"{{ q.replace('a') }}\""},
    {"template-call",
     "task.yaml:4: doc_to_text: this is not understood in {{ }}: fields, members, entries, + and -, methods, filters"},
    {"template-comment", "task.yaml:4: doc_to_text: comments ({# #}) are not supported, at byte 0 of \"{# a #}\""},
    {"template-condition", "task.yaml:4: doc_to_text: the else of a condition is missing, at byte 14 of \"{{ 'a' if yes }}\""},
    {"template-control", "task.yaml:4: doc_to_text: white space control ({{-) is not supported, at byte 2 of \"{{- q }}\""},
    {"template-deep",
     "task.yaml:4: doc_to_text: an expression is nested too deeply, at byte 35 of \"{{ (((((((((((((((((((((((((((((("},
    {"template-empty", "task.yaml:4: doc_to_text: the name of a field is missing, at byte 3 of \"{{ }}\""},
    {"template-escape",
     "task.yaml:4: doc_to_text: an escape other than \\n, \\t, \\\\ and quotes, at byte 5 of \"{{ '\\x41' }}\""},
    {"template-field-if",
     "task.yaml:4: doc_to_text: a word of Python where a field is expected: only A if B else C, == and != are suppor"},
    {"template-filter",
     "task.yaml:4: doc_to_text: there is no filter upper (known: trim lower capitalize replace join length first las"},
    {"template-list-open", "task.yaml:4: doc_to_text: a list is not closed, at byte 9 of \"{{ [q, n }}\""},
    {"template-long",
     "task.yaml:4: doc_to_text: an expression is too long, at byte 137 of \"{{ n + n + n + n + n + n + n + n + n + n "},
    {"template-method",
     "task.yaml:4: doc_to_text: there is no method title (known: split strip lstrip rstrip lower capitalize replace "},
    {"template-open",
     "task.yaml:4: doc_to_text: this is not understood in {{ }}: fields, members, entries, + and -, methods, filters"},
    {"template-real", "task.yaml:4: doc_to_text: only whole numbers are supported, at byte 3 of \"{{ 1.5 }}\""},
    {"template-slice", "task.yaml:4: doc_to_text: an index is not closed, at byte 8 of \"{{ c[0:1:2] }}\""},
    {"template-statement",
     "task.yaml:4: doc_to_text: statements ({% %}) are not supported: prepare the field in the rows, at byte 0 of \"{"},
    {"template-text-open", "task.yaml:4: doc_to_text: a text in an expression does not end, at byte 8 of \"{{ 'a }}\""},
    {"template-times",
     "task.yaml:4: doc_to_text: this is not understood in {{ }}: fields, members, entries, + and -, methods, filters"},
    {"text-list", "task.yaml:4: 'doc_to_text' must be one text"},
};

static void ok(ot_status status) {
    if (status != OT_OK) fail_msg("%s", err.message);
}

/* Of the first row that is refused, else the contexts of all rows one after another. */
static ot_status read_rows(const ot_task *task, const char *text, char *contexts, size_t room) {
    ot_rows rows = {0};
    contexts[0] = '\0';
    OT_TRY(ot_rows_parse(text, (int64_t)strlen(text), "rows.jsonl", &rows, &err));
    ot_status status = OT_OK;
    for (int64_t i = 0; status == OT_OK && i < rows.count; i++) {
        ot_arena arena = {0};
        ot_task_doc doc;
        size_t used = strlen(contexts);
        status = ot_task_render(task, &rows.items[i], &arena, &doc, &err);
        if (status == OT_OK) snprintf(contexts + used, room - used, "%.*s", (int)doc.context.size, doc.context.text);
        ot_arena_free(&arena);
    }
    ot_rows_free(&rows);
    return status;
}

static ot_status read_file(const char *name, char *contexts, size_t room) {
    char path[600], *text = NULL;
    int64_t size = 0;
    const ot_task *task = NULL;
    snprintf(path, sizeof path, FOLDER "/%s", name);
    ok(ot_read_file(path, 1 << 20, &text, &size, &err));
    char *rows = strstr(text, "%%%\n");
    size_t config = rows != NULL ? (size_t)(rows - text) : (size_t)size;
    if (strncmp(name, "table-", 6) == 0) text[config - 1] = '\0';
    err = (ot_error){0};
    ot_status status = strncmp(name, "table-", 6) == 0 ? ot_task_find(text, &task, &err)
                                                       : ot_own_task_parse(text, (int64_t)config, "task.yaml", &task, &err);
    if (status == OT_OK && rows != NULL) status = read_rows(task, rows + 4, contexts, room);
    ot_task_close(task);
    ot_free(text);
    return status;
}

static void says_what_is_wrong(void **state) {
    (void)state;
    char contexts[1024];
    int refused = 0;
    DIR *dir = opendir(FOLDER);
    assert_non_null(dir);
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        const char *words = NULL;
        if (entry->d_name[0] == '.') continue;
        for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
            if (strcmp(refusals[i].name, entry->d_name) == 0) words = refusals[i].words;
        }
        ot_status status = read_file(entry->d_name, contexts, sizeof contexts);
        if (words == NULL && status != OT_OK) fail_msg("%s: %s", entry->d_name, err.message);
        if (words != NULL && status == OT_OK) fail_msg("%s was not refused", entry->d_name);
        if (words != NULL && strncmp(err.message, words, strlen(words)) != 0)
            fail_msg("%s: %s\nwanted %s", entry->d_name, err.message, words);
        refused += words != NULL;
    }
    closedir(dir);
    assert_int_equal(refused, sizeof refusals / sizeof *refusals);
}

static void evaluates_expressions(void **state) {
    (void)state;
    char contexts[1024];
    ok(read_file("good-expressions", contexts, sizeof contexts));
    assert_string_equal(contexts, "one?mzyy31one?x['one?', 2]['x', 'y']{'k': ['m', 'n'], 'a b': 'z'}1.5NoneTrue1\xC3\xBC"
                                  "ber \xCF\x83\xC3\x9C"
                                  "ber \xCF\x83"
                                  "a4x, yxy82\n\t\\'");
}

static void cuts_lists_as_python(void **state) {
    (void)state;
    char contexts[1024];
    ok(read_file("good-slices", contexts, sizeof contexts));
    assert_string_equal(contexts, "['x']['y']['x', 'y']['x', 'y'][]['x']['a', 'b']['', 'a', '']['']['a', 'b', '']");
    ok(read_file("good-conditions", contexts, sizeof contexts));
    assert_string_equal(contexts, "aabxNoneTruexyTruexyxxzi"); /* what Jinja makes of it */
    ok(read_file("good-target", contexts, sizeof contexts));
    assert_string_equal(contexts, "a b ");
}

static void prints_floats_as_python(void **state) {
    (void)state;
    static const struct {
        double value;
        const char *text;
    } table[] = {{1.5, "1.5"},
                 {0, "0.0"},
                 {-2, "-2.0"},
                 {2000000, "2000000.0"},
                 {1e15, "1000000000000000.0"},
                 {1e16, "1e+16"},
                 {0.0001, "0.0001"},
                 {0.00001, "1e-05"},
                 {0.1, "0.1"},
                 {1.0 / 3, "0.3333333333333333"},
                 {123456.789, "123456.789"},
                 {-110.69859313964844, "-110.69859313964844"},
                 {1.7976931348623157e308, "1.7976931348623157e+308"}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        char text[OT_PY_FLOAT];
        ot_py_float(table[i].value, text);
        assert_string_equal(text, table[i].text);
    }
}

static void finds_rows(void **state) {
    (void)state;
    static const char *const folders[] = {TEST_DATA_DIR "/eval/rows"};
    const ot_task *task = NULL;
    ot_task_set *set = NULL;
    ot_task_set_options none = {.n_folders = 0}, with = {.folders = folders, .n_folders = 1};
    ok(ot_task_open(TEST_DATA_DIR "/eval/tasks/capitals.yaml", &task, &err));
    assert_int_equal(task->shots, 2);
    ok(ot_task_set_open(task, &none, &set, &err)); /* beside the task file, as it says */
    assert_int_equal(ot_task_set_rows(set), 6);
    ot_task_set_close(set);
    ok(ot_task_set_open(task, &with, &set, &err));
    ot_task_set_close(set);
    ot_task_close(task);
    ok(ot_task_open("piqa", &task, &err));
    assert_int_equal(ot_task_set_open(task, &none, &set, &err), OT_ERR_USAGE);
    assert_string_equal(err.message, "piqa: where its rows are is not said: name the folder with --data DIR");
    assert_int_equal(ot_task_open("absent.yaml", &task, &err), OT_ERR_IO);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(says_what_is_wrong), cmocka_unit_test(evaluates_expressions),
                                       cmocka_unit_test(cuts_lists_as_python), cmocka_unit_test(prints_floats_as_python),
                                       cmocka_unit_test(finds_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
