#include "cli/report_sheet.h"

#include <string.h>

void ot_put_markdown(FILE *f, const char *text) {
    for (; *text != '\0'; text++) {
        if (strchr("|\\`*_<>[]#&", *text) != NULL) fputc('\\', f);
        fputc((unsigned char)*text < 0x20 || *text == 0x7f ? ' ' : *text, f);
    }
}

void ot_sheet_column(ot_sheet *s, const char *title, ot_align align) {
    if (s->n < OT_MAX_COLUMNS) s->columns[s->n++] = (ot_column){title, align};
}

void ot_sheet_head(ot_sheet *s) {
    if (!s->markdown) {
        s->table = ot_table_begin(s->columns, s->n);
        return;
    }
    fputc('|', s->f);
    for (int i = 0; i < s->n; i++) {
        fputc(' ', s->f);
        ot_put_markdown(s->f, s->columns[i].title);
        fputs(" |", s->f);
    }
    fputs("\n|", s->f);
    for (int i = 0; i < s->n; i++) fputs(s->columns[i].align == OT_RIGHT ? "---:|" : "---|", s->f);
    fputc('\n', s->f);
}

void ot_sheet_cell(ot_sheet *s, const char *text) {
    if (!s->markdown) {
        ot_table_cell(&s->table, "%s", text);
        return;
    }
    fputs(s->at == 0 ? "| " : " ", s->f);
    ot_put_markdown(s->f, text);
    fputs(" |", s->f);
    if (++s->at < s->n) return;
    fputc('\n', s->f);
    s->at = 0;
}

ot_status ot_sheet_end(ot_sheet *s, ot_error *err) {
    if (s->markdown) {
        fputc('\n', s->f);
        return OT_OK;
    }
    OT_TRY(ot_table_print(&s->table, s->f, err));
    fputc('\n', s->f);
    return OT_OK;
}
