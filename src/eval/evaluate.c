#include "eval/evaluate.h"

#include <inttypes.h>
#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#include "task/encode.h"

typedef struct run {
    const ot_model *model;
    const ot_task *task;
    const ot_evaluate_options *options;
    ot_score_options score;
    ot_task_set *set;
    ot_encoder encoder;
    ot_arena arena; /* of rendered documents and ids */
    ot_task_doc *docs;
    int64_t n;
    int64_t *first; /* [n + 1] a document's first request */
    ot_score_request *requests;
    int64_t n_requests, capacity;
    ot_evaluation *out;
} run;

static ot_status add_request(run *r, const int32_t *ids, int64_t n_context, int64_t n_continuation, int64_t group, ot_error *err) {
    OT_TRY(ot_grow((void **)&r->requests, &r->capacity, r->n_requests + 1, sizeof *r->requests, "requests", err));
    r->requests[r->n_requests++] = (ot_score_request){.ids = ids, .n_context = n_context, .n_continuation = n_continuation, .group = group};
    return OT_OK;
}

/* ==== From documents to requests. ==== */

static ot_status request_choices(run *r, int64_t d, ot_error *err) {
    ot_encoded *encoded = NULL;
    const ot_row *row = ot_task_set_row(r->set, d);
    ot_status status = ot_encode_choices(&r->encoder, &r->docs[d], &r->arena, &encoded, err);
    if (status != OT_OK) return ot_error_prefix(err, "%s:%" PRId64, row->path, row->line);
    for (int64_t i = 0; i < r->docs[d].n_choices; i++) {
        OT_TRY(add_request(r, encoded[i].ids, encoded[i].n_context, encoded[i].n_continuation, d, err));
    }
    return OT_OK;
}

