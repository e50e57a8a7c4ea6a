/* Networks of vision models: batches of images, position embeddings for another image size, and the gradients that follow from both. */
#include <math.h>
#include <string.h>

#include "model/network_internal.h"

/* ==== Positions of another size: bicubic as torch.nn.functional.interpolate(mode="bicubic", align_corners=False) computes it. ==== */

typedef struct taps {
    int64_t at[4];
    double weight[4];
} taps;

static double cubic(double x) {
    const double a = -0.75;
    x = fabs(x);
    if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
}

static taps taps_of(int64_t to, int64_t n_to, int64_t n_from) {
    double source = ((double)to + 0.5) * (double)n_from / (double)n_to - 0.5, base = floor(source);
    taps t;
    for (int k = 0; k < 4; k++) {
        int64_t at = (int64_t)base + k - 1;
        t.at[k] = at < 0 ? 0 : at >= n_from ? n_from - 1 : at;
        t.weight[k] = cubic(source - base - (k - 1));
    }
    return t;
}

typedef struct grids {
    int64_t from_h, from_w, to_h, to_w, first, width; /* first: rows of class tokens, which stay */
} grids;

static grids grids_of(const ot_network *n) {
    const ot_desc *d = &n->model->desc;
    return (grids){d->image_height / d->patch_size, d->image_width / d->patch_size, n->options.image_height / d->patch_size,
                   n->options.image_width / d->patch_size, d->class_token, d->hidden_size};
}

/* Adds weight times row `from` of a to row `to` of b, for every pair that the interpolation joins; `transposed` swaps the two. */
static void interpolate(const grids *g, const float *a, float *b, bool transposed) {
    for (int64_t i = 0; i < g->first * g->width; i++) b[i] += a[i];
    for (int64_t y = 0; y < g->to_h; y++) {
        taps ty = taps_of(y, g->to_h, g->from_h);
        for (int64_t x = 0; x < g->to_w; x++) {
            taps tx = taps_of(x, g->to_w, g->from_w);
            for (int k = 0; k < 16; k++) {
                int64_t whole = g->first + ty.at[k / 4] * g->from_w + tx.at[k % 4], fine = g->first + y * g->to_w + x;
                const float *source = a + (transposed ? fine : whole) * g->width;
                float *target = b + (transposed ? whole : fine) * g->width, weight = (float)(ty.weight[k / 4] * tx.weight[k % 4]);
                for (int64_t c = 0; c < g->width; c++) target[c] += weight * source[c];
            }
        }
    }
}

/* The table [rows, D], and behind it room for its gradient. */
static ot_status resize_positions(ot_network *n, ot_error *err) {
    const ot_param *p = ot_model_param(n->model, OT_ROLE_POSITIONS, -1, false);
    grids g = grids_of(n);
    int64_t size = n->image_rows * g.width;
    float *own = NULL;
    if (n->options.plan.compute == OT_F64) return ot_fail(err, OT_ERR_UNSUPPORTED, "positions are interpolated in single precision only");
    OT_TRY(ot_calloc(2 * size, 4, "positions of another image size", (void **)&n->positions_table, err));
    OT_TRY(ot_malloc(ot_param_elements(p), 4, "positions", (void **)&own, err));
    ot_param_read(p, own);
    interpolate(&g, own, n->positions_table, false);
    ot_free(own);
    n->positions_slot = (ot_slot){.data = n->positions_table,
                                  .dtype = OT_F32,
                                  .trainable = p->slot.trainable,
                                  .rows = n->image_rows,
                                  .cols = g.width,
                                  .grad = n->positions_table + size};
    return OT_OK;
}

ot_status ot_network_image_size(ot_network *n, ot_error *err) {
    const ot_desc *d = &n->model->desc;
    ot_network_options *o = &n->options;
    if (o->image_height == 0) o->image_height = d->image_height;
    if (o->image_width == 0) o->image_width = d->image_width;
    if (o->image_height < d->patch_size || o->image_width < d->patch_size || o->image_height > 1 << 14 || o->image_width > 1 << 14) {
        return ot_fail(err, OT_ERR_USAGE, "images of %lld x %lld pixels do not go into patches of %lld", (long long)o->image_height,
                       (long long)o->image_width, (long long)d->patch_size);
    }
    n->image_rows = ot_desc_image_rows(d, o->image_height, o->image_width);
    if (o->max_segments * n->image_rows > o->plan.max_rows) return ot_fail(err, OT_ERR_USAGE, "a plan of fewer rows than its images have");
    bool own = o->image_height / d->patch_size == d->image_height / d->patch_size && o->image_width / d->patch_size == d->image_width / d->patch_size;
    return own ? OT_OK : resize_positions(n, err);
}

/* ==== Batches. ==== */

ot_status ot_network_add_image(ot_network *n, const float *pixels, int32_t target, ot_error *err) {
    const ot_desc *d = &n->model->desc;
    if (!d->vision) return ot_fail(err, OT_ERR_USAGE, "%s reads text, not images", n->model->path);
    OT_TRY(ot_network_allocate(n, err));
    if (n->n_segments >= n->options.max_segments) return ot_fail(err, OT_ERR_USAGE, "a batch of more images than planned");
    if (target >= d->vocab_size) {
        return ot_fail(err, OT_ERR_FORMAT, "label %d is outside the model's %lld classes", target, (long long)d->vocab_size);
    }
    int64_t size = d->channels * n->options.image_height * n->options.image_width, first = n->rows;
    memcpy(n->pixels + n->n_segments * size, pixels, (size_t)size * sizeof *pixels);
    n->sequence_start[n->n_segments] = n->columns;
    for (int64_t i = 0; i < n->image_rows; i++) {
        n->row_of[n->columns++] = (int32_t)n->rows;
        n->slots[n->rows] = n->positions[n->rows] = (int32_t)i;
        n->rows++;
    }
    if (target >= 0) {
        if (n->n_targets >= n->options.plan.max_targets) return ot_fail(err, OT_ERR_USAGE, "a batch of more targets than planned");
        n->target_rows[n->n_targets] = (int32_t)first;
        n->targets[n->n_targets++] = target;
    }
    int32_t rows = (int32_t)n->image_rows;
    n->segments[n->n_segments++] = (ot_segment){.q0 = (int32_t)first, .nq = rows, .k0 = (int32_t)first, .nk = rows};
    return OT_OK;
}

/* ==== Gradients. ==== */

/* The constant third of a fused bias stays without gradient: what has come there is rounding. */
static void clear_key_bias(const ot_network *n) {
    for (int64_t b = 0; b < n->model->desc.layers; b++) {
        const ot_slot *bias = ot_model_slot(n->model, OT_ROLE_QKV, b, true);
        if (bias == NULL || !bias->trainable) continue;
        size_t size = n->options.plan.compute == OT_F64 ? 8 : 4, third = (size_t)bias->cols / 3 * size;
        memset((char *)bias->grad + third, 0, third);
    }
}

void ot_network_image_gradients(ot_network *n) {
    if (n->model->desc.no_key_bias) clear_key_bias(n);
    if (n->positions_table == NULL || !n->positions_slot.trainable) return;
    const ot_slot *own = ot_model_slot(n->model, OT_ROLE_POSITIONS, -1, false);
    grids g = grids_of(n);
    interpolate(&g, n->positions_slot.grad, own->grad, true);
    memset(n->positions_slot.grad, 0, (size_t)(n->image_rows * g.width) * 4);
}
