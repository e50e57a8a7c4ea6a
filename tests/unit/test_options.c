/* Option tables: parsing, defaults, overrides, every usage error word for word, config files, and what is made from the tables.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/args.h"
#include "cli/common_options.h"
#include "cli/config.h"
#include "cli/help.h"
#include "cli/suggest.h"

static ot_status run(const ot_args *args, ot_error *err) {
    (void)args, (void)err;
    return OT_OK;
}

/* A verb with an option of every kind beside the common groups. */
static const ot_option odd_options[] = {
    {.name = "output", .letter = 'o', .kind = OT_KIND_PATH, .value = "DIR", .required = true, .help = "result"},
    {.name = "room", .kind = OT_KIND_SIZE, .fallback = "1K", .min = 16, .max = OT_NO_MAX, .help = "bytes"},
    {.name = "ratio", .kind = OT_KIND_F64, .min = 0.25, .max = 0.75, .help = "a share"},
    {.name = "offset", .kind = OT_KIND_I64, .fallback = "-3", .help = "any number"},
    {.name = "low", .kind = OT_KIND_I64, .min = -INFINITY, .max = 5, .help = "bounded above"},
    {.name = "note", .letter = 'n', .kind = OT_KIND_STRING, .repeatable = true, .help = "texts"},
    {.name = "verbose", .letter = 'v', .kind = OT_KIND_FLAG, .help = "say more"},
    {0},
};
static const ot_option_group odd = {"Odd ones", odd_options};
static const ot_operand operands[] = {
    {.name = "OFFER", .kind = OT_KIND_PATH, .help = "the offer"},
    {.name = "MORE", .kind = OT_KIND_PATH, .optional = true, .repeated = true, .help = "others"},
    {0},
};
static const ot_override overrides[] = {
    {.name = "weight-decay", .fallback = "0.1"},
    {.name = "init-adapter", .absent = true},
    {.name = "train", .optional = true, .help = "data, or self:N"},
    {0},
};
static const ot_example examples[] = {{"Try it", "offsite probe offer -o out"}, {0}};
static const ot_verb probe = {
    .name = "probe",
    .summary = "try the parser",
    .about = "First paragraph.\n\nSecond one:\n  kept as it is",
    .operands = operands,
    .overrides = overrides,
    .examples = examples,
    .groups = (const ot_option_group *const[]){&odd, &ot_options_training, &ot_options_optimizer, &ot_options_peft,
                                               &ot_options_compute, &ot_options_memory, &ot_options_json, NULL},
    .run = run,
};
static const ot_verb strict = {
    .name = "strict",
    .summary = "one argument only",
    .operands =
        (const ot_operand[]){
            {.name = "WHICH", .kind = OT_KIND_ENUM, .choices = (const char *const[]){"red", "blue", NULL}, .help = "a colour"},
            {0}},
    .groups = (const ot_option_group *const[]){&ot_options_training, &ot_options_storage, NULL},
    .run = run,
};

#define ARGV(...)                                                                                                                \
    (char *const[]) { __VA_ARGS__, NULL }

static int count_of(char *const *argv) {
    int n = 0;
    while (argv[n] != NULL) n++;
    return n;
}

static void parse(ot_args *args, char *const *argv) {
    ot_error err = {0};
    if (ot_args_parse(args, &probe, count_of(argv), argv, &err) != OT_OK) fail_msg("refused: %s", err.message);
}

static void refuse(const ot_verb *verb, char *const *argv, const char *message) {
    ot_error err = {0};
    ot_args args = {0};
    assert_int_equal(ot_args_parse(&args, verb, count_of(argv), argv, &err), OT_ERR_USAGE);
    assert_int_equal(err.code, OT_ERR_USAGE);
    assert_string_equal(err.message, message);
    ot_args_free(&args);
}

/* ==== The real verbs ==== */

