/* A network: a plan made from a model's description - the one transformer block, emitted once for each entry of a stack - together with
 * what turns sequences of token ids into the plan's batches. */
#ifndef OT_MODEL_NETWORK_H
#define OT_MODEL_NETWORK_H

#include "engine/plan.h"
#include "model/model.h"

/* One entry of the stack: which block's weights run here. Sharing is an index that occurs twice. */
typedef struct ot_stack_item {
    int32_t block;
} ot_stack_item;

/* How tuning methods hook in, without the block knowing them. Every function may be NULL. */
typedef struct ot_hooks {
    void *context;
    /* Before the linear `role` of a block: emit what it shall read in place of x. */
    int32_t (*input)(void *context, ot_builder *b, int32_t block, ot_role role, int32_t x);
    /* After the linear `role` of a block turned x into y: emit what is added to y (LoRA), or return another value to go on with (Houlsby).
     * x and y are value ids. */
    int32_t (*linear)(void *context, ot_builder *b, int32_t block, ot_role role, int32_t x, int32_t y);
    /* Prefix keys and values [tokens, kv_heads * head_dim] of a block; returns their number, 0: none. */
    int32_t (*prefix)(void *context, int32_t block, const ot_slot **keys, const ot_slot **values);
    /* Keys in front of every sequence that no row stands for: real positions start after them, in every block. */
    int32_t position_shift;
    /* Embeddings [tokens, embed_size] of virtual tokens, rows in front of every sequence; NULL: none. */
    const ot_slot *virtual_tokens;
} ot_hooks;

/* Virtual tokens that are rows; and all positions that stand before the first real token. */
static inline int64_t ot_hooks_virtual(const ot_hooks *h) { return h == NULL || h->virtual_tokens == NULL ? 0 : h->virtual_tokens->rows; }
static inline int64_t ot_hooks_front(const ot_hooks *h) { return h == NULL ? 0 : h->position_shift + ot_hooks_virtual(h); }

/* Distillation: a second model's blocks, run forward only from the hidden states that enter this network's emulator, and the distance of the
 * emulator's output from theirs as a further loss (paper section 4.3). They stand in the same trace, so their memory serves the emulator afterwards. */
typedef enum ot_teacher_use {
    OT_TEACHER_RUN,
    OT_TEACHER_ALONE, /* forward only and nothing but it: ot_network_taught has its outputs after a run */
    OT_TEACHER_GIVEN, /* its blocks are not run: the caller puts such outputs into ot_network_given before a run */
} ot_teacher_use;

typedef struct ot_teacher {
    const ot_model *model;          /* frozen */
    int64_t first_block, end_block; /* of the teacher: its middle */
    int64_t first_item, end_item;   /* of this network's stack: the emulator that learns to stand in for it */
    double weight;                  /* of the distance in the total */
    /* Further terms, each left out at weight 0. Hidden: the mean of the distances of the emulator's other outputs, item first_item + i's from the output
     * of the teacher's block match[i]; the last item's is the distance above. Needs two items. */
    double hidden_weight;
    const int64_t *match; /* [end_item - first_item] */
    /* Of text only: the divergence of the network's next-token distributions from those of the teacher with its own blocks above the middle, at the
     * targets. Is computed whatever the outputs are. */
    double kl_weight, kl_temperature;
    ot_teacher_use use;
    bool bf16; /* its blocks compute in bf16, whatever the network does */
} ot_teacher;

/* Hidden states of the teacher that its terms need, each [rows, hidden size]: of its middle; of every matched block but the last; of its last block. */
int64_t ot_teacher_outputs(const ot_teacher *t);

enum {
    OT_OUT_LOSS = 1,         /* cross-entropy over the batch's targets */
    OT_OUT_LOGITS = 2,       /* logits of every row */
    OT_OUT_TARGET_LOGITS = 4, /* logits of the target rows only (generation) */
    OT_OUT_HIDDEN = 8,       /* input of every block, output of the last, what the head reads */
};

typedef struct ot_network_options {
    ot_plan_options plan;
    const ot_stack_item *items; /* NULL: the model's own stack */
    int64_t n_items;
    const ot_hooks *hooks; /* NULL: none */
    unsigned outputs;      /* OT_OUT_* */
    int64_t max_segments;  /* sequences a batch; the plan's rows are counted without virtual tokens, its kept rows with them */
    double dropout;        /* on the branches, before they are added (training) */
    const ot_teacher *teacher; /* NULL: none. Without outputs and kl_weight nothing is computed above the emulator */
    int64_t image_height, image_width; /* of a vision model's batches; 0: its own. Positions of another size are interpolated */
    double label_smoothing;            /* in the loss */
    /* Losses of F32 as PyTorch's log-softmax gives them where it has vectors of 16: that many float sums of exponentials, each one after another. Small
     * terms get lost, about 1e-5 of a loss at a vocabulary of 50,000, but scores that are compared with the evaluation harness's are its. Forward only. */
    bool sums16;
} ot_network_options;

