#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *ot_status_name(ot_status status) {
    switch (status) {
#define OT_STATUS_NAME(name, value, text)                                                                              \
    case name: return #name;
        OT_STATUS_MAP(OT_STATUS_NAME)
#undef OT_STATUS_NAME
    }
    return "OT_ERR_UNKNOWN";
}

const char *ot_status_text(ot_status status) {
    switch (status) {
#define OT_STATUS_TEXT(name, value, text)                                                                              \
    case name: return text;
        OT_STATUS_MAP(OT_STATUS_TEXT)
#undef OT_STATUS_TEXT
    }
    return "unknown status";
}

static void fill(ot_error *err, ot_status code, int sys_errno, int64_t position, const char *format, va_list args) {
    if (err == NULL) return;
    err->code = code;
    err->sys_errno = sys_errno;
    err->position = position;
    vsnprintf(err->message, sizeof err->message, format, args);
}

ot_status ot_fail(ot_error *err, ot_status code, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fill(err, code, 0, -1, format, args);
    va_end(args);
    return code;
}

ot_status ot_fail_at(ot_error *err, ot_status code, int64_t position, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fill(err, code, 0, position, format, args);
    va_end(args);
    return code;
}

ot_status ot_fail_errno(ot_error *err, int sys_errno, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fill(err, OT_ERR_IO, sys_errno, -1, format, args);
    va_end(args);
    if (err != NULL) {
        size_t used = strlen(err->message);
        char buffer[128];
        /* _GNU_SOURCE makes this the GNU form, which returns the text. */
        snprintf(err->message + used, sizeof err->message - used, ": %s", strerror_r(sys_errno, buffer, sizeof buffer));
    }
    return OT_ERR_IO;
}

ot_status ot_fail_memory(ot_error *err, uint64_t bytes, const char *what) {
    return ot_fail(err, OT_ERR_MEMORY, "out of memory: %s needs %.1f MiB; close other programs or use a smaller batch or model", what,
                   (double)bytes / 1048576.0);
}

ot_status ot_error_prefix(ot_error *err, const char *format, ...) {
    if (err == NULL) return OT_ERR_IO;
    char old[OT_ERROR_TEXT];
    memcpy(old, err->message, sizeof old);
    va_list args;
    va_start(args, format);
    vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    size_t used = strlen(err->message);
    snprintf(err->message + used, sizeof err->message - used, ": %s", old);
    return err->code;
}
