#include "eval/emulation.h"

#include <math.h>
#include <string.h>

#include "base/parallel.h"

static bool is_adapter(const ot_model *m, const ot_param *p, const ot_emulation_options *o) {
    return p->block >= 0 && (p->block < o->bottom || p->block >= m->desc.layers - o->top);
}

/* Adapter parameters' slots get their gradients laid out in model order, which is bottom first. */
static ot_status lend_gradients(const ot_model *m, const ot_emulation_options *o, ot_emulation_side *s, ot_slot *before, ot_error *err) {
    for (int64_t i = 0; i < m->n_params; i++) {
        const ot_param *p = &m->params[i];
        before[i] = p->slot;
        if (!is_adapter(m, p, o)) continue;
        s->values += ot_param_elements(p);
        if (p->block < o->bottom) s->bottom_values += ot_param_elements(p);
    }
    OT_TRY(ot_calloc(s->values, sizeof *s->gradient, "gradients of the adapter layers", (void **)&s->gradient, err));
    int64_t at = 0;
    for (int64_t i = 0; i < m->n_params; i++) {
        ot_param *p = &m->params[i];
        if (!is_adapter(m, p, o)) continue;
        p->slot.trainable = true;
        p->slot.grad = s->gradient + at;
        at += ot_param_elements(p);
    }
    return OT_OK;
}

static ot_status run_row(ot_network *net, const ot_dataset *data, int64_t row, ot_emulation_side *s, ot_error *err) {
    double sum = 0, start = ot_seconds();
    ot_network_clear(net);
    OT_TRY(ot_dataset_add_row(net, data, row, err));
    OT_TRY(ot_network_run(net, &(ot_run_options){.loss_scale = 1.0 / (double)data->counted[row]}, &sum, err));
    double seconds = ot_seconds() - start;
    if (s->rows == 0 || seconds < s->seconds) s->seconds = seconds;
    s->loss += sum / (double)data->counted[row];
    s->rows++;
    return OT_OK;
}

static ot_status run(const ot_model *m, const ot_dataset *data, const ot_emulation_options *o, ot_emulation_side *s, ot_error *err) {
    ot_network_options options = {
        .plan = {.backend = o->backend, .compute = o->compute, .max_rows = data->length, .max_targets = ot_dataset_most_targets(data), .train = true},
        .outputs = OT_OUT_LOSS,
        .max_segments = ot_dataset_most_examples(data),
        .image_height = data->pixels != NULL ? data->pixels->height : 0,
        .image_width = data->pixels != NULL ? data->pixels->width : 0,
    };
    ot_network *net = NULL;
    OT_TRY(ot_network_new(m, &options, &net, err));
    s->activations = ot_network_bytes(net);
    ot_status status = OT_OK;
    for (int64_t r = 0; status == OT_OK && r < data->rows; r++) {
        if (data->counted[r] > 0) status = run_row(net, data, r, s, err);
    }
    ot_network_free(net);
    if (status == OT_OK && s->rows == 0) status = ot_fail(err, OT_ERR_REFUSED, "the data have no target to predict: nothing can be measured on them");
    s->loss /= (double)s->rows;
    return status;
}

ot_status ot_emulation_run(const ot_model *m, const ot_dataset *data, const ot_emulation_options *options, ot_emulation_side *out, ot_error *err) {
    ot_slot *before = NULL;
    *out = (ot_emulation_side){0};
    OT_TRY(ot_malloc(m->n_params, sizeof *before, "a parameter table", (void **)&before, err));
    ot_status status = lend_gradients(m, options, out, before, err);
    if (status == OT_OK) status = run(m, data, options, out, err);
    for (int64_t i = 0; i < m->n_params; i++) m->params[i].slot = before[i];
    ot_free(before);
    if (status != OT_OK) ot_emulation_free(out);
    return status;
}

void ot_emulation_free(ot_emulation_side *s) {
    ot_free(s->gradient);
    *s = (ot_emulation_side){0};
}

static double cosine(const float *a, const float *b, int64_t n) {
    double ab = 0, aa = 0, bb = 0;
    for (int64_t i = 0; i < n; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : NAN;
}

/* Values without a gradient on either side say nothing. */
static double same_signs(const float *a, const float *b, int64_t n) {
    int64_t same = 0, counted = 0;
    for (int64_t i = 0; i < n; i++) {
        if (a[i] == 0.0F || b[i] == 0.0F) continue;
        same += (a[i] > 0.0F) == (b[i] > 0.0F);
        counted++;
    }
    return counted > 0 ? (double)same / (double)counted : NAN;
}

ot_status ot_emulation_compare(const ot_emulation_side *full, int64_t full_weights, const ot_emulation_side *emulator, int64_t emulator_weights,
                               ot_emulation *out, ot_error *err) {
    if (full->values != emulator->values || full->bottom_values != emulator->bottom_values) {
        return ot_fail(err, OT_ERR_REFUSED, "the two models have other adapter layers, which cannot be compared");
    }
    int64_t bottom = full->bottom_values, top = full->values - bottom;
    *out = (ot_emulation){
        .rows = emulator->rows,
        .full_perplexity = exp(full->loss),
        .emulator_perplexity = exp(emulator->loss),
        .cpl = exp(full->loss - emulator->loss),
        .fidelity = cosine(full->gradient, emulator->gradient, full->values),
        .fidelity_bottom = cosine(full->gradient, emulator->gradient, bottom),
        .fidelity_top = cosine(full->gradient + bottom, emulator->gradient + bottom, top),
        .sign_agreement = same_signs(full->gradient, emulator->gradient, full->values),
        .time_ratio = emulator->seconds / full->seconds,
        .memory_ratio = (double)(emulator->activations + emulator_weights) / (double)(full->activations + full_weights),
    };
    return OT_OK;
}

bool ot_emulation_is_chance(const ot_emulation *e) { return e->sign_agreement < 0.52; }
