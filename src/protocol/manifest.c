#include "protocol/manifest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/json.h"
#include "model/head.h"

enum { MANIFEST_LIMIT = 64 << 20, MAX_TENSORS = 1000000, MAX_FILES = 1000, SCHEMA_VERSION = 1 };

static const char *const kind_names[] = {[OT_BUNDLE_NONE] = "", [OT_BUNDLE_OFFER] = "offsite-offer", [OT_BUNDLE_RETURN] = "offsite-return"};

void ot_manifest_free(ot_manifest *m) {
    free(m->tensors);
    free(m->files);
    json_decref(m->card);
    ot_arena_free(&m->arena);
    *m = (ot_manifest){0};
}

static ot_status append(ot_manifest *m, const char *name, ot_manifest_tensor **out, ot_error *err) {
    OT_TRY(ot_grow((void **)&m->tensors, &m->capacity, m->n_tensors + 1, sizeof *m->tensors, "a manifest", err));
    ot_manifest_tensor *t = &m->tensors[m->n_tensors];
    *t = (ot_manifest_tensor){.name = ot_arena_strdup(&m->arena, name, err)};
    if (t->name == NULL) return OT_ERR_MEMORY;
    m->n_tensors++;
    *out = t;
    return OT_OK;
}

ot_status ot_manifest_add(ot_manifest *m, const ot_tensor *tensor, ot_error *err) {
    ot_manifest_tensor *t = NULL;
    OT_TRY(append(m, tensor->name, &t, err));
    t->dtype = tensor->dtype;
    t->n_dims = tensor->n_dims;
    memcpy(t->shape, tensor->shape, sizeof t->shape);
    ot_digest_of(tensor->data, tensor->bytes, t->sha256);
    return OT_OK;
}

static ot_status append_file(ot_manifest *m, const char *name, const char *sha256, ot_error *err) {
    OT_TRY(ot_grow((void **)&m->files, &m->files_capacity, m->n_files + 1, sizeof *m->files, "a manifest", err));
    ot_manifest_file *f = &m->files[m->n_files];
    *f = (ot_manifest_file){.name = ot_arena_strdup(&m->arena, name, err)};
    if (f->name == NULL) return OT_ERR_MEMORY;
    memcpy(f->sha256, sha256, OT_DIGEST_TEXT);
    m->n_files++;
    return OT_OK;
}

static ot_status digest_file(const char *dir, const char *name, char path[4096], char sha256[OT_DIGEST_TEXT], ot_error *err) {
    ot_map map = {0};
    if (!ot_path_join(path, 4096, dir, name)) return ot_fail(err, OT_ERR_IO, "the path %s is too long", dir);
    OT_TRY(ot_map_open(path, &map, err));
    ot_digest_of(map.data, map.size, sha256);
    ot_map_close(&map);
    return OT_OK;
}

ot_status ot_manifest_add_files(ot_manifest *m, const char *dir, const char *const *names, ot_error *err) {
    char path[4096], sha256[OT_DIGEST_TEXT];
    for (; *names != NULL; names++) {
        if (!ot_path_join(path, sizeof path, dir, *names) || !ot_path_exists(path)) continue;
        OT_TRY(digest_file(dir, *names, path, sha256, err));
        OT_TRY(append_file(m, *names, sha256, err));
    }
    return OT_OK;
}

ot_status ot_manifest_check_file(const ot_manifest_file *f, const char *dir, ot_error *err) {
    char path[4096], sha256[OT_DIGEST_TEXT];
    if (!ot_path_join(path, sizeof path, dir, f->name)) return ot_fail(err, OT_ERR_IO, "the path %s is too long", dir);
    if (!ot_path_exists(path)) return ot_fail(err, OT_ERR_REFUSED, "%s is missing, which the manifest lists", path);
    OT_TRY(digest_file(dir, f->name, path, sha256, err));
    if (strcmp(sha256, f->sha256) == 0) return OT_OK;
    return ot_fail(err, OT_ERR_REFUSED, "%s does not have the SHA-256 of the manifest: the file was changed or damaged", path);
}

