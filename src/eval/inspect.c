#include "eval/inspect.h"

#include <stdlib.h>
#include <string.h>

#include "format/folder.h"
#include "format/gguf.h"
#include "peft/peft.h"
#include "train/trainer.h"

/* ==== Opening. ==== */

ot_status ot_inspect_open(const char *path, ot_model **out, ot_error *err) {
    static const char *const weights[] = {"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"};
    bool other_file = !ot_path_is_dir(path) && ot_path_exists(path) && !ot_gguf_is(path);
    if (other_file) return ot_model_from_config(path, out, err);
    if (!ot_path_is_dir(path)) return ot_model_open(path, OT_F32, out, err);
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++) {
        if (ot_folder_has(path, weights[i])) return ot_model_open(path, OT_F32, out, err);
    }
    return ot_folder_has(path, "config.json") ? ot_model_from_config(path, out, err) : ot_model_open(path, OT_F32, out, err);
}

ot_dtype ot_inspect_dtype(const ot_model *m, const ot_param *p) {
    if (p->stored.data != NULL) return p->stored.dtype;
    const char *name = json_string_value(json_object_get(m->config, "dtype"));
    if (name == NULL) name = json_string_value(json_object_get(m->config, "torch_dtype"));
    ot_dtype dtype = OT_F32;
    return name != NULL && ot_dtype_from_user(name, &dtype) ? dtype : OT_F32;
}

static int64_t bytes_of(ot_dtype dtype, const ot_param *p) {
    int64_t bytes = 0;
    if (ot_dtype_is_packed(p->stored.dtype)) return ot_param_stored_bytes(p);
    return ot_dtype_bytes(dtype, ot_param_elements(p), &bytes) ? bytes : 0;
}

/* ==== Parts. ==== */

static int part_of(ot_role role) {
    switch (role) {
    case OT_ROLE_EMBED: return 0;
    case OT_ROLE_POSITIONS: return 1;
    case OT_ROLE_QKV:
    case OT_ROLE_Q:
    case OT_ROLE_K:
    case OT_ROLE_V:
    case OT_ROLE_O: return 2;
    case OT_ROLE_GATE:
    case OT_ROLE_UP:
    case OT_ROLE_DOWN: return 3;
    case OT_ROLE_EMBED_NORM:
    case OT_ROLE_NORM1:
    case OT_ROLE_NORM2:
    case OT_ROLE_SCALE1:
    case OT_ROLE_SCALE2:
    case OT_ROLE_Q_NORM:
    case OT_ROLE_K_NORM:
    case OT_ROLE_FINAL_NORM: return 4;
    case OT_ROLE_HEAD: return 5;
    default: return 6;
    }
}

int64_t ot_inspect_parts(const ot_model *m, ot_inspect_part parts[OT_INSPECT_PARTS]) {
    static const char *const names[] = {"embedding", "positions", "attention", "mlp", "norms", "head", "other"};
    enum { KINDS = sizeof names / sizeof *names };
    ot_inspect_part all[KINDS] = {0};
    for (int64_t i = 0; i < m->n_params; i++) {
        const ot_param *p = &m->params[i];
        ot_inspect_part *part = &all[part_of(p->role)];
        part->tensors++;
        part->parameters += ot_param_elements(p);
        part->bytes += bytes_of(ot_inspect_dtype(m, p), p);
    }
    int64_t n = 0;
    for (int k = 0; k < KINDS; k++) {
        if (all[k].tensors == 0) continue;
        all[k].name = names[k];
        parts[n++] = all[k];
    }
    return n;
}

/* ==== Splits. ==== */

/* As `split` writes it: block-quantised tensors become bf16. */
static ot_dtype shipped_dtype(const ot_model *m, const ot_param *p) {
    ot_dtype dtype = ot_inspect_dtype(m, p);
    return m->source == OT_SOURCE_GGUF ? OT_BF16 : dtype;
}

/* The offer, or with e NULL the model, without data: the plan sees shapes and dtypes only. */
static ot_status make_shape(const ot_model *m, const ot_emulator *e, ot_model **out, ot_error *err) {
    if (e != NULL) {
        OT_TRY(ot_emulator_shape(e, m, true, OT_BF16, out, err));
    } else {
        OT_TRY(ot_model_from_json(json_incref(m->config), m->path, out, err));
    }
    for (int64_t i = 0; i < (*out)->n_params; i++) {
        ot_param *p = &(*out)->params[i];
        if (ot_dtype_is_packed(p->stored.dtype)) continue;
        const ot_param *source = e != NULL ? ot_emulator_source(e, m, p) : &m->params[i];
        p->stored.dtype = e != NULL ? shipped_dtype(m, source) : ot_inspect_dtype(m, source); /* a GGUF is trained as it is */
        p->stored.bytes = bytes_of(p->stored.dtype, p);
        if (p->stored.n_dims > 1) p->slot.dtype = p->stored.dtype;
    }
    return OT_OK;
}

