#include "eval/classify.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "eval/results.h"
#include "format/json.h"

enum { USUAL_ROWS = 2048 };

/* ==== Running. ==== */

static ot_status judge(const float *logits, int64_t classes, int32_t label, ot_classified *out, ot_error *err) {
    double largest = -INFINITY, sum = 0;
    int n = 0;
    *out = (ot_classified){.label = label, .loss = NAN};
    for (int64_t c = 0; c < classes; c++) {
        float v = logits[c];
        if (!isfinite(v)) return ot_fail(err, OT_ERR_NUMERIC, "a logit is %g: the model's weights are damaged or the dtype is too narrow", (double)v);
        largest = fmax(largest, (double)v);
        /* An insertion sort of the best few keeps equals in the order of their numbers. */
        int at = n;
        while (at > 0 && v > logits[out->top[at - 1]]) at--;
        if (at == OT_CLASSIFY_TOP) continue;
        if (n < OT_CLASSIFY_TOP) n++;
        for (int k = n - 1; k > at; k--) out->top[k] = out->top[k - 1];
        out->top[at] = (int32_t)c;
    }
    for (int64_t c = 0; c < classes; c++) sum += exp((double)logits[c] - largest);
    for (int k = 0; k < OT_CLASSIFY_TOP; k++) {
        if (k >= n) out->top[k] = -1;
        else out->probability[k] = (float)(exp((double)logits[out->top[k]] - largest) / sum);
    }
    if (label >= 0) out->loss = log(sum) - ((double)logits[label] - largest);
    return OT_OK;
}

static bool in_top(const ot_classified *p, int k) {
    for (int i = 0; i < k; i++) {
        if (p->top[i] == p->label && p->label >= 0) return true;
    }
    return false;
}

static void count(ot_classification *c, const ot_classified *p) {
    c->classes[p->top[0]].predicted++;
    if (p->label < 0) return;
    ot_class_score *s = &c->classes[p->label];
    c->labelled++;
    c->loss += p->loss;
    s->images++;
    s->right += in_top(p, 1);
    s->right5 += in_top(p, OT_CLASSIFY_TOP);
}

static int64_t right_so_far(const ot_classification *c) {
    int64_t n = 0;
    for (int64_t i = 0; i < c->n_classes; i++) n += c->classes[i].right;
    return n;
}

static ot_status run_batch(ot_network *net, const ot_dataset *d, int64_t first, int64_t n, ot_classification *c, ot_error *err) {
    ot_network_clear(net);
    for (int64_t i = first; i < first + n; i++) {
        OT_TRY(d->pixels->get(d->pixels, i, -1, d->picture, err));
        OT_TRY(ot_network_add_image(net, d->picture, 0, err));
    }
    OT_TRY(ot_network_run(net, &(ot_run_options){0}, NULL, err));
    const float *logits = ot_network_logits(net);
    for (int64_t i = 0; i < n; i++) {
        ot_classified *p = &c->pictures[first + i];
        OT_TRY(judge(logits + i * c->n_classes, c->n_classes, d->targets[first + i], p, err));
        count(c, p);
    }
    return OT_OK;
}

static ot_status run_all(ot_network *net, const ot_dataset *d, const ot_classify_options *o, int64_t batch, ot_classification *c, ot_error *err) {
    for (int64_t first = 0; first < d->rows; first += batch) {
        int64_t n = d->rows - first < batch ? d->rows - first : batch;
        OT_TRY(run_batch(net, d, first, n, c, err));
        if (o->observe != NULL) o->observe(o->context, first + n, d->rows, c->labelled > 0 ? (double)right_so_far(c) / (double)c->labelled : NAN);
    }
    return OT_OK;
}

static void summarise(ot_classification *c) {
    int64_t right5 = 0;
    for (int64_t i = 0; i < c->n_classes; i++) right5 += c->classes[i].right5;
    double n = (double)c->labelled;
    c->acc = (double)right_so_far(c) / n;
    c->acc_top5 = (double)right5 / n;
    c->acc_stderr = sqrt(c->acc * (1 - c->acc) / (n - 1));
    c->loss /= n;
}

ot_status ot_classify(const ot_model *m, const ot_dataset *data, const ot_classify_options *options, ot_classification *out, ot_error *err) {
    *out = (ot_classification){.images = data->rows, .n_classes = m->desc.vocab_size};
    if (m->headless) return ot_fail(err, OT_ERR_REFUSED, "%s has no classifier: tune one (offsite tune, or offsite finetune --peft head)", m->path);
    int64_t batch = options->batch > 0 ? options->batch : USUAL_ROWS / data->length + 1;
    if (batch > data->rows) batch = data->rows;
    ot_network_options network = {
        .plan = {.backend = options->backend, .compute = options->compute, .max_rows = batch * data->length, .max_targets = batch},
        .hooks = options->hooks,
        .outputs = OT_OUT_LOGITS,
        .max_segments = batch,
        .image_height = data->pixels->height,
        .image_width = data->pixels->width,
    };
    ot_network *net = NULL;
    ot_status status = ot_malloc(data->rows, sizeof *out->pictures, "predictions", (void **)&out->pictures, err);
    if (status == OT_OK) status = ot_calloc(out->n_classes, sizeof *out->classes, "scores of the classes", (void **)&out->classes, err);
    if (status == OT_OK) status = ot_network_new(m, &network, &net, err);
    if (status == OT_OK) status = run_all(net, data, options, batch, out, err);
    ot_network_free(net);
    if (status == OT_OK) summarise(out);
    else ot_classification_free(out);
    return status;
}

