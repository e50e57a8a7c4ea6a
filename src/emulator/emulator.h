/* Emulators: how the frozen middle is made small. A pipeline of steps from one const table; a new method is one file and one line in
 * emulator_list.c. Paper section 4.3. */
#ifndef OT_EMULATOR_EMULATOR_H
#define OT_EMULATOR_EMULATOR_H

#include "base/spec.h"
#include "model/model.h"

/* What a pipeline makes of the middle so far. */
typedef struct ot_emulator {
    const ot_model *model; /* NULL when only indices are asked for (inspect on a configuration) */
    int64_t bottom, top;
    int64_t *kept; /* blocks of the whole model that stay in the middle, increasing */
    int64_t n_kept;
    struct ot_emulator_change *changes; /* list of value changes, applied in order when tensors are written */
    ot_arena arena;
} ot_emulator;

typedef struct ot_emulator_change {
    struct ot_emulator_change *next;
    /* values: one matrix of a middle block as the file stores it, changed in place */
    void (*apply)(const struct ot_emulator_change *change, float *values, int64_t rows, int64_t cols);
    double number;
} ot_emulator_change;

typedef struct ot_emulator_method {
    ot_spec_method spec;
    ot_status (*apply)(ot_emulator *e, const ot_spec_step *step, ot_error *err);
} ot_emulator_method;

extern const ot_emulator_method *const ot_emulator_methods[]; /* NULL-terminated */

/* recipe: the --emulator string, empty: the middle as it is. layers = blocks of the whole model. */
ot_status ot_emulator_plan(const char *recipe, const ot_model *m, int64_t layers, int64_t bottom, int64_t top, ot_emulator *out, ot_error *err);
void ot_emulator_free(ot_emulator *e);
/* The offer's stack: bottom blocks, kept blocks, top blocks, as blocks of the whole model; blocks holds ot_emulator_stack_size. */
int64_t ot_emulator_stack_size(const ot_emulator *e);
void ot_emulator_stack(const ot_emulator *e, int64_t layers, int64_t *blocks);
/* Does the pipeline change the values of this parameter? */
bool ot_emulator_changes(const ot_emulator *e, const ot_param *p);
void ot_emulator_apply(const ot_emulator *e, const ot_param *p, float *values);

/* Uniform layer-drop of n blocks to keep: stride = (n - 1) / (keep - 1) in double, index i = nearbyint(i * stride), ties to even; keep = 1:
 * the middle one. 1 <= keep <= n. */
void ot_layerdrop_uniform(int64_t n, int64_t keep, int64_t *indices);

#endif
