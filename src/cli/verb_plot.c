/* `offsite plot`: the curves of training logs, in the terminal or as a picture. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "cli/output.h"
#include "cli/text.h"
#include "cli/verbs.h"
#include "format/json.h"
#include "plot/plot.h"

enum { LOG_LIMIT = 1 << 30, LINE_LIMIT = 1 << 20, MAX_SERIES = 256, NAME_TEXT = 160, ROWS = 22 };

/* One curve as read: values of one key of one run of one log. */
typedef struct curve {
    const char *key;
    int64_t run;
    double *x, *y, *smooth;
    int64_t count, capacity_x, capacity_y;
    const char **labels; /* validation: the best point is named */
    int64_t best;
    char name[NAME_TEXT], best_text[40];
    int32_t color;
    bool validation;
} curve;

typedef struct job {
    const ot_args *args;
    const char *log;  /* the one being read */
    const char *x_key;
    curve *curves;
    int64_t n_curves, log_first; /* curves of the present log begin at log_first */
    double tokens;               /* of the newest step line, for validation lines, which do not repeat it */
    ot_arena arena;
} job;

/* ==== Reading. ==== */

static ot_status curve_of(job *j, const char *key, int64_t run, bool validation, curve **out, ot_error *err) {
    for (int64_t i = j->log_first; i < j->n_curves; i++) {
        if (j->curves[i].key == key && j->curves[i].run == run) {
            *out = &j->curves[i];
            return OT_OK;
        }
    }
    if (j->n_curves == MAX_SERIES) return ot_fail(err, OT_ERR_REFUSED, "%s: more than %d curves: plot fewer logs or keys at a time", j->log, MAX_SERIES);
    *out = &j->curves[j->n_curves++];
    **out = (curve){.key = key, .run = run, .best = -1, .validation = validation};
    return OT_OK;
}

static ot_status add_point(job *j, const char *key, bool validation, const json_t *line, int64_t run, ot_error *err) {
    const json_t *value = json_object_get(line, key), *x = json_object_get(line, j->x_key);
    if (value == NULL) return OT_OK;
    curve *c = NULL;
    OT_TRY(curve_of(j, key, run, validation, &c, err));
    OT_TRY(ot_grow((void **)&c->x, &c->capacity_x, c->count + 1, sizeof *c->x, "the points of a curve", err));
    OT_TRY(ot_grow((void **)&c->y, &c->capacity_y, c->count + 1, sizeof *c->y, "the points of a curve", err));
    c->y[c->count] = json_is_number(value) ? json_number_value(value) : NAN;
    c->x[c->count] = json_is_number(x) ? json_number_value(x) : j->tokens;
    if (validation && (c->best < 0 || c->y[c->count] < c->y[c->best])) c->best = c->count;
    c->count++;
    return OT_OK;
}

static ot_status read_line(job *j, const char *text, int64_t size, int64_t number, ot_error *err) {
    char where[4300];
    json_t *line = NULL;
    snprintf(where, sizeof where, "%s:%" PRId64, j->log, number);
    OT_TRY(ot_json_parse(text, size, where, &line, err));
    ot_status status = OT_OK;
    if (!json_is_object(line) || !json_is_integer(json_object_get(line, "step"))) {
        status = ot_fail(err, OT_ERR_FORMAT, "%s: no line of a training log: it has no \"step\"", where);
    }
    const json_t *tokens = json_object_get(line, "tokens"), *of_run = json_object_get(line, "run"), *event = json_object_get(line, "event");
    if (json_is_number(tokens)) j->tokens = json_number_value(tokens);
    int64_t run = json_is_integer(of_run) ? json_integer_value(of_run) : -1, n = ot_args_count(j->args, "key");
    for (int64_t k = 0; status == OT_OK && event == NULL && k < n; k++) {
        const char *key = ot_args_str_at(j->args, "key", k);
        status = add_point(j, key, strcmp(key, "valid_loss") == 0, line, run, err);
        if (status == OT_OK && strcmp(key, "loss") == 0) status = add_point(j, "valid_loss", true, line, run, err);
    }
    json_decref(line);
    return status;
}

