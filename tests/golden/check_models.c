/* models/ and gguf/: forward passes, gradients, generation, what must be refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "golden.h"

/* The relative bar every result must meet, and those a float32 engine should. */
static const gold_bar MUST = {1e-4, 0, 0}, VALUES = {2e-5, 1e-6, 0}, GRADIENTS = {1e-4, 1e-6, 0};

ot_safetensors *gold_forward(gold_run *run, const char *model, const char *input, const char *flags, const char *adapter, char *why) {
    gold_path out;
    gold_temp(run, out, ".safetensors");
    gold_args args = {0};
    gold_arg(&args, "forward", model, "--input", input, "-o", out, "--dtype", "f32", NULL);
    if (strchr(flags, 'h')) gold_arg(&args, "--hidden", NULL);
    if (strchr(flags, 'g')) gold_arg(&args, "--grad", NULL);
    if (adapter) gold_arg(&args, "--adapter", adapter, NULL);
    gold_result result = gold_exec(run, &args, NULL);
    if (result.code != 0) {
        snprintf(why, GOLD_TEXT, "%.*s", GOLD_TEXT - 1, result.text);
        return NULL;
    }
    return gold_open(out, why);
}

/* Copies a fixture's inputs into a file of its own: the product must not see the answers. */
static void write_input(gold_run *run, const ot_safetensors *golden, gold_path path) {
    static const char *const names[] = {"input_ids", "attention_mask", "labels", "pixel_values"};
    ot_tensor inputs[4];
    int64_t n = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const ot_tensor *t = ot_safetensors_find(golden, names[i]);
        if (t) inputs[n++] = *t;
    }
    const ot_tensor *ids = ot_safetensors_find(golden, "input_ids");
    if (ids && !ot_safetensors_find(golden, "labels")) { /* GGUF fixtures: labels are the ids */
        inputs[n] = *ids;
        inputs[n++].name = "labels";
    }
    gold_temp(run, path, ".safetensors");
    gold_write_tensors(path, inputs, n);
}

static bool starts(const char *text, const char *prefix) { return strncmp(text, prefix, strlen(prefix)) == 0; }

/* Rows of padded positions: logits are zeros there, hidden states may be anything. */
static void masked_logits(gold_check *check, const ot_tensor *logits, const int64_t *mask, int64_t rows) {
    if (!logits) {
        gold_fail(check, "logits is absent");
        return;
    }
    int64_t n = ot_tensor_elements(logits), columns = n / rows;
    float *values = gold_floats(logits);
    double worst = 0;
    for (int64_t i = 0; i < n; i++) {
        double v = values[i] < 0 ? -(double)values[i] : (double)values[i];
        if (mask[i / columns] == 0 && !(v <= worst)) worst = v;
    }
    free(values);
    gold_judge(check, "logits of masked positions", worst, 0, 0);
}

/* Fails a check on a missing output with the reason; true when there is something to compare. */
static bool ready(gold_check *check, const ot_safetensors *out, const char *why) {
    if (!out) gold_fail(check, "%s", why);
    return out != NULL;
}

static void compare_hidden(gold_check *check, const ot_safetensors *golden, const ot_safetensors *out, const gold_options *how) {
    char name[64];
    int64_t i = 0;
    for (;; i++) {
        snprintf(name, sizeof name, "hidden_states.%lld", (long long)i);
        const ot_tensor *expected = ot_safetensors_find(golden, name);
        if (!expected) break;
        gold_compare(check, name, expected, ot_safetensors_find(out, name), how);
    }
    if (ot_safetensors_find(out, name)) gold_fail(check, "%s should not be there", name);
}

static void compare_gradients(gold_check *check, const ot_safetensors *golden, const ot_safetensors *out, const char *config) {
    double largest = 0;
    for (int64_t i = 0; i < ot_safetensors_count(golden); i++) {
        const ot_tensor *t = ot_safetensors_at(golden, i);
        if (!starts(t->name, "grad.")) continue;
        double top = gold_max_abs(t);
        if (top > largest) largest = top;
    }
    gold_key_bias key = gold_key_bias_of(config);
    gold_options how = {.bar = {1e-4, 0, 1e-3 * largest}, .tight = GRADIENTS, .key_bias = &key,
                        .key_bar = 1e-4 * largest, .key_tight = 1e-6};
    for (int64_t i = 0; i < ot_safetensors_count(golden); i++) {
        const ot_tensor *t = ot_safetensors_at(golden, i);
        if (starts(t->name, "grad.")) gold_compare(check, t->name, t, ot_safetensors_find(out, t->name), &how);
    }
    for (int64_t i = 0; i < ot_safetensors_count(out); i++) {
        const char *name = ot_safetensors_at(out, i)->name;
        if (starts(name, "grad.") && !ot_safetensors_find(golden, name)) gold_fail(check, "%s should not be there", name);
    }
}

