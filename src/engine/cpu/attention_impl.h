/* Fused attention over tiles of 64 keys by 64 queries, included once for float products (UNIT_BF16 0) and once for bf16 products
 * with float sums (1). No include guard on purpose; NAME(x) is this copy's name of x.
 *
 * Scores are kept turned, [keys][queries]: then a query is a lane, so maxima, sums and rescaling need no horizontal steps, and the rows
 * of K and V serve as they lie. A product's unit of depth is 32 bits: one float, or a pair of bf16 that the instruction
 * multiplies and sums. `turned` operands are [depth units][columns], `paired` ones hold rows 2i and 2i+1 in one unit.
 *
 * A packed key holds, in arrays of all keys of the segment and kv head: f32: K row, V row; bf16 forward: K row, V paired; bf16
 * backward: K row, V row, K paired. Rows have dp = d padded to 16, the rest zero.
 *
 * UNIT_AMX 1: bf16 products by AMX, which multiplies 16 rows of 16 units by 16 units of 16 columns. The left operand must then lie in rows, so
 * sums over keys are made turned: y [dp][queries] = V turned [dp][keys] . weights paired. What is paired above is turned instead, by parts of TILE
 * keys: [dp][keys of the part]. */

/* ==== Products ==== */

#if UNIT_AMX
#include "engine/cpu/amx_impl.h"

static void NAME(begin)(void) { amx_begin(); }
static void NAME(end)(void) { amx_end(); }

/* C [m, n] (+)= A . B over `depth` units */
static void NAME(rows_product)(const void *a, int64_t a_row, const void *b, int64_t ldb, float *c, int64_t ldc, int64_t m, int64_t n, int64_t depth,
                               bool add) {
    amx_product(a, a_row, b, ldb, c, ldc, m, n, depth, add);
}
#else
static void NAME(begin)(void) {}
static void NAME(end)(void) {}

enum { NAME(MR) = LANES == 16 ? 8 : 4 };

/* MR rows by nv vectors of C. `keep` NULL: C is overwritten when !add; else row i of C is multiplied by keep[i] first. */
VEC_INLINE void NAME(block)(const char *a, int64_t a_row, int64_t a_step, const char *b, int64_t b_step, float *c, int64_t ldc, int depth,
                            bool add, const float *keep, const int nv) {
    vf sum[NAME(MR)][2];
#pragma GCC unroll 8
    for (int i = 0; i < NAME(MR); i++)
#pragma GCC unroll 2
        for (int j = 0; j < nv; j++) {
            sum[i][j] = add ? vf_load(c + i * ldc + j * LANES) : vf_zero();
            if (keep) sum[i][j] *= vf_set(keep[i]);
        }
    for (int k = 0; k < depth; k++) {
        vf row[2];
#pragma GCC unroll 2
        for (int j = 0; j < nv; j++) row[j] = vf_load((const float *)(const void *)b + j * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < NAME(MR); i++)
#pragma GCC unroll 2
            for (int j = 0; j < nv; j++) sum[i][j] = NAME(step)(sum[i][j], a + i * a_row, row[j]);
        a += a_step;
        b += b_step;
    }
#pragma GCC unroll 8
    for (int i = 0; i < NAME(MR); i++)
#pragma GCC unroll 2
        for (int j = 0; j < nv; j++) vf_store(c + i * ldc + j * LANES, sum[i][j]);
}

/* C [m, n] (+)= A . B over `depth` units; strides in units (C: floats); m and n multiples of 16. */
static void NAME(product)(const void *a, int64_t a_row, int64_t a_step, const void *b, int64_t ldb, float *c, int64_t ldc, int64_t m,
                          int64_t n, int64_t depth, bool add, const float *keep) {
    for (int64_t j = 0; j < n; j += 2 * LANES) {
        for (int64_t i = 0; i < m; i += NAME(MR)) {
            const char *from = (const char *)a + i * a_row * 4, *panel = (const char *)b + j * 4;
            const float *kept = keep ? keep + i : NULL;
            if (n - j >= 2 * LANES) NAME(block)(from, a_row * 4, a_step * 4, panel, ldb * 4, c + i * ldc + j, ldc, (int)depth, add, kept, 2);
            else NAME(block)(from, a_row * 4, a_step * 4, panel, ldb * 4, c + i * ldc + j, ldc, (int)depth, add, kept, 1);
        }
    }
}

