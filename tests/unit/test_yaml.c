/* YAML files as trees: what is read, and what is refused at which line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "format/yaml.h"

static ot_error err;

static ot_status parse(const char *text, ot_arena *arena, ot_yaml **out) {
    err = (ot_error){0};
    return ot_yaml_parse(text, (int64_t)strlen(text), "f.yaml", arena, out, &err);
}

static void reads_trees(void **state) {
    (void)state;
    ot_arena arena = {0};
    ot_yaml *root = NULL;
    assert_int_equal(parse("# a comment\na: 1\nb: [x, \"2\", 'y z']\nc:\n  d: |\n    two\n    lines\n  e: \"tab\\tand \\u00e9\"\nf: null\ng: \"null\"\n", &arena, &root), OT_OK);
    const char *text = NULL;
    int64_t number = 0;
    assert_int_equal(root->count, 5);
    assert_int_equal(ot_yaml_i64(ot_yaml_get(root, "a"), "f.yaml", "a", 0, 9, &number, &err), OT_OK);
    assert_int_equal(number, 1);
    const ot_yaml *b = ot_yaml_get(root, "b");
    assert_int_equal(b->kind, OT_YAML_LIST);
    assert_int_equal(b->count, 3);
    assert_int_equal(b->line, 3);
    assert_true(b->first->next->quoted && !b->first->quoted);
    assert_string_equal(b->first->next->next->text, "y z");
    const ot_yaml *c = ot_yaml_get(root, "c");
    assert_string_equal(ot_yaml_get(c, "d")->text, "two\nlines\n");
    assert_string_equal(ot_yaml_get(c, "e")->text, "tab\tand \xC3\xA9");
    assert_null(ot_yaml_get(root, "f"));
    assert_int_equal(ot_yaml_text(ot_yaml_get(root, "g"), "f.yaml", "g", &text, &err), OT_OK);
    assert_string_equal(text, "null");
    assert_null(ot_yaml_get(b, "a"));
    assert_int_equal(parse("", &arena, &root), OT_OK);
    assert_int_equal(root->count, 0);
    ot_arena_free(&arena);
}

static void converts(void **state) {
    (void)state;
    ot_arena arena = {0};
    ot_yaml *root = NULL;
    bool flag = false;
    int64_t number = 0;
    const char *text = NULL;
    assert_int_equal(parse("y: Yes\nn: off\nq: \"yes\"\ni: 12\nj: 12x\nl: [1]\nz:\n", &arena, &root), OT_OK);
    assert_int_equal(ot_yaml_bool(ot_yaml_get(root, "y"), "f.yaml", "y", &flag, &err), OT_OK);
    assert_true(flag);
    assert_int_equal(ot_yaml_bool(ot_yaml_get(root, "n"), "f.yaml", "n", &flag, &err), OT_OK);
    assert_false(flag);
    assert_int_equal(ot_yaml_bool(ot_yaml_get(root, "q"), "f.yaml", "q", &flag, &err), OT_ERR_FORMAT);
    assert_string_equal(err.message, "f.yaml:3: 'q' must be true or false");
    assert_int_equal(ot_yaml_i64(ot_yaml_get(root, "i"), "f.yaml", "i", 0, 11, &number, &err), OT_ERR_FORMAT);
    assert_string_equal(err.message, "f.yaml:4: 'i' must be a whole number from 0 to 11");
    assert_int_equal(ot_yaml_i64(ot_yaml_get(root, "j"), "f.yaml", "j", 0, 99, &number, &err), OT_ERR_FORMAT);
    assert_int_equal(ot_yaml_text(ot_yaml_get(root, "l"), "f.yaml", "l", &text, &err), OT_ERR_FORMAT);
    assert_string_equal(err.message, "f.yaml:6: 'l' must be one text");
    ot_arena_free(&arena);
}

static void refuses(void **state) {
    (void)state;
    static const char *const table[][2] = {
        {"a: 1\na: 2\n", "f.yaml:2: 'a' is given twice"},
        {"a: &x 1\n", "f.yaml:1: anchors such as &x are not supported"},
        {"a: 1\nb: *x\n", "f.yaml:2: aliases such as *x are not supported"},
        {"a: !function utils.f\n", "f.yaml:1: tags such as !function are not supported: write the value itself"},
        {"[a, b]: c\n", "f.yaml:1: a key must be one word or text"},
        {"a: 1\n---\nb: 2\n", "f.yaml:2: a second YAML document begins; only one is read"},
        {"a: \"x\\0y\"\n", "f.yaml:1: a text holds a NUL character"},
        {"a: [1, 2\n", "f.yaml:2: not valid YAML: did not find expected ',' or ']'"},
        {"a: \xFF\n", "f.yaml: not UTF-8 text at byte 3: invalid leading UTF-8 octet"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        ot_arena arena = {0};
        ot_yaml *root = NULL;
        assert_int_equal(parse(table[i][0], &arena, &root), OT_ERR_FORMAT);
        assert_string_equal(err.message, table[i][1]);
        ot_arena_free(&arena);
    }
}

static void has_limits(void **state) {
    (void)state;
    ot_arena arena = {0};
    ot_yaml *root = NULL;
    char deep[100] = "";
    memset(deep, '[', 40);
    assert_int_equal(parse(deep, &arena, &root), OT_ERR_FORMAT);
    assert_string_equal(err.message, "f.yaml:1: nested deeper than 32 levels");
    size_t size = (1 << 20) + 1;
    char *large = malloc(size);
    assert_non_null(large);
    for (size_t i = 0; i < size; i++) large[i] = i % 2 == 0 ? ' ' : '\n';
    assert_int_equal(ot_yaml_parse(large, (int64_t)size, "f.yaml", &arena, &root, &err), OT_ERR_FORMAT);
    assert_string_equal(err.message, "f.yaml has 1048577 bytes; 1048576 at most are read");
    for (size_t i = 0; i + 1 < size; i++) large[i] = i == 0 ? '[' : i % 2 == 0 ? ',' : '1';
    assert_int_equal(ot_yaml_parse(large, (int64_t)size - 1, "f.yaml", &arena, &root, &err), OT_ERR_FORMAT);
    assert_string_equal(err.message, "f.yaml:1: more than 65536 values");
    free(large);
    ot_arena_free(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(reads_trees), cmocka_unit_test(converts), cmocka_unit_test(refuses), cmocka_unit_test(has_limits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
