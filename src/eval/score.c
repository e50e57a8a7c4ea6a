#include "eval/score.h"

#include <math.h>
#include <string.h>

#include "base/parallel.h"

enum { BATCH_ROWS = 1024 };

/* A request as it is fed: the last input tokens, of which the last n_scored predict the continuation. */
typedef struct input {
    const int32_t *ids; /* [length + 1]: what position t predicts is ids[t + 1] */
    int64_t length, n_scored;
} input;

typedef struct group {
    int64_t first, count; /* requests */
    int64_t stem;         /* tokens that all inputs begin with, when they share them */
    int64_t rows, targets, segments;
} group;

typedef struct scoring {
    ot_score_request *requests;
    const ot_score_options *options;
    group *groups;
    int64_t n_groups;
    ot_network *net;
    int64_t *owner; /* [targets of a batch] request of each target */
    float *loss, *margin;
    int32_t *marks; /* [longest input] targets of the sequence being added */
} scoring;

int64_t ot_score_max_length(const ot_model *m, const ot_hooks *hooks) {
    enum { WITHOUT_LIMIT = 2048 };
    int64_t front = ot_hooks_front(hooks);
    if (m->desc.position == OT_POSITION_LEARNED) return m->desc.max_positions - front;
    bool told = json_object_get(m->config, "max_position_embeddings") != NULL || m->desc.position == OT_POSITION_ROPE;
    return told ? m->desc.max_positions : WITHOUT_LIMIT;
}

static input input_of(const scoring *s, int64_t request) {
    const ot_score_request *r = &s->requests[request];
    int64_t length = r->n_context + r->n_continuation - 1, most = s->options->max_length;
    int64_t fed = length < most ? length : most;
    return (input){.ids = r->ids + length - fed, .length = fed, .n_scored = r->n_continuation};
}

static ot_status check_request(const scoring *s, int64_t i, ot_error *err) {
    const ot_score_request *r = &s->requests[i];
    if (r->n_context < 1 || r->n_continuation < 1) return ot_fail(err, OT_ERR_USAGE, "a request needs a context and a continuation of one token at least");
    if (r->n_continuation <= s->options->max_length) return OT_OK;
    return ot_fail(err, OT_ERR_REFUSED, "a continuation of %lld tokens is longer than the %lld that the model can be fed", (long long)r->n_continuation,
                   (long long)s->options->max_length);
}

/* ==== Planning. ==== */

static int64_t common_length(const scoring *s, int64_t first, int64_t count) {
    input a = input_of(s, first);
    int64_t common = a.length;
    for (int64_t i = 1; i < count; i++) {
        input b = input_of(s, first + i);
        int64_t n = 0;
        while (n < common && n < b.length && a.ids[n] == b.ids[n]) n++;
        common = n;
    }
    return common;
}

static void add_group(scoring *s, int64_t first, int64_t count) {
    group g = {.first = first, .count = count};
    g.stem = count > 1 ? common_length(s, first, count) : 0;
    if (g.stem > 0) {
        g.rows = g.stem;
        g.segments = 1;
    }
    for (int64_t i = first; i < first + count; i++) {
        input in = input_of(s, i);
        g.rows += in.length - g.stem;
        g.targets += in.n_scored;
        g.segments += in.length > g.stem;
    }
    s->groups[s->n_groups++] = g;
}

static void make_groups(scoring *s, int64_t n) {
    for (int64_t i = 0; i < n;) {
        int64_t count = 1;
        while (!s->options->no_sharing && i + count < n && s->requests[i + count].group == s->requests[i].group) count++;
        add_group(s, i, count);
        i += count;
    }
}

/* Groups [from, *to) are the next batch. */
static group next_batch(const scoring *s, int64_t from, int64_t *to) {
    int64_t most = s->options->rows > 0 ? s->options->rows : BATCH_ROWS;
    group all = s->groups[from];
    int64_t at = from + 1;
    for (; at < s->n_groups && all.rows + s->groups[at].rows <= most; at++) {
        all.rows += s->groups[at].rows;
        all.targets += s->groups[at].targets;
        all.segments += s->groups[at].segments;
        all.count += s->groups[at].count;
    }
    *to = at;
    return all;
}

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

static ot_status make_network(scoring *s, const ot_model *m, ot_error *err) {
    group largest = {0};
    for (int64_t at = 0; at < s->n_groups;) {
        group batch = next_batch(s, at, &at);
        largest.rows = larger(largest.rows, batch.rows);
        largest.targets = larger(largest.targets, batch.targets);
        largest.segments = larger(largest.segments, batch.segments);
    }
    if (largest.rows > INT32_MAX / 2) return ot_fail(err, OT_ERR_REFUSED, "an input of %lld tokens is too long to be scored at once", (long long)largest.rows);
    ot_network_options options = {
        .plan = {.backend = s->options->backend, .compute = s->options->compute, .max_rows = largest.rows, .max_targets = largest.targets},
        .hooks = s->options->hooks,
        .outputs = OT_OUT_LOSS,
        .sums16 = true,
        .max_segments = largest.segments,
    };
    OT_TRY(ot_malloc(largest.targets, sizeof *s->owner, "targets", (void **)&s->owner, err));
    OT_TRY(ot_malloc(largest.targets, sizeof *s->loss, "targets", (void **)&s->loss, err));
    OT_TRY(ot_malloc(largest.targets, sizeof *s->margin, "targets", (void **)&s->margin, err));
    OT_TRY(ot_malloc(largest.rows, sizeof *s->marks, "targets", (void **)&s->marks, err));
    return ot_network_new(m, &options, &s->net, err);
}

