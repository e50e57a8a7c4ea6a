/* How far a whole model's loss and gradients in bf16 arithmetic are from the same in f32: the tolerance that docs/performance.md states. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/rng.h"
#include "model/network.h"

static const char *const families[] = {"gpt2", "opt", "opt-350m", "bloom", "llama", "llama-tied", "mistral-window", "qwen2", "qwen3"};
enum { N_FAMILIES = sizeof families / sizeof *families, TOKENS = 16, SEQUENCES = 2 };

/* bf16 keeps 8 bits, 2^-9 a rounding: the loss stays within one rounding, the vector of all gradients within a few dozen (models of 16
 * hidden units, where nothing averages out). */
static const double LOSS_TOLERANCE = 2e-3, GRADIENT_TOLERANCE = 6e-2;

typedef struct result {
    double loss;
    float *grads; /* of all parameters, one after another */
    int64_t count;
} result;

static void add_sequence(ot_network *net, const ot_model *m, uint64_t seed) {
    int32_t ids[TOKENS], targets[TOKENS];
    ot_error err = {0};
    ot_rng rng;
    ot_rng_seed(&rng, seed);
    for (int64_t i = 0; i < TOKENS; i++) ids[i] = 3 + (int32_t)ot_rng_below(&rng, (uint64_t)m->desc.vocab_size - 3);
    for (int64_t i = 0; i < TOKENS; i++) targets[i] = i + 1 < TOKENS ? ids[i + 1] : -1;
    if (ot_network_add(net, ids, NULL, targets, TOKENS, NULL, &err) != OT_OK) fail_msg("%s", err.message);
}

static result run(const char *family, const ot_backend *backend, ot_dtype compute) {
    char path[512];
    ot_model *m = NULL;
    ot_network *net = NULL;
    ot_error err = {0};
    result r = {0};
    snprintf(path, sizeof path, TEST_DATA_DIR "/../golden/data/models/%s", family);
    if (ot_model_open(path, OT_F32, &m, &err) != OT_OK) fail_msg("%s: %s", family, err.message);
    for (int64_t i = 0; i < m->n_params; i++) r.count += ot_param_elements(&m->params[i]);
    r.grads = calloc((size_t)r.count, sizeof *r.grads);
    assert_non_null(r.grads);
    int64_t at = 0;
    for (int64_t i = 0; i < m->n_params; i++) {
        m->params[i].slot.trainable = true;
        m->params[i].slot.grad = r.grads + at;
        at += ot_param_elements(&m->params[i]);
    }
    ot_network_options o = {.plan = {.backend = backend, .compute = compute, .max_rows = TOKENS * SEQUENCES, .max_targets = TOKENS * SEQUENCES, .train = true},
                            .outputs = OT_OUT_LOSS,
                            .max_segments = SEQUENCES};
    if (ot_network_new(m, &o, &net, &err) != OT_OK) fail_msg("%s: %s", family, err.message);
    for (uint64_t s = 0; s < SEQUENCES; s++) add_sequence(net, m, 40 + s);
    if (ot_network_run(net, &(ot_run_options){0}, &r.loss, &err) != OT_OK) fail_msg("%s: %s", family, err.message);
    r.loss /= (double)ot_network_targets(net);
    ot_network_free(net);
    ot_model_close(m);
    return r;
}

/* ||a - b|| / ||b|| */
static double distance(const result *a, const result *b) {
    double difference = 0, size = 0;
    for (int64_t i = 0; i < b->count; i++) {
        double d = (double)a->grads[i] - (double)b->grads[i];
        difference += d * d;
        size += (double)b->grads[i] * (double)b->grads[i];
    }
    return sqrt(difference / size);
}

static void bf16_is_near_f32(void **state) {
    (void)state;
    int64_t compared = 0;
    double worst_loss = 0, worst_gradient = 0;
    for (int f = 0; f < N_FAMILIES; f++) {
        result exact = run(families[f], &ot_backend_ref, OT_F32);
        for (int b = 0; ot_backends[b] != NULL; b++) {
            if (!ot_backends[b]->available() || !ot_backends[b]->supports(OT_BF16)) continue;
            result narrow = run(families[f], ot_backends[b], OT_BF16);
            double loss = fabs(narrow.loss - exact.loss) / exact.loss, gradient = distance(&narrow, &exact);
            if (!(loss <= LOSS_TOLERANCE) || !(gradient <= GRADIENT_TOLERANCE)) {
                fail_msg("%s on %s: loss off by %.3g, gradients by %.3g", families[f], ot_backends[b]->name, loss, gradient);
            }
            worst_loss = fmax(worst_loss, loss);
            worst_gradient = fmax(worst_gradient, gradient);
            compared++;
            free(narrow.grads);
        }
        free(exact.grads);
    }
    print_message("%lld runs: loss within %.2g, gradients within %.2g of f32 (relative)\n", (long long)compared, worst_loss, worst_gradient);
    assert_true(compared >= N_FAMILIES);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(bf16_is_near_f32)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
