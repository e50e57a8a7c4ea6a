/* The closed list of operations, their attributes, and the contract between the plan and the kernels of a backend.
 *
 * Shapes: R = rows of the batch (tokens of all segments one after another; there is no batch dimension), D = hidden size,
 * H = query heads, K = key/value heads, d = head size, V = vocabulary, N/M = output/input width of a linear.
 * All matrices are row-major and dense: a value is [rows, cols] with row stride cols.
 *
 * Value dtypes: F32 or BF16 (F64 throughout in the double build of the reference). In a bf16 plan the residual stream and what
 * ADD, EMBED and POSITION write is F32; what NORM, LINEAR, ROPE, ATTENTION, ACT and GATE write is BF16; kernels must handle
 * each combination of F32/BF16 for inputs and output. A gradient has the dtype of its value. Sums are accumulated in F32 or wider.
 *
 * Weights: matrices come in any dtype (F32, BF16, F16, block-quantised, packed; F64 in the double build), as stored in the file. Vectors
 * (gains, biases) are always F32 (F64 in the double build).
 *
 * The accumulation contract, for every kernel:
 *   - forward overwrites out.x, except LINEAR with attr.linear.add_out and LOW_RANK, which add to it;
 *   - backward reads out.dx (the upstream gradient) and, for each input whose dx is not NULL, overwrites in[i].dx, or adds to it when
 *     in[i].add_dx; weight gradients (dw, not NULL when wanted; F32, F64 in the double build; layout as the weight) are always added to;
 *   - kernels never look at anything else to decide what to compute: NULL means not wanted;
 *   - in-place operations (ROPE) have in[0].x == out.x and in[0].dx == out.dx.
 * Kernels allocate nothing: scratch of the size that the backend's scratch function asked for is in the call.
 * A result must not depend on the number of threads. */
#ifndef OT_ENGINE_OP_H
#define OT_ENGINE_OP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "tensor/dtype.h"

typedef enum ot_op_kind {
    OT_OP_EMBED,     /* out[r] = scale * w0[ids[r]]; ids below 0: w1[-1 - id]; w0 [V, D], w1 virtual tokens [P, D] or absent */
    OT_OP_POSITION,  /* out[r] = in0[r] + w0[positions[r] + offset];       w0 [P, D] */
    OT_OP_NORM,      /* layer norm or RMS norm over groups of `width` columns; w0 gain [width], w1 bias [width] or absent */
    OT_OP_LINEAR,    /* out = scale * in0 . W^T + bias;                    w0 [N, M] (or [M, N] when transposed), w1 bias [N] or absent */
    OT_OP_ROPE,      /* in place: rotate the first rotary_dim columns of each head by the row's position */
    OT_OP_ATTENTION, /* out [R, H*d] from in0 = q, in1 = k, in2 = v; w0, w1 = prefix keys, values [P, K*d] or absent */
    OT_OP_ACT,       /* out = f(in0) */
    OT_OP_GATE,      /* out = f(in0) * in1 */
    OT_OP_ADD,       /* out = in0 + in1 */
    OT_OP_SCALE,     /* out = in0 * w0, column by column;               w0 [D] */
    OT_OP_DROPOUT,   /* out = in0 * mask / (1 - p), mask from a hash of (seed, element); p = 0: copy */
    OT_OP_GATHER,    /* out[i] = in0[target_rows[i]] */
    OT_OP_KEEP,      /* out[kept_rows[r]] = in0[r]: keys or values into the cache; no backward */
    OT_OP_PATCHES,   /* out[r] = the pixels of patch r of the batch's images, [C, P, P]; zeros for class rows; no backward */
    OT_OP_CLASS,     /* out[r] = r is the first row of an image ? w0 : in0[r];  w0 [1, D] */
    OT_OP_POOL,      /* out[i] = mean of the rows of in0 from target_rows[i] + skip on, `count` of them */
    OT_OP_HEAD_LOSS, /* cross-entropy of in0 [L, D] . w0^T (w0 [V, D], w1 bias [V] or absent) against targets, never holding [L, V] */
    OT_OP_DISTANCE,  /* loss mean((in0 - in1)^2) / mean(in1^2) over all rows: student in0, teacher in1, which gets no gradient */
    OT_OP_DIVERGENCE, /* loss T^2 mean over the rows of KL(softmax(in1 . w1^T / T) || softmax(in0 . w0^T / T)): student in0 with head w0 [V, D],
                       * teacher in1 with head w1 [V, D'], which get no gradient */
    OT_OP_GIVEN,      /* out = batch.given[index]: rows that the caller computed before; no backward */
    OT_OP_LOW_RANK,   /* out += scale * dropout(in0) . w0^T . w1^T: LoRA beside a linear;   w0 [r, M], w1 [N, r] */
    OT_OP_MAGNITUDE,  /* DoRA: out = in0 + (g - 1) * in1, column by column, g = w0 / the norm of each output's row of V = W + scale * w4 . w3, which counts as a
                       * constant; without in1 it is in0 - w1. w0 [N], w1 bias [N] or absent (as with in1), w2 = W as in LINEAR, w3 [r, M], w4 [N, r]; W, w3, w4 get no gradient */
    OT_OP_COUNT
} ot_op_kind;

