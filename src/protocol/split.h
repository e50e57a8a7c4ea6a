/* The owner's first step: a model becomes an offer and a private ledger. Paper section 3. */
#ifndef OT_PROTOCOL_SPLIT_H
#define OT_PROTOCOL_SPLIT_H

#include "emulator/emulator.h"
#include "eval/emulation.h"
#include "model/model.h"
#include "protocol/manifest.h"

typedef struct ot_split_options {
    int64_t bottom, top;
    const char *emulator; /* recipe */
    const ot_dataset *data; /* public text: for the steps that look at one, and to measure the emulator on; NULL: none */
    const ot_backend *backend; /* which do that */
    ot_dtype compute;
    int64_t measure_rows;    /* measure on so many rows at most; 0: all */
    double max_cpl;          /* limits beyond which nothing is written; 0: none */
    int64_t max_bytes;
    ot_emulation_side *whole; /* the whole model's side: filled when it is empty, for further splits; NULL: not kept */
    bool own_dtype;
    ot_dtype dtype; /* unless own_dtype, and for GGUF */
    bool force;     /* replace an existing offer */
} ot_split_options;

typedef struct ot_split_summary {
    char offer_id[OT_OFFER_ID];
    int64_t layers, kept_middle, middle; /* of the offer; of the middle: kept and all */
    int64_t depth;                       /* blocks that run in the offer, shared ones each time */
    int64_t offer_bytes, exact_bytes, middle_bytes; /* files of weights; middle bytes shipped bit-exact; middle bytes in all */
    int64_t same_values, middle_values;  /* values that the offer's middle has of the whole one's, to rounding in the written type; all of the whole one's */
    int64_t kept_bytes, whole_bytes;       /* of the offer's middle, and what the whole middle would take as it is, both as written */
    int64_t exact_tensors, middle_tensors; /* of the whole middle: shipped bit-exact; all */
    int64_t trainable;
    bool plain; /* transformers opens it as a model of its own kind */
    bool measured;
    ot_emulation emulation; /* when measured */
} ot_split_summary;

/* offer: directory to make; the ledger goes to offer.owner.json beside it. NULL: only find out what it would be. Nothing is left behind on failure, and
 * nothing is written when a limit is exceeded (REFUSED). */
ot_status ot_split(const ot_model *m, const char *offer, const ot_split_options *options, ot_split_summary *summary, ot_error *err);

/* Measure the finished offer at this path instead, as one that was distilled: its ledger gets the new numbers. REFUSED when a limit is exceeded; the
 * offer is still there then. summary: of the split that it began with. */
ot_status ot_split_measure(const ot_model *m, const char *offer, const ot_split_options *options, ot_split_summary *summary, ot_error *err);

/* A directory that is filled under a temporary name and appears only when it is complete. */
typedef struct ot_staged_dir {
    char path[4096]; /* write here */
    char final[4096];
} ot_staged_dir;
/* May this output be replaced? REFUSED when it is a file, or a directory with things in it but no result of this program. */
ot_status ot_output_replaceable(const char *path, ot_error *err);
/* Refuses an existing `final` unless force. */
ot_status ot_staged_open(const char *final, bool force, ot_staged_dir *out, ot_error *err);
ot_status ot_staged_commit(ot_staged_dir *d, ot_error *err);
void ot_staged_abort(ot_staged_dir *d); /* harmless after a commit */

#endif
