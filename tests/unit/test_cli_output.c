/* What the command line prints: JSON, tables, wrapped and escaped text, progress on a terminal and in a log. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/args.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/text.h"

typedef struct capture {
    char *text;
    size_t size;
    FILE *file;
} capture;

static void begin(capture *c) {
    *c = (capture){0};
    c->file = open_memstream(&c->text, &c->size);
    assert_non_null(c->file);
}

static void end(capture *c, const char *expected) {
    fclose(c->file);
    assert_string_equal(c->text, expected);
    free(c->text);
}

static void test_json(void **state) {
    (void)state;
    capture c;
    ot_error err = {0};
    begin(&c);
    ot_json_out out = ot_json_out_open(c.file);
    ot_json_out_object(&out, NULL);
    ot_json_out_i64(&out, "layers", -3);
    ot_json_out_f64(&out, "loss", 3.14159265358979);
    ot_json_out_f64(&out, "tiny", 1e-30);
    ot_json_out_f64(&out, "nan", NAN);
    ot_json_out_f64(&out, "inf", -INFINITY);
    ot_json_out_array(&out, "per_block");
    ot_json_out_f64(&out, NULL, 1.0);
    ot_json_out_object(&out, NULL);
    ot_json_out_end(&out);
    ot_json_out_array(&out, NULL);
    ot_json_out_end(&out);
    ot_json_out_end(&out);
    ot_json_out_object(&out, "split");
    ot_json_out_bool(&out, "yes", true);
    ot_json_out_bool(&out, "no", false);
    ot_json_out_null(&out, "none");
    ot_json_out_str(&out, "no text", NULL);
    ot_json_out_end(&out);
    ot_json_out_str(&out, "a \"key\"", "tab\t line\n back\\ \x01 \x7f \xC3\xA9 \xff.");
    ot_json_out_text(&out, "nul", "a\0b", 3);
    assert_int_equal(ot_json_out_close(&out, &err), OT_OK);
    end(&c, "{\"layers\": -3, \"loss\": 3.14159265, \"tiny\": 1e-30, \"nan\": null, \"inf\": null, \"per_block\": [1, {}, []], "
            "\"split\": {\"yes\": true, \"no\": false, \"none\": null, \"no text\": null}, "
            "\"a \\\"key\\\"\": \"tab\\t line\\n back\\\\ \\u0001 \\u007f \xC3\xA9 \xEF\xBF\xBD.\", \"nul\": \"a\\u0000b\"}\n");
}

static void test_json_write_error(void **state) {
    (void)state;
    FILE *full = fopen("/dev/full", "w");
    if (full == NULL) {
        print_message("skipped: no /dev/full here\n");
        skip();
    }
    ot_error err = {0};
    ot_json_out out = ot_json_out_open(full);
    ot_json_out_object(&out, NULL);
    assert_int_equal(ot_json_out_close(&out, &err), OT_ERR_IO);
    assert_non_null(strstr(err.message, "writing the JSON result failed"));
    fclose(full);
}

static void test_table(void **state) {
    (void)state;
    static const ot_column columns[] = {{"name", OT_LEFT}, {"count", OT_RIGHT}, {"note", OT_LEFT}};
    capture c;
    ot_error err = {0};
    begin(&c);
    ot_table t = ot_table_begin(columns, 3);
    ot_table_cell(&t, "%s", "h\xC3\xA9");
    ot_table_cell(&t, "%d", 1234567);
    ot_table_cell(&t, "%s", "");
    ot_table_cell(&t, "longer name");
    ot_table_cell(&t, "%d", 5);
    ot_table_cell(&t, "a\nb");
    ot_table_cell(&t, "x");
    assert_int_equal(ot_table_print(&t, c.file, &err), OT_OK);
    end(&c, "name           count  note\nh\xC3\xA9           1234567\nlonger name        5  a\\x0Ab\nx\n");
    static const ot_column plain[] = {{NULL, OT_RIGHT}, {NULL, OT_LEFT}, {NULL, OT_RIGHT}};
    begin(&c);
    t = ot_table_begin(plain, 3);
    static const char *const cells[] = {"1", "", "3", "", "bb", "333"};
    for (int i = 0; i < 6; i++) ot_table_cell(&t, "%s", cells[i]);
    assert_int_equal(ot_table_print(&t, c.file, &err), OT_OK);
    end(&c, "1        3\n   bb  333\n");
}

static void test_wrapping(void **state) {
    (void)state;
    capture c;
    begin(&c);
    ot_put_wrapped(c.file, "one two three four", 0, 0, 9);
    ot_put_wrapped(c.file, "one two\nthree\n\nnext", 2, 2, 40);
    ot_put_wrapped(c.file, "before\n  kept   so\n  and so\nafter", 0, 0, 40);
    ot_put_wrapped(c.file, "averyveryverylongword b", 4, 4, 10);
    ot_put_wrapped(c.file, "", 0, 0, 10);
    end(&c,
        "one two\nthree\nfour\none two three\n\n  next\nbefore\n  kept   so\n  and so\nafter\naveryveryverylongword\n    b\n\n");
}

static void test_safe_echo(void **state) {
    (void)state;
    capture c;
    begin(&c);
    ot_put_safe(c.file, "a\033[31m\n\xC2\x9B\xff \xC3\xA9 \xEF\xBF\xBD");
    end(&c, "a\\x1B[31m\\x0A\\xC2\\x9B\\xFF \xC3\xA9 \xEF\xBF\xBD");
}

static void test_readable_numbers(void **state) {
    (void)state;
    char t[32], both[64];
    assert_string_equal(ot_text_bytes(0, t, sizeof t), "0 bytes");
    assert_string_equal(ot_text_bytes(1023, t, sizeof t), "1,023 bytes");
    assert_string_equal(ot_text_bytes(1024, t, sizeof t), "1.00 KiB");
    assert_string_equal(ot_text_bytes(50LL << 20, t, sizeof t), "50.0 MiB");
    assert_string_equal(ot_text_bytes(INT64_MAX, t, sizeof t), "8192 PiB");
    assert_string_equal(ot_text_count(0, t, sizeof t), "0");
    assert_string_equal(ot_text_count(999, t, sizeof t), "999");
    assert_string_equal(ot_text_count(1475558400, t, sizeof t), "1,475,558,400");
    assert_string_equal(ot_text_count(-1000, t, sizeof t), "-1,000");
    assert_string_equal(ot_text_count(INT64_MIN, t, sizeof t), "-9,223,372,036,854,775,808");
    assert_string_equal(OT_COUNT_OF(1, "step"), "1 step");
    assert_string_equal(OT_COUNT_OF(0, "step"), "0 steps");
    assert_string_equal(OT_COUNT_ARE(1, "row"), "1 row is");
    assert_string_equal(OT_COUNT_ARE(2000, "row"), "2,000 rows are");
    assert_string_equal(OT_COUNT_AS(1, "matrix has", "matrices have"), "1 matrix has");
    assert_string_equal(OT_COUNT_AS(2, "matrix has", "matrices have"), "2 matrices have");
    snprintf(both, sizeof both, "%s, %s, %s", OT_COUNT(12345), OT_COUNT_OF(1, "step"), OT_COUNT_OF(2000, "step"));
    assert_string_equal(both, "12,345, 1 step, 2,000 steps");
    assert_string_equal(ot_text_seconds(0.04, t, sizeof t), "0.0 s");
    assert_string_equal(ot_text_seconds(9.96, t, sizeof t), "10 s");
    assert_string_equal(ot_text_seconds(59.97, t, sizeof t), "1 min 00 s");
    assert_string_equal(ot_text_seconds(61, t, sizeof t), "1 min 01 s");
    assert_string_equal(ot_text_seconds(3720, t, sizeof t), "1 h 02 min");
    assert_string_equal(ot_text_seconds(90000, t, sizeof t), "1 d 01 h");
    assert_string_equal(ot_text_seconds(NAN, t, sizeof t), "?");
}

/* ==== Progress ==== */

