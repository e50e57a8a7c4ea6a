/* Judging: checks with their worst error, and comparisons of tensors. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"

const gold_bar GOLD_EXACT = {0, 0, 0};

/* "a" wants "a" and all below; a filter also wants the groups on the way down to it. */
bool gold_wanted(const gold_run *run, const char *group) {
    if (!run->only) return true;
    size_t n = strlen(run->only), m = strlen(group);
    return strncmp(run->only, group, n < m ? n : m) == 0;
}

void gold_skip(gold_run *run, const char *group, const char *why) {
    printf("SKIPPED  %s%s: %s\n", run->prefix, group, why);
    if (run->n_skipped == (int64_t)(sizeof run->skipped / sizeof run->skipped[0])) gold_die("too many groups are skipped");
    snprintf(run->skipped[run->n_skipped++], GOLD_TEXT, "%s%s/", run->prefix, group);
}

gold_check *gold_check_add(gold_run *run, const char *format, ...) {
    gold_check *check = calloc(1, sizeof *check);
    if (!check) gold_die("out of memory");
    size_t n = (size_t)snprintf(check->name, sizeof check->name, "%s", run->prefix);
    va_list list;
    va_start(list, format);
    int more = vsnprintf(check->name + n, sizeof check->name - n, format, list);
    va_end(list);
    if (more < 0 || n + (size_t)more >= sizeof check->name) gold_die("a check's name is too long: %s", check->name);
    for (int64_t i = 0; i < run->count; i++) {
        if (strcmp(run->checks[i]->name, check->name) == 0) gold_die("two checks are called %s", check->name);
    }
    if (run->count == run->capacity) {
        run->capacity = run->capacity ? 2 * run->capacity : 256;
        run->checks = realloc(run->checks, (size_t)run->capacity * sizeof *run->checks);
        if (!run->checks) gold_die("out of memory");
    }
    return run->checks[run->count++] = check;
}

void gold_fail(gold_check *check, const char *format, ...) {
    if (check->failed) return;
    check->failed = true;
    va_list list;
    va_start(list, format);
    vsnprintf(check->detail, sizeof check->detail, format, list);
    va_end(list);
}

/* A bar of 0 asks for equality. */
static double ratio_of(double error, double bar) {
    if (!isfinite(error)) return INFINITY;
    return error == 0 ? 0 : bar > 0 ? error / bar : INFINITY;
}

void gold_judge(gold_check *check, const char *label, double error, double bar, double tight) {
    double ratio = ratio_of(error, bar), tight_ratio = ratio_of(error, tight);
    if (tight_ratio > check->tight) check->tight = tight_ratio;
    if (!check->judged || ratio > check->ratio) {
        check->ratio = ratio;
        check->error = error;
        check->bar = bar;
        if (!check->failed) snprintf(check->detail, sizeof check->detail, "%s", label);
    }
    check->judged = true;
}

bool gold_passes(const gold_check *check) { return !check->failed && check->judged && check->ratio <= 1 && check->key <= 1; }

bool gold_passes_tight(const gold_check *check) { return gold_passes(check) && check->tight <= 1 && check->key_tight <= 1; }

float *gold_floats(const ot_tensor *t) {
    int64_t n = ot_tensor_elements(t);
    float *out = malloc((size_t)(n ? n : 1) * sizeof *out);
    if (!out) gold_die("out of memory");
    if (!ot_dtype_is_float(t->dtype)) gold_die("%s is not a float tensor", t->name);
    ot_decode_f32(t->dtype, t->data, out, n);
    return out;
}

int64_t *gold_ints(const ot_tensor *t) {
    int64_t n = ot_tensor_elements(t);
    if (t->dtype != OT_I64) gold_die("%s is not int64", t->name);
    int64_t *out = malloc((size_t)(n ? n : 1) * sizeof *out);
    if (!out) gold_die("out of memory");
    memcpy(out, t->data, (size_t)n * sizeof *out);
    return out;
}

bool gold_same_shape(const ot_tensor *a, const ot_tensor *b) {
    if (a->n_dims != b->n_dims) return false;
    for (int32_t i = 0; i < a->n_dims; i++) {
        if (a->shape[i] != b->shape[i]) return false;
    }
    return true;
}

double gold_max_abs(const ot_tensor *t) {
    float *v = gold_floats(t);
    double top = 0;
    for (int64_t i = 0, n = ot_tensor_elements(t); i < n; i++) top = fmax(top, fabs((double)v[i]));
    free(v);
    return top;
}

