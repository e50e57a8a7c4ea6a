/* The GGUF reader: a hand-made file that holds every kind of value, more than fifty broken siblings of it that must be refused
 * with a message that names the place, truncations and damage at every byte, a large vocabulary, and the golden files.
 * `test_gguf --write DIR` writes the hand-made files, which are the corpus of the fuzz target. */
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
#include "base/parallel.h"
#include "base/rng.h"
#include "format/gguf.h"
#include "format/safetensors.h"
#include "support/scratch.h"

/* ==== The hand-made file. X(fault, what its message must contain) ==== */

#define FAULT_MAP(X)                                                                                                   \
    X(none, NULL)                                                                                                      \
    X(version_2, NULL)                                                                                                 \
    X(default_alignment, NULL)                                                                                         \
    X(alignment_u64, NULL)                                                                                             \
    X(tensors_in_reverse, NULL)                                                                                        \
    X(gap_between_tensors, NULL)                                                                                       \
    X(no_tensors, NULL)                                                                                                \
    X(empty_file, "byte 0: the magic number")                                                                          \
    X(magic, "does not begin with \"GGUF\"")                                                                           \
    X(version_0, "byte 4: GGUF version 0 ")                                                                            \
    X(version_1, "byte 4: GGUF version 1 ")                                                                            \
    X(version_4, "byte 4: GGUF version 4 ")                                                                            \
    X(big_endian, "big-endian")                                                                                        \
    X(tensor_count_huge, "byte 8: the tensor count 4611686018427387904")                                               \
    X(tensor_count_negative, "byte 8: the tensor count is 18446744073709551615")                                       \
    X(tensor_count_one_more, "byte")                                                                                   \
    X(key_count_huge, "byte 16: the key-value count")                                                                  \
    X(key_count_negative, "byte 16: the key-value count is")                                                           \
    X(key_count_one_less, "byte")                                                                                      \
    X(key_count_one_more, "byte")                                                                                      \
    X(key_empty, "the key of pair 2 is empty")                                                                         \
    X(key_with_nul, "the key of pair 2 contains a NUL")                                                                \
    X(key_too_long, "the key of pair 2 is 70000 bytes long")                                                           \
    X(key_length_beyond, "the key of pair 2 is said to be")                                                            \
    X(key_length_negative, "the key of pair 2 is 18446744073709551")                                                   \
    X(key_twice, "key \"test.u8\" occurs twice")                                                                       \
    X(key_with_escape, "\"test.?[31m\"")                                                                               \
    X(value_type_unknown, "\"test.i8\" is of the unknown type 13")                                                     \
    X(value_type_negative, "\"test.i8\" is of the unknown type 4294967295")                                            \
    X(bool_2, "\"test.bool\" holds a truth value of 2")                                                                \
    X(string_beyond, "\"general.architecture\" is said to be 1099511627776 bytes")                                     \
    X(array_type_unknown, "\"test.scores\" has items of the unknown type 99")                                          \
    X(array_count_beyond, "\"test.scores\" has 100000 items")                                                          \
    X(array_count_overflow, "\"test.scores\" has 4611686018427387905 items")                                           \
    X(array_count_negative, "\"test.scores\" is 18446744073709551615")                                                 \
    X(array_bool_2, "\"test.flags\" holds a truth value of 2")                                                         \
    X(array_string_count_beyond, "\"test.tokens\" has 1073741824 items")                                               \
    X(array_string_beyond, "\"test.tokens\" is said to be")                                                            \
    X(array_nested_deep, "\"test.nested\" nests arrays deeper")                                                        \
    X(array_nested_count, "\"test.nested\" has 9223372036854775807 items")                                             \
    X(alignment_0, "\"general.alignment\" is 0")                                                                       \
    X(alignment_24, "\"general.alignment\" is 24")                                                                     \
    X(alignment_negative, "\"general.alignment\" is -64")                                                              \
    X(alignment_huge, "\"general.alignment\" is 1099511627776")                                                        \
    X(alignment_float, "\"general.alignment\" is no integer")                                                          \
    X(tensor_name_empty, "the name of tensor 1 is empty")                                                              \
    X(tensor_name_with_nul, "the name of tensor 1 contains a NUL")                                                     \
    X(tensor_name_too_long, "the name of tensor 1 is 70000 bytes")                                                     \
    X(tensor_name_beyond, "the name of tensor 1 is said to be")                                                        \
    X(tensor_twice, "tensor \"embed\" occurs twice")                                                                   \
    X(dims_5, "tensor \"rows\" has 5 dimensions")                                                                      \
    X(dims_many, "tensor \"rows\" has 4294967295 dimensions")                                                          \
    X(dim_0, "dimension 1 of tensor \"rows\" is 0")                                                                    \
    X(dim_negative, "the entry of tensor \"rows\" is 18446744073709551615")                                            \
    X(dims_overflow, "the dimensions of tensor \"rows\" overflow")                                                     \
    X(bytes_overflow, "the size of tensor \"embed\" overflows")                                                        \
    X(type_unknown, "tensor \"rows\" is of type 999")                                                                  \
    X(type_unsupported, "tensor \"rows\" is of type 16")                                                               \
    X(type_removed, "tensor \"rows\" is of type 4;")                                                                   \
    X(row_no_block, "rows of tensor \"rows\" have 33 elements, no multiple of the 32 of a Q8_0 block")                 \
    X(scalar_of_blocks, "rows of tensor \"one\" have 1 elements")                                                      \
    X(offset_unaligned, "tensor \"rows\" begin at offset 160, no multiple of the alignment 64")                        \
    X(offset_beyond, "tensor \"rows\" needs 102 bytes at offset 1048576")                                              \
    X(offset_negative, "the entry of tensor \"rows\" is 18446744073709551552")                                         \
    X(offset_largest, "tensor \"rows\" needs 102 bytes at offset 9223372036854775744")                                 \
    X(offset_overlap, "tensors \"embed\" and \"rows\" overlap")                                                        \
    X(offset_same, "overlap")                                                                                          \
    X(data_none, "tensor \"embed\" needs 128 bytes at offset 0 of the data, which have 0")                             \
    X(data_one_byte_less, "tensor \"one\" needs 4 bytes at offset 256 of the data, which have 259")                    \
    X(table_cut, "byte")

