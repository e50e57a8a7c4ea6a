/* The advisor: a set of recipes tried on a model and a public text with forward and backward passes only, and which of them are worth a choice. */
#ifndef OT_PROTOCOL_SEARCH_H
#define OT_PROTOCOL_SEARCH_H

#include "protocol/split.h"

typedef struct ot_search_row {
    char recipe[128];
    ot_split_summary summary;
    bool front;  /* no other recipe is better in one of bytes, CPL and agreeing signs and as good in the others */
    bool within; /* the limits, if there are any */
} ot_search_row;

typedef struct ot_search {
    ot_search_row *rows;
    int64_t count;
} ot_search;

/* Sees the recipes of all rows, and the rest of the first `done`, but for the front; called before the first one is tried too. */
typedef void ot_search_observer(void *context, const ot_search *s, int64_t done);

/* recipes [n], or n = 0: a set for the size of the middle. options: as for a split, with data; limits are judged, not refused. observe may be NULL. */
ot_status ot_search_run(const ot_model *m, const char *const *recipes, int64_t n, const ot_split_options *options, ot_search_observer *observe, void *context,
                        ot_search *out, ot_error *err);
/* Fill in `front`. By the signs of the gradients and not by their cosine, which ranks what plugging in gains no better than chance (docs/figures.md). */
void ot_search_mark_front(ot_search *s);
void ot_search_free(ot_search *s);

#endif
