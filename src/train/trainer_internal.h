#ifndef OT_TRAIN_TRAINER_INTERNAL_H
#define OT_TRAIN_TRAINER_INTERNAL_H

#include <stdio.h>

#include "train/stream.h"
#include "train/teacher_cache.h"
#include "train/trainer.h"

struct ot_trainer {
    ot_model *model;
    ot_trainables *t;
    const ot_dataset *train, *valid;
    ot_train_options options;
    ot_network *net, *valid_net;
    ot_teacher valid_teacher;
    ot_teacher teacher; /* the options', with the use that is made of it */
    ot_teacher_plan teacher_plan;
    ot_teacher_cache *cache; /* NULL: the teacher is run */
    int64_t alone_bytes;     /* that the network takes which fills the cache */
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

/* trainer_teacher.c */
ot_status ot_trainer_plan_teacher(ot_trainer *tr, ot_error *err); /* run, or cached: tr->teacher, _plan, net */
ot_status ot_trainer_fill_cache(ot_trainer *tr, ot_error *err);   /* tr->cache, made or found */
/* After a row was added to the batch of tr->net, whose row `at` it begins with: its share of what is given. */
ot_status ot_trainer_give(ot_trainer *tr, int64_t row, int64_t at, ot_error *err);

/* trainer.c */
ot_status ot_trainer_make_network(ot_trainer *tr, const ot_dataset *data, bool train, const ot_teacher *teacher, ot_network **out, ot_error *err);

/* trainer_log.c */
ot_status ot_trainer_open_log(ot_trainer *tr, ot_error *err); /* cut back to the step that was loaded */
ot_status ot_trainer_log(ot_trainer *tr, const ot_train_event *e, ot_error *err);

/* checkpoint.c */
ot_status ot_trainer_save(ot_trainer *tr, ot_error *err);
ot_status ot_trainer_load(ot_trainer *tr, ot_error *err); /* leaves tr alone when there is no checkpoint */

#endif
