/* CPU backend: DISTANCE, the distillation loss mean((S - T)^2) / mean(T^2) of student S [R, D] and teacher T [R, D]. Two sweeps: the sums, in
 * double over chunks that do not depend on the threads, then the gradient 2 (S - T) / sum(T^2). */
#include "engine/cpu/cpu.h"

enum { CHUNK = 8192, PIECE = 512, LANES = 16 };

typedef struct distance_job {
    const ot_cpu_kernels *table;
    const ot_call *call;
    int64_t n;
    double (*sums)[2]; /* [chunks]: of (S - T)^2 and of T^2 */
    float slope;
} distance_job;

static int64_t elements(const ot_call *call) { return call->in[0].rows * call->in[0].cols; }

static double add_up(double *lanes) {
    for (int width = LANES / 2; width > 0; width /= 2) {
        for (int k = 0; k < width; k++) lanes[k] += lanes[k + width];
    }
    return lanes[0];
}

/* s, t [PIECE] = elements from `at` on as F32, zeros after the last; returns how many there are. */
static int64_t load(const distance_job *j, int64_t at, int64_t end, float *s, float *t) {
    int64_t n = end - at < PIECE ? end - at : PIECE;
    for (int64_t i = n; i < PIECE; i++) s[i] = t[i] = 0.0f;
    j->table->copy(ot_span_at(ot_span_x(&j->call->in[0]), at), (ot_span){s, OT_F32}, n, false);
    j->table->copy(ot_span_at(ot_span_x(&j->call->in[1]), at), (ot_span){t, OT_F32}, n, false);
    return n;
}

static int64_t chunk_end(const distance_job *j, int64_t chunk) { return (chunk + 1) * CHUNK < j->n ? (chunk + 1) * CHUNK : j->n; }

static void sum_chunk(void *context, int64_t chunk) {
    const distance_job *j = context;
    double apart[LANES] = {0}, size[LANES] = {0};
    float s[PIECE], t[PIECE];
    for (int64_t at = chunk * CHUNK; at < chunk_end(j, chunk); at += PIECE) {
        load(j, at, chunk_end(j, chunk), s, t);
        for (int i = 0; i < PIECE; i += LANES) {
            for (int k = 0; k < LANES; k++) {
                double d = (double)s[i + k] - (double)t[i + k];
                apart[k] += d * d;
                size[k] += (double)t[i + k] * (double)t[i + k];
            }
        }
    }
    j->sums[chunk][0] = add_up(apart);
    j->sums[chunk][1] = add_up(size);
}

static void gradient_chunk(void *context, int64_t chunk) {
    const distance_job *j = context;
    const ot_view *student = &j->call->in[0];
    float s[PIECE], t[PIECE];
    for (int64_t at = chunk * CHUNK; at < chunk_end(j, chunk); at += PIECE) {
        int64_t n = load(j, at, chunk_end(j, chunk), s, t);
        for (int i = 0; i < PIECE; i++) s[i] = j->slope * (s[i] - t[i]);
        j->table->copy((ot_span){s, OT_F32}, ot_span_at(ot_span_dx(student), at), n, student->add_dx);
    }
}

static void layout(const ot_call *call, ot_cpu_work *work, distance_job *job) {
    job->sums = ot_cpu_take(work, ot_chunks(elements(call), CHUNK) * (int64_t)sizeof *job->sums);
}

int64_t ot_cpu_distance_scratch(const ot_call *call) {
    ot_cpu_work work = {0};
    distance_job job;
    layout(call, &work, &job);
    return work.bytes;
}

static ot_status distance(const ot_call *call, bool gradients) {
    distance_job job = {.table = ot_cpu_pick(), .call = call, .n = elements(call)};
    ot_cpu_work work = {.base = call->scratch};
    layout(call, &work, &job);
    OT_TRY(ot_cpu_check_work(call, &work));
    int64_t chunks = ot_chunks(job.n, CHUNK);
    ot_parallel_for(chunks, sum_chunk, &job);
    double apart = 0, size = 0;
    for (int64_t i = 0; i < chunks; i++) {
        apart += job.sums[i][0];
        size += job.sums[i][1];
    }
    call->batch->distances[call->attr->distance.index] = job.n > 0 ? apart / size : 0.0;
    if (job.n > 0 && size == 0) {
        return ot_fail(call->err, OT_ERR_NUMERIC, "distance: the teacher's hidden states are all zero: there is nothing to compare with");
    }
    if (!gradients || call->in[0].dx == NULL) return OT_OK;
    job.slope = (float)((double)call->attr->distance.weight * call->batch->distance_scale * 2.0 / size);
    ot_parallel_for(chunks, gradient_chunk, &job);
    return OT_OK;
}

ot_status ot_cpu_distance_forward(const ot_call *call) { return distance(call, false); }
ot_status ot_cpu_distance_backward(const ot_call *call) { return distance(call, true); }
