/* `offsite completion SHELL`: completion scripts made from the verbs' tables. */
#include <stdio.h>
#include <string.h>

#include "cli/args.h"
#include "cli/verbs.h"

/* "--x" or "--no-x", as help shows it. */
static void put_name(const ot_option *o) { printf("--%s%s", ot_option_is_negative(o) ? "no-" : "", o->name); }

static void put_choices(const char *const *choices, const char *joint) {
    for (int i = 0; choices[i] != NULL; i++) printf("%s%s", i > 0 ? joint : "", choices[i]);
}

/* Names of all commands that lists show. */
static void put_verbs(void) {
    const char *joint = "";
    for (int64_t i = 0; ot_verbs[i] != NULL; i++) {
        if (ot_verbs[i]->hidden) continue;
        printf("%s%s", joint, ot_verbs[i]->name);
        joint = " ";
    }
}

/* Does a word of this operand stand for a command? (help, man) */
static bool names_command(const ot_operand *o) { return strcmp(o->name, "COMMAND") == 0; }

/* ==== bash ==== */

static void bash_verb(const ot_args *args) {
    const ot_verb *v = args->verb;
    printf("    %s)\n        case $prev in\n", v->name);
    for (int64_t i = 0; i < args->n_slots; i++) {
        const ot_option *o = &args->slots[i].option;
        if (o->kind == OT_KIND_FLAG) continue;
        printf("        --%s", o->name);
        if (o->letter != 0) printf("|-%c", o->letter);
        fputs(") ", stdout);
        if (o->kind == OT_KIND_ENUM) {
            fputs("words='", stdout);
            put_choices(o->choices, " ");
            fputs("' ;;\n", stdout);
        } else {
            fputs(o->kind == OT_KIND_PATH ? "return ;;\n" : "compopt +o default; return ;;\n", stdout);
        }
    }
    fputs("        *)\n            if [[ $cur == -* ]]; then\n                words='", stdout);
    for (int64_t i = 0; i < args->n_slots; i++) {
        if (i > 0) putchar(' ');
        put_name(&args->slots[i].option);
    }
    fputs("'\n", stdout);
    for (const ot_operand *o = v->operands; o != NULL && o->name != NULL; o++) {
        if (o->kind != OT_KIND_ENUM && !names_command(o)) continue;
        fputs("            else\n                words='", stdout);
        if (o->kind == OT_KIND_ENUM) {
            put_choices(o->choices, " ");
        } else {
            put_verbs();
        }
        fputs("'\n", stdout);
        break;
    }
    fputs("            fi ;;\n        esac ;;\n", stdout);
}

static void bash_begin(void) {
    fputs("# bash completion for offsite, made by 'offsite completion bash'\n"
          "_offsite() {\n"
          "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=\n"
          "    COMPREPLY=()\n"
          "    if ((COMP_CWORD == 1)); then\n"
          "        COMPREPLY=($(compgen -W '",
          stdout);
    put_verbs();
    fputs(" --help --version' -- \"$cur\"))\n        return\n    fi\n    case ${COMP_WORDS[1]} in\n", stdout);
}

static void bash_end(void) {
    fputs("    esac\n"
          "    [[ -n $words ]] && COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
          "}\n"
          "complete -o default -F _offsite offsite\n",
          stdout);
}

/* ==== zsh ==== */

/* Inside single quotes, inside the brackets of an _arguments specification. */
static void zsh_text(const char *text) {
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '\'') {
            fputs("'\\''", stdout);
            continue;
        }
        if (*p == '[' || *p == ']' || *p == ':' || *p == '\\') putchar('\\');
        putchar(*p);
    }
}

static void zsh_verb(const ot_args *args) {
    const ot_verb *v = args->verb;
    printf("    %s)\n        _arguments -s", v->name);
    for (int64_t i = 0; i < args->n_slots; i++) {
        const ot_option *o = &args->slots[i].option;
        fputs(" \\\n            '", stdout);
        if (o->repeatable || o->commas) putchar('*');
        put_name(o);
        if (o->kind != OT_KIND_FLAG) putchar('=');
        putchar('[');
        zsh_text(o->help);
        putchar(']');
        if (o->kind == OT_KIND_ENUM) {
            printf(":%s:(", o->name);
            put_choices(o->choices, " ");
            putchar(')');
        } else if (o->kind != OT_KIND_FLAG) {
            putchar(':');
            zsh_text(ot_option_placeholder(o));
            fputs(o->kind == OT_KIND_PATH ? ":_files" : ": ", stdout);
        }
        putchar('\'');
        if (o->letter != 0) {
            printf(" \\\n            '-%c%s[", o->letter, o->kind != OT_KIND_FLAG ? "+" : "");
            zsh_text(o->help);
            putchar(']');
            if (o->kind == OT_KIND_PATH) fputs(":path:_files", stdout);
            if (o->kind != OT_KIND_PATH && o->kind != OT_KIND_FLAG) fputs(":value: ", stdout);
            putchar('\'');
        }
    }
    for (const ot_operand *o = v->operands; o != NULL && o->name != NULL; o++) {
        printf(" \\\n            '%s%s:%s:", o->repeated ? "*" : "", o->optional && !o->repeated ? ":" : "", o->name);
        if (o->kind == OT_KIND_ENUM || names_command(o)) {
            putchar('(');
            if (o->kind == OT_KIND_ENUM) {
                put_choices(o->choices, " ");
            } else {
                put_verbs();
            }
            putchar(')');
        } else {
            fputs(o->kind == OT_KIND_PATH ? "_files" : " ", stdout);
        }
        putchar('\'');
    }
    fputs(" ;;\n", stdout);
}

