/* The inner loops of the CPU backend, as a const table for each instruction set; the operations around them (threads, scratch, errors)
 * are written once and pick a table at run time. Loops never fail, never use threads and never look at the call. */
#ifndef OT_ENGINE_CPU_KERNELS_H
#define OT_ENGINE_CPU_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/op.h"
#include "tensor/dtype.h"

/* An array of F32 or BF16. */
typedef struct ot_span {
    void *x;
    ot_dtype dtype;
} ot_span;

static inline ot_span ot_span_at(ot_span s, int64_t i) {
    return (ot_span){(char *)s.x + i * (s.dtype == OT_F32 ? 4 : 2), s.dtype};
}

/* x, y [rows * groups, width]; gain, bias [width] or NULL; save [rows * groups][2] */
typedef struct ot_norm_job {
    ot_span x, y, dy, dx; /* dx.x NULL: not wanted */
    bool add_dx, layer;
    int64_t width;
    const float *gain, *bias;
    float gain_offset, eps;
    float *save;
} ot_norm_job;

enum {
    OT_ATTENTION_TILE = 64,       /* keys and queries of a tile */
    OT_ATTENTION_KEY_PAD = 16,    /* the keys of a segment are padded to a multiple of this */
    OT_ATTENTION_MAX_D = 256,     /* largest head */
    OT_ATTENTION_FEW_ROWS = 32,   /* queries x heads that read one kv head: so few are done without packing */
    OT_ATTENTION_GROUP = 128,     /* segments handled at once */
};

/* One attention call, prepared by attention.c. The keys of a segment are counted from 0: P prefix parameters, shared prefix rows,
 * own rows. It is done for a group of segments and a range of kv heads at a time, with their keys packed. */
typedef struct ot_attention_job {
    const ot_op_attr *attr;
    const ot_segment *segments; /* of the group */
    const int32_t *slots, *key_slots;
    ot_view q, k, v, out;
    ot_span prefix_k, prefix_v; /* [P, prefix_cols] */
    float *dprefix_k, *dprefix_v;
    int64_t prefix_cols;
    float *lse; /* [H][rows of q], or NULL */
    int64_t first_kv, n_kv;
    int64_t places[OT_ATTENTION_GROUP + 1]; /* padded keys of the group before each segment */
    char *keys;   /* [segment][n_kv]: packed keys and values */
    float *grads; /* [segment][query head of the range][2][padded keys][padded d]: dK, dV */
    bool add_k, add_v; /* to the rows of dk and dv */
} ot_attention_job;

typedef struct ot_attention_kernels {
    /* s counts segments of the group, kv heads and h query heads of the range */
    void (*pack)(const ot_attention_job *job, int64_t s, int64_t kv, bool backward);
    void (*forward)(const ot_attention_job *job, int64_t s, int64_t h, int64_t q_tile);
    void (*backward)(const ot_attention_job *job, int64_t s, int64_t h);
} ot_attention_kernels;

static inline int64_t ot_attention_padded_d(int64_t d) { return (d + 15) / 16 * 16; }

/* A product A^T . B by the loops of gemm_impl.h. Its depth is counted in units of 32 bits. */
enum { OT_GEMM_ROWS = 12, OT_GEMM_COLUMNS = 32 };
typedef struct ot_gemm_job {
    const struct ot_gemm *g;
    int64_t units;
    uint32_t *a; /* panels [units][OT_GEMM_ROWS] */
} ot_gemm_job;

typedef struct ot_gemm_kernels {
    /* panels of `a` */
    void (*pack_a)(const ot_gemm_job *job, int64_t first, int64_t panels);
    /* panels [a0, a1) of rows by [b0, b1) of columns; room for that many panels of B, [units][OT_GEMM_COLUMNS] each */
    void (*multiply)(const ot_gemm_job *job, int64_t a0, int64_t a1, int64_t b0, int64_t b1, uint32_t *room);
} ot_gemm_kernels;

