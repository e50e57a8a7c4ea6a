#include "data/preprocess.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "format/json.h"

enum { MAX_SIDE = 1 << 14, MAX_CONFIG = 1 << 20, PATH_ROOM = 4096 };

/* ==== Defaults: the image processors of transformers that go with the architectures here. ==== */

typedef struct processor {
    const char *name; /* of the class, without ImageProcessor or FeatureExtractor */
    const char *architecture;
    bool shortest_edge, crop;
    int64_t size, crop_size;
    ot_image_filter filter;
    float mean[3], std[3];
} processor;

#define HALVES {0.5F, 0.5F, 0.5F}
#define CLIP_MEAN {0.48145466F, 0.4578275F, 0.40821073F}
#define CLIP_STD {0.26862954F, 0.26130258F, 0.27577711F}

static const processor processors[] = {
    {"ViT", "vit", false, false, 224, 0, OT_FILTER_BILINEAR, HALVES, HALVES},
    {"CLIP", "clip", true, true, 224, 224, OT_FILTER_BICUBIC, CLIP_MEAN, CLIP_STD},
    {"Blip", "eva", false, false, 384, 0, OT_FILTER_BICUBIC, CLIP_MEAN, CLIP_STD},
    {"DeiT", NULL, false, true, 256, 224, OT_FILTER_BICUBIC, HALVES, HALVES},
};
static const size_t n_processors = sizeof processors / sizeof *processors;

static void take_defaults(const processor *d, ot_preprocess *p) {
    p->resize = p->rescale = p->normalise = true;
    p->crop = d->crop;
    p->shortest_edge = d->shortest_edge ? d->size : 0;
    p->height = p->width = d->size;
    p->crop_height = p->crop_width = d->crop_size;
    p->filter = d->filter;
    p->factor = 1.0 / 255;
    memcpy(p->mean, d->mean, sizeof p->mean);
    memcpy(p->std, d->std, sizeof p->std);
}

/* "ViTImageProcessorFast" and "ViTFeatureExtractor" are the processor "ViT". */
static const processor *named(const char *type) {
    for (size_t i = 0; i < n_processors; i++) {
        size_t n = strlen(processors[i].name);
        if (strncmp(type, processors[i].name, n) == 0 && (strncmp(type + n, "ImageProcessor", 14) == 0 || strncmp(type + n, "FeatureExtractor", 16) == 0)) {
            return &processors[i];
        }
    }
    return NULL;
}

static const processor *of_architecture(const char *architecture) {
    for (size_t i = 0; i < n_processors; i++) {
        if (processors[i].architecture != NULL && strcmp(processors[i].architecture, architecture) == 0) return &processors[i];
    }
    return NULL;
}

/* ==== Reading the configuration. ==== */

static ot_status side(const json_t *value, const char *key, const char *where, int64_t *out, ot_error *err) {
    int64_t v = json_is_integer(value) ? json_integer_value(value) : 0;
    if (v < 1 || v > MAX_SIDE) return ot_fail(err, OT_ERR_FORMAT, "%s: %s must be a number of pixels from 1 to %d", where, key, MAX_SIDE);
    *out = v;
    return OT_OK;
}

static ot_status unknown_size(const char *key, const char *where, ot_error *err) {
    return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: %s must be a number, {height, width} or {shortest_edge}", where, key);
}

/* edge: gets a shortest edge, or is NULL where there is none; a number alone means a square, or a shortest edge where the processor's default is one. */
static ot_status read_size(const json_t *config, const char *key, const char *where, int64_t *height, int64_t *width, int64_t *edge, ot_error *err) {
    const json_t *v = json_object_get(config, key);
    if (v == NULL || json_is_null(v)) return OT_OK;
    if (json_is_integer(v)) {
        OT_TRY(side(v, key, where, height, err));
        *width = *height;
        if (edge != NULL && *edge > 0) *edge = *height;
        return OT_OK;
    }
    const json_t *h = json_object_get(v, "height"), *w = json_object_get(v, "width"), *s = json_object_get(v, "shortest_edge");
    if (json_is_object(v) && json_object_size(v) == 2 && h != NULL && w != NULL) {
        if (edge != NULL) *edge = 0;
        OT_TRY(side(h, key, where, height, err));
        return side(w, key, where, width, err);
    }
    if (edge != NULL && json_is_object(v) && json_object_size(v) == 1 && s != NULL) return side(s, key, where, edge, err);
    return unknown_size(key, where, err);
}