/* The same of an A whose rows lie together. */
static void NAME(rows_product)(const void *a, int64_t a_row, const void *b, int64_t ldb, float *c, int64_t ldc, int64_t m, int64_t n, int64_t depth,
                               bool add) {
    NAME(product)(a, a_row, 1, b, ldb, c, ldc, m, n, depth, add, NULL);
}
#endif

/* ==== Packing ==== */

/* d elements, then zeros up to dp */
static void NAME(load_row)(ot_span from, NAME(element) * row, int64_t d, int64_t dp) {
#if UNIT_BF16
    if (from.dtype == OT_BF16) memcpy(row, from.x, (size_t)d * sizeof *row);
    else loop_copy(from, (ot_span){row, OT_BF16}, d, false);
#else
    loop_copy(from, (ot_span){row, OT_F32}, d, false);
#endif
    memset(row + d, 0, (size_t)(dp - d) * sizeof *row);
}

#if UNIT_BF16
/* out [dp] units: element c of both rows */
VEC_INLINE void NAME(pair_rows)(const ot_bf16 *even, const ot_bf16 *odd, uint32_t *out, int64_t dp) {
    for (int64_t c = 0; c < dp; c += LANES) {
        vh a, b;
        memcpy(&a, even + c, sizeof a);
        memcpy(&b, odd + c, sizeof b);
        vu both = __builtin_convertvector(a, vu) | __builtin_convertvector(b, vu) << 16;
        memcpy(out + c, &both, sizeof both);
    }
}
#endif

typedef struct NAME(packed_keys) {
    NAME(element) * k, *v; /* [padded, dp] */
    void *k_pairs, *v_pairs; /* f32: the same as k and v; AMX: turned */
    int64_t padded;
} NAME(packed_keys);

static NAME(packed_keys) NAME(keys_at)(const ot_attention_job *job, int64_t s, int64_t kv, bool backward) {
    int64_t dp = ot_attention_padded_d(job->attr->attention.head_dim), padded = job->places[s + 1] - job->places[s];
    int64_t arrays = UNIT_BF16 && backward ? 3 : 2;
    NAME(element) *first = (NAME(element) *)(void *)job->keys + (job->places[s] * job->n_kv + kv * padded) * dp * arrays;
    NAME(element) *second = first + padded * dp, *third = second + padded * dp;
#if UNIT_BF16
    if (backward) return (NAME(packed_keys)){first, second, third, NULL, padded};
    return (NAME(packed_keys)){first, NULL, NULL, second, padded};
#else
    (void)third;
    return (NAME(packed_keys)){first, second, first, second, padded};
#endif
}

static void NAME(pack)(const ot_attention_job *job, int64_t s, int64_t kv, bool backward) {
    const ot_segment *g = &job->segments[s];
    int64_t d = job->attr->attention.head_dim, dp = ot_attention_padded_d(d), n = keys_of(job, g);
    NAME(packed_keys) to = NAME(keys_at)(job, s, kv, backward);
    NAME(element) pair[2][MAX_D];
#if UNIT_AMX
    uint32_t part[TILE / 2 * MAX_D];
#endif
    for (int64_t j = 0; j < to.padded; j++) {
        NAME(element) *k = to.k + j * dp, *v = to.v ? to.v + j * dp : pair[j % 2];
        if (j < n) {
            if (j + AHEAD < n) {
                prefetch_row(key_span(job, g, j + AHEAD, job->first_kv + kv, false), d);
                prefetch_row(key_span(job, g, j + AHEAD, job->first_kv + kv, true), d);
            }
            NAME(load_row)(key_span(job, g, j, job->first_kv + kv, false), k, d, dp);
            NAME(load_row)(key_span(job, g, j, job->first_kv + kv, true), v, d, dp);
        } else {
            memset(k, 0, (size_t)dp * sizeof *k);
            memset(v, 0, (size_t)dp * sizeof *v);
        }
#if UNIT_BF16
        if (j % 2 == 0) continue;
        uint32_t *all = backward ? to.k_pairs : to.v_pairs;
#if UNIT_AMX
        int64_t pairs = j % TILE / 2 + 1;
        NAME(pair_rows)(backward ? k - dp : pair[0], backward ? k : pair[1], part + (pairs - 1) * dp, dp);
        if (pairs == TILE / 2 || j + 1 == to.padded) turn_units(part, dp, all + j / TILE * (TILE / 2) * dp, pairs, pairs, dp);
#else
        NAME(pair_rows)(backward ? k - dp : pair[0], backward ? k : pair[1], all + j / 2 * dp, dp);
#endif
#endif
    }
}

