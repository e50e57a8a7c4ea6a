#include "format/folder.h"

#include "format/gguf.h"

bool ot_folder_has(const char *dir, const char *name) {
    char path[4096];
    return ot_path_join(path, sizeof path, dir, name) && ot_path_exists(path);
}

bool ot_folder_is_adapter(const char *dir) { return ot_folder_has(dir, "adapter.safetensors") || ot_folder_has(dir, "adapter_config.json"); }

int64_t ot_folder_ggufs(const char *dir, char *first, size_t size) {
    ot_arena arena = {0};
    char **names = NULL;
    int64_t count = 0, found = 0;
    ot_error ignored;
    *first = '\0';
    if (ot_list_dir(dir, &arena, &names, &count, &ignored) != OT_OK) count = 0;
    for (int64_t i = 0; i < count; i++) {
        char path[4096];
        if (!ot_path_ends(names[i], ".gguf") || !ot_path_join(path, sizeof path, dir, names[i]) || !ot_gguf_is(path)) continue;
        if (found++ == 0 && !ot_path_join(first, size, dir, names[i])) *first = '\0';
    }
    ot_arena_free(&arena);
    return found;
}
