#include "protocol/return.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/safetensors.h"
#include "model/save.h"
#include "protocol/split.h"

static const char adapter_file[] = "adapter.safetensors";

bool ot_return_trains(const ot_manifest *offer, const char *method, const ot_param *p) {
    bool adapter_layer = p->block >= 0 && (p->block < offer->bottom || p->block >= offer->layers - offer->top);
    if (!adapter_layer) return false;
    if (strcmp(method, "bitfit") == 0) return !p->decay;
    if (strcmp(method, "bitfit:gains=no") == 0) return p->bias;
    return true;
}

ot_status ot_return_write(const char *dir, const ot_manifest *offer, const char *method, const ot_trainables *t, json_t *card, ot_error *err) {
    char path[4200];
    if (!ot_path_join(path, sizeof path, dir, adapter_file)) return ot_fail(err, OT_ERR_IO, "the path %s is too long", dir);
    ot_tensor *tensors = calloc((size_t)t->n_items + 1, sizeof *tensors);
    if (tensors == NULL) return ot_fail_memory(err, (uint64_t)t->n_items * sizeof *tensors, "a tensor table");
    ot_manifest m = {.kind = OT_BUNDLE_RETURN, .layers = offer->layers, .bottom = offer->bottom, .top = offer->top, .card = json_incref(card)};
    memcpy(m.offer_id, offer->offer_id, sizeof m.offer_id);
    memcpy(m.architecture, offer->architecture, sizeof m.architecture);
    snprintf(m.method, sizeof m.method, "%s", method);
    ot_status status = OT_OK;
    for (int64_t i = 0; status == OT_OK && i < t->n_items; i++) {
        const ot_trainable *item = &t->items[i];
        tensors[i] = (ot_tensor){.name = item->name,
                                 .dtype = OT_F32,
                                 .n_dims = item->n_dims,
                                 .shape = {item->shape[0], item->shape[1]},
                                 .bytes = item->count * 4,
                                 .data = t->master + item->offset};
        status = ot_manifest_add(&m, &tensors[i], err);
    }
    if (status == OT_OK) status = ot_safetensors_write(path, tensors, t->n_items, NULL, err);
    if (status == OT_OK) status = ot_manifest_write(&m, dir, err);
    free(tensors);
    ot_manifest_free(&m);
    return status;
}

static ot_status check_finite(const ot_tensor *t, const char *file, ot_error *err) {
    const char *data = t->data;
    for (int64_t i = 0; i < t->bytes / 4; i++) {
        float v;
        memcpy(&v, data + i * 4, 4);
        if (!isfinite(v)) return ot_fail(err, OT_ERR_REFUSED, "%s: tensor %s holds %g at element %lld: not plugged in", file, t->name, (double)v, (long long)i);
    }
    return OT_OK;
}

static ot_status check_tensors(const ot_return *r, const char *path, ot_error *err) {
    if (ot_safetensors_count(r->file) != r->manifest.n_tensors) {
        return ot_fail(err, OT_ERR_REFUSED, "%s holds %lld tensors, but the manifest lists %lld", path, (long long)ot_safetensors_count(r->file),
                       (long long)r->manifest.n_tensors);
    }
    for (int64_t i = 0; i < r->manifest.n_tensors; i++) {
        const ot_tensor *t = ot_safetensors_at(r->file, i);
        if (t->dtype != OT_F32) return ot_fail(err, OT_ERR_REFUSED, "%s: tensor %s is not F32", path, t->name);
        /* Before the digest, so that a bad number is called by its name. */
        OT_TRY(check_finite(t, path, err));
        OT_TRY(ot_manifest_check(&r->manifest, t, path, err));
    }
    return OT_OK;
}

