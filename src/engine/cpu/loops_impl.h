/* Row and element loops of the CPU backend, compiled once for each instruction set (see vec.h): everything but matrix products and
 * attention. All static: the unit's table at its end is the only way in. */
#ifndef OT_ENGINE_CPU_LOOPS_IMPL_H
#define OT_ENGINE_CPU_LOOPS_IMPL_H

#include "base/rng.h"
#include "engine/cpu/vec.h"
#include "engine/cpu/vec_math.h"

/* ==== Copies and sums: [n] ==== */

static void loop_copy(ot_span x, ot_span y, int64_t n, bool add) {
    for (int64_t i = 0; i < n; i += LANES) {
        int m = lanes_left(n, i);
        span_put(y, i, m, span_load(x, i, m), add);
    }
}

static void loop_axpy(float s, ot_span x, ot_span y, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES) {
        int m = lanes_left(n, i);
        span_store(y, i, m, vf_fma(vf_set(s), span_load(x, i, m), span_load(y, i, m)));
    }
}

/* Several streams at once hide the latency of memory, which a single row of a large matrix does not. */
static void loop_combine(const float *s, ot_span x, int64_t stride, float *y, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES) {
        int m = lanes_left(n, i);
        vf sum = m == LANES ? vf_load(y + i) : vf_load_n(y + i, m);
        for (int k = 0; k < OT_COMBINE; k++) sum = vf_fma(vf_set(s[k]), span_load(x, k * stride + i, m), sum);
        if (m == LANES) vf_store(y + i, sum);
        else vf_store_n(y + i, sum, m);
    }
}

static void loop_scale(float s, ot_span x, ot_span y, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES) {
        int m = lanes_left(n, i);
        span_store(y, i, m, vf_set(s) * span_load(x, i, m));
    }
}

static void loop_add(ot_span a, ot_span b, ot_span y, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES) {
        int m = lanes_left(n, i);
        span_store(y, i, m, span_load(a, i, m) + span_load(b, i, m));
    }
}

/* ==== Activations: f(x), and its slope where `slope` is not NULL ==== */

VEC_INLINE vf act_relu(vf x, vf *slope) {
    if (slope) *slope = vf_less(vf_zero(), x, vf_set(1.0f), vf_zero());
    return vf_less(vf_zero(), x, x, vf_zero());
}

VEC_INLINE vf act_gelu(vf x, vf *slope) {
    vf gauss, cdf = vf_normal_cdf(x, &gauss);
    if (slope) *slope = vf_fma(x * vf_set(0.398942280f), gauss, cdf);
    return x * cdf;
}

/* (1 + tanh u) / 2 is the logistic function of 2 u. */
VEC_INLINE vf act_gelu_tanh(vf x, vf *slope) {
    vf z = x * x, root = vf_set(1.59576912f); /* 2 sqrt(2 / pi) */
    vf s = vf_sigmoid(root * vf_fma(z * x, vf_set(0.044715f), x));
    if (slope) *slope = vf_fma(x * s * (vf_set(1.0f) - s), root * vf_fma(z, vf_set(0.134145f), vf_set(1.0f)), s);
    return x * s;
}

VEC_INLINE vf act_quick_gelu(vf x, vf *slope) {
    vf s = vf_sigmoid(vf_set(1.702f) * x);
    if (slope) *slope = vf_fma(vf_set(1.702f) * x * s, vf_set(1.0f) - s, s);
    return x * s;
}

VEC_INLINE vf act_silu(vf x, vf *slope) {
    vf s = vf_sigmoid(x);
    if (slope) *slope = vf_fma(x * s, vf_set(1.0f) - s, s);
    return x * s;
}

