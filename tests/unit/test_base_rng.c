/* Random numbers: the published generators' own values, and distributions whose bounds hold for the fixed seeds used here. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"

static void gives_the_published_streams(void **state) {
    (void)state;
    /* splitmix64 from 0. */
    static const uint64_t split[] = {0xE220A8397B1DCDAFULL, 0x6E789E6AA1B965F4ULL, 0x06C45D188009454FULL, 0xF88BB8A8724C81ECULL};
    ot_rng rng;
    ot_rng_seed(&rng, 0);
    for (int i = 0; i < 4; i++) {
        assert_true(ot_rng_hash(0, (uint64_t)i) == split[i]);
        assert_true(rng.s[i] == split[i]);
    }
    /* xoshiro256** from that state. */
    static const uint64_t xoshiro[] = {0x99EC5F36CB75F2B4ULL, 0xBF6E1F784956452AULL, 0x1A5F849D4933E6E0ULL, 0x6AA594F1262D2D2CULL};
    for (size_t i = 0; i < sizeof xoshiro / sizeof *xoshiro; i++) assert_true(ot_rng_u64(&rng) == xoshiro[i]);
}

static void copies_and_seeds_repeat(void **state) {
    (void)state;
    ot_rng a, b;
    ot_rng_seed(&a, 5);
    for (int i = 0; i < 10; i++) ot_rng_u64(&a);
    b = a;
    for (int i = 0; i < 10; i++) assert_true(ot_rng_u64(&a) == ot_rng_u64(&b));
    ot_rng_seed(&a, 5);
    ot_rng_seed(&b, 6);
    assert_true(ot_rng_u64(&a) != ot_rng_u64(&b));
}

static void below_is_in_range_and_even(void **state) {
    (void)state;
    ot_rng rng;
    ot_rng_seed(&rng, 1);
    int64_t hits[7] = {0};
    for (int i = 0; i < 70000; i++) {
        uint64_t x = ot_rng_below(&rng, 7);
        assert_true(x < 7);
        hits[x]++;
    }
    /* 5 standard deviations of a binomial count. */
    for (int i = 0; i < 7; i++) assert_true(fabs((double)hits[i] - 10000) < 5 * sqrt(70000.0 / 7 * 6 / 7));
    for (int i = 0; i < 1000; i++) {
        assert_true(ot_rng_below(&rng, 1) == 0);
        assert_true(ot_rng_below(&rng, (1ULL << 63) + 1) <= 1ULL << 63);
    }
}

static void uniform_and_normal_have_their_moments(void **state) {
    (void)state;
    enum { N = 200000 };
    ot_rng rng;
    ot_rng_seed(&rng, 2);
    double sum = 0, squares = 0, normal = 0, normal2 = 0, normal4 = 0;
    for (int i = 0; i < N; i++) {
        double u = ot_rng_uniform(&rng), z = ot_rng_normal(&rng);
        assert_true(u >= 0 && u < 1);
        sum += u;
        squares += u * u;
        normal += z;
        normal2 += z * z;
        normal4 += z * z * z * z;
    }
    assert_true(fabs(sum / N - 0.5) < 5 * sqrt(1.0 / 12 / N));
    assert_true(fabs(squares / N - 1.0 / 3) < 5 * sqrt(4.0 / 45 / N));
    assert_true(fabs(normal / N) < 5 * sqrt(1.0 / N));
    assert_true(fabs(normal2 / N - 1) < 5 * sqrt(2.0 / N));
    assert_true(fabs(normal4 / N - 3) < 5 * sqrt(96.0 / N));
}

static void permutations_hold_each_index_once(void **state) {
    (void)state;
    ot_rng rng;
    ot_rng_seed(&rng, 3);
    int64_t order[100], first[5] = {0};
    for (int round = 0; round < 5000; round++) {
        int seen[100] = {0};
        ot_rng_permutation(&rng, order, 100);
        for (int i = 0; i < 100; i++) {
            assert_true(order[i] >= 0 && order[i] < 100);
            assert_int_equal(seen[order[i]]++, 0);
        }
        ot_rng_permutation(&rng, order, 5);
        first[order[0]]++;
    }
    for (int i = 0; i < 5; i++) assert_true(fabs((double)first[i] - 1000) < 5 * sqrt(5000.0 / 5 * 4 / 5));
    ot_rng_permutation(&rng, order, 0);
    ot_rng_permutation(&rng, order, 1);
    assert_int_equal(order[0], 0);
}

static void hashes_of_neighbours_differ_in_half_their_bits(void **state) {
    (void)state;
    int64_t bits = 0;
    for (uint64_t i = 0; i < 10000; i++) bits += __builtin_popcountll(ot_rng_hash(9, i) ^ ot_rng_hash(9, i + 1));
    assert_true(fabs((double)bits / 10000 - 32) < 0.2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_the_published_streams),           cmocka_unit_test(copies_and_seeds_repeat),
        cmocka_unit_test(below_is_in_range_and_even),            cmocka_unit_test(uniform_and_normal_have_their_moments),
        cmocka_unit_test(permutations_hold_each_index_once),     cmocka_unit_test(hashes_of_neighbours_differ_in_half_their_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
