/* LINEAR with one narrow side, see thin.c. */
#ifndef OT_ENGINE_CPU_THIN_H
#define OT_ENGINE_CPU_THIN_H

#include <string.h>

#include "engine/cpu/cpu.h"

/* Is it such a product? The answer must not depend on pointers but on whether they are NULL. */
bool ot_cpu_thin(const ot_call *call);
int64_t ot_cpu_thin_scratch(const ot_call *call);
ot_status ot_cpu_thin_run(const ot_call *call, bool backward);

#endif
