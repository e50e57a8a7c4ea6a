/* What a report says of a row, what counts as chance, and which of the paper's numbers stand beside it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "report/paper.h"

static void add(ot_report *r, ot_role role, double value, double error, double lr, int64_t seed, const char *task) {
    static const char measure[] = "arc_easy acc";
    ot_setting s = {.model = "m", .lr = lr, .seed = seed, .task = task};
    if (role == OT_ROLE_TUNED || role == OT_ROLE_PLUG_IN) s.split = "2-2", s.emulator = "e", s.peft = "full";
    ot_error err;
    assert_int_equal(ot_grow((void **)&r->scores, &r->scores_capacity, r->n_scores + 1, (int64_t)sizeof *r->scores, "t", &err), OT_OK);
    r->scores[r->n_scores++] = (ot_score){.role = role, .setting = s, .measure = measure, .value = value, .error = error, .documents = 100, .higher = true};
}

static ot_outcome said(double zero, double tuned, double plug, double full, double error, char text[700]) {
    ot_report r = {0};
    ot_report_table t = {0};
    ot_error err;
    if (!isnan(zero)) add(&r, OT_ROLE_ZERO_SHOT, zero, error, NAN, -1, NULL);
    add(&r, OT_ROLE_TUNED, tuned, error, 1e-4, 1, NULL);
    if (!isnan(plug)) add(&r, OT_ROLE_PLUG_IN, plug, error, 1e-4, 1, NULL);
    if (!isnan(full)) add(&r, OT_ROLE_FULL, full, error, 2e-4, 1, NULL);
    assert_int_equal(ot_report_tabulate(&r, false, &t, &err), OT_OK);
    assert_int_equal(t.n, 1);
    ot_outcome outcome = ot_report_sentence(&t.rows[0], false, text, 700);
    ot_report_table_free(&t);
    ot_report_free(&r);
    return outcome;
}

static void sentences(void **state) {
    (void)state;
    char text[700];
    assert_int_equal(said(0.5, 0.45, 0.6, 0.65, 0.01, text), OT_OUTCOME_WORKED);
    assert_string_equal(text, "It worked: plug-in has 0.6, better than zero-shot (0.5) by 67 % of the gain of full fine-tuning (0.65), and better than the tuned emulator (0.45).");
    /* The same numbers from few documents. */
    assert_int_equal(said(0.5, 0.45, 0.6, 0.65, 0.05, text), OT_OUTCOME_UNKNOWN);
    assert_non_null(strstr(text, "It seems to have worked: "));
    assert_non_null(strstr(text, " The gain of 0.1 is within two standard errors: it may be chance"));
    assert_null(strstr(text, "over the tuned emulator is within"));
    assert_int_equal(said(0.5, 0.62, 0.6, 0.65, 0.001, text), OT_OUTCOME_PARTLY);
    assert_non_null(strstr(text, "but no better than the tuned emulator (0.62), which the data owner has without the model"));
    assert_null(strstr(text, "standard errors"));
    assert_int_equal(said(0.5, 0.62, 0.6, 0.65, 0.02, text), OT_OUTCOME_PARTLY);
    assert_non_null(strstr(text, " The difference of 0.02 from the tuned emulator is within two standard errors: it may be chance."));
    assert_int_equal(said(0.5, 0.45, 0.48, 0.65, 0.001, text), OT_OUTCOME_FAILED);
    assert_string_equal(text, "It did not work: plug-in has 0.48, no better than zero-shot's 0.5.");
    /* A loss may be chance as a gain may. */
    assert_int_equal(said(0.7375, 0.6, 0.6625, 0.8, 0.05, text), OT_OUTCOME_UNKNOWN);
    assert_string_equal(text, "It seems not to have worked: plug-in has 0.6625, no better than zero-shot's 0.7375. The difference of 0.075 is within two standard errors: "
                              "it may be chance, and to be sure takes more documents or seeds.");
    assert_int_equal(said(0.5, 0.45, 0.52, 0.7, NAN, text), OT_OUTCOME_PARTLY); /* a tenth of the gain */
    assert_int_equal(said(0.5, 0.45, 0.52, 0.49, NAN, text), OT_OUTCOME_WORKED);
    assert_non_null(strstr(text, "full fine-tuning (0.49) gained nothing over zero-shot"));
    assert_int_equal(said(0.5, 0.45, NAN, NAN, NAN, text), OT_OUTCOME_UNKNOWN);
    assert_int_equal(said(NAN, 0.45, 0.5, NAN, NAN, text), OT_OUTCOME_WORKED);
    assert_string_equal(text, "It worked: plug-in has 0.5, better than the tuned emulator (0.45).");
}