static void test_tables_of_every_verb(void **state) {
    (void)state;
    int64_t n = 0;
    for (; ot_verbs[n] != NULL; n++) {
        ot_error err = {0};
        if (ot_verb_check(ot_verbs[n], &err) != OT_OK) fail_msg("%s", err.message);
        assert_ptr_equal(ot_verb_find(ot_verbs[n]->name), ot_verbs[n]);
    }
    assert_true(n >= 4);
    assert_null(ot_verb_find("nonsense"));
}

static char *help_of(const ot_verb *verb) {
    char *text = NULL;
    size_t size = 0;
    ot_error err = {0};
    FILE *f = open_memstream(&text, &size);
    assert_int_equal(ot_help_verb(verb, f, &err), OT_OK);
    fclose(f);
    return text;
}

static void check_help(const ot_verb *verb) {
    ot_args args;
    ot_error err = {0};
    char *text = help_of(verb);
    assert_int_equal(ot_args_init(&args, verb, &err), OT_OK);
    for (int64_t i = 0; i < args.n_slots; i++) {
        const ot_option *o = &args.slots[i].option;
        char wanted[80];
        snprintf(wanted, sizeof wanted, " --%s%s", ot_option_is_negative(o) ? "no-" : "", o->name);
        const char *at = text;
        do at = strstr(at + (at != text), wanted);
        while (at != NULL && at[strlen(wanted)] != ' ' && at[strlen(wanted)] != '\n');
        if (at == NULL) fail_msg("%s --help lacks '%s'", verb->name, wanted);
    }
    for (const ot_operand *o = verb->operands; o != NULL && o->name != NULL; o++) assert_non_null(strstr(text, o->name));
    for (const ot_example *e = verb->examples; e != NULL && e->what != NULL; e++) assert_non_null(strstr(text, e->command));
    for (const char *line = text; *line != '\0';) {
        size_t length = strcspn(line, "\n");
        assert_false(length > 0 && line[length - 1] == ' ');
        line += length + (line[length] == '\n');
    }
    free(text);
    ot_args_free(&args);
}

static void test_help_names_every_option(void **state) {
    (void)state;
    for (int64_t i = 0; ot_verbs[i] != NULL; i++) check_help(ot_verbs[i]);
    check_help(&probe);
    char *text = help_of(&probe);
    assert_non_null(strstr(text, "Usage: offsite probe OFFER [MORE]... -o DIR [OPTION...]\n"));
    assert_non_null(strstr(text, "\nSecond one:\n  kept as it is\n"));
    assert_non_null(strstr(text, "      --schedule cosine|linear|constant\n"));
    assert_non_null(strstr(text, "(default 0.1)")); /* the override's */
    assert_null(strstr(text, "init-adapter"));
    free(text);
}

static void test_check_finds_slips(void **state) {
    (void)state;
    static const struct {
        ot_option option;
        const char *message;
    } slips[] = {
        {{.name = "lr", .kind = OT_KIND_F64, .fallback = "fast", .help = "x"}, "lr: 'fast' is not a finite number"},
        {{.name = "lr", .kind = OT_KIND_F64, .help = "Ends with a stop."},
         "slip: --lr lacks a help text of one line without full stop"},
        {{.name = "no-lr", .kind = OT_KIND_FLAG, .help = "x"}, "slip: --no-lr: name the flag without 'no-'"},
        {{.name = "quiet", .kind = OT_KIND_FLAG, .help = "x"}, "slip: --quiet is declared twice"},
        {{.name = "mode", .kind = OT_KIND_ENUM, .help = "x"}, "slip: --mode has no choices"},
        {{.name = "hush", .letter = 'q', .kind = OT_KIND_FLAG, .help = "x"}, "slip: -q is declared twice"},
    };
    for (size_t i = 0; i < sizeof slips / sizeof *slips; i++) {
        ot_option options[] = {slips[i].option, {0}};
        ot_option_group group = {"Slips", options};
        ot_verb verb = {.name = "slip", .summary = "s", .run = run, .groups = (const ot_option_group *const[]){&group, NULL}};
        ot_error err = {0};
        assert_int_equal(ot_verb_check(&verb, &err), OT_ERR_USAGE);
        assert_string_equal(err.message, slips[i].message);
    }
    ot_error err = {0};
    assert_int_equal(ot_verb_check(&probe, &err), OT_OK);
}

