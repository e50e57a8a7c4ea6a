/* Files: read-only maps, bounded reads, and writes that leave nothing half-written (temporary name, fsync, rename). */
#ifndef OT_BASE_FILE_H
#define OT_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/mem.h"

/* A whole file mapped read-only. data is NULL when size is 0. Zero-initialise; ot_map_close accepts a closed map. */
typedef struct ot_map {
    const uint8_t *data;
    int64_t size;
} ot_map;
ot_status ot_map_open(const char *path, ot_map *map, ot_error *err);
void ot_map_close(ot_map *map);

/* The whole file as a NUL-terminated buffer (the NUL is not counted); refused above `limit` bytes. Free with ot_free. */
ot_status ot_read_file(const char *path, int64_t limit, char **text, int64_t *size, ot_error *err);

/* A file written under a temporary name beside `path`, renamed over it by ot_writer_commit after fsync.
 * ot_writer_abort (also after a failed commit) removes the temporary file and accepts a closed writer. */
typedef struct ot_writer ot_writer;
ot_status ot_writer_open(const char *path, ot_writer **out, ot_error *err);
ot_status ot_writer_put(ot_writer *w, const void *data, int64_t size, ot_error *err);
ot_status ot_writer_commit(ot_writer *w, ot_error *err); /* frees w when it succeeds */
void ot_writer_abort(ot_writer *w);

/* One call for small files. */
ot_status ot_write_file(const char *path, const void *data, int64_t size, ot_error *err);
/* A copy by the same rule. */
ot_status ot_copy_file(const char *from, const char *to, ot_error *err);

bool ot_path_exists(const char *path);
bool ot_path_is_dir(const char *path);
/* mkdir -p. */
ot_status ot_make_dirs(const char *path, ot_error *err);
/* Remove a directory tree or file. */
ot_status ot_remove_tree(const char *path, ot_error *err);
/* Rename a finished temporary directory to its final name and sync the parent. `to` must not exist. */
ot_status ot_rename_dir(const char *from, const char *to, ot_error *err);
/* How one path lies to another, by device and inode where they exist: other names of the same place (links, "..", mounts) are that place. What does not
 * exist yet lies where it would be made. */
typedef enum ot_path_relation {
    OT_PATHS_APART,
    OT_PATHS_SAME,
    OT_PATHS_INSIDE, /* path lies in other */
    OT_PATHS_HOLDS   /* path holds other */
} ot_path_relation;
ot_path_relation ot_path_relate(const char *path, const char *other);
/* Whoever writes `output` would harm what is read: USAGE when it is, lies inside or holds `input`. what: "model", whose `input` is. An input that does not
 * exist is left to whoever opens it. */
ot_status ot_path_apart(const char *output, const char *what, const char *input, ot_error *err);
/* "a/b" from "a" and "b"; false when it does not fit. */
bool ot_path_join(char *out, size_t size, const char *dir, const char *name);
/* The part of path after the last '/', ignoring trailing ones is the caller's business. */
const char *ot_path_base(const char *path);
/* Does path end in suffix? */
bool ot_path_ends(const char *path, const char *suffix);

/* Names in a directory, sorted bytewise, "." and ".." left out; an arena owns them. */
ot_status ot_list_dir(const char *path, ot_arena *arena, char ***names, int64_t *count, ot_error *err);

/* A directory that one process at a time works in. The lock lies on the directory itself: it leaves no file behind, and goes with the process, however that
 * ends. While another holds it: OT_ERR_REFUSED, "another WHAT is at work in PATH". On a file system that has no such locks nothing is locked, and held stays
 * false. Zero-initialise; _release accepts a lock that is not held. */
typedef struct ot_dir_lock {
    int fd;
    bool held;
} ot_dir_lock;
ot_status ot_dir_lock_take(const char *path, const char *what, ot_dir_lock *lock, ot_error *err);
void ot_dir_lock_release(ot_dir_lock *lock);

#endif
