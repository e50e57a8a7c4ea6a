/* The part of Jinja that task files need: text with {{ expressions }} over the fields of a row. Expressions: fields (question), members
 * (choices.text, doc["a b"]), entries (endings[0], choices[label]), parts of lists (words[:-1]), texts, whole numbers, lists ([sol1, sol2]), + and - of
 * numbers, + of texts, the methods split, strip, lstrip, rstrip, lower, capitalize, replace, index, and the filters trim, lower, capitalize, replace, join, length, first,
 * last, int, string, and A if B else C with == and !=. Statements ({% %}) and calls of anything else are refused when the template is read. */
#ifndef OT_TASK_TEMPLATE_H
#define OT_TASK_TEMPLATE_H

#include "task/rows.h"

typedef struct ot_template ot_template;

/* text must outlive the template; nodes are the arena's. Messages begin with what is wrong and where in the template; the caller says which it is. */
ot_status ot_template_parse(const char *text, ot_arena *arena, ot_template **out, ot_error *err);

/* The template is one expression and nothing else. */
bool ot_template_is_value(const ot_template *t);
/* What it was read from. */
const char *ot_template_text(const ot_template *t);

/* All of it as text, in the arena. */
ot_status ot_template_render(const ot_template *t, const ot_row *row, ot_arena *arena, ot_str *out, ot_error *err);
/* The value of the only expression; json_decref. */
ot_status ot_template_value(const ot_template *t, const ot_row *row, json_t **out, ot_error *err);

/* What Python's str() makes of a value: True, None, 1.5, ['a', 'b']. */
ot_status ot_py_text_of(const json_t *value, ot_arena *arena, ot_str *out, ot_error *err);

#endif
