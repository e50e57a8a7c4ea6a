/* The command line as data. One `const ot_verb` for each command, made of const tables of options, is the only source of
 * parsing, `--help`, manual pages, shell completion, config files, effective configs and the wording of every usage error.
 *
 * Adding a verb is one file and one line. src/cli/verb_count.c:
 *
 *     #include "cli/common_options.h"
 *     #include "cli/output.h"
 *
 *     static ot_status run(const ot_args *args, ot_error *err) {
 *         const char *model = ot_args_operand(args, "MODEL");      // never NULL: the table says it is required
 *         int64_t limit = ot_args_i64(args, "limit");              // the default when the user gave none
 *         bool explicit_limit = ot_args_has(args, "limit");        // given on the command line or in the config file
 *         int64_t total;
 *         OT_TRY(count_parameters(model, limit, &total, err));     // library errors become the one `offsite: ...` line
 *         if (ot_args_flag(args, "json")) {
 *             ot_json_out out = ot_json_out_open(stdout);
 *             ot_json_out_object(&out, NULL);
 *             ot_json_out_i64(&out, "total", total);
 *             return ot_json_out_close(&out, err);
 *         }
 *         printf("%" PRId64 " parameters\n", total);
 *         return OT_OK;
 *     }
 *
 *     static const ot_option options[] = {
 *         {.name = "limit", .kind = OT_KIND_I64, .value = "N", .fallback = "100", .min = 1, .max = OT_NO_MAX,
 *          .help = "stop after N tensors"},
 *         {0},
 *     };
 *     static const ot_option_group group = {"Counting", options};
 *     static const ot_operand operands[] = {
 *         {.name = "MODEL", .kind = OT_KIND_PATH, .help = "a model folder or a GGUF file"},
 *         {0},
 *     };
 *     static const ot_example examples[] = {
 *         {"Count the first ten tensors", "offsite count gpt2 --limit 10"},
 *         {0},
 *     };
 *
 *     const ot_verb ot_verb_count = {
 *         .name = "count", .audience = OT_FOR_ANYONE, .summary = "count a model's parameters", .operands = operands,
 *         .groups = (const ot_option_group *const[]){&group, &ot_options_compute, &ot_options_json, NULL},
 *         .examples = examples, .run = run,
 *     };
 *
 * and `X(count)` in src/cli/verbs.h. `--help`, `--config`, `--quiet` and `--no-progress` come by themselves. The test suite walks
 * every verb's tables (defaults parse, names are unique, help texts are there), so a slip in a table fails a test. A getter
 * asked for a name that the verb does not declare, or by the wrong kind, aborts: that is a bug of the verb, not of the user. */
#ifndef OT_CLI_OPTIONS_H
#define OT_CLI_OPTIONS_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#define OT_NO_MAX INFINITY

typedef enum ot_option_kind {
    OT_KIND_NONE, /* ends a table */
    OT_KIND_FLAG, /* --x, --no-x, --x=yes|no */
    OT_KIND_I64,
    OT_KIND_F64,
    OT_KIND_STRING,
    OT_KIND_PATH,
    OT_KIND_ENUM, /* one of `choices` */
    OT_KIND_SIZE  /* bytes: 4096, 64K, 1.5G, 512MiB; units are powers of 1024 */
} ot_option_kind;

/* What a verb does with a path that it is given. */
typedef enum ot_path_use {
    OT_PATH_READ,
    OT_PATH_WRITTEN, /* written or added to: it is nothing that is read */
    OT_PATH_REPLACED /* what lies there makes way: it neither is, holds nor lies in anything that is read */
} ot_path_use;

/* {0} ends an array of options. */
typedef struct ot_option {
    const char *name; /* without dashes */
    char letter;      /* 0: none */
    ot_option_kind kind;
    const char *value;          /* placeholder in help, e.g. "FILE"; NULL: by kind */
    const char *fallback;       /* the default, parsed like a user's text; NULL: no value. A flag's is "no" unless stated;
                                   one with "yes" is shown as --no-NAME */
    const char *shown;          /* said in help instead of the default: "a tenth of the steps" */
    double min, max;            /* inclusive, for numbers and sizes; both 0: any. OT_NO_MAX: no upper bound */
    const char *const *choices; /* ENUM: NULL-terminated */
    const char *help;           /* begins in lower case, no full stop */
    bool repeatable;            /* may be given several times, or as a list in a config file */
    bool commas;                /* one text holds several values parted by commas; implies repeatable */
    bool required;
    ot_path_use use;  /* PATH */
    bool may_be_path; /* STRING: a name, or else the path of a file that is read */
    bool transient;  /* says how to run, not what to compute: left out of stored configs */
    bool adjustable; /* may be another one when a run is resumed */
} ot_option;

