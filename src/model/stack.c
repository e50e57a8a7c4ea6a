/* The one transformer block and what stands before and after the stack, emitted as operations. Every architecture runs through this file. */
#include <math.h>
#include <stdlib.h>

#include "model/network_internal.h"

/* What one emission needs at hand. */
typedef struct emitter {
    ot_network *net;
    const ot_model *m;
    const ot_desc *d; /* with the widths of the block that is being emitted */
    const float *alibi;
    const ot_hooks *hooks;
    ot_builder *b;
    ot_dtype stream; /* residual stream */
    ot_dtype inner;  /* what feeds matrix products and attention */
    double dropout;
    uint32_t dropout_site;
    int32_t taught, taught_read; /* a teacher's outputs: of its middle; what its head reads, at the targets */
    int32_t *matched;            /* [items of the emulator] of its blocks, OT_NO_VALUE: not compared */
} emitter;

static void op(emitter *e, ot_op_kind kind, ot_op_attr attr, int32_t a, int32_t b, int32_t c, int32_t out, const ot_slot *w0, const ot_slot *w1) {
    ot_build_op(e->b, &(ot_op_spec){.kind = kind, .attr = attr, .in = {a, b, c}, .out = out, .w = {w0, w1}});
}

static const ot_op_attr no_attr;

static int32_t norm(emitter *e, ot_role role, int64_t block, int32_t x, int64_t width, ot_dtype dtype) {
    int64_t cols = ot_build_cols(e->b, x);
    /* The space of a norm is that of its input: rows inside the stack, targets before the head. */
    int32_t y = ot_build_like(e->b, x, dtype, cols);
    ot_op_attr attr = {.norm = {.kind = e->d->norm, .width = (int32_t)width, .eps = e->d->norm_eps}};
    op(e, OT_OP_NORM, attr, x, OT_NO_VALUE, OT_NO_VALUE, y, ot_model_slot(e->m, role, block, false), ot_model_slot(e->m, role, block, true));
    return y;
}

static int32_t linear(emitter *e, int32_t item, ot_role role, int64_t block, int32_t x, ot_dtype dtype) {
    ot_role_shape s = ot_desc_shape(e->d, role);
    const ot_hooks *hooks = item >= 0 ? e->hooks : NULL;
    if (hooks != NULL && hooks->input != NULL) x = hooks->input(hooks->context, e->b, item, role, x);
    int32_t y = ot_build_like(e->b, x, dtype, s.out), from = x;
    ot_op_attr attr = {.linear = {.transposed = e->d->conv1d && block >= 0, .scale = 1.0F}};
    const ot_slot *w = ot_model_slot(e->m, role, block, false);
    const ot_param *first = w == NULL ? ot_model_factor(e->m, role, block, OT_FACTOR_IN) : NULL;
    if (first != NULL) { /* two factors */
        from = ot_build_like(e->b, x, dtype, attr.linear.transposed ? first->slot.cols : first->slot.rows);
        op(e, OT_OP_LINEAR, attr, x, OT_NO_VALUE, OT_NO_VALUE, from, &first->slot, NULL);
        w = &ot_model_factor(e->m, role, block, OT_FACTOR_OUT)->slot;
    }
    op(e, OT_OP_LINEAR, attr, from, OT_NO_VALUE, OT_NO_VALUE, y, w, ot_model_slot(e->m, role, block, true));
    if (hooks != NULL && hooks->linear != NULL) y = hooks->linear(hooks->context, e->b, item, role, x, y);
    return y;
}

static int32_t add(emitter *e, int32_t trunk, int32_t branch) {
    double p = e->dropout;
    if (p > 0) {
        int32_t dropped = ot_build_like(e->b, branch, ot_build_dtype(e->b, branch), ot_build_cols(e->b, branch));
        op(e, OT_OP_DROPOUT, (ot_op_attr){.dropout = {.p = (float)p, .site = e->dropout_site++}}, branch, OT_NO_VALUE, OT_NO_VALUE, dropped, NULL, NULL);
        branch = dropped;
    }
    int32_t y = ot_build_like(e->b, trunk, e->stream, ot_build_cols(e->b, trunk));
    op(e, OT_OP_ADD, no_attr, trunk, branch, OT_NO_VALUE, y, NULL, NULL);
    return y;
}

