/* Running a plan: one call of a kernel per trace entry. */
#include "base/parallel.h"
#include "engine/plan_internal.h"

void ot_plan_memory(const ot_plan *plan, ot_plan_memory_info *out) {
    *out = (ot_plan_memory_info){.activations = plan->arena_bytes, .scratch = (int64_t)plan->scratch_bytes, .kept = plan->kept_bytes};
}

ot_status ot_plan_allocate(ot_plan *plan, ot_error *err) {
    if (plan->arena == NULL) OT_TRY(ot_malloc(plan->arena_bytes, 1, "activations", (void **)&plan->arena, err));
    if (plan->kept == NULL) OT_TRY(ot_calloc(plan->kept_bytes, 1, "the key/value cache", (void **)&plan->kept, err));
    if (plan->scratch == NULL) OT_TRY(ot_malloc((int64_t)plan->scratch_bytes, 1, "scratch memory", (void **)&plan->scratch, err));
    return OT_OK;
}

int64_t ot_plan_trace_length(const ot_plan *plan) { return plan->n_trace; }

static void *buffer_at(const ot_plan *plan, int32_t buffer) {
    if (buffer < 0) return NULL;
    const plan_buffer *b = &plan->buffers[buffer];
    uint8_t *base = b->kept ? plan->kept : plan->arena;
    /* Before allocation any non-NULL address stands for "wanted". */
    return base == NULL ? (void *)(uintptr_t)OT_ALIGN : base + b->offset;
}

static int64_t batch_rows(const ot_plan *plan, const ot_batch *batch, ot_space space) {
    switch (space) {
    case OT_SPACE_ROWS: return batch->rows;
    case OT_SPACE_TARGETS: return batch->n_targets;
    case OT_SPACE_KEPT: return plan->options.max_kept;
    }
    return 0;
}

static ot_view make_view(const ot_plan *plan, const ot_batch *batch, int32_t value, int phase_class) {
    if (value < 0) return (ot_view){0};
    const plan_value *v = &plan->values[value];
    return (ot_view){.x = buffer_at(plan, v->store[phase_class]),
                     .dtype = v->dtype,
                     .rows = batch_rows(plan, batch, v->space),
                     .cols = v->cols};
}

void ot_plan_make_call(const ot_plan *plan, const plan_entry *entry, ot_batch *batch, ot_call *call) {
    const plan_op *op = &plan->ops[entry->op];
    bool backward = entry->phase == OT_PHASE_BACKWARD;
    int class = entry->phase == OT_PHASE_FORWARD ? 0 : 1;
    *call = (ot_call){.kind = op->spec.kind,
                      .attr = &op->spec.attr,
                      .batch = batch,
                      .save = buffer_at(plan, op->save[class]),
                      .scratch = plan->scratch,
                      .scratch_bytes = plan->scratch_bytes};
    for (int k = 0; k < OT_OP_INPUTS; k++) {
        call->in[k] = make_view(plan, batch, op->spec.in[k], class);
        if (backward && op->want_dx[k]) {
            call->in[k].dx = buffer_at(plan, plan->values[op->spec.in[k]].grad);
            call->in[k].add_dx = op->add_dx[k];
        }
    }
    call->out = make_view(plan, batch, op->spec.out, class);
    if (backward && op->spec.out >= 0) call->out.dx = buffer_at(plan, plan->values[op->spec.out].grad);
    for (int k = 0; k < OT_OP_WEIGHTS; k++) {
        const ot_slot *slot = op->spec.w[k];
        if (slot == NULL) continue;
        call->w[k] = (ot_weight){.w = slot->data, .dtype = slot->dtype, .rows = slot->rows, .cols = slot->cols, .scales = slot->scales, .group = slot->group};
        if (call->w[k].w == NULL) call->w[k].w = (const void *)(uintptr_t)OT_ALIGN;
        if (backward && slot->trainable) {
            call->w[k].dw = slot->grad != NULL ? slot->grad : (void *)(uintptr_t)OT_ALIGN;
        }
    }
}

int64_t ot_plan_together(const ot_plan *plan, int64_t t) {
    const plan_entry *first = &plan->trace[t];
    const ot_op_spec *spec = &plan->ops[first->op].spec;
    int64_t n = 1;
    for (; spec->kind == OT_OP_LOW_RANK && n < OT_OP_TOGETHER && t + n < plan->n_trace; n++) {
        const ot_op_spec *other = &plan->ops[plan->trace[t + n].op].spec;
        if (plan->trace[t + n].phase != first->phase || other->kind != spec->kind || other->in[0] != spec->in[0]) break;
    }
    return n;
}

void ot_plan_make_calls(const ot_plan *plan, int64_t t, ot_batch *batch, ot_call calls[OT_OP_TOGETHER]) {
    int64_t n = ot_plan_together(plan, t);
    for (int64_t k = 0; k < n; k++) {
        ot_plan_make_call(plan, &plan->trace[t + k], batch, &calls[k]);
        if (k > 0) calls[k - 1].next = &calls[k];
    }
}

