/* How well an emulator stands in for the middle, without tuning anything: the loss with it and with the whole middle on a public text, and how alike
 * the gradients are that the adapter layers get. One forward and backward pass over the text for each of the two models. */
#ifndef OT_EVAL_EMULATION_H
#define OT_EVAL_EMULATION_H

#include "train/dataset.h"

typedef struct ot_emulation_options {
    const ot_backend *backend;
    ot_dtype compute;
    int64_t bottom, top; /* adapter layers */
} ot_emulation_options;

/* One model over the text. */
typedef struct ot_emulation_side {
    double loss;        /* mean over rows of the row's mean */
    int64_t rows;       /* that had a target */
    double seconds;     /* of the fastest row's forward and backward pass */
    int64_t activations; /* bytes that a step works in, weights apart */
    float *gradient;    /* of the adapter layers' parameters: bottom blocks, then top blocks, each in the order of the model */
    int64_t values, bottom_values;
} ot_emulation_side;

/* The model's slots carry gradients while this runs and are as before afterwards. */
ot_status ot_emulation_run(const ot_model *m, const ot_dataset *data, const ot_emulation_options *options, ot_emulation_side *out, ot_error *err);
void ot_emulation_free(ot_emulation_side *s);

typedef struct ot_emulation {
    int64_t rows;
    double full_perplexity, emulator_perplexity;
    double cpl; /* capability left: perplexity of the whole model by that of the emulator; 1: as good, 0: knows nothing */
    double fidelity, fidelity_bottom, fidelity_top; /* cosines of the two gradients: of all, bottom and top adapter layers; NaN where there are none */
    double sign_agreement; /* share of the adapter layers' values whose two gradients point the same way, as AdamW follows them: 0.5 by chance, 1 for the
                            * whole middle. The cosine is ruled by the few values with the largest gradients, this is not. NaN where no gradient flows */
    double time_ratio, memory_ratio;                /* of a step with the emulator to one with the whole middle; weights included */
} ot_emulation;
/* *_weights: bytes that the weights take. */
ot_status ot_emulation_compare(const ot_emulation_side *full, int64_t full_weights, const ot_emulation_side *emulator, int64_t emulator_weights,
                               ot_emulation *out, ot_error *err);
/* Do the signs agree hardly more often than those of any two gradients? Below 0.52: the recipes measured in docs/figures.md that gained little or did harm
 * lie under 0.51, those that gained above 0.55. */
bool ot_emulation_is_chance(const ot_emulation *e);

#endif
