/* `offsite eval --images`: accuracy of a classifier over pictures, for each class, and what is taken for what. */
#include "cli/eval_images.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/parallel.h"
#include "cli/common_images.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/text.h"
#include "eval/classify.h"

enum { MOST_CONFUSED = 2048, SHOWN_CLASSES = 20, SHOWN_COLUMNS = 12 };

typedef struct job {
    const ot_args *args;
    const ot_model *model;
    ot_dataset data;
    ot_classes names;
    ot_classification result;
    ot_progress progress;
    double seconds;
    int32_t *occurring, *position; /* classes that occur; and where a class stands among them */
    int64_t n, *counts;            /* [n, n]; NULL: too many */
} job;

static void observe(void *context, int64_t done, int64_t total, double acc) {
    (void)total;
    (void)acc;
    ot_progress_sample s = OT_PROGRESS_SAMPLE;
    s.step = done;
    ot_progress_step(context, &s);
}

static ot_status confuse(job *j, ot_error *err) {
    const ot_classification *c = &j->result;
    OT_TRY(ot_calloc(c->n_classes, sizeof *j->occurring, "the classes that occur", (void **)&j->occurring, err));
    OT_TRY(ot_calloc(c->n_classes, sizeof *j->position, "the classes that occur", (void **)&j->position, err));
    j->n = ot_classification_occurring(c, j->occurring);
    for (int64_t i = 0; i < j->n; i++) j->position[j->occurring[i]] = (int32_t)i;
    if (j->n > MOST_CONFUSED) return OT_OK;
    OT_TRY(ot_calloc(j->n * j->n, sizeof *j->counts, "the confusion matrix", (void **)&j->counts, err));
    ot_classification_confusion(c, j->position, j->n, j->counts);
    return OT_OK;
}

/* ==== For machines. ==== */

static void json_classes(const job *j, ot_json_out *out) {
    ot_json_out_array(out, "per_class");
    for (int64_t i = 0; i < j->n; i++) {
        const ot_class_score *s = &j->result.classes[j->occurring[i]];
        ot_json_out_object(out, NULL);
        ot_json_out_str(out, "label", j->names.names[j->occurring[i]]);
        ot_json_out_i64(out, "images", s->images);
        ot_json_out_f64(out, "acc", (double)s->right / (double)s->images);
        ot_json_out_f64(out, "acc_top5", (double)s->right5 / (double)s->images);
        ot_json_out_i64(out, "predicted", s->predicted);
        ot_json_out_end(out);
    }
    ot_json_out_end(out);
    if (j->counts == NULL) {
        ot_json_out_null(out, "confusion");
        return;
    }
    ot_json_out_object(out, "confusion");
    ot_json_out_array(out, "labels");
    for (int64_t i = 0; i < j->n; i++) ot_json_out_str(out, NULL, j->names.names[j->occurring[i]]);
    ot_json_out_end(out);
    ot_json_out_array(out, "counts");
    for (int64_t i = 0; i < j->n; i++) {
        ot_json_out_array(out, NULL);
        for (int64_t k = 0; k < j->n; k++) ot_json_out_i64(out, NULL, j->counts[i * j->n + k]);
        ot_json_out_end(out);
    }
    ot_json_out_end(out);
    ot_json_out_end(out);
}

static ot_status print_json(const job *j, ot_error *err) {
    const ot_classification *c = &j->result;
    ot_json_out out = ot_json_out_open(stdout);
    ot_json_out_object(&out, NULL);
    ot_json_out_f64(&out, "acc", c->acc);
    ot_json_out_f64(&out, "acc_stderr", c->acc_stderr);
    ot_json_out_f64(&out, "acc_top5", c->acc_top5);
    ot_json_out_f64(&out, "loss", c->loss);
    ot_json_out_i64(&out, "images", c->images);
    ot_json_out_i64(&out, "labelled", c->labelled);
    ot_json_out_i64(&out, "left_out", j->data.pixels->bad);
    ot_json_out_f64(&out, "images_per_second", (double)c->images / j->seconds);
    json_classes(j, &out);
    return ot_json_out_close(&out, err);
}

/* ==== For people. ==== */

/* The class that pictures of this one are wrongly taken for most often, -1: none. */
static int64_t mistaken_for(const job *j, int64_t i, int64_t *times) {
    int64_t best = -1;
    *times = 0;
    for (int64_t k = 0; j->counts != NULL && k < j->n; k++) {
        int64_t v = j->counts[i * j->n + k];
        if (k == i || v <= *times) continue;
        best = k;
        *times = v;
    }
    return best;
}

typedef struct ranked {
    int64_t index;
    double acc;
} ranked;

static int worst_first(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->acc != y->acc) return x->acc < y->acc ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

