/* Tokenizer patterns: written for Oniguruma, run by PCRE2 with UTF and UCP. The two disagree about what some escapes mean
 * (\s and U+180E, \w, \h, \b, (?m), {1,3}+, nested classes), so a pattern is rewritten first; what cannot be rewritten is
 * refused by name. Matching runs on text already known to be UTF-8. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <string.h>

#include "format/tokenizer_internal.h"
#include "format/tokenizer_unicode.h"
#include "format/unicode.h"

struct ot_tok_regex {
    pcre2_code *code;
};
struct ot_tok_scan {
    pcre2_match_data *match;
    pcre2_match_context *context;
};

/* ==== Rewriting ==== */

typedef struct property {
    const char *name; /* Oniguruma's, in small letters without blanks, hyphens and underscores */
    const char *items;
    const char *newer[4]; /* prefixes of categories */
} property;

enum { MAX_INVERTED = 4, MAX_GROUPS = 256 };

typedef struct rewriter {
    const char *in;
    int64_t size, at;
    ot_tok_buf out;
    int64_t atom;               /* where the last atom begins in out, for {n,m}+ */
    int64_t groups[MAX_GROUPS]; /* where each open group begins in out */
    int depth;
    const property *inverted[MAX_INVERTED]; /* \W, \P{L} ... met in the current class */
    int inverted_count;
    const char *where;
    ot_error *err;
} rewriter;

static ot_status emit(rewriter *r, const char *text) { return ot_tok_buf_put(&r->out, text, (int64_t)strlen(text), r->err); }

static ot_status refuse(const rewriter *r, const char *what) {
    return ot_fail_at(r->err, OT_ERR_UNSUPPORTED, r->at, "%s: a pattern has %s at its byte %lld; rewrite the pattern without it",
                      r->where, what, (long long)r->at);
}

static bool looking_at(const rewriter *r, const char *text) {
    int64_t n = (int64_t)strlen(text);
    return r->size - r->at >= n && memcmp(r->in + r->at, text, (size_t)n) == 0;
}

/* ==== Properties ==== */

/* Ranges of the categories that begin with `prefix` and are newer than PCRE2's tables may be. */
static ot_status emit_new_ranges(rewriter *r, const char *prefix) {
    size_t n = strlen(prefix);
    for (size_t i = 0; i < sizeof OT_TOK_NEW_RANGES / sizeof OT_TOK_NEW_RANGES[0]; i++) {
        const ot_tok_new_range *range = &OT_TOK_NEW_RANGES[i];
        char text[40];
        if (strncmp(range->category, prefix, n) != 0) continue;
        (void)snprintf(text, sizeof text, "\\x{%x}-\\x{%x}", range->first, range->last);
        OT_TRY(emit(r, text));
    }
    return OT_OK;
}

