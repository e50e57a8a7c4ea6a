#include "cli/common_data.h"

#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cli/progress.h"
#include "cli/text.h"
#include "train/stream.h"

/* ==== Options. ==== */

static const char *const learnt[] = {"completion", "all", NULL};

static const ot_option data[] = {
    {.name = "map", .kind = OT_KIND_STRING, .value = "KEY=NAME", .commas = true,
     .help = "rows of JSON lines call KEY (text, prompt, completion, messages, role, content) NAME"},
    {.name = "chat-template", .kind = OT_KIND_STRING, .value = "NAME", .shown = "the model's own, where it is known",
     .help = "how messages become text: chatml, smollm2, qwen2, qwen2.5, llama2, llama3, llama3.1, mistral, mistral-v1, mistral-v3, zephyr, gemma, gemma3 or "
             "phi3"},
    {.name = "task", .kind = OT_KIND_STRING, .may_be_path = true, .value = "NAME", .shown = "told by the rows' keys",
     .help = "rows are those of this evaluation task, or of a .yaml file with one of your own: the right answer is learnt, in the tokens that evaluation scores"},
    {.name = "train-on", .kind = OT_KIND_ENUM, .choices = learnt, .fallback = "completion",
     .help = "learn completions and the assistant's turns, or prompts and the other turns as well"},
    {.name = "end", .kind = OT_KIND_FLAG, .fallback = "yes", .help = "put no end-of-text token behind texts and completions of JSON lines"},
    {.name = "strict", .kind = OT_KIND_FLAG, .help = "stop at the first bad row instead of leaving bad rows out"},
    {0},
};
const ot_option_group ot_options_data = {"Data", data};

static const ot_option packing[] = {
    {.name = "pack", .kind = OT_KIND_FLAG, .help = "lay short examples together into rows of up to --block tokens; they do not see each other"},
    {.name = "batch-tokens", .kind = OT_KIND_I64, .value = "N", .min = 2, .max = OT_NO_MAX, .shown = "--block",
     .help = "tokens in a row of --pack, which this implies; an example still has --block at most"},
    {0},
};
const ot_option_group ot_options_packing = {"Packing", packing};

ot_status ot_common_data_options(const ot_args *args, const char *tokenizer_path, int64_t vocab, ot_common_data *out, ot_error *err) {
    *out = (ot_common_data){.options = {.tokenizer_path = tokenizer_path,
                                        .block = ot_args_declares(args, "block") ? ot_args_i64(args, "block") : 512,
                                        .vocab = vocab}};
    if (!ot_args_declares(args, "map")) return OT_OK;
    ot_data_options *o = &out->options;
    o->n_map = ot_args_count(args, "map");
    if (o->n_map > 0) out->map = calloc((size_t)o->n_map, sizeof *out->map);
    if (o->n_map > 0 && out->map == NULL) return ot_fail_memory(err, (uint64_t)o->n_map, "--map");
    for (int64_t i = 0; i < o->n_map; i++) out->map[i] = ot_args_str_at(args, "map", i);
    o->map = out->map;
    o->chat_template = ot_args_str(args, "chat-template");
    o->task = ot_args_str(args, "task");
    o->train_all = ot_args_choice(args, "train-on") == 1;
    o->no_end = !ot_args_flag(args, "end");
    o->strict = ot_args_flag(args, "strict");
    return OT_OK;
}

void ot_common_data_free(ot_common_data *d) {
    free(d->map);
    d->map = NULL;
}

/* ==== Files. ==== */

static ot_status add_path(ot_data_paths *p, const char *path, size_t length, ot_error *err) {
    OT_TRY(ot_grow((void **)&p->items, &p->room, p->count + 1, sizeof *p->items, "file names", err));
    p->items[p->count] = ot_arena_strndup(&p->arena, path, length, err);
    if (p->items[p->count] == NULL) return OT_ERR_MEMORY;
    p->count++;
    return OT_OK;
}

