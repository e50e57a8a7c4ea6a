#include "protocol/ledger.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "format/json.h"

enum { LEDGER_LIMIT = 16 << 20, MAX_LAYERS = 100000 };
static const char format_name[] = "offsite-ledger";

void ot_ledger_free(ot_ledger *l) {
    ot_arena_free(&l->arena);
    json_decref(l->distilled);
    json_decref(l->measured);
    *l = (ot_ledger){0};
}

void ot_model_digest(const ot_model *m, char text[OT_DIGEST_TEXT]) {
    ot_digest d;
    ot_digest_begin(&d);
    for (int64_t i = 0; i < m->n_params; i++) {
        const ot_tensor *t = &m->params[i].stored;
        char shape[96];
        ot_digest_add_text(&d, t->name);
        ot_digest_add_text(&d, ot_dtype_info(t->dtype)->name);
        ot_digest_add_text(&d, ot_shape_text(t->shape, t->n_dims, shape, sizeof shape));
        ot_digest_add(&d, t->data, t->bytes);
    }
    ot_digest_end(&d, text);
}

ot_status ot_ledger_check_base(const ot_ledger *l, const ot_model *m, ot_error *err) {
    if (strcmp(l->architecture, m->desc.arch->name) != 0 || l->base_layers != m->desc.layers) {
        return ot_fail(err, OT_ERR_REFUSED, "the ledger is of a %s model with %lld layers, but %s is %s with %lld", l->architecture,
                       (long long)l->base_layers, m->path, m->desc.arch->name, (long long)m->desc.layers);
    }
    char digest[OT_DIGEST_TEXT];
    ot_model_digest(m, digest);
    if (strcmp(digest, l->base_sha256) != 0) {
        return ot_fail(err, OT_ERR_REFUSED, "%s is not the model that the offer was split from: its tensors have another SHA-256 than the ledger notes", m->path);
    }
    return OT_OK;
}

/* What computed: a recipe that looks at a text gives the same bytes with the same libraries. */
static json_t *libraries(void) {
    json_t *j = json_object();
    for (const ot_backend *const *b = ot_backends; *b != NULL; b++) {
        char text[256] = "";
        if ((*b)->libraries == NULL) continue;
        (*b)->libraries(text, sizeof text);
        json_object_set_new(j, (*b)->name, json_string(text));
    }
    return j;
}

ot_status ot_ledger_write(const ot_ledger *l, const char *path, ot_error *err) {
    json_t *stack = json_array();
    for (int64_t i = 0; i < l->n_stack; i++) json_array_append_new(stack, json_integer(l->stack[i]));
    json_t *j = json_pack("{s:s,s:i,s:s,s:s,s:s,s:I,s:I,s:I,s:s,s:o,s:s}", "format", format_name, "version", 1, "offer_id", l->offer_id, "base_sha256",
                          l->base_sha256, "architecture", l->architecture, "base_layers", (json_int_t)l->base_layers, "bottom",
                          (json_int_t)l->bottom, "top", (json_int_t)l->top, "emulator", l->recipe, "stack", stack, "program",
                          "offsite " OFFSITE_VERSION);
    if (j == NULL) return ot_fail_memory(err, 0, "the ledger");
    json_object_set_new(j, "libraries", libraries());
    if (l->measured != NULL) json_object_set(j, "measured", l->measured);
    if (l->distilled != NULL) json_object_set(j, "distilled", l->distilled);
    ot_status status = ot_json_write(path, j, err);
    json_decref(j);
    return status;
}

