/* Weights of a Hugging Face directory: model.safetensors, or the shards its index names. Other .safetensors files are ignored, pickles refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/json.h"
#include "format/safetensors.h"
#include "model/head.h"
#include "tensor/packed.h"

enum { INDEX_LIMIT = 256 << 20, MAX_SHARDS = 100000 };

static ot_status open_shard(ot_model *m, const char *dir, const char *file, ot_error *err) {
    char path[4096];
    if (!ot_path_join(path, sizeof path, dir, file)) return ot_fail(err, OT_ERR_IO, "the path %s/%s is too long", dir, file);
    void **grown = realloc(m->files, (size_t)(m->n_files + 1) * sizeof *grown);
    if (grown == NULL) return ot_fail_memory(err, (uint64_t)m->n_files * sizeof *grown, "the list of shards");
    m->files = grown;
    ot_safetensors *st = NULL;
    OT_TRY(ot_safetensors_open(path, &st, err));
    m->files[m->n_files++] = st;
    return OT_OK;
}

static ot_status open_index(ot_model *m, const char *dir, const char *index, ot_error *err) {
    json_t *json = NULL;
    OT_TRY(ot_json_read(index, INDEX_LIMIT, &json, err));
    const json_t *map = json_object_get(json, "weight_map");
    ot_status status = OT_OK;
    if (!json_is_object(map) || json_object_size(map) == 0) {
        status = ot_fail(err, OT_ERR_FORMAT, "%s: the object \"weight_map\" is missing or empty", index);
    }
    json_t *seen = json_object();
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)map, name, value) {
        if (status != OT_OK) break;
        const char *file = json_string_value(value);
        if (file == NULL || strchr(file, '/') != NULL || !ot_path_ends(file, ".safetensors")) {
            status = ot_fail(err, OT_ERR_FORMAT, "%s: tensor %s: the shard must be the name of a .safetensors file in the same directory", index, name);
        } else if (json_object_get(seen, file) == NULL) {
            if (m->n_files >= MAX_SHARDS) {
                status = ot_fail(err, OT_ERR_FORMAT, "%s names more than %d shards", index, MAX_SHARDS);
            } else {
                json_object_set_new(seen, file, json_true());
                status = open_shard(m, dir, file, err);
            }
        }
    }
    json_decref(seen);
    json_decref(json);
    return status;
}

static ot_status open_files(ot_model *m, const char *dir, ot_error *err) {
    char path[4096];
    if (!ot_path_join(path, sizeof path, dir, "model.safetensors")) return ot_fail(err, OT_ERR_IO, "the path %s is too long", dir);
    if (ot_path_exists(path)) return open_shard(m, dir, "model.safetensors", err);
    if (ot_path_join(path, sizeof path, dir, "model.safetensors.index.json") && ot_path_exists(path)) return open_index(m, dir, path, err);
    static const char *const pickles[] = {"pytorch_model.bin", "pytorch_model.bin.index.json"};
    for (size_t i = 0; i < sizeof pickles / sizeof *pickles; i++) {
        if (ot_path_join(path, sizeof path, dir, pickles[i]) && ot_path_exists(path)) {
            return ot_fail(err, OT_ERR_UNSUPPORTED,
                           "%s is a pickle, which can run code when opened: save the model again with save_pretrained(..., safe_serialization=True) "
                           "to get model.safetensors",
                           path);
        }
    }
    return ot_fail(err, OT_ERR_IO, "%s holds no model.safetensors and no model.safetensors.index.json", dir);
}

static const ot_tensor *find(const ot_model *m, const char *name) {
    for (int64_t i = 0; i < m->n_files; i++) {
        const ot_tensor *t = ot_safetensors_find(m->files[i], name);
        if (t != NULL) return t;
    }
    return NULL;
}

static ot_status missing(const char *dir, const char *name, ot_error *err) {
    return ot_fail(err, OT_ERR_FORMAT, "%s: the tensor %s is missing from the model's safetensors files", dir, name);
}

static ot_status check_shape(const ot_tensor *t, const int64_t *shape, int32_t n_dims, const char *dir, ot_error *err) {
    bool same = t->n_dims == n_dims;
    for (int d = 0; same && d < n_dims; d++) same = t->shape[d] == shape[d];
    if (same) return OT_OK;
    char have[96], want[96];
    return ot_fail(err, OT_ERR_FORMAT, "%s: tensor %s has shape %s, but config.json asks for %s", dir, t->name,
                   ot_shape_text(t->shape, t->n_dims, have, sizeof have), ot_shape_text(shape, n_dims, want, sizeof want));
}

/* Codes as I8 [rows, cols] or U8 [rows, ceil(cols / 2)], and their scales. */
static ot_status take_packed(ot_model *m, ot_param *p, const char *dir, ot_error *err) {
    char name[OT_PARAM_NAME + 8];
    snprintf(name, sizeof name, "%s_packed", p->name);
    const ot_tensor *codes = find(m, name);
    if (codes == NULL) return missing(dir, name, err);
    ot_dtype dtype = p->stored.dtype == OT_INT4G ? OT_U8 : OT_I8;
    int64_t shape[] = {p->slot.rows, ot_packed_row_bytes(p->stored.dtype, p->slot.cols)};
    OT_TRY(check_shape(codes, shape, 2, dir, err));
    snprintf(name, sizeof name, "%s_scale", p->name);
    const ot_tensor *scales = find(m, name);
    if (scales == NULL) return missing(dir, name, err);
    OT_TRY(check_shape(scales, p->scales.shape, 2, dir, err));
    if (codes->dtype != dtype || scales->dtype != OT_BF16) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: tensor %s is stored as %s with scales as %s; %s with BF16 is needed", dir, codes->name,
                       ot_dtype_info(codes->dtype)->name, ot_dtype_info(scales->dtype)->name, ot_dtype_info(dtype)->name);
    }
    p->stored.data = codes->data;
    p->scales.data = scales->data;
    return OT_OK;
}

