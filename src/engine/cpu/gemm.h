/* The one matrix product of the CPU backend. Row-major, threaded inside; the result is the same for any number of threads. */
#ifndef OT_ENGINE_CPU_GEMM_H
#define OT_ENGINE_CPU_GEMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "tensor/dtype.h"

/* C [m, n] = alpha * A [m, k] . B [k, n] (+ bias [n]) (+ C when accumulate). With ta, A lies as [k, m]; with tb, B as [n, k].
 * A and B are both F32 (then C is too) or both BF16 (then C is either). */
typedef struct ot_gemm {
    bool ta, tb, accumulate;
    int64_t m, n, k;
    float alpha;
    ot_dtype type, c_type; /* of A and B; of C */
    const void *a, *b;
    void *c;
    int64_t lda, ldb, ldc; /* row strides as they lie */
    const float *bias;     /* or NULL */
    void *work;            /* with ta: ot_gemm_work bytes for packed operands, or NULL: a library multiplies */
} ot_gemm;

/* Bytes of packed operands that ot_gemm_run can use with ta, for as many rows of the batch, k, or fewer; 0 where a library multiplies. */
int64_t ot_gemm_work(int64_t m, int64_t n, int64_t k, ot_dtype type);

ot_status ot_gemm_run(const ot_gemm *g, ot_error *err);

/* Do own loops beat the libraries at products of this type with ta here? */
bool ot_gemm_own(ot_dtype type);

/* Has this machine fast bf16 products? Without them ot_gemm takes F32 only. */
bool ot_gemm_bf16(void);

/* oneDNN, in dnnl_gemm.c alone. */
bool ot_dnnl_has_bf16(void);
bool ot_dnnl_has_avx512(void);
bool ot_dnnl_has_amx(void);
ot_status ot_dnnl_gemm(const ot_gemm *g, ot_error *err);
/* Of floats, without a bias; 0, or the library's status. Within ot_parallel_for it keeps to its thread; with AVX-512 no sum depends on where C was cut. */
int ot_dnnl_sgemm(const ot_gemm *g);
ot_status ot_dnnl_failed(const ot_gemm *g, int status, ot_error *err);

/* "OpenBLAS 0.3.21 ..., oneDNN 2.6.3" */
void ot_gemm_libraries(char *text, size_t size);
/* Of oneDNN, "2.6.3". */
void ot_gemm_onednn_version(char *text, size_t size);

#endif
