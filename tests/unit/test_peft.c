/* Tuning methods: gradients against finite differences in double, where they start, what they count, dropout, recompute, and what they refuse. */
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
#include "model/sizes.h"
#include "peft/lora.h"
#include "peft/peft.h"

enum { TOKENS = 9, MAX_LAYERS = 64 };

static const char *const families[] = {"gpt2", "opt", "opt-350m", "bloom", "llama", "mistral-window", "qwen2", "qwen3"};
/* Those that start as the model first. */
static const char *const hooking[] = {
    "lora:r=2,alpha=3,dropout=0",
    "lora:r=3,alpha=4,dropout=0,rslora=yes",
    "houlsby:width=3,dropout=0",
    "ia3",
    "houlsby:width=2,dropout=0|lora:r=2,alpha=3,dropout=0|ia3",
    "prefix:tokens=3",
    "prompt:tokens=3",
    "prompt:tokens=2|lora:r=2,alpha=3,dropout=0",
    "prefix:tokens=2|ia3",
    "dora:r=2,alpha=3,dropout=0",
    "dora:r=2,alpha=3,dropout=0,targets=all|houlsby:width=2,dropout=0",
};
enum { N_NEUTRAL = 5 };
enum { N_FAMILIES = sizeof families / sizeof *families, N_HOOKING = sizeof hooking / sizeof *hooking };

static void must(ot_status status, const ot_error *err) {
    if (status != OT_OK) fail_msg("%s", err->message);
}

static ot_model *open_family(const char *name, ot_dtype compute) {
    char path[512];
    ot_model *m = NULL;
    ot_error err = {0};
    snprintf(path, sizeof path, TEST_DATA_DIR "/../golden/data/models/%s", name);
    must(ot_model_open(path, compute, &m, &err), &err);
    return m;
}

/* The first and the last block, as with an offer. */
static void outer_blocks(const ot_model *m, bool tuned[MAX_LAYERS]) {
    assert_true(m->desc.layers <= MAX_LAYERS);
    for (int64_t b = 0; b < m->desc.layers; b++) tuned[b] = b == 0 || b == m->desc.layers - 1;
}

static ot_network *make(const ot_model *m, const ot_hooks *hooks, const ot_backend *backend, ot_dtype compute, bool train, bool recompute) {
    ot_network *net = NULL;
    ot_error err = {0};
    ot_network_options o = {
        .plan = {.backend = backend, .compute = compute, .max_rows = 2 * TOKENS, .max_targets = 2 * TOKENS, .train = train, .recompute = recompute},
        .hooks = hooks,
        .outputs = OT_OUT_LOSS,
        .max_segments = 2};
    must(ot_network_new(m, &o, &net, &err), &err);
    for (uint64_t s = 0; s < 2; s++) {
        int32_t ids[TOKENS], targets[TOKENS];
        ot_rng rng;
        ot_rng_seed(&rng, s + 5);
        for (int64_t i = 0; i < TOKENS; i++) ids[i] = 3 + (int32_t)ot_rng_below(&rng, (uint64_t)m->desc.vocab_size - 3);
        for (int64_t i = 0; i < TOKENS; i++) targets[i] = i + 1 < TOKENS ? ids[i + 1] : -1;
        must(ot_network_add(net, ids, NULL, targets, TOKENS, NULL, &err), &err);
    }
    return net;
}

static double run(ot_network *net, uint64_t seed) {
    double loss = NAN;
    ot_error err = {0};
    must(ot_network_run(net, &(ot_run_options){.loss_scale = 1.0, .dropout_seed = seed}, &loss, &err), &err);
    return loss;
}

/* ==== Gradients. ==== */

/* All new tensors at random, so that no product hides behind a zero. */
static void randomise(ot_peft *p) {
    ot_rng rng;
    ot_rng_seed(&rng, 3);
    for (int64_t i = 0; i < p->n_tensors; i++) {
        for (int64_t k = 0; k < p->tensors[i]->slot.rows * p->tensors[i]->slot.cols; k++) p->tensors[i]->values[k] = (float)(0.3 * ot_rng_normal(&rng));
    }
}

