#include "task/own.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "format/yaml.h"
#include "task/python_literal.h"
#include "task/template.h"

enum { PATH_ROOM = 4096, MAX_NAME = 100, MAX_SHOTS = 1024, MAX_NEW_TOKENS = 1 << 16, MAX_LIST = 4096 };

/* A doc_to_... value. */
typedef enum source_kind { SOURCE_ABSENT, SOURCE_NUMBER, SOURCE_TEXTS, SOURCE_TEMPLATE } source_kind;
typedef struct source {
    source_kind kind;
    const char *key; /* "doc_to_text" */
    int64_t number;
    ot_str *texts; /* [n] */
    int64_t n;
    const ot_template *template;
} source;

typedef struct ot_own_task {
    ot_task task;
    ot_arena arena;
    const char *path;
    source text, target, choice, description;
    const char *delimiter;
    const char *test_split, *validation_split, *training_split, *fewshot_split;
    const char *examples[2];
    ot_task_generation generation;
} own_task;

typedef struct reader {
    own_task *own;
    const ot_yaml *at; /* the value of the key */
} reader;

static const own_task *own_of(const ot_task *task) { return task->own; }

#define REFUSE(r, ...) ot_yaml_fail((r)->at, (r)->own->path, err, __VA_ARGS__)

/* ==== Values of keys. ==== */

static ot_status keep_text(reader *r, const char **out, ot_error *err) {
    return ot_yaml_text(r->at, r->own->path, r->at->key, out, err);
}

static ot_status keep_template(reader *r, source *out, ot_error *err) {
    const char *text = NULL;
    ot_template *t = NULL;
    OT_TRY(keep_text(r, &text, err));
    ot_status status = ot_template_parse(text, &r->own->arena, &t, err);
    if (status == OT_ERR_FORMAT) return ot_error_prefix(err, "%s:%" PRId64 ": %s", r->own->path, r->at->line, r->at->key);
    *out = (source){.kind = SOURCE_TEMPLATE, .key = r->at->key, .template = t};
    return status;
}

/* A list of texts, or a mapping whose values are them. */
static ot_status keep_texts(reader *r, const ot_yaml *list, const char *what, ot_str **out, int64_t *n, ot_error *err) {
    if (list->count < 1 || list->count > MAX_LIST)
        return ot_yaml_fail(list, r->own->path, err, "'%s' must have 1 to %d texts", what, MAX_LIST);
    *out = ot_arena_alloc(&r->own->arena, list->count * (int64_t)sizeof **out, err);
    if (*out == NULL) return OT_ERR_MEMORY;
    *n = 0;
    for (const ot_yaml *item = list->first; item != NULL; item = item->next) {
        const char *text = NULL;
        OT_TRY(ot_yaml_text(item, r->own->path, what, &text, err));
        (*out)[(*n)++] = ot_str_of(text);
    }
    return OT_OK;
}

static ot_status take_name(reader *r, ot_error *err) {
    const char *name = NULL;
    OT_TRY(keep_text(r, &name, err));
    size_t n = strlen(name);
    bool plain = n > 0 && n <= MAX_NAME && *name != '.' &&
                 strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == n;
    if (!plain) return REFUSE(r, "'task' must be a name of letters, digits, '_', '-' and '.', because files are named after it");
    r->own->task.name = name;
    return OT_OK;
}

static ot_status take_kind(reader *r, ot_error *err) {
    const char *kind = NULL;
    OT_TRY(keep_text(r, &kind, err));
    if (strcmp(kind, "multiple_choice") == 0) r->own->task.kind = OT_TASK_CHOICE;
    else if (strcmp(kind, "loglikelihood_rolling") == 0) r->own->task.kind = OT_TASK_ROLLING;
    else if (strcmp(kind, "generate_until") == 0) r->own->task.kind = OT_TASK_GENERATE;
    else if (strcmp(kind, "loglikelihood") == 0) r->own->task.kind = OT_TASK_TARGET;
    else return REFUSE(r, "'output_type' must be multiple_choice, generate_until, loglikelihood or loglikelihood_rolling");
    return OT_OK;
}

