/* Attention, parts that do not depend on the type of the products: where heads and keys lie, masks, the path for few queries, and the
 * gradients of keys and values. Included after vec_math.h in every instruction set's unit. */
#ifndef OT_ENGINE_CPU_ATTENTION_COMMON_H
#define OT_ENGINE_CPU_ATTENTION_COMMON_H

#include "engine/cpu/vec_math.h"

enum { TILE = OT_ATTENTION_TILE, HALF = TILE / 2, MAX_D = OT_ATTENTION_MAX_D };
enum { AHEAD = 8 }; /* rows of heads lie too far apart for the hardware to guess the next one */

VEC_INLINE void prefetch_row(ot_span row, int64_t d) {
    const char *end = ot_span_at(row, d).x;
    for (const char *p = row.x; p < end; p += 64) __builtin_prefetch(p);
}

/* ==== Where things lie ==== */

VEC_INLINE ot_span head_row(const ot_view *view, void *array, ot_head_layout layout, int64_t row, int64_t head) {
    return ot_span_at((ot_span){array, view->dtype}, row * view->cols + layout.offset + head * layout.stride);
}

static int64_t keys_before_own(const ot_attention_job *job, const ot_segment *g) { return job->attr->attention.prefix + g->n_prefix; }

static int64_t keys_of(const ot_attention_job *job, const ot_segment *g) { return keys_before_own(job, g) + g->nk; }

/* Row of k and v of key j, or -1 for a prefix parameter. */
static int64_t key_row(const ot_attention_job *job, const ot_segment *g, int64_t j) {
    j -= job->attr->attention.prefix;
    if (j < 0) return -1;
    return j < g->n_prefix ? g->prefix0 + j : g->k0 + j - g->n_prefix;
}

static ot_span key_span(const ot_attention_job *job, const ot_segment *g, int64_t j, int64_t kv, bool value) {
    int64_t row = key_row(job, g, j), d = job->attr->attention.head_dim;
    if (row < 0) return ot_span_at(value ? job->prefix_v : job->prefix_k, j * job->prefix_cols + kv * d);
    if (value) return head_row(&job->v, job->v.x, job->attr->attention.v, row, kv);
    return head_row(&job->k, job->k.x, job->attr->attention.k, row, kv);
}

/* Keys [0, result) are all that query i may see, as far as causality goes. */
static int64_t causal_end(const ot_attention_job *job, const ot_segment *g, int64_t i) {
    int64_t before = keys_before_own(job, g), end = before + g->nk;
    if (!job->attr->attention.causal) return end;
    int64_t own = (int64_t)g->nk - g->nq + i + 1;
    if (own < 0) own = 0;
    return before + own < end ? before + own : end;
}

/* ==== Masks and position terms of a tile of scores [keys][TILE queries] ==== */

typedef struct tile_view {
    const ot_segment *g;
    int64_t head;   /* query head */
    int64_t i0, j0; /* first query, first key */
    int keys;       /* rows of the tile, padded */
    int part;       /* keys packed from j0 on, at most TILE */
    int lanes;      /* queries, padded to whole vectors */
    const int32_t *q_slots; /* [lanes], with a window */
} tile_view;

VEC_INLINE int part_of_keys(int64_t padded, int64_t j0) { return (int)(padded - j0 < TILE ? padded - j0 : TILE); }

/* Whether the tile needs fix_scores; otherwise a score is scale * product. */
static bool needs_fixing(const ot_attention_job *job, const tile_view *t) {
    return job->attr->attention.alibi || job->attr->attention.window || !(job->attr->attention.scale > 0) ||
           t->j0 + t->keys > causal_end(job, t->g, t->i0);
}

/* Do the later half of the tile's keys not concern the earlier half of its queries, as on the diagonal? Then that corner of the tile need
 * not be computed, and is not read. */
static bool corner_is_dark(const ot_attention_job *job, const tile_view *t) {
    return t->keys > HALF && t->lanes > HALF && t->j0 + HALF >= causal_end(job, t->g, t->i0 + HALF - 1);
}

/* Rows [first, end) of both */
static void clear_rows(float *dk, float *dv, int64_t first, int64_t end, int64_t dp) {
    if (first >= end) return;
    memset(dk + first * dp, 0, (size_t)((end - first) * dp) * sizeof *dk);
    memset(dv + first * dp, 0, (size_t)((end - first) * dp) * sizeof *dv);
}

