/* The table of the CPU backend, and what its kernels share: scratch checks, decoding of weights, copies. */
#include "engine/cpu/cpu.h"
#include "engine/cpu/gemm.h"
#include "tensor/packed.h"

/* ==== Scratch ==== */

ot_status ot_cpu_check_work(const ot_call *call, const ot_cpu_work *work) {
    if (work->bytes == 0 || (call->scratch && (size_t)work->bytes <= call->scratch_bytes)) return OT_OK;
    return ot_fail(call->err, OT_ERR_USAGE, "%s: the call has %zu bytes of scratch, %lld are needed: size it by the backend's scratch()",
                   ot_op_info(call->kind)->name, call->scratch_bytes, (long long)work->bytes);
}

/* ==== Weights ==== */

static const void *weight_at(const ot_weight *w, int64_t row, int64_t col) {
    int64_t row_bytes = 0, col_bytes = 0; /* the plan has checked that rows are whole blocks */
    ot_dtype_bytes(w->dtype, w->cols, &row_bytes);
    ot_dtype_bytes(w->dtype, col, &col_bytes);
    return (const char *)w->w + row * row_bytes + col_bytes;
}

/* Elements [col, col + n) of a row that is no span, as floats. */
static void decode_floats(const ot_weight *w, int64_t row, int64_t col, int64_t n, float *to) {
    if (!ot_dtype_is_packed(w->dtype)) {
        ot_decode_f32(w->dtype, weight_at(w, row, col), to, n);
        return;
    }
    const char *codes = (const char *)w->w + row * ot_packed_row_bytes(w->dtype, w->cols);
    const char *scales = (const char *)w->scales + row * ot_packed_row_groups(w->cols, w->group) * (int64_t)sizeof(ot_bf16);
    ot_packed_decode(w->dtype, codes, scales, w->group, col, n, to);
}

static bool is_span(ot_dtype dtype) { return dtype == OT_F32 || dtype == OT_BF16; }

void ot_cpu_decode_part(const ot_cpu_kernels *table, const ot_weight *w, int64_t row, int64_t col, int64_t n, ot_span to) {
    enum { PIECE = 1024 }; /* a multiple of every block */
    if (is_span(w->dtype)) {
        table->copy((ot_span){(void *)(uintptr_t)weight_at(w, row, col), w->dtype}, to, n, false);
    } else if (to.dtype == OT_F32) {
        decode_floats(w, row, col, n, to.x);
    } else {
        float piece[PIECE];
        for (int64_t i = 0; i < n; i += PIECE) {
            int64_t m = n - i < PIECE ? n - i : PIECE;
            decode_floats(w, row, col + i, m, piece);
            table->copy((ot_span){piece, OT_F32}, ot_span_at(to, i), m, false);
        }
    }
}

ot_span ot_cpu_weight_part(const ot_weight *w, int64_t row, int64_t col, int64_t n, float *room) {
    if (is_span(w->dtype)) return (ot_span){(void *)(uintptr_t)weight_at(w, row, col), w->dtype};
    decode_floats(w, row, col, n, room);
    return (ot_span){room, OT_F32};
}

typedef struct decode_job {
    const ot_cpu_kernels *table;
    const ot_weight *w;
    int64_t first, rows, each;
    ot_span to;
} decode_job;

static void decode_rows(void *context, int64_t chunk) {
    const decode_job *j = context;
    for (int64_t i = chunk * j->each; i < j->rows && i < (chunk + 1) * j->each; i++)
        ot_cpu_decode_part(j->table, j->w, j->first + i, 0, j->w->cols, ot_span_at(j->to, i * j->w->cols));
}

enum { ELEMENTS_PER_CHUNK = 32768 };

void ot_cpu_decode(const ot_cpu_kernels *table, const ot_weight *w, int64_t first, int64_t rows, ot_span to) {
    int64_t each = w->cols ? ELEMENTS_PER_CHUNK / w->cols + 1 : 1;
    decode_job job = {table, w, first, rows, each, to};
    ot_parallel_for(ot_chunks(rows, each), decode_rows, &job);
}

/* ==== Copies and sums ==== */

typedef struct copy_job {
    const ot_cpu_kernels *table;
    ot_span x, y;
    int64_t n;
    bool add;
} copy_job;

static void copy_chunk(void *context, int64_t chunk) {
    const copy_job *j = context;
    int64_t at = chunk * ELEMENTS_PER_CHUNK, n = j->n - at < ELEMENTS_PER_CHUNK ? j->n - at : ELEMENTS_PER_CHUNK;
    j->table->copy(ot_span_at(j->x, at), ot_span_at(j->y, at), n, j->add);
}

