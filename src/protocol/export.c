#include "protocol/export.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "model/save_gguf.h"
#include "peft/lora.h"
#include "protocol/adapter.h"
#include "protocol/export_check.h"
#include "protocol/gguf_lora.h"
#include "protocol/merged.h"
#include "protocol/split.h"

typedef struct export_job {
    ot_model *m;
    const ot_export_options *o;
    ot_export_summary *s;
    ot_adapter adapter;
    bool *changed; /* [params] by the adapter */
    float *merged; /* one parameter */
    ot_arena arena;
    ot_logits wanted;
} export_job;

/* ==== The adapter. ==== */

static ot_status lay_adapter(export_job *job, ot_error *err) {
    ot_model *m = job->m;
    int64_t largest = 0;
    job->changed = ot_arena_alloc(&job->arena, m->n_params + 1, err);
    const void **before = ot_arena_alloc(&job->arena, (m->n_params + 1) * (int64_t)sizeof *before, err);
    if (job->changed == NULL || before == NULL) return OT_ERR_MEMORY;
    if (job->o->adapter == NULL) return OT_OK;
    for (int64_t i = 0; i < m->n_params; i++) before[i] = m->params[i].slot.data;
    OT_TRY(ot_adapter_open(job->o->adapter, m, &job->adapter, err));
    const ot_peft *peft = &job->adapter.peft;
    if (ot_adapter_hooks(&job->adapter) != NULL && !ot_peft_merges(&peft->choice)) {
        return ot_fail(err, OT_ERR_USAGE,
                       "--adapter: only LoRA, DoRA and the methods that replace parameters (full, bitfit) can become a part of the weights, and %s is of the method %s",
                       job->o->adapter, peft->text);
    }
    for (int64_t i = 0; i < m->n_params; i++) {
        const ot_param *p = &m->params[i];
        bool lora = !p->bias && p->block >= 0 && ot_lora_at(peft, p->block, p->role) != NULL;
        job->changed[i] = lora || p->slot.data != before[i];
        job->s->merged += job->changed[i];
        if (job->changed[i] && ot_param_elements(p) > largest) largest = ot_param_elements(p);
    }
    return ot_malloc(largest, 4, "a merged tensor", (void **)&job->merged, err);
}

static const float *merged_values(void *context, const ot_param *p) {
    export_job *job = context;
    if (!job->changed[p - job->m->params]) return NULL;
    ot_param_read(p, job->merged);
    if (!p->bias && ot_lora_at(&job->adapter.peft, p->block, p->role) != NULL) ot_lora_merge(&job->adapter.peft, p, job->merged);
    return job->merged;
}

/* ==== The check. ==== */

static ot_status compare(const export_job *job, const ot_model *again, const ot_hooks *hooks, ot_dtype dtype, ot_error *err) {
    ot_export_summary *s = job->s;
    ot_logits have;
    ot_logits_distance d;
    OT_TRY(ot_logits_take(again, hooks, &have, err));
    ot_status status = have.vocab == job->wanted.vocab && have.length == job->wanted.length
                           ? ot_logits_compare(&job->wanted, &have, &d, err)
                           : ot_fail(err, OT_ERR_REFUSED, "the written model has other sizes than the exported one");
    s->sequences = have.sequences;
    s->tokens = have.sequences * have.length;
    s->pictures = job->m->desc.vision;
    ot_logits_free(&have);
    OT_TRY(status);
    s->largest_difference = d.largest;
    s->difference = d.relative;
    s->allowed = ot_logits_allowed(dtype);
    if (d.relative <= s->allowed) return OT_OK;
    return ot_fail(err, OT_ERR_REFUSED,
                   "the written model gives other logits: they differ by %.3g of their spread, and %s explains %.3g at most; nothing was kept", d.relative,
                   ot_dtype_info(dtype)->name, s->allowed);
}

static ot_status check_model(const export_job *job, const char *path, ot_dtype dtype, ot_error *err) {
    ot_model *again = NULL;
    OT_TRY(ot_model_open(path, OT_F32, &again, err));
    ot_status status = compare(job, again, NULL, dtype, err);
    ot_model_close(again);
    if (status == OT_OK && job->s->tokenizer) status = ot_tokenizers_compare(job->m->path, path, &job->s->texts, &job->s->leading_blank, err);
    return status;
}

/* ==== Formats. ==== */

static ot_dtype model_dtype(const ot_model *m) {
    ot_dtype own = ot_model_dtype(m);
    return own == OT_F32 || own == OT_F16 ? own : OT_BF16;
}

/* The widest rounding that any tensor sees. */
static ot_dtype coarsest(const ot_model *m, const ot_save_options *save) {
    ot_dtype worst = OT_F32;
    for (int64_t i = 0; i < m->n_params; i++) {
        const ot_param *p = &m->params[i];
        ot_dtype d = ot_save_dtype(p, save);
        bool rounds = save->values != NULL || d != p->stored.dtype;
        if (rounds && ot_logits_allowed(d) > ot_logits_allowed(worst)) worst = d;
    }
    return worst;
}

