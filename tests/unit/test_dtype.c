/* Element types: the table, exact 16-bit conversions against definitions written differently, every row kernel of every
 * instruction set against the others, and block codecs against the golden values. */
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
#include "base/rng.h"
#include "format/gguf.h"
#include "format/safetensors.h"
#include "tensor/blocks.h"
#include "tensor/dtype.h"

static uint32_t bits_of(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float float_of(uint32_t u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static bool same(float a, float b) { return bits_of(a) == bits_of(b) || (isnan(a) && isnan(b)); }

static void names_and_sizes(void **state) {
    (void)state;
    ot_dtype d = OT_F32;
    for (int i = 0; i < OT_DTYPE_COUNT; i++) {
        const ot_dtype_traits *t = ot_dtype_info((ot_dtype)i);
        if (t->safetensors_name != NULL) {
            assert_true(ot_dtype_from_safetensors(t->safetensors_name, &d));
            assert_int_equal(d, i);
        }
        if (t->gguf_type >= 0) {
            assert_true(ot_dtype_from_gguf(t->gguf_type, &d));
            assert_int_equal(d, i);
        }
        int64_t bytes = -1;
        assert_true(ot_dtype_bytes((ot_dtype)i, 3 * t->block_elements, &bytes));
        assert_int_equal(bytes, 3 * t->block_bytes);
        assert_true(ot_dtype_bytes((ot_dtype)i, 0, &bytes));
        assert_int_equal(bytes, 0);
        assert_false(ot_dtype_bytes((ot_dtype)i, -t->block_elements, &bytes));
        if (t->block_elements > 1) assert_false(ot_dtype_bytes((ot_dtype)i, 3 * t->block_elements - 1, &bytes));
        assert_int_equal(ot_dtype_is_quantised((ot_dtype)i), i >= OT_Q4_0 && i <= OT_Q6_K);
        assert_int_equal(ot_dtype_is_packed((ot_dtype)i), i > OT_Q6_K);
        assert_int_equal(ot_dtype_is_float((ot_dtype)i), i == OT_F32 || i == OT_F64 || i == OT_F16 || i == OT_BF16);
    }
    int64_t bytes = 7;
    assert_false(ot_dtype_bytes(OT_F64, INT64_MAX / 4, &bytes));
    assert_int_equal(bytes, 7);
    assert_false(ot_dtype_from_safetensors("F8_E4M3", &d));
    assert_false(ot_dtype_from_safetensors("f32", &d));
    assert_false(ot_dtype_from_gguf(-1, &d));
    assert_false(ot_dtype_from_gguf(4, &d));
    assert_false(ot_dtype_from_gguf(16, &d));
    static const struct {
        const char *name;
        ot_dtype dtype;
    } users[] = {{"f32", OT_F32},       {"Float32", OT_F32}, {"BF16", OT_BF16},
                 {"bfloat16", OT_BF16}, {"f16", OT_F16},     {"float16", OT_F16}};
    for (size_t i = 0; i < sizeof users / sizeof users[0]; i++) {
        assert_true(ot_dtype_from_user(users[i].name, &d));
        assert_int_equal(d, users[i].dtype);
    }
    assert_false(ot_dtype_from_user("f8", &d));
    assert_false(ot_dtype_from_user("", &d));
}

static void shapes(void **state) {
    (void)state;
    char text[64];
    assert_string_equal(ot_shape_text((int64_t[]){2, 3}, 2, text, sizeof text), "[2, 3]");
    assert_string_equal(ot_shape_text((int64_t[]){7}, 1, text, sizeof text), "[7]");
    assert_string_equal(ot_shape_text(NULL, 0, text, sizeof text), "[]");
    memset(text, 'x', sizeof text);
    assert_string_equal(ot_shape_text((int64_t[]){12345, 67890}, 2, text, 8), "[12345,");
    assert_int_equal(text[8], 'x');
    ot_tensor t = {.n_dims = 3, .shape = {2, 3, 5}};
    assert_int_equal(ot_tensor_elements(&t), 30);
    t.n_dims = 0;
    assert_int_equal(ot_tensor_elements(&t), 1);
}

/* The value of a half, by its definition. */
static double half_value(uint16_t h) {
    int exponent = (h >> 10) & 31, fraction = h & 1023;
    double v = fraction ? NAN : INFINITY;
    if (exponent < 31) v = exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25);
    return h & 0x8000 ? -v : v;
}

static void half_is_exact(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        double want = half_value((uint16_t)h);
        float got = ot_f16_to_f32((uint16_t)h);
        if (isnan(want)) {
            assert_true(isnan(got));
            assert_true(isnan(ot_f16_to_f32(ot_f32_to_f16(got))));
            continue;
        }
        assert_true((double)got == want && (signbit(got) != 0) == (h >= 0x8000));
        assert_int_equal(ot_f32_to_f16(got), h);
        if ((h & 0x7FFF) >= 0x7C00) continue;
        /* Between this half and the next one away from zero: below, at and above the middle, ties to the even one. */
        double next = (h & 0x7FFF) == 0x7BFF ? copysign(65536.0, want) : half_value((uint16_t)(h + 1));
        if (h == 0x8000) next = -half_value(1);
        float middle = (float)((want + next) / 2);
        assert_int_equal(ot_f32_to_f16(middle), h & 1 ? h + 1 : h);
        assert_int_equal(ot_f32_to_f16(nextafterf(middle, 0.0F)), h);
        assert_int_equal(ot_f32_to_f16(nextafterf(middle, copysignf(INFINITY, middle))), h + 1);
    }
    assert_int_equal(ot_f32_to_f16(1e30F), 0x7C00);
    assert_int_equal(ot_f32_to_f16(-INFINITY), 0xFC00);
    assert_int_equal(ot_f32_to_f16(1e-30F), 0);
}

