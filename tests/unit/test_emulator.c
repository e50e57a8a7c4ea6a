/* Emulators: what each method makes of the middle, for every family of models; offers that go through files; refusals. */
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
#include "emulator/methods.h"
#include "emulator/moments.h"
#include "model/network.h"
#include "protocol/search.h"
#include "protocol/split.h"
#include "protocol/verify.h"
#include "support/scratch.h"
#include "support/tiny.h"

enum { TOKENS = 11, EXAMPLES = 6 };

static const char *const families[] = {
    "{\"model_type\": \"gpt2\", \"n_layer\": 6, \"n_embd\": 24, \"n_head\": 4, \"n_inner\": 40, \"vocab_size\": 37, \"n_positions\": 16}",
    "{\"model_type\": \"opt\", \"num_hidden_layers\": 6, \"hidden_size\": 24, \"num_attention_heads\": 4, \"ffn_dim\": 36, \"vocab_size\": 37, "
    "\"max_position_embeddings\": 16, \"word_embed_proj_dim\": 24}",
    "{\"model_type\": \"bloom\", \"n_layer\": 6, \"hidden_size\": 24, \"n_head\": 6, \"vocab_size\": 37}",
    "{\"model_type\": \"llama\", \"num_hidden_layers\": 6, \"hidden_size\": 24, \"num_attention_heads\": 6, \"num_key_value_heads\": 3, "
    "\"intermediate_size\": 30, \"vocab_size\": 37, \"max_position_embeddings\": 16, \"attention_bias\": true, \"mlp_bias\": true}",
    "{\"model_type\": \"mistral\", \"num_hidden_layers\": 6, \"hidden_size\": 24, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 10, "
    "\"intermediate_size\": 30, \"vocab_size\": 37, \"max_position_embeddings\": 16, \"sliding_window\": 5}",
    "{\"model_type\": \"qwen2\", \"num_hidden_layers\": 6, \"hidden_size\": 24, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
    "\"intermediate_size\": 30, \"vocab_size\": 37, \"max_position_embeddings\": 16, \"tie_word_embeddings\": true}",
    "{\"model_type\": \"qwen3\", \"num_hidden_layers\": 6, \"hidden_size\": 24, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 8, "
    "\"intermediate_size\": 30, \"vocab_size\": 37, \"max_position_embeddings\": 16}",
};
enum { FAMILIES = sizeof families / sizeof *families };

static void must(ot_status status, const ot_error *err) {
    if (status != OT_OK) fail_msg("%s", err->message);
}

static ot_model *make(scratch *s, size_t family) {
    char name[32];
    snprintf(name, sizeof name, "model-%zu", family);
    const char *dir = tiny_path(s->dir, name);
    tiny_make(families[family], dir, OT_F32, 7 + family);
    return tiny_open(dir);
}

static void fill_ids(int32_t *ids, int64_t n, uint64_t seed) {
    ot_rng rng;
    ot_rng_seed(&rng, seed);
    for (int64_t i = 0; i < n; i++) ids[i] = 3 + (int32_t)ot_rng_below(&rng, 30);
}

static double loss_on(const ot_model *m, const ot_backend *backend, const ot_stack_item *items, int64_t n_items) {
    ot_error err = {0};
    ot_network *net = NULL;
    ot_network_options o = {.plan = {.backend = backend, .compute = OT_F32, .max_rows = TOKENS, .max_targets = TOKENS},
                            .items = items,
                            .n_items = n_items,
                            .outputs = OT_OUT_LOSS,
                            .max_segments = 1};
    must(ot_network_new(m, &o, &net, &err), &err);
    int32_t ids[TOKENS], targets[TOKENS];
    fill_ids(ids, TOKENS, 5);
    for (int64_t i = 0; i < TOKENS; i++) targets[i] = i + 1 < TOKENS ? ids[i + 1] : -1;
    must(ot_network_add(net, ids, NULL, targets, TOKENS, NULL, &err), &err);
    double loss = NAN;
    must(ot_network_run(net, &(ot_run_options){0}, &loss, &err), &err);
    ot_network_free(net);
    return loss;
}

static double loss_of(const ot_model *m) { return loss_on(m, ot_backends[0], NULL, 0); }

