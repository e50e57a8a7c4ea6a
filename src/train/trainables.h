/* What is trained: F32 master values, gradients and the optimizer's state, each in one contiguous arena; and, for bf16 arithmetic, the bf16
 * copies that the kernels read. */
#ifndef OT_TRAIN_TRAINABLES_H
#define OT_TRAIN_TRAINABLES_H

#include "engine/plan.h"
#include "model/model.h"
#include "train/optimizer.h"

typedef struct ot_trainable {
    const char *name; /* in result files and checkpoints */
    ot_slot *slot;
    ot_slot first; /* as it was before _bind: the first values, which must stay where they are while runs begin anew */
    int32_t n_dims;
    int64_t shape[2];
    bool decay;
    double lr_scale;
    int64_t offset, count; /* in the arenas, in elements */
    int64_t first_block;   /* of OT_STATE_BLOCK elements; every tensor begins one */
} ot_trainable;

typedef struct ot_trainables {
    ot_trainable *items;
    int64_t n_items, capacity;
    int64_t count;   /* trained values */
    int64_t stretch; /* elements of each arena: tensors are padded to whole cache lines */
    int64_t blocks;  /* of OT_STATE_BLOCK elements, of all tensors */
    ot_dtype compute;
    ot_optimizer_choice optimizer; /* set before _bytes and _bind; without one: AdamW */
    float *master, *grad;
    void *states[OT_OPTIMIZER_STATES]; /* the optimizer's, in its order */
    float *best;      /* copy of the best master, NULL unless asked for */
    ot_bf16 *halves;  /* of matrices, with bf16 arithmetic */
} ot_trainables;

/* Declare one tensor; name and slot must outlive the set. The slot is marked trainable at once. */
ot_status ot_trainables_add(ot_trainables *t, const char *name, ot_slot *slot, int32_t n_dims, bool decay, double lr_scale, ot_error *err);
/* A parameter of a model. */
ot_status ot_trainables_add_param(ot_trainables *t, ot_param *p, ot_error *err);
/* Bytes that _bind will allocate. */
int64_t ot_trainables_bytes(const ot_trainables *t, bool keep_best);
/* Allocate, fill masters from the slots' present data (zeros where there is none) and point the slots at masters (or halves) and gradients. Called
 * again, with the same arguments: everything as it was after the first time. */
ot_status ot_trainables_bind(ot_trainables *t, ot_dtype compute, bool keep_best, ot_error *err);
/* The slots as they were before _bind, for a plan that is made anew; nothing when they are. */
void ot_trainables_unbind(ot_trainables *t);
/* After masters changed: rewrite the halves. */
void ot_trainables_refresh(ot_trainables *t);
void ot_trainables_keep_best(ot_trainables *t);    /* best = master */
void ot_trainables_restore_best(ot_trainables *t); /* master = best */
double ot_trainables_gradient_norm(const ot_trainables *t);
/* Training is over: free all but the masters and halves, so that writing the result finds their room. */
void ot_trainables_finish(ot_trainables *t);
void ot_trainables_free(ot_trainables *t);

/* A tensor's part of a state: where it lies, how many elements of which type. */
ot_dtype ot_trainables_state(const ot_trainables *t, int state, const ot_trainable *item, void **data, int64_t *count);

typedef struct ot_update {
    double lr, decay;
    int64_t step;      /* from 1: updates, this one included */
    double grad_scale; /* clipping */
} ot_update;
/* One step of the optimizer. Also writes the halves, and clears the gradients for the next step, as the values pass through the cache anyway. */
void ot_trainables_update(ot_trainables *t, const ot_update *u);
/* For a step without an update. */
void ot_trainables_clear_gradients(ot_trainables *t);

#endif
