/* train/: twenty optimizer steps in every way of tuning, from split to the plugged model. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/json.h"
#include "golden.h"

enum { MAX_BLOCKS = 64 };

/* One folder of train/: the whole model, its split, and the files made from the fixture's data. */
typedef struct family {
    gold_run *run;
    char name[GOLD_TEXT]; /* train/gpt2 */
    gold_path dir, model, config;
    int64_t blocks, sources[MAX_BLOCKS], n_sources; /* emulator block -> whole-model block */
    int64_t bottom, top, keep, batch;
    char steps[32], lr[32], warmup[32], decay[32], clip[32], rows[32];
    gold_path train, held, held_ids, first; /* inputs; held_ids has no labels; empty for vision */
    gold_path offer;
    char offer_why[GOLD_TEXT]; /* empty when the split worked */
    gold_key_bias key;
} family;

typedef enum result_kind {
    RESULT_MODEL, /* parameters of the model itself */
    RESULT_OWN,   /* adapter.safetensors with the fixture's names */
    RESULT_LORA,  /* PEFT's files */
    RESULT_PREFIX /* PEFT's prefix tuning over the whole stack */
} result_kind;

typedef struct way {
    const char *name, *peft;
    result_kind kind;
    bool whole; /* trained in the whole model by finetune */
} way;

static const way WAYS[] = {
    {"full", NULL, RESULT_MODEL, true},
    {"offsite", NULL, RESULT_MODEL, false},
    {"bitfit", "bitfit", RESULT_MODEL, false},
    {"lora", "lora:r=%lld,alpha=32,dropout=0,targets=all", RESULT_LORA, false},
    {"houlsby", "houlsby:width=%lld,dropout=0", RESULT_OWN, false},
    {"prefix", "prefix:tokens=%lld", RESULT_PREFIX, true},
    {"prefix-offsite", "prefix:tokens=%lld", RESULT_OWN, false},
};

static const char PEFT_PREFIX[] = "base_model.model.";
static const gold_options FINAL = {.bar = {0, 5e-5, 0}, .tight = {0, 5e-5, 0}, .key_bar = 5e-3, .key_tight = 5e-3};
static const gold_options HELD_OUT = {.bar = {0, 1e-5, 0}, .tight = {0, 1e-5, 0}};

static bool starts(const char *text, const char *prefix) { return strncmp(text, prefix, strlen(prefix)) == 0; }

/* ---- logs ---- */

static bool log_number(const json_t *line, const char *key, float *out) {
    const json_t *value = json_object_get(line, key);
    if (!json_is_number(value)) return false;
    *out = (float)json_number_value(value);
    return true;
}

bool gold_read_log(const char *path, gold_log *log, char *why) {
    *log = (gold_log){0};
    FILE *f = fopen(path, "r");
    if (!f) {
        snprintf(why, GOLD_TEXT, "the run wrote no log");
        return false;
    }
    char *text = NULL;
    size_t size = 0;
    bool good = true;
    for (ssize_t n; good && (n = getline(&text, &size, f)) > 0;) {
        json_t *line = NULL;
        ot_error err = {0};
        if (ot_json_parse(text, n, "the log", &line, &err) != OT_OK) {
            snprintf(why, GOLD_TEXT, "%.*s", GOLD_TEXT - 1, err.message);
            good = false;
            break;
        }
        int64_t i = log->steps;
        if (json_object_get(line, "valid_loss") || !json_object_get(line, "loss")) {
            json_decref(line);
            continue;
        }
        static const char *const keys[] = {"epoch", "tokens", "tokens_per_second", "peak_memory_bytes"};
        for (size_t k = 0; good && k < sizeof keys / sizeof keys[0]; k++) {
            good = json_is_number(json_object_get(line, keys[k]));
            if (!good) snprintf(why, GOLD_TEXT, "line %lld of the log has no number \"%s\"", (long long)i + 1, keys[k]);
        }
        if (good && (i >= 64 || json_integer_value(json_object_get(line, "step")) != i || !log_number(line, "loss", &log->loss[i]) ||
                     !log_number(line, "learning_rate", &log->learning_rate[i]) || !log_number(line, "grad_norm", &log->grad_norm[i]))) {
            snprintf(why, GOLD_TEXT, "line %lld of the log lacks step %lld, loss, learning_rate or grad_norm", (long long)i + 1, (long long)i);
            good = false;
        }
        if (good) {
            log_number(line, "loss_lm", &log->lm[i]);
            log_number(line, "loss_kd", &log->kd[i]);
            log->steps++;
        }
        json_decref(line);
    }
    free(text);
    fclose(f);
    return good;
}