static bool has_gradients(const ot_safetensors *st) {
    for (int64_t i = 0; i < ot_safetensors_count(st); i++) {
        if (starts(ot_safetensors_at(st, i)->name, "grad.")) return true;
    }
    return false;
}

void gold_forward_checks(gold_run *run, const char *name, const char *model, const char *config, const char *golden_path) {
    ot_safetensors *golden = gold_open_fixture(golden_path);
    gold_path input;
    write_input(run, golden, input);
    bool hidden = ot_safetensors_find(golden, "hidden_states.0") != NULL, gradients = has_gradients(golden);
    char flags[3] = {0}, why[GOLD_TEXT] = "";
    snprintf(flags, sizeof flags, "%s%s", hidden ? "h" : "", gradients ? "g" : "");
    ot_safetensors *out = gold_forward(run, model, input, flags, NULL, why);

    int64_t *mask = NULL;
    gold_options how = {.bar = MUST, .tight = VALUES};
    const ot_tensor *mask_tensor = ot_safetensors_find(golden, "attention_mask");
    if (mask_tensor) {
        mask = gold_ints(mask_tensor);
        how.row_mask = mask;
        how.rows = ot_tensor_elements(mask_tensor);
    }
    gold_options scalar = {.bar = MUST, .tight = VALUES};

    gold_check *check = gold_check_add(run, "%s/logits", name);
    if (ready(check, out, why)) gold_compare(check, "logits", ot_safetensors_find(golden, "logits"), ot_safetensors_find(out, "logits"), &how);
    check = gold_check_add(run, "%s/loss", name);
    if (ready(check, out, why)) gold_compare(check, "loss", ot_safetensors_find(golden, "loss"), ot_safetensors_find(out, "loss"), &scalar);
    if (mask) {
        check = gold_check_add(run, "%s/masked_logits", name);
        if (ready(check, out, why)) masked_logits(check, ot_safetensors_find(out, "logits"), mask, how.rows);
    }
    if (hidden) {
        check = gold_check_add(run, "%s/hidden_states", name);
        if (ready(check, out, why)) compare_hidden(check, golden, out, &how);
    }
    const ot_tensor *last = ot_safetensors_find(golden, "last_block");
    if (last) {
        check = gold_check_add(run, "%s/last_block", name);
        if (ready(check, out, why)) gold_compare(check, "last_block", last, ot_safetensors_find(out, "last_block"), &how);
    }
    if (gradients) {
        check = gold_check_add(run, "%s/grad", name);
        if (ready(check, out, why)) compare_gradients(check, golden, out, config);
    }
    free(mask);
    ot_safetensors_close(out);
    ot_safetensors_close(golden);
}

/* Without flags the output has logits and loss alone; without labels the logits alone. */
static void plain_checks(gold_run *run, const char *name, const char *model, const char *golden_path) {
    ot_safetensors *golden = gold_open_fixture(golden_path);
    const ot_tensor *ids = ot_safetensors_find(golden, "input_ids");
    if (!ids) ids = ot_safetensors_find(golden, "pixel_values");
    gold_path input;
    char why[GOLD_TEXT] = "";
    gold_temp(run, input, ".safetensors");
    gold_write_tensors(input, ids, 1);
    ot_safetensors *out = gold_forward(run, model, input, "", NULL, why);
    gold_check *check = gold_check_add(run, "%s/plain", name);
    if (ready(check, out, why)) {
        gold_options how = {.bar = MUST, .tight = VALUES};
        gold_compare(check, "logits", ot_safetensors_find(golden, "logits"), ot_safetensors_find(out, "logits"), &how);
        for (int64_t i = 0; i < ot_safetensors_count(out); i++) {
            const char *other = ot_safetensors_at(out, i)->name;
            if (strcmp(other, "logits") != 0) gold_fail(check, "%s was not asked for", other);
        }
    }
    ot_safetensors_close(out);
    ot_safetensors_close(golden);
}

