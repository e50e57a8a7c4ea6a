#include "eval/evaluate.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "base/count.h"
#include "eval/evaluate_internal.h"

static ot_status add_request(ot_eval_run *r, const int32_t *ids, int64_t n_context, int64_t n_continuation, int64_t group,
                             ot_error *err) {
    OT_TRY(ot_grow((void **)&r->requests, &r->capacity, r->n_requests + 1, sizeof *r->requests, "requests", err));
    r->requests[r->n_requests++] =
        (ot_score_request){.ids = ids, .n_context = n_context, .n_continuation = n_continuation, .group = group};
    return OT_OK;
}

/* ==== From documents to requests. ==== */

static ot_status request_choices(ot_eval_run *r, int64_t d, ot_error *err) {
    ot_encoded *encoded = NULL;
    const ot_row *row = ot_task_set_row(r->set, d);
    ot_status status = ot_encode_choices(&r->encoder, &r->docs[d], &r->arena, &encoded, err);
    if (status != OT_OK) return ot_error_prefix(err, "%s:%" PRId64, row->path, row->line);
    for (int64_t i = 0; i < r->docs[d].n_choices; i++) {
        if (encoded[i].n_continuation > r->score.max_length) {
            return ot_fail(err, OT_ERR_REFUSED,
                           "%s:%" PRId64 ": an answer of %" PRId64 " tokens is longer than the %" PRId64 " that the model can be fed: leave the row out", row->path, row->line, encoded[i].n_continuation, r->score.max_length);
        }
        OT_TRY(add_request(r, encoded[i].ids, encoded[i].n_context, encoded[i].n_continuation, d, err));
    }
    return OT_OK;
}

/* The first window predicts from the prefix token alone, each later one from as many tokens as can be fed; every token is
 * predicted once. */
static ot_status request_windows(ot_eval_run *r, int64_t d, ot_error *err) {
    int32_t *ids = NULL;
    int64_t n = 0, length = r->score.max_length;
    if (r->encoder.prefix < 0)
        return ot_fail(err, OT_ERR_UNSUPPORTED, "%s needs a tokenizer with a token that begins or ends a text", r->task->name);
    OT_TRY(ot_encode_text(&r->encoder, r->docs[d].page, &ids, &n, err));
    int32_t *kept = ot_arena_alloc(&r->arena, (n + 1) * (int64_t)sizeof *kept, err);
    if (kept != NULL && n > 0) memcpy(kept + 1, ids, (size_t)n * sizeof *kept);
    ot_free(ids);
    if (kept == NULL) return OT_ERR_MEMORY;
    kept[0] = r->encoder.prefix;
    for (int64_t begin = 0; begin < n;) {
        int64_t end = begin + length < n ? begin + length : n, fed = begin == 0 ? end : length;
        OT_TRY(add_request(r, kept + end - fed, fed + 1 - (end - begin), end - begin, r->n_requests, err));
        begin = end;
    }
    return OT_OK;
}

static ot_status request_docs(ot_eval_run *r, ot_error *err) {
    r->n = ot_task_set_count(r->set);
    OT_TRY(ot_calloc(r->n, sizeof *r->docs, "documents", (void **)&r->docs, err));
    OT_TRY(ot_calloc(r->n + 1, sizeof *r->first, "documents", (void **)&r->first, err));
    for (int64_t d = 0; d < r->n; d++) {
        OT_TRY(ot_task_set_doc(r->set, d, &r->arena, &r->docs[d], err));
        if (r->task->kind == OT_TASK_ROLLING) OT_TRY(request_windows(r, d, err));
        if (r->task->kind == OT_TASK_CHOICE || r->task->kind == OT_TASK_TARGET) OT_TRY(request_choices(r, d, err));
        r->first[d + 1] = r->n_requests;
    }
    return OT_OK;
}

