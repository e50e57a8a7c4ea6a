/* What a row says, in words. */
#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "report/report.h"

static void add(char *text, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void add(char *text, size_t size, const char *format, ...) {
    size_t used = strlen(text);
    va_list given;
    va_start(given, format);
    vsnprintf(text + used, size - used, format, given);
    va_end(given);
}

void ot_report_describe(const ot_report_row *row, bool data_owner, char *text, size_t size) {
    const ot_setting *s = &row->setting;
    bool peft = !ot_report_full_is_full(s);
    *text = '\0';
    if (data_owner) {
        if (row->offer != NULL) add(text, size, "offer %.8s", row->offer);
        if (row->offer == NULL) add(text, size, "the offer");
        if (row->layers > 0) add(text, size, " of %" PRId64 " blocks", row->layers);
    } else {
        add(text, size, "%.400s", s->model != NULL ? s->model : "the model");
        if (s->split != NULL) add(text, size, ", %s", s->split);
        if (s->emulator != NULL) add(text, size, ", %.400s", *s->emulator != '\0' ? s->emulator : "the whole middle");
    }
    if (peft) add(text, size, ", %.200s", s->peft);
}

bool ot_report_full_is_full(const ot_setting *setting) { return setting->peft == NULL || strcmp(setting->peft, "full") == 0; }

const char *ot_report_full_name(const ot_setting *setting, char *room, size_t size) {
    if (ot_report_full_is_full(setting)) {
        snprintf(room, size, "full fine-tuning");
    } else {
        snprintf(room, size, "whole-model tuning by %.120s", setting->peft);
    }
    return room;
}

static const char *at(double x, char room[32]) {
    snprintf(room, 32, "%.4g", x);
    return room;
}

/* How the tuned emulator compares with the untuned one is all that the data owner can say. */
static ot_outcome client_sentence(const ot_report_row *row, char *text, size_t size) {
    const ot_number *before = &row->of[OT_ROLE_EMULATOR], *after = &row->of[OT_ROLE_TUNED];
    char a[32], b[32];
    if (after->n == 0) {
        add(text, size, "The tuned emulator was not measured.");
        return OT_OUTCOME_UNKNOWN;
    }
    if (before->n == 0) {
        add(text, size, "The tuned emulator has %s. What the owner's model gains by it, only the owner can measure.", at(after->mean, a));
        return OT_OUTCOME_UNKNOWN;
    }
    bool learnt = row->higher ? after->mean > before->mean : after->mean < before->mean;
    add(text, size, learnt ? "Tuning was learnt: the emulator went from %s to %s. What the owner's model gains by it, only the owner can measure."
                           : "Nothing was learnt: the emulator went from %s to %s.",
        at(before->mean, a), at(after->mean, b));
    return learnt ? OT_OUTCOME_WORKED : OT_OUTCOME_FAILED;
}

static void add_doubts(const ot_report_row *row, char *text, size_t size) {
    const ot_number *zero = &row->of[OT_ROLE_ZERO_SHOT], *plug = &row->of[OT_ROLE_PLUG_IN];
    char a[32];
    if (row->gains == OT_HOLDS && row->sure_gain == OT_FAILS) {
        add(text, size, " The gain of %s is within two standard errors: it may be chance, and to be sure takes more documents or seeds.", at(fabs(plug->mean - zero->mean), a));
    }
    if (row->needs_model == OT_HOLDS && row->sure_need == OT_FAILS) {
        add(text, size, " The lead of %s over the tuned emulator is within two standard errors%s.", at(fabs(plug->mean - row->of[OT_ROLE_TUNED].mean), a),
            row->sure_gain == OT_FAILS ? " too" : "");
    }
    if (row->needs_model == OT_FAILS && row->sure_need == OT_FAILS) {
        add(text, size, " The difference of %s from the tuned emulator is within two standard errors: it may be chance%s.", at(fabs(plug->mean - row->of[OT_ROLE_TUNED].mean), a),
            row->gains == OT_HOLDS && row->sure_gain == OT_FAILS ? " too" : "");
    }
}

ot_outcome ot_report_sentence(const ot_report_row *row, bool data_owner, char *text, size_t size) {
    const ot_number *zero = &row->of[OT_ROLE_ZERO_SHOT], *tuned = &row->of[OT_ROLE_TUNED], *plug = &row->of[OT_ROLE_PLUG_IN], *full = &row->of[OT_ROLE_FULL];
    char a[32], b[32], baseline[160];
    *text = '\0';
    ot_report_full_name(&row->setting, baseline, sizeof baseline);
    if (data_owner) return client_sentence(row, text, size);
    if (plug->n == 0 || (row->gains == OT_UNKNOWN && row->needs_model == OT_UNKNOWN)) {
        add(text, size, "Not known yet: %s was not measured.", plug->n == 0 ? "plug-in" : "what to compare plug-in with");
        return OT_OUTCOME_UNKNOWN;
    }
    if (row->gains == OT_FAILS) {
        bool within = row->sure_gain == OT_FAILS;
        add(text, size, "%s: plug-in has %s, no better than zero-shot's %s.", within ? "It seems not to have worked" : "It did not work", at(plug->mean, a), at(zero->mean, b));
        if (!within) return OT_OUTCOME_FAILED;
        add(text, size, " The difference of %s is within two standard errors: it may be chance, and to be sure takes more documents or seeds.", at(fabs(plug->mean - zero->mean), a));
        return OT_OUTCOME_UNKNOWN;
    }
    bool all = row->needs_model != OT_FAILS && row->close != OT_FAILS;
    bool sure = row->sure_gain != OT_FAILS && row->sure_need != OT_FAILS;
    add(text, size, "%s: plug-in has %s", !all ? "It worked in part" : sure ? "It worked" : "It seems to have worked", at(plug->mean, a));
    if (zero->n > 0) add(text, size, ", better than zero-shot (%s)", at(zero->mean, a));
    if (!isnan(row->recovered)) add(text, size, " by %.0f %% of the gain of %s (%s)", 100.0 * row->recovered, baseline, at(full->mean, a));
    if (row->needs_model == OT_HOLDS) add(text, size, "%s better than the tuned emulator (%s)", zero->n > 0 ? ", and" : ",", at(tuned->mean, a));
    if (row->needs_model == OT_FAILS) add(text, size, ", but no better than the tuned emulator (%s), which the data owner has without the model", at(tuned->mean, a));
    if (isnan(row->recovered) && row->close == OT_HOLDS) add(text, size, "; %s (%s) gained nothing over zero-shot", baseline, at(full->mean, a));
    add(text, size, ".");
    add_doubts(row, text, size);
    if (row->full_waits) {
        add(text, size, " %c%s is not done: how near to it plug-in comes is not known yet.", toupper((unsigned char)*baseline), baseline + 1);
        return all ? OT_OUTCOME_UNKNOWN : OT_OUTCOME_PARTLY;
    }
    return !all ? OT_OUTCOME_PARTLY : sure ? OT_OUTCOME_WORKED : OT_OUTCOME_UNKNOWN;
}
