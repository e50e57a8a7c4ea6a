#include "cli/experiment_run.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/interrupt.h"
#include "cli/text.h"
#include "format/json.h"
#include "report/fingerprint.h"

enum { PATH_ROOM = 4400, GRID_LIMIT = 1 << 20, STATE_LIMIT = 1 << 26, RESULT_LIMIT = 1 << 28, LOG_TAIL = 4096 };

typedef enum step_status { WAITING, RUNNING, DONE, FAILED, SKIPPED } step_status;
static const char stopping[] = "stopping: the step at work is told to, and a run that trains saves first; Ctrl-C again stops all at once";
static const char *const status_names[] = {"waiting", "running", "done", "failed", "skipped"};

typedef struct queue {
    const ot_runs *runs;
    const char *dir, *program;
    char state[PATH_ROOM];
    char machine[200];
    ot_dir_lock lock;
    json_t *steps; /* one object for each step: what state.json holds */
    step_status *status;
    bool *fresh; /* run by this call */
    bool quiet;
} queue;

static json_t *entry(const queue *q, int64_t i) { return json_array_get(q->steps, (size_t)i); }

/* ==== state.json ==== */

static void put_text(json_t *o, const char *key, const char *text) { json_object_set_new(o, key, text != NULL ? json_string(text) : json_null()); }

static json_t *describe(const ot_runs_step *s) {
    json_t *o = json_object(), *command = json_array();
    put_text(o, "name", s->name);
    put_text(o, "verb", s->verb);
    if (s->probe) json_object_set_new(o, "probe", json_true());
    put_text(o, "role", s->role >= 0 ? ot_role_keys[s->role] : NULL);
    put_text(o, "model", s->setting.model);
    put_text(o, "split", s->setting.split);
    put_text(o, "emulator", s->setting.emulator);
    put_text(o, "peft", s->setting.peft);
    put_text(o, "task", s->setting.task);
    json_object_set_new(o, "lr", isnan(s->setting.lr) ? json_null() : json_real(s->setting.lr));
    json_object_set_new(o, "seed", s->setting.seed < 0 ? json_null() : json_integer(s->setting.seed));
    for (int64_t i = 0; i < s->n_words; i++) json_array_append_new(command, json_string(s->words[i]));
    if (s->subject != NULL) json_array_append_new(command, json_string(s->subject));
    json_object_set_new(o, "command", command);
    put_text(o, "status", status_names[WAITING]);
    return o;
}

static ot_status save(const queue *q, ot_error *err) {
    json_t *file = json_pack("{s:s,s:i,s:s?,s:s,s:s,s:s,s:O}", "format", "offsite-experiment", "version", 1, "title", q->runs->title, "program",
                             "offsite " OFFSITE_VERSION, "machine", q->machine, "config", q->runs->config, "steps", q->steps);
    if (file == NULL) return ot_fail_memory(err, 4096, "the queue");
    ot_status status = ot_json_write(q->state, file, err);
    json_decref(file);
    return status;
}

static void set_status(queue *q, int64_t i, step_status status) {
    q->status[i] = status;
    put_text(entry(q, i), "status", status_names[status]);
}

/* What a step reads of the world, as it is now. */
static json_t *look(const ot_runs_step *s) {
    json_t *seen = json_object();
    for (int64_t i = 0; i < s->n_inputs; i++) {
        char print[OT_FINGERPRINT_TEXT];
        ot_fingerprint(&s->inputs[i], print);
        json_object_set_new(seen, s->inputs[i].path, json_string(print));
    }
    return seen;
}

/* The path that is no longer what the step saw, NULL: none. */
static const char *changed_input(const ot_runs_step *s, const json_t *old) {
    const json_t *before = json_object_get(old, "inputs");
    if (!json_is_object(before)) return NULL;
    json_t *now = look(s);
    const char *path, *found = NULL;
    json_t *print;
    json_object_foreach(now, path, print) {
        if (!json_equal(json_object_get(before, path), print)) found = path;
    }
    for (int64_t i = 0; found != NULL && i < s->n_inputs; i++) {
        if (strcmp(s->inputs[i].path, found) != 0) continue;
        found = s->inputs[i].path; /* lives longer than `now` */
        break;
    }
    json_decref(now);
    return found;
}

