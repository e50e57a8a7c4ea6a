/* The table of operations, and every backend of this build: complete, and equal to the reference on all built-in problems. */
#include "support/opcheck.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "engine/dropout.h"

static void test_traits(void **state) {
    (void)state;
    for (int kind = 0; kind < OT_OP_COUNT; kind++) {
        const ot_op_traits *t = ot_op_info(kind);
        assert_non_null(t->name);
        assert_true(t->inputs <= OT_OP_INPUTS);
        for (int other = 0; other < kind; other++) assert_string_not_equal(t->name, ot_op_info(other)->name);
        /* a kernel reads only inputs that the kind has */
        unsigned all = (1U << t->inputs) - 1 + OT_NEEDS_OUT;
        assert_int_equal((t->needs_for_dx | t->needs_for_dw) & ~all, 0);
    }
}

static void test_save_bytes(void **state) {
    (void)state;
    ot_op_attr norm = {.norm = {.width = 8}}, attention = {.attention = {.heads = 5}};
    assert_int_equal(ot_op_save_bytes(OT_OP_NORM, &norm, 3, 24, OT_F32), 3 * 3 * 2 * 4);
    assert_int_equal(ot_op_save_bytes(OT_OP_NORM, &norm, 3, 24, OT_BF16), 3 * 3 * 2 * 4);
    assert_int_equal(ot_op_save_bytes(OT_OP_NORM, &norm, 3, 24, OT_F64), 3 * 3 * 2 * 8);
    assert_int_equal(ot_op_save_bytes(OT_OP_ATTENTION, &attention, 7, 40, OT_F32), 5 * 7 * 4);
    assert_int_equal(ot_op_save_bytes(OT_OP_ATTENTION, &attention, 7, 40, OT_F64), 5 * 7 * 8);
    assert_int_equal(ot_op_save_bytes(OT_OP_LINEAR, &norm, 7, 40, OT_F32), 0);
    ot_op_attr low_rank = {.low_rank = {.r = 5, .M = 70, .N = 33}};
    assert_int_equal(ot_op_save_bytes(OT_OP_LOW_RANK, &low_rank, 7, 33, OT_F32), 256 + 8 * 48 * 4);
    low_rank.low_rank.p = 0.5F;
    assert_int_equal(ot_op_save_bytes(OT_OP_LOW_RANK, &low_rank, 7, 33, OT_F32), 256 + 8 * 48 * 4 + 128);
    low_rank.low_rank.r = OT_LOW_RANK_KEPT + 1;
    assert_int_equal(ot_op_save_bytes(OT_OP_LOW_RANK, &low_rank, 7, 33, OT_F32), 0);
    low_rank.low_rank.r = 0;
    assert_int_equal(ot_op_save_bytes(OT_OP_LOW_RANK, &low_rank, 7, 33, OT_F32), 0);
}

static void test_complete(void **state) {
    (void)state;
    int n = 0;
    for (const ot_backend *const *b = ot_backends; *b; b++, n++) opcheck_complete(*b);
    assert_true(n >= 2);
}

/* In F32 and F64 against the double reference, in bf16 too: problems hold numbers that bf16 has exactly. */
static void test_agree(void **state) {
    (void)state;
    int bad = 0;
    for (const ot_backend *const *b = ot_backends; *b; b++)
        for (ot_dtype compute = OT_F32; compute <= OT_BF16; compute++)
            if ((*b)->available() && (*b)->supports(compute)) bad += opcheck_compare_backends(&ot_backend_ref64, OT_F64, *b,
                                                                                              compute, 2);
    assert_int_equal(bad, 0);
}

/* A backend whose LINEAR gets one element slightly wrong: the comparison must see it. */
static ot_status spoiled_linear(const ot_call *call) {
    OT_TRY(ot_backend_ref.forward[OT_OP_LINEAR](call));
    if (call->out.dtype == OT_F32) ((float *)call->out.x)[0] *= 1.0002F;
    else ((ot_bf16 *)call->out.x)[0] ^= 8; /* eight units in the last place */
    return OT_OK;
}