/* Outside classes Oniguruma looks words up in a table that counts Latin-1's superscripts and fractions, too. */
#define WORD_ITEMS "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
static const property WORD = {"word", WORD_ITEMS "\\xB2\\xB3\\xB9\\xBC-\\xBE", {"L", "M", "Nd", NULL}};
static const property WORD_IN_CLASS = {"word", WORD_ITEMS, {"L", "M", "Nd", NULL}};
static const property DIGIT = {"digit", "\\p{Nd}", {"Nd", NULL}};
static const property SPACE = {"space", "\\p{White_Space}", {NULL}};
static const property HEX = {"xdigit", "0-9A-Fa-f", {NULL}};
static const property PROPERTIES[] = {
    {"l", "\\p{L}", {"L", NULL}},
    {"letter", "\\p{L}", {"L", NULL}},
    {"lu", "\\p{Lu}", {"Lu", NULL}},
    {"uppercaseletter", "\\p{Lu}", {"Lu", NULL}},
    {"ll", "\\p{Ll}", {"Ll", NULL}},
    {"lowercaseletter", "\\p{Ll}", {"Ll", NULL}},
    {"lm", "\\p{Lm}", {"Lm", NULL}},
    {"lo", "\\p{Lo}", {"Lo", NULL}},
    {"m", "\\p{M}", {"M", NULL}},
    {"mark", "\\p{M}", {"M", NULL}},
    {"mn", "\\p{Mn}", {"Mn", NULL}},
    {"mc", "\\p{Mc}", {"Mc", NULL}},
    {"n", "\\p{N}", {"N", NULL}},
    {"number", "\\p{N}", {"N", NULL}},
    {"nd", "\\p{Nd}", {"Nd", NULL}},
    {"no", "\\p{No}", {"No", NULL}},
    {"p", "\\p{P}", {"P", NULL}},
    {"punctuation", "\\p{P}", {"P", NULL}},
    {"punct", "\\p{P}\\p{S}", {"P", "S", NULL}},
    {"pd", "\\p{Pd}", {"Pd", NULL}},
    {"po", "\\p{Po}", {"Po", NULL}},
    {"s", "\\p{S}", {"S", NULL}},
    {"symbol", "\\p{S}", {"S", NULL}},
    {"sm", "\\p{Sm}", {"Sm", NULL}},
    {"so", "\\p{So}", {"So", NULL}},
    {"alpha", "\\p{Alphabetic}", {"L", NULL}},
    {"alphabetic", "\\p{Alphabetic}", {"L", NULL}},
    {"alnum", "\\p{Alphabetic}\\p{Nd}", {"L", "Nd", NULL}},
    {"upper", "\\p{Uppercase}", {"Lu", NULL}},
    {"lower", "\\p{Lowercase}", {"Ll", NULL}},
    {"whitespace", "\\p{White_Space}", {NULL}},
    {"ascii", "\\x00-\\x7F", {NULL}},
};
/* The other general categories keep their names; everything else is a script, which PCRE2 would widen to its extensions. */
static const char *const PLAIN[] = {"lt", "me", "nl", "pc", "ps", "pe", "pi", "pf", "sc", "sk",
                                    "z",  "zs", "zl", "zp", "c",  "cc", "cf", "cn", "co", "any"};

static ot_status emit_property(rewriter *r, const property *p, bool negative, bool in_class) {
    if (in_class && negative) { /* no class can leave characters out again: rewrite_class adds this beside the class */
        if (r->inverted_count == MAX_INVERTED) return refuse(r, "too many inverted classes inside a class");
        r->inverted[r->inverted_count++] = p;
        return OT_OK;
    }
    if (!in_class) OT_TRY(emit(r, negative ? "[^" : "["));
    OT_TRY(emit(r, p->items));
    for (int i = 0; p->newer[i] != NULL; i++) OT_TRY(emit_new_ranges(r, p->newer[i]));
    return in_class ? OT_OK : emit(r, "]");
}

static const property *find_property(const char *name) {
    const property *extra[] = {&WORD_IN_CLASS, &DIGIT, &SPACE, &HEX};
    for (size_t i = 0; i < sizeof extra / sizeof extra[0]; i++) {
        if (strcmp(extra[i]->name, name) == 0) return extra[i];
    }
    for (size_t i = 0; i < sizeof PROPERTIES / sizeof PROPERTIES[0]; i++) {
        if (strcmp(PROPERTIES[i].name, name) == 0) return &PROPERTIES[i];
    }
    return NULL;
}

