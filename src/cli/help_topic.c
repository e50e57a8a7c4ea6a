/* Help on method strings and tasks, from the same tables that parse them: `offsite help emulator`, `offsite split --help emulator`. */
#include <string.h>

#include "cli/help.h"
#include "cli/text.h"
#include "emulator/emulator.h"
#include "peft/peft.h"
#include "task/task.h"

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

/* Name, what it is, the file and the metrics. */
static void print_tasks(FILE *f) {
    static const struct {
        unsigned metric;
        const char *name;
    } metrics[] = {{OT_METRIC_ACC, "acc"},
                   {OT_METRIC_ACC_NORM, "acc_norm"},
                   {OT_METRIC_EXACT_MATCH, "exact_match"},
                   {OT_METRIC_WORD_PERPLEXITY, "word_perplexity"},
                   {OT_METRIC_BYTE_PERPLEXITY, "byte_perplexity"},
                   {OT_METRIC_BITS_PER_BYTE, "bits_per_byte"},
                   {OT_METRIC_BLOCKS, "perplexity"}};
    for (const ot_task *const *t = ot_tasks; *t != NULL; t++) {
        char text[512];
        int at = fprintf(f, "\n  %s", (*t)->name);
        at += fprintf(f, "%*s", at + 1 > COLUMN ? 2 : COLUMN - at + 1, "");
        ot_put_wrapped(f, (*t)->help, at - 1, COLUMN, ot_terminal_width(f));
        int used = snprintf(text, sizeof text, "%s.%s.jsonl; ", (*t)->name, (*t)->split);
        for (size_t i = 0, n = 0; i < sizeof metrics / sizeof *metrics; i++) {
            if (((*t)->metrics & metrics[i].metric) == 0) continue;
            used += snprintf(text + used, sizeof text - (size_t)used, "%s%s", n++ > 0 ? ", " : "", metrics[i].name);
        }
        fprintf(f, "%*s", COLUMN, "");
        ot_put_wrapped(f, text, COLUMN, COLUMN, ot_terminal_width(f));
    }
}

static const topic topics[] = {
    {"emulator", "--emulator STEP|STEP|...",
     "How `offsite split` makes the middle small: steps joined by '|', each NAME:KEY=VALUE,KEY=VALUE, done from left to right, as in "
     "'layerdrop:keep=8|quantize:bits=4'. A key that is left out has its default. Empty: the middle as it is.",
     print_emulators},
    {"peft", "--peft METHOD",
     "What `offsite tune` and `offsite finetune` train: NAME:KEY=VALUE,KEY=VALUE, as in 'lora:r=8,alpha=16'. Methods that do not lay claim to the same can be "
     "stacked by '|' in any order, as in 'lora:r=8|bitfit'.",
     print_peft},
    {"task", "--task NAME,...",
     "What `offsite eval` scores and `offsite tune` learns: the files of --data DIR with the fields of the official data sets, or FILE.yaml with a task of your own.",
     print_tasks},
    {0},
};

void ot_help_topics_offer(ot_suggest *near) {
    for (const topic *t = topics; t->name != NULL; t++) ot_suggest_offer(near, t->name);
}

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
