#include "emulator/emulator.h"

#include <stddef.h>
#include <string.h>

static int64_t middle_size(int64_t layers, int64_t bottom, int64_t top) { return layers - bottom - top; }

ot_status ot_emulator_plan(const char *recipe, const ot_model *m, int64_t layers, int64_t bottom, int64_t top, ot_emulator *out, ot_error *err) {
    const ot_spec_method *methods[64] = {0};
    for (int i = 0; ot_emulator_methods[i] != NULL && i < 63; i++) methods[i] = &ot_emulator_methods[i]->spec;
    *out = (ot_emulator){.model = m, .bottom = bottom, .top = top};
    if (bottom < 0 || top < 0 || bottom + top < 1) return ot_fail(err, OT_ERR_USAGE, "--bottom and --top must leave at least one adapter layer");
    if (bottom > layers || top > layers || middle_size(layers, bottom, top) < 1) {
        return ot_fail(err, OT_ERR_USAGE, "--bottom %lld and --top %lld leave no middle in a model of %lld layers", (long long)bottom,
                       (long long)top, (long long)layers);
    }
    ot_spec spec;
    OT_TRY(ot_spec_parse(recipe, "--emulator", methods, &spec, err));
    out->n_kept = middle_size(layers, bottom, top);
    out->kept = ot_arena_alloc(&out->arena, out->n_kept * (int64_t)sizeof *out->kept, err);
    if (out->kept == NULL) return OT_ERR_MEMORY;
    for (int64_t i = 0; i < out->n_kept; i++) out->kept[i] = bottom + i;
    for (int32_t i = 0; i < spec.n_steps; i++) {
        ot_status status = ot_emulator_methods[spec.steps[i].method]->apply(out, &spec.steps[i], err);
        if (status != OT_OK) {
            ot_emulator_free(out);
            return status;
        }
    }
    return OT_OK;
}

void ot_emulator_free(ot_emulator *e) {
    ot_arena_free(&e->arena);
    *e = (ot_emulator){0};
}

int64_t ot_emulator_stack_size(const ot_emulator *e) { return e->bottom + e->n_kept + e->top; }

void ot_emulator_stack(const ot_emulator *e, int64_t layers, int64_t *blocks) {
    int64_t n = 0;
    for (int64_t i = 0; i < e->bottom; i++) blocks[n++] = i;
    for (int64_t i = 0; i < e->n_kept; i++) blocks[n++] = e->kept[i];
    for (int64_t i = layers - e->top; i < layers; i++) blocks[n++] = i;
}

bool ot_emulator_changes(const ot_emulator *e, const ot_param *p) {
    if (e->changes == NULL || p->stored.n_dims < 2) return false;
    for (int64_t i = 0; i < e->n_kept; i++) {
        if (e->kept[i] == p->block) return true;
    }
    return false;
}

void ot_emulator_apply(const ot_emulator *e, const ot_param *p, float *values) {
    for (const ot_emulator_change *c = e->changes; c != NULL; c = c->next) c->apply(c, values, p->slot.rows, p->slot.cols);
}
