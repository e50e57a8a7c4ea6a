/* The tasks by name: for task_list.c. */
#ifndef OT_TASK_TASKS_H
#define OT_TASK_TASKS_H

#include "task/task.h"

extern const ot_task ot_task_openbookqa, ot_task_piqa, ot_task_arc_easy, ot_task_arc_challenge, ot_task_hellaswag, ot_task_sciq, ot_task_webqs,
    ot_task_race, ot_task_wikitext, ot_task_blocks;

#endif
