/* Scratch directories, and a stand-in for a full disk: a child process under a file size limit. */
#include "support/scratch.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"

void scratch_open(scratch *s, const char *parent) {
    snprintf(s->dir, sizeof s->dir, "%s/scratch-XXXXXX", parent);
    assert_non_null(mkdtemp(s->dir));
}

void scratch_close(scratch *s) {
    ot_error err = {0};
    if (ot_remove_tree(s->dir, &err) != OT_OK) fail_msg("%s", err.message);
}

const char *scratch_path(scratch *s, const char *name) {
    assert_true(ot_path_join(s->path, sizeof s->path, s->dir, name));
    return s->path;
}

int64_t scratch_count(const scratch *s) {
    ot_arena arena = {0};
    ot_error err = {0};
    char **names = NULL;
    int64_t count = 0;
    if (ot_list_dir(s->dir, &arena, &names, &count, &err) != OT_OK) fail_msg("%s", err.message);
    ot_arena_free(&arena);
    return count;
}

int scratch_with_file_limit(int64_t bytes, int (*fn)(void *context), void *context) {
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct rlimit limit = {.rlim_cur = (rlim_t)bytes, .rlim_max = (rlim_t)bytes};
        signal(SIGXFSZ, SIG_IGN);
        _exit(setrlimit(RLIMIT_FSIZE, &limit) == 0 ? fn(context) : 99);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