void ot_cpu_copy(const ot_cpu_kernels *table, ot_span x, ot_span y, int64_t n, bool add) {
    if (x.x == y.x && x.dtype == y.dtype && !add) return;
    copy_job job = {table, x, y, n, add};
    ot_parallel_for(ot_chunks(n, ELEMENTS_PER_CHUNK), copy_chunk, &job);
}

typedef struct sum_job {
    const ot_cpu_kernels *table;
    ot_span x;
    int64_t rows, cols;
    float *sum;
} sum_job;

enum { COLUMNS_PER_CHUNK = 256 };

static void sum_columns(void *context, int64_t chunk) {
    const sum_job *j = context;
    int64_t c = chunk * COLUMNS_PER_CHUNK, n = j->cols - c < COLUMNS_PER_CHUNK ? j->cols - c : COLUMNS_PER_CHUNK;
    j->table->column_sum(ot_span_at(j->x, c), j->cols, j->rows, n, j->sum + c);
}

void ot_cpu_column_sum(const ot_cpu_kernels *table, ot_span x, int64_t rows, int64_t cols, float *sum) {
    sum_job job = {table, x, rows, cols, sum};
    ot_parallel_for(ot_chunks(cols, COLUMNS_PER_CHUNK), sum_columns, &job);
}

/* ==== The table ==== */

static bool always(void) { return true; }
static bool supports(ot_dtype compute) { return compute == OT_F32 || compute == OT_BF16; }

static size_t scratch(const ot_call *call) {
    switch (call->kind) {
    case OT_OP_LINEAR: return (size_t)ot_cpu_linear_scratch(call);
    case OT_OP_LOW_RANK: return (size_t)ot_cpu_low_rank_scratch(call);
    case OT_OP_MAGNITUDE: return (size_t)ot_cpu_magnitude_scratch(call);
    case OT_OP_HEAD_LOSS: return (size_t)ot_cpu_head_loss_scratch(call);
    case OT_OP_ATTENTION: return (size_t)ot_cpu_attention_scratch(call);
    case OT_OP_NORM: return (size_t)ot_cpu_norm_scratch(call);
    case OT_OP_DISTANCE: return (size_t)ot_cpu_distance_scratch(call);
    case OT_OP_DIVERGENCE: return (size_t)ot_cpu_divergence_scratch(call);
    default: return 0;
    }
}

/* X(kind, name of the kernels) for every operation with a backward; KEEP, PATCHES and GIVEN have none. */
#define KERNEL_MAP(X)                                                                                                  \
    X(OT_OP_EMBED, embed)                                                                                              \
    X(OT_OP_POSITION, position)                                                                                        \
    X(OT_OP_NORM, norm)                                                                                                \
    X(OT_OP_LINEAR, linear)                                                                                            \
    X(OT_OP_ROPE, rope)                                                                                                \
    X(OT_OP_ATTENTION, attention)                                                                                      \
    X(OT_OP_ACT, act)                                                                                                  \
    X(OT_OP_GATE, gate)                                                                                                \
    X(OT_OP_ADD, add)                                                                                                  \
    X(OT_OP_SCALE, scale)                                                                                              \
    X(OT_OP_DROPOUT, dropout)                                                                                          \
    X(OT_OP_GATHER, gather)                                                                                            \
    X(OT_OP_CLASS, class)                                                                                              \
    X(OT_OP_POOL, pool)                                                                                                \
    X(OT_OP_HEAD_LOSS, head_loss)                                                                                      \
    X(OT_OP_DISTANCE, distance)                                                                                        \
    X(OT_OP_DIVERGENCE, divergence)                                                                                    \
    X(OT_OP_LOW_RANK, low_rank)                                                                                        \
    X(OT_OP_MAGNITUDE, magnitude)
#define FORWARD(kind, name) [kind] = ot_cpu_##name##_forward,
#define BACKWARD(kind, name) [kind] = ot_cpu_##name##_backward,

const ot_backend ot_backend_cpu = {
    .name = "cpu",
    .help = "OpenBLAS and oneDNN matrix products, fused attention and loops for AVX-512, AVX2 and plain C",
    .libraries = ot_gemm_libraries,
    .available = always,
    .supports = supports,
    .scratch = scratch,
    .forward = {KERNEL_MAP(FORWARD)[OT_OP_KEEP] = ot_cpu_keep_forward, [OT_OP_PATCHES] = ot_cpu_patches_forward, [OT_OP_GIVEN] = ot_cpu_given_forward},
    .backward = {KERNEL_MAP(BACKWARD)},
};
