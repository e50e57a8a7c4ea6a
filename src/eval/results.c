#include "eval/results.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#include "base/file.h"
#include "base/parallel.h"
#include "format/json.h"

enum { PATH_ROOM = 4096 };

static json_t *task_scores(const ot_evaluation *e) {
    json_t *scores =
        json_pack("{s:s,s:s,s:I}", "name", e->task->name, "alias", e->task->name, "sample_len", (json_int_t)e->documents);
    for (int i = 0; i < e->n_metrics; i++) {
        const ot_metric *m = &e->metrics[i];
        char key[160];
        snprintf(key, sizeof key, "%s,%s", m->name, ot_eval_filter(e->task));
        json_object_set_new(scores, key, json_real(m->value));
        snprintf(key, sizeof key, "%s_stderr,%s", m->name, ot_eval_filter(e->task));
        json_object_set_new(scores, key, m->has_error ? json_real(m->error) : json_string("N/A"));
    }
    return scores;
}

static json_t *task_directions(const ot_evaluation *e) {
    json_t *directions = json_object();
    for (int i = 0; i < e->n_metrics; i++)
        json_object_set_new(directions, e->metrics[i].name, json_boolean(e->metrics[i].higher_is_better));
    return directions;
}

static json_t *task_config(const ot_evaluation *e) {
    static const char *const kinds[] = {"multiple_choice", "loglikelihood_rolling", "blocks", "generate_until", "loglikelihood"};
    json_t *config = json_pack("{s:s,s:s,s:s,s:I,s:I}", "task", e->task->name, "dataset_path",
                               e->task->dataset != NULL ? e->task->dataset : "json", "output_type", kinds[e->task->kind],
                               "num_fewshot", (json_int_t)e->shots, "repeats", (json_int_t)1);
    if (e->task->config != NULL) json_object_set_new(config, "dataset_name", json_string(e->task->config));
    return config;
}

static json_t *task_cost(const ot_evaluation *e) {
    const ot_score_cost *c = &e->cost;
    return json_pack("{s:f,s:I,s:I,s:I,s:I}", "seconds", c->seconds, "tokens", (json_int_t)c->tokens, "rows", (json_int_t)c->rows,
                     "scored", (json_int_t)c->targets, "activation_bytes", (json_int_t)c->bytes);
}

static json_t *version_of(const ot_evaluation *e) {
    return e->task->version != NULL ? json_real(strtod(e->task->version, NULL)) : json_string("Yaml");
}

static int64_t parameters_of(const ot_model *m) {
    int64_t all = 0;
    for (int64_t i = 0; i < m->n_params; i++) all += ot_param_elements(&m->params[i]);
    return all;
}

static json_t *run_config(const ot_results_info *info) {
    char dtype[32];
    bool narrow = info->dtype != NULL && strcmp(info->dtype, "bf16") == 0;
    snprintf(dtype, sizeof dtype, "torch.%s", narrow ? "bfloat16" : "float32");
    json_t *config =
        json_pack("{s:s,s:s,s:s,s:s}", "model", "offsite", "model_args", info->model, "model_dtype", dtype, "dtype", info->dtype);
    json_object_set_new(config, "adapter", info->adapter != NULL ? json_string(info->adapter) : json_null());
    if (info->loaded != NULL) json_object_set_new(config, "model_num_parameters", json_integer(parameters_of(info->loaded)));
    json_object_set_new(config, "limit", info->limit > 0 ? json_real((double)info->limit) : json_null());
    static const char *const none[] = {"batch_size", "device", "use_cache", "gen_kwargs"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) json_object_set_new(config, none[i], json_null());
    json_object_set_new(config, "fewshot_seed", json_integer(1234));
    json_object_set_new(config, "version", json_string(OFFSITE_VERSION));
    return config;
}

/* ["</s>", "1"]. */
static void put_token(json_t *out, const char *key, const ot_tokenizer *t, int32_t id) {
    char *text = NULL;
    size_t size = 0;
    json_t *pair = NULL;
    if (id >= 0 && ot_tokenizer_decode(t, &id, 1, false, &text, &size, NULL) == OT_OK) {
        pair = json_pack("[o,o]", json_stringn(text, size), json_sprintf("%d", id));
    }
    ot_free(text);
    json_object_set_new(out, key, pair != NULL ? pair : json_null());
}

/* Keys that say how the run was made; the harness's readers expect all of them. */
static void put_circumstances(json_t *out, const ot_results_info *info) {
    static const char *const none[] = {
        "git_hash",      "upper_git_hash",    "system_instruction",  "system_instruction_sha", "fewshot_as_multiturn",
        "chat_template", "chat_template_sha", "transformers_version"};
    char name[512];
    snprintf(name, sizeof name, "%s", info->model);
    for (char *c = name; *c != '\0'; c++) *c = strchr("\"<>:/\\|?*[]", *c) != NULL ? '_' : *c;
    json_object_set_new(out, "date", json_integer((json_int_t)time(NULL)));
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) json_object_set_new(out, none[i], json_null());
    json_object_set_new(out, "lm_eval_version", json_string("0.4.13"));
    json_object_set_new(out, "model_source", json_string("offsite"));
    json_object_set_new(out, "model_name", json_string(info->model));
    json_object_set_new(out, "model_name_sanitized", json_string(name));
    json_object_set_new(out, "total_evaluation_time_seconds", json_sprintf("%.3f", info->seconds));
    json_object_set_new(out, "max_length", info->max_length > 0 ? json_integer(info->max_length) : json_null());
    const ot_tokenizer *t = info->tokenizer;
    json_object_set_new(out, "eot_token_id",
                        t != NULL && ot_tokenizer_eos(t) >= 0 ? json_integer(ot_tokenizer_eos(t)) : json_null());
    put_token(out, "tokenizer_pad_token", t, -1);
    put_token(out, "tokenizer_eos_token", t, t != NULL ? ot_tokenizer_eos(t) : -1);
    put_token(out, "tokenizer_bos_token", t, t != NULL ? ot_tokenizer_bos(t) : -1);
}

