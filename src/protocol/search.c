#include "protocol/search.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

enum { MAX_BUILT_IN = 32 };

typedef char recipe_text[128];

/* keep: a number between the two texts; below 1: none. */
static void add(recipe_text *list, int64_t *n, const char *before, int64_t keep, const char *after) {
    char number[24] = "";
    if (*n >= MAX_BUILT_IN) return;
    if (keep > 0) snprintf(number, sizeof number, "%lld", (long long)keep);
    snprintf(list[*n], sizeof *list, "%s%s%s", before, number, after);
    for (int64_t i = 0; i < *n; i++) {
        if (strcmp(list[i], list[*n]) == 0) return;
    }
    (*n)++;
}

/* Depth, width, rank and bits, alone and together. */
static int64_t built_in(int64_t middle, bool text, recipe_text *list) {
    static const double shares[] = {0.75, 0.5, 0.3};
    int64_t n = 0;
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
        int64_t keep = (int64_t)nearbyint((double)middle * shares[i]);
        if (keep < 1) keep = 1;
        add(list, &n, "layerdrop:keep=", keep, "");
        add(list, &n, "layerdrop:keep=", keep, "|quantize:bits=4");
        if (text && keep < middle) add(list, &n, "crash:keep=", keep, "");
    }
    add(list, &n, "quantize:bits=8", 0, "");
    add(list, &n, "quantize:bits=4", 0, "");
    add(list, &n, "quantize:bits=4,group=32", 0, "");
    add(list, &n, "prune:channels=0.25", 0, "");
    add(list, &n, "prune:channels=0.5", 0, "");
    add(list, &n, "prune:heads=0.25,channels=0.25", 0, "");
    add(list, &n, "svd:ratio=0.9", 0, "");
    return n;
}

static bool better(const ot_search_row *a, const ot_search_row *b) {
    const ot_emulation *x = &a->summary.emulation, *y = &b->summary.emulation;
    bool as_good = a->summary.offer_bytes <= b->summary.offer_bytes && x->cpl <= y->cpl && x->sign_agreement >= y->sign_agreement;
    return as_good && (a->summary.offer_bytes < b->summary.offer_bytes || x->cpl < y->cpl || x->sign_agreement > y->sign_agreement);
}

void ot_search_mark_front(ot_search *s) {
    for (int64_t i = 0; i < s->count; i++) {
        s->rows[i].front = true;
        for (int64_t k = 0; k < s->count; k++) s->rows[i].front = s->rows[i].front && !better(&s->rows[k], &s->rows[i]);
    }
}

static bool within(const ot_split_summary *s, const ot_split_options *o) {
    return !(o->max_bytes > 0 && s->offer_bytes > o->max_bytes) && !(o->max_cpl > 0 && s->emulation.cpl > o->max_cpl);
}

/* The table with its recipes. */
static ot_status lay_out(const ot_model *m, const char *const *recipes, int64_t n, const ot_split_options *options, ot_search *out, ot_error *err) {
    recipe_text list[MAX_BUILT_IN];
    int64_t given = n, middle = m->desc.layers - options->bottom - options->top;
    if (given == 0) n = built_in(middle < 1 ? 1 : middle, options->data->pixels == NULL && options->data->rows > 1, list);
    OT_TRY(ot_calloc(n, sizeof *out->rows, "a table of recipes", (void **)&out->rows, err));
    out->count = n;
    for (int64_t i = 0; i < n; i++) {
        const char *recipe = given > 0 ? recipes[i] : list[i];
        if (strlen(recipe) >= sizeof out->rows[i].recipe) return ot_fail(err, OT_ERR_USAGE, "the recipe \"%s\" is too long to be tried", recipe);
        snprintf(out->rows[i].recipe, sizeof out->rows[i].recipe, "%s", recipe);
    }
    return OT_OK;
}

ot_status ot_search_run(const ot_model *m, const char *const *recipes, int64_t n, const ot_split_options *options, ot_search_observer *observe, void *context,
                        ot_search *out, ot_error *err) {
    *out = (ot_search){0};
    if (options->data == NULL) return ot_fail(err, OT_ERR_USAGE, "--search measures recipes on a public text: give --data FILE");
    ot_status status = lay_out(m, recipes, n, options, out, err);
    ot_emulation_side whole = {0};
    ot_split_options o = *options;
    o.whole = &whole;
    o.max_bytes = 0;
    o.max_cpl = 0;
    if (status == OT_OK && observe != NULL) observe(context, out, 0);
    for (int64_t i = 0; status == OT_OK && i < out->count; i++) {
        ot_search_row *r = &out->rows[i];
        o.emulator = r->recipe;
        status = ot_split(m, NULL, &o, &r->summary, err);
        r->within = within(&r->summary, options);
        if (status == OT_OK && observe != NULL) observe(context, out, i + 1);
    }
    ot_emulation_free(&whole);
    if (status == OT_OK) ot_search_mark_front(out);
    else ot_search_free(out);
    return status;
}

void ot_search_free(ot_search *s) {
    ot_free(s->rows);
    *s = (ot_search){0};
}
