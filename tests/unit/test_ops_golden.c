/* Every backend against the operation fixtures that PyTorch computed in float64: values and gradients, in F32 and, where a
 * backend has it, in F64. Fixtures of several operations (LoRA, Houlsby, the gated MLP) are run as a plan would run them. */
#include "support/opcheck.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "format/safetensors.h"

#define FOLDER TEST_SHARED_DIR "/golden/ops"

enum { MOST_STAGES = 16 };

/* One fixture on one backend. */
typedef struct fixture {
    const char *name;
    ot_safetensors *file;
    const ot_backend *backend;
    ot_dtype compute;
    ot_arena arena;
    opcheck_problem stages[MOST_STAGES];
    opcheck_result results[MOST_STAGES];
    int n_stages;
} fixture;

/* ==== Reading ==== */

static const ot_tensor *find(const fixture *f, const char *name) {
    const ot_tensor *t = ot_safetensors_find(f->file, name);
    if (!t) fail_msg("%s has no tensor %s", ot_safetensors_path(f->file), name);
    return t;
}

static int64_t dim(const fixture *f, const char *name, int axis) {
    const ot_tensor *t = find(f, name);
    assert_true(axis < t->n_dims);
    return t->shape[axis];
}

static int64_t elements(const fixture *f, const char *name) { return ot_tensor_elements(find(f, name)); }

static void *take(fixture *f, int64_t count, size_t size) {
    void *memory = ot_arena_alloc(&f->arena, count * (int64_t)size, NULL);
    assert_non_null(memory);
    return memory;
}

static double *zeros(fixture *f, int64_t n) { return take(f, n, sizeof(double)); }

static double *floats(fixture *f, const char *name) {
    const ot_tensor *t = find(f, name);
    int64_t n = ot_tensor_elements(t);
    double *x = zeros(f, n);
    assert_int_equal(t->dtype, OT_F32);
    for (int64_t i = 0; i < n; i++) {
        float value;
        memcpy(&value, (const char *)t->data + i * (int64_t)sizeof value, sizeof value);
        x[i] = value;
    }
    return x;
}

static int32_t *ints(fixture *f, const char *name) {
    const ot_tensor *t = find(f, name);
    int64_t n = ot_tensor_elements(t);
    int32_t *x = take(f, n, sizeof *x);
    assert_int_equal(t->dtype, OT_I64);
    for (int64_t i = 0; i < n; i++) {
        int64_t value;
        memcpy(&value, (const char *)t->data + i * (int64_t)sizeof value, sizeof value);
        x[i] = (int32_t)value;
    }
    return x;
}

/* ==== Stages ==== */

static opcheck_problem *stage(fixture *f, ot_op_kind kind) {
    assert_true(f->n_stages < MOST_STAGES);
    opcheck_problem *p = &f->stages[f->n_stages];
    opcheck_begin(p, kind, 0, "%s on %s", f->name, f->backend->name);
    return p;
}

static const opcheck_result *run(fixture *f) {
    opcheck_result *r = &f->results[f->n_stages];
    opcheck_run(&f->stages[f->n_stages], f->backend, f->compute, true, r);
    f->n_stages++;
    return r;
}

/* A tensor of the given values, its gradient wanted from zero on. */
static opcheck_tensor tensor(fixture *f, int64_t rows, int64_t cols, double *x) {
    return (opcheck_tensor){.rows = rows, .cols = cols, .x = x, .g = zeros(f, rows * cols), .wanted = true};
}

static opcheck_tensor output(int64_t rows, int64_t cols, double *upstream) {
    return (opcheck_tensor){.rows = rows, .cols = cols, .g = upstream};
}

static opcheck_tensor matrix(fixture *f, const char *name) {
    return tensor(f, dim(f, name, 0), dim(f, name, 1), floats(f, name));
}
static opcheck_tensor vector(fixture *f, const char *name) { return tensor(f, 1, elements(f, name), floats(f, name)); }

