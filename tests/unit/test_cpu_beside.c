/* A LINEAR and the LOW_RANK beside it in one call of the CPU backend, against both one after the other by the reference, with every set of instructions
 * that this machine has and any number of threads. */
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

enum { DX = 1, DA = 2, DB = 4, DW = 8, ADD = 16, ALL = DX | DA | DB };

static const struct shape {
    int64_t rows, m, n, r;
    bool transposed, bias, add_out;
    float p;
    int wanted;
    ot_dtype weights, matrices; /* of W; of A and B */
    bool wide_in, wide_out;     /* F32 in a bf16 run too */
} shapes[] = {
    {130, 96, 70, 4, false, true, false, 0, ALL, OT_F32, OT_F32, false, false},
    {130, 96, 70, 4, false, true, false, 0.1F, ALL | ADD, OT_F32, OT_F32, false, false},
    {77, 41, 130, 3, false, false, false, 0.3F, ALL, OT_F32, OT_F32, true, false},
    {64, 64, 64, 8, true, true, false, 0, ALL | ADD, OT_F32, OT_F32, false, true},
    {65, 288, 33, 16, true, false, false, 0.25F, ALL | DW, OT_F32, OT_F32, false, false},
    {12, 50, 257, 1, false, true, true, 0.5F, DX | DB, OT_F32, OT_F32, false, false},
    {11, 37, 40, 13, false, true, false, 0, DX | DA | ADD, OT_F32, OT_F32, true, true},
    {5, 96, 96, 4, false, false, false, 0.1F, DX, OT_BF16, OT_BF16, false, false},
    {4, 96, 96, 4, false, true, false, 0.1F, ALL | ADD, OT_F32, OT_F32, false, false}, /* few rows */
    {1, 70, 33, 2, true, true, false, 0, ALL, OT_F32, OT_F32, false, false},
    {90, 64, 96, 5, false, true, false, 0.2F, DA | DB, OT_F16, OT_F32, false, false},
    {70, 96, 128, 4, false, false, false, 0.1F, ALL | ADD, OT_Q8_0, OT_F32, false, false},
    {33, 64, 70, 7, true, false, false, 0, ALL, OT_BF16, OT_F32, false, true},
    {70, 96, 80, 17, false, true, false, 0.1F, ALL, OT_F32, OT_F32, false, false}, /* too wide to be taken along */
    {40, 33, 12, 4, false, false, false, 0.1F, ALL | ADD, OT_F32, OT_F32, false, false}, /* a linear with a narrow side itself */
    {600, 520, 48, 4, false, true, false, 0.1F, ALL, OT_F32, OT_F32, false, false},
};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

typedef struct array {
    float *x; /* as floats, which its type holds exactly */
    int64_t n;
} array;

typedef struct problem {
    const struct shape *s;
    array x, y, dx, dy, w, bias, a, b, dw, dbias, da, db;
    bool kept; /* forward leaves for backward what LOW_RANK needs twice */
    ot_arena arena;
} problem;

typedef struct result {
    float *y, *dx, *dw, *dbias, *da, *db;
} result;

static void *room(ot_arena *arena, int64_t bytes) {
    ot_error err = {0};
    void *p = ot_arena_alloc(arena, bytes > 0 ? bytes : 1, &err);
    assert_non_null(p);
    return p;
}

static array numbers(problem *p, ot_rng *rng, int64_t n, double std) {
    array a = {room(&p->arena, n * (int64_t)sizeof(float)), n};
    for (int64_t i = 0; i < n; i++) a.x[i] = ot_bf16_to_f32(ot_f32_to_bf16((float)(std * ot_rng_normal(rng))));
    return a;
}

static void make(problem *p, const struct shape *s) {
    ot_rng rng;
    ot_rng_seed(&rng, (uint64_t)(s->rows * s->n + s->r));
    *p = (problem){.s = s};
    p->x = numbers(p, &rng, s->rows * s->m, 1);
    p->dx = numbers(p, &rng, s->rows * s->m, 1);
    p->y = numbers(p, &rng, s->rows * s->n, 1);
    p->dy = numbers(p, &rng, s->rows * s->n, 1);
    p->w = numbers(p, &rng, s->m * s->n, 0.25);
    p->bias = numbers(p, &rng, s->n, 1);
    p->a = numbers(p, &rng, s->r * s->m, 0.25);
    p->b = numbers(p, &rng, s->n * s->r, 0.25);
    p->dw = numbers(p, &rng, s->m * s->n, 1);
    p->dbias = numbers(p, &rng, s->n, 1);
    p->da = numbers(p, &rng, s->r * s->m, 1);
    p->db = numbers(p, &rng, s->n * s->r, 1);
}

