#include "cli/training_record.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/file.h"
#include "cli/args.h"
#include "cli/config.h"
#include "cli/text.h"

enum { PATH_TEXT = 4300, RECORD_LIMIT = 1 << 20, VALUE_TEXT = 128, MOST_TOLD = 4 };
static const char suffix[] = ".run.yaml", mark[] = "# offsite ", again[] = "# The same again: ", open_head[] = "\n# What the options left open came to\n";

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

/* What the run made of an option that was left open; false: nothing. */
static bool open_value(const ot_training *t, const char *name, char text[VALUE_TEXT]) {
    const ot_train_options *o = &t->options;
    const struct {
        const char *name;
        int64_t value;
        bool made;
    } all[] = {{"steps", o->steps, true}, {"warmup", o->warmup, true}, {"valid-every", o->valid_every, t->has_valid}, {"select", -1, t->has_valid}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (strcmp(all[i].name, name) != 0 || !all[i].made || ot_args_has(t->args, name)) continue;
        if (all[i].value < 0) {
            snprintf(text, VALUE_TEXT, "%s", o->select_best ? "best" : "last");
        } else {
            snprintf(text, VALUE_TEXT, "%" PRId64, all[i].value);
        }
        return true;
    }
    return false;
}

/* Written too, so that a later version with other defaults runs the same. */
static void write_open_ones(const ot_training *t, FILE *f) {
    static const char *const names[] = {"steps", "warmup", "valid-every", "select"};
    char text[VALUE_TEXT];
    fputs(open_head, f);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (open_value(t, names[i], text)) fprintf(f, "%s: %s\n", names[i], text);
    }
}

static void write_command(const ot_args *args, FILE *f) {
    fprintf(f, "offsite %s", ot_args_verb(args)->name);
    for (const ot_operand *o = ot_args_verb(args)->operands; o != NULL && o->name != NULL; o++) {
        const char *word = ot_args_operand(args, o->name);
        fputc(' ', f);
        ot_put_safe(f, word != NULL ? word : o->name);
    }
}

