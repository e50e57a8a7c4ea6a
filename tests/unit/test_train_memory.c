/* Memory of training: a step allocates nothing, the plan equals what is allocated, and a process stays within it.
 *
 * Allocations are seen by defining malloc and its kin here, for the program and for all libraries (not under sanitizers, which do the same).
 * Who asked is told by the caller's address. The rule: what is ours is an allocation called from this program's own code, or from the C library, which
 * works for us (stdio). What OpenBLAS, oneDNN, libstdc++ and OpenMP allocate in their own code is counted apart and only shown: oneDNN makes
 * its objects anew for every product, which costs some 20 microseconds each. */
#include <dlfcn.h>
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/parallel.h"
#include "model/sizes.h"
#include "support/loop.h"
#include "support/scratch.h"
#include "support/tiny.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif

/* ==== Counting. ==== */

static _Atomic bool counting;
static _Atomic int64_t calls_ours, calls_theirs, aligned_bytes, aligned_calls;

#ifdef SANITIZED
enum { CAN_COUNT = 0 };
#else
enum { CAN_COUNT = 1 };
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

#define SEEN __attribute__((visibility("default"), noinline))
SEEN void *malloc(size_t size);
SEEN void *calloc(size_t count, size_t size);
SEEN void *realloc(void *p, size_t size);
SEEN void *aligned_alloc(size_t alignment, size_t size);
SEEN void *memalign(size_t alignment, size_t size);
SEEN int posix_memalign(void **out, size_t alignment, size_t size);

/* Is it a call of ours that counts? */
static bool count(void *caller) {
    if (!atomic_load(&counting)) return false;
    Dl_info info;
    /* dladdr does not allocate. Code of the program itself has its name, or none when it has no symbol. */
    const char *object = dladdr(caller, &info) != 0 && info.dli_fname != NULL ? info.dli_fname : "";
    bool library = strstr(object, ".so") != NULL && strstr(object, "/libc.so") == NULL;
    atomic_fetch_add(library ? &calls_theirs : &calls_ours, 1);
    return !library;
}

static void count_aligned(void *caller, size_t size) {
    if (!count(caller)) return;
    atomic_fetch_add(&aligned_bytes, (int64_t)size);
    atomic_fetch_add(&aligned_calls, 1);
}

void *malloc(size_t size) {
    count(__builtin_return_address(0));
    return __libc_malloc(size);
}

void *calloc(size_t n, size_t size) {
    count(__builtin_return_address(0));
    return __libc_calloc(n, size);
}

