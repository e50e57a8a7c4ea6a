#include "task/template.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "format/unicode.h"

enum { MAX_DEPTH = 32, MAX_NAME = 128 };

typedef enum node_kind {
    NODE_VALUE,
    NODE_CONSTANT,
    NODE_FIELD,
    NODE_MEMBER,
    NODE_EQUAL,
    NODE_UNEQUAL,
    NODE_IF,
    NODE_ENTRY,
    NODE_SLICE,
    NODE_LIST,
    NODE_ADD,
    NODE_SUBTRACT,
    NODE_CALL
} node_kind;

typedef struct node node;
typedef struct method method;
struct node {
    node_kind kind;
    const char *name; /* FIELD, MEMBER, VALUE */
    int64_t number;   /* VALUE: of a whole number; a text is `name` */
    bool is_number;
    const method *method;       /* CALL */
    node *left, *right, *third; /* operand; index, other operand or arguments */
    node *next;                 /* of a list */
};

typedef struct piece piece;
struct piece {
    ot_str text;      /* as it stands */
    node *expression; /* instead of it, when not NULL */
    piece *next;
};

struct ot_template {
    const char *text;
    piece *first;
    int64_t pieces;
};

/* ==== Methods and filters. ==== */

typedef struct call {
    const ot_row *row;
    ot_arena *arena;
    const json_t *self, *a, *b;
} call;

struct method {
    const char *name;
    int least, most; /* arguments */
    bool as_method, as_filter;
    ot_status (*run)(const call *c, json_t **out, ot_error *err);
};

static const char *kind_of(const json_t *value) {
    return json_is_string(value)    ? "a text"
           : json_is_array(value)   ? "a list"
           : json_is_object(value)  ? "an object"
           : json_is_boolean(value) ? "true or false"
           : json_is_null(value)    ? "null"
                                    : "a number";
}

static ot_status made(json_t *value, json_t **out, ot_error *err) {
    *out = value;
    return value == NULL ? ot_fail_memory(err, 64, "a template's value") : OT_OK;
}

static ot_status text_value(ot_str s, json_t **out, ot_error *err) {
    return made(json_stringn_nocheck(s.size > 0 ? s.text : "", (size_t)s.size), out, err);
}

static ot_status self_text(const call *c, const char *what, ot_str *out, ot_error *err) {
    if (!json_is_string(c->self))
        return ot_row_fail(c->row, err, "the template asks for %s of %s; it needs a text", what, kind_of(c->self));
    *out = ot_json_text(c->self);
    return OT_OK;
}

static ot_status strip(const call *c, json_t **out, ot_error *err) {
    ot_str s = {"", 0};
    OT_TRY(self_text(c, "strip", &s, err));
    return text_value(ot_py_strip(s), out, err);
}

static ot_status trim(const call *c, json_t **out, ot_error *err) {
    ot_str s = {"", 0};
    OT_TRY(ot_py_text_of(c->self, c->arena, &s, err));
    return text_value(ot_py_strip(s), out, err);
}

static ot_status lstrip(const call *c, json_t **out, ot_error *err) {
    ot_str s = {"", 0};
    OT_TRY(self_text(c, "lstrip", &s, err));
    return text_value(ot_py_lstrip(s), out, err);
}

static ot_status rstrip(const call *c, json_t **out, ot_error *err) {
    ot_str s = {"", 0};
    OT_TRY(self_text(c, "rstrip", &s, err));
    return text_value(ot_py_rstrip(s), out, err);
}

static ot_status lower(const call *c, json_t **out, ot_error *err) {
    ot_str s = {"", 0};
    OT_TRY(self_text(c, "lower", &s, err));
    OT_TRY(ot_py_lower(c->arena, s, &s, err));
    return text_value(s, out, err);
}

static ot_status capitalize(const call *c, json_t **out, ot_error *err) {
    ot_str s = {"", 0};
    OT_TRY(self_text(c, "capitalize", &s, err));
    OT_TRY(ot_py_capitalize(c->arena, s, &s, err));
    return text_value(s, out, err);
}

static ot_status replace(const call *c, json_t **out, ot_error *err) {
    ot_str s = {"", 0};
    OT_TRY(self_text(c, "replace", &s, err));
    if (!json_is_string(c->a) || !json_is_string(c->b) || json_string_length(c->a) == 0) {
        return ot_row_fail(c->row, err, "the template's replace needs two texts, the first not empty");
    }
    OT_TRY(ot_py_replace(c->arena, s, json_string_value(c->a), json_string_value(c->b), &s, err));
    return text_value(s, out, err);
}

