/* The compiler of plans: what runs together, gradient reach, trace, liveness, gradient sharing, offsets. */
#include <stdlib.h>
#include <string.h>

#include "engine/plan_internal.h"

int64_t ot_plan_space_rows(const ot_plan_options *options, ot_space space) {
    switch (space) {
    case OT_SPACE_ROWS: return options->max_rows;
    case OT_SPACE_TARGETS: return options->max_targets;
    case OT_SPACE_KEPT: return options->max_kept;
    }
    return 0;
}

/* ==== Low-rank products that read the same value stand next to each other, to be done together. ==== */

/* Is the result the same when `op` runs after `other` that follows it? */
static bool may_follow(const plan_op *op, const plan_op *other) {
    bool may = other->block == op->block && other->spec.out != op->spec.out && other->spec.out != op->spec.in[0];
    for (int k = 0; k < OT_OP_INPUTS; k++) may = may && other->spec.in[k] != op->spec.out;
    return may;
}

static void bring_together(ot_plan *plan) {
    for (int64_t i = plan->n_ops - 2; i >= 0; i--) {
        plan_op op = plan->ops[i];
        for (int64_t j = i + 1; op.spec.kind == OT_OP_LOW_RANK && j < plan->n_ops && may_follow(&op, &plan->ops[j]); j++) {
            if (plan->ops[j].spec.kind != OT_OP_LOW_RANK || plan->ops[j].spec.in[0] != op.spec.in[0]) continue;
            memmove(&plan->ops[i], &plan->ops[i + 1], (size_t)(j - 1 - i) * sizeof op);
            plan->ops[j - 1] = op;
            break;
        }
    }
}

/* ==== Which values carry a gradient, and which operations go backward. ==== */

static bool op_trains(const plan_op *op) {
    for (int i = 0; i < OT_OP_WEIGHTS; i++) {
        if (op->spec.w[i] != NULL && op->spec.w[i]->trainable) return true;
    }
    return false;
}

static bool is_loss(const plan_op *op) { return ot_op_info(op->spec.kind)->loss; }

static ot_status mark_gradients(ot_plan *plan, ot_error *err) {
    bool *depends = calloc((size_t)plan->n_values + 1, 1); /* on a trainable weight */
    bool *reaches = calloc((size_t)plan->n_values + 1, 1); /* the loss */
    if (depends == NULL || reaches == NULL) {
        free(depends);
        free(reaches);
        return ot_fail_memory(err, (uint64_t)plan->n_values, "a plan");
    }
    for (int64_t i = 0; i < plan->n_ops; i++) {
        plan_op *op = &plan->ops[i];
        bool d = op_trains(op);
        for (int k = 0; k < OT_OP_INPUTS; k++) d = d || (op->spec.in[k] >= 0 && depends[op->spec.in[k]]);
        if (op->spec.out >= 0) depends[op->spec.out] = depends[op->spec.out] || d;
    }
    for (int64_t i = plan->n_ops - 1; i >= 0; i--) {
        plan_op *op = &plan->ops[i];
        bool r = is_loss(op) || (op->spec.out >= 0 && reaches[op->spec.out]);
        if (!r) continue;
        bool any = op_trains(op);
        for (int k = 0; k < OT_OP_INPUTS; k++) {
            int32_t v = op->spec.in[k];
            if (v < 0) continue;
            reaches[v] = true;
            op->want_dx[k] = depends[v];
            any = any || depends[v];
        }
        op->backward = any || is_loss(op);
    }
    for (int64_t v = 0; v < plan->n_values; v++) plan->values[v].has_grad = depends[v] && reaches[v];
    free(depends);
    free(reaches);
    return OT_OK;
}

/* ==== Trace. ==== */

static void push(ot_plan *plan, int64_t op, ot_phase phase) { plan->trace[plan->n_trace++] = (plan_entry){(int32_t)op, phase}; }

static bool block_goes_backward(const ot_plan *plan, int32_t block) {
    for (int64_t i = 0; i < plan->n_ops; i++) {
        if (plan->ops[i].block == block && plan->ops[i].backward) return true;
    }
    return false;
}

/* A block's inner values are recomputed; what crosses its border is kept from forward. */
static bool is_inner(const ot_plan *plan, int32_t value) {
    int32_t block = -1;
    for (int64_t i = 0; i < plan->n_ops; i++) {
        const plan_op *op = &plan->ops[i];
        bool uses = op->spec.out == value;
        for (int k = 0; k < OT_OP_INPUTS; k++) uses = uses || op->spec.in[k] == value;
        if (!uses) continue;
        if (op->block < 0 || (block >= 0 && op->block != block)) return false;
        block = op->block;
    }
    return block >= 0 && !plan->values[value].pinned && plan->values[value].space != OT_SPACE_KEPT && block_goes_backward(plan, block);
}

