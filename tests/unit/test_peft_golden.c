/* Soft prompts, IA3 and DoRA against the real PEFT: its files are opened, and logits, gradients, six steps of AdamW with their losses and the values after
 * them are PEFT's; LoRA's and DoRA's steps with dropout too, for which PEFT was given this program's masks. tools/make_peft_goldens.py made tests/data/peft. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/adapter.h"
#include "protocol/peft_files.h"
#include "train/dataset.h"

enum { ROWS = 2, TOKENS = 9, STEPS = 6 };

static const char *const models[] = {"gpt2", "opt", "bloom", "llama", "qwen3"};
static const struct {
    const char *name, *text;
    uint64_t dropout_seed; /* of the first step; each further one counts on. 0: no dropout */
} methods[] = {{"prompt", "prompt:tokens=4", 0},
               {"ia3", "ia3", 0},
               {"dora", "dora:r=2,alpha=5,dropout=0", 0},
               {"lora-dropout", "lora:r=2,alpha=5,dropout=0.25", 23},
               {"dora-dropout", "dora:r=2,alpha=5,dropout=0.25", 23}};
enum { MODELS = sizeof models / sizeof *models, METHODS = sizeof methods / sizeof *methods };

static void must(ot_status status, const ot_error *err) {
    if (status != OT_OK) fail_msg("%s", err->message);
}

static const char *file_of(int model, int method, const char *file) {
    static char path[512];
    snprintf(path, sizeof path, TEST_DATA_DIR "/peft/%s-%s/%s", models[model], methods[method].name, file);
    return path;
}

static ot_model *open_model(int model) {
    char path[512];
    ot_model *m = NULL;
    ot_error err = {0};
    snprintf(path, sizeof path, TEST_DATA_DIR "/../golden/data/models/%s", models[model]);
    must(ot_model_open(path, OT_F32, &m, &err), &err);
    return m;
}

static ot_safetensors *open_tensors(int model, int method, const char *file) {
    ot_safetensors *st = NULL;
    ot_error err = {0};
    must(ot_safetensors_open(file_of(model, method, file), &st, &err), &err);
    return st;
}

static void close_to(const ot_safetensors *st, const char *prefix, const char *name, const float *ours, int64_t n, double bar) {
    char full[512];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    const ot_tensor *t = ot_safetensors_find(st, full);
    if (t == NULL || ot_tensor_elements(t) != n) fail_msg("%s: no tensor %s of %lld values", ot_safetensors_path(st), full, (long long)n);
    double largest = 0, off = 0;
    for (int64_t i = 0; i < n; i++) {
        float v;
        memcpy(&v, (const char *)t->data + i * 4, 4);
        largest = fmax(largest, fabs((double)v));
        off = fmax(off, fabs((double)v - (double)ours[i]));
    }
    if (!(off <= bar * largest) || largest == 0) fail_msg("%s: %s is off by %g of %g", ot_safetensors_path(st), full, off, largest);
}

static ot_network *network(const ot_model *m, const ot_hooks *hooks, unsigned outputs, bool train) {
    ot_network *net = NULL;
    ot_error err = {0};
    /* Rows are counted without virtual tokens; a prompt's first targets are among the targets. */
    ot_network_options o = {
        .plan = {.backend = ot_backends[0], .compute = OT_F32, .max_rows = ROWS * TOKENS, .max_targets = ROWS * TOKENS, .train = train},
        .hooks = hooks,
        .outputs = outputs,
        .max_segments = ROWS};
    must(ot_network_new(m, &o, &net, &err), &err);
    return net;
}

static ot_dataset rows_of(int model, int method, const ot_model *m, const ot_hooks *hooks) {
    ot_dataset d = {0};
    ot_error err = {0};
    must(ot_dataset_open(file_of(model, method, "expected.safetensors"), NULL, TOKENS, m->desc.vocab_size, 0, &d, &err), &err);
    int64_t before = ot_dataset_targets(&d);
    if (ot_hooks_virtual(hooks) > 0) {
        ot_dataset_count_firsts(&d);
        ot_dataset_count_firsts(&d);
        /* The second row begins with padding. */
        assert_int_equal(ot_dataset_targets(&d), before + 1);
    }
    return d;
}

static void fill(ot_network *net, const ot_dataset *d) {
    ot_error err = {0};
    ot_network_clear(net);
    for (int64_t r = 0; r < ROWS; r++) must(ot_dataset_add_row(net, d, r, &err), &err);
    assert_int_equal(ot_network_targets(net), ot_dataset_targets(d));
    assert_int_equal(ot_network_rows(net), ROWS * TOKENS - 2);
}