static ot_status take_text(reader *r, ot_error *err) { return keep_template(r, &r->own->text, err); }
static ot_status take_description(reader *r, ot_error *err) { return keep_template(r, &r->own->description, err); }
static ot_status take_delimiter(reader *r, ot_error *err) { return keep_text(r, &r->own->delimiter, err); }
static ot_status take_fewshot_delimiter(reader *r, ot_error *err) { return keep_text(r, &r->own->task.fewshot_delimiter, err); }
static ot_status take_test(reader *r, ot_error *err) { return keep_text(r, &r->own->test_split, err); }
static ot_status take_validation(reader *r, ot_error *err) { return keep_text(r, &r->own->validation_split, err); }
static ot_status take_training(reader *r, ot_error *err) { return keep_text(r, &r->own->training_split, err); }
static ot_status take_fewshot_split(reader *r, ot_error *err) { return keep_text(r, &r->own->fewshot_split, err); }
static ot_status take_dataset(reader *r, ot_error *err) { return keep_text(r, &r->own->task.dataset, err); }
static ot_status take_dataset_name(reader *r, ot_error *err) { return keep_text(r, &r->own->task.config, err); }
static ot_status take_shots(reader *r, ot_error *err) {
    return ot_yaml_i64(r->at, r->own->path, "num_fewshot", 0, MAX_SHOTS, &r->own->task.shots, err);
}
static ot_status take_nothing(reader *r, ot_error *err) { return (void)r, (void)err, OT_OK; }

static ot_status take_repeats(reader *r, ot_error *err) {
    int64_t n = 0;
    return ot_yaml_i64(r->at, r->own->path, "repeats", 1, 1, &n, NULL) == OT_OK ? OT_OK : REFUSE(r, "'repeats' must be 1");
}

static bool is_whole(const ot_yaml *value) {
    size_t n = value->kind == OT_YAML_SCALAR && !value->quoted ? strlen(value->text) : 0;
    return n > 0 && n < 10 && strspn(value->text, "0123456789") == n;
}

static ot_status take_target(reader *r, ot_error *err) {
    source *out = &r->own->target;
    if (!is_whole(r->at)) return keep_template(r, out, err);
    *out = (source){.kind = SOURCE_NUMBER, .key = "doc_to_target", .number = strtol(r->at->text, NULL, 10)};
    return OT_OK;
}

static ot_status take_choice(reader *r, ot_error *err) {
    source *out = &r->own->choice;
    if (r->at->kind == OT_YAML_SCALAR) return keep_template(r, out, err);
    *out = (source){.kind = SOURCE_TEXTS, .key = "doc_to_choice"};
    return keep_texts(r, r->at, "doc_to_choice", &out->texts, &out->n, err);
}

static ot_status take_fewshot_config(reader *r, ot_error *err) {
    const ot_yaml *sampler = NULL;
    if (r->at->kind != OT_YAML_MAP) return REFUSE(r, "'fewshot_config' must hold keys such as sampler");
    for (const ot_yaml *item = r->at->first; item != NULL; item = item->next) {
        if (strcmp(item->key, "sampler") == 0) sampler = item;
        else if (strcmp(item->key, "split") == 0) OT_TRY(ot_yaml_text(item, r->own->path, "split", &r->own->fewshot_split, err));
        else
            return ot_yaml_fail(item, r->own->path, err, "'fewshot_config' has the keys sampler and split here, not '%.60s'",
                                item->key);
    }
    if (sampler == NULL) return OT_OK;
    const char *name = NULL;
    OT_TRY(ot_yaml_text(sampler, r->own->path, "sampler", &name, err));
    r->own->task.first_examples = strcmp(name, "first_n") == 0;
    if (!r->own->task.first_examples && strcmp(name, "default") != 0)
        return ot_yaml_fail(sampler, r->own->path, err, "'sampler' must be default or first_n");
    return OT_OK;
}

static ot_status take_metadata(reader *r, ot_error *err) {
    const ot_yaml *version = ot_yaml_get(r->at, "version");
    if (r->at->kind != OT_YAML_MAP) return REFUSE(r, "'metadata' must hold keys such as version");
    return version == NULL ? OT_OK : ot_yaml_text(version, r->own->path, "version", &r->own->task.version, err);
}

/* ==== Files. ==== */

static ot_status add_file(reader *r, const ot_yaml *item, ot_task_file *file, ot_error *err) {
    const ot_yaml *value = item->kind == OT_YAML_LIST && item->count == 1 ? item->first : item;
    const char *name = NULL, *slash = strrchr(r->own->path, '/');
    char path[PATH_ROOM];
    OT_TRY(ot_yaml_text(value, r->own->path, item->key, &name, err));
    int n = *name == '/' || slash == NULL
                ? snprintf(path, sizeof path, "%s", name)
                : snprintf(path, sizeof path, "%.*s/%s", (int)(slash - r->own->path), r->own->path, name);
    if (n < 0 || (size_t)n >= sizeof path) return ot_yaml_fail(value, r->own->path, err, "a path is too long");
    *file = (ot_task_file){.split = item->key, .path = ot_arena_strdup(&r->own->arena, path, err)};
    return file->path == NULL ? OT_ERR_MEMORY : OT_OK;
}

