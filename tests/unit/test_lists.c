/* Archives, lists and folders of pictures: the hand-made bad files with the words that refuse them, and what is made of the layouts that people have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "data/pictures.h"
#include "format/csv.h"
#include "format/tar.h"
#include "support/scratch.h"
#include "support/tiny.h"

#define BAD TEST_DATA_DIR "/bad"

typedef struct bad_file {
    const char *name, *says;
} bad_file;

static void expect_words(const char *name, const char *message, const char *says) {
    if (strstr(message, name) == NULL || strstr(message, says) == NULL) fail_msg("%s: \"%s\" says nothing of \"%s\"", name, message, says);
}

/* ==== Tar. ==== */

static const bad_file bad_tars[] = {
    {"empty", "there are no files in it"},
    {"text", "no tar header begins here"},
    {"gzip", "packed by gzip"},
    {"picture", "no tar header begins here"},
    {"only-blanks", "there are no files in it"},
    {"only-folders", "there are no files in it"},
    {"header-alone", "there are no files in it"},
    {"header-cut", "a header block is cut off"},
    {"second-header-cut", "byte 1024 of the tar archive: a header block is cut off"},
    {"contents-cut", "the archive is cut off"},
    {"checksum-wrong", "no tar header begins here"},
    {"second-checksum-wrong", "byte 1024 of the tar archive: a header's checksum is wrong"},
    {"checksum-no-number", "no tar header begins here"},
    {"size-no-number", "a size is no number"},
    {"size-blank", "a size is no number"},
    {"size-beyond", "reaches beyond the end"},
    {"size-negative", "a size is no number"},
    {"size-64-bits", "reaches beyond the end"},
    {"size-above-64-bits", "a size is no number"},
    {"name-absolute", "the name /etc/passwd.png leads outside"},
    {"name-upwards", "leads outside"},
    {"name-upwards-at-end", "leads outside"},
    {"name-upwards-after-dot", "leads outside"},
    {"name-empty", "leads outside"},
    {"prefix-upwards", "the name ../a.png leads outside"},
    {"long-name-upwards", "the name ../a.png leads outside"},
    {"long-name-empty", "a name is empty or longer than 4096"},
    {"long-name-too-long", "a name is empty or longer than 4096"},
    {"pax-upwards", "leads outside"},
    {"pax-path-empty", "a name is empty or longer than 4096"},
    {"pax-path-too-long", "a name is empty or longer than 4096"},
    {"pax-path-nul", "a name holds a NUL byte"},
    {"pax-no-equals", "a pax header is malformed"},
    {"pax-no-length", "a pax header is malformed"},
    {"pax-length-zero", "a pax header is malformed"},
    {"pax-length-short", "a pax header is malformed"},
    {"pax-length-beyond", "a pax header is malformed"},
    {"pax-length-huge", "a pax header is malformed"},
    {"pax-no-line-end", "a pax header is malformed"},
    {"pax-size-no-number", "size is no number"},
    {"pax-size-empty", "size is no number"},
    {"pax-size-too-many-digits", "size is no number"},
    {"pax-size-beyond", "reaches beyond the end"},
    {"pax-sparse", "a sparse file"},
    {"pax-cut", "reaches beyond the end"},
    {"sparse", "a sparse file"},
};

static ot_status read_tar(const char *name, ot_tar *out, ot_error *err) {
    char *data = NULL;
    int64_t size = 0;
    OT_TRY(ot_read_file(tiny_path(BAD "/tar", name), 1 << 20, &data, &size, err));
    ot_status status = ot_tar_read((const uint8_t *)data, size, name, out, err);
    ot_free(data);
    return status;
}

static void test_bad_tars(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof bad_tars / sizeof *bad_tars; i++) {
        ot_tar tar = {0};
        ot_error err = {0};
        if (read_tar(bad_tars[i].name, &tar, &err) == OT_OK) fail_msg("%s was read", bad_tars[i].name);
        expect_words(bad_tars[i].name, err.message, bad_tars[i].says);
        assert_null(tar.files);
    }
}

