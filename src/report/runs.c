#include "report/runs.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "report/runs_internal.h"

enum { TEXT_ROOM = 4600 };

/* A step while it is put together; the first failure stays in *err and `status`. */
typedef struct draft {
    ot_grid *g;
    ot_error *err;
    ot_status status;
    ot_runs_step step;
    const char *words[OT_RUNS_MAX_WORDS];
    ot_runs_input inputs[OT_RUNS_MAX_INPUTS];
} draft;

static const char *text(draft *d, const char *format, ...) __attribute__((format(printf, 2, 3)));
static const char *text(draft *d, const char *format, ...) {
    char room[TEXT_ROOM];
    va_list given;
    va_start(given, format);
    int n = vsnprintf(room, sizeof room, format, given);
    va_end(given);
    if (d->status != OT_OK) return "";
    if (n < 0 || n >= TEXT_ROOM) {
        d->status = ot_fail(d->err, OT_ERR_USAGE, "%s: a value is longer than %d bytes", d->g->name, TEXT_ROOM - 200);
        return "";
    }
    const char *copy = ot_arena_strdup(&d->g->runs->arena, room, d->err);
    if (copy == NULL) d->status = OT_ERR_MEMORY;
    return copy != NULL ? copy : "";
}

static void word(draft *d, const char *w) {
    if (d->status != OT_OK) return;
    if (d->step.n_words == OT_RUNS_MAX_WORDS) {
        d->status = ot_fail(d->err, OT_ERR_FORMAT, "%s: a command has more than %d words: give it fewer tasks, files or options", d->g->name, (int)OT_RUNS_MAX_WORDS);
        return;
    }
    d->words[d->step.n_words++] = w;
}

static void input(draft *d, const char *path, const char *prefix) {
    if (path == NULL || d->status != OT_OK) return;
    if (d->step.n_inputs == OT_RUNS_MAX_INPUTS) {
        d->status = ot_fail(d->err, OT_ERR_FORMAT, "%s: a command reads more than %d files and folders: give it fewer", d->g->name, (int)OT_RUNS_MAX_INPUTS);
        return;
    }
    d->inputs[d->step.n_inputs++] = (ot_runs_input){path, prefix};
}

static void put_options(draft *d, const ot_yaml *map) {
    for (const ot_yaml *o = map != NULL ? map->first : NULL; o != NULL; o = o->next) word(d, text(d, "--%s=%s", o->key, o->text));
}

static void put_files(draft *d, const char *option, const ot_grid_list *files) {
    for (int64_t i = 0; i < files->n; i++) {
        word(d, text(d, "--%s=%s", option, files->at[i]));
        input(d, files->at[i], NULL);
    }
}

static draft begin(ot_grid *g, const char *verb, int role, const ot_setting *setting, ot_error *err) {
    return (draft){.g = g, .err = err, .step = {.verb = verb, .role = role, .setting = *setting, .needs = {-1, -1}}};
}

static ot_status end(draft *d, int64_t *index) {
    ot_runs *r = d->g->runs;
    ot_error *err = d->err;
    OT_TRY(d->status);
    if (r->n_steps == OT_RUNS_MAX_STEPS) return ot_fail(err, OT_ERR_FORMAT, "%s: the grid has more than %d commands: make it smaller", d->g->name, (int)OT_RUNS_MAX_STEPS);
    OT_TRY(ot_grow((void **)&r->steps, &r->capacity, r->n_steps + 1, (int64_t)sizeof *r->steps, "the experiment's commands", err));
    const char **words = ot_arena_alloc(&r->arena, d->step.n_words * (int64_t)sizeof *words, err);
    ot_runs_input *inputs = ot_arena_alloc(&r->arena, (d->step.n_inputs + 1) * (int64_t)sizeof *inputs, err);
    if (words == NULL || inputs == NULL) return OT_ERR_MEMORY;
    memcpy(words, d->words, (size_t)d->step.n_words * sizeof *words);
    memcpy(inputs, d->inputs, (size_t)d->step.n_inputs * sizeof *inputs);
    d->step.words = words;
    d->step.inputs = inputs;
    *index = r->n_steps;
    r->steps[r->n_steps++] = d->step;
    return OT_OK;
}

/* ==== Measuring. ==== */

typedef struct subject {
    const char *path;  /* a model, an offer, or an adapter of base */
    const char *base;  /* NULL: path stands alone, or is an adapter of the setting's model: that is seen when it is there */
    int64_t needs[2];
    bool outside; /* no step made it */
} subject;

