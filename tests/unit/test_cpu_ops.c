/* The CPU backend against the reference in double, with every set of instructions that this machine has, and with 1 and 2 threads. */
#include "support/opcheck.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/parallel.h"
#include "engine/cpu/kernels.h"
#include "support/each_isa.h"

enum { SEEDS = 2 };

/* ==== Problems with several tiles, chunks and segments, which the built-in ones are too small for ==== */

static const struct large_attention {
    int32_t heads, kv_heads, d, prefix, window;
    bool causal, alibi;
    int32_t lengths[4];
} attentions[] = {
    {2, 2, 64, 0, 0, true, false, {200}},         {4, 2, 64, 0, 0, true, false, {129, 64, 3}},
    {3, 1, 40, 0, 0, false, false, {150}},        {2, 2, 32, 5, 0, true, true, {70, 100}},
    {2, 1, 128, 0, 50, true, false, {190}},       {20, 20, 16, 0, 0, true, false, {65, 66}},
    {36, 18, 8, 2, 9, true, true, {80, 40}},      {1, 1, 256, 0, 0, true, false, {100}},
    {1, 1, 272, 0, 0, true, false, {20}},         {2, 2, 33, 0, 0, true, false, {67, 1, 1, 1}},
};
enum { ATTENTIONS = sizeof attentions / sizeof attentions[0] };

static void make_attention(opcheck_problem *p, int variant, uint64_t seed) {
    const struct large_attention *c = &attentions[variant];
    int32_t H = c->heads, K = c->kv_heads, d = c->d, rows = 0, n = 0;
    opcheck_begin(p, OT_OP_ATTENTION, seed, "large, %d heads of %d, %d kv heads, prefix %d, window %d, %d rows and more", H, d, K,
                  c->prefix, c->window, c->lengths[0]);
    ot_segment *segments = opcheck_alloc(p, 4, sizeof *segments);
    for (; n < 4 && c->lengths[n]; n++) {
        segments[n] = (ot_segment){.q0 = rows, .nq = c->lengths[n], .k0 = rows, .nk = c->lengths[n]};
        rows += c->lengths[n];
    }
    int32_t *slots = opcheck_alloc(p, rows, sizeof *slots);
    for (int32_t s = 0; s < n; s++)
        for (int32_t i = 0; i < segments[s].nq; i++) slots[segments[s].q0 + i] = i;
    p->batch.rows = rows;
    p->batch.segments = segments;
    p->batch.n_segments = n;
    p->batch.slots = p->batch.key_slots = slots;
    float *alibi = opcheck_alloc(p, H, sizeof *alibi);
    for (int32_t h = 0; h < H; h++) alibi[h] = 1.0F / (float)(2 + h);
    p->attr.attention.heads = H;
    p->attr.attention.kv_heads = K;
    p->attr.attention.head_dim = d;
    p->attr.attention.prefix = c->prefix;
    p->attr.attention.q = (ot_head_layout){0, d};
    p->attr.attention.k = (ot_head_layout){H * d, d};
    p->attr.attention.v = (ot_head_layout){(H + K) * d, d};
    p->attr.attention.scale = 1.0F / sqrtf((float)d);
    p->attr.attention.causal = c->causal;
    p->attr.attention.window = c->window;
    p->attr.attention.alibi = c->alibi ? alibi : NULL;
    if (c->prefix) {
        p->w[0] = opcheck_tensor_make(p, c->prefix, K * d, NULL);
        p->w[1] = opcheck_tensor_make(p, c->prefix, K * d, NULL);
    }
    p->in[0] = opcheck_tensor_make(p, rows, (H + 2 * K) * d, NULL);
    p->in[1].same_as_0 = p->in[2].same_as_0 = true;
    p->out = opcheck_tensor_make(p, rows, H * d, NULL);
}

static const struct large_linear {
    int64_t rows, m, n;
    bool transposed, bias, add, add_out;
    float scale;
    ot_dtype stored;
} linears[] = {
    {300, 257, 513, true, true, false, false, 1, OT_F32},  {300, 520, 96, false, true, true, false, 1, OT_F16},
    {129, 768, 4, false, false, false, false, 8, OT_F32},  {129, 4, 768, false, false, true, true, 8, OT_F32},
    {4, 1100, 530, true, true, false, false, 2, OT_F32},   {3, 1100, 70, false, true, false, true, 1, OT_F16},
    {2, 2048, 64, false, false, false, false, 1, OT_Q8_0}, {1, 700, 1030, true, false, false, false, 1, OT_BF16},
    {64, 256, 256, false, true, false, false, 1, OT_Q4_0}, {65, 96, 1024, true, true, true, false, 1, OT_BF16},
};
enum { LINEARS = sizeof linears / sizeof linears[0] };