/* Public text for crash. */
static const ot_emulator_text *some_text(void) {
    static int32_t ids[EXAMPLES * TOKENS];
    static int64_t starts[EXAMPLES + 1];
    static ot_emulator_text text;
    fill_ids(ids, EXAMPLES * TOKENS, 21);
    for (int64_t i = 0; i <= EXAMPLES; i++) starts[i] = i * TOKENS;
    text = (ot_emulator_text){.ids = ids, .starts = starts, .rows = EXAMPLES, .length = TOKENS, .backend = ot_backends[0], .compute = OT_F32};
    return &text;
}

/* The same as data of a split. */
static const ot_dataset *some_data(void) {
    static ot_dataset d;
    static int32_t targets[EXAMPLES * TOKENS], counted[EXAMPLES];
    const ot_emulator_text *t = some_text();
    for (int64_t i = 0; i < EXAMPLES * TOKENS; i++) targets[i] = i % TOKENS + 1 < TOKENS ? t->ids[i + 1] : -1;
    for (int64_t i = 0; i < EXAMPLES; i++) counted[i] = TOKENS - 1;
    d = (ot_dataset){.rows = EXAMPLES, .examples = EXAMPLES, .length = TOKENS, .ids = (int32_t *)(uintptr_t)t->ids, .targets = targets, .counted = counted};
    return &d;
}

static ot_model *build(const ot_model *m, const char *recipe, ot_dtype dtype) {
    ot_error err = {0};
    ot_emulator e;
    ot_model *offer = NULL;
    must(ot_emulator_plan(recipe, m, m->desc.layers, 1, 1, some_text(), &e, &err), &err);
    must(ot_emulator_build(&e, m, false, dtype, &offer, &err), &err);
    ot_emulator_free(&e);
    return offer;
}

/* A packed offer computes what the same values unpacked compute, in every family and on every backend. */
static void test_packed_equals_decoded(void **state) {
    (void)state;
    scratch s;
    scratch_open(&s, TEST_BINARY_DIR);
    for (size_t f = 0; f < FAMILIES; f++) {
        ot_model *m = make(&s, f);
        for (int bits = 4; bits <= 8; bits += 4) {
            char packed[64], plain[64];
            snprintf(packed, sizeof packed, "quantize:bits=%d,group=16", bits);
            snprintf(plain, sizeof plain, "quantize:bits=%d,group=16,packed=no", bits);
            ot_model *a = build(m, packed, OT_F32), *b = build(m, plain, OT_F32);
            for (int k = 0; ot_backends[k] != NULL; k++) {
                if (!ot_backends[k]->available() || !ot_backends[k]->supports(OT_F32)) continue;
                double x = loss_on(a, ot_backends[k], NULL, 0), y = loss_on(b, ot_backends[k], NULL, 0);
                if (fabs(x - y) > 1e-6 * y) fail_msg("family %zu, %d bits: %.9g and %.9g", f, bits, x, y);
            }
            assert_true(ot_model_stored_bytes(a) < ot_model_stored_bytes(b));
            ot_model_close(a);
            ot_model_close(b);
        }
        ot_model_close(m);
    }
    scratch_close(&s);
}

static void zero_inputs(ot_param *p, bool conv1d, int64_t first, int64_t n) {
    float *w = (float *)(uintptr_t)p->slot.data;
    for (int64_t r = 0; r < p->slot.rows; r++) {
        for (int64_t c = 0; c < p->slot.cols; c++) {
            int64_t in = conv1d ? r : c;
            if (in >= first && in < first + n) w[r * p->slot.cols + c] = 0.0F;
        }
    }
}

/* Is column (or row) `in` of the whole matrix one of those that the narrow one has? Both keep their order. */
static bool has_input(const ot_param *narrow, const ot_param *whole, bool conv1d, int64_t in) {
    int64_t narrow_in = conv1d ? narrow->slot.rows : narrow->slot.cols, out = conv1d ? whole->slot.cols : whole->slot.rows;
    const float *a = narrow->slot.data, *b = whole->slot.data;
    for (int64_t i = 0; i < narrow_in; i++) {
        bool same = true;
        for (int64_t o = 0; o < out && same; o++) {
            same = conv1d ? a[i * out + o] == b[in * out + o] : a[o * narrow_in + i] == b[o * whole->slot.cols + in];
        }
        if (same) return true;
    }
    return false;
}

