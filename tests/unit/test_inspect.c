/* Inspection: the paper's counts, kept blocks against the reference for every pair, parts and bytes against what split writes, and the memory plan
 * against the trainer's own, all without weights. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/parallel.h"
#include "eval/inspect.h"
#include "format/json.h"
#include "peft/peft.h"
#include "protocol/split.h"
#include "support/scratch.h"
#include "support/tiny.h"
#include "train/trainer.h"

static const char gpt2_xl[] = "{\"model_type\": \"gpt2\", \"n_layer\": 48, \"n_embd\": 1600, \"n_head\": 25, \"vocab_size\": 50257}";
static const char opt_1b3[] = "{\"model_type\": \"opt\", \"num_hidden_layers\": 24, \"hidden_size\": 2048, \"num_attention_heads\": 32, \"ffn_dim\": 8192, "
                              "\"vocab_size\": 50272, \"word_embed_proj_dim\": 2048, \"torch_dtype\": \"float16\"}";
static const char opt_66b[] = "{\"model_type\": \"opt\", \"num_hidden_layers\": 64, \"hidden_size\": 9216, \"num_attention_heads\": 72, \"ffn_dim\": 36864, "
                              "\"vocab_size\": 50272, \"word_embed_proj_dim\": 9216, \"dtype\": \"float16\"}";

static void must(ot_status status, const ot_error *err) {
    if (status != OT_OK) fail_msg("%s", err->message);
}

/* A configuration under a name that says nothing. */
static ot_model *from_text(scratch *s, const char *config) {
    ot_error err = {0};
    ot_model *m = NULL;
    tiny_text(scratch_path(s, "a file"), config);
    must(ot_inspect_open(scratch_path(s, "a file"), &m, &err), &err);
    return m;
}

static ot_inspect_tuning tuning(const char *peft, int64_t block) {
    return (ot_inspect_tuning){.peft = peft, .backend = ot_backends[0], .compute = OT_F32, .batch = 1, .block = block};
}

static ot_inspect_memory plan(const ot_model *m, const ot_inspect_split *s, const ot_inspect_tuning *t) {
    ot_error err = {0};
    ot_inspect_memory memory;
    int64_t layers = m->desc.layers;
    int64_t bottom = s != NULL ? s->emulator.bottom : layers, top = s != NULL ? s->emulator.top : 0;
    must(ot_inspect_tuning_memory(m, s != NULL ? &s->emulator : NULL, bottom, top, t, &memory, &err), &err);
    return memory;
}

/* ==== Table 5 of the paper. ==== */

static void test_table_5(void **state) {
    (void)state;
    static const struct {
        const char *config, *emulator;
        int64_t finetune, full, houlsby, lora, bitfit;
    } rows[] = {
        {gpt2_xl, "layerdrop:keep=16", 1475558400, 122963200, 1651712, 409600, 83200},
        {opt_1b3, "layerdrop:keep=8", 1208598528, 201433088, 2114048, 589824, 106496},
    };
    scratch s;
    scratch_open(&s, TEST_BINARY_DIR);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ot_error err = {0};
        ot_model *m = from_text(&s, rows[i].config);
        ot_inspect_split split;
        must(ot_inspect_split_plan(m, 2, 2, rows[i].emulator, &split, &err), &err);
        const struct {
            const char *peft;
            int64_t wanted;
        } methods[] = {{"full", rows[i].full}, {"", rows[i].full}, {"houlsby", rows[i].houlsby}, {"lora", rows[i].lora}, {"bitfit", rows[i].bitfit}};
        for (size_t k = 0; k < sizeof methods / sizeof *methods; k++) {
            ot_inspect_tuning t = tuning(methods[k].peft, 64);
            int64_t count = 0;
            assert_int_equal(plan(m, &split, &t).trainable, methods[k].wanted);
            must(ot_peft_count(methods[k].peft, &m->desc, 4, &count, &err), &err);
            assert_int_equal(count, methods[k].wanted);
        }
        ot_inspect_tuning t = tuning("full", 64);
        assert_int_equal(plan(m, NULL, &t).trainable, rows[i].finetune);
        ot_inspect_split_free(&split);
        ot_model_close(m);
    }
    scratch_close(&s);
}

