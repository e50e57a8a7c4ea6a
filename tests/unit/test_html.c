/* The page: outside text cannot become markup, tags are balanced, pictures lie inside, nothing is fetched. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "report/html.h"
#include "support/scratch.h"

static const char hostile[] = "</title></style><script>alert(1)</script><img src=x onerror=\"alert('2')\"> & \"quoted\" \x1b[31m \xff";

static char *saved(ot_html *page) {
    char *text = NULL;
    int64_t size = 0;
    ot_error err = {0};
    scratch s;
    scratch_open(&s, TEST_BINARY_DIR);
    const char *path = scratch_path(&s, "page.html");
    if (ot_html_save(page, path, &err) != OT_OK) fail_msg("%s", err.message);
    if (ot_read_file(path, 1 << 24, &text, &size, &err) != OT_OK) fail_msg("%s", err.message);
    assert_int_equal(strlen(text), size);
    scratch_close(&s);
    return text;
}

static int count_of(const char *text, const char *part) {
    int n = 0;
    for (const char *at = text; (at = strstr(at, part)) != NULL; at += strlen(part)) n++;
    return n;
}

/* Every tag is one that the writer knows, attributes are quoted, and what is opened is closed in order. */
static void check_markup(const char *text) {
    static const char *const known[] = {"html", "head", "meta", "title", "style", "body", "main", "header", "h1", "h2", "h3", "p", "section", "div", "ul", "li",
                                        "table", "caption", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "svg", "desc", "rect", "path", "text",
                                        "circle", "g", "pre", "code", "details", "summary", "img", "footer"};
    char open[64][16];
    int depth = 0;
    for (const char *at = text; (at = strchr(at, '<')) != NULL;) {
        if (strncmp(at, "<!doctype html>", 15) == 0) {
            at += 15;
            continue;
        }
        bool closing = at[1] == '/';
        const char *name = at + 1 + closing;
        size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789");
        bool found = false;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++) found = found || (strlen(known[i]) == n && strncmp(known[i], name, n) == 0);
        if (!found) fail_msg("a tag that the page does not make: %.40s", at);
        const char *end = name + n;
        while (*end != '>' && *end != '\0') {
            if (*end == '"') {
                end = strchr(end + 1, '"');
                assert_non_null(end);
            }
            end++;
        }
        assert_int_equal(*end, '>');
        bool alone = end[-1] == '/' || (n == 4 && strncmp(name, "meta", 4) == 0) || (n == 3 && strncmp(name, "img", 3) == 0);
        if (closing) {
            assert_true(depth > 0);
            depth--;
            if (strlen(open[depth]) != n || strncmp(open[depth], name, n) != 0) fail_msg("%.20s closes %s", at, open[depth]);
        } else if (!alone) {
            assert_true(depth < 64 && n < 16);
            snprintf(open[depth++], 16, "%.*s", (int)n, name);
        }
        at = end;
        if (!closing && n == 5 && strncmp(name, "style", 5) == 0) at = strstr(at, "</style>");
    }
    assert_int_equal(depth, 0);
}

static void outside_text_stays_text(void **state) {
    (void)state;
    static const ot_html_column columns[] = {{hostile, false}, {"n", true}};
    const double x[] = {0, 1}, y[] = {1, 2};
    const char *const names[] = {hostile, "b"};
    ot_plot_series s = {.name = hostile, .x = x, .y = y, .count = 2, .mark = OT_PLOT_LINE_AND_POINTS, .labels = names};
    ot_plot plot = {.title = hostile, .x_label = hostile, .description = hostile, .series = &s, .n_series = 1, .names = names, .n_names = 2};
    ot_html page;
    ot_error err = {0};
    assert_int_equal(ot_html_open(&page, hostile, hostile, &err), OT_OK);
    ot_html_section(&page, hostile);
    ot_html_heading(&page, hostile);
    ot_html_paragraph(&page, "%s", hostile);
    ot_html_note(&page, "%s", hostile);
    ot_html_code(&page, hostile);
    ot_html_verdict(&page, OT_TONE_GOOD, hostile, "%s", hostile);
    ot_html_mark(&page, OT_TONE_BAD, hostile);
    ot_html_verdict_end(&page);
    ot_html_section(&page, "two");
    ot_html_table(&page, hostile, columns, 2);
    ot_html_row(&page, true);
    ot_html_cell(&page, OT_TONE_GOOD, "%s", hostile);
    ot_html_row(&page, false);
    ot_html_cell(&page, OT_TONE_PLAIN, "short row");
    ot_html_table_end(&page);
    assert_int_equal(ot_html_plot(&page, &plot, hostile, &err), OT_OK);
    ot_html_details(&page, hostile);
    ot_html_details_end(&page);
    ot_html_gallery(&page);
    assert_int_equal(ot_html_picture(&page, "\xff\xd8\xff\xe0", 4, hostile, hostile, &err), OT_OK);
    ot_html_gallery_end(&page);
    char *text = saved(&page);
    check_markup(text);
    assert_null(strstr(text, "<script"));
    assert_null(strstr(text, "<img src=x"));
    assert_null(strstr(text, "\x1b"));
    assert_null(strstr(text, "\xff"));
    assert_int_equal(count_of(text, "<h1>"), 1);
    /* The only address is the name of SVG's namespace. */
    assert_int_equal(count_of(text, "://"), count_of(text, "xmlns=\"http://www.w3.org/2000/svg\""));
    assert_non_null(strstr(text, "default-src 'none'"));
    assert_non_null(strstr(text, "<th scope=\"row\" class=\"good\">"));
    assert_non_null(strstr(text, "short row</th><td></td></tr>"));
    ot_free(text);
}

