/* The layouts that lists of pictures come in. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "data/pictures.h"
#include "format/csv.h"
#include "format/json.h"
#include "format/tar.h"

enum { PATH_ROOM = 8192, MAX_DEPTH = 32, MAX_LIST = 1 << 28, MAX_LABEL = 1024, MAX_SIDE_FILE = 1 << 16 };

static char *join(ot_arena *arena, const char *a, const char *b, ot_error *err) {
    size_t n = strlen(a);
    char *out = ot_arena_alloc(arena, (int64_t)(n + strlen(b) + 2), err);
    if (out == NULL) return NULL;
    memcpy(out, a, n);
    if (n > 0) out[n++] = '/';
    memcpy(out + n, b, strlen(b) + 1);
    return out;
}

/* Names that begin with a dot are the system's own. */
static bool is_hidden(const char *name) { return name[0] == '.' || strcmp(name, "__MACOSX") == 0; }

/* ==== Folders. ==== */

typedef enum kind { FOLDER, PLAIN, OTHER } kind;

/* A link to a file counts as the file; a link to a folder is not followed, since it may lead in a circle. */
static kind kind_of(const char *path) {
    struct stat st, target;
    if (lstat(path, &st) != 0) return OTHER;
    if (S_ISLNK(st.st_mode)) return stat(path, &target) == 0 && S_ISREG(target.st_mode) ? PLAIN : OTHER;
    return S_ISDIR(st.st_mode) ? FOLDER : S_ISREG(st.st_mode) ? PLAIN : OTHER;
}

static ot_status take_file(ot_pictures *p, const char *name, const char *class_name, ot_error *err) {
    if (!ot_image_is_name(name)) return OT_OK; /* notes, thumbnails' indexes */
    return ot_pictures_add(p, &(ot_picture){.name = name, .class_name = class_name}, err);
}

/* Everything below root/folder. */
static ot_status walk(ot_pictures *p, const char *folder, const char *class_name, int depth, ot_error *err) {
    char path[PATH_ROOM];
    char **names = NULL;
    int64_t n = 0;
    if (depth > MAX_DEPTH) return ot_fail(err, OT_ERR_FORMAT, "%s/%s: folders are nested more than %d deep", p->root, folder, MAX_DEPTH);
    if (!ot_path_join(path, sizeof path, p->root, folder)) return ot_fail(err, OT_ERR_IO, "%s/%s: the path is too long", p->root, folder);
    OT_TRY(ot_list_dir(path, &p->arena, &names, &n, err));
    for (int64_t i = 0; i < n; i++) {
        if (is_hidden(names[i])) continue;
        const char *name = join(&p->arena, folder, names[i], err);
        if (name == NULL) return OT_ERR_MEMORY;
        if (!ot_path_join(path, sizeof path, p->root, name)) return ot_fail(err, OT_ERR_IO, "%s/%s: the path is too long", p->root, name);
        kind k = kind_of(path);
        if (k == FOLDER) OT_TRY(walk(p, name, class_name, depth + 1, err));
        else if (k == PLAIN) OT_TRY(take_file(p, name, class_name, err));
        else if (ot_image_is_name(names[i])) OT_TRY(ot_pictures_bad(p, err, "%s is neither a file nor a link to one", path));
    }
    return OT_OK;
}

static ot_status has_parts(const ot_pictures *p, const char *one, const char *where, ot_error *err) {
    return ot_fail(err, OT_ERR_USAGE, "%s holds the parts of a data set (%s, ...) and no classes: name one of them, %s/%s", p->path, one, where, one);
}

/* Does every folder in here bear the name of a part? Then those are no classes. */
static bool only_parts(char *const *names, const kind *kinds, int64_t n, const char **one) {
    *one = NULL;
    for (int64_t i = 0; i < n; i++) {
        if (is_hidden(names[i]) || kinds[i] != FOLDER) continue;
        if (!ot_pictures_is_part(names[i])) return false;
        *one = names[i];
    }
    return *one != NULL;
}

static ot_status read_entries(ot_pictures *p, char *const *names, const kind *kinds, int64_t n, bool has_folders, bool has_archives, ot_error *err) {
    char path[PATH_ROOM];
    for (int64_t i = 0; i < n; i++) {
        if (is_hidden(names[i])) continue;
        if (has_folders) {
            if (kinds[i] == FOLDER) OT_TRY(ot_pictures_add_class(p, names[i], err));
            if (kinds[i] == FOLDER) OT_TRY(walk(p, names[i], names[i], 1, err));
            else if (ot_image_is_name(names[i])) OT_TRY(ot_pictures_bad(p, err, "%s/%s lies beside the folders of classes: it has no class", p->root, names[i]));
        } else if (has_archives) {
            if (!ot_path_ends(names[i], ".tar")) continue;
            const char *archive = ot_path_join(path, sizeof path, p->root, names[i]) ? ot_arena_strdup(&p->arena, path, err) : NULL;
            if (archive == NULL) return ot_fail(err, OT_ERR_IO, "%s/%s: the path is too long", p->root, names[i]);
            OT_TRY(ot_pictures_read_tar(p, archive, "", err));
        } else if (kinds[i] == PLAIN) {
            OT_TRY(take_file(p, names[i], NULL, err));
        }
    }
    return OT_OK;
}