/* All classes in their order, or of many the worst. */
static ot_status rank(const job *j, ranked **out, int64_t *shown, ot_error *err) {
    int64_t n = 0;
    OT_TRY(ot_calloc(j->n, sizeof **out, "an order of classes", (void **)out, err));
    for (int64_t i = 0; i < j->n; i++) {
        const ot_class_score *s = &j->result.classes[j->occurring[i]];
        if (s->images > 0) (*out)[n++] = (ranked){.index = i, .acc = (double)s->right / (double)s->images};
    }
    if (n > SHOWN_CLASSES) qsort(*out, (size_t)n, sizeof **out, worst_first);
    *shown = n < SHOWN_CLASSES ? n : SHOWN_CLASSES;
    return OT_OK;
}

static ot_status print_classes(const job *j, ot_error *err) {
    static const ot_column columns[] = {{"class", OT_LEFT}, {"images", OT_RIGHT}, {"top-1", OT_RIGHT}, {"top-5", OT_RIGHT}, {"mostly taken for", OT_LEFT}};
    ranked *order = NULL;
    int64_t shown = 0;
    OT_TRY(rank(j, &order, &shown, err));
    if (j->n > SHOWN_CLASSES) printf("the worst %s classes:\n", OT_COUNT(shown));
    ot_table t = ot_table_begin(columns, 5);
    for (int64_t r = 0; r < shown; r++) {
        int64_t i = order[r].index, times = 0, other = mistaken_for(j, i, &times);
        const ot_class_score *s = &j->result.classes[j->occurring[i]];
        ot_table_cell(&t, "%s", j->names.names[j->occurring[i]]);
        ot_table_cell(&t, "%s", OT_COUNT(s->images));
        ot_table_cell(&t, "%.1f %%", 100 * order[r].acc);
        ot_table_cell(&t, "%.1f %%", 100 * (double)s->right5 / (double)s->images);
        if (other < 0) ot_table_cell(&t, "%s", "");
        else ot_table_cell(&t, "%s (%s)", j->names.names[j->occurring[other]], OT_COUNT(times));
    }
    ot_free(order);
    return ot_table_print(&t, stdout, err);
}

static ot_status print_confusion(const job *j, ot_error *err) {
    ot_column columns[SHOWN_COLUMNS + 1] = {{"of \\ taken for", OT_LEFT}};
    if (j->counts == NULL || j->n > SHOWN_COLUMNS) return OT_OK;
    for (int64_t i = 0; i < j->n; i++) columns[i + 1] = (ot_column){j->names.names[j->occurring[i]], OT_RIGHT};
    printf("\n");
    ot_table t = ot_table_begin(columns, (int)j->n + 1);
    for (int64_t i = 0; i < j->n; i++) {
        ot_table_cell(&t, "%s", j->names.names[j->occurring[i]]);
        for (int64_t k = 0; k < j->n; k++) ot_table_cell(&t, "%s", OT_COUNT(j->counts[i * j->n + k]));
    }
    return ot_table_print(&t, stdout, err);
}

static ot_status print_text(const job *j, ot_error *err) {
    const ot_classification *c = &j->result;
    printf("top-1 %.2f %% (± %.2f), top-5 %.2f %%, loss %.4f over %s, %.1f a second\n\n", 100 * c->acc, 100 * c->acc_stderr, 100 * c->acc_top5,
           c->loss, OT_COUNT_OF(c->labelled, "picture"), (double)c->images / j->seconds);
    OT_TRY(print_classes(j, err));
    return print_confusion(j, err);
}

/* ==== All of it. ==== */

static ot_status run(job *j, const ot_common_model *c, ot_error *err) {
    const ot_args *args = j->args;
    ot_classify_options options = {.hooks = c->hooks, .observe = observe, .context = &j->progress};
    OT_TRY(ot_common_backend(args, &options.backend, &options.compute, err));
    OT_TRY(ot_common_images_open(args, "images", c->model, false, &j->data, err));
    OT_TRY(ot_common_images_number("--images", c->model, &j->data, err));
    if (ot_args_has(args, "rows")) options.batch = ot_args_i64(args, "rows") / j->data.length + 1;
    OT_TRY(ot_model_classes(c->model, &j->names, err));
    ot_progress_begin(&j->progress, args, "eval", "picture", j->data.rows, 0);
    double start = ot_seconds();
    ot_status status = ot_classify(c->model, &j->data, &options, &j->result, err);
    j->seconds = ot_seconds() - start;
    ot_progress_end(&j->progress);
    OT_TRY(status);
    OT_TRY(confuse(j, err));
    const char *dir = ot_args_str(args, "output");
    if (dir != NULL) OT_TRY(ot_classification_write(&j->result, &j->data, &j->names, ot_args_operand(args, "MODEL"), dir, err));
    return ot_args_flag(args, "json") ? print_json(j, err) : print_text(j, err);
}

ot_status ot_eval_images(const ot_args *args, const ot_common_model *c, ot_error *err) {
    job j = {.args = args, .model = c->model};
    if (!c->model->desc.vision) return ot_fail(err, OT_ERR_USAGE, "--images: %s reads text, not pictures", c->model->path);
    ot_status status = run(&j, c, err);
    ot_free(j.occurring);
    ot_free(j.position);
    ot_free(j.counts);
    ot_classification_free(&j.result);
    ot_classes_free(&j.names);
    ot_dataset_free(&j.data);
    return status;
}