/* ==== Kept blocks. ==== */

static void check_kept(const ot_model *m, int64_t bottom, int64_t top, int64_t keep, const int64_t *wanted) {
    ot_error err = {0};
    ot_inspect_split split;
    char recipe[64];
    snprintf(recipe, sizeof recipe, "layerdrop:keep=%lld", (long long)keep);
    must(ot_inspect_split_plan(m, bottom, top, recipe, &split, &err), &err);
    assert_int_equal(split.emulator.n_kept, keep);
    assert_int_equal(split.layers, bottom + keep + top);
    for (int64_t i = 0; i < keep; i++) {
        if (split.emulator.kept[i] != wanted[i] + bottom) {
            fail_msg("%lld of %lld: index %lld is %lld, expected %lld", (long long)keep, (long long)(m->desc.layers - bottom - top), (long long)i,
                     (long long)(split.emulator.kept[i] - bottom), (long long)wanted[i]);
        }
    }
    ot_inspect_split_free(&split);
}

static ot_model *of_layers(scratch *s, int64_t layers) {
    char config[256];
    snprintf(config, sizeof config, "{\"model_type\": \"gpt2\", \"n_layer\": %lld, \"n_embd\": 4, \"n_head\": 1, \"vocab_size\": 8, \"n_positions\": 8}",
             (long long)layers);
    return from_text(s, config);
}

static void test_kept_of_the_paper(void **state) {
    (void)state;
    static const struct {
        int64_t middle, keep, indices[18];
    } cases[] = {
        {20, 8, {0, 3, 5, 8, 11, 14, 16, 19}},
        {44, 16, {0, 3, 6, 9, 11, 14, 17, 20, 23, 26, 29, 32, 34, 37, 40, 43}},
        {28, 18, {0, 2, 3, 5, 6, 8, 10, 11, 13, 14, 16, 17, 19, 21, 22, 24, 25, 27}},
        {5, 1, {2}}, {6, 1, {2}}, {8, 1, {4}}, {1, 1, {0}}, {2, 1, {0}}, {4, 1, {2}}, /* half to even */
    };
    scratch s;
    scratch_open(&s, TEST_BINARY_DIR);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ot_model *m = of_layers(&s, cases[i].middle + 4);
        check_kept(m, 2, 2, cases[i].keep, cases[i].indices);
        ot_model_close(m);
    }
    scratch_close(&s);
}

static void test_kept_of_all_pairs(void **state) {
    (void)state;
    const char *path = TEST_SHARED_DIR "/golden/emulator/layerdrop.json";
    if (!ot_path_exists(path)) {
        print_message("skipped: no %s\n", path);
        skip();
    }
    scratch s;
    scratch_open(&s, TEST_BINARY_DIR);
    ot_error err = {0};
    json_t *all = NULL;
    must(ot_json_read(path, 64 << 20, &all, &err), &err);
    assert_true(json_array_size(all) > 400);
    ot_model *m = NULL;
    int64_t made = 0;
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *pair = json_array_get(all, i), *indices = json_object_get(pair, "indices");
        int64_t n = json_integer_value(json_object_get(pair, "n_mid")), keep = json_integer_value(json_object_get(pair, "keep")), wanted[256], got[256];
        assert_true(n > 0 && n <= 256 && keep > 0 && keep <= n);
        assert_int_equal(json_array_size(indices), keep);
        for (int64_t k = 0; k < keep; k++) wanted[k] = json_integer_value(json_array_get(indices, (size_t)k));
        ot_layerdrop_uniform(n, keep, got);
        assert_memory_equal(got, wanted, (size_t)keep * sizeof *got);
        if (m == NULL || made != n) {
            ot_model_close(m);
            m = of_layers(&s, n + 3);
            made = n;
        }
        check_kept(m, 1, 2, keep, wanted);
    }
    ot_model_close(m);
    json_decref(all);
    scratch_close(&s);
}

