/* WebP through libwebp: lossy, lossless, and the first frame of animations. */
#include <string.h>

#include <webp/decode.h>
#include <webp/demux.h>

#include "image/image.h"

static int orientation_of(const WebPDemuxer *demux) {
    WebPChunkIterator chunk;
    int orientation = 1;
    if (WebPDemuxGetChunk(demux, "EXIF", 1, &chunk) != 0) {
        const uint8_t *p = chunk.chunk.bytes;
        int64_t n = (int64_t)chunk.chunk.size;
        bool named = n > 6 && memcmp(p, "Exif\0", 6) == 0; /* some writers put JPEG's mark in front */
        orientation = named ? ot_exif_orientation(p + 6, n - 6) : ot_exif_orientation(p, n);
        WebPDemuxReleaseChunkIterator(&chunk);
    }
    return orientation;
}

/* The first frame; where it does not cover the canvas, the picture stays black. */
static ot_status decode_frame(const WebPDemuxer *demux, const char *where, const ot_image *out, ot_error *err) {
    WebPIterator frame;
    if (WebPDemuxGetFrame(demux, 1, &frame) == 0) return ot_fail(err, OT_ERR_FORMAT, "%s is a WebP without a picture", where);
    int64_t x = frame.x_offset, y = frame.y_offset;
    ot_status status = OT_OK;
    if (x < 0 || y < 0 || x + frame.width > out->width || y + frame.height > out->height) {
        status = ot_fail(err, OT_ERR_FORMAT, "%s is a damaged WebP: a frame reaches beyond its canvas", where);
    } else {
        uint8_t *to = out->rgb + (y * out->width + x) * 3;
        size_t room = (size_t)((out->height - y) * out->width * 3 - x * 3);
        if (WebPDecodeRGBInto(frame.fragment.bytes, frame.fragment.size, to, room, (int)(out->width * 3)) == NULL) {
            status = ot_fail(err, OT_ERR_FORMAT, "%s is a damaged or cut-off WebP", where);
        }
    }
    WebPDemuxReleaseIterator(&frame);
    return status;
}

ot_status ot_webp_decode(const uint8_t *data, int64_t size, const char *where, ot_image *out, int *orientation, ot_error *err) {
    WebPData bytes = {data, (size_t)size};
    WebPDemuxer *demux = WebPDemux(&bytes);
    if (demux == NULL) return ot_fail(err, OT_ERR_FORMAT, "%s is a damaged or cut-off WebP", where);
    int64_t width = WebPDemuxGetI(demux, WEBP_FF_CANVAS_WIDTH), height = WebPDemuxGetI(demux, WEBP_FF_CANVAS_HEIGHT);
    ot_status status = ot_image_new(width, height, where, out, err);
    if (status == OT_OK) status = decode_frame(demux, where, out, err);
    if (status == OT_OK) *orientation = orientation_of(demux);
    WebPDemuxDelete(demux);
    return status;
}