static ot_status take_files(reader *r, const ot_yaml *files, ot_error *err) {
    if (files->kind != OT_YAML_MAP)
        return ot_yaml_fail(files, r->own->path, err, "'data_files' must name a file for each split: test: rows.jsonl");
    ot_task_file *out = ot_arena_alloc(&r->own->arena, (files->count + 1) * (int64_t)sizeof *out, err);
    if (out == NULL) return OT_ERR_MEMORY;
    r->own->task.files = out;
    for (const ot_yaml *item = files->first; item != NULL; item = item->next)
        OT_TRY(add_file(r, item, &out[r->own->task.n_files++], err));
    return OT_OK;
}

static ot_status take_dataset_kwargs(reader *r, ot_error *err) {
    if (r->at->kind != OT_YAML_MAP) return REFUSE(r, "'dataset_kwargs' must hold data_files");
    for (const ot_yaml *item = r->at->first; item != NULL; item = item->next) {
        if (strcmp(item->key, "data_files") == 0) OT_TRY(take_files(r, item, err));
        else if (strcmp(item->key, "trust_remote_code") != 0)
            return ot_yaml_fail(item, r->own->path, err, "'dataset_kwargs' has the key data_files here, not '%.60s'", item->key);
    }
    return OT_OK;
}

/* ==== Metrics, generation, filters. ==== */

static const struct {
    const char *name;
    ot_task_kind kind;
    unsigned metric;
} metrics[] = {
    {"acc", OT_TASK_CHOICE, OT_METRIC_ACC},
    {"acc_norm", OT_TASK_CHOICE, OT_METRIC_ACC_NORM},
    {"acc_bytes", OT_TASK_CHOICE, OT_METRIC_ACC_BYTES},
    {"exact_match", OT_TASK_CHOICE, OT_METRIC_EXACT_MATCH},
    {"exact_match", OT_TASK_GENERATE, OT_METRIC_EXACT_MATCH},
    {"perplexity", OT_TASK_TARGET, OT_METRIC_TARGET_PERPLEXITY},
    {"acc", OT_TASK_TARGET, OT_METRIC_ACC},
    {"word_perplexity", OT_TASK_ROLLING, OT_METRIC_WORD_PERPLEXITY},
    {"byte_perplexity", OT_TASK_ROLLING, OT_METRIC_BYTE_PERPLEXITY},
    {"bits_per_byte", OT_TASK_ROLLING, OT_METRIC_BITS_PER_BYTE},
};

static ot_status metric_key(reader *r, const ot_yaml *item, ot_error *err) {
    ot_task_generation *g = &r->own->generation;
    const struct {
        const char *key;
        bool *flag;
    } flags[] = {
        {"ignore_case", &g->ignore_case}, {"ignore_punctuation", &g->ignore_punctuation}, {"ignore_numbers", &g->ignore_numbers}};
    bool whatever = false;
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        if (strcmp(item->key, flags[i].key) == 0) return ot_yaml_bool(item, r->own->path, item->key, flags[i].flag, err);
    }
    if (strcmp(item->key, "higher_is_better") == 0) return ot_yaml_bool(item, r->own->path, item->key, &whatever, err);
    if (strcmp(item->key, "metric") == 0) return OT_OK;
    if (strcmp(item->key, "aggregation") == 0) {
        const char *how = NULL;
        OT_TRY(ot_yaml_text(item, r->own->path, item->key, &how, err));
        static const char *const known[] = {"mean", "perplexity", "weighted_perplexity", "bits_per_byte"};
        for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
            if (strcmp(how, known[i]) == 0) return OT_OK;
        }
        return ot_yaml_fail(item, r->own->path, err,
                            "'aggregation' must be mean (perplexity, weighted_perplexity and bits_per_byte for perplexities)");
    }
    return ot_yaml_fail(item, r->own->path, err, "a metric has no key '%.60s' here", item->key);
}

/* output_type may stand behind metric_list: this is called when the file has been read. */
static ot_status take_metric(reader *r, const ot_yaml *entry, ot_error *err) {
    const ot_yaml *name = ot_yaml_get(entry, "metric");
    const char *text = NULL;
    char known[256] = "";
    if (name == NULL) return ot_yaml_fail(entry, r->own->path, err, "each entry of 'metric_list' needs a 'metric'");
    OT_TRY(ot_yaml_text(name, r->own->path, "metric", &text, err));
    for (const ot_yaml *item = entry->first; item != NULL; item = item->next) OT_TRY(metric_key(r, item, err));
    for (size_t i = 0; i < sizeof metrics / sizeof *metrics; i++) {
        if (metrics[i].kind != r->own->task.kind) continue;
        if (strcmp(metrics[i].name, text) == 0) {
            r->own->task.metrics |= metrics[i].metric;
            return OT_OK;
        }
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", used > 0 ? ", " : "", metrics[i].name);
    }
    return ot_yaml_fail(name, r->own->path, err, "there is no metric '%.60s' for this output_type (known: %s)", text, known);
}

