/* Adapter directories: LoRA, Houlsby, prefix and BitFit through tune, plug and finetune's writing, back over the model; merging; what PEFT's
 * configuration may say; refusals. */
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
#include "base/rng.h"
#include "format/json.h"
#include "peft/lora.h"
#include "protocol/adapter.h"
#include "protocol/peft_files.h"
#include "protocol/split.h"
#include "support/scratch.h"
#include "support/tiny.h"

enum { TOKENS = 9, MAX_LAYERS = 64 };

static const char *const families[] = {"gpt2", "qwen2"};
static const char *const hooking[] = {"lora:r=2,alpha=3,rslora=yes", "houlsby:width=3",  "prefix:tokens=3", "prompt:tokens=3",
                                      "ia3",                         "lora:r=2|prompt", "lora:r=2|bitfit", "prefix:tokens=2|bitfit:gains=no",
                                      "dora:r=2,alpha=3",            "dora:r=2|bitfit"};
enum { N_HOOKING = sizeof hooking / sizeof *hooking };

static void must(ot_status status, const ot_error *err) {
    if (status != OT_OK) fail_msg("%s", err->message);
}

static void refused(ot_status status, const ot_error *err, ot_status as, const char *says) {
    if (status != as || strstr(err->message, says) == NULL) fail_msg("status %d and \"%s\" instead of %d and \"...%s...\"", status, status == OT_OK ? "" : err->message, as, says);
}

static const char *model_dir(const char *family) {
    static char path[512];
    snprintf(path, sizeof path, TEST_DATA_DIR "/../golden/data/train/%s/model", family);
    return path;
}

static double loss_of(ot_model *m, const ot_hooks *hooks) {
    ot_error err = {0};
    ot_network *net = NULL;
    ot_network_options o = {.plan = {.backend = ot_backends[0], .compute = OT_F32, .max_rows = TOKENS, .max_targets = TOKENS},
                            .hooks = hooks,
                            .outputs = OT_OUT_LOSS,
                            .max_segments = 1};
    must(ot_network_new(m, &o, &net, &err), &err);
    int32_t ids[TOKENS], targets[TOKENS];
    ot_rng rng;
    ot_rng_seed(&rng, 5);
    for (int64_t i = 0; i < TOKENS; i++) ids[i] = 3 + (int32_t)ot_rng_below(&rng, (uint64_t)m->desc.vocab_size - 3);
    for (int64_t i = 0; i < TOKENS; i++) targets[i] = i + 1 < TOKENS ? ids[i + 1] : -1;
    must(ot_network_add(net, ids, NULL, targets, TOKENS, NULL, &err), &err);
    double loss = NAN;
    must(ot_network_run(net, &(ot_run_options){0}, &loss, &err), &err);
    ot_network_free(net);
    return loss;
}

/* The loss of the model at `path` with the adapter (NULL: without). */
static double loss_with(const char *path, const char *adapter) {
    ot_error err = {0};
    ot_model *m = tiny_open(path);
    ot_adapter a = {0};
    if (adapter != NULL) must(ot_adapter_open(adapter, m, &a, &err), &err);
    double loss = loss_of(m, adapter == NULL ? NULL : ot_adapter_hooks(&a));
    ot_adapter_close(&a);
    ot_model_close(m);
    return loss;
}

static ot_status open_adapter(const char *path, const char *adapter, ot_error *err) {
    ot_model *m = tiny_open(path);
    ot_adapter a = {0};
    ot_status status = ot_adapter_open(adapter, m, &a, err);
    if (status == OT_OK) ot_adapter_close(&a);
    ot_model_close(m);
    return status;
}

static void randomise(ot_peft *p, uint64_t seed) {
    ot_rng rng;
    ot_rng_seed(&rng, seed);
    for (int64_t i = 0; i < p->n_tensors; i++) {
        for (int64_t k = 0; k < p->tensors[i]->slot.rows * p->tensors[i]->slot.cols; k++) p->tensors[i]->values[k] = (float)(0.3 * ot_rng_normal(&rng));
    }
}

static void make_offer(const char *family, const char *dir) {
    ot_error err = {0};
    ot_model *m = tiny_open(model_dir(family));
    ot_split_options o = {.bottom = 1, .top = 1, .emulator = "layerdrop:keep=2", .own_dtype = true, .dtype = OT_F32};
    ot_split_summary summary;
    must(ot_split(m, dir, &o, &summary, &err), &err);
    ot_model_close(m);
}

