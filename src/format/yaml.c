#include "format/yaml.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <yaml.h>

#include "base/file.h"

enum { YAML_LIMIT = 1 << 20, MAX_DEPTH = 32, MAX_NODES = 1 << 16 };

typedef struct reader {
    const char *name;
    ot_arena *arena;
    yaml_parser_t parser;
    yaml_event_t event;
    bool has_event;
    int64_t nodes;
} reader;

__attribute__((format(printf, 3, 4))) static ot_status refuse(const reader *r, ot_error *err, const char *format, ...) {
    char text[OT_ERROR_TEXT];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    return ot_fail(err, OT_ERR_FORMAT, "%s:%zu: %s", r->name, r->event.start_mark.line + 1, text);
}

static ot_status next_event(reader *r, ot_error *err) {
    if (r->has_event) yaml_event_delete(&r->event);
    r->has_event = false;
    if (!yaml_parser_parse(&r->parser, &r->event)) {
        if (r->parser.error == YAML_MEMORY_ERROR) return ot_fail_memory(err, YAML_LIMIT, "a YAML file");
        if (r->parser.error == YAML_READER_ERROR) {
            return ot_fail_at(err, OT_ERR_FORMAT, (int64_t)r->parser.problem_offset, "%s: not UTF-8 text at byte %zu: %s",
                              r->name, r->parser.problem_offset, r->parser.problem);
        }
        return ot_fail(err, OT_ERR_FORMAT, "%s:%zu: not valid YAML: %s", r->name, r->parser.problem_mark.line + 1,
                       r->parser.problem);
    }
    r->has_event = true;
    return OT_OK;
}

static ot_status plain_node(const reader *r, const yaml_char_t *anchor, const yaml_char_t *tag, ot_error *err) {
    if (anchor != NULL) return refuse(r, err, "anchors such as &%.60s are not supported", (const char *)anchor);
    if (tag != NULL) return refuse(r, err, "tags such as %.60s are not supported: write the value itself", (const char *)tag);
    return OT_OK;
}

static ot_status scalar_text(reader *r, const char **out, ot_error *err) {
    const char *value = (const char *)r->event.data.scalar.value;
    OT_TRY(plain_node(r, r->event.data.scalar.anchor, r->event.data.scalar.tag, err));
    if (strlen(value) != r->event.data.scalar.length) return refuse(r, err, "a text holds a NUL character");
    *out = ot_arena_strdup(r->arena, value, err);
    return *out == NULL ? OT_ERR_MEMORY : OT_OK;
}

static ot_status read_node(reader *r, int depth, ot_yaml *out, ot_error *err);

static ot_status add_child(reader *r, ot_yaml *parent, ot_yaml **last, ot_yaml **child, ot_error *err) {
    if (++r->nodes > MAX_NODES) return refuse(r, err, "more than %d values", MAX_NODES);
    *child = ot_arena_alloc(r->arena, sizeof **child, err);
    if (*child == NULL) return OT_ERR_MEMORY;
    if (*last == NULL) parent->first = *child;
    else (*last)->next = *child;
    *last = *child;
    parent->count++;
    return OT_OK;
}

static ot_status read_list(reader *r, int depth, ot_yaml *out, ot_error *err) {
    ot_yaml *last = NULL, *child = NULL;
    OT_TRY(plain_node(r, r->event.data.sequence_start.anchor, r->event.data.sequence_start.tag, err));
    for (;;) {
        OT_TRY(next_event(r, err));
        if (r->event.type == YAML_SEQUENCE_END_EVENT) return OT_OK;
        OT_TRY(add_child(r, out, &last, &child, err));
        OT_TRY(read_node(r, depth + 1, child, err));
    }
}

static ot_status read_map(reader *r, int depth, ot_yaml *out, ot_error *err) {
    ot_yaml *last = NULL, *child = NULL;
    OT_TRY(plain_node(r, r->event.data.mapping_start.anchor, r->event.data.mapping_start.tag, err));
    for (;;) {
        const char *key = NULL;
        OT_TRY(next_event(r, err));
        if (r->event.type == YAML_MAPPING_END_EVENT) return OT_OK;
        if (r->event.type != YAML_SCALAR_EVENT) return refuse(r, err, "a key must be one word or text");
        OT_TRY(scalar_text(r, &key, err));
        for (const ot_yaml *other = out->first; other != NULL; other = other->next) {
            if (strcmp(other->key, key) == 0) return refuse(r, err, "'%.100s' is given twice", key);
        }
        OT_TRY(add_child(r, out, &last, &child, err));
        child->key = key;
        OT_TRY(next_event(r, err));
        OT_TRY(read_node(r, depth + 1, child, err));
    }
}

