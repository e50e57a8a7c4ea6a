/* `offsite data PICTURES`: see verb_data.c. */
#ifndef OT_CLI_DATA_PICTURES_H
#define OT_CLI_DATA_PICTURES_H

#include "cli/options.h"
#include "data/pictures.h"

ot_status ot_data_pictures(const ot_args *args, ot_error *err);

#endif