/* ==== Filling a batch. ==== */

/* Targets of positions [from, length) of an input; returns how many. */
static int64_t mark(scoring *s, const input *in, int64_t from) {
    int64_t marked = 0;
    for (int64_t t = from; t < in->length; t++) {
        bool scored = t >= in->length - in->n_scored;
        s->marks[t - from] = scored ? in->ids[t + 1] : -1;
        marked += scored;
    }
    return marked;
}

static void own(scoring *s, int64_t request, int64_t count, int64_t *used) {
    for (int64_t i = 0; i < count; i++) s->owner[(*used)++] = request;
}

/* The common beginning, with what its positions predict for each request: position after position, as targets go. */
static ot_status add_stem(scoring *s, const group *g, int64_t *used, ot_error *err) {
    OT_TRY(ot_network_add(s->net, input_of(s, g->first).ids, NULL, NULL, g->stem, NULL, err));
    for (int64_t t = 0; t < g->stem; t++) {
        for (int64_t i = g->first; i < g->first + g->count; i++) {
            input in = input_of(s, i);
            if (t < in.length - in.n_scored) continue;
            OT_TRY(ot_network_add_target(s->net, t, in.ids[t + 1], err));
            own(s, i, 1, used);
        }
    }
    return OT_OK;
}

static ot_status add_to_batch(scoring *s, const group *g, int64_t *segments, int64_t *used, ot_error *err) {
    int64_t stem = *segments;
    if (g->stem > 0) {
        OT_TRY(add_stem(s, g, used, err));
        (*segments)++;
    }
    for (int64_t i = g->first; i < g->first + g->count; i++) {
        input in = input_of(s, i);
        if (in.length == g->stem) continue;
        int64_t marked = mark(s, &in, g->stem), count = in.length - g->stem;
        const int32_t *ids = in.ids + g->stem;
        OT_TRY(g->stem > 0 ? ot_network_add_branch(s->net, stem, ids, s->marks, count, err)
                           : ot_network_add(s->net, ids, NULL, s->marks, count, NULL, err));
        (*segments)++;
        own(s, i, marked, used);
    }
    return OT_OK;
}

static ot_status collect(scoring *s, int64_t targets, ot_error *err) {
    for (int64_t i = 0; i < targets; i++) {
        ot_score_request *r = &s->requests[s->owner[i]];
        if (!isfinite(s->loss[i])) {
            return ot_fail(err, OT_ERR_NUMERIC, "a log-likelihood is %g: the model's weights are damaged or the dtype is too narrow", -(double)s->loss[i]);
        }
        r->loglikelihood -= (double)s->loss[i];
        r->greedy = r->greedy && s->margin[i] <= 0;
    }
    return OT_OK;
}

static ot_status run_batch(scoring *s, int64_t from, int64_t to, ot_error *err) {
    int64_t segments = 0, used = 0;
    ot_network_clear(s->net);
    for (int64_t g = from; g < to; g++) OT_TRY(add_to_batch(s, &s->groups[g], &segments, &used, err));
    ot_run_options run = {.target_loss = s->loss, .target_margin = s->margin};
    OT_TRY(ot_network_run(s->net, &run, NULL, err));
    return collect(s, used, err);
}

static ot_status run_all(scoring *s, int64_t n, ot_score_cost *cost, ot_error *err) {
    int64_t done = 0;
    for (int64_t from = 0, to; from < s->n_groups; from = to) {
        group batch = next_batch(s, from, &to);
        OT_TRY(run_batch(s, from, to, err));
        done += batch.count;
        cost->rows += batch.rows;
        cost->targets += batch.targets;
        if (s->options->observe != NULL) s->options->observe(s->options->context, done, n);
    }
    return OT_OK;
}

ot_status ot_score(const ot_model *m, ot_score_request *requests, int64_t n, const ot_score_options *options, ot_score_cost *cost, ot_error *err) {
    scoring s = {.requests = requests, .options = options};
    ot_score_cost spent = {0};
    double start = ot_seconds();
    if (n == 0) return OT_OK;
    for (int64_t i = 0; i < n; i++) {
        OT_TRY(check_request(&s, i, err));
        requests[i].loglikelihood = 0;
        requests[i].greedy = true;
        spent.tokens += input_of(&s, i).length;
    }
    ot_status status = ot_calloc(n, sizeof *s.groups, "requests", (void **)&s.groups, err);
    if (status == OT_OK) {
        make_groups(&s, n);
        status = make_network(&s, m, err);
    }
    if (status == OT_OK) {
        spent.bytes = ot_network_bytes(s.net);
        status = run_all(&s, n, &spent, err);
    }
    ot_network_free(s.net);
    ot_free(s.groups);
    ot_free(s.owner);
    ot_free(s.loss);
    ot_free(s.margin);
    ot_free(s.marks);
    if (cost != NULL) {
        cost->tokens += spent.tokens;
        cost->rows += spent.rows;
        cost->targets += spent.targets;
        cost->bytes = larger(cost->bytes, spent.bytes);
        cost->seconds += ot_seconds() - start;
    }
    return status;
}