static ot_status find_index(const call *c, json_t **out, ot_error *err) {
    if (!json_is_array(c->self))
        return ot_row_fail(c->row, err, "the template asks for index in %s; it needs a list", kind_of(c->self));
    for (size_t i = 0; i < json_array_size(c->self); i++) {
        if (json_equal(json_array_get(c->self, i), c->a)) return made(json_integer((json_int_t)i), out, err);
    }
    ot_str wanted;
    OT_TRY(ot_py_text_of(c->a, c->arena, &wanted, err));
    return ot_row_fail(c->row, err, "\"%.*s\" is not in the list that the template looks through",
                       wanted.size < 100 ? (int)wanted.size : 100, wanted.text);
}

static ot_status join(const call *c, json_t **out, ot_error *err) {
    if (!json_is_array(c->self))
        return ot_row_fail(c->row, err, "the template asks to join %s; it needs a list", kind_of(c->self));
    int64_t n = (int64_t)json_array_size(c->self), used = 0;
    ot_str *parts = ot_arena_alloc(c->arena, (2 * n + 1) * (int64_t)sizeof *parts, err),
           between = c->a != NULL ? ot_json_text(c->a) : ot_str_of(""), whole;
    if (parts == NULL) return OT_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++) {
        if (i > 0) parts[used++] = between;
        OT_TRY(ot_py_text_of(json_array_get(c->self, (size_t)i), c->arena, &parts[used++], err));
    }
    OT_TRY(ot_str_join(c->arena, parts, used, &whole, err));
    return text_value(whole, out, err);
}

static ot_status add_part(json_t *list, ot_str part, ot_error *err) {
    bool kept = json_array_append_new(list, json_stringn_nocheck(part.size > 0 ? part.text : "", (size_t)part.size)) == 0;
    return kept ? OT_OK : ot_fail_memory(err, 64, "a template's list");
}

/* Without an argument at white space, none of it kept; else at each of the texts given. */
static ot_status split_text(ot_str s, const json_t *by, json_t *list, ot_error *err) {
    ot_str between = by != NULL ? ot_json_text(by) : (ot_str){"", 0};
    int64_t from = 0;
    for (s = by == NULL ? ot_py_lstrip(s) : s; by == NULL && s.size > 0; s = ot_py_lstrip(s)) {
        int64_t n = ot_py_word(s);
        OT_TRY(add_part(list, (ot_str){s.text, n}, err));
        s = (ot_str){s.text + n, s.size - n};
    }
    if (by == NULL) return OT_OK;
    for (int64_t at = 0; at + between.size <= s.size;) {
        if (memcmp(s.text + at, between.text, (size_t)between.size) != 0) {
            at++;
            continue;
        }
        OT_TRY(add_part(list, (ot_str){s.text + from, at - from}, err));
        from = at += between.size;
    }
    return add_part(list, (ot_str){s.text + from, s.size - from}, err);
}

static ot_status split(const call *c, json_t **out, ot_error *err) {
    ot_str s = {"", 0};
    OT_TRY(self_text(c, "split", &s, err));
    if (c->a != NULL && (!json_is_string(c->a) || json_string_length(c->a) == 0)) {
        return ot_row_fail(c->row, err, "the template's split needs a text that is not empty");
    }
    OT_TRY(made(json_array(), out, err));
    ot_status status = split_text(s, c->a, *out, err);
    if (status != OT_OK) json_decref(*out);
    return status;
}

static ot_status length(const call *c, json_t **out, ot_error *err) {
    int64_t n = json_is_string(c->self)  ? ot_py_length(ot_json_text(c->self))
                : json_is_array(c->self) ? (int64_t)json_array_size(c->self)
                                         : -1;
    if (json_is_object(c->self)) n = (int64_t)json_object_size(c->self);
    if (n < 0) return ot_row_fail(c->row, err, "the template asks for the length of %s", kind_of(c->self));
    return made(json_integer(n), out, err);
}

static ot_status end_of_list(const call *c, bool last, json_t **out, ot_error *err) {
    size_t n = json_array_size(c->self);
    if (n == 0)
        return ot_row_fail(c->row, err, "the template asks for the %s entry of %s", last ? "last" : "first",
                           json_is_array(c->self) ? "an empty list" : kind_of(c->self));
    return made(json_incref(json_array_get(c->self, last ? n - 1 : 0)), out, err);
}

