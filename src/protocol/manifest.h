/* manifest.json of offers and returns: what is in the bundle, with a digest for every tensor and file. It says nothing that the other side does
 * not need: no kept indices, no recipe, no digests of what was left out. */
#ifndef OT_PROTOCOL_MANIFEST_H
#define OT_PROTOCOL_MANIFEST_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/error.h"
#include "base/mem.h"
#include "tensor/dtype.h"

enum { OT_OFFER_ID = 33 };

typedef enum ot_bundle_kind { OT_BUNDLE_NONE, OT_BUNDLE_OFFER, OT_BUNDLE_RETURN } ot_bundle_kind;

typedef struct ot_manifest_tensor {
    const char *name;
    ot_dtype dtype;
    int32_t n_dims;
    int64_t shape[OT_MAX_DIMS];
    char sha256[OT_DIGEST_TEXT];
} ot_manifest_tensor;

/* A file that goes with the weights: of an offer the tokenizer's and the like, of a return adapter_config.json. */
typedef struct ot_manifest_file {
    const char *name; /* in the bundle's folder itself */
    char sha256[OT_DIGEST_TEXT];
} ot_manifest_file;

typedef struct ot_manifest {
    ot_bundle_kind kind;
    char offer_id[OT_OFFER_ID];
    char architecture[32];
    int64_t layers, bottom, top; /* of the offer's stack */
    char method[256]; /* of a return: the --peft string, "full" */
    const char **classes; /* of a classifier's return: the names that its head's outputs have, in their order; NULL: none are said */
    int64_t n_classes;
    ot_manifest_tensor *tensors;
    int64_t n_tensors, capacity;
    ot_manifest_file *files; /* older manifests list none */
    int64_t n_files, files_capacity;
    json_t *card; /* of a return, when the data owner opted in; NULL otherwise */
    ot_arena arena;
} ot_manifest;

void ot_manifest_free(ot_manifest *m);
/* Append one tensor of the bundle with the digest of its bytes. */
ot_status ot_manifest_add(ot_manifest *m, const ot_tensor *t, ot_error *err);
/* Append those of the named files (NULL-terminated) that dir has, with their digests. */
ot_status ot_manifest_add_files(ot_manifest *m, const char *dir, const char *const *names, ot_error *err);
/* Note the names of the classes. */
ot_status ot_manifest_classes(ot_manifest *m, const char *const *names, int64_t n, ot_error *err);
/* An id that follows from the offer's own tensors, files and configuration, and from nothing else. */
void ot_manifest_make_id(ot_manifest *m, const char *config_text);
ot_status ot_manifest_write(const ot_manifest *m, const char *dir, ot_error *err);
/* OT_BUNDLE_NONE and OK when dir has no manifest.json. Everything read is bounded and checked. wanted: what to ask for where there is no dir, an offer, a
 * return or (OT_BUNDLE_NONE) either; the kind that is found is the caller's to judge. */
ot_status ot_manifest_read(const char *dir, ot_bundle_kind wanted, ot_manifest *out, ot_error *err);
/* Of a folder without a manifest: what a run that was stopped has left? */
bool ot_manifest_unfinished(const char *dir);
const ot_manifest_tensor *ot_manifest_find(const ot_manifest *m, const char *name);
/* Does a tensor as read have the manifest's dtype, shape and digest? REFUSED if not. */
ot_status ot_manifest_check(const ot_manifest *m, const ot_tensor *t, const char *file, ot_error *err);
/* Does dir have the file as the manifest lists it? REFUSED if not. */
ot_status ot_manifest_check_file(const ot_manifest_file *f, const char *dir, ot_error *err);
/* All of an offer's or a return's files besides the weights, which are small, before it is used. An offer's weights are not looked at: `offsite verify` does that. */
ot_status ot_manifest_check_files(const ot_manifest *m, const char *dir, ot_error *err);

/* Is it a folder whose manifest.json is of an offer? Any path may be asked about. */
bool ot_offer_is(const char *path);
/* Of such a folder the same check; anything else passes. */
ot_status ot_offer_check_files(const char *path, ot_error *err);

#endif
