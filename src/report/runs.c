#include "report/runs.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/yaml.h"

enum { MAX_VALUES = 64, TEXT_ROOM = 4600 };

typedef struct list {
    const char *at[MAX_VALUES];
    int64_t n;
} list;

typedef struct grid {
    ot_runs *runs;
    const char *name, *dir;
    const ot_yaml *top;
    list models, splits, emulators, peft, rates, seeds, tasks, data;
    const char *train, *valid, *blocks, *measured;
    const ot_yaml *split_options, *train_options, *eval_options;
    bool full;
} grid;

/* ==== Reading. ==== */

static ot_status read_list(const grid *g, const char *key, const char *fallback, list *out, ot_error *err) {
    const ot_yaml *value = ot_yaml_get(g->top, key);
    *out = (list){0};
    if (value == NULL) {
        if (fallback != NULL) out->at[out->n++] = fallback;
        return OT_OK;
    }
    const ot_yaml *item = value->kind == OT_YAML_LIST ? value->first : value;
    for (; item != NULL; item = value->kind == OT_YAML_LIST ? item->next : NULL) {
        if (out->n == MAX_VALUES) return ot_yaml_fail(item, g->name, err, "%s has more than %d values", key, (int)MAX_VALUES);
        const char *text = NULL;
        OT_TRY(ot_yaml_text(item, g->name, key, &text, err));
        for (int64_t i = 0; i < out->n; i++) {
            if (strcmp(out->at[i], text) == 0) return ot_yaml_fail(item, g->name, err, "%s has the value %s twice", key, text);
        }
        out->at[out->n++] = text;
    }
    if (out->n == 0) return ot_yaml_fail(value, g->name, err, "%s is an empty list: leave the key out, or give a value", key);
    return OT_OK;
}

static ot_status read_text(const grid *g, const char *key, const char **out, ot_error *err) {
    const ot_yaml *value = ot_yaml_get(g->top, key);
    return value == NULL ? OT_OK : ot_yaml_text(value, g->name, key, out, err);
}

/* A mapping of a verb's options; the ones that the experiment sets itself are refused. `training` may name a task: how rows are rendered. */
static ot_status read_options(const grid *g, const char *key, const ot_yaml **out, ot_error *err) {
    static const char *const own[] = {"output", "json", "force", "resume", "seed", "lr", "lr-grid", "peft", "emulator", "bottom", "top",
                                      "train", "valid", "task", "data", "blocks", "log", "adapter", "config", "search", "images"};
    const ot_yaml *map = ot_yaml_get(g->top, key);
    *out = map;
    if (map == NULL) return OT_OK;
    if (map->kind != OT_YAML_MAP) return ot_yaml_fail(map, g->name, err, "%s must be a mapping of options, as in {steps: 100}", key);
    int64_t n = 0;
    for (const ot_yaml *o = map->first; o != NULL; o = o->next) {
        const char *text = NULL;
        if (strspn(o->key, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(o->key) || *o->key == '-' || *o->key == '\0') {
            return ot_yaml_fail(o, g->name, err, "%s: an option's name has lower-case letters, digits and '-' only", key);
        }
        for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
            bool rendering = strcmp(own[i], "task") == 0 && strcmp(key, "training") == 0;
            if (strcmp(o->key, own[i]) == 0 && !rendering) {
                return ot_yaml_fail(o, g->name, err, "%s: %s is set by the experiment itself: leave it out here", key, own[i]);
            }
        }
        OT_TRY(ot_yaml_text(o, g->name, o->key, &text, err));
        if (++n > 40) return ot_yaml_fail(o, g->name, err, "%s has more than 40 options", key);
    }
    return OT_OK;
}