/* ==== Calls ==== */

static void *in_type(ot_arena *arena, array a, ot_dtype type) {
    int64_t bytes = 0;
    assert_true(ot_dtype_bytes(type, a.n, &bytes));
    void *to = room(arena, bytes);
    if (type == OT_F32) memcpy(to, a.x, (size_t)bytes);
    else assert_true(ot_encode_f32(type, a.x, to, a.n));
    return to;
}

static float *as_floats(ot_arena *arena, const void *x, ot_dtype type, int64_t n) {
    if (x == NULL) return NULL;
    float *to = room(arena, n * (int64_t)sizeof *to);
    ot_decode_f32(type, x, to, n);
    return to;
}

static ot_weight weight(ot_arena *arena, array values, array gradient, ot_dtype type, int64_t rows, int64_t cols, bool wanted) {
    ot_weight w = {.w = in_type(arena, values, type), .dtype = type, .rows = rows, .cols = cols};
    if (wanted) w.dw = in_type(arena, gradient, OT_F32);
    return w;
}

typedef struct calls {
    ot_op_attr first, second;
    ot_batch batch;
    ot_call linear, low_rank;
    ot_error err;
} calls;

/* x, dx, y and dy in the run's type, or F32 where they are wide. */
static void lay_calls(calls *c, const problem *p, ot_dtype compute, ot_arena *arena) {
    const struct shape *s = p->s;
    int wanted = s->wanted;
    *c = (calls){.first = {.linear = {.transposed = s->transposed, .add_out = s->add_out, .scale = 1}},
                 .second = {.low_rank = {.scale = 1.5F, .p = s->p, .site = 7}},
                 .batch = {.rows = s->rows, .dropout_seed = 99}};
    ot_view x = {.dtype = s->wide_in ? OT_F32 : compute, .rows = s->rows, .cols = s->m}, y = {.dtype = s->wide_out ? OT_F32 : compute, .rows = s->rows, .cols = s->n};
    x.x = in_type(arena, p->x, x.dtype);
    y.x = in_type(arena, p->y, y.dtype);
    y.dx = in_type(arena, p->dy, y.dtype);
    if ((wanted & DX) != 0) x.dx = in_type(arena, p->dx, x.dtype);
    c->linear = (ot_call){.kind = OT_OP_LINEAR, .attr = &c->first, .in = {x}, .out = y, .batch = &c->batch, .err = &c->err};
    c->low_rank = (ot_call){.kind = OT_OP_LOW_RANK, .attr = &c->second, .in = {x}, .out = y, .batch = &c->batch, .err = &c->err};
    if (p->kept) {
        c->second.low_rank.r = (int32_t)s->r;
        c->second.low_rank.M = (int32_t)s->m;
        c->second.low_rank.N = (int32_t)s->n;
        c->low_rank.save = room(arena, ot_op_save_bytes(OT_OP_LOW_RANK, &c->second, s->rows, s->n, compute));
    }
    /* LOW_RANK goes backward first */
    c->low_rank.in[0].add_dx = (wanted & ADD) != 0;
    c->linear.in[0].add_dx = true;
    bool trained = (wanted & DW) != 0;
    c->linear.w[0] = weight(arena, p->w, p->dw, s->weights, s->transposed ? s->m : s->n, s->transposed ? s->n : s->m, trained);
    if (s->bias) c->linear.w[1] = weight(arena, p->bias, p->dbias, OT_F32, 1, s->n, trained);
    c->low_rank.w[0] = weight(arena, p->a, p->da, s->matrices, s->r, s->m, (wanted & DA) != 0);
    c->low_rank.w[1] = weight(arena, p->b, p->db, s->matrices, s->n, s->r, (wanted & DB) != 0);
}

