/* What operations mean where no fixture tells: dropout, the key/value cache, every mask of attention, grouped norms, scaled
 * embeddings. Each is compared with its definition in op.h, written out here, on every backend. */
#include "support/opcheck.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "engine/dropout.h"

/* Runs the problem forward on every backend, in F32 and in F64, and compares its output. */
static void expect_output(const opcheck_problem *p, const double *expected) {
    int runs = 0;
    for (const ot_backend *const *b = ot_backends; *b; b++)
        for (ot_dtype compute = OT_F32; compute <= OT_F64; compute++) {
            if (!(*b)->available() || !(*b)->supports(compute)) continue;
            opcheck_result r;
            opcheck_run(p, *b, compute, false, &r);
            double limit = compute == OT_F64 ? 1e-12 : 4e-6;
            opcheck_close(p->name, (*b)->name, r.out, expected, p->out.rows * p->out.cols, limit, limit);
            opcheck_result_free(&r);
            runs++;
        }
    assert_true(runs >= 2);
}

static double *expectation(opcheck_problem *p) { return opcheck_alloc(p, p->out.rows * p->out.cols, sizeof(double)); }

/* Calls `define` with every built-in problem of the kind, to fill in what is expected. */
static void check_all(ot_op_kind kind, void (*define)(const opcheck_problem *p, double *y)) {
    for (int variant = 0; variant < opcheck_variants(kind); variant++) {
        opcheck_problem p;
        opcheck_make(&p, kind, variant, 3);
        double *y = expectation(&p);
        bool exact = p.w[0].stored == OT_F32; /* other weights are rounded when they are stored */
        if (exact) define(&p, y);
        if (exact) expect_output(&p, y);
        opcheck_free(&p);
    }
}

/* ==== Simple ones ==== */

static void define_dropout(const opcheck_problem *p, double *y) {
    double rate = p->attr.dropout.p;
    uint64_t seed = ot_dropout_site_seed(p->batch.dropout_seed, p->attr.dropout.site);
    for (int64_t i = 0; i < p->out.rows * p->out.cols; i++)
        y[i] = ot_dropout_keeps(seed, i, p->attr.dropout.p) ? p->in[0].x[i] / (1 - rate) : 0;
}

static void define_keep(const opcheck_problem *p, double *y) {
    int64_t D = p->out.cols;
    memcpy(y, p->out.x, (size_t)(p->out.rows * D) * sizeof *y);
    for (int64_t r = 0; r < p->in[0].rows; r++)
        memcpy(y + p->batch.kept_rows[r] * D, p->in[0].x + r * D, (size_t)D * sizeof *y);
}

static void define_gather(const opcheck_problem *p, double *y) {
    for (int64_t i = 0; i < p->out.rows; i++)
        for (int64_t c = 0; c < p->out.cols; c++) y[i * p->out.cols + c] = p->in[0].x[p->batch.target_rows[i] * p->out.cols + c];
}

static void define_embed(const opcheck_problem *p, double *y) {
    for (int64_t r = 0; r < p->out.rows; r++)
        for (int64_t c = 0; c < p->out.cols; c++) {
            int32_t id = p->batch.ids[r];
            y[r * p->out.cols + c] = id < 0 ? p->w[1].x[(-1 - id) * p->out.cols + c] : (double)p->attr.embed.scale * p->w[0].x[id * p->out.cols + c];
        }
}

static void define_norm(const opcheck_problem *p, double *y) {
    int64_t width = p->attr.norm.width, n = p->out.rows * p->out.cols;
    for (int64_t i = 0; i < n; i++) {
        const double *group = p->in[0].x + i / width * width;
        double mean = 0, square = 0;
        for (int64_t c = 0; c < width; c++) mean += group[c] / (double)width;
        if (p->attr.norm.kind == OT_NORM_RMS) mean = 0;
        for (int64_t c = 0; c < width; c++) square += pow(group[c] - mean, 2) / (double)width;
        double gain = p->w[0].x[i % width] + (double)p->attr.norm.gain_offset;
        y[i] = (p->in[0].x[i] - mean) / sqrt(square + p->attr.norm.eps) * gain;
        if (p->w[1].x) y[i] += p->w[1].x[i % width];
    }
}

