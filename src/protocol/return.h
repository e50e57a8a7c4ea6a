/* The data owner's result: tuned tensors with the offer's names and a manifest. */
#ifndef OT_PROTOCOL_RETURN_H
#define OT_PROTOCOL_RETURN_H

#include "peft/peft.h"
#include "protocol/ledger.h"
#include "protocol/manifest.h"

/* Is this parameter of an offer trained by the method, "full" or "bitfit"? */
bool ot_return_trains(const ot_manifest *offer, const char *method, const ot_param *p);

/* Write the tuned tensors (F32 masters), manifest.json and, for LoRA, PEFT's adapter_config.json into the existing directory dir. p is settled.
 * card may be NULL. */
ot_status ot_return_write_peft(const char *dir, const ot_manifest *offer, const ot_peft *p, const ot_trainables *t, json_t *card, ot_error *err);
/* The same for a method that trains the offer's own parameters. */
ot_status ot_return_write(const char *dir, const ot_manifest *offer, const char *method, const ot_trainables *t, json_t *card, ot_error *err);

/* Read and check a return: its manifest, every tensor's digest, and that all values are finite (REFUSED otherwise). */
typedef struct ot_return {
    ot_manifest manifest;
    ot_peft_choice choice; /* as the manifest says */
    void *file; /* ot_safetensors * */
} ot_return;
ot_status ot_return_open(const char *dir, ot_return *out, ot_error *err);
void ot_return_close(ot_return *r);

/* A classifier's return may have other classes than the model: then the model gets a head for them, for the return's values to fill. Before the two
 * calls below; the model's digest must have been taken before. */
ot_status ot_return_take_head(const ot_return *r, ot_model *m, ot_error *err);

/* The tensors of a return for one model: values[i] belongs to parameter i of the model, NULL: untouched. block_map: block of the return's offer ->
 * block of the model (the identity to lay a return over its own offer). REFUSED when tensors are missing, extra or misshapen. */
ot_status ot_return_map(const ot_return *r, const ot_model *m, const int64_t *block_map, int64_t n_blocks, const float **values, ot_error *err);

/* Of a return that adds tensors (LoRA, Houlsby, prefix): hook it into the model, with the values. map and refusals as above. A stack of methods may
 * do both. */
ot_status ot_return_attach(const ot_return *r, ot_model *m, const int64_t *block_map, int64_t n_blocks, ot_peft *p, ot_error *err);

typedef struct ot_plug_options {
    const char *ledger; /* NULL: look for it */
    bool own_dtype, force;
    bool merge; /* LoRA into the weights it lies beside */
    const char *const *more; /* further returns of the same offer, averaged with the first */
    int64_t n_more;
    const double *weights; /* [1 + n_more], normalised here; NULL: all the same */
    ot_dtype dtype;
} ot_plug_options;

typedef struct ot_plug_summary {
    int64_t tensors, values;
    double largest_change; /* of any value, against the model's own; an adapter directory changes none */
    bool adapter;          /* the result is an adapter directory */
    bool merged;
    double rounding_error; /* largest, of a merged weight in the dtype it is written in */
} ot_plug_summary;

/* MODEL + RETURN -> a Hugging Face directory with the tuned layers in their places; of a return that adds tensors, unless they are merged, an adapter
 * directory with the model's block numbers. Several returns are averaged, see average.h. */
ot_status ot_plug(ot_model *m, const char *return_dir, const char *out_dir, const ot_plug_options *options, ot_plug_summary *summary,
                  ot_error *err);

#endif
