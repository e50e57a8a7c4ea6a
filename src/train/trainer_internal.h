#ifndef OT_TRAIN_TRAINER_INTERNAL_H
#define OT_TRAIN_TRAINER_INTERNAL_H

#include <stdio.h>

#include "train/stream.h"
#include "train/trainer.h"

struct ot_trainer {
    ot_model *model;
    ot_trainables *t;
    const ot_dataset *train, *valid;
    ot_train_options options;
    ot_network *net, *valid_net;
    ot_stream_place place; /* of the data, where step `step` begins; with a stream */
    int64_t *order;
    int64_t order_epoch; /* -1: none yet */
    int64_t announced;   /* positions below it are being read ahead, or were */
    FILE *log;
    int64_t step; /* steps done */
    int64_t tokens;
    double best_valid, last_valid, last_loss;
    int64_t best_step;
    int64_t stale; /* validations since the best */
    ot_guard guard;
    bool broken;     /* the newest step was not finite: its weights are no good to keep */
    int64_t on_disk; /* step of the newest checkpoint, -1: none of this run */
    double saved_at; /* when, and what it took */
    double save_seconds, all_save_seconds;
    int64_t saves;
};

/* The data row that comes as number `position` since the start of the run; of a stream only in the present step, its row there. */
int64_t ot_trainer_row(ot_trainer *tr, int64_t position);
/* The same for people: its number in the data. */
int64_t ot_trainer_row_number(ot_trainer *tr, int64_t position);

/* trainer_log.c */
ot_status ot_trainer_open_log(ot_trainer *tr, ot_error *err); /* cut back to the step that was loaded */
ot_status ot_trainer_log(ot_trainer *tr, const ot_train_event *e, ot_error *err);

/* checkpoint.c */
ot_status ot_trainer_save(ot_trainer *tr, ot_error *err);
ot_status ot_trainer_load(ot_trainer *tr, ot_error *err); /* leaves tr alone when there is no checkpoint */

#endif