void gold_compare_series(gold_check *check, const char *label, const ot_tensor *expected, const float *actual, int64_t count,
                         double rtol, double atol) {
    if (!expected) gold_die("a fixture lacks %s", label);
    if (ot_tensor_elements(expected) != count) {
        gold_fail(check, "the log has %lld steps, expected %lld", (long long)count, (long long)ot_tensor_elements(expected));
        return;
    }
    gold_options how = {.bar = {rtol, atol, 0}, .tight = {rtol, atol, 0}};
    float *e = gold_floats(expected);
    gold_compare_floats(check, label, e, actual, count, &how);
    free(e);
}

/* ---- preparing a family ---- */

static int64_t split_integer(const json_t *split, const char *key) {
    const json_t *v = json_object_get(split, key);
    if (!json_is_integer(v)) gold_die("split.json lacks %s", key);
    return json_integer_value(v);
}

static void optimizer_text(char *out, const json_t *optimizer, const char *key) {
    const json_t *v = json_object_get(optimizer, key);
    if (!json_is_number(v)) gold_die("split.json lacks optimizer.%s", key);
    snprintf(out, 32, "%.9g", json_number_value(v));
}

static void read_split(family *f) {
    gold_path path;
    char why[GOLD_TEXT];
    gold_join(path, "%s/split.json", f->dir);
    json_t *split = gold_json(path, why);
    if (!split) gold_die("%s", why);
    f->blocks = split_integer(split, "n");
    f->bottom = split_integer(split, "bottom");
    f->top = split_integer(split, "top");
    f->keep = split_integer(split, "keep");
    const json_t *sources = json_object_get(split, "emulator_blocks"), *optimizer = json_object_get(split, "optimizer");
    f->n_sources = (int64_t)json_array_size(sources);
    if (f->n_sources < 1 || f->n_sources > MAX_BLOCKS) gold_die("%s: odd emulator_blocks", path);
    for (int64_t i = 0; i < f->n_sources; i++) f->sources[i] = json_integer_value(json_array_get(sources, (size_t)i));
    optimizer_text(f->steps, optimizer, "steps");
    optimizer_text(f->lr, optimizer, "lr");
    optimizer_text(f->warmup, optimizer, "warmup");
    optimizer_text(f->decay, optimizer, "weight_decay");
    optimizer_text(f->clip, optimizer, "clip");
    json_decref(split);
}

/* [steps, batch, ...] as [steps * batch, ...], or only the first `rows` rows of it. */
static ot_tensor as_rows(const ot_tensor *t, const char *name, int64_t rows) {
    int64_t shape[OT_MAX_DIMS] = {rows};
    for (int32_t i = 2; i < t->n_dims; i++) shape[i - 1] = t->shape[i];
    return gold_view(name, t->dtype, t->data, t->n_dims - 1, shape);
}

static void write_data(family *f) {
    gold_path path;
    gold_join(path, "%s/data.safetensors", f->dir);
    ot_safetensors *data = gold_open_fixture(path);
    gold_temp(f->run, f->train, ".safetensors");
    gold_temp(f->run, f->first, ".safetensors");
    gold_temp(f->run, f->held, ".safetensors");
    const ot_tensor *ids = ot_safetensors_find(data, "batches");
    if (ids) {
        int64_t rows = ids->shape[0] * ids->shape[1];
        f->batch = ids->shape[1];
        ot_tensor all = as_rows(ids, "input_ids", rows);
        gold_write_tensors(f->train, &all, 1);
        ot_tensor first[2] = {as_rows(ids, "input_ids", f->batch), as_rows(ids, "labels", f->batch)};
        gold_write_tensors(f->first, first, 2);
        const ot_tensor *held = ot_safetensors_find(data, "held_out");
        ot_tensor both[2] = {*held, *held};
        both[0].name = "input_ids";
        both[1].name = "labels";
        gold_write_tensors(f->held, both, 2);
        gold_temp(f->run, f->held_ids, ".safetensors");
        gold_write_tensors(f->held_ids, both, 1);
    } else {
        const ot_tensor *pixels = ot_safetensors_find(data, "batches.pixel_values"), *labels = ot_safetensors_find(data, "batches.labels");
        if (!pixels || !labels) gold_die("%s has no batches", path);
        int64_t rows = pixels->shape[0] * pixels->shape[1];
        f->batch = pixels->shape[1];
        ot_tensor all[2] = {as_rows(pixels, "pixel_values", rows), as_rows(labels, "labels", rows)};
        gold_write_tensors(f->train, all, 2);
        ot_tensor first[2] = {as_rows(pixels, "pixel_values", f->batch), as_rows(labels, "labels", f->batch)};
        gold_write_tensors(f->first, first, 2);
        ot_tensor held[2] = {*ot_safetensors_find(data, "held_out.pixel_values"), *ot_safetensors_find(data, "held_out.labels")};
        held[0].name = "pixel_values";
        held[1].name = "labels";
        gold_write_tensors(f->held, held, 2);
    }
    snprintf(f->rows, sizeof f->rows, "%lld", (long long)f->batch);
    ot_safetensors_close(data);
}