/* scores = scale * scores + position term, or -infinity where a query does not see a key. */
static void fix_scores(const ot_attention_job *job, const tile_view *t, float *scores) {
    const ot_op_attr *a = job->attr;
    int64_t before = keys_before_own(job, t->g), n = keys_of(job, t->g);
    vf scale = vf_set(a->attention.scale);
    for (int j = 0; j < t->keys; j++) {
        float *row = scores + j * TILE;
        int64_t key = t->j0 + j, position = key - a->attention.prefix;
        if (key >= n) {
            for (int l = 0; l < t->lanes; l += LANES) vf_store(row + l, vf_set(-INFINITY));
            continue;
        }
        float slope = a->attention.alibi ? a->attention.alibi[t->head] * (float)position : 0.0f;
        int64_t first = 0; /* query of the tile that sees the key */
        if (a->attention.causal && key >= before) first = key - before - ((int64_t)t->g->nk - t->g->nq) - t->i0;
        vf dark = vf_set((float)(first < 0 ? 0 : first > TILE ? TILE : first)), lane = vf_from_int(vi_iota());
        for (int l = 0; l < t->lanes; l += LANES, lane += vf_set((float)LANES)) {
            vf s = vf_fma(scale, vf_load(row + l), vf_set(slope));
            vf_store(row + l, vf_less(lane, dark, vf_set(-INFINITY), s));
        }
        if (a->attention.window && position >= 0) {
            int64_t slot = job->key_slots[key_row(job, t->g, key)];
            for (int l = 0; l < t->lanes; l++) {
                int64_t distance = t->q_slots[l] - slot;
                if (distance < 0 || distance >= a->attention.window) row[l] = -INFINITY;
            }
        }
    }
}

/* Is every key of the tile outside every query's window? */
static bool beyond_window(const ot_attention_job *job, const tile_view *t, int queries) {
    if (!job->attr->attention.window) return false;
    int64_t n = keys_of(job, t->g), lowest = INT64_MAX, highest = INT64_MIN;
    for (int i = 0; i < queries; i++)
        if (t->q_slots[i] < lowest) lowest = t->q_slots[i];
    for (int64_t j = t->j0; j < t->j0 + t->keys && j < n; j++) {
        int64_t row = key_row(job, t->g, j);
        if (row < 0) return false;
        if (job->key_slots[row] > highest) highest = job->key_slots[row];
    }
    return lowest - highest >= job->attr->attention.window;
}

/* ==== Few queries: nq * (H / K) rows of scores at once, keys and values read once from where they lie ==== */

