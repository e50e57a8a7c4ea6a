/* Does a bundle hold what its manifest says, and nothing that no bundle should? For both sides, before anything is used. */
#ifndef OT_PROTOCOL_VERIFY_H
#define OT_PROTOCOL_VERIFY_H

#include "protocol/manifest.h"

typedef struct ot_verify_report {
    ot_manifest manifest;
    int64_t tensors, values, bytes; /* whose digest, dtype, shape and finite values were checked */
    int64_t files;                  /* of weights */
    bool fits_offer;                /* a return was checked against its offer */
    char **others;                  /* files of the bundle that nothing vouches for (a licence, ...); the arena's */
    int64_t n_others;
    ot_arena arena;
} ot_verify_report;

/* dir: an offer or a return. offer: the offer that a return is for, or NULL. REFUSED with the first thing that is off. observe (may be NULL) is
 * called after every tensor. */
ot_status ot_verify(const char *dir, const char *offer, void (*observe)(void *context, int64_t done, int64_t total), void *context,
                    ot_verify_report *out, ot_error *err);
void ot_verify_report_free(ot_verify_report *r);

#endif
