/* The built-in problems of every operation: one table of shapes a kind, odd sizes and every branch of the attributes. */
#include "support/opcheck.h"

#include <math.h>
#include <string.h>

#define COUNT(table) ((int)(sizeof(table) / sizeof(table)[0]))

static opcheck_tensor without_gradient(opcheck_tensor t) {
    t.wanted = false;
    return t;
}

static opcheck_tensor wide(opcheck_tensor t, bool is_wide) {
    t.wide = is_wide;
    return t;
}

static opcheck_tensor adding(opcheck_tensor t, bool add) {
    t.add = add;
    return t;
}

/* Quantised weights are frozen. */
static opcheck_tensor stored(opcheck_tensor t, ot_dtype dtype) {
    t.stored = dtype;
    t.wanted = !ot_dtype_is_quantised(dtype);
    return t;
}

/* Increasing rows 0 <= row < rows, `count` of them. */
static int32_t *some_rows(opcheck_problem *p, int64_t rows, int64_t count) {
    int32_t *picked = opcheck_alloc(p, count, sizeof *picked);
    int64_t left = count, n = 0;
    for (int64_t r = 0; r < rows; r++)
        if ((int64_t)ot_rng_below(&p->rng, (uint64_t)(rows - r)) < left) {
            picked[n++] = (int32_t)r;
            left--;
        }
    return picked;
}

static int32_t *random_ints(opcheck_problem *p, int64_t count, int64_t below) {
    int32_t *ints = opcheck_alloc(p, count, sizeof *ints);
    for (int64_t i = 0; i < count; i++) ints[i] = (int32_t)ot_rng_below(&p->rng, (uint64_t)below);
    return ints;
}

/* ==== EMBED, POSITION ==== */

static const struct embed_case {
    int64_t rows, vocabulary, cols;
    float scale;
    int32_t padding_id;
    ot_dtype stored;
    int64_t virtual_tokens;
} embed_cases[] = {
    {1, 1, 1, 1, -1, OT_F32, 0},    {7, 3, 5, 1, 1, OT_F32, 0},       {19, 40, 24, 4.898979F, -1, OT_F32, 0}, {9, 11, 8, 1, 0, OT_BF16, 0},
    {12, 9, 16, 0.5F, -1, OT_F16, 0}, {5, 6, 64, 1, -1, OT_Q8_0, 0},  {6, 10, 96, 2, -1, OT_Q4_0, 0},         {300, 17, 33, 1, -1, OT_F32, 0},
    {19, 8, 24, 3, -1, OT_F32, 4},  {14, 6, 300, 1, 1, OT_BF16, 2},   {9, 10, 64, 2, -1, OT_Q8_0, 1},
};

static void make_embed(opcheck_problem *p, int variant, uint64_t seed) {
    const struct embed_case *c = &embed_cases[variant];
    opcheck_begin(p, OT_OP_EMBED, seed, "%lld ids of %lld, %lld wide, scale %g, padding %d, %s, %lld virtual tokens", (long long)c->rows,
                  (long long)c->vocabulary, (long long)c->cols, (double)c->scale, c->padding_id, ot_dtype_info(c->stored)->name,
                  (long long)c->virtual_tokens);
    p->attr.embed.scale = c->scale;
    p->attr.embed.padding_id = c->padding_id;
    p->w[0] = stored(opcheck_tensor_make(p, c->vocabulary, c->cols, NULL), c->stored);
    p->out = wide(opcheck_tensor_make(p, c->rows, c->cols, NULL), true);
    int32_t *ids = random_ints(p, c->rows, c->vocabulary + c->virtual_tokens);
    for (int64_t r = 0; r < c->rows; r++) ids[r] -= (int32_t)c->virtual_tokens;
    p->batch.ids = ids;
    /* As they are trained: never in a narrow type. */
    if (c->virtual_tokens > 0) p->w[1] = opcheck_tensor_make(p, c->virtual_tokens, c->cols, NULL);
}

static const struct position_case {
    int64_t rows, table, cols;
    int32_t offset;
    bool add;
    ot_dtype stored;
} position_cases[] = {{1, 1, 1, 0, false, OT_F32},  {7, 6, 5, 2, true, OT_F32},   {40, 10, 24, 0, false, OT_F32},
                      {9, 12, 32, 2, false, OT_F16}, {11, 8, 16, 0, true, OT_BF16}, {64, 66, 129, 2, false, OT_F32}};

static void make_position(opcheck_problem *p, int variant, uint64_t seed) {
    const struct position_case *c = &position_cases[variant];
    opcheck_begin(p, OT_OP_POSITION, seed, "%lld rows, table %lld x %lld, offset %d, %s", (long long)c->rows, (long long)c->table,
                  (long long)c->cols, c->offset, c->add ? "add_dx" : "overwrite");
    p->attr.position.offset = c->offset;
    p->in[0] = wide(adding(opcheck_tensor_make(p, c->rows, c->cols, NULL), c->add), true);
    p->w[0] = stored(opcheck_tensor_make(p, c->table, c->cols, NULL), c->stored);
    p->out = wide(opcheck_tensor_make(p, c->rows, c->cols, NULL), true);
    p->batch.positions = random_ints(p, c->rows, c->table - c->offset);
}

/* ==== NORM ==== */

static const struct norm_case {
    ot_norm_kind kind;
    int64_t rows, cols;
    int32_t width;
    bool bias, add, wide_in, wide_out;
    float gain_offset;
    double eps;
} norm_cases[] = {
    {OT_NORM_LAYER, 1, 3, 3, true, false, true, false, 0, 1e-5},
    {OT_NORM_LAYER, 5, 24, 24, true, true, true, false, 0, 1e-5},
    {OT_NORM_LAYER, 7, 33, 33, false, false, true, false, 0, 1e-12},
    {OT_NORM_LAYER, 70, 770, 770, true, true, true, true, 0, 1e-5},
    {OT_NORM_LAYER, 6, 40, 8, true, false, false, false, 0, 1e-5},
    {OT_NORM_RMS, 5, 10, 10, false, false, true, false, 0, 1e-6},
    {OT_NORM_RMS, 9, 33, 33, false, true, true, true, 1, 1e-6},
    {OT_NORM_RMS, 8, 24, 6, false, false, false, false, 0, 1e-6},
    {OT_NORM_RMS, 130, 192, 64, false, true, false, false, 1, 1e-6},
    {OT_NORM_RMS, 65, 1030, 1030, false, false, true, false, 0, 1e-5},
};

