#include "base/parallel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include <stdatomic.h>

#ifdef OFFSITE_PTHREADS
#include <pthread.h>
#include <sched.h>
#else
#include <omp.h>
#endif

enum { MAX_THREADS = 256, CACHE_LINE = 64 };

/* ==== Each thread has a share of the chunks, the same one in every loop of as many chunks ====
 * Rows that one operation wrote are thus read by the next on the same core. Who is done with its own share helps with the others'. */

typedef struct share {
    _Alignas(CACHE_LINE) _Atomic int64_t next;
    int64_t end;
} share;

typedef struct loop {
    ot_parallel_fn *fn;
    void *context;
    int shares;
    share share[MAX_THREADS];
} loop;

static void begin_loop(loop *l, int64_t chunks, int threads, ot_parallel_fn *fn, void *context) {
    l->fn = fn;
    l->context = context;
    l->shares = threads < MAX_THREADS ? threads : MAX_THREADS;
    for (int i = 0; i < l->shares; i++) {
        atomic_init(&l->share[i].next, chunks / l->shares * i + chunks % l->shares * i / l->shares);
        l->share[i].end = chunks / l->shares * (i + 1) + chunks % l->shares * (i + 1) / l->shares;
    }
}

static void run_shares(loop *l, int own) {
    for (int k = 0; k < l->shares; k++) {
        share *s = &l->share[(own + k) % l->shares];
        for (int64_t i; (i = atomic_fetch_add_explicit(&s->next, 1, memory_order_relaxed)) < s->end;) l->fn(l->context, i);
    }
}

#ifdef OFFSITE_PTHREADS
static _Atomic int thread_count;
static _Thread_local int thread_index;

typedef struct worker {
    loop *loop;
    int index;
} worker;

static void *work(void *argument) {
    worker *w = argument;
    thread_index = w->index;
    run_shares(w->loop, w->index);
    return NULL;
}

void ot_threads_set(int threads) {
    cpu_set_t allowed;
    if (threads <= 0) threads = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : 1;
    atomic_store(&thread_count, threads > MAX_THREADS ? MAX_THREADS : threads);
}

int ot_threads(void) {
    int n = atomic_load(&thread_count);
    return n > 0 ? n : 1;
}

void ot_parallel_for(int64_t chunks, ot_parallel_fn *fn, void *context) {
    loop l;
    worker workers[MAX_THREADS];
    pthread_t threads[MAX_THREADS];
    int n = ot_threads(), started = 1;
    if ((int64_t)n > chunks) n = chunks > 0 ? (int)chunks : 1;
    begin_loop(&l, chunks, n, fn, context);
    for (int i = 0; i < n; i++) workers[i] = (worker){.loop = &l, .index = i};
    for (; started < n; started++) {
        if (pthread_create(&threads[started], NULL, work, &workers[started]) != 0) break;
    }
    work(&workers[0]);
    for (int i = 1; i < started; i++) pthread_join(threads[i], NULL);
}

int ot_thread_index(void) { return thread_index; }
#else
void ot_threads_set(int threads) { omp_set_num_threads(threads > 0 ? threads : omp_get_num_procs()); }

int ot_threads(void) { return omp_get_max_threads(); }

void ot_parallel_for(int64_t chunks, ot_parallel_fn *fn, void *context) {
    if (chunks == 1 || omp_get_max_threads() == 1) {
        for (int64_t i = 0; i < chunks; i++) fn(context, i);
        return;
    }
    loop l;
    begin_loop(&l, chunks, omp_get_max_threads(), fn, context);
#pragma omp parallel num_threads(l.shares)
    run_shares(&l, omp_get_thread_num());
}

int ot_thread_index(void) { return omp_get_thread_num(); }
#endif

/* A line of /proc/meminfo in bytes; 0 when it is not there. */
static int64_t meminfo(const char *label) {
    FILE *f = fopen("/proc/meminfo", "re");
    if (f == NULL) return 0;
    char line[128];
    int64_t bytes = 0;
    size_t n = strlen(label);
    while (bytes == 0 && fgets(line, sizeof line, f) != NULL) {
        if (strncmp(line, label, n) == 0) bytes = strtoll(line + n, NULL, 10) * 1024;
    }
    fclose(f);
    return bytes;
}

int64_t ot_memory_total(void) { return meminfo("MemTotal:"); }
int64_t ot_memory_available(void) { return meminfo("MemAvailable:"); }

int64_t ot_memory_peak(void) {
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (int64_t)usage.ru_maxrss * 1024 : 0;
}

double ot_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
