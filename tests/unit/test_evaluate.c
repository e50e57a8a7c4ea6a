/* Evaluation of two tiny models against what lm-evaluation-harness wrote about them (tools/make_eval_goldens.py): every task of
 * the table, tasks of the user's own, examples in front; results and samples key by key. */
#include <dirent.h>
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
#include "eval/evaluate.h"
#include "eval/results.h"
#include "format/json.h"
#include "model/model.h"

#define FOLDER TEST_DATA_DIR "/eval"

static ot_error err;

static void ok(ot_status status) {
    if (status != OT_OK) fail_msg("%s", err.message);
}

typedef struct setting {
    const char *model;
    const ot_backend *backend;
    bool no_sharing;
    int64_t rows;
} setting;

/* "TASK.SHOTSshot.json" of one model, and what was compared. */
typedef struct checking {
    char where[600];
    double worst;
} checking;

/* ==== Values. ==== */

static double number_of(const json_t *value, bool *is_number) {
    char *end = NULL;
    const char *text = json_string_value(value);
    *is_number = json_is_number(value);
    if (*is_number) return json_number_value(value);
    double number = text != NULL ? strtod(text, &end) : 0;
    *is_number = text != NULL && *text != '\0' && *end == '\0' && strpbrk(text, ".") != NULL;
    return number;
}

/* Numbers, also those in texts, within a tolerance of at least 1; everything else equal. */
static void same(checking *c, const char *what, const json_t *got, const json_t *wanted) {
    bool a = false, b = false;
    double x = number_of(got, &a), y = number_of(wanted, &b);
    if (json_is_array(wanted) && json_is_array(got) && json_array_size(wanted) == json_array_size(got)) {
        for (size_t i = 0; i < json_array_size(wanted); i++) same(c, what, json_array_get(got, i), json_array_get(wanted, i));
        return;
    }
    if (a && b) {
        double distance = fabs(x - y) / fmax(1, fabs(y));
        if (!(distance <= 3e-5)) fail_msg("%s: %s is %.9g, wanted %.9g", c->where, what, x, y);
        if (distance > c->worst) c->worst = distance;
        return;
    }
    if (json_equal(got, wanted)) return;
    char *p = json_dumps(got, JSON_ENCODE_ANY), *q = json_dumps(wanted, JSON_ENCODE_ANY);
    fail_msg("%s: %s is\n%.1000s\nwanted\n%.1000s", c->where, what, p != NULL ? p : "missing", q);
}

static void same_keys(checking *c, const json_t *got, const json_t *wanted) {
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)(uintptr_t)wanted, key, value) {
        if (strcmp(key, "perplexity_stderr,none") == 0) continue; /* a bootstrap there */
        const json_t *ours = json_object_get(got, key), *first = json_object_get(value, "gen_args_0");
        if (json_is_object(json_object_get(first, "arg_1"))) { /* settings of generation, which it repeats as the file has them */
            ours = json_object_get(json_object_get(ours, "gen_args_0"), "arg_0");
            value = json_object_get(first, "arg_0");
        }
        same(c, key, ours, value);
    }
}

/* ==== Parts of a record. ==== */

static void check_results(checking *c, const ot_evaluation *e, const json_t *record) {
    json_t *results = NULL;
    const char *name = e->task->name, *key = NULL;
    const json_t *written = json_object_get(record, "written");
    json_t *value = NULL;
    ok(ot_results_json(e, 1, &(ot_results_info){.model = "m", .dtype = "f32"}, &results, &err));
    json_object_foreach((json_t *)(uintptr_t)written, key, value) {
        const json_t *ours = json_object_get(json_object_get(results, key), name), *theirs = json_object_get(value, name);
        if (strcmp(key, "configs") == 0) { /* ours tells less; what it tells is the same */
            json_object_foreach((json_t *)(uintptr_t)ours, key, value) {
                if (strncmp(key, "dataset_", 8) != 0) same(c, key, value, json_object_get(theirs, key));
            }
        } else if (json_is_object(theirs)) {
            same_keys(c, ours, theirs);
        } else {
            same(c, key, ours, theirs);
        }
    }
    json_t *all = json_object_get(record, "keys");
    for (size_t i = 0; i < json_array_size(all); i++) {
        key = json_string_value(json_array_get(all, i));
        if (json_object_get(results, key) == NULL) fail_msg("%s: the results have no \"%s\"", c->where, key);
    }
    json_decref(results);
}

