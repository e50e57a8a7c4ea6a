/* Running the binary: posix_spawn, output to files, a time limit. One run at a time, one thread each. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "base/file.h"
#include "golden.h"

enum { TIME_LIMIT = 120 /* seconds */ };

extern char **environ;

void gold_arg(gold_args *args, ...) {
    va_list list;
    va_start(list, args);
    for (const char *word; (word = va_arg(list, const char *)) != NULL;) {
        if (args->n + 2 >= GOLD_ARGS) gold_die("too many arguments");
        args->v[args->n++] = word;
    }
    va_end(list);
}

/* The environment with libraries held to one thread and nothing that moves a user's configuration in. */
static char **environment(void) {
    static const char *const fixed[] = {"OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1", "LC_ALL=C.UTF-8"};
    enum { FIXED = sizeof fixed / sizeof fixed[0] };
    size_t n = 0;
    while (environ[n]) n++;
    char **out = malloc((n + FIXED + 1) * sizeof *out);
    if (!out) gold_die("out of memory");
    size_t m = 0;
    for (size_t i = 0; i < n; i++) {
        bool replaced = false;
        for (size_t k = 0; k < FIXED; k++) replaced |= strncmp(environ[i], fixed[k], strcspn(fixed[k], "=") + 1) == 0;
        if (!replaced) out[m++] = environ[i];
    }
    for (size_t k = 0; k < FIXED; k++) out[m++] = (char *)(uintptr_t)fixed[k];
    out[m] = NULL;
    return out;
}

/* Waits for the child until the limit, then kills it. main has blocked these signals for sigtimedwait; an interrupt ends the
 * child and the runner, whose exit handler removes the temporary folder. */
static int wait_for(pid_t pid) {
    sigset_t waited;
    sigemptyset(&waited);
    sigaddset(&waited, SIGCHLD);
    sigaddset(&waited, SIGINT);
    sigaddset(&waited, SIGTERM);
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += TIME_LIMIT;
    for (;;) {
        int status;
        pid_t got = waitpid(pid, &status, WNOHANG);
        if (got == pid) return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        if (got < 0 && errno != EINTR) gold_die("waitpid: %s", strerror(errno));
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec >= end.tv_sec) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            return 124;
        }
        int signal_number = sigtimedwait(&waited, NULL, &(struct timespec){.tv_sec = 1});
        if (signal_number == SIGINT || signal_number == SIGTERM) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            gold_die("stopped by signal %d", signal_number);
        }
    }
}

gold_result gold_exec(gold_run *run, const gold_args *args, const char *in) {
    gold_result result = {0};
    gold_temp(run, result.out, ".out");
    gold_temp(run, result.err, ".err");
    const char *argv[GOLD_ARGS + 1] = {run->binary};
    for (int i = 0; i < args->n; i++) argv[i + 1] = args->v[i];
    argv[args->n + 1] = NULL;

    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t none;
    sigemptyset(&none);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, in ? in : "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, 1, result.out, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    posix_spawn_file_actions_addopen(&files, 2, result.err, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    char **env = environment();
    pid_t pid;
    int failed = posix_spawn(&pid, run->binary, &files, &attributes, (char *const *)(uintptr_t)argv, env);
    free(env);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    if (failed) gold_die("cannot start %s: %s", run->binary, strerror(failed));
    run->spawned++;
    result.code = wait_for(pid);

    if (run->verbose) {
        fprintf(stderr, "[%d]", result.code);
        for (int i = 0; i < args->n; i++) fprintf(stderr, " %s", args->v[i]);
        fputc('\n', stderr);
    }
    char line[GOLD_TEXT];
    gold_first_line(result.err, line, sizeof line);
    snprintf(result.text, sizeof result.text, "%s %s: exit %d%s%s", ot_path_base(run->binary), args->v[0], result.code,
             line[0] ? ": " : "", line);
    return result;
}
