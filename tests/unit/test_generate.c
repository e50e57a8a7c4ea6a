/* Generation: equal to the reference's ids, to running without a cache, alone and among others, whatever the batches; drawing; streamed text; prompts;
 * adapters laid over a model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "eval/generate.h"
#include "eval/prompts.h"
#include "eval/text_stream.h"
#include "format/safetensors.h"
#include "protocol/adapter.h"
#include "protocol/split.h"
#include "support/scratch.h"

#define OWN_MODELS TEST_DATA_DIR "/../golden/data/models"
#define OWN_TRAIN TEST_DATA_DIR "/../golden/data/train"

static const char *const decoders[] = {"bloom", "gpt2", "llama", "llama-tied", "mistral", "mistral-window", "opt", "opt-350m", "qwen2", "qwen3"};
enum { N_DECODERS = sizeof decoders / sizeof *decoders, NEW = 9 };

static void must(ot_status status, const ot_error *err) {
    if (status != OT_OK) fail_msg("%s", err->message);
}

static ot_model *open_model(const char *folder, const char *name) {
    char path[1024];
    ot_error err = {0};
    ot_model *m = NULL;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    must(ot_model_open(path, OT_F32, &m, &err), &err);
    return m;
}

static int32_t *as_ids(const ot_tensor *t) {
    int64_t n = ot_tensor_elements(t);
    int32_t *ids = malloc((size_t)n * sizeof *ids);
    assert_non_null(ids);
    for (int64_t i = 0; i < n; i++) {
        int64_t v;
        memcpy(&v, (const char *)t->data + i * 8, 8);
        ids[i] = (int32_t)v;
    }
    return ids;
}

/* ==== Against the reference. ==== */

static void compare_with_golden(const char *folder, const char *name, const ot_backend *backend) {
    char path[1024];
    ot_error err = {0};
    ot_safetensors *golden = NULL;
    snprintf(path, sizeof path, "%s/%s/generate.safetensors", folder, name);
    must(ot_safetensors_open(path, &golden, &err), &err);
    const ot_tensor *prompt = ot_safetensors_find(golden, "prompt"), *ids = ot_safetensors_find(golden, "ids");
    int32_t *from = as_ids(prompt), *wanted = as_ids(ids);
    ot_model *m = open_model(folder, name);
    ot_prompt p = {from, prompt->shape[1]};
    ot_generate_options o = {.backend = backend, .max_new = ids->shape[1]};
    ot_generated g;
    must(ot_generate(m, &p, 1, &o, &g, &err), &err);
    assert_int_equal(g.counts[0], ids->shape[1]);
    for (int64_t i = 0; i < ids->shape[1]; i++) {
        if (g.ids[i] != wanted[i]) fail_msg("%s/%s, backend %s: new token %d is %d, not %d", folder, name, backend->name, (int)i, g.ids[i], wanted[i]);
    }
    ot_generated_free(&g);
    ot_model_close(m);
    ot_safetensors_close(golden);
    free(from);
    free(wanted);
}

static int compare_folder(const char *folder) {
    int done = 0;
    for (int i = 0; i < N_DECODERS; i++) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s/generate.safetensors", folder, decoders[i]);
        if (!ot_path_exists(path)) continue;
        compare_with_golden(folder, decoders[i], &ot_backend_ref);
        compare_with_golden(folder, decoders[i], ot_backends[0]);
        done++;
    }
    return done;
}

static void test_own_goldens(void **state) {
    (void)state;
    assert_true(compare_folder(OWN_MODELS) >= 9);
}

static void test_shared_goldens(void **state) {
    (void)state;
    if (!ot_path_is_dir(TEST_SHARED_DIR "/golden/models")) {
        print_message("skipped: no %s/golden/models\n", TEST_SHARED_DIR);
        skip();
    }
    assert_true(compare_folder(TEST_SHARED_DIR "/golden/models") >= 9);
}

/* ==== Against itself without a cache. ==== */

