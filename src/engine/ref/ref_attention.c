/* Reference backend: ATTENTION, one (segment, key/value head) at a time: its keys and values are gathered into doubles, in the
 * order prefix parameters, shared prefix rows, own rows; then every query of every head that reads them is done by itself. */
#include <math.h>

#include "engine/ref/ref.h"

/* What the queries of one segment attend to in one key/value head. n = P + n_prefix + nk keys of width d. */
typedef struct key_set {
    int64_t n;
    double *k, *v;   /* [n, d] */
    double *dk, *dv; /* [n, d] */
    double *p, *dp;  /* [n]: of one query */
    double *q, *dq, *y, *dy; /* [d]: of one query */
} key_set;

/* A segment's keys are at most all prefix parameters and all rows of k. */
static int64_t most_keys(const ot_call *call) { return call->attr->attention.prefix + call->in[1].rows; }

int64_t ot_ref_attention_doubles(const ot_call *call) {
    int64_t d = call->attr->attention.head_dim;
    return most_keys(call) * (4 * d + 2) + 4 * d;
}

static key_set take_keys(const ot_call *call, ot_ref_work *work) {
    int64_t n = most_keys(call), d = call->attr->attention.head_dim;
    return (key_set){.k = ot_ref_take(work, n * d),
                     .v = ot_ref_take(work, n * d),
                     .dk = ot_ref_take(work, n * d),
                     .dv = ot_ref_take(work, n * d),
                     .p = ot_ref_take(work, n),
                     .dp = ot_ref_take(work, n),
                     .q = ot_ref_take(work, d),
                     .dq = ot_ref_take(work, d),
                     .y = ot_ref_take(work, d),
                     .dy = ot_ref_take(work, d)};
}

static ot_status check_segments(const ot_call *call, bool backward) {
    for (int64_t s = 0; s < call->batch->n_segments; s++) {
        ot_segment g = call->batch->segments[s];
        bool inside = g.q0 >= 0 && g.nq >= 0 && (int64_t)g.q0 + g.nq <= call->in[0].rows && g.k0 >= 0 && g.nk >= 0 &&
                      (int64_t)g.k0 + g.nk <= call->in[1].rows && g.n_prefix >= 0 && g.prefix0 >= 0 &&
                      (int64_t)g.prefix0 + g.n_prefix <= call->in[1].rows && (int64_t)g.n_prefix + g.nk <= call->in[1].rows;
        if (!inside)
            return ot_fail(call->err, OT_ERR_USAGE, "attention: segment %lld reaches outside the rows of its queries or keys",
                           (long long)s);
        if (backward && g.n_prefix)
            return ot_fail(call->err, OT_ERR_USAGE,
                           "attention: segment %lld shares a prefix, which has no backward: train without sharing", (long long)s);
    }
    return OT_OK;
}

/* ---- Where things lie ---- */

static int64_t head_at(const ot_view *view, ot_head_layout layout, int64_t row, int64_t head) {
    return row * view->cols + layout.offset + head * layout.stride;
}

/* Row of k and v of key j of the segment, or -1 when it is a prefix parameter. */
static int64_t key_row(const ot_call *call, const ot_segment *g, int64_t j) {
    j -= call->attr->attention.prefix;
    if (j < 0) return -1;
    return j < g->n_prefix ? g->prefix0 + j : g->k0 + j - g->n_prefix;
}

static void load_keys(const ot_call *call, const ot_segment *g, int64_t kv_head, key_set *keys) {
    int64_t P = call->attr->attention.prefix, d = call->attr->attention.head_dim, first = kv_head * d;
    keys->n = P + g->n_prefix + g->nk;
    for (int64_t j = 0; j < keys->n; j++) {
        double *k = keys->k + j * d, *v = keys->v + j * d;
        int64_t row = key_row(call, g, j);
        if (row < 0) { /* parameters are dense [P, K * d] */
            ot_ref_load(call->w[0].w, call->w[0].dtype, j * call->w[0].cols + first, d, k);
            ot_ref_load(call->w[1].w, call->w[1].dtype, j * call->w[1].cols + first, d, v);
        } else {
            ot_ref_load(call->in[1].x, call->in[1].dtype, head_at(&call->in[1], call->attr->attention.k, row, kv_head), d, k);
            ot_ref_load(call->in[2].x, call->in[2].dtype, head_at(&call->in[2], call->attr->attention.v, row, kv_head), d, v);
        }
        for (int64_t c = 0; c < d; c++) keys->dk[j * d + c] = keys->dv[j * d + c] = 0;
    }
}