static double *to_doubles(ot_slot *slot) {
    int64_t n = slot->rows * slot->cols;
    double *values = malloc((size_t)n * sizeof *values);
    float *narrow = malloc((size_t)n * sizeof *narrow);
    assert_non_null(values);
    assert_non_null(narrow);
    ot_decode_f32(slot->dtype, slot->data, narrow, n);
    for (int64_t i = 0; i < n; i++) values[i] = (double)narrow[i];
    free(narrow);
    slot->data = values;
    slot->dtype = OT_F64;
    return values;
}

static void widen_model(ot_model *m, double **values) {
    for (int64_t i = 0; i < m->n_params; i++) values[i] = m->params[i].slot.dtype == OT_F64 ? NULL : to_doubles(&m->params[i].slot);
}

static void check_gradients(const char *family, const char *method) {
    ot_error err = {0};
    ot_model *m = open_family(family, OT_F64);
    bool tuned[MAX_LAYERS];
    outer_blocks(m, tuned);
    double **frozen = calloc((size_t)m->n_params, sizeof *frozen);
    assert_non_null(frozen);
    widen_model(m, frozen);
    ot_peft p;
    ot_trainables t = {0};
    must(ot_peft_begin(&p, method, m, tuned, 1, &t, &err), &err);
    randomise(&p);
    double **values = calloc((size_t)p.n_tensors, sizeof *values), **grads = calloc((size_t)p.n_tensors, sizeof *grads);
    assert_non_null(values);
    assert_non_null(grads);
    for (int64_t i = 0; i < p.n_tensors; i++) {
        ot_slot *slot = &p.tensors[i]->slot;
        values[i] = to_doubles(slot);
        slot->grad = grads[i] = calloc((size_t)(slot->rows * slot->cols), sizeof **grads);
        assert_non_null(grads[i]);
    }
    ot_network *net = make(m, ot_peft_hooks(&p), &ot_backend_ref64, OT_F64, true, true);
    ot_network *eval = make(m, ot_peft_hooks(&p), &ot_backend_ref64, OT_F64, false, false);
    double loss = run(net, 0), largest = 0;
    assert_true(fabs(loss - run(eval, 0)) < 1e-10 * fabs(loss));
    for (int64_t i = 0; i < p.n_tensors; i++) {
        for (int64_t k = 0; k < p.tensors[i]->slot.rows * p.tensors[i]->slot.cols; k++) largest = fmax(largest, fabs(grads[i][k]));
    }
    assert_true(largest > 1e-3);
    ot_rng rng;
    ot_rng_seed(&rng, 8);
    for (int64_t i = 0; i < p.n_tensors; i++) {
        /* DoRA's norm counts as a constant in backward, as in PEFT, whose gradients test_peft_golden asks for; magnitudes it does not depend on. */
        bool detached = strstr(method, "dora") != NULL && strstr(p.tensors[i]->name, "lora_magnitude") == NULL;
        for (int probe = 0; probe < 3 && !detached; probe++) {
            int64_t k = (int64_t)ot_rng_below(&rng, (uint64_t)(p.tensors[i]->slot.rows * p.tensors[i]->slot.cols));
            double kept = values[i][k], h = 1e-5;
            values[i][k] = kept + h;
            double up = run(eval, 0);
            values[i][k] = kept - h;
            double expected = (up - run(eval, 0)) / (2 * h);
            values[i][k] = kept;
            if (fabs(expected - grads[i][k]) > 1e-6 * largest + 1e-7) {
                fail_msg("%s, %s: %s[%lld]: gradient %.12g, finite difference %.12g", family, method, p.tensors[i]->name, (long long)k, grads[i][k],
                         expected);
            }
        }
    }
    ot_network_free(net);
    ot_network_free(eval);
    for (int64_t i = 0; i < p.n_tensors; i++) {
        free(values[i]);
        free(grads[i]);
    }
    for (int64_t i = 0; i < m->n_params; i++) free(frozen[i]);
    free(values);
    free(grads);
    free(frozen);
    ot_trainables_free(&t);
    ot_peft_end(&p);
    ot_model_close(m);
}

