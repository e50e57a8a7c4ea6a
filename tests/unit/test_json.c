/* JSON: what is refused and how it is said, typed getters, and a writer whose output reads back as the same value. */
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "format/json.h"
#include "support/scratch.h"

typedef struct bad_file {
    const char *name;
    const char *says;
} bad_file;

static const bad_file BAD[] = {
    {"empty", "unexpected token near end of file"},
    {"blank", "unexpected token near end of file"},
    {"open-object", "'}' expected near end of file"},
    {"open-array", "']' expected near end of file"},
    {"open-string", "premature end of input"},
    {"two-documents", "at byte 10 (line 1, column 10): end of file expected"},
    {"trailing-comma-object", "string or '}' expected"},
    {"trailing-comma-array", "unexpected token near ']'"},
    {"duplicate-key", "at byte 20 (line 1, column 20): duplicate object key near '\"a\"'"},
    {"duplicate-nested", "duplicate object key near '\"k\"'"},
    {"duplicate-by-escape", "duplicate object key"},
    {"nan", "invalid token near 'NaN'"},
    {"minus-infinity", "invalid token near '-'"},
    {"number-overflow", "real number overflow near '1e999'"},
    {"integer-overflow", "too big integer near '9223372036854775808'"},
    {"leading-zero", "invalid token near '0'"},
    {"plus-sign", "invalid token near '+'"},
    {"bare-point", "invalid token near '.'"},
    {"hexadecimal", "expected near 'x'"},
    {"single-quotes", "string or '}' expected"},
    {"comment", "end of file expected near '/'"},
    {"bad-escape", "invalid escape"},
    {"lone-surrogate", "invalid Unicode"},
    {"control-character", "control character 0x1"},
    {"not-utf8", "unable to decode byte 0xc3"},
    {"overlong-utf8", "unable to decode byte 0xc0"},
    {"byte-order-mark", "invalid token"},
    {"utf16", "not valid JSON at byte 2"},
    {"nul-byte", "end of file expected"},
    {"nul-in-key", "NUL byte in object key"},
    {"deep-arrays", "at byte 2049 (line 1, column 2049): maximum parsing depth"},
    {"deep-objects", "maximum parsing depth"},
    {"key-not-string", "string or '}' expected near '1'"},
    {"missing-colon", "':' expected"},
    {"upper-case-true", "invalid token near 'True'"},
};
enum { BAD_COUNT = sizeof BAD / sizeof *BAD, LIMIT = 1 << 20 };

static void path_of(const char *name, char *path, size_t size) {
    assert_true(snprintf(path, size, "%s/bad/json/%s", TEST_DATA_DIR, name) < (int)size);
}

static void ok(ot_status status, const ot_error *err) {
    if (status != OT_OK) fail_msg("%s: %s", ot_status_name(status), err->message);
}

static json_t *parse(const char *text) {
    json_t *value = NULL;
    ot_error err = {0};
    ok(ot_json_parse(text, (int64_t)strlen(text), "text", &value, &err), &err);
    return value;
}

static void refuses_every_bad_file(void **state) {
    (void)state;
    for (int i = 0; i < BAD_COUNT; i++) {
        char path[1024];
        path_of(BAD[i].name, path, sizeof path);
        json_t *value = NULL;
        ot_error err = {.position = -7};
        ot_status status = ot_json_read(path, LIMIT, &value, &err);
        if (status != OT_ERR_FORMAT || value != NULL) fail_msg("%s: %s", path, ot_status_name(status));
        if (strstr(err.message, path) == NULL) fail_msg("\"%s\" does not name %s", err.message, path);
        if (strstr(err.message, BAD[i].says) == NULL) fail_msg("%s: \"%s\" does not say \"%s\"", BAD[i].name, err.message, BAD[i].says);
        if (err.position < 0) fail_msg("%s: no position", BAD[i].name);
        assert_int_equal(ot_json_read(path, LIMIT, &value, NULL), OT_ERR_FORMAT);
    }
}