enum fault {
#define FAULT_ENUM(name, message) F_##name,
    FAULT_MAP(FAULT_ENUM)
#undef FAULT_ENUM
        FAULTS,
    FIRST_BROKEN = F_empty_file
};
static const struct {
    const char *name, *message;
} faults[] = {
#define FAULT_ROW(name, message) {#name, message},
    FAULT_MAP(FAULT_ROW)
#undef FAULT_ROW
};

enum { T_U8, T_I8, T_U16, T_I16, T_U32, T_I32, T_F32, T_BOOL, T_STRING, T_ARRAY, T_U64, T_I64, T_F64 };

typedef struct buffer {
    uint8_t *data;
    size_t size, room;
} buffer;

static void put(buffer *b, const void *data, size_t size) {
    if (b->size + size > b->room) {
        b->room = (b->size + size) * 2;
        b->data = realloc(b->data, b->room);
        if (b->data == NULL) abort();
    }
    if (size > 0) memcpy(b->data + b->size, data, size);
    b->size += size;
}
static void put_u8(buffer *b, uint8_t v) { put(b, &v, sizeof v); }
static void put_u16(buffer *b, uint16_t v) { put(b, &v, sizeof v); }
static void put_u32(buffer *b, uint32_t v) { put(b, &v, sizeof v); }
static void put_u64(buffer *b, uint64_t v) { put(b, &v, sizeof v); }
static void put_f32(buffer *b, float v) { put(b, &v, sizeof v); }
static void put_f64(buffer *b, double v) { put(b, &v, sizeof v); }
static void put_string_of(buffer *b, const char *text, size_t length) {
    put_u64(b, length);
    put(b, text, length);
}
static void put_string(buffer *b, const char *text) { put_string_of(b, text, strlen(text)); }
static void put_key(buffer *b, const char *key, uint32_t type) {
    put_string(b, key);
    put_u32(b, type);
}
static void put_array(buffer *b, const char *key, uint32_t item_type, uint64_t count) {
    put_key(b, key, T_ARRAY);
    put_u32(b, item_type);
    put_u64(b, count);
}

static void put_long_name(buffer *b) {
    char text[70000];
    memset(text, 'k', sizeof text);
    put_string_of(b, text, sizeof text);
}