static void expect(fixture *f, const char *name, const double *actual) {
    char problem[128];
    snprintf(problem, sizeof problem, "%s on %s in %s", f->name, f->backend->name, ot_dtype_info(f->compute)->name);
    bool f64 = f->compute == OT_F64;
    opcheck_close(problem, name, actual, floats(f, name), elements(f, name), f64 ? 1e-6 : 1e-5, f64 ? 1e-7 : 1e-6);
}

/* x . W^T + bias; bias may be NULL. x [rows, cols of W]; upstream may be NULL: zeros. */
static const opcheck_result *linear(fixture *f, const char *weight, const char *bias, opcheck_tensor x, double *upstream) {
    opcheck_problem *p = stage(f, OT_OP_LINEAR);
    p->attr.linear.scale = 1;
    p->in[0] = x;
    p->w[0] = matrix(f, weight);
    if (bias) p->w[1] = vector(f, bias);
    int64_t n = p->w[0].rows;
    p->out = output(x.rows, n, upstream ? upstream : zeros(f, x.rows * n));
    return run(f);
}

/* ==== One function a kind of fixture ==== */

static void check_linear(fixture *f) {
    const opcheck_result *r = linear(f, "weight", "bias", matrix(f, "x"), floats(f, "grad.y"));
    expect(f, "y", r->out);
    expect(f, "grad.x", r->dx[0]);
    expect(f, "grad.weight", r->dw[0]);
    expect(f, "grad.bias", r->dw[1]);
}

static void check_conv1d(fixture *f) {
    opcheck_problem *p = stage(f, OT_OP_LINEAR);
    p->attr.linear.scale = 1;
    p->attr.linear.transposed = true;
    p->in[0] = matrix(f, "x");
    p->w[0] = matrix(f, "weight");
    p->w[1] = vector(f, "bias");
    p->out = output(p->in[0].rows, p->w[0].cols, floats(f, "grad.y"));
    const opcheck_result *r = run(f);
    expect(f, "y", r->out);
    expect(f, "grad.x", r->dx[0]);
    expect(f, "grad.weight", r->dw[0]);
    expect(f, "grad.bias", r->dw[1]);
}

/* y = x W^T + bias, then y += alpha / r * (x A^T) B^T; backward adds the gradient of A's input to that of W's */
static void check_lora(fixture *f) {
    opcheck_tensor x = matrix(f, "x");
    double *dy = floats(f, "grad.y");
    const opcheck_result *base = linear(f, "weight", "bias", x, dy);
    const opcheck_result *down = linear(f, "a", NULL, x, NULL);
    opcheck_problem *p = stage(f, OT_OP_LINEAR);
    p->attr.linear.scale = (float)(floats(f, "alpha")[0] / (double)dim(f, "a", 0));
    p->attr.linear.add_out = true;
    p->in[0] = tensor(f, x.rows, dim(f, "a", 0), down->out);
    p->w[0] = matrix(f, "b");
    p->out = output(x.rows, p->w[0].rows, dy);
    p->out.x = base->out;
    p->out.filled = true;
    const opcheck_result *up = run(f);
    expect(f, "y", up->out);
    expect(f, "grad.b", up->dw[0]);
    expect(f, "grad.weight", base->dw[0]);
    expect(f, "grad.bias", base->dw[1]);
    x.g = base->dx[0];
    x.add = true;
    down = linear(f, "a", NULL, x, up->dx[0]);
    expect(f, "grad.a", down->dw[0]);
    expect(f, "grad.x", down->dx[0]);
}

static const opcheck_result *activation(fixture *f, ot_act_kind kind, opcheck_tensor x, double *upstream) {
    opcheck_problem *p = stage(f, OT_OP_ACT);
    p->attr.act.kind = kind;
    p->in[0] = x;
    p->out = output(x.rows, x.cols, upstream ? upstream : zeros(f, x.rows * x.cols));
    return run(f);
}