void *realloc(void *p, size_t size) {
    count(__builtin_return_address(0));
    return __libc_realloc(p, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    count_aligned(__builtin_return_address(0), size);
    return __libc_memalign(alignment, size);
}

void *memalign(size_t alignment, size_t size) {
    count(__builtin_return_address(0));
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size) {
    count_aligned(__builtin_return_address(0), size);
    *out = __libc_memalign(alignment, size);
    return *out == NULL ? ENOMEM : 0;
}
#endif

static void start_counting(void) {
    calls_ours = calls_theirs = aligned_bytes = aligned_calls = 0;
    counting = true;
}

static int setup(void **state) {
    static scratch s;
    scratch_open(&s, TEST_BINARY_DIR);
    tiny_data(scratch_path(&s, "train.safetensors"), 7, 8, 37, true, 1);
    tiny_data(scratch_path(&s, "valid.safetensors"), 3, 8, 37, true, 3);
    *state = &s;
    return 0;
}

static int teardown(void **state) {
    scratch_close(*state);
    return 0;
}

/* ==== A step allocates nothing. ==== */

enum { WARM_UP = 2, STEPS = 12 };

static void count_after_warm_up(const ot_train_event *e) {
    if (e->step + 1 == WARM_UP) start_counting();
    if (e->step + 1 == STEPS) counting = false;
}

static void skip_unless_counted(void) {
    if (CAN_COUNT) return;
    print_message("skipped: a sanitizer's memory is its own and is not counted\n");
    skip();
}

static void the_counters_count(void **state) {
    (void)state;
    skip_unless_counted();
    start_counting();
    void *volatile a = malloc(3), *volatile b = calloc(3, 5), *volatile c = aligned_alloc(64, 128), *d = NULL;
    a = realloc(a, 100);
    int status = posix_memalign(&d, 128, 256);
    FILE *f = fopen("/dev/null", "w"); /* the C library on our behalf */
    counting = false;
    assert_int_equal(status, 0);
    assert_true(calls_ours >= 6);
    assert_int_equal(calls_theirs, 0);
    assert_int_equal(aligned_bytes, 128 + 256);
    free(a);
    free(b);
    free(c);
    free(d);
    fclose(f);
}

static void a_step_allocates_nothing(void **state) {
    skip_unless_counted();
    scratch *s = *state;
    static const char *const models[] = {TINY_COMMITTED("gpt2"), TINY_COMMITTED("qwen2")};
    int64_t theirs = 0;
    for (int k = 0; k < 8; k++) {
        loop l;
        loop_open(&l, tiny_open(models[k % 2]), tiny_path(s->dir, "train.safetensors"), tiny_path(s->dir, "valid.safetensors"));
        l.o.compute = k / 2 % 2 == 0 ? OT_F32 : OT_BF16;
        l.o.recompute = k >= 4;
        l.o.steps = STEPS;
        l.o.grad_accum = 2;
        l.o.shuffle = true;
        l.o.dropout = 0.1;
        l.o.valid_every = 2;
        l.o.select_best = true;
        l.o.log_path = tiny_path(s->dir, "log.jsonl");
        l.also = count_after_warm_up;
        loop_must_run(&l);
        assert_false(counting);
        if (calls_ours != 0) fail_msg("%s, way %d: %lld allocations of ours in %d steps", models[k % 2], k, (long long)calls_ours, STEPS - WARM_UP);
        theirs += calls_theirs;
        loop_close(&l);
    }
    print_message("allocations inside the libraries: %lld in %d steps\n", (long long)theirs, 8 * (STEPS - WARM_UP));
}

/* ==== The plan is exact. ==== */

static void stop_counting(const ot_train_event *e) {
    (void)e;
    counting = false;
}

static void the_plan_is_what_is_allocated(void **state) {
    skip_unless_counted();
    scratch *s = *state;
    static const char *const optimizers[] = {"adamw", "adamw8bit", "sgd"};
    for (int k = 0; k < 48; k++) {
        loop l;
        bool valid = k % 2 == 1;
        loop_open(&l, tiny_open(TINY_COMMITTED("gpt2")), tiny_path(s->dir, "train.safetensors"), valid ? tiny_path(s->dir, "valid.safetensors") : NULL);
        l.o.compute = k / 2 % 2 == 0 ? OT_F32 : OT_BF16;
        l.o.select_best = k / 4 % 2 == 1;
        l.o.recompute = k / 8 % 2 == 1;
        l.o.steps = 1;
        assert_int_equal(ot_optimizer_parse(optimizers[k / 16], &l.o.optimizer, &l.err), OT_OK);
        l.also = stop_counting;
        if (ot_trainer_new(l.m, &l.t, &l.train, valid ? &l.valid : NULL, &l.o, &l.trainer, &l.err) != OT_OK) fail_msg("%s", l.err.message);
        ot_train_memory memory;
        ot_trainer_memory(l.trainer, &memory);
        start_counting();
        ot_status status = ot_trainer_run(l.trainer, &l.result, &l.err);
        counting = false;
        if (status != OT_OK) fail_msg("%s", l.err.message);
        /* Each allocation is rounded up to 64 bytes. */
        int64_t over = aligned_bytes - memory.trained - memory.activations;
        if (over < 0 || over >= 64 * aligned_calls) {
            fail_msg("way %d: %lld bytes were allocated, planned %lld + %lld", k, (long long)aligned_bytes, (long long)memory.trained,
                     (long long)memory.activations);
        }
        assert_true(memory.weights >= ot_model_stored_bytes(l.m));
        loop_close(&l);
    }
}

/* ==== A process stays within the plan. ==== */

typedef struct measured {
    int64_t planned, peak;
} measured;

static int64_t resident(void) {
    int64_t pages = 0, all = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f == NULL || fscanf(f, "%ld %ld", &all, &pages) != 2) pages = 0;
    if (f != NULL) fclose(f);
    return pages * sysconf(_SC_PAGESIZE);
}

/* In a child of its own: the peak of a process never falls. */
static measured measure_run(const char *train, ot_dtype compute, bool recompute) {
    int ends[2];
    measured out = {0};
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        static loop l;
        ot_model *m = NULL;
        ot_train_memory memory;
        int64_t before = resident();
        if (ot_model_of_size("gpt2-small", 3, OT_F32, &m, &l.err) != OT_OK) _exit(1);
        loop_open(&l, m, train, train);
        l.o.compute = compute;
        l.o.recompute = recompute;
        l.o.select_best = true;
        l.o.batch = 1;
        l.o.steps = 2;
        if (loop_run(&l) != OT_OK) _exit(2);
        ot_trainer_memory(l.trainer, &memory);
        out = (measured){.planned = memory.weights + memory.trained + memory.activations + memory.data, .peak = ot_memory_peak() - before};
        _exit(write(ends[1], &out, sizeof out) == sizeof out ? 0 : 3);
    }
    close(ends[1]);
    int status = 0;
    ssize_t got = read(ends[0], &out, sizeof out);
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (got != sizeof out) fail_msg("the child ended with status %d", status);
    return out;
}

static void the_peak_is_the_planned_one(void **state) {
    skip_unless_counted();
    scratch *s = *state;
    const char *path = tiny_path(s->dir, "long.safetensors");
    tiny_data(path, 2, 128, 50257, false, 4);
    for (int k = 0; k < 2; k++) {
        measured x = measure_run(path, k == 0 ? OT_F32 : OT_BF16, k == 1);
        double ratio = (double)x.peak / (double)x.planned;
        print_message("planned %.1f MB, measured %.1f MB: %+.1f %%\n", (double)x.planned / 1e6, (double)x.peak / 1e6, 100 * (ratio - 1));
        if (!(fabs(ratio - 1) < 0.05)) fail_msg("more than 5 %% apart");
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        /* First, before this process has grown: its child begins with its memory. */
        cmocka_unit_test_setup_teardown(the_peak_is_the_planned_one, setup, teardown),
        cmocka_unit_test(the_counters_count),
        cmocka_unit_test_setup_teardown(a_step_allocates_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(the_plan_is_what_is_allocated, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
