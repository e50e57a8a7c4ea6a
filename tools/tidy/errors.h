/* Included before every file under clang-tidy: its analyzer looks at one file at a time and would otherwise suppose that
 * `return ot_fail(...)` may return OT_OK, and report uses of whatever the failed call did not make. */
#ifndef OT_TIDY_ERRORS_H
#define OT_TIDY_ERRORS_H

#include "../../src/base/error.h"

#define ot_fail(err, code, ...) (ot_fail(err, code, __VA_ARGS__), code)
#define ot_fail_at(err, code, position, ...) (ot_fail_at(err, code, position, __VA_ARGS__), code)
#define ot_fail_errno(err, sys_errno, ...) (ot_fail_errno(err, sys_errno, __VA_ARGS__), OT_ERR_IO)
#define ot_fail_memory(err, bytes, what) (ot_fail_memory(err, bytes, what), OT_ERR_MEMORY)

#endif