/* Taking heads and channels out is the same as zeroing what the output projections read of them. */
static void test_structures(void **state) {
    (void)state;
    scratch s;
    scratch_open(&s, TEST_BINARY_DIR);
    for (size_t f = 0; f < FAMILIES; f++) {
        ot_model *m = make(&s, f), *whole = build(m, "fakequant:bits=8", OT_F32), *narrow = build(m, "fakequant:bits=8|prune:heads=0.5,channels=0.4", OT_F32);
        const ot_desc *d = &m->desc;
        ot_desc n = ot_forms_desc(&narrow->desc, &narrow->forms, 1);
        assert_int_equal(n.kv_heads, d->kv_heads - d->kv_heads / 2);
        assert_int_equal(n.heads, n.kv_heads * (d->heads / d->kv_heads));
        assert_int_equal(n.ffn_size, d->ffn_size - (int64_t)((double)d->ffn_size * 0.4));
        assert_true(loss_of(whole) != loss_of(narrow));
        for (int64_t b = 1; b + 1 < d->layers; b++) {
            ot_param *o = ot_model_param(whole, OT_ROLE_O, b, false), *down = ot_model_param(whole, OT_ROLE_DOWN, b, false);
            int64_t heads = 0, channels = 0;
            for (int64_t h = 0; h < d->heads; h++) {
                bool kept = has_input(ot_model_param(narrow, OT_ROLE_O, b, false), o, d->conv1d, h * d->head_dim);
                heads += kept;
                if (!kept) zero_inputs(o, d->conv1d, h * d->head_dim, d->head_dim);
            }
            for (int64_t c = 0; c < d->ffn_size; c++) {
                bool kept = has_input(ot_model_param(narrow, OT_ROLE_DOWN, b, false), down, d->conv1d, c);
                channels += kept;
                if (!kept) zero_inputs(down, d->conv1d, c, 1);
            }
            assert_int_equal(heads, n.heads);
            assert_int_equal(channels, n.ffn_size);
        }
        double x = loss_of(whole), y = loss_of(narrow);
        if (fabs(x - y) > 2e-6 * x) fail_msg("family %zu: %.9g zeroed, %.9g taken out", f, x, y);
        ot_model_close(narrow);
        ot_model_close(whole);
        ot_model_close(m);
    }
    scratch_close(&s);
}

/* Two factors compute what their product computes; the product is closest at the larger rank. */
static void test_svd(void **state) {
    (void)state;
    scratch s;
    scratch_open(&s, TEST_BINARY_DIR);
    for (size_t f = 0; f < FAMILIES; f++) {
        ot_model *m = make(&s, f), *factors = build(m, "svd:ratio=0.7", OT_F32), *product = build(m, "svd:ratio=0.7,factors=no", OT_F32);
        double x = loss_of(factors), y = loss_of(product);
        if (fabs(x - y) > 1e-5 * x) fail_msg("family %zu: %.9g by factors, %.9g by their product", f, x, y);
        assert_true(ot_model_parameters(factors) < ot_model_parameters(product));
        double distances[2] = {0};
        for (int k = 0; k < 2; k++) {
            ot_model *near = build(m, k == 0 ? "svd:ratio=0.3,factors=no" : "svd:ratio=0.9,factors=no", OT_F32);
            const ot_param *p = ot_model_param(near, OT_ROLE_UP, 2, false);
            const float *a = p->slot.data, *b = ot_model_param(m, OT_ROLE_UP, 2, false)->slot.data;
            for (int64_t i = 0; i < ot_param_elements(p); i++) distances[k] += (double)(a[i] - b[i]) * (double)(a[i] - b[i]);
            ot_model_close(near);
        }
        assert_true(distances[1] < distances[0]);
        ot_model_close(factors);
        ot_model_close(product);
        ot_model_close(m);
    }
    scratch_close(&s);
}

