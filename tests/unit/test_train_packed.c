/* Training on packed rows: the same examples teach the same whether they lie in rows of their own or together, accumulation counts targets and
 * not rows, and a packed and shuffled run that was stopped and resumed has the bits of one that never was. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "support/loop.h"
#include "support/scratch.h"
#include "support/tiny.h"

enum { EXAMPLES = 13, LONGEST = 9, CAPACITY = 16, VOCAB = 37, STEPS = 8 };

static int setup(void **state) {
    static scratch s;
    scratch_open(&s, TEST_BINARY_DIR);
    tiny_data(scratch_path(&s, "any.safetensors"), 2, 8, VOCAB, false, 1);
    *state = &s;
    return 0;
}

static int teardown(void **state) {
    scratch_close(*state);
    return 0;
}

/* Examples of 3 to 9 tokens with one target to all of them. */
static void make_examples(ot_dataset *out) {
    ot_dataset_builder b = {0};
    ot_rng rng;
    ot_error err = {0};
    int32_t ids[LONGEST], targets[LONGEST];
    ot_rng_seed(&rng, 11);
    for (int e = 0; e < EXAMPLES; e++) {
        int64_t length = 3 + (int64_t)ot_rng_below(&rng, LONGEST - 2), silent = (int64_t)ot_rng_below(&rng, (uint64_t)length - 1);
        for (int64_t t = 0; t < length; t++) ids[t] = (int32_t)ot_rng_below(&rng, VOCAB);
        for (int64_t t = 0; t < length; t++) targets[t] = t + 1 < length && t >= silent ? ids[t + 1] : -1;
        if (ot_dataset_append(&b, ids, ids[0], targets, NULL, length, &err) != OT_OK) fail_msg("%s", err.message);
    }
    *out = b.d;
}

static void pack(ot_dataset *d, bool shuffle, uint64_t seed) {
    ot_error err = {0};
    if (ot_dataset_pack(d, CAPACITY, shuffle, seed, &err) != OT_OK) fail_msg("%s", err.message);
    assert_true(d->rows < EXAMPLES / 2 + 2);
    assert_true(ot_dataset_most_examples(d) > 2);
}

/* The examples of a row become one. */
static void forget_examples(ot_dataset *d) {
    for (int64_t r = 0; r <= d->rows; r++) d->starts[r] = d->starts[d->packs[r]];
    ot_free(d->packs);
    d->packs = NULL;
    d->examples = d->rows;
}

/* A loop whose steps take every row, with `train` for its data. By momentum alone: AdamW would blow up the rounding of gradients that are zero
 * (those of key biases) to whole steps. */
static void open_loop(loop *l, scratch *s, const char *model, ot_dataset train) {
    loop_open(l, tiny_open(model), tiny_path(s->dir, "any.safetensors"), NULL);
    ot_dataset_free(&l->train);
    l->train = train;
    l->o.steps = STEPS;
    l->o.batch = train.rows;
    l->o.lr = 0.1;
    if (ot_optimizer_parse("sgd:momentum=0.9", &l->o.optimizer, &l->err) != OT_OK) fail_msg("%s", l->err.message);
}

static void same_training(const loop *a, const loop *b) {
    double worst = 0;
    for (int s = 0; s < STEPS; s++) {
        double x = a->events[s].loss, y = b->events[s].loss, m = a->events[s].grad_norm, n = b->events[s].grad_norm;
        if (fabs(x - y) > 5e-6 * x || fabs(m - n) > 1e-4 * m) fail_msg("step %d: loss %.9g and %.9g, norm %.9g and %.9g", s, x, y, m, n);
        assert_int_equal(a->events[s].tokens, b->events[s].tokens);
    }
    for (int64_t i = 0; i < a->t.stretch; i++) worst = fmax(worst, fabs((double)a->t.master[i] - (double)b->t.master[i]));
    if (worst > 1e-5) fail_msg("weights differ by %g", worst);
}

/* ==== Packed and not. ==== */