typedef enum ot_act_kind {
    OT_ACT_RELU,
    OT_ACT_GELU,       /* erf */
    OT_ACT_GELU_TANH,  /* gelu_new, gelu_pytorch_tanh, BLOOM's */
    OT_ACT_QUICK_GELU, /* x * sigmoid(1.702 x) */
    OT_ACT_SILU,
    OT_ACT_COUNT
} ot_act_kind;

typedef enum ot_norm_kind {
    OT_NORM_LAYER, /* (x - mean) / sqrt(var + eps) * gain + bias */
    OT_NORM_RMS,   /* x / sqrt(mean(x^2) + eps) * (gain + gain_offset) */
} ot_norm_kind;

/* Where head h of q, k or v lies in a row of its value: columns [offset + h * stride, ... + d). */
typedef struct ot_head_layout {
    int32_t offset, stride;
} ot_head_layout;

typedef union ot_op_attr {
    struct {
        float scale;
        int32_t padding_id; /* row that gets no gradient, -1: none */
    } embed;
    struct {
        int32_t offset;
    } position;
    struct {
        ot_norm_kind kind;
        int32_t width; /* columns a group: D, or d for a norm of every head */
        double eps;
        float gain_offset; /* Gemma: 1 */
    } norm;
    struct {
        bool transposed; /* w0 is [M, N] (GPT-2's Conv1D) */
        bool add_out;    /* out += ... (LoRA's second product) */
        float scale;     /* of the product, not of the bias */
    } linear;
    struct {
        int32_t heads, head_dim, rotary_dim;
        ot_head_layout layout;
        int32_t table; /* which of the batch's rope tables */
    } rope;
    struct {
        int32_t heads, kv_heads, head_dim, prefix; /* prefix = P: rows of w0, w1 seen by every query, before all keys */
        ot_head_layout q, k, v;
        float scale;
        bool causal;
        int32_t window;      /* 0: none; else query slot i sees key slot j when 0 <= i - j < window */
        const float *alibi;  /* [H] slopes or NULL: adds slope * (key index within the segment; prefix parameters: -P .. -1) to the score */
    } attention;
    struct {
        ot_act_kind kind;
    } act; /* also GATE */
    struct {
        int32_t channels, height, width, patch; /* of an image; what does not fill a patch at the right and lower edge is left out */
        int32_t class_rows;                     /* before the patches: 1 or 0 */
    } patches;
    struct {
        int32_t every; /* rows of an image */
    } class_token;
    struct {
        int32_t skip, count;
    } pool;
    struct {
        float smoothing; /* share of each target's weight that is spread evenly over the vocabulary */
        bool sums16;     /* forward only: exponentials are summed as PyTorch sums them, see ot_network_options; backends may ignore it */
    } head;
    struct {
        float p;
        uint32_t site; /* distinguishes the dropouts of one step */
    } dropout;
    struct {
        float weight; /* in the total that is differentiated */
        int32_t index; /* of batch.distances */
    } distance;
    struct {
        float weight; /* as in distance */
        int32_t index;
        float temperature; /* T: both sides' logits are divided by it */
    } divergence;
    struct {
        int32_t index; /* of batch.given */
    } given;
    struct {
        float scale;
        float p; /* the mask as in dropout; 0: none */
        uint32_t site;
        int32_t r, M, N; /* of the matrices where forward leaves something for backward (see ot_op_save_bytes); r 0: all is computed again */
    } low_rank;
    struct {
        float scale;
        bool transposed; /* w2 is [M, N] */
    } magnitude;
} ot_op_attr;

