/* `offsite man`: manual pages in roff, made from the verbs' tables; the build installs them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cli/args.h"
#include "cli/help.h"
#include "cli/verbs.h"

/* Text as roff takes it: hyphens stay hyphens when copied, and nothing at a line's start is a request. */
static void put(FILE *f, const char *text) {
    bool line_start = true;
    for (const char *p = text; *p != '\0'; p++) {
        if (line_start && (*p == '.' || *p == '\'')) fputs("\\&", f);
        line_start = *p == '\n';
        switch (*p) {
        case '\\': fputs("\\e", f); break;
        case '-': fputs("\\-", f); break;
        case '\'': fputs("\\(aq", f); break;
        case '`': fputs("\\(ga", f); break;
        case '^': fputs("\\(ha", f); break;
        case '~': fputs("\\(ti", f); break;
        default: fputc(*p, f);
        }
    }
}

static void put_line(FILE *f, const char *request, const char *text) {
    fprintf(f, "%s", request);
    put(f, text);
    fputc('\n', f);
}

/* Paragraphs parted by an empty line; lines that begin with a blank are shown as they are. */
static void put_paragraphs(FILE *f, const char *text) {
    bool verbatim = false;
    while (*text != '\0') {
        size_t length = strcspn(text, "\n");
        char *line = strndup(text, length);
        if (line == NULL) return;
        bool keep = *line == ' ';
        if (keep != verbatim) fputs(keep ? ".RS 4\n.nf\n" : ".fi\n.RE\n", f);
        verbatim = keep;
        if (length == 0) {
            fputs(".PP\n", f);
        } else {
            put_line(f, "", keep ? line + strspn(line, " ") : line);
        }
        free(line);
        text += length + (text[length] == '\n');
    }
    if (verbatim) fputs(".fi\n.RE\n", f);
}

static void title(FILE *f, const char *name) {
    fprintf(f,
            ".\\\" Made by 'offsite man' from the option tables; do not edit.\n.TH %s 1 \"\" \"offsite %s\" \"Offsite Manual\"\n",
            name, OFFSITE_VERSION);
}

static void exit_status(FILE *f) {
    static const char *const codes[][2] = {
        {"0", "The command did what it was asked to."},
        {"1", "It failed, for a file that is missing, empty, cut off or damaged, say; one line on standard error that begins with \"offsite:\" says why."},
        {"2", "Wrong usage: an unknown option, a value out of range, a missing argument."},
        {"3", "Refused by a check: the input was read well, and using it would be wrong."},
    };
    fputs(".SH EXIT STATUS\n", f);
    for (int i = 0; i < 4; i++) {
        fprintf(f, ".TP\n.B %s\n", codes[i][0]);
        put_line(f, "", codes[i][1]);
    }
}

static void put_option(FILE *f, const ot_option *o) {
    char remarks[256];
    ot_help_remarks(o, remarks, sizeof remarks);
    fputs(".TP\n", f);
    if (o->letter != 0) fprintf(f, "\\fB\\-%c\\fR, ", o->letter);
    fputs("\\fB\\-\\-", f);
    if (ot_option_is_negative(o)) fputs("no\\-", f);
    put(f, o->name);
    fputs("\\fR", f);
    if (o->kind == OT_KIND_ENUM && o->value == NULL) {
        for (int i = 0; o->choices[i] != NULL; i++) {
            fputs(i > 0 ? "|" : " ", f);
            fputs("\\fB", f);
            put(f, o->choices[i]);
            fputs("\\fR", f);
        }
    } else if (o->kind != OT_KIND_FLAG) {
        fputs(" \\fI", f);
        put(f, ot_option_placeholder(o));
        fputs("\\fR", f);
    }
    fputc('\n', f);
    put(f, o->help);
    if (*remarks != '\0') {
        fputs(" (", f);
        put(f, remarks);
        fputc(')', f);
    }
    fputs(".\n", f);
}

static ot_status verb_page(const ot_verb *v, FILE *f, ot_error *err) {
    ot_args args;
    OT_TRY(ot_args_init(&args, v, err));
    char name[64], usage[512];
    snprintf(name, sizeof name, "OFFSITE-%s", v->name);
    for (char *p = name; *p != '\0'; p++) *p = *p >= 'a' && *p <= 'z' ? (char)(*p - 'a' + 'A') : *p;
    title(f, name);
    fputs(".SH NAME\noffsite\\-", f);
    put(f, v->name);
    fputs(" \\- ", f);
    put_line(f, "", v->summary);
    ot_verb_usage(v, usage, sizeof usage);
    put_line(f, ".SH SYNOPSIS\n", usage);
    if (v->about != NULL) {
        fputs(".SH DESCRIPTION\n", f);
        put_paragraphs(f, v->about);
    }
    for (const ot_operand *o = v->operands; o != NULL && o->name != NULL; o++) {
        if (o == v->operands) fputs(".SH ARGUMENTS\n", f);
        fprintf(f, ".TP\n.I %s\n", o->name);
        put(f, o->help);
        fputs(".\n", f);
    }
    fputs(".SH OPTIONS\n", f);
    const ot_option_group *group = NULL;
    for (int64_t i = 0; i < args.n_slots; i++) {
        if (args.slots[i].group != group) put_line(f, ".SS ", args.slots[i].group->title);
        group = args.slots[i].group;
        put_option(f, &args.slots[i].option);
    }
    for (const ot_example *e = v->examples; e != NULL && e->what != NULL; e++) {
        if (e == v->examples) fputs(".SH EXAMPLES\n", f);
        fputs(".TP\n", f);
        put(f, e->what);
        fputs(":\n.nf\n", f);
        put_line(f, "", e->command);
        fputs(".fi\n", f);
    }
    exit_status(f);
    fputs(".SH SEE ALSO\n.BR offsite (1)\n", f);
    ot_args_free(&args);
    return OT_OK;
}

