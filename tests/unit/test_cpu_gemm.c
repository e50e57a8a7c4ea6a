/* The matrix product of the CPU backend against sums in double: own loops of every instruction set, and the libraries. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/parallel.h"
#include "base/rng.h"
#include "engine/cpu/gemm.h"
#include "engine/cpu/kernels.h"
#include "support/each_isa.h"

static const struct shape {
    int64_t m, n, k;
    bool ta, tb, accumulate, bias;
} shapes[] = {
    {1, 1, 1, false, false, false, false}, {12, 32, 8, false, true, false, true}, {13, 33, 7, false, true, false, true},
    {5, 40, 31, true, false, true, false}, {140, 70, 64, false, false, true, true}, {67, 300, 65, true, true, false, true},
    {200, 290, 96, false, true, true, false}, {300, 31, 129, false, false, false, true}, {24, 64, 2, false, true, false, false},
    {50, 65, 200, true, false, true, true}, {133, 520, 48, false, true, false, false}, {29, 100, 1, false, false, false, true},
    {600, 100, 96, false, false, false, true}, {33, 64, 32, false, true, true, false}, {7, 70, 5000, false, true, true, true},
    {30, 40, 4200, false, false, false, true}, {20, 33, 2500, true, true, true, false}, {11, 90, 10, false, false, true, true},
    {17, 192, 4096, false, false, false, false}, {40, 301, 70, false, false, true, true}, {30, 40, 4200, true, false, true, false},
    {133, 520, 48, true, false, true, false}, {13, 33, 7, true, false, false, true}, {600, 100, 97, true, false, false, false},
    {1, 70, 5001, true, false, true, true},
};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

/* Operands as floats that their type holds exactly; rows lie `wider` apart. */
typedef struct operands {
    float *a, *b, *c, *bias;
    int64_t lda, ldb, ldc;
    ot_arena arena;
} operands;

static float *numbers(operands *o, ot_rng *rng, int64_t n, bool half) {
    ot_error err = {0};
    float *x = ot_arena_alloc(&o->arena, n * (int64_t)sizeof *x, &err);
    assert_non_null(x);
    for (int64_t i = 0; i < n; i++) {
        x[i] = (float)ot_rng_normal(rng);
        if (half) x[i] = ot_bf16_to_f32(ot_f32_to_bf16(x[i]));
    }
    return x;
}

static void make_operands(operands *o, const struct shape *s, ot_dtype type, ot_dtype c_type) {
    ot_rng rng;
    ot_rng_seed(&rng, (uint64_t)(s->m * s->n + s->k));
    *o = (operands){.lda = (s->ta ? s->m : s->k) + 2, .ldb = (s->tb ? s->k : s->n) + 3, .ldc = s->n + 1};
    o->a = numbers(o, &rng, (s->ta ? s->k : s->m) * o->lda, type == OT_BF16);
    o->b = numbers(o, &rng, (s->tb ? s->n : s->k) * o->ldb, type == OT_BF16);
    o->c = numbers(o, &rng, s->m * o->ldc, c_type == OT_BF16);
    o->bias = numbers(o, &rng, s->n, false);
}

static const void *in_type(operands *o, const float *x, int64_t n, ot_dtype type) {
    if (type == OT_F32) return x;
    ot_error err = {0};
    ot_bf16 *to = ot_arena_alloc(&o->arena, n * (int64_t)sizeof *to, &err);
    assert_non_null(to);
    for (int64_t i = 0; i < n; i++) to[i] = ot_f32_to_bf16(x[i]);
    return to;
}

static double sum_of(const operands *o, const struct shape *s, int64_t i, int64_t j, double *square) {
    double sum = 0;
    *square = 1;
    for (int64_t k = 0; k < s->k; k++) {
        double term = (double)o->a[s->ta ? k * o->lda + i : i * o->lda + k] * (double)o->b[s->tb ? j * o->ldb + k : k * o->ldb + j];
        sum += term;
        *square += term * term;
    }
    if (s->bias) sum += (double)o->bias[j];
    if (s->accumulate) sum += (double)o->c[i * o->ldc + j];
    return sum;
}

