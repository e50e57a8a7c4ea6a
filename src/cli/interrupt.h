/* Ctrl-C and SIGTERM: the first one asks, the second one kills. */
#ifndef OT_CLI_INTERRUPT_H
#define OT_CLI_INTERRUPT_H

#include <signal.h>
#include <stdbool.h>

/* From now on the first SIGINT or SIGTERM only raises the flag, which a long loop polls between steps to save its checkpoint
 * and return OT_ERR_INTERRUPTED; the next one ends the process as usual. */
void ot_interrupt_install(void);
/* For loops outside src/cli: non-zero once asked to stop. */
const volatile sig_atomic_t *ot_interrupt_flag(void);
bool ot_interrupted(void);

#endif