static void rope(emitter *e, int32_t x, int64_t heads, ot_head_layout layout) {
    ot_op_attr attr = {.rope = {.heads = (int32_t)heads,
                                .head_dim = (int32_t)e->d->head_dim,
                                .rotary_dim = (int32_t)e->d->rotary_dim,
                                .layout = layout}};
    op(e, OT_OP_ROPE, attr, x, OT_NO_VALUE, OT_NO_VALUE, x, NULL, NULL);
}

/* Keys (or values) go into the cache when there is one. */
static int32_t keep(emitter *e, int32_t x) {
    if (ot_builder_options(e->b)->max_kept == 0) return x;
    int32_t kept = ot_build_value(e->b, OT_SPACE_KEPT, ot_build_dtype(e->b, x), ot_build_cols(e->b, x));
    op(e, OT_OP_KEEP, no_attr, x, OT_NO_VALUE, OT_NO_VALUE, kept, NULL, NULL);
    return kept;
}

static int32_t attention(emitter *e, int32_t item, int64_t block, int32_t x) {
    const ot_desc *d = e->d;
    int32_t dim = (int32_t)d->head_dim, width = (int32_t)(d->heads * d->head_dim);
    int32_t q, k, v;
    ot_head_layout lq = {0, dim}, lk = {0, dim}, lv = {0, dim};
    if (d->qkv == OT_QKV_SEPARATE) {
        q = linear(e, item, OT_ROLE_Q, block, x, e->inner);
        k = linear(e, item, OT_ROLE_K, block, x, e->inner);
        v = linear(e, item, OT_ROLE_V, block, x, e->inner);
    } else {
        q = k = v = linear(e, item, OT_ROLE_QKV, block, x, e->inner);
        bool interleaved = d->qkv == OT_QKV_INTERLEAVED;
        int32_t stride = interleaved ? 3 * dim : dim, step = interleaved ? dim : width;
        lq = (ot_head_layout){0, stride};
        lk = (ot_head_layout){step, stride};
        lv = (ot_head_layout){2 * step, stride};
    }
    if (d->qk_norm) {
        q = norm(e, OT_ROLE_Q_NORM, block, q, d->head_dim, e->inner);
        k = norm(e, OT_ROLE_K_NORM, block, k, d->head_dim, e->inner);
    }
    if (d->position == OT_POSITION_ROPE) {
        rope(e, q, d->heads, lq);
        rope(e, k, d->kv_heads, lk);
    }
    bool fused = k == v;
    int32_t cached_k = keep(e, k), cached_v = fused ? cached_k : keep(e, v);

    ot_op_attr attr = {.attention = {.heads = (int32_t)d->heads,
                                     .kv_heads = (int32_t)d->kv_heads,
                                     .head_dim = dim,
                                     .q = lq,
                                     .k = lk,
                                     .v = lv,
                                     .scale = (float)(1.0 / sqrt((double)d->head_dim)),
                                     .causal = !d->bidirectional,
                                     .alibi = d->position == OT_POSITION_ALIBI ? e->alibi : NULL}};
    if (d->scale_by_layer) attr.attention.scale /= (float)(block + 1);
    if (d->window > 0 && block >= d->window_from_layer) attr.attention.window = (int32_t)d->window;
    const ot_slot *prefix_k = NULL, *prefix_v = NULL;
    if (e->hooks != NULL && e->hooks->prefix != NULL) {
        attr.attention.prefix = e->hooks->prefix(e->hooks->context, item, &prefix_k, &prefix_v);
    }
    int32_t mixed = ot_build_like(e->b, q, e->inner, width);
    op(e, OT_OP_ATTENTION, attr, q, cached_k, cached_v, mixed, prefix_k, prefix_v);
    return linear(e, item, OT_ROLE_O, block, mixed, e->inner);
}