ot_status ot_pictures_read_folder(ot_pictures *p, ot_error *err) {
    char **names = NULL, path[PATH_ROOM];
    int64_t n = 0;
    OT_TRY(ot_list_dir(p->root, &p->arena, &names, &n, err));
    kind *kinds = ot_arena_alloc(&p->arena, (n + 1) * (int64_t)sizeof *kinds, err);
    if (kinds == NULL) return OT_ERR_MEMORY;
    bool has_folders = false, has_archives = false;
    for (int64_t i = 0; i < n; i++) {
        kinds[i] = ot_path_join(path, sizeof path, p->root, names[i]) ? kind_of(path) : OTHER;
        has_folders = has_folders || (kinds[i] == FOLDER && !is_hidden(names[i]));
        has_archives = has_archives || ot_path_ends(names[i], ".tar");
    }
    const char *one = NULL;
    if (only_parts(names, kinds, n, &one)) return has_parts(p, one, p->path, err);
    p->layout = has_folders ? "folders" : has_archives ? "archives" : "folder without classes";
    return read_entries(p, names, kinds, n, has_folders, has_archives && !has_folders, err);
}

/* ==== Archives. ==== */

static bool ends_in(const char *name, const char *end) {
    size_t n = strlen(name), k = strlen(end);
    return n > k && strcasecmp(name + n - k, end) == 0;
}

static bool is_side_file(const char *name) { return ends_in(name, ".cls") || ends_in(name, ".json"); }

/* What comes before the first dot of the last part: WebDataset's key. */
static size_t key_length(const char *name) {
    const char *base = ot_path_base(name), *dot = strchr(base, '.');
    return dot != NULL ? (size_t)(dot - name) : strlen(name);
}

/* The text of KEY.cls, or the label in KEY.json, in the arena; NULL with the reason reported as bad. */
static ot_status read_label(ot_pictures *p, const char *where, const ot_tar_file *f, const uint8_t *data, const char **out, ot_error *err) {
    static const char *const keys[] = {"label", "cls", "class"};
    char text[MAX_LABEL + 32];
    *out = NULL;
    if (f->size > MAX_SIDE_FILE) return ot_pictures_bad(p, err, "%s: %s is too large for a label", where, f->name);
    if (ends_in(f->name, ".cls")) {
        int64_t from = 0, to = f->size;
        while (from < to && strchr(" \t\r\n", data[from]) != NULL && data[from] != 0) from++;
        while (to > from && strchr(" \t\r\n", data[to - 1]) != NULL && data[to - 1] != 0) to--;
        if (to == from || to - from > MAX_LABEL || memchr(data + from, 0, (size_t)(to - from)) != NULL) {
            return ot_pictures_bad(p, err, "%s: %s is no label", where, f->name);
        }
        *out = ot_arena_strndup(&p->arena, (const char *)data + from, (size_t)(to - from), err);
        return *out != NULL ? OT_OK : OT_ERR_MEMORY;
    }
    json_t *json = NULL;
    ot_error inner = {0};
    if (ot_json_parse((const char *)data, f->size, f->name, &json, &inner) != OT_OK) return ot_pictures_bad(p, err, "%s: %s", where, inner.message);
    const json_t *label = NULL;
    for (size_t i = 0; label == NULL && i < sizeof keys / sizeof *keys; i++) label = json_object_get(json, keys[i]);
    ot_status status = OT_OK;
    if (json_is_string(label) && json_string_length(label) > 0 && json_string_length(label) <= MAX_LABEL && strlen(json_string_value(label)) == json_string_length(label)) {
        snprintf(text, sizeof text, "%s", json_string_value(label));
    } else if (json_is_integer(label)) {
        snprintf(text, sizeof text, "%lld", (long long)json_integer_value(label));
    } else {
        status = ot_pictures_bad(p, err, "%s: %s has no \"label\" that is a name or a number", where, f->name);
        text[0] = '\0';
    }
    json_decref(json);
    if (status == OT_OK && text[0] != '\0') {
        *out = ot_arena_strdup(&p->arena, text, err);
        if (*out == NULL) return OT_ERR_MEMORY;
    }
    return status;
}

