#include "task/tasks.h"

const ot_task *const ot_tasks[] = {
    &ot_task_openbookqa, &ot_task_piqa, &ot_task_arc_easy, &ot_task_arc_challenge, &ot_task_hellaswag, &ot_task_sciq,
    &ot_task_webqs,      &ot_task_race, &ot_task_wikitext, &ot_task_blocks,        NULL,
};
