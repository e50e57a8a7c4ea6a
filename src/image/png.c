/* PNG through libpng: every colour type becomes 8-bit RGB, as Pillow's convert("RGB") makes it. */
#include <setjmp.h>
#include <string.h>

#include <png.h>

#include "base/mem.h"
#include "image/image.h"

enum { MAX_CHUNK = 16 << 20, MAX_TEXT_CHUNKS = 128 };

/* Everything that must be found again after a longjmp; the caller of setjmp changes none of it. */
typedef struct job {
    const uint8_t *data;
    int64_t size, at;
    png_structp png;
    png_infop info;
    png_bytep *rows;
    ot_image *image;
    int orientation;
    ot_status status;
    char text[160];
} job;

static void read_bytes(png_structp png, png_bytep to, size_t n) {
    job *j = png_get_io_ptr(png);
    if ((int64_t)n > j->size - j->at) png_error(png, "it ends too early");
    memcpy(to, j->data + j->at, n);
    j->at += (int64_t)n;
}

static void fail(png_structp png, png_const_charp text) {
    job *j = png_get_error_ptr(png);
    size_t n = strnlen(text, sizeof j->text - 1);
    memcpy(j->text, text, n);
    j->text[n] = '\0';
    png_longjmp(png, 1);
}

static void silent(png_structp png, png_const_charp text) {
    (void)png;
    (void)text;
}

static void decode(job *j, const char *where, ot_error *err) {
    png_structp png = j->png;
    png_set_read_fn(png, j, read_bytes);
    png_set_user_limits(png, 0x7FFFFFFF, 0x7FFFFFFF); /* ours, in ot_image_new, name what is too large */
    png_set_chunk_malloc_max(png, MAX_CHUNK);
    png_set_chunk_cache_max(png, MAX_TEXT_CHUNKS);
    png_read_info(png, j->info);
    int64_t width = png_get_image_width(png, j->info), height = png_get_image_height(png, j->info);
    j->status = ot_image_new(width, height, where, j->image, err);
    if (j->status != OT_OK) return;
    png_set_expand(png);
    png_set_strip_16(png);
    png_set_gray_to_rgb(png);
    png_set_strip_alpha(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, j->info);
    if (png_get_rowbytes(png, j->info) != (size_t)width * 3) png_error(png, "its rows do not become RGB");
    j->status = ot_calloc(height, sizeof *j->rows, "rows of a picture", (void **)&j->rows, err);
    if (j->status != OT_OK) return;
    for (int64_t y = 0; y < height; y++) j->rows[y] = j->image->rgb + y * width * 3;
    png_read_image(png, j->rows);
    png_read_end(png, j->info);
    png_bytep exif = NULL;
    png_uint_32 n = 0;
    if (png_get_eXIf_1(png, j->info, &n, &exif) != 0) j->orientation = ot_exif_orientation(exif, n);
}

static bool guarded(job *j, const char *where, ot_error *err) {
    if (setjmp(png_jmpbuf(j->png)) != 0) return false;
    decode(j, where, err);
    return true;
}

ot_status ot_png_decode(const uint8_t *data, int64_t size, const char *where, ot_image *out, int *orientation, ot_error *err) {
    job j = {.data = data, .size = size, .image = out, .orientation = 1};
    j.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &j, fail, silent);
    j.info = j.png != NULL ? png_create_info_struct(j.png) : NULL;
    if (j.info == NULL) {
        png_destroy_read_struct(&j.png, NULL, NULL);
        return ot_fail_memory(err, 0, "a PNG reader");
    }
    bool whole = guarded(&j, where, err);
    png_destroy_read_struct(&j.png, &j.info, NULL);
    ot_free(j.rows);
    if (j.status != OT_OK) return j.status;
    if (!whole) return ot_fail(err, OT_ERR_FORMAT, "%s is a damaged or cut-off PNG: %s", where, j.text);
    *orientation = j.orientation;
    return OT_OK;
}
