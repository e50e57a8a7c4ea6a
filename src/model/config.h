/* Reading config.json keys with aliases and defaults, for the architecture files. `keys` is a list separated by '|': the first that
 * exists counts ("n_embd|hidden_size"). */
#ifndef OT_MODEL_CONFIG_H
#define OT_MODEL_CONFIG_H

#include <jansson.h>

#include "base/error.h"
#include "model/desc.h"

typedef struct ot_config {
    const json_t *json;
    const char *where; /* file name for messages */
    ot_error *err;
    ot_status status; /* first failure; later calls do nothing */
} ot_config;

/* Integer in [1, 2^31) unless the default (used for a missing or null key) is returned; fallback < 0: the key is required. */
int64_t ot_config_size(ot_config *c, const char *keys, int64_t fallback);
double ot_config_number(ot_config *c, const char *keys, double fallback);
bool ot_config_flag(ot_config *c, const char *keys, bool fallback);
const char *ot_config_text(ot_config *c, const char *keys, const char *fallback);
int64_t ot_config_token(ot_config *c, const char *keys, int64_t fallback); /* a token id, null = -1, a list: its first */
ot_act_kind ot_config_act(ot_config *c, const char *keys, const char *fallback);
/* rope_parameters of transformers 5, or rope_theta + rope_scaling of 4. */
void ot_config_rope(ot_config *c, ot_desc *d, double theta);
/* image_size (a number or [height, width]), patch_size, num_channels, and the class token: what every vision tower has. */
void ot_config_image(ot_config *c, ot_desc *d, int64_t image, int64_t patch);
/* Classes of a classifier: the entries of id2label, else num_labels, else 2. */
int64_t ot_config_labels(ot_config *c);
/* Refuse a setting that would change the computation and is not supported. */
void ot_config_refuse(ot_config *c, const char *key, const char *why);

#endif