/* No label counts: refused with exit code 3. */
static void ignored_check(gold_run *run, const char *name, const char *model, const char *golden_path) {
    ot_safetensors *golden = gold_open_fixture(golden_path);
    const ot_tensor *ids = ot_safetensors_find(golden, "input_ids");
    if (!ids) gold_die("%s has no input_ids", golden_path);
    int64_t n = ot_tensor_elements(ids), *labels = malloc((size_t)n * sizeof *labels);
    if (!labels) gold_die("out of memory");
    for (int64_t i = 0; i < n; i++) labels[i] = -100;
    ot_tensor inputs[2] = {*ids, gold_view("labels", OT_I64, labels, ids->n_dims, ids->shape)};
    gold_path input, out;
    gold_temp(run, input, ".safetensors");
    gold_temp(run, out, ".safetensors");
    gold_write_tensors(input, inputs, 2);
    gold_args args = {0};
    gold_arg(&args, "forward", model, "--input", input, "-o", out, NULL);
    gold_result result = gold_exec(run, &args, NULL);
    gold_check *check = gold_check_add(run, "%s/all_ignored", name);
    if (result.code == 3 && !gold_exists("%s", out)) {
        gold_judge(check, "refused", 0, 0, 0);
    } else {
        gold_fail(check, "expected exit 3 and no output; %s", result.text);
    }
    free(labels);
    ot_safetensors_close(golden);
}

static void generate_check(gold_run *run, const char *name, const char *model, const char *golden_path) {
    ot_safetensors *golden = gold_open_fixture(golden_path);
    const ot_tensor *prompt = ot_safetensors_find(golden, "prompt"), *ids = ot_safetensors_find(golden, "ids");
    if (!prompt || !ids) gold_die("%s has no prompt or ids", golden_path);
    ot_tensor input = *prompt;
    input.name = "input_ids";
    gold_path path;
    char count[32];
    gold_temp(run, path, ".safetensors");
    gold_write_tensors(path, &input, 1);
    snprintf(count, sizeof count, "%lld", (long long)ids->shape[1]);
    gold_args args = {0};
    gold_arg(&args, "generate", model, "--input", path, "--max-new", count, "--greedy", "--ignore-eos", "--dtype", "f32", "--json", NULL);
    gold_result result = gold_exec(run, &args, NULL);
    gold_check *check = gold_check_add(run, "%s/generate", name);
    char why[GOLD_TEXT] = "";
    json_t *out = result.code == 0 ? gold_json(result.out, why) : NULL;
    if (!out) {
        gold_fail(check, "%s %s", result.text, why);
    } else {
        const json_t *rows = json_object_get(out, "ids");
        int64_t *expected = gold_ints(ids);
        if ((int64_t)json_array_size(rows) != ids->shape[0]) gold_fail(check, "\"ids\" does not have one row a prompt");
        for (int64_t r = 0; r < ids->shape[0] && !check->failed; r++) {
            const json_t *row = json_array_get(rows, (size_t)r);
            if ((int64_t)json_array_size(row) != ids->shape[1]) gold_fail(check, "%zu new tokens instead of %s", json_array_size(row), count);
            for (int64_t i = 0; i < ids->shape[1] && !check->failed; i++) {
                const json_t *id = json_array_get(row, (size_t)i);
                if (!json_is_integer(id) || json_integer_value(id) != expected[r * ids->shape[1] + i]) {
                    gold_fail(check, "new token %lld of row %lld is %lld, expected %lld", (long long)i, (long long)r,
                              (long long)json_integer_value(id), (long long)expected[r * ids->shape[1] + i]);
                }
            }
        }
        if (!check->failed) gold_judge(check, "ids", 0, 0, 0);
        free(expected);
        json_decref(out);
    }
    ot_safetensors_close(golden);
}

static void pickle_check(gold_run *run, const char *name, const char *model, const char *golden_path) {
    ot_safetensors *golden = gold_open_fixture(golden_path);
    gold_path input, out;
    write_input(run, golden, input);
    gold_temp(run, out, ".safetensors");
    gold_args args = {0};
    gold_arg(&args, "forward", model, "--input", input, "-o", out, NULL);
    gold_result result = gold_exec(run, &args, NULL);
    char line[GOLD_TEXT];
    gold_first_line(result.err, line, sizeof line);
    gold_check *check = gold_check_add(run, "%s/refused", name);
    if (result.code == 1 && starts(line, "offsite: ") && strstr(line, "pytorch_model.bin")) {
        gold_judge(check, "refused", 0, 0, 0);
    } else {
        gold_fail(check, "expected exit 1 and a line that names the pickle; %s", result.text);
    }
    ot_safetensors_close(golden);
}

