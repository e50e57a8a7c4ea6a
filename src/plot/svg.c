/* The picture. Coordinates are rounded to a hundredth, so that the same chart gives the same bytes everywhere. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plot/plot_internal.h"

typedef struct picture {
    const ot_plot *plot;
    FILE *f;
    ot_plot_axis x, y;
    double left, top, right, bottom; /* of the frame */
    double width, height;
} picture;

enum { FONT = 12, TITLE = 15, LINE = 18 };
/* Of a usual sans-serif font; only room is reckoned with it. */
static const double letter = 0.56;

/* The colours of Okabe and Ito, which colour-blind readers tell apart too; darker ones on white, lighter ones on black. */
static const char *const on_light[OT_PLOT_COLORS] = {"#0072b2", "#d55e00", "#007a57", "#b3488b", "#8f6a00", "#2e86c1", "#6c4ea1", "#444444"};
static const char *const on_dark[OT_PLOT_COLORS] = {"#56b4e9", "#f0803c", "#2fc79a", "#e08fc0", "#e6b93a", "#8ecff5", "#b39ddb", "#c8c8c8"};
static const char *const dashes[OT_PLOT_COLORS] = {"none", "6 3", "2 2", "8 3 2 3", "10 4", "4 4", "1 3", "12 3 3 3"};

void ot_plot_escape(FILE *f, const char *text) {
    while (*text != '\0') {
        int32_t c = ot_plot_next(&text);
        switch (c) {
        case '&': fputs("&amp;", f); break;
        case '<': fputs("&lt;", f); break;
        case '>': fputs("&gt;", f); break;
        case '"': fputs("&quot;", f); break;
        default: ot_plot_put(f, c);
        }
    }
}

/* A coordinate without trailing zeros. */
static void put_number(FILE *f, double v) {
    char text[32];
    snprintf(text, sizeof text, "%.2f", fabs(v) < 0.005 ? 0.0 : v);
    size_t n = strlen(text);
    while (text[n - 1] == '0') n--;
    if (text[n - 1] == '.') n--;
    fwrite(text, 1, n, f);
}

static void label(const picture *p, double x, double y, const char *attributes, const char *text) {
    fputs("<text x=\"", p->f);
    put_number(p->f, x);
    fputs("\" y=\"", p->f);
    put_number(p->f, y);
    fprintf(p->f, "\"%s>", attributes);
    ot_plot_escape(p->f, text);
    fputs("</text>\n", p->f);
}

static void segment(const picture *p, const char *class, double x0, double y0, double x1, double y1) {
    fprintf(p->f, "<path class=\"%s\" d=\"M", class);
    put_number(p->f, x0);
    fputc(' ', p->f);
    put_number(p->f, y0);
    fputc('L', p->f);
    put_number(p->f, x1);
    fputc(' ', p->f);
    put_number(p->f, y1);
    fputs("\"/>\n", p->f);
}

static double across(const picture *p, double x) { return p->left + ot_plot_place(&p->x, x) * (p->right - p->left); }
static double up(const picture *p, double y) { return p->bottom - ot_plot_place(&p->y, y) * (p->bottom - p->top); }
static double text_width(const char *text) { return (double)ot_plot_width(text) * letter * FONT; }

/* ==== Frame, ticks, legend. ==== */

static void put_colors(FILE *f, const char *paper, const char *ink, const char *grid, const char *const *colors) {
    fprintf(f, ".ot-plot text{fill:%s;stroke:%s}.ot-paper{fill:%s}.ot-grid{stroke:%s}.ot-frame,.ot-rule{stroke:%s}\n", ink, paper, paper, grid, ink);
    for (int i = 0; i < OT_PLOT_COLORS; i++) fprintf(f, ".ot-s%d{stroke:%s}.ot-p%d{fill:%s}%s", i, colors[i], i, colors[i], i % 4 == 3 ? "\n" : "");
}