/* The emulator's name of a whole-model name; false when its block is not in the emulator. */
static bool offer_name(const family *f, char *out, size_t size, const char *name) {
    int64_t block = gold_block_of(name);
    for (int64_t i = 0; i < f->n_sources && block >= 0; i++) {
        if (f->sources[i] == block) {
            gold_renumber(out, size, name, i);
            return true;
        }
    }
    snprintf(out, size, "%s", name);
    return block < 0;
}

/* ---- split ---- */

static void offer_checks(family *f) {
    char bottom[32], top[32], emulator[64];
    snprintf(bottom, sizeof bottom, "%lld", (long long)f->bottom);
    snprintf(top, sizeof top, "%lld", (long long)f->top);
    snprintf(emulator, sizeof emulator, "layerdrop:keep=%lld", (long long)f->keep);
    gold_temp(f->run, f->offer, ".offer");
    gold_args args = {0};
    gold_arg(&args, "split", f->model, "-o", f->offer, "--bottom", bottom, "--top", top, "--emulator", emulator, NULL);
    gold_result result = gold_exec(f->run, &args, NULL);
    if (result.code != 0) snprintf(f->offer_why, sizeof f->offer_why, "%.*s", GOLD_TEXT - 1, result.text);

    gold_check *check = gold_check_add(f->run, "%s/split/offer", f->name);
    gold_path path;
    char why[GOLD_TEXT], name[2 * GOLD_TEXT];
    gold_join(path, "%s/model.safetensors", f->model);
    ot_safetensors *whole = gold_open_fixture(path);
    gold_join(path, "%s/model.safetensors", f->offer);
    ot_safetensors *offer = f->offer_why[0] ? NULL : gold_open(path, why);
    if (!offer) {
        gold_fail(check, "%s", f->offer_why[0] ? f->offer_why : why);
    } else {
        int64_t expected = 0;
        for (int64_t i = 0; i < ot_safetensors_count(whole); i++) {
            const ot_tensor *t = ot_safetensors_at(whole, i);
            if (!offer_name(f, name, sizeof name, t->name)) continue;
            gold_compare_bytes(check, name, t, ot_safetensors_find(offer, name));
            expected++;
        }
        if (ot_safetensors_count(offer) != expected) {
            gold_fail(check, "the offer has %lld tensors, expected %lld", (long long)ot_safetensors_count(offer), (long long)expected);
        }
        if (!gold_exists("%s.owner.json", f->offer)) gold_fail(check, "no ledger beside the offer");
    }
    ot_safetensors_close(offer);
    ot_safetensors_close(whole);

    args.n = 0;
    gold_arg(&args, "inspect", f->model, "--json", "--bottom", bottom, "--top", top, "--emulator", emulator, NULL);
    result = gold_exec(f->run, &args, NULL);
    check = gold_check_add(f->run, "%s/split/kept", f->name);
    json_t *shown = result.code == 0 ? gold_json(result.out, why) : NULL;
    const json_t *kept = json_object_get(json_object_get(shown, "split"), "kept");
    if (result.code != 0) {
        gold_fail(check, "%s", result.text);
    } else if ((int64_t)json_array_size(kept) != f->keep) {
        gold_fail(check, "inspect shows %zu kept blocks, expected %lld", json_array_size(kept), (long long)f->keep);
    } else {
        for (int64_t i = 0; i < f->keep; i++) {
            int64_t got = json_integer_value(json_array_get(kept, (size_t)i));
            gold_judge(check, "split.kept", fabs((double)(got - f->sources[f->bottom + i])), 0, 0);
        }
    }
    json_decref(shown);
}

/* ---- one way of tuning ---- */

typedef struct tuning {
    family *f;
    const way *w;
    ot_safetensors *golden;
    char label[GOLD_TEXT]; /* train/gpt2/lora */
    gold_path out;         /* return or result of finetune */
    char why[GOLD_TEXT];   /* empty when the run worked */
} tuning;

static const ot_tensor *fixture(const tuning *t, const char *name) {
    const ot_tensor *found = ot_safetensors_find(t->golden, name);
    if (!found) gold_die("%s/%s.safetensors lacks %s", t->f->dir, t->w->name, name);
    return found;
}