static ot_status take_metrics(reader *r, const ot_yaml *list, ot_error *err) {
    static const unsigned usual[] = {[OT_TASK_CHOICE] = OT_METRIC_ACC | OT_METRIC_ACC_NORM,
                                     [OT_TASK_ROLLING] = OT_METRIC_PERPLEXITIES,
                                     [OT_TASK_GENERATE] = OT_METRIC_EXACT_MATCH,
                                     [OT_TASK_TARGET] = OT_METRIC_TARGET_PERPLEXITY | OT_METRIC_ACC};
    if (list == NULL) {
        r->own->task.metrics = usual[r->own->task.kind];
        return OT_OK;
    }
    if (list->kind != OT_YAML_LIST || list->count < 1)
        return ot_yaml_fail(list, r->own->path, err, "'metric_list' must be a list of metrics");
    for (const ot_yaml *entry = list->first; entry != NULL; entry = entry->next) OT_TRY(take_metric(r, entry, err));
    return OT_OK;
}

static ot_status take_until(reader *r, const ot_yaml *value, ot_error *err) {
    ot_yaml one = *value, list = {.kind = OT_YAML_LIST, .line = value->line, .count = 1, .first = &one};
    one.next = NULL;
    ot_str *texts = NULL;
    int64_t n = 0;
    if (value->kind == OT_YAML_LIST && value->count == 0) return OT_OK;
    OT_TRY(keep_texts(r, value->kind == OT_YAML_SCALAR ? &list : value, "until", &texts, &n, err));
    const char **until = ot_arena_alloc(&r->own->arena, n * (int64_t)sizeof *until, err);
    if (until == NULL) return OT_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++) until[i] = texts[i].text;
    r->own->generation.until = until;
    r->own->generation.n_until = n;
    return OT_OK;
}

static ot_status generation_key(reader *r, const ot_yaml *item, bool *until, ot_error *err) {
    static const char *const lengths[] = {"max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens"};
    const char *path = r->own->path;
    bool sampled = false;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        if (strcmp(item->key, lengths[i]) == 0)
            return ot_yaml_i64(item, path, item->key, 1, MAX_NEW_TOKENS, &r->own->generation.max_tokens, err);
    }
    if (strcmp(item->key, "until") == 0) {
        *until = true;
        return take_until(r, item, err);
    }
    if (strcmp(item->key, "do_sample") == 0) {
        OT_TRY(ot_yaml_bool(item, path, item->key, &sampled, err));
        return sampled ? ot_yaml_fail(item, path, err, "'do_sample' must be false: answers are decoded greedily") : OT_OK;
    }
    if (strcmp(item->key, "temperature") == 0) {
        bool zero = item->kind == OT_YAML_SCALAR && item->text[strspn(item->text, "0.")] == '\0' && *item->text != '\0';
        return zero ? OT_OK : ot_yaml_fail(item, path, err, "'temperature' must be 0: answers are decoded greedily");
    }
    return ot_yaml_fail(item, path, err,
                        "'generation_kwargs' has the keys until, max_gen_toks, do_sample and temperature here, not '%.60s'",
                        item->key);
}

static ot_status take_generation(reader *r, const ot_yaml *map, ot_error *err) {
    ot_task_generation *g = &r->own->generation;
    bool until = false;
    g->max_tokens = 256;
    for (const ot_yaml *item = map != NULL && map->kind == OT_YAML_MAP ? map->first : NULL; item != NULL; item = item->next) {
        OT_TRY(generation_key(r, item, &until, err));
    }
    if (map != NULL && map->kind != OT_YAML_MAP)
        return ot_yaml_fail(map, r->own->path, err, "'generation_kwargs' must hold keys such as until");
    if (until) return OT_OK;
    const char **usual = ot_arena_alloc(&r->own->arena, sizeof *usual, err);
    if (usual == NULL) return OT_ERR_MEMORY;
    usual[0] = r->own->task.fewshot_delimiter != NULL ? r->own->task.fewshot_delimiter : "\n\n";
    g->until = usual;
    g->n_until = 1;
    return OT_OK;
}

