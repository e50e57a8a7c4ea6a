/* One table, aligned for a terminal or as Markdown. */
#ifndef OT_CLI_REPORT_SHEET_H
#define OT_CLI_REPORT_SHEET_H

#include "cli/output.h"

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

/* What Markdown, or HTML in it, would take for its own is escaped. */
void ot_put_markdown(FILE *f, const char *text);

#endif
