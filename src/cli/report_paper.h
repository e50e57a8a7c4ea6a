/* A report in the form of the offsite-tuning paper's tables, with the paper's numbers beside ours where a model is of the same kind. */
#ifndef OT_CLI_REPORT_PAPER_H
#define OT_CLI_REPORT_PAPER_H

#include "cli/report_print.h"
#include "report/html.h"

/* Tables 1 to 3: conditions by tasks; Table 5: tuning methods, where there are several; Table 6: speed and memory. */
ot_status ot_report_paper_print(const ot_report_view *v, FILE *f, bool markdown, ot_error *err);
/* Ours and the paper's number by number; nothing where no model is one of the paper's. */
void ot_report_paper_page(const ot_report_view *v, ot_html *page);

#endif
