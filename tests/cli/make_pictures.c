/* Pictures for tests of the command line: FILE IMAGES CLASSES SIZE SEED [nolabels] writes pixel_values [N, 3, SIZE, SIZE] and labels [N]. Each class is a
 * wave of its own direction and colour under noise, so that a tiny model can learn them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "format/safetensors.h"

static void paint(float *out, int64_t size, int64_t label, ot_rng *rng) {
    double angle = 0.7 * (double)label, phase = 6.3 * ot_rng_uniform(rng);
    for (int64_t c = 0; c < 3; c++) {
        double gain = 1.0 + 0.5 * cos((double)(label + c) * 2.1);
        for (int64_t y = 0; y < size; y++) {
            for (int64_t x = 0; x < size; x++) {
                double wave = sin((cos(angle) * (double)x + sin(angle) * (double)y) * 1.3 + phase);
                *out++ = (float)(gain * wave + 0.3 * (double)(label % 3 == c) + 0.1 * ot_rng_normal(rng));
            }
        }
    }
}

int main(int argc, char **argv) {
    if (argc < 6) return 2;
    int64_t n = strtoll(argv[2], NULL, 10), classes = strtoll(argv[3], NULL, 10), size = strtoll(argv[4], NULL, 10), each = 3 * size * size;
    if (n < 1 || n > 100000 || classes < 1 || size < 1 || size > 512) return 2;
    ot_rng rng;
    ot_error err = {0};
    ot_rng_seed(&rng, (uint64_t)strtoll(argv[5], NULL, 10));
    float *pixels = malloc((size_t)(n * each) * sizeof *pixels);
    int64_t *labels = malloc((size_t)n * sizeof *labels);
    if (pixels == NULL || labels == NULL) return 1;
    for (int64_t i = 0; i < n; i++) {
        labels[i] = i % classes;
        paint(pixels + i * each, size, labels[i], &rng);
    }
    ot_tensor tensors[] = {
        {.name = "pixel_values", .dtype = OT_F32, .n_dims = 4, .shape = {n, 3, size, size}, .data = pixels, .bytes = n * each * 4},
        {.name = "labels", .dtype = OT_I64, .n_dims = 1, .shape = {n}, .data = labels, .bytes = n * 8},
    };
    ot_status status = ot_safetensors_write(argv[1], tensors, argc > 6 ? 1 : 2, NULL, &err);
    if (status != OT_OK) fprintf(stderr, "%s\n", err.message);
    free(pixels);
    free(labels);
    return status == OT_OK ? 0 : 1;
}
