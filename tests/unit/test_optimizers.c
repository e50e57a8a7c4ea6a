/* The optimizers of the table against doubles, their state in memory and in checkpoints, the same bits for any number of threads. AdamW's own
 * arithmetic is tested against PyTorch's numbers in test_train.c. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/parallel.h"
#include "base/rng.h"
#include "support/loop.h"
#include "support/scratch.h"
#include "support/tiny.h"

static const char *const names[] = {"adamw", "adamw8bit", "sgd", "sgd:momentum=0"};
enum { NAMES = sizeof names / sizeof *names };

static ot_optimizer_choice choose(const char *text) {
    ot_optimizer_choice choice;
    ot_error err = {0};
    if (ot_optimizer_parse(text, &choice, &err) != OT_OK) fail_msg("%s: %s", text, err.message);
    return choice;
}

static void texts_choose_or_are_refused(void **state) {
    (void)state;
    ot_optimizer_choice c = choose("adamw");
    assert_true(c.optimizer == ot_optimizers[0] && c.keys[0] == 0.9 && c.keys[1] == 0.999 && c.keys[2] == 1e-8);
    c = choose("sgd:momentum=0.5");
    assert_true(c.keys[0] == 0.5 && strcmp(c.optimizer->spec.name, "sgd") == 0);
    static const struct {
        const char *text, *part;
    } bad[] = {{"adam", "nearest is \"adamw\""}, {"sgd:momentun=1", "momentum"}, {"sgd:momentum=1", "momentum must be"}, {"adamw|sgd", "one optimizer"}, {"", "--optimizer"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ot_error err = {0};
        assert_int_equal(ot_optimizer_parse(bad[i].text, &c, &err), OT_ERR_USAGE);
        if (strstr(err.message, bad[i].part) == NULL) fail_msg("%s: %s", bad[i].text, err.message);
    }
}

/* One matrix and one vector; the matrix does not end with a block. */
enum { ROWS = 300, COLS = 227, VECTOR = 19 };
typedef struct set {
    float values[ROWS * COLS];
    ot_slot slots[2];
    ot_trainables t;
} set;

static set *make_set(const char *optimizer, ot_dtype compute) {
    set *s = calloc(1, sizeof *s);
    ot_error err = {0};
    assert_non_null(s);
    ot_rng rng;
    ot_rng_seed(&rng, 5);
    for (int64_t i = 0; i < ROWS * COLS; i++) s->values[i] = (float)ot_rng_normal(&rng);
    s->slots[0] = (ot_slot){.dtype = OT_F32, .rows = 1, .cols = VECTOR, .data = s->values};
    s->slots[1] = (ot_slot){.dtype = OT_F32, .rows = ROWS, .cols = COLS, .data = s->values};
    if (ot_trainables_add(&s->t, "vector", &s->slots[0], 1, false, 1.0, &err) != OT_OK || ot_trainables_add(&s->t, "matrix", &s->slots[1], 2, true, 2.0, &err) != OT_OK) {
        fail_msg("%s", err.message);
    }
    s->t.optimizer = choose(optimizer);
    if (ot_trainables_bind(&s->t, compute, false, &err) != OT_OK) fail_msg("%s", err.message);
    return s;
}

static void free_set(set *s) {
    ot_trainables_free(&s->t);
    free(s);
}

/* A gradient of a scale of its own for every element, over three orders of magnitude, with noise. */
static void fill(set *s, int64_t step) {
    ot_rng rng;
    ot_rng_seed(&rng, (uint64_t)step + 100);
    for (int k = 0; k < 2; k++) {
        for (int64_t i = 0; i < s->t.items[k].count; i++) {
            double scale = pow(10, -3 * (double)(i * 7 % 101) / 100);
            s->t.grad[s->t.items[k].offset + i] = (float)(scale * (0.3 + ot_rng_normal(&rng)));
        }
    }
}

static void update(set *s, int64_t step) { ot_trainables_update(&s->t, &(ot_update){.lr = 1e-3, .decay = 0.1, .step = step, .grad_scale = 0.5}); }

static void sgd_is_that_of_doubles(void **state) {
    (void)state;
    set *s = make_set("sgd:momentum=0.8", OT_F32);
    const ot_trainable *m = &s->t.items[1];
    double w[2] = {(double)s->t.master[m->offset], (double)s->t.master[m->offset + m->count - 1]}, v[2] = {0};
    for (int64_t k = 1; k <= 5; k++) {
        fill(s, k);
        for (int i = 0; i < 2; i++) {
            v[i] = 0.8 * v[i] + 0.5 * (double)s->t.grad[m->offset + (i == 0 ? 0 : m->count - 1)];
            w[i] = w[i] * (1 - 2e-3 * 0.1) - 2e-3 * v[i];
        }
        update(s, k);
        for (int i = 0; i < 2; i++) assert_true(fabs((double)s->t.master[m->offset + (i == 0 ? 0 : m->count - 1)] - w[i]) < 1e-6);
    }
    for (int64_t i = 0; i < s->t.stretch; i++) assert_true(s->t.grad[i] == 0.0F);
    free_set(s);
}