/* BLOCKS: the text of all rows, tokenised without special tokens and cut; each block is a document. */
static ot_status request_blocks(ot_eval_run *r, ot_error *err) {
    int64_t block = r->options->block > 0 ? r->options->block : OT_BLOCK_TOKENS, limit = r->options->data.limit, all = 0;
    for (int64_t d = 0; d < ot_task_set_count(r->set); d++) {
        const ot_row *row = ot_task_set_row(r->set, d);
        ot_task_doc doc;
        int32_t *ids = NULL;
        int64_t n = 0;
        OT_TRY(ot_task_set_doc(r->set, d, &r->arena, &doc, err));
        OT_TRY(ot_tokenizer_encode(r->encoder.tokenizer, doc.page.text, (size_t)doc.page.size, false, &ids, &n, err));
        int32_t *kept = ot_arena_alloc(&r->arena, n * (int64_t)sizeof *kept + 1, err);
        if (kept != NULL && n > 0) memcpy(kept, ids, (size_t)n * sizeof *kept);
        ot_free(ids);
        if (kept == NULL) return OT_ERR_MEMORY;
        if (n < block) {
            return ot_fail(err, OT_ERR_REFUSED,
                           "%s has %" PRId64 " token%s, fewer than one block of %" PRId64 ": use a smaller --block or more text",
                           row->path, n, OT_PLURAL(n), block);
        }
        all += n / block;
        for (int64_t b = 0; b < n / block && (limit == 0 || r->n_requests < limit); b++) {
            OT_TRY(add_request(r, kept + b * block, 1, block - 1, r->n_requests, err));
        }
    }
    r->out->original = all;
    r->n = r->n_requests;
    return OT_OK;
}

/* ==== Counting. ==== */

static double length_of(ot_str choice, unsigned metric) {
    return metric == OT_METRIC_ACC_NORM ? (double)ot_py_length(choice) : metric == OT_METRIC_ACC_BYTES ? (double)choice.size : 1;
}

static int64_t best_choice(const ot_score_request *requests, const ot_task_doc *doc, unsigned metric) {
    int64_t best = 0;
    double top = -INFINITY;
    for (int64_t i = 0; i < doc->n_choices; i++) {
        double score = requests[i].loglikelihood / length_of(doc->choices[i], metric);
        if (score > top) {
            top = score;
            best = i;
        }
    }
    return best;
}

double ot_eval_hit(const ot_eval_run *r, int64_t d, unsigned metric) {
    const ot_task_doc *doc = &r->docs[d];
    if (r->task->kind == OT_TASK_GENERATE) return r->answers[d].right;
    const ot_score_request *requests = r->requests + r->first[d];
    if (r->task->kind == OT_TASK_TARGET) return requests[0].greedy;
    if (metric != OT_METRIC_EXACT_MATCH) return ot_task_is_right(doc, best_choice(requests, doc, metric));
    for (int64_t i = 0; i < doc->n_choices; i++) {
        if (ot_task_is_right(doc, i) && requests[i].greedy) return 1;
    }
    return 0;
}

const ot_eval_mean ot_eval_means[OT_EVAL_MEANS] = {{OT_METRIC_ACC, "acc"},
                                                   {OT_METRIC_ACC_NORM, "acc_norm"},
                                                   {OT_METRIC_ACC_BYTES, "acc_bytes"},
                                                   {OT_METRIC_EXACT_MATCH, "exact_match"}};
const ot_eval_mean ot_eval_perplexities[OT_EVAL_PERPLEXITIES] = {{OT_METRIC_WORD_PERPLEXITY, "word_perplexity"},
                                                                 {OT_METRIC_BYTE_PERPLEXITY, "byte_perplexity"},
                                                                 {OT_METRIC_BITS_PER_BYTE, "bits_per_byte"}};

static void put_metric(ot_evaluation *e, ot_metric metric) { e->metrics[e->n_metrics++] = metric; }

static void count_hits(ot_eval_run *r) {
    for (int k = 0; k < OT_EVAL_MEANS; k++) {
        unsigned metric = ot_eval_means[k].metric;
        if ((r->task->metrics & metric) == 0) continue;
        double sum = 0, squares = 0, n = (double)r->n;
        for (int64_t d = 0; d < r->n; d++) sum += ot_eval_hit(r, d, metric);
        double mean = sum / n;
        for (int64_t d = 0; d < r->n; d++) {
            double distance = ot_eval_hit(r, d, metric) - mean;
            squares += distance * distance;
        }
        put_metric(r->out, (ot_metric){.name = ot_eval_means[k].name,
                                       .value = mean,
                                       .error = r->n > 1 ? sqrt(squares / (n - 1)) / sqrt(n) : 0,
                                       .has_error = r->n > 1,
                                       .higher_is_better = true});
    }
}

double ot_eval_page_loglikelihood(const ot_eval_run *r, int64_t d) {
    double sum = 0;
    for (int64_t i = r->first[d]; i < r->first[d + 1]; i++) sum += r->requests[i].loglikelihood;
    return sum;
}

/* Without a standard error: the harness's is a bootstrap. */
static void count_target_perplexity(ot_eval_run *r) {
    double sum = 0;
    if ((r->task->metrics & OT_METRIC_TARGET_PERPLEXITY) == 0) return;
    for (int64_t d = 0; d < r->n; d++) sum += r->requests[r->first[d]].loglikelihood;
    put_metric(r->out, (ot_metric){.name = "perplexity", .value = exp(-sum / (double)r->n)});
}

