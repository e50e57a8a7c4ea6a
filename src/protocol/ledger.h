/* The owner's private ledger, OFFER.owner.json beside an offer: which model it came from, which blocks were kept, by which recipe. */
#ifndef OT_PROTOCOL_LEDGER_H
#define OT_PROTOCOL_LEDGER_H

#include <stdint.h>

#include "base/error.h"
#include "base/mem.h"
#include "model/model.h"
#include "protocol/manifest.h"

typedef struct ot_ledger {
    char offer_id[OT_OFFER_ID];
    char base_sha256[OT_DIGEST_TEXT]; /* of every parameter of the whole model */
    char architecture[32];
    int64_t base_layers, bottom, top;
    int64_t *stack; /* offer block -> block of the whole model */
    int64_t n_stack;
    char recipe[1024];
    json_t *measured;  /* what the offer costs and leaks, NULL: not noted */
    json_t *distilled; /* how the emulator was distilled, NULL: it was not */
    ot_arena arena;
} ot_ledger;

void ot_ledger_free(ot_ledger *l);
/* Names, dtypes, shapes and bytes of all parameters. */
void ot_model_digest(const ot_model *m, char text[OT_DIGEST_TEXT]);
/* REFUSED when m is not the model that the offer was split from. */
ot_status ot_ledger_check_base(const ot_ledger *l, const ot_model *m, ot_error *err);
ot_status ot_ledger_write(const ot_ledger *l, const char *path, ot_error *err);
ot_status ot_ledger_read(const char *path, ot_ledger *out, ot_error *err);
/* Look through every *.owner.json in the given folders for the offer's ledger; NULL folders are passed over. */
ot_status ot_ledger_find(const char *offer_id, const char *const *folders, int n_folders, ot_ledger *out, ot_error *err);

#endif
