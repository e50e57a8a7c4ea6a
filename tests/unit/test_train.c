/* The optimizer against PyTorch's numbers, the schedules against the formulas, and what holds for every set of trained tensors. */
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
#include "format/safetensors.h"
#include "train/trainer.h"

#define OPS TEST_SHARED_DIR "/golden/ops/"

static ot_safetensors *open_fixture(const char *path) {
    ot_safetensors *st = NULL;
    ot_error err = {0};
    if (!ot_path_exists(path)) {
        print_message("skipped: %s is not here\n", path);
        skip();
    }
    if (ot_safetensors_open(path, &st, &err) != OT_OK) fail_msg("%s", err.message);
    return st;
}

static void read_floats(const ot_safetensors *st, const char *name, float *out, int64_t n) {
    const ot_tensor *t = ot_safetensors_find(st, name);
    if (t == NULL || t->bytes != n * 4) fail_msg("the fixture has no tensor %s of %lld floats", name, (long long)n);
    memcpy(out, t->data, (size_t)n * 4);
}

static float one_float(const ot_safetensors *st, const char *name) {
    float v = 0;
    read_floats(st, name, &v, 1);
    return v;
}

static void close_to(const char *what, int step, const float *got, const float *want, int64_t n) {
    float largest = 0;
    for (int64_t i = 0; i < n; i++) largest = fmaxf(largest, fabsf(want[i]));
    for (int64_t i = 0; i < n; i++) {
        if (!(fabsf(got[i] - want[i]) <= 2e-7F * largest + 1e-12F)) {
            fail_msg("%s after step %d: element %lld is %.9g, expected %.9g", what, step, (long long)i, (double)got[i], (double)want[i]);
        }
    }
}

static void bind(ot_trainables *t, ot_dtype compute, bool keep_best) {
    ot_error err = {0};
    if (ot_trainables_bind(t, compute, keep_best, &err) != OT_OK) fail_msg("%s", err.message);
}

static void add(ot_trainables *t, const char *name, ot_slot *slot, int32_t n_dims, double lr_scale) {
    ot_error err = {0};
    if (ot_trainables_add(t, name, slot, n_dims, n_dims > 1, lr_scale, &err) != OT_OK) fail_msg("%s", err.message);
    assert_true(slot->trainable);
}

/* ==== AdamW. ==== */

static void adamw_is_pytorchs(void **state) {
    (void)state;
    ot_safetensors *st = open_fixture(OPS "adamw.safetensors");
    float w[2][32], lrs[5], norms[5], want[32];
    const char *const names[] = {"matrix", "vector"};
    const int64_t counts[] = {21, 9};
    ot_slot slots[2] = {{.dtype = OT_F32, .rows = 3, .cols = 7, .data = w[0]}, {.dtype = OT_F32, .rows = 1, .cols = 9, .data = w[1]}};
    read_floats(st, "matrix.0", w[0], 21);
    read_floats(st, "vector.0", w[1], 9);
    read_floats(st, "lrs", lrs, 5);
    read_floats(st, "grad_norms", norms, 5);
    ot_trainables t = {0};
    add(&t, names[0], &slots[0], 2, 1.0);
    add(&t, names[1], &slots[1], 1, 1.0);
    bind(&t, OT_F32, false);
    assert_int_equal(t.count, 30);
    double lr = (double)one_float(st, "lr"), decay = (double)one_float(st, "weight_decay"), clip = (double)one_float(st, "max_norm");
    int64_t warmup = 0;
    memcpy(&warmup, ot_safetensors_find(st, "warmup")->data, 8);
    for (int s = 1; s <= 5; s++) {
        char name[32];
        for (int k = 0; k < 2; k++) {
            snprintf(name, sizeof name, "%s.%d.grad", names[k], s);
            read_floats(st, name, t.grad + t.items[k].offset, counts[k]);
        }
        double norm = ot_trainables_gradient_norm(&t), rate = ot_schedule_rate(OT_SCHEDULE_COSINE, lr, warmup, 5, s - 1);
        assert_true(fabs(norm - (double)norms[s - 1]) <= 1e-6 * norm);
        assert_true(fabs(rate - (double)lrs[s - 1]) <= 1e-7 * lr);
        ot_trainables_update(&t, &(ot_update){.lr = rate, .decay = decay, .step = s, .grad_scale = fmin(1.0, clip / (norm + 1e-6))});
        for (int k = 0; k < 2; k++) {
            const int64_t at = t.items[k].offset;
            const struct {
                const char *suffix;
                const float *got;
            } parts[] = {{"", t.master + at}, {".m", (float *)t.states[0] + at}, {".v", (float *)t.states[1] + at}};
            for (int p = 0; p < 3; p++) {
                snprintf(name, sizeof name, "%s.%d%s", names[k], s, parts[p].suffix);
                read_floats(st, name, want, counts[k]);
                close_to(name, s, parts[p].got, want, counts[k]);
            }
        }
    }
    /* A fixture whose clip never acted, or whose decay was nothing, would prove less than it seems. */
    assert_true(decay > 0 && clip > 0);
    ot_trainables_free(&t);
    ot_safetensors_close(st);
}

