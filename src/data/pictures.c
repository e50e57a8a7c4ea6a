/* Lists of pictures: what kind of data a path is, labels, decoding and checking. */
#include "data/pictures.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/count.h"
#include "base/parallel.h"

enum { PATH_ROOM = 8192 };

/* ==== Gathering. ==== */

ot_status ot_pictures_add(ot_pictures *p, const ot_picture *picture, ot_error *err) {
    if (p->n >= OT_PICTURES_MAX) return ot_fail(err, OT_ERR_FORMAT, "%s holds more than %d pictures", p->path, OT_PICTURES_MAX);
    OT_TRY(ot_grow((void **)&p->items, &p->room, p->n + 1, sizeof *p->items, "a list of pictures", err));
    p->items[p->n++] = *picture;
    return OT_OK;
}

ot_status ot_pictures_bad(ot_pictures *p, ot_error *err, const char *format, ...) {
    char text[OT_ERROR_TEXT];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (p->strict) return ot_fail(err, OT_ERR_FORMAT, "%s", text);
    if (p->n_shown < OT_PICTURES_SHOWN) {
        OT_TRY(ot_grow((void **)&p->shown, &p->shown_room, p->n_shown + 1, sizeof(char *), "reasons", err));
        p->shown[p->n_shown] = ot_arena_strdup(&p->arena, text, err);
        if (p->shown[p->n_shown++] == NULL) return OT_ERR_MEMORY;
    }
    p->bad++;
    return OT_OK;
}

ot_status ot_pictures_add_class(ot_pictures *p, const char *name, ot_error *err) {
    OT_TRY(ot_grow((void **)&p->classes, &p->classes_room, p->n_classes + 1, sizeof(char *), "class names", err));
    p->classes[p->n_classes++] = name;
    return OT_OK;
}

bool ot_pictures_is_part(const char *name) {
    static const char *const parts[] = {"train", "training", "val", "valid", "validation", "test", "testing", "eval"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (strcasecmp(name, parts[i]) == 0) return true;
    }
    return false;
}

/* ==== Labels. ==== */

static int by_bytes(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

/* Digits alone, small enough for a label; -1 otherwise. */
static int32_t as_number(const char *text) {
    int32_t v = 0;
    size_t n = strlen(text);
    if (n == 0 || n > 8) return -1;
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9') return -1;
        v = v * 10 + (text[i] - '0');
    }
    return v;
}

static bool all_numbers(const ot_pictures *p) {
    for (int64_t i = 0; i < p->n; i++) {
        if (p->items[i].class_name != NULL && as_number(p->items[i].class_name) < 0) return false;
    }
    return true;
}

static void sort_classes(ot_pictures *p) {
    int64_t n = 0;
    if (p->n_classes == 0) return;
    qsort(p->classes, (size_t)p->n_classes, sizeof(char *), by_bytes);
    for (int64_t i = 0; i < p->n_classes; i++) {
        if (n == 0 || strcmp(p->classes[n - 1], p->classes[i]) != 0) p->classes[n++] = p->classes[i];
    }
    p->n_classes = n;
}

/* Labels of folders are names, even where they look like numbers; those of lists and of WebDataset are numbers when all of them look like it. */
static ot_status number_labels(ot_pictures *p, bool names, ot_error *err) {
    bool numbers = !names && all_numbers(p);
    for (int64_t i = 0; !numbers && i < p->n; i++) {
        if (p->items[i].class_name != NULL) OT_TRY(ot_pictures_add_class(p, p->items[i].class_name, err));
    }
    sort_classes(p);
    for (int64_t i = 0; i < p->n; i++) {
        ot_picture *item = &p->items[i];
        if (item->class_name == NULL) {
            item->label = -1;
        } else if (numbers) {
            item->label = as_number(item->class_name);
        } else {
            const char **found = bsearch(&item->class_name, p->classes, (size_t)p->n_classes, sizeof(char *), by_bytes);
            item->label = found != NULL ? (int32_t)(found - p->classes) : -1;
        }
    }
    return OT_OK;
}

/* ==== Opening. ==== */

/* The length of the archive's own path in ARCHIVE.tar or ARCHIVE.tar/FOLDER; 0 when there is none. */
static size_t archive_length(const char *path) {
    for (const char *at = strstr(path, ".tar"); at != NULL; at = strstr(at + 1, ".tar")) {
        if (at > path && (at[4] == '\0' || at[4] == '/')) return (size_t)(at + 4 - path);
    }
    return 0;
}

static bool is_packed(const char *path) {
    return strstr(ot_path_base(path), ".tar.") != NULL || ot_path_ends(path, ".tgz") || ot_path_ends(path, ".zip");
}

