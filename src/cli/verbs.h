/* The list of verbs as names: verbs.c turns it into ot_verbs[]. */
#ifndef OT_CLI_VERBS_H
#define OT_CLI_VERBS_H

#include "cli/options.h"

/* X(NAME): src/cli/verb_NAME.c defines `const ot_verb ot_verb_NAME`. This is the order in `offsite --help`. */
#define OT_VERB_LIST(X)                                                                                                \
    X(split)                                                                                                           \
    X(distill)                                                                                                         \
    X(plug)                                                                                                            \
    X(tune)                                                                                                            \
    X(finetune)                                                                                                        \
    X(pretrain)                                                                                                        \
    X(eval)                                                                                                            \
    X(report)                                                                                                          \
    X(experiment)                                                                                                      \
    X(export)                                                                                                          \
    X(generate)                                                                                                        \
    X(inspect)                                                                                                         \
    X(verify)                                                                                                          \
    X(forward)                                                                                                         \
    X(plot)                                                                                                            \
    X(bench)                                                                                                           \
    X(data)                                                                                                            \
    X(tokenize)                                                                                                        \
    X(help)                                                                                                            \
    X(man)                                                                                                             \
    X(completion)

#define OT_VERB_EXTERN(name) extern const ot_verb ot_verb_##name;
OT_VERB_LIST(OT_VERB_EXTERN)
#undef OT_VERB_EXTERN

#endif
