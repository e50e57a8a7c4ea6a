/* Whole networks: gradients against finite differences in double for every family, recompute against keeping, packing against one by one. */
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

static const char *const families[] = {"gpt2", "opt", "opt-350m", "bloom", "llama", "llama-tied", "mistral-window", "qwen2", "qwen3"};
enum { N_FAMILIES = sizeof families / sizeof *families, TOKENS = 9 };

static ot_model *open_family(const char *name, ot_dtype compute) {
    char path[512];
    ot_model *m = NULL;
    ot_error err = {0};
    snprintf(path, sizeof path, TEST_DATA_DIR "/../golden/data/models/%s", name);
    if (ot_model_open(path, compute, &m, &err) != OT_OK) fail_msg("%s: %s", name, err.message);
    return m;
}

/* Every parameter trainable, gradients of `size` bytes an element. */
static void *attach(ot_model *m, size_t size) {
    int64_t total = 0, at = 0;
    for (int64_t i = 0; i < m->n_params; i++) total += ot_param_elements(&m->params[i]);
    char *grads = calloc((size_t)total, size);
    assert_non_null(grads);
    for (int64_t i = 0; i < m->n_params; i++) {
        m->params[i].slot.trainable = true;
        m->params[i].slot.grad = grads + (size_t)at * size;
        at += ot_param_elements(&m->params[i]);
    }
    return grads;
}

static ot_network *make(const ot_model *m, const ot_backend *backend, ot_dtype compute, bool train, bool recompute, int64_t sequences) {
    ot_network *net = NULL;
    ot_error err = {0};
    ot_network_options o = {.plan = {.backend = backend,
                                     .compute = compute,
                                     .max_rows = TOKENS * sequences,
                                     .max_targets = TOKENS * sequences,
                                     .train = train,
                                     .recompute = recompute},
                            .outputs = OT_OUT_LOSS,
                            .max_segments = sequences};
    if (ot_network_new(m, &o, &net, &err) != OT_OK) fail_msg("%s", err.message);
    return net;
}

static void add_sequence(ot_network *net, const ot_model *m, uint64_t seed, int64_t length) {
    int32_t ids[TOKENS], targets[TOKENS];
    ot_error err = {0};
    ot_rng rng;
    ot_rng_seed(&rng, seed);
    for (int64_t i = 0; i < length; i++) ids[i] = 3 + (int32_t)ot_rng_below(&rng, (uint64_t)m->desc.vocab_size - 3);
    for (int64_t i = 0; i < length; i++) targets[i] = i + 1 < length && i != 2 ? ids[i + 1] : -1;
    if (ot_network_add(net, ids, NULL, targets, length, NULL, &err) != OT_OK) fail_msg("%s", err.message);
}

static double run(ot_network *net) {
    double loss = NAN;
    ot_error err = {0};
    if (ot_network_run(net, &(ot_run_options){.loss_scale = 1.0}, &loss, &err) != OT_OK) fail_msg("%s", err.message);
    return loss;
}

/* ==== Finite differences. ==== */

/* A slot whose values can be nudged: matrices become private doubles. */
static double *own_doubles(ot_param *p) {
    int64_t n = ot_param_elements(p);
    double *values = malloc((size_t)n * sizeof *values);
    assert_non_null(values);
    if (p->slot.dtype == OT_F64) {
        memcpy(values, p->slot.data, (size_t)n * sizeof *values);
    } else {
        float *narrow = malloc((size_t)n * sizeof *narrow);
        assert_non_null(narrow);
        ot_param_read(p, narrow);
        for (int64_t i = 0; i < n; i++) values[i] = (double)narrow[i];
        free(narrow);
    }
    p->slot.data = values;
    p->slot.dtype = OT_F64;
    return values;
}

static void check_param(ot_model *m, ot_network *eval, ot_param *p, double *values, const double *grad, ot_rng *rng, double largest) {
    int64_t n = ot_param_elements(p);
    for (int probe = 0; probe < 3; probe++) {
        int64_t i = (int64_t)ot_rng_below(rng, (uint64_t)n);
        /* The padding row is no leaf of the embedding. */
        if (p->role == OT_ROLE_EMBED && m->desc.padding_id >= 0 && i / p->slot.cols == m->desc.padding_id) continue;
        double kept = values[i], h = 1e-5;
        values[i] = kept + h;
        double up = run(eval);
        values[i] = kept - h;
        double down = run(eval);
        values[i] = kept;
        double expected = (up - down) / (2 * h);
        if (fabs(expected - grad[i]) > 1e-6 * largest + 1e-7) {
            fail_msg("%s[%lld]: gradient %.12g, finite difference %.12g", p->name, (long long)i, grad[i], expected);
        }
    }
}

