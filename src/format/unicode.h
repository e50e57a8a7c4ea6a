/* UTF-8 and the few character classes that tokenizers ask for. */
#ifndef OT_FORMAT_UNICODE_H
#define OT_FORMAT_UNICODE_H

#include <stdbool.h>
#include <stdint.h>

/* One character at text[0..size), size > 0. Returns its length in bytes and sets *code; or minus the length of the longest
 * prefix that could have begun a character (at least 1) when the bytes are not UTF-8: one U+FFFD each, as Unicode advises. */
int ot_utf8_next(const char *text, int64_t size, uint32_t *code);
/* Length in bytes of the character that starts with this byte, for text known to be valid. */
int ot_utf8_length(char first);
/* Write code (a scalar value) to out[4]; returns the length. */
int ot_utf8_put(uint32_t code, char out[4]);
bool ot_utf8_valid(const char *text, int64_t size);

bool ot_unicode_space(uint32_t code);  /* property White_Space */
bool ot_unicode_number(uint32_t code); /* Nd, Nl, No */
bool ot_unicode_mark(uint32_t code);   /* Mn, Mc, Me */
bool ot_unicode_punct(uint32_t code);  /* P*, or ASCII punctuation */

#endif
