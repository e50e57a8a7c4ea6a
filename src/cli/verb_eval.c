/* `offsite eval`: how well a model, an offer or an adapted model predicts a text, or answers the questions of a task. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/count.h"
#include "base/file.h"
#include "base/parallel.h"
#include "cli/common_data.h"
#include "cli/common_model.h"
#include "cli/common_options.h"
#include "cli/eval_images.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/verbs.h"
#include "eval/perplexity.h"
#include "eval/results.h"

/* ==== Blocks of a text. ==== */

static void observe_block(void *context, int64_t done, int64_t total, double loss) {
    (void)total;
    ot_progress_sample s = OT_PROGRESS_SAMPLE;
    s.step = done;
    s.loss = loss;
    ot_progress_step(context, &s);
}

static ot_status print_blocks(const ot_args *args, const ot_perplexity *p, ot_error *err) {
    bool per_block = ot_args_flag(args, "per-block");
    if (ot_args_flag(args, "json")) {
        ot_json_out out = ot_json_out_open(stdout);
        ot_json_out_object(&out, NULL);
        ot_json_out_f64(&out, "perplexity", p->perplexity);
        ot_json_out_f64(&out, "loss", p->loss);
        ot_json_out_i64(&out, "blocks", p->blocks);
        ot_json_out_i64(&out, "tokens", p->tokens);
        if (per_block) {
            ot_json_out_array(&out, "per_block");
            for (int64_t i = 0; i < p->blocks; i++) ot_json_out_f64(&out, NULL, p->per_block[i]);
        }
        return ot_json_out_close(&out, err);
    }
    printf("perplexity %.4f (loss %.6f over %s, %s tokens)\n", p->perplexity, p->loss, OT_COUNT_OF(p->blocks, "block"), OT_COUNT(p->tokens));
    for (int64_t i = 0; per_block && i < p->blocks; i++) printf("%6" PRId64 "  %.6f\n", i, p->per_block[i]);
    return OT_OK;
}

static ot_status evaluate_blocks(const ot_args *args, const ot_common_model *c, ot_error *err) {
    const ot_model *m = c->model;
    if (m->desc.vision) return ot_args_fail(args, err, "--blocks: %s reads pictures: --images FILE measures it", m->path);
    ot_dataset data = {0};
    ot_perplexity p = {0};
    ot_progress progress;
    ot_perplexity_options options = {.hooks = c->hooks, .observe = observe_block, .context = &progress};
    OT_TRY(ot_common_backend(args, &options.backend, &options.compute, err));
    ot_common_block_say(args, &m->desc);
    OT_TRY(ot_dataset_open(ot_args_str(args, "blocks"), m->path, ot_args_i64(args, "block"), m->desc.vocab_size,
                           ot_args_has(args, "limit") ? ot_args_i64(args, "limit") : 0, &data, err));
    ot_progress_begin(&progress, args, "eval", "block", data.rows, 0);
    ot_status status = ot_perplexity_run(m, &data, &options, &p, err);
    ot_progress_end(&progress);
    if (status == OT_OK) status = print_blocks(args, &p, err);
    ot_free(p.per_block);
    ot_dataset_free(&data);
    return status;
}

/* ==== Tasks. ==== */

typedef struct watch {
    const ot_args *args;
    ot_progress progress;
    const char *task;
    bool begun;
} watch;

static void observe_requests(void *context, int64_t done, int64_t total) {
    watch *w = context;
    if (!w->begun) ot_progress_begin(&w->progress, w->args, w->task, "request", total, 0);
    w->begun = true;
    ot_progress_sample s = OT_PROGRESS_SAMPLE;
    s.step = done;
    ot_progress_step(&w->progress, &s);
}

