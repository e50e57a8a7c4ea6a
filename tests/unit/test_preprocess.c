/* From pictures to what a model reads: equal to transformers' image processors, bad configurations refused in words, random changes of training pictures
 * within their bounds and decided by the seed. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "data/preprocess.h"
#include "format/json.h"
#include "support/tiny.h"

#define BAD TEST_DATA_DIR "/bad/preprocess"
#define IMAGES TEST_DATA_DIR "/image"

/* ==== Configurations. ==== */

static ot_status read_config(const char *name, ot_preprocess *out, ot_error *err) {
    char *text = NULL;
    int64_t size = 0;
    OT_TRY(ot_read_file(tiny_path(BAD, name), 1 << 20, &text, &size, err));
    ot_status status = ot_preprocess_parse(text, size, name, "vit", 32, 32, out, err);
    ot_free(text);
    return status;
}

static void test_bad_configurations(void **state) {
    (void)state;
    static const struct {
        const char *name, *says;
    } bad[] = {
        {"empty", "empty"},
        {"text", "JSON"},
        {"cut", "JSON"},
        {"array", "is no JSON object"},
        {"number", "JSON"},
        {"key-twice", "duplicate object key"},
        {"deep", "depth"},
        {"not-utf8", "unable to decode byte 0xff"},
        {"factor-infinite", "real number overflow"},
        {"factor-text", "rescale_factor"},
        {"factor-too-large", "give numbers that are not finite"},
        {"type-unknown", "BeitImageProcessor is not known: ViT, DeiT, CLIP and Blip are"},
        {"type-number", "image_processor_type"},
        {"type-prefix-alone", "the image processor ViT is not known"},
        {"extractor-unknown", "the image processor DetrFeatureExtractor is not known"},
        {"flag-number", "do_resize"},
        {"flag-text", "do_normalize"},
        {"filter-negative", "resample must be 0 to 5"},
        {"filter-unknown", "resample must be 0 to 5"},
        {"filter-text", "resample"},
        {"edge-without-crop", "without do_center_crop"},
        {"size-both-edges", "size must be a number, {height, width} or {shortest_edge}"},
        {"crop_size-shortest-edge", "crop_size must be a number"},
        {"mean-two", "image_mean must be three numbers"},
        {"mean-text", "image_mean must be three numbers"},
        {"mean-too-large", "image_mean must be three numbers"},
        {"std-zero", "image_std must be three numbers above 0"},
        {"std-negative", "image_std must be three numbers above 0"},
        {"std-object", "image_std must be three numbers above 0"},
        {"std-too-small", "give numbers that are not finite"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ot_preprocess p;
        ot_error err = {0};
        if (read_config(bad[i].name, &p, &err) == OT_OK) fail_msg("%s was read", bad[i].name);
        if (strstr(err.message, bad[i].name) == NULL || strstr(err.message, bad[i].says) == NULL) {
            fail_msg("%s: \"%s\" says nothing of \"%s\"", bad[i].name, err.message, bad[i].says);
        }
    }
    static const char *const keys[] = {"size", "crop_size"};
    static const char *const values[] = {"zero", "negative", "huge", "fraction", "text", "list", "height-alone", "height-text", "width-zero", "longest-edge", "none"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys * (sizeof values / sizeof *values); i++) {
        char name[64], says[128];
        const char *key = keys[i % 2];
        ot_preprocess p;
        ot_error err = {0};
        snprintf(name, sizeof name, "%s-%s", key, values[i / 2]);
        snprintf(says, sizeof says, "%s: %s must be a number", name, key);
        if (read_config(name, &p, &err) == OT_OK) fail_msg("%s was read", name);
        if (strstr(err.message, says) == NULL) fail_msg("%s: \"%s\" does not say \"%s\"", name, err.message, says);
    }
}

static void test_good_configurations(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int64_t height, width;
    } good[] = {
        {"good-vit", 8, 12}, {"good-old", 16, 16}, {"good-fast", 16, 16}, {"good-clip", 16, 16}, {"good-clip-old", 16, 16}, {"good-deit", 16, 16},
        {"good-blip", 16, 16}, {"good-nothing", 0, 0}, {"good-one-number", 9, 9}, {"good-no-keys", 224, 224},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        ot_preprocess p;
        ot_error err = {0};
        if (read_config(good[i].name, &p, &err) != OT_OK) fail_msg("%s: %s", good[i].name, err.message);
        assert_int_equal(p.out_height, good[i].height);
        assert_int_equal(p.out_width, good[i].width);
    }
    /* Inside of processor_config.json; and without any, the architecture's own at the model's size. */
    static const char nested[] = "{\"image_processor\": {\"image_processor_type\": \"CLIPImageProcessor\", \"crop_size\": {\"height\": 5, \"width\": 7}}}";
    ot_preprocess p;
    ot_error err = {0};
    assert_int_equal(ot_preprocess_parse(nested, (int64_t)strlen(nested), "nested", "clip", 32, 32, &p, &err), OT_OK);
    assert_true(p.crop && p.out_height == 5 && p.out_width == 7 && p.shortest_edge == 224);
    assert_int_equal(ot_preprocess_parse(NULL, 0, "none", "clip", 32, 48, &p, &err), OT_OK);
    assert_true(p.crop && p.out_height == 32 && p.out_width == 48 && p.shortest_edge == 32 && p.filter == OT_FILTER_BICUBIC);
    assert_int_equal(ot_preprocess_parse(NULL, 0, "none", "llama", 32, 48, &p, &err), OT_ERR_UNSUPPORTED);
}

