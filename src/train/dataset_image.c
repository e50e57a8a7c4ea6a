/* Data sets of pictures: pixel_values and labels of a safetensors file. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "data/pictures.h"
#include "format/safetensors.h"
#include "train/dataset_internal.h"

enum { IGNORED_LABEL = -100 };

typedef struct tensor_pixels {
    ot_pixels base;
    ot_safetensors *st;
    const ot_tensor *pixels;
    ot_arena arena; /* class names */
} tensor_pixels;

static ot_status get(ot_pixels *base, int64_t row, int64_t epoch, float *out, ot_error *err) {
    (void)epoch;
    (void)err;
    const tensor_pixels *p = (const tensor_pixels *)base;
    size_t bytes = (size_t)(base->channels * base->height * base->width) * 4;
    memcpy(out, (const char *)p->pixels->data + (size_t)row * bytes, bytes);
    return OT_OK;
}

/* All values, or of large files those of pictures spread over them. */
static void identify(const ot_pixels *base, void (*add)(void *context, const void *data, int64_t size), void *context) {
    enum { WHOLE = 256 << 20, LOOKS = 256 };
    const ot_tensor *t = ((const tensor_pixels *)base)->pixels;
    int64_t rows = t->shape[0], size = t->bytes / rows, looks = t->bytes <= WHOLE || rows < LOOKS ? rows : LOOKS;
    add(context, t->shape, (int64_t)sizeof t->shape);
    for (int64_t i = 0; i < looks; i++) add(context, (const char *)t->data + (looks == rows ? i : i * (rows - 1) / (looks - 1)) * size, size);
}

static void close_pixels(ot_pixels *base) {
    tensor_pixels *p = (tensor_pixels *)base;
    ot_safetensors_close(p->st);
    ot_arena_free(&p->arena);
    free(p);
}

static ot_status check(const char *path, const ot_desc *desc, const ot_image_options *o, const ot_tensor *pixels, const ot_tensor *labels,
                       ot_error *err) {
    if (pixels == NULL || pixels->dtype != OT_F32 || pixels->n_dims != 4 || pixels->shape[0] < 1 || pixels->shape[1] != desc->channels) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: needs a tensor pixel_values, float32 of shape [images, %lld, height, width]", path,
                       (long long)desc->channels);
    }
    int64_t h = pixels->shape[2], w = pixels->shape[3];
    if (h < desc->patch_size || w < desc->patch_size || h > 1 << 14 || w > 1 << 14) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: images of %lld x %lld pixels do not go into patches of %lld", path, (long long)h, (long long)w,
                       (long long)desc->patch_size);
    }
    if (o->unlabelled) return OT_OK;
    if (labels == NULL || labels->dtype != OT_I64 || labels->n_dims != 1 || labels->shape[0] != pixels->shape[0]) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: needs a tensor labels, int64 of shape [images]", path);
    }
    return OT_OK;
}

static ot_status take_labels(const char *path, int64_t classes, const ot_tensor *labels, ot_dataset *d, ot_error *err) {
    for (int64_t r = 0; r < d->rows; r++) {
        int64_t label;
        memcpy(&label, (const char *)labels->data + r * 8, 8);
        if (label != IGNORED_LABEL && (label < 0 || label >= classes)) {
            return ot_fail(err, OT_ERR_FORMAT, "%s: labels[%lld] is %lld: neither one of the %lld classes nor -100 (a new head for other classes: --classes NAME,...)", path,
                           (long long)r, (long long)label, (long long)classes);
        }
        d->targets[r] = label == IGNORED_LABEL ? -1 : (int32_t)label;
        d->counted[r] = label != IGNORED_LABEL;
    }
    return ot_dataset_targets(d) > 0
               ? OT_OK
               : ot_fail(err, OT_ERR_REFUSED, "%s: every label is ignored (-100): there is nothing to learn or score", path);
}

static ot_status copy_names(const ot_image_options *o, tensor_pixels *p, ot_error *err) {
    const char **names = ot_arena_alloc(&p->arena, (o->n_classes + 1) * (int64_t)sizeof *names, err);
    for (int64_t i = 0; names != NULL && i < o->n_classes; i++) {
        names[i] = ot_arena_strdup(&p->arena, o->classes[i], err);
        if (names[i] == NULL) return OT_ERR_MEMORY;
    }
    p->base.classes = names;
    p->base.n_classes = o->n_classes;
    return names != NULL ? OT_OK : OT_ERR_MEMORY;
}

