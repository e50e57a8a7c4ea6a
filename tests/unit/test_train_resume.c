/* Checkpoints: a run that was stopped anywhere and resumed ends with the bits of one that never was; and which checkpoints are refused. */
#include <inttypes.h>
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
#include "support/loop.h"
#include "support/scratch.h"
#include "support/tiny.h"

enum { STEPS = 12 };

static int setup(void **state) {
    static scratch s;
    /* A child of a process that has had OpenMP threads cannot use them. */
    ot_threads_set(1);
    scratch_open(&s, TEST_BINARY_DIR);
    /* Two ids only: what is learnt of them soon makes the held-out rows worse, so that the best is not the last. */
    tiny_data(scratch_path(&s, "train.safetensors"), 7, 8, 5, true, 1);
    tiny_data(scratch_path(&s, "valid.safetensors"), 3, 8, 39, true, 3);
    *state = &s;
    return 0;
}

static int teardown(void **state) {
    scratch_close(*state);
    return 0;
}

/* Everything that has state: accumulation across the end of an epoch, shuffling, dropout, warm-up, validation, the best weights. */
static void open_loop(loop *l, scratch *s, const char *name, ot_dtype compute) {
    loop_open(l, tiny_open(TINY_COMMITTED("gpt2")), tiny_path(s->dir, "train.safetensors"), tiny_path(s->dir, "valid.safetensors"));
    char file[128];
    l->o.compute = compute;
    l->o.steps = STEPS;
    l->o.grad_accum = 2;
    l->o.shuffle = true;
    l->o.dropout = 0.1;
    l->o.lr = 0.3;
    l->o.warmup = 2;
    l->o.schedule = OT_SCHEDULE_CONSTANT;
    l->o.valid_every = 3;
    l->o.select_best = true;
    l->o.resume = true;
    snprintf(file, sizeof file, "%s.jsonl", name);
    l->o.log_path = tiny_path(s->dir, file);
    snprintf(file, sizeof file, "%s.safetensors", name);
    l->o.checkpoint_path = tiny_path(s->dir, file);
}

/* The lines of two logs agree but for the clock and the memory of the process. */
static void same_log(const char *a, const char *b) {
    char *x = tiny_read(a, NULL), *y = tiny_read(b, NULL), *at_x = NULL, *at_y = NULL;
    char *p = strtok_r(x, "\n", &at_x), *q = strtok_r(y, "\n", &at_y);
    int lines = 0;
    for (; p != NULL && q != NULL; p = strtok_r(NULL, "\n", &at_x), q = strtok_r(NULL, "\n", &at_y), lines++) {
        char *cut_p = strstr(p, ", \"tokens_per_second\""), *cut_q = strstr(q, ", \"tokens_per_second\"");
        if (cut_p != NULL) *cut_p = '\0';
        if (cut_q != NULL) *cut_q = '\0';
        assert_string_equal(p, q);
    }
    assert_true(p == NULL && q == NULL);
    assert_int_equal(lines, STEPS + STEPS / 3);
    ot_free(x);
    ot_free(y);
}

static void same_run(const loop *a, const loop *b) {
    size_t bytes = (size_t)a->t.stretch * 4;
    assert_memory_equal(a->t.master, b->t.master, bytes);
    assert_memory_equal(a->t.best, b->t.best, bytes);
    assert_memory_equal(a->t.states[0], b->t.states[0], bytes);
    assert_memory_equal(a->t.states[1], b->t.states[1], bytes);
    assert_int_equal(a->result.best_step, b->result.best_step);
    assert_true(a->result.best_valid_loss == b->result.best_valid_loss);
    assert_true(a->result.valid_loss == b->result.valid_loss);
    assert_true(a->result.last_loss == b->result.last_loss);
    assert_int_equal(a->result.steps_done, STEPS);
    same_log(a->o.log_path, b->o.log_path);
}

static void stop_at(scratch *s, const char *name, ot_dtype compute, int64_t step, int64_t first) {
    loop l;
    char part[128];
    open_loop(&l, s, name, compute);
    l.stop_after = step;
    ot_status status = loop_run(&l);
    snprintf(part, sizeof part, "stopped after step %" PRId64 " of 12: the same command with --resume", step);
    if (status != OT_ERR_INTERRUPTED || strstr(l.err.message, part) == NULL) fail_msg("%s: %s", ot_status_name(status), l.err.message);
    assert_int_equal(l.events[0].step, first);
    loop_close(&l);
}