/* Takes over what an earlier run of the queue did by the same commands from the same files. */
static ot_status load(queue *q, ot_error *err) {
    json_t *file = NULL;
    if (!ot_path_exists(q->state)) return OT_OK;
    OT_TRY(ot_json_read(q->state, STATE_LIMIT, &file, err));
    const char *format = json_string_value(json_object_get(file, "format"));
    if (format == NULL || strcmp(format, "offsite-experiment") != 0) {
        json_decref(file);
        return ot_fail(err, OT_ERR_REFUSED, "%s is not the queue of an experiment: choose another -o", q->state);
    }
    const json_t *steps = json_object_get(file, "steps");
    for (size_t k = 0; k < json_array_size(steps); k++) {
        const json_t *old = json_array_get(steps, k);
        const char *name = json_string_value(json_object_get(old, "name")), *status = json_string_value(json_object_get(old, "status"));
        for (int64_t i = 0; name != NULL && status != NULL && i < q->runs->n_steps; i++) {
            const ot_runs_step *s = &q->runs->steps[i];
            if (strcmp(name, s->name) != 0) continue;
            bool equal = json_equal(json_object_get(old, "command"), json_object_get(entry(q, i), "command"));
            const char *changed = equal && strcmp(status, "done") == 0 ? changed_input(s, old) : NULL;
            if (changed != NULL && !q->quiet) fprintf(stderr, "%s runs again: %s has changed\n", name, changed);
            equal = equal && changed == NULL;
            char path[PATH_ROOM];
            bool kept = snprintf(path, sizeof path, "%s/steps/%s.json", q->dir, name) < PATH_ROOM && ot_path_exists(path);
            if (equal && kept && strcmp(status, "done") == 0) {
                json_array_set(q->steps, (size_t)i, (json_t *)old);
                q->status[i] = DONE;
            } else if (!equal && s->output != NULL && ot_path_exists(s->output)) {
                if (ot_remove_tree(s->output, err) != OT_OK) {
                    json_decref(file);
                    return err != NULL ? err->code : OT_ERR_IO;
                }
            }
            break;
        }
    }
    json_decref(file);
    return OT_OK;
}

/* ==== One process. ==== */

/* Ends with its parent: a step that outlived a killed runner would write beside the one that the next runner starts. */
static void child(const char *program, pid_t parent, char **words, const char *out, const char *log) {
    /* A signal that comes before the other program runs must not be spent on the runner's flag. */
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent) _exit(127);
    int in = open("/dev/null", O_RDONLY), to = open(out, O_WRONLY | O_CREAT | O_TRUNC, 0666), errors = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (in < 0 || to < 0 || errors < 0 || dup2(in, 0) < 0 || dup2(to, 1) < 0 || dup2(errors, 2) < 0) _exit(127);
    execv(program, words);
    _exit(127);
}

/* The last line of a step's log without "offsite: ". */
static void last_line(const char *log, char *line, size_t size) {
    char *text = NULL;
    int64_t n = 0;
    ot_error ignored;
    snprintf(line, size, "%s", "no message");
    if (ot_read_file(log, RESULT_LIMIT, &text, &n, &ignored) != OT_OK) return;
    while (n > 0 && text[n - 1] == '\n') text[--n] = '\0';
    const char *begin = strrchr(text, '\n');
    begin = begin != NULL ? begin + 1 : text;
    if (strncmp(begin, "offsite: ", 9) == 0) begin += 9;
    if (*begin != '\0') snprintf(line, size, "%s", begin);
    ot_free(text);
}

static int64_t folder_bytes(const char *path) {
    ot_arena arena = {0};
    char **names = NULL;
    int64_t n = 0, sum = 0;
    ot_error ignored;
    if (ot_list_dir(path, &arena, &names, &n, &ignored) != OT_OK) n = 0;
    for (int64_t i = 0; i < n; i++) {
        char file[PATH_ROOM];
        struct stat st;
        if (ot_path_join(file, sizeof file, path, names[i]) && stat(file, &st) == 0 && S_ISREG(st.st_mode)) sum += (int64_t)st.st_size;
    }
    ot_arena_free(&arena);
    return sum;
}