static ot_status first(const call *c, json_t **out, ot_error *err) { return end_of_list(c, false, out, err); }
static ot_status last(const call *c, json_t **out, ot_error *err) { return end_of_list(c, true, out, err); }

static bool whole_number(const json_t *value, int64_t *out) {
    if (json_is_integer(value)) *out = json_integer_value(value);
    else if (json_is_boolean(value)) *out = json_is_true(value);
    else return false;
    return true;
}

/* Texts of digits become numbers; what is none is 0, as in Jinja. */
static ot_status to_int(const call *c, json_t **out, ot_error *err) {
    int64_t number = 0;
    if (json_is_string(c->self)) {
        ot_str s = ot_py_strip(ot_json_text(c->self));
        char digits[20], *end = digits;
        if (s.size > 0 && s.size < (int64_t)sizeof digits) {
            memcpy(digits, s.text, (size_t)s.size);
            digits[s.size] = '\0';
            number = strtoll(digits, &end, 10);
            if (*end != '\0') number = 0;
        }
    } else if (json_is_real(c->self)) {
        double value = json_real_value(c->self);
        number = value > -1e15 && value < 1e15 ? (int64_t)value : 0;
    } else {
        whole_number(c->self, &number);
    }
    return made(json_integer(number), out, err);
}

static ot_status to_string(const call *c, json_t **out, ot_error *err) {
    ot_str s;
    OT_TRY(ot_py_text_of(c->self, c->arena, &s, err));
    return text_value(s, out, err);
}

static const method methods[] = {
    {"split", 0, 1, true, false, split},
    {"strip", 0, 0, true, false, strip},
    {"lstrip", 0, 0, true, false, lstrip},
    {"rstrip", 0, 0, true, false, rstrip},
    {"trim", 0, 0, false, true, trim},
    {"lower", 0, 0, true, true, lower},
    {"capitalize", 0, 0, true, true, capitalize},
    {"replace", 2, 2, true, true, replace},
    {"index", 1, 1, true, false, find_index},
    {"join", 0, 1, false, true, join},
    {"length", 0, 0, false, true, length},
    {"first", 0, 0, false, true, first},
    {"last", 0, 0, false, true, last},
    {"int", 0, 0, false, true, to_int},
    {"string", 0, 0, false, true, to_string},
};

/* ==== Reading. ==== */

typedef struct reader {
    const char *text, *at;
    ot_arena *arena;
    int depth;
} reader;

static ot_status wrong(const reader *r, ot_error *err, const char *what) {
    return ot_fail_at(err, OT_ERR_FORMAT, (int64_t)(r->at - r->text), "%s, at byte %lld of \"%.120s\"", what,
                      (long long)(r->at - r->text), r->text);
}

static void skip_space(reader *r) {
    while (*r->at == ' ' || *r->at == '\n' || *r->at == '\t' || *r->at == '\r') r->at++;
}

static bool take(reader *r, char c) {
    skip_space(r);
    if (*r->at != c) return false;
    r->at++;
    return true;
}

static bool name_begins(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
static bool name_goes_on(char c) { return name_begins(c) || (c >= '0' && c <= '9'); }

static ot_status read_name(reader *r, const char **out, ot_error *err) {
    static const char *const words[] = {"if", "else", "and", "or", "not", "in", "is", "for"};
    const char *from = r->at;
    if (!name_begins(*from)) return wrong(r, err, "the name of a field is missing");
    while (name_goes_on(*r->at)) r->at++;
    if (r->at - from > MAX_NAME) return wrong(r, err, "a name is too long");
    *out = ot_arena_strndup(r->arena, from, (size_t)(r->at - from), err);
    if (*out == NULL) return OT_ERR_MEMORY;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(*out, words[i]) == 0)
            return wrong(r, err, "a word of Python where a field is expected: only A if B else C, == and != are supported");
    }
    return OT_OK;
}

static ot_status new_node(reader *r, node_kind kind, node **out, ot_error *err) {
    *out = ot_arena_alloc(r->arena, sizeof **out, err);
    if (*out == NULL) return OT_ERR_MEMORY;
    (*out)->kind = kind;
    return OT_OK;
}

static ot_status read_expression(reader *r, node **out, ot_error *err);

