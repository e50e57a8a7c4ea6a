/* CPU backend: HEAD_LOSS in general, by chunks of rows: the logits of a chunk over the whole vocabulary lie in scratch and turn into their gradient
 * in place. A head in another type than the product's is decoded by tiles of its rows, so that it never lies whole in scratch.
 * x [L, D], W [V, D], bias [V], targets [L]. */
#include <math.h>

#include "engine/cpu/gemm.h"
#include "engine/cpu/head.h"

enum { CHUNK = 128, TILE_ELEMENTS = 4 << 20 };

typedef struct head_work {
    ot_dtype type;
    int64_t L, D, V, tile; /* tile: vocabulary rows multiplied at once */
    float *logits;         /* [CHUNK, V]; their gradient in the product's type takes the front of each row */
    float *dx;             /* [CHUNK, D] */
    void *x;               /* [CHUNK, D] in the product's type, or NULL */
    void *w;               /* [tile, D], or NULL: read in place */
    double *losses;        /* [L] */
} head_work;

ot_dtype ot_head_type(const ot_call *call) { return call->in[0].dtype == OT_BF16 && ot_gemm_bf16() ? OT_BF16 : OT_F32; }

bool ot_head_sums16(const ot_call *call) { return call->attr->head.sums16 && ot_head_type(call) == OT_F32; }

/* Loops over vectors are no match for a library that has AMX's tiles; loops over tiles are. */
static bool own_loops(ot_dtype type) {
    const ot_cpu_kernels *table = ot_cpu_pick();
    bool tiles = type == OT_BF16 && table->head_bf16 != NULL && table->gemm_bf16.multiply == NULL;
    return tiles || ot_gemm_own(type);
}

/* Keeps no logits; needs them for nothing but dx. */
static bool is_frozen(const ot_call *call) {
    return call->attr->head.smoothing == 0 && !call->w[0].dw && !call->w[1].dw && own_loops(ot_head_type(call));
}

static head_work head_layout(const ot_call *call, ot_cpu_work *work) {
    const ot_view *in = &call->in[0];
    head_work h = {.L = in->rows, .D = in->cols, .V = call->w[0].rows};
    h.type = ot_head_type(call);
    int64_t rows = h.L < CHUNK ? h.L : CHUNK, size = ot_compute_bytes(h.type);
    bool decode = call->w[0].dtype != h.type;
    h.tile = decode ? TILE_ELEMENTS / (h.D + 1) + 1 : h.V;
    if (h.tile > h.V) h.tile = h.V;
    h.logits = ot_cpu_take(work, rows * h.V * (int64_t)sizeof(float));
    h.dx = ot_cpu_take(work, rows * h.D * (int64_t)sizeof(float));
    h.losses = ot_cpu_take(work, h.L * (int64_t)sizeof(double));
    if (in->dtype != h.type) h.x = ot_cpu_take(work, rows * h.D * size);
    if (decode) h.w = ot_cpu_take(work, h.tile * h.D * size);
    return h;
}

int64_t ot_cpu_head_loss_scratch(const ot_call *call) {
    if (is_frozen(call)) return ot_cpu_head_frozen_scratch(call);
    ot_cpu_work work = {0};
    head_layout(call, &work);
    return work.bytes;
}

typedef struct loss_job {
    const ot_cpu_kernels *table;
    const ot_call *call;
    const head_work *h;
    int64_t first; /* row of the chunk */
    bool gradients;
} loss_job;

/* Smoothing moves a share of the target's weight to all of the vocabulary alike: its logit less the mean of all, and the gradient of that. */
static double target_above_mean(const float *logits, const float *bias, int64_t V, int64_t target) {
    double sum = 0;
    for (int64_t v = 0; v < V; v++) sum += (double)logits[v] + (bias != NULL ? (double)bias[v] : 0);
    return (double)logits[target] + (bias != NULL ? (double)bias[target] : 0) - sum / (double)V;
}

static void spread(ot_span gradient, int64_t V, int64_t target, float amount) {
    for (int64_t v = 0; v < V; v++) {
        float change = (v == target ? amount : 0.0F) - amount / (float)V;
        if (gradient.dtype == OT_F32) {
            ((float *)gradient.x)[v] += change;
        } else {
            ot_bf16 *half = (ot_bf16 *)gradient.x + v;
            *half = ot_f32_to_bf16(ot_bf16_to_f32(*half) + change);
        }
    }
}

static float margin(const float *logits, const float *bias, int64_t n, int64_t target) {
    float top = -INFINITY;
    for (int64_t v = 0; v < n; v++) top = fmaxf(top, logits[v] + (bias ? bias[v] : 0.0f));
    return top - (logits[target] + (bias ? bias[target] : 0.0f));
}

static void loss_row(void *context, int64_t i) {
    const loss_job *j = context;
    const ot_batch *batch = j->call->batch;
    int64_t V = j->h->V, target = batch->targets[j->first + i];
    float *logits = j->h->logits + i * V;
    double smoothing = (double)j->call->attr->head.smoothing, apart = smoothing > 0 ? target_above_mean(logits, j->call->w[1].w, V, target) : 0;
    if (batch->target_margin) batch->target_margin[j->first + i] = margin(logits, j->call->w[1].w, V, target);
    if (ot_head_sums16(j->call) && !j->gradients && smoothing == 0) {
        j->h->losses[j->first + i] = j->table->softmax_loss_sums16(logits, j->call->w[1].w, V, target);
        return;
    }
    ot_span gradient = {j->gradients ? logits : NULL, j->h->type};
    j->h->losses[j->first + i] = j->table->softmax_loss(logits, j->call->w[1].w, V, target, (float)batch->loss_scale, gradient);
    if (smoothing == 0) return;
    j->h->losses[j->first + i] += smoothing * apart;
    if (j->gradients) spread(gradient, V, target, (float)(smoothing * batch->loss_scale));
}

