#include "peft/peft.h"

#include <stdio.h>

ot_status ot_peft_parse(const char *text, const ot_peft_method **method, ot_spec *spec, ot_error *err) {
    const ot_spec_method *methods[64] = {0};
    for (int i = 0; ot_peft_methods[i] != NULL && i < 63; i++) methods[i] = &ot_peft_methods[i]->spec;
    OT_TRY(ot_spec_parse(*text == '\0' ? "full" : text, "--peft", methods, spec, err));
    if (spec->n_steps != 1) return ot_fail(err, OT_ERR_USAGE, "--peft: one method at a time can be trained");
    *method = ot_peft_methods[spec->steps[0].method];
    return OT_OK;
}

ot_status ot_peft_count(const char *text, const ot_desc *desc, int64_t blocks, int64_t *count, ot_error *err) {
    const ot_peft_method *method = NULL;
    ot_spec spec;
    OT_TRY(ot_peft_parse(text, &method, &spec, err));
    *count = blocks * method->count(desc, &spec.steps[0]);
    return OT_OK;
}

ot_status ot_peft_begin(ot_peft *p, const char *text, ot_model *model, const bool *tuned, uint64_t seed, ot_trainables *t, ot_error *err) {
    *p = (ot_peft){.model = model, .tuned = tuned, .seed = seed};
    OT_TRY(ot_peft_parse(text, &p->method, &p->spec, err));
    snprintf(p->text, sizeof p->text, "%s", text);
    ot_status status = p->method->declare(p, t, err);
    if (status == OT_OK && t->n_items == 0) status = ot_fail(err, OT_ERR_USAGE, "--peft: nothing would be trained");
    if (status != OT_OK) ot_peft_end(p);
    return status;
}

const ot_hooks *ot_peft_hooks(const ot_peft *p) { return p->hooks.linear != NULL || p->hooks.prefix != NULL ? &p->hooks : NULL; }

void ot_peft_end(ot_peft *p) {
    ot_arena_free(&p->arena);
    *p = (ot_peft){0};
}
