/* Parameters of a model: naming, lookup, binding of stored tensors to the slots that the engine computes with. */
#include "model/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/folder.h"
#include "format/gguf.h"
#include "format/json.h"
#include "format/safetensors.h"
#include "tensor/packed.h"

enum { CONFIG_LIMIT = 64 << 20 };

int64_t ot_param_elements(const ot_param *p) { return p->slot.rows * p->slot.cols; }

ot_status ot_param_name(const ot_arch *arch, ot_role role, int64_t block, bool bias, char name[OT_PARAM_NAME], ot_error *err) {
    const char *template = arch->stems[role];
    if (template == NULL) {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "the architecture %s has no name for one of the parts its configuration asks for", arch->name);
    }
    const char *prefix = role == OT_ROLE_HEAD ? "" : arch->prefix, *kind = bias ? ".bias" : (arch->bare >> role & 1U) != 0 ? "" : ".weight";
    /* Templates come from the const tables of arch/, with at most one %d. */
    const char *mark = strstr(template, "%d");
    if (mark != NULL) {
        snprintf(name, OT_PARAM_NAME, "%s%.*s%lld%s%s", prefix, (int)(mark - template), template, (long long)block, mark + 2, kind);
    } else {
        snprintf(name, OT_PARAM_NAME, "%s%s%s", prefix, template, kind);
    }
    return OT_OK;
}

ot_status ot_param_name_at(const ot_model *m, const ot_param *p, int64_t block, char name[OT_PARAM_NAME], ot_error *err) {
    OT_TRY(ot_param_name(m->desc.arch, p->role, block, p->bias, name, err));
    if (p->factor == 0) return OT_OK;
    size_t stem = strlen(name) - strlen("weight");
    snprintf(name + stem, OT_PARAM_NAME - stem, "%s.weight", p->factor == OT_FACTOR_IN ? "svd_in" : "svd_out");
    return OT_OK;
}

static ot_status add_param(ot_model *m, ot_role role, int64_t block, int factor, bool bias, const ot_role_shape *s, ot_error *err) {
    char name[OT_PARAM_NAME];
    ot_param *p = &m->params[m->n_params++];
    *p = (ot_param){.role = role, .block = (int32_t)block, .bias = bias, .factor = (uint8_t)factor, .decay = !bias && !s->vector};
    OT_TRY(ot_param_name_at(m, p, block, name, err));
    p->name = ot_arena_strdup(&m->arena, name, err);
    if (p->name == NULL) return OT_ERR_MEMORY;
    bool is_vector = bias || s->vector;
    p->slot = (ot_slot){.rows = is_vector ? 1 : s->rows, .cols = bias ? s->out : s->cols, .dtype = m->compute};
    p->stored = (ot_tensor){.name = p->name, .n_dims = is_vector ? 1 : s->n_dims, .dtype = OT_F32};
    p->stored.shape[0] = p->slot.cols;
    for (int32_t k = 0; !is_vector && k < s->n_dims; k++) p->stored.shape[k] = s->shape[k];
    const ot_block_form *form = ot_forms_of(&m->forms, block);
    if (form == NULL || form->bits == 0 || is_vector) return OT_OK;
    int64_t rows = p->slot.rows, groups = ot_packed_row_groups(p->slot.cols, form->group);
    p->slot.dtype = p->stored.dtype = ot_forms_packed_dtype(form);
    p->slot.group = form->group;
    p->stored.bytes = rows * ot_packed_row_bytes(p->stored.dtype, p->slot.cols);
    p->scales = (ot_tensor){.name = p->name, .dtype = OT_BF16, .n_dims = 2, .shape = {rows, groups}, .bytes = rows * groups * 2};
    return OT_OK;
}

static ot_status add_role(ot_model *m, ot_role role, int64_t block, ot_error *err) {
    ot_desc d = ot_forms_desc(&m->desc, &m->forms, block);
    ot_role_shape s = ot_desc_shape(&d, role);
    const ot_block_form *form = ot_forms_of(&m->forms, block);
    int64_t rank = form == NULL || s.vector ? 0 : form->rank[role];
    if (!s.exists) return OT_OK;
    if (rank > 0) {
        ot_role_shape in = s, out = s;
        *(d.conv1d ? &in.cols : &in.rows) = rank;
        *(d.conv1d ? &out.rows : &out.cols) = rank;
        in.shape[0] = in.rows;
        in.shape[1] = in.cols;
        out.shape[0] = out.rows;
        out.shape[1] = out.cols;
        OT_TRY(add_param(m, role, block, OT_FACTOR_IN, false, &in, err));
        OT_TRY(add_param(m, role, block, OT_FACTOR_OUT, false, &out, err));
    } else {
        OT_TRY(add_param(m, role, block, 0, false, &s, err));
    }
    return s.bias ? add_param(m, role, block, 0, true, &s, err) : OT_OK;
}