static void main_page(FILE *f) {
    title(f, "OFFSITE");
    fputs(".SH NAME\noffsite \\- tune a model on data that its owner never sees\n.SH SYNOPSIS\n", f);
    put_line(f, "", "offsite COMMAND [ARGUMENT...] [OPTION...]");
    fputs(".SH DESCRIPTION\n", f);
    put_paragraphs(f, ot_help_about());
    for (const ot_flow_step *s = ot_help_flow; s->who != NULL; s++) {
        fputs(".TP\n.B ", f);
        put_line(f, "", s->command);
        fprintf(f, "The %s: ", s->who);
        put(f, s->what);
        fputs(".\n", f);
    }
    fputs(".SH COMMANDS\n", f);
    for (ot_audience a = 0; a < OT_AUDIENCE_COUNT; a++) {
        bool any = false;
        for (int64_t i = 0; ot_verbs[i] != NULL; i++) {
            if (ot_verbs[i]->audience != a || ot_verbs[i]->hidden) continue;
            if (!any) put_line(f, ".SS ", ot_audience_title(a));
            any = true;
            fputs(".TP\n.BR offsite\\-", f);
            put(f, ot_verbs[i]->name);
            fputs(" (1)\n", f);
            put(f, ot_verbs[i]->summary);
            fputs(".\n", f);
        }
    }
    fputs(".SH CONFIG FILES\n", f);
    put_paragraphs(
        f, "Every command takes --config FILE.yaml: lines \"option: value\" with the names of the long options, \"yes\" or "
           "\"no\" for flags (an option --no-NAME is written \"NAME: no\"), and a list in brackets for an option that takes "
           "several values. Options on the command line win. Unknown options are refused.");
    fputs(".SH ENVIRONMENT\n.TP\n.B NO_COLOR\n", f);
    put_line(f, "", "When set, help is printed without bold headings.");
    exit_status(f);
}

static ot_status write_page(const ot_verb *verb, const char *folder, ot_error *err) {
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (f == NULL) return ot_fail_memory(err, 1 << 16, "a manual page");
    ot_status status = OT_OK;
    if (verb != NULL) {
        status = verb_page(verb, f, err);
    } else {
        main_page(f);
    }
    if (fclose(f) != 0 && status == OT_OK) status = ot_fail_memory(err, 1 << 16, "a manual page");
    if (status == OT_OK && folder == NULL) fwrite(text, 1, size, stdout);
    if (status == OT_OK && folder != NULL) {
        char name[80], path[4096];
        snprintf(name, sizeof name, "offsite%s%s.1", verb != NULL ? "-" : "", verb != NULL ? verb->name : "");
        if (ot_path_join(path, sizeof path, folder, name)) {
            status = ot_write_file(path, text, (int64_t)size, err);
        } else {
            status = ot_fail(err, OT_ERR_USAGE, "the path of folder '%s' is too long", folder);
        }
    }
    free(text);
    return status;
}

static ot_status run(const ot_args *args, ot_error *err) {
    const char *name = ot_args_operand(args, "COMMAND"), *folder = ot_args_str(args, "output");
    const ot_verb *verb = name != NULL ? ot_verb_find(name) : NULL;
    if (name != NULL && verb == NULL) {
        return ot_args_fail(args, err, "there is no command '%s'; 'offsite --help' lists them", name);
    }
    if (folder == NULL) return write_page(verb, NULL, err);
    OT_TRY(ot_make_dirs(folder, err));
    if (verb != NULL) return write_page(verb, folder, err);
    OT_TRY(write_page(NULL, folder, err));
    for (int64_t i = 0; ot_verbs[i] != NULL; i++) {
        if (!ot_verbs[i]->hidden) OT_TRY(write_page(ot_verbs[i], folder, err));
    }
    return OT_OK;
}

static const ot_operand operands[] = {
    {.name = "COMMAND",
     .kind = OT_KIND_STRING,
     .optional = true,
     .help = "the command; without it, the page of the whole program"},
    {0},
};
static const ot_option options[] = {
    {.name = "output",
     .letter = 'o',
     .kind = OT_KIND_PATH,
     .use = OT_PATH_WRITTEN,
     .value = "DIR",
     .transient = true,
     .help = "write pages into a folder: of all commands, unless one is named"},
    {0},
};
static const ot_option_group group = {"Pages", options};
static const ot_example examples[] = {
    {"Read a page", "offsite man tokenize | man -l -"},
    {"Write all pages", "offsite man -o /usr/local/share/man/man1"},
    {0},
};

const ot_verb ot_verb_man = {
    .name = "man",
    .audience = OT_FOR_SHELL,
    .hidden = true,
    .summary = "print manual pages in roff",
    .operands = operands,
    .groups = (const ot_option_group *const[]){&group, NULL},
    .examples = examples,
    .run = run,
};