/* y = x + up(relu(down(x))) */
static void check_houlsby(fixture *f) {
    opcheck_tensor x = matrix(f, "x");
    int64_t n = x.rows, width = dim(f, "down_weight", 0);
    const opcheck_result *down = linear(f, "down_weight", "down_bias", x, NULL);
    const opcheck_result *relu = activation(f, OT_ACT_RELU, tensor(f, n, width, down->out), NULL);
    opcheck_tensor hidden = tensor(f, n, width, relu->out);
    const opcheck_result *up = linear(f, "up_weight", "up_bias", hidden, NULL);
    opcheck_problem *p = stage(f, OT_OP_ADD);
    p->in[0] = x;
    p->in[1] = tensor(f, n, x.cols, up->out);
    p->out = output(n, x.cols, floats(f, "grad.y"));
    const opcheck_result *sum = run(f);
    expect(f, "y", sum->out);
    up = linear(f, "up_weight", "up_bias", hidden, sum->dx[1]);
    expect(f, "grad.up_weight", up->dw[0]);
    expect(f, "grad.up_bias", up->dw[1]);
    relu = activation(f, OT_ACT_RELU, tensor(f, n, width, down->out), up->dx[0]);
    x.g = sum->dx[0];
    x.add = true;
    down = linear(f, "down_weight", "down_bias", x, relu->dx[0]);
    expect(f, "grad.down_weight", down->dw[0]);
    expect(f, "grad.down_bias", down->dw[1]);
    expect(f, "grad.x", down->dx[0]);
}

static const opcheck_result *gated(fixture *f, int64_t n, int64_t m, double *gate, double *up, double *upstream) {
    opcheck_problem *p = stage(f, OT_OP_GATE);
    p->attr.act.kind = OT_ACT_SILU;
    p->in[0] = tensor(f, n, m, gate);
    p->in[1] = tensor(f, n, m, up);
    p->out = output(n, m, upstream);
    return run(f);
}

/* y = down(silu(gate(x)) * up(x)) */
static void check_gated_mlp(fixture *f) {
    opcheck_tensor x = matrix(f, "x");
    int64_t n = x.rows, m = dim(f, "gate", 0);
    const opcheck_result *gate = linear(f, "gate", NULL, x, NULL), *up = linear(f, "up", NULL, x, NULL);
    const opcheck_result *product = gated(f, n, m, gate->out, up->out, zeros(f, n * m));
    const opcheck_result *down = linear(f, "down", NULL, tensor(f, n, m, product->out), floats(f, "grad.y"));
    expect(f, "y", down->out);
    expect(f, "grad.down", down->dw[0]);
    product = gated(f, n, m, gate->out, up->out, down->dx[0]);
    gate = linear(f, "gate", NULL, x, product->dx[0]);
    expect(f, "grad.gate", gate->dw[0]);
    x.g = gate->dx[0];
    x.add = true;
    up = linear(f, "up", NULL, x, product->dx[1]);
    expect(f, "grad.up", up->dw[0]);
    expect(f, "grad.x", up->dx[0]);
}

static void check_activation(fixture *f) {
    static const struct {
        const char *name;
        ot_act_kind kind;
    } kinds[] = {{"gelu", OT_ACT_GELU},
                 {"gelu_new", OT_ACT_GELU_TANH},
                 {"quick_gelu", OT_ACT_QUICK_GELU},
                 {"relu", OT_ACT_RELU},
                 {"silu", OT_ACT_SILU}};
    size_t k = 0;
    while (strcmp(kinds[k].name, f->name) != 0) k++;
    const opcheck_result *r = activation(f, kinds[k].kind, vector(f, "x"), floats(f, "grad.y"));
    expect(f, "y", r->out);
    expect(f, "grad.x", r->dx[0]);
}

static void check_norm(fixture *f) {
    bool layer = strcmp(f->name, "layernorm") == 0;
    opcheck_problem *p = stage(f, OT_OP_NORM);
    p->in[0] = matrix(f, "x");
    p->attr.norm.kind = layer ? OT_NORM_LAYER : OT_NORM_RMS;
    p->attr.norm.width = (int32_t)p->in[0].cols;
    p->attr.norm.eps = floats(f, "eps")[0];
    p->w[0] = vector(f, "weight");
    if (layer) p->w[1] = vector(f, "bias");
    p->out = output(p->in[0].rows, p->in[0].cols, floats(f, "grad.y"));
    const opcheck_result *r = run(f);
    expect(f, "y", r->out);
    expect(f, "grad.x", r->dx[0]);
    expect(f, "grad.weight", r->dw[0]);
    if (layer) expect(f, "grad.bias", r->dw[1]);
}

