/* Results on disk become one list of scores. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/json.h"
#include "report/runs.h"

enum { PATH_ROOM = 4200, STATE_LIMIT = 1 << 26, LOG_LIMIT = 1 << 28 };

const char *const ot_role_keys[OT_ROLE_COUNT] = {"zero_shot", "emulator", "tuned", "plug_in", "full"};
const char *const ot_role_names[OT_ROLE_COUNT] = {"zero-shot", "emulator", "tuned emulator", "plug-in", "full"};

static double real(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}
static int64_t whole(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return json_is_integer(value) ? (int64_t)json_integer_value(value) : -1;
}
static ot_status copy(ot_report *r, const json_t *object, const char *key, const char **out, ot_error *err) {
    const char *text = json_string_value(json_object_get(object, key));
    *out = text == NULL ? NULL : ot_arena_strdup(&r->arena, text, err);
    return text != NULL && *out == NULL ? OT_ERR_MEMORY : OT_OK;
}

static ot_status put_score(ot_report *r, ot_score score, const char *measure, ot_error *err) {
    score.measure = ot_arena_strdup(&r->arena, measure, err);
    if (score.measure == NULL) return OT_ERR_MEMORY;
    OT_TRY(ot_grow((void **)&r->scores, &r->scores_capacity, r->n_scores + 1, (int64_t)sizeof *r->scores, "the scores", err));
    r->scores[r->n_scores++] = score;
    return OT_OK;
}

static ot_status put_task(ot_report *r, ot_role role, const ot_setting *setting, const json_t *whole_file, const char *task, const json_t *scores, ot_error *err) {
    const json_t *directions = json_object_get(json_object_get(whole_file, "higher_is_better"), task);
    int64_t documents = whole(json_object_get(json_object_get(whole_file, "n-samples"), task), "effective");
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)scores, key, value) {
        char metric[160], name[400], beside[400];
        const char *comma = strchr(key, ',');
        if (comma == NULL || !json_is_number(value)) continue;
        snprintf(metric, sizeof metric, "%.*s", (int)(comma - key < 150 ? comma - key : 150), key);
        if (ot_path_ends(metric, "_stderr")) continue;
        const json_t *higher = json_object_get(directions, metric);
        snprintf(name, sizeof name, "%.200s %s", task, metric);
        snprintf(beside, sizeof beside, "%s_stderr%.200s", metric, comma);
        ot_score score = {.role = role, .setting = *setting, .value = json_number_value(value), .error = real(scores, beside), .documents = documents,
                          .higher = higher == NULL || json_is_true(higher)};
        OT_TRY(put_score(r, score, name, err));
    }
    return OT_OK;
}

/* What `eval --json` said. */
static ot_status put_eval(ot_report *r, ot_role role, const ot_setting *setting, const json_t *file, const char *path, ot_error *err) {
    const json_t *results = json_object_get(file, "results");
    int64_t before = r->n_scores;
    const char *task;
    json_t *scores;
    if (json_is_number(json_object_get(file, "perplexity"))) {
        ot_score score = {.role = role, .setting = *setting, .value = real(file, "perplexity"), .error = NAN, .documents = whole(file, "blocks")};
        OT_TRY(put_score(r, score, "perplexity", err));
    }
    if (json_is_number(json_object_get(file, "acc"))) { /* of pictures */
        ot_score score = {.role = role, .setting = *setting, .value = real(file, "acc"), .error = real(file, "acc_stderr"), .documents = whole(file, "labelled"), .higher = true};
        OT_TRY(put_score(r, score, "accuracy", err));
    }
    json_object_foreach((json_t *)results, task, scores) OT_TRY(put_task(r, role, setting, file, task, scores, err));
    return r->n_scores > before ? OT_OK : ot_fail(err, OT_ERR_FORMAT, "%s holds no score: it should be what eval --json printed", path);
}

static const ot_step_facts no_facts = {.setting = {.lr = NAN, .seed = -1}, .role = -1, .exact = NAN, .same = NAN, .cpl = NAN, .fidelity = NAN, .signs = NAN, .seconds = NAN,
                                       .tokens_per_second = NAN, .pictures_per_second = NAN, .peak_bytes = -1, .output_bytes = -1, .trainable = -1, .layers = -1, .middle = -1, .kept = -1};

static void free_curve(ot_curve *c) {
    ot_free(c->step);
    ot_free(c->loss);
    ot_free(c->valid);
    *c = (ot_curve){0};
}