/* Members with one key are neighbours: pictures[first .. end) and a label among them. */
static ot_status take_sample(ot_pictures *p, const char *where, const ot_tar_file *files, int64_t n, const uint8_t *data, ot_error *err) {
    const ot_tar_file *picture = NULL;
    const char *label = NULL;
    bool said = false;
    for (int64_t i = 0; i < n; i++) {
        if (is_side_file(files[i].name) && label == NULL) {
            OT_TRY(read_label(p, where, &files[i], data + files[i].at, &label, err));
            said = true;
        } else if (ot_image_is_name(files[i].name) && picture == NULL) {
            picture = &files[i];
        }
    }
    if (picture == NULL) return OT_OK;
    if (said && label == NULL) return OT_OK; /* left out: the label's fault has been told */
    const char *name = ot_arena_strdup(&p->arena, picture->name, err);
    if (name == NULL) return OT_ERR_MEMORY;
    return ot_pictures_add(p, &(ot_picture){.name = name, .data = data + picture->at, .size = picture->size, .class_name = label}, err);
}

static ot_status take_samples(ot_pictures *p, const char *where, const ot_tar_file *files, int64_t n, const uint8_t *data, ot_error *err) {
    for (int64_t from = 0, to; from < n; from = to) {
        size_t k = key_length(files[from].name);
        for (to = from + 1; to < n && key_length(files[to].name) == k && memcmp(files[from].name, files[to].name, k) == 0;) to++;
        OT_TRY(take_sample(p, where, files + from, to - from, data, err));
    }
    return OT_OK;
}

/* Folders that all pictures share lead to the classes and are none: the length of the path before the class. */
static size_t shared_length(const ot_tar_file *files, int64_t n, size_t below) {
    size_t shared = below;
    for (;;) {
        const char *first = NULL;
        size_t k = 0;
        for (int64_t i = 0; i < n; i++) {
            const char *rest = files[i].name + shared, *slash = strchr(rest, '/');
            if (!ot_image_is_name(rest)) continue;
            if (slash == NULL) return shared;
            if (first == NULL) {
                first = rest;
                k = (size_t)(slash + 1 - rest);
            } else if (strncmp(first, rest, k) != 0) {
                return shared;
            }
        }
        if (first == NULL) return shared;
        /* A single class stays one: only a folder of folders is passed by. */
        const char *next = strchr(first + k, '/');
        if (next == NULL) return shared;
        shared += k;
    }
}

static ot_status take_folders(ot_pictures *p, const char *archive, const ot_tar_file *files, int64_t n, size_t below, const uint8_t *data, ot_error *err) {
    size_t shared = shared_length(files, n, below);
    bool only = true;
    for (int64_t pass = 0; pass < 2; pass++) {
        for (int64_t i = 0; i < n; i++) {
            const char *rest = files[i].name + shared, *slash = strchr(rest, '/');
            if (!ot_image_is_name(rest) || is_hidden(ot_path_base(rest))) continue;
            char *class_name = slash != NULL ? ot_arena_strndup(&p->arena, rest, (size_t)(slash - rest), err) : NULL;
            if (slash != NULL && class_name == NULL) return OT_ERR_MEMORY;
            if (pass == 0) {
                only = only && class_name != NULL && ot_pictures_is_part(class_name) && strchr(slash + 1, '/') != NULL;
                continue;
            }
            if (only) return has_parts(p, class_name, archive, err);
            const char *name = ot_arena_strdup(&p->arena, files[i].name, err);
            if (name == NULL) return OT_ERR_MEMORY;
            OT_TRY(ot_pictures_add(p, &(ot_picture){.name = name, .data = data + files[i].at, .size = files[i].size, .class_name = class_name}, err));
        }
    }
    return OT_OK;
}

/* The members below a folder come first, in their order. */
static int64_t keep_below(ot_tar *tar, const char *below) {
    size_t k = strlen(below);
    while (k > 0 && below[k - 1] == '/') k--;
    int64_t n = 0;
    for (int64_t i = 0; i < tar->n_files; i++) {
        const char *name = tar->files[i].name;
        if (k == 0 || (strncmp(name, below, k) == 0 && name[k] == '/')) tar->files[n++] = tar->files[i];
    }
    return n;
}