/* 'text' or "text" with \n, \t, \\ and quotes. */
static ot_status read_string(reader *r, node **out, ot_error *err) {
    char quote = *r->at++, *text = ot_arena_alloc(r->arena, (int64_t)strlen(r->at) + 1, err), *to = text;
    if (text == NULL) return OT_ERR_MEMORY;
    while (*r->at != quote) {
        char c = *r->at++;
        if (c == '\0') {
            r->at--;
            return wrong(r, err, "a text in an expression does not end");
        }
        if (c == '\\') {
            c = *r->at++;
            if (c == 'n') c = '\n';
            else if (c == 't') c = '\t';
            else if (c != '\\' && c != '\'' && c != '"') {
                r->at--;
                return wrong(r, err, "an escape other than \\n, \\t, \\\\ and quotes");
            }
        }
        *to++ = c;
    }
    r->at++;
    OT_TRY(new_node(r, NODE_VALUE, out, err));
    (*out)->name = text;
    return OT_OK;
}

static ot_status read_number(reader *r, node **out, ot_error *err) {
    char *end = NULL;
    const char *from = r->at;
    long long number = strtoll(from, &end, 10);
    if (end - from > 15 || *end == '.' || name_goes_on(*end)) return wrong(r, err, "only whole numbers are supported");
    r->at = end;
    OT_TRY(new_node(r, NODE_VALUE, out, err));
    (*out)->number = number;
    (*out)->is_number = true;
    return OT_OK;
}

static ot_status read_list(reader *r, node **out, ot_error *err) {
    r->at++;
    OT_TRY(new_node(r, NODE_LIST, out, err));
    node **link = &(*out)->left;
    for (skip_space(r); *r->at != ']';) {
        OT_TRY(read_expression(r, link, err));
        link = &(*link)->next;
        if (!take(r, ',')) break;
        skip_space(r);
    }
    return take(r, ']') ? OT_OK : wrong(r, err, "a list is not closed");
}

static ot_status read_primary(reader *r, node **out, ot_error *err) {
    skip_space(r);
    if (*r->at == '"' || *r->at == '\'') return read_string(r, out, err);
    if (*r->at == '[') return read_list(r, out, err);
    if ((*r->at >= '0' && *r->at <= '9') || (*r->at == '-' && r->at[1] >= '0' && r->at[1] <= '9'))
        return read_number(r, out, err);
    if (*r->at == '(') {
        r->at++;
        OT_TRY(read_expression(r, out, err));
        return take(r, ')') ? OT_OK : wrong(r, err, "a bracket is not closed");
    }
    OT_TRY(new_node(r, NODE_FIELD, out, err));
    OT_TRY(read_name(r, &(*out)->name, err));
    /* Jinja's constants, small or capitalized. */
    static const char *const constants[] = {"none", "None", "true", "True", "false", "False"};
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++) {
        if (strcmp((*out)->name, constants[i]) != 0) continue;
        **out = (node){.kind = NODE_CONSTANT, .number = (int64_t)i / 2};
        break;
    }
    return OT_OK;
}

/* The name is read; arguments follow in brackets, which a filter may leave out. */
static ot_status read_call(reader *r, const char *name, bool filter, node **expression, ot_error *err) {
    char what[400];
    node *n = NULL;
    int given = 0;
    OT_TRY(new_node(r, NODE_CALL, &n, err));
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        if (strcmp(methods[i].name, name) == 0 && (filter ? methods[i].as_filter : methods[i].as_method)) n->method = &methods[i];
    }
    if (n->method == NULL) {
        snprintf(what, sizeof what, "there is no %s %.60s (known:", filter ? "filter" : "method", name);
        for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
            if (!(filter ? methods[i].as_filter : methods[i].as_method)) continue;
            size_t used = strlen(what);
            snprintf(what + used, sizeof what - used, " %s", methods[i].name);
        }
        size_t used = strlen(what);
        snprintf(what + used, sizeof what - used, ")");
        return wrong(r, err, what);
    }
    n->left = *expression;
    if (take(r, '(')) {
        for (skip_space(r); *r->at != ')' && given < 2; given++) {
            OT_TRY(read_expression(r, given == 0 ? &n->right : &n->third, err));
            if (!take(r, ',')) {
                given++;
                break;
            }
        }
        if (!take(r, ')')) return wrong(r, err, "the brackets of a call are not closed");
    }
    if (given < n->method->least || given > n->method->most) return wrong(r, err, "a call with too few or too many arguments");
    *expression = n;
    return OT_OK;
}