/* Mask of the values that an operation's backward reads. */
static unsigned backward_needs(const plan_op *op) {
    const ot_op_traits *traits = ot_op_info(op->spec.kind);
    bool dx = is_loss(op);
    for (int k = 0; k < OT_OP_INPUTS; k++) dx = dx || op->want_dx[k];
    return (dx ? traits->needs_for_dx : 0U) | (op_trains(op) ? traits->needs_for_dw : 0U);
}

/* Of a block's operations, run again those whose inner outputs or saved numbers its backward reads, and what they read in turn. */
static void push_recompute(ot_plan *plan, int32_t block, bool *needed, bool *run) {
    memset(needed, 0, (size_t)plan->n_values);
    memset(run, 0, (size_t)plan->n_ops);
    for (int64_t j = 0; j < plan->n_ops; j++) {
        const plan_op *op = &plan->ops[j];
        if (op->block != block || !op->backward) continue;
        unsigned mask = backward_needs(op);
        for (int k = 0; k < OT_OP_INPUTS; k++) {
            if (op->spec.in[k] >= 0 && (mask >> k & 1U) != 0) needed[op->spec.in[k]] = true;
        }
        if (op->spec.out >= 0 && (mask & OT_NEEDS_OUT) != 0) needed[op->spec.out] = true;
        run[j] = op->spec.out >= 0 && ot_op_save_bytes(op->spec.kind, &op->spec.attr, 1, plan->values[op->spec.out].cols,
                                                       plan->options.compute) > 0;
    }
    for (int64_t j = plan->n_ops - 1; j >= 0; j--) {
        const plan_op *op = &plan->ops[j];
        if (op->block != block || op->spec.out < 0) continue;
        run[j] = run[j] || (needed[op->spec.out] && is_inner(plan, op->spec.out));
        if (!run[j]) continue;
        for (int k = 0; k < OT_OP_INPUTS; k++) {
            if (op->spec.in[k] >= 0) needed[op->spec.in[k]] = true;
        }
    }
    for (int64_t j = 0; j < plan->n_ops; j++) {
        if (run[j]) push(plan, j, OT_PHASE_RECOMPUTE);
    }
}

static bool goes_back(const ot_plan *plan, int64_t t, ot_op_kind kind, int32_t in) {
    if (t >= plan->n_trace || plan->trace[t].phase != OT_PHASE_BACKWARD) return false;
    const ot_op_spec *spec = &plan->ops[plan->trace[t].op].spec;
    return spec->kind == kind && spec->in[0] == in;
}

/* Backward, linears write the gradient of what they and low-rank products read, and those add to it: the first to touch that memory waits for it, which a
 * large product hides and a small one does not. */
static void linears_first(ot_plan *plan) {
    for (int64_t t = 0; t < plan->n_trace; t++) {
        int32_t in = plan->ops[plan->trace[t].op].spec.in[0];
        int64_t n = 0;
        while (goes_back(plan, t + n, OT_OP_LOW_RANK, in)) n++;
        for (; n > 0 && goes_back(plan, t + n, OT_OP_LINEAR, in); t++) {
            plan_entry linear = plan->trace[t + n];
            memmove(&plan->trace[t + 1], &plan->trace[t], (size_t)n * sizeof linear);
            plan->trace[t] = linear;
        }
    }
}

static ot_status make_trace(ot_plan *plan, ot_error *err) {
    plan->trace = calloc((size_t)plan->n_ops * 3 + 1, sizeof *plan->trace);
    bool *needed = calloc((size_t)plan->n_values + 1, 1), *run = calloc((size_t)plan->n_ops + 1, 1);
    if (plan->trace == NULL || needed == NULL || run == NULL) {
        free(needed);
        free(run);
        return ot_fail_memory(err, (uint64_t)plan->n_ops * 3 * sizeof *plan->trace, "a plan");
    }
    bool train = plan->options.train;
    for (int64_t i = 0; i < plan->n_ops; i++) {
        if (!train || !is_loss(&plan->ops[i])) push(plan, i, OT_PHASE_FORWARD);
    }
    int32_t current = -1;
    for (int64_t i = plan->n_ops - 1; train && i >= 0; i--) {
        int32_t block = plan->ops[i].block;
        if (plan->options.recompute && block >= 0 && block != current && block_goes_backward(plan, block)) {
            push_recompute(plan, block, needed, run);
        }
        current = block;
        if (plan->ops[i].backward) push(plan, i, OT_PHASE_BACKWARD);
    }
    linears_first(plan);
    free(needed);
    free(run);
    return OT_OK;
}