static void without_cache(const ot_model *m, const ot_backend *backend, const int32_t *prompt, int64_t count, int64_t n, int32_t *out) {
    ot_error err = {0};
    ot_network *net = NULL;
    ot_network_options options = {.plan = {.backend = backend, .max_rows = count + n}, .outputs = OT_OUT_LOGITS, .max_segments = 1};
    must(ot_network_new(m, &options, &net, &err), &err);
    int32_t *ids = malloc((size_t)(count + n) * sizeof *ids);
    assert_non_null(ids);
    memcpy(ids, prompt, (size_t)count * sizeof *ids);
    for (int64_t i = 0; i < n; i++) {
        ot_network_clear(net);
        must(ot_network_add(net, ids, NULL, NULL, count + i, NULL, &err), &err);
        must(ot_network_run(net, &(ot_run_options){0}, NULL, &err), &err);
        const float *logits = (const float *)ot_network_logits(net) + (count + i - 1) * m->desc.vocab_size;
        int32_t best = 0;
        for (int64_t v = 1; v < m->desc.vocab_size; v++) {
            if (logits[v] > logits[best]) best = (int32_t)v;
        }
        out[i] = ids[count + i] = best;
    }
    free(ids);
    ot_network_free(net);
}

static void check_batches(const char *name, const ot_backend *backend) {
    static const int64_t counts[] = {5, 1, 8, 3, 2};
    enum { N = 5 };
    ot_model *m = open_model(OWN_MODELS, name);
    ot_error err = {0};
    int32_t ids[N][8], alone[N][NEW];
    ot_prompt prompts[N];
    for (int i = 0; i < N; i++) {
        for (int t = 0; t < 8; t++) ids[i][t] = (int32_t)(3 + (i * 31 + t * 17) % (m->desc.vocab_size - 3));
        prompts[i] = (ot_prompt){ids[i], counts[i]};
        without_cache(m, backend, ids[i], counts[i], NEW, alone[i]);
    }
    /* lanes and rows of a run: all at once, in groups, prompts cut into pieces */
    static const int64_t shapes[][2] = {{0, 0}, {2, 0}, {1, 1}, {5, 3}, {3, 4}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        ot_generate_options o = {.backend = backend, .max_new = NEW, .lanes = shapes[s][0], .prompt_rows = shapes[s][1]};
        ot_generated g;
        must(ot_generate(m, prompts, N, &o, &g, &err), &err);
        assert_int_equal(g.prompt_tokens, 19);
        assert_int_equal(g.new_tokens, N * NEW);
        for (int i = 0; i < N; i++) {
            assert_int_equal(g.counts[i], NEW);
            for (int t = 0; t < NEW; t++) {
                if (g.ids[i * NEW + t] != alone[i][t]) {
                    fail_msg("%s, backend %s, %d lanes, %d rows: token %d of sequence %d is %d, without a cache %d", name, backend->name, (int)shapes[s][0],
                             (int)shapes[s][1], t, i, g.ids[i * NEW + t], alone[i][t]);
                }
            }
        }
        ot_generated_free(&g);
    }
    ot_model_close(m);
}

static void test_cache_changes_nothing(void **state) {
    (void)state;
    for (int i = 0; i < N_DECODERS; i++) {
        char path[1024];
        snprintf(path, sizeof path, OWN_MODELS "/%s/config.json", decoders[i]);
        if (!ot_path_exists(path)) continue;
        check_batches(decoders[i], &ot_backend_ref);
        check_batches(decoders[i], ot_backends[0]);
    }
}

/* ==== Ends, refusals, listeners. ==== */

typedef struct listener {
    int64_t seen[3], stop_at;
} listener;

static bool listen(void *context, int64_t sequence, int32_t id) {
    listener *l = context;
    assert_true(id >= 0);
    return ++l->seen[sequence] < l->stop_at || sequence != 1;
}