bool ot_pictures_is(const char *path) {
    return ot_path_is_dir(path) || ot_path_ends(path, ".csv") || archive_length(path) > 0 || is_packed(path) || ot_image_is_name(path);
}

static ot_status read_any(ot_pictures *p, ot_error *err) {
    size_t archive = archive_length(p->path);
    if (ot_path_is_dir(p->path)) return ot_pictures_read_folder(p, err);
    if (archive > 0) {
        const char *name = ot_arena_strndup(&p->arena, p->path, archive, err), *below = p->path + archive;
        while (*below == '/') below++;
        p->root = name;
        return name != NULL ? ot_pictures_read_tar(p, name, below, err) : OT_ERR_MEMORY;
    }
    if (ot_path_ends(p->path, ".csv")) return ot_pictures_read_csv(p, err);
    if (is_packed(p->path)) {
        return ot_fail(err, OT_ERR_USAGE, "%s is a packed archive, which is not read: unpack it into a folder or a plain .tar", p->path);
    }
    if (ot_image_is_name(p->path)) return ot_fail(err, OT_ERR_USAGE, "%s is a single picture: give the folder that it lies in", p->path);
    return ot_fail(err, OT_ERR_USAGE, "%s holds no pictures: give a folder, a .tar archive, a .csv list or .safetensors", p->path);
}

ot_status ot_pictures_open(const char *path, bool strict, ot_pictures *out, ot_error *err) {
    ot_pictures p = {.strict = strict};
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') length--;
    p.path = p.root = ot_arena_strndup(&p.arena, path, length, err);
    ot_status status = p.path != NULL ? read_any(&p, err) : OT_ERR_MEMORY;
    if (status == OT_OK && p.n == 0) {
        status = ot_fail(err, OT_ERR_FORMAT, "%s holds no pictures that can be used (.jpg, .jpeg, .png, .webp)%s%s", path, p.bad > 0 ? "; the first reason: " : "",
                         p.bad > 0 ? p.shown[0] : "");
    }
    if (status == OT_OK) status = number_labels(&p, strstr(p.layout, "folders") != NULL, err);
    if (status != OT_OK) {
        ot_pictures_close(&p);
        return status;
    }
    *out = p;
    return OT_OK;
}

void ot_pictures_close(ot_pictures *p) {
    for (int64_t i = 0; i < p->n; i++) ot_image_free(&p->items[i].kept);
    for (int64_t i = 0; i < p->n_maps; i++) ot_map_close(&p->maps[i]);
    ot_free(p->maps);
    ot_free(p->items);
    ot_free(p->classes);
    ot_free(p->shown);
    ot_arena_free(&p->arena);
    *p = (ot_pictures){0};
}

void ot_pictures_limit(ot_pictures *p, int64_t n) {
    if (n <= 0 || n >= p->n) return;
    for (int64_t i = 0; i < n; i++) p->items[i] = p->items[i * p->n / n];
    p->n = n;
}

/* ==== Reading pictures. ==== */

/* Where picture i lies, and its bytes: those of an archive, or of a file that *map then holds. */
static ot_status open_picture(const ot_pictures *p, int64_t i, char *path, size_t size, ot_map *map, const uint8_t **data, int64_t *bytes, ot_error *err) {
    const ot_picture *item = &p->items[i];
    *map = (ot_map){0};
    if (!ot_path_join(path, size, p->root, item->name)) return ot_fail(err, OT_ERR_IO, "%s/%s: the path is too long", p->root, item->name);
    if (item->data == NULL) OT_TRY(ot_map_open(path, map, err));
    *data = item->data != NULL ? item->data : map->data;
    *bytes = item->data != NULL ? item->size : map->size;
    return OT_OK;
}

ot_status ot_pictures_decode(const ot_pictures *p, int64_t i, ot_image *out, ot_error *err) {
    char path[PATH_ROOM];
    const uint8_t *data = NULL;
    int64_t bytes = 0;
    ot_map map;
    *out = (ot_image){0};
    OT_TRY(open_picture(p, i, path, sizeof path, &map, &data, &bytes, err));
    ot_status status = ot_image_decode(data, bytes, path, out, err);
    ot_map_close(&map);
    return status;
}

ot_status ot_pictures_digest(const ot_pictures *p, int64_t i, char text[OT_DIGEST_TEXT], ot_error *err) {
    char path[PATH_ROOM];
    const uint8_t *data = NULL;
    int64_t bytes = 0;
    ot_map map;
    OT_TRY(open_picture(p, i, path, sizeof path, &map, &data, &bytes, err));
    ot_digest_of(data, bytes, text);
    ot_map_close(&map);
    return OT_OK;
}

/* ==== Checking. ==== */

typedef struct verdict {
    int32_t width, height;
    char *why; /* NULL: fine */
    bool no_memory;
} verdict;