/* \p{Name}, \p{^Name} or \P{Name}, with r->at on the backslash. */
static ot_status rewrite_property(rewriter *r, bool in_class) {
    const char *close =
        r->size - r->at > 2 && r->in[r->at + 2] == '{' ? memchr(r->in + r->at, '}', (size_t)(r->size - r->at)) : NULL;
    if (close == NULL) return refuse(r, "a \\p without braces");
    bool negative = r->in[r->at + 1] == 'P';
    char plain[48];
    size_t n = 0;
    for (const char *c = r->in + r->at + 3; c < close; c++) {
        if (*c == '^' && c == r->in + r->at + 3) {
            negative = !negative;
        } else if (*c != ' ' && *c != '-' && *c != '_') {
            if (n + 1 == sizeof plain) return refuse(r, "a property with a long name");
            plain[n++] = *c >= 'A' && *c <= 'Z' ? (char)(*c + 32) : *c;
        }
    }
    plain[n] = '\0';
    r->at = close + 1 - r->in;
    const property *p = find_property(plain);
    if (p != NULL) return emit_property(r, p, negative, in_class);
    bool is_plain = false;
    for (size_t i = 0; i < sizeof PLAIN / sizeof PLAIN[0]; i++) is_plain = is_plain || strcmp(PLAIN[i], plain) == 0;
    OT_TRY(emit(r, negative ? "\\P{" : "\\p{"));
    if (!is_plain) OT_TRY(emit(r, "sc:"));
    OT_TRY(emit(r, plain));
    return emit(r, "}");
}

/* \b as Oniguruma's words have it. */
static ot_status rewrite_border(rewriter *r, bool border) {
    static const char *const PARTS[2][4] = {{"(?:(?<=", ")(?=", ")|(?<!", ")(?!"}, {"(?:(?<=", ")(?!", ")|(?<!", ")(?="}};
    for (int i = 0; i < 4; i++) {
        OT_TRY(emit(r, PARTS[border][i]));
        OT_TRY(emit_property(r, &WORD, false, false));
    }
    return emit(r, "))");
}

/* The escape at r->at (a backslash), in a class or outside. */
static ot_status rewrite_escape(rewriter *r, bool in_class) {
    if (r->at + 1 >= r->size) return refuse(r, "a lone backslash");
    char c = r->in[r->at + 1];
    const property *p = NULL;
    switch (c) {
    case 's':
    case 'S': p = &SPACE; break;
    case 'd':
    case 'D': p = &DIGIT; break;
    case 'w':
    case 'W': p = in_class ? &WORD_IN_CLASS : &WORD; break;
    case 'h':
    case 'H': p = &HEX; break;
    case 'p':
    case 'P': return rewrite_property(r, in_class);
    case 'b':
    case 'B':
        if (in_class) break;
        r->at += 2;
        return rewrite_border(r, c == 'b');
    case 'u':
        if (r->size - r->at < 6) return refuse(r, "a short \\u escape");
        OT_TRY(emit(r, "\\x{"));
        OT_TRY(ot_tok_buf_put(&r->out, r->in + r->at + 2, 4, r->err));
        r->at += 6;
        return emit(r, "}");
    default: break;
    }
    if (p != NULL) {
        OT_TRY(emit_property(r, p, c < 'a', in_class));
        r->at += 2;
        return OT_OK;
    }
    /* Any other escape means the same in both; a backslash may stand before a character of several bytes. */
    int64_t n = 1 + ot_utf8_length(c);
    if (r->at + n > r->size) n = r->size - r->at;
    OT_TRY(ot_tok_buf_put(&r->out, r->in + r->at, n, r->err));
    r->at += n;
    return OT_OK;
}

/* [:name:] inside a class. */
static ot_status rewrite_posix(rewriter *r) {
    const char *end = memmem(r->in + r->at, (size_t)(r->size - r->at), ":]", 2);
    char name[16];
    int64_t n = end == NULL ? 0 : end - (r->in + r->at) - 2;
    if (n < 1 || n >= (int64_t)sizeof name) return refuse(r, "an unknown [:class:]");
    memcpy(name, r->in + r->at + 2, (size_t)n);
    name[n] = '\0';
    const property *p = find_property(name);
    if (p == NULL) return refuse(r, "an unknown [:class:]");
    r->at += n + 4;
    return emit_property(r, p, false, true);
}