/* ==== Values ==== */

static void test_defaults_are_the_contract(void **state) {
    (void)state;
    ot_args a;
    parse(&a, ARGV("offer", "-o", "out", "--train", "t.txt"));
    assert_string_equal(ot_args_operand(&a, "OFFER"), "offer");
    assert_int_equal(ot_args_operand_count(&a, "MORE"), 0);
    assert_null(ot_args_operand(&a, "MORE"));
    assert_int_equal(ot_args_i64(&a, "epochs"), 5);
    assert_int_equal(ot_args_i64(&a, "batch"), 1);
    assert_int_equal(ot_args_i64(&a, "grad-accum"), 1);
    assert_int_equal(ot_args_i64(&a, "block"), 512);
    assert_true(ot_args_f64(&a, "lr") == 1e-4);
    assert_true(ot_args_f64(&a, "weight-decay") == 0.1);
    assert_true(ot_args_f64(&a, "clip") == 1.0);
    assert_true(ot_args_f64(&a, "head-lr-scale") == 10.0);
    assert_string_equal(ot_args_str(&a, "schedule"), "cosine");
    assert_string_equal(ot_args_str(&a, "peft"), "full");
    assert_int_equal(ot_args_choice(&a, "schedule"), 0);
    assert_int_equal(ot_args_choice(&a, "select"), -1);
    assert_null(ot_args_str(&a, "select"));
    assert_null(ot_args_str(&a, "valid"));
    assert_true(ot_args_flag(&a, "shuffle"));
    assert_true(ot_args_flag(&a, "progress"));
    assert_false(ot_args_flag(&a, "json"));
    assert_false(ot_args_has(&a, "lr"));
    assert_true(ot_args_has(&a, "train"));
    assert_false(ot_args_has(&a, "steps"));
    assert_int_equal(ot_args_i64(&a, "steps"), 0);
    assert_int_equal(ot_args_count(&a, "lr-grid"), 0);
    assert_false(ot_args_declares(&a, "init-adapter"));
    assert_int_equal(ot_args_i64(&a, "offset"), -3);
    ot_args_free(&a);
}

static void test_every_way_to_write_a_value(void **state) {
    (void)state;
    ot_args a;
    parse(&a, ARGV("--lr=2e-5", "-oout", "offer", "--offset", "-12", "--no-shuffle", "--room", "1.5M", "-n", "one",
                   "--note=", "-n=- three", "--lr-grid", "2e-5,5e-5", "--lr-grid=1e-4", "-vq", "--recompute=no", "--ratio", ".5",
                   "--", "--second", "-"));
    assert_true(ot_args_f64(&a, "lr") == 2e-5);
    assert_true(ot_args_has(&a, "lr"));
    assert_string_equal(ot_args_str(&a, "output"), "out");
    assert_int_equal(ot_args_i64(&a, "offset"), -12);
    assert_false(ot_args_flag(&a, "shuffle"));
    assert_true(ot_args_has(&a, "shuffle"));
    assert_int_equal(ot_args_i64(&a, "room"), 3 << 19);
    assert_int_equal(ot_args_count(&a, "note"), 3);
    assert_string_equal(ot_args_str_at(&a, "note", 0), "one");
    assert_string_equal(ot_args_str_at(&a, "note", 1), "");
    assert_string_equal(ot_args_str_at(&a, "note", 2), "- three");
    assert_null(ot_args_str_at(&a, "note", 3));
    assert_int_equal(ot_args_count(&a, "lr-grid"), 3);
    assert_true(ot_args_f64_at(&a, "lr-grid", 2) == 1e-4);
    assert_true(ot_args_flag(&a, "verbose") && ot_args_flag(&a, "quiet"));
    assert_true(ot_args_has(&a, "recompute") && !ot_args_flag(&a, "recompute"));
    assert_true(ot_args_f64(&a, "ratio") == 0.5);
    assert_int_equal(ot_args_operand_count(&a, "MORE"), 2);
    assert_string_equal(ot_args_operand_at(&a, "MORE", 0), "--second");
    assert_string_equal(ot_args_operand_at(&a, "MORE", 1), "-");
    ot_args_free(&a);
}

