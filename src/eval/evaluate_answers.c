/* GENERATE tasks: greedy decoding of every context up to a stop, then exact comparison with the answers. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/parallel.h"
#include "eval/evaluate_internal.h"
#include "eval/generate.h"

enum { MAX_END_IDS = 16, ROOM_FOR_PARTS = 8 };

typedef struct decoding {
    ot_eval_run *run;
    ot_prompt *prompts;
    int32_t *ids; /* [n, max_tokens] */
    int64_t *counts;
    int32_t end_ids[MAX_END_IDS];
    int64_t n_end_ids;
    int64_t longest_stop; /* bytes */
    int64_t done;
    ot_status status;
    ot_error *err;
} decoding;

static bool contains(const char *text, size_t size, const char *wanted) {
    size_t n = strlen(wanted);
    for (size_t at = 0; n > 0 && at + n <= size; at++) {
        if (memcmp(text + at, wanted, n) == 0) return true;
    }
    return false;
}

/* Whether a stop is complete: it ends in the newest token, so the last few are looked at. */
static bool stopped(decoding *d, const int32_t *ids, int64_t count) {
    const ot_task_generation *g = d->run->task->generation;
    int64_t from = count - d->longest_stop - ROOM_FOR_PARTS;
    char *text = NULL;
    size_t size = 0;
    bool found = false;
    if (from < 0) from = 0;
    d->status = ot_tokenizer_decode(d->run->tokenizer, ids + from, count - from, true, &text, &size, d->err);
    for (int64_t i = 0; d->status == OT_OK && i < g->n_until && !found; i++) found = contains(text, size, g->until[i]);
    ot_free(text);
    return found || d->status != OT_OK;
}

static bool take_token(void *context, int64_t sequence, int32_t id) {
    decoding *d = context;
    const ot_eval_run *r = d->run;
    int64_t most = r->task->generation->max_tokens;
    int32_t *ids = d->ids + sequence * most;
    ids[d->counts[sequence]++] = id;
    bool end = d->counts[sequence] == most;
    for (int64_t i = 0; i < d->n_end_ids; i++) end = end || d->end_ids[i] == id;
    end = end || stopped(d, ids, d->counts[sequence]);
    if (end && r->score.observe != NULL) r->score.observe(r->score.context, ++d->done, r->n);
    return !end;
}

/* ==== From texts to prompts and back. ==== */

static ot_status make_prompt(decoding *d, int64_t i, ot_error *err) {
    ot_eval_run *r = d->run;
    const ot_row *row = ot_task_set_row(r->set, i);
    int64_t room = r->score.max_length - r->task->generation->max_tokens, n = 0;
    int32_t *ids = NULL;
    if (room < 1) {
        return ot_fail(err, OT_ERR_REFUSED,
                       "%s: answers of %" PRId64 " tokens leave no room for a question in the %" PRId64
                       " that the model can be fed: give a smaller max_gen_toks",
                       r->task->name, r->task->generation->max_tokens, r->score.max_length);
    }
    OT_TRY(ot_encode_text(&r->encoder, r->docs[i].context, &ids, &n, err));
    int64_t kept = n < room ? n : room;
    int32_t *copy = ot_arena_alloc(&r->arena, (kept + 1) * (int64_t)sizeof *copy, err);
    if (copy != NULL && kept > 0) memcpy(copy, ids + n - kept, (size_t)kept * sizeof *copy);
    ot_free(ids);
    if (copy == NULL) return OT_ERR_MEMORY;
    if (kept == 0 && r->encoder.prefix < 0)
        return ot_fail(err, OT_ERR_FORMAT, "%s:%" PRId64 ": the question is empty", row->path, row->line);
    if (kept == 0) copy[kept++] = r->encoder.prefix;
    d->prompts[i] = (ot_prompt){.ids = copy, .count = kept};
    return OT_OK;
}

/* Before the first of each stop, in their order, as the harness cuts. */
static ot_str before_stops(const ot_task_generation *g, ot_str s) {
    for (int64_t i = 0; i < g->n_until; i++) {
        int64_t n = (int64_t)strlen(g->until[i]);
        for (int64_t at = 0; n > 0 && at + n <= s.size; at++) {
            if (memcmp(s.text + at, g->until[i], (size_t)n) != 0) continue;
            s.size = at;
            break;
        }
    }
    return s;
}

/* string.punctuation and string.digits. */
static bool ignored(const ot_task_generation *g, char c) {
    return (g->ignore_punctuation && c != '\0' && strchr("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", c) != NULL) ||
           (g->ignore_numbers && c >= '0' && c <= '9');
}

