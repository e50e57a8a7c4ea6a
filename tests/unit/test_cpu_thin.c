/* Products with one narrow side of every instruction set, against sums in double. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "engine/cpu/kernels.h"
#include "support/each_isa.h"

static const struct shape {
    int64_t rows, n, r;
} shapes[] = {{1, 32, 4}, {4, 33, 4}, {16, 64, 4}, {64, 96, 4}, {67, 96, 8}, {33, 128, 12}, {64, 160, 16}, {150, 64, 16}, {131, 32, 8}, {40, 100, 16}, {95, 576, 4}};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

typedef struct operands {
    ot_thin t;
    ot_span x;       /* [rows, n] */
    float *w;        /* [r, ld] */
    uint32_t *mask;  /* [rows][words] */
    float *wide;     /* x as floats */
    float *z, *dw;   /* [rows, r], [r, ld] */
    ot_arena arena;
} operands;

static float *numbers(operands *o, ot_rng *rng, int64_t n) {
    ot_error err = {0};
    float *x = ot_arena_alloc(&o->arena, n * (int64_t)sizeof *x, &err);
    assert_non_null(x);
    for (int64_t i = 0; i < n; i++) x[i] = (float)ot_rng_normal(rng);
    return x;
}

static void make_operands(operands *o, const struct shape *s, ot_dtype type) {
    ot_rng rng;
    ot_error err = {0};
    ot_rng_seed(&rng, (uint64_t)(s->rows + s->n));
    int64_t ld = (s->n + 15) / 16 * 16;
    *o = (operands){.t = {.r = s->r, .n = s->n, .ld = ld, .factor = 1.25F}};
    o->t.w = o->w = numbers(o, &rng, s->r * ld);
    for (int64_t k = 0; k < s->r; k++)
        for (int64_t i = s->n; i < ld; i++) o->w[k * ld + i] = 0;
    o->t.tiles = ot_arena_alloc(&o->arena, OT_THIN_TILES(s->n), &err);
    o->mask = ot_arena_alloc(&o->arena, s->rows * OT_THIN_WORDS(s->n) * 4, &err);
    for (int64_t i = 0; i < s->rows * OT_THIN_WORDS(s->n); i++) o->mask[i] = (uint32_t)(ot_rng_u64(&rng) | ot_rng_u64(&rng));
    o->wide = numbers(o, &rng, s->rows * s->n);
    o->z = numbers(o, &rng, s->rows * s->r);
    o->dw = numbers(o, &rng, s->r * ld);
    o->x = (ot_span){o->wide, OT_F32};
    if (type == OT_F32) return;
    ot_bf16 *half = ot_arena_alloc(&o->arena, s->rows * s->n * 2, &err);
    for (int64_t i = 0; i < s->rows * s->n; i++) {
        half[i] = ot_f32_to_bf16(o->wide[i]);
        o->wide[i] = ot_bf16_to_f32(half[i]);
    }
    o->x = (ot_span){half, OT_BF16};
}

static double factor(const operands *o, bool masked, int64_t row, int64_t i) {
    if (!masked) return 1;
    return (o->mask[row * OT_THIN_WORDS(o->t.n) + i / 32] >> i % 32 & 1) != 0 ? (double)o->t.factor : 0;
}

static void compare(const char *what, const struct shape *s, float is, double wanted, double squares) {
    if (fabs((double)is - wanted) <= 0x1p-14 * sqrt(squares)) return;
    fail_msg("%s, %s of %d rows of %d, r %d: %.9g instead of %.9g", ot_cpu_pick()->name, what, (int)s->rows, (int)s->n, (int)s->r, (double)is, wanted);
}

static void check(const struct shape *s, ot_dtype type, bool masked) {
    operands o;
    ot_error err = {0};
    make_operands(&o, s, type);
    const ot_cpu_kernels *table = ot_cpu_pick();
    const uint32_t *mask = masked ? o.mask : NULL;
    float *z = ot_arena_alloc(&o.arena, s->rows * s->r * 4 + 64, &err), *dw = ot_arena_alloc(&o.arena, s->r * o.t.ld * 4, &err);
    if (table->thin_prepare) table->thin_prepare(&o.t);
    else o.t.tiles = NULL;
    z[s->rows * s->r] = 7;
    table->thin_in(&o.t, o.x, mask, z, s->rows, (ot_ahead){o.x.x, s->rows * s->n});
    assert_true(z[s->rows * s->r] == 7);
    memcpy(dw, o.dw, (size_t)(s->r * o.t.ld) * sizeof *dw);
    table->thin_grad(&o.t, o.z, o.x, mask, s->rows, dw);
    for (int64_t k = 0; k < s->r; k++) {
        for (int64_t a = 0; a < s->rows; a++) {
            double sum = 0, squares = 0;
            for (int64_t i = 0; i < s->n; i++) {
                double term = (double)o.wide[a * s->n + i] * (double)o.w[k * o.t.ld + i] * factor(&o, masked, a, i);
                sum += term;
                squares += term * term;
            }
            compare("x . w^T", s, z[a * s->r + k], sum, squares);
        }
        for (int64_t i = 0; i < s->n; i++) {
            double sum = 0, squares = 0;
            for (int64_t a = 0; a < s->rows; a++) {
                double term = (double)o.wide[a * s->n + i] * (double)o.z[a * s->r + k] * factor(&o, masked, a, i);
                sum += term;
                squares += term * term;
            }
            compare("z^T . x", s, dw[k * o.t.ld + i], sum, squares);
        }
    }
    ot_arena_free(&o.arena);
}

static void check_shapes(const ot_cpu_kernels *table, int masked) {
    (void)table;
    for (int i = 0; i < SHAPES; i++) {
        check(&shapes[i], OT_F32, masked);
        check(&shapes[i], OT_BF16, masked);
    }
}

static void test_thin(void **state) {
    (void)state;
    each_isa(check_shapes, false);
    each_isa(check_shapes, true);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_thin)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