ot_status ot_return_open(const char *dir, ot_return *out, ot_error *err) {
    *out = (ot_return){0};
    OT_TRY(ot_manifest_read(dir, &out->manifest, err));
    if (out->manifest.kind != OT_BUNDLE_RETURN) {
        bool offer = out->manifest.kind == OT_BUNDLE_OFFER;
        ot_return_close(out);
        return ot_fail(err, OT_ERR_REFUSED, "%s is %s: a return, as `offsite tune` writes it, is needed", dir,
                       offer ? "an offer" : "no bundle (it holds no manifest.json)");
    }
    char path[4200];
    ot_safetensors *st = NULL;
    ot_status status = OT_OK;
    if (!ot_path_join(path, sizeof path, dir, adapter_file)) status = ot_fail(err, OT_ERR_IO, "the path %s is too long", dir);
    if (status == OT_OK) status = ot_safetensors_open(path, &st, err);
    out->file = st;
    if (status == OT_OK) status = check_tensors(out, path, err);
    if (status != OT_OK) ot_return_close(out);
    return status;
}

void ot_return_close(ot_return *r) {
    ot_safetensors_close(r->file);
    ot_manifest_free(&r->manifest);
    *r = (ot_return){0};
}

/* The block of the return's offer that became `block` of the model, -1: none of the adapter layers. */
static int64_t offer_block(const ot_manifest *m, const int64_t *map, int64_t block) {
    for (int64_t i = 0; i < m->layers; i++) {
        bool adapter_layer = i < m->bottom || i >= m->layers - m->top;
        if (adapter_layer && map[i] == block) return i;
    }
    return -1;
}

ot_status ot_return_map(const ot_return *r, const ot_model *m, const int64_t *block_map, int64_t n_blocks, const float **values, ot_error *err) {
    const ot_manifest *manifest = &r->manifest;
    if (strcmp(manifest->architecture, m->desc.arch->name) != 0) {
        return ot_fail(err, OT_ERR_REFUSED, "the return is for the architecture %s, but the model is %s", manifest->architecture, m->desc.arch->name);
    }
    if (n_blocks != manifest->layers) {
        return ot_fail(err, OT_ERR_REFUSED, "the return is for an offer of %lld layers, but this one has %lld", (long long)manifest->layers,
                       (long long)n_blocks);
    }
    int64_t used = 0;
    for (int64_t i = 0; i < m->n_params; i++) {
        const ot_param *p = &m->params[i];
        values[i] = NULL;
        int64_t block = p->block < 0 ? -1 : offer_block(manifest, block_map, p->block);
        if (block < 0) continue;
        ot_param in_offer = *p;
        in_offer.block = (int32_t)block;
        if (!ot_return_trains(manifest, manifest->method, &in_offer)) continue;
        char name[OT_PARAM_NAME];
        OT_TRY(ot_param_name(m->desc.arch, p->role, block, p->bias, name, err));
        const ot_tensor *t = ot_safetensors_find(r->file, name);
        if (t == NULL) return ot_fail(err, OT_ERR_REFUSED, "the return lacks tensor %s", name);
        bool same = t->n_dims == p->stored.n_dims;
        for (int32_t d = 0; same && d < t->n_dims; d++) same = t->shape[d] == p->stored.shape[d];
        if (!same) {
            char have[96], want[96];
            return ot_fail(err, OT_ERR_REFUSED, "tensor %s of the return has shape %s, but the model's is %s", name,
                           ot_shape_text(t->shape, t->n_dims, have, sizeof have),
                           ot_shape_text(p->stored.shape, p->stored.n_dims, want, sizeof want));
        }
        values[i] = t->data;
        used++;
    }
    if (used != manifest->n_tensors) {
        for (int64_t i = 0; i < manifest->n_tensors; i++) {
            const ot_tensor *t = ot_safetensors_at(r->file, i);
            bool known = false;
            for (int64_t k = 0; k < m->n_params && !known; k++) known = values[k] == t->data;
            if (!known) return ot_fail(err, OT_ERR_REFUSED, "the return holds tensor %s, which is no tuned tensor of this model", t->name);
        }
    }
    return OT_OK;
}

/* ==== Plugging in. ==== */

typedef struct plug_job {
    const ot_model *m;
    const float **values;
    float *aligned; /* one tensor, as floats may lie unaligned in a file */
    ot_plug_summary *summary;
} plug_job;

static const float *tuned_values(void *context, const ot_param *p) {
    plug_job *job = context;
    const float *v = job->values[p - job->m->params];
    if (v == NULL) return NULL;
    memcpy(job->aligned, v, (size_t)ot_param_elements(p) * 4);
    return job->aligned;
}

