/* Parsing of the command line by a verb's tables, and the getters. Owns the wording of usage errors; prints nothing. */
#include "cli/args.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/config.h"
#include "cli/suggest.h"

static const ot_option general_options[] = {
    {.name = "help", .letter = 'h', .kind = OT_KIND_FLAG, .transient = true, .help = "show this help and stop"},
    {.name = "config",
     .kind = OT_KIND_PATH,
     .value = "FILE.yaml",
     .transient = true,
     .help = "read options from a YAML file; options on the command line win"},
    {.name = "quiet", .letter = 'q', .kind = OT_KIND_FLAG, .transient = true, .help = "print results and errors only"},
    {.name = "progress", .kind = OT_KIND_FLAG, .fallback = "yes", .transient = true, .help = "no progress on standard error"},
    {0},
};
const ot_option_group ot_options_general = {"General", general_options};

/* ==== Numbers ==== */

static bool parse_i64(const char *text, int64_t *out) {
    const char *digits = text + (*text == '-' || *text == '+');
    if (*digits == '\0' || digits[strspn(digits, "0123456789")] != '\0') return false;
    errno = 0;
    long long v = strtoll(text, NULL, 10);
    if (errno != 0) return false;
    *out = v;
    return true;
}

/* Decimal only: strtod alone would take blanks, hexadecimal, "inf" and "nan". */
static bool parse_f64(const char *text, double *out) {
    if (*text == '\0' || text[strspn(text, "0123456789+-.eE")] != '\0') return false;
    char *end;
    double v = strtod(text, &end);
    if (*end != '\0' || !isfinite(v)) return false;
    *out = v;
    return true;
}

static bool parse_size(const char *text, int64_t *out) {
    size_t length = strspn(text, "0123456789.");
    char number[32];
    if (length == 0 || length >= sizeof number) return false;
    memcpy(number, text, length);
    number[length] = '\0';
    double v, unit = 1.0;
    if (!parse_f64(number, &v)) return false;
    const char *suffix = text + length;
    if (*suffix != '\0' && *suffix != 'B') {
        static const char letters[] = "KMGT";
        const char *at = strchr(letters, *suffix >= 'a' && *suffix <= 'z' ? *suffix - 'a' + 'A' : *suffix);
        if (at == NULL) return false;
        for (const char *p = letters; p <= at; p++) unit *= 1024.0;
        suffix++;
        if (*suffix == 'i') suffix++;
    }
    if (*suffix == 'B') suffix++;
    if (*suffix != '\0' || v * unit >= 9.2e18) return false;
    *out = (int64_t)(v * unit);
    return true;
}

static bool parse_flag(const char *text, bool *out) {
    static const char *const yes[] = {"yes", "true", "on", "1"}, *const no[] = {"no", "false", "off", "0"};
    for (int i = 0; i < 4; i++) {
        if (strcmp(text, yes[i]) == 0) return *out = true, true;
        if (strcmp(text, no[i]) == 0) return *out = false, true;
    }
    return false;
}

/* ==== One value ==== */

const char *ot_option_placeholder(const ot_option *option) {
    if (option->value != NULL) return option->value;
    switch (option->kind) {
    case OT_KIND_I64: return "N";
    case OT_KIND_F64: return "X";
    case OT_KIND_STRING: return "TEXT";
    case OT_KIND_PATH: return "PATH";
    case OT_KIND_ENUM: return "NAME";
    case OT_KIND_SIZE: return "BYTES";
    case OT_KIND_NONE:
    case OT_KIND_FLAG: break;
    }
    return "";
}

bool ot_option_is_negative(const ot_option *option) {
    return option->kind == OT_KIND_FLAG && option->fallback != NULL && strcmp(option->fallback, "yes") == 0;
}