static ot_status put_point(ot_curve *c, const json_t *entry, ot_error *err) {
    const double point[] = {real(entry, "step"), real(entry, "loss"), real(entry, "valid_loss")};
    if (isnan(point[0]) || (isnan(point[1]) && isnan(point[2])) || json_object_get(entry, "event") != NULL) return OT_OK;
    double **const columns[] = {&c->step, &c->loss, &c->valid};
    int64_t capacity = c->capacity;
    for (int k = 0; k < 3; k++) {
        capacity = c->capacity;
        OT_TRY(ot_grow((void **)columns[k], &capacity, c->n + 1, (int64_t)sizeof **columns[k], "the points of a log", err));
        (*columns[k])[c->n] = point[k];
    }
    c->capacity = capacity;
    c->n++;
    return OT_OK;
}

/* The curve of a log and the mean speed of its steps; nothing without a log. */
static ot_status read_log(ot_step_facts *f, const char *path, ot_error *err) {
    char *text = NULL;
    int64_t size = 0, n = 0;
    double sum = 0.0, pictures = 0.0;
    ot_error ignored;
    ot_status status = OT_OK;
    if (ot_read_file(path, LOG_LIMIT, &text, &size, &ignored) != OT_OK) return OT_OK;
    for (char *line = text; status == OT_OK && line != NULL && *line != '\0';) {
        char *end = strchr(line, '\n');
        int64_t length = end != NULL ? end - line : (int64_t)strlen(line);
        json_t *entry = NULL;
        if (ot_json_parse(line, length, path, &entry, &ignored) == OT_OK) {
            double speed = real(entry, "tokens_per_second");
            if (isfinite(speed) && speed > 0.0) {
                sum += speed;
                pictures += real(entry, "pictures_per_second"); /* one line without, and there is no mean */
                n++;
            }
            status = put_point(&f->curve, entry, err);
        }
        json_decref(entry);
        line = end != NULL ? end + 1 : NULL;
    }
    ot_free(text);
    if (n > 0) {
        f->tokens_per_second = sum / (double)n;
        f->pictures_per_second = pictures / (double)n;
    }
    if (status != OT_OK) free_curve(&f->curve);
    return status;
}

static ot_status take_facts(ot_report *r, ot_step_facts *f, const json_t *file, ot_error *err) {
    if (!isfinite(f->seconds)) f->seconds = real(file, "seconds");
    if (f->peak_bytes < 0) f->peak_bytes = whole(file, "peak_memory_bytes");
    f->trainable = whole(file, "trained_values");
    if (strcmp(f->verb, "split") != 0) return OT_OK;
    f->exact = real(file, "middle_shipped_bit_exact");
    f->same = real(file, "middle_values_same");
    f->cpl = real(file, "cpl");
    f->fidelity = real(file, "fidelity");
    f->signs = real(file, "sign_agreement");
    f->layers = whole(file, "layers");
    f->middle = whole(file, "middle");
    f->kept = whole(file, "middle_kept");
    if (f->output_bytes < 0) f->output_bytes = whole(file, "bytes");
    return copy(r, file, "offer_id", &f->offer, err);
}

/* The report owns the curve, also after an error. */
static ot_status put_facts(ot_report *r, ot_step_facts *f, ot_error *err) {
    ot_status status = ot_grow((void **)&r->steps, &r->steps_capacity, r->n_steps + 1, (int64_t)sizeof *r->steps, "the commands", err);
    if (status == OT_OK) {
        r->steps[r->n_steps++] = *f;
    } else {
        free_curve(&f->curve);
    }
    return status;
}

static ot_status put_source(ot_report *r, const char *dir, const json_t *file, ot_error *err) {
    ot_report_source s = {.dir = ot_arena_strdup(&r->arena, dir, err)};
    if (s.dir == NULL) return OT_ERR_MEMORY;
    OT_TRY(copy(r, file, "title", &s.title, err));
    OT_TRY(copy(r, file, "program", &s.program, err));
    OT_TRY(copy(r, file, "machine", &s.machine, err));
    OT_TRY(copy(r, file, "config", &s.config, err));
    OT_TRY(ot_grow((void **)&r->sources, &r->sources_capacity, r->n_sources + 1, (int64_t)sizeof *r->sources, "the folders", err));
    r->sources[r->n_sources++] = s;
    return OT_OK;
}

/* ==== A folder of `offsite experiment`. ==== */