static void attention_few(const ot_attention_job *job, const ot_segment *g, int64_t kv) {
    enum { ROWS = OT_ATTENTION_FEW_ROWS };
    const ot_op_attr *a = job->attr;
    int64_t d = a->attention.head_dim, group = a->attention.heads / a->attention.kv_heads;
    int64_t n = keys_of(job, g), before = keys_before_own(job, g);
    int rows = (int)(g->nq * group);
    float q[ROWS][MAX_D], y[ROWS][MAX_D], scores[TILE][ROWS], top[ROWS], sum[ROWS];
    for (int r = 0; r < rows; r++) {
        ot_span from = head_row(&job->q, job->q.x, a->attention.q, g->q0 + r / group, kv * group + r % group);
        loop_copy(from, (ot_span){q[r], OT_F32}, d, false);
        memset(y[r], 0, sizeof y[r]);
        top[r] = -INFINITY;
        sum[r] = 0.0f;
    }
    for (int64_t j0 = 0; j0 < n; j0 += TILE) {
        int keys = (int)(n - j0 < TILE ? n - j0 : TILE);
        for (int j = 0; j < keys; j++) {
            int64_t key = j0 + j, row = key_row(job, g, key), position = key - a->attention.prefix;
            ot_span k = key_span(job, g, key, kv, false);
            memset(scores[j], 0, sizeof scores[j]);
            for (int r = 0; r < rows; r += 4) loop_dots(k, q[r], MAX_D, rows - r < 4 ? rows - r : 4, d, scores[j] + r);
            for (int r = 0; r < rows; r++) {
                int64_t i = r / group;
                float s = scores[j][r] * a->attention.scale;
                if (a->attention.alibi) s += a->attention.alibi[kv * group + r % group] * (float)position;
                if (a->attention.causal && key - before > (int64_t)g->nk - g->nq + i) s = -INFINITY;
                if (a->attention.window && row >= 0) {
                    int64_t distance = (int64_t)job->slots[g->q0 + i] - job->key_slots[row];
                    if (distance < 0 || distance >= a->attention.window) s = -INFINITY;
                }
                scores[j][r] = s;
            }
        }
        for (int r = 0; r < rows; r++) {
            float m = top[r];
            for (int j = 0; j < keys; j++) m = scores[j][r] > m ? scores[j][r] : m;
            if (m == -INFINITY) {
                for (int j = 0; j < keys; j++) scores[j][r] = 0.0f;
                continue;
            }
            float keep = expf(top[r] - m);
            if (keep != 1.0f) loop_scale(keep, (ot_span){y[r], OT_F32}, (ot_span){y[r], OT_F32}, d);
            sum[r] *= keep;
            top[r] = m;
            float p[TILE];
            for (int j = 0; j < keys; j++) p[j] = scores[j][r];
            for (int j = keys; j < TILE; j++) p[j] = -INFINITY;
            vf total = vf_zero();
            for (int j = 0; j < TILE; j += LANES) {
                vf e = vf_exp(vf_load(p + j) - vf_set(m));
                total += e;
                vf_store(p + j, e);
            }
            sum[r] += vf_sum(total);
            for (int j = 0; j < keys; j++) scores[j][r] = p[j];
        }
        for (int j = 0; j < keys; j++) {
            ot_span v = key_span(job, g, j0 + j, kv, true);
            for (int r = 0; r < rows; r++) loop_axpy(scores[j][r], v, (ot_span){y[r], OT_F32}, d);
        }
    }
    for (int r = 0; r < rows; r++) {
        int64_t row = g->q0 + r / group, h = kv * group + r % group;
        ot_span to = ot_span_at((ot_span){job->out.x, job->out.dtype}, row * job->out.cols + h * d);
        loop_scale(sum[r] > 0.0f ? 1.0f / sum[r] : 0.0f, (ot_span){y[r], OT_F32}, to, d);
        if (job->lse) job->lse[h * job->q.rows + row] = sum[r] > 0.0f ? top[r] + logf(sum[r]) : -INFINITY;
    }
}

/* ==== Gradients of keys and values: the heads that read a kv head are summed in order ==== */

static void attention_finish(const ot_attention_job *job, int64_t s, int64_t kv) {
    const ot_segment *g = &job->segments[s];
    int64_t d = job->attr->attention.head_dim, dp = ot_attention_padded_d(d), n = keys_of(job, g);
    int64_t group = job->attr->attention.heads / job->attr->attention.kv_heads, padded = job->places[s + 1] - job->places[s];
    const float *first = job->grads + (job->places[s] * job->n_kv * group + kv * group * padded) * 2 * dp;
    float row[MAX_D];
    for (int64_t j = 0; j < n; j++) {
        for (int value = 0; value < 2; value++) {
            const ot_view *view = value ? &job->v : &job->k;
            int64_t at = key_row(job, g, j), head = job->first_kv + kv;
            float *prefix = value ? job->dprefix_v : job->dprefix_k;
            if (at < 0 ? prefix == NULL : view->dx == NULL) continue;
            const float *part = first + (value * padded + j) * dp;
            for (int64_t c = 0; c < dp; c += LANES) {
                vf sum = vf_load(part + c);
                for (int64_t h = 1; h < group; h++) sum += vf_load(part + h * 2 * padded * dp + c);
                vf_store(row + c, sum);
            }
            ot_span from = {row, OT_F32};
            if (at < 0) loop_copy(from, (ot_span){prefix + j * job->prefix_cols + head * d, OT_F32}, d, true);
            else if (value) loop_copy(from, head_row(view, view->dx, job->attr->attention.v, at, head), d, job->add_v);
            else loop_copy(from, head_row(view, view->dx, job->attr->attention.k, at, head), d, job->add_k);
        }
    }
}

#endif