static void check(const struct shape *s, ot_dtype type, ot_dtype c_type, bool own) {
    operands o;
    make_operands(&o, s, type, c_type);
    ot_gemm g = {.ta = s->ta, .tb = s->tb, .accumulate = s->accumulate, .m = s->m, .n = s->n, .k = s->k, .alpha = 1, .type = type, .c_type = c_type,
                 .lda = o.lda, .ldb = o.ldb, .ldc = o.ldc, .bias = s->bias ? o.bias : NULL};
    int64_t c_size = s->m * o.ldc * (c_type == OT_F32 ? 4 : 2), work = own ? ot_gemm_work(s->m, s->n, s->k, type) : 0;
    ot_error err = {0};
    g.a = in_type(&o, o.a, (s->ta ? s->k : s->m) * o.lda, type);
    g.b = in_type(&o, o.b, (s->tb ? s->n : s->k) * o.ldb, type);
    if (own) {
        assert_true(work > 0);
        assert_int_equal(ot_malloc(work, 1, "a test", &g.work, &err), OT_OK);
        memset(g.work, 0xFF, (size_t)work); /* NaN */
    }
    void *first = NULL;
    /* a library may add in another order, except where C is cut into pieces for it */
    bool pieces = ot_gemm_own(OT_F32) && type == OT_F32 && !s->ta && !s->tb && s->m >= 16 && s->n >= 192;
    int most = own ? 3 : pieces ? 16 : 1;
    for (int threads = 1; threads <= most; threads += threads < 3 ? 1 : 13) {
        void *c = NULL;
        assert_int_equal(ot_malloc(c_size, 1, "a test", &c, &err), OT_OK);
        memcpy(c, in_type(&o, o.c, s->m * o.ldc, c_type), (size_t)c_size);
        g.c = c;
        ot_threads_set(threads);
        if (ot_gemm_run(&g, &err) != OT_OK) fail_msg("%s", err.message);
        if (first && memcmp(first, c, (size_t)c_size) != 0) fail_msg("a product of %d by %d by %d depends on threads", (int)s->m, (int)s->k, (int)s->n);
        if (first) ot_free(c);
        else first = c;
    }
    ot_threads_set(0);
    for (int64_t i = 0; i < s->m; i++)
        for (int64_t j = 0; j < o.ldc; j++) {
            int64_t at = i * o.ldc + j;
            double square = 0, wanted = j < s->n ? sum_of(&o, s, i, j, &square) : (double)o.c[at];
            double is = c_type == OT_F32 ? (double)((float *)first)[at] : (double)ot_bf16_to_f32(((ot_bf16 *)first)[at]);
            double limit = 0x1p-17 * sqrt(square) + (c_type == OT_BF16 ? 0x1p-8 : 0) * fabs(wanted);
            if (!(fabs(is - wanted) <= limit))
                fail_msg("%s, product of %d by %d by %d, %s to %s: [%d, %d] is %.9g instead of %.9g", ot_cpu_pick()->name, (int)s->m, (int)s->k,
                         (int)s->n, ot_dtype_info(type)->name, ot_dtype_info(c_type)->name, (int)i, (int)j, is, wanted);
        }
    ot_free(first);
    ot_free(g.work);
    ot_arena_free(&o.arena);
}

static void check_type(ot_dtype type, ot_dtype c_type) {
    for (int i = 0; i < SHAPES; i++) {
        check(&shapes[i], type, c_type, false);
        if (ot_gemm_own(type) && shapes[i].ta && !shapes[i].tb) check(&shapes[i], type, c_type, true);
    }
}

static void check_types(const ot_cpu_kernels *table, int unused) {
    (void)table, (void)unused;
    check_type(OT_F32, OT_F32);
    if (!ot_gemm_bf16()) return;
    check_type(OT_BF16, OT_F32);
    check_type(OT_BF16, OT_BF16);
}

static void test_products(void **state) {
    (void)state;
    each_isa(check_types, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_products)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