/* The node's first event is current. */
static ot_status read_node(reader *r, int depth, ot_yaml *out, ot_error *err) {
    if (depth > MAX_DEPTH) return refuse(r, err, "nested deeper than %d levels", MAX_DEPTH);
    out->line = (int64_t)r->event.start_mark.line + 1;
    switch (r->event.type) {
    case YAML_SCALAR_EVENT:
        out->kind = OT_YAML_SCALAR;
        out->quoted = r->event.data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
        return scalar_text(r, &out->text, err);
    case YAML_SEQUENCE_START_EVENT: out->kind = OT_YAML_LIST; return read_list(r, depth, out, err);
    case YAML_MAPPING_START_EVENT: out->kind = OT_YAML_MAP; return read_map(r, depth, out, err);
    case YAML_ALIAS_EVENT:
        return refuse(r, err, "aliases such as *%.60s are not supported", (const char *)r->event.data.alias.anchor);
    default: return refuse(r, err, "a value is missing");
    }
}

static ot_status read_stream(reader *r, ot_yaml *out, ot_error *err) {
    OT_TRY(next_event(r, err)); /* stream start */
    OT_TRY(next_event(r, err));
    *out = (ot_yaml){.kind = OT_YAML_MAP, .line = 1};
    if (r->event.type == YAML_STREAM_END_EVENT) return OT_OK;
    OT_TRY(next_event(r, err));
    OT_TRY(read_node(r, 0, out, err));
    OT_TRY(next_event(r, err)); /* document end */
    OT_TRY(next_event(r, err));
    return r->event.type == YAML_STREAM_END_EVENT ? OT_OK : refuse(r, err, "a second YAML document begins; only one is read");
}

ot_status ot_yaml_parse(const char *text, int64_t size, const char *name, ot_arena *arena, ot_yaml **out, ot_error *err) {
    reader r = {.name = name, .arena = arena};
    if (size > YAML_LIMIT)
        return ot_fail(err, OT_ERR_FORMAT, "%s has %" PRId64 " bytes; %d at most are read", name, size, YAML_LIMIT);
    *out = ot_arena_alloc(arena, sizeof **out, err);
    if (*out == NULL) return OT_ERR_MEMORY;
    if (!yaml_parser_initialize(&r.parser)) return ot_fail_memory(err, YAML_LIMIT, "a YAML file");
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, (size_t)size);
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    ot_status status = read_stream(&r, *out, err);
    if (r.has_event) yaml_event_delete(&r.event);
    yaml_parser_delete(&r.parser);
    return status;
}

ot_status ot_yaml_read(const char *path, ot_arena *arena, ot_yaml **out, ot_error *err) {
    char *text = NULL;
    int64_t size = 0;
    OT_TRY(ot_read_file(path, YAML_LIMIT, &text, &size, err));
    ot_status status = ot_yaml_parse(text, size, path, arena, out, err);
    ot_free(text);
    return status;
}

/* ==== Values. ==== */

bool ot_yaml_is_null(const ot_yaml *value) {
    return value->kind == OT_YAML_SCALAR && !value->quoted &&
           (*value->text == '\0' || strcmp(value->text, "~") == 0 || strcmp(value->text, "null") == 0);
}

const ot_yaml *ot_yaml_get(const ot_yaml *map, const char *key) {
    if (map->kind != OT_YAML_MAP) return NULL;
    for (const ot_yaml *item = map->first; item != NULL; item = item->next) {
        if (strcmp(item->key, key) == 0) return ot_yaml_is_null(item) ? NULL : item;
    }
    return NULL;
}

ot_status ot_yaml_fail(const ot_yaml *at, const char *name, ot_error *err, const char *format, ...) {
    char text[OT_ERROR_TEXT];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    return ot_fail(err, OT_ERR_FORMAT, "%s:%" PRId64 ": %s", name, at->line, text);
}

ot_status ot_yaml_text(const ot_yaml *value, const char *name, const char *what, const char **out, ot_error *err) {
    if (value->kind != OT_YAML_SCALAR || ot_yaml_is_null(value))
        return ot_yaml_fail(value, name, err, "'%s' must be one text", what);
    *out = value->text;
    return OT_OK;
}

ot_status ot_yaml_i64(const ot_yaml *value, const char *name, const char *what, int64_t min, int64_t max, int64_t *out,
                      ot_error *err) {
    char *end = NULL;
    errno = 0;
    bool scalar = value->kind == OT_YAML_SCALAR && !value->quoted && *value->text != '\0';
    long long number = scalar ? strtoll(value->text, &end, 10) : 0;
    if (!scalar || *end != '\0' || errno != 0 || number < min || number > max) {
        return ot_yaml_fail(value, name, err, "'%s' must be a whole number from %" PRId64 " to %" PRId64, what, min, max);
    }
    *out = number;
    return OT_OK;
}

ot_status ot_yaml_bool(const ot_yaml *value, const char *name, const char *what, bool *out, ot_error *err) {
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on"};
    for (size_t i = 0; value->kind == OT_YAML_SCALAR && !value->quoted && i < sizeof words / sizeof *words; i++) {
        if (strcasecmp(value->text, words[i]) != 0) continue;
        *out = i % 2 == 1;
        return OT_OK;
    }
    return ot_yaml_fail(value, name, err, "'%s' must be true or false", what);
}