/* Parameters of the model itself, which are not random. */
static void move_replaced(const ot_peft *p, const ot_trainables *t, float by) {
    for (int64_t i = p->n_tensors; i < t->n_items; i++) {
        for (int64_t k = 0; k < t->items[i].count; k++) t->master[t->items[i].offset + k] += by;
    }
}

/* A return of random tensors; its loss over the offer, as trained. */
static double make_seeded_return(const char *offer_dir, const char *dir, const char *method, uint64_t seed) {
    ot_error err = {0};
    ot_manifest offer;
    ot_model *m = tiny_open(offer_dir);
    ot_trainables t = {0};
    ot_peft p;
    bool tuned[MAX_LAYERS];
    must(ot_manifest_read(offer_dir, OT_BUNDLE_NONE, &offer, &err), &err);
    for (int64_t b = 0; b < m->desc.layers; b++) tuned[b] = b == 0 || b == m->desc.layers - 1;
    must(ot_peft_begin(&p, method, m, tuned, 1, &t, &err), &err);
    randomise(&p, seed);
    must(ot_trainables_bind(&t, OT_F32, false, &err), &err);
    move_replaced(&p, &t, 0.1F * (float)(seed - 2));
    double loss = loss_of(m, ot_peft_hooks(&p));
    ot_peft_settle(&p, &t);
    must(ot_make_dirs(dir, &err), &err);
    must(ot_return_write_peft(dir, &offer, &p, &t, NULL, &err), &err);
    ot_trainables_free(&t);
    ot_peft_end(&p);
    ot_model_close(m);
    ot_manifest_free(&offer);
    return loss;
}

static double make_return(const char *offer_dir, const char *dir, const char *method) { return make_seeded_return(offer_dir, dir, method, 3); }

/* dtype OT_DTYPE_COUNT: the model's own. */
static ot_status plug_as(const char *family, const char *back, const char *to, bool merge, ot_dtype dtype, ot_plug_summary *s, ot_error *err) {
    ot_model *m = tiny_open(model_dir(family));
    ot_plug_options o = {.own_dtype = dtype == OT_DTYPE_COUNT, .dtype = dtype, .merge = merge};
    ot_status status = ot_plug(m, back, to, &o, s, err);
    ot_model_close(m);
    return status;
}

static ot_status plug(const char *family, const char *back, const char *to, bool merge, ot_plug_summary *s, ot_error *err) {
    return plug_as(family, back, to, merge, OT_DTYPE_COUNT, s, err);
}

static void returns_become_adapters_of_the_whole_model(void **state) {
    (void)state;
    for (int f = 0; f < 2; f++) {
        scratch s;
        scratch_open(&s, TEST_BINARY_DIR);
        const char *offer = tiny_path(s.dir, "offer");
        make_offer(families[f], offer);
        for (int k = 0; k < N_HOOKING; k++) {
            ot_error err = {0};
            ot_plug_summary sum;
            offer = tiny_path(s.dir, "offer");
            const char *back = tiny_path(s.dir, "back"), *plugged = tiny_path(s.dir, "plugged");
            double trained = make_return(offer, back, hooking[k]);
            assert_true(loss_with(offer, back) == trained);
            assert_true(loss_with(offer, NULL) != trained);
            must(plug(families[f], back, plugged, false, &sum, &err), &err);
            assert_true(sum.adapter && !sum.merged && sum.tensors > 0);
            /* The adapter in the whole model's numbers is the return laid over the whole model. */
            double whole = loss_with(model_dir(families[f]), plugged);
            assert_true(whole == loss_with(model_dir(families[f]), back));
            assert_true(whole != loss_with(model_dir(families[f]), NULL));
            /* LoRA, DoRA, prompts and IA3 are PEFT's. */
            bool theirs = k == 0 || k == 3 || k == 4 || k == 8;
            assert_true(ot_path_exists(tiny_path(back, "adapter_config.json")) == theirs);
            assert_true(ot_path_exists(tiny_path(plugged, theirs ? "adapter_model.safetensors" : "adapter.safetensors")));
            /* A prompt belongs to no block, so it fits the offer too. */
            if (k != 3) refused(open_adapter(offer, plugged, &err), &err, OT_ERR_REFUSED, "");
            must(ot_remove_tree(back, &err), &err);
            must(ot_remove_tree(plugged, &err), &err);
        }
        scratch_close(&s);
    }
}