static void make_norm(opcheck_problem *p, int variant, uint64_t seed) {
    const struct norm_case *c = &norm_cases[variant];
    opcheck_begin(p, OT_OP_NORM, seed, "%s, %lld x %lld in groups of %d, %s, gain offset %g, %s",
                  c->kind == OT_NORM_LAYER ? "layer" : "rms", (long long)c->rows, (long long)c->cols, c->width,
                  c->bias ? "bias" : "no bias", (double)c->gain_offset, c->add ? "add_dx" : "overwrite");
    p->attr.norm.kind = c->kind;
    p->attr.norm.width = c->width;
    p->attr.norm.eps = c->eps;
    p->attr.norm.gain_offset = c->gain_offset;
    p->in[0] = adding(opcheck_tensor_make(p, c->rows, c->cols, opcheck_random(p, c->rows * c->cols, 2, 1)), c->add);
    p->in[0].wide = c->wide_in;
    p->w[0] = opcheck_tensor_make(p, 1, c->width, NULL);
    if (c->bias) p->w[1] = opcheck_tensor_make(p, 1, c->width, NULL);
    p->out = wide(opcheck_tensor_make(p, c->rows, c->cols, NULL), c->wide_out);
}

/* ==== LINEAR ==== */

static const struct linear_case {
    int64_t rows, m, n;
    bool transposed, bias, add_out, add;
    float scale;
    ot_dtype stored;
    bool wide_in, wide_out;
} linear_cases[] = {
    {1, 1, 1, false, false, false, false, 1, OT_F32, false, false},
    {3, 10, 12, false, true, false, false, 1, OT_F32, false, false},
    {5, 17, 7, true, true, false, true, 1, OT_F32, false, false},
    {6, 24, 4, false, false, true, false, 8, OT_F32, false, false},
    {6, 4, 19, false, false, true, true, 8, OT_F32, true, true},
    {9, 12, 31, true, true, true, false, 0.25F, OT_F32, false, true},
    {1, 65, 130, false, true, false, false, 1, OT_F32, false, false},
    {33, 65, 130, false, true, false, true, 1, OT_F32, true, false},
    {70, 130, 66, true, true, false, false, 1, OT_F32, false, false},
    {8, 40, 24, false, true, false, false, 1, OT_BF16, false, false},
    {8, 24, 40, true, true, false, true, 1, OT_BF16, false, false},
    {8, 40, 24, false, false, false, false, 1, OT_F16, false, false},
    {8, 64, 24, false, true, false, false, 1, OT_Q8_0, false, false},
    {8, 96, 10, false, false, false, true, 1, OT_Q4_0, false, false},
    {5, 10, 64, true, true, false, false, 1, OT_Q4_1, false, false},
    {160, 256, 192, false, true, false, false, 1, OT_F32, false, false},
    {37, 70, 4, false, false, false, true, 2, OT_F32, false, false},
    {71, 6, 83, false, false, true, true, 0.5F, OT_F32, false, false},
    {40, 48, 13, false, false, false, false, 1, OT_BF16, true, false},
    {66, 16, 129, false, false, true, false, 3, OT_BF16, false, true},
    {5, 1, 64, false, false, false, false, 1, OT_F32, false, false},
};

static void make_linear(opcheck_problem *p, int variant, uint64_t seed) {
    const struct linear_case *c = &linear_cases[variant];
    opcheck_begin(p, OT_OP_LINEAR, seed, "%lld rows, %lld to %lld, %s%s%s%sscale %g, %s", (long long)c->rows, (long long)c->m,
                  (long long)c->n, c->transposed ? "transposed, " : "", c->bias ? "bias, " : "", c->add_out ? "add_out, " : "",
                  c->add ? "add_dx, " : "", (double)c->scale, ot_dtype_info(c->stored)->name);
    p->attr.linear.transposed = c->transposed;
    p->attr.linear.add_out = c->add_out;
    p->attr.linear.scale = c->scale;
    p->in[0] = wide(adding(opcheck_tensor_make(p, c->rows, c->m, NULL), c->add), c->wide_in);
    p->w[0] = stored(opcheck_tensor_make(p, c->transposed ? c->m : c->n, c->transposed ? c->n : c->m, NULL), c->stored);
    if (c->bias) p->w[1] = opcheck_tensor_make(p, 1, c->n, NULL);
    p->out = wide(opcheck_tensor_make(p, c->rows, c->n, NULL), c->wide_out);
    p->out.filled = c->add_out;
}

/* ==== ROPE ==== */

static const struct rope_case {
    int64_t rows, cols;
    int32_t heads, head_dim, rotary_dim, table;
    ot_head_layout layout;
} rope_cases[] = {{1, 2, 1, 2, 2, 0, {0, 2}},     {6, 30, 3, 10, 10, 0, {0, 10}},   {7, 48, 2, 8, 4, 1, {0, 8}},
                  {9, 60, 2, 10, 10, 0, {20, 10}}, {5, 72, 3, 8, 8, 1, {8, 24}}, {70, 256, 4, 64, 64, 0, {0, 64}}};

static void make_rope(opcheck_problem *p, int variant, uint64_t seed) {
    const struct rope_case *c = &rope_cases[variant];
    opcheck_begin(p, OT_OP_ROPE, seed, "%lld rows, %d of %d columns of %d heads at %d + %d h in %lld", (long long)c->rows,
                  c->rotary_dim, c->head_dim, c->heads, c->layout.offset, c->layout.stride, (long long)c->cols);
    p->attr.rope.heads = c->heads;
    p->attr.rope.head_dim = c->head_dim;
    p->attr.rope.rotary_dim = c->rotary_dim;
    p->attr.rope.layout = c->layout;
    p->attr.rope.table = c->table;
    int64_t half = c->rotary_dim / 2;
    float *cosines = opcheck_alloc(p, c->rows * half, sizeof *cosines), *sines = opcheck_alloc(p, c->rows * half, sizeof *sines);
    for (int64_t i = 0; i < c->rows * half; i++) {
        double angle = 100 * ot_rng_normal(&p->rng);
        cosines[i] = (float)cos(angle);
        sines[i] = (float)sin(angle);
    }
    p->batch.rope[c->table] = (ot_rope_table){cosines, sines, (int32_t)half};
    p->in[0] = opcheck_tensor_make(p, c->rows, c->cols, NULL);
    p->out = opcheck_tensor_make(p, c->rows, c->cols, p->in[0].x);
}