enum { WIDE = 70001, SETS = 3 };

typedef struct many {
    float values[SETS][WIDE];
    ot_slot slots[SETS];
    ot_trainables t;
} many;

/* A matrix longer than one chunk, a vector, and a matrix with another rate. */
static many *make_many(ot_dtype compute) {
    many *x = calloc(1, sizeof *x);
    assert_non_null(x);
    ot_rng rng;
    ot_rng_seed(&rng, 3);
    for (int k = 0; k < SETS; k++) {
        for (int64_t i = 0; i < WIDE; i++) x->values[k][i] = (float)ot_rng_normal(&rng);
    }
    x->slots[0] = (ot_slot){.dtype = OT_F32, .rows = 7, .cols = 10000, .data = x->values[0]};
    x->slots[1] = (ot_slot){.dtype = OT_F32, .rows = 1, .cols = 17, .data = x->values[1]};
    x->slots[2] = (ot_slot){.dtype = OT_F32, .rows = WIDE, .cols = 1, .data = x->values[2]};
    add(&x->t, "a", &x->slots[0], 2, 1.0);
    add(&x->t, "b", &x->slots[1], 1, 1.0);
    add(&x->t, "c", &x->slots[2], 2, 3.0);
    bind(&x->t, compute, true);
    return x;
}

static void fill_gradients(many *x, uint64_t seed) {
    ot_rng rng;
    ot_rng_seed(&rng, seed);
    for (int k = 0; k < SETS; k++) {
        for (int64_t i = 0; i < x->t.items[k].count; i++) x->t.grad[x->t.items[k].offset + i] = (float)ot_rng_normal(&rng);
    }
}

static void step(many *x, int64_t s) {
    fill_gradients(x, (uint64_t)s);
    ot_trainables_update(&x->t, &(ot_update){.lr = 1e-3, .decay = 0.1, .step = s, .grad_scale = 0.5});
}

static void free_many(many *x) {
    ot_trainables_free(&x->t);
    free(x);
}