/* Plain rules and no variables, which many viewers do not know; those that know no media queries show the light chart. */
static void put_style(FILE *f) {
    fputs("<style>\n.ot-plot{font:12px system-ui,sans-serif}.ot-plot text{paint-order:stroke;stroke-width:3px;stroke-linejoin:round}\n.ot-grid,.ot-frame,.ot-rule,.ot-line{fill:none}.ot-rule{stroke-dasharray:3 3}\n"
          ".ot-title{font-size:15px;font-weight:600}.ot-line{stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}"
          ".ot-line.ot-faint{stroke-width:1}.ot-faint{opacity:.35}\n", f);
    put_colors(f, "#fff", "#222", "#ddd", on_light);
    fputs("@media screen and (prefers-color-scheme:dark){\n", f);
    put_colors(f, "#14171a", "#e4e4e4", "#3a3f44", on_dark);
    fputs("}\n@media print{\n.ot-plot text{fill:#000;stroke:#fff}.ot-frame,.ot-rule{stroke:#000}\n", f);
    for (int i = 1; i < OT_PLOT_COLORS; i++) fprintf(f, ".ot-s%d{stroke-dasharray:%s}", i, dashes[i]);
    fputs("\n.ot-line.ot-bar{stroke-dasharray:none}\n}\n</style>\n", f);
}

static void put_ticks(const picture *p) {
    for (int i = 0; i < p->x.n_ticks; i++) {
        double x = p->left + p->x.ticks[i].at * (p->right - p->left);
        if (p->plot->names == NULL) segment(p, "ot-grid", x, p->top, x, p->bottom);
        label(p, x, p->bottom + LINE, " text-anchor=\"middle\"", p->x.ticks[i].text);
    }
    for (int i = 0; i < p->y.n_ticks; i++) {
        double y = p->bottom - p->y.ticks[i].at * (p->bottom - p->top);
        segment(p, "ot-grid", p->left, y, p->right, y);
        label(p, p->left - 6, y + FONT * 0.35, " text-anchor=\"end\"", p->y.ticks[i].text);
    }
    segment(p, "ot-frame", p->left, p->bottom, p->right, p->bottom);
    segment(p, "ot-frame", p->left, p->top, p->left, p->bottom);
}

static int color_of(const ot_plot_series *s) { return (int)((unsigned)s->color % OT_PLOT_COLORS); }

static void put_point(const picture *p, const ot_plot_series *s, double x, double y) {
    fprintf(p->f, "<circle class=\"ot-p%d%s\" r=\"3.2\" cx=\"", color_of(s), s->faint ? " ot-faint" : "");
    put_number(p->f, x);
    fputs("\" cy=\"", p->f);
    put_number(p->f, y);
    fputs("\"/>\n", p->f);
}

/* Entries in rows from `y` down; returns the y behind the last. Draws only when asked to, so that the same walk finds the room needed. */
static double legend(const picture *p, double y, bool draw) {
    double x = p->left;
    bool any = false;
    for (int64_t i = 0; i < p->plot->n_series; i++) {
        const ot_plot_series *s = &p->plot->series[i];
        if (s->name == NULL) continue;
        double room = 30 + text_width(s->name) + 14;
        if (any && x + room > p->right) {
            x = p->left;
            y += LINE;
        }
        any = true;
        if (draw) {
            char class[48];
            snprintf(class, sizeof class, "ot-line ot-s%d%s", color_of(s), s->faint ? " ot-faint" : "");
            if (s->mark != OT_PLOT_POINTS) segment(p, class, x, y - 4, x + 22, y - 4);
            if (s->mark != OT_PLOT_LINE) put_point(p, s, x + 11, y - 4);
            label(p, x + 28, y, "", s->name);
        }
        x += room;
    }
    return any ? y + LINE : y;
}

/* ==== Curves. ==== */

typedef struct svg_pen {
    const picture *p;
    bool down;
} svg_pen;

