/* Files: maps, bounded reads, atomic writes, devices as outputs, directories and paths. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "support/scratch.h"

static void ok(ot_status status, const ot_error *err) {
    if (status != OT_OK) fail_msg("%s: %s", ot_status_name(status), err->message);
}

static void maps_files_of_any_size(void **state) {
    scratch *s = *state;
    ot_error err = {0};
    ot_map map = {0};
    const char *path = scratch_path(s, "data");
    ok(ot_write_file(path, NULL, 0, &err), &err);
    ok(ot_map_open(path, &map, &err), &err);
    assert_null(map.data);
    assert_int_equal(map.size, 0);
    ot_map_close(&map);
    ok(ot_write_file(path, "a\0b", 3, &err), &err);
    ok(ot_map_open(path, &map, &err), &err);
    assert_int_equal(map.size, 3);
    assert_memory_equal(map.data, "a\0b", 3);
    ot_map_close(&map);
    ot_map_close(&map);
    assert_null(map.data);
    assert_int_equal(ot_map_open(s->dir, &map, &err), OT_ERR_IO);
    assert_non_null(strstr(err.message, "not a regular file"));
    assert_int_equal(ot_map_open(scratch_path(s, "absent"), &map, &err), OT_ERR_IO);
    assert_non_null(strstr(err.message, "absent: No such file or directory"));
}

static void reads_up_to_the_limit(void **state) {
    scratch *s = *state;
    enum { SIZE = 300001 };
    static char data[SIZE];
    memset(data, 'q', sizeof data);
    ot_error err = {0};
    const char *path = scratch_path(s, "data");
    ok(ot_write_file(path, data, SIZE, &err), &err);
    char *text = NULL;
    int64_t size = 0;
    ok(ot_read_file(path, SIZE, &text, &size, &err), &err);
    assert_int_equal(size, SIZE);
    assert_memory_equal(text, data, SIZE);
    assert_int_equal(text[SIZE], '\0');
    ot_free(text);
    text = NULL;
    assert_int_equal(ot_read_file(path, SIZE - 1, &text, &size, &err), OT_ERR_FORMAT);
    assert_non_null(strstr(err.message, "larger than the 300000 bytes"));
    assert_int_equal(ot_read_file(s->dir, 10, &text, &size, &err), OT_ERR_IO);
    assert_non_null(strstr(err.message, "Is a directory"));
    assert_null(text);
    ok(ot_write_file(path, "", 0, &err), &err);
    ok(ot_read_file(path, 0, &text, &size, &err), &err);
    assert_string_equal(text, "");
    ot_free(text);
}

static void old_file_stays_until_commit(void **state) {
    scratch *s = *state;
    ot_error err = {0};
    char path[1024];
    assert_true(ot_path_join(path, sizeof path, s->dir, "data"));
    ok(ot_write_file(path, "old", 3, &err), &err);
    ot_writer *w = NULL;
    ok(ot_writer_open(path, &w, &err), &err);
    ok(ot_writer_put(w, "new ", 4, &err), &err);
    ok(ot_writer_put(w, NULL, 0, &err), &err);
    char *text = NULL;
    int64_t size = 0;
    ok(ot_read_file(path, 100, &text, &size, &err), &err);
    assert_string_equal(text, "old");
    ot_free(text);
    assert_int_equal(scratch_count(s), 2);
    ok(ot_writer_put(w, "text", 4, &err), &err);
    ok(ot_writer_commit(w, &err), &err);
    ok(ot_read_file(path, 100, &text, &size, &err), &err);
    assert_string_equal(text, "new text");
    ot_free(text);
    assert_int_equal(scratch_count(s), 1);

    ok(ot_writer_open(path, &w, &err), &err);
    ok(ot_writer_put(w, "abandoned", 9, &err), &err);
    ot_writer_abort(w);
    ot_writer_abort(NULL);
    assert_int_equal(scratch_count(s), 1);
    ok(ot_copy_file(path, scratch_path(s, "copy"), &err), &err);
    ok(ot_read_file(s->path, 100, &text, &size, &err), &err);
    assert_string_equal(text, "new text");
    ot_free(text);
}

static void new_files_obey_the_umask(void **state) {
    scratch *s = *state;
    ot_error err = {0};
    mode_t before = umask(027);
    ot_status status = ot_write_file(scratch_path(s, "data"), "x", 1, &err);
    assert_int_equal(umask(before), 027);
    ok(status, &err);
    struct stat st;
    assert_int_equal(stat(s->path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
}

static void devices_and_directories_survive(void **state) {
    scratch *s = *state;
    ot_error err = {0};
    ok(ot_write_file("/dev/null", "gone", 4, &err), &err);
    struct stat st;
    assert_int_equal(stat("/dev/null", &st), 0);
    assert_true(S_ISCHR(st.st_mode));
    assert_int_equal(ot_write_file("/dev/full", "x", 1, &err), OT_ERR_IO);
    assert_non_null(strstr(err.message, "/dev/full (the disk may be full): No space left on device"));
    assert_int_equal(ot_write_file(s->dir, "x", 1, &err), OT_ERR_IO);
    assert_non_null(strstr(err.message, "it is a directory"));
    assert_true(ot_path_is_dir(s->dir));
}

static int write_and_fail(void *context) {
    static char data[100000];
    ot_error err = {0};
    ot_status status = ot_write_file(context, data, sizeof data, &err);
    return status == OT_ERR_IO && strstr(err.message, "data (the disk may be full): File too large") != NULL ? 0 : 1;
}

static void full_disk_leaves_the_old_file(void **state) {
    scratch *s = *state;
    ot_error err = {0};
    ok(ot_write_file(scratch_path(s, "data"), "old", 3, &err), &err);
    assert_int_equal(scratch_with_file_limit(0, write_and_fail, s->path), 0);
    assert_int_equal(scratch_with_file_limit(99999, write_and_fail, s->path), 0);
    assert_int_equal(scratch_count(s), 1);
    char *text = NULL;
    int64_t size = 0;
    ok(ot_read_file(s->path, 100, &text, &size, &err), &err);
    assert_string_equal(text, "old");
    ot_free(text);
}

static void makes_lists_renames_and_removes_directories(void **state) {
    scratch *s = *state;
    ot_error err = {0};
    char deep[1100], other[1100];
    snprintf(deep, sizeof deep, "%s/a//b/c/", s->dir);
    ok(ot_make_dirs(deep, &err), &err);
    ok(ot_make_dirs(deep, &err), &err);
    assert_true(ot_path_is_dir(deep));
    assert_int_equal(ot_make_dirs("", &err), OT_ERR_IO);
    ok(ot_write_file(scratch_path(s, "a/file"), "x", 1, &err), &err);
    assert_int_equal(ot_make_dirs(s->path, &err), OT_ERR_IO);
    assert_int_equal(ot_make_dirs(scratch_path(s, "a/file/under"), &err), OT_ERR_IO);
    assert_non_null(strstr(err.message, "a/file"));
    ok(ot_write_file(scratch_path(s, "a/Z"), "x", 1, &err), &err);

    ot_arena arena = {0};
    char **names = NULL;
    int64_t count = 0;
    ok(ot_list_dir(scratch_path(s, "a"), &arena, &names, &count, &err), &err);
    assert_int_equal(count, 3);
    assert_string_equal(names[0], "Z");
    assert_string_equal(names[1], "b");
    assert_string_equal(names[2], "file");
    ok(ot_list_dir(deep, &arena, &names, &count, &err), &err);
    assert_int_equal(count, 0);
    assert_int_equal(ot_list_dir(scratch_path(s, "absent"), &arena, &names, &count, &err), OT_ERR_IO);
    ot_arena_free(&arena);

    snprintf(other, sizeof other, "%s/taken", s->dir);
    ok(ot_make_dirs(other, &err), &err);
    assert_int_equal(ot_rename_dir(scratch_path(s, "a"), other, &err), OT_ERR_IO);
    assert_non_null(strstr(err.message, "it exists"));
    snprintf(other, sizeof other, "%s/fresh", s->dir);
    ok(ot_rename_dir(scratch_path(s, "a"), other, &err), &err);
    assert_true(ot_path_exists(scratch_path(s, "fresh/file")));
    assert_false(ot_path_exists(scratch_path(s, "a")));

    /* A link is removed, what it points to is not. */
    assert_int_equal(symlink(other, scratch_path(s, "taken/link")), 0);
    ok(ot_remove_tree(scratch_path(s, "taken"), &err), &err);
    assert_true(ot_path_exists(scratch_path(s, "fresh/file")));
    ok(ot_remove_tree(scratch_path(s, "fresh"), &err), &err);
    ok(ot_remove_tree(scratch_path(s, "fresh"), &err), &err);
    assert_int_equal(scratch_count(s), 0);
}

