#include "task/str.h"

#include <stdio.h>
#include <stdlib.h>
#include <utf8proc.h>

#include "format/unicode.h"

bool ot_str_equal(ot_str a, ot_str b) { return a.size == b.size && (a.size == 0 || memcmp(a.text, b.text, (size_t)a.size) == 0); }

bool ot_str_begins(ot_str s, ot_str with) { return s.size >= with.size && ot_str_equal((ot_str){s.text, with.size}, with); }

bool ot_str_ends(ot_str s, ot_str with) { return s.size >= with.size && ot_str_equal((ot_str){s.text + s.size - with.size, with.size}, with); }

int ot_str_compare(ot_str a, ot_str b) {
    int64_t n = a.size < b.size ? a.size : b.size;
    int order = n > 0 ? memcmp(a.text, b.text, (size_t)n) : 0;
    return order != 0 ? order : a.size < b.size ? -1 : a.size > b.size;
}

bool ot_py_is_space(uint32_t c) {
    return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
           c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

/* Bytes of the white space character at s[at], 0 when there is none. */
static int64_t space_at(ot_str s, int64_t at) {
    uint32_t code = 0;
    int n = at < s.size ? ot_utf8_next(s.text + at, s.size - at, &code) : 0;
    return n > 0 && ot_py_is_space(code) ? n : 0;
}

int64_t ot_py_word(ot_str s) {
    int64_t at = 0;
    while (at < s.size && space_at(s, at) == 0) at++;
    return at;
}

ot_str ot_py_lstrip(ot_str s) {
    for (int64_t n = space_at(s, 0); n > 0; n = space_at(s, 0)) s = (ot_str){s.text + n, s.size - n};
    return s;
}

ot_str ot_py_rstrip(ot_str s) {
    while (s.size > 0) {
        int64_t at = s.size - 1;
        while (at > 0 && s.size - at < 4 && ((unsigned char)s.text[at] & 0xC0) == 0x80) at--;
        if (space_at(s, at) != s.size - at) break;
        s.size = at;
    }
    return s;
}

ot_str ot_py_strip(ot_str s) { return ot_py_lstrip(ot_py_rstrip(s)); }

int64_t ot_py_length(ot_str s) {
    int64_t n = 0;
    for (int64_t i = 0; i < s.size; i++) n += ((unsigned char)s.text[i] & 0xC0) != 0x80;
    return n;
}

int64_t ot_py_words(ot_str s) {
    int64_t words = 1;
    bool inside = false;
    for (int64_t at = 0; at < s.size;) {
        int64_t n = space_at(s, at);
        if (n > 0 && !inside) words++;
        inside = n > 0;
        at += n > 0 ? n : 1;
    }
    return words;
}

ot_status ot_str_join(ot_arena *arena, const ot_str *parts, int64_t n, ot_str *out, ot_error *err) {
    int64_t size = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!ot_add_i64(size, parts[i].size, &size)) return ot_fail(err, OT_ERR_FORMAT, "a text is impossibly long");
    }
    char *text = ot_arena_alloc(arena, size + 1, err), *to = text;
    if (text == NULL) return OT_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++) {
        if (parts[i].size > 0) memcpy(to, parts[i].text, (size_t)parts[i].size);
        to += parts[i].size;
    }
    *out = (ot_str){text, size};
    return OT_OK;
}

ot_status ot_py_replace(ot_arena *arena, ot_str s, const char *from, const char *to, ot_str *out, ot_error *err) {
    int64_t n = (int64_t)strlen(from), m = (int64_t)strlen(to), found = 0;
    for (const char *p = s.text, *end = s.text + s.size; n > 0 && (p = memmem(p, (size_t)(end - p), from, (size_t)n)) != NULL; p += n) found++;
    if (found == 0) {
        *out = s;
        return OT_OK;
    }
    char *text = ot_arena_alloc(arena, s.size + found * (m - n) + 1, err), *put = text;
    if (text == NULL) return OT_ERR_MEMORY;
    const char *at = s.text, *end = s.text + s.size;
    for (const char *p; (p = memmem(at, (size_t)(end - at), from, (size_t)n)) != NULL; at = p + n) {
        memcpy(put, at, (size_t)(p - at));
        put += p - at;
        memcpy(put, to, (size_t)m);
        put += m;
    }
    memcpy(put, at, (size_t)(end - at));
    *out = (ot_str){text, put + (end - at) - text};
    return OT_OK;
}

