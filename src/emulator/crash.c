/* CRaSh (clustering, removing, sharing): adjacent blocks whose outputs are alike form clusters, one block of each stays, and, with sharing, runs again
 * in the place of those that left. Training-free, but the model is run over some public text. */
#include <math.h>
#include <string.h>

#include "base/count.h"
#include "emulator/methods.h"
#include "model/network.h"

/* ==== Clusters. ==== */

double ot_cka(const double *a, const double *b, int64_t n) {
    double ab = 0, aa = 0, bb = 0;
    for (int64_t i = 0; i < n * n; i++) {
        ab += a[i] * b[i];
        aa += a[i] * a[i];
        bb += b[i] * b[i];
    }
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : 0.0;
}

void ot_crash_clusters(const double *similarity, int64_t n, int64_t keep, int64_t *starts) {
    int64_t clusters = n;
    for (int64_t i = 0; i < n; i++) starts[i] = i;
    for (; clusters > keep; clusters--) {
        int64_t best = 1;
        /* The border: the last of the left cluster and the first of the right one. */
        for (int64_t c = 1; c < clusters; c++) {
            if (similarity[(starts[c] - 1) * n + starts[c]] > similarity[(starts[best] - 1) * n + starts[best]]) best = c;
        }
        memmove(starts + best, starts + best + 1, (size_t)(clusters - best - 1) * sizeof *starts);
    }
}

/* ==== What the blocks put out for the text. ==== */

enum { BATCH_ROWS = 512 };

typedef struct survey {
    const ot_emulator *e;
    const ot_emulator_text *text;
    int64_t n, width;
    int64_t tokens; /* of an example that are looked at, at most */
    double *pooled; /* [kept, examples, width] */
    double *grams;  /* [kept, examples, examples], centred */
} survey;

static int64_t length_of(const survey *s, int64_t example) {
    int64_t length = s->text->starts[example + 1] - s->text->starts[example];
    return length < s->tokens ? length : s->tokens;
}

/* One vector an example: the mean over its tokens, weighted by their position, which favours what has seen more. sequence: its number in the batch.
 * What the last block put out is no other's input, and the head reads it only behind a norm. */
static void pool(const survey *s, const ot_network *net, int64_t example, int64_t sequence) {
    int64_t cols = 0, length = length_of(s, example), last = s->e->kept[s->e->n_kept - 1];
    for (int64_t k = 0; k < s->e->n_kept; k++) {
        const float *x = s->e->kept[k] == last ? ot_network_last_block(net) : ot_network_hidden(net, s->e->kept[k] + 1, &cols);
        double *to = s->pooled + (k * s->n + example) * s->width;
        for (int64_t t = 0; t < length; t++) {
            double weight = 2.0 * (double)(t + 1) / ((double)length * (double)(length + 1));
            const float *row = x + ot_network_row_of(net, sequence, t) * s->width;
            for (int64_t c = 0; c < s->width; c++) to[c] += weight * (double)row[c];
        }
    }
}

/* Examples first..end in one batch. */
static ot_status run_batch(survey *s, ot_network *net, int64_t first, int64_t end, ot_error *err) {
    ot_network_clear(net);
    for (int64_t i = first; i < end; i++) OT_TRY(ot_network_add(net, s->text->ids + s->text->starts[i], NULL, NULL, length_of(s, i), NULL, err));
    OT_TRY(ot_network_run(net, &(ot_run_options){0}, NULL, err));
    for (int64_t i = first; i < end; i++) pool(s, net, i, i - first);
    return OT_OK;
}

/* The blocks up to the last one of the middle are run; what comes after them is nobody's concern. */
static ot_status run_text(survey *s, ot_error *err) {
    const ot_emulator_text *t = s->text;
    int64_t longest = t->length < s->tokens ? t->length : s->tokens, batch = BATCH_ROWS / longest, depth = s->e->kept[s->e->n_kept - 1] + 1;
    if (batch < 1) batch = 1;
    if (batch > s->n) batch = s->n;
    ot_stack_item *items = NULL;
    ot_network *net = NULL;
    OT_TRY(ot_calloc(depth, sizeof *items, "a stack of blocks", (void **)&items, err));
    for (int64_t i = 0; i < depth; i++) items[i].block = (int32_t)i;
    ot_network_options options = {.plan = {.backend = t->backend, .compute = t->compute, .max_rows = batch * longest, .max_targets = 1},
                                  .items = items,
                                  .n_items = depth,
                                  .outputs = OT_OUT_HIDDEN,
                                  .max_segments = batch};
    ot_status status = ot_network_new(s->e->model, &options, &net, err);
    for (int64_t i = 0; status == OT_OK && i < s->n; i += batch) status = run_batch(s, net, i, i + batch < s->n ? i + batch : s->n, err);
    ot_network_free(net);
    ot_free(items);
    return status;
}

/* H X X^T H with H = 1 - 1/n, for every kept block: the Gram matrix of vectors whose mean was taken off. */
static void centre(survey *s) {
    int64_t n = s->n, d = s->width;
    for (int64_t k = 0; k < s->e->n_kept; k++) {
        double *x = s->pooled + k * n * d, *gram = s->grams + k * n * n;
        for (int64_t c = 0; c < d; c++) {
            double mean = 0;
            for (int64_t i = 0; i < n; i++) mean += x[i * d + c] / (double)n;
            for (int64_t i = 0; i < n; i++) x[i * d + c] -= mean;
        }
        for (int64_t i = 0; i < n; i++) {
            for (int64_t j = 0; j <= i; j++) {
                double sum = 0;
                for (int64_t c = 0; c < d; c++) sum += x[i * d + c] * x[j * d + c];
                gram[i * n + j] = gram[j * n + i] = sum;
            }
        }
    }
}

