/* Networks: tables that depend on the description, batches, running. */
#include "model/network.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/network_internal.h"

/* Slopes of ALiBi for any number of heads: powers of 2^(-8/n) for n = the largest power of two, then every other one of the next. */
static void alibi_slopes(float *slopes, int64_t heads) {
    int64_t n = 1;
    while (n * 2 <= heads) n *= 2;
    double base = pow(2.0, -8.0 / (double)n), extra = pow(2.0, -4.0 / (double)n);
    for (int64_t h = 0; h < heads; h++) {
        slopes[h] = (float)(h < n ? pow(base, (double)(h + 1)) : pow(extra, (double)(2 * (h - n) + 1)));
    }
}

/* Of the plain blocks, then of each block of another form: of the heads that it kept. */
static void all_slopes(ot_network *n) {
    const ot_forms *f = &n->model->forms;
    int64_t heads = n->model->desc.heads;
    alibi_slopes(n->alibi, heads);
    for (int64_t b = 0; b < f->count; b++) {
        float *own = n->alibi + (b + 1) * heads;
        memcpy(own, n->alibi, (size_t)heads * sizeof *own);
        for (int64_t h = 0; f->head_numbers != NULL && h < f->form.heads; h++) own[h] = n->alibi[f->head_numbers[b * f->form.heads + h]];
    }
}

/* As transformers computes them, in F32, with the llama3 rescaling of long wavelengths. */
static void rope_frequencies(const ot_desc *d, float *inv_freq) {
    int64_t half = d->rotary_dim / 2;
    for (int64_t i = 0; i < half; i++) {
        float f = 1.0F / powf((float)d->rope_theta, (float)(2 * i) / (float)d->rotary_dim);
        if (d->rope_scaling == OT_ROPE_LINEAR) f /= (float)d->rope_factor;
        if (d->rope_scaling == OT_ROPE_LLAMA3) {
            double wavelength = 2.0 * M_PI / (double)f;
            double low = d->rope_original_positions / d->rope_low_freq, high = d->rope_original_positions / d->rope_high_freq;
            if (wavelength > low) {
                f = (float)((double)f / d->rope_factor);
            } else if (wavelength >= high) {
                double smooth = (d->rope_original_positions / wavelength - d->rope_low_freq) / (d->rope_high_freq - d->rope_low_freq);
                f = (float)((1.0 - smooth) * (double)f / d->rope_factor + smooth * (double)f);
            }
        }
        inv_freq[i] = f;
    }
}

/* Carves arrays out of one block of storage; the first pass (base NULL) measures. */
typedef struct carver {
    uint8_t *base;
    int64_t used;
} carver;

static void *carve(carver *c, int64_t count, int64_t size) {
    void *p = c->base == NULL ? NULL : c->base + c->used;
    c->used += ot_round_up(count * size, OT_ALIGN);
    return p;
}

static void carve_all(ot_network *n, carver *c) {
    int64_t rows = n->options.plan.max_rows, targets = n->options.plan.max_targets, kept = n->options.plan.max_kept;
    if (n->model->desc.vision) {
        n->pixels = carve(c, n->options.max_segments * n->options.image_height * n->options.image_width * n->model->desc.channels, 4);
    }
    n->ids = carve(c, rows, 4);
    n->positions = carve(c, rows, 4);
    n->slots = carve(c, rows, 4);
    n->kept_rows = carve(c, kept > 0 ? rows : 0, 4);
    n->key_slots = carve(c, kept, 4);
    n->target_rows = carve(c, targets, 4);
    n->targets = carve(c, targets, 4);
    n->cos = carve(c, rows * n->half, 4);
    n->sin = carve(c, rows * n->half, 4);
    n->segments = carve(c, n->options.max_segments, (int64_t)sizeof *n->segments);
    const ot_teacher *t = n->options.teacher;
    bool given = t != NULL && t->use == OT_TEACHER_GIVEN;
    for (int64_t k = 0; given && k < ot_teacher_outputs(t); k++) n->given[k] = carve(c, rows * n->model->desc.hidden_size, 4);
    n->sequence_start = carve(c, n->options.max_segments + 1, 8);
    n->row_of = carve(c, rows * 2 + n->options.max_segments, 4);
}