void ot_classification_free(ot_classification *c) {
    ot_free(c->pictures);
    ot_free(c->classes);
    *c = (ot_classification){0};
}

/* ==== What is taken for what. ==== */

int64_t ot_classification_occurring(const ot_classification *c, int32_t *out) {
    int64_t n = 0;
    for (int64_t i = 0; i < c->n_classes; i++) {
        if (c->classes[i].images > 0 || c->classes[i].predicted > 0) out[n++] = (int32_t)i;
    }
    return n;
}

void ot_classification_confusion(const ot_classification *c, const int32_t *position, int64_t n, int64_t *counts) {
    for (int64_t i = 0; i < c->images; i++) {
        const ot_classified *p = &c->pictures[i];
        if (p->label >= 0) counts[position[p->label] * n + position[p->top[0]]]++;
    }
}

/* ==== Files. ==== */

static ot_status sample(const ot_classified *p, int64_t i, const ot_dataset *d, const ot_classes *names, json_t *lines, ot_error *err) {
    const char *file = d->pixels->name != NULL ? d->pixels->name(d->pixels, i) : NULL;
    char sha256[OT_DIGEST_TEXT];
    if (d->pixels->digest != NULL) OT_TRY(d->pixels->digest(d->pixels, i, sha256, err));
    json_t *top = json_array();
    for (int k = 0; k < OT_CLASSIFY_TOP && p->top[k] >= 0; k++) {
        json_array_append_new(top, json_pack("{s:s,s:f}", "label", names->names[p->top[k]], "probability", (double)p->probability[k]));
    }
    json_t *j = json_pack("{s:I,s:s?,s:s?,s:s,s:o}", "doc_id", (json_int_t)i, "image", file, "label", p->label >= 0 ? names->names[p->label] : NULL, "prediction",
                          names->names[p->top[0]], "top5", top);
    if (d->pixels->digest != NULL) json_object_set_new(j, "sha256", json_string(sha256));
    if (p->label >= 0) {
        json_object_set_new(j, "acc", json_real(in_top(p, 1)));
        json_object_set_new(j, "acc_top5", json_real(in_top(p, OT_CLASSIFY_TOP)));
        json_object_set_new(j, "loss", json_real(p->loss));
    }
    return json_array_append_new(lines, j) == 0 ? OT_OK : ot_fail_memory(err, 4096, "the results");
}

static json_t *real_or_null(double v) { return isfinite(v) ? json_real(v) : json_null(); }

static json_t *results(const ot_classification *c, const char *model) {
    json_t *scores = json_object();
    json_object_set_new(scores, "alias", json_string("images"));
    json_object_set_new(scores, "acc,none", real_or_null(c->acc));
    json_object_set_new(scores, "acc_stderr,none", real_or_null(c->acc_stderr));
    json_object_set_new(scores, "acc_top5,none", real_or_null(c->acc_top5));
    json_object_set_new(scores, "loss,none", real_or_null(c->loss));
    return json_pack("{s:{s:o},s:{s:{s:I,s:I}},s:s}", "results", "images", scores, "n-samples", "images", "original", (json_int_t)c->images, "effective",
                     (json_int_t)c->labelled, "model_name", model);
}

ot_status ot_classification_write(const ot_classification *c, const ot_dataset *data, const ot_classes *names, const char *model, const char *dir,
                                  ot_error *err) {
    char date[64], name[128], path[4200];
    ot_results_date(date, sizeof date);
    OT_TRY(ot_make_dirs(dir, err));
    json_t *lines = json_array(), *whole = results(c, model);
    ot_status status = lines == NULL || whole == NULL ? ot_fail_memory(err, 4096, "the results") : OT_OK;
    for (int64_t i = 0; status == OT_OK && i < c->images; i++) status = sample(&c->pictures[i], i, data, names, lines, err);
    snprintf(name, sizeof name, "samples_images_%s.jsonl", date);
    if (status == OT_OK && !ot_path_join(path, sizeof path, dir, name)) status = ot_fail(err, OT_ERR_USAGE, "%s: the path is too long", dir);
    if (status == OT_OK) status = ot_results_write_lines(path, lines, err);
    snprintf(name, sizeof name, "results_%s.json", date);
    if (status == OT_OK && ot_path_join(path, sizeof path, dir, name)) status = ot_json_write(path, whole, err);
    json_decref(lines);
    json_decref(whole);
    return status;
}
