/* Methods that change the values of the middle's matrices, matrix by matrix as the file stores them: fake quantization of the paper's Figure 4, and
 * packed quantization, which ships fewer bytes. */
#include <math.h>
#include <string.h>

#include "emulator/methods.h"
#include "tensor/packed.h"

/* ==== Fake quantization, in F32 and in this order; rounding is half to even. ==== */

static ot_status fakequant(const ot_emulator_change *c, ot_emulator_matrix *m, ot_error *err) {
    float *w = m->values;
    int64_t n = m->rows * m->cols;
    (void)err;
    if (n == 0) return OT_OK;
    float low = w[0], high = w[0];
    for (int64_t i = 1; i < n; i++) {
        low = w[i] < low ? w[i] : low;
        high = w[i] > high ? w[i] : high;
    }
    float zero = (high + low) / 2.0F, scale = (high - low) / (float)((1 << c->count) - 1);
    if (scale == 0.0F) return OT_OK;
    for (int64_t i = 0; i < n; i++) {
        float code = nearbyintf((w[i] - zero) / scale), scaled = code * scale;
        w[i] = scaled + zero;
    }
    return OT_OK;
}

static ot_status apply_fakequant(ot_emulator *e, const ot_spec_step *step, ot_error *err) {
    ot_emulator_change *c = NULL;
    OT_TRY(ot_emulator_add_change(e, "fakequant", &c, err));
    c->matrix = fakequant;
    c->count = (int64_t)ot_spec_get(step, &ot_emulator_fakequant.spec, "bits")->number;
    return OT_OK;
}

const ot_emulator_method ot_emulator_fakequant = {
    .spec = {.name = "fakequant",
             .help = "round every matrix to 2^bits levels, as in the paper's Figure 4; no fewer bytes",
             .keys = (const ot_spec_key[]){{"bits", OT_SPEC_INTEGER, "4", 1, 8, "bits a value"}, {0}}},
    .apply = apply_fakequant,
};

/* ==== Packed quantization. ==== */

/* The values that the packed form would have. */
static ot_status round_trip(const ot_emulator_change *c, ot_emulator_matrix *m, ot_error *err) {
    ot_dtype dtype = c->count == 4 ? OT_INT4G : OT_INT8G;
    void *codes = NULL, *scales = NULL;
    ot_status status = ot_malloc(m->rows * ot_packed_row_bytes(dtype, m->cols), 1, "packed codes", &codes, err);
    if (status == OT_OK) status = ot_malloc(m->rows * ot_packed_row_groups(m->cols, c->group), 2, "packed scales", &scales, err);
    if (status == OT_OK) {
        ot_packed_encode(dtype, m->values, c->group, m->rows, m->cols, codes, scales);
        ot_packed_decode_all(dtype, codes, scales, c->group, m->rows, m->cols, m->values);
    }
    ot_free(codes);
    ot_free(scales);
    return status;
}

static ot_status apply_quantize(ot_emulator *e, const ot_spec_step *step, ot_error *err) {
    const ot_spec_method *spec = &ot_emulator_quantize.spec;
    int64_t bits = (int64_t)ot_spec_get(step, spec, "bits")->number, group = (int64_t)ot_spec_get(step, spec, "group")->number;
    const char *packed = ot_spec_get(step, spec, "packed")->word;
    bool yes = strcmp(packed, "yes") == 0;
    if (bits != 4 && bits != 8) return ot_fail(err, OT_ERR_USAGE, "--emulator: quantize: bits is 8 or 4, not %lld", (long long)bits);
    if (!yes && strcmp(packed, "no") != 0) return ot_fail(err, OT_ERR_USAGE, "--emulator: quantize: packed is yes or no, not \"%s\"", packed);
    ot_emulator_change *c = NULL;
    OT_TRY(ot_emulator_add_change(e, "quantize", &c, err));
    c->count = bits;
    c->group = group;
    if (yes) {
        /* Packed once, when the block is stored: the change itself has nothing to do. */
        e->form.bits = (int32_t)bits;
        e->form.group = (int32_t)group;
        c->matrix = NULL;
    } else {
        c->matrix = round_trip;
    }
    return OT_OK;
}

const ot_emulator_method ot_emulator_quantize = {
    .spec = {.name = "quantize",
             .help = "pack the matrices as int8 or int4 with a bf16 scale for each group of values: fewer bytes, less memory",
             .keys =
                 (const ot_spec_key[]){
                     {"bits", OT_SPEC_INTEGER, "8", 4, 8, "8 or 4"},
                     {"group", OT_SPEC_INTEGER, "64", OT_PACKED_MIN_GROUP, OT_PACKED_MAX_GROUP, "values of a row that share a scale"},
                     {"packed", OT_SPEC_WORD, "yes", 0, 0, "no: ship the decoded values as plain tensors, for other programs"},
                     {0},
                 }},
    .apply = apply_quantize,
};
