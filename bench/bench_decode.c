/* Speed of ot_decode_f32 and ot_encode_f32 on rows that stay in the cache, as the matrix products use them.
 * Usage: bench_decode [elements a row, default 4096]. Prints GB/s of f32 values on the wide side. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/parallel.h"
#include "base/rng.h"
#include "tensor/dtype.h"

enum { BATCH = 64 }; /* rows */

int main(int argc, char **argv) {
    int64_t n = argc > 1 ? strtoll(argv[1], NULL, 10) / 256 * 256 : 4096;
    void *wide = NULL, *narrow = NULL;
    ot_error err = {0};
    if (n <= 0 || ot_calloc(n, 8, "f32 row", &wide, &err) || ot_calloc(n, 8, "stored row", &narrow, &err)) {
        fprintf(stderr, "bench_decode: %s\n", n <= 0 ? "give at least 256 elements" : err.message);
        return 1;
    }
    ot_rng rng;
    ot_rng_seed(&rng, 1);
    for (int64_t i = 0; i < n; i++) ((float *)wide)[i] = (float)ot_rng_normal(&rng);
    printf("%-6s %12s %12s   (%lld elements a row, GB/s of f32)\n", "dtype", "decode", "encode", (long long)n);
    for (int d = 0; d < OT_DTYPE_COUNT; d++) {
        ot_dtype dtype = (ot_dtype)d;
        int64_t bytes = 0;
        if (!ot_dtype_is_float(dtype) && !ot_dtype_is_quantised(dtype)) continue;
        if (!ot_dtype_bytes(dtype, n, &bytes)) continue;
        double rate[2] = {0.0, 0.0};
        if (!ot_encode_f32(dtype, wide, narrow, n)) {
            for (int64_t i = 0; i < bytes; i++) ((uint8_t *)narrow)[i] = (uint8_t)(ot_rng_below(&rng, 60) + 1);
        }
        for (int way = 0; way < 2; way++) {
            /* The best of many short batches: other programs on the machine do not count. */
            double begin = ot_seconds(), now = begin;
            while (now - begin < 0.3) {
                double start = now;
                bool ok = true;
                for (int k = 0; k < BATCH && ok; k++) {
                    if (way == 0) ot_decode_f32(dtype, narrow, wide, n);
                    else ok = ot_encode_f32(dtype, wide, narrow, n);
                }
                now = ot_seconds();
                if (!ok) break;
                double speed = BATCH * (double)n * 4e-9 / (now - start);
                rate[way] = speed > rate[way] ? speed : rate[way];
            }
        }
        printf("%-6s %12.1f %12.1f\n", ot_dtype_info(dtype)->name, rate[0], rate[1]);
    }
    ot_free(wide);
    ot_free(narrow);
    return 0;
}
