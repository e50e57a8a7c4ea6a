/* Running one operation of a backend on exact buffers, and the checks on what comes out. */
#include "support/opcheck.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

/* ==== Building ==== */

void opcheck_begin(opcheck_problem *p, ot_op_kind kind, uint64_t seed, const char *format, ...) {
    *p = (opcheck_problem){.kind = kind};
    int n = snprintf(p->name, sizeof p->name, "%s, seed %d: ", ot_op_info(kind)->name, (int)seed);
    va_list args;
    va_start(args, format);
    vsnprintf(p->name + n, sizeof p->name - (size_t)n, format, args);
    va_end(args);
    enum { KINDS = 13 }; /* not OT_OP_COUNT: a new operation must not change the numbers of the others */
    ot_rng_seed(&p->rng, seed * KINDS + (uint64_t)kind);
}

void opcheck_free(opcheck_problem *p) { ot_arena_free(&p->arena); }

static void *arena_take(ot_arena *arena, int64_t count, size_t size) {
    void *memory = ot_arena_alloc(arena, count * (int64_t)size, NULL);
    assert_non_null(memory);
    return memory;
}

void *opcheck_alloc(opcheck_problem *p, int64_t count, size_t size) { return arena_take(&p->arena, count, size); }

double *opcheck_random(opcheck_problem *p, int64_t n, double std, double mean) {
    double *x = opcheck_alloc(p, n, sizeof *x);
    for (int64_t i = 0; i < n; i++) {
        x[i] = ot_bf16_to_f32(ot_f32_to_bf16((float)(mean + std * ot_rng_normal(&p->rng))));
        if (fabs(x[i]) < 0x1p-7) x[i] = x[i] < 0 ? -0x1p-7 : 0x1p-7; /* keeps finite differences off the kink of relu */
    }
    return x;
}

opcheck_tensor opcheck_tensor_make(opcheck_problem *p, int64_t rows, int64_t cols, double *x) {
    opcheck_tensor t = {.rows = rows, .cols = cols, .x = x, .wanted = true};
    if (!x) t.x = opcheck_random(p, rows * cols, 1, 0);
    t.g = opcheck_random(p, rows * cols, 1, 0);
    return t;
}

/* ==== Buffers of a run ==== */

static void *exact_buffer(size_t bytes) {
    void *memory = NULL;
    assert_int_equal(posix_memalign(&memory, OT_ALIGN, bytes), 0);
    if (bytes) memset(memory, 0xFF, bytes); /* NaN in every float type */
    return memory;
}

static size_t dtype_size(ot_dtype dtype, int64_t n) {
    int64_t bytes = 0;
    assert_true(ot_dtype_bytes(dtype, n, &bytes));
    return (size_t)bytes;
}

static void encode(ot_dtype dtype, const double *x, int64_t n, void *buffer) {
    if (dtype == OT_F64) {
        memcpy(buffer, x, (size_t)n * sizeof *x);
        return;
    }
    float *narrow = exact_buffer((size_t)n * sizeof *narrow);
    for (int64_t i = 0; i < n; i++) narrow[i] = (float)x[i];
    assert_true(ot_encode_f32(dtype, narrow, buffer, n));
    free(narrow);
}

static double *decode(ot_arena *arena, ot_dtype dtype, const void *buffer, int64_t n) {
    double *x = arena_take(arena, n, sizeof *x);
    for (int64_t i = 0; i < n; i++) {
        if (dtype == OT_F64) x[i] = ((const double *)buffer)[i];
        else if (dtype == OT_BF16) x[i] = ot_bf16_to_f32(((const ot_bf16 *)buffer)[i]);
        else x[i] = ((const float *)buffer)[i];
    }
    return x;
}

static void *buffer_of(ot_dtype dtype, const double *x, int64_t n) {
    void *buffer = exact_buffer(dtype_size(dtype, n));
    if (x) encode(dtype, x, n, buffer);
    return buffer;
}

static ot_dtype value_dtype(const opcheck_tensor *t, ot_dtype compute) {
    return compute == OT_BF16 && t->wide ? OT_F32 : compute;
}

static ot_dtype real_dtype(ot_dtype compute) { return compute == OT_F64 ? OT_F64 : OT_F32; }