static void pictures_lie_inside(void **state) {
    (void)state;
    ot_html page;
    ot_error err = {0};
    assert_int_equal(ot_html_open(&page, "t", NULL, &err), OT_OK);
    assert_int_equal(ot_html_picture(&page, "\x89PNG\r\n\x1a\nA", 9, "a", NULL, &err), OT_OK);
    assert_int_equal(ot_html_picture(&page, "\x89PNG\r\n\x1a\nAB", 10, "b", "c", &err), OT_OK);
    assert_int_equal(ot_html_picture(&page, "RIFF\0\0\0\0WEBPVP", 14, "w", NULL, &err), OT_OK);
    assert_int_equal(ot_html_picture(&page, "GIF89a123456789", 15, "animal", NULL, &err), OT_ERR_FORMAT);
    assert_non_null(strstr(err.message, "animal"));
    assert_int_equal(ot_html_picture(&page, "", 0, "empty", NULL, &err), OT_ERR_FORMAT);
    char *text = saved(&page);
    check_markup(text);
    assert_non_null(strstr(text, "src=\"data:image/png;base64,iVBORw0KGgpB\" alt=\"a\""));
    assert_non_null(strstr(text, "base64,iVBORw0KGgpBQg==\" alt=\"b\"><figcaption>c<"));
    assert_non_null(strstr(text, "data:image/webp;base64,UklGRgAAAABXRUJQVlA=\""));
    assert_int_equal(count_of(text, "<img"), 3);
    ot_free(text);
}

static void long_lines_of_code_are_whole(void **state) {
    (void)state;
    char *long_line = malloc(6001), *text;
    assert_non_null(long_line);
    for (int i = 0; i < 3000; i++) memcpy(long_line + 2 * i, "\xc3\xa4", 2); /* 3000 times a letter of two bytes */
    long_line[6000] = '\0';
    long_line[0] = long_line[1] = 'x';
    long_line[2] = '\n';
    long_line[3] = 'y';
    ot_html page;
    ot_error err = {0};
    assert_int_equal(ot_html_open(&page, "t", NULL, &err), OT_OK);
    ot_html_code(&page, long_line);
    text = saved(&page);
    assert_non_null(strstr(text, long_line));
    assert_null(strstr(text, "\xEF\xBF\xBD"));
    ot_free(text);
    free(long_line);
}

static void empty_charts_and_lost_files(void **state) {
    (void)state;
    const double x[] = {NAN};
    ot_plot_series s = {.x = x, .y = x, .count = 1};
    ot_html page;
    ot_error err = {0};
    assert_int_equal(ot_html_open(&page, "t", NULL, &err), OT_OK);
    assert_int_equal(ot_html_plot(&page, &(ot_plot){.series = &s, .n_series = 1}, "c", &err), OT_OK);
    assert_int_not_equal(ot_html_save(&page, "/proc/no/such/folder/page.html", &err), OT_OK);
    assert_non_null(strstr(err.message, "/proc/no/such/folder"));
    ot_html_free(&page);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outside_text_stays_text),
        cmocka_unit_test(pictures_lie_inside),
        cmocka_unit_test(long_lines_of_code_are_whole),
        cmocka_unit_test(empty_charts_and_lost_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
