/* Data sets of picture files: what a row is in an epoch, whether the picture was kept as resized or is decoded again, read ahead or not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/parallel.h"
#include "data/preprocess.h"
#include "support/scratch.h"
#include "support/tiny.h"
#include "train/dataset.h"

enum { FILES = 6, SEED = 7 }; /* FILES: in tests/data/image/some.csv */

/* The same row by the plain way. */
static void expect_row(ot_dataset *d, const ot_preprocess *how, const ot_augment *augment, int64_t row, int64_t epoch) {
    float got[3 * 24 * 24], wanted[3 * 24 * 24];
    ot_map map = {0};
    ot_image image;
    ot_rng rng;
    ot_error err = {0};
    size_t bytes = (size_t)(3 * how->out_height * how->out_width) * sizeof(float);
    if (d->pixels->get(d->pixels, row, epoch, got, &err) != OT_OK) fail_msg("%s", err.message);
    assert_int_equal(ot_map_open(tiny_path(TEST_DATA_DIR "/image", d->pixels->name(d->pixels, row)), &map, &err), OT_OK);
    assert_int_equal(ot_image_decode(map.data, map.size, "picture", &image, &err), OT_OK);
    ot_rng_seed(&rng, ot_rng_hash(ot_rng_hash(SEED ^ 0x70696373ULL, (uint64_t)epoch), (uint64_t)row));
    assert_int_equal(ot_preprocess_apply(how, &image, epoch >= 0 ? augment : NULL, &rng, "picture", wanted, &err), OT_OK);
    if (memcmp(got, wanted, bytes) != 0) fail_msg("row %d of epoch %d differs", (int)row, (int)epoch);
    ot_image_free(&image);
    ot_map_close(&map);
}

/* side 24: nothing is worth keeping; 8: all but the single pixel is. */
static void check_size(const char *model, const char *list, int side, const char *changes) {
    char config[128];
    ot_preprocess how;
    ot_augment augment;
    ot_dataset d = {0};
    ot_error err = {0};
    snprintf(config, sizeof config, "{\"size\": {\"height\": %d, \"width\": %d}}", side, side);
    tiny_text(tiny_path(model, "preprocessor_config.json"), config);
    ot_model *m = tiny_open(model);
    assert_int_equal(ot_preprocess_read(model, "vit", 16, 16, &how, &err), OT_OK);
    assert_int_equal(ot_augment_parse(changes, &augment, &err), OT_OK);
    ot_image_options options = {.model_path = m->path, .augment = &augment, .seed = SEED, .strict = true};
    if (ot_dataset_open_images(list, &m->desc, &options, &d, &err) != OT_OK) fail_msg("%s", err.message);
    assert_int_equal(d.rows, FILES);
    int64_t kept = d.pixels->held - 32 * 3 * side * side * 4;
    assert_true(side == 8 ? kept >= (FILES - 1) * 8 * 8 * 3 : kept < FILES * 200);
    for (int64_t row = 0; row < FILES; row++) expect_row(&d, &how, &augment, row, -1);
    for (int64_t epoch = 0; epoch < 3; epoch++) {
        for (int64_t i = 0; i < FILES; i++) (void)d.pixels->expect(d.pixels, (i * 5 + epoch) % FILES, epoch);
        for (int64_t i = 0; i < FILES; i++) expect_row(&d, &how, &augment, (i * 5 + epoch) % FILES, epoch);
    }
    expect_row(&d, &how, &augment, 4, 9); /* not announced */
    ot_dataset_free(&d);
    ot_model_close(m);
}

static void test_rows(void **state) {
    (void)state;
    static const char config[] = "{\"model_type\": \"vit\", \"num_hidden_layers\": 1, \"hidden_size\": 8, \"num_attention_heads\": 1, \"intermediate_size\": 8, "
                                 "\"image_size\": 16, \"patch_size\": 4, \"num_labels\": 2}";
    scratch s;
    char model[1024], list[1024];
    scratch_open(&s, TEST_BINARY_DIR);
    snprintf(model, sizeof model, "%s", scratch_path(&s, "model"));
    snprintf(list, sizeof list, "%s/image/some.csv", TEST_DATA_DIR);
    tiny_make(config, model, OT_F32, 1);
    for (int threads = 1; threads <= 8; threads += 7) {
        ot_threads_set(threads);
        check_size(model, list, 24, "none");
        check_size(model, list, 24, "crop,flip,jitter=0.5");
        check_size(model, list, 8, "none");
        check_size(model, list, 8, "flip,jitter=0.5");
        check_size(model, list, 8, "crop=0.5,flip,jitter=0.5");
    }
    scratch_close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
