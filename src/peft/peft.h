/* Which parameters are trained, as a const table of methods: all of the tuned blocks (full), their one-dimensional ones (bitfit), or new ones
 * hooked into their linears and attention. A new method is one file and one line in peft_list.c. Paper section 5.5. */
#ifndef OT_PEFT_PEFT_H
#define OT_PEFT_PEFT_H

#include "base/rng.h"
#include "base/spec.h"
#include "format/safetensors.h"
#include "model/network.h"
#include "train/trainables.h"

typedef struct ot_peft ot_peft;

/* A tensor that a method adds to the model. */
typedef struct ot_peft_tensor {
    const char *name; /* in --init-adapter files and logs, with this model's block numbers */
    ot_slot slot;     /* what the engine computes with; data are F32 until training binds it */
    float *values;    /* F32, the arena's: where a file's values or the first random ones lie */
    int32_t n_dims;   /* as result files have it */
    int64_t shape[3];
    int32_t block;
    ot_role role; /* the linear that it goes with, where the method tells linears apart */
    int32_t part; /* which of the method's tensors in this place */
} ot_peft_tensor;

typedef struct ot_peft_method {
    ot_spec_method spec;
    /* Do the keys make sense for a model of this description? NULL: always. */
    ot_status (*check)(const ot_desc *desc, const ot_spec_step *step, ot_error *err);
    /* Trained values in one block of a model of this description. */
    int64_t (*count)(const ot_desc *desc, const ot_spec_step *step);
    /* Is this parameter of the model itself trained? NULL for methods that hook in. */
    bool (*trains)(const ot_spec_step *step, const ot_param *param);
    /* Methods that hook in: add tensors for the tuned blocks and set the hooks; the first values of one tensor (it comes zeroed); and its name
     * when its block has another number. */
    ot_status (*attach)(ot_peft *p, ot_error *err);
    void (*initialise)(const ot_peft *p, const ot_peft_tensor *t, ot_rng *rng, float *values);
    ot_status (*name)(const ot_peft *p, const ot_peft_tensor *t, int64_t block, char name[OT_PARAM_NAME], ot_error *err);
} ot_peft_method;

extern const ot_peft_method *const ot_peft_methods[]; /* NULL-terminated */

struct ot_peft {
    const ot_peft_method *method;
    ot_spec spec;
    char text[256]; /* as given */
    ot_model *model;
    const bool *tuned; /* [layers] */
    ot_hooks hooks;    /* filled by methods that hook in; all zero otherwise */
    void *state;       /* the method's own */
    ot_peft_tensor **tensors;
    int64_t n_tensors, capacity;
    ot_arena arena;
};

/* text: the --peft string; "" is full. */
ot_status ot_peft_parse(const char *text, const ot_peft_method **method, ot_spec *spec, ot_error *err);
/* Trained values when `blocks` blocks are tuned. */
ot_status ot_peft_count(const char *text, const ot_desc *desc, int64_t blocks, int64_t *count, ot_error *err);

/* For training: hook in, give new tensors their first values (a function of the seed and each tensor's name) and declare what is trained.
 * p stays where it is, because hooks point to it; the model must outlive it. */
ot_status ot_peft_begin(ot_peft *p, const char *text, ot_model *model, const bool *tuned, uint64_t seed, ot_trainables *t, ot_error *err);
/* A classifier's head is trained too, whatever the method, at lr_scale times the rate. Nothing for other models. */
ot_status ot_peft_declare_head(ot_model *model, double lr_scale, ot_trainables *t, ot_error *err);
/* For running: hook in with all values zero. Methods that hook nothing in leave p without tensors. */
ot_status ot_peft_attach(ot_peft *p, const char *text, ot_model *model, const bool *tuned, ot_error *err);
/* Values from a file that has exactly this method's tensors, each under prefix + its name; file_blocks: block of the model -> its number in
 * the file (NULL: the same). Before training is bound. REFUSED when a tensor is missing, extra, misshapen or not finite. */
ot_status ot_peft_load(ot_peft *p, const ot_safetensors *st, const char *prefix, const int64_t *file_blocks, ot_error *err);
/* After training: the tensors' slots hold the F32 masters, whatever arithmetic ran. */
void ot_peft_settle(ot_peft *p, const ot_trainables *t);
const ot_hooks *ot_peft_hooks(const ot_peft *p); /* NULL when nothing hooks in */
void ot_peft_end(ot_peft *p);

/* For the files of this folder: one more tensor, [rows, cols] (rows = 1 and n_dims 1: a vector), named by the method. */
ot_status ot_peft_add(ot_peft *p, int32_t block, ot_role role, int32_t part, int32_t n_dims, int64_t rows, int64_t cols, ot_peft_tensor **out,
                      ot_error *err);

/* p->tuned becomes a copy of tuned [layers]. */
ot_status ot_peft_choose(ot_peft *p, const bool *tuned, ot_error *err);

#endif
