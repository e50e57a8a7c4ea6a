#include "base/count.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const char *ot_text_count(int64_t n, char *text, size_t size) {
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRIu64, n < 0 ? 0U - (uint64_t)n : (uint64_t)n);
    size_t length = strlen(digits), used = 0;
    if (n < 0 && size > 1) text[used++] = '-';
    for (size_t i = 0; i < length && used + 2 < size; i++) {
        if (i > 0 && (length - i) % 3 == 0) text[used++] = ',';
        text[used++] = digits[i];
    }
    text[used] = '\0';
    return text;
}

const char *ot_text_of(int64_t n, const char *noun, char *text, size_t size) {
    char count[32];
    snprintf(text, size, "%s %s%s", ot_text_count(n, count, sizeof count), noun, OT_PLURAL(n));
    return text;
}

const char *ot_text_are(int64_t n, const char *noun, char *text, size_t size) {
    ot_text_of(n, noun, text, size);
    size_t used = strlen(text);
    snprintf(text + used, size - used, n == 1 ? " is" : " are");
    return text;
}

const char *ot_text_as(int64_t n, const char *one, const char *many, char *text, size_t size) {
    char count[32];
    snprintf(text, size, "%s %s", ot_text_count(n, count, sizeof count), n == 1 ? one : many);
    return text;
}
