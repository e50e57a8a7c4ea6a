/* The parsed command line behind the getters of options.h: used by main, config files, help, and tests; verbs need only
 * options.h. */
#ifndef OT_CLI_ARGS_H
#define OT_CLI_ARGS_H

#include "base/mem.h"
#include "cli/options.h"

typedef enum ot_arg_source { OT_FROM_DEFAULT, OT_FROM_CONFIG, OT_FROM_COMMAND_LINE } ot_arg_source;

typedef struct ot_arg_value {
    const char *text;
    int64_t i; /* FLAG 0 or 1, I64, SIZE, index of an ENUM's choice */
    double f;
} ot_arg_value;

/* An option as one verb has it: the table's entry with the verb's override applied. */
typedef struct ot_arg_slot {
    ot_option option;
    const ot_option_group *group;
    ot_arg_source source;
    ot_arg_value *values;
    int64_t count, capacity;
} ot_arg_slot;

struct ot_args {
    const ot_verb *verb;
    ot_arg_slot *slots;
    int64_t n_slots;
    const char **operands;
    int64_t n_operands;
    bool help; /* --help was met: nothing behind it was looked at */
    ot_arena arena;
};

/* --help, --config, --quiet, --no-progress: every verb has them. */
extern const ot_option_group ot_options_general;

/* Options of a verb with the overrides applied and no values: for help, man, completion. Free with ot_args_free. */
ot_status ot_args_init(ot_args *args, const ot_verb *verb, ot_error *err);
/* argv[0] is the first word after the verb. Reads the config file too. args->help: print help, ignore the rest. */
ot_status ot_args_parse(ot_args *args, const ot_verb *verb, int argc, char *const *argv, ot_error *err);
void ot_args_free(ot_args *args);

/* Internal to parsing and config files. */
ot_arg_slot *ot_args_slot(ot_args *args, const char *name);
/* Parse `text` by the slot's kind and append it; `label` is how messages name the option ("--lr", "lr"). */
ot_status ot_arg_slot_add(ot_args *args, ot_arg_slot *slot, const char *label, const char *text, ot_error *err);
/* "X", "FILE": the placeholder shown in help. */
const char *ot_option_placeholder(const ot_option *option);
/* Is it a flag that is on unless --no-NAME is given? */
bool ot_option_is_negative(const ot_option *option);
/* The nearest option name of the verb, or NULL. */
const char *ot_args_nearest(const ot_args *args, const char *name);
/* "offsite tune OFFER -o DIR [OPTION...]" into text. */
void ot_verb_usage(const ot_verb *verb, char *text, size_t size);
/* Walks a verb's tables for slips; used by tests. */
ot_status ot_verb_check(const ot_verb *verb, ot_error *err);

#endif