static ot_status check_range(const ot_option *o, const char *label, const char *text, double v, ot_error *err) {
    if (o->min == 0.0 && o->max == 0.0) return OT_OK;
    if (v >= o->min && v <= o->max) return OT_OK;
    char low[32], high[32];
    snprintf(low, sizeof low, "%.9g", o->min);
    snprintf(high, sizeof high, "%.9g", o->max);
    if (o->max == OT_NO_MAX)
        return ot_fail(err, OT_ERR_USAGE, "%s: %s is out of range; it must be at least %s", label, text, low);
    if (o->min == -OT_NO_MAX)
        return ot_fail(err, OT_ERR_USAGE, "%s: %s is out of range; it must be at most %s", label, text, high);
    return ot_fail(err, OT_ERR_USAGE, "%s: %s is out of range; it must lie between %s and %s", label, text, low, high);
}

static ot_status enum_error(const char *const *choices, const char *label, const char *text, ot_error *err) {
    char list[256] = "";
    size_t used = 0;
    ot_suggest near = {.word = text};
    for (int i = 0; choices[i] != NULL; i++) {
        const char *joint = i == 0 ? "" : choices[i + 1] == NULL ? " or " : ", ";
        int n = snprintf(list + used, sizeof list - used, "%s%s", joint, choices[i]);
        used += n > 0 && (size_t)n < sizeof list - used ? (size_t)n : 0;
        ot_suggest_offer(&near, choices[i]);
    }
    if (near.best != NULL) {
        return ot_fail(err, OT_ERR_USAGE, "%s: '%s' is not %s; did you mean '%s'?", label, text, list, near.best);
    }
    return ot_fail(err, OT_ERR_USAGE, "%s: '%s' is not %s", label, text, list);
}

static ot_status parse_value(const ot_option *o, const char *label, const char *text, ot_arg_value *v, ot_error *err) {
    bool flag = false;
    switch (o->kind) {
    case OT_KIND_FLAG:
        if (!parse_flag(text, &flag)) return ot_fail(err, OT_ERR_USAGE, "%s: '%s' is neither yes nor no", label, text);
        v->i = flag;
        v->text = flag ? "yes" : "no";
        return OT_OK;
    case OT_KIND_I64:
        if (!parse_i64(text, &v->i)) return ot_fail(err, OT_ERR_USAGE, "%s: '%s' is not a whole number", label, text);
        v->f = (double)v->i;
        return check_range(o, label, text, v->f, err);
    case OT_KIND_F64:
        if (!parse_f64(text, &v->f)) return ot_fail(err, OT_ERR_USAGE, "%s: '%s' is not a finite number", label, text);
        return check_range(o, label, text, v->f, err);
    case OT_KIND_SIZE:
        if (!parse_size(text, &v->i)) {
            return ot_fail(err, OT_ERR_USAGE, "%s: '%s' is not a size in bytes like 4096, 64K or 1.5G", label, text);
        }
        v->f = (double)v->i;
        return check_range(o, label, text, v->f, err);
    case OT_KIND_ENUM:
        for (int i = 0; o->choices[i] != NULL; i++) {
            if (strcmp(o->choices[i], text) == 0) return v->i = i, OT_OK;
        }
        return enum_error(o->choices, label, text, err);
    case OT_KIND_PATH:
        if (*text == '\0') return ot_fail(err, OT_ERR_USAGE, "%s: the path is empty", label);
        return OT_OK;
    case OT_KIND_STRING:
    case OT_KIND_NONE: break;
    }
    return OT_OK;
}

static ot_status add_one(ot_args *args, ot_arg_slot *slot, const char *label, const char *text, ot_error *err) {
    ot_arg_value v = {.text = text};
    OT_TRY(parse_value(&slot->option, label, text, &v, err));
    if (slot->count == slot->capacity) {
        int64_t capacity = slot->capacity > 0 ? 2 * slot->capacity : 1;
        ot_arg_value *values = ot_arena_alloc(&args->arena, capacity * (int64_t)sizeof *values, err);
        if (values == NULL) return OT_ERR_MEMORY;
        if (slot->count > 0) memcpy(values, slot->values, (size_t)slot->count * sizeof *values);
        slot->values = values;
        slot->capacity = capacity;
    }
    slot->values[slot->count++] = v;
    return OT_OK;
}