/* The words that ran, or that would. */
static ot_status join(ot_report *r, const json_t *step, const char **out, ot_error *err) {
    const json_t *words = json_object_get(step, "ran");
    if (!json_is_array(words)) words = json_object_get(step, "command");
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (f == NULL) return ot_fail_memory(err, 4096, "a command");
    fputs("offsite", f);
    for (size_t i = 0; i < json_array_size(words); i++) {
        const char *word = json_string_value(json_array_get(words, i));
        if (word == NULL) continue;
        fputc(' ', f);
        ot_runs_put_word(f, word);
    }
    bool bad = ferror(f) != 0;
    bad = fclose(f) != 0 || bad;
    *out = bad ? NULL : ot_arena_strdup(&r->arena, text, err);
    free(text);
    if (bad) return ot_fail_memory(err, 4096, "a command");
    return *out == NULL ? OT_ERR_MEMORY : OT_OK;
}

static bool plain_name(const char *name) {
    return name != NULL && *name != '\0' && *name != '.' && strlen(name) < 200 &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+") == strlen(name);
}

/* The text or the pictures that a command measures. */
static ot_status find_data(ot_report *r, const json_t *step, const char **out, ot_error *err) {
    static const char *const options[] = {"--blocks=", "--images="};
    const json_t *words = json_object_get(step, "command");
    for (size_t i = 0; i < json_array_size(words); i++) {
        const char *word = json_string_value(json_array_get(words, i));
        for (int k = 0; word != NULL && k < 2; k++) {
            if (strncmp(word, options[k], strlen(options[k])) != 0) continue;
            *out = ot_arena_strdup(&r->arena, word + strlen(options[k]), err);
            return *out == NULL ? OT_ERR_MEMORY : OT_OK;
        }
    }
    return OT_OK;
}

static ot_status read_step(ot_report *r, const char *dir, const char *state, const json_t *step, ot_error *err) {
    char path[PATH_ROOM];
    ot_step_facts f = no_facts;
    f.seconds = real(step, "seconds");
    f.peak_bytes = whole(step, "peak_memory_bytes");
    f.output_bytes = whole(step, "output_bytes");
    OT_TRY(copy(r, step, "name", &f.name, err));
    OT_TRY(copy(r, step, "verb", &f.verb, err));
    OT_TRY(copy(r, step, "error", &f.error, err));
    OT_TRY(copy(r, step, "model", &f.setting.model, err));
    OT_TRY(copy(r, step, "split", &f.setting.split, err));
    OT_TRY(copy(r, step, "emulator", &f.setting.emulator, err));
    OT_TRY(copy(r, step, "peft", &f.setting.peft, err));
    OT_TRY(copy(r, step, "task", &f.setting.task, err));
    OT_TRY(join(r, step, &f.command, err));
    OT_TRY(find_data(r, step, &f.data, err));
    f.setting.lr = real(step, "lr");
    f.setting.seed = whole(step, "seed");
    const char *status = json_string_value(json_object_get(step, "status"));
    if (!plain_name(f.name) || f.verb == NULL || status == NULL) return ot_fail(err, OT_ERR_FORMAT, "%s: a step lacks its name, verb or status: run the experiment again", state);
    f.failed = strcmp(status, "failed") == 0;
    bool waits = strcmp(status, "waiting") == 0 || strcmp(status, "running") == 0;
    const char *role = json_string_value(json_object_get(step, "role"));
    f.full_waits = waits && (strcmp(f.verb, "finetune") == 0 || (role != NULL && strcmp(role, ot_role_keys[OT_ROLE_FULL]) == 0));
    r->waiting += waits;
    r->skipped += strcmp(status, "skipped") == 0;
    if (strcmp(status, "running") == 0) r->running = f.name;
    if (json_is_true(json_object_get(step, "probe"))) {
        f.verb = "probe";
        r->probed = true;
    }
    if (strcmp(status, "done") == 0) {
        json_t *file = NULL;
        if (snprintf(path, sizeof path, "%s/steps/%s.json", dir, f.name) >= PATH_ROOM) return ot_fail(err, OT_ERR_USAGE, "%s: the path is too long", dir);
        ot_error ignored;
        ot_status read = ot_json_read(path, STATE_LIMIT, &file, role != NULL ? err : &ignored);
        ot_status status_of = OT_OK;
        for (int k = 0; role != NULL && read == OT_OK && k < OT_ROLE_COUNT; k++) {
            if (strcmp(role, ot_role_keys[k]) != 0) continue;
            f.role = k;
            status_of = put_eval(r, (ot_role)k, &f.setting, file, path, err);
        }
        if (read == OT_OK && status_of == OT_OK) status_of = take_facts(r, &f, file, err);
        json_decref(file);
        if (role != NULL) OT_TRY(read);
        OT_TRY(status_of);
        snprintf(path, sizeof path, "%s/steps/%s.jsonl", dir, f.name);
        OT_TRY(read_log(&f, path, err));
    }
    return put_facts(r, &f, err);
}

