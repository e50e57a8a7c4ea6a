#include "protocol/split.h"

#include <math.h>
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
    int64_t same_values; /* of the offer's middle that are the whole model's to rounding */
    int64_t *stack;
    ot_manifest manifest;
    const ot_split_summary *summary;
} split_job;

static ot_status take_inventory(void *context, const ot_tensor *t, ot_error *err) {
    return ot_manifest_add(context, t, err);
}

static ot_status prepare(split_job *job, ot_error *err) {
    const ot_split_options *o = job->options;
    int64_t layers = job->m->desc.layers;
    const ot_dataset *d = o->data;
    ot_emulator_text text = {.backend = o->backend, .compute = o->compute};
    int64_t *starts = NULL;
    if (d != NULL && d->pixels == NULL) {
        OT_TRY(ot_calloc(d->examples + 1, sizeof *starts, "a table of examples", (void **)&starts, err));
        for (int64_t i = 0; i <= d->examples; i++) starts[i] = ot_dataset_start(d, i);
        text.ids = d->ids;
        text.starts = starts;
        text.rows = d->examples;
        text.length = d->length;
    }
    ot_status status = ot_emulator_plan(o->emulator, job->m, layers, o->bottom, o->top, starts != NULL ? &text : NULL, &job->emulator, err);
    ot_free(starts);
    OT_TRY(status);
    if (job->emulator.distilled) return ot_fail(err, OT_ERR_USAGE, "--emulator: distill is a training run: split without it, then distil that offer");
    OT_TRY(ot_calloc(ot_emulator_stack_size(&job->emulator), sizeof *job->stack, "the offer's stack", (void **)&job->stack, err));
    ot_emulator_stack(&job->emulator, layers, job->stack);
    return ot_emulator_build_counted(&job->emulator, job->m, o->own_dtype, o->dtype, &job->offer, &job->same_values, err);
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
    OT_TRY(ot_model_save_observed(job->offer, dir, &save, take_inventory, manifest, err));
    char path[4200], *config = NULL;
    int64_t size = 0;
    if (!ot_path_join(path, sizeof path, dir, "config.json")) return ot_fail(err, OT_ERR_IO, "the path %s is too long", dir);
    OT_TRY(ot_read_file(path, 64 << 20, &config, &size, err));
    ot_status status = ot_manifest_add_files(manifest, dir, ot_model_small_files, err);
    if (status == OT_OK) ot_manifest_make_id(manifest, config);
    ot_free(config);
    OT_TRY(status);
    return ot_manifest_write(manifest, dir, err);
}

static void set_real(json_t *j, const char *key, double value) { json_object_set_new(j, key, isfinite(value) ? json_real(value) : json_null()); }

/* What the offer costs and leaks; without a text the ledger is the same from run to run. */
static json_t *record(const ot_split_summary *s) {
    json_t *j = json_object();
    json_object_set_new(j, "bytes", json_integer(s->offer_bytes));
    json_object_set_new(j, "middle_bytes", json_integer(s->kept_bytes));
    json_object_set_new(j, "whole_middle_bytes", json_integer(s->whole_bytes));
    set_real(j, "middle_shipped_bit_exact", s->middle_bytes > 0 ? (double)s->exact_bytes / (double)s->middle_bytes : 0);
    set_real(j, "middle_values_same", s->middle_values > 0 ? (double)s->same_values / (double)s->middle_values : 0);
    json_object_set_new(j, "middle_tensors_bit_exact", json_integer(s->exact_tensors));
    json_object_set_new(j, "middle_tensors", json_integer(s->middle_tensors));
    if (!s->measured) return j;
    const ot_emulation *e = &s->emulation;
    json_object_set_new(j, "rows", json_integer(e->rows));
    set_real(j, "full_perplexity", e->full_perplexity);
    set_real(j, "emulator_perplexity", e->emulator_perplexity);
    set_real(j, "cpl", e->cpl);
    set_real(j, "fidelity", e->fidelity);
    set_real(j, "fidelity_bottom", e->fidelity_bottom);
    set_real(j, "fidelity_top", e->fidelity_top);
    set_real(j, "sign_agreement", e->sign_agreement);
    set_real(j, "memory_ratio", e->memory_ratio);
    set_real(j, "time_ratio", e->time_ratio);
    return j;
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
    l.measured = record(job->summary);
    if (l.measured == NULL) return ot_fail_memory(err, 0, "the ledger");
    ot_status status = ot_ledger_write(&l, path, err);
    json_decref(l.measured);
    return status;
}