ot_status ot_network_new(const ot_model *m, const ot_network_options *options, ot_network **out, ot_error *err) {
    ot_network *n = calloc(1, sizeof *n);
    if (n == NULL) return ot_fail_memory(err, sizeof *n, "a network");
    n->model = m;
    n->options = *options;
    n->options.plan.max_rows += options->max_segments * ot_hooks_virtual(options->hooks);
    n->expected = -1;
    n->n_items = options->items == NULL ? ot_model_depth(m) : options->n_items;
    n->logits = OT_NO_VALUE;
    n->half = m->desc.position == OT_POSITION_ROPE ? m->desc.rotary_dim / 2 : 0;
    n->hidden = calloc((size_t)n->n_items + 1, sizeof *n->hidden);
    n->distances = calloc((size_t)n->n_items + OT_OWN_DISTANCES, sizeof *n->distances);
    n->taught = calloc((size_t)n->n_items + 2, sizeof *n->taught);
    n->given = calloc((size_t)n->n_items + 2, sizeof *n->given);
    n->alibi = calloc((size_t)m->desc.heads * (size_t)(m->forms.count + 1), sizeof *n->alibi);
    n->inv_freq = calloc((size_t)n->half + 1, sizeof *n->inv_freq);
    ot_status status = OT_OK;
    if (n->hidden == NULL || n->distances == NULL || n->taught == NULL || n->given == NULL || n->alibi == NULL || n->inv_freq == NULL) status = ot_fail_memory(err, (uint64_t)n->n_items * 4, "a network");
    if (status == OT_OK) {
        all_slopes(n);
        rope_frequencies(&m->desc, n->inv_freq);
        status = m->desc.vision ? ot_network_image_size(n, err) : OT_OK;
    }
    if (status == OT_OK) {
        carver measure = {0};
        carve_all(n, &measure);
        n->storage_bytes = measure.used;
        status = ot_network_emit(n, err);
    }
    if (status != OT_OK) {
        ot_network_free(n);
        return status;
    }
    *out = n;
    return OT_OK;
}

void ot_network_free(ot_network *n) {
    if (n == NULL) return;
    ot_plan_free(n->plan);
    free(n->hidden);
    free(n->distances);
    free(n->taught);
    free(n->given);
    free(n->alibi);
    free(n->inv_freq);
    ot_free(n->storage);
    ot_free(n->positions_table);
    free(n);
}

ot_plan *ot_network_plan(ot_network *n) { return n->plan; }

int64_t ot_network_bytes(const ot_network *n) {
    ot_plan_memory_info info;
    ot_plan_memory(n->plan, &info);
    return info.activations + info.scratch + info.kept + n->storage_bytes;
}

ot_status ot_network_allocate(ot_network *n, ot_error *err) {
    if (n->storage == NULL) {
        OT_TRY(ot_calloc(n->storage_bytes, 1, "batches", &n->storage, err));
        carver c = {.base = n->storage};
        carve_all(n, &c);
    }
    return ot_plan_allocate(n->plan, err);
}

void ot_network_clear(ot_network *n) {
    n->rows = n->n_targets = n->n_segments = n->columns = n->virtual_rows = 0;
    n->expected = -1;
}

void ot_network_expect(ot_network *n, int32_t id) { n->expected = id; }

int64_t ot_network_rows(const ot_network *n) { return n->rows - n->virtual_rows; }
int64_t ot_network_targets(const ot_network *n) { return n->n_targets; }

int64_t ot_network_row_of(const ot_network *n, int64_t sequence, int64_t column) { return n->row_of[n->sequence_start[sequence] + column]; }

static ot_status check_token(const ot_network *n, int32_t id, int64_t column, ot_error *err) {
    if (id >= 0 && id < n->model->desc.vocab_size) return OT_OK;
    return ot_fail(err, OT_ERR_FORMAT, "token id %d at position %lld is outside the vocabulary of %lld", id, (long long)column,
                   (long long)n->model->desc.vocab_size);
}