ot_status ot_manifest_check_files(const ot_manifest *m, const char *dir, ot_error *err) {
    ot_error found = {0};
    for (int64_t i = 0; i < m->n_files; i++) {
        ot_status status = ot_manifest_check_file(&m->files[i], dir, &found);
        if (status != OT_OK) return ot_fail(err, status, "%s; `offsite verify %s` checks all of the %s: ask for it again", found.message, dir,
                                                   m->kind == OT_BUNDLE_OFFER ? "offer" : "return");
    }
    return OT_OK;
}

ot_status ot_manifest_classes(ot_manifest *m, const char *const *names, int64_t n, ot_error *err) {
    m->classes = ot_arena_alloc(&m->arena, (n + 1) * (int64_t)sizeof *m->classes, err);
    if (m->classes == NULL) return OT_ERR_MEMORY;
    for (m->n_classes = 0; m->n_classes < n; m->n_classes++) {
        m->classes[m->n_classes] = ot_arena_strdup(&m->arena, names[m->n_classes], err);
        if (m->classes[m->n_classes] == NULL) return OT_ERR_MEMORY;
    }
    return OT_OK;
}

void ot_manifest_make_id(ot_manifest *m, const char *config_text) {
    ot_digest d;
    char text[OT_DIGEST_TEXT], numbers[96];
    ot_digest_begin(&d);
    ot_digest_add_text(&d, "offsite offer 1");
    ot_digest_add_text(&d, config_text);
    snprintf(numbers, sizeof numbers, "%" PRId64 " %" PRId64 " %" PRId64, m->layers, m->bottom, m->top);
    ot_digest_add_text(&d, numbers);
    for (int64_t i = 0; i < m->n_tensors; i++) {
        ot_digest_add_text(&d, m->tensors[i].name);
        ot_digest_add_text(&d, m->tensors[i].sha256);
    }
    for (int64_t i = 0; i < m->n_files; i++) {
        ot_digest_add_text(&d, m->files[i].name);
        ot_digest_add_text(&d, m->files[i].sha256);
    }
    ot_digest_end(&d, text);
    memcpy(m->offer_id, text, OT_OFFER_ID - 1);
    m->offer_id[OT_OFFER_ID - 1] = '\0';
}

static json_t *tensor_json(const ot_manifest_tensor *t) {
    json_t *shape = json_array();
    for (int32_t d = 0; d < t->n_dims; d++) json_array_append_new(shape, json_integer(t->shape[d]));
    return json_pack("{s:s,s:s,s:o,s:s}", "name", t->name, "dtype", ot_dtype_info(t->dtype)->safetensors_name, "shape", shape, "sha256", t->sha256);
}

ot_status ot_manifest_write(const ot_manifest *m, const char *dir, ot_error *err) {
    char path[4096];
    if (!ot_path_join(path, sizeof path, dir, "manifest.json")) return ot_fail(err, OT_ERR_IO, "the path %s is too long", dir);
    json_t *j = json_object();
    json_object_set_new(j, "format", json_string(kind_names[m->kind]));
    json_object_set_new(j, "version", json_integer(SCHEMA_VERSION));
    json_object_set_new(j, "offer_id", json_string(m->offer_id));
    json_object_set_new(j, "architecture", json_string(m->architecture));
    json_object_set_new(j, "layers", json_integer(m->layers));
    json_object_set_new(j, "bottom", json_integer(m->bottom));
    json_object_set_new(j, "top", json_integer(m->top));
    if (m->kind == OT_BUNDLE_RETURN) json_object_set_new(j, "method", json_string(m->method));
    if (m->classes != NULL) {
        json_t *classes = json_array();
        for (int64_t i = 0; i < m->n_classes; i++) json_array_append_new(classes, json_string(m->classes[i]));
        json_object_set_new(j, "classes", classes);
    }
    json_t *tensors = json_array();
    for (int64_t i = 0; i < m->n_tensors; i++) json_array_append_new(tensors, tensor_json(&m->tensors[i]));
    json_object_set_new(j, "tensors", tensors);
    json_t *files = json_array();
    for (int64_t i = 0; i < m->n_files; i++) json_array_append_new(files, json_pack("{s:s,s:s}", "name", m->files[i].name, "sha256", m->files[i].sha256));
    json_object_set_new(j, "files", files);
    if (m->card != NULL) json_object_set(j, "card", m->card);
    json_object_set_new(j, "signature", json_null());
    ot_status status = ot_json_write(path, j, err);
    json_decref(j);
    return status;
}

