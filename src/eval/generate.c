#include "eval/generate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/count.h"
#include "base/file.h"
#include "base/parallel.h"
#include "base/rng.h"
#include "format/json.h"

enum { LANES = 16, PROMPT_ROWS = 512, GENERATION_CONFIG_LIMIT = 1 << 20 };

typedef struct lane {
    int64_t sequence;
    ot_cache_lane cache;
    int64_t read; /* tokens of the prompt that are in the cache */
    bool open;
} lane;

typedef struct generation {
    const ot_generate_options *options;
    const ot_prompt *prompts;
    int64_t n_prompts, vocab;
    ot_network *net;
    lane *lanes;
    int64_t n_lanes, lane_rows, rows;
    int64_t *asked; /* [lanes] the lane of each row of logits of this run */
    int64_t n_asked;
    ot_candidate *candidates;
    ot_generated *out;
} generation;

/* ==== Drawing one token. ==== */

static int32_t likeliest(const float *logits, int64_t n) {
    int64_t best = -1;
    for (int64_t i = 0; i < n; i++) {
        if (!isnan(logits[i]) && (best < 0 || logits[i] > logits[best])) best = i;
    }
    return (int32_t)best;
}

static int by_logit(const void *a, const void *b) {
    const ot_candidate *x = a, *y = b;
    if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* The k largest come first, by a quickselect over the candidates; their order does not matter yet. */
static void select_top(ot_candidate *c, int64_t n, int64_t k) {
    int64_t low = 0, high = n - 1;
    while (low < high) {
        ot_candidate pivot = c[low + (high - low) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (by_logit(&c[i], &pivot) < 0) i++;
            while (by_logit(&c[j], &pivot) > 0) j--;
            if (i > j) break;
            ot_candidate t = c[i];
            c[i++] = c[j];
            c[j--] = t;
        }
        if (k - 1 <= j) {
            high = j;
        } else if (k - 1 >= i) {
            low = i;
        } else {
            return;
        }
    }
}

/* What may be drawn, with weights and their sum. The order follows from the logits alone. */
static int64_t weigh(const float *logits, int64_t n, const ot_sampling *s, float largest, ot_candidate *c, double *sum) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!isnan(logits[i]) && logits[i] > -INFINITY) c[count++] = (ot_candidate){.logit = logits[i], .id = (int32_t)i};
    }
    if (s->top_k > 0 && s->top_k < count) {
        select_top(c, count, s->top_k);
        count = s->top_k;
    }
    *sum = 0;
    for (int64_t i = 0; i < count; i++) {
        c[i].weight = exp(((double)c[i].logit - (double)largest) / s->temperature);
        *sum += c[i].weight;
    }
    if (s->top_p >= 1.0) return count;
    /* All that are rarer than this have less than 1 - top_p together, so the ones to keep are among the others. */
    double rare = (1.0 - s->top_p) * *sum / (double)count;
    int64_t common = 0;
    for (int64_t i = 0; i < count; i++) {
        if (c[i].weight >= rare) c[common++] = c[i];
    }
    qsort(c, (size_t)common, sizeof *c, by_logit);
    double kept = 0;
    int64_t keep = 0;
    while (keep < common && (keep == 0 || kept < s->top_p * *sum)) kept += c[keep++].weight;
    *sum = kept;
    return keep;
}

ot_status ot_sample(const float *logits, int64_t n, const ot_sampling *s, int64_t sequence, int64_t draw, ot_candidate *scratch, int32_t *id,
                    ot_error *err) {
    int32_t best = likeliest(logits, n);
    if (best < 0 || !isfinite(logits[best])) {
        return ot_fail(err, OT_ERR_NUMERIC, "the logits are not finite: the model's weights are damaged or the dtype is too narrow");
    }
    *id = best;
    if (s->temperature <= 0) return OT_OK;
    double sum = 0;
    int64_t count = weigh(logits, n, s, logits[best], scratch, &sum);
    ot_rng rng;
    ot_rng_seed(&rng, ot_rng_hash(ot_rng_hash(s->seed, (uint64_t)sequence), (uint64_t)draw));
    double point = ot_rng_uniform(&rng) * sum;
    for (int64_t i = 0; i < count; i++) {
        *id = scratch[i].id;
        point -= scratch[i].weight;
        if (point < 0) break;
    }
    return OT_OK;
}

/* ==== Setting up. ==== */

int64_t ot_generate_room(const ot_desc *d, const ot_hooks *hooks, int64_t count) {
    if (d->position != OT_POSITION_LEARNED) return -1;
    /* The last new token is not read again, so it needs no position. */
    int64_t room = d->max_positions - ot_hooks_front(hooks) - count + 1;
    return room > 0 ? room : 0;
}