static void test_sizes(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t bytes;
    } good[] = {{"4096", 4096},         {"64K", 65536},    {"64k", 65536}, {"2GiB", 2LL << 30},
                {"512MB", 512LL << 20}, {"1T", 1LL << 40}, {"99B", 99},    {"0.5K", 512}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        ot_args a;
        parse(&a, ARGV("x", "-o", "y", "--room", (char *)good[i].text));
        assert_int_equal(ot_args_i64(&a, "room"), good[i].bytes);
        ot_args_free(&a);
    }
    static const char *const bad[] = {"K", "", "1X", "1KK", "1 K", "1e3", "-1K", "99999999T", "1KBB", "1.2.3"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char message[128];
        snprintf(message, sizeof message, "probe: --room: '%s' is not a size in bytes like 4096, 64K or 1.5G", bad[i]);
        refuse(&probe, ARGV("x", "-o", "y", "--room", (char *)bad[i]), message);
    }
}

static void test_help_wins_over_what_follows(void **state) {
    (void)state;
    ot_args a;
    ot_error err = {0};
    char *const *argv = ARGV("--help", "--nonsense");
    assert_int_equal(ot_args_parse(&a, &probe, 2, argv, &err), OT_OK);
    assert_true(a.help);
    ot_args_free(&a);
    argv = ARGV("-vh");
    assert_int_equal(ot_args_parse(&a, &probe, 1, argv, &err), OT_OK);
    assert_true(a.help);
    ot_args_free(&a);
}

/* ==== Usage errors ==== */

