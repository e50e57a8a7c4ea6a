/* The guards of training: what is a spike, what is done about it, what a run looks like then, patience, and the checkpoints kept. */
#include <inttypes.h>
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
#include "base/parallel.h"
#include "base/rng.h"
#include "support/loop.h"
#include "support/scratch.h"
#include "support/tiny.h"

static int setup(void **state) {
    static scratch s;
    ot_threads_set(1);
    scratch_open(&s, TEST_BINARY_DIR);
    tiny_data(scratch_path(&s, "train.safetensors"), 7, 8, 37, true, 1);
    tiny_data(scratch_path(&s, "valid.safetensors"), 3, 8, 37, true, 3);
    *state = &s;
    return 0;
}

static int teardown(void **state) {
    ot_threads_set(0);
    scratch_close(*state);
    return 0;
}

/* ==== The judge. ==== */

/* A noisy curve that falls, as healthy runs have. */
static void healthy(ot_guard *g, ot_rng *rng, int steps, double noise) {
    for (int i = 0; i < steps; i++) {
        double loss = 2.0 + 3.0 * exp(-i / 50.0) + noise * ot_rng_normal(rng), norm = exp(0.5 * ot_rng_normal(rng));
        ot_guard_verdict v = ot_guard_judge(g, loss, norm, OT_GUARD_STOP, 1);
        if (v.kind != OT_GUARD_FINE) fail_msg("step %d: loss %g, norm %g is a %s", i, loss, norm, ot_guard_kind_name(v.kind));
    }
}

static void healthy_runs_have_no_spikes(void **state) {
    (void)state;
    static const double noises[] = {0, 0.01, 0.1, 0.5};
    for (int k = 0; k < 4; k++) {
        for (uint64_t seed = 0; seed < 20; seed++) {
            ot_guard g = {0};
            ot_rng rng;
            ot_rng_seed(&rng, seed);
            healthy(&g, &rng, 2000, noises[k]);
            assert_int_equal(g.skipped + g.spikes + g.in_a_row, 0);
        }
    }
}

