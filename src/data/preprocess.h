/* From a picture to what a vision model reads: resizing, centre crop, rescaling and normalising as its preprocessor_config.json says, and random
 * changes of training pictures as torchvision defines them. */
#ifndef OT_DATA_PREPROCESS_H
#define OT_DATA_PREPROCESS_H

#include "base/rng.h"
#include "image/image.h"

typedef struct ot_preprocess {
    bool resize, crop, rescale, normalise;
    int64_t shortest_edge; /* of the resized picture, which keeps its proportions; 0: height and width are given */
    int64_t height, width;
    ot_image_filter filter;
    int64_t crop_height, crop_width;
    double factor;
    float mean[3], std[3];
    int64_t out_height, out_width; /* of what comes out; 0: as the picture is */
    char where[1024];              /* the file that says so, or "the defaults of ..." */
} ot_preprocess;

/* model_path: a folder whose preprocessor_config.json counts, as transformers 4 and 5 write it, or else its processor_config.json (of CLIP, since
 * transformers 5). Keys that it lacks, or all, have the defaults of its image processor, or of the one that goes with the architecture ("vit", "clip",
 * "eva"); its size then is the model's. */
ot_status ot_preprocess_read(const char *model_path, const char *architecture, int64_t height, int64_t width, ot_preprocess *out, ot_error *err);
/* The same from the text of a configuration; where: for messages. text NULL: defaults alone. */
ot_status ot_preprocess_parse(const char *text, int64_t size, const char *where, const char *architecture, int64_t height, int64_t width, ot_preprocess *out,
                              ot_error *err);

/* Random changes of a training picture; zero-initialised: none. */
typedef struct ot_augment {
    bool crop; /* random-resized crop: a part of scale..1 of the area, its sides 3:4 to 4:3 */
    double scale;
    double flip;   /* the chance to be mirrored */
    double jitter; /* brightness, contrast and saturation, each by 1 - jitter to 1 + jitter, in random order */
} ot_augment;
/* "crop,flip,jitter=0.4": crop[=LEAST AREA, 0.08], flip[=CHANCE, 0.5], jitter=STRENGTH; "none". */
ot_status ot_augment_parse(const char *text, ot_augment *out, ot_error *err);

/* One picture as [3, out_height, out_width]; where: its name. augment and rng: NULL as evaluation sees it. */
ot_status ot_preprocess_apply(const ot_preprocess *p, const ot_image *image, const ot_augment *augment, ot_rng *rng, const char *where, float *out,
                              ot_error *err);

/* The same in two parts, where there is no random crop: what costs, and what differs from epoch to epoch. Does a picture of this size fit at all? */
ot_status ot_preprocess_fits(const ot_preprocess *p, int64_t image_width, int64_t image_height, const char *where, ot_error *err);
ot_status ot_preprocess_fit(const ot_preprocess *p, const ot_image *image, const char *where, ot_image *out, ot_error *err);
ot_status ot_preprocess_finish(const ot_preprocess *p, const ot_image *fitted, const ot_augment *augment, ot_rng *rng, float *out, ot_error *err);

/* ==== For the files of this folder. ==== */

ot_image_box ot_augment_box(const ot_image *image, const ot_augment *augment, ot_rng *rng);
void ot_augment_colours(ot_image *image, const ot_augment *augment, ot_rng *rng);

#endif
