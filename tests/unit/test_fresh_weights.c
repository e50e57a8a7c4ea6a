/* Fresh weights: in BF16 the same values rounded, in half the memory; vectors stay F32; the row of the padding token is zero. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/mem.h"
#include "model/model.h"
#include "tensor/dtype.h"

static const char config[] = "{\"model_type\": \"opt\", \"num_hidden_layers\": 2, \"hidden_size\": 72, \"ffn_dim\": 144, \"num_attention_heads\": 2, "
                             "\"word_embed_proj_dim\": 72, \"vocab_size\": 301, \"pad_token_id\": 7, \"max_position_embeddings\": 32}";

static ot_model *fresh(uint64_t seed, ot_dtype matrices) {
    ot_error err = {0};
    ot_model *m = NULL;
    assert_int_equal(ot_model_from_json(json_loads(config, 0, NULL), "config", &m, &err), OT_OK);
    assert_int_equal(ot_model_initialise(m, seed, matrices, &err), OT_OK);
    return m;
}

static void bf16_is_f32_rounded(void **state) {
    (void)state;
    ot_model *full = fresh(3, OT_F32), *half = fresh(3, OT_BF16);
    int64_t matrices = 0;
    for (int64_t i = 0; i < full->n_params; i++) {
        const ot_param *a = &full->params[i], *b = &half->params[i];
        const float *values = a->slot.data;
        assert_int_equal(a->slot.dtype, OT_F32);
        assert_int_equal(b->slot.dtype, a->stored.n_dims < 2 ? OT_F32 : OT_BF16);
        for (int64_t k = 0; k < ot_param_elements(a); k++) {
            if (b->slot.dtype == OT_F32) {
                assert_memory_equal(&values[k], (const float *)b->slot.data + k, sizeof(float));
            } else {
                assert_int_equal(ot_f32_to_bf16(values[k]), ((const ot_bf16 *)b->slot.data)[k]);
            }
        }
        matrices += b->slot.dtype == OT_BF16;
    }
    assert_true(matrices >= 14);
    ot_model_close(full);
    ot_model_close(half);
}

static void the_padding_row_is_zero(void **state) {
    (void)state;
    ot_model *m = fresh(4, OT_F32);
    for (int64_t i = 0; i < m->n_params; i++) {
        const ot_param *p = &m->params[i];
        if (p->role != OT_ROLE_EMBED) continue;
        int64_t zeros = 0;
        for (int64_t k = 0; k < ot_param_elements(p); k++) zeros += ((const float *)p->slot.data)[k] == 0.0F;
        assert_int_equal(zeros, 72);
        for (int64_t k = 0; k < 72; k++) assert_true(((const float *)p->slot.data)[7 * 72 + k] == 0.0F);
    }
    ot_model_close(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(bf16_is_f32_rounded), cmocka_unit_test(the_padding_row_is_zero)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
