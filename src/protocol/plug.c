/* Plugging a return into the model that its offer was split from. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "model/save.h"
#include "peft/lora.h"
#include "protocol/average.h"
#include "protocol/merged.h"
#include "protocol/peft_files.h"
#include "protocol/return.h"
#include "protocol/split.h"

typedef struct plug_job {
    ot_model *m;
    ot_average source;
    const char **dirs; /* [n_dirs] of the returns */
    int64_t n_dirs;
    ot_ledger ledger;
    ot_peft peft; /* of returns that add tensors */
    ot_save_options save;
    float *tuned, *work; /* one tensor each */
    ot_plug_summary *summary;
} plug_job;

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

/* Does this parameter get new values? */
static bool changes(const plug_job *job, const ot_param *p) {
    if (job->source.values != NULL && ot_average_changes(&job->source, p - job->m->params)) return true;
    if (!ot_peft_adds(&job->source.returns[0].choice)) return false;
    if (ot_model_tunes_head(job->m, p)) return true;
    return !p->bias && ot_lora_at(&job->peft, p->block, p->role) != NULL;
}

/* The values that go into the plugged model: the return's, or merged in F32. */
static const float *plugged_values(void *context, const ot_param *p) {
    plug_job *job = context;
    if (!changes(job, p)) return NULL;
    if (job->source.values != NULL && ot_average_changes(&job->source, p - job->m->params)) {
        ot_average_read(&job->source, job->m, p - job->m->params, job->tuned);
    } else {
        ot_param_read(p, job->tuned);
        if (!ot_model_tunes_head(job->m, p)) ot_lora_merge(&job->peft, p, job->tuned);
    }
    return job->tuned;
}

static double largest_distance(const float *a, const float *b, int64_t n) {
    double largest = 0;
    for (int64_t i = 0; i < n; i++) largest = fmax(largest, fabs((double)a[i] - (double)b[i]));
    return largest;
}

static ot_status measure(plug_job *job, ot_error *err) {
    ot_plug_summary *s = job->summary;
    int64_t largest = 0;
    for (int64_t i = 0; i < job->m->n_params; i++) {
        const ot_param *p = &job->m->params[i];
        if (changes(job, p) && ot_param_elements(p) > largest) largest = ot_param_elements(p);
    }
    OT_TRY(ot_malloc(largest, 4, "a tuned tensor", (void **)&job->tuned, err));
    OT_TRY(ot_malloc(largest, 4, "a tuned tensor", (void **)&job->work, err));
    void *rounded = NULL;
    OT_TRY(ot_malloc(s->merged ? largest : 0, 4, "a rounded tensor", &rounded, err));
    for (int64_t i = 0; i < job->m->n_params; i++) {
        const ot_param *p = &job->m->params[i];
        int64_t n = ot_param_elements(p);
        const float *tuned = plugged_values(job, p);
        if (tuned == NULL) continue;
        s->tensors++;
        s->values += n;
        ot_decode_f32(p->stored.dtype, p->stored.data, job->work, n);
        s->largest_change = fmax(s->largest_change, largest_distance(tuned, job->work, n));
        if (!s->merged) continue;
        ot_dtype dtype = ot_save_dtype(p, &job->save);
        ot_encode_f32(dtype, tuned, rounded, n);
        ot_decode_f32(dtype, rounded, job->work, n);
        s->rounding_error = fmax(s->rounding_error, largest_distance(tuned, job->work, n));
    }
    ot_free(rounded);
    return OT_OK;
}

static ot_status write_model(plug_job *job, const char *dir, ot_error *err) {
    OT_TRY(measure(job, err));
    OT_TRY(ot_model_save(job->m, dir, &job->save, err));
    /* What replaces parameters may be laid over them again: it is what is there. */
    return ot_merged_write(dir, job->m->path, job->dirs, job->summary->merged ? job->n_dirs : 0, err);
}

/* Of a stack: the parameters that are replaced go with the new tensors. */
static ot_status lay_replaced(plug_job *job, ot_error *err) {
    for (int64_t i = 0; job->source.values != NULL && i < job->m->n_params; i++) {
        ot_param *p = &job->m->params[i];
        if (!ot_average_changes(&job->source, i) || ot_model_tunes_head(job->m, p)) continue;
        float *values = ot_arena_alloc(&job->peft.arena, ot_param_elements(p) * (int64_t)sizeof *values, err);
        if (values == NULL) return OT_ERR_MEMORY;
        ot_average_read(&job->source, job->m, i, values);
        p->slot.data = values;
        p->slot.dtype = OT_F32;
        job->summary->tensors++;
        job->summary->values += ot_param_elements(p);
    }
    return OT_OK;
}

static ot_status write_adapter(plug_job *job, const char *dir, ot_error *err) {
    job->summary->adapter = true;
    OT_TRY(lay_replaced(job, err));
    for (int64_t i = 0; i < job->peft.n_tensors; i++) {
        job->summary->tensors++;
        job->summary->values += job->peft.tensors[i]->slot.rows * job->peft.tensors[i]->slot.cols;
    }
    return ot_peft_files_write(dir, &job->peft, NULL, ot_peft_form_of(&job->peft), NULL, err);
}

