/* The program `offsite`: finds the verb, lets the tables read its arguments, runs it, and turns errors into one line on standard
 * error and an exit code. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cli/args.h"
#include "cli/common_options.h"
#include "cli/common_paths.h"
#include "cli/help.h"
#include "cli/output.h"
#include "cli/suggest.h"
#include "cli/text.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_REFUSED = 3 };

static int exit_code(ot_status status) {
    switch (status) {
    case OT_OK: return EXIT_OK;
    case OT_ERR_USAGE: return EXIT_USAGE;
    case OT_ERR_REFUSED: return EXIT_REFUSED;
    default: return EXIT_FAILED;
    }
}

static int report(ot_status status, const ot_error *err) {
    fputs("offsite: ", stderr);
    ot_put_safe(stderr, err->message[0] != '\0' ? err->message : ot_status_text(status));
    fputc('\n', stderr);
    return exit_code(status);
}

static ot_status unknown_verb(const char *name, ot_error *err) {
    ot_suggest near = {.word = name};
    for (int64_t i = 0; ot_verbs[i] != NULL; i++) ot_suggest_offer(&near, ot_verbs[i]->name);
    if (near.best != NULL) return ot_fail(err, OT_ERR_USAGE, "unknown command '%s'; did you mean '%s'?", name, near.best);
    return ot_fail(err, OT_ERR_USAGE, "unknown command '%s'; 'offsite --help' lists the commands", name);
}

/* What follows --help, when it names a topic: `offsite split --help emulator`. */
static const char *help_topic(int argc, char **argv) {
    for (int i = 0; i + 1 < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) return argv[i + 1];
    }
    return "";
}

static ot_status run_verb(const ot_verb *verb, int argc, char **argv, ot_error *err) {
    ot_args args = {0};
    ot_status status = ot_args_parse(&args, verb, argc, argv, err);
    if (status == OT_OK && args.help) {
        if (!ot_help_topic(help_topic(argc, argv), stdout)) status = ot_help_verb(verb, stdout, err);
    } else if (status == OT_OK) {
        ot_common_apply(&args);
        status = ot_common_paths_apart(&args, err);
        if (status == OT_OK) status = verb->run(&args, err);
    }
    ot_args_free(&args);
    return status;
}

static ot_status run(int argc, char **argv, ot_error *err) {
    if (argc < 2) return ot_fail(err, OT_ERR_USAGE, "no command given; 'offsite --help' lists the commands");
    const char *word = argv[1];
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        ot_help_overview(stdout);
        return OT_OK;
    }
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
        printf("offsite %s\n", OFFSITE_VERSION);
        return OT_OK;
    }
    if (word[0] == '-') {
        return ot_fail(err, OT_ERR_USAGE,
                       "unknown option '%s' before a command; options follow the command: offsite COMMAND [OPTION...]", word);
    }
    const ot_verb *verb = ot_verb_find(word);
    if (verb == NULL) return unknown_verb(word, err);
    return run_verb(verb, argc - 2, argv + 2, err);
}

int main(int argc, char **argv) {
    ot_error err = {0};
    /* A write beyond a file-size limit then fails like one on a full disk, and is told like one. */
    signal(SIGXFSZ, SIG_IGN);
    ot_status status = run(argc, argv, &err);
    if (status == OT_OK) status = ot_output_flush(&err);
    return status == OT_OK ? EXIT_OK : report(status, &err);
}