static ot_status check_keys(const grid *g, ot_error *err) {
    static const char *const known[] = {"title", "models", "splits", "emulators", "peft", "rates", "seeds", "train", "valid", "measure-emulator-on",
                                        "tasks", "data", "blocks", "split", "training", "eval", "full"};
    if (g->top->kind != OT_YAML_MAP) return ot_yaml_fail(g->top, g->name, err, "an experiment is a mapping with models, emulators, train and tasks or blocks");
    for (const ot_yaml *o = g->top->first; o != NULL; o = o->next) {
        bool found = false;
        for (size_t i = 0; !found && i < sizeof known / sizeof *known; i++) found = strcmp(o->key, known[i]) == 0;
        if (!found) {
            return ot_yaml_fail(o, g->name, err, "no key %s; there are title, models, splits, emulators, peft, rates, seeds, train, valid, "
                                "measure-emulator-on, tasks, data, blocks, split, training, eval, full", o->key);
        }
    }
    return OT_OK;
}

static ot_status read_grid(grid *g, ot_error *err) {
    OT_TRY(check_keys(g, err));
    OT_TRY(read_list(g, "models", NULL, &g->models, err));
    OT_TRY(read_list(g, "splits", "2-2", &g->splits, err));
    OT_TRY(read_list(g, "emulators", "", &g->emulators, err));
    OT_TRY(read_list(g, "peft", "full", &g->peft, err));
    OT_TRY(read_list(g, "rates", "1e-4", &g->rates, err));
    OT_TRY(read_list(g, "seeds", "1", &g->seeds, err));
    OT_TRY(read_list(g, "tasks", NULL, &g->tasks, err));
    OT_TRY(read_list(g, "data", NULL, &g->data, err));
    OT_TRY(read_text(g, "title", &g->runs->title, err));
    OT_TRY(read_text(g, "train", &g->train, err));
    OT_TRY(read_text(g, "valid", &g->valid, err));
    OT_TRY(read_text(g, "blocks", &g->blocks, err));
    OT_TRY(read_text(g, "measure-emulator-on", &g->measured, err));
    OT_TRY(read_options(g, "split", &g->split_options, err));
    OT_TRY(read_options(g, "training", &g->train_options, err));
    OT_TRY(read_options(g, "eval", &g->eval_options, err));
    if (ot_yaml_get(g->top, "full") != NULL) OT_TRY(ot_yaml_bool(ot_yaml_get(g->top, "full"), g->name, "full", &g->full, err));
    if (g->models.n == 0) return ot_yaml_fail(g->top, g->name, err, "models is missing: name the foundation model");
    if (g->train == NULL) return ot_yaml_fail(g->top, g->name, err, "train is missing: name the training data");
    if (g->tasks.n == 0 && g->blocks == NULL) return ot_yaml_fail(g->top, g->name, err, "nothing is measured: give tasks (and data), blocks, or both");
    return OT_OK;
}

/* "2-3" as bottom and top. */
static bool split_numbers(const char *text, char bottom[8], char top[8]) {
    size_t n = strspn(text, "0123456789"), m = text[n] == '-' ? strspn(text + n + 1, "0123456789") : 0;
    if (n < 1 || n > 5 || m < 1 || m > 5 || text[n + 1 + m] != '\0') return false;
    snprintf(bottom, 8, "%.*s", (int)n, text);
    snprintf(top, 8, "%s", text + n + 1);
    return true;
}

static ot_status check_numbers(const grid *g, ot_error *err) {
    char bottom[8], top[8], *end = NULL;
    for (int64_t i = 0; i < g->splits.n; i++) {
        if (!split_numbers(g->splits.at[i], bottom, top)) {
            return ot_yaml_fail(ot_yaml_get(g->top, "splits"), g->name, err, "splits: %s is not BOTTOM-TOP, as in 2-2", g->splits.at[i]);
        }
    }
    for (int64_t i = 0; i < g->rates.n; i++) {
        double rate = strtod(g->rates.at[i], &end);
        if (end == g->rates.at[i] || *end != '\0' || !(rate > 0.0) || rate > 100.0) {
            return ot_yaml_fail(ot_yaml_get(g->top, "rates"), g->name, err, "rates: %s is no learning rate above 0", g->rates.at[i]);
        }
    }
    for (int64_t i = 0; i < g->seeds.n; i++) {
        size_t n = strspn(g->seeds.at[i], "0123456789");
        if (n < 1 || n > 9 || g->seeds.at[i][n] != '\0') {
            return ot_yaml_fail(ot_yaml_get(g->top, "seeds"), g->name, err, "seeds: %s is no whole number below 1000000000", g->seeds.at[i]);
        }
    }
    return OT_OK;
}

