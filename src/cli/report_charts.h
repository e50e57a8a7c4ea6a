/* The charts of a report's page. */
#ifndef OT_CLI_REPORT_CHARTS_H
#define OT_CLI_REPORT_CHARTS_H

#include "cli/report_print.h"
#include "report/html.h"

/* The conditions of every combination at its chosen rate, for one measure. */
ot_status ot_report_chart_scores(const ot_report_view *v, const char *measure, ot_html *page, ot_error *err);
/* The tuned emulator over learning rates, for one measure; nothing where there is one rate. */
ot_status ot_report_chart_rates(const ot_report_view *v, const char *measure, ot_html *page, ot_error *err);
/* Losses of all training runs, a chart for each combination; `verb` is tune or finetune. */
ot_status ot_report_chart_losses(const ot_report_view *v, const char *verb, ot_html *page, ot_error *err);

#endif