/* Rows of a query head: as they lie [queries][dp], turned [units of dp][TILE], and paired [queries / UNITS][dp] (f32: the rows). */
typedef struct NAME(packed_queries) {
    NAME(element) rows[TILE * MAX_D];
    uint32_t turned[TILE * MAX_D / NAME(UNITS)];
} NAME(packed_queries);

static void NAME(pack_queries)(const ot_view *view, void *array, ot_head_layout layout, int64_t head, int64_t first, int queries,
                               int lanes, int64_t d, NAME(packed_queries) * to) {
    int64_t dp = ot_attention_padded_d(d), units = dp / NAME(UNITS);
    for (int i = 0; i < queries; i++) {
        prefetch_row(head_row(view, array, layout, first + i + AHEAD, head), d);
        NAME(load_row)(head_row(view, array, layout, first + i, head), to->rows + i * dp, d, dp);
    }
    memset(to->rows + queries * dp, 0, (size_t)((lanes - queries) * dp) * sizeof *to->rows);
    turn_units(to->rows, units, to->turned, TILE, lanes, units);
}

/* Lanes of a tile of n queries: whole pairs of vectors in bf16, so that two float vectors make one of bf16. */
VEC_INLINE int NAME(lanes_of)(int64_t n) {
    const int64_t pad = UNIT_BF16 ? 32 : 16;
    return (int)((n + pad - 1) / pad * pad);
}

VEC_INLINE void NAME(load_slots)(const ot_attention_job *job, int64_t row, int queries, int32_t *slots) {
    if (!job->attr->attention.window) return;
    for (int i = 0; i < TILE; i++) slots[i] = i < queries ? job->slots[row + i] : 0;
}

/* ==== Products of a tile; with a dark corner, without its keys [HALF, TILE) by queries [0, HALF) ==== */

/* scores [keys][TILE] = rows [keys][units] . turned [units][TILE] */
static void NAME(score_product)(const NAME(element) * rows, const uint32_t *turned, float *scores, const tile_view *t, int64_t units,
                                bool corner) {
    int64_t full = corner ? HALF : t->keys;
    NAME(rows_product)(rows, units, turned, TILE, scores, TILE, full, t->lanes, units, false);
    if (corner)
        NAME(rows_product)(rows + HALF * units * NAME(UNITS), units, turned + HALF, TILE, scores + HALF * TILE + HALF, TILE, t->keys - HALF,
                           t->lanes - HALF, units, false);
}

#if UNIT_AMX
/* y [dp][TILE] += turned [dp][part / 2 units] . weights paired [keys / 2][TILE], after its columns were multiplied by `keep` */
static void NAME(query_product)(const void *weights, const void *turned, float *y, const tile_view *t, int64_t dp, bool corner, const float *keep) {
    int64_t first = corner ? HALF : 0;
    for (int64_t c = 0; keep != NULL && c < dp; c++) {
        for (int l = 0; l < t->lanes; l += LANES) vf_store(y + c * TILE + l, vf_load(y + c * TILE + l) * vf_load(keep + l));
    }
    if (corner) NAME(rows_product)(turned, t->part / 2, weights, TILE, y, TILE, dp, HALF, HALF / 2, true);
    NAME(rows_product)(turned, t->part / 2, (const char *)weights + first * 4, TILE, y + first, TILE, dp, t->lanes - first, t->keys / 2, true);
}

