/* How much memory a process may use: by what the machine has left and by the limits of the control groups that it runs in. */
#ifndef OT_BASE_ROOM_H
#define OT_BASE_ROOM_H

#include <stdint.h>

/* Bytes this process may hold in all: its own anonymous memory now, and what it may still take. 0: unknown. File pages (mapped weights) count as
 * free where they lie in the page cache, for they are given back. */
int64_t ot_memory_room(void);
/* The same with another folder in place of /, for tests. */
int64_t ot_memory_room_under(const char *root);

#endif
