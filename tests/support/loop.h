/* One training run of a small model's first and last blocks, for tests: set up with usual options, change them, run, look. */
#ifndef OT_TESTS_LOOP_H
#define OT_TESTS_LOOP_H

#include "train/trainer.h"

enum { LOOP_EVENTS = 64 };

typedef struct loop {
    ot_model *m;
    ot_trainables t;
    ot_dataset train, valid;
    bool has_valid;
    ot_train_options o;
    ot_trainer *trainer;
    ot_train_result result;
    ot_error err;
    ot_train_event events[LOOP_EVENTS];
    int64_t n_events;
    float *masters[LOOP_EVENTS + 1]; /* after each step, when `remember` was set */
    bool remember;
    sig_atomic_t stop;
    int64_t stop_after; /* raise stop when this many steps are done; 0: never */
    void (*also)(const ot_train_event *event);
} loop;

/* model: taken over. valid may be NULL. Options: preferred backend, F32, 6 steps of 2 rows, lr 1e-2 constant, no shuffle, clip 1. */
void loop_open(loop *l, ot_model *m, const char *train, const char *valid);
/* Makes the trainer and runs it. */
ot_status loop_run(loop *l);
void loop_must_run(loop *l);
void loop_close(loop *l);

#endif