static void test_usage_errors(void **state) {
    (void)state;
    static const struct {
        char *argv[6];
        const char *message;
    } cases[] = {
        {{"x", "-o", "y", "--stpes", "3"}, "probe: unknown option '--stpes'; did you mean '--steps'?"},
        {{"x", "--grad_accum=3"}, "probe: unknown option '--grad_accum'; did you mean '--grad-accum'?"},
        {{"x", "--warm"}, "probe: unknown option '--warm'; did you mean '--warmup'?"},
        {{"x", "--no-shufle"}, "probe: unknown option '--no-shufle'; did you mean '--no-shuffle'?"},
        {{"x", "--no-lr"}, "probe: unknown option '--no-lr'; did you mean '--lr'?"},
        {{"x", "--xyzzy"}, "probe: unknown option '--xyzzy'; 'offsite probe --help' lists the options"},
        {{"x", "-z"}, "probe: unknown option '-z' in '-z'; 'offsite probe --help' lists the options"},
        {{"x", "-vz"}, "probe: unknown option '-z' in '-vz'; 'offsite probe --help' lists the options"},
        {{"x", "-lr", "3"}, "probe: unknown option '-lr'; did you mean '--lr'?"},
        {{"x", "-output", "y"}, "probe: unknown option '-output'; did you mean '--output'?"},
        {{"x", "-output=y"}, "probe: unknown option '-output'; did you mean '--output'?"},
        {{"x", "-o"}, "probe: -o needs a value: -o DIR"},
        {{"x", "--lr"}, "probe: --lr needs a value: --lr X"},
        {{"x", "--train", "--valid", "v"},
         "probe: --train needs a value, but '--valid' follows; write '--train=--valid' if that is the value"},
        {{"x", "--train", "-o", "v"}, "probe: --train needs a value, but '-o' follows; write '--train=-o' if that is the value"},
        {{"x", "--steps", "3x"}, "probe: --steps: '3x' is not a whole number"},
        {{"x", "--steps", "1e3"}, "probe: --steps: '1e3' is not a whole number"},
        {{"x", "--steps="}, "probe: --steps: '' is not a whole number"},
        {{"x", "--steps", " 3"}, "probe: --steps: ' 3' is not a whole number"},
        {{"x", "--steps", "99999999999999999999"}, "probe: --steps: '99999999999999999999' is not a whole number"},
        {{"x", "--steps", "0"}, "probe: --steps: 0 is out of range; it must be at least 1"},
        {{"x", "--low", "6"}, "probe: --low: 6 is out of range; it must be at most 5"},
        {{"x", "--ratio", "0.8"}, "probe: --ratio: 0.8 is out of range; it must lie between 0.25 and 0.75"},
        {{"x", "--room", "1"}, "probe: --room: 1 is out of range; it must be at least 16"},
        {{"x", "--lr", "nan"}, "probe: --lr: 'nan' is not a finite number"},
        {{"x", "--lr", "inf"}, "probe: --lr: 'inf' is not a finite number"},
        {{"x", "--lr", "1e400"}, "probe: --lr: '1e400' is not a finite number"},
        {{"x", "--lr", "0x10"}, "probe: --lr: '0x10' is not a finite number"},
        {{"x", "--lr", "1,5"}, "probe: --lr: '1,5' is not a finite number"},
        {{"x", "--lr", "-1"}, "probe: --lr: -1 is out of range; it must be at least 0"},
        {{"x", "--lr-grid", "1,,2"}, "probe: --lr-grid: an item of the list '1,,2' is empty"},
        {{"x", "--lr-grid", "1,b"}, "probe: --lr-grid: 'b' is not a finite number"},
        {{"x", "--schedule", "cosin"}, "probe: --schedule: 'cosin' is not cosine, linear or constant; did you mean 'cosine'?"},
        {{"x", "--schedule", "step"}, "probe: --schedule: 'step' is not cosine, linear or constant"},
        {{"x", "--schedule="}, "probe: --schedule: '' is not cosine, linear or constant"},
        {{"x", "--train="}, "probe: --train: the path is empty"},
        {{"x", "--json=maybe"}, "probe: --json: 'maybe' is neither yes nor no"},
        {{"x", "--no-json=yes"}, "probe: --no-json takes no value"},
        {{"x", "--lr", "1", "--lr=2"}, "probe: --lr is given twice ('1' and '2')"},
        {{"x", "-v", "--no-verbose"}, "probe: --no-verbose is given twice"},
        {{"x"}, "probe: option -o, --output is missing; usage: offsite probe OFFER [MORE]... -o DIR [OPTION...]"},
        {{"-o", "y"}, "probe: OFFER is missing; usage: offsite probe OFFER [MORE]... -o DIR [OPTION...]"},
        {{"", "-o", "y"}, "probe: OFFER: the path is empty"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) refuse(&probe, cases[i].argv, cases[i].message);
    refuse(&strict, ARGV("red"), "strict: option --train is missing; usage: offsite strict WHICH --train FILE [OPTION...]");
    refuse(&strict, ARGV("rad"), "strict: WHICH: 'rad' is not red or blue; did you mean 'red'?");
    refuse(&strict, ARGV("red", "blue"),
           "strict: unexpected argument 'blue'; usage: offsite strict WHICH --train FILE [OPTION...]");
    refuse(&strict, ARGV("red", "--lr", "1"), "strict: unknown option '--lr'; 'offsite strict --help' lists the options");
    refuse(&strict, ARGV("red", "--dtype", "fp16"), "strict: --dtype: 'fp16' is not f32, bf16 or f16; did you mean 'f16'?");
}

static void test_long_foreign_words_are_safe(void **state) {
    (void)state;
    char word[3000];
    memset(word, 'a', sizeof word - 1);
    word[0] = word[1] = '-';
    word[sizeof word - 1] = '\0';
    ot_args a = {0};
    ot_error err = {0};
    char *const *argv = ARGV("x", word);
    assert_int_equal(ot_args_parse(&a, &probe, 2, argv, &err), OT_ERR_USAGE);
    ot_args_free(&a);
    word[1] = 'a';
    assert_int_equal(ot_args_parse(&a, &probe, 2, argv, &err), OT_ERR_USAGE);
    ot_args_free(&a);
}

static void test_suggestions(void **state) {
    (void)state;
    assert_int_equal(ot_edit_distance("", "abc"), 3);
    assert_int_equal(ot_edit_distance("abc", ""), 3);
    assert_int_equal(ot_edit_distance("tune", "tuen"), 1);
    assert_int_equal(ot_edit_distance("kitten", "sitting"), 3);
    assert_int_equal(ot_edit_distance("same", "same"), 0);
    char word[200];
    memset(word, 'x', sizeof word - 1);
    word[sizeof word - 1] = '\0';
    assert_true(ot_edit_distance(word, "x") == INT64_MAX);
    ot_suggest s = {.word = "zzz"};
    ot_suggest_offer(&s, "lr");
    ot_suggest_offer(&s, "steps");
    assert_null(s.best);
}

/* ==== Common helpers ==== */

static void test_dropout_and_warmup(void **state) {
    (void)state;
    ot_args a;
    ot_error err = {0};
    ot_dropout d;
    int64_t warmup;
    parse(&a, ARGV("x", "-o", "y"));
    assert_int_equal(ot_common_dropout(&a, &d, &err), OT_OK);
    assert_true(!d.from_config && d.rate == 0.0);
    assert_int_equal(ot_common_warmup(&a, 5000, 100, &warmup, &err), OT_OK);
    assert_int_equal(warmup, 100);
    assert_int_equal(ot_common_warmup(&a, 45, 100, &warmup, &err), OT_OK);
    assert_int_equal(warmup, 4);
    ot_args_free(&a);
    parse(&a, ARGV("x", "-o", "y", "--dropout", "config", "--warmup", "7"));
    assert_int_equal(ot_common_dropout(&a, &d, &err), OT_OK);
    assert_true(d.from_config);
    assert_int_equal(ot_common_warmup(&a, 7, 100, &warmup, &err), OT_OK);
    assert_int_equal(warmup, 7);
    assert_int_equal(ot_common_warmup(&a, 6, 100, &warmup, &err), OT_ERR_USAGE);
    assert_string_equal(err.message, "probe: --warmup: 7 is more than the run's 6 steps");
    ot_args_free(&a);
    static const char *const bad[] = {"", "1", "-0.1", "nan", "0.1x", "Config", ".", "e"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        parse(&a, ARGV("x", "-o", "y", "--dropout", (char *)bad[i]));
        assert_int_equal(ot_common_dropout(&a, &d, &err), OT_ERR_USAGE);
        ot_args_free(&a);
    }
}

/* ==== Config files ==== */

static const char config_path[] = "test_options.yaml";

static void write_config(const char *text) {
    ot_error err = {0};
    assert_int_equal(ot_write_file(config_path, text, (int64_t)strlen(text), &err), OT_OK);
}

static void test_config_fills_what_the_line_left_open(void **state) {
    (void)state;
    write_config(
        "# a run\nlr: 3e-4\nsteps: 20\nshuffle: no\noutput: \"from config\"\nlr-grid: [1e-5, 2e-5]\nnote:\n  - a b\n  - ''\n"
        "schedule: linear\npeft: lora:r=8\nverbose: true\n");
    ot_args a;
    parse(&a, ARGV("x", "--config", (char *)config_path, "--steps", "7"));
    assert_true(ot_args_f64(&a, "lr") == 3e-4);
    assert_true(ot_args_has(&a, "lr"));
    assert_int_equal(ot_args_i64(&a, "steps"), 7);
    assert_false(ot_args_flag(&a, "shuffle"));
    assert_true(ot_args_flag(&a, "verbose"));
    assert_string_equal(ot_args_str(&a, "output"), "from config");
    assert_int_equal(ot_args_count(&a, "lr-grid"), 2);
    assert_int_equal(ot_args_count(&a, "note"), 2);
    assert_string_equal(ot_args_str_at(&a, "note", 0), "a b");
    assert_string_equal(ot_args_str(&a, "schedule"), "linear");
    assert_string_equal(ot_args_str(&a, "peft"), "lora:r=8");
    ot_args_free(&a);
    write_config("");
    parse(&a, ARGV("x", "-o", "y", "--config", (char *)config_path));
    ot_args_free(&a);
    write_config("# only a comment\n---\n{}\n...\n");
    parse(&a, ARGV("x", "-o", "y", "--config", (char *)config_path));
    ot_args_free(&a);
}

static void test_config_errors(void **state) {
    (void)state;
    static const struct {
        const char *yaml, *message;
    } cases[] = {
        {"lr: 1\nstpes: 3\n", "test_options.yaml:2: unknown option 'stpes'; did you mean 'steps'?"},
        {"grad_accum: 3\n", "test_options.yaml:1: unknown option 'grad_accum'; did you mean 'grad-accum'?"},
        {"xyzzy: 3\n", "test_options.yaml:1: unknown option 'xyzzy'; 'offsite probe --help' lists the options"},
        {"no-shuffle: yes\n", "test_options.yaml:1: unknown option 'no-shuffle'; write 'shuffle: no'"},
        {"--lr: 1\n", "test_options.yaml:1: unknown option '--lr'; write 'lr' without dashes"},
        {"config: x\n", "test_options.yaml:1: 'config' belongs on the command line"},
        {"help: yes\n", "test_options.yaml:1: 'help' belongs on the command line"},
        {"\nlr: fast\n", "test_options.yaml:2: lr: 'fast' is not a finite number"},
        {"lr: -1\n", "test_options.yaml:1: lr: -1 is out of range; it must be at least 0"},
        {"steps: 2.5\n", "test_options.yaml:1: steps: '2.5' is not a whole number"},
        {"shuffle: maybe\n", "test_options.yaml:1: shuffle: 'maybe' is neither yes nor no"},
        {"schedule: cosin\n", "test_options.yaml:1: schedule: 'cosin' is not cosine, linear or constant; did you mean 'cosine'?"},
        {"lr: 1\nlr: 2\n", "test_options.yaml:2: 'lr' is given twice"},
        {"lr:\n", "test_options.yaml:1: 'lr' has no value; leave the line out for the default, or write \"\" for an empty text"},
        {"peft: ~\n",
         "test_options.yaml:1: 'peft' has no value; leave the line out for the default, or write \"\" for an empty text"},
        {"lr: [1, 2]\n", "test_options.yaml:1: 'lr' takes one value, not a list"},
        {"train:\n  file: x\n", "test_options.yaml:2: 'train' must be one value or a list of values, not something nested"},
        {"note: [[a]]\n", "test_options.yaml:1: 'note' must be one value or a list of values, not something nested"},
        {"- lr\n", "test_options.yaml:1: a config file holds lines 'option: value', nothing else"},
        {"just text\n", "test_options.yaml:1: a config file holds lines 'option: value', nothing else"},
        {"lr: &a 1\n", "test_options.yaml:1: 'lr': anchors are not supported"},
        {"lr: !!float 1\n", "test_options.yaml:1: 'lr': tags are not supported"},
        {"lr: *a\n", "test_options.yaml:1: 'lr': aliases are not supported"},
        {"note: &a [x]\n", "test_options.yaml:1: 'note': anchors are not supported"},
        {"&a {lr: 1}\n", "test_options.yaml:1: anchors are not supported"},
        {"{}\n---\nlr: 2\n", "test_options.yaml:2: a config file holds one YAML document, not several"},
        {"lr: \"1\\0\"\n", "test_options.yaml:1: 'lr' holds a NUL character"},
        {"\"lr\\0\": 1\n", "test_options.yaml:1: a key holds a NUL character"},
        {"? [a]\n: 1\n", "test_options.yaml:1: a key must be the plain name of an option"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_config(cases[i].yaml);
        refuse(&probe, ARGV("x", "-o", "y", "--config", (char *)config_path), cases[i].message);
    }
    /* A bad value is an error even where the command line overrides it. */
    write_config("lr: fast\n");
    refuse(&probe, ARGV("x", "-o", "y", "--lr", "1", "--config", (char *)config_path),
           "test_options.yaml:1: lr: 'fast' is not a finite number");
    static const char *const broken[] = {"lr: [1\n",         "lr: \"x\n",    "a: b: c\n", "\t- x\n",
                                         "%YAML 9.9\n---\n", "lr: '\x01'\n", "lr: \xff\n"};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        write_config(broken[i]);
        ot_args a = {0};
        ot_error err = {0};
        char *const *argv = ARGV("x", "-o", "y", "--config", (char *)config_path);
        assert_int_equal(ot_args_parse(&a, &probe, 5, argv, &err), OT_ERR_USAGE);
        assert_non_null(strstr(err.message, "test_options.yaml:"));
        ot_args_free(&a);
    }
}

static void test_config_that_cannot_be_read(void **state) {
    (void)state;
    ot_args a = {0};
    ot_error err = {0};
    char *const *argv = ARGV("x", "-o", "y", "--config", "no such file.yaml");
    assert_int_equal(ot_args_parse(&a, &probe, 5, argv, &err), OT_ERR_IO);
    assert_non_null(strstr(err.message, "no such file.yaml"));
    ot_args_free(&a);
    char *big = calloc(1, (1 << 20) + 2);
    memset(big, '#', (1 << 20) + 1);
    write_config(big);
    free(big);
    argv = ARGV("x", "-o", "y", "--config", (char *)config_path);
    assert_int_not_equal(ot_args_parse(&a, &probe, 5, argv, &err), OT_OK);
    ot_args_free(&a);
}

static void test_effective_config_round_trip(void **state) {
    (void)state;
    ot_args a, b;
    ot_error err = {0};
    char *first = NULL, *second = NULL;
    size_t size = 0;
    parse(&a, ARGV("x", "-o", "dir: \"q\" \\ \x01 \xC3\xA9 \xE2\x80\xA8", "--lr", "3e-4", "-n", "null", "-n", "", "-n", "a, b",
                   "-n", "- x", "-n", "=", "--no-shuffle", "--lr-grid", "1e-5,2", "--force", "--quiet", "--offset", "-7"));
    assert_int_equal(ot_config_write(&a, OT_CONFIG_WITH_PATHS, &first, &size, &err), OT_OK);
    assert_int_equal(size, strlen(first));
    assert_non_null(strstr(first, "# offsite probe, version "));
    assert_non_null(strstr(first, "\n# Optimizer\noptimizer: adamw\nlr: 3e-4\n"));
    assert_non_null(strstr(first, "\nshuffle: no\n"));
    assert_non_null(strstr(first, "\nweight-decay: 0.1\n"));
    assert_non_null(strstr(first, "\noffset: -7\n"));
    assert_non_null(strstr(first, "\nnote: [\"null\", \"\", \"a, b\", \"- x\", \"=\"]\n"));
    assert_null(strstr(first, "force"));
    assert_null(strstr(first, "quiet"));
    assert_null(strstr(first, "steps"));
    write_config(first);
    parse(&b, ARGV("x", "--config", (char *)config_path));
    assert_string_equal(ot_args_str(&b, "output"), ot_args_str(&a, "output"));
    assert_int_equal(ot_config_write(&b, OT_CONFIG_WITH_PATHS, &second, &size, &err), OT_OK);
    assert_string_equal(first, second);
    free(second);
    assert_int_equal(ot_config_write(&b, OT_CONFIG_FIXED, &second, &size, &err), OT_OK);
    assert_null(strstr(second, "output"));
    free(first);
    free(second);
    ot_args_free(&a);
    ot_args_free(&b);
    unlink(config_path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables_of_every_verb),
        cmocka_unit_test(test_help_names_every_option),
        cmocka_unit_test(test_check_finds_slips),
        cmocka_unit_test(test_defaults_are_the_contract),
        cmocka_unit_test(test_every_way_to_write_a_value),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_help_wins_over_what_follows),
        cmocka_unit_test(test_usage_errors),
        cmocka_unit_test(test_long_foreign_words_are_safe),
        cmocka_unit_test(test_suggestions),
        cmocka_unit_test(test_dropout_and_warmup),
        cmocka_unit_test(test_config_fills_what_the_line_left_open),
        cmocka_unit_test(test_config_errors),
        cmocka_unit_test(test_config_that_cannot_be_read),
        cmocka_unit_test(test_effective_config_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
