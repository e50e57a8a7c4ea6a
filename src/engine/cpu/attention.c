/* CPU backend: ATTENTION. Segments are done in groups and kv heads in ranges, as far as packed keys and, backward, gradients of keys and
 * values fit the scratch memory: pack, then all (segment, head) in parallel, then the gradients of keys and values. Heads wider than
 * the loops hold go to the reference. */
#include "engine/cpu/cpu.h"

enum {
    HEADS_AT_ONCE = 16,       /* query heads of a range, at least where there are as many */
    SPARE_KEYS = 64 * OT_ATTENTION_KEY_PAD, /* so that many short segments, each padded, make a group */
    PACKED_BYTES = 8,         /* of one element of a key and its value, at most (f32: 4 + 4, bf16: 3 x 2) */
};

typedef struct attention_run {
    const ot_cpu_kernels *table;
    const ot_attention_kernels *kernels;
    const ot_call *call;
    ot_attention_job job;
    int64_t group, heads; /* query heads that read one kv head; query heads of the range */
    int64_t n_segments;   /* of the group */
    int64_t q_tiles;      /* of its longest segment */
    int64_t budget;       /* padded keys that fit */
    void *prefix_k, *prefix_v; /* decoded, or NULL: read in place */
    bool backward;
    bool finish_at_once; /* nothing but a head itself reads or writes its keys' gradients */
} attention_run;

static bool too_wide(const ot_call *call) { return call->attr->attention.head_dim > OT_ATTENTION_MAX_D; }

static int64_t heads_per_range(const ot_op_attr *a) {
    int64_t group = a->attention.heads / a->attention.kv_heads, n = (HEADS_AT_ONCE + group - 1) / group;
    return n < a->attention.kv_heads ? n : a->attention.kv_heads;
}

static void attention_layout(const ot_call *call, attention_run *run, ot_cpu_work *work) {
    const ot_op_attr *a = call->attr;
    int64_t P = a->attention.prefix, dp = ot_attention_padded_d(a->attention.head_dim), n_kv = heads_per_range(a);
    run->group = a->attention.heads / a->attention.kv_heads;
    run->budget = ot_chunks(P + call->in[1].rows, OT_ATTENTION_KEY_PAD) * OT_ATTENTION_KEY_PAD + SPARE_KEYS;
    run->job.keys = ot_cpu_take(work, run->budget * n_kv * dp * PACKED_BYTES);
    if (run->backward) run->job.grads = ot_cpu_take(work, run->budget * n_kv * run->group * 2 * dp * (int64_t)sizeof(float));
    for (int k = 0; k < 2; k++) {
        bool decode = P > 0 && call->w[k].dtype != OT_F32 && call->w[k].dtype != OT_BF16;
        void *room = decode ? ot_cpu_take(work, P * call->w[k].cols * (int64_t)sizeof(float)) : NULL;
        if (k == 0) run->prefix_k = room;
        else run->prefix_v = room;
    }
}

static bool any_gradient(const ot_call *call) {
    return call->in[0].dx || call->in[1].dx || call->in[2].dx || call->w[0].dw || call->w[1].dw;
}

int64_t ot_cpu_attention_scratch(const ot_call *call) {
    if (too_wide(call)) return (int64_t)ot_backend_ref.scratch(call);
    ot_cpu_work work = {0};
    attention_run run = {.backward = any_gradient(call)};
    attention_layout(call, &run, &work);
    return work.bytes;
}

/* ==== Checks ==== */

static ot_status check_segments(const ot_call *call, bool backward) {
    int64_t q_rows = call->in[0].rows, k_rows = call->in[1].rows;
    for (int64_t s = 0; s < call->batch->n_segments; s++) {
        ot_segment g = call->batch->segments[s];
        bool inside = g.q0 >= 0 && g.nq >= 0 && (int64_t)g.q0 + g.nq <= q_rows && g.k0 >= 0 && g.nk >= 0 && (int64_t)g.k0 + g.nk <= k_rows &&
                      g.n_prefix >= 0 && g.prefix0 >= 0 && (int64_t)g.prefix0 + g.n_prefix <= k_rows && (int64_t)g.n_prefix + g.nk <= k_rows;
        if (!inside)
            return ot_fail(call->err, OT_ERR_USAGE, "attention: segment %lld reaches outside the rows of its queries or keys", (long long)s);
        if (backward && g.n_prefix)
            return ot_fail(call->err, OT_ERR_USAGE, "attention: segment %lld shares a prefix, which has no backward: train without sharing",
                           (long long)s);
    }
    return OT_OK;
}