static ot_status take(ot_model *m, ot_param *p, const char *dir, ot_error *err) {
    if (ot_dtype_is_packed(p->stored.dtype)) return take_packed(m, p, dir, err);
    const ot_tensor *t = find(m, p->name);
    const char *prefix = m->desc.arch->prefix;
    size_t n = strlen(prefix);
    if (t == NULL && strncmp(p->name, prefix, n) == 0) t = find(m, p->name + n);
    if (t == NULL) return missing(dir, p->name, err);
    OT_TRY(check_shape(t, p->stored.shape, p->stored.n_dims, dir, err));
    if (!ot_dtype_is_float(t->dtype)) {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: tensor %s is stored as %s; F32, BF16, F16 and F64 can be read", dir, t->name,
                       ot_dtype_info(t->dtype)->name);
    }
    const char *name = p->name;
    p->stored = *t;
    p->stored.name = name;
    return OT_OK;
}

/* Of a vision tower that was saved without a classifier. */
static bool lacks_head(const ot_model *m) {
    bool lacks = m->desc.vision;
    for (int64_t i = 0; i < m->n_params && lacks; i++) lacks = !ot_model_tunes_head(m, &m->params[i]) || find(m, m->params[i].name) == NULL;
    return lacks;
}

/* A tensor inside a block that no part of the block reads would change what the model computes: layer-scale, a norm of another kind. */
static ot_status refuse_unread(const ot_model *m, const char *dir, ot_error *err) {
    const char *stem = m->desc.arch->stems[OT_ROLE_O], *mark = strstr(stem, "%d"), *prefix = m->desc.arch->prefix;
    for (int64_t f = 0; f < m->n_files; f++) {
        for (int64_t i = 0; i < ot_safetensors_count(m->files[f]); i++) {
            const char *name = ot_safetensors_at(m->files[f], i)->name, *inner = name;
            if (strncmp(inner, prefix, strlen(prefix)) == 0) inner += strlen(prefix);
            if (strncmp(inner, stem, (size_t)(mark - stem)) != 0) continue;
            bool known = false;
            for (int64_t k = 0; k < m->n_params && !known; k++) {
                const char *own = m->params[k].name;
                size_t n = strlen(own);
                if (m->params[k].block < 0) continue;
                /* Packed matrices are NAME_packed and NAME_scale. */
                known = strncmp(name, own, n) == 0 || strncmp(inner, own + strlen(prefix), n - strlen(prefix)) == 0;
            }
            if (!known) {
                return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: tensor %s belongs to no part of a block of %s: it would be left out, and the results would be wrong",
                               dir, name, m->desc.arch->name);
            }
        }
    }
    return OT_OK;
}

ot_status ot_model_load_hf(ot_model *m, const char *dir, ot_error *err) {
    OT_TRY(open_files(m, dir, err));
    bool lacks = lacks_head(m);
    int64_t tensors = 0, known = m->n_params;
    for (int64_t i = 0; i < m->n_params; i++) {
        if (lacks && ot_model_tunes_head(m, &m->params[i])) known--;
        else OT_TRY(take(m, &m->params[i], dir, err));
    }
    if (lacks) OT_TRY(ot_model_empty_head(m, err));
    if (m->desc.vision) OT_TRY(refuse_unread(m, dir, err));
    for (int64_t i = 0; i < m->n_params; i++) known += m->params[i].scales.name != NULL;
    for (int64_t i = 0; i < m->n_files; i++) tensors += ot_safetensors_count(m->files[i]);
    m->unused_tensors = tensors - known;
    return OT_OK;
}