/* ==== Counts and bytes. ==== */

static void test_parts(void **state) {
    (void)state;
    scratch s;
    scratch_open(&s, TEST_BINARY_DIR);
    static const char *const configs[] = {gpt2_xl, opt_1b3};
    static const int64_t totals[] = {1557611200, 1315758080}, widths[] = {4, 2};
    for (int i = 0; i < 2; i++) {
        ot_model *m = from_text(&s, configs[i]);
        ot_inspect_part parts[OT_INSPECT_PARTS];
        int64_t n = ot_inspect_parts(m, parts), total = 0, bytes = 0, tensors = 0;
        for (int64_t k = 0; k < n; k++) {
            total += parts[k].parameters;
            bytes += parts[k].bytes;
            tensors += parts[k].tensors;
            assert_true(parts[k].tensors > 0);
        }
        assert_int_equal(total, totals[i]);
        assert_int_equal(total, ot_model_parameters(m));
        assert_int_equal(bytes, totals[i] * widths[i]);
        assert_int_equal(tensors, m->n_params);
        ot_model_close(m);
    }
    scratch_close(&s);
}

/* What inspect foretells is what split writes, and what the trainer then needs. */
static void compare_with_split(const ot_model *m, const char *dir, const char *emulator, ot_dtype compute) {
    ot_error err = {0};
    ot_split_options options = {.bottom = 1, .top = 2, .emulator = emulator, .own_dtype = true, .dtype = OT_BF16, .force = true};
    ot_split_summary summary;
    ot_inspect_split split;
    ot_model *offer = NULL;
    must(ot_split(m, dir, &options, &summary, &err), &err);
    must(ot_inspect_split_plan(m, 1, 2, emulator, &split, &err), &err);
    assert_int_equal(split.layers, summary.layers);
    assert_int_equal(split.emulator.n_kept, summary.kept_middle);
    assert_int_equal(split.offer_bytes, summary.offer_bytes);
    assert_int_equal(split.middle_bytes, summary.middle_bytes);
    assert_int_equal(split.kept_bytes, summary.exact_bytes);

    static const char *const methods[] = {"full", "bitfit", "lora:r=2"};
    for (size_t k = 0; k < sizeof methods / sizeof *methods; k++) {
        for (int recompute = 0; recompute < 2; recompute++) {
            must(ot_model_open(dir, OT_F32, &offer, &err), &err);
            bool tuned[64] = {false};
            for (int64_t b = 0; b < offer->desc.layers; b++) tuned[b] = b < 1 || b >= offer->desc.layers - 2;
            ot_trainables trained = {0};
            ot_peft peft;
            ot_trainer *trainer = NULL;
            ot_train_memory wanted;
            int32_t counted[] = {11, 11, 11, 11, 11};
            ot_dataset data = {.rows = 5, .length = 12, .counted = counted};
            ot_train_options o = {.backend = ot_backends[0], .compute = compute, .batch = 3, .grad_accum = 1, .recompute = recompute != 0};
            must(ot_peft_begin(&peft, methods[k], offer, tuned, 0, &trained, &err), &err);
            o.hooks = ot_peft_hooks(&peft);
            must(ot_trainer_new(offer, &trained, &data, NULL, &o, &trainer, &err), &err);
            ot_trainer_memory(trainer, &wanted);
            ot_inspect_tuning t = tuning(methods[k], 12);
            t.batch = 3;
            t.compute = compute;
            t.recompute = recompute != 0;
            ot_inspect_memory memory = plan(m, &split, &t);
            assert_int_equal(memory.trainable, trained.count);
            assert_int_equal(memory.weights, wanted.weights);
            assert_int_equal(memory.trained, wanted.trained);
            assert_int_equal(memory.activations, wanted.activations);
            assert_int_equal(memory.total, wanted.program + wanted.weights + wanted.trained + wanted.activations);
            ot_trainer_free(trainer);
            ot_trainables_free(&trained);
            ot_peft_end(&peft);
            ot_model_close(offer);
        }
    }
    ot_inspect_split_free(&split);
}

