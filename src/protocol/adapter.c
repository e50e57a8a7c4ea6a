#include "protocol/adapter.h"

#include <string.h>

#include "base/file.h"
#include "format/gguf.h"
#include "protocol/gguf_lora.h"
#include "protocol/merged.h"
#include "protocol/peft_files.h"

/* Block of the return's offer -> block of the model, -1 for the middle, which no return touches. */
static ot_status map_blocks(const ot_adapter *a, const ot_model *m, bool is_offer, int64_t *map, ot_error *err) {
    const ot_manifest *r = &a->source.manifest;
    if (is_offer ? m->desc.layers != r->layers : m->desc.layers < r->layers) {
        return ot_fail(err, OT_ERR_REFUSED, "%s has %lld layers, but the return is for an offer of %lld", m->path, (long long)m->desc.layers,
                       (long long)r->layers);
    }
    for (int64_t i = 0; i < r->layers; i++) {
        map[i] = i < r->bottom ? i : i >= r->layers - r->top ? m->desc.layers - r->layers + i : -1;
    }
    return OT_OK;
}

static ot_status check_offer(const ot_adapter *a, const ot_model *m, bool *is_offer, ot_error *err) {
    ot_manifest offer;
    OT_TRY(ot_manifest_read(m->path, OT_BUNDLE_OFFER, &offer, err));
    *is_offer = offer.kind == OT_BUNDLE_OFFER;
    ot_status status = OT_OK;
    if (*is_offer && strcmp(offer.offer_id, a->source.manifest.offer_id) != 0) {
        status = ot_fail(err, OT_ERR_REFUSED, "the return is for offer %s, but %s is offer %s", a->source.manifest.offer_id, m->path, offer.offer_id);
    }
    ot_manifest_free(&offer);
    return status;
}

/* Floats may lie unaligned in the return's file, so the slots get copies. */
static ot_status lay_over(ot_adapter *a, ot_model *m, const float **values, ot_error *err) {
    int64_t total = 0, used = 0;
    for (int64_t i = 0; i < m->n_params; i++) {
        if (values[i] != NULL) total += ot_round_up(ot_param_elements(&m->params[i]), 16);
    }
    OT_TRY(ot_malloc(total, 4, "the adapter's tensors", &a->values, err));
    for (int64_t i = 0; i < m->n_params; i++) {
        ot_param *p = &m->params[i];
        if (values[i] == NULL) continue;
        float *copy = (float *)a->values + used;
        memcpy(copy, values[i], (size_t)ot_param_elements(p) * 4);
        p->slot.data = copy;
        p->slot.dtype = OT_F32;
        used += ot_round_up(ot_param_elements(p), 16);
    }
    return OT_OK;
}

static ot_status open_return(ot_adapter *a, const char *path, ot_model *m, const float **values, ot_error *err) {
    OT_TRY(ot_return_open(path, &a->source, err));
    int64_t layers = a->source.manifest.layers;
    int64_t *map = ot_arena_alloc(&a->arena, (layers + 1) * (int64_t)sizeof *map, err);
    if (map == NULL) return OT_ERR_MEMORY;
    bool is_offer = false;
    OT_TRY(check_offer(a, m, &is_offer, err));
    OT_TRY(map_blocks(a, m, is_offer, map, err));
    OT_TRY(ot_return_take_head(&a->source, m, err));
    if (ot_peft_replaces(&a->source.choice)) OT_TRY(ot_return_map(&a->source, m, map, layers, values, err));
    return ot_peft_adds(&a->source.choice) ? ot_return_attach(&a->source, m, map, layers, &a->peft, err) : OT_OK;
}

ot_status ot_adapter_open(const char *path, ot_model *m, ot_adapter *out, ot_error *err) {
    *out = (ot_adapter){0};
    OT_TRY(ot_merged_check(m->path, path, err));
    const float **values = ot_arena_alloc(&out->arena, (m->n_params + 1) * (int64_t)sizeof *values, err);
    if (values == NULL) return OT_ERR_MEMORY;
    char manifest[4200];
    bool bundle = ot_path_join(manifest, sizeof manifest, path, "manifest.json") && ot_path_exists(manifest);
    ot_status status = OT_OK;
    if (ot_gguf_is(path)) {
        status = ot_gguf_lora_open(path, m, &out->peft, err);
    } else if (!ot_path_exists(path)) {
        status = ot_fail(err, OT_ERR_IO, "there is no %s: give the folder of a return or an adapter, or a LoRA adapter in GGUF", path);
    } else if (!ot_path_is_dir(path)) {
        status = ot_fail(err, OT_ERR_FORMAT, "%s is neither the folder of a return or an adapter nor a GGUF", path);
    } else if (!bundle && ot_peft_files_is(path)) { /* a return of LoRA is PEFT's directory besides: its manifest comes first */
        status = ot_peft_files_open(path, m, &out->peft, values, err);
    } else {
        status = open_return(out, path, m, values, err);
    }
    if (status == OT_OK) status = lay_over(out, m, values, err);
    if (status != OT_OK) ot_adapter_close(out);
    return status;
}

const ot_hooks *ot_adapter_hooks(const ot_adapter *a) { return ot_peft_hooks(&a->peft); }

void ot_adapter_close(ot_adapter *a) {
    ot_return_close(&a->source);
    ot_peft_end(&a->peft);
    ot_free(a->values);
    ot_arena_free(&a->arena);
    *a = (ot_adapter){0};
}