static ot_status check_prompts(const ot_model *m, const ot_prompt *prompts, int64_t n, const ot_generate_options *o, ot_error *err) {
    for (int64_t i = 0; i < n; i++) {
        if (prompts[i].count < 1) return ot_fail(err, OT_ERR_REFUSED, "prompt %lld is empty: generation needs at least one token", (long long)i);
        int64_t room = ot_generate_room(&m->desc, o->hooks, prompts[i].count);
        if (room >= 0 && o->max_new > room) {
            return ot_fail(err, OT_ERR_REFUSED, "prompt %lld of %lld token%s with %lld new ones is longer than the %lld positions that the model has",
                           (long long)i, (long long)prompts[i].count, OT_PLURAL(prompts[i].count), (long long)o->max_new, (long long)m->desc.max_positions);
        }
    }
    return OT_OK;
}

static ot_status make_network(generation *g, const ot_model *m, ot_error *err) {
    const ot_generate_options *o = g->options;
    int64_t longest = 0, all = 0, most = o->prompt_rows > 0 ? o->prompt_rows : PROMPT_ROWS, kept = 0;
    g->n_lanes = o->lanes > 0 ? o->lanes : LANES;
    if (g->n_lanes > g->n_prompts) g->n_lanes = g->n_prompts;
    for (int64_t i = 0; i < g->n_prompts; i++) {
        if (g->prompts[i].count > longest) longest = g->prompts[i].count;
    }
    if (!ot_mul_i64(longest, g->n_lanes, &all) || !ot_add_i64(longest + ot_hooks_virtual(o->hooks), o->max_new, &g->lane_rows) ||
        !ot_mul_i64(g->lane_rows, g->n_lanes, &kept) || kept > INT32_MAX / 4) {
        return ot_fail(err, OT_ERR_USAGE, "%lld sequences of %lld tokens and %lld new ones are too many for one cache", (long long)g->n_lanes,
                       (long long)longest, (long long)o->max_new);
    }
    g->rows = all < most ? all : most;
    if (g->rows < g->n_lanes) g->rows = g->n_lanes;
    ot_network_options options = {
        .plan = {.backend = o->backend, .compute = o->compute, .max_rows = g->rows, .max_targets = g->n_lanes, .max_kept = kept},
        .hooks = o->hooks,
        .outputs = OT_OUT_TARGET_LOGITS,
        .max_segments = g->n_lanes,
    };
    return ot_network_new(m, &options, &g->net, err);
}

static ot_status allocate(generation *g, ot_error *err) {
    int64_t new_ids = 0;
    if (!ot_mul_i64(g->n_prompts, g->options->max_new, &new_ids)) return ot_fail(err, OT_ERR_USAGE, "--max-new is impossibly large");
    OT_TRY(ot_calloc(new_ids, 4, "new tokens", (void **)&g->out->ids, err));
    OT_TRY(ot_calloc(g->n_prompts, 8, "new tokens", (void **)&g->out->counts, err));
    OT_TRY(ot_calloc(g->n_lanes, sizeof *g->lanes, "sequences", (void **)&g->lanes, err));
    OT_TRY(ot_calloc(g->n_lanes, sizeof *g->asked, "sequences", (void **)&g->asked, err));
    if (g->options->sampling.temperature > 0) {
        OT_TRY(ot_malloc(g->vocab, sizeof *g->candidates, "candidates", (void **)&g->candidates, err));
    }
    return OT_OK;
}

/* ==== Running. ==== */

/* The next piece of one prompt, as far as the batch has room. */
static ot_status add_prompt(generation *g, lane *l, int64_t room, ot_error *err) {
    const ot_prompt *p = &g->prompts[l->sequence];
    int64_t count = p->count - l->read < room ? p->count - l->read : room;
    bool last = l->read + count == p->count;
    const int32_t *ids = p->ids + l->read;
    int32_t *targets = NULL;
    if (last) {
        OT_TRY(ot_malloc(count, 4, "targets", (void **)&targets, err));
        for (int64_t t = 0; t < count; t++) targets[t] = -1;
        /* Any id: it marks the row whose logits are wanted. */
        targets[count - 1] = ids[count - 1];
    }
    ot_status status = ot_network_add(g->net, ids, NULL, targets, count, &l->cache, err);
    ot_free(targets);
    if (status == OT_OK) l->read += count;
    if (status == OT_OK && last) g->asked[g->n_asked++] = l - g->lanes;
    return status;
}

static bool ends(const ot_generate_options *o, int32_t id) {
    for (int64_t i = 0; i < o->n_end_ids; i++) {
        if (o->end_ids[i] == id) return true;
    }
    return false;
}

/* Draw one token for each sequence whose logits this run gave. */
static ot_status take_tokens(generation *g, ot_error *err) {
    const ot_generate_options *o = g->options;
    const float *logits = ot_network_logits(g->net);
    for (int64_t i = 0; i < g->n_asked; i++) {
        lane *l = &g->lanes[g->asked[i]];
        int64_t *count = &g->out->counts[l->sequence];
        int32_t id = 0;
        OT_TRY(ot_sample(logits + i * g->vocab, g->vocab, &o->sampling, l->sequence, *count, g->candidates, &id, err));
        g->out->ids[l->sequence * o->max_new + (*count)++] = id;
        g->out->new_tokens++;
        bool wanted = o->token == NULL || o->token(o->context, l->sequence, id);
        l->open = wanted && *count < o->max_new && !ends(o, id);
    }
    return OT_OK;
}