/* The baseline of LoRA's row is LoRA in the whole model, and is called so. */
static void baselines(void **state) {
    (void)state;
    static const struct { const char *peft, *says; double full; bool waits; } cases[] = {
        {"full", "by 50 % of the gain of full fine-tuning (0.7)", 0.7, false},
        {"lora:r=8", "by 50 % of the gain of whole-model tuning by lora:r=8 (0.7)", 0.7, false},
        {"lora:r=8", "; whole-model tuning by lora:r=8 (0.4) gained nothing over zero-shot", 0.4, false},
        {"lora:r=8", " Whole-model tuning by lora:r=8 is not done", 0.7, true},
        {"full", " Full fine-tuning is not done", 0.7, true},
        {NULL, " Full fine-tuning is not done", 0.7, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const bool waits = cases[i].waits;
        char text[700];
        ot_report_row row = {.setting = {.peft = cases[i].peft}, .higher = true, .gains = OT_HOLDS, .needs_model = OT_HOLDS, .close = waits ? OT_UNKNOWN : OT_HOLDS,
                             .full_waits = waits, .recovered = waits || cases[i].full < 0.5 ? NAN : 0.5};
        row.of[OT_ROLE_ZERO_SHOT] = (ot_number){0.5, NAN, NAN, 1};
        row.of[OT_ROLE_TUNED] = (ot_number){0.4, NAN, NAN, 1};
        row.of[OT_ROLE_PLUG_IN] = (ot_number){0.6, NAN, NAN, 1};
        row.of[OT_ROLE_FULL] = (ot_number){cases[i].full, NAN, NAN, 1};
        ot_report_sentence(&row, false, text, sizeof text);
        if (strstr(text, cases[i].says) == NULL) fail_msg("%s, without: %s", text, cases[i].says);
        if (cases[i].peft != NULL && strcmp(cases[i].peft, "full") != 0) assert_null(strstr(text, "fine-tuning"));
    }
}

/* While a run of full fine-tuning waits, what is known of it is not compared with; another model's does not matter. */
static void full_waits(void **state) {
    (void)state;
    const char *const models[] = {"other", "m"};
    for (int waits = 0; waits < 2; waits++) {
        ot_report r = {0};
        ot_report_table t = {0};
        ot_error err;
        char text[700];
        add(&r, OT_ROLE_ZERO_SHOT, 0.5, NAN, NAN, -1, NULL);
        add(&r, OT_ROLE_TUNED, 0.4, NAN, 1e-4, 1, NULL);
        add(&r, OT_ROLE_PLUG_IN, 0.6, NAN, 1e-4, 1, NULL);
        add(&r, OT_ROLE_FULL, 0.61, NAN, 1e-4, 1, NULL);
        assert_int_equal(ot_grow((void **)&r.steps, &r.steps_capacity, 1, (int64_t)sizeof *r.steps, "t", &err), OT_OK);
        r.steps[r.n_steps++] = (ot_step_facts){.name = "s", .verb = "finetune", .setting = {.model = models[waits], .lr = 1e-3, .seed = 1}, .role = -1, .full_waits = true};
        assert_int_equal(ot_report_tabulate(&r, false, &t, &err), OT_OK);
        assert_int_equal(t.rows[0].close, waits ? OT_UNKNOWN : OT_HOLDS);
        assert_int_equal(isnan(t.rows[0].recovered), waits);
        assert_true(t.rows[0].of[OT_ROLE_FULL].n == 1);
        assert_int_equal(ot_report_sentence(&t.rows[0], false, text, sizeof text), waits ? OT_OUTCOME_UNKNOWN : OT_OUTCOME_WORKED);
        assert_int_equal(strstr(text, "not known yet") != NULL, waits);
        ot_report_table_free(&t);
        ot_report_free(&r);
    }
}

static void errors_are_the_larger(void **state) {
    (void)state;
    assert_true(ot_number_error(&(ot_number){0.5, NAN, 0.02, 1}) == 0.02);
    assert_true(fabs(ot_number_error(&(ot_number){0.5, 0.04, 0.02, 1}) - 0.04) < 1e-12);
    assert_true(fabs(ot_number_error(&(ot_number){0.5, 0.04, 0.03, 4}) - 0.03) < 1e-12);
    assert_true(isnan(ot_number_error(&(ot_number){0.5, NAN, NAN, 1})));
}

/* Models tuned on another task's rows are another combination; what no task plays a part in fits all. */
static void tasks_do_not_mix(void **state) {
    (void)state;
    ot_report r = {0};
    ot_report_table t = {0};
    ot_error err;
    add(&r, OT_ROLE_ZERO_SHOT, 0.5, NAN, NAN, -1, NULL);
    add(&r, OT_ROLE_TUNED, 0.6, NAN, 1e-4, 1, "arc_easy");
    add(&r, OT_ROLE_PLUG_IN, 0.7, NAN, 1e-4, 1, "arc_easy");
    add(&r, OT_ROLE_TUNED, 0.3, NAN, 1e-4, 1, "piqa");
    add(&r, OT_ROLE_PLUG_IN, 0.2, NAN, 1e-4, 1, "piqa");
    assert_int_equal(ot_report_tabulate(&r, false, &t, &err), OT_OK);
    assert_int_equal(t.n, 2);
    for (int i = 0; i < 2; i++) {
        assert_true(t.rows[i].chosen && t.rows[i].of[OT_ROLE_PLUG_IN].n == 1 && t.rows[i].of[OT_ROLE_ZERO_SHOT].n == 1);
        assert_true(t.rows[i].of[OT_ROLE_PLUG_IN].mean == (strcmp(t.rows[i].setting.task, "piqa") == 0 ? 0.2 : 0.7));
    }
    ot_report_table_free(&t);
    ot_report_free(&r);
}

static ot_report_row row_of(const char *model, const char *split, const char *emulator, int64_t middle, int64_t kept, const char *measure) {
    return (ot_report_row){.setting = {.model = model, .split = split, .emulator = emulator, .peft = "full"}, .middle = middle, .kept = kept, .measure = measure, .higher = true};
}

static const char *model_of(const char *model, const char *split, int64_t middle) {
    ot_report_row r = row_of(model, split, "layerdrop:keep=8", middle, 8, "perplexity");
    return ot_paper_model(&r);
}

static void models_of_the_paper(void **state) {
    (void)state;
    assert_string_equal(model_of("models/gpt2-xl/", "2-2", 44), "GPT2-XL");
    assert_string_equal(model_of("facebook/opt-1.3b", "2-2", 20), "OPT-1.3B");
    assert_string_equal(model_of("OPT_1.3B.gguf", "4-0", 20), "OPT-1.3B");
    assert_string_equal(model_of("bloom-7b1", "2-2", 26), "BLOOM-7.1B");
    assert_string_equal(model_of("laion/CLIP-ViT-g-14", "4-4", 32), "CLIP-ViT-G");
    /* Not by name alone, nor by blocks alone. */
    assert_null(model_of("gpt2-xl", "2-2", 20));
    assert_null(model_of("opt-iml-1.3b", "2-2", 20));
    assert_null(model_of("gpt2", "2-2", 44));
    assert_null(model_of("SmolLM2-135M", "2-2", 26));
    assert_null(model_of("gpt2-xl", "2-2", -1));
    assert_null(model_of(NULL, "2-2", 44));
}

static void numbers_of_the_paper(void **state) {
    (void)state;
    char text[300];
    ot_report_row r = row_of("gpt2-xl", "2-2", "layerdrop:keep=16|distill:steps=9", 44, 16, "openbookqa acc");
    const ot_paper_score *s = ot_paper_find(&r);
    assert_non_null(s);
    assert_true(fabs(s->of[OT_ROLE_ZERO_SHOT] - 0.230) < 1e-9 && fabs(s->of[OT_ROLE_FULL] - 0.300) < 1e-9 && fabs(s->of[OT_ROLE_PLUG_IN] - 0.282) < 1e-9);
    ot_paper_differs(&r, s, text, sizeof text);
    assert_string_equal(text, "");
    r = row_of("gpt2-xl", "2-2", "layerdrop:keep=16", 44, 16, "perplexity");
    s = ot_paper_find(&r);
    assert_true(s != NULL && s->of[OT_ROLE_PLUG_IN] == 19.69 && strcmp(s->table, "Table 4") == 0);
    r = row_of("opt-6.7b", "2-2", "layerdrop:keep=10", 28, 10, "piqa acc");
    r.setting.peft = "lora";
    s = ot_paper_find(&r);
    assert_true(s != NULL && isnan(s->of[OT_ROLE_FULL]));
    ot_paper_differs(&r, s, text, sizeof text);
    assert_string_equal(text, "the paper's emulator is 2-18-2 by layer-drop; the paper tuned whole adapter layers");
    r = row_of("opt-6.7b", "2-2", "layerdrop:keep=18", 28, 18, "piqa acc_norm");
    assert_null(ot_paper_find(&r));
    /* Pictures by the name of their collection. */
    r = row_of("clip-vit-g-14", "4-4", "layerdrop:keep=16|distill", 32, 16, "accuracy");
    assert_null(ot_paper_find(&r));
    r.data = "data/cifar-10/test";
    s = ot_paper_find(&r);
    assert_true(s != NULL && fabs(s->of[OT_ROLE_TUNED] - 0.9911) < 1e-9);
    r.data = "data/cifar-100/test";
    s = ot_paper_find(&r);
    assert_true(s != NULL && fabs(s->of[OT_ROLE_TUNED] - 0.9047) < 1e-9);
}

/* Slips of the pen: each number once, within bounds, and in the paper's order of size where it says so. */
static void the_table_is_sound(void **state) {
    (void)state;
    int n = 0;
    for (const ot_paper_score *s = ot_paper_scores; s->model != NULL; s++, n++) {
        bool share = strcmp(s->measure, "perplexity") != 0;
        for (int k = 0; k < OT_ROLE_COUNT; k++) assert_true(isnan(s->of[k]) || (s->of[k] >= 0.0 && s->of[k] < (share ? 1.0 : 100.0)));
        assert_false(isnan(s->of[OT_ROLE_PLUG_IN]) || isnan(s->of[OT_ROLE_TUNED]));
        for (const ot_paper_score *other = ot_paper_scores; other < s; other++) {
            assert_false(strcmp(other->model, s->model) == 0 && strcmp(other->measure, s->measure) == 0 && other->distilled == s->distilled);
        }
    }
    assert_int_equal(n, 2 * 10 + 2 * 9 + 2 * 6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sentences), cmocka_unit_test(baselines),           cmocka_unit_test(full_waits),            cmocka_unit_test(errors_are_the_larger), cmocka_unit_test(tasks_do_not_mix),
        cmocka_unit_test(models_of_the_paper), cmocka_unit_test(numbers_of_the_paper),  cmocka_unit_test(the_table_is_sound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
