/* What a process may use, from hand-made /proc and /sys trees. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/parallel.h"
#include "base/room.h"
#include "support/scratch.h"

static void put(scratch *s, const char *name, const char *text) {
    char folder[1024];
    ot_error err;
    snprintf(folder, sizeof folder, "%s", scratch_path(s, name));
    *strrchr(folder, '/') = '\0';
    assert_int_equal(ot_make_dirs(folder, &err), OT_OK);
    assert_int_equal(ot_write_file(scratch_path(s, name), text, (int64_t)strlen(text), &err), OT_OK);
}

static void the_least_limit_counts(void **state) {
    (void)state;
    scratch s;
    scratch_open(&s, TEST_BINARY_DIR);
    assert_int_equal(ot_memory_room_under(s.dir), 0);
    put(&s, "proc/meminfo", "MemTotal:       16384 kB\nMemFree:   10 kB\nMemAvailable:    8192 kB\n");
    assert_int_equal(ot_memory_room_under(s.dir), 8192 << 10);
    put(&s, "proc/self/status", "Name:\toffsite\nVmRSS:\t     900 kB\nRssAnon:\t     100 kB\nRssFile:\t  800 kB\n");
    assert_int_equal(ot_memory_room_under(s.dir), 8292 << 10);
    /* Version 2: a limit of a group above the own one; file pages are given back. */
    put(&s, "proc/self/cgroup", "0::/user.slice/job\n");
    put(&s, "sys/fs/cgroup/user.slice/job/memory.max", "max\n");
    put(&s, "sys/fs/cgroup/user.slice/job/memory.current", "1000\n");
    assert_int_equal(ot_memory_room_under(s.dir), 8292 << 10);
    put(&s, "sys/fs/cgroup/user.slice/memory.max", "4194304\n");
    put(&s, "sys/fs/cgroup/user.slice/memory.current", "3145728\n");
    put(&s, "sys/fs/cgroup/user.slice/memory.stat", "anon 5\nfile 9999\ninactive_file 1048576\nactive_file 524288\n");
    assert_int_equal(ot_memory_room_under(s.dir), 4194304 - 3145728 + 1048576 + 524288 + (100 << 10));
    put(&s, "sys/fs/cgroup/user.slice/memory.current", "9145728\n");
    assert_int_equal(ot_memory_room_under(s.dir), 100 << 10);
    /* Version 1, in a container that shows its group as the root. */
    put(&s, "proc/self/cgroup", "9:name=systemd:/\n4:memory:/docker/abc\n1:cpu:/\n");
    put(&s, "sys/fs/cgroup/memory/memory.limit_in_bytes", "2097152\n");
    put(&s, "sys/fs/cgroup/memory/memory.usage_in_bytes", "1048576\n");
    put(&s, "sys/fs/cgroup/memory/memory.stat", "inactive_file 77\ntotal_inactive_file 4096\ntotal_active_file 0\n");
    assert_int_equal(ot_memory_room_under(s.dir), 1048576 + 4096 + (100 << 10));
    put(&s, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    assert_int_equal(ot_memory_room_under(s.dir), 8292 << 10);
    scratch_close(&s);
}

static void this_machine_has_room(void **state) {
    (void)state;
    int64_t room = ot_memory_room(), total = ot_memory_total();
    assert_true(room > 0 && room < total + total / 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_least_limit_counts),
        cmocka_unit_test(this_machine_has_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
