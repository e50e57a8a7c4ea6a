/* The figures of a report: rank correlation, panels and their order, and what is said of the paper's expectations. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "report/figures.h"

enum { MOST = 16 };

typedef struct table {
    ot_report_row rows[MOST];
    ot_report_table table;
} table;

static ot_report_row *put(table *t, const char *split, const char *emulator, double tuned, double plug, double spread) {
    int64_t seeds = isnan(spread) ? 1 : 2;
    ot_report_row *r = &t->rows[t->table.n++];
    *r = (ot_report_row){.setting = {.model = "m", .split = split, .emulator = emulator, .peft = "full", .lr = 1e-4, .seed = -1}, .measure = "perplexity", .chosen = true,
                         .cpl = NAN, .fidelity = NAN, .signs = NAN, .exact = NAN, .same = NAN, .offer_bytes = -1};
    r->of[OT_ROLE_ZERO_SHOT] = (ot_number){30, NAN, NAN, 1};
    r->of[OT_ROLE_TUNED] = (ot_number){tuned, spread, NAN, seeds};
    r->of[OT_ROLE_PLUG_IN] = (ot_number){plug, spread, NAN, seeds};
    t->table.rows = t->rows;
    return r;
}

static ot_figure make(const char *name, const table *t) {
    ot_figure f;
    ot_error err = {0};
    if (ot_figure_make(ot_figure_find(name), &t->table, &f, &err) != OT_OK) fail_msg("%s", err.message);
    return f;
}

static const ot_figure_claim *claim(const ot_figure_panel *p, const char *part) {
    for (int64_t i = 0; i < p->n_claims; i++) {
        if (strstr(p->claims[i].text, part) != NULL) return &p->claims[i];
    }
    fail_msg("nothing is said of: %s", part);
    return NULL;
}

/* The number is SciPy's. */
static void ranks_correlate(void **state) {
    (void)state;
    const double a[] = {1, 2, 2, 4, 5, 9}, b[] = {3, 1, 4, 4, 8, 7}, falling[] = {6, 5, 4, 3, 2, 1}, flat[] = {1, 1, 1, 1, 1, 1}, rising[] = {1, 2, 3, 4, 5, 60};
    double rho;
    ot_error err;
    assert_int_equal(ot_rank_correlation(a, b, 6, &rho, &err), OT_OK);
    assert_true(fabs(rho - 0.8088235294117647) < 1e-12);
    assert_int_equal(ot_rank_correlation(rising, falling, 6, &rho, &err), OT_OK);
    assert_true(rho == -1.0);
    assert_int_equal(ot_rank_correlation(rising, flat, 6, &rho, &err), OT_OK);
    assert_true(isnan(rho));
}

static void position_is_judged(void **state) {
    (void)state;
    table t = {0};
    put(&t, "0-4", "layerdrop:keep=20", 60, 25.0, 0.1);
    put(&t, "2-2", "layerdrop:keep=20", 50, 24.0, 0.1);
    put(&t, "1-1", "layerdrop:keep=20", 50, 26.0, 0.1);
    put(&t, "4-0", "layerdrop:keep=20", 55, 24.1, 0.1);
    put(&t, "4-0", "layerdrop:keep=20", 40, 1.0, 0.1)->chosen = false;
    put(&t, "0-2", "layerdrop:keep=20", 55, 23.0, 0.1);
    ot_figure f = make("fig3", &t);
    assert_int_equal(f.n_panels, 1);
    const ot_figure_panel *p = &f.panels[0];
    static const char *const order[] = {"1-1", "0-2", "4-0", "2-2", "0-4"};
    assert_int_equal(p->n_rows, 5);
    for (int i = 0; i < 5; i++) assert_string_equal(p->rows[i].row->setting.split, order[i]);
    assert_int_equal(p->n_claims, 3);
    assert_int_equal(claim(p, "than the top alone (0-4)")->verdict, OT_HOLDS);
    assert_int_equal(claim(p, "than the bottom alone (4-0)")->verdict, OT_UNKNOWN); /* within the spread */
    assert_int_equal(claim(p, "than the top alone (0-2)")->verdict, OT_FAILS);
    assert_non_null(strstr(claim(p, "than the top alone (0-4)")->seen, "24 ± 0.1 against 25 ± 0.1"));
    assert_int_equal(p->n_plots, 1);
    assert_string_equal(p->plots[0].plot.names[1], "top (0-2)");
    assert_true(p->plots[0].plot.series[0].y[0] == 26.0);
    ot_figure_free(&f);
}

