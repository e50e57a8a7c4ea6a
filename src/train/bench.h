/* Measuring training steps: whole steps, and operation by operation. */
#ifndef OT_TRAIN_BENCH_H
#define OT_TRAIN_BENCH_H

#include "model/network.h"
#include "train/trainables.h"

typedef struct ot_bench_options {
    const ot_backend *backend;
    ot_dtype compute;
    int64_t batch, sequence, steps; /* of pictures, sequence is the rows that one has */
    bool forward_only, recompute, profile;
    const ot_hooks *hooks;
    const ot_optimizer_choice *optimizer; /* NULL: AdamW */
    int64_t warm_up; /* steps that are not measured */
    int64_t room;    /* bytes that may be planned; 0: no limit */
} ot_bench_options;

/* One line of a profile: all entries of one kind and phase; low-rank products, which tuning methods add, apart. */
typedef struct ot_bench_line {
    ot_op_kind kind;
    ot_phase phase;
    bool low_rank, in_block;
    int64_t entries;
    double seconds, flops, bytes; /* of one step */
} ot_bench_line;

enum { OT_BENCH_LINES = OT_OP_COUNT * 3 * 4, OT_BENCH_LOW_RANK = 128 };

typedef struct ot_bench_result {
    double seconds;       /* median of a whole step */
    double seconds_best;
    double tokens_per_second, sequences_per_second;
    double loss;
    double plan_seconds;      /* of a step: forward and backward (profile only) */
    double optimizer_seconds; /* clipping norm, the optimizer */
    double block_seconds, low_rank_seconds; /* of the plan: in blocks, and by low-rank products there (profile only) */
    int64_t planned_bytes;                  /* known before anything is allocated, also where room did not suffice (MEMORY) */
    ot_bench_line lines[OT_BENCH_LINES];
    int n_lines;
} ot_bench_result;

/* What is trained is declared in t, not bound. Token ids, or pictures of the model's size, are random from a fixed seed. */
ot_status ot_bench_run(ot_model *m, ot_trainables *t, const ot_bench_options *options, ot_bench_result *out, ot_error *err);

/* What this machine attains: multiply-add rate of a large product, and bandwidth of a large addition, through the same backend. */
typedef struct ot_bench_peak {
    double flops_per_second, bytes_per_second;
} ot_bench_peak;
ot_status ot_bench_measure_peak(const ot_backend *backend, ot_dtype compute, ot_bench_peak *out, ot_error *err);

#endif