#define LOOP_ACT(name)                                                                                                 \
    static void loop_##name(ot_span x, ot_span y, int64_t n) {                                                         \
        for (int64_t i = 0; i < n; i += LANES) {                                                                       \
            int m = lanes_left(n, i);                                                                                  \
            span_store(y, i, m, act_##name(span_load(x, i, m), NULL));                                                 \
        }                                                                                                              \
    }                                                                                                                  \
    static void loop_##name##_back(ot_span x, ot_span dy, ot_span dx, bool add, int64_t n) {                           \
        for (int64_t i = 0; i < n; i += LANES) {                                                                       \
            int m = lanes_left(n, i);                                                                                  \
            vf slope;                                                                                                  \
            act_##name(span_load(x, i, m), &slope);                                                                    \
            span_put(dx, i, m, span_load(dy, i, m) * slope, add);                                                      \
        }                                                                                                              \
    }                                                                                                                  \
    static void loop_##name##_gate(ot_span g, ot_span u, ot_span y, int64_t n) {                                       \
        for (int64_t i = 0; i < n; i += LANES) {                                                                       \
            int m = lanes_left(n, i);                                                                                  \
            span_store(y, i, m, act_##name(span_load(g, i, m), NULL) * span_load(u, i, m));                            \
        }                                                                                                              \
    }                                                                                                                  \
    static void loop_##name##_gate_back(ot_span g, ot_span u, ot_span dy, ot_span dg, bool add_dg, ot_span du,         \
                                        bool add_du, int64_t n) {                                                      \
        for (int64_t i = 0; i < n; i += LANES) {                                                                       \
            int m = lanes_left(n, i);                                                                                  \
            vf slope, up = span_load(u, i, m), d = span_load(dy, i, m);                                                \
            vf f = act_##name(span_load(g, i, m), &slope);                                                             \
            if (dg.x) span_put(dg, i, m, d * up * slope, add_dg);                                                      \
            if (du.x) span_put(du, i, m, d * f, add_du);                                                               \
        }                                                                                                              \
    }
LOOP_ACT(relu)
LOOP_ACT(gelu)
LOOP_ACT(gelu_tanh)
LOOP_ACT(quick_gelu)
LOOP_ACT(silu)

#define ACT_SWITCH(suffix, ...)                                                                                        \
    switch (kind) {                                                                                                    \
    case OT_ACT_RELU: loop_relu##suffix(__VA_ARGS__); break;                                                           \
    case OT_ACT_GELU: loop_gelu##suffix(__VA_ARGS__); break;                                                           \
    case OT_ACT_GELU_TANH: loop_gelu_tanh##suffix(__VA_ARGS__); break;                                                 \
    case OT_ACT_QUICK_GELU: loop_quick_gelu##suffix(__VA_ARGS__); break;                                               \
    case OT_ACT_SILU: loop_silu##suffix(__VA_ARGS__); break;                                                           \
    case OT_ACT_COUNT: break;                                                                                          \
    }

static void loop_act(ot_act_kind kind, ot_span x, ot_span y, int64_t n) { ACT_SWITCH(, x, y, n) }

static void loop_act_back(ot_act_kind kind, ot_span x, ot_span dy, ot_span dx, bool add, int64_t n) {
    ACT_SWITCH(_back, x, dy, dx, add, n)
}

static void loop_gate(ot_act_kind kind, ot_span g, ot_span u, ot_span y, int64_t n) { ACT_SWITCH(_gate, g, u, y, n) }

static void loop_gate_back(ot_act_kind kind, ot_span g, ot_span u, ot_span dy, ot_span dg, bool add_dg, ot_span du, bool add_du,
                           int64_t n) {
    ACT_SWITCH(_gate_back, g, u, dy, dg, add_dg, du, add_du, n)
}

/* ==== Norms: groups of x [groups, width] ==== */

VEC_INLINE vf norm_gain(const ot_norm_job *job, int64_t c, int m) {
    if (!job->gain) return vf_set(1.0f);
    return (m == LANES ? vf_load(job->gain + c) : vf_load_n(job->gain + c, m)) + vf_set(job->gain_offset);
}

/* Lanes past the row's end are zero in every sum. */
VEC_INLINE vf lanes_only(vf x, int m) {
    if (m == LANES) return x;
    float t[LANES];
    vf_store(t, x);
    return vf_load_n(t, m);
}

