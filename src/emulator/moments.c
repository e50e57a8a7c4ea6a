#include "emulator/moments.h"

#include <string.h>

#include "base/parallel.h"
#include "model/network.h"

enum { BATCH_ROWS = 512 };

typedef struct collector {
    ot_emulator *e;
    int64_t depth;       /* blocks that run */
    ot_moments *moments; /* [depth] */
    int32_t (*inputs)[OT_ROLE_COUNT]; /* [depth] values of the plan */
    bool *kept;          /* [depth] */
    int64_t bytes;
    ot_error *err;
    ot_status status;
} collector;

/* Every linear's input stays readable; one that an earlier linear of the block had too gets that one's moments. */
static int32_t note(void *context, ot_builder *b, int32_t block, ot_role role, int32_t x, int32_t y) {
    collector *c = context;
    int64_t k = block, width = ot_build_cols(b, x);
    if (!c->kept[k] || c->inputs[k][role] != OT_NO_VALUE) return y;
    c->inputs[k][role] = x;
    c->moments[k].width[role] = width;
    for (int r = 0; r < OT_ROLE_COUNT; r++) {
        if (r != (int)role && c->inputs[k][r] == x) c->moments[k].of[role] = c->moments[k].of[r];
    }
    if (c->moments[k].of[role] != NULL || c->status != OT_OK) return y;
    c->bytes += width * width * (int64_t)sizeof(float);
    if (c->bytes > OT_MOMENTS_LIMIT) {
        c->status = ot_fail(c->err, OT_ERR_USAGE, "--emulator: svd: whiten=yes would need more than 16 GiB for what %lld blocks see of the text: put layerdrop in front",
                            (long long)c->e->n_kept);
        return y;
    }
    ot_build_pin(b, x);
    c->moments[k].of[role] = ot_arena_alloc(&c->e->arena, width * width * (int64_t)sizeof(float), c->err);
    if (c->moments[k].of[role] == NULL) c->status = OT_ERR_MEMORY;
    return y;
}

typedef struct products {
    const float *x; /* [rows, width] */
    float *to;      /* [width, width], the lower half is added to */
    int64_t rows, width;
} products;

static void add_row(void *context, int64_t i) {
    const products *p = context;
    int64_t w = p->width, t = 0;
    float *to = p->to + i * w;
    for (; t + 4 <= p->rows; t += 4) {
        const float *a = p->x + t * w, *b = a + w, *c = b + w, *d = c + w;
        float fa = a[i], fb = b[i], fc = c[i], fd = d[i];
        for (int64_t j = 0; j <= i; j++) to[j] += fa * a[j] + fb * b[j] + fc * c[j] + fd * d[j];
    }
    for (; t < p->rows; t++) {
        const float *a = p->x + t * w;
        for (int64_t j = 0; j <= i; j++) to[j] += a[i] * a[j];
    }
}

static void mirror(float *m, int64_t width) {
    for (int64_t i = 0; i < width; i++) {
        for (int64_t j = i + 1; j < width; j++) m[i * width + j] = m[j * width + i];
    }
}

/* Is this role the first of the block with these moments? */
static bool first_with(const ot_moments *m, int role) {
    for (int r = 0; r < role; r++) {
        if (m->of[r] == m->of[role]) return false;
    }
    return m->of[role] != NULL;
}

/* Of roles that share moments, any one's input will do: the value is the same. */
static void take(const collector *c, ot_network *net) {
    for (int64_t k = 0; k < c->depth; k++) {
        for (int r = 0; r < OT_ROLE_COUNT; r++) {
            if (!first_with(&c->moments[k], r)) continue;
            products p = {.x = ot_plan_value(ot_network_plan(net), c->inputs[k][r]), .to = c->moments[k].of[r], .rows = ot_network_rows(net), .width = c->moments[k].width[r]};
            ot_parallel_for(p.width, add_row, &p);
        }
    }
}

static ot_status run(collector *c, ot_network *net, int64_t n, int64_t tokens, int64_t batch, ot_error *err) {
    const ot_emulator_text *t = c->e->text;
    for (int64_t i = 0; i < n; i += batch) {
        ot_network_clear(net);
        for (int64_t k = i; k < n && k < i + batch; k++) {
            int64_t length = t->starts[k + 1] - t->starts[k];
            OT_TRY(ot_network_add(net, t->ids + t->starts[k], NULL, NULL, length < tokens ? length : tokens, NULL, err));
        }
        OT_TRY(ot_network_run(net, &(ot_run_options){0}, NULL, err));
        take(c, net);
    }
    return OT_OK;
}

ot_status ot_moments_collect(ot_emulator *e, int64_t examples, int64_t tokens, ot_moments **out, ot_error *err) {
    const ot_emulator_text *t = e->text;
    int64_t n = examples < t->rows ? examples : t->rows, longest = t->length < tokens ? t->length : tokens, depth = e->kept[e->n_kept - 1] + 1;
    int64_t batch = BATCH_ROWS / longest < 1 ? 1 : BATCH_ROWS / longest;
    if (batch > n) batch = n;
    collector c = {.e = e, .depth = depth, .err = err};
    *out = c.moments = ot_arena_alloc(&e->arena, depth * (int64_t)sizeof *c.moments, err);
    c.inputs = ot_arena_alloc(&e->arena, depth * (int64_t)sizeof *c.inputs, err);
    c.kept = ot_arena_alloc(&e->arena, depth * (int64_t)sizeof *c.kept, err);
    ot_stack_item *items = ot_arena_alloc(&e->arena, depth * (int64_t)sizeof *items, err);
    if (c.moments == NULL || c.inputs == NULL || c.kept == NULL || items == NULL) return OT_ERR_MEMORY;
    for (int64_t i = 0; i < depth; i++) {
        items[i].block = (int32_t)i;
        for (int r = 0; r < OT_ROLE_COUNT; r++) c.inputs[i][r] = OT_NO_VALUE;
    }
    for (int64_t k = 0; k < e->n_kept; k++) c.kept[e->kept[k]] = true;
    const ot_hooks hooks = {.context = &c, .linear = note};
    ot_network_options options = {.plan = {.backend = t->backend, .compute = t->compute, .max_rows = batch * longest, .max_targets = 1},
                                  .items = items,
                                  .n_items = depth,
                                  .hooks = &hooks,
                                  .outputs = OT_OUT_HIDDEN,
                                  .max_segments = batch};
    ot_network *net = NULL;
    ot_status status = ot_network_new(e->model, &options, &net, err);
    if (status == OT_OK) status = c.status;
    if (status == OT_OK) status = run(&c, net, n, tokens, batch, err);
    ot_network_free(net);
    for (int64_t k = 0; status == OT_OK && k < depth; k++) {
        for (int r = 0; r < OT_ROLE_COUNT; r++) {
            if (first_with(&c.moments[k], r)) mirror(c.moments[k].of[r], c.moments[k].width[r]);
        }
    }
    return status;
}
