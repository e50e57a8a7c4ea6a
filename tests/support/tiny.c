/* See tiny.h. */
#include "support/tiny.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/rng.h"
#include "format/json.h"
#include "model/save.h"

static void must(ot_status status, const ot_error *err) {
    if (status != OT_OK) fail_msg("%s", err->message);
}

const char *tiny_path(const char *base, const char *name) {
    static char ring[16][2048];
    static int next;
    char *out = ring[next++ % 16];
    assert_true(ot_path_join(out, sizeof ring[0], base, name));
    return out;
}

/* ==== Models. ==== */

ot_model *tiny_open(const char *path) {
    ot_model *m = NULL;
    ot_error err = {0};
    must(ot_model_open(path, OT_F32, &m, &err), &err);
    return m;
}

static const float *slot_values(void *context, const ot_param *p) {
    (void)context;
    return p->slot.data;
}

void tiny_make(const char *config, const char *dir, ot_dtype dtype, uint64_t seed) {
    ot_error err = {0};
    json_t *json = NULL;
    ot_model *m = NULL;
    must(ot_json_parse(config, (int64_t)strlen(config), "config", &json, &err), &err);
    must(ot_model_from_json(json, "config", &m, &err), &err);
    must(ot_model_initialise(m, seed, OT_F32, &err), &err);
    for (int64_t i = 0; i < m->n_params; i++) {
        ot_rng rng;
        ot_rng_seed(&rng, seed * 1000 + (uint64_t)i);
        float *values = (float *)(uintptr_t)m->params[i].slot.data;
        for (int64_t k = 0; k < ot_param_elements(&m->params[i]); k++) values[k] += (float)(0.1 * ot_rng_normal(&rng));
    }
    must(ot_make_dirs(dir, &err), &err);
    ot_save_options save = {.dtype = dtype, .values = slot_values};
    must(ot_model_save(m, dir, &save, &err), &err);
    ot_model_close(m);
}

/* ==== Files. ==== */

ot_tensor tiny_i64(const char *name, const int64_t *values, int64_t rows, int64_t cols) {
    return (ot_tensor){.name = name, .dtype = OT_I64, .n_dims = 2, .shape = {rows, cols}, .bytes = rows * cols * 8, .data = values};
}

ot_tensor tiny_f32(const char *name, const float *values, int64_t n) {
    return (ot_tensor){.name = name, .dtype = OT_F32, .n_dims = 1, .shape = {n}, .bytes = n * 4, .data = values};
}

void tiny_write(const char *path, const ot_tensor *tensors, int64_t count) {
    ot_error err = {0};
    must(ot_safetensors_write(path, tensors, count, NULL, &err), &err);
}

void tiny_data(const char *path, int64_t rows, int64_t length, int64_t vocab, bool with_labels, uint64_t seed) {
    int64_t n = rows * length, *ids = malloc((size_t)n * 8), *labels = malloc((size_t)n * 8);
    assert_true(ids != NULL && labels != NULL);
    ot_rng rng;
    ot_rng_seed(&rng, seed);
    for (int64_t i = 0; i < n; i++) {
        ids[i] = 3 + (int64_t)ot_rng_below(&rng, (uint64_t)vocab - 3);
        /* Whole stretches, so that rows have very different numbers of targets. */
        labels[i] = ot_rng_below(&rng, 3) == 0 || (i / length % 3 == 1 && i % length > 2) ? -100 : ids[i];
    }
    const ot_tensor tensors[] = {tiny_i64("input_ids", ids, rows, length), tiny_i64("labels", labels, rows, length)};
    tiny_write(path, tensors, with_labels ? 2 : 1);
    free(ids);
    free(labels);
}

void tiny_text(const char *path, const char *text) {
    ot_error err = {0};
    must(ot_write_file(path, text, (int64_t)strlen(text), &err), &err);
}

char *tiny_read(const char *path, int64_t *size) {
    char *text = NULL;
    int64_t n = 0;
    ot_error err = {0};
    must(ot_read_file(path, INT64_C(1) << 32, &text, &n, &err), &err);
    if (size != NULL) *size = n;
    return text;
}

