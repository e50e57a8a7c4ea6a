/* Text as Python sees it: slices of UTF-8 with a length, and the str methods that the evaluation harness's prompts are made with. White space is
 * Python's: U+0009-000D, 001C-0020, 0085, 00A0, 1680, 2000-200A, 2028, 2029, 202F, 205F, 3000. */
#ifndef OT_TASK_STR_H
#define OT_TASK_STR_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"

/* A slice; may hold NULs, and need not end with one. */
typedef struct ot_str {
    const char *text;
    int64_t size;
} ot_str;

static inline ot_str ot_str_of(const char *text) { return (ot_str){text, (int64_t)strlen(text)}; }
bool ot_str_equal(ot_str a, ot_str b);
bool ot_str_begins(ot_str s, ot_str with);
bool ot_str_ends(ot_str s, ot_str with);
/* By bytes, which is by code points in UTF-8. */
int ot_str_compare(ot_str a, ot_str b);

bool ot_py_is_space(uint32_t code);
ot_str ot_py_lstrip(ot_str s);
ot_str ot_py_rstrip(ot_str s);
ot_str ot_py_strip(ot_str s);
/* len(s): code points. */
int64_t ot_py_length(ot_str s);
/* Bytes before the first white space. */
int64_t ot_py_word(ot_str s);
/* len(re.split(r"\s+", s)). */
int64_t ot_py_words(ot_str s);

/* The parts one after another in the arena; the result is NUL-terminated too. */
ot_status ot_str_join(ot_arena *arena, const ot_str *parts, int64_t n, ot_str *out, ot_error *err);
/* s.replace(from, to): left to right, not overlapping. */
ot_status ot_py_replace(ot_arena *arena, ot_str s, const char *from, const char *to, ot_str *out, ot_error *err);
/* str(value) of a float: the shortest digits that read back the same. */
enum { OT_PY_FLOAT = 40 };
void ot_py_float(double value, char text[OT_PY_FLOAT]);
/* s.lower(), by the full mappings. */
ot_status ot_py_lower(ot_arena *arena, ot_str s, ot_str *out, ot_error *err);
/* s.capitalize(): the first character to title case, the others to lower case, by the full mappings. */
ot_status ot_py_capitalize(ot_arena *arena, ot_str s, ot_str *out, ot_error *err);

#endif
