/* A model, with or without an adapter merged into it, in a form that other programs open. What was written is opened again and must give the
 * logits of what was exported before it appears under its name. */
#ifndef OT_PROTOCOL_EXPORT_H
#define OT_PROTOCOL_EXPORT_H

#include "model/model.h"

typedef enum ot_export_format {
    OT_EXPORT_HF,       /* a Hugging Face directory */
    OT_EXPORT_GGUF,     /* one file for llama.cpp */
    OT_EXPORT_GGUF_LORA /* a LoRA adapter alone, for llama.cpp over the model's GGUF */
} ot_export_format;

typedef struct ot_export_options {
    ot_export_format format;
    bool own_dtype; /* HF: every tensor keeps its dtype; GGUF: the one that most of the model has */
    ot_dtype dtype;
    const char *adapter; /* a return or an adapter directory; NULL: none */
    const char *pre;     /* GGUF: name of the pre-tokenizer, NULL: found by what the tokenizer does */
    int64_t shard_bytes; /* HF: 0 for the usual */
    bool force;
} ot_export_options;

typedef struct ot_export_summary {
    ot_dtype dtype;
    int64_t tensors, bytes, kept_wider;
    int64_t merged; /* parameters that the adapter changed */
    bool tokenizer;
    int64_t texts;      /* whose ids the written tokenizer was checked on */
    bool leading_blank; /* false: texts that begin with a blank get other ids in llama.cpp */
    int64_t sequences, tokens;
    bool pictures; /* compared, not tokens: `tokens` of them */
    double largest_difference; /* of a logit */
    double difference;         /* root mean square, as a part of the logits' own spread */
    double allowed;
} ot_export_summary;

/* The adapter changes the model's slots while this runs. REFUSED when logits or token ids differ by more than the dtype explains; nothing is then
 * left behind. */
ot_status ot_export(ot_model *m, const char *output, const ot_export_options *options, ot_export_summary *summary, ot_error *err);

#endif