static ot_status take_filter_step(reader *r, const ot_yaml *step, ot_error *err) {
    const ot_yaml *function = ot_yaml_get(step, "function");
    const char *name = "";
    if (function == NULL || step->count != 1)
        return ot_yaml_fail(step, r->own->path, err, "each step of a 'filter' must be a 'function' without other keys");
    OT_TRY(ot_yaml_text(function, r->own->path, "function", &name, err));
    if (strcmp(name, "remove_whitespace") == 0) r->own->generation.strip = true;
    else if (strcmp(name, "lowercase") == 0) r->own->generation.lower = true;
    else if (strcmp(name, "take_first") != 0)
        return ot_yaml_fail(function, r->own->path, err,
                            "there is no filter '%.60s' here (known: remove_whitespace, lowercase, take_first)", name);
    return OT_OK;
}

static ot_status take_filters(reader *r, const ot_yaml *list, ot_error *err) {
    r->own->generation.filter = "none";
    if (list == NULL) return OT_OK;
    if (list->kind != OT_YAML_LIST || list->count != 1)
        return ot_yaml_fail(list, r->own->path, err, "'filter_list' must be a list of one filter");
    const ot_yaml *name = ot_yaml_get(list->first, "name"), *steps = ot_yaml_get(list->first, "filter");
    if (name == NULL || steps == NULL || steps->kind != OT_YAML_LIST)
        return ot_yaml_fail(list->first, r->own->path, err, "a filter needs a 'name' and a list 'filter'");
    OT_TRY(ot_yaml_text(name, r->own->path, "name", &r->own->generation.filter, err));
    if (strlen(r->own->generation.filter) > MAX_NAME) return ot_yaml_fail(name, r->own->path, err, "a name is too long");
    for (const ot_yaml *step = steps->first; step != NULL; step = step->next) OT_TRY(take_filter_step(r, step, err));
    return OT_OK;
}

/* ==== The file. ==== */

static const struct {
    const char *name;
    ot_status (*take)(reader *r, ot_error *err);
} keys[] = {
    {"task", take_name},
    {"output_type", take_kind},
    {"doc_to_text", take_text},
    {"doc_to_target", take_target},
    {"doc_to_choice", take_choice},
    {"description", take_description},
    {"target_delimiter", take_delimiter},
    {"fewshot_delimiter", take_fewshot_delimiter},
    {"fewshot_config", take_fewshot_config},
    {"num_fewshot", take_shots},
    {"test_split", take_test},
    {"validation_split", take_validation},
    {"training_split", take_training},
    {"fewshot_split", take_fewshot_split},
    {"dataset_path", take_dataset},
    {"dataset_name", take_dataset_name},
    {"dataset_kwargs", take_dataset_kwargs},
    {"metadata", take_metadata},
    {"repeats", take_repeats},
    /* Read when the others are known. */
    {"metric_list", take_nothing},
    {"generation_kwargs", take_nothing},
    {"filter_list", take_nothing},
    /* Of no consequence here. */
    {"tag", take_nothing},
    {"task_alias", take_nothing},
    {"should_decontaminate", take_nothing},
    {"doc_to_decontamination_query", take_nothing},
};

static ot_status take_key(reader *r, ot_error *err) {
    static const char *const python[] = {"include",      "group",        "process_docs", "process_results", "use_prompt",
                                         "doc_to_image", "doc_to_audio", "gen_prefix",   "custom_dataset",  "unsafe_code"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (strcmp(keys[i].name, r->at->key) == 0) return ot_yaml_is_null(r->at) ? OT_OK : keys[i].take(r, err);
    }
    for (size_t i = 0; i < sizeof python / sizeof *python; i++) {
        if (strcmp(python[i], r->at->key) == 0)
            return REFUSE(r, "the harness's key '%s' is not supported: a task is one file without Python", r->at->key);
    }
    return REFUSE(r, "a task file has no key '%.60s' (docs/evaluation.md lists them)", r->at->key);
}