/* ==== ATTENTION ==== */

typedef enum layout { APART, BLOCKS, INTERLEAVED } layout; /* q, k, v in three values, or in one: [q | k | v], [H, 3, d] */

static const struct attention_case {
    int32_t heads, kv_heads, head_dim, prefix, window;
    bool causal, alibi, add, blind; /* blind: slots that hide all keys from the second segment */
    layout layout;
    int32_t lengths[4];
} attention_cases[] = {
    {1, 1, 1, 0, 0, true, false, false, false, APART, {1}},
    {3, 3, 4, 0, 0, true, false, false, false, APART, {5}},
    {4, 2, 3, 0, 0, true, false, true, false, APART, {7, 1, 4}},
    {5, 1, 6, 0, 0, false, false, false, false, APART, {6, 3}},
    {2, 1, 8, 0, 3, true, false, false, false, APART, {9, 5}},
    {3, 3, 5, 0, 0, true, true, true, false, APART, {6, 4}},
    {4, 2, 8, 4, 0, true, false, false, false, APART, {5, 3}},
    {6, 3, 7, 3, 2, true, true, true, false, APART, {6, 2, 5}},
    {3, 3, 8, 0, 0, true, false, false, false, BLOCKS, {6, 5}},
    {4, 2, 6, 0, 0, true, false, true, false, BLOCKS, {4, 7}},
    {3, 3, 4, 0, 0, true, true, false, false, INTERLEAVED, {5, 6}},
    {2, 2, 4, 0, 4, false, false, false, false, APART, {8}},
    {2, 1, 4, 0, 4, true, false, false, true, APART, {5, 6}},
    {2, 2, 16, 2, 0, false, true, false, false, BLOCKS, {3, 9}},
    {2, 2, 64, 0, 0, true, false, false, false, APART, {33, 70}},
    {4, 2, 80, 0, 24, true, false, true, false, APART, {67, 20}},
    {1, 1, 128, 3, 0, false, false, false, false, APART, {65, 17}},
};

/* Decoding: shared prefix rows, cached keys, several queries of one sequence; forward only. */
static const struct decode_case {
    int32_t heads, kv_heads, head_dim, prefix, window;
    bool alibi;
    int32_t cache;
    int32_t n_segments;
    ot_segment segments[4];
} decode_cases[] = {
    {4, 2, 8, 0, 0, false, 20, 2, {{.q0 = 0, .nq = 1, .k0 = 0, .nk = 7}, {.q0 = 1, .nq = 1, .k0 = 9, .nk = 11}}},
    {3, 3, 5, 0, 0, true, 16, 1, {{.q0 = 0, .nq = 4, .k0 = 3, .nk = 9}}},
    {4, 1, 6, 0, 0, true, 22, 3,
     {{.q0 = 0, .nq = 3, .k0 = 6, .nk = 3, .n_prefix = 6}, {.q0 = 3, .nq = 5, .k0 = 9, .nk = 5, .n_prefix = 6},
      {.q0 = 8, .nq = 1, .k0 = 14, .nk = 8, .n_prefix = 6}}},
    {2, 2, 64, 2, 4, true, 40, 2,
     {{.q0 = 0, .nq = 3, .k0 = 20, .nk = 5, .prefix0 = 2, .n_prefix = 4},
      {.q0 = 3, .nq = 2, .k0 = 30, .nk = 2, .prefix0 = 7, .n_prefix = 3}}},
};

static float *slopes(opcheck_problem *p, int32_t heads) {
    float *alibi = opcheck_alloc(p, heads, sizeof *alibi);
    for (int32_t h = 0; h < heads; h++) alibi[h] = (float)exp2(-1.0 - h);
    return alibi;
}

static void make_prefix(opcheck_problem *p, int32_t rows, int32_t cols) {
    p->attr.attention.prefix = rows;
    if (!rows) return;
    p->w[0] = opcheck_tensor_make(p, rows, cols, NULL);
    p->w[1] = opcheck_tensor_make(p, rows, cols, NULL);
}