static ot_status read_member(reader *r, node **expression, ot_error *err) {
    const char *name = NULL;
    OT_TRY(read_name(r, &name, err));
    skip_space(r);
    if (*r->at == '(') return read_call(r, name, false, expression, err);
    node *n = NULL;
    OT_TRY(new_node(r, NODE_MEMBER, &n, err));
    n->left = *expression;
    n->name = name;
    *expression = n;
    return OT_OK;
}

/* [index], or [from:to] with either left out. */
static ot_status read_entry(reader *r, node **expression, ot_error *err) {
    node *n = NULL;
    OT_TRY(new_node(r, NODE_ENTRY, &n, err));
    n->left = *expression;
    skip_space(r);
    if (*r->at != ':') OT_TRY(read_expression(r, &n->right, err));
    if (take(r, ':')) {
        n->kind = NODE_SLICE;
        skip_space(r);
        if (*r->at != ']') OT_TRY(read_expression(r, &n->third, err));
    }
    if (!take(r, ']')) return wrong(r, err, "an index is not closed");
    *expression = n;
    return OT_OK;
}

static ot_status read_postfix(reader *r, node **out, ot_error *err) {
    OT_TRY(read_primary(r, out, err));
    for (int steps = 0;; steps++) {
        if (steps > MAX_DEPTH) return wrong(r, err, "an expression is too long");
        if (take(r, '.')) {
            OT_TRY(read_member(r, out, err));
        } else if (take(r, '[')) {
            OT_TRY(read_entry(r, out, err));
        } else if (take(r, '|')) {
            const char *name = NULL;
            skip_space(r);
            OT_TRY(read_name(r, &name, err));
            OT_TRY(read_call(r, name, true, out, err));
        } else {
            return OT_OK;
        }
    }
}

static ot_status read_sum(reader *r, node **out, ot_error *err) {
    OT_TRY(read_postfix(r, out, err));
    for (int terms = 0;; terms++) {
        skip_space(r);
        if ((*r->at != '+' && *r->at != '-') || r->at[1] == '}') return OT_OK;
        if (terms > MAX_DEPTH) return wrong(r, err, "an expression is too long");
        node *n = NULL;
        OT_TRY(new_node(r, *r->at++ == '+' ? NODE_ADD : NODE_SUBTRACT, &n, err));
        n->left = *out;
        OT_TRY(read_postfix(r, &n->right, err));
        *out = n;
    }
}

static bool take_word(reader *r, const char *word) {
    size_t n = strlen(word);
    skip_space(r);
    if (strncmp(r->at, word, n) != 0 || name_goes_on(r->at[n])) return false;
    r->at += n;
    return true;
}

static ot_status read_comparison(reader *r, node **out, ot_error *err) {
    OT_TRY(read_sum(r, out, err));
    skip_space(r);
    if ((*r->at != '=' && *r->at != '!') || r->at[1] != '=') return OT_OK;
    node *n = NULL;
    OT_TRY(new_node(r, *r->at == '=' ? NODE_EQUAL : NODE_UNEQUAL, &n, err));
    r->at += 2;
    n->left = *out;
    *out = n;
    return read_sum(r, &n->right, err);
}

/* VALUE [if CONDITION else VALUE] */
static ot_status read_expression(reader *r, node **out, ot_error *err) {
    if (++r->depth > MAX_DEPTH) return wrong(r, err, "an expression is nested too deeply");
    OT_TRY(read_comparison(r, out, err));
    if (take_word(r, "if")) {
        node *n = NULL;
        OT_TRY(new_node(r, NODE_IF, &n, err));
        n->left = *out;
        OT_TRY(read_comparison(r, &n->right, err));
        if (!take_word(r, "else")) return wrong(r, err, "the else of a condition is missing");
        OT_TRY(read_expression(r, &n->third, err));
        *out = n;
    }
    r->depth--;
    return OT_OK;
}

