#include "protocol/split.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/save.h"
#include "protocol/ledger.h"

typedef struct split_job {
    const ot_model *m;
    const ot_split_options *options;
    ot_emulator emulator;
    ot_model *offer;
    int64_t *stack;
    ot_manifest manifest;
    int64_t weight_bytes;
} split_job;

static ot_status take_inventory(void *context, const ot_tensor *t, ot_error *err) {
    split_job *job = context;
    job->weight_bytes += t->bytes;
    return ot_manifest_add(&job->manifest, t, err);
}

static ot_status prepare(split_job *job, ot_error *err) {
    const ot_split_options *o = job->options;
    int64_t layers = job->m->desc.layers;
    OT_TRY(ot_emulator_plan(o->emulator, job->m, layers, o->bottom, o->top, o->text, &job->emulator, err));
    if (job->emulator.distilled) return ot_fail(err, OT_ERR_USAGE, "--emulator: distill is a training run: split without it, then distil that offer");
    OT_TRY(ot_calloc(ot_emulator_stack_size(&job->emulator), sizeof *job->stack, "the offer's stack", (void **)&job->stack, err));
    ot_emulator_stack(&job->emulator, layers, job->stack);
    return ot_emulator_build(&job->emulator, job->m, o->own_dtype, o->dtype, &job->offer, err);
}

static ot_status write_offer(split_job *job, const char *dir, ot_error *err) {
    const ot_split_options *o = job->options;
    ot_save_options save = {.own_dtype = o->own_dtype, .dtype = o->dtype};
    ot_manifest *manifest = &job->manifest;
    manifest->kind = OT_BUNDLE_OFFER;
    manifest->layers = job->offer->desc.layers;
    manifest->bottom = o->bottom;
    manifest->top = o->top;
    snprintf(manifest->architecture, sizeof manifest->architecture, "%s", job->m->desc.arch->name);
    OT_TRY(ot_model_save_observed(job->offer, dir, &save, take_inventory, job, err));
    char path[4200], *config = NULL;
    int64_t size = 0;
    if (!ot_path_join(path, sizeof path, dir, "config.json")) return ot_fail(err, OT_ERR_IO, "the path %s is too long", dir);
    OT_TRY(ot_read_file(path, 64 << 20, &config, &size, err));
    ot_manifest_make_id(manifest, config);
    ot_free(config);
    return ot_manifest_write(manifest, dir, err);
}

static ot_status write_ledger(const split_job *job, const char *offer, ot_error *err) {
    char path[4200];
    snprintf(path, sizeof path, "%s.owner.json", offer);
    ot_ledger l = {.base_layers = job->m->desc.layers,
                   .bottom = job->options->bottom,
                   .top = job->options->top,
                   .stack = job->stack,
                   .n_stack = ot_emulator_stack_size(&job->emulator)};
    memcpy(l.offer_id, job->manifest.offer_id, sizeof l.offer_id);
    memcpy(l.architecture, job->manifest.architecture, sizeof l.architecture);
    snprintf(l.recipe, sizeof l.recipe, "%s", job->options->emulator);
    ot_model_digest(job->m, l.base_sha256);
    return ot_ledger_write(&l, path, err);
}

/* Is what the offer has of p, as it is written, bit for bit (or value for value, in a wider dtype) what the whole model has? */
static bool ships_exact(const ot_param *p, const ot_param *source, const ot_save_options *save) {
    ot_dtype dtype = ot_save_dtype(p, save);
    if (p->stored.data == source->stored.data) return dtype == source->stored.dtype || dtype == OT_F32;
    return dtype == source->stored.dtype && ot_emulator_is_exact(p, source);
}

static void summarise(const split_job *job, ot_split_summary *s) {
    const ot_model *m = job->m, *offer = job->offer;
    int64_t bottom = job->options->bottom, top = job->options->top;
    *s = (ot_split_summary){.layers = offer->desc.layers,
                            .kept_middle = job->emulator.n_kept,
                            .middle = m->desc.layers - bottom - top,
                            .depth = ot_model_depth(offer),
                            .offer_bytes = job->weight_bytes,
                            .trainable = (bottom + top) * ot_desc_block_parameters(&m->desc),
                            .plain = ot_emulator_is_plain(&job->emulator)};
    memcpy(s->offer_id, job->manifest.offer_id, sizeof s->offer_id);
    for (int64_t i = 0; i < m->n_params; i++) {
        const ot_param *p = &m->params[i];
        if (p->block < bottom || p->block >= m->desc.layers - top) continue;
        s->middle_bytes += p->stored.bytes;
        s->middle_tensors++;
    }
    const ot_save_options save = {.own_dtype = job->options->own_dtype, .dtype = job->options->dtype};
    for (int64_t i = 0; i < offer->n_params; i++) {
        const ot_param *p = &offer->params[i];
        if (p->block < bottom || p->block >= offer->desc.layers - top) continue;
        int64_t bytes = 0;
        ot_dtype_bytes(ot_save_dtype(p, &save), ot_param_elements(p), &bytes);
        s->kept_bytes += ot_dtype_is_packed(p->stored.dtype) ? ot_param_stored_bytes(p) : bytes;
        const ot_param *source = ot_emulator_source(&job->emulator, m, p);
        if (!ships_exact(p, source, &save)) continue;
        s->exact_bytes += source->stored.bytes;
        s->exact_tensors++;
    }
}

ot_status ot_split(const ot_model *m, const char *offer, const ot_split_options *options, ot_split_summary *summary, ot_error *err) {
    split_job job = {.m = m, .options = options};
    ot_staged_dir staged = {0};
    ot_status status = prepare(&job, err);
    if (status == OT_OK) status = ot_staged_open(offer, options->force, &staged, err);
    if (status == OT_OK) status = write_offer(&job, staged.path, err);
    /* The ledger comes first: an offer without one could never be plugged. */
    if (status == OT_OK) status = write_ledger(&job, staged.final, err);
    if (status == OT_OK) status = ot_staged_commit(&staged, err);
    if (status == OT_OK) summarise(&job, summary);
    ot_staged_abort(&staged);
    ot_model_close(job.offer);
    ot_emulator_free(&job.emulator);
    ot_free(job.stack);
    ot_manifest_free(&job.manifest);
    return status;
}