static void make_training_attention(opcheck_problem *p, const struct attention_case *c, uint64_t seed) {
    static const char *const layouts[] = {"apart", "in blocks", "interleaved"};
    int32_t H = c->heads, K = c->kv_heads, d = c->head_dim, rows = 0, n = 0;
    opcheck_begin(p, OT_OP_ATTENTION, seed, "%d heads of %d, %d kv heads %s, %s, prefix %d, window %d%s%s%s, lengths %d %d %d", H,
                  d, K,
                  layouts[c->layout], c->causal ? "causal" : "bidirectional", c->prefix, c->window, c->alibi ? ", alibi" : "",
                  c->blind ? ", blind" : "", c->add ? ", add_dx" : "", c->lengths[0], c->lengths[1], c->lengths[2]);
    ot_segment *segments = opcheck_alloc(p, 4, sizeof *segments);
    for (; n < 4 && c->lengths[n]; n++) {
        segments[n] = (ot_segment){.q0 = rows, .nq = c->lengths[n], .k0 = rows, .nk = c->lengths[n]};
        rows += c->lengths[n];
    }
    int32_t *query_slots = opcheck_alloc(p, rows, sizeof *query_slots), *key_slots = opcheck_alloc(p, rows, sizeof *key_slots);
    for (int32_t s = 0; s < n; s++)
        for (int32_t i = 0; i < segments[s].nq; i++) {
            query_slots[segments[s].q0 + i] = i;
            key_slots[segments[s].k0 + i] = c->blind && s == 1 ? i + 100 : i;
        }
    p->batch.rows = rows;
    p->batch.segments = segments;
    p->batch.n_segments = n;
    p->batch.slots = query_slots;
    p->batch.key_slots = key_slots;

    p->attr.attention.heads = H;
    p->attr.attention.kv_heads = K;
    p->attr.attention.head_dim = d;
    p->attr.attention.scale = (float)(1 / sqrt(d));
    p->attr.attention.causal = c->causal;
    p->attr.attention.window = c->window;
    p->attr.attention.alibi = c->alibi ? slopes(p, H) : NULL;
    make_prefix(p, c->prefix, K * d);
    if (c->layout == APART) {
        p->attr.attention.q = p->attr.attention.k = p->attr.attention.v = (ot_head_layout){0, d};
        p->in[0] = adding(opcheck_tensor_make(p, rows, H * d, NULL), c->add);
        p->in[1] = adding(opcheck_tensor_make(p, rows, K * d, NULL), c->add);
        p->in[2] = opcheck_tensor_make(p, rows, K * d, NULL);
    } else {
        int32_t stride = c->layout == BLOCKS ? d : 3 * d;
        p->attr.attention.q = (ot_head_layout){0, stride};
        p->attr.attention.k = (ot_head_layout){c->layout == BLOCKS ? H * d : d, stride};
        p->attr.attention.v = (ot_head_layout){c->layout == BLOCKS ? (H + K) * d : 2 * d, stride};
        p->in[0] = adding(opcheck_tensor_make(p, rows, (H + 2 * K) * d, NULL), c->add);
        p->in[1].same_as_0 = p->in[2].same_as_0 = true;
    }
    p->out = opcheck_tensor_make(p, rows, H * d, NULL);
}

static void make_decoding_attention(opcheck_problem *p, const struct decode_case *c, uint64_t seed) {
    int32_t H = c->heads, K = c->kv_heads, d = c->head_dim, rows = 0;
    opcheck_begin(p, OT_OP_ATTENTION, seed, "decoding %d segments, %d heads of %d, %d kv heads, prefix %d, window %d%s",
                  c->n_segments, H, d, K, c->prefix, c->window, c->alibi ? ", alibi" : "");
    ot_segment *segments = opcheck_alloc(p, c->n_segments, sizeof *segments);
    int32_t *query_slots = opcheck_alloc(p, c->cache, sizeof *query_slots);
    int32_t *key_slots = opcheck_alloc(p, c->cache, sizeof *key_slots);
    for (int32_t s = 0; s < c->n_segments; s++) {
        ot_segment g = segments[s] = c->segments[s];
        rows += g.nq;
        for (int32_t j = 0; j < g.n_prefix; j++) key_slots[g.prefix0 + j] = j;
        for (int32_t j = 0; j < g.nk; j++) key_slots[g.k0 + j] = g.n_prefix + j;
        for (int32_t i = 0; i < g.nq; i++) query_slots[g.q0 + i] = g.n_prefix + g.nk - g.nq + i;
    }
    p->forward_only = true;
    p->batch.rows = rows;
    p->batch.segments = segments;
    p->batch.n_segments = c->n_segments;
    p->batch.slots = query_slots;
    p->batch.key_slots = key_slots;
    p->attr.attention.heads = H;
    p->attr.attention.kv_heads = K;
    p->attr.attention.head_dim = d;
    p->attr.attention.scale = (float)(1 / sqrt(d));
    p->attr.attention.causal = true;
    p->attr.attention.window = c->window;
    p->attr.attention.alibi = c->alibi ? slopes(p, H) : NULL;
    p->attr.attention.q = p->attr.attention.k = p->attr.attention.v = (ot_head_layout){0, d};
    make_prefix(p, c->prefix, K * d);
    p->in[0] = opcheck_tensor_make(p, rows, H * d, NULL);
    p->in[1] = opcheck_tensor_make(p, c->cache, K * d, NULL);
    p->in[2] = opcheck_tensor_make(p, c->cache, K * d, NULL);
    p->out = opcheck_tensor_make(p, rows, H * d, NULL);
}

static void make_attention(opcheck_problem *p, int variant, uint64_t seed) {
    if (variant < COUNT(attention_cases)) make_training_attention(p, &attention_cases[variant], seed);
    else make_decoding_attention(p, &decode_cases[variant - COUNT(attention_cases)], seed);
}

/* ==== ACT, GATE, ADD, DROPOUT ==== */

static const struct pointwise_case {
    int64_t rows, cols;
    bool add0, add1, wide0, wide1, wide_out;
} pointwise_cases[] = {{1, 1, false, false, true, true, true},    {3, 5, false, true, true, false, true},
                       {7, 33, true, false, false, true, true},   {4, 64, true, true, false, false, false},
                       {9, 17, false, false, true, false, false}, {70, 515, true, false, true, true, true},
                       {5, 48, false, true, false, true, false}};
static const float dropout_rates[] = {0, 0.1F, 0.5F};

/* Every shape with every activation, or every dropout rate. */
static void make_pointwise(opcheck_problem *p, ot_op_kind kind, int variant, uint64_t seed) {
    const struct pointwise_case *c = &pointwise_cases[variant % COUNT(pointwise_cases)];
    int which = variant / COUNT(pointwise_cases);
    opcheck_begin(p, kind, seed, "attribute %d, %lld x %lld%s%s", which, (long long)c->rows, (long long)c->cols,
                  c->add0 ? ", add_dx 0" : "", c->add1 ? ", add_dx 1" : "");
    if (kind == OT_OP_ACT || kind == OT_OP_GATE) p->attr.act.kind = (ot_act_kind)which;
    if (kind == OT_OP_DROPOUT) {
        p->attr.dropout.p = dropout_rates[which];
        p->attr.dropout.site = (uint32_t)variant;
        p->batch.dropout_seed = seed * 1234567;
    }
    p->in[0] = adding(opcheck_tensor_make(p, c->rows, c->cols, opcheck_random(p, c->rows * c->cols, 2, 0)), c->add0);
    p->in[0].wide = c->wide0;
    if (ot_op_info(kind)->inputs == 2) p->in[1] = wide(adding(opcheck_tensor_make(p, c->rows, c->cols, NULL), c->add1), c->wide1);
    p->out = wide(opcheck_tensor_make(p, c->rows, c->cols, NULL), c->wide_out);
}