ot_status ot_inspect_split_plan(const ot_model *m, int64_t bottom, int64_t top, const char *emulator, ot_inspect_split *out, ot_error *err) {
    *out = (ot_inspect_split){0};
    OT_TRY(ot_emulator_plan(emulator, m, m->desc.layers, bottom, top, NULL, &out->emulator, err));
    ot_model *offer = NULL;
    ot_status status = make_shape(m, &out->emulator, &offer, err);
    if (status != OT_OK) {
        ot_inspect_split_free(out);
        return status;
    }
    out->layers = ot_emulator_stack_size(&out->emulator);
    for (int64_t i = 0; i < m->n_params; i++) {
        const ot_param *p = &m->params[i];
        if (p->block >= bottom && p->block < m->desc.layers - top) out->middle_bytes += bytes_of(shipped_dtype(m, p), p);
    }
    for (int64_t i = 0; i < offer->n_params; i++) {
        const ot_param *p = &offer->params[i];
        int64_t bytes = ot_param_stored_bytes(p);
        out->offer_bytes += bytes;
        if (p->block < bottom || p->block >= out->layers - top) continue;
        const ot_param *source = ot_emulator_source(&out->emulator, m, p);
        out->kept_bytes += bytes;
        out->rounded = out->rounded || shipped_dtype(m, source) != ot_inspect_dtype(m, source);
    }
    ot_model_close(offer);
    return OT_OK;
}

void ot_inspect_split_free(ot_inspect_split *s) {
    ot_emulator_free(&s->emulator);
    *s = (ot_inspect_split){0};
}

/* ==== Memory. ==== */

/* A trainer that is never run: its plan is the one that tuning would have. */
static ot_status plan(ot_model *shape, const bool *tuned, const ot_inspect_tuning *t, ot_inspect_memory *out, ot_error *err) {
    ot_trainables trained = {0};
    ot_peft peft;
    OT_TRY(ot_peft_begin(&peft, t->peft, shape, tuned, 0, &trained, err));
    const ot_desc *d = &shape->desc;
    int32_t targets = d->vision ? 1 : (int32_t)(t->block - 1 + (ot_hooks_virtual(ot_peft_hooks(&peft)) > 0));
    ot_pixels picture = {.channels = d->channels, .height = d->image_height, .width = d->image_width};
    const ot_dataset data = {.rows = 1, .length = t->block, .counted = &targets, .pixels = d->vision ? &picture : NULL};
    const ot_train_options options = {.backend = t->backend,
                                      .compute = t->compute,
                                      .batch = t->batch,
                                      .grad_accum = 1,
                                      .recompute = t->recompute,
                                      .hooks = ot_peft_hooks(&peft)};
    ot_trainer *trainer = NULL;
    ot_status status = ot_peft_declare_head(shape, 1.0, &trained, err);
    if (status == OT_OK) status = ot_trainer_new(shape, &trained, &data, NULL, &options, &trainer, err);
    if (status == OT_OK) {
        ot_train_memory memory;
        ot_trainer_memory(trainer, &memory);
        /* Not memory.weights: the trainer takes parameters without data for fresh ones. */
        int64_t weights = ot_model_stored_bytes(shape);
        *out = (ot_inspect_memory){.trainable = trained.count,
                                   .weights = weights,
                                   .trained = memory.trained,
                                   .activations = memory.activations,
                                   .total = memory.program + weights + memory.trained + memory.activations};
        ot_trainer_free(trainer);
    }
    ot_trainables_free(&trained);
    ot_peft_end(&peft);
    return status;
}

ot_status ot_inspect_tuning_memory(const ot_model *m, const ot_emulator *e, int64_t bottom, int64_t top, const ot_inspect_tuning *t,
                                   ot_inspect_memory *out, ot_error *err) {
    ot_model *shape = NULL;
    bool *tuned = NULL;
    int64_t layers = e != NULL ? ot_emulator_stack_size(e) : m->desc.layers;
    if (t->block < 2 || t->block > INT32_MAX / 4) return ot_fail(err, OT_ERR_USAGE, "a block of %lld tokens is too large", (long long)t->block);
    if (m->desc.position == OT_POSITION_LEARNED && t->block > m->desc.max_positions) {
        return ot_fail(err, OT_ERR_REFUSED, "a block of %lld tokens is longer than the %lld positions that the model has: use a smaller --block",
                       (long long)t->block, (long long)m->desc.max_positions);
    }
    OT_TRY(ot_calloc(layers, sizeof *tuned, "a block table", (void **)&tuned, err));
    for (int64_t i = 0; i < layers; i++) tuned[i] = i < bottom || i >= layers - top;
    ot_status status = make_shape(m, e, &shape, err);
    if (status == OT_OK) status = plan(shape, tuned, t, out, err);
    ot_model_close(shape);
    ot_free(tuned);
    return status;
}