typedef struct ot_option_group {
    const char *title; /* "Training" */
    const ot_option *options;
} ot_option_group;

/* How one verb differs from a common table; {0} ends the array. NULL texts keep the common ones. */
typedef struct ot_override {
    const char *name;
    const char *value, *fallback, *shown, *help;
    bool absent;   /* the verb does not have this option */
    bool optional; /* no longer required */
} ot_override;

/* A positional argument; {0} ends the array. */
typedef struct ot_operand {
    const char *name;           /* upper case: "MODEL" */
    ot_option_kind kind;        /* STRING, PATH or ENUM */
    const char *const *choices; /* ENUM */
    const char *help;
    bool optional;
    bool repeated; /* only the last one: takes all that is left */
} ot_operand;

typedef struct ot_example {
    const char *what; /* a sentence without full stop */
    const char *command;
} ot_example;

typedef enum ot_audience { OT_FOR_OWNER, OT_FOR_DATA_OWNER, OT_FOR_ANYONE, OT_FOR_SHELL, OT_AUDIENCE_COUNT } ot_audience;

typedef struct ot_args ot_args;

typedef struct ot_verb {
    const char *name;
    ot_audience audience;
    bool hidden;         /* left out of lists; works all the same */
    const char *summary; /* one line, lower case, no full stop */
    const char *usage;   /* what follows "offsite NAME"; NULL: made from the operands and required options */
    const char *about;   /* paragraphs parted by an empty line; reflowed when printed */
    const ot_example *examples;
    const ot_operand *operands;
    const ot_option_group *const *groups; /* NULL-terminated; may be NULL */
    const ot_override *overrides;
    bool (*own_config)(const ot_args *args); /* is --config, with these operands, a file that the verb reads itself? NULL: it never is */
    ot_status (*run)(const ot_args *args, ot_error *err);
} ot_verb;

/* All verbs, NULL-terminated (src/cli/verbs.c). */
extern const ot_verb *const ot_verbs[];
const ot_verb *ot_verb_find(const char *name);

/* ---- What a verb's run() may ask. Texts live as long as args. ---- */

const ot_verb *ot_args_verb(const ot_args *args);
/* Given on the command line or in the config file (a default is not "given"). */
bool ot_args_has(const ot_args *args, const char *name);
bool ot_args_flag(const ot_args *args, const char *name);
/* I64 and SIZE; 0 when there is neither value nor default. */
int64_t ot_args_i64(const ot_args *args, const char *name);
double ot_args_f64(const ot_args *args, const char *name);
/* STRING, PATH, ENUM; NULL when there is neither value nor default. */
const char *ot_args_str(const ot_args *args, const char *name);
/* Index of an ENUM's value in its choices, -1 when there is none. */
int ot_args_choice(const ot_args *args, const char *name);
/* Repeatable options: how many values, and each. */
int64_t ot_args_count(const ot_args *args, const char *name);
const char *ot_args_str_at(const ot_args *args, const char *name, int64_t index);
int64_t ot_args_i64_at(const ot_args *args, const char *name, int64_t index);
double ot_args_f64_at(const ot_args *args, const char *name, int64_t index);
/* Does this verb have such an option at all? For code shared by verbs. */
bool ot_args_declares(const ot_args *args, const char *name);

/* Positional arguments by the name in the table; NULL (0) when an optional one was left out. */
const char *ot_args_operand(const ot_args *args, const char *name);
int64_t ot_args_operand_count(const ot_args *args, const char *name);
const char *ot_args_operand_at(const ot_args *args, const char *name, int64_t index);

/* A usage error that a verb finds itself (exit code 2), worded like the parser's: "NAME: ...". */
ot_status ot_args_fail(const ot_args *args, ot_error *err, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