static void merging(void **state) {
    (void)state;
    for (int f = 0; f < 2; f++) {
        ot_error err = {0};
        ot_plug_summary sum;
        scratch s;
        scratch_open(&s, TEST_BINARY_DIR);
        const char *offer = tiny_path(s.dir, "offer"), *back = tiny_path(s.dir, "back"), *merged = tiny_path(s.dir, "merged");
        make_offer(families[f], offer);
        make_return(offer, back, hooking[0]);
        must(plug(families[f], back, merged, true, &sum, &err), &err);
        assert_true(sum.merged && !sum.adapter && sum.largest_change > 0.01);
        ot_model *m = tiny_open(merged);
        bool f32 = ot_model_dtype(m) == OT_F32;
        ot_model_close(m);
        assert_true(f32 ? sum.rounding_error == 0 : sum.rounding_error > 0);
        double over = loss_with(model_dir(families[f]), back), alone = loss_with(merged, NULL);
        assert_true(fabs(over - alone) < (f32 ? 1e-4 : 0.5) * fabs(over));
        must(ot_remove_tree(back, &err), &err);
        must(ot_remove_tree(merged, &err), &err);
        make_return(offer, back, hooking[1]);
        refused(plug(families[f], back, merged, true, &sum, &err), &err, OT_ERR_USAGE, "houlsby");
        assert_false(ot_path_exists(merged));
        scratch_close(&s);
    }
}

/* Of a stack the sum goes into the matrices and the replaced parameters beside them. The rounding error that is told is that of the bf16 written, computed here from the
 * same merge in F32. */
static void merging_stacks(void **state) {
    (void)state;
    for (int f = 0; f < 2; f++) {
        ot_error err = {0};
        ot_plug_summary sum;
        scratch s;
        scratch_open(&s, TEST_BINARY_DIR);
        const char *offer = tiny_path(s.dir, "offer"), *back = tiny_path(s.dir, "back"), *exact = tiny_path(s.dir, "exact"), *half = tiny_path(s.dir, "half");
        make_offer(families[f], offer);
        for (int k = 0; k < 2; k++) { /* of DoRA alone: the scaled matrices */
            make_return(offer, back, k == 0 ? "dora:r=2,alpha=3" : "dora:r=2,alpha=3|bitfit");
            must(plug_as(families[f], back, exact, true, OT_F32, &sum, &err), &err);
            double apart = loss_with(model_dir(families[f]), back), in_it = loss_with(exact, NULL);
            assert_true(sum.merged && fabs(apart - loss_with(model_dir(families[f]), NULL)) > 1e-3 && fabs(apart - in_it) < 1e-5 * fabs(apart));
            must(ot_remove_tree(back, &err), &err);
            must(ot_remove_tree(exact, &err), &err);
        }
        make_return(offer, back, "lora:r=2,alpha=3|bitfit");
        must(plug_as(families[f], back, exact, true, OT_F32, &sum, &err), &err);
        assert_true(sum.merged && !sum.adapter && sum.largest_change > 0.01 && sum.rounding_error == 0);
        double over = loss_with(model_dir(families[f]), back), alone = loss_with(exact, NULL);
        assert_true(fabs(over - loss_with(model_dir(families[f]), NULL)) > 1e-3);
        assert_true(fabs(over - alone) < 1e-5 * fabs(over));
        must(plug_as(families[f], back, half, true, OT_BF16, &sum, &err), &err);
        ot_model *before = tiny_open(model_dir(families[f])), *merged = tiny_open(exact), *rounded = tiny_open(half);
        double largest = 0;
        for (int64_t i = 0; i < merged->n_params; i++) {
            int64_t n = ot_param_elements(&merged->params[i]), different = 0;
            float *a = malloc((size_t)n * 4), *b = malloc((size_t)n * 4), *c = malloc((size_t)n * 4);
            assert_true(a != NULL && b != NULL && c != NULL);
            ot_param_read(&before->params[i], a);
            ot_param_read(&merged->params[i], b);
            ot_param_read(&rounded->params[i], c);
            for (int64_t k = 0; k < n; k++) different += a[k] != b[k];
            for (int64_t k = 0; k < n; k++) assert_true(c[k] == ot_bf16_to_f32(ot_f32_to_bf16(b[k])));
            for (int64_t k = 0; different > 0 && k < n; k++) largest = fmax(largest, fabs((double)b[k] - (double)c[k]));
            free(a);
            free(b);
            free(c);
        }
        assert_true(largest > 0 && fabs(sum.rounding_error - largest) < 1e-3 * largest);
        ot_model_close(before);
        ot_model_close(merged);
        ot_model_close(rounded);
        static const char *const unmerged[] = {"lora:r=2|prompt:tokens=2", "lora:r=2|ia3", "houlsby:width=2|bitfit"};
        for (size_t k = 0; k < sizeof unmerged / sizeof *unmerged; k++) {
            must(ot_remove_tree(back, &err), &err);
            make_return(offer, back, unmerged[k]);
            refused(plug(families[f], back, tiny_path(s.dir, "none"), true, &sum, &err), &err, OT_ERR_USAGE, unmerged[k]);
            assert_false(ot_path_exists(tiny_path(s.dir, "none")));
        }
        scratch_close(&s);
    }
}