static void knows_every_file_of_the_folder(void **state) {
    (void)state;
    char path[1024], **names = NULL;
    path_of(".", path, sizeof path);
    ot_arena arena = {0};
    ot_error err = {0};
    int64_t count = 0, good = 0;
    ok(ot_list_dir(path, &arena, &names, &count, &err), &err);
    for (int64_t i = 0; i < count; i++) {
        if (strncmp(names[i], "good-", 5) == 0) {
            path_of(names[i], path, sizeof path);
            json_t *value = NULL;
            ok(ot_json_read(path, LIMIT, &value, &err), &err);
            json_decref(value);
            good++;
            continue;
        }
        bool known = false;
        for (int k = 0; k < BAD_COUNT; k++) known = known || strcmp(BAD[k].name, names[i]) == 0;
        if (!known) fail_msg("%s has no row in the table", names[i]);
    }
    ot_arena_free(&arena);
    assert_int_equal(good, 4);
    assert_int_equal(count - good, BAD_COUNT);
}

static void quotes_no_control_characters(void **state) {
    (void)state;
    json_t *value = NULL;
    ot_error err = {0};
    assert_int_equal(ot_json_parse("[\x1b]", 3, "text", &value, &err), OT_ERR_FORMAT);
    for (const char *c = err.message; *c != '\0'; c++) assert_true((unsigned char)*c >= 0x20);
    assert_int_equal(ot_json_parse("[1]", -1, "text", &value, &err), OT_ERR_FORMAT);
    assert_int_equal(ot_json_parse("[1]", (int64_t)1 << 40, "text", &value, &err), OT_ERR_FORMAT);
}

static void holds_the_size_limit(void **state) {
    scratch *s = *state;
    ot_error err = {0};
    json_t *value = NULL;
    const char *path = scratch_path(s, "value.json");
    ok(ot_write_file(path, "[1234567]", 9, &err), &err);
    ok(ot_json_read(path, 9, &value, &err), &err);
    json_decref(value);
    value = NULL;
    assert_int_equal(ot_json_read(path, 8, &value, &err), OT_ERR_FORMAT);
    assert_null(value);
    assert_non_null(strstr(err.message, "value.json is larger than the 8 bytes"));
    assert_int_equal(ot_json_read("/dev/zero", 100, &value, &err), OT_ERR_FORMAT);
    assert_int_equal(ot_json_read(scratch_path(s, "absent.json"), 100, &value, &err), OT_ERR_IO);
    assert_non_null(strstr(err.message, "absent.json: No such file"));
}