typedef struct check_job {
    ot_pictures *p;
    verdict *verdicts;
    ot_picture_look look;
    void *context;
} check_job;

static void check_one(void *context, int64_t i) {
    const check_job *job = context;
    verdict *v = &job->verdicts[i];
    ot_image image;
    ot_error err = {0};
    ot_status status = ot_pictures_decode(job->p, i, &image, &err);
    if (status == OT_OK && job->look != NULL) {
        status = job->look(job->context, &job->p->items[i], i, &image, &err);
        if (status != OT_OK) ot_image_free(&image);
    }
    if (status == OT_OK) {
        v->width = (int32_t)image.width;
        v->height = (int32_t)image.height;
        ot_image_free(&image);
    } else {
        v->why = status != OT_ERR_MEMORY ? strdup(err.message) : NULL;
        v->no_memory = v->why == NULL;
    }
}

static void measure(const verdict *v, ot_picture_sizes *s) {
    if (s->least_width == 0 || v->width < s->least_width) s->least_width = v->width;
    if (s->least_height == 0 || v->height < s->least_height) s->least_height = v->height;
    if (v->width > s->most_width) s->most_width = v->width;
    if (v->height > s->most_height) s->most_height = v->height;
}

enum { HAD = 1, HAS = 2 };

static void mark_classes(const ot_pictures *p, uint8_t mark, uint8_t *marks) {
    for (int64_t i = 0; i < p->n; i++) {
        if (p->items[i].label >= 0 && p->items[i].label < p->n_classes) marks[p->items[i].label] |= mark;
    }
}

/* A class whose pictures all turned out to be bad is none: nothing could be learnt of it. numbers: room for [n_classes] */
static ot_status drop_classes(ot_pictures *p, const uint8_t *marks, int32_t *numbers, ot_error *err) {
    int64_t n = 0;
    for (int64_t c = 0; c < p->n_classes; c++) {
        if (marks[c] == HAD) OT_TRY(ot_pictures_bad(p, err, "%s: the class %s is left out with all its pictures", p->path, p->classes[c]));
        numbers[c] = (int32_t)n;
        if (marks[c] != HAD) p->classes[n++] = p->classes[c];
    }
    for (int64_t i = 0; i < p->n; i++) {
        if (p->items[i].label >= 0 && p->n_classes > 0) p->items[i].label = numbers[p->items[i].label];
    }
    p->n_classes = n;
    return OT_OK;
}

/* In the list's order, so that what is kept and named does not depend on threads. */
static ot_status judge(ot_pictures *p, const verdict *verdicts, uint8_t *marks, ot_picture_sizes *sizes, ot_error *err) {
    int64_t n = p->n, kept = 0;
    mark_classes(p, HAD, marks);
    for (int64_t i = 0; i < n; i++) {
        const verdict *v = &verdicts[i];
        if (v->no_memory) return ot_fail_memory(err, 0, "a picture");
        if (v->why != NULL) {
            OT_TRY(ot_pictures_bad(p, err, "%s", v->why));
            continue;
        }
        if (sizes != NULL) measure(v, sizes);
        if (kept < i) {
            p->items[kept] = p->items[i];
            p->items[i].kept = (ot_image){0}; /* it has one owner */
        }
        kept++;
    }
    p->n = kept;
    mark_classes(p, HAS, marks);
    if (kept == 0) return ot_fail(err, OT_ERR_FORMAT, "%s: none of its %lld picture%s can be read; the first: %s", p->path, (long long)n, OT_PLURAL(n), verdicts[0].why);
    return OT_OK;
}

ot_status ot_pictures_check(ot_pictures *p, ot_picture_sizes *sizes, ot_picture_look look, void *context, ot_error *err) {
    check_job job = {.p = p, .look = look, .context = context};
    int64_t n = p->n, classes = p->n_classes;
    uint8_t *marks = NULL;
    int32_t *numbers = NULL;
    if (sizes != NULL) *sizes = (ot_picture_sizes){0};
    ot_status status = ot_calloc(n, sizeof *job.verdicts, "a check of pictures", (void **)&job.verdicts, err);
    if (status == OT_OK) status = ot_calloc(classes + 1, sizeof *marks, "a check of pictures", (void **)&marks, err);
    if (status == OT_OK) status = ot_calloc(classes + 1, sizeof *numbers, "a check of pictures", (void **)&numbers, err);
    if (status == OT_OK) {
        ot_parallel_for(n, check_one, &job);
        status = judge(p, job.verdicts, marks, sizes, err);
    }
    if (status == OT_OK) status = drop_classes(p, marks, numbers, err);
    for (int64_t i = 0; job.verdicts != NULL && i < n; i++) free(job.verdicts[i].why);
    ot_free(job.verdicts);
    ot_free(marks);
    ot_free(numbers);
    return status;
}