static ot_status check(reader *r, const ot_yaml *root, ot_error *err) {
    own_task *own = r->own;
    const char *path = own->path;
    bool rolling = own->task.kind == OT_TASK_ROLLING;
    r->at = root;
    if (own->task.name == NULL) return REFUSE(r, "the key 'task' is missing: the task's name");
    if (!rolling && own->text.kind == SOURCE_ABSENT)
        return REFUSE(r, "the key 'doc_to_text' is missing: what the model is asked");
    if (own->target.kind == SOURCE_ABSENT)
        return REFUSE(r, "the key 'doc_to_target' is missing: %s",
                      rolling ? "the text whose perplexity is measured" : "the right answer");
    if (own->task.kind == OT_TASK_CHOICE && own->choice.kind == SOURCE_ABSENT)
        return REFUSE(r, "the key 'doc_to_choice' is missing: the answers to choose from");
    if ((rolling || own->task.kind == OT_TASK_TARGET) && own->choice.kind != SOURCE_ABSENT)
        return REFUSE(r, "'doc_to_choice' means nothing with loglikelihood%s", rolling ? "_rolling" : "");
    if (own->target.kind == SOURCE_NUMBER && own->choice.kind == SOURCE_ABSENT)
        return REFUSE(r, "'doc_to_target' is a number, but there is no 'doc_to_choice' for it to count in");
    if (own->test_split == NULL && own->validation_split == NULL)
        return REFUSE(r, "'test_split' or 'validation_split' must say what is scored");
    const ot_yaml *generation = ot_yaml_get(root, "generation_kwargs"), *filters = ot_yaml_get(root, "filter_list");
    const ot_yaml *misplaced = generation != NULL ? generation : filters;
    if (own->task.kind != OT_TASK_GENERATE && misplaced != NULL)
        return ot_yaml_fail(misplaced, path, err, "'%s' means nothing without output_type: generate_until", misplaced->key);
    OT_TRY(take_metrics(r, ot_yaml_get(root, "metric_list"), err));
    if (own->task.kind != OT_TASK_GENERATE) return OT_OK;
    OT_TRY(take_generation(r, generation, err));
    OT_TRY(take_filters(r, filters, err));
    own->task.generation = &own->generation;
    return OT_OK;
}

/* As the harness: scored is test, else validation; examples come from fewshot_split, else training, validation, test. */
static void settle_splits(own_task *own) {
    const char *pool = own->fewshot_split != NULL    ? own->fewshot_split
                       : own->training_split != NULL ? own->training_split
                                                     : own->validation_split;
    own->task.split = own->test_split != NULL ? own->test_split : own->validation_split;
    own->examples[0] = pool != NULL ? pool : own->test_split;
    own->task.examples = own->task.kind != OT_TASK_ROLLING ? own->examples : NULL;
    own->task.no_test_split = own->fewshot_split == NULL || own->test_split == NULL
                                  ? own->fewshot_split == own->test_split
                                  : strcmp(own->fewshot_split, own->test_split) == 0;
}

static ot_status render(const ot_task *task, const ot_row *row, ot_arena *arena, ot_task_doc *doc, ot_error *err);

static ot_status read_file(reader *r, const ot_yaml *root, ot_error *err) {
    r->at = root;
    if (root->kind != OT_YAML_MAP) return REFUSE(r, "a task file holds lines 'key: value'");
    for (const ot_yaml *item = root->first; item != NULL; item = item->next) {
        r->at = item;
        OT_TRY(take_key(r, err));
    }
    OT_TRY(check(r, root, err));
    settle_splits(r->own);
    return OT_OK;
}

ot_status ot_own_task_parse(const char *text, int64_t size, const char *path, const ot_task **out, ot_error *err) {
    own_task *own = calloc(1, sizeof *own);
    ot_yaml *root = NULL;
    if (own == NULL) return ot_fail_memory(err, sizeof *own, "a task");
    own->task = (ot_task){.help = "a task of your own", .kind = OT_TASK_GENERATE, .render = render, .own = own};
    own->delimiter = " ";
    own->path = ot_arena_strdup(&own->arena, path, err);
    ot_status status = own->path == NULL ? OT_ERR_MEMORY : ot_yaml_parse(text, size, path, &own->arena, &root, err);
    reader r = {.own = own};
    if (status == OT_OK) status = read_file(&r, root, err);
    if (status != OT_OK) {
        ot_own_task_free(&own->task);
        return status;
    }
    *out = &own->task;
    return OT_OK;
}

ot_status ot_own_task_read(const char *path, const ot_task **out, ot_error *err) {
    char *text = NULL;
    int64_t size = 0;
    OT_TRY(ot_read_file(path, 1 << 20, &text, &size, err));
    ot_status status = ot_own_task_parse(text, size, path, out, err);
    ot_free(text);
    return status;
}

void ot_own_task_free(const ot_task *task) {
    own_task *own = (own_task *)(uintptr_t)task->own;
    ot_arena_free(&own->arena);
    free(own);
}

/* ==== Documents. ==== */

/* The field that a template without expressions names, NULL when it names none; looking like a name and being none is an error.
 */
static ot_status field_of(const source *s, const ot_row *row, const json_t **out, ot_error *err) {
    const char *text = ot_template_text(s->template);
    size_t n = strlen(text);
    *out = json_object_get(row->value, text);
    if (*out != NULL || n == 0 || strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != n)
        return OT_OK;
    return ot_row_fail(row, err, "the field \"%.100s\" that %s names is missing", text, s->key);
}

