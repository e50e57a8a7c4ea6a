#include "model/forms.h"

#include <stdint.h>
#include <string.h>

enum { VERSION = 1, MAX_DEPTH = 100000, MIN_GROUP = 8, MAX_GROUP = 65536 };

bool ot_forms_any(const ot_forms *f) { return f->count > 0 || f->stack != NULL; }

const ot_block_form *ot_forms_of(const ot_forms *f, int64_t block) {
    return f != NULL && block >= f->first && block < f->first + f->count ? &f->form : NULL;
}

ot_dtype ot_forms_packed_dtype(const ot_block_form *form) { return form->bits == 4 ? OT_INT4G : OT_INT8G; }

ot_desc ot_forms_desc(const ot_desc *d, const ot_forms *f, int64_t block) {
    ot_desc own = *d;
    const ot_block_form *form = ot_forms_of(f, block);
    if (form == NULL) return own;
    if (form->heads > 0) own.heads = form->heads;
    if (form->kv_heads > 0) own.kv_heads = form->kv_heads;
    if (form->ffn_size > 0) own.ffn_size = form->ffn_size;
    return own;
}

const char *ot_forms_role_name(const ot_arch *arch, ot_role role) {
    const char *stem = arch->stems[role], *mark = stem == NULL ? NULL : strstr(stem, "%d.");
    return mark == NULL ? "" : mark + 3;
}

/* ==== Reading. ==== */

typedef struct reader {
    const char *where;
    const ot_desc *d;
    ot_error *err;
} reader;

static ot_status bad(const reader *r, const char *key, const char *what) {
    return ot_fail(r->err, OT_ERR_FORMAT, "%s: \"offsite\": \"%s\" must be %s", r->where, key, what);
}

/* A whole number from low to high; missing: *out stays. */
static ot_status number(const reader *r, const json_t *j, const char *key, int64_t low, int64_t high, int64_t *out) {
    const json_t *v = json_object_get(j, key);
    if (v == NULL) return OT_OK;
    if (!json_is_integer(v) || json_integer_value(v) < low || json_integer_value(v) > high) {
        return ot_fail(r->err, OT_ERR_FORMAT, "%s: \"offsite\": \"%s\" must be a whole number from %lld to %lld", r->where, key, (long long)low,
                       (long long)high);
    }
    *out = json_integer_value(v);
    return OT_OK;
}

static ot_status read_ranks(const reader *r, const json_t *ranks, ot_block_form *form) {
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)ranks, name, value) {
        int role = 0;
        while (role < OT_ROLE_COUNT && (!ot_role_in_block((ot_role)role) || strcmp(ot_forms_role_name(r->d->arch, (ot_role)role), name) != 0)) role++;
        ot_role_shape s = {0};
        if (role < OT_ROLE_COUNT) s = ot_desc_shape(r->d, (ot_role)role);
        int64_t most = s.in < s.out ? s.in : s.out;
        if (!s.exists || s.vector) return ot_fail(r->err, OT_ERR_FORMAT, "%s: \"offsite\": \"ranks\" names %s, which is no linear of a block", r->where, name);
        OT_TRY(number(r, ranks, name, 1, most, &form->rank[role]));
    }
    return OT_OK;
}

static ot_status read_head_numbers(const reader *r, const json_t *lists, ot_forms *f, ot_arena *arena) {
    int64_t heads = f->form.heads;
    if (lists == NULL) return OT_OK;
    if (!json_is_array(lists) || (int64_t)json_array_size(lists) != f->count || heads == 0) return bad(r, "head_numbers", "a list for each of the blocks");
    f->head_numbers = ot_arena_alloc(arena, f->count * heads * (int64_t)sizeof *f->head_numbers, r->err);
    if (f->head_numbers == NULL) return OT_ERR_MEMORY;
    for (int64_t b = 0; b < f->count; b++) {
        const json_t *list = json_array_get(lists, (size_t)b);
        if ((int64_t)json_array_size(list) != heads) return bad(r, "head_numbers", "lists as long as the number of heads");
        for (int64_t h = 0; h < heads; h++) {
            const json_t *v = json_array_get(list, (size_t)h);
            if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) >= r->d->heads) {
                return bad(r, "head_numbers", "lists of numbers below the number of attention heads");
            }
            f->head_numbers[b * heads + h] = (int32_t)json_integer_value(v);
        }
    }
    return OT_OK;
}