/* Loss on the held-out batch against held_out.KEY. `blocked` is a reason why it cannot be run. */
static void held_out(tuning *t, const char *key, const char *model, const char *adapter, const char *blocked, const char *check_name) {
    char name[64], why[GOLD_TEXT] = "";
    snprintf(name, sizeof name, "held_out.%s", key);
    const ot_tensor *expected = ot_safetensors_find(t->golden, name);
    if (!expected) return;
    gold_check *check = gold_check_add(t->f->run, "%s/%s", t->label, check_name);
    if (blocked[0]) {
        gold_fail(check, "%s", blocked);
        return;
    }
    ot_safetensors *out = gold_forward(t->f->run, model, t->f->held, "", adapter, why);
    if (!out) gold_fail(check, "%s", why);
    else gold_compare(check, name, expected, ot_safetensors_find(out, "loss"), &HELD_OUT);
    ot_safetensors_close(out);
}

static void write_init(tuning *t, gold_path path) {
    enum { LIMIT = 2048 };
    int64_t n = 0;
    ot_tensor *init = calloc(LIMIT, sizeof *init);
    if (!init) gold_die("out of memory");
    for (int64_t i = 0; i < ot_safetensors_count(t->golden); i++) {
        const ot_tensor *from = ot_safetensors_at(t->golden, i);
        if (!starts(from->name, "init.")) continue;
        char name[2 * GOLD_TEXT];
        if (t->w->whole) snprintf(name, sizeof name, "%s", from->name + strlen("init."));
        else if (!offer_name(t->f, name, sizeof name, from->name + strlen("init."))) gold_die("%s is not in the emulator", from->name);
        if (n == LIMIT) gold_die("too many initial tensors");
        init[n] = *from;
        if (!(init[n++].name = strdup(name))) gold_die("out of memory");
    }
    gold_temp(t->f->run, path, ".safetensors");
    gold_write_tensors(path, init, n);
    for (int64_t i = 0; i < n; i++) free((char *)(uintptr_t)init[i].name);
    free(init);
}

/* r of LoRA, width of Houlsby, tokens of a prefix: the first dimension of the first initial tensor of that kind. */
static int64_t peft_size(const tuning *t) {
    for (int64_t i = 0; i < ot_safetensors_count(t->golden); i++) {
        const ot_tensor *x = ot_safetensors_at(t->golden, i);
        if (!starts(x->name, "init.")) continue;
        if (strstr(x->name, ".lora_A.weight") || strstr(x->name, ".down.weight") || strstr(x->name, ".key")) return x->shape[0];
    }
    gold_die("%s/%s.safetensors has no initial tensors", t->f->dir, t->w->name);
}

/* Runs tune or finetune; result and log under fresh names. */
static void train(tuning *t, const char *steps, const char *warmup, gold_path out, gold_path log, char *why) {
    family *f = t->f;
    gold_path init;
    char peft[128] = "";
    gold_temp(f->run, out, t->w->whole ? ".model" : ".return");
    gold_temp(f->run, log, ".jsonl");
    gold_args args = {0};
    gold_arg(&args, t->w->whole ? "finetune" : "tune", t->w->whole ? f->model : f->offer, "--train", f->train, "-o", out, "--log", log,
             "--steps", steps, "--batch", f->rows, "--lr", f->lr, "--warmup", warmup, "--schedule", "cosine", "--weight-decay", f->decay,
             "--clip", f->clip, "--no-shuffle", "--dtype", "f32", NULL);
    if (t->w->peft && t->w->kind == RESULT_MODEL) {
        gold_arg(&args, "--peft", t->w->peft, NULL);
    } else if (t->w->peft) {
        const char *mark = strstr(t->w->peft, "%lld");
        snprintf(peft, sizeof peft, "%.*s%lld%s", (int)(mark - t->w->peft), t->w->peft, (long long)peft_size(t), mark + strlen("%lld"));
        write_init(t, init);
        gold_arg(&args, "--peft", peft, "--init-adapter", init, NULL);
    }
    why[0] = 0;
    if (!t->w->whole && f->offer_why[0]) {
        snprintf(why, GOLD_TEXT, "%s", f->offer_why);
        return;
    }
    gold_result result = gold_exec(f->run, &args, NULL);
    if (result.code != 0) snprintf(why, GOLD_TEXT, "%.*s", GOLD_TEXT - 1, result.text);
}

