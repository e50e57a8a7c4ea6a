#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "protocol/split.h"

ot_status ot_output_replaceable(const char *path, ot_error *err) {
    static const char *const ours[] = {"manifest.json", "config.json", "checkpoint.safetensors", "teacher.cache", "adapter_config.json"};
    if (!ot_path_exists(path)) return OT_OK;
    ot_arena arena = {0};
    char **names = NULL;
    int64_t count = 0;
    ot_status status = ot_path_is_dir(path) ? ot_list_dir(path, &arena, &names, &count, err)
                                            : ot_fail(err, OT_ERR_REFUSED, "%s is a file: a directory will be written, choose another name", path);
    bool known = count == 0;
    for (int64_t i = 0; i < count; i++) {
        for (size_t k = 0; k < sizeof ours / sizeof *ours; k++) {
            /* Also under the temporary name that a killed run leaves. */
            size_t n = strlen(ours[k]);
            known = known || (strncmp(names[i], ours[k], n) == 0 && (names[i][n] == '\0' || strncmp(names[i] + n, ".tmp-", 5) == 0));
        }
    }
    ot_arena_free(&arena);
    if (status == OT_OK && !known) {
        return ot_fail(err, OT_ERR_REFUSED, "%s holds files that this program did not write: it is not replaced, choose another name", path);
    }
    return status;
}

ot_status ot_staged_open(const char *final, bool force, ot_staged_dir *out, ot_error *err) {
    *out = (ot_staged_dir){0};
    size_t n = strlen(final);
    while (n > 1 && final[n - 1] == '/') n--;
    if (n == 0 || n + 48 >= sizeof out->path) return ot_fail(err, OT_ERR_USAGE, "the output path \"%s\" is empty or too long", final);
    snprintf(out->final, sizeof out->final, "%.*s", (int)n, final);
    if (ot_path_exists(out->final) && !force) {
        return ot_fail(err, OT_ERR_REFUSED, "%s exists already: choose another name, or replace it with --force", out->final);
    }
    OT_TRY(ot_output_replaceable(out->final, err));
    const char *slash = strrchr(out->final, '/');
    if (slash != NULL && slash != out->final) {
        char parent[4096];
        snprintf(parent, sizeof parent, "%.*s", (int)(slash - out->final), out->final);
        OT_TRY(ot_make_dirs(parent, err));
    }
    /* mkdir and not mkdtemp: the finished directory should have the permissions of the user's umask. */
    for (int attempt = 0; attempt < 100; attempt++) {
        snprintf(out->path, sizeof out->path, "%.*s.tmp-%ld-%d", (int)sizeof out->path - 48, out->final, (long)getpid(), attempt);
        if (mkdir(out->path, 0777) == 0) return OT_OK;
        if (errno != EEXIST) break;
    }
    int code = errno;
    out->path[0] = '\0';
    return ot_fail_errno(err, code, "cannot create a directory beside %s", out->final);
}

ot_status ot_staged_commit(ot_staged_dir *d, ot_error *err) {
    if (ot_path_exists(d->final)) OT_TRY(ot_remove_tree(d->final, err));
    OT_TRY(ot_rename_dir(d->path, d->final, err));
    d->path[0] = '\0';
    return OT_OK;
}

void ot_staged_abort(ot_staged_dir *d) {
    ot_error ignored;
    if (d->path[0] != '\0') ot_remove_tree(d->path, &ignored);
    d->path[0] = '\0';
}