static const float *NAME(sums_in_rows)(const float *sums, float *room, int lanes, int64_t dp) {
    turn_units(sums, TILE, room, dp, dp, lanes);
    return room;
}
#else
/* y [lanes][dp] += weights turned [keys / UNITS][TILE] . pairs [keys / UNITS][dp], after its rows were multiplied by `keep` */
static void NAME(query_product)(const void *weights, const void *pairs, float *y, const tile_view *t, int64_t dp, bool corner,
                                const float *keep) {
    int64_t depth = t->keys / NAME(UNITS), first = corner ? HALF : 0;
    if (corner) NAME(product)(weights, 1, TILE, pairs, dp, y, dp, HALF, dp, HALF / NAME(UNITS), true, keep);
    NAME(product)((const char *)weights + first * 4, 1, TILE, pairs, dp, y + first * dp, dp, t->lanes - first, dp, depth, true,
                  keep ? keep + first : NULL);
}

static const float *NAME(sums_in_rows)(const float *sums, float *room, int lanes, int64_t dp) {
    (void)room, (void)lanes, (void)dp;
    return sums;
}
#endif

/* out [keys][dp] (+)= weights [keys][lanes / UNITS] . pairs [lanes / UNITS][dp] */
static void NAME(key_product)(const void *weights, const uint32_t *pairs, float *out, const tile_view *t, int64_t dp, bool corner,
                              bool add) {
    int64_t row = TILE / NAME(UNITS), depth = t->lanes / NAME(UNITS), half = HALF / NAME(UNITS), full = corner ? HALF : t->keys;
    NAME(rows_product)(weights, row, pairs, dp, out, dp, full, dp, depth, add);
    if (corner)
        NAME(rows_product)((const char *)weights + (HALF * row + half) * 4, row, pairs + half * dp, dp, out + HALF * dp, dp, t->keys - HALF, dp,
                           depth - half, add);
}

/* ==== Forward: one tile of queries of one head, keys in order with running maximum and sum ==== */

/* Scores become probabilities, `weights`: relative to the running maximum; f32: in place, bf16: paired [keys / 2][TILE]. */
static void NAME(online_softmax)(float *scores, int keys, int lanes, float scale, float *top, float *sum, float *keep, void *weights) {
    for (int l = 0; l < lanes; l += LANES) {
        vf a = vf_set(-INFINITY), b = a, old = vf_load(top + l);
        for (int j = 0; j < keys; j += 2) {
            a = vf_max(a, vf_load(scores + j * TILE + l));
            b = vf_max(b, vf_load(scores + (j + 1) * TILE + l));
        }
        vf m = vf_max(old, vf_max(a, b) * vf_set(scale));
        vf reference = vf_less(m, vf_set(-3e38f), vf_zero(), m); /* no key seen yet: all weights become 0 */
        vf k = vf_exp(old - reference), s0 = vf_zero(), s1 = vf_zero();
        for (int j = 0; j < keys; j += 2) {
            vf p = NAME(weight)(vf_fma(vf_load(scores + j * TILE + l), vf_set(scale), -reference));
            vf q = NAME(weight)(vf_fma(vf_load(scores + (j + 1) * TILE + l), vf_set(scale), -reference));
            s0 += p;
            s1 += q;
#if UNIT_BF16
            vu both = __builtin_convertvector(vf_to_half(p), vu) | __builtin_convertvector(vf_to_half(q), vu) << 16;
            memcpy((uint32_t *)weights + j / 2 * TILE + l, &both, sizeof both);
#else
            (void)weights;
            vf_store(scores + j * TILE + l, p);
            vf_store(scores + (j + 1) * TILE + l, q);
#endif
        }
        vf_store(top + l, m);
        vf_store(keep + l, k);
        vf_store(sum + l, vf_fma(vf_load(sum + l), k, s0 + s1));
    }
}