/* ==== Steps. ==== */

/* Texts of one step; the first failure stays in *err and status. */
static const char *text(grid *g, ot_status *status, ot_error *err, const char *format, ...) __attribute__((format(printf, 4, 5)));
static const char *text(grid *g, ot_status *status, ot_error *err, const char *format, ...) {
    char room[TEXT_ROOM];
    va_list given;
    va_start(given, format);
    int n = vsnprintf(room, sizeof room, format, given);
    va_end(given);
    if (*status != OT_OK) return "";
    if (n < 0 || n >= TEXT_ROOM) {
        *status = ot_fail(err, OT_ERR_USAGE, "%s: a value is longer than %d bytes", g->name, TEXT_ROOM - 200);
        return "";
    }
    const char *copy = ot_arena_strdup(&g->runs->arena, room, err);
    if (copy == NULL) *status = OT_ERR_MEMORY;
    return copy != NULL ? copy : "";
}

static void word(ot_runs_step *s, const char *w) {
    if (s->n_words < OT_RUNS_MAX_WORDS) s->words[s->n_words++] = w;
}

static void put_options(grid *g, ot_status *status, ot_error *err, ot_runs_step *s, const ot_yaml *map) {
    for (const ot_yaml *o = map != NULL ? map->first : NULL; o != NULL; o = o->next) word(s, text(g, status, err, "--%s=%s", o->key, o->text));
}

static ot_status add(grid *g, const ot_runs_step *s, int64_t *index, ot_error *err) {
    ot_runs *r = g->runs;
    if (r->n_steps == OT_RUNS_MAX_STEPS) return ot_fail(err, OT_ERR_FORMAT, "%s: the grid has more than %d commands: make it smaller", g->name, (int)OT_RUNS_MAX_STEPS);
    OT_TRY(ot_grow((void **)&r->steps, &r->capacity, r->n_steps + 1, (int64_t)sizeof *r->steps, "the experiment's commands", err));
    *index = r->n_steps;
    r->steps[r->n_steps++] = *s;
    return OT_OK;
}

/* Up to two evals of one subject: the tasks, the blocks. */
static ot_status add_evals(grid *g, int role, const ot_setting *setting, const char *prefix, const char *subject, const char *base, int64_t a, int64_t b,
                           ot_error *err) {
    for (int pass = 0; pass < 2; pass++) {
        if (pass == 0 ? g->tasks.n == 0 : g->blocks == NULL) continue;
        ot_status status = OT_OK;
        int64_t index;
        ot_runs_step s = {.verb = "eval", .role = role, .setting = *setting, .subject = subject, .needs = {a, b}};
        s.name = text(g, &status, err, "%s.%s", prefix, pass == 0 ? "tasks" : "blocks");
        word(&s, "eval");
        if (base != NULL) {
            word(&s, base);
            word(&s, text(g, &status, err, "--adapter=%s", subject));
            s.subject = NULL;
        }
        for (int64_t i = 0; pass == 0 && i < g->tasks.n && i < 20; i++) word(&s, text(g, &status, err, "--task=%s", g->tasks.at[i]));
        for (int64_t i = 0; pass == 0 && i < g->data.n && i < 20; i++) word(&s, text(g, &status, err, "--data=%s", g->data.at[i]));
        if (pass == 1) word(&s, text(g, &status, err, "--blocks=%s", g->blocks));
        put_options(g, &status, err, &s, g->eval_options);
        OT_TRY(status);
        OT_TRY(add(g, &s, &index, err));
    }
    return OT_OK;
}