static ot_status put_target(ot_network *n, int64_t row, int64_t column, int32_t target, ot_error *err) {
    OT_TRY(check_token(n, target, column, err));
    if (n->n_targets >= n->options.plan.max_targets) return ot_fail(err, OT_ERR_USAGE, "a batch of more targets than planned");
    n->target_rows[n->n_targets] = (int32_t)row;
    n->targets[n->n_targets++] = target;
    return OT_OK;
}

/* One token: the next row, in this column of its sequence. */
static int64_t put_row(ot_network *n, int32_t id, int64_t column, int64_t position, ot_cache_lane *cache, int64_t kept) {
    int64_t r = n->rows++;
    n->ids[r] = id;
    n->slots[r] = (int32_t)column;
    n->positions[r] = (int32_t)position;
    if (cache != NULL) {
        n->kept_rows[r] = (int32_t)(cache->first_row + kept);
        n->key_slots[cache->first_row + kept] = (int32_t)column;
    }
    return r;
}

/* Virtual tokens stand before all columns of a mask, as PEFT puts them. */
static ot_status put_virtual(ot_network *n, int64_t count, int64_t shift, ot_cache_lane *cache, ot_error *err) {
    int64_t last = 0;
    for (int64_t k = 0; k < count; k++) last = put_row(n, (int32_t)(-1 - k), k, shift + k, cache, k);
    n->virtual_rows += count;
    return count > 0 && n->expected >= 0 ? put_target(n, last, -1, n->expected, err) : OT_OK;
}

/* stem: the segment whose rows this sequence goes on from, or NULL. */
static ot_status append(ot_network *n, const int32_t *ids, const int64_t *mask, const int32_t *targets, int64_t count, const ot_segment *stem,
                        ot_cache_lane *cache, ot_error *err) {
    const ot_desc *d = &n->model->desc;
    if (d->vision) return ot_fail(err, OT_ERR_USAGE, "%s reads images, not text", n->model->path);
    OT_TRY(ot_network_allocate(n, err));
    int64_t shift = n->options.hooks != NULL ? n->options.hooks->position_shift : 0, start = cache != NULL ? cache->length : stem != NULL ? stem->nq : 0;
    int64_t front = start == 0 && stem == NULL ? ot_hooks_virtual(n->options.hooks) : 0, wanted = front;
    for (int64_t t = 0; t < count; t++) wanted += mask == NULL || mask[t] != 0;
    bool fits = n->rows + wanted <= n->options.plan.max_rows && n->n_segments < n->options.max_segments &&
                n->columns + count <= 2 * n->options.plan.max_rows;
    if (!fits) return ot_fail(err, OT_ERR_USAGE, "a batch of more tokens than planned");
    if (d->position == OT_POSITION_LEARNED && start + front + count + shift > d->max_positions) {
        return ot_fail(err, OT_ERR_REFUSED, "a sequence of %lld tokens is longer than the %lld positions that the model has: use a smaller --block",
                       (long long)(start + front + count + shift), (long long)d->max_positions);
    }
    if (cache != NULL && cache->first_row + start + wanted > n->options.plan.max_kept) return ot_fail(err, OT_ERR_USAGE, "the cache is full");
    int64_t first = n->rows, seen = 0;
    OT_TRY(put_virtual(n, front, shift, cache, err));
    start += front;
    n->sequence_start[n->n_segments] = n->columns;
    for (int64_t t = 0; t < count; t++) {
        bool real = mask == NULL || mask[t] != 0;
        n->row_of[n->columns++] = real ? (int32_t)n->rows : -1;
        if (!real) continue;
        OT_TRY(check_token(n, ids[t], t, err));
        int64_t r = put_row(n, ids[t], start + t, shift + start + (d->position_from_mask ? seen : t), cache, start + seen);
        seen++;
        if (targets != NULL && targets[t] >= 0) {
            OT_TRY(put_target(n, r, t, targets[t], err));
        }
    }
    int64_t key0 = cache != NULL ? cache->first_row : first;
    n->segments[n->n_segments++] = (ot_segment){
        .q0 = (int32_t)first,
        .nq = (int32_t)wanted,
        .k0 = (int32_t)key0,
        .nk = (int32_t)((cache != NULL ? start - front : 0) + wanted),
        .prefix0 = stem != NULL ? stem->q0 : 0,
        .n_prefix = stem != NULL ? stem->nq : 0,
    };
    if (cache != NULL) cache->length += wanted;
    n->expected = -1;
    return OT_OK;
}