static bool is_model(const char *path) {
    char config[PATH_ROOM];
    return !ot_path_is_dir(path) || (ot_path_join(config, sizeof config, path, "config.json") && ot_path_exists(config));
}

/* The verb, what it works on, its options. */
static void make_words(const queue *q, const ot_runs_step *s, char **words) {
    int64_t n = 0;
    words[n++] = (char *)q->program;
    words[n++] = (char *)s->words[0];
    if (s->subject != NULL) {
        bool model = is_model(s->subject);
        words[n++] = (char *)(model ? s->subject : s->setting.model);
        if (!model) {
            words[n++] = "--adapter";
            words[n++] = (char *)s->subject;
        }
    }
    for (int64_t i = 1; i < s->n_words; i++) words[n++] = (char *)s->words[i];
    words[n++] = "--json";
    words[n++] = "--no-progress";
    words[n] = NULL;
}

static ot_status wait_for(pid_t pid, int *code, struct rusage *usage, ot_error *err) {
    bool passed_on = false;
    do {
        if (ot_interrupted() && !passed_on) {
            kill(pid, SIGTERM);
            passed_on = true;
        }
        if (wait4(pid, code, 0, usage) >= 0) return OT_OK;
    } while (errno == EINTR);
    return ot_fail_errno(err, errno, "waiting for a step failed");
}

/* The queue says what is at work, by which words and from which files as they are now. */
static ot_status announce(queue *q, int64_t i, char **words, ot_error *err) {
    json_t *o = entry(q, i), *ran = json_array();
    for (int64_t k = 1; words[k] != NULL && strcmp(words[k], "--json") != 0; k++) json_array_append_new(ran, json_string(words[k]));
    json_object_set_new(o, "ran", ran);
    json_object_set_new(o, "inputs", look(&q->runs->steps[i]));
    json_object_del(o, "error");
    set_status(q, i, RUNNING);
    return save(q, err);
}

static ot_status interrupted(const ot_runs_step *s, ot_error *err) {
    return ot_fail(err, OT_ERR_INTERRUPTED, "interrupted at step %s: the same command goes on from there", s->name);
}

static ot_status run_step(queue *q, int64_t i, ot_error *err) {
    const ot_runs_step *s = &q->runs->steps[i];
    char part[PATH_ROOM], result[PATH_ROOM], log[PATH_ROOM], message[600];
    char *words[OT_RUNS_MAX_WORDS + 8];
    struct timespec began, ended;
    struct rusage usage = {0};
    int code = 0;
    if (snprintf(part, sizeof part, "%s/steps/%s.json.part", q->dir, s->name) >= PATH_ROOM) return ot_fail(err, OT_ERR_USAGE, "%s: the path is too long", q->dir);
    snprintf(result, sizeof result, "%s/steps/%s.json", q->dir, s->name);
    snprintf(log, sizeof log, "%s/steps/%s.log", q->dir, s->name);
    make_words(q, s, words);
    OT_TRY(announce(q, i, words, err));
    clock_gettime(CLOCK_MONOTONIC, &began);
    pid_t parent = getpid(), pid = fork();
    if (pid < 0) return ot_fail_errno(err, errno, "starting a step failed");
    if (pid == 0) child(q->program, parent, words, part, log);
    OT_TRY(wait_for(pid, &code, &usage, err));
    clock_gettime(CLOCK_MONOTONIC, &ended);
    if (ot_interrupted()) {
        set_status(q, i, WAITING);
        OT_TRY(save(q, err));
        return interrupted(s, err);
    }
    json_t *o = entry(q, i);
    json_object_set_new(o, "seconds", json_real((double)(ended.tv_sec - began.tv_sec) + 1e-9 * (double)(ended.tv_nsec - began.tv_nsec)));
    json_object_set_new(o, "peak_memory_bytes", json_integer((json_int_t)usage.ru_maxrss * 1024));
    json_object_set_new(o, "exit", json_integer(WIFEXITED(code) ? WEXITSTATUS(code) : 128 + WTERMSIG(code)));
    q->fresh[i] = true;
    if (WIFEXITED(code) && WEXITSTATUS(code) == 0) {
        if (rename(part, result) != 0) return ot_fail_errno(err, errno, "%s cannot be named %s", part, result);
        if (s->output != NULL) json_object_set_new(o, "output_bytes", json_integer(folder_bytes(s->output)));
        set_status(q, i, DONE);
        return OT_OK;
    }
    unlink(part);
    last_line(log, message, sizeof message);
    if (WIFSIGNALED(code)) snprintf(message, sizeof message, "ended by signal %d", WTERMSIG(code));
    put_text(o, "error", message);
    set_status(q, i, FAILED);
    return OT_OK;
}