ot_status ot_plan_run(ot_plan *plan, ot_batch *batch, ot_profile *profile, ot_error *err) {
    if (batch->rows > plan->options.max_rows || batch->n_targets > plan->options.max_targets) {
        return ot_fail(err, OT_ERR_USAGE, "a batch of %lld rows and %lld targets exceeds the plan's %lld and %lld", (long long)batch->rows,
                       (long long)batch->n_targets, (long long)plan->options.max_rows, (long long)plan->options.max_targets);
    }
    OT_TRY(ot_plan_allocate(plan, err));
    const ot_backend *backend = plan->options.backend;
    for (int64_t t = 0; t < plan->n_trace; t += ot_plan_together(plan, t)) {
        ot_call calls[OT_OP_TOGETHER];
        ot_plan_make_calls(plan, t, batch, calls);
        for (ot_call *c = calls; c != NULL; c = (ot_call *)c->next) c->err = err;
        ot_kernel *kernel = plan->trace[t].phase == OT_PHASE_BACKWARD ? backend->backward[calls->kind] : backend->forward[calls->kind];
        double start = profile != NULL ? ot_seconds() : 0.0;
        ot_status status = kernel(calls);
        if (profile != NULL) profile->seconds[t] += ot_seconds() - start;
        if (status != OT_OK) return status;
    }
    return OT_OK;
}

const void *ot_plan_value(const ot_plan *plan, int32_t value) { return buffer_at(plan, plan->values[value].store[0]); }

/* ==== Cost model: what one entry computes and moves, for profiles. ==== */

static double attention_pairs(const ot_op_attr *attr, double rows) {
    double pairs = attr->attention.causal ? rows * (rows + 1) / 2 : rows * rows;
    if (attr->attention.window > 0 && attr->attention.window < rows) pairs = rows * attr->attention.window;
    return pairs;
}

void ot_plan_trace_info(const ot_plan *plan, int64_t entry, int64_t rows, int64_t segments, int64_t targets, ot_trace_info *out) {
    ot_batch batch = {.rows = rows, .n_targets = targets};
    ot_call c;
    ot_plan_make_call(plan, &plan->trace[entry], &batch, &c);
    bool backward = plan->trace[entry].phase == OT_PHASE_BACKWARD;
    double flops = 0, bytes = 0;
    for (int k = 0; k < OT_OP_INPUTS; k++) {
        int64_t size = 0;
        if (c.in[k].x == NULL || !ot_dtype_bytes(c.in[k].dtype, c.in[k].rows * c.in[k].cols, &size)) continue;
        bytes += (double)size * (1 + (c.in[k].dx != NULL));
    }
    int64_t size = 0;
    if (c.out.x != NULL && ot_dtype_bytes(c.out.dtype, c.out.rows * c.out.cols, &size)) bytes += (double)size;
    bool lookup = c.kind == OT_OP_EMBED || c.kind == OT_OP_POSITION;
    for (int k = 0; k < OT_OP_WEIGHTS; k++) {
        if (c.w[k].w == NULL || !ot_dtype_bytes(c.w[k].dtype, c.w[k].rows * c.w[k].cols, &size)) continue;
        bytes += lookup ? 0 : (double)size * (1 + (c.w[k].dw != NULL));
    }
    double products = (c.in[0].dx != NULL) + (c.w[0].dw != NULL);
    switch (c.kind) {
    case OT_OP_LINEAR:
        flops = 2.0 * (double)c.in[0].rows * (double)c.w[0].rows * (double)c.w[0].cols * (backward ? products : 1.0);
        break;
    case OT_OP_LOW_RANK:
        flops = 2.0 * (double)c.in[0].rows * (double)c.w[0].rows * (double)(c.w[0].cols + c.w[1].rows) * (backward ? products : 1.0);
        break;
    case OT_OP_HEAD_LOSS:
        flops = 2.0 * (double)c.in[0].rows * (double)c.w[0].rows * (double)c.w[0].cols * (1.0 + (backward ? products : 0.0));
        break;
    case OT_OP_DIVERGENCE:
        flops = 2.0 * (double)c.in[0].rows * (double)c.w[0].rows * ((double)c.w[0].cols * (1.0 + (backward ? products : 0.0)) + (double)c.w[1].cols);
        break;
    case OT_OP_ATTENTION:
        flops = 4.0 * (double)segments * attention_pairs(c.attr, (double)rows / (double)segments) * c.attr->attention.heads * c.attr->attention.head_dim * (backward ? 2.5 : 1.0);
        break;
    default: flops = (c.out.x != NULL ? (double)(c.out.rows * c.out.cols) : 0.0) * (backward ? 2.0 : 1.0); break;
    }
    int64_t rank = 0;
    if (c.kind == OT_OP_LINEAR) rank = c.w[0].rows < c.w[0].cols ? c.w[0].rows : c.w[0].cols;
    if (c.kind == OT_OP_LOW_RANK) rank = c.w[0].rows;
    *out = (ot_trace_info){.kind = c.kind,
                           .phase = plan->trace[entry].phase,
                           .block = plan->ops[plan->trace[entry].op].block,
                           .rank = rank,
                           .flops = flops,
                           .bytes = bytes};
}
