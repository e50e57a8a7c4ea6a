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

static bool has_hidden_part(const char *name) {
    for (const char *at = name; at != NULL; at = strchr(at, '/')) {
        at += *at == '/';
        if (*at == '.' || strncmp(at, "__MACOSX/", 9) == 0) return true;
    }
    return false;
}

/* ==== Folders. ==== */

typedef enum kind { FOLDER, LINKED_FOLDER, PLAIN, OTHER } kind;

/* A link to a file counts as the file. A link to a folder counts where `follow` says so: among the classes, and nowhere below, so that none leads in a
 * circle. */
static kind kind_of(const char *path, bool follow) {
    struct stat st;
    if (lstat(path, &st) != 0) return OTHER;
    bool link = S_ISLNK(st.st_mode);
    if (link && stat(path, &st) != 0) return OTHER;
    if (S_ISDIR(st.st_mode)) return link && !follow ? LINKED_FOLDER : FOLDER;
    return S_ISREG(st.st_mode) ? PLAIN : OTHER;
}

static ot_status take_file(ot_pictures *p, const char *name, const char *class_name, ot_error *err) {
    if (!ot_image_is_name(name)) return OT_OK; /* notes, indexes of thumbnails */
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
        kind k = kind_of(path, false);
        if (k == FOLDER) OT_TRY(walk(p, name, class_name, depth + 1, err));
        else if (k == PLAIN) OT_TRY(take_file(p, name, class_name, err));
        else if (k == LINKED_FOLDER) OT_TRY(ot_pictures_bad(p, err, "%s is a link to a folder, which is followed only where the folders of classes lie", path));
        else if (ot_image_is_name(names[i])) OT_TRY(ot_pictures_bad(p, err, "%s is neither a file nor a link to one", path));
    }
    return OT_OK;
}

/* Pictures below folders train, test, ... would become classes of these names. */
static ot_status refuse_parts(const ot_pictures *p, const char *where, const char *one, ot_error *err) {
    return ot_fail(err, OT_ERR_USAGE, "%s holds the parts of a data set (%s, ...) and no classes: name one of them, %s/%s", p->path, one, where, one);
}

typedef struct listing {
    char **names;
    kind *kinds;
    int64_t n;
    int64_t folders, pictures, archives; /* of those that count */
    const char *folder;                  /* the last one */
} listing;

/* What lies in a folder, the hidden apart. */
static ot_status list(ot_pictures *p, const char *folder, listing *out, ot_error *err) {
    char **names = NULL, path[PATH_ROOM];
    int64_t n = 0;
    *out = (listing){0};
    OT_TRY(ot_list_dir(folder, &p->arena, &names, &n, err));
    out->names = names;
    out->kinds = ot_arena_alloc(&p->arena, (n + 1) * (int64_t)sizeof *out->kinds, err);
    if (out->kinds == NULL) return OT_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++) {
        if (is_hidden(names[i])) continue;
        kind k = ot_path_join(path, sizeof path, folder, names[i]) ? kind_of(path, true) : OTHER;
        out->folders += k == FOLDER;
        out->pictures += k != FOLDER && ot_image_is_name(names[i]);
        out->archives += ot_path_ends(names[i], ".tar");
        if (k == FOLDER) out->folder = names[i];
        out->names[out->n] = names[i];
        out->kinds[out->n++] = k;
    }
    return OT_OK;
}

/* A folder that holds nothing but one folder of folders leads to the classes and is none: the same as in an archive. */
static ot_status pass_by(ot_pictures *p, listing *at, ot_error *err) {
    for (int depth = 0; depth < MAX_DEPTH && at->folders == 1 && at->pictures == 0 && at->archives == 0; depth++) {
        listing below;
        const char *root = join(&p->arena, p->root, at->folder, err);
        if (root == NULL) return OT_ERR_MEMORY;
        OT_TRY(list(p, root, &below, err));
        if (below.folders == 0 || below.pictures > 0) break;
        p->root = root;
        *at = below;
    }
    return OT_OK;
}

static ot_status take_class(ot_pictures *p, const char *name, ot_error *err) {
    int64_t before = p->n;
    OT_TRY(walk(p, name, name, 1, err));
    if (p->n > before) return ot_pictures_add_class(p, name, err);
    return ot_pictures_bad(p, err, "%s/%s holds no pictures: it is no class", p->root, name);
}

static ot_status take_archive(ot_pictures *p, const char *name, ot_error *err) {
    const char *archive = join(&p->arena, p->root, name, err);
    return archive != NULL ? ot_pictures_read_tar(p, archive, "", err) : OT_ERR_MEMORY;
}

static bool only_parts(const ot_pictures *p) {
    for (int64_t i = 0; i < p->n_classes; i++) {
        if (!ot_pictures_is_part(p->classes[i])) return false;
    }
    return p->n_classes > 0;
}

