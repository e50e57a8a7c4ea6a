/* Data files as rows of ids with a target for each position, and the order in which an epoch takes them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "format/tokenizer.h"
#include "support/scratch.h"
#include "support/tiny.h"
#include "train/dataset.h"

#define TOKENIZER TEST_DATA_DIR "/tokenizer/gpt2"
enum { VOCAB = 100 };

static int setup(void **state) {
    static scratch s;
    scratch_open(&s, TEST_BINARY_DIR);
    *state = &s;
    return 0;
}

static int teardown(void **state) {
    scratch_close(*state);
    return 0;
}

static ot_dataset open_data(const char *path, int64_t block, int64_t limit) {
    ot_dataset d = {0};
    ot_error err = {0};
    if (ot_dataset_open(path, TOKENIZER, block, VOCAB, limit, &d, &err) != OT_OK) fail_msg("%s", err.message);
    return d;
}

static void refused(const char *path, int64_t block, int64_t vocab, ot_status code, const char *part) {
    ot_dataset d = {0};
    ot_error err = {0};
    ot_status status = ot_dataset_open(path, TOKENIZER, block, vocab, 0, &d, &err);
    if (status != code || strstr(err.message, part) == NULL) {
        fail_msg("wanted %s with \"%s\", got %s: %s", ot_status_name(code), part, ot_status_name(status), err.message);
    }
    assert_null(d.ids);
}

static void expect_targets(const ot_dataset *d, const int32_t *targets) {
    for (int64_t i = 0; i < d->rows * d->length; i++) {
        if (d->targets[i] != targets[i]) fail_msg("target %lld is %d, expected %d", (long long)i, d->targets[i], targets[i]);
    }
}

/* ==== Ids. ==== */

static void ids_predict_the_next(void **state) {
    static const int64_t ids[] = {5, 6, 7, 8, 9, 10};
    const ot_tensor tensors[] = {tiny_i64("input_ids", ids, 2, 3)};
    const char *path = scratch_path(*state, "a.safetensors");
    tiny_write(path, tensors, 1);
    ot_dataset d = open_data(path, 0, 0);
    assert_int_equal(d.rows, 2);
    assert_int_equal(d.length, 3);
    assert_int_equal(d.tokens, 6);
    assert_null(d.mask);
    for (int i = 0; i < 6; i++) assert_int_equal(d.ids[i], ids[i]);
    expect_targets(&d, (const int32_t[]){6, 7, -1, 9, 10, -1});
    assert_int_equal(d.counted[0], 2);
    assert_int_equal(ot_dataset_targets(&d), 4);
    ot_dataset_free(&d);
    d = open_data(path, 0, 1);
    assert_int_equal(d.rows, 1);
    ot_dataset_free(&d);
}

static void labels_are_shifted_and_minus_100_counts_for_nothing(void **state) {
    static const int64_t ids[] = {5, 6, 7, 8, 9, 10}, labels[] = {99, 50, -100, 98, -100, 51};
    const ot_tensor tensors[] = {tiny_i64("input_ids", ids, 2, 3), tiny_i64("labels", labels, 2, 3)};
    const char *path = scratch_path(*state, "a.safetensors");
    tiny_write(path, tensors, 2);
    ot_dataset d = open_data(path, 0, 0);
    expect_targets(&d, (const int32_t[]){50, -1, -1, -1, 51, -1});
    assert_int_equal(d.counted[0], 1);
    assert_int_equal(d.counted[1], 1);
    ot_dataset_free(&d);
}

static void masked_tokens_are_neither_read_nor_predicted(void **state) {
    /* Right padding, left padding; the padding's ids need not be ids at all. */
    static const int64_t ids[] = {5, 6, -7, 1000, 9, 10}, mask[] = {1, 1, 0, 0, 1, 7};
    ot_tensor tensors[] = {tiny_i64("input_ids", ids, 2, 3), tiny_i64("attention_mask", mask, 2, 3), tiny_i64("labels", ids, 2, 3)};
    const char *path = scratch_path(*state, "a.safetensors");
    tiny_write(path, tensors, 2);
    ot_dataset d = open_data(path, 0, 0);
    expect_targets(&d, (const int32_t[]){6, -1, -1, -1, 10, -1});
    assert_int_equal(d.tokens, 4);
    for (int i = 0; i < 6; i++) assert_int_equal(d.mask[i], mask[i] != 0);
    ot_dataset_free(&d);
    /* With labels these alone say what counts, as in transformers: a label behind the mask is wrong here only because it is no id. */
    tiny_write(path, tensors, 3);
    refused(path, 0, VOCAB, OT_ERR_FORMAT, "labels[0, 2] is -7");
    static const int64_t labels[] = {5, 6, 7, 8, 9, 10};
    tensors[2] = tiny_i64("labels", labels, 2, 3);
    tiny_write(path, tensors, 3);
    d = open_data(path, 0, 0);
    expect_targets(&d, (const int32_t[]){6, 7, -1, -1, 10, -1});
    ot_dataset_free(&d);
}