static void test_ends(void **state) {
    (void)state;
    ot_error err = {0};
    ot_model *m = open_model(OWN_MODELS, "llama");
    int32_t ids[] = {3, 4, 5};
    ot_prompt prompts[] = {{ids, 3}, {ids, 2}, {ids, 1}};
    listener l = {.stop_at = 4};
    ot_generate_options o = {.backend = ot_backends[0], .max_new = 7, .token = listen, .context = &l};
    ot_generated g, again;
    must(ot_generate(m, prompts, 3, &o, &g, &err), &err);
    assert_int_equal(g.counts[0], 7);
    assert_int_equal(g.counts[1], 4);
    assert_int_equal(g.counts[2], 7);
    assert_int_equal(l.seen[1], 4);
    assert_true(g.bytes > 0);
    /* The third token of sequence 0 as the one that ends a text: it is the last one given. */
    int32_t end = g.ids[2];
    int64_t first = 0;
    while (g.ids[first] != end) first++;
    o = (ot_generate_options){.backend = ot_backends[0], .max_new = 7, .end_ids = &end, .n_end_ids = 1};
    must(ot_generate(m, prompts, 1, &o, &again, &err), &err);
    assert_int_equal(again.counts[0], first + 1);
    assert_int_equal(again.ids[first], end);
    ot_generated_free(&again);
    ot_generated_free(&g);

    int32_t bad[] = {3, (int32_t)m->desc.vocab_size};
    ot_prompt wrong = {bad, 2}, empty = {ids, 0};
    assert_int_equal(ot_generate(m, &wrong, 1, &o, &g, &err), OT_ERR_FORMAT);
    assert_non_null(strstr(err.message, "outside the vocabulary"));
    assert_int_equal(ot_generate(m, &empty, 1, &o, &g, &err), OT_ERR_REFUSED);
    assert_string_equal(err.message, "prompt 0 is empty: generation needs at least one token");
    assert_int_equal(ot_generate(m, prompts, 0, &o, &g, &err), OT_ERR_USAGE);
    ot_model_close(m);
}

static void test_positions(void **state) {
    (void)state;
    ot_error err = {0};
    ot_model *m = open_model(OWN_MODELS, "gpt2");
    int64_t max = m->desc.max_positions;
    int32_t *ids = malloc((size_t)(max + 1) * sizeof *ids);
    assert_non_null(ids);
    for (int64_t i = 0; i <= max; i++) ids[i] = 3;
    ot_prompt p = {ids, max - 2};
    assert_int_equal(ot_generate_room(&m->desc, NULL, p.count), 3);
    ot_generate_options o = {.backend = ot_backends[0], .max_new = 3};
    ot_generated g;
    must(ot_generate(m, &p, 1, &o, &g, &err), &err);
    assert_int_equal(g.counts[0], 3);
    ot_generated_free(&g);
    o.max_new = 4;
    char wanted[256];
    snprintf(wanted, sizeof wanted, "prompt 0 of %lld tokens with 4 new ones is longer than the %lld positions that the model has", (long long)p.count,
             (long long)max);
    assert_int_equal(ot_generate(m, &p, 1, &o, &g, &err), OT_ERR_REFUSED);
    assert_string_equal(err.message, wanted);
    p.count = max + 1;
    assert_int_equal(ot_generate_room(&m->desc, NULL, p.count), 0);
    ot_hooks hooks = {.position_shift = 4};
    assert_int_equal(ot_generate_room(&m->desc, &hooks, max - 4), 1);
    free(ids);
    ot_model_close(m);
    m = open_model(OWN_MODELS, "llama");
    assert_int_equal(ot_generate_room(&m->desc, NULL, 1000000), -1);
    ot_model_close(m);
}

static void write_text(scratch *s, const char *name, const char *text) {
    ot_error err = {0};
    must(ot_write_file(scratch_path(s, name), text, (int64_t)strlen(text), &err), &err);
}

static void test_end_ids(void **state) {
    (void)state;
    scratch s;
    scratch_open(&s, TEST_BINARY_DIR);
    ot_error err = {0};
    int32_t ids[4];
    int64_t n = 0;
    ot_model m = {.path = s.dir, .config = json_pack("{s:[i,i,i]}", "eos_token_id", 7, 900, 8), .desc = {.vocab_size = 100, .eos_id = 7}};
    must(ot_generate_end_ids(&m, ids, 4, &n, &err), &err);
    assert_int_equal(n, 2); /* 900 is no token */
    assert_int_equal(ids[0], 7);
    assert_int_equal(ids[1], 8);
    must(ot_generate_end_ids(&m, ids, 1, &n, &err), &err);
    assert_int_equal(n, 1);
    write_text(&s, "generation_config.json", "{\"eos_token_id\": 9}");
    must(ot_generate_end_ids(&m, ids, 4, &n, &err), &err);
    assert_int_equal(n, 1);
    assert_int_equal(ids[0], 9);
    write_text(&s, "generation_config.json", "{\"eos_token_id\": ");
    assert_int_equal(ot_generate_end_ids(&m, ids, 4, &n, &err), OT_ERR_FORMAT);
    json_decref(m.config);
    scratch_close(&s);
}