static void gradients_are_finite_differences(void **state) {
    (void)state;
    for (int f = 0; f < N_FAMILIES; f++) {
        for (int k = 0; k < N_HOOKING; k++) check_gradients(families[f], hooking[k]);
    }
}

/* ==== Starts. ==== */

static void additions_start_as_the_model(void **state) {
    (void)state;
    for (int f = 0; f < N_FAMILIES; f++) {
        ot_model *m = open_family(families[f], OT_F32);
        bool tuned[MAX_LAYERS];
        outer_blocks(m, tuned);
        ot_network *plain = make(m, NULL, ot_backends[0], OT_F32, false, false);
        double expected = run(plain, 0);
        for (int k = 0; k < N_NEUTRAL; k++) {
            ot_error err = {0};
            ot_peft p;
            ot_trainables t = {0};
            must(ot_peft_begin(&p, hooking[k], m, tuned, 1, &t, &err), &err);
            ot_network *net = make(m, ot_peft_hooks(&p), ot_backends[0], OT_F32, false, false);
            assert_true(run(net, 0) == expected);
            /* And not for want of tensors. */
            randomise(&p);
            assert_true(run(net, 0) != expected);
            ot_network_free(net);
            ot_trainables_free(&t);
            ot_peft_end(&p);
        }
        ot_network_free(plain);
        ot_model_close(m);
    }
}

/* DoRA's magnitudes begin as the norms, up to the last bits. What dropout does is the reference's on every backend, and recomputed values change nothing. */
static void dora_starts_as_the_model_and_trains_as_the_reference(void **state) {
    (void)state;
    for (int f = 0; f < N_FAMILIES; f++) {
        ot_error err = {0};
        ot_model *m = open_family(families[f], OT_F32);
        bool tuned[MAX_LAYERS];
        outer_blocks(m, tuned);
        ot_peft p;
        ot_trainables t = {0};
        must(ot_peft_begin(&p, "dora:r=2,alpha=3,dropout=0.4", m, tuned, 1, &t, &err), &err);
        must(ot_trainables_bind(&t, OT_F32, false, &err), &err);
        ot_network *plain = make(m, NULL, ot_backends[0], OT_F32, false, false), *eval = make(m, ot_peft_hooks(&p), ot_backends[0], OT_F32, false, false);
        double expected = run(plain, 0), start = run(eval, 0);
        assert_true(fabs(start - expected) < 1e-6 * expected);
        /* Dropout is on what the difference to the model's own product reads, not on the model's: as long as there is none it does nothing. */
        ot_network *train = make(m, ot_peft_hooks(&p), ot_backends[0], OT_F32, true, false);
        assert_true(fabs(run(train, 3) - expected) < 1e-6 * expected);
        for (int64_t i = 0; i < p.n_tensors; i++) {
            bool vector = p.tensors[i]->n_dims == 1;
            float *values = (float *)(uintptr_t)p.tensors[i]->slot.data;
            for (int64_t k = 0; k < p.tensors[i]->slot.rows * p.tensors[i]->slot.cols; k++) {
                float *v = &values[k];
                *v = vector ? *v * (k % 2 == 0 ? 1.2F : 0.7F) : 0.1F * (float)(k % 7 - 3);
            }
        }
        assert_true(fabs(run(eval, 0) - expected) > 1e-4);
        assert_true(fabs(run(train, 3) - run(train, 4)) > 1e-4);
        ot_network_free(train);
        float *first = malloc((size_t)t.stretch * sizeof *first);
        assert_non_null(first);
        double loss = 0;
        for (int k = 0; k < 3; k++) {
            ot_network *net = make(m, ot_peft_hooks(&p), k == 0 ? &ot_backend_ref : ot_backends[0], OT_F32, true, k == 2);
            memset(t.grad, 0, (size_t)t.stretch * sizeof *t.grad);
            double other = run(net, 5), largest = 0;
            if (k == 0) {
                loss = other;
                memcpy(first, t.grad, (size_t)t.stretch * sizeof *first);
            }
            assert_true(fabs(other - loss) < 1e-5 * loss);
            for (int64_t i = 0; i < t.stretch; i++) largest = fmax(largest, fabs((double)first[i]));
            for (int64_t i = 0; i < t.stretch; i++) {
                if (!(fabs((double)(t.grad[i] - first[i])) < 2e-5 * largest)) {
                    fail_msg("%s, run %d: gradient %lld is %g, the reference's %g of %g", families[f], k, (long long)i, (double)t.grad[i], (double)first[i], largest);
                }
            }
            ot_network_free(net);
        }
        free(first);
        ot_network_free(plain);
        ot_network_free(eval);
        ot_trainables_free(&t);
        ot_peft_end(&p);
        ot_model_close(m);
    }
}