static double now;
static double fake_clock(void) { return now; }

static ot_progress progress_to(FILE *file, bool terminal, int64_t total, int64_t first) {
    now = 100.0;
    return (ot_progress){.file = file,
                         .terminal = terminal,
                         .width = 80,
                         .clock = fake_clock,
                         .label = "tune",
                         .unit = "step",
                         .total = total,
                         .first = first,
                         .started = now,
                         .shown_at = now,
                         .shown_step = -1,
                         .valid_loss = NAN,
                         .last = OT_PROGRESS_SAMPLE};
}

static void test_progress_in_a_log(void **state) {
    (void)state;
    capture c;
    begin(&c);
    ot_progress p = progress_to(c.file, false, 100, 0);
    for (int64_t step = 1; step <= 100; step++) {
        now += 1.0;
        ot_progress_sample s = OT_PROGRESS_SAMPLE;
        s.step = step;
        s.loss = 4.0 - 0.01 * (double)step;
        if (step == 50) s.valid_loss = 3.25;
        if (step == 1) s.learning_rate = 1e-4, s.tokens_per_second = 1234.4, s.peak_bytes = 1LL << 30;
        ot_progress_step(&p, &s);
        if (step == 51) ot_progress_note(&p, "saved %s", "a\nb");
    }
    ot_progress_end(&p);
    end(&c, "tune step 1/100  loss 3.9900  lr 0.0001  1,234 tok/s  1 min 39 s left  1.00 GiB\n"
            "tune step 11/100  loss 3.8900  1 min 29 s left\n"
            "tune step 21/100  loss 3.7900  1 min 19 s left\n"
            "tune step 31/100  loss 3.6900  1 min 09 s left\n"
            "tune step 41/100  loss 3.5900  59 s left\n"
            "tune step 51/100  loss 3.4900  valid 3.2500  49 s left\n"
            "saved a\\x0Ab\n"
            "tune step 61/100  loss 3.3900  valid 3.2500  39 s left\n"
            "tune step 71/100  loss 3.2900  valid 3.2500  29 s left\n"
            "tune step 81/100  loss 3.1900  valid 3.2500  19 s left\n"
            "tune step 91/100  loss 3.0900  valid 3.2500  9.0 s left\n"
            "tune step 100/100  loss 3.0000  valid 3.2500  took 1 min 40 s\n");
}

