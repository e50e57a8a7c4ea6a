/* The chart in a terminal: each character cell holds 2 x 4 braille dots of the lines; points lie over them as letters. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plot/plot_internal.h"

enum { MIN_COLUMNS = 24, MIN_ROWS = 8, MAX_SIDE = 1000 };

typedef struct cell {
    uint8_t dots;
    int16_t color; /* -1: none */
    char letter;  /* 0: none */
} cell;

typedef struct canvas {
    cell *cells; /* [rows, columns] */
    int columns, rows;
} canvas;

static const char letters[OT_PLOT_COLORS] = {'o', 'x', '+', '*', 'v', '#', '@', '%'};
/* Of the 256 colours that terminals have: near those of the picture. */
static const int codes[OT_PLOT_COLORS] = {39, 208, 42, 175, 178, 117, 140, 250};

static int color_of(const ot_plot_series *s) { return (int)((unsigned)s->color % OT_PLOT_COLORS); }

static void dot(canvas *c, int x, int y, int color) {
    /* The bits of Unicode's braille patterns, dot column by dot column. */
    static const uint8_t bits[2][4] = {{0x01, 0x02, 0x04, 0x40}, {0x08, 0x10, 0x20, 0x80}};
    if (x < 0 || y < 0 || x >= c->columns * 2 || y >= c->rows * 4) return;
    cell *at = &c->cells[y / 4 * c->columns + x / 2];
    at->dots |= bits[x % 2][y % 4];
    at->color = (int16_t)color;
}

static void stroke(canvas *c, double x0, double y0, double x1, double y1, int color) {
    int steps = (int)fmax(fabs(x1 - x0), fabs(y1 - y0)) + 1;
    for (int i = 0; i <= steps; i++) {
        double part = (double)i / steps;
        dot(c, (int)lround(x0 + part * (x1 - x0)), (int)lround(y0 + part * (y1 - y0)), color);
    }
}

static void draw_series(canvas *c, const ot_plot_series *s, const ot_plot_axis *ax, const ot_plot_axis *ay) {
    double px = NAN, py = NAN;
    for (int64_t i = 0; i < s->count; i++) {
        double x = ot_plot_place(ax, s->x[i]) * (c->columns * 2 - 1), y = (1 - ot_plot_place(ay, s->y[i])) * (c->rows * 4 - 1);
        bool shown = !isnan(x) && !isnan(y);
        if (shown && s->spread != NULL && isfinite(s->spread[i])) {
            double low = ot_plot_place(ay, s->y[i] - s->spread[i]), high = ot_plot_place(ay, s->y[i] + s->spread[i]);
            if (!isnan(low) && !isnan(high)) stroke(c, x, (1 - low) * (c->rows * 4 - 1), x, (1 - high) * (c->rows * 4 - 1), color_of(s));
        }
        if (shown && s->mark != OT_PLOT_POINTS) stroke(c, isnan(px) ? x : px, isnan(px) ? y : py, x, y, color_of(s));
        if (shown && s->mark != OT_PLOT_LINE) {
            cell *at = &c->cells[(int)lround(y) / 4 * c->columns + (int)lround(x) / 2];
            at->letter = letters[color_of(s)];
            at->color = (int16_t)color_of(s);
        }
        px = shown ? x : NAN;
        py = y;
    }
}

static void draw_rules(canvas *c, const ot_plot *p, const ot_plot_axis *ax, const ot_plot_axis *ay) {
    for (int64_t i = 0; i < p->n_rules; i++) {
        const ot_plot_rule *r = &p->rules[i];
        double at = ot_plot_place(r->vertical ? ax : ay, r->value);
        if (isnan(at)) continue;
        int length = r->vertical ? c->rows * 4 : c->columns * 2;
        for (int k = 0; k < length; k += 3) {
            dot(c, r->vertical ? (int)lround(at * (c->columns * 2 - 1)) : k, r->vertical ? k : (int)lround((1 - at) * (c->rows * 4 - 1)), -1);
        }
    }
}

static void put_text(FILE *f, const char *text) {
    while (*text != '\0') ot_plot_put(f, ot_plot_next(&text));
}

static void paint(FILE *f, int color, bool on) {
    if (on && color >= 0) fprintf(f, "\033[38;5;%dm", codes[color]);
}

static void put_legend(FILE *f, const ot_plot *p, int columns, bool color) {
    int64_t used = 0;
    for (int64_t i = 0; i < p->n_series; i++) {
        const ot_plot_series *s = &p->series[i];
        if (s->name == NULL) continue;
        int64_t room = 3 + ot_plot_width(s->name);
        if (used > 0 && used + 3 + room > columns) {
            fputc('\n', f);
            used = 0;
        } else if (used > 0) {
            fputs("   ", f);
            used += 3;
        }
        paint(f, color_of(s), color);
        if (s->mark == OT_PLOT_LINE) {
            fputs("\u28e4\u28e4", f);
        } else {
            fprintf(f, "%c%c", s->mark == OT_PLOT_POINTS ? ' ' : '-', letters[color_of(s)]);
        }
        if (color) fputs("\033[0m", f);
        fputc(' ', f);
        put_text(f, s->name);
        used += room;
    }
    if (used > 0) fputc('\n', f);
}

