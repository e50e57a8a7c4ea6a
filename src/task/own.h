/* Tasks of the user's own: a YAML file in the form of lm-evaluation-harness's task files, as far as they need no Python. docs/evaluation.md
 * describes the keys; the same file gives the same prompts and numbers there. */
#ifndef OT_TASK_OWN_H
#define OT_TASK_OWN_H

#include "task/task.h"

/* Reading refuses what it does not know, with file and line. Free with ot_own_task_free. */
ot_status ot_own_task_read(const char *path, const ot_task **out, ot_error *err);
/* The same from memory; paths in it are relative to the folder of `path`, which is also for messages. */
ot_status ot_own_task_parse(const char *text, int64_t size, const char *path, const ot_task **out, ot_error *err);
void ot_own_task_free(const ot_task *task);

#endif
