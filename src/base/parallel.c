#include "base/parallel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#ifdef OFFSITE_PTHREADS
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { MAX_THREADS = 64 };
static _Atomic int thread_count;
static _Thread_local int thread_index;

typedef struct job {
    ot_parallel_fn *fn;
    void *context;
    int64_t chunks;
    _Atomic int64_t next;
} job;

typedef struct worker {
    job *job;
    int index;
} worker;

static void *work(void *argument) {
    worker *w = argument;
    thread_index = w->index;
    for (int64_t i; (i = atomic_fetch_add(&w->job->next, 1)) < w->job->chunks;) w->job->fn(w->job->context, i);
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
    job j = {.fn = fn, .context = context, .chunks = chunks};
    worker workers[MAX_THREADS];
    pthread_t threads[MAX_THREADS];
    int n = ot_threads(), started = 1;
    if ((int64_t)n > chunks) n = chunks > 0 ? (int)chunks : 1;
    for (int i = 0; i < n; i++) workers[i] = (worker){.job = &j, .index = i};
    for (; started < n; started++) {
        if (pthread_create(&threads[started], NULL, work, &workers[started]) != 0) break;
    }
    work(&workers[0]);
    for (int i = 1; i < started; i++) pthread_join(threads[i], NULL);
}

int ot_thread_index(void) { return thread_index; }
#else
#include <omp.h>

void ot_threads_set(int threads) { omp_set_num_threads(threads > 0 ? threads : omp_get_num_procs()); }

int ot_threads(void) { return omp_get_max_threads(); }

void ot_parallel_for(int64_t chunks, ot_parallel_fn *fn, void *context) {
    if (chunks == 1 || omp_get_max_threads() == 1) {
        for (int64_t i = 0; i < chunks; i++) fn(context, i);
        return;
    }
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t i = 0; i < chunks; i++) fn(context, i);
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
