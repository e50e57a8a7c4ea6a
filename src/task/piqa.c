/* PIQA: which of two ways reaches a goal. */
#include "task/tasks.h"

static ot_status render(const ot_task *task, const ot_row *row, ot_arena *arena, ot_task_doc *doc, ot_error *err) {
    (void)task;
    ot_str goal;
    OT_TRY(ot_row_text(row, "goal", &goal, err));
    OT_TRY(ot_task_choices(arena, doc, 2, err));
    OT_TRY(ot_row_text(row, "sol1", &doc->choices[0], err));
    OT_TRY(ot_row_text(row, "sol2", &doc->choices[1], err));
    OT_TRY(ot_row_index(row, "label", 2, &doc->gold, err));
    return ot_task_context(arena, doc, (ot_str[]){ot_str_of("Question: "), goal, ot_str_of("\nAnswer:")}, 3, err);
}

const ot_task ot_task_piqa = {
    .name = "piqa",
    .help = "physical common sense, two solutions to a goal; rows have goal, sol1, sol2, label",
    .dataset = "baber/piqa",
    .version = "1.0",
    .kind = OT_TASK_CHOICE,
    .metrics = OT_METRIC_ACC | OT_METRIC_ACC_NORM,
    .split = "validation",
    .examples = (const char *const[]){"train", "validation", NULL},
    .no_test_split = true,
    .render = render,
};