/* Pairs 0 and 1 are the architecture and the alignment, pair 2 has the key that the key faults change. */
static void put_values(buffer *b, enum fault f) {
    put_key(b, "general.architecture", T_STRING);
    put_u64(b, f == F_string_beyond ? 1ULL << 40 : 4);
    put(b, "test", 4);

    const char *alignment = f == F_default_alignment ? "general.other" : "general.alignment";
    if (f == F_alignment_u64 || f == F_alignment_huge) {
        put_key(b, alignment, T_U64);
        put_u64(b, f == F_alignment_huge ? 1ULL << 40 : 64);
    } else if (f == F_alignment_float) {
        put_key(b, alignment, T_F32);
        put_f32(b, 64.0F);
    } else if (f == F_alignment_negative) {
        put_key(b, alignment, T_I32);
        put_u32(b, (uint32_t)-64);
    } else {
        put_key(b, alignment, T_U32);
        put_u32(b, f == F_alignment_0 ? 0 : f == F_alignment_24 ? 24 : 64);
    }

    switch (f) {
    case F_key_empty: put_string(b, ""); break;
    case F_key_with_nul: put_string_of(b, "test\0u8", 7); break;
    case F_key_too_long: put_long_name(b); break;
    case F_key_length_beyond: put_u64(b, 1ULL << 40), put(b, "test.u8", 7); break;
    case F_key_length_negative: put_u64(b, (uint64_t)-7), put(b, "test.u8", 7); break;
    case F_key_with_escape: put_string(b, "test.\033[31m"); break;
    default: put_string(b, "test.u8"); break;
    }
    put_u32(b, f == F_key_with_escape ? 77 : T_U8);
    put_u8(b, 200);

    put_key(b, f == F_key_twice ? "test.u8" : "test.i8",
            f == F_value_type_unknown ? 13 : f == F_value_type_negative ? UINT32_MAX : T_I8);
    put_u8(b, (uint8_t)-3);
    put_key(b, "test.u16", T_U16);
    put_u16(b, 65535);
    put_key(b, "test.i16", T_I16);
    put_u16(b, (uint16_t)-32768);
    put_key(b, "test.u32", T_U32);
    put_u32(b, 4000000000U);
    put_key(b, "test.i32", T_I32);
    put_u32(b, (uint32_t)-70000);
    put_key(b, "test.u64", T_U64);
    put_u64(b, 1ULL << 60);
    put_key(b, "test.u64.large", T_U64);
    put_u64(b, UINT64_MAX);
    put_key(b, "test.i64", T_I64);
    put_u64(b, (uint64_t)INT64_MIN);
    put_key(b, "test.f32", T_F32);
    put_f32(b, 0.1F);
    put_key(b, "test.f64", T_F64);
    put_f64(b, 0.1);
    put_key(b, "test.bool", T_BOOL);
    put_u8(b, f == F_bool_2 ? 2 : 1);
    put_key(b, "test.empty", T_STRING);
    put_string(b, "");

    put_array(b, "test.tokens", T_STRING, f == F_array_string_count_beyond ? 1ULL << 30 : 3);
    put_string(b, "hello");
    put_string(b, "");
    put_u64(b, f == F_array_string_beyond ? 1ULL << 40 : 3);
    put(b, "b\0c", 3);

    uint64_t count = f == F_array_count_beyond     ? 100000
                     : f == F_array_count_overflow ? (1ULL << 62) + 1
                     : f == F_array_count_negative ? UINT64_MAX
                                                   : 3;
    put_array(b, "test.scores", f == F_array_type_unknown ? 99 : T_F32, count);
    for (int i = 0; i < 3; i++) put_f32(b, 0.5F * (float)i - 1.0F);
    put_array(b, "test.types", T_I32, 2);
    put_u32(b, 7);
    put_u32(b, (uint32_t)-8);
    put_array(b, "test.flags", T_BOOL, 3);
    put(b, f == F_array_bool_2 ? (uint8_t[]){1, 0, 2} : (uint8_t[]){1, 0, 1}, 3);
    put_array(b, "test.none", T_STRING, 0);

    put_array(b, "test.nested", T_ARRAY, 2);
    if (f == F_array_nested_deep) {
        for (int i = 0; i < 8; i++) put_u32(b, T_ARRAY), put_u64(b, 1);
    }
    put_u32(b, T_STRING);
    put_u64(b, f == F_array_nested_count ? INT64_MAX : 1);
    put_string(b, "inner");
    put_u32(b, T_BOOL);
    put_u64(b, 2);
    put(b, (uint8_t[]){0, 1}, 2);
}
enum { VALUES = 21 };

static void put_embed(buffer *b, enum fault f) {
    put_string(b, "embed");
    put_u32(b, 2);
    put_u64(b, f == F_bytes_overflow ? 1ULL << 31 : 8);
    put_u64(b, f == F_bytes_overflow ? 1ULL << 30 : 4);
    put_u32(b, 0);
    put_u64(b, 0);
}

