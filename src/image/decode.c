/* Telling formats apart, limits, EXIF orientation. */
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "image/image.h"

ot_status ot_image_new(int64_t width, int64_t height, const char *where, ot_image *out, ot_error *err) {
    if (width < 1 || height < 1 || width > OT_IMAGE_MAX_SIDE || height > OT_IMAGE_MAX_SIDE || width * height > OT_IMAGE_MAX_PIXELS) {
        return ot_fail(err, OT_ERR_FORMAT, "%s is said to have %lld x %lld pixels: pictures of up to %d pixels on a side and %d in all are read",
                       where, (long long)width, (long long)height, OT_IMAGE_MAX_SIDE, OT_IMAGE_MAX_PIXELS);
    }
    *out = (ot_image){.width = width, .height = height};
    return ot_calloc(width * height, 3, "a picture", (void **)&out->rgb, err);
}

void ot_image_free(ot_image *image) {
    ot_free(image->rgb);
    *image = (ot_image){0};
}

bool ot_image_is_name(const char *name) {
    static const char *const ends[] = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".ppm", ".pgm"};
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        size_t k = strlen(ends[i]);
        if (n > k && strcasecmp(name + n - k, ends[i]) == 0) return true;
    }
    return false;
}

/* ==== EXIF. ==== */

static uint32_t number(const uint8_t *p, int bytes, bool little) {
    uint32_t v = 0;
    for (int i = 0; i < bytes; i++) v |= (uint32_t)p[i] << (8 * (little ? i : bytes - 1 - i));
    return v;
}

int ot_exif_orientation(const uint8_t *tiff, int64_t size) {
    enum { ORIENTATION = 0x0112, SHORT = 3, ENTRY = 12 };
    if (size < 8 || (memcmp(tiff, "II*\0", 4) != 0 && memcmp(tiff, "MM\0*", 4) != 0)) return 1;
    bool little = tiff[0] == 'I';
    int64_t at = number(tiff + 4, 4, little);
    if (at < 8 || at > size - 2) return 1;
    int64_t n = number(tiff + at, 2, little);
    for (int64_t i = 0; i < n && at + 2 + (i + 1) * ENTRY <= size; i++) {
        const uint8_t *entry = tiff + at + 2 + i * ENTRY;
        if (number(entry, 2, little) != ORIENTATION || number(entry + 2, 2, little) != SHORT) continue;
        uint32_t value = number(entry + 8, 2, little);
        return value >= 1 && value <= 8 ? (int)value : 1;
    }
    return 1;
}

/* Orientation 2 to 8: what the stored picture needs to stand upright. */
static ot_status turn(ot_image *image, int orientation, const char *where, ot_error *err) {
    if (orientation == 1) return OT_OK;
    bool swap = orientation >= 5;
    int64_t w = image->width, h = image->height;
    ot_image to;
    OT_TRY(ot_image_new(swap ? h : w, swap ? w : h, where, &to, err));
    for (int64_t y = 0; y < to.height; y++) {
        for (int64_t x = 0; x < to.width; x++) {
            int64_t sx = swap ? y : x, sy = swap ? x : y;
            if (orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8) sx = w - 1 - sx;
            if (orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7) sy = h - 1 - sy;
            memcpy(to.rgb + (y * to.width + x) * 3, image->rgb + (sy * w + sx) * 3, 3);
        }
    }
    ot_image_free(image);
    *image = to;
    return OT_OK;
}

/* ==== Formats. ==== */

typedef struct image_format {
    int at; /* of the mark */
    const char *mark;
    const char *name;
    ot_status (*decode)(const uint8_t *data, int64_t size, const char *where, ot_image *out, int *orientation, ot_error *err); /* NULL: not read */
} image_format;

static const image_format formats[] = {
    {0, "\xFF\xD8\xFF", "JPEG", ot_jpeg_decode},
    {0, "\x89PNG\r\n\x1A\n", "PNG", ot_png_decode},
    {8, "WEBP", "WebP", ot_webp_decode},
    {0, "GIF8", "GIF", NULL},
    {0, "BM", "BMP", NULL},
    {0, "II*", "TIFF", NULL},
    {0, "MM", "TIFF", NULL},
    {4, "ftypavi", "AVIF", NULL},
    {4, "ftyphei", "HEIC", NULL},
    {4, "ftypmif1", "HEIC", NULL},
    {0, "P5", "PGM", NULL},
    {0, "P6", "PPM", NULL},
};

static const image_format *format_of(const uint8_t *data, int64_t size) {
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        const image_format *f = &formats[i];
        int64_t n = (int64_t)strlen(f->mark);
        if (size >= f->at + n && memcmp(data + f->at, f->mark, (size_t)n) == 0) return f;
    }
    return NULL;
}

ot_status ot_image_decode(const uint8_t *data, int64_t size, const char *where, ot_image *out, ot_error *err) {
    int orientation = 1;
    *out = (ot_image){0};
    if (size == 0) return ot_fail(err, OT_ERR_FORMAT, "%s is empty: it holds no picture", where);
    const image_format *format = format_of(data, size);
    if (format == NULL) return ot_fail(err, OT_ERR_FORMAT, "%s is no picture: its bytes are neither JPEG, PNG nor WebP", where);
    if (format->decode == NULL) {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "%s is a %s, which is not read: convert it to JPEG, PNG or WebP", where, format->name);
    }
    ot_status status = format->decode(data, size, where, out, &orientation, err);
    if (status == OT_OK) status = turn(out, orientation, where, err);
    if (status != OT_OK) ot_image_free(out);
    return status;
}
