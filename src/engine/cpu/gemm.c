/* Which library multiplies: oneDNN where AVX-512 is there (bf16, and f32 at up to twice the speed of an OpenBLAS that does not know the
 * CPU), OpenBLAS elsewhere. Bias and scale are done here where the library cannot. */
#include "engine/cpu/gemm.h"

#include <cblas.h>
#include <limits.h>
#include <string.h>

#include "base/parallel.h"
#include "engine/cpu/kernels.h"

bool ot_gemm_bf16(void) { return ot_cpu_pick()->bf16_dot && ot_dnnl_has_bf16(); }

static bool use_dnnl(const ot_gemm *g) {
    if (g->type == OT_BF16) return true;
#if defined(__x86_64__)
    const ot_cpu_kernels *table = ot_cpu_pick();
    return table != &ot_cpu_kernels_generic && table != &ot_cpu_kernels_avx2 && ot_dnnl_has_avx512();
#else
    return false;
#endif
}

enum { ROWS_PER_CHUNK = 16 };

/* C = bias (or 0), or C += bias: what is left to the product is then to add to C. */
static void start_rows(void *context, int64_t chunk) {
    const ot_gemm *g = context;
    const ot_cpu_kernels *table = ot_cpu_pick();
    for (int64_t i = chunk * ROWS_PER_CHUNK; i < g->m && i < (chunk + 1) * ROWS_PER_CHUNK; i++) {
        ot_span row = ot_span_at((ot_span){g->c, g->c_type}, i * g->ldc);
        if (g->bias) table->copy((ot_span){(void *)(uintptr_t)g->bias, OT_F32}, row, g->n, g->accumulate);
        else if (!g->accumulate) memset(row.x, 0, (size_t)g->n * (g->c_type == OT_F32 ? sizeof(float) : sizeof(ot_bf16)));
    }
}

static ot_status openblas(const ot_gemm *g, ot_error *err) {
    if (g->m > INT_MAX || g->n > INT_MAX || g->k > INT_MAX || g->lda > INT_MAX || g->ldb > INT_MAX || g->ldc > INT_MAX)
        return ot_fail(err, OT_ERR_UNSUPPORTED, "matrix product %lld x %lld x %lld is too large for the BLAS library",
                       (long long)g->m, (long long)g->n, (long long)g->k);
    cblas_sgemm(CblasRowMajor, g->ta ? CblasTrans : CblasNoTrans, g->tb ? CblasTrans : CblasNoTrans, (int)g->m, (int)g->n, (int)g->k,
                g->alpha, g->a, (int)g->lda, g->b, (int)g->ldb, g->accumulate ? 1.0f : 0.0f, g->c, (int)g->ldc);
    return OT_OK;
}

ot_status ot_gemm_run(const ot_gemm *g, ot_error *err) {
    if (g->m == 0 || g->n == 0) return OT_OK;
    bool dnnl = use_dnnl(g);
    ot_gemm rest = *g;
    /* oneDNN would scale the bias too */
    if (g->k == 0 || (g->bias && (!dnnl || g->alpha != 1.0f))) {
        ot_parallel_for((g->m + ROWS_PER_CHUNK - 1) / ROWS_PER_CHUNK, start_rows, &rest);
        rest.bias = NULL;
        rest.accumulate = true;
    }
    if (g->k == 0) return OT_OK;
    return dnnl ? ot_dnnl_gemm(&rest, err) : openblas(&rest, err);
}
