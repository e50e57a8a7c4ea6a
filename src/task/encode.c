#include "task/encode.h"

ot_status ot_encoder_open(const ot_tokenizer *tokenizer, ot_encoder *out, ot_error *err) {
    *out = (ot_encoder){.tokenizer = tokenizer, .prefix = ot_tokenizer_bos(tokenizer)};
    if (out->prefix < 0) out->prefix = ot_tokenizer_eos(tokenizer);
    if (out->prefix < 0) return OT_OK;
    size_t size = 0;
    OT_TRY(ot_tokenizer_decode(tokenizer, &out->prefix, 1, false, &out->prefix_text, &size, err));
    out->prefix_size = (int64_t)size;
    return OT_OK;
}

void ot_encoder_close(ot_encoder *e) {
    ot_free(e->prefix_text);
    *e = (ot_encoder){.prefix = -1};
}

ot_status ot_encode_text(const ot_encoder *e, ot_str text, int32_t **ids, int64_t *count, ot_error *err) {
    bool begun = e->prefix >= 0 && ot_str_begins(text, (ot_str){e->prefix_text, e->prefix_size});
    return ot_tokenizer_encode(e->tokenizer, text.text, (size_t)text.size, !begun, ids, count, err);
}

static ot_status keep(ot_arena *arena, const int32_t *context, int64_t n_context, const int32_t *continuation, int64_t n, ot_encoded *out,
                      ot_error *err) {
    if (n < 1) return ot_fail(err, OT_ERR_FORMAT, "a choice is empty: it has no token of its own to score");
    out->ids = ot_arena_alloc(arena, (n_context + n) * (int64_t)sizeof *out->ids, err);
    if (out->ids == NULL) return OT_ERR_MEMORY;
    if (n_context > 0) memcpy(out->ids, context, (size_t)n_context * sizeof *out->ids);
    memcpy(out->ids + n_context, continuation, (size_t)n * sizeof *out->ids);
    out->n_context = n_context;
    out->n_continuation = n;
    return OT_OK;
}

/* The prefix token stands for an empty context, unless the continuation begins with it. */
static ot_status encode_alone(const ot_encoder *e, ot_str continuation, ot_arena *arena, ot_encoded *out, ot_error *err) {
    int32_t *ids = NULL;
    int64_t n = 0;
    if (e->prefix < 0) return ot_fail(err, OT_ERR_UNSUPPORTED, "an empty context needs a tokenizer with a token that begins or ends a text");
    OT_TRY(ot_tokenizer_encode(e->tokenizer, continuation.text, (size_t)continuation.size, false, &ids, &n, err));
    bool begun = n > 0 && ids[0] == e->prefix;
    ot_status status = keep(arena, &e->prefix, 1, ids + begun, n - begun, out, err);
    ot_free(ids);
    return status;
}

/* context: without white space at its end, encoded as ids[n]. */
static ot_status encode_after(const ot_encoder *e, ot_str context, const int32_t *ids, int64_t n, ot_str continuation, ot_arena *arena,
                              ot_encoded *out, ot_error *err) {
    ot_str whole;
    int32_t *all = NULL;
    int64_t count = 0;
    OT_TRY(ot_str_join(arena, (ot_str[]){context, continuation}, 2, &whole, err));
    OT_TRY(ot_encode_text(e, whole, &all, &count, err));
    ot_status status = keep(arena, ids, n, all + (count < n ? count : n), count - n, out, err);
    ot_free(all);
    return status;
}

static ot_status encode_all(const ot_encoder *e, ot_str context, const ot_str *continuations, int64_t count, ot_arena *arena, ot_encoded *out,
                            ot_error *err) {
    if (context.size == 0) {
        for (int64_t i = 0; i < count; i++) OT_TRY(encode_alone(e, continuations[i], arena, &out[i], err));
        return OT_OK;
    }
    ot_str bare = ot_py_rstrip(context), tail = {context.text + bare.size, context.size - bare.size}, continuation;
    int32_t *ids = NULL;
    int64_t n = 0;
    OT_TRY(ot_encode_text(e, bare, &ids, &n, err));
    ot_status status = n > 0 ? OT_OK : ot_fail(err, OT_ERR_FORMAT, "the context holds nothing but white space");
    for (int64_t i = 0; status == OT_OK && i < count; i++) {
        status = ot_str_join(arena, (ot_str[]){tail, continuations[i]}, 2, &continuation, err);
        if (status == OT_OK) status = encode_after(e, bare, ids, n, continuation, arena, &out[i], err);
    }
    ot_free(ids);
    return status;
}

ot_status ot_encode_pair(const ot_encoder *e, ot_str context, ot_str continuation, ot_arena *arena, ot_encoded *out, ot_error *err) {
    return encode_all(e, context, &continuation, 1, arena, out, err);
}

ot_status ot_encode_choices(const ot_encoder *e, const ot_task_doc *doc, ot_arena *arena, ot_encoded **out, ot_error *err) {
    ot_str *continuations = ot_arena_alloc(arena, doc->n_choices * (int64_t)sizeof *continuations, err);
    *out = ot_arena_alloc(arena, doc->n_choices * (int64_t)sizeof **out, err);
    if (continuations == NULL || *out == NULL) return OT_ERR_MEMORY;
    for (int64_t i = 0; i < doc->n_choices; i++) OT_TRY(ot_task_continuation(doc, i, arena, &continuations[i], err));
    return encode_all(e, doc->context, continuations, doc->n_choices, arena, *out, err);
}
