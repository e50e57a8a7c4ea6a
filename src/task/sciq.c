/* SciQ: science questions with a passage that supports the answer. */
#include "task/tasks.h"

static ot_status render(const ot_task *task, const ot_row *row, ot_arena *arena, ot_task_doc *doc, ot_error *err) {
    (void)task;
    static const char *const fields[] = {"distractor1", "distractor2", "distractor3", "correct_answer"};
    ot_str support, question;
    OT_TRY(ot_row_text(row, "support", &support, err));
    OT_TRY(ot_row_text(row, "question", &question, err));
    OT_TRY(ot_task_choices(arena, doc, 4, err));
    for (int i = 0; i < 4; i++) OT_TRY(ot_row_text(row, fields[i], &doc->choices[i], err));
    doc->gold = 3;
    ot_str parts[] = {ot_py_lstrip(support), ot_str_of("\nQuestion: "), question, ot_str_of("\nAnswer:")};
    return ot_task_context(arena, doc, parts, 4, err);
}

const ot_task ot_task_sciq = {
    .name = "sciq",
    .help = "science questions with a supporting passage; rows have support, question, distractor1, distractor2, distractor3, correct_answer",
    .dataset = "allenai/sciq",
    .version = "1.0",
    .kind = OT_TASK_CHOICE,
    .metrics = OT_METRIC_ACC | OT_METRIC_ACC_NORM,
    .split = "test",
    .examples = (const char *const[]){"train", "validation", "test", NULL},
    .render = render,
};