static int32_t mlp(emitter *e, int32_t item, int64_t block, int32_t x) {
    ot_op_attr attr = {.act = {.kind = e->d->act}};
    int32_t hidden = ot_build_like(e->b, x, e->inner, e->d->ffn_size);
    if (e->d->gated) {
        int32_t gate = linear(e, item, OT_ROLE_GATE, block, x, e->inner), up = linear(e, item, OT_ROLE_UP, block, x, e->inner);
        op(e, OT_OP_GATE, attr, gate, up, OT_NO_VALUE, hidden, NULL, NULL);
    } else {
        int32_t up = linear(e, item, OT_ROLE_UP, block, x, e->inner);
        op(e, OT_OP_ACT, attr, up, OT_NO_VALUE, OT_NO_VALUE, hidden, NULL, NULL);
    }
    return linear(e, item, OT_ROLE_DOWN, block, hidden, e->inner);
}

/* Layer-scale, where the model has it. */
static int32_t scaled(emitter *e, ot_role role, int64_t block, int32_t x) {
    const ot_slot *gains = ot_model_slot(e->m, role, block, false);
    if (gains == NULL) return x;
    int32_t y = ot_build_like(e->b, x, ot_build_dtype(e->b, x), ot_build_cols(e->b, x));
    op(e, OT_OP_SCALE, no_attr, x, OT_NO_VALUE, OT_NO_VALUE, y, gains, NULL);
    return y;
}

/* The block: [R, D] -> [R, D]. */
static int32_t emit_block(emitter *e, int32_t item, int64_t block, int32_t x) {
    int64_t width = e->d->hidden_size;
    if (e->d->post_norm) {
        x = add(e, x, attention(e, item, block, x));
        x = norm(e, OT_ROLE_NORM1, block, x, width, e->stream);
        x = add(e, x, mlp(e, item, block, x));
        return norm(e, OT_ROLE_NORM2, block, x, width, e->stream);
    }
    x = add(e, x, scaled(e, OT_ROLE_SCALE1, block, attention(e, item, block, norm(e, OT_ROLE_NORM1, block, x, width, e->inner))));
    return add(e, x, scaled(e, OT_ROLE_SCALE2, block, mlp(e, item, block, norm(e, OT_ROLE_NORM2, block, x, width, e->inner))));
}

/* Patches through the convolution that is a product, the class token in its row, positions: [R, D]. */
static int32_t emit_image(emitter *e) {
    const ot_desc *d = e->d;
    const ot_network *n = e->net;
    int32_t pixels = ot_build_value(e->b, OT_SPACE_ROWS, e->inner, d->channels * d->patch_size * d->patch_size);
    ot_op_attr attr = {.patches = {.channels = (int32_t)d->channels,
                                   .height = (int32_t)n->options.image_height,
                                   .width = (int32_t)n->options.image_width,
                                   .patch = (int32_t)d->patch_size,
                                   .class_rows = d->class_token}};
    op(e, OT_OP_PATCHES, attr, OT_NO_VALUE, OT_NO_VALUE, OT_NO_VALUE, pixels, NULL, NULL);
    int32_t x = linear(e, -1, OT_ROLE_PATCH, -1, pixels, e->stream);
    if (d->class_token) {
        int32_t y = ot_build_value(e->b, OT_SPACE_ROWS, e->stream, d->hidden_size);
        op(e, OT_OP_CLASS, (ot_op_attr){.class_token = {.every = (int32_t)n->image_rows}}, x, OT_NO_VALUE, OT_NO_VALUE, y,
           ot_model_slot(e->m, OT_ROLE_CLASS, -1, false), NULL);
        x = y;
    }
    int32_t y = ot_build_value(e->b, OT_SPACE_ROWS, e->stream, d->hidden_size);
    const ot_slot *table = n->positions_table != NULL ? &n->positions_slot : ot_model_slot(e->m, OT_ROLE_POSITIONS, -1, false);
    op(e, OT_OP_POSITION, no_attr, x, OT_NO_VALUE, OT_NO_VALUE, y, table, NULL);
    return d->embed_norm ? norm(e, OT_ROLE_EMBED_NORM, -1, y, d->hidden_size, e->stream) : y;
}

