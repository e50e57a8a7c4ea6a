/* /proc/meminfo, and of control groups version 2 (memory.max) or 1 (memory.limit_in_bytes): of the process's own group and of every group above it. */
#include "base/room.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_TEXT = 4400, LINE_TEXT = 4200 };

/* The number behind `label` at the beginning of a line, times unit; -1: not there. */
static int64_t labelled(const char *path, const char *label, int64_t unit) {
    FILE *f = fopen(path, "re");
    char line[256];
    int64_t value = -1;
    size_t n = strlen(label);
    if (f == NULL) return -1;
    while (value < 0 && fgets(line, sizeof line, f) != NULL) {
        if (strncmp(line, label, n) == 0) value = strtoll(line + n, NULL, 10) * unit;
    }
    fclose(f);
    return value;
}

/* A file with nothing but a number; -1: not there, or "max". */
static int64_t number_in(const char *folder, const char *name) {
    char path[PATH_TEXT + 64], text[32] = "";
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "re");
    if (f == NULL) return -1;
    bool read = fgets(text, sizeof text, f) != NULL;
    fclose(f);
    return read && text[0] >= '0' && text[0] <= '9' ? strtoll(text, NULL, 10) : -1;
}

typedef struct cgroup_files {
    const char *mount, *limit, *usage, *inactive, *active;
} cgroup_files;
static const cgroup_files version_1 = {"sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ", "total_active_file "};
static const cgroup_files version_2 = {"sys/fs/cgroup", "memory.max", "memory.current", "inactive_file ", "active_file "};

/* What one group still grants; -1: no limit, or no such group. */
static int64_t left_in(const char *folder, const cgroup_files *c) {
    int64_t limit = number_in(folder, c->limit), usage = number_in(folder, c->usage);
    char stat[PATH_TEXT + 64];
    if (limit < 0 || limit >= INT64_MAX / 2 || usage < 0) return -1;
    snprintf(stat, sizeof stat, "%s/memory.stat", folder);
    int64_t inactive = labelled(stat, c->inactive, 1), active = labelled(stat, c->active, 1);
    usage -= (inactive > 0 ? inactive : 0) + (active > 0 ? active : 0);
    return limit > usage ? limit - usage : 0;
}

static int64_t smaller(int64_t a, int64_t b) { return a < 0 ? b : b < 0 ? a : a < b ? a : b; }

/* The least that the groups from `group` up to the mount's own grant. Inside a container the upper part of the path may not be there. */
static int64_t left_in_all(const char *root, const char *group, const cgroup_files *c) {
    char folder[PATH_TEXT];
    int n = snprintf(folder, sizeof folder, "%s/%s", root, c->mount);
    size_t mount = n > 0 && (size_t)n < sizeof folder ? (size_t)n : 0;
    if (mount == 0 || mount + strlen(group) >= sizeof folder) return -1;
    memcpy(folder + mount, group, strlen(group) + 1);
    int64_t left = -1;
    for (;;) {
        left = smaller(left, left_in(folder, c));
        char *slash = strrchr(folder + mount, '/');
        if (slash == NULL) return left;
        *slash = '\0';
    }
}

/* Lines "0::/group" (version 2) and "4:memory:/group" (version 1). */
static int64_t left_by_groups(const char *root) {
    char path[PATH_TEXT], line[LINE_TEXT];
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *f = fopen(path, "re");
    int64_t left = -1;
    if (f == NULL) return -1;
    while (fgets(line, sizeof line, f) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':'), *group = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
        if (group == NULL) continue;
        *group++ = '\0';
        controllers++;
        if (strcmp(group, "/") == 0) group = "";
        if (*controllers == '\0') left = smaller(left, left_in_all(root, group, &version_2));
        if (strcmp(controllers, "memory") == 0) left = smaller(left, left_in_all(root, group, &version_1));
    }
    fclose(f);
    return left;
}

int64_t ot_memory_room_under(const char *root) {
    char path[PATH_TEXT];
    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    int64_t left = smaller(labelled(path, "MemAvailable:", 1024), left_by_groups(root));
    if (left < 0) return 0;
    snprintf(path, sizeof path, "%s/proc/self/status", root);
    int64_t own = labelled(path, "RssAnon:", 1024);
    return left + (own > 0 ? own : 0);
}

int64_t ot_memory_room(void) { return ot_memory_room_under(""); }