static ot_status measure(const ot_emulator *e, int64_t examples, int64_t tokens, double *similarity, ot_error *err) {
    int64_t width = e->model->desc.hidden_size, kept = e->n_kept, n = examples < e->text->rows ? examples : e->text->rows;
    survey s = {.e = e, .text = e->text, .n = n, .width = width, .tokens = tokens};
    ot_status status = ot_calloc(kept * n * width, sizeof *s.pooled, "pooled hidden states", (void **)&s.pooled, err);
    if (status == OT_OK) status = ot_calloc(kept * n * n, sizeof *s.grams, "similarities of blocks", (void **)&s.grams, err);
    if (status == OT_OK) status = run_text(&s, err);
    if (status == OT_OK) centre(&s);
    for (int64_t i = 0; status == OT_OK && i < kept; i++) {
        for (int64_t j = 0; j < kept; j++) similarity[i * kept + j] = ot_cka(s.grams + i * n * n, s.grams + j * n * n, n);
    }
    ot_free(s.pooled);
    ot_free(s.grams);
    return status;
}

/* ==== The step. ==== */

/* The kept block nearest to place i; of two as near, the later one. */
static int64_t nearest(const int64_t *centres, int64_t keep, int64_t i) {
    int64_t best = 0;
    for (int64_t k = 1; k < keep; k++) {
        int64_t distance = centres[k] < i ? i - centres[k] : centres[k] - i, least = centres[best] < i ? i - centres[best] : centres[best] - i;
        if (distance <= least) best = k;
    }
    return best;
}

static ot_status choose(ot_emulator *e, int64_t keep, int64_t examples, int64_t tokens, bool share, ot_error *err) {
    int64_t n = e->n_kept;
    double *similarity = ot_arena_alloc(&e->arena, n * n * (int64_t)sizeof *similarity, err);
    int64_t *centres = ot_arena_alloc(&e->arena, (n + 1) * (int64_t)sizeof *centres, err), *kept = ot_arena_alloc(&e->arena, n * 8, err);
    int64_t *places = ot_arena_alloc(&e->arena, n * (int64_t)sizeof *places, err);
    if (similarity == NULL || centres == NULL || kept == NULL || places == NULL) return OT_ERR_MEMORY;
    OT_TRY(measure(e, examples, tokens, similarity, err));
    ot_crash_clusters(similarity, n, keep, centres);
    centres[keep] = n;
    for (int64_t k = 0; k < keep; k++) centres[k] += (centres[k + 1] - centres[k]) / 2;
    for (int64_t i = 0; i < n; i++) places[i] = nearest(centres, keep, i);
    for (int64_t k = 0; k < keep; k++) kept[k] = e->kept[centres[k]];
    e->kept = kept;
    e->n_kept = keep;
    if (share && keep < n) {
        e->places = places;
        e->n_places = n;
    }
    return OT_OK;
}

static ot_status apply(ot_emulator *e, const ot_spec_step *step, ot_error *err) {
    const ot_spec_method *spec = &ot_emulator_crash.spec;
    const ot_spec_value *keep = ot_spec_get(step, spec, "keep");
    const char *share = ot_spec_get(step, spec, "share")->word;
    bool yes = strcmp(share, "yes") == 0;
    if (!yes && strcmp(share, "no") != 0) return ot_fail(err, OT_ERR_USAGE, "--emulator: crash: share is yes or no, not \"%s\"", share);
    OT_TRY(ot_emulator_need_list(e, "crash", err));
    if (!keep->given) return ot_fail(err, OT_ERR_USAGE, "--emulator: crash needs keep=K");
    if ((int64_t)keep->number > e->n_kept) {
        return ot_fail(err, OT_ERR_USAGE, "--emulator: crash: keep=%lld is more than the %lld block%s of the middle", (long long)keep->number,
                       (long long)e->n_kept, OT_PLURAL(e->n_kept));
    }
    if (e->model != NULL && e->model->desc.vision) return ot_fail(err, OT_ERR_USAGE, "--emulator: crash looks at text, and this model reads pictures");
    if (e->model == NULL || e->text == NULL || e->text->rows < 2) {
        return ot_fail(err, OT_ERR_USAGE, "--emulator: crash compares what the blocks make of a text: give at least two blocks of public text with --data FILE");
    }
    return choose(e, (int64_t)keep->number, (int64_t)ot_spec_get(step, spec, "examples")->number, (int64_t)ot_spec_get(step, spec, "tokens")->number, yes, err);
}

const ot_emulator_method ot_emulator_crash = {
    .spec = {.name = "crash",
             .help = "cluster adjacent blocks that do alike things to the text of --data, keep one of each; it runs again in place of the others",
             .keys =
                 (const ot_spec_key[]){
                     {"keep", OT_SPEC_INTEGER, NULL, 1, 100000, "how many blocks stay"},
                     {"share", OT_SPEC_WORD, "yes", 0, 0, "no: what left is skipped, as with layerdrop"},
                     {"examples", OT_SPEC_INTEGER, "128", 2, 512, "blocks of the text that are looked at, at most"},
                     {"tokens", OT_SPEC_INTEGER, "128", 2, 1 << 24, "tokens of each of them, from its beginning"},
                     {0},
                 }},
    .apply = apply,
};
