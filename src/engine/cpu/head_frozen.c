/* CPU backend: HEAD_LOSS with a frozen head where own loops multiply: no logits are kept. Parts of tokens by ranges of the vocabulary run
 * in parallel; with few tokens the ranges are several, and merged in order. x [L, D], W [V, D], bias [V]. */
#include "engine/cpu/head.h"

#include <math.h>

enum { PARTS = 8, LANES = 16, SUMS = 16 }; /* parts wanted at least; parts that have memory of their own; sums of sums16 */

typedef struct frozen_run {
    const ot_cpu_kernels *table;
    const ot_call *call;
    ot_head_job job;
    ot_dtype type;
    int64_t L, V, tokens, tiles, ranges, lanes, padded_d; /* tokens: of a tile */
    ot_head_part memory[LANES];
    double *losses; /* [L] */
} frozen_run;

/* Without ranges, tiles are smaller so that there are more of them for many threads. */
static int64_t tile_tokens(const ot_call *call) { return ot_head_sums16(call) ? OT_HEAD_TOKENS / 2 : OT_HEAD_TOKENS; }

/* Ranges of the vocabulary for this many tiles of tokens, and parts that have memory. 16 sums go through all of it. */
static int64_t ranges_of(const ot_call *call, int64_t tiles) {
    return tiles > 0 && tiles < PARTS && !ot_head_sums16(call) ? ot_chunks(PARTS, tiles) : 1;
}

static int64_t lanes_of(const ot_call *call, int64_t tiles) {
    int64_t parts = tiles * ranges_of(call, tiles);
    return parts < LANES ? parts : LANES;
}

/* The plan asks once, for the most tokens it will see; with fewer of them the ranges are more. */
static int64_t most_lanes(const ot_call *call, int64_t tiles) {
    int64_t most = lanes_of(call, tiles);
    for (int64_t t = 1; t < tiles && t < PARTS; t++) most = lanes_of(call, t) > most ? lanes_of(call, t) : most;
    return most;
}

static void frozen_layout(const ot_call *call, int64_t lanes, frozen_run *r, ot_cpu_work *work) {
    const ot_view *in = &call->in[0];
    *r = (frozen_run){.table = ot_cpu_pick(), .call = call, .type = ot_head_type(call), .L = in->rows, .V = call->w[0].rows};
    r->padded_d = ot_attention_padded_d(in->cols);
    r->tokens = tile_tokens(call);
    r->tiles = ot_chunks(r->L, r->tokens);
    r->ranges = ranges_of(call, r->tiles);
    r->lanes = lanes;
    int64_t size = ot_compute_bytes(r->type);
    r->losses = ot_cpu_take(work, r->L * (int64_t)sizeof(double));
    for (int64_t i = 0; i < r->lanes; i++) {
        ot_head_part *m = &r->memory[i];
        m->x = ot_cpu_take(work, OT_HEAD_TOKENS * r->padded_d * size);
        m->w = ot_cpu_take(work, OT_HEAD_BLOCK * r->padded_d * size);
        m->w_pairs = r->type == OT_BF16 ? ot_cpu_take(work, OT_HEAD_BLOCK * r->padded_d * size) : NULL;
        m->y = ot_cpu_take(work, OT_HEAD_TOKENS * r->padded_d * (int64_t)sizeof(float));
        m->top = ot_cpu_take(work, OT_HEAD_TOKENS * (int64_t)sizeof(float));
        m->sum = ot_cpu_take(work, OT_HEAD_TOKENS * (ot_head_sums16(call) ? SUMS : 1) * (int64_t)sizeof(float));
        m->at_target = ot_cpu_take(work, OT_HEAD_TOKENS * (int64_t)sizeof(float));
    }
}

int64_t ot_cpu_head_frozen_scratch(const ot_call *call) {
    ot_cpu_work work = {0};
    frozen_run run;
    frozen_layout(call, most_lanes(call, ot_chunks(call->in[0].rows, tile_tokens(call))), &run, &work);
    return work.bytes;
}

static void decode_row(const ot_weight *w, int64_t row, ot_span to) { ot_cpu_decode_part(ot_cpu_pick(), w, row, 0, w->cols, to); }

/* The loss by 16 sums, which are halved as PyTorch halves a vector. */
static double loss_of_sums16(const ot_head_part *p, int64_t t) {
    float sums[SUMS];
    for (int i = 0; i < SUMS; i++) sums[i] = p->sum[i * OT_HEAD_TOKENS + t];
    for (int half = SUMS / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) sums[i] += sums[i + half];
    }
    return -(double)((p->at_target[t] - p->top[t]) - logf(sums[0]));
}