static void check_samples(checking *c, const ot_evaluation *e, const json_t *record) {
    const json_t *samples = json_object_get(record, "samples");
    assert_int_equal(json_array_size(e->samples), json_array_size(samples));
    for (size_t i = 0; i < json_array_size(samples); i++) same_keys(c, json_array_get(e->samples, i), json_array_get(samples, i));
}

static void check_blocks(checking *c, const ot_evaluation *e, const json_t *record) {
    const json_t *losses = json_object_get(record, "losses");
    assert_int_equal(json_array_size(e->samples), json_array_size(losses));
    for (size_t i = 0; i < json_array_size(losses); i++)
        same(c, "loss", json_object_get(json_array_get(e->samples, i), "loss"), json_array_get(losses, i));
    json_t *perplexity = json_real(e->metrics[0].value), *loss = json_real(e->metrics[1].value);
    same(c, "perplexity", perplexity, json_object_get(record, "perplexity"));
    same(c, "loss", loss, json_object_get(record, "loss"));
    json_decref(perplexity);
    json_decref(loss);
}

static void open_task(const char *name, const ot_task **task) {
    char path[400];
    snprintf(path, sizeof path, FOLDER "/tasks/%s.yaml", name);
    ok(ot_task_open(ot_path_exists(path) ? path : name, task, &err));
}

static void check_record(const setting *s, const ot_model *m, const ot_tokenizer *tokenizer, const char *path, double *worst) {
    static const char *const folders[] = {FOLDER "/rows"};
    json_t *record = NULL;
    const ot_task *task = NULL;
    ot_evaluation e;
    checking c = {.where = ""};
    ok(ot_json_read(path, 1 << 24, &record, &err));
    open_task(json_string_value(json_object_get(record, "task")), &task);
    const json_t *shots = json_object_get(record, "shots");
    ot_evaluate_options options = {
        .data = {.folders = folders, .n_folders = 1, .shots = json_is_integer(shots) ? json_integer_value(shots) : -1},
        .score = {.backend = s->backend, .no_sharing = s->no_sharing, .rows = s->rows},
        .block = json_integer_value(json_object_get(record, "block")),
    };
    snprintf(c.where, sizeof c.where, "%s, %s, backend %s", s->model, path + sizeof FOLDER, s->backend->name);
    if (ot_evaluate(m, tokenizer, task, &options, &e, &err) != OT_OK) fail_msg("%s: %s", c.where, err.message);
    if (task->kind == OT_TASK_BLOCKS) {
        check_blocks(&c, &e, record);
    } else {
        check_samples(&c, &e, record);
        check_results(&c, &e, record);
    }
    if (c.worst > *worst) *worst = c.worst;
    ot_evaluation_free(&e);
    ot_task_close(task);
    json_decref(record);
}

static void check_model(const setting *s) {
    char path[400];
    ot_model *m = NULL;
    ot_tokenizer *tokenizer = NULL;
    double worst = 0;
    int records = 0;
    snprintf(path, sizeof path, FOLDER "/%s", s->model);
    ok(ot_model_open(path, OT_F32, &m, &err));
    ok(ot_tokenizer_open(path, &tokenizer, &err));
    snprintf(path, sizeof path, FOLDER "/golden/%s", s->model);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, FOLDER "/golden/%s/%s", s->model, entry->d_name);
        check_record(s, m, tokenizer, path, &worst);
        records++;
    }
    closedir(dir);
    assert_int_equal(records, 27);
    print_message("%s, backend %s%s: %d records, largest distance %.1e\n", s->model, s->backend->name,
                  s->no_sharing ? ", nothing shared" : "", records, worst);
    ot_tokenizer_close(tokenizer);
    ot_model_close(m);
}

static void agrees_with_the_harness(void **state) {
    (void)state;
    const setting settings[] = {{"llama", ot_backends[0], false, 0},
                                {"opt", ot_backends[0], false, 0},
                                {"llama", &ot_backend_ref, false, 0},
                                {"llama", ot_backends[0], true, 0},
                                {"opt", ot_backends[0], true, 60}};
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) check_model(&settings[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(agrees_with_the_harness)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