/* ==== Buffers. ==== */

static ot_status add_buffer(ot_plan *plan, int64_t bytes, int32_t *out, ot_error *err) {
    OT_TRY(ot_grow((void **)&plan->buffers, &plan->cap_buffers, plan->n_buffers + 1, sizeof *plan->buffers, "a plan", err));
    plan->buffers[plan->n_buffers] = (plan_buffer){.bytes = ot_round_up(bytes, OT_ALIGN), .first = INT32_MAX, .last = -1};
    *out = (int32_t)plan->n_buffers++;
    return OT_OK;
}

static void touch(ot_plan *plan, int32_t buffer, int64_t entry) {
    if (buffer < 0) return;
    plan_buffer *b = &plan->buffers[buffer];
    if (entry < b->first) b->first = (int32_t)entry;
    if (entry > b->last) b->last = (int32_t)entry;
}

static ot_status value_bytes(const ot_plan *plan, const plan_value *v, int64_t *bytes, ot_error *err) {
    int64_t n = 0;
    if (!ot_mul_i64(ot_plan_space_rows(&plan->options, v->space), v->cols, &n) || !ot_dtype_bytes(v->dtype, n, bytes)) {
        return ot_fail(err, OT_ERR_MEMORY, "this batch needs an impossible amount of memory: use a smaller batch or block");
    }
    return OT_OK;
}

static ot_status make_value_buffers(ot_plan *plan, ot_error *err) {
    for (int64_t i = 0; i < plan->n_values; i++) {
        plan_value *v = &plan->values[i];
        int64_t bytes = 0;
        OT_TRY(value_bytes(plan, v, &bytes, err));
        OT_TRY(add_buffer(plan, bytes, &v->store[0], err));
        plan->buffers[v->store[0]].kept = v->space == OT_SPACE_KEPT;
        v->store[1] = v->store[0];
        if (plan->options.recompute && is_inner(plan, (int32_t)i)) {
            OT_TRY(add_buffer(plan, bytes, &v->store[1], err));
        }
    }
    for (int64_t i = 0; i < plan->n_ops; i++) {
        plan_op *op = &plan->ops[i];
        if (op->spec.out < 0) continue;
        const plan_value *out = &plan->values[op->spec.out];
        int64_t bytes =
            ot_op_save_bytes(op->spec.kind, &op->spec.attr, ot_plan_space_rows(&plan->options, out->space), out->cols, plan->options.compute);
        if (bytes == 0) continue;
        OT_TRY(add_buffer(plan, bytes, &op->save[0], err));
        op->save[1] = op->save[0];
        if (plan->options.recompute && op->block >= 0 && op->backward) OT_TRY(add_buffer(plan, bytes, &op->save[1], err));
    }
    return OT_OK;
}

/* ==== Sharing of gradient buffers. ====
 * The backward of ADD copies the upstream gradient to both inputs. Its own upstream buffer is dead afterwards, so input 0 may take it
 * over, and input 1 may read it too, as long as nothing is added to it before input 1's producers have read it. */

static bool other_contribution_after(const ot_plan *plan, int32_t value, int64_t op) {
    for (int64_t j = op + 1; j < plan->n_ops; j++) {
        const plan_op *o = &plan->ops[j];
        for (int k = 0; k < OT_OP_INPUTS; k++) {
            if (o->spec.in[k] == value && o->want_dx[k] && o->backward) return true;
        }
    }
    return false;
}

static bool branch_may_read(const ot_plan *plan, int64_t add, int32_t trunk, int32_t branch) {
    int64_t first_producer = INT64_MAX, last_trunk_use = -1;
    for (int64_t j = 0; j < plan->n_ops; j++) {
        const plan_op *o = &plan->ops[j];
        if (o->spec.out == branch) {
            if (o->spec.kind != OT_OP_LINEAR && o->spec.kind != OT_OP_LOW_RANK) return false;
            if (j < first_producer) first_producer = j;
        }
        for (int k = 0; k < OT_OP_INPUTS; k++) {
            if (o->spec.in[k] == branch && j != add) return false;
            if (o->spec.in[k] == trunk && j != add && o->backward) last_trunk_use = j > last_trunk_use ? j : last_trunk_use;
        }
    }
    return first_producer != INT64_MAX && first_producer > last_trunk_use;
}