static ot_status count_perplexities(ot_eval_run *r, ot_error *err) {
    double sum = 0, words = 0, bytes = 0;
    for (int64_t d = 0; d < r->n; d++) {
        sum += ot_eval_page_loglikelihood(r, d);
        words += (double)r->docs[d].words;
        bytes += (double)r->docs[d].bytes;
    }
    if (!(bytes > 0)) return ot_fail(err, OT_ERR_REFUSED, "%s: the documents hold no text", ot_task_set_row(r->set, 0)->path);
    const double values[OT_EVAL_PERPLEXITIES] = {exp(-sum / words), exp(-sum / bytes), -sum / bytes / log(2.0)};
    for (int k = 0; k < OT_EVAL_PERPLEXITIES; k++) {
        if ((r->task->metrics & ot_eval_perplexities[k].metric) != 0)
            put_metric(r->out, (ot_metric){.name = ot_eval_perplexities[k].name, .value = values[k]});
    }
    return OT_OK;
}

double ot_eval_block_loss(const ot_eval_run *r, int64_t b) {
    return -r->requests[b].loglikelihood / (double)r->requests[b].n_continuation;
}

static void count_blocks(ot_eval_run *r) {
    double sum = 0, squares = 0, n = (double)r->n;
    for (int64_t b = 0; b < r->n; b++) sum += ot_eval_block_loss(r, b);
    double mean = sum / n;
    for (int64_t b = 0; b < r->n; b++) squares += (ot_eval_block_loss(r, b) - mean) * (ot_eval_block_loss(r, b) - mean);
    put_metric(r->out, (ot_metric){.name = "perplexity", .value = exp(mean)});
    put_metric(
        r->out,
        (ot_metric){.name = "loss", .value = mean, .error = r->n > 1 ? sqrt(squares / (n - 1) / n) : 0, .has_error = r->n > 1});
}

/* ==== One task. ==== */

static ot_status evaluate(ot_eval_run *r, ot_error *err) {
    ot_task_set_options data = r->options->data;
    if (r->task->kind == OT_TASK_BLOCKS) data.limit = 0;
    OT_TRY(ot_task_set_open(r->task, &data, &r->set, err));
    r->out->original = ot_task_set_rows(r->set);
    r->out->shots = ot_task_set_shots(r->set);
    OT_TRY(r->task->kind == OT_TASK_BLOCKS ? request_blocks(r, err) : request_docs(r, err));
    r->out->documents = r->n;
    if (r->task->kind == OT_TASK_GENERATE) OT_TRY(ot_eval_answer_docs(r, err));
    else OT_TRY(ot_score(r->model, r->requests, r->n_requests, &r->score, &r->out->cost, err));
    if (r->task->kind == OT_TASK_ROLLING) OT_TRY(count_perplexities(r, err));
    else if (r->task->kind == OT_TASK_BLOCKS) count_blocks(r);
    else if (r->task->kind == OT_TASK_TARGET) count_target_perplexity(r);
    if (r->task->kind != OT_TASK_ROLLING && r->task->kind != OT_TASK_BLOCKS) count_hits(r);
    return ot_eval_write_samples(r, err);
}

ot_status ot_evaluate(const ot_model *m, const ot_tokenizer *tokenizer, const ot_task *task, const ot_evaluate_options *options,
                      ot_evaluation *out, ot_error *err) {
    *out = (ot_evaluation){.task = task};
    ot_eval_run r = {.model = m, .tokenizer = tokenizer, .task = task, .options = options, .score = options->score, .out = out};
    int64_t most = ot_score_max_length(m, options->score.hooks);
    if (r.score.max_length == 0) r.score.max_length = most;
    if (m->desc.position == OT_POSITION_LEARNED && r.score.max_length > most) r.score.max_length = most;
    OT_TRY(ot_encoder_open(tokenizer, &r.encoder, err));
    ot_status status = evaluate(&r, err);
    ot_task_set_close(r.set);
    ot_encoder_close(&r.encoder);
    ot_arena_free(&r.arena);
    ot_free(r.docs);
    ot_free(r.first);
    ot_free(r.answers);
    free(r.requests);
    if (status != OT_OK) ot_evaluation_free(out);
    return status;
}

void ot_evaluation_free(ot_evaluation *e) {
    json_decref(e->samples);
    e->samples = NULL;
}
