/* The training loop that all training verbs share: accumulation weighted by tokens, the optimizer, clipping, schedule, validation, best weights,
 * log, checkpoints and resume. It knows nothing about files of models: the caller declares what is trained and saves the result. */
#ifndef OT_TRAIN_TRAINER_H
#define OT_TRAIN_TRAINER_H

#include <signal.h>

#include "model/network.h"
#include "train/dataset.h"
#include "train/guard.h"
#include "train/trainables.h"

typedef enum ot_schedule { OT_SCHEDULE_COSINE, OT_SCHEDULE_LINEAR, OT_SCHEDULE_CONSTANT } ot_schedule;

/* Rate of step t = 0, 1, ...: lr * t / warmup below warmup, then down to 0 at `steps` (or constant). */
double ot_schedule_rate(ot_schedule schedule, double lr, int64_t warmup, int64_t steps, int64_t t);

typedef struct ot_train_event {
    int64_t step; /* from 0: the step that was just done */
    int64_t steps;
    double epoch, loss, learning_rate, grad_norm;
    double loss_lm, loss_kd, loss_hidden, loss_kl; /* what `loss` is made of when there is a teacher; NaN: this is no part of it */
    int64_t tokens; /* seen so far */
    double tokens_per_second;
    int64_t peak_memory_bytes;
    bool validated, best;
    double valid_loss;
    bool skipped; /* no update */
    ot_guard_verdict guard;
    int64_t rows[8], n_rows; /* of the step, when the guard has something to say: the first ones, and how many in all */
} ot_train_event;

/* "rows 3, 17, 4, ..." */
const char *ot_train_rows_text(const ot_train_event *e, char *text, size_t size);

enum { OT_SAVE_SELDOM = -1 };

/* Whether a teacher's hidden states are kept on disk instead of being computed in every epoch: AUTO: where that is cheaper, YES: or else the run is refused. */
typedef enum ot_teacher_caching { OT_TEACHER_CACHE_AUTO, OT_TEACHER_CACHE_YES, OT_TEACHER_CACHE_NO } ot_teacher_caching;

typedef struct ot_train_options {
    const ot_backend *backend;
    ot_dtype compute;
    int64_t steps, batch, grad_accum;
    double lr, weight_decay, clip;
    ot_optimizer_choice optimizer; /* zeroed: AdamW */
    int64_t warmup;
    ot_schedule schedule;
    uint64_t seed;
    bool shuffle, recompute;
    double dropout;
    double label_smoothing; /* of the training loss; validation has none */
    int64_t valid_every; /* 0: never, besides the end */
    int64_t save_every;  /* 0: only at the end and when interrupted; OT_SAVE_SELDOM: once a minute, for at most 2 % of the time */
    int64_t keep;        /* checkpoints: the newest and those before it; up to 1: one */
    int64_t patience;    /* validations in a row without a better one that end the run; 0: none do */
    bool select_best;
    ot_guard_mode guard;
    int64_t guard_limit; /* skipped steps in a row that stop the run; up to 1: the first does */
    int64_t run;         /* number of this run in a grid, from 1; 0: there is no grid */
    const char *log_path;        /* JSONL, or NULL */
    const char *checkpoint_path; /* a file, or NULL: no checkpoints */
    const char *fingerprint;     /* of everything that must be the same for a resume */
    bool resume;                 /* from checkpoint_path if it exists */
    const ot_hooks *hooks;
    const ot_teacher *teacher; /* distillation: the loss is lm_weight * LM and the teacher's terms; NULL: LM alone */
    double lm_weight;          /* with a teacher; 0: nothing above the emulator is run, and --valid is scored by distance */
    ot_teacher_caching teacher_caching;
    const char *teacher_cache_path; /* a file, or NULL: there is none */
    const volatile sig_atomic_t *stop; /* raised: save and return OT_ERR_INTERRUPTED; NULL: never */
    void (*observe)(void *context, const ot_train_event *event); /* after every step; NULL: nobody */
    void *context;
} ot_train_options;

/* What the program, its libraries and a tokenizer take before anything is trained: measured, nearly the same for every run. */
enum { OT_PROGRAM_BYTES = 14 << 20 };

typedef struct ot_train_memory {
    int64_t program;     /* OT_PROGRAM_BYTES */
    int64_t weights;     /* frozen, as mapped or copied; a teacher's too */
    int64_t trained;     /* masters, gradients, moments, copies */
    int64_t activations; /* training and validation plans */
    int64_t data;
} ot_train_memory;
/* All of it together. */
int64_t ot_train_memory_sum(const ot_train_memory *m);

/* What running a teacher costs, and what keeping its hidden states would. */
typedef struct ot_teacher_plan {
    bool cached;
    const char *why_not; /* NULL when it is */
    int64_t rows, visits;             /* of the data; of them in the run */
    int64_t bytes, room;              /* of the cache; free on that disk, -1: unknown */
    double share, cached_share;       /* of the run's arithmetic that is the teacher's blocks: run every time; once for every row */
} ot_teacher_plan;

typedef struct ot_train_result {
    int64_t steps_done, first_step; /* first_step > 0: resumed */
    double last_loss, valid_loss, best_valid_loss; /* NaN where there is none */
    int64_t best_step;                             /* -1: none */
    int64_t skipped, spikes;                       /* steps without an update; spikes told */
    bool early;                                    /* patience ended it */
    int64_t saves;                                 /* checkpoints that this process wrote */
    double save_seconds;                           /* and how long that took */
} ot_train_result;

typedef struct ot_trainer ot_trainer;

/* The model's slots must already be declared in t (not bound). valid may be NULL. Everything is allocated here; _memory is exact. */
ot_status ot_trainer_new(ot_model *m, ot_trainables *t, const ot_dataset *train, const ot_dataset *valid, const ot_train_options *options,
                         ot_trainer **out, ot_error *err);
void ot_trainer_memory(const ot_trainer *trainer, ot_train_memory *out);
/* Of a run with a teacher; all zero without. */
const ot_teacher_plan *ot_trainer_teacher_plan(const ot_trainer *trainer);
/* Runs to the end (or to an interruption). Afterwards the masters hold the weights that go back: the last, or the best. */
ot_status ot_trainer_run(ot_trainer *trainer, ot_train_result *result, ot_error *err);
void ot_trainer_free(ot_trainer *trainer);

/* Is there a checkpoint under this name, or an older one kept beside it? */
bool ot_checkpoints_exist(const char *checkpoint_path);
/* The fingerprint of the run that left the newest of them, or the grid's file of that name; "" when there is none or it cannot be read. */
void ot_checkpoints_fingerprint(const char *checkpoint_path, char *out, size_t size);
/* Remove them all. */
ot_status ot_checkpoints_remove(const char *checkpoint_path, ot_error *err);

/* Mean loss over all targets of a data set, with any network that has OT_OUT_LOSS; by_distance: mean distance from the network's teacher instead. */
ot_status ot_dataset_loss(ot_network *net, const ot_dataset *data, int64_t batch, bool by_distance, double *loss, ot_error *err);

#endif