static void bf16_is_exact(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float v = ot_bf16_to_f32((ot_bf16)h);
        assert_int_equal(bits_of(v), h << 16);
        if (isnan(v)) {
            assert_true(isnan(ot_bf16_to_f32(ot_f32_to_bf16(v))));
            continue;
        }
        assert_int_equal(ot_f32_to_bf16(v), h);
        if (isinf(v)) continue;
        uint32_t middle = (h << 16) | 0x8000U;
        assert_int_equal(ot_f32_to_bf16(float_of(middle)), h & 1 ? h + 1 : h);
        assert_int_equal(ot_f32_to_bf16(float_of(middle - 1)), h);
        assert_int_equal(ot_f32_to_bf16(float_of(middle + 1)), h + 1);
    }
}

/* Rows of any length at any alignment give what one value at a time gives, and write nothing beyond. */
static void rows_of_16_bits(void **state) {
    (void)state;
    enum { MOST = 75 };
    ot_rng rng;
    ot_rng_seed(&rng, 3);
    uint8_t store[2 * MOST + 64], back[2 * MOST + 64];
    float row[MOST + 8];
    for (int set = 0; ot_row_kernels_at(set) != NULL; set++) {
        const ot_row_kernels *kernels = ot_row_kernels_at(set);
        for (int n = 0; n <= MOST; n++) {
            for (int which = 0; which < 2; which++) {
                int shift = n % 3;
                for (size_t i = 0; i < sizeof store; i++) store[i] = (uint8_t)ot_rng_u64(&rng);
                for (int i = 0; i < MOST + 8; i++) row[i] = -77.0F;
                kernels->decode[which ? OT_F16 : OT_BF16](store + shift, row, n);
                memset(back, 0xA5, sizeof back);
                (which ? kernels->encode_f16 : kernels->encode_bf16)(row, back + shift, n);
                for (int i = 0; i < n; i++) {
                    uint16_t stored, again;
                    memcpy(&stored, store + shift + 2 * i, sizeof stored);
                    memcpy(&again, back + shift + 2 * i, sizeof again);
                    float one = which ? ot_f16_to_f32(stored) : ot_bf16_to_f32(stored);
                    assert_int_equal(bits_of(row[i]), bits_of(one));
                    assert_int_equal(again, which ? ot_f32_to_f16(one) : ot_f32_to_bf16(one));
                }
                for (int i = n; i < MOST + 8; i++) assert_true(row[i] == -77.0F);
                for (size_t i = (size_t)(shift + 2 * n); i < sizeof back; i++) assert_int_equal(back[i], 0xA5);
            }
        }
        /* Values that no half decodes to: a wide range of f32. */
        for (int round = 0; round < 20000; round++) {
            float in[11];
            uint16_t out[11], out_b[11];
            for (int i = 0; i < 11; i++) in[i] = float_of((uint32_t)ot_rng_u64(&rng));
            kernels->encode_f16(in, (uint8_t *)out, 11);
            kernels->encode_bf16(in, (uint8_t *)out_b, 11);
            for (int i = 0; i < 11; i++) assert_int_equal(out[i], ot_f32_to_f16(in[i]));
            for (int i = 0; i < 11; i++) assert_int_equal(out_b[i], ot_f32_to_bf16(in[i]));
        }
    }
}

