/* One run for each of several learning rates, each from the same first values, with the same data in the same order; the winner is the run whose
 * weights have the best validation loss, and it is, bit for bit, the run that its rate alone would have made.
 *
 * What is done so far lies in one file, written atomically after each run: the results, and the winner's weights. The run in progress has its
 * checkpoint. Whenever the process dies, the same grid resumed ends with the same bytes. */
#ifndef OT_TRAIN_GRID_H
#define OT_TRAIN_GRID_H

#include "train/trainer.h"

enum { OT_GRID_MOST = 64 };

typedef struct ot_grid_run {
    double lr;
    bool done, failed; /* failed: stopped by the guards */
    ot_train_result result;
    double score; /* validation loss of the weights that would go back */
} ot_grid_run;

typedef struct ot_grid {
    ot_grid_run runs[OT_GRID_MOST];
    int64_t n;
    int64_t winner;   /* -1: none yet */
    const char *path; /* of the file */
    /* Around each run; NULL: nobody wants to know. err: why it failed, when it did. */
    void (*begins)(void *context, const ot_grid_run *run, int64_t index);
    void (*ends)(void *context, const ot_grid_run *run, int64_t index, const ot_error *err);
    void *context;
} ot_grid;

/* As ot_trainer_new and _run for every run that is not done; options->lr and options->run are the grid's business. lr, n and path are set. Needs
 * valid. Afterwards the masters hold the winner's weights; result is its result. */
ot_status ot_grid_train(ot_grid *grid, ot_model *m, ot_trainables *t, const ot_dataset *train, const ot_dataset *valid, const ot_train_options *options,
                        ot_train_result *result, ot_error *err);

#endif