typedef struct listing {
    ot_arena arena;
    char **names;
    int64_t count;
} listing;

static listing list(const char *dir) {
    listing l = {0};
    ot_error err = {0};
    must(ot_list_dir(dir, &l.arena, &l.names, &l.count, &err), &err);
    return l;
}

int64_t tiny_entries(const char *dir) {
    listing l = list(dir);
    ot_arena_free(&l.arena);
    return l.count;
}

void tiny_copy_dir(const char *from, const char *to) {
    ot_error err = {0};
    must(ot_make_dirs(to, &err), &err);
    listing l = list(from);
    for (int64_t i = 0; i < l.count; i++) must(ot_copy_file(tiny_path(from, l.names[i]), tiny_path(to, l.names[i]), &err), &err);
    ot_arena_free(&l.arena);
}

bool tiny_same_file(const char *a, const char *b) {
    int64_t n = 0, m = 0;
    char *x = tiny_read(a, &n), *y = tiny_read(b, &m);
    bool same = n == m && memcmp(x, y, (size_t)n) == 0;
    ot_free(x);
    ot_free(y);
    return same;
}

bool tiny_same_dir(const char *a, const char *b) {
    listing x = list(a), y = list(b);
    bool same = x.count == y.count;
    for (int64_t i = 0; same && i < x.count; i++) {
        same = strcmp(x.names[i], y.names[i]) == 0 && tiny_same_file(tiny_path(a, x.names[i]), tiny_path(b, y.names[i]));
        if (!same) print_message("%s and %s differ in %s\n", a, b, x.names[i]);
    }
    ot_arena_free(&x.arena);
    ot_arena_free(&y.arena);
    return same;
}

const char *tiny_file_with(const char *dir, const void *bytes, int64_t size) {
    static char found[512];
    listing l = list(dir);
    bool any = false;
    for (int64_t i = 0; i < l.count && !any; i++) {
        int64_t n = 0;
        char *text = tiny_read(tiny_path(dir, l.names[i]), &n);
        any = memmem(text, (size_t)n, bytes, (size_t)size) != NULL;
        if (any) snprintf(found, sizeof found, "%s", l.names[i]);
        ot_free(text);
    }
    ot_arena_free(&l.arena);
    return any ? found : NULL;
}

/* ==== Many needles: sorted by their first 8 bytes, each place of each file is looked up. ==== */

typedef struct needle {
    uint64_t head;
    int64_t index;
} needle;

static int by_head(const void *a, const void *b) {
    uint64_t x = ((const needle *)a)->head, y = ((const needle *)b)->head;
    return x < y ? -1 : x > y;
}

static int64_t find_in(const char *text, int64_t n, const needle *sorted, int64_t count, const void *const *needles, int64_t size) {
    for (int64_t at = 0; at + size <= n; at++) {
        uint64_t head;
        memcpy(&head, text + at, 8);
        int64_t low = 0, high = count;
        while (low < high) {
            int64_t middle = (low + high) / 2;
            if (sorted[middle].head < head) low = middle + 1;
            else high = middle;
        }
        for (; low < count && sorted[low].head == head; low++) {
            if (memcmp(needles[sorted[low].index], text + at, (size_t)size) == 0) return sorted[low].index;
        }
    }
    return -1;
}

int64_t tiny_find_any(const char *dir, const void *const *needles, int64_t count, int64_t size) {
    assert_true(size >= 8);
    needle *sorted = malloc((size_t)(count + 1) * sizeof *sorted);
    assert_non_null(sorted);
    for (int64_t i = 0; i < count; i++) {
        memcpy(&sorted[i].head, needles[i], 8);
        sorted[i].index = i;
    }
    qsort(sorted, (size_t)count, sizeof *sorted, by_head);
    listing l = list(dir);
    int64_t found = -1;
    for (int64_t i = 0; i < l.count && found < 0; i++) {
        int64_t n = 0;
        char *text = tiny_read(tiny_path(dir, l.names[i]), &n);
        found = find_in(text, n, sorted, count, needles, size);
        ot_free(text);
    }
    ot_arena_free(&l.arena);
    free(sorted);
    return found;
}
