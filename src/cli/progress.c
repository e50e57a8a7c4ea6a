/* See progress.h. */
#include "cli/progress.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/parallel.h"
#include "cli/text.h"

/* On a terminal at most ten redraws a second; in a log a line every 10 s, and every twentieth part if that comes later. */
static const double redraw_seconds = 0.1, log_seconds = 10.0;
enum { LOG_PARTS = 20, BAR_COLUMNS = 20, BAR_LEAST = 4 };

void ot_progress_begin(ot_progress *p, const ot_args *args, const char *label, const char *unit, int64_t total, int64_t first) {
    bool silent = ot_args_flag(args, "quiet") || !ot_args_flag(args, "progress");
    const char *term = getenv("TERM");
    *p = (ot_progress){.file = silent ? NULL : stderr,
                       .terminal = isatty(STDERR_FILENO) && term != NULL && strcmp(term, "dumb") != 0,
                       .width = ot_terminal_width(stderr),
                       .clock = ot_seconds,
                       .label = label,
                       .unit = unit,
                       .total = total,
                       .first = first,
                       .valid_loss = NAN,
                       .shown_step = -1,
                       .last = OT_PROGRESS_SAMPLE};
    p->started = p->shown_at = p->clock();
}

typedef struct line {
    char text[256];
    size_t used;
} line;

__attribute__((format(printf, 2, 3))) static void add(line *l, const char *format, ...) {
    va_list list;
    va_start(list, format);
    int n = vsnprintf(l->text + l->used, sizeof l->text - l->used, format, list);
    va_end(list);
    if (n > 0) l->used = l->used + (size_t)n < sizeof l->text ? l->used + (size_t)n : sizeof l->text - 1;
}

static double seconds_left(const ot_progress *p, double now) {
    int64_t done = p->last.step - p->first, left = p->total - p->last.step;
    if (p->total <= 0 || done <= 0 || left < 0) return NAN;
    return (now - p->started) / (double)done * (double)left;
}

static void numbers(const ot_progress *p, line *l, double now) {
    const ot_progress_sample *s = &p->last;
    char text[32];
    if (p->total > 0) {
        add(l, "%s %" PRId64 "/%" PRId64, p->unit, s->step, p->total);
    } else {
        add(l, "%s %" PRId64, p->unit, s->step);
    }
    if (!isnan(s->loss)) add(l, "  loss %.4f", s->loss);
    if (!isnan(p->valid_loss)) add(l, "  valid %.4f", p->valid_loss);
    if (s->learning_rate > 0.0 && !p->terminal) add(l, "  lr %.3g", s->learning_rate);
    if (s->tokens_per_second > 0.0) add(l, "  %s %s", ot_text_count((int64_t)(s->tokens_per_second + 0.5), text, sizeof text), p->rate != NULL ? p->rate : "tok/s");
    double left = seconds_left(p, now);
    if (s->step >= p->total && p->total > 0) {
        add(l, "  took %s", ot_text_seconds(now - p->started, text, sizeof text));
    } else if (!isnan(left)) {
        add(l, "  %s left", ot_text_seconds(left, text, sizeof text));
    }
    if (s->peak_bytes > 0) add(l, "  %s", ot_text_bytes(s->peak_bytes, text, sizeof text));
}

/* On a narrow terminal the bar gives way to the numbers. The last column stays free: a full line would wrap and be left behind. */
static void compose(const ot_progress *p, line *l, double now, int room) {
    const ot_progress_sample *s = &p->last;
    line behind = {.used = 0};
    numbers(p, &behind, now);
    add(l, "%s ", p->label);
    int columns = room - (int)l->used - (int)behind.used - 3;
    if (columns > BAR_COLUMNS) columns = BAR_COLUMNS;
    if (p->terminal && p->total > 0 && columns >= BAR_LEAST) {
        int full = (int)(columns * (s->step < p->total ? (double)s->step / (double)p->total : 1.0));
        add(l, "[%.*s%*s] ", full, "####################", columns - full, "");
    }
    add(l, "%s", behind.text);
}

static void show(ot_progress *p, double now) {
    line l = {.used = 0};
    int room = p->width > 1 ? p->width - 1 : 1;
    compose(p, &l, now, room);
    if (p->terminal) {
        fprintf(p->file, "\r%.*s\033[K", room, l.text);
        p->drawn = true;
    } else {
        fprintf(p->file, "%s\n", l.text);
    }
    fflush(p->file);
    p->shown_at = now;
    p->shown_step = p->last.step;
}

void ot_progress_step(ot_progress *p, const ot_progress_sample *sample) {
    if (p->file == NULL) return;
    p->last = *sample;
    if (!isnan(sample->valid_loss)) p->valid_loss = sample->valid_loss;
    double now = p->clock(), since = now - p->shown_at;
    bool first = p->shown_step < 0, last = sample->step == p->total;
    bool due;
    if (p->terminal) {
        due = since >= redraw_seconds;
    } else {
        int64_t part = p->total / LOG_PARTS > 0 ? p->total / LOG_PARTS : 1;
        due = since >= log_seconds && (p->total <= 0 || sample->step - p->shown_step >= part || since >= 6.0 * log_seconds);
    }
    if (first || last || due) show(p, now);
}

static void put_line(ot_progress *p, FILE *file, const char *text) {
    if (p->drawn) fputs("\r\033[K", file);
    ot_put_safe(file, text);
    fputc('\n', file);
    if (p->drawn) show(p, p->clock());
    fflush(file);
}

void ot_progress_note(ot_progress *p, const char *format, ...) {
    if (p->file == NULL) return;
    char text[OT_ERROR_TEXT];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    put_line(p, p->file, text);
}

void ot_progress_warn(ot_progress *p, const ot_args *args, const char *format, ...) {
    if (ot_args_flag(args, "quiet")) return;
    char text[OT_ERROR_TEXT];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    put_line(p, stderr, text);
}

void ot_progress_result(ot_progress *p, const char *text) {
    if (p->drawn) {
        fputs("\r\033[K", p->file);
        fflush(p->file);
    }
    ot_put_safe(stdout, text);
    putchar('\n');
    fflush(stdout);
    if (p->drawn) show(p, p->clock());
}

void ot_progress_end(ot_progress *p) {
    if (p->file == NULL) return;
    if (p->shown_step >= 0 && p->shown_step != p->last.step) show(p, p->clock());
    if (p->drawn) fputc('\n', p->file);
    fflush(p->file);
    p->drawn = false;
    p->file = NULL;
}

void ot_note(const ot_args *args, const char *format, ...) {
    if (ot_args_flag(args, "quiet")) return;
    char text[OT_ERROR_TEXT];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    ot_put_safe(stderr, text);
    fputc('\n', stderr);
}
