/* Methods that change the values of the middle's matrices, matrix by matrix as the file stores them: magnitude pruning and the fake quantization
 * of the paper's Figure 4. They ship no fewer bytes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/methods.h"

ot_status ot_emulator_add_change(ot_emulator *e, void (*apply)(const ot_emulator_change *, float *, int64_t, int64_t), double number,
                                 ot_error *err) {
    ot_emulator_change *c = ot_arena_alloc(&e->arena, sizeof *c, err);
    if (c == NULL) return OT_ERR_MEMORY;
    *c = (ot_emulator_change){.apply = apply, .number = number};
    ot_emulator_change **end = &e->changes;
    while (*end != NULL) end = &(*end)->next;
    *end = c;
    return OT_OK;
}

/* ==== Pruning: threshold = the k-th smallest magnitude, k = int(numel * ratio); what is below it becomes zero. ==== */

/* Magnitudes of finite floats order like the integers of their bits, so the k-th smallest is found by counting, without memory. */
static float kth_magnitude(const float *w, int64_t n, int64_t k) {
    uint32_t found = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        int64_t counts[256] = {0};
        uint32_t mask = shift == 24 ? 0 : UINT32_MAX << (shift + 8);
        for (int64_t i = 0; i < n; i++) {
            uint32_t bits;
            memcpy(&bits, &w[i], 4);
            bits &= 0x7FFFFFFFU;
            if ((bits & mask) == found) counts[bits >> shift & 255U]++;
        }
        uint32_t digit = 0;
        while (k > counts[digit]) k -= counts[digit++];
        found |= digit << shift;
    }
    float value;
    memcpy(&value, &found, 4);
    return value;
}

static void prune(const ot_emulator_change *c, float *w, int64_t rows, int64_t cols) {
    int64_t n = rows * cols, k = (int64_t)((double)n * c->number);
    if (k < 1) return;
    float threshold = kth_magnitude(w, n, k);
    for (int64_t i = 0; i < n; i++) {
        if (!(fabsf(w[i]) >= threshold)) w[i] = 0.0F;
    }
}

static ot_status apply_prune(ot_emulator *e, const ot_spec_step *step, ot_error *err) {
    return ot_emulator_add_change(e, prune, ot_spec_get(step, &ot_emulator_prune.spec, "ratio")->number, err);
}

const ot_emulator_method ot_emulator_prune = {
    .spec = {.name = "prune",
             .help = "zero the smallest magnitudes of every matrix",
             .keys = (const ot_spec_key[]){{"ratio", OT_SPEC_NUMBER, "0.5", 0, 1, "share of the values that become zero"}, {0}}},
    .apply = apply_prune,
};

/* ==== Fake quantization, in F32 and in this order; rounding is half to even. ==== */

static void fakequant(const ot_emulator_change *c, float *w, int64_t rows, int64_t cols) {
    int64_t n = rows * cols;
    if (n == 0) return;
    float low = w[0], high = w[0];
    for (int64_t i = 1; i < n; i++) {
        low = w[i] < low ? w[i] : low;
        high = w[i] > high ? w[i] : high;
    }
    float zero = (high + low) / 2.0F, scale = (high - low) / (float)((1 << (int)c->number) - 1);
    if (scale == 0.0F) return;
    for (int64_t i = 0; i < n; i++) {
        float code = nearbyintf((w[i] - zero) / scale), scaled = code * scale;
        w[i] = scaled + zero;
    }
}

static ot_status apply_fakequant(ot_emulator *e, const ot_spec_step *step, ot_error *err) {
    return ot_emulator_add_change(e, fakequant, ot_spec_get(step, &ot_emulator_fakequant.spec, "bits")->number, err);
}

const ot_emulator_method ot_emulator_fakequant = {
    .spec = {.name = "fakequant",
             .help = "round every matrix to 2^bits levels, as in the paper's Figure 4",
             .keys = (const ot_spec_key[]){{"bits", OT_SPEC_INTEGER, "4", 1, 8, "bits a value"}, {0}}},
    .apply = apply_fakequant,
};
