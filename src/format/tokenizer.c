/* Opening a tokenizer by what lies at a path, encoding and decoding: the chain of steps is in the tokenizer_*.c beside this. */
#include "format/tokenizer.h"

#include <string.h>

#include "format/folder.h"
#include "format/gguf.h"
#include "format/tokenizer_internal.h"
#include "format/unicode.h"

enum { PATH_SIZE = 4096 };
static const char CLIP_FILE[] = "bpe_simple_vocab_16e6.txt.gz";
/* Byte-level text is up to twice as long, and a piece of it must be counted by an int. */
static const int64_t MAX_TEXT = (int64_t)1 << 30;

ot_status ot_tok_new(const char *path, ot_tokenizer **out, ot_error *err) {
    ot_tokenizer *t = NULL;
    OT_TRY(ot_calloc(1, (int64_t)sizeof *t, "a tokenizer", (void **)&t, err));
    t->unk = t->bos = t->eos = -1;
    t->path = ot_arena_strdup(&t->arena, path, err);
    if (t->path == NULL) {
        ot_tokenizer_close(t);
        return OT_ERR_MEMORY;
    }
    *out = t;
    return OT_OK;
}

static void free_chain(ot_tok_chain *chain) {
    for (int64_t i = 0; i < chain->count; i++) ot_tok_regex_free(chain->steps[i].pattern.regex);
    ot_free(chain->steps);
}

void ot_tokenizer_close(ot_tokenizer *t) {
    if (t == NULL) return;
    ot_tok_vocab_free(&t->vocab);
    ot_tok_merges_free(&t->merges);
    ot_free(t->scores);
    ot_free(t->score_rank);
    ot_free(t->types);
    ot_free(t->frozen.needles);
    free_chain(&t->normalizers);
    free_chain(&t->pre_tokenizers);
    free_chain(&t->decoders);
    ot_tok_regex_free(t->gpt2);
    ot_tok_regex_free(t->word);
    ot_free(t->added);
    ot_free(t->added_by_id);
    ot_free(t->raw.needles);
    ot_free(t->normalized.needles);
    ot_free(t->before.data);
    ot_free(t->after.data);
    json_decref(t->config);
    ot_arena_free(&t->arena);
    ot_free(t);
}

/* ==== Opening ==== */

static ot_status load_gguf_file(ot_tokenizer *t, const char *path, ot_error *err) {
    ot_gguf *g = NULL;
    OT_TRY(ot_gguf_open(path, &g, err));
    ot_status status = ot_tok_load_gguf(t, g, err);
    ot_gguf_close(g);
    return status;
}

static ot_status load_directory(ot_tokenizer *t, const char *path, ot_error *err) {
    char first[PATH_SIZE], second[PATH_SIZE];
    if (!ot_path_join(first, sizeof first, path, "tokenizer.json"))
        return ot_fail(err, OT_ERR_USAGE, "%.200s...: the path is too long", path);
    if (ot_path_exists(first)) return ot_tok_load_json(t, first, err);
    if (ot_path_join(first, sizeof first, path, "vocab.json") && ot_path_join(second, sizeof second, path, "merges.txt") &&
        ot_path_exists(first) && ot_path_exists(second)) {
        return ot_tok_load_pair(t, first, second, err);
    }
    if (ot_path_join(first, sizeof first, path, "tokenizer.model") && ot_path_exists(first))
        return ot_tok_load_spm(t, first, err);
    if (ot_path_join(first, sizeof first, path, CLIP_FILE) && ot_path_exists(first)) return ot_tok_load_clip(t, first, err);
    if (ot_folder_is_adapter(path)) {
        return ot_fail(err, OT_ERR_IO, "%s is a return or an adapter and holds no tokenizer: give the offer or the model that it was tuned over", path);
    }
    int64_t ggufs = ot_folder_ggufs(path, first, sizeof first);
    if (ggufs == 1) return ot_fail(err, OT_ERR_IO, "%s: no tokenizer here, but a GGUF file: give %s", path, first);
    if (ggufs > 1) return ot_fail(err, OT_ERR_IO, "%s: no tokenizer here, but GGUF files: give one of them, such as %s", path, first);
    return ot_fail(err, OT_ERR_IO,
                   "%s: no tokenizer here; put tokenizer.json, vocab.json with merges.txt, or tokenizer.model into it", path);
}

static ot_status load(ot_tokenizer *t, const char *path, ot_error *err) {
    if (!ot_path_exists(path)) return ot_fail(err, OT_ERR_IO, "there is no %s: give a model, or a folder or file with its tokenizer", path);
    if (ot_path_is_dir(path)) return load_directory(t, path, err);
    if (ot_gguf_is(path)) return load_gguf_file(t, path, err);
    if (strcmp(ot_path_base(path), CLIP_FILE) == 0) return ot_tok_load_clip(t, path, err);
    if (ot_path_ends(path, ".model")) return ot_tok_load_spm(t, path, err);
    if (strcmp(ot_path_base(path), "vocab.json") == 0) {
        char merges[PATH_SIZE];
        size_t folder = (size_t)(ot_path_base(path) - path);
        static const char NAME[] = "merges.txt";
        if (folder + sizeof NAME > sizeof merges) return ot_fail(err, OT_ERR_USAGE, "%.200s...: the path is too long", path);
        memcpy(merges, path, folder);
        memcpy(merges + folder, NAME, sizeof NAME);
        return ot_tok_load_pair(t, path, merges, err);
    }
    return ot_tok_load_json(t, path, err);
}

