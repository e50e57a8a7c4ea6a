/* Distillation between bundles: an offer, its ledger and the whole model become another offer with its own ledger. */
#ifndef OT_PROTOCOL_DISTILL_H
#define OT_PROTOCOL_DISTILL_H

#include "model/network.h"
#include "model/save.h"
#include "protocol/ledger.h"
#include "protocol/manifest.h"

typedef struct ot_distillation {
    ot_manifest offer;
    ot_ledger ledger;
    ot_model *student, *teacher;
    int64_t *match; /* for every entry of the emulator's stack the teacher's block whose output it is to give */
} ot_distillation;

/* ledger: a file, or NULL: it is looked for beside the offer, beside the teacher and in the current folder. REFUSED unless the three belong together. */
ot_status ot_distillation_open(const char *offer, const char *teacher, const char *ledger, ot_distillation *out, ot_error *err);
void ot_distillation_close(ot_distillation *d);
/* The teacher's middle for the student's emulator; weights are the caller's to set. */
void ot_distillation_teacher(const ot_distillation *d, ot_teacher *out);
/* Is this a parameter of the emulator's blocks? */
bool ot_distillation_trains(const ot_distillation *d, const ot_param *p);

/* Write the distilled offer into the existing directory dir, and before it the ledger dir.owner.json: the offer is another one than before, with an
 * id of its own, and its returns are plugged by its own ledger. step: the recipe's step ("distill:steps=...") that is appended to the ledger's.
 * record: what the ledger notes about it; the reference is taken over. */
ot_status ot_distillation_write(const ot_distillation *d, const char *dir, ot_param_values *values, void *context, const char *step, json_t *record,
                                ot_error *err);

#endif