/* ==== The queue. ==== */

static bool uses(const ot_runs_step *s, int64_t need) { return s->needs[0] == need || s->needs[1] == need; }

/* An adapted model is large and of no use once it is measured. */
static ot_status drop_measured(queue *q, int64_t last, ot_error *err) {
    for (int64_t i = 0; i < last; i++) {
        const ot_runs_step *s = &q->runs->steps[i];
        bool heavy = strcmp(s->verb, "plug") == 0 || strcmp(s->verb, "finetune") == 0;
        if (!heavy || q->status[i] != DONE || !ot_path_exists(s->output)) continue;
        bool measured = true;
        for (int64_t k = i + 1; k < q->runs->n_steps; k++) measured = measured && !(uses(&q->runs->steps[k], i) && q->status[k] != DONE);
        if (measured) OT_TRY(ot_remove_tree(s->output, err));
    }
    return OT_OK;
}

/* A step done earlier runs again when what it needs was made anew, or when its folder is gone and somebody waits for it. */
static void find_stale(queue *q) {
    for (int64_t i = q->runs->n_steps - 1; i >= 0; i--) {
        const ot_runs_step *s = &q->runs->steps[i];
        if (q->status[i] != DONE || s->output == NULL || ot_path_exists(s->output)) continue;
        for (int64_t k = i + 1; k < q->runs->n_steps; k++) {
            if (uses(&q->runs->steps[k], i) && q->status[k] != DONE) set_status(q, i, WAITING);
        }
    }
}

static ot_status run_queue(queue *q, ot_experiment_summary *out, ot_error *err) {
    find_stale(q);
    OT_TRY(save(q, err));
    for (int64_t i = 0; i < q->runs->n_steps; i++) {
        const ot_runs_step *s = &q->runs->steps[i];
        bool blocked = false, renewed = false;
        for (int k = 0; k < 2; k++) {
            int64_t need = s->needs[k];
            blocked = blocked || (need >= 0 && q->status[need] != DONE);
            renewed = renewed || (need >= 0 && q->fresh[need]);
        }
        if (q->status[i] == DONE && !renewed && !blocked) {
            out->before++;
            continue;
        }
        if (blocked) {
            set_status(q, i, SKIPPED);
            out->skipped++;
            continue;
        }
        if (renewed && q->status[i] == DONE && s->output != NULL && ot_path_exists(s->output)) OT_TRY(ot_remove_tree(s->output, err));
        if (ot_interrupted()) return interrupted(s, err);
        if (!q->quiet) fprintf(stderr, "[%" PRId64 "/%" PRId64 "] %s\n", i + 1, q->runs->n_steps, s->name);
        OT_TRY(run_step(q, i, err));
        if (q->status[i] == FAILED) {
            out->failed++;
            fprintf(stderr, "%s failed: ", s->name);
            ot_put_safe(stderr, json_string_value(json_object_get(entry(q, i), "error")));
            fputc('\n', stderr);
        } else {
            out->done++;
        }
        OT_TRY(save(q, err));
        OT_TRY(drop_measured(q, i + 1, err));
    }
    return save(q, err);
}

