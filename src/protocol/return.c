#include "protocol/return.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/safetensors.h"
#include "model/head.h"
#include "protocol/peft_files.h"

static bool adapter_layer(const ot_manifest *offer, int64_t block) {
    return block >= 0 && (block < offer->bottom || block >= offer->layers - offer->top);
}

bool ot_return_trains(const ot_manifest *offer, const char *method, const ot_param *p) {
    ot_peft_choice c;
    ot_error ignored;
    return adapter_layer(offer, p->block) && ot_peft_parse(method, &c, &ignored) == OT_OK && ot_peft_trains(&c, p);
}

ot_status ot_return_write_peft(const char *dir, const ot_manifest *offer, const ot_peft *p, const ot_trainables *t, json_t *card, ot_error *err) {
    ot_manifest m = {.kind = OT_BUNDLE_RETURN, .layers = offer->layers, .bottom = offer->bottom, .top = offer->top, .card = json_incref(card)};
    memcpy(m.offer_id, offer->offer_id, sizeof m.offer_id);
    memcpy(m.architecture, offer->architecture, sizeof m.architecture);
    snprintf(m.method, sizeof m.method, "%s", p->text);
    ot_classes classes = {0};
    ot_status status = p->model != NULL && p->model->desc.vision ? ot_model_classes(p->model, &classes, err) : OT_OK;
    if (status == OT_OK && classes.n > 0) status = ot_manifest_classes(&m, (const char *const *)classes.names, classes.n, err);
    ot_classes_free(&classes);
    if (status == OT_OK) status = ot_peft_files_write(dir, p, t, ot_peft_form_in_return(&p->choice), &m, err);
    if (status == OT_OK) status = ot_manifest_add_files(&m, dir, (const char *const[]){"adapter_config.json", NULL}, err);
    if (status == OT_OK) status = ot_manifest_write(&m, dir, err);
    ot_manifest_free(&m);
    return status;
}

ot_status ot_return_write(const char *dir, const ot_manifest *offer, const char *method, const ot_trainables *t, json_t *card, ot_error *err) {
    ot_peft p = {0};
    OT_TRY(ot_peft_parse(method, &p.choice, err));
    snprintf(p.text, sizeof p.text, "%s", method);
    return ot_return_write_peft(dir, offer, &p, t, card, err);
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

/* What a stranger wrote is refused, not called wrong usage. */
static ot_status read_method(ot_return *r, const char *dir, ot_error *err) {
    if (ot_peft_parse(r->manifest.method, &r->choice, err) == OT_OK) return OT_OK;
    if (err != NULL) err->code = OT_ERR_REFUSED;
    ot_error_prefix(err, "%s/manifest.json, \"method\"", dir);
    return OT_ERR_REFUSED;
}

ot_status ot_return_open(const char *dir, ot_return *out, ot_error *err) {
    *out = (ot_return){0};
    OT_TRY(ot_manifest_read(dir, OT_BUNDLE_RETURN, &out->manifest, err));
    if (out->manifest.kind != OT_BUNDLE_RETURN) {
        bool offer = out->manifest.kind == OT_BUNDLE_OFFER;
        ot_return_close(out);
        return ot_fail(err, OT_ERR_REFUSED, "%s is %s: a return, as `offsite tune` writes it, is needed", dir,
                       offer                         ? "an offer"
                       : ot_manifest_unfinished(dir) ? "an unfinished run (go on with the same command and --resume)"
                                                     : "no bundle (it holds no manifest.json)");
    }
    char path[4200];
    ot_safetensors *st = NULL;
    ot_status status = ot_manifest_check_files(&out->manifest, dir, err);
    if (status == OT_OK) status = read_method(out, dir, err);
    const char *file = status == OT_OK ? ot_peft_form_file(ot_peft_form_in_return(&out->choice)) : "";
    if (status == OT_OK && !ot_path_join(path, sizeof path, dir, file)) status = ot_fail(err, OT_ERR_IO, "the path %s is too long", dir);
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
        if (adapter_layer(m, i) && map[i] == block) return i;
    }
    return -1;
}