static void loop_norm(const ot_norm_job *job, int64_t first, int64_t groups) {
    int64_t w = job->width;
    for (int64_t g = first; g < first + groups; g++) {
        ot_span x = ot_span_at(job->x, g * w), y = ot_span_at(job->y, g * w);
        vf s0 = vf_zero(), s1 = vf_zero();
        float mean = 0.0f;
        if (job->layer) {
            for (int64_t c = 0; c < w; c += 2 * LANES) {
                s0 += span_load(x, c, lanes_left(w, c));
                if (c + LANES < w) s1 += span_load(x, c + LANES, lanes_left(w, c + LANES));
            }
            mean = vf_sum(s0 + s1) / (float)w;
            s0 = s1 = vf_zero();
        }
        vf mu = vf_set(mean);
        for (int64_t c = 0; c < w; c += 2 * LANES) {
            int m = lanes_left(w, c);
            vf d = lanes_only(span_load(x, c, m) - mu, m);
            s0 = vf_fma(d, d, s0);
            if (c + LANES >= w) break;
            m = lanes_left(w, c + LANES);
            d = lanes_only(span_load(x, c + LANES, m) - mu, m);
            s1 = vf_fma(d, d, s1);
        }
        float inv = 1.0f / sqrtf(vf_sum(s0 + s1) / (float)w + job->eps);
        for (int64_t c = 0; c < w; c += LANES) {
            int m = lanes_left(w, c);
            vf v = (span_load(x, c, m) - mu) * vf_set(inv) * norm_gain(job, c, m);
            if (job->bias) v += m == LANES ? vf_load(job->bias + c) : vf_load_n(job->bias + c, m);
            span_store(y, c, m, v);
        }
        if (job->save) {
            job->save[2 * g] = mean;
            job->save[2 * g + 1] = inv;
        }
    }
}

/* With n = (x - mean) inv and u = dy gain: dx = inv (u - mean(u) - n mean(u n)); an RMS norm has no mean(u). */
static void loop_norm_back(const ot_norm_job *job, int64_t first, int64_t groups, float *partial) {
    int64_t w = job->width;
    if (partial) memset(partial, 0, (size_t)(2 * w) * sizeof *partial);
    for (int64_t g = first; g < first + groups; g++) {
        ot_span x = ot_span_at(job->x, g * w), dy = ot_span_at(job->dy, g * w);
        vf mu = vf_set(job->layer ? job->save[2 * g] : 0.0f), inv = vf_set(job->save[2 * g + 1]);
        vf sum_u = vf_zero(), sum_un = vf_zero();
        for (int64_t c = 0; c < w; c += LANES) {
            int m = lanes_left(w, c);
            vf n = (span_load(x, c, m) - mu) * inv, d = span_load(dy, c, m), u = d * norm_gain(job, c, m);
            sum_u += u;
            sum_un = vf_fma(u, n, sum_un);
            if (!partial) continue;
            float *dgain = partial + c, *dbias = partial + w + c;
            if (m == LANES) {
                vf_store(dgain, vf_fma(d, n, vf_load(dgain)));
                vf_store(dbias, d + vf_load(dbias));
            } else {
                vf_store_n(dgain, vf_fma(d, n, vf_load_n(dgain, m)), m);
                vf_store_n(dbias, d + vf_load_n(dbias, m), m);
            }
        }
        if (!job->dx.x) continue;
        ot_span dx = ot_span_at(job->dx, g * w);
        vf mean_u = vf_set(job->layer ? vf_sum(sum_u) / (float)w : 0.0f), mean_un = vf_set(vf_sum(sum_un) / (float)w);
        for (int64_t c = 0; c < w; c += LANES) {
            int m = lanes_left(w, c);
            vf n = (span_load(x, c, m) - mu) * inv, u = span_load(dy, c, m) * norm_gain(job, c, m);
            span_put(dx, c, m, inv * (vf_fnma(n, mean_un, u) - mean_u), job->add_dx);
        }
    }
}

/* ==== The rest ==== */

/* See engine/dropout.h. */
enum { DROPOUT_WORD = 32, DROPOUT_HASHES = DROPOUT_WORD / OT_DROPOUT_SHARE };
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the lowest bits of a hash, the first element's, lie first");