static ot_status export_hf(export_job *job, const char *output, ot_error *err) {
    ot_save_options save = {.own_dtype = job->o->own_dtype,
                            .dtype = job->o->dtype,
                            .values = job->o->adapter != NULL ? merged_values : NULL,
                            .context = job,
                            .shard_bytes = job->o->shard_bytes};
    if (job->o->own_dtype) save.dtype = OT_BF16;
    for (int64_t i = 0; i < job->m->n_params; i++) {
        const ot_param *p = &job->m->params[i];
        int64_t size = 0;
        ot_dtype_bytes(ot_save_dtype(p, &save), ot_param_elements(p), &size);
        job->s->tensors++;
        job->s->bytes += size;
    }
    job->s->dtype = job->o->own_dtype ? model_dtype(job->m) : save.dtype;
    job->s->tokenizer = true;
    ot_staged_dir staged;
    OT_TRY(ot_staged_open(output, job->o->force, &staged, err));
    ot_status status = ot_model_save(job->m, staged.path, &save, err);
    if (status == OT_OK) status = ot_merged_write(staged.path, job->m->path, &job->o->adapter, ot_adapter_hooks(&job->adapter) != NULL ? 1 : 0, err);
    if (status == OT_OK) status = check_model(job, staged.path, coarsest(job->m, &save), err);
    if (status == OT_OK) status = ot_staged_commit(&staged, err);
    ot_staged_abort(&staged);
    job->s->tokenizer = job->s->texts > 0;
    return status;
}

static ot_status write_gguf(export_job *job, const char *path, ot_error *err) {
    ot_gguf_save_options save = {.dtype = job->o->own_dtype ? model_dtype(job->m) : job->o->dtype,
                                 .values = job->o->adapter != NULL ? merged_values : NULL,
                                 .context = job,
                                 .pre = job->o->pre};
    ot_gguf_save_summary s;
    OT_TRY(ot_model_save_gguf(job->m, path, &save, &s, err));
    job->s->dtype = save.dtype;
    job->s->tensors = s.tensors;
    job->s->bytes = s.bytes;
    job->s->kept_wider = s.kept_wider;
    job->s->tokenizer = s.tokenizer;
    return check_model(job, path, save.dtype, err);
}

static ot_status write_lora(export_job *job, const char *path, ot_error *err) {
    OT_TRY(ot_gguf_lora_write(&job->adapter.peft, path, job->o->own_dtype ? OT_F32 : job->o->dtype, &job->s->tensors, &job->s->bytes, err));
    job->s->dtype = job->o->own_dtype ? OT_F32 : job->o->dtype;
    /* The written adapter over the bare model: a second opening, because this one's slots belong to the adapter that was exported. */
    ot_model *bare = NULL;
    ot_adapter again;
    OT_TRY(ot_model_open(job->m->path, OT_F32, &bare, err));
    ot_status status = ot_adapter_open(path, bare, &again, err);
    if (status == OT_OK) {
        status = compare(job, bare, ot_adapter_hooks(&again), job->s->dtype, err);
        ot_adapter_close(&again);
    }
    ot_model_close(bare);
    return status;
}

/* A file under a temporary name until it has passed. */
static ot_status export_file(export_job *job, const char *output, ot_status (*write)(export_job *job, const char *path, ot_error *err), ot_error *err) {
    char path[4200];
    ot_error ignored;
    if (strlen(output) + 48 >= sizeof path) return ot_fail(err, OT_ERR_USAGE, "the output path %.40s... is too long", output);
    if (ot_path_is_dir(output)) return ot_fail(err, OT_ERR_REFUSED, "%s is a folder: a GGUF is one file, give it a name such as model.gguf", output);
    if (ot_path_exists(output) && !job->o->force) {
        return ot_fail(err, OT_ERR_REFUSED, "%s exists already: choose another name, or replace it with --force", output);
    }
    snprintf(path, sizeof path, "%s.unchecked-%ld", output, (long)getpid());
    ot_status status = write(job, path, err);
    if (status == OT_OK && rename(path, output) != 0) status = ot_fail_errno(err, errno, "cannot rename %s to %s", path, output);
    if (status != OT_OK && ot_path_exists(path)) ot_remove_tree(path, &ignored);
    return status;
}

static ot_status export_it(export_job *job, const char *output, ot_error *err) {
    if (job->o->format != OT_EXPORT_HF) OT_TRY(ot_model_gguf_check(job->m, err));
    OT_TRY(lay_adapter(job, err));
    if (job->o->format == OT_EXPORT_GGUF_LORA && !ot_peft_is(&job->adapter.peft.choice, "lora")) {
        return ot_fail(err, OT_ERR_USAGE, "--gguf-lora writes an adapter of the method lora alone, the only one that llama.cpp has, and %s is of the method %s", job->o->adapter,
                       job->adapter.peft.text);
    }
    OT_TRY(ot_logits_take(job->m, ot_adapter_hooks(&job->adapter), &job->wanted, err));
    if (job->o->format == OT_EXPORT_HF) return export_hf(job, output, err);
    return export_file(job, output, job->o->format == OT_EXPORT_GGUF ? write_gguf : write_lora, err);
}

ot_status ot_export(ot_model *m, const char *output, const ot_export_options *options, ot_export_summary *summary, ot_error *err) {
    *summary = (ot_export_summary){0};
    export_job job = {.m = m, .o = options, .s = summary};
    OT_TRY(ot_path_apart(output, "model", m->path, err));
    if (options->adapter != NULL) OT_TRY(ot_path_apart(output, "adapter", options->adapter, err));
    ot_status status = export_it(&job, output, err);
    ot_logits_free(&job.wanted);
    ot_adapter_close(&job.adapter);
    ot_free(job.merged);
    ot_arena_free(&job.arena);
    return status;
}
