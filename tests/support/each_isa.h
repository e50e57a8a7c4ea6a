/* For tests of the CPU backend: the same under every instruction set that this machine has. */
#ifndef OT_TESTS_EACH_ISA_H
#define OT_TESTS_EACH_ISA_H

#include <stdlib.h>

#include "engine/cpu/kernels.h"

/* check(table, value) with OFFSITE_ISA set to each table's, best first. */
static inline void each_isa(void (*check)(const ot_cpu_kernels *table, int value), int value) {
    const ot_cpu_kernels *tables[6];
    unsetenv("OFFSITE_ISA");
    ot_cpu_tables(tables);
    for (int t = 0; tables[t]; t++) {
        setenv("OFFSITE_ISA", tables[t]->name, 1);
        assert_ptr_equal(ot_cpu_pick(), tables[t]);
        check(tables[t], value);
    }
    unsetenv("OFFSITE_ISA");
}

#endif
