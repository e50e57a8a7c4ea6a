/* An adapter over an open model, for running it: the tensors of a return or an adapter directory in their places, or hooked in. */
#ifndef OT_PROTOCOL_ADAPTER_H
#define OT_PROTOCOL_ADAPTER_H

#include "model/network.h"
#include "protocol/return.h"

typedef struct ot_adapter {
    ot_return source;
    ot_peft peft;     /* of methods that hook in; all zero otherwise */
    void *values;     /* F32 copies of the tensors that replace the model's */
    ot_arena arena;
} ot_adapter;

/* path: a return, or an adapter directory of ours or of PEFT with the model's own block numbers, or a LoRA adapter of llama.cpp (GGUF). A return lies over the offer that it is for (another
 * offer is REFUSED), or over a whole model: the plug-in model, without the check of the weights that the ledger allows. The model's slots change:
 * close the adapter after every network and before the model; out stays where it is. */
ot_status ot_adapter_open(const char *path, ot_model *m, ot_adapter *out, ot_error *err);
const ot_hooks *ot_adapter_hooks(const ot_adapter *a); /* NULL when nothing hooks in */
void ot_adapter_close(ot_adapter *a);

#endif
