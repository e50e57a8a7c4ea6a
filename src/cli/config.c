/* Reading by libyaml's events (so anchors, tags and nesting can be refused where they stand) and writing by hand. */
#include "cli/config.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/file.h"
#include "cli/suggest.h"
#include "cli/text.h"

enum { CONFIG_LIMIT = 1 << 20 };

typedef struct config_reader {
    ot_args *args;
    const char *path;
    yaml_parser_t parser;
    yaml_event_t event;
    bool has_event;
} config_reader;

/* The status in plain sight of readers and of the analyser. */
#define REFUSE(r, ...) (refuse(r, err, __VA_ARGS__), OT_ERR_USAGE)

__attribute__((format(printf, 3, 4))) static void refuse(const config_reader *r, ot_error *err, const char *format, ...) {
    char text[OT_ERROR_TEXT];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    (void)ot_fail(err, OT_ERR_USAGE, "%s:%zu: %s", r->path, r->event.start_mark.line + 1, text);
}

static ot_status next_event(config_reader *r, ot_error *err) {
    if (r->has_event) yaml_event_delete(&r->event);
    r->has_event = false;
    if (!yaml_parser_parse(&r->parser, &r->event)) {
        size_t line = r->parser.problem_mark.line + 1;
        if (r->parser.error == YAML_MEMORY_ERROR) return ot_fail_memory(err, CONFIG_LIMIT, "the config file");
        if (r->parser.error == YAML_READER_ERROR) {
            return ot_fail_at(err, OT_ERR_USAGE, (int64_t)r->parser.problem_offset, "%s: not UTF-8 text at byte %zu: %s", r->path,
                              r->parser.problem_offset, r->parser.problem);
        }
        return ot_fail(err, OT_ERR_USAGE, "%s:%zu: not valid YAML: %s", r->path, line, r->parser.problem);
    }
    r->has_event = true;
    return OT_OK;
}

/* A scalar's text. YAML's plain `null` is no value here: an option without a value is left out of the file. */
static ot_status scalar_text(config_reader *r, const char *key, const char **text, ot_error *err) {
    if (r->event.type == YAML_ALIAS_EVENT) return REFUSE(r, "'%s': aliases are not supported", key);
    if (r->event.type != YAML_SCALAR_EVENT) {
        return REFUSE(r, "'%s' must be one value or a list of values, not something nested", key);
    }
    if (r->event.data.scalar.anchor != NULL) return REFUSE(r, "'%s': anchors are not supported", key);
    if (r->event.data.scalar.tag != NULL) return REFUSE(r, "'%s': tags are not supported", key);
    const char *value = (const char *)r->event.data.scalar.value;
    if (strlen(value) != r->event.data.scalar.length) return REFUSE(r, "'%s' holds a NUL character", key);
    if (r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
        (*value == '\0' || strcmp(value, "~") == 0 || strcmp(value, "null") == 0)) {
        return REFUSE(r, "'%s' has no value; leave the line out for the default, or write \"\" for an empty text", key);
    }
    *text = value;
    return OT_OK;
}

static ot_status find_slot(config_reader *r, const char *key, ot_arg_slot **out, ot_error *err) {
    ot_arg_slot *slot = ot_args_slot(r->args, key);
    if (slot != NULL) {
        if (strcmp(key, "help") == 0 || strcmp(key, "config") == 0) return REFUSE(r, "'%s' belongs on the command line", key);
        *out = slot;
        return OT_OK;
    }
    if (strncmp(key, "no-", 3) == 0) {
        slot = ot_args_slot(r->args, key + 3);
        if (slot != NULL && slot->option.kind == OT_KIND_FLAG)
            return REFUSE(r, "unknown option '%s'; write '%s: no'", key, key + 3);
    }
    if (strncmp(key, "--", 2) == 0 && ot_args_slot(r->args, key + 2) != NULL) {
        return REFUSE(r, "unknown option '%s'; write '%s' without dashes", key, key + 2);
    }
    const char *near = ot_args_nearest(r->args, key);
    if (near != NULL) return REFUSE(r, "unknown option '%s'; did you mean '%s'?", key, near);
    return REFUSE(r, "unknown option '%s'; 'offsite %s --help' lists the options", key, r->args->verb->name);
}

static ot_status add_value(config_reader *r, ot_arg_slot *slot, const char *text, ot_error *err) {
    char label[OT_ERROR_TEXT / 2];
    snprintf(label, sizeof label, "%s:%zu: %s", r->path, r->event.start_mark.line + 1, slot->option.name);
    return ot_arg_slot_add(r->args, slot, label, text, err);
}

/* The event after the key is current. Values of an option given on the command line are checked all the same. */
static ot_status read_value(config_reader *r, ot_arg_slot *slot, ot_error *err) {
    const ot_option *o = &slot->option;
    const char *text = NULL;
    ot_arg_slot scratch = {.option = *o};
    ot_arg_slot *into = slot->source == OT_FROM_COMMAND_LINE ? &scratch : slot;
    if (into == slot) slot->source = OT_FROM_CONFIG;
    if (r->event.type != YAML_SEQUENCE_START_EVENT) {
        OT_TRY(scalar_text(r, o->name, &text, err));
        return add_value(r, into, text, err);
    }
    if (!o->repeatable && !o->commas) return REFUSE(r, "'%s' takes one value, not a list", o->name);
    if (r->event.data.sequence_start.anchor != NULL) return REFUSE(r, "'%s': anchors are not supported", o->name);
    if (r->event.data.sequence_start.tag != NULL) return REFUSE(r, "'%s': tags are not supported", o->name);
    for (;;) {
        OT_TRY(next_event(r, err));
        if (r->event.type == YAML_SEQUENCE_END_EVENT) return OT_OK;
        OT_TRY(scalar_text(r, o->name, &text, err));
        OT_TRY(add_value(r, into, text, err));
    }
}

