/* Any bytes as a preprocessor_config.json: refused in words, or settings that bring pictures to the size they name, as finite numbers. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "data/preprocess.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(int condition) {
    if (!condition) abort();
}

static void apply(const ot_preprocess *p) {
    enum { MOST = 1 << 14 };
    static uint8_t pixels[4 * 7 * 3];
    const ot_image image = {.width = 7, .height = 4, .rgb = pixels};
    int64_t n = p->out_height * p->out_width * 3;
    if (p->out_height == 0 || n > MOST || (p->resize && p->height * p->width > MOST)) return;
    ot_error err = {0};
    float *out = malloc((size_t)n * sizeof *out);
    expect(out != NULL);
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(i * 37);
    if (ot_preprocess_apply(p, &image, NULL, NULL, "fuzz", out, &err) == OT_OK) {
        for (int64_t i = 0; i < n; i++) expect(isfinite(out[i]));
    } else {
        expect(strncmp(err.message, "fuzz", 4) == 0);
    }
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const architectures[] = {"vit", "clip", "eva"};
    for (size_t i = 0; i < sizeof architectures / sizeof *architectures; i++) {
        ot_preprocess p = {0};
        ot_error err = {0};
        if (ot_preprocess_parse((const char *)data, (int64_t)size, "fuzz", architectures[i], 32, 32, &p, &err) != OT_OK) {
            expect(strncmp(err.message, "fuzz", 4) == 0);
            continue;
        }
        apply(&p);
    }
    return 0;
}