ot_status ot_tokenizer_open(const char *path, ot_tokenizer **out, ot_error *err) {
    ot_tokenizer *t = NULL;
    OT_TRY(ot_tok_new(path, &t, err));
    ot_status status = load(t, path, err);
    if (status != OT_OK) {
        ot_tokenizer_close(t);
        return status;
    }
    *out = t;
    return OT_OK;
}

ot_status ot_tokenizer_from_gguf(const ot_gguf *g, ot_tokenizer **out, ot_error *err) {
    ot_tokenizer *t = NULL;
    OT_TRY(ot_tok_new(ot_gguf_path(g), &t, err));
    ot_status status = ot_tok_load_gguf(t, g, err);
    if (status != OT_OK) {
        ot_tokenizer_close(t);
        return status;
    }
    *out = t;
    return OT_OK;
}

/* ==== Questions ==== */

int64_t ot_tokenizer_vocab_size(const ot_tokenizer *t) { return t->id_count; }
int32_t ot_tokenizer_bos(const ot_tokenizer *t) { return t->bos; }
int32_t ot_tokenizer_eos(const ot_tokenizer *t) { return t->eos; }

int32_t ot_tok_find(const ot_tokenizer *t, const char *text) {
    int64_t size = (int64_t)strlen(text);
    for (int64_t i = 0; i < t->added_count; i++) {
        if (t->added[i].size == size && memcmp(t->added[i].text, text, (size_t)size) == 0) return t->added[i].id;
    }
    return ot_tok_vocab_find(&t->vocab, text, size);
}

/* ==== Text to ids and back ==== */

static ot_status encode(const ot_tokenizer *t, ot_tok_work *w, const char *text, int64_t size, bool add_special,
                        ot_tok_ids *ids) {
    if (size > 0 && ot_utf8_valid(text, size)) {
        OT_TRY(ot_tok_buf_put(&w->text, text, size, w->err));
    } else {
        OT_TRY(ot_tok_put_lossy(&w->text, text, size, w->err));
    }
    OT_TRY(ot_tok_spans_put(&w->spans, 0, w->text.size, -1, true, w->err));
    OT_TRY(ot_tok_split_added(t, &t->raw, w));
    OT_TRY(ot_tok_normalize(t, w));
    OT_TRY(ot_tok_split_added(t, &t->normalized, w));
    OT_TRY(ot_tok_pre_tokenize(t, w));
    for (int64_t i = 0; add_special && i < t->before.count; i++) OT_TRY(ot_tok_ids_put(ids, t->before.data[i], w->err));
    OT_TRY(ot_tok_model_run(t, w, ids));
    for (int64_t i = 0; add_special && i < t->after.count; i++) OT_TRY(ot_tok_ids_put(ids, t->after.data[i], w->err));
    return OT_OK;
}

ot_status ot_tokenizer_encode(const ot_tokenizer *t, const char *text, size_t size, bool add_special, int32_t **ids,
                              int64_t *count, ot_error *err) {
    if (size > (size_t)MAX_TEXT) {
        return ot_fail(err, OT_ERR_USAGE, "a text of %zu bytes is too long for one call; cut it below %lld", size,
                       (long long)MAX_TEXT);
    }
    ot_tok_ids list = {0};
    ot_tok_work w;
    ot_status status = ot_tok_work_init(&w, err);
    if (status == OT_OK) status = encode(t, &w, text, (int64_t)size, add_special, &list);
    ot_tok_work_free(&w);
    /* The caller frees with ot_free, so even no ids are an allocation. */
    if (status == OT_OK && list.data == NULL)
        status = ot_malloc(1, (int64_t)sizeof *list.data, "token ids", (void **)&list.data, err);
    if (status != OT_OK) {
        ot_free(list.data);
        return status;
    }
    *ids = list.data;
    *count = list.count;
    return OT_OK;
}

ot_status ot_tokenizer_decode(const ot_tokenizer *t, const int32_t *ids, int64_t count, bool skip_special, char **text,
                              size_t *size, ot_error *err) {
    ot_tok_buf out = {0};
    ot_status status = ot_tok_decode(t, ids, count, skip_special, &out, err);
    int64_t length = out.size;
    if (status == OT_OK) status = ot_tok_buf_put(&out, "", 1, err);
    if (status != OT_OK) {
        ot_tok_buf_free(&out);
        return status;
    }
    *text = out.data;
    *size = (size_t)length;
    return OT_OK;
}