static ot_status read_mapping(config_reader *r, bool *seen, ot_error *err) {
    if (r->event.data.mapping_start.anchor != NULL) return REFUSE(r, "anchors are not supported");
    if (r->event.data.mapping_start.tag != NULL) return REFUSE(r, "tags are not supported");
    for (;;) {
        OT_TRY(next_event(r, err));
        if (r->event.type == YAML_MAPPING_END_EVENT) return OT_OK;
        if (r->event.type != YAML_SCALAR_EVENT || r->event.data.scalar.anchor != NULL || r->event.data.scalar.tag != NULL) {
            return REFUSE(r, "a key must be the plain name of an option");
        }
        const char *key = (const char *)r->event.data.scalar.value;
        if (strlen(key) != r->event.data.scalar.length) return REFUSE(r, "a key holds a NUL character");
        ot_arg_slot *slot = NULL;
        OT_TRY(find_slot(r, key, &slot, err));
        if (seen[slot - r->args->slots]) return REFUSE(r, "'%s' is given twice", key);
        seen[slot - r->args->slots] = true;
        OT_TRY(next_event(r, err));
        OT_TRY(read_value(r, slot, err));
    }
}

static ot_status read_stream(config_reader *r, ot_error *err) {
    bool *seen = ot_arena_alloc(&r->args->arena, r->args->n_slots * (int64_t)sizeof *seen, err);
    if (seen == NULL) return OT_ERR_MEMORY;
    OT_TRY(next_event(r, err)); /* stream start */
    OT_TRY(next_event(r, err));
    if (r->event.type == YAML_STREAM_END_EVENT) return OT_OK; /* an empty file sets nothing */
    OT_TRY(next_event(r, err));
    if (r->event.type != YAML_MAPPING_START_EVENT) return REFUSE(r, "a config file holds lines 'option: value', nothing else");
    OT_TRY(read_mapping(r, seen, err));
    OT_TRY(next_event(r, err)); /* document end */
    OT_TRY(next_event(r, err));
    if (r->event.type != YAML_STREAM_END_EVENT) return REFUSE(r, "a config file holds one YAML document, not several");
    return OT_OK;
}

ot_status ot_config_parse(ot_args *args, const char *name, const char *text, int64_t size, ot_error *err) {
    config_reader r = {.args = args, .path = name};
    if (!yaml_parser_initialize(&r.parser)) return ot_fail_memory(err, CONFIG_LIMIT, "the config file");
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, (size_t)size);
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    ot_status status = read_stream(&r, err);
    if (r.has_event) yaml_event_delete(&r.event);
    yaml_parser_delete(&r.parser);
    return status;
}

ot_status ot_config_read(ot_args *args, const char *path, ot_error *err) {
    char *text = NULL;
    int64_t size = 0;
    OT_TRY(ot_read_file(path, CONFIG_LIMIT, &text, &size, err));
    ot_status status = ot_config_parse(args, path, text, size, err);
    ot_free(text);
    return status;
}

/* ==== Writing ==== */

/* Plain where nobody could read it otherwise than as this text; else double-quoted with escapes. */
static void write_scalar(FILE *f, const char *text) {
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./+-=";
    bool is_plain = *text != '\0' && text[strspn(text, plain)] == '\0' && strcmp(text, "null") != 0 && *text != '=' &&
                    (*text != '-' || (text[1] >= '0' && text[1] <= '9'));
    if (is_plain) {
        fputs(text, f);
        return;
    }
    fputc('"', f);
    for (const char *p = text; *p != '\0';) {
        int32_t c = ot_text_next(&p);
        if (c == '"' || c == '\\') {
            fprintf(f, "\\%c", (int)c);
        } else if (c < 0x20 || (c >= 0x7F && c < 0xA0)) {
            fprintf(f, "\\x%02X", (unsigned)c);
        } else if (c == 0x2028 || c == 0x2029 || c == 0xFEFF) {
            fprintf(f, "\\u%04X", (unsigned)c);
        } else {
            ot_text_put(f, c);
        }
    }
    fputc('"', f);
}

static void write_slot(FILE *f, const ot_arg_slot *slot) {
    fprintf(f, "%s: ", slot->option.name);
    if (slot->option.repeatable || slot->option.commas) {
        fputc('[', f);
        for (int64_t i = 0; i < slot->count; i++) {
            if (i > 0) fputs(", ", f);
            write_scalar(f, slot->values[i].text);
        }
        fputs("]\n", f);
        return;
    }
    write_scalar(f, slot->values[0].text);
    fputc('\n', f);
}

ot_status ot_config_write(const ot_args *args, ot_config_paths paths, char **text, size_t *size, ot_error *err) {
    *text = NULL;
    FILE *f = open_memstream(text, size);
    if (f == NULL) return ot_fail_memory(err, 4096, "the effective config");
    fprintf(f, "# offsite %s, version %s\n", args->verb->name, OFFSITE_VERSION);
    const ot_option_group *group = NULL;
    for (int64_t i = 0; i < args->n_slots; i++) {
        const ot_arg_slot *slot = &args->slots[i];
        if (slot->count == 0 || slot->option.transient) continue;
        if (paths == OT_CONFIG_FIXED && (slot->option.kind == OT_KIND_PATH || slot->option.adjustable)) continue;
        if (slot->group != group) fprintf(f, "\n# %s\n", slot->group->title);
        group = slot->group;
        write_slot(f, slot);
    }
    bool bad = ferror(f) != 0;
    if (fclose(f) != 0 || bad) {
        free(*text);
        *text = NULL;
        return ot_fail_memory(err, 4096, "the effective config");
    }
    return OT_OK;
}