static void test_foretells_split_and_tune(void **state) {
    (void)state;
    scratch s;
    scratch_open(&s, TEST_BINARY_DIR);
    ot_model *m = tiny_open(TINY_COMMITTED("gpt2"));
    compare_with_split(m, scratch_path(&s, "offer"), "layerdrop:keep=2", OT_F32);
    compare_with_split(m, scratch_path(&s, "offer"), "", OT_F32);
    ot_model_close(m);
    m = tiny_open(TINY_COMMITTED("qwen2"));
    compare_with_split(m, scratch_path(&s, "offer"), "layerdrop:list=2", OT_F32);
    ot_model_close(m);
    tiny_make("{\"model_type\": \"gpt2\", \"n_layer\": 6, \"n_embd\": 16, \"n_head\": 2, \"vocab_size\": 40, \"n_positions\": 16}", scratch_path(&s, "half"), OT_BF16, 3);
    m = tiny_open(scratch_path(&s, "half"));
    compare_with_split(m, scratch_path(&s, "offer"), "layerdrop:keep=1", OT_F32);
    ot_model_close(m);
    scratch_close(&s);
}

/* The configuration of a model says the same as the model. */
static void test_configuration_alone(void **state) {
    (void)state;
    scratch s;
    scratch_open(&s, TEST_BINARY_DIR);
    ot_error err = {0};
    char model[1024], config[1100];
    snprintf(model, sizeof model, "%s", scratch_path(&s, "model"));
    tiny_make("{\"model_type\": \"llama\", \"num_hidden_layers\": 5, \"hidden_size\": 16, \"num_attention_heads\": 2, \"num_key_value_heads\": 1, "
              "\"intermediate_size\": 24, \"vocab_size\": 40, \"dtype\": \"float16\"}",
              model, OT_F16, 3);
    snprintf(config, sizeof config, "%s/config.json", model);
    ot_model *full = NULL, *alone = NULL;
    must(ot_inspect_open(model, &full, &err), &err);
    must(ot_inspect_open(config, &alone, &err), &err);
    assert_true(full->source == OT_SOURCE_HF && alone->source == OT_SOURCE_CONFIG);
    ot_inspect_split a, b;
    must(ot_inspect_split_plan(full, 1, 1, "layerdrop:keep=2", &a, &err), &err);
    must(ot_inspect_split_plan(alone, 1, 1, "layerdrop:keep=2", &b, &err), &err);
    assert_int_equal(a.offer_bytes, b.offer_bytes);
    ot_inspect_tuning t = tuning("full", 24);
    ot_inspect_memory with = plan(full, &a, &t), without = plan(alone, &b, &t);
    assert_memory_equal(&with, &without, sizeof with);
    ot_inspect_split_free(&a);
    ot_inspect_split_free(&b);
    ot_model_close(full);
    ot_model_close(alone);
    /* A folder without weights is a configuration too. */
    char weights[1100];
    snprintf(weights, sizeof weights, "%s/model.safetensors", model);
    must(ot_remove_tree(weights, &err), &err);
    must(ot_inspect_open(model, &alone, &err), &err);
    assert_true(alone->source == OT_SOURCE_CONFIG);
    ot_model_close(alone);
    scratch_close(&s);
}

