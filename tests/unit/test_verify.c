/* Verification: sound bundles pass, and every single way of changing one is named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/json.h"
#include "model/save.h"
#include "protocol/return.h"
#include "protocol/split.h"
#include "protocol/verify.h"
#include "support/scratch.h"
#include "support/tiny.h"

typedef struct bundles {
    scratch s;
    char offer[1024], other[1024], given_back[1024], copy[1024]; /* copy: what a test spoils */
} bundles;

static void must(ot_status status, const ot_error *err) {
    if (status != OT_OK) fail_msg("%s", err->message);
}

static void make_offer(const ot_model *m, const char *dir, const char *emulator, bool own, ot_dtype dtype) {
    ot_error err = {0};
    ot_split_options o = {.bottom = 1, .top = 1, .emulator = emulator, .own_dtype = own, .dtype = dtype};
    ot_split_summary summary;
    must(ot_split(m, dir, &o, &summary, &err), &err);
}

/* A return of the offer's own values; value `at` of all becomes `value` when at >= 0. */
static void make_return(const char *offer_dir, const char *dir, int64_t at, float value) {
    ot_error err = {0};
    ot_manifest offer;
    ot_trainables t = {0};
    must(ot_manifest_read(offer_dir, OT_BUNDLE_NONE, &offer, &err), &err);
    ot_model *m = tiny_open(offer_dir);
    for (int64_t i = 0; i < m->n_params; i++) {
        if (ot_return_trains(&offer, "full", &m->params[i])) must(ot_trainables_add_param(&t, &m->params[i], &err), &err);
    }
    must(ot_trainables_bind(&t, OT_F32, false, &err), &err);
    if (at >= 0) t.master[at] = value;
    must(ot_make_dirs(dir, &err), &err);
    must(ot_return_write(dir, &offer, "full", &t, NULL, &err), &err);
    ot_trainables_free(&t);
    ot_model_close(m);
    ot_manifest_free(&offer);
}

static int set_up(void **state) {
    bundles *b = calloc(1, sizeof *b);
    assert_non_null(b);
    scratch_open(&b->s, TEST_BINARY_DIR);
    snprintf(b->offer, sizeof b->offer, "%s", scratch_path(&b->s, "offer"));
    snprintf(b->other, sizeof b->other, "%s", scratch_path(&b->s, "other"));
    snprintf(b->given_back, sizeof b->given_back, "%s", scratch_path(&b->s, "return"));
    snprintf(b->copy, sizeof b->copy, "%s", scratch_path(&b->s, "copy"));
    ot_model *m = tiny_open(TINY_COMMITTED("gpt2"));
    make_offer(m, b->offer, "layerdrop:keep=2", true, OT_F32);
    make_offer(m, b->other, "layerdrop:keep=2|fakequant:bits=3", true, OT_F32);
    ot_model_close(m);
    make_return(b->offer, b->given_back, -1, 0);
    *state = b;
    return 0;
}

static int tear_down(void **state) {
    bundles *b = *state;
    scratch_close(&b->s);
    free(b);
    return 0;
}

static void fresh_copy(bundles *b, const char *of) {
    ot_error err = {0};
    if (ot_path_exists(b->copy)) must(ot_remove_tree(b->copy, &err), &err);
    tiny_copy_dir(of, b->copy);
}

static const char *in_copy(bundles *b, const char *name) { return tiny_path(b->copy, name); }

/* The copy is refused; %s of the wanted sentence is the copy's path. */
static void refused_with(bundles *b, const char *offer, ot_status status, const char *before, const char *after) {
    ot_verify_report r;
    ot_error err = {0};
    char wanted[2048];
    snprintf(wanted, sizeof wanted, "%s%s", before, after);
    ot_status got = ot_verify(b->copy, offer, NULL, NULL, &r, &err);
    if (got == OT_OK) fail_msg("nothing was found, expected: %s", wanted);
    assert_string_equal(err.message, wanted);
    assert_int_equal(got, status);
    assert_int_equal(err.code, status);
}