/* Random blocks at odd addresses: all instruction sets give the same bits and stay inside. */
static void block_kernels_agree(void **state) {
    (void)state;
    enum { ELEMENTS = 512 };
    ot_rng rng;
    ot_rng_seed(&rng, 5);
    for (int d = OT_Q4_0; d <= OT_Q6_K; d++) {
        int64_t bytes = 0;
        assert_true(ot_dtype_bytes((ot_dtype)d, ELEMENTS, &bytes));
        for (int round = 0; round < 50; round++) {
            /* Exactly as long as needed, so that the address sanitizer sees a read too far. */
            uint8_t *blocks = malloc((size_t)bytes + 1);
            assert_non_null(blocks);
            for (int64_t i = 0; i <= bytes; i++) blocks[i] = (uint8_t)ot_rng_u64(&rng);
            float want[ELEMENTS], got[ELEMENTS + 1];
            ot_row_kernels_at(0)->decode[d](blocks + 1, want, ELEMENTS);
            for (int set = 0; ot_row_kernels_at(set) != NULL; set++) {
                got[ELEMENTS] = -77.0F;
                ot_row_kernels_at(set)->decode[d](blocks + 1, got, ELEMENTS);
                for (int i = 0; i < ELEMENTS; i++) assert_true(same(got[i], want[i]));
                assert_true(got[ELEMENTS] == -77.0F);
            }
            ot_decode_f32((ot_dtype)d, blocks + 1, got, ELEMENTS);
            for (int i = 0; i < ELEMENTS; i++) assert_true(same(got[i], want[i]));
            free(blocks);
        }
        ot_decode_f32((ot_dtype)d, NULL, NULL, 0);
    }
}

static void plain_types(void **state) {
    (void)state;
    uint8_t bytes[64];
    float out[4], in[2] = {1.5F, -3.25F};
    assert_true(ot_encode_f32(OT_F64, in, bytes + 1, 2));
    ot_decode_f32(OT_F64, bytes + 1, out, 2);
    assert_memory_equal(out, in, sizeof in);
    assert_true(ot_encode_f32(OT_F32, in, bytes + 3, 2));
    ot_decode_f32(OT_F32, bytes + 3, out, 2);
    assert_memory_equal(out, in, sizeof in);
    int64_t wide = -5;
    int16_t small[2] = {-32768, 9};
    memcpy(bytes + 1, &wide, sizeof wide);
    ot_decode_f32(OT_I64, bytes + 1, out, 1);
    assert_true(out[0] == -5.0F);
    ot_decode_f32(OT_I32, &(int32_t){-70000}, out, 1);
    assert_true(out[0] == -70000.0F);
    ot_decode_f32(OT_I16, small, out, 2);
    assert_true(out[0] == -32768.0F && out[1] == 9.0F);
    ot_decode_f32(OT_I8, &(int8_t){-3}, out, 1);
    assert_true(out[0] == -3.0F);
    ot_decode_f32(OT_U8, &(uint8_t){200}, out, 1);
    assert_true(out[0] == 200.0F);
    ot_decode_f32(OT_BOOL, &(uint8_t){1}, out, 1);
    assert_true(out[0] == 1.0F);
    assert_false(ot_encode_f32(OT_I32, in, bytes, 2));
    assert_false(ot_encode_f32(OT_Q6_K, in, bytes, 0));
    assert_false(ot_encode_f32(OT_Q8_0, in, bytes, 2));
    assert_false(ot_encode_f32(OT_F32, in, bytes, -1));
}

static void encode_and_decode(ot_dtype dtype, const float *row, float *back) {
    uint8_t block[34];
    assert_true(ot_encode_f32(dtype, row, block, QK));
    ot_decode_f32(dtype, block, back, QK);
}

/* Properties of the quantisers: errors near half a step at most, zeros stay zero, and hostile values do no undefined
 * conversion (gcc and clang report one with -fsanitize=float-cast-overflow). */