static ot_status read_piece(reader *r, piece *p, ot_error *err) {
    const char *from = r->at;
    if (from[0] == '{' && from[1] == '{') {
        r->at += 2;
        if (*r->at == '-' || *r->at == '+') return wrong(r, err, "white space control ({{-) is not supported");
        OT_TRY(read_expression(r, &p->expression, err));
        skip_space(r);
        if (r->at[0] == '-' && r->at[1] == '}') return wrong(r, err, "white space control (-}}) is not supported");
        if (r->at[0] != '}' || r->at[1] != '}') {
            return wrong(
                r, err,
                "this is not understood in {{ }}: fields, members, entries, + and -, methods, filters and conditions are");
        }
        r->at += 2;
        return OT_OK;
    }
    for (; *r->at != '\0'; r->at++) {
        if (r->at[0] != '{') continue;
        if (r->at[1] == '{') break;
        if (r->at[1] == '%') return wrong(r, err, "statements ({% %}) are not supported: prepare the field in the rows");
        if (r->at[1] == '#') return wrong(r, err, "comments ({# #}) are not supported");
    }
    p->text = (ot_str){from, r->at - from};
    return OT_OK;
}

ot_status ot_template_parse(const char *text, ot_arena *arena, ot_template **out, ot_error *err) {
    reader r = {.text = text, .at = text, .arena = arena};
    ot_template *t = ot_arena_alloc(arena, sizeof *t, err);
    if (t == NULL) return OT_ERR_MEMORY;
    t->text = text;
    for (piece **link = &t->first; *r.at != '\0'; link = &(*link)->next) {
        *link = ot_arena_alloc(arena, sizeof **link, err);
        if (*link == NULL) return OT_ERR_MEMORY;
        OT_TRY(read_piece(&r, *link, err));
        t->pieces++;
    }
    *out = t;
    return OT_OK;
}

bool ot_template_is_value(const ot_template *t) { return t->pieces == 1 && t->first->expression != NULL; }
const char *ot_template_text(const ot_template *t) { return t->text; }

/* ==== Python's str(). ==== */

typedef struct writer {
    char *text;
    int64_t size, capacity;
    ot_error *err;
    ot_status status;
} writer;

static void put(writer *w, const char *text, int64_t size) {
    if (w->status == OT_OK)
        w->status = ot_grow((void **)&w->text, &w->capacity, w->size + size + 1, 1, "a template's text", w->err);
    if (w->status != OT_OK || size == 0) return;
    memcpy(w->text + w->size, text, (size_t)size);
    w->size += size;
}

static void put_words(writer *w, const char *text) { put(w, text, (int64_t)strlen(text)); }

/* repr() of a text: in single quotes unless it holds one and no double quote. */
static void put_quoted(writer *w, ot_str s) {
    bool has_single = memchr(s.text, '\'', (size_t)s.size) != NULL, has_double = memchr(s.text, '"', (size_t)s.size) != NULL;
    char quote = has_single && !has_double ? '"' : '\'', escape[8];
    put(w, &quote, 1);
    for (int64_t i = 0; i < s.size; i++) {
        unsigned char c = (unsigned char)s.text[i];
        if (c == (unsigned char)quote || c == '\\') snprintf(escape, sizeof escape, "\\%c", c);
        else if (c == '\n') snprintf(escape, sizeof escape, "\\n");
        else if (c == '\t') snprintf(escape, sizeof escape, "\\t");
        else if (c == '\r') snprintf(escape, sizeof escape, "\\r");
        else if (c < 0x20 || c == 0x7F) snprintf(escape, sizeof escape, "\\x%02x", c);
        else snprintf(escape, sizeof escape, "%c", c);
        put_words(w, escape);
    }
    put(w, &quote, 1);
}

static void put_value(writer *w, const json_t *value, bool quoted) {
    if (json_is_string(value)) {
        if (quoted) put_quoted(w, ot_json_text(value));
        else put(w, json_string_value(value), (int64_t)json_string_length(value));
    } else if (json_is_integer(value)) {
        char digits[24];
        snprintf(digits, sizeof digits, "%" PRId64, (int64_t)json_integer_value(value));
        put_words(w, digits);
    } else if (json_is_real(value)) {
        char digits[OT_PY_FLOAT];
        ot_py_float(json_real_value(value), digits);
        put_words(w, digits);
    } else if (json_is_array(value)) {
        put_words(w, "[");
        for (size_t i = 0; i < json_array_size(value); i++) {
            if (i > 0) put_words(w, ", ");
            put_value(w, json_array_get(value, i), true);
        }
        put_words(w, "]");
    } else if (json_is_object(value)) {
        const char *key = NULL, *between = "{";
        json_t *item = NULL;
        json_object_foreach((json_t *)(uintptr_t)value, key, item) {
            put_words(w, between);
            put_quoted(w, ot_str_of(key));
            put_words(w, ": ");
            put_value(w, item, true);
            between = ", ";
        }
        put_words(w, json_object_size(value) > 0 ? "}" : "{}");
    } else {
        put_words(w, json_is_true(value) ? "True" : json_is_false(value) ? "False" : "None");
    }
}

