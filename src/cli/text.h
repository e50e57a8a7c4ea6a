/* Text for people: UTF-8 stepping, widths, wrapped paragraphs, safe echoing of foreign bytes, readable numbers. */
#ifndef OT_CLI_TEXT_H
#define OT_CLI_TEXT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/count.h"

/* The code point at *p, which moves behind it; U+FFFD for a byte that begins none. *p must not be at the end. */
int32_t ot_text_next(const char **p);
void ot_text_put(FILE *f, int32_t code_point);
/* Columns on a terminal. */
int64_t ot_text_width(const char *text);

/* Text that came from files or the command line, on one line: control characters appear as \xHH, so that they neither break
 * the line nor reach the terminal as commands. */
void ot_put_safe(FILE *f, const char *text);

/* Columns of the terminal behind f, at most 100; 80 when it is none. */
int ot_terminal_width(FILE *f);
/* May bold be used on f? A terminal, with TERM and without NO_COLOR. */
bool ot_terminal_styled(FILE *f);

/* Print text reflowed to `width` columns; every line after the first begins at column `indent`, the first one continues at
 * column `at`. An empty line in text parts paragraphs; a line that begins with a blank is kept as it is. */
void ot_put_wrapped(FILE *f, const char *text, int at, int indent, int width);

/* "1.21 GiB", "1 h 02 min" into text, which they return. 32 bytes are always enough. Counts: base/count.h. */
const char *ot_text_bytes(int64_t bytes, char *text, size_t size);
const char *ot_text_seconds(double seconds, char *text, size_t size);

#endif