/* `tune` of an offer or `finetune` of a model. */
static ot_status add_training(grid *g, const char *verb, const ot_setting *setting, const char *prefix, const char *what, const char *rate, const char *seed,
                              int64_t need, int64_t *index, const char **output, ot_error *err) {
    ot_status status = OT_OK;
    ot_runs_step s = {.verb = verb, .role = -1, .setting = *setting, .needs = {need, -1}};
    s.name = text(g, &status, err, "%s.%s", prefix, verb);
    s.output = *output = text(g, &status, err, "%s/work/%s", g->dir, s.name);
    word(&s, verb);
    word(&s, what);
    word(&s, text(g, &status, err, "--train=%s", g->train));
    if (g->valid != NULL) word(&s, text(g, &status, err, "--valid=%s", g->valid));
    word(&s, text(g, &status, err, "--lr=%s", rate));
    word(&s, text(g, &status, err, "--seed=%s", seed));
    if (strcmp(setting->peft, "full") != 0) word(&s, text(g, &status, err, "--peft=%s", setting->peft));
    word(&s, text(g, &status, err, "--log=%s/steps/%s.jsonl", g->dir, s.name));
    put_options(g, &status, err, &s, g->train_options);
    word(&s, "--resume");
    word(&s, text(g, &status, err, "--output=%s", s.output));
    OT_TRY(status);
    return add(g, &s, index, err);
}

static ot_status add_tuning(grid *g, ot_setting setting, const char *prefix, const char *offer, int64_t split, const char *rate, const char *seed, ot_error *err) {
    ot_status status = OT_OK;
    int64_t tune, plug;
    const char *returned, *name;
    OT_TRY(add_training(g, "tune", &setting, prefix, offer, rate, seed, split, &tune, &returned, err));
    name = text(g, &status, err, "%s.tuned", prefix);
    OT_TRY(status);
    OT_TRY(add_evals(g, OT_ROLE_TUNED, &setting, name, returned, offer, tune, split, err));
    ot_runs_step s = {.verb = "plug", .role = -1, .setting = setting, .needs = {tune, -1}};
    s.name = text(g, &status, err, "%s.plug", prefix);
    s.output = text(g, &status, err, "%s/work/%s", g->dir, s.name);
    word(&s, "plug");
    word(&s, setting.model);
    word(&s, returned);
    word(&s, text(g, &status, err, "--ledger=%s.owner.json", offer));
    word(&s, "--force");
    word(&s, text(g, &status, err, "--output=%s", s.output));
    OT_TRY(status);
    OT_TRY(add(g, &s, &plug, err));
    name = text(g, &status, err, "%s.plug_in", prefix);
    OT_TRY(status);
    return add_evals(g, OT_ROLE_PLUG_IN, &setting, name, s.output, NULL, plug, -1, err);
}

static ot_status add_offer(grid *g, ot_setting setting, const char *prefix, ot_error *err) {
    ot_status status = OT_OK;
    char bottom[8] = "", top[8] = "";
    int64_t split;
    split_numbers(setting.split, bottom, top);
    ot_runs_step s = {.verb = "split", .role = -1, .setting = setting, .needs = {-1, -1}};
    s.name = text(g, &status, err, "%s.split", prefix);
    s.output = text(g, &status, err, "%s/work/%s", g->dir, s.name);
    word(&s, "split");
    word(&s, setting.model);
    word(&s, text(g, &status, err, "--bottom=%s", bottom));
    word(&s, text(g, &status, err, "--top=%s", top));
    word(&s, text(g, &status, err, "--emulator=%s", setting.emulator));
    if (g->measured != NULL) word(&s, text(g, &status, err, "--data=%s", g->measured));
    put_options(g, &status, err, &s, g->split_options);
    word(&s, "--force");
    word(&s, text(g, &status, err, "--output=%s", s.output));
    OT_TRY(status);
    OT_TRY(add(g, &s, &split, err));
    const char *name = text(g, &status, err, "%s.emulator", prefix);
    OT_TRY(status);
    OT_TRY(add_evals(g, OT_ROLE_EMULATOR, &setting, name, s.output, NULL, split, -1, err));
    for (int64_t p = 0; p < g->peft.n; p++) {
        for (int64_t l = 0; l < g->rates.n; l++) {
            for (int64_t k = 0; k < g->seeds.n; k++) {
                ot_setting one = setting;
                one.peft = g->peft.at[p];
                one.lr = strtod(g->rates.at[l], NULL);
                one.seed = strtoll(g->seeds.at[k], NULL, 10);
                name = text(g, &status, err, "%s.p%" PRId64 ".lr%s.seed%s", prefix, p, g->rates.at[l], g->seeds.at[k]);
                OT_TRY(status);
                OT_TRY(add_tuning(g, one, name, s.output, split, g->rates.at[l], g->seeds.at[k], err));
            }
        }
    }
    return OT_OK;
}