static ot_status read_experiment(ot_report *r, const char *dir, const char *state, ot_error *err) {
    json_t *file = NULL;
    OT_TRY(ot_json_read(state, STATE_LIMIT, &file, err));
    const json_t *steps = json_object_get(file, "steps");
    const char *format = json_string_value(json_object_get(file, "format"));
    ot_status status = OT_OK;
    if (format == NULL || strcmp(format, "offsite-experiment") != 0 || !json_is_array(steps)) {
        status = ot_fail(err, OT_ERR_FORMAT, "%s is not the queue of `offsite experiment`: \"format\" or \"steps\" is missing", state);
    }
    if (status == OT_OK && r->title == NULL) status = copy(r, file, "title", &r->title, err);
    if (status == OT_OK) status = put_source(r, dir, file, err);
    for (size_t i = 0; status == OT_OK && i < json_array_size(steps); i++) status = read_step(r, dir, state, json_array_get(steps, i), err);
    json_decref(file);
    return status;
}

/* ==== Files named for their role. ==== */

static ot_status read_named(ot_report *r, const char *dir, const char *name, const char *verb, int role, bool *found, ot_error *err) {
    char path[PATH_ROOM];
    if (snprintf(path, sizeof path, "%s/%s.json", dir, name) >= PATH_ROOM) return ot_fail(err, OT_ERR_USAGE, "%s: the path is too long", dir);
    if (!ot_path_exists(path)) return OT_OK;
    json_t *file = NULL;
    OT_TRY(ot_json_read(path, STATE_LIMIT, &file, err));
    *found = true;
    ot_step_facts f = no_facts;
    f.name = name;
    f.verb = verb;
    f.setting.model = ot_arena_strdup(&r->arena, dir, err);
    ot_status status = f.setting.model == NULL ? OT_ERR_MEMORY : OT_OK;
    f.role = role;
    if (status == OT_OK && role >= 0) status = put_eval(r, (ot_role)role, &f.setting, file, path, err);
    if (status == OT_OK) status = take_facts(r, &f, file, err);
    json_decref(file);
    OT_TRY(status);
    snprintf(path, sizeof path, "%s/%s.jsonl", dir, name);
    OT_TRY(read_log(&f, path, err));
    return put_facts(r, &f, err);
}

static ot_status read_roles(ot_report *r, const char *dir, ot_error *err) {
    static const struct { const char *name, *verb; int role; } files[] = {
        {"zero_shot", "eval", OT_ROLE_ZERO_SHOT}, {"emulator", "eval", OT_ROLE_EMULATOR}, {"emulator_zero_shot", "eval", OT_ROLE_EMULATOR},
        {"tuned", "eval", OT_ROLE_TUNED}, {"emulator_tuned", "eval", OT_ROLE_TUNED}, {"plug_in", "eval", OT_ROLE_PLUG_IN},
        {"full", "eval", OT_ROLE_FULL}, {"full_fine_tuning", "eval", OT_ROLE_FULL}, {"split", "split", -1}, {"tune", "tune", -1},
        {"finetune", "finetune", -1}};
    bool found = false;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) OT_TRY(read_named(r, dir, files[i].name, files[i].verb, files[i].role, &found, err));
    if (found) return put_source(r, dir, NULL, err);
    return ot_fail(err, OT_ERR_FORMAT, "%s holds no results: it needs the state.json of `offsite experiment`, or what --json printed as zero_shot.json, "
                   "emulator.json, tuned.json, plug_in.json, full.json", dir);
}

ot_status ot_report_read(ot_report *r, const char *path, ot_error *err) {
    char state[PATH_ROOM];
    if (!ot_path_is_dir(path)) return ot_fail(err, OT_ERR_IO, "there is no folder %s with results", path);
    if (!ot_path_join(state, sizeof state, path, "state.json")) return ot_fail(err, OT_ERR_USAGE, "%s: the path is too long", path);
    return ot_path_exists(state) ? read_experiment(r, path, state, err) : read_roles(r, path, err);
}

void ot_report_free(ot_report *r) {
    for (int64_t i = 0; i < r->n_steps; i++) free_curve(&r->steps[i].curve);
    ot_free(r->scores);
    ot_free(r->steps);
    ot_free(r->sources);
    ot_arena_free(&r->arena);
    *r = (ot_report){0};
}