/* (4, 3, 32) or (3, 32) in PyTorch order; the faults need more dimensions than the healthy file uses. */
static void put_rows(buffer *b, enum fault f) {
    switch (f) {
    case F_tensor_name_empty: put_string(b, ""); break;
    case F_tensor_name_with_nul: put_string_of(b, "row\0", 4); break;
    case F_tensor_name_too_long: put_long_name(b); break;
    case F_tensor_name_beyond: put_u64(b, 1ULL << 40); break;
    case F_tensor_twice: put_string(b, "embed"); break;
    default: put_string(b, "rows"); break;
    }
    put_u32(b, f == F_dims_5 ? 5 : f == F_dims_many ? UINT32_MAX : 2);
    put_u64(b, f == F_row_no_block ? 33 : f == F_dims_overflow ? 1ULL << 32 : 32);
    put_u64(b, f == F_dim_0 ? 0 : f == F_dim_negative ? UINT64_MAX : f == F_dims_overflow ? 1ULL << 31 : 3);
    for (int i = 0; f == F_dims_5 && i < 3; i++) put_u64(b, 1);
    put_u32(b, f == F_type_unknown ? 999 : f == F_type_unsupported ? 16 : f == F_type_removed ? 4 : 8);
    switch (f) {
    case F_offset_unaligned: put_u64(b, 160); break;
    case F_offset_beyond: put_u64(b, 1 << 20); break;
    case F_offset_negative: put_u64(b, (uint64_t)-64); break;
    case F_offset_largest: put_u64(b, INT64_MAX - 63); break;
    case F_offset_overlap: put_u64(b, 64); break;
    case F_offset_same: put_u64(b, 0); break;
    default: put_u64(b, 128); break;
    }
}

static void put_one(buffer *b, enum fault f) {
    put_string(b, "one");
    put_u32(b, 0);
    put_u32(b, f == F_scalar_of_blocks ? 8 : 0);
    put_u64(b, f == F_gap_between_tensors ? 512 : 256);
}

static buffer build(enum fault f) {
    buffer b = {0};
    if (f == F_empty_file) return b;
    put(&b, f == F_magic ? "GGML" : "GGUF", 4);
    put_u32(&b, f == F_version_0    ? 0
                : f == F_version_1  ? 1
                : f == F_version_2  ? 2
                : f == F_version_4  ? 4
                : f == F_big_endian ? 3U << 24
                                    : 3);
    put_u64(&b, f == F_tensor_count_huge       ? 1ULL << 62
                : f == F_tensor_count_negative ? UINT64_MAX
                : f == F_tensor_count_one_more ? 4
                : f == F_no_tensors            ? 0
                                               : 3);
    put_u64(&b, f == F_key_count_huge       ? 1ULL << 62
                : f == F_key_count_negative ? UINT64_MAX
                : f == F_key_count_one_more ? VALUES + 1
                : f == F_key_count_one_less ? VALUES - 1
                                            : VALUES);
    put_values(&b, f);
    if (f == F_no_tensors) return b;
    if (f == F_tensors_in_reverse) {
        put_one(&b, f), put_rows(&b, f), put_embed(&b, f);
    } else {
        put_embed(&b, f), put_rows(&b, f), put_one(&b, f);
    }
    if (f == F_table_cut) b.size -= 9;
    if (f == F_data_none || f == F_table_cut) return b;
    size_t alignment = f == F_default_alignment ? 32 : 64;
    while (b.size % alignment != 0) put_u8(&b, 0);
    for (int i = 0; i < 32; i++) put_f32(&b, (float)i); /* embed */
    for (int row = 0; row < 3; row++) {                 /* rows: 0.5 * (row + 1) * j */
        put_u16(&b, ot_f32_to_f16(0.5F * (float)(row + 1)));
        for (int j = 0; j < 32; j++) put_u8(&b, (uint8_t)(j - 16));
    }
    for (int i = 102; i < (f == F_gap_between_tensors ? 384 : 128); i++) put_u8(&b, 0xEE);
    put_f32(&b, 42.0F); /* one */
    if (f == F_data_one_byte_less) b.size--;
    return b;
}

static ot_status open_bytes(scratch *s, const void *data, size_t size, ot_gguf **g, ot_error *err) {
    const char *path = scratch_path(s, "file.gguf");
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data != NULL ? data : "", 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    return ot_gguf_open(path, g, err);
}

/* ==== Tests. ==== */

static int open_scratch(void **state) {
    static scratch s;
    scratch_open(&s, TEST_BINARY_DIR);
    *state = &s;
    return 0;
}

static int close_scratch(void **state) {
    scratch_close(*state);
    return 0;
}