/* A JSON value on the stream that prints floats as all verbs do. */
static void put_json(ot_json_out *out, const char *key, const json_t *value) {
    if (json_is_object(value)) {
        ot_json_out_object(out, key);
        const char *name;
        json_t *item;
        json_t *object = (json_t *)(uintptr_t)value; /* jansson's iterators want it not const */
        json_object_foreach(object, name, item) put_json(out, name, item);
        ot_json_out_end(out);
    } else if (json_is_array(value)) {
        ot_json_out_array(out, key);
        for (size_t i = 0; i < json_array_size(value); i++) put_json(out, NULL, json_array_get(value, i));
        ot_json_out_end(out);
    } else if (json_is_string(value)) {
        ot_json_out_text(out, key, json_string_value(value), json_string_length(value));
    } else if (json_is_integer(value)) {
        ot_json_out_i64(out, key, json_integer_value(value));
    } else if (json_is_real(value)) {
        ot_json_out_f64(out, key, json_real_value(value));
    } else if (json_is_boolean(value)) {
        ot_json_out_bool(out, key, json_is_true(value));
    } else {
        ot_json_out_null(out, key);
    }
}

static ot_status print_table(const ot_evaluation *tasks, int64_t n, ot_error *err) {
    static const ot_column columns[] = {{"task", OT_LEFT},   {"n-shot", OT_RIGHT}, {"documents", OT_RIGHT}, {"metric", OT_LEFT},
                                        {"value", OT_RIGHT}, {"", OT_LEFT},        {"stderr", OT_RIGHT}};
    ot_table table = ot_table_begin(columns, sizeof columns / sizeof *columns);
    for (int64_t i = 0; i < n; i++) {
        for (int k = 0; k < tasks[i].n_metrics; k++) {
            const ot_metric *m = &tasks[i].metrics[k];
            ot_table_cell(&table, "%s", k == 0 ? tasks[i].task->name : "");
            if (k == 0) {
                ot_table_cell(&table, "%" PRId64, tasks[i].shots);
                ot_table_cell(&table, "%s", OT_COUNT(tasks[i].documents));
            } else {
                ot_table_cell(&table, "%s", "");
                ot_table_cell(&table, "%s", "");
            }
            const char *filter = ot_eval_filter(tasks[i].task);
            bool plain = strcmp(filter, "none") == 0;
            ot_table_cell(&table, "%s%s%s", m->name, plain ? "" : ",", plain ? "" : filter);
            ot_table_cell(&table, "%.4f", m->value);
            ot_table_cell(&table, "%s", m->has_error ? "±" : "");
            if (m->has_error) ot_table_cell(&table, "%.4f", m->error);
            else ot_table_cell(&table, "%s", "");
        }
    }
    return ot_table_print(&table, stdout, err);
}

/* One run over several tasks. */
typedef struct session {
    const ot_args *args;
    const ot_common_model *c;
    const ot_tokenizer *tokenizer;
    ot_evaluation *tasks;
    int64_t n;
    double start;
    char date[64];
} session;

static ot_status make_results(const session *s, int64_t done, json_t **results, ot_error *err) {
    const ot_args *args = s->args;
    ot_results_info info = {.model = ot_args_operand(args, "MODEL"),
                            .adapter = ot_args_str(args, "adapter"),
                            .dtype = ot_args_str(args, "dtype"),
                            .limit = ot_args_has(args, "limit") ? ot_args_i64(args, "limit") : 0,
                            .seconds = ot_seconds() - s->start,
                            .loaded = s->c->model,
                            .tokenizer = s->tokenizer,
                            .max_length = ot_args_has(args, "max-length") ? ot_args_i64(args, "max-length") : ot_score_max_length(s->c->model, s->c->hooks)};
    return ot_results_json(s->tasks, done, &info, results, err);
}

/* After every task, so that what is done is kept whatever happens to the next one. */
static ot_status keep_results(const session *s, int64_t done, ot_error *err) {
    const char *dir = ot_args_str(s->args, "output");
    json_t *results = NULL;
    if (dir == NULL) return OT_OK;
    OT_TRY(make_results(s, done, &results, err));
    ot_status status = ot_results_write(dir, s->date, results, &s->tasks[done - 1], err);
    json_decref(results);
    return status;
}

