#include "protocol/gguf_lora.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "format/gguf_write.h"
#include "model/gguf_map.h"
#include "peft/lora.h"

static const char alpha_key[] = "adapter.lora.alpha";

/* ==== Writing. ==== */

typedef struct lora_job {
    const ot_peft *p;
    ot_gguf_writer *w;
    ot_dtype dtype;
    double alpha; /* the file has one for all; each linear's own goes into its B */
    float *ordered;
    void *encoded;
    int64_t tensors, bytes;
} lora_job;

typedef ot_status lora_visit(lora_job *job, int32_t block, ot_role role, const ot_lora_place *place, ot_error *err);

static ot_status each_place(lora_job *job, lora_visit *visit, ot_error *err) {
    for (int32_t b = 0; b < job->p->model->desc.layers; b++) {
        for (int r = 0; r < OT_ROLE_COUNT; r++) {
            const ot_lora_place *place = ot_lora_at(job->p, b, (ot_role)r);
            if (place != NULL) OT_TRY(visit(job, b, (ot_role)r, place, err));
        }
    }
    return OT_OK;
}

static ot_status declare_one(lora_job *job, const char *name, const char *kind, const ot_slot *s, ot_error *err) {
    char full[OT_GGUF_NAME + 16];
    snprintf(full, sizeof full, "%s.%s", name, kind);
    ot_tensor t = {.name = full, .dtype = job->dtype, .n_dims = 2, .shape = {s->rows, s->cols}};
    if (!ot_dtype_bytes(t.dtype, s->rows * s->cols, &t.bytes)) return ot_fail(err, OT_ERR_FORMAT, "tensor %s is too large", full);
    job->tensors++;
    job->bytes += t.bytes;
    return ot_gguf_declare(job->w, &t, err);
}

static ot_status declare(lora_job *job, int32_t block, ot_role role, const ot_lora_place *place, ot_error *err) {
    char name[OT_GGUF_NAME];
    OT_TRY(ot_gguf_param_name(&job->p->model->desc, role, block, false, name, err));
    if (job->alpha == 0) job->alpha = place->scale * (double)place->a->slot.rows;
    OT_TRY(declare_one(job, name, "lora_a", &place->a->slot, err));
    return declare_one(job, name, "lora_b", &place->b->slot, err);
}

static ot_status put(lora_job *job, const float *values, int64_t n, ot_error *err) {
    int64_t bytes = 0;
    ot_dtype_bytes(job->dtype, n, &bytes);
    ot_encode_f32(job->dtype, values, job->encoded, n);
    return ot_gguf_writer_put(job->w, job->encoded, bytes, err);
}

static ot_status write_place(lora_job *job, int32_t block, ot_role role, const ot_lora_place *place, ot_error *err) {
    (void)block;
    const ot_desc *d = &job->p->model->desc;
    int64_t rows = place->b->slot.rows, rank = place->b->slot.cols;
    const float *b = place->b->slot.data;
    double own = job->alpha == 0 ? 1.0 : place->scale * (double)rank / job->alpha;
    OT_TRY(put(job, place->a->slot.data, place->a->slot.rows * place->a->slot.cols, err));
    for (int64_t r = 0; r < rows; r++) {
        float *to = job->ordered + ot_gguf_row(d, role, r) * rank;
        for (int64_t k = 0; k < rank; k++) to[k] = (float)(own * (double)b[r * rank + k]);
    }
    return put(job, job->ordered, rows * rank, err);
}

static ot_status write_file(lora_job *job, ot_error *err) {
    const ot_desc *d = &job->p->model->desc;
    int64_t largest = 0;
    for (int64_t i = 0; i < job->p->n_tensors; i++) {
        int64_t n = job->p->tensors[i]->slot.rows * job->p->tensors[i]->slot.cols;
        largest = n > largest ? n : largest;
    }
    ot_gguf_put_str(job->w, "general.architecture", d->arch->gguf_name);
    ot_gguf_put_str(job->w, "general.type", "adapter");
    ot_gguf_put_str(job->w, "adapter.type", "lora");
    OT_TRY(each_place(job, declare, err));
    ot_gguf_put_f32(job->w, alpha_key, job->alpha);
    OT_TRY(ot_malloc(largest, 4, "a tensor in the file's order", (void **)&job->ordered, err));
    OT_TRY(ot_malloc(largest, 4, "a converted tensor", &job->encoded, err));
    OT_TRY(ot_gguf_writer_begin(job->w, err));
    return each_place(job, write_place, err);
}

