/* Help on method strings, from the same tables that parse them: `offsite help emulator`, `offsite split --help emulator`. */
#include <string.h>

#include "cli/help.h"
#include "cli/text.h"
#include "emulator/emulator.h"
#include "peft/peft.h"

enum { COLUMN = 18 };

typedef struct topic {
    const char *name, *option, *about;
    void (*print)(FILE *f);
} topic;

static void print_key(FILE *f, const ot_spec_key *k) {
    char text[512], range[64] = "";
    int at = fprintf(f, "      %s", k->name);
    at += fprintf(f, "%*s", at + 2 > COLUMN ? 2 : COLUMN - at, "");
    if (k->kind != OT_SPEC_WORD) {
        snprintf(range, sizeof range, "%s%.15g to %.15g%s", k->kind == OT_SPEC_INTEGER ? "whole number, " : "", k->min, k->max, k->fallback != NULL ? "; " : "");
    }
    bool remarks = *range != '\0' || k->fallback != NULL;
    snprintf(text, sizeof text, "%s%s%s%s%s%s", k->help, remarks ? " (" : "", range, k->fallback != NULL ? "default " : "",
             k->fallback != NULL ? k->fallback : "", remarks ? ")" : "");
    ot_put_wrapped(f, text, at, COLUMN, ot_terminal_width(f));
}

static void print_method(FILE *f, const ot_spec_method *m) {
    int at = fprintf(f, "\n  %s", m->name);
    at += fprintf(f, "%*s", at + 1 > COLUMN ? 2 : COLUMN - at + 1, "");
    ot_put_wrapped(f, m->help, at - 1, COLUMN, ot_terminal_width(f));
    for (const ot_spec_key *k = m->keys; k != NULL && k->name != NULL; k++) print_key(f, k);
}

static void print_emulators(FILE *f) {
    for (int i = 0; ot_emulator_methods[i] != NULL; i++) print_method(f, &ot_emulator_methods[i]->spec);
}

static void print_peft(FILE *f) {
    for (int i = 0; ot_peft_methods[i] != NULL; i++) print_method(f, &ot_peft_methods[i]->spec);
}

static const topic topics[] = {
    {"emulator", "--emulator STEP|STEP|...",
     "How `offsite split` makes the middle small: steps joined by '|', each NAME:KEY=VALUE,KEY=VALUE, done from left to right, as in "
     "'layerdrop:keep=8|quantize:bits=4'. A key that is left out has its default. Empty: the middle as it is.",
     print_emulators},
    {"peft", "--peft METHOD", "What `offsite tune` and `offsite finetune` train: NAME:KEY=VALUE,KEY=VALUE, as in 'lora:r=8,alpha=16'.", print_peft},
    {0},
};

bool ot_help_topic(const char *name, FILE *f) {
    for (const topic *t = topics; t->name != NULL; t++) {
        if (strcmp(t->name, name) != 0) continue;
        fprintf(f, "%s\n\n", t->option);
        ot_put_wrapped(f, t->about, 0, 0, ot_terminal_width(f));
        t->print(f);
        return true;
    }
    return false;
}