/* Which of 32 numbers reach the threshold? */
VEC_INLINE uint32_t dropout_reach(const uint16_t *x, uint32_t threshold) {
    if (threshold > UINT16_MAX) return 0;
#if OT_ISA >= OT_ISA_AVX512
    return _mm512_cmpge_epu16_mask(_mm512_loadu_si512(x), _mm512_set1_epi16((short)threshold));
#elif OT_ISA == OT_ISA_AVX2
    __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)x), b = _mm256_loadu_si256((const __m256i *)(const void *)(x + 16));
    __m256i least = _mm256_set1_epi16((short)threshold);
    a = _mm256_cmpeq_epi16(_mm256_max_epu16(a, least), a);
    b = _mm256_cmpeq_epi16(_mm256_max_epu16(b, least), b);
    return (uint32_t)_mm256_movemask_epi8(_mm256_permute4x64_epi64(_mm256_packs_epi16(a, b), 0xd8));
#else
    uint32_t word = 0;
    for (int i = 0; i < DROPOUT_WORD; i++) word |= (uint32_t)(x[i] >= threshold) << i;
    return word;
#endif
}

static void loop_dropout_bits(uint32_t *bits, int64_t words, const ot_dropout_mask *mask, int64_t first) {
    int64_t inside = first % OT_DROPOUT_SHARE; /* of the first hash */
    for (int64_t w = 0; w < words; w++) {
        uint64_t hashes[DROPOUT_HASHES + 1], at = mask->seed + ((uint64_t)(first + w * DROPOUT_WORD) / OT_DROPOUT_SHARE + 1) * OT_RNG_STEP;
        uint16_t parts[(DROPOUT_HASHES + 1) * OT_DROPOUT_SHARE];
        for (int i = 0; i < DROPOUT_HASHES; i++) hashes[i] = ot_rng_mix(at + (uint64_t)i * OT_RNG_STEP);
        hashes[DROPOUT_HASHES] = inside == 0 ? 0 : ot_rng_mix(at + DROPOUT_HASHES * OT_RNG_STEP);
        memcpy(parts, hashes, sizeof parts);
        bits[w] = dropout_reach(parts + inside, mask->threshold);
    }
}

static void loop_dropout(ot_span x, ot_span y, int64_t n, bool add, const ot_dropout_mask *mask, int64_t first) {
    for (int64_t b = 0; b < n; b += DROPOUT_WORD) {
        uint32_t bits = 0;
        loop_dropout_bits(&bits, 1, mask, first + b);
        for (int64_t i = b; i < n && i < b + DROPOUT_WORD; i += LANES) {
            int m = lanes_left(n, i);
            span_put(y, i, m, vf_keep(span_load(x, i, m), bits >> (i - b)) * vf_set(mask->factor), add);
        }
    }
}

static void loop_rope(ot_span x, const float *cosine, const float *sine, int64_t half, float direction) {
    for (int64_t i = 0; i < half; i += LANES) {
        int m = lanes_left(half, i);
        vf c = m == LANES ? vf_load(cosine + i) : vf_load_n(cosine + i, m);
        vf s = vf_set(direction) * (m == LANES ? vf_load(sine + i) : vf_load_n(sine + i, m));
        vf a = span_load(x, i, m), b = span_load(x, half + i, m);
        span_store(x, i, m, vf_fnma(b, s, a * c));
        span_store(x, half + i, m, vf_fma(a, s, b * c));
    }
}

static void loop_column_sum(ot_span x, int64_t stride, int64_t rows, int64_t n, float *sum) {
    int64_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        vf s[4];
        for (int j = 0; j < 4; j++) s[j] = vf_load(sum + i + j * LANES);
        for (int64_t r = 0; r < rows; r++)
            for (int j = 0; j < 4; j++) s[j] += span_load(x, r * stride + i + j * LANES, LANES);
        for (int j = 0; j < 4; j++) vf_store(sum + i + j * LANES, s[j]);
    }
    for (; i < n; i += LANES) {
        int m = lanes_left(n, i);
        vf s = m == LANES ? vf_load(sum + i) : vf_load_n(sum + i, m);
        for (int64_t r = 0; r < rows; r++) s += span_load(x, r * stride + i, m);
        if (m == LANES) vf_store(sum + i, s);
        else vf_store_n(sum + i, s, m);
    }
}