static void long_tensors_are_updated_as_in_double(void **state) {
    (void)state;
    many *x = make_many(OT_F32);
    double m[SETS] = {0}, v[SETS] = {0}, w[SETS];
    /* The last element of each tensor: the one that wrong chunk borders lose first. */
    for (int k = 0; k < SETS; k++) w[k] = (double)x->values[k][x->t.items[k].count - 1];
    for (int64_t s = 1; s <= 3; s++) {
        fill_gradients(x, (uint64_t)s);
        double sum = 0;
        for (int64_t i = 0; i < x->t.stretch; i++) sum += (double)x->t.grad[i] * (double)x->t.grad[i];
        assert_true(fabs(ot_trainables_gradient_norm(&x->t) - sqrt(sum)) < 1e-9 * sqrt(sum));
        for (int k = 0; k < SETS; k++) {
            double lr = k == 2 ? 3e-3 : 1e-3, g = 0.5 * (double)x->t.grad[x->t.items[k].offset + x->t.items[k].count - 1];
            m[k] = 0.9 * m[k] + 0.1 * g;
            v[k] = 0.999 * v[k] + 0.001 * g * g;
            w[k] *= 1.0 - (k == 1 ? 0.0 : lr * 0.1);
            w[k] -= lr * m[k] / (1 - pow(0.9, (double)s)) / (sqrt(v[k] / (1 - pow(0.999, (double)s))) + 1e-8);
        }
        step(x, s);
        for (int k = 0; k < SETS; k++) {
            double got = (double)x->t.master[x->t.items[k].offset + x->t.items[k].count - 1];
            if (fabs(got - w[k]) > 1e-6) fail_msg("tensor %d, step %lld: %.9g, in double %.9g", k, (long long)s, got, w[k]);
        }
    }
    for (int64_t i = x->t.items[1].offset + 17; i < x->t.items[2].offset; i++) assert_true(x->t.master[i] == 0.0F);
    free_many(x);
}

static void threads_do_not_change_a_bit(void **state) {
    (void)state;
    many *one = make_many(OT_BF16), *two = make_many(OT_BF16);
    for (int64_t s = 1; s <= 3; s++) {
        ot_threads_set(1);
        fill_gradients(one, (uint64_t)s);
        double norm = ot_trainables_gradient_norm(&one->t);
        step(one, s);
        ot_threads_set(2);
        fill_gradients(two, (uint64_t)s);
        assert_true(norm == ot_trainables_gradient_norm(&two->t));
        step(two, s);
    }
    ot_threads_set(0);
    assert_memory_equal(one->t.master, two->t.master, (size_t)one->t.stretch * 4);
    assert_memory_equal(one->t.states[0], two->t.states[0], (size_t)one->t.stretch * 4);
    assert_memory_equal(one->t.states[1], two->t.states[1], (size_t)one->t.stretch * 4);
    assert_memory_equal(one->t.halves, two->t.halves, (size_t)one->t.stretch * 2);
    free_many(one);
    free_many(two);
}

/* ==== What the engine sees. ==== */

static void slots_point_at_masters_or_halves(void **state) {
    (void)state;
    for (int half = 0; half < 2; half++) {
        many *x = make_many(half ? OT_BF16 : OT_F32);
        for (int64_t s = 1; s <= 2; s++) step(x, s);
        for (int k = 0; k < SETS; k++) {
            const ot_trainable *item = &x->t.items[k];
            assert_ptr_equal(x->slots[k].grad, x->t.grad + item->offset);
            assert_int_equal(item->offset % 16, 0);
            if (half && k != 1) {
                assert_int_equal(x->slots[k].dtype, OT_BF16);
                const ot_bf16 *seen = x->slots[k].data;
                for (int64_t i = 0; i < item->count; i++) assert_int_equal(seen[i], ot_f32_to_bf16(x->t.master[item->offset + i]));
            } else {
                assert_int_equal(x->slots[k].dtype, OT_F32);
                assert_ptr_equal(x->slots[k].data, x->t.master + item->offset);
            }
        }
        free_many(x);
    }
}

static void masters_begin_as_the_stored_values(void **state) {
    (void)state;
    many *x = make_many(OT_F32);
    for (int k = 0; k < SETS; k++) {
        assert_memory_equal(x->t.master + x->t.items[k].offset, x->values[k], (size_t)x->t.items[k].count * 4);
    }
    free_many(x);
    const ot_bf16 stored[] = {0x3F80, 0xBF00};
    ot_slot slots[2] = {{.dtype = OT_BF16, .rows = 2, .cols = 1, .data = stored}, {.dtype = OT_F32, .rows = 1, .cols = 3}};
    ot_trainables t = {0};
    add(&t, "stored", &slots[0], 2, 1.0);
    add(&t, "fresh", &slots[1], 1, 1.0);
    bind(&t, OT_F32, false);
    assert_true(t.master[0] == 1.0F && t.master[1] == -0.5F);
    for (int i = 0; i < 3; i++) assert_true(t.master[t.items[1].offset + i] == 0.0F);
    ot_trainables_free(&t);
}

