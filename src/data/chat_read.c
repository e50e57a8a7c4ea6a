/* Where a model keeps its chat template. */
#include "base/file.h"
#include "data/chat.h"
#include "format/gguf.h"
#include "format/json.h"

enum { PATH_ROOM = 4200 };
static const int64_t LIMIT = (int64_t)64 << 20;

static ot_status copy(const char *text, int64_t size, char **out, int64_t *out_size, ot_error *err) {
    OT_TRY(ot_malloc(size + 1, 1, "a chat template", (void **)out, err));
    memcpy(*out, text, (size_t)size);
    (*out)[size] = '\0';
    *out_size = size;
    return OT_OK;
}

static ot_status from_gguf(const char *path, char **jinja, int64_t *size, ot_error *err) {
    ot_gguf *g = NULL;
    OT_TRY(ot_gguf_open(path, &g, err));
    int64_t length = 0;
    const char *text = ot_gguf_str(g, "tokenizer.chat_template", &length);
    ot_status status = text == NULL ? OT_OK : copy(text, length, jinja, size, err);
    ot_gguf_close(g);
    return status;
}

/* A text, or a list of named ones, of which "default" counts. */
static const json_t *template_of(const json_t *config) {
    const json_t *value = json_object_get(config, "chat_template");
    if (json_is_string(value)) return value;
    for (size_t i = 0; json_is_array(value) && i < json_array_size(value); i++) {
        const json_t *item = json_array_get(value, i);
        const char *name = json_string_value(json_object_get(item, "name"));
        if (name != NULL && strcmp(name, "default") == 0) return json_object_get(item, "template");
    }
    return NULL;
}

static ot_status from_config(const char *path, char **jinja, int64_t *size, ot_error *err) {
    json_t *config = NULL;
    OT_TRY(ot_json_read_large(path, LIMIT, &config, err));
    const json_t *value = template_of(config);
    ot_status status = OT_OK;
    if (json_is_string(value)) status = copy(json_string_value(value), (int64_t)json_string_length(value), jinja, size, err);
    json_decref(config);
    return status;
}

ot_status ot_chat_read(const char *model_path, char **jinja, int64_t *size, ot_error *err) {
    *jinja = NULL;
    *size = 0;
    if (!ot_path_is_dir(model_path)) return ot_gguf_is(model_path) ? from_gguf(model_path, jinja, size, err) : OT_OK;
    char path[PATH_ROOM];
    if (ot_path_join(path, sizeof path, model_path, "chat_template.jinja") && ot_path_exists(path)) return ot_read_file(path, LIMIT, jinja, size, err);
    if (ot_path_join(path, sizeof path, model_path, "tokenizer_config.json") && ot_path_exists(path)) OT_TRY(from_config(path, jinja, size, err));
    if (*jinja == NULL && ot_path_join(path, sizeof path, model_path, "chat_template.json") && ot_path_exists(path)) return from_config(path, jinja, size, err);
    return OT_OK;
}
