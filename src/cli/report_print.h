/* A report on standard output or in a file: for people, Markdown, CSV, JSON. */
#ifndef OT_CLI_REPORT_PRINT_H
#define OT_CLI_REPORT_PRINT_H

#include <stdio.h>

#include "report/report.h"

typedef struct ot_report_view {
    const ot_report *report;
    const ot_report_table *table;
    bool data_owner;
} ot_report_view;

ot_status ot_report_print(const ot_report_view *v, FILE *f, ot_error *err);
ot_status ot_report_print_markdown(const ot_report_view *v, FILE *f);
ot_status ot_report_print_csv(const ot_report_view *v, FILE *f);
ot_status ot_report_print_json(const ot_report_view *v, FILE *f, ot_error *err);

#endif
