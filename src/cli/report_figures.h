/* `offsite report fig3|fig4`: runs a grid where that is asked for, then a figure as tables, CSV, JSON and SVG. */
#ifndef OT_CLI_REPORT_FIGURES_H
#define OT_CLI_REPORT_FIGURES_H

#include "cli/options.h"

/* Is a figure asked for? Its --config is the grid, not a file of options. */
bool ot_report_is_figure(const ot_args *args);
ot_status ot_report_figure(const ot_args *args, ot_error *err);

#endif