static void check_values(const ot_gguf *g) {
    static const struct {
        const char *key;
        int64_t value;
    } integers[] = {{"test.u8", 200},          {"test.i8", -3},      {"test.u16", 65535},    {"test.i16", -32768},
                    {"test.u32", 4000000000U}, {"test.i32", -70000}, {"test.u64", 1LL << 60}, {"test.i64", INT64_MIN}};
    int64_t i = 0, length = -1;
    double d = 0.0;
    bool flag = false;
    for (size_t k = 0; k < sizeof integers / sizeof integers[0]; k++) {
        assert_true(ot_gguf_i64(g, integers[k].key, &i));
        assert_true(i == integers[k].value);
        assert_false(ot_gguf_f64(g, integers[k].key, &d));
        assert_null(ot_gguf_str(g, integers[k].key, &length));
        assert_int_equal(ot_gguf_array_count(g, integers[k].key), -1);
    }
    i = 5;
    assert_false(ot_gguf_i64(g, "test.u64.large", &i));
    assert_false(ot_gguf_i64(g, "test.f32", &i));
    assert_false(ot_gguf_i64(g, "test.bool", &i));
    assert_false(ot_gguf_i64(g, "test.tokens", &i));
    assert_false(ot_gguf_i64(g, "absent", &i));
    assert_int_equal(i, 5);
    assert_true(ot_gguf_f64(g, "test.f32", &d));
    assert_true(d == (double)0.1F);
    assert_true(ot_gguf_f64(g, "test.f64", &d));
    assert_true(d == 0.1);
    assert_true(ot_gguf_bool(g, "test.bool", &flag) && flag);
    assert_false(ot_gguf_bool(g, "test.u8", &flag));
    assert_string_equal(ot_gguf_str(g, "general.architecture", &length), "test");
    assert_int_equal(length, 4);
    assert_string_equal(ot_gguf_str(g, "test.empty", &length), "");
    assert_int_equal(length, 0);
    assert_null(ot_gguf_str(g, "test.tokens", &length));

    assert_int_equal(ot_gguf_array_count(g, "test.tokens"), 3);
    assert_memory_equal(ot_gguf_array_str(g, "test.tokens", 0, &length), "hello", 5);
    assert_int_equal(length, 5);
    assert_non_null(ot_gguf_array_str(g, "test.tokens", 1, &length));
    assert_int_equal(length, 0);
    assert_memory_equal(ot_gguf_array_str(g, "test.tokens", 2, &length), "b\0c", 3);
    assert_int_equal(length, 3);
    assert_null(ot_gguf_array_str(g, "test.tokens", 3, &length));
    assert_null(ot_gguf_array_str(g, "test.tokens", -1, &length));
    assert_null(ot_gguf_array_str(g, "test.scores", 0, &length));
    assert_false(ot_gguf_array_i64(g, "test.tokens", 0, &i));
    for (int64_t k = 0; k < 3; k++) {
        assert_true(ot_gguf_array_f64(g, "test.scores", k, &d));
        assert_true(d == 0.5 * (double)k - 1.0);
    }
    assert_false(ot_gguf_array_f64(g, "test.scores", 3, &d));
    assert_false(ot_gguf_array_f64(g, "test.types", 0, &d));
    assert_true(ot_gguf_array_i64(g, "test.types", 1, &i));
    assert_int_equal(i, -8);
    assert_false(ot_gguf_array_i64(g, "test.types", 2, &i));
    assert_int_equal(ot_gguf_array_count(g, "test.none"), 0);
    assert_null(ot_gguf_array_str(g, "test.none", 0, &length));
    assert_int_equal(ot_gguf_array_count(g, "test.nested"), 2);
    assert_null(ot_gguf_array_str(g, "test.nested", 0, &length));
    assert_false(ot_gguf_array_i64(g, "test.nested", 0, &i));
}

static void check_tensors(const ot_gguf *g) {
    float values[96];
    assert_int_equal(ot_gguf_tensor_count(g), 3);
    const ot_tensor *t = ot_gguf_find(g, "embed");
    assert_non_null(t);
    assert_int_equal(t->dtype, OT_F32);
    assert_int_equal(t->n_dims, 2);
    assert_int_equal(t->shape[0], 4); /* slowest first */
    assert_int_equal(t->shape[1], 8);
    assert_int_equal(t->bytes, 128);
    ot_decode_f32(t->dtype, t->data, values, 32);
    for (int i = 0; i < 32; i++) assert_true(values[i] == (float)i);
    t = ot_gguf_find(g, "rows");
    assert_non_null(t);
    assert_int_equal(t->dtype, OT_Q8_0);
    assert_int_equal(t->bytes, 102);
    assert_int_equal(t->shape[0], 3);
    ot_decode_f32(t->dtype, t->data, values, 96);
    for (int i = 0; i < 96; i++) assert_true(values[i] == 0.5F * (float)(i / 32 + 1) * (float)(i % 32 - 16));
    t = ot_gguf_find(g, "one");
    assert_non_null(t);
    assert_int_equal(t->n_dims, 0);
    ot_decode_f32(t->dtype, t->data, values, 1);
    assert_true(values[0] == 42.0F);
    assert_null(ot_gguf_find(g, "two"));
    assert_null(ot_gguf_find(g, ""));
    assert_null(ot_gguf_tensor_at(g, 3));
    assert_null(ot_gguf_tensor_at(g, -1));
    for (int64_t i = 0; i < 3; i++) assert_ptr_equal(ot_gguf_find(g, ot_gguf_tensor_at(g, i)->name), ot_gguf_tensor_at(g, i));
}

