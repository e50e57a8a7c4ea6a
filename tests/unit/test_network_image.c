/* Vision towers: gradients against finite differences in double for every architecture, layer-scale too, and the fast backend against the reference. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "format/json.h"
#include "model/network.h"

enum { IMAGES = 3, SIDE = 12, PATCH = 4, PIXELS = 3 * SIDE * SIDE };

#define SHAPE "\"hidden_size\": 12, \"num_attention_heads\": 2, \"intermediate_size\": 20, \"num_hidden_layers\": 2, \"image_size\": 12, \"patch_size\": 4"

static const struct family {
    const char *name, *config;
} families[] = {
    {"vit", "{\"model_type\": \"vit\", \"num_labels\": 5, " SHAPE "}"},
    {"clip", "{\"model_type\": \"clip_vision_model\", \"num_labels\": 5, " SHAPE "}"},
    {"clip, gelu", "{\"model_type\": \"clip_vision_model\", \"num_labels\": 5, \"hidden_act\": \"gelu\", " SHAPE "}"},
    {"eva", "{\"model_type\": \"blip_2_vision_model\", \"num_labels\": 5, " SHAPE "}"},
    {"eva, layer-scale", "{\"model_type\": \"blip_2_vision_model\", \"num_labels\": 5, \"layer_scale_init_value\": 0.1, " SHAPE "}"},
};
enum { N_FAMILIES = sizeof families / sizeof *families };

/* Values and gradients of the model's own, in the dtype of the arithmetic; values are large enough for every path to count. */
typedef struct trial {
    ot_model *m;
    void **values, **grads;
} trial;

static trial begin(const struct family *f, ot_dtype compute) {
    ot_error err = {0};
    json_t *config = NULL;
    trial t = {0};
    if (ot_json_parse(f->config, (int64_t)strlen(f->config), f->name, &config, &err) != OT_OK) fail_msg("%s", err.message);
    if (ot_model_from_json(config, f->name, &t.m, &err) != OT_OK) fail_msg("%s", err.message);
    size_t size = compute == OT_F64 ? 8 : 4;
    t.values = calloc((size_t)t.m->n_params, sizeof *t.values);
    t.grads = calloc((size_t)t.m->n_params, sizeof *t.grads);
    assert_true(t.values != NULL && t.grads != NULL);
    ot_rng rng;
    ot_rng_seed(&rng, 11);
    for (int64_t i = 0; i < t.m->n_params; i++) {
        ot_param *p = &t.m->params[i];
        int64_t n = ot_param_elements(p);
        t.values[i] = calloc((size_t)n, size);
        t.grads[i] = calloc((size_t)n, size);
        assert_true(t.values[i] != NULL && t.grads[i] != NULL);
        for (int64_t k = 0; k < n; k++) {
            double v = (p->decay || p->bias ? 0 : 1) + 0.4 * ot_rng_normal(&rng);
            /* The constant third of EVA's fused bias. */
            if (t.m->desc.no_key_bias && p->role == OT_ROLE_QKV && p->bias && k / t.m->desc.hidden_size == 1) v = 0;
            if (compute == OT_F64) ((double *)t.values[i])[k] = (double)(float)v;
            else ((float *)t.values[i])[k] = (float)v;
        }
        p->slot.data = t.values[i];
        p->slot.grad = t.grads[i];
        p->slot.dtype = compute;
        p->slot.trainable = true;
    }
    return t;
}

static void end(trial *t) {
    for (int64_t i = 0; i < t->m->n_params; i++) {
        free(t->values[i]);
        free(t->grads[i]);
    }
    free(t->values);
    free(t->grads);
    ot_model_close(t->m);
}

static ot_network *make(const trial *t, const ot_backend *backend, ot_dtype compute, bool train) {
    ot_error err = {0};
    ot_network *net = NULL;
    int64_t rows = ot_desc_image_rows(&t->m->desc, SIDE, SIDE);
    ot_network_options o = {.plan = {.backend = backend, .compute = compute, .max_rows = IMAGES * rows, .max_targets = IMAGES, .train = train},
                            .outputs = OT_OUT_LOSS,
                            .max_segments = IMAGES,
                            .label_smoothing = 0.125};
    if (ot_network_new(t->m, &o, &net, &err) != OT_OK) fail_msg("%s", err.message);
    float pixels[PIXELS];
    ot_rng rng;
    ot_rng_seed(&rng, 5);
    for (int i = 0; i < IMAGES; i++) {
        for (int k = 0; k < PIXELS; k++) pixels[k] = (float)ot_rng_normal(&rng);
        if (ot_network_add_image(net, pixels, i == 1 ? -1 : i + 1, &err) != OT_OK) fail_msg("%s", err.message);
    }
    return net;
}

static double run(ot_network *net) {
    double loss = NAN;
    ot_error err = {0};
    if (ot_network_run(net, &(ot_run_options){.loss_scale = 1.0}, &loss, &err) != OT_OK) fail_msg("%s", err.message);
    return loss;
}

