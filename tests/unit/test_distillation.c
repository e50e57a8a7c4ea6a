/* A network with a teacher: the gradient of the whole loss - language model, distances, divergence - against finite differences in double, the
 * reference against the other backends, and a plan that says what it needs. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "model/network.h"

enum { TOKENS = 9, FIRST = 1, END = 6, ITEMS = 5 };
/* Blocks 1, 3, 5 of 1 .. 5 stand for the middle, each for itself and those dropped behind it. */
static const ot_stack_item items[ITEMS] = {{0}, {1}, {3}, {5}, {6}};
static const int64_t match[] = {2, 4, 5};
static const double lm_weight = 0.7;

static ot_model *open_model(ot_dtype compute) {
    ot_model *m = NULL;
    ot_error err = {0};
    if (ot_model_open(TEST_DATA_DIR "/distill/model", compute, &m, &err) != OT_OK) fail_msg("%s", err.message);
    return m;
}

static bool is_learner(const ot_param *p) { return p->block == 1 || p->block == 3 || p->block == 5; }

/* Those of the emulator become trainable, with values of their own that are not the teacher's. */
typedef struct learner {
    ot_model *model;
    void *values[512], *grads[512];
} learner;

static learner make_learner(ot_dtype compute) {
    learner l = {.model = open_model(compute)};
    ot_rng rng;
    ot_rng_seed(&rng, 3);
    assert_true(l.model->n_params <= 512);
    for (int64_t i = 0; i < l.model->n_params; i++) {
        ot_param *p = &l.model->params[i];
        int64_t n = ot_param_elements(p), size = compute == OT_F64 ? 8 : 4;
        float *narrow = malloc((size_t)n * 4);
        l.values[i] = malloc((size_t)(n * size));
        l.grads[i] = calloc((size_t)n, (size_t)size);
        assert_true(narrow != NULL && l.values[i] != NULL && l.grads[i] != NULL);
        ot_param_read(p, narrow);
        for (int64_t k = 0; k < n; k++) {
            float v = narrow[k] + (is_learner(p) ? 0.05F * (float)ot_rng_normal(&rng) : 0.0F);
            if (compute == OT_F64) ((double *)l.values[i])[k] = (double)v;
            else ((float *)l.values[i])[k] = v;
        }
        free(narrow);
        p->slot.data = l.values[i];
        p->slot.dtype = compute == OT_F64 ? OT_F64 : OT_F32;
        p->slot.trainable = is_learner(p);
        p->slot.grad = l.grads[i];
    }
    return l;
}

static void free_learner(learner *l) {
    for (int64_t i = 0; i < l->model->n_params; i++) {
        free(l->values[i]);
        free(l->grads[i]);
    }
    ot_model_close(l->model);
}

static ot_network_options options_of(const ot_teacher *teacher, const ot_backend *backend, ot_dtype compute, bool train, bool recompute) {
    return (ot_network_options){.plan = {.backend = backend, .compute = compute, .max_rows = 2 * TOKENS, .max_targets = 2 * TOKENS, .train = train,
                                         .recompute = recompute},
                                .items = items,
                                .n_items = ITEMS,
                                .outputs = OT_OUT_LOSS,
                                .max_segments = 2,
                                .teacher = teacher};
}

static void fill(ot_network *net) {
    for (int s = 0; s < 2; s++) {
        int32_t ids[TOKENS], targets[TOKENS];
        ot_error err = {0};
        ot_rng rng;
        ot_rng_seed(&rng, (uint64_t)s + 5);
        for (int i = 0; i < TOKENS; i++) ids[i] = 3 + (int32_t)ot_rng_below(&rng, 38);
        for (int i = 0; i < TOKENS; i++) targets[i] = i + 1 < TOKENS && i % 3 != 1 ? ids[i + 1] : -1;
        if (ot_network_add(net, ids, NULL, targets, TOKENS - s * 3, NULL, &err) != OT_OK) fail_msg("%s", err.message);
    }
}

static ot_network *make(const ot_model *m, const ot_teacher *teacher, const ot_backend *backend, ot_dtype compute, bool train, bool recompute) {
    ot_network *net = NULL;
    ot_error err = {0};
    ot_network_options o = options_of(teacher, backend, compute, train, recompute);
    if (ot_network_new(m, &o, &net, &err) != OT_OK) fail_msg("%s", err.message);
    fill(net);
    return net;
}

static ot_teacher teach(const ot_model *m) {
    return (ot_teacher){.model = m, .first_block = FIRST, .end_block = END, .first_item = 1, .end_item = 4, .weight = 3, .hidden_weight = 2, .match = match,
                        .kl_weight = 1.5, .kl_temperature = 2};
}

/* The total of which the gradients are. */
static double total(ot_network *net, const ot_teacher *t) {
    double sum = NAN;
    ot_error err = {0};
    int64_t targets = ot_network_targets(net);
    if (ot_network_run(net, &(ot_run_options){.loss_scale = lm_weight / (double)targets, .distance_scale = 0.5}, &sum, &err) != OT_OK) fail_msg("%s", err.message);
    return lm_weight * sum / (double)targets +
           0.5 * (t->weight * ot_network_distance(net) + t->hidden_weight * ot_network_hidden_distance(net) + t->kl_weight * ot_network_divergence(net));
}