/* ==== Reading. ==== */

static ot_status bad(const char *path, const char *key, const char *what, ot_error *err) {
    return ot_fail(err, OT_ERR_FORMAT, "%s: \"%s\" must be %s: this is no manifest that this version can read", path, key, what);
}

static ot_status read_count(const json_t *j, const char *key, const char *path, int64_t *out, ot_error *err) {
    const json_t *v = json_object_get(j, key);
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > 1000000) return bad(path, key, "a whole number from 0 to 1000000", err);
    *out = json_integer_value(v);
    return OT_OK;
}

static ot_status read_text(const json_t *j, const char *key, const char *path, char *out, size_t size, ot_error *err) {
    const char *text = json_string_value(json_object_get(j, key));
    if (text == NULL || strlen(text) >= size || strlen(text) != json_string_length(json_object_get(j, key))) {
        return bad(path, key, "a short text", err);
    }
    memcpy(out, text, strlen(text) + 1);
    return OT_OK;
}

static bool is_hex(const char *text, size_t length) { return strlen(text) == length && strspn(text, "0123456789abcdef") == length; }

static ot_status read_tensor(ot_manifest *m, const json_t *j, const char *path, ot_error *err) {
    const char *name = json_string_value(json_object_get(j, "name")), *dtype = json_string_value(json_object_get(j, "dtype"));
    const char *sha = json_string_value(json_object_get(j, "sha256"));
    const json_t *shape = json_object_get(j, "shape");
    if (name == NULL || dtype == NULL || sha == NULL || !is_hex(sha, OT_DIGEST_TEXT - 1) || !json_is_array(shape) ||
        json_array_size(shape) > OT_MAX_DIMS) {
        return bad(path, "tensors", "a list of tensors with name, dtype, shape and sha256", err);
    }
    if (ot_manifest_find(m, name) != NULL) return ot_fail(err, OT_ERR_FORMAT, "%s: tensor %s is listed twice", path, name);
    ot_manifest_tensor *t = NULL;
    OT_TRY(append(m, name, &t, err));
    if (!ot_dtype_from_safetensors(dtype, &t->dtype)) return ot_fail(err, OT_ERR_FORMAT, "%s: tensor %s has the unknown dtype %s", path, name, dtype);
    t->n_dims = (int32_t)json_array_size(shape);
    for (int32_t d = 0; d < t->n_dims; d++) {
        const json_t *size = json_array_get(shape, (size_t)d);
        if (!json_is_integer(size) || json_integer_value(size) < 0) return bad(path, "shape", "a list of sizes", err);
        t->shape[d] = json_integer_value(size);
    }
    memcpy(t->sha256, sha, OT_DIGEST_TEXT);
    return OT_OK;
}

/* A name that leads out of the folder would have something else looked at. */
static bool is_plain(const json_t *value) {
    const char *name = json_string_value(value);
    return name != NULL && *name != '\0' && *name != '.' && strlen(name) < 256 && strlen(name) == json_string_length(value) && strchr(name, '/') == NULL;
}

