/* Samples: one object a document, with the keys of lm-evaluation-harness's samples_TASK_DATE.jsonl. */
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval/evaluate_internal.h"
#include "task/template.h"

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

static json_t *float_text(double value) {
    char text[OT_PY_FLOAT];
    ot_py_float(value, text);
    return json_string(text);
}

/* "[0, 1]" where several choices are right. */
static void target_text(const ot_task_doc *doc, char *text, size_t size) {
    bool all = doc->gold == OT_GOLD_ALL;
    int64_t n = all ? doc->n_choices : doc->n_golds;
    if (!all && doc->gold != OT_GOLD_SOME) {
        snprintf(text, size, "%" PRId64, doc->gold);
        return;
    }
    size_t used = 0;
    for (int64_t i = 0; i < n && used + 32 < size; i++) {
        used += (size_t)snprintf(text + used, size - used, "%s%" PRId64, i > 0 ? ", " : "[", all ? i : doc->golds[i]);
    }
    snprintf(text + used, size - used, "]");
}

static json_t *sample_begin(const ot_eval_run *r, int64_t d) {
    json_t *sample = json_object(), *row = json_deep_copy(ot_task_set_row(r->set, d)->value);
    if (r->task->prepared != NULL) r->task->prepared(&r->docs[d], row);
    json_object_set_new(sample, "doc_id", json_integer(d));
    json_object_set_new(sample, "doc", row);
    return sample;
}

/* The metrics of the table that the task has. */
static void sample_metrics(json_t *sample, const ot_task *task, const ot_eval_mean *table, int n) {
    json_t *names = json_array();
    for (int i = 0; i < n; i++) {
        if ((task->metrics & table[i].metric) != 0) json_array_append_new(names, json_string(table[i].name));
    }
    json_object_set_new(sample, "filter", json_string(ot_eval_filter(task)));
    json_object_set_new(sample, "metrics", names);
}

static void put_hits(json_t *sample, const ot_eval_run *r, int64_t d) {
    for (int k = 0; k < OT_EVAL_MEANS; k++) {
        const ot_eval_mean *mean = &ot_eval_means[k];
        if ((r->task->metrics & mean->metric) != 0)
            json_object_set_new(sample, mean->name, json_real(ot_eval_hit(r, d, mean->metric)));
    }
}

static void hash_row(json_t *sample) {
    char *text = json_dumps(json_object_get(sample, "doc"), JSON_INDENT(2));
    if (text != NULL) set_hash(sample, "doc_hash", text, strlen(text));
    free(text);
}

static json_t *choice_sample(const ot_eval_run *r, int64_t d) {
    const ot_task_doc *doc = &r->docs[d];
    const ot_score_request *requests = r->requests + r->first[d];
    json_t *sample = sample_begin(r, d), *arguments = json_object(), *answers = json_array(), *filtered = json_array();
    char text[4096];
    target_text(doc, text, sizeof text);
    json_object_set_new(sample, "target", json_string(text));
    for (int64_t i = 0; i < doc->n_choices; i++) {
        ot_str continuation = {"", 0};
        ot_arena arena = {0};
        char name[40];
        snprintf(name, sizeof name, "gen_args_%" PRId64, i);
        if (ot_task_continuation(doc, i, &arena, &continuation, NULL) == OT_OK) {
            json_object_set_new(arguments, name,
                                json_pack("{s:o,s:o}", "arg_0", json_of(doc->context), "arg_1", json_of(continuation)));
        }
        ot_arena_free(&arena);
        json_t *answer = json_pack("[o,s]", float_text(requests[i].loglikelihood), requests[i].greedy ? "True" : "False");
        json_array_append_new(answers, json_pack("[O]", answer));
        json_array_append_new(filtered, answer);
    }
    json_object_set_new(sample, "arguments", arguments);
    json_object_set_new(sample, "resps", answers);
    json_object_set_new(sample, "filtered_resps", filtered);
    sample_metrics(sample, r->task, ot_eval_means, OT_EVAL_MEANS);
    hash_row(sample);
    set_hash(sample, "prompt_hash", doc->context.text, (size_t)doc->context.size);
    set_hash(sample, "target_hash", text, strlen(text));
    put_hits(sample, r, d);
    return sample;
}

/* One answer: its text is the target, its likelihood the perplexity's part. */
static json_t *target_sample(const ot_eval_run *r, int64_t d) {
    static const ot_eval_mean metrics[] = {{OT_METRIC_TARGET_PERPLEXITY, "perplexity"}, {OT_METRIC_ACC, "acc"}};
    const ot_task_doc *doc = &r->docs[d];
    const ot_score_request *q = &r->requests[r->first[d]];
    json_t *sample = sample_begin(r, d), *answer = json_pack("[o,s]", float_text(q->loglikelihood), q->greedy ? "True" : "False");
    json_object_set_new(sample, "target", json_of(doc->choices[0]));
    json_object_set_new(
        sample, "arguments",
        json_pack("{s:{s:o,s:o}}", "gen_args_0", "arg_0", json_of(doc->context), "arg_1", json_of(doc->choices[0])));
    json_object_set_new(sample, "resps", json_pack("[[O]]", answer));
    json_object_set_new(sample, "filtered_resps", json_pack("[o]", answer));
    sample_metrics(sample, r->task, metrics, 2);
    hash_row(sample);
    set_hash(sample, "prompt_hash", doc->context.text, (size_t)doc->context.size);
    set_hash(sample, "target_hash", doc->choices[0].text, (size_t)doc->choices[0].size);
    if ((r->task->metrics & OT_METRIC_TARGET_PERPLEXITY) != 0)
        json_object_set_new(sample, "perplexity", json_real(q->loglikelihood));
    put_hits(sample, r, d);
    return sample;
}