static ot_status read_colours(const json_t *config, const char *key, const char *where, bool positive, float out[3], ot_error *err) {
    const json_t *v = json_object_get(config, key);
    if (v == NULL || json_is_null(v)) return OT_OK;
    bool one = json_is_number(v), three = json_is_array(v) && json_array_size(v) == 3;
    for (size_t i = 0; (one || three) && i < 3; i++) {
        const json_t *x = one ? v : json_array_get(v, i);
        out[i] = json_is_number(x) ? (float)json_number_value(x) : NAN;
        if (!isfinite(out[i]) || (positive && out[i] <= 0)) one = three = false;
    }
    return one || three ? OT_OK : ot_fail(err, OT_ERR_FORMAT, "%s: %s must be three numbers%s", where, key, positive ? " above 0" : "");
}

static ot_status read_keys(const json_t *c, const char *where, ot_preprocess *p, ot_error *err) {
    int64_t filter = p->filter;
    bool convert = true;
    OT_TRY(ot_json_bool(c, "do_resize", where, &p->resize, NULL, err));
    OT_TRY(ot_json_bool(c, "do_center_crop", where, &p->crop, NULL, err));
    OT_TRY(ot_json_bool(c, "do_rescale", where, &p->rescale, NULL, err));
    OT_TRY(ot_json_bool(c, "do_normalize", where, &p->normalise, NULL, err));
    OT_TRY(ot_json_bool(c, "do_convert_rgb", where, &convert, NULL, err)); /* pictures are RGB here, whatever it says */
    OT_TRY(ot_json_f64(c, "rescale_factor", where, &p->factor, NULL, err));
    OT_TRY(ot_json_i64(c, "resample", where, &filter, NULL, err));
    if (filter < 0 || filter >= OT_FILTERS) return ot_fail(err, OT_ERR_FORMAT, "%s: resample must be 0 to %d, one of Pillow's filters", where, OT_FILTERS - 1);
    if (!isfinite(p->factor)) return ot_fail(err, OT_ERR_FORMAT, "%s: rescale_factor must be a finite number", where);
    p->filter = (ot_image_filter)filter;
    OT_TRY(read_size(c, "size", where, &p->height, &p->width, &p->shortest_edge, err));
    if (p->crop && p->crop_height == 0) { /* a crop that the processor does not make by itself: of the size it resizes to */
        p->crop_height = p->shortest_edge > 0 ? p->shortest_edge : p->height;
        p->crop_width = p->shortest_edge > 0 ? p->shortest_edge : p->width;
    }
    OT_TRY(read_size(c, "crop_size", where, &p->crop_height, &p->crop_width, NULL, err));
    OT_TRY(read_colours(c, "image_mean", where, false, p->mean, err));
    return read_colours(c, "image_std", where, true, p->std, err);
}

static ot_status choose_defaults(const json_t *c, const char *where, const char *architecture, int64_t height, int64_t width, ot_preprocess *p, ot_error *err) {
    static const char *const keys[] = {"image_processor_type", "feature_extractor_type"};
    const char *type = NULL;
    for (size_t i = 0; c != NULL && type == NULL && i < sizeof keys / sizeof *keys; i++) OT_TRY(ot_json_str(c, keys[i], where, &type, NULL, err));
    const processor *d = type != NULL ? named(type) : of_architecture(architecture);
    if (d == NULL && type != NULL) {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: the image processor %s is not known: ViT, DeiT, CLIP and Blip are", where, type);
    }
    if (d == NULL) return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: how pictures are made ready for the architecture %s is not known", where, architecture);
    take_defaults(d, p);
    if (c != NULL) return OT_OK;
    if (p->shortest_edge > 0) p->shortest_edge = height < width ? height : width;
    p->height = p->crop_height = height;
    p->width = p->crop_width = width;
    return OT_OK;
}

