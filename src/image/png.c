/* PNG through libpng: every colour type becomes 8-bit RGB. */
#include <setjmp.h>
#include <string.h>

#include <png.h>

#include "base/mem.h"
#include "image/image.h"

typedef struct job {
    const uint8_t *data;
    int64_t size, at;
    png_structp png;
    png_infop info;
    png_bytep *rows;
    ot_image *out;
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
    size_t n = strlen(text) < sizeof j->text - 1 ? strlen(text) : sizeof j->text - 1;
    memcpy(j->text, text, n);
    j->text[n] = '\0';
    longjmp(*png_set_longjmp_fn(png, longjmp, sizeof(jmp_buf)), 1);
}

static void silent(png_structp png, png_const_charp text) {
    (void)png;
    (void)text;
}

static void decode(job *j, const char *where, int *orientation, ot_error *err) {
    png_structp png = j->png;
    png_set_read_fn(png, j, read_bytes);
    png_set_user_limits(png, OT_IMAGE_MAX_SIDE, OT_IMAGE_MAX_SIDE);
    png_set_chunk_malloc_max(png, 16 << 20);
    png_set_chunk_cache_max(png, 128);
    png_read_info(png, j->info);
    int64_t width = png_get_image_width(png, j->info), height = png_get_image_height(png, j->info);
    j->status = ot_image_new(width, height, where, j->out, err);
    if (j->status != OT_OK) return;
    png_set_expand(png);
    png_set_scale_16(png);
    png_set_gray_to_rgb(png);
    png_set_strip_alpha(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, j->info);
    if (png_get_rowbytes(png, j->info) != (size_t)width * 3) png_error(png, "its rows do not become RGB");
    j->status = ot_calloc(height, sizeof *j->rows, "rows of a picture", (void **)&j->rows, err);
    if (j->status != OT_OK) return;
    for (int64_t y = 0; y < height; y++) j->rows[y] = j->out->rgb + y * width * 3;
    png_read_image(png, j->rows);
    png_read_end(png, j->info);
    png_bytep exif = NULL;
    png_uint_32 n = 0;
    if (png_get_eXIf_1(png, j->info, &n, &exif) != 0) *orientation = ot_exif_orientation(exif, n);
}

ot_status ot_png_decode(const uint8_t *data, int64_t size, const char *where, ot_image *out, int *orientation, ot_error *err) {
    job j = {.data = data, .size = size, .out = out};
    j.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &j, fail, silent);
    j.info = j.png != NULL ? png_create_info_struct(j.png) : NULL;
    if (j.info == NULL) {
        png_destroy_read_struct(&j.png, NULL, NULL);
        return ot_fail_memory(err, 0, "a PNG reader");
    }
    bool failed = setjmp(*png_set_longjmp_fn(j.png, longjmp, sizeof(jmp_buf))) != 0;
    if (!failed) decode(&j, where, orientation, err);
    png_destroy_read_struct(&j.png, &j.info, NULL);
    ot_free(j.rows);
    if (j.status != OT_OK) return j.status;
    return failed ? ot_fail(err, OT_ERR_FORMAT, "%s is a damaged or cut-off PNG: %s", where, j.text) : OT_OK;
}
