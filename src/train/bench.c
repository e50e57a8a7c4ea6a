#include "train/bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/parallel.h"
#include "base/rng.h"

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static ot_status fill_pictures(ot_network *net, const ot_model *m, const ot_bench_options *o, ot_error *err) {
    const ot_desc *d = &m->desc;
    int64_t n = d->channels * d->image_height * d->image_width;
    float *pixels = NULL;
    ot_rng rng;
    ot_rng_seed(&rng, 1);
    OT_TRY(ot_malloc(n, 4, "a picture", (void **)&pixels, err));
    ot_network_clear(net);
    ot_status status = OT_OK;
    for (int64_t b = 0; status == OT_OK && b < o->batch; b++) {
        for (int64_t i = 0; i < n; i++) pixels[i] = (float)(2 * ot_rng_uniform(&rng) - 1);
        status = ot_network_add_image(net, pixels, (int32_t)ot_rng_below(&rng, (uint64_t)d->vocab_size), err);
    }
    ot_free(pixels);
    return status;
}

static ot_status fill_batch(ot_network *net, const ot_model *m, const ot_bench_options *o, ot_error *err) {
    if (m->desc.vision) return fill_pictures(net, m, o, err);
    void *ids = NULL, *targets = NULL;
    ot_rng rng;
    ot_rng_seed(&rng, 1);
    ot_status status = ot_malloc(o->sequence, 4, "token ids", &ids, err);
    if (status == OT_OK) status = ot_malloc(o->sequence, 4, "targets", &targets, err);
    ot_network_clear(net);
    for (int64_t b = 0; status == OT_OK && b < o->batch; b++) {
        int32_t *id = ids, *target = targets;
        for (int64_t i = 0; i < o->sequence; i++) id[i] = (int32_t)ot_rng_below(&rng, (uint64_t)m->desc.vocab_size);
        for (int64_t i = 0; i < o->sequence; i++) target[i] = i + 1 < o->sequence ? id[i + 1] : -1;
        status = ot_network_add(net, id, NULL, target, o->sequence, NULL, err);
    }
    ot_free(ids);
    ot_free(targets);
    return status;
}

static void add_lines(ot_bench_result *out, const ot_plan *plan, const double *seconds, const ot_model *m, const ot_bench_options *o) {
    int64_t rows = o->batch * o->sequence, targets = m->desc.vision ? o->batch : o->batch * (o->sequence - 1);
    for (int64_t e = 0; e < ot_plan_trace_length(plan); e++) {
        ot_trace_info info;
        ot_plan_trace_info(plan, e, rows, o->batch, targets, &info);
        int i = 0;
        bool low_rank = info.rank > 0 && info.rank <= OT_BENCH_LOW_RANK && info.block >= 0, in_block = info.block >= 0;
        while (i < out->n_lines && (out->lines[i].kind != info.kind || out->lines[i].phase != info.phase || out->lines[i].low_rank != low_rank ||
                                    out->lines[i].in_block != in_block)) {
            i++;
        }
        if (i == out->n_lines) {
            out->lines[out->n_lines++] = (ot_bench_line){.kind = info.kind, .phase = info.phase, .low_rank = low_rank, .in_block = in_block};
        }
        if (in_block) out->block_seconds += seconds[e] / (double)o->steps;
        if (low_rank) out->low_rank_seconds += seconds[e] / (double)o->steps;
        out->lines[i].entries++;
        out->lines[i].seconds += seconds[e] / (double)o->steps;
        out->lines[i].flops += info.flops;
        out->lines[i].bytes += info.bytes;
        out->plan_seconds += seconds[e] / (double)o->steps;
    }
}

static ot_status time_steps(ot_network *net, const ot_model *m, ot_trainables *t, const ot_bench_options *o, double *times, double *profile,
                            ot_bench_result *out, ot_error *err) {
    OT_TRY(fill_batch(net, m, o, err));
    for (int64_t s = -o->warm_up; s < o->steps; s++) {
        ot_profile timer = {.seconds = profile};
        double start = ot_seconds(), sum = 0;
        OT_TRY(ot_network_run(net, &(ot_run_options){.profile = profile != NULL && s >= 0 ? &timer : NULL}, &sum, err));
        double ran = ot_seconds();
        if (!o->forward_only) {
            double norm = ot_trainables_gradient_norm(t);
            ot_trainables_update(t, &(ot_update){.lr = 1e-5, .decay = 0.01, .step = s + o->warm_up + 1, .grad_scale = fmin(1.0, 1.0 / (norm + 1e-6))});
        }
        if (s < 0) continue;
        double end = ot_seconds();
        times[s] = end - start;
        out->optimizer_seconds += (end - ran) / (double)o->steps;
        out->loss = sum / (double)ot_network_targets(net);
    }
    return OT_OK;
}

/* Weights of a file, and fresh ones, which lie in memory alone. */
static int64_t weight_bytes(const ot_model *m) {
    int64_t sum = 0;
    for (int64_t i = 0; i < m->n_params; i++) {
        const ot_param *p = &m->params[i];
        int64_t bytes = ot_param_stored_bytes(p);
        if (p->stored.data == NULL && ot_dtype_bytes(p->slot.dtype, ot_param_elements(p), &bytes)) sum += bytes;
    }
    return sum + ot_model_stored_bytes(m);
}