/* What finetune writes: over the very model, every block. */
static void adapters_of_every_block(void **state) {
    (void)state;
    const struct {
        const char *method;
        ot_peft_form form;
    } rows[] = {{hooking[0], OT_PEFT_FORM_LORA},   {hooking[1], OT_PEFT_FORM_OWN}, {hooking[2], OT_PEFT_FORM_PREFIX}, {"bitfit", OT_PEFT_FORM_OWN},
                {hooking[3], OT_PEFT_FORM_PROMPT}, {"ia3", OT_PEFT_FORM_IA3},      {"lora:r=2|bitfit", OT_PEFT_FORM_OWN},
                {"lora:r=2|prompt", OT_PEFT_FORM_OWN}};
    for (int f = 0; f < 2; f++) {
        for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
            ot_error err = {0};
            scratch s;
            scratch_open(&s, TEST_BINARY_DIR);
            const char *dir = tiny_path(s.dir, "adapter");
            must(ot_make_dirs(dir, &err), &err);
            ot_model *m = tiny_open(model_dir(families[f]));
            bool tuned[MAX_LAYERS];
            for (int64_t b = 0; b < m->desc.layers; b++) tuned[b] = true;
            ot_peft p;
            ot_trainables t = {0};
            must(ot_peft_begin(&p, rows[k].method, m, tuned, 1, &t, &err), &err);
            randomise(&p, 3);
            must(ot_trainables_bind(&t, OT_F32, false, &err), &err);
            move_replaced(&p, &t, 0.1F);
            double trained = loss_of(m, ot_peft_hooks(&p));
            ot_peft_settle(&p, &t);
            ot_peft_form form = ot_peft_form_of(&p);
            assert_int_equal(form, rows[k].form);
            must(ot_peft_files_write(dir, &p, &t, form, NULL, &err), &err);
            ot_trainables_free(&t);
            ot_peft_end(&p);
            ot_model_close(m);
            assert_true(loss_with(model_dir(families[f]), dir) == trained);
            /* Of a prompt nothing but its width could be wrong. */
            if (rows[k].form != OT_PEFT_FORM_PROMPT) refused(open_adapter(model_dir(families[1 - f]), dir, &err), &err, OT_ERR_REFUSED, "");
            scratch_close(&s);
        }
    }
}

/* ==== PEFT's configurations. ==== */

static const char *write_lora(scratch *s, const char *config) {
    ot_error err = {0};
    const char *dir = tiny_path(s->dir, "peft");
    ot_model *m = tiny_open(model_dir("qwen2"));
    bool tuned[MAX_LAYERS] = {[1] = true, [2] = true};
    ot_peft p;
    ot_trainables t = {0};
    must(ot_make_dirs(dir, &err), &err);
    must(ot_peft_begin(&p, "lora:r=2,targets=q_proj,down_proj", m, tuned, 1, &t, &err), &err);
    randomise(&p, 3);
    must(ot_peft_files_write(dir, &p, NULL, OT_PEFT_FORM_LORA, NULL, &err), &err);
    if (config != NULL) tiny_text(tiny_path(dir, "adapter_config.json"), config);
    ot_trainables_free(&t);
    ot_peft_end(&p);
    ot_model_close(m);
    return dir;
}

