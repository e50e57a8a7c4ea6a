/* The numbers of the offsite-tuning paper (arXiv 2302.04870), to stand beside ours where a model is of the same kind. */
#ifndef OT_REPORT_PAPER_H
#define OT_REPORT_PAPER_H

#include "report/report.h"

/* A column of Table 1, 2 or 3, or a line of Table 4: the five conditions of one model by one measure, NAN where the paper has none. */
typedef struct ot_paper_score {
    const char *model, *table;
    const char *split; /* "2-16-2" */
    bool distilled;
    const char *measure; /* by our name */
    double of[OT_ROLE_COUNT];
} ot_paper_score;

/* A line of Table 5. */
typedef struct ot_paper_method {
    const char *model, *name, *peft; /* peft: how our method's string begins; NULL: full fine-tuning of the whole model */
    int64_t trained;
    double tuned, plug_in;
} ot_paper_method;

/* A line of Table 6: one A6000, batch 1, 512 tokens. */
typedef struct ot_paper_speed {
    const char *model, *name;
    bool offsite;
    const char *peft;
    double tokens_per_second, megabytes;
} ot_paper_speed;

/* NULL-terminated by `model`. */
extern const ot_paper_score ot_paper_scores[];
extern const ot_paper_method ot_paper_methods[];
extern const ot_paper_speed ot_paper_speeds[];

/* The paper's name of a row's model, by its path and its number of blocks; NULL: the paper has none of this kind, or it cannot be told. */
const char *ot_paper_model(const ot_report_row *row);
/* The paper's numbers for the row's model and measure, those of the same emulator before those of another; NULL: none. */
const ot_paper_score *ot_paper_find(const ot_report_row *row);
/* What differs between the two, "ours 2-8-2, the paper's 2-16-2 distilled"; empty when split and emulator are of the same kind. */
void ot_paper_differs(const ot_report_row *row, const ot_paper_score *paper, char *text, size_t size);

#endif
