/* What the training verbs share: their options turned into a run, data, progress, memory plan, the output folder's life with its checkpoint. */
#ifndef OT_CLI_COMMON_TRAINING_H
#define OT_CLI_COMMON_TRAINING_H

#include "base/file.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "peft/peft.h"
#include "train/grid.h"
#include "train/trainer.h"

typedef struct ot_training {
    const ot_args *args;
    const char *label, *output;
    ot_model *model;
    ot_trainables trained;
    int64_t bottom, top; /* tuned blocks at either end; of a whole model: all of them are at the bottom */
    const ot_hooks *hooks;
    ot_dataset train, valid;
    bool has_valid;
    ot_train_options options;
    ot_train_result result;
    ot_train_memory memory;
    double seconds;
    ot_progress progress;
    ot_dir_lock lock; /* of the output, held until _free */
    bool was_there;   /* the output, when _open looked at it */
    char checkpoint[4200], grid_path[4200], teacher_cache[4200];
    ot_grid grid; /* n is 0 without --lr-grid */
    char run_label[96];
    char *fingerprint;
    bool finished_before; /* --resume on a finished result: nothing to do */
    bool silent;          /* no summary on standard output */
    bool replace;         /* --force: what the output holds goes when the run begins */
    bool began;           /* the output is this run's */
} ot_training;

/* Look at -o: refuse what is there or at work there, or note that it is to be replaced (--force) or finished (--resume). Nothing is changed yet: a command
 * that cannot begin leaves everything as it was.
 * finished_file: what a finished result holds ("manifest.json"). */
ot_status ot_training_open(ot_training *t, const ot_args *args, const char *label, const char *finished_file, ot_error *err);
/* Options and data; the model is open. A verb that makes its training data itself has filled t->train before. usual_warmup: 100; default_decay: of the verb. */
ot_status ot_training_prepare(ot_training *t, ot_model *model, int64_t usual_warmup, ot_error *err);
/* Declare what --peft trains in the tuned blocks, from --init-adapter where that is given. peft must outlive the run. */
ot_status ot_training_declare(ot_training *t, const bool *tuned, ot_peft *peft, ot_error *err);
/* Train. t->trained holds what is trained; afterwards its masters are the result. */
ot_status ot_training_run(ot_training *t, ot_error *err);
/* The result's files are written: the checkpoint goes, and the summary is printed. */
ot_status ot_training_close(ot_training *t, ot_error *err);
/* The end of a run, however it went. Of one that failed before its first checkpoint nothing stays; of another that could not read or write, the message says
 * how it goes on. Returns status. */
ot_status ot_training_end(ot_training *t, ot_status status, ot_error *err);

/* Weights of the losses in distillation: as given, else 1 and 30, and of pictures 0 and 1. */
void ot_training_weights(const ot_args *args, const ot_model *m, double *lm, double *kd);
/* `offsite distill`, also as a step of split; silent: without a summary. */
ot_status ot_distill_run(const ot_args *args, bool silent, ot_error *err);

/* The tuned masters, for ot_save_options.values. */
const float *ot_training_values(void *training, const ot_param *p);

#endif
