/* How many of something, for people: thousands are parted by commas wherever a count is told, in text, tables and pages. What numbers a thing (a line, a step,
 * a byte, an option's value) and what machines read (JSON, CSV, error messages) has plain digits. */
#ifndef OT_BASE_COUNT_H
#define OT_BASE_COUNT_H

#include <stddef.h>
#include <stdint.h>

/* "1,475,558,400" into text, which it returns. 32 bytes are always enough. */
const char *ot_text_count(int64_t n, char *text, size_t size);
/* "1 command", "2,000 commands": of a noun whose plural ends in s; with "is" or "are" behind. 64 bytes are enough for short nouns. */
const char *ot_text_of(int64_t n, const char *noun, char *text, size_t size);
const char *ot_text_are(int64_t n, const char *noun, char *text, size_t size);

/* "1 matrix is", "2 matrices are": where the plural is another or the words behind follow it. 96 bytes are enough. */
const char *ot_text_as(int64_t n, const char *one, const char *many, char *text, size_t size);

/* The same for the arguments of a call: the text lives as long as the block around it. */
#define OT_COUNT(n) ot_text_count((n), (char[32]){0}, 32)
#define OT_COUNT_OF(n, noun) ot_text_of((n), (noun), (char[64]){0}, 64)
#define OT_COUNT_ARE(n, noun) ot_text_are((n), (noun), (char[64]){0}, 64)
#define OT_COUNT_AS(n, one, many) ot_text_as((n), (one), (many), (char[96]){0}, 96)
/* Behind a plain number, in an error message: "%lld token%s". */
#define OT_PLURAL(n) ((n) == 1 ? "" : "s")

#endif
