/* JPEG through libjpeg-turbo. A file that ends early is refused, not filled with grey. */
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

#include "image/image.h"

typedef struct failure {
    struct jpeg_error_mgr base;
    jmp_buf out;
    char text[JMSG_LENGTH_MAX];
} failure;

static void fail(j_common_ptr c) {
    failure *f = (failure *)(void *)c->err;
    f->base.format_message(c, f->text);
    longjmp(f->out, 1);
}

/* Warnings of damaged data count as failures; others (odd but harmless headers) do not. */
static void message(j_common_ptr c, int level) {
    failure *f = (failure *)(void *)c->err;
    if (level < 0) {
        f->base.num_warnings++;
        if (f->text[0] == '\0') f->base.format_message(c, f->text);
    }
}

static void silent(j_common_ptr c) { (void)c; }

static void from_cmyk(uint8_t *rgb, const uint8_t *cmyk, int64_t n, bool inverted) {
    for (int64_t i = 0; i < n; i++) {
        int k = inverted ? cmyk[i * 4 + 3] : 255 - cmyk[i * 4 + 3];
        for (int c = 0; c < 3; c++) {
            int ink = inverted ? cmyk[i * 4 + c] : 255 - cmyk[i * 4 + c];
            rgb[i * 3 + c] = (uint8_t)((ink * k + 127) / 255);
        }
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

/* What longjmp must find again lives here, not in registers of the caller. */
typedef struct job {
    struct jpeg_decompress_struct c;
    failure f;
    ot_image *out;
    uint8_t *line; /* of CMYK; libjpeg's own memory */
    ot_status status;
} job;

static void decode(job *j, const uint8_t *data, int64_t size, const char *where, int *orientation, ot_error *err) {
    struct jpeg_decompress_struct *c = &j->c;
    jpeg_create_decompress(c);
    c->mem->max_memory_to_use = 1L << 30;
    jpeg_save_markers(c, JPEG_APP0 + 1, 0xFFFF);
    jpeg_mem_src(c, data, (unsigned long)size);
    jpeg_read_header(c, TRUE);
    j->status = ot_image_new(c->image_width, c->image_height, where, j->out, err);
    if (j->status != OT_OK) return;
    *orientation = orientation_of(c);
    bool cmyk = c->jpeg_color_space == JCS_CMYK || c->jpeg_color_space == JCS_YCCK;
    c->out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    jpeg_start_decompress(c);
    if (cmyk) j->line = c->mem->alloc_large((j_common_ptr)c, JPOOL_IMAGE, (size_t)c->output_width * 4);
    while (c->output_scanline < c->output_height) {
        uint8_t *to = j->out->rgb + (int64_t)c->output_scanline * j->out->width * 3, *row = cmyk ? j->line : to;
        jpeg_read_scanlines(c, &row, 1);
        if (cmyk) from_cmyk(to, j->line, j->out->width, c->saw_Adobe_marker);
    }
    jpeg_finish_decompress(c);
}

ot_status ot_jpeg_decode(const uint8_t *data, int64_t size, const char *where, ot_image *out, int *orientation, ot_error *err) {
    job j = {.out = out};
    j.c.err = jpeg_std_error(&j.f.base);
    j.f.base.error_exit = fail;
    j.f.base.emit_message = message;
    j.f.base.output_message = silent;
    bool failed = setjmp(j.f.out) != 0;
    if (!failed) decode(&j, data, size, where, orientation, err);
    jpeg_destroy_decompress(&j.c);
    if (j.status != OT_OK) return j.status;
    if (failed || j.f.base.num_warnings > 0) return ot_fail(err, OT_ERR_FORMAT, "%s is a damaged or cut-off JPEG: %s", where, j.f.text);
    return OT_OK;
}