/* The files that a user's task names. One that cannot be read is the eval's to complain about. */
static void put_task_files(draft *d, const char *path) {
    ot_runs *r = d->g->runs;
    ot_yaml *top = NULL;
    ot_error ignored;
    input(d, path, NULL);
    if (ot_yaml_read(path, &r->arena, &top, &ignored) != OT_OK || top->kind != OT_YAML_MAP) return;
    const ot_yaml *given = ot_yaml_get(top, "dataset_kwargs"), *name = ot_yaml_get(top, "task");
    const ot_yaml *files = given != NULL && given->kind == OT_YAML_MAP ? ot_yaml_get(given, "data_files") : NULL;
    for (const ot_yaml *f = files != NULL && files->kind == OT_YAML_MAP ? files->first : NULL; f != NULL; f = f->next) {
        int folder = (int)(strlen(path) - strlen(ot_path_base(path)));
        if (f->kind == OT_YAML_SCALAR) input(d, text(d, "%.*s%s", *f->text == '/' ? 0 : folder, path, f->text), NULL);
    }
    for (int64_t i = 0; name != NULL && name->kind == OT_YAML_SCALAR && i < d->g->data.n; i++) input(d, d->g->data.at[i], name->text);
}

/* A task's rows: its own files and those of its name in the folders of data. */
static void put_task(draft *d, const char *task) {
    const ot_grid_list *data = &d->g->data;
    word(d, text(d, "--task=%s", task));
    if (ot_path_ends(task, ".yaml") || ot_path_ends(task, ".yml")) {
        put_task_files(d, task);
        return;
    }
    for (int64_t i = 0; i < data->n; i++) input(d, data->at[i], task);
}

static ot_status add_eval(ot_grid *g, int role, const ot_setting *setting, const char *prefix, const subject *what, const char *measure, ot_error *err) {
    draft d = begin(g, "eval", role, setting, err);
    int64_t index;
    bool blocks = strcmp(measure, "blocks") == 0, images = strcmp(measure, "images") == 0;
    d.step.name = text(&d, "%s.%s", prefix, measure);
    d.step.subject = what->base == NULL ? what->path : NULL;
    memcpy(d.step.needs, what->needs, sizeof d.step.needs);
    if (what->outside) input(&d, what->base != NULL ? what->base : what->path, NULL);
    word(&d, "eval");
    if (what->base != NULL) {
        word(&d, what->base);
        word(&d, text(&d, "--adapter=%s", what->path));
    }
    if (blocks) put_files(&d, "blocks", &(ot_grid_list){.at = {g->blocks}, .n = 1});
    if (images) put_files(&d, "images", &g->images);
    if (!blocks && !images) {
        for (int64_t i = 0; i < g->tasks.n; i++) {
            if (setting->task == NULL || strcmp(setting->task, g->tasks.at[i]) == 0) put_task(&d, g->tasks.at[i]);
        }
        for (int64_t i = 0; i < g->data.n; i++) word(&d, text(&d, "--data=%s", g->data.at[i]));
    }
    put_options(&d, g->eval_options);
    return end(&d, &index);
}

/* ==== Training. ==== */

/* One point of the grid behind the offer. */
typedef struct point {
    const ot_grid_set *set;
    const char *rate, *seed, *prefix;
} point;

/* `tune` of an offer or `finetune` of a model. */
static ot_status add_training(ot_grid *g, const char *verb, const ot_setting *setting, const point *p, const char *what, int64_t need, int64_t *index,
                              const char **output, ot_error *err) {
    draft d = begin(g, verb, -1, setting, err);
    const char *task = p->set->task;
    d.step.needs[0] = need;
    d.step.name = text(&d, "%s.%s", p->prefix, verb);
    d.step.output = *output = text(&d, "%s/work/%s", g->dir, d.step.name);
    if (need < 0) input(&d, what, NULL);
    word(&d, verb);
    word(&d, what);
    put_files(&d, "train", &p->set->train);
    put_files(&d, "valid", &p->set->valid);
    if (task != NULL && strcmp(task, "blocks") != 0 && strcmp(task, "images") != 0) word(&d, text(&d, "--task=%s", task));
    word(&d, text(&d, "--lr=%s", p->rate));
    word(&d, text(&d, "--seed=%s", p->seed));
    if (strcmp(setting->peft, "full") != 0) word(&d, text(&d, "--peft=%s", setting->peft));
    word(&d, text(&d, "--log=%s/steps/%s.jsonl", g->dir, d.step.name));
    put_options(&d, g->train_options);
    word(&d, "--resume");
    word(&d, text(&d, "--output=%s", d.step.output));
    return end(&d, index);
}

