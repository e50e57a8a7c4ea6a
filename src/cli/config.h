/* YAML config files: one mapping of option names to scalars or lists of scalars. See docs/config.md. */
#ifndef OT_CLI_CONFIG_H
#define OT_CLI_CONFIG_H

#include <stddef.h>

#include "cli/args.h"

/* Fill the options that the command line left open. Refuses unknown keys (naming the nearest), duplicates, nested values,
 * anchors, tags, several documents and files above 1 MiB; messages carry "FILE:LINE". */
ot_status ot_config_read(ot_args *args, const char *path, ot_error *err);

/* The same from memory; name: in messages. */
ot_status ot_config_parse(ot_args *args, const char *name, const char *text, int64_t size, ot_error *err);

typedef enum ot_config_paths {
    OT_CONFIG_WITH_PATHS,
    OT_CONFIG_FIXED /* only what must be the same for a resume: no PATH options, whose files are looked at themselves, and nothing adjustable */
} ot_config_paths;

/* The effective config: every option that has a value, defaults too, grouped and commented, without the ones that only say
 * how to run (quiet, resume, ...). Reading it back with --config gives the same run. Free *text with free(). */
ot_status ot_config_write(const ot_args *args, ot_config_paths paths, char **text, size_t *size, ot_error *err);

#endif
