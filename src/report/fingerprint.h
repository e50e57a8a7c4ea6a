/* Has a file, or anything in a folder, changed? By names, sizes and times of change, so that a model of many gigabytes is asked in no time. */
#ifndef OT_REPORT_FINGERPRINT_H
#define OT_REPORT_FINGERPRINT_H

#include "report/runs.h"

enum { OT_FINGERPRINT_TEXT = 20 };

/* Sixteen hexadecimal digits; "absent" where there is nothing of that path. Folders are walked down to eight levels. */
void ot_fingerprint(const ot_runs_input *input, char out[OT_FINGERPRINT_TEXT]);

#endif