/* What a model that does not know the classes is measured with: a new head, trained by itself. */
static ot_status add_probe(ot_grid *g, const ot_setting *setting, const char *prefix, const subject *what, subject *probed, ot_error *err) {
    draft d = begin(g, "", -1, setting, err);
    ot_setting head = *setting;
    point p = {.set = ot_grid_set_of(g, "images"), .rate = g->probe, .seed = g->seeds.at[0], .prefix = text(&d, "%s.probe", prefix)};
    int64_t index;
    OT_TRY(d.status);
    head.peft = "head";
    *probed = (subject){.base = what->path, .outside = what->outside};
    OT_TRY(add_training(g, "finetune", &head, &p, what->path, what->needs[0], &index, &probed->path, err));
    g->runs->steps[index].setting = *setting;
    g->runs->steps[index].probe = true;
    probed->needs[0] = index;
    probed->needs[1] = what->needs[0];
    return OT_OK;
}

/* ==== What is measured of a model, an offer or what was tuned. ==== */

/* By what the setting's training data are for: one task, the blocks, the pictures; or all of it. */
static ot_status add_evals(ot_grid *g, int role, const ot_setting *setting, const char *prefix, const subject *what, ot_error *err) {
    const char *only = setting->task;
    bool blocks = g->blocks != NULL && (only == NULL || strcmp(only, "blocks") == 0), images = g->images.n > 0 && (only == NULL || strcmp(only, "images") == 0);
    bool own = only != NULL && (blocks || images);
    if (g->tasks.n > 0 && !own) OT_TRY(add_eval(g, role, setting, prefix, what, "tasks", err));
    if (blocks) OT_TRY(add_eval(g, role, setting, prefix, what, "blocks", err));
    if (!images) return OT_OK;
    subject probed = *what;
    if (g->probe != NULL && (role == OT_ROLE_ZERO_SHOT || role == OT_ROLE_EMULATOR)) OT_TRY(add_probe(g, setting, prefix, what, &probed, err));
    return add_eval(g, role, setting, prefix, &probed, "images", err);
}

static ot_status add_tuning(ot_grid *g, const ot_setting *setting, const point *p, const char *offer, int64_t split, ot_error *err) {
    int64_t tune, plug;
    const char *returned;
    OT_TRY(add_training(g, "tune", setting, p, offer, split, &tune, &returned, err));
    draft d = begin(g, "plug", -1, setting, err);
    const char *tuned = text(&d, "%s.tuned", p->prefix), *plugged = text(&d, "%s.plug_in", p->prefix);
    OT_TRY(d.status);
    OT_TRY(add_evals(g, OT_ROLE_TUNED, setting, tuned, &(subject){.path = returned, .base = offer, .needs = {tune, split}}, err));
    d.step.needs[0] = tune;
    d.step.name = text(&d, "%s.plug", p->prefix);
    d.step.output = text(&d, "%s/work/%s", g->dir, d.step.name);
    input(&d, setting->model, NULL);
    word(&d, "plug");
    word(&d, setting->model);
    word(&d, returned);
    word(&d, text(&d, "--ledger=%s.owner.json", offer));
    put_options(&d, g->plug_options);
    word(&d, "--force");
    word(&d, text(&d, "--output=%s", d.step.output));
    OT_TRY(end(&d, &plug));
    return add_evals(g, OT_ROLE_PLUG_IN, setting, plugged, &(subject){.path = d.step.output, .needs = {plug, -1}}, err);
}

static ot_status add_full(ot_grid *g, const ot_setting *setting, const point *p, ot_error *err) {
    int64_t trained;
    const char *output;
    OT_TRY(add_training(g, "finetune", setting, p, setting->model, -1, &trained, &output, err));
    return add_evals(g, OT_ROLE_FULL, setting, p->prefix, &(subject){.path = output, .needs = {trained, -1}}, err);
}

/* Tuning methods, training data, rates, seeds; offer NULL: full fine-tuning. */
static ot_status add_points(ot_grid *g, ot_setting setting, const char *prefix, const char *offer, int64_t split, ot_error *err) {
    for (int64_t m = 0; m < g->peft.n; m++) {
        for (int64_t t = 0; t < g->n_sets; t++) {
            for (int64_t k = 0; k < g->rates.n * g->seeds.n; k++) {
                draft d = begin(g, "", -1, &setting, err);
                point p = {.set = &g->sets[t], .rate = g->rates.at[k / g->seeds.n], .seed = g->seeds.at[k % g->seeds.n]};
                char set[32] = "";
                if (p.set->task != NULL) snprintf(set, sizeof set, ".t%" PRId64, t);
                p.prefix = text(&d, "%s%s.p%" PRId64 "%s.lr%s.seed%s", prefix, offer == NULL ? ".full" : "", m, set, p.rate, p.seed);
                OT_TRY(d.status);
                setting.peft = g->peft.at[m];
                setting.task = p.set->task;
                setting.lr = strtod(p.rate, NULL);
                setting.seed = strtoll(p.seed, NULL, 10);
                OT_TRY(offer == NULL ? add_full(g, &setting, &p, err) : add_tuning(g, &setting, &p, offer, split, err));
            }
        }
    }
    return OT_OK;
}