ot_status ot_model_layout(ot_model *m, ot_error *err) {
    int64_t most = (m->desc.layers + 1) * 3 * OT_ROLE_COUNT;
    if (m->config != NULL && !ot_forms_any(&m->forms)) OT_TRY(ot_forms_read(m->config, m->path, &m->desc, &m->forms, &m->arena, err));
    m->params = calloc((size_t)most, sizeof *m->params);
    m->block_starts = calloc((size_t)m->desc.layers + 1, sizeof *m->block_starts);
    if (m->params == NULL || m->block_starts == NULL) return ot_fail_memory(err, (uint64_t)most * sizeof *m->params, "the parameter table");
    for (int r = 0; r < OT_ROLE_NORM1; r++) OT_TRY(add_role(m, (ot_role)r, -1, err));
    for (int64_t b = 0; b < m->desc.layers; b++) {
        m->block_starts[b] = m->n_params;
        for (int r = 0; r < OT_ROLE_COUNT; r++) {
            if (ot_role_in_block((ot_role)r)) OT_TRY(add_role(m, (ot_role)r, b, err));
        }
    }
    m->block_starts[m->desc.layers] = m->n_params;
    for (int r = OT_ROLE_FINAL_NORM; r < OT_ROLE_COUNT; r++) OT_TRY(add_role(m, (ot_role)r, -1, err));
    return OT_OK;
}

int64_t ot_model_depth(const ot_model *m) { return m->forms.stack != NULL ? m->forms.depth : m->desc.layers; }

int64_t ot_model_block_at(const ot_model *m, int64_t item) { return m->forms.stack != NULL ? m->forms.stack[item] : item; }

static ot_param *find_param(const ot_model *m, ot_role role, int64_t block, int factor, bool bias) {
    bool inside = block >= 0 && block < m->desc.layers;
    int64_t first = inside ? m->block_starts[block] : 0, last = inside ? m->block_starts[block + 1] : m->n_params;
    for (int64_t i = first; i < last; i++) {
        ot_param *p = &m->params[i];
        if (p->role == role && p->block == block && p->bias == bias && p->factor == factor) return p;
    }
    return NULL;
}

ot_param *ot_model_param(const ot_model *m, ot_role role, int64_t block, bool bias) { return find_param(m, role, block, 0, bias); }

ot_param *ot_model_factor(const ot_model *m, ot_role role, int64_t block, int factor) { return find_param(m, role, block, factor, false); }

const ot_slot *ot_model_slot(const ot_model *m, ot_role role, int64_t block, bool bias) {
    const ot_param *p = ot_model_param(m, role, block, bias);
    return p == NULL ? NULL : &p->slot;
}

bool ot_model_tunes_head(const ot_model *m, const ot_param *p) { return m->desc.vision && p->role == OT_ROLE_HEAD; }

ot_param *ot_model_find(const ot_model *m, const char *name) {
    for (int64_t i = 0; i < m->n_params; i++) {
        if (strcmp(m->params[i].name, name) == 0) return &m->params[i];
    }
    return NULL;
}

int64_t ot_model_parameters(const ot_model *m) {
    int64_t n = 0;
    for (int64_t i = 0; i < m->n_params; i++) n += ot_param_elements(&m->params[i]);
    return n;
}

int64_t ot_param_stored_bytes(const ot_param *p) { return p->stored.bytes + p->scales.bytes; }

int64_t ot_model_stored_bytes(const ot_model *m) {
    int64_t n = 0;
    for (int64_t i = 0; i < m->n_params; i++) n += ot_param_stored_bytes(&m->params[i]);
    return n;
}