static void methods_are_judged(void **state) {
    (void)state;
    table t = {0};
    put(&t, "2-2", "layerdrop:keep=20", 54, 24.2, 0.1);
    put(&t, "2-2", "prune:ratio=0.5", 24.5, 24.6, 0.1);
    put(&t, "2-2", "fakequant:bits=3", 30, 26, 0.1);
    put(&t, "2-2", "layerdrop:keep=16", 170, 27.9, 0.1);
    put(&t, "2-2", "prune:ratio=0.3", 22.5, 22.4, 0.1);
    put(&t, "2-2", "layerdrop:keep=8|quantize:bits=4", 22.5, 22.4, 0.1);
    const double fidelity[] = {0.8, 0.7, 0.5, 0.1, 0.9, 0.95};
    for (int i = 0; i < 6; i++) t.rows[i].fidelity = fidelity[i];
    for (int i = 0; i < 4; i++) t.rows[i].signs = 0.6 - 0.1 * i;
    ot_figure f = make("fig4", &t);
    const ot_figure_panel *p = &f.panels[0];
    static const char *const order[] = {"layerdrop:keep=16", "layerdrop:keep=20", "prune:ratio=0.3", "prune:ratio=0.5", "fakequant:bits=3", "layerdrop:keep=8|quantize:bits=4"};
    assert_int_equal(p->n_rows, 6);
    for (int i = 0; i < 6; i++) assert_string_equal(p->rows[i].row->setting.emulator, order[i]);
    assert_string_equal(p->rows[5].method, "layerdrop:keep|quantize:bits");
    assert_true(p->rows[0].parameter == 16 && fabs(p->rows[3].parameter - 0.5) < 1e-12);
    assert_true(fabs(p->rows[1].gap - (54 / 24.2 - 1)) < 1e-12);
    assert_int_equal(claim(p, "layer-drop keeps a clear gap")->verdict, OT_HOLDS);
    assert_int_equal(claim(p, "pruning leaves no clear gap")->verdict, OT_HOLDS);
    assert_int_equal(claim(p, "fake quantization leaves no clear gap")->verdict, OT_FAILS);
    assert_int_equal(claim(p, "the best plug-in is layer-drop's")->verdict, OT_FAILS);
    assert_int_equal(claim(p, "both a better plug-in and a larger gap")->verdict, OT_HOLDS);
    assert_non_null(strstr(claim(p, "pruning")->seen, "ratio=0.3 +0.4 %"));
    /* Fidelity 0.95 and 0.9 belong to the two best plug-ins, which are as good; 0.8, 0.7, 0.5, 0.1 fall as plug-in does. */
    assert_true(p->ranks[0].n == 6 && fabs(p->ranks[0].rho - 0.9856107606091623) < 1e-12);
    assert_true(p->ranks[1].n == 4 && p->ranks[1].rho == 1.0);
    assert_true(p->ranks[2].n == 0 && isnan(p->ranks[2].rho));
    ot_figure_free(&f);

    /* A pruning that gains more and gives less away than a layer-drop. */
    put(&t, "2-2", "prune:ratio=0.9", 80, 24.0, 0.1);
    f = make("fig4", &t);
    assert_int_equal(claim(&f.panels[0], "both a better plug-in and a larger gap")->verdict, OT_FAILS);
    assert_non_null(strstr(claim(&f.panels[0], "both a better")->seen, "prune:ratio=0.9 (plug-in 24 ± 0.1) does better than layerdrop:keep=20"));
    assert_int_equal(claim(&f.panels[0], "pruning leaves no clear gap")->verdict, OT_FAILS);
    ot_figure_free(&f);
}

/* Of accuracies the gap is a difference, and more is better. */
static void higher_is_better(void **state) {
    (void)state;
    table t = {0};
    put(&t, "2-2", "layerdrop:keep=20", 0.40, 0.50, NAN);
    put(&t, "2-2", "quantize:bits=4", 0.48, 0.49, NAN);
    for (int i = 0; i < 2; i++) t.rows[i].higher = true;
    ot_figure f = make("fig4", &t);
    assert_true(fabs(f.panels[0].rows[0].gap - 0.1) < 1e-12);
    assert_int_equal(claim(&f.panels[0], "layer-drop keeps")->verdict, OT_HOLDS);
    assert_int_equal(claim(&f.panels[0], "packed quantization")->verdict, OT_HOLDS);
    assert_int_equal(claim(&f.panels[0], "the best plug-in")->verdict, OT_HOLDS);
    assert_true(isnan(f.panels[0].ranks[0].rho)); /* two recipes have no rank to speak of */
    for (int64_t i = 0; i < f.panels[0].n_plots; i++) {
        char *text = NULL;
        size_t size = 0;
        ot_error err;
        assert_int_equal(ot_plot_svg(&f.panels[0].plots[i].plot, &text, &size, &err), OT_OK);
        free(text);
    }
    ot_figure_free(&f);
}

static void panels_are_apart(void **state) {
    (void)state;
    table t = {0};
    put(&t, "2-2", "layerdrop:keep=20", 54, 24.2, 0.1);
    put(&t, "1-1", "layerdrop:keep=20", 54, 24.2, 0.1);
    put(&t, "2-2", "prune", 24, 23, 0.1);
    ot_figure f = make("fig4", &t);
    assert_int_equal(f.n_panels, 1); /* 1-1 has nothing beside it */
    assert_int_equal(f.panels[0].n_rows, 2);
    assert_true(isnan(f.panels[0].rows[1].parameter));
    ot_figure_free(&f);
    t.table.n = 1;
    ot_error err = {0};
    assert_int_equal(ot_figure_make(ot_figure_find("fig4"), &t.table, &f, &err), OT_ERR_REFUSED);
    assert_non_null(strstr(err.message, "fig4 compares emulators"));
    t.rows[0].setting.split = NULL;
    t.rows[1].setting.split = NULL;
    t.rows[1].setting.lr = 2e-4;
    t.table.n = 2;
    assert_int_equal(ot_figure_make(ot_figure_find("fig3"), &t.table, &f, &err), OT_ERR_REFUSED);
    assert_non_null(strstr(err.message, "does not say where"));
    assert_null(ot_figure_find("fig5"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_correlate),  cmocka_unit_test(position_is_judged), cmocka_unit_test(methods_are_judged),
        cmocka_unit_test(higher_is_better), cmocka_unit_test(panels_are_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
