/* The CPU backend's loops for plain C vectors of four, for every CPU. */
#define OT_ISA 0
#define OT_ISA_NAME "generic"
#define OT_ISA_TABLE ot_cpu_kernels_generic
#include "engine/cpu/isa_impl.h"