static void check_logits(int model, int method) {
    ot_error err = {0};
    ot_adapter a;
    ot_model *m = open_model(model);
    char dir[512];
    snprintf(dir, sizeof dir, TEST_DATA_DIR "/peft/%s-%s", models[model], methods[method].name);
    must(ot_adapter_open(dir, m, &a, &err), &err);
    ot_dataset d = rows_of(model, method, m, ot_adapter_hooks(&a));
    ot_network *net = network(m, ot_adapter_hooks(&a), OT_OUT_LOGITS, false);
    fill(net, &d);
    must(ot_network_run(net, &(ot_run_options){0}, NULL, &err), &err);
    int64_t vocab = m->desc.vocab_size;
    float *logits = calloc((size_t)(ROWS * TOKENS * vocab), sizeof *logits);
    assert_non_null(logits);
    for (int64_t b = 0; b < ROWS; b++) {
        for (int64_t t = 0; t < TOKENS; t++) {
            int64_t r = ot_network_row_of(net, b, t);
            if (r >= 0) memcpy(logits + (b * TOKENS + t) * vocab, (const float *)ot_network_logits(net) + r * vocab, (size_t)vocab * sizeof *logits);
        }
    }
    ot_safetensors *st = open_tensors(model, method, "expected.safetensors");
    close_to(st, "", "logits", logits, ROWS * TOKENS * vocab, 2e-6);
    ot_safetensors_close(st);
    free(logits);
    ot_network_free(net);
    ot_dataset_free(&d);
    ot_adapter_close(&a);
    ot_model_close(m);
}

static void check_training(int model, int method) {
    ot_error err = {0};
    ot_peft p;
    ot_trainables t = {0};
    ot_model *m = open_model(model);
    bool tuned[64];
    memset(tuned, true, sizeof tuned);
    must(ot_peft_begin(&p, methods[method].text, m, tuned, 1, &t, &err), &err);
    const char *prefix = ot_peft_form_prefix(ot_peft_form_of(&p));
    ot_safetensors *first = open_tensors(model, method, "adapter_model.safetensors"), *st = open_tensors(model, method, "expected.safetensors");
    must(ot_peft_load(&p, first, prefix, NULL, NULL, &err), &err);
    must(ot_trainables_bind(&t, OT_F32, false, &err), &err);
    ot_dataset d = rows_of(model, method, m, ot_peft_hooks(&p));
    ot_network *net = network(m, ot_peft_hooks(&p), OT_OUT_LOSS, true);
    float losses[STEPS];
    char of_grad[64], of_final[64];
    snprintf(of_grad, sizeof of_grad, "grad.%s", prefix);
    snprintf(of_final, sizeof of_final, "final.%s", prefix);
    for (int step = 0; step < STEPS; step++) {
        double sum = 0;
        fill(net, &d);
        must(ot_network_run(net, &(ot_run_options){.dropout_seed = methods[method].dropout_seed + (uint64_t)step}, &sum, &err), &err);
        losses[step] = (float)(sum / (double)ot_network_targets(net));
        for (int64_t i = 0; step == 0 && i < t.n_items; i++) {
            close_to(st, of_grad, t.items[i].name, t.grad + t.items[i].offset, t.items[i].count, 1e-5);
        }
        ot_trainables_update(&t, &(ot_update){.lr = 3e-2, .decay = 0.01, .step = step + 1, .grad_scale = 1});
    }
    close_to(st, "", "losses", losses, STEPS, 1e-5);
    for (int64_t i = 0; i < t.n_items; i++) close_to(st, of_final, t.items[i].name, t.master + t.items[i].offset, t.items[i].count, 1e-4);
    ot_safetensors_close(st);
    ot_safetensors_close(first);
    ot_network_free(net);
    ot_dataset_free(&d);
    ot_trainables_free(&t);
    ot_peft_end(&p);
    ot_model_close(m);
}

static void logits_are_pefts(void **state) {
    (void)state;
    for (int m = 0; m < MODELS; m++) {
        for (int k = 0; k < METHODS; k++) {
            if (methods[k].dropout_seed == 0) check_logits(m, k);
        }
    }
}

static void training_is_pefts(void **state) {
    (void)state;
    for (int m = 0; m < MODELS; m++) {
        for (int k = 0; k < METHODS; k++) {
            bool made = methods[k].dropout_seed == 0 || strcmp(models[m], "gpt2") == 0 || strcmp(models[m], "llama") == 0;
            if (made) check_training(m, k);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_pefts),
        cmocka_unit_test(training_is_pefts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
