#include "report/fingerprint.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"

enum { PATH_ROOM = 4400, DEEPEST = 8 };

/* FNV-1a: this guards against forgetting, not against somebody who sets a file's time back. */
static void mix(uint64_t *hash, const void *data, size_t size) {
    const uint8_t *b = data;
    for (size_t i = 0; i < size; i++) *hash = (*hash ^ b[i]) * 0x100000001b3U;
}

static void mix_file(uint64_t *hash, const char *name, const struct stat *st) {
    int64_t facts[] = {(int64_t)st->st_size, (int64_t)st->st_mtim.tv_sec, (int64_t)st->st_mtim.tv_nsec};
    mix(hash, name, strlen(name) + 1);
    mix(hash, facts, sizeof facts);
}

static void walk(uint64_t *hash, const char *dir, const char *prefix, int depth) {
    ot_arena arena = {0};
    char **names = NULL;
    int64_t n = 0;
    ot_error ignored;
    if (ot_list_dir(dir, &arena, &names, &n, &ignored) != OT_OK) n = 0;
    for (int64_t i = 0; i < n; i++) {
        char path[PATH_ROOM];
        struct stat st;
        if (prefix != NULL && strncmp(names[i], prefix, strlen(prefix)) != 0) continue;
        if (!ot_path_join(path, sizeof path, dir, names[i]) || stat(path, &st) != 0) continue;
        if (S_ISREG(st.st_mode)) mix_file(hash, names[i], &st);
        if (!S_ISDIR(st.st_mode) || prefix != NULL || depth == DEEPEST) continue;
        mix(hash, names[i], strlen(names[i]) + 1);
        walk(hash, path, NULL, depth + 1);
    }
    ot_arena_free(&arena);
}

void ot_fingerprint(const ot_runs_input *input, char out[OT_FINGERPRINT_TEXT]) {
    uint64_t hash = 0xcbf29ce484222325U;
    struct stat st;
    if (stat(input->path, &st) != 0) {
        snprintf(out, OT_FINGERPRINT_TEXT, "absent");
        return;
    }
    if (S_ISDIR(st.st_mode)) {
        walk(&hash, input->path, input->prefix, 0);
    } else {
        mix_file(&hash, "", &st);
    }
    snprintf(out, OT_FINGERPRINT_TEXT, "%016" PRIx64, hash);
}