static void packed_rows_teach_what_their_examples_do(void **state) {
    static const char *const models[] = {TINY_COMMITTED("gpt2"), TINY_COMMITTED("qwen2")};
    for (int m = 0; m < 2; m++) {
        loop plain, packed, joined;
        ot_dataset examples;
        make_examples(&examples);
        open_loop(&plain, *state, models[m], examples);
        loop_must_run(&plain);
        for (int shuffle = 0; shuffle < 2; shuffle++) {
            make_examples(&examples);
            pack(&examples, shuffle != 0, 3);
            open_loop(&packed, *state, models[m], examples);
            packed.has_valid = true;
            make_examples(&packed.valid);
            packed.o.valid_every = 1;
            loop_must_run(&packed);
            same_training(&plain, &packed);
            /* What validation says of the weights after a step is what the next step begins with. */
            for (int s = 0; s + 1 < STEPS; s++) assert_true(fabs(packed.events[s].valid_loss - packed.events[s + 1].loss) < 5e-6 * packed.events[s].loss);
            loop_close(&packed);
        }
        /* Examples that see each other are another training: the comparison above tells them apart. */
        make_examples(&examples);
        pack(&examples, true, 3);
        forget_examples(&examples);
        open_loop(&joined, *state, models[m], examples);
        loop_must_run(&joined);
        assert_true(fabs(joined.events[0].loss - plain.events[0].loss) > 1e-3 * plain.events[0].loss);
        loop_close(&joined);
        loop_close(&plain);
    }
}

static void accumulation_counts_targets(void **state) {
    loop whole, parts;
    ot_dataset examples;
    double mean = 0;
    make_examples(&examples);
    pack(&examples, true, 3);
    open_loop(&whole, *state, TINY_COMMITTED("qwen2"), examples);
    loop_must_run(&whole);
    make_examples(&examples);
    pack(&examples, true, 3);
    open_loop(&parts, *state, TINY_COMMITTED("qwen2"), examples);
    parts.o.batch = 1;
    parts.o.grad_accum = examples.rows;
    loop_must_run(&parts);
    same_training(&whole, &parts);
    loop_close(&parts);
    /* A mean of the rows' means is something else here, or the comparison would say nothing. */
    make_examples(&examples);
    pack(&examples, true, 3);
    open_loop(&parts, *state, TINY_COMMITTED("qwen2"), examples);
    parts.o.batch = 1;
    parts.o.lr = 0;
    parts.o.steps = examples.rows;
    assert_in_range(examples.rows, 2, LOOP_EVENTS);
    loop_must_run(&parts);
    for (int64_t r = 0; r < examples.rows; r++) mean += parts.events[r].loss / (double)examples.rows;
    assert_true(fabs(mean - whole.events[0].loss) > 1e-4 * mean);
    loop_close(&parts);
    loop_close(&whole);
}

/* ==== Stopped and resumed. ==== */

static void open_resumable(loop *l, scratch *s, const char *name, uint64_t seed) {
    ot_dataset examples;
    char file[64];
    make_examples(&examples);
    pack(&examples, true, seed);
    open_loop(l, s, TINY_COMMITTED("gpt2"), examples);
    snprintf(file, sizeof file, "%s.safetensors", name);
    l->o.checkpoint_path = tiny_path(s->dir, file);
    l->o.resume = true;
    l->o.shuffle = true;
    l->o.seed = seed;
    l->o.dropout = 0.1;
    l->o.batch = 2; /* the rows wrap inside a step */
    l->o.grad_accum = 2;
}

static void a_packed_run_resumes_with_the_same_bits(void **state) {
    loop whole, other;
    open_resumable(&whole, *state, "whole", 5);
    loop_must_run(&whole);
    size_t bytes = (size_t)whole.t.stretch * 4;
    for (int64_t k = 1; k < STEPS; k++) {
        loop l;
        char name[32];
        snprintf(name, sizeof name, "stopped%d", (int)k);
        open_resumable(&l, *state, name, 5);
        l.stop_after = k;
        assert_int_equal(loop_run(&l), OT_ERR_INTERRUPTED);
        loop_close(&l);
        open_resumable(&l, *state, name, 5);
        loop_must_run(&l);
        assert_int_equal(l.result.first_step, k);
        assert_memory_equal(whole.t.master, l.t.master, bytes);
        assert_memory_equal(whole.t.states[0], l.t.states[0], bytes);
        assert_true(whole.result.last_loss == l.result.last_loss);
        loop_close(&l);
    }
    /* Another seed lays other examples together. */
    open_resumable(&other, *state, "other", 6);
    assert_memory_not_equal(whole.train.ids, other.train.ids, (size_t)ot_dataset_columns(&whole.train) * 4);
    loop_close(&other);
    loop_close(&whole);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(packed_rows_teach_what_their_examples_do, setup, teardown),
        cmocka_unit_test_setup_teardown(accumulation_counts_targets, setup, teardown),
        cmocka_unit_test_setup_teardown(a_packed_run_resumes_with_the_same_bits, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