#define LORA(more) "{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 32, \"layers_to_transform\": [1, 2]" more "}"
#define TARGETS ", \"target_modules\": [\"q_proj\", \"down_proj\"]"

static void peft_configurations(void **state) {
    (void)state;
    const struct {
        const char *config;
        ot_status status;
        const char *says; /* of a good one: "same" loss as with our own configuration, or "other" */
    } rows[] = {
        {LORA(TARGETS), OT_OK, "same"},
        {LORA(", \"target_modules\": [\"self_attn.q_proj\", \"mlp.down_proj\"]"), OT_OK, "same"},
        {LORA(", \"target_modules\": \"model\\\\.layers\\\\.\\\\d+\\\\..*\\\\.(q|down)_proj\""), OT_OK, "same"},
        {LORA(", \"target_modules\": \"all-linear\", \"exclude_modules\": \".*(k|v|o|gate|up)_proj\""), OT_OK, "same"},
        {LORA(TARGETS ", \"rank_pattern\": {\"o_proj\": 7}, \"alpha_pattern\": {}"), OT_OK, "same"},
        {LORA(TARGETS ", \"alpha_pattern\": {\"layers.1.self_attn.q_proj\": 5}"), OT_OK, "other"},
        {LORA(TARGETS ", \"use_rslora\": true"), OT_OK, "other"},
        {LORA(TARGETS ", \"rank_pattern\": {\"q_proj\": 3}"), OT_ERR_REFUSED, "shape"},
        {LORA(", \"target_modules\": [\"q_proj\", \"down_proj\", \"k_proj\"]"), OT_ERR_REFUSED, "k_proj.lora_A.weight"},
        {LORA(", \"target_modules\": [\"q_proj\"]"), OT_ERR_REFUSED, "down_proj"},
        {LORA(", \"target_modules\": [\"c_attn\"]"), OT_ERR_REFUSED, "names no linear"},
        {LORA(", \"target_modules\": \"(\""), OT_ERR_FORMAT, "no regular expression"},
        {LORA(", \"target_modules\": 7"), OT_ERR_FORMAT, "target_modules"},
        {LORA(TARGETS ", \"use_dora\": true"), OT_ERR_REFUSED, "q_proj.lora_magnitude_vector"},
        {LORA(TARGETS ", \"use_dora\": 3"), OT_ERR_FORMAT, "use_dora"},
        {LORA(TARGETS ", \"bias\": \"all\""), OT_ERR_UNSUPPORTED, "bias"},
        {LORA(TARGETS ", \"modules_to_save\": [\"lm_head\"]"), OT_ERR_UNSUPPORTED, "modules_to_save"},
        {LORA(TARGETS ", \"lora_alpha\": 3"), OT_ERR_FORMAT, ""},
        {"{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 32" TARGETS "}", OT_ERR_REFUSED, "layers.0"},
        {"{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 32, \"layers_to_transform\": [1, 99]" TARGETS "}", OT_ERR_REFUSED, "block 99"},
        {"{\"peft_type\": \"LORA\", \"r\": 1e9, \"lora_alpha\": 32, \"layers_to_transform\": [1, 2]" TARGETS "}", OT_ERR_REFUSED, "rank"},
        {"{\"peft_type\": \"ADALORA\"}", OT_ERR_UNSUPPORTED, "ADALORA"},
        {"{\"peft_type\": \"IA3\"}", OT_ERR_REFUSED, "names no linear"},
        {"{\"peft_type\": \"IA3\", \"target_modules\": [\"k_proj\"]}", OT_ERR_FORMAT, "feedforward_modules"},
        {"{\"peft_type\": \"IA3\", \"target_modules\": [\"k_proj\"], \"feedforward_modules\": [3]}", OT_ERR_FORMAT, "feedforward_modules"},
        {"{\"peft_type\": \"IA3\", \"target_modules\": [\"k_proj\"], \"feedforward_modules\": []}", OT_ERR_REFUSED, "k_proj.ia3_l"},
        {"{\"peft_type\": \"IA3\", \"modules_to_save\": [\"lm_head\"]}", OT_ERR_UNSUPPORTED, "modules_to_save"},
        {"{\"peft_type\": \"PROMPT_TUNING\", \"num_virtual_tokens\": 3}", OT_ERR_REFUSED, "prompt_embeddings"},
        {"{\"peft_type\": \"PROMPT_TUNING\", \"num_virtual_tokens\": 3, \"num_transformer_submodules\": 2}", OT_ERR_UNSUPPORTED, "submodules"},
        {"{\"peft_type\": \"PREFIX_TUNING\", \"num_virtual_tokens\": 3}", OT_ERR_REFUSED, "prompt_embeddings"},
        {"{\"r\": 2}", OT_ERR_FORMAT, "peft_type"},
        {"{\"peft_type\": \"OFFSITE\"}", OT_ERR_IO, "adapter.safetensors"},
        {"[]", OT_ERR_FORMAT, ""},
    };
    scratch s;
    scratch_open(&s, TEST_BINARY_DIR);
    double expected = loss_with(model_dir("qwen2"), write_lora(&s, NULL));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ot_error err = {0};
        const char *dir = write_lora(&s, rows[i].config);
        ot_status status = open_adapter(model_dir("qwen2"), dir, &err);
        if (status != rows[i].status || (status != OT_OK && strstr(err.message, rows[i].says) == NULL)) {
            fail_msg("%s: status %d, \"%s\"", rows[i].config, status, err.message);
        }
        if (status != OT_OK) continue;
        bool same = loss_with(model_dir("qwen2"), dir) == expected;
        if (same != (strcmp(rows[i].says, "same") == 0)) fail_msg("%s: the loss is %s", rows[i].config, same ? "the same" : "another");
    }
    scratch_close(&s);
}