/* ==== GATHER, KEEP ==== */

static const struct rows_case {
    int64_t rows, chosen, cols;
    bool add, wide_in, wide_out;
} gather_cases[] = {{1, 1, 1, false, true, true}, {9, 4, 5, false, true, true}, {9, 9, 12, true, false, false},
                    {8, 0, 3, false, true, true}, {6, 0, 7, true, true, true},  {90, 61, 130, true, true, false}},
  keep_cases[] = {{1, 1, 1, false, false, false}, {12, 5, 7, false, false, false}, {80, 33, 96, false, true, false},
                  {20, 20, 16, false, true, true}};

static void make_gather(opcheck_problem *p, int variant, uint64_t seed) {
    const struct rows_case *c = &gather_cases[variant];
    opcheck_begin(p, OT_OP_GATHER, seed, "%lld of %lld rows, %lld wide, %s", (long long)c->chosen, (long long)c->rows,
                  (long long)c->cols, c->add ? "add_dx" : "overwrite");
    p->batch.rows = c->rows;
    p->batch.n_targets = c->chosen;
    p->batch.target_rows = some_rows(p, c->rows, c->chosen);
    p->in[0] = wide(adding(opcheck_tensor_make(p, c->rows, c->cols, NULL), c->add), c->wide_in);
    p->out = wide(opcheck_tensor_make(p, c->chosen, c->cols, NULL), c->wide_out);
}

static void make_keep(opcheck_problem *p, int variant, uint64_t seed) {
    const struct rows_case *c = &keep_cases[variant];
    opcheck_begin(p, OT_OP_KEEP, seed, "%lld rows into %lld, %lld wide", (long long)c->chosen, (long long)c->rows,
                  (long long)c->cols);
    p->forward_only = true;
    p->batch.rows = c->chosen;
    p->batch.kept_rows = some_rows(p, c->rows, c->chosen);
    p->in[0] = wide(opcheck_tensor_make(p, c->chosen, c->cols, NULL), c->wide_in);
    p->out = wide(opcheck_tensor_make(p, c->rows, c->cols, NULL), c->wide_out);
    p->out.filled = true;
}

/* ==== PATCHES, CLASS, POOL ==== */

static const struct patches_case {
    int64_t images;
    int32_t channels, height, width, patch, class_rows;
    bool wide_out;
} patches_cases[] = {{1, 1, 1, 1, 1, 0, true}, {2, 3, 15, 15, 5, 1, true}, {3, 3, 9, 14, 4, 1, false}, {5, 2, 32, 48, 16, 0, true}};

static void make_patches(opcheck_problem *p, int variant, uint64_t seed) {
    const struct patches_case *c = &patches_cases[variant];
    opcheck_begin(p, OT_OP_PATCHES, seed, "%lld images of %d x %d x %d in patches of %d, %d class rows", (long long)c->images, c->channels,
                  c->height, c->width, c->patch, c->class_rows);
    int64_t n = c->images * c->channels * c->height * c->width;
    p->attr.patches.channels = c->channels;
    p->attr.patches.height = c->height;
    p->attr.patches.width = c->width;
    p->attr.patches.patch = c->patch;
    p->attr.patches.class_rows = c->class_rows;
    p->forward_only = true;
    float *pixels = opcheck_alloc(p, n, sizeof *pixels);
    double *values = opcheck_random(p, n, 1, 0);
    for (int64_t i = 0; i < n; i++) pixels[i] = (float)values[i];
    p->batch.pixels = pixels;
    int64_t rows = c->images * (c->class_rows + (c->height / c->patch) * (c->width / c->patch));
    p->out = wide(opcheck_tensor_make(p, rows, (int64_t)c->channels * c->patch * c->patch, NULL), c->wide_out);
}

static const struct class_case {
    int64_t images, cols;
    int32_t every;
    bool add, wide_in;
    ot_dtype stored;
} class_cases[] = {{1, 1, 1, false, true, OT_F32},  {2, 18, 10, false, true, OT_F32}, {3, 33, 5, true, true, OT_F32},
                   {7, 1100, 3, true, false, OT_F32}, {2, 24, 17, false, true, OT_F16}, {2, 24, 17, true, true, OT_BF16}};

static void make_class(opcheck_problem *p, int variant, uint64_t seed) {
    const struct class_case *c = &class_cases[variant];
    opcheck_begin(p, OT_OP_CLASS, seed, "%lld images of %d rows, %lld wide, %s, %s", (long long)c->images, c->every, (long long)c->cols,
                  ot_dtype_info(c->stored)->name, c->add ? "add_dx" : "overwrite");
    p->attr.class_token.every = c->every;
    p->in[0] = wide(adding(opcheck_tensor_make(p, c->images * c->every, c->cols, NULL), c->add), c->wide_in);
    p->w[0] = stored(opcheck_tensor_make(p, 1, c->cols, NULL), c->stored);
    p->out = wide(opcheck_tensor_make(p, c->images * c->every, c->cols, NULL), true);
}

static const struct pool_case {
    int64_t images, chosen, cols;
    int32_t every, skip, count;
    bool add, wide_in, wide_out;
} pool_cases[] = {{1, 1, 1, 1, 0, 1, false, true, true},    {3, 2, 18, 10, 1, 9, false, true, true},  {3, 3, 33, 5, 1, 4, true, true, false},
                  {4, 0, 7, 5, 1, 4, false, true, true},    {6, 5, 600, 17, 0, 17, true, false, true}, {2, 2, 16, 50, 2, 47, false, false, false}};

