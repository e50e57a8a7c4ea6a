/* Every optimizer there is; to add one, add its line. */
#include <stddef.h>

#include "train/optimizer.h"

const ot_optimizer *const ot_optimizers[] = {
    &ot_optimizer_adamw,
    &ot_optimizer_adamw8bit,
    &ot_optimizer_sgd,
    NULL,
};

ot_status ot_optimizer_parse(const char *text, ot_optimizer_choice *out, ot_error *err) {
    enum { MOST = 16 };
    const ot_spec_method *methods[MOST] = {0};
    for (int i = 0; ot_optimizers[i] != NULL && i + 1 < MOST; i++) methods[i] = &ot_optimizers[i]->spec;
    ot_spec spec;
    OT_TRY(ot_spec_parse(text, "--optimizer", methods, &spec, err));
    if (spec.n_steps != 1) return ot_fail(err, OT_ERR_USAGE, "--optimizer: one optimizer at a time");
    const ot_spec_step *step = &spec.steps[0];
    *out = (ot_optimizer_choice){.optimizer = ot_optimizers[step->method]};
    for (int i = 0; i < OT_OPTIMIZER_KEYS && out->optimizer->spec.keys[i].name != NULL; i++) out->keys[i] = step->values[i].number;
    return OT_OK;
}
