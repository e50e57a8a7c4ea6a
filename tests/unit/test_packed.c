/* Packed matrices: layout, ranges, and how close they come. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "tensor/blocks.h"
#include "tensor/packed.h"

/* By hand: one row of five, groups of three... the smallest group of the format is 8, the functions take any. */
static void test_layout(void **state) {
    (void)state;
    const float w[5] = {-8.0F, 7.0F, 0.4F, 1.0F, -4.0F};
    uint8_t codes[3];
    ot_bf16 scales[2];
    ot_packed_encode(OT_INT4G, w, 3, 1, 5, codes, scales);
    assert_true(fabsf(ot_bf16_to_f32(scales[0]) - 1.0F) < 0.1F);
    float back[5];
    ot_packed_decode_all(OT_INT4G, codes, scales, 3, 1, 5, back);
    for (int i = 0; i < 5; i++) {
        int nibble = i % 2 == 0 ? codes[i / 2] & 15 : codes[i / 2] >> 4;
        assert_true(back[i] == (float)(nibble - 8) * ot_bf16_to_f32(scales[i / 3]));
        assert_true(fabsf(back[i] - w[i]) <= 0.6F);
    }
    assert_int_equal(codes[2] >> 4, 0); /* nothing lies there */
    int8_t bytes[5];
    ot_packed_encode(OT_INT8G, w, 3, 1, 5, bytes, scales);
    ot_packed_decode_all(OT_INT8G, bytes, scales, 3, 1, 5, back);
    for (int i = 0; i < 5; i++) {
        assert_true(back[i] == (float)bytes[i] * ot_bf16_to_f32(scales[i / 3]));
        assert_true(fabsf(back[i] - w[i]) <= 0.04F);
    }
    assert_int_equal(ot_packed_row_bytes(OT_INT4G, 5), 3);
    assert_int_equal(ot_packed_row_bytes(OT_INT8G, 5), 5);
    assert_int_equal(ot_packed_row_groups(5, 3), 2);
}

/* Every part of a row is the same part of the whole row. */
static void test_parts(void **state) {
    (void)state;
    enum { COLS = 77 };
    float w[COLS], whole[COLS], part[COLS + 1];
    ot_rng rng;
    ot_rng_seed(&rng, 3);
    for (int i = 0; i < COLS; i++) w[i] = (float)ot_rng_normal(&rng);
    for (int four = 0; four < 2; four++) {
        ot_dtype dtype = four ? OT_INT4G : OT_INT8G;
        for (int64_t group = 8; group <= 80; group += 9) {
            uint8_t *codes = malloc((size_t)ot_packed_row_bytes(dtype, COLS)), scales[2 * COLS + 1];
            ot_packed_encode(dtype, w, group, 1, COLS, codes, scales + 1);
            ot_packed_decode_all(dtype, codes, scales + 1, group, 1, COLS, whole);
            for (int64_t first = 0; first < COLS; first += 5) {
                for (int64_t n = 0; first + n <= COLS; n += 7) {
                    part[n] = -5.0F;
                    ot_packed_decode(dtype, codes, scales + 1, group, first, n, part);
                    assert_memory_equal(part, whole + first, (size_t)n * sizeof *part);
                    assert_true(part[n] == -5.0F);
                }
            }
            free(codes);
        }
    }
}

static void test_kernels_agree(void **state) {
    (void)state;
    uint8_t codes[200];
    float want[200], got[200];
    ot_rng rng;
    ot_rng_seed(&rng, 4);
    for (int i = 0; i < 200; i++) codes[i] = (uint8_t)ot_rng_u64(&rng);
    for (int set = 0; ot_row_kernels_at(set) != NULL; set++) {
        for (int64_t n = 0; n <= 200; n += 13) {
            ot_row_kernels_at(0)->scaled_int8(codes, 0.37F, want, n);
            ot_row_kernels_at(set)->scaled_int8(codes, 0.37F, got, n);
            assert_memory_equal(want, got, (size_t)n * sizeof *got);
            ot_row_kernels_at(0)->scaled_int4(codes, -0.37F, want, n);
            ot_row_kernels_at(set)->scaled_int4(codes, -0.37F, got, n);
            assert_memory_equal(want, got, (size_t)n * sizeof *got);
        }
    }
}

/* A normal row: int8 within a two-hundredth, int4 within an eighth of the deviation, root mean square; zeros and constants survive. */
static void test_closeness(void **state) {
    (void)state;
    enum { N = 4096 };
    static float w[N], back[N];
    static uint8_t codes[N];
    static ot_bf16 scales[N];
    ot_rng rng;
    ot_rng_seed(&rng, 9);
    for (int i = 0; i < N; i++) w[i] = (float)ot_rng_normal(&rng);
    for (int four = 0; four < 2; four++) {
        ot_dtype dtype = four ? OT_INT4G : OT_INT8G;
        double sum = 0;
        ot_packed_encode(dtype, w, 64, 4, N / 4, codes, scales);
        ot_packed_decode_all(dtype, codes, scales, 64, 4, N / 4, back);
        for (int i = 0; i < N; i++) sum += (double)(back[i] - w[i]) * (double)(back[i] - w[i]);
        assert_true(sqrt(sum / N) < (four ? 0.125 : 0.008));
        memset(back, 1, sizeof back);
        const float zeros[16] = {0};
        ot_packed_encode(dtype, zeros, 8, 2, 8, codes, scales);
        ot_packed_decode_all(dtype, codes, scales, 8, 2, 8, back);
        for (int i = 0; i < 16; i++) assert_true(back[i] == 0.0F);
        const float same[8] = {-1.5F, -1.5F, -1.5F, -1.5F, -1.5F, -1.5F, -1.5F, -1.5F};
        ot_packed_encode(dtype, same, 8, 1, 8, codes, scales);
        ot_packed_decode_all(dtype, codes, scales, 8, 1, 8, back);
        for (int i = 0; i < 8; i++) assert_true(fabsf(back[i] + 1.5F) < 0.02F);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_kernels_agree),
        cmocka_unit_test(test_closeness),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