static ot_status check_stack(const ot_manifest *manifest, const ot_model *m, int64_t n_blocks, ot_error *err) {
    if (strcmp(manifest->architecture, m->desc.arch->name) != 0) {
        return ot_fail(err, OT_ERR_REFUSED, "the return is for the architecture %s, but the model is %s", manifest->architecture, m->desc.arch->name);
    }
    if (n_blocks == manifest->layers) return OT_OK;
    return ot_fail(err, OT_ERR_REFUSED, "the return is for an offer of %lld layers, but this one has %lld", (long long)manifest->layers,
                   (long long)n_blocks);
}

ot_status ot_return_take_head(const ot_return *r, ot_model *m, ot_error *err) {
    const ot_manifest *manifest = &r->manifest;
    if (manifest->classes == NULL || !m->desc.vision) return OT_OK;
    m->headless = false; /* the return brings one */
    ot_classes own;
    OT_TRY(ot_model_classes(m, &own, err));
    ot_status status = OT_OK;
    if (!ot_classes_equal(&own, manifest->classes, manifest->n_classes)) {
        status = ot_model_new_head(m, manifest->classes, manifest->n_classes, err);
        if (status != OT_OK) ot_error_prefix(err, "the return's classes");
    }
    ot_classes_free(&own);
    return status;
}

ot_status ot_return_attach(const ot_return *r, ot_model *m, const int64_t *block_map, int64_t n_blocks, ot_peft *p, ot_error *err) {
    ot_arena arena = {0};
    *p = (ot_peft){0};
    OT_TRY(check_stack(&r->manifest, m, n_blocks, err));
    int64_t *file_blocks = ot_arena_alloc(&arena, m->desc.layers * (int64_t)sizeof *file_blocks, err);
    bool *tuned = ot_arena_alloc(&arena, m->desc.layers, err);
    ot_status status = file_blocks == NULL || tuned == NULL ? OT_ERR_MEMORY : OT_OK;
    for (int64_t b = 0; status == OT_OK && b < m->desc.layers; b++) {
        file_blocks[b] = offer_block(&r->manifest, block_map, b);
        tuned[b] = file_blocks[b] >= 0;
    }
    if (status == OT_OK) status = ot_peft_attach(p, r->manifest.method, m, tuned, err);
    if (status == OT_ERR_USAGE) {
        /* The text came with the return: it does not fit this model. */
        status = OT_ERR_REFUSED;
        if (err != NULL) err->code = status;
    }
    bool *also = status == OT_OK ? ot_arena_alloc(&arena, m->n_params + 1, err) : NULL;
    if (status == OT_OK && also == NULL) status = OT_ERR_MEMORY;
    for (int64_t i = 0; status == OT_OK && i < m->n_params; i++) {
        also[i] = m->params[i].block >= 0 && tuned[m->params[i].block] && ot_peft_trains(&r->choice, &m->params[i]);
    }
    if (status == OT_OK) status = ot_peft_load(p, r->file, ot_peft_form_prefix(ot_peft_form_in_return(&r->choice)), file_blocks, also, err);
    if (status != OT_OK) ot_peft_end(p);
    ot_arena_free(&arena);
    return status;
}

ot_status ot_return_map(const ot_return *r, const ot_model *m, const int64_t *block_map, int64_t n_blocks, const float **values, ot_error *err) {
    const ot_manifest *manifest = &r->manifest;
    OT_TRY(check_stack(manifest, m, n_blocks, err));
    int64_t used = 0;
    for (int64_t i = 0; i < m->n_params; i++) {
        const ot_param *p = &m->params[i];
        values[i] = NULL;
        int64_t block = p->block < 0 ? -1 : offer_block(manifest, block_map, p->block);
        bool head = ot_model_tunes_head(m, p);
        if (!head && (block < 0 || !ot_peft_trains(&r->choice, p))) continue;
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
    if (used != manifest->n_tensors && !ot_peft_adds(&r->choice)) { /* there ot_return_attach looks at the others */
        for (int64_t i = 0; i < manifest->n_tensors; i++) {
            const ot_tensor *t = ot_safetensors_at(r->file, i);
            bool known = false;
            for (int64_t k = 0; k < m->n_params && !known; k++) known = values[k] == t->data;
            if (!known) return ot_fail(err, OT_ERR_REFUSED, "the return holds tensor %s, which is no tuned tensor of this model", t->name);
        }
    }
    return OT_OK;
}
