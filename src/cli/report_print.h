/* A report on standard output or in a file: for people, Markdown, CSV, JSON. */
#ifndef OT_CLI_REPORT_PRINT_H
#define OT_CLI_REPORT_PRINT_H

#include <stdio.h>

#include "report/report.h"

/* What tells combinations apart. The data owner knows an offer, not what it was made from. */
typedef enum ot_part { OT_PART_MODEL, OT_PART_SPLIT, OT_PART_EMULATOR, OT_PART_OFFER, OT_PART_TUNING, OT_PART_COUNT } ot_part;
extern const char *const ot_part_names[OT_PART_COUNT];
const char *ot_part_text(const ot_report_row *row, ot_part part); /* "-" where it is not known */

typedef struct ot_report_view {
    const ot_report *report;
    const ot_report_table *table;
    bool data_owner;
    bool varies[OT_PART_COUNT]; /* has a column; what all rows share is said once */
} ot_report_view;

#define OT_REPORT_PROBED "zero-shot and emulator are linear probes: nothing but a new head was trained, as the model does not know these classes"
#define OT_REPORT_SAME_METHOD "\"full\" is the whole model tuned by the same method where that is not full (finetune --peft), not with all its parameters"

/* Is that so of any row? */
bool ot_report_full_by_method(const ot_report_view *v);
ot_report_view ot_report_view_of(const ot_report *report, const ot_report_table *table, bool data_owner);
bool ot_report_shows(const ot_report_view *v, int role);
/* The parts that vary, "1-1, layerdrop:keep=2"; empty when none does. */
void ot_report_label(const ot_report_view *v, const ot_report_row *row, char *text, size_t size);
/* The parts that do not, "model: base; split: 1-1". */
void ot_report_common(const ot_report_view *v, char *text, size_t size);
/* Is this the first row of its combination (and rate, if asked)? Costs are told once for all measures. */
bool ot_report_first(const ot_report_view *v, int64_t row, bool each_rate);
/* Failures of commands that only the other party runs are not told to the data owner. */
bool ot_report_tells(const ot_report_view *v, const ot_step_facts *step);
/* The conditions of a row in the order of their columns, and what stands there: "yes", "NO", "-", "not yet". */
enum { OT_CONDITIONS = 3 };
extern const char *const ot_condition_names[OT_CONDITIONS];
ot_verdict ot_condition(const ot_report_row *row, int k);
const char *ot_condition_word(const ot_report_row *row, int k);

ot_status ot_report_print(const ot_report_view *v, FILE *f, ot_error *err);
ot_status ot_report_print_markdown(const ot_report_view *v, FILE *f);
ot_status ot_report_print_csv(const ot_report_view *v, FILE *f);
ot_status ot_report_print_json(const ot_report_view *v, FILE *f, ot_error *err);

#endif