static void quantisers_are_close(void **state) {
    (void)state;
    static const ot_dtype dtypes[] = {OT_Q8_0, OT_Q4_0, OT_Q4_1};
    ot_rng rng;
    ot_rng_seed(&rng, 9);
    float row[QK], back[QK];
    for (int k = 0; k < 3; k++) {
        for (int round = 0; round < 500; round++) {
            double low = INFINITY, high = -INFINITY;
            for (int i = 0; i < QK; i++) {
                row[i] = (float)(ot_rng_normal(&rng) + (round % 5));
                low = fmin(low, (double)row[i]);
                high = fmax(high, (double)row[i]);
            }
            double largest = fmax(fabs(low), fabs(high));
            /* More than half a step, for the scale in 16 bits; Q4_0 has no code for +8 steps. */
            double bounds[] = {largest / 127 * 0.6, largest / 8 * 1.01, (high - low) / 15 * 0.6 + largest * 1e-3};
            encode_and_decode(dtypes[k], row, back);
            for (int i = 0; i < QK; i++) assert_true(fabs((double)back[i] - (double)row[i]) <= bounds[k]);
            row[round % QK] = round % 2 ? NAN : round % 4 ? INFINITY : -INFINITY;
            encode_and_decode(dtypes[k], row, back);
        }
        memset(row, 0, sizeof row);
        encode_and_decode(dtypes[k], row, back);
        for (int i = 0; i < QK; i++) assert_true(back[i] == 0.0F);
        for (int i = 0; i < QK; i++) row[i] = (float)i * 1e-44F; /* the reciprocal of the step is infinite */
        encode_and_decode(dtypes[k], row, back);
        for (int i = 0; i < QK; i++) row[i] = i % 2 ? 3e38F : -3e38F; /* max - min is infinite */
        encode_and_decode(dtypes[k], row, back);
    }
}

static void q8_0_rounds_ties_away(void **state) {
    (void)state;
    float row[QK] = {127.0F, 0.5F, -0.5F, 1.5F, -2.5F, 0.49999997F, -0.49999997F, 126.5F};
    uint8_t block[34];
    assert_true(ot_encode_f32(OT_Q8_0, row, block, QK));
    static const int8_t want[8] = {127, 1, -1, 2, -3, 0, 0, 127};
    assert_memory_equal(block + 2, want, sizeof want);
}

/* ==== Golden blocks. ==== */

static void golden_blocks(void **state) {
    (void)state;
    if (!ot_path_exists(TEST_SHARED_DIR "/golden/gguf/blocks.gguf")) {
        print_message("skipped: no golden files at %s\n", TEST_SHARED_DIR "/golden/gguf");
        skip();
    }
    ot_error err = {0};
    ot_gguf *g = NULL;
    ot_safetensors *st = NULL;
    if (ot_gguf_open(TEST_SHARED_DIR "/golden/gguf/blocks.gguf", &g, &err) != OT_OK ||
        ot_safetensors_open(TEST_SHARED_DIR "/golden/gguf/blocks.safetensors", &st, &err) != OT_OK) {
        fail_msg("%s", err.message);
    }
    int encoded = 0, decoded = 0;
    for (int64_t i = 0; i < ot_gguf_tensor_count(g); i++) {
        const ot_tensor *t = ot_gguf_tensor_at(g, i), *want = ot_safetensors_find(st, t->name);
        int64_t n = ot_tensor_elements(t);
        assert_non_null(want);
        assert_int_equal(ot_tensor_elements(want), n);
        float *row = NULL;
        void *memory = NULL;
        assert_int_equal(ot_calloc(n, sizeof *row, "row", &memory, &err), OT_OK);
        row = memory;
        ot_decode_f32(t->dtype, t->data, row, n);
        for (int64_t k = 0; k < n; k++) {
            float w;
            memcpy(&w, (const uint8_t *)want->data + 4 * k, sizeof w);
            if (bits_of(row[k]) == bits_of(w)) continue;
            fail_msg("%s[%lld]: %.9g, not %.9g", t->name, (long long)k, (double)row[k], (double)w);
        }
        decoded++;
        char name[128];
        snprintf(name, sizeof name, "source.%s", t->name);
        const ot_tensor *source = ot_safetensors_find(st, name);
        if (source != NULL) {
            memcpy(row, source->data, (size_t)source->bytes);
            uint8_t *blocks = malloc((size_t)t->bytes);
            assert_non_null(blocks);
            if (ot_encode_f32(t->dtype, row, blocks, n)) {
                assert_memory_equal(blocks, t->data, (size_t)t->bytes);
                encoded++;
            }
            free(blocks);
        }
        ot_free(memory);
    }
    assert_int_equal(decoded, 13);
    assert_int_equal(encoded, 6); /* f32, f16, bf16, q8_0, q4_0, q4_1 */
    ot_safetensors_close(st);
    ot_gguf_close(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_sizes),       cmocka_unit_test(shapes),
        cmocka_unit_test(half_is_exact),         cmocka_unit_test(bf16_is_exact),
        cmocka_unit_test(rows_of_16_bits),       cmocka_unit_test(block_kernels_agree),
        cmocka_unit_test(plain_types),           cmocka_unit_test(quantisers_are_close),
        cmocka_unit_test(q8_0_rounds_ties_away), cmocka_unit_test(golden_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
