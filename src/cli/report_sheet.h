/* One table, aligned for a terminal or as Markdown. */
#ifndef OT_CLI_REPORT_SHEET_H
#define OT_CLI_REPORT_SHEET_H

#include "cli/output.h"
#include "report/report.h"

typedef struct ot_sheet {
    FILE *f;
    bool markdown;
    ot_column columns[OT_MAX_COLUMNS];
    int n, at;
    ot_table table; /* of a terminal */
} ot_sheet;

/* Columns beyond OT_MAX_COLUMNS are left out. Titles must outlive the sheet. */
void ot_sheet_column(ot_sheet *s, const char *title, ot_align align);
void ot_sheet_head(ot_sheet *s);
/* Row by row from the left; a row ends with its last column. */
void ot_sheet_cell(ot_sheet *s, const char *text);
ot_status ot_sheet_end(ot_sheet *s, ot_error *err);

/* Cells of what may not be known: "-" then. */
void ot_sheet_number(ot_sheet *s, const ot_number *n);
void ot_sheet_real(ot_sheet *s, double x);                                  /* "0.123" */
void ot_sheet_share(ot_sheet *s, double x, const char *sign, int decimals); /* "77 %", with sign "+" also "+1.5 %" */
void ot_sheet_bytes(ot_sheet *s, int64_t n);
void ot_sheet_count(ot_sheet *s, int64_t n);

/* Fields of a CSV file, each with a comma behind it; what is not known is empty. */
void ot_csv_text(FILE *f, const char *text);
void ot_csv_real(FILE *f, double x);
void ot_csv_whole(FILE *f, int64_t n);
void ot_csv_roles(FILE *f, const char *role);          /* the head of the next */
void ot_csv_number(FILE *f, const ot_number *n);       /* mean, spread, seeds */
void ot_json_out_number(ot_json_out *out, const char *key, const ot_number *n);

/* What Markdown, or HTML in it, would take for its own is escaped. */
void ot_put_markdown(FILE *f, const char *text);

#endif
