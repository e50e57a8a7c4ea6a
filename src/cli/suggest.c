/* Edit distance with swaps (optimal string alignment) over three rows, and the choice of the nearest name. */
#include "cli/suggest.h"

#include <string.h>

enum { MAX_WORD = 63 };

int64_t ot_edit_distance(const char *a, const char *b) {
    size_t na = strlen(a), nb = strlen(b);
    if (na > MAX_WORD || nb > MAX_WORD) return INT64_MAX;
    int32_t rows[3][MAX_WORD + 1];
    for (size_t j = 0; j <= nb; j++) rows[0][j] = (int32_t)j;
    for (size_t i = 1; i <= na; i++) {
        int32_t *now = rows[i % 3], *before = rows[(i + 2) % 3], *two_before = rows[(i + 1) % 3];
        now[0] = (int32_t)i;
        for (size_t j = 1; j <= nb; j++) {
            int32_t best = before[j - 1] + (a[i - 1] != b[j - 1]);
            if (before[j] + 1 < best) best = before[j] + 1;
            if (now[j - 1] + 1 < best) best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && two_before[j - 2] + 1 < best) {
                best = two_before[j - 2] + 1;
            }
            now[j] = best;
        }
    }
    return rows[na % 3][nb];
}

void ot_suggest_offer(ot_suggest *s, const char *candidate) {
    size_t length = strlen(candidate), typed = strlen(s->word);
    int64_t allowed = (int64_t)length / 3 > 1 ? (int64_t)length / 3 : 1;
    int64_t distance = ot_edit_distance(s->word, candidate);
    /* A name cut short is a better guess than any misspelling of another one. */
    if (typed >= 2 && typed < length && strncmp(s->word, candidate, typed) == 0) distance = 1;
    if (distance > allowed || distance >= (int64_t)length) return;
    if (s->best != NULL && distance >= s->distance) return;
    s->best = candidate;
    s->distance = distance;
}