static void test_eigen(void **state) {
    (void)state;
    for (int64_t n = 1; n <= 40; n += 13) {
        double *a = calloc((size_t)(n * n), sizeof *a), *copy = calloc((size_t)(n * n), sizeof *copy), *z = calloc((size_t)(n * n), sizeof *z), values[40];
        ot_rng rng;
        ot_rng_seed(&rng, (uint64_t)n);
        for (int64_t i = 0; i < n; i++) {
            for (int64_t j = 0; j <= i; j++) copy[i * n + j] = copy[j * n + i] = a[i * n + j] = a[j * n + i] = i == 2 || j == 2 ? 0 : ot_rng_normal(&rng);
        }
        ot_error err = {0};
        must(ot_eigen_symmetric(a, n, values, z, &err), &err);
        for (int64_t k = 0; k < n; k++) {
            for (int64_t i = 0; i < n; i++) {
                double sum = 0, dot = 0;
                for (int64_t j = 0; j < n; j++) {
                    sum += copy[i * n + j] * z[k * n + j];
                    dot += z[k * n + j] * z[i * n + j];
                }
                assert_true(fabs(sum - values[k] * z[k * n + i]) < 1e-12 * (double)n * 10);
                assert_true(fabs(dot - (i == k ? 1 : 0)) < 1e-12 * (double)n);
            }
        }
        free(a);
        free(copy);
        free(z);
    }
}

/* ==== What the data owner holds. ==== */

/* Values that are the owner's own, to rounding: by the numbers of each step, and by no less where heads and channels left before. */
static void test_same_values(void **state) {
    (void)state;
    static const struct {
        const char *recipe;
        double low, high; /* share of the offer's own middle */
    } cases[] = {{"", 1, 1},
                 {"layerdrop:keep=2", 1, 1},
                 {"prune:ratio=0", 1, 1},
                 {"prune:heads=0.4", 1, 1},
                 {"prune:channels=0.5", 1, 1},
                 {"prune:heads=0.4,channels=0.5", 1, 1},
                 {"prune:heads=0.4|prune:heads=0.4", 1, 1},
                 {"prune:ratio=0.5", 0.4, 0.7}, /* biases stay */
                 {"prune:channels=0.5,ratio=0.5", 0.4, 0.7},
                 {"svd:ratio=0.5,factors=no", 0, 0.3},
                 {"fakequant:bits=2", 0, 0.3}};
    scratch s;
    scratch_open(&s, TEST_BINARY_DIR);
    for (size_t f = 0; f < FAMILIES; f++) {
        ot_model *m = make(&s, f);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            for (int half = 0; half < 2; half++) {
                ot_error err = {0};
                ot_emulator e;
                ot_model *offer = NULL;
                int64_t same = 0, all = 0;
                must(ot_emulator_plan(cases[i].recipe, m, m->desc.layers, 1, 1, NULL, &e, &err), &err);
                must(ot_emulator_build_counted(&e, m, false, half ? OT_BF16 : OT_F32, &offer, &same, &err), &err);
                for (int64_t p = 0; p < offer->n_params; p++) {
                    if (offer->params[p].block >= 1 && offer->params[p].block < offer->desc.layers - 1) all += ot_param_elements(&offer->params[p]);
                }
                double share = (double)same / (double)all;
                if (share < cases[i].low || share > cases[i].high) fail_msg("family %zu, %s, half %d: %.3f of the values", f, cases[i].recipe, half, share);
                ot_model_close(offer);
                ot_emulator_free(&e);
            }
        }
        ot_model_close(m);
    }
    scratch_close(&s);
}

/* ==== Whitened factors. ==== */

/* sum over tokens of |(a - b) x|^2 for a stored linear, by the moments of x. */
static double lost(const float *a, const float *b, const ot_slot *w, bool conv1d, const float *s) {
    int64_t out = conv1d ? w->cols : w->rows, in = conv1d ? w->rows : w->cols;
    double sum = 0;
    for (int64_t o = 0; o < out; o++) {
        for (int64_t i = 0; i < in; i++) {
            for (int64_t j = 0; j < in; j++) {
                int64_t p = conv1d ? i * out + o : o * in + i, q = conv1d ? j * out + o : o * in + j;
                sum += (double)(a[p] - b[p]) * (double)s[i * in + j] * (double)(a[q] - b[q]);
            }
        }
    }
    return sum;
}

/* Of all matrices of that rank the whitened one loses least of what a linear puts out on the text: less than plain svd's, and nothing of what it loses
 * lies along what it keeps: (W - W') S W'^T = 0. In every family, also behind a pruning and in front of a layer-drop. */
