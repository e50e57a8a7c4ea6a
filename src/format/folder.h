/* What a folder holds, told by the names of its files: for a reader that finds nothing of its own in it and says what to give instead. */
#ifndef OT_FORMAT_FOLDER_H
#define OT_FORMAT_FOLDER_H

#include "base/file.h"

bool ot_folder_has(const char *dir, const char *name);
/* A return or an adapter, ours or PEFT's. */
bool ot_folder_is_adapter(const char *dir);
/* The number of GGUF files in it; the path of the first by name in `first`, "" when there is none. */
int64_t ot_folder_ggufs(const char *dir, char *first, size_t size);

#endif
