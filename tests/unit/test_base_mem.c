/* Checked sizes, allocation and arenas. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

static void sizes_are_checked(void **state) {
    (void)state;
    int64_t r = 7;
    assert_true(ot_mul_i64(1LL << 31, 1LL << 31, &r) && r == 1LL << 62);
    r = 7;
    assert_false(ot_mul_i64(1LL << 32, 1LL << 31, &r));
    assert_false(ot_add_i64(INT64_MAX, 1, &r));
    assert_false(ot_add_i64(INT64_MIN, -1, &r));
    assert_int_equal(r, 7);
    assert_int_equal(ot_round_up(0, 64), 0);
    assert_int_equal(ot_round_up(1, 64), 64);
    assert_int_equal(ot_round_up(64, 64), 64);
}

static void allocations_are_aligned_and_zeroed(void **state) {
    (void)state;
    ot_error err = {0};
    for (int64_t n = 1; n < 300; n += 7) {
        void *p = NULL;
        assert_int_equal(ot_calloc(n, 3, "test", &p, &err), OT_OK);
        assert_int_equal((uintptr_t)p % OT_ALIGN, 0);
        for (int64_t i = 0; i < n * 3; i++) assert_int_equal(((char *)p)[i], 0);
        memset(p, 0xFF, (size_t)n * 3);
        ot_free(p);
    }
    void *p = &err;
    assert_int_equal(ot_malloc(0, 8, "nothing", &p, &err), OT_OK);
    assert_null(p);
    ot_free(NULL);
}

static void impossible_sizes_are_refused(void **state) {
    (void)state;
    ot_error err = {0};
    void *p = NULL;
    assert_int_equal(ot_malloc(INT64_MAX, 2, "a hostile shape", &p, &err), OT_ERR_MEMORY);
    assert_non_null(strstr(err.message, "a hostile shape"));
    assert_int_equal(ot_malloc(-1, 2, "a hostile shape", &p, &err), OT_ERR_MEMORY);
    assert_int_equal(ot_malloc(INT64_MAX, 1, "a hostile shape", &p, &err), OT_ERR_MEMORY);
    assert_null(p);
    ot_arena arena = {0};
    assert_null(ot_arena_alloc(&arena, -1, &err));
    assert_null(ot_arena_alloc(&arena, INT64_MAX, &err));
    assert_int_equal(err.code, OT_ERR_MEMORY);
    int64_t capacity = 0;
    assert_int_equal(ot_grow(&p, &capacity, INT64_MAX, 1, "a list", &err), OT_ERR_MEMORY);
    assert_int_equal(ot_grow(&p, &capacity, 1LL << 61, 16, "a list", &err), OT_ERR_MEMORY);
    assert_int_equal(capacity, 0);
    assert_null(p);
}

static void arrays_grow_and_keep_their_values(void **state) {
    (void)state;
    ot_error err = {0};
    void *list = NULL;
    int64_t capacity = 0, moves = 0;
    for (int64_t i = 0; i < 100000; i++) {
        int64_t before = capacity;
        assert_int_equal(ot_grow(&list, &capacity, i + 1, sizeof(int64_t), "a list", &err), OT_OK);
        moves += capacity != before;
        ((int64_t *)list)[i] = i * i;
    }
    assert_true(moves < 20);
    for (int64_t i = 0; i < 100000; i++) assert_int_equal(((int64_t *)list)[i], i * i);
    ot_free(list);
}

static void arenas_hand_out_separate_zeroed_pieces(void **state) {
    (void)state;
    enum { COUNT = 5000 };
    static unsigned char *pieces[COUNT];
    ot_arena arena = {0};
    ot_error err = {0};
    for (int i = 0; i < COUNT; i++) {
        int64_t bytes = i % 97 == 0 ? 100000 : i % 41;
        pieces[i] = ot_arena_alloc(&arena, bytes, &err);
        assert_non_null(pieces[i]);
        assert_int_equal((uintptr_t)pieces[i] % 16, 0);
        for (int64_t k = 0; k < bytes; k++) {
            if (pieces[i][k] != 0) fail_msg("byte %lld of piece %d is not zero", (long long)k, i);
        }
        memset(pieces[i], i & 0xFF, (size_t)bytes);
    }
    for (int i = 0; i < COUNT; i++) {
        int64_t bytes = i % 97 == 0 ? 100000 : i % 41;
        for (int64_t k = 0; k < bytes; k++) {
            if (pieces[i][k] != (i & 0xFF)) fail_msg("piece %d was overwritten", i);
        }
    }
    assert_true(arena.bytes >= 52 * 100000);
    const char *text = ot_arena_strndup(&arena, "abcdef", 3, &err), *all = ot_arena_strdup(&arena, "abcdef", &err);
    assert_string_equal(text, "abc");
    assert_string_equal(all, "abcdef");
    ot_arena_free(&arena);
    assert_null(arena.head);
    assert_int_equal(arena.bytes, 0);
    ot_arena_free(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_checked),
        cmocka_unit_test(allocations_are_aligned_and_zeroed),
        cmocka_unit_test(impossible_sizes_are_refused),
        cmocka_unit_test(arrays_grow_and_keep_their_values),
        cmocka_unit_test(arenas_hand_out_separate_zeroed_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
