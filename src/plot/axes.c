/* Ranges and ticks: round numbers (1, 2 or 5 times a power of ten) inside the range of the data. */
#include <math.h>
#include <string.h>
#include <utf8proc.h>

#include "plot/plot_internal.h"

int32_t ot_plot_next(const char **p) {
    utf8proc_int32_t c = 0;
    utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)*p, (utf8proc_ssize_t)strnlen(*p, 4), &c);
    *p += n > 0 ? n : 1;
    bool text = n > 0 && c >= 0x20 && !(c >= 0x7F && c < 0xA0) && c != 0xFFFE && c != 0xFFFF;
    return text ? c : 0xFFFD;
}

int64_t ot_plot_width(const char *text) {
    int64_t width = 0;
    while (*text != '\0') width += utf8proc_charwidth(ot_plot_next(&text));
    return width;
}

void ot_plot_put(FILE *f, int32_t code_point) {
    utf8proc_uint8_t bytes[4];
    utf8proc_ssize_t n = utf8proc_encode_char(code_point, bytes);
    if (n > 0) fwrite(bytes, 1, (size_t)n, f);
}

static double scaled(const ot_plot_axis *axis, double value) {
    if (!axis->log) return value;
    return value > 0 ? log10(value) : NAN;
}

double ot_plot_place(const ot_plot_axis *axis, double value) {
    double v = scaled(axis, value);
    return isfinite(v) ? (v - axis->low) / (axis->high - axis->low) : NAN;
}

static void widen(ot_plot_axis *axis, double value) {
    double v = scaled(axis, value);
    if (!isfinite(v)) return;
    if (!(v >= axis->low)) axis->low = v;
    if (!(v <= axis->high)) axis->high = v;
}

/* A little air at both ends, so that no curve runs along the frame; and a range even when all values are one. */
static void pad(ot_plot_axis *axis, double share) {
    double span = axis->high - axis->low;
    if (span <= 0) {
        double about = axis->log || axis->low == 0 ? 1.0 : fabs(axis->low);
        axis->low -= 0.5 * about;
        axis->high += 0.5 * about;
        return;
    }
    axis->low -= share * span;
    axis->high += share * span;
}

/* decimals: below 0, as short as the number allows. */
static void add_tick(ot_plot_axis *axis, double at, int decimals, double shown) {
    if (axis->n_ticks == OT_PLOT_TICKS || !(at >= 0 && at <= 1)) return;
    ot_plot_tick *tick = &axis->ticks[axis->n_ticks++];
    tick->at = at;
    if (fabs(shown) < 1e-300) shown = 0; /* -0 would be told apart from 0 */
    if (decimals < 0) {
        snprintf(tick->text, sizeof tick->text, "%.6g", shown);
    } else {
        snprintf(tick->text, sizeof tick->text, "%.*f", decimals, shown);
    }
}

static void linear_ticks(ot_plot_axis *axis, int wanted) {
    static const double steps[] = {1, 2, 5, 10};
    double span = axis->high - axis->low, rough = span / wanted, power = pow(10, floor(log10(rough)));
    double step = power;
    for (int i = 0; i < 4; i++) {
        step = steps[i] * power;
        if (step >= rough * 0.999) break;
    }
    bool large = fabs(axis->high) >= 1e6 || fabs(axis->low) >= 1e6, small = step < 1e-4;
    int decimals = large || small ? -1 : step < 1 ? (int)ceil(-log10(step) - 1e-9) : 0;
    double first = ceil(axis->low / step - 1e-9);
    int64_t count = (int64_t)(floor(axis->high / step + 1e-9) - first) + 1;
    for (int64_t i = 0; i < count; i++) {
        double value = (first + (double)i) * step;
        add_tick(axis, (value - axis->low) / span, decimals, value);
    }
}