static void make_linear(opcheck_problem *p, int variant, uint64_t seed) {
    const struct large_linear *c = &linears[variant];
    opcheck_begin(p, OT_OP_LINEAR, seed, "large, %d rows, %d to %d, %s", (int)c->rows, (int)c->m, (int)c->n, ot_dtype_info(c->stored)->name);
    p->attr.linear.transposed = c->transposed;
    p->attr.linear.add_out = c->add_out;
    p->attr.linear.scale = c->scale;
    p->in[0] = opcheck_tensor_make(p, c->rows, c->m, NULL);
    p->in[0].add = c->add;
    p->w[0] = opcheck_tensor_make(p, c->transposed ? c->m : c->n, c->transposed ? c->n : c->m, NULL);
    p->w[0].stored = c->stored;
    p->w[0].wanted = !ot_dtype_is_quantised(c->stored);
    if (c->bias) p->w[1] = opcheck_tensor_make(p, 1, c->n, NULL);
    p->out = opcheck_tensor_make(p, c->rows, c->n, NULL);
    p->out.filled = c->add_out;
}

static const struct large_head {
    int64_t rows, d, vocabulary;
    bool bias, frozen;
    ot_dtype stored;
} heads[] = {{130, 48, 1000, false, false, OT_F32},  {260, 33, 517, true, false, OT_BF16}, {129, 128, 700, false, false, OT_F16},
             {5, 1024, 4500, false, false, OT_F16},  {130, 48, 1000, false, true, OT_F32}, {260, 33, 517, true, true, OT_BF16},
             {129, 128, 700, false, true, OT_F16},   {5, 1025, 450, false, true, OT_F16},  {1100, 32, 333, true, true, OT_F32},
             {70, 64, 1030, false, true, OT_BF16},   {65, 96, 300, false, true, OT_Q8_0},  {2200, 16, 50, false, true, OT_F32}};
enum { HEADS = sizeof heads / sizeof heads[0] };

static void make_head(opcheck_problem *p, int variant, uint64_t seed) {
    const struct large_head *c = &heads[variant];
    opcheck_begin(p, OT_OP_HEAD_LOSS, seed, "large, %d rows, %d wide, vocabulary %d%s", (int)c->rows, (int)c->d, (int)c->vocabulary,
                  c->frozen ? ", frozen" : "");
    p->in[0] = opcheck_tensor_make(p, c->rows, c->d, opcheck_random(p, c->rows * c->d, 0.25, 0));
    p->w[0] = opcheck_tensor_make(p, c->vocabulary, c->d, NULL);
    p->w[0].stored = c->stored;
    if (c->bias) p->w[1] = opcheck_tensor_make(p, 1, c->vocabulary, NULL);
    p->w[0].wanted = p->w[1].wanted = !c->frozen;
    int32_t *targets = opcheck_alloc(p, c->rows, sizeof *targets);
    for (int64_t i = 0; i < c->rows; i++) targets[i] = (int32_t)ot_rng_below(&p->rng, (uint64_t)c->vocabulary);
    p->batch.rows = p->batch.n_targets = c->rows;
    p->batch.targets = targets;
    p->batch.loss_scale = 1.0 / (double)c->rows;
}

enum { LARGE = ATTENTIONS + LINEARS + HEADS };

static void make_large(opcheck_problem *p, int i, uint64_t seed) {
    if (i < ATTENTIONS) make_attention(p, i, seed);
    else if (i < ATTENTIONS + LINEARS) make_linear(p, i - ATTENTIONS, seed);
    else make_head(p, i - ATTENTIONS - LINEARS, seed);
}

/* ==== Against the reference ==== */

/* Gaps beyond the limits: of one element relative to itself and the root mean square, of the whole tensor. In bf16 an element's limit is
 * wider than opcheck's: among ten thousands of elements there are differences of nearly equal terms (dP - delta of the first rows). */
static int tensor_differs(const opcheck_problem *p, const char *what, const double *expected, const double *actual, int64_t n,
                          ot_dtype compute) {
    if (!expected && !actual) return 0;
    assert_true(expected && actual);
    const double element_limit = compute == OT_BF16 ? 0x1p-5 : 0x1p-15, tensor_limit = compute == OT_BF16 ? 0x1p-7 : 0x1p-19;
    double square = 0, error = 0, worst = 0;
    for (int64_t i = 0; i < n; i++) {
        square += expected[i] * expected[i];
        error += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    }
    double rms = sqrt(square / (double)n);
    for (int64_t i = 0; i < n; i++) worst = fmax(worst, fabs(actual[i] - expected[i]) / (fabs(expected[i]) + rms + 1e-30));
    if (sqrt(error) <= tensor_limit * sqrt(square) && worst <= element_limit) return 0; /* false for NaN */
    print_error("%s: %s in %s: worst %.2g, whole tensor %.2g of %.2g\n", p->name, what, ot_dtype_info(compute)->name, worst,
                sqrt(error / square), tensor_limit);
    return 1;
}

