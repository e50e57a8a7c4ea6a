#include "emulator/emulator.h"

#include <stddef.h>
#include <string.h>

#include "base/count.h"
#include "emulator/methods.h"
#include "model/save.h"
#include "tensor/packed.h"

static int64_t middle_size(int64_t layers, int64_t bottom, int64_t top) { return layers - bottom - top; }

/* ==== Planning. ==== */

static ot_status begin(ot_emulator *e, int64_t layers, ot_error *err) {
    if (e->bottom < 0 || e->top < 0 || e->bottom + e->top < 1) {
        return ot_fail(err, OT_ERR_USAGE, "--bottom and --top must leave at least one adapter layer");
    }
    if (e->bottom > layers || e->top > layers || middle_size(layers, e->bottom, e->top) < 1) {
        return ot_fail(err, OT_ERR_USAGE, "--bottom %lld and --top %lld leave no middle in a model of %lld layer%s", (long long)e->bottom,
                       (long long)e->top, (long long)layers, OT_PLURAL(layers));
    }
    if (e->model != NULL && ot_forms_any(&e->model->forms)) {
        return ot_fail(err, OT_ERR_USAGE, "%s is an emulator already, whose blocks are packed, narrowed or shared: split the whole model", e->model->path);
    }
    e->n_kept = middle_size(layers, e->bottom, e->top);
    e->kept = ot_arena_alloc(&e->arena, e->n_kept * (int64_t)sizeof *e->kept, err);
    if (e->kept == NULL) return OT_ERR_MEMORY;
    for (int64_t i = 0; i < e->n_kept; i++) e->kept[i] = e->bottom + i;
    return OT_OK;
}

ot_status ot_emulator_plan(const char *recipe, const ot_model *m, int64_t layers, int64_t bottom, int64_t top, const ot_emulator_text *text,
                           ot_emulator *out, ot_error *err) {
    const ot_spec_method *methods[64] = {0};
    for (int i = 0; ot_emulator_methods[i] != NULL && i < 63; i++) methods[i] = &ot_emulator_methods[i]->spec;
    *out = (ot_emulator){.model = m, .bottom = bottom, .top = top, .text = text};
    ot_spec spec = {0};
    ot_status status = begin(out, layers, err);
    if (status == OT_OK) status = ot_spec_parse(recipe, "--emulator", methods, &spec, err);
    for (int32_t i = 0; status == OT_OK && i < spec.n_steps; i++) {
        if (out->distilled) {
            status = ot_fail(err, OT_ERR_USAGE, "--emulator: distill must be the last step: what comes after it would undo what was learnt");
            break;
        }
        status = ot_emulator_methods[spec.steps[i].method]->apply(out, &spec.steps[i], err);
    }
    out->text = NULL;
    if (status != OT_OK) ot_emulator_free(out);
    return status;
}

void ot_emulator_free(ot_emulator *e) {
    ot_arena_free(&e->arena);
    *e = (ot_emulator){0};
}

int64_t ot_emulator_stack_size(const ot_emulator *e) { return e->bottom + e->n_kept + e->top; }

int64_t ot_emulator_depth(const ot_emulator *e) { return e->bottom + (e->places != NULL ? e->n_places : e->n_kept) + e->top; }

void ot_emulator_stack(const ot_emulator *e, int64_t layers, int64_t *blocks) {
    int64_t n = 0;
    for (int64_t i = 0; i < e->bottom; i++) blocks[n++] = i;
    for (int64_t i = 0; i < e->n_kept; i++) blocks[n++] = e->kept[i];
    for (int64_t i = layers - e->top; i < layers; i++) blocks[n++] = i;
}

static bool has_form(const ot_emulator *e) {
    const ot_block_form *f = &e->form;
    bool any = f->heads > 0 || f->kv_heads > 0 || f->ffn_size > 0 || f->bits > 0;
    for (int r = 0; r < OT_ROLE_COUNT; r++) any = any || f->rank[r] > 0;
    return any;
}

bool ot_emulator_is_plain(const ot_emulator *e) { return e->places == NULL && !has_form(e); }

ot_status ot_emulator_add_change(ot_emulator *e, const char *method, ot_emulator_change **out, ot_error *err) {
    if (e->form.bits > 0) {
        return ot_fail(err, OT_ERR_USAGE, "--emulator: %s cannot come after quantize, which packs what it is given: put quantize behind it", method);
    }
    ot_emulator_change **end = &e->changes;
    while (*end != NULL) end = &(*end)->next;
    *end = *out = ot_arena_alloc(&e->arena, sizeof **end, err);
    return *out == NULL ? OT_ERR_MEMORY : OT_OK;
}

