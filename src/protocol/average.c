#include "protocol/average.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "peft/lora.h"

/* ==== Opening. ==== */

static ot_status normalise(ot_average *a, const double *weights, ot_error *err) {
    double sum = 0;
    for (int64_t k = 0; k < a->n; k++) {
        double w = weights == NULL ? 1 : weights[k];
        if (!isfinite(w) || w < 0) return ot_fail(err, OT_ERR_USAGE, "--weights: %g is no weight: finite numbers from 0 on are needed", w);
        sum += w;
    }
    if (!(sum > 0) || !isfinite(sum)) return ot_fail(err, OT_ERR_USAGE, "--weights: the weights add up to %g: at least one must be above 0", sum);
    for (int64_t k = 0; k < a->n; k++) a->weights[k] = (weights == NULL ? 1 : weights[k]) / sum;
    return OT_OK;
}

static ot_status check_tensors(const ot_manifest *first, const ot_manifest *other, const char *dir, ot_error *err) {
    for (int64_t i = 0; i < first->n_tensors; i++) {
        const ot_manifest_tensor *t = &first->tensors[i], *o = ot_manifest_find(other, t->name);
        if (o == NULL) return ot_fail(err, OT_ERR_REFUSED, "%s lacks tensor %s, which the first return has: they cannot be averaged", dir, t->name);
        bool same = o->n_dims == t->n_dims;
        for (int32_t d = 0; same && d < t->n_dims; d++) same = o->shape[d] == t->shape[d];
        if (same) continue;
        char have[96], want[96];
        return ot_fail(err, OT_ERR_REFUSED, "%s: tensor %s has shape %s, but %s in the first return: they cannot be averaged", dir, t->name,
                       ot_shape_text(o->shape, o->n_dims, have, sizeof have), ot_shape_text(t->shape, t->n_dims, want, sizeof want));
    }
    if (other->n_tensors == first->n_tensors) return OT_OK;
    return ot_fail(err, OT_ERR_REFUSED, "%s has %lld tensors, but the first return %lld: they cannot be averaged", dir, (long long)other->n_tensors,
                   (long long)first->n_tensors);
}

static bool same_classes(const ot_manifest *a, const ot_manifest *b) {
    bool same = a->n_classes == b->n_classes;
    for (int64_t i = 0; same && i < a->n_classes; i++) same = strcmp(a->classes[i], b->classes[i]) == 0;
    return same;
}

static ot_status check_alike(const ot_return *first, const ot_return *other, const char *dir, ot_error *err) {
    const ot_peft_choice *c = &first->choice;
    bool same = other->choice.n == c->n;
    for (int32_t i = 0; same && i < c->n; i++) same = other->choice.methods[i] == c->methods[i];
    if (strcmp(other->manifest.offer_id, first->manifest.offer_id) != 0) {
        return ot_fail(err, OT_ERR_REFUSED, "%s is for offer %s, but the first return is for %s: they cannot be averaged", dir, other->manifest.offer_id,
                       first->manifest.offer_id);
    }
    if (!same) {
        return ot_fail(err, OT_ERR_REFUSED, "%s is of the method %s, but the first return of %s: they cannot be averaged", dir,
                       other->manifest.method, first->manifest.method);
    }
    if (ot_peft_adds(c) && c->n > 1) {
        return ot_fail(err, OT_ERR_REFUSED, "%s: returns of stacked methods (%s) cannot be averaged", dir, first->manifest.method);
    }
    if (ot_peft_adds(c) && !ot_peft_is(c, "lora")) {
        return ot_fail(err, OT_ERR_REFUSED, "%s: returns of the method %s cannot be averaged: their outputs are not linear in what was trained", dir,
                       c->methods[0]->spec.name);
    }
    if (!same_classes(&first->manifest, &other->manifest)) {
        return ot_fail(err, OT_ERR_REFUSED, "%s is for other classes than the first return, or has them in another order: they cannot be averaged", dir);
    }
    return check_tensors(&first->manifest, &other->manifest, dir, err);
}

ot_status ot_average_open(const char *const *dirs, const double *weights, int64_t n, ot_average *out, ot_error *err) {
    *out = (ot_average){.n = n};
    out->returns = ot_arena_alloc(&out->arena, n * (int64_t)sizeof *out->returns, err);
    out->weights = ot_arena_alloc(&out->arena, n * (int64_t)sizeof *out->weights, err);
    ot_status status = out->returns == NULL || out->weights == NULL ? OT_ERR_MEMORY : normalise(out, weights, err);
    for (int64_t k = 0; status == OT_OK && k < n; k++) {
        status = ot_return_open(dirs[k], &out->returns[k], err);
        if (status == OT_OK && k > 0) status = check_alike(&out->returns[0], &out->returns[k], dirs[k], err);
    }
    if (status != OT_OK) ot_average_close(out);
    return status;
}

void ot_average_close(ot_average *a) {
    for (int64_t k = 0; a->returns != NULL && k < a->n; k++) ot_return_close(&a->returns[k]);
    ot_arena_free(&a->arena);
    *a = (ot_average){0};
}

/* ==== Replaced parameters. ==== */

ot_status ot_average_map(ot_average *a, const ot_model *m, const int64_t *block_map, int64_t n_blocks, ot_error *err) {
    a->values = ot_arena_alloc(&a->arena, (a->n * m->n_params + 1) * (int64_t)sizeof *a->values, err);
    if (a->values == NULL) return OT_ERR_MEMORY;
    for (int64_t k = 0; k < a->n; k++) OT_TRY(ot_return_map(&a->returns[k], m, block_map, n_blocks, a->values + k * m->n_params, err));
    return OT_OK;
}

