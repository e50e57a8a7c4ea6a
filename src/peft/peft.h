/* Which parameters are trained, as a const table of methods: all of the tuned blocks (full), their one-dimensional ones (bitfit), or new ones
 * hooked into their linears, their attention or in front of the sequence. A new method is one file and one line in peft_list.c. Several can be
 * stacked where that has a meaning. Paper section 5.5. */
#ifndef OT_PEFT_PEFT_H
#define OT_PEFT_PEFT_H

#include "base/rng.h"
#include "base/spec.h"
#include "format/safetensors.h"
#include "model/network.h"
#include "train/trainables.h"

typedef struct ot_peft ot_peft;
typedef struct ot_peft_part ot_peft_part;

/* A tensor that a method adds to the model. */
typedef struct ot_peft_tensor {
    const char *name; /* in --init-adapter files and logs, with this model's block numbers */
    ot_slot slot;     /* what the engine computes with; data are F32 until training binds it */
    float *values;    /* F32, the arena's: where a file's values or the first random ones lie */
    int32_t n_dims;   /* as result files have it */
    int64_t shape[3];
    bool vector; /* for the engine, whatever the shape in files */
    const ot_peft_part *owner;
    int32_t block; /* -1: of none, in front of the sequence */
    ot_role role;  /* the linear that it goes with, where the method tells linears apart */
    int32_t part;  /* which of the method's tensors in this place */
} ot_peft_tensor;

/* Where a method reaches in. What two methods would both lay claim to cannot be stacked. */
typedef enum ot_peft_place {
    /* In the order in which they act on a linear. */
    OT_PEFT_WEIGHTS = 1, /* every parameter of the blocks */
    OT_PEFT_VECTORS = 2, /* their one-dimensional ones */
    OT_PEFT_UPDATE = 4,  /* a change of the linears' matrices */
    OT_PEFT_SCALES = 8,  /* factors of activations */
    OT_PEFT_BOTTLENECKS = 16,
    OT_PEFT_FRONT = 32, /* virtual tokens */
    OT_PEFT_HEAD = 64,  /* nothing besides what is trained anyway */
} ot_peft_place;

typedef struct ot_peft_method {
    ot_spec_method spec;
    ot_peft_place place;
    /* Do the keys make sense for a model of this description? NULL: always. */
    ot_status (*check)(const ot_desc *desc, const ot_spec_step *step, ot_error *err);
    /* Trained values when `blocks` blocks of a model of this description are tuned. */
    int64_t (*count)(const ot_desc *desc, const ot_spec_step *step, int64_t blocks);
    /* Is this parameter of the model itself trained? NULL for methods that hook in. */
    bool (*trains)(const ot_spec_step *step, const ot_param *param);
    /* Methods that hook in: add tensors for the tuned blocks and set the part's hooks; the first values of one tensor (it comes zeroed; NULL: zeros);
     * and its name when its block has another number. */
    ot_status (*attach)(ot_peft_part *s, ot_error *err);
    ot_status (*initialise)(const ot_peft_part *s, const ot_peft_tensor *t, ot_rng *rng, float *values, ot_error *err);
    ot_status (*name)(const ot_peft_part *s, const ot_peft_tensor *t, int64_t block, char name[OT_PARAM_NAME], ot_error *err);
    bool merges; /* what it adds can become part of the weights */
} ot_peft_method;

extern const ot_peft_method *const ot_peft_methods[]; /* NULL-terminated */

enum { OT_PEFT_PARTS = 4 };

/* A --peft text, read: "" is full. */
typedef struct ot_peft_choice {
    ot_spec spec; /* one step for each method */
    const ot_peft_method *methods[OT_PEFT_PARTS];
    int32_t n;
} ot_peft_choice;

/* USAGE, also where methods do not go together. */
ot_status ot_peft_parse(const char *text, ot_peft_choice *out, ot_error *err);
/* Is a parameter of the tuned blocks trained? Does any method replace parameters of the model; does any add tensors? */
bool ot_peft_trains(const ot_peft_choice *c, const ot_param *param);
bool ot_peft_replaces(const ot_peft_choice *c);
bool ot_peft_adds(const ot_peft_choice *c);
/* Can all that is added become part of the model's weights? */
bool ot_peft_merges(const ot_peft_choice *c);
/* Is it this method by itself; is it among the methods? */
bool ot_peft_is(const ot_peft_choice *c, const char *method);
bool ot_peft_has(const ot_peft_choice *c, const char *method);
/* Trained values when `blocks` blocks are tuned. */
ot_status ot_peft_count(const char *text, const ot_desc *desc, int64_t blocks, int64_t *count, ot_error *err);

/* One method at work. */
struct ot_peft_part {
    const ot_peft_method *method;
    const ot_spec_step *step;
    ot_peft *whole;
    ot_hooks hooks; /* filled by methods that hook in; all zero otherwise */
    void *state;    /* the method's own */
};

struct ot_peft {
    ot_peft_choice choice;
    ot_peft_part parts[OT_PEFT_PARTS];
    char text[256]; /* as given */
    ot_model *model;
    const bool *tuned; /* [layers] */
    ot_hooks hooks;    /* of all parts; all zero where none hooks in */
    ot_peft_tensor **tensors;
    int64_t n_tensors, capacity;
    ot_arena arena;
};

/* For training: hook in, give new tensors their first values (a function of the seed and each tensor's name) and declare what is trained.
 * p stays where it is, because hooks point to it; the model must outlive it. */
ot_status ot_peft_begin(ot_peft *p, const char *text, ot_model *model, const bool *tuned, uint64_t seed, ot_trainables *t, ot_error *err);
/* A classifier's head is trained too, whatever the method, at lr_scale times the rate. Nothing for other models. */
ot_status ot_peft_declare_head(ot_model *model, double lr_scale, ot_trainables *t, ot_error *err);
/* For running: hook in with all values zero. Methods that hook nothing in leave p without tensors. */
ot_status ot_peft_attach(ot_peft *p, const char *text, ot_model *model, const bool *tuned, ot_error *err);
/* Values from a file that has exactly the methods' tensors, each under prefix + its name; file_blocks: block of the model -> its number in
 * the file (NULL: the same). also: parameters of the model that the file may hold besides [n_params], NULL: none. Before training is bound. REFUSED
 * when a tensor is missing, extra, misshapen or not finite. */
ot_status ot_peft_load(ot_peft *p, const ot_safetensors *st, const char *prefix, const int64_t *file_blocks, const bool *also, ot_error *err);
/* After training: the tensors' slots hold the F32 masters, whatever arithmetic ran. */
void ot_peft_settle(ot_peft *p, const ot_trainables *t);
const ot_hooks *ot_peft_hooks(const ot_peft *p); /* NULL when nothing hooks in */
void ot_peft_end(ot_peft *p);
/* The part that is of this method, NULL: none. */
const ot_peft_part *ot_peft_find(const ot_peft *p, const ot_peft_method *method);

/* For the files of this folder: one more tensor, [rows, cols] (rows = 1 and n_dims 1: a vector), named by the method. */
ot_status ot_peft_add(ot_peft_part *s, int32_t block, ot_role role, int32_t part, int32_t n_dims, int64_t rows, int64_t cols, ot_peft_tensor **out,
                      ot_error *err);
/* A p of the one method whose part gets its tensors one by one, for files that tell each place by itself. */
ot_status ot_peft_open_one(ot_peft *p, const ot_peft_method *method, ot_model *model, const bool *tuned, ot_error *err);
/* Before ot_peft_hooks is asked: bring the hooks of the parts together. */
void ot_peft_join_hooks(ot_peft *p);

#endif
