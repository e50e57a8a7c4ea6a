/* The grid of RUNS.yaml as read, before it becomes steps. */
#ifndef OT_REPORT_RUNS_INTERNAL_H
#define OT_REPORT_RUNS_INTERNAL_H

#include "format/yaml.h"
#include "report/runs.h"

enum { OT_GRID_VALUES = 64 };

typedef struct ot_grid_list {
    const char *at[OT_GRID_VALUES];
    int64_t n;
} ot_grid_list;

/* One set of training data, and what a model tuned on it is measured by. */
typedef struct ot_grid_set {
    const char *task; /* NULL: one set for all that is measured; "blocks", "images": for that measure */
    ot_grid_list train, valid;
} ot_grid_set;

typedef struct ot_grid {
    ot_runs *runs;
    const char *name, *dir;
    const ot_yaml *top;
    ot_grid_list models, splits, emulators, peft, rates, seeds, tasks, data, images;
    ot_grid_set *sets;
    int64_t n_sets;
    const char *blocks, *measured;
    const char *probe; /* the rate at which a head for new classes is trained before a model or an emulator is measured on images; NULL: theirs is */
    const ot_yaml *split_options, *train_options, *plug_options, *eval_options;
    bool full;
} ot_grid;

ot_status ot_grid_read(ot_grid *g, ot_error *err);
/* The training data for a task, "blocks" or "images", or those for everything; NULL: there are none. */
ot_grid_set *ot_grid_set_of(const ot_grid *g, const char *task);
/* "2-3" as bottom and top. */
bool ot_grid_split(const char *text, char bottom[8], char top[8]);

#endif
