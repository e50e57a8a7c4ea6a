/* A fresh directory for one test, removed with all that is in it. */
#ifndef OT_TESTS_SCRATCH_H
#define OT_TESTS_SCRATCH_H

#include <stdint.h>

typedef struct scratch {
    char dir[512];
    char path[1024]; /* of the last scratch_path */
} scratch;

/* Inside `parent`, for which a test gives its TEST_BINARY_DIR; fails the test when it cannot. */
void scratch_open(scratch *s, const char *parent);
void scratch_close(scratch *s);
/* "dir/name", valid until the next call. */
const char *scratch_path(scratch *s, const char *name);
/* Entries in the directory. */
int64_t scratch_count(const scratch *s);
/* Runs fn(context) in a child process that may write at most `bytes` to any file; its return value, or -1 if it died. */
int scratch_with_file_limit(int64_t bytes, int (*fn)(void *context), void *context);

#endif