static ot_status report(const session *s, ot_error *err) {
    json_t *results = NULL;
    if (!ot_args_flag(s->args, "json")) return print_table(s->tasks, s->n, err);
    OT_TRY(make_results(s, s->n, &results, err));
    ot_json_out out = ot_json_out_open(stdout);
    put_json(&out, NULL, results);
    json_decref(results);
    return ot_json_out_close(&out, err);
}

static ot_status evaluate_each(session *s, ot_evaluate_options *options, ot_error *err) {
    for (int64_t i = 0; i < s->n; i++) {
        watch w = {.args = s->args, .task = s->tasks[i].task->name};
        options->score.observe = observe_requests;
        options->score.context = &w;
        ot_status status = ot_evaluate(s->c->model, s->tokenizer, s->tasks[i].task, options, &s->tasks[i], err);
        if (w.begun) ot_progress_end(&w.progress);
        OT_TRY(status);
        OT_TRY(keep_results(s, i + 1, err));
    }
    return OT_OK;
}

static ot_status find_tasks(const ot_args *args, ot_evaluation *tasks, int64_t n, ot_error *err) {
    for (int64_t i = 0; i < n; i++) {
        const char *name = ot_args_str_at(args, "task", i);
        OT_TRY(ot_task_open(name, &tasks[i].task, err));
        for (int64_t k = 0; k < i; k++) {
            if (strcmp(tasks[k].task->name, tasks[i].task->name) == 0) return ot_args_fail(args, err, "--task: %s is named twice", tasks[i].task->name);
        }
    }
    return OT_OK;
}

static ot_status evaluate_tasks(const ot_args *args, const ot_common_model *c, const ot_task_set_options *data, ot_evaluation *tasks, int64_t n, ot_error *err) {
    ot_evaluate_options options = {
        .data = *data,
        .score = {.hooks = c->hooks, .max_length = ot_args_i64(args, "max-length"), .rows = ot_args_i64(args, "rows"), .no_sharing = !ot_args_flag(args, "share")},
        .block = ot_args_i64(args, "block"),
    };
    ot_tokenizer *tokenizer = NULL;
    session s = {.args = args, .c = c, .tasks = tasks, .n = n, .start = ot_seconds()};
    ot_status status = ot_common_backend(args, &options.score.backend, &options.score.compute, err);
    for (int64_t i = 0; status == OT_OK && i < n; i++) status = ot_task_check(tasks[i].task, data, err); /* of all, before hours are spent on one */
    if (status == OT_OK && ot_args_has(args, "output")) status = ot_results_try(ot_args_str(args, "output"), err);
    if (status == OT_OK) status = ot_tokenizer_open(c->model->path, &tokenizer, err);
    s.tokenizer = tokenizer;
    ot_results_date(s.date, sizeof s.date);
    if (status == OT_OK) status = evaluate_each(&s, &options, err);
    if (status == OT_OK) status = report(&s, err);
    ot_tokenizer_close(tokenizer);
    return status;
}

static ot_status check_folders(const ot_args *args, const ot_task_set_options *data, const ot_evaluation *tasks, int64_t n, ot_error *err) {
    for (int64_t i = 0; i < data->n_folders; i++) {
        if (!ot_path_is_dir(data->folders[i])) return ot_fail(err, OT_ERR_IO, "--data: there is no folder %s", data->folders[i]);
    }
    for (int64_t i = 0; i < n; i++) {
        const ot_task *task = tasks[i].task;
        if (task->n_files == 0 && data->n_folders == 0) {
            return ot_args_fail(args, err, "--task %s needs --data DIR, the folder with %s.%s.jsonl", task->name, task->name, task->split);
        }
    }
    return OT_OK;
}