static void healthy_files_load(void **state) {
    for (int f = 0; f < FIRST_BROKEN; f++) {
        buffer b = build((enum fault)f);
        ot_gguf *g = NULL;
        ot_error err = {0};
        if (open_bytes(*state, b.data, b.size, &g, &err) != OT_OK) fail_msg("%s: %s", faults[f].name, err.message);
        assert_true(ot_gguf_is(ot_gguf_path(g)));
        check_values(g);
        if (f == F_no_tensors) assert_int_equal(ot_gguf_tensor_count(g), 0);
        else check_tensors(g);
        ot_gguf_close(g);
        free(b.data);
    }
    ot_gguf_close(NULL);
}

static void broken_files_are_refused(void **state) {
    assert_true(FAULTS - FIRST_BROKEN >= 50);
    for (int f = FIRST_BROKEN; f < FAULTS; f++) {
        buffer b = build((enum fault)f);
        ot_gguf *g = NULL;
        ot_error err = {0};
        ot_status status = open_bytes(*state, b.data, b.size, &g, &err);
        if (status == OT_OK || g != NULL) fail_msg("%s was accepted", faults[f].name);
        if (status != OT_ERR_FORMAT && status != OT_ERR_UNSUPPORTED) fail_msg("%s: status %d", faults[f].name, status);
        assert_int_equal(err.code, status);
        if (strstr(err.message, faults[f].message) == NULL || strstr(err.message, "file.gguf: byte ") == NULL) {
            fail_msg("%s: \"%s\" lacks \"%s\"", faults[f].name, err.message, faults[f].message);
        }
        assert_true(err.position >= 0 && err.position <= (int64_t)b.size);
        assert_int_equal(open_bytes(*state, b.data, b.size, &g, NULL), status); /* without an error to fill */
        free(b.data);
    }
    ot_error err = {0};
    ot_gguf *g = NULL;
    assert_int_equal(ot_gguf_open(scratch_path(*state, "absent.gguf"), &g, &err), OT_ERR_IO);
    assert_non_null(strstr(err.message, "absent.gguf"));
    assert_false(ot_gguf_is(scratch_path(*state, "absent.gguf")));
    assert_int_equal(ot_gguf_open(TEST_BINARY_DIR, &g, &err), OT_ERR_IO);
}

static void committed_corpus_is_current(void **state) {
    (void)state;
    for (int f = 0; f < FAULTS; f++) {
        buffer b = build((enum fault)f);
        char path[512], *text = NULL;
        int64_t size = -1;
        ot_error err = {0};
        snprintf(path, sizeof path, "%s/bad/gguf/%s.gguf", TEST_DATA_DIR, faults[f].name);
        if (ot_read_file(path, 1 << 20, &text, &size, &err) != OT_OK) fail_msg("%s (write it with --write)", err.message);
        assert_int_equal(size, (int64_t)b.size);
        if (size > 0) assert_memory_equal(text, b.data, b.size);
        ot_free(text);
        free(b.data);
    }
}

/* Cut anywhere, the file is refused; changed anywhere, it is refused or read, and whatever it gives can be used. */
static void cut_or_damaged_anywhere(void **state) {
    buffer b = build(F_none);
    for (size_t size = 0; size < b.size; size++) {
        ot_gguf *g = NULL;
        ot_error err = {0};
        if (open_bytes(*state, b.data, size, &g, &err) == OT_OK) fail_msg("accepted when cut to %zu bytes", size);
    }
    ot_rng rng;
    ot_rng_seed(&rng, 11);
    int accepted = 0, refused = 0;
    for (size_t at = 0; at < b.size; at++) {
        uint8_t kept = b.data[at];
        b.data[at] ^= (uint8_t)(1U << ot_rng_below(&rng, 8));
        ot_gguf *g = NULL;
        ot_error err = {0};
        if (open_bytes(*state, b.data, b.size, &g, &err) != OT_OK) {
            refused++;
        } else {
            accepted++;
            for (int64_t i = 0; i < ot_gguf_tensor_count(g); i++) {
                const ot_tensor *t = ot_gguf_tensor_at(g, i);
                float values[256];
                if (ot_tensor_elements(t) <= 256) ot_decode_f32(t->dtype, t->data, values, ot_tensor_elements(t));
            }
            ot_gguf_close(g);
        }
        b.data[at] = kept;
    }
    assert_true(accepted > 300 && refused > 100);
    free(b.data);
}

