/* How trained values follow their gradients, as a const table: one file for each optimizer and one line in optimizer_list.c.
 *
 * An optimizer declares the state that it keeps for each value; the trainables allocate it, the memory plan counts it, and checkpoints hold
 * it under its names. Decay is decoupled in all of them: w *= 1 - lr * decay, before the update. */
#ifndef OT_TRAIN_OPTIMIZER_H
#define OT_TRAIN_OPTIMIZER_H

#include "base/spec.h"
#include "tensor/dtype.h"

typedef enum ot_state_kind {
    OT_STATE_NONE,   /* ends the list */
    OT_STATE_VALUES, /* one F32 for each trained value */
    OT_STATE_CODES,  /* one byte for each trained value */
    OT_STATE_SCALES  /* one F32 for each OT_STATE_BLOCK values of a tensor */
} ot_state_kind;

enum { OT_STATE_BLOCK = 256, OT_OPTIMIZER_STATES = 4, OT_OPTIMIZER_KEYS = 4 };

typedef struct ot_optimizer_state {
    const char *name; /* in checkpoints, before the tensor's: "exp_avg" */
    ot_state_kind kind;
} ot_optimizer_state;

/* A stretch of one tensor, a multiple of OT_STATE_BLOCK values long unless it is the tensor's last one. */
typedef struct ot_optimizer_span {
    float *w, *g;                      /* [n] w is updated; g is read and cleared */
    ot_bf16 *half;                     /* [n] gets w as bf16; NULL: nobody wants it */
    void *states[OT_OPTIMIZER_STATES]; /* in the order of the table, at this stretch */
    int64_t n;
    int64_t first; /* where it lies among all values: the same in every run */
} ot_optimizer_span;

/* One step as it is for one tensor. */
typedef struct ot_optimizer_step {
    double lr, decay; /* decay is 0 where none applies */
    double grad_scale; /* clipping */
    int64_t step;      /* from 1: updates, this one included */
    const double *keys; /* [OT_OPTIMIZER_KEYS] in the order of the method's keys */
} ot_optimizer_step;

typedef struct ot_optimizer {
    ot_spec_method spec;
    ot_optimizer_state states[OT_OPTIMIZER_STATES];
    /* May not depend on how the tensor is cut, nor on the processor. */
    void (*update)(const ot_optimizer_step *step, const ot_optimizer_span *span);
} ot_optimizer;

extern const ot_optimizer ot_optimizer_adamw, ot_optimizer_adamw8bit, ot_optimizer_sgd;
extern const ot_optimizer *const ot_optimizers[]; /* NULL-terminated; the first is the default */

typedef struct ot_optimizer_choice {
    const ot_optimizer *optimizer;
    double keys[OT_OPTIMIZER_KEYS];
} ot_optimizer_choice;

/* "sgd:momentum=0.9"; errors name --optimizer. */
ot_status ot_optimizer_parse(const char *text, ot_optimizer_choice *out, ot_error *err);

#endif