static void each_mode_does_what_it_says(void **state) {
    (void)state;
    static const struct {
        double loss, norm;
        ot_guard_mode mode;
        ot_guard_kind kind;
        ot_guard_action action;
    } cases[] = {
        {NAN, 1, OT_GUARD_WARN, OT_GUARD_NOT_FINITE, OT_GUARD_SKIPPED},   {2, INFINITY, OT_GUARD_SKIP, OT_GUARD_NOT_FINITE, OT_GUARD_SKIPPED},
        {NAN, 1, OT_GUARD_STOP, OT_GUARD_NOT_FINITE, OT_GUARD_STOPPED},   {-INFINITY, 1, OT_GUARD_OFF, OT_GUARD_NOT_FINITE, OT_GUARD_STOPPED},
        {9, 1, OT_GUARD_WARN, OT_GUARD_LOSS, OT_GUARD_PASSED},            {9, 1, OT_GUARD_SKIP, OT_GUARD_LOSS, OT_GUARD_SKIPPED},
        {9, 1, OT_GUARD_STOP, OT_GUARD_LOSS, OT_GUARD_STOPPED},           {9, 1, OT_GUARD_OFF, OT_GUARD_FINE, OT_GUARD_PASSED},
        {2, 1000, OT_GUARD_WARN, OT_GUARD_NORM, OT_GUARD_PASSED},         {2, 1000, OT_GUARD_SKIP, OT_GUARD_NORM, OT_GUARD_SKIPPED},
        {2.05, 1.5, OT_GUARD_STOP, OT_GUARD_FINE, OT_GUARD_PASSED},       {0, 0, OT_GUARD_STOP, OT_GUARD_FINE, OT_GUARD_PASSED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ot_guard g = {0};
        ot_rng rng;
        ot_rng_seed(&rng, 5);
        healthy(&g, &rng, 300, 0.05);
        ot_guard before = g;
        ot_guard_verdict v = ot_guard_judge(&g, cases[i].loss, cases[i].norm, cases[i].mode, 5);
        if (v.kind != cases[i].kind || v.action != cases[i].action) {
            fail_msg("case %zu: %s, %s", i, ot_guard_kind_name(v.kind), ot_guard_action_name(v.action));
        }
        assert_int_equal(g.skipped, v.action == OT_GUARD_SKIPPED);
        if (v.action == OT_GUARD_STOPPED) assert_memory_equal(&g, &before, sizeof g);
        if (v.kind == OT_GUARD_LOSS) assert_true(v.usual > 1.5 && v.usual < 3 && v.z > OT_GUARD_Z);
    }
    /* Nothing is known yet: no spikes. */
    ot_guard g = {0};
    for (int i = 0; i < OT_GUARD_WARM_UP; i++) assert_int_equal(ot_guard_judge(&g, i == 5 ? 100 : 2, 1, OT_GUARD_STOP, 1).kind, OT_GUARD_FINE);
}

static void the_limit_counts_steps_in_a_row(void **state) {
    (void)state;
    ot_guard g = {0};
    for (int i = 0; i < 9; i++) {
        ot_guard_verdict v = ot_guard_judge(&g, i % 3 == 2 ? 2 : NAN, 1, OT_GUARD_WARN, 3);
        assert_int_equal(v.action, i % 3 == 2 ? OT_GUARD_PASSED : OT_GUARD_SKIPPED);
    }
    assert_int_equal(g.skipped, 6);
    for (int i = 0; i < 3; i++) assert_int_equal(ot_guard_judge(&g, NAN, 1, OT_GUARD_WARN, 3).action, i < 2 ? OT_GUARD_SKIPPED : OT_GUARD_STOPPED);
}

/* A lasting change is news a few times, then usual. */
static void a_new_level_becomes_usual(void **state) {
    (void)state;
    ot_guard g = {0};
    ot_rng rng;
    ot_rng_seed(&rng, 5);
    healthy(&g, &rng, 300, 0.05);
    for (int i = 0; i < 300; i++) (void)ot_guard_judge(&g, 6 + 0.05 * ot_rng_normal(&rng), 1, OT_GUARD_WARN, 5);
    assert_in_range(g.spikes, 1, 60);
    assert_int_equal(ot_guard_judge(&g, 6, 1, OT_GUARD_WARN, 5).kind, OT_GUARD_FINE);
}

/* A rate far too high ruins a run before anything is usual: no spike, but losses far above the first ones, told once. */
static void a_ruined_run_is_told_once(void **state) {
    (void)state;
    static const ot_guard_mode modes[] = {OT_GUARD_WARN, OT_GUARD_SKIP, OT_GUARD_STOP, OT_GUARD_OFF};
    for (int k = 0; k < 4; k++) {
        ot_guard g = {0};
        int told = 0, stopped = 0;
        for (int i = 0; i < 200 && stopped == 0; i++) {
            ot_guard_verdict v = ot_guard_judge(&g, i == 0 ? 1.3 : i == 1 ? 1.8 : 5.5 + 1.5 * exp(-i / 10.0), 1, modes[k], 5);
            told += v.kind == OT_GUARD_DIVERGED;
            stopped += v.action == OT_GUARD_STOPPED;
            assert_true(v.kind != OT_GUARD_DIVERGED || (i >= OT_GUARD_WARM_UP && fabs(v.usual - 1.55) < 1e-9));
        }
        assert_int_equal(told, modes[k] != OT_GUARD_OFF);
        assert_int_equal(stopped, modes[k] == OT_GUARD_STOP);
        assert_int_equal(g.skipped + g.spikes, 0);
    }
    /* A run that began by chance with easy rows has not. */
    ot_guard g = {0};
    for (int i = 0; i < 200; i++) assert_int_equal(ot_guard_judge(&g, i < 2 ? 0.5 : 3, 1, OT_GUARD_STOP, 5).kind, OT_GUARD_FINE);
}

/* ==== A run. ==== */

enum { STEPS = 60, BAD = 40 };

static loop *seen;
static int bad_steps; /* so many from step BAD on have weights that give nonsense */
static bool spike;    /* large weights instead of no numbers */
static float held[4096];

static void spoil(const ot_train_event *e) {
    float *w = seen->t.master;
    int64_t n = seen->t.stretch < 4096 ? seen->t.stretch : 4096;
    if (e->step + 1 == BAD) {
        memcpy(held, w, (size_t)n * 4);
        for (int64_t i = 0; i < n; i++) w[i] = spike ? w[i] * 300.0F : NAN;
    }
    if (e->step + 1 == BAD + bad_steps) memcpy(w, held, (size_t)n * 4);
}

static void open_run(loop *l, scratch *s, ot_guard_mode mode) {
    loop_open(l, tiny_open(TINY_COMMITTED("gpt2")), tiny_path(s->dir, "train.safetensors"), tiny_path(s->dir, "valid.safetensors"));
    l->o.steps = STEPS;
    l->o.lr = 1e-3;
    l->o.weight_decay = 0;
    l->o.guard = mode;
    l->o.guard_limit = 5;
    l->o.checkpoint_path = tiny_path(s->dir, "checkpoint.safetensors");
    l->o.log_path = tiny_path(s->dir, "log.jsonl");
    l->o.resume = true;
    l->also = spoil;
    seen = l;
    bad_steps = 3;
    spike = false;
}

static void steps_that_are_not_finite_change_nothing(void **state) {
    loop l;
    open_run(&l, *state, OT_GUARD_WARN);
    l.remember = true;
    l.o.save_every = 1;
    loop_must_run(&l);
    assert_int_equal(l.result.skipped, 3);
    assert_int_equal(l.result.steps_done, STEPS);
    for (int i = BAD; i < BAD + 3; i++) {
        assert_true(l.events[i].skipped && l.events[i].guard.kind == OT_GUARD_NOT_FINITE);
        assert_int_equal(l.events[i].n_rows, 2);
        assert_int_equal(l.events[i].rows[0], 2 * i % 7);
        assert_int_equal(l.events[i].rows[1], (2 * i + 1) % 7);
    }
    assert_true(!l.events[BAD + 3].skipped && isfinite(l.events[BAD + 3].loss));
    /* The weights (where they were not spoilt) and the moments are those of before. */
    for (int64_t i = 4096; i < l.t.stretch; i++) assert_true(l.masters[BAD - 1][i] == l.masters[BAD + 2][i]);
    assert_true(memcmp(l.masters[BAD + 2], l.masters[BAD + 3], (size_t)l.t.stretch * 4) != 0);
    char *log = tiny_read(l.o.log_path, NULL);
    assert_non_null(strstr(log, "{\"step\": 40, \"event\": \"non-finite\", \"action\": \"skipped\", \"loss\": null, \"grad_norm\": null, \"in_a_row\": 1, "
                                "\"rows\": [3, 4]}\n{\"step\": 40, "));
    assert_non_null(strstr(log, ", \"skipped\": true, \"tokens_per_second\""));
    ot_free(log);
    loop_close(&l);
}

static void expect_stop(loop *l, const char *part) {
    ot_status status = loop_run(l);
    if (status != OT_ERR_NUMERIC || strstr(l->err.message, part) == NULL) fail_msg("%s: %s", ot_status_name(status), l->err.message);
}

static int64_t saved_step(const char *path) {
    ot_safetensors *st = NULL;
    ot_error err;
    if (ot_safetensors_open(path, &st, &err) != OT_OK) return -1;
    int64_t step = strtoll(ot_safetensors_metadata(st, "step"), NULL, 10);
    ot_safetensors_close(st);
    return step;
}

static void too_many_in_a_row_stop_the_run(void **state) {
    loop l;
    open_run(&l, *state, OT_GUARD_WARN);
    bad_steps = STEPS;
    l.o.save_every = 7;
    expect_stop(&l, "step 44: the loss is nan and the gradient norm nan (data rows 4, 5), the last of 5 such steps in a row: nothing was updated; "
                    "the checkpoint of step 35 is kept");
    assert_int_equal(saved_step(l.o.checkpoint_path), 35);
    loop_close(&l);
    /* Interrupted in the midst of them: what was good stays, too. */
    scratch *s = *state;
    ot_error err;
    assert_int_equal(ot_checkpoints_remove(tiny_path(s->dir, "checkpoint.safetensors"), &err), OT_OK);
    open_run(&l, s, OT_GUARD_WARN);
    bad_steps = STEPS;
    l.o.save_every = 7;
    l.stop_after = BAD + 2;
    assert_int_equal(loop_run(&l), OT_ERR_INTERRUPTED);
    assert_non_null(strstr(l.err.message, "not finite"));
    assert_int_equal(saved_step(l.o.checkpoint_path), 35);
    loop_close(&l);
}

static void a_run_does_not_end_on_broken_weights(void **state) {
    for (int k = 0; k < 2; k++) {
        loop l;
        open_run(&l, *state, OT_GUARD_WARN);
        bad_steps = STEPS;
        l.o.steps = BAD + 2;
        l.o.checkpoint_path = NULL;
        l.o.valid_every = 10;
        l.o.select_best = k == 1;
        if (k == 1) {
            loop_must_run(&l); /* the best of before goes back */
            assert_int_equal(l.result.best_step % 10, 0);
            assert_true(l.result.best_step <= BAD && l.result.best_step > 0);
            for (int64_t i = 0; i < l.t.stretch; i++) assert_true(isfinite(l.t.master[i]));
        } else {
            expect_stop(&l, "the weights give no finite loss any more");
        }
        loop_close(&l);
    }
}

/* Resumed in front of, within and behind the skipped steps: the same numbers. */
static void skipping_resumes_bit_for_bit(void **state) {
    scratch *s = *state;
    loop whole;
    open_run(&whole, s, OT_GUARD_SKIP);
    spike = true;
    loop_must_run(&whole);
    if (whole.result.skipped < 1 || whole.result.skipped > 3) fail_msg("%" PRId64 " steps were skipped", whole.result.skipped);
    assert_true(whole.events[BAD].skipped && whole.events[BAD].guard.kind == OT_GUARD_NORM);
    for (int64_t stop = BAD - 1; stop <= BAD + 4; stop++) {
        ot_error err;
        assert_int_equal(ot_checkpoints_remove(whole.o.checkpoint_path, &err), OT_OK);
        loop l[2];
        for (int k = 0; k < 2; k++) {
            open_run(&l[k], s, OT_GUARD_SKIP);
            spike = true;
            l[k].stop_after = k == 0 ? stop : 0;
            assert_int_equal(loop_run(&l[k]), k == 0 ? OT_ERR_INTERRUPTED : OT_OK);
        }
        assert_int_equal(l[1].result.first_step, stop);
        assert_memory_equal(whole.t.master, l[1].t.master, (size_t)whole.t.stretch * 4);
        assert_memory_equal(whole.t.states[0], l[1].t.states[0], (size_t)whole.t.stretch * 4);
        assert_int_equal(l[1].result.skipped, whole.result.skipped);
        for (int k = 0; k < 2; k++) loop_close(&l[k]);
    }
    loop_close(&whole);
}

/* Stopped at a spike: the step before it is on disk, and another mode goes on. */
static void a_spike_may_stop_the_run(void **state) {
    scratch *s = *state;
    loop l;
    open_run(&l, s, OT_GUARD_STOP);
    spike = true;
    expect_stop(&l, "go on with --resume --guard skip");
    assert_non_null(strstr(l.err.message, "step 40: the gradient norm is "));
    assert_non_null(strstr(l.err.message, "(data rows 3, 4): nothing was updated; the checkpoint of step 40 is kept"));
    assert_int_equal(saved_step(l.o.checkpoint_path), BAD);
    loop_close(&l);
    open_run(&l, s, OT_GUARD_SKIP);
    spike = true;
    l.o.steps = STEPS;
    loop_must_run(&l);
    assert_int_equal(l.result.first_step, BAD);
    assert_true(l.events[0].skipped);
    loop_close(&l);
}

/* Watching alone changes no bit. */
static void warnings_change_nothing(void **state) {
    static const ot_guard_mode modes[] = {OT_GUARD_OFF, OT_GUARD_WARN};
    loop l[2];
    for (int k = 0; k < 2; k++) {
        open_run(&l[k], *state, modes[k]);
        l[k].o.checkpoint_path = NULL;
        spike = true;
        loop_must_run(&l[k]);
    }
    assert_int_equal(l[0].result.spikes, 0);
    assert_true(l[1].result.spikes >= 1);
    assert_memory_equal(l[0].t.master, l[1].t.master, (size_t)l[0].t.stretch * 4);
    for (int k = 0; k < 2; k++) loop_close(&l[k]);
}

/* ==== Patience, kept checkpoints. ==== */

static void patience_ends_a_run(void **state) {
    scratch *s = *state;
    loop whole;
    open_run(&whole, s, OT_GUARD_WARN);
    whole.also = NULL;
    whole.o.lr = 0.05;
    whole.o.valid_every = 2;
    whole.o.patience = 3;
    whole.o.select_best = true;
    loop_must_run(&whole);
    assert_true(whole.result.early);
    assert_int_equal(whole.result.steps_done, whole.result.best_step + 6);
    assert_true(whole.result.best_step >= 2 && whole.result.steps_done < STEPS);
    /* Stopped between the best and the end: the count goes on, not from nought. */
    for (int64_t stop = whole.result.best_step; stop < whole.result.steps_done; stop++) {
        ot_error err;
        assert_int_equal(ot_checkpoints_remove(whole.o.checkpoint_path, &err), OT_OK);
        for (int k = 0; k < 2; k++) {
            loop l;
            open_run(&l, s, OT_GUARD_WARN);
            l.also = NULL;
            l.o = whole.o;
            l.o.context = &l;
            l.o.stop = &l.stop;
            l.stop_after = k == 0 ? stop : 0;
            assert_int_equal(loop_run(&l), k == 0 ? OT_ERR_INTERRUPTED : OT_OK);
            if (k == 1) {
                assert_int_equal(l.result.steps_done, whole.result.steps_done);
                assert_int_equal(l.result.best_step, whole.result.best_step);
                assert_memory_equal(whole.t.master, l.t.master, (size_t)whole.t.stretch * 4);
            }
            loop_close(&l);
        }
    }
    loop_close(&whole);
}

static void so_many_checkpoints_are_kept(void **state) {
    scratch *s = *state;
    loop whole, l;
    open_run(&whole, s, OT_GUARD_WARN);
    whole.also = NULL;
    loop_must_run(&whole);
    const char *path = whole.o.checkpoint_path;
    char old[2][512];
    for (int k = 0; k < 2; k++) snprintf(old[k], sizeof old[k], "%s.%09d", path, k == 0 ? 30 : 45);
    ot_error err;
    assert_int_equal(ot_checkpoints_remove(path, &err), OT_OK);
    assert_false(ot_checkpoints_exist(path));
    int64_t files = scratch_count(s);
    open_run(&l, s, OT_GUARD_WARN);
    l.also = NULL;
    l.o.save_every = 15;
    l.o.keep = 3;
    loop_must_run(&l);
    assert_int_equal(scratch_count(s), files + 3);
    assert_int_equal(saved_step(path), STEPS);
    for (int k = 0; k < 2; k++) assert_int_equal(saved_step(old[k]), k == 0 ? 30 : 45);
    loop_close(&l);
    /* The newest taken away: the one before goes on, to the same end. */
    assert_int_equal(ot_remove_tree(path, &err), OT_OK);
    assert_true(ot_checkpoints_exist(path));
    open_run(&l, s, OT_GUARD_WARN);
    l.also = NULL;
    l.o.keep = 3;
    loop_must_run(&l);
    assert_int_equal(l.result.first_step, 45);
    assert_memory_equal(whole.t.master, l.t.master, (size_t)whole.t.stretch * 4);
    assert_int_equal(ot_checkpoints_remove(path, &err), OT_OK);
    assert_int_equal(scratch_count(s), files);
    loop_close(&l);
    loop_close(&whole);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(healthy_runs_have_no_spikes),
        cmocka_unit_test(each_mode_does_what_it_says),
        cmocka_unit_test(the_limit_counts_steps_in_a_row),
        cmocka_unit_test(a_new_level_becomes_usual),
        cmocka_unit_test(a_ruined_run_is_told_once),
        cmocka_unit_test_setup_teardown(steps_that_are_not_finite_change_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(too_many_in_a_row_stop_the_run, setup, teardown),
        cmocka_unit_test_setup_teardown(a_run_does_not_end_on_broken_weights, setup, teardown),
        cmocka_unit_test_setup_teardown(skipping_resumes_bit_for_bit, setup, teardown),
        cmocka_unit_test_setup_teardown(a_spike_may_stop_the_run, setup, teardown),
        cmocka_unit_test_setup_teardown(warnings_change_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(patience_ends_a_run, setup, teardown),
        cmocka_unit_test_setup_teardown(so_many_checkpoints_are_kept, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
