#include "base/spec.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int32_t count_methods(const ot_spec_method *const *methods) {
    int32_t n = 0;
    while (methods[n] != NULL) n++;
    return n;
}

static int32_t count_keys(const ot_spec_method *m) {
    int32_t n = 0;
    while (m->keys != NULL && m->keys[n].name != NULL) n++;
    return n;
}

/* Edit distance of two short words. */
static size_t distance(const char *a, const char *b) {
    size_t row[65], n = strlen(a), m = strlen(b);
    if (n > 64 || m > 64) return 64;
    for (size_t j = 0; j <= m; j++) row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t above = row[j], best = diagonal + (a[i - 1] != b[j - 1]);
            if (above + 1 < best) best = above + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = above;
            row[j] = best;
        }
    }
    return row[m];
}

static ot_status unknown_method(const char *name, const char *what, const ot_spec_method *const *methods, ot_error *err) {
    char known[256] = "";
    const char *nearest = "";
    for (int32_t i = 0; methods[i] != NULL; i++) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i > 0 ? ", " : "", methods[i]->name);
        if (i == 0 || distance(name, methods[i]->name) < distance(name, nearest)) nearest = methods[i]->name;
    }
    return ot_fail(err, OT_ERR_USAGE, "%s: there is no method \"%s\"; the nearest is \"%s\" (known: %s)", what, name, nearest, known);
}

static ot_status unknown_key(const char *name, const char *what, const ot_spec_method *m, ot_error *err) {
    if (count_keys(m) == 0) return ot_fail(err, OT_ERR_USAGE, "%s: %s takes no keys, but \"%s\" was given", what, m->name, name);
    const char *nearest = m->keys[0].name;
    for (const ot_spec_key *k = m->keys; k->name != NULL; k++) {
        if (distance(name, k->name) < distance(name, nearest)) nearest = k->name;
    }
    return ot_fail(err, OT_ERR_USAGE, "%s: %s has no key \"%s\"; the nearest is \"%s\"", what, m->name, name, nearest);
}

static ot_status set_value(const char *text, const ot_spec_key *k, const ot_spec_method *m, const char *what, ot_spec_value *v, ot_error *err) {
    if (k->kind == OT_SPEC_WORD) {
        v->word = text;
        return OT_OK;
    }
    /* Only what looks like a number: strtod alone would also take "inf", "nan" and hexadecimal. */
    bool plain = *text != '\0' && text[strspn(text, "0123456789.eE+-")] == '\0';
    char *end = NULL;
    double x = plain ? strtod(text, &end) : 0;
    bool good = plain && *end == '\0' && isfinite(x) && x >= k->min && x <= k->max;
    if (good && k->kind == OT_SPEC_INTEGER) good = x == floor(x);
    if (!good) {
        return ot_fail(err, OT_ERR_USAGE, "%s: %s: %s must be a %snumber from %g to %g, not \"%s\"", what, m->name, k->name,
                       k->kind == OT_SPEC_INTEGER ? "whole " : "", k->min, k->max, text);
    }
    v->number = x;
    return OT_OK;
}

static ot_status parse_step(char *text, const char *what, const ot_spec_method *const *methods, ot_spec_step *step, ot_error *err) {
    char *colon = strchr(text, ':'), *rest = NULL;
    if (colon != NULL) {
        *colon = '\0';
        rest = colon + 1;
    }
    while (*text == ' ') text++;
    int32_t index = 0;
    while (methods[index] != NULL && strcmp(methods[index]->name, text) != 0) index++;
    if (methods[index] == NULL) return unknown_method(text, what, methods, err);
    const ot_spec_method *m = methods[index];
    step->method = index;
    for (int32_t i = 0; i < count_keys(m); i++) {
        step->values[i] = (ot_spec_value){.word = m->keys[i].kind == OT_SPEC_WORD ? m->keys[i].fallback : NULL};
        if (m->keys[i].kind != OT_SPEC_WORD && m->keys[i].fallback != NULL) step->values[i].number = strtod(m->keys[i].fallback, NULL);
    }
    while (rest != NULL && *rest != '\0') {
        char *equals = strchr(rest, '=');
        if (equals == NULL) return ot_fail(err, OT_ERR_USAGE, "%s: %s: \"%s\" should read key=value", what, m->name, rest);
        *equals = '\0';
        char *value = equals + 1, *comma = strchr(value, ',');
        /* A comma belongs to the value when what follows, up to the next comma, is no key. */
        while (comma != NULL && memchr(comma + 1, '=', strcspn(comma + 1, ",")) == NULL) comma = strchr(comma + 1, ',');
        if (comma != NULL) *comma = '\0';
        int32_t k = 0;
        while (k < count_keys(m) && strcmp(m->keys[k].name, rest) != 0) k++;
        if (k == count_keys(m)) return unknown_key(rest, what, m, err);
        if (step->values[k].given) return ot_fail(err, OT_ERR_USAGE, "%s: %s: the key %s is given twice", what, m->name, rest);
        step->values[k].given = true;
        OT_TRY(set_value(value, &m->keys[k], m, what, &step->values[k], err));
        rest = comma == NULL ? NULL : comma + 1;
    }
    return OT_OK;
}

ot_status ot_spec_parse(const char *text, const char *what, const ot_spec_method *const *methods, ot_spec *out, ot_error *err) {
    *out = (ot_spec){0};
    if (strlen(text) >= sizeof out->text) return ot_fail(err, OT_ERR_USAGE, "%s: the text is longer than %zu bytes", what, sizeof out->text - 1);
    if (count_methods(methods) == 0 || *text == '\0') return OT_OK;
    memcpy(out->text, text, strlen(text) + 1);
    for (char *at = out->text; at != NULL;) {
        char *bar = strchr(at, '|');
        if (bar != NULL) *bar = '\0';
        if (out->n_steps == OT_SPEC_MAX_STEPS) return ot_fail(err, OT_ERR_USAGE, "%s: more than %d steps", what, OT_SPEC_MAX_STEPS);
        OT_TRY(parse_step(at, what, methods, &out->steps[out->n_steps++], err));
        at = bar == NULL ? NULL : bar + 1;
    }
    return OT_OK;
}

const ot_spec_value *ot_spec_get(const ot_spec_step *step, const ot_spec_method *method, const char *key) {
    static const ot_spec_value none;
    for (int32_t i = 0; i < count_keys(method); i++) {
        if (strcmp(method->keys[i].name, key) == 0) return &step->values[i];
    }
    return &none;
}
