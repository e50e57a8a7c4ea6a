/* `offsite experiment`: a grid of runs from one file, one after another, then the table. */
#include <inttypes.h>
#include <stdio.h>

#include "base/count.h"
#include "base/file.h"
#include "cli/args.h"
#include "cli/common_options.h"
#include "cli/common_paths.h"
#include "cli/experiment_list.h"
#include "cli/experiment_run.h"
#include "cli/report_print.h"
#include "cli/verbs.h"

static ot_status show(const ot_args *args, const char *dir, ot_error *err) {
    ot_report report = {0};
    ot_report_table table = {0};
    ot_status status = ot_report_read(&report, dir, err);
    if (status == OT_OK) status = ot_report_tabulate(&report, false, &table, err);
    ot_report_view view = status == OT_OK ? ot_report_view_of(&report, &table, false) : (ot_report_view){0};
    if (status == OT_OK) status = ot_args_flag(args, "json") ? ot_report_print_json(&view, stdout, err) : ot_report_print(&view, stdout, err);
    ot_report_table_free(&table);
    ot_report_free(&report);
    return status;
}

static ot_status execute(const ot_args *args, const ot_runs *runs, const char *dir, ot_error *err) {
    ot_experiment_summary s;
    OT_TRY(ot_experiment_run(runs, dir, ot_args_flag(args, "quiet"), &s, err));
    if (s.failed > 0 && s.done + s.before == 0) {
        return ot_fail(err, OT_ERR_REFUSED, "none of the %" PRId64 " step%s of %s went through: see %s/state.json", runs->n_steps, OT_PLURAL(runs->n_steps), ot_args_operand(args, "RUNS"), dir);
    }
    ot_status shown = show(args, dir, err);
    ot_status judged = ot_experiment_judge(&s, dir, err);
    return judged != OT_OK ? judged : shown;
}

/* What the queue makes under work/ makes way when it is made again: nothing that a step reads lies there. */
static ot_status check_inputs(const ot_args *args, const ot_runs_step *s, const char *dir, ot_error *err) {
    char work[4200];
    if (!ot_path_join(work, sizeof work, dir, "work")) return ot_fail(err, OT_ERR_USAGE, "the output path %s is too long", dir);
    for (int64_t i = 0; i < s->n_inputs; i++) {
        OT_TRY(ot_common_path_apart(args, "--output", work, OT_PATH_REPLACED, "input of a step", s->inputs[i].path, err));
    }
    return OT_OK;
}

/* Every command line is read as the command itself will read it: a misspelt option is told before the first one runs. */
static ot_status check(const ot_args *args, const ot_runs *runs, const char *dir, ot_error *err) {
    for (int64_t i = 0; i < runs->n_steps; i++) {
        const ot_runs_step *s = &runs->steps[i];
        char *words[OT_RUNS_MAX_WORDS + 1];
        int n = 0;
        if (s->subject != NULL) words[n++] = (char *)s->subject;
        for (int64_t k = 1; k < s->n_words; k++) words[n++] = (char *)s->words[k];
        ot_args parsed = {0};
        ot_status status = ot_args_parse(&parsed, ot_verb_find(s->verb), n, words, err);
        if (status == OT_OK) status = ot_common_paths_apart(&parsed, err);
        if (status == OT_OK) status = check_inputs(args, s, dir, err);
        ot_args_free(&parsed);
        if (status != OT_OK) return ot_error_prefix(err, "the command %s", s->name);
    }
    return OT_OK;
}

static ot_status run(const ot_args *args, ot_error *err) {
    const char *path = ot_args_operand(args, "RUNS"), *dir = ot_args_str(args, "output");
    ot_runs runs = {0};
    ot_status status = ot_experiment_open(path, dir, &runs, err);
    if (status == OT_OK) status = check(args, &runs, dir, err);
    if (status == OT_OK && ot_args_flag(args, "dry-run")) {
        status = ot_experiment_list(&runs, err);
        if (status == OT_OK) status = ot_experiment_check_inputs(&runs, path, err);
    } else if (status == OT_OK) {
        status = execute(args, &runs, dir, err);
    }
    ot_runs_free(&runs);
    return status;
}

static const ot_option options[] = {
    {.name = "output", .letter = 'o', .kind = OT_KIND_PATH, .use = OT_PATH_WRITTEN, .value = "DIR", .required = true, .help = "folder of the queue (state.json), results (steps/) and offers (work/)"},
    {.name = "dry-run", .kind = OT_KIND_FLAG, .help = "print the commands, say which files they read are missing (exit 1), and run none"},
    {0},
};
static const ot_option_group group = {"Experiment", options};
static const ot_operand operands[] = {{.name = "RUNS", .kind = OT_KIND_PATH, .help = "the YAML file of the grid; docs/report.md describes it"}, {0}};
static const ot_example examples[] = {
    {"Run the grid, or go on with it", "offsite experiment runs.yaml -o runs/"},
    {"What would be run", "offsite experiment runs.yaml -o runs/ --dry-run"},
    {0},
};

const ot_verb ot_verb_experiment = {
    .name = "experiment",
    .audience = OT_FOR_ANYONE,
    .summary = "run models, splits, emulators, rates and seeds from one file",
    .about = "Every command is a process of its own. One that fails is recorded, what needs it is left out, and the rest goes on. The same command goes on after an "
             "interruption: commands that are done are not run again, unless their words in the file or the files they read changed. Adapted models are removed once they are "
             "measured. All command lines are checked before the first one runs.",
    .examples = examples,
    .operands = operands,
    .groups = (const ot_option_group *const[]){&group, &ot_options_json, NULL},
    .run = run,
};
