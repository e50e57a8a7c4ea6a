/* Checks a verb's tables for slips that would only show in some user's run. Used by tests. */
#include <string.h>

#include "cli/args.h"

#define SLIP(...) ot_fail(err, OT_ERR_USAGE, __VA_ARGS__)

static bool is_sentence_part(const char *text) {
    return text != NULL && *text != '\0' && text[strlen(text) - 1] != '.' && strchr(text, '\n') == NULL;
}

static ot_status check_slot(ot_args *args, int64_t index, ot_error *err) {
    ot_arg_slot *slot = &args->slots[index];
    const ot_option *o = &slot->option;
    const char *verb = args->verb->name;
    if (!is_sentence_part(o->help)) return SLIP("%s: --%s lacks a help text of one line without full stop", verb, o->name);
    if (strncmp(o->name, "no-", 3) == 0) return SLIP("%s: --%s: name the flag without 'no-'", verb, o->name);
    if (o->name[strspn(o->name, "abcdefghijklmnopqrstuvwxyz0123456789-")] != '\0')
        return SLIP("%s: --%s: bad name", verb, o->name);
    if (o->kind == OT_KIND_ENUM && (o->choices == NULL || o->choices[0] == NULL))
        return SLIP("%s: --%s has no choices", verb, o->name);
    if (o->kind != OT_KIND_STRING && o->may_be_path) return SLIP("%s: --%s is no text that may be a path", verb, o->name);
    if (o->kind != OT_KIND_ENUM && o->choices != NULL) return SLIP("%s: --%s has choices but is no ENUM", verb, o->name);
    if (o->required && o->fallback != NULL) return SLIP("%s: --%s is required and has a default", verb, o->name);
    if (o->min > o->max) return SLIP("%s: --%s has its range reversed", verb, o->name);
    for (int64_t j = 0; j < index; j++) {
        const ot_option *other = &args->slots[j].option;
        if (strcmp(other->name, o->name) == 0) return SLIP("%s: --%s is declared twice", verb, o->name);
        if (o->letter != 0 && other->letter == o->letter) return SLIP("%s: -%c is declared twice", verb, o->letter);
    }
    if (o->fallback != NULL) OT_TRY(ot_arg_slot_add(args, slot, o->name, o->fallback, err));
    return OT_OK;
}

static ot_status check_args(ot_args *args, ot_error *err) {
    const ot_verb *v = args->verb;
    if (v->run == NULL) return SLIP("%s: nothing to run", v->name);
    if (!is_sentence_part(v->summary)) return SLIP("%s: the summary is not one line without full stop", v->name);
    for (int64_t i = 0; i < args->n_slots; i++) OT_TRY(check_slot(args, i, err));
    bool optional = false, repeated = false;
    for (const ot_operand *o = v->operands; o != NULL && o->name != NULL; o++) {
        if (repeated) return SLIP("%s: only the last argument may be repeated", v->name);
        if (optional && !o->optional) return SLIP("%s: %s is required behind an optional argument", v->name, o->name);
        if (!is_sentence_part(o->help)) return SLIP("%s: %s lacks a help text", v->name, o->name);
        if (o->kind == OT_KIND_ENUM && o->choices == NULL) return SLIP("%s: %s has no choices", v->name, o->name);
        optional = o->optional;
        repeated = o->repeated;
    }
    for (const ot_override *o = v->overrides; o != NULL && o->name != NULL; o++) {
        bool known = o->absent;
        for (int64_t i = 0; i < args->n_slots; i++) known = known || strcmp(args->slots[i].option.name, o->name) == 0;
        if (!known) return SLIP("%s: override of '%s', which no group has", v->name, o->name);
    }
    for (const ot_example *e = v->examples; e != NULL && e->what != NULL; e++) {
        if (!is_sentence_part(e->what)) return SLIP("%s: an example's sentence is not one line without full stop", v->name);
        if (e->command == NULL || strstr(e->command, "offsite ") == NULL) return SLIP("%s: an example has no command", v->name);
    }
    return OT_OK;
}

ot_status ot_verb_check(const ot_verb *verb, ot_error *err) {
    ot_args args;
    OT_TRY(ot_args_init(&args, verb, err));
    ot_status status = check_args(&args, err);
    ot_args_free(&args);
    return status;
}
