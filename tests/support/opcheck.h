/* One operation as a test problem: its tensors as doubles, run on any backend in any dtype, then checked against finite
 * differences, against another backend, or against fixtures.
 *
 * The run gives kernels nothing for free: buffers have exactly the promised bytes, and scratch, saved statistics, outputs and
 * gradients that are to be overwritten begin as NaN. All checks end in a cmocka failure that names problem and element. */
#ifndef OFFSITE_TESTS_OPCHECK_H
#define OFFSITE_TESTS_OPCHECK_H

#include "base/mem.h"
#include "base/rng.h"
#include "engine/op.h"

typedef struct opcheck_tensor {
    int64_t rows, cols;
    double *x; /* values; of the output: what lies there before when `filled` */
    double *g; /* inputs, weights: the gradient before the call; output: the upstream gradient */
    bool wanted;    /* inputs, weights: gradient wanted */
    bool add;       /* inputs: add_dx */
    bool filled;    /* output: x is there before the call, instead of NaN */
    bool wide;      /* F32 even in a bf16 run (the residual stream) */
    bool same_as_0; /* inputs 1 and 2: the buffer of input 0, which holds the values (fused q, k, v) */
    ot_dtype stored; /* weights: OT_F32 means the real type of the run, F64 in the double build */
} opcheck_tensor;

typedef struct opcheck_problem {
    char name[160];
    ot_op_kind kind;
    ot_op_attr attr;
    opcheck_tensor in[OT_OP_INPUTS], out, w[OT_OP_WEIGHTS];
    ot_batch batch;
    bool forward_only;
    ot_arena arena; /* owns all arrays */
    ot_rng rng;
} opcheck_problem;

typedef struct opcheck_result {
    double *out;                /* also the rotated input of an in-place operation */
    double *dx[OT_OP_INPUTS];   /* NULL where not wanted, or the buffer is input 0's */
    double *dw[OT_OP_WEIGHTS];
    double *target_loss;        /* [n_targets], HEAD_LOSS */
    double *target_margin;      /* the same */
    double loss_sum; /* of HEAD_LOSS, DISTANCE and DIVERGENCE */
    ot_arena arena;
} opcheck_result;

/* ==== Building problems ==== */

/* Zero-initialise `p` by this; free by opcheck_free. */
void opcheck_begin(opcheck_problem *p, ot_op_kind kind, uint64_t seed, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void opcheck_free(opcheck_problem *p);
void *opcheck_alloc(opcheck_problem *p, int64_t count, size_t size);
/* n normal numbers that bf16 holds exactly, none nearer to 0 than 1/128. */
double *opcheck_random(opcheck_problem *p, int64_t n, double std, double mean);
/* A tensor of such numbers (std 1) whose gradient is wanted, on top of random numbers. x, when not NULL, is used instead. */
opcheck_tensor opcheck_tensor_make(opcheck_problem *p, int64_t rows, int64_t cols, double *x);

/* The built-in problems: `opcheck_variants(kind)` of them for every kind, from 0. Each seed gives other numbers. */
int opcheck_variants(ot_op_kind kind);
void opcheck_make(opcheck_problem *p, ot_op_kind kind, int variant, uint64_t seed);

/* ==== Running and checking ==== */

/* forward, then backward when asked (HEAD_LOSS: both must agree about the loss). Free by opcheck_result_free. */
void opcheck_run(const opcheck_problem *p, const ot_backend *backend, ot_dtype compute, bool backward, opcheck_result *result);
void opcheck_result_free(opcheck_result *result);

/* Gradients of ot_backend_ref64 against central differences of its forward: every element of small tensors, a sample of large
 * ones. */
void opcheck_finite_differences(opcheck_problem *p);
/* Every gradient not wanted in turn: the others must come out the same, bit by bit. */
void opcheck_unwanted(opcheck_problem *p, const ot_backend *backend, ot_dtype compute);
/* max |actual - expected| <= atol + rtol * max |expected| */
void opcheck_close(const char *problem, const char *what, const double *actual, const double *expected, int64_t n, double rtol,
                   double atol);
/* Two runs of one problem. The limit follows from the coarser dtype and the magnitudes of each tensor. Returns how many tensors
 * differ too much and prints each. */
int opcheck_compare(const opcheck_problem *p, const ot_backend *oracle, ot_dtype oracle_compute, const ot_backend *candidate,
                    ot_dtype compute);
/* The same for all built-in problems of all operations, with each seed in [1, seeds]. */
int opcheck_compare_backends(const ot_backend *oracle, ot_dtype oracle_compute, const ot_backend *candidate, ot_dtype compute,
                             int seeds);
/* Has the backend every kernel of the table? */
void opcheck_complete(const ot_backend *backend);

#endif