bool ot_average_changes(const ot_average *a, int64_t i) { return a->values[i] != NULL; }

/* Floats may lie unaligned in a file. A single return has the weight 1 and comes out as it is. */
void ot_average_read(const ot_average *a, const ot_model *m, int64_t i, float *out) {
    int64_t n = ot_param_elements(&m->params[i]);
    for (int64_t e = 0; e < n; e++) {
        double sum = -0.0; /* so that a single -0 stays one */
        for (int64_t k = 0; k < a->n; k++) {
            float v;
            memcpy(&v, a->values[k * m->n_params + i] + e, sizeof v);
            sum += a->weights[k] * (double)v;
        }
        out[e] = (float)sum;
    }
}

/* ==== LoRA. ==== */

/* Places of all returns side by side: the ranks add up. `from` is attached to the same model. */
static ot_status add_places(const ot_average *a, const ot_peft *from, ot_peft *p, int64_t *rank, ot_error *err) {
    for (int32_t block = 0; block < p->model->desc.layers; block++) {
        for (int role = 0; role < OT_ROLE_COUNT; role++) {
            const ot_lora_place *place = ot_lora_at(from, block, (ot_role)role);
            if (place == NULL) continue;
            *rank = a->n * place->a->slot.rows;
            OT_TRY(ot_lora_add(p, block, (ot_role)role, *rank, 1, err));
        }
    }
    return OT_OK;
}

/* Return k's matrices into their rows of A and columns of B; weight and scale go into B, so that the places of p have the scale 1. */
static void fill_places(const ot_average *a, int64_t k, const ot_peft *from, ot_peft *p) {
    for (int32_t block = 0; block < p->model->desc.layers; block++) {
        for (int role = 0; role < OT_ROLE_COUNT; role++) {
            const ot_lora_place *place = ot_lora_at(from, block, (ot_role)role), *to = ot_lora_at(p, block, (ot_role)role);
            if (place == NULL) continue;
            int64_t r = place->a->slot.rows, in = place->a->slot.cols, out = place->b->slot.rows, all = to->a->slot.rows;
            double factor = a->weights[k] * place->scale;
            memcpy(to->a->values + k * r * in, place->a->values, (size_t)(r * in) * sizeof(float));
            for (int64_t o = 0; o < out; o++) {
                for (int64_t i = 0; i < r; i++) to->b->values[o * all + k * r + i] = (float)(factor * (double)place->b->values[o * r + i]);
            }
        }
    }
}

/* The head as attached of return k: `sums` collects the weighted heads of all. */
static void add_heads(const ot_average *a, int64_t k, const ot_model *m, double *sums) {
    for (int64_t i = 0; i < m->n_params; i++) {
        const ot_param *param = &m->params[i];
        if (!ot_model_tunes_head(m, param)) continue;
        for (int64_t e = 0; e < ot_param_elements(param); e++) {
            float v;
            const char *at = (const char *)param->slot.data + e * ot_dtype_info(param->slot.dtype)->block_bytes;
            ot_decode_f32(param->slot.dtype, at, &v, 1);
            *sums++ += a->weights[k] * (double)v;
        }
    }
}

static ot_status set_heads(ot_model *m, ot_peft *p, const double *sums, ot_error *err) {
    for (int64_t i = 0; i < m->n_params; i++) {
        ot_param *param = &m->params[i];
        if (!ot_model_tunes_head(m, param)) continue;
        int64_t n = ot_param_elements(param);
        float *values = ot_arena_alloc(&p->arena, n * (int64_t)sizeof *values, err);
        if (values == NULL) return OT_ERR_MEMORY;
        for (int64_t e = 0; e < n; e++) values[e] = (float)*sums++;
        param->slot.data = values;
        param->slot.dtype = OT_F32;
    }
    return OT_OK;
}

static ot_status combine(const ot_average *a, ot_model *m, const int64_t *block_map, int64_t n_blocks, double *sums, ot_peft *p, ot_error *err) {
    int64_t rank = 0;
    for (int64_t k = 0; k < a->n; k++) {
        ot_peft one = {0};
        OT_TRY(ot_return_attach(&a->returns[k], m, block_map, n_blocks, &one, err));
        ot_status status = k == 0 ? ot_lora_begin(p, false, m, one.tuned, err) : OT_OK;
        if (status == OT_OK && k == 0) status = add_places(a, &one, p, &rank, err);
        if (status == OT_OK) {
            fill_places(a, k, &one, p);
            add_heads(a, k, m, sums);
            /* The next return's head, or the mean, takes the place of this one's before anything reads it. */
            if (k == a->n - 1) status = set_heads(m, p, sums, err);
        }
        ot_peft_end(&one);
        OT_TRY(status);
    }
    /* As --peft would say it, for the files. */
    snprintf(p->text, sizeof p->text, "lora:r=%lld,alpha=%lld,dropout=0", (long long)rank, (long long)rank);
    return ot_peft_parse(p->text, &p->choice, err);
}

ot_status ot_average_attach(const ot_average *a, ot_model *m, const int64_t *block_map, int64_t n_blocks, ot_peft *p, ot_error *err) {
    if (a->n == 1) return ot_return_attach(&a->returns[0], m, block_map, n_blocks, p, err);
    int64_t heads = 0;
    for (int64_t i = 0; i < m->n_params; i++) {
        if (ot_model_tunes_head(m, &m->params[i])) heads += ot_param_elements(&m->params[i]);
    }
    double *sums = NULL;
    OT_TRY(ot_calloc(heads, sizeof *sums, "the mean of the heads", (void **)&sums, err));
    ot_status status = combine(a, m, block_map, n_blocks, sums, p, err);
    ot_free(sums);
    if (status != OT_OK) ot_peft_end(p);
    return status;
}