/* Do the segments' rows, in order and without gaps or overlaps, make up all rows? Then every row is written by exactly one. */
static bool covers(const ot_batch *batch, int64_t rows, bool keys) {
    int64_t next = 0;
    for (int64_t s = 0; s < batch->n_segments; s++) {
        const ot_segment *g = &batch->segments[s];
        if ((keys ? g->k0 : g->q0) != next) return false;
        next += keys ? g->nk : g->nq;
    }
    return next == rows;
}

typedef struct clear_job {
    const ot_view *view;
    void *array;
    ot_head_layout layout;
    int64_t heads, d;
} clear_job;

static void clear_row(void *context, int64_t row) {
    const clear_job *j = context;
    for (int64_t h = 0; h < j->heads; h++) {
        ot_span to = ot_span_at((ot_span){j->array, j->view->dtype}, row * j->view->cols + j->layout.offset + h * j->layout.stride);
        memset(to.x, 0, (size_t)(j->d * ot_compute_bytes(to.dtype)));
    }
}

/* Zeros in the columns of the heads: q, k and v may share one buffer. */
static void clear_heads(const ot_call *call, const ot_view *view, void *array, ot_head_layout layout, int64_t heads) {
    clear_job job = {view, array, layout, heads, call->attr->attention.head_dim};
    ot_parallel_for(view->rows, clear_row, &job);
}

/* ==== One group of segments and range of heads ==== */

static bool is_few(const attention_run *run, const ot_segment *g) {
    return !run->backward && g->nq * run->group <= OT_ATTENTION_FEW_ROWS && g->nq <= OT_GEMV_ROWS;
}

static void few_unit(void *context, int64_t unit) {
    const attention_run *run = context;
    int64_t K = run->call->attr->attention.kv_heads;
    const ot_segment *g = &run->call->batch->segments[unit / K];
    if (g->nq > 0 && is_few(run, g)) run->table->attention_few(&run->job, g, unit % K);
}

static void pack_unit(void *context, int64_t unit) {
    const attention_run *run = context;
    int64_t s = unit / run->job.n_kv;
    if (run->job.places[s + 1] > run->job.places[s]) run->kernels->pack(&run->job, s, unit % run->job.n_kv, run->backward);
}

/* Later tiles see more keys: they come first, so that threads end together. */
static void forward_unit(void *context, int64_t unit) {
    const attention_run *run = context;
    int64_t tile = run->q_tiles - 1 - unit / (run->n_segments * run->heads), rest = unit % (run->n_segments * run->heads);
    int64_t s = rest / run->heads;
    const ot_segment *g = &run->job.segments[s];
    if (tile * OT_ATTENTION_TILE < g->nq && !is_few(run, g)) run->kernels->forward(&run->job, s, rest % run->heads, tile);
}

static void backward_unit(void *context, int64_t unit) {
    const attention_run *run = context;
    int64_t s = unit / run->heads;
    if (run->job.places[s + 1] == run->job.places[s]) return;
    run->kernels->backward(&run->job, s, unit % run->heads);
    if (run->finish_at_once) run->table->attention_finish(&run->job, s, unit % run->heads);
}

/* Segments in order: rows and prefix parameters that several of them read are summed in that order. */
static void finish_unit(void *context, int64_t kv) {
    const attention_run *run = context;
    for (int64_t s = 0; s < run->n_segments; s++)
        if (run->job.places[s + 1] > run->job.places[s]) run->table->attention_finish(&run->job, s, kv);
}

static void run_range(attention_run *run) {
    ot_parallel_for(run->n_segments * run->job.n_kv, pack_unit, run);
    if (run->backward) {
        ot_parallel_for(run->n_segments * run->heads, backward_unit, run);
        if (!run->finish_at_once) ot_parallel_for(run->job.n_kv, finish_unit, run);
    } else {
        ot_parallel_for(run->q_tiles * run->n_segments * run->heads, forward_unit, run);
    }
}

/* Takes segments from `first` on as long as their keys fit; returns how many. */
static int64_t gather_group(attention_run *run, int64_t first) {
    const ot_batch *batch = run->call->batch;
    int64_t n = 0;
    run->job.segments = batch->segments + first;
    run->job.places[0] = 0;
    run->q_tiles = 0;
    for (; first + n < batch->n_segments && n < OT_ATTENTION_GROUP; n++) {
        const ot_segment *g = &batch->segments[first + n];
        int64_t keys = (int64_t)run->call->attr->attention.prefix + g->n_prefix + g->nk;
        int64_t padded = is_few(run, g) ? 0 : ot_chunks(keys, OT_ATTENTION_KEY_PAD) * OT_ATTENTION_KEY_PAD;
        if (run->job.places[n] + padded > run->budget) break;
        run->job.places[n + 1] = run->job.places[n] + padded;
        int64_t tiles = is_few(run, g) ? 0 : ot_chunks(g->nq, OT_ATTENTION_TILE);
        if (tiles > run->q_tiles) run->q_tiles = tiles;
    }
    return n;
}

