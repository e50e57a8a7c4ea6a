/* `offsite report --pictures`: see verb_report.c. */
#ifndef OT_CLI_REPORT_PICTURES_H
#define OT_CLI_REPORT_PICTURES_H

#include "cli/options.h"

extern const ot_option_group ot_options_report_pictures;
ot_status ot_report_pictures_page(const ot_args *args, ot_error *err);

#endif
