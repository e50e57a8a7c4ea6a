#include "cli/split_distill.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/spec.h"
#include "cli/args.h"
#include "cli/common_training.h"
#include "cli/output.h"
#include "cli/verbs.h"
#include "emulator/emulator.h"

enum { MOST_WORDS = 48, WORD = 64 };

/* The words of a command line. */
typedef struct words {
    const char *argv[MOST_WORDS];
    char own[MOST_WORDS][WORD];
    int n;
} words;

static void put(words *w, const char *option, const char *value) {
    if (option != NULL) w->argv[w->n++] = option;
    w->argv[w->n++] = value;
}

const char *ot_split_distill_step(const char *recipe) {
    static const char name[] = "distill";
    const char *bar = strrchr(recipe, '|'), *step = bar != NULL ? bar + 1 : recipe;
    while (*step == ' ') step++;
    size_t size = sizeof name - 1;
    return strncmp(step, name, size) == 0 && (step[size] == '\0' || step[size] == ':' || step[size] == ' ') ? step : NULL;
}

/* The step's keys as options of `offsite distill`. */
static ot_status put_step(words *w, const char *text, ot_error *err) {
    static const struct {
        const char *key, *option;
    } map[] = {{"steps", "--steps"}, {"lr", "--lr"}, {"batch", "--batch"}, {"block", "--block"}, {"warmup", "--warmup"}, {"lm", "--lm-weight"},
               {"kd", "--kd-weight"}, {"hidden", "--hidden-weight"}, {"kl", "--kl-weight"}, {"temperature", "--kl-temperature"}, {"seed", "--seed"}};
    const ot_spec_method *methods[64] = {0};
    int distill = 0;
    for (int i = 0; ot_emulator_methods[i] != NULL && i < 63; i++) {
        methods[i] = &ot_emulator_methods[i]->spec;
        if (strcmp(methods[i]->name, "distill") == 0) distill = i;
    }
    ot_spec spec;
    OT_TRY(ot_spec_parse(text, "--emulator", methods, &spec, err));
    for (size_t i = 0; i < sizeof map / sizeof *map; i++) {
        const ot_spec_value *v = ot_spec_get(&spec.steps[0], methods[distill], map[i].key);
        bool by_verb = strcmp(map[i].key, "warmup") == 0 || strcmp(map[i].key, "lm") == 0 || strcmp(map[i].key, "kd") == 0;
        if (!v->given && by_verb) continue; /* its default depends on the run or the model */
        char *own = w->own[w->n];
        snprintf(own, WORD, "%.17g", v->number);
        put(w, map[i].option, own);
    }
    return OT_OK;
}

static ot_status distill(const ot_args *args, const char *start, const char *text, ot_error *err) {
    words w = {0};
    char ledger[4200];
    snprintf(ledger, sizeof ledger, "%s.owner.json", start);
    put(&w, NULL, start);
    put(&w, "--teacher", ot_args_operand(args, "MODEL"));
    put(&w, "--train", ot_args_str(args, "data"));
    put(&w, "--ledger", ledger);
    put(&w, "--output", ot_args_str(args, "output"));
    OT_TRY(put_step(&w, text, err));
    if (ot_args_flag(args, "force")) put(&w, NULL, "--force");
    if (ot_args_flag(args, "quiet")) put(&w, NULL, "--quiet");
    ot_args run;
    OT_TRY(ot_args_parse(&run, &ot_verb_distill, w.n, (char *const *)w.argv, err));
    ot_status status = ot_distill_run(&run, true, err);
    ot_args_free(&run);
    return status;
}

static ot_status take_id(const char *offer, ot_split_summary *summary, ot_error *err) {
    ot_manifest made;
    OT_TRY(ot_manifest_read(offer, OT_BUNDLE_OFFER, &made, err));
    memcpy(summary->offer_id, made.offer_id, sizeof summary->offer_id);
    summary->exact_bytes = summary->exact_tensors = summary->same_values = 0; /* every value of the emulator has moved */
    ot_manifest_free(&made);
    return OT_OK;
}

static void remove_offer(const char *offer) {
    char ledger[4200];
    ot_error ignored;
    (void)ot_remove_tree(offer, &ignored);
    if (snprintf(ledger, sizeof ledger, "%s.owner.json", offer) < (int)sizeof ledger) (void)ot_remove_tree(ledger, &ignored);
}

ot_status ot_split_distilled(const ot_args *args, const ot_model *m, const ot_split_options *options, ot_split_summary *summary, ot_error *err) {
    const char *output = ot_args_str(args, "output"), *step = ot_split_distill_step(options->emulator);
    char before[OT_SPEC_TEXT], start[4096];
    if (!ot_args_has(args, "data")) return ot_args_fail(args, err, "--emulator: distill needs --data FILE, text to learn on (or --data self:N)");
    if (ot_path_exists(output) && !options->force) return ot_fail(err, OT_ERR_REFUSED, "%s exists already: choose another -o, or --force", output);
    words checked = {0}; /* the step's keys, before anything is made */
    OT_TRY(put_step(&checked, step, err));
    if (strlen(options->emulator) >= sizeof before) return ot_args_fail(args, err, "--emulator: the text is too long");
    snprintf(before, sizeof before, "%.*s", (int)(step - options->emulator), options->emulator);
    char *bar = strrchr(before, '|');
    if (bar != NULL) *bar = '\0';
    if (snprintf(start, sizeof start, "%s.undistilled", output) >= (int)sizeof start) return ot_fail(err, OT_ERR_USAGE, "the path %s is too long", output);
    ot_split_options first = *options;
    first.emulator = before;
    first.max_cpl = 0; /* what is learnt counts */
    OT_TRY(ot_split(m, start, &first, summary, err));
    ot_status status = distill(args, start, step, err);
    if (status == OT_ERR_INTERRUPTED) {
        ot_note(args, "split: %s is the offer before distillation: `offsite distill %s --teacher %s -o %s --resume` with the step's options goes on", start,
                start, ot_args_operand(args, "MODEL"), output);
        return status;
    }
    if (status == OT_OK) status = take_id(output, summary, err);
    if (status == OT_OK) {
        status = ot_split_measure(m, output, options, summary, err);
        if (status == OT_ERR_REFUSED) remove_offer(output);
    }
    remove_offer(start);
    return status;
}
