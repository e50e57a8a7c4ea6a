/* Charts: ticks, gaps, escapes, the same bytes for the same chart, and what a terminal gets. */
#include <math.h>
#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "plot/plot_internal.h"

static const double steps[] = {0, 1, 2, 3, 4}, falling[] = {4, 3, 2.5, 2.25, 2.125};

static char *svg_of(const ot_plot *p) {
    char *text = NULL;
    size_t size = 0;
    ot_error err = {0};
    if (ot_plot_svg(p, &text, &size, &err) != OT_OK) fail_msg("%s", err.message);
    assert_int_equal(strlen(text), size);
    return text;
}

static int count_of(const char *text, const char *part) {
    int n = 0;
    for (const char *at = text; (at = strstr(at, part)) != NULL; at += strlen(part)) n++;
    return n;
}

static void ticks(const double *y, int64_t count, bool logarithmic, const char *expected) {
    double x[64];
    for (int64_t i = 0; i < count; i++) x[i] = (double)i;
    ot_plot_series s = {.x = x, .y = y, .count = count};
    ot_plot p = {.series = &s, .n_series = 1, .log_y = logarithmic};
    ot_plot_axis ax, ay;
    ot_error err = {0};
    assert_int_equal(ot_plot_axes(&p, 6, 6, &ax, &ay, &err), OT_OK);
    char line[256] = "";
    for (int i = 0; i < ay.n_ticks; i++) {
        size_t used = strlen(line);
        snprintf(line + used, sizeof line - used, "%s%s", i > 0 ? " " : "", ay.ticks[i].text);
        assert_true(ay.ticks[i].at >= 0 && ay.ticks[i].at <= 1);
    }
    assert_string_equal(line, expected);
    for (int64_t i = 0; i < count; i++) {
        double at = ot_plot_place(&ay, y[i]);
        if (!isnan(at)) assert_true(at >= 0 && at <= 1);
    }
}

static void ticks_are_round_numbers(void **state) {
    (void)state;
    ticks((const double[]){0, 10}, 2, false, "0 2 4 6 8 10");
    ticks((const double[]){2.1, 4.03}, 2, false, "2.5 3.0 3.5 4.0");
    ticks((const double[]){-1, 1}, 2, false, "-1.0 -0.5 0.0 0.5 1.0");
    ticks((const double[]){3, 3}, 2, false, "1.5 2.0 2.5 3.0 3.5 4.0 4.5");
    ticks((const double[]){0, 0}, 2, false, "-0.4 -0.2 0.0 0.2 0.4");
    ticks((const double[]){0, 3e9}, 2, false, "0 1e+09 2e+09 3e+09");
    ticks((const double[]){1e-6, 5e-6}, 2, false, "1e-06 2e-06 3e-06 4e-06 5e-06");
    ticks((const double[]){1, 1000}, 2, true, "1 10 100 1000");
    ticks((const double[]){1, 1e12}, 2, true, "1 1000 1e+06 1e+09 1e+12");
    ticks((const double[]){10, 12}, 2, true, "10.0 10.5 11.0 11.5 12.0");
    ticks((const double[]){-5, 0, NAN, 1, 100}, 5, true, "1 2 5 10 20 50 100");
}

