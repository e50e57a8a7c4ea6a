/* `offsite help [COMMAND]`: the same as `offsite [COMMAND] --help`. */
#include <stdio.h>

#include "cli/help.h"
#include "cli/suggest.h"
#include "cli/verbs.h"

static ot_status run(const ot_args *args, ot_error *err) {
    const char *name = ot_args_operand(args, "COMMAND");
    if (name == NULL) {
        ot_help_overview(stdout);
        return OT_OK;
    }
    const ot_verb *verb = ot_verb_find(name);
    if (verb != NULL) return ot_help_verb(verb, stdout, err);
    if (ot_help_topic(name, stdout)) return OT_OK;
    ot_suggest near = {.word = name};
    for (int64_t i = 0; ot_verbs[i] != NULL; i++) ot_suggest_offer(&near, ot_verbs[i]->name);
    ot_help_topics_offer(&near);
    if (near.best != NULL) return ot_args_fail(args, err, "there is no command or topic '%s'; did you mean '%s'?", name, near.best);
    return ot_args_fail(args, err, "there is no command or topic '%s'; 'offsite --help' lists the commands, and the topics are emulator, peft and task", name);
}

static const ot_operand operands[] = {
    {.name = "COMMAND", .kind = OT_KIND_STRING, .optional = true, .help = "the command to explain, or emulator, peft or task for what --emulator, --peft and --task take; without it, all are listed"},
    {0},
};
static const ot_example examples[] = {
    {"List all commands", "offsite help"},
    {"Explain one", "offsite help tokenize"},
    {"List the ways to make an emulator", "offsite help emulator"},
    {0},
};

const ot_verb ot_verb_help = {
    .name = "help",
    .audience = OT_FOR_SHELL,
    .summary = "explain this program or one of its commands",
    .operands = operands,
    .examples = examples,
    .run = run,
};