/* ==== capitalize ==== */

/* Characters whose title case is several characters (Unicode's SpecialCasing). */
static const struct {
    uint32_t code;
    const char *title;
} special_titles[] = {
    {0x00DF, "Ss"}, {0x0149, "\xCA\xBCN"}, {0x01F0, "J\xCC\x8C"}, {0x0390, "\xCE\x99\xCC\x88\xCC\x81"},
    {0x03B0, "\xCE\xA5\xCC\x88\xCC\x81"}, {0x0587, "\xD4\xB5\xD6\x82"}, {0x1E96, "H\xCC\xB1"}, {0x1E97, "T\xCC\x88"},
    {0x1E98, "W\xCC\x8A"}, {0x1E99, "Y\xCC\x8A"}, {0x1E9A, "A\xCA\xBE"}, {0x1F50, "\xCE\xA5\xCC\x93"},
    {0x1F52, "\xCE\xA5\xCC\x93\xCC\x80"}, {0x1F54, "\xCE\xA5\xCC\x93\xCC\x81"}, {0x1F56, "\xCE\xA5\xCC\x93\xCD\x82"},
    {0x1FB2, "\xE1\xBE\xBA\xCD\x85"}, {0x1FB4, "\xCE\x86\xCD\x85"}, {0x1FB6, "\xCE\x91\xCD\x82"},
    {0x1FB7, "\xCE\x91\xCD\x82\xCD\x85"}, {0x1FC2, "\xE1\xBF\x8A\xCD\x85"}, {0x1FC4, "\xCE\x89\xCD\x85"},
    {0x1FC6, "\xCE\x97\xCD\x82"}, {0x1FC7, "\xCE\x97\xCD\x82\xCD\x85"}, {0x1FD2, "\xCE\x99\xCC\x88\xCC\x80"},
    {0x1FD3, "\xCE\x99\xCC\x88\xCC\x81"}, {0x1FD6, "\xCE\x99\xCD\x82"}, {0x1FD7, "\xCE\x99\xCC\x88\xCD\x82"},
    {0x1FE2, "\xCE\xA5\xCC\x88\xCC\x80"}, {0x1FE3, "\xCE\xA5\xCC\x88\xCC\x81"}, {0x1FE4, "\xCE\xA1\xCC\x93"},
    {0x1FE6, "\xCE\xA5\xCD\x82"}, {0x1FE7, "\xCE\xA5\xCC\x88\xCD\x82"}, {0x1FF2, "\xE1\xBF\xBA\xCD\x85"},
    {0x1FF4, "\xCE\x8F\xCD\x85"}, {0x1FF6, "\xCE\xA9\xCD\x82"}, {0x1FF7, "\xCE\xA9\xCD\x82\xCD\x85"}, {0xFB00, "Ff"},
    {0xFB01, "Fi"}, {0xFB02, "Fl"}, {0xFB03, "Ffi"}, {0xFB04, "Ffl"}, {0xFB05, "St"}, {0xFB06, "St"},
    {0xFB13, "\xD5\x84\xD5\xB6"}, {0xFB14, "\xD5\x84\xD5\xA5"}, {0xFB15, "\xD5\x84\xD5\xAB"}, {0xFB16, "\xD5\x8E\xD5\xB6"},
    {0xFB17, "\xD5\x84\xD5\xAD"},
};

static bool cased(uint32_t c) {
    utf8proc_int32_t code = (utf8proc_int32_t)c;
    return utf8proc_tolower(code) != code || utf8proc_toupper(code) != code || utf8proc_totitle(code) != code ||
           utf8proc_category(code) == UTF8PROC_CATEGORY_LL || utf8proc_category(code) == UTF8PROC_CATEGORY_LU;
}

