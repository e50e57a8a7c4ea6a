/* Pictures: what Pillow makes of every kind, refusals in words that name the fault, and resizing equal to Pillow's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>
#include <zlib.h>

#include "base/file.h"
#include "base/parallel.h"
#include "format/json.h"
#include "image/image.h"

static json_t *goldens;

static const char *in_folder(const char *folder, const char *name) {
    static char path[1024];
    snprintf(path, sizeof path, "%s/%s/%s", TEST_DATA_DIR, folder, name);
    return path;
}

static ot_status decode(const char *folder, const char *name, ot_image *out, ot_error *err) {
    ot_map map = {0};
    OT_TRY(ot_map_open(in_folder(folder, name), &map, err));
    ot_status status = ot_image_decode(map.data, map.size, name, out, err);
    ot_map_close(&map);
    return status;
}

static int64_t number(const json_t *object, const char *key) { return json_integer_value(json_object_get(object, key)); }

static int digit(char c) { return c <= '9' ? c - '0' : c - 'a' + 10; }

/* The largest difference in levels. */
static int difference(const ot_image *image, const char *hex) {
    int64_t n = image->width * image->height * 3;
    int worst = 0;
    assert_int_equal(strlen(hex), n * 2);
    for (int64_t i = 0; i < n; i++) {
        int d = digit(hex[i * 2]) * 16 + digit(hex[i * 2 + 1]) - image->rgb[i];
        d = d < 0 ? -d : d;
        worst = d > worst ? d : worst;
    }
    return worst;
}

/* PNG and WebP to the bit. JPEG too with the same release of libjpeg-turbo; others may round a colour the other way. */
static void test_pictures_are_pillows(void **state) {
    (void)state;
    const char *name = NULL;
    json_t *entry = NULL;
    int64_t seen = 0;
    json_object_foreach(json_object_get(goldens, "decode"), name, entry) {
        ot_image image;
        ot_error err = {0};
        if (decode("image", name, &image, &err) != OT_OK) fail_msg("%s: %s", name, err.message);
        assert_int_equal(image.width, number(entry, "width"));
        assert_int_equal(image.height, number(entry, "height"));
        int worst = difference(&image, json_string_value(json_object_get(entry, "rgb"))), allowed = ot_path_ends(name, ".jpg") ? 2 : 0;
        if (worst > 0) print_message("%s: %d levels from Pillow\n", name, worst);
        if (worst > allowed) fail_msg("%s differs from Pillow by %d levels", name, worst);
        ot_image_free(&image);
        seen++;
    }
    assert_true(seen >= 40);
}

static const struct bad_picture {
    const char *name, *says;
} BAD[] = {
    {"empty", "is empty: it holds no picture"},
    {"text", "neither JPEG, PNG nor WebP"},
    {"one-byte", "neither JPEG, PNG nor WebP"},
    {"gif", "is a GIF, which is not read: convert it"},
    {"bmp", "is a BMP"},
    {"tiff", "is a TIFF"},
    {"avif", "is a AVIF"},
    {"heic", "is a HEIC"},
    {"jpeg-mark-alone", "cut-off JPEG"},
    {"jpeg-cut-header", "cut-off JPEG"},
    {"jpeg-cut-data", "cut-off JPEG: Premature end"},
    {"jpeg-cut-last-bytes", "cut-off JPEG: Premature end"},
    {"jpeg-no-picture", "JPEG"},
    {"jpeg-marker-in-data", "premature end of data segment"},
    {"jpeg-huge", "is said to have 65500 x 65500 pixels"},
    {"jpeg-many-pixels", "is said to have 30000 x 30000 pixels"},
    {"jpeg-larger-than-data", "premature end of data segment"},
    {"jpeg-no-width", "Empty JPEG image"},
    {"jpeg-12-bits", "Unsupported JPEG data precision 12"},
    {"jpeg-bad-tables", "Bogus Huffman table"},
    {"jpeg-endless-scans", "repeats its scans too often"},
    {"png-mark-alone", "cut-off PNG: it ends too early"},
    {"png-cut-header", "it ends too early"},
    {"png-cut-data", "it ends too early"},
    {"png-no-end", "it ends too early"},
    {"png-header-checksum", "IHDR: CRC error"},
    {"png-data-checksum", "IDAT: "},
    {"png-huge", "is said to have 60000 x 60000 pixels"},
    {"png-many-pixels", "is said to have 30000 x 30000 pixels"},
    {"png-largest-numbers", "is said to have 2147483647 x 2147483647 pixels"},
    {"png-above-largest", "PNG unsigned integer out of range"},
    {"png-no-height", "Invalid IHDR data"},
    {"png-too-few-rows", "Not enough image data"},
    {"png-unknown-filter", "bad adaptive filter value"},
    {"png-depth-3", "Invalid IHDR data"},
    {"png-palette-missing", "Missing PLTE before IDAT"},
    {"png-no-data", "IEND: out of place"},
    {"webp-cut", "cut-off WebP"},
    {"webp-head-alone", "cut-off WebP"},
    {"webp-length-huge", "cut-off WebP"},
    {"webp-bad-frame", "cut-off WebP"},
    {"webp-canvas-huge", "is said to have 40000 x 40000 pixels"},
    {"webp-canvas-small", "WebP"},
};