ot_status ot_gguf_lora_write(const ot_peft *p, const char *path, ot_dtype dtype, int64_t *tensors, int64_t *bytes, ot_error *err) {
    if (!ot_dtype_is_float(dtype)) return ot_fail(err, OT_ERR_USAGE, "--gguf-lora: an adapter is written as f32, f16 or bf16");
    if (ot_gguf_family_of(p->model->desc.arch) == NULL) {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "llama.cpp has no architecture for %s", p->model->desc.arch->name);
    }
    lora_job job = {.p = p, .dtype = dtype};
    OT_TRY(ot_gguf_writer_new(path, &job.w, err));
    ot_status status = write_file(&job, err);
    if (status == OT_OK) status = ot_gguf_writer_commit(job.w, err);
    if (status != OT_OK) ot_gguf_writer_abort(job.w);
    ot_free(job.ordered);
    ot_free(job.encoded);
    *tensors = job.tensors;
    *bytes = job.bytes;
    return status;
}

/* ==== Reading. ==== */

static const ot_tensor *find(const ot_gguf *g, const char *name, const char *kind) {
    char full[OT_GGUF_NAME + 16];
    snprintf(full, sizeof full, "%s.%s", name, kind);
    return ot_gguf_find(g, full);
}

/* Decoded rows; the file's order to the model's. */
static ot_status take(const ot_gguf *g, const ot_tensor *t, const ot_desc *d, bool ordered, ot_peft_tensor *to, ot_error *err) {
    int64_t rows = t->shape[0], cols = t->shape[1], row_bytes = t->bytes / rows;
    if (!ot_dtype_is_float(t->dtype) && (!ot_dtype_is_quantised(t->dtype) || cols % ot_dtype_info(t->dtype)->block_elements != 0)) {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: tensor %s has the type %s, which cannot be read", ot_gguf_path(g), t->name, ot_dtype_info(t->dtype)->name);
    }
    for (int64_t r = 0; r < rows; r++) {
        int64_t from = ordered ? ot_gguf_row(d, to->role, r) : r;
        ot_decode_f32(t->dtype, (const char *)t->data + from * row_bytes, to->values + r * cols, cols);
    }
    for (int64_t i = 0; i < rows * cols; i++) {
        if (!isfinite(to->values[i])) {
            return ot_fail(err, OT_ERR_REFUSED, "%s: tensor %s holds %g at element %lld", ot_gguf_path(g), t->name, (double)to->values[i], (long long)i);
        }
    }
    return OT_OK;
}

static ot_status take_place(const ot_gguf *g, ot_peft *p, int32_t block, ot_role role, double alpha, int64_t *used, ot_error *err) {
    const ot_desc *d = &p->model->desc;
    ot_role_shape s = ot_desc_shape(d, role);
    char name[OT_GGUF_NAME];
    if (!s.exists || s.vector || !ot_role_in_block(role) || ot_gguf_param_name(d, role, block, false, name, err) != OT_OK) return OT_OK;
    const ot_tensor *a = find(g, name, "lora_a"), *b = find(g, name, "lora_b");
    if (a == NULL && b == NULL) return OT_OK;
    bool fits = a != NULL && b != NULL && a->n_dims == 2 && b->n_dims == 2 && a->shape[1] == s.in && b->shape[0] == s.out && a->shape[0] == b->shape[1];
    if (!fits) {
        return ot_fail(err, OT_ERR_REFUSED, "%s: %s.lora_a and .lora_b must be [r, %lld] and [%lld, r] for this model", ot_gguf_path(g), name,
                       (long long)s.in, (long long)s.out);
    }
    int64_t rank = a->shape[0];
    OT_TRY(ot_lora_add(p, block, role, rank, alpha != 0 ? alpha / (double)rank : 1.0, err));
    const ot_lora_place *place = ot_lora_at(p, block, role);
    *used += 2;
    OT_TRY(take(g, a, d, false, place->a, err));
    return take(g, b, d, true, place->b, err);
}