static int32_t emit_embedding(emitter *e) {
    const ot_desc *d = e->d;
    if (d->vision) return emit_image(e);
    int32_t x = ot_build_value(e->b, OT_SPACE_ROWS, e->stream, d->embed_size);
    op(e, OT_OP_EMBED, (ot_op_attr){.embed = {.scale = 1.0F, .padding_id = (int32_t)d->padding_id}}, OT_NO_VALUE, OT_NO_VALUE, OT_NO_VALUE, x,
       ot_model_slot(e->m, OT_ROLE_EMBED, -1, false), e->hooks != NULL ? e->hooks->virtual_tokens : NULL);
    if (d->embed_size != d->hidden_size) x = linear(e, -1, OT_ROLE_PROJECT_IN, -1, x, e->stream);
    if (d->position == OT_POSITION_LEARNED) {
        int32_t y = ot_build_value(e->b, OT_SPACE_ROWS, e->stream, d->hidden_size);
        op(e, OT_OP_POSITION, (ot_op_attr){.position = {.offset = (int32_t)d->position_offset}}, x, OT_NO_VALUE, OT_NO_VALUE, y,
           ot_model_slot(e->m, OT_ROLE_POSITIONS, -1, false), NULL);
        x = y;
    }
    return d->embed_norm ? norm(e, OT_ROLE_EMBED_NORM, -1, x, d->hidden_size, e->stream) : x;
}

/* What the head reads, from the output of the stack: [n, D] -> [n, embed_size]. */
static int32_t emit_before_head(emitter *e, int32_t x, ot_dtype dtype) {
    if (e->d->final_norm) x = norm(e, OT_ROLE_FINAL_NORM, -1, x, e->d->hidden_size, dtype);
    if (e->d->embed_size != e->d->hidden_size) x = linear(e, -1, OT_ROLE_PROJECT_OUT, -1, x, dtype);
    return x;
}

/* The same of a classifier, one row for each target: the class token's, or the mean of the patches. */
static int32_t emit_image_summary(emitter *e, int32_t x, ot_dtype dtype) {
    const ot_desc *d = e->d;
    bool normed = d->final_norm && !d->head_skips_norm;
    int32_t rows;
    if (d->mean_pool) {
        if (normed) x = norm(e, OT_ROLE_FINAL_NORM, -1, x, d->hidden_size, dtype);
        rows = ot_build_value(e->b, OT_SPACE_TARGETS, dtype, d->hidden_size);
        ot_op_attr attr = {.pool = {.skip = d->class_token, .count = (int32_t)e->net->image_rows - d->class_token}};
        op(e, OT_OP_POOL, attr, x, OT_NO_VALUE, OT_NO_VALUE, rows, NULL, NULL);
        return rows;
    }
    rows = ot_build_value(e->b, OT_SPACE_TARGETS, e->stream, d->hidden_size);
    op(e, OT_OP_GATHER, no_attr, x, OT_NO_VALUE, OT_NO_VALUE, rows, NULL, NULL);
    return normed ? norm(e, OT_ROLE_FINAL_NORM, -1, rows, d->hidden_size, dtype) : rows;
}

static int32_t emit_logits(emitter *e, int32_t x, const ot_slot *head, const ot_slot *bias) {
    int32_t y = ot_build_like(e->b, x, e->stream, e->d->vocab_size);
    op(e, OT_OP_LINEAR, (ot_op_attr){.linear = {.scale = 1.0F}}, x, OT_NO_VALUE, OT_NO_VALUE, y, head, bias);
    ot_build_pin(e->b, y);
    return y;
}

static void emit_loss(emitter *e, int32_t read, const ot_slot *head, const ot_slot *bias) {
    ot_op_attr attr = no_attr;
    attr.head.smoothing = (float)e->net->options.label_smoothing;
    attr.head.sums16 = e->net->options.sums16;
    op(e, OT_OP_HEAD_LOSS, attr, read, OT_NO_VALUE, OT_NO_VALUE, OT_NO_VALUE, head, bias);
}