static ot_status find_ledger(const ot_model *m, const char *return_dir, const char *out_dir, const ot_plug_options *o, const ot_manifest *r,
                             ot_ledger *ledger, ot_error *err) {
    if (o->ledger != NULL) {
        OT_TRY(ot_ledger_read(o->ledger, ledger, err));
    } else {
        const char *beside[] = {return_dir, m->path, out_dir};
        char parents[3][4096];
        for (int i = 0; i < 3; i++) {
            size_t n = strlen(beside[i]);
            while (n > 1 && beside[i][n - 1] == '/') n--;
            while (n > 0 && beside[i][n - 1] != '/') n--;
            snprintf(parents[i], sizeof parents[i], "%.*s", n > 0 ? (int)n : 1, n > 0 ? beside[i] : ".");
        }
        const char *all[] = {parents[0], parents[1], parents[2], "."};
        OT_TRY(ot_ledger_find(r->offer_id, all, (int)(sizeof all / sizeof *all), ledger, err));
    }
    if (strcmp(ledger->offer_id, r->offer_id) != 0) {
        ot_status status = ot_fail(err, OT_ERR_REFUSED, "the return is for offer %s, but the ledger is of offer %s", r->offer_id, ledger->offer_id);
        ot_ledger_free(ledger);
        return status;
    }
    return OT_OK;
}

static ot_status check_base(const ot_model *m, const ot_ledger *l, ot_error *err) {
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

static ot_status measure_change(plug_job *job, ot_error *err) {
    int64_t largest = 0;
    for (int64_t i = 0; i < job->m->n_params; i++) {
        if (job->values[i] != NULL && ot_param_elements(&job->m->params[i]) > largest) largest = ot_param_elements(&job->m->params[i]);
    }
    OT_TRY(ot_malloc(largest, 4, "a tuned tensor", (void **)&job->aligned, err));
    for (int64_t i = 0; i < job->m->n_params; i++) {
        const ot_param *p = &job->m->params[i];
        if (job->values[i] == NULL) continue;
        job->summary->tensors++;
        job->summary->values += ot_param_elements(p);
        ot_param_read(p, job->aligned);
        for (int64_t k = 0; k < ot_param_elements(p); k++) {
            float v;
            memcpy(&v, (const char *)job->values[i] + k * 4, 4);
            double change = fabs((double)v - (double)job->aligned[k]);
            if (change > job->summary->largest_change) job->summary->largest_change = change;
        }
    }
    return OT_OK;
}

static ot_status write_plugged(plug_job *job, const char *out_dir, const ot_plug_options *o, ot_error *err) {
    ot_staged_dir staged;
    OT_TRY(ot_staged_open(out_dir, o->force, &staged, err));
    ot_save_options save = {.own_dtype = o->own_dtype, .dtype = o->dtype, .values = tuned_values, .context = job};
    ot_status status = ot_model_save(job->m, staged.path, &save, err);
    if (status == OT_OK) status = ot_staged_commit(&staged, err);
    ot_staged_abort(&staged);
    return status;
}

ot_status ot_plug(const ot_model *m, const char *return_dir, const char *out_dir, const ot_plug_options *options, ot_plug_summary *summary,
                  ot_error *err) {
    ot_return r;
    ot_ledger ledger = {0};
    *summary = (ot_plug_summary){0};
    plug_job job = {.m = m, .summary = summary};
    OT_TRY(ot_return_open(return_dir, &r, err));
    ot_status status = find_ledger(m, return_dir, out_dir, options, &r.manifest, &ledger, err);
    if (status == OT_OK) status = check_base(m, &ledger, err);
    if (status == OT_OK) status = ot_calloc(m->n_params, sizeof *job.values, "a parameter table", (void **)&job.values, err);
    if (status == OT_OK) status = ot_return_map(&r, m, ledger.stack, ledger.n_stack, job.values, err);
    if (status == OT_OK) status = measure_change(&job, err);
    if (status == OT_OK) status = write_plugged(&job, out_dir, options, err);
    ot_free(job.values);
    ot_free(job.aligned);
    ot_ledger_free(&ledger);
    ot_return_close(&r);
    return status;
}