static void refused(bundles *b, const char *file, const char *after) {
    char before[1100];
    snprintf(before, sizeof before, "%s%s%s", b->copy, file[0] != '\0' ? "/" : "", file);
    refused_with(b, NULL, OT_ERR_REFUSED, before, after);
}

static int64_t seen;
static void count(void *context, int64_t done, int64_t total) {
    (void)context;
    assert_int_equal(done, ++seen);
    assert_true(done <= total);
}

/* ==== Sound ones. ==== */

static void test_sound(void **state) {
    bundles *b = *state;
    ot_verify_report r;
    ot_error err = {0};
    seen = 0;
    must(ot_verify(b->offer, NULL, count, NULL, &r, &err), &err);
    ot_model *m = tiny_open(b->offer);
    assert_int_equal(r.manifest.kind, OT_BUNDLE_OFFER);
    assert_int_equal(r.tensors, m->n_params);
    assert_int_equal(r.values, ot_model_parameters(m));
    assert_int_equal(r.bytes, ot_model_stored_bytes(m));
    assert_int_equal(r.files, 1);
    assert_int_equal(seen, r.tensors);
    assert_int_equal(r.n_others, 0);
    ot_verify_report_free(&r);
    ot_model_close(m);

    must(ot_verify(b->given_back, NULL, NULL, NULL, &r, &err), &err);
    assert_int_equal(r.manifest.kind, OT_BUNDLE_RETURN);
    assert_false(r.fits_offer);
    ot_verify_report_free(&r);
    must(ot_verify(b->given_back, b->offer, NULL, NULL, &r, &err), &err);
    assert_true(r.fits_offer);
    ot_verify_report_free(&r);

    fresh_copy(b, b->offer);
    tiny_text(in_copy(b, "tokenizer.json"), "{}");
    tiny_text(in_copy(b, "LICENSE"), "free");
    must(ot_verify(b->copy, NULL, NULL, NULL, &r, &err), &err);
    assert_int_equal(r.n_others, 2);
    assert_string_equal(r.others[0], "LICENSE");
    assert_string_equal(r.others[1], "tokenizer.json");
    ot_verify_report_free(&r);
}

static void test_sound_in_16_bits_and_sharded(void **state) {
    bundles *b = *state;
    ot_verify_report r;
    ot_error err = {0};
    ot_model *m = tiny_open(TINY_COMMITTED("qwen2"));
    static const ot_dtype dtypes[] = {OT_BF16, OT_F16};
    for (int i = 0; i < 2; i++) {
        if (ot_path_exists(b->copy)) must(ot_remove_tree(b->copy, &err), &err);
        make_offer(m, b->copy, "layerdrop:keep=1", false, dtypes[i]);
        must(ot_verify(b->copy, NULL, NULL, NULL, &r, &err), &err);
        assert_int_equal(r.bytes, r.values * 2);
        ot_verify_report_free(&r);
    }
    ot_model_close(m);
    /* The same weights in several files. */
    m = tiny_open(b->copy);
    char sharded[1024];
    snprintf(sharded, sizeof sharded, "%s", scratch_path(&b->s, "sharded"));
    must(ot_make_dirs(sharded, &err), &err);
    ot_save_options save = {.own_dtype = true, .shard_bytes = 1024};
    must(ot_model_save(m, sharded, &save, &err), &err);
    ot_model_close(m);
    must(ot_copy_file(in_copy(b, "manifest.json"), tiny_path(sharded, "manifest.json"), &err), &err);
    must(ot_copy_file(in_copy(b, "config.json"), tiny_path(sharded, "config.json"), &err), &err);
    must(ot_verify(sharded, NULL, NULL, NULL, &r, &err), &err);
    assert_true(r.files > 1);
    assert_int_equal(r.n_others, 0);
    ot_verify_report_free(&r);
}

/* ==== Changed bytes and tensors. ==== */

static void flip(const char *path, int64_t from_end, uint8_t bits) {
    FILE *f = fopen(path, "r+be");
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)-from_end, SEEK_END), 0);
    int c = fgetc(f);
    assert_int_equal(fseek(f, (long)-from_end, SEEK_END), 0);
    fputc(c ^ bits, f);
    assert_int_equal(fclose(f), 0);
}