static void series_checks(tuning *t, const char *log_path) {
    gold_log log;
    char why[GOLD_TEXT];
    bool good = !t->why[0] && gold_read_log(log_path, &log, why);
    const char *reason = t->why[0] ? t->why : why;
    gold_check *losses = gold_check_add(t->f->run, "%s/losses", t->label);
    gold_check *norms = gold_check_add(t->f->run, "%s/grad_norms", t->label);
    gold_check *rates = gold_check_add(t->f->run, "%s/lrs", t->label);
    if (!good) {
        gold_fail(losses, "%s", reason);
        gold_fail(norms, "%s", reason);
        gold_fail(rates, "%s", reason);
        return;
    }
    gold_compare_series(losses, "losses", fixture(t, "losses"), log.loss, log.steps, 1e-5, 1e-6);
    gold_compare_series(norms, "grad_norms", fixture(t, "grad_norms"), log.grad_norm, log.steps, 3e-4, 1e-6);
    gold_compare_series(rates, "lrs", fixture(t, "lrs"), log.learning_rate, log.steps, 1e-6, 1e-12);
}

/* Gradients of the first step are gradients of the untouched model (or offer) on the first batch. */
static void first_gradients(tuning *t) {
    family *f = t->f;
    double largest = 0;
    for (int64_t i = 0; i < ot_safetensors_count(t->golden); i++) {
        const ot_tensor *g = ot_safetensors_at(t->golden, i);
        if (starts(g->name, "grad0.")) largest = fmax(largest, gold_max_abs(g));
    }
    if (largest == 0) return;
    gold_check *check = gold_check_add(f->run, "%s/grad0", t->label);
    char why[GOLD_TEXT] = "";
    if (!t->w->whole && f->offer_why[0]) {
        gold_fail(check, "%s", f->offer_why);
        return;
    }
    ot_safetensors *out = gold_forward(f->run, t->w->whole ? f->model : f->offer, f->first, "g", NULL, why);
    if (!out) {
        gold_fail(check, "%s", why);
        return;
    }
    gold_options how = {.bar = {1e-4, 0, 1e-3 * largest}, .tight = {1e-4, 1e-6, 0}, .key_bias = &f->key,
                        .key_bar = 1e-4 * largest, .key_tight = 1e-6};
    for (int64_t i = 0; i < ot_safetensors_count(t->golden); i++) {
        const ot_tensor *g = ot_safetensors_at(t->golden, i);
        if (!starts(g->name, "grad0.")) continue;
        char name[2 * GOLD_TEXT] = "grad.";
        const char *plain = g->name + strlen("grad0.");
        if (t->w->whole) snprintf(name + 5, sizeof name - 5, "%s", plain);
        else offer_name(f, name + 5, sizeof name - 5, plain);
        gold_compare(check, name, g, ot_safetensors_find(out, name), &how);
    }
    ot_safetensors_close(out);
}

/* Compares every final.X with a tensor of `path`; whole: X keeps the whole model's numbers. Nothing else may be there when
 * `complete`. */
static void compare_finals(tuning *t, gold_check *check, const char *path, bool whole, bool complete) {
    char why[GOLD_TEXT], name[2 * GOLD_TEXT];
    ot_safetensors *out = gold_open(path, why);
    if (!out) {
        gold_fail(check, "%s", why);
        return;
    }
    gold_options how = FINAL;
    how.key_bias = &t->f->key;
    int64_t expected = 0;
    size_t skip = t->w->kind == RESULT_LORA ? strlen(PEFT_PREFIX) : 0;
    memcpy(name, PEFT_PREFIX, skip);
    for (int64_t i = 0; i < ot_safetensors_count(t->golden); i++) {
        const ot_tensor *x = ot_safetensors_at(t->golden, i);
        if (!starts(x->name, "final.")) continue;
        const char *plain = x->name + strlen("final.");
        if (whole) snprintf(name + skip, sizeof name - skip, "%s", plain);
        else offer_name(t->f, name + skip, sizeof name - skip, plain);
        gold_compare(check, name, x, ot_safetensors_find(out, name), &how);
        expected++;
    }
    if (complete && ot_safetensors_count(out) != expected) {
        gold_fail(check, "the file has %lld tensors, expected %lld", (long long)ot_safetensors_count(out), (long long)expected);
    }
    ot_safetensors_close(out);
}

/* In a model directory: everything that `changed.` of the fixture does not name has the model's own bytes. */
static void compare_untouched(tuning *t, gold_check *check, const char *dir, const char *changed) {
    gold_path path;
    char why[GOLD_TEXT], name[2 * GOLD_TEXT];
    gold_join(path, "%s/model.safetensors", t->f->model);
    ot_safetensors *before = gold_open_fixture(path);
    gold_join(path, "%s/model.safetensors", dir);
    ot_safetensors *after = gold_open(path, why);
    if (!after) {
        gold_fail(check, "%s", why);
    } else {
        for (int64_t i = 0; i < ot_safetensors_count(before); i++) {
            const ot_tensor *b = ot_safetensors_at(before, i);
            snprintf(name, sizeof name, "%s%s", changed, b->name);
            if (!ot_safetensors_find(t->golden, name)) gold_compare_bytes(check, b->name, b, ot_safetensors_find(after, b->name));
        }
        if (ot_safetensors_count(after) != ot_safetensors_count(before)) {
            gold_fail(check, "%lld tensors instead of the model's %lld", (long long)ot_safetensors_count(after), (long long)ot_safetensors_count(before));
        }
    }
    ot_safetensors_close(after);
    ot_safetensors_close(before);
}

