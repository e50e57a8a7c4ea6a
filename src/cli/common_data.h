/* Training and evaluation data as the command line names it: several files, patterns, options of their shapes, and what is said of them. */
#ifndef OT_CLI_COMMON_DATA_H
#define OT_CLI_COMMON_DATA_H

#include "cli/options.h"
#include "model/desc.h"
#include "train/dataset.h"

/* --map --chat-template --task --train-on --end --strict */
extern const ot_option_group ot_options_data;
/* --pack --batch-tokens */
extern const ot_option_group ot_options_packing;

/* The files that a repeatable option or operand names: each value is a file, else files with commas between them, else a pattern with * ? [ ]. */
typedef struct ot_data_paths {
    const char **items;
    int64_t count, room;
    ot_arena arena;
} ot_data_paths;
ot_status ot_data_paths_add(ot_data_paths *p, const char *what, const char *value, ot_error *err);
void ot_data_paths_free(ot_data_paths *p);

/* Data options as the verb declares them; out points into args and *map. */
typedef struct ot_common_data {
    ot_data_options options;
    const char **map;
} ot_common_data;
ot_status ot_common_data_options(const ot_args *args, const char *tokenizer_path, int64_t vocab, ot_common_data *out, ot_error *err);
void ot_common_data_free(ot_common_data *d);

/* One line when --block goes beyond the rotary positions that the model was made for: it works, but there the model has not been. */
void ot_common_block_say(const ot_args *args, const ot_desc *desc);
/* The data of --train or --valid, read, said and packed as the options ask. */
ot_status ot_common_data_open(const ot_args *args, const char *option, const char *tokenizer_path, int64_t vocab, ot_dataset *out, ot_error *err);

/* One line for people: "chat.jsonl: messages (chatml), 120 examples, ..." and the first bad rows. */
void ot_common_data_say(const ot_args *args, const ot_data_report *report);

#endif