static ot_status read_middle(const reader *r, const json_t *j, ot_forms *f, ot_arena *arena) {
    const ot_desc *d = r->d;
    ot_block_form *form = &f->form;
    int64_t bits = 0, group = 64;
    f->count = -1;
    OT_TRY(number(r, j, "first", 0, d->layers - 1, &f->first));
    OT_TRY(number(r, j, "count", 1, d->layers - f->first, &f->count));
    if (f->count < 0) return bad(r, "count", "given: how many blocks have another form");
    OT_TRY(number(r, j, "heads", 1, d->heads, &form->heads));
    OT_TRY(number(r, j, "kv_heads", 1, d->kv_heads, &form->kv_heads));
    OT_TRY(number(r, j, "mlp_width", 1, d->ffn_size, &form->ffn_size));
    if ((form->heads > 0) != (form->kv_heads > 0) || (form->heads > 0 && form->heads % form->kv_heads != 0)) {
        return bad(r, "kv_heads", "a divisor of \"heads\"");
    }
    OT_TRY(read_ranks(r, json_object_get(j, "ranks"), form));
    OT_TRY(number(r, j, "bits", 4, 8, &bits));
    OT_TRY(number(r, j, "group", MIN_GROUP, MAX_GROUP, &group));
    if (bits != 0 && bits != 4 && bits != 8) return bad(r, "bits", "4 or 8");
    form->bits = (int32_t)bits;
    form->group = bits == 0 ? 0 : (int32_t)group;
    return read_head_numbers(r, json_object_get(j, "head_numbers"), f, arena);
}

static ot_status read_stack(const reader *r, const json_t *j, ot_forms *f, ot_arena *arena) {
    size_t n = json_array_size(j);
    if (!json_is_array(j) || n < 1 || n > MAX_DEPTH) return bad(r, "stack", "a list of block numbers");
    f->depth = (int64_t)n;
    f->stack = ot_arena_alloc(arena, f->depth * (int64_t)sizeof *f->stack, r->err);
    if (f->stack == NULL) return OT_ERR_MEMORY;
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(j, i);
        if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) >= r->d->layers) {
            return bad(r, "stack", "a list of block numbers below the number of layers");
        }
        f->stack[i] = (int32_t)json_integer_value(v);
    }
    return OT_OK;
}

ot_status ot_forms_read(const json_t *config, const char *where, const ot_desc *d, ot_forms *out, ot_arena *arena, ot_error *err) {
    const json_t *j = json_object_get(config, "offsite");
    const reader r = {where, d, err};
    *out = (ot_forms){0};
    if (j == NULL) return OT_OK;
    if (!json_is_object(j)) return ot_fail(err, OT_ERR_FORMAT, "%s: the key \"offsite\" must be an object", where);
    if (json_integer_value(json_object_get(j, "version")) != VERSION) {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: \"offsite\" has a version that this program does not read: it reads version %d", where, VERSION);
    }
    if (json_object_get(j, "middle") != NULL) OT_TRY(read_middle(&r, json_object_get(j, "middle"), out, arena));
    return json_object_get(j, "stack") != NULL ? read_stack(&r, json_object_get(j, "stack"), out, arena) : OT_OK;
}

/* ==== Writing. ==== */

static void set(json_t *j, const char *key, int64_t value) {
    if (value > 0) json_object_set_new(j, key, json_integer(value));
}

static json_t *middle_json(const ot_forms *f, const ot_arch *arch) {
    const ot_block_form *form = &f->form;
    json_t *j = json_object(), *ranks = json_object();
    json_object_set_new(j, "first", json_integer(f->first));
    set(j, "count", f->count);
    set(j, "heads", form->heads);
    set(j, "kv_heads", form->kv_heads);
    set(j, "mlp_width", form->ffn_size);
    for (int role = 0; role < OT_ROLE_COUNT; role++) {
        if (form->rank[role] > 0) set(ranks, ot_forms_role_name(arch, (ot_role)role), form->rank[role]);
    }
    if (json_object_size(ranks) > 0) json_object_set(j, "ranks", ranks);
    json_decref(ranks);
    set(j, "bits", form->bits);
    set(j, "group", form->group);
    if (f->head_numbers != NULL) {
        json_t *lists = json_array();
        for (int64_t b = 0; b < f->count; b++) {
            json_t *list = json_array();
            for (int64_t h = 0; h < form->heads; h++) json_array_append_new(list, json_integer(f->head_numbers[b * form->heads + h]));
            json_array_append_new(lists, list);
        }
        json_object_set_new(j, "head_numbers", lists);
    }
    return j;
}

ot_status ot_forms_write(const ot_forms *f, const ot_arch *arch, json_t *config, ot_error *err) {
    if (!ot_forms_any(f)) return OT_OK;
    json_t *j = json_object();
    if (j == NULL) return ot_fail_memory(err, 0, "config.json");
    json_object_set_new(j, "version", json_integer(VERSION));
    const json_t *before = json_object_get(json_object_get(config, "offsite"), "model_type"); /* when it is written again */
    json_object_set(j, "model_type", (json_t *)(uintptr_t)(before != NULL ? before : json_object_get(config, "model_type")));
    if (f->count > 0) json_object_set_new(j, "middle", middle_json(f, arch));
    if (f->stack != NULL) {
        json_t *stack = json_array();
        for (int64_t i = 0; i < f->depth; i++) json_array_append_new(stack, json_integer(f->stack[i]));
        json_object_set_new(j, "stack", stack);
    }
    json_object_set_new(config, "model_type", json_string("offsite"));
    json_object_set_new(config, "architectures", json_pack("[s]", "OffsiteEmulator"));
    json_object_set_new(config, "offsite", j);
    return OT_OK;
}
