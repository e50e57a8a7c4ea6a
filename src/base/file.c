#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

ot_status ot_map_open(const char *path, ot_map *map, ot_error *err) {
    /* Without O_NONBLOCK the open of a pipe would wait for a writer, before its kind can be refused. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return ot_fail_errno(err, errno, "cannot open %s", path);
    struct stat st;
    ot_status status = OT_OK;
    if (fstat(fd, &st) != 0) {
        status = ot_fail_errno(err, errno, "cannot read the size of %s", path);
    } else if (!S_ISREG(st.st_mode)) {
        status = ot_fail(err, OT_ERR_IO, "%s is not a regular file", path);
    } else if (st.st_size > 0) {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) {
            status = ot_fail_errno(err, errno, "cannot map %s", path);
        } else {
            map->data = p;
            map->size = st.st_size;
        }
    } else {
        map->data = NULL;
        map->size = 0;
    }
    close(fd);
    return status;
}

void ot_map_close(ot_map *map) {
    if (map->data != NULL) munmap((void *)(uintptr_t)map->data, (size_t)map->size);
    map->data = NULL;
    map->size = 0;
}

ot_status ot_read_file(const char *path, int64_t limit, char **text, int64_t *size, ot_error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return ot_fail_errno(err, errno, "cannot open %s", path);
    char *buffer = NULL;
    int64_t used = 0, capacity = 0;
    ot_status status = OT_OK;
    for (;;) {
        status = ot_grow((void **)&buffer, &capacity, used + 65536, 1, path, err);
        if (status != OT_OK) break;
        ssize_t n = read(fd, buffer + used, (size_t)(capacity - used - 1));
        if (n < 0) {
            if (errno == EINTR) continue;
            status = ot_fail_errno(err, errno, "cannot read %s", path);
            break;
        }
        if (n == 0) break;
        used += n;
        if (used > limit) {
            status = ot_fail(err, OT_ERR_FORMAT, "%s is larger than the %lld bytes allowed for such a file", path, (long long)limit);
            break;
        }
    }
    close(fd);
    if (status != OT_OK) {
        free(buffer);
        return status;
    }
    buffer[used] = '\0';
    *text = buffer;
    *size = used;
    return OT_OK;
}

struct ot_writer {
    FILE *file;
    char *path;
    char *temporary; /* NULL: path is a device or a pipe, written directly */
};

static void writer_free(ot_writer *w) {
    free(w->path);
    free(w->temporary);
    free(w);
}

/* A new file beside path, by the user's umask (which mkstemp would ignore, and which cannot be read without changing it). */
static int create_temporary(const char *path, char **name) {
    size_t size = strlen(path) + 32;
    char *text = malloc(size);
    if (text == NULL) return -1;
    for (int attempt = 0; attempt < 100; attempt++) {
        uint64_t random = 0;
        if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random) break;
        snprintf(text, size, "%s.tmp-%016llx", path, (unsigned long long)random);
        int fd = open(text, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0) {
            *name = text;
            return fd;
        }
        if (errno != EEXIST) break;
    }
    int code = errno;
    free(text);
    errno = code;
    return -1;
}

ot_status ot_writer_open(const char *path, ot_writer **out, ot_error *err) {
    struct stat st;
    bool exists = stat(path, &st) == 0;
    if (exists && S_ISDIR(st.st_mode)) return ot_fail(err, OT_ERR_IO, "cannot write %s: it is a directory", path);
    ot_writer *w = calloc(1, sizeof *w);
    if (w == NULL) return ot_fail_memory(err, sizeof *w, "a file writer");
    w->path = strdup(path);
    if (w->path == NULL) {
        writer_free(w);
        return ot_fail_memory(err, strlen(path), "a file name");
    }
    /* Renaming over /dev/null would replace the device itself. */
    bool direct = exists && !S_ISREG(st.st_mode);
    int fd = direct ? open(path, O_WRONLY | O_CLOEXEC) : create_temporary(path, &w->temporary);
    if (fd < 0) {
        int code = errno;
        writer_free(w);
        return ot_fail_errno(err, code, "cannot create %s", path);
    }
    w->file = fdopen(fd, "wb");
    if (w->file == NULL) {
        int code = errno;
        close(fd);
        if (w->temporary != NULL) unlink(w->temporary);
        writer_free(w);
        return ot_fail_errno(err, code, "cannot write %s", path);
    }
    *out = w;
    return OT_OK;
}

ot_status ot_writer_put(ot_writer *w, const void *data, int64_t size, ot_error *err) {
    if (size > 0 && fwrite(data, 1, (size_t)size, w->file) != (size_t)size) {
        return ot_fail_errno(err, errno, "cannot write %s (the disk may be full)", w->path);
    }
    return OT_OK;
}

