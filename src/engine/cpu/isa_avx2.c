/* The CPU backend's loops for AVX2 with FMA and F16C. */
#if defined(__x86_64__)
#define OT_ISA 1
#define OT_ISA_NAME "avx2"
#define OT_ISA_TABLE ot_cpu_kernels_avx2
#include "engine/cpu/isa_impl.h"
#else
typedef int ot_cpu_no_avx2; /* a unit must not be empty */
#endif
