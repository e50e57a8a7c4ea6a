/* Every verb there is; to add one, add its line to OT_VERB_LIST. */
#include "cli/verbs.h"

#include <stddef.h>

const ot_verb *const ot_verbs[] = {
#define OT_VERB_ENTRY(name) &ot_verb_##name,
    OT_VERB_LIST(OT_VERB_ENTRY)
#undef OT_VERB_ENTRY
    NULL,
};
