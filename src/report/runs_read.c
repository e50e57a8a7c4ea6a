/* RUNS.yaml as a grid: every slip is told by its line before anything runs. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/runs_internal.h"

static ot_status read_values(const ot_grid *g, const ot_yaml *value, const char *key, ot_grid_list *out, ot_error *err) {
    const ot_yaml *item = value->kind == OT_YAML_LIST ? value->first : value;
    *out = (ot_grid_list){0};
    for (; item != NULL; item = value->kind == OT_YAML_LIST ? item->next : NULL) {
        if (out->n == OT_GRID_VALUES) return ot_yaml_fail(item, g->name, err, "%s has more than %d values", key, (int)OT_GRID_VALUES);
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

static ot_status read_list(const ot_grid *g, const char *key, const char *fallback, ot_grid_list *out, ot_error *err) {
    const ot_yaml *value = ot_yaml_get(g->top, key);
    *out = (ot_grid_list){0};
    if (value != NULL) return read_values(g, value, key, out, err);
    if (fallback != NULL) out->at[out->n++] = fallback;
    return OT_OK;
}

static ot_status read_text(const ot_grid *g, const char *key, const char **out, ot_error *err) {
    const ot_yaml *value = ot_yaml_get(g->top, key);
    return value == NULL ? OT_OK : ot_yaml_text(value, g->name, key, out, err);
}

/* ==== Options of a verb. ==== */