/* ==== Returns that were tampered with. ==== */

/* manifest.json with another method text. */
static void set_method(const char *dir, const char *method) {
    ot_error err = {0};
    ot_manifest m;
    must(ot_manifest_read(dir, OT_BUNDLE_NONE, &m, &err), &err);
    snprintf(m.method, sizeof m.method, "%s", method);
    must(ot_manifest_write(&m, dir, &err), &err);
    ot_manifest_free(&m);
}

static void bad_returns_are_refused(void **state) {
    (void)state;
    const struct {
        const char *method, *says;
    } rows[] = {{"lora:r=3", "shape"},        {"lora:r=2,targets=q_proj", "no linear"}, {"lora:r=2,targets=c_attn", "does not belong"},
                {"lora:r=100000", "method"}, {"nonsense", "method"},                   {"houlsby:width=3", "adapter.safetensors"}};
    scratch s;
    scratch_open(&s, TEST_BINARY_DIR);
    const char *offer = tiny_path(s.dir, "offer"), *back = tiny_path(s.dir, "back"), *other = tiny_path(s.dir, "other"), *out = tiny_path(s.dir, "out");
    make_offer("gpt2", offer);
    make_offer("qwen2", other);
    make_return(offer, back, "lora:r=2");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ot_error err = {0};
        ot_plug_summary sum;
        set_method(back, rows[i].method);
        ot_status status = plug("gpt2", back, out, false, &sum, &err);
        if (status != OT_ERR_REFUSED && status != OT_ERR_IO) fail_msg("%s: status %d", rows[i].method, status);
        if (strstr(err.message, rows[i].says) == NULL) fail_msg("%s: \"%s\"", rows[i].method, err.message);
        assert_false(ot_path_exists(out));
    }
    set_method(back, "lora:r=2");
    ot_error err = {0};
    ot_plug_summary sum;
    refused(open_adapter(other, back, &err), &err, OT_ERR_REFUSED, "");
    refused(plug("qwen2", back, out, false, &sum, &err), &err, OT_ERR_REFUSED, "");

    /* One byte of a tensor. */
    int64_t size = 0;
    const char *file = tiny_path(back, "adapter_model.safetensors");
    char *bytes = tiny_read(file, &size);
    bytes[size - 2] ^= 1;
    must(ot_write_file(file, bytes, size, &err), &err);
    free(bytes);
    refused(plug("gpt2", back, out, false, &sum, &err), &err, OT_ERR_REFUSED, "SHA-256");
    refused(open_adapter(offer, back, &err), &err, OT_ERR_REFUSED, "SHA-256");
    scratch_close(&s);
}

/* ==== Several returns. ==== */

static ot_status plug_two(const char *family, const char *const dirs[2], const double *weights, const char *to, bool merge, ot_error *err) {
    ot_model *m = tiny_open(model_dir(family));
    ot_plug_summary sum;
    ot_plug_options o = {.dtype = OT_F32, .merge = merge, .more = dirs + 1, .n_more = dirs[1] == NULL ? 0 : 1, .weights = weights};
    ot_status status = ot_plug(m, dirs[0], to, &o, &sum, err);
    ot_model_close(m);
    return status;
}