/* ==== Offers and models. ==== */

static ot_status add_offer(ot_grid *g, const ot_setting *setting, const char *prefix, ot_error *err) {
    draft d = begin(g, "split", -1, setting, err);
    char bottom[8] = "", top[8] = "";
    int64_t split;
    ot_grid_split(setting->split, bottom, top);
    const char *emulator = text(&d, "%s.emulator", prefix);
    d.step.name = text(&d, "%s.split", prefix);
    d.step.output = text(&d, "%s/work/%s", g->dir, d.step.name);
    input(&d, setting->model, NULL);
    word(&d, "split");
    word(&d, setting->model);
    word(&d, text(&d, "--bottom=%s", bottom));
    word(&d, text(&d, "--top=%s", top));
    word(&d, text(&d, "--emulator=%s", setting->emulator));
    if (g->measured != NULL) put_files(&d, "data", &(ot_grid_list){.at = {g->measured}, .n = 1});
    put_options(&d, g->split_options);
    word(&d, "--force");
    word(&d, text(&d, "--output=%s", d.step.output));
    OT_TRY(end(&d, &split));
    OT_TRY(add_evals(g, OT_ROLE_EMULATOR, setting, emulator, &(subject){.path = d.step.output, .needs = {split, -1}}, err));
    return add_points(g, *setting, prefix, d.step.output, split, err);
}

static ot_status add_model(ot_grid *g, int64_t m, ot_error *err) {
    ot_setting setting = {.model = g->models.at[m], .lr = NAN, .seed = -1};
    draft d = begin(g, "", -1, &setting, err);
    const char *model = text(&d, "m%" PRId64, m), *zero_shot = text(&d, "m%" PRId64 ".zero_shot", m);
    OT_TRY(d.status);
    OT_TRY(add_evals(g, OT_ROLE_ZERO_SHOT, &setting, zero_shot, &(subject){.path = setting.model, .needs = {-1, -1}, .outside = true}, err));
    for (int64_t s = 0; s < g->splits.n; s++) {
        for (int64_t e = 0; e < g->emulators.n; e++) {
            setting.split = g->splits.at[s];
            setting.emulator = g->emulators.at[e];
            const char *prefix = text(&d, "%s.%s.e%" PRId64, model, setting.split, e);
            OT_TRY(d.status);
            OT_TRY(add_offer(g, &setting, prefix, err));
        }
    }
    setting.split = setting.emulator = NULL;
    return g->full ? add_points(g, setting, model, NULL, -1, err) : OT_OK;
}

ot_status ot_runs_parse(const char *source, int64_t size, const char *name, const char *dir, ot_runs *runs, ot_error *err) {
    ot_grid g = {.runs = runs, .name = name, .dir = dir, .full = true};
    ot_yaml *top = NULL;
    *runs = (ot_runs){0};
    OT_TRY(ot_yaml_parse(source, size, name, &runs->arena, &top, err));
    runs->config = ot_arena_strndup(&runs->arena, source, (size_t)size, err);
    if (runs->config == NULL) return OT_ERR_MEMORY;
    g.top = top;
    OT_TRY(ot_grid_read(&g, err));
    for (int64_t m = 0; m < g.models.n; m++) OT_TRY(add_model(&g, m, err));
    return OT_OK;
}

void ot_runs_put_word(FILE *f, const char *word) {
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+=/:,@%";
    bool control = false;
    for (const char *c = word; *c != '\0'; c++) control = control || (unsigned char)*c < 0x20 || *c == 0x7f;
    if (*word != '\0' && strspn(word, plain) == strlen(word)) {
        fputs(word, f);
        return;
    }
    fputs(control ? "$'" : "'", f);
    for (; *word != '\0'; word++) {
        if ((unsigned char)*word < 0x20 || *word == 0x7f) {
            fprintf(f, "\\x%02x", (unsigned)(unsigned char)*word);
        } else if (*word == '\'') {
            fputs(control ? "\\'" : "'\\''", f);
        } else if (*word == '\\' && control) {
            fputs("\\\\", f);
        } else {
            fputc(*word, f);
        }
    }
    fputc('\'', f);
}

void ot_runs_free(ot_runs *runs) {
    ot_free(runs->steps);
    ot_arena_free(&runs->arena);
    *runs = (ot_runs){0};
}