static double largest_gradient(const trial *t) {
    double largest = 0;
    for (int64_t i = 0; i < t->m->n_params; i++) {
        for (int64_t k = 0; k < ot_param_elements(&t->m->params[i]); k++) largest = fmax(largest, fabs(((const double *)t->grads[i])[k]));
    }
    return largest;
}

static void test_finite_differences(void **state) {
    (void)state;
    for (int f = 0; f < N_FAMILIES; f++) {
        trial t = begin(&families[f], OT_F64);
        ot_network *train = make(&t, &ot_backend_ref64, OT_F64, true), *eval = make(&t, &ot_backend_ref64, OT_F64, false);
        double loss = run(train), largest = largest_gradient(&t);
        assert_true(fabs(loss - run(eval)) < 1e-10 * loss);
        ot_rng rng;
        ot_rng_seed(&rng, 3);
        for (int64_t i = 0; i < t.m->n_params; i++) {
            const ot_param *p = &t.m->params[i];
            for (int s = 0; s < 4; s++) {
                int64_t k = (int64_t)ot_rng_below(&rng, (uint64_t)ot_param_elements(p));
                double *v = (double *)t.values[i] + k, kept = *v, step = 1e-5;
                if (t.m->desc.no_key_bias && p->role == OT_ROLE_QKV && p->bias && k / t.m->desc.hidden_size == 1) continue;
                *v = kept + step;
                double up = run(eval);
                *v = kept - step;
                double difference = (up - run(eval)) / (2 * step), gradient = ((const double *)t.grads[i])[k];
                *v = kept;
                if (fabs(difference - gradient) < 1e-5 * fabs(difference) + 1e-8 * largest) continue;
                fail_msg("%s: %s[%lld]: gradient %.9g, difference %.9g", families[f].name, p->name, (long long)k, gradient, difference);
            }
        }
        ot_network_free(train);
        ot_network_free(eval);
        end(&t);
    }
}

/* In a build without the fast backend the preferred one is the reference in float. */
static void test_preferred_backend(void **state) {
    (void)state;
    for (int f = 0; f < N_FAMILIES; f++) {
        trial exact = begin(&families[f], OT_F64), fast = begin(&families[f], OT_F32);
        ot_network *a = make(&exact, &ot_backend_ref64, OT_F64, true), *b = make(&fast, ot_backends[0], OT_F32, true);
        double wanted = run(a), loss = run(b), largest = largest_gradient(&exact);
        if (fabs(loss - wanted) > 1e-5 * wanted) fail_msg("%s: loss %.9g, %.9g is right", families[f].name, loss, wanted);
        for (int64_t i = 0; i < exact.m->n_params; i++) {
            for (int64_t k = 0; k < ot_param_elements(&exact.m->params[i]); k++) {
                double want = ((const double *)exact.grads[i])[k], have = (double)((const float *)fast.grads[i])[k];
                if (fabs(have - want) < 1e-5 * largest) continue;
                fail_msg("%s: %s[%lld]: gradient %.9g, %.9g is right", families[f].name, exact.m->params[i].name, (long long)k, have, want);
            }
        }
        ot_network_free(a);
        ot_network_free(b);
        end(&exact);
        end(&fast);
    }
}

/* Gains of one are no layer-scale; the names are EVA's. */
static void test_layer_scale(void **state) {
    (void)state;
    trial plain = begin(&families[3], OT_F64), scaled = begin(&families[4], OT_F64);
    assert_null(ot_model_find(plain.m, "vision_model.encoder.layers.1.gamma_2"));
    assert_non_null(ot_model_find(scaled.m, "vision_model.encoder.layers.1.gamma_2"));
    for (int64_t i = 0; i < scaled.m->n_params; i++) {
        const ot_param *p = &scaled.m->params[i], *same = ot_model_find(plain.m, p->name);
        bool gains = p->role == OT_ROLE_SCALE1 || p->role == OT_ROLE_SCALE2;
        assert_int_equal(gains, same == NULL);
        for (int64_t k = 0; gains && k < ot_param_elements(p); k++) ((double *)scaled.values[i])[k] = 1;
        if (!gains) memcpy(scaled.values[i], same->slot.data, (size_t)ot_param_elements(p) * 8);
    }
    ot_network *a = make(&plain, &ot_backend_ref64, OT_F64, false), *b = make(&scaled, &ot_backend_ref64, OT_F64, false);
    double loss = run(a);
    assert_true(loss == run(b));
    for (int64_t k = 0; k < scaled.m->desc.hidden_size; k++) ((double *)(uintptr_t)ot_model_slot(scaled.m, OT_ROLE_SCALE1, 0, false)->data)[k] = 0.5;
    assert_true(loss != run(b));
    ot_network_free(a);
    ot_network_free(b);
    end(&plain);
    end(&scaled);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finite_differences),
        cmocka_unit_test(test_preferred_backend),
        cmocka_unit_test(test_layer_scale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
