/* What is written must not be what is read: --force would remove a model, an offer or the data with it. */
#ifndef OT_CLI_COMMON_PATHS_H
#define OT_CLI_COMMON_PATHS_H

#include "cli/options.h"

/* Of every verb, before it runs: a usage error when an option with OT_PATH_WRITTEN or OT_PATH_REPLACED names what another option or an operand reads. */
ot_status ot_common_paths_apart(const ot_args *args, ot_error *err);
/* The same for one pair; `reader` says whose `input` is: "MODEL", "--train". */
ot_status ot_common_path_apart(const ot_args *args, const char *writer, const char *output, ot_path_use use, const char *reader, const char *input, ot_error *err);

#endif
