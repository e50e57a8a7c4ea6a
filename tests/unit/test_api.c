/* The public library, used as somebody else's program would: through offsite/offsite.h alone, but for what makes and spoils files. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <offsite/offsite.h>

#include "format/safetensors.h"
#include "support/scratch.h"

#define MODEL TEST_DATA_DIR "/../golden/data/models/gpt2"

static void must(offsite_status status, const offsite_error *error) {
    if (status != OFFSITE_OK) fail_msg("%s", error->message);
}

static void models_score_and_continue(void **state) {
    (void)state;
    offsite_error error = {0};
    offsite_model *m = NULL;
    must(offsite_model_open(MODEL, &m, &error), &error);
    offsite_model_info info;
    offsite_model_describe(m, &info);
    assert_true(info.layers > 0 && info.hidden_size > 0 && info.parameters > info.vocab_size * info.hidden_size && info.bytes >= info.parameters * 2);

    /* What PyTorch continues with, from the committed fixture. */
    ot_safetensors *golden = NULL;
    ot_error err = {0};
    assert_int_equal(ot_safetensors_open(MODEL "/generate.safetensors", &golden, &err), OT_OK);
    const ot_tensor *prompt = ot_safetensors_find(golden, "prompt"), *wanted = ot_safetensors_find(golden, "ids");
    int32_t ids[64], out[64];
    int64_t count = prompt->shape[1], made = 0, n = wanted->shape[1];
    assert_true(count + n <= 64);
    for (int64_t i = 0; i < count; i++) ids[i] = (int32_t)((const int64_t *)prompt->data)[i];
    must(offsite_model_generate(m, ids, count, n, 0.0, 0, out, &made, &error), &error);
    assert_true(made > 0 && made <= n);
    for (int64_t i = 0; i < made; i++) assert_int_equal(out[i], ((const int64_t *)wanted->data)[i]);

    /* The likeliest continuation costs less than another token in its place. */
    double likely = 0, other = 0;
    ids[count] = out[0];
    must(offsite_model_loss(m, ids, count + 1, &likely, &error), &error);
    ids[count] = (out[0] + 1) % (int32_t)info.vocab_size;
    must(offsite_model_loss(m, ids, count + 1, &other, &error), &error);
    assert_true(isfinite(likely) && likely < other);

    ids[0] = (int32_t)info.vocab_size;
    assert_int_equal(offsite_model_loss(m, ids, count, &likely, &error), OFFSITE_FORMAT);
    assert_non_null(strstr(error.message, "outside the vocabulary"));
    assert_int_equal(offsite_model_loss(m, ids, 1, &likely, NULL), OFFSITE_USAGE);
    ot_safetensors_close(golden);
    offsite_model_close(m);
    offsite_model_close(NULL);
}

static void the_exchange_is_checked(void **state) {
    (void)state;
    scratch s;
    offsite_error error = {0};
    offsite_model *m = NULL, *offer = NULL;
    char id[OFFSITE_ID_TEXT] = "", path[1024], inside[1100];
    scratch_open(&s, TEST_BINARY_DIR);
    must(offsite_model_open(MODEL, &m, &error), &error);
    snprintf(path, sizeof path, "%s", scratch_path(&s, "offer"));
    must(offsite_split(m, path, &(offsite_split_options){.bottom = 1, .top = 0, .emulator = ""}, id, &error), &error);
    assert_true(strlen(id) >= 16);
    must(offsite_verify(path, NULL, &error), &error);
    must(offsite_model_open(path, &offer, &error), &error);
    offsite_model_close(offer);

    assert_int_equal(offsite_split(m, path, &(offsite_split_options){.bottom = 1, .top = 0}, NULL, &error), OFFSITE_REFUSED);
    assert_int_equal(offsite_split(m, scratch_path(&s, "none"), &(offsite_split_options){.bottom = 99, .top = 99}, NULL, &error), OFFSITE_USAGE);
    /* Nothing is written over, into or around what is read. */
    static const struct {
        const char *output, *words;
    } near[] = {{MODEL, "is the model itself"}, {MODEL "/../gpt2/", "is the model itself"}, {MODEL "/inner", "lies inside the model"}, {MODEL "/..", "holds the model"}};
    for (size_t i = 0; i < sizeof near / sizeof *near; i++) {
        assert_int_equal(offsite_split(m, near[i].output, &(offsite_split_options){.bottom = 1, .top = 0}, NULL, &error), OFFSITE_USAGE);
        assert_non_null(strstr(error.message, near[i].words));
        assert_int_equal(offsite_plug(MODEL, path, NULL, near[i].output, &error), OFFSITE_USAGE);
        assert_non_null(strstr(error.message, near[i].words));
    }
    assert_int_equal(offsite_plug(MODEL, path, NULL, path, &error), OFFSITE_USAGE);
    assert_non_null(strstr(error.message, "is the return itself"));
    snprintf(inside, sizeof inside, "%s/plugged", path);
    assert_int_equal(offsite_plug(MODEL, path, NULL, inside, &error), OFFSITE_USAGE);
    assert_non_null(strstr(error.message, "lies inside the return"));
    /* An offer is no return. */
    assert_int_not_equal(offsite_plug(MODEL, path, NULL, scratch_path(&s, "plugged"), &error), OFFSITE_OK);

    char weights[1100];
    snprintf(weights, sizeof weights, "%s/model.safetensors", path);
    FILE *f = fopen(weights, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, -1, SEEK_END), 0);
    int last = fgetc(f);
    assert_int_equal(fseek(f, -1, SEEK_END), 0);
    fputc(last ^ 1, f);
    fclose(f);
    assert_int_equal(offsite_verify(path, NULL, &error), OFFSITE_REFUSED);
    assert_true(error.message[0] != '\0');
    offsite_model_close(m);
    scratch_close(&s);
}

static void tokenizers_go_both_ways(void **state) {
    (void)state;
    offsite_error error = {0};
    offsite_tokenizer *t = NULL;
    assert_int_equal(offsite_tokenizer_open(TEST_DATA_DIR "/no-such-file.json", &t, &error), OFFSITE_IO);
    assert_non_null(strstr(error.message, "no-such-file.json"));
    const char *path = TEST_SHARED_DIR "/golden/tokenizers/smollm2";
    FILE *f = fopen(TEST_SHARED_DIR "/golden/tokenizers/smollm2/tokenizer.json", "rb");
    if (f == NULL) {
        print_message("skipped: %s is not there\n", path);
        skip();
    }
    fclose(f);
    must(offsite_tokenizer_open(path, &t, &error), &error);
    static const char text[] = "Caf\xC3\xA9 by the river";
    int32_t *ids = NULL;
    int64_t count = 0;
    char *back = NULL;
    must(offsite_tokenizer_encode(t, text, sizeof text - 1, &ids, &count, &error), &error);
    assert_true(count > 3);
    must(offsite_tokenizer_decode(t, ids, count, &back, &error), &error);
    assert_string_equal(back, text);
    offsite_free(ids);
    offsite_free(back);
    offsite_tokenizer_close(t);
}

int main(void) {
    assert_string_equal(offsite_version(), OFFSITE_VERSION);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(models_score_and_continue),
        cmocka_unit_test(the_exchange_is_checked),
        cmocka_unit_test(tokenizers_go_both_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