ot_status ot_emulator_need_list(const ot_emulator *e, const char *method, ot_error *err) {
    if (e->places == NULL) return OT_OK;
    return ot_fail(err, OT_ERR_USAGE, "--emulator: %s cannot come after crash, which shares blocks: put it in front, or give crash share=no", method);
}

void ot_emulator_keep(ot_emulator_matrix *m, bool rows, const int64_t *picked, int64_t count) {
    if (m->values == NULL) return;
    int64_t *of = rows ? m->row_of : m->col_of;
    for (int64_t i = 0; of != NULL && i < count; i++) of[i] = of[picked[i]];
    if (rows) {
        for (int64_t i = 0; i < count; i++) memmove(m->values + i * m->cols, m->values + picked[i] * m->cols, (size_t)m->cols * sizeof *m->values);
        m->rows = count;
    } else {
        for (int64_t r = 0; r < m->rows; r++) {
            for (int64_t i = 0; i < count; i++) m->values[r * count + i] = m->values[r * m->cols + picked[i]];
        }
        m->cols = count;
    }
}

/* ==== The offer's shape. ==== */

static bool in_middle(const ot_emulator *e, int64_t block) { return block >= e->bottom && block < e->bottom + e->n_kept; }

const ot_param *ot_emulator_source(const ot_emulator *e, const ot_model *m, const ot_param *p) {
    int64_t block = p->block;
    if (block >= 0) {
        block = in_middle(e, block) ? e->kept[block - e->bottom] : block < e->bottom ? block : block + m->desc.layers - ot_emulator_stack_size(e);
    }
    return ot_model_param(m, p->role, block, p->bias);
}

/* What config.json says of forms; the numbers of heads come with the values. */
static ot_status make_forms(const ot_emulator *e, const ot_model *m, ot_forms *f, ot_arena *arena, ot_error *err) {
    *f = (ot_forms){0};
    if (has_form(e)) {
        f->first = e->bottom;
        f->count = e->n_kept;
        f->form = e->form;
        if (e->form.heads > 0 && m->desc.position == OT_POSITION_ALIBI) {
            f->head_numbers = ot_arena_alloc(arena, f->count * e->form.heads * (int64_t)sizeof *f->head_numbers, err);
            if (f->head_numbers == NULL) return OT_ERR_MEMORY;
        }
    }
    if (e->places == NULL) return OT_OK;
    f->depth = ot_emulator_depth(e);
    f->stack = ot_arena_alloc(arena, f->depth * (int64_t)sizeof *f->stack, err);
    if (f->stack == NULL) return OT_ERR_MEMORY;
    int64_t n = 0;
    for (int64_t i = 0; i < e->bottom; i++) f->stack[n++] = (int32_t)i;
    for (int64_t i = 0; i < e->n_places; i++) f->stack[n++] = (int32_t)(e->bottom + e->places[i]);
    for (int64_t i = 0; i < e->top; i++) f->stack[n++] = (int32_t)(e->bottom + e->n_kept + i);
    return OT_OK;
}

static ot_status make_config(const ot_emulator *e, const ot_model *m, const ot_save_options *save, json_t **out, ot_error *err) {
    ot_arena arena = {0};
    ot_forms forms;
    ot_status status = ot_model_save_config(m, save, out, err);
    if (status == OT_OK) status = make_forms(e, m, &forms, &arena, err);
    if (status == OT_OK) status = ot_forms_write(&forms, m->desc.arch, *out, err);
    ot_arena_free(&arena);
    return status;
}

ot_status ot_emulator_shape(const ot_emulator *e, const ot_model *m, bool own_dtype, ot_dtype dtype, ot_model **out, ot_error *err) {
    ot_save_options save = {.n_blocks = ot_emulator_stack_size(e), .own_dtype = own_dtype, .dtype = dtype};
    int64_t *blocks = NULL;
    json_t *config = NULL;
    OT_TRY(ot_calloc(save.n_blocks, sizeof *blocks, "the offer's stack", (void **)&blocks, err));
    ot_emulator_stack(e, m->desc.layers, blocks);
    save.blocks = blocks;
    ot_status status = make_config(e, m, &save, &config, err);
    ot_free(blocks);
    if (status != OT_OK) {
        json_decref(config);
        return status;
    }
    OT_TRY(ot_model_from_json(config, m->path, out, err));
    (*out)->origin = m;
    for (int64_t i = 0; i < (*out)->n_params; i++) {
        ot_param *p = &(*out)->params[i];
        if (ot_dtype_is_packed(p->stored.dtype)) continue;
        p->stored.dtype = ot_save_dtype(ot_emulator_source(e, m, p), &save);
        ot_dtype_bytes(p->stored.dtype, ot_param_elements(p), &p->stored.bytes);
        if (p->stored.n_dims > 1) p->slot.dtype = p->stored.dtype;
    }
    return OT_OK;
}