static void test_progress_ends_early_and_resumes(void **state) {
    (void)state;
    capture c;
    begin(&c);
    ot_progress p = progress_to(c.file, false, 20, 10);
    for (int64_t step = 11; step <= 13; step++) {
        now += 2.0;
        ot_progress_sample s = OT_PROGRESS_SAMPLE;
        s.step = step;
        ot_progress_step(&p, &s);
    }
    ot_progress_end(&p);
    ot_progress_end(&p);
    end(&c, "tune step 11/20  18 s left\ntune step 13/20  14 s left\n");
}

static void test_progress_on_a_terminal(void **state) {
    (void)state;
    capture c;
    begin(&c);
    ot_progress p = progress_to(c.file, true, 4, 0);
    for (int64_t step = 1; step <= 4; step++) {
        now += step == 3 ? 0.01 : 1.0; /* the third comes too soon to be drawn */
        ot_progress_sample s = OT_PROGRESS_SAMPLE;
        s.step = step;
        s.loss = 2.0;
        ot_progress_step(&p, &s);
        if (step == 2) ot_progress_note(&p, "note");
    }
    ot_progress_end(&p);
    end(&c, "\rtune [#####               ] step 1/4  loss 2.0000  3.0 s left\033[K"
            "\rtune [##########          ] step 2/4  loss 2.0000  2.0 s left\033[K"
            "\r\033[Knote\n"
            "\rtune [##########          ] step 2/4  loss 2.0000  2.0 s left\033[K"
            "\rtune [####################] step 4/4  loss 2.0000  took 3.0 s\033[K\n");
    begin(&c);
    p = progress_to(c.file, true, 4, 0);
    p.width = 12;
    ot_progress_sample s = OT_PROGRESS_SAMPLE;
    s.step = 1;
    ot_progress_step(&p, &s);
    ot_progress_end(&p);
    end(&c, "\rtune step 1\033[K\n");
    /* The bar is what gives way; no number is cut off. */
    static const struct {
        int width;
        const char *bar;
    } widths[] = {{120, "[##########          ] "}, {90, "[####    ] "}, {80, ""}};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        char expected[200];
        begin(&c);
        p = progress_to(c.file, true, 200, 0);
        p.width = widths[i].width;
        now += 50.0;
        ot_progress_step(&p, &(ot_progress_sample){.step = 100, .loss = 0.6687, .valid_loss = 0.7374, .tokens_per_second = 1828, .peak_bytes = 1000 << 20});
        ot_progress_end(&p);
        snprintf(expected, sizeof expected, "\rtune %sstep 100/200  loss 0.6687  valid 0.7374  1,828 tok/s  50 s left  1000 MiB\033[K\n", widths[i].bar);
        end(&c, expected);
    }
}

static void test_progress_of_unknown_length_and_silent(void **state) {
    (void)state;
    capture c;
    begin(&c);
    ot_progress p = progress_to(c.file, false, 0, 0);
    ot_progress_sample s = OT_PROGRESS_SAMPLE;
    s.step = 1;
    ot_progress_step(&p, &s);
    p.file = NULL;
    ot_progress_step(&p, &s);
    ot_progress_note(&p, "unseen");
    ot_progress_end(&p);
    end(&c, "tune step 1\n");
}

/* ==== The process ==== */