static void test_whitened(void **state) {
    (void)state;
    scratch s;
    scratch_open(&s, TEST_BINARY_DIR);
    for (size_t f = 0; f < FAMILIES; f++) {
        ot_error err = {0};
        ot_model *m = make(&s, f), *plain = build(m, "svd:ratio=0.6,factors=no", OT_F32), *white = build(m, "svd:ratio=0.6,factors=no,whiten=yes", OT_F32);
        ot_model *factors = build(m, "svd:ratio=0.6,whiten=yes", OT_F32), *later = build(m, "svd:ratio=0.6,factors=no,whiten=yes|layerdrop:list=2", OT_F32);
        ot_emulator e;
        ot_moments *moments = NULL;
        must(ot_emulator_plan("", m, m->desc.layers, 1, 1, NULL, &e, &err), &err);
        e.text = some_text();
        must(ot_moments_collect(&e, EXAMPLES, TOKENS, &moments, &err), &err);
        for (int64_t i = m->block_starts[2]; i < m->block_starts[3]; i++) {
            const ot_param *p = &m->params[i];
            const float *seen = moments[2].of[p->role];
            if (p->bias || !p->decay) continue;
            assert_non_null(seen);
            int64_t n = ot_param_elements(p), out = m->desc.conv1d ? p->slot.cols : p->slot.rows, in = n / out;
            assert_int_equal(moments[2].width[p->role], in);
            float *w = malloc((size_t)n * 4), *a = malloc((size_t)n * 4), *b = malloc((size_t)n * 4), *c = malloc((size_t)n * 4);
            ot_param_read(p, w);
            ot_param_read(&plain->params[i], a);
            ot_param_read(&white->params[i], b);
            ot_param_read(ot_model_param(later, p->role, 1, false), c);
            assert_memory_equal(b, c, (size_t)n * 4);
            double with_plain = lost(w, a, &p->slot, m->desc.conv1d, seen), with_white = lost(w, b, &p->slot, m->desc.conv1d, seen);
            if (!(with_white < with_plain)) fail_msg("family %zu, %s: loses %g, plain svd %g", f, p->name, with_white, with_plain);
            double worst = 0, scale = 0;
            for (int64_t o = 0; o < out; o++) {
                for (int64_t q = 0; q < out; q++) {
                    double cross = 0, own = 0;
                    for (int64_t x = 0; x < in; x++) {
                        for (int64_t y = 0; y < in; y++) {
                            int64_t at = m->desc.conv1d ? x * out + o : o * in + x, to = m->desc.conv1d ? y * out + q : q * in + y;
                            cross += (double)(w[at] - b[at]) * (double)seen[x * in + y] * (double)b[to];
                            own += (double)w[at] * (double)seen[x * in + y] * (double)b[to];
                        }
                    }
                    worst = fmax(worst, fabs(cross));
                    scale = fmax(scale, fabs(own));
                }
            }
            if (worst > 2e-3 * scale) fail_msg("family %zu, %s: what is lost lies along what is kept: %g of %g", f, p->name, worst, scale);
            free(w);
            free(a);
            free(b);
            free(c);
        }
        double x = loss_of(white), y = loss_of(factors);
        if (fabs(x - y) > 1e-4 * x) fail_msg("family %zu: %.9g as factors, %.9g as their product", f, y, x);
        ot_model_close(build(m, "prune:heads=0.4,channels=0.4|svd:ratio=0.8,whiten=yes,examples=2,tokens=5", OT_F32));
        ot_emulator_free(&e);
        ot_model_close(plain);
        ot_model_close(white);
        ot_model_close(factors);
        ot_model_close(later);
        ot_model_close(m);
    }
    scratch_close(&s);
}

/* ==== CRaSh ==== */

static void test_clusters(void **state) {
    (void)state;
    enum { N = 6 };
    /* Alike beside the diagonal: 0-1 0.9, 1-2 0.2, 2-3 0.8, 3-4 0.85, 4-5 0.1; after merging 3-4, 2-3 is still the border's number. */
    const double beside[N - 1] = {0.9, 0.2, 0.8, 0.85, 0.1};
    double similarity[N * N] = {0};
    for (int i = 0; i + 1 < N; i++) similarity[i * N + i + 1] = similarity[(i + 1) * N + i] = beside[i];
    int64_t starts[N];
    ot_crash_clusters(similarity, N, 3, starts);
    const int64_t want[] = {0, 2, 5};
    for (int i = 0; i < 3; i++) assert_int_equal(starts[i], want[i]);
    ot_crash_clusters(similarity, N, N, starts);
    for (int i = 0; i < N; i++) assert_int_equal(starts[i], i);
    const double gram[4] = {2, 1, 1, 3}, twice[4] = {4, 2, 2, 6}, other[4] = {1, -1, -1, 1}, none[4] = {0};
    assert_true(fabs(ot_cka(gram, twice, 2) - 1) < 1e-12);
    assert_true(fabs(ot_cka(gram, other, 2) - 3 / sqrt(15.0 * 4)) < 1e-12);
    assert_true(ot_cka(gram, none, 2) == 0);
}