/* Unicode's Case_Ignorable, as far as words of real text hold them. */
static bool case_ignorable(uint32_t c) {
    if (c == '\'' || c == '.' || c == ':' || c == '^' || c == '`' || c == 0xA8 || c == 0xAF || c == 0xB4 || c == 0xB7 || c == 0xB8 || c == 0x2018 ||
        c == 0x2019 || c == 0x2024 || c == 0x2027) {
        return true;
    }
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK: return true;
    default: return false;
    }
}

/* A capital sigma ends a word when a cased character stands before it and none after it, ignorable ones left out of account. */
static bool final_sigma(ot_str s, int64_t at, int64_t length) {
    bool before = false;
    for (int64_t i = 0; i < at;) {
        uint32_t c = 0;
        int n = ot_utf8_next(s.text + i, s.size - i, &c);
        if (n <= 0) n = 1;
        else if (!case_ignorable(c)) before = cased(c);
        i += n;
    }
    if (!before) return false;
    for (int64_t i = at + length; i < s.size;) {
        uint32_t c = 0;
        int n = ot_utf8_next(s.text + i, s.size - i, &c);
        if (n <= 0) return true;
        if (!case_ignorable(c)) return !cased(c);
        i += n;
    }
    return true;
}

static int put_text(char *to, const char *text) {
    size_t n = strlen(text);
    memcpy(to, text, n);
    return (int)n;
}

static int put_title(char *to, uint32_t c) {
    for (size_t i = 0; i < sizeof special_titles / sizeof *special_titles; i++) {
        if (special_titles[i].code == c) return put_text(to, special_titles[i].title);
    }
    return ot_utf8_put((uint32_t)utf8proc_totitle((utf8proc_int32_t)c), to);
}

static int put_lower(char *to, ot_str s, int64_t at, int length, uint32_t c) {
    enum { CAPITAL_I_WITH_DOT = 0x130, CAPITAL_SIGMA = 0x3A3 };
    if (c == CAPITAL_I_WITH_DOT) return put_text(to, "i\xCC\x87");
    if (c == CAPITAL_SIGMA && final_sigma(s, at, length)) return put_text(to, "\xCF\x82");
    return ot_utf8_put((uint32_t)utf8proc_tolower((utf8proc_int32_t)c), to);
}

static ot_status change_case(ot_arena *arena, ot_str s, bool title_first, ot_str *out, ot_error *err) {
    enum { MOST_GROWTH = 3 }; /* U+0390 of two bytes becomes three characters of two */
    int64_t room = 0;
    if (!ot_mul_i64(s.size + 1, MOST_GROWTH + 1, &room)) return ot_fail(err, OT_ERR_FORMAT, "a text is impossibly long");
    char *text = ot_arena_alloc(arena, room, err), *to = text;
    if (text == NULL) return OT_ERR_MEMORY;
    for (int64_t at = 0; at < s.size;) {
        uint32_t c = 0;
        int n = ot_utf8_next(s.text + at, s.size - at, &c);
        if (n <= 0) {
            *to++ = s.text[at++];
            continue;
        }
        to += at == 0 && title_first ? put_title(to, c) : put_lower(to, s, at, n, c);
        at += n;
    }
    *out = (ot_str){text, to - text};
    return OT_OK;
}

ot_status ot_py_lower(ot_arena *arena, ot_str s, ot_str *out, ot_error *err) { return change_case(arena, s, false, out, err); }
ot_status ot_py_capitalize(ot_arena *arena, ot_str s, ot_str *out, ot_error *err) { return change_case(arena, s, true, out, err); }

void ot_py_float(double value, char text[OT_PY_FLOAT]) {
    enum { LEAST_EXPONENT = -4, EXPONENT_END = 16 };
    int digits = 1;
    while (snprintf(text, OT_PY_FLOAT, "%.*e", digits - 1, value), digits < 17 && strtod(text, NULL) != value) digits++;
    const char *e = strchr(text, 'e');
    if (e == NULL) return; /* inf, nan */
    int exponent = (int)strtol(e + 1, NULL, 10), places = digits - 1 - exponent;
    if (exponent >= LEAST_EXPONENT && exponent < EXPONENT_END)
        snprintf(text, OT_PY_FLOAT, "%.*f", places > 1 ? places : 1, value);
}
