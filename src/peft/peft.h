/* Which parameters are trained, as a const table of methods: all of the tuned blocks (full), their one-dimensional ones (bitfit), or new ones
 * hooked into their linears and attention. A new method is one file and one line in peft_list.c. Paper section 5.5. */
#ifndef OT_PEFT_PEFT_H
#define OT_PEFT_PEFT_H

#include "base/spec.h"
#include "model/network.h"
#include "train/trainables.h"

typedef struct ot_peft ot_peft;

typedef struct ot_peft_method {
    ot_spec_method spec;
    /* Trained values in one block of a model of this description. */
    int64_t (*count)(const ot_desc *desc, const ot_spec_step *step);
    /* Declare what is trained in the tuned blocks; new tensors are allocated and initialised here. */
    ot_status (*declare)(ot_peft *p, ot_trainables *t, ot_error *err);
    const char *file; /* "adapter.safetensors": the tuned parameters themselves; NULL: the method writes its own */
} ot_peft_method;

extern const ot_peft_method *const ot_peft_methods[]; /* NULL-terminated */

struct ot_peft {
    const ot_peft_method *method;
    ot_spec spec;
    char text[256];    /* as given */
    ot_model *model;
    const bool *tuned; /* [layers] */
    uint64_t seed;
    ot_hooks hooks;    /* filled by methods that hook in; all zero otherwise */
    void *state;
    ot_arena arena;
};

/* text: the --peft string. */
ot_status ot_peft_parse(const char *text, const ot_peft_method **method, ot_spec *spec, ot_error *err);
/* Trained values when `blocks` blocks are tuned. */
ot_status ot_peft_count(const char *text, const ot_desc *desc, int64_t blocks, int64_t *count, ot_error *err);
/* model and tuned must outlive p. */
ot_status ot_peft_begin(ot_peft *p, const char *text, ot_model *model, const bool *tuned, uint64_t seed, ot_trainables *t, ot_error *err);
const ot_hooks *ot_peft_hooks(const ot_peft *p); /* NULL when nothing hooks in */
void ot_peft_end(ot_peft *p);

#endif