static void put_row(FILE *f, const canvas *c, int row, bool color) {
    int painted = -1, last = -1;
    for (int x = 0; x < c->columns; x++) {
        const cell *at = &c->cells[row * c->columns + x];
        if (at->dots != 0 || at->letter != 0) last = x;
    }
    for (int x = 0; x <= last; x++) {
        const cell *at = &c->cells[row * c->columns + x];
        bool empty = at->dots == 0 && at->letter == 0;
        if (color && !empty && at->color != painted) {
            fputs("\033[0m", f);
            paint(f, at->color, true);
            painted = at->color;
        }
        if (at->letter != 0) {
            fputc((unsigned char)at->letter, f);
        } else {
            ot_plot_put(f, empty ? ' ' : 0x2800 + at->dots);
        }
    }
    if (painted >= 0) fputs("\033[0m", f);
    fputc('\n', f);
}

static int widest_tick(const ot_plot_axis *y) {
    int widest = 0;
    for (int i = 0; i < y->n_ticks; i++) {
        int n = (int)strlen(y->ticks[i].text);
        if (n > widest) widest = n;
    }
    return widest;
}

static void put_x_axis(FILE *f, const ot_plot *p, const canvas *c, const ot_plot_axis *x, int margin) {
    fprintf(f, "%*s\u2514", margin, "");
    char *line = calloc((size_t)c->columns + OT_PLOT_TICK_TEXT + 1, 1);
    bool *tick = calloc((size_t)c->columns, sizeof *tick);
    int used = 0;
    for (int i = 0; line != NULL && tick != NULL && i < x->n_ticks; i++) {
        int n = (int)strlen(x->ticks[i].text), at = (int)lround(x->ticks[i].at * (c->columns - 1)), from = at - n / 2;
        if (from < used + (used > 0 ? 2 : 0)) from = used > 0 ? -1 : 0;
        if (from < 0 || from + n > c->columns) continue;
        memset(line + used, ' ', (size_t)(from - used));
        memcpy(line + from, x->ticks[i].text, (size_t)n);
        used = from + n;
        tick[at] = true;
    }
    for (int i = 0; i < c->columns; i++) fputs(tick != NULL && tick[i] ? "\u252c" : "\u2500", f);
    fprintf(f, "\n%*s%s\n", margin + 1, "", line != NULL ? line : "");
    if (p->x_label != NULL) {
        int64_t blank = (c->columns - ot_plot_width(p->x_label)) / 2;
        fprintf(f, "%*s", margin + 1 + (int)(blank > 0 ? blank : 0), "");
        put_text(f, p->x_label);
        fputc('\n', f);
    }
    free(line);
    free(tick);
}

static void put_all(FILE *f, const ot_plot *p, const canvas *c, const ot_plot_axis *x, const ot_plot_axis *y, int margin, bool color) {
    if (p->title != NULL) {
        put_text(f, p->title);
        fputc('\n', f);
    }
    put_legend(f, p, margin + 1 + c->columns, color);
    if (p->y_label != NULL) {
        put_text(f, p->y_label);
        fputc('\n', f);
    }
    for (int row = 0; row < c->rows; row++) {
        const char *text = "";
        for (int i = 0; i < y->n_ticks; i++) {
            if ((int)lround((1 - y->ticks[i].at) * (c->rows * 4 - 1)) / 4 == row) text = y->ticks[i].text;
        }
        fprintf(f, "%*s%s", margin, text, *text != '\0' ? "\u2524" : "\u2502");
        put_row(f, c, row, color);
    }
    put_x_axis(f, p, c, x, margin);
}

static int count_lines(const ot_plot *p) { return (p->title != NULL) + (p->x_label != NULL) + (p->y_label != NULL) + 3; }

ot_status ot_plot_text(const ot_plot *p, const ot_plot_terminal *terminal, char **text, size_t *size, ot_error *err) {
    int columns = terminal->columns < MIN_COLUMNS ? MIN_COLUMNS : terminal->columns, rows = terminal->rows < MIN_ROWS ? MIN_ROWS : terminal->rows;
    if (columns > MAX_SIDE) columns = MAX_SIDE;
    if (rows > MAX_SIDE) rows = MAX_SIDE;
    ot_plot_axis x, y;
    *text = NULL;
    OT_TRY(ot_plot_axes(p, columns / 12, rows / 3, &x, &y, err));
    int margin = widest_tick(&y);
    canvas c = {.columns = columns - margin - 1, .rows = rows - count_lines(p)};
    if (c.columns < 8) c.columns = 8;
    if (c.rows < 4) c.rows = 4;
    c.cells = calloc((size_t)c.columns * (size_t)c.rows, sizeof *c.cells);
    FILE *f = c.cells == NULL ? NULL : open_memstream(text, size);
    if (f == NULL) {
        free(c.cells);
        return ot_fail_memory(err, 4096, "a chart");
    }
    for (int64_t i = 0; i < (int64_t)c.columns * c.rows; i++) c.cells[i].color = -1;
    draw_rules(&c, p, &x, &y);
    for (int faint = 1; faint >= 0; faint--) {
        for (int64_t i = 0; i < p->n_series; i++) {
            if (p->series[i].faint == (faint == 1)) draw_series(&c, &p->series[i], &x, &y);
        }
    }
    put_all(f, p, &c, &x, &y, margin, terminal->color);
    free(c.cells);
    bool bad = ferror(f) != 0;
    if (fclose(f) == 0 && !bad) return OT_OK;
    free(*text);
    *text = NULL;
    return ot_fail_memory(err, 4096, "a chart");
}
