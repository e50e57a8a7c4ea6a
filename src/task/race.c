/* RACE: the last question about an article, after the others with their answers. Its problems are a Python literal in a text. */
#include "task/python_literal.h"
#include "task/tasks.h"

typedef struct problem {
    ot_str question, options[4];
    int64_t answer;
} problem;

static ot_status read_problem(const ot_row *row, const json_t *value, int64_t number, problem *out, ot_error *err) {
    const json_t *question = json_object_get(value, "question"), *answer = json_object_get(value, "answer");
    const json_t *options = json_object_get(value, "options");
    if (!json_is_string(question) || !json_is_string(answer) || !json_is_array(options) || json_array_size(options) < 4) {
        return ot_row_fail(row, err, "problem %lld must have the texts \"question\" and \"answer\" and four \"options\"", (long long)number);
    }
    out->question = ot_json_text(question);
    for (size_t i = 0; i < 4; i++) {
        const json_t *option = json_array_get(options, i);
        if (!json_is_string(option)) return ot_row_fail(row, err, "option %zu of problem %lld must be a text", i, (long long)number);
        out->options[i] = ot_json_text(option);
    }
    const char *letter = json_string_value(answer);
    if (json_string_length(answer) != 1 || letter[0] < 'A' || letter[0] > 'D') {
        return ot_row_fail(row, err, "the answer of problem %lld must be one of A, B, C, D", (long long)number);
    }
    out->answer = letter[0] - 'A';
    return OT_OK;
}

/* A question with a blank at its end is answered in its place; the harness cuts one character less than the blank has. */
static int64_t answered(const problem *p, ot_str *parts) {
    ot_str right = p->options[p->answer];
    if (ot_str_ends(p->question, ot_str_of("  _  ."))) {
        parts[0] = (ot_str){p->question.text, p->question.size - 5};
        parts[1] = right;
        parts[2] = ot_str_of("\n");
        return 3;
    }
    parts[0] = ot_str_of("Question: ");
    parts[1] = p->question;
    parts[2] = ot_str_of("\nAnswer: ");
    parts[3] = right;
    parts[4] = ot_str_of("\n");
    return 5;
}

/* The texts live in the arena: the literal's tree does not outlive this function. */
static ot_status render_list(const ot_row *row, const json_t *problems, ot_str article, ot_arena *arena, ot_task_doc *doc, ot_error *err) {
    int64_t n = (int64_t)json_array_size(problems), used = 0;
    if (n == 0) return ot_row_fail(row, err, "\"problems\" must be a list of one problem or more");
    ot_str *parts = ot_arena_alloc(arena, (5 * n + 4) * (int64_t)sizeof *parts, err);
    if (parts == NULL) return OT_ERR_MEMORY;
    problem p = {0};
    parts[used++] = ot_str_of("Article: ");
    parts[used++] = article;
    parts[used++] = ot_str_of("\n\n");
    for (int64_t i = 0; i < n; i++) {
        OT_TRY(read_problem(row, json_array_get(problems, (size_t)i), i, &p, err));
        if (i + 1 < n) used += answered(&p, parts + used);
    }
    parts[used++] = p.question;
    OT_TRY(ot_task_choices(arena, doc, 4, err));
    for (int i = 0; i < 4; i++) OT_TRY(ot_str_join(arena, &p.options[i], 1, &doc->choices[i], err));
    doc->gold = p.answer;
    ot_str whole;
    OT_TRY(ot_str_join(arena, parts, used, &whole, err));
    return ot_task_context(arena, doc, &whole, 1, err);
}

static ot_status render(const ot_task *task, const ot_row *row, ot_arena *arena, ot_task_doc *doc, ot_error *err) {
    (void)task;
    ot_str article, text;
    json_t *problems = NULL;
    OT_TRY(ot_row_text(row, "article", &article, err));
    OT_TRY(ot_row_text(row, "problems", &text, err));
    ot_status status = ot_python_literal(text, &problems, err);
    if (status != OT_OK) return ot_error_prefix(err, "%s:%lld: \"problems\"", row->path, (long long)row->line);
    status = json_is_array(problems) ? render_list(row, problems, article, arena, doc, err)
                                     : ot_row_fail(row, err, "\"problems\" must hold a list of problems");
    json_decref(problems);
    return status;
}

const ot_task ot_task_race = {
    .name = "race",
    .help = "reading comprehension of English examinations; rows have article and problems (a Python list in a text)",
    .dataset = "EleutherAI/race",
    .config = "high",
    .version = "3.0",
    .kind = OT_TASK_CHOICE,
    .metrics = OT_METRIC_ACC,
    .split = "test",
    .examples = (const char *const[]){"test", NULL},
    .render = render,
};