bool gold_is_key_bias(const gold_key_bias *kind, const char *name, int64_t elements, int64_t element) {
    if (!kind || !kind->on) return false;
    const char *dot = strrchr(name, '.');
    if (!dot || strcmp(dot, ".bias") != 0) return false;
    const char *owner = dot;
    while (owner > name && owner[-1] != '.') owner--;
    size_t n = (size_t)(dot - owner);
    if ((n == 6 && strncmp(owner, "k_proj", n) == 0) || (n == 3 && strncmp(owner, "key", n) == 0)) return true;
    if ((n == 6 && strncmp(owner, "c_attn", n) == 0) || (n == 3 && strncmp(owner, "qkv", n) == 0)) return element / (elements / 3) == 1;
    if (n == 15 && strncmp(owner, "query_key_value", n) == 0 && kind->heads > 0) {
        return element % (elements / kind->heads) / (elements / kind->heads / 3) == 1;
    }
    return false;
}

gold_key_bias gold_key_bias_of(const char *config_path) {
    gold_key_bias kind = {0};
    json_t *config = gold_json(config_path, NULL);
    if (!config) return kind;
    kind.on = !json_object_get(config, "rope_parameters") && !json_object_get(config, "rope_theta");
    const json_t *heads = json_object_get(config, "n_head");
    if (!heads) heads = json_object_get(config, "num_attention_heads");
    kind.heads = json_integer_value(heads);
    json_decref(config);
    return kind;
}

static bool left_out(const gold_options *how, int64_t n, int64_t element) {
    return how->row_mask && how->rows > 0 && how->row_mask[element / (n / how->rows)] == 0;
}

void gold_compare_floats(gold_check *check, const char *label, const float *expected, const float *actual, int64_t n,
                         const gold_options *how) {
    double worst = 0, worst_key = 0, top = 0;
    bool has_key = false;
    if (how->row_mask && n % how->rows) gold_die("%s does not have the mask's rows", label);
    for (int64_t i = 0; i < n; i++) {
        if (left_out(how, n, i)) continue;
        top = fmax(top, fabs((double)expected[i]));
        double error = fabs((double)expected[i] - (double)actual[i]);
        bool key = gold_is_key_bias(how->key_bias, label, n, i);
        double *slot = key ? &worst_key : &worst;
        has_key = has_key || key;
        if (!isfinite(error)) error = INFINITY;
        if (error > *slot) *slot = error;
    }
    gold_judge(check, label, worst, how->bar.atol + how->bar.rtol * fmax(top, how->bar.floor),
               how->tight.atol + how->tight.rtol * fmax(top, how->tight.floor));
    if (!has_key) return;
    check->key = fmax(check->key, ratio_of(worst_key, how->key_bar));
    check->key_tight = fmax(check->key_tight, ratio_of(worst_key, how->key_tight));
    if (check->key > 1) gold_fail(check, "%s: its key bias is off by %.2e, the bar is %.2e", label, worst_key, how->key_bar);
}

void gold_compare(gold_check *check, const char *label, const ot_tensor *expected, const ot_tensor *actual, const gold_options *how) {
    if (!actual) {
        gold_fail(check, "%s is absent", label);
        return;
    }
    bool floats = ot_dtype_is_float(expected->dtype);
    if (!gold_same_shape(expected, actual) || floats != ot_dtype_is_float(actual->dtype)) {
        char e[128], a[128];
        gold_fail(check, "%s is %s %s, expected %s %s", label, ot_dtype_info(actual->dtype)->name,
                  ot_shape_text(actual->shape, actual->n_dims, a, sizeof a), ot_dtype_info(expected->dtype)->name,
                  ot_shape_text(expected->shape, expected->n_dims, e, sizeof e));
        return;
    }
    int64_t n = ot_tensor_elements(expected);
    if (!floats) {
        int64_t *e = gold_ints(expected), *a = gold_ints(actual);
        double worst = 0;
        for (int64_t i = 0; i < n; i++) worst = fmax(worst, fabs((double)e[i] - (double)a[i]));
        gold_judge(check, label, worst, 0, 0);
        free(e);
        free(a);
        return;
    }
    float *e = gold_floats(expected), *a = gold_floats(actual);
    gold_compare_floats(check, label, e, a, n, how);
    free(e);
    free(a);
}

void gold_compare_bytes(gold_check *check, const char *label, const ot_tensor *expected, const ot_tensor *actual) {
    if (!actual) {
        gold_fail(check, "%s is absent", label);
    } else if (!gold_same_shape(expected, actual) || expected->dtype != actual->dtype) {
        char e[128], a[128];
        gold_fail(check, "%s is %s %s, expected %s %s", label, ot_dtype_info(actual->dtype)->name,
                  ot_shape_text(actual->shape, actual->n_dims, a, sizeof a), ot_dtype_info(expected->dtype)->name,
                  ot_shape_text(expected->shape, expected->n_dims, e, sizeof e));
    } else if (memcmp(expected->data, actual->data, (size_t)expected->bytes) != 0) {
        gold_fail(check, "%s has other bytes", label);
    } else {
        gold_judge(check, label, 0, 0, 0);
    }
}