/* One attention problem: queries are rows [q0, q0 + nq); keys are first rows [prefix0, prefix0 + n_prefix), then [k0, k0 + nk) of k and v
 * (the same row space in training; the cache in decoding). The last nq of the nk own keys belong to the queries: query i
 * (0 <= i < nq) causally sees the shared prefix and own keys j <= nk - nq + i. Backward needs n_prefix = 0. */
typedef struct ot_segment {
    int32_t q0, nq, k0, nk, prefix0, n_prefix;
} ot_segment;

/* cos and sin of every row's rotation: [R, rotary_dim / 2] each. Element i of a head's rotary part pairs with i + rotary_dim/2. */
typedef struct ot_rope_table {
    const float *cos, *sin;
    int32_t half;
} ot_rope_table;

enum { OT_ROPE_TABLES = 2 };

typedef struct ot_batch {
    int64_t rows;             /* R */
    const int32_t *ids;       /* [R]; -1, -2, ...: virtual tokens 0, 1, ... of EMBED's w1 */
    const float *pixels;      /* [images, C, H, W] for PATCHES: as many as the rows are of */
    const int32_t *positions; /* [R] for POSITION (and the rope tables) */
    const int32_t *slots;     /* [R] (for cached keys: of every cache row) index in the sequence, for the attention window */
    const int32_t *key_slots; /* slots of the rows of k and v; equals slots in training */
    const ot_segment *segments;
    int64_t n_segments;
    ot_rope_table rope[OT_ROPE_TABLES];
    const int32_t *kept_rows;   /* [R] for KEEP */
    int64_t n_targets;          /* L */
    const int32_t *target_rows; /* [L] rows that carry a label, increasing; without backward a row may carry several */
    const int32_t *targets;     /* [L] in [0, V) */
    double loss_scale;          /* gradient of the total with respect to one target's loss: 1 / counted targets of the whole step */
    float *target_loss;         /* [L] loss of each target, or NULL */
    float *target_margin;       /* [L] by how much the largest logit of the row exceeds the target's (0: greedy decoding takes it), or NULL */
    double loss_sum;            /* written by HEAD_LOSS: sum over the targets */
    double distance_scale;      /* of every DISTANCE's and DIVERGENCE's gradient: this batch's share of the rows of the whole step */
    double *distances;          /* written by DISTANCE and DIVERGENCE, one for each; without weight and scale */
    const float *const *given;  /* for GIVEN: [R, cols] each */
    uint64_t dropout_seed;      /* changes every step and micro-batch */
} ot_batch;

typedef struct ot_view {
    void *x;
    void *dx;    /* NULL: no gradient wanted (inputs) or none arrives (outputs in a forward-only plan) */
    bool add_dx; /* inputs: add to dx instead of overwriting it */
    ot_dtype dtype;
    int64_t rows, cols;
} ot_view;