static void a_resumed_run_is_the_uninterrupted_one(void **state) {
    scratch *s = *state;
    static const ot_dtype dtypes[] = {OT_F32, OT_BF16};
    for (int d = 0; d < 2; d++) {
        loop whole;
        char name[32];
        snprintf(name, sizeof name, "whole%d", d);
        open_loop(&whole, s, name, dtypes[d]);
        loop_must_run(&whole);
        /* Else "best" would be nothing but the last. */
        if (whole.result.best_step < 0 || whole.result.best_step >= STEPS) fail_msg("the last step is the best: choose another rate");
        for (int64_t k = 1; k < STEPS; k++) {
            loop l;
            snprintf(name, sizeof name, "d%dk%" PRId64, d, k);
            stop_at(s, name, dtypes[d], k, 0);
            if (k == 4) stop_at(s, name, dtypes[d], 7, 4); /* twice */
            open_loop(&l, s, name, dtypes[d]);
            loop_must_run(&l);
            assert_int_equal(l.result.first_step, k == 4 ? 7 : k);
            assert_int_equal(l.n_events, STEPS - l.result.first_step);
            same_run(&whole, &l);
            loop_close(&l);
        }
        loop_close(&whole);
    }
}

/* Killed later than its last checkpoint: the log is cut back to it, a torn line too. */
static void the_log_is_cut_back(void **state) {
    scratch *s = *state;
    /* More than what is still to be written could cover. */
    static char longer[20000];
    memset(longer, 'x', sizeof longer - 1);
    const char *const tails[] = {
        "{\"step\": 6, \"epoch\": 1.2, \"loss\": 3}\n{\"step\": 7, \"ep", "{\"st", "{\n{\"step\": 1}\n", "notes\n{\"step\": 2}\n", "{\"step\": 17}\n", "", longer};
    loop whole;
    open_loop(&whole, s, "whole", OT_F32);
    loop_must_run(&whole);
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        loop l;
        char name[32];
        snprintf(name, sizeof name, "tail%zu", i);
        stop_at(s, name, OT_F32, 6, 0);
        open_loop(&l, s, name, OT_F32);
        FILE *f = fopen(l.o.log_path, "a");
        assert_non_null(f);
        fputs(tails[i], f);
        fclose(f);
        loop_must_run(&l);
        same_run(&whole, &l);
        loop_close(&l);
    }
    loop_close(&whole);
}

static void a_finished_run_is_not_run_again(void **state) {
    scratch *s = *state;
    loop whole, again;
    open_loop(&whole, s, "whole", OT_F32);
    loop_must_run(&whole);
    assert_true(ot_path_exists(whole.o.checkpoint_path));
    open_loop(&again, s, "whole", OT_F32);
    loop_must_run(&again);
    assert_int_equal(again.n_events, 0);
    assert_int_equal(again.result.first_step, STEPS);
    same_run(&whole, &again);
    loop_close(&whole);
    loop_close(&again);
}

static void without_resume_a_run_begins_afresh(void **state) {
    scratch *s = *state;
    stop_at(s, "a", OT_F32, 5, 0);
    loop l;
    open_loop(&l, s, "a", OT_F32);
    l.o.resume = false;
    loop_must_run(&l);
    assert_int_equal(l.result.first_step, 0);
    assert_int_equal(l.n_events, STEPS);
    loop_close(&l);
}

static void save_every_writes_at_those_steps(void **state) {
    scratch *s = *state;
    loop l;
    open_loop(&l, s, "a", OT_F32);
    l.o.save_every = 4;
    l.o.steps = 6;
    loop_must_run(&l);
    ot_safetensors *st = NULL;
    assert_int_equal(ot_safetensors_open(l.o.checkpoint_path, &st, &l.err), OT_OK);
    assert_string_equal(ot_safetensors_metadata(st, "step"), "6");
    assert_int_equal(ot_safetensors_count(st), l.t.n_items * 4);
    ot_safetensors_close(st);
    loop_close(&l);
}

/* ==== Refused checkpoints. ==== */

static const char *value_of(const char *const *pairs, const char *key) {
    for (; *pairs != NULL; pairs += 2) {
        if (strcmp(pairs[0], key) == 0) return pairs[1];
    }
    return NULL;
}