/* ==== The same as transformers. ==== */

static void read_picture(const char *name, ot_image *out) {
    ot_map map = {0};
    ot_error err = {0};
    assert_int_equal(ot_map_open(tiny_path(IMAGES, name), &map, &err), OT_OK);
    if (ot_image_decode(map.data, map.size, name, out, &err) != OT_OK) fail_msg("%s", err.message);
    ot_map_close(&map);
}

static int nibble(char c) { return c <= '9' ? c - '0' : c - 'a' + 10; }

static float hex_float(const char *hex) {
    uint8_t bytes[4];
    float v;
    for (int i = 0; i < 4; i++) bytes[i] = (uint8_t)(nibble(hex[i * 2]) * 16 + nibble(hex[i * 2 + 1]));
    memcpy(&v, bytes, 4);
    return v;
}

static double check_case(const json_t *one) {
    ot_preprocess p;
    ot_image image;
    ot_error err = {0};
    const char *name = json_string_value(json_object_get(one, "picture")), *hex = json_string_value(json_object_get(one, "values"));
    char *config = json_dumps(json_object_get(one, "config"), JSON_COMPACT);
    if (ot_preprocess_parse(config, (int64_t)strlen(config), "golden", "vit", 32, 32, &p, &err) != OT_OK) fail_msg("%s: %s", config, err.message);
    read_picture(name, &image);
    const json_t *shape = json_object_get(one, "shape");
    assert_int_equal(json_integer_value(json_array_get(shape, 1)), p.out_height);
    assert_int_equal(json_integer_value(json_array_get(shape, 2)), p.out_width);
    int64_t n = 3 * p.out_height * p.out_width;
    float *out = calloc((size_t)n, sizeof *out);
    if (ot_preprocess_apply(&p, &image, NULL, NULL, name, out, &err) != OT_OK) fail_msg("%s", err.message);
    double worst = 0;
    for (int64_t i = 0; i < n; i++) {
        double wanted = hex_float(hex + i * 8), d = fabs((double)out[i] - wanted) / fmax(1, fabs(wanted));
        worst = fmax(worst, d);
    }
    if (worst > 1e-6) fail_msg("%s of %s: %g apart", config, name, worst);
    free(config);
    free(out);
    ot_image_free(&image);
    return worst;
}

static void test_preprocessing_is_that_of_transformers(void **state) {
    (void)state;
    json_t *goldens = NULL;
    ot_error err = {0};
    char *text = NULL;
    int64_t size = 0;
    double worst = 0;
    assert_int_equal(ot_read_file(IMAGES "/preprocess.json", 1 << 22, &text, &size, &err), OT_OK);
    assert_int_equal(ot_json_parse(text, size, "goldens", &goldens, &err), OT_OK);
    assert_true(json_array_size(goldens) >= 72);
    for (size_t i = 0; i < json_array_size(goldens); i++) worst = fmax(worst, check_case(json_array_get(goldens, i)));
    print_message("the largest difference: %g\n", worst);
    json_decref(goldens);
    ot_free(text);
}

static void test_pictures_that_cannot_be_made_ready(void **state) {
    (void)state;
    static const char clip[] = "{\"image_processor_type\": \"CLIPImageProcessor\", \"size\": {\"shortest_edge\": 16384}}";
    static uint8_t pixels[3 * 900];
    static float out[3 * 224 * 224];
    const ot_image thin = {.width = 900, .height = 1, .rgb = pixels};
    ot_preprocess p;
    ot_error err = {0};
    assert_int_equal(ot_preprocess_parse(clip, (int64_t)strlen(clip), "clip", "clip", 32, 32, &p, &err), OT_OK);
    assert_int_equal(ot_preprocess_apply(&p, &thin, NULL, NULL, "thin.png", out, &err), OT_ERR_FORMAT);
    assert_non_null(strstr(err.message, "thin.png: 900 x 1 pixels are too long and narrow"));
    static const char as_is[] = "{\"do_resize\": false}";
    assert_int_equal(ot_preprocess_parse(as_is, (int64_t)strlen(as_is), "as-is", "vit", 32, 32, &p, &err), OT_OK);
    p.out_height = p.out_width = 32;
    assert_int_equal(ot_preprocess_apply(&p, &thin, NULL, NULL, "thin.png", out, &err), OT_ERR_FORMAT);
    assert_non_null(strstr(err.message, "thin.png has 900 x 1 pixels, not 32 x 32, and as-is resizes none"));
}

