/* WebQuestions: a hit is when greedy decoding writes one of the answers. */
#include <stdlib.h>

#include "task/tasks.h"

static int by_bytes(const void *a, const void *b) { return ot_str_compare(*(const ot_str *)a, *(const ot_str *)b); }

/* Sorted, and without those that begin with one that is kept: greedy decoding that writes them writes that one too. */
static void prune(ot_task_doc *doc) {
    qsort(doc->choices, (size_t)doc->n_choices, sizeof *doc->choices, by_bytes);
    int64_t kept = 1;
    for (int64_t i = 1; i < doc->n_choices; i++) {
        if (!ot_str_begins(doc->choices[i], doc->choices[kept - 1])) doc->choices[kept++] = doc->choices[i];
    }
    doc->n_choices = kept;
}

static ot_status render(const ot_task *task, const ot_row *row, ot_arena *arena, ot_task_doc *doc, ot_error *err) {
    (void)task;
    ot_str question;
    OT_TRY(ot_row_text(row, "question", &question, err));
    OT_TRY(ot_row_texts(row, NULL, "answers", arena, &doc->choices, &doc->n_choices, err));
    prune(doc);
    doc->gold = OT_GOLD_ALL;
    return ot_task_context(arena, doc, (ot_str[]){ot_str_of("Question: "), question, ot_str_of("\nAnswer:")}, 3, err);
}

const ot_task ot_task_webqs = {
    .name = "webqs",
    .help = "questions people asked a search engine; rows have question, answers",
    .dataset = "stanfordnlp/web_questions",
    .version = "2.0",
    .kind = OT_TASK_CHOICE,
    .metrics = OT_METRIC_EXACT_MATCH,
    .split = "test",
    .render = render,
};