ot_status ot_arg_slot_add(ot_args *args, ot_arg_slot *slot, const char *label, const char *text, ot_error *err) {
    const ot_option *o = &slot->option;
    if (!o->commas) {
        char *copy = ot_arena_strdup(&args->arena, text, err);
        return copy != NULL ? add_one(args, slot, label, copy, err) : OT_ERR_MEMORY;
    }
    for (const char *at = text;;) {
        size_t length = strcspn(at, ",");
        if (length == 0) return ot_fail(err, OT_ERR_USAGE, "%s: an item of the list '%s' is empty", label, text);
        char *item = ot_arena_strndup(&args->arena, at, length, err);
        if (item == NULL) return OT_ERR_MEMORY;
        OT_TRY(add_one(args, slot, label, item, err));
        if (at[length] == '\0') return OT_OK;
        at += length + 1;
    }
}

/* ==== Tables ==== */

const ot_verb *ot_verb_find(const char *name) {
    for (int64_t i = 0; ot_verbs[i] != NULL; i++) {
        if (strcmp(ot_verbs[i]->name, name) == 0) return ot_verbs[i];
    }
    return NULL;
}

static const ot_override *override_of(const ot_verb *verb, const char *name) {
    for (const ot_override *o = verb->overrides; o != NULL && o->name != NULL; o++) {
        if (strcmp(o->name, name) == 0) return o;
    }
    return NULL;
}

/* Counts when slots is NULL. */
static int64_t lay_out(const ot_verb *verb, const ot_option_group *group, ot_arg_slot *slots) {
    int64_t n = 0;
    for (const ot_option *o = group->options; o->kind != OT_KIND_NONE; o++) {
        const ot_override *over = override_of(verb, o->name);
        if (over != NULL && over->absent) continue;
        if (slots != NULL) {
            ot_option option = *o;
            if (over != NULL) {
                if (over->value != NULL) option.value = over->value;
                if (over->fallback != NULL) option.fallback = over->fallback, option.shown = NULL;
                if (over->shown != NULL) option.shown = over->shown;
                if (over->help != NULL) option.help = over->help;
                if (over->optional) option.required = false;
            }
            slots[n] = (ot_arg_slot){.option = option, .group = group};
        }
        n++;
    }
    return n;
}

ot_status ot_args_init(ot_args *args, const ot_verb *verb, ot_error *err) {
    *args = (ot_args){.verb = verb};
    int64_t n = lay_out(verb, &ot_options_general, NULL);
    for (int64_t g = 0; verb->groups != NULL && verb->groups[g] != NULL; g++) n += lay_out(verb, verb->groups[g], NULL);
    args->slots = ot_arena_alloc(&args->arena, n * (int64_t)sizeof *args->slots, err);
    if (args->slots == NULL) return OT_ERR_MEMORY;
    for (int64_t g = 0; verb->groups != NULL && verb->groups[g] != NULL; g++) {
        args->n_slots += lay_out(verb, verb->groups[g], args->slots + args->n_slots);
    }
    args->n_slots += lay_out(verb, &ot_options_general, args->slots + args->n_slots);
    return OT_OK;
}

void ot_args_free(ot_args *args) {
    ot_arena_free(&args->arena);
    *args = (ot_args){0};
}

ot_arg_slot *ot_args_slot(ot_args *args, const char *name) {
    for (int64_t i = 0; i < args->n_slots; i++) {
        if (strcmp(args->slots[i].option.name, name) == 0) return &args->slots[i];
    }
    return NULL;
}

static ot_arg_slot *slot_by_letter(ot_args *args, char letter) {
    for (int64_t i = 0; i < args->n_slots; i++) {
        if (args->slots[i].option.letter == letter) return &args->slots[i];
    }
    return NULL;
}

