/* Which instruction set's loops run: asked of the CPU at run time, lowered by the environment for tests and comparisons. */
#include <stdlib.h>
#include <string.h>

#include "engine/cpu/gemm.h"
#include "engine/cpu/kernels.h"

void ot_cpu_tables(const ot_cpu_kernels *tables[6]) {
    int n = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    /* The library has asked the kernel's leave to use tiles, which holds for the whole process. */
    if (avx512 && __builtin_cpu_supports("avx512bf16") && ot_dnnl_has_amx()) tables[n++] = &ot_cpu_kernels_amx;
    if (avx512 && __builtin_cpu_supports("avx512bf16")) tables[n++] = &ot_cpu_kernels_avx512bf;
    if (avx512) tables[n++] = &ot_cpu_kernels_avx512;
    if (avx2) tables[n++] = &ot_cpu_kernels_avx2;
#endif
    tables[n++] = &ot_cpu_kernels_generic;
    tables[n] = NULL;
}

/* Intel's cores from Golden Cove on do the bf16 dot product at half the speed of float products (85 against 160 GFLOP/s a core), because their bf16
 * is meant for the tiles of AMX. Where those are not to be had, as in many virtual machines, bf16 values are multiplied as floats. */
static bool slow_dot(void) {
#if defined(__x86_64__)
    return __builtin_cpu_is("intel") && !__builtin_cpu_is("cooperlake") && !ot_dnnl_has_amx();
#else
    return false;
#endif
}

const ot_cpu_kernels *ot_cpu_pick(void) {
    const ot_cpu_kernels *tables[6];
    ot_cpu_tables(tables);
    const char *wanted = getenv("OFFSITE_ISA");
    for (int i = 0; wanted && tables[i]; i++)
        if (strcmp(tables[i]->name, wanted) == 0) return tables[i];
    return tables[0]->bf16_dot && slow_dot() ? tables[1] : tables[0];
}