static void write_head(const ot_training *t, const char *path, FILE *f) {
    fprintf(f, "%s%s: the config of the run that made ", mark, t->label);
    ot_put_safe(f, t->output);
    fprintf(f, "\n%s", again);
    write_command(t->args, f);
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

void ot_training_record_remove(const ot_training *t) {
    char path[PATH_TEXT];
    ot_error ignored;
    if (name_of(t, path, &ignored) == OT_OK) (void)ot_remove_tree(path, &ignored);
}

/* ==== --resume with other settings ==== */

typedef struct differences {
    char text[OT_ERROR_TEXT / 2];
    size_t used;
    int count;
} differences;

static void differ(differences *d, const char *what, const char *before, const char *now) {
    if (d->count++ >= MOST_TOLD) return;
    int n = snprintf(d->text + d->used, sizeof d->text - d->used, "%s%s was %s, now %s", d->count > 1 ? "; " : "", what, before, now);
    d->used += n > 0 && (size_t)n < sizeof d->text - d->used ? (size_t)n : 0;
}

/* "a, b"; what a long list ends in is cut. */
static void slot_text(const ot_arg_slot *slot, char text[VALUE_TEXT]) {
    size_t used = (size_t)snprintf(text, VALUE_TEXT, "%s", slot->count == 0 ? "not given" : "");
    for (int64_t i = 0; i < slot->count; i++) {
        int n = snprintf(text + used, VALUE_TEXT - used, "%s%s", i > 0 ? "," : "", slot->values[i].text);
        if (n < 0 || (size_t)n >= VALUE_TEXT - used) break;
        used += (size_t)n;
    }
}

static bool same_values(const ot_arg_slot *a, const ot_arg_slot *b) {
    if (a->count != b->count) return false;
    for (int64_t i = 0; i < a->count; i++) {
        if (strcmp(a->values[i].text, b->values[i].text) != 0) return false;
    }
    return true;
}

/* Did the run of the record leave it open too? Then what it came to follows from the others. */
static bool was_open(const char *record, const char *name) {
    char line[96];
    const char *at = strstr(record, open_head);
    snprintf(line, sizeof line, "\n%s: ", name);
    return at != NULL && strstr(at + sizeof open_head - 2, line) != NULL;
}

static void compare_options(const ot_training *t, const char *path, const char *record, int64_t size, differences *d) {
    ot_args old = {0};
    ot_error ignored;
    char name[96], before[VALUE_TEXT], now[VALUE_TEXT];
    bool read = ot_args_init(&old, ot_args_verb(t->args), &ignored) == OT_OK && ot_config_parse(&old, path, record, size, &ignored) == OT_OK;
    for (int64_t i = 0; read && i < old.n_slots; i++) {
        const ot_arg_slot *theirs = &old.slots[i], *ours = &t->args->slots[i];
        if (ours->option.transient || ours->option.adjustable || same_values(theirs, ours)) continue;
        if (ours->count == 0 && was_open(record, ours->option.name)) continue;
        snprintf(name, sizeof name, "--%s", ours->option.name);
        slot_text(theirs, before);
        slot_text(ours, now);
        if (open_value(t, ours->option.name, now) && strcmp(before, now) == 0) continue;
        differ(d, name, before, now);
    }
    ot_args_free(&old);
}

/* The rest of the record's line that begins with `head`, up to `end` ("" when there is none). */
static void line_after(const char *record, const char *head, const char *end, char text[VALUE_TEXT]) {
    const char *at = strstr(record, head);
    *text = '\0';
    if (at == NULL) return;
    at += strlen(head);
    size_t size = strcspn(at, "\n");
    const char *stop = end[0] != '\0' ? strstr(at, end) : NULL;
    if (stop != NULL && (size_t)(stop - at) < size) size = (size_t)(stop - at);
    snprintf(text, VALUE_TEXT, "%.*s", (int)size, at);
}

static void compare_heads(const ot_training *t, const char *record, differences *d) {
    char before[VALUE_TEXT], version[64], *now = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&now, &size);
    if (f != NULL) {
        write_command(t->args, f);
        fclose(f);
        line_after(record, again, " --config ", before);
        if (before[0] != '\0' && strncmp(before, now, VALUE_TEXT - 1) != 0) differ(d, "the command", before, now);
        free(now);
    }
    snprintf(version, sizeof version, "\n%s%s, version ", mark, ot_args_verb(t->args)->name);
    line_after(record, version, "", before);
    if (before[0] != '\0' && strcmp(before, OFFSITE_VERSION) != 0) differ(d, "the version of offsite", before, OFFSITE_VERSION);
}

static ot_status other_run(const ot_training *t, ot_error *err) {
    char path[PATH_TEXT], *record = NULL, more[32] = "";
    int64_t size = 0;
    differences d = {0};
    ot_error ignored;
    if (name_of(t, path, &ignored) == OT_OK && ot_read_file(path, RECORD_LIMIT, &record, &size, &ignored) == OT_OK) {
        compare_heads(t, record, &d);
        compare_options(t, path, record, size, &d);
        ot_free(record);
    }
    if (d.count > MOST_TOLD) snprintf(more, sizeof more, "; and %d more", d.count - MOST_TOLD);
    return ot_fail(err, OT_ERR_REFUSED, "%s was begun with other settings, data or model%s%s%s%s: give the same command as before, or start afresh with --force", t->output,
                   d.count > 0 ? " (" : "", d.text, more, d.count > 0 ? ")" : "");
}

ot_status ot_training_record_same(const ot_training *t, ot_error *err) {
    const char *const files[] = {t->checkpoint, t->grid_path};
    for (int i = 0; i < 2; i++) {
        char print[OT_DIGEST_TEXT];
        ot_checkpoints_fingerprint(files[i], print, sizeof print);
        if (print[0] != '\0' && strcmp(print, t->fingerprint) != 0) return other_run(t, err);
    }
    return OT_OK;
}
