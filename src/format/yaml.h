/* YAML files as a tree, for the few files that people write by hand and that hold more than options (those are cli/config.h). A bounded subset:
 * mappings with unique text keys, lists, scalars; no anchors, aliases, tags or several documents. Nodes know their line, so that what reads them
 * can name it. */
#ifndef OT_FORMAT_YAML_H
#define OT_FORMAT_YAML_H

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"

typedef enum ot_yaml_kind { OT_YAML_SCALAR, OT_YAML_LIST, OT_YAML_MAP } ot_yaml_kind;

typedef struct ot_yaml ot_yaml;
struct ot_yaml {
    ot_yaml_kind kind;
    int64_t line;     /* from 1 */
    const char *key;  /* in a mapping, else NULL */
    const char *text; /* SCALAR: no NUL inside */
    bool quoted;      /* SCALAR: 3 is a number, "3" is a text */
    int64_t count;    /* LIST, MAP */
    ot_yaml *first, *next;
};

/* Nodes and texts are the arena's. `name` is for messages. At most 1 MiB, 32 levels, 65536 nodes; an empty file is an empty mapping. */
ot_status ot_yaml_parse(const char *text, int64_t size, const char *name, ot_arena *arena, ot_yaml **out, ot_error *err);
ot_status ot_yaml_read(const char *path, ot_arena *arena, ot_yaml **out, ot_error *err);

/* The value of a key; NULL when absent, or a plain null. */
const ot_yaml *ot_yaml_get(const ot_yaml *map, const char *key);
/* "NAME:LINE: ..." as a FORMAT error. */
ot_status ot_yaml_fail(const ot_yaml *at, const char *name, ot_error *err, const char *format, ...) __attribute__((format(printf, 4, 5)));
/* A plain (not quoted) null, ~ or nothing. */
bool ot_yaml_is_null(const ot_yaml *value);

/* A scalar as what it must be; `what` names it in the error. Booleans: true, false, yes, no, on, off. */
ot_status ot_yaml_text(const ot_yaml *value, const char *name, const char *what, const char **out, ot_error *err);
ot_status ot_yaml_i64(const ot_yaml *value, const char *name, const char *what, int64_t min, int64_t max, int64_t *out, ot_error *err);
ot_status ot_yaml_bool(const ot_yaml *value, const char *name, const char *what, bool *out, ot_error *err);

#endif
