/* Random changes of training pictures by torchvision's definitions: RandomResizedCrop, RandomHorizontalFlip, ColorJitter without hue. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/preprocess.h"

/* ==== The option. ==== */

static ot_status take_word(const char *word, size_t n, ot_augment *a, ot_error *err) {
    static const struct {
        const char *name;
        double fallback, least, most;
    } words[] = {{"crop", 0.08, 0.001, 1}, {"flip", 0.5, 0, 1}, {"jitter", -1, 0, 1}};
    double *const values[] = {&a->scale, &a->flip, &a->jitter};
    const char *equals = memchr(word, '=', n);
    size_t name = equals != NULL ? (size_t)(equals - word) : n;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        char text[32] = "", *end = text;
        if (strlen(words[i].name) != name || strncmp(word, words[i].name, name) != 0) continue;
        snprintf(text, sizeof text, "%.*s", equals != NULL ? (int)(n - name - 1) : 0, equals != NULL ? equals + 1 : "");
        double v = equals != NULL ? strtod(text, &end) : words[i].fallback;
        if (*end != '\0' || (equals != NULL && end == text) || !(v >= words[i].least && v <= words[i].most)) {
            return ot_fail(err, OT_ERR_USAGE, "--augment: %s needs a number from %g to %g, as in %s=%g", words[i].name, words[i].least, words[i].most, words[i].name,
                           words[i].fallback > 0 ? words[i].fallback : 0.4);
        }
        *values[i] = v;
        if (i == 0) a->crop = true;
        return OT_OK;
    }
    return ot_fail(err, OT_ERR_USAGE, "--augment: %.*s is not known: crop, flip and jitter=0.4 are, with commas between them, or none", (int)n, word);
}

ot_status ot_augment_parse(const char *text, ot_augment *out, ot_error *err) {
    ot_augment a = {0};
    if (strcmp(text, "none") != 0) {
        for (const char *at = text;; at++) {
            size_t n = strcspn(at, ",");
            OT_TRY(take_word(at, n, &a, err));
            at += n;
            if (*at == '\0') break;
        }
    }
    *out = a;
    return OT_OK;
}

/* ==== Crops. ==== */

static double between(ot_rng *rng, double from, double to) { return from + (to - from) * ot_rng_uniform(rng); }

ot_image_box ot_augment_box(const ot_image *image, const ot_augment *augment, ot_rng *rng) {
    enum { TRIES = 10 };
    const double least = 3.0 / 4, most = 4.0 / 3;
    double width = (double)image->width, height = (double)image->height, area = width * height;
    for (int i = 0; i < TRIES; i++) {
        double part = area * between(rng, augment->scale, 1), ratio = exp(between(rng, log(least), log(most)));
        int64_t w = (int64_t)nearbyint(sqrt(part * ratio)), h = (int64_t)nearbyint(sqrt(part / ratio));
        if (w < 1 || h < 1 || w > image->width || h > image->height) continue;
        int64_t y = (int64_t)ot_rng_below(rng, (uint64_t)(image->height - h + 1)), x = (int64_t)ot_rng_below(rng, (uint64_t)(image->width - w + 1));
        return (ot_image_box){x, y, w, h};
    }
    /* No luck: the middle, as large as the proportions allow. */
    int64_t w = image->width, h = image->height;
    if (width / height < least) h = (int64_t)nearbyint(width / least);
    else if (width / height > most) w = (int64_t)nearbyint(height * most);
    h = h < 1 ? 1 : h > image->height ? image->height : h;
    w = w < 1 ? 1 : w > image->width ? image->width : w;
    return (ot_image_box){(image->width - w) / 2, (image->height - h) / 2, w, h};
}

/* ==== Colours. ==== */

static uint8_t grey_of(const uint8_t *p) { return (uint8_t)((p[0] * 19595 + p[1] * 38470 + p[2] * 7471 + 0x8000) >> 16); }

/* Pillow's blend: from `base` at 0 over the picture at 1 to beyond. */
static uint8_t blend(int base, int value, float factor) {
    float v = (float)base + factor * (float)(value - base);
    return (uint8_t)(v <= 0 ? 0 : v >= 255 ? 255 : v);
}

static void brighten(ot_image *image, float factor) {
    for (int64_t i = 0; i < image->width * image->height * 3; i++) image->rgb[i] = blend(0, image->rgb[i], factor);
}

static void contrast(ot_image *image, float factor) {
    int64_t n = image->width * image->height, sum = 0;
    for (int64_t i = 0; i < n; i++) sum += grey_of(image->rgb + i * 3);
    int mean = (int)((double)sum / (double)n + 0.5);
    for (int64_t i = 0; i < n * 3; i++) image->rgb[i] = blend(mean, image->rgb[i], factor);
}

static void saturate(ot_image *image, float factor) {
    for (int64_t i = 0; i < image->width * image->height; i++) {
        uint8_t *p = image->rgb + i * 3, grey = grey_of(p);
        for (int c = 0; c < 3; c++) p[c] = blend(grey, p[c], factor);
    }
}

void ot_augment_colours(ot_image *image, const ot_augment *augment, ot_rng *rng) {
    enum { CHANGES = 3 };
    static void (*const changes[CHANGES])(ot_image *, float) = {brighten, contrast, saturate};
    int64_t order[CHANGES];
    float factors[CHANGES];
    ot_rng_permutation(rng, order, CHANGES);
    for (int i = 0; i < CHANGES; i++) factors[i] = (float)between(rng, 1 - augment->jitter, 1 + augment->jitter);
    for (int i = 0; i < CHANGES; i++) changes[order[i]](image, factors[order[i]]);
}
