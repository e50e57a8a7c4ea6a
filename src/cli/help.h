/* Help texts, made from the verbs' tables. */
#ifndef OT_CLI_HELP_H
#define OT_CLI_HELP_H

#include <stdio.h>

#include "cli/options.h"
#include "cli/suggest.h"

/* `offsite --help`. */
void ot_help_overview(FILE *file);
/* `offsite VERB --help`. */
ot_status ot_help_verb(const ot_verb *verb, FILE *file, ot_error *err);
/* `offsite help emulator`: the methods of a method string; false: there is no such topic. */
bool ot_help_topic(const char *name, FILE *file);
/* The topics as candidates for a misspelt one. */
void ot_help_topics_offer(ot_suggest *near);

/* Shared with the manual pages. */
const char *ot_help_about(void);                     /* what the program is, one paragraph */
const char *ot_audience_title(ot_audience audience); /* "For the model owner" */
typedef struct ot_flow_step {
    const char *who, *command, *what;
} ot_flow_step;
extern const ot_flow_step ot_help_flow[]; /* the three steps; {0} ends it */
/* "default 1e-4", "required", "repeatable; default 3", or "" into text. */
void ot_help_remarks(const ot_option *option, char *text, size_t size);

#endif