/* 256 levels to what the model reads, for each colour. */
static void make_levels(const ot_preprocess *p, float levels[3][256]) {
    for (int c = 0; c < 3; c++) {
        for (int v = 0; v < 256; v++) {
            float x = p->rescale ? (float)(v * p->factor) : (float)v;
            levels[c][v] = p->normalise ? (x - p->mean[c]) / p->std[c] : x;
        }
    }
}

static bool levels_are_finite(const ot_preprocess *p) {
    float levels[3][256];
    make_levels(p, levels);
    for (int c = 0; c < 3; c++) {
        if (!isfinite(levels[c][0]) || !isfinite(levels[c][255])) return false; /* they grow, or fall, in between */
    }
    return true;
}

static ot_status settle(ot_preprocess *p, ot_error *err) {
    if (!levels_are_finite(p)) return ot_fail(err, OT_ERR_FORMAT, "%s: rescale_factor, image_mean and image_std give numbers that are not finite", p->where);
    p->out_height = p->crop ? p->crop_height : p->resize && p->shortest_edge == 0 ? p->height : 0;
    p->out_width = p->crop ? p->crop_width : p->resize && p->shortest_edge == 0 ? p->width : 0;
    if (p->resize && p->out_height == 0) {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: resizing to a shortest edge without do_center_crop gives pictures of different sizes, which is not read", p->where);
    }
    return OT_OK;
}

ot_status ot_preprocess_parse(const char *text, int64_t size, const char *where, const char *architecture, int64_t height, int64_t width, ot_preprocess *out,
                              ot_error *err) {
    ot_preprocess p = {0};
    json_t *whole = NULL;
    if (text != NULL) OT_TRY(ot_json_parse(text, size, where, &whole, err));
    ot_status status = OT_OK;
    const json_t *c = whole, *inner = json_object_get(whole, "image_processor"); /* in processor_config.json, beside a tokenizer's settings */
    if (inner != NULL) c = inner;
    if (c != NULL && !json_is_object(c)) status = ot_fail(err, OT_ERR_FORMAT, "%s is no JSON object", where);
    if (status == OT_OK) status = choose_defaults(c, where, architecture, height, width, &p, err);
    if (status == OT_OK && c != NULL) status = read_keys(c, where, &p, err);
    json_decref(whole);
    snprintf(p.where, sizeof p.where, "%s", where);
    if (status == OT_OK) status = settle(&p, err);
    if (status == OT_OK) *out = p;
    return status;
}

ot_status ot_preprocess_read(const char *model_path, const char *architecture, int64_t height, int64_t width, ot_preprocess *out, ot_error *err) {
    static const char *const names[] = {"preprocessor_config.json", "processor_config.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[PATH_ROOM], *text = NULL;
        int64_t size = 0;
        if (!ot_path_join(path, sizeof path, model_path, names[i]) || !ot_path_exists(path)) continue;
        OT_TRY(ot_read_file(path, MAX_CONFIG, &text, &size, err));
        ot_status status = ot_preprocess_parse(text, size, path, architecture, height, width, out, err);
        ot_free(text);
        return status;
    }
    return ot_preprocess_parse(NULL, 0, model_path, architecture, height, width, out, err);
}

/* ==== Applying it. ==== */

/* The size to resize to. */
static void target_size(const ot_preprocess *p, const ot_image *image, int64_t *height, int64_t *width) {
    *height = p->height;
    *width = p->width;
    if (p->shortest_edge == 0) return;
    bool tall = image->height >= image->width;
    int64_t longer = tall ? image->height : image->width, shorter = tall ? image->width : image->height;
    int64_t other = (int64_t)((double)(p->shortest_edge * longer) / (double)shorter);
    *height = tall ? other : p->shortest_edge;
    *width = tall ? p->shortest_edge : other;
}