/* The first window predicts from the prefix token alone, each later one from as many tokens as can be fed; every token is predicted once. */
static ot_status request_windows(run *r, int64_t d, ot_error *err) {
    int32_t *ids = NULL;
    int64_t n = 0, length = r->score.max_length;
    if (r->encoder.prefix < 0) return ot_fail(err, OT_ERR_UNSUPPORTED, "%s needs a tokenizer with a token that begins or ends a text", r->task->name);
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

static ot_status request_docs(run *r, ot_error *err) {
    r->n = ot_task_set_count(r->set);
    OT_TRY(ot_calloc(r->n, sizeof *r->docs, "documents", (void **)&r->docs, err));
    OT_TRY(ot_calloc(r->n + 1, sizeof *r->first, "documents", (void **)&r->first, err));
    for (int64_t d = 0; d < r->n; d++) {
        OT_TRY(ot_task_set_doc(r->set, d, &r->arena, &r->docs[d], err));
        OT_TRY(r->task->kind == OT_TASK_ROLLING ? request_windows(r, d, err) : request_choices(r, d, err));
        r->first[d + 1] = r->n_requests;
    }
    return OT_OK;
}

/* BLOCKS: the text of all rows, tokenised without special tokens and cut; each block is a document. */
static ot_status request_blocks(run *r, ot_error *err) {
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
            return ot_fail(err, OT_ERR_REFUSED, "%s has %" PRId64 " tokens, fewer than one block of %" PRId64 ": use a smaller --block or more text", row->path,
                           n, block);
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

static int64_t best_choice(const ot_score_request *requests, const ot_task_doc *doc, bool by_length) {
    int64_t best = 0;
    double top = -INFINITY;
    for (int64_t i = 0; i < doc->n_choices; i++) {
        double score = requests[i].loglikelihood / (by_length ? (double)ot_py_length(doc->choices[i]) : 1.0);
        if (score > top) {
            top = score;
            best = i;
        }
    }
    return best;
}

static double hit(const ot_score_request *requests, const ot_task_doc *doc, unsigned metric) {
    if (metric == OT_METRIC_ACC || metric == OT_METRIC_ACC_NORM) return best_choice(requests, doc, metric == OT_METRIC_ACC_NORM) == doc->gold;
    for (int64_t i = 0; i < doc->n_choices; i++) {
        if ((doc->gold == OT_GOLD_ALL || doc->gold == i) && requests[i].greedy) return 1;
    }
    return 0;
}

static const struct {
    unsigned metric;
    const char *name;
} means[] = {{OT_METRIC_ACC, "acc"}, {OT_METRIC_ACC_NORM, "acc_norm"}, {OT_METRIC_EXACT_MATCH, "exact_match"}};
enum { MEANS = sizeof means / sizeof *means };

static void put_metric(ot_evaluation *e, ot_metric metric) { e->metrics[e->n_metrics++] = metric; }

static void count_hits(run *r) {
    for (int k = 0; k < MEANS; k++) {
        if ((r->task->metrics & means[k].metric) == 0) continue;
        double sum = 0, squares = 0, n = (double)r->n;
        for (int64_t d = 0; d < r->n; d++) sum += hit(r->requests + r->first[d], &r->docs[d], means[k].metric);
        double mean = sum / n;
        for (int64_t d = 0; d < r->n; d++) {
            double distance = hit(r->requests + r->first[d], &r->docs[d], means[k].metric) - mean;
            squares += distance * distance;
        }
        put_metric(r->out, (ot_metric){.name = means[k].name,
                                       .value = mean,
                                       .error = r->n > 1 ? sqrt(squares / (n - 1)) / sqrt(n) : 0,
                                       .has_error = r->n > 1,
                                       .higher_is_better = true});
    }
}

static double page_loglikelihood(const run *r, int64_t d) {
    double sum = 0;
    for (int64_t i = r->first[d]; i < r->first[d + 1]; i++) sum += r->requests[i].loglikelihood;
    return sum;
}

static ot_status count_perplexities(run *r, ot_error *err) {
    double sum = 0, words = 0, bytes = 0;
    for (int64_t d = 0; d < r->n; d++) {
        sum += page_loglikelihood(r, d);
        words += (double)r->docs[d].words;
        bytes += (double)r->docs[d].bytes;
    }
    if (!(bytes > 0)) return ot_fail(err, OT_ERR_REFUSED, "%s: the documents hold no text", ot_task_set_row(r->set, 0)->path);
    put_metric(r->out, (ot_metric){.name = "word_perplexity", .value = exp(-sum / words)});
    put_metric(r->out, (ot_metric){.name = "byte_perplexity", .value = exp(-sum / bytes)});
    put_metric(r->out, (ot_metric){.name = "bits_per_byte", .value = -sum / bytes / log(2.0)});
    return OT_OK;
}

static double block_loss(const ot_score_request *q) { return -q->loglikelihood / (double)q->n_continuation; }

static void count_blocks(run *r) {
    double sum = 0, squares = 0, n = (double)r->n;
    for (int64_t b = 0; b < r->n; b++) sum += block_loss(&r->requests[b]);
    double mean = sum / n;
    for (int64_t b = 0; b < r->n; b++) squares += (block_loss(&r->requests[b]) - mean) * (block_loss(&r->requests[b]) - mean);
    put_metric(r->out, (ot_metric){.name = "perplexity", .value = exp(mean)});
    put_metric(r->out, (ot_metric){.name = "loss", .value = mean, .error = r->n > 1 ? sqrt(squares / (n - 1) / n) : 0, .has_error = r->n > 1});
}

/* ==== Samples, as the harness writes them. ==== */

static void hash_text(const char *text, size_t size, char hex[crypto_hash_sha256_BYTES * 2 + 1]) {
    unsigned char hash[crypto_hash_sha256_BYTES];
    crypto_hash_sha256(hash, (const unsigned char *)text, size);
    sodium_bin2hex(hex, crypto_hash_sha256_BYTES * 2 + 1, hash, sizeof hash);
}

static void set_hash(json_t *sample, const char *key, const char *text, size_t size) {
    char hex[crypto_hash_sha256_BYTES * 2 + 1];
    hash_text(text, size, hex);
    json_object_set_new(sample, key, json_string(hex));
}

static json_t *json_of(ot_str s) { return json_stringn(s.size > 0 ? s.text : "", (size_t)s.size); }

/* Python's str() of a float: the shortest digits that read back the same. */
static json_t *float_text(double value) {
    char text[40];
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    bool whole = strpbrk(text, ".en") == NULL;
    return json_sprintf("%s%s", text, whole ? ".0" : "");
}

/* "[0, 1]" where every choice is right. */
static void target_text(const ot_task_doc *doc, char *text, size_t size) {
    if (doc->gold != OT_GOLD_ALL) {
        snprintf(text, size, "%" PRId64, doc->gold);
        return;
    }
    size_t used = 0;
    for (int64_t i = 0; i < doc->n_choices && used + 16 < size; i++) used += (size_t)snprintf(text + used, size - used, "%s%" PRId64, i > 0 ? ", " : "[", i);
    snprintf(text + used, size - used, "]");
}

static json_t *sample_begin(int64_t id, const json_t *row) {
    json_t *sample = json_object();
    json_object_set_new(sample, "doc_id", json_integer(id));
    if (row != NULL) json_object_set_new(sample, "doc", json_deep_copy(row));
    return sample;
}

static void sample_end(json_t *sample, const char *const *metrics, int n) {
    json_t *names = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(names, json_string(metrics[i]));
    json_object_set_new(sample, "filter", json_string("none"));
    json_object_set_new(sample, "metrics", names);
}

static void hash_row(json_t *sample, const json_t *row) {
    char *text = json_dumps(row, JSON_INDENT(2));
    if (text != NULL) set_hash(sample, "doc_hash", text, strlen(text));
    free(text);
}

static json_t *choice_sample(const run *r, int64_t d) {
    const ot_task_doc *doc = &r->docs[d];
    const ot_score_request *requests = r->requests + r->first[d];
    const json_t *row = ot_task_set_row(r->set, d)->value;
    json_t *sample = sample_begin(d, row), *arguments = json_object(), *answers = json_array(), *filtered = json_array();
    char text[4096];
    const char *names[MEANS];
    int n_names = 0;
    target_text(doc, text, sizeof text);
    json_object_set_new(sample, "target", json_string(text));
    for (int64_t i = 0; i < doc->n_choices; i++) {
        ot_str continuation = {"", 0};
        ot_arena arena = {0};
        char name[40];
        snprintf(name, sizeof name, "gen_args_%" PRId64, i);
        if (ot_task_continuation(doc, i, &arena, &continuation, NULL) == OT_OK) {
            json_object_set_new(arguments, name, json_pack("{s:o,s:o}", "arg_0", json_of(doc->context), "arg_1", json_of(continuation)));
        }
        ot_arena_free(&arena);
        json_t *answer = json_pack("[o,s]", float_text(requests[i].loglikelihood), requests[i].greedy ? "True" : "False");
        json_array_append_new(answers, json_pack("[O]", answer));
        json_array_append_new(filtered, answer);
    }
    json_object_set_new(sample, "arguments", arguments);
    json_object_set_new(sample, "resps", answers);
    json_object_set_new(sample, "filtered_resps", filtered);
    for (int k = 0; k < MEANS; k++) {
        if ((r->task->metrics & means[k].metric) != 0) names[n_names++] = means[k].name;
    }
    sample_end(sample, names, n_names);
    hash_row(sample, row);
    set_hash(sample, "prompt_hash", doc->context.text, (size_t)doc->context.size);
    set_hash(sample, "target_hash", text, strlen(text));
    for (int k = 0; k < MEANS; k++) {
        if ((r->task->metrics & means[k].metric) != 0) json_object_set_new(sample, means[k].name, json_real(hit(requests, doc, means[k].metric)));
    }
    return sample;
}

static json_t *page_sample(const run *r, int64_t d) {
    static const char *const names[] = {"word_perplexity", "byte_perplexity", "bits_per_byte"};
    const ot_task_doc *doc = &r->docs[d];
    const json_t *row = ot_task_set_row(r->set, d)->value;
    json_t *sample = sample_begin(d, row);
    double sum = page_loglikelihood(r, d);
    json_object_set_new(sample, "target", json_of(doc->page));
    json_object_set_new(sample, "arguments", json_pack("{s:{s:o}}", "gen_args_0", "arg_0", json_of(doc->page)));
    json_object_set_new(sample, "resps", json_pack("[[o]]", float_text(sum)));
    json_object_set_new(sample, "filtered_resps", json_pack("[o]", float_text(sum)));
    sample_end(sample, names, 3);
    hash_row(sample, row);
    set_hash(sample, "prompt_hash", doc->page.text, (size_t)doc->page.size);
    for (int k = 0; k < 3; k++) json_object_set_new(sample, names[k], json_pack("[f,I]", sum, (json_int_t)(k == 0 ? doc->words : doc->bytes)));
    return sample;
}

static json_t *block_sample(const run *r, int64_t b) {
    static const char *const names[] = {"loss"};
    json_t *sample = sample_begin(b, NULL);
    json_object_set_new(sample, "filtered_resps", json_pack("[o]", float_text(r->requests[b].loglikelihood)));
    sample_end(sample, names, 1);
    json_object_set_new(sample, "loss", json_real(block_loss(&r->requests[b])));
    return sample;
}

static ot_status write_samples(run *r, ot_error *err) {
    r->out->samples = json_array();
    for (int64_t d = 0; d < r->n; d++) {
        json_t *sample = r->task->kind == OT_TASK_CHOICE    ? choice_sample(r, d)
                         : r->task->kind == OT_TASK_ROLLING ? page_sample(r, d)
                                                            : block_sample(r, d);
        if (json_array_append_new(r->out->samples, sample) != 0) return ot_fail_memory(err, 1024, "the samples");
    }
    return OT_OK;
}

/* ==== One task. ==== */

static ot_status evaluate(run *r, ot_error *err) {
    ot_task_set_options data = r->options->data;
    if (r->task->kind == OT_TASK_BLOCKS) data.limit = 0;
    OT_TRY(ot_task_set_open(r->task, &data, &r->set, err));
    r->out->original = ot_task_set_rows(r->set);
    r->out->shots = r->task->kind == OT_TASK_CHOICE ? data.shots : 0;
    OT_TRY(r->task->kind == OT_TASK_BLOCKS ? request_blocks(r, err) : request_docs(r, err));
    r->out->documents = r->n;
    OT_TRY(ot_score(r->model, r->requests, r->n_requests, &r->score, &r->out->cost, err));
    if (r->task->kind == OT_TASK_CHOICE) count_hits(r);
    if (r->task->kind == OT_TASK_ROLLING) OT_TRY(count_perplexities(r, err));
    if (r->task->kind == OT_TASK_BLOCKS) count_blocks(r);
    return write_samples(r, err);
}

ot_status ot_evaluate(const ot_model *m, const ot_tokenizer *tokenizer, const ot_task *task, const ot_evaluate_options *options, ot_evaluation *out,
                      ot_error *err) {
    *out = (ot_evaluation){.task = task};
    run r = {.model = m, .task = task, .options = options, .score = options->score, .out = out};
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
    free(r.requests);
    if (status != OT_OK) ot_evaluation_free(out);
    return status;
}

void ot_evaluation_free(ot_evaluation *e) {
    json_decref(e->samples);
    e->samples = NULL;
}