static void getters_check_types(void **state) {
    (void)state;
    json_t *o = parse("{\"i\": 12, \"f\": 1.5, \"b\": false, \"s\": \"x\", \"n\": null, \"a\": [], \"o\": {}}");
    ot_error err = {0};
    bool found = false;
    int64_t i = -1;
    ok(ot_json_i64(o, "i", "config.json", &i, &found, &err), &err);
    assert_true(found && i == 12);
    double f = -1;
    ok(ot_json_f64(o, "f", "config.json", &f, &found, &err), &err);
    assert_true(found && f == 1.5);
    ok(ot_json_f64(o, "i", "config.json", &f, NULL, &err), &err);
    assert_true(f == 12);
    bool b = true;
    ok(ot_json_bool(o, "b", "config.json", &b, &found, &err), &err);
    assert_true(found && !b);
    const char *s = NULL;
    ok(ot_json_str(o, "s", "config.json", &s, &found, &err), &err);
    assert_true(found);
    assert_string_equal(s, "x");

    /* Absent or null: found is false and the caller's default stays. */
    const char *const gone[] = {"n", "none"};
    for (int k = 0; k < 2; k++) {
        i = 77;
        f = 7.5;
        b = true;
        s = "default";
        found = true;
        ok(ot_json_i64(o, gone[k], "config.json", &i, &found, &err), &err);
        assert_true(!found && i == 77);
        found = true;
        ok(ot_json_f64(o, gone[k], "config.json", &f, &found, &err), &err);
        assert_true(!found && f == 7.5);
        found = true;
        ok(ot_json_bool(o, gone[k], "config.json", &b, &found, &err), &err);
        assert_true(!found && b);
        found = true;
        ok(ot_json_str(o, gone[k], "config.json", &s, &found, &err), &err);
        assert_true(!found);
        assert_string_equal(s, "default");
        ok(ot_json_str(o, gone[k], "config.json", &s, NULL, &err), &err);
    }
    assert_int_equal(ot_json_i64(o, "f", "config.json", &i, &found, &err), OT_ERR_FORMAT);
    assert_string_equal(err.message, "config.json: \"f\" must be an integer, not a real number");
    assert_int_equal(ot_json_i64(o, "b", "config.json", &i, &found, &err), OT_ERR_FORMAT);
    assert_int_equal(ot_json_f64(o, "s", "config.json", &f, &found, &err), OT_ERR_FORMAT);
    assert_string_equal(err.message, "config.json: \"s\" must be a number, not a string");
    assert_int_equal(ot_json_bool(o, "i", "config.json", &b, &found, &err), OT_ERR_FORMAT);
    assert_string_equal(err.message, "config.json: \"i\" must be true or false, not an integer");
    assert_int_equal(ot_json_str(o, "a", "config.json", &s, &found, &err), OT_ERR_FORMAT);
    assert_string_equal(err.message, "config.json: \"a\" must be a string, not an array");
    assert_int_equal(ot_json_str(o, "o", "config.json", &s, &found, &err), OT_ERR_FORMAT);
    assert_int_equal(ot_json_i64(json_object_get(o, "a"), "k", "config.json", &i, &found, &err), OT_ERR_FORMAT);
    assert_string_equal(err.message, "config.json: expected a JSON object that may hold \"k\", found an array");
    assert_int_equal(ot_json_i64(NULL, "k", "config.json", &i, &found, &err), OT_ERR_FORMAT);
    assert_true(i == 77 && f == 7.5 && b);
    json_decref(o);
}

static void writes_with_the_readers_eye(void **state) {
    scratch *s = *state;
    json_t *o = parse("{\"z\": 1e-05, \"a\": 10000.0, \"list\": [1, 0.1, \"\\u0001\\n\\\"\\\\/\xC3\xA9\"], \"empty\": {}, \"none\": [], "
                      "\"deep\": {\"t\": true, \"f\": false, \"n\": null}}");
    const char *path = scratch_path(s, "out.json");
    ot_error err = {0};
    ok(ot_json_write(path, o, &err), &err);
    char *text = NULL;
    int64_t size = 0;
    ok(ot_read_file(path, LIMIT, &text, &size, &err), &err);
    assert_string_equal(text, "{\n"
                              "  \"z\": 1e-05,\n"
                              "  \"a\": 10000.0,\n"
                              "  \"list\": [\n"
                              "    1,\n"
                              "    0.1,\n"
                              "    \"\\u0001\\n\\\"\\\\/\xC3\xA9\"\n"
                              "  ],\n"
                              "  \"empty\": {},\n"
                              "  \"none\": [],\n"
                              "  \"deep\": {\n"
                              "    \"t\": true,\n"
                              "    \"f\": false,\n"
                              "    \"n\": null\n"
                              "  }\n"
                              "}\n");
    ot_free(text);
    json_decref(o);
    assert_int_equal(scratch_count(s), 1);
}

static void round_trips_the_good_files(void **state) {
    scratch *s = *state;
    static const char *const names[] = {"good-config", "good-escapes", "good-number", "good-limits"};
    for (int i = 0; i < 4; i++) {
        char path[1024];
        path_of(names[i], path, sizeof path);
        json_t *before = NULL, *after = NULL;
        ot_error err = {0};
        ok(ot_json_read(path, LIMIT, &before, &err), &err);
        ok(ot_json_write(scratch_path(s, "again.json"), before, &err), &err);
        ok(ot_json_read(s->path, LIMIT, &after, &err), &err);
        if (!json_equal(before, after)) fail_msg("%s changed", names[i]);
        json_decref(before);
        json_decref(after);
    }
}

