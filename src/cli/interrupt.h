/* Ctrl-C and SIGTERM: the first one asks, the second one kills. */
#ifndef OT_CLI_INTERRUPT_H
#define OT_CLI_INTERRUPT_H

#include <signal.h>
#include <stdbool.h>

/* From now on the first SIGINT or SIGTERM says `message` (one line without its end; NULL: nothing) on standard error and raises the flag, which a long
 * loop polls between steps to save its checkpoint and return OT_ERR_INTERRUPTED; the next one of the same kind ends the process as usual.
 * wakes: a system call that waits then ends with EINTR instead of going on. */
void ot_interrupt_install(const char *message, bool wakes);
/* For loops outside src/cli: non-zero once asked to stop. */
const volatile sig_atomic_t *ot_interrupt_flag(void);
bool ot_interrupted(void);

#endif
