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

/* Sorting is all that is left of it in the row. */
static void prepared(const ot_task_doc *doc, json_t *row) {
    json_t *sorted = json_array();
    (void)doc;
    size_t i = 0, at = 0;
    json_t *answer = NULL;
    json_array_foreach(json_object_get(row, "answers"), i, answer) {
        for (at = json_array_size(sorted); at > 0; at--) {
            if (ot_str_compare(ot_json_text(json_array_get(sorted, at - 1)), ot_json_text(answer)) <= 0) break;
        }
        json_array_insert(sorted, at, answer);
    }
    json_object_set_new(row, "answers", sorted);
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
    .prepared = prepared,
};