static int ascending(const void *a, const void *b) {
    json_int_t x = *(const json_int_t *)a, y = *(const json_int_t *)b;
    return (x > y) - (x < y);
}

static bool same_integers(const json_t *a, const json_t *b) {
    size_t n = json_array_size(a);
    json_int_t x[MAX_BLOCKS], y[MAX_BLOCKS];
    if (n != json_array_size(b) || n > MAX_BLOCKS) return false;
    for (size_t i = 0; i < n; i++) {
        x[i] = json_integer_value(json_array_get(a, i));
        y[i] = json_integer_value(json_array_get(b, i));
    }
    qsort(x, n, sizeof *x, ascending);
    qsort(y, n, sizeof *y, ascending);
    return memcmp(x, y, n * sizeof *x) == 0;
}

/* adapter_config.json says what PEFT's own says, as far as it decides the result. */
static void compare_peft_config(gold_check *check, const char *dir, const char *golden_dir) {
    static const char *const keys[] = {"peft_type", "task_type", "r", "lora_alpha", "bias", "fan_in_fan_out", "layers_to_transform",
                                       "num_virtual_tokens", "num_layers", "token_dim", "num_attention_heads", "prefix_projection"};
    gold_path path;
    char why[GOLD_TEXT];
    gold_join(path, "%s/adapter_config.json", golden_dir);
    json_t *expected = gold_json(path, why);
    if (!expected) gold_die("%s", why);
    gold_join(path, "%s/adapter_config.json", dir);
    json_t *actual = gold_json(path, why);
    if (!actual) gold_fail(check, "%s", why);
    for (size_t i = 0; actual && i < sizeof keys / sizeof keys[0]; i++) {
        const json_t *e = json_object_get(expected, keys[i]), *a = json_object_get(actual, keys[i]);
        if (!e || json_is_null(e)) continue;
        bool same = json_is_array(e)                          ? same_integers(e, a)
                    : json_is_number(e) && json_is_number(a) ? json_number_value(e) == json_number_value(a)
                                                              : json_equal(e, a) == 1;
        if (!same) gold_fail(check, "adapter_config.json: %s is not what PEFT writes", keys[i]);
    }
    json_decref(actual);
    json_decref(expected);
}

static void peft_directory(tuning *t, const char *check_name, const char *dir, const char *golden_name, bool whole, const char *blocked) {
    gold_check *check = gold_check_add(t->f->run, "%s/%s", t->label, check_name);
    if (blocked[0]) {
        gold_fail(check, "%s", blocked);
        return;
    }
    gold_path path, golden;
    gold_join(golden, "%s/%s", t->f->dir, golden_name);
    if (gold_exists("%s", golden)) compare_peft_config(check, dir, golden); /* small fixtures hold the values alone */
    gold_join(path, "%s/adapter_model.safetensors", dir);
    if (t->w->kind == RESULT_LORA) {
        compare_finals(t, check, path, whole, true);
        return;
    }
    char why[GOLD_TEXT];
    ot_safetensors *actual = gold_open(path, why);
    gold_join(path, "%s/adapter_model.safetensors", golden);
    ot_safetensors *expected = gold_open_fixture(path);
    if (!actual) gold_fail(check, "%s", why);
    else gold_compare(check, "prompt_embeddings", ot_safetensors_find(expected, "prompt_embeddings"), ot_safetensors_find(actual, "prompt_embeddings"), &FINAL);
    ot_safetensors_close(expected);
    ot_safetensors_close(actual);
}

/* plug into a fresh directory; returns why not, or "". */
static void plug(tuning *t, gold_path dir, bool merge, bool ledger, char *why) {
    gold_path file;
    gold_temp(t->f->run, dir, merge ? ".merged" : ".plugged");
    why[0] = 0;
    if (t->why[0]) {
        snprintf(why, GOLD_TEXT, "%s", t->why);
        return;
    }
    gold_args args = {0};
    gold_arg(&args, "plug", t->f->model, t->out, "-o", dir, NULL);
    if (merge) gold_arg(&args, "--merge", NULL);
    gold_join(file, "%s.owner.json", t->f->offer);
    if (ledger) gold_arg(&args, "--ledger", file, NULL);
    gold_result result = gold_exec(t->f->run, &args, NULL);
    if (result.code != 0) snprintf(why, GOLD_TEXT, "%.*s", GOLD_TEXT - 1, result.text);
}