/* What other tools of the field call the same, so that a habit is answered as well as a slip of the pen. */
static const struct {
    const char *theirs, *ours;
} names_elsewhere[] = {
    {"learning-rate", "lr"}, {"max-steps", "steps"}, {"iters", "steps"}, {"num-train-epochs", "epochs"}, {"num-epochs", "epochs"},
    {"per-device-train-batch-size", "batch"}, {"batch-size", "batch"}, {"micro-batch-size", "batch"}, {"gradient-accumulation-steps", "grad-accum"},
    {"max-seq-length", "block"}, {"block-size", "block"}, {"sequence-len", "block"}, {"warmup-steps", "warmup"}, {"lr-scheduler-type", "schedule"},
    {"max-grad-norm", "clip"}, {"eval-steps", "valid-every"}, {"save-steps", "save-every"}, {"save-total-limit", "keep"}, {"gradient-checkpointing", "recompute"},
    {"grad-checkpoint", "recompute"}, {"optim", "optimizer"}, {"resume-from-checkpoint", "resume"}, {"mask-prompt", "train-on"}, {"max-new-tokens", "max-new"},
    {"max-tokens", "max-new"}, {"n-predict", "max-new"}, {"temp", "temperature"}, {"tasks", "task"}, {"fewshot", "num-fewshot"}, {"bf16", "dtype"},
};

const char *ot_args_nearest(const ot_args *args, const char *name) {
    ot_suggest near = {.word = name};
    for (size_t i = 0; i < sizeof names_elsewhere / sizeof *names_elsewhere; i++) {
        if (ot_edit_distance(name, names_elsewhere[i].theirs) > 1) continue;
        for (int64_t k = 0; k < args->n_slots; k++) {
            if (strcmp(args->slots[k].option.name, names_elsewhere[i].ours) == 0) return names_elsewhere[i].ours;
        }
    }
    for (int64_t i = 0; i < args->n_slots; i++) ot_suggest_offer(&near, args->slots[i].option.name);
    return near.best;
}

void ot_verb_usage(const ot_verb *verb, char *text, size_t size) {
    if (verb->usage != NULL) {
        snprintf(text, size, "offsite %s %s", verb->name, verb->usage);
        return;
    }
    int n = snprintf(text, size, "offsite %s", verb->name);
    size_t used = n > 0 && (size_t)n < size ? (size_t)n : 0;
    for (const ot_operand *o = verb->operands; o != NULL && o->name != NULL; o++) {
        n = snprintf(text + used, size - used, o->optional ? " [%s]%s" : " %s%s", o->name, o->repeated ? "..." : "");
        used += n > 0 && (size_t)n < size - used ? (size_t)n : 0;
    }
    for (int64_t g = 0; verb->groups != NULL && verb->groups[g] != NULL; g++) {
        for (const ot_option *o = verb->groups[g]->options; o->kind != OT_KIND_NONE; o++) {
            const ot_override *over = override_of(verb, o->name);
            if (!o->required || (over != NULL && (over->absent || over->optional))) continue;
            const char *value = over != NULL && over->value != NULL ? over->value : ot_option_placeholder(o);
            if (o->letter != 0) {
                n = snprintf(text + used, size - used, " -%c %s", o->letter, value);
            } else {
                n = snprintf(text + used, size - used, " --%s %s", o->name, value);
            }
            used += n > 0 && (size_t)n < size - used ? (size_t)n : 0;
        }
    }
    snprintf(text + used, size - used, " [OPTION...]");
}

/* ==== The command line ==== */

typedef struct reader {
    ot_args *args;
    int argc;
    char *const *argv;
    int at; /* next word */
} reader;

/* Would this word be read as an option of the verb? Then it is no value: the value before it was forgotten. */
static bool looks_like_option(ot_args *args, const char *word) {
    if (word[0] != '-' || word[1] == '\0') return false;
    if (word[1] == '-') return true;
    return slot_by_letter(args, word[1]) != NULL;
}

static ot_status take_value(reader *r, const char *label, const ot_option *o, const char **text, ot_error *err) {
    const char *verb = r->args->verb->name;
    if (r->at >= r->argc) {
        return ot_fail(err, OT_ERR_USAGE, "%s: %s needs a value: %s %s", verb, label, label, ot_option_placeholder(o));
    }
    const char *word = r->argv[r->at];
    if (looks_like_option(r->args, word)) {
        return ot_fail(err, OT_ERR_USAGE, "%s: %s needs a value, but '%s' follows; write '--%s=%s' if that is the value", verb,
                       label, word, o->name, word);
    }
    r->at++;
    *text = word;
    return OT_OK;
}