static void make_pool(opcheck_problem *p, int variant, uint64_t seed) {
    const struct pool_case *c = &pool_cases[variant];
    opcheck_begin(p, OT_OP_POOL, seed, "%lld of %lld images of %d rows, %d from %d, %lld wide, %s", (long long)c->chosen, (long long)c->images,
                  c->every, c->count, c->skip, (long long)c->cols, c->add ? "add_dx" : "overwrite");
    p->attr.pool.skip = c->skip;
    p->attr.pool.count = c->count;
    p->batch.rows = c->images * c->every;
    p->batch.n_targets = c->chosen;
    int32_t *rows = some_rows(p, c->images, c->chosen);
    for (int64_t i = 0; i < c->chosen; i++) rows[i] *= c->every;
    p->batch.target_rows = rows;
    p->in[0] = wide(adding(opcheck_tensor_make(p, c->images * c->every, c->cols, NULL), c->add), c->wide_in);
    p->out = wide(opcheck_tensor_make(p, c->chosen, c->cols, NULL), c->wide_out);
}

/* ==== SCALE ==== */

static const struct scale_case {
    int64_t rows, cols;
    bool add, wide_in, frozen;
} scale_cases[] = {{1, 1, false, true, false}, {7, 5, true, true, false}, {0, 8, false, true, false}, {9, 133, false, false, false}, {70, 300, true, false, true}};

static void make_scale(opcheck_problem *p, int variant, uint64_t seed) {
    const struct scale_case *c = &scale_cases[variant];
    opcheck_begin(p, OT_OP_SCALE, seed, "%lld rows, %lld wide%s%s", (long long)c->rows, (long long)c->cols, c->frozen ? ", frozen" : "",
                  c->add ? ", add_dx" : "");
    p->in[0] = wide(adding(opcheck_tensor_make(p, c->rows, c->cols, NULL), c->add), c->wide_in);
    p->w[0] = opcheck_tensor_make(p, 1, c->cols, NULL);
    if (c->frozen) p->w[0] = without_gradient(p->w[0]);
    p->out = wide(opcheck_tensor_make(p, c->rows, c->cols, NULL), c->wide_in);
}

/* ==== HEAD_LOSS ==== */

static const struct head_case {
    int64_t targets, cols, vocabulary;
    bool bias, add, wide_in, frozen;
    double std;
    ot_dtype stored;
    float smoothing;
} head_cases[] = {
    {1, 3, 5, false, false, true, false, 1, OT_F32, 0},     {7, 5, 11, true, false, true, false, 1, OT_F32, 0},
    {9, 16, 301, false, true, false, false, 0.3, OT_F32, 0}, {6, 8, 50, true, false, false, false, 10, OT_F32, 0},
    {0, 8, 10, false, false, true, false, 1, OT_F32, 0},    {5, 24, 33, false, true, false, false, 1, OT_BF16, 0},
    {8, 64, 70, false, false, false, true, 0.3, OT_Q8_0, 0}, {70, 48, 1100, true, false, false, false, 0.3, OT_F32, 0},
    {40, 64, 517, false, true, true, true, 0.3, OT_F32, 0},
    {7, 9, 12, true, true, true, false, 1, OT_F32, 0.1F}, {140, 16, 37, true, false, false, false, 1, OT_F32, 0.5F},
    {40, 64, 517, false, true, true, true, 0.3, OT_F32, 0.2F},
};

static void make_head_loss(opcheck_problem *p, int variant, uint64_t seed) {
    const struct head_case *c = &head_cases[variant];
    opcheck_begin(p, OT_OP_HEAD_LOSS, seed, "%lld targets, %lld wide, vocabulary %lld, %s, std %g, %s%s%s", (long long)c->targets,
                  (long long)c->cols, (long long)c->vocabulary, c->bias ? "bias" : "no bias", c->std,
                  ot_dtype_info(c->stored)->name, c->frozen ? ", frozen" : "", c->add ? ", add_dx" : "");
    p->batch.n_targets = c->targets;
    p->batch.targets = random_ints(p, c->targets, c->vocabulary);
    p->batch.loss_scale = 1.0 / (double)(c->targets + 3);
    p->attr.head.smoothing = c->smoothing;
    p->in[0] = wide(adding(opcheck_tensor_make(p, c->targets, c->cols, NULL), c->add), c->wide_in);
    double *head = opcheck_random(p, c->vocabulary * c->cols, c->std, 0);
    p->w[0] = stored(opcheck_tensor_make(p, c->vocabulary, c->cols, head), c->stored);
    if (c->frozen) p->w[0] = without_gradient(p->w[0]);
    if (c->bias) p->w[1] = opcheck_tensor_make(p, 1, c->vocabulary, NULL);
}

/* ==== DISTANCE ==== */

static const struct distance_case {
    int64_t rows, cols;
    bool add, wide_in;
    float weight;
} distance_cases[] = {{1, 1, false, true, 1},   {7, 5, true, true, 30},      {0, 8, false, true, 1},
                      {9, 33, false, false, 2}, {70, 770, true, false, 30}, {300, 129, false, true, 0.5F}};

static void make_distance(opcheck_problem *p, int variant, uint64_t seed) {
    const struct distance_case *c = &distance_cases[variant];
    opcheck_begin(p, OT_OP_DISTANCE, seed, "%lld x %lld, weight %g%s", (long long)c->rows, (long long)c->cols, (double)c->weight,
                  c->add ? ", add_dx" : "");
    p->attr.distance.weight = c->weight;
    p->batch.distance_scale = 0.25;
    p->in[0] = wide(adding(opcheck_tensor_make(p, c->rows, c->cols, NULL), c->add), c->wide_in);
    p->in[1] = without_gradient(wide(opcheck_tensor_make(p, c->rows, c->cols, opcheck_random(p, c->rows * c->cols, 3, 0.5)), c->wide_in));
}

/* ==== DIVERGENCE, GIVEN ==== */

static const struct divergence_case {
    int64_t rows, cols, teacher_cols, vocabulary;
    bool add, wide_in, frozen;
    double std; /* of the student's head */
    ot_dtype stored;
    float temperature, weight;
} divergence_cases[] = {
    {1, 3, 3, 5, false, true, false, 1, OT_F32, 1, 1},      {7, 5, 4, 11, true, true, false, 1, OT_F32, 2, 0.5F},
    {0, 8, 8, 10, false, true, false, 1, OT_F32, 1, 1},     {9, 16, 16, 301, true, false, true, 0.3, OT_F32, 0.5F, 3},
    {5, 24, 24, 33, false, true, false, 1, OT_BF16, 1, 1},  {8, 64, 32, 70, true, false, true, 0.3, OT_Q8_0, 1.5F, 1},
    {130, 48, 48, 517, false, true, true, 0.3, OT_F32, 1, 10}, {66, 40, 33, 9000, true, false, false, 0.1, OT_F32, 1, 1},
};