static bool exists(const opcheck_tensor *t) { return t->x != NULL; }

/* ==== Running ==== */

/* A call of the problem with buffers of its own: input 0's buffer is also the output's for operations in place. */
static ot_call make_call(const opcheck_problem *p, ot_dtype compute, ot_batch *batch, ot_error *err) {
    ot_call call = {.kind = p->kind, .attr = &p->attr, .batch = batch, .err = err};
    for (int i = 0; i < OT_OP_INPUTS; i++) {
        const opcheck_tensor *t = &p->in[i];
        ot_view *v = &call.in[i];
        if (t->same_as_0) {
            *v = call.in[0];
            continue;
        }
        if (!exists(t)) continue;
        *v = (ot_view){.dtype = value_dtype(t, compute), .rows = t->rows, .cols = t->cols, .add_dx = t->add};
        v->x = buffer_of(v->dtype, t->x, t->rows * t->cols);
        if (t->wanted && !p->forward_only) v->dx = buffer_of(v->dtype, t->add ? t->g : NULL, t->rows * t->cols);
    }
    if (ot_op_info(p->kind)->in_place) {
        call.out = call.in[0];
        if (call.out.dx) encode(call.out.dtype, p->out.g, p->out.rows * p->out.cols, call.out.dx);
    } else if (p->out.rows * p->out.cols > 0 || p->out.g) {
        const opcheck_tensor *t = &p->out;
        call.out = (ot_view){.dtype = value_dtype(t, compute), .rows = t->rows, .cols = t->cols};
        call.out.x = buffer_of(call.out.dtype, t->filled ? t->x : NULL, t->rows * t->cols);
        if (!p->forward_only) call.out.dx = buffer_of(call.out.dtype, t->g, t->rows * t->cols);
    }
    for (int i = 0; i < OT_OP_WEIGHTS; i++) {
        const opcheck_tensor *t = &p->w[i];
        if (!exists(t)) continue;
        ot_dtype dtype = t->stored == OT_F32 ? real_dtype(compute) : t->stored;
        call.w[i] = (ot_weight){.dtype = dtype, .rows = t->rows, .cols = t->cols, .w = buffer_of(dtype, t->x, t->rows * t->cols)};
        if (t->wanted && !p->forward_only) call.w[i].dw = buffer_of(real_dtype(compute), t->g, t->rows * t->cols);
    }
    return call;
}

static void free_call(ot_call *call) {
    for (int i = 0; i < OT_OP_INPUTS; i++) {
        if (i > 0 && call->in[i].x == call->in[0].x) continue;
        free(call->in[i].x);
        free(call->in[i].dx);
    }
    if (call->out.x != call->in[0].x) {
        free(call->out.x);
        free(call->out.dx);
    }
    for (int i = 0; i < OT_OP_WEIGHTS; i++) {
        free((void *)(uintptr_t)call->w[i].w);
        free(call->w[i].dw);
    }
    free(call->save);
    free(call->scratch);
}

/* The size is asked for a call without pointers, as a plan does before it has memory. */
static size_t scratch_bytes(const ot_backend *backend, const ot_call *call) {
    static char somewhere;
    ot_call shape = *call;
    ot_view *views[] = {&shape.in[0], &shape.in[1], &shape.in[2], &shape.out};
    for (size_t i = 0; i < sizeof views / sizeof views[0]; i++) {
        views[i]->x = NULL;
        if (views[i]->dx) views[i]->dx = &somewhere;
    }
    for (int i = 0; i < OT_OP_WEIGHTS; i++) {
        if (shape.w[i].w) shape.w[i].w = &somewhere;
        if (shape.w[i].dw) shape.w[i].dw = &somewhere;
    }
    return backend->scratch(&shape);
}

