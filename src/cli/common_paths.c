#include "cli/common_paths.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "cli/args.h"
#include "cli/common_data.h"

enum { NAME_TEXT = 96 };

ot_status ot_common_path_apart(const ot_args *args, const char *writer, const char *output, ot_path_use use, const char *reader, const char *input, ot_error *err) {
    ot_error found;
    /* A report beside the results that it is made of is as it should be. */
    if (use == OT_PATH_WRITTEN && (ot_path_relate(output, input) != OT_PATHS_SAME || ot_path_is_dir(input))) return OT_OK;
    return ot_path_apart(output, reader, input, &found) == OT_OK ? OT_OK : ot_args_fail(args, err, "%s: %s", writer, found.message);
}

/* The files that a value names, as data do: also by commas and patterns. */
static ot_status value_apart(const ot_args *args, const char *writer, const char *output, ot_path_use use, const char *reader, const char *value, ot_error *err) {
    ot_data_paths paths = {0};
    ot_error ignored;
    ot_status status = OT_OK;
    if (ot_path_exists(value)) return ot_common_path_apart(args, writer, output, use, reader, value, err);
    /* A pattern without a match is told by whoever reads it. */
    (void)ot_data_paths_add(&paths, reader, value, &ignored);
    for (int64_t i = 0; status == OT_OK && i < paths.count; i++) status = ot_common_path_apart(args, writer, output, use, reader, paths.items[i], err);
    ot_data_paths_free(&paths);
    return status;
}

static ot_status one_apart(const ot_args *args, const ot_arg_slot *written, ot_error *err) {
    const char *output = written->values[0].text;
    char writer[NAME_TEXT], reader[NAME_TEXT];
    snprintf(writer, sizeof writer, "--%s", written->option.name);
    for (const ot_operand *o = args->verb->operands; o != NULL && o->name != NULL; o++) {
        int64_t n = o->kind == OT_KIND_PATH ? ot_args_operand_count(args, o->name) : 0;
        for (int64_t k = 0; k < n; k++) OT_TRY(value_apart(args, writer, output, written->option.use, o->name, ot_args_operand_at(args, o->name, k), err));
    }
    for (int64_t i = 0; i < args->n_slots; i++) {
        const ot_arg_slot *s = &args->slots[i];
        bool text = s->option.kind == OT_KIND_STRING && s->option.may_be_path;
        if (!text && (s->option.kind != OT_KIND_PATH || s->option.use != OT_PATH_READ)) continue;
        snprintf(reader, sizeof reader, "input of --%s", s->option.name);
        for (int64_t k = 0; k < s->count; k++) OT_TRY(value_apart(args, writer, output, written->option.use, reader, s->values[k].text, err));
    }
    return OT_OK;
}

ot_status ot_common_paths_apart(const ot_args *args, ot_error *err) {
    for (int64_t i = 0; i < args->n_slots; i++) {
        const ot_arg_slot *s = &args->slots[i];
        if (s->option.kind == OT_KIND_PATH && s->option.use != OT_PATH_READ && s->count > 0) OT_TRY(one_apart(args, s, err));
    }
    return OT_OK;
}