static void test_bad_pictures_are_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        ot_image image;
        ot_error err = {0};
        if (decode("bad/image", BAD[i].name, &image, &err) == OT_OK) fail_msg("%s was read", BAD[i].name);
        if (strstr(err.message, BAD[i].name) == NULL || strstr(err.message, BAD[i].says) == NULL) {
            fail_msg("%s: \"%s\" says nothing of \"%s\"", BAD[i].name, err.message, BAD[i].says);
        }
        assert_null(image.rgb);
    }
}

/* Every prefix and every flipped byte of small files: read or refused, never more. */
static void test_damage_anywhere(void **state) {
    (void)state;
    static const char *const names[] = {"rgb.jpg", "progressive.jpg", "interlaced.png", "palette-alphas.png", "animated.webp", "alpha-lossy.webp"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *data = NULL;
        int64_t size = 0, refused = 0;
        ot_error err = {0};
        assert_int_equal(ot_read_file(in_folder("image", names[i]), 1 << 20, &data, &size, &err), OT_OK);
        for (int64_t at = 0; at < size; at++) {
            ot_image image;
            if (ot_image_decode((const uint8_t *)data, at, "cut", &image, &err) == OT_OK) ot_image_free(&image);
            else refused++;
            data[at] = (char)(data[at] ^ 0x55);
            if (ot_image_decode((const uint8_t *)data, size, "flipped", &image, &err) == OT_OK) ot_image_free(&image);
            data[at] = (char)(data[at] ^ 0x55);
        }
        if (refused < size * 95 / 100) fail_msg("%s: only %lld of %lld prefixes refused", names[i], (long long)refused, (long long)size);
        ot_free(data);
    }
}

/* What a bomb says of itself is not believed: nothing of that size is allocated. */
static void test_bombs_cost_nothing(void **state) {
    (void)state;
    static const char *const names[] = {"jpeg-huge", "jpeg-many-pixels", "png-huge", "png-largest-numbers", "webp-canvas-huge", "png-profile-bomb"};
    int64_t before = ot_memory_peak();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        ot_image image;
        ot_error err = {0};
        if (decode("bad/image", names[i], &image, &err) == OT_OK) ot_image_free(&image);
    }
    assert_true(ot_memory_peak() - before < 48 << 20);
}

static void test_resizing_is_pillows(void **state) {
    (void)state;
    ot_image image;
    ot_error err = {0};
    size_t i = 0;
    json_t *entry = NULL;
    const json_t *cases = json_object_get(goldens, "resize");
    assert_int_equal(decode("image", "rgb.png", &image, &err), OT_OK);
    assert_true(json_array_size(cases) >= 400);
    json_array_foreach(cases, i, entry) {
        const json_t *b = json_object_get(entry, "box"), *size = json_object_get(entry, "size");
        ot_image_box box = {0, 0, image.width, image.height};
        if (json_is_array(b)) {
            box = (ot_image_box){json_integer_value(json_array_get(b, 0)), json_integer_value(json_array_get(b, 1)),
                                 json_integer_value(json_array_get(b, 2)), json_integer_value(json_array_get(b, 3))};
        }
        int64_t width = json_integer_value(json_array_get(size, 0)), height = json_integer_value(json_array_get(size, 1));
        ot_image out;
        ot_image_filter filter = (ot_image_filter)number(entry, "filter");
        assert_int_equal(ot_image_resize(&image, json_is_array(b) ? &box : NULL, width, height, filter, &out, &err), OT_OK);
        int64_t crc = (int64_t)crc32(0, out.rgb, (unsigned)(width * height * 3));
        if (crc != number(entry, "crc")) {
            fail_msg("%lld x %lld of the box %lld %lld %lld %lld, filter %d, differs from Pillow's", (long long)width, (long long)height,
                     (long long)box.x, (long long)box.y, (long long)box.w, (long long)box.h, (int)filter);
        }
        ot_image_free(&out);
    }
    ot_image_free(&image);
}

static void test_names(void **state) {
    (void)state;
    assert_true(ot_image_is_name("a.JPEG"));
    assert_true(ot_image_is_name("b.webp"));
    assert_true(ot_image_is_name("c.gif")); /* to be refused in words */
    assert_false(ot_image_is_name("c.txt"));
    assert_false(ot_image_is_name(".png"));
    assert_false(ot_image_is_name("png"));
}

int main(void) {
    ot_error err = {0};
    if (ot_json_read(in_folder("image", "goldens.json"), 1 << 24, &goldens, &err) != OT_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pictures_are_pillows), cmocka_unit_test(test_bad_pictures_are_refused), cmocka_unit_test(test_bombs_cost_nothing),
        cmocka_unit_test(test_damage_anywhere),      cmocka_unit_test(test_resizing_is_pillows),      cmocka_unit_test(test_names),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    json_decref(goldens);
    return failed;
}
