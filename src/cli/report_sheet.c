#include "cli/report_sheet.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "cli/text.h"

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

void ot_sheet_number(ot_sheet *s, const ot_number *n) {
    char room[96];
    ot_sheet_cell(s, ot_number_text(n, room, sizeof room));
}

void ot_sheet_real(ot_sheet *s, double x) {
    char room[32];
    snprintf(room, sizeof room, "%.3g", x);
    ot_sheet_cell(s, isnan(x) ? "-" : room);
}

void ot_sheet_share(ot_sheet *s, double x, const char *sign, int decimals) {
    char room[400];
    snprintf(room, sizeof room, "%s%.*f %%", x >= 0 ? sign : "", decimals, 100.0 * x);
    ot_sheet_cell(s, isnan(x) ? "-" : room);
}

void ot_sheet_bytes(ot_sheet *s, int64_t n) {
    char room[32];
    ot_sheet_cell(s, n < 0 ? "-" : ot_text_bytes(n, room, sizeof room));
}

void ot_sheet_count(ot_sheet *s, int64_t n) {
    char room[32];
    ot_sheet_cell(s, n < 0 ? "-" : ot_text_count(n, room, sizeof room));
}

/* ==== For machines. ==== */

void ot_csv_text(FILE *f, const char *text) {
    fputc('"', f);
    for (; text != NULL && *text != '\0'; text++) {
        if (*text == '"') fputc('"', f);
        fputc(*text, f);
    }
    fputs("\",", f);
}

void ot_csv_real(FILE *f, double x) {
    if (isfinite(x)) fprintf(f, "%.9g", x);
    fputc(',', f);
}

void ot_csv_whole(FILE *f, int64_t n) {
    if (n >= 0) fprintf(f, "%" PRId64, n);
    fputc(',', f);
}

void ot_csv_roles(FILE *f, const char *role) { fprintf(f, "%s,%s_spread,%s_seeds,", role, role, role); }

void ot_csv_number(FILE *f, const ot_number *n) {
    ot_csv_real(f, n->mean);
    ot_csv_real(f, n->spread);
    ot_csv_whole(f, n->n);
}

void ot_json_out_number(ot_json_out *out, const char *key, const ot_number *n) {
    ot_json_out_object(out, key);
    ot_json_out_f64(out, "mean", n->mean);
    ot_json_out_f64(out, "spread", n->spread);
    ot_json_out_i64(out, "seeds", n->n);
    ot_json_out_f64(out, "stderr", n->error);
    ot_json_out_end(out);
}