/* Merges the ranges of one tile of tokens into the first, in order; then losses and gradients. */
static void finish_tile(const frozen_run *r, int64_t tile, ot_head_part *parts) {
    const ot_view *in = &r->call->in[0];
    int64_t D = in->cols, first = tile * r->tokens, tokens = r->L - first < r->tokens ? r->L - first : r->tokens;
    ot_head_part *p = &parts[0];
    for (int64_t t = 0; t < tokens; t++) {
        float top = p->top[t];
        for (int64_t k = 1; k < r->ranges; k++) top = parts[k].top[t] > top ? parts[k].top[t] : top;
        ot_span y = {p->y + t * r->padded_d, OT_F32};
        double sum = 0, at_target = 0;
        for (int64_t k = 0; k < r->ranges; k++) {
            float share = expf(parts[k].top[t] - top);
            sum += (double)share * (double)parts[k].sum[t];
            at_target += (double)parts[k].at_target[t];
            if (!r->job.gradients) continue;
            if (k == 0) r->table->scale(share, y, y, D);
            else r->table->axpy(share, (ot_span){parts[k].y + t * r->padded_d, OT_F32}, y, D);
        }
        r->losses[first + t] = r->job.sums16 ? loss_of_sums16(p, t) : (double)top + log(sum) - at_target;
        if (r->call->batch->target_margin) r->call->batch->target_margin[first + t] = (float)((double)top - at_target);
        if (!r->job.gradients) continue;
        /* dx = loss_scale * (y / sum - w[target]) */
        enum { PIECE = 1024 };
        float room[PIECE];
        double scale = r->call->batch->loss_scale;
        r->table->scale((float)(scale / sum), y, y, D);
        for (int64_t c = 0; c < D; c += PIECE) {
            int64_t n = D - c < PIECE ? D - c : PIECE;
            ot_cpu_decode_part(r->table, &r->call->w[0], r->job.targets[first + t], c, n, (ot_span){room, OT_F32});
            r->table->axpy((float)-scale, (ot_span){room, OT_F32}, ot_span_at(y, c), n);
        }
        r->table->copy(y, ot_span_at(ot_span_dx(in), (first + t) * D), D, in->add_dx);
    }
}

/* Parts lane, lane + lanes, ... : with several ranges every part has a lane of its own. */
static void run_lane(void *context, int64_t lane) {
    frozen_run *r = context;
    for (int64_t part = lane; part < r->tiles * r->ranges; part += r->lanes) {
        int64_t tile = part / r->ranges, range = part % r->ranges;
        ot_head_part *p = &r->memory[lane];
        p->first = tile * r->tokens;
        p->tokens = r->L - p->first < r->tokens ? r->L - p->first : r->tokens;
        p->v0 = range * r->V / r->ranges;
        p->v1 = (range + 1) * r->V / r->ranges;
        (r->type == OT_BF16 ? r->table->head_bf16 : r->table->head_f32)(&r->job, p);
        if (r->ranges == 1) finish_tile(r, tile, p);
    }
}

static void merge_tile(void *context, int64_t tile) {
    frozen_run *r = context;
    finish_tile(r, tile, &r->memory[tile * r->ranges]);
}

ot_status ot_cpu_head_frozen(const ot_call *call, bool gradients) {
    const ot_view *in = &call->in[0];
    ot_cpu_work work = {.base = call->scratch};
    frozen_run run;
    frozen_layout(call, lanes_of(call, ot_chunks(in->rows, tile_tokens(call))), &run, &work);
    OT_TRY(ot_cpu_check_work(call, &work));
    run.job = (ot_head_job){.x = ot_span_x(in),
                            .D = in->cols,
                            .w = &call->w[0],
                            .bias = call->w[1].w,
                            .targets = call->batch->targets,
                            .gradients = gradients && in->dx,
                            .sums16 = ot_head_sums16(call) && !(gradients && in->dx),
                            .in_place = call->w[0].dtype == run.type && in->cols % 16 == 0,
                            .decode_row = decode_row};
    ot_parallel_for(run.lanes, run_lane, &run);
    if (run.ranges > 1) ot_parallel_for(run.tiles, merge_tile, &run);
    ot_head_report(call, run.losses);
    return OT_OK;
}
