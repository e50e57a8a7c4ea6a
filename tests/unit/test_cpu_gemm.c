/* The matrix product of the CPU backend against sums in double: own loops of every instruction set, with and without a side, and the libraries. */
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
    int64_t m, n, k, r;
    bool ta, tb, accumulate, bias;
} shapes[] = {
    {1, 1, 1, 1, false, false, false, false},    {12, 32, 8, 0, false, true, false, true},     {13, 33, 7, 4, false, true, false, true},
    {5, 40, 31, 0, true, false, true, false},    {140, 70, 64, 8, false, false, true, true},   {67, 300, 65, 0, true, true, false, true},
    {200, 290, 96, 5, false, true, true, false}, {300, 31, 129, 1, false, false, false, true}, {24, 64, 2, 16, false, true, false, false},
    {50, 65, 200, 0, true, false, true, true},   {133, 520, 48, 4, false, true, false, false}, {29, 100, 1, 2, false, false, false, true},
    {600, 100, 96, 11, false, false, false, true}, {33, 64, 32, 4, false, true, true, false}, {7, 70, 5000, 4, false, true, true, true},
    {30, 40, 4200, 5, false, false, false, true}, {20, 33, 2500, 0, true, true, true, false},   {11, 90, 10, 16, false, false, true, true},
    {17, 192, 4096, 0, false, false, false, false}, {40, 301, 70, 0, false, false, true, true},
};
static const float FACTOR = 1.25F;
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

/* Operands as floats that their type holds exactly; rows lie `wider` apart. */
typedef struct operands {
    float *a, *b, *c, *bias, *side_a, *side_b;
    uint32_t *mask; /* [m][words], NULL: none */
    int64_t lda, ldb, ldc, lda_side, ldb_side;
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

static void make_operands(operands *o, const struct shape *s, ot_dtype type, ot_dtype c_type, bool masked) {
    ot_rng rng;
    ot_rng_seed(&rng, (uint64_t)(s->m * s->n + s->k));
    *o = (operands){.lda = (s->ta ? s->m : s->k) + 2, .ldb = (s->tb ? s->k : s->n) + 3, .ldc = s->n + 1, .lda_side = s->r + 3, .ldb_side = s->n + 5};
    o->a = numbers(o, &rng, (s->ta ? s->k : s->m) * o->lda, type == OT_BF16);
    o->b = numbers(o, &rng, (s->tb ? s->n : s->k) * o->ldb, type == OT_BF16);
    o->c = numbers(o, &rng, s->m * o->ldc, c_type == OT_BF16);
    o->bias = numbers(o, &rng, s->n, false);
    o->side_a = numbers(o, &rng, s->m * o->lda_side, false);
    o->side_b = numbers(o, &rng, s->r * o->ldb_side + 1, false);
    if (!masked) return;
    ot_error err = {0};
    int64_t words = s->m * ((s->n + 31) / 32);
    o->mask = ot_arena_alloc(&o->arena, words * (int64_t)sizeof *o->mask, &err);
    for (int64_t i = 0; i < words; i++) o->mask[i] = (uint32_t)ot_rng_u64(&rng);
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
    for (int64_t k = 0; k < s->r; k++) {
        double term = (double)o->side_a[i * o->lda_side + k] * (double)o->side_b[k * o->ldb_side + j];
        if (o->mask) term *= (o->mask[i * ((s->n + 31) / 32) + j / 32] >> j % 32 & 1) != 0 ? (double)FACTOR : 0;
        sum += term;
        *square += term * term;
    }
    if (s->bias) sum += (double)o->bias[j];
    if (s->accumulate) sum += (double)o->c[i * o->ldc + j];
    return sum;
}

static void check(const struct shape *s, ot_dtype type, ot_dtype c_type, bool own, bool masked) {
    operands o;
    make_operands(&o, s, type, c_type, masked);
    ot_gemm g = {.ta = s->ta, .tb = s->tb, .accumulate = s->accumulate, .m = s->m, .n = s->n, .k = s->k, .alpha = 1, .type = type, .c_type = c_type,
                 .lda = o.lda, .ldb = o.ldb, .ldc = o.ldc, .bias = s->bias ? o.bias : NULL};
    int64_t c_size = s->m * o.ldc * (c_type == OT_F32 ? 4 : 2), work = own ? ot_gemm_work(s->ta, s->m, s->n, s->k, s->r, type) : 0;
    ot_error err = {0};
    g.a = in_type(&o, o.a, (s->ta ? s->k : s->m) * o.lda, type);
    g.b = in_type(&o, o.b, (s->tb ? s->n : s->k) * o.ldb, type);
    if (own) {
        assert_true(work > 0);
        assert_int_equal(ot_malloc(work, 1, "a test", &g.work, &err), OT_OK);
        memset(g.work, 0xFF, (size_t)work); /* NaN */
        g.side = (ot_gemm_side){.r = s->r, .a = o.side_a, .b = o.side_b, .lda = o.lda_side, .ldb = o.ldb_side, .mask = o.mask, .factor = FACTOR};
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
            /* a side's floats are held by two bf16, of 16 bits together */
            double limit = (type == OT_BF16 ? 0x1p-14 : 0x1p-17) * sqrt(square) + (c_type == OT_BF16 ? 0x1p-8 : 0) * fabs(wanted);
            if (!(fabs(is - wanted) <= limit))
                fail_msg("%s, product of %d by %d by %d, side %d, %s to %s: [%d, %d] is %.9g instead of %.9g", ot_cpu_pick()->name, (int)s->m, (int)s->k,
                         (int)s->n, own ? (int)s->r : 0, ot_dtype_info(type)->name, ot_dtype_info(c_type)->name, (int)i, (int)j, is, wanted);
        }
    ot_free(first);
    ot_free(g.work);
    ot_arena_free(&o.arena);
}

static void check_type(ot_dtype type, ot_dtype c_type) {
    for (int i = 0; i < SHAPES; i++) {
        struct shape alone = shapes[i];
        alone.r = 0;
        check(&alone, type, c_type, false, false);
        if (ot_gemm_own(type)) check(&alone, type, c_type, true, false);
        if (shapes[i].r == 0 || ot_gemm_work(false, 1, 1, 1, 1, type) == 0) continue;
        check(&shapes[i], type, c_type, true, false);
        check(&shapes[i], type, c_type, true, true);
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

/* A side that cannot be done is refused, not left out. */
static void test_refused(void **state) {
    (void)state;
    float a[4] = {0}, c[4] = {0};
    ot_error err = {0};
    ot_gemm g = {.m = 2, .n = 2, .k = 2, .alpha = 1, .type = OT_F32, .c_type = OT_F32, .a = a, .b = a, .c = c, .lda = 2, .ldb = 2, .ldc = 2};
    g.side = (ot_gemm_side){.r = 1, .a = a, .b = a, .lda = 1, .ldb = 2};
    assert_int_equal(ot_gemm_run(&g, &err), OT_ERR_USAGE);
    assert_non_null(strstr(err.message, "side"));
    if (!ot_gemm_own(OT_F32)) return;
    void *work = NULL;
    assert_int_equal(ot_malloc(ot_gemm_work(false, 2, 2, 2, 1, OT_F32), 1, "a test", &work, &err), OT_OK);
    g.work = work;
    assert_int_equal(ot_gemm_run(&g, &err), OT_OK);
    g.alpha = 2;
    assert_int_equal(ot_gemm_run(&g, &err), OT_ERR_USAGE);
    g.alpha = 1;
    g.ta = true;
    assert_int_equal(ot_gemm_run(&g, &err), OT_ERR_USAGE);
    ot_free(work);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_products), cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