/* The shared stack runs the kept block in every place of its cluster, and keeps it once. */
static void test_sharing(void **state) {
    (void)state;
    scratch s;
    scratch_open(&s, TEST_BINARY_DIR);
    for (size_t f = 0; f < FAMILIES; f++) {
        ot_error err = {0};
        ot_model *m = make(&s, f), *offer = NULL;
        ot_emulator e;
        must(ot_emulator_plan("crash:keep=2", m, m->desc.layers, 1, 1, some_text(), &e, &err), &err);
        must(ot_emulator_build(&e, m, true, OT_F32, &offer, &err), &err);
        assert_int_equal(offer->desc.layers, 4);
        assert_int_equal(ot_model_depth(offer), 6);
        ot_stack_item items[6];
        items[0].block = 0;
        items[5].block = 5;
        for (int i = 0; i < 4; i++) {
            items[1 + i].block = (int32_t)e.kept[e.places[i]];
            int64_t d0 = llabs(e.kept[0] - 1 - i), d1 = llabs(e.kept[1] - 1 - i);
            assert_int_equal(e.places[i], d1 <= d0);
        }
        assert_true(loss_of(offer) == loss_on(m, ot_backends[0], items, 6));
        ot_model_close(offer);
        ot_emulator_free(&e);
        ot_model_close(m);
    }
    scratch_close(&s);
}

/* ==== Through files. ==== */

static const char *const recipes[] = {
    "quantize:bits=8",
    "quantize:bits=4,group=8",
    "svd:ratio=0.6",
    "prune:heads=0.5,channels=0.5",
    "crash:keep=2",
    "crash:keep=3|prune:heads=0.4|svd:ratio=0.8|quantize:bits=4,group=32",
    "layerdrop:keep=3|prune:ratio=0.3|fakequant:bits=5",
};

static void test_files(void **state) {
    (void)state;
    scratch s;
    scratch_open(&s, TEST_BINARY_DIR);
    for (size_t f = 0; f < FAMILIES; f++) {
        ot_model *m = make(&s, f);
        for (size_t r = 0; r < sizeof recipes / sizeof *recipes; r++) {
            ot_error err = {0};
            ot_split_summary summary, again;
            ot_split_options o = {.bottom = 1, .top = 1, .emulator = recipes[r], .data = some_data(), .backend = ot_backends[0],
                                  .compute = OT_F32, .own_dtype = true, .dtype = OT_F32, .force = true};
            const char *a = tiny_path(s.dir, "offer"), *b = tiny_path(s.dir, "offer-again");
            must(ot_split(m, a, &o, &summary, &err), &err);
            must(ot_split(m, b, &o, &again, &err), &err);
            assert_true(tiny_same_dir(a, b));
            ot_model *opened = tiny_open(a), *built = build(m, recipes[r], OT_F32);
            assert_int_equal(opened->unused_tensors, 0);
            assert_true(loss_of(opened) == loss_of(built));
            assert_int_equal(summary.depth, ot_model_depth(opened));
            assert_int_equal(summary.plain, !ot_forms_any(&opened->forms));
            ot_verify_report report;
            must(ot_verify(a, NULL, NULL, NULL, &report, &err), &err);
            ot_verify_report_free(&report);
            /* An offer of one's own kind cannot be split again, unless it is a plain model. */
            ot_status status = ot_split(opened, b, &o, &again, &err);
            assert_int_equal(status == OT_OK, summary.plain);
            ot_model_close(opened);
            ot_model_close(built);
        }
        ot_model_close(m);
    }
    scratch_close(&s);
}

/* ==== Refusals. ==== */

