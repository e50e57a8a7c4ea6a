/* The reference backend against finite differences, in float64, for every operation and everything that has a gradient; and what
 * the contract of op.h promises besides: gradients that are not wanted, and the same results in F32 and BF16 up to rounding. */
#include "support/opcheck.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { SEEDS = 1 };

static void check_kind(ot_op_kind kind) {
    assert_true(opcheck_variants(kind) > 0);
    for (int variant = 0; variant < opcheck_variants(kind); variant++)
        for (uint64_t seed = 1; seed <= SEEDS; seed++) {
            opcheck_problem p;
            opcheck_make(&p, kind, variant, seed);
            if (!p.forward_only) {
                opcheck_finite_differences(&p);
                opcheck_unwanted(&p, &ot_backend_ref64, OT_F64);
                opcheck_unwanted(&p, &ot_backend_ref, OT_BF16);
            }
            opcheck_free(&p);
        }
}

static void test_embed(void **state) { (void)state, check_kind(OT_OP_EMBED); }
static void test_position(void **state) { (void)state, check_kind(OT_OP_POSITION); }
static void test_norm(void **state) { (void)state, check_kind(OT_OP_NORM); }
static void test_linear(void **state) { (void)state, check_kind(OT_OP_LINEAR); }
static void test_rope(void **state) { (void)state, check_kind(OT_OP_ROPE); }
static void test_attention(void **state) { (void)state, check_kind(OT_OP_ATTENTION); }
static void test_act(void **state) { (void)state, check_kind(OT_OP_ACT); }
static void test_gate(void **state) { (void)state, check_kind(OT_OP_GATE); }
static void test_add(void **state) { (void)state, check_kind(OT_OP_ADD); }
static void test_scale(void **state) { (void)state, check_kind(OT_OP_SCALE); }
static void test_dropout(void **state) { (void)state, check_kind(OT_OP_DROPOUT); }
static void test_gather(void **state) { (void)state, check_kind(OT_OP_GATHER); }
static void test_class(void **state) { (void)state, check_kind(OT_OP_CLASS); }
static void test_pool(void **state) { (void)state, check_kind(OT_OP_POOL); }
static void test_head_loss(void **state) { (void)state, check_kind(OT_OP_HEAD_LOSS); }
static void test_distance(void **state) { (void)state, check_kind(OT_OP_DISTANCE); }
static void test_divergence(void **state) { (void)state, check_kind(OT_OP_DIVERGENCE); }
static void test_low_rank(void **state) { (void)state, check_kind(OT_OP_LOW_RANK); }
static void test_magnitude(void **state) { (void)state, check_kind(OT_OP_MAGNITUDE); }

static void test_float(void **state) {
    (void)state;
    assert_int_equal(opcheck_compare_backends(&ot_backend_ref64, OT_F64, &ot_backend_ref, OT_F32, SEEDS), 0);
}

static void test_bf16(void **state) {
    (void)state;
    assert_int_equal(opcheck_compare_backends(&ot_backend_ref64, OT_F64, &ot_backend_ref, OT_BF16, SEEDS), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_embed),     cmocka_unit_test(test_position), cmocka_unit_test(test_norm),
        cmocka_unit_test(test_linear),    cmocka_unit_test(test_rope),     cmocka_unit_test(test_attention),
        cmocka_unit_test(test_act),       cmocka_unit_test(test_gate),     cmocka_unit_test(test_add),
        cmocka_unit_test(test_scale),     cmocka_unit_test(test_dropout),   cmocka_unit_test(test_gather),   cmocka_unit_test(test_class),
        cmocka_unit_test(test_pool),      cmocka_unit_test(test_head_loss), cmocka_unit_test(test_distance),
        cmocka_unit_test(test_divergence), cmocka_unit_test(test_low_rank),
        cmocka_unit_test(test_magnitude),
        cmocka_unit_test(test_float),     cmocka_unit_test(test_bf16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
