/* Emulators: how the frozen middle is made small. A pipeline of steps from one const table; a new method is one file and one line in
 * emulator_list.c. Paper section 4.3, docs/emulators.md.
 *
 * A pipeline works in two halves. Planning picks blocks, notes the form that they will have and lists changes; it reads no weights, so a
 * configuration is enough (but crash runs the model over text). Building makes the offer as a model of its own: block by block the changes are
 * applied in F32 and the result is encoded; what no step touches is borrowed from the whole model, bit for bit. */
#ifndef OT_EMULATOR_EMULATOR_H
#define OT_EMULATOR_EMULATOR_H

#include "base/spec.h"
#include "engine/op.h"
#include "model/model.h"

/* Rows of token ids for the methods that look at what the model does (never the data owner's text: public text). */
typedef struct ot_emulator_text {
    const int32_t *ids;
    const int64_t *starts; /* [rows + 1]: row r is ids[starts[r] .. starts[r + 1]) */
    int64_t rows, length;  /* of the longest row */
    const ot_backend *backend;
    ot_dtype compute;
} ot_emulator_text;

/* What a pipeline makes of the middle so far. */
typedef struct ot_emulator {
    const ot_model *model; /* NULL when only indices are asked for */
    int64_t bottom, top;
    int64_t *kept; /* blocks of the whole model that stay in the middle, increasing */
    int64_t n_kept;
    int64_t *places; /* [n_places] index into kept for every place of the middle's stack; NULL: each kept block once */
    int64_t n_places;
    ot_block_form form;                /* of every kept block */
    struct ot_emulator_change *changes; /* in order */
    const ot_emulator_text *text;       /* NULL: none was given */
    bool distilled;                     /* the last step trains the emulator */
    ot_arena arena;
} ot_emulator;

/* One matrix of a block in F32, as the file stores it; a linear in two factors has two. */
typedef struct ot_emulator_matrix {
    float *values; /* NULL: the block has none here */
    int64_t rows, cols;
    int64_t *row_of, *col_of; /* [rows], [cols]: which row and column of the file's matrix each one is; NULL: it is none of them, as in a factor */
} ot_emulator_matrix;

/* A block in work: its linears and their biases; norms are never changed. */
typedef struct ot_emulator_block {
    const ot_model *model;
    int64_t source;       /* block of the whole model */
    ot_desc desc;         /* with this block's widths */
    ot_emulator_matrix linears[OT_ROLE_COUNT][2]; /* [1] only of a linear in two factors: [0] is the input's, [1] the output's */
    ot_emulator_matrix biases[OT_ROLE_COUNT];
    int64_t *heads;       /* numbers of the heads that stay, NULL: all */
    ot_arena arena;
} ot_emulator_block;

typedef struct ot_emulator_change {
    struct ot_emulator_change *next;
    /* One of the two: on every matrix apart, or on a block. */
    ot_status (*matrix)(const struct ot_emulator_change *change, ot_emulator_matrix *m, ot_error *err);
    ot_status (*block)(const struct ot_emulator_change *change, ot_emulator_block *b, ot_error *err);
    double number;
    int64_t count, group;
    const struct ot_moments *moments; /* [blocks of the whole model up to the middle's last] what their linears see of a text, NULL: not asked for */
} ot_emulator_change;

typedef struct ot_emulator_method {
    ot_spec_method spec;
    ot_status (*apply)(ot_emulator *e, const ot_spec_step *step, ot_error *err);
} ot_emulator_method;

extern const ot_emulator_method *const ot_emulator_methods[]; /* NULL-terminated */

/* recipe: the --emulator string, empty: the middle as it is. layers = blocks of the whole model. text: NULL when there is none. */
ot_status ot_emulator_plan(const char *recipe, const ot_model *m, int64_t layers, int64_t bottom, int64_t top, const ot_emulator_text *text,
                           ot_emulator *out, ot_error *err);
void ot_emulator_free(ot_emulator *e);
/* The offer's blocks: bottom blocks, kept blocks, top blocks, as blocks of the whole model; blocks holds ot_emulator_stack_size. */
int64_t ot_emulator_stack_size(const ot_emulator *e);
void ot_emulator_stack(const ot_emulator *e, int64_t layers, int64_t *blocks);
/* Blocks that run in the offer, shared ones counted each time. */
int64_t ot_emulator_depth(const ot_emulator *e);
/* Can transformers open the offer as a model of its own kind? */
bool ot_emulator_is_plain(const ot_emulator *e);

/* The offer as a model: with shapes and dtypes alone, or with its values. It borrows from m, which must outlive it. Storage as for saving:
 * own_dtype keeps each tensor's, dtype counts otherwise. */
ot_status ot_emulator_shape(const ot_emulator *e, const ot_model *m, bool own_dtype, ot_dtype dtype, ot_model **out, ot_error *err);
ot_status ot_emulator_build(const ot_emulator *e, const ot_model *m, bool own_dtype, ot_dtype dtype, ot_model **out, ot_error *err);
/* The same; *same gets how many values of the offer's middle are the whole model's own, rounded to the type that they are stored in: so also the ones that
 * pruning left alone. Codes of a packed type and factors count for none. */
ot_status ot_emulator_build_counted(const ot_emulator *e, const ot_model *m, bool own_dtype, ot_dtype dtype, ot_model **out, int64_t *same, ot_error *err);
/* The parameter of the whole model that one of the offer's came from. */
const ot_param *ot_emulator_source(const ot_emulator *e, const ot_model *m, const ot_param *p);
/* Do the offer's stored bytes of p equal those of its source? */
bool ot_emulator_is_exact(const ot_param *p, const ot_param *source);

/* Uniform layer-drop of n blocks to keep: stride = (n - 1) / (keep - 1) in double, index i = nearbyint(i * stride), ties to even; keep = 1:
 * the middle one. 1 <= keep <= n. */
void ot_layerdrop_uniform(int64_t n, int64_t keep, int64_t *indices);

#endif
