/* Method strings: defaults, values, lists, and each wrong string refused with the nearest known word. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/spec.h"

static const ot_spec_key drop_keys[] = {{"keep", OT_SPEC_INTEGER, "8", 1, 100, "blocks kept"},
                                        {"list", OT_SPEC_WORD, NULL, 0, 0, "their numbers"},
                                        {"strategy", OT_SPEC_WORD, "uniform", 0, 0, "which"},
                                        {0}};
static const ot_spec_key prune_keys[] = {{"ratio", OT_SPEC_NUMBER, "0.5", 0, 1, "share"}, {0}};
static const ot_spec_method drop = {"layerdrop", "keeps some blocks", drop_keys}, prune = {"prune", "zeroes weights", prune_keys},
                            full = {"full", "no keys", NULL};
static const ot_spec_method *const methods[] = {&drop, &prune, &full, NULL};

static void parse(const char *text, ot_spec *spec) {
    ot_error err = {0};
    if (ot_spec_parse(text, "--emulator", methods, spec, &err) != OT_OK) fail_msg("%s: %s", text, err.message);
}

static void reads_steps_values_and_defaults(void **state) {
    (void)state;
    ot_spec spec;
    parse("", &spec);
    assert_int_equal(spec.n_steps, 0);
    parse("layerdrop:list=2,5,8,strategy=first|prune:ratio=2.5e-1|full", &spec);
    assert_int_equal(spec.n_steps, 3);
    assert_int_equal(spec.steps[0].method, 0);
    assert_int_equal(spec.steps[1].method, 1);
    assert_int_equal(spec.steps[2].method, 2);
    const ot_spec_value *keep = ot_spec_get(&spec.steps[0], &drop, "keep");
    assert_true(!keep->given && keep->number == 8);
    assert_string_equal(ot_spec_get(&spec.steps[0], &drop, "list")->word, "2,5,8");
    assert_true(ot_spec_get(&spec.steps[0], &drop, "list")->given);
    assert_string_equal(ot_spec_get(&spec.steps[0], &drop, "strategy")->word, "first");
    assert_true(ot_spec_get(&spec.steps[1], &prune, "ratio")->number == 0.25);
    parse("layerdrop", &spec);
    assert_string_equal(ot_spec_get(&spec.steps[0], &drop, "strategy")->word, "uniform");
    assert_null(ot_spec_get(&spec.steps[0], &drop, "list")->word);
    parse("layerdrop:keep=100", &spec);
    assert_true(ot_spec_get(&spec.steps[0], &drop, "keep")->number == 100);
}

static void refuses_what_is_wrong(void **state) {
    (void)state;
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"layerdorp", "no method \"layerdorp\"; the nearest is \"layerdrop\" (known: layerdrop, prune, full)"},
        {"prun:ratio=0.1", "the nearest is \"prune\""},
        {"ful", "the nearest is \"full\""},
        {"prune|", "no method \"\""},
        {"layerdrop:keap=3", "layerdrop has no key \"keap\"; the nearest is \"keep\""},
        {"full:x=1", "full takes no keys, but \"x\" was given"},
        {"layerdrop:keep", "\"keep\" should read key=value"},
        {"layerdrop:keep=1,keep=2", "the key keep is given twice"},
        {"layerdrop:keep=0", "keep must be a whole number from 1 to 100, not \"0\""},
        {"layerdrop:keep=101", "from 1 to 100, not \"101\""},
        {"layerdrop:keep=2.5", "whole number"},
        {"layerdrop:keep=", "not \"\""},
        {"layerdrop:keep=3x", "not \"3x\""},
        {"layerdrop:keep=0x3", "not \"0x3\""},
        {"prune:ratio=nan", "not \"nan\""},
        {"prune:ratio=inf", "not \"inf\""},
        {"prune:ratio=1e999", "not \"1e999\""},
        {"prune:ratio=-", "not \"-\""},
        {"prune:ratio=1.0001", "from 0 to 1"},
        {"full|full|full|full|full|full|full|full|full|full|full|full|full|full|full|full|full", "more than 16 steps"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ot_spec spec;
        ot_error err = {0};
        ot_status status = ot_spec_parse(bad[i].text, "--emulator", methods, &spec, &err);
        if (status != OT_ERR_USAGE) fail_msg("%s: %s", bad[i].text, ot_status_name(status));
        if (strstr(err.message, bad[i].says) == NULL) fail_msg("%s: \"%s\" does not say \"%s\"", bad[i].text, err.message, bad[i].says);
        assert_memory_equal(err.message, "--emulator: ", 12);
    }
    char text[OT_SPEC_TEXT + 1];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    ot_spec spec;
    ot_error err = {0};
    assert_int_equal(ot_spec_parse(text, "--peft", methods, &spec, &err), OT_ERR_USAGE);
    text[OT_SPEC_TEXT - 1] = '\0';
    assert_int_equal(ot_spec_parse(text, "--peft", methods, &spec, &err), OT_ERR_USAGE);
    assert_non_null(strstr(err.message, "no method"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_steps_values_and_defaults),
        cmocka_unit_test(refuses_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
