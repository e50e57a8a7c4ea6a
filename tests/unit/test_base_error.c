/* Error values: one sentence, the code, errno's text and the position; nothing on success; no overflow of the message. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"

static ot_status succeed(ot_error *err) {
    (void)err;
    return OT_OK;
}

static ot_status try_two(ot_error *err, int *reached) {
    OT_TRY(succeed(err));
    *reached = 1;
    OT_TRY(ot_fail(err, OT_ERR_REFUSED, "the offer %s is another one", "x"));
    *reached = 2;
    return OT_OK;
}

static void fills_code_message_and_position(void **state) {
    (void)state;
    ot_error err = {.code = OT_ERR_IO, .sys_errno = 5, .position = 12};
    int reached = 0;
    assert_int_equal(try_two(&err, &reached), OT_ERR_REFUSED);
    assert_int_equal(reached, 1);
    assert_int_equal(err.code, OT_ERR_REFUSED);
    assert_int_equal(err.sys_errno, 0);
    assert_int_equal(err.position, -1);
    assert_string_equal(err.message, "the offer x is another one");
    assert_int_equal(ot_fail_at(&err, OT_ERR_FORMAT, 1LL << 40, "bad byte"), OT_ERR_FORMAT);
    assert_true(err.position == 1LL << 40);
    assert_int_equal(ot_fail_at(NULL, OT_ERR_FORMAT, 3, "nobody listens"), OT_ERR_FORMAT);
    assert_int_equal(ot_fail_errno(NULL, ENOENT, "nobody listens"), OT_ERR_IO);
    assert_int_equal(ot_fail_memory(NULL, 5, "nobody"), OT_ERR_MEMORY);
}

static void says_what_errno_means(void **state) {
    (void)state;
    ot_error err = {0};
    assert_int_equal(ot_fail_errno(&err, ENOENT, "cannot open %s", "a.json"), OT_ERR_IO);
    assert_string_equal(err.message, "cannot open a.json: No such file or directory");
    assert_int_equal(err.sys_errno, ENOENT);
    ot_fail_errno(&err, 99999, "cannot open");
    assert_non_null(strstr(err.message, "99999"));
}

static void names_memory_in_mebibytes(void **state) {
    (void)state;
    ot_error err = {0};
    assert_int_equal(ot_fail_memory(&err, 3 << 20, "a batch"), OT_ERR_MEMORY);
    assert_non_null(strstr(err.message, "a batch needs 3.0 MiB"));
}

static void prefixes_without_losing_the_rest(void **state) {
    (void)state;
    ot_error err = {0};
    ot_fail_at(&err, OT_ERR_FORMAT, 9, "tensor w is damaged");
    assert_int_equal(ot_error_prefix(&err, "%s", "m.safetensors"), OT_ERR_FORMAT);
    assert_string_equal(err.message, "m.safetensors: tensor w is damaged");
    assert_int_equal(err.position, 9);
}

static void cuts_what_does_not_fit(void **state) {
    (void)state;
    char text[2 * OT_ERROR_TEXT];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    struct {
        ot_error err;
        char guard[16];
    } box;
    memset(&box, 'g', sizeof box);
    ot_fail(&box.err, OT_ERR_IO, "%s", text);
    assert_int_equal(strlen(box.err.message), OT_ERROR_TEXT - 1);
    ot_fail_errno(&box.err, ENOSPC, "%s", text);
    assert_int_equal(strlen(box.err.message), OT_ERROR_TEXT - 1);
    ot_error_prefix(&box.err, "%s", text);
    assert_int_equal(strlen(box.err.message), OT_ERROR_TEXT - 1);
    ot_error_prefix(&box.err, "short");
    assert_memory_equal(box.err.message, "short: xxx", 10);
    assert_int_equal(strlen(box.err.message), OT_ERROR_TEXT - 1);
    for (int i = 0; i < 16; i++) assert_int_equal(box.guard[i], 'g');
}

static void every_status_has_name_and_text(void **state) {
    (void)state;
#define CHECK(name, value, text)                                                                                       \
    assert_int_equal(name, value);                                                                                     \
    assert_string_equal(ot_status_name(name), #name);                                                                  \
    assert_string_equal(ot_status_text(name), text);
    OT_STATUS_MAP(CHECK)
    assert_string_equal(ot_status_name((ot_status)-1), "OT_ERR_UNKNOWN");
    assert_string_equal(ot_status_text((ot_status)1000), "unknown status");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fills_code_message_and_position), cmocka_unit_test(says_what_errno_means),
        cmocka_unit_test(names_memory_in_mebibytes),       cmocka_unit_test(prefixes_without_losing_the_rest),
        cmocka_unit_test(cuts_what_does_not_fit),          cmocka_unit_test(every_status_has_name_and_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
