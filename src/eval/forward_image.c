/* `forward` over images: pixel_values [B, C, H, W] and labels [B]. Every image has logits; the loss is of those whose label counts, so it has a
 * network of its own. */
#include <string.h>

#include "eval/forward_internal.h"

static ot_status take_pixels(forward_job *job, const ot_safetensors *st, const ot_tensor **pixels, ot_error *err) {
    const char *path = ot_safetensors_path(st);
    const ot_tensor *t = ot_safetensors_find(st, "pixel_values"), *labels = ot_safetensors_find(st, "labels");
    if (t == NULL) return ot_fail(err, OT_ERR_FORMAT, "%s: the tensor pixel_values is missing: %s reads images", path, job->m->path);
    if (t->dtype != OT_F32 || t->n_dims != 4 || t->shape[0] < 1 || t->shape[1] != job->m->desc.channels || t->shape[2] < 1 || t->shape[3] < 1) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: tensor pixel_values must be float32 of shape [images, %lld, height, width]", path,
                       (long long)job->m->desc.channels);
    }
    if (labels != NULL && (labels->dtype != OT_I64 || labels->n_dims != 1 || labels->shape[0] != t->shape[0])) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: tensor labels must be int64 of shape [images]", path);
    }
    if (t->shape[0] > INT32_MAX / 4 || t->shape[2] > 1 << 14 || t->shape[3] > 1 << 14) {
        return ot_fail(err, OT_ERR_USAGE, "%s: tensor pixel_values is too large for one forward", path);
    }
    job->labels = labels;
    job->batch = t->shape[0];
    *pixels = t;
    return OT_OK;
}

static ot_status make(forward_job *job, const ot_tensor *pixels, unsigned outputs, bool train, ot_network **net, ot_error *err) {
    const ot_desc *d = &job->m->desc;
    if (pixels->shape[2] < d->patch_size || pixels->shape[3] < d->patch_size) {
        return ot_fail(err, OT_ERR_FORMAT, "images of %lld x %lld pixels are smaller than the model's patches of %lld", (long long)pixels->shape[2],
                       (long long)pixels->shape[3], (long long)d->patch_size);
    }
    job->length = ot_desc_image_rows(d, pixels->shape[2], pixels->shape[3]);
    int64_t rows = 0;
    if (!ot_mul_i64(job->batch, job->length, &rows) || rows > INT32_MAX / 4) return ot_fail(err, OT_ERR_USAGE, "too many images for one forward");
    ot_network_options options = {
        .plan = {.backend = job->options->backend, .compute = job->options->compute, .max_rows = rows, .max_targets = job->batch, .train = train},
        .hooks = job->options->hooks,
        .outputs = outputs,
        .max_segments = job->batch,
        .image_height = pixels->shape[2],
        .image_width = pixels->shape[3],
    };
    return ot_network_new(job->m, &options, net, err);
}

static ot_status fill(const forward_job *job, ot_network *net, const ot_tensor *pixels, bool labelled, ot_error *err) {
    int64_t size = pixels->shape[1] * pixels->shape[2] * pixels->shape[3];
    void *image = NULL; /* floats may lie unaligned in the file */
    OT_TRY(ot_malloc(size, 4, "an image", &image, err));
    ot_network_clear(net);
    ot_status status = OT_OK;
    for (int64_t b = 0; status == OT_OK && b < job->batch; b++) {
        int64_t label = 0;
        if (labelled) memcpy(&label, (const char *)job->labels->data + b * 8, 8);
        if (label != IGNORED_LABEL && (label < 0 || label >= job->m->desc.vocab_size)) {
            status = ot_fail(err, OT_ERR_FORMAT, "labels[%lld] is %lld: neither one of the %lld classes nor -100", (long long)b, (long long)label,
                             (long long)job->m->desc.vocab_size);
            break;
        }
        memcpy(image, (const char *)pixels->data + b * size * 4, (size_t)size * 4);
        status = ot_network_add_image(net, image, label == IGNORED_LABEL ? -1 : (int32_t)label, err);
    }
    ot_free(image);
    return status;
}

static ot_status take_loss(forward_job *job, const ot_tensor *pixels, double *loss, ot_error *err) {
    if (job->options->grad) OT_TRY(ot_forward_attach(job, err));
    OT_TRY(make(job, pixels, OT_OUT_LOSS, job->options->grad, &job->loss_net, err));
    OT_TRY(fill(job, job->loss_net, pixels, true, err));
    job->counted = ot_network_targets(job->loss_net);
    if (job->counted == 0) return ot_fail(err, OT_ERR_REFUSED, "every label is ignored (-100): there is nothing to take a loss of");
    OT_TRY(ot_network_run(job->loss_net, &(ot_run_options){0}, loss, err));
    *loss /= (double)job->counted;
    return OT_OK;
}

ot_status ot_forward_images(forward_job *job, const ot_safetensors *st, const char *output, ot_forward_summary *summary, ot_error *err) {
    const ot_tensor *pixels = NULL;
    double loss = 0;
    OT_TRY(take_pixels(job, st, &pixels, err));
    if (job->options->grad && job->labels == NULL) {
        return ot_fail(err, OT_ERR_USAGE, "%s: gradients need the tensor labels", ot_safetensors_path(st));
    }
    if (job->labels != NULL) OT_TRY(take_loss(job, pixels, &loss, err));
    OT_TRY(make(job, pixels, OT_OUT_LOGITS | (job->options->hidden ? OT_OUT_HIDDEN : 0U), false, &job->net, err));
    OT_TRY(fill(job, job->net, pixels, false, err));
    OT_TRY(ot_network_run(job->net, &(ot_run_options){0}, NULL, err));
    *summary = (ot_forward_summary){
        .has_loss = job->labels != NULL, .loss = loss, .targets = job->counted, .tokens = ot_network_rows(job->net)};
    OT_TRY(ot_forward_collect(job, loss, err));
    int64_t shape[2] = {job->batch, job->m->desc.vocab_size};
    OT_TRY(ot_forward_add_tensor(job, "logits", shape, 2, ot_network_logits(job->net), err));
    return ot_safetensors_write(output, job->tensors, job->n_tensors, NULL, err);
}