static void keeps_the_point_in_any_locale(void **state) {
    scratch *s = *state;
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8"};
    const char *set = NULL;
    for (int i = 0; i < 3 && set == NULL; i++) set = setlocale(LC_NUMERIC, names[i]);
    if (set == NULL) {
        print_message("skipped: no locale with a decimal comma is installed\n");
        skip();
    }
    json_t *a = parse("[0.5]");
    ot_error err = {0};
    ok(ot_json_write(scratch_path(s, "locale.json"), a, &err), &err);
    setlocale(LC_NUMERIC, "C");
    json_decref(a);
    char *text = NULL;
    int64_t size = 0;
    ok(ot_read_file(s->path, LIMIT, &text, &size, &err), &err);
    assert_string_equal(text, "[\n  0.5\n]\n");
    ot_free(text);
}

static int write_a_long_array(void *context) {
    json_t *array = json_array();
    for (int i = 0; i < 20000; i++) json_array_append_new(array, json_integer(i));
    ot_error err = {0};
    ot_status status = ot_json_write(context, array, &err);
    json_decref(array);
    return status == OT_ERR_IO && strstr(err.message, "full.json (the disk may be full)") != NULL ? 0 : 1;
}

static void leaves_nothing_on_a_full_disk(void **state) {
    scratch *s = *state;
    scratch_path(s, "full.json");
    assert_int_equal(scratch_with_file_limit(50000, write_a_long_array, s->path), 0);
    assert_int_equal(scratch_with_file_limit(10, write_a_long_array, s->path), 0);
    assert_int_equal(scratch_count(s), 0);
}

static void refuses_to_write_a_cycle(void **state) {
    scratch *s = *state;
    json_t *outer = json_array(), *inner = json_array();
    json_array_append(outer, inner);
    json_array_append(inner, outer);
    ot_error err = {0};
    assert_int_equal(ot_json_write(scratch_path(s, "cycle.json"), outer, &err), OT_ERR_FORMAT);
    assert_int_equal(scratch_count(s), 0);
    json_array_clear(inner);
    json_decref(inner);
    json_decref(outer);
}

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

static void reads_whole_numbers_of_any_size(void **state) {
    scratch *s = *state;
    static const char text[] = "{\"model_max_length\": 1000000000000000019884624838656, \"bos_token\": \"<s>\"}";
    const char *path = scratch_path(s, "large.json");
    json_t *value = NULL;
    ot_error err;
    assert_int_equal(ot_write_file(path, text, sizeof text - 1, &err), OT_OK);
    assert_int_equal(ot_json_read(path, LIMIT, &value, &err), OT_ERR_FORMAT);
    assert_int_equal(ot_json_read_large(path, LIMIT, &value, &err), OT_OK);
    assert_string_equal(json_string_value(json_object_get(value, "bos_token")), "<s>");
    assert_true(json_real_value(json_object_get(value, "model_max_length")) > 9e29);
    json_decref(value);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_every_bad_file),
        cmocka_unit_test(knows_every_file_of_the_folder),
        cmocka_unit_test(quotes_no_control_characters),
        cmocka_unit_test_setup_teardown(holds_the_size_limit, setup, teardown),
        cmocka_unit_test(getters_check_types),
        cmocka_unit_test_setup_teardown(reads_whole_numbers_of_any_size, setup, teardown),
        cmocka_unit_test_setup_teardown(writes_with_the_readers_eye, setup, teardown),
        cmocka_unit_test_setup_teardown(round_trips_the_good_files, setup, teardown),
        cmocka_unit_test_setup_teardown(keeps_the_point_in_any_locale, setup, teardown),
        cmocka_unit_test_setup_teardown(leaves_nothing_on_a_full_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_to_write_a_cycle, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