ot_status ot_py_text_of(const json_t *value, ot_arena *arena, ot_str *out, ot_error *err) {
    writer w = {.err = err};
    put_value(&w, value, false);
    ot_str text = {w.text != NULL ? w.text : "", w.size};
    ot_status status = w.status == OT_OK ? ot_str_join(arena, &text, 1, out, err) : w.status;
    free(w.text);
    return status;
}

/* ==== Values. ==== */

typedef struct scope {
    const ot_row *row;
    ot_arena arena; /* of methods */
} scope;

static ot_status value_of(scope *s, const node *n, json_t **out, ot_error *err);

static ot_status member(const scope *s, const json_t *of, const char *name, json_t **out, ot_error *err) {
    json_t *found = json_object_get(of, name);
    if (found == NULL && of == s->row->value) return ot_row_fail(s->row, err, "the field \"%s\" is missing", name);
    if (found == NULL) return ot_row_fail(s->row, err, "%s has no \"%s\"", kind_of(of), name);
    *out = json_incref(found);
    return OT_OK;
}

static ot_status entry(const scope *s, const json_t *of, const json_t *index, json_t **out, ot_error *err) {
    int64_t i = 0, n = (int64_t)json_array_size(of);
    if (json_is_string(index)) return member(s, of, json_string_value(index), out, err);
    if (!whole_number(index, &i) || !json_is_array(of))
        return ot_row_fail(s->row, err, "the template takes an entry of %s by %s", kind_of(of), kind_of(index));
    if (i < -n || i >= n) return ot_row_fail(s->row, err, "the template takes entry %" PRId64 " of a list of %" PRId64, i, n);
    *out = json_incref(json_array_get(of, (size_t)(i < 0 ? i + n : i)));
    return OT_OK;
}

static ot_status border(const scope *s, const json_t *value, int64_t n, int64_t otherwise, int64_t *out, ot_error *err) {
    int64_t i = otherwise;
    if (value != NULL && !whole_number(value, &i))
        return ot_row_fail(s->row, err, "the template cuts a list at %s", kind_of(value));
    if (i < 0) i = i < -n ? 0 : i + n;
    *out = i < n ? i : n;
    return OT_OK;
}

static ot_status slice(const scope *s, const json_t *of, const json_t *first, const json_t *end, json_t **out, ot_error *err) {
    int64_t n = (int64_t)json_array_size(of), from = 0, to = 0;
    if (!json_is_array(of)) return ot_row_fail(s->row, err, "the template cuts %s; it can cut lists", kind_of(of));
    OT_TRY(border(s, first, n, 0, &from, err));
    OT_TRY(border(s, end, n, n, &to, err));
    OT_TRY(made(json_array(), out, err));
    for (int64_t i = from; i < to; i++) json_array_append(*out, json_array_get(of, (size_t)i));
    return OT_OK;
}

static ot_status sum(const scope *s, const node *n, const json_t *a, const json_t *b, json_t **out, ot_error *err) {
    int64_t x = 0, y = 0, z = 0;
    if (whole_number(a, &x) && whole_number(b, &y)) {
        bool fits = n->kind == NODE_ADD ? !__builtin_add_overflow(x, y, &z) : !__builtin_sub_overflow(x, y, &z);
        return fits ? made(json_integer(z), out, err) : ot_row_fail(s->row, err, "a number of the template is too large");
    }
    if (n->kind == NODE_ADD && json_is_string(a) && json_is_string(b)) {
        return made(json_pack("s%+%", json_string_value(a), json_string_length(a), json_string_value(b), json_string_length(b)),
                    out, err);
    }
    return ot_row_fail(s->row, err, "the template %s %s and %s", n->kind == NODE_ADD ? "adds" : "subtracts", kind_of(a),
                       kind_of(b));
}

static ot_status list(scope *s, const node *n, json_t **out, ot_error *err) {
    OT_TRY(made(json_array(), out, err));
    for (const node *item = n->left; item != NULL; item = item->next) {
        json_t *value = NULL;
        ot_status status = value_of(s, item, &value, err);
        if (status == OT_OK && json_array_append_new(*out, value) != 0) status = ot_fail_memory(err, 64, "a template's list");
        if (status != OT_OK) {
            json_decref(*out);
            return status;
        }
    }
    return OT_OK;
}