ot_dtype ot_model_dtype(const ot_model *m) {
    int64_t elements[OT_DTYPE_COUNT] = {0};
    for (int64_t i = 0; i < m->n_params; i++) elements[m->params[i].stored.dtype] += ot_param_elements(&m->params[i]);
    int best = OT_F32;
    for (int d = 0; d < OT_DTYPE_COUNT; d++) {
        if (elements[d] > elements[best]) best = d;
    }
    return (ot_dtype)best;
}

void ot_param_read(const ot_param *p, float *out) {
    ot_slot_read(&p->slot, out);
}

/* ==== Binding. ==== */

static bool is_vector(const ot_param *p) { return p->slot.rows == 1 && p->stored.n_dims == 1; }

/* Unaligned matrices are copied: kernels read them as arrays of their element type. */
static bool needs_copy(const ot_param *p) {
    if (is_vector(p) || ot_dtype_is_quantised(p->stored.dtype)) return false;
    return (uintptr_t)p->stored.data % (uintptr_t)ot_dtype_info(p->stored.dtype)->block_bytes != 0;
}

ot_status ot_model_bind(ot_model *m, ot_error *err) {
    int64_t vector_elements = 0, copy_bytes = 0;
    for (int64_t i = 0; i < m->n_params; i++) {
        const ot_param *p = &m->params[i];
        if (is_vector(p)) vector_elements += ot_round_up(p->slot.cols, 16);
        if (needs_copy(p)) copy_bytes += ot_round_up(p->stored.bytes, OT_ALIGN);
    }
    OT_TRY(ot_malloc(vector_elements, m->compute == OT_F64 ? 8 : 4, "gains and biases", &m->vectors, err));
    OT_TRY(ot_malloc(copy_bytes, 1, "unaligned tensors", &m->copies, err));
    int64_t at = 0, copied = 0;
    for (int64_t i = 0; i < m->n_params; i++) {
        ot_param *p = &m->params[i];
        if (!is_vector(p)) {
            p->slot.dtype = p->stored.dtype;
            p->slot.data = p->stored.data;
            p->slot.scales = p->scales.data;
            if (needs_copy(p)) {
                void *copy = (char *)m->copies + copied;
                memcpy(copy, p->stored.data, (size_t)p->stored.bytes);
                p->slot.data = copy;
                copied += ot_round_up(p->stored.bytes, OT_ALIGN);
            }
            continue;
        }
        p->slot.dtype = m->compute;
        if (m->compute == OT_F64) {
            double *v = (double *)m->vectors + at;
            for (int64_t j = 0; j < p->slot.cols; j++) {
                float one;
                ot_decode_f32(p->stored.dtype, (const char *)p->stored.data + j * ot_dtype_info(p->stored.dtype)->block_bytes, &one, 1);
                v[j] = (double)one;
            }
            p->slot.data = v;
        } else {
            float *v = (float *)m->vectors + at;
            ot_decode_f32(p->stored.dtype, p->stored.data, v, p->slot.cols);
            p->slot.data = v;
        }
        at += ot_round_up(p->slot.cols, 16);
    }
    return OT_OK;
}

/* ==== Opening. ==== */

static ot_status new_model(const char *path, ot_dtype compute, ot_model **out, ot_error *err) {
    ot_model *m = calloc(1, sizeof *m);
    if (m == NULL) return ot_fail_memory(err, sizeof *m, "a model");
    m->compute = compute;
    m->path = strdup(path);
    if (m->path == NULL) {
        free(m);
        return ot_fail_memory(err, strlen(path), "a path");
    }
    *out = m;
    return OT_OK;
}

static ot_status read_config(ot_model *m, const char *path, ot_error *err) {
    OT_TRY(ot_json_read(path, CONFIG_LIMIT, &m->config, err));
    return ot_desc_from_config(m->config, path, &m->desc, err);
}

/* A folder that is no model's: what it is instead. */
static ot_status no_config(const char *path, ot_error *err) {
    char gguf[4096];
    if (ot_folder_is_adapter(path)) {
        return ot_fail(err, OT_ERR_IO, "%s is a return or an adapter and no model: the model comes first, what was tuned over it after it", path);
    }
    int64_t ggufs = ot_folder_ggufs(path, gguf, sizeof gguf);
    if (ggufs == 1) return ot_fail(err, OT_ERR_IO, "%s holds no config.json, but a GGUF file, which is a model by itself: give %s", path, gguf);
    if (ggufs > 1) return ot_fail(err, OT_ERR_IO, "%s holds no config.json, but %lld GGUF files: give one of them, such as %s", path, (long long)ggufs, gguf);
    return ot_fail(err, OT_ERR_IO, "%s holds no config.json: a model directory needs config.json and model.safetensors", path);
}

