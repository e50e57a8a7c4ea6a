/* Checked sizes, allocation that reports errors, and bump arenas. */
#ifndef OT_BASE_MEM_H
#define OT_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { OT_ALIGN = 64 };

/* Products and sums of sizes that come from files: false on overflow, *out then untouched. */
static inline bool ot_mul_i64(int64_t a, int64_t b, int64_t *out) {
    int64_t r;
    if (__builtin_mul_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}
static inline bool ot_add_i64(int64_t a, int64_t b, int64_t *out) {
    int64_t r;
    if (__builtin_add_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}
static inline int64_t ot_round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

/* Zeroed memory of count * size bytes, aligned to OT_ALIGN; count * size is checked. Free with ot_free.
 * *out is NULL for zero bytes. `what` names the purpose in the error. */
ot_status ot_calloc(int64_t count, int64_t size, const char *what, void **out, ot_error *err);
/* As ot_calloc without zeroing: for buffers that are written before they are read. */
ot_status ot_malloc(int64_t count, int64_t size, const char *what, void **out, ot_error *err);
void ot_free(void *p);

/* Grow *array (allocated by this function or NULL) so that it holds at least `need` elements of `size` bytes; doubles. */
ot_status ot_grow(void **array, int64_t *capacity, int64_t need, int64_t size, const char *what, ot_error *err);

/* Bump arena for many small objects with one lifetime. Zero-initialise; ot_arena_free releases all of it. */
typedef struct ot_arena_chunk ot_arena_chunk;
typedef struct ot_arena {
    ot_arena_chunk *head;
    int64_t bytes; /* handed out in all */
} ot_arena;

/* Zeroed, aligned to 16. NULL with err set when memory is out. */
void *ot_arena_alloc(ot_arena *arena, int64_t bytes, ot_error *err);
char *ot_arena_strdup(ot_arena *arena, const char *text, ot_error *err);
char *ot_arena_strndup(ot_arena *arena, const char *text, size_t n, ot_error *err);
void ot_arena_free(ot_arena *arena);

#endif
