/* Resizing as Pillow does it: separable filters whose support grows with the reduction (antialiasing), rows first, 8 bits between the passes. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "image/image.h"

enum { PRECISION = 22 }; /* bits of the fixed-point weights */

static double bilinear(double x) {
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

static double bicubic(double x) {
    const double a = -0.5;
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

static double sinc(double x) { return x == 0 ? 1 : sin(x * M_PI) / (x * M_PI); }
static double lanczos(double x) { return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0; }

static const struct kernel {
    double (*f)(double);
    double support;
} kernels[] = {[OT_FILTER_BILINEAR] = {bilinear, 1}, [OT_FILTER_BICUBIC] = {bicubic, 2}, [OT_FILTER_LANCZOS] = {lanczos, 3}};

/* For every output place: the first input place and the weights of `size` from there on (fewer count). */
typedef struct plan {
    int64_t size;
    int64_t *first, *count;
    int32_t *weights;
} plan;

static void free_plan(plan *p) {
    ot_free(p->first);
    ot_free(p->count);
    ot_free(p->weights);
}

static ot_status make_plan(int64_t n_in, double from, double length, int64_t n_out, ot_image_filter filter, plan *p, ot_error *err) {
    const struct kernel *k = &kernels[filter];
    double scale = length / (double)n_out, wide = scale < 1 ? 1 : scale, support = k->support * wide;
    *p = (plan){.size = (int64_t)ceil(support) * 2 + 1};
    double *exact = NULL;
    ot_status status = ot_calloc(n_out, 8, "a filter", (void **)&p->first, err);
    if (status == OT_OK) status = ot_calloc(n_out, 8, "a filter", (void **)&p->count, err);
    if (status == OT_OK) status = ot_calloc(n_out * p->size, 4, "a filter", (void **)&p->weights, err);
    if (status == OT_OK) status = ot_calloc(p->size, 8, "a filter", (void **)&exact, err);
    for (int64_t i = 0; status == OT_OK && i < n_out; i++) {
        double centre = from + ((double)i + 0.5) * scale, sum = 0;
        int64_t begin = (int64_t)(centre - support + 0.5), end = (int64_t)(centre + support + 0.5);
        begin = begin < 0 ? 0 : begin;
        end = end > n_in ? n_in : end;
        p->first[i] = begin;
        p->count[i] = end - begin;
        for (int64_t j = 0; j < end - begin; j++) {
            exact[j] = k->f(((double)(j + begin) - centre + 0.5) / wide);
            sum += exact[j];
        }
        for (int64_t j = 0; j < end - begin; j++) {
            double w = sum != 0 ? exact[j] / sum : exact[j];
            p->weights[i * p->size + j] = (int32_t)(w * (1 << PRECISION) + (w < 0 ? -0.5 : 0.5));
        }
    }
    ot_free(exact);
    if (status != OT_OK) free_plan(p);
    return status;
}

static uint8_t clip(int64_t v) {
    v >>= PRECISION;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* in [rows, width_in, 3] -> out [rows, width_out, 3] */
static void along_rows(const uint8_t *in, int64_t width_in, uint8_t *out, int64_t width_out, int64_t rows, const plan *p) {
    for (int64_t y = 0; y < rows; y++) {
        for (int64_t x = 0; x < width_out; x++) {
            int64_t sum[3] = {1 << (PRECISION - 1), 1 << (PRECISION - 1), 1 << (PRECISION - 1)};
            const uint8_t *from = in + (y * width_in + p->first[x]) * 3;
            const int32_t *w = p->weights + x * p->size;
            for (int64_t j = 0; j < p->count[x]; j++) {
                for (int c = 0; c < 3; c++) sum[c] += (int64_t)from[j * 3 + c] * w[j];
            }
            for (int c = 0; c < 3; c++) out[(y * width_out + x) * 3 + c] = clip(sum[c]);
        }
    }
}

/* in holds rows first .. of the picture; out [height_out, width, 3] */
static void along_columns(const uint8_t *in, int64_t first_row, uint8_t *out, int64_t width, int64_t height_out, const plan *p) {
    for (int64_t y = 0; y < height_out; y++) {
        const int32_t *w = p->weights + y * p->size;
        for (int64_t i = 0; i < width * 3; i++) {
            int64_t sum = 1 << (PRECISION - 1);
            const uint8_t *from = in + (p->first[y] - first_row) * width * 3 + i;
            for (int64_t j = 0; j < p->count[y]; j++) sum += (int64_t)from[j * width * 3] * w[j];
            out[y * width * 3 + i] = clip(sum);
        }
    }
}

static void nearest(const ot_image *in, const ot_image_box *box, const ot_image *out) {
    for (int64_t y = 0; y < out->height; y++) {
        for (int64_t x = 0; x < out->width; x++) {
            int64_t sx = (int64_t)(box->x + ((double)x + 0.5) * box->w / (double)out->width);
            int64_t sy = (int64_t)(box->y + ((double)y + 0.5) * box->h / (double)out->height);
            sx = sx < in->width ? sx : in->width - 1;
            sy = sy < in->height ? sy : in->height - 1;
            memcpy(out->rgb + (y * out->width + x) * 3, in->rgb + (sy * in->width + sx) * 3, 3);
        }
    }
}

static ot_status filtered(const ot_image *in, const ot_image_box *box, ot_image_filter filter, const ot_image *out, ot_error *err) {
    plan across = {0}, down = {0};
    uint8_t *between = NULL;
    ot_status status = make_plan(in->width, box->x, box->w, out->width, filter, &across, err);
    if (status == OT_OK) status = make_plan(in->height, box->y, box->h, out->height, filter, &down, err);
    if (status == OT_OK) {
        int64_t last = out->height - 1, first_row = down.first[0], rows = down.first[last] + down.count[last] - first_row;
        status = ot_malloc(rows * out->width, 3, "a picture", (void **)&between, err);
        if (status == OT_OK) {
            along_rows(in->rgb + first_row * in->width * 3, in->width, between, out->width, rows, &across);
            along_columns(between, first_row, out->rgb, out->width, out->height, &down);
        }
    }
    ot_free(between);
    free_plan(&across);
    free_plan(&down);
    return status;
}

ot_status ot_image_resize(const ot_image *in, const ot_image_box *box, int64_t width, int64_t height, ot_image_filter filter, ot_image *out,
                          ot_error *err) {
    OT_TRY(ot_image_new(width, height, "a resized picture", out, err));
    if (box->x == 0 && box->y == 0 && box->w == (double)width && box->h == (double)height && width == in->width && height == in->height) {
        memcpy(out->rgb, in->rgb, (size_t)(width * height * 3));
        return OT_OK;
    }
    ot_status status = OT_OK;
    if (filter == OT_FILTER_NEAREST) {
        nearest(in, box, out);
    } else {
        status = filtered(in, box, filter, out, err);
    }
    if (status != OT_OK) ot_image_free(out);
    return status;
}
