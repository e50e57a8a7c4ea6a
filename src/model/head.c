#include "model/head.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ==== Names. ==== */

ot_status ot_model_classes(const ot_model *m, ot_classes *out, ot_error *err) {
    *out = (ot_classes){.n = m->desc.vocab_size};
    const json_t *labels = json_object_get(m->config, "id2label");
    out->names = ot_arena_alloc(&out->arena, (out->n + 1) * (int64_t)sizeof *out->names, err);
    for (int64_t i = 0; out->names != NULL && i < out->n; i++) {
        char number[32], plain[48];
        snprintf(number, sizeof number, "%lld", (long long)i);
        snprintf(plain, sizeof plain, "LABEL_%lld", (long long)i);
        const char *name = json_string_value(json_object_get(labels, number));
        out->names[i] = ot_arena_strdup(&out->arena, name != NULL ? name : plain, err);
        if (out->names[i] == NULL) out->names = NULL;
    }
    if (out->names != NULL) return OT_OK;
    ot_classes_free(out);
    return OT_ERR_MEMORY;
}

void ot_classes_free(ot_classes *c) {
    ot_arena_free(&c->arena);
    *c = (ot_classes){0};
}

bool ot_classes_equal(const ot_classes *c, const char *const *names, int64_t n) {
    bool equal = c->n == n;
    for (int64_t i = 0; equal && i < n; i++) equal = strcmp(c->names[i], names[i]) == 0;
    return equal;
}

static int by_text(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

static const char **sorted(const char *const *names, int64_t n) {
    const char **copy = malloc((size_t)n * sizeof(const char *) + 1);
    if (copy == NULL) return NULL;
    for (int64_t i = 0; i < n; i++) copy[i] = names[i];
    qsort(copy, (size_t)n, sizeof(const char *), by_text);
    return copy;
}

bool ot_classes_same_set(const ot_classes *c, const char *const *names, int64_t n) {
    if (c->n != n) return false;
    const char **a = sorted((const char *const *)c->names, n), **b = sorted(names, n);
    bool same = a != NULL && b != NULL;
    for (int64_t i = 0; same && i < n; i++) same = strcmp(a[i], b[i]) == 0;
    free(a);
    free(b);
    return same;
}

static ot_status check_names(const char *const *names, int64_t n, ot_error *err) {
    if (n < 2 || n > OT_MAX_CLASSES) {
        return ot_fail(err, OT_ERR_REFUSED, "%lld classes make no classifier: from 2 to %d are needed", (long long)n, (int)OT_MAX_CLASSES);
    }
    for (int64_t i = 0; i < n; i++) {
        if (*names[i] == '\0' || strlen(names[i]) > OT_MAX_CLASS_NAME) {
            return ot_fail(err, OT_ERR_REFUSED, "the name of class %lld is %s", (long long)i, *names[i] == '\0' ? "empty" : "longer than 1024 bytes");
        }
    }
    const char **order = sorted(names, n);
    if (order == NULL) return ot_fail_memory(err, (uint64_t)n, "class names");
    ot_status status = OT_OK;
    for (int64_t i = 1; status == OT_OK && i < n; i++) {
        if (strcmp(order[i - 1], order[i]) == 0) status = ot_fail(err, OT_ERR_REFUSED, "two classes are called \"%s\"", order[i]);
    }
    free(order);
    return status;
}

static ot_status name_classes(ot_model *m, const char *const *names, int64_t n, ot_error *err) {
    json_t *config = json_deep_copy(m->config), *names_of = json_object(), *numbers_of = json_object();
    bool ok = config != NULL && names_of != NULL && numbers_of != NULL;
    for (int64_t i = 0; ok && i < n; i++) {
        char number[32];
        snprintf(number, sizeof number, "%lld", (long long)i);
        ok = json_object_set_new(names_of, number, json_string(names[i])) == 0 && json_object_set_new(numbers_of, names[i], json_integer(i)) == 0;
        if (!ok) ot_fail(err, OT_ERR_FORMAT, "the name of class %lld is not valid UTF-8", (long long)i);
    }
    if (ok) {
        json_object_set(config, "id2label", names_of);
        json_object_set(config, "label2id", numbers_of);
        if (json_object_get(config, "num_labels") != NULL) json_object_set_new(config, "num_labels", json_integer(n));
        json_decref(m->config);
        m->config = json_incref(config);
    }
    json_decref(names_of);
    json_decref(numbers_of);
    json_decref(config);
    return ok ? OT_OK : OT_ERR_FORMAT;
}

/* ==== Tensors. ==== */

static ot_status zeros(ot_model *m, ot_param *p, ot_error *err) {
    bool bias = p->bias;
    ot_dtype dtype = p->stored.dtype;
    if (!ot_dtype_bytes(dtype, ot_param_elements(p), &p->stored.bytes)) return ot_fail(err, OT_ERR_FORMAT, "tensor %s is too large", p->name);
    void *stored = ot_arena_alloc(&m->arena, p->stored.bytes, err);
    if (stored == NULL) return OT_ERR_MEMORY;
    memset(stored, 0, (size_t)p->stored.bytes);
    p->stored.data = stored;
    p->slot.dtype = bias ? m->compute : dtype;
    p->slot.data = stored;
    p->slot.scales = NULL;
    if (!bias) return OT_OK;
    /* As ot_model_bind: vectors are computed with in the model's own precision. */
    int64_t bytes = p->slot.cols * (m->compute == OT_F64 ? 8 : 4);
    void *vector = ot_arena_alloc(&m->arena, bytes, err);
    if (vector == NULL) return OT_ERR_MEMORY;
    memset(vector, 0, (size_t)bytes);
    p->slot.data = vector;
    return OT_OK;
}

ot_status ot_model_empty_head(ot_model *m, ot_error *err) {
    for (int64_t i = 0; i < m->n_params; i++) {
        if (!ot_model_tunes_head(m, &m->params[i])) continue;
        m->params[i].stored.dtype = m->params[0].stored.dtype;
        OT_TRY(zeros(m, &m->params[i], err));
    }
    m->headless = true;
    return OT_OK;
}

ot_status ot_model_new_head(ot_model *m, const char *const *names, int64_t n, ot_error *err) {
    if (!m->desc.vision) return ot_fail(err, OT_ERR_USAGE, "%s has no classification head", m->path);
    OT_TRY(check_names(names, n, err));
    OT_TRY(name_classes(m, names, n, err));
    m->desc.vocab_size = n;
    for (int64_t i = 0; i < m->n_params; i++) {
        ot_param *p = &m->params[i];
        if (!ot_model_tunes_head(m, p)) continue;
        p->stored.shape[0] = n;
        *(p->bias ? &p->slot.cols : &p->slot.rows) = n;
        OT_TRY(zeros(m, p, err));
    }
    m->headless = false;
    return OT_OK;
}
