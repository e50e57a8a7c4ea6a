/* "Did you mean": the nearest of some names by edit distance. */
#ifndef OT_CLI_SUGGEST_H
#define OT_CLI_SUGGEST_H

#include <stdint.h>

/* Keeps the best candidate of several calls. Zero-initialise with the misspelt word. */
typedef struct ot_suggest {
    const char *word;
    const char *best;
    int64_t distance;
} ot_suggest;

/* Offer one candidate: kept when it is near enough to be a slip of the pen (a third of its length, at least one edit, and
 * also when the word is a true beginning of it) and nearer than those before. */
void ot_suggest_offer(ot_suggest *s, const char *candidate);
/* Edits (insert, delete, replace, swap of neighbours) between two words; words beyond 63 bytes count as far apart. */
int64_t ot_edit_distance(const char *a, const char *b);

#endif