static bool number_of(const json_t *value, double *out) {
    int64_t whole = 0;
    if (json_is_real(value)) *out = json_real_value(value);
    else if (whole_number(value, &whole)) *out = (double)whole;
    else return false;
    return true;
}

/* As in Python 1, 1.0 and True are equal. */
static bool equal(const json_t *a, const json_t *b) {
    double x = 0, y = 0;
    return number_of(a, &x) && number_of(b, &y) ? x == y : json_equal(a, b) == 1;
}

/* What is not empty, zero, false or null. */
static bool is_true(const json_t *value) {
    double number = 0;
    if (number_of(value, &number)) return number != 0;
    return json_string_length(value) > 0 || json_array_size(value) > 0 || json_object_size(value) > 0;
}

/* Only the branch that counts is evaluated: the other may ask for what is not there. */
static ot_status choose(scope *s, const node *n, json_t **out, ot_error *err) {
    json_t *condition = NULL;
    OT_TRY(value_of(s, n->right, &condition, err));
    bool holds = is_true(condition);
    json_decref(condition);
    return value_of(s, holds ? n->left : n->third, out, err);
}

static ot_status with_operands(scope *s, const node *n, json_t *const operands[3], json_t **out, ot_error *err) {
    switch (n->kind) {
    case NODE_MEMBER: return member(s, operands[0], n->name, out, err);
    case NODE_ENTRY: return entry(s, operands[0], operands[1], out, err);
    case NODE_EQUAL: return made(json_boolean(equal(operands[0], operands[1])), out, err);
    case NODE_UNEQUAL: return made(json_boolean(!equal(operands[0], operands[1])), out, err);
    case NODE_SLICE: return slice(s, operands[0], operands[1], operands[2], out, err);
    case NODE_CALL:
        return n->method->run(&(call){.row = s->row, .arena = &s->arena, .self = operands[0], .a = operands[1], .b = operands[2]},
                              out, err);
    default: return sum(s, n, operands[0], operands[1], out, err);
    }
}

static ot_status value_of(scope *s, const node *n, json_t **out, ot_error *err) {
    *out = NULL;
    if (n->kind == NODE_VALUE)
        return n->is_number ? made(json_integer(n->number), out, err) : text_value(ot_str_of(n->name), out, err);
    if (n->kind == NODE_CONSTANT) return made(n->number == 0 ? json_null() : json_boolean(n->number == 1), out, err);
    if (n->kind == NODE_FIELD) return member(s, s->row->value, n->name, out, err);
    if (n->kind == NODE_LIST) return list(s, n, out, err);
    if (n->kind == NODE_IF) return choose(s, n, out, err);
    json_t *operands[3] = {NULL, NULL, NULL};
    ot_status status = value_of(s, n->left, &operands[0], err);
    if (status == OT_OK && n->right != NULL) status = value_of(s, n->right, &operands[1], err);
    if (status == OT_OK && n->third != NULL) status = value_of(s, n->third, &operands[2], err);
    if (status == OT_OK) status = with_operands(s, n, operands, out, err);
    for (int i = 0; i < 3; i++) json_decref(operands[i]);
    return status;
}

ot_status ot_template_value(const ot_template *t, const ot_row *row, json_t **out, ot_error *err) {
    scope s = {.row = row};
    ot_status status = value_of(&s, t->first->expression, out, err);
    ot_arena_free(&s.arena);
    return status;
}

ot_status ot_template_render(const ot_template *t, const ot_row *row, ot_arena *arena, ot_str *out, ot_error *err) {
    ot_str *parts = ot_arena_alloc(arena, (t->pieces + 1) * (int64_t)sizeof *parts, err);
    int64_t n = 0;
    if (parts == NULL) return OT_ERR_MEMORY;
    for (const piece *p = t->first; p != NULL; p = p->next) {
        if (p->expression == NULL) {
            parts[n++] = p->text;
            continue;
        }
        scope s = {.row = row};
        json_t *value = NULL;
        ot_status status = value_of(&s, p->expression, &value, err);
        if (status == OT_OK) status = ot_py_text_of(value, arena, &parts[n++], err);
        json_decref(value);
        ot_arena_free(&s.arena);
        OT_TRY(status);
    }
    return ot_str_join(arena, parts, n, out, err);
}