static ot_status read_members(ot_pictures *p, const char *archive, const char *below, ot_tar *tar, const uint8_t *data, ot_error *err) {
    int64_t n = keep_below(tar, below);
    bool samples = false;
    if (n == 0) return ot_fail(err, OT_ERR_FORMAT, "%s holds no files below %s", archive, below);
    for (int64_t i = 0; i < n && !samples; i++) samples = is_side_file(tar->files[i].name);
    const char *layout = samples ? "WebDataset" : "tar of folders";
    if (p->layout != NULL && strcmp(p->layout, "archives") != 0 && strcmp(p->layout, layout) != 0) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: archives of folders and of WebDataset's samples do not go together", p->path);
    }
    p->layout = layout;
    if (samples) return take_samples(p, archive, tar->files, n, data, err);
    size_t skip = strlen(below);
    while (skip > 0 && below[skip - 1] == '/') skip--;
    return take_folders(p, archive, tar->files, n, skip > 0 ? skip + 1 : 0, data, err);
}

ot_status ot_pictures_read_tar(ot_pictures *p, const char *archive, const char *below, ot_error *err) {
    ot_tar tar = {0};
    OT_TRY(ot_grow((void **)&p->maps, &p->maps_room, p->n_maps + 1, sizeof *p->maps, "archives", err));
    p->maps[p->n_maps] = (ot_map){0};
    OT_TRY(ot_map_open(archive, &p->maps[p->n_maps], err));
    const ot_map *map = &p->maps[p->n_maps++];
    OT_TRY(ot_tar_read(map->data, map->size, archive, &tar, err));
    ot_status status = read_members(p, archive, below, &tar, map->data, err);
    if (status == OT_OK && tar.n_skipped > 0) {
        status = ot_pictures_bad(p, err, "%s: %lld links or other members that are no files", archive, (long long)tar.n_skipped);
    }
    ot_tar_free(&tar);
    if (strcmp(archive, p->path) == 0 || below[0] != '\0') p->root = archive;
    return status;
}

/* ==== Lists. ==== */

static int column(const ot_csv *c, const char *const *names) {
    for (int i = 0; i < c->n_fields; i++) {
        for (int k = 0; names[k] != NULL; k++) {
            if (strcasecmp(c->fields[i], names[k]) == 0) return i;
        }
    }
    return -1;
}

static ot_status take_row(ot_pictures *p, const ot_csv *c, int path_at, int label_at, int n_columns, ot_error *err) {
    if (c->n_fields != n_columns) {
        return ot_pictures_bad(p, err, "%s:%lld: has %d fields, the first line %d", p->path, (long long)c->line, c->n_fields, n_columns);
    }
    const char *path = c->fields[path_at], *label = label_at >= 0 ? c->fields[label_at] : "";
    if (!ot_path_is_inside(path)) {
        return ot_pictures_bad(p, err, "%s:%lld: the path %s leads outside of the list's folder", p->path, (long long)c->line, path[0] != '\0' ? path : "(empty)");
    }
    if (strlen(label) > MAX_LABEL) return ot_pictures_bad(p, err, "%s:%lld: the label is longer than %d bytes", p->path, (long long)c->line, MAX_LABEL);
    ot_picture item = {.name = ot_arena_strdup(&p->arena, path, err), .class_name = label[0] != '\0' ? ot_arena_strdup(&p->arena, label, err) : NULL};
    if (item.name == NULL || (label[0] != '\0' && item.class_name == NULL)) return OT_ERR_MEMORY;
    return ot_pictures_add(p, &item, err);
}

static ot_status read_rows(ot_pictures *p, ot_csv *c, ot_error *err) {
    static const char *const paths[] = {"path", "file", "filename", "image", NULL}, *const labels[] = {"label", "class", NULL};
    bool found = false;
    OT_TRY(ot_csv_next(c, &found, err));
    int path_at = found ? column(c, paths) : -1, label_at = found ? column(c, labels) : -1, n = c->n_fields;
    if (path_at < 0) return ot_fail(err, OT_ERR_FORMAT, "%s: its first line must name the columns, among them path, and label unless there are none", p->path);
    for (;;) {
        OT_TRY(ot_csv_next(c, &found, err));
        if (!found) return OT_OK;
        OT_TRY(take_row(p, c, path_at, label_at, n, err));
    }
}

ot_status ot_pictures_read_csv(ot_pictures *p, ot_error *err) {
    char *text = NULL;
    int64_t size = 0;
    const char *base = ot_path_base(p->path);
    p->layout = "CSV list";
    p->root = base == p->path ? "." : ot_arena_strndup(&p->arena, p->path, (size_t)(base - p->path), err);
    if (p->root == NULL) return OT_ERR_MEMORY;
    OT_TRY(ot_read_file(p->path, MAX_LIST, &text, &size, err));
    ot_csv c;
    ot_csv_open(text, size, p->path, &c);
    ot_status status = read_rows(p, &c, err);
    ot_csv_close(&c);
    ot_free(text);
    return status;
}