/* One digest of what was asked: the three of every document after another. */
static json_t *task_hash(const ot_evaluation *e) {
    static const char *const keys[] = {"doc_hash", "prompt_hash", "target_hash"};
    crypto_hash_sha256_state state;
    unsigned char hash[crypto_hash_sha256_BYTES];
    char hex[crypto_hash_sha256_BYTES * 2 + 1];
    crypto_hash_sha256_init(&state);
    for (size_t i = 0; i < json_array_size(e->samples); i++) {
        for (size_t k = 0; k < 3; k++) {
            const json_t *digest = json_object_get(json_array_get(e->samples, i), keys[k]);
            crypto_hash_sha256_update(&state, (const unsigned char *)json_string_value(digest), json_string_length(digest));
        }
    }
    crypto_hash_sha256_final(&state, hash);
    sodium_bin2hex(hex, sizeof hex, hash, sizeof hash);
    return json_string(hex);
}

ot_status ot_results_json(const ot_evaluation *tasks, int64_t n, const ot_results_info *info, json_t **out, ot_error *err) {
    json_t *results = json_object(), *configs = json_object(), *versions = json_object(), *shots = json_object(),
           *directions = json_object();
    json_t *samples = json_object(), *costs = json_object(), *hashes = json_object();
    for (int64_t i = 0; i < n; i++) {
        const ot_evaluation *e = &tasks[i];
        const char *name = e->task->name;
        json_object_set_new(results, name, task_scores(e));
        json_object_set_new(configs, name, task_config(e));
        json_object_set_new(versions, name, version_of(e));
        json_object_set_new(shots, name, json_integer(e->shots));
        json_object_set_new(directions, name, task_directions(e));
        json_object_set_new(samples, name,
                            json_pack("{s:I,s:I}", "original", (json_int_t)e->original, "effective", (json_int_t)e->documents));
        json_object_set_new(costs, name, task_cost(e));
        json_object_set_new(hashes, name, task_hash(e));
    }
    *out = json_pack("{s:o,s:{},s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:I}", "results", results, "group_subtasks", "configs", configs,
                     "versions", versions, "n-shot", shots, "higher_is_better", directions, "n-samples", samples, "config",
                     run_config(info), "task_hashes", hashes, "cost", costs, "peak_memory_bytes", (json_int_t)ot_memory_peak());
    if (*out == NULL) return ot_fail_memory(err, 4096, "the results");
    put_circumstances(*out, info);
    return OT_OK;
}

/* ==== Files. ==== */

/* "2026-11-24T00-23-57.220328", as the harness names its files: its readers take the newest by this. */
void ot_results_date(char *text, size_t size) {
    struct timeval now;
    struct tm parts;
    char seconds[32];
    gettimeofday(&now, NULL);
    localtime_r(&now.tv_sec, &parts);
    strftime(seconds, sizeof seconds, "%Y-%m-%dT%H-%M-%S", &parts);
    snprintf(text, size, "%s.%06ld", seconds, (long)now.tv_usec);
}

ot_status ot_results_write_lines(const char *path, const json_t *values, ot_error *err) {
    ot_writer *w = NULL;
    OT_TRY(ot_writer_open(path, &w, err));
    ot_status status = OT_OK;
    for (size_t i = 0; status == OT_OK && i < json_array_size(values); i++) {
        char *line = json_dumps(json_array_get(values, i), 0);
        status = line == NULL ? ot_fail_memory(err, 4096, "a sample") : ot_writer_put(w, line, (int64_t)strlen(line), err);
        if (status == OT_OK) status = ot_writer_put(w, "\n", 1, err);
        free(line);
    }
    if (status == OT_OK) status = ot_writer_commit(w, err);
    if (status != OT_OK) ot_writer_abort(w);
    return status;
}

static ot_status name_file(const char *dir, const char *name, char path[PATH_ROOM], ot_error *err) {
    return ot_path_join(path, PATH_ROOM, dir, name) ? OT_OK : ot_fail(err, OT_ERR_USAGE, "%s: the path is too long", dir);
}

ot_status ot_results_try(const char *dir, ot_error *err) {
    char path[PATH_ROOM];
    ot_writer *w = NULL;
    OT_TRY(ot_make_dirs(dir, err));
    OT_TRY(name_file(dir, "results_try.json", path, err));
    OT_TRY(ot_writer_open(path, &w, err));
    ot_writer_abort(w);
    return OT_OK;
}

ot_status ot_results_write(const char *dir, const char *date, const json_t *results, const ot_evaluation *newest, ot_error *err) {
    char name[512], path[PATH_ROOM];
    OT_TRY(ot_make_dirs(dir, err));
    snprintf(name, sizeof name, "samples_%s_%s.jsonl", newest->task->name, date);
    OT_TRY(name_file(dir, name, path, err));
    OT_TRY(ot_results_write_lines(path, newest->samples, err));
    snprintf(name, sizeof name, "results_%s.json", date);
    OT_TRY(name_file(dir, name, path, err));
    return ot_json_write(path, results, err);
}