/* Is what the offer has of p, as it is written, bit for bit (or value for value, in a wider dtype) what the whole model has? */
static bool ships_exact(const ot_param *p, const ot_param *source, const ot_save_options *save) {
    ot_dtype dtype = ot_save_dtype(p, save);
    if (p->stored.data == source->stored.data) return dtype == source->stored.dtype || dtype == OT_F32;
    return dtype == source->stored.dtype && ot_emulator_is_exact(p, source);
}

/* Bytes of weights in the dtypes that they would be written in. */
static int64_t written_bytes(const ot_model *m, const ot_split_options *o) {
    const ot_save_options save = {.own_dtype = o->own_dtype, .dtype = o->dtype};
    int64_t total = 0;
    for (int64_t i = 0; i < m->n_params; i++) {
        const ot_param *p = &m->params[i];
        int64_t bytes = 0;
        ot_dtype_bytes(ot_save_dtype(p, &save), ot_param_elements(p), &bytes);
        total += ot_dtype_is_packed(p->stored.dtype) ? ot_param_stored_bytes(p) : bytes;
    }
    return total;
}

static void summarise(const split_job *job, ot_split_summary *s) {
    const ot_model *m = job->m, *offer = job->offer;
    int64_t bottom = job->options->bottom, top = job->options->top;
    *s = (ot_split_summary){.layers = offer->desc.layers,
                            .kept_middle = job->emulator.n_kept,
                            .middle = m->desc.layers - bottom - top,
                            .depth = ot_model_depth(offer),
                            .offer_bytes = written_bytes(offer, job->options),
                            .trainable = (bottom + top) * ot_desc_block_parameters(&m->desc),
                            .same_values = job->same_values,
                            .plain = ot_emulator_is_plain(&job->emulator)};
    const ot_save_options save = {.own_dtype = job->options->own_dtype, .dtype = job->options->dtype};
    for (int64_t i = 0; i < m->n_params; i++) {
        const ot_param *p = &m->params[i];
        int64_t bytes = 0;
        if (p->block < bottom || p->block >= m->desc.layers - top) continue;
        ot_dtype_bytes(ot_save_dtype(p, &save), ot_param_elements(p), &bytes);
        s->whole_bytes += bytes;
        s->middle_bytes += p->stored.bytes;
        s->middle_values += ot_param_elements(p);
        s->middle_tensors++;
    }
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

/* ==== Measuring, and the limits. ==== */

static ot_status measure_on(const ot_model *m, const ot_model *offer, const ot_split_options *o, ot_split_summary *s, ot_error *err) {
    ot_emulation_options options = {.backend = o->backend, .compute = o->compute, .bottom = o->bottom, .top = o->top};
    ot_emulation_side own = {0}, emulator = {0}, *whole = o->whole != NULL ? o->whole : &own;
    ot_dataset some = *o->data; /* a view of its first rows */
    if (o->measure_rows > 0 && some.rows > o->measure_rows) some.rows = o->measure_rows;
    ot_status status = whole->gradient == NULL ? ot_emulation_run(m, &some, &options, whole, err) : OT_OK;
    if (status == OT_OK) status = ot_emulation_run(offer, &some, &options, &emulator, err);
    if (status == OT_OK) {
        status = ot_emulation_compare(whole, written_bytes(m, o), &emulator, written_bytes(offer, o), &s->emulation, err);
        s->measured = status == OT_OK;
    }
    ot_emulation_free(&own);
    ot_emulation_free(&emulator);
    return status;
}

static ot_status check_bytes(const ot_split_options *o, const ot_split_summary *s, ot_error *err) {
    if (o->max_bytes == 0 || s->offer_bytes <= o->max_bytes) return OT_OK;
    return ot_fail(err, OT_ERR_REFUSED, "the offer's weights would take %lld bytes, above --max-bytes %lld: nothing was written", (long long)s->offer_bytes,
                   (long long)o->max_bytes);
}

static ot_status check_cpl(const ot_split_options *o, const ot_split_summary *s, ot_error *err) {
    const ot_emulation *e = &s->emulation;
    if (o->max_cpl == 0 || e->cpl <= o->max_cpl) return OT_OK;
    return ot_fail(err, OT_ERR_REFUSED,
                   "the emulator alone keeps CPL %.4f of the model's capability (perplexity %.4g, the whole model's is %.4g), above --max-cpl %g: nothing was written",
                   e->cpl, e->emulator_perplexity, e->full_perplexity, o->max_cpl);
}

static ot_status measure(split_job *job, ot_split_summary *s, ot_error *err) {
    const ot_split_options *o = job->options;
    if (o->max_cpl > 0 && o->data == NULL) return ot_fail(err, OT_ERR_USAGE, "--max-cpl needs a public text to measure on: give --data FILE");
    summarise(job, s);
    OT_TRY(check_bytes(o, s, err));
    if (o->data == NULL) return OT_OK;
    OT_TRY(measure_on(job->m, job->offer, o, s, err));
    return check_cpl(o, s, err);
}

ot_status ot_split_measure(const ot_model *m, const char *offer, const ot_split_options *options, ot_split_summary *summary, ot_error *err) {
    char path[4200];
    ot_ledger l;
    ot_model *opened = NULL;
    if (snprintf(path, sizeof path, "%s.owner.json", offer) >= (int)sizeof path) return ot_fail(err, OT_ERR_USAGE, "the path %s is too long", offer);
    OT_TRY(ot_ledger_read(path, &l, err));
    ot_status status = options->data != NULL ? ot_model_open(offer, OT_F32, &opened, err) : OT_OK;
    if (opened != NULL) status = measure_on(m, opened, options, summary, err);
    ot_model_close(opened);
    if (status == OT_OK) {
        json_decref(l.measured);
        l.measured = record(summary);
        status = ot_ledger_write(&l, path, err);
    }
    ot_ledger_free(&l);
    return status == OT_OK && options->data != NULL ? check_cpl(options, summary, err) : status;
}

static ot_status write_all(split_job *job, const char *offer, ot_error *err) {
    ot_staged_dir staged = {0};
    ot_status status = ot_staged_open(offer, job->options->force, &staged, err);
    if (status == OT_OK) status = write_offer(job, staged.path, err);
    /* The ledger comes first: an offer without one could never be plugged. */
    if (status == OT_OK) status = write_ledger(job, staged.final, err);
    if (status == OT_OK) status = ot_staged_commit(&staged, err);
    ot_staged_abort(&staged);
    return status;
}

ot_status ot_split(const ot_model *m, const char *offer, const ot_split_options *options, ot_split_summary *summary, ot_error *err) {
    split_job job = {.m = m, .options = options, .summary = summary};
    *summary = (ot_split_summary){0};
    if (offer != NULL) OT_TRY(ot_path_apart(offer, "model", m->path, err));
    ot_status status = prepare(&job, err);
    if (status == OT_OK) status = measure(&job, summary, err);
    if (status == OT_OK && offer != NULL) status = write_all(&job, offer, err);
    if (status == OT_OK) memcpy(summary->offer_id, job.manifest.offer_id, sizeof summary->offer_id);
    ot_model_close(job.offer);
    ot_emulator_free(&job.emulator);
    ot_free(job.stack);
    ot_manifest_free(&job.manifest);
    return status;
}
