/* What the linears of a block get to see of a text: the second moments of their inputs. */
#ifndef OT_EMULATOR_MOMENTS_H
#define OT_EMULATOR_MOMENTS_H

#include "emulator/emulator.h"

/* Of one linear of one block: sum of x x^T over the text's tokens, [width, width]; linears with the same input share them. */
typedef struct ot_moments {
    float *of[OT_ROLE_COUNT]; /* NULL: the block has no such linear */
    int64_t width[OT_ROLE_COUNT];
} ot_moments;

/* Runs the text's first `examples` rows, `tokens` of each, through the whole model; *out gets one entry for every block of it up to the
 * middle's last, in e's arena; the ones that are not kept stay empty. USAGE when that would take
 * more memory than OT_MOMENTS_LIMIT. */
ot_status ot_moments_collect(ot_emulator *e, int64_t examples, int64_t tokens, ot_moments **out, ot_error *err);

#define OT_MOMENTS_LIMIT ((int64_t)16 << 30)

#endif
