/* A report as one HTML page. */
#ifndef OT_CLI_REPORT_PAGE_H
#define OT_CLI_REPORT_PAGE_H

#include "cli/report_print.h"

ot_status ot_report_page(const ot_report_view *v, const char *path, ot_error *err);

#endif
