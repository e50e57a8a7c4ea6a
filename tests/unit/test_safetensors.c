/* safetensors: every kind of damage is refused in words that name it, what is written is read back bit for bit, and a full
 * disk leaves nothing behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/parallel.h"
#include "format/safetensors.h"
#include "support/scratch.h"

typedef struct bad_file {
    const char *name;
    const char *says; /* must be part of the message, besides the file's name */
    int64_t position;
    ot_status status;
} bad_file;

static const bad_file BAD[] = {
    {"empty", "has 0 bytes", 0, OT_ERR_FORMAT},
    {"seven-bytes", "has 7 bytes", 7, OT_ERR_FORMAT},
    {"text-file", "is it a safetensors file?", 0, OT_ERR_FORMAT},
    {"header-length-zero", "byte 8 must be the {", 8, OT_ERR_FORMAT},
    {"header-past-end", "header would end at byte 4008, but the file has only 73", 0, OT_ERR_FORMAT},
    {"header-past-end-by-one", "it is cut short", 0, OT_ERR_FORMAT},
    {"header-length-huge", "18446744073709551615 bytes long", 0, OT_ERR_FORMAT},
    {"header-length-above-limit", "100000001 bytes long, more than the 100 MB allowed", 0, OT_ERR_FORMAT},
    {"header-blank-first", "byte 8 must be the {", 8, OT_ERR_FORMAT},
    {"header-array", "byte 8 must be the {", 8, OT_ERR_FORMAT},
    {"header-cut", "header: not valid JSON at byte 24", 32, OT_ERR_FORMAT},
    {"header-trailing-text", "end of file expected", 62, OT_ERR_FORMAT},
    {"header-trailing-nul", "end of file expected", 62, OT_ERR_FORMAT},
    {"header-not-utf8", "unable to decode byte 0xff", 10, OT_ERR_FORMAT},
    {"header-deep", "maximum parsing depth", 2061, OT_ERR_FORMAT},
    {"header-nan", "'NaN'", 39, OT_ERR_FORMAT},
    {"header-infinity", "'Infinity'", 65, OT_ERR_FORMAT},
    {"duplicate-tensor", "duplicate object key near '\"a\"'", 64, OT_ERR_FORMAT},
    {"duplicate-key", "duplicate object key near '\"dtype\"'", 34, OT_ERR_FORMAT},
    {"duplicate-metadata", "duplicate object key near '\"k\"'", 36, OT_ERR_FORMAT},
    {"nul-in-name", "NUL byte in object key", 19, OT_ERR_FORMAT},
    {"metadata-array", "__metadata__ is not an object", -1, OT_ERR_FORMAT},
    {"metadata-number", "__metadata__ key steps is not a string", -1, OT_ERR_FORMAT},
    {"entry-number", "tensor layer.weight is not an object", -1, OT_ERR_FORMAT},
    {"dtype-missing", "tensor w has no \"dtype\"", -1, OT_ERR_FORMAT},
    {"dtype-unknown", "tensor w has the unknown dtype \"F31\"", -1, OT_ERR_FORMAT},
    {"dtype-lowercase", "unknown dtype \"f32\"", -1, OT_ERR_FORMAT},
    {"dtype-nul", "unknown dtype", -1, OT_ERR_FORMAT},
    {"dtype-float8", "tensor w has dtype F8_E4M3, which is not supported", -1, OT_ERR_UNSUPPORTED},
    {"dtype-quantised", "unknown dtype \"Q4_0\"", -1, OT_ERR_FORMAT},
    {"shape-missing", "tensor w has no \"shape\"", -1, OT_ERR_FORMAT},
    {"shape-negative", "tensor w: dimension 0", -1, OT_ERR_FORMAT},
    {"shape-two-negatives", "tensor w: dimension 0", -1, OT_ERR_FORMAT},
    {"shape-real", "tensor w: dimension 0", -1, OT_ERR_FORMAT},
    {"shape-string", "tensor w: dimension 0", -1, OT_ERR_FORMAT},
    {"shape-overflow", "tensor w: the product of its shape overflows", -1, OT_ERR_FORMAT},
    {"shape-overflow-wraps-to-one-element", "tensor w: the product of its shape overflows", -1, OT_ERR_FORMAT},
    {"shape-bytes-overflow", "tensor w: the product of its shape overflows", -1, OT_ERR_FORMAT},
    {"shape-above-int64", "too big integer", 57, OT_ERR_FORMAT},
    {"shape-seven-dimensions", "tensor w has 7 dimensions; at most 6", -1, OT_ERR_UNSUPPORTED},
    {"shape-too-large", "tensor w: F32 [2] needs 8 bytes, its data_offsets hold 4", -1, OT_ERR_FORMAT},
    {"shape-too-small", "tensor w: F32 [1] needs 4 bytes, its data_offsets hold 8", -1, OT_ERR_FORMAT},
    {"offsets-missing", "tensor w has no \"data_offsets\"", -1, OT_ERR_FORMAT},
    {"offsets-one", "tensor w has no \"data_offsets\"", -1, OT_ERR_FORMAT},
    {"offsets-three", "tensor w has no \"data_offsets\"", -1, OT_ERR_FORMAT},
    {"offsets-negative", "data_offsets [-4, 0] are negative or reversed", -1, OT_ERR_FORMAT},
    {"offsets-reversed", "data_offsets [4, 0] are negative or reversed", -1, OT_ERR_FORMAT},
    {"offsets-past-end", "tensor w ends at byte 8 of the data, which has only 4 bytes", -1, OT_ERR_FORMAT},
    {"offsets-far-past-end", "tensor w ends at byte 4611686018427387908 of the data", -1, OT_ERR_FORMAT},
    {"overlap", "tensor b, from byte 4, overlaps tensor a, which ends at 8", -1, OT_ERR_FORMAT},
    {"overlap-same-bytes", "overlaps tensor a", -1, OT_ERR_FORMAT},
    {"overlap-inside", "tensor b, from byte 4, overlaps tensor a, which ends at 12", -1, OT_ERR_FORMAT},
    {"gap-first", "bytes 0 to 4 of the data, before tensor a, belong to no tensor", -1, OT_ERR_FORMAT},
    {"gap-between", "bytes 4 to 8 of the data, before tensor b, belong to no tensor", -1, OT_ERR_FORMAT},
    {"gap-empty-tensor-in-it", "before tensor e, belong to no tensor", -1, OT_ERR_FORMAT},
    {"trailing-bytes", "has 1 bytes after its last tensor", -1, OT_ERR_FORMAT},
    {"trailing-bytes-without-tensors", "has 6 bytes after its last tensor", -1, OT_ERR_FORMAT},
    {"name-with-escape-codes", "tensor ?[2Jw is not an object", -1, OT_ERR_FORMAT},
};
enum { BAD_COUNT = sizeof BAD / sizeof *BAD };