static void first_values_follow_the_seed_and_the_name(void **state) {
    (void)state;
    ot_error err = {0};
    ot_model *m = open_family("llama", OT_F32);
    bool all[MAX_LAYERS], last[MAX_LAYERS];
    for (int64_t b = 0; b < m->desc.layers; b++) all[b] = true, last[b] = b == m->desc.layers - 1;
    const char *methods[] = {"lora:r=2", "houlsby:width=3", "prefix:tokens=3"};
    for (int k = 0; k < 3; k++) {
        ot_peft p[3];
        ot_trainables t[3] = {0};
        must(ot_peft_begin(&p[0], methods[k], m, all, 1, &t[0], &err), &err);
        must(ot_peft_begin(&p[1], methods[k], m, last, 1, &t[1], &err), &err);
        must(ot_peft_begin(&p[2], methods[k], m, last, 2, &t[2], &err), &err);
        int64_t skip = p[0].n_tensors - p[1].n_tensors, other = 0;
        for (int64_t i = 0; i < p[1].n_tensors; i++) {
            const ot_peft_tensor *a = p[0].tensors[skip + i], *b = p[1].tensors[i], *c = p[2].tensors[i];
            size_t bytes = (size_t)(a->slot.rows * a->slot.cols) * 4;
            assert_string_equal(a->name, b->name);
            assert_memory_equal(a->values, b->values, bytes);
            other += memcmp(b->values, c->values, bytes) != 0;
        }
        assert_true(other > 0);
        for (int i = 0; i < 3; i++) {
            ot_trainables_free(&t[i]);
            ot_peft_end(&p[i]);
        }
    }
    ot_model_close(m);
}

static void kaiming_bound(void **state) {
    (void)state;
    ot_error err = {0};
    ot_model *m = open_family("gpt2", OT_F32);
    bool tuned[MAX_LAYERS];
    outer_blocks(m, tuned);
    ot_peft p;
    ot_trainables t = {0};
    must(ot_peft_begin(&p, "lora:r=4", m, tuned, 1, &t, &err), &err);
    const ot_lora_place *place = ot_lora_at(&p, 0, OT_ROLE_DOWN);
    assert_non_null(place);
    double bound = 1.0 / sqrt((double)place->a->slot.cols), largest = 0;
    for (int64_t i = 0; i < place->a->slot.rows * place->a->slot.cols; i++) largest = fmax(largest, fabs((double)place->a->values[i]));
    assert_true(largest <= bound && largest > 0.9 * bound);
    assert_true(place->scale == 8.0);
    ot_trainables_free(&t);
    ot_peft_end(&p);
    ot_model_close(m);
}

/* ==== Training plans. ==== */