static void run_call(const ot_backend *backend, ot_call *call, bool backward) {
    size_t bytes = backend->scratch(call);
    ot_error err = {0};
    void *scratch = NULL;
    assert_int_equal(ot_malloc(bytes > 0 ? (int64_t)bytes : 1, 1, "a test", &scratch, &err), OT_OK);
    memset(scratch, 0xFF, bytes); /* NaN */
    for (ot_call *c = call; c != NULL; c = (ot_call *)(uintptr_t)c->beside) {
        c->scratch = scratch;
        c->scratch_bytes = bytes;
    }
    if ((backward ? backend->backward : backend->forward)[call->kind](call) != OT_OK) fail_msg("%s", call->err->message);
    ot_free(scratch);
}

static result run(const problem *p, const ot_backend *backend, ot_dtype compute, bool beside, ot_arena *arena) {
    calls c;
    lay_calls(&c, p, compute, arena);
    if (beside) c.linear.beside = &c.low_rank;
    for (int backward = 0; backward < 2; backward++) {
        if (!beside && backward) run_call(backend, &c.low_rank, true);
        run_call(backend, &c.linear, backward != 0);
        if (!beside && !backward) run_call(backend, &c.low_rank, false);
    }
    const struct shape *s = p->s;
    return (result){.y = as_floats(arena, c.linear.out.x, c.linear.out.dtype, s->rows * s->n),
                    .dx = as_floats(arena, c.linear.in[0].dx, c.linear.in[0].dtype, s->rows * s->m),
                    .dw = as_floats(arena, c.linear.w[0].dw, OT_F32, s->m * s->n),
                    .dbias = as_floats(arena, c.linear.w[1].dw, OT_F32, s->n),
                    .da = as_floats(arena, c.low_rank.w[0].dw, OT_F32, s->r * s->m),
                    .db = as_floats(arena, c.low_rank.w[1].dw, OT_F32, s->n * s->r)};
}

/* ==== Checks ==== */

static int differs(const problem *p, const char *what, const float *wanted, const float *is, int64_t n, ot_dtype compute) {
    assert_true((wanted == NULL) == (is == NULL));
    if (wanted == NULL) return 0;
    double square = 0, error = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)is[i] - (double)wanted[i];
        square += (double)wanted[i] * (double)wanted[i];
        error += d * d;
    }
    if (sqrt(error) <= (compute == OT_BF16 ? 0x1p-7 : 0x1p-19) * sqrt(square)) return 0; /* false for NaN */
    const struct shape *s = p->s;
    print_error("%s, %s, %d rows, %d to %d by %d: %s is off by %.2g\n", ot_cpu_pick()->name, ot_dtype_info(compute)->name, (int)s->rows, (int)s->m, (int)s->n,
                (int)s->r, what, sqrt(error / square));
    return 1;
}

static int compare(const problem *p, const result *wanted, const result *is, ot_dtype compute) {
    const struct shape *s = p->s;
    return differs(p, "y", wanted->y, is->y, s->rows * s->n, compute) + differs(p, "dx", wanted->dx, is->dx, s->rows * s->m, compute) +
           differs(p, "dW", wanted->dw, is->dw, s->m * s->n, compute) + differs(p, "the bias's gradient", wanted->dbias, is->dbias, s->n, compute) +
           differs(p, "dA", wanted->da, is->da, s->r * s->m, compute) + differs(p, "dB", wanted->db, is->db, s->n * s->r, compute);
}

static void same(const problem *p, const char *what, const float *a, const float *b, int64_t n) {
    const struct shape *s = p->s;
    if (a != NULL && memcmp(a, b, (size_t)n * sizeof *a) != 0)
        fail_msg("%s, %d rows, %d to %d by %d: %s depends on the number of threads, or on what forward keeps", ot_cpu_pick()->name, (int)s->rows, (int)s->m,
                 (int)s->n, (int)s->r, what);
}

static void check(const struct shape *s, ot_dtype compute) {
    problem p;
    make(&p, s);
    ot_arena arena = {0};
    result expected = run(&p, &ot_backend_ref, compute, false, &arena), is[3];
    int bad = 0;
    for (int threads = 1; threads <= 3; threads++) {
        ot_threads_set(threads);
        p.kept = threads > 1;
        is[threads - 1] = run(&p, &ot_backend_cpu, compute, true, &arena);
    }
    ot_threads_set(0);
    bad += compare(&p, &expected, &is[0], compute);
    calls c;
    lay_calls(&c, &p, compute, &arena);
    bool beside = ot_backend_cpu.beside(&c.linear, &c.low_rank); /* without, a library may add in another order */
    for (int k = 1; k < 3; k++) {
        if (beside) same(&p, "y", is[0].y, is[k].y, s->rows * s->n);
        if (beside) same(&p, "dx", is[0].dx, is[k].dx, s->rows * s->m);
        same(&p, "dA", is[0].da, is[k].da, s->r * s->m);
        same(&p, "dB", is[0].db, is[k].db, s->n * s->r);
    }
    ot_arena_free(&arena);
    ot_arena_free(&p.arena);
    if (bad > 0) fail_msg("%d tensors differ", bad);
}