/* ==== Random changes. ==== */

static void augmented(const char *option, uint64_t seed, float out[3 * 8 * 8]) {
    static const char config[] = "{\"size\": {\"height\": 8, \"width\": 8}, \"do_normalize\": false, \"do_rescale\": false}";
    ot_preprocess p;
    ot_augment augment;
    ot_image image;
    ot_rng rng;
    ot_error err = {0};
    if (ot_augment_parse(option, &augment, &err) != OT_OK) fail_msg("%s", err.message);
    assert_int_equal(ot_preprocess_parse(config, (int64_t)strlen(config), "test", "vit", 32, 32, &p, &err), OT_OK);
    read_picture("rgb.png", &image);
    ot_rng_seed(&rng, seed);
    if (ot_preprocess_apply(&p, &image, &augment, &rng, "rgb.png", out, &err) != OT_OK) fail_msg("%s", err.message);
    ot_image_free(&image);
}

static double mean(const float *v, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += v[i];
    return sum / n;
}

static void test_random_changes(void **state) {
    (void)state;
    enum { SEEDS = 400 };
    float plain[3 * 8 * 8], a[3 * 8 * 8], b[3 * 8 * 8];
    int mirrored = 0;
    augmented("none", 1, plain);
    augmented("flip=0,jitter=0", 1, a);
    assert_memory_equal(a, plain, sizeof a);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        augmented("flip", seed, a);
        bool same = memcmp(a, plain, sizeof a) == 0;
        for (int i = 0; i < 3 * 8 * 8; i++) assert_true(same || a[i] == plain[i / 8 * 8 + 7 - i % 8]);
        mirrored += !same;
        augmented("crop,flip,jitter=0.4", seed, a);
        augmented("crop,flip,jitter=0.4", seed, b);
        assert_memory_equal(a, b, sizeof a);
        augmented("crop,flip,jitter=0.4", seed + SEEDS, b);
        assert_memory_not_equal(a, b, sizeof a);
    }
    assert_true(mirrored > SEEDS * 0.4 && mirrored < SEEDS * 0.6);
    augmented("flip=1", 3, a);
    assert_true(a[0] == plain[7]);
    /* Brightness and contrast by at most a tenth: the mean moves by about a fifth at most. */
    for (uint64_t seed = 0; seed < 50; seed++) {
        augmented("jitter=0.1", seed, a);
        assert_true(fabs(mean(a, 192) / mean(plain, 192) - 1) < 0.21);
    }
}

static void test_crops_keep_their_bounds(void **state) {
    (void)state;
    enum { SEEDS = 2000 };
    static uint8_t pixels[3 * 120 * 80];
    const ot_image image = {.width = 120, .height = 80, .rgb = pixels};
    double least = 1, most = 0, sum = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        ot_rng rng;
        ot_rng_seed(&rng, seed);
        ot_image_box box = ot_augment_box(&image, &(ot_augment){.crop = true, .scale = 0.25}, &rng);
        assert_true(box.x >= 0 && box.y >= 0 && box.w > 0 && box.h > 0 && box.x + box.w <= 120 && box.y + box.h <= 80);
        double area = (double)(box.w * box.h) / (120 * 80), ratio = (double)box.w / (double)box.h;
        assert_true(area > 0.24 && ratio > 0.73 && ratio < 1.37);
        least = fmin(least, area);
        most = fmax(most, area);
        sum += area;
    }
    /* Areas are uniform from the least on, but for those that do not fit. */
    assert_true(least < 0.27 && most > 0.85 && sum / SEEDS > 0.48 && sum / SEEDS < 0.62);
}

static void test_options_of_changes(void **state) {
    (void)state;
    static const char *const bad[] = {"crop=0", "crop=2", "flip=-1", "jitter", "jitter=", "jitter=x", "flop", "", ",", "crop,,flip", "crop=0.5x", "none,flip"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ot_augment a;
        ot_error err = {0};
        if (ot_augment_parse(bad[i], &a, &err) == OT_OK) fail_msg("--augment '%s' was taken", bad[i]);
        assert_non_null(strstr(err.message, "--augment"));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_configurations),
        cmocka_unit_test(test_good_configurations),
        cmocka_unit_test(test_preprocessing_is_that_of_transformers),
        cmocka_unit_test(test_pictures_that_cannot_be_made_ready),
        cmocka_unit_test(test_random_changes),
        cmocka_unit_test(test_crops_keep_their_bounds),
        cmocka_unit_test(test_options_of_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
