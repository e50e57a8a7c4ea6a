/* Preloaded into the program: kills it, without warning, right before its call number KILL_AT that changes files; KILL_AT=0 lets it live. With KILL_COUNT, the
 * file of that name tells how many such calls there were. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SEEN __attribute__((visibility("default")))

static _Atomic long calls;

static void count(void) {
    const char *at = getenv("KILL_AT");
    if (atomic_fetch_add(&calls, 1) + 1 == (at != NULL ? strtol(at, NULL, 10) : 0)) raise(SIGKILL);
}

__attribute__((destructor)) static void tell(void) {
    const char *path = getenv("KILL_COUNT");
    char text[32];
    if (path == NULL) return;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666), n = snprintf(text, sizeof text, "%ld\n", atomic_load(&calls));
    if (fd >= 0 && n > 0) (void)!syscall(SYS_write, fd, text, (size_t)n);
    if (fd >= 0) close(fd);
}

SEEN size_t fwrite(const void *data, size_t size, size_t n, FILE *f) {
    size_t (*next)(const void *, size_t, size_t, FILE *) = NULL;
    *(void **)&next = dlsym(RTLD_NEXT, "fwrite");
    if (fileno(f) > STDERR_FILENO && ftello(f) == 0) count(); /* the first of a file: the later ones are many, and lost alike */
    return next(data, size, n, f);
}

SEEN int mkdir(const char *path, mode_t mode) {
    count();
    return (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}

SEEN int fsync(int fd) {
    count();
    return (int)syscall(SYS_fsync, fd);
}

SEEN int rename(const char *from, const char *to) {
    count();
    return (int)syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to);
}

SEEN int unlink(const char *path) {
    count();
    return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

SEEN int link(const char *from, const char *to) {
    count();
    return (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
}

SEEN int ftruncate(int fd, off_t size) {
    count();
    return (int)syscall(SYS_ftruncate, fd, size);
}