/* The checkpoint written again with some metadata changed, the tensors from `drop` on left out. */
static void rewrite(const char *path, const char *const *changes, int64_t drop) {
    static const char *const keys[] = {"kind", "version", "fingerprint", "step", "tokens", "best_step", "best_valid_loss", "valid_loss", "loss"};
    enum { N_KEYS = sizeof keys / sizeof *keys, MOST = 256 };
    ot_safetensors *st = NULL;
    ot_error err = {0};
    if (ot_safetensors_open(path, &st, &err) != OT_OK) fail_msg("%s", err.message);
    const char *metadata[2 * N_KEYS + 1] = {0};
    for (int i = 0; i < N_KEYS; i++) {
        const char *changed = value_of(changes, keys[i]);
        metadata[2 * i] = keys[i];
        metadata[2 * i + 1] = changed != NULL ? changed : ot_safetensors_metadata(st, keys[i]);
    }
    ot_tensor tensors[MOST];
    int64_t n = ot_safetensors_count(st) - drop;
    assert_in_range(n, 1, MOST);
    for (int64_t i = 0; i < n; i++) tensors[i] = *ot_safetensors_at(st, i);
    if (ot_safetensors_write(path, tensors, n, metadata, &err) != OT_OK) fail_msg("%s", err.message);
    ot_safetensors_close(st);
}

static void bad_checkpoints_are_refused(void **state) {
    scratch *s = *state;
    static const struct {
        const char *changes[5];
        int64_t drop;
        ot_status code;
        const char *part;
    } cases[] = {
        {{"fingerprint", "other", NULL}, 0, OT_ERR_REFUSED, "made by a run with other settings, data or model"},
        {{"kind", "something", NULL}, 0, OT_ERR_FORMAT, "no checkpoint of this program"},
        {{"version", "2", NULL}, 0, OT_ERR_UNSUPPORTED, "version 2"},
        {{"step", "13", NULL}, 0, OT_ERR_FORMAT, "step 13 is outside this run of 12"},
        {{"step", "-1", NULL}, 0, OT_ERR_FORMAT, "step -1 is outside"},
        {{NULL}, 1, OT_ERR_FORMAT, "the checkpoint has no fitting tensor best."},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        loop l;
        stop_at(s, "a", OT_F32, 5, 0);
        open_loop(&l, s, "a", OT_F32);
        rewrite(l.o.checkpoint_path, cases[i].changes, cases[i].drop);
        ot_status status = loop_run(&l);
        if (status != cases[i].code || strstr(l.err.message, cases[i].part) == NULL) {
            fail_msg("case %zu: wanted %s with \"%s\", got %s: %s", i, ot_status_name(cases[i].code), cases[i].part, ot_status_name(status), l.err.message);
        }
        ot_error err = {0};
        assert_int_equal(ot_remove_tree(l.o.checkpoint_path, &err), OT_OK);
        loop_close(&l);
    }
    loop l;
    open_loop(&l, s, "a", OT_F32);
    tiny_text(l.o.checkpoint_path, "no safetensors");
    assert_int_equal(loop_run(&l), OT_ERR_FORMAT);
    loop_close(&l);
}

/* ==== A full disk. ==== */

static int run_to_the_end(void *context) {
    loop *l = context;
    ot_status status = loop_run(l);
    return status == OT_ERR_IO && strstr(l->err.message, "disk may be full") != NULL ? 7 : (int)status;
}

static void a_full_disk_leaves_the_last_checkpoint(void **state) {
    scratch *s = *state;
    loop whole, l;
    open_loop(&whole, s, "whole", OT_F32);
    loop_must_run(&whole);
    stop_at(s, "a", OT_F32, 5, 0);
    const char *path = tiny_path(s->dir, "a.safetensors"), *copy = tiny_path(s->dir, "copy");
    ot_error err = {0};
    assert_int_equal(ot_copy_file(path, copy, &err), OT_OK);
    int64_t files = scratch_count(s);
    open_loop(&l, s, "a", OT_F32);
    l.o.save_every = 1;
    assert_int_equal(scratch_with_file_limit(8192, run_to_the_end, &l), 7);
    loop_close(&l);
    assert_true(tiny_same_file(path, copy));
    assert_int_equal(scratch_count(s), files);
    open_loop(&l, s, "a", OT_F32);
    loop_must_run(&l);
    same_run(&whole, &l);
    loop_close(&l);
    loop_close(&whole);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_resumed_run_is_the_uninterrupted_one, setup, teardown),
        cmocka_unit_test_setup_teardown(the_log_is_cut_back, setup, teardown),
        cmocka_unit_test_setup_teardown(a_finished_run_is_not_run_again, setup, teardown),
        cmocka_unit_test_setup_teardown(without_resume_a_run_begins_afresh, setup, teardown),
        cmocka_unit_test_setup_teardown(save_every_writes_at_those_steps, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_checkpoints_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_leaves_the_last_checkpoint, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
