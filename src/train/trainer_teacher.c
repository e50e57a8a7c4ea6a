/* A run's teacher: what running it costs, whether its hidden states are kept on disk instead, and their way into the batches. */
#include <stdlib.h>
#include <string.h>

#include "train/trainer_internal.h"

/* Arithmetic of one batch: all of it, and of the blocks numbered from `from` on, which are a teacher's. */
static double flops_of(ot_network *net, const ot_dataset *d, int64_t batch, int64_t from) {
    const ot_plan *plan = ot_network_plan(net);
    double flops = 0;
    for (int64_t i = 0; i < ot_plan_trace_length(plan); i++) {
        ot_trace_info info;
        ot_plan_trace_info(plan, i, batch * d->length, batch * ot_dataset_most_examples(d), batch * ot_dataset_most_targets(d), &info);
        if (info.block >= from) flops += info.flops;
    }
    return flops;
}

/* NULL: they may be kept. */
static const char *obstacle(const ot_trainer *tr) {
    if (tr->options.teacher_cache_path == NULL) return "there is no place for them";
    if (tr->train->stream != NULL) return "the text is streamed";
    if (tr->options.dropout > 0) return "with dropout the teacher reads other hidden states every time";
    if (tr->train->pixels != NULL && tr->train->pixels->varies) return "the pictures are changed at random every time";
    return NULL;
}

/* A disk that gives 500 MB a second against a processor that computes 2 * 10^11 operations a second, or both five times as fast. */
static const char *not_worth_it(const ot_teacher_plan *p, double flops_a_row) {
    static const double bytes_a_second = 5e8, flops_a_second = 2e11;
    if (p->visits < 2 * p->rows) return "the rows are not passed over twice";
    if (p->room >= 0 && p->bytes > p->room / 2) return "the disk has not twice the room";
    if ((double)p->bytes / (double)p->rows / bytes_a_second > flops_a_row / flops_a_second) return "reading them would take longer than the teacher does";
    return NULL;
}

ot_status ot_trainer_plan_teacher(ot_trainer *tr, ot_error *err) {
    const ot_train_options *o = &tr->options;
    ot_teacher_plan *p = &tr->teacher_plan;
    int64_t blocks = ot_model_depth(tr->model); /* the teacher's are numbered from here on */
    tr->teacher = *o->teacher;
    OT_TRY(ot_trainer_make_network(tr, tr->train, true, &tr->teacher, &tr->net, err));
    double all = flops_of(tr->net, tr->train, o->batch, INT32_MIN), taught = flops_of(tr->net, tr->train, o->batch, blocks);
    *p = (ot_teacher_plan){.rows = tr->train->rows, .visits = o->steps * o->batch * o->grad_accum, .room = -1, .share = all > 0 ? taught / all : 0};
    p->why_not = obstacle(tr);
    double once = p->visits > p->rows ? (double)p->rows / (double)p->visits : 1.0;
    p->cached_share = p->share * once / (1 - p->share + p->share * once);
    if (tr->train->stream == NULL) p->bytes = ot_teacher_cache_bytes(tr->train, &tr->teacher);
    if (o->teacher_cache_path != NULL) p->room = ot_teacher_cache_room(o->teacher_cache_path);
    if (o->teacher_caching == OT_TEACHER_CACHE_NO) p->why_not = "it is not wanted";
    if (o->teacher_caching == OT_TEACHER_CACHE_YES && p->why_not != NULL) {
        return ot_fail(err, OT_ERR_USAGE, "--teacher-cache yes: the teacher's hidden states cannot be kept: %s", p->why_not);
    }
    if (p->why_not == NULL && o->teacher_caching == OT_TEACHER_CACHE_AUTO) p->why_not = not_worth_it(p, taught / (double)o->batch);
    if (p->why_not != NULL) return OT_OK;
    p->cached = true;
    ot_network_free(tr->net);
    tr->net = NULL;
    tr->teacher.use = OT_TEACHER_ALONE;
    ot_network *alone = NULL;
    OT_TRY(ot_trainer_make_network(tr, tr->train, false, &tr->teacher, &alone, err));
    tr->alone_bytes = ot_network_bytes(alone);
    ot_network_free(alone);
    tr->teacher.use = OT_TEACHER_GIVEN;
    return ot_trainer_make_network(tr, tr->train, true, &tr->teacher, &tr->net, err);
}

const ot_teacher_plan *ot_trainer_teacher_plan(const ot_trainer *tr) { return &tr->teacher_plan; }

ot_status ot_trainer_fill_cache(ot_trainer *tr, ot_error *err) {
    const ot_train_options *o = &tr->options;
    OT_TRY(ot_teacher_cache_open(o->teacher_cache_path, o->fingerprint, tr->train, &tr->teacher, &tr->cache, err));
    if (tr->cache != NULL) return OT_OK;
    ot_teacher alone = tr->teacher;
    alone.use = OT_TEACHER_ALONE;
    ot_network *net = NULL;
    OT_TRY(ot_trainer_make_network(tr, tr->train, false, &alone, &net, err));
    ot_status status = ot_teacher_cache_make(o->teacher_cache_path, o->fingerprint, net, tr->train, &alone, o->batch, o->stop, err);
    ot_network_free(net);
    if (status != OT_OK) return status;
    OT_TRY(ot_teacher_cache_open(o->teacher_cache_path, o->fingerprint, tr->train, &tr->teacher, &tr->cache, err));
    return tr->cache != NULL ? OT_OK : ot_fail(err, OT_ERR_IO, "%s is not what was written into it", o->teacher_cache_path);
}

ot_status ot_trainer_give(ot_trainer *tr, int64_t row, int64_t at, ot_error *err) {
    int64_t cols = tr->teacher.model->desc.hidden_size, added = ot_network_rows(tr->net) - at;
    for (int64_t k = 0; k < ot_teacher_outputs(&tr->teacher); k++) {
        int64_t count = 0;
        const float *rows = ot_teacher_cache_row(tr->cache, row, k, &count);
        if (count != added) return ot_fail(err, OT_ERR_FORMAT, "%s does not fit the data", tr->options.teacher_cache_path);
        memcpy(ot_network_given(tr->net, k) + at * cols, rows, (size_t)(count * cols) * sizeof *rows);
    }
    return OT_OK;
}