static void test_bad_recipes(void **state) {
    (void)state;
    static const struct {
        const char *recipe, *says;
    } bad[] = {
        {"quantise:bits=4", "the nearest is \"quantize\""},
        {"quantize:bit=4", "the nearest is \"bits\""},
        {"quantize:bits=6", "bits is 8 or 4, not 6"},
        {"quantize:group=4", "group must be a whole number from 8"},
        {"quantize:packed=maybe", "packed is yes or no"},
        {"quantize|prune:ratio=0.5", "prune cannot come after quantize"},
        {"quantize|svd", "svd cannot come after quantize"},
        {"quantize|quantize", "quantize cannot come after quantize"},
        {"svd:ratio=0", "ratio must be above 0"},
        {"svd:ratio=1.5", "ratio must be a number from 0 to 1"},
        {"svd:rank=3", "the nearest is \"ratio\""},
        {"svd:factors=both", "factors is yes or no"},
        {"svd|svd", "svd is given twice"},
        {"svd|prune:heads=0.5", "must come before svd"},
        {"prune:head=0.5", "the nearest is \"heads\""},
        {"prune:heads=2", "heads must be a number from 0 to 1"},
        {"crash", "crash needs keep=K"},
        {"crash:keep=5", "keep=5 is more than the 4 blocks of the middle"},
        {"crash:keep=0", "keep must be a whole number from 1"},
        {"svd:whiten=perhaps", "whiten is yes or no"},
        {"crash:keep=2,share=perhaps", "share is yes or no"},
        {"crash:keep=3|layerdrop:keep=2", "layerdrop cannot come after crash"},
        {"crash:keep=3|crash:keep=2", "crash cannot come after crash"},
        {"layerdrop:keep=2,strategy=middle", "strategy is uniform, first, last or random"},
    };
    scratch s;
    scratch_open(&s, TEST_BINARY_DIR);
    ot_model *m = make(&s, 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ot_error err = {0};
        ot_emulator e;
        ot_status status = ot_emulator_plan(bad[i].recipe, m, m->desc.layers, 1, 1, some_text(), &e, &err);
        if (status != OT_ERR_USAGE || strstr(err.message, bad[i].says) == NULL) fail_msg("%s: status %d, \"%s\"", bad[i].recipe, status, err.message);
    }
    ot_error err = {0};
    ot_emulator e;
    assert_int_equal(ot_emulator_plan("crash:keep=2", m, m->desc.layers, 1, 1, NULL, &e, &err), OT_ERR_USAGE);
    assert_non_null(strstr(err.message, "--data"));
    ot_model_close(m);
    scratch_close(&s);
}

