/* Files of the golden runner: fixtures, temporary inputs, JSON, folder listings. */
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "format/json.h"
#include "golden.h"

static const int64_t JSON_LIMIT = INT64_C(64) << 20;

_Noreturn void gold_die(const char *format, ...) {
    va_list list;
    va_start(list, format);
    fputs("golden runner: ", stderr);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
    exit(4);
}

static void join_list(gold_path out, const char *format, va_list list) {
    int n = vsnprintf(out, GOLD_PATH, format, list);
    if (n < 0 || n >= GOLD_PATH) gold_die("a path is longer than %d bytes: %.80s...", GOLD_PATH, out);
}

void gold_join(gold_path out, const char *format, ...) {
    va_list list;
    va_start(list, format);
    join_list(out, format, list);
    va_end(list);
}

bool gold_exists(const char *format, ...) {
    gold_path path;
    va_list list;
    va_start(list, format);
    join_list(path, format, list);
    va_end(list);
    return access(path, F_OK) == 0;
}

void gold_temp(gold_run *run, gold_path out, const char *suffix) {
    gold_join(out, "%s/%05lld%s", run->temp, (long long)run->serial++, suffix);
}

ot_safetensors *gold_open(const char *path, char *why) {
    ot_safetensors *st = NULL;
    ot_error err = {0};
    if (ot_safetensors_open(path, &st, &err) == OT_OK) return st;
    if (why) snprintf(why, GOLD_TEXT, "%.*s", GOLD_TEXT - 1, err.message);
    return NULL;
}

ot_safetensors *gold_open_fixture(const char *path) {
    char why[GOLD_TEXT];
    ot_safetensors *st = gold_open(path, why);
    if (!st) gold_die("fixture cannot be read: %s", why);
    return st;
}

json_t *gold_json(const char *path, char *why) {
    json_t *value = NULL;
    ot_error err = {0};
    if (ot_json_read(path, JSON_LIMIT, &value, &err) == OT_OK) return value;
    if (why) snprintf(why, GOLD_TEXT, "%.*s", GOLD_TEXT - 1, err.message);
    return NULL;
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

char **gold_names(const char *dir, int64_t *count) {
    *count = 0;
    DIR *d = opendir(dir);
    if (!d) return NULL;
    char **names = NULL;
    int64_t capacity = 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (e->d_name[0] == '.') continue;
        if (*count == capacity) {
            capacity = capacity ? 2 * capacity : 32;
            names = realloc(names, (size_t)capacity * sizeof *names);
            if (!names) gold_die("out of memory");
        }
        if (!(names[(*count)++] = strdup(e->d_name))) gold_die("out of memory");
    }
    closedir(d);
    if (names) qsort(names, (size_t)*count, sizeof *names, by_name);
    return names;
}

void gold_names_free(char **names, int64_t count) {
    for (int64_t i = 0; i < count; i++) free(names[i]);
    free(names);
}

void gold_write_tensors(const char *path, const ot_tensor *tensors, int64_t count) {
    ot_error err = {0};
    if (ot_safetensors_write(path, tensors, count, NULL, &err) != OT_OK) gold_die("%s", err.message);
}

void gold_write_text(const char *path, const char *text) {
    ot_error err = {0};
    if (ot_write_file(path, text, (int64_t)strlen(text), &err) != OT_OK) gold_die("%s", err.message);
}

ot_tensor gold_view(const char *name, ot_dtype dtype, const void *data, int32_t n_dims, const int64_t *shape) {
    ot_tensor t = {.name = name, .dtype = dtype, .n_dims = n_dims, .data = data};
    for (int32_t i = 0; i < n_dims; i++) t.shape[i] = shape[i];
    if (!ot_dtype_bytes(dtype, ot_tensor_elements(&t), &t.bytes)) gold_die("bad view %s", name);
    return t;
}

/* The first run of digits that is a whole component; NULL when there is none. */
static const char *block_digits(const char *name, size_t *length) {
    for (const char *p = name; *p;) {
        size_t n = strcspn(p, ".");
        if (n && strspn(p, "0123456789") == n) {
            *length = n;
            return p;
        }
        p += n;
        if (*p == '.') p++;
    }
    return NULL;
}

int64_t gold_block_of(const char *name) {
    size_t n;
    const char *p = block_digits(name, &n);
    return p ? (int64_t)strtoll(p, NULL, 10) : -1;
}

void gold_renumber(char *out, size_t size, const char *name, int64_t block) {
    size_t n = 0;
    const char *p = block_digits(name, &n);
    int written = p ? snprintf(out, size, "%.*s%lld%s", (int)(p - name), name, (long long)block, p + n)
                    : snprintf(out, size, "%s", name);
    if (written < 0 || (size_t)written >= size) gold_die("a tensor's name is too long: %s", name);
}

void gold_first_line(const char *path, char *line, size_t size) {
    line[0] = 0;
    FILE *f = fopen(path, "r");
    if (!f) return;
    if (!fgets(line, (int)size, f)) line[0] = 0;
    line[strcspn(line, "\r\n")] = 0;
    fclose(f);
}