static void the_best_is_a_copy(void **state) {
    (void)state;
    many *x = make_many(OT_BF16);
    step(x, 1);
    size_t bytes = (size_t)x->t.stretch * 4;
    float *kept = malloc(bytes);
    ot_bf16 *halves = malloc(bytes / 2);
    assert_true(kept != NULL && halves != NULL);
    memcpy(kept, x->t.master, bytes);
    memcpy(halves, x->t.halves, bytes / 2);
    ot_trainables_keep_best(&x->t);
    step(x, 2);
    assert_memory_not_equal(x->t.master, kept, bytes);
    ot_trainables_restore_best(&x->t);
    assert_memory_equal(x->t.master, kept, bytes);
    assert_memory_equal(x->t.halves, halves, bytes / 2);
    free(kept);
    free(halves);
    free_many(x);
}

/* ==== Schedules. ==== */

static void cosine_is_the_fixtures(void **state) {
    (void)state;
    ot_safetensors *st = open_fixture(OPS "cosine.safetensors");
    assert_true(ot_safetensors_count(st) >= 4);
    for (int64_t i = 0; i < ot_safetensors_count(st); i++) {
        const ot_tensor *t = ot_safetensors_at(st, i);
        char *dot;
        long warmup = strtol(t->name, &dot, 10), steps = strtol(dot + 1, NULL, 10);
        assert_int_equal(t->shape[0], steps);
        for (long s = 0; s < steps; s++) {
            float want;
            memcpy(&want, (const char *)t->data + s * 4, 4);
            double got = ot_schedule_rate(OT_SCHEDULE_COSINE, 3e-4, warmup, steps, s);
            if (fabs(got - 3e-4 * (double)want) > 1e-7 * 3e-4) fail_msg("%s: step %ld is %.9g, expected %.9g", t->name, s, got, 3e-4 * (double)want);
        }
    }
    ot_safetensors_close(st);
}

static void other_schedules_are_as_computed_by_hand(void **state) {
    (void)state;
    static const double linear[] = {0, 1, 2, 1.5, 1, 0.5}, constant[] = {0, 1, 2, 2, 2, 2}, cosine[] = {0, 1, 2, 1.7071067811865475, 1, 0.2928932188134524};
    for (int64_t t = 0; t < 6; t++) {
        assert_true(fabs(ot_schedule_rate(OT_SCHEDULE_LINEAR, 2.0, 2, 6, t) - linear[t]) < 1e-15);
        assert_true(fabs(ot_schedule_rate(OT_SCHEDULE_CONSTANT, 2.0, 2, 6, t) - constant[t]) < 1e-15);
        assert_true(fabs(ot_schedule_rate(OT_SCHEDULE_COSINE, 2.0, 2, 6, t) - cosine[t]) < 1e-15);
    }
    /* Nothing but warm-up, and none at all. */
    for (int kind = 0; kind < 3; kind++) {
        assert_true(fabs(ot_schedule_rate((ot_schedule)kind, 1.0, 4, 4, 3) - 0.75) < 1e-15);
        assert_true(ot_schedule_rate((ot_schedule)kind, 1.0, 4, 4, 4) == 1.0);
        assert_true(ot_schedule_rate((ot_schedule)kind, 1.0, 0, 4, 0) == 1.0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adamw_is_pytorchs),
        cmocka_unit_test(long_tensors_are_updated_as_in_double),
        cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(slots_point_at_masters_or_halves),
        cmocka_unit_test(masters_begin_as_the_stored_values),
        cmocka_unit_test(the_best_is_a_copy),
        cmocka_unit_test(cosine_is_the_fixtures),
        cmocka_unit_test(other_schedules_are_as_computed_by_hand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