static void path_of(const char *name, char *path, size_t size) {
    assert_true(snprintf(path, size, "%s/bad/safetensors/%s", TEST_DATA_DIR, name) < (int)size);
}

static void ok(ot_status status, const ot_error *err) {
    if (status != OT_OK) fail_msg("%s: %s", ot_status_name(status), err->message);
}

static void refuses_every_bad_file(void **state) {
    (void)state;
    for (int i = 0; i < BAD_COUNT; i++) {
        char path[1024];
        path_of(BAD[i].name, path, sizeof path);
        ot_safetensors *st = NULL;
        ot_error err = {0};
        ot_status status = ot_safetensors_open(path, &st, &err);
        if (status != BAD[i].status || st != NULL) fail_msg("%s: %s instead of %s", path, ot_status_name(status), ot_status_name(BAD[i].status));
        assert_int_equal(err.code, status);
        if (strstr(err.message, BAD[i].name) == NULL) fail_msg("\"%s\" does not name the file %s", err.message, BAD[i].name);
        if (strstr(err.message, BAD[i].says) == NULL) fail_msg("%s: \"%s\" does not say \"%s\"", BAD[i].name, err.message, BAD[i].says);
        if (err.position != BAD[i].position) fail_msg("%s: position %lld", BAD[i].name, (long long)err.position);
        for (const char *c = err.message; *c != '\0'; c++) assert_true((unsigned char)*c >= 0x20);
        assert_int_equal(ot_safetensors_open(path, &st, NULL), BAD[i].status);
    }
}

