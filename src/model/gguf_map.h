/* How a model lies in a GGUF: names of keys and tensors, and the order of rows. Read by the loader and the writer alike, so that what one writes the
 * other understands. */
#ifndef OT_MODEL_GGUF_MAP_H
#define OT_MODEL_GGUF_MAP_H

#include "format/gguf.h"
#include "model/model.h"

/* A size with its key behind "ARCHITECTURE." and in config.json. */
typedef struct ot_gguf_size {
    const char *gguf, *hf; /* NULL ends the table */
} ot_gguf_size;

typedef struct ot_gguf_family {
    const char *name; /* general.architecture; NULL ends the table */
    const ot_gguf_size *sizes;
    const char *eps, *eps_hf; /* of the norms */
    double default_eps;
    bool rope; /* the Llama family's keys: grouped heads, head size, rotary positions */
} ot_gguf_family;
const ot_gguf_family *ot_gguf_family_of(const ot_arch *arch); /* NULL: not in a GGUF */

typedef enum ot_gguf_layout {
    OT_GGUF_AS_IS,
    OT_GGUF_ROWS,       /* rows in another order: ot_gguf_row */
    OT_GGUF_TRANSPOSED, /* [in, out] here, [out, in] there (GPT-2) */
} ot_gguf_layout;
ot_gguf_layout ot_gguf_layout_of(const ot_desc *desc, ot_role role, bool bias);
/* The file's row of model row r: llama.cpp interleaves the rotary halves of q and k of the Llama family, and takes BLOOM's q, k and v apart. */
int64_t ot_gguf_row(const ot_desc *desc, ot_role role, int64_t r);

enum { OT_GGUF_NAME = 256 };
ot_status ot_gguf_param_name(const ot_desc *desc, ot_role role, int64_t block, bool bias, char name[OT_GGUF_NAME], ot_error *err);

/* What each rotary frequency is divided by, for llama3 scaling: rope_freqs.weight [rotary_dim / 2]. */
void ot_gguf_rope_factors(const ot_desc *desc, float *factors);
/* Own keys beside rope_freqs.weight, which does not tell its settings. */
extern const char ot_gguf_key_low[], ot_gguf_key_high[], ot_gguf_key_factor[], ot_gguf_key_original[];

#endif