static ot_status fill(const char *path, const ot_desc *desc, const ot_image_options *o, tensor_pixels *p, ot_dataset *d, ot_error *err) {
    const ot_tensor *labels = ot_safetensors_find(p->st, "labels");
    OT_TRY(check(path, desc, o, p->pixels, labels, err));
    d->pixels->channels = p->pixels->shape[1];
    d->pixels->height = p->pixels->shape[2];
    d->pixels->width = p->pixels->shape[3];
    d->rows = d->examples = o->limit > 0 && o->limit < p->pixels->shape[0] ? o->limit : p->pixels->shape[0];
    d->length = ot_desc_image_rows(desc, d->pixels->height, d->pixels->width);
    d->tokens = d->rows * d->length;
    OT_TRY(ot_malloc(d->rows, 4, "labels", (void **)&d->targets, err));
    OT_TRY(ot_malloc(d->rows, 4, "target counts", (void **)&d->counted, err));
    OT_TRY(ot_malloc(d->pixels->channels * d->pixels->height * d->pixels->width, 4, "a picture", (void **)&d->picture, err));
    if (o->unlabelled) {
        for (int64_t r = 0; r < d->rows; r++) {
            d->targets[r] = 0;
            d->counted[r] = 1;
        }
        return OT_OK;
    }
    if (o->classes != NULL) OT_TRY(copy_names(o, p, err));
    return take_labels(path, o->classes != NULL ? o->n_classes : desc->vocab_size, labels, d, err);
}

ot_status ot_dataset_open_images(const char *path, const ot_desc *desc, const ot_image_options *options, ot_dataset *out, ot_error *err) {
    if (!ot_path_ends(path, ".safetensors") && ot_pictures_is(path)) return ot_dataset_open_picture_files(path, desc, options, out, err);
    ot_dataset d = {0};
    tensor_pixels *p = calloc(1, sizeof *p);
    if (p == NULL) return ot_fail_memory(err, sizeof *p, "a data set");
    p->base.get = get;
    p->base.identify = identify;
    p->base.close = close_pixels;
    d.pixels = &p->base;
    ot_status status = ot_safetensors_open(path, &p->st, err);
    if (status == OT_OK) p->pixels = ot_safetensors_find(p->st, "pixel_values");
    if (status == OT_OK) status = fill(path, desc, options, p, &d, err);
    if (status != OT_OK) {
        ot_dataset_free(&d);
        return status;
    }
    *out = d;
    return OT_OK;
}

static int64_t find_class(const char *const *names, int64_t n, const char *name) {
    for (int64_t i = 0; i < n; i++) {
        if (strcmp(names[i], name) == 0) return i;
    }
    return -1;
}

ot_status ot_dataset_number_classes(ot_dataset *d, const char *what, const char *const *names, int64_t n, ot_error *err) {
    ot_pixels *p = d->pixels;
    if (p->classes == NULL) return OT_OK;
    int32_t *numbers = NULL;
    OT_TRY(ot_malloc(p->n_classes, 4, "class numbers", (void **)&numbers, err));
    ot_status status = OT_OK;
    for (int64_t c = 0; status == OT_OK && c < p->n_classes; c++) {
        numbers[c] = (int32_t)find_class(names, n, p->classes[c]);
        if (numbers[c] >= 0) continue;
        status = ot_fail(err, OT_ERR_REFUSED,
                         "%s: the class \"%s\" is none of the model's %lld, which begin with \"%s\": to know others it needs a head of theirs, of `finetune --peft head` or more",
                         what, p->classes[c], (long long)n, names[0]);
    }
    for (int64_t r = 0; status == OT_OK && r < d->rows; r++) {
        if (d->targets[r] >= 0) d->targets[r] = numbers[d->targets[r]];
    }
    if (status == OT_OK) p->classes = NULL;
    if (status == OT_OK) p->n_classes = 0;
    ot_free(numbers);
    return status;
}
