#ifndef OT_TRAIN_TRAINER_INTERNAL_H
#define OT_TRAIN_TRAINER_INTERNAL_H

#include <stdio.h>

#include "train/trainer.h"

struct ot_trainer {
    ot_model *model;
    ot_trainables *t;
    const ot_dataset *train, *valid;
    ot_train_options options;
    ot_network *net, *valid_net;
    int64_t *order;
    int64_t order_epoch; /* -1: none yet */
    FILE *log;
    int64_t step; /* steps done */
    int64_t tokens;
    double best_valid, last_valid, last_loss;
    int64_t best_step;
};

/* checkpoint.c */
ot_status ot_trainer_save(ot_trainer *tr, ot_error *err);
ot_status ot_trainer_load(ot_trainer *tr, ot_error *err); /* leaves tr alone when there is no checkpoint */

#endif