static void check_embedding(fixture *f) {
    opcheck_problem *p = stage(f, OT_OP_EMBED);
    p->attr.embed.scale = 1;
    p->attr.embed.padding_id = -1;
    p->w[0] = matrix(f, "weight");
    p->batch.rows = elements(f, "ids");
    p->batch.ids = ints(f, "ids");
    p->out = output(p->batch.rows, p->w[0].cols, floats(f, "grad.y"));
    const opcheck_result *r = run(f);
    expect(f, "y", r->out);
    expect(f, "grad.weight", r->dw[0]);
}

static void check_positions(fixture *f) {
    opcheck_problem *p = stage(f, OT_OP_POSITION);
    int64_t rows = elements(f, "positions"), cols = dim(f, "x", 2);
    p->attr.position.offset = ints(f, "offset")[0];
    p->in[0] = tensor(f, rows, cols, floats(f, "x"));
    p->w[0] = matrix(f, "weight");
    p->batch.rows = rows;
    p->batch.positions = ints(f, "positions");
    p->out = output(rows, cols, floats(f, "grad.y"));
    const opcheck_result *r = run(f);
    expect(f, "y", r->out);
    expect(f, "grad.x", r->dx[0]);
    expect(f, "grad.weight", r->dw[0]);
}

/* The file's inv_freq is rounded, which large positions magnify: the frequencies are computed here, by the rule of Llama 3 too.
 * */
static void check_rope(fixture *f) {
    int64_t heads = dim(f, "x", 2), d = dim(f, "x", 3), half = d / 2, rows = elements(f, "positions");
    const double *scaling = ot_safetensors_find(f->file, "factor_low_high_original") ? floats(f,
                                                                                              "factor_low_high_original") : NULL;
    const int32_t *positions = ints(f, "positions");
    double theta = floats(f, "theta")[0];
    float *cosines = take(f, rows * half, sizeof *cosines), *sines = take(f, rows * half, sizeof *sines);
    for (int64_t i = 0; i < half; i++) {
        double frequency = pow(theta, -2.0 * (double)i / (double)d);
        if (scaling) {
            double share = (scaling[3] * frequency / (2 * M_PI) - scaling[1]) / (scaling[2] - scaling[1]);
            share = fmin(fmax(share, 0), 1);
            frequency = (1 - share) * frequency / scaling[0] + share * frequency;
        }
        for (int64_t r = 0; r < rows; r++) {
            cosines[r * half + i] = (float)cos(positions[r] * frequency);
            sines[r * half + i] = (float)sin(positions[r] * frequency);
        }
    }
    opcheck_problem *p = stage(f, OT_OP_ROPE);
    p->attr.rope.heads = (int32_t)heads;
    p->attr.rope.head_dim = p->attr.rope.rotary_dim = (int32_t)d;
    p->attr.rope.layout = (ot_head_layout){0, (int32_t)d};
    p->batch.rows = rows;
    p->batch.rope[0] = (ot_rope_table){cosines, sines, (int32_t)half};
    p->in[0] = tensor(f, rows, heads * d, floats(f, "x"));
    p->out = output(rows, heads * d, floats(f, "grad.y"));
    const opcheck_result *r = run(f);
    expect(f, "y", r->out);
    expect(f, "grad.x", r->dx[0]);
}