static void NAME(forward)(const ot_attention_job *job, int64_t s, int64_t h, int64_t q_tile) {
    const ot_segment *g = &job->segments[s];
    const ot_op_attr *a = job->attr;
    int64_t d = a->attention.head_dim, dp = ot_attention_padded_d(d), units = dp / NAME(UNITS);
    int64_t group = a->attention.heads / a->attention.kv_heads, head = job->first_kv * group + h;
    int64_t i0 = q_tile * TILE, row0 = g->q0 + i0;
    int queries = (int)(g->nq - i0 < TILE ? g->nq - i0 : TILE), lanes = NAME(lanes_of)(queries);
    NAME(packed_keys) keys = NAME(keys_at)(job, s, h / group, false);
    __attribute__((aligned(64))) NAME(packed_queries) q;
    __attribute__((aligned(64))) float scores[TILE * TILE], y[TILE * MAX_D], room[UNIT_AMX ? TILE * MAX_D : 1], top[TILE], sum[TILE], keep[TILE];
#if UNIT_BF16
    __attribute__((aligned(64))) uint32_t pairs[TILE / 2 * TILE];
    const void *weights = pairs;
#else
    const void *weights = scores;
    void *pairs = NULL;
#endif
    int32_t slots[TILE];
    NAME(pack_queries)(&job->q, job->q.x, a->attention.q, head, row0, queries, lanes, d, &q);
    NAME(load_slots)(job, row0, queries, slots);
    memset(y, 0, (size_t)((UNIT_AMX ? TILE : lanes) * dp) * sizeof *y);
    NAME(begin)();
    for (int l = 0; l < TILE; l++) {
        top[l] = -INFINITY;
        sum[l] = 0.0f;
    }
    int64_t end = causal_end(job, g, i0 + queries - 1);
    for (int64_t j0 = 0; j0 < end; j0 += TILE) {
        int64_t left = (end - j0 + OT_ATTENTION_KEY_PAD - 1) / OT_ATTENTION_KEY_PAD * OT_ATTENTION_KEY_PAD;
        tile_view t = {g, head, i0, j0, (int)(left < TILE ? left : TILE), part_of_keys(keys.padded, j0), lanes, slots};
        if (beyond_window(job, &t, queries)) continue;
        bool corner = corner_is_dark(job, &t);
        NAME(score_product)(keys.k + j0 * dp, q.turned, scores, &t, units, corner);
        float scale = a->attention.scale;
        if (needs_fixing(job, &t)) {
            fix_scores(job, &t, scores);
            scale = 1.0f;
        }
        NAME(online_softmax)(scores, t.keys, lanes, scale, top, sum, keep, pairs);
        NAME(query_product)(weights, (const char *)keys.v_pairs + j0 / NAME(UNITS) * dp * 4, y, &t, dp, corner, keep);
    }
    NAME(end)();
    const float *rows = NAME(sums_in_rows)(y, room, lanes, dp);
    for (int i = 0; i < queries; i++) {
        ot_span to = ot_span_at((ot_span){job->out.x, job->out.dtype}, (row0 + i) * job->out.cols + head * d);
        loop_scale(sum[i] > 0.0f ? 1.0f / sum[i] : 0.0f, (ot_span){(float *)(uintptr_t)(rows + i * dp), OT_F32}, to, d);
    }
    if (!job->lse) return;
    for (int l = 0; l < lanes; l += LANES) vf_store(keep + l, vf_load(top + l) + vf_log(vf_load(sum + l)));
    for (int i = 0; i < queries; i++) job->lse[head * job->q.rows + row0 + i] = sum[i] > 0.0f ? keep[i] : -INFINITY;
}

/* ==== Backward: all tiles of one head; dK and dV of the head are summed in job->grads ==== */

/* From scores and their gradient dP, both [keys][TILE]: probabilities and gradients of scores times scale. f32: in place. bf16: `p` and
 * `ds` as rows of pairs of queries [keys][TILE / 2], `ds_pairs` as pairs of keys [keys / 2][TILE]. */