/* A bad file that no row of the table knows would never be looked at. */
static void knows_every_file_of_the_folder(void **state) {
    (void)state;
    char path[1024], **names = NULL;
    path_of(".", path, sizeof path);
    ot_arena arena = {0};
    ot_error err = {0};
    int64_t count = 0, good = 0;
    ok(ot_list_dir(path, &arena, &names, &count, &err), &err);
    for (int64_t i = 0; i < count; i++) {
        if (strncmp(names[i], "good-", 5) == 0) {
            path_of(names[i], path, sizeof path);
            ot_safetensors *st = NULL;
            ok(ot_safetensors_open(path, &st, &err), &err);
            ot_safetensors_close(st);
            good++;
            continue;
        }
        bool known = false;
        for (int k = 0; k < BAD_COUNT; k++) known = known || strcmp(BAD[k].name, names[i]) == 0;
        if (!known) fail_msg("%s has no row in the table", names[i]);
    }
    ot_arena_free(&arena);
    assert_int_equal(good, 7);
    assert_int_equal(count - good, BAD_COUNT);
}

static ot_safetensors *open_data(const char *name) {
    char path[1024];
    path_of(name, path, sizeof path);
    ot_safetensors *st = NULL;
    ot_error err = {0};
    ok(ot_safetensors_open(path, &st, &err), &err);
    assert_string_equal(ot_safetensors_path(st), path);
    return st;
}

static void reads_values_shapes_and_metadata(void **state) {
    (void)state;
    ot_safetensors *st = open_data("good-one");
    assert_int_equal(ot_safetensors_count(st), 1);
    const ot_tensor *a = ot_safetensors_find(st, "a");
    assert_ptr_equal(a, ot_safetensors_at(st, 0));
    assert_int_equal(a->dtype, OT_F32);
    assert_int_equal(a->n_dims, 2);
    assert_int_equal(a->shape[0], 1);
    assert_int_equal(a->shape[1], 2);
    assert_int_equal(a->bytes, 8);
    float values[2];
    memcpy(values, a->data, sizeof values);
    assert_true(values[0] == 1.0F && values[1] == -2.0F);
    assert_string_equal(ot_safetensors_metadata(st, "format"), "pt");
    assert_null(ot_safetensors_metadata(st, "a"));
    assert_null(ot_safetensors_find(st, "b"));
    assert_null(ot_safetensors_find(st, ""));
    assert_null(ot_safetensors_find(st, "__metadata__"));
    assert_null(ot_safetensors_at(st, 1));
    assert_null(ot_safetensors_at(st, -1));
    ot_safetensors_close(st);
    ot_safetensors_close(NULL);

    st = open_data("good-no-tensors");
    assert_int_equal(ot_safetensors_count(st), 0);
    assert_null(ot_safetensors_find(st, "a"));
    assert_null(ot_safetensors_metadata(st, "format"));
    ot_safetensors_close(st);
}

static void orders_by_data_and_allows_odd_places(void **state) {
    (void)state;
    ot_safetensors *st = open_data("good-unaligned");
    assert_string_equal(ot_safetensors_at(st, 0)->name, "a");
    assert_string_equal(ot_safetensors_at(st, 1)->name, "b");
    float value = 0;
    memcpy(&value, ot_safetensors_find(st, "b")->data, sizeof value);
    assert_true(value == 2.5F);
    ot_safetensors_close(st);

    st = open_data("good-empty-tensors");
    assert_int_equal(ot_safetensors_count(st), 3);
    assert_int_equal(ot_safetensors_find(st, "z")->bytes, 0);
    assert_int_equal(ot_safetensors_find(st, "z")->shape[1], 5);
    assert_null(ot_safetensors_find(st, "z")->data);
    assert_int_equal(ot_safetensors_find(st, "a")->bytes, 4);
    ot_safetensors_close(st);

    st = open_data("good-scalar");
    assert_int_equal(ot_safetensors_find(st, "s")->n_dims, 0);
    ot_safetensors_close(st);
}

