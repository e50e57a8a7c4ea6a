/* The training loop: accumulation, clipping, wrapping, validation and the best weights, the log, threads, and what it refuses. */
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
#include "format/json.h"
#include "support/loop.h"
#include "support/scratch.h"
#include "support/tiny.h"

/* Large enough that kernels and sweeps cut their work between threads. */
#define WIDE_MODEL "{\"model_type\": \"llama\", \"hidden_size\": 96, \"intermediate_size\": 256, \"num_hidden_layers\": 3, \"num_attention_heads\": 4, " \
                   "\"num_key_value_heads\": 2, \"vocab_size\": 500, \"max_position_embeddings\": 64}"

static int setup(void **state) {
    static scratch s;
    scratch_open(&s, TEST_BINARY_DIR);
    tiny_data(scratch_path(&s, "train.safetensors"), 7, 8, 37, true, 1);
    tiny_data(scratch_path(&s, "plain.safetensors"), 7, 8, 37, false, 2);
    tiny_data(scratch_path(&s, "valid.safetensors"), 3, 8, 37, true, 3);
    *state = &s;
    return 0;
}

static int teardown(void **state) {
    ot_threads_set(0);
    scratch_close(*state);
    return 0;
}

static void open_loop(loop *l, scratch *s, const char *model, bool valid) {
    loop_open(l, tiny_open(model), tiny_path(s->dir, "train.safetensors"), valid ? tiny_path(s->dir, "valid.safetensors") : NULL);
}

static double largest_difference(const loop *a, const loop *b) {
    double worst = 0;
    for (int64_t i = 0; i < a->t.stretch; i++) worst = fmax(worst, fabs((double)a->t.master[i] - (double)b->t.master[i]));
    return worst;
}

/* ==== Steps. ==== */

static void accumulation_is_the_big_batch(void **state) {
    static const int64_t ways[][2] = {{4, 1}, {1, 4}, {2, 2}};
    loop l[3];
    for (int k = 0; k < 3; k++) {
        open_loop(&l[k], *state, TINY_COMMITTED("qwen2"), false);
        l[k].o.batch = ways[k][0];
        l[k].o.grad_accum = ways[k][1];
        /* The 7 rows wrap inside a step. */
        l[k].o.shuffle = true;
        loop_must_run(&l[k]);
    }
    for (int k = 1; k < 3; k++) {
        for (int s = 0; s < 6; s++) {
            double a = l[0].events[s].loss, b = l[k].events[s].loss, x = l[0].events[s].grad_norm, y = l[k].events[s].grad_norm;
            if (fabs(a - b) > 2e-6 * a || fabs(x - y) > 1e-4 * x) fail_msg("step %d: loss %.9g and %.9g, norm %.9g and %.9g", s, a, b, x, y);
            assert_int_equal(l[0].events[s].tokens, l[k].events[s].tokens);
        }
        double worst = largest_difference(&l[0], &l[k]);
        if (worst > 2e-5) fail_msg("weights differ by %g", worst);
    }
    /* The rows must be unequal, or a mean of means would pass. */
    const ot_dataset *d = &l[0].train;
    assert_true(d->counted[0] != d->counted[1]);
    for (int k = 0; k < 3; k++) loop_close(&l[k]);
}