/* Rows that several segments read add up, so the rows of k and v must hold zeros, or what add_dx says, before. */
static void add_key_gradients(const ot_call *call, const ot_segment *g, int64_t kv_head, const key_set *keys) {
    const ot_view *k = &call->in[1], *v = &call->in[2];
    int64_t d = call->attr->attention.head_dim, first = kv_head * d;
    ot_dtype real = ot_ref_real(call);
    for (int64_t j = 0; j < keys->n; j++) {
        int64_t row = key_row(call, g, j);
        const double *dk = keys->dk + j * d, *dv = keys->dv + j * d;
        if (row < 0) {
            if (call->w[0].dw) ot_ref_store(call->w[0].dw, real, j * call->w[0].cols + first, d, dk, true);
            if (call->w[1].dw) ot_ref_store(call->w[1].dw, real, j * call->w[1].cols + first, d, dv, true);
        } else {
            if (k->dx) ot_ref_store(k->dx, k->dtype, head_at(k, call->attr->attention.k, row, kv_head), d, dk, true);
            if (v->dx) ot_ref_store(v->dx, v->dtype, head_at(v, call->attr->attention.v, row, kv_head), d, dv, true);
        }
    }
}

/* Only the columns of the heads: q, k and v may share one buffer. */
static void zero_heads(const ot_view *view, void *array, ot_head_layout layout, int64_t heads, int64_t d, double *zeros) {
    for (int64_t c = 0; c < d; c++) zeros[c] = 0;
    for (int64_t r = 0; r < view->rows; r++)
        for (int64_t h = 0; h < heads; h++) ot_ref_store(array, view->dtype, head_at(view, layout, r, h), d, zeros, false);
}

/* ---- One query ---- */

/* Does query i of the segment see its key j (both counted from 0)? */
static bool sees(const ot_call *call, const ot_segment *g, int64_t i, int64_t j) {
    int64_t row = key_row(call, g, j);
    if (row < 0) return true;
    int64_t own = j - call->attr->attention.prefix - g->n_prefix; /* negative: shared prefix */
    if (call->attr->attention.causal && own > g->nk - g->nq + i) return false;
    if (call->attr->attention.window == 0) return true;
    int64_t distance = (int64_t)call->batch->slots[g->q0 + i] - call->batch->key_slots[row];
    return distance >= 0 && distance < call->attr->attention.window;
}

/* Score of query keys->q of head h with key j; for alibi the P prefix parameters stand at -P .. -1. */
static double score(const ot_call *call, const key_set *keys, int64_t h, int64_t j) {
    int64_t d = call->attr->attention.head_dim, position = j - call->attr->attention.prefix;
    const float *alibi = call->attr->attention.alibi;
    double s = (double)call->attr->attention.scale * ot_ref_dot(keys->q, keys->k + j * d, d);
    return alibi ? s + (double)alibi[h] * (double)position : s;
}

/* keys->y = softmax(scores) . v, zeros without any visible key; returns the log-sum-exp. */
static double query_forward(const ot_call *call, const ot_segment *g, const key_set *keys, int64_t h, int64_t i) {
    int64_t d = call->attr->attention.head_dim;
    double max = -INFINITY, sum = 0;
    for (int64_t j = 0; j < keys->n; j++) {
        keys->p[j] = sees(call, g, i, j) ? score(call, keys, h, j) : -INFINITY;
        if (keys->p[j] > max) max = keys->p[j];
    }
    for (int64_t c = 0; c < d; c++) keys->y[c] = 0;
    for (int64_t j = 0; j < keys->n; j++) {
        if (!sees(call, g, i, j)) continue;
        double p = exp(keys->p[j] - max);
        sum += p;
        ot_ref_axpy(p, keys->v + j * d, keys->y, d);
    }
    if (sum == 0) return -INFINITY;
    for (int64_t c = 0; c < d; c++) keys->y[c] /= sum;
    return max + log(sum);
}