typedef struct ot_network ot_network;

ot_status ot_network_new(const ot_model *m, const ot_network_options *options, ot_network **out, ot_error *err);
void ot_network_free(ot_network *n);
ot_plan *ot_network_plan(ot_network *n);
/* Everything the network needs to run, batches and tables included. */
int64_t ot_network_bytes(const ot_network *n);
ot_status ot_network_allocate(ot_network *n, ot_error *err);

/* ==== Batches. ==== */

/* Start a new batch. */
void ot_network_clear(ot_network *n);
/* Append one sequence: ids[count]; mask (NULL: all ones) leaves tokens out, as if they were not there, but keeps their columns; targets[count]
 * (NULL: none) is the id that each position must predict, below 0: none. cache: for networks with a cache, which lane of
 * max_kept / lanes rows the keys go to, and how many it holds already; NULL otherwise. */
typedef struct ot_cache_lane {
    int64_t first_row; /* of the lane */
    int64_t length;    /* tokens in it, virtual ones too; advanced by ot_network_add */
} ot_cache_lane;
ot_status ot_network_add(ot_network *n, const int32_t *ids, const int64_t *mask, const int32_t *targets, int64_t count, ot_cache_lane *cache,
                         ot_error *err);
/* The last virtual token before the sequence added next must predict this id (below 0: nothing). Where there are none nobody must. */
void ot_network_expect(ot_network *n, int32_t id);
/* Vision models: append one image, pixels [channels, height, width] normalised as the model wants them. target: its class, below 0: it counts for
 * nothing (where there are no labels, any class: logits need a target row). */
ot_status ot_network_add_image(ot_network *n, const float *pixels, int32_t target, ot_error *err);
/* Append what follows the tokens of sequence number `stem` of this batch, which has no mask and no cache: ids[count] see them as if they stood in
 * front. So several continuations share the work on what they have in common. Forward only. */
ot_status ot_network_add_branch(ot_network *n, int64_t stem, const int32_t *ids, const int32_t *targets, int64_t count, ot_error *err);
/* One target more for a column of the sequence added last: a row may have to predict several. Columns must not decrease. Forward only. */
ot_status ot_network_add_target(ot_network *n, int64_t column, int32_t target, ot_error *err);
int64_t ot_network_rows(const ot_network *n); /* without virtual tokens */
int64_t ot_network_targets(const ot_network *n);
/* The row that column `column` of the sequence added as number `sequence` became, -1 when it was masked. */
int64_t ot_network_row_of(const ot_network *n, int64_t sequence, int64_t column);

typedef struct ot_run_options {
    double loss_scale;     /* see ot_batch; 0: 1 / targets of this batch */
    double distance_scale; /* see ot_batch; 0: 1 */
    float *target_loss;    /* [targets] or NULL */
    float *target_margin;  /* see ot_batch; [targets] or NULL */
    uint64_t dropout_seed;
    ot_profile *profile;
} ot_run_options;
/* *loss_sum (may be NULL) gets the sum over the targets. */
ot_status ot_network_run(ot_network *n, const ot_run_options *options, double *loss_sum, ot_error *err);

/* After a run. hidden(i): i in [0, items) the input of entry i; i = items: what the head reads (of vision models the output of the last block). */
const void *ot_network_hidden(const ot_network *n, int64_t i, int64_t *cols);
const void *ot_network_last_block(const ot_network *n);
double ot_network_distance(const ot_network *n);   /* from the teacher: mean(((T - S) / rms(T))^2), without weight */
double ot_network_hidden_distance(const ot_network *n); /* of the hidden term, without weight */
double ot_network_divergence(const ot_network *n);      /* T^2 KL(teacher || network), the mean over the targets, without weight */
const float *ot_network_taught(const ot_network *n, int64_t output); /* F32 and BF16 plans */
float *ot_network_given(ot_network *n, int64_t output);             /* [max_rows, hidden size], when a sequence was added */
const void *ot_network_logits(const ot_network *n); /* [rows or targets, vocabulary], F32 (F64) */

#endif
