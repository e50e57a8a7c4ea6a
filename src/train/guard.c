#include "train/guard.h"

#include <math.h>

/* A loss must also be half as high again as usual and a tenth of a nat above it, a norm three times as large: noise about a flat curve has a small
 * deviation. Deviations below the floors are taken for them, or a curve that stood still could never move again. */
static const double loss_factor = 1.5, loss_rise = 0.1, norm_factor = 3.0, forgetting = 0.02, loss_floor = 1e-3, norm_floor = 0.05;

const char *ot_guard_kind_name(ot_guard_kind kind) {
    static const char *const names[] = {"fine", "non-finite", "loss-spike", "gradient-spike", "diverged"};
    return names[kind];
}

const char *ot_guard_action_name(ot_guard_action action) {
    static const char *const names[] = {"passed", "skipped", "stopped"};
    return names[action];
}

static double deviation(const ot_guard_stat *s, double floor) { return fmax(sqrt(s->variance), floor); }

static void learn(ot_guard_stat *s, double x, double floor) {
    double reach = OT_GUARD_Z * deviation(s, floor);
    if (s->n >= OT_GUARD_WARM_UP) x = fmax(fmin(x, s->mean + reach), s->mean - reach);
    double weight = fmax(1.0 / (s->n + 1.0), forgetting), d = x - s->mean;
    s->mean += weight * d;
    s->variance = (1.0 - weight) * (s->variance + weight * d * d);
    s->n += 1.0;
}

static ot_guard_action skip(ot_guard *g, int64_t limit, bool at_once) {
    if (at_once || g->in_a_row + 1 >= limit) return OT_GUARD_STOPPED;
    g->skipped++;
    g->in_a_row++;
    return OT_GUARD_SKIPPED;
}

static ot_guard_verdict not_finite(ot_guard *g, ot_guard_mode mode, int64_t limit) {
    ot_guard_verdict v = {.kind = OT_GUARD_NOT_FINITE, .in_a_row = g->in_a_row + 1};
    v.action = skip(g, limit, mode == OT_GUARD_STOP || mode == OT_GUARD_OFF);
    return v;
}

/* Has the usual loss, this one included, risen far above the first ones? Asked when there is no spike. */
static bool has_diverged(const ot_guard *g, double loss) {
    double mean = g->loss.mean + forgetting * (loss - g->loss.mean);
    return g->loss.n >= OT_GUARD_WARM_UP && g->start > 0 && mean > g->start + OT_GUARD_RISE && mean > loss_factor * g->start;
}

ot_guard_verdict ot_guard_judge(ot_guard *g, double loss, double norm, ot_guard_mode mode, int64_t limit) {
    if (!isfinite(loss) || !isfinite(norm)) return not_finite(g, mode, limit);
    ot_guard_verdict v = {.kind = OT_GUARD_FINE};
    double size = log(fmax(norm, 1e-30));
    double z_loss = (loss - g->loss.mean) / deviation(&g->loss, loss_floor), z_norm = (size - g->norm.mean) / deviation(&g->norm, norm_floor);
    if (mode != OT_GUARD_OFF && g->loss.n >= OT_GUARD_WARM_UP) {
        if (z_loss > OT_GUARD_Z && loss > loss_factor * g->loss.mean && loss > g->loss.mean + loss_rise) {
            v = (ot_guard_verdict){.kind = OT_GUARD_LOSS, .usual = g->loss.mean, .z = z_loss};
        } else if (z_norm > OT_GUARD_Z && size > g->norm.mean + log(norm_factor)) {
            v = (ot_guard_verdict){.kind = OT_GUARD_NORM, .usual = exp(g->norm.mean), .z = z_norm};
        }
    }
    bool diverged = has_diverged(g, loss);
    if (mode != OT_GUARD_OFF && v.kind == OT_GUARD_FINE && diverged && (g->diverged == 0 || mode == OT_GUARD_STOP)) {
        v = (ot_guard_verdict){.kind = OT_GUARD_DIVERGED, .usual = g->start};
        if (mode == OT_GUARD_STOP) v.action = OT_GUARD_STOPPED;
    }
    bool spike = v.kind == OT_GUARD_LOSS || v.kind == OT_GUARD_NORM;
    if (spike) v.in_a_row = g->in_a_row + 1;
    if (spike && mode != OT_GUARD_WARN) v.action = skip(g, limit, mode == OT_GUARD_STOP);
    if (v.action == OT_GUARD_STOPPED) return v;
    g->diverged = diverged ? 1 : 0;
    if (g->loss.n < 2) g->start += (loss - g->start) / (g->loss.n + 1.0);
    learn(&g->loss, loss, loss_floor);
    learn(&g->norm, size, norm_floor);
    if (spike) g->spikes++;
    if (v.action == OT_GUARD_PASSED) g->in_a_row = 0;
    return v;
}