/* As text: a template's, or a field's by Python's str(). */
static ot_status text_of(const source *s, const ot_row *row, ot_arena *arena, ot_str *out, ot_error *err) {
    const json_t *field = NULL;
    OT_TRY(field_of(s, row, &field, err));
    if (field == NULL) return ot_template_render(s->template, row, arena, out, err);
    return ot_py_text_of(field, arena, out, err);
}

/* Texts of a list, copied to the arena. */
static ot_status texts_of(const source *s, const json_t *list, const ot_row *row, ot_arena *arena, ot_task_doc *doc,
                          ot_error *err) {
    if (!json_is_array(list) || json_array_size(list) == 0)
        return ot_row_fail(row, err, "%s must give a list of texts, with one at least", s->key);
    OT_TRY(ot_task_choices(arena, doc, (int64_t)json_array_size(list), err));
    for (int64_t i = 0; i < doc->n_choices; i++) {
        const json_t *item = json_array_get(list, (size_t)i);
        if (!json_is_string(item) && !(s->kind == SOURCE_TEMPLATE && doc->gold == OT_GOLD_ALL)) {
            return ot_row_fail(row, err, "%s must give a list of texts; entry %" PRId64 " is none", s->key, i);
        }
        OT_TRY(ot_py_text_of(item, arena, &doc->choices[i], err));
    }
    return OT_OK;
}

static ot_status list_from_text(const source *s, ot_str text, const ot_row *row, ot_arena *arena, ot_task_doc *doc,
                                ot_error *err) {
    json_t *list = NULL;
    ot_status status = ot_python_literal(text, &list, err);
    if (status == OT_ERR_FORMAT)
        return ot_row_fail(row, err, "%s must give a list of texts, such as {{choices}} or {{[a, b]}}", s->key);
    if (status == OT_OK) status = texts_of(s, list, row, arena, doc, err);
    json_decref(list);
    return status;
}

static ot_status choices_of(const own_task *own, const ot_row *row, ot_arena *arena, ot_task_doc *doc, ot_error *err) {
    const source *s = &own->choice;
    const json_t *field = NULL;
    if (s->kind == SOURCE_TEXTS) {
        doc->choices = s->texts;
        doc->n_choices = s->n;
        return OT_OK;
    }
    OT_TRY(field_of(s, row, &field, err));
    if (field != NULL) return texts_of(s, field, row, arena, doc, err);
    if (ot_template_is_value(s->template)) {
        json_t *list = NULL;
        ot_status status = ot_template_value(s->template, row, &list, err);
        if (status == OT_OK) status = texts_of(s, list, row, arena, doc, err);
        json_decref(list);
        return status;
    }
    ot_str text;
    OT_TRY(ot_template_render(s->template, row, arena, &text, err));
    return list_from_text(s, text, row, arena, doc, err);
}

static bool all_digits(ot_str s, int64_t *out) {
    if (s.size < 1 || s.size > 9) return false;
    *out = 0;
    for (int64_t i = 0; i < s.size; i++) {
        if (s.text[i] < '0' || s.text[i] > '9') return false;
        *out = *out * 10 + (s.text[i] - '0');
    }
    return true;
}

static ot_status outside(const ot_row *row, int64_t index, const ot_task_doc *doc, ot_error *err) {
    return ot_row_fail(row, err, "doc_to_target gives %" PRId64 ", but there are %" PRId64 " choices, counted from 0", index,
                       doc->n_choices);
}

/* Several right choices, by their numbers. */
static ot_status golds_of(const json_t *list, const ot_row *row, ot_arena *arena, ot_task_doc *doc, ot_error *err) {
    int64_t n = (int64_t)json_array_size(list);
    if (n == 0) return ot_row_fail(row, err, "doc_to_target gives an empty list: no choice would be right");
    doc->golds = ot_arena_alloc(arena, n * (int64_t)sizeof *doc->golds, err);
    if (doc->golds == NULL) return OT_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(list, (size_t)i);
        if (!json_is_integer(item))
            return ot_row_fail(row, err, "doc_to_target gives a list whose entry %" PRId64 " is no whole number", i);
        doc->golds[i] = json_integer_value(item);
        if (doc->golds[i] < 0 || doc->golds[i] >= doc->n_choices) return outside(row, doc->golds[i], doc, err);
    }
    doc->n_golds = n;
    doc->gold = OT_GOLD_SOME;
    return OT_OK;
}

static ot_status golds_from_text(ot_str text, const ot_row *row, ot_arena *arena, ot_task_doc *doc, ot_error *err) {
    json_t *list = NULL;
    ot_status status = ot_python_literal(text, &list, err);
    if (status == OT_ERR_FORMAT)
        return ot_row_fail(row, err, "doc_to_target gives \"%.*s\", which is no list of numbers",
                           text.size < 100 ? (int)text.size : 100, text.text);
    if (status == OT_OK) status = golds_of(list, row, arena, doc, err);
    json_decref(list);
    return status;
}