/* The same weights with the configuration's older keys. */
static void older_config_checks(gold_run *run, const char *name, const char *model) {
    gold_path dir, from, to, golden;
    gold_temp(run, dir, ".v4");
    ot_error err = {0};
    if (ot_make_dirs(dir, &err) != OT_OK) gold_die("%s", err.message);
    char resolved[GOLD_PATH * 4];
    if (!realpath(model, resolved)) gold_die("%s cannot be resolved", model);
    gold_join(from, "%s/model.safetensors", resolved);
    gold_join(to, "%s/model.safetensors", dir);
    if (symlink(from, to)) gold_die("cannot link %s", to);
    gold_join(from, "%s/config.v4.json", resolved);
    gold_join(to, "%s/config.json", dir);
    if (symlink(from, to)) gold_die("cannot link %s", to);
    char label[GOLD_TEXT];
    snprintf(label, sizeof label, "%.200s/v4", name);
    gold_join(golden, "%s/golden.safetensors", model);
    gold_forward_checks(run, label, dir, to, golden);
}

static void one_model(gold_run *run, const char *name, const char *model) {
    gold_path path, config;
    gold_join(path, "%s/golden.safetensors", model);
    gold_join(config, "%s/config.json", model);
    if (!gold_exists("%s/model.safetensors", model) && !gold_exists("%s/model.safetensors.index.json", model)) {
        pickle_check(run, name, model, path);
        return;
    }
    int64_t count;
    char **names = gold_names(model, &count);
    for (int64_t i = 0; i < count; i++) {
        const char *dot = strstr(names[i], ".safetensors");
        if (!starts(names[i], "golden") || !dot) continue;
        char label[GOLD_TEXT];
        snprintf(label, sizeof label, "%.120s/%.*s", name, (int)(dot - names[i] < 100 ? dot - names[i] : 100), names[i]);
        gold_join(path, "%s/%s", model, names[i]);
        gold_forward_checks(run, label, model, config, path);
    }
    gold_names_free(names, count);
    gold_join(path, "%s/golden.safetensors", model);
    plain_checks(run, name, model, path);
    if (gold_exists("%s/config.v4.json", model)) older_config_checks(run, name, model);
    if (gold_exists("%s/generate.safetensors", model)) {
        ignored_check(run, name, model, path);
        gold_join(path, "%s/generate.safetensors", model);
        generate_check(run, name, model, path);
    }
}

void gold_section_models(gold_run *run) {
    gold_path dir;
    gold_join(dir, "%s/models", run->root);
    int64_t count;
    char **names = gold_names(dir, &count);
    for (int64_t i = 0; i < count; i++) {
        char name[GOLD_TEXT];
        snprintf(name, sizeof name, "models/%.200s", names[i]);
        gold_path model;
        gold_join(model, "%s/%s", dir, names[i]);
        if (gold_wanted(run, name)) one_model(run, name, model);
    }
    gold_names_free(names, count);
}

/* ---- gguf ---- */

/* Hugging Face's name of a tensor of a llama in a GGUF: fills out; what is unknown ends the runner, a fixture has it. */
static void gguf_to_hf(char *out, size_t size, const char *name) {
    static const char *const inside[][2] = {
        {"attn_norm", "input_layernorm"}, {"attn_q", "self_attn.q_proj"}, {"attn_k", "self_attn.k_proj"},
        {"attn_v", "self_attn.v_proj"}, {"attn_output", "self_attn.o_proj"}, {"ffn_norm", "post_attention_layernorm"},
        {"ffn_gate", "mlp.gate_proj"}, {"ffn_up", "mlp.up_proj"}, {"ffn_down", "mlp.down_proj"}};
    int64_t block = gold_block_of(name);
    if (block < 0) {
        const char *whole = starts(name, "token_embd.") ? "model.embed_tokens.weight" : starts(name, "output_norm.") ? "model.norm.weight" : "lm_head.weight";
        snprintf(out, size, "%s", whole);
        return;
    }
    const char *part = strchr(strchr(name, '.') + 1, '.') + 1; /* blk.N.part.weight */
    size_t n = strcspn(part, ".");
    for (size_t i = 0; i < sizeof inside / sizeof inside[0]; i++) {
        if (strlen(inside[i][0]) == n && strncmp(part, inside[i][0], n) == 0) {
            snprintf(out, size, "model.layers.%lld.%s.weight", (long long)block, inside[i][1]);
            return;
        }
    }
    gold_die("unknown tensor in a GGUF fixture: %s", name);
}