#define LOOP_DOTS(R)                                                                                                   \
    VEC_INLINE void dots_##R(ot_span w, const float *x, int64_t ldx, int64_t n, float *out) {                          \
        vf s[R], t[R];                                                                                                 \
        for (int r = 0; r < R; r++) s[r] = t[r] = vf_zero();                                                           \
        int64_t i = 0;                                                                                                 \
        for (; i + 2 * LANES <= n; i += 2 * LANES) {                                                                   \
            vf a = span_load(w, i, LANES), b = span_load(w, i + LANES, LANES);                                         \
            for (int r = 0; r < R; r++) {                                                                              \
                s[r] = vf_fma(a, vf_load(x + r * ldx + i), s[r]);                                                      \
                t[r] = vf_fma(b, vf_load(x + r * ldx + i + LANES), t[r]);                                              \
            }                                                                                                          \
        }                                                                                                              \
        for (; i < n; i += LANES) {                                                                                    \
            int m = lanes_left(n, i);                                                                                  \
            vf a = span_load(w, i, m);                                                                                 \
            for (int r = 0; r < R; r++) {                                                                              \
                vf v = m == LANES ? vf_load(x + r * ldx + i) : vf_load_n(x + r * ldx + i, m);                          \
                s[r] = vf_fma(a, v, s[r]);                                                                             \
            }                                                                                                          \
        }                                                                                                              \
        for (int r = 0; r < R; r++) out[r] += vf_sum(s[r] + t[r]);                                                     \
    }
LOOP_DOTS(1)
LOOP_DOTS(2)
LOOP_DOTS(3)
LOOP_DOTS(4)

static void loop_dots(ot_span w, const float *x, int64_t ldx, int R, int64_t n, float *out) {
    switch (R) {
    case 1: dots_1(w, x, ldx, n, out); break;
    case 2: dots_2(w, x, ldx, n, out); break;
    case 3: dots_3(w, x, ldx, n, out); break;
    default: dots_4(w, x, ldx, n, out); break;
    }
}

/* Adds the bias to the logits; the largest of them. */
static float loop_top(float *logits, const float *bias, int64_t n) {
    vf tops = vf_set(-INFINITY);
    for (int64_t i = 0; i < n; i += LANES) {
        int m = lanes_left(n, i);
        if (m == LANES) {
            vf x = vf_load(logits + i);
            if (bias) vf_store(logits + i, x += vf_load(bias + i));
            tops = vf_max(tops, x);
            continue;
        }
        for (int64_t j = i; j < n; j++) {
            if (bias) logits[j] += bias[j];
            tops = vf_max(tops, vf_set(logits[j]));
        }
    }
    return vf_top(tops);
}

static double loop_softmax_loss_sums16(float *logits, const float *bias, int64_t n, int64_t target) {
    enum { SUMS = 16, VECTORS = SUMS / LANES };
    float top = loop_top(logits, bias, n), sums[SUMS];
    vf sum[VECTORS];
    for (int k = 0; k < VECTORS; k++) sum[k] = vf_zero();
    int64_t i = 0;
    for (; i + SUMS <= n; i += SUMS) {
        for (int k = 0; k < VECTORS; k++) sum[k] += vf_exp(vf_load(logits + i + k * LANES) - vf_set(top));
    }
    for (int k = 0; i < n; i += LANES, k++) {
        int m = lanes_left(n, i);
        sum[k] += lanes_only(vf_exp(vf_load_n(logits + i, m) - vf_set(top)), m);
    }
    for (int k = 0; k < VECTORS; k++) vf_store(sums + k * LANES, sum[k]);
    for (int half = SUMS / 2; half > 0; half /= 2) {
        for (int k = 0; k < half; k++) sums[k] += sums[k + half];
    }
    return -(double)((logits[target] - top) - logf(sums[0]));
}

