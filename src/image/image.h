/* Pictures from files as 8-bit RGB, through libjpeg-turbo, libpng and libwebp, with limits; and resizing as Pillow does it. */
#ifndef OT_IMAGE_IMAGE_H
#define OT_IMAGE_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* Larger pictures are refused before anything is allocated for them. */
enum { OT_IMAGE_MAX_SIDE = 1 << 15, OT_IMAGE_MAX_PIXELS = 1 << 26 };

typedef struct ot_image {
    int64_t width, height;
    uint8_t *rgb; /* [height, width, 3]; freed with ot_image_free */
} ot_image;

/* JPEG, PNG or WebP, told apart by their first bytes; turned upright by EXIF. Grey, palette, 16-bit and CMYK become 8-bit RGB as in Pillow's
 * convert("RGB") (16-bit grey keeps its high byte, where Pillow saturates); transparency is dropped; of an animation the first frame counts.
 * where: the picture's name, for messages. */
ot_status ot_image_decode(const uint8_t *data, int64_t size, const char *where, ot_image *out, ot_error *err);
void ot_image_free(ot_image *image);
/* Does the name end as pictures' do, in any case? Also those of formats that are not read, so that they are refused and not overlooked. */
bool ot_image_is_name(const char *name);

/* Numbered as Pillow and the resample of preprocessor_config.json do. */
typedef enum ot_image_filter {
    OT_FILTER_NEAREST = 0,
    OT_FILTER_LANCZOS = 1,
    OT_FILTER_BILINEAR = 2,
    OT_FILTER_BICUBIC = 3,
    OT_FILTER_BOX = 4,
    OT_FILTER_HAMMING = 5,
    OT_FILTERS = 6
} ot_image_filter;

typedef struct ot_image_box {
    int64_t x, y, w, h;
} ot_image_box;

/* The part of `in` inside the box (NULL: all of it), brought to width x height with antialiasing: crop(...).resize(...) of Pillow, bit for bit. */
ot_status ot_image_resize(const ot_image *in, const ot_image_box *box, int64_t width, int64_t height, ot_image_filter filter, ot_image *out,
                          ot_error *err);

/* A JPEG of the picture: baseline, quality 1 to 100. *out is the caller's (ot_free). */
ot_status ot_jpeg_encode(const ot_image *image, int quality, uint8_t **out, int64_t *size, ot_error *err);

/* ==== For the files of this folder. ==== */

/* Black. Fails above the limits. */
ot_status ot_image_new(int64_t width, int64_t height, const char *where, ot_image *out, ot_error *err);
ot_status ot_jpeg_decode(const uint8_t *data, int64_t size, const char *where, ot_image *out, int *orientation, ot_error *err);
ot_status ot_png_decode(const uint8_t *data, int64_t size, const char *where, ot_image *out, int *orientation, ot_error *err);
ot_status ot_webp_decode(const uint8_t *data, int64_t size, const char *where, ot_image *out, int *orientation, ot_error *err);
/* The orientation (1 to 8) in a TIFF block of EXIF; 1 when there is none. */
int ot_exif_orientation(const uint8_t *tiff, int64_t size);

#endif