/* GATHER the rows that have a target, then the loss with the identity as the head: logits are the hidden states. */
static void check_cross_entropy(fixture *f) {
    int64_t rows = dim(f, "logits", 0), V = dim(f, "logits", 1), n = 0;
    const int32_t *labels = ints(f, "targets");
    int32_t *target_rows = take(f, rows, sizeof *target_rows), *targets = take(f, rows, sizeof *targets);
    for (int64_t r = 0; r < rows; r++)
        if (labels[r] != -100) {
            target_rows[n] = (int32_t)r;
            targets[n++] = labels[r];
        }
    ot_batch batch = {.rows = rows, .n_targets = n, .target_rows = target_rows, .targets = targets};
    batch.loss_scale = floats(f, "grad.y")[0] / (double)n;

    opcheck_problem *p = stage(f, OT_OP_GATHER);
    p->batch = batch;
    p->in[0] = matrix(f, "logits");
    p->out = output(n, V, zeros(f, n * V));
    const opcheck_result *gathered = run(f);

    double *identity = zeros(f, V * V);
    for (int64_t v = 0; v < V; v++) identity[v * V + v] = 1;
    p = stage(f, OT_OP_HEAD_LOSS);
    p->batch = batch;
    p->in[0] = tensor(f, n, V, gathered->out);
    p->w[0] = tensor(f, V, V, identity);
    const opcheck_result *loss = run(f);
    expect(f, "y", (double[1]){loss->loss_sum / (double)n});
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += loss->target_loss[i];
    expect(f, "y", (double[1]){sum / (double)n});

    p = stage(f, OT_OP_GATHER);
    p->batch = batch;
    p->in[0] = matrix(f, "logits");
    p->out = output(n, V, loss->dx[0]);
    expect(f, "grad.logits", run(f)->dx[0]);
}

static void check_distance(fixture *f) {
    int64_t rows = dim(f, "student", 0) * dim(f, "student", 1), cols = dim(f, "student", 2);
    opcheck_problem *p = stage(f, OT_OP_DISTANCE);
    p->attr.distance.weight = 1;
    p->batch.rows = rows;
    p->batch.distance_scale = floats(f, "grad.y")[0];
    p->in[0] = tensor(f, rows, cols, floats(f, "student"));
    p->in[1] = tensor(f, rows, cols, floats(f, "teacher"));
    p->in[1].wanted = false;
    const opcheck_result *r = run(f);
    expect(f, "y", (double[1]){r->loss_sum});
    expect(f, "grad.student", r->dx[0]);
}

/* ==== Attention ==== */

/* The attributes all fixtures share; segments are still to come. */
static opcheck_problem *attention(fixture *f, int64_t query_rows, double *q, double *dy, int64_t key_rows, double *k, double *v) {
    int32_t H = (int32_t)dim(f, "q", 2), K = (int32_t)dim(f, "k", 2), d = (int32_t)dim(f, "q", 3);
    opcheck_problem *p = stage(f, OT_OP_ATTENTION);
    p->attr.attention.heads = H;
    p->attr.attention.kv_heads = K;
    p->attr.attention.head_dim = d;
    p->attr.attention.scale = (float)(1 / sqrt(d));
    p->attr.attention.causal = true;
    p->attr.attention.q = p->attr.attention.k = p->attr.attention.v = (ot_head_layout){0, d};
    p->batch.rows = query_rows;
    p->in[0] = tensor(f, query_rows, H * d, q);
    p->in[1] = tensor(f, key_rows, K * d, k);
    p->in[2] = tensor(f, key_rows, K * d, v);
    p->out = output(query_rows, H * d, dy);
    return p;
}

static void expect_attention(fixture *f) {
    const opcheck_result *r = run(f);
    expect(f, "y", r->out);
    expect(f, "grad.q", r->dx[0]);
    expect(f, "grad.k", r->dx[1]);
    expect(f, "grad.v", r->dx[2]);
}