ot_status ot_network_add(ot_network *n, const int32_t *ids, const int64_t *mask, const int32_t *targets, int64_t count, ot_cache_lane *cache,
                         ot_error *err) {
    return append(n, ids, mask, targets, count, NULL, cache, err);
}

ot_status ot_network_add_branch(ot_network *n, int64_t stem, const int32_t *ids, const int32_t *targets, int64_t count, ot_error *err) {
    ot_segment from = n->segments[stem];
    return append(n, ids, NULL, targets, count, &from, NULL, err);
}

ot_status ot_network_add_target(ot_network *n, int64_t column, int32_t target, ot_error *err) {
    return put_target(n, ot_network_row_of(n, n->n_segments - 1, column), column, target, err);
}

static void fill_rope(ot_network *n) {
    for (int64_t r = 0; r < n->rows; r++) {
        for (int64_t i = 0; i < n->half; i++) {
            float angle = (float)n->positions[r] * n->inv_freq[i];
            n->cos[r * n->half + i] = (float)cos((double)angle);
            n->sin[r * n->half + i] = (float)sin((double)angle);
        }
    }
}

ot_status ot_network_run(ot_network *n, const ot_run_options *options, double *loss_sum, ot_error *err) {
    OT_TRY(ot_network_allocate(n, err));
    fill_rope(n);
    ot_batch batch = {
        .rows = n->rows,
        .ids = n->ids,
        .pixels = n->pixels,
        .positions = n->positions,
        .slots = n->slots,
        .key_slots = n->options.plan.max_kept > 0 ? n->key_slots : n->slots,
        .segments = n->segments,
        .n_segments = n->n_segments,
        .rope = {{.cos = n->cos, .sin = n->sin, .half = (int32_t)n->half}},
        .kept_rows = n->kept_rows,
        .n_targets = n->n_targets,
        .target_rows = n->target_rows,
        .targets = n->targets,
        .loss_scale = options->loss_scale != 0 ? options->loss_scale : n->n_targets > 0 ? 1.0 / (double)n->n_targets : 0.0,
        .distance_scale = options->distance_scale != 0 ? options->distance_scale : 1.0,
        .distances = n->distances,
        .given = (const float *const *)n->given,
        .target_loss = options->target_loss,
        .target_margin = options->target_margin,
        .dropout_seed = options->dropout_seed,
    };
    OT_TRY(ot_plan_run(n->plan, &batch, options->profile, err));
    if (n->options.plan.train && n->model->desc.vision) ot_network_image_gradients(n);
    if (loss_sum != NULL) *loss_sum = batch.loss_sum;
    return OT_OK;
}

const void *ot_network_hidden(const ot_network *n, int64_t i, int64_t *cols) {
    *cols = i < n->n_items ? n->model->desc.hidden_size : n->head_cols;
    return ot_plan_value(n->plan, n->hidden[i]);
}

const void *ot_network_last_block(const ot_network *n) { return ot_plan_value(n->plan, n->last_block); }

double ot_network_distance(const ot_network *n) { return n->distances[OT_OF_OUTPUT]; }

double ot_network_divergence(const ot_network *n) { return n->distances[OT_OF_LOGITS]; }

double ot_network_hidden_distance(const ot_network *n) {
    double sum = 0;
    for (int64_t i = 0; i < n->n_hidden; i++) sum += n->distances[OT_OWN_DISTANCES + i];
    return n->n_hidden > 0 ? sum / (double)n->n_hidden : 0.0;
}

const float *ot_network_taught(const ot_network *n, int64_t output) { return ot_plan_value(n->plan, n->taught[output]); }

float *ot_network_given(ot_network *n, int64_t output) { return n->given[output]; }

const void *ot_network_logits(const ot_network *n) { return ot_plan_value(n->plan, n->logits); }
