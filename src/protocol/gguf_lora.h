/* LoRA adapters as llama.cpp reads them: one GGUF with NAME.lora_a and NAME.lora_b for every linear. */
#ifndef OT_PROTOCOL_GGUF_LORA_H
#define OT_PROTOCOL_GGUF_LORA_H

#include "peft/peft.h"

/* p: attached LoRA. dtype: F32, F16 or BF16. */
ot_status ot_gguf_lora_write(const ot_peft *p, const char *path, ot_dtype dtype, int64_t *tensors, int64_t *bytes, ot_error *err);
/* What such a file says of itself, without its model. */
typedef struct ot_gguf_lora_card {
    char architecture[64];
    double alpha; /* 0: the file has none */
    int64_t linears; /* that it changes */
    int64_t least_rank, most_rank;
    int64_t tensors, values, bytes;
} ot_gguf_lora_card;

/* Is it a GGUF with an adapter, of whatever type, and no model? Never fails: an unreadable file is none. */
bool ot_gguf_lora_is(const char *path);
ot_status ot_gguf_lora_inspect(const char *path, ot_gguf_lora_card *out, ot_error *err);
/* Hook the adapter into the model. REFUSED when it is for other shapes or another architecture. */
ot_status ot_gguf_lora_open(const char *path, ot_model *m, ot_peft *p, ot_error *err);

#endif