static ot_status run(generation *g, double *seconds, ot_error *err) {
    double start = ot_seconds();
    OT_TRY(ot_network_run(g->net, &(ot_run_options){0}, NULL, err));
    *seconds += ot_seconds() - start;
    return take_tokens(g, err);
}

static void clear(generation *g) {
    ot_network_clear(g->net);
    g->n_asked = 0;
}

/* Sequences [first, first + n): prompts into the cache, a first token for each. */
static ot_status read_prompts(generation *g, int64_t first, int64_t n, ot_error *err) {
    for (int64_t i = 0; i < n; i++) {
        g->lanes[i] = (lane){.sequence = first + i, .cache = {.first_row = i * g->lane_rows}};
        g->out->prompt_tokens += g->prompts[first + i].count;
    }
    for (int64_t i = 0; i < n;) {
        clear(g);
        while (i < n && ot_network_rows(g->net) < g->rows) {
            OT_TRY(add_prompt(g, &g->lanes[i], g->rows - ot_network_rows(g->net), err));
            if (g->lanes[i].read == g->prompts[first + i].count) i++;
        }
        OT_TRY(run(g, &g->out->prompt_seconds, err));
    }
    return OT_OK;
}

/* One token more for every sequence that is open; *any tells whether there was one. */
static ot_status step(generation *g, int64_t n, bool *any, ot_error *err) {
    clear(g);
    for (int64_t i = 0; i < n; i++) {
        lane *l = &g->lanes[i];
        if (!l->open) continue;
        int32_t id = g->out->ids[l->sequence * g->options->max_new + g->out->counts[l->sequence] - 1];
        OT_TRY(ot_network_add(g->net, &id, NULL, &id, 1, &l->cache, err));
        g->asked[g->n_asked++] = i;
    }
    *any = g->n_asked > 0;
    return *any ? run(g, &g->out->new_seconds, err) : OT_OK;
}

static ot_status run_all(generation *g, ot_error *err) {
    for (int64_t first = 0; first < g->n_prompts; first += g->n_lanes) {
        int64_t n = g->n_prompts - first < g->n_lanes ? g->n_prompts - first : g->n_lanes;
        OT_TRY(read_prompts(g, first, n, err));
        for (bool any = true; any;) OT_TRY(step(g, n, &any, err));
    }
    return OT_OK;
}

ot_status ot_generate(const ot_model *m, const ot_prompt *prompts, int64_t n_prompts, const ot_generate_options *options, ot_generated *out,
                      ot_error *err) {
    *out = (ot_generated){0};
    if (n_prompts < 1 || options->max_new < 1) return ot_fail(err, OT_ERR_USAGE, "generation needs a prompt and at least one new token");
    OT_TRY(check_prompts(m, prompts, n_prompts, options, err));
    generation g = {.options = options, .prompts = prompts, .n_prompts = n_prompts, .vocab = m->desc.vocab_size, .out = out};
    ot_status status = make_network(&g, m, err);
    if (status == OT_OK) status = allocate(&g, err);
    if (status == OT_OK) {
        out->bytes = ot_network_bytes(g.net);
        status = run_all(&g, err);
    }
    ot_network_free(g.net);
    ot_free(g.lanes);
    ot_free(g.asked);
    ot_free(g.candidates);
    if (status != OT_OK) ot_generated_free(out);
    return status;
}

void ot_generated_free(ot_generated *g) {
    ot_free(g->ids);
    ot_free(g->counts);
    *g = (ot_generated){0};
}

/* ==== What ends a text. ==== */

static int64_t take_ids(const json_t *value, int64_t vocab, int32_t *ids, int64_t room) {
    int64_t n = 0;
    size_t count = json_is_array(value) ? json_array_size(value) : 1;
    for (size_t i = 0; i < count && n < room; i++) {
        const json_t *item = json_is_array(value) ? json_array_get(value, i) : value;
        json_int_t id = json_is_integer(item) ? json_integer_value(item) : -1;
        if (id >= 0 && id < vocab) ids[n++] = (int32_t)id;
    }
    return n;
}

ot_status ot_generate_end_ids(const ot_model *m, int32_t *ids, int64_t room, int64_t *count, ot_error *err) {
    char path[4096];
    *count = 0;
    if (ot_path_is_dir(m->path) && ot_path_join(path, sizeof path, m->path, "generation_config.json") && ot_path_exists(path)) {
        json_t *json = NULL;
        OT_TRY(ot_json_read(path, GENERATION_CONFIG_LIMIT, &json, err));
        *count = take_ids(json_object_get(json, "eos_token_id"), m->desc.vocab_size, ids, room);
        json_decref(json);
    }
    if (*count == 0) *count = take_ids(json_object_get(m->config, "eos_token_id"), m->desc.vocab_size, ids, room);
    if (*count == 0 && room > 0 && m->desc.eos_id >= 0 && m->desc.eos_id < m->desc.vocab_size) ids[(*count)++] = (int32_t)m->desc.eos_id;
    return OT_OK;
}
