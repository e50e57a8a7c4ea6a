/* Writing JPEG through libjpeg-turbo: thumbnails for pages. */
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include "base/mem.h"
#include "image/image.h"

/* Everything that must be found again after a longjmp; the caller of setjmp changes none of it. */
typedef struct job {
    struct jpeg_compress_struct c; /* its client_data leads here */
    struct jpeg_error_mgr errors;
    jmp_buf out;
    char text[JMSG_LENGTH_MAX];
    unsigned char *bytes; /* malloc's, by libjpeg */
    unsigned long size;
} job;

static void fail(j_common_ptr c) {
    job *j = c->client_data;
    c->err->format_message(c, j->text);
    longjmp(j->out, 1);
}

static bool encode(job *j, const ot_image *image, int quality) {
    if (setjmp(j->out) != 0) return false;
    jpeg_create_compress(&j->c);
    jpeg_mem_dest(&j->c, &j->bytes, &j->size);
    j->c.image_width = (JDIMENSION)image->width;
    j->c.image_height = (JDIMENSION)image->height;
    j->c.input_components = 3;
    j->c.in_color_space = JCS_RGB;
    jpeg_set_defaults(&j->c);
    jpeg_set_quality(&j->c, quality, TRUE);
    j->c.optimize_coding = TRUE;
    jpeg_start_compress(&j->c, TRUE);
    while (j->c.next_scanline < j->c.image_height) {
        JSAMPROW row = image->rgb + (int64_t)j->c.next_scanline * image->width * 3;
        jpeg_write_scanlines(&j->c, &row, 1);
    }
    jpeg_finish_compress(&j->c);
    return true;
}

ot_status ot_jpeg_encode(const ot_image *image, int quality, uint8_t **out, int64_t *size, ot_error *err) {
    job j = {0};
    *out = NULL;
    j.c.err = jpeg_std_error(&j.errors);
    j.c.client_data = &j;
    j.errors.error_exit = fail;
    ot_status status = encode(&j, image, quality) ? ot_malloc((int64_t)j.size, 1, "a JPEG", (void **)out, err)
                                                  : ot_fail(err, OT_ERR_LIBRARY, "a JPEG cannot be written: %s", j.text);
    if (status == OT_OK) memcpy(*out, j.bytes, j.size);
    *size = (int64_t)j.size;
    jpeg_destroy_compress(&j.c);
    free(j.bytes);
    return status;
}
