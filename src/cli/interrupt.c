/* A signal handler can reach nothing but globals: these are the program's only mutable ones, and the library only gets the address of
 * the flag. */
#include "cli/interrupt.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t raised;
static char said[240];
static size_t said_size;

/* Only what a handler may call: write(2), no streams. A line that is lost changes nothing. */
static void on_signal(int number) {
    (void)number;
    int before = errno;
    if (!raised && said_size > 0 && write(STDERR_FILENO, said, said_size) < 0) said_size = 0;
    raised = 1;
    errno = before;
}

void ot_interrupt_install(const char *message, bool wakes) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND | (wakes ? 0 : SA_RESTART)};
    /* On a terminal a progress bar may stand in the line: the message takes its place, and the bar comes again below. */
    if (message != NULL) snprintf(said, sizeof said, "%s%s\n", isatty(STDERR_FILENO) ? "\r\033[K" : "", message);
    said_size = message != NULL ? strlen(said) : 0;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

const volatile sig_atomic_t *ot_interrupt_flag(void) { return &raised; }
bool ot_interrupted(void) { return raised != 0; }
