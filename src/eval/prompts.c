#include "eval/prompts.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/safetensors.h"

enum { PROMPT_FILE_LIMIT = 256 << 20 };

static ot_status add(ot_prompts *p, int64_t room, int32_t **ids, ot_error *err) {
    OT_TRY(ot_grow((void **)&p->items, &p->capacity, p->count + 1, sizeof *p->items, "prompts", err));
    *ids = ot_arena_alloc(&p->arena, (room > 0 ? room : 1) * (int64_t)sizeof **ids, err);
    if (*ids == NULL) return OT_ERR_MEMORY;
    p->items[p->count++] = (ot_prompt){.ids = *ids};
    return OT_OK;
}

static int64_t at(const ot_tensor *t, int64_t i) {
    int64_t v;
    memcpy(&v, (const char *)t->data + i * 8, 8);
    return v;
}

static ot_status check_tensor(const ot_tensor *t, const char *name, const ot_tensor *like, const char *path, ot_error *err) {
    if (t->dtype != OT_I64 || t->n_dims != 2 || t->shape[0] < 1 || t->shape[1] < 1) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: tensor %s must be int64 of shape [batch, tokens]", path, name);
    }
    if (like != NULL && (t->shape[0] != like->shape[0] || t->shape[1] != like->shape[1])) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: tensor %s must have the shape of input_ids", path, name);
    }
    return OT_OK;
}

static ot_status read_rows(ot_prompts *p, const ot_safetensors *st, int64_t vocab, ot_error *err) {
    const char *path = ot_safetensors_path(st);
    const ot_tensor *ids = ot_safetensors_find(st, "input_ids"), *mask = ot_safetensors_find(st, "attention_mask");
    if (ids == NULL) return ot_fail(err, OT_ERR_FORMAT, "%s: the tensor input_ids is missing", path);
    OT_TRY(check_tensor(ids, "input_ids", NULL, path, err));
    if (mask != NULL) OT_TRY(check_tensor(mask, "attention_mask", ids, path, err));
    for (int64_t b = 0; b < ids->shape[0]; b++) {
        int32_t *row = NULL;
        OT_TRY(add(p, ids->shape[1], &row, err));
        ot_prompt *prompt = &p->items[p->count - 1];
        for (int64_t t = 0; t < ids->shape[1]; t++) {
            int64_t i = b * ids->shape[1] + t, id = at(ids, i);
            if (mask != NULL && at(mask, i) == 0) continue;
            if (id < 0 || id >= vocab) {
                return ot_fail(err, OT_ERR_FORMAT, "%s: input_ids[%lld, %lld] is %lld, outside the vocabulary of %lld", path, (long long)b,
                               (long long)t, (long long)id, (long long)vocab);
            }
            row[prompt->count++] = (int32_t)id;
        }
        if (prompt->count == 0) return ot_fail(err, OT_ERR_REFUSED, "%s: row %lld of attention_mask leaves no token", path, (long long)b);
    }
    return OT_OK;
}

ot_status ot_prompts_read_ids(ot_prompts *p, const char *path, int64_t vocab, ot_error *err) {
    ot_safetensors *st = NULL;
    OT_TRY(ot_safetensors_open(path, &st, err));
    ot_status status = read_rows(p, st, vocab, err);
    ot_safetensors_close(st);
    return status;
}

ot_status ot_prompts_add_ids(ot_prompts *p, const int32_t *ids, int64_t count, ot_error *err) {
    int32_t *copy = NULL;
    OT_TRY(add(p, count, &copy, err));
    memcpy(copy, ids, (size_t)count * 4);
    p->items[p->count - 1].count = count;
    return OT_OK;
}

ot_status ot_prompts_add_text(ot_prompts *p, const ot_tokenizer *t, const char *text, int64_t size, ot_error *err) {
    int32_t *ids = NULL, *copy = NULL, first = ot_tokenizer_bos(t) >= 0 ? ot_tokenizer_bos(t) : ot_tokenizer_eos(t);
    int64_t count = 0;
    OT_TRY(ot_tokenizer_encode(t, text, (size_t)size, true, &ids, &count, err));
    ot_status status = add(p, count, &copy, err);
    if (status == OT_OK && count == 0 && first < 0) {
        status = ot_fail(err, OT_ERR_REFUSED, "an empty prompt needs a tokenizer with a token that begins a text: write at least one word");
    }
    if (status == OT_OK) {
        if (count > 0) memcpy(copy, ids, (size_t)count * sizeof *copy);
        if (count == 0) copy[count++] = first;
        p->items[p->count - 1].count = count;
    }
    ot_free(ids);
    return status;
}

ot_status ot_prompts_read_lines(ot_prompts *p, const ot_tokenizer *t, const char *path, ot_error *err) {
    char *text = NULL;
    int64_t size = 0, before = p->count;
    OT_TRY(ot_read_file(path, PROMPT_FILE_LIMIT, &text, &size, err));
    ot_status status = OT_OK;
    for (int64_t from = 0; status == OT_OK && from < size;) {
        const char *end = memchr(text + from, '\n', (size_t)(size - from));
        int64_t next = end != NULL ? end - text + 1 : size, length = (end != NULL ? end - text : size) - from;
        if (length > 0 && text[from + length - 1] == '\r') length--;
        if (length > 0) status = ot_prompts_add_text(p, t, text + from, length, err);
        from = next;
    }
    ot_free(text);
    if (status == OT_OK && p->count == before) return ot_fail(err, OT_ERR_FORMAT, "%s holds no prompt: write one on each line", path);
    return status;
}

void ot_prompts_free(ot_prompts *p) {
    free(p->items);
    ot_arena_free(&p->arena);
    *p = (ot_prompts){0};
}
