#include "cli/training_record.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cli/config.h"
#include "cli/text.h"

enum { PATH_TEXT = 4300, RECORD_LIMIT = 1 << 20 };
static const char suffix[] = ".run.yaml", mark[] = "# offsite ";

/* "runs/return.run.yaml" for "runs/return/". */
static ot_status name_of(const ot_training *t, char path[PATH_TEXT], ot_error *err) {
    size_t n = strlen(t->output);
    while (n > 1 && t->output[n - 1] == '/') n--;
    if (snprintf(path, PATH_TEXT, "%.*s%s", (int)n, t->output, suffix) < PATH_TEXT) return OT_OK;
    return ot_fail(err, OT_ERR_USAGE, "the output path %s is too long", t->output);
}

ot_status ot_training_record_check(const ot_training *t, ot_error *err) {
    char path[PATH_TEXT], *text = NULL;
    int64_t size = 0;
    OT_TRY(name_of(t, path, err));
    if (!ot_path_exists(path)) return OT_OK;
    ot_error ignored;
    bool ours = ot_read_file(path, RECORD_LIMIT, &text, &size, &ignored) == OT_OK && strncmp(text, mark, sizeof mark - 1) == 0;
    ot_free(text);
    if (ours) return OT_OK;
    return ot_fail(err, OT_ERR_REFUSED, "%s is in the way: the run's config would be written there; move that file, or choose another -o", path);
}

/* What the run made of options that were left open: written too, so that a later version with other defaults runs the same. */
static void write_open_ones(const ot_training *t, FILE *f) {
    const ot_train_options *o = &t->options;
    fputs("\n# What the options left open came to\n", f);
    if (!ot_args_has(t->args, "steps")) fprintf(f, "steps: %" PRId64 "\n", o->steps);
    if (!ot_args_has(t->args, "warmup")) fprintf(f, "warmup: %" PRId64 "\n", o->warmup);
    if (!t->has_valid) return;
    if (!ot_args_has(t->args, "valid-every")) fprintf(f, "valid-every: %" PRId64 "\n", o->valid_every);
    if (!ot_args_has(t->args, "select")) fprintf(f, "select: %s\n", o->select_best ? "best" : "last");
}

static void write_head(const ot_training *t, const char *path, FILE *f) {
    fprintf(f, "%s%s: the config of the run that made ", mark, t->label);
    ot_put_safe(f, t->output);
    fprintf(f, "\n# The same again: offsite %s", ot_args_verb(t->args)->name);
    for (const ot_operand *o = ot_args_verb(t->args)->operands; o != NULL && o->name != NULL; o++) {
        const char *word = ot_args_operand(t->args, o->name);
        fputc(' ', f);
        ot_put_safe(f, word != NULL ? word : o->name);
    }
    fputs(" --config ", f);
    ot_put_safe(f, ot_path_base(path));
    fputs(" -o ANOTHER\n# It names your files, so it lies beside the result and not in it.\n\n", f);
}

ot_status ot_training_record_write(const ot_training *t, ot_error *err) {
    char path[PATH_TEXT], *config = NULL, *text = NULL;
    size_t config_size = 0, size = 0;
    OT_TRY(name_of(t, path, err));
    OT_TRY(ot_config_write(t->args, OT_CONFIG_WITH_PATHS, &config, &config_size, err));
    FILE *f = open_memstream(&text, &size);
    if (f == NULL) {
        free(config);
        return ot_fail_memory(err, 4096, "the run's config");
    }
    write_head(t, path, f);
    fputs(config, f);
    write_open_ones(t, f);
    bool bad = ferror(f) != 0;
    bad = fclose(f) != 0 || bad;
    ot_status status = bad ? ot_fail_memory(err, 4096, "the run's config") : ot_write_file(path, text, (int64_t)size, err);
    free(config);
    free(text);
    return status;
}