static int64_t half_down(int64_t v) { return v >= 0 ? v / 2 : -((1 - v) / 2); }

/* The middle of the picture, black where it does not reach; out [3, height, width] */
static void lay_out(const ot_preprocess *p, const ot_image *image, int64_t height, int64_t width, bool mirrored, float *out) {
    float levels[3][256];
    int64_t top = half_down(image->height - height), left = half_down(image->width - width);
    make_levels(p, levels);
    for (int64_t y = 0; y < height; y++) {
        for (int64_t x = 0; x < width; x++) {
            int64_t from_y = y + top, from_x = (mirrored ? width - 1 - x : x) + left;
            bool inside = from_y >= 0 && from_y < image->height && from_x >= 0 && from_x < image->width;
            const uint8_t *pixel = inside ? image->rgb + (from_y * image->width + from_x) * 3 : NULL;
            for (int64_t c = 0; c < 3; c++) out[(c * height + y) * width + x] = levels[c][pixel != NULL ? pixel[c] : 0];
        }
    }
}

ot_status ot_preprocess_fits(const ot_preprocess *p, int64_t image_width, int64_t image_height, const char *where, ot_error *err) {
    const ot_image image = {.width = image_width, .height = image_height};
    int64_t height = image_height, width = image_width;
    if (p->resize) target_size(p, &image, &height, &width);
    if (width > OT_IMAGE_MAX_SIDE || height > OT_IMAGE_MAX_SIDE || width < 1 || height < 1) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: %lld x %lld pixels are too long and narrow to be resized", where, (long long)image_width, (long long)image_height);
    }
    if (p->crop || (height == p->out_height && width == p->out_width)) return OT_OK;
    return ot_fail(err, OT_ERR_FORMAT, "%s has %lld x %lld pixels, not %lld x %lld, and %s resizes none", where, (long long)image_width, (long long)image_height,
                   (long long)p->out_width, (long long)p->out_height, p->where);
}

ot_status ot_preprocess_fit(const ot_preprocess *p, const ot_image *image, const char *where, ot_image *out, ot_error *err) {
    int64_t height = image->height, width = image->width;
    OT_TRY(ot_preprocess_fits(p, width, height, where, err));
    if (p->resize) target_size(p, image, &height, &width);
    return ot_image_resize(image, NULL, width, height, p->filter, out, err);
}

ot_status ot_preprocess_finish(const ot_preprocess *p, const ot_image *fitted, const ot_augment *augment, ot_rng *rng, float *out, ot_error *err) {
    bool mirrored = augment != NULL && augment->flip > 0 && ot_rng_uniform(rng) < augment->flip;
    if (augment == NULL || augment->jitter <= 0) {
        lay_out(p, fitted, p->out_height, p->out_width, mirrored, out);
        return OT_OK;
    }
    ot_image changed;
    OT_TRY(ot_image_resize(fitted, NULL, fitted->width, fitted->height, p->filter, &changed, err)); /* a copy */
    ot_augment_colours(&changed, augment, rng);
    lay_out(p, &changed, p->out_height, p->out_width, mirrored, out);
    ot_image_free(&changed);
    return OT_OK;
}

ot_status ot_preprocess_apply(const ot_preprocess *p, const ot_image *image, const ot_augment *augment, ot_rng *rng, const char *where, float *out,
                              ot_error *err) {
    ot_image made;
    if (augment != NULL && augment->crop) {
        ot_image_box box = ot_augment_box(image, augment, rng);
        OT_TRY(ot_image_resize(image, &box, p->out_width, p->out_height, p->filter, &made, err));
    } else {
        OT_TRY(ot_preprocess_fit(p, image, where, &made, err));
    }
    ot_status status = ot_preprocess_finish(p, &made, augment, rng, out, err);
    ot_image_free(&made);
    return status;
}
