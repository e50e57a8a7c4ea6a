#include "protocol/split.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "emulator/emulator.h"
#include "model/save.h"
#include "protocol/ledger.h"

typedef struct split_job {
    const ot_model *m;
    const ot_split_options *options;
    ot_emulator emulator;
    int64_t *stack;
    float *values; /* of the matrix that is being changed */
    ot_manifest manifest;
    int64_t weight_bytes;
} split_job;

/* The values of a middle matrix that the recipe changes; adapter layers and everything else keep theirs. */
static const float *changed_values(void *context, const ot_param *p) {
    split_job *job = context;
    if (!ot_emulator_changes(&job->emulator, p)) return NULL;
    ot_param_read(p, job->values);
    ot_emulator_apply(&job->emulator, p, job->values);
    return job->values;
}

static ot_status take_inventory(void *context, const ot_tensor *t, ot_error *err) {
    split_job *job = context;
    job->weight_bytes += t->bytes;
    return ot_manifest_add(&job->manifest, t, err);
}

static ot_status prepare(split_job *job, ot_error *err) {
    const ot_split_options *o = job->options;
    int64_t layers = job->m->desc.layers, largest = 0;
    OT_TRY(ot_emulator_plan(o->emulator, job->m, layers, o->bottom, o->top, &job->emulator, err));
    OT_TRY(ot_calloc(ot_emulator_stack_size(&job->emulator), sizeof *job->stack, "the offer's stack", (void **)&job->stack, err));
    ot_emulator_stack(&job->emulator, layers, job->stack);
    for (int64_t i = 0; i < job->m->n_params; i++) {
        int64_t n = ot_param_elements(&job->m->params[i]);
        if (ot_emulator_changes(&job->emulator, &job->m->params[i]) && n > largest) largest = n;
    }
    return ot_malloc(largest, 4, "a matrix of the middle", (void **)&job->values, err);
}

static ot_status write_offer(split_job *job, const char *dir, ot_error *err) {
    const ot_split_options *o = job->options;
    ot_save_options save = {.blocks = job->stack,
                            .n_blocks = ot_emulator_stack_size(&job->emulator),
                            .own_dtype = o->own_dtype,
                            .dtype = o->dtype,
                            .values = changed_values,
                            .context = job};
    ot_manifest *manifest = &job->manifest;
    manifest->kind = OT_BUNDLE_OFFER;
    manifest->layers = save.n_blocks;
    manifest->bottom = o->bottom;
    manifest->top = o->top;
    snprintf(manifest->architecture, sizeof manifest->architecture, "%s", job->m->desc.arch->name);
    OT_TRY(ot_model_save_observed(job->m, dir, &save, take_inventory, job, err));
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

static void summarise(const split_job *job, ot_split_summary *s) {
    const ot_model *m = job->m;
    *s = (ot_split_summary){.layers = ot_emulator_stack_size(&job->emulator),
                            .kept_middle = job->emulator.n_kept,
                            .middle = m->desc.layers - job->options->bottom - job->options->top,
                            .offer_bytes = job->weight_bytes,
                            .trainable = (job->options->bottom + job->options->top) * ot_desc_block_parameters(&m->desc)};
    memcpy(s->offer_id, job->manifest.offer_id, sizeof s->offer_id);
    const ot_save_options save = {.own_dtype = job->options->own_dtype, .dtype = job->options->dtype};
    for (int64_t i = 0; i < m->n_params; i++) {
        const ot_param *p = &m->params[i];
        if (p->block < job->options->bottom || p->block >= m->desc.layers - job->options->top) continue;
        s->middle_bytes += p->stored.bytes;
        bool kept = false;
        for (int64_t k = 0; k < job->emulator.n_kept; k++) kept = kept || job->emulator.kept[k] == p->block;
        bool exact = ot_save_dtype(p, &save) == p->stored.dtype || ot_save_dtype(p, &save) == OT_F32;
        if (kept && exact && !ot_emulator_changes(&job->emulator, p)) s->exact_bytes += p->stored.bytes;
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
    ot_emulator_free(&job.emulator);
    ot_free(job.stack);
    ot_free(job.values);
    ot_manifest_free(&job.manifest);
    return status;
}