static void log_ticks(ot_plot_axis *axis, int wanted) {
    double span = axis->high - axis->low;
    if (span < 0.3) {
        /* Less than a factor of two: round numbers of the values themselves. */
        ot_plot_axis values = {.low = pow(10, axis->low), .high = pow(10, axis->high)};
        linear_ticks(&values, wanted);
        for (int i = 0; i < values.n_ticks; i++) {
            ot_plot_tick *t = &values.ticks[i];
            double value = values.low + t->at * (values.high - values.low);
            if (value <= 0) continue;
            int before = axis->n_ticks;
            add_tick(axis, (log10(value) - axis->low) / span, -1, value);
            if (axis->n_ticks > before) memcpy(axis->ticks[before].text, t->text, sizeof t->text);
        }
        return;
    }
    double each = ceil(span / wanted); /* decades from tick to tick */
    bool between = span * 3 <= wanted * 1.5;
    int64_t decades = (int64_t)(ceil(axis->high) - floor(axis->low)) + 1;
    for (int64_t i = 0; i < decades; i++) {
        double d = floor(axis->low) + (double)i;
        if (fmod(d, each) != 0) continue;
        add_tick(axis, (d - axis->low) / span, -1, pow(10, d));
        if (!between) continue;
        add_tick(axis, (d + log10(2) - axis->low) / span, -1, 2 * pow(10, d));
        add_tick(axis, (d + log10(5) - axis->low) / span, -1, 5 * pow(10, d));
    }
}

/* A point with its bar. */
static void widen_bar(ot_plot_axis *y, const ot_plot_series *s, int64_t i) {
    double spread = s->spread != NULL && isfinite(s->spread[i]) ? s->spread[i] : 0.0;
    widen(y, s->y[i] - spread);
    widen(y, s->y[i] + spread);
}

static void named_ticks(ot_plot_axis *axis, const char *const *names, int64_t count) {
    axis->low = -0.5;
    axis->high = (double)count - 0.5;
    for (int64_t i = 0; i < count && axis->n_ticks < OT_PLOT_TICKS; i++) {
        ot_plot_tick *tick = &axis->ticks[axis->n_ticks++];
        tick->at = ((double)i + 0.5) / (double)count;
        snprintf(tick->text, sizeof tick->text, "%s", names[i]);
    }
}

ot_status ot_plot_axes(const ot_plot *p, int wanted_x, int wanted_y, ot_plot_axis *x, ot_plot_axis *y, ot_error *err) {
    *x = (ot_plot_axis){.log = p->log_x, .low = NAN, .high = NAN};
    *y = (ot_plot_axis){.log = p->log_y, .low = NAN, .high = NAN};
    for (int64_t s = 0; s < p->n_series; s++) {
        for (int64_t i = 0; i < p->series[s].count; i++) {
            double a = scaled(x, p->series[s].x[i]), b = scaled(y, p->series[s].y[i]);
            if (!isfinite(a) || !isfinite(b)) continue;
            widen(x, p->series[s].x[i]);
            widen_bar(y, &p->series[s], i);
        }
    }
    if (isnan(x->low)) return ot_fail(err, OT_ERR_REFUSED, "there is no point to draw");
    for (int64_t i = 0; i < p->n_rules; i++) widen(p->rules[i].vertical ? x : y, p->rules[i].value);
    pad(x, 0.02);
    pad(y, 0.05);
    ot_plot_axis *axes[] = {x, y};
    int wanted[] = {wanted_x, wanted_y};
    if (p->names != NULL) named_ticks(x, p->names, p->n_names);
    for (int i = p->names != NULL ? 1 : 0; i < 2; i++) {
        if (axes[i]->log) {
            log_ticks(axes[i], wanted[i]);
        } else {
            linear_ticks(axes[i], wanted[i]);
        }
    }
    return OT_OK;
}

void ot_plot_smooth(const double *y, int64_t count, double half_life, double *out) {
    double keep = half_life > 0 ? exp2(-1.0 / half_life) : 0.0, sum = 0, weight = 0;
    for (int64_t i = 0; i < count; i++) {
        if (!isfinite(y[i])) {
            out[i] = NAN;
            continue;
        }
        sum = keep * sum + y[i];
        weight = keep * weight + 1.0;
        out[i] = sum / weight;
    }
}
