/* UTF-8 decoding with Unicode's rule for broken sequences, and character classes from utf8proc. */
#include "format/unicode.h"

#include <utf8proc.h>

#include "format/tokenizer_unicode.h"

int ot_utf8_next(const char *text, int64_t size, uint32_t *code) {
    const uint8_t *s = (const uint8_t *)text;
    uint8_t c = s[0];
    if (c < 0x80) {
        *code = c;
        return 1;
    }
    int length = c >= 0xC2 && c <= 0xDF ? 2 : (c & 0xF0) == 0xE0 ? 3 : c >= 0xF0 && c <= 0xF4 ? 4 : 0;
    if (length == 0) return -1;
    /* The second byte's range excludes overlong forms, surrogates and everything above U+10FFFF. */
    uint8_t low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
    uint8_t high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
    if (size < 2 || s[1] < low || s[1] > high) return -1;
    uint32_t value = ((uint32_t)c & (0x7FU >> length)) << 6 | (s[1] & 0x3FU);
    for (int i = 2; i < length; i++) {
        if (i >= size || (s[i] & 0xC0) != 0x80) return -i;
        value = value << 6 | (s[i] & 0x3FU);
    }
    *code = value;
    return length;
}

int ot_utf8_length(char first) {
    uint8_t c = (uint8_t)first;
    return c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
}

int ot_utf8_put(uint32_t code, char out[4]) {
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xC0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xE0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3F));
        out[2] = (char)(0x80 | (code & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3F));
    out[2] = (char)(0x80 | (code >> 6 & 0x3F));
    out[3] = (char)(0x80 | (code & 0x3F));
    return 4;
}

bool ot_utf8_valid(const char *text, int64_t size) {
    int64_t at = 0;
    while (at < size) {
        uint32_t code;
        int n = ot_utf8_next(text + at, size - at, &code);
        if (n < 0) return false;
        at += n;
    }
    return true;
}

bool ot_unicode_space(uint32_t c) {
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
           c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool ot_unicode_number(uint32_t c) {
    if (c < 0x80) return c >= '0' && c <= '9';
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    if (k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO) return true;
    for (size_t i = 0; k == UTF8PROC_CATEGORY_CN && i < sizeof OT_TOK_NEW_RANGES / sizeof OT_TOK_NEW_RANGES[0]; i++) {
        const ot_tok_new_range *range = &OT_TOK_NEW_RANGES[i];
        if (c >= range->first && c <= range->last) return range->category[0] == 'N';
    }
    return false;
}

bool ot_unicode_mark(uint32_t c) {
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_MC || k == UTF8PROC_CATEGORY_ME;
}

bool ot_unicode_punct(uint32_t c) {
    if (c < 0x80) return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO: return true;
    default: return false;
    }
}