static ot_status write_result(plug_job *job, const char *out_dir, const ot_plug_options *o, ot_error *err) {
    ot_staged_dir staged;
    OT_TRY(ot_staged_open(out_dir, o->force, &staged, err));
    bool adapter = ot_peft_adds(&job->source.returns[0].choice) && !o->merge;
    ot_status status = adapter ? write_adapter(job, staged.path, err) : write_model(job, staged.path, err);
    if (status == OT_OK) status = ot_staged_commit(&staged, err);
    ot_staged_abort(&staged);
    return status;
}

/* A rank that no linear can have is no adapter that this program would read again. */
static ot_status check_ranks(const plug_job *job, ot_error *err) {
    for (int64_t i = 0; i < job->peft.n_tensors && job->source.n > 1; i++) {
        const ot_peft_tensor *t = job->peft.tensors[i];
        const ot_lora_place *place = ot_lora_at(&job->peft, t->block, t->role);
        int64_t r = place->a->slot.rows, in = place->a->slot.cols, out = place->b->slot.rows;
        if (r <= (in > out ? in : out)) continue;
        return ot_fail(err, OT_ERR_REFUSED, "the ranks of the returns add up to %lld, more than %s of %lld by %lld has: merge them with --merge",
                       (long long)r, t->name, (long long)out, (long long)in);
    }
    return OT_OK;
}

static ot_status map_tensors(plug_job *job, const ot_plug_options *o, ot_error *err) {
    const ot_ledger *l = &job->ledger;
    const ot_return *first = &job->source.returns[0];
    if (ot_peft_replaces(&first->choice)) OT_TRY(ot_average_map(&job->source, job->m, l->stack, l->n_stack, err));
    if (!ot_peft_adds(&first->choice)) return OT_OK;
    if (o->merge && !ot_peft_merges(&first->choice)) {
        return ot_fail(err, OT_ERR_USAGE, "--merge: only LoRA and DoRA can be merged into weights, and this return is of the method %s: leave --merge out",
                       first->manifest.method);
    }
    job->summary->merged = o->merge;
    OT_TRY(ot_average_attach(&job->source, job->m, l->stack, l->n_stack, &job->peft, err));
    return o->merge ? OT_OK : check_ranks(job, err);
}

static ot_status open_returns(plug_job *job, const char *return_dir, const ot_plug_options *o, ot_error *err) {
    job->n_dirs = 1 + o->n_more;
    /* An array of pointers is meant. NOLINTNEXTLINE(bugprone-sizeof-expression) */
    OT_TRY(ot_malloc(job->n_dirs, sizeof *job->dirs, "the list of returns", (void **)&job->dirs, err));
    job->dirs[0] = return_dir;
    for (int64_t k = 0; k < o->n_more; k++) job->dirs[1 + k] = o->more[k];
    return ot_average_open(job->dirs, o->weights, job->n_dirs, &job->source, err);
}

/* What is plugged in is written beside what it is made of, not over it. */
static ot_status check_paths(const ot_model *m, const char *return_dir, const char *out_dir, const ot_plug_options *o, ot_error *err) {
    OT_TRY(ot_path_apart(out_dir, "model", m->path, err));
    OT_TRY(ot_path_apart(out_dir, "return", return_dir, err));
    for (int64_t k = 0; k < o->n_more; k++) OT_TRY(ot_path_apart(out_dir, "return", o->more[k], err));
    return o->ledger != NULL ? ot_path_apart(out_dir, "ledger", o->ledger, err) : OT_OK;
}

ot_status ot_plug(ot_model *m, const char *return_dir, const char *out_dir, const ot_plug_options *options, ot_plug_summary *summary,
                  ot_error *err) {
    *summary = (ot_plug_summary){0};
    plug_job job = {.m = m, .summary = summary};
    job.save = (ot_save_options){.own_dtype = options->own_dtype, .dtype = options->dtype, .values = plugged_values, .context = &job};
    OT_TRY(check_paths(m, return_dir, out_dir, options, err));
    ot_status status = open_returns(&job, return_dir, options, err);
    if (status == OT_OK) status = find_ledger(m, return_dir, out_dir, options, &job.source.returns[0].manifest, &job.ledger, err);
    if (status == OT_OK) status = ot_ledger_check_base(&job.ledger, m, err);
    if (status == OT_OK) status = ot_return_take_head(&job.source.returns[0], m, err);
    if (status == OT_OK) status = map_tensors(&job, options, err);
    if (status == OT_OK) status = write_result(&job, out_dir, options, err);
    ot_peft_end(&job.peft);
    ot_free(job.tuned);
    ot_free(job.work);
    ot_free(job.dirs);
    ot_ledger_free(&job.ledger);
    ot_average_close(&job.source);
    return status;
}