static void test_planning_costs_nothing(void **state) {
    (void)state;
    scratch s;
    scratch_open(&s, TEST_BINARY_DIR);
    ot_error err = {0};
    ot_model *m = from_text(&s, opt_66b);
    ot_inspect_split split;
    must(ot_inspect_split_plan(m, 2, 2, "layerdrop:keep=20", &split, &err), &err);
    ot_inspect_tuning t = tuning("full", 2048);
    int64_t before = ot_memory_peak();
    ot_inspect_memory one = plan(m, &split, &t);
    assert_true(one.total > (int64_t)30 << 30);
    t.recompute = true;
    ot_inspect_memory recomputed = plan(m, &split, &t);
    assert_true(recomputed.activations < one.activations);
    t.recompute = false;
    t.batch = 2;
    assert_true(plan(m, &split, &t).activations > one.activations);
    t.batch = 1;
    t.peft = "bitfit";
    ot_inspect_memory bitfit = plan(m, &split, &t);
    assert_true(bitfit.trained < one.trained / 100 && bitfit.weights == one.weights);
    assert_true(ot_memory_peak() - before < (int64_t)64 << 20);
    ot_inspect_split_free(&split);
    ot_model_close(m);
    scratch_close(&s);
}

/* ==== Refusals. ==== */

static void test_refusals(void **state) {
    (void)state;
    scratch s;
    scratch_open(&s, TEST_BINARY_DIR);
    ot_error err = {0};
    ot_model *m = NULL;
    ot_inspect_split split;
    ot_inspect_memory memory;
    char wanted[2048];
    assert_int_equal(ot_inspect_open(scratch_path(&s, "nothing"), &m, &err), OT_ERR_IO);
    snprintf(wanted, sizeof wanted, "there is no %s: give a Hugging Face model directory or a GGUF file", scratch_path(&s, "nothing"));
    assert_string_equal(err.message, wanted);
    assert_int_equal(ot_inspect_open(s.dir, &m, &err), OT_ERR_IO);
    assert_non_null(strstr(err.message, "holds no config.json"));
    tiny_text(scratch_path(&s, "list"), "[1]");
    assert_int_equal(ot_inspect_open(scratch_path(&s, "list"), &m, &err), OT_ERR_FORMAT);
    tiny_text(scratch_path(&s, "alien"), "{\"model_type\": \"alien\"}");
    assert_int_equal(ot_inspect_open(scratch_path(&s, "alien"), &m, &err), OT_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "the architecture \"alien\" is not supported"));

    m = of_layers(&s, 6);
    assert_int_equal(ot_inspect_split_plan(m, 2, 2, "layerdrop:keep=3", &split, &err), OT_ERR_USAGE);
    assert_string_equal(err.message, "--emulator: layerdrop: keep=3 is more than the 2 blocks of the middle");
    assert_int_equal(ot_inspect_split_plan(m, 3, 3, "", &split, &err), OT_ERR_USAGE);
    ot_inspect_tuning t = tuning("full", 9);
    assert_int_equal(ot_inspect_tuning_memory(m, NULL, 1, 1, &t, &memory, &err), OT_ERR_REFUSED);
    assert_string_equal(err.message, "a block of 9 tokens is longer than the 8 positions that the model has: use a smaller --block");
    t = tuning("fool", 8);
    assert_int_equal(ot_inspect_tuning_memory(m, NULL, 1, 1, &t, &memory, &err), OT_ERR_USAGE);
    t = tuning("full", 8);
    t.batch = INT64_MAX / 4;
    assert_int_equal(ot_inspect_tuning_memory(m, NULL, 1, 1, &t, &memory, &err), OT_ERR_USAGE);
    ot_model_close(m);
    scratch_close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_5),
        cmocka_unit_test(test_kept_of_the_paper),
        cmocka_unit_test(test_kept_of_all_pairs),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_foretells_split_and_tune),
        cmocka_unit_test(test_configuration_alone),
        cmocka_unit_test(test_planning_costs_nothing),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