void opcheck_run(const opcheck_problem *p, const ot_backend *backend, ot_dtype compute, bool backward, opcheck_result *result) {
    ot_error err = {0};
    ot_batch batch = p->batch;
    float *target_loss = exact_buffer((size_t)batch.n_targets * sizeof *target_loss);
    batch.target_loss = target_loss;
    float *target_margin = exact_buffer((size_t)batch.n_targets * sizeof *target_margin);
    batch.target_margin = target_margin;
    batch.loss_sum = NAN;
    batch.distances = p->kind == OT_OP_DISTANCE || p->kind == OT_OP_DIVERGENCE ? &batch.loss_sum : NULL;
    ot_call call = make_call(p, compute, &batch, &err);
    int64_t rows = call.in[0].x ? call.in[0].rows : call.out.rows, cols = call.in[0].x ? call.in[0].cols : call.out.cols;
    call.save = exact_buffer((size_t)ot_op_save_bytes(p->kind, &p->attr, rows, cols, compute));
    call.scratch_bytes = scratch_bytes(backend, &call);
    call.scratch = exact_buffer(call.scratch_bytes);

    *result = (opcheck_result){0};
    if (backend->forward[p->kind](&call) != OT_OK) fail_msg("%s: forward of %s: %s", p->name, backend->name, err.message);
    if (exists(&p->out) || p->out.g)
        result->out = decode(&result->arena, call.out.dtype, call.out.x, call.out.rows * call.out.cols);
    double forward_loss = batch.loss_sum;
    if (backward && !p->forward_only) {
        memset(call.scratch, 0xFF, call.scratch_bytes);
        if (backend->backward[p->kind](&call) != OT_OK) fail_msg("%s: backward of %s: %s", p->name, backend->name, err.message);
        for (int i = 0; i < OT_OP_INPUTS; i++)
            if (call.in[i].dx && !p->in[i].same_as_0)
                result->dx[i] = decode(&result->arena, call.in[i].dtype, call.in[i].dx, call.in[i].rows * call.in[i].cols);
        for (int i = 0; i < OT_OP_WEIGHTS; i++)
            if (call.w[i].dw)
                result->dw[i] = decode(&result->arena, real_dtype(compute), call.w[i].dw, call.w[i].rows * call.w[i].cols);
    }
    if (ot_op_info(p->kind)->loss) {
        if (p->kind == OT_OP_HEAD_LOSS) {
            result->target_loss = decode(&result->arena, OT_F32, target_loss, batch.n_targets);
            result->target_margin = decode(&result->arena, OT_F32, target_margin, batch.n_targets);
        }
        result->loss_sum = batch.loss_sum;
        if (!(fabs(batch.loss_sum - forward_loss) <= 1e-6 * fabs(forward_loss)))
            fail_msg("%s: %s has loss %.9g forward and %.9g backward", p->name, backend->name, forward_loss, batch.loss_sum);
    }
    free_call(&call);
    free(target_loss);
    free(target_margin);
}

void opcheck_result_free(opcheck_result *result) { ot_arena_free(&result->arena); }

/* ==== Checks ==== */

void opcheck_close(const char *problem, const char *what, const double *actual, const double *expected, int64_t n, double rtol,
                   double atol) {
    double largest = 0;
    for (int64_t i = 0; i < n; i++) largest = fmax(largest, fabs(expected[i]));
    for (int64_t i = 0; i < n; i++)
        if (!(fabs(actual[i] - expected[i]) <= atol + rtol * largest))
            fail_msg("%s: %s[%lld] is %.9g, expected %.9g (limit %.3g)", problem, what, (long long)i, actual[i], expected[i],
                     atol + rtol * largest);
}

/* sum of upstream gradient times output, or the scaled loss: the function that backward differentiates */
static double objective(const opcheck_problem *p) {
    opcheck_result r;
    opcheck_run(p, &ot_backend_ref64, OT_F64, false, &r);
    double sum = 0;
    if (p->kind == OT_OP_HEAD_LOSS) sum = p->batch.loss_scale * r.loss_sum;
    else if (p->kind == OT_OP_DISTANCE) sum = (double)p->attr.distance.weight * p->batch.distance_scale * r.loss_sum;
    else if (p->kind == OT_OP_DIVERGENCE) sum = (double)p->attr.divergence.weight * p->batch.distance_scale * r.loss_sum;
    else
        for (int64_t i = 0; i < p->out.rows * p->out.cols; i++) sum += p->out.g[i] * r.out[i];
    opcheck_result_free(&r);
    return sum;
}

