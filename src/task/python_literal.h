/* What Python's ast.literal_eval reads, as JSON: texts, numbers, True, False, None, lists, tuples (as lists) and dictionaries with texts as
 * keys. Nothing is evaluated. */
#ifndef OT_TASK_PYTHON_LITERAL_H
#define OT_TASK_PYTHON_LITERAL_H

#include <jansson.h>

#include "task/str.h"

/* The caller owns *out. Depth and size are limited; errors give the byte position. */
ot_status ot_python_literal(ot_str text, json_t **out, ot_error *err);

#endif