/* HEAD_LOSS with a frozen head (see head_impl.h and head_loss.c). */
enum {
    OT_HEAD_TOKENS = 128, /* tokens of a part */
    OT_HEAD_BLOCK = 128,  /* vocabulary rows between two updates of the maxima */
    OT_HEAD_PIECE = 1024, /* columns turned at once */
};

typedef struct ot_head_job {
    ot_span x; /* [L, D] */
    int64_t D;
    const ot_weight *w;
    const float *bias;
    const int32_t *targets;
    bool gradients;
    bool sums16; /* no gradients, and sums of 16 (ot_network_options.sums16) */
    bool in_place; /* the rows of w can be multiplied where they lie */
    void (*decode_row)(const ot_weight *w, int64_t row, ot_span to);
} ot_head_job;

/* Some tokens and a range of the vocabulary. */
typedef struct ot_head_part {
    int64_t first, tokens, v0, v1;
    char *x, *w, *w_pairs;         /* packed operands */
    float *y;                      /* [OT_HEAD_TOKENS][padded D]: sum of e^(score - top) * w[v] */
    float *top, *sum, *at_target;  /* [OT_HEAD_TOKENS]: maximum, sum of e^(score - top) (sums16: 16 of them, one behind the other), score of the target or 0 */
} ot_head_part;

/* A product with one narrow side (see thin_impl.h and thin.c). */
typedef struct ot_thin {
    int64_t r, n, ld; /* narrow columns, padded; wide columns; floats between rows of w */
    const float *w;   /* [r, ld] */
    uint32_t *tiles;  /* OT_THIN_TILES(n) bytes that thin_prepare fills from w, or NULL; for thin_in, thin_grad of BF16 */
    float factor;     /* of what a mask keeps */
} ot_thin;

/* What the caller reads next: fetched into the cache on the way. No bytes: nothing. */
typedef struct ot_ahead {
    const void *at;
    int64_t bytes;
} ot_ahead;

/* Words of 32 bits of a mask's row, bit i % 32 of word i / 32 for element i: is it kept? */
#define OT_THIN_WORDS(n) (((n) + 31) / 32)
/* Two tiles of 16 by 16 units for 32 elements. */
#define OT_THIN_TILES(n) (((n) + 31) / 32 * 2048)

/* Of one dropout site in one step; see engine/dropout.h. */
typedef struct ot_dropout_mask {
    uint64_t seed;
    uint32_t threshold; /* kept when its 16 bits reach it */
    float factor;
} ot_dropout_mask;