static ot_status open_and_evaluate(const ot_args *args, const ot_task_set_options *data, ot_evaluation *tasks, int64_t n, ot_error *err) {
    ot_common_model c = {0};
    OT_TRY(ot_common_open(args, &c, err));
    ot_status status = c.model->desc.vision ? ot_args_fail(args, err, "--task: %s reads pictures: --images FILE measures it", c.model->path)
                                            : evaluate_tasks(args, &c, data, tasks, n, err);
    ot_common_close(&c);
    return status;
}

static ot_status run_tasks(const ot_args *args, ot_error *err) {
    int64_t n = ot_args_count(args, "task"), n_folders = ot_args_count(args, "data");
    ot_evaluation *tasks = calloc((size_t)n, sizeof *tasks);
    const char **folders = calloc((size_t)n_folders + 1, sizeof *folders);
    ot_task_set_options data = {.folders = folders, .n_folders = n_folders, .shots = -1};
    ot_status status = tasks != NULL && folders != NULL ? OT_OK : ot_fail_memory(err, sizeof *tasks, "the tasks");
    for (int64_t i = 0; status == OT_OK && i < n_folders; i++) folders[i] = ot_args_str_at(args, "data", i);
    if (ot_args_has(args, "num-fewshot")) data.shots = ot_args_i64(args, "num-fewshot");
    if (ot_args_has(args, "limit")) data.limit = ot_args_i64(args, "limit");
    if (status == OT_OK) status = find_tasks(args, tasks, n, err);
    if (status == OT_OK) status = check_folders(args, &data, tasks, n, err);
    if (status == OT_OK) status = open_and_evaluate(args, &data, tasks, n, err);
    for (int64_t i = 0; tasks != NULL && i < n; i++) {
        ot_evaluation_free(&tasks[i]);
        ot_task_close(tasks[i].task);
    }
    free(tasks);
    free(folders);
    return status;
}

static ot_status run(const ot_args *args, ot_error *err) {
    bool tasks = ot_args_has(args, "task"), blocks = ot_args_has(args, "blocks"), images = ot_args_has(args, "images");
    if (tasks && blocks) return ot_args_fail(args, err, "--task and --blocks are two measures: ask for one at a time");
    if (images && (tasks || blocks)) return ot_args_fail(args, err, "--images is a measure of its own: ask for one at a time");
    if (!tasks && !blocks && !images) {
        return ot_args_fail(args, err, "say what to measure: --blocks FILE (perplexity), --task NAME --data DIR (accuracy) or --images PHOTOS (pictures)");
    }
    if (tasks) return run_tasks(args, err);
    ot_common_model c = {0};
    OT_TRY(ot_common_open(args, &c, err));
    ot_status status = images ? ot_eval_images(args, &c, err) : evaluate_blocks(args, &c, err);
    ot_common_close(&c);
    return status;
}