static ot_status add_pattern(ot_data_paths *p, const char *what, const char *pattern, ot_error *err) {
    glob_t found = {0};
    int result = glob(pattern, 0, NULL, &found);
    ot_status status = OT_OK;
    if (result == GLOB_NOSPACE) status = ot_fail_memory(err, 0, "file names");
    else if (result != 0) status = ot_fail(err, OT_ERR_IO, "%s: no file is named like %s", what, pattern);
    for (size_t i = 0; status == OT_OK && i < found.gl_pathc; i++) status = add_path(p, found.gl_pathv[i], strlen(found.gl_pathv[i]), err);
    if (result == 0) globfree(&found);
    return status;
}

static ot_status add_one(ot_data_paths *p, const char *what, const char *path, ot_error *err) {
    if (ot_path_exists(path) || strpbrk(path, "*?[") == NULL) return add_path(p, path, strlen(path), err);
    return add_pattern(p, what, path, err);
}

ot_status ot_data_paths_add(ot_data_paths *p, const char *what, const char *value, ot_error *err) {
    if (ot_path_exists(value) || strchr(value, ',') == NULL) return add_one(p, what, value, err);
    while (*value != '\0') {
        size_t length = strcspn(value, ",");
        char part[4200];
        if (length == 0 || length >= sizeof part) return ot_fail(err, OT_ERR_USAGE, "%s: an empty or too long file name between commas", what);
        snprintf(part, sizeof part, "%.*s", (int)length, value);
        OT_TRY(add_one(p, what, part, err));
        value += length + (value[length] == ',');
    }
    return OT_OK;
}

void ot_data_paths_free(ot_data_paths *p) {
    ot_free(p->items);
    ot_arena_free(&p->arena);
    *p = (ot_data_paths){0};
}

/* ==== What is said. ==== */

void ot_common_data_say(const ot_args *args, const ot_data_report *r) {
    if (r->shape == NULL) return;
    ot_note(args, "%s: %s%s%s%s%s%s%s, %s, %s, %s of them learnt", r->path, r->shape, r->detail != NULL ? " (" : "",
            r->detail != NULL ? r->detail : "", r->detail != NULL ? ")" : "", r->packing != NULL ? " (" : "", r->packing != NULL ? r->packing : "",
            r->packing != NULL ? ")" : "", OT_COUNT_OF(r->examples, "example"), OT_COUNT_OF(r->tokens, "token"), OT_COUNT(r->learnt));
    if (r->no_stop != NULL) {
        ot_note(args, "warning: %s: the tokenizer has no token %s, which ends a turn of the template %s: it is learnt as ordinary text", r->path, r->no_stop, r->detail);
    }
    if (r->not_utf8 > 0) ot_note(args, "warning: %s: byte %" PRId64 " is not UTF-8; such bytes are learnt as they are", r->path, r->not_utf8 - 1);
    if (r->truncated > 0) ot_note(args, "%s: %s longer than --block and cut off", r->path, OT_COUNT_ARE(r->truncated, "example"));
    if (r->empty > 0) {
        ot_note(args, "%s: %s nothing to learn within a block and %s left out", r->path, OT_COUNT_AS(r->empty, "row has", "rows have"), r->empty == 1 ? "is" : "are");
    }
    if (r->bad == 0) return;
    ot_note(args, "warning: %s: %s of %s %s bad and left out (--strict stops at the first)", r->path, OT_COUNT(r->bad), OT_COUNT_OF(r->rows, "row"),
            r->bad == 1 ? "is" : "are");
    for (int64_t i = 0; i < r->bad && i < OT_DATA_SHOWN; i++) ot_note(args, "  %s:%" PRId64 ": %s", r->path, r->shown[i].line, r->shown[i].why);
}

void ot_common_block_say(const ot_args *args, const ot_desc *desc) {
    int64_t block = ot_args_declares(args, "block") ? ot_args_i64(args, "block") : 0;
    if (desc->vision || desc->position != OT_POSITION_ROPE || block <= desc->max_positions) return;
    ot_note(args, "warning: --block %" PRId64 " is longer than the %s positions that the model was made for (max_position_embeddings): what it does beyond them may be poor",
            block, OT_COUNT(desc->max_positions));
}

