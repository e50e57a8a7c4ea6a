/* See loop.h. */
#include "support/loop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void observe(void *context, const ot_train_event *e) {
    loop *l = context;
    if (l->n_events < LOOP_EVENTS) l->events[l->n_events] = *e;
    if (l->remember && l->n_events < LOOP_EVENTS) {
        float *copy = malloc((size_t)l->t.stretch * 4);
        assert_non_null(copy);
        memcpy(copy, l->t.master, (size_t)l->t.stretch * 4);
        l->masters[l->n_events] = copy;
    }
    l->n_events++;
    if (l->stop_after > 0 && e->step + 1 >= l->stop_after) l->stop = 1;
    if (l->also != NULL) l->also(e);
}

static void read_data(loop *l, const char *path, ot_dataset *out) {
    if (ot_dataset_open(path, l->m->path, 8, l->m->desc.vocab_size, 0, out, &l->err) != OT_OK) fail_msg("%s", l->err.message);
}

void loop_open(loop *l, ot_model *m, const char *train, const char *valid) {
    *l = (loop){.m = m, .has_valid = valid != NULL};
    read_data(l, train, &l->train);
    if (valid != NULL) read_data(l, valid, &l->valid);
    for (int64_t i = 0; i < m->n_params; i++) {
        ot_param *p = &m->params[i];
        if (p->block != 0 && p->block != m->desc.layers - 1) continue;
        if (ot_trainables_add_param(&l->t, p, &l->err) != OT_OK) fail_msg("%s", l->err.message);
    }
    l->o = (ot_train_options){.backend = ot_backends[0],
                              .compute = OT_F32,
                              .steps = 6,
                              .batch = 2,
                              .grad_accum = 1,
                              .lr = 1e-2,
                              .weight_decay = 0.01,
                              .clip = 1.0,
                              .schedule = OT_SCHEDULE_CONSTANT,
                              .fingerprint = "test",
                              .observe = observe,
                              .context = l,
                              .stop = &l->stop};
}

ot_status loop_run(loop *l) {
    ot_status status = ot_trainer_new(l->m, &l->t, &l->train, l->has_valid ? &l->valid : NULL, &l->o, &l->trainer, &l->err);
    return status == OT_OK ? ot_trainer_run(l->trainer, &l->result, &l->err) : status;
}

void loop_must_run(loop *l) {
    if (loop_run(l) != OT_OK) fail_msg("%s", l->err.message);
}

void loop_close(loop *l) {
    ot_trainer_free(l->trainer);
    ot_trainables_free(&l->t);
    ot_dataset_free(&l->train);
    ot_dataset_free(&l->valid);
    ot_model_close(l->m);
    for (int i = 0; i < LOOP_EVENTS; i++) free(l->masters[i]);
}
