/* The methods that train parameters the model has already: all of a block's, or its one-dimensional ones (BitFit; the paper's reference counts the
 * norm gains among them). */
#include <string.h>

#include "peft/methods.h"

static bool wants(const ot_peft *p, const ot_param *param) {
    if (param->block < 0 || !p->tuned[param->block]) return false;
    if (p->method == &ot_peft_full) return true;
    bool gains = strcmp(ot_spec_get(&p->spec.steps[0], &p->method->spec, "gains")->word, "yes") == 0;
    return param->bias || (gains && !param->decay);
}

static ot_status declare(ot_peft *p, ot_trainables *t, ot_error *err) {
    for (int64_t i = 0; i < p->model->n_params; i++) {
        if (wants(p, &p->model->params[i])) OT_TRY(ot_trainables_add_param(t, &p->model->params[i], err));
    }
    return OT_OK;
}

static int64_t count_full(const ot_desc *desc, const ot_spec_step *step) {
    (void)step;
    return ot_desc_block_parameters(desc);
}

static int64_t count_bitfit(const ot_desc *desc, const ot_spec_step *step) {
    bool gains = strcmp(ot_spec_get(step, &ot_peft_bitfit.spec, "gains")->word, "yes") == 0;
    int64_t n = 0;
    for (int r = 0; r < OT_ROLE_COUNT; r++) {
        ot_role_shape s = ot_desc_shape(desc, (ot_role)r);
        if (!s.exists || !ot_role_in_block((ot_role)r)) continue;
        n += (s.bias ? s.out : 0) + (s.vector && gains ? s.cols : 0);
    }
    return n;
}

static ot_status declare_bitfit(ot_peft *p, ot_trainables *t, ot_error *err) {
    const char *gains = ot_spec_get(&p->spec.steps[0], &p->method->spec, "gains")->word;
    if (strcmp(gains, "yes") != 0 && strcmp(gains, "no") != 0) return ot_fail(err, OT_ERR_USAGE, "--peft: bitfit: gains is yes or no, not \"%s\"", gains);
    return declare(p, t, err);
}

const ot_peft_method ot_peft_full = {
    .spec = {.name = "full", .help = "every parameter of the tuned blocks"},
    .count = count_full,
    .declare = declare,
    .file = "adapter.safetensors",
};

const ot_peft_method ot_peft_bitfit = {
    .spec = {.name = "bitfit",
             .help = "biases and norm gains of the tuned blocks",
             .keys = (const ot_spec_key[]){{"gains", OT_SPEC_WORD, "yes", 0, 0, "norm gains too: yes or no"}, {0}}},
    .count = count_bitfit,
    .declare = declare_bitfit,
    .file = "adapter.safetensors",
};