static ot_status store(reader *r, ot_arg_slot *slot, const char *label, const char *text, ot_error *err) {
    const char *verb = r->args->verb->name;
    const ot_option *o = &slot->option;
    if (slot->count > 0 && !o->repeatable && !o->commas) {
        const char *first = slot->values[0].text;
        if (o->kind == OT_KIND_FLAG) return ot_fail(err, OT_ERR_USAGE, "%s: %s is given twice", verb, label);
        return ot_fail(err, OT_ERR_USAGE, "%s: %s is given twice ('%s' and '%s')", verb, label, first, text);
    }
    slot->source = OT_FROM_COMMAND_LINE;
    if (ot_arg_slot_add(r->args, slot, label, text, err) != OT_OK) return ot_error_prefix(err, "%s", verb);
    return OT_OK;
}

/* word begins with "--" and is longer. */
static ot_status read_long(reader *r, const char *word, ot_error *err) {
    const char *verb = r->args->verb->name, *equals = strchr(word, '=');
    size_t length = equals != NULL ? (size_t)(equals - word) : strlen(word);
    char label[72];
    snprintf(label, sizeof label, "%.*s", (int)(length < 64 ? length : 64), word);
    const char *name = label + 2;
    ot_arg_slot *slot = length <= 64 ? ot_args_slot(r->args, name) : NULL;
    if (slot == NULL && strncmp(name, "no-", 3) == 0) {
        slot = ot_args_slot(r->args, name + 3);
        if (slot != NULL && slot->option.kind != OT_KIND_FLAG) slot = NULL;
        if (slot != NULL && equals != NULL) return ot_fail(err, OT_ERR_USAGE, "%s: %s takes no value", verb, label);
        if (slot != NULL) return store(r, slot, label, "no", err);
    }
    if (slot == NULL) {
        bool negated = strncmp(name, "no-", 3) == 0;
        const char *near = ot_args_nearest(r->args, name);
        if (near == NULL && negated) near = ot_args_nearest(r->args, name + 3);
        const ot_arg_slot *meant = near != NULL ? ot_args_slot(r->args, near) : NULL;
        if (meant == NULL) {
            return ot_fail(err, OT_ERR_USAGE, "%s: unknown option '%s'; 'offsite %s --help' lists the options", verb, label,
                           verb);
        }
        bool no = meant->option.kind == OT_KIND_FLAG && negated;
        return ot_fail(err, OT_ERR_USAGE, "%s: unknown option '%s'; did you mean '--%s%s'?", verb, label, no ? "no-" : "", near);
    }
    if (strcmp(slot->option.name, "help") == 0) return r->args->help = true, OT_OK;
    const char *text = equals != NULL ? equals + 1 : "yes";
    if (equals == NULL && slot->option.kind != OT_KIND_FLAG) OT_TRY(take_value(r, label, &slot->option, &text, err));
    return store(r, slot, label, text, err);
}

/* "-o F", "-oF", "-o=F", "-qh": flags may be joined, a value ends the word. */
static ot_status read_short(reader *r, const char *word, ot_error *err) {
    const char *verb = r->args->verb->name;
    char name[64];
    size_t length = strcspn(word + 1, "=");
    snprintf(name, sizeof name, "%.*s", (int)(length < sizeof name ? length : 0), word + 1);
    /* "-output x" would otherwise be read as "-o utput" without a word of warning. */
    if (length > 1 && ot_args_slot(r->args, name) != NULL) {
        return ot_fail(err, OT_ERR_USAGE, "%s: unknown option '-%s'; did you mean '--%s'?", verb, name, name);
    }
    for (const char *p = word + 1; *p != '\0'; p++) {
        ot_arg_slot *slot = slot_by_letter(r->args, *p);
        char label[3] = {'-', *p, '\0'};
        if (slot == NULL) {
            return ot_fail(err, OT_ERR_USAGE, "%s: unknown option '%s' in '%s'; 'offsite %s --help' lists the options", verb,
                           label, word, verb);
        }
        if (strcmp(slot->option.name, "help") == 0) return r->args->help = true, OT_OK;
        if (slot->option.kind == OT_KIND_FLAG) {
            OT_TRY(store(r, slot, label, "yes", err));
            continue;
        }
        const char *text = p[1] == '=' ? p + 2 : p + 1;
        if (p[1] == '\0') OT_TRY(take_value(r, label, &slot->option, &text, err));
        return store(r, slot, label, text, err);
    }
    return OT_OK;
}