static void bad_ids_are_refused(void **state) {
    static const int64_t ids[] = {5, 6, 7, 100}, low[] = {5, -1, 7, 8}, nothing[] = {-100, -100, -100, -100};
    static const float floats[] = {1, 2, 3, 4};
    const char *path = scratch_path(*state, "a.safetensors");
    ot_tensor tensors[] = {tiny_i64("input_ids", ids, 2, 2), tiny_i64("labels", nothing, 2, 2)};
    tiny_write(path, tensors, 1);
    refused(path, 0, VOCAB, OT_ERR_FORMAT, "input_ids[1, 1] is 100, outside the vocabulary of 100");
    tensors[0] = tiny_i64("input_ids", low, 2, 2);
    tiny_write(path, tensors, 1);
    refused(path, 0, VOCAB, OT_ERR_FORMAT, "input_ids[0, 1] is -1");
    tensors[0] = tiny_i64("input_ids", ids, 4, 1);
    tiny_write(path, tensors, 1);
    refused(path, 0, 1000, OT_ERR_FORMAT, "two tokens or more");
    tensors[0] = tiny_f32("input_ids", floats, 4);
    tiny_write(path, tensors, 1);
    refused(path, 0, 1000, OT_ERR_FORMAT, "needs a tensor input_ids");
    tensors[0] = tiny_i64("ids", ids, 2, 2);
    tiny_write(path, tensors, 1);
    refused(path, 0, 1000, OT_ERR_FORMAT, "needs a tensor input_ids");
    tensors[0] = tiny_i64("input_ids", ids, 2, 2);
    tiny_write(path, tensors, 2);
    refused(path, 0, 1000, OT_ERR_REFUSED, "every label is ignored");
    tensors[1] = tiny_i64("labels", ids, 1, 4);
    tiny_write(path, tensors, 2);
    refused(path, 0, 1000, OT_ERR_FORMAT, "tensor labels must be int64 with the shape of input_ids");
    tensors[1] = tiny_i64("attention_mask", ids, 4, 1);
    tiny_write(path, tensors, 2);
    refused(path, 0, 1000, OT_ERR_FORMAT, "tensor attention_mask must be");
    static const int64_t label[] = {5, -1, 5, 5};
    tensors[1] = tiny_i64("labels", label, 2, 2);
    tiny_write(path, tensors, 2);
    refused(path, 0, 1000, OT_ERR_FORMAT, "labels[0, 1] is -1: neither a token id nor -100");
    refused(scratch_path(*state, "none.safetensors"), 0, 1000, OT_ERR_IO, "none.safetensors");
}

/* ==== Text. ==== */

static void text_is_cut_into_blocks(void **state) {
    static const char text[] = "The owner of a model keeps its middle layers. The rest goes out, and comes back tuned.\n";
    const char *path = scratch_path(*state, "a.txt");
    tiny_text(path, text);
    ot_tokenizer *t = NULL;
    ot_error err = {0};
    int32_t *ids = NULL;
    int64_t n = 0;
    assert_int_equal(ot_tokenizer_open(TOKENIZER, &t, &err), OT_OK);
    assert_int_equal(ot_tokenizer_encode(t, text, sizeof text - 1, false, &ids, &n, &err), OT_OK);
    for (int64_t block = 2; block < 12; block++) {
        ot_dataset d = {0};
        if (ot_dataset_open(path, TOKENIZER, block, 100000, 0, &d, &err) != OT_OK) fail_msg("%s", err.message);
        assert_int_equal(d.text_tokens, n);
        assert_int_equal(d.rows, n / block);
        assert_int_equal(d.length, block);
        assert_int_equal(d.tokens, d.rows * block);
        assert_memory_equal(d.ids, ids, (size_t)(d.rows * block) * 4);
        for (int64_t i = 0; i < d.rows * block; i++) assert_int_equal(d.targets[i], i % block == block - 1 ? -1 : ids[i + 1]);
        assert_int_equal(ot_dataset_targets(&d), d.rows * (block - 1));
        ot_dataset_free(&d);
    }
    refused(path, n + 1, 100000, OT_ERR_REFUSED, "fewer than one block");
    refused(path, 4, 3, OT_ERR_FORMAT, "they do not belong together");
    tiny_text(path, "");
    refused(path, 4, 100000, OT_ERR_FORMAT, "is empty");
    ot_free(ids);
    ot_tokenizer_close(t);
}

/* ==== Order. ==== */

static void shuffling_is_a_permutation_of_seed_and_epoch(void **state) {
    (void)state;
    enum { ROWS = 57 };
    const ot_dataset d = {.rows = ROWS};
    int64_t order[ROWS], again[ROWS], other[ROWS];
    for (uint64_t seed = 0; seed < 4; seed++) {
        for (int64_t epoch = 0; epoch < 4; epoch++) {
            bool seen[ROWS] = {false};
            ot_dataset_order(&d, true, seed, epoch, order);
            ot_dataset_order(&d, true, seed, epoch, again);
            assert_memory_equal(order, again, sizeof order);
            for (int i = 0; i < ROWS; i++) {
                assert_in_range(order[i], 0, ROWS - 1);
                assert_false(seen[order[i]]);
                seen[order[i]] = true;
            }
            ot_dataset_order(&d, true, seed + 1, epoch, other);
            assert_memory_not_equal(order, other, sizeof order);
            ot_dataset_order(&d, true, seed, epoch + 1, other);
            assert_memory_not_equal(order, other, sizeof order);
        }
    }
    ot_dataset_order(&d, false, 5, 3, order);
    for (int i = 0; i < ROWS; i++) assert_int_equal(order[i], i);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ids_predict_the_next, setup, teardown),
        cmocka_unit_test_setup_teardown(labels_are_shifted_and_minus_100_counts_for_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(masked_tokens_are_neither_read_nor_predicted, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_ids_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(text_is_cut_into_blocks, setup, teardown),
        cmocka_unit_test(shuffling_is_a_permutation_of_seed_and_epoch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