static void test_comparison_sees(void **state) {
    (void)state;
    ot_backend spoiled = ot_backend_ref;
    spoiled.name = "a spoiled copy, which is to fail";
    spoiled.forward[OT_OP_LINEAR] = spoiled_linear;
    opcheck_problem p;
    opcheck_make(&p, OT_OP_LINEAR, 0, 1); /* one element, so it is as large as the tensor's mean */
    assert_int_equal(opcheck_compare(&p, &ot_backend_ref64, OT_F64, &spoiled, OT_F32), 1);
    assert_int_equal(opcheck_compare(&p, &ot_backend_ref64, OT_F64, &spoiled, OT_BF16), 1);
    assert_int_equal(opcheck_compare(&p, &ot_backend_ref64, OT_F64, &ot_backend_ref, OT_F32), 0);
    assert_int_equal(opcheck_compare(&p, &ot_backend_ref64, OT_F64, &ot_backend_ref, OT_BF16), 0);
    opcheck_free(&p);
}

/* The mask has the right density, and differs between sites and between seeds. */
static void test_dropout_mask(void **state) {
    (void)state;
    enum { N = 20000 };
    int kept = 0, same_site = 0, same_seed = 0;
    uint64_t a = ot_dropout_site_seed(1, 0), b = ot_dropout_site_seed(1, 1), c = ot_dropout_site_seed(2, 0);
    for (int64_t i = 0; i < N; i++) {
        bool keeps = ot_dropout_keeps(a, i, 0.25F);
        kept += keeps;
        same_site += keeps == ot_dropout_keeps(b, i, 0.25F);
        same_seed += keeps == ot_dropout_keeps(c, i, 0.25F);
    }
    /* means 0.75 and 0.75^2 + 0.25^2 = 0.625; five standard deviations are 0.0153 and 0.0171 */
    assert_in_range(kept, (int)(0.734 * N), (int)(0.766 * N));
    assert_in_range(same_site, (int)(0.607 * N), (int)(0.643 * N));
    assert_in_range(same_seed, (int)(0.607 * N), (int)(0.643 * N));
}

/* What the reference refuses instead of reading outside its arrays. */
static void expect_refusal(ot_op_kind kind, int variant, void (*spoil)(opcheck_problem *p, ot_call *call), const char *word) {
    opcheck_problem p;
    opcheck_make(&p, kind, variant, 1);
    ot_error err = {0};
    ot_batch batch = p.batch;
    ot_call call = {.kind = kind, .attr = &p.attr, .batch = &batch, .err = &err};
    const opcheck_tensor *tensors[] = {&p.in[0], &p.in[1], &p.in[2], &p.out};
    ot_view *views[] = {&call.in[0], &call.in[1], &call.in[2], &call.out};
    for (int i = 0; i < 4; i++) {
        int64_t n = tensors[i]->rows * tensors[i]->cols;
        *views[i] = (ot_view){.dtype = OT_F64, .rows = tensors[i]->rows, .cols = tensors[i]->cols};
        views[i]->x = opcheck_alloc(&p, n, sizeof(double));
        views[i]->dx = opcheck_alloc(&p, n, sizeof(double));
    }
    for (int i = 0; i < OT_OP_WEIGHTS; i++)
        if (p.w[i].x) call.w[i] = (ot_weight){.dtype = OT_F64, .rows = p.w[i].rows, .cols = p.w[i].cols, .w = p.w[i].x,
                                              .dw = p.w[i].g};
    call.save = opcheck_alloc(&p, ot_op_save_bytes(kind, &p.attr, p.in[0].rows, p.in[0].cols, OT_F64), 1);
    call.scratch_bytes = ot_backend_ref64.scratch(&call);
    call.scratch = opcheck_alloc(&p, (int64_t)call.scratch_bytes, 1);
    spoil(&p, &call);
    assert_int_equal(ot_backend_ref64.backward[kind](&call), OT_ERR_USAGE);
    if (!strstr(err.message, word)) fail_msg("\"%s\" does not say \"%s\"", err.message, word);
    opcheck_free(&p);
}