static void names_files_it_cannot_open(void **state) {
    scratch *s = *state;
    ot_safetensors *st = NULL;
    ot_error err = {0};
    assert_int_equal(ot_safetensors_open(scratch_path(s, "absent.safetensors"), &st, &err), OT_ERR_IO);
    assert_non_null(strstr(err.message, "absent.safetensors"));
    assert_non_null(strstr(err.message, "No such file or directory"));
    assert_int_equal(ot_safetensors_open(s->dir, &st, &err), OT_ERR_IO);
    assert_non_null(strstr(err.message, "not a regular file"));
    const char *pipe_path = scratch_path(s, "pipe");
    assert_int_equal(mkfifo(pipe_path, 0600), 0);
    assert_int_equal(ot_safetensors_open(pipe_path, &st, &err), OT_ERR_IO);
    assert_non_null(strstr(err.message, "not a regular file"));
    const char *path = scratch_path(s, "locked");
    ok(ot_write_file(path, "{}", 2, &err), &err);
    assert_int_equal(chmod(path, 0), 0);
    /* Root may read everything: be nobody for one call. */
    uid_t user = geteuid();
    if (user == 0) assert_int_equal(seteuid(65534), 0);
    ot_status status = ot_safetensors_open(path, &st, &err);
    if (user == 0) assert_int_equal(seteuid(0), 0);
    assert_int_equal(status, OT_ERR_IO);
    assert_non_null(strstr(err.message, "locked"));
    assert_non_null(strstr(err.message, "Permission denied"));
}

static void writes_what_it_reads(void **state) {
    scratch *s = *state;
    static const uint8_t bytes[3] = {1, 2, 255};
    static const double doubles[2] = {0.1, -3};
    static const uint16_t halves[4] = {0x3C00, 0x7C01, 0x8000, 1}; /* a signalling NaN must keep its bits */
    const ot_tensor tensors[] = {
        {.name = "bytes", .dtype = OT_U8, .n_dims = 1, .shape = {3}, .bytes = 3, .data = bytes},
        {.name = "\xC3\xA9\"\\\n", .dtype = OT_F64, .n_dims = 2, .shape = {2, 1}, .bytes = 16, .data = doubles},
        {.name = "none", .dtype = OT_I64, .n_dims = 2, .shape = {0, 7}},
        {.name = "h", .dtype = OT_F16, .n_dims = 3, .shape = {1, 2, 2}, .bytes = 8, .data = halves},
    };
    const char *const metadata[] = {"offer", "42", "text", "a\"b", NULL};
    const char *path = scratch_path(s, "out.safetensors");
    ot_error err = {0};
    ok(ot_safetensors_write(path, tensors, 4, metadata, &err), &err);
    assert_int_equal(scratch_count(s), 1);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    mode_t mask = umask(0);
    umask(mask);
    assert_int_equal(info.st_mode & 0777, 0666 & ~mask);

    ot_map map = {0};
    ok(ot_map_open(path, &map, &err), &err);
    assert_int_equal(map.data[8], '{');
    assert_int_equal(map.data[0] % 8, 0);
    ot_map_close(&map);

    ot_safetensors *st = NULL;
    ok(ot_safetensors_open(path, &st, &err), &err);
    assert_int_equal(ot_safetensors_count(st), 4);
    for (int i = 0; i < 4; i++) {
        const ot_tensor *t = ot_safetensors_find(st, tensors[i].name);
        assert_non_null(t);
        assert_int_equal(t->dtype, tensors[i].dtype);
        assert_int_equal(t->n_dims, tensors[i].n_dims);
        assert_memory_equal(t->shape, tensors[i].shape, sizeof t->shape);
        assert_int_equal(t->bytes, tensors[i].bytes);
        if (t->bytes > 0) assert_memory_equal(t->data, tensors[i].data, (size_t)t->bytes);
    }
    assert_string_equal(ot_safetensors_metadata(st, "format"), "pt");
    assert_string_equal(ot_safetensors_metadata(st, "offer"), "42");
    assert_string_equal(ot_safetensors_metadata(st, "text"), "a\"b");
    ot_safetensors_close(st);

    const char *const flax[] = {"format", "flax", NULL};
    ok(ot_safetensors_write(path, NULL, 0, flax, &err), &err);
    ok(ot_safetensors_open(path, &st, &err), &err);
    assert_string_equal(ot_safetensors_metadata(st, "format"), "flax");
    ot_safetensors_close(st);
}

static void refused_write(scratch *s, const ot_tensor *tensors, int64_t count, const char *const *metadata, const char *says) {
    ot_error err = {0};
    ot_status status = ot_safetensors_write(scratch_path(s, "refused"), tensors, count, metadata, &err);
    if (status == OT_OK || strstr(err.message, says) == NULL) fail_msg("%s: \"%s\" does not say \"%s\"", ot_status_name(status), err.message, says);
    assert_non_null(strstr(err.message, "refused"));
    assert_int_equal(scratch_count(s), 0);
}