typedef struct ot_weight {
    const void *w; /* NULL: absent */
    ot_dtype dtype;
    int64_t rows, cols; /* as stored; a vector has rows = 1 */
    void *dw;           /* NULL: frozen */
    const void *scales; /* of a packed dtype (tensor/packed.h), NULL otherwise */
    int32_t group;
} ot_weight;

enum { OT_OP_INPUTS = 3, OT_OP_WEIGHTS = 5, OT_OP_TOGETHER = 4 /* calls at most */ };

typedef struct ot_call {
    ot_op_kind kind;
    const ot_op_attr *attr;
    ot_view in[OT_OP_INPUTS]; /* x is NULL for inputs the kind does not have */
    ot_view out;              /* losses have none: x is NULL */
    ot_weight w[OT_OP_WEIGHTS];
    void *save;               /* what forward leaves for backward; size from ot_op_save_bytes */
    void *scratch;
    size_t scratch_bytes;
    ot_batch *batch;
    ot_error *err;
    const struct ot_call *next; /* LOW_RANK: another call of the kind with the same input 0, to be done with this one, or NULL */
} ot_call;

/* Bytes an operation's forward saves for its backward, for at most `rows` rows:
 * NORM: F32 (F64) mean and 1/std per group, interleaved [rows * groups][2]; RMS uses only the second;
 * ATTENTION: log-sum-exp of the scores, F32 (F64) [H][rows]; MAGNITUDE: 1 / norm (of a row of zeros 0), F32 (F64) [cols];
 * LOW_RANK, with r up to OT_LOW_RANK_KEPT: room that a backend may use, of z = scale * dropout(in0) . w0^T and of w1 turned, F32 [rows][r'] and [r'][N'], r' and N'
 * whole multiples of 4 and 16, and with dropout of the mask, bits [rows][words of M], each begun at a multiple of 64 bytes; others: 0. */
enum { OT_LOW_RANK_KEPT = 16 };
int64_t ot_op_save_bytes(ot_op_kind kind, const ot_op_attr *attr, int64_t rows, int64_t cols, ot_dtype compute);

/* What backward reads besides gradients and weights. */
enum { OT_NEEDS_IN0 = 1, OT_NEEDS_IN1 = 2, OT_NEEDS_IN2 = 4, OT_NEEDS_OUT = 8 };
typedef struct ot_op_traits {
    const char *name;
    uint8_t inputs;
    uint8_t needs_for_dx; /* mask: values read to compute input gradients */
    uint8_t needs_for_dw; /* mask: values read to compute weight gradients */
    bool in_place;
    bool loss; /* ends the trace: no output, backward computes forward's result too */
} ot_op_traits;
const ot_op_traits *ot_op_info(ot_op_kind kind);

typedef ot_status ot_kernel(const ot_call *call);

/* A backend is a const table. Losses: forward computes the loss; backward computes the same and the gradients in one go, so a training plan
 * runs only its backward. `scratch` answers for one call shape, whatever the phase. */
typedef struct ot_backend {
    const char *name, *help;
    void (*libraries)(char *text, size_t size); /* names and versions of what it computes with; NULL: nothing else */
    bool (*available)(void);          /* can this machine run it? */
    bool (*supports)(ot_dtype compute);
    size_t (*scratch)(const ot_call *call); /* views have rows, cols, dtypes; pointers are not valid, but NULL-ness of dx/dw is */
    ot_kernel *forward[OT_OP_COUNT];
    ot_kernel *backward[OT_OP_COUNT]; /* KEEP, PATCHES and GIVEN have none (NULL) */
} ot_backend;

extern const ot_backend ot_backend_ref;    /* plain C, float: the oracle */
extern const ot_backend ot_backend_ref64;  /* the same source in double, for finite differences */
extern const ot_backend ot_backend_cpu;    /* OpenBLAS f32, oneDNN bf16, fused loops */
extern const ot_backend *const ot_backends[]; /* NULL-terminated */

#endif