ot_status ot_model_open(const char *path, ot_dtype compute, ot_model **out, ot_error *err) {
    ot_model *m = NULL;
    if (compute != OT_F32 && compute != OT_F64) return ot_fail(err, OT_ERR_USAGE, "a model is opened for f32 (also for bf16 arithmetic) or f64");
    OT_TRY(new_model(path, compute, &m, err));
    ot_status status = OT_OK;
    if (ot_path_is_dir(path)) {
        char config[4096];
        m->source = OT_SOURCE_HF;
        if (!ot_path_join(config, sizeof config, path, "config.json")) {
            status = ot_fail(err, OT_ERR_IO, "the path %s is too long", path);
        } else if (!ot_path_exists(config)) {
            status = no_config(path, err);
        } else {
            status = read_config(m, config, err);
        }
        if (status == OT_OK) status = ot_model_layout(m, err);
        if (status == OT_OK) status = ot_model_load_hf(m, path, err);
    } else if (ot_gguf_is(path)) {
        m->source = OT_SOURCE_GGUF;
        status = ot_model_load_gguf(m, path, err);
    } else if (!ot_path_exists(path)) {
        status = ot_fail(err, OT_ERR_IO, "there is no %s: give a Hugging Face model directory or a GGUF file", path);
    } else {
        status = ot_fail(err, OT_ERR_FORMAT, "%s is neither a Hugging Face model directory nor a GGUF file", path);
    }
    if (status == OT_OK) status = ot_model_bind(m, err);
    if (status != OT_OK) {
        ot_model_close(m);
        return status;
    }
    *out = m;
    return OT_OK;
}

ot_status ot_model_from_config(const char *path, ot_model **out, ot_error *err) {
    ot_model *m = NULL;
    OT_TRY(new_model(path, OT_F32, &m, err));
    m->source = OT_SOURCE_CONFIG;
    char config[4096];
    ot_status status = OT_OK;
    if (!ot_path_exists(path)) {
        status = ot_fail(err, OT_ERR_IO, "there is no %s: give a config.json or a folder with one", path);
    } else if (!ot_path_is_dir(path)) {
        snprintf(config, sizeof config, "%s", path);
    } else if (!ot_path_join(config, sizeof config, path, "config.json")) {
        status = ot_fail(err, OT_ERR_IO, "the path %s is too long", path);
    }
    if (status == OT_OK) status = read_config(m, config, err);
    if (status == OT_OK) status = ot_model_layout(m, err);
    char *name = m->path + (ot_path_base(m->path) - m->path);
    if (status == OT_OK && !ot_path_is_dir(path)) {
        /* "dir/config.json" -> "dir", "config.json" -> "." */
        if (name == m->path) {
            memcpy(m->path, ".", 2);
        } else {
            name[-1 + (name == m->path + 1)] = '\0';
        }
    }
    if (status != OT_OK) {
        ot_model_close(m);
        return status;
    }
    *out = m;
    return OT_OK;
}

ot_status ot_model_from_json(json_t *config, const char *where, ot_model **out, ot_error *err) {
    ot_model *m = NULL;
    ot_status status = new_model(where, OT_F32, &m, err);
    if (status != OT_OK) {
        json_decref(config);
        return status;
    }
    m->source = OT_SOURCE_CONFIG;
    m->config = config;
    status = ot_desc_from_config(config, where, &m->desc, err);
    if (status == OT_OK) status = ot_model_layout(m, err);
    if (status != OT_OK) {
        ot_model_close(m);
        return status;
    }
    *out = m;
    return OT_OK;
}

void ot_model_close(ot_model *m) {
    if (m == NULL) return;
    for (int64_t i = 0; i < m->n_files; i++) {
        if (m->source == OT_SOURCE_GGUF) {
            ot_gguf_close(m->files[i]);
        } else {
            ot_safetensors_close(m->files[i]);
        }
    }
    free(m->files);
    json_decref(m->config);
    ot_free(m->vectors);
    ot_free(m->permuted);
    ot_free(m->copies);
    free(m->params);
    free(m->block_starts);
    free(m->path);
    ot_arena_free(&m->arena);
    free(m);
}
