/* The CPU backend's loops for AVX-512 without bf16 products. */
#if defined(__x86_64__)
#define OT_ISA 2
#define OT_ISA_NAME "avx512"
#define OT_ISA_TABLE ot_cpu_kernels_avx512
#include "engine/cpu/isa_impl.h"
#else
typedef int ot_cpu_no_avx512; /* a unit must not be empty */
#endif