static void define_linear(const opcheck_problem *p, double *y) {
    int64_t M = p->in[0].cols, N = p->out.cols;
    for (int64_t r = 0; r < p->out.rows; r++)
        for (int64_t n = 0; n < N; n++) {
            double sum = 0;
            for (int64_t m = 0; m < M; m++)
                sum += p->in[0].x[r * M + m] * p->w[0].x[p->attr.linear.transposed ? m * N + n : n * M + m];
            y[r * N + n] = (double)p->attr.linear.scale * sum + (p->w[1].x ? p->w[1].x[n] : 0);
            if (p->attr.linear.add_out) y[r * N + n] += p->out.x[r * N + n];
        }
}

static void define_low_rank(const opcheck_problem *p, double *y) {
    int64_t M = p->in[0].cols, N = p->out.cols, rank = p->w[0].rows;
    uint64_t seed = ot_dropout_site_seed(p->batch.dropout_seed, p->attr.low_rank.site);
    double rate = (double)p->attr.low_rank.p;
    for (int64_t i = 0; i < p->out.rows * N; i++) {
        double sum = 0;
        for (int64_t k = 0; k < rank; k++)
            for (int64_t m = 0; m < M; m++) {
                int64_t at = i / N * M + m;
                bool kept = rate == 0 || ot_dropout_keeps(seed, at, p->attr.low_rank.p);
                if (kept) sum += p->in[0].x[at] / (1 - rate) * p->w[0].x[k * M + m] * p->w[1].x[i % N * rank + k];
            }
        y[i] = p->out.x[i] + (double)p->attr.low_rank.scale * sum;
    }
}

static void test_dropout(void **state) { (void)state, check_all(OT_OP_DROPOUT, define_dropout); }
static void test_keep(void **state) { (void)state, check_all(OT_OP_KEEP, define_keep); }
static void test_gather(void **state) { (void)state, check_all(OT_OP_GATHER, define_gather); }
static void test_embed(void **state) { (void)state, check_all(OT_OP_EMBED, define_embed); }
static void test_norm(void **state) { (void)state, check_all(OT_OP_NORM, define_norm); }
static void test_linear(void **state) { (void)state, check_all(OT_OP_LINEAR, define_linear); }
static void test_low_rank(void **state) { (void)state, check_all(OT_OP_LOW_RANK, define_low_rank); }

/* ==== Attention ==== */

static const double *head_of(const opcheck_problem *p, int input, ot_head_layout layout, int64_t row, int64_t head) {
    const opcheck_tensor *t = p->in[input].same_as_0 ? &p->in[0] : &p->in[input];
    return t->x + row * t->cols + layout.offset + head * layout.stride;
}

typedef struct accumulator {
    double sum, *y;
} accumulator;

/* Scores of these problems are far from overflow, so no maximum is taken off. */
static void add_key(const opcheck_problem *p, accumulator *a, const double *q, const double *k, const double *v, double bias) {
    double score = 0;
    int32_t d = p->attr.attention.head_dim;
    for (int32_t c = 0; c < d; c++) score += q[c] * k[c];
    double e = exp((double)p->attr.attention.scale * score + bias);
    a->sum += e;
    for (int32_t c = 0; c < d; c++) a->y[c] += e * v[c];
}

static bool in_window(const opcheck_problem *p, int32_t query_row, int32_t key_row) {
    int32_t distance = p->batch.slots[query_row] - p->batch.key_slots[key_row];
    return p->attr.attention.window == 0 || (distance >= 0 && distance < p->attr.attention.window);
}

