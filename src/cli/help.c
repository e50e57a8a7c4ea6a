/* See help.h. */
#include "cli/help.h"

#include <string.h>

#include "cli/args.h"
#include "cli/text.h"

enum { OPTION_COLUMN = 30, VERB_COLUMN = 14 };

const ot_flow_step ot_help_flow[] = {
    {"owner", "offsite split MODEL -o OFFER --emulator layerdrop:keep=8", "keep the model, ship a smaller stand-in"},
    {"data owner", "offsite tune OFFER --train DATA -o RETURN", "tune its outer layers on private data"},
    {"owner", "offsite plug MODEL RETURN -o TUNED", "put those layers back into the model"},
    {0},
};

const char *ot_help_about(void) {
    return "Offsite fine-tunes a model whose owner keeps it, on data whose owner keeps them. The model's owner ships an offer: "
           "the first and last layers, and in place of the middle a compressed emulator. The data owner tunes those layers and "
           "sends them back. Neither the whole model nor the data ever leave home.";
}

const char *ot_audience_title(ot_audience audience) {
    switch (audience) {
    case OT_FOR_OWNER: return "For the model's owner";
    case OT_FOR_DATA_OWNER: return "For the data's owner";
    case OT_FOR_ANYONE: return "For everyone";
    case OT_FOR_SHELL:
    case OT_AUDIENCE_COUNT: break;
    }
    return "About this program";
}

static void heading(FILE *f, const char *title) {
    if (ot_terminal_styled(f)) {
        fprintf(f, "\n\033[1m%s:\033[0m\n", title);
    } else {
        fprintf(f, "\n%s:\n", title);
    }
}

void ot_help_overview(FILE *f) {
    int width = ot_terminal_width(f);
    fputs("Usage: offsite COMMAND [ARGUMENT...] [OPTION...]\n\n", f);
    ot_put_wrapped(f, ot_help_about(), 0, 0, width);
    heading(f, "How it goes");
    for (const ot_flow_step *s = ot_help_flow; s->who != NULL; s++) {
        fprintf(f, "  %-10s  %s\n%14s%s\n", s->who, s->command, "", s->what);
    }
    for (ot_audience a = 0; a < OT_AUDIENCE_COUNT; a++) {
        bool any = false;
        for (int64_t i = 0; ot_verbs[i] != NULL; i++) {
            if (ot_verbs[i]->audience != a || ot_verbs[i]->hidden) continue;
            if (!any) heading(f, ot_audience_title(a));
            any = true;
            int at = fprintf(f, "  %-*s ", VERB_COLUMN - 3, ot_verbs[i]->name);
            ot_put_wrapped(f, ot_verbs[i]->summary, at, VERB_COLUMN, width);
        }
    }
    fputs("\n'offsite COMMAND --help' explains one command, 'offsite --version' tells the version.\n", f);
    ot_put_wrapped(f, "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused by a check.", 0, 0, width);
}

void ot_help_remarks(const ot_option *o, char *text, size_t size) {
    const char *value = o->shown != NULL ? o->shown : o->kind != OT_KIND_FLAG ? o->fallback : NULL;
    const char *first = o->required ? "required" : o->commas ? "list with commas" : o->repeatable ? "repeatable" : "";
    const char *joint = *first != '\0' && value != NULL ? "; " : "";
    if (value != NULL && *value == '\0') value = "empty";
    snprintf(text, size, "%s%s%s%s", first, joint, value != NULL ? "default " : "", value != NULL ? value : "");
}

/* "-o, --output DIR" with its help beside or, when too long, below it. */
static void print_option(FILE *f, const ot_option *o, int width) {
    char choices[256] = "", remarks[256], text[1024];
    const char *value = ot_option_placeholder(o);
    if (o->kind == OT_KIND_ENUM && o->value == NULL) {
        size_t used = 0;
        for (int i = 0; o->choices[i] != NULL && used < sizeof choices; i++) {
            used += (size_t)snprintf(choices + used, sizeof choices - used, "%s%s", i > 0 ? "|" : "", o->choices[i]);
        }
        value = choices;
    }
    int at = o->letter != 0 ? fprintf(f, "  -%c, ", o->letter) : fprintf(f, "      ");
    at += fprintf(f, "--%s%s%s%s", ot_option_is_negative(o) ? "no-" : "", o->name, *value != '\0' ? " " : "", value);
    if (at + 2 > OPTION_COLUMN) {
        fprintf(f, "\n%*s", OPTION_COLUMN, "");
    } else {
        fprintf(f, "%*s", OPTION_COLUMN - at, "");
    }
    ot_help_remarks(o, remarks, sizeof remarks);
    snprintf(text, sizeof text, "%s%s%s%s", o->help, *remarks != '\0' ? " (" : "", remarks, *remarks != '\0' ? ")" : "");
    ot_put_wrapped(f, text, OPTION_COLUMN, OPTION_COLUMN, width);
}

ot_status ot_help_verb(const ot_verb *verb, FILE *f, ot_error *err) {
    ot_args args;
    OT_TRY(ot_args_init(&args, verb, err));
    int width = ot_terminal_width(f);
    char usage[512];
    ot_verb_usage(verb, usage, sizeof usage);
    fprintf(f, "offsite %s - %s\n\nUsage: %s\n", verb->name, verb->summary, usage);
    if (verb->about != NULL) {
        fputc('\n', f);
        ot_put_wrapped(f, verb->about, 0, 0, width);
    }
    for (const ot_operand *o = verb->operands; o != NULL && o->name != NULL; o++) {
        if (o == verb->operands) heading(f, "Arguments");
        int at = fprintf(f, "  %s", o->name);
        at += fprintf(f, "%*s", at + 2 > OPTION_COLUMN ? 2 : OPTION_COLUMN - at, "");
        ot_put_wrapped(f, o->help, at, OPTION_COLUMN, width);
    }
    const ot_option_group *group = NULL;
    for (int64_t i = 0; i < args.n_slots; i++) {
        if (args.slots[i].group != group) heading(f, args.slots[i].group->title);
        group = args.slots[i].group;
        print_option(f, &args.slots[i].option, width);
    }
    for (const ot_example *e = verb->examples; e != NULL && e->what != NULL; e++) {
        if (e == verb->examples) heading(f, "Examples");
        fprintf(f, "  %s:\n    %s\n", e->what, e->command);
    }
    ot_args_free(&args);
    return OT_OK;
}