static void run_all(attention_run *run) {
    const ot_op_attr *a = run->call->attr;
    int64_t each = heads_per_range(a);
    for (int64_t first = 0; first < run->call->batch->n_segments; first += run->n_segments) {
        run->n_segments = gather_group(run, first);
        if (run->job.places[run->n_segments] == 0) continue;
        for (int64_t kv = 0; kv < a->attention.kv_heads; kv += each) {
            run->job.first_kv = kv;
            run->job.n_kv = a->attention.kv_heads - kv < each ? a->attention.kv_heads - kv : each;
            run->heads = run->job.n_kv * run->group;
            run_range(run);
        }
    }
}

/* ==== The kernels: q [R, .. H heads of d ..], k and v [rows, .. K heads of d ..], y [R, H * d], saved log-sum-exp [H, R] ==== */

static ot_span prefix_span(const ot_cpu_kernels *table, const ot_weight *w, void *room) {
    if (!room) return (ot_span){(void *)(uintptr_t)w->w, w->dtype};
    ot_cpu_decode(table, w, 0, w->rows, (ot_span){room, OT_F32});
    return (ot_span){room, OT_F32};
}

static ot_status prepare(const ot_call *call, bool backward, attention_run *run) {
    OT_TRY(check_segments(call, backward));
    ot_cpu_work work = {.base = call->scratch};
    *run = (attention_run){.table = ot_cpu_pick(), .call = call, .backward = backward};
    attention_layout(call, run, &work);
    OT_TRY(ot_cpu_check_work(call, &work));
    const ot_view *q = &call->in[0], *k = &call->in[1], *v = &call->in[2];
    bool half = q->dtype == OT_BF16 && k->dtype == OT_BF16 && v->dtype == OT_BF16 && run->table->bf16_dot;
    run->kernels = half ? &run->table->attention_bf16 : &run->table->attention_f32;
    ot_attention_job *job = &run->job;
    job->attr = call->attr;
    job->slots = call->batch->slots;
    job->key_slots = call->batch->key_slots;
    job->q = *q;
    job->k = *k;
    job->v = *v;
    job->out = call->out;
    job->lse = call->save;
    if (call->attr->attention.prefix > 0) {
        job->prefix_k = prefix_span(run->table, &call->w[0], run->prefix_k);
        job->prefix_v = prefix_span(run->table, &call->w[1], run->prefix_v);
        job->prefix_cols = call->w[0].cols;
        job->dprefix_k = call->w[0].dw;
        job->dprefix_v = call->w[1].dw;
    }
    return OT_OK;
}

ot_status ot_cpu_attention_forward(const ot_call *call) {
    if (too_wide(call)) return ot_backend_ref.forward[OT_OP_ATTENTION](call);
    attention_run run;
    OT_TRY(prepare(call, false, &run));
    const ot_op_attr *a = call->attr;
    if (!covers(call->batch, call->out.rows, false))
        clear_heads(call, &call->out, call->out.x, (ot_head_layout){0, a->attention.head_dim}, a->attention.heads);
    bool any_few = false;
    for (int64_t s = 0; s < call->batch->n_segments; s++) any_few = any_few || is_few(&run, &call->batch->segments[s]);
    if (any_few) ot_parallel_for(call->batch->n_segments * a->attention.kv_heads, few_unit, &run);
    run_all(&run);
    return OT_OK;
}

ot_status ot_cpu_attention_backward(const ot_call *call) {
    if (!any_gradient(call)) return OT_OK;
    if (too_wide(call)) return ot_backend_ref.backward[OT_OP_ATTENTION](call);
    attention_run run;
    OT_TRY(prepare(call, true, &run));
    const ot_op_attr *a = call->attr;
    const ot_view *q = &call->in[0], *k = &call->in[1], *v = &call->in[2];
    if (q->dx && !q->add_dx && !covers(call->batch, q->rows, false)) clear_heads(call, q, q->dx, a->attention.q, a->attention.heads);
    bool disjoint = covers(call->batch, k->rows, true);
    if (k->dx && !k->add_dx && !disjoint) clear_heads(call, k, k->dx, a->attention.k, a->attention.kv_heads);
    if (v->dx && !v->add_dx && !disjoint) clear_heads(call, v, v->dx, a->attention.v, a->attention.kv_heads);
    run.job.add_k = k->add_dx || !disjoint;
    run.job.add_v = v->add_dx || !disjoint;
    run.finish_at_once = disjoint && run.group == 1 && a->attention.prefix == 0;
    run_all(&run);
    return OT_OK;
}
