/* emulator/: layer-drop indices, pruning, fake quantization, distillation. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "golden.h"

static bool starts(const char *text, const char *prefix) { return strncmp(text, prefix, strlen(prefix)) == 0; }

static void make_dir(gold_run *run, gold_path dir, const char *suffix) {
    gold_temp(run, dir, suffix);
    ot_error err = {0};
    if (ot_make_dirs(dir, &err) != OT_OK) gold_die("%s", err.message);
}

/* ---- layer-drop ---- */

/* Would another order of operations or another rounding give other indices? Those pairs are always run. */
static bool telling(int64_t n_mid, int64_t keep) {
    double stride = (double)(n_mid - 1) / (double)(keep - 1);
    for (int64_t i = 0; i < keep; i++) {
        double right = nearbyint((double)i * stride);
        if (right != round((double)i * stride) || right != nearbyint((double)(i * (n_mid - 1)) / (double)(keep - 1))) return true;
    }
    return false;
}

static void layerdrop_pair(gold_run *run, gold_check *check, const json_t *pair) {
    int64_t n_mid = json_integer_value(json_object_get(pair, "n_mid")), keep = json_integer_value(json_object_get(pair, "keep"));
    const json_t *indices = json_object_get(pair, "indices");
    gold_path config;
    char text[512], emulator[64];
    gold_temp(run, config, ".json");
    snprintf(text, sizeof text,
             "{\"architectures\": [\"GPT2LMHeadModel\"], \"model_type\": \"gpt2\", \"n_embd\": 8, \"n_head\": 2, \"n_layer\": %lld, "
             "\"n_positions\": 16, \"vocab_size\": 11}\n",
             (long long)n_mid + 4);
    gold_write_text(config, text);
    snprintf(emulator, sizeof emulator, "layerdrop:keep=%lld", (long long)keep);
    gold_args args = {0};
    gold_arg(&args, "inspect", config, "--json", "--bottom", "2", "--top", "2", "--emulator", emulator, NULL);
    gold_result result = gold_exec(run, &args, NULL);
    char why[GOLD_TEXT] = "";
    json_t *out = result.code == 0 ? gold_json(result.out, why) : NULL;
    const json_t *kept = json_object_get(json_object_get(out, "split"), "kept");
    if (!out) {
        gold_fail(check, "%s %s", result.text, why);
    } else if (json_array_size(kept) != json_array_size(indices)) {
        gold_fail(check, "%lld of %lld: split.kept has %zu entries", (long long)keep, (long long)n_mid, json_array_size(kept));
    } else {
        for (size_t i = 0; i < json_array_size(indices); i++) {
            int64_t expected = 2 + json_integer_value(json_array_get(indices, i)), got = json_integer_value(json_array_get(kept, i));
            if (got != expected) {
                gold_fail(check, "%lld of %lld: entry %zu is %lld, expected %lld", (long long)keep, (long long)n_mid, i, (long long)got,
                          (long long)expected);
            }
        }
        gold_judge(check, "split.kept", 0, 0, 0);
    }
    json_decref(out);
}

static void layerdrop(gold_run *run) {
    gold_path path;
    char why[GOLD_TEXT];
    gold_join(path, "%s/emulator/layerdrop.json", run->root);
    if (!gold_exists("%s", path) || !gold_wanted(run, "emulator/layerdrop")) return;
    json_t *pairs = gold_json(path, why);
    if (!pairs) gold_die("%s", why);
    gold_check *check = gold_check_add(run, "emulator/layerdrop");
    for (size_t i = 0; i < json_array_size(pairs) && !check->failed; i++) {
        const json_t *pair = json_array_get(pairs, i);
        int64_t n_mid = json_integer_value(json_object_get(pair, "n_mid")), keep = json_integer_value(json_object_get(pair, "keep"));
        if (run->all || i % 16 == 0 || telling(n_mid, keep)) layerdrop_pair(run, check, pair);
    }
    json_decref(pairs);

    static const struct {
        const char *name, *emulator, *word; /* the message has to have this word: for a wrong one, the nearest known */
    } refused[] = {{"keep_zero", "layerdrop:keep=0", "keep"}, {"keep_too_many", "layerdrop:keep=9", "keep"},
                   {"unknown_key", "layerdrop:kep=3", "keep"}, {"unknown_step", "layerdorp:keep=3", "layerdrop"}};
    gold_temp(run, path, ".json");
    gold_write_text(path, "{\"architectures\": [\"GPT2LMHeadModel\"], \"model_type\": \"gpt2\", \"n_embd\": 8, \"n_head\": 2, \"n_layer\": 12, "
                          "\"n_positions\": 16, \"vocab_size\": 11}\n");
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        gold_args args = {0};
        gold_arg(&args, "inspect", path, "--json", "--bottom", "2", "--top", "2", "--emulator", refused[i].emulator, NULL);
        gold_result result = gold_exec(run, &args, NULL);
        check = gold_check_add(run, "emulator/refused/%s", refused[i].name);
        if (result.code == 2 && strstr(result.text, ": offsite: ") && strstr(result.text, refused[i].word)) gold_judge(check, "refused", 0, 0, 0);
        else gold_fail(check, "expected exit 2 and a line with \"%s\"; %s", refused[i].word, result.text);
    }
}

