/* Errors are values. A function that can fail returns an ot_status and fills an ot_error with one sentence that names
 * the file, tensor or byte position and says what to do. On success the ot_error is left untouched. */
#ifndef OT_BASE_ERROR_H
#define OT_BASE_ERROR_H

#include <stdint.h>

/* X(name, value, text): values are part of the ABI and never reused. */
#define OT_STATUS_MAP(X)                                                                                               \
    X(OT_OK, 0, "ok")                                                                                                  \
    X(OT_ERR_MEMORY, 1, "out of memory")                                                                               \
    X(OT_ERR_IO, 2, "input or output failed")                                                                          \
    X(OT_ERR_FORMAT, 3, "malformed file")                                                                              \
    X(OT_ERR_UNSUPPORTED, 4, "not supported")                                                                          \
    X(OT_ERR_USAGE, 5, "wrong usage")                                                                                  \
    X(OT_ERR_REFUSED, 6, "refused by a check")                                                                         \
    X(OT_ERR_NUMERIC, 7, "numbers are not finite")                                                                     \
    X(OT_ERR_LIBRARY, 8, "a library call failed")                                                                      \
    X(OT_ERR_INTERRUPTED, 9, "interrupted")

typedef enum ot_status {
#define OT_STATUS_ENUM(name, value, text) name = value,
    OT_STATUS_MAP(OT_STATUS_ENUM)
#undef OT_STATUS_ENUM
} ot_status;

enum { OT_ERROR_TEXT = 768 };

typedef struct ot_error {
    ot_status code;
    int sys_errno;    /* errno of the failed system call, 0 if none */
    int64_t position; /* byte position in the input, -1 if none */
    char message[OT_ERROR_TEXT];
} ot_error;

const char *ot_status_name(ot_status status);
const char *ot_status_text(ot_status status);

/* Fill err (may be NULL) and return code, so that a caller can write `return ot_fail(err, OT_ERR_FORMAT, "...")`. */
ot_status ot_fail(ot_error *err, ot_status code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The same with a byte position. */
ot_status ot_fail_at(ot_error *err, ot_status code, int64_t position, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The same for a failed system call: appends strerror(sys_errno). */
ot_status ot_fail_errno(ot_error *err, int sys_errno, const char *format, ...) __attribute__((format(printf, 3, 4)));
ot_status ot_fail_memory(ot_error *err, uint64_t bytes, const char *what);
/* Put "prefix: " before the message of an error that is already set. */
ot_status ot_error_prefix(ot_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define OT_TRY(expr)                                                                                                   \
    do {                                                                                                               \
        ot_status ot_try_status = (expr);                                                                              \
        if (ot_try_status != OT_OK) return ot_try_status;                                                              \
    } while (0)

#endif