static json_t *generation_settings(const ot_task_generation *g) {
    json_t *until = json_array();
    for (int64_t i = 0; i < g->n_until; i++) json_array_append_new(until, json_string(g->until[i]));
    return json_pack("{s:o,s:I,s:b,s:f}", "until", until, "max_gen_toks", (json_int_t)g->max_tokens, "do_sample", 0,
                     "temperature", 0.0);
}

/* The answer, or a list of those that count. */
static json_t *answer_target(const ot_task_doc *doc) {
    if (doc->gold != OT_GOLD_ALL) return json_of(doc->choices[0]);
    json_t *list = json_array(), *text = NULL;
    ot_arena arena = {0};
    ot_str s;
    for (int64_t i = 0; i < doc->n_choices; i++) json_array_append_new(list, json_of(doc->choices[i]));
    if (ot_py_text_of(list, &arena, &s, NULL) == OT_OK) text = json_of(s);
    ot_arena_free(&arena);
    json_decref(list);
    return text;
}

static json_t *answer_sample(const ot_eval_run *r, int64_t d) {
    const ot_task_doc *doc = &r->docs[d];
    const ot_eval_answer *a = &r->answers[d];
    json_t *sample = sample_begin(r, d), *target = answer_target(doc);
    json_object_set(sample, "target", target);
    json_object_set_new(sample, "arguments",
                        json_pack("{s:{s:o,s:o}}", "gen_args_0", "arg_0", json_of(doc->context), "arg_1",
                                  generation_settings(r->task->generation)));
    json_object_set_new(sample, "resps", json_pack("[[o]]", json_of(a->written)));
    json_object_set_new(sample, "filtered_resps", json_pack("[o]", json_of(a->filtered)));
    sample_metrics(sample, r->task, ot_eval_means, OT_EVAL_MEANS);
    hash_row(sample);
    set_hash(sample, "prompt_hash", doc->context.text, (size_t)doc->context.size);
    set_hash(sample, "target_hash", json_string_value(target), json_string_length(target));
    put_hits(sample, r, d);
    json_decref(target);
    return sample;
}

static json_t *page_sample(const ot_eval_run *r, int64_t d) {
    const ot_task_doc *doc = &r->docs[d];
    json_t *sample = sample_begin(r, d);
    double sum = ot_eval_page_loglikelihood(r, d);
    json_object_set_new(sample, "target", json_of(doc->page));
    json_object_set_new(sample, "arguments", json_pack("{s:{s:o}}", "gen_args_0", "arg_0", json_of(doc->page)));
    json_object_set_new(sample, "resps", json_pack("[[o]]", float_text(sum)));
    json_object_set_new(sample, "filtered_resps", json_pack("[o]", float_text(sum)));
    sample_metrics(sample, r->task, ot_eval_perplexities, OT_EVAL_PERPLEXITIES);
    hash_row(sample);
    set_hash(sample, "prompt_hash", doc->page.text, (size_t)doc->page.size);
    set_hash(sample, "target_hash", doc->page.text, (size_t)doc->page.size);
    for (int k = 0; k < OT_EVAL_PERPLEXITIES; k++) {
        const ot_eval_mean *m = &ot_eval_perplexities[k];
        if ((r->task->metrics & m->metric) != 0)
            json_object_set_new(sample, m->name, json_pack("[f,I]", sum, (json_int_t)(k == 0 ? doc->words : doc->bytes)));
    }
    return sample;
}

static json_t *block_sample(const ot_eval_run *r, int64_t b) {
    static const ot_eval_mean loss[] = {{OT_METRIC_BLOCKS, "loss"}};
    json_t *sample = json_pack("{s:I}", "doc_id", (json_int_t)b);
    json_object_set_new(sample, "filtered_resps", json_pack("[o]", float_text(r->requests[b].loglikelihood)));
    sample_metrics(sample, r->task, loss, 1);
    json_object_set_new(sample, "loss", json_real(ot_eval_block_loss(r, b)));
    return sample;
}

ot_status ot_eval_write_samples(ot_eval_run *r, ot_error *err) {
    static json_t *(*const makers[])(const ot_eval_run *, int64_t) = {[OT_TASK_CHOICE] = choice_sample,
                                                                      [OT_TASK_ROLLING] = page_sample,
                                                                      [OT_TASK_BLOCKS] = block_sample,
                                                                      [OT_TASK_GENERATE] = answer_sample,
                                                                      [OT_TASK_TARGET] = target_sample};
    r->out->samples = json_array();
    for (int64_t d = 0; d < r->n; d++) {
        json_t *sample = makers[r->task->kind](r, d);
        if (json_array_append_new(r->out->samples, sample) != 0) return ot_fail_memory(err, 1024, "the samples");
    }
    return OT_OK;
}