static int compare_large(const opcheck_problem *p, ot_dtype compute) {
    opcheck_result a, b;
    opcheck_run(p, &ot_backend_ref64, OT_F64, true, &a);
    opcheck_run(p, &ot_backend_cpu, compute, true, &b);
    int bad = tensor_differs(p, "out", a.out, b.out, p->out.rows * p->out.cols, compute);
    for (int i = 0; i < OT_OP_INPUTS; i++) bad += tensor_differs(p, "dx", a.dx[i], b.dx[i], p->in[i].rows * p->in[i].cols, compute);
    for (int i = 0; i < OT_OP_WEIGHTS; i++) bad += tensor_differs(p, "dw", a.dw[i], b.dw[i], p->w[i].rows * p->w[i].cols, compute);
    bad += tensor_differs(p, "target_loss", a.target_loss, b.target_loss, p->batch.n_targets, compute);
    if (p->kind == OT_OP_HEAD_LOSS) bad += tensor_differs(p, "loss", &a.loss_sum, &b.loss_sum, 1, compute);
    opcheck_result_free(&a);
    opcheck_result_free(&b);
    return bad;
}

static void compare(const ot_cpu_kernels *table, int compute) {
    int bad = opcheck_compare_backends(&ot_backend_ref64, OT_F64, &ot_backend_cpu, (ot_dtype)compute, SEEDS);
    for (int i = 0; i < LARGE; i++) {
        opcheck_problem p;
        make_large(&p, i, 1);
        bad += compare_large(&p, (ot_dtype)compute);
        opcheck_free(&p);
    }
    if (bad) fail_msg("%d tensors differ with the %s loops", bad, table->name);
}

static void test_float(void **state) { (void)state, each_isa(compare, OT_F32); }
static void test_bf16(void **state) { (void)state, each_isa(compare, OT_BF16); }

static void test_complete(void **state) {
    (void)state;
    opcheck_complete(&ot_backend_cpu);
    assert_true(ot_backend_cpu.available());
    assert_true(ot_backend_cpu.supports(OT_F32) && ot_backend_cpu.supports(OT_BF16) && !ot_backend_cpu.supports(OT_F64));
}

/* HEAD_LOSS with a frozen head is computed in another way: the same up to rounding only, which test_float and test_bf16 check. */
static void test_unwanted(void **state) {
    (void)state;
    for (int kind = 0; kind < OT_OP_COUNT; kind++)
        for (int variant = 0; kind != OT_OP_HEAD_LOSS && variant < opcheck_variants(kind); variant++) {
            opcheck_problem p;
            opcheck_make(&p, kind, variant, 1);
            if (!p.forward_only) {
                opcheck_unwanted(&p, &ot_backend_cpu, OT_F32);
                opcheck_unwanted(&p, &ot_backend_cpu, OT_BF16);
            }
            opcheck_free(&p);
        }
}

/* ==== Threads ==== */

static void same(const opcheck_problem *p, const char *what, const double *a, const double *b, int64_t n) {
    if (a && b && memcmp(a, b, (size_t)n * sizeof *a) != 0) fail_msg("%s: %s depends on the number of threads", p->name, what);
}

static void check_threads(const opcheck_problem *p, ot_dtype compute, bool backward) {
    opcheck_result r[3];
    for (int threads = 1; threads <= 3; threads++) {
        ot_threads_set(threads);
        opcheck_run(p, &ot_backend_cpu, compute, backward, &r[threads - 1]);
    }
    for (int k = 1; k < 3; k++) {
        same(p, "out", r[0].out, r[k].out, p->out.rows * p->out.cols);
        for (int i = 0; i < OT_OP_INPUTS; i++) same(p, "dx", r[0].dx[i], r[k].dx[i], p->in[i].rows * p->in[i].cols);
        for (int i = 0; i < OT_OP_WEIGHTS; i++) same(p, "dw", r[0].dw[i], r[k].dw[i], p->w[i].rows * p->w[i].cols);
        same(p, "target_loss", r[0].target_loss, r[k].target_loss, p->batch.n_targets);
        same(p, "loss", &r[0].loss_sum, &r[k].loss_sum, 1);
    }
    for (int k = 0; k < 3; k++) opcheck_result_free(&r[k]);
    ot_threads_set(0);
}

static void test_threads(void **state) {
    (void)state;
    opcheck_problem p;
    for (int i = 0; i < LARGE; i++) {
        make_large(&p, i, 2);
        check_threads(&p, OT_F32, true);
        check_threads(&p, OT_BF16, true);
        opcheck_free(&p);
    }
    for (int kind = 0; kind < OT_OP_COUNT; kind++)
        for (int variant = 0; variant < opcheck_variants(kind); variant++) {
            opcheck_make(&p, kind, variant, 3);
            check_threads(&p, OT_F32, true);
            check_threads(&p, OT_BF16, true);
            opcheck_free(&p);
        }
}