static void all_shapes(const ot_cpu_kernels *table, int compute) {
    (void)table;
    for (int i = 0; i < SHAPES; i++) check(&shapes[i], (ot_dtype)compute);
}

static void test_float(void **state) { (void)state, each_isa(all_shapes, OT_F32); }
static void test_bf16(void **state) { (void)state, each_isa(all_shapes, OT_BF16); }

/* Which pairs are taken: what the shapes say, where the product is of bf16 by tiles. */
static void which(const ot_cpu_kernels *table, int type) {
    for (int i = 0; i < SHAPES; i++) {
        const struct shape *s = &shapes[i];
        bool can = type == OT_BF16 && !(s->wide_in && s->wide_out) && table->gemm_tiles.multiply != NULL;
        problem p;
        calls c;
        ot_arena arena = {0};
        make(&p, s);
        lay_calls(&c, &p, (ot_dtype)type, &arena);
        bool fits = s->rows > OT_GEMV_ROWS && s->r <= OT_GEMM_SIDE && (s->n > 16 || s->transposed);
        assert_true(ot_backend_cpu.beside(&c.linear, &c.low_rank) == (can && fits));
        c.first.linear.scale = 2;
        assert_false(ot_backend_cpu.beside(&c.linear, &c.low_rank));
        ot_arena_free(&arena);
        ot_arena_free(&p.arena);
    }
}

static void test_which(void **state) {
    (void)state;
    each_isa(which, OT_F32);
    each_isa(which, OT_BF16);
}

/* The same call with fewer rows than its scratch was made for. */
static void fewer_rows(ot_dtype type) {
    problem p;
    make(&p, &shapes[1]);
    ot_arena arena = {0};
    for (int64_t rows = 1; rows <= shapes[1].rows; rows += rows < 14 ? 1 : 29) {
        struct shape fewer = shapes[1];
        calls most, c;
        ot_error err = {0};
        p.s = &shapes[1];
        lay_calls(&most, &p, type, &arena);
        most.linear.beside = &most.low_rank;
        size_t bytes = ot_backend_cpu.scratch(&most.linear);
        fewer.rows = rows;
        p.s = &fewer;
        lay_calls(&c, &p, type, &arena);
        c.linear.beside = &c.low_rank;
        assert_int_equal(ot_malloc((int64_t)bytes, 1, "a test", &c.linear.scratch, &err), OT_OK);
        c.low_rank.scratch = c.linear.scratch;
        c.linear.scratch_bytes = c.low_rank.scratch_bytes = bytes;
        if (ot_backend_cpu.forward[OT_OP_LINEAR](&c.linear) != OT_OK) fail_msg("%s", c.err.message);
        if (ot_backend_cpu.backward[OT_OP_LINEAR](&c.linear) != OT_OK) fail_msg("%s", c.err.message);
        /* the reference rounds sums of bf16 twice: there it is the call with scratch of its own that counts */
        result expected = run(&p, type == OT_F32 ? &ot_backend_ref : &ot_backend_cpu, type, type != OT_F32, &arena);
        assert_int_equal(differs(&p, "y", expected.y, as_floats(&arena, c.linear.out.x, type, rows * fewer.n), rows * fewer.n, type), 0);
        assert_int_equal(differs(&p, "dx", expected.dx, as_floats(&arena, c.linear.in[0].dx, type, rows * fewer.m), rows * fewer.m, type), 0);
        assert_int_equal(differs(&p, "dA", expected.da, c.low_rank.w[0].dw, fewer.r * fewer.m, type), 0);
        ot_free(c.linear.scratch);
    }
    ot_arena_free(&arena);
    ot_arena_free(&p.arena);
}

static void test_fewer_rows(void **state) {
    (void)state;
    fewer_rows(OT_F32);
    fewer_rows(OT_BF16);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_float), cmocka_unit_test(test_bf16), cmocka_unit_test(test_which),
                                       cmocka_unit_test(test_fewer_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