/* The items of a class up to its closing bracket. A class inside it is a union: its items join. */
static ot_status rewrite_items(rewriter *r, int depth) {
    if (depth == OT_TOK_MAX_DEPTH) return refuse(r, "too many nested classes");
    if (looking_at(r, "]")) {
        OT_TRY(emit(r, "\\]"));
        r->at++;
    }
    while (r->at < r->size && r->in[r->at] != ']') {
        char c = r->in[r->at];
        if (c == '\\') {
            OT_TRY(rewrite_escape(r, true));
        } else if (looking_at(r, "&&")) {
            return refuse(r, "an intersection of classes (&&)");
        } else if (looking_at(r, "[:")) {
            OT_TRY(rewrite_posix(r));
        } else if (c == '[') {
            r->at++;
            if (looking_at(r, "^")) return refuse(r, "an inverted class inside a class");
            OT_TRY(rewrite_items(r, depth + 1));
        } else {
            OT_TRY(ot_tok_buf_put(&r->out, r->in + r->at, 1, r->err));
            r->at++;
        }
    }
    if (r->at >= r->size) return refuse(r, "a class without its end");
    r->at++;
    return OT_OK;
}

/* [A\W] becomes (?:[A]|[^word]) and [^A\W] becomes (?:(?![A])[word]). */
static ot_status rewrite_class(rewriter *r) {
    r->at++;
    bool negative = looking_at(r, "^");
    if (negative) r->at++;
    r->inverted_count = 0;
    ot_tok_buf outside = r->out;
    r->out = (ot_tok_buf){0};
    ot_status status = rewrite_items(r, 0);
    ot_tok_buf items = r->out;
    r->out = outside;
    bool plain = r->inverted_count == 0;
    if (status == OT_OK && !plain) status = emit(r, "(?:");
    if (status == OT_OK && (plain || items.size > 0)) {
        status = emit(r, plain ? (negative ? "[^" : "[") : (negative ? "(?![" : "["));
        if (status == OT_OK) status = ot_tok_buf_put(&r->out, items.data, items.size, r->err);
        if (status == OT_OK) status = emit(r, plain || !negative ? "]" : "])");
        if (status == OT_OK && !plain && !negative) status = emit(r, "|");
    }
    ot_tok_buf_free(&items);
    OT_TRY(status);
    for (int i = 0; i < r->inverted_count; i++) {
        bool last = i + 1 == r->inverted_count;
        if (negative && !last) OT_TRY(emit(r, "(?="));
        OT_TRY(emit_property(r, r->inverted[i], !negative, false));
        if (!last) OT_TRY(emit(r, negative ? ")" : "|"));
    }
    return plain ? OT_OK : emit(r, ")");
}

/* "(?" with options: Ruby's m is everybody's s. Called with r->at on the parenthesis. */
static ot_status rewrite_group(rewriter *r) {
    if (r->depth == MAX_GROUPS) return refuse(r, "too many nested groups");
    int64_t from = r->at + 2, end = from;
    bool options = looking_at(r, "(?");
    if (options) {
        while (end < r->size && (r->in[end] == 'i' || r->in[end] == 'm' || r->in[end] == 'x' || r->in[end] == '-')) end++;
        options = end > from && end < r->size && (r->in[end] == ':' || r->in[end] == ')');
    }
    if (!options) {
        r->groups[r->depth++] = r->out.size;
        r->at++;
        OT_TRY(emit(r, "("));
        if (looking_at(r, "?")) { /* the question mark is no quantifier here */
            OT_TRY(emit(r, "?"));
            r->at++;
        }
        return OT_OK;
    }
    if (r->in[end] == ':') r->groups[r->depth++] = r->out.size;
    OT_TRY(emit(r, "(?"));
    for (int64_t i = from; i <= end; i++) {
        char c = r->in[i] == 'm' ? 's' : r->in[i];
        OT_TRY(ot_tok_buf_put(&r->out, &c, 1, r->err));
    }
    r->at = end + 1;
    return OT_OK;
}

