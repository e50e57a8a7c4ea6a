#include "protocol/merged.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/file.h"
#include "base/mem.h"
#include "format/gguf.h"
#include "format/json.h"
#include "format/safetensors.h"

enum { LIMIT = 1 << 20 };
static const char file_name[] = "merged.json", format_name[] = "offsite-merged";

static ot_status open_tensors(const char *adapter, ot_safetensors **st, ot_gguf **g, ot_error *err) {
    static const char *const names[] = {"adapter_model.safetensors", "adapter.safetensors"};
    char path[4200];
    if (ot_gguf_is(adapter)) return ot_gguf_open(adapter, g, err);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (ot_path_join(path, sizeof path, adapter, names[i]) && ot_path_exists(path)) return ot_safetensors_open(path, st, err);
    }
    return ot_fail(err, OT_ERR_IO, "%s holds no adapter", adapter);
}

static int by_text(const void *a, const void *b) { return memcmp(a, b, OT_DIGEST_TEXT); }

/* An adapter is known by what is in its tensors, whatever their names and order: a return, the adapter folder that plug makes of it with the whole model's
 * block numbers, and that as a GGUF are the same one. false: it cannot be read. */
static bool digest_of(const char *adapter, char sha[OT_DIGEST_TEXT]) {
    ot_safetensors *st = NULL;
    ot_gguf *g = NULL;
    void *room = NULL;
    ot_error ignored;
    bool known = open_tensors(adapter, &st, &g, &ignored) == OT_OK;
    int64_t n = !known ? 0 : g != NULL ? ot_gguf_tensor_count(g) : ot_safetensors_count(st);
    known = n > 0 && ot_malloc(n, OT_DIGEST_TEXT, "digests", &room, &ignored) == OT_OK;
    char(*each)[OT_DIGEST_TEXT] = room;
    for (int64_t i = 0; known && i < n; i++) {
        const ot_tensor *t = g != NULL ? ot_gguf_tensor_at(g, i) : ot_safetensors_at(st, i);
        ot_digest_of(t->data, t->bytes, each[i]);
    }
    if (known) {
        qsort(room, (size_t)n, OT_DIGEST_TEXT, by_text);
        ot_digest_of(room, n * OT_DIGEST_TEXT, sha);
    }
    ot_free(room);
    ot_safetensors_close(st);
    ot_gguf_close(g);
    return known;
}

static bool all_texts(const json_t *list) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (!json_is_string(json_array_get(list, i))) return false;
    }
    return json_is_array(list);
}

/* The digests that the model's folder lists; NULL: it has no list. */
static ot_status read_list(const char *model, json_t **list, ot_error *err) {
    char path[4200];
    json_t *j = NULL;
    *list = NULL;
    if (!ot_path_is_dir(model) || !ot_path_join(path, sizeof path, model, file_name) || !ot_path_exists(path)) return OT_OK;
    OT_TRY(ot_json_read(path, LIMIT, &j, err));
    const char *format = json_string_value(json_object_get(j, "format"));
    *list = json_incref(json_object_get(j, "adapters"));
    bool known = format != NULL && strcmp(format, format_name) == 0 && json_integer_value(json_object_get(j, "version")) == 1 && all_texts(*list);
    json_decref(j);
    if (known) return OT_OK;
    json_decref(*list);
    *list = NULL;
    return ot_fail(err, OT_ERR_FORMAT, "%s is no list of merged adapters of version 1 (\"format\": \"%s\"): remove it if it is not this program's", path, format_name);
}

static bool lists(const json_t *list, const char *sha) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (strcmp(json_string_value(json_array_get(list, i)), sha) == 0) return true;
    }
    return false;
}

ot_status ot_merged_write(const char *dir, const char *from, const char *const *adapters, int64_t n, ot_error *err) {
    char path[4200], sha[OT_DIGEST_TEXT];
    json_t *list = NULL;
    OT_TRY(read_list(from, &list, err));
    if (list == NULL && n == 0) return OT_OK;
    if (list == NULL) list = json_array();
    for (int64_t i = 0; i < n; i++) {
        if (digest_of(adapters[i], sha) && !lists(list, sha)) json_array_append_new(list, json_string(sha));
    }
    json_t *j = json_pack("{s:s,s:i,s:o}", "format", format_name, "version", 1, "adapters", list);
    if (j == NULL) return ot_fail_memory(err, 0, file_name);
    ot_status status = ot_path_join(path, sizeof path, dir, file_name) ? ot_json_write(path, j, err) : ot_fail(err, OT_ERR_IO, "the path %s is too long", dir);
    json_decref(j);
    return status;
}

ot_status ot_merged_check(const char *model, const char *adapter, ot_error *err) {
    char sha[OT_DIGEST_TEXT];
    json_t *list = NULL;
    OT_TRY(read_list(model, &list, err));
    bool twice = list != NULL && digest_of(adapter, sha) && lists(list, sha);
    json_decref(list);
    if (!twice) return OT_OK;
    return ot_fail(err, OT_ERR_REFUSED, "%s is merged into the weights of %s already, as its %s says, and would count twice: leave the adapter out", adapter, model,
                   file_name);
}