static void recompute_gives_the_same_gradients(void **state) {
    (void)state;
    const char *methods[] = {"lora:r=2,dropout=0.3", "houlsby:width=3,dropout=0.3", "prefix:tokens=3"};
    for (int f = 0; f < N_FAMILIES; f++) {
        for (int k = 0; k < 3; k++) {
            ot_error err = {0};
            ot_model *m = open_family(families[f], OT_F32);
            bool tuned[MAX_LAYERS];
            outer_blocks(m, tuned);
            ot_peft p;
            ot_trainables t = {0};
            must(ot_peft_begin(&p, methods[k], m, tuned, 1, &t, &err), &err);
            randomise(&p);
            must(ot_trainables_bind(&t, OT_F32, false, &err), &err);
            float *first = malloc((size_t)t.stretch * sizeof *first);
            assert_non_null(first);
            for (int recompute = 0; recompute < 2; recompute++) {
                ot_network *net = make(m, ot_peft_hooks(&p), ot_backends[0], OT_F32, true, recompute != 0);
                memset(t.grad, 0, (size_t)t.stretch * sizeof *t.grad);
                run(net, 77);
                if (recompute == 0) memcpy(first, t.grad, (size_t)t.stretch * sizeof *first);
                ot_network_free(net);
            }
            assert_memory_equal(first, t.grad, (size_t)t.stretch * sizeof *first);
            free(first);
            ot_trainables_free(&t);
            ot_peft_end(&p);
            ot_model_close(m);
        }
    }
}

/* Low-rank products beside linears that read one value stand side by side in the trace, and masks, products and gradients are the reference's. */
static void products_of_one_value_are_done_together(void **state) {
    (void)state;
    const struct {
        const char *family;
        int runs[4];
    } rows[] = {{"llama", {3, 1, 2, 1}}, {"opt", {3, 1, 1, 1}}, {"gpt2", {1, 1, 1, 1}}};
    for (size_t f = 0; f < sizeof rows / sizeof *rows; f++) {
        ot_error err = {0};
        ot_model *m = open_family(rows[f].family, OT_F32);
        bool tuned[MAX_LAYERS];
        outer_blocks(m, tuned);
        ot_peft p;
        ot_trainables t = {0};
        must(ot_peft_begin(&p, "lora:r=3,alpha=4,dropout=0.3", m, tuned, 1, &t, &err), &err);
        randomise(&p);
        must(ot_trainables_bind(&t, OT_F32, false, &err), &err);
        float *expected = malloc((size_t)t.stretch * sizeof *expected);
        assert_non_null(expected);
        for (int k = 0; k < 2; k++) {
            ot_network *net = make(m, ot_peft_hooks(&p), k == 0 ? &ot_backend_ref : ot_backends[0], OT_F32, true, false);
            memset(t.grad, 0, (size_t)t.stretch * sizeof *t.grad);
            run(net, 5);
            if (k == 0) memcpy(expected, t.grad, (size_t)t.stretch * sizeof *expected);
            int64_t run_length = 0, n = 0;
            for (int64_t e = 0; e < ot_plan_trace_length(ot_network_plan(net)); e++) {
                ot_trace_info info;
                ot_plan_trace_info(ot_network_plan(net), e, TOKENS, 1, TOKENS, &info);
                bool product = info.kind == OT_OP_LOW_RANK && info.phase == OT_PHASE_FORWARD;
                if (!product && run_length > 0) assert_int_equal(run_length, rows[f].runs[n++ % 4]);
                run_length = product ? run_length + 1 : 0;
            }
            assert_int_equal(n, 8);
            ot_network_free(net);
        }
        double largest = 0;
        for (int64_t i = 0; i < t.stretch; i++) largest = fmax(largest, fabs((double)expected[i]));
        for (int64_t i = 0; i < t.stretch; i++) assert_true(fabs((double)(t.grad[i] - expected[i])) < 1e-5 * largest);
        free(expected);
        ot_trainables_free(&t);
        ot_peft_end(&p);
        ot_model_close(m);
    }
}