/* before: what the gradient is added to, or NULL; without_gradient: a row that the contract excepts, or -1 */
static void differences(opcheck_problem *p, const char *what, opcheck_tensor *t, const double *analytic, const double *before,
                        int64_t without_gradient) {
    enum { SAMPLE = 48 };
    const double step = 1e-5, limit = 1e-6;
    int64_t n = t->rows * t->cols;
    ot_rng rng;
    ot_rng_seed(&rng, 1);
    for (int64_t s = 0; s < (n < SAMPLE ? n : SAMPLE); s++) {
        int64_t i = n <= SAMPLE ? s : (int64_t)ot_rng_below(&rng, (uint64_t)n);
        double x = t->x[i], numeric = 0;
        if (without_gradient < 0 || i / t->cols != without_gradient) {
            t->x[i] = x + step;
            numeric = objective(p);
            t->x[i] = x - step;
            numeric = (numeric - objective(p)) / (2 * step);
            t->x[i] = x;
        }
        if (before) numeric += before[i];
        if (!(fabs(analytic[i] - numeric) <= limit * (1 + fabs(numeric))))
            fail_msg("%s: %s[%lld, %lld] is %.9g, finite differences say %.9g", p->name, what, (long long)(i / t->cols),
                     (long long)(i % t->cols), analytic[i], numeric);
    }
}

void opcheck_finite_differences(opcheck_problem *p) {
    static const char *const dx_names[] = {"in0.dx", "in1.dx", "in2.dx"}, *const dw_names[] = {"w0.dw", "w1.dw", "w2.dw", "w3.dw", "w4.dw"};
    opcheck_result r;
    opcheck_run(p, &ot_backend_ref64, OT_F64, true, &r);
    for (int i = 0; i < OT_OP_INPUTS; i++)
        if (r.dx[i]) differences(p, dx_names[i], &p->in[i], r.dx[i], p->in[i].add ? p->in[i].g : NULL, -1);
    for (int i = 0; i < OT_OP_WEIGHTS; i++)
        if (r.dw[i] && p->w[i].stored == OT_F32)
            differences(p, dw_names[i], &p->w[i], r.dw[i], p->w[i].g, p->kind == OT_OP_EMBED && i == 0 ? p->attr.embed.padding_id : -1);
    opcheck_result_free(&r);
}

static void same_bits(const opcheck_problem *p, const char *what, const double *a, const double *b, int64_t n) {
    if (!a || !b) return;
    for (int64_t i = 0; i < n; i++)
        if (memcmp(&a[i], &b[i], sizeof a[i]) != 0)
            fail_msg("%s: %s[%lld] changes from %.17g to %.17g when another gradient is not wanted", p->name, what, (long long)i,
                     a[i], b[i]);
}

void opcheck_unwanted(opcheck_problem *p, const ot_backend *backend, ot_dtype compute) {
    opcheck_result all, fewer;
    opcheck_tensor *tensors[OT_OP_INPUTS + OT_OP_WEIGHTS];
    for (int i = 0; i < OT_OP_INPUTS; i++) tensors[i] = &p->in[i];
    for (int i = 0; i < OT_OP_WEIGHTS; i++) tensors[OT_OP_INPUTS + i] = &p->w[i];
    opcheck_run(p, backend, compute, true, &all);
    for (int t = 0; t < OT_OP_INPUTS + OT_OP_WEIGHTS; t++) {
        if (!tensors[t]->wanted || ot_op_info(p->kind)->in_place) continue;
        tensors[t]->wanted = false;
        opcheck_run(p, backend, compute, true, &fewer);
        tensors[t]->wanted = true;
        for (int i = 0; i < OT_OP_INPUTS; i++) same_bits(p, "dx", all.dx[i], fewer.dx[i], p->in[i].rows * p->in[i].cols);
        for (int i = 0; i < OT_OP_WEIGHTS; i++) same_bits(p, "dw", all.dw[i], fewer.dw[i], p->w[i].rows * p->w[i].cols);
        opcheck_result_free(&fewer);
    }
    opcheck_result_free(&all);
}

/* Limits in units of the dtype's rounding error: of one element, relative to itself and the tensor's root mean square, and of the
 * whole tensor. A kernel may round intermediate results to the compute dtype, and sum in any order. */