static void paths(void **state) {
    (void)state;
    char text[8];
    assert_true(ot_path_join(text, sizeof text, "ab", "cd"));
    assert_string_equal(text, "ab/cd");
    assert_true(ot_path_join(text, sizeof text, "ab//", "cd"));
    assert_string_equal(text, "ab/cd");
    assert_true(ot_path_join(text, sizeof text, "/", "cd"));
    assert_string_equal(text, "/cd");
    assert_true(ot_path_join(text, sizeof text, "", "cd"));
    assert_string_equal(text, "cd");
    assert_true(ot_path_join(text, sizeof text, "abc", "def"));
    assert_false(ot_path_join(text, sizeof text, "abcd", "def"));
    assert_string_equal(ot_path_base("a/b/c.gguf"), "c.gguf");
    assert_string_equal(ot_path_base("c.gguf"), "c.gguf");
    assert_true(ot_path_ends("model.safetensors", ".safetensors"));
    assert_false(ot_path_ends("x.safetensors.index.json", ".safetensors"));
    assert_false(ot_path_ends("s", ".s"));
}

static int setup(void **state) {
    static scratch s;
    scratch_open(&s, TEST_BINARY_DIR);
    *state = &s;
    return 0;
}

static int teardown(void **state) {
    scratch_close(*state);
    return 0;
}

