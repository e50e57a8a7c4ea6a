/* ARC, and OpenBookQA, whose rows have the same shape. */
#include <inttypes.h>

#include "base/count.h"
#include "task/tasks.h"

static const char *const examples[] = {"train", "validation", "test", NULL};

static ot_status labelled(const ot_row *row, ot_arena *arena, ot_str key, ot_task_doc *doc, ot_error *err) {
    ot_str *labels = NULL;
    int64_t n_labels = 0;
    OT_TRY(ot_row_texts(row, "choices", "text", arena, &doc->choices, &doc->n_choices, err));
    OT_TRY(ot_row_texts(row, "choices", "label", arena, &labels, &n_labels, err));
    if (doc->n_choices < n_labels) {
        return ot_row_fail(row, err, "\"choices.text\" has %" PRId64 " text%s for the %" PRId64 " of \"choices.label\"", doc->n_choices, OT_PLURAL(doc->n_choices), n_labels);
    }
    for (int64_t i = 0; i < n_labels; i++) {
        if (!ot_str_equal(labels[i], key)) continue;
        doc->gold = i;
        return OT_OK;
    }
    return ot_row_fail(row, err, "\"answerKey\" is none of \"choices.label\"");
}

static ot_status arc(const ot_task *task, const ot_row *row, ot_arena *arena, ot_task_doc *doc, ot_error *err) {
    (void)task;
    ot_str question, key;
    OT_TRY(ot_row_text(row, "question", &question, err));
    OT_TRY(ot_row_text(row, "answerKey", &key, err));
    OT_TRY(labelled(row, arena, key, doc, err));
    return ot_task_context(arena, doc, (ot_str[]){ot_str_of("Question: "), question, ot_str_of("\nAnswer:")}, 3, err);
}

static ot_status openbookqa(const ot_task *task, const ot_row *row, ot_arena *arena, ot_task_doc *doc, ot_error *err) {
    (void)task;
    ot_str stem, key;
    OT_TRY(ot_row_text(row, "question_stem", &stem, err));
    OT_TRY(ot_row_text(row, "answerKey", &key, err));
    OT_TRY(labelled(row, arena, ot_py_lstrip(key), doc, err));
    return ot_task_context(arena, doc, &stem, 1, err);
}

const ot_task ot_task_arc_easy = {
    .name = "arc_easy",
    .help = "grade-school science questions, the easy ones; rows have question, choices.text, choices.label, answerKey",
    .dataset = "allenai/ai2_arc",
    .config = "ARC-Easy",
    .version = "1.0",
    .kind = OT_TASK_CHOICE,
    .metrics = OT_METRIC_ACC | OT_METRIC_ACC_NORM,
    .split = "test",
    .examples = examples,
    .render = arc,
};

const ot_task ot_task_arc_challenge = {
    .name = "arc_challenge",
    .help = "grade-school science questions, the hard ones; rows as those of arc_easy",
    .dataset = "allenai/ai2_arc",
    .config = "ARC-Challenge",
    .version = "1.0",
    .kind = OT_TASK_CHOICE,
    .metrics = OT_METRIC_ACC | OT_METRIC_ACC_NORM,
    .split = "test",
    .examples = examples,
    .render = arc,
};

const ot_task ot_task_openbookqa = {
    .name = "openbookqa",
    .help = "sentences about elementary science to be ended; rows have question_stem, choices.text, choices.label, answerKey",
    .dataset = "allenai/openbookqa",
    .config = "main",
    .version = "1.0",
    .kind = OT_TASK_CHOICE,
    .metrics = OT_METRIC_ACC | OT_METRIC_ACC_NORM,
    .split = "test",
    .examples = examples,
    .render = openbookqa,
};