/* ==== Drawing. ==== */

static void test_sampling(void **state) {
    (void)state;
    enum { V = 6, DRAWS = 20000 };
    const float logits[V] = {1.0F, 3.0F, -INFINITY, 2.0F, 0.0F, 2.0F};
    ot_candidate room[V];
    ot_error err = {0};
    int32_t id = -1;
    must(ot_sample(logits, V, &(ot_sampling){0}, 0, 0, room, &id, &err), &err);
    assert_int_equal(id, 1);

    const struct {
        ot_sampling s;
        double p[V]; /* unnormalised */
    } cases[] = {
        {{.temperature = 1.0, .top_p = 1.0}, {exp(1), exp(3), 0, exp(2), 1, exp(2)}},
        {{.temperature = 0.5, .top_p = 1.0}, {exp(2), exp(6), 0, exp(4), 1, exp(4)}},
        {{.temperature = 1.0, .top_p = 1.0, .top_k = 1}, {0, 1, 0, 0, 0, 0}},
        {{.temperature = 1.0, .top_p = 1.0, .top_k = 2}, {0, exp(3), 0, exp(2), 0, 0}}, /* of equals the first */
        {{.temperature = 1.0, .top_p = 1.0, .top_k = 4}, {exp(1), exp(3), 0, exp(2), 0, exp(2)}},
        {{.temperature = 1.0, .top_p = 0.5}, {0, exp(3), 0, 0, 0, 0}},            /* 0.514 alone */
        {{.temperature = 1.0, .top_p = 0.6}, {0, exp(3), 0, exp(2), 0, 0}},       /* 0.514, 0.703 */
        {{.temperature = 1.0, .top_p = 0.8}, {0, exp(3), 0, exp(2), 0, exp(2)}},  /* 0.892 */
        {{.temperature = 1.0, .top_p = 0.0}, {0, 1, 0, 0, 0, 0}},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        int counts[V] = {0};
        double sum = 0;
        for (int v = 0; v < V; v++) sum += cases[c].p[v];
        for (int i = 0; i < DRAWS; i++) {
            must(ot_sample(logits, V, &cases[c].s, i % 7, i, room, &id, &err), &err);
            assert_in_range(id, 0, V - 1);
            counts[id]++;
        }
        for (int v = 0; v < V; v++) {
            double p = cases[c].p[v] / sum, sigma = sqrt(p * (1 - p) / DRAWS), seen = (double)counts[v] / DRAWS;
            if (fabs(seen - p) > 5 * sigma) fail_msg("case %zu: token %d came in %g of the draws instead of %g", c, v, seen, p);
        }
    }
    /* Reproducible; another seed, sequence or draw is another number. */
    ot_sampling s = {.temperature = 1.0, .top_p = 1.0, .seed = 5};
    int same = 0, differ[3] = {0};
    for (int i = 0; i < 100; i++) {
        int32_t a, b;
        must(ot_sample(logits, V, &s, 1, i, room, &a, &err), &err);
        must(ot_sample(logits, V, &s, 1, i, room, &b, &err), &err);
        same += a == b;
        ot_sampling other = s;
        other.seed = 6;
        must(ot_sample(logits, V, &other, 1, i, room, &b, &err), &err);
        differ[0] += a != b;
        must(ot_sample(logits, V, &s, 2, i, room, &b, &err), &err);
        differ[1] += a != b;
        must(ot_sample(logits, V, &s, 1, i + 1, room, &b, &err), &err);
        differ[2] += a != b;
    }
    assert_int_equal(same, 100);
    for (int k = 0; k < 3; k++) assert_true(differ[k] > 20);

    const float nan[2] = {NAN, NAN}, infinite[2] = {0.0F, INFINITY}, mixed[3] = {NAN, 1.0F, 2.0F};
    assert_int_equal(ot_sample(nan, 2, &s, 0, 0, room, &id, &err), OT_ERR_NUMERIC);
    assert_int_equal(ot_sample(infinite, 2, &s, 0, 0, room, &id, &err), OT_ERR_NUMERIC);
    must(ot_sample(mixed, 3, &(ot_sampling){0}, 0, 0, room, &id, &err), &err);
    assert_int_equal(id, 2);
}

