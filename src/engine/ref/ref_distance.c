/* Reference backend: DISTANCE, the distillation loss mean((S - T)^2) / mean(T^2) of student S [R, D] and teacher T [R, D]. */
#include <math.h>

#include "engine/ref/ref.h"

static ot_status distance(const ot_call *call, bool gradients) {
    const ot_view *student = &call->in[0], *teacher = &call->in[1];
    int64_t R = student->rows, D = student->cols;
    ot_ref_work work;
    OT_TRY(ot_ref_begin(call, &work));
    double *s = ot_ref_take(&work, D), *t = ot_ref_take(&work, D), apart = 0, size = 0;
    for (int64_t r = 0; r < R; r++) {
        ot_ref_load(student->x, student->dtype, r * D, D, s);
        ot_ref_load(teacher->x, teacher->dtype, r * D, D, t);
        for (int64_t c = 0; c < D; c++) s[c] -= t[c];
        apart += ot_ref_dot(s, s, D);
        size += ot_ref_dot(t, t, D);
    }
    call->batch->distances[call->attr->distance.index] = R > 0 ? apart / size : 0.0;
    if (R > 0 && size == 0) {
        return ot_fail(call->err, OT_ERR_NUMERIC, "distance: the teacher's hidden states are all zero: there is nothing to compare with");
    }
    if (!gradients || student->dx == NULL) return OT_OK;
    double slope = (double)call->attr->distance.weight * call->batch->distance_scale * 2.0 / size;
    for (int64_t r = 0; r < R; r++) {
        ot_ref_load(student->x, student->dtype, r * D, D, s);
        ot_ref_load(teacher->x, teacher->dtype, r * D, D, t);
        for (int64_t c = 0; c < D; c++) s[c] = slope * (s[c] - t[c]);
        ot_ref_store_dx(student, r * D, D, s);
    }
    return OT_OK;
}

ot_status ot_ref_distance_forward(const ot_call *call) { return distance(call, false); }
ot_status ot_ref_distance_backward(const ot_call *call) { return distance(call, true); }