static void large_vocabulary_opens_quickly(void **state) {
    enum { TOKENS = 100000 };
    buffer b = {0};
    put(&b, "GGUF", 4);
    put_u32(&b, 3);
    put_u64(&b, 0);
    put_u64(&b, 3);
    put_array(&b, "tokens", T_STRING, TOKENS);
    for (int i = 0; i < TOKENS; i++) {
        char text[32];
        int n = snprintf(text, sizeof text, "token-%d", i);
        put_string_of(&b, text, (size_t)n);
    }
    put_array(&b, "scores", T_F32, TOKENS);
    for (int i = 0; i < TOKENS; i++) put_f32(&b, (float)i);
    put_array(&b, "types", T_I32, TOKENS);
    for (int i = 0; i < TOKENS; i++) put_u32(&b, 1);
    ot_gguf *g = NULL;
    ot_error err = {0};
    assert_int_equal(open_bytes(*state, b.data, b.size, &g, &err), OT_OK);
    ot_gguf_close(g);
    double start = ot_seconds();
    assert_int_equal(ot_gguf_open(scratch_path(*state, "file.gguf"), &g, &err), OT_OK);
    double opened = ot_seconds() - start;
    for (int i = 0; i < TOKENS; i++) {
        char text[32];
        int64_t length = 0;
        int n = snprintf(text, sizeof text, "token-%d", i);
        const char *token = ot_gguf_array_str(g, "tokens", i, &length);
        assert_true(token != NULL && length == n && memcmp(token, text, (size_t)n) == 0);
    }
    print_message("a vocabulary of %d opened in %.2f ms\n", TOKENS, opened * 1e3);
    assert_true(opened < 0.5);
    ot_gguf_close(g);
    free(b.data);
}

/* Many keys and tensors: lookups find each of them, and the order of the file is kept. */
static void many_names(void **state) {
    enum { MANY = 5000 };
    buffer b = {0};
    put(&b, "GGUF", 4);
    put_u32(&b, 3);
    put_u64(&b, MANY);
    put_u64(&b, MANY);
    char text[32];
    for (uint32_t i = 0; i < MANY; i++) {
        snprintf(text, sizeof text, "key.%u", i * 7919 % MANY);
        put_key(&b, text, T_U32);
        put_u32(&b, i);
    }
    for (uint32_t i = 0; i < MANY; i++) {
        snprintf(text, sizeof text, "tensor.%u", i * 7919 % MANY);
        put_string(&b, text);
        put_u32(&b, 1);
        put_u64(&b, 1);
        put_u32(&b, 0);
        put_u64(&b, 32 * (uint64_t)i);
    }
    while (b.size % 32 != 0) put_u8(&b, 0);
    for (uint32_t i = 0; i < 8 * MANY; i++) put_f32(&b, (float)(i / 8));
    ot_gguf *g = NULL;
    ot_error err = {0};
    if (open_bytes(*state, b.data, b.size, &g, &err) != OT_OK) fail_msg("%s", err.message);
    for (uint32_t i = 0; i < MANY; i++) {
        int64_t value = -1;
        float first = -1.0F;
        snprintf(text, sizeof text, "key.%u", i * 7919 % MANY);
        assert_true(ot_gguf_i64(g, text, &value));
        assert_int_equal(value, i);
        snprintf(text, sizeof text, "tensor.%u", i * 7919 % MANY);
        const ot_tensor *t = ot_gguf_find(g, text);
        assert_ptr_equal(t, ot_gguf_tensor_at(g, i));
        ot_decode_f32(t->dtype, t->data, &first, 1);
        assert_true(first == (float)i);
    }
    ot_gguf_close(g);
    free(b.data);
}

static void row_permutation(void **state) {
    (void)state;
    static const int64_t want[16] = {0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15};
    for (int64_t r = 0; r < 16; r++) assert_int_equal(ot_gguf_row_permutation(r, 8), want[r]);
}

/* ==== Golden files. ==== */

static const char *golden_path(const char *name, char path[512]) {
    snprintf(path, 512, "%s/golden/gguf/%s", TEST_SHARED_DIR, name);
    if (!ot_path_exists(path)) {
        print_message("skipped: there is no %s\n", path);
        skip();
    }
    return path;
}

static float *decoded(const ot_tensor *t) {
    float *values = malloc((size_t)ot_tensor_elements(t) * sizeof *values);
    assert_non_null(values);
    ot_decode_f32(t->dtype, t->data, values, ot_tensor_elements(t));
    return values;
}