static void finite_differences(void **state) {
    (void)state;
    for (int f = 0; f < N_FAMILIES; f++) {
        ot_model *m = open_family(families[f], OT_F64);
        double **values = calloc((size_t)m->n_params, sizeof *values);
        assert_non_null(values);
        for (int64_t i = 0; i < m->n_params; i++) values[i] = own_doubles(&m->params[i]);
        double *grads = attach(m, sizeof *grads);
        ot_network *net = make(m, &ot_backend_ref64, OT_F64, true, f % 2 == 1, 2);
        ot_network *eval = make(m, &ot_backend_ref64, OT_F64, false, false, 2);
        ot_network *both[] = {net, eval};
        for (int k = 0; k < 2; k++) {
            add_sequence(both[k], m, 5, TOKENS);
            add_sequence(both[k], m, 6, 5);
        }
        double loss = run(net);
        assert_true(fabs(loss - run(eval)) < 1e-10 * fabs(loss));
        double largest = 0;
        for (int64_t i = 0; i < m->n_params; i++) {
            for (int64_t k = 0; k < ot_param_elements(&m->params[i]); k++) largest = fmax(largest, fabs(((double *)m->params[i].slot.grad)[k]));
        }
        ot_rng rng;
        ot_rng_seed(&rng, (uint64_t)f);
        for (int64_t i = 0; i < m->n_params; i++) check_param(m, eval, &m->params[i], values[i], m->params[i].slot.grad, &rng, largest);
        for (int64_t i = 0; i < m->n_params; i++) free(values[i]);
        free(values);
        free(grads);
        ot_network_free(net);
        ot_network_free(eval);
        ot_model_close(m);
    }
}

/* ==== Recompute and packing. ==== */

static void recompute_changes_nothing_but_memory(void **state) {
    (void)state;
    for (int f = 0; f < N_FAMILIES; f++) {
        ot_model *m = open_family(families[f], OT_F32);
        int64_t total = 0;
        for (int64_t i = 0; i < m->n_params; i++) total += ot_param_elements(&m->params[i]);
        float *first = NULL;
        int64_t bytes[2];
        for (int recompute = 0; recompute < 2; recompute++) {
            float *grads = attach(m, sizeof *grads);
            ot_network *net = make(m, ot_backends[0], OT_F32, true, recompute != 0, 2);
            add_sequence(net, m, 5, TOKENS);
            add_sequence(net, m, 6, TOKENS);
            run(net);
            ot_plan_memory_info info;
            ot_plan_memory(ot_network_plan(net), &info);
            bytes[recompute] = info.activations;
            if (recompute) assert_memory_equal(grads, first, (size_t)total * sizeof *grads);
            if (recompute) free(grads);
            if (!recompute) first = grads;
            ot_network_free(net);
        }
        assert_true(bytes[1] < bytes[0]);
        free(first);
        ot_model_close(m);
    }
}

static void packed_loss_is_the_sum_of_single_losses(void **state) {
    (void)state;
    for (int f = 0; f < N_FAMILIES; f++) {
        ot_model *m = open_family(families[f], OT_F32);
        ot_network *net = make(m, ot_backends[0], OT_F32, false, false, 3);
        double sum = 0;
        const int64_t lengths[] = {TOKENS, 4, 7};
        for (int s = 0; s < 3; s++) {
            ot_network_clear(net);
            add_sequence(net, m, (uint64_t)s + 20, lengths[s]);
            sum += run(net);
        }
        ot_network_clear(net);
        for (int s = 0; s < 3; s++) add_sequence(net, m, (uint64_t)s + 20, lengths[s]);
        double packed = run(net);
        if (fabs(packed - sum) > 1e-5 * fabs(sum)) fail_msg("%s: packed %.9g, one by one %.9g", families[f], packed, sum);
        ot_network_free(net);
        ot_model_close(m);
    }
}

static void frozen_parts_own_no_gradients(void **state) {
    (void)state;
    ot_model *m = open_family("llama", OT_F32);
    int64_t bytes[2];
    for (int all = 0; all < 2; all++) {
        for (int64_t i = 0; i < m->n_params; i++) {
            m->params[i].slot.trainable = all != 0 || m->params[i].block == m->desc.layers - 1;
            m->params[i].slot.grad = NULL;
        }
        ot_network *net = make(m, ot_backends[0], OT_F32, true, false, 1);
        ot_plan_memory_info info;
        ot_plan_memory(ot_network_plan(net), &info);
        bytes[all] = info.activations;
        int64_t backward_below = 0;
        for (int64_t e = 0; e < ot_plan_trace_length(ot_network_plan(net)); e++) {
            ot_trace_info t;
            ot_plan_trace_info(ot_network_plan(net), e, TOKENS, 1, TOKENS, &t);
            backward_below += t.phase == OT_PHASE_BACKWARD && t.block >= 0 && t.block < m->desc.layers - 1;
        }
        assert_int_equal(backward_below > 0, all);
        ot_network_free(net);
    }
    assert_true(bytes[0] < bytes[1]);
    ot_model_close(m);
}

static void sequences_that_do_not_fit_are_refused(void **state) {
    (void)state;
    ot_model *m = open_family("gpt2", OT_F32);
    ot_network *net = make(m, ot_backends[0], OT_F32, false, false, 1);
    ot_error err = {0};
    int32_t ids[TOKENS + 1] = {0};
    assert_int_equal(ot_network_add(net, ids, NULL, NULL, TOKENS + 1, NULL, &err), OT_ERR_USAGE);
    ids[0] = (int32_t)m->desc.vocab_size;
    assert_int_equal(ot_network_add(net, ids, NULL, NULL, 1, NULL, &err), OT_ERR_FORMAT);
    assert_non_null(strstr(err.message, "outside the vocabulary"));
    ot_network_free(net);
    ot_model_close(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finite_differences),
        cmocka_unit_test(recompute_changes_nothing_but_memory),
        cmocka_unit_test(packed_loss_is_the_sum_of_single_losses),
        cmocka_unit_test(frozen_parts_own_no_gradients),
        cmocka_unit_test(sequences_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
