/* The CPU backend's loops for AVX-512 with bf16 products. */
#if defined(__x86_64__)
#define OT_ISA 3
#define OT_ISA_NAME "avx512bf16"
#define OT_ISA_TABLE ot_cpu_kernels_avx512bf
#include "engine/cpu/isa_impl.h"
#else
typedef int ot_cpu_no_avx512bf; /* a unit must not be empty */
#endif
