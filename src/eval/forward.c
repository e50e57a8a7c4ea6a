#include "eval/forward.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/safetensors.h"

#include "eval/forward_internal.h"

static ot_status take_ids(const ot_safetensors *st, const char *name, bool required, const ot_tensor *like, const ot_tensor **out, ot_error *err) {
    const ot_tensor *t = ot_safetensors_find(st, name);
    const char *path = ot_safetensors_path(st);
    *out = NULL;
    if (t == NULL) return required ? ot_fail(err, OT_ERR_FORMAT, "%s: the tensor %s is missing", path, name) : OT_OK;
    if (t->dtype != OT_I64 || t->n_dims != 2 || t->shape[0] < 1 || t->shape[1] < 1) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: tensor %s must be int64 of shape [batch, tokens]", path, name);
    }
    if (like != NULL && (t->shape[0] != like->shape[0] || t->shape[1] != like->shape[1])) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: tensor %s must have the shape of input_ids", path, name);
    }
    *out = t;
    return OT_OK;
}

static int64_t at(const ot_tensor *t, int64_t i) {
    int64_t v;
    memcpy(&v, (const char *)t->data + i * 8, 8);
    return v;
}

static ot_status make_network(forward_job *job, ot_error *err) {
    bool loss = job->labels != NULL;
    int64_t rows = 0;
    if (!ot_mul_i64(job->batch, job->length, &rows) || rows > INT32_MAX / 4) {
        return ot_fail(err, OT_ERR_USAGE, "the input has too many tokens for one forward");
    }
    ot_network_options options = {
        .plan = {.backend = job->options->backend,
                 .compute = job->options->compute,
                 .max_rows = rows,
                 .max_targets = loss ? rows : 0, /* of each sequence the last predicts nothing, and a soft prompt its first */
                 .train = loss && job->options->grad},
        .hooks = job->options->hooks,
        .outputs = OT_OUT_LOGITS | (loss ? OT_OUT_LOSS : 0U) | (job->options->hidden ? OT_OUT_HIDDEN : 0U),
        .max_segments = job->batch,
    };
    return ot_network_new(job->m, &options, &job->net, err);
}

static ot_status convert_row(const forward_job *job, int64_t row, int32_t *ids, int32_t *targets, int64_t *mask, ot_error *err) {
    int64_t vocab = job->m->desc.vocab_size, base = row * job->length;
    for (int64_t t = 0; t < job->length; t++) {
        int64_t id = at(job->ids, base + t);
        mask[t] = job->mask == NULL ? 1 : at(job->mask, base + t);
        if (mask[t] != 0 && (id < 0 || id >= vocab)) {
            return ot_fail(err, OT_ERR_FORMAT, "input_ids[%lld, %lld] is %lld, outside the vocabulary of %lld", (long long)row, (long long)t,
                           (long long)id, (long long)vocab);
        }
        ids[t] = mask[t] != 0 ? (int32_t)id : 0;
        int64_t label = job->labels != NULL && t + 1 < job->length ? at(job->labels, base + t + 1) : IGNORED_LABEL;
        if (label != IGNORED_LABEL && (label < 0 || label >= vocab)) {
            return ot_fail(err, OT_ERR_FORMAT, "labels[%lld, %lld] is %lld: neither a token id nor -100", (long long)row, (long long)t + 1,
                           (long long)label);
        }
        targets[t] = label == IGNORED_LABEL ? -1 : (int32_t)label;
    }
    return OT_OK;
}

/* A soft prompt predicts the first token too, as in PEFT. */
static void expect_first(const forward_job *job, int64_t row) {
    int64_t label = at(job->labels, row * job->length), vocab = job->m->desc.vocab_size;
    ot_network_expect(job->net, label == IGNORED_LABEL ? -1 : (int32_t)(label >= 0 && label < vocab ? label : vocab));
}

static ot_status fill_batch(forward_job *job, ot_error *err) {
    void *ids = NULL, *targets = NULL, *mask = NULL;
    ot_status status = ot_malloc(job->length, 4, "token ids", &ids, err);
    if (status == OT_OK) status = ot_malloc(job->length, 4, "targets", &targets, err);
    if (status == OT_OK) status = ot_malloc(job->length, 8, "a mask", &mask, err);
    ot_network_clear(job->net);
    for (int64_t b = 0; status == OT_OK && b < job->batch; b++) {
        status = convert_row(job, b, ids, targets, mask, err);
        if (status == OT_OK && job->labels != NULL && ((const int64_t *)mask)[0] != 0) expect_first(job, b);
        if (status == OT_OK) status = ot_network_add(job->net, ids, mask, targets, job->length, NULL, err);
    }
    ot_free(ids);
    ot_free(targets);
    ot_free(mask);
    job->counted = ot_network_targets(job->net);
    if (status == OT_OK && job->labels != NULL && job->counted == 0) {
        return ot_fail(err, OT_ERR_REFUSED, "every label is ignored (-100): there is nothing to take a loss of");
    }
    return status;
}

ot_status ot_forward_attach(forward_job *job, ot_error *err) {
    int64_t total = 0;
    for (int64_t i = 0; i < job->m->n_params; i++) total += ot_round_up(ot_param_elements(&job->m->params[i]), 16);
    OT_TRY(ot_calloc(total, 4, "gradients", (void **)&job->grads, err));
    int64_t used = 0;
    for (int64_t i = 0; i < job->m->n_params; i++) {
        ot_param *p = &job->m->params[i];
        p->slot.trainable = true;
        p->slot.grad = job->grads + used;
        used += ot_round_up(ot_param_elements(p), 16);
    }
    return OT_OK;
}