static void define_attention(const opcheck_problem *p, double *y) {
    int32_t H = p->attr.attention.heads, K = p->attr.attention.kv_heads, d = p->attr.attention.head_dim;
    for (int64_t s = 0; s < p->batch.n_segments; s++) {
        ot_segment g = p->batch.segments[s];
        for (int32_t i = 0; i < g.nq; i++)
            for (int32_t h = 0; h < H; h++) {
                int32_t kv = h / (H / K), row = g.q0 + i;
                double slope = p->attr.attention.alibi ? (double)p->attr.attention.alibi[h] : 0;
                accumulator a = {.y = y + ((int64_t)row * H + h) * d};
                const double *q = head_of(p, 0, p->attr.attention.q, row, h);
                for (int32_t j = 0; j < p->attr.attention.prefix; j++)
                    add_key(p, &a, q, p->w[0].x + (j * K + kv) * d, p->w[1].x + (j * K + kv) * d,
                            slope * (j - p->attr.attention.prefix));
                for (int32_t j = 0; j < g.n_prefix; j++)
                    if (in_window(p, row, g.prefix0 + j))
                        add_key(p, &a, q, head_of(p, 1, p->attr.attention.k, g.prefix0 + j, kv),
                                head_of(p, 2, p->attr.attention.v, g.prefix0 + j, kv), slope * j);
                for (int32_t j = 0; j < g.nk; j++)
                    if (in_window(p, row, g.k0 + j) && (!p->attr.attention.causal || j <= g.nk - g.nq + i))
                        add_key(p, &a, q, head_of(p, 1, p->attr.attention.k, g.k0 + j, kv),
                                head_of(p, 2, p->attr.attention.v, g.k0 + j, kv), slope * (g.n_prefix + j));
                for (int32_t c = 0; c < d; c++) a.y[c] = a.sum > 0 ? a.y[c] / a.sum : 0;
            }
    }
}

static void test_attention(void **state) { (void)state, check_all(OT_OP_ATTENTION, define_attention); }

/* One sequence in one go, and the same token by token: prompt, then one query at a time on the growing cache. */
static void test_attention_incremental(void **state) {
    (void)state;
    enum { T = 9, PROMPT = 4, H = 2, D = 6 };
    opcheck_problem whole;
    opcheck_begin(&whole, OT_OP_ATTENTION, 1, "whole sequence");
    whole.forward_only = true;
    whole.attr.attention.heads = H;
    whole.attr.attention.kv_heads = 1;
    whole.attr.attention.head_dim = D;
    whole.attr.attention.scale = 0.5F;
    whole.attr.attention.causal = true;
    whole.attr.attention.window = 5;
    whole.attr.attention.q = whole.attr.attention.k = whole.attr.attention.v = (ot_head_layout){0, D};
    whole.in[0] = opcheck_tensor_make(&whole, T, H * D, NULL);
    whole.in[1] = opcheck_tensor_make(&whole, T, D, NULL);
    whole.in[2] = opcheck_tensor_make(&whole, T, D, NULL);
    whole.out = opcheck_tensor_make(&whole, T, H * D, NULL);
    int32_t slots[T];
    for (int32_t t = 0; t < T; t++) slots[t] = t;
    ot_segment all = {.nq = T, .nk = T};
    whole.batch = (ot_batch){.rows = T, .segments = &all, .n_segments = 1, .slots = slots, .key_slots = slots};
    opcheck_result expected;
    opcheck_run(&whole, &ot_backend_ref64, OT_F64, false, &expected);
    for (int32_t from = 0; from < T;) {
        int32_t n = from == 0 ? PROMPT : 1;
        opcheck_problem part = whole;
        ot_segment segment = {.nq = n, .nk = from + n};
        part.batch.segments = &segment;
        part.batch.slots = slots + from;
        part.batch.rows = part.in[0].rows = part.out.rows = n;
        part.in[0].x = whole.in[0].x + (int64_t)from * H * D;
        expect_output(&part, expected.out + (int64_t)from * H * D);
        from += n;
    }
    opcheck_result_free(&expected);
    opcheck_free(&whole);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dropout),   cmocka_unit_test(test_keep),
        cmocka_unit_test(test_gather),    cmocka_unit_test(test_embed),
        cmocka_unit_test(test_norm),      cmocka_unit_test(test_linear),
        cmocka_unit_test(test_attention), cmocka_unit_test(test_attention_incremental),
        cmocka_unit_test(test_low_rank),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
