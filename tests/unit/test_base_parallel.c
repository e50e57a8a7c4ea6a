/* Threads: each chunk once, indices in range, results that do not depend on the thread count. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/parallel.h"

enum { CHUNKS = 10000 };

typedef struct work {
    _Atomic int runs[CHUNKS];
    _Atomic int bad_index;
    double sums[CHUNKS];
} work;

static void one(void *context, int64_t chunk) {
    work *w = context;
    atomic_fetch_add(&w->runs[chunk], 1);
    int index = ot_thread_index();
    if (index < 0 || index >= ot_threads()) atomic_fetch_add(&w->bad_index, 1);
    double sum = 0;
    for (int i = 1; i <= 100; i++) sum += 1.0 / ((double)chunk + i);
    w->sums[chunk] = sum;
}

static void runs_each_chunk_once_for_any_thread_count(void **state) {
    (void)state;
    static work first, w;
    static const int threads[] = {1, 2, 3, 8};
    static const int64_t chunks[] = {0, 1, 2, 7, CHUNKS};
    for (int t = 0; t < 4; t++) {
        ot_threads_set(threads[t]);
        assert_int_equal(ot_threads(), threads[t]);
        for (int c = 0; c < 5; c++) {
            memset(&w, 0, sizeof w);
            ot_parallel_for(chunks[c], one, &w);
            for (int64_t i = 0; i < CHUNKS; i++) {
                int expected = i < chunks[c];
                if (w.runs[i] != expected) fail_msg("%d threads: chunk %lld ran %d times", threads[t], (long long)i, w.runs[i]);
            }
            assert_int_equal(w.bad_index, 0);
        }
        if (t == 0) memcpy(first.sums, w.sums, sizeof w.sums);
        assert_memory_equal(first.sums, w.sums, sizeof w.sums);
    }
    assert_int_equal(ot_thread_index(), 0);
    ot_threads_set(0);
    assert_true(ot_threads() >= 1);
}

static void machine_figures_are_plausible(void **state) {
    (void)state;
    int64_t total = ot_memory_total(), available = ot_memory_available(), peak = ot_memory_peak();
    assert_true(total > 64 << 20);
    assert_true(available > 0 && available <= total);
    assert_true(peak > 100 << 10 && peak <= total);
    double start = ot_seconds();
    while (ot_seconds() - start < 0.01) {}
    assert_true(ot_seconds() - start < 60);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_each_chunk_once_for_any_thread_count),
        cmocka_unit_test(machine_figures_are_plausible),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