/* Writes the copy's file again: `drop` left out, `add` put behind (NULL: none). */
static void rewrite(bundles *b, const char *file, const char *drop, const ot_tensor *add) {
    ot_error err = {0};
    ot_safetensors *st = NULL;
    must(ot_safetensors_open(in_copy(b, file), &st, &err), &err);
    int64_t n = ot_safetensors_count(st), kept = 0;
    ot_tensor *tensors = calloc((size_t)n + 1, sizeof *tensors);
    assert_non_null(tensors);
    for (int64_t i = 0; i < n; i++) {
        const ot_tensor *t = ot_safetensors_at(st, i);
        if (drop == NULL || strcmp(t->name, drop) != 0) tensors[kept++] = *t;
    }
    if (add != NULL) tensors[kept++] = *add;
    must(ot_safetensors_write(in_copy(b, "new.safetensors"), tensors, kept, NULL, &err), &err);
    ot_safetensors_close(st);
    free(tensors);
    must(ot_remove_tree(in_copy(b, file), &err), &err);
    assert_int_equal(rename(in_copy(b, "new.safetensors"), in_copy(b, file)), 0);
}

static void test_changed_bytes(void **state) {
    bundles *b = *state;
    static const char *const files[] = {"model.safetensors", "adapter.safetensors"};
    const char *from[] = {b->offer, b->given_back};
    for (int i = 0; i < 2; i++) {
        for (int64_t at = 1; at < 400; at += 57) {
            fresh_copy(b, from[i]);
            flip(in_copy(b, files[i]), at, 1);
            ot_verify_report r;
            ot_error err = {0};
            assert_int_equal(ot_verify(b->copy, NULL, NULL, NULL, &r, &err), OT_ERR_REFUSED);
            assert_non_null(strstr(err.message, "does not have the SHA-256 of the manifest: the file was changed or damaged"));
        }
    }
}

static void test_extra_and_missing(void **state) {
    bundles *b = *state;
    const float one = 1;
    const ot_tensor extra = {.name = "stowaway", .dtype = OT_F32, .n_dims = 1, .shape = {1}, .bytes = 4, .data = &one};
    fresh_copy(b, b->offer);
    rewrite(b, "model.safetensors", NULL, &extra);
    refused(b, "model.safetensors", ": tensor stowaway is not in the manifest");
    fresh_copy(b, b->offer);
    rewrite(b, "model.safetensors", "transformer.h.0.ln_1.weight", NULL);
    refused(b, "", ": the tensor transformer.h.0.ln_1.weight is missing from the model's safetensors files");
    fresh_copy(b, b->given_back);
    rewrite(b, "adapter.safetensors", "transformer.h.0.ln_1.weight", NULL);
    refused(b, "adapter.safetensors", " holds 23 tensors, but the manifest lists 24");
    fresh_copy(b, b->given_back);
    rewrite(b, "adapter.safetensors", "transformer.h.0.ln_1.weight", &extra);
    refused(b, "adapter.safetensors", ": tensor stowaway is not in the manifest");
    ot_error err = {0};
    fresh_copy(b, b->offer);
    must(ot_remove_tree(in_copy(b, "model.safetensors"), &err), &err);
    refused(b, "", " holds no model.safetensors and no model.safetensors.index.json");
    fresh_copy(b, b->given_back);
    must(ot_remove_tree(in_copy(b, "adapter.safetensors"), &err), &err);
    ot_verify_report r;
    assert_int_equal(ot_verify(b->copy, NULL, NULL, NULL, &r, &err), OT_ERR_REFUSED);
}