/* A number counts in the choices; a text is one of them. Digits of a field that is a text are a text, those of a template a
 * number. */
static ot_status gold_of(const own_task *own, const ot_row *row, ot_arena *arena, ot_task_doc *doc, ot_error *err) {
    const source *s = &own->target;
    const json_t *field = NULL;
    ot_str text = {"", 0};
    int64_t index = s->number;
    bool number = s->kind == SOURCE_NUMBER;
    if (!number) {
        OT_TRY(field_of(s, row, &field, err));
        if (json_is_array(field)) return golds_of(field, row, arena, doc, err);
        number = json_is_integer(field) || json_is_boolean(field);
        if (number) index = json_is_integer(field) ? (int64_t)json_integer_value(field) : (int64_t)json_is_true(field);
        else OT_TRY(text_of(s, row, arena, &text, err));
        if (field == NULL) number = all_digits(text, &index);
    }
    bool list = field == NULL && text.size >= 2 && text.text[0] == '[' && text.text[text.size - 1] == ']';
    if (list) return golds_from_text(text, row, arena, doc, err);
    if (number) {
        if (index < 0 || index >= doc->n_choices) return outside(row, index, doc, err);
        doc->gold = index;
        return OT_OK;
    }
    for (int64_t i = 0; i < doc->n_choices; i++) {
        if (!ot_str_equal(doc->choices[i], text)) continue;
        doc->gold = i;
        return OT_OK;
    }
    return ot_row_fail(row, err, "doc_to_target gives \"%.*s\", which is none of the choices",
                       text.size < 100 ? (int)text.size : 100, text.text);
}

/* TARGET: the only answer. */
static ot_status answer_of(const own_task *own, const ot_row *row, ot_arena *arena, ot_task_doc *doc, ot_error *err) {
    doc->joined = true;
    OT_TRY(ot_task_choices(arena, doc, 1, err));
    return text_of(&own->target, row, arena, &doc->choices[0], err);
}

/* GENERATE: the answers that count. */
static ot_status answers_of(const own_task *own, const ot_row *row, ot_arena *arena, ot_task_doc *doc, ot_error *err) {
    const source *s = &own->target;
    const json_t *field = NULL;
    ot_str text;
    if (own->choice.kind != SOURCE_ABSENT) {
        OT_TRY(choices_of(own, row, arena, doc, err));
        OT_TRY(gold_of(own, row, arena, doc, err));
        if (doc->gold == OT_GOLD_SOME)
            return ot_row_fail(row, err, "doc_to_target must give one of the choices with generate_until");
        doc->choices += doc->gold;
        doc->n_choices = 1;
        doc->gold = 0;
        return OT_OK;
    }
    doc->gold = OT_GOLD_ALL;
    OT_TRY(field_of(s, row, &field, err));
    if (json_is_array(field)) return texts_of(s, field, row, arena, doc, err);
    OT_TRY(text_of(s, row, arena, &text, err));
    bool list = field == NULL && text.size >= 2 && text.text[0] == '[' && text.text[text.size - 1] == ']';
    if (list && list_from_text(s, text, row, arena, doc, NULL) == OT_OK) return OT_OK;
    doc->gold = 0;
    OT_TRY(ot_task_choices(arena, doc, 1, err));
    doc->choices[0] = text;
    return OT_OK;
}

static ot_status render(const ot_task *task, const ot_row *row, ot_arena *arena, ot_task_doc *doc, ot_error *err) {
    const own_task *own = own_of(task);
    doc->delimiter = ot_str_of(own->delimiter);
    if (task->kind == OT_TASK_ROLLING) {
        OT_TRY(text_of(&own->target, row, arena, &doc->page, err));
        doc->words = ot_py_words(doc->page);
        doc->bytes = doc->page.size;
        return OT_OK;
    }
    if (own->description.kind == SOURCE_TEMPLATE) {
        const json_t *field = json_object_get(row->value, ot_template_text(own->description.template));
        OT_TRY(field != NULL ? ot_py_text_of(field, arena, &doc->description, err)
                             : ot_template_render(own->description.template, row, arena, &doc->description, err));
    }
    OT_TRY(text_of(&own->text, row, arena, &doc->context, err));
    if (task->kind == OT_TASK_GENERATE) return answers_of(own, row, arena, doc, err);
    if (task->kind == OT_TASK_TARGET) return answer_of(own, row, arena, doc, err);
    OT_TRY(choices_of(own, row, arena, doc, err));
    return gold_of(own, row, arena, doc, err);
}