/* ---- pruning and fake quantization, on matrices inside a made-up model ---- */

static float filler(uint32_t *state) {
    *state = *state * 1664525U + 1013904223U;
    return ((float)(*state >> 8) / 8388608.0F - 1.0F) * 0.1F;
}

/* A llama of three blocks whose middle one holds `gate` as gate_proj and `up` as up_proj (of one shape). */
static void write_host(gold_run *run, gold_path dir, const ot_tensor *gate, const ot_tensor *up) {
    enum { BLOCKS = 3, VOCAB = 11, WIDTH = 4, PER_BLOCK = 9, TOTAL = BLOCKS * PER_BLOCK + 3 };
    const int64_t inner = gate->shape[0], dim = gate->shape[1];
    const struct {
        const char *name;
        int64_t rows, columns; /* columns 0: a vector */
    } parts[PER_BLOCK] = {{"input_layernorm", dim, 0}, {"self_attn.q_proj", WIDTH, dim}, {"self_attn.k_proj", WIDTH, dim},
                          {"self_attn.v_proj", WIDTH, dim}, {"self_attn.o_proj", dim, WIDTH}, {"post_attention_layernorm", dim, 0},
                          {"mlp.gate_proj", inner, dim}, {"mlp.up_proj", inner, dim}, {"mlp.down_proj", dim, inner}};
    char names[TOTAL][96];
    ot_tensor tensors[TOTAL];
    float *values[TOTAL];
    uint32_t state = 7;
    for (int i = 0; i < TOTAL; i++) {
        int64_t rows, columns;
        int block = i / PER_BLOCK;
        if (block < BLOCKS) {
            snprintf(names[i], sizeof names[i], "model.layers.%d.%s.weight", block, parts[i % PER_BLOCK].name);
            rows = parts[i % PER_BLOCK].rows;
            columns = parts[i % PER_BLOCK].columns;
        } else {
            static const char *const outer[] = {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"};
            int k = i - BLOCKS * PER_BLOCK;
            snprintf(names[i], sizeof names[i], "%s", outer[k]);
            rows = k == 1 ? dim : VOCAB;
            columns = k == 1 ? 0 : dim;
        }
        int64_t n = rows * (columns ? columns : 1);
        if (!(values[i] = malloc((size_t)n * sizeof **values))) gold_die("out of memory");
        for (int64_t e = 0; e < n; e++) values[i][e] = (columns ? 0.0F : 1.0F) + filler(&state);
        const ot_tensor *given = strcmp(names[i], "model.layers.1.mlp.gate_proj.weight") == 0 ? gate
                                 : strcmp(names[i], "model.layers.1.mlp.up_proj.weight") == 0 ? up : NULL;
        if (given) memcpy(values[i], given->data, (size_t)given->bytes);
        tensors[i] = gold_view(names[i], OT_F32, values[i], columns ? 2 : 1, (int64_t[]){rows, columns});
    }
    make_dir(run, dir, ".host");
    gold_path path;
    gold_join(path, "%s/model.safetensors", dir);
    gold_write_tensors(path, tensors, TOTAL);
    for (int i = 0; i < TOTAL; i++) free(values[i]);
    char text[768];
    snprintf(text, sizeof text,
             "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"hidden_size\": %lld, \"intermediate_size\": %lld, "
             "\"num_hidden_layers\": 3, \"num_attention_heads\": 1, \"num_key_value_heads\": 1, \"head_dim\": 4, \"vocab_size\": 11, "
             "\"max_position_embeddings\": 16, \"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0, \"tie_word_embeddings\": false, "
             "\"hidden_act\": \"silu\", \"torch_dtype\": \"float32\"}\n",
             (long long)dim, (long long)inner);
    gold_join(path, "%s/config.json", dir);
    gold_write_text(path, text);
}

/* The offer's middle block after this emulator string, or NULL with why. */
static ot_safetensors *emulate(gold_run *run, const char *host, const char *emulator, char *why) {
    gold_path offer, path;
    gold_temp(run, offer, ".offer");
    gold_args args = {0};
    gold_arg(&args, "split", host, "-o", offer, "--bottom", "1", "--top", "1", "--emulator", emulator, NULL);
    gold_result result = gold_exec(run, &args, NULL);
    if (result.code != 0) {
        snprintf(why, GOLD_TEXT, "%.*s", GOLD_TEXT - 1, result.text);
        return NULL;
    }
    gold_join(path, "%s/model.safetensors", offer);
    return gold_open(path, why);
}

static const ot_tensor *named(const ot_safetensors *st, const char *a, const char *b) {
    char name[GOLD_TEXT];
    snprintf(name, sizeof name, "%s%s", a, b);
    const ot_tensor *t = ot_safetensors_find(st, name);
    if (!t) gold_die("%s lacks %s", ot_safetensors_path(st), name);
    return t;
}

static void prune(gold_run *run) {
    gold_path path, host;
    gold_join(path, "%s/emulator/prune.safetensors", run->root);
    if (!gold_exists("%s", path) || !gold_wanted(run, "emulator/prune")) return;
    ot_safetensors *golden = gold_open_fixture(path);
    write_host(run, host, named(golden, "weight", ""), named(golden, "tied", ""));
    gold_check *check = gold_check_add(run, "emulator/prune");
    const gold_options exact = {.bar = GOLD_EXACT};
    for (int tenth = 1; tenth < 10; tenth++) {
        char emulator[64], suffix[8], why[GOLD_TEXT] = "";
        snprintf(emulator, sizeof emulator, "prune:ratio=0.%d", tenth);
        snprintf(suffix, sizeof suffix, ".0.%d", tenth);
        ot_safetensors *out = emulate(run, host, emulator, why);
        if (!out) {
            gold_fail(check, "%s", why);
            break;
        }
        gold_compare(check, "weight", named(golden, "weight", suffix), ot_safetensors_find(out, "model.layers.1.mlp.gate_proj.weight"), &exact);
        gold_compare(check, "tied", named(golden, "tied", suffix), ot_safetensors_find(out, "model.layers.1.mlp.up_proj.weight"), &exact);
        ot_safetensors_close(out);
    }
    ot_safetensors_close(golden);
}

static void fake_quantize(gold_run *run) {
    gold_path path, host;
    gold_join(path, "%s/emulator/quantize.safetensors", run->root);
    if (!gold_exists("%s", path) || !gold_wanted(run, "emulator/fakequant")) return;
    ot_safetensors *golden = gold_open_fixture(path);
    static const char *const names[] = {"weight", "shifted"};
    const gold_options how = {.bar = {1e-7, 0, 0}, .tight = {1e-7, 0, 0}};
    for (size_t k = 0; k < 2; k++) {
        const ot_tensor *w = named(golden, names[k], "");
        write_host(run, host, w, w);
        gold_check *check = gold_check_add(run, "emulator/fakequant/%s", names[k]);
        for (int bits = 1; bits <= 8; bits++) {
            char emulator[64], suffix[8], why[GOLD_TEXT] = "";
            snprintf(emulator, sizeof emulator, "fakequant:bits=%d", bits);
            snprintf(suffix, sizeof suffix, ".%d", bits);
            ot_safetensors *out = emulate(run, host, emulator, why);
            if (!out) {
                gold_fail(check, "%s", why);
                break;
            }
            char label[96];
            snprintf(label, sizeof label, "%s at %d bits", names[k], bits);
            gold_compare(check, label, named(golden, names[k], suffix), ot_safetensors_find(out, "model.layers.1.mlp.gate_proj.weight"), &how);
            ot_safetensors_close(out);
        }
    }
    ot_safetensors_close(golden);
}

/* ---- distillation ---- */

typedef struct distilling {
    gold_run *run;
    ot_safetensors *golden;
    gold_path model, offer, first, train;
    char bottom[32], top[32], emulator[64], batch[32];
    char steps[32], lr[32], warmup[32], decay[32], clip[32];
    int64_t teacher_hidden, student_hidden; /* which hidden state is the middle's output */
    char why[GOLD_TEXT];                    /* empty when the offer was made */
} distilling;

static void number(char *out, const json_t *object, const char *key) {
    const json_t *v = json_object_get(object, key);
    if (!json_is_number(v)) gold_die("distill.json lacks %s", key);
    snprintf(out, 32, "%.9g", json_number_value(v));
}

static void prepare(distilling *d) {
    gold_path path;
    char why[GOLD_TEXT];
    gold_join(path, "%s/emulator/distill/distill.json", d->run->root);
    json_t *spec = gold_json(path, why);
    if (!spec) gold_die("%s", why);
    const json_t *optimizer = json_object_get(spec, "optimizer");
    number(d->bottom, spec, "bottom");
    number(d->top, spec, "top");
    number(d->steps, optimizer, "steps");
    number(d->lr, optimizer, "lr");
    number(d->warmup, optimizer, "warmup");
    number(d->decay, optimizer, "weight_decay");
    number(d->clip, optimizer, "clip");
    int64_t n = json_integer_value(json_object_get(spec, "n")), top = json_integer_value(json_object_get(spec, "top"));
    int64_t bottom = json_integer_value(json_object_get(spec, "bottom")), keep = json_integer_value(json_object_get(spec, "keep"));
    snprintf(d->emulator, sizeof d->emulator, "layerdrop:keep=%lld", (long long)keep);
    d->teacher_hidden = n - top;
    d->student_hidden = bottom + keep;
    json_decref(spec);

    const ot_tensor *batches = named(d->golden, "batches", "");
    int64_t all[2] = {batches->shape[0] * batches->shape[1], batches->shape[2]}, one[2] = {batches->shape[1], batches->shape[2]};
    ot_tensor rows = gold_view("input_ids", OT_I64, batches->data, 2, all);
    gold_temp(d->run, d->train, ".safetensors");
    gold_write_tensors(d->train, &rows, 1);
    ot_tensor first[2] = {gold_view("input_ids", OT_I64, batches->data, 2, one), gold_view("labels", OT_I64, batches->data, 2, one)};
    gold_temp(d->run, d->first, ".safetensors");
    gold_write_tensors(d->first, first, 2);
    snprintf(d->batch, sizeof d->batch, "%lld", (long long)batches->shape[1]);

    gold_join(d->model, "%s/emulator/distill/model", d->run->root);
    gold_temp(d->run, d->offer, ".offer");
    gold_args args = {0};
    gold_arg(&args, "split", d->model, "-o", d->offer, "--bottom", d->bottom, "--top", d->top, "--emulator", d->emulator, NULL);
    gold_result result = gold_exec(d->run, &args, NULL);
    if (result.code != 0) snprintf(d->why, sizeof d->why, "%.*s", GOLD_TEXT - 1, result.text);
}

/* The hidden state where the middle ends, and the language-model gradients that reach the middle through the frozen top. */
static void before_distilling(distilling *d) {
    static const gold_options values = {.bar = {1e-4, 0, 0}, .tight = {2e-5, 1e-6, 0}};
    char why[GOLD_TEXT] = "", name[2 * GOLD_TEXT];
    gold_check *teacher = gold_check_add(d->run, "emulator/distill/teacher");
    ot_safetensors *out = gold_forward(d->run, d->model, d->first, "h", NULL, why);
    snprintf(name, sizeof name, "hidden_states.%lld", (long long)d->teacher_hidden);
    if (!out) gold_fail(teacher, "%s", why);
    else gold_compare(teacher, name, named(d->golden, "teacher", ""), ot_safetensors_find(out, name), &values);
    ot_safetensors_close(out);

    gold_check *student = gold_check_add(d->run, "emulator/distill/student");
    gold_check *gradients = gold_check_add(d->run, "emulator/distill/grad_lm");
    out = d->why[0] ? NULL : gold_forward(d->run, d->offer, d->first, "hg", NULL, why);
    if (!out) {
        gold_fail(student, "%s", d->why[0] ? d->why : why);
        gold_fail(gradients, "%s", d->why[0] ? d->why : why);
        return;
    }
    snprintf(name, sizeof name, "hidden_states.%lld", (long long)d->student_hidden);
    gold_compare(student, name, named(d->golden, "student", ""), ot_safetensors_find(out, name), &values);
    gold_path config;
    gold_join(config, "%s/config.json", d->model);
    gold_key_bias key = gold_key_bias_of(config);
    double largest = 0;
    for (int64_t i = 0; i < ot_safetensors_count(d->golden); i++) {
        const ot_tensor *g = ot_safetensors_at(d->golden, i);
        if (starts(g->name, "grad_lm.")) largest = fmax(largest, gold_max_abs(g));
    }
    gold_options how = {.bar = {1e-4, 0, 1e-3 * largest}, .tight = {1e-4, 1e-6, 0}, .key_bias = &key, .key_bar = 1e-4 * largest, .key_tight = 1e-6};
    for (int64_t i = 0; i < ot_safetensors_count(d->golden); i++) {
        const ot_tensor *g = ot_safetensors_at(d->golden, i);
        if (!starts(g->name, "grad_lm.")) continue;
        snprintf(name, sizeof name, "grad.%s", g->name + strlen("grad_lm."));
        gold_compare(gradients, name, g, ot_safetensors_find(out, name), &how);
    }
    ot_safetensors_close(out);
}

static void distilled(distilling *d, gold_check *check, const char *offer) {
    gold_path path, config;
    char why[GOLD_TEXT], name[2 * GOLD_TEXT];
    gold_join(path, "%s/model.safetensors", offer);
    gold_join(config, "%s/config.json", d->model);
    gold_key_bias key = gold_key_bias_of(config);
    ot_safetensors *out = gold_open(path, why);
    if (!out) {
        gold_fail(check, "%s", why);
        return;
    }
    gold_join(path, "%s/model.safetensors", d->offer);
    ot_safetensors *before = gold_open_fixture(path);
    gold_options how = {.bar = {0, 5e-5, 0}, .tight = {0, 5e-5, 0}, .key_bias = &key, .key_bar = 5e-3, .key_tight = 5e-3};
    for (int64_t i = 0; i < ot_safetensors_count(before); i++) {
        const ot_tensor *b = ot_safetensors_at(before, i);
        snprintf(name, sizeof name, "final.%s", b->name);
        const ot_tensor *e = ot_safetensors_find(d->golden, name), *a = ot_safetensors_find(out, b->name);
        if (e) gold_compare(check, b->name, e, a, &how);
        else gold_compare_bytes(check, b->name, b, a);
    }
    ot_safetensors_close(before);
    ot_safetensors_close(out);
}

static void distill(gold_run *run) {
    gold_path path;
    gold_join(path, "%s/emulator/distill/distill.safetensors", run->root);
    if (!gold_exists("%s", path) || !gold_wanted(run, "emulator/distill")) return;
    distilling d = {.run = run, .golden = gold_open_fixture(path)};
    prepare(&d);
    before_distilling(&d);

    gold_path offer, log_path;
    char why[GOLD_TEXT] = "";
    gold_temp(run, offer, ".offer");
    gold_temp(run, log_path, ".jsonl");
    gold_args args = {0};
    gold_arg(&args, "distill", d.offer, "--teacher", d.model, "--train", d.train, "-o", offer, "--log", log_path, "--steps", d.steps,
             "--batch", d.batch, "--lr", d.lr, "--warmup", d.warmup, "--schedule", "cosine", "--weight-decay", d.decay, "--clip", d.clip,
             "--no-shuffle", "--dtype", "f32", NULL);
    if (d.why[0]) {
        snprintf(why, sizeof why, "%s", d.why);
    } else {
        gold_result result = gold_exec(run, &args, NULL);
        if (result.code != 0) snprintf(why, sizeof why, "%.*s", GOLD_TEXT - 1, result.text);
    }
    gold_log log;
    bool read = !why[0] && gold_read_log(log_path, &log, why);
    const struct {
        const char *name;
        const float *values;
        double rtol, atol;
    } series[] = {{"losses.total", log.loss, 1e-5, 1e-6}, {"losses.lm", log.lm, 1e-5, 1e-6}, {"losses.kd", log.kd, 1e-5, 1e-6},
                  {"grad_norms", log.grad_norm, 3e-4, 1e-6}, {"lrs", log.learning_rate, 1e-6, 1e-12}};
    for (size_t i = 0; i < sizeof series / sizeof series[0]; i++) {
        gold_check *check = gold_check_add(run, "emulator/distill/%s", series[i].name);
        if (!read) gold_fail(check, "%s", why);
        else gold_compare_series(check, series[i].name, ot_safetensors_find(d.golden, series[i].name), series[i].values, log.steps, series[i].rtol, series[i].atol);
    }
    gold_check *finals = gold_check_add(run, "emulator/distill/final");
    if (!read) gold_fail(finals, "%s", why);
    else distilled(&d, finals, offer);
    ot_safetensors_close(d.golden);
}

void gold_section_emulator(gold_run *run) {
    layerdrop(run);
    prune(run);
    fake_quantize(run);
    distill(run);
}