static int32_t *one_int(opcheck_problem *p, int64_t n, int32_t value) {
    int32_t *ints = opcheck_alloc(p, n, sizeof *ints);
    ints[n - 1] = value;
    return ints;
}
static void large_id(opcheck_problem *p, ot_call *call) { call->batch->ids = one_int(p, p->out.rows, (int32_t)p->w[0].rows); }
static void after_virtual(opcheck_problem *p, ot_call *call) { call->batch->ids = one_int(p, p->out.rows, -5); }
static void negative_id(opcheck_problem *p, ot_call *call) { call->batch->ids = one_int(p, p->out.rows, -1); }
static void large_position(opcheck_problem *p, ot_call *call) {
    call->batch->positions = one_int(p, p->out.rows, (int32_t)p->w[0].rows - p->attr.position.offset);
}
static void large_row(opcheck_problem *p, ot_call *call) {
    call->batch->target_rows = one_int(p, p->out.rows, (int32_t)p->in[0].rows);
}
static void large_target(opcheck_problem *p, ot_call *call) {
    call->batch->targets = one_int(p, p->batch.n_targets, (int32_t)p->w[0].rows);
}
static void fewer_targets(opcheck_problem *p, ot_call *call) { call->batch->n_targets = p->batch.n_targets - 1; }
static void shared_prefix(opcheck_problem *p, ot_call *call) {
    ot_segment *s = opcheck_alloc(p, 1, sizeof *s);
    *s = (ot_segment){.nq = 1, .nk = 1, .k0 = 1, .n_prefix = 1};
    call->batch->segments = s;
    call->batch->n_segments = 1;
}
static void outside_segment(opcheck_problem *p, ot_call *call) {
    ot_segment *s = opcheck_alloc(p, 1, sizeof *s);
    *s = (ot_segment){.nq = 1, .nk = 2, .k0 = (int32_t)p->in[1].rows - 1};
    call->batch->segments = s;
    call->batch->n_segments = 1;
}
static void wrong_table(opcheck_problem *p, ot_call *call) { call->batch->rope[p->attr.rope.table].half++; }
static void small_scratch(opcheck_problem *p, ot_call *call) { (void)p, call->scratch_bytes--; }

static void test_refusals(void **state) {
    (void)state;
    expect_refusal(OT_OP_EMBED, 1, large_id, "id 3 of row 6");
    expect_refusal(OT_OP_EMBED, 1, negative_id, "id -1");
    expect_refusal(OT_OP_EMBED, 8, after_virtual, "id -5");
    expect_refusal(OT_OP_POSITION, 1, large_position, "position 6");
    expect_refusal(OT_OP_GATHER, 1, large_row, "target row 9");
    expect_refusal(OT_OP_HEAD_LOSS, 1, large_target, "target 11");
    expect_refusal(OT_OP_HEAD_LOSS, 1, fewer_targets, "7 hidden states for 6 targets");
    expect_refusal(OT_OP_ATTENTION, 1, shared_prefix, "shares a prefix");
    expect_refusal(OT_OP_ATTENTION, 1, outside_segment, "reaches outside");
    expect_refusal(OT_OP_ROPE, 1, wrong_table, "table rotates 6 pairs");
    expect_refusal(OT_OP_LINEAR, 1, small_scratch, "scratch");
    expect_refusal(OT_OP_DIVERGENCE, 1, small_scratch, "scratch");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_traits),       cmocka_unit_test(test_save_bytes), cmocka_unit_test(test_complete),
        cmocka_unit_test(test_agree),        cmocka_unit_test(test_comparison_sees),
        cmocka_unit_test(test_dropout_mask), cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