static ot_status check_operands(ot_args *args, ot_error *err) {
    char usage[512];
    ot_verb_usage(args->verb, usage, sizeof usage);
    int64_t i = 0;
    for (const ot_operand *o = args->verb->operands; o != NULL && o->name != NULL; o++) {
        if (i >= args->n_operands && !o->optional) {
            return ot_fail(err, OT_ERR_USAGE, "%s: %s is missing; usage: %s", args->verb->name, o->name, usage);
        }
        do {
            if (i >= args->n_operands) break;
            ot_option as_option = {.name = o->name, .kind = o->kind, .choices = o->choices};
            ot_arg_value v = {0};
            if (parse_value(&as_option, o->name, args->operands[i], &v, err) != OT_OK) {
                return ot_error_prefix(err, "%s", args->verb->name);
            }
            i++;
        } while (o->repeated);
    }
    if (i < args->n_operands) {
        return ot_fail(err, OT_ERR_USAGE, "%s: unexpected argument '%s'; usage: %s", args->verb->name, args->operands[i], usage);
    }
    return OT_OK;
}

static ot_status fill_defaults(ot_args *args, ot_error *err) {
    for (int64_t i = 0; i < args->n_slots; i++) {
        ot_arg_slot *slot = &args->slots[i];
        const ot_option *o = &slot->option;
        if (slot->count > 0) continue;
        if (o->required) { /* an empty list in a config file is no value either */
            char usage[512];
            ot_verb_usage(args->verb, usage, sizeof usage);
            char letter[5] = "";
            if (o->letter != 0) snprintf(letter, sizeof letter, "-%c, ", o->letter);
            return ot_fail(err, OT_ERR_USAGE, "%s: option %s--%s is missing; usage: %s", args->verb->name, letter, o->name,
                           usage);
        }
        if (slot->source != OT_FROM_DEFAULT) continue;
        const char *text = o->fallback != NULL ? o->fallback : o->kind == OT_KIND_FLAG ? "no" : NULL;
        if (text != NULL) OT_TRY(ot_arg_slot_add(args, slot, o->name, text, err));
    }
    return OT_OK;
}

ot_status ot_args_parse(ot_args *args, const ot_verb *verb, int argc, char *const *argv, ot_error *err) {
    OT_TRY(ot_args_init(args, verb, err));
    args->operands = ot_arena_alloc(&args->arena, (argc + 1) * (int64_t)sizeof *args->operands, err);
    if (args->operands == NULL) return OT_ERR_MEMORY;
    reader r = {.args = args, .argc = argc, .argv = argv};
    bool only_operands = false;
    while (r.at < argc && !args->help) {
        const char *word = argv[r.at++];
        if (only_operands || word[0] != '-' || word[1] == '\0') {
            args->operands[args->n_operands++] = word;
        } else if (strcmp(word, "--") == 0) {
            only_operands = true;
        } else if (word[1] == '-') {
            OT_TRY(read_long(&r, word, err));
        } else {
            OT_TRY(read_short(&r, word, err));
        }
    }
    if (args->help) return OT_OK;
    const char *config = ot_args_str(args, "config");
    bool own = verb->own_config != NULL && verb->own_config(args);
    if (config != NULL && !own) OT_TRY(ot_config_read(args, config, err));
    OT_TRY(check_operands(args, err));
    return fill_defaults(args, err);
}

/* ==== Getters ==== */

/* A verb that asks for what its table lacks is broken in every run: stop loudly. */
static const ot_arg_slot *must_have(const ot_args *args, const char *name, unsigned kinds) {
    for (int64_t i = 0; i < args->n_slots; i++) {
        const ot_arg_slot *slot = &args->slots[i];
        if (strcmp(slot->option.name, name) != 0) continue;
        if ((kinds & (1U << slot->option.kind)) != 0) return slot;
        fprintf(stderr, "offsite: internal error: '%s' reads option '%s' by the wrong kind\n", args->verb->name, name);
        abort();
    }
    fprintf(stderr, "offsite: internal error: '%s' reads option '%s', which it does not declare\n", args->verb->name, name);
    abort();
}

