/* merged.json in a model's folder: which adapters were added into its weights. Added weights look like any others, so that nothing else could tell that an
 * adapter laid over the model would count twice. */
#ifndef OT_PROTOCOL_MERGED_H
#define OT_PROTOCOL_MERGED_H

#include <stdint.h>

#include "base/error.h"

/* Into dir, where a model was written that began as the model at `from`: the adapters that from lists and these n, each the folder of a return or an adapter,
 * or a GGUF. Nothing is written when there are none. */
ot_status ot_merged_write(const char *dir, const char *from, const char *const *adapters, int64_t n, ot_error *err);
/* REFUSED when the model's folder lists the adapter. Any path may be asked about; what is not there is the caller's business. */
ot_status ot_merged_check(const char *model, const char *adapter, ot_error *err);

#endif
