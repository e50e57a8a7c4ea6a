/* HellaSwag: which ending a scene has. The texts are cleaned of the markers of their sources first. */
#include "task/tasks.h"

/* re.sub(r"\[.*?\]", "", s): from each opening bracket to the next closing one on the same line. */
static ot_status without_brackets(ot_arena *arena, ot_str s, ot_str *out, ot_error *err) {
    char *text = ot_arena_alloc(arena, s.size + 1, err);
    if (text == NULL) return OT_ERR_MEMORY;
    int64_t size = 0;
    for (int64_t at = 0; at < s.size;) {
        if (s.text[at] == '[') {
            int64_t end = at + 1;
            while (end < s.size && s.text[end] != ']' && s.text[end] != '\n') end++;
            if (end < s.size && s.text[end] == ']') {
                at = end + 1;
                continue;
            }
        }
        text[size++] = s.text[at++];
    }
    *out = (ot_str){text, size};
    return OT_OK;
}

static ot_status clean(ot_arena *arena, ot_str s, ot_str *out, ot_error *err) {
    OT_TRY(ot_py_replace(arena, ot_py_strip(s), " [title]", ". ", &s, err));
    OT_TRY(without_brackets(arena, s, &s, err));
    return ot_py_replace(arena, s, "  ", " ", out, err);
}

static ot_status render(const ot_task *task, const ot_row *row, ot_arena *arena, ot_task_doc *doc, ot_error *err) {
    (void)task;
    ot_str label, a, b, scene;
    OT_TRY(ot_row_text(row, "activity_label", &label, err));
    OT_TRY(ot_row_text(row, "ctx_a", &a, err));
    OT_TRY(ot_row_text(row, "ctx_b", &b, err));
    OT_TRY(ot_row_texts(row, NULL, "endings", arena, &doc->choices, &doc->n_choices, err));
    OT_TRY(ot_row_index(row, "label", doc->n_choices, &doc->gold, err));
    OT_TRY(ot_py_capitalize(arena, b, &b, err));
    OT_TRY(ot_str_join(arena, (ot_str[]){label, ot_str_of(": "), a, ot_str_of(" "), b}, 5, &scene, err));
    OT_TRY(clean(arena, scene, &scene, err));
    for (int64_t i = 0; i < doc->n_choices; i++) OT_TRY(clean(arena, doc->choices[i], &doc->choices[i], err));
    return ot_task_context(arena, doc, &scene, 1, err);
}

static void prepared(const ot_task_doc *doc, json_t *row) {
    json_object_set_new(row, "query", json_stringn(doc->question.text, (size_t)doc->question.size));
    json_object_set_new(row, "choices", ot_task_choices_json(doc));
    json_object_set_new(row, "gold", json_integer(doc->gold));
}

const ot_task ot_task_hellaswag = {
    .name = "hellaswag",
    .help = "how a scene goes on; rows have activity_label, ctx_a, ctx_b, endings, label",
    .dataset = "Rowan/hellaswag",
    .version = "1.0",
    .kind = OT_TASK_CHOICE,
    .metrics = OT_METRIC_ACC | OT_METRIC_ACC_NORM,
    .split = "validation",
    .examples = (const char *const[]){"train", "validation", NULL},
    .no_test_split = true,
    .render = render,
    .prepared = prepared,
};