static const ot_slot *head_of(const ot_model *m) { return ot_model_slot(m, m->desc.tied ? OT_ROLE_EMBED : OT_ROLE_HEAD, -1, false); }

static void emit_divergence(emitter *e, int32_t read, const ot_slot *head) {
    const ot_teacher *t = e->net->options.teacher;
    ot_op_attr attr = {.divergence = {.weight = (float)t->kl_weight, .index = OT_OF_LOGITS, .temperature = (float)t->kl_temperature}};
    op(e, OT_OP_DIVERGENCE, attr, read, e->taught_read, OT_NO_VALUE, OT_NO_VALUE, head, head_of(t->model));
}

static void emit_outputs(emitter *e, int32_t x) {
    ot_network *n = e->net;
    unsigned outputs = n->options.outputs;
    const ot_slot *head = head_of(e->m);
    const ot_slot *bias = ot_model_slot(e->m, OT_ROLE_HEAD, -1, true);
    ot_build_block(e->b, -1);
    if (e->d->vision) {
        n->hidden[n->n_items] = x;
        n->head_cols = e->d->hidden_size;
        bool logits = (outputs & (OT_OUT_LOGITS | OT_OUT_TARGET_LOGITS)) != 0;
        if (logits) n->logits = emit_logits(e, emit_image_summary(e, x, e->stream), head, bias);
        if ((outputs & OT_OUT_LOSS) != 0) emit_loss(e, emit_image_summary(e, x, e->inner), head, bias);
        return;
    }
    if ((outputs & (OT_OUT_LOGITS | OT_OUT_HIDDEN)) != 0) {
        int32_t read = emit_before_head(e, x, e->stream);
        n->hidden[n->n_items] = read;
        n->head_cols = ot_build_cols(e->b, read);
        if ((outputs & OT_OUT_HIDDEN) != 0) ot_build_pin(e->b, read);
        if ((outputs & OT_OUT_LOGITS) != 0) n->logits = emit_logits(e, read, head, bias);
    }
    if ((outputs & (OT_OUT_LOSS | OT_OUT_TARGET_LOGITS)) == 0 && e->taught_read < 0) return;
    int32_t rows = ot_build_value(e->b, OT_SPACE_TARGETS, e->stream, e->d->hidden_size);
    op(e, OT_OP_GATHER, no_attr, x, OT_NO_VALUE, OT_NO_VALUE, rows, NULL, NULL);
    int32_t read = emit_before_head(e, rows, e->inner);
    if ((outputs & OT_OUT_TARGET_LOGITS) != 0) n->logits = emit_logits(e, read, head, bias);
    if (e->taught_read >= 0) emit_divergence(e, read, head);
    if ((outputs & OT_OUT_LOSS) != 0) emit_loss(e, read, head, bias);
}

/* ==== The teacher of a distillation. ==== */

static ot_status check_teacher(const ot_network *n, ot_error *err) {
    const ot_teacher *t = n->options.teacher;
    const ot_desc *a = &n->model->desc, *b = &t->model->desc;
    bool same = a->arch == b->arch && a->hidden_size == b->hidden_size && a->heads == b->heads && a->kv_heads == b->kv_heads &&
                a->head_dim == b->head_dim && a->position == b->position && a->rotary_dim == b->rotary_dim && a->rope_theta == b->rope_theta;
    if (!same) {
        return ot_fail(err, OT_ERR_REFUSED, "%s cannot teach %s: they must be of one architecture, with the same hidden size, attention heads and positions",
                       t->model->path, n->model->path);
    }
    bool inside = t->first_block >= 0 && t->first_block <= t->end_block && t->end_block <= b->layers && t->first_item >= 0 &&
                  t->first_item < t->end_item && t->end_item <= n->n_items;
    for (int64_t i = 0; inside && t->hidden_weight > 0 && i < t->end_item - t->first_item; i++) {
        inside = t->match[i] >= t->first_block && t->match[i] < t->end_block;
    }
    if (!inside) return ot_fail(err, OT_ERR_REFUSED, "the teacher %s has no such middle as the emulator stands for", t->model->path);
    if (t->hidden_weight > 0 && t->end_item - t->first_item < 2) {
        return ot_fail(err, OT_ERR_USAGE, "the emulator of %s is one block, whose output is compared anyway: there are no other hidden states to match",
                       n->model->path);
    }
    if (!(t->kl_weight > 0)) return OT_OK;
    if (a->vision) return ot_fail(err, OT_ERR_USAGE, "%s reads pictures: the divergence of logits is for models of text", n->model->path);
    if (a->vocab_size == b->vocab_size) return OT_OK;
    return ot_fail(err, OT_ERR_REFUSED, "%s and its teacher %s have vocabularies of %lld and %lld tokens", n->model->path, t->model->path,
                   (long long)a->vocab_size, (long long)b->vocab_size);
}