static ot_status read_log(job *j, const char *path, ot_error *err) {
    char *text = NULL;
    int64_t size = 0, number = 0;
    j->log = path;
    j->log_first = j->n_curves;
    j->tokens = 0;
    OT_TRY(ot_read_file(path, LOG_LIMIT, &text, &size, err));
    ot_status status = OT_OK;
    for (int64_t at = 0; status == OT_OK && at < size;) {
        const char *end = memchr(text + at, '\n', (size_t)(size - at));
        if (end == NULL) break; /* a run in progress is still writing this line */
        int64_t length = end - (text + at);
        number++;
        if (length > LINE_LIMIT) {
            status = ot_fail(err, OT_ERR_FORMAT, "%s:%" PRId64 ": a line of %" PRId64 " bytes: this is no training log", path, number, length);
        } else if (length > 0) {
            status = read_line(j, text + at, length, number, err);
        }
        at += length + 1;
    }
    ot_free(text);
    if (status == OT_OK && j->n_curves == j->log_first) {
        status = ot_fail(err, OT_ERR_REFUSED, "%s has no line with %s: there is nothing to draw", path, ot_args_str_at(j->args, "key", 0));
    }
    return status;
}

/* ==== Drawing. ==== */

/* Half-lives of the smoothed curve, in points. */
static double half_life(const job *j, const curve *c) {
    return ot_args_has(j->args, "smooth") ? ot_args_f64(j->args, "smooth") : (double)c->count / 50.0;
}

/* "notes" of logs/notes.jsonl, and what else tells the curves apart. */
static void name_curve(curve *c, const char *path, bool several_logs) {
    const char *base = ot_path_base(path);
    int length = (int)strlen(base) - (ot_path_ends(base, ".jsonl") ? 6 : 0);
    char run[32] = "";
    if (c->run >= 0) snprintf(run, sizeof run, "run %" PRId64, c->run + 1);
    const char *what = strcmp(c->key, "loss") == 0 ? "training" : c->validation ? "validation" : c->key;
    const char *parts[] = {run, what};
    int used = several_logs ? snprintf(c->name, sizeof c->name, "%.*s", length > 100 ? 100 : length, base) : 0;
    for (int i = 0; i < 2; i++) {
        if (*parts[i] == '\0') continue;
        used += snprintf(c->name + used, sizeof c->name - (size_t)used, "%s%.24s", used > 0 ? ", " : "", parts[i]);
    }
}

static ot_status prepare(job *j, curve *c, ot_error *err) {
    OT_TRY(ot_malloc(c->count, sizeof *c->smooth, "a smoothed curve", (void **)&c->smooth, err));
    ot_plot_smooth(c->y, c->count, c->validation ? 0 : half_life(j, c), c->smooth);
    if (c->best < 0) return OT_OK;
    c->labels = ot_arena_alloc(&j->arena, c->count * (int64_t)sizeof *c->labels, err);
    if (c->labels == NULL) return OT_ERR_MEMORY;
    snprintf(c->best_text, sizeof c->best_text, "best %.4g", c->y[c->best]);
    c->labels[c->best] = c->best_text;
    return OT_OK;
}

static int64_t make_series(const job *j, ot_plot_series *out) {
    int64_t n = 0;
    for (int64_t i = 0; i < j->n_curves; i++) {
        const curve *c = &j->curves[i];
        bool smoothed = !c->validation && half_life(j, c) >= 0.5;
        ot_plot_series s = {.name = c->name, .x = c->x, .y = c->smooth, .count = c->count, .color = c->color};
        if (c->validation) {
            s.mark = OT_PLOT_LINE_AND_POINTS;
            s.labels = c->labels;
        }
        /* In a terminal the raw values would cover the smoothed ones. */
        if (smoothed && ot_args_has(j->args, "output")) {
            out[n++] = (ot_plot_series){.x = c->x, .y = c->y, .count = c->count, .color = c->color, .faint = true};
        }
        out[n++] = s;
    }
    return n;
}

static ot_status draw(job *j, ot_error *err) {
    ot_plot_series series[MAX_SERIES * 2];
    const char *title = ot_args_str(j->args, "title"), *output = ot_args_str(j->args, "output");
    ot_plot plot = {.title = title,
                    .x_label = j->x_key,
                    .y_label = ot_args_count(j->args, "key") == 1 ? ot_args_str_at(j->args, "key", 0) : NULL,
                    .series = series,
                    .log_x = ot_args_flag(j->args, "log-x"),
                    .log_y = ot_args_flag(j->args, "log-y")};
    plot.n_series = make_series(j, series);
    char *text = NULL;
    size_t size = 0;
    if (output == NULL) {
        ot_plot_terminal terminal = {.columns = ot_terminal_width(stdout), .rows = ROWS, .color = ot_terminal_styled(stdout)};
        OT_TRY(ot_plot_text(&plot, &terminal, &text, &size, err));
        fwrite(text, 1, size, stdout);
        free(text);
        return OT_OK;
    }
    OT_TRY(ot_plot_svg(&plot, &text, &size, err));
    ot_status status = ot_write_file(output, text, (int64_t)size, err);
    free(text);
    if (status == OT_OK) printf("wrote %s\n", output);
    return status;
}