/* The processor and how many of it: speeds are of no use without. */
static void name_machine(queue *q) {
    char *text = NULL, model[120] = "a processor without a name";
    int64_t size = 0;
    ot_error ignored;
    if (ot_read_file("/proc/cpuinfo", 1 << 24, &text, &size, &ignored) == OT_OK) {
        const char *at = strstr(text, "model name"), *colon = at != NULL ? strchr(at, ':') : NULL;
        if (colon != NULL) snprintf(model, sizeof model, "%.*s", (int)strcspn(colon + 1 + strspn(colon + 1, " "), "\n"), colon + 1 + strspn(colon + 1, " "));
        ot_free(text);
    }
    snprintf(q->machine, sizeof q->machine, "%s, %ld threads", model, sysconf(_SC_NPROCESSORS_ONLN));
}

static ot_status prepare(queue *q, ot_error *err) {
    char steps[PATH_ROOM], work[PATH_ROOM];
    bool fits = ot_path_join(q->state, sizeof q->state, q->dir, "state.json") && ot_path_join(steps, sizeof steps, q->dir, "steps") &&
                ot_path_join(work, sizeof work, q->dir, "work");
    if (!fits) return ot_fail(err, OT_ERR_USAGE, "%s: the path is too long", q->dir);
    OT_TRY(ot_make_dirs(steps, err));
    OT_TRY(ot_make_dirs(work, err));
    OT_TRY(ot_dir_lock_take(q->dir, "experiment", &q->lock, err)); /* two runners on one queue would undo each other's work */
    name_machine(q);
    q->steps = json_array();
    for (int64_t i = 0; i < q->runs->n_steps; i++) json_array_append_new(q->steps, describe(&q->runs->steps[i]));
    OT_TRY(ot_calloc(q->runs->n_steps, (int64_t)sizeof *q->status, "the queue", (void **)&q->status, err));
    OT_TRY(ot_calloc(q->runs->n_steps, (int64_t)sizeof *q->fresh, "the queue", (void **)&q->fresh, err));
    return load(q, err);
}

ot_status ot_experiment_open(const char *path, const char *dir, ot_runs *runs, ot_error *err) {
    char *text = NULL;
    int64_t size = 0;
    OT_TRY(ot_read_file(path, GRID_LIMIT, &text, &size, err));
    ot_status status = ot_runs_parse(text, size, path, dir, runs, err);
    ot_free(text);
    if (status == OT_ERR_FORMAT) status = err->code = OT_ERR_USAGE;
    return status;
}

ot_status ot_experiment_run(const ot_runs *runs, const char *dir, bool quiet, ot_experiment_summary *out, ot_error *err) {
    char program[PATH_ROOM];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    if (n <= 0) return ot_fail_errno(err, errno, "the path of this program is not known (/proc/self/exe)");
    program[n] = '\0';
    *out = (ot_experiment_summary){0};
    queue q = {.runs = runs, .dir = dir, .program = program, .quiet = quiet};
    ot_interrupt_install(quiet ? NULL : stopping, true);
    ot_status status = prepare(&q, err);
    if (status == OT_OK) status = run_queue(&q, out, err);
    ot_dir_lock_release(&q.lock);
    json_decref(q.steps);
    ot_free(q.status);
    ot_free(q.fresh);
    return status;
}

ot_status ot_experiment_judge(const ot_experiment_summary *s, const char *dir, ot_error *err) {
    char failed[64], skipped[128] = "", room[64];
    if (s->failed + s->skipped == 0) return OT_OK;
    if (s->skipped > 0) {
        snprintf(skipped, sizeof skipped, " and %s that need%s one of them %s left out", ot_text_of(s->skipped, "step", room, sizeof room), s->skipped == 1 ? "s" : "",
                 s->skipped == 1 ? "was" : "were");
    }
    return ot_fail(err, OT_ERR_IO, "%s failed%s: %s/state.json says why; the same command tries %s again", ot_text_of(s->failed, "step", failed, sizeof failed), skipped, dir,
                   s->failed + s->skipped == 1 ? "it" : "them");
}