static void refuses_to_write_nonsense(void **state) {
    scratch *s = *state;
    float x[2] = {1, 2};
    ot_tensor two[2] = {{.name = "w", .dtype = OT_F32, .n_dims = 1, .shape = {2}, .bytes = 8, .data = x}};
    two[1] = two[0];
    refused_write(s, two, 2, NULL, "two tensors would have the name w");
    two[1].name = "__metadata__";
    refused_write(s, two, 2, NULL, "__metadata__");
    two[1].name = "\xFF";
    refused_write(s, two, 2, NULL, "not valid UTF-8");
    two[1].name = "v";
    two[1].bytes = 4;
    refused_write(s, two, 2, NULL, "tensor v: its 4 bytes do not match");
    two[1].shape[0] = -2;
    refused_write(s, two, 2, NULL, "tensor v");
    two[1].n_dims = 7;
    refused_write(s, two, 2, NULL, "tensor v");
    two[1] = (ot_tensor){.name = "q", .dtype = OT_Q4_0, .n_dims = 1, .shape = {32}, .bytes = 18, .data = x};
    refused_write(s, two, 2, NULL, "tensor q is Q4_0, which safetensors cannot hold");
    const char *const twice[] = {"k", "1", "k", "2", NULL}, *const odd[] = {"k", NULL}, *const broken[] = {"k", "\x80", NULL};
    refused_write(s, two, 1, twice, "metadata key k is given twice");
    refused_write(s, two, 1, odd, "metadata key k");
    refused_write(s, two, 1, broken, "not valid UTF-8");
}

static void streams_and_counts_bytes(void **state) {
    scratch *s = *state;
    int32_t x[4] = {1, 2, 3, 4};
    const ot_tensor tensors[] = {{.name = "first", .dtype = OT_I32, .n_dims = 1, .shape = {2}, .bytes = 8},
                                 {.name = "second", .dtype = OT_I32, .n_dims = 1, .shape = {2}, .bytes = 8}};
    const char *path = scratch_path(s, "stream");
    ot_error err = {0};
    ot_safetensors_writer *w = NULL;
    ok(ot_safetensors_writer_open(path, tensors, 2, NULL, &w, &err), &err);
    ok(ot_safetensors_writer_put(w, x, 5, &err), &err);
    assert_int_equal(ot_safetensors_writer_commit(w, &err), OT_ERR_USAGE);
    assert_non_null(strstr(err.message, "tensor first is incomplete"));
    ok(ot_safetensors_writer_put(w, (char *)x + 5, 6, &err), &err);
    assert_int_equal(ot_safetensors_writer_commit(w, &err), OT_ERR_USAGE);
    assert_non_null(strstr(err.message, "tensor second is incomplete: 11 of 16 bytes"));
    assert_int_equal(ot_safetensors_writer_put(w, x, 6, &err), OT_ERR_USAGE);
    assert_int_equal(ot_safetensors_writer_put(w, x, -1, &err), OT_ERR_USAGE);
    assert_false(ot_path_exists(path));
    ok(ot_safetensors_writer_put(w, (char *)x + 11, 5, &err), &err);
    ok(ot_safetensors_writer_commit(w, &err), &err);
    ot_safetensors *st = NULL;
    ok(ot_safetensors_open(path, &st, &err), &err);
    assert_memory_equal(ot_safetensors_find(st, "second")->data, x + 2, 8);
    ot_safetensors_close(st);

    /* An abandoned run neither leaves its own file nor harms the finished one. */
    ok(ot_safetensors_writer_open(path, tensors, 2, NULL, &w, &err), &err);
    ok(ot_safetensors_writer_put(w, x, 16, &err), &err);
    ot_safetensors_writer_abort(w);
    ot_safetensors_writer_abort(NULL);
    assert_int_equal(scratch_count(s), 1);
    ok(ot_safetensors_open(path, &st, &err), &err);
    ot_safetensors_close(st);
}