static void dropout_belongs_to_training(void **state) {
    (void)state;
    const char *methods[] = {"lora:r=2,dropout=0.5", "houlsby:width=3,dropout=0.5"};
    for (int k = 0; k < 2; k++) {
        ot_error err = {0};
        ot_model *m = open_family("opt", OT_F32);
        bool tuned[MAX_LAYERS];
        outer_blocks(m, tuned);
        ot_peft p;
        ot_trainables t = {0};
        must(ot_peft_begin(&p, methods[k], m, tuned, 1, &t, &err), &err);
        randomise(&p);
        must(ot_trainables_bind(&t, OT_F32, false, &err), &err);
        ot_network *train = make(m, ot_peft_hooks(&p), ot_backends[0], OT_F32, true, false);
        ot_network *eval = make(m, ot_peft_hooks(&p), ot_backends[0], OT_F32, false, false);
        assert_true(run(eval, 1) == run(eval, 2));
        double first = run(train, 1);
        assert_true(first != run(train, 2));
        assert_true(first == run(train, 1));
        ot_network_free(train);
        ot_network_free(eval);
        ot_trainables_free(&t);
        ot_peft_end(&p);
        ot_model_close(m);
    }
}

/* ==== Counts, from the paper's table 5. ==== */

static ot_model *model_of_size(const char *name) {
    for (const ot_model_size *s = ot_model_sizes; s->name != NULL; s++) {
        if (strcmp(s->name, name) != 0) continue;
        ot_error err = {0};
        ot_model *m = NULL;
        must(ot_model_from_json(json_loads(s->config, 0, NULL), name, &m, &err), &err);
        return m;
    }
    fail_msg("no size %s", name);
    return NULL;
}

static void counts_of_the_paper(void **state) {
    (void)state;
    const struct {
        const char *size, *method;
        int64_t count;
    } rows[] = {
        {"gpt2-xl", "full", 122963200},   {"gpt2-xl", "houlsby", 1651712},  {"gpt2-xl", "lora", 409600},  {"gpt2-xl", "bitfit", 83200},
        {"opt-1.3b", "full", 201433088},  {"opt-1.3b", "houlsby", 2114048}, {"opt-1.3b", "lora", 589824}, {"opt-1.3b", "bitfit", 106496},
        {"gpt2-xl", "prefix:tokens=20", 256000}, {"gpt2-xl", "lora:targets=c_attn,r=2", 51200},
        {"gpt2-xl", "prompt", 8000}, {"opt-1.3b", "prompt:tokens=20", 40960}, {"opt-1.3b", "ia3", 49152}, {"gpt2-xl", "ia3", 44800},
        {"gpt2-xl", "lora|bitfit", 409600 + 83200}, {"gpt2-xl", "dora", 409600 + 57600}, {"opt-1.3b", "prompt|lora", 10240 + 589824},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ot_error err = {0};
        ot_model *m = model_of_size(rows[i].size);
        int64_t n = 0;
        must(ot_peft_count(rows[i].method, &m->desc, 4, &n, &err), &err);
        assert_int_equal(n, rows[i].count);
        ot_model_close(m);
    }
}

static void counts_are_what_is_declared(void **state) {
    (void)state;
    const char *methods[] = {"full", "bitfit", "bitfit:gains=no", "lora:r=2", "dora:r=2", "houlsby:width=3", "prefix:tokens=3", "prompt:tokens=4", "ia3", "lora|bitfit", "prompt|houlsby:width=2"};
    for (int f = 0; f < N_FAMILIES; f++) {
        for (size_t k = 0; k < sizeof methods / sizeof *methods; k++) {
            ot_error err = {0};
            ot_model *m = open_family(families[f], OT_F32);
            bool tuned[MAX_LAYERS];
            outer_blocks(m, tuned);
            int64_t n = 0;
            must(ot_peft_count(methods[k], &m->desc, m->desc.layers > 1 ? 2 : 1, &n, &err), &err);
            ot_peft p;
            ot_trainables t = {0};
            ot_status status = ot_peft_begin(&p, methods[k], m, tuned, 1, &t, &err);
            /* Llama has no biases. */
            if (n == 0) assert_int_equal(status, OT_ERR_USAGE);
            assert_int_equal(status == OT_OK ? t.count : 0, n);
            ot_trainables_free(&t);
            if (status == OT_OK) ot_peft_end(&p);
            ot_model_close(m);
        }
    }
}