/* config.json's key comes from outside. */
static void test_bad_forms(void **state) {
    (void)state;
    static const struct {
        const char *offsite, *says;
    } bad[] = {
        {"7", "expected a JSON object"},
        {"{\"model_type\": \"gpt2\"}", "a version that this program does not read"},
        {"{\"model_type\": \"gpt2\", \"version\": 2}", "a version that this program does not read"},
        {"{\"version\": 1}", "lacks the key \"model_type\""},
        {"{\"version\": 1, \"model_type\": \"offsite\"}", "the architecture \"offsite\" is not supported"},
        {"{\"version\": 1, \"model_type\": \"gpt2\", \"stack\": []}", "\"stack\" must be a list of block numbers"},
        {"{\"version\": 1, \"model_type\": \"gpt2\", \"stack\": [0, 4]}", "below the number of layers"},
        {"{\"version\": 1, \"model_type\": \"gpt2\", \"stack\": [0, -1]}", "below the number of layers"},
        {"{\"version\": 1, \"model_type\": \"gpt2\", \"stack\": [0, 1.5]}", "below the number of layers"},
        {"{\"version\": 1, \"model_type\": \"gpt2\", \"middle\": {}}", "\"count\""},
        {"{\"version\": 1, \"model_type\": \"gpt2\", \"middle\": {\"first\": 4, \"count\": 1}}", "\"first\" must be a whole number from 0 to 3"},
        {"{\"version\": 1, \"model_type\": \"gpt2\", \"middle\": {\"first\": 3, \"count\": 2}}", "\"count\" must be a whole number from 1 to 1"},
        {"{\"version\": 1, \"model_type\": \"gpt2\", \"middle\": {\"count\": 1, \"heads\": 5, \"kv_heads\": 5}}", "\"heads\" must be a whole number from 1 to 4"},
        {"{\"version\": 1, \"model_type\": \"gpt2\", \"middle\": {\"count\": 1, \"heads\": 3}}", "a divisor of \"heads\""},
        {"{\"version\": 1, \"model_type\": \"gpt2\", \"middle\": {\"count\": 1, \"heads\": 3, \"kv_heads\": 2}}", "a divisor of \"heads\""},
        {"{\"version\": 1, \"model_type\": \"gpt2\", \"middle\": {\"count\": 1, \"bits\": 5}}", "\"bits\" must be 4 or 8"},
        {"{\"version\": 1, \"model_type\": \"gpt2\", \"middle\": {\"count\": 1, \"bits\": 4, \"group\": 0}}", "\"group\" must be a whole number from 8"},
        {"{\"version\": 1, \"model_type\": \"gpt2\", \"middle\": {\"count\": 1, \"ranks\": {\"attn.q_proj\": 2}}}", "which is no linear of a block"},
        {"{\"version\": 1, \"model_type\": \"gpt2\", \"middle\": {\"count\": 1, \"ranks\": {\"ln_1\": 1}}}", "which is no linear of a block"},
        {"{\"version\": 1, \"model_type\": \"gpt2\", \"middle\": {\"count\": 1, \"ranks\": {\"mlp.c_fc\": 25}}}", "from 1 to 24"},
        {"{\"version\": 1, \"model_type\": \"gpt2\", \"middle\": {\"count\": 1, \"heads\": 2, \"kv_heads\": 2, \"head_numbers\": [[0]]}}", "lists as long as"},
        {"{\"version\": 1, \"model_type\": \"gpt2\", \"middle\": {\"count\": 1, \"heads\": 2, \"kv_heads\": 2, \"head_numbers\": [[0, 4]]}}", "below the number of attention"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[1024];
        ot_error err = {0};
        ot_model *m = NULL;
        snprintf(text, sizeof text, "{\"model_type\": \"offsite\", \"n_layer\": 4, \"n_embd\": 24, \"n_head\": 4, \"vocab_size\": 9, \"offsite\": %s}", bad[i].offsite);
        json_t *config = json_loads(text, 0, NULL);
        assert_non_null(config);
        ot_status status = ot_model_from_json(config, "config.json", &m, &err);
        if (status == OT_OK || strstr(err.message, bad[i].says) == NULL) fail_msg("%s: status %d, \"%s\"", bad[i].offsite, status, status == OT_OK ? "" : err.message);
    }
}

/* What is worth a choice: bytes, CPL and signs, whatever the cosine says. */
static void test_front(void **state) {
    (void)state;
    static const struct {
        int64_t bytes;
        double cpl, signs, cosine;
        bool front;
    } rows[] = {
        {100, 0.20, 0.60, -0.2, true},  /* the best signs */
        {100, 0.20, 0.55, 0.9, false},  /* a better cosine does not help */
        {50, 0.30, 0.51, 0.0, true},    /* the smallest */
        {100, 0.10, 0.55, 0.1, true},   /* leaks least */
        {100, 0.20, 0.60, -0.5, true},  /* as good as the first */
        {100, 0.30, 0.60, 0.9, false},
    };
    enum { ROWS = sizeof rows / sizeof *rows };
    ot_search_row table[ROWS] = {0};
    ot_search s = {.rows = table, .count = ROWS};
    for (int i = 0; i < ROWS; i++) {
        table[i].summary.offer_bytes = rows[i].bytes;
        table[i].summary.emulation = (ot_emulation){.cpl = rows[i].cpl, .sign_agreement = rows[i].signs, .fidelity = rows[i].cosine};
    }
    ot_search_mark_front(&s);
    for (int i = 0; i < ROWS; i++) {
        if (table[i].front != rows[i].front) fail_msg("row %d: front is %d", i, table[i].front);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_packed_equals_decoded), cmocka_unit_test(test_structures), cmocka_unit_test(test_svd),
        cmocka_unit_test(test_eigen),                 cmocka_unit_test(test_same_values), cmocka_unit_test(test_whitened), cmocka_unit_test(test_clusters),   cmocka_unit_test(test_sharing),
        cmocka_unit_test(test_files),                 cmocka_unit_test(test_bad_recipes), cmocka_unit_test(test_bad_forms),
        cmocka_unit_test(test_front),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