static int tensor_differs(const opcheck_problem *p, const char *what, const ot_backend *candidate, ot_dtype compute,
                          const double *oracle, const double *actual, int64_t n) {
    if (!oracle && !actual) return 0;
    assert_true(oracle && actual);
    const double element_limit = compute == OT_BF16 ? 0x1p-6 : 0x1p-16, tensor_limit = compute == OT_BF16 ? 0x1p-7 : 0x1p-19;
    double square = 0, error = 0, worst = 0;
    int64_t at = -1;
    for (int64_t i = 0; i < n; i++) square += oracle[i] * oracle[i];
    double rms = n ? sqrt(square / (double)n) : 0;
    for (int64_t i = 0; i < n; i++) {
        double gap = fabs(actual[i] - oracle[i]), share = gap == 0 ? 0 : gap / (fabs(oracle[i]) + rms);
        error += gap * gap;
        if (!(share <= worst)) { /* NaN too */
            worst = share;
            at = i;
        }
    }
    double relative = error == 0 ? 0 : sqrt(error / square);
    if (worst <= element_limit && relative <= tensor_limit) return 0;
    print_error("%s: %s of %s in %s: ", p->name, what, candidate->name, ot_dtype_info(compute)->name);
    print_error("[%lld] is %.8g, expected %.8g; worst %.2g of %.2g allowed, whole tensor %.2g of %.2g (rms %.3g)\n",
                (long long)at,
                at < 0 ? 0.0 : actual[at], at < 0 ? 0.0 : oracle[at], worst, element_limit, relative, tensor_limit, rms);
    return 1;
}

int opcheck_compare(const opcheck_problem *p, const ot_backend *oracle, ot_dtype oracle_compute, const ot_backend *candidate,
                    ot_dtype compute) {
    static const char *const dx_names[] = {"in0.dx", "in1.dx", "in2.dx"}, *const dw_names[] = {"w0.dw", "w1.dw", "w2.dw", "w3.dw", "w4.dw"};
    opcheck_result a, b;
    opcheck_run(p, oracle, oracle_compute, true, &a);
    opcheck_run(p, candidate, compute, true, &b);
    int bad = tensor_differs(p, "out", candidate, compute, a.out, b.out, p->out.rows * p->out.cols);
    for (int i = 0; i < OT_OP_INPUTS; i++)
        bad += tensor_differs(p, dx_names[i], candidate, compute, a.dx[i], b.dx[i], p->in[i].rows * p->in[i].cols);
    for (int i = 0; i < OT_OP_WEIGHTS; i++)
        bad += tensor_differs(p, dw_names[i], candidate, compute, a.dw[i], b.dw[i], p->w[i].rows * p->w[i].cols);
    bad += tensor_differs(p, "target_loss", candidate, compute, a.target_loss, b.target_loss, p->batch.n_targets);
    bad += tensor_differs(p, "target_margin", candidate, compute, a.target_margin, b.target_margin, p->batch.n_targets);
    if (ot_op_info(p->kind)->loss) bad += tensor_differs(p, "loss_sum", candidate, compute, &a.loss_sum, &b.loss_sum, 1);
    opcheck_result_free(&a);
    opcheck_result_free(&b);
    return bad;
}

int opcheck_compare_backends(const ot_backend *oracle, ot_dtype oracle_compute, const ot_backend *candidate, ot_dtype compute,
                             int seeds) {
    int bad = 0;
    for (int kind = 0; kind < OT_OP_COUNT; kind++)
        for (int variant = 0; variant < opcheck_variants(kind); variant++)
            for (int seed = 1; seed <= seeds; seed++) {
                opcheck_problem p;
                opcheck_make(&p, kind, variant, (uint64_t)seed);
                bad += opcheck_compare(&p, oracle, oracle_compute, candidate, compute);
                opcheck_free(&p);
            }
    return bad;
}

void opcheck_complete(const ot_backend *backend) {
    assert_non_null(backend->name);
    assert_non_null(backend->help);
    for (int kind = 0; kind < OT_OP_COUNT; kind++) {
        if (!backend->forward[kind]) fail_msg("%s has no forward of %s", backend->name, ot_op_info(kind)->name);
        bool none = kind == OT_OP_KEEP || kind == OT_OP_PATCHES || kind == OT_OP_GIVEN;
        if (!backend->backward[kind] != none)
            fail_msg("%s: backward of %s is %s", backend->name, ot_op_info(kind)->name,
                     none ? "not NULL" : "missing");
    }
}
