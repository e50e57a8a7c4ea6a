/* The distill step of `split --emulator`: an offer of the steps before it, then `offsite distill` of that offer. */
#ifndef OT_CLI_SPLIT_DISTILL_H
#define OT_CLI_SPLIT_DISTILL_H

#include "cli/options.h"
#include "protocol/split.h"

/* Where the recipe's distill step begins, NULL: it has none. */
const char *ot_split_distill_step(const char *recipe);
/* As ot_split. args: of split, with MODEL, --data and --output. An interrupted run leaves the offer it began with and says how to go on. */
ot_status ot_split_distilled(const ot_args *args, const ot_model *m, const ot_split_options *options, ot_split_summary *summary, ot_error *err);

#endif