ot_status ot_pictures_read_folder(ot_pictures *p, ot_error *err) {
    listing at;
    OT_TRY(list(p, p->root, &at, err));
    OT_TRY(pass_by(p, &at, err));
    p->layout = at.folders > 0 ? "folders" : at.archives > 0 ? "archives" : "folder without classes";
    for (int64_t i = 0; i < at.n; i++) {
        const char *name = at.names[i];
        if (at.kinds[i] == FOLDER) OT_TRY(take_class(p, name, err));
        else if (at.folders > 0 && ot_image_is_name(name)) OT_TRY(ot_pictures_bad(p, err, "%s/%s lies beside the folders of classes: it has no class", p->root, name));
        else if (at.folders == 0 && at.archives > 0 && ot_path_ends(name, ".tar")) OT_TRY(take_archive(p, name, err));
        else if (at.folders == 0 && at.archives == 0 && at.kinds[i] == PLAIN) OT_TRY(take_file(p, name, NULL, err));
    }
    return only_parts(p) ? refuse_parts(p, p->root, p->classes[0], err) : OT_OK;
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

/* Folders that all pictures share lead to the classes and are none, but for the last one, the class: the length of the path before the class. */
static size_t shared_length(const ot_tar_file *files, int64_t n, size_t below) {
    size_t shared = below;
    for (;;) {
        const char *first = NULL;
        size_t k = 0;
        for (int64_t i = 0; i < n; i++) {
            const char *rest = files[i].name + shared, *slash = strchr(rest, '/');
            if (!ot_image_is_name(rest)) continue;
            if (slash == NULL || strchr(slash + 1, '/') == NULL) return shared;
            if (first == NULL) k = (size_t)(slash + 1 - rest);
            else if (strncmp(first, rest, k) != 0) return shared;
            first = rest;
        }
        if (first == NULL) return shared;
        shared += k;
    }
}

/* "ARCHIVE/MEMBER" where there are several archives, whose members may have the same names. */
static char *member_name(ot_pictures *p, const char *archive, const char *name, ot_error *err) {
    return strcmp(p->root, archive) == 0 ? ot_arena_strdup(&p->arena, name, err) : join(&p->arena, ot_path_base(archive), name, err);
}

/* WebDataset: members with one key are neighbours, one of them the picture, another its label. */
static ot_status take_sample(ot_pictures *p, const char *archive, const ot_tar_file *files, int64_t n, const uint8_t *data, ot_error *err) {
    const ot_tar_file *picture = NULL;
    const char *label = NULL;
    bool said = false;
    for (int64_t i = 0; i < n; i++) {
        if (is_side_file(files[i].name) && label == NULL) {
            OT_TRY(read_label(p, archive, &files[i], data + files[i].at, &label, err));
            said = true;
        } else if (ot_image_is_name(files[i].name) && picture == NULL) {
            picture = &files[i];
        }
    }
    if (picture == NULL) return OT_OK;
    if (said && label == NULL) return OT_OK; /* left out: the label's fault has been told */
    const char *name = member_name(p, archive, picture->name, err);
    if (name == NULL) return OT_ERR_MEMORY;
    return ot_pictures_add(p, &(ot_picture){.name = name, .data = data + picture->at, .size = picture->size, .class_name = label}, err);
}

static ot_status take_samples(ot_pictures *p, const char *archive, const ot_tar_file *files, int64_t n, const uint8_t *data, ot_error *err) {
    for (int64_t from = 0, to; from < n; from = to) {
        size_t k = key_length(files[from].name);
        for (to = from + 1; to < n && key_length(files[to].name) == k && memcmp(files[from].name, files[to].name, k) == 0;) to++;
        OT_TRY(take_sample(p, archive, files + from, to - from, data, err));
    }
    return OT_OK;
}

/* A class for each folder below the shared ones. */
static ot_status take_folders(ot_pictures *p, const char *archive, const ot_tar_file *files, int64_t n, size_t below, const uint8_t *data, ot_error *err) {
    size_t shared = shared_length(files, n, below);
    bool any = false;
    const char *part = NULL;
    for (int64_t i = 0; i < n && !any; i++) any = ot_image_is_name(files[i].name) && strchr(files[i].name + shared, '/') != NULL;
    bool parts = any;
    for (int64_t i = 0; i < n; i++) {
        const char *rest = files[i].name + shared, *slash = strchr(rest, '/');
        if (!ot_image_is_name(rest)) continue;
        if (any && slash == NULL) {
            OT_TRY(ot_pictures_bad(p, err, "%s/%s lies beside the folders of classes: it has no class", archive, files[i].name));
            continue;
        }
        const char *name = member_name(p, archive, files[i].name, err);
        char *class_name = slash != NULL && name != NULL ? ot_arena_strndup(&p->arena, rest, (size_t)(slash - rest), err) : NULL;
        if (name == NULL || (slash != NULL && class_name == NULL)) return OT_ERR_MEMORY;
        parts = parts && ot_pictures_is_part(class_name);
        if (parts && part == NULL) part = class_name;
        OT_TRY(ot_pictures_add(p, &(ot_picture){.name = name, .data = data + files[i].at, .size = files[i].size, .class_name = class_name}, err));
    }
    return parts ? refuse_parts(p, archive, part, err) : OT_OK;
}

/* The members below a folder come first, in their order, without what the system of whoever packed them left among them. */
static int64_t keep_below(ot_tar *tar, const char *below) {
    size_t k = strlen(below);
    while (k > 0 && below[k - 1] == '/') k--;
    int64_t n = 0;
    for (int64_t i = 0; i < tar->n_files; i++) {
        const char *name = tar->files[i].name;
        if (k > 0 && (strncmp(name, below, k) != 0 || name[k] != '/')) continue;
        if (!has_hidden_part(name + k)) tar->files[n++] = tar->files[i];
    }
    return n;
}

static ot_status read_members(ot_pictures *p, const char *archive, const char *below, ot_tar *tar, const uint8_t *data, ot_error *err) {
    int64_t n = keep_below(tar, below);
    bool samples = false;
    if (n == 0) return ot_fail(err, OT_ERR_FORMAT, "%s holds no files%s%s", archive, below[0] != '\0' ? " below " : "", below);
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