static void rows_come_in_order_and_wrap(void **state) {
    scratch *s = *state;
    loop all, one;
    loop_open(&all, tiny_open(TINY_COMMITTED("gpt2")), tiny_path(s->dir, "plain.safetensors"), NULL);
    all.o.steps = 9;
    all.o.batch = 1;
    all.o.lr = 0;
    loop_must_run(&all);
    for (int i = 0; i < 9; i++) {
        assert_true(all.events[i].loss == all.events[(i + 7) % 14 < 9 ? (i + 7) % 14 : i].loss);
        assert_true(fabs(all.events[i].epoch - (i + 1) / 7.0) < 1e-12);
        assert_int_equal(all.events[i].tokens, 8 * (i + 1));
        assert_int_equal(all.events[i].step, i);
    }
    assert_true(all.events[0].loss != all.events[1].loss);
    /* Shuffled: the same seven losses in another order, then in yet another. */
    loop_open(&one, tiny_open(TINY_COMMITTED("gpt2")), tiny_path(s->dir, "plain.safetensors"), NULL);
    one.o = all.o;
    one.o.context = &one;
    one.o.stop = &one.stop;
    one.o.steps = 14;
    one.o.shuffle = true;
    one.o.seed = 5;
    loop_must_run(&one);
    bool moved = false, differ = false;
    for (int i = 0; i < 14; i++) {
        int found = 0;
        for (int k = 0; k < 7; k++) found += one.events[i / 7 * 7 + k].loss == all.events[i % 7].loss;
        assert_int_equal(found, 1);
        moved = moved || one.events[i].loss != all.events[i % 7].loss;
        differ = differ || one.events[i].loss != one.events[(i + 7) % 14].loss;
    }
    assert_true(moved && differ);
    loop_close(&all);
    loop_close(&one);
}

static void clipping_shows_the_norm_before(void **state) {
    loop l[2];
    for (int k = 0; k < 2; k++) {
        open_loop(&l[k], *state, TINY_COMMITTED("gpt2"), false);
        l[k].o.steps = 1;
        l[k].o.clip = k == 0 ? 0 : 1e-3;
        loop_must_run(&l[k]);
        double sum = 0;
        for (int64_t i = 0; i < l[k].t.stretch; i++) sum += (double)((float *)l[k].t.states[0])[i] * (double)((float *)l[k].t.states[0])[i];
        double used = k == 0 ? l[k].events[0].grad_norm : 1e-3;
        assert_true(l[k].events[0].grad_norm > 0.01);
        assert_true(fabs(sqrt(sum) - 0.1 * used) < 1e-3 * used);
    }
    assert_true(l[0].events[0].grad_norm == l[1].events[0].grad_norm);
    for (int k = 0; k < 2; k++) loop_close(&l[k]);
}

static void gradients_do_not_leak_into_the_next_step(void **state) {
    loop l;
    open_loop(&l, *state, TINY_COMMITTED("gpt2"), false);
    l.o.lr = 0;
    l.o.batch = 7;
    loop_must_run(&l);
    for (int i = 1; i < 6; i++) assert_true(l.events[i].grad_norm == l.events[0].grad_norm && l.events[i].loss == l.events[0].loss);
    loop_close(&l);
}

static void dropout_follows_the_seed(void **state) {
    double losses[4];
    for (int k = 0; k < 4; k++) {
        loop l;
        open_loop(&l, *state, TINY_COMMITTED("gpt2"), false);
        l.o.dropout = k == 3 ? 0 : 0.3;
        l.o.seed = k == 2 ? 8 : 7;
        loop_must_run(&l);
        losses[k] = l.result.last_loss;
        loop_close(&l);
    }
    assert_true(losses[0] == losses[1]);
    assert_true(losses[0] != losses[2] && losses[0] != losses[3]);
    /* Other masks in every step and micro-batch: the same rows with the same weights, and never the same loss. */
    loop l;
    open_loop(&l, *state, TINY_COMMITTED("gpt2"), false);
    l.o.dropout = 0.3;
    l.o.lr = 0;
    l.o.batch = 7;
    loop_must_run(&l);
    for (int i = 1; i < 6; i++) assert_true(l.events[i].loss != l.events[i - 1].loss);
    loop_close(&l);
}