static int write_a_mebibyte(void *context) {
    static char data[1 << 20];
    const ot_tensor t = {.name = "big", .dtype = OT_I8, .n_dims = 1, .shape = {1 << 20}, .bytes = 1 << 20, .data = data};
    ot_error err = {0};
    ot_status status = ot_safetensors_write(context, &t, 1, NULL, &err);
    if (status != OT_ERR_IO) return 1;
    if (strstr(err.message, "out.safetensors") == NULL || strstr(err.message, "disk may be full") == NULL) return 2;
    return strstr(err.message, "File too large") != NULL ? 0 : 3;
}

static void leaves_nothing_on_a_full_disk(void **state) {
    scratch *s = *state;
    const char *path = scratch_path(s, "out.safetensors");
    assert_int_equal(scratch_with_file_limit(100, write_a_mebibyte, s->path), 0);
    assert_int_equal(scratch_with_file_limit(300000, write_a_mebibyte, s->path), 0);
    assert_int_equal(scratch_with_file_limit((1 << 20) + 8, write_a_mebibyte, s->path), 0);
    assert_int_equal(scratch_count(s), 0);
    /* What was there before stays. */
    ot_error err = {0};
    ok(ot_write_file(path, "before", 6, &err), &err);
    assert_int_equal(scratch_with_file_limit(300000, write_a_mebibyte, s->path), 0);
    assert_int_equal(scratch_count(s), 1);
    char *text = NULL;
    int64_t size = 0;
    ok(ot_read_file(path, 100, &text, &size, &err), &err);
    assert_string_equal(text, "before");
    ot_free(text);
    /* Linux has a device that is always full. */
    const ot_tensor none = {.name = "x", .dtype = OT_F32, .n_dims = 1, .shape = {0}};
    assert_int_equal(ot_safetensors_write("/dev/full", &none, 1, NULL, &err), OT_ERR_IO);
    assert_non_null(strstr(err.message, "No space left on device"));
    assert_int_equal(ot_safetensors_write(scratch_path(s, "no/such/folder"), &none, 1, NULL, &err), OT_ERR_IO);
    assert_non_null(strstr(err.message, "no/such/folder"));
}

static void opens_many_tensors_fast(void **state) {
    scratch *s = *state;
    enum { COUNT = 50000, NAME = 32 };
    ot_error err = {0};
    void *memory = NULL, *texts = NULL;
    ok(ot_calloc(COUNT, sizeof(ot_tensor), "tensors", &memory, &err), &err);
    ok(ot_calloc(COUNT, NAME, "names", &texts, &err), &err);
    ot_tensor *tensors = memory;
    static const uint8_t data[4] = {1, 2, 3, 4};
    for (int i = 0; i < COUNT; i++) {
        char *name = (char *)texts + (ptrdiff_t)i * NAME;
        snprintf(name, NAME, "layer.%d.weight", i);
        tensors[i] = (ot_tensor){.name = name, .dtype = OT_U8, .n_dims = 1, .shape = {i % 4}, .bytes = i % 4, .data = data};
    }
    const char *path = scratch_path(s, "many");
    ok(ot_safetensors_write(path, tensors, COUNT, NULL, &err), &err);
    double start = ot_seconds();
    ot_safetensors *st = NULL;
    ok(ot_safetensors_open(path, &st, &err), &err);
    for (int i = 0; i < COUNT; i++) {
        const ot_tensor *t = ot_safetensors_find(st, tensors[i].name);
        assert_non_null(t);
        assert_int_equal(t->bytes, i % 4);
    }
    double seconds = ot_seconds() - start;
    print_message("%d tensors opened and found in %.3f s\n", (int)COUNT, seconds);
    /* A search through a list would need 10^9 comparisons; this bound holds under sanitizers on a busy machine. */
    assert_true(seconds < 10);
    ot_safetensors_close(st);
    ot_free(memory);
    ot_free(texts);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_every_bad_file),
        cmocka_unit_test(knows_every_file_of_the_folder),
        cmocka_unit_test(reads_values_shapes_and_metadata),
        cmocka_unit_test(orders_by_data_and_allows_odd_places),
        cmocka_unit_test_setup_teardown(names_files_it_cannot_open, setup, teardown),
        cmocka_unit_test_setup_teardown(writes_what_it_reads, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_to_write_nonsense, setup, teardown),
        cmocka_unit_test_setup_teardown(streams_and_counts_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(leaves_nothing_on_a_full_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(opens_many_tensors_fast, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