static ot_status make_gradient_buffers(ot_plan *plan, ot_error *err) {
    for (int64_t t = 0; t < plan->n_trace; t++) {
        int64_t i = plan->trace[t].op;
        plan_op *op = &plan->ops[i];
        if (plan->trace[t].phase != OT_PHASE_BACKWARD) continue;
        bool in_place = ot_op_info(op->spec.kind)->in_place;
        for (int k = 0; k < OT_OP_INPUTS; k++) {
            int32_t v = op->spec.in[k];
            if (v < 0 || !op->want_dx[k] || in_place) continue;
            plan_value *in = &plan->values[v];
            op->add_dx[k] = in->grad != OT_NO_BUFFER;
            /* the same value twice in one operation (q, k and v of a fused projection): each part writes its own columns */
            for (int m = 0; m < k; m++) {
                if (op->spec.in[m] == v && op->spec.kind == OT_OP_ATTENTION) op->add_dx[k] = op->add_dx[m];
            }
            if (in->grad != OT_NO_BUFFER) continue;
            if (op->spec.kind == OT_OP_ADD && plan->values[op->spec.out].dtype == in->dtype &&
                plan->values[op->spec.out].space == in->space && op->spec.in[0] != op->spec.in[1]) {
                bool first = !other_contribution_after(plan, v, i);
                if (first && (k == 0 || !op->want_dx[0] || branch_may_read(plan, i, op->spec.in[0], v))) {
                    /* input 0 takes the buffer over only when input 1 reads it or has its own */
                    in->grad = plan->values[op->spec.out].grad;
                    continue;
                }
            }
            int64_t bytes = 0;
            OT_TRY(value_bytes(plan, in, &bytes, err));
            OT_TRY(add_buffer(plan, bytes, &in->grad, err));
        }
    }
    return OT_OK;
}

/* ==== Liveness. ==== */

static void live_inputs(ot_plan *plan, const plan_op *op, int phase_class, int64_t at, unsigned mask) {
    for (int k = 0; k < OT_OP_INPUTS; k++) {
        if (op->spec.in[k] >= 0 && (mask >> k & 1U) != 0) touch(plan, plan->values[op->spec.in[k]].store[phase_class], at);
    }
    if (op->spec.out >= 0 && (mask & OT_NEEDS_OUT) != 0) touch(plan, plan->values[op->spec.out].store[phase_class], at);
}

static void touch_entry(ot_plan *plan, const plan_entry *entry, int64_t at) {
    const plan_op *op = &plan->ops[entry->op];
    if (entry->phase != OT_PHASE_BACKWARD) {
        int class = entry->phase == OT_PHASE_RECOMPUTE;
        live_inputs(plan, op, class, at, OT_NEEDS_IN0 | OT_NEEDS_IN1 | OT_NEEDS_IN2 | OT_NEEDS_OUT);
        touch(plan, op->save[class], at);
        return;
    }
    unsigned mask = backward_needs(op);
    live_inputs(plan, op, 1, at, mask);
    touch(plan, op->save[1], at);
    if (op->spec.out >= 0) touch(plan, plan->values[op->spec.out].grad, at);
    for (int k = 0; k < OT_OP_INPUTS; k++) {
        if (op->spec.in[k] >= 0 && op->want_dx[k]) touch(plan, plan->values[op->spec.in[k]].grad, at);
    }
}

static void compute_liveness(ot_plan *plan) {
    for (int64_t t = 0, n = 0; t < plan->n_trace; t += n) {
        n = ot_plan_together(plan, t);
        for (int64_t k = 0; k < n; k++) { /* what one of them touches lives as long as all */
            touch_entry(plan, &plan->trace[t + k], t);
            touch_entry(plan, &plan->trace[t + k], t + n - 1);
        }
    }
    for (int64_t v = 0; v < plan->n_values; v++) {
        if (!plan->values[v].pinned) continue;
        touch(plan, plan->values[v].store[0], 0);
        touch(plan, plan->values[v].store[0], plan->n_trace);
    }
}

/* ==== Offsets: largest buffer first, at the lowest place free for its whole life. ==== */

typedef struct placed {
    int64_t offset, bytes;
    int32_t first, last;
} placed;

typedef struct order_key {
    int64_t bytes;
    int32_t first, index;
} order_key;

static int by_size(const void *a, const void *b) {
    const order_key *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    if (x->first != y->first) return x->first < y->first ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* `done` is sorted by offset. */
static int64_t lowest_place(const placed *done, int64_t n, const plan_buffer *b) {
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        if (done[i].last < b->first || done[i].first > b->last) continue;
        if (done[i].offset - at >= b->bytes) break;
        if (done[i].offset + done[i].bytes > at) at = done[i].offset + done[i].bytes;
    }
    return at;
}