static void NAME(score_gradients)(float *scores, float *dp, int keys, int lanes, float scale, float factor, const float *lse,
                                  const float *delta, uint32_t *p, uint32_t *ds, uint32_t *ds_pairs) {
#if UNIT_BF16
    for (int l = 0; l < lanes; l += 2 * LANES) {
        vf lse0 = vf_load(lse + l), lse1 = vf_load(lse + l + LANES), delta0 = vf_load(delta + l), delta1 = vf_load(delta + l + LANES);
        for (int j = 0; j < keys; j += 2) {
            __m512bh g[2];
            vh g0[2], g1[2];
            for (int e = 0; e < 2; e++) {
                int at = (j + e) * TILE + l;
                vf p0 = NAME(weight)(vf_fma(vf_load(scores + at), vf_set(scale), -lse0));
                vf p1 = NAME(weight)(vf_fma(vf_load(scores + at + LANES), vf_set(scale), -lse1));
                vf s0 = p0 * (vf_load(dp + at) - delta0) * vf_set(factor);
                vf s1 = p1 * (vf_load(dp + at + LANES) - delta1) * vf_set(factor);
                __m512bh both = _mm512_cvtne2ps_pbh(p1, p0);
                g[e] = _mm512_cvtne2ps_pbh(s1, s0);
                memcpy(p + at / 2, &both, sizeof both);
                memcpy(ds + at / 2, &g[e], sizeof g[e]);
                g0[e] = (vh)_mm512_castsi512_si256((__m512i)g[e]);
                g1[e] = (vh)_mm512_extracti64x4_epi64((__m512i)g[e], 1);
            }
            vu first = __builtin_convertvector(g0[0], vu) | __builtin_convertvector(g0[1], vu) << 16;
            vu second = __builtin_convertvector(g1[0], vu) | __builtin_convertvector(g1[1], vu) << 16;
            memcpy(ds_pairs + j / 2 * TILE + l, &first, sizeof first);
            memcpy(ds_pairs + j / 2 * TILE + l + LANES, &second, sizeof second);
        }
    }
#else
    (void)p, (void)ds, (void)ds_pairs;
    for (int l = 0; l < lanes; l += LANES) {
        vf top = vf_load(lse + l), mean = vf_load(delta + l);
        for (int j = 0; j < keys; j++) {
            int at = j * TILE + l;
            vf weight = NAME(weight)(vf_fma(vf_load(scores + at), vf_set(scale), -top));
            vf_store(scores + at, weight);
            vf_store(dp + at, weight * (vf_load(dp + at) - mean) * vf_set(factor));
        }
    }
#endif
}

/* lse [lanes]: +infinity where a query sees nothing or does not exist, which makes its weights 0; delta [lanes] = dy . y */
static void NAME(load_statistics)(const ot_attention_job *job, int64_t head, int64_t row0, int queries, float *lse, float *delta) {
    int64_t d = job->attr->attention.head_dim;
    for (int i = 0; i < TILE; i++) {
        lse[i] = INFINITY;
        delta[i] = 0.0f;
        if (i >= queries) continue;
        float saved = job->lse[head * job->q.rows + row0 + i];
        if (saved > -INFINITY) lse[i] = saved;
        int64_t at = (row0 + i) * job->out.cols + head * d;
        ot_span y = ot_span_at((ot_span){job->out.x, job->out.dtype}, at), dy = ot_span_at((ot_span){job->out.dx, job->out.dtype}, at);
        prefetch_row(ot_span_at(y, AHEAD * job->out.cols), d);
        vf sum = vf_zero();
        for (int64_t c = 0; c < d; c += LANES) {
            int m = lanes_left(d, c);
            sum = vf_fma(span_load(y, c, m), span_load(dy, c, m), sum);
        }
        delta[i] = vf_sum(sum);
    }
}

#if UNIT_BF16
static void NAME(pair_queries)(const NAME(packed_queries) * q, int lanes, int64_t dp, uint32_t *pairs) {
    for (int i = 0; i < lanes; i += 2) NAME(pair_rows)(q->rows + i * dp, q->rows + (i + 1) * dp, pairs + i / 2 * dp, dp);
}
#endif