/* 200 steps: where the 8-bit weights went, against where exact ones went. */
static void eight_bits_go_where_thirty_two_go(void **state) {
    (void)state;
    set *exact = make_set("adamw", OT_F32), *small = make_set("adamw8bit", OT_F32);
    for (int64_t k = 1; k <= 200; k++) {
        fill(exact, k);
        fill(small, k);
        update(exact, k);
        update(small, k);
        if (k > 1) continue;
        /* The first update comes before any rounding. */
        for (int64_t i = 0; i < exact->t.stretch; i++) assert_true(fabsf(exact->t.master[i] - small->t.master[i]) <= 2e-7F);
    }
    double apart = 0, moved = 0;
    const ot_trainable *m = &exact->t.items[1];
    for (int64_t i = 0; i < m->count; i++) {
        double a = (double)exact->t.master[m->offset + i], b = (double)small->t.master[m->offset + i], from = (double)exact->values[i];
        apart += (a - b) * (a - b);
        moved += (a - from) * (a - from);
    }
    print_message("8-bit moments: %.2f %% of the way apart after 200 steps\n", 100 * sqrt(apart / moved));
    assert_true(sqrt(apart / moved) < 0.08);
    free_set(exact);
    free_set(small);
}

/* The mean square must fall when gradients stop, although a step moves it by a thousandth and codes are 3 % and more apart. */
static void eight_bits_do_not_stick(void **state) {
    (void)state;
    set *s = make_set("adamw8bit", OT_F32);
    fill(s, 1);
    update(s, 1);
    const ot_trainable *m = &s->t.items[1];
    const float *scale = (const float *)s->t.states[3] + m->first_block;
    float before = scale[0];
    for (int64_t k = 2; k <= 1001; k++) update(s, k);
    double fallen = (double)scale[0] / (double)before, wanted = exp(-0.5); /* of the root */
    if (fabs(fallen / wanted - 1) > 0.15) fail_msg("the largest root fell to %.3f instead of %.3f", fallen, wanted);
    for (int64_t i = 0; i < s->t.stretch; i++) assert_true(isfinite(s->t.master[i]));
    free_set(s);
}

static void threads_do_not_change_a_bit(void **state) {
    (void)state;
    for (int n = 0; n < NAMES; n++) {
        set *one = make_set(names[n], OT_BF16), *two = make_set(names[n], OT_BF16);
        for (int64_t k = 1; k <= 3; k++) {
            ot_threads_set(1);
            fill(one, k);
            update(one, k);
            ot_threads_set(2);
            fill(two, k);
            update(two, k);
        }
        ot_threads_set(0);
        assert_memory_equal(one->t.master, two->t.master, (size_t)one->t.stretch * 4);
        assert_memory_equal(one->t.halves, two->t.halves, (size_t)one->t.stretch * 2);
        for (int i = 0; i < 2; i++) {
            for (int k = 0; k < OT_OPTIMIZER_STATES && one->t.states[k] != NULL; k++) {
                void *a = NULL, *b = NULL;
                int64_t count = 0;
                ot_dtype dtype = ot_trainables_state(&one->t, k, &one->t.items[i], &a, &count);
                ot_trainables_state(&two->t, k, &two->t.items[i], &b, &count);
                assert_memory_equal(a, b, (size_t)(count * (dtype == OT_U8 ? 1 : 4)));
            }
        }
        free_set(one);
        free_set(two);
    }
}

/* ==== In a run. ==== */

static int setup(void **state) {
    static scratch s;
    scratch_open(&s, TEST_BINARY_DIR);
    tiny_data(scratch_path(&s, "train.safetensors"), 7, 8, 37, true, 1);
    *state = &s;
    return 0;
}

static int teardown(void **state) {
    scratch_close(*state);
    return 0;
}

static void open_loop(loop *l, scratch *s, const char *optimizer, const char *checkpoint) {
    loop_open(l, tiny_open(TINY_COMMITTED("gpt2")), tiny_path(s->dir, "train.safetensors"), NULL);
    l->o.optimizer = choose(optimizer);
    l->o.steps = 8;
    l->o.resume = true;
    l->o.checkpoint_path = tiny_path(s->dir, checkpoint);
}

static void a_resumed_run_has_the_same_bits(void **state) {
    scratch *s = *state;
    for (int n = 0; n < NAMES; n++) {
        loop whole, part, rest;
        char name[64];
        snprintf(name, sizeof name, "whole%d", n);
        open_loop(&whole, s, names[n], name);
        loop_must_run(&whole);
        assert_true(whole.events[7].loss < whole.events[0].loss + 0.5);
        snprintf(name, sizeof name, "part%d", n);
        open_loop(&part, s, names[n], name);
        part.stop_after = 3;
        assert_int_equal(loop_run(&part), OT_ERR_INTERRUPTED);
        open_loop(&rest, s, names[n], name);
        loop_must_run(&rest);
        assert_int_equal(rest.result.first_step, 3);
        assert_memory_equal(whole.t.master, rest.t.master, (size_t)whole.t.stretch * 4);
        assert_true(tiny_same_file(whole.o.checkpoint_path, rest.o.checkpoint_path));
        loop_close(&whole);
        loop_close(&part);
        loop_close(&rest);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_choose_or_are_refused),
        cmocka_unit_test(sgd_is_that_of_doubles),
        cmocka_unit_test(eight_bits_go_where_thirty_two_go),
        cmocka_unit_test(eight_bits_do_not_stick),
        cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test_setup_teardown(a_resumed_run_has_the_same_bits, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
