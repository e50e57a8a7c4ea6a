/* The CPU backend's loops for AVX-512 with bf16 products, those of attention and of a frozen head by AMX; other products of bf16 are a
 * library's where there is AMX. */
#if defined(__x86_64__)
#define OT_ISA 4
#define OT_ISA_NAME "amx"
#define OT_ISA_TABLE ot_cpu_kernels_amx
#include "engine/cpu/isa_impl.h"
#else
typedef int ot_cpu_no_amx; /* a unit must not be empty */
#endif