static void pen_to(svg_pen *pen, double x, double y) {
    fputc(pen->down ? 'L' : 'M', pen->p->f);
    put_number(pen->p->f, x);
    fputc(' ', pen->p->f);
    put_number(pen->p->f, y);
    pen->down = true;
}

/* Of many points that share a hundredth of the width, the first, the lowest, the highest and the last: the same picture from fewer bytes. */
typedef struct column {
    int64_t bin, count;
    double x[4], y[4]; /* first, lowest, highest, last */
    int64_t at[4];
} column;

static void flush_column(svg_pen *pen, column *c) {
    int order[4] = {0, 1, 2, 3};
    if (c->at[1] > c->at[2]) order[1] = 2, order[2] = 1;
    int64_t before = -1;
    for (int i = 0; c->count > 0 && i < 4; i++) {
        int k = order[i];
        if (c->at[k] <= before) continue;
        pen_to(pen, c->x[k], c->y[k]);
        before = c->at[k];
    }
    c->count = 0;
}

static void put_line(const picture *p, const ot_plot_series *s) {
    enum { BINS = 600 };
    bool many = s->count > BINS * 4;
    svg_pen pen = {.p = p};
    column c = {0};
    fprintf(p->f, "<path class=\"ot-line ot-s%d%s\" d=\"", color_of(s), s->faint ? " ot-faint" : "");
    for (int64_t i = 0; i < s->count; i++) {
        double x = across(p, s->x[i]), y = up(p, s->y[i]);
        if (isnan(x) || isnan(y)) {
            flush_column(&pen, &c);
            pen.down = false;
            continue;
        }
        int64_t bin = many ? (int64_t)((x - p->left) / (p->right - p->left) * BINS) : i;
        if (c.count > 0 && bin != c.bin) flush_column(&pen, &c);
        if (c.count++ == 0) {
            c.bin = bin;
            for (int k = 0; k < 4; k++) c.x[k] = x, c.y[k] = y, c.at[k] = i;
            continue;
        }
        bool take[4] = {false, y > c.y[1], y < c.y[2], true};
        for (int k = 1; k < 4; k++) {
            if (take[k]) c.x[k] = x, c.y[k] = y, c.at[k] = i;
        }
    }
    flush_column(&pen, &c);
    fputs("\"/>\n", p->f);
}

static void put_bars(const picture *p, const ot_plot_series *s) {
    char class[48];
    snprintf(class, sizeof class, "ot-line ot-bar ot-s%d%s", color_of(s), s->faint ? " ot-faint" : "");
    for (int64_t i = 0; s->spread != NULL && i < s->count; i++) {
        double x = across(p, s->x[i]), low = up(p, s->y[i] - s->spread[i]), high = up(p, s->y[i] + s->spread[i]);
        if (isnan(x) || isnan(low) || isnan(high)) continue;
        segment(p, class, x, low, x, high);
        segment(p, class, x - 5, low, x + 5, low);
        segment(p, class, x - 5, high, x + 5, high);
    }
}

static void put_points(const picture *p, const ot_plot_series *s) {
    for (int64_t i = 0; i < s->count; i++) {
        double x = across(p, s->x[i]), y = up(p, s->y[i]);
        if (!isnan(x) && !isnan(y)) put_point(p, s, x, y);
    }
}

static void put_labels(const picture *p, const ot_plot_series *s) {
    for (int64_t i = 0; s->labels != NULL && i < s->count; i++) {
        double x = across(p, s->x[i]), y = up(p, s->y[i]);
        if (isnan(x) || isnan(y) || s->labels[i] == NULL) continue;
        bool outside = x + 8 + text_width(s->labels[i]) > p->width;
        label(p, outside ? x - 7 : x + 7, y - 5, outside ? " text-anchor=\"end\"" : "", s->labels[i]);
    }
}