static void zsh_begin(void) {
    fputs("#compdef offsite\n"
          "# zsh completion for offsite, made by 'offsite completion zsh'\n"
          "_offsite() {\n"
          "    local -a commands\n"
          "    commands=(\n",
          stdout);
    for (int64_t i = 0; ot_verbs[i] != NULL; i++) {
        if (ot_verbs[i]->hidden) continue;
        printf("        '%s:", ot_verbs[i]->name);
        zsh_text(ot_verbs[i]->summary);
        fputs("'\n", stdout);
    }
    fputs("    )\n"
          "    if ((CURRENT == 2)); then\n"
          "        _describe command commands\n"
          "        return\n"
          "    fi\n"
          "    local command=$words[2]\n"
          "    shift words\n"
          "    ((CURRENT--))\n"
          "    case $command in\n",
          stdout);
}

static void zsh_end(void) { fputs("    esac\n}\n(($+functions[compdef])) && compdef _offsite offsite\n", stdout); }

/* ==== fish ==== */

static void fish_text(const char *text) {
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '\'' || *p == '\\') putchar('\\');
        putchar(*p);
    }
}

static void fish_verb(const ot_args *args) {
    const ot_verb *v = args->verb;
    if (!v->hidden) {
        printf("complete -c offsite -n __fish_use_subcommand -f -a %s -d '", v->name);
        fish_text(v->summary);
        fputs("'\n", stdout);
    }
    for (int64_t i = 0; i < args->n_slots; i++) {
        const ot_option *o = &args->slots[i].option;
        printf("complete -c offsite -n '__fish_seen_subcommand_from %s' -l %s%s", v->name, ot_option_is_negative(o) ? "no-" : "",
               o->name);
        if (o->letter != 0) printf(" -s %c", o->letter);
        if (o->kind == OT_KIND_ENUM) {
            fputs(" -x -a '", stdout);
            put_choices(o->choices, " ");
            putchar('\'');
        } else if (o->kind != OT_KIND_FLAG) {
            fputs(o->kind == OT_KIND_PATH ? " -r" : " -x", stdout);
        }
        fputs(" -d '", stdout);
        fish_text(o->help);
        fputs("'\n", stdout);
    }
    for (const ot_operand *o = v->operands; o != NULL && o->name != NULL; o++) {
        if (o->kind != OT_KIND_ENUM && !names_command(o)) continue;
        printf("complete -c offsite -n '__fish_seen_subcommand_from %s' -f -a '", v->name);
        if (o->kind == OT_KIND_ENUM) {
            put_choices(o->choices, " ");
        } else {
            put_verbs();
        }
        fputs("'\n", stdout);
    }
}

static void fish_begin(void) { fputs("# fish completion for offsite, made by 'offsite completion fish'\n", stdout); }
static void fish_end(void) {}

/* ==== The verb ==== */

static const char *const shells[] = {"bash", "zsh", "fish", NULL};
static const struct {
    void (*begin)(void);
    void (*verb)(const ot_args *args);
    void (*end)(void);
} writers[] = {{bash_begin, bash_verb, bash_end}, {zsh_begin, zsh_verb, zsh_end}, {fish_begin, fish_verb, fish_end}};

static ot_status run(const ot_args *args, ot_error *err) {
    const char *shell = ot_args_operand(args, "SHELL");
    int which = 0;
    /* The table of operands admits no other shell. */
    while (shells[which + 1] != NULL && strcmp(shells[which], shell) != 0) which++;
    writers[which].begin();
    for (int64_t i = 0; ot_verbs[i] != NULL; i++) {
        ot_args verb;
        OT_TRY(ot_args_init(&verb, ot_verbs[i], err));
        writers[which].verb(&verb);
        ot_args_free(&verb);
    }
    writers[which].end();
    return OT_OK;
}

static const ot_operand operands[] = {
    {.name = "SHELL", .kind = OT_KIND_ENUM, .choices = shells, .help = "bash, zsh or fish"},
    {0},
};
static const ot_example examples[] = {
    {"For this bash session", "source <(offsite completion bash)"},
    {"For zsh, in a folder of its fpath", "offsite completion zsh > ~/.zfunc/_offsite"},
    {"For fish", "offsite completion fish > ~/.config/fish/completions/offsite.fish"},
    {0},
};

const ot_verb ot_verb_completion = {
    .name = "completion",
    .audience = OT_FOR_SHELL,
    .summary = "print a completion script for a shell",
    .operands = operands,
    .examples = examples,
    .run = run,
};