/* One of its blocks. Blocks are numbered after the network's own, as they are nobody's to recompute. */
static int32_t emit_teachers_block(emitter *of_teacher, int64_t block, int32_t x) {
    int32_t item = (int32_t)(of_teacher->net->n_items + block - of_teacher->net->options.teacher->first_block);
    ot_build_block(of_teacher->b, item);
    return emit_block(of_teacher, item, block, x);
}

int64_t ot_teacher_outputs(const ot_teacher *t) {
    return 1 + (t->hidden_weight > 0 ? t->end_item - t->first_item - 1 : 0) + (t->kl_weight > 0);
}

/* Its output k: given, or x, which is noted where somebody wants to read it. */
static int32_t teachers_output(emitter *e, int64_t k, int32_t x) {
    const ot_teacher *t = e->net->options.teacher;
    if (t->use == OT_TEACHER_ALONE) {
        e->net->taught[k] = x;
        ot_build_pin(e->b, x);
    }
    if (t->use != OT_TEACHER_GIVEN) return x;
    int32_t y = ot_build_value(e->b, OT_SPACE_ROWS, e->stream, e->d->hidden_size);
    op(e, OT_OP_GIVEN, (ot_op_attr){.given = {.index = (int32_t)k}}, OT_NO_VALUE, OT_NO_VALUE, OT_NO_VALUE, y, NULL, NULL);
    return y;
}

/* Blocks [from, end) on x; what is matched with one of them is noted. */
static int32_t emit_teachers_blocks(emitter *e, emitter *of_teacher, int64_t from, int64_t end, int32_t x) {
    const ot_teacher *t = e->net->options.teacher;
    for (int64_t block = from; block < end && t->use != OT_TEACHER_GIVEN; block++) {
        x = emit_teachers_block(of_teacher, block, x);
        for (int64_t i = 0; block < t->end_block && t->hidden_weight > 0 && i + 1 < t->end_item - t->first_item; i++) {
            if (t->match[i] == block) e->matched[i] = x;
        }
    }
    return x;
}

/* Its middle on the hidden states x, and as far as its logits are wanted what stands above it. */
static void emit_teacher(emitter *e, int32_t x) {
    const ot_teacher *t = e->net->options.teacher;
    int64_t outputs = ot_teacher_outputs(t);
    emitter of_teacher = *e;
    of_teacher.m = t->model;
    of_teacher.d = &t->model->desc;
    of_teacher.alibi = e->net->alibi;
    of_teacher.hooks = NULL;
    of_teacher.dropout = 0;
    if (t->bf16) of_teacher.inner = OT_BF16;
    x = emit_teachers_blocks(e, &of_teacher, t->first_block, t->end_block, x);
    ot_build_block(e->b, -1);
    e->taught = teachers_output(e, 0, x);
    for (int64_t i = 0; t->hidden_weight > 0 && i + 1 < t->end_item - t->first_item; i++) e->matched[i] = teachers_output(e, 1 + i, e->matched[i]);
    if (!(t->kl_weight > 0)) return;
    x = emit_teachers_blocks(e, &of_teacher, t->end_block, t->model->desc.layers, x);
    ot_build_block(e->b, -1);
    x = teachers_output(e, outputs - 1, x);
    if (t->use == OT_TEACHER_ALONE) return;
    int32_t rows = ot_build_value(e->b, OT_SPACE_TARGETS, e->stream, e->d->hidden_size);
    op(e, OT_OP_GATHER, no_attr, x, OT_NO_VALUE, OT_NO_VALUE, rows, NULL, NULL);
    e->taught_read = emit_before_head(&of_teacher, rows, of_teacher.inner);
}