static void finite_differences(void **state) {
    (void)state;
    ot_model *whole = open_model(OT_F64);
    learner l = make_learner(OT_F64);
    ot_teacher t = teach(whole);
    ot_network *net = make(l.model, &t, &ot_backend_ref64, OT_F64, true, false), *eval = make(l.model, &t, &ot_backend_ref64, OT_F64, false, false);
    double at_first = total(net, &t), largest = 0;
    assert_true(fabs(at_first - total(eval, &t)) < 1e-12 * at_first);
    assert_true(ot_network_distance(net) > 0.01 && ot_network_hidden_distance(net) > 0.01 && ot_network_divergence(net) > 0.01);
    for (int64_t i = 0; i < l.model->n_params; i++) {
        for (int64_t k = 0; k < ot_param_elements(&l.model->params[i]); k++) largest = fmax(largest, fabs(((double *)l.grads[i])[k]));
    }
    ot_rng rng;
    ot_rng_seed(&rng, 9);
    int checked = 0;
    for (int64_t i = 0; i < l.model->n_params; i++) {
        const ot_param *p = &l.model->params[i];
        for (int probe = 0; probe < 4; probe++) {
            int64_t k = (int64_t)ot_rng_below(&rng, (uint64_t)ot_param_elements(p));
            double *v = (double *)l.values[i] + k, kept = *v, h = 1e-5, gradient = ((double *)l.grads[i])[k];
            if (!is_learner(p)) {
                assert_true(gradient == 0); /* frozen, the teacher's copies too */
                continue;
            }
            *v = kept + h;
            double up = total(eval, &t);
            *v = kept - h;
            double expected = (up - total(eval, &t)) / (2 * h);
            *v = kept;
            if (fabs(expected - gradient) > 1e-7 * largest + 1e-8) fail_msg("%s[%lld]: gradient %.12g, finite difference %.12g", p->name, (long long)k, gradient, expected);
            checked++;
        }
    }
    assert_true(checked > 50);
    ot_network_free(net);
    ot_network_free(eval);
    free_learner(&l);
    ot_model_close(whole);
}

/* In F32 every backend gives the reference's gradients; what recompute forgets changes nothing. */
static void backends_agree(void **state) {
    (void)state;
    ot_model *whole = open_model(OT_F32);
    ot_teacher t = teach(whole);
    learner first = {0};
    double expected = NAN;
    for (int b = -1; ot_backends[b < 0 ? 0 : b] != NULL; b++) {
        const ot_backend *backend = b < 0 ? &ot_backend_ref : ot_backends[b];
        if (!backend->available() || !backend->supports(OT_F32)) continue;
        for (int recompute = 0; recompute < 2; recompute++) {
            learner l = make_learner(OT_F32);
            ot_network *net = make(l.model, &t, backend, OT_F32, true, recompute == 1);
            double loss = total(net, &t);
            if (first.model == NULL) {
                expected = loss;
                first = l;
                ot_network_free(net);
                continue;
            }
            if (fabs(loss - expected) > 1e-6 * expected) fail_msg("%s: loss %.9g, expected %.9g", backend->name, loss, expected);
            for (int64_t i = 0; i < l.model->n_params; i++) {
                for (int64_t k = 0; k < ot_param_elements(&l.model->params[i]); k++) {
                    float a = ((float *)l.grads[i])[k], e = ((float *)first.grads[i])[k];
                    if (fabsf(a - e) > 2e-5F * (1 + fabsf(e))) fail_msg("%s, %s[%lld]: %.9g, expected %.9g", backend->name, l.model->params[i].name, (long long)k, (double)a, (double)e);
                }
            }
            ot_network_free(net);
            free_learner(&l);
        }
    }
    free_learner(&first);
    ot_model_close(whole);
}

/* Without language-model loss the divergence alone asks for what stands above the emulator; without both nothing there is run. */
static void what_is_not_asked_for_is_not_run(void **state) {
    (void)state;
    ot_model *whole = open_model(OT_F32);
    learner l = make_learner(OT_F32);
    ot_teacher t = teach(whole);
    int64_t lengths[3];
    for (int k = 0; k < 3; k++) {
        ot_network *net = NULL;
        ot_error err = {0};
        if (k == 1) t.kl_weight = 0;
        if (k == 2) t.hidden_weight = 0;
        ot_network_options o = options_of(&t, ot_backends[0], OT_F32, true, false);
        o.outputs = 0;
        if (ot_network_new(l.model, &o, &net, &err) != OT_OK) fail_msg("%s", err.message);
        fill(net);
        if (ot_network_run(net, &(ot_run_options){0}, NULL, &err) != OT_OK) fail_msg("%s", err.message);
        assert_true((ot_network_divergence(net) > 0) == (k == 0));
        assert_true((ot_network_hidden_distance(net) > 0) == (k < 2));
        assert_true(ot_network_distance(net) > 0);
        lengths[k] = ot_plan_trace_length(ot_network_plan(net));
        ot_network_free(net);
    }
    assert_true(lengths[0] > lengths[1] + 10 && lengths[1] == lengths[2] + 2);
    free_learner(&l);
    ot_model_close(whole);
}

static void refuses(const ot_model *m, const ot_teacher *t, const char *word) {
    ot_network *net = NULL;
    ot_error err = {0};
    ot_network_options o = options_of(t, ot_backends[0], OT_F32, true, false);
    assert_int_not_equal(ot_network_new(m, &o, &net, &err), OT_OK);
    if (strstr(err.message, word) == NULL) fail_msg("\"%s\" does not say \"%s\"", err.message, word);
}

static void refusals(void **state) {
    (void)state;
    ot_model *whole = open_model(OT_F32);
    learner l = make_learner(OT_F32);
    ot_teacher t = teach(whole);
    static const int64_t outside[] = {2, 6, 5};
    t.match = outside;
    refuses(l.model, &t, "no such middle");
    t = teach(whole);
    t.end_item = 2;
    refuses(l.model, &t, "is one block");
    free_learner(&l);
    ot_model_close(whole);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finite_differences),
        cmocka_unit_test(backends_agree),
        cmocka_unit_test(what_is_not_asked_for_is_not_run),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