static void check_attention(fixture *f) {
    int64_t B = dim(f, "q", 0), T = dim(f, "q", 1), S = dim(f, "k", 1), n = 0;
    opcheck_problem *p = attention(f, B * T, floats(f, "q"), floats(f, "grad.y"), B * S, floats(f, "k"), floats(f, "v"));
    p->attr.attention.causal = strcmp(f->name, "attention_bidirectional") != 0;
    if (strcmp(f->name, "attention_window") == 0) p->attr.attention.window = ints(f, "window")[0];
    if (strcmp(f->name, "attention_alibi") == 0) {
        float *slopes = take(f, elements(f, "slopes"), sizeof *slopes);
        for (int64_t h = 0; h < elements(f, "slopes"); h++) slopes[h] = (float)floats(f, "slopes")[h];
        p->attr.attention.alibi = slopes;
    }
    /* A segment ends with a row of the fixture, or where the number in `segments` changes. The keys in front of T, which
     * attention_prefix has, are plain keys that no query belongs to. */
    const int32_t *packed = strcmp(f->name, "attention_packed") == 0 ? ints(f, "segments") : NULL;
    ot_segment *segments = take(f, B * T, sizeof *segments);
    int32_t *slots = take(f, B * S, sizeof *slots);
    for (int64_t b = 0; b < B; b++)
        for (int64_t t = 0; t < T; t++) {
            if (t == 0 || (packed && packed[b * T + t] != packed[b * T + t - 1]))
                segments[n++] = (ot_segment){.q0 = (int32_t)(b * T + t), .k0 = (int32_t)(b * S + t), .nk = (int32_t)(S - T)};
            slots[b * T + t] = segments[n - 1].nq++;
            segments[n - 1].nk++;
        }
    p->batch.segments = segments;
    p->batch.n_segments = n;
    p->batch.slots = p->batch.key_slots = slots;
    expect_attention(f);
}

/* Rows [from, from + n) of every [B, S, cols] example, one after another. */
static double *cut(fixture *f, const double *x, int64_t B, int64_t S, int64_t from, int64_t n, int64_t cols) {
    double *part = zeros(f, B * n * cols);
    for (int64_t b = 0; b < B; b++)
        memcpy(part + b * n * cols, x + (b * S + from) * cols, (size_t)(n * cols) * sizeof *part);
    return part;
}

/* The first S - T keys as prefix parameters. The fixture has others for every example, so each example is a problem of its own.
 * */
static void check_attention_prefix(fixture *f) {
    int64_t B = dim(f, "q", 0), T = dim(f, "q", 1), S = dim(f, "k", 1), P = S - T;
    int64_t H = dim(f, "q", 2), K = dim(f, "k", 2), d = dim(f, "q", 3);
    double *y = zeros(f, B * T * H * d), *dq = zeros(f, B * T * H * d), *dk = zeros(f, B * S * K * d), *dv = zeros(f,
                                                                                                                   B * S * K * d);
    check_attention(f);
    for (int64_t b = 0; b < B; b++) {
        double *q = cut(f, floats(f, "q") + b * T * H * d, 1, T, 0, T, H * d);
        double *dy = cut(f, floats(f, "grad.y") + b * T * H * d, 1, T, 0, T, H * d);
        const double *k = floats(f, "k") + b * S * K * d, *v = floats(f, "v") + b * S * K * d;
        opcheck_problem *p = attention(f, T, q, dy, T, cut(f, k, 1, S, P, T, K * d), cut(f, v, 1, S, P, T, K * d));
        p->attr.attention.prefix = (int32_t)P;
        p->w[0] = tensor(f, P, K * d, cut(f, k, 1, S, 0, P, K * d));
        p->w[1] = tensor(f, P, K * d, cut(f, v, 1, S, 0, P, K * d));
        ot_segment *segment = take(f, 1, sizeof *segment);
        *segment = (ot_segment){.nq = (int32_t)T, .nk = (int32_t)T};
        p->batch.segments = segment;
        p->batch.n_segments = 1;
        p->batch.slots = p->batch.key_slots = take(f, T, sizeof(int32_t));
        const opcheck_result *r = run(f);
        memcpy(y + b * T * H * d, r->out, (size_t)(T * H * d) * sizeof *y);
        memcpy(dq + b * T * H * d, r->dx[0], (size_t)(T * H * d) * sizeof *y);
        memcpy(dk + b * S * K * d, r->dw[0], (size_t)(P * K * d) * sizeof *y);
        memcpy(dv + b * S * K * d, r->dw[1], (size_t)(P * K * d) * sizeof *y);
        memcpy(dk + (b * S + P) * K * d, r->dx[1], (size_t)(T * K * d) * sizeof *y);
        memcpy(dv + (b * S + P) * K * d, r->dx[2], (size_t)(T * K * d) * sizeof *y);
    }
    expect(f, "y", y);
    expect(f, "grad.q", dq);
    expect(f, "grad.k", dk);
    expect(f, "grad.v", dv);
}

