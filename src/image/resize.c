/* Resizing as Pillow does it: separable filters whose support grows with the reduction (antialiasing), weights in fixed point, 8 bits
 * between the passes. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "image/image.h"

enum { PRECISION = 22, HALF = 1 << (PRECISION - 1) }; /* bits of the fixed-point weights: sums of 255 * weight fit into 32 bits */

static double box_filter(double x) { return x > -0.5 && x <= 0.5 ? 1 : 0; }

static double bilinear(double x) {
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

static double hamming(double x) {
    x = fabs(x);
    if (x == 0) return 1;
    if (x >= 1) return 0;
    x *= M_PI;
    return sin(x) / x * (0.54 + 0.46 * cos(x));
}

static double bicubic(double x) {
    const double a = -0.5;
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

static double sinc(double x) {
    if (x == 0) return 1;
    x *= M_PI;
    return sin(x) / x;
}

static double lanczos(double x) { return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0; }

static const struct kernel {
    double (*f)(double);
    double support;
} kernels[OT_FILTERS] = {
    [OT_FILTER_LANCZOS] = {lanczos, 3}, [OT_FILTER_BILINEAR] = {bilinear, 1}, [OT_FILTER_BICUBIC] = {bicubic, 2},
    [OT_FILTER_BOX] = {box_filter, 0.5}, [OT_FILTER_HAMMING] = {hamming, 1},
};

/* For every output place: the first input place and the weights from there on, `most` apart, of which `count` matter. */
typedef struct plan {
    int64_t most;
    int64_t *first, *count;
    int32_t *weights;
} plan;

static void free_plan(plan *p) {
    ot_free(p->first);
    ot_free(p->count);
    ot_free(p->weights);
}

static void fill_plan(plan *p, int64_t n_in, int64_t n_out, const struct kernel *k, double *exact) {
    double scale = (double)n_in / (double)n_out, wide = scale < 1 ? 1 : scale, support = k->support * wide, narrow = 1 / wide;
    for (int64_t i = 0; i < n_out; i++) {
        double centre = ((double)i + 0.5) * scale, sum = 0;
        int64_t begin = (int64_t)(centre - support + 0.5), end = (int64_t)(centre + support + 0.5);
        begin = begin < 0 ? 0 : begin;
        end = end > n_in ? n_in : end;
        p->first[i] = begin;
        p->count[i] = end - begin;
        for (int64_t j = 0; j < end - begin; j++) {
            exact[j] = k->f(((double)(j + begin) - centre + 0.5) * narrow);
            sum += exact[j];
        }
        for (int64_t j = 0; j < end - begin; j++) {
            double w = sum != 0 ? exact[j] / sum : exact[j];
            p->weights[i * p->most + j] = (int32_t)(w * (1 << PRECISION) + (w < 0 ? -0.5 : 0.5));
        }
    }
}

static ot_status make_plan(int64_t n_in, int64_t n_out, ot_image_filter filter, plan *p, ot_error *err) {
    const struct kernel *k = &kernels[filter];
    double scale = (double)n_in / (double)n_out, *exact = NULL;
    *p = (plan){.most = (int64_t)ceil(k->support * (scale < 1 ? 1 : scale)) * 2 + 1};
    ot_status status = ot_calloc(n_out, 8, "a filter", (void **)&p->first, err);
    if (status == OT_OK) status = ot_calloc(n_out, 8, "a filter", (void **)&p->count, err);
    if (status == OT_OK) status = ot_calloc(n_out * p->most, 4, "a filter", (void **)&p->weights, err);
    if (status == OT_OK) status = ot_calloc(p->most, 8, "a filter", (void **)&exact, err);
    if (status == OT_OK) fill_plan(p, n_in, n_out, k, exact);
    ot_free(exact);
    return status;
}

static uint8_t clip(int32_t v) {
    v >>= PRECISION;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* in: rows of the part, `stride` bytes apart; out [rows, width_out, 3] */
static void along_rows(const uint8_t *in, int64_t stride, uint8_t *out, int64_t width_out, int64_t rows, const plan *p) {
    for (int64_t y = 0; y < rows; y++) {
        for (int64_t x = 0; x < width_out; x++, out += 3) {
            const uint8_t *from = in + y * stride + p->first[x] * 3;
            const int32_t *w = p->weights + x * p->most;
            int32_t r = HALF, g = HALF, b = HALF;
            for (int64_t j = 0; j < p->count[x]; j++, from += 3) {
                r += from[0] * w[j];
                g += from[1] * w[j];
                b += from[2] * w[j];
            }
            out[0] = clip(r);
            out[1] = clip(g);
            out[2] = clip(b);
        }
    }
}

/* in: rows of n bytes, `stride` apart; out [height_out, n]; sums [n] */
static void along_columns(const uint8_t *in, int64_t stride, uint8_t *out, int64_t n, int64_t height_out, const plan *p, int32_t *sums) {
    for (int64_t y = 0; y < height_out; y++) {
        for (int64_t i = 0; i < n; i++) sums[i] = HALF;
        for (int64_t j = 0; j < p->count[y]; j++) {
            const uint8_t *from = in + (p->first[y] + j) * stride;
            int32_t w = p->weights[y * p->most + j];
            for (int64_t i = 0; i < n; i++) sums[i] += from[i] * w;
        }
        for (int64_t i = 0; i < n; i++) out[y * n + i] = clip(sums[i]);
    }
}

/* Places add up step by step, as Pillow's do: their rounding decides at ties. */
static void nearest(const uint8_t *in, int64_t stride, const ot_image_box *box, const ot_image *out) {
    double step_x = (double)box->w / (double)out->width, step_y = (double)box->h / (double)out->height, at_y = step_y * 0.5;
    for (int64_t y = 0; y < out->height; y++, at_y += step_y) {
        double at_x = step_x * 0.5;
        int64_t sy = (int64_t)at_y < box->h ? (int64_t)at_y : box->h - 1;
        for (int64_t x = 0; x < out->width; x++, at_x += step_x) {
            int64_t sx = (int64_t)at_x < box->w ? (int64_t)at_x : box->w - 1;
            memcpy(out->rgb + (y * out->width + x) * 3, in + sy * stride + sx * 3, 3);
        }
    }
}

/* Which pass comes first decides how the rounding between them falls: columns, when the height shrinks by far more than the width (as Pillow
 * since 13; before, rows always came first). */
static bool columns_first(const ot_image_box *box, const ot_image *out) {
    int64_t shorter = box->h - out->height, narrower = box->w - out->width;
    return shorter > 0 && shorter > 2 * narrower;
}

static ot_status both_passes(const uint8_t *in, int64_t stride, const ot_image_box *box, const plan *across, const plan *down, const ot_image *out,
                             int32_t *sums, ot_error *err) {
    int64_t n = out->width * 3, n_in = box->w * 3;
    uint8_t *between = NULL;
    if (columns_first(box, out)) {
        OT_TRY(ot_malloc(out->height, n_in, "a picture", (void **)&between, err));
        along_columns(in, stride, between, n_in, out->height, down, sums);
        along_rows(between, n_in, out->rgb, out->width, out->height, across);
    } else {
        OT_TRY(ot_malloc(box->h, n, "a picture", (void **)&between, err));
        along_rows(in, stride, between, out->width, box->h, across);
        along_columns(between, n, out->rgb, n, out->height, down, sums);
    }
    ot_free(between);
    return OT_OK;
}

static ot_status filtered(const uint8_t *in, int64_t stride, const ot_image_box *box, ot_image_filter filter, const ot_image *out, ot_error *err) {
    plan across = {0}, down = {0};
    int32_t *sums = NULL;
    ot_status status = make_plan(box->w, out->width, filter, &across, err);
    if (status == OT_OK) status = make_plan(box->h, out->height, filter, &down, err);
    if (status == OT_OK) status = ot_malloc(out->width > box->w ? out->width : box->w, 12, "a picture's row", (void **)&sums, err);
    if (status == OT_OK && box->w == out->width) {
        along_columns(in, stride, out->rgb, out->width * 3, out->height, &down, sums);
    } else if (status == OT_OK && box->h == out->height) {
        along_rows(in, stride, out->rgb, out->width, out->height, &across);
    } else if (status == OT_OK) {
        status = both_passes(in, stride, box, &across, &down, out, sums, err);
    }
    ot_free(sums);
    free_plan(&across);
    free_plan(&down);
    return status;
}

ot_status ot_image_resize(const ot_image *in, const ot_image_box *box, int64_t width, int64_t height, ot_image_filter filter, ot_image *out,
                          ot_error *err) {
    ot_image_box whole = {0, 0, in->width, in->height};
    if (box == NULL) box = &whole;
    const uint8_t *from = in->rgb + (box->y * in->width + box->x) * 3;
    int64_t stride = in->width * 3;
    OT_TRY(ot_image_new(width, height, "a resized picture", out, err));
    ot_status status = OT_OK;
    if (box->w == width && box->h == height) {
        for (int64_t y = 0; y < height; y++) memcpy(out->rgb + y * width * 3, from + y * stride, (size_t)(width * 3));
    } else if (filter == OT_FILTER_NEAREST) {
        nearest(from, stride, box, out);
    } else {
        status = filtered(from, stride, box, filter, out, err);
    }
    if (status != OT_OK) ot_image_free(out);
    return status;
}