static ot_status read_files(ot_manifest *m, const json_t *j, const char *path, ot_error *err) {
    const json_t *list = json_object_get(j, "files");
    if (list == NULL) return OT_OK;
    if (!json_is_array(list) || json_array_size(list) > MAX_FILES) return bad(path, "files", "a list of files", err);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i), *name = json_object_get(entry, "name");
        const char *sha = json_string_value(json_object_get(entry, "sha256"));
        if (!is_plain(name) || sha == NULL || !is_hex(sha, OT_DIGEST_TEXT - 1)) return bad(path, "files", "a list of files of this folder with name and sha256", err);
        for (int64_t k = 0; k < m->n_files; k++) {
            if (strcmp(m->files[k].name, json_string_value(name)) == 0) return ot_fail(err, OT_ERR_FORMAT, "%s: file %s is listed twice", path, m->files[k].name);
        }
        OT_TRY(append_file(m, json_string_value(name), sha, err));
    }
    return OT_OK;
}

static ot_status read_classes(ot_manifest *m, const json_t *j, const char *path, ot_error *err) {
    const json_t *list = json_object_get(j, "classes");
    if (list == NULL || json_is_null(list)) return OT_OK;
    size_t n = json_array_size(list);
    if (!json_is_array(list) || n < 2 || n > OT_MAX_CLASSES) return bad(path, "classes", "a list of two names or more", err);
    const char **names = NULL;
    /* An array of pointers is meant. NOLINTNEXTLINE(bugprone-sizeof-expression) */
    OT_TRY(ot_calloc((int64_t)n, sizeof *names, "class names", (void **)&names, err));
    ot_status status = OT_OK;
    for (size_t i = 0; status == OT_OK && i < n; i++) {
        const json_t *name = json_array_get(list, i);
        names[i] = json_string_value(name);
        if (names[i] == NULL || *names[i] == '\0' || strlen(names[i]) > OT_MAX_CLASS_NAME || strlen(names[i]) != json_string_length(name)) {
            status = bad(path, "classes", "a list of short names", err);
        }
    }
    if (status == OT_OK) status = ot_manifest_classes(m, names, (int64_t)n, err);
    ot_free(names);
    return status;
}

static ot_status read_all(ot_manifest *m, const json_t *j, const char *path, ot_error *err) {
    char format[32];
    int64_t version = 0;
    OT_TRY(read_text(j, "format", path, format, sizeof format, err));
    if (strcmp(format, kind_names[OT_BUNDLE_OFFER]) == 0) {
        m->kind = OT_BUNDLE_OFFER;
    } else if (strcmp(format, kind_names[OT_BUNDLE_RETURN]) == 0) {
        m->kind = OT_BUNDLE_RETURN;
    } else {
        return bad(path, "format", "offsite-offer or offsite-return", err);
    }
    OT_TRY(read_count(j, "version", path, &version, err));
    if (version != SCHEMA_VERSION) {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: manifest version %" PRId64 " is not supported: this program reads version %d", path, version,
                       SCHEMA_VERSION);
    }
    OT_TRY(read_text(j, "offer_id", path, m->offer_id, sizeof m->offer_id, err));
    if (!is_hex(m->offer_id, OT_OFFER_ID - 1)) return bad(path, "offer_id", "32 hexadecimal digits", err);
    OT_TRY(read_text(j, "architecture", path, m->architecture, sizeof m->architecture, err));
    OT_TRY(read_count(j, "layers", path, &m->layers, err));
    OT_TRY(read_count(j, "bottom", path, &m->bottom, err));
    OT_TRY(read_count(j, "top", path, &m->top, err));
    if (m->bottom + m->top > m->layers) return bad(path, "layers", "at least bottom plus top", err);
    if (m->kind == OT_BUNDLE_RETURN) OT_TRY(read_text(j, "method", path, m->method, sizeof m->method, err));
    if (m->kind == OT_BUNDLE_RETURN) OT_TRY(read_classes(m, j, path, err));
    const json_t *tensors = json_object_get(j, "tensors");
    if (!json_is_array(tensors) || json_array_size(tensors) > MAX_TENSORS) return bad(path, "tensors", "a list", err);
    for (size_t i = 0; i < json_array_size(tensors); i++) OT_TRY(read_tensor(m, json_array_get(tensors, i), path, err));
    OT_TRY(read_files(m, j, path, err));
    m->card = json_incref(json_object_get(j, "card"));
    return OT_OK;
}

