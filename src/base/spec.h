/* Method strings: "name:key=value,key=value|name" for emulators and tuning methods. What exists is a const table of methods with their
 * keys, ranges and defaults; parsing, errors and help all come from it. */
#ifndef OT_BASE_SPEC_H
#define OT_BASE_SPEC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

typedef enum ot_spec_kind { OT_SPEC_NUMBER, OT_SPEC_INTEGER, OT_SPEC_WORD } ot_spec_kind;

typedef struct ot_spec_key {
    const char *name; /* NULL ends the table */
    ot_spec_kind kind;
    const char *fallback; /* default as text, NULL: none (0, "") */
    double min, max;      /* inclusive, for numbers */
    const char *help;
} ot_spec_key;

typedef struct ot_spec_method {
    const char *name;
    const char *help;
    const ot_spec_key *keys;
} ot_spec_method;

enum { OT_SPEC_MAX_STEPS = 16, OT_SPEC_MAX_KEYS = 16, OT_SPEC_TEXT = 1024 };

typedef struct ot_spec_value {
    bool given;
    double number;
    const char *word; /* for WORD keys, points into the spec's text */
} ot_spec_value;

typedef struct ot_spec_step {
    int32_t method; /* index in the table */
    ot_spec_value values[OT_SPEC_MAX_KEYS]; /* in the order of the method's keys */
} ot_spec_step;

typedef struct ot_spec {
    int32_t n_steps;
    ot_spec_step steps[OT_SPEC_MAX_STEPS];
    char text[OT_SPEC_TEXT]; /* cut into words */
} ot_spec;

/* methods: NULL-terminated. what: "--emulator", for messages. A comma inside a WORD value is allowed when the next part has no '='
 * (list=2,5,8). Errors are OT_ERR_USAGE and name the nearest known method or key. */
ot_status ot_spec_parse(const char *text, const char *what, const ot_spec_method *const *methods, ot_spec *out, ot_error *err);
/* Value of a key by name; the table guarantees that it exists. */
const ot_spec_value *ot_spec_get(const ot_spec_step *step, const ot_spec_method *method, const char *key);

#endif