/* Rows of a q or k matrix in Hugging Face's order from llama.cpp's: halves of a head lie interleaved in the file. */
static void unpermute(float *to, const float *from, int64_t rows, int64_t columns, int64_t heads) {
    int64_t half = rows / heads / 2;
    for (int64_t h = 0; h < heads; h++) {
        for (int64_t i = 0; i < half; i++) {
            for (int64_t s = 0; s < 2; s++) {
                memcpy(to + ((h * 2 + s) * half + i) * columns, from + (h * 2 * half + i * 2 + s) * columns, (size_t)columns * sizeof *to);
            }
        }
    }
}

/* split of a GGUF with the middle as it is and f32 storage shows every decoded value. */
static void gguf_tensors(gold_run *run, const char *name, const char *file, const ot_safetensors *golden) {
    gold_path offer, path;
    gold_temp(run, offer, ".offer");
    gold_args args = {0};
    gold_arg(&args, "split", file, "-o", offer, "--bottom", "1", "--top", "0", "--emulator", "", "--dtype", "f32", NULL);
    gold_result result = gold_exec(run, &args, NULL);
    gold_check *check = gold_check_add(run, "%s/tensors", name);
    char why[GOLD_TEXT] = "";
    if (result.code != 0) {
        gold_fail(check, "%s", result.text);
        return;
    }
    gold_join(path, "%s/model.safetensors", offer);
    ot_safetensors *out = gold_open(path, why);
    gold_join(path, "%s/config.json", offer);
    json_t *config = out ? gold_json(path, why) : NULL;
    if (!config) {
        gold_fail(check, "%s", why);
        ot_safetensors_close(out);
        return;
    }
    int64_t heads = json_integer_value(json_object_get(config, "num_attention_heads"));
    int64_t kv = json_integer_value(json_object_get(config, "num_key_value_heads"));
    gold_options how = {.bar = {2.5e-7, 0, 0}, .tight = {1.3e-7, 0, 0}};
    for (int64_t i = 0; i < ot_safetensors_count(golden); i++) {
        const ot_tensor *t = ot_safetensors_at(golden, i);
        if (!starts(t->name, "tensor.")) continue;
        char hf[GOLD_TEXT];
        gguf_to_hf(hf, sizeof hf, t->name + strlen("tensor."));
        const ot_tensor *actual = ot_safetensors_find(out, hf);
        int64_t turned = strstr(hf, ".q_proj.") ? heads : strstr(hf, ".k_proj.") ? kv : 0;
        if (turned <= 0 || t->shape[0] % (2 * turned)) {
            if (turned) gold_fail(check, "config.json of the offer has no usable head counts");
            gold_compare(check, hf, t, actual, &how);
            continue;
        }
        float *stored = gold_floats(t), *plain = malloc((size_t)ot_tensor_elements(t) * sizeof *plain);
        if (!plain) gold_die("out of memory");
        unpermute(plain, stored, t->shape[0], t->shape[1], turned);
        ot_tensor expected = gold_view(hf, OT_F32, plain, t->n_dims, t->shape);
        gold_compare(check, hf, &expected, actual, &how);
        free(stored);
        free(plain);
    }
    json_decref(config);
    ot_safetensors_close(out);
}

void gold_section_gguf(gold_run *run) {
    gold_path dir;
    gold_join(dir, "%s/gguf", run->root);
    int64_t count;
    char **names = gold_names(dir, &count);
    for (int64_t i = 0; i < count; i++) {
        const char *dot = strstr(names[i], ".gguf");
        if (!dot) continue;
        char name[GOLD_TEXT];
        snprintf(name, sizeof name, "gguf/%.*s", (int)(dot - names[i] < 200 ? dot - names[i] : 200), names[i]);
        gold_path file, answer;
        gold_join(file, "%s/%s", dir, names[i]);
        gold_join(answer, "%s/%.*s.safetensors", dir, (int)(dot - names[i]), names[i]);
        if (!gold_wanted(run, name) || !gold_exists("%s", answer)) continue;
        ot_safetensors *golden = gold_open_fixture(answer);
        if (ot_safetensors_find(golden, "logits")) {
            gold_forward_checks(run, name, file, "", answer);
            if (ot_safetensors_find(golden, "tensor.token_embd.weight")) gguf_tensors(run, name, file, golden);
        }
        ot_safetensors_close(golden);
    }
    gold_names_free(names, count);
}