/* ==== Virtual tokens in a batch. ==== */

static double loss_of(ot_network *net) {
    double loss = run(net, 0);
    ot_network_clear(net);
    return loss;
}

/* Continuations behind a common beginning, tokens one by one into a cache, and padding: always one prompt in front, once. */
static void a_prompt_stands_in_front_once(void **state) {
    (void)state;
    for (int f = 0; f < N_FAMILIES; f++) {
        ot_error err = {0};
        ot_model *m = open_family(families[f], OT_F32);
        bool tuned[MAX_LAYERS];
        outer_blocks(m, tuned);
        ot_peft p;
        must(ot_peft_attach(&p, "prompt:tokens=3", m, tuned, &err), &err);
        randomise(&p);
        ot_network_options o = {.plan = {.backend = ot_backends[0], .compute = OT_F32, .max_rows = 2 * TOKENS, .max_targets = 2 * TOKENS},
                                .hooks = ot_peft_hooks(&p),
                                .outputs = OT_OUT_LOSS,
                                .max_segments = 2};
        ot_network *net = NULL, *cached = NULL;
        must(ot_network_new(m, &o, &net, &err), &err);
        o.plan.max_kept = TOKENS + 3;
        must(ot_network_new(m, &o, &cached, &err), &err);
        int32_t ids[TOKENS] = {5, 9, 4, 7, 11, 6, 8, 10, 3}, targets[TOKENS];
        int64_t mask[TOKENS + 2] = {0, 0};
        int32_t padded[TOKENS + 2] = {0}, padded_targets[TOKENS + 2];
        for (int64_t i = 0; i < TOKENS; i++) targets[i] = i == TOKENS - 1 ? 12 : -1;
        must(ot_network_add(net, ids, NULL, targets, TOKENS, NULL, &err), &err);
        assert_int_equal(ot_network_rows(net), TOKENS);
        double whole = loss_of(net);
        must(ot_network_add(net, ids, NULL, NULL, 4, NULL, &err), &err);
        must(ot_network_add_branch(net, 0, ids + 4, targets + 4, TOKENS - 4, &err), &err);
        assert_true(fabs(loss_of(net) - whole) < 1e-5 * whole);
        ot_cache_lane lane = {0};
        double last = 0;
        for (int64_t i = 0; i < TOKENS; i++) {
            must(ot_network_add(cached, ids + i, NULL, targets + i, 1, &lane, &err), &err);
            last = loss_of(cached);
        }
        assert_int_equal(lane.length, TOKENS + 3);
        assert_true(fabs(last - whole) < 1e-5 * whole);
        /* Padding does not matter where positions follow the mask. */
        for (int64_t i = 0; i < TOKENS + 2; i++) {
            mask[i] = i >= 2;
            padded[i] = i >= 2 ? ids[i - 2] : 0;
            padded_targets[i] = i >= 2 ? targets[i - 2] : -1;
        }
        must(ot_network_add(net, padded, mask, padded_targets, TOKENS + 2, NULL, &err), &err);
        double behind_padding = loss_of(net);
        if (m->desc.position_from_mask) assert_true(fabs(behind_padding - whole) < 1e-5 * whole);
        /* What the last virtual token predicts is asked once. */
        ot_network_expect(net, 7);
        must(ot_network_add(net, ids, NULL, targets, TOKENS, NULL, &err), &err);
        assert_int_equal(ot_network_targets(net), 2);
        ot_network_clear(net);
        must(ot_network_add(net, ids, NULL, targets, TOKENS, NULL, &err), &err);
        assert_int_equal(ot_network_targets(net), 1);
        assert_true(loss_of(net) == whole);
        ot_network_expect(net, (int32_t)m->desc.vocab_size);
        assert_int_equal(ot_network_add(net, ids, NULL, targets, TOKENS, NULL, &err), OT_ERR_FORMAT);
        ot_network_free(net);
        ot_network_free(cached);
        ot_peft_end(&p);
        ot_model_close(m);
    }
}