static void put_rules(const picture *p) {
    for (int64_t i = 0; i < p->plot->n_rules; i++) {
        const ot_plot_rule *r = &p->plot->rules[i];
        double at = r->vertical ? across(p, r->value) : up(p, r->value);
        if (isnan(at)) continue;
        if (r->vertical) {
            segment(p, "ot-rule", at, p->top, at, p->bottom);
            if (r->name != NULL) label(p, at + 4, p->top + FONT, "", r->name);
        } else {
            segment(p, "ot-rule", p->left, at, p->right, at);
            if (r->name != NULL) label(p, p->right - 4, at - 4, " text-anchor=\"end\"", r->name);
        }
    }
}

static void draw(picture *p) {
    const ot_plot *plot = p->plot;
    fputs("<svg class=\"ot-plot\" xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" viewBox=\"0 0 ", p->f);
    put_number(p->f, p->width);
    fputc(' ', p->f);
    put_number(p->f, p->height);
    fputs("\">\n<title>", p->f);
    ot_plot_escape(p->f, plot->title != NULL ? plot->title : plot->y_label != NULL ? plot->y_label : "chart");
    fputs("</title>\n", p->f);
    if (plot->description != NULL) {
        fputs("<desc>", p->f);
        ot_plot_escape(p->f, plot->description);
        fputs("</desc>\n", p->f);
    }
    put_style(p->f);
    fputs("<rect class=\"ot-paper\" width=\"100%\" height=\"100%\"/>\n", p->f);
    double y = 8;
    if (plot->title != NULL) {
        y += TITLE;
        label(p, p->left, y, " class=\"ot-title\"", plot->title);
        y += 5;
    }
    legend(p, y + FONT, true);
    put_ticks(p);
    for (int faint = 1; faint >= 0; faint--) {
        for (int64_t i = 0; i < plot->n_series; i++) {
            const ot_plot_series *s = &plot->series[i];
            if (s->faint != (faint == 1)) continue;
            if (s->mark != OT_PLOT_POINTS) put_line(p, s);
            put_bars(p, s);
            if (s->mark != OT_PLOT_LINE) put_points(p, s);
        }
    }
    put_rules(p);
    for (int64_t i = 0; i < plot->n_series; i++) put_labels(p, &plot->series[i]);
    if (plot->x_label != NULL) label(p, (p->left + p->right) / 2, p->height - 8, " text-anchor=\"middle\"", plot->x_label);
    if (plot->y_label != NULL) {
        fputs("<g transform=\"rotate(-90)\">", p->f);
        label(p, -(p->top + p->bottom) / 2, 16, " text-anchor=\"middle\"", plot->y_label);
        fputs("</g>\n", p->f);
    }
    fputs("</svg>\n", p->f);
}

/* The margins follow from the texts that stand in them. */
static void lay_out(picture *p) {
    double widest = 0;
    for (int i = 0; i < p->y.n_ticks; i++) widest = fmax(widest, text_width(p->y.ticks[i].text));
    p->left = widest + 14 + (p->plot->y_label != NULL ? LINE : 0);
    p->right = p->width - 16;
    p->bottom = p->height - 10 - LINE - (p->plot->x_label != NULL ? LINE : 0);
    p->top = legend(p, 8 + FONT + (p->plot->title != NULL ? TITLE + 5 : 0), false);
    if (p->top > p->bottom - 60) p->top = p->bottom - 60;
}

ot_status ot_plot_svg(const ot_plot *plot, char **text, size_t *size, ot_error *err) {
    picture p = {.plot = plot, .width = plot->width > 0 ? plot->width : 720, .height = plot->height > 0 ? plot->height : 400};
    *text = NULL;
    OT_TRY(ot_plot_axes(plot, (int)(p.width / 90), (int)(p.height / 60), &p.x, &p.y, err));
    lay_out(&p);
    p.f = open_memstream(text, size);
    if (p.f == NULL) return ot_fail_memory(err, 4096, "a picture");
    draw(&p);
    bool bad = ferror(p.f) != 0;
    if (fclose(p.f) == 0 && !bad) return OT_OK;
    free(*text);
    *text = NULL;
    return ot_fail_memory(err, 4096, "a picture");
}