/* "{n,m}" after an atom; followed by a plus it is repeated once more, where PCRE2 would make it possessive. */
static ot_status rewrite_interval(rewriter *r, bool *is_interval) {
    int64_t end = r->at + 1;
    while (end < r->size && ((r->in[end] >= '0' && r->in[end] <= '9') || r->in[end] == ',')) end++;
    *is_interval = end < r->size && r->in[end] == '}' && end > r->at + 1;
    if (!*is_interval) return OT_OK;
    bool plus = end + 1 < r->size && r->in[end + 1] == '+';
    if (plus) {
        int64_t tail = r->out.size - r->atom;
        OT_TRY(emit(r, "(?:"));
        memmove(r->out.data + r->atom + 3, r->out.data + r->atom, (size_t)tail);
        memcpy(r->out.data + r->atom, "(?:", 3);
    }
    OT_TRY(emit(r, r->in[r->at + 1] == ',' ? "{0" : "{"));
    OT_TRY(ot_tok_buf_put(&r->out, r->in + r->at + 1, end - r->at, r->err));
    r->at = end + 1;
    if (plus) {
        OT_TRY(emit(r, ")+"));
        r->at++;
    }
    return OT_OK;
}

static ot_status rewrite(rewriter *r) {
    while (r->at < r->size) {
        char c = r->in[r->at];
        int64_t begin = r->out.size;
        switch (c) {
        case '\\':
            OT_TRY(rewrite_escape(r, false));
            r->atom = begin;
            break;
        case '[':
            OT_TRY(rewrite_class(r));
            r->atom = begin;
            break;
        case '(': OT_TRY(rewrite_group(r)); break;
        case ')':
            if (r->depth > 0) r->atom = r->groups[--r->depth];
            OT_TRY(emit(r, ")"));
            r->at++;
            break;
        case '{': {
            bool is_interval = false;
            OT_TRY(rewrite_interval(r, &is_interval));
            if (is_interval) break;
            OT_TRY(emit(r, "\\{"));
            r->at++;
            r->atom = begin;
            break;
        }
        default: {
            int64_t n = ot_utf8_length(c);
            if (n > r->size - r->at) n = r->size - r->at;
            OT_TRY(ot_tok_buf_put(&r->out, r->in + r->at, n, r->err));
            r->at += n;
            if (c != '*' && c != '+' && c != '?') r->atom = begin;
        }
        }
    }
    return OT_OK;
}

/* ==== Compiling and matching ==== */

ot_status ot_tok_regex_new(const char *pattern, int64_t size, const char *where, ot_tok_regex **out, ot_error *err) {
    rewriter r = {.in = pattern, .size = size, .where = where, .err = err};
    ot_status status = rewrite(&r);
    ot_tok_regex *re = NULL;
    pcre2_compile_context *context = NULL;
    if (status == OT_OK) status = ot_calloc(1, (int64_t)sizeof *re, "a pattern", (void **)&re, err);
    if (status == OT_OK) {
        context = pcre2_compile_context_create(NULL);
        if (context == NULL) status = ot_fail_memory(err, 0, "a pattern");
    }
    if (status == OT_OK) {
        pcre2_set_newline(context, PCRE2_NEWLINE_LF);
        int code = 0;
        PCRE2_SIZE at = 0;
        re->code = pcre2_compile((PCRE2_SPTR)(r.out.data == NULL ? "" : r.out.data), (PCRE2_SIZE)r.out.size,
                                 PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &code, &at, context);
        if (re->code == NULL) {
            PCRE2_UCHAR reason[160] = {0};
            pcre2_get_error_message(code, reason, sizeof reason);
            status = ot_fail(err, OT_ERR_UNSUPPORTED, "%s: the pattern \"%.200s\" cannot be used: %s", where, pattern,
                             (const char *)reason);
        } else {
            /* Without a JIT (other processors) the interpreter does the same more slowly. */
            (void)pcre2_jit_compile(re->code, PCRE2_JIT_COMPLETE);
        }
    }
    pcre2_compile_context_free(context);
    ot_tok_buf_free(&r.out);
    if (status != OT_OK) {
        ot_tok_regex_free(re);
        return status;
    }
    *out = re;
    return OT_OK;
}