/* From keys->dy: keys->dq, and this query's share of keys->dk and keys->dv. */
static void query_backward(const ot_call *call, const ot_segment *g, const key_set *keys, int64_t h, int64_t i,
                           double log_sum_exp) {
    int64_t d = call->attr->attention.head_dim;
    double scale = call->attr->attention.scale, mean_dp = 0;
    for (int64_t j = 0; j < keys->n; j++) {
        if (!sees(call, g, i, j)) continue;
        /* Among huge scores the rounding of the saved log-sum-exp is many units: a probability is still at most one. */
        double below = score(call, keys, h, j) - log_sum_exp;
        keys->p[j] = exp(below > 0 ? 0 : below);
        keys->dp[j] = ot_ref_dot(keys->dy, keys->v + j * d, d);
        mean_dp += keys->p[j] * keys->dp[j];
        ot_ref_axpy(keys->p[j], keys->dy, keys->dv + j * d, d);
    }
    for (int64_t c = 0; c < d; c++) keys->dq[c] = 0;
    for (int64_t j = 0; j < keys->n; j++) {
        if (!sees(call, g, i, j)) continue;
        double ds = scale * keys->p[j] * (keys->dp[j] - mean_dp);
        ot_ref_axpy(ds, keys->k + j * d, keys->dq, d);
        ot_ref_axpy(ds, keys->q, keys->dk + j * d, d);
    }
}

/* ==== The kernels: q [R, .. H heads of d ..], k and v [rows, .. K heads of d ..], y [R, H * d], saved log-sum-exp [H, R] ==== */

ot_status ot_ref_attention_forward(const ot_call *call) {
    const ot_view *q = &call->in[0], *out = &call->out;
    int64_t H = call->attr->attention.heads, K = call->attr->attention.kv_heads, d = call->attr->attention.head_dim;
    OT_TRY(check_segments(call, false));
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    key_set keys = take_keys(call, &work);
    zero_heads(out, out->x, (ot_head_layout){0, (int32_t)d}, H, d, keys.y); /* rows outside all segments */
    for (int64_t s = 0; s < call->batch->n_segments; s++) {
        const ot_segment *g = &call->batch->segments[s];
        for (int64_t kv = 0; kv < K; kv++) {
            load_keys(call, g, kv, &keys);
            for (int64_t h = kv * (H / K); h < (kv + 1) * (H / K); h++) {
                for (int64_t i = 0; i < g->nq; i++) {
                    int64_t row = g->q0 + i;
                    ot_ref_load(q->x, q->dtype, head_at(q, call->attr->attention.q, row, h), d, keys.q);
                    double log_sum_exp = query_forward(call, g, &keys, h, i);
                    ot_ref_store(out->x, out->dtype, row * out->cols + h * d, d, keys.y, false);
                    if (call->save) ot_ref_store(call->save, ot_ref_real(call), h * q->rows + row, 1, &log_sum_exp, false);
                }
            }
        }
    }
    return OT_OK;
}

ot_status ot_ref_attention_backward(const ot_call *call) {
    const ot_view *q = &call->in[0], *k = &call->in[1], *v = &call->in[2], *out = &call->out;
    int64_t H = call->attr->attention.heads, K = call->attr->attention.kv_heads, d = call->attr->attention.head_dim;
    OT_TRY(check_segments(call, true));
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    key_set keys = take_keys(call, &work);
    if (q->dx && !q->add_dx) zero_heads(q, q->dx, call->attr->attention.q, H, d, keys.dq);
    if (k->dx && !k->add_dx) zero_heads(k, k->dx, call->attr->attention.k, K, d, keys.dq);
    if (v->dx && !v->add_dx) zero_heads(v, v->dx, call->attr->attention.v, K, d, keys.dq);
    for (int64_t s = 0; s < call->batch->n_segments; s++) {
        const ot_segment *g = &call->batch->segments[s];
        for (int64_t kv = 0; kv < K; kv++) {
            load_keys(call, g, kv, &keys);
            for (int64_t h = kv * (H / K); h < (kv + 1) * (H / K); h++) {
                for (int64_t i = 0; i < g->nq; i++) {
                    int64_t row = g->q0 + i, at = head_at(q, call->attr->attention.q, row, h);
                    double log_sum_exp;
                    ot_ref_load(q->x, q->dtype, at, d, keys.q);
                    ot_ref_load(out->dx, out->dtype, row * out->cols + h * d, d, keys.dy);
                    ot_ref_load(call->save, ot_ref_real(call), h * q->rows + row, 1, &log_sum_exp);
                    query_backward(call, g, &keys, h, i, log_sum_exp);
                    if (q->dx) ot_ref_store(q->dx, q->dtype, at, d, keys.dq, true);
                }
            }
            add_key_gradients(call, g, kv, &keys);
        }
    }
    return OT_OK;
}