/* A tensor that the manifest vouches for and no part of the model needs. */
static void test_vouched_stowaway(void **state) {
    bundles *b = *state;
    ot_error err = {0};
    const float one = 1;
    const ot_tensor extra = {.name = "stowaway", .dtype = OT_F32, .n_dims = 1, .shape = {1}, .bytes = 4, .data = &one};
    fresh_copy(b, b->offer);
    rewrite(b, "model.safetensors", NULL, &extra);
    ot_manifest m;
    must(ot_manifest_read(b->copy, OT_BUNDLE_NONE, &m, &err), &err);
    must(ot_manifest_add(&m, &extra, &err), &err);
    char *config = tiny_read(in_copy(b, "config.json"), &(int64_t){0});
    ot_manifest_make_id(&m, config);
    must(ot_manifest_write(&m, b->copy, &err), &err);
    free(config);
    ot_manifest_free(&m);
    refused(b, "", ": 1 tensor is of no part of the model that config.json describes");
}

static void test_not_finite(void **state) {
    bundles *b = *state;
    ot_error err = {0};
    if (ot_path_exists(b->copy)) must(ot_remove_tree(b->copy, &err), &err);
    make_return(b->offer, b->copy, 3, NAN);
    ot_verify_report r;
    assert_int_equal(ot_verify(b->copy, NULL, NULL, NULL, &r, &err), OT_ERR_REFUSED);
    assert_non_null(strstr(err.message, "holds nan at element 3"));
    /* An offer of a model with an infinite weight: the digests are right. */
    ot_model *m = tiny_open(TINY_COMMITTED("gpt2"));
    ot_param *p = ot_model_find(m, "transformer.h.5.mlp.c_proj.bias");
    assert_non_null(p);
    int64_t n = ot_param_elements(p);
    float *values = malloc((size_t)n * sizeof *values);
    assert_non_null(values);
    ot_param_read(p, values);
    values[2] = -INFINITY;
    p->stored.data = values;
    must(ot_remove_tree(b->copy, &err), &err);
    make_offer(m, b->copy, "layerdrop:keep=2", true, OT_F32);
    refused(b, "model.safetensors", ": tensor transformer.h.3.mlp.c_proj.bias holds -inf at element 2");
    free(values);
    ot_model_close(m);
}

/* ==== Manifest, configuration, files. ==== */

static void edit_json(bundles *b, const char *file, const char *key, json_t *value) {
    ot_error err = {0};
    json_t *json = NULL;
    must(ot_json_read(in_copy(b, file), 1 << 24, &json, &err), &err);
    if (value != NULL) {
        json_object_set_new(json, key, value);
    } else {
        json_object_del(json, key);
    }
    must(ot_json_write(in_copy(b, file), json, &err), &err);
    json_decref(json);
}

static void test_changed_descriptions(void **state) {
    bundles *b = *state;
    static const char id[] = ": the offer id does not follow from config.json and the manifest's tensors and files: one of them was changed";
    fresh_copy(b, b->offer);
    edit_json(b, "config.json", "layer_norm_epsilon", json_real(1e-3));
    refused(b, "", id);
    fresh_copy(b, b->offer);
    edit_json(b, "manifest.json", "offer_id", json_string("0123456789abcdef0123456789abcdef"));
    refused(b, "", id);
    fresh_copy(b, b->offer);
    edit_json(b, "manifest.json", "bottom", json_integer(2));
    refused(b, "", id);
    fresh_copy(b, b->offer);
    edit_json(b, "manifest.json", "layers", json_integer(5));
    refused(b, "", ": manifest.json says 5 layers, but config.json says 4");
    fresh_copy(b, b->offer);
    edit_json(b, "manifest.json", "architecture", json_string("opt"));
    refused(b, "", ": manifest.json says the architecture is opt, but config.json says gpt2");
    fresh_copy(b, b->offer);
    edit_json(b, "config.json", "n_embd", json_integer(16));
    ot_verify_report r;
    ot_error err = {0};
    assert_int_equal(ot_verify(b->copy, NULL, NULL, NULL, &r, &err), OT_ERR_REFUSED);
    fresh_copy(b, b->offer);
    must(ot_remove_tree(in_copy(b, "config.json"), &err), &err);
    refused(b, "", " holds no config.json: a model directory needs config.json and model.safetensors");
    fresh_copy(b, b->given_back);
    edit_json(b, "manifest.json", "version", json_integer(2));
    refused(b, "manifest.json", ": manifest version 2 is not supported: this program reads version 1");
    fresh_copy(b, b->given_back);
    edit_json(b, "manifest.json", "tensors", NULL);
    refused(b, "manifest.json", ": \"tensors\" must be a list: this is no manifest that this version can read");
}