static void merged_checks(tuning *t) {
    if (!ot_safetensors_find(t->golden, "merged.logits")) return;
    gold_path dir, path;
    char why[GOLD_TEXT];
    plug(t, dir, true, true, why);
    gold_check *weights = gold_check_add(t->f->run, "%s/merged", t->label);
    gold_check *logits = gold_check_add(t->f->run, "%s/merged_logits", t->label);
    held_out(t, "plug_in_merged", dir, NULL, why, "plug_in_merged");
    if (why[0]) {
        gold_fail(weights, "%s", why);
        gold_fail(logits, "%s", why);
        return;
    }
    gold_join(path, "%s/model.safetensors", dir);
    ot_safetensors *out = gold_open(path, why);
    if (!out) {
        gold_fail(weights, "%s", why);
    } else {
        gold_options how = {.bar = {1e-4, 5e-5, 0}, .tight = {0, 5e-5, 0}};
        for (int64_t i = 0; i < ot_safetensors_count(t->golden); i++) {
            const ot_tensor *x = ot_safetensors_at(t->golden, i);
            if (!starts(x->name, "merged.weight.")) continue;
            const char *name = x->name + strlen("merged.weight.");
            gold_compare(weights, name, x, ot_safetensors_find(out, name), &how);
        }
        compare_untouched(t, weights, dir, "merged.weight.");
        ot_safetensors_close(out);
    }
    out = gold_forward(t->f->run, dir, t->f->held, "", NULL, why);
    if (!out) {
        gold_fail(logits, "%s", why);
        return;
    }
    gold_options how = {.bar = {1e-4, 0, 0}, .tight = {0, 5e-5, 0}};
    gold_compare(logits, "merged.logits", ot_safetensors_find(t->golden, "merged.logits"), ot_safetensors_find(out, "logits"), &how);
    ot_safetensors_close(out);
}

/* A run of one step at rate 0 returns what --init-adapter gave it. */
static void initial_check(tuning *t) {
    if (!ot_safetensors_find(t->golden, "held_out.emulator_initial")) return;
    gold_path out, log;
    char why[GOLD_TEXT];
    train(t, "1", "1", out, log, why);
    held_out(t, "emulator_initial", t->f->offer, out, why, "emulator_initial");
}

static void whole_checks(tuning *t) {
    gold_path path;
    if (t->w->kind == RESULT_PREFIX) {
        gold_path golden;
        gold_join(golden, "%s/prefix-adapter", t->f->dir);
        peft_directory(t, "final", t->out, "prefix-adapter", true, t->why);
        held_out(t, "full_ft", t->f->model, t->out, t->why, "full_ft");
        held_out(t, "full_ft", t->f->model, golden, "", "reads_peft");
        return;
    }
    gold_check *finals = gold_check_add(t->f->run, "%s/final", t->label);
    gold_check *frozen = gold_check_add(t->f->run, "%s/frozen", t->label);
    if (t->why[0]) {
        gold_fail(finals, "%s", t->why);
        gold_fail(frozen, "%s", t->why);
    } else {
        gold_join(path, "%s/model.safetensors", t->out);
        compare_finals(t, finals, path, true, false);
        compare_untouched(t, frozen, t->out, "final.");
    }
    held_out(t, "full_ft", t->out, NULL, t->why, "full_ft");
}

static void offsite_checks(tuning *t) {
    family *f = t->f;
    gold_path path, dir, golden;
    char why[GOLD_TEXT];
    held_out(t, "emulator_zs", f->offer, NULL, f->offer_why, "emulator_zs");
    if (t->w->kind == RESULT_LORA) {
        peft_directory(t, "final", t->out, "lora-emulator", false, t->why);
    } else {
        gold_check *finals = gold_check_add(f->run, "%s/final", t->label);
        gold_join(path, "%s/adapter.safetensors", t->out);
        if (t->why[0]) gold_fail(finals, "%s", t->why);
        else compare_finals(t, finals, path, false, true);
    }
    held_out(t, "emulator_ft", f->offer, t->out, t->why, "emulator_ft");
    initial_check(t);

    plug(t, dir, false, t->w->kind == RESULT_LORA, why);
    if (t->w->kind == RESULT_LORA) {
        peft_directory(t, "plugged", dir, "lora-plugin", true, why);
    } else {
        gold_check *plugged = gold_check_add(f->run, "%s/plugged", t->label);
        gold_join(path, "%s/%s.safetensors", dir, t->w->kind == RESULT_OWN ? "adapter" : "model");
        if (why[0]) gold_fail(plugged, "%s", why);
        else compare_finals(t, plugged, path, true, t->w->kind == RESULT_OWN);
        if (!why[0] && t->w->kind == RESULT_MODEL) compare_untouched(t, plugged, dir, "final.");
    }
    bool model = t->w->kind == RESULT_MODEL;
    held_out(t, "plug_in", model ? dir : f->model, model ? NULL : dir, why, "plug_in");
    if (t->w->kind != RESULT_LORA) return;
    gold_join(golden, "%s/lora-plugin", f->dir);
    if (gold_exists("%s", golden)) held_out(t, "plug_in", f->model, golden, "", "reads_peft");
    merged_checks(t);
}