static void emit_distance(emitter *e, int32_t student, int32_t teacher, double weight, int64_t index) {
    ot_build_block(e->b, -1);
    ot_op_attr attr = {.distance = {.weight = (float)weight, .index = (int32_t)index}};
    op(e, OT_OP_DISTANCE, attr, student, teacher, OT_NO_VALUE, OT_NO_VALUE, NULL, NULL);
}

/* The losses at the output x of entry i of the stack. */
static void emit_distances(emitter *e, int64_t i, int32_t x) {
    ot_network *n = e->net;
    const ot_teacher *t = n->options.teacher;
    if (i + 1 == t->end_item) emit_distance(e, x, e->taught, t->weight, OT_OF_OUTPUT);
    if (i < t->first_item || i + 1 >= t->end_item || e->matched[i - t->first_item] < 0) return;
    double weight = t->hidden_weight / (double)(t->end_item - t->first_item - 1);
    emit_distance(e, x, e->matched[i - t->first_item], weight, OT_OWN_DISTANCES + n->n_hidden++);
}

ot_status ot_network_emit(ot_network *n, ot_error *err) {
    const ot_plan_options *options = &n->options.plan;
    if (n->options.teacher != NULL) OT_TRY(check_teacher(n, err));
    emitter e = {.net = n,
                 .m = n->model,
                 .d = &n->model->desc,
                 .alibi = n->alibi,
                 .hooks = n->options.hooks,
                 .dropout = n->options.dropout,
                 .b = ot_builder_new(options, err),
                 .stream = options->compute == OT_BF16 ? OT_F32 : options->compute,
                 .inner = options->compute,
                 .taught_read = OT_NO_VALUE};
    if (e.b == NULL) return OT_ERR_MEMORY;
    e.matched = calloc((size_t)n->n_items + 1, sizeof *e.matched);
    if (e.matched == NULL) {
        ot_builder_free(e.b);
        return ot_fail_memory(err, (uint64_t)n->n_items * sizeof *e.matched, "a network");
    }
    for (int64_t i = 0; i < n->n_items; i++) e.matched[i] = OT_NO_VALUE;
    bool hidden = (n->options.outputs & OT_OUT_HIDDEN) != 0;
    const ot_teacher *teacher = n->options.teacher;
    int32_t x = emit_embedding(&e);
    bool below = teacher != NULL && n->options.outputs == 0 && !(teacher->kl_weight > 0); /* nothing above the emulator counts */
    bool alone = teacher != NULL && teacher->use == OT_TEACHER_ALONE;
    int64_t end = alone ? teacher->first_item + 1 : below ? teacher->end_item : n->n_items;
    for (int64_t i = 0; i < end; i++) {
        n->hidden[i] = x;
        if (teacher != NULL && i == teacher->first_item) emit_teacher(&e, x);
        if (alone && i == teacher->first_item) break;
        if (hidden) ot_build_pin(e.b, x);
        ot_build_block(e.b, (int32_t)i);
        int64_t block = n->options.items == NULL ? ot_model_block_at(n->model, i) : n->options.items[i].block;
        ot_desc d = ot_forms_desc(&n->model->desc, &n->model->forms, block);
        e.d = &d;
        e.alibi = n->alibi + (ot_forms_of(&n->model->forms, block) == NULL ? 0 : (block - n->model->forms.first + 1) * n->model->desc.heads);
        x = emit_block(&e, (int32_t)block, block, x);
        e.d = &n->model->desc;
        if (teacher != NULL) emit_distances(&e, i, x);
    }
    n->last_block = x;
    if (hidden) ot_build_pin(e.b, x);
    if (!alone) emit_outputs(&e, x);
    free(e.matched);
    return ot_plan_compile(e.b, &n->plan, err);
}