/* Vocabulary rows [v, v + tile) in the product's type. */
static const void *head_rows(const ot_cpu_kernels *table, const ot_call *call, const head_work *h, int64_t v, int64_t rows) {
    if (!h->w) return (const char *)call->w[0].w + v * h->D * ot_compute_bytes(h->type);
    ot_cpu_decode(table, &call->w[0], v, rows, (ot_span){h->w, h->type});
    return h->w;
}

static ot_status chunk_gradients(const ot_cpu_kernels *table, const ot_call *call, const head_work *h, const void *x, int64_t first,
                                 int64_t rows) {
    const ot_view *in = &call->in[0];
    int64_t stride = h->type == OT_BF16 ? 2 * h->V : h->V; /* of the gradients, which lie in rows of floats */
    ot_span dlogits = {h->logits, h->type};
    if (call->w[0].dw) {
        ot_gemm g = {.ta = true, .accumulate = true, .m = h->V, .n = h->D, .k = rows, .alpha = 1.0f, .type = h->type, .c_type = OT_F32,
                     .a = dlogits.x, .b = x, .c = call->w[0].dw, .lda = stride, .ldb = h->D, .ldc = h->D};
        OT_TRY(ot_gemm_run(&g, call->err));
    }
    if (call->w[1].dw)
        for (int64_t i = 0; i < rows; i++)
            ot_cpu_copy(table, ot_span_at(dlogits, i * stride), (ot_span){call->w[1].dw, OT_F32}, h->V, true);
    if (!in->dx) return OT_OK;
    for (int64_t v = 0; v < h->V; v += h->tile) {
        int64_t n = h->V - v < h->tile ? h->V - v : h->tile;
        ot_gemm g = {.accumulate = v > 0, .m = rows, .n = h->D, .k = n, .alpha = 1.0f, .type = h->type, .c_type = OT_F32,
                     .a = ot_span_at(dlogits, v).x, .b = head_rows(table, call, h, v, n), .c = h->dx, .lda = stride, .ldb = h->D, .ldc = h->D};
        OT_TRY(ot_gemm_run(&g, call->err));
    }
    ot_cpu_copy(table, (ot_span){h->dx, OT_F32}, ot_span_at(ot_span_dx(in), first * h->D), rows * h->D, in->add_dx);
    return OT_OK;
}

static ot_status check_targets(const ot_call *call) {
    const ot_batch *batch = call->batch;
    int64_t L = call->in[0].rows, V = call->w[0].rows;
    if (batch->n_targets != L)
        return ot_fail(call->err, OT_ERR_USAGE, "head_loss: %lld hidden states for %lld targets: gather the target rows first",
                       (long long)L, (long long)batch->n_targets);
    for (int64_t i = 0; i < L; i++)
        if (batch->targets[i] < 0 || batch->targets[i] >= V)
            return ot_fail(call->err, OT_ERR_USAGE, "head_loss: target %d at index %lld is not in the vocabulary of %lld: check the labels",
                           batch->targets[i], (long long)i, (long long)V);
    return OT_OK;
}

void ot_head_report(const ot_call *call, const double *losses) {
    double sum = 0;
    for (int64_t i = 0; i < call->in[0].rows; i++) {
        if (call->batch->target_loss) call->batch->target_loss[i] = (float)losses[i];
        sum += losses[i];
    }
    call->batch->loss_sum = sum;
}

static ot_status head_loss(const ot_call *call, bool gradients) {
    const ot_view *in = &call->in[0];
    OT_TRY(check_targets(call));
    if (is_frozen(call)) return ot_cpu_head_frozen(call, gradients);
    const ot_cpu_kernels *table = ot_cpu_pick();
    ot_cpu_work work = {.base = call->scratch};
    head_work h = head_layout(call, &work);
    OT_TRY(ot_cpu_check_work(call, &work));
    gradients = gradients && (in->dx || call->w[0].dw || call->w[1].dw);
    for (int64_t first = 0; first < h.L; first += CHUNK) {
        int64_t rows = h.L - first < CHUNK ? h.L - first : CHUNK;
        ot_span x = ot_span_at(ot_span_x(in), first * h.D);
        if (h.x) {
            ot_cpu_copy(table, x, (ot_span){h.x, h.type}, rows * h.D, false);
            x = (ot_span){h.x, h.type};
        }
        for (int64_t v = 0; v < h.V; v += h.tile) {
            int64_t n = h.V - v < h.tile ? h.V - v : h.tile;
            ot_gemm g = {.tb = true, .m = rows, .n = n, .k = h.D, .alpha = 1.0f, .type = h.type, .c_type = OT_F32,
                         .a = x.x, .b = head_rows(table, call, &h, v, n), .c = h.logits + v, .lda = h.D, .ldb = h.D, .ldc = h.V};
            OT_TRY(ot_gemm_run(&g, call->err));
        }
        loss_job job = {table, call, &h, first, gradients};
        ot_parallel_for(rows, loss_row, &job);
        if (gradients) OT_TRY(chunk_gradients(table, call, &h, x.x, first, rows));
    }
    ot_head_report(call, h.losses);
    return OT_OK;
}

ot_status ot_cpu_head_loss_forward(const ot_call *call) { return head_loss(call, false); }
ot_status ot_cpu_head_loss_backward(const ot_call *call) { return head_loss(call, true); }