static void sync_parent(const char *path) {
    char parent[PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (slash == NULL) {
        snprintf(parent, sizeof parent, ".");
    } else if (slash == path) {
        snprintf(parent, sizeof parent, "/");
    } else {
        snprintf(parent, sizeof parent, "%.*s", (int)(slash - path), path);
    }
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    fsync(fd);
    close(fd);
}

ot_status ot_writer_commit(ot_writer *w, ot_error *err) {
    bool direct = w->temporary == NULL;
    if (fflush(w->file) != 0 || (!direct && fsync(fileno(w->file)) != 0)) {
        return ot_fail_errno(err, errno, "cannot write %s (the disk may be full)", w->path);
    }
    int closed = fclose(w->file);
    w->file = NULL;
    if (closed != 0) return ot_fail_errno(err, errno, "cannot write %s", w->path);
    if (!direct) {
        if (rename(w->temporary, w->path) != 0) return ot_fail_errno(err, errno, "cannot rename %s to %s", w->temporary, w->path);
        sync_parent(w->path);
    }
    writer_free(w);
    return OT_OK;
}

void ot_writer_abort(ot_writer *w) {
    if (w == NULL) return;
    if (w->file != NULL) fclose(w->file);
    if (w->temporary != NULL) unlink(w->temporary);
    writer_free(w);
}

ot_status ot_write_file(const char *path, const void *data, int64_t size, ot_error *err) {
    ot_writer *w = NULL;
    OT_TRY(ot_writer_open(path, &w, err));
    ot_status status = ot_writer_put(w, data, size, err);
    if (status == OT_OK) status = ot_writer_commit(w, err);
    if (status != OT_OK) ot_writer_abort(w);
    return status;
}

ot_status ot_copy_file(const char *from, const char *to, ot_error *err) {
    ot_map map = {0};
    OT_TRY(ot_map_open(from, &map, err));
    ot_status status = ot_write_file(to, map.data, map.size, err);
    ot_map_close(&map);
    return status;
}

bool ot_path_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0;
}

bool ot_path_is_dir(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

ot_status ot_make_dirs(const char *path, ot_error *err) {
    char part[PATH_MAX];
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof part) return ot_fail(err, OT_ERR_IO, "cannot create a directory named \"%s\"", path);
    memcpy(part, path, length + 1);
    for (size_t i = 1; i <= length; i++) {
        if (part[i] != '/' && part[i] != '\0') continue;
        char kept = part[i];
        part[i] = '\0';
        if (mkdir(part, 0777) != 0 && errno != EEXIST) return ot_fail_errno(err, errno, "cannot create the directory %s", part);
        part[i] = kept;
    }
    if (!ot_path_is_dir(path)) return ot_fail(err, OT_ERR_IO, "%s exists and is not a directory", path);
    return OT_OK;
}

ot_status ot_remove_tree(const char *path, ot_error *err) {
    struct stat st;
    if (lstat(path, &st) != 0) return errno == ENOENT ? OT_OK : ot_fail_errno(err, errno, "cannot remove %s", path);
    if (!S_ISDIR(st.st_mode)) return unlink(path) == 0 ? OT_OK : ot_fail_errno(err, errno, "cannot remove %s", path);
    ot_arena arena = {0};
    char **names = NULL;
    int64_t count = 0;
    ot_status status = ot_list_dir(path, &arena, &names, &count, err);
    for (int64_t i = 0; status == OT_OK && i < count; i++) {
        char child[PATH_MAX];
        if (!ot_path_join(child, sizeof child, path, names[i])) {
            status = ot_fail(err, OT_ERR_IO, "a path under %s is too long", path);
        } else {
            status = ot_remove_tree(child, err);
        }
    }
    ot_arena_free(&arena);
    if (status == OT_OK && rmdir(path) != 0) status = ot_fail_errno(err, errno, "cannot remove %s", path);
    return status;
}

ot_status ot_rename_dir(const char *from, const char *to, ot_error *err) {
    /* rename itself would replace an empty directory. */
    if (ot_path_exists(to)) return ot_fail(err, OT_ERR_IO, "cannot rename %s to %s: it exists", from, to);
    if (rename(from, to) != 0) return ot_fail_errno(err, errno, "cannot rename %s to %s", from, to);
    sync_parent(to);
    return OT_OK;
}

/* The absolute name without links of what exists, and of what does not exist yet as it would be made; false when it does not fit. */
static bool resolve(const char *path, char out[PATH_MAX]) {
    if (realpath(path, out) != NULL) return true;
    char head[PATH_MAX];
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    if (n == 0 || n >= sizeof head) return false;
    size_t cut = n;
    while (cut > 0 && path[cut - 1] != '/') cut--;
    snprintf(head, sizeof head, "%.*s", (int)cut, path);
    const char *name = path + cut;
    size_t length = n - cut;
    if (length == 1 && *name == '/') return false;
    if (!resolve(cut > 0 ? head : ".", out)) return false;
    if (length == 1 && *name == '.') return true;
    size_t used = strlen(out);
    if (length == 2 && memcmp(name, "..", 2) == 0) {
        char *slash = strrchr(out, '/');
        if (slash != NULL) slash[slash == out] = '\0';
        return true;
    }
    int more = snprintf(out + used, PATH_MAX - used, "%s%.*s", used > 1 ? "/" : "", (int)length, name);
    return more > 0 && (size_t)more < PATH_MAX - used;
}