/* ==== The loss by 16 sums ==== */

/* Scores of 0 for the target and -17.5 for the others: behind the target, the others of its sum are below half a unit in the last place of 1. */
static void make_sums16(opcheck_problem *p, int64_t vocabulary, int64_t target) {
    enum { ROWS = 130, D = 16 };
    opcheck_begin(p, OT_OP_HEAD_LOSS, 1, "16 sums, target %d of %d", (int)target, (int)vocabulary);
    double *x = opcheck_alloc(p, (int64_t)ROWS * D, sizeof *x), *w = opcheck_alloc(p, vocabulary * D, sizeof *w);
    for (int64_t i = 0; i < ROWS; i++) x[i * D] = 1;
    for (int64_t v = 0; v < vocabulary; v++) w[v * D] = v == target ? 0 : -17.5;
    p->in[0] = opcheck_tensor_make(p, ROWS, D, x);
    p->w[0] = opcheck_tensor_make(p, vocabulary, D, w);
    p->w[0].stored = OT_F32;
    p->in[0].wanted = p->w[0].wanted = p->w[1].wanted = false;
    int32_t *targets = opcheck_alloc(p, ROWS, sizeof *targets);
    for (int64_t i = 0; i < ROWS; i++) targets[i] = (int32_t)target;
    p->batch.rows = p->batch.n_targets = ROWS;
    p->batch.targets = targets;
    p->forward_only = true;
    p->attr.head.sums16 = true;
}

static void check_sums16(int64_t vocabulary, int64_t target) {
    opcheck_problem p;
    opcheck_result r;
    int64_t lost = (vocabulary - 1 - target) / 16; /* behind the target in its sum */
    double wanted = log1p((double)(vocabulary - 1 - lost) * exp(-17.5));
    make_sums16(&p, vocabulary, target);
    opcheck_run(&p, &ot_backend_cpu, OT_F32, false, &r);
    for (int64_t i = 0; i < p.batch.n_targets; i++) {
        if (!(fabs(r.target_loss[i] - wanted) <= 4e-7)) fail_msg("%s, %s: %.9g instead of %.9g", p.name, ot_cpu_pick()->name, r.target_loss[i], wanted);
    }
    opcheck_result_free(&r);
    check_threads(&p, OT_F32, false);
    opcheck_free(&p);
}

static void check_all_sums16(const ot_cpu_kernels *table, int unused) {
    (void)table, (void)unused;
    check_sums16(32000, 0);
    check_sums16(32000, 17);
    check_sums16(32000, 20001);
    check_sums16(32007, 32006);
    check_sums16(50003, 300);
}

static void test_sums16(void **state) {
    (void)state;
    each_isa(check_all_sums16, 0);
}

/* ==== Errors ==== */

static void test_errors(void **state) {
    (void)state;
    opcheck_problem p;
    opcheck_make(&p, OT_OP_EMBED, 1, 1);
    int32_t ids[64] = {0};
    ids[3] = (int32_t)p.w[0].rows;
    float w[64 * 64] = {0}, y[64 * 64] = {0};
    ot_error err = {0};
    ot_batch batch = {.ids = ids};
    ot_call call = {.kind = OT_OP_EMBED, .attr = &p.attr, .batch = &batch, .err = &err};
    call.w[0] = (ot_weight){.w = w, .dtype = OT_F32, .rows = p.w[0].rows, .cols = 4};
    call.out = (ot_view){.x = y, .dtype = OT_F32, .rows = 5, .cols = 4};
    assert_int_equal(ot_backend_cpu.forward[OT_OP_EMBED](&call), OT_ERR_USAGE);
    assert_non_null(strstr(err.message, "id"));
    opcheck_free(&p);

    make_linear(&p, 0, 1);
    call = (ot_call){.kind = OT_OP_LINEAR, .attr = &p.attr, .batch = &batch, .err = &err};
    call.in[0] = (ot_view){.x = y, .dtype = OT_F32, .rows = 8, .cols = 8};
    call.out = (ot_view){.x = y, .dtype = OT_F32, .rows = 8, .cols = 8};
    call.w[0] = (ot_weight){.w = w, .dtype = OT_F16, .rows = 8, .cols = 8};
    assert_int_equal(ot_backend_cpu.forward[OT_OP_LINEAR](&call), OT_ERR_USAGE);
    assert_non_null(strstr(err.message, "scratch"));
    opcheck_free(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_complete), cmocka_unit_test(test_float),   cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_unwanted), cmocka_unit_test(test_threads), cmocka_unit_test(test_sums16),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
