/* JPEG through libjpeg-turbo. A file that ends early or whose data are damaged is refused, not filled with grey. */
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

#include "image/image.h"

/* Progressive files may repeat scans over the whole picture: no encoder writes more than a few dozen. */
enum { MAX_SCANS = 200 };
static const long MAX_MEMORY = 1L << 30;

/* Everything that must be found again after a longjmp; the caller of setjmp changes none of it. */
typedef struct job {
    struct jpeg_decompress_struct c; /* its client_data leads here */
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf out;
    char text[JMSG_LENGTH_MAX];
    ot_image *image;
    int orientation;
    ot_status status;
} job;

static void fail(j_common_ptr c) {
    job *j = c->client_data;
    c->err->format_message(c, j->text);
    longjmp(j->out, 1);
}

/* Damaged picture data and an early end count as failures; other warnings (odd headers, bytes between markers) are harmless. */
static void message(j_common_ptr c, int level) {
    static const int damage[] = {JWRN_HIT_MARKER, JWRN_HUFF_BAD_CODE, JWRN_JPEG_EOF, JWRN_MUST_RESYNC, JWRN_BOGUS_PROGRESSION};
    if (level >= 0) return;
    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        if (c->err->msg_code == damage[i]) fail(c);
    }
}

static void silent(j_common_ptr c) { (void)c; }

static void watch(j_common_ptr c) {
    job *j = c->client_data;
    if (j->c.input_scan_number <= MAX_SCANS) return;
    static const char text[] = "it repeats its scans too often";
    memcpy(j->text, text, sizeof text);
    longjmp(j->out, 1);
}

/* The inks are stored inverted, as Adobe's programs write them, whether the file says so or not; no colour profile: both as in Pillow. */
static void from_cmyk(uint8_t *rgb, const uint8_t *cmyk, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        for (int k = 0; k < 3; k++) rgb[i * 3 + k] = (uint8_t)((cmyk[i * 4 + k] * cmyk[i * 4 + 3] + 127) / 255);
    }
}

static int orientation_of(const struct jpeg_decompress_struct *c) {
    for (jpeg_saved_marker_ptr m = c->marker_list; m != NULL; m = m->next) {
        if (m->marker == JPEG_APP0 + 1 && m->data_length > 6 && memcmp(m->data, "Exif\0", 6) == 0) {
            return ot_exif_orientation(m->data + 6, (int64_t)m->data_length - 6);
        }
    }
    return 1;
}

static void decode(job *j, const uint8_t *data, int64_t size, const char *where, ot_error *err) {
    struct jpeg_decompress_struct *c = &j->c;
    jpeg_create_decompress(c);
    c->mem->max_memory_to_use = MAX_MEMORY;
    c->progress = &j->progress;
    jpeg_save_markers(c, JPEG_APP0 + 1, 0xFFFF);
    jpeg_mem_src(c, data, (unsigned long)size);
    jpeg_read_header(c, TRUE);
    j->status = ot_image_new(c->image_width, c->image_height, where, j->image, err);
    if (j->status != OT_OK) return;
    j->orientation = orientation_of(c);
    bool cmyk = c->jpeg_color_space == JCS_CMYK || c->jpeg_color_space == JCS_YCCK;
    c->out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    jpeg_start_decompress(c);
    int64_t width = c->output_width;
    JSAMPROW line = cmyk ? c->mem->alloc_large((j_common_ptr)c, JPOOL_IMAGE, (size_t)width * 4) : NULL;
    while (c->output_scanline < c->output_height) {
        uint8_t *to = j->image->rgb + (int64_t)c->output_scanline * width * 3, *row = cmyk ? line : to;
        jpeg_read_scanlines(c, &row, 1);
        if (cmyk) from_cmyk(to, line, width);
    }
    jpeg_finish_decompress(c);
}

static bool guarded(job *j, const uint8_t *data, int64_t size, const char *where, ot_error *err) {
    if (setjmp(j->out) != 0) return false;
    decode(j, data, size, where, err);
    return true;
}

ot_status ot_jpeg_decode(const uint8_t *data, int64_t size, const char *where, ot_image *out, int *orientation, ot_error *err) {
    job j = {.image = out, .orientation = 1, .progress = {.progress_monitor = watch}};
    j.c.err = jpeg_std_error(&j.errors);
    j.c.client_data = &j;
    j.errors.error_exit = fail;
    j.errors.emit_message = message;
    j.errors.output_message = silent;
    bool whole = guarded(&j, data, size, where, err);
    jpeg_destroy_decompress(&j.c);
    if (j.status != OT_OK) return j.status;
    if (!whole) return ot_fail(err, OT_ERR_FORMAT, "%s is a damaged or cut-off JPEG: %s", where, j.text);
    *orientation = j.orientation;
    return OT_OK;
}