/* ==== Its values. ==== */

static ot_status load(ot_emulator_block *b, const ot_param *p, ot_emulator_matrix *to, ot_error *err) {
    to->rows = p->slot.rows;
    to->cols = p->slot.cols;
    to->values = ot_arena_alloc(&b->arena, ot_param_elements(p) * (int64_t)sizeof(float), err);
    to->row_of = ot_arena_alloc(&b->arena, to->rows * (int64_t)sizeof *to->row_of, err);
    to->col_of = ot_arena_alloc(&b->arena, to->cols * (int64_t)sizeof *to->col_of, err);
    if (to->values == NULL || to->row_of == NULL || to->col_of == NULL) return OT_ERR_MEMORY;
    for (int64_t i = 0; i < to->rows; i++) to->row_of[i] = i;
    for (int64_t i = 0; i < to->cols; i++) to->col_of[i] = i;
    ot_param_read(p, to->values);
    return OT_OK;
}

static ot_status load_block(ot_emulator_block *b, const ot_model *m, int64_t source, ot_error *err) {
    *b = (ot_emulator_block){.model = m, .source = source, .desc = m->desc};
    for (int64_t i = m->block_starts[source]; i < m->block_starts[source + 1]; i++) {
        const ot_param *p = &m->params[i];
        if (p->bias && p->role != OT_ROLE_NORM1 && p->role != OT_ROLE_NORM2) OT_TRY(load(b, p, &b->biases[p->role], err));
        if (!p->bias && p->decay) OT_TRY(load(b, p, &b->linears[p->role][0], err));
    }
    return OT_OK;
}

static ot_status run_change(const ot_emulator_change *c, ot_emulator_block *b, ot_error *err) {
    if (c->block != NULL) return c->block(c, b, err);
    if (c->matrix == NULL) return OT_OK;
    for (int r = 0; r < OT_ROLE_COUNT; r++) {
        for (int f = 0; f < 2; f++) {
            if (b->linears[r][f].values != NULL) OT_TRY(c->matrix(c, &b->linears[r][f], err));
        }
    }
    return OT_OK;
}

static ot_status store(ot_model *offer, ot_param *p, const ot_emulator_matrix *from, ot_error *err) {
    if (from->values == NULL || from->rows * from->cols != ot_param_elements(p)) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: an emulator step and its plan disagree about the shape", p->name);
    }
    void *bytes = ot_arena_alloc(&offer->arena, p->stored.bytes + 1, err);
    if (bytes == NULL) return OT_ERR_MEMORY;
    p->stored.data = bytes;
    if (ot_dtype_is_packed(p->stored.dtype)) {
        p->scales.data = ot_arena_alloc(&offer->arena, p->scales.bytes, err);
        if (p->scales.data == NULL) return OT_ERR_MEMORY;
        ot_packed_encode(p->stored.dtype, from->values, p->slot.group, from->rows, from->cols, bytes, (void *)(uintptr_t)p->scales.data);
    } else if (!ot_encode_f32(p->stored.dtype, from->values, bytes, ot_param_elements(p))) {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "tensor %s cannot be written as %s", p->name, ot_dtype_info(p->stored.dtype)->name);
    }
    return OT_OK;
}

