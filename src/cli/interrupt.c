/* A signal handler can reach nothing but a global: this is the program's one mutable global, and the library only gets its
 * address. */
#include "cli/interrupt.h"

#include <stddef.h>

static volatile sig_atomic_t raised;

static void on_signal(int number) {
    (void)number;
    raised = 1;
}

void ot_interrupt_install(void) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND | SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

const volatile sig_atomic_t *ot_interrupt_flag(void) { return &raised; }
bool ot_interrupted(void) { return raised != 0; }