/* Exponentials replace the logits between the second and the third walk. The gradient may be written over them: bf16 element i lies
 * before or in what was read of float element i. */
static double loop_softmax_loss(float *logits, const float *bias, int64_t n, int64_t target, float scale, ot_span gradient) {
    float top = loop_top(logits, bias, n), at_target = logits[target];
    vf s0 = vf_zero(), s1 = vf_zero();
    int64_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        vf a = vf_exp(vf_load(logits + i) - vf_set(top)), b = vf_exp(vf_load(logits + i + LANES) - vf_set(top));
        s0 += a;
        s1 += b;
        if (!gradient.x) continue;
        vf_store(logits + i, a);
        vf_store(logits + i + LANES, b);
    }
    for (; i < n; i += LANES) {
        int m = lanes_left(n, i);
        vf a = lanes_only(vf_exp((m == LANES ? vf_load(logits + i) : vf_load_n(logits + i, m)) - vf_set(top)), m);
        s0 += a;
        if (!gradient.x) continue;
        if (m == LANES) vf_store(logits + i, a);
        else vf_store_n(logits + i, a, m);
    }
    double sum = (double)vf_sum(s0 + s1), loss = (double)top + log(sum) - (double)at_target;
    if (!gradient.x) return loss;
    float at = (float)(scale * ((double)logits[target] / sum - 1.0));
    vf factor = vf_set((float)(scale / sum));
    for (i = 0; i < n; i += LANES) {
        int m = lanes_left(n, i);
        span_store(gradient, i, m, factor * (m == LANES ? vf_load(logits + i) : vf_load_n(logits + i, m)));
    }
    if (gradient.dtype == OT_F32) ((float *)gradient.x)[target] = at;
    else ((ot_bf16 *)gradient.x)[target] = ot_f32_to_bf16(at);
    return loss;
}

/* logits *= s; returns log of the sum of exponentials, summed in float over stretches that are added up in double. */
static double loop_log_sum(float *logits, int64_t n, float s) {
    enum { STRETCH = 4096 };
    float top = loop_top(logits, NULL, n) * s;
    double sum = 0;
    for (int64_t from = 0; from < n; from += STRETCH) {
        int64_t end = n - from < STRETCH ? n : from + STRETCH;
        vf part = vf_zero();
        for (int64_t i = from; i < end; i += LANES) {
            int m = lanes_left(end, i);
            vf x = (m == LANES ? vf_load(logits + i) : vf_load_n(logits + i, m)) * vf_set(s);
            if (m == LANES) vf_store(logits + i, x);
            else vf_store_n(logits + i, x, m);
            part += lanes_only(vf_exp(x - vf_set(top)), m);
        }
        sum += (double)vf_sum(part);
    }
    return (double)top + log(sum);
}

/* Each term as p (log p - log q), not as a difference of large sums: where student and teacher agree, little is left. */
static double loop_divergence(float *student, float *teacher, int64_t n, float s, float scale, ot_span gradient) {
    enum { STRETCH = 4096 };
    vf of_student = vf_set((float)loop_log_sum(student, n, s)), of_teacher = vf_set((float)loop_log_sum(teacher, n, s));
    double sum = 0;
    for (int64_t from = 0; from < n; from += STRETCH) {
        int64_t end = n - from < STRETCH ? n : from + STRETCH;
        vf part = vf_zero();
        for (int64_t i = from; i < end; i += LANES) {
            int m = lanes_left(end, i);
            vf log_q = (m == LANES ? vf_load(student + i) : vf_load_n(student + i, m)) - of_student;
            vf log_p = (m == LANES ? vf_load(teacher + i) : vf_load_n(teacher + i, m)) - of_teacher, p = vf_exp(log_p);
            part += lanes_only(p * (log_p - log_q), m);
            if (gradient.x) span_store(gradient, i, m, vf_set(scale) * (vf_exp(log_q) - p));
        }
        sum += (double)vf_sum(part);
    }
    return sum;
}

#endif