static ot_status plot_logs(job *j, ot_error *err) {
    static const char *const keys[] = {"step", "tokens", "epoch"};
    int64_t n = ot_args_operand_count(j->args, "LOG");
    j->x_key = keys[ot_args_choice(j->args, "x")];
    OT_TRY(ot_calloc(MAX_SERIES, sizeof *j->curves, "the curves", (void **)&j->curves, err));
    for (int64_t i = 0; i < n; i++) {
        const char *path = ot_args_operand_at(j->args, "LOG", i);
        OT_TRY(read_log(j, path, err));
        for (int64_t k = j->log_first; k < j->n_curves; k++) name_curve(&j->curves[k], path, n > 1);
    }
    for (int64_t i = 0; i < j->n_curves; i++) {
        j->curves[i].color = (int32_t)i;
        OT_TRY(prepare(j, &j->curves[i], err));
    }
    return draw(j, err);
}

static ot_status run(const ot_args *args, ot_error *err) {
    job j = {.args = args};
    ot_status status = plot_logs(&j, err);
    for (int64_t i = 0; i < j.n_curves; i++) {
        ot_free(j.curves[i].x);
        ot_free(j.curves[i].y);
        ot_free(j.curves[i].smooth);
    }
    ot_free(j.curves);
    ot_arena_free(&j.arena);
    return status;
}

static const char *const x_axes[] = {"step", "tokens", "epoch", NULL};
static const ot_option options[] = {
    {.name = "output", .letter = 'o', .kind = OT_KIND_PATH, .use = OT_PATH_REPLACED, .value = "FILE.svg", .help = "write a picture instead of drawing in the terminal"},
    {.name = "key",
     .kind = OT_KIND_STRING,
     .value = "KEY,...",
     .fallback = "loss",
     .commas = true,
     .help = "what to draw: loss (with valid_loss), grad_norm, learning_rate, tokens_per_second, or any other number of the log"},
    {.name = "x", .kind = OT_KIND_ENUM, .choices = x_axes, .fallback = "step", .help = "what the horizontal axis counts"},
    {.name = "smooth",
     .kind = OT_KIND_F64,
     .value = "N",
     .min = 0,
     .max = OT_NO_MAX,
     .shown = "a fiftieth of the steps",
     .help = "average with weights that halve every N steps; 0: the values as they are"},
    {.name = "log-x", .kind = OT_KIND_FLAG, .help = "logarithmic horizontal axis"},
    {.name = "log-y", .kind = OT_KIND_FLAG, .help = "logarithmic vertical axis"},
    {.name = "title", .kind = OT_KIND_STRING, .value = "TEXT", .help = "heading of the chart"},
    {0},
};
static const ot_option_group group = {"Chart", options};
static const ot_operand operands[] = {
    {.name = "LOG", .kind = OT_KIND_PATH, .repeated = true, .help = "logs that --log of tune, finetune, pretrain or distill wrote; also of a run in progress"},
    {0},
};
static const ot_example examples[] = {
    {"The curves of a run, here and now", "offsite plot run.jsonl"},
    {"Two runs in one picture", "offsite plot low.jsonl high.jsonl -o compare.svg --title 'Two rates'"},
    {"Gradient norms over tokens", "offsite plot run.jsonl --key grad_norm --x tokens --log-y"},
    {0},
};

const ot_verb ot_verb_plot = {
    .name = "plot",
    .audience = OT_FOR_ANYONE,
    .summary = "draw the curves of training logs, in the terminal or as SVG",
    .about = "The training loss is smoothed, with the raw values faint behind it in a picture; validation losses are points, the best one named. The "
             "picture follows the reader's light or dark setting and prints well.",
    .examples = examples,
    .operands = operands,
    .groups = (const ot_option_group *const[]){&group, NULL},
    .run = run,
};