/* The tokenizer and its like are listed too, and the id vouches for the list. */
static void test_files_of_an_offer(void **state) {
    bundles *b = *state;
    ot_error err = {0};
    ot_verify_report r;
    char model[1024], spoken[1024];
    snprintf(model, sizeof model, "%s", scratch_path(&b->s, "model"));
    snprintf(spoken, sizeof spoken, "%s", scratch_path(&b->s, "spoken"));
    tiny_copy_dir(TINY_COMMITTED("gpt2"), model);
    tiny_text(tiny_path(model, "tokenizer.json"), "{\"model\": 1}");
    tiny_text(tiny_path(model, "merges.txt"), "");
    ot_model *m = tiny_open(model);
    make_offer(m, spoken, "layerdrop:keep=2", true, OT_F32);
    ot_model_close(m);
    must(ot_verify(spoken, NULL, NULL, NULL, &r, &err), &err);
    assert_int_equal(r.manifest.n_files, 2);
    assert_string_equal(r.manifest.files[0].name, "tokenizer.json");
    assert_int_equal(r.n_others, 0);
    char digest[OT_DIGEST_TEXT];
    memcpy(digest, r.manifest.files[1].sha256, sizeof digest);
    ot_verify_report_free(&r);
    static const char changed[] = " does not have the SHA-256 of the manifest: the file was changed or damaged";
    static const char id[] = ": the offer id does not follow from config.json and the manifest's tensors and files: one of them was changed";
    for (int64_t at = 1; at <= 12; at++) {
        fresh_copy(b, spoken);
        flip(in_copy(b, "tokenizer.json"), at, 1);
        refused(b, "tokenizer.json", changed);
    }
    fresh_copy(b, spoken);
    must(ot_remove_tree(in_copy(b, "merges.txt"), &err), &err);
    refused(b, "merges.txt", " is missing, which the manifest lists");
    /* The list itself. */
    fresh_copy(b, spoken);
    edit_json(b, "manifest.json", "files", NULL);
    refused(b, "", id);
    fresh_copy(b, spoken);
    edit_json(b, "manifest.json", "files", json_pack("[{s:s,s:s}]", "name", "merges.txt", "sha256", digest));
    refused(b, "", id);
    fresh_copy(b, spoken); /* the file changed, and its digest too */
    flip(in_copy(b, "tokenizer.json"), 2, 1);
    ot_manifest forged;
    must(ot_manifest_read(b->copy, OT_BUNDLE_NONE, &forged, &err), &err);
    ot_map map = {0};
    must(ot_map_open(in_copy(b, "tokenizer.json"), &map, &err), &err);
    ot_digest_of(map.data, map.size, forged.files[0].sha256);
    ot_map_close(&map);
    must(ot_manifest_write(&forged, b->copy, &err), &err);
    ot_manifest_free(&forged);
    refused(b, "", id);
    static const char *const bad[] = {"../model.safetensors", ".hidden", "a/b", ""};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        fresh_copy(b, spoken);
        edit_json(b, "manifest.json", "files", json_pack("[{s:s,s:s}]", "name", bad[i], "sha256", digest));
        refused(b, "manifest.json", ": \"files\" must be a list of files of this folder with name and sha256: this is no manifest that this version can read");
    }
    fresh_copy(b, spoken);
    edit_json(b, "manifest.json", "files", json_pack("[{s:s,s:s},{s:s,s:s}]", "name", "merges.txt", "sha256", digest, "name", "merges.txt", "sha256", digest));
    refused(b, "manifest.json", ": file merges.txt is listed twice");
}