bool ot_manifest_unfinished(const char *dir) {
    char path[4096];
    return ot_path_join(path, sizeof path, dir, "checkpoint.safetensors") && ot_path_exists(path);
}

ot_status ot_manifest_read(const char *dir, ot_bundle_kind wanted, ot_manifest *out, ot_error *err) {
    static const char *const kinds[] = {"an offer or a return", "an offer", "a return"};
    char path[4096];
    *out = (ot_manifest){0};
    if (!ot_path_exists(dir)) return ot_fail(err, OT_ERR_IO, "there is no %s: give the folder of %s", dir, kinds[wanted]);
    if (!ot_path_is_dir(dir)) return OT_OK;
    if (!ot_path_join(path, sizeof path, dir, "manifest.json")) return ot_fail(err, OT_ERR_IO, "the path %s is too long", dir);
    if (!ot_path_exists(path)) return OT_OK;
    json_t *j = NULL;
    OT_TRY(ot_json_read(path, MANIFEST_LIMIT, &j, err));
    ot_status status = read_all(out, j, path, err);
    json_decref(j);
    if (status != OT_OK) ot_manifest_free(out);
    return status;
}

const ot_manifest_tensor *ot_manifest_find(const ot_manifest *m, const char *name) {
    for (int64_t i = 0; i < m->n_tensors; i++) {
        if (strcmp(m->tensors[i].name, name) == 0) return &m->tensors[i];
    }
    return NULL;
}

ot_status ot_manifest_check(const ot_manifest *m, const ot_tensor *t, const char *file, ot_error *err) {
    const ot_manifest_tensor *want = ot_manifest_find(m, t->name);
    if (want == NULL) return ot_fail(err, OT_ERR_REFUSED, "%s: tensor %s is not in the manifest", file, t->name);
    bool same = want->dtype == t->dtype && want->n_dims == t->n_dims;
    for (int32_t d = 0; same && d < t->n_dims; d++) same = want->shape[d] == t->shape[d];
    if (!same) return ot_fail(err, OT_ERR_REFUSED, "%s: tensor %s has another dtype or shape than the manifest says", file, t->name);
    char sha[OT_DIGEST_TEXT];
    ot_digest_of(t->data, t->bytes, sha);
    if (strcmp(sha, want->sha256) != 0) {
        return ot_fail(err, OT_ERR_REFUSED, "%s: tensor %s does not have the SHA-256 of the manifest: the file was changed or damaged", file, t->name);
    }
    return OT_OK;
}

bool ot_offer_is(const char *path) {
    char file[4096];
    json_t *j = NULL;
    ot_error ignored;
    if (!ot_path_is_dir(path) || !ot_path_join(file, sizeof file, path, "manifest.json") || !ot_path_exists(file)) return false;
    if (ot_json_read(file, MANIFEST_LIMIT, &j, &ignored) != OT_OK) return false;
    const char *format = json_string_value(json_object_get(j, "format"));
    bool offer = format != NULL && strcmp(format, kind_names[OT_BUNDLE_OFFER]) == 0;
    json_decref(j);
    return offer;
}

ot_status ot_offer_check_files(const char *path, ot_error *err) {
    ot_manifest m;
    if (!ot_offer_is(path)) return OT_OK;
    OT_TRY(ot_manifest_read(path, OT_BUNDLE_OFFER, &m, err));
    ot_status status = ot_manifest_check_files(&m, path, err);
    ot_manifest_free(&m);
    return status;
}