static void NAME(backward)(const ot_attention_job *job, int64_t s, int64_t h) {
    const ot_segment *g = &job->segments[s];
    const ot_op_attr *a = job->attr;
    int64_t d = a->attention.head_dim, dp = ot_attention_padded_d(d), units = dp / NAME(UNITS);
    int64_t group = a->attention.heads / a->attention.kv_heads, head = job->first_kv * group + h;
    NAME(packed_keys) keys = NAME(keys_at)(job, s, h / group, true);
    float *dk = job->grads + (job->places[s] * job->n_kv * group + h * keys.padded) * 2 * dp, *dv = dk + keys.padded * dp;
    int64_t written = 0; /* rows of dk and dv that hold sums; those after them hold nothing yet */
    __attribute__((aligned(64))) NAME(packed_queries) q, dy;
    __attribute__((aligned(64))) float scores[TILE * TILE], dscores[TILE * TILE], dq[TILE * MAX_D], room[UNIT_AMX ? TILE * MAX_D : 1], lse[TILE], delta[TILE];
#if UNIT_BF16
    __attribute__((aligned(64))) uint32_t p[TILE * TILE / 2], ds[TILE * TILE / 2], ds_pairs[TILE / 2 * TILE];
    __attribute__((aligned(64))) uint32_t q_pairs[TILE / 2 * MAX_D], dy_pairs[TILE / 2 * MAX_D];
#else
    float *p = scores, *ds = dscores, *ds_pairs = dscores, *q_pairs = q.rows, *dy_pairs = dy.rows;
#endif
    int32_t slots[TILE];
    NAME(begin)();
    for (int64_t i0 = 0; i0 < g->nq; i0 += TILE) {
        int64_t row0 = g->q0 + i0;
        int queries = (int)(g->nq - i0 < TILE ? g->nq - i0 : TILE), lanes = NAME(lanes_of)(queries);
        NAME(pack_queries)(&job->q, job->q.x, a->attention.q, head, row0, queries, lanes, d, &q);
        NAME(pack_queries)(&job->out, job->out.dx, (ot_head_layout){0, (int32_t)d}, head, row0, queries, lanes, d, &dy);
#if UNIT_BF16
        NAME(pair_queries)(&q, lanes, dp, q_pairs);
        NAME(pair_queries)(&dy, lanes, dp, dy_pairs);
#endif
        NAME(load_slots)(job, row0, queries, slots);
        NAME(load_statistics)(job, head, row0, queries, lse, delta);
        memset(dq, 0, (size_t)((UNIT_AMX ? TILE : lanes) * dp) * sizeof *dq);
        int64_t end = causal_end(job, g, i0 + queries - 1);
        for (int64_t j0 = 0; j0 < end; j0 += TILE) {
            int64_t left = (end - j0 + OT_ATTENTION_KEY_PAD - 1) / OT_ATTENTION_KEY_PAD * OT_ATTENTION_KEY_PAD;
            tile_view t = {g, head, i0, j0, (int)(left < TILE ? left : TILE), part_of_keys(keys.padded, j0), lanes, slots};
            bool skipped = beyond_window(job, &t, queries), add = j0 < written || skipped;
            if (add && j0 + t.keys > written) clear_rows(dk, dv, written > j0 ? written : j0, j0 + t.keys, dp);
            if (j0 + t.keys > written) written = j0 + t.keys;
            if (skipped) continue;
            bool corner = corner_is_dark(job, &t);
            NAME(score_product)(keys.k + j0 * dp, q.turned, scores, &t, units, corner);
            NAME(score_product)(keys.v + j0 * dp, dy.turned, dscores, &t, units, corner);
            float scale = a->attention.scale;
            if (needs_fixing(job, &t)) {
                fix_scores(job, &t, scores);
                scale = 1.0f;
            }
            NAME(score_gradients)(scores, dscores, t.keys, lanes, scale, a->attention.scale, lse, delta, (uint32_t *)(void *)p,
                                  (uint32_t *)(void *)ds, (uint32_t *)(void *)ds_pairs);
            NAME(key_product)(p, (const uint32_t *)(const void *)dy_pairs, dv + j0 * dp, &t, dp, corner, add);
            NAME(key_product)(ds, (const uint32_t *)(const void *)q_pairs, dk + j0 * dp, &t, dp, corner, add);
            NAME(query_product)(ds_pairs, (const char *)keys.k_pairs + j0 / NAME(UNITS) * dp * 4, dq, &t, dp, corner, NULL);
        }
        if (!job->q.dx) continue;
        const float *rows = NAME(sums_in_rows)(dq, room, lanes, dp);
        for (int i = 0; i < queries; i++)
            loop_copy((ot_span){(float *)(uintptr_t)(rows + i * dp), OT_F32}, head_row(&job->q, job->q.dx, a->attention.q, row0 + i, head), d, job->q.add_dx);
    }
    NAME(end)();
    clear_rows(dk, dv, written, keys.padded, dp);
}