static void test_good_tars(void **state) {
    (void)state;
    static const bad_file good[] = {
        {"good-plain", "a.png"}, {"good-old", "a.png"}, {"good-gnu", "a.png"}, {"good-prefix", "cats/black/a.png"}, {"good-dot", "cats/a.png"},
        {"good-no-end", "a.png"}, {"good-cut-padding", "a.png"}, {"good-binary-size", "a.png"}, {"good-pax", "cats/M\xC3\xBCller's.png"},
        {"good-pax-for-all", "a.png"}, {"good-old-folder", "cats/a.png"}, {"good-links", "a.png"},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        ot_tar tar = {0};
        ot_error err = {0};
        if (read_tar(good[i].name, &tar, &err) != OT_OK) fail_msg("%s: %s", good[i].name, err.message);
        assert_int_equal(tar.n_files, 1);
        assert_string_equal(tar.files[0].name, good[i].says);
        assert_int_equal(tar.files[0].size, 3);
        assert_int_equal(tar.n_skipped, strcmp(good[i].name, "good-links") == 0 ? 3 : 0);
        ot_tar_free(&tar);
    }
    ot_tar tar = {0};
    ot_error err = {0};
    assert_int_equal(read_tar("good-long-name", &tar, &err), OT_OK);
    assert_int_equal(strlen(tar.files[0].name), 209);
    ot_tar_free(&tar);
}

/* ==== CSV. ==== */

/* Rows read before the end, or before the refusal that err then holds. */
static int64_t read_csv(const char *name, char *last, size_t room, ot_error *err) {
    ot_csv csv;
    char *text = NULL;
    int64_t size = 0, rows = 0;
    bool found = true;
    assert_int_equal(ot_read_file(tiny_path(BAD "/csv", name), 1 << 20, &text, &size, err), OT_OK);
    ot_csv_open(text, size, name, &csv);
    while (ot_csv_next(&csv, &found, err) == OT_OK && found) {
        rows++;
        snprintf(last, room, "%lld:", (long long)csv.line);
        for (int i = 0; i < csv.n_fields; i++) snprintf(last + strlen(last), room - strlen(last), "[%s]", csv.fields[i]);
    }
    ot_csv_close(&csv);
    ot_free(text);
    return rows;
}

static void test_bad_lists(void **state) {
    (void)state;
    static const bad_file bad[] = {
        {"nul", ":2: a NUL byte"}, {"picture", "a NUL byte"}, {"utf-16", "a NUL byte"}, {"quote-unclosed", ":2: a quote is not closed"},
        {"quote-in-the-middle", ":2: a quote inside of a field"}, {"text-behind-quote", ":2: text behind"}, {"quote-alone", ":2: a quote is not closed"},
        {"field-too-long", ":2: a field is longer than 65536"}, {"too-many-fields", ":2: more than 256 fields"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char last[256] = "";
        ot_error err = {0};
        read_csv(bad[i].name, last, sizeof last, &err);
        expect_words(bad[i].name, err.message, bad[i].says);
    }
}

static void test_good_lists(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int64_t rows;
        const char *last;
    } good[] = {
        {"empty", 0, ""}, {"only-blank-lines", 0, ""}, {"good-plain", 3, "3:[b.png][dog]"}, {"good-quotes", 3, "3:[two\nlines.png][dog]"},
        {"good-windows", 3, "4:[b.png][]"}, {"good-no-last-line-end", 2, "2:[a.png][cat]"}, {"good-empty-fields", 3, "3:[][][]"},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        char last[256] = "";
        ot_error err = {0};
        int64_t rows = read_csv(good[i].name, last, sizeof last, &err);
        if (err.message[0] != '\0') fail_msg("%s: %s", good[i].name, err.message);
        assert_int_equal(rows, good[i].rows);
        assert_string_equal(last, good[i].last);
    }
}

/* ==== Pictures in archives and lists. ==== */

static ot_status open_all(const char *path, bool strict, ot_pictures *p, ot_error *err) {
    ot_status status = ot_pictures_open(path, strict, p, err);
    if (status == OT_OK) status = ot_pictures_check(p, NULL, NULL, NULL, err);
    if (status != OT_OK) ot_pictures_close(p);
    return status;
}