static void a_picture_escapes_and_repeats(void **state) {
    (void)state;
    static const char *const labels[] = {NULL, NULL, "a <b> & \"c\" \x01\xff", NULL, "last"};
    ot_plot_series s[] = {{.name = "raw", .x = steps, .y = falling, .count = 5, .faint = true},
                          {.name = "<script>", .x = steps, .y = falling, .count = 5, .mark = OT_PLOT_LINE_AND_POINTS, .color = 9, .labels = labels}};
    ot_plot_rule rules[] = {{.name = "zero-shot", .value = 3.5}, {.name = "end", .value = 2, .vertical = true}};
    ot_plot p = {.title = "T & t", .x_label = "step", .y_label = "loss", .series = s, .n_series = 2, .rules = rules, .n_rules = 2};
    char *a = svg_of(&p), *b = svg_of(&p);
    assert_string_equal(a, b);
    assert_int_equal(strncmp(a, "<svg ", 5), 0);
    assert_non_null(strstr(a, "</svg>\n"));
    assert_null(strstr(a, "<script"));
    assert_non_null(strstr(a, ">&lt;script&gt;</text>"));
    assert_non_null(strstr(a, "a &lt;b&gt; &amp; &quot;c&quot; \xEF\xBF\xBD\xEF\xBF\xBD<"));
    assert_int_equal(count_of(a, ">T &amp; t<"), 2);
    assert_non_null(strstr(a, "prefers-color-scheme:dark"));
    assert_non_null(strstr(a, "@media print"));
    assert_int_equal(count_of(a, "class=\"ot-rule\""), 2);
    /* Five points and the one of the legend; colour 9 is colour 1. */
    assert_int_equal(count_of(a, "<circle class=\"ot-p1\""), 6);
    /* A decimal point whatever the locale, no exponents, no NaN in coordinates. */
    assert_null(strstr(a, "nan"));
    free(a);
    free(b);
}

static void gaps_interrupt_the_line(void **state) {
    (void)state;
    const double y[] = {1, 2, NAN, 3, INFINITY};
    ot_plot_series s = {.x = steps, .y = y, .count = 5};
    ot_plot p = {.series = &s, .n_series = 1};
    char *text = svg_of(&p);
    /* Frame and grid are no lines of their own class, and the legend is empty: what is left is this series. */
    regex_t two;
    assert_int_equal(regcomp(&two, "<path class=.ot-line ot-s0. d=.M[^M\"]*M[^M\"]*\"/>", REG_NOSUB), 0);
    assert_int_equal(regexec(&two, text, 0, NULL, 0), 0);
    regfree(&two);
    free(text);
    ot_error err = {0};
    size_t size = 0;
    s.count = 0;
    assert_int_equal(ot_plot_svg(&p, &text, &size, &err), OT_ERR_REFUSED);
    s = (ot_plot_series){.x = y + 2, .y = steps, .count = 1};
    assert_int_equal(ot_plot_svg(&p, &text, &size, &err), OT_ERR_REFUSED);
    assert_int_equal(ot_plot_text(&p, &(ot_plot_terminal){0}, &text, &size, &err), OT_ERR_REFUSED);
}

static void bars_and_named_places(void **state) {
    (void)state;
    static const char *const names[] = {"zero-shot", "a < b", "full"};
    const double y[] = {4, 3, 2}, spread[] = {NAN, 0.5, 1};
    ot_plot_series s = {.x = steps, .y = y, .count = 3, .mark = OT_PLOT_POINTS, .spread = spread};
    ot_plot p = {.description = "what <is> seen", .series = &s, .n_series = 1, .names = names, .n_names = 3};
    ot_plot_axis ax, ay;
    ot_error err = {0};
    assert_int_equal(ot_plot_axes(&p, 6, 6, &ax, &ay, &err), OT_OK);
    assert_int_equal(ax.n_ticks, 3);
    for (int i = 0; i < 3; i++) {
        assert_string_equal(ax.ticks[i].text, names[i]);
        assert_true(fabs(ax.ticks[i].at - ot_plot_place(&ax, i)) < 1e-12);
    }
    /* The lowest bar ends at 1 and is seen. */
    assert_true(ot_plot_place(&ay, 1) > 0 && ot_plot_place(&ay, 1) < 0.1);
    char *text = svg_of(&p), *plain = NULL;
    /* Two points have a bar with two ends; the third has none. */
    assert_int_equal(count_of(text, "<path class=\"ot-line ot-bar ot-s0\""), 6);
    assert_int_equal(count_of(text, ">a &lt; b</text>"), 1);
    assert_int_equal(count_of(text, "<desc>what &lt;is&gt; seen</desc>"), 1);
    assert_null(strstr(text, "nan"));
    size_t size = 0;
    assert_int_equal(ot_plot_text(&p, &(ot_plot_terminal){.columns = 60, .rows = 14}, &plain, &size, &err), OT_OK);
    assert_non_null(strstr(plain, "zero-shot"));
    free(text);
    free(plain);
}

