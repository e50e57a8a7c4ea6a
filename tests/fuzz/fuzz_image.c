/* Any bytes as a picture: refused in words, or a picture within the limits that can be resized. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "image/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(int condition) {
    if (!condition) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ot_image image, small;
    ot_error err = {0};
    if (ot_image_decode(data, (int64_t)size, "fuzz", &image, &err) != OT_OK) {
        expect(image.rgb == NULL && strstr(err.message, "fuzz") != NULL);
        return 0;
    }
    expect(image.width > 0 && image.height > 0 && image.width * image.height <= OT_IMAGE_MAX_PIXELS);
    expect(ot_image_resize(&image, NULL, 5, 3, (ot_image_filter)(size % OT_FILTERS), &small, &err) == OT_OK);
    ot_image_free(&small);
    ot_image_free(&image);
    return 0;
}