static ot_status pack(const ot_args *args, const char *option, ot_dataset *d, ot_error *err) {
    bool asked = ot_args_declares(args, "pack") && (ot_args_flag(args, "pack") || ot_args_has(args, "batch-tokens"));
    if (!asked) return OT_OK;
    int64_t capacity = ot_args_has(args, "batch-tokens") ? ot_args_i64(args, "batch-tokens") : ot_args_i64(args, "block");
    bool shuffle = strcmp(option, "train") == 0 && ot_args_flag(args, "shuffle");
    OT_TRY(ot_dataset_pack(d, capacity, shuffle, (uint64_t)ot_args_i64(args, "seed"), err));
    ot_note(args, "--%s: %s lie in %s of up to %s tokens, filled to %.1f %%", option, OT_COUNT_OF(d->examples, "example"), OT_COUNT_OF(d->rows, "row"), OT_COUNT(capacity),
            100.0 * (double)ot_dataset_columns(d) / ((double)d->rows * (double)capacity));
    return OT_OK;
}

/* Rows of --train that are to be streamed; 0: they are held whole. */
static int64_t window_of(const ot_args *args, const char *option, const ot_data_paths *paths) {
    if (strcmp(option, "train") != 0 || !ot_args_declares(args, "window")) return 0;
    if (ot_args_has(args, "window")) return ot_args_i64(args, "window");
    return ot_stream_is_due(paths->items, paths->count) ? ot_stream_usual_window(ot_args_i64(args, "block")) : 0;
}

/* What the stream refers to lives as long as it does. */
typedef struct streamed {
    ot_data_paths paths;
    ot_common_data common;
} streamed;

static void free_streamed(void *context) {
    streamed *s = context;
    ot_common_data_free(&s->common);
    ot_data_paths_free(&s->paths);
    ot_free(s);
}

static ot_status open_stream(const ot_args *args, int64_t window, ot_data_paths *paths, ot_common_data *common, ot_dataset *out, ot_error *err) {
    if (ot_args_flag(args, "pack") || ot_args_has(args, "batch-tokens")) {
        return ot_args_fail(args, err, "--pack is for data that are held whole, and these are streamed: leave it out, or give --window 0");
    }
    streamed *s = NULL;
    OT_TRY(ot_malloc(1, sizeof *s, "the data", (void **)&s, err));
    *s = (streamed){.paths = *paths, .common = *common}; /* taken over */
    *paths = (ot_data_paths){0};
    *common = (ot_common_data){0};
    ot_stream_options o = {.paths = s->paths.items,
                           .n_paths = s->paths.count,
                           .data = s->common.options,
                           .window = window,
                           .shuffle = ot_args_flag(args, "shuffle"),
                           .seed = (uint64_t)ot_args_i64(args, "seed"),
                           .release = free_streamed,
                           .context = s};
    char bytes[32];
    OT_TRY(ot_dataset_open_stream(&o, out, err));
    ot_note(args, "--train: %s in %s, streamed through windows of %s", ot_text_bytes(ot_stream_file_bytes(out->stream), bytes, sizeof bytes),
            OT_COUNT_OF(o.n_paths, "file"), OT_COUNT_OF(window, "row"));
    return OT_OK;
}

ot_status ot_common_data_open(const ot_args *args, const char *option, const char *tokenizer_path, int64_t vocab, ot_dataset *out, ot_error *err) {
    ot_data_paths paths = {0};
    ot_common_data common = {0};
    void *reports = NULL;
    char what[64];
    snprintf(what, sizeof what, "--%s", option);
    ot_status status = ot_common_data_options(args, tokenizer_path, vocab, &common, err);
    for (int64_t i = 0; status == OT_OK && i < ot_args_count(args, option); i++) status = ot_data_paths_add(&paths, what, ot_args_str_at(args, option, i), err);
    int64_t window = status == OT_OK ? window_of(args, option, &paths) : 0;
    if (window > 0) {
        status = open_stream(args, window, &paths, &common, out, err);
        ot_common_data_free(&common);
        ot_data_paths_free(&paths);
        return status;
    }
    if (status == OT_OK) status = ot_calloc(paths.count, sizeof(ot_data_report), "reports", &reports, err);
    if (status == OT_OK) status = ot_dataset_read(paths.items, paths.count, &common.options, out, reports, err);
    for (int64_t i = 0; status == OT_OK && i < paths.count; i++) ot_common_data_say(args, (const ot_data_report *)reports + i);
    if (status == OT_OK) status = pack(args, option, out, err);
    ot_free(reports);
    ot_common_data_free(&common);
    ot_data_paths_free(&paths);
    return status;
}