static void test_bad_pictures(void **state) {
    (void)state;
    static const bad_file bad[] = {
        {"no-pictures.tar", "holds no pictures that can be used"},
        {"no-labels-left.tar", "the first reason: "},
        {"json-broken.tar", "1.json"},
        {"json-no-label.tar", "1.json has no \"label\" that is a name or a number"},
        {"json-label-list.tar", "has no \"label\" that is a name or a number"},
        {"json-label-nul.tar", "json-label-nul.tar: 1.json"},
        {"json-label-long.tar", "has no \"label\" that is a name or a number"},
        {"label-too-large.tar", "1.cls is too large for a label"},
        {"only-parts.tar", "holds the parts of a data set (train, ...) and no classes: name one of them"},
        {"damaged.tar", "none of its 2 pictures can be read; the first: "},
        {"no-path.csv", "its first line must name the columns, among them path"},
        {"no-rows.csv", "holds no pictures that can be used"},
        {"all-outside.csv", ":2: the path /etc/a.png leads outside"},
        {"all-uneven.csv", ":2: has 1 fields, the first line 2"},
        {"label-long.csv", ":2: the label is longer than 1024 bytes"},
        {"not-there.csv", "b.png"},
        {"no-end-of-quote.csv", ":2: a quote is not closed"},
        {"none.tar.gz", "is a packed archive, which is not read"},
        {"none.zip", "is a packed archive, which is not read"},
        {"a.png", "is a single picture: give the folder"},
        {"none.txt", "give a folder, a .tar archive, a .csv list"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ot_pictures p = {0};
        ot_error err = {0};
        if (open_all(tiny_path(BAD "/pictures", bad[i].name), false, &p, &err) == OT_OK) fail_msg("%s was read", bad[i].name);
        expect_words(bad[i].name, err.message, bad[i].says);
    }
}

/* "CLASS/NAME LABEL; ..." and behind it how many were left out. */
static void describe(const ot_pictures *p, char *out, size_t room) {
    out[0] = '\0';
    for (int64_t i = 0; i < p->n; i++) {
        const ot_picture *item = &p->items[i];
        snprintf(out + strlen(out), room - strlen(out), "%s=%s,%d ", item->name, item->class_name != NULL ? item->class_name : "-", (int)item->label);
    }
    snprintf(out + strlen(out), room - strlen(out), "classes");
    for (int64_t i = 0; i < p->n_classes; i++) snprintf(out + strlen(out), room - strlen(out), " %s", p->classes[i]);
    snprintf(out + strlen(out), room - strlen(out), " bad %lld", (long long)p->bad);
}

static void expect_pictures(const char *path, const char *wanted) {
    char text[2048];
    ot_pictures p = {0};
    ot_error err = {0};
    if (open_all(path, false, &p, &err) != OT_OK) fail_msg("%s: %s", path, err.message);
    describe(&p, text, sizeof text);
    assert_string_equal(text, wanted);
    int64_t bad = p.bad;
    ot_pictures_close(&p);
    ot_status status = open_all(path, true, &p, &err);
    if ((status == OT_OK) != (bad == 0)) fail_msg("%s, strictly, with %lld bad ones: %s", path, (long long)bad, status == OT_OK ? "read" : err.message);
    if (status == OT_OK) ot_pictures_close(&p);
}

static void test_layouts_of_files(void **state) {
    (void)state;
    expect_pictures(BAD "/pictures/good-folders.tar", "x/cat/a.png=cat,0 x/dog/b.png=dog,1 classes cat dog bad 1");
    expect_pictures(BAD "/pictures/good-folders.tar/x/cat", "x/cat/a.png=-,-1 classes bad 0");
    expect_pictures(BAD "/pictures/good-samples.tar", "1.png=3,3 2.jpg=7,7 classes bad 1");
    expect_pictures(BAD "/pictures/good-names.tar", "a/1.png=cat,0 b/1.png=dog,1 classes cat dog bad 0");
    expect_pictures(BAD "/pictures/good-list.csv", "a.png=cat,1 ./a.png=10,0 classes 10 cat bad 3");
    expect_pictures(BAD "/pictures/good-numbers.csv", "a.png=1,1 a.png=0,0 a.png=-,-1 classes bad 0");
}

/* ==== Folders. ==== */

static scratch folder;

static void make(const char *path) {
    char part[512];
    for (const char *slash = strchr(path, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        snprintf(part, sizeof part, "%.*s", (int)(slash - path), path);
        (void)mkdir(scratch_path(&folder, part), 0777);
    }
}

/* A file of tests/data (or with `from` NULL, an empty one), as a file of the scratch folder. */
static void lay(const char *from, const char *path) {
    char *data = NULL;
    int64_t size = 0;
    ot_error err = {0};
    make(path);
    if (from != NULL) assert_int_equal(ot_read_file(tiny_path(TEST_DATA_DIR, from), 1 << 20, &data, &size, &err), OT_OK);
    FILE *file = fopen(scratch_path(&folder, path), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data != NULL ? data : "", 1, (size_t)size, file), size);
    assert_int_equal(fclose(file), 0);
    ot_free(data);
}

static int open_folder(void **state) {
    (void)state;
    scratch_open(&folder, TEST_BINARY_DIR);
    return 0;
}

static int close_folder(void **state) {
    (void)state;
    scratch_close(&folder);
    return 0;
}

static void expect_folder(const char *name, const char *wanted) {
    char path[1024];
    snprintf(path, sizeof path, "%s", scratch_path(&folder, name));
    expect_pictures(path, wanted);
}

static void expect_refused(const char *name, const char *says) {
    char path[1024];
    ot_pictures p = {0};
    ot_error err = {0};
    snprintf(path, sizeof path, "%s", scratch_path(&folder, name));
    if (open_all(path, false, &p, &err) == OT_OK) fail_msg("%s was read", name);
    expect_words(name, err.message, says);
}

static void test_odd_folders(void **state) {
    (void)state;
    lay("image/rgb.png", "p/Gro\xC3\x9F e Katze, \"2\"/deep/er/a.PNG");
    lay("image/rgb.jpg", "p/-dog/b.JPeG");
    lay("image/rgb.jpg", "p/-dog/wrong-end.png"); /* told by its bytes */
    lay("bad/image/text", "p/-dog/readme.txt");
    lay("bad/image/text", "p/notes/readme.txt");
    lay("image/rgb.png", "p/.cache/c.png");
    lay("image/rgb.png", "p/-dog/._b.jpg");
    lay("bad/image/heic", "p/-dog/phone.HEIC");
    lay("bad/image/gif", "p/-dog/old.gif");
    lay("image/rgb.png", "p/beside.png");
    lay(NULL, "p/-dog/empty.jpg");
    lay("bad/image/jpeg-huge", "p/only bad/huge.jpg");
    expect_folder("p", "-dog/b.JPeG=-dog,0 -dog/wrong-end.png=-dog,0 Gro\xC3\x9F e Katze, \"2\"/deep/er/a.PNG=Gro\xC3\x9F e Katze, \"2\",1 "
                       "classes -dog Gro\xC3\x9F e Katze, \"2\" bad 7");
}

static void test_links_in_folders(void **state) {
    (void)state;
    lay("image/rgb.png", "store/a.png");
    lay("image/rgb.png", "q/dog/b.png");
    assert_int_equal(symlink("../store", scratch_path(&folder, "q/cat")), 0);
    assert_int_equal(symlink("../../store/a.png", scratch_path(&folder, "q/dog/linked.png")), 0);
    assert_int_equal(symlink("..", scratch_path(&folder, "q/dog/circle")), 0);
    assert_int_equal(symlink("nowhere", scratch_path(&folder, "q/dog/gone.png")), 0);
    assert_int_equal(mkfifo(scratch_path(&folder, "q/dog/pipe.png"), 0600), 0);
    expect_folder("q", "cat/a.png=cat,0 dog/b.png=dog,1 dog/linked.png=dog,1 classes cat dog bad 3");
}

static void test_folders_that_lead_to_classes(void **state) {
    (void)state;
    lay("image/rgb.png", "r/set/v1/cat/a.png");
    lay("image/rgb.png", "r/set/v1/dog/b.png");
    lay("bad/image/text", "r/set/LICENSE");
    expect_folder("r", "cat/a.png=cat,0 dog/b.png=dog,1 classes cat dog bad 0");
    lay("image/rgb.png", "s/cat/a.png");
    lay("image/rgb.png", "s/cat/b.png");
    expect_folder("s", "cat/a.png=cat,0 cat/b.png=cat,0 classes cat bad 0");
    lay("image/rgb.png", "t/set/Train/cat/a.png");
    lay("image/rgb.png", "t/set/test/cat/a.png");
    expect_refused("t", "holds the parts of a data set (Train, ...) and no classes");
    lay("image/rgb.png", "u/a.png");
    expect_folder("u", "a.png=-,-1 classes bad 0");
    lay("bad/image/text", "v/cat/readme");
    expect_refused("v", "the first reason: ");
    assert_int_equal(mkdir(scratch_path(&folder, "w"), 0777), 0);
    expect_refused("w", "holds no pictures that can be used");
}

static void test_folders_of_archives(void **state) {
    (void)state;
    lay("bad/pictures/good-names.tar", "x/0.tar");
    lay("bad/pictures/good-names.tar", "x/1.tar");
    expect_folder("x", "0.tar/a/1.png=cat,0 0.tar/b/1.png=dog,1 1.tar/a/1.png=cat,0 1.tar/b/1.png=dog,1 classes cat dog bad 0");
    lay("bad/pictures/good-folders.tar", "x/2.tar");
    expect_refused("x", "do not go together");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_tars),
        cmocka_unit_test(test_good_tars),
        cmocka_unit_test(test_bad_lists),
        cmocka_unit_test(test_good_lists),
        cmocka_unit_test(test_bad_pictures),
        cmocka_unit_test(test_layouts_of_files),
        cmocka_unit_test_setup_teardown(test_odd_folders, open_folder, close_folder),
        cmocka_unit_test_setup_teardown(test_links_in_folders, open_folder, close_folder),
        cmocka_unit_test_setup_teardown(test_folders_that_lead_to_classes, open_folder, close_folder),
        cmocka_unit_test_setup_teardown(test_folders_of_archives, open_folder, close_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
