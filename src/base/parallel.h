/* The one way to use more threads. Work is cut by the caller into chunks whose borders do not depend on the number of
 * threads, so results do not either. Built on OpenMP (the same runtime as OpenBLAS and oneDNN), or on plain pthreads with
 * OFFSITE_PTHREADS for the thread sanitizer, which does not understand gcc's OpenMP. */
#ifndef OT_BASE_PARALLEL_H
#define OT_BASE_PARALLEL_H

#include <stdint.h>

/* 0 = all cores that the process may use. */
void ot_threads_set(int threads);
int ot_threads(void);

/* Calls fn(context, chunk) once for each chunk in [0, chunks), each chunk on one thread, any order. fn must not fail and
 * must not call ot_parallel_for. */
typedef void ot_parallel_fn(void *context, int64_t chunk);
void ot_parallel_for(int64_t chunks, ot_parallel_fn *fn, void *context);
/* The index of the calling thread inside ot_parallel_for, in [0, ot_threads()): for per-thread scratch. */
int ot_thread_index(void);

/* Bytes of memory this machine has and has free (0 if unknown), and this process's peak resident bytes. */
int64_t ot_memory_total(void);
int64_t ot_memory_available(void);
int64_t ot_memory_peak(void);
/* Monotonic seconds. */
double ot_seconds(void);

#endif