static ot_status comparable(const ot_task_generation *g, ot_str s, ot_arena *arena, ot_str *out, ot_error *err) {
    if (g->ignore_case) OT_TRY(ot_py_lower(arena, s, &s, err));
    char *text = ot_arena_alloc(arena, s.size + 1, err);
    if (text == NULL) return OT_ERR_MEMORY;
    int64_t size = 0;
    for (int64_t i = 0; i < s.size; i++) {
        if (!ignored(g, s.text[i])) text[size++] = s.text[i];
    }
    *out = (ot_str){text, size};
    return OT_OK;
}

static ot_status judge(ot_eval_run *r, int64_t i, ot_error *err) {
    const ot_task_generation *g = r->task->generation;
    ot_eval_answer *a = &r->answers[i];
    ot_arena arena = {0};
    ot_str written, wanted;
    ot_status status = comparable(g, a->filtered, &arena, &written, err);
    for (int64_t k = 0; status == OT_OK && k < r->docs[i].n_choices && !a->right; k++) {
        status = comparable(g, r->docs[i].choices[k], &arena, &wanted, err);
        a->right = status == OT_OK && ot_str_equal(written, wanted);
    }
    ot_arena_free(&arena);
    return status;
}

static ot_status read_answer(decoding *d, int64_t i, ot_error *err) {
    ot_eval_run *r = d->run;
    const ot_task_generation *g = r->task->generation;
    ot_eval_answer *a = &r->answers[i];
    char *text = NULL;
    size_t size = 0;
    OT_TRY(ot_tokenizer_decode(r->tokenizer, d->ids + i * g->max_tokens, d->counts[i], true, &text, &size, err));
    ot_str s = before_stops(g, (ot_str){text, (int64_t)size});
    ot_status status = ot_str_join(&r->arena, &s, 1, &a->written, err);
    ot_free(text);
    OT_TRY(status);
    a->filtered = g->strip ? ot_py_strip(a->written) : a->written;
    if (g->lower) OT_TRY(ot_py_lower(&r->arena, a->filtered, &a->filtered, err));
    return judge(r, i, err);
}

/* ==== Running. ==== */

static ot_status find_ends(decoding *d, ot_error *err) {
    const ot_eval_run *r = d->run;
    OT_TRY(ot_generate_end_ids(r->model, d->end_ids, MAX_END_IDS - 1, &d->n_end_ids, err));
    if (ot_tokenizer_eos(r->tokenizer) >= 0) d->end_ids[d->n_end_ids++] = ot_tokenizer_eos(r->tokenizer);
    for (int64_t i = 0; i < r->task->generation->n_until; i++) {
        int64_t n = (int64_t)strlen(r->task->generation->until[i]);
        if (n > d->longest_stop) d->longest_stop = n;
    }
    return OT_OK;
}

static ot_status decode_all(decoding *d, ot_error *err) {
    ot_eval_run *r = d->run;
    int64_t most = r->task->generation->max_tokens, all = 0;
    ot_generated generated = {0};
    for (int64_t i = 0; i < r->n; i++) OT_TRY(make_prompt(d, i, err));
    OT_TRY(find_ends(d, err));
    if (!ot_mul_i64(r->n, most, &all)) return ot_fail(err, OT_ERR_REFUSED, "%s: too many documents", r->task->name);
    OT_TRY(ot_malloc(all, sizeof *d->ids, "answers", (void **)&d->ids, err));
    OT_TRY(ot_calloc(r->n, sizeof *d->counts, "answers", (void **)&d->counts, err));
    ot_generate_options options = {.backend = r->score.backend,
                                   .compute = r->score.compute,
                                   .hooks = r->score.hooks,
                                   .max_new = most,
                                   .end_ids = d->end_ids,
                                   .n_end_ids = d->n_end_ids,
                                   .token = take_token,
                                   .context = d};
    double start = ot_seconds();
    OT_TRY(ot_generate(r->model, d->prompts, r->n, &options, &generated, err));
    r->out->cost.seconds += ot_seconds() - start;
    r->out->cost.tokens += generated.prompt_tokens + generated.new_tokens;
    r->out->cost.rows += generated.prompt_tokens + generated.new_tokens;
    r->out->cost.targets += generated.new_tokens;
    if (generated.bytes > r->out->cost.bytes) r->out->cost.bytes = generated.bytes;
    ot_generated_free(&generated);
    return d->status;
}

ot_status ot_eval_answer_docs(ot_eval_run *r, ot_error *err) {
    decoding d = {.run = r, .err = err};
    OT_TRY(ot_calloc(r->n, sizeof *r->answers, "answers", (void **)&r->answers, err));
    ot_status status = ot_calloc(r->n, sizeof *d.prompts, "prompts", (void **)&d.prompts, err);
    if (status == OT_OK) status = decode_all(&d, err);
    for (int64_t i = 0; status == OT_OK && i < r->n; i++) status = read_answer(&d, i, err);
    ot_free(d.prompts);
    ot_free(d.ids);
    ot_free(d.counts);
    return status;
}