/* The k likeliest of many, with equals among them, against sorting. */
static void test_top_k(void **state) {
    (void)state;
    enum { V = 257 };
    float logits[V];
    ot_candidate room[V];
    ot_error err = {0};
    for (int v = 0; v < V; v++) logits[v] = (float)((v * 7919) % 64);
    for (int64_t k = 1; k <= V; k += 8) {
        bool allowed[V] = {false};
        for (int64_t n = 0; n < k; n++) {
            int best = -1;
            for (int v = 0; v < V; v++) {
                if (!allowed[v] && (best < 0 || logits[v] > logits[best])) best = v;
            }
            allowed[best] = true;
        }
        ot_sampling s = {.temperature = 50.0, .top_p = 1.0, .top_k = k};
        for (int i = 0; i < 400; i++) {
            int32_t id;
            must(ot_sample(logits, V, &s, 0, i, room, &id, &err), &err);
            if (!allowed[id]) fail_msg("token %d is not among the %d likeliest", id, (int)k);
        }
    }
}

static void test_sampled_text_does_not_depend_on_neighbours(void **state) {
    (void)state;
    ot_error err = {0};
    ot_model *m = open_model(OWN_MODELS, "qwen2");
    int32_t ids[] = {3, 4, 5, 6};
    ot_prompt prompts[] = {{ids, 4}, {ids, 3}, {ids, 2}};
    ot_generate_options o = {.backend = ot_backends[0], .max_new = NEW, .sampling = {.temperature = 1.5, .top_p = 0.9, .top_k = 40, .seed = 3}};
    ot_generated together, apart;
    must(ot_generate(m, prompts, 3, &o, &together, &err), &err);
    o.lanes = 1;
    o.prompt_rows = 2;
    must(ot_generate(m, prompts, 3, &o, &apart, &err), &err);
    assert_memory_equal(together.ids, apart.ids, 3 * NEW * sizeof *apart.ids);
    o.sampling.seed = 4;
    ot_generated_free(&apart);
    must(ot_generate(m, prompts, 3, &o, &apart, &err), &err);
    assert_memory_not_equal(together.ids, apart.ids, 3 * NEW * sizeof *apart.ids);
    ot_generated_free(&together);
    ot_generated_free(&apart);
    ot_model_close(m);
}

/* ==== Streamed text. ==== */

typedef struct sink {
    char text[256];
    int64_t size, calls;
} sink;

static void put(void *context, const char *text, int64_t size) {
    sink *s = context;
    assert_true(size > 0 && s->size + size < (int64_t)sizeof s->text);
    memcpy(s->text + s->size, text, (size_t)size);
    s->size += size;
    s->text[s->size] = '\0';
    s->calls++;
}

static void add(ot_text_stream *s, const char *text) {
    ot_error err = {0};
    must(ot_text_stream_add(s, text, (int64_t)strlen(text), &err), &err);
}