static void threads_do_not_change_a_bit(void **state) {
    scratch *s = *state;
    const char *dir = tiny_path(s->dir, "wide");
    tiny_make(WIDE_MODEL, dir, OT_F32, 4);
    tiny_data(tiny_path(s->dir, "long.safetensors"), 5, 48, 500, true, 9);
    static const ot_dtype dtypes[] = {OT_F32, OT_BF16};
    for (int d = 0; d < 2; d++) {
        loop l[2];
        for (int k = 0; k < 2; k++) {
            ot_threads_set(k + 1);
            loop_open(&l[k], tiny_open(dir), tiny_path(s->dir, "long.safetensors"), tiny_path(s->dir, "valid.safetensors"));
            l[k].o.steps = 4;
            l[k].o.dropout = 0.1;
            l[k].o.compute = dtypes[d];
            loop_must_run(&l[k]);
        }
        assert_memory_equal(l[0].t.master, l[1].t.master, (size_t)l[0].t.stretch * 4);
        assert_memory_equal(l[0].t.states[1], l[1].t.states[1], (size_t)l[0].t.stretch * 4);
        assert_true(l[0].result.valid_loss == l[1].result.valid_loss);
        for (int k = 0; k < 2; k++) loop_close(&l[k]);
    }
}

/* ==== Validation, log. ==== */

static void the_best_weights_go_back(void **state) {
    for (int select = 0; select < 2; select++) {
        loop l;
        open_loop(&l, *state, TINY_COMMITTED("gpt2"), true);
        l.o.steps = 12;
        l.o.lr = 0.1;
        l.o.valid_every = 5;
        l.o.select_best = select == 1;
        l.remember = true;
        loop_must_run(&l);
        int best = -1;
        for (int i = 0; i < 12; i++) {
            const ot_train_event *e = &l.events[i];
            assert_int_equal(e->validated, i == 4 || i == 9 || i == 11);
            bool better = e->validated && (best < 0 || e->valid_loss < l.events[best].valid_loss);
            assert_int_equal(e->best, better);
            if (better) best = i;
        }
        /* The learning rate is such that it gets worse: else nothing would be selected. */
        assert_int_not_equal(best, 11);
        assert_int_equal(l.result.best_step, best + 1);
        assert_true(l.result.best_valid_loss == l.events[best].valid_loss && l.result.valid_loss == l.events[11].valid_loss);
        assert_memory_equal(l.t.master, l.masters[select ? best : 11], (size_t)l.t.stretch * 4);
        loop_close(&l);
    }
}

static void validation_is_the_mean_over_all_targets(void **state) {
    double losses[2];
    for (int k = 0; k < 2; k++) {
        loop l;
        open_loop(&l, *state, TINY_COMMITTED("gpt2"), true);
        l.o.steps = 1;
        l.o.lr = 0;
        l.o.batch = k == 0 ? 2 : 3; /* 2: the last batch is not full */
        loop_must_run(&l);
        losses[k] = l.result.valid_loss;
        loop_close(&l);
    }
    assert_true(fabs(losses[0] - losses[1]) < 1e-6);
}