ot_status ot_bench_run(ot_model *m, ot_trainables *t, const ot_bench_options *o, ot_bench_result *out, ot_error *err) {
    *out = (ot_bench_result){0};
    int64_t rows = o->batch * o->sequence;
    ot_network_options options = {
        .plan = {.backend = o->backend,
                 .compute = o->compute,
                 .max_rows = rows,
                 .max_targets = rows,
                 .train = !o->forward_only,
                 .recompute = o->recompute},
        .hooks = o->hooks,
        .outputs = OT_OUT_LOSS,
        .max_segments = o->batch,
    };
    ot_network *net = NULL;
    double *times = NULL, *profile = NULL;
    if (o->optimizer != NULL) t->optimizer = *o->optimizer;
    ot_status status = ot_network_new(m, &options, &net, err);
    if (status == OT_OK) {
        int64_t halves = o->compute == OT_BF16 ? t->stretch * 2 : 0;
        out->planned_bytes = weight_bytes(m) + ot_network_bytes(net) + (o->forward_only ? 0 : ot_trainables_bytes(t, false) + halves);
        if (o->room > 0 && out->planned_bytes > o->room) {
            status = ot_fail(err, OT_ERR_MEMORY, "the plan needs %lld bytes, but there are %lld", (long long)out->planned_bytes, (long long)o->room);
        }
    }
    if (status == OT_OK && !o->forward_only) status = ot_trainables_bind(t, o->compute, false, err);
    if (status == OT_OK) status = ot_calloc(o->steps, sizeof *times, "step times", (void **)&times, err);
    if (status == OT_OK && o->profile) {
        status = ot_calloc(ot_plan_trace_length(ot_network_plan(net)), sizeof *profile, "a profile", (void **)&profile, err);
    }
    if (status == OT_OK) status = time_steps(net, m, t, o, times, profile, out, err);
    if (status == OT_OK) {
        qsort(times, (size_t)o->steps, sizeof *times, ascending);
        out->seconds = times[o->steps / 2];
        out->seconds_best = times[0];
        out->tokens_per_second = (double)rows / out->seconds;
        out->sequences_per_second = (double)o->batch / out->seconds;
        if (profile != NULL) add_lines(out, ot_network_plan(net), profile, m, o);
    }
    ot_free(times);
    ot_free(profile);
    ot_network_free(net);
    return status;
}

/* ==== The machine. ==== */


static ot_status time_plan(ot_plan *plan, int64_t rows, double *best, ot_error *err) {
    ot_batch batch = {.rows = rows};
    *best = INFINITY;
    for (int i = 0; i < 5; i++) {
        double start = ot_seconds();
        OT_TRY(ot_plan_run(plan, &batch, NULL, err));
        double seconds = ot_seconds() - start;
        if (i > 0 && seconds < *best) *best = seconds;
    }
    return OT_OK;
}

ot_status ot_bench_measure_peak(const ot_backend *backend, ot_dtype compute, ot_bench_peak *out, ot_error *err) {
    enum { SIZE = 2048, LONG = 1 << 14 };
    ot_plan_options options = {.backend = backend, .compute = compute, .max_rows = LONG};
    ot_slot weight = {.dtype = compute, .rows = SIZE, .cols = SIZE};
    void *data = NULL;
    OT_TRY(ot_calloc((int64_t)SIZE * SIZE, 4, "a test matrix", &data, err));
    weight.data = data;
    ot_status status = OT_OK;
    for (int product = 1; status == OT_OK && product >= 0; product--) {
        ot_builder *b = ot_builder_new(&options, err);
        if (b == NULL) {
            status = OT_ERR_MEMORY;
            break;
        }
        ot_dtype dtype = product ? compute : OT_F32;
        int32_t x = ot_build_value(b, OT_SPACE_ROWS, dtype, SIZE), y = ot_build_value(b, OT_SPACE_ROWS, dtype, SIZE);
        ot_op_spec add = {.kind = OT_OP_ADD, .in = {x, x, OT_NO_VALUE}, .out = y};
        ot_op_spec multiply = {.kind = OT_OP_LINEAR, .attr = {.linear = {.scale = 1.0F}}, .in = {x, OT_NO_VALUE, OT_NO_VALUE}, .out = y, .w = {&weight, NULL}};
        ot_build_pin(b, x);
        ot_build_op(b, product ? &multiply : &add);
        ot_plan *plan = NULL;
        status = ot_plan_compile(b, &plan, err);
        if (status == OT_OK) status = ot_plan_allocate(plan, err);
        int64_t rows = product ? SIZE : LONG;
        double seconds = 1;
        if (status == OT_OK) {
            int64_t bytes = 0;
            ot_dtype_bytes(dtype, rows * SIZE, &bytes);
            memset((void *)(uintptr_t)ot_plan_value(plan, x), 0, (size_t)bytes);
            status = time_plan(plan, rows, &seconds, err);
        }
        if (product) {
            out->flops_per_second = 2.0 * SIZE * (double)SIZE * SIZE / seconds;
        } else {
            out->bytes_per_second = (double)rows * SIZE * 4 * 2 / seconds;
        }
        ot_plan_free(plan);
    }
    ot_free(data);
    return status;
}