static const ot_option options[] = {
    {.name = "blocks", .kind = OT_KIND_PATH, .value = "FILE", .help = "perplexity of text, or of .safetensors with input_ids [N, T]"},
    {.name = "images", .kind = OT_KIND_PATH, .value = "FILE", .repeatable = true, .help = "accuracy of a classifier on pictures: a folder with a folder for each class, a .tar archive, a .csv list, or .safetensors with pixel_values "
             "and labels"},
    {.name = "classes", .kind = OT_KIND_STRING, .value = "NAME,...", .commas = true,
     .help = "names of the classes that the labels of .safetensors count from 0, where they are not the model's own numbers"},
    {.name = "block", .kind = OT_KIND_I64, .fallback = "512", .min = 2, .max = OT_NO_MAX, .help = "tokens in a block cut from text; the remainder is dropped"},
    {.name = "limit", .kind = OT_KIND_I64, .min = 1, .max = OT_NO_MAX, .shown = "all", .help = "blocks, documents or pictures to score, from the first; of picture files, spread over all"},
    {.name = "strict", .kind = OT_KIND_FLAG, .help = "pictures: stop at the first that cannot be read instead of leaving it out"},
    {.name = "per-block", .kind = OT_KIND_FLAG, .help = "print the loss of every block too"},
    {0},
};
static const ot_option_group group = {"Data", options};
static const ot_option task_options[] = {
    {.name = "task", .kind = OT_KIND_STRING, .may_be_path = true, .value = "NAMES", .commas = true, .help = "tasks to score, as lm-evaluation-harness does: openbookqa, piqa, arc_easy, arc_challenge, hellaswag, sciq, webqs, race, "
             "wikitext, blocks; or a .yaml file with a task of your own; 'offsite help task' describes them"},
    {.name = "data", .kind = OT_KIND_PATH, .value = "DIR", .repeatable = true, .help = "where the rows are: DIR/TASK.SPLIT.jsonl with the official fields"},
    {.name = "num-fewshot", .kind = OT_KIND_I64, .min = 0, .max = 1024, .shown = "0, or the task file's", .help = "examples in front of each document, drawn as the harness draws them"},
    {.name = "output", .letter = 'o', .kind = OT_KIND_PATH, .use = OT_PATH_WRITTEN, .value = "DIR", .transient = true, .help = "write results_DATE.json and samples_TASK_DATE.jsonl there, as the harness does"},
    {.name = "max-length", .kind = OT_KIND_I64, .fallback = "0", .min = 0, .max = 1 << 24, .shown = "the model's", .help = "tokens fed at most; longer contexts lose their beginning"},
    {.name = "rows", .kind = OT_KIND_I64, .fallback = "0", .min = 0, .max = 1 << 24, .shown = "1024", .transient = true, .help = "tokens computed at once: memory against speed"},
    {.name = "share", .kind = OT_KIND_FLAG, .fallback = "yes", .transient = true, .help = "compute the context again for every choice"},
    {0},
};
static const ot_option_group task_group = {"Tasks", task_options};
static const ot_operand operands[] = {{.name = "MODEL", .kind = OT_KIND_PATH, .help = "a Hugging Face model folder, an offer or a GGUF file"}, {0}};
static const ot_example examples[] = {
    {"Perplexity of a model and of its emulator", "offsite eval gpt2/ --blocks test.txt; offsite eval offer --blocks test.txt"},
    {"Accuracy on two tasks, with every answer kept", "offsite eval gpt2/ --task arc_easy,piqa --data qa/ --output scores/"},
    {"A task of your own (docs/evaluation.md says what the file holds)", "offsite eval gpt2/ --task tickets.yaml"},
    {"Accuracy on pictures, each class, and what is taken for what", "offsite eval tuned/ --images photos/"},
    {"Three examples in front of each question", "offsite eval gpt2/ --task arc_easy --data qa/ --num-fewshot 3 --limit 100"},
    {0},
};

const ot_verb ot_verb_eval = {
    .name = "eval",
    .audience = OT_FOR_ANYONE,
    .summary = "measure perplexity of a text, or accuracy on tasks or pictures",
    .about = "With --blocks, the text is tokenised whole without special tokens and cut into blocks that do not overlap. The loss of a block is the mean over its "
             "block - 1 predictions, perplexity the exponential of the mean over blocks: the measure of the paper.\n\n"
             "With --task, every document of a task becomes a context and the choices that may follow it. The score of a choice is the log-likelihood of its tokens; "
             "acc counts documents whose likeliest choice is the right one, acc_norm divides by the characters of a choice first. Prompts, counting and files are those of "
             "lm-evaluation-harness 0.4. The choices of a document share the work on its context.\n\n"
             "With --images, a classifier names the class of each picture: top-1 and top-5 accuracy, each class, and what is taken for what; --output keeps the five "
             "likeliest classes of every picture.",
    .examples = examples,
    .operands = operands,
    .groups = (const ot_option_group *const[]){&group, &task_group, &ot_options_adapter, &ot_options_compute, &ot_options_json, NULL},
    .run = run,
};