static void make_divergence(opcheck_problem *p, int variant, uint64_t seed) {
    const struct divergence_case *c = &divergence_cases[variant];
    opcheck_begin(p, OT_OP_DIVERGENCE, seed, "%lld targets, %lld and %lld wide, vocabulary %lld, temperature %g, %s%s%s", (long long)c->rows,
                  (long long)c->cols, (long long)c->teacher_cols, (long long)c->vocabulary, (double)c->temperature, ot_dtype_info(c->stored)->name,
                  c->frozen ? ", frozen" : "", c->add ? ", add_dx" : "");
    p->attr.divergence.temperature = c->temperature;
    p->attr.divergence.weight = c->weight;
    p->batch.distance_scale = 0.25;
    p->in[0] = wide(adding(opcheck_tensor_make(p, c->rows, c->cols, NULL), c->add), c->wide_in);
    p->in[1] = without_gradient(wide(opcheck_tensor_make(p, c->rows, c->teacher_cols, NULL), c->wide_in));
    p->w[0] = stored(opcheck_tensor_make(p, c->vocabulary, c->cols, opcheck_random(p, c->vocabulary * c->cols, c->std, 0)), c->stored);
    if (c->frozen) p->w[0] = without_gradient(p->w[0]);
    double *head = opcheck_random(p, c->vocabulary * c->teacher_cols, 0.3, 0);
    p->w[1] = without_gradient(stored(opcheck_tensor_make(p, c->vocabulary, c->teacher_cols, head), c->stored));
}

static const struct given_case {
    int64_t rows, cols;
    bool wide_out;
} given_cases[] = {{1, 1, false}, {7, 33, true}, {300, 129, false}};

static void make_given(opcheck_problem *p, int variant, uint64_t seed) {
    const struct given_case *c = &given_cases[variant];
    enum { LISTS = 2 };
    opcheck_begin(p, OT_OP_GIVEN, seed, "%lld x %lld", (long long)c->rows, (long long)c->cols);
    p->forward_only = true;
    p->attr.given.index = variant % LISTS;
    const float **given = opcheck_alloc(p, LISTS, sizeof *given);
    for (int i = 0; i < LISTS; i++) {
        float *rows = opcheck_alloc(p, c->rows * c->cols, sizeof *rows);
        double *values = opcheck_random(p, c->rows * c->cols, 1, 0);
        for (int64_t k = 0; k < c->rows * c->cols; k++) rows[k] = (float)values[k];
        given[i] = rows;
    }
    p->batch.given = given;
    p->out = wide(opcheck_tensor_make(p, c->rows, c->cols, NULL), c->wide_out);
}

/* ==== LOW_RANK ==== */

static const struct low_rank_case {
    int64_t rows, m, r, n;
    bool add, frozen;
    float scale, p;
    ot_dtype stored;
    bool wide_in, wide_out;
} low_rank_cases[] = {
    {1, 1, 1, 1, false, false, 1, 0, OT_F32, false, false},      {3, 10, 2, 12, false, false, 8, 0, OT_F32, false, false},
    {4, 24, 5, 7, true, false, 0.5F, 0.25F, OT_F32, false, false}, {6, 17, 4, 33, false, false, 2, 0, OT_F32, false, false},
    {71, 70, 4, 83, true, false, 0.5F, 0.1F, OT_F32, false, false}, {130, 48, 13, 64, false, false, 1, 0.5F, OT_F32, true, true},
    {66, 40, 16, 129, true, true, 1, 0.3F, OT_F32, false, true}, {37, 33, 3, 20, false, false, 1, 0, OT_BF16, true, false},
    {40, 64, 20, 48, true, false, 2, 0.2F, OT_F32, false, false}, {9, 30, 24, 31, false, false, 1, 0, OT_BF16, false, true},
    {70, 96, 40, 50, false, true, 0.25F, 0.4F, OT_F16, true, false}, {64, 16, 8, 16, true, false, 1, 0, OT_F32, false, false},
};

static void make_low_rank(opcheck_problem *p, int variant, uint64_t seed) {
    const struct low_rank_case *c = &low_rank_cases[variant / 2];
    bool kept = variant % 2 != 0;
    opcheck_begin(p, OT_OP_LOW_RANK, seed, "%lld rows, %lld by %lld to %lld, %s%s%sscale %g, p %g, %s", (long long)c->rows, (long long)c->m, (long long)c->r,
                  (long long)c->n, kept ? "kept, " : "", c->add ? "add_dx, " : "", c->frozen ? "frozen, " : "", (double)c->scale, (double)c->p, ot_dtype_info(c->stored)->name);
    p->attr.low_rank.scale = c->scale;
    p->attr.low_rank.p = c->p;
    p->attr.low_rank.site = 3;
    if (kept) {
        p->attr.low_rank.r = (int32_t)c->r;
        p->attr.low_rank.M = (int32_t)c->m;
        p->attr.low_rank.N = (int32_t)c->n;
    }
    p->batch.dropout_seed = seed + 11;
    p->in[0] = wide(adding(opcheck_tensor_make(p, c->rows, c->m, NULL), c->add), c->wide_in);
    p->w[0] = stored(opcheck_tensor_make(p, c->r, c->m, opcheck_random(p, c->r * c->m, 0.25, 0)), c->stored);
    p->w[1] = stored(opcheck_tensor_make(p, c->n, c->r, opcheck_random(p, c->n * c->r, 0.25, 0)), c->stored);
    for (int i = 0; i < 2 && c->frozen; i++) p->w[i] = without_gradient(p->w[i]);
    p->out = wide(opcheck_tensor_make(p, c->rows, c->n, NULL), c->wide_out);
    p->out.filled = true;
}

/* ==== MAGNITUDE ==== */