static void golden_metadata(void **state) {
    (void)state;
    char path[512];
    ot_gguf *g = NULL;
    ot_error err = {0};
    if (ot_gguf_open(golden_path("q4_0.gguf", path), &g, &err) != OT_OK) fail_msg("%s", err.message);
    int64_t i = 0, length = 0;
    double d = 0.0;
    bool flag = false;
    assert_string_equal(ot_gguf_str(g, "general.architecture", &length), "llama");
    assert_true(ot_gguf_i64(g, "llama.context_length", &i) && i == 64);
    assert_true(ot_gguf_i64(g, "llama.attention.head_count_kv", &i) && i == 2);
    assert_true(ot_gguf_f64(g, "llama.attention.layer_norm_rms_epsilon", &d) && d == (double)1e-5F);
    assert_true(ot_gguf_bool(g, "tokenizer.ggml.add_space_prefix", &flag) && flag);
    assert_int_equal(ot_gguf_array_count(g, "tokenizer.ggml.tokens"), 512);
    assert_memory_equal(ot_gguf_array_str(g, "tokenizer.ggml.tokens", 1, &length), "<s>", 3);
    assert_true(ot_gguf_array_f64(g, "tokenizer.ggml.scores", 511, &d));
    assert_true(ot_gguf_array_i64(g, "tokenizer.ggml.token_type", 1, &i) && i == 3);
    const ot_tensor *t = ot_gguf_find(g, "blk.0.ffn_down.weight");
    assert_non_null(t);
    assert_true(t->n_dims == 2 && t->shape[0] == 32 && t->shape[1] == 96);
    ot_gguf_close(g);
}

/* Decoded tensors equal the golden ones, and encoding the f32 file's values gives the other files' very bytes. */
static void golden_tensors(void **state) {
    (void)state;
    static const char *const names[] = {"f16", "q8_0", "q4_0", "q4_1"};
    char path[512], name[256];
    ot_error err = {0};
    ot_gguf *source = NULL;
    if (ot_gguf_open(golden_path("f32.gguf", path), &source, &err) != OT_OK) fail_msg("%s", err.message);
    for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
        ot_gguf *g = NULL;
        ot_safetensors *st = NULL;
        snprintf(name, sizeof name, "%s.gguf", names[k]);
        if (ot_gguf_open(golden_path(name, path), &g, &err) != OT_OK) fail_msg("%s", err.message);
        snprintf(name, sizeof name, "%s.safetensors", names[k]);
        if (ot_safetensors_open(golden_path(name, path), &st, &err) != OT_OK) fail_msg("%s", err.message);
        int compared = 0, encoded = 0;
        for (int64_t i = 0; i < ot_gguf_tensor_count(g); i++) {
            const ot_tensor *t = ot_gguf_tensor_at(g, i), *wide = ot_gguf_find(source, t->name);
            snprintf(name, sizeof name, "tensor.%s", t->name);
            const ot_tensor *want = ot_safetensors_find(st, name);
            float *got = decoded(t);
            if (want != NULL) {
                assert_int_equal(want->n_dims, t->n_dims);
                for (int32_t n = 0; n < t->n_dims; n++) assert_int_equal(want->shape[n], t->shape[n]);
                assert_memory_equal(got, want->data, (size_t)want->bytes);
                compared++;
            }
            free(got);
            assert_non_null(wide);
            if (t->dtype != OT_F32) {
                uint8_t *bytes = malloc((size_t)t->bytes);
                float *values = decoded(wide);
                assert_non_null(bytes);
                assert_true(ot_encode_f32(t->dtype, values, bytes, ot_tensor_elements(t)));
                assert_memory_equal(bytes, t->data, (size_t)t->bytes);
                encoded++;
                free(values);
                free(bytes);
            }
        }
        assert_int_equal(encoded, 22); /* 7 matrices in each of 3 blocks, and the embedding */
        assert_int_equal(compared, k == 0 ? 0 : 29);
        ot_safetensors_close(st);
        ot_gguf_close(g);
    }
    ot_gguf_close(source);
}

static int write_corpus(const char *dir) {
    for (int f = 0; f < FAULTS; f++) {
        buffer b = build((enum fault)f);
        char path[1024];
        ot_error err = {0};
        snprintf(path, sizeof path, "%s/%s.gguf", dir, faults[f].name);
        if (ot_write_file(path, b.data, (int64_t)b.size, &err) != OT_OK) {
            fprintf(stderr, "test_gguf: %s\n", err.message);
            return 1;
        }
        free(b.data);
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--write") == 0) return write_corpus(argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(healthy_files_load),
        cmocka_unit_test(broken_files_are_refused),
        cmocka_unit_test(committed_corpus_is_current),
        cmocka_unit_test(cut_or_damaged_anywhere),
        cmocka_unit_test(large_vocabulary_opens_quickly),
        cmocka_unit_test(many_names),
        cmocka_unit_test(row_permutation),
        cmocka_unit_test(golden_metadata),
        cmocka_unit_test(golden_tensors),
    };
    return cmocka_run_group_tests(tests, open_scratch, close_scratch);
}
