/* Reference backend: DIVERGENCE and GIVEN, of distillation. Student X [L, D] with head W [V, D], teacher Y [L, E] with head U [V, E]. Two walks over the
 * vocabulary as in HEAD_LOSS: the first finds every row's sums, the second, for gradients only, computes the scores again. */
#include <math.h>

#include "engine/ref/ref.h"

/* Of one row: of the teacher also the sum of e^(score - max) * (score - the student's score). */
typedef struct row_sums {
    double max, sum, apart;
} row_sums;

enum { DOUBLES_OF_SUMS = (int)(sizeof(row_sums) / sizeof(double)) };

int64_t ot_ref_divergence_doubles(const ot_call *call) {
    return call->in[0].rows * (2 * call->in[0].cols + call->in[1].cols + 2 * DOUBLES_OF_SUMS);
}

static void take_score(row_sums *s, double score, double apart) {
    if (score > s->max) { /* sums are relative to the largest score so far */
        s->sum *= exp(s->max - score);
        s->apart *= exp(s->max - score);
        s->max = score;
    }
    s->sum += exp(score - s->max);
    s->apart += exp(score - s->max) * apart;
}

static double log_sum(const row_sums *s) { return s->max + log(s->sum); }

static ot_status divergence(const ot_call *call, bool gradients) {
    const ot_view *student = &call->in[0], *teacher = &call->in[1];
    const ot_weight *W = &call->w[0], *U = &call->w[1];
    int64_t L = student->rows, D = student->cols, E = teacher->cols, V = W->rows;
    double T = (double)call->attr->divergence.temperature;
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    double *x = ot_ref_take(&work, L * D), *dx = ot_ref_take_zeros(&work, L * D), *y = ot_ref_take(&work, L * E);
    double *w = ot_ref_take(&work, D), *u = ot_ref_take(&work, E), *dw = ot_ref_take(&work, D);
    float *decoded = ot_ref_take_floats(&work, D > E ? D : E);
    row_sums *q = (row_sums *)ot_ref_take_zeros(&work, L * DOUBLES_OF_SUMS), *p = (row_sums *)ot_ref_take_zeros(&work, L * DOUBLES_OF_SUMS);
    ot_ref_load(student->x, student->dtype, 0, L * D, x);
    ot_ref_load(teacher->x, teacher->dtype, 0, L * E, y);
    for (int64_t l = 0; l < L; l++) q[l].max = p[l].max = -INFINITY;
    for (int64_t v = 0; v < V; v++) {
        ot_ref_weight_row(W, v, decoded, w);
        ot_ref_weight_row(U, v, decoded, u);
        for (int64_t l = 0; l < L; l++) {
            double s = ot_ref_dot(x + l * D, w, D) / T, t = ot_ref_dot(y + l * E, u, E) / T;
            take_score(&q[l], s, 0);
            take_score(&p[l], t, t - s);
        }
    }
    double sum = 0;
    for (int64_t l = 0; l < L; l++) sum += p[l].apart / p[l].sum - log_sum(&p[l]) + log_sum(&q[l]);
    call->batch->distances[call->attr->divergence.index] = L > 0 ? T * T * sum / (double)L : 0.0;
    if (!gradients || L == 0) return OT_OK;
    double slope = (double)call->attr->divergence.weight * call->batch->distance_scale * T / (double)L;
    for (int64_t v = 0; v < V; v++) {
        ot_ref_weight_row(W, v, decoded, w);
        ot_ref_weight_row(U, v, decoded, u);
        for (int64_t c = 0; c < D; c++) dw[c] = 0;
        for (int64_t l = 0; l < L; l++) {
            double s = ot_ref_dot(x + l * D, w, D) / T, t = ot_ref_dot(y + l * E, u, E) / T;
            double g = slope * (exp(s - log_sum(&q[l])) - exp(t - log_sum(&p[l])));
            ot_ref_axpy(g, w, dx + l * D, D);
            ot_ref_axpy(g, x + l * D, dw, D);
        }
        ot_ref_add_dw(call, W, v, dw);
    }
    ot_ref_store_dx(student, 0, L * D, dx);
    return OT_OK;
}

ot_status ot_ref_divergence_forward(const ot_call *call) { return divergence(call, false); }
ot_status ot_ref_divergence_backward(const ot_call *call) { return divergence(call, true); }

/* given [R, D] */
ot_status ot_ref_given_forward(const ot_call *call) {
    const ot_view *out = &call->out;
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    double *row = ot_ref_take(&work, out->cols);
    for (int64_t r = 0; r < out->rows; r++) {
        ot_ref_load(call->batch->given[call->attr->given.index], OT_F32, r * out->cols, out->cols, row);
        ot_ref_store(out->x, out->dtype, r * out->cols, out->cols, row, false);
    }
    return OT_OK;
}