static void locks_a_directory_for_one(void **state) {
    scratch *s = *state;
    ot_error err = {0};
    ot_dir_lock first = {0}, second = {0};
    const char *path = scratch_path(s, "work");
    assert_int_equal(ot_dir_lock_take(path, "run", &first, &err), OT_ERR_IO);
    ok(ot_make_dirs(path, &err), &err);
    ok(ot_dir_lock_take(path, "run", &first, &err), &err);
    assert_true(first.held);
    assert_int_equal(ot_dir_lock_take(path, "run", &second, &err), OT_ERR_REFUSED);
    assert_non_null(strstr(err.message, "another run is at work in "));
    assert_false(second.held);
    ot_dir_lock_release(&second);
    ot_dir_lock_release(&first);
    ok(ot_dir_lock_take(path, "run", &second, &err), &err);
    ot_dir_lock_release(&second);
    ok(ot_remove_tree(path, &err), &err);
}

static void paths_lie_to_each_other_by_what_they_are(void **state) {
    scratch *s = *state;
    ot_error err = {0};
    char root[512], in[600], link[600], file[600], hard[600], to_come[700], round[700];
    snprintf(root, sizeof root, "%s", scratch_path(s, "model"));
    snprintf(in, sizeof in, "%s/in", root);
    snprintf(file, sizeof file, "%s/in/weights", root);
    snprintf(hard, sizeof hard, "%s", scratch_path(s, "hard"));
    snprintf(link, sizeof link, "%s", scratch_path(s, "link"));
    snprintf(to_come, sizeof to_come, "%s/a/../b/c/", link);
    snprintf(round, sizeof round, "%s/absent/..//in/../../model/./", root);
    ok(ot_make_dirs(in, &err), &err);
    ok(ot_write_file(file, "x", 1, &err), &err);
    assert_int_equal(symlink(root, link), 0);
    assert_int_equal(linkat(AT_FDCWD, file, AT_FDCWD, hard, 0), 0);
    assert_int_equal(ot_path_relate(root, root), OT_PATHS_SAME);
    assert_int_equal(ot_path_relate(link, root), OT_PATHS_SAME);
    assert_int_equal(ot_path_relate(round, link), OT_PATHS_SAME);
    assert_int_equal(ot_path_relate(hard, file), OT_PATHS_SAME);
    assert_int_equal(ot_path_relate(in, link), OT_PATHS_INSIDE);
    assert_int_equal(ot_path_relate(link, file), OT_PATHS_HOLDS);
    assert_int_equal(ot_path_relate(s->dir, file), OT_PATHS_HOLDS);
    assert_int_equal(ot_path_relate(to_come, root), OT_PATHS_INSIDE);
    assert_int_equal(ot_path_relate("/", root), OT_PATHS_HOLDS);
    /* A name that only begins like another. */
    assert_int_equal(ot_path_relate(scratch_path(s, "model2"), root), OT_PATHS_APART);
    assert_int_equal(ot_path_relate(scratch_path(s, "mode"), root), OT_PATHS_APART);
    assert_int_equal(ot_path_relate("", root), OT_PATHS_APART);
    ok(ot_remove_tree(link, &err), &err);
    ok(ot_remove_tree(hard, &err), &err);
    ok(ot_remove_tree(root, &err), &err);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(maps_files_of_any_size, setup, teardown),
        cmocka_unit_test_setup_teardown(reads_up_to_the_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(old_file_stays_until_commit, setup, teardown),
        cmocka_unit_test_setup_teardown(new_files_obey_the_umask, setup, teardown),
        cmocka_unit_test_setup_teardown(devices_and_directories_survive, setup, teardown),
        cmocka_unit_test_setup_teardown(full_disk_leaves_the_old_file, setup, teardown),
        cmocka_unit_test_setup_teardown(makes_lists_renames_and_removes_directories, setup, teardown),
        cmocka_unit_test_setup_teardown(locks_a_directory_for_one, setup, teardown),
        cmocka_unit_test_setup_teardown(paths_lie_to_each_other_by_what_they_are, setup, teardown),
        cmocka_unit_test(paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