static bool same_place(const char *a, const char *b) {
    struct stat x, y;
    if (strcmp(a, b) == 0) return true;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* Is a folder above `path` the place `other`? */
static bool lies_in(const char *path, const char *other) {
    char above[PATH_MAX];
    snprintf(above, sizeof above, "%s", path);
    for (char *slash; (slash = strrchr(above, '/')) != NULL && above[1] != '\0';) {
        slash[slash == above] = '\0';
        if (same_place(above, other)) return true;
    }
    return false;
}

ot_path_relation ot_path_relate(const char *path, const char *other) {
    char a[PATH_MAX], b[PATH_MAX];
    if (!resolve(path, a) || !resolve(other, b)) return OT_PATHS_APART;
    if (same_place(a, b)) return OT_PATHS_SAME;
    if (lies_in(a, b)) return OT_PATHS_INSIDE;
    return lies_in(b, a) ? OT_PATHS_HOLDS : OT_PATHS_APART;
}

ot_status ot_path_apart(const char *output, const char *what, const char *input, ot_error *err) {
    if (!ot_path_exists(input)) return OT_OK;
    switch (ot_path_relate(output, input)) {
    case OT_PATHS_APART: break;
    case OT_PATHS_SAME: return ot_fail(err, OT_ERR_USAGE, "%s is the %s itself, which is read: choose another name", output, what);
    case OT_PATHS_INSIDE: return ot_fail(err, OT_ERR_USAGE, "%s lies inside the %s %s, which is read: choose another place", output, what, input);
    case OT_PATHS_HOLDS: return ot_fail(err, OT_ERR_USAGE, "%s holds the %s %s, which is read: choose another place", output, what, input);
    }
    return OT_OK;
}

bool ot_path_join(char *out, size_t size, const char *dir, const char *name) {
    size_t n = strlen(dir);
    while (n > 0 && dir[n - 1] == '/') n--;
    /* An empty dir is the current one; one of slashes alone is the root. */
    int written = dir[0] == '\0' ? snprintf(out, size, "%s", name) : snprintf(out, size, "%.*s/%s", (int)n, dir, name);
    return written >= 0 && (size_t)written < size;
}

const char *ot_path_base(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

bool ot_path_ends(const char *path, const char *suffix) {
    size_t n = strlen(path), m = strlen(suffix);
    return n >= m && memcmp(path + n - m, suffix, m) == 0;
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

ot_status ot_list_dir(const char *path, ot_arena *arena, char ***names, int64_t *count, ot_error *err) {
    DIR *dir = opendir(path);
    if (dir == NULL) return ot_fail_errno(err, errno, "cannot list %s", path);
    char **found = NULL;
    int64_t n = 0, capacity = 0;
    ot_status status = OT_OK;
    for (struct dirent *entry; status == OT_OK && (entry = readdir(dir)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        status = ot_grow((void **)&found, &capacity, n + 1, sizeof *found, "a directory listing", err);
        if (status != OT_OK) break;
        found[n] = ot_arena_strdup(arena, entry->d_name, err);
        if (found[n++] == NULL) status = OT_ERR_MEMORY;
    }
    closedir(dir);
    if (status == OT_OK && n > 0) {
        qsort(found, (size_t)n, sizeof *found, by_name);
        *names = ot_arena_alloc(arena, n * (int64_t)sizeof **names, err);
        if (*names == NULL) {
            status = OT_ERR_MEMORY;
        } else {
            memcpy(*names, found, (size_t)n * sizeof *found);
        }
    } else {
        *names = NULL;
    }
    free(found);
    *count = n;
    return status;
}

ot_status ot_dir_lock_take(const char *path, const char *what, ot_dir_lock *lock, ot_error *err) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return ot_fail_errno(err, errno, "cannot open the directory %s", path);
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        *lock = (ot_dir_lock){.fd = fd, .held = true};
        return OT_OK;
    }
    int code = errno;
    close(fd);
    if (code == EWOULDBLOCK) return ot_fail(err, OT_ERR_REFUSED, "another %s is at work in %s: wait for it, or choose another -o", what, path);
    /* What network file systems say, which would want a file that is open for writing. */
    if (code == EBADF || code == ENOLCK || code == EOPNOTSUPP || code == EINVAL) return OT_OK;
    return ot_fail_errno(err, code, "%s cannot be locked", path);
}

void ot_dir_lock_release(ot_dir_lock *lock) {
    if (lock->held) close(lock->fd);
    *lock = (ot_dir_lock){0};
}