static void test_no_bundle(void **state) {
    bundles *b = *state;
    ot_error err = {0};
    fresh_copy(b, b->offer);
    must(ot_remove_tree(in_copy(b, "manifest.json"), &err), &err);
    refused(b, "", " is no bundle: it holds no manifest.json, so nothing can be checked");
    must(ot_write_file(in_copy(b, "checkpoint.safetensors"), "x", 1, &err), &err);
    refused(b, "", " is an unfinished run and no bundle yet: go on with the same command and --resume");
    ot_return opened;
    assert_int_equal(ot_return_open(b->copy, &opened, &err), OT_ERR_REFUSED);
    assert_non_null(strstr(err.message, " is an unfinished run (go on with the same command and --resume): a return"));
    must(ot_remove_tree(b->copy, &err), &err);
    char missing[4300];
    snprintf(missing, sizeof missing, "there is no %s", b->copy);
    refused_with(b, NULL, OT_ERR_IO, missing, ": give the folder of an offer or a return");
    must(ot_write_file(b->copy, "x", 1, &err), &err);
    refused_with(b, NULL, OT_ERR_IO, b->copy, " is no folder: give an offer or a return");
    must(ot_remove_tree(b->copy, &err), &err);
    fresh_copy(b, b->offer);
    refused_with(b, b->offer, OT_ERR_USAGE, b->copy, " is an offer itself: --offer goes with a return");
    static const char *const pickles[] = {"training_args.bin", "a.pt", "a.pth", "a.pkl", "a.ckpt"};
    for (size_t i = 0; i < sizeof pickles / sizeof *pickles; i++) {
        char wanted[256];
        fresh_copy(b, i % 2 == 0 ? b->offer : b->given_back);
        tiny_text(in_copy(b, pickles[i]), "x");
        snprintf(wanted, sizeof wanted, ": %s looks like a pickle, which can run code when opened: no bundle needs one", pickles[i]);
        refused(b, "", wanted);
    }
}

static void test_wrong_offer(void **state) {
    bundles *b = *state;
    ot_error err = {0};
    ot_manifest is, should;
    must(ot_manifest_read(b->offer, OT_BUNDLE_NONE, &is, &err), &err);
    must(ot_manifest_read(b->other, OT_BUNDLE_NONE, &should, &err), &err);
    char wanted[2048];
    snprintf(wanted, sizeof wanted, "the return is for offer %s, but %s is offer %s", is.offer_id, b->other, should.offer_id);
    ot_manifest_free(&is);
    ot_manifest_free(&should);
    fresh_copy(b, b->given_back);
    refused_with(b, b->other, OT_ERR_REFUSED, wanted, "");
    /* What is wrong with the offer named is no fault of the return. */
    snprintf(wanted, sizeof wanted, "%s is no offer: it needs the manifest.json that `offsite split` writes", b->given_back);
    refused_with(b, b->given_back, OT_ERR_USAGE, wanted, "");
    /* A manifest of its own making: one tensor of another layer. */
    fresh_copy(b, b->given_back);
    ot_manifest m;
    must(ot_manifest_read(b->copy, OT_BUNDLE_NONE, &m, &err), &err);
    const float values[8] = {0};
    const ot_tensor middle = {.name = "transformer.h.1.ln_1.weight", .dtype = OT_F32, .n_dims = 1, .shape = {8}, .bytes = 32, .data = values};
    rewrite(b, "adapter.safetensors", NULL, &middle);
    must(ot_manifest_add(&m, &middle, &err), &err);
    must(ot_manifest_write(&m, b->copy, &err), &err);
    ot_manifest_free(&m);
    ot_verify_report r;
    assert_int_equal(ot_verify(b->copy, b->offer, NULL, NULL, &r, &err), OT_ERR_REFUSED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sound),
        cmocka_unit_test(test_sound_in_16_bits_and_sharded),
        cmocka_unit_test(test_changed_bytes),
        cmocka_unit_test(test_extra_and_missing),
        cmocka_unit_test(test_vouched_stowaway),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_changed_descriptions),
        cmocka_unit_test(test_files_of_an_offer),
        cmocka_unit_test(test_no_bundle),
        cmocka_unit_test(test_wrong_offer),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