static ot_status place_buffers(ot_plan *plan, ot_error *err) {
    order_key *order = calloc((size_t)plan->n_buffers + 1, sizeof *order);
    placed *done = calloc((size_t)plan->n_buffers + 1, sizeof *done);
    if (order == NULL || done == NULL) {
        free(order);
        free(done);
        return ot_fail_memory(err, (uint64_t)plan->n_buffers * sizeof *done, "a plan");
    }
    int64_t n = 0, n_done = 0;
    for (int64_t i = 0; i < plan->n_buffers; i++) {
        plan_buffer *b = &plan->buffers[i];
        if (b->kept) {
            b->offset = plan->kept_bytes;
            plan->kept_bytes += b->bytes;
        } else if (b->last >= 0) {
            order[n++] = (order_key){b->bytes, b->first, (int32_t)i};
        }
    }
    qsort(order, (size_t)n, sizeof *order, by_size);
    for (int64_t i = 0; i < n; i++) {
        plan_buffer *b = &plan->buffers[order[i].index];
        b->offset = lowest_place(done, n_done, b);
        int64_t at = n_done++;
        while (at > 0 && done[at - 1].offset > b->offset) {
            done[at] = done[at - 1];
            at--;
        }
        done[at] = (placed){b->offset, b->bytes, b->first, b->last};
        if (b->offset + b->bytes > plan->arena_bytes) plan->arena_bytes = b->offset + b->bytes;
    }
    free(order);
    free(done);
    return OT_OK;
}

/* Trained matrices lie in the type of their file while a plan is made, and in the one that is computed in afterwards (ot_trainables_bind): room for both. */
static void size_scratch(ot_plan *plan) {
    ot_batch batch = {.rows = plan->options.max_rows, .n_targets = plan->options.max_targets};
    for (int64_t t = 0, n = 0; t < plan->n_trace; t += n) {
        ot_call calls[OT_OP_TOGETHER];
        ot_plan_make_calls(plan, t, &batch, calls);
        n = ot_plan_together(plan, t);
        size_t bytes = plan->options.backend->scratch(calls);
        if (bytes > plan->scratch_bytes) plan->scratch_bytes = bytes;
        bool trained = false;
        for (int64_t k = 0; k < n * OT_OP_WEIGHTS; k++) {
            const ot_slot *weight = plan->ops[plan->trace[t + k / OT_OP_WEIGHTS].op].spec.w[k % OT_OP_WEIGHTS];
            if (weight == NULL || !weight->trainable) continue;
            calls[k / OT_OP_WEIGHTS].w[k % OT_OP_WEIGHTS].dtype = OT_BF16;
            trained = true;
        }
        if (plan->options.compute != OT_BF16 || !trained) continue;
        bytes = plan->options.backend->scratch(calls);
        if (bytes > plan->scratch_bytes) plan->scratch_bytes = bytes;
    }
}

ot_status ot_plan_compile(ot_builder *b, ot_plan **out, ot_error *err) {
    if (b->failed) {
        if (err != NULL) *err = b->error;
        ot_builder_free(b);
        return OT_ERR_MEMORY;
    }
    ot_plan *plan = calloc(1, sizeof *plan);
    if (plan == NULL) {
        ot_builder_free(b);
        return ot_fail_memory(err, sizeof *plan, "a plan");
    }
    plan->options = b->options;
    plan->values = b->values;
    plan->n_values = b->n_values;
    plan->ops = b->ops;
    plan->n_ops = b->n_ops;
    free(b);
    ot_status status = OT_OK;
    bring_together(plan);
    if (plan->options.train) status = mark_gradients(plan, err);
    if (status == OT_OK) status = make_trace(plan, err);
    if (status == OT_OK) status = make_value_buffers(plan, err);
    if (status == OT_OK && plan->options.train) status = make_gradient_buffers(plan, err);
    if (status == OT_OK) {
        compute_liveness(plan);
        status = place_buffers(plan, err);
    }
    if (status != OT_OK) {
        ot_plan_free(plan);
        return status;
    }
    size_scratch(plan);
    *out = plan;
    return OT_OK;
}

void ot_plan_free(ot_plan *plan) {
    if (plan == NULL) return;
    free(plan->values);
    free(plan->ops);
    free(plan->trace);
    free(plan->buffers);
    ot_free(plan->arena);
    ot_free(plan->kept);
    ot_free(plan->scratch);
    free(plan);
}