/* How many stored values of p are its source's, rounded to the same type. */
static ot_status count_same(const ot_param *p, const ot_param *source, const ot_emulator_matrix *from, int64_t *same, ot_error *err) {
    if (ot_dtype_is_packed(p->stored.dtype) || from->row_of == NULL || from->col_of == NULL) return OT_OK;
    int64_t n = from->rows * from->cols, size = n > 0 ? p->stored.bytes / n : 0;
    float *whole = NULL, *picked = NULL;
    char *rounded = NULL;
    ot_status status = ot_malloc(ot_param_elements(source), sizeof *whole, "a matrix to compare", (void **)&whole, err);
    if (status == OT_OK) status = ot_malloc(n, sizeof *picked, "a matrix to compare", (void **)&picked, err);
    if (status == OT_OK) status = ot_malloc(n, size, "a matrix to compare", (void **)&rounded, err);
    if (status == OT_OK) {
        ot_param_read(source, whole);
        for (int64_t r = 0; r < from->rows; r++) {
            for (int64_t c = 0; c < from->cols; c++) picked[r * from->cols + c] = whole[from->row_of[r] * source->slot.cols + from->col_of[c]];
        }
        bool encoded = ot_encode_f32(p->stored.dtype, picked, rounded, n);
        for (int64_t i = 0; encoded && i < n; i++) *same += memcmp(rounded + i * size, (const char *)p->stored.data + i * size, (size_t)size) == 0;
    }
    ot_free(whole);
    ot_free(picked);
    ot_free(rounded);
    return status;
}

static void note_heads(ot_model *offer, int64_t index, const ot_emulator_block *b) {
    int64_t heads = offer->forms.form.heads;
    for (int64_t h = 0; offer->forms.head_numbers != NULL && b->heads != NULL && h < heads; h++) {
        offer->forms.head_numbers[index * heads + h] = (int32_t)b->heads[h];
    }
}

static ot_status build_block(const ot_emulator *e, const ot_model *m, int64_t index, ot_model *offer, int64_t *same, ot_error *err) {
    ot_emulator_block b;
    int64_t block = e->bottom + index;
    ot_status status = load_block(&b, m, e->kept[index], err);
    for (const ot_emulator_change *c = e->changes; status == OT_OK && c != NULL; c = c->next) status = run_change(c, &b, err);
    for (int64_t i = offer->block_starts[block]; status == OT_OK && i < offer->block_starts[block + 1]; i++) {
        ot_param *p = &offer->params[i];
        const ot_emulator_matrix *from = p->bias ? &b.biases[p->role] : &b.linears[p->role][p->factor == OT_FACTOR_OUT];
        if (p->bias ? from->values == NULL : !p->decay) continue;
        status = store(offer, p, from, err);
        if (status == OT_OK) status = count_same(p, ot_emulator_source(e, m, p), from, same, err);
    }
    if (status == OT_OK) note_heads(offer, index, &b);
    ot_arena_free(&b.arena);
    return status;
}

static void borrow(const ot_emulator *e, const ot_model *m, ot_model *offer, int64_t *same) {
    for (int64_t i = 0; i < offer->n_params; i++) {
        ot_param *p = &offer->params[i];
        if (p->stored.data != NULL) continue;
        const char *name = p->name;
        p->stored = ot_emulator_source(e, m, p)->stored;
        p->stored.name = name;
        if (in_middle(e, p->block)) *same += ot_param_elements(p);
    }
}

ot_status ot_emulator_build(const ot_emulator *e, const ot_model *m, bool own_dtype, ot_dtype dtype, ot_model **out, ot_error *err) {
    int64_t same;
    return ot_emulator_build_counted(e, m, own_dtype, dtype, out, &same, err);
}

ot_status ot_emulator_build_counted(const ot_emulator *e, const ot_model *m, bool own_dtype, ot_dtype dtype, ot_model **out, int64_t *same, ot_error *err) {
    *same = 0;
    OT_TRY(ot_emulator_shape(e, m, own_dtype, dtype, out, err));
    ot_model *offer = *out;
    ot_status status = OT_OK;
    bool changed = e->changes != NULL || e->form.bits > 0;
    for (int64_t i = 0; changed && status == OT_OK && i < e->n_kept; i++) status = build_block(e, m, i, offer, same, err);
    if (status == OT_OK && offer->forms.head_numbers != NULL) status = ot_forms_write(&offer->forms, m->desc.arch, offer->config, err);
    if (status == OT_OK) {
        borrow(e, m, offer, same);
        status = ot_model_bind(offer, err);
    }
    if (status != OT_OK) {
        ot_model_close(offer);
        *out = NULL;
    }
    return status;
}

bool ot_emulator_is_exact(const ot_param *p, const ot_param *source) {
    if (p->factor != 0 || p->stored.dtype != source->stored.dtype || p->stored.bytes != source->stored.bytes) return false;
    return p->stored.data == source->stored.data || memcmp(p->stored.data, source->stored.data, (size_t)p->stored.bytes) == 0;
}