static const struct magnitude_case {
    int64_t rows, m, r, n;
    bool apart, transposed, bias, add, add_1;
    float scale;
    ot_dtype stored; /* of W */
} magnitude_cases[] = {
    {1, 1, 1, 1, false, false, false, false, false, 1, OT_F32},     {3, 10, 2, 12, false, false, true, false, false, 2, OT_F32},
    {5, 24, 4, 7, true, false, false, true, false, 0.5F, OT_F32},   {6, 17, 3, 33, false, true, true, true, false, 2, OT_F32},
    {70, 33, 4, 83, true, true, false, false, true, 1, OT_F32},     {40, 64, 20, 130, false, false, true, false, false, 0.25F, OT_BF16},
    {9, 96, 5, 31, true, false, false, false, false, 1, OT_Q4_1},   {8, 20, 3, 320, false, true, true, false, false, 1, OT_Q8_0},
};

/* The norm counts as a constant, so what it is made of gets no gradient. */
static void make_magnitude(opcheck_problem *p, int variant, uint64_t seed) {
    const struct magnitude_case *c = &magnitude_cases[variant];
    opcheck_begin(p, OT_OP_MAGNITUDE, seed, "%lld rows, %lld by %lld to %lld, %s%s%s%sscale %g, %s", (long long)c->rows, (long long)c->m, (long long)c->r,
                  (long long)c->n, c->apart ? "apart, " : "", c->transposed ? "transposed, " : "", c->bias ? "bias, " : "", c->add ? "add_dx, " : "",
                  (double)c->scale, ot_dtype_info(c->stored)->name);
    p->attr.magnitude.scale = c->scale;
    p->attr.magnitude.transposed = c->transposed;
    p->in[0] = adding(opcheck_tensor_make(p, c->rows, c->n, NULL), c->add);
    if (c->apart) p->in[1] = adding(opcheck_tensor_make(p, c->rows, c->n, NULL), c->add_1);
    p->w[0] = opcheck_tensor_make(p, 1, c->n, NULL);
    if (c->bias) p->w[1] = opcheck_tensor_make(p, 1, c->n, NULL);
    p->w[2] = without_gradient(stored(opcheck_tensor_make(p, c->transposed ? c->m : c->n, c->transposed ? c->n : c->m, NULL), c->stored));
    p->w[3] = without_gradient(opcheck_tensor_make(p, c->r, c->m, NULL));
    p->w[4] = without_gradient(opcheck_tensor_make(p, c->n, c->r, NULL));
    p->out = opcheck_tensor_make(p, c->rows, c->n, NULL);
}

/* ==== All ==== */

int opcheck_variants(ot_op_kind kind) {
    switch (kind) {
    case OT_OP_EMBED: return COUNT(embed_cases);
    case OT_OP_POSITION: return COUNT(position_cases);
    case OT_OP_NORM: return COUNT(norm_cases);
    case OT_OP_LINEAR: return COUNT(linear_cases);
    case OT_OP_ROPE: return COUNT(rope_cases);
    case OT_OP_ATTENTION: return COUNT(attention_cases) + COUNT(decode_cases);
    case OT_OP_ACT:
    case OT_OP_GATE: return COUNT(pointwise_cases) * OT_ACT_COUNT;
    case OT_OP_ADD: return COUNT(pointwise_cases);
    case OT_OP_SCALE: return COUNT(scale_cases);
    case OT_OP_DROPOUT: return COUNT(pointwise_cases) * COUNT(dropout_rates);
    case OT_OP_GATHER: return COUNT(gather_cases);
    case OT_OP_KEEP: return COUNT(keep_cases);
    case OT_OP_PATCHES: return COUNT(patches_cases);
    case OT_OP_CLASS: return COUNT(class_cases);
    case OT_OP_POOL: return COUNT(pool_cases);
    case OT_OP_HEAD_LOSS: return COUNT(head_cases);
    case OT_OP_DISTANCE: return COUNT(distance_cases);
    case OT_OP_DIVERGENCE: return COUNT(divergence_cases);
    case OT_OP_GIVEN: return COUNT(given_cases);
    case OT_OP_LOW_RANK: return 2 * COUNT(low_rank_cases);
    case OT_OP_MAGNITUDE: return COUNT(magnitude_cases);
    case OT_OP_COUNT: break;
    }
    return 0;
}

void opcheck_make(opcheck_problem *p, ot_op_kind kind, int variant, uint64_t seed) {
    switch (kind) {
    case OT_OP_EMBED: make_embed(p, variant, seed); break;
    case OT_OP_POSITION: make_position(p, variant, seed); break;
    case OT_OP_NORM: make_norm(p, variant, seed); break;
    case OT_OP_LINEAR: make_linear(p, variant, seed); break;
    case OT_OP_ROPE: make_rope(p, variant, seed); break;
    case OT_OP_ATTENTION: make_attention(p, variant, seed); break;
    case OT_OP_ACT:
    case OT_OP_GATE:
    case OT_OP_ADD:
    case OT_OP_DROPOUT: make_pointwise(p, kind, variant, seed); break;
    case OT_OP_SCALE: make_scale(p, variant, seed); break;
    case OT_OP_GATHER: make_gather(p, variant, seed); break;
    case OT_OP_KEEP: make_keep(p, variant, seed); break;
    case OT_OP_PATCHES: make_patches(p, variant, seed); break;
    case OT_OP_CLASS: make_class(p, variant, seed); break;
    case OT_OP_POOL: make_pool(p, variant, seed); break;
    case OT_OP_HEAD_LOSS: make_head_loss(p, variant, seed); break;
    case OT_OP_DISTANCE: make_distance(p, variant, seed); break;
    case OT_OP_DIVERGENCE: make_divergence(p, variant, seed); break;
    case OT_OP_GIVEN: make_given(p, variant, seed); break;
    case OT_OP_LOW_RANK: make_low_rank(p, variant, seed); break;
    case OT_OP_MAGNITUDE: make_magnitude(p, variant, seed); break;
    case OT_OP_COUNT: break;
    }
    if (kind != OT_OP_GATHER && kind != OT_OP_POOL && kind != OT_OP_HEAD_LOSS) p->batch.rows = p->in[0].x ? p->in[0].rows : p->out.rows;
}