/* All parameters of `mean` are w * those of a + (1 - w) * those of b; some of a and b differ. */
static void check_mean(const char *mean, const char *a, const char *b, double w) {
    ot_model *ms[3] = {tiny_open(mean), tiny_open(a), tiny_open(b)};
    int64_t differing = 0;
    for (int64_t i = 0; i < ms[0]->n_params; i++) {
        int64_t n = ot_param_elements(&ms[0]->params[i]);
        float *v[3];
        for (int k = 0; k < 3; k++) {
            assert_non_null(v[k] = malloc((size_t)n * sizeof(float)));
            ot_param_read(&ms[k]->params[i], v[k]);
        }
        for (int64_t e = 0; e < n; e++) {
            double want = w * (double)v[1][e] + (1 - w) * (double)v[2][e];
            differing += v[1][e] != v[2][e];
            if (fabs(want - (double)v[0][e]) > 1e-6 * (1 + fabs(want))) fail_msg("%s[%d] is %g, not %g", ms[0]->params[i].name, (int)e, (double)v[0][e], want);
        }
        for (int k = 0; k < 3; k++) free(v[k]);
    }
    if (differing < 20) fail_msg("%d values differ between the returns", (int)differing);
    for (int k = 0; k < 3; k++) ot_model_close(ms[k]);
}

static void returns_are_averaged(void **state) {
    (void)state;
    const char *const methods[] = {"full", "bitfit", "lora:r=2,alpha=3,rslora=yes"};
    const double weights[] = {3, 1};
    for (int f = 0; f < 2; f++) {
        for (int k = 0; k < 3; k++) {
            ot_error err = {0};
            scratch s;
            scratch_open(&s, TEST_BINARY_DIR);
            const char *offer = tiny_path(s.dir, "offer"), *one = tiny_path(s.dir, "one"), *two = tiny_path(s.dir, "two");
            const char *plugged_one = tiny_path(s.dir, "plugged-one"), *plugged_two = tiny_path(s.dir, "plugged-two"), *mean = tiny_path(s.dir, "mean");
            const char *adapter = tiny_path(s.dir, "adapter");
            make_offer(families[f], offer);
            make_seeded_return(offer, one, methods[k], 3);
            /* Scales may differ: what is averaged is what the matrices do. */
            make_seeded_return(offer, two, k == 2 ? "lora:r=2,alpha=5" : methods[k], 6);
            const char *both[] = {one, two}, *first[] = {one, NULL}, *second[] = {two, NULL};
            must(plug_two(families[f], first, NULL, plugged_one, k == 2, &err), &err);
            must(plug_two(families[f], second, NULL, plugged_two, k == 2, &err), &err);
            must(plug_two(families[f], both, weights, mean, k == 2, &err), &err);
            check_mean(mean, plugged_one, plugged_two, 0.75);
            must(ot_remove_tree(mean, &err), &err);
            must(plug_two(families[f], both, NULL, mean, k == 2, &err), &err);
            check_mean(mean, plugged_one, plugged_two, 0.5);
            if (k == 2) {
                must(plug_two(families[f], both, NULL, adapter, false, &err), &err);
                double apart = loss_with(model_dir(families[f]), adapter), merged = loss_with(mean, NULL);
                assert_true(fabs(apart - merged) < 1e-4 * fabs(merged));
            }
            scratch_close(&s);
        }
    }
}

