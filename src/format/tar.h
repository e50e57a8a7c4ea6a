/* A tar archive read in place: the regular files in it by name, offset and size. POSIX ustar with pax headers, GNU long names, and the old format.
 * Nothing is ever unpacked, so a name cannot lead anywhere; still, names that lead outside are refused. */
#ifndef OT_FORMAT_TAR_H
#define OT_FORMAT_TAR_H

#include "base/mem.h"

enum { OT_TAR_MAX_NAME = 4096, OT_TAR_MAX_FILES = 1 << 26 };

typedef struct ot_tar_file {
    const char *name; /* the arena's; without a leading "./" */
    int64_t at, size; /* of the contents, inside the archive */
} ot_tar_file;

typedef struct ot_tar {
    ot_tar_file *files; /* in the archive's order; freed with ot_tar_free */
    int64_t n_files, room;
    int64_t n_skipped; /* links, devices, and others that hold no bytes */
    ot_arena names;
} ot_tar;

/* data must stay as long as the offsets are used. where: the archive's name, for messages. Zero-initialise *out; a failed read is freed. */
ot_status ot_tar_read(const uint8_t *data, int64_t size, const char *where, ot_tar *out, ot_error *err);
void ot_tar_free(ot_tar *t);

/* Does this path stay below where it begins: not absolute, no "..", not empty? */
bool ot_path_is_inside(const char *path);

#endif