/* ==== The table of fixtures ==== */

static const struct fixture_kind {
    const char *name;
    void (*check)(fixture *f); /* NULL: not an operation of the engine */
} kinds[] = {
    {"linear", check_linear},
    {"conv1d", check_conv1d},
    {"lora", check_lora},
    {"houlsby", check_houlsby},
    {"gated_mlp", check_gated_mlp},
    {"gelu", check_activation},
    {"gelu_new", check_activation},
    {"quick_gelu", check_activation},
    {"relu", check_activation},
    {"silu", check_activation},
    {"layernorm", check_norm},
    {"rmsnorm", check_norm},
    {"embedding", check_embedding},
    {"positions", check_positions},
    {"rope", check_rope},
    {"rope_llama3", check_rope},
    {"cross_entropy", check_cross_entropy},
    {"cross_entropy_large", check_cross_entropy},
    {"attention_causal", check_attention},
    {"attention_causal_gqa", check_attention},
    {"attention_bidirectional", check_attention},
    {"attention_alibi", check_attention},
    {"attention_packed", check_attention},
    {"attention_window", check_attention},
    {"attention_prefix", check_attention_prefix},
    {"adamw", NULL},
    {"cosine", NULL},
    {"kd_loss", check_distance},
    {"patch_conv", NULL},
    {"patch_conv_no_bias", NULL},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static void check_on(const struct fixture_kind *kind, const ot_backend *backend, ot_dtype compute) {
    char path[1024];
    ot_error err = {0};
    fixture f = {.name = kind->name, .backend = backend, .compute = compute};
    snprintf(path, sizeof path, FOLDER "/%s.safetensors", kind->name);
    if (ot_safetensors_open(path, &f.file, &err) != OT_OK) fail_msg("%s", err.message);
    kind->check(&f);
    for (int i = 0; i < f.n_stages; i++) {
        opcheck_free(&f.stages[i]);
        opcheck_result_free(&f.results[i]);
    }
    ot_arena_free(&f.arena);
    ot_safetensors_close(f.file);
}

static void test_fixture(void **state) {
    int runs = 0;
    for (const ot_backend *const *b = ot_backends; *b; b++)
        for (ot_dtype compute = OT_F32; compute <= OT_F64; compute++)
            if ((*b)->available() && (*b)->supports(compute)) {
                check_on(*state, *b, compute);
                runs++;
            }
    assert_true(runs >= 2); /* the reference in both precisions at the least */
}

/* A fixture that nobody checks would go unnoticed. */
static void test_all_are_known(void **state) {
    (void)state;
    ot_arena arena = {0};
    ot_error err = {0};
    char **names;
    int64_t count;
    assert_int_equal(ot_list_dir(FOLDER, &arena, &names, &count, &err), OT_OK);
    assert_true(count > 0);
    for (int64_t i = 0; i < count; i++) {
        bool known = false;
        for (int k = 0; k < KINDS; k++) {
            char file[256];
            snprintf(file, sizeof file, "%s.safetensors", kinds[k].name);
            known = known || strcmp(file, names[i]) == 0;
        }
        if (!known) fail_msg("no check reads %s", names[i]);
    }
    ot_arena_free(&arena);
}

static void skip_all(void **state) {
    (void)state;
    print_message("skipped: no fixtures at %s\n", FOLDER);
    skip();
}

int main(void) {
    struct CMUnitTest tests[KINDS + 1] = {{.name = "all fixtures are known", .test_func = test_all_are_known}};
    size_t n = 1;
    bool present = ot_path_is_dir(FOLDER);
    for (int k = 0; k < KINDS; k++)
        if (kinds[k].check)
            tests[n++] = (struct CMUnitTest){.name = kinds[k].name, .test_func = test_fixture,
                                             .initial_state = (void *)(uintptr_t)&kinds[k]};
    for (size_t i = 0; i < n && !present; i++) tests[i].test_func = skip_all;
    return _cmocka_run_group_tests("operation fixtures", tests, n, NULL, NULL);
}
