/* What a classifier says of pictures, as a part of a page: right and wrong ones as thumbnails, each class, and what is taken for what. Whoever gets the
 * page gets the pictures: it is for the data owner alone. */
#ifndef OT_REPORT_PICTURES_H
#define OT_REPORT_PICTURES_H

#include <stdint.h>

#include "report/html.h"

typedef struct ot_report_pictures_options {
    const char *scores;   /* a folder that `eval --images --output` wrote: its newest samples count; or such a file */
    const char *pictures; /* what was evaluated: a folder, an archive or a list */
    int64_t shown;        /* thumbnails of each kind at most */
} ot_report_pictures_options;

typedef struct ot_report_pictures_counts {
    int64_t scored, all; /* with a label, of those in `pictures` */
} ot_report_pictures_counts;

/* Sections at the end of the page. Pictures are opened by the names that the list of `pictures` has, never by those in the scores; one whose bytes are
 * others than those that were scored is REFUSED. */
ot_status ot_report_pictures(ot_html *page, const ot_report_pictures_options *options, ot_report_pictures_counts *counts, ot_error *err);

#endif