static void one_way(family *f, const way *w) {
    tuning t = {.f = f, .w = w};
    gold_path path, log;
    gold_join(path, "%s/%s.safetensors", f->dir, w->name);
    snprintf(t.label, sizeof t.label, "%.180s/%s", f->name, w->name);
    if (!gold_exists("%s", path) || !gold_wanted(f->run, t.label)) return;
    t.golden = gold_open_fixture(path);
    train(&t, f->steps, f->warmup, t.out, log, t.why);
    series_checks(&t, log);
    if (w->kind == RESULT_MODEL) first_gradients(&t);
    held_out(&t, "full_zs", f->model, NULL, "", "full_zs");
    if (w->whole) whole_checks(&t);
    else offsite_checks(&t);
    ot_safetensors_close(t.golden);
}

/* eval over the held-out rows: the zero-shot losses of the whole model and of the offer. */
static void eval_check(family *f, const char *key, const char *model, const char *blocked) {
    gold_path path;
    char name[64], why[GOLD_TEXT] = "";
    gold_join(path, "%s/offsite.safetensors", f->dir);
    ot_safetensors *golden = gold_open_fixture(path);
    snprintf(name, sizeof name, "held_out.%s", key);
    const ot_tensor *expected = ot_safetensors_find(golden, name);
    if (!expected) gold_die("%s lacks %s", path, name);
    gold_check *check = gold_check_add(f->run, "%s/eval/%s", f->name, key);
    gold_args args = {0};
    gold_arg(&args, "eval", model, "--blocks", f->held_ids, "--dtype", "f32", "--json", NULL);
    gold_result result = {0};
    json_t *out = NULL;
    if (!blocked[0]) result = gold_exec(f->run, &args, NULL);
    if (blocked[0]) gold_fail(check, "%s", blocked);
    else if (result.code != 0) gold_fail(check, "%s", result.text);
    else if (!(out = gold_json(result.out, why))) gold_fail(check, "%s", why);
    if (out) {
        const json_t *loss = json_object_get(out, "loss"), *perplexity = json_object_get(out, "perplexity");
        float *e = gold_floats(expected), got = (float)json_number_value(loss);
        gold_compare_floats(check, "loss", e, &got, 1, &HELD_OUT);
        double away = fabs(json_number_value(perplexity) / exp(json_number_value(loss)) - 1);
        gold_judge(check, "perplexity is exp(loss)", away, 1e-6, 1e-6);
        if (json_integer_value(json_object_get(out, "blocks")) != f->batch) gold_fail(check, "\"blocks\" is not %lld", (long long)f->batch);
        if (!json_is_integer(json_object_get(out, "tokens"))) gold_fail(check, "\"tokens\" is no integer");
        free(e);
        json_decref(out);
    }
    ot_safetensors_close(golden);
}

void gold_section_train(gold_run *run) {
    gold_path dir;
    gold_join(dir, "%s/train", run->root);
    int64_t count;
    char **names = gold_names(dir, &count);
    for (int64_t i = 0; i < count; i++) {
        family f = {.run = run};
        snprintf(f.name, sizeof f.name, "train/%.100s", names[i]);
        if (!gold_wanted(run, f.name)) continue;
        gold_join(f.dir, "%s/%s", dir, names[i]);
        gold_join(f.model, "%s/model", f.dir);
        gold_join(f.config, "%s/config.json", f.model);
        f.key = gold_key_bias_of(f.config);
        read_split(&f);
        write_data(&f);
        offer_checks(&f);
        for (size_t w = 0; w < sizeof WAYS / sizeof WAYS[0]; w++) one_way(&f, &WAYS[w]);
        char group[GOLD_TEXT];
        snprintf(group, sizeof group, "%.200s/eval", f.name);
        if (f.held_ids[0] && gold_wanted(run, group)) {
            eval_check(&f, "full_zs", f.model, "");
            eval_check(&f, "emulator_zs", f.offer, f.offer_why);
        }
    }
    gold_names_free(names, count);
}