static void detach_gradients(forward_job *job) {
    for (int64_t i = 0; i < job->m->n_params; i++) {
        job->m->params[i].slot.trainable = false;
        job->m->params[i].slot.grad = NULL;
    }
    ot_free(job->grads);
}

/* ==== Output. ==== */

ot_status ot_forward_add_tensor(forward_job *job, const char *name, const int64_t *shape, int32_t n_dims, const float *data, ot_error *err) {
    ot_tensor *t = &job->tensors[job->n_tensors++];
    *t = (ot_tensor){.name = ot_arena_strdup(&job->arena, name, err), .dtype = OT_F32, .n_dims = n_dims, .data = data};
    if (t->name == NULL) return OT_ERR_MEMORY;
    memcpy(t->shape, shape, (size_t)n_dims * sizeof *shape);
    t->bytes = ot_tensor_elements(t) * 4;
    return OT_OK;
}

/* Rows of a value back to [B, T, cols], zeros where a position was masked. */
ot_status ot_forward_add_rows(forward_job *job, const char *name, const void *rows, int64_t cols, ot_error *err) {
    const float *from = rows;
    float *to = ot_arena_alloc(&job->arena, job->batch * job->length * cols * 4, err);
    if (to == NULL) return OT_ERR_MEMORY;
    for (int64_t b = 0; b < job->batch; b++) {
        for (int64_t t = 0; t < job->length; t++) {
            int64_t r = ot_network_row_of(job->net, b, t);
            if (r >= 0) memcpy(to + (b * job->length + t) * cols, from + r * cols, (size_t)cols * 4);
        }
    }
    return ot_forward_add_tensor(job, name, (const int64_t[]){job->batch, job->length, cols}, 3, to, err);
}

ot_status ot_forward_collect(forward_job *job, double loss, ot_error *err) {
    const ot_desc *d = &job->m->desc;
    job->tensors = ot_arena_alloc(&job->arena, (ot_model_depth(job->m) + 8 + job->m->n_params) * (int64_t)sizeof *job->tensors, err);
    if (job->tensors == NULL) return OT_ERR_MEMORY;
    if (!d->vision) OT_TRY(ot_forward_add_rows(job, "logits", ot_network_logits(job->net), d->vocab_size, err));
    if (job->labels != NULL) {
        float *value = ot_arena_alloc(&job->arena, 4, err);
        if (value == NULL) return OT_ERR_MEMORY;
        *value = (float)loss;
        OT_TRY(ot_forward_add_tensor(job, "loss", (const int64_t[]){1}, 1, value, err));
    }
    if (job->options->hidden) {
        for (int64_t i = 0; i <= ot_model_depth(job->m); i++) {
            char name[48];
            int64_t cols = 0;
            snprintf(name, sizeof name, "hidden_states.%lld", (long long)i);
            const void *rows = ot_network_hidden(job->net, i, &cols);
            OT_TRY(ot_forward_add_rows(job, name, rows, cols, err));
        }
        OT_TRY(ot_forward_add_rows(job, "last_block", ot_network_last_block(job->net), d->hidden_size, err));
    }
    for (int64_t i = 0; job->grads != NULL && i < job->m->n_params; i++) {
        const ot_param *p = &job->m->params[i];
        char name[300];
        snprintf(name, sizeof name, "grad.%s", p->name);
        OT_TRY(ot_forward_add_tensor(job, name, p->stored.shape, p->stored.n_dims, p->slot.grad, err));
    }
    return OT_OK;
}

static ot_status run(forward_job *job, const ot_safetensors *st, const char *output, ot_forward_summary *summary, ot_error *err) {
    if (job->m->desc.vision) return ot_forward_images(job, st, output, summary, err);
    OT_TRY(take_ids(st, "input_ids", true, NULL, &job->ids, err));
    OT_TRY(take_ids(st, "attention_mask", false, job->ids, &job->mask, err));
    OT_TRY(take_ids(st, "labels", false, job->ids, &job->labels, err));
    job->batch = job->ids->shape[0];
    job->length = job->ids->shape[1];
    if (job->options->grad && job->labels == NULL) {
        return ot_fail(err, OT_ERR_USAGE, "%s: gradients need the tensor labels", ot_safetensors_path(st));
    }
    if (job->options->grad) OT_TRY(ot_forward_attach(job, err));
    OT_TRY(make_network(job, err));
    OT_TRY(fill_batch(job, err));
    double sum = 0;
    OT_TRY(ot_network_run(job->net, &(ot_run_options){0}, &sum, err));
    double loss = job->counted > 0 ? sum / (double)job->counted : 0;
    *summary = (ot_forward_summary){
        .has_loss = job->labels != NULL, .loss = loss, .targets = job->counted, .tokens = ot_network_rows(job->net)};
    OT_TRY(ot_forward_collect(job, loss, err));
    return ot_safetensors_write(output, job->tensors, job->n_tensors, NULL, err);
}

ot_status ot_forward_file(ot_model *m, const char *input, const char *output, const ot_forward_options *options, ot_forward_summary *summary,
                          ot_error *err) {
    ot_safetensors *st = NULL;
    OT_TRY(ot_safetensors_open(input, &st, err));
    forward_job job = {.m = m, .options = options};
    ot_status status = run(&job, st, output, summary, err);
    detach_gradients(&job);
    ot_network_free(job.net);
    ot_network_free(job.loss_net);
    ot_arena_free(&job.arena);
    ot_safetensors_close(st);
    return status;
}