static ot_status add_full(grid *g, ot_setting setting, const char *prefix, ot_error *err) {
    for (int64_t p = 0; p < g->peft.n; p++) {
        for (int64_t l = 0; l < g->rates.n; l++) {
            for (int64_t k = 0; k < g->seeds.n; k++) {
                ot_status status = OT_OK;
                int64_t trained;
                const char *output;
                setting.peft = g->peft.at[p];
                setting.lr = strtod(g->rates.at[l], NULL);
                setting.seed = strtoll(g->seeds.at[k], NULL, 10);
                const char *name = text(g, &status, err, "%s.full.p%" PRId64 ".lr%s.seed%s", prefix, p, g->rates.at[l], g->seeds.at[k]);
                OT_TRY(status);
                OT_TRY(add_training(g, "finetune", &setting, name, setting.model, g->rates.at[l], g->seeds.at[k], -1, &trained, &output, err));
                OT_TRY(add_evals(g, OT_ROLE_FULL, &setting, name, output, NULL, trained, -1, err));
            }
        }
    }
    return OT_OK;
}

static ot_status add_model(grid *g, int64_t m, ot_error *err) {
    ot_status status = OT_OK;
    ot_setting setting = {.model = g->models.at[m], .lr = NAN, .seed = -1};
    const char *name = text(g, &status, err, "m%" PRId64 ".zero_shot", m);
    OT_TRY(status);
    OT_TRY(add_evals(g, OT_ROLE_ZERO_SHOT, &setting, name, setting.model, NULL, -1, -1, err));
    for (int64_t s = 0; s < g->splits.n; s++) {
        for (int64_t e = 0; e < g->emulators.n; e++) {
            setting.split = g->splits.at[s];
            setting.emulator = g->emulators.at[e];
            name = text(g, &status, err, "m%" PRId64 ".%s.e%" PRId64, m, setting.split, e);
            OT_TRY(status);
            OT_TRY(add_offer(g, setting, name, err));
        }
    }
    setting.split = setting.emulator = NULL;
    name = text(g, &status, err, "m%" PRId64, m);
    OT_TRY(status);
    return g->full ? add_full(g, setting, name, err) : OT_OK;
}

ot_status ot_runs_parse(const char *source, int64_t size, const char *name, const char *dir, ot_runs *runs, ot_error *err) {
    grid g = {.runs = runs, .name = name, .dir = dir, .full = true};
    ot_yaml *top = NULL;
    *runs = (ot_runs){0};
    OT_TRY(ot_yaml_parse(source, size, name, &runs->arena, &top, err));
    g.top = top;
    OT_TRY(read_grid(&g, err));
    OT_TRY(check_numbers(&g, err));
    for (int64_t m = 0; m < g.models.n; m++) OT_TRY(add_model(&g, m, err));
    return OT_OK;
}

void ot_runs_free(ot_runs *runs) {
    ot_free(runs->steps);
    ot_arena_free(&runs->arena);
    *runs = (ot_runs){0};
}