static void test_stream_characters(void **state) {
    (void)state;
    sink out = {0};
    ot_text_stream s = {.put = put, .context = &out};
    add(&s, "a");
    assert_string_equal(out.text, "a");
    add(&s, "\xF0\x9F");
    assert_string_equal(out.text, "a");
    add(&s, "\x98");
    assert_string_equal(out.text, "a");
    add(&s, "\x80z\xC3");
    assert_string_equal(out.text, "a\xF0\x9F\x98\x80z");
    add(&s, "\xA9\xE4\xBD");
    assert_string_equal(out.text, "a\xF0\x9F\x98\x80z\xC3\xA9");
    add(&s, "x"); /* the three bytes never come */
    assert_string_equal(out.text, "a\xF0\x9F\x98\x80z\xC3\xA9\xEF\xBF\xBDx");
    add(&s, "\xE0\x80"); /* can never become a character */
    assert_int_equal(s.size, 0);
    out = (sink){0};
    add(&s, "\xFF\xC0\x80" "b\xF4");
    assert_string_equal(out.text, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD" "b");
    ot_text_stream_end(&s);
    assert_string_equal(out.text, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD" "b\xEF\xBF\xBD");
    ot_text_stream_free(&s);
}

static void test_stream_stops(void **state) {
    (void)state;
    static const char *const stops[] = {"\nQ:", "END", ""};
    sink out = {0};
    ot_text_stream s = {.stops = stops, .n_stops = 3, .put = put, .context = &out};
    add(&s, "one\n");
    assert_string_equal(out.text, "one");
    add(&s, "Q");
    assert_string_equal(out.text, "one");
    add(&s, "uote EN");
    assert_string_equal(out.text, "one\nQuote ");
    add(&s, "\nQ");
    assert_string_equal(out.text, "one\nQuote EN");
    add(&s, ": more");
    assert_true(s.stopped);
    assert_string_equal(out.text, "one\nQuote EN");
    add(&s, "nothing");
    ot_text_stream_end(&s);
    assert_string_equal(out.text, "one\nQuote EN");
    ot_text_stream_free(&s);

    out = (sink){0};
    s = (ot_text_stream){.stops = stops, .n_stops = 3, .put = put, .context = &out};
    add(&s, "the END\nQ:"); /* the one that comes first */
    assert_string_equal(out.text, "the ");
    ot_text_stream_free(&s);

    out = (sink){0};
    s = (ot_text_stream){.stops = stops, .n_stops = 3, .put = put, .context = &out};
    add(&s, "the EN");
    ot_text_stream_end(&s);
    assert_string_equal(out.text, "the EN");
    ot_text_stream_free(&s);
}

/* Any cut of a text into pieces gives the same. */
static void test_stream_cuts(void **state) {
    (void)state;
    static const char text[] = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80 \xFF\xE2\x28 SSTOP tail", wanted[] = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80 \xEF\xBF\xBD\xEF\xBF\xBD( S";
    static const char *const stops[] = {"STOP"};
    int64_t n = (int64_t)sizeof text - 1;
    for (int64_t i = 0; i <= n; i++) {
        for (int64_t j = i; j <= n; j++) {
            sink out = {0};
            ot_error err = {0};
            ot_text_stream s = {.stops = stops, .n_stops = 1, .put = put, .context = &out};
            must(ot_text_stream_add(&s, text, i, &err), &err);
            must(ot_text_stream_add(&s, text + i, j - i, &err), &err);
            must(ot_text_stream_add(&s, text + j, n - j, &err), &err);
            ot_text_stream_end(&s);
            assert_string_equal(out.text, wanted);
            ot_text_stream_free(&s);
        }
    }
}

/* ==== Prompts. ==== */

static void write_ids(scratch *s, const int64_t *ids, const int64_t *mask, ot_dtype dtype, int64_t mask_rows) {
    ot_error err = {0};
    ot_tensor t[2] = {{.name = "input_ids", .dtype = dtype, .n_dims = 2, .shape = {2, 4}, .data = ids},
                      {.name = "attention_mask", .dtype = OT_I64, .n_dims = 2, .shape = {mask_rows, 4}, .bytes = mask_rows * 32, .data = mask}};
    assert_true(ot_dtype_bytes(dtype, 8, &t[0].bytes));
    must(ot_safetensors_write(scratch_path(s, "ids.safetensors"), t, mask != NULL ? 2 : 1, NULL, &err), &err);
}

static void refused_ids(scratch *s, ot_status wanted, const char *end) {
    ot_prompts p = {0};
    ot_error err = {0};
    char message[2048];
    snprintf(message, sizeof message, "%s: %s", scratch_path(s, "ids.safetensors"), end);
    assert_int_equal(ot_prompts_read_ids(&p, scratch_path(s, "ids.safetensors"), 50, &err), wanted);
    assert_string_equal(err.message, message);
    ot_prompts_free(&p);
}

static void test_prompt_ids(void **state) {
    (void)state;
    scratch s;
    scratch_open(&s, TEST_BINARY_DIR);
    ot_error err = {0};
    ot_prompts p = {0};
    const int64_t ids[] = {1, 2, 3, 4, 5, 6, 7, 49}, left[] = {0, 0, 1, 1, 1, 1, 0, 0}, none[] = {1, 1, 1, 1, 0, 0, 0, 0};
    int64_t bad[] = {1, 2, 3, 4, 5, 50, 7, 8};
    write_ids(&s, ids, left, OT_I64, 2);
    must(ot_prompts_read_ids(&p, scratch_path(&s, "ids.safetensors"), 50, &err), &err);
    assert_int_equal(p.count, 2);
    assert_int_equal(p.items[0].count, 2);
    assert_int_equal(p.items[0].ids[0], 3);
    assert_int_equal(p.items[1].count, 2);
    assert_int_equal(p.items[1].ids[1], 6);
    ot_prompts_free(&p);
    write_ids(&s, ids, NULL, OT_I64, 2);
    must(ot_prompts_read_ids(&p, scratch_path(&s, "ids.safetensors"), 50, &err), &err);
    assert_int_equal(p.items[1].count, 4);
    assert_int_equal(p.items[1].ids[3], 49);
    ot_prompts_free(&p);
    write_ids(&s, ids, none, OT_I64, 2);
    refused_ids(&s, OT_ERR_REFUSED, "row 1 of attention_mask leaves no token");
    write_ids(&s, bad, NULL, OT_I64, 2);
    refused_ids(&s, OT_ERR_FORMAT, "input_ids[1, 1] is 50, outside the vocabulary of 50");
    bad[5] = -1;
    write_ids(&s, bad, NULL, OT_I64, 2);
    refused_ids(&s, OT_ERR_FORMAT, "input_ids[1, 1] is -1, outside the vocabulary of 50");
    write_ids(&s, ids, NULL, OT_I32, 2);
    refused_ids(&s, OT_ERR_FORMAT, "tensor input_ids must be int64 of shape [batch, tokens]");
    write_ids(&s, ids, left, OT_I64, 1);
    refused_ids(&s, OT_ERR_FORMAT, "tensor attention_mask must have the shape of input_ids");
    scratch_close(&s);
}

/* ==== Adapters. ==== */

/* A return whose tensors are the offer's own plus `change`. */
static void make_return(const char *offer_dir, const char *dir, const char *method, float change) {
    ot_error err = {0};
    ot_manifest offer;
    ot_model *m = NULL;
    ot_trainables t = {0};
    must(ot_manifest_read(offer_dir, OT_BUNDLE_NONE, &offer, &err), &err);
    must(ot_model_open(offer_dir, OT_F32, &m, &err), &err);
    for (int64_t i = 0; i < m->n_params; i++) {
        if (ot_return_trains(&offer, method, &m->params[i])) must(ot_trainables_add_param(&t, &m->params[i], &err), &err);
    }
    must(ot_trainables_bind(&t, OT_F32, false, &err), &err);
    for (int64_t i = 0; i < t.stretch; i++) t.master[i] += change;
    must(ot_make_dirs(dir, &err), &err);
    must(ot_return_write(dir, &offer, method, &t, NULL, &err), &err);
    ot_trainables_free(&t);
    ot_model_close(m);
    ot_manifest_free(&offer);
}

static void make_offer(const char *dir, const char *emulator) {
    ot_error err = {0};
    ot_model *m = open_model(OWN_TRAIN, "gpt2/model");
    ot_split_options o = {.bottom = 1, .top = 1, .emulator = emulator, .own_dtype = true, .dtype = OT_F32};
    ot_split_summary summary;
    must(ot_split(m, dir, &o, &summary, &err), &err);
    ot_model_close(m);
}

/* The model's values under its adapter, by what the engine reads. */
static float slot_value(const ot_model *m, const char *name) {
    const ot_param *p = ot_model_find(m, name);
    assert_non_null(p);
    float v;
    assert_int_equal(p->slot.dtype, OT_F32);
    memcpy(&v, p->slot.data, 4);
    return v;
}

static void test_adapter(void **state) {
    (void)state;
    scratch s;
    scratch_open(&s, TEST_BINARY_DIR);
    ot_error err = {0};
    char offer[1024], other[1024], full[1024], bitfit[1024];
    snprintf(offer, sizeof offer, "%s", scratch_path(&s, "offer"));
    snprintf(other, sizeof other, "%s", scratch_path(&s, "other"));
    snprintf(full, sizeof full, "%s", scratch_path(&s, "full"));
    snprintf(bitfit, sizeof bitfit, "%s", scratch_path(&s, "bitfit"));
    make_offer(offer, "layerdrop:keep=1");
    make_offer(other, "");
    make_return(offer, full, "full", 0.5F);
    make_return(offer, bitfit, "bitfit", 0.25F);

    ot_model *m = NULL, *whole = open_model(OWN_TRAIN, "gpt2/model");
    must(ot_model_open(offer, OT_F32, &m, &err), &err);
    int64_t last = m->desc.layers - 1, whole_last = whole->desc.layers - 1;
    char top[64], whole_top[64], top_bias[64];
    snprintf(top, sizeof top, "transformer.h.%lld.mlp.c_fc.weight", (long long)last);
    snprintf(top_bias, sizeof top_bias, "transformer.h.%lld.mlp.c_fc.bias", (long long)last);
    snprintf(whole_top, sizeof whole_top, "transformer.h.%lld.mlp.c_fc.weight", (long long)whole_last);
    float bottom_before = slot_value(m, "transformer.h.0.mlp.c_fc.weight"), middle_before = slot_value(m, "transformer.h.1.mlp.c_fc.weight");
    float top_before = slot_value(m, top), bias_before = slot_value(m, top_bias);

    ot_adapter a;
    must(ot_adapter_open(full, m, &a, &err), &err);
    assert_null(ot_adapter_hooks(&a));
    assert_float_equal(slot_value(m, "transformer.h.0.mlp.c_fc.weight"), bottom_before + 0.5F, 1e-6);
    assert_float_equal(slot_value(m, "transformer.h.1.mlp.c_fc.weight"), middle_before, 0);
    assert_float_equal(slot_value(m, top), top_before + 0.5F, 1e-6);
    ot_adapter_close(&a);
    ot_model_close(m);

    must(ot_model_open(offer, OT_F32, &m, &err), &err);
    must(ot_adapter_open(bitfit, m, &a, &err), &err);
    assert_float_equal(slot_value(m, top), top_before, 0);
    assert_float_equal(slot_value(m, top_bias), bias_before + 0.25F, 1e-6);
    ot_adapter_close(&a);
    ot_model_close(m);

    /* Over the whole model it is plugged in. */
    float plugged = slot_value(whole, whole_top), middle = slot_value(whole, "transformer.h.1.mlp.c_fc.weight");
    must(ot_adapter_open(full, whole, &a, &err), &err);
    assert_float_equal(slot_value(whole, whole_top), plugged + 0.5F, 1e-6);
    assert_float_equal(slot_value(whole, "transformer.h.1.mlp.c_fc.weight"), middle, 0);
    ot_adapter_close(&a);
    ot_model_close(whole);

    must(ot_model_open(other, OT_F32, &m, &err), &err);
    assert_int_equal(ot_adapter_open(full, m, &a, &err), OT_ERR_REFUSED);
    assert_non_null(strstr(err.message, "the return is for offer "));
    assert_int_equal(ot_adapter_open(offer, m, &a, &err), OT_ERR_REFUSED);
    ot_model_close(m);
    whole = open_model(OWN_TRAIN, "qwen2/model");
    assert_int_equal(ot_adapter_open(full, whole, &a, &err), OT_ERR_REFUSED);
    assert_string_equal(err.message, "the return is for the architecture gpt2, but the model is qwen2");
    ot_model_close(whole);
    scratch_close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own_goldens),
        cmocka_unit_test(test_shared_goldens),
        cmocka_unit_test(test_cache_changes_nothing),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_positions),
        cmocka_unit_test(test_end_ids),
        cmocka_unit_test(test_sampling),
        cmocka_unit_test(test_top_k),
        cmocka_unit_test(test_sampled_text_does_not_depend_on_neighbours),
        cmocka_unit_test(test_stream_characters),
        cmocka_unit_test(test_stream_stops),
        cmocka_unit_test(test_stream_cuts),
        cmocka_unit_test(test_prompt_ids),
        cmocka_unit_test(test_adapter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
