/* The methods that train parameters the model has already: all of a block's, or its one-dimensional ones (BitFit; the paper's reference counts the
 * norm gains among them); or none but a classifier's head, which is a linear probe. */
#include <string.h>

#include "peft/methods.h"

static bool trains_full(const ot_spec_step *step, const ot_param *param) {
    (void)step;
    (void)param;
    return true;
}

static int64_t count_full(const ot_desc *desc, const ot_spec_step *step, int64_t blocks) {
    (void)step;
    return blocks * ot_desc_block_parameters(desc);
}

static bool with_gains(const ot_spec_step *step) { return strcmp(ot_spec_get(step, &ot_peft_bitfit.spec, "gains")->word, "yes") == 0; }

static bool trains_bitfit(const ot_spec_step *step, const ot_param *param) { return param->bias || (with_gains(step) && !param->decay); }

static int64_t count_bitfit(const ot_desc *desc, const ot_spec_step *step, int64_t blocks) {
    int64_t n = 0;
    for (int r = 0; r < OT_ROLE_COUNT; r++) {
        ot_role_shape s = ot_desc_shape(desc, (ot_role)r);
        if (!s.exists || !ot_role_in_block((ot_role)r)) continue;
        n += (s.bias ? s.out : 0) + (s.vector && with_gains(step) ? s.cols : 0);
    }
    return blocks * n;
}

static ot_status check_bitfit(const ot_desc *desc, const ot_spec_step *step, ot_error *err) {
    (void)desc;
    const char *gains = ot_spec_get(step, &ot_peft_bitfit.spec, "gains")->word;
    if (strcmp(gains, "yes") != 0 && strcmp(gains, "no") != 0) return ot_fail(err, OT_ERR_USAGE, "--peft: bitfit: gains is yes or no, not \"%s\"", gains);
    return OT_OK;
}

const ot_peft_method ot_peft_full = {
    .spec = {.name = "full", .help = "every parameter of the tuned blocks"},
    .place = OT_PEFT_WEIGHTS,
    .count = count_full,
    .trains = trains_full,
};

const ot_peft_method ot_peft_bitfit = {
    .spec = {.name = "bitfit",
             .help = "biases and norm gains of the tuned blocks",
             .keys = (const ot_spec_key[]){{"gains", OT_SPEC_WORD, "yes", 0, 0, "norm gains too: yes or no"}, {0}}},
    .place = OT_PEFT_VECTORS,
    .check = check_bitfit,
    .count = count_bitfit,
    .trains = trains_bitfit,
};

static bool trains_head(const ot_spec_step *step, const ot_param *param) {
    (void)step;
    (void)param;
    return false; /* of a block: the head is trained with every method */
}

static int64_t count_head(const ot_desc *desc, const ot_spec_step *step, int64_t blocks) {
    (void)desc;
    (void)step;
    (void)blocks;
    return 0;
}

static ot_status check_head(const ot_desc *desc, const ot_spec_step *step, ot_error *err) {
    (void)step;
    return desc->vision ? OT_OK : ot_fail(err, OT_ERR_USAGE, "--peft: head: a model of text has no classification head to train");
}

const ot_peft_method ot_peft_head = {
    .spec = {.name = "head", .help = "a classifier's head alone: a linear probe"},
    .place = OT_PEFT_HEAD,
    .check = check_head,
    .count = count_head,
    .trains = trains_head,
};