enum {
    FLAGS = 1 << OT_KIND_FLAG,
    WHOLE = 1 << OT_KIND_I64 | 1 << OT_KIND_SIZE,
    REALS = 1 << OT_KIND_F64,
    TEXTS = 1 << OT_KIND_STRING | 1 << OT_KIND_PATH | 1 << OT_KIND_ENUM,
    ENUMS = 1 << OT_KIND_ENUM,
    ALL_KINDS = FLAGS | WHOLE | REALS | TEXTS
};

static ot_arg_value first_value(const ot_args *args, const char *name, unsigned kinds) {
    const ot_arg_slot *slot = must_have(args, name, kinds);
    return slot->count > 0 ? slot->values[0] : (ot_arg_value){.i = kinds == ENUMS ? -1 : 0};
}

static ot_arg_value value_at(const ot_args *args, const char *name, int64_t index, unsigned kinds) {
    const ot_arg_slot *slot = must_have(args, name, kinds);
    return index >= 0 && index < slot->count ? slot->values[index] : (ot_arg_value){0};
}

const ot_verb *ot_args_verb(const ot_args *args) { return args->verb; }
bool ot_args_has(const ot_args *args, const char *name) { return must_have(args, name, ALL_KINDS)->source != OT_FROM_DEFAULT; }
bool ot_args_flag(const ot_args *args, const char *name) { return first_value(args, name, FLAGS).i != 0; }
int64_t ot_args_i64(const ot_args *args, const char *name) { return first_value(args, name, WHOLE).i; }
double ot_args_f64(const ot_args *args, const char *name) { return first_value(args, name, REALS).f; }
const char *ot_args_str(const ot_args *args, const char *name) { return first_value(args, name, TEXTS).text; }
int ot_args_choice(const ot_args *args, const char *name) { return (int)first_value(args, name, ENUMS).i; }
int64_t ot_args_count(const ot_args *args, const char *name) { return must_have(args, name, ALL_KINDS)->count; }
const char *ot_args_str_at(const ot_args *args, const char *name, int64_t index) {
    return value_at(args, name, index, TEXTS).text;
}
int64_t ot_args_i64_at(const ot_args *args, const char *name, int64_t index) { return value_at(args, name, index, WHOLE).i; }
double ot_args_f64_at(const ot_args *args, const char *name, int64_t index) { return value_at(args, name, index, REALS).f; }

bool ot_args_declares(const ot_args *args, const char *name) {
    for (int64_t i = 0; i < args->n_slots; i++) {
        if (strcmp(args->slots[i].option.name, name) == 0) return true;
    }
    return false;
}

/* Index of the first word of an operand, and how many words it has. */
static int64_t operand_words(const ot_args *args, const char *name, int64_t *first) {
    int64_t i = 0;
    for (const ot_operand *o = args->verb->operands; o != NULL && o->name != NULL; o++, i++) {
        if (strcmp(o->name, name) != 0) continue;
        *first = i;
        int64_t left = args->n_operands > i ? args->n_operands - i : 0;
        return o->repeated ? left : left > 0;
    }
    fprintf(stderr, "offsite: internal error: '%s' reads argument '%s', which it does not declare\n", args->verb->name, name);
    abort();
}

int64_t ot_args_operand_count(const ot_args *args, const char *name) {
    int64_t first;
    return operand_words(args, name, &first);
}

const char *ot_args_operand_at(const ot_args *args, const char *name, int64_t index) {
    int64_t first = 0, count = operand_words(args, name, &first);
    return index >= 0 && index < count ? args->operands[first + index] : NULL;
}

const char *ot_args_operand(const ot_args *args, const char *name) { return ot_args_operand_at(args, name, 0); }

ot_status ot_args_fail(const ot_args *args, ot_error *err, const char *format, ...) {
    char text[OT_ERROR_TEXT];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    return ot_fail(err, OT_ERR_USAGE, "%s: %s", args->verb->name, text);
}