static void unlike_returns_are_not_averaged(void **state) {
    (void)state;
    scratch s;
    scratch_open(&s, TEST_BINARY_DIR);
    char offer[2100], other[2100], out[2100], one[2100], two[2100];
    snprintf(offer, sizeof offer, "%s/offer", s.dir);
    snprintf(other, sizeof other, "%s/other", s.dir);
    snprintf(out, sizeof out, "%s/out", s.dir);
    make_offer("gpt2", offer);
    make_offer("qwen2", other);
    const struct {
        const char *offer, *first, *second, *says;
        double weights[2];
        ot_status status;
    } rows[] = {{other, "lora:r=2", "lora:r=2", "for offer", {1, 1}, OT_ERR_REFUSED},
                {offer, "lora:r=2", "full", "of the method full", {1, 1}, OT_ERR_REFUSED},
                {offer, "lora:r=2", "lora:r=3", "shape", {1, 1}, OT_ERR_REFUSED},
                {offer, "lora:r=2", "lora:r=2,targets=c_attn", "lacks tensor", {1, 1}, OT_ERR_REFUSED},
                {offer, "lora:r=2,targets=c_attn", "lora:r=2", "tensors, but the first", {1, 1}, OT_ERR_REFUSED},
                {offer, "houlsby:width=3", "houlsby:width=3", "houlsby cannot be averaged", {1, 1}, OT_ERR_REFUSED},
                {offer, "prefix:tokens=3", "prefix:tokens=3", "prefix cannot be averaged", {1, 1}, OT_ERR_REFUSED},
                {offer, "lora:r=2", "lora:r=2", "add up to 0", {0, 0}, OT_ERR_USAGE},
                {offer, "lora:r=2", "lora:r=2", "is no weight", {2, -1}, OT_ERR_USAGE}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ot_error err = {0};
        snprintf(one, sizeof one, "%s/one-%d", s.dir, (int)i);
        snprintf(two, sizeof two, "%s/two-%d", s.dir, (int)i);
        make_return(offer, one, rows[i].first);
        make_return(rows[i].offer, two, rows[i].second);
        const char *both[] = {one, two};
        refused(plug_two("gpt2", both, rows[i].weights, out, false, &err), &err, rows[i].status, rows[i].says);
        assert_false(ot_path_exists(out));
    }
    scratch_close(&s);
}

/* ==== First values from a file. ==== */

static void first_values_from_a_file(void **state) {
    (void)state;
    ot_error err = {0};
    scratch s;
    scratch_open(&s, TEST_BINARY_DIR);
    const char *path = tiny_path(s.dir, "first.safetensors");
    ot_model *m = tiny_open(model_dir("gpt2"));
    int64_t kv = m->desc.kv_heads, d = m->desc.head_dim, n = 2 * kv * d;
    float *values = malloc((size_t)n * sizeof *values);
    assert_non_null(values);
    for (int64_t i = 0; i < n; i++) values[i] = (float)i;
    bool tuned[MAX_LAYERS] = {[3] = true};
    const struct {
        const char *key, *value, *extra;
        int64_t heads;
        float spoil;
        const char *says; /* NULL: read */
    } rows[] = {{"3.key", "3.value", NULL, 0, 0, NULL},
                {"3.key", "4.value", NULL, 0, 0, "3.value"},
                {"3.key", "3.value", "2.key", 0, 0, "2.key"},
                {"3.key", "3.value", NULL, 1, 0, "shape"},
                {"3.key", "3.value", NULL, 0, NAN, "nan"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        values[1] = 1 + rows[i].spoil;
        int64_t h = rows[i].heads > 0 ? rows[i].heads : kv;
        ot_tensor t = {.name = rows[i].key, .dtype = OT_F32, .n_dims = 3, .shape = {2, h, kv * d / h}, .bytes = n * 4, .data = values};
        ot_tensor all[3] = {t, t, t};
        all[1].name = rows[i].value;
        all[2].name = rows[i].extra;
        tiny_write(path, all, rows[i].extra == NULL ? 2 : 3);
        ot_safetensors *st = NULL;
        ot_peft p;
        must(ot_safetensors_open(path, &st, &err), &err);
        must(ot_peft_attach(&p, "prefix:tokens=2", m, tuned, &err), &err);
        ot_status status = ot_peft_load(&p, st, "", NULL, NULL, &err);
        if (rows[i].says == NULL) {
            must(status, &err);
            assert_memory_equal(p.tensors[0]->values, values, (size_t)n * 4);
        } else {
            refused(status, &err, OT_ERR_REFUSED, rows[i].says);
        }
        ot_peft_end(&p);
        ot_safetensors_close(st);
    }
    free(values);
    ot_model_close(m);
    scratch_close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(returns_become_adapters_of_the_whole_model),
        cmocka_unit_test(merging),
        cmocka_unit_test(merging_stacks),
        cmocka_unit_test(returns_are_averaged),
        cmocka_unit_test(unlike_returns_are_not_averaged),
        cmocka_unit_test(adapters_of_every_block),
        cmocka_unit_test(peft_configurations),
        cmocka_unit_test(bad_returns_are_refused),
        cmocka_unit_test(first_values_from_a_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