static ot_status read_file(const ot_gguf *g, ot_model *m, ot_peft *p, const bool *tuned, ot_error *err) {
    const char *arch = ot_gguf_str(g, "general.architecture", NULL), *type = ot_gguf_adapter(g);
    double alpha = 0;
    int64_t used = 0;
    if (type == NULL) return ot_fail(err, OT_ERR_REFUSED, "%s is a GGUF without \"adapter.type\": a model, or something else that is no adapter", ot_gguf_path(g));
    if (strcmp(type, "lora") != 0) return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: only adapters of the type lora are read", ot_gguf_path(g));
    if (arch == NULL || m->desc.arch->gguf_name == NULL || strcmp(arch, m->desc.arch->gguf_name) != 0) {
        return ot_fail(err, OT_ERR_REFUSED, "%s: the adapter is for the architecture %s, but %s is %s", ot_gguf_path(g), arch == NULL ? "nameless" : arch,
                       m->path, m->desc.arch->name);
    }
    ot_gguf_f64(g, alpha_key, &alpha);
    OT_TRY(ot_lora_begin(p, false, m, tuned, err));
    ot_status status = OT_OK;
    for (int32_t b = 0; status == OT_OK && b < m->desc.layers; b++) {
        for (int r = 0; status == OT_OK && r < OT_ROLE_COUNT; r++) status = take_place(g, p, b, (ot_role)r, alpha, &used, err);
    }
    if (status == OT_OK && used != ot_gguf_tensor_count(g)) {
        status = ot_fail(err, OT_ERR_REFUSED, "%s holds %lld tensors, of which %lld belong to linears of this model", ot_gguf_path(g),
                         (long long)ot_gguf_tensor_count(g), (long long)used);
    }
    if (status != OT_OK) ot_peft_end(p);
    return status;
}

ot_status ot_gguf_lora_open(const char *path, ot_model *m, ot_peft *p, ot_error *err) {
    ot_gguf *g = NULL;
    void *tuned = NULL;
    *p = (ot_peft){0};
    OT_TRY(ot_gguf_open(path, &g, err));
    ot_status status = ot_malloc(m->desc.layers, 1, "a block table", &tuned, err);
    if (status == OT_OK) {
        memset(tuned, 1, (size_t)m->desc.layers);
        status = read_file(g, m, p, tuned, err);
    }
    ot_free(tuned);
    ot_gguf_close(g);
    return status;
}

/* ==== What it is. ==== */

bool ot_gguf_lora_is(const char *path) {
    ot_gguf *g = NULL;
    ot_error ignored;
    if (!ot_gguf_is(path) || ot_gguf_open(path, &g, &ignored) != OT_OK) return false;
    bool is = ot_gguf_adapter(g) != NULL;
    ot_gguf_close(g);
    return is;
}

static ot_status describe(const ot_gguf *g, ot_gguf_lora_card *out, ot_error *err) {
    const char *arch = ot_gguf_str(g, "general.architecture", NULL);
    if (strcmp(ot_gguf_adapter(g), "lora") != 0) return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: only adapters of the type lora are read", ot_gguf_path(g));
    snprintf(out->architecture, sizeof out->architecture, "%s", arch != NULL ? arch : "nameless");
    ot_gguf_f64(g, alpha_key, &out->alpha);
    out->tensors = ot_gguf_tensor_count(g);
    for (int64_t i = 0; i < out->tensors; i++) {
        const ot_tensor *t = ot_gguf_tensor_at(g, i);
        int64_t values = 1;
        for (int32_t d = 0; d < t->n_dims; d++) values *= t->shape[d]; /* the reader has checked that this fits */
        out->values += values;
        out->bytes += t->bytes;
        if (!ot_path_ends(t->name, ".lora_a") || t->n_dims != 2) continue;
        int64_t rank = t->shape[0];
        if (out->linears++ == 0 || rank < out->least_rank) out->least_rank = rank;
        if (rank > out->most_rank) out->most_rank = rank;
    }
    return OT_OK;
}

ot_status ot_gguf_lora_inspect(const char *path, ot_gguf_lora_card *out, ot_error *err) {
    ot_gguf *g = NULL;
    *out = (ot_gguf_lora_card){0};
    OT_TRY(ot_gguf_open(path, &g, err));
    ot_status status = ot_gguf_adapter(g) != NULL ? describe(g, out, err) : ot_fail(err, OT_ERR_REFUSED, "%s is a GGUF that holds no adapter", path);
    ot_gguf_close(g);
    return status;
}