/* What fn does to a process of its own: its signal, or 0 when it ended by itself. said: what it wrote to standard error, which is not the test's output. */
static int signal_of(void (*fn)(void), char *said, size_t size) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (dup2(ends[1], STDERR_FILENO) < 0) _exit(9);
        fn();
        _exit(0);
    }
    close(ends[1]);
    size_t used = 0;
    for (ssize_t n = 1; n > 0 && used + 1 < size; used += n > 0 ? (size_t)n : 0) n = read(ends[0], said + used, size - 1 - used);
    said[used] = '\0';
    close(ends[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status)) assert_int_equal(WEXITSTATUS(status), 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void interrupt_once(void) {
    ot_interrupt_install("stopping soon", false);
    if (ot_interrupted() || *ot_interrupt_flag() != 0) _exit(1);
    raise(SIGINT);
    if (!ot_interrupted() || *ot_interrupt_flag() == 0) _exit(2);
}

static void interrupt_twice(void) {
    interrupt_once();
    raise(SIGINT);
}

/* What a terminal sends and what a runner passes on may both come. */
static void interrupt_and_terminate(void) {
    interrupt_once();
    raise(SIGTERM);
}

static void terminate_in_silence(void) {
    ot_interrupt_install(NULL, false);
    raise(SIGTERM);
    if (!ot_interrupted()) _exit(3);
}

/* Nobody writes to the pipe: a wait that went on would never end. */
static void terminate_a_wait(void) {
    int ends[2];
    char byte = 0;
    struct itimerval soon = {.it_value = {.tv_usec = 20000}};
    ot_interrupt_install(NULL, true);
    struct sigaction action;
    sigaction(SIGTERM, NULL, &action);
    sigaction(SIGALRM, &action, NULL); /* an alarm comes by itself */
    if (pipe(ends) != 0 || setitimer(ITIMER_REAL, &soon, NULL) != 0) _exit(4);
    if (read(ends[0], &byte, 1) != -1 || errno != EINTR || !ot_interrupted()) _exit(5);
}

static void test_the_first_interrupt_asks_and_the_second_kills(void **state) {
    (void)state;
    char said[200];
    assert_int_equal(signal_of(interrupt_once, said, sizeof said), 0);
    assert_string_equal(said, "stopping soon\n");
    assert_int_equal(signal_of(interrupt_twice, said, sizeof said), SIGINT);
    assert_string_equal(said, "stopping soon\n");
    assert_int_equal(signal_of(interrupt_and_terminate, said, sizeof said), 0);
    assert_string_equal(said, "stopping soon\n");
    assert_int_equal(signal_of(terminate_in_silence, said, sizeof said), 0);
    assert_string_equal(said, "");
    assert_int_equal(signal_of(terminate_a_wait, said, sizeof said), 0);
}

static void undeclared_option(void) {
    ot_args args;
    ot_error err = {0};
    if (ot_args_init(&args, ot_verb_find("help"), &err) == OT_OK) (void)ot_args_i64(&args, "stpes");
}

static void wrong_kind(void) {
    ot_args args;
    ot_error err = {0};
    if (ot_args_init(&args, ot_verb_find("help"), &err) == OT_OK) (void)ot_args_i64(&args, "quiet");
}

static void undeclared_operand(void) {
    ot_args args;
    ot_error err = {0};
    if (ot_args_init(&args, ot_verb_find("help"), &err) == OT_OK) (void)ot_args_operand(&args, "MODEL");
}

static void key_in_array(void) {
    ot_json_out out = ot_json_out_open(stderr);
    ot_json_out_array(&out, NULL);
    ot_json_out_i64(&out, "key", 1);
}

static void no_key_in_object(void) {
    ot_json_out out = ot_json_out_open(stderr);
    ot_json_out_object(&out, NULL);
    ot_json_out_i64(&out, NULL, 1);
}

static void test_bugs_of_verbs_are_loud(void **state) {
    (void)state;
    char said[400];
    assert_int_equal(signal_of(undeclared_option, said, sizeof said), SIGABRT);
    assert_int_equal(signal_of(wrong_kind, said, sizeof said), SIGABRT);
    assert_int_equal(signal_of(undeclared_operand, said, sizeof said), SIGABRT);
    assert_int_equal(signal_of(key_in_array, said, sizeof said), SIGABRT);
    assert_int_equal(signal_of(no_key_in_object, said, sizeof said), SIGABRT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_json_write_error),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_wrapping),
        cmocka_unit_test(test_safe_echo),
        cmocka_unit_test(test_readable_numbers),
        cmocka_unit_test(test_progress_in_a_log),
        cmocka_unit_test(test_progress_ends_early_and_resumes),
        cmocka_unit_test(test_progress_on_a_terminal),
        cmocka_unit_test(test_progress_of_unknown_length_and_silent),
        cmocka_unit_test(test_the_first_interrupt_asks_and_the_second_kills),
        cmocka_unit_test(test_bugs_of_verbs_are_loud),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