static ot_status parse(const json_t *j, const char *path, ot_ledger *l, ot_error *err) {
    const char *format = json_string_value(json_object_get(j, "format")), *id = json_string_value(json_object_get(j, "offer_id"));
    const char *base = json_string_value(json_object_get(j, "base_sha256")), *arch = json_string_value(json_object_get(j, "architecture"));
    const char *recipe = json_string_value(json_object_get(j, "emulator"));
    const json_t *stack = json_object_get(j, "stack");
    if (format == NULL || strcmp(format, format_name) != 0 || json_integer_value(json_object_get(j, "version")) != 1) {
        return ot_fail(err, OT_ERR_FORMAT, "%s is no owner's ledger of version 1", path);
    }
    if (id == NULL || strlen(id) != OT_OFFER_ID - 1 || base == NULL || strlen(base) != OT_DIGEST_TEXT - 1 || arch == NULL ||
        strlen(arch) >= sizeof l->architecture || recipe == NULL || strlen(recipe) >= sizeof l->recipe || !json_is_array(stack) ||
        json_array_size(stack) > MAX_LAYERS) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: a key of the ledger is missing or of another kind", path);
    }
    memcpy(l->offer_id, id, OT_OFFER_ID);
    memcpy(l->base_sha256, base, OT_DIGEST_TEXT);
    memcpy(l->architecture, arch, strlen(arch) + 1);
    memcpy(l->recipe, recipe, strlen(recipe) + 1);
    l->base_layers = json_integer_value(json_object_get(j, "base_layers"));
    l->bottom = json_integer_value(json_object_get(j, "bottom"));
    l->top = json_integer_value(json_object_get(j, "top"));
    l->n_stack = (int64_t)json_array_size(stack);
    l->stack = ot_arena_alloc(&l->arena, l->n_stack * (int64_t)sizeof *l->stack, err);
    if (l->stack == NULL) return OT_ERR_MEMORY;
    for (int64_t i = 0; i < l->n_stack; i++) {
        const json_t *block = json_array_get(stack, (size_t)i);
        l->stack[i] = json_integer_value(block);
        if (!json_is_integer(block) || l->stack[i] < 0 || l->stack[i] >= l->base_layers) {
            return ot_fail(err, OT_ERR_FORMAT, "%s: \"stack\" names a block that the model of %" PRId64 " layers does not have", path, l->base_layers);
        }
    }
    l->distilled = json_incref(json_object_get(j, "distilled"));
    l->measured = json_incref(json_object_get(j, "measured"));
    if (l->bottom < 0 || l->top < 0 || l->bottom > l->n_stack || l->top > l->n_stack || l->bottom + l->top > l->n_stack) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: \"bottom\" and \"top\" do not fit the stack", path);
    }
    return OT_OK;
}

ot_status ot_ledger_read(const char *path, ot_ledger *out, ot_error *err) {
    json_t *j = NULL;
    *out = (ot_ledger){0};
    OT_TRY(ot_json_read(path, LEDGER_LIMIT, &j, err));
    ot_status status = parse(j, path, out, err);
    json_decref(j);
    if (status != OT_OK) ot_ledger_free(out);
    return status;
}

static bool look_in(const char *folder, const char *offer_id, ot_ledger *out) {
    ot_arena arena = {0};
    char **names = NULL;
    int64_t count = 0;
    ot_error ignored;
    bool found = false;
    if (ot_list_dir(folder, &arena, &names, &count, &ignored) != OT_OK) count = 0;
    for (int64_t i = 0; i < count && !found; i++) {
        char path[4096];
        if (!ot_path_ends(names[i], ".owner.json") || !ot_path_join(path, sizeof path, folder, names[i])) continue;
        ot_ledger l;
        if (ot_ledger_read(path, &l, &ignored) != OT_OK) continue;
        found = strcmp(l.offer_id, offer_id) == 0;
        if (found) {
            *out = l;
        } else {
            ot_ledger_free(&l);
        }
    }
    ot_arena_free(&arena);
    return found;
}

ot_status ot_ledger_find(const char *offer_id, const char *const *folders, int n_folders, ot_ledger *out, ot_error *err) {
    for (int i = 0; i < n_folders; i++) {
        if (folders[i] != NULL && look_in(folders[i], offer_id, out)) return OT_OK;
    }
    return ot_fail(err, OT_ERR_REFUSED,
                   "no owner's ledger for offer %s was found beside the return, the model or the output: name it with --ledger OFFER.owner.json", offer_id);
}
