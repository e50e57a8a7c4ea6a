/* The backends that this build has, the preferred one first. */
#include "engine/op.h"

const ot_backend *const ot_backends[] = {
#ifndef OFFSITE_PTHREADS
    &ot_backend_cpu,
#endif
    &ot_backend_ref,
    &ot_backend_ref64,
    NULL,
};