static void the_log_has_a_line_for_each_step(void **state) {
    scratch *s = *state;
    loop l;
    open_loop(&l, s, TINY_COMMITTED("gpt2"), true);
    const char *path = tiny_path(s->dir, "log.jsonl");
    l.o.log_path = path;
    l.o.valid_every = 4;
    l.o.schedule = OT_SCHEDULE_LINEAR;
    l.o.warmup = 2;
    loop_must_run(&l);
    loop_close(&l);
    char *text = tiny_read(path, NULL), *next = NULL;
    int steps = 0, validations = 0;
    for (char *line = strtok_r(text, "\n", &next); line != NULL; line = strtok_r(NULL, "\n", &next)) {
        json_t *j = NULL;
        ot_error err = {0};
        if (ot_json_parse(line, (int64_t)strlen(line), "line", &j, &err) != OT_OK) fail_msg("%s in %s", err.message, line);
        bool valid = json_object_get(j, "valid_loss") != NULL;
        int64_t step = json_integer_value(json_object_get(j, "step"));
        const ot_train_event *e = &l.events[step];
        if (valid) {
            assert_true(step == 3 || step == 5);
            assert_true(fabs(json_real_value(json_object_get(j, "valid_loss")) - e->valid_loss) < 1e-8);
            assert_int_equal(json_is_true(json_object_get(j, "best")), e->best);
            validations++;
        } else {
            static const double rates[] = {0, 0.5e-2, 1e-2, 0.75e-2, 0.5e-2, 0.25e-2};
            assert_int_equal(step, steps++);
            assert_true(fabs(json_number_value(json_object_get(j, "learning_rate")) - rates[step]) < 1e-12);
            assert_true(fabs(json_number_value(json_object_get(j, "loss")) - e->loss) < 1e-8);
            assert_true(fabs(json_number_value(json_object_get(j, "grad_norm")) - e->grad_norm) < 1e-8 * (1 + e->grad_norm));
            assert_int_equal(json_integer_value(json_object_get(j, "tokens")), e->tokens);
            assert_true(json_integer_value(json_object_get(j, "peak_memory_bytes")) > 1000000);
            assert_true(json_number_value(json_object_get(j, "tokens_per_second")) > 0);
            assert_true(json_number_value(json_object_get(j, "epoch")) > 0);
        }
        json_decref(j);
    }
    assert_int_equal(steps, 6);
    assert_int_equal(validations, 2);
    ot_free(text);
}

/* ==== Refusals. ==== */

static void expect_failure(loop *l, ot_status code, const char *part) {
    ot_status status = loop_run(l);
    if (status != code || strstr(l->err.message, part) == NULL) {
        fail_msg("wanted %s with \"%s\", got %s: %s", ot_status_name(code), part, ot_status_name(status), l->err.message);
    }
    loop_close(l);
}

static void impossible_runs_are_refused(void **state) {
    scratch *s = *state;
    loop l;
    open_loop(&l, s, TINY_COMMITTED("gpt2"), false);
    l.o.warmup = 7;
    expect_failure(&l, OT_ERR_USAGE, "--warmup 7 is longer than the run of 6 steps");
    open_loop(&l, s, TINY_COMMITTED("gpt2"), false);
    l.o.batch = INT64_MAX / 2;
    expect_failure(&l, OT_ERR_USAGE, "too large: use a smaller --batch or --block");
    tiny_data(tiny_path(s->dir, "long.safetensors"), 2, 20, 37, false, 9);
    loop_open(&l, tiny_open(TINY_COMMITTED("gpt2")), tiny_path(s->dir, "long.safetensors"), NULL);
    expect_failure(&l, OT_ERR_REFUSED, "a sequence of 20 tokens is longer than the 19 positions");
    open_loop(&l, s, TINY_COMMITTED("gpt2"), false);
    l.o.lr = 1e30;
    expect_failure(&l, OT_ERR_NUMERIC, "nothing was updated");
    open_loop(&l, s, TINY_COMMITTED("gpt2"), false);
    l.o.log_path = tiny_path(s->dir, "no folder/log");
    expect_failure(&l, OT_ERR_IO, "cannot write the log");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(accumulation_is_the_big_batch, setup, teardown),
        cmocka_unit_test_setup_teardown(rows_come_in_order_and_wrap, setup, teardown),
        cmocka_unit_test_setup_teardown(clipping_shows_the_norm_before, setup, teardown),
        cmocka_unit_test_setup_teardown(gradients_do_not_leak_into_the_next_step, setup, teardown),
        cmocka_unit_test_setup_teardown(dropout_follows_the_seed, setup, teardown),
        cmocka_unit_test_setup_teardown(threads_do_not_change_a_bit, setup, teardown),
        cmocka_unit_test_setup_teardown(the_best_weights_go_back, setup, teardown),
        cmocka_unit_test_setup_teardown(validation_is_the_mean_over_all_targets, setup, teardown),
        cmocka_unit_test_setup_teardown(the_log_has_a_line_for_each_step, setup, teardown),
        cmocka_unit_test_setup_teardown(impossible_runs_are_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