void ot_tok_regex_free(ot_tok_regex *re) {
    if (re == NULL) return;
    pcre2_code_free(re->code);
    ot_free(re);
}

ot_status ot_tok_scan_new(ot_tok_scan **out, ot_error *err) {
    ot_tok_scan *scan = NULL;
    OT_TRY(ot_calloc(1, (int64_t)sizeof *scan, "pattern matching", (void **)&scan, err));
    scan->match = pcre2_match_data_create(1, NULL);
    scan->context = pcre2_match_context_create(NULL);
    if (scan->match == NULL || scan->context == NULL) {
        ot_tok_scan_free(scan);
        return ot_fail_memory(err, 0, "pattern matching");
    }
    *out = scan;
    return OT_OK;
}

void ot_tok_scan_free(ot_tok_scan *scan) {
    if (scan == NULL) return;
    pcre2_match_data_free(scan->match);
    pcre2_match_context_free(scan->context);
    ot_free(scan);
}

ot_status ot_tok_regex_next(const ot_tok_regex *re, ot_tok_scan *scan, const char *text, int64_t size, ot_tok_cursor *cursor,
                            bool *found, int64_t *start, int64_t *end, ot_error *err) {
    *found = false;
    while (cursor->from <= size) {
        int n = pcre2_match(re->code, (PCRE2_SPTR)(size == 0 ? "" : text), (PCRE2_SIZE)size, (PCRE2_SIZE)cursor->from,
                            PCRE2_NO_UTF_CHECK, scan->match, scan->context);
        if (n == PCRE2_ERROR_JIT_STACKLIMIT) {
            n = pcre2_match(re->code, (PCRE2_SPTR)(size == 0 ? "" : text), (PCRE2_SIZE)size, (PCRE2_SIZE)cursor->from,
                            PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, scan->match, scan->context);
        }
        if (n == PCRE2_ERROR_NOMATCH) return OT_OK;
        if (n < 0) {
            PCRE2_UCHAR reason[160] = {0};
            pcre2_get_error_message(n, reason, sizeof reason);
            return ot_fail_at(err, OT_ERR_LIBRARY, cursor->from, "the tokenizer's pattern failed on the text near byte %lld: %s",
                              (long long)cursor->from, (const char *)reason);
        }
        const PCRE2_SIZE *range = pcre2_get_ovector_pointer(scan->match);
        int64_t s = (int64_t)range[0], e = (int64_t)range[1];
        if (s > e) s = e; /* \K in a lookahead */
        /* An empty match right after the last match is not one: try again one character on. */
        if (s == e && e == cursor->last_end) {
            cursor->from += cursor->from < size ? ot_utf8_length(text[cursor->from]) : 1;
            continue;
        }
        cursor->from = cursor->last_end = e;
        *start = s;
        *end = e;
        *found = true;
        return OT_OK;
    }
    return OT_OK;
}

ot_status ot_tok_pattern_next(const ot_tok_pattern *p, ot_tok_scan *scan, const char *text, int64_t size, ot_tok_cursor *cursor,
                              bool *found, int64_t *start, int64_t *end, ot_error *err) {
    if (p->regex != NULL) return ot_tok_regex_next(p->regex, scan, text, size, cursor, found, start, end, err);
    *found = false;
    if (p->size == 0 || cursor->from >= size) return OT_OK;
    const char *hit = memmem(text + cursor->from, (size_t)(size - cursor->from), p->text, (size_t)p->size);
    if (hit == NULL) return OT_OK;
    *start = hit - text;
    *end = cursor->from = cursor->last_end = *start + p->size;
    *found = true;
    return OT_OK;
}
