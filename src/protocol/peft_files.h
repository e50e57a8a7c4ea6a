/* Directories of adapters: PEFT's own files for LoRA, IA3, soft prompts and prefixes in every block, adapter.safetensors for the rest; each with an
 * adapter_config.json that says what it is. */
#ifndef OT_PROTOCOL_PEFT_FILES_H
#define OT_PROTOCOL_PEFT_FILES_H

#include "peft/peft.h"
#include "protocol/manifest.h"

typedef enum ot_peft_form {
    OT_PEFT_FORM_OWN,    /* adapter.safetensors: the method's names, or those of the model's own parameters */
    OT_PEFT_FORM_LORA,   /* adapter_model.safetensors as PEFT's LoRA, DoRA too */
    OT_PEFT_FORM_IA3,    /* the same of PEFT's IA3 */
    OT_PEFT_FORM_PREFIX, /* adapter_model.safetensors as PEFT's prefix-tuning: every block of the stack */
    OT_PEFT_FORM_PROMPT, /* adapter_model.safetensors as PEFT's prompt tuning */
} ot_peft_form;

/* Beside the adapter of a classifier: a list of the names of its head's classes. */
#define OT_PEFT_CLASSES "classes.json"

/* The form of an adapter directory, and of a return, where a prefix is never PEFT's: whether it covers a whole stack is the owner's business. */
ot_peft_form ot_peft_form_of(const ot_peft *p);
ot_peft_form ot_peft_form_in_return(const ot_peft_choice *c);
/* "adapter.safetensors" or "adapter_model.safetensors" */
const char *ot_peft_form_file(ot_peft_form form);
/* What PEFT puts before the name of a tensor that belongs to a linear; "" in other forms. */
const char *ot_peft_form_prefix(ot_peft_form form);

/* Write p's tensors (F32) and the trained parameters of t, without t those of p's model, into the existing directory dir. inventory: gets every tensor
 * with its digest, NULL: nobody asks. */
ot_status ot_peft_files_write(const char *dir, const ot_peft *p, const ot_trainables *t, ot_peft_form form, ot_manifest *inventory, ot_error *err);

/* Is this an adapter directory (does it hold adapter_config.json)? */
bool ot_peft_files_is(const char *dir);
/* Read an adapter directory over a model, ours or one that PEFT wrote: hooks and values in p; the parameters that replace the model's in
 * values[i] (F32 in p's arena; NULL: untouched). REFUSED when it does not fit the model, UNSUPPORTED when PEFT's file uses what is not read. */
ot_status ot_peft_files_open(const char *dir, ot_model *m, ot_peft *p, const float **values, ot_error *err);

#endif