/* ==== Refusals. ==== */

static void wrong_methods_are_wrong_usage(void **state) {
    (void)state;
    const struct {
        const char *family, *method, *says;
    } rows[] = {
        {"gpt2", "lora:targets=q_proj", "c_attn"},
        {"gpt2", "lora:targets=c_attn,", "no linear \"\""},
        {"gpt2", "lora:targets=attn", "no linear \"attn\""},
        {"llama", "lora:targets=q_proj,k_porj", "k_porj"},
        {"llama", "lora:r=1000", "use at most"},
        {"llama", "lora:r=0", "from 1"},
        {"llama", "lora:rslora=maybe", "yes or no"},
        {"llama", "lora:rank=4", "nearest"},
        {"llama", "dora:r=1000", "dora: r=1000"},
        {"llama", "dora|lora", "low-rank change of the same matrices"},
        {"llama", "lora:dropout=1", "0.99"},
        {"llama", "houlsby:width=0", "from 1"},
        {"gpt2", "prefix:tokens=60000", "positions"},
        {"gpt2", "bitfit:gains=2", "yes or no"},
        {"gpt2", "lroa", "lora"},
        {"gpt2", "prompt:tokens=60000", "positions"},
        {"gpt2", "lora|lora:r=2", "lora|lora: a method can stand there once"},
        {"gpt2", "bitfit|full", "full|bitfit: full trains every parameter"},
        {"gpt2", "prompt|prefix", "in front of the sequence"},
        {"gpt2", "lora|bitfit|ia3|houlsby|prompt", "at most 4"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ot_model *m = open_family(rows[i].family, OT_F32);
        bool tuned[MAX_LAYERS];
        outer_blocks(m, tuned);
        ot_error err = {0};
        ot_peft p;
        ot_trainables t = {0};
        ot_status status = ot_peft_begin(&p, rows[i].method, m, tuned, 1, &t, &err);
        if (status != OT_ERR_USAGE || strstr(err.message, rows[i].says) == NULL) fail_msg("%s: status %d, \"%s\"", rows[i].method, status, err.message);
        ot_trainables_free(&t);
        ot_model_close(m);
    }
}

static void targets_choose_linears(void **state) {
    (void)state;
    ot_error err = {0};
    ot_model *m = open_family("gpt2", OT_F32);
    bool tuned[MAX_LAYERS];
    outer_blocks(m, tuned);
    ot_peft p;
    must(ot_peft_attach(&p, "lora:targets=mlp.c_proj,c_attn", m, tuned, &err), &err);
    assert_non_null(ot_lora_at(&p, 0, OT_ROLE_DOWN));
    assert_non_null(ot_lora_at(&p, 0, OT_ROLE_QKV));
    assert_null(ot_lora_at(&p, 0, OT_ROLE_O));
    assert_null(ot_lora_at(&p, 0, OT_ROLE_UP));
    const char *names[OT_ROLE_COUNT];
    assert_int_equal(ot_lora_target_names(&p, names), 2);
    assert_string_equal(names[0], "c_attn");
    assert_string_equal(names[1], "mlp.c_proj"); /* "c_proj" alone would name the attention's too */
    ot_peft_end(&p);
    ot_model_close(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_finite_differences),
        cmocka_unit_test(additions_start_as_the_model),
        cmocka_unit_test(dora_starts_as_the_model_and_trains_as_the_reference),
        cmocka_unit_test(first_values_follow_the_seed_and_the_name),
        cmocka_unit_test(kaiming_bound),
        cmocka_unit_test(recompute_gives_the_same_gradients),
        cmocka_unit_test(products_of_one_value_are_done_together),
        cmocka_unit_test(dropout_belongs_to_training),
        cmocka_unit_test(counts_of_the_paper),
        cmocka_unit_test(a_prompt_stands_in_front_once),
        cmocka_unit_test(counts_are_what_is_declared),
        cmocka_unit_test(wrong_methods_are_wrong_usage),
        cmocka_unit_test(targets_choose_linears),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