typedef struct ot_cpu_kernels {
    const char *name;
    bool bf16_dot; /* has a bf16 dot product instruction */
    /* y = x, or y += x */
    void (*copy)(ot_span x, ot_span y, int64_t n, bool add);
    /* y += s * x */
    void (*axpy)(float s, ot_span x, ot_span y, int64_t n);
    /* y += the sum over k < OT_COMBINE of s[k] * x[k * stride ...] */
    void (*combine)(const float *s, ot_span x, int64_t stride, float *y, int64_t n);
    void (*scale)(float s, ot_span x, ot_span y, int64_t n);
    void (*add)(ot_span a, ot_span b, ot_span y, int64_t n);
    void (*act)(ot_act_kind kind, ot_span x, ot_span y, int64_t n);
    void (*act_back)(ot_act_kind kind, ot_span x, ot_span dy, ot_span dx, bool add, int64_t n);
    void (*gate)(ot_act_kind kind, ot_span g, ot_span u, ot_span y, int64_t n);
    /* dg.x, du.x NULL: not wanted */
    void (*gate_back)(ot_act_kind kind, ot_span g, ot_span u, ot_span dy, ot_span dg, bool add_dg, ot_span du, bool add_du, int64_t n);
    void (*norm)(const ot_norm_job *job, int64_t first, int64_t groups);
    /* partial [2][width] = this range's gradients of gain and bias, or NULL */
    void (*norm_back)(const ot_norm_job *job, int64_t first, int64_t groups, float *partial);
    /* x [2 * half]: rotate the pairs (i, i + half) by direction * angle */
    void (*rope)(ot_span x, const float *cosine, const float *sine, int64_t half, float direction);
    /* y = x * (0 or factor) by the hash of the site's element first + i; which ones are kept, as bits of `words` words */
    void (*dropout)(ot_span x, ot_span y, int64_t n, bool add, const ot_dropout_mask *mask, int64_t first);
    void (*dropout_bits)(uint32_t *bits, int64_t words, const ot_dropout_mask *mask, int64_t first);
    /* y [cols][ld] = x [rows][stride] */
    void (*turn)(const float *x, int64_t stride, int64_t rows, int64_t cols, float *y, int64_t ld);
    /* sum[0 .. n) += the sum over rows of x[row * stride + i] */
    void (*column_sum)(ot_span x, int64_t stride, int64_t rows, int64_t n, float *sum);
    /* out[r] += w . x[r * ldx ...] for r < R <= OT_GEMV_ROWS */
    void (*dots)(ot_span w, const float *x, int64_t ldx, int R, int64_t n, float *out);
    /* z [rows, r] = x [rows, n] . w^T; y [rows, n] = or += z . w; dw [r, ld] = z^T . x; of x, and of what y gets, only
     * what the mask [rows][OT_THIN_WORDS(n)] keeps, times t->factor; NULL: all */
    void (*thin_prepare)(const ot_thin *t); /* NULL: uses no tiles */
    void (*thin_in)(const ot_thin *t, ot_span x, const uint32_t *mask, float *z, int64_t rows, ot_ahead ahead);
    void (*thin_out)(const ot_thin *t, const float *z, ot_span y, const uint32_t *mask, int64_t rows, bool add);
    void (*thin_grad)(const ot_thin *t, const float *z, ot_span x, const uint32_t *mask, int64_t rows, float *dw);
    /* loss = log-sum-exp(logits + bias) - (logits + bias)[target]. gradient.x (may be logits itself) = scale * (softmax - onehot), NULL: none */
    double (*softmax_loss)(float *logits, const float *bias, int64_t n, int64_t target, float scale, ot_span gradient);
    /* The loss alone, by 16 float sums as PyTorch makes them (ot_network_options.sums16). The bias is added to the logits. */
    double (*softmax_loss_sums16)(float *logits, const float *bias, int64_t n, int64_t target);
    /* KL(softmax(s * teacher) || softmax(s * student)) of n logits. gradient.x (may be student itself) = scale * (q - p), q the student's, NULL: none */
    double (*divergence)(float *student, float *teacher, int64_t n, float s, float scale, ot_span gradient);
    ot_gemm_kernels gemm_f32, gemm_bf16; /* NULL where a library multiplies, as head */
    void (*head_f32)(const ot_head_job *job, const ot_head_part *part);
    void (*head_bf16)(const ot_head_job *job, const ot_head_part *part);
    ot_attention_kernels attention_f32, attention_bf16; /* without bf16_dot there is no attention_bf16 */
    /* Few queries, straight from the rows of k and v: all queries of one segment and kv head. */
    void (*attention_few)(const ot_attention_job *job, const ot_segment *segment, int64_t kv);
    /* After the backward of all heads: gradients of keys and values of one kv head of the range, to rows and prefix parameters. */
    void (*attention_finish)(const ot_attention_job *job, int64_t s, int64_t kv);
} ot_cpu_kernels;

enum { OT_GEMV_ROWS = 4, OT_COMBINE = 8 };

extern const ot_cpu_kernels ot_cpu_kernels_generic;
#if defined(__x86_64__)
extern const ot_cpu_kernels ot_cpu_kernels_avx2, ot_cpu_kernels_avx512, ot_cpu_kernels_avx512bf, ot_cpu_kernels_amx;
#endif

/* The best table for this CPU; OFFSITE_ISA=generic, avx2, avx512, avx512bf16 or amx in the environment asks for less. */
const ot_cpu_kernels *ot_cpu_pick(void);
/* All tables that this CPU can run, best first; NULL at the end (room for 6). For tests. */
void ot_cpu_tables(const ot_cpu_kernels *tables[6]);

#endif
