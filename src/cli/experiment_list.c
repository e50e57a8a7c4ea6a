#include "cli/experiment_list.h"

#include <glob.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "cli/args.h"
#include "cli/experiment_adapter.h"
#include "cli/text.h"
#include "cli/verbs.h"

enum { PATH_ROOM = 4400 };

/* ==== The commands. ==== */

/* The step that makes what this one measures, NULL: it was there before. */
static const ot_runs_step *maker_of(const ot_runs *runs, const ot_runs_step *s) {
    for (int k = 0; k < 2; k++) {
        const ot_runs_step *need = s->needs[k] >= 0 ? &runs->steps[s->needs[k]] : NULL;
        if (need != NULL && need->output != NULL && strcmp(need->output, s->subject) == 0) return need;
    }
    return NULL;
}

/* Will this step leave an adapter of the setting's model, not a model? Its tuning method and its own options tell. */
static ot_status makes_adapter(const ot_runs_step *s, bool *adapter, ot_error *err) {
    bool plug = strcmp(s->verb, "plug") == 0, finetune = strcmp(s->verb, "finetune") == 0, merge = false;
    *adapter = false;
    if ((!plug && !finetune) || s->setting.peft == NULL) return OT_OK;
    if (plug) {
        ot_args parsed = {0};
        ot_status status = ot_args_parse(&parsed, ot_verb_find(s->verb), (int)s->n_words - 1, (char *const *)(uintptr_t)(s->words + 1), err);
        merge = status == OT_OK && ot_args_flag(&parsed, "merge");
        ot_args_free(&parsed);
        OT_TRY(status);
    }
    return ot_experiment_adapter(s->setting.peft, finetune, merge, adapter, err);
}

static void put(const char *word) {
    putchar(' ');
    ot_runs_put_word(stdout, word);
}

ot_status ot_experiment_list(const ot_runs *runs, ot_error *err) {
    for (int64_t i = 0; i < runs->n_steps; i++) {
        const ot_runs_step *s = &runs->steps[i], *maker = s->subject != NULL ? maker_of(runs, s) : NULL;
        bool adapter = false;
        if (maker != NULL) OT_TRY(makes_adapter(maker, &adapter, err));
        printf("%s: offsite", s->name);
        put(s->words[0]);
        if (s->subject != NULL) put(adapter ? s->setting.model : s->subject);
        if (adapter) {
            put("--adapter");
            put(s->subject);
        }
        for (int64_t k = 1; k < s->n_words; k++) put(s->words[k]);
        putchar('\n');
    }
    return OT_OK;
}

/* ==== What they read. ==== */

static bool matches(const char *pattern) {
    glob_t found = {0};
    bool any = glob(pattern, 0, NULL, &found) == 0;
    if (any) globfree(&found);
    return any;
}

/* A path below an archive is there when the archive is; a text that the model writes itself is no file. */
static bool there(const char *path) {
    char part[PATH_ROOM];
    if (strncmp(path, "self:", 5) == 0 || ot_path_exists(path)) return true;
    if (strpbrk(path, "*?[") != NULL && matches(path)) return true;
    for (const char *slash = strchr(path + 1, '/'); *path != '\0' && slash != NULL; slash = strchr(slash + 1, '/')) {
        if (snprintf(part, sizeof part, "%.*s", (int)(slash - path), path) < PATH_ROOM && ot_path_exists(part) && !ot_path_is_dir(part)) return true;
    }
    return false;
}

static bool folder_has(const char *dir, const char *prefix) {
    ot_arena arena = {0};
    char **names = NULL;
    int64_t n = 0;
    bool has = false;
    ot_error ignored;
    if (ot_list_dir(dir, &arena, &names, &n, &ignored) != OT_OK) n = 0;
    for (int64_t i = 0; i < n && !has; i++) has = strncmp(names[i], prefix, strlen(prefix)) == 0;
    ot_arena_free(&arena);
    return has;
}

/* Is this step told to score the task of this name? A task of the user's own may name its files itself. */
static bool scores(const ot_runs_step *s, const char *task) {
    for (int64_t i = 0; i < s->n_words; i++) {
        if (strncmp(s->words[i], "--task=", 7) == 0 && strcmp(s->words[i] + 7, task) == 0) return true;
    }
    return false;
}

/* One of the folders of data has a task's rows. */
static bool has_rows(const ot_runs_step *s, const char *task) {
    for (int64_t i = 0; i < s->n_inputs; i++) {
        if (s->inputs[i].prefix != NULL && strcmp(s->inputs[i].prefix, task) == 0 && folder_has(s->inputs[i].path, task)) return true;
    }
    return false;
}

typedef struct told {
    ot_runs_input *all;
    int64_t n, capacity;
} told;

static bool equal(const char *a, const char *b) { return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0); }

/* prefix NULL: the path itself is missing. */
static ot_status tell(told *t, const ot_runs_step *s, const char *path, const char *prefix, ot_error *err) {
    for (int64_t i = 0; i < t->n; i++) {
        if (equal(t->all[i].path, path) && equal(t->all[i].prefix, prefix)) return OT_OK;
    }
    OT_TRY(ot_grow((void **)&t->all, &t->capacity, t->n + 1, (int64_t)sizeof *t->all, "what is missing", err));
    t->all[t->n++] = (ot_runs_input){path, prefix};
    fputs("missing: ", stderr);
    ot_put_safe(stderr, path);
    if (prefix != NULL) {
        fputs(" has no rows of ", stderr);
        ot_put_safe(stderr, prefix);
    }
    fprintf(stderr, ", for %s\n", s->name);
    return OT_OK;
}

static ot_status check_step(told *t, const ot_runs_step *s, ot_error *err) {
    for (int64_t i = 0; i < s->n_inputs; i++) {
        const char *path = s->inputs[i].path, *task = s->inputs[i].prefix;
        if (!there(path)) OT_TRY(tell(t, s, path, NULL, err));
        else if (task != NULL && scores(s, task) && !has_rows(s, task)) OT_TRY(tell(t, s, path, task, err));
    }
    return OT_OK;
}

ot_status ot_experiment_check_inputs(const ot_runs *runs, const char *name, ot_error *err) {
    told t = {0};
    ot_status status = OT_OK;
    char room[64];
    for (int64_t i = 0; status == OT_OK && i < runs->n_steps; i++) status = check_step(&t, &runs->steps[i], err);
    if (status == OT_OK && t.n > 0) {
        status = ot_fail(err, OT_ERR_IO, "%s: %s missing: paths count from the folder in which the command runs", name, ot_text_are(t.n, "path", room, sizeof room));
    }
    ot_free(t.all);
    return status;
}