static void long_runs_stay_small(void **state) {
    (void)state;
    enum { N = 200000 };
    double *x = malloc(N * sizeof *x), *y = malloc(N * sizeof *y);
    assert_true(x != NULL && y != NULL);
    for (int i = 0; i < N; i++) {
        x[i] = i;
        y[i] = i % 7;
    }
    y[123456] = 40; /* one outlier must be seen */
    ot_plot_series s = {.x = x, .y = y, .count = N};
    ot_plot p = {.series = &s, .n_series = 1};
    char *text = svg_of(&p);
    assert_true(strlen(text) < 60000);
    y[123456] = 3;
    char *flat = svg_of(&p);
    assert_string_not_equal(text, flat);
    free(text);
    free(flat);
    free(x);
    free(y);
}

static void a_terminal_gets_what_fits(void **state) {
    (void)state;
    ot_plot_series s[] = {{.name = "training", .x = steps, .y = falling, .count = 5},
                          {.name = "validation", .x = steps, .y = steps, .count = 5, .mark = OT_PLOT_POINTS, .color = 1}};
    ot_plot p = {.title = "title", .x_label = "step", .y_label = "loss", .series = s, .n_series = 2};
    for (int columns = 24; columns <= 100; columns += 19) {
        char *text = NULL, *plain = NULL;
        size_t size = 0;
        ot_error err = {0};
        assert_int_equal(ot_plot_text(&p, &(ot_plot_terminal){.columns = columns, .rows = 14}, &plain, &size, &err), OT_OK);
        int rows = 0;
        for (char *at = plain, *end; (end = strchr(at, '\n')) != NULL; at = end + 1, rows++) {
            *end = '\0';
            assert_true(ot_plot_width(at) <= columns);
            *end = '\n';
        }
        if (columns > 40) assert_int_equal(rows, 14);
        assert_null(strchr(plain, '\033'));
        assert_true(count_of(plain, "x") >= 4); /* the points, but where two fall together */
        assert_int_equal(ot_plot_text(&p, &(ot_plot_terminal){.columns = columns, .rows = 14, .color = true}, &text, &size, &err), OT_OK);
        assert_non_null(strstr(text, "\033[38;5;208m"));
        /* Every colour is taken back before the line ends. */
        for (const char *at = text; (at = strchr(at, '\n')) != NULL; at++) {
            const char *begin = at;
            while (begin > text && begin[-1] != '\n') begin--;
            const char *last = NULL;
            for (const char *c = begin; c < at; c++) last = *c == '\033' ? c : last;
            if (last != NULL) assert_int_equal(strncmp(last, "\033[0m", 4), 0);
        }
        free(text);
        free(plain);
    }
}

static void smoothing_is_a_mean(void **state) {
    (void)state;
    const double y[] = {1, 3, NAN, 5};
    double out[4];
    ot_plot_smooth(y, 4, 0, out);
    assert_true(out[0] == 1 && out[1] == 3 && isnan(out[2]) && out[3] == 5);
    ot_plot_smooth(y, 4, 1, out);
    assert_true(out[0] == 1);
    assert_true(fabs(out[1] - (0.5 * 1 + 3) / 1.5) < 1e-12);
    assert_true(isnan(out[2]));
    assert_true(fabs(out[3] - (0.25 * 1 + 0.5 * 3 + 5) / 1.75) < 1e-12);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ticks_are_round_numbers), cmocka_unit_test(a_picture_escapes_and_repeats), cmocka_unit_test(gaps_interrupt_the_line),
        cmocka_unit_test(long_runs_stay_small),    cmocka_unit_test(a_terminal_gets_what_fits),     cmocka_unit_test(smoothing_is_a_mean),
        cmocka_unit_test(bars_and_named_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