/* The ones that the experiment sets itself are refused. `training` may name a task: how rows are rendered. */
static ot_status read_options(const ot_grid *g, const char *key, const ot_yaml **out, ot_error *err) {
    static const char *const own[] = {"output", "json", "force", "resume", "seed", "lr", "lr-grid", "peft", "emulator", "bottom", "top",
                                      "train", "valid", "task", "data", "blocks", "log", "adapter", "config", "search", "images", "ledger"};
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

/* ==== Training data: for everything, or for each task its own. ==== */

static bool measured(const ot_grid *g, const char *task) {
    if (strcmp(task, "blocks") == 0 && g->blocks != NULL) return true;
    if (strcmp(task, "images") == 0 && g->images.n > 0) return true;
    for (int64_t i = 0; i < g->tasks.n; i++) {
        if (strcmp(g->tasks.at[i], task) == 0) return true;
    }
    return false;
}

ot_grid_set *ot_grid_set_of(const ot_grid *g, const char *task) {
    for (int64_t i = 0; i < g->n_sets; i++) {
        if (g->sets[i].task == NULL || strcmp(g->sets[i].task, task) == 0) return &g->sets[i];
    }
    return NULL;
}

/* What is measured must be learnt by somebody. */
static ot_status check_sets(const ot_grid *g, const ot_yaml *train, ot_error *err) {
    for (int64_t i = 0; i < g->tasks.n; i++) {
        if (ot_grid_set_of(g, g->tasks.at[i]) == NULL) return ot_yaml_fail(train, g->name, err, "train has no data for the task %s: give its rows, or leave the task out", g->tasks.at[i]);
    }
    if (g->blocks != NULL && ot_grid_set_of(g, "blocks") == NULL) return ot_yaml_fail(train, g->name, err, "train has no data for blocks: give a text, or leave blocks out");
    if (g->images.n > 0 && ot_grid_set_of(g, "images") == NULL) return ot_yaml_fail(train, g->name, err, "train has no data for images: give pictures, or leave images out");
    const ot_yaml *task = g->train_options != NULL ? ot_yaml_get(g->train_options, "task") : NULL;
    if (task != NULL) return ot_yaml_fail(task, g->name, err, "training: task: each task of train renders its own rows: leave it out here");
    return OT_OK;
}

static ot_status read_mapping(ot_grid *g, const ot_yaml *train, const ot_yaml *valid, ot_error *err) {
    for (const ot_yaml *o = train->first; o != NULL; o = o->next) {
        if (!measured(g, o->key)) {
            return ot_yaml_fail(o, g->name, err, "train: %s is not measured: tasks has no such name, and it is neither blocks nor images with data of their own", o->key);
        }
        g->sets[g->n_sets].task = o->key;
        OT_TRY(read_values(g, o, "train", &g->sets[g->n_sets++].train, err));
    }
    OT_TRY(check_sets(g, train, err));
    if (valid == NULL) return OT_OK;
    if (valid->kind != OT_YAML_MAP) return ot_yaml_fail(valid, g->name, err, "valid must be a mapping by task, as train is");
    for (const ot_yaml *o = valid->first; o != NULL; o = o->next) {
        ot_grid_set *set = ot_grid_set_of(g, o->key);
        if (set == NULL) return ot_yaml_fail(o, g->name, err, "valid: train has no %s", o->key);
        OT_TRY(read_values(g, o, "valid", &set->valid, err));
    }
    return OT_OK;
}

static ot_status read_sets(ot_grid *g, ot_error *err) {
    const ot_yaml *train = ot_yaml_get(g->top, "train"), *valid = ot_yaml_get(g->top, "valid");
    if (train == NULL) return ot_yaml_fail(g->top, g->name, err, "train is missing: name the training data");
    if (train->kind == OT_YAML_MAP && train->count == 0) return ot_yaml_fail(train, g->name, err, "train is an empty mapping: name the training data");
    g->sets = ot_arena_alloc(&g->runs->arena, (train->kind == OT_YAML_MAP ? train->count : 1) * (int64_t)sizeof *g->sets, err);
    if (g->sets == NULL) return OT_ERR_MEMORY;
    if (train->kind == OT_YAML_MAP) return read_mapping(g, train, valid, err);
    g->n_sets = 1;
    OT_TRY(read_values(g, train, "train", &g->sets[0].train, err));
    return valid == NULL ? OT_OK : read_values(g, valid, "valid", &g->sets[0].valid, err);
}

/* ==== The whole. ==== */

static ot_status check_keys(const ot_grid *g, ot_error *err) {
    static const char *const known[] = {"title", "models", "splits", "emulators", "peft", "rates", "seeds", "train", "valid", "measure-emulator-on",
                                        "tasks", "data", "blocks", "images", "probe", "split", "training", "plug", "eval", "full"};
    if (g->top->kind != OT_YAML_MAP) return ot_yaml_fail(g->top, g->name, err, "an experiment is a mapping with models, emulators, train and tasks, blocks or images");
    for (const ot_yaml *o = g->top->first; o != NULL; o = o->next) {
        bool found = false;
        for (size_t i = 0; !found && i < sizeof known / sizeof *known; i++) found = strcmp(o->key, known[i]) == 0;
        if (!found) {
            return ot_yaml_fail(o, g->name, err, "no key %s; there are title, models, splits, emulators, peft, rates, seeds, train, valid, "
                                "measure-emulator-on, tasks, data, blocks, images, probe, split, training, plug, eval, full", o->key);
        }
    }
    return OT_OK;
}

bool ot_grid_split(const char *text, char bottom[8], char top[8]) {
    size_t n = strspn(text, "0123456789"), m = text[n] == '-' ? strspn(text + n + 1, "0123456789") : 0;
    if (n < 1 || n > 5 || m < 1 || m > 5 || text[n + 1 + m] != '\0') return false;
    snprintf(bottom, 8, "%.*s", (int)n, text);
    snprintf(top, 8, "%s", text + n + 1);
    return true;
}

static bool is_rate(const char *text) {
    char *end = NULL;
    double rate = strtod(text, &end);
    return end != text && *end == '\0' && rate > 0.0 && rate <= 100.0;
}

static ot_status check_numbers(const ot_grid *g, ot_error *err) {
    char bottom[8], top[8];
    for (int64_t i = 0; i < g->splits.n; i++) {
        if (!ot_grid_split(g->splits.at[i], bottom, top)) {
            return ot_yaml_fail(ot_yaml_get(g->top, "splits"), g->name, err, "splits: %s is not BOTTOM-TOP, as in 2-2", g->splits.at[i]);
        }
    }
    for (int64_t i = 0; i < g->rates.n; i++) {
        if (!is_rate(g->rates.at[i])) {
            return ot_yaml_fail(ot_yaml_get(g->top, "rates"), g->name, err, "rates: %s is no learning rate above 0", g->rates.at[i]);
        }
    }
    for (int64_t i = 0; i < g->seeds.n; i++) {
        size_t n = strspn(g->seeds.at[i], "0123456789");
        if (n < 1 || n > 9 || g->seeds.at[i][n] != '\0') {
            return ot_yaml_fail(ot_yaml_get(g->top, "seeds"), g->name, err, "seeds: %s is no whole number below 1000000000", g->seeds.at[i]);
        }
    }
    if (g->probe == NULL) return OT_OK;
    const ot_yaml *probe = ot_yaml_get(g->top, "probe");
    if (!is_rate(g->probe)) return ot_yaml_fail(probe, g->name, err, "probe: %s is no learning rate above 0", g->probe);
    if (g->images.n == 0) return ot_yaml_fail(probe, g->name, err, "probe trains a head for classes of images, and no images are measured: leave it out");
    return OT_OK;
}

ot_status ot_grid_read(ot_grid *g, ot_error *err) {
    OT_TRY(check_keys(g, err));
    OT_TRY(read_list(g, "models", NULL, &g->models, err));
    OT_TRY(read_list(g, "splits", "2-2", &g->splits, err));
    OT_TRY(read_list(g, "emulators", "", &g->emulators, err));
    OT_TRY(read_list(g, "peft", "full", &g->peft, err));
    OT_TRY(read_list(g, "rates", "1e-4", &g->rates, err));
    OT_TRY(read_list(g, "seeds", "1", &g->seeds, err));
    OT_TRY(read_list(g, "tasks", NULL, &g->tasks, err));
    OT_TRY(read_list(g, "data", NULL, &g->data, err));
    OT_TRY(read_list(g, "images", NULL, &g->images, err));
    OT_TRY(read_text(g, "title", &g->runs->title, err));
    OT_TRY(read_text(g, "blocks", &g->blocks, err));
    OT_TRY(read_text(g, "measure-emulator-on", &g->measured, err));
    OT_TRY(read_text(g, "probe", &g->probe, err));
    OT_TRY(read_options(g, "split", &g->split_options, err));
    OT_TRY(read_options(g, "training", &g->train_options, err));
    OT_TRY(read_options(g, "plug", &g->plug_options, err));
    OT_TRY(read_options(g, "eval", &g->eval_options, err));
    if (ot_yaml_get(g->top, "full") != NULL) OT_TRY(ot_yaml_bool(ot_yaml_get(g->top, "full"), g->name, "full", &g->full, err));
    if (g->models.n == 0) return ot_yaml_fail(g->top, g->name, err, "models is missing: name the foundation model");
    OT_TRY(read_sets(g, err));
    if (g->tasks.n == 0 && g->blocks == NULL && g->images.n == 0) {
        return ot_yaml_fail(g->top, g->name, err, "nothing is measured: give tasks (and data), blocks or images");
    }
    return check_numbers(g, err);
}
