/* distill: a step of the pipeline that is a training run. Planning only notes it; the command line makes the offer of the steps before it and
 * distils that (`offsite split`, src/cli/split_distill.c). */
#include "emulator/methods.h"

static ot_status apply(ot_emulator *e, const ot_spec_step *step, ot_error *err) {
    (void)step;
    (void)err; /* after quantize the decoded values learn and are packed again */
    e->distilled = true;
    return OT_OK;
}

const ot_emulator_method ot_emulator_distill = {
    .spec = {.name = "distill",
             .help = "train the emulator to stand in for the middle, on --data; the last step",
             .keys =
                 (const ot_spec_key[]){
                     {"steps", OT_SPEC_INTEGER, "1000", 1, 1e12, "of the optimizer"},
                     {"lr", OT_SPEC_NUMBER, "1e-4", 0, 1e6, "learning rate"},
                     {"batch", OT_SPEC_INTEGER, "1", 1, 1e9, "rows a step"},
                     {"block", OT_SPEC_INTEGER, "512", 2, 1e9, "tokens a row"},
                     {"warmup", OT_SPEC_INTEGER, NULL, 0, 1e12, "steps; 2000, or a tenth of shorter runs"},
                     {"lm", OT_SPEC_NUMBER, "1", 0, 1e6, "weight of the language-model loss"},
                     {"kd", OT_SPEC_NUMBER, "30", 0, 1e6, "weight of the distance from the teacher"},
                     {"hidden", OT_SPEC_NUMBER, "0", 0, 1e6, "weight of the distances after the other blocks"},
                     {"kl", OT_SPEC_NUMBER, "0", 0, 1e6, "weight of the divergence of the logits"},
                     {"temperature", OT_SPEC_NUMBER, "1", 0.01, 100, "of the divergence"},
                     {"seed", OT_SPEC_INTEGER, "0", 0, 9007199254740992.0, "of the order of the rows"},
                     {0},
                 }},
    .apply = apply,
};
