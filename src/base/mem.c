#include "base/mem.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Large memory is asked for in large pages, where the system gives them to those who ask: fewer misses of the TLB. The rest behind the last whole one stays in
 * small pages, so that no more becomes resident. */
enum { LARGE_PAGE = 2 << 20, LARGE = 2 * LARGE_PAGE };

static void *take(int64_t bytes) {
    void *p = NULL;
    if (posix_memalign(&p, bytes < LARGE ? OT_ALIGN : LARGE_PAGE, (size_t)ot_round_up(bytes, OT_ALIGN)) != 0) return NULL;
#ifdef MADV_HUGEPAGE
    if (bytes >= LARGE) madvise(p, (size_t)(bytes / LARGE_PAGE * LARGE_PAGE), MADV_HUGEPAGE); /* a wish: that it is not granted does no harm */
#endif
    return p;
}

static ot_status allocate(int64_t count, int64_t size, const char *what, bool zero, void **out, ot_error *err) {
    int64_t bytes = 0;
    if (count < 0 || size < 0 || !ot_mul_i64(count, size, &bytes) || bytes > INT64_MAX - OT_ALIGN) {
        return ot_fail(err, OT_ERR_MEMORY, "%s asks for an impossible amount of memory", what);
    }
    *out = NULL;
    if (bytes == 0) return OT_OK;
    void *p = take(bytes);
    if (p == NULL) return ot_fail_memory(err, (uint64_t)bytes, what);
    if (zero) memset(p, 0, (size_t)bytes);
    *out = p;
    return OT_OK;
}

ot_status ot_calloc(int64_t count, int64_t size, const char *what, void **out, ot_error *err) {
    return allocate(count, size, what, true, out, err);
}

ot_status ot_malloc(int64_t count, int64_t size, const char *what, void **out, ot_error *err) {
    return allocate(count, size, what, false, out, err);
}

void ot_free(void *p) { free(p); }

ot_status ot_grow(void **array, int64_t *capacity, int64_t need, int64_t size, const char *what, ot_error *err) {
    if (need <= *capacity) return OT_OK;
    int64_t wanted = *capacity < 16 ? 16 : *capacity;
    while (wanted < need) {
        if (wanted > INT64_MAX / 2) return ot_fail(err, OT_ERR_MEMORY, "%s asks for an impossible amount of memory", what);
        wanted *= 2;
    }
    int64_t bytes = 0;
    if (!ot_mul_i64(wanted, size, &bytes)) return ot_fail(err, OT_ERR_MEMORY, "%s asks for an impossible amount of memory", what);
    void *p = realloc(*array, (size_t)bytes);
    if (p == NULL) return ot_fail_memory(err, (uint64_t)bytes, what);
    *array = p;
    *capacity = wanted;
    return OT_OK;
}

struct ot_arena_chunk {
    ot_arena_chunk *next;
    int64_t used, size;
    max_align_t data[];
};

enum { ARENA_CHUNK = 64 * 1024 };

void *ot_arena_alloc(ot_arena *arena, int64_t bytes, ot_error *err) {
    if (bytes < 0 || bytes > INT64_MAX / 4) {
        ot_fail(err, OT_ERR_MEMORY, "an arena was asked for an impossible amount of memory");
        return NULL;
    }
    bytes = ot_round_up(bytes == 0 ? 1 : bytes, (int64_t)sizeof(max_align_t));
    ot_arena_chunk *c = arena->head;
    if (c == NULL || c->size - c->used < bytes) {
        int64_t size = bytes > ARENA_CHUNK ? bytes : ARENA_CHUNK;
        ot_arena_chunk *fresh = calloc(1, sizeof *fresh + (size_t)size);
        if (fresh == NULL) {
            ot_fail_memory(err, (uint64_t)size, "an arena");
            return NULL;
        }
        fresh->size = size;
        fresh->next = c;
        arena->head = c = fresh;
    }
    void *p = (char *)c->data + c->used;
    c->used += bytes;
    arena->bytes += bytes;
    return p;
}

char *ot_arena_strndup(ot_arena *arena, const char *text, size_t n, ot_error *err) {
    char *p = ot_arena_alloc(arena, (int64_t)n + 1, err);
    if (p != NULL) memcpy(p, text, n);
    return p;
}

char *ot_arena_strdup(ot_arena *arena, const char *text, ot_error *err) {
    return ot_arena_strndup(arena, text, strlen(text), err);
}

void ot_arena_free(ot_arena *arena) {
    for (ot_arena_chunk *c = arena->head; c != NULL;) {
        ot_arena_chunk *next = c->next;
        free(c);
        c = next;
    }
    arena->head = NULL;
    arena->bytes = 0;
}
